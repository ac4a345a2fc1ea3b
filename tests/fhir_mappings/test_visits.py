"""Whose visits take whose minutes (D35)."""

from __future__ import annotations

from datetime import date
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from fhir_mappings.chart import Chart
from fhir_mappings.local_time import MICROSECONDS, LocalClock
from fhir_mappings.record import (
    EpisodeOfCare,
    LiveContact,
    ManagementTime,
    Order,
    PatientRecord,
    Practice,
    PriorCharge,
    Visit,
)
from fhir_mappings.rules.engine import decide
from fhir_mappings.rules.policy import load_policy
from fhir_mappings.rules.tables import shipped_codes
from fhir_mappings.rules.visits import Visits
from fhir_mappings.vocabulary import Activity, ExcludedReason, Outcome, Program, Role

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


# -- of a record, without a chart --------------------------------------------------------------------------

CLOCK = LocalClock(ZoneInfo("America/New_York"))
MARCH, APRIL = date(2026, 3, 1), date(2026, 4, 1)
THAT_DAY, NEXT_DAY = date(2026, 3, 10), date(2026, 3, 11)
DOCTOR, OTHER, NURSE = "Practitioner/doctor", "Practitioner/other", "Practitioner/nurse"
ORDERED = (Order(resource="ServiceRequest/1", program=Program.RTM, requester=DOCTOR),)


def visit(*people: str, day: date = THAT_DAY, unnamed: bool = False) -> Visit:
    return Visit(f"Encounter/v{len(people)}", (day,), frozenset(people), unnamed)


def seen(*visits: Visit, program: Program = Program.RTM, performer: str | None = None, **more: Any) -> Visits:
    """The visits as RTM sees them."""
    record = PatientRecord("Patient/p1", date(2026, 6, 1), CLOCK.zone, visits=visits, **more)
    return Visits(record, program, CLOCK, performer, codes=shipped_codes().programs)


def work(
    role: Role = Role.CLINICAL_STAFF,
    person: str | None = NURSE,
    program: Program = Program.RTM,
    start: int = CLOCK.midnight(THAT_DAY),
    length: int = 60 * MICROSECONDS,
    doubt: ExcludedReason | None = None,
) -> ManagementTime:
    return ManagementTime(
        "Encounter/1", program, Activity.PHONE_CALL, True, person, role, start, start + length, doubt=doubt
    )


@pytest.mark.parametrize(
    ("role", "person", "visits", "takes"),
    [
        (Role.PHYSICIAN, DOCTOR, [], False),
        (Role.PHYSICIAN, DOCTOR, [visit(DOCTOR)], True),
        (Role.PHYSICIAN, OTHER, [visit(OTHER, NURSE), visit(DOCTOR)], True),
        (Role.PHYSICIAN, OTHER, [visit(DOCTOR), visit(OTHER, NURSE)], True),
        (Role.PHYSICIAN, OTHER, [visit(DOCTOR)], False),
        (Role.PHYSICAL_THERAPIST, OTHER, [visit(DOCTOR)], False),
        (Role.CLINICAL_STAFF, NURSE, [visit(DOCTOR), visit(OTHER, OTHER)], True),
        (Role.CLINICAL_STAFF, NURSE, [visit(OTHER)], False),
        (Role.CLINICAL_STAFF, NURSE, [visit(DOCTOR, day=NEXT_DAY)], False),
        (Role.CLINICAL_STAFF, None, [visit(DOCTOR)], True),
        (Role.UNKNOWN, None, [visit(DOCTOR)], True),
        (Role.UNKNOWN, None, [visit(OTHER)], False),
    ],
)
def test_a_visit_takes_its_own_peoples_work_and_that_of_the_programs_staff(
    role: Role, person: str | None, visits: list[Visit], takes: bool
) -> None:
    assert seen(*visits, orders=ORDERED).takes(work(role, person), THAT_DAY) is takes


@pytest.mark.parametrize(
    ("role", "may"),
    [
        (Role.CLINICAL_STAFF, True),
        (Role.UNKNOWN, True),
        (Role.PHYSICIAN, True),
        (Role.QUALIFIED_PROFESSIONAL, True),
        (Role.PHYSICAL_THERAPIST, False),
        (Role.THERAPIST_ASSISTANT, False),
    ],
)
def test_a_visit_of_nobody_knows_whom_may_take_the_work_of_whoever_visits(role: Role, may: bool) -> None:
    whose = seen(visit(OTHER), visit(unnamed=True), visit(DOCTOR, day=NEXT_DAY))
    assert (whose.unclear(THAT_DAY), whose.unclear(NEXT_DAY), whose.unclear(MARCH)) == (True, False, False)
    assert whose.may_take(work(role)) is may
    assert whose.may_take(work(role, start=CLOCK.midnight(THAT_DAY) - 1)) is may
    assert not whose.may_take(work(role, start=CLOCK.midnight(NEXT_DAY)))
    assert not seen(visit(OTHER)).may_take(work(role))


