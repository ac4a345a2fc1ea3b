"""How many charts one process reads at a time, how long a reading may take, and how a search is asked for."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import replace
from urllib.parse import parse_qs, urlsplit

import pytest

import launch.issuers_table
from launch.http import EhrClient
from launch.profiles import SearchMethod, load_profile
from smartapp.ehr.reading import jobs as reading_jobs
from smartapp.ehr.reading import reader
from smartapp.ehr.reading.charts import Charts
from smartapp.store.reading import JobState
from tests.support.sandbox import LONG, held

PATIENT = "ready-musculoskeletal"


def at_work() -> int:
    return sum(thread.name.startswith("reading-") and thread.is_alive() for thread in threading.enumerate())


def most_at_once(monkeypatch) -> list[int]:
    """Gets how many charts were being read, each time that another one was begun."""
    found: list[int] = []
    under_way: set[int] = set()
    lock, read = threading.Lock(), Charts.read

    def noted(self, *given, **more):
        with lock:
            under_way.add(threading.get_ident())
            found.append(len(under_way))
        try:
            return read(self, *given, **more)
        finally:
            with lock:
                under_way.remove(threading.get_ident())

    monkeypatch.setattr(Charts, "read", noted)
    return found


def test_a_few_charts_are_read_at_a_time_and_the_others_wait_their_turn(make_world, browser, monkeypatch):
    monkeypatch.setattr(reading_jobs, "MOST_AT_WORK", 2)
    at_once = most_at_once(monkeypatch)
    world = make_world()
    jobs = world.store.reading
    with held(world.ehr, "/Observation"):
        pages = [world.launch(browser, PATIENT) for _ in range(5)]
        sessions = [urlsplit(page.url).path.split("/")[2] for page in pages]
        assert at_work() <= 2
        found = Counter(jobs.latest(session).state for session in sessions)
        assert found == {JobState.RUNNING: 2, JobState.WAITING: 3}
    # Nobody polls: whoever waited is begun when another one ends.
    until = time.monotonic() + LONG
    while time.monotonic() < until:
        found = Counter(jobs.latest(session).state for session in sessions)
        if set(found) == {JobState.DONE}:
            break
        time.sleep(0.05)
    assert set(found) == {JobState.DONE}
    assert len(at_once) == 5
    assert max(at_once) == 2
    assert all("can be charged" in browser.get(page.url).text for page in pages)


def test_a_waiting_job_is_done_by_another_process_that_is_asked(make_world, browser, monkeypatch):
    world = make_world()
    monkeypatch.setattr(reading_jobs, "MOST_AT_WORK", 0)
    page = world.launch(browser, PATIENT)
    assert "Reading the chart" in browser.get(page.url).text
    other = world.process().ready()
    own = urlsplit(world.settings.base_url).netloc
    browser.cookies(f"127.0.0.1:{other.port}").update(browser.cookies(own))
    there = world.read(browser, browser.get(other.here(page.url)))
    assert "can be charged" in there.text
    assert "can be charged" in browser.get(page.url).text


def test_a_reading_that_takes_too_long_ends_readably_and_can_be_tried_again(make_world, browser, monkeypatch):
    world = make_world()
    true = reader.ChartReading.__init__
    limit = {"seconds": 0.2}
    monkeypatch.setattr(
        reader.ChartReading, "__init__", lambda self, *given, **more: true(self, *given, **{**more, **limit})
    )
    world.ehr.sandbox.quirks.slow_ms = 300
    page = world.open(browser, PATIENT)
    assert "The EHR did not answer in time." in page.text
    world.ehr.sandbox.quirks.slow_ms = 0
    limit.clear()
    again = world.read(browser, browser.submit(page.form("/read")))
    assert "can be charged" in again.text


@pytest.fixture
def asked(monkeypatch) -> list[tuple[str, str, bytes | None]]:
    """Method, address and body of every request to the EHR's FHIR server."""
    found: list[tuple[str, str, bytes | None]] = []
    true = EhrClient.fhir

    def fhir(client, method, target, *, body=None, **more):
        found.append((method, target, body))
        return true(client, method, target, body=body, **more)

    monkeypatch.setattr(EhrClient, "fhir", fhir)
    return found


def test_searches_by_post_put_no_id_of_the_patient_into_an_address(make_world, browser, monkeypatch, asked):
    monkeypatch.setattr(
        launch.issuers_table,
        "load_profile",
        lambda name: replace(load_profile(name), search_method=SearchMethod.POST),
    )
    world = make_world()
    page = world.open(browser, PATIENT)
    assert "can be charged" in page.text
    link = next(target for target, text in page.links if text.endswith("98977"))
    form = world.final_form(browser, page, urlsplit(link).path.rsplit("/", 1)[1])
    world.ehr.sandbox.quirks.fail_after_commit = 1
    assert browser.submit(form).by_id["charge-item"].startswith("ChargeItem/")
    searches = [(target, body) for method, target, body in asked if target.endswith("/_search")]
    assert {target.split("/")[0] for target, _ in searches} >= {"Observation", "ChargeItem", "Condition"}
    of_patient = [body or b"" for target, body in searches if not target.startswith("Practitioner")]
    assert all(PATIENT in body.decode() for body in of_patient)
    assert any(
        b"identifier=" in (body or b"") for target, body in searches if target.startswith("ChargeItem")
    )
    # Links to further pages are the server's own.
    ours = [target for _, target, _ in asked if not target.startswith("http")]
    assert {target for target in ours if PATIENT in target.split("/")} == {f"Patient/{PATIENT}"}
    assert not [target for target in ours if "?" in target]


def test_by_default_a_search_is_a_get(shared_world, browser, asked):
    shared_world.open(browser, PATIENT)
    found = [target for method, target, _ in asked if method == "GET" and target.startswith("Observation?")]
    assert found
    assert parse_qs(urlsplit(found[0]).query)["patient"] == [PATIENT]
    assert not [target for method, target, _ in asked if method == "POST"]
