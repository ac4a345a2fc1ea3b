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

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_mappings.chart import Chart
from fhir_mappings.decision import to_contract
from fhir_mappings.identity import References, pointer
from fhir_mappings.local_time import LocalClock, Moment
from fhir_mappings.resources import READ_TYPES, Identifier, Reference
from fhir_mappings.rules.engine import assess
from fhir_mappings.rules.policy import load_policy
from fhir_mappings.terminology import load_terminology
from smartapp.ehr.wire.bundles import NotAPage, outcome_text, search_page
from smartapp.ehr.wire.capability import parse_capability
from smartapp.ehr.wire.looks import Look, look
from tests.launch.magnitudes import DEEP, MAGNITUDES, TEXTS, TIMES, written
from tests.support.chart import build_resources, site_terminology
from tests.support.evaluation import check_shape

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "80"))
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

US = {"reference": "Patient/p1"}
WHEN = {"start": "2026-03-01T10:00:00-05:00", "end": "2026-03-01T10:30:00-05:00"}
CODED = {"coding": [{"system": "urn:x", "code": "c"}]}
NAMED = {
    "meta": {"versionId": "3", "lastUpdated": "2026-03-01T10:00:00Z"},
    "identifier": [{"system": "urn:i"}],
}
FULL: list[dict[str, Any]] = [
    {
        **NAMED,
        "resourceType": "Procedure",
        "id": "full",
        "status": "completed",
        "code": {"coding": [{"system": "http://www.ama-assn.org/go/cpt", "code": "27447"}]},
        "category": {"coding": [{"system": "http://snomed.info/sct", "code": "387713003"}]},
        "subject": {"reference": "Patient/p1"},
        "performedPeriod": {"start": "2026-03-01T08:00:00-05:00", "end": "2026-03-01T10:00:00-05:00"},
    },
    {
        **NAMED,
        "resourceType": "Condition",
        "id": "full",
        "clinicalStatus": {"coding": [{"code": "active"}]},
        "verificationStatus": {"coding": [{"code": "confirmed"}]},
        "code": {"coding": [{"system": "http://hl7.org/fhir/sid/icd-10-cm", "code": "I10"}]},
        "subject": {"reference": "Patient/p1"},
    },
    {
        **NAMED,
        "resourceType": "Observation",
        "id": "full",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "85354-9"}]},
        "subject": US,
        "encounter": {"reference": "Encounter/full"},
        "effectiveTiming": {"event": ["2026-03-03T08:00:00-05:00", "2026-03-04T08:00:00-05:00"]},
        "device": {"reference": "Device/full"},
        "performer": [{"type": "Device", "identifier": {"system": "urn:i", "value": "d"}}],
        "method": CODED,
        "hasMember": [{"reference": "Observation/other"}],
        "component": [{"code": CODED, "valueQuantity": {"value": 120, "unit": "mm[Hg]"}}],
        "valueQuantity": {"value": 1.5, "unit": "kg"},
        "contained": [{"resourceType": "Device", "id": "inner", "status": "active", "type": CODED}],
    },
    {
        **NAMED,
        "resourceType": "Observation",
        "id": "span",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "85354-9"}]},
        "subject": US,
        "effectivePeriod": WHEN,
        "device": {"reference": "Device/full"},
        "valueInteger": 3,
    },
    {
        **NAMED,
        "resourceType": "Device",
        "id": "full",
        "status": "active",
        "type": CODED,
        "specialization": [{"systemType": CODED}],
        "udiCarrier": [{"deviceIdentifier": "1"}],
        "patient": US,
    },
    {**NAMED, "resourceType": "DeviceMetric", "id": "full", "source": {"reference": "Device/full"}},
    {
        **NAMED,
        "resourceType": "Encounter",
        "id": "full",
        "status": "finished",
        "class": {"system": "urn:x", "code": "VR"},
        "type": [CODED],
        "serviceType": CODED,
        "subject": US,
        "participant": [
            {"type": [CODED], "period": WHEN, "individual": {"reference": "PractitionerRole/full"}}
        ],
        "period": WHEN,
        "length": {"value": 30, "unit": "min", "code": "min"},
        "contained": [{"resourceType": "Practitioner", "id": "inner"}],
    },
    {
        **NAMED,
        "resourceType": "Practitioner",
        "id": "full",
        "active": True,
        "qualification": [{"code": CODED}],
    },
    {
        **NAMED,
        "resourceType": "PractitionerRole",
        "id": "full",
        "active": True,
        "practitioner": {"reference": "Practitioner/full"},
        "code": [CODED],
        "specialty": [CODED],
    },
    {
        **NAMED,
        "resourceType": "ChargeItem",
        "id": "full",
        "status": "billable",
        "code": {"coding": [{"system": "http://www.ama-assn.org/go/cpt", "code": "99457"}]},
        "subject": US,
        "context": {"reference": "Encounter/full"},
        "occurrencePeriod": {"start": "2026-02-01", "end": "2026-02-28"},
        "quantity": {"value": 1},
        "service": [{"reference": "Encounter/full"}],
        "supportingInformation": [{"reference": "Observation/full"}],
    },
    {
        **NAMED,
        "resourceType": "ChargeItem",
        "id": "event",
        "status": "billable",
        "code": {"coding": [{"system": "http://www.ama-assn.org/go/cpt", "code": "98980"}]},
        "subject": US,
        "occurrenceTiming": {"event": ["2026-01-31"]},
        "quantity": {"value": 1},
    },
    {
        **NAMED,
        "resourceType": "Claim",
        "id": "full",
        "status": "active",
        "use": "claim",
        "patient": US,
        "billablePeriod": WHEN,
        "item": [
            {
                "productOrService": {"coding": [{"code": "99457"}], "text": "99457", "extension": []},
                "servicedPeriod": {"start": "2026-02-01", "end": "2026-02-28"},
                "quantity": {"value": 1},
                "detail": [{"productOrService": CODED, "subDetail": [{"productOrService": CODED}]}],
            }
        ],
    },
    {
        **NAMED,
        "resourceType": "ExplanationOfBenefit",
        "id": "full",
        "status": "active",
        "use": "claim",
        "outcome": "complete",
        "patient": US,
        "billablePeriod": WHEN,
        "item": [{"productOrService": CODED, "servicedDate": "2026-02-28", "quantity": {"value": 1}}],
        "addItem": [{"productOrService": {"coding": [{"code": "99457"}]}, "servicedDate": "2026-02-28"}],
    },
    {
        **NAMED,
        "resourceType": "EpisodeOfCare",
        "id": "full",
        "status": "active",
        "patient": US,
        "period": WHEN,
    },
    {
        **NAMED,
        "resourceType": "Consent",
        "id": "full",
        "status": "active",
        "patient": US,
        "dateTime": "2026-03-01",
        "provision": {"type": "permit"},
    },
    {
        **NAMED,
        "resourceType": "ServiceRequest",
        "id": "full",
        "status": "active",
        "intent": "order",
        "doNotPerform": False,
        "code": CODED,
        "orderDetail": [CODED],
        "subject": US,
        "authoredOn": "2026-02-28T10:00:00Z",
    },
    {
        **NAMED,
        "resourceType": "CarePlan",
        "id": "full",
        "status": "active",
        "subject": US,
        "period": WHEN,
        "created": "2026-02-28",
    },
    {
        **NAMED,
        "resourceType": "Coverage",
        "id": "full",
        "status": "active",
        "beneficiary": US,
        "type": CODED,
        "payor": [{"reference": "Organization/1"}],
        "period": WHEN,
        "order": 1,
    },
    {
        **NAMED,
        "resourceType": "Patient",
        "id": "p1",
        "deceasedDateTime": "2026-04-09",
        "deceasedBoolean": True,
    },
]
RESOURCES = [*build_resources(GIVEN, ZONE.key), *FULL]

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
WRITTEN_TIMES = st.builds(
    "{}-{:02}-{:02}T{:02}:{}:{}{}{}".format,
    st.sampled_from(["1900", "1969", "2026", "2199", "2200"]),
    st.integers(1, 12),
    st.integers(1, 31),
    st.integers(0, 24),
    st.sampled_from(["00", "30", "59", "60"]),
    st.sampled_from(["00", "59", "60"]),
    st.sampled_from(["", ".5", ".123", ".999999999"]),
    st.sampled_from(["Z", "+00:00", "-00:00", "-05:00", "+05:30", "+14:00", "-14:00", "+14:01", ""]),
)
"""Times as a server writes them, and some it should not."""
fuzz = settings(max_examples=EXAMPLES, deadline=None, derandomize="FUZZ_EXAMPLES" not in os.environ)
of_each_type = settings(fuzz, max_examples=int(os.environ.get("FUZZ_EXAMPLES", "30")))


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


