"""Encounter -> management time, contact, set-up, visit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fhir_mappings.chart import Chart
from fhir_mappings.record import PatientRecord
from fhir_mappings.vocabulary import Role

Resource = dict[str, Any]
Read = Callable[..., PatientRecord]
VISIT = "urn:clinic:visit"
NUCC = "http://nucc.org/provider-taxonomy"
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
        *(
            ({"length": {"value": 3, "code": "min", "comparator": sign}}, 12)
            for sign in ("<", "<=", ">=", ">", "ad")
        ),
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
        ({"status": "discontinued"}, "status-not-known"),
        ({"status": None}, "no-status"),
        ({"period": None}, "no-date"),
        ({"period": {"end": "2026-03-10T10:12:00-04:00"}}, "no-date"),
        ({"period": {"start": "2026-03"}}, "partial-date"),
        ({"period": {"start": "2026-03-10T10:00:00-04:00"}}, "no-duration"),
        (
            {
                "period": {"start": "2026-03-10T10:00:00-04:00"},
                "length": {"value": 20, "code": "min", "comparator": "<"},
            },
            "no-duration",
        ),
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


@pytest.mark.parametrize(
    ("start", "end", "counted"),
    [
        ("2026-03-10T07:00:00-04:00", None, 12),
        (None, "2026-03-10T15:00:00-04:00", 12),
        ("2026-02-02T09:00:00-05:00", None, 12),
        ("2026-03-10T10:04:00-04:00", None, 8),
        (None, "2026-03-10T10:08:00-04:00", 8),
        ("2026-03-10", None, 12),
        ("2026-03-10", "2026-03-10", 12),
        ("2026-03-09", "2026-03-11", 12),
        ("2026-03-10T07:00:00-04:00", "2026-03-10", 12),
    ],
)
def test_a_period_that_leaves_a_time_of_day_open_only_narrows_the_encounters(
    start: str | None, end: str | None, counted: int, read: Read
) -> None:
    told = {"start": "2026-03-10T10:00:00-04:00", "end": "2026-03-10T10:12:00-04:00"}
    assigned = participant("Practitioner/n1", start, end)
    assert minutes(read(call(period=told, participant=[assigned]), NURSE)) == [counted]


@pytest.mark.parametrize(("start", "end"), [("2026-03-11", None), (None, "2026-03-09")])
def test_a_day_on_which_the_encounter_was_not_makes_no_minutes(
    start: str | None, end: str | None, read: Read
) -> None:
    told = {"start": "2026-03-10T10:00:00-04:00", "end": "2026-03-10T10:12:00-04:00"}
    assert not read(
        call(period=told, participant=[participant("Practitioner/n1", start, end)]), NURSE
    ).management


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


RELATIVE: Resource = {"resourceType": "RelatedPerson", "id": "r1", "patient": {"reference": "Patient/p1"}}


@pytest.mark.parametrize(
    "individual",
    [
        {"reference": "RelatedPerson/r1"},
        {"reference": "RelatedPerson/r1/_history/2"},
        {"reference": "https://ehr.example/fhir/RelatedPerson/r1"},
        {"reference": "#r1"},
        {"reference": "Patient/p1"},
        {"reference": "Device/robot"},
        {"type": "RelatedPerson", "display": "a daughter"},
        {"type": "RelatedPerson", "identifier": {"value": "7"}},
        {"reference": "RelatedPerson?identifier=urn:x|7"},
    ],
)
@pytest.mark.parametrize("base", [None, "https://ehr.example/fhir", "https://other.example/fhir"])
def test_who_is_no_staff_shows_nobody(individual: Resource, base: str | None, read: Read) -> None:
    alone = call(participant=[{"individual": individual}], contained=[RELATIVE])
    (time,) = read(alone, base=base).management
    assert (time.person, time.role, time.nobody_shown) == (None, Role.UNKNOWN, True)
    beside = call(
        participant=[{"individual": individual}, participant("Practitioner/n1")], contained=[RELATIVE]
    )
    (time,) = read(beside, NURSE, base=base).management
    assert (time.role, time.nobody_shown) == (Role.CLINICAL_STAFF, False)


def test_a_relative_is_one_by_its_place_in_a_bundle_too(chart: Callable[..., Chart]) -> None:
    place = "urn:uuid:0b5f4c1e-7a0e-4a8e-9d9a-0d6f5b7e2c11"
    bundle = {
        "resourceType": "Bundle",
        "type": "collection",
        "entry": [
            {"resource": {"resourceType": "Patient", "id": "p1"}},
            {"resource": call(participant=[participant(place)])},
            {"fullUrl": place, "resource": RELATIVE},
        ],
    }
    (time,) = chart(bundle).record("Patient/p1").management
    assert time.nobody_shown


@pytest.mark.parametrize(
    "participants",
    [
        None,
        [],
        [{}],
        [{"type": [{"text": "caller"}]}],
        [{"individual": {"display": "Dr. Who"}}],
        [participant("Practitioner/unread")],
        [participant("Organization/o1")],
        [participant("#nobody")],
    ],
)
def test_whom_nothing_says_to_be_no_staff_may_be_of_it(
    participants: list[Resource] | None, read: Read
) -> None:
    (time,) = read(call(participant=participants)).management
    assert (time.role, time.nobody_shown) == (Role.UNKNOWN, False)


def test_a_contained_practitioner_is_known_by_the_qualification(read: Read) -> None:
    inner = {
        "resourceType": "Practitioner",
        "id": "n",
        "qualification": [{"code": {"coding": [{"system": NUCC, "code": "163W00000X"}]}}],
    }
    (time,) = read(call(participant=[participant("#n")], contained=[inner])).management
    assert (time.person, time.role) == (None, Role.CLINICAL_STAFF)


# -- who is listed and took no part ----------------------------------------------------------------------

PARTICIPATION = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"
OLDER_PARTICIPATION = "http://hl7.org/fhir/participant-type"


def listed_for(who: str, *types: tuple[str, str]) -> Resource:
    codings = [{"system": system, "code": code} for system, code in types]
    return {"type": [{"coding": codings}], **participant(who)}


NO_PART = [
    (PARTICIPATION, "REF"),
    (PARTICIPATION, "ESC"),
    ("http://hl7.org/fhir/v3/ParticipationType", "CALLBCK"),
    ("http://terminology.hl7.org/CodeSystem/participant-type", "translator"),
    (OLDER_PARTICIPATION, "emergency"),
]


@pytest.mark.parametrize("kind", NO_PART)
def test_who_sent_the_patient_or_translated_did_none_of_the_work(kind: tuple[str, str], read: Read) -> None:
    people = [listed_for("Practitioner/md", kind), listed_for("Practitioner/n1", (PARTICIPATION, "PPRF"))]
    record = read(call(participant=people), NURSE)
    assert [(time.person, time.role) for time in record.management] == [
        ("Practitioner/n1", Role.CLINICAL_STAFF)
    ]
    assert [contact.people for contact in record.contacts] == [{"Practitioner/n1"}]


@pytest.mark.parametrize("kind", NO_PART)
def test_a_call_that_lists_nobody_else_shows_no_staff(kind: tuple[str, str], read: Read) -> None:
    (time,) = read(call(participant=[listed_for("Practitioner/n1", kind)]), NURSE).management
    assert (time.person, time.role, time.nobody_shown) == (None, Role.UNKNOWN, True)


def test_a_visit_is_not_of_whoever_referred_the_patient(read: Read) -> None:
    visit = call(
        type=[{"coding": [{"system": "http://www.ama-assn.org/go/cpt", "code": "99213"}]}],
        participant=[
            listed_for("Practitioner/ours", (PARTICIPATION, "REF")),
            listed_for("Practitioner/theirs", (PARTICIPATION, "ATND")),
        ],
    )
    assert [seen.people for seen in read(visit).visits] == [{"Practitioner/theirs"}]


@pytest.mark.parametrize(
    "types",
    [
        ((PARTICIPATION, "REF"), (PARTICIPATION, "ATND")),
        ((PARTICIPATION, "CON"),),
        (("urn:ehr:participant", "REF"),),
    ],
)
def test_who_is_listed_for_anything_else_took_part(types: tuple[tuple[str, str], ...], read: Read) -> None:
    (time,) = read(call(participant=[listed_for("Practitioner/n1", *types)]), NURSE).management
    assert time.person == "Practitioner/n1"


# -- one person is one person ----------------------------------------------------------------------------

NPI = {"identifier": {"system": "http://hl7.org/fhir/sid/us-npi", "value": "1"}}


def of_nurse(**practitioner: Any) -> Resource:
    return {**NURSE, "practitioner": practitioner}


@pytest.mark.parametrize(
    ("here", "there", "role"),
    [
        ({"reference": "Practitioner/n1"}, {"reference": "PractitionerRole/r1"}, NURSE),
        (NPI, {"reference": "PractitionerRole/r1"}, of_nurse(**NPI)),
        (NPI, NPI, NURSE),
        ({"reference": "PractitionerRole/r1"}, {"reference": "#stated"}, of_nurse(**NPI)),
    ],
    ids=["role-and-person", "role-of-an-identifier", "identifier-alone", "a-contained-role"],
)
def test_a_person_by_any_name_is_with_two_patients_at_once(
    here: Resource, there: Resource, role: Resource, chart: Callable[..., Chart]
) -> None:
    stated = {**role, "id": "stated"}
    both = chart(
        {"resourceType": "Patient", "id": "p1"},
        {"resourceType": "Patient", "id": "p2"},
        role,
        call(participant=[{"individual": here}]),
        call(
            "e2", participant=[{"individual": there}], contained=[stated], subject={"reference": "Patient/p2"}
        ),
    )
    assert both.record("Patient/p1").double_booked == {"Encounter/e1", "Encounter/e2"}


@pytest.mark.parametrize(
    "individual", [{"reference": "#n"}, {"reference": "Organization/o1"}, {"display": "Dr. Who"}]
)
def test_whom_only_the_encounter_itself_describes_is_nobody_elsewhere(
    individual: Resource, chart: Callable[..., Chart]
) -> None:
    inner = {"resourceType": "Practitioner", "id": "n"}
    for contained in ([inner], None):
        both = chart(
            {"resourceType": "Patient", "id": "p1"},
            {"resourceType": "Patient", "id": "p2"},
            *(
                call(
                    f"e{n}",
                    participant=[{"individual": individual}],
                    contained=contained,
                    subject={"reference": f"Patient/p{n}"},
                )
                for n in (1, 2)
            ),
        )
        assert both.record("Patient/p1").double_booked == frozenset()


def test_without_participants_the_role_is_unknown(read: Read) -> None:
    (time,) = read(call()).management
    assert (time.person, time.role) == (None, Role.UNKNOWN)


@pytest.mark.parametrize("element", ["context", "encounter"])
def test_an_encounter_of_another_charge_counts_for_nothing(element: str, read: Read) -> None:
    charge = {
        "resourceType": "ChargeItem",
        "id": "c1",
        "status": "billed",
        "code": {"coding": [{"system": "http://www.ama-assn.org/go/cpt", "code": "99213"}]},
        "subject": {"reference": "Patient/p1"},
        element: {"reference": "Encounter/e1"},
    }
    record = read(call(), charge)
    assert left_out(record) == {"Encounter/e1": "billed-elsewhere"}
    assert [visit.resource for visit in record.visits] == ["Encounter/e1"]


@pytest.mark.parametrize("elsewhere", ["text", "display"])
def test_a_charge_for_a_visit_that_speaks_of_ours_takes_its_encounter_all_the_same(
    elsewhere: str, read: Read
) -> None:
    coding = {"system": "http://www.ama-assn.org/go/cpt", "code": "99213"}
    charge = {
        "resourceType": "ChargeItem",
        "id": "c1",
        "status": "billed",
        "code": {"coding": [coding], "text": "visit; 98980 discussed"}
        if elsewhere == "text"
        else {"coding": [{**coding, "display": "visit; 98980 discussed"}]},
        "subject": {"reference": "Patient/p1"},
        "context": {"reference": "Encounter/e1"},
    }
    assert left_out(read(call(), charge)) == {"Encounter/e1": "billed-elsewhere"}


@pytest.mark.parametrize(
    "code",
    [
        {"coding": [{"system": "http://www.ama-assn.org/go/cpt", "code": "98980"}]},
        {"coding": [{"system": "urn:clinic:charge-master", "code": "64897", "display": "98980-GP"}]},
        {"text": "CPT(R) 98980"},
        {"coding": [{"code": "64897"}], "extension": [{"url": "urn:x", "valueString": "98980"}]},
    ],
)
def test_our_own_charge_does_not_take_its_encounter_away(code: Resource, read: Read) -> None:
    charge = {
        "resourceType": "ChargeItem",
        "id": "c1",
        "status": "planned",
        "code": code,
        "subject": {"reference": "Patient/p1"},
        "context": {"reference": "Encounter/e1"},
    }
    assert minutes(read(call(), charge)) == [12]


def test_a_sites_coding_makes_a_clear_call_and_a_class_alone_an_unclear_one(read: Read) -> None:
    assert [time.clear for time in read(call()).management] == [True]
    assert [time.clear for time in read(call(type=None)).management] == [False]


# -- longer than a day (D26) -------------------------------------------------------------------------------

AMBULATORY = {"class": {"code": "AMB"}, "type": None}


@pytest.mark.parametrize(
    ("start", "end", "days"),
    [
        ("2026-03-10T10:00:00-04:00", "2026-03-10T10:30:00-04:00", ["2026-03-10"]),
        ("2026-03-10T22:00:00-04:00", "2026-03-11T00:00:00-04:00", ["2026-03-10"]),
        ("2026-03-10T22:00:00-04:00", "2026-03-11T00:00:01-04:00", ["2026-03-10", "2026-03-11"]),
        ("2026-03-10T10:00:00-04:00", "2026-03-11T10:00:00-04:00", ["2026-03-10", "2026-03-11"]),
        ("2026-03-10T10:00:00-04:00", "2026-03-11T10:00:01-04:00", []),
        ("2026-03-10", "2026-03-10", ["2026-03-10"]),
        ("2026-03-10", "2026-03-11", []),
        ("2026-03-10", None, ["2026-03-10"]),
        ("2026-03-10T10:00:00-04:00", None, ["2026-03-10"]),
        (None, "2026-03-10T10:00:00-04:00", ["2026-03-10"]),
        ("2026-03-10T10:00:00-04:00", "2026-03-01T10:00:00-04:00", ["2026-03-10"]),
    ],
)
def test_a_visit_is_of_its_days_and_what_is_longer_than_a_day_is_no_visit(
    start: str | None, end: str | None, days: list[str], read: Read
) -> None:
    period = {key: value for key, value in (("start", start), ("end", end)) if value}
    found = read(call(**AMBULATORY, period=period)).visits
    assert [str(day) for visit in found for day in visit.days] == days


@pytest.mark.parametrize(
    ("end", "takes"), [("2026-03-11T10:00:00-04:00", True), ("2026-03-11T10:00:01-04:00", False)]
)
def test_what_is_longer_than_a_day_takes_no_minutes_and_is_no_contact(
    end: str, takes: bool, read: Read
) -> None:
    record = read(call(**AMBULATORY, period={"start": "2026-03-10T10:00:00-04:00", "end": end}))
    assert bool(record.used_time) is takes
    assert bool(record.contacts) is takes


def test_a_session_of_a_series_takes_the_time_of_whoever_gave_it(read: Read) -> None:
    own = participant("Practitioner/n1", "2026-03-10T10:02:00-04:00", "2026-03-10T10:07:00-04:00")
    series = {"start": "2026-03-01", "end": "2026-06-30"}
    (used,) = read(call(**AMBULATORY, period=series, participant=[own]), NURSE).used_time
    assert (used.end - used.start) / MINUTE == 5
