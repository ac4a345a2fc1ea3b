"""What looks like a call or a review where no minute is counted."""

from __future__ import annotations

from datetime import date
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from fhir_mappings.charge_item import IDENTIFIER_SYSTEM
from fhir_mappings.elsewhere import Elsewhere, elsewhere_of
from fhir_mappings.local_time import LocalClock
from fhir_mappings.vocabulary import Activity, Program

CLOCK = LocalClock(ZoneInfo("America/New_York"))
BASE = "https://ehr.example/fhir"
DAY = date(2026, 3, 10)
SUBJECT = {"reference": "Patient/p1"}
MODE = "http://terminology.hl7.org/CodeSystem/v3-ParticipationMode"


def seen(resource: dict[str, Any]) -> Elsewhere | None:
    return elsewhere_of(resource, "Patient/p1", (BASE,), CLOCK)


def communication(**elements: Any) -> dict[str, Any]:
    medium = [{"coding": [{"system": MODE, "code": "PHONE"}]}]
    return {
        "resourceType": "Communication",
        "status": "completed",
        "subject": SUBJECT,
        "medium": medium,
        "sent": "2026-03-11T03:30:00Z",
        **elements,
    }


def note(description: str = "RTM call 12 min", **elements: Any) -> dict[str, Any]:
    return {
        "resourceType": "DocumentReference",
        "status": "current",
        "subject": SUBJECT,
        "description": description,
        "date": "2026-03-10T10:12:00-04:00",
        "content": [{"attachment": {"contentType": "text/plain"}}],
        **elements,
    }


def appointment(**elements: Any) -> dict[str, Any]:
    return {
        "resourceType": "Appointment",
        "status": "fulfilled",
        "description": "Telephone follow-up",
        "start": "2026-03-10T10:00:00-04:00",
        "end": "2026-03-10T10:15:30-04:00",
        "participant": [{"actor": {"reference": "Practitioner/7"}}, {"actor": SUBJECT}],
        **elements,
    }


def test_a_phone_communication_is_a_call_on_the_patients_local_day() -> None:
    assert seen(communication()) == Elsewhere("Communication", DAY, Activity.PHONE_CALL)


def test_a_note_says_program_and_minutes_in_its_short_texts() -> None:
    found = Elsewhere("DocumentReference", DAY, Activity.PHONE_CALL, Program.RTM, 12)
    assert seen(note()) == found
    titled = note("", content=[{"attachment": {"title": "RTM call, 12 minutes"}}])
    assert seen(titled) == found


def test_what_was_written_to_or_about_the_patient_is_not_read() -> None:
    told = communication(medium=None, payload=[{"contentString": "RTM call 12 min"}], note=[{"text": "call"}])
    assert seen(told) is None


def test_an_appointment_has_a_planned_length_rounded_down() -> None:
    assert seen(appointment()) == Elsewhere("Appointment", DAY, Activity.PHONE_CALL, minutes=15, planned=True)
    told = seen(appointment(end=None, minutesDuration=20))
    assert told is not None
    assert (told.minutes, told.planned) == (20, True)


def test_a_notes_own_period_goes_before_its_words() -> None:
    period = {"start": "2026-03-09T10:00:00-04:00", "end": "2026-03-09T10:08:59-04:00"}
    told = seen(note(context={"period": period, "encounter": [{"reference": f"{BASE}/Encounter/e1"}]}))
    assert told is not None
    assert (told.day, told.minutes, told.encounters) == (date(2026, 3, 9), 8, {"Encounter/e1"})


@pytest.mark.parametrize(
    ("description", "minutes"),
    [
        ("RPM call", None),
        ("RPM call 12 min, review 8 min", None),
        ("RPM call 12min", 12),
        ("RPM call 12:30 min", None),
        ("RPM call 999 minutes", None),
        ("RPM call, 20 minimum", None),
    ],
)
def test_minutes_are_told_only_where_one_length_is_written(description: str, minutes: int | None) -> None:
    told = seen(note(description))
    assert told is not None
    assert (told.program, told.minutes) == (Program.RPM, minutes)


@pytest.mark.parametrize(
    ("description", "activity"),
    [
        ("Video visit", Activity.VIDEO_CALL),
        ("Called patient about inhaler", Activity.PHONE_CALL),
        ("Remote therapeutic monitoring", Activity.DATA_REVIEW),
        ("RPM data review", Activity.DATA_REVIEW),
        ("Chart review", None),
        ("Recalled device", None),
        ("", None),
    ],
)
def test_what_a_note_looks_like(description: str, activity: Activity | None) -> None:
    told = seen(note(description))
    assert (None if told is None else told.activity) == activity


@pytest.mark.parametrize(
    "resource",
    [
        communication(status="in-progress"),
        communication(status="not-done"),
        communication(subject={"reference": "Patient/p2"}),
        communication(subject={"reference": "https://other.example/fhir/Patient/p1"}),
        communication(subject=None),
        communication(sent=None),
        communication(medium=[{"coding": [{"system": MODE, "code": "EMAILWRIT"}], "text": "call me"}]),
        communication(medium=[], category=[{"text": "RTM message"}]),
        note(status="superseded"),
        note(docStatus="entered-in-error"),
        note("Remote monitoring charge", identifier=[{"system": IDENTIFIER_SYSTEM, "value": "k"}]),
        appointment(status="booked"),
        appointment(status="noshow"),
        appointment(description="Office visit"),
        appointment(participant=[{"actor": SUBJECT}, {"actor": {"reference": "Patient/p2"}}]),
        {"resourceType": "Observation", "status": "final", "subject": SUBJECT},
        {"resourceType": "Communication", "status": ["completed"], "medium": 3},
        {},
    ],
)
def test_what_is_none(resource: dict[str, Any]) -> None:
    assert seen(resource) is None