def evaluated(lines: list[bytes]) -> list[dict[str, Any]]:
    """The answer for each patient found."""
    chart = Chart(TERMINOLOGY, ZONE, AS_OF)
    for number, line in enumerate(lines):
        chart.add(line, None, f"line {number}")
    answers: list[dict[str, Any]] = []
    for patient in chart.patients():
        record = chart.record(patient)
        told = to_contract(record, assess(record, POLICY, AS_OF, all_evidence=True), "medicare", "fuzz")
        check_shape(told)
        # As it goes out: on the command line and to the page.
        msgspec.json.encode(told)
        json.dumps(told, ensure_ascii=False, allow_nan=False).encode()
        answers.append(told)
    return answers


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


@pytest.mark.threat("5.12")
@pytest.mark.parametrize("kind", sorted(READ_TYPES))
@given(data=st.data())
@of_each_type
def test_any_magnitude_in_any_element_of_any_type_stops_nothing(kind: str, data: st.DataObject) -> None:
    chart = list(RESOURCES)
    of_kind = [at for at, resource in enumerate(chart) if resource["resourceType"] == kind]
    at = data.draw(st.sampled_from(of_kind))
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from(sorted(places(chart[at]), key=str) or [("id",)]))
        chart[at] = spoil(chart[at], path, data.draw(MAGNITUDES))
    answers = evaluated([written(resource) for resource in chart])
    assert any(answer["decisions"] for answer in answers)


