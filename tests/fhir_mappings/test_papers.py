"""Consents, orders and plans of care: what they are evidence of, and from when to when (section 5, D39)."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from fhir_mappings.rules.statements import holds
from fhir_mappings.vocabulary import Program

from .conftest import ReadChart, Resource

DAY = date(2026, 3, 15)
NUCC = "http://nucc.org/provider-taxonomy"
CPT = "http://www.ama-assn.org/go/cpt"


def consent(**changes: Any) -> Resource:
    return {
        "resourceType": "Consent",
        "id": "c",
        "status": "active",
        "scope": {"coding": [{"code": "treatment"}]},
        "category": [{"coding": [{"system": "http://loinc.org", "code": "59284-0"}]}],
        "patient": {"reference": "Patient/p1"},
        "dateTime": "2026-01-04",
        **changes,
    }


def order(**changes: Any) -> Resource:
    return {
        "resourceType": "ServiceRequest",
        "id": "o",
        "status": "active",
        "intent": "order",
        "subject": {"reference": "Patient/p1"},
        "authoredOn": "2026-01-04",
        "code": {"coding": [{"system": "http://www.ama-assn.org/go/cpt", "code": "98977"}]},
        **changes,
    }


def plan(**changes: Any) -> Resource:
    return {
        "resourceType": "CarePlan",
        "id": "p",
        "status": "active",
        "intent": "plan",
        "subject": {"reference": "Patient/p1"},
        "period": {"start": "2026-01-04"},
        **changes,
    }


def ending(day: str) -> Resource:
    return {"start": "2026-01-04", "end": day}


@pytest.mark.parametrize(("end", "expected"), [("2026-03-14", False), ("2026-03-15", True)])
def test_what_had_ended_before_the_service_shows_nothing_of_it(
    end: str, expected: bool, read: ReadChart
) -> None:
    record = read(
        consent(provision={"type": "permit", "period": ending(end)}),
        order(occurrencePeriod=ending(end)),
        plan(period=ending(end)),
    )
    for papers in (record.consents, record.orders, record.care_plans):
        assert len(papers) == 1
        assert holds(papers, DAY) is expected


LOINC = "http://loinc.org"


@pytest.mark.parametrize(
    ("code", "program"),
    [
        ({"coding": [{"system": CPT, "code": "99454-GP"}]}, Program.RPM),
        ({"coding": [{"system": "urn:ehr:orders", "code": "4711", "display": "CPT(R) 99454"}]}, Program.RPM),
        ({"text": "Remote therapeutic monitoring, 98977"}, Program.RTM),
        ({"concept": {"text": "98977"}}, Program.RTM),
        ({"coding": [{"system": "urn:clinic:flowsheet", "code": "HEP"}]}, Program.RTM),
    ],
)
def test_an_order_names_our_code_as_charges_do_or_what_the_site_declared(
    code: object, program: Program, read: ReadChart
) -> None:
    (found,) = read(order(code=code)).orders
    assert found.program is program


@pytest.mark.parametrize(
    "code",
    [
        {"coding": [{"system": LOINC, "code": "2339-0"}]},
        {"coding": [{"system": LOINC, "code": "44261-6"}]},
        {"coding": [{"system": CPT, "code": "80053"}], "text": "Metabolic panel"},
        {"text": "Follow-up 9945426"},
    ],
)
def test_an_order_to_a_laboratory_or_of_what_is_measured_in_a_clinic_orders_no_monitoring(
    code: object, read: ReadChart
) -> None:
    assert read(order(code=code)).orders == ()


@pytest.mark.parametrize(
    "paper",
    [
        consent(period=ending("2026-02-01")),
        order(occurrenceTiming={"repeat": {"boundsPeriod": ending("2026-02-01")}}),
    ],
)
def test_older_and_newer_versions_tell_the_end_elsewhere(paper: Resource, read: ReadChart) -> None:
    record = read(paper)
    assert [one.until for one in (*record.consents, *record.orders)] == [date(2026, 2, 1)]


def test_one_that_holds_is_enough(read: ReadChart) -> None:
    over = consent(id="over", provision={"period": ending("2026-02-01")})
    assert holds(read(over, consent()).consents, DAY)


def test_an_order_for_later_is_none_before(read: ReadChart) -> None:
    (found,) = read(order(occurrencePeriod={"start": "2026-03-16", "end": "2026-06-01"})).orders
    assert not found.holds_on(DAY)
    assert found.holds_on(date(2026, 3, 16))


@pytest.mark.parametrize("category", ["dnr", "acd", "hcd", "research", "npp", "INFA"])
@pytest.mark.parametrize("scope", [None, {"coding": [{"code": "treatment"}]}])
def test_a_consent_to_something_else_is_none_to_care(
    category: str, scope: Resource | None, read: ReadChart
) -> None:
    other = consent(category=[{"coding": [{"code": category}]}], scope=scope)
    assert read(other).consents == ()
    both = consent(category=[{"coding": [{"code": category}, {"code": "59284-0"}]}])
    assert len(read(both).consents) == 1


@pytest.mark.parametrize("denied", [{"provision": {"type": "deny"}}, {"decision": "deny", "provision": []}])
def test_who_denies_does_not_consent(denied: Resource, read: ReadChart) -> None:
    record = read(consent(**denied))
    assert (record.consents, [one.reason for one in record.excluded]) == ((), ["not-active"])


def test_a_consent_of_r5_names_its_patient_as_subject(read: ReadChart) -> None:
    newer = consent(subject={"reference": "Patient/p1"}, decision="permit", provision=[{"action": []}])
    del newer["patient"], newer["scope"]
    assert len(read(newer).consents) == 1


@pytest.mark.parametrize("intent", ["proposal", "option"])
def test_a_plan_that_nobody_has_decided_on_is_none(intent: str, read: ReadChart) -> None:
    record = read(plan(intent=intent))
    assert (record.care_plans, [one.reason for one in record.excluded]) == ((), ["not-active"])
