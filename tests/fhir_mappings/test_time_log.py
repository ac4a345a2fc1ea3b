"""A logged entry becomes an Encounter, and is counted like any other."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from fhir.resources.R4B.encounter import Encounter as Model

from fhir_mappings.encounter import LONGEST_PLAUSIBLE_SPAN
from fhir_mappings.local_time import MICROSECONDS
from fhir_mappings.rules.engine import assess
from fhir_mappings.rules.policy import load_policy
from fhir_mappings.terminology import load_terminology
from fhir_mappings.time_log import (
    LOGGED_ACTIVITIES,
    LONGEST,
    STATED_ROLES,
    EntryProblem,
    LoggedTime,
    encounter_of,
    entry_id_of,
    missing_of,
    problem_of,
    says_the_same,
    span_of,
    span_on,
)
from fhir_mappings.vocabulary import Activity, ExcludedReason, Outcome, Program, Role

ZONE = ZoneInfo("America/New_York")
NOW = datetime(2026, 4, 1, 12, 0, tzinfo=UTC)
ID = "5f0c1c8e-6f57-4b6c-8c4e-0d5a3f3a8a01"
START = datetime(2026, 3, 10, 10, 0, tzinfo=ZONE)


def logged(**changes):
    entry = {
        "start": START,
        "end": START + timedelta(minutes=25),
        "person": "Practitioner/dr",
        "person_name": "Dr Example",
        "activity": Activity.PHONE_CALL,
        "program": Program.RTM,
        "live": True,
    }
    return LoggedTime(**(entry | changes))


def encounter(**changes):
    return encounter_of(ID, "Patient/p1", logged(**changes), ZONE)


@pytest.fixture
def record_of(chart):
    """The record of p1 in these resources, our own Encounters under their urn."""

    def record(*resources):
        found = chart({"resourceType": "Patient", "id": "p1"})
        for resource in resources:
            text = json.dumps(resource).encode()
            if resource.get("id"):
                found.add(text)
            else:
                found.add_own(text, f"urn:uuid:{entry_id_of(resource)}")
        return found.record("Patient/p1")

    return record


# The Encounter


@pytest.mark.parametrize("role", [None, *STATED_ROLES])
@pytest.mark.parametrize("activity", LOGGED_ACTIVITIES)
@pytest.mark.parametrize("program", [Program.RTM, Program.RPM])
def test_every_entry_that_can_be_made_is_a_valid_r4_encounter(activity, program, role):
    live = activity not in (Activity.DATA_REVIEW, Activity.MESSAGE)
    Model.model_validate(encounter(activity=activity, program=program, live=live, role=role))


def test_it_says_what_it_is_and_carries_the_entrys_identifier():
    made = encounter()
    assert made["type"][0]["text"] == "RTM phone call, logged in this app"
    assert made["type"][0]["coding"][0] == {
        "system": "urn:smart-remote-monitoring:activity",
        "code": "rtm-phone-call",
    }
    assert made["identifier"] == [{"system": "urn:smart-remote-monitoring:time-log", "value": ID}]
    assert made["class"]["code"] == "VR"
    assert made["period"] == {"start": "2026-03-10T10:00:00-04:00", "end": "2026-03-10T10:25:00-04:00"}
    assert entry_id_of(made) == ID
    assert "id" not in made


@pytest.mark.parametrize(
    ("activity", "live", "class_"),
    [
        (Activity.VIDEO_CALL, True, "VR"),
        (Activity.IN_PERSON, True, "AMB"),
        (Activity.MESSAGE, False, "VR"),
        (Activity.DATA_REVIEW, False, "NA"),
    ],
)
def test_only_contact_at_a_distance_is_virtual(activity, live, class_):
    assert encounter(activity=activity, live=live)["class"]["code"] == class_


def test_every_activity_that_can_be_logged_is_in_the_shipped_terminology():
    from fhir_mappings.resources import Coding

    terminology = load_terminology()
    for program in (Program.RTM, Program.RPM):
        for activity in LOGGED_ACTIVITIES:
            coding = Coding("urn:smart-remote-monitoring:activity", f"{program}-{activity}")
            meaning = terminology.encounter([coding], None)
            assert (meaning.activity, meaning.program, meaning.by_site) == (activity, program, True)


def test_the_longest_entry_is_the_longest_plausible_span():
    assert LONGEST.total_seconds() * MICROSECONDS == LONGEST_PLAUSIBLE_SPAN


# Counting


def test_a_logged_call_counts_as_time_and_as_the_conversation(record_of):
    record = record_of(encounter())
    (management,) = record.management
    assert management.resource == f"urn:uuid:{ID}"
    assert (management.end - management.start) // MICROSECONDS == 25 * 60
    assert management.clear
    (contact,) = record.contacts
    assert not contact.in_person


def test_a_review_of_data_is_time_and_no_conversation(record_of):
    record = record_of(encounter(activity=Activity.DATA_REVIEW, live=False))
    assert len(record.management) == 1
    assert record.contacts == ()


def test_a_logged_set_up_documents_the_set_up(record_of):
    record = record_of(encounter(activity=Activity.SETUP_EDUCATION))
    assert [set_up.day for set_up in record.set_ups] == [date(2026, 3, 10)]
    assert record.management == ()


def test_the_ehrs_copy_and_the_entry_are_one_contact(record_of):
    record = record_of(encounter(), {**encounter(), "id": "e1"})
    assert [time.resource for time in record.management] == ["Encounter/e1"]
    assert len(record.contacts) == 1
    assert [(e.resource, e.reason) for e in record.excluded] == [(f"urn:uuid:{ID}", ExcludedReason.DUPLICATE)]


def test_two_copies_in_the_ehr_are_one_contact_too(record_of):
    record = record_of({**encounter(), "id": "e2"}, {**encounter(), "id": "e1"})
    assert [time.resource for time in record.management] == ["Encounter/e1"]


def test_a_copy_that_was_taken_back_does_not_hide_the_entry(record_of):
    record = record_of(encounter(), {**encounter(), "id": "e1", "status": "entered-in-error"})
    assert [time.resource for time in record.management] == [f"urn:uuid:{ID}"]


def test_two_entries_are_two_contacts(record_of):
    other = encounter_of("another", "Patient/p1", logged(), ZONE)
    assert len(record_of(encounter(), other).management) == 2


# Whose time


PRACTITIONER = {"resourceType": "Practitioner", "id": "dr"}
NUCC = "http://nucc.org/provider-taxonomy"


def qualified(code):
    return {**PRACTITIONER, "qualification": [{"code": {"coding": [{"system": NUCC, "code": code}]}}]}


def role_in(record):
    return record.management[0].role


def test_the_stated_role_speaks_where_the_ehr_says_nothing(record_of):
    record = record_of(encounter(role=Role.PHYSICIAN), PRACTITIONER)
    assert role_in(record) is Role.PHYSICIAN
    assert record.management[0].person == "Practitioner/dr"


def test_the_ehrs_own_word_about_somebody_comes_first(record_of):
    assert role_in(record_of(encounter(role=Role.PHYSICIAN), qualified("163W00000X"))) is Role.CLINICAL_STAFF


def test_without_a_stated_role_the_ehr_is_asked_as_for_every_encounter(record_of):
    assert role_in(record_of(encounter(), qualified("207Q00000X"))) is Role.PHYSICIAN
    assert role_in(record_of(encounter(), PRACTITIONER)) is Role.UNKNOWN


def roles(*codes):
    return [
        {
            "resourceType": "PractitionerRole",
            "id": f"role-{code}",
            "practitioner": {"reference": "Practitioner/dr"},
            "code": [{"coding": [{"system": NUCC, "code": code}]}],
        }
        for code in codes
    ]


def test_of_several_roles_in_the_ehr_the_stated_one_is_believed_and_a_foreign_one_is_not(record_of):
    two = roles("207Q00000X", "163W00000X")
    assert role_in(record_of(encounter(role=Role.CLINICAL_STAFF), PRACTITIONER, *two)) is Role.CLINICAL_STAFF
    stranger = encounter(role=Role.PHYSICAL_THERAPIST)
    assert role_in(record_of(stranger, PRACTITIONER, *two)) is Role.UNKNOWN


@pytest.mark.parametrize("role", [role for role in STATED_ROLES if role is not Role.NON_CLINICAL])
def test_every_role_that_can_be_stated_is_read_back(record_of, role):
    assert role_in(record_of(encounter(role=role))) is role


def test_the_time_of_non_clinical_staff_does_not_count(record_of):
    assert record_of(encounter(role=Role.NON_CLINICAL)).management == ()


def test_a_contained_reference_that_leads_nowhere_is_an_unknown_person(record_of):
    made = encounter(role=Role.PHYSICIAN)
    del made["contained"]
    assert role_in(record_of(made)) is Role.UNKNOWN


# To the rules


def readings(count):
    return [
        {
            "resourceType": "Observation",
            "id": f"o{number}",
            "status": "final",
            "code": {"coding": [{"system": "urn:clinic:flowsheet", "code": "HEP"}]},
            "subject": {"reference": "Patient/p1"},
            "effectiveDateTime": f"2026-03-{number + 1:02}T08:00:00-05:00",
            "valueInteger": number,
        }
        for number in range(count)
    ]


@pytest.mark.parametrize(("minutes", "suggested"), [(19, False), (20, True)])
def test_twenty_logged_minutes_with_a_call_lead_to_suggest(record_of, minutes, suggested):
    made = encounter(end=START + timedelta(minutes=minutes), role=Role.PHYSICIAN)
    record = record_of(made, *readings(20))
    answer = assess(record, load_policy("medicare"), date(2026, 4, 1))
    found = next(
        one for one in answer.decisions if one.code == "98980" and one.period.start == date(2026, 3, 1)
    )
    assert (found.outcome is Outcome.SUGGEST) is suggested
    assert found.requirements[0].found == minutes * 60


# Local time


def test_a_length_alone_counts_on_its_day_in_full_and_says_no_time(record_of):
    start, end = span_on(date(2026, 3, 8), timedelta(minutes=25), ZONE)
    made = encounter(start=start, end=end, day=date(2026, 3, 8))
    Model.model_validate(made)
    assert made["period"] == {"start": "2026-03-08", "end": "2026-03-08"}
    (found,) = record_of(made).management
    assert (found.seconds, found.documented) == (25 * 60, False)
    assert says_the_same(made, made)
    assert not says_the_same(made, encounter(start=start, end=end + timedelta(minutes=5), day=start.date()))


def test_a_span_across_midnight_names_its_second_day():
    start, end = span_of(date(2026, 3, 10), time(23, 50), date(2026, 3, 11), time(0, 15), ZONE)
    assert end - start == timedelta(minutes=25)


def test_an_end_before_the_start_is_no_span():
    assert span_of(date(2026, 3, 10), time(10), date(2026, 3, 10), time(9), ZONE) is (
        EntryProblem.END_BEFORE_START
    )


def test_across_the_hour_that_is_skipped_only_elapsed_time_counts():
    start, end = span_of(date(2026, 3, 8), time(1, 50), date(2026, 3, 8), time(3, 10), ZONE)
    assert end - start == timedelta(minutes=20)
    assert encounter(start=start, end=end)["period"] == {
        "start": "2026-03-08T01:50:00-05:00",
        "end": "2026-03-08T03:10:00-04:00",
    }


def test_a_time_that_the_clocks_skipped_never_was():
    assert span_of(date(2026, 3, 8), time(2, 30), date(2026, 3, 8), time(3, 10), ZONE) is (
        EntryProblem.NO_SUCH_TIME
    )


@pytest.mark.parametrize(
    ("start", "end", "minutes"),
    [
        (time(1, 20), time(1, 40), 20),
        (time(1, 40), time(1, 20), 40),
        (time(0, 50), time(1, 20), 30),
        (time(1, 40), time(2, 10), 30),
        (time(0, 30), time(2, 30), 180),
    ],
)
def test_in_the_hour_that_comes_twice_the_shorter_span_is_believed(start, end, minutes):
    day = date(2026, 11, 1)
    began, ended = span_of(day, start, day, end, ZONE)
    assert ended - began == timedelta(minutes=minutes)


# What is refused


@pytest.mark.parametrize(
    ("seconds", "problem"),
    [
        (-1, EntryProblem.END_BEFORE_START),
        (0, EntryProblem.NO_LENGTH),
        (1, None),
        (4 * 60 * 60, None),
        (4 * 60 * 60 + 1, EntryProblem.TOO_LONG),
    ],
)
def test_an_entry_lasts_between_a_second_and_four_hours(seconds, problem):
    assert problem_of(logged(end=START + timedelta(seconds=seconds)), NOW) is problem


def test_an_entry_ends_now_at_the_latest():
    assert problem_of(logged(start=NOW - timedelta(minutes=5), end=NOW), NOW) is None
    late = logged(start=NOW - timedelta(minutes=5), end=NOW + timedelta(seconds=1))
    assert problem_of(late, NOW) is EntryProblem.IN_THE_FUTURE


@pytest.mark.parametrize(
    ("changes", "missing"),
    [
        ({"activity": None}, (EntryProblem.NO_ACTIVITY,)),
        ({"activity": Activity.VISIT}, (EntryProblem.NO_ACTIVITY,)),
        ({"program": Program.ANY}, (EntryProblem.NO_PROGRAM,)),
        ({"live": None}, (EntryProblem.NOT_SAID_WHETHER_LIVE,)),
        ({"live": False}, (EntryProblem.CALL_WITHOUT_CONVERSATION,)),
        ({"activity": Activity.MESSAGE}, (EntryProblem.CONVERSATION_WITHOUT_CALL,)),
        ({"person": ""}, (EntryProblem.NO_PERSON,)),
        ({}, ()),
    ],
)
def test_what_is_missing_or_contradicts_itself_is_named(changes, missing):
    assert missing_of(logged(**changes)) == missing
    if missing:
        with pytest.raises(ValueError, match="not complete"):
            encounter(**changes)


# The EHR's copy


def test_an_ehr_may_add_to_its_copy_and_write_times_another_way():
    held = encounter()
    held = {
        **held,
        "id": "e1",
        "meta": {"versionId": "1"},
        "serviceProvider": {"reference": "Organization/o"},
    }
    held["period"] = {"start": "2026-03-10T14:00:00Z", "end": "2026-03-10T14:25:00.000Z"}
    assert says_the_same(held, encounter())


@pytest.mark.parametrize(
    "changes",
    [
        {"status": "entered-in-error"},
        {"period": {"start": "2026-03-10T14:00:00Z", "end": "2026-03-10T14:30:00Z"}},
        {"period": {}},
        {"participant": []},
        {"type": []},
        {"contained": "nonsense", "participant": [None, "x"]},
    ],
)
def test_a_copy_that_states_something_else_is_told_apart(changes):
    assert not says_the_same({**encounter(role=Role.PHYSICIAN), **changes}, encounter(role=Role.PHYSICIAN))


@pytest.mark.parametrize("identifier", [None, "x", [None], [{"system": "urn:other", "value": ID}], [{}]])
def test_an_encounter_of_anybody_else_is_no_entry(identifier):
    assert entry_id_of({"resourceType": "Encounter", "identifier": identifier}) is None