BUNDLE = {
    "resourceType": "Bundle",
    "type": "searchset",
    "total": 2,
    "timestamp": "2026-04-01T12:00:00Z",
    "link": [{"relation": "next", "url": "https://ehr.example/fhir/Observation?page=2"}],
    "entry": [
        {"fullUrl": "https://ehr.example/fhir/Patient/p1", "resource": FULL[-1], "search": {"mode": "match"}},
        {"fullUrl": "urn:uuid:1", "resource": FULL[0], "search": {"mode": "include", "score": 0.5}},
    ],
}


@pytest.mark.threat("5.12")
@given(st.data())
@fuzz
def test_any_bundle_is_read_entry_by_entry(data: st.DataObject) -> None:
    bundle: dict[str, Any] = BUNDLE
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from(sorted(places(bundle), key=str)))
        bundle = spoil(bundle, path, data.draw(MAGNITUDES | odd))
    body = written(bundle)
    chart = Chart(TERMINOLOGY, ZONE, AS_OF)
    chart.add(body, None, "line 1")
    for patient in chart.patients():
        chart.record(patient)
    given_entries = bundle.get("entry")
    with contextlib.suppress(NotAPage):
        found = search_page(body).entries
        assert len(found) <= (len(given_entries) if isinstance(given_entries, list) else 2)


@pytest.mark.threat("5.12")
@pytest.mark.parametrize(("opening", "closing"), DEEP)
def test_a_resource_nested_too_deeply_is_listed_and_the_rest_is_read(opening: bytes, closing: bytes) -> None:
    deep = b'{"resourceType": "Observation", "id": "deep", "subject": {"reference": "Patient/p1"}, '
    for element in (b'"valueQuantity"', b'"extension"', b'"device"'):
        for end in (closing, b""):
            lines = [deep + element + b":" + opening + end + b"}", *map(written, RESOURCES)]
            assert any(answer["decisions"] for answer in evaluated(lines))


@given(st.one_of(odd_text, TIMES, st.text(max_size=40)))
@fuzz
def test_any_text_is_a_time_or_says_why_it_is_none(text: str) -> None:
    moment = LocalClock(ZONE).read(text)
    if isinstance(moment, Moment):
        assert 1899 <= moment.day.year <= 2200
        LocalClock(ZONE).day_span(moment.day)


@given(st.lists(TIMES | WRITTEN_TIMES, min_size=1, max_size=12))
@fuzz
def test_what_a_time_means_does_not_hang_on_what_was_read_before(texts: list[str]) -> None:
    warm = LocalClock(ZONE)
    for text in texts:
        assert warm.read(text) == LocalClock(ZONE).read(text)


