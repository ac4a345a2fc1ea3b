"""A chart is shown, and a charge written, in few requests and few waits of one for another."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest

from launch import limiter
from smartapp.commands.demo_check import Browser, Page
from tests.smartapp.conftest import World

PATIENT, ANOTHER = "ready-physiologic", "ready-respiratory"
ISSUER_MORE = """
max_parallel = 16
[issuers.sandbox.search]
page_size = 100
"""


@dataclass
class Counter:
    """A layer before the EHR that notes when each FHIR request began and ended."""

    app: Callable[..., Any]
    seconds: float = 0.0
    """So much longer takes each, so that it is seen which waits for which."""
    asked: list[tuple[float, float, str]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        path = environ["PATH_INFO"]
        # A batch that the sandbox answers from within is one request.
        if "/fhir/r4" not in path or "waitress.client_disconnected" not in environ:
            return self.app(environ, start_response)
        begun = time.monotonic()
        time.sleep(self.seconds)
        answer = self.app(environ, start_response)
        query = environ.get("QUERY_STRING", "")
        with self._lock:
            target = f"{environ['REQUEST_METHOD']} {path.split('/fhir/r4', 1)[1]}?{query}"
            self.asked.append((begun, time.monotonic(), target))
        return answer

    @property
    def targets(self) -> list[str]:
        return [target for _, _, target in sorted(self.asked) if "smart-configuration" not in target]

    @property
    def waves(self) -> int:
        """The longest chain of requests of which each began after the one before had ended."""
        count, end = 0, 0.0
        for begun, ended, target in sorted(self.asked, key=lambda one: one[1]):
            if "smart-configuration" not in target and begun >= end:
                count, end = count + 1, ended
        return count


@contextmanager
def counted(world: World, seconds: float = 0.0) -> Iterator[Counter]:
    app = world.ehr.app
    counter = Counter(app.wsgi_app, seconds)
    app.wsgi_app = counter
    try:
        yield counter
    finally:
        app.wsgi_app = counter.app


def ninety_days(world: World, patient: str) -> None:
    """Two readings a day over ninety days, three devices, conversations with four of the staff."""
    store, today = world.ehr.sandbox.store, world.today
    subject = {"reference": f"Patient/{patient}"}
    for type_ in ("Observation", "Device", "ChargeItem", "Encounter"):
        for one in world.resources(type_, patient):
            store.delete(type_, one["id"])
    type_of = {"coding": [{"system": "http://snomed.info/sct", "code": "258057004"}]}
    devices = [
        world.ehr_creates({"resourceType": "Device", "type": type_of, "patient": subject}) for _ in range(3)
    ]
    for number in range(180):
        day = today - timedelta(days=number // 2)
        world.ehr_creates(
            {
                "resourceType": "Observation",
                "status": "final",
                "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]},
                "subject": subject,
                "device": {"reference": f"Device/{devices[number % 3]}"},
                "effectiveDateTime": f"{day}T{8 + number % 2:02}:00:00-04:00",
                "valueQuantity": {
                    "value": 70,
                    "unit": "/min",
                    "system": "http://unitsofmeasure.org",
                    "code": "/min",
                },
            }
        )
    with world.ehr.sandbox.database.write() as connection:  # nothing of it came a moment ago
        connection.execute("UPDATE resource SET updated = updated - 3600000")
    with world.ehr.sandbox.database.read() as connection:
        rows = connection.execute("SELECT body FROM resource WHERE type = 'Practitioner'").fetchall()
    people = [json.loads(body)["id"] for (body,) in rows][:4]
    assert len(people) == 4
    for number, person in enumerate(people):
        start = f"{today - timedelta(days=20 + number)}T15:00:00-04:00"
        world.ehr_creates(
            {
                "resourceType": "Encounter",
                "status": "finished",
                "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "VR"},
                "type": [{"coding": [{"system": "urn:sandbox:visit", "code": "RPM-CALL"}]}],
                "subject": subject,
                "participant": [{"individual": {"reference": f"Practitioner/{person}"}}],
                "period": {"start": start, "end": start.replace("15:00:00", "15:12:00")},
            }
        )


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    return make_world(issuer_more=ISSUER_MORE)


TIGHT = """
max_parallel = 4
requests_per_minute = 40
[issuers.sandbox.search]
page_size = 100
"""


def test_charts_that_are_opened_faster_than_the_ehr_may_be_asked_wait_and_all_open(make_world, monkeypatch):
    """One chart a second at 240 requests a minute, scaled: a minute of two seconds, a sixth of the charts."""
    monkeypatch.setattr(limiter, "_MINUTE", 2.0)
    world = make_world(issuer_more=TIGHT)
    with ExitStack() as stack, counted(world) as counter:
        browsers = [stack.enter_context(closing(Browser())) for _ in range(8)]
        pages = []
        for browser in browsers:
            pages.append(world.launch(browser, PATIENT))
            time.sleep(0.2)
        assert "in line" in browsers[-1].get(pages[-1].url).text
        for browser, page in zip(browsers, pages, strict=True):
            read = world.read(browser, page)
            assert "99454" in read.text
            assert "asked this app for fewer requests" not in read.text
    begun = sorted(begun for begun, _, target in counter.asked if "smart-configuration" not in target)
    # A little more than the limit, since what is counted here began a moment after it was let go.
    most = max(sum(start <= one < start + 1.8 for one in begun) for start in begun)
    assert most <= 44


def opened(world: World, browser: Browser, patient: str, seconds: float = 0.0) -> tuple[Page, Counter]:
    """The page of a chart that was read, and what was asked for after the token."""
    with counted(world, seconds) as counter:
        page = world.open(browser, patient)
    return page, counter


def test_a_chart_of_ninety_days_is_read_in_sixteen_requests_and_three_waves(world, browser):
    ninety_days(world, PATIENT)
    page, counter = opened(world, browser, PATIENT, 0.4)
    assert "99454" in page.text
    assert len(counter.targets) <= 16, counter.targets
    assert counter.waves <= 3


def test_a_second_patient_within_minutes_is_read_in_twelve(world, browser):
    ninety_days(world, PATIENT)
    ninety_days(world, ANOTHER)
    opened(world, browser, PATIENT)
    _, counter = opened(world, browser, ANOTHER)
    assert len(counter.targets) <= 12, counter.targets


@pytest.mark.parametrize(("batch", "most"), [(True, 6), (False, 14)])
def test_a_charge_is_written_in_few_requests(world, browser, batch, most):
    world.ehr.sandbox.quirks.no_batch = not batch
    ninety_days(world, PATIENT)
    page = world.open(browser, PATIENT)
    form = world.final_form(browser, page)
    with counted(world) as counter:
        written = browser.submit(form)
        assert written.by_id["charge-item"]
        world.read(browser, browser.get(page.url))
    assert len(counter.targets) <= most, counter.targets


def test_a_second_charge_that_was_prepared_before_the_first_was_written_goes_through(world, browser):
    page = world.open(browser, PATIENT)
    first, second = (
        world.final_form(browser, page, key)
        for key in sorted(
            {target.rsplit("/", 1)[1] for target, text in page.links if text.startswith("Review")}
        )[:2]
    )
    assert browser.submit(first).by_id["charge-item"]
    assert browser.submit(second).by_id["charge-item"]
    chart = browser.get(page.url)
    assert "Reading the chart" not in chart.text
    assert not [target for target, _ in chart.links if target.endswith((first.action, second.action))]
    ours = [one for one in world.charges(PATIENT) if "smart-remote-monitoring" in json.dumps(one)]
    assert len(ours) == 2
