"""What is counted, who may read it, and that nothing of a patient is among it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace

import pytest
import requests

from smartapp import create_app
from smartapp.configuration.settings import ConfigurationError, read_setting, setting
from tests.support.sandbox import LONG

TOKEN = "a-token-of-more-than-twenty-letters"
PATIENT = "ready-musculoskeletal"


@pytest.fixture(scope="module")
def text(tmp_path_factory, new_database):
    """What is told after a chart was read and a charge accepted; read from this machine."""
    from contextlib import ExitStack, closing

    from smartapp.commands.demo_check import Browser
    from tests.smartapp.conftest import _world

    folder = tmp_path_factory.mktemp("world")
    with ExitStack() as stack, closing(Browser()) as browser:
        world = _world(folder, stack, database_url=new_database(folder), metrics="loopback")
        page = browser.submit(world.final_form(browser, world.open(browser, PATIENT)))
        assert "charge-item" in page.by_id
        browser.get(f"{world.settings.base_url}/s/nobody/")
        address = f"{world.settings.base_url}/metrics"
        through_a_proxy = requests.get(address, headers={"X-Forwarded-For": "127.0.0.1"}, timeout=LONG)
        assert through_a_proxy.status_code == 404
        answer = requests.get(address, timeout=LONG)
        assert answer.headers["Content-Type"].startswith("text/plain; version=")
        return answer.text


def value(text: str, name: str, **labels: str) -> float:
    """The value of one line."""
    for line in text.splitlines():
        told = dict(re.findall(r'(\w+)="([^"]*)"', line))
        if re.split(r"[ {]", line)[0] == name and told == labels:
            return float(line.rsplit(" ", 1)[1])
    raise AssertionError(f"no {name} {labels}")


def test_launches_readings_requests_and_waits_are_told_by_ehr(text):
    assert value(text, "smartapp_launches_total", issuer="sandbox", outcome="opened") == 1
    assert value(text, "smartapp_reading_seconds_count", issuer="sandbox", outcome="read") >= 1
    asked = value(text, "smartapp_ehr_request_seconds_count", issuer="sandbox", outcome="200")
    assert asked > 5
    assert value(text, "smartapp_ehr_wait_seconds_count", issuer="sandbox") >= asked


def test_what_became_of_charges_and_the_queue_are_told_from_the_database(text):
    assert value(text, "smartapp_charges", issuer="sandbox", state="confirmed") == 1
    assert value(text, "smartapp_reading_jobs", state="done") >= 1
    assert value(text, "smartapp_open_sessions") == 1
    assert value(text, "smartapp_packets_past_retention") == 0


def test_pages_are_told_by_endpoint_and_status_and_not_by_address(text):
    assert value(text, "smartapp_page_seconds_count", endpoint="patient.page", status="401") == 1
    assert value(text, "smartapp_page_seconds_count", endpoint="patient.page", status="200") >= 1


@pytest.mark.threat("5.13")
def test_nothing_of_a_patient_is_a_label(text):
    names = {"issuer", "outcome", "endpoint", "status", "state", "kind", "le"}
    assert set(re.findall(r'(\w+)="', text)) <= names
    assert PATIENT not in text
    assert "/s/" not in text


def test_whoever_has_the_token_may_read_and_nobody_else(shared_world):
    client = create_app(replace(shared_world.settings, metrics=TOKEN)).test_client()
    for sent in ({}, {"Authorization": "Bearer another-token-of-twenty-letters"}, {"Authorization": TOKEN}):
        assert client.get("/metrics", headers=sent).status_code == 404
    answer = client.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 200
    assert "smartapp_open_sessions" in answer.text


def test_without_a_setting_nothing_is_counted_and_nobody_is_answered(shared_world):
    client = create_app(shared_world.settings).test_client()
    assert client.get("/metrics").status_code == 404


@pytest.mark.parametrize("given", ["short", "with a space in it, and long", "everybody"])
def test_a_token_that_can_be_guessed_is_refused_and_not_repeated(given):
    with pytest.raises(ConfigurationError, match="at least 20") as refused:
        read_setting(setting("metrics"), {"SMARTAPP_METRICS": given})
    assert given not in str(refused.value)


def test_processes_of_a_server_that_forks_add_up_what_each_counted(tmp_path):
    program = (
        "from smartapp.metrics import Prometheus\n"
        "metrics = Prometheus()\n"
        "metrics.launch('hospital', 'opened')\n"
        "print(metrics.exposition({}).decode())\n"
    )
    environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    told = [
        subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
        for _ in range(2)
    ]
    assert value(told[1].stdout, "smartapp_launches_total", issuer="hospital", outcome="opened") == 2
