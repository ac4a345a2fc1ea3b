"""The commands of docs/operate.md bring a lost database back, and a charge under way then is settled once."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests
from sqlalchemy import create_engine, text

from smartapp.commands.demo_check import Browser, Form
from smartapp.store.claims import ChargeState
from tests.smartapp.conftest import World
from tests.smartapp.test_graceful_stop import PATIENT, form_at
from tests.support.sandbox import held

OPERATE = Path(__file__).parents[2] / "docs" / "operate.md"


def commands(name: str) -> str:
    """The block of docs/operate.md that bears this name."""
    found = re.search(rf"<!-- {name} -->\n```sh\n(.*?)```", OPERATE.read_text(), re.S)
    assert found is not None, name
    return found[1]


@pytest.fixture
def shell(tmp_path, database_url):
    """A function that runs a block for the test's database, and what kind that is."""
    kind = "sqlite" if database_url.startswith("sqlite") else "postgresql"
    needed = {"sqlite": "sqlite3", "postgresql": "pg_dump"}[kind]
    if shutil.which(needed) is None:
        pytest.skip(f"{needed} is not installed")
    programs = tmp_path / "bin"
    programs.mkdir()
    smartapp = programs / "smartapp"
    smartapp.write_text(f'#!/bin/sh\nexec {sys.executable} -m smartapp.cli "$@"\n')
    smartapp.chmod(0o755)
    environment = os.environ | {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "BACKUP": str(tmp_path / "kept elsewhere"),
        "SMARTAPP_DATABASE_URL": database_url,
        "DATABASE": database_url.removeprefix("sqlite:///"),
        "PGURL": database_url.replace("+psycopg", ""),
    }

    def run(act: str, **more: str) -> str:
        done = subprocess.run(
            ["sh", "-e", "-c", commands(f"{act}: {kind}")],
            env=environment | more,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def lose(database_url: str) -> None:
    """The database is gone."""
    if database_url.startswith("sqlite"):
        file = Path(database_url.removeprefix("sqlite:///"))
        for path in file.parent.glob(f"{file.name}*"):
            path.write_bytes(b"no database any more")
    else:
        engine = create_engine(database_url)
        with engine.begin() as connection:
            connection.execute(text("DROP TABLE outbox, audit CASCADE"))
        engine.dispose()


def test_a_lost_database_is_restored_and_the_charge_under_way_is_settled_once(
    make_world, browser, shell, database_url, tmp_path
):
    world: World = make_world(serve=False)
    process = world.process().ready()
    form = form_at(world, process, browser)
    with ThreadPoolExecutor(1) as pool, held(world.ehr, "POST .*/ChargeItem") as gate:
        pressing = pool.submit(press_and_ignore, browser, form)
        gate.wait_for()
        shell("backup")
        process.kill()
        pressing.result()
    assert (tmp_path / "kept elsewhere").stat().st_mode & 0o077 == 0
    lose(database_url)

    told = shell("restore", SMARTAPP_KEYS=world.settings.keys[0].decode())
    assert "The audit trail holds" in told
    (row,) = world.store.charges.of_patient("sandbox", PATIENT)
    assert row.state is ChargeState.SENT
    second = world.process().ready()
    browser.cookies(f"127.0.0.1:{second.port}").update(browser.cookies(f"127.0.0.1:{process.port}"))
    address = form.action.replace(str(process.port), str(second.port))
    page = browser.submit(Form(form.method, address, form.controls))
    (row,) = world.store.charges.of_patient("sandbox", PATIENT)
    assert row.state is ChargeState.CONFIRMED
    assert page.by_id["charge-item"] == f"ChargeItem/{row.charge_item}"
    written = [one for one in world.charges(PATIENT) if one.get("identifier")]
    assert [one["id"] for one in written if "urn:smart-remote-monitoring" in str(one["identifier"])] == [
        row.charge_item
    ]


def press_and_ignore(browser: Browser, form: Form) -> None:
    try:
        browser.submit(form)
    except requests.RequestException:
        return
