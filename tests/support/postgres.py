"""A PostgreSQL server of the tests' own: loopback, a folder that goes with it, one database a test.

Debian's package is enough (`apt-get install postgresql`); its own service is not used. PostgreSQL
refuses to run as root, so there it runs as the account that the package made for it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from sqlalchemy import create_engine, text

ACCOUNT = "postgres"


def binaries() -> Path | None:
    """Where initdb and pg_ctl lie; None where there is no PostgreSQL."""
    if found := shutil.which("initdb"):
        return Path(found).parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return versions[-1].parent if versions else None


class PostgresServer:
    """A running server. `new_database()` gives the address of an empty database."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._numbers = count(1)
        self._engine = create_engine(self._url("postgres"), isolation_level="AUTOCOMMIT")

    def _url(self, database: str) -> str:
        return f"postgresql+psycopg://{ACCOUNT}@127.0.0.1:{self._port}/{database}"

    def new_database(self) -> str:
        name = f"test_{next(self._numbers)}"
        with self._engine.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        return self._url(name)

    def close(self) -> None:
        self._engine.dispose()


@contextmanager
def postgres(port: int) -> Iterator[PostgresServer]:
    """Make a cluster, serve it at this port, and remove it."""
    programs = binaries()
    assert programs is not None, "apt-get install postgresql"
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    if os.geteuid() == 0:
        shutil.chown(folder, ACCOUNT)
    data, log = folder / "data", folder / "log"
    settings = f"-h 127.0.0.1 -p {port} -k {folder} -c fsync=off -c max_connections=200"
    try:
        _run(programs / "initdb", "-D", data, "-U", ACCOUNT, "--auth=trust", "--encoding=UTF8", "--locale=C")
        _run(programs / "pg_ctl", "-D", data, "-w", "-l", log, "-o", settings, "start")
        server = PostgresServer(port)
        try:
            yield server
        finally:
            server.close()
            _run(programs / "pg_ctl", "-D", data, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(program: Path, *arguments: str | Path) -> None:
    as_account = ["runuser", "-u", ACCOUNT, "--"] if os.geteuid() == 0 else []
    subprocess.run(
        [*as_account, program, *arguments], check=True, stdout=subprocess.DEVNULL, cwd="/", timeout=60
    )
