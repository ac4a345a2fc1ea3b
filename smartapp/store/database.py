"""The engine: SQLite with write-ahead log by default, PostgreSQL by address.

A write transaction on SQLite begins IMMEDIATE: it takes the write lock before it reads, so that what it read
is still true when it writes, and two processes wait for each other instead of failing half-way. The file is
its owner's alone from its first byte on, and what is deleted is overwritten in it.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, DateTime, create_engine, event, inspect, text
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

SCHEMA_REVISION = "0009"
"""The Alembic revision this code works with."""

BUSY_TIMEOUT_MS = 15_000


class SchemaOutdated(Exception):
    """The database has no tables yet, or those of another version."""


class UtcDateTime(TypeDecorator[datetime]):
    """Aware UTC datetimes in and out; SQLite itself keeps no zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a datetime without zone")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Database:
    """Short transactions: `with database.write() as connection` commits, or rolls back on an exception."""

    def __init__(self, url: str) -> None:
        sqlite = url.startswith("sqlite")
        self._engine = create_engine(url, pool_pre_ping=not sqlite, hide_parameters=True)
        if sqlite:
            event.listen(self._engine, "do_connect", _own_file)
            event.listen(self._engine, "connect", _prepare_sqlite)
            event.listen(self._engine, "begin", _begin_sqlite)
        # Whoever lets go of the database lets go of its connections: nobody else knows them.
        weakref.finalize(self, self._engine.dispose).atexit = False
        self._writer = self._engine.execution_options(for_write=True)
        self._shared = threading.local()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        shared: Connection | None = getattr(self._shared, "connection", None)
        if shared is not None:
            yield shared
            return
        with self._engine.connect() as connection:
            yield connection

    @contextmanager
    def reading(self) -> Iterator[None]:
        """What this thread reads within is read on one connection, on SQLite as of one moment; a write within
        ends that, so that what comes after it sees what was written."""
        if getattr(self._shared, "connection", None) is not None:
            yield
            return
        with self._engine.connect() as connection:
            self._shared.connection = connection
            try:
                yield
            finally:
                self._shared.connection = None

    @contextmanager
    def write(self) -> Iterator[Connection]:
        self._shared.connection = None
        with self._writer.begin() as connection:
            yield connection

    def check_schema(self) -> None:
        """Raise SchemaOutdated unless the tables are those of `SCHEMA_REVISION`."""
        with self.read() as connection:
            found = None
            if inspect(connection).has_table("alembic_version"):
                found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
        if found != SCHEMA_REVISION:
            raise SchemaOutdated(f"The database is at revision {found}, this app needs {SCHEMA_REVISION}.")

    @property
    def file(self) -> Path | None:
        """Of SQLite: the file; None in memory, and of a server."""
        name = self._engine.url.database if self._engine.dialect.name == "sqlite" else None
        return None if not name or name == ":memory:" or name.startswith("file:") else Path(name)

    def read_only(self) -> bool:
        """Whether a server takes no writes: a standby, or one that was told so."""
        if self._engine.dialect.name != "postgresql":
            return False
        with self.read() as connection:
            return bool(connection.execute(text("SHOW transaction_read_only")).scalar_one() == "on")

    def migrate(self, revision: str = SCHEMA_REVISION) -> None:
        """Bring the tables to a revision. Safe to call again."""
        # Imported here: a server that only checks the revision has no use for Alembic.
        from alembic import command
        from alembic.config import Config

        with as_file(files("smartapp.store") / "migrations") as folder, self.write() as connection:
            config = Config()
            config.set_main_option("script_location", str(folder))
            config.attributes["connection"] = connection
            command.upgrade(config, revision)

    def forget(self) -> None:
        """On SQLite: empty the write-ahead log, which may still hold what was overwritten in the file."""
        if self._engine.dialect.name == "sqlite":
            with closing(self._engine.raw_connection()) as connection:
                connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def close(self) -> None:
        self._engine.dispose()


def _own_file(_dialect: Dialect, _record: object, arguments: Sequence[Any], _more: Mapping[str, Any]) -> None:
    """Make a database file that isn't there with mode 0600; SQLite gives its log and index the same.

    One that is there is left as it is (`smartapp config check` tells who can read it): opening and closing it
    here would end the locks that other connections of this process hold on it.
    """
    name = str(arguments[0]) if arguments else ""
    if name in {"", ":memory:"} or name.startswith("file:"):
        return
    with suppress(OSError):  # it is there, or SQLite says what is wrong
        os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))


def _prepare_sqlite(connection: Any, _record: object) -> None:
    # The driver's own BEGIN comes only before the first write; `_begin_sqlite` says when and how instead.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    # INSERT OR REPLACE deletes the row in its way; only with this the guards against deletion are asked.
    cursor.execute("PRAGMA recursive_triggers = ON")
    cursor.execute("PRAGMA secure_delete = ON")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    for_write = connection.get_execution_options().get("for_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if for_write else "BEGIN")
