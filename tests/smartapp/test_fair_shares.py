"""Several EHRs in one app: one that hangs delays nobody at another, and many at once all come in."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from launch.sandbox import Client, RunningSandbox
from launch.sandbox.quirks import Quirks
from smartapp import create_app
from smartapp.commands.demo import CLIENT_ID
from smartapp.ehr.reading import jobs as reading_jobs
from smartapp.serving import AppServer
from smartapp.store.reading import JobState
from smartapp.web.security import PROBE_COOKIE
from tests.smartapp.conftest import World
from tests.support.sandbox import DAY, held, start_sandbox

PATIENT = "ready-musculoskeletal"


@pytest.fixture
def both(make_world, tmp_path: Path) -> Iterator[tuple[World, World]]:
    """Two EHRs of one app: a quick one, and one that a test makes slow."""
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
        slow_ehr.sandbox.quirks.slow_ms = 0
        slow_ehr.close()


@contextmanager
def slow(ehr: RunningSandbox, milliseconds: int) -> Iterator[None]:
    ehr.sandbox.quirks.slow_ms = milliseconds
    try:
        yield
    finally:
        ehr.sandbox.quirks.slow_ms = 0


def seconds_of(call) -> float:
    begun = time.monotonic()
    call()
    return time.monotonic() - begun


def begin(world: World) -> requests.Response:
    """The launch address, as the EHR opens it, in a browser that keeps cookies."""
    return requests.get(
        f"{world.settings.base_url}/launch",
        {"iss": world.fhir_base, "launch": "xyz"},
        cookies={PROBE_COOKIE: "1"},
        allow_redirects=False,
        timeout=60,
    )


def test_sixteen_launches_at_once_on_a_cold_cache_all_succeed(both):
    _, world = both
    with slow(world.ehr, 500), ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: begin(world), range(16)))
    assert {answer.status_code for answer in answers} == {302}
    assert len({parse_qs(urlsplit(one.headers["location"]).query)["state"][0] for one in answers}) == 16


def test_an_ehr_whose_charts_come_slowly_delays_no_chart_of_another(both, browser, monkeypatch):
    monkeypatch.setattr(reading_jobs, "MOST_AT_WORK", 1)
    quick, hanging = both
    begun = hanging.launch(browser, PATIENT)
    with slow(hanging.ehr, 4000):
        assert seconds_of(lambda: quick.open(browser, PATIENT)) < 4
        session = urlsplit(begun.url).path.split("/")[2]
        assert quick.store.reading.latest(session).state is JobState.RUNNING


def test_whoever_waits_in_line_is_told_the_place(both, browser, monkeypatch):
    monkeypatch.setattr(reading_jobs, "MOST_AT_WORK", 1)
    _, world = both
    with held(world.ehr, "/Observation"):
        pages = [world.launch(browser, PATIENT) for _ in range(3)]
        assert "This one is number 2 in line" in browser.get(pages[2].url).text
    assert "98977" in world.read(browser, pages[2]).text


def test_a_reading_that_the_ehr_asked_to_wait_says_so_and_until_when(make_world, browser, monkeypatch):
    world = make_world()
    world.ehr.sandbox.quirks.slow_ms = 200
    page = world.launch(browser, PATIENT)
    until, seen = time.monotonic() + 5, ""
    monkeypatch.setattr(Quirks, "seconds_to_wait", lambda _: 4 if time.monotonic() < until else 0)
    while "Reading the chart" in page.text and "asked this app to wait" not in seen:
        time.sleep(0.2)
        page = browser.get(page.url)
        seen = page.text
    assert "The EHR asked this app to wait. It goes on by itself at 12:" in seen
    assert "98977" in world.read(browser, page).text


@pytest.mark.threat("5.12")
def test_presses_that_wait_for_a_hanging_ehr_leave_threads_for_everybody_else(both, browser):
    quick, hanging = both
    form = hanging.final_form(browser, hanging.open(browser, PATIENT), "98977-2026-03-16")
    before = len(hanging.charges(PATIENT))
    base_url = quick.settings.base_url
    pairs = [(control.name, control.value) for control in form.controls if control.name]
    cookies = dict(browser.cookies(urlsplit(base_url).netloc))

    def press(_: int) -> int:
        answer = requests.post(form.action, pairs, cookies=cookies, allow_redirects=False, timeout=90)
        return answer.status_code

    with slow(hanging.ehr, 1500), ThreadPoolExecutor(40) as pool:
        pressed = [pool.submit(press, number) for number in range(40)]
        time.sleep(1)
        assert seconds_of(lambda: requests.get(f"{base_url}/health/live", timeout=30)) < 1
        assert seconds_of(lambda: begin(quick)) < 1
        told = {one.result() for one in pressed}
    assert 503 in told
    assert len(hanging.charges(PATIENT)) <= before + 1


@pytest.mark.threat("5.12")
def test_callbacks_that_wait_for_a_hanging_ehr_leave_threads_for_everybody_else(both, browser):
    quick, hanging = both
    base_url = quick.settings.base_url
    answers = [begin(hanging) for _ in range(40)]

    def come_back(answer: requests.Response) -> requests.Response:
        state = parse_qs(urlsplit(answer.headers["location"]).query)["state"][0]
        return requests.get(
            f"{base_url}/callback/slow",
            {"code": "made-up", "state": state},
            cookies=answer.cookies.get_dict(),
            allow_redirects=False,
            timeout=60,
        )

    with slow(hanging.ehr, 4000), ThreadPoolExecutor(40) as pool:
        waiting = [pool.submit(come_back, answer) for answer in answers]
        time.sleep(0.5)
        assert seconds_of(lambda: requests.get(f"{base_url}/health/live", timeout=30)) < 1
        assert seconds_of(lambda: begin(quick)) < 1
        told = [one.result() for one in waiting]
    put_off = [asked for asked, answer in zip(answers, told, strict=True) if answer.status_code == 503]
    assert put_off
    assert {answer.headers["refresh"] for answer in told if answer.status_code == 503} == {"2"}
    # Nothing was spent: the same callback comes again, and it is the EHR that does not know the code.
    again = come_back(put_off[0])
    assert again.status_code == 400
    assert "invalid_grant" in again.text