@given(TEXTS | st.text(max_size=60), TEXTS | st.text(max_size=60))
@fuzz
def test_any_text_is_a_reference_or_none(one: str, other: str) -> None:
    references = References("https://ehr.example/fhir")
    references.learn(one or "Device/1", other or None, [Identifier(one, other)])
    references.short(one)
    for pointed in (
        Reference(other),
        Reference(one, other),
        Reference(None, one, Identifier(other, one)),
        Reference(None, None, Identifier(None, other)),
    ):
        references.resolve(pointer(pointed, "Device"))


@pytest.mark.parametrize(
    "reference",
    [
        *map(Reference, ("identifier Device", "identifier Device\0urn:i\0d\0more")),
        Reference(identifier=Identifier("urn:i", "a\0b")),
        Reference(identifier=Identifier("urn\0i", "a")),
        Reference(type="Device\0", identifier=Identifier("urn:i", "a")),
    ],
)
def test_a_reference_that_could_be_taken_for_another_names_nothing(reference: Reference) -> None:
    references = References()
    references.learn("Device/1", None, [Identifier("urn:i", "a\0b"), Identifier("urn\0i", "a")])
    assert references.name(reference, "Device") is None


@given(st.one_of(st.binary(max_size=80), (odd | MAGNITUDES).map(lambda value: written({"entry": value}))))
@fuzz
def test_any_answer_to_a_search_is_a_page_or_is_refused(body: bytes) -> None:
    with contextlib.suppress(NotAPage):
        search_page(body)
    look(body)


OUTCOME = {
    "resourceType": "OperationOutcome",
    "text": {"status": "generated", "div": "<div>no</div>"},
    "issue": [
        {"severity": "error", "code": "required", "diagnostics": "must have a category"},
        {
            "severity": "fatal",
            "code": "throttled",
            "details": {"text": "too many", "coding": [{"code": "x"}]},
        },
    ],
}


@pytest.mark.threat("5.12")
@given(st.data())
@fuzz
def test_any_operation_outcome_is_one_short_plain_line(data: st.DataObject) -> None:
    outcome: dict[str, Any] = OUTCOME
    for _ in range(data.draw(st.integers(1, 3))):
        inside = [path for path in places(outcome) if path != ("issue",)]
        path = data.draw(st.sampled_from(sorted(inside, key=str)))
        outcome = spoil(outcome, path, data.draw(MAGNITUDES | odd))
    said = outcome_text(written(outcome))
    assert len(said) <= 300
    assert said.isprintable()
    said.encode()


@pytest.mark.parametrize("issue", [7, True, 1.5, "text", {}, [[]]])
def test_an_outcome_whose_issue_is_no_list_says_nothing(issue: Any) -> None:
    assert outcome_text(written({"resourceType": "OperationOutcome", "issue": issue})) == ""


@pytest.mark.parametrize("levels", [1100, 100_000])
def test_an_answer_nested_too_deeply_has_nothing_to_say(levels: int) -> None:
    deep = b'{"resourceType": "Bundle", "x": ' + b"[" * levels + b"]" * levels + b"}"
    assert outcome_text(deep.replace(b"Bundle", b"OperationOutcome")) == ""
    assert look(deep) == Look()
    with contextlib.suppress(NotAPage):
        assert search_page(deep).entries == ()


STATEMENT = {
    "resourceType": "CapabilityStatement",
    "fhirVersion": "4.0.1",
    "date": "2026-01-01",
    "rest": [
        {
            "mode": "server",
            "resource": [
                {
                    "type": "ChargeItem",
                    "interaction": [{"code": "create"}, {"code": "search-type"}],
                    "searchParam": [{"name": "identifier", "type": "token"}],
                    "conditionalCreate": True,
                    "updateCreate": False,
                }
            ],
        }
    ],
}


@given(st.data())
@fuzz
def test_any_capability_statement_says_what_may_be_done_with_a_charge(data: st.DataObject) -> None:
    statement: dict[str, Any] = STATEMENT
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from(sorted(places(statement), key=str)))
        statement = spoil(statement, path, data.draw(MAGNITUDES | odd))
    found = parse_capability(written(statement))
    assert found.create <= (b'"create"' in written(statement))
