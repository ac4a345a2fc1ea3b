"""Every reading of a day can be opened as the EHR sent it, however many there are."""

from __future__ import annotations

import json
from datetime import date, datetime, timedelta

import msgspec
import pytest

from fhir_mappings.local_time import LocalClock
from smartapp.commands.demo_check import Browser
from smartapp.ehr.reading.one_day import readings_of
from smartapp.store.reading import StoredResource
from smartapp.web.patient import READINGS_A_PAGE
from tests.support.sandbox import ZONE
from tests.support.strips import days_in_full, days_that_open

PATIENT = "ready-musculoskeletal"
DAY = date(2026, 3, 10)


def stored(number, begins, **more):
    body = {"resourceType": "Observation", "id": str(number), "effectiveDateTime": begins.isoformat(), **more}
    return StoredResource("search", None, f"Observation/{number}", "1", msgspec.json.encode(body))


def of_day(resources, first=0, most=100, hidden=frozenset()):
    return readings_of(resources, DAY, LocalClock(ZONE), hidden, first, most)


def test_of_fifty_thousand_readings_a_page_is_given_in_the_order_of_their_times():
    midnight = datetime(2026, 3, 10, tzinfo=ZONE)
    chart = [stored(number, midnight + timedelta(seconds=number)) for number in reversed(range(50_000))]
    some = of_day(chart, first=200)
    assert some.total == 50_000
    assert [one.reference for one in some.readings] == [f"Observation/{n}" for n in range(200, 300)]


def test_only_readings_that_begin_on_the_local_day_are_of_it():
    midnight = datetime(2026, 3, 10, tzinfo=ZONE)
    chart = [
        stored("before", midnight - timedelta(seconds=1)),
        stored("first", midnight),
        stored("last", midnight + timedelta(hours=23, minutes=59, seconds=59)),
        stored("after", midnight + timedelta(days=1)),
        StoredResource("search", None, "Observation/broken", "1", b"{"),
        StoredResource("search", None, "Observation/gone", "1", b""),
    ]
    assert [one.reference for one in of_day(chart).readings] == ["Observation/first", "Observation/last"]


def test_what_is_about_somebody_else_is_not_among_them():
    chart = [stored(number, datetime(2026, 3, 10, 9, tzinfo=ZONE)) for number in ("ours", "theirs")]
    some = of_day(chart, hidden=frozenset({"Observation/theirs"}))
    assert ([one.reference for one in some.readings], some.total) == (["Observation/ours"], 1)


# In the app


@pytest.fixture
def busy(world):
    """A chart in which one counted day has many more readings than the page lists; that day, and how many."""
    readings = sorted(world.resources("Observation", PATIENT), key=lambda one: str(one["effectiveDateTime"]))
    one = readings[-3]
    begins = datetime.fromisoformat(one["effectiveDateTime"])
    more = READINGS_A_PAGE + 20
    for number in range(more):
        copy = {name: value for name, value in one.items() if name not in {"id", "meta", "identifier"}}
        at = begins.replace(hour=1) + timedelta(minutes=number)
        world.ehr_creates({**copy, "effectiveDateTime": at.isoformat()})
    day = begins.astimezone(ZONE).date()
    begun = (
        datetime.fromisoformat(one["effectiveDateTime"]) for one in world.resources("Observation", PATIENT)
    )
    return day, sum(at.astimezone(ZONE).date() == day for at in begun)


def of_the_busy_day(browser, page):
    """Where all readings of the day are listed that has more than its strip shows."""
    whole = days_in_full(browser, page)
    return next(target for target, text in whole.links if text.startswith("all readings of the day"))


def raw_of(page):
    return json.loads(page.text[page.text.index("{") : page.text.rindex("}") + 1])


def test_each_listed_reading_of_a_day_opens_as_the_ehr_sent_it(shared_world, browser):
    page = shared_world.open(browser, PATIENT)
    opened = browser.get(days_that_open(page)[0]).body
    assert opened.count("<tr><td") == opened.count(">Technical<") > 0


def test_all_readings_of_a_busy_day_are_listed_a_page_at_a_time_and_each_opens(world, browser, busy):
    day, number = busy
    page = world.open(browser, PATIENT)
    link = of_the_busy_day(browser, page)
    assert day.isoformat() not in link, "no address tells when somebody measured"
    first = browser.get(link)
    assert f"{number} readings of that day" in first.text
    assert "page 1 of 2" in first.text
    second = browser.get(next(target for target, text in first.links if text == "Later readings"))
    opens = [[target for target, _ in one.links if "/evidence/" in target] for one in (first, second)]
    assert [len(one) for one in opens] == [READINGS_A_PAGE, number - READINGS_A_PAGE]
    assert len({target for one in opens for target in one}) == number
    ids = {raw_of(browser.get(target))["id"] for target in (opens[0][0], opens[0][-1], opens[1][-1])}
    assert len(ids) == 3
    opened = [one["record"] for one in world.store.audit.entries() if one["event"] == "evidence-opened"]
    assert set(opened) == {f"Observation/{one}" for one in ids}


def test_a_page_that_is_not_there_and_a_day_without_readings_say_so(world, browser, busy):
    page = world.open(browser, PATIENT)
    link = of_the_busy_day(browser, page)
    assert "There are none on this page." in browser.get(f"{link}?page=3").text
    assert browser.get(f"{link}?page=0").status == 404
    assert browser.get(f"{link[:-6]}000000").status == 404


def test_nobody_opens_a_reading_without_the_session_or_with_another_ones_address(world, browser, busy):
    page = world.open(browser, PATIENT)
    link = of_the_busy_day(browser, page)
    record = next(target for target, _ in browser.get(link).links if "/evidence/" in target)
    stranger = Browser()
    world.stack.callback(stranger.close)
    assert {stranger.get(target).status for target in (link, record)} == {401}
    other = world.open(browser, "ready-physiologic")
    for target in (link, record):
        assert browser.get(f"{other.url}{'/'.join(target.split('/')[-2:])}").status == 404
