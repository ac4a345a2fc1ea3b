"""What is decoded once is read as what is looked at first and decoded later: no way tells more or less."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fhir_mappings.chart import Chart
from fhir_mappings.local_time import LocalClock
from fhir_mappings.terminology import load_terminology
from smartapp.ehr.reading.collected import Collected
from smartapp.ehr.reading.searches import Search
from smartapp.ehr.wire import bundles, json_guard, looks
from smartapp.ehr.wire.bundles import Entry, NotAPage, SearchPage, search_page
from smartapp.ehr.wire.looks import judged, last_day, last_day_of, reading_of, says_a_day_after
from smartapp.ehr.wire.patient_scope import Whose
from smartapp.store.reading import SealedChunk, StoredResource
from tests.support.random_charts import RandomChart, charts

BASE = "https://ehr.example/fhir"
BASES = (BASE, "https://ehr-inside.example/fhir")
CLOCK = LocalClock(ZoneInfo("America/New_York"))
TERMINOLOGY = load_terminology()

US = {"reference": "Patient/p1"}
SOMEBODY = {"reference": "Patient/p2"}
READING: dict[str, Any] = {
    "resourceType": "Observation",
    "id": "o1",
    "meta": {"versionId": "3", "lastUpdated": "2026-04-01T12:00:00Z"},
    "status": "final",
    "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]},
    "subject": US,
    "effectiveDateTime": "2026-04-01T08:00:00-04:00",
    "valueQuantity": {"value": 70, "unit": "/min", "code": "/min"},
    "device": {"reference": "Device/d1"},
}
ODD: list[dict[str, Any]] = [
    {},
    {"id": None},
    {"id": ""},
    {"id": 7},
    {"meta": None},
    {"meta": {"versionId": ""}},
    {"meta": {"versionId": 3}},
    {"meta": ["3"]},
    {"subject": None},
    {"subject": SOMEBODY},
    {"subject": [US]},
    {"subject": [US, SOMEBODY]},
    {"subject": {"reference": f"{BASE}/Patient/p1"}},
    {"subject": {"reference": "https://elsewhere.example/fhir/Patient/p1"}},
    {"subject": {"reference": "Patient/p1/_history/2"}},
    {"subject": {"reference": "Group/g1"}},
    {"subject": {"reference": "urn:uuid:1"}},
    {"subject": {"reference": ""}},
    {"subject": {"reference": None, "identifier": {"value": "1"}}},
    {"subject": "Patient/p1"},
    {"patient": SOMEBODY},
    {"patient": US},
    {"patient": None},
    {"patient": "?"},
    {"beneficiary": SOMEBODY},
    {"source": {"reference": "Device/d2"}},
    {"practitioner": {"reference": "Practitioner/n1"}},
    {"participant": [{"individual": {"reference": "Practitioner/n1"}}]},
    {"device": {"reference": f"{BASE}/Device/d1/_history/1"}},
    {"device": {"reference": f"{BASES[1]}/DeviceMetric/m1"}},
    {"device": {"reference": "Location/l1"}},
    {"device": {"reference": ""}},
    {"device": {"display": "some cuff"}},
    {"device": "Device/d1"},
    {"device": [{"reference": "Device/d1"}]},
    {"effectiveDateTime": "yesterday"},
    {"effectiveDateTime": None, "effectiveInstant": "2026-03-02T03:00:00Z"},
    {"effectiveDateTime": None, "effectivePeriod": {"start": "2026-03-02", "end": "2026-05-01"}},
    {"effectiveDateTime": None, "effectiveTiming": {"event": ["2026-03-02", "2026-03-04", "?"]}},
    {"effectiveDateTime": None, "effectiveTiming": {"event": [7]}},
    {"effectiveDateTime": None},
    {"valueQuantity": {"value": "a lot"}},
    {"component": {}},
    {"resourceType": "OperationOutcome"},
    {"resourceType": "Encounter"},
    {"resourceType": 1},
]


def as_entry(resource: dict[str, Any] | bytes, **more: Any) -> Entry:
    raw = resource if isinstance(resource, bytes) else json.dumps(resource).encode()
    return Entry(raw, **more)


def texts(chart: RandomChart) -> list[bytes]:
    return [json.dumps(one).encode() for one in chart.resources()]


@pytest.mark.parametrize("odd", ODD, ids=json.dumps)
def test_a_reading_that_is_plainly_the_patients_is_what_a_look_says_it_is(odd: dict[str, Any]) -> None:
    same_as_a_look(as_entry({**READING, **odd}))


@settings(max_examples=60, database=None, deadline=None, suppress_health_check=list(HealthCheck))
@given(charts())
def test_so_is_every_record_of_random_charts(chart: RandomChart) -> None:
    for text in texts(chart):
        same_as_a_look(as_entry(text))


def same_as_a_look(entry: Entry) -> None:
    reading = reading_of(entry, "p1")
    if reading is None:
        return
    found = judged(entry, "Observation", "p1", BASES)
    raw = bytes(entry.resource)
    assert (found.whose, found.type, found.broken) == (Whose.OURS, "Observation", None)
    assert found.reference == f"Observation/{reading.id}"
    assert found.version == looks.version_of_reading(reading, raw)
    assert last_day("Observation", raw, CLOCK) == last_day_of(reading, CLOCK)
    named = reading.device.reference if reading.device is not None else None
    assert list(looks.references(found.seen, BASES)) == [
        one for one in [looks.linked(named, BASES) if named else None] if one is not None
    ]


def test_most_readings_are_plain() -> None:
    plain = [reading_of(as_entry({**READING, **odd}), "p1") for odd in ODD]
    assert plain[0] is not None
    assert 10 < sum(one is not None for one in plain) < len(ODD) / 2


def test_what_the_page_could_not_weigh_is_not_decoded() -> None:
    assert reading_of(as_entry(READING, problem="nested too deeply"), "p1") is None


@dataclass
class Taken:
    """What comes of a page, and the chart that is made of it."""

    collected: Collected
    resources: list[StoredResource]
    record: str


def taken(raws: list[bytes]) -> Taken:
    kept: list[StoredResource] = []
    chart = Chart(TERMINOLOGY, CLOCK.zone, CLOCK.read("2026-12-31").day, BASES)  # type: ignore[union-attr]
    collected = Collected("p1", BASES, TERMINOLOGY, CLOCK, lambda origin, _: SealedChunk(origin, "", b""))

    def sink(resource: StoredResource) -> None:
        kept.append(resource)
        if resource.raw:
            chart.add(resource.raw, resource.full_url, resource.origin)

    def reading_sink(resource: StoredResource, reading: looks.Reading) -> None:
        kept.append(resource)
        chart.add_observation(reading, resource.raw, resource.full_url)

    collected.sink, collected.reading_sink = sink, reading_sink
    entries = [as_entry(raw, fullUrl=f"{BASE}/Observation/{number}") for number, raw in enumerate(raws)]
    collected.keep_page(Search("Observation", "Observation all", ()), "page 1", entries)
    return Taken(collected, kept, repr(chart.record("Patient/p1")))


@settings(max_examples=40, database=None, deadline=None, suppress_health_check=list(HealthCheck))
@given(charts(), st.lists(st.sampled_from(ODD)))
def test_a_page_comes_to_the_same_either_way(chart: RandomChart, odd: list[dict[str, Any]]) -> None:
    raws = [json.dumps({**READING, "id": f"x{n}", **one}).encode() for n, one in enumerate(odd)]
    quick = taken(raws + texts(chart))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("smartapp.ehr.reading.collected.reading_of", lambda *_: None)
        slow = taken(raws + texts(chart))
    assert quick.resources == slow.resources
    assert quick.record == slow.record
    for told in ("names", "pointers", "by_type", "resources", "replaces"):
        assert getattr(quick.collected, told) == getattr(slow.collected, told)
    assert quick.collected.notices() == slow.collected.notices()


ENTRIES: list[Any] = [
    {"resource": READING},
    {"resource": READING, "fullUrl": "urn:uuid:1", "search": {"mode": "match"}},
    {"resource": READING, "search": {"mode": "include", "score": 1}},
    {"resource": READING, "search": {"mode": ""}},
    {"resource": READING, "search": {}},
    {"resource": READING, "search": {"mode": 1}},
    {"resource": READING, "search": "match"},
    {"resource": READING, "search": None, "fullUrl": 7},
    {"resource": READING, "problem": "none of ours"},
    {"resource": None},
    {"fullUrl": "x"},
    [],
    None,
    7,
]
MORE: list[dict[str, Any]] = [
    {},
    {"total": 3, "link": [{"relation": "next", "url": "x"}]},
    {"entry": None},
    {"entry": {}},
    {"entry": "none"},
    {"total": "3", "type": 7},
    {"resourceType": "OperationOutcome"},
    {"resourceType": 7},
    {"resourceType": None},
]


@pytest.mark.parametrize("more", MORE, ids=json.dumps)
def test_a_page_is_cut_the_same_either_way(more: dict[str, Any]) -> None:
    for entries in (ENTRIES, *([{"resource": READING}, one] for one in ENTRIES)):
        body = json.dumps({"resourceType": "Bundle", "entry": entries, **more}).encode()
        for cut in (body, body[:-1], body[: len(body) // 2], body.replace(b'"o1"', b'"\xff"', 1)):
            quick = cut_page(cut)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(bundles, "may_be_cut_at_once", lambda _: False)
                assert cut_page(cut) == quick


@pytest.mark.parametrize("levels", [62, 63, 64, 200])
def test_an_entry_that_is_nested_too_deeply_is_told_and_stops_no_other_either_way(
    monkeypatch: pytest.MonkeyPatch, levels: int
) -> None:
    deep = {**READING, "extension": json.loads("[" * (levels - 1) + "]" * (levels - 1))}
    entries = [{"resource": deep}, {"resource": READING}]
    body = json.dumps({"resourceType": "Bundle", "entry": entries}).encode()
    quick = search_page(body)
    assert [bool(entry.problem) for entry in quick.entries] == [levels >= json_guard.DEEPEST, False]
    monkeypatch.setattr(bundles, "may_be_cut_at_once", lambda _: False)
    assert search_page(body) == quick


def test_a_page_as_nearly_all_are_is_decoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundles, "_entry", refuse)
    body = json.dumps({"resourceType": "Bundle", "entry": [{"resource": READING, "fullUrl": "x"}]}).encode()
    assert len(search_page(body).entries) == 1


def test_a_page_of_more_entries_than_are_read_is_cut_off_either_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundles, "MOST_ENTRIES", 2)
    body = json.dumps({"resourceType": "Bundle", "entry": [{"resource": READING}] * 3}).encode()
    quick = search_page(body)
    monkeypatch.setattr(bundles, "may_be_cut_at_once", lambda _: False)
    assert search_page(body) == quick
    assert (len(quick.entries), bool(quick.cut_off)) == (2, True)


def test_a_page_of_too_many_commas_is_not_decoded_at_once() -> None:
    assert json_guard.may_be_cut_at_once(b"[1,2]")
    assert not json_guard.may_be_cut_at_once(b"," * 200_001)


def cut_page(body: bytes) -> SearchPage | None:
    try:
        return search_page(body)
    except NotAPage:
        return None


def refuse(_: bytes) -> None:
    raise msgspec.ValidationError


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Etc/GMT+12", "America/New_York"])
@pytest.mark.parametrize("offset", ["Z", "+14:00", "-12:00", "", "nonsense"])
@pytest.mark.parametrize("time", ["", "T00:00:00", "T23:59:59"])
@pytest.mark.parametrize("day", [date(2026, 4, 1) + timedelta(days) for days in range(-3, 5)])
def test_what_is_dated_clearly_later_is_never_before_the_first_day_that_was_asked_for(
    zone: str, offset: str, time: str, day: date
) -> None:
    first = date(2026, 4, 1)
    raw = json.dumps(READING | {"effectiveDateTime": f"{day}{time}{offset}"}).encode()
    reading = reading_of(Entry(raw), "p1")
    assert reading is not None
    if says_a_day_after(reading, (first + timedelta(2)).isoformat()):
        last = last_day_of(reading, LocalClock(ZoneInfo(zone)))
        assert last is None or last >= first


@pytest.mark.parametrize(
    "other",
    [
        {"effectiveInstant": "2020-01-01T00:00:00Z"},
        {"effectivePeriod": {"start": "2020-01-01"}},
        {"effectiveTiming": {"event": ["2020-01-01"]}},
    ],
)
def test_a_reading_with_a_second_time_is_looked_at_in_full(other: dict[str, Any]) -> None:
    plain = reading_of(Entry(json.dumps(READING).encode()), "p1")
    both = reading_of(Entry(json.dumps(READING | other).encode()), "p1")
    assert plain is not None
    assert says_a_day_after(plain, "2026-03-31")
    assert both is not None
    assert not says_a_day_after(both, "2026-03-31")
