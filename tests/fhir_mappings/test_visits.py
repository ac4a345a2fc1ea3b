"""Whose visits take whose minutes (D35)."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from fhir_mappings.chart import Chart
from fhir_mappings.record import PatientRecord
from fhir_mappings.rules.engine import decide
from fhir_mappings.rules.policy import load_policy
from fhir_mappings.vocabulary import Outcome

from .conftest import ReadChart, Resource

NUCC = "http://nucc.org/provider-taxonomy"


def somebody(id: str, taxonomy: str) -> list[Resource]:
    return [
        {"resourceType": "Practitioner", "id": id},
        {
            "resourceType": "PractitionerRole",
            "id": f"role-{id}",
            "practitioner": {"reference": f"Practitioner/{id}"},
            "code": [{"coding": [{"system": NUCC, "code": taxonomy}]}],
        },
    ]


def encounter(id: str, start: str, end: str, by: str, **more: Any) -> Resource:
    return {
        "resourceType": "Encounter",
        "id": id,
        "status": "finished",
        "subject": {"reference": "Patient/p1"},
        "period": {"start": f"2026-03-10T{start}:00-04:00", "end": f"2026-03-10T{end}:00-04:00"},
        "participant": [{"individual": {"reference": by}}],
        **more,
    }


def own(code: str) -> Resource:
    return {"type": [{"coding": [{"system": "urn:clinic:visit", "code": code}]}]}


VISIT = {"type": [{"coding": [{"system": "http://www.ama-assn.org/go/cpt", "code": "99213"}]}]}


@pytest.fixture
def month(read: ReadChart) -> PatientRecord:
    """A nurse's call on the day of a visit to a physician who has no part in the month."""
    diary = [
        {
            "resourceType": "Observation",
            "id": f"o{day}",
            "status": "final",
            "code": {"coding": [{"system": "urn:clinic:flowsheet", "code": "HEP"}]},
            "subject": {"reference": "Patient/p1"},
            "effectiveDateTime": f"2026-03-0{day}T08:00:00-05:00",
            "valueInteger": 3,
        }
        for day in (2, 3)
    ]
    call = encounter("call", "09:00", "09:21", "PractitionerRole/role-rn", **own("CALL"))
    visit = encounter("visit", "15:00", "15:15", "PractitionerRole/role-md", **VISIT)
    return read(*diary, *somebody("rn", "163W00000X"), *somebody("md", "207Q00000X"), call, visit)


def outcome(record: PatientRecord, performer: str | None) -> Outcome:
    decisions = decide(record, load_policy("medicare"), date(2026, 4, 1), performer=performer)
    return next(d.outcome for d in decisions if d.code == "98980" and d.period.start.month == 3)


def test_the_visit_of_whoever_is_chosen_to_perform_the_charge_takes_the_minutes_of_staff(
    month: PatientRecord,
) -> None:
    assert outcome(month, None) is Outcome.REVIEW
    assert outcome(month, "Practitioner/rn") is Outcome.REVIEW
    assert outcome(month, "Practitioner/md") is Outcome.OUT_OF_REACH


def test_a_person_has_one_name_whichever_of_their_roles_leads_to_them(chart: Any) -> None:
    found: Chart = chart({"resourceType": "Patient", "id": "p1"}, *somebody("md", "207Q00000X"))
    assert found.person_of("PractitionerRole/role-md") == "Practitioner/md"
    assert found.person_of("Practitioner/md") == "Practitioner/md"
    assert found.person_of("Patient/p1") is None
