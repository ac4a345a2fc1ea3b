"""A server that is told to end finishes the charge it is writing, and takes nothing new."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import requests
from cryptography.fernet import Fernet

from smartapp import create_app
from smartapp.commands.demo import free_port
from smartapp.commands.demo_check import Browser, Form
from smartapp.commands.serve import run
from smartapp.serving import AppServer
from smartapp.store.claims import ChargeState
from tests.smartapp.conftest import AppProcess, World, make_tables
from tests.support.sandbox import LONG, held

PATIENT = "ready-musculoskeletal"


def test_a_process_told_to_end_finishes_the_write_under_way_and_takes_nothing_new(make_world, browser):
    world = make_world(serve=False)
    process = world.process().ready()
    form = form_at(world, process, browser)
    with ThreadPoolExecutor(1) as pool, held(world.ehr, "POST .*/ChargeItem") as gate:
        pressing = pool.submit(browser.submit, form)
        gate.wait_for()
        ending = process.told_to_end()
        wait_until(lambda: refuses(process.port))
        assert ending.exitcode is None, "it waits for the EHR's answer"
        gate.open()
        page = pressing.result()
    (row,) = world.store.charges.of_patient("sandbox", PATIENT)
    assert row.state is ChargeState.CONFIRMED
    assert page.by_id["charge-item"] == f"ChargeItem/{row.charge_item}"
    ending.join(LONG)
    assert ending.exitcode == 0


def form_at(world: World, process: AppProcess, browser: Browser) -> Form:
    """The last form of a charge, at a process other than the one that the launch came back to."""
    port = urlsplit(world.settings.base_url).port
    with AppServer(create_app(world.settings), "127.0.0.1", port):
        form = world.final_form(browser, world.open(browser, PATIENT))
    browser.cookies(f"127.0.0.1:{process.port}").update(browser.cookies(f"127.0.0.1:{port}"))
    return Form(form.method, process.here(form.action), form.controls)


def refuses(port: int) -> bool:
    """Also by cutting off what stood in line as the door was shut."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except ConnectionError:
        return True
    return False


def wait_until(come_true: Callable[[], bool]) -> None:
    until = time.monotonic() + LONG
    while not come_true():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_the_production_server_starts_from_the_environment_and_ends_on_sigterm(tmp_path, database_url):
    make_tables(database_url)
    issuers = tmp_path / "issuers.toml"
    issuers.write_text('[issuers.hospital]\nfhir_base = "https://ehr.example/fhir"\nclient_id = "app"\n')
    port = free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SMARTAPP_")}
    environment |= {
        "SMARTAPP_KEYS": Fernet.generate_key().decode(),
        "SMARTAPP_BASE_URL": "https://app.example",
        "SMARTAPP_ISSUERS_FILE": str(issuers),
        "SMARTAPP_DATABASE_URL": database_url,
        "SMARTAPP_TIMEZONE": "America/New_York",
        "SMARTAPP_PAYER": "medicare",
    }
    command = [sys.executable, "-m", "smartapp.cli", "serve", "--port", str(port)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout.readline() == f"listening on 127.0.0.1:{port}\n"
            for path in ("live", "ready"):
                answer = requests.get(f"http://127.0.0.1:{port}/health/{path}", timeout=LONG)
                assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
            server.send_signal(signal.SIGTERM)
            assert server.wait(LONG) == 0
        finally:
            server.kill()


def test_what_keeps_the_server_from_starting_is_told_in_lines(monkeypatch, capsys):
    for name in [name for name in os.environ if name.startswith("SMARTAPP_")]:
        monkeypatch.delenv(name)
    assert run([]) == 2
    assert "SMARTAPP_KEYS is missing" in capsys.readouterr().err
    assert run(["--threads", "2"]) == 2
    assert "a number from 8" in capsys.readouterr().err
