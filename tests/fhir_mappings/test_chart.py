"""FHIR from the field, read one resource at a time: what counts, and what is left out for which reason."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Any

import pytest

from fhir_mappings.chart import Chart
from fhir_mappings.record import PatientRecord
from fhir_mappings.vocabulary import Unverified

Resource = dict[str, Any]
Build = Callable[..., Resource]
Read = Callable[..., PatientRecord]


def left_out(record: PatientRecord) -> dict[str, str]:
    return {entry.resource: str(entry.reason) for entry in record.excluded}


def counted(record: PatientRecord) -> list[str]:
    return [reading.resource for reading in record.readings]


# -- through which device --------------------------------------------------------------------------------

METRIC = {"resourceType": "DeviceMetric", "id": "m1", "source": {"reference": "Device/cuff"}}


@pytest.mark.parametrize(
    "device",
    [
        {"reference": "Device/cuff"},
        {"reference": "Device/cuff/_history/2"},
        {"reference": "https://ehr.example/fhir/Device/cuff"},
        {"reference": "DeviceMetric/m1"},
        {"type": "Device", "identifier": {"system": "urn:serial", "value": "S1"}},
        {"identifier": {"system": "urn:serial", "value": "S1"}},
        {"reference": "Device?identifier=urn:serial|S1"},
        {"reference": "https://ehr.example/fhir/Device?identifier=urn%3Aserial%7CS1&status=active"},
        {"reference": "Device?_id=cuff"},
        {"reference": "Device/cuff  "},
        {"reference": "/Device/cuff"},
        {"reference": "https://ehr.example/fhir/Device/cuff/"},
    ],
    ids=[
        "relative",
        "versioned",
        "absolute",
        "metric",
        "logical",
        "logical-untyped",
        "conditional",
        "conditional-escaped",
        "conditional-id",
        "with-blanks",
        "slash-before",
        "slash-behind",
    ],
)
def test_every_form_of_a_device_reference_finds_the_cuff(
    device: Resource, read: Read, blood_pressure: Build, cuff: Build
) -> None:
    known = cuff(identifier=[{"system": "urn:serial", "value": "S1"}])
    assert counted(read(blood_pressure(device=device), known, METRIC)) == ["Observation/bp"]


def test_a_contained_device_is_found(read: Read, blood_pressure: Build, cuff: Build) -> None:
    reading = blood_pressure(device={"reference": "#c"}, contained=[cuff("c", patient=None)])
    record = read(reading)
    assert counted(record) == ["Observation/bp"]
    assert Unverified.ENROLMENT in record.readings[0].unverified


def test_a_contained_metric_leads_to_its_device(read: Read, blood_pressure: Build, cuff: Build) -> None:
    metric = {"resourceType": "DeviceMetric", "id": "m", "source": {"reference": "Device/cuff"}}
    assert counted(read(blood_pressure(device={"reference": "#m"}, contained=[metric]), cuff()))


def test_an_unknown_contained_type_leaves_the_rest_alone(
    read: Read, blood_pressure: Build, cuff: Build
) -> None:
    odd = {"resourceType": "FooType", "id": "x"}
    assert counted(read(blood_pressure(contained=[odd]), cuff()))


@pytest.mark.parametrize(
    "device",
    [
        {"display": "Some cuff"},
        {"reference": "Device/nobody-knows"},
        {"reference": "#missing"},
        {"identifier": {"system": "urn:serial", "value": "unheard"}},
        {"reference": "Device?identifier=urn:serial|unheard"},
        {"reference": "Device?name=cuff"},
    ],
    ids=["display-only", "unresolved", "missing-contained", "unknown-logical", "conditional", "search"],
)
def test_a_device_that_names_nothing_is_unknown(
    device: Resource, read: Read, blood_pressure: Build, cuff: Build
) -> None:
    record = read(blood_pressure(device=device), cuff())
    assert left_out(record) == {"Observation/bp": "device-unknown"}
    assert [reading.resource for reading in record.doubtful_readings] == ["Observation/bp"]


def test_an_absolute_reference_to_another_server_is_not_ours(
    read: Read, blood_pressure: Build, cuff: Build
) -> None:
    base = "https://ehr.example/fhir"
    ours = blood_pressure(device={"reference": f"{base}/Device/cuff"})
    theirs = blood_pressure("other", device={"reference": "https://elsewhere.example/fhir/Device/cuff"})
    record = read(ours, theirs, cuff(), base=base)
    assert counted(record) == ["Observation/bp"]
    assert left_out(record) == {"Observation/other": "device-unknown"}


def test_a_device_entered_in_error_is_as_good_as_absent(
    read: Read, blood_pressure: Build, cuff: Build
) -> None:
    assert left_out(read(blood_pressure(), cuff(status="entered-in-error"))) == {
        "Observation/bp": "device-unknown"
    }


def test_the_cuff_of_somebody_else_gives_no_day(read: Read, blood_pressure: Build, cuff: Build) -> None:
    known = cuff(patient={"reference": "Patient/p2"})
    assert left_out(read(blood_pressure(), known))["Observation/bp"] == "device-of-another"


def test_a_scale_that_reports_exercise_contradicts_itself(
    read: Read, blood_pressure: Build, cuff: Build
) -> None:
    exercise = {"coding": [{"system": "urn:clinic:flowsheet", "code": "HEP"}]}
    record = read(blood_pressure(code=exercise), cuff())
    assert left_out(record) == {"Observation/bp": "line-conflict"}
    assert sorted(str(reading.line) for reading in record.doubtful_readings) == [
        "musculoskeletal",
        "physiologic",
    ]


# -- who reported it -------------------------------------------------------------------------------------

CUFF_ROW = {"coding": [{"system": "urn:clinic:flowsheet", "code": "CUFF"}]}
EXERCISE = {"coding": [{"system": "urn:clinic:flowsheet", "code": "HEP"}]}
PATIENT = [{"reference": "Patient/p1"}]
NURSE = [{"reference": "Practitioner/n1"}]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"performer": PATIENT}, "patient-reported"),
        ({}, "no-device"),
        ({"performer": NURSE}, "entered-by-staff"),
        ({"code": CUFF_ROW}, None),
        ({"code": CUFF_ROW, "performer": PATIENT}, "source-conflict"),
        ({"code": CUFF_ROW, "performer": NURSE}, "entered-by-staff"),
        ({"code": EXERCISE}, None),
        ({"code": EXERCISE, "performer": PATIENT}, None),
        ({"code": EXERCISE, "performer": NURSE}, "entered-by-staff"),
    ],
)
def test_without_a_device_the_reading_speaks_first_and_then_its_coding(
    changes: Resource, reason: str | None, read: Read, blood_pressure: Build
) -> None:
    record = read(blood_pressure(device=None, **changes))
    assert left_out(record) == ({} if reason is None else {"Observation/bp": reason})
    assert bool(counted(record)) is (reason is None)


def test_a_patients_own_cuff_counts_although_the_patient_performed_it(
    read: Read, blood_pressure: Build, cuff: Build
) -> None:
    assert counted(read(blood_pressure(performer=PATIENT), cuff()))


# -- status, value, time ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        ("final", None),
        ("amended", None),
        ("corrected", None),
        ("preliminary", "preliminary"),
        ("registered", "registered"),
        ("cancelled", "cancelled"),
        ("entered-in-error", "entered-in-error"),
        ("unknown", "unknown"),
        ("banana", "status-not-known"),
        (None, "no-status"),
    ],
)
def test_only_a_finished_reading_counts(
    status: str | None, reason: str | None, read: Read, blood_pressure: Build, cuff: Build
) -> None:
    record = read(blood_pressure(status=status), cuff())
    assert left_out(record) == ({} if reason is None else {"Observation/bp": reason})


@pytest.mark.parametrize(
    "changes",
    [
        {"component": None},
        {"component": [{"dataAbsentReason": {"text": "cuff error"}}]},
        {"component": None, "valueString": ""},
        {"component": None, "valueQuantity": None},
        {"component": [], "dataAbsentReason": {"text": "asked"}},
    ],
)
def test_a_failed_attempt_is_no_reading(
    changes: Resource, read: Read, blood_pressure: Build, cuff: Build
) -> None:
    assert left_out(read(blood_pressure(**changes), cuff())) == {"Observation/bp": "no-value"}


def test_a_panel_counts_by_the_values_of_its_members(read: Read, blood_pressure: Build, cuff: Build) -> None:
    panel = blood_pressure("panel", component=None, hasMember=[{"reference": "Observation/part"}])
    part = blood_pressure("part", component=None, valueQuantity={"value": 120})
    assert counted(read(panel, part, cuff())) == ["Observation/panel", "Observation/part"]
    assert left_out(read(panel, cuff())) == {"Observation/panel": "no-value"}


@pytest.mark.parametrize(
    "member",
    [
        {"identifier": {"system": "urn:x", "value": "7"}},
        {"reference": "Observation?identifier=urn:x|7"},
    ],
)
def test_a_panel_may_name_its_members_by_their_identifiers(
    member: Resource, read: Read, blood_pressure: Build, cuff: Build
) -> None:
    panel = blood_pressure("panel", component=None, hasMember=[member])
    identifier = [{"system": "urn:x", "value": "7"}]
    part = blood_pressure("part", component=None, valueQuantity={"value": 120}, identifier=identifier)
    assert counted(read(panel, part, cuff())) == ["Observation/panel", "Observation/part"]
    # An identifier that two share names neither.
    other = blood_pressure("other", component=None, valueQuantity={"value": 121}, identifier=identifier)
    assert left_out(read(panel, part, other, cuff()))["Observation/panel"] == "no-value"


@pytest.mark.parametrize("where", ["security", "tag"])
def test_test_data_is_left_out(where: str, read: Read, blood_pressure: Build, cuff: Build) -> None:
    act_reason = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
    marked = {where: [{"system": act_reason, "code": "HTEST"}]}
    assert left_out(read(blood_pressure(meta=marked), cuff())) == {"Observation/bp": "test-data"}


@pytest.mark.parametrize(
    ("effective", "days"),
    [
        ({"effectiveDateTime": "2026-03-05"}, ["2026-03-05"]),
        ({"effectiveInstant": "2026-03-05T03:30:00Z"}, ["2026-03-04"]),
        (
            {"effectivePeriod": {"start": "2026-03-05T22:00:00-05:00", "end": "2026-03-09T06:00:00-04:00"}},
            ["2026-03-05"],
        ),
        (
            {"effectiveTiming": {"event": ["2026-03-05T08:00:00-05:00", "2026-03-07T08:00:00-05:00"]}},
            ["2026-03-05", "2026-03-07"],
        ),
    ],
    ids=["date", "instant", "period", "timing"],
)
def test_every_form_of_effective_names_its_days(
    effective: Resource, days: list[str], read: Read, blood_pressure: Build, cuff: Build
) -> None:
    record = read(blood_pressure(effectiveDateTime=None) | effective, cuff())
    assert [reading.day.isoformat() for reading in record.readings] == days


@pytest.mark.parametrize(
    ("effective", "reason"),
    [
        ({}, "no-date"),
        ({"effectiveDateTime": "2026-03"}, "partial-date"),
        ({"effectiveDateTime": "March"}, "unreadable-date"),
        ({"effectiveTiming": {"event": []}}, "no-date"),
        ({"effectivePeriod": {"end": "2026-03-05"}}, "no-date"),
        ({"issued": "2026-03-05T08:00:00Z"}, "no-date"),
        ({"effectiveDateTime": "2026-04-02T00:00:00-04:00"}, "after-as-of"),
    ],
)
def test_a_reading_without_a_countable_day_says_why(
    effective: Resource, reason: str, read: Read, blood_pressure: Build, cuff: Build
) -> None:
    record = read(blood_pressure(effectiveDateTime=None) | effective, cuff())
    assert left_out(record) == {"Observation/bp": reason}


# -- what is there twice, broken, or somebody else's -----------------------------------------------------


def test_a_resource_sent_twice_counts_once(read: Read, blood_pressure: Build, cuff: Build) -> None:
    record = read(blood_pressure(), blood_pressure(), cuff())
    assert counted(record) == ["Observation/bp"]
    assert left_out(record) == {"Observation/bp": "duplicate"}


@pytest.mark.parametrize("order", list(itertools.permutations(range(2))))
def test_the_later_version_of_a_resource_is_believed(
    order: tuple[int, ...], read: Read, blood_pressure: Build, cuff: Build
) -> None:
    versions = [
        blood_pressure(meta={"versionId": "1", "lastUpdated": "2026-03-05T13:00:00Z"}),
        blood_pressure(
            meta={"versionId": "2", "lastUpdated": "2026-03-06T13:00:00Z"}, status="entered-in-error"
        ),
    ]
    record = read(*(versions[position] for position in order), cuff())
    assert counted(record) == []
    assert "entered-in-error" in {str(entry.reason) for entry in record.excluded}


def test_the_same_identifier_is_the_same_reading(read: Read, blood_pressure: Build, cuff: Build) -> None:
    same = [{"system": "urn:reading", "value": "r1"}]
    later = blood_pressure("b", identifier=same, effectiveDateTime="2026-03-06T08:00:00-05:00")
    record = read(later, blood_pressure("a", identifier=same), cuff())
    assert counted(record) == ["Observation/b"]
    assert left_out(record) == {"Observation/a": "duplicate"}


def test_the_same_value_at_the_same_time_is_the_same_reading(
    read: Read, blood_pressure: Build, cuff: Build
) -> None:
    other_offset = blood_pressure("b", effectiveDateTime="2026-03-05T13:00:00Z")
    other_value = blood_pressure("c", component=[{"valueQuantity": {"value": 121}}])
    record = read(blood_pressure("a"), other_offset, other_value, cuff())
    assert counted(record) == ["Observation/a", "Observation/c"]


@pytest.mark.parametrize(
    "broken",
    [
        b'{"resourceType": "Observation", "id": "x", "subject": {"reference": "Patient/p1"}, "device": 1}',
        b'{"resourceType": "Observation", "id": "x", "subject": {"reference": "Patient/p1"}, "status": 7}',
        b'{"resourceType": "Observation", "id": "x", "subject": "Patient/p1"}',
        b'{"resourceType": "Observation", "id": "x"}',
    ],
)
def test_a_broken_resource_is_listed_and_stops_nothing(
    broken: bytes, read: Read, blood_pressure: Build, cuff: Build
) -> None:
    record = read(broken, blood_pressure(), cuff())
    assert counted(record) == ["Observation/bp"]
    assert left_out(record) == {"Observation/x": "unreadable"}


@pytest.mark.parametrize("text", [b"", b"{", b"nonsense", b"\xff\xfe", b"[1]", b"null", b"[" * 100_000])
def test_what_is_no_resource_is_listed_by_where_it_stood(text: bytes, read: Read) -> None:
    assert left_out(read(text)) == {"line 2": "unreadable"}


def test_a_bundle_is_read_entry_by_entry(chart: Callable[..., Chart], blood_pressure: Build) -> None:
    bundle = {
        "resourceType": "Bundle",
        "entry": [
            {"fullUrl": "urn:uuid:1", "resource": {"resourceType": "Patient", "id": "p1"}},
            None,
            {"resource": blood_pressure("x", code=[], subject={"reference": "urn:uuid:1"})},
            {"resource": blood_pressure(subject={"reference": "urn:uuid:1"}, device=None, code=EXERCISE)},
            {"search": {"mode": "outcome"}},
        ],
    }
    found = chart(bundle)
    assert found.patients() == ("Patient/p1",)
    record = found.record("Patient/p1")
    assert counted(record) == ["Observation/bp"]
    assert left_out(record) == {"Observation/x": "unreadable", "line 1 entry 2": "unreadable"}


def test_another_patients_reading_is_set_apart(read: Read, blood_pressure: Build, cuff: Build) -> None:
    foreign = blood_pressure("foreign", subject={"reference": "Patient/p2"})
    record = read(foreign, blood_pressure(), cuff())
    assert counted(record) == ["Observation/bp"]
    assert left_out(record) == {"Observation/foreign": "other-patient"}


def test_the_order_of_resources_changes_nothing(
    chart: Callable[..., Chart], blood_pressure: Build, cuff: Build
) -> None:
    resources = [
        {"resourceType": "Patient", "id": "p1"},
        blood_pressure("a"),
        blood_pressure("a", status="entered-in-error"),
        blood_pressure("b", device={"reference": "DeviceMetric/m1"}),
        METRIC,
        cuff(),
    ]
    records = {
        json.dumps([counted(record), sorted(left_out(record).items())])
        for order in itertools.permutations(resources)
        for record in [chart(*order).record("Patient/p1")]
    }
    assert len(records) == 1


def test_without_a_patient_resource_each_subject_is_one(
    chart: Callable[..., Chart], blood_pressure: Build
) -> None:
    found = chart(
        blood_pressure("a"),
        blood_pressure("b", subject={"reference": "Patient/p0"}),
        blood_pressure("c", subject={"reference": "Device/cuff"}),
    )
    assert found.patients() == ("Patient/p0", "Patient/p1")
    assert [entry.resource for entry in found.strangers()] == ["Observation/c"]


# -- where and when it was taken -------------------------------------------------------------------------


def stay(**changes: Any) -> Resource:
    return {
        "resourceType": "Encounter",
        "id": "stay",
        "status": "finished",
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "IMP"},
        "subject": {"reference": "Patient/p1"},
        "period": {"start": "2026-03-05T07:00:00-05:00", "end": "2026-03-05T09:00:00-05:00"},
        **changes,
    }


@pytest.mark.parametrize(
    ("at", "inside"),
    [
        ("2026-03-05T06:59:59-05:00", False),
        ("2026-03-05T07:00:00-05:00", True),
        ("2026-03-05T08:59:59-05:00", True),
        ("2026-03-05T09:00:00-05:00", False),
        ("2026-03-05", False),
    ],
)
def test_a_reading_in_a_stay_is_no_home_reading(
    at: str, inside: bool, read: Read, blood_pressure: Build, cuff: Build
) -> None:
    record = read(blood_pressure(effectiveDateTime=at), cuff(), stay())
    assert left_out(record).get("Observation/bp") == ("in-facility" if inside else None)


def test_a_stay_without_an_end_goes_on(read: Read, blood_pressure: Build, cuff: Build) -> None:
    still_there = stay(period={"start": "2026-03-01T07:00:00-05:00"}, status="in-progress")
    record = read(blood_pressure(effectiveDateTime="2026-03-20"), cuff(), still_there)
    assert left_out(record)["Observation/bp"] == "in-facility"


@pytest.mark.parametrize("status", ["planned", "cancelled", "entered-in-error"])
def test_a_stay_that_never_was_excludes_nothing(
    status: str, read: Read, blood_pressure: Build, cuff: Build
) -> None:
    linked = blood_pressure(encounter={"reference": "Encounter/stay"})
    assert counted(read(linked, cuff(), stay(status=status)))


def test_a_reading_linked_to_a_clinic_visit_is_no_home_reading(
    read: Read, blood_pressure: Build, cuff: Build
) -> None:
    clinic = stay(**{"class": {"code": "AMB"}, "period": None})
    linked = blood_pressure(encounter={"reference": "Encounter/stay"})
    assert left_out(read(linked, cuff(), clinic))["Observation/bp"] == "in-facility"


def test_a_reading_of_an_encounter_that_was_not_read_says_so(
    read: Read, blood_pressure: Build, cuff: Build
) -> None:
    record = read(blood_pressure(encounter={"reference": "Encounter/elsewhere"}), cuff())
    assert [Unverified.IN_FACILITY in reading.unverified for reading in record.readings] == [True]


def test_nothing_counts_after_death(chart: Callable[..., Chart], blood_pressure: Build, cuff: Build) -> None:
    patient = {"resourceType": "Patient", "id": "p1", "deceasedDateTime": "2026-03-05T09:00:00-05:00"}
    after = blood_pressure("after", effectiveDateTime="2026-03-05T09:00:01-05:00")
    record = chart(patient, blood_pressure(), after, cuff()).record("Patient/p1")
    assert counted(record) == ["Observation/bp"]
    assert left_out(record) == {"Observation/after": "after-death"}


@pytest.mark.parametrize(
    ("focus", "reason"),
    [
        ([{"reference": "RelatedPerson/child"}], "other-patient"),
        ([{"reference": "Patient/p2"}], "other-patient"),
        ([{"type": "RelatedPerson", "identifier": {"value": "7"}}], "other-patient"),
        ([{"reference": "Device/cuff"}], "not-a-measurement"),
        ([{"reference": "https://ehr.example/fhir/Patient/p2"}], "other-patient"),
        ([{"reference": "https://ehr.example/fhir/RelatedPerson/child/_history/1"}], "other-patient"),
        ([{"reference": "https://ehr.example/fhir/Device/cuff"}], "not-a-measurement"),
        ([{"reference": "urn:uuid:2f4f0b9e-1111-4c1e-9f0a-000000000001"}], "other-patient"),
        ([{"reference": "#child"}], "other-patient"),
        ([{"reference": "Group/twins"}], "other-patient"),
        ([{"reference": "Condition/pressure"}, {"reference": "Patient/p2"}], "other-patient"),
        ([{"type": "Patient", "identifier": {"system": "urn:example:mrn", "value": "2"}}], "other-patient"),
        ([{"type": "Patient", "identifier": {"system": "urn:example:mrn", "value": "1"}}], None),
        ([{"reference": "Patient/p1"}], None),
        ([{"reference": "Patient/p1/_history/3"}], None),
        ([{"reference": "https://ehr.example/fhir/Patient/p1"}], None),
        ([{"reference": "Condition/pressure"}], None),
        ([{"display": "arm"}], None),
        ([], None),
    ],
)
def test_a_reading_that_says_whom_else_it_is_about_is_none_of_its_subject(
    focus: list[Resource], reason: str | None, read: Any, blood_pressure: Any
) -> None:
    patient = {
        "resourceType": "Patient",
        "id": "p1",
        "identifier": [{"system": "urn:example:mrn", "value": "1"}],
    }
    plain, pointed = (left_out(read(patient, blood_pressure(**more))) for more in ({}, {"focus": focus}))
    assert pointed.get("Observation/bp") == (reason or plain.get("Observation/bp"))
