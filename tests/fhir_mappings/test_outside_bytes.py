"""Whatever an EHR sends, reading it never raises and never stops the rest; nothing goes missing in silence.

`FUZZ_EXAMPLES` says how many charts are spoilt (`make fuzz`: many).
"""

from __future__ import annotations

import contextlib
import copy
import json
import os
from collections.abc import Iterator
from datetime import date
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_mappings.chart import Chart
from fhir_mappings.decision import to_contract
from fhir_mappings.local_time import LocalClock
from fhir_mappings.references import References
from fhir_mappings.rules.engine import assess
from fhir_mappings.rules.policy import load_policy
from fhir_mappings.terminology import load_terminology
from smartapp.ehr.fhir import NotAPage, look, outcome_text, search_page
from tests.support.chart import build_resources, site_terminology
from tests.support.evaluation import check_shape

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "150"))
AS_OF = date(2026, 4, 10)
ZONE = ZoneInfo("America/New_York")
POLICY = load_policy("medicare")
TERMINOLOGY = load_terminology(site_terminology())
GIVEN = [
    {"setup": {"at": "2026-03-01T07:00", "for": "10:00", "by": "nurse", "program": "rpm"}},
    {"days": {"of": "BP", "device": "cuff", "from": "2026-03-02", "count": "3"}},
    {"days": {"of": "HEP", "device": "knee-app", "by": "patient", "from": "2026-03-02", "count": "2"}},
    {"call": {"at": "2026-03-10T10:00", "for": "22:00", "by": ["nurse", "physician"], "program": "rpm"}},
    {"stay": {"at": "2026-03-20T10:00", "until": "2026-03-22T10:00"}},
    {"episode": {"from": "2026-03-01"}},
    {"charge": {"code": "99454", "period": ["2026-01-01", "2026-01-30"]}},
    {"patient": {"died": "2026-04-09"}},
]
RESOURCES = build_resources(GIVEN, ZONE.key)

odd_text = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        ["", "2026-03", "2026-02-30", "24:00", "2026-03-01T25:61:00Z", "2026-03-01T10:00:00+99:99", "#", "/"]
    ),
    st.sampled_from(["Patient/p1", "Device/../x", "urn:uuid:1", "9999-12-31T23:59:59Z", "0001-01-01"]),
)
odd_number = st.one_of(
    st.integers(), st.floats(allow_nan=False), st.sampled_from([10**400, -1, 0, 2**63, 1e308])
)
odd: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), odd_number, odd_text),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=6,
)
fuzz = settings(max_examples=EXAMPLES, deadline=None, derandomize="FUZZ_EXAMPLES" not in os.environ)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a resource where something could stand that shouldn't."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from places(inner, (*path, key))


def spoil(resource: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    spoilt = copy.deepcopy(resource)
    holder: Any = spoilt
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = value
    return spoilt


@st.composite
def spoilt_charts(draw: st.DrawFn) -> list[dict[str, Any]]:
    chart = list(RESOURCES)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(chart) - 1))
        found = sorted(places(chart[at]), key=str)
        if found:
            chart[at] = spoil(chart[at], draw(st.sampled_from(found)), draw(odd))
    return chart


def evaluated(lines: list[bytes]) -> dict[str, Any]:
    chart = Chart(TERMINOLOGY, ZONE, AS_OF)
    for number, line in enumerate(lines):
        chart.add(line, None, f"line {number}")
    patients = chart.patients()
    told: dict[str, Any] = {}
    for patient in patients:
        record = chart.record(patient)
        told = to_contract(record, assess(record, POLICY, AS_OF, all_evidence=True), "medicare", "fuzz")
        check_shape(told)
    return told


@given(spoilt_charts())
@fuzz
def test_a_spoilt_chart_is_answered_all_the_same(chart: list[dict[str, Any]]) -> None:
    evaluated([json.dumps(resource).encode() for resource in chart])


@given(st.integers(0, len(RESOURCES) - 1), st.data())
@fuzz
def test_bytes_cut_or_changed_anywhere_stop_nothing(at: int, data: st.DataObject) -> None:
    lines = [json.dumps(resource).encode() for resource in RESOURCES]
    line = bytearray(lines[at])
    for _ in range(data.draw(st.integers(1, 3))):
        position = data.draw(st.integers(0, len(line) - 1))
        if data.draw(st.booleans()):
            line[position] = data.draw(st.integers(0, 255))
        else:
            line = line[: position + 1]
    lines[at] = bytes(line)
    evaluated(lines)


@given(st.one_of(st.binary(max_size=60), odd.map(lambda value: json.dumps(value).encode())))
@fuzz
def test_any_bytes_at_all_are_listed_and_never_raise(line: bytes) -> None:
    chart = Chart(TERMINOLOGY, ZONE, AS_OF)
    chart.add(line, "urn:uuid:1", "line 1")
    chart.patients()
    assert chart.resources <= 1


@given(st.one_of(odd_text, st.text(max_size=40)))
@fuzz
def test_any_text_is_a_time_or_says_why_it_is_none(text: str) -> None:
    LocalClock(ZONE).read(text)


@given(st.text(max_size=60), st.text(max_size=60))
@fuzz
def test_any_text_is_a_reference_or_none(one: str, other: str) -> None:
    references = References("https://ehr.example/fhir")
    references.learn(one or "Device/1", other or None, None)
    references.resolve(other)
    references.short(one)


@given(st.one_of(st.binary(max_size=80), odd.map(lambda value: json.dumps({"entry": value}).encode())))
@fuzz
def test_any_answer_to_a_search_is_a_page_or_is_refused(body: bytes) -> None:
    with contextlib.suppress(NotAPage):
        search_page(body)
    look(body)
    assert len(outcome_text(body)) <= 1000
