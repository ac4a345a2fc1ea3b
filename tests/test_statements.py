"""Few statements, and each of them where it belongs (D36, D39): what stands in the place of one, and how many
are left on ordinary charts."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from datetime import date
from importlib.resources import as_file, files
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest

from fhir_mappings.chart import Chart
from fhir_mappings.completeness import Missing, MissingWhy
from fhir_mappings.decision import Decision
from fhir_mappings.rules.engine import assess, decide
from fhir_mappings.rules.policy import Policies
from fhir_mappings.terminology import Terminology, load_terminology
from fhir_mappings.vocabulary import Outcome, Role, Unverified
from launch.sandbox.patients import charts
from launch.sandbox.patients.staff import practice
from smartapp.configuration.site_file import SiteFile, read_site_file
from tests.support.chart import build_resources, site_file

ZONE = ZoneInfo("America/New_York")
AS_OF = date(2026, 4, 10)
MOST_AT_FIRST, MOST_A_MONTH = 4, 1
OF_THE_EPISODE = frozenset(
    {
        Unverified.CONSENT,
        Unverified.ORDER,
        Unverified.PLAN_OF_CARE,
        Unverified.ESTABLISHED_PATIENT,
        Unverified.INITIATING_VISIT,
        Unverified.ENROLMENT,
    }
)
"""Stated once, they hold on."""
Resource = dict[str, Any]


def decided(
    resources: Iterable[Resource], terminology: Terminology, policies: Policies, *missing: Missing
) -> tuple[Decision, ...]:
    chart = Chart(terminology, ZONE, AS_OF)
    for resource in resources:
        chart.add(json.dumps(resource).encode())
    for one in missing:
        chart.add_missing(one)
    (patient,) = chart.patients()
    record = chart.record(patient)
    return assess(record, policies.of(record.payer), AS_OF).decisions


# -- how many ----------------------------------------------------------------------------------------------


def test_a_first_charge_of_the_synthetic_charts_asks_little_and_a_later_month_one_thing_at_most() -> None:
    with as_file(files("launch.sandbox") / "site.yaml") as path:
        site = read_site_file(path)
    terminology, policies = load_terminology(site.terminology), site.policies(None)
    asked = 0
    for story, resources in charts(AS_OF, readings=300):
        decisions = decided([*practice(), *resources], terminology, policies)
        ready = sorted(
            (d for d in decisions if d.outcome is Outcome.SUGGEST and d.service_date is not None),
            key=lambda d: (d.service_date, d.code),
        )
        stated: set[Unverified] = set()
        for number, decision in enumerate(ready):
            left = [entry for entry in decision.unverified if entry not in stated]
            assert len(left) <= (MOST_A_MONTH if number else MOST_AT_FIRST), (story.id, decision.code, left)
            stated |= OF_THE_EPISODE & set(left)
            asked += len(left)
    print(f"\nstatements: {asked} on the synthetic charts")


# -- what stands in the place of one -----------------------------------------------------------------------


GIVEN: list[dict[str, Any]] = [
    {"days": {"of": "BP", "device": "cuff", "from": "2026-03-03", "count": "16"}},
    {"call": {"id": "call", "at": "2026-03-10T10:00", "for": "12:00", "by": "physician", "program": "rpm"}},
    {"review": {"id": "look", "at": "2026-03-12T10:00", "for": "10:00", "by": "nurse", "program": "rpm"}},
    {"visit": {"id": "seen", "at": "2026-02-10T10:00", "for": "15:00", "by": "physician"}},
    {"episode": {"from": "2026-03-01", "raw": {"careManager": {"reference": "Practitioner/physician"}}}},
    {
        "resource": {
            "resourceType": "Consent",
            "id": "agreed",
            "status": "active",
            "patient": {"reference": "Patient/p1"},
        }
    },
    {
        "resource": {
            "resourceType": "ServiceRequest",
            "id": "ordered",
            "status": "active",
            "intent": "order",
            "subject": {"reference": "Patient/p1"},
            "code": {"coding": [{"system": "http://www.ama-assn.org/go/cpt", "code": "99454"}]},
        }
    },
]
FACTS: dict[str, Any] = {
    "staff_employed": True,
    "ask_from": {"staff-employed": "2026-01-01", "initiating-visit": "2026-01-01"},
    "device_facts": [
        {
            "system": "urn:clinic:device",
            "code": "bp-cuff",
            "cleared": "K000001",
            "supplied_by": "practice",
        }
    ],
}


def site_of(facts: dict[str, Any]) -> SiteFile:
    """As `read_site_file` reads it."""
    site = msgspec.convert({**site_file("America/New_York", "medicare", None), **facts}, SiteFile)
    terms = msgspec.structs.replace(site.terminology, device_facts=site.device_facts)
    return msgspec.structs.replace(site, terminology=terms)


def asked_of(resources: list[Resource], facts: dict[str, Any], *missing: Missing) -> dict[str, set[str]]:
    site = site_of(facts)
    decisions = decided(resources, load_terminology(site.terminology), site.policies(None), *missing)
    return {
        d.code: set(map(str, d.unverified))
        for d in decisions
        if d.code in ("99454", "99457") and d.period.start.month == 3
    }


@pytest.fixture
def chart() -> list[Resource]:
    return build_resources(GIVEN, "America/New_York")


def test_a_chart_and_a_site_that_say_all_leave_nothing_to_state(chart: list[Resource]) -> None:
    assert asked_of(chart, FACTS) == {"99454": set(), "99457": set()}


def without(*names: str) -> Callable[[list[Resource]], list[Resource]]:
    return lambda chart: [one for one in chart if f"{one['resourceType']}/{one['id']}" not in names]


def changed(name: str, **elements: Any) -> Callable[[list[Resource]], list[Resource]]:
    return lambda chart: [
        {**one, **elements} if f"{one['resourceType']}/{one['id']}" == name else one for one in chart
    ]


VISITED = {
    "resourceType": "Encounter",
    "id": "skin",
    "status": "finished",
    "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "AMB"},
    "type": [{"coding": [{"system": "urn:clinic:visit", "code": "ANY-VISIT"}]}],
    "subject": {"reference": "Patient/p1"},
    "period": {"start": "2026-03-10T15:00:00-04:00", "end": "2026-03-10T15:20:00-04:00"},
    "participant": [{"individual": {"reference": "Practitioner/dermatologist"}}],
}
OPERATION = {
    "resourceType": "Procedure",
    "id": "knee",
    "status": "completed",
    "subject": {"reference": "Patient/p1"},
    "performedDateTime": "2026-03-01",
}
BARE_TIMES = {"length": {"value": 12, "code": "min"}, "period": {"start": "2026-03-10T10:00:00-04:00"}}


@pytest.mark.parametrize(
    ("take_away", "asked"),
    [
        (without("Consent/agreed"), {"99454": {"consent"}, "99457": {"consent"}}),
        (without("ServiceRequest/ordered"), {"99454": {"order"}, "99457": {"order"}}),
        (
            without("Encounter/seen"),
            {
                "99454": {"established-patient", "initiating-visit"},
                "99457": {"established-patient", "initiating-visit"},
            },
        ),
        (changed("Device/cuff", patient=None), {"99454": {"enrolment"}}),
        (changed("Encounter/call", **BARE_TIMES), {"99457": {"time", "conversation"}}),
        (
            changed(
                "Encounter/call",
                type=[{"coding": [{"system": "http://snomed.info/sct", "code": "185317003"}]}],
            ),
            {"99457": {"time", "conversation"}},
        ),
        (without("PractitionerRole/role-nurse"), {"99457": {"staff-role"}}),
        (
            changed("PractitionerRole/role-physician", code=None),
            {"99457": {"staff-role", "billing-professional"}},
        ),
        (lambda chart: [*chart, VISITED], {"99457": {"same-day-services"}}),
        (lambda chart: [*chart, OPERATION], {"99454": {"global-period"}, "99457": {"global-period"}}),
    ],
)
def test_without_its_evidence_a_statement_returns(
    chart: list[Resource],
    take_away: Callable[[list[Resource]], list[Resource]],
    asked: dict[str, set[str]],
) -> None:
    found = asked_of(take_away(chart), FACTS)
    assert {code: entries for code, entries in found.items() if entries} == asked


@pytest.mark.parametrize(
    ("facts", "asked"),
    [
        ({**FACTS, "staff_employed": None}, {"99457": {"staff-employed"}}),
        ({**FACTS, "device_facts": []}, {"99454": {"fda-device", "device-supplied-by-practice"}}),
        (
            {**FACTS, "device_facts": [{"system": "urn:clinic:device", "code": "bp-cuff", "cleared": "K1"}]},
            {"99454": {"device-supplied-by-practice"}},
        ),
        (
            {**FACTS, "device_facts": [{"type_text": "another", "cleared": "K1", "supplied_by": "practice"}]},
            {"99454": {"fda-device", "device-supplied-by-practice"}},
        ),
    ],
)
def test_without_a_fact_of_the_site_a_statement_returns(
    chart: list[Resource], facts: dict[str, Any], asked: dict[str, set[str]]
) -> None:
    found = asked_of(chart, facts)
    assert {code: entries for code, entries in found.items() if entries} == asked


@pytest.mark.parametrize(
    ("type_", "asked"),
    [
        ("ChargeItem", {"99454": {"prior-charges"}, "99457": {"prior-charges"}}),
        ("Procedure", {"99454": {"global-period"}, "99457": {"global-period"}}),
        (
            "Encounter",
            {
                "99454": {"in-facility", "other-program"},
                "99457": {"same-day-services", "other-program"},
            },
        ),
    ],
)
def test_what_was_not_read_is_to_be_stated(
    chart: list[Resource], type_: str, asked: dict[str, set[str]]
) -> None:
    found = asked_of(chart, FACTS, Missing(type_, MissingWhy.NOT_GRANTED))
    assert {code: entries for code, entries in found.items() if entries} == asked


# -- whoever performs it -----------------------------------------------------------------------------------

NURSE_ALONE: list[dict[str, Any]] = [
    {"days": {"of": "BP", "device": "cuff", "from": "2026-03-03", "count": "16"}},
    {"call": {"id": "call", "at": "2026-03-10T10:00", "for": "22:00", "by": "nurse", "program": "rpm"}},
]


@pytest.mark.parametrize(
    ("performer", "performs_as", "asked"),
    [
        (None, Role.UNKNOWN, True),
        ("Practitioner/7", Role.UNKNOWN, True),
        ("Practitioner/7", Role.PHYSICIAN, False),
        ("Practitioner/7", Role.QUALIFIED_PROFESSIONAL, False),
        ("Practitioner/7", Role.PHYSICAL_THERAPIST, True),
        ("Practitioner/7", Role.CLINICAL_STAFF, True),
    ],
)
def test_whether_the_performer_may_bill_is_stated_only_where_their_role_does_not_show_it(
    performer: str | None, performs_as: Role, asked: bool
) -> None:
    site = site_of(FACTS)
    chart = Chart(load_terminology(site.terminology), ZONE, AS_OF)
    for resource in build_resources(NURSE_ALONE, "America/New_York"):
        chart.add(json.dumps(resource).encode())
    record = chart.record("Patient/p1")
    policy = site.policies(None).of(record.payer)
    decisions = decide(record, policy, AS_OF, performer=performer, performs_as=performs_as)
    (month,) = (d for d in decisions if d.code == "99457" and d.period.start == date(2026, 3, 1))
    assert month.outcome is Outcome.SUGGEST
    assert (Unverified.BILLING_PROFESSIONAL in month.unverified) is asked
