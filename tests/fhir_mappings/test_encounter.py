"""Encounter -> management time, contact, set-up, visit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fhir_mappings.record import PatientRecord
from fhir_mappings.vocabulary import Role

Resource = dict[str, Any]
Read = Callable[..., PatientRecord]
VISIT = "urn:clinic:visit"
MINUTE = 60 * 1_000_000


def call(id: str = "e1", **changes: Any) -> Resource:
    resource: Resource = {
        "resourceType": "Encounter",
        "id": id,
        "status": "finished",
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "VR"},
        "type": [{"coding": [{"system": VISIT, "code": "CALL"}]}],
        "subject": {"reference": "Patient/p1"},
        "period": {"start": "2026-03-10T10:00:00-04:00", "end": "2026-03-10T10:12:00-04:00"},
        **changes,
    }
    return {key: value for key, value in resource.items() if value is not None}


def minutes(record: PatientRecord) -> list[float]:
    return [
        (time.end - time.start) / MINUTE if time.seconds is None else time.seconds / 60
        for time in record.management
    ]


def left_out(record: PatientRecord) -> dict[str, str]:
    return {entry.resource: str(entry.reason) for entry in record.excluded}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, 12),
        ({"length": {"value": 10, "unit": "min", "code": "min"}}, 10),
        ({"length": {"value": 20, "code": "min"}}, 12),
        ({"length": {"value": 0.1, "unit": "hours"}}, 6),
        ({"length": {"value": 3, "unit": "units"}}, 12),
        ({"period": {"start": "2026-03-10T10:00:00-04:00"}, "length": {"value": 9, "code": "min"}}, 9),
        ({"period": {"start": "2026-03-10"}, "length": {"value": 9, "code": "min"}}, 9),
        # the hour that the clocks skip is no hour of work
        ({"period": {"start": "2026-03-08T01:55:00-05:00", "end": "2026-03-08T03:05:00-04:00"}}, 10),
        ({"period": {"start": "2026-03-10T10:00:00-04:00", "end": "2026-03-10T14:00:00-04:00"}}, 240),
    ],
)
def test_a_span_is_what_period_and_length_give_together(
    changes: Resource, expected: float, read: Read
) -> None:
    record = read(call(**changes))
    assert minutes(record) == [expected]
    assert [time.doubt for time in record.management] == [None]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"status": "planned"}, "planned"),
        ({"status": "in-progress"}, "in-progress"),
        ({"status": "cancelled"}, "cancelled"),
        ({"status": "entered-in-error"}, "entered-in-error"),
        ({"status": "completed"}, "status-not-known"),
        ({"status": None}, "no-status"),
        ({"period": None}, "no-date"),
        ({"period": {"end": "2026-03-10T10:12:00-04:00"}}, "no-date"),
        ({"period": {"start": "2026-03"}}, "partial-date"),
        ({"period": {"start": "2026-03-10T10:00:00-04:00"}}, "no-duration"),
        ({"period": {"start": "2026-03-10", "end": "2026-03-10"}}, "no-duration"),
        (
            {"period": {"start": "2026-03-10T10:00:00-04:00", "end": "2026-03-10T10:00:00-04:00"}},
            "zero-duration",
        ),
        (
            {"period": {"start": "2026-03-10T10:12:00-04:00", "end": "2026-03-10T10:00:00-04:00"}},
            "backward-period",
        ),
        (
            {"period": {"start": "2026-03-10T10:00:00-04:00", "end": "2026-03-10T14:00:01-04:00"}},
            "implausible-span",
        ),
        (
            {"period": {"start": "2026-04-02T10:00:00-04:00", "end": "2026-04-02T10:10:00-04:00"}},
            "after-as-of",
        ),
        ({"type": None, "class": {"code": "XYZ"}}, "activity-not-configured"),
        ({"type": None, "class": {"system": "urn:local", "code": "VR"}}, "activity-not-configured"),
        ({"type": None, "class": {"code": "AMB"}}, "not-management"),
        (
            {"type": [{"coding": [{"system": "http://www.ama-assn.org/go/cpt", "code": "99213"}]}]},
            "billed-elsewhere",
        ),
    ],
)
def test_an_encounter_that_gives_no_time_says_why(changes: Resource, reason: str, read: Read) -> None:
    assert left_out(read(call(**changes))) == {"Encounter/e1": reason}


def participant(who: str, start: str | None = None, end: str | None = None) -> Resource:
    period = {key: value for key, value in (("start", start), ("end", end)) if value}
    return {"individual": {"reference": who}, **({"period": period} if period else {})}


NURSE: Resource = {
    "resourceType": "PractitionerRole",
    "id": "r1",
    "practitioner": {"reference": "Practitioner/n1"},
    "code": [{"coding": [{"system": "http://nucc.org/provider-taxonomy", "code": "163W00000X"}]}],
}


def test_a_persons_own_period_says_how_long_they_took_part(read: Read) -> None:
    own = participant("Practitioner/n1", "2026-03-10T10:02:00-04:00", "2026-03-10T10:07:00-04:00")
    assert minutes(read(call(participant=[own]), NURSE)) == [5]


def test_a_persons_own_period_serves_where_the_encounter_has_none(read: Read) -> None:
    own = participant("Practitioner/n1", "2026-03-10T10:02:00-04:00", "2026-03-10T10:07:00-04:00")
    assert minutes(read(call(participant=[own], period=None), NURSE)) == [5]


@pytest.mark.parametrize("who", ["PractitionerRole/r1", "Practitioner/n1"])
def test_a_role_is_found_through_either_reference(who: str, read: Read) -> None:
    (time,) = read(call(participant=[participant(who)]), NURSE).management
    assert (time.person, time.role) == ("Practitioner/n1", Role.CLINICAL_STAFF)


def test_patients_and_relatives_are_no_staff(read: Read) -> None:
    others = [participant("Patient/p1"), participant("RelatedPerson/x")]
    (time,) = read(call(participant=[*others, participant("Practitioner/n1")]), NURSE).management
    assert time.role is Role.CLINICAL_STAFF


def test_without_participants_the_role_is_unknown(read: Read) -> None:
    (time,) = read(call()).management
    assert (time.person, time.role) == (None, Role.UNKNOWN)


def test_an_encounter_of_another_charge_counts_for_nothing(read: Read) -> None:
    charge = {
        "resourceType": "ChargeItem",
        "id": "c1",
        "status": "billed",
        "code": {"coding": [{"system": "http://www.ama-assn.org/go/cpt", "code": "99213"}]},
        "subject": {"reference": "Patient/p1"},
        "context": {"reference": "Encounter/e1"},
    }
    record = read(call(), charge)
    assert left_out(record) == {"Encounter/e1": "billed-elsewhere"}
    assert [visit.resource for visit in record.visits] == ["Encounter/e1"]


def test_our_own_charge_does_not_take_its_encounter_away(read: Read) -> None:
    charge = {
        "resourceType": "ChargeItem",
        "id": "c1",
        "status": "planned",
        "code": {"coding": [{"system": "http://www.ama-assn.org/go/cpt", "code": "98980"}]},
        "subject": {"reference": "Patient/p1"},
        "context": {"reference": "Encounter/e1"},
    }
    assert minutes(read(call(), charge)) == [12]


def test_a_sites_coding_makes_a_clear_call_and_a_class_alone_an_unclear_one(read: Read) -> None:
    assert [time.clear for time in read(call()).management] == [True]
    assert [time.clear for time in read(call(type=None)).management] == [False]
