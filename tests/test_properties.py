"""What holds for every chart, whatever is in it: order, duplicates, more data, excluded codes."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from datetime import date, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fhir_mappings.chart import Chart
from fhir_mappings.completeness import ANY_TYPE, Missing, MissingWhy
from fhir_mappings.decision import to_contract
from fhir_mappings.rules.engine import assess
from fhir_mappings.rules.policy import load_policy
from fhir_mappings.terminology import load_terminology

from .support import random_charts
from .support.chart import CPT, Event, Resource, build_resources, site_terminology
from .support.evaluation import NEW_YORK, check_shape
from .support.random_charts import RandomChart

AS_OF = date(2026, 4, 15)
FIRST = date(2025, 11, 20)
POLICY = load_policy("medicare")
TERMINOLOGY = load_terminology(site_terminology())

days = st.integers(0, (AS_OF - FIRST).days).map(lambda n: FIRST + timedelta(days=n))
clocks = st.integers(0, 24 * 60 - 1).map(lambda n: f"{n // 60:02d}:{n % 60:02d}")
durations = st.one_of(st.integers(1, 2400), st.sampled_from([599, 600, 1199, 1200, 2399, 2400, 14400, 14401]))
staff = st.sampled_from(["physician", "np", "pt", "pta", "nurse", "nurse-2", "front-desk", "somebody"])
devices = {"HEP": [None, "knee-app"], "PUFFS": ["inhaler-cap"], "BP": ["cuff", "cuff-2", None]}


@st.composite
def readings(draw: st.DrawFn) -> Event:
    of = draw(st.sampled_from(sorted(devices)))
    told: dict[str, Any] = {
        "of": of,
        "from": draw(days).isoformat(),
        "count": draw(st.integers(1, 20)),
        "at": draw(clocks),
    }
    if device := draw(st.sampled_from(devices[of])):
        told["device"] = device
    return {"days": told}


@st.composite
def work(draw: st.DrawFn) -> Event:
    word = draw(st.sampled_from(["call", "review", "visit", "in-person", "setup", "message", "admin"]))
    return {
        word: {
            "at": f"{draw(days)}T{draw(clocks)}",
            "for": draw(durations),
            "by": draw(staff),
            "program": draw(st.sampled_from(["rtm", "rpm", "any", "other"])),
        }
    }


@st.composite
def charges(draw: st.DrawFn) -> Event:
    code = draw(st.sampled_from(["98975", "98977", "98985", "98979", "98980", "99454", "99457", "99091"]))
    first = draw(days)
    length = draw(st.sampled_from([0, 29, 29, 29, 30]))
    return {
        "charge": {"code": code, "period": [first.isoformat(), (first + timedelta(days=length)).isoformat()]}
    }


charts = st.lists(st.one_of(readings(), readings(), work(), charges()), min_size=1, max_size=9)
many = settings(max_examples=100, deadline=None, derandomize=True)


def answer(resources: list[Resource], *missing: Missing) -> dict[str, Any]:
    chart = Chart(TERMINOLOGY, ZoneInfo(NEW_YORK), AS_OF)
    for number, resource in enumerate(resources):
        chart.add(json.dumps(resource).encode(), None, f"item {number}")
    for one in missing:
        chart.add_missing(one)
    (patient,) = chart.patients()
    record = chart.record(patient)
    return to_contract(record, assess(record, POLICY, AS_OF), "medicare", "test")


@given(charts, st.randoms(use_true_random=False))
@many
def test_the_order_of_the_resources_does_not_matter(events: list[Event], shuffler: random.Random) -> None:
    resources = build_resources(events, NEW_YORK)
    shuffled = list(resources)
    shuffler.shuffle(shuffled)
    assert answer(shuffled) == answer(resources)


@given(charts, st.data())
@many
def test_a_duplicate_changes_no_decision(events: list[Event], data: st.DataObject) -> None:
    resources = build_resources(events, NEW_YORK)
    before = answer(resources)
    again = data.draw(st.sampled_from(resources))
    assert answer([*resources, again])["decisions"] == before["decisions"]


@given(charts, days, clocks)
@many
def test_another_reading_never_lowers_a_count_of_days(events: list[Event], day: date, clock: str) -> None:
    resources = build_resources(events, NEW_YORK)
    before = answer(resources)
    # Not before the first day that counts: an earlier reading moves the grid, which is another question.
    counted = [
        resource["effectiveDateTime"][:10]
        for resource in resources
        if f"{resource['resourceType']}/{resource['id']}" in evidence_of_days(before, "rtm")
    ]
    assume(counted and day.isoformat() >= min(counted))
    more: Event = {"reading": {"of": "HEP", "at": f"{day}T{clock}", "id": "one-more", "value": 4711}}
    after = found_days(answer(build_resources([*events, more], NEW_YORK)))
    for key, found in found_days(before).items():
        assert after[key] >= found


def evidence_of_days(told: dict[str, Any], program: str) -> set[str]:
    return {
        name
        for decision in told["decisions"]
        if decision["program"] == program
        for need in decision["requirements"]
        if need["requirement"] == "monitoring-days"
        for name in need["evidence"]
    }


def found_days(told: dict[str, Any]) -> dict[tuple[str, str], int]:
    return {
        (decision["code"], decision["period"]["start"]): need["found"]
        for decision in told["decisions"]
        for need in decision["requirements"]
        if need["requirement"] == "monitoring-days"
    }


@given(charts)
@many
def test_every_answer_has_the_contracts_shape_and_no_two_excluded_codes(events: list[Event]) -> None:
    told = answer(build_resources(events, NEW_YORK))
    check_shape(told)
    overlapping = [
        (a["code"], b["code"])
        for a in told["decisions"]
        for b in told["decisions"]
        if a["program"] != b["program"]
        and a["outcome"] in ("suggest", "provisional")
        and b["outcome"] in ("suggest", "provisional")
        and a["period"]["start"] <= b["period"]["end"]
        and b["period"]["start"] <= a["period"]["end"]
    ]
    assert not overlapping


# -- what was hidden, what claims nothing, what was charged before -----------------------------------------

#: What hiding something of a type leaves unverified, where it does not make the code a human's to decide.
LEFT_UNVERIFIED = {
    "Observation": {"other-program", "enrolment"},
    "Device": {"other-program", "enrolment"},
    "Encounter": {"in-facility", "same-day-services", "other-program"},
    "ChargeItem": {"prior-charges"},
    ANY_TYPE: {"prior-charges"},
}


@given(charts, st.sampled_from(sorted(LEFT_UNVERIFIED)), st.data())
@many
def test_hiding_a_part_and_saying_so_never_earns_a_code(
    events: list[Event], kind: str, data: st.DataObject
) -> None:
    resources = build_resources(events, NEW_YORK)
    hideable = [r for r in resources if r["resourceType"] in (kind, *(LEFT_UNVERIFIED if not kind else ()))]
    assume(hideable)
    first, last = sorted(data.draw(st.tuples(days, days)))
    page = kind == "Observation" and data.draw(st.booleans())
    if page:
        hidden = [r for r in hideable if first.isoformat() <= r["effectiveDateTime"][:10] <= last.isoformat()]
        missing = Missing(kind, MissingWhy.CUT_OFF, first, last)
    else:
        hidden = data.draw(st.lists(st.sampled_from(hideable), min_size=1))
        missing = Missing(kind, MissingWhy.FILE_NOT_READ)
    whole = {(d["code"], d["period"]["start"]): d for d in answer(resources)["decisions"]}
    for d in answer([r for r in resources if r not in hidden], missing)["decisions"]:
        before = whole.get((d["code"], d["period"]["start"]))
        if d["outcome"] != "suggest" or LEFT_UNVERIFIED[kind] & set(d["unverified"]):
            continue
        assert before is not None, d
        alike = ("outcome", "quantity", "service_date")
        assert [before[key] for key in alike] == [d[key] for key in alike], (before, d)


@given(random_charts.charts(), st.randoms(use_true_random=False))
@many
def test_the_order_of_charts_as_they_are_does_not_matter(chart: RandomChart, shuffler: random.Random) -> None:
    resources = chart.resources()
    shuffled = list(resources)
    shuffler.shuffle(shuffled)
    assert answer(shuffled) == answer(resources)


NO_VALUES = [
    {"valueQuantity": None},
    {"valueQuantity": {"unit": "mm[Hg]"}},
    {"valueQuantity": {"value": None}},
    {"dataAbsentReason": {"text": "error"}},
    {"valueQuantity": None, "valueString": "refused"},
]
NO_DEVICES: list[Any] = [{"reference": "Device/gone"}, {"display": "a tablet"}, {}]


@st.composite
def empty_records(draw: st.DrawFn) -> Event:
    """A reading without a value or through a device that nobody knows; a call of a relative with nobody."""
    of = draw(st.sampled_from(["HEP", "PUFFS", "BP"]))
    told: dict[str, Any] = {"of": of, "at": f"{draw(days)}T{draw(clocks)}", "id": "empty", "value": 4711}
    kind = draw(st.sampled_from(["value", "device", "staff"]))
    if kind == "value":
        told["raw"] = draw(st.sampled_from(NO_VALUES))
        if device := draw(st.sampled_from(devices[of])):
            told["device"] = device
    elif kind == "device":
        told["device"] = draw(st.sampled_from(NO_DEVICES))
    else:
        call = {"at": told["at"], "for": draw(durations), "program": draw(st.sampled_from(["rtm", "rpm"]))}
        nobody = {"participant": [{"individual": {"reference": "RelatedPerson/r"}}]}
        return {"call": {**call, "id": "empty", "raw": nobody}}
    return {"reading": told}


@given(charts, empty_records())
@many
def test_a_record_that_claims_nothing_never_adds_a_day_a_minute_or_a_code(
    events: list[Event], empty: Event
) -> None:
    before = answer(build_resources(events, NEW_YORK))
    after = answer(build_resources([*events, empty], NEW_YORK))
    if "reading" in empty:
        for requirement in ("monitoring-days", "management-time"):
            assert found(after, requirement) == found(before, requirement)
    assert chargeable(after) <= chargeable(before)


def chargeable(told: dict[str, Any]) -> set[tuple[str, str, int]]:
    """What may be charged, or will be: code, window and quantity."""
    return {
        (d["code"], d["period"]["start"], d["quantity"])
        for d in told["decisions"]
        if d["outcome"] in ("suggest", "provisional")
    }


def found(told: dict[str, Any], requirement: str) -> dict[tuple[str, str], int]:
    return {
        (d["code"], d["period"]["start"]): need["found"]
        for d in told["decisions"]
        for need in d["requirements"]
        if need["requirement"] == requirement
    }


#: How an EHR may give a charge back: what it makes of the code, and of the rest.
RETURNED: dict[str, Callable[[str], Resource]] = {
    "as it was": lambda code: {"coding": [{"system": CPT, "code": code}]},
    "another system": lambda code: {"coding": [{"system": "urn:ehr:fee-schedule", "code": code}]},
    "no system": lambda code: {"coding": [{"code": code}]},
    "an OID": lambda code: {"coding": [{"system": "urn:oid:2.16.840.1.113883.6.12", "code": code}]},
    "a modifier": lambda code: {"coding": [{"system": CPT, "code": f"{code}-GP"}]},
    "a modifier behind a colon": lambda code: {"coding": [{"system": CPT, "code": f"{code}:GP"}]},
    "a prefix": lambda code: {"coding": [{"system": "urn:ehr:cdm", "code": f"CPT-{code}"}]},
    "text": lambda code: {"text": f"CPT(R) {code}"},
    "a display": lambda code: {"coding": [{"system": "urn:ehr:cdm", "code": "64897", "display": code}]},
}


@given(charts, st.sampled_from(sorted(RETURNED)), st.booleans(), st.booleans())
@many
def test_what_was_charged_is_never_suggested_again_however_the_ehr_gives_it_back(
    events: list[Event], shape: str, absolute: bool, versioned: bool
) -> None:
    resources = build_resources(events, NEW_YORK)
    suggested = [d for d in answer(resources)["decisions"] if d["outcome"] == "suggest"]
    assume(suggested)
    base = "https://ehr.test/fhir/" if absolute else ""
    version = "/_history/3" if versioned else ""
    charges = []
    for n, d in enumerate(suggested):
        start_up = d["code"] in ("98975", "99453")
        charges.append(
            {
                "resourceType": "ChargeItem",
                "id": f"own-{n}",
                "meta": {"versionId": "3", "lastUpdated": "2026-04-10T10:00:00Z"},
                "status": "billable",
                "code": RETURNED[shape](d["code"]),
                "subject": {"reference": f"{base}Patient/p1{version}"},
                "quantity": {"value": d["quantity"]},
                **(
                    {"occurrenceDateTime": d["service_date"]}
                    if start_up
                    else {"occurrencePeriod": {"start": d["period"]["start"], "end": d["period"]["end"]}}
                ),
            }
        )
    older = [{**c, "meta": {"versionId": "2"}, "status": "entered-in-error"} for c in charges if versioned]
    again = answer([*resources, *older, *charges])["decisions"]
    charged = {(d["code"], d["period"]["start"]) for d in suggested}
    told = {(d["code"], d["period"]["start"]): d["outcome"] for d in again}
    assert {key: told[key] for key in charged} == dict.fromkeys(charged, "charged")
