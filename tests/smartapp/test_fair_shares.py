"""Several EHRs in one app: one that hangs delays nobody at another, and many at once all come in."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from itertools import islice
from pathlib import Path
from threading import Event
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from flask import request

from launch import discovery
from launch.errors import HttpError, HttpProblem
from launch.limiter import IssuerLimiter, Turn
from launch.sandbox import Client
from launch.sandbox.quirks import Quirks
from launch.seats import MOST_SEATED
from smartapp import create_app
from smartapp.commands.demo import CLIENT_ID
from smartapp.ehr.reading import jobs as reading_jobs
from smartapp.serving import AppServer
from smartapp.store.reading import JobState
from smartapp.web.security import PROBE_COOKIE
from tests.smartapp.conftest import World
from tests.support.fast_time import FastTime
from tests.support.sandbox import DAY, LONG, held, start_sandbox

PATIENT = "ready-musculoskeletal"
PRESSES = 40
"""More than there are threads."""


@pytest.fixture
def both(make_world, tmp_path: Path) -> Iterator[tuple[World, World]]:
    """Two EHRs of one app: a quick one, and one that a test makes hang."""
    quick = make_world(serve=False)
    base_url, port = quick.settings.base_url, urlsplit(quick.settings.base_url).port
    client = Client(CLIENT_ID, redirect_uris=(f"{base_url}/callback/slow",))
    folder = tmp_path / "slow"
    folder.mkdir()
    slow_ehr = start_sandbox(
        folder,
        as_of=DAY,
        ahead=quick.settings.clock_ahead,
        clients=(client,),
        launch_url=f"{base_url}/launch",
    )
    with quick.settings.issuers_file.open("a") as issuers:
        issuers.write(
            f'[issuers.slow]\nfhir_base = "{slow_ehr.config.fhir_base}"\nclient_id = "{CLIENT_ID}"\n'
            'profile = "sandbox"\n'
        )
    try:
        with AppServer(create_app(quick.settings), "127.0.0.1", port):
            yield quick, replace(quick, ehr=slow_ehr)
    finally:
        slow_ehr.close()


def begin(world: World) -> requests.Response:
    """The launch address, as the EHR opens it, in a browser that keeps cookies."""
    return requests.get(
        f"{world.settings.base_url}/launch",
        {"iss": world.fhir_base, "launch": "xyz"},
        cookies={PROBE_COOKIE: "1"},
        allow_redirects=False,
        timeout=LONG,
    )


def test_sixteen_launches_at_once_on_a_cold_cache_all_succeed(both, monkeypatch):
    monkeypatch.setattr(discovery, "WAIT_SECONDS", LONG)
    _, world = both
    with ThreadPoolExecutor(16) as pool, held(world.ehr, ".well-known") as gate:
        launches = [pool.submit(begin, world) for _ in range(16)]
        gate.wait_for()
    answers = [launch.result() for launch in launches]
    assert {answer.status_code for answer in answers} == {302}
    assert len({parse_qs(urlsplit(one.headers["location"]).query)["state"][0] for one in answers}) == 16


def test_an_ehr_whose_charts_come_slowly_delays_no_chart_of_another(both, browser, monkeypatch):
    monkeypatch.setattr(reading_jobs, "MOST_AT_WORK", 1)
    quick, hanging = both
    with held(hanging.ehr, "/Observation"):
        begun = hanging.launch(browser, PATIENT)
        assert "98977" in quick.open(browser, PATIENT).text
        session = urlsplit(begun.url).path.split("/")[2]
        assert quick.store.reading.latest(session).state is JobState.RUNNING


def test_whoever_waits_in_line_is_told_the_place(both, browser, monkeypatch):
    monkeypatch.setattr(reading_jobs, "MOST_AT_WORK", 1)
    _, world = both
    with held(world.ehr, "/Observation"):
        pages = [world.launch(browser, PATIENT) for _ in range(3)]
        assert "This one is number 2 in line" in browser.get(pages[2].url).text
    assert "98977" in world.read(browser, pages[2]).text


class SeenTime(FastTime):
    """Sleeping ends when a test has seen that somebody sleeps."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = Event()

    def sleep(self, seconds: float) -> None:
        assert self.seen.wait(LONG)
        super().sleep(seconds)