def meeting(*people: str, in_person: bool = True, unnamed: bool = False) -> LiveContact:
    name, none = "Encounter/m", frozenset[Role]()
    return LiveContact(name, Program.RTM, NEXT_DAY, in_person, none, frozenset(people), unnamed)


def test_anything_face_to_face_is_beside_the_work_of_its_day() -> None:
    whose = seen(visit(OTHER), contacts=(meeting(OTHER),))
    there, after, before = (work(start=CLOCK.midnight(day)) for day in (THAT_DAY, NEXT_DAY, MARCH))
    assert [whose.beside([one]) for one in (there, after, before)] == [True, True, False]
    assert whose.beside([before, there])
    assert not whose.beside([])
    assert not seen(contacts=(meeting(OTHER, in_person=False),)).beside([after])


def test_the_first_visit_to_somebody_of_the_program_is_known_by_its_day() -> None:
    visits = visit(OTHER, day=MARCH), visit(DOCTOR, day=NEXT_DAY), visit(DOCTOR)
    assert seen(*visits, orders=ORDERED).first_by_program == THAT_DAY
    assert seen(visit(OTHER), orders=ORDERED).first_by_program is None


@pytest.mark.parametrize(
    ("contact", "may"),
    [
        (meeting(OTHER), False),
        (meeting(OTHER, unnamed=True), True),
        (meeting(DOCTOR, OTHER), True),
        (meeting(NURSE), True),
    ],
)
def test_a_meeting_with_one_of_the_programs_people_may_be_the_months_conversation(
    contact: LiveContact, may: bool
) -> None:
    whose = seen(contacts=(contact,), orders=ORDERED, management=(work(Role.PHYSICIAN),))
    assert whose.may_be_monitoring(contact) is may


EVENING = CLOCK.midnight(APRIL) - 60 * MICROSECONDS


@pytest.mark.parametrize(
    ("time", "march", "april"),
    [
        (work(), True, False),
        (work(program=Program.ANY), True, False),
        (work(program=Program.RPM), False, False),
        (work(doubt=ExcludedReason.IMPLAUSIBLE_SPAN), False, False),
        (work(doubt=ExcludedReason.IMPLAUSIBLE_SPAN, program=Program.ANY), False, False),
        (work(person=None), False, False),
        (work(start=EVENING), True, False),
        (work(start=EVENING, length=60 * MICROSECONDS + 1), True, True),
        (work(start=EVENING, length=0), True, False),
        (work(start=CLOCK.midnight(APRIL), length=0), False, True),
    ],
)
def test_whoever_works_for_the_program_is_one_of_its_people_in_that_month(
    time: ManagementTime, march: bool, april: bool
) -> None:
    whose = seen(visit(NURSE), visit(NURSE, day=APRIL), management=(time,))
    assert (whose.by_program(THAT_DAY), whose.by_program(APRIL)) == (march, april)


def test_one_whom_nobody_knows_hides_nobody_else() -> None:
    whose = seen(visit(NURSE), management=(work(person=None), work()))
    assert whose.by_program(THAT_DAY)


def charged(code: str) -> PriorCharge:
    return PriorCharge("ChargeItem/1", code, 1, None, performers=(DOCTOR, OTHER))


def cared_for(program: Program | None) -> EpisodeOfCare:
    return EpisodeOfCare("EpisodeOfCare/1", None, None, program, DOCTOR)


@pytest.mark.parametrize(
    ("more", "ours"),
    [
        ({}, False),
        ({"orders": ORDERED}, True),
        ({"orders": (Order(resource="ServiceRequest/1", program=Program.RPM, requester=DOCTOR),)}, False),
        ({"episodes": (cared_for(None),)}, True),
        ({"episodes": (cared_for(Program.RTM),)}, True),
        ({"episodes": (cared_for(Program.RPM),)}, False),
        ({"charges": (charged("98977"),)}, True),
        ({"charges": (charged("99454"),)}, False),
        ({"charges": (charged("99213"),)}, False),
        ({"performer": DOCTOR}, True),
        ({"performer": OTHER}, False),
    ],
)
def test_who_ordered_manages_or_performed_the_program_is_of_it_in_any_month(
    more: dict[str, Any], ours: bool
) -> None:
    assert seen(visit(DOCTOR), visit(DOCTOR, day=APRIL), **more).by_program(APRIL) is ours


@pytest.mark.parametrize(
    ("theirs", "stands_in"),
    [
        ([], False),
        ([("here", "207Q00000X")], True),
        ([("elsewhere", "207Q00000X"), ("here", "207Q00000X")], True),
        ([("elsewhere", "207Q00000X")], False),
        ([("here", "207R00000X")], False),
    ],
)
def test_whoever_works_at_the_same_place_in_the_same_specialty_stands_in(
    theirs: list[tuple[str, str]], stands_in: bool
) -> None:
    practices = (
        Practice(DOCTOR, "here", "207Q00000X"),
        *(Practice(OTHER, place, specialty) for place, specialty in theirs),
    )
    assert seen(visit(OTHER), orders=ORDERED, practices=practices).by_program(THAT_DAY) is stands_in
