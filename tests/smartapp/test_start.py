"""What starting the app costs, and what it never loads."""

from __future__ import annotations

import subprocess
import sys

USUAL = 0.3
"""Seconds."""

PROGRAM = """
import sys, time
begun = time.process_time()
import flask, authlib.integrations.requests_client
from pathlib import Path
start = time.process_time()
import smartapp
from smartapp.config import Mode, Settings
settings = Settings(
    keys=({key!r},), base_url="http://127.0.0.1:1", issuers_file=Path({issuers!r}),
    site_file=Path({site!r}), database_url={database!r}, mode=Mode.TEST,
)
smartapp.create_app(settings)
print(start - begun, time.process_time() - start)
for name in ("launch.sandbox", "alembic", "fhir.resources", "pydantic"):
    assert name not in sys.modules, name
"""


def started(world) -> tuple[float, float]:
    """Seconds of the processor for importing Flask and authlib, and for all that comes after."""
    program = PROGRAM.format(
        key=world.settings.keys[0],
        issuers=str(world.settings.issuers_file),
        site=str(world.settings.site_file),
        database=world.settings.database_url,
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    given, ours = done.stdout.split()
    return float(given), float(ours)


def test_the_app_loads_neither_the_sandbox_nor_what_only_writes_and_migrations_need(shared_world):
    started(shared_world)


def test_the_app_starts_within_half_a_second_beyond_flask_and_authlib(shared_world):
    """Half a second where importing those two takes a third of one; a busy machine slows both."""
    runs = [started(shared_world) for _ in range(5)]
    assert min(ours for _, ours in runs) < 0.5 * max(1, min(given for given, _ in runs) / USUAL)