def test_a_reading_that_the_ehr_asked_to_wait_says_so_and_until_when(make_world, browser, monkeypatch):
    watch = SeenTime()
    for module in ("launch.http", "launch.limiter"):
        monkeypatch.setattr(f"{module}.time", watch)
    monkeypatch.setattr(
        Quirks,
        "seconds_to_wait",
        lambda _: 20 if "/Observation" in request.path and not watch.seen.is_set() else 0,
    )
    world = make_world()
    page = world.launch(browser, PATIENT)
    until = time.monotonic() + LONG
    while "asked this app to wait" not in page.text and time.monotonic() < until:
        assert "Reading the chart" in page.text
        time.sleep(0.05)
        page = browser.get(page.url)
    assert "The EHR asked this app to wait. It goes on by itself at 12:" in page.text
    watch.seen.set()
    assert "98977" in world.read(browser, page).text


def others_are_served(world: World) -> None:
    """Nobody who has nothing to do with the EHR that hangs waits for it."""
    assert requests.get(f"{world.settings.base_url}/health/live", timeout=LONG).ok
    assert begin(world).status_code == 302


def test_an_accept_that_finds_the_requests_of_the_minute_spent_is_sent_again_by_its_page(
    make_world, browser, monkeypatch
):
    world = make_world()
    form = world.final_form(browser, world.open(browser, PATIENT), "98977-2026-03-16")
    before = len(world.charges(PATIENT))

    def spent(_limiter, _deadline, turn=Turn.PRESSED):
        raise HttpError(HttpProblem.BUSY)

    with monkeypatch.context() as patched:
        patched.setattr(IssuerLimiter, "slot", spent)
        waiting = browser.submit(form)
    assert waiting.status == 503
    assert "This page tries again by itself" in waiting.text
    assert len(world.charges(PATIENT)) == before
    answer = browser.submit(waiting.form(urlsplit(form.action).path))
    assert "The charge is in the EHR" in answer.text
    assert len(world.charges(PATIENT)) == before + 1


@pytest.mark.threat("5.12")
def test_presses_that_wait_for_a_hanging_ehr_leave_threads_for_everybody_else(both, browser):
    quick, hanging = both
    form = hanging.final_form(browser, hanging.open(browser, PATIENT), "98977-2026-03-16")
    before = len(hanging.charges(PATIENT))
    pairs = [(control.name, control.value) for control in form.controls if control.name]
    cookies = dict(browser.cookies(urlsplit(quick.settings.base_url).netloc))

    def press(_: int) -> int:
        answer = requests.post(form.action, pairs, cookies=cookies, allow_redirects=False, timeout=2 * LONG)
        return answer.status_code

    with ThreadPoolExecutor(PRESSES) as pool, held(hanging.ehr, "/fhir/") as gate:
        pressed = [pool.submit(press, number) for number in range(PRESSES)]
        gate.wait_for()
        # Whoever found no seat is told while the others sit.
        told = [one.result() for one in islice(as_completed(pressed), PRESSES - MOST_SEATED)]
        assert set(told) == {503}
        others_are_served(quick)
    assert len(hanging.charges(PATIENT)) <= before + 1


@pytest.mark.threat("5.12")
def test_callbacks_that_wait_for_a_hanging_ehr_leave_threads_for_everybody_else(both, browser):
    quick, hanging = both
    answers = [begin(hanging) for _ in range(PRESSES)]

    def come_back(answer: requests.Response) -> requests.Response:
        state = parse_qs(urlsplit(answer.headers["location"]).query)["state"][0]
        return requests.get(
            f"{quick.settings.base_url}/callback/slow",
            {"code": "made-up", "state": state},
            cookies=answer.cookies.get_dict(),
            allow_redirects=False,
            timeout=2 * LONG,
        )

    with ThreadPoolExecutor(PRESSES) as pool, held(hanging.ehr, "/token") as gate:
        waiting = {pool.submit(come_back, answer): answer for answer in answers}
        gate.wait_for()
        put_off = list(islice(as_completed(waiting), PRESSES - MOST_SEATED))
        assert {one.result().status_code for one in put_off} == {503}
        assert {one.result().headers["refresh"] for one in put_off} == {"2"}
        others_are_served(quick)
    # Nothing was spent: the same callback comes again, and it is the EHR that does not know the code.
    again = come_back(waiting[put_off[0]])
    assert again.status_code == 400
    assert "invalid_grant" in again.text
