"""What holds for every chart, whatever is in it: order, duplicates, more data, excluded codes."""

from __future__ import annotations

import json
import random
from datetime import date, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fhir_mappings.chart import Chart
from fhir_mappings.decision import to_contract
from fhir_mappings.rules.engine import assess
from fhir_mappings.rules.policy import load_policy
from fhir_mappings.terminology import load_terminology

from .support.chart import Event, Resource, build_resources, site_terminology
from .support.evaluation import NEW_YORK, check_shape

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
many = settings(max_examples=150, deadline=None, derandomize=True)


def answer(resources: list[Resource]) -> dict[str, Any]:
    chart = Chart(TERMINOLOGY, ZoneInfo(NEW_YORK), AS_OF)
    for number, resource in enumerate(resources):
        chart.add(json.dumps(resource).encode(), None, f"item {number}")
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
