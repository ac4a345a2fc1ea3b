"""A chart is shown, and a charge written, in few requests and few waits of one for another."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest

from launch import limiter
from smartapp.commands.demo_check import Browser, Page
from smartapp.store import budgets
from tests.smartapp.conftest import World
from tests.support.sandbox import held

PATIENT, ANOTHER = "ready-physiologic", "ready-respiratory"
ISSUER_MORE = """
max_parallel = 16
[issuers.sandbox.search]
page_size = 100
"""


@dataclass
class Counter:
    """A layer before the EHR that notes each FHIR request."""

    app: Callable[..., Any]
    asked: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        path = environ["PATH_INFO"]
        # A batch that the sandbox answers from within is one request.
        if "/fhir/r4" not in path or "waitress.client_disconnected" not in environ:
            return self.app(environ, start_response)
        query = environ.get("QUERY_STRING", "")
        with self._lock:
            self.asked.append(f"{environ['REQUEST_METHOD']} {path.split('/fhir/r4', 1)[1]}?{query}")
        return self.app(environ, start_response)

    @property
    def targets(self) -> list[str]:
        return [target for target in self.asked if "smart-configuration" not in target]


@contextmanager
def counted(world: World) -> Iterator[Counter]:
    app = world.ehr.app
    counter = Counter(app.wsgi_app)
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


@pytest.fixture
def begun(monkeypatch) -> list[float]:
    """When the requests of the charts began, by the clock of what lets them go."""
    found: list[float] = []
    take = limiter.Ledger.take

    def noted(self, now, wanted, per_minute, turn):
        count, wait = take(self, now, wanted, per_minute, turn)
        found.extend([now] * (0 if turn is limiter.Turn.SIGN_IN else count))
        return count, wait

    monkeypatch.setattr(limiter.Ledger, "take", noted)
    return found


def test_charts_that_are_opened_faster_than_the_ehr_may_be_asked_wait_and_all_open(
    make_world, monkeypatch, begun
):
    """Four charts a minute at forty requests a minute, twice as many at once: a minute is a second here."""
    for module in (limiter, budgets):
        monkeypatch.setattr(module, "MINUTE", 1.0)
    monkeypatch.setattr(budgets, "GOOD_FOR", 0.5)
    world = make_world(issuer_more=TIGHT)
    with ExitStack() as stack:
        browsers = [stack.enter_context(closing(Browser())) for _ in range(8)]
        with held(world.ehr, "/Observation"):
            pages = [world.launch(browser, PATIENT) for browser in browsers]
            assert "in line" in browsers[-1].get(pages[-1].url).text
        for browser, page in zip(browsers, pages, strict=True):
            read = world.read(browser, page)
            assert "99454" in read.text
            assert "asked this app for fewer requests" not in read.text
    assert len(begun) > 80
    counts = 1.0 + budgets.GOOD_FOR
    assert max(sum(start <= one < start + counts for one in begun) for start in begun) <= 40


def opened(world: World, browser: Browser, patient: str) -> tuple[Page, Counter]:
    """The page of a chart that was read, and what was asked for after the token."""
    with counted(world) as counter:
        page = world.open(browser, patient)
    return page, counter


def test_a_chart_of_ninety_days_is_read_in_sixteen_requests_and_three_waves(world, browser):
    ninety_days(world, PATIENT)
    with counted(world) as counter, held(world.ehr, r"/fhir/r4/(?!\.well-known)") as gate:
        page = world.launch(browser, PATIENT)
        for together in (12, 1, 2):
            gate.wait_for(together)
            gate.let_go()
        assert "99454" in world.read(browser, page).text, "nothing more is asked for"
    assert len(counter.targets) <= 16, counter.targets


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


@pytest.mark.parametrize(("batch", "most"), [(True, 10), (False, 18)])
def test_three_charges_together_take_four_requests_more(world, browser, batch, most):
    world.ehr.sandbox.quirks.no_batch = not batch
    page = world.open(browser, "ready-musculoskeletal")
    form = world.form_at(browser, next(target for target, text in page.links if text.endswith("together")))
    with counted(world) as counter:
        written = browser.submit(form)
        assert "All 3 charges are in the EHR" in written.text
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
