"""What starting the app costs, and what it never loads."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys, time
begun = time.process_time()
import flask, authlib.integrations.requests_client
from pathlib import Path
start = time.process_time()
import smartapp
from smartapp.configuration.settings import Mode, Settings
settings = Settings(
    keys=({key!r},), base_url="http://127.0.0.1:1", issuers_file=Path({issuers!r}),
    site_file=Path({site!r}), database_url={database!r}, mode=Mode.TEST,
)
smartapp.create_app(settings)
print(start - begun, time.process_time() - start)
for name in ("launch.sandbox", "alembic", "fhir.resources", "pydantic"):
    assert name not in sys.modules, name
"""


def started(world, bytecode: Path) -> tuple[float, float]:
    """Seconds of the processor for importing Flask and authlib, and for all that comes after.

    `bytecode`: where compiled modules are kept, as an installed app has them.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = str(bytecode)
    program = PROGRAM.format(
        key=world.settings.keys[0],
        issuers=str(world.settings.issuers_file),
        site=str(world.settings.site_file),
        database=world.settings.database_url,
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    given, ours = done.stdout.split()
    return float(given), float(ours)


@pytest.fixture(scope="module")
def compiled(shared_world, tmp_path_factory) -> Path:
    """Where the modules are, compiled by a first start."""
    folder = tmp_path_factory.mktemp("bytecode")
    started(shared_world, folder)
    return folder


def test_the_app_loads_neither_the_sandbox_nor_what_only_writes_and_migrations_need(shared_world, compiled):
    started(shared_world, compiled)


def test_the_app_starts_within_half_a_second_beyond_flask_and_authlib(shared_world, compiled):
    """Or within 3.2 times what those two take, where the machine is slow: then they are slow as well."""
    runs: list[tuple[float, float]] = []
    while not any(ours < max(0.5, 3.2 * given) for given, ours in runs):
        assert len(runs) < 5, runs
        runs.append(started(shared_world, compiled))
