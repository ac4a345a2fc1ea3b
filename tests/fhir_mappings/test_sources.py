"""A reading proves its source: who and what wrote it, where, and how (D23, D24)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fhir_mappings.chart import Chart
from fhir_mappings.record import PatientRecord
from fhir_mappings.terminology import load_terminology
from fhir_mappings.vocabulary import Unverified

Resource = dict[str, Any]
Build = Callable[..., Resource]
Read = Callable[..., PatientRecord]

SNOMED = "http://snomed.info/sct"
MDC = "urn:iso:std:iso:11073:10101"
FLOWSHEET = "urn:clinic:flowsheet"
PATIENT = {"reference": "Patient/p1"}
NURSE = {"reference": "Practitioner/n1"}
ROLE = {"reference": "PractitionerRole/r1"}
VENDOR = {"reference": "Organization/vendor"}
CLINIC = {"reference": "Organization/clinic"}
TEAM = {"reference": "CareTeam/t1"}
DAUGHTER = {"reference": "RelatedPerson/d1"}
SETTING = "http://hl7.org/fhir/us/vitals/StructureDefinition/MeasurementSettingExt"
HEALTHKIT = "https://bdh.stanford.edu/fhir/defs/metadata"


def concept(code: str, system: str = SNOMED) -> Resource:
    return {"coding": [{"system": system, "code": code}]}


def told(record: PatientRecord) -> str | None:
    """Why the reading was left out; None where it counts."""
    reasons = {entry.resource: str(entry.reason) for entry in record.excluded}
    reason = reasons.get("Observation/bp")
    assert (reason is None) == any(reading.resource == "Observation/bp" for reading in record.readings)
    return reason


def in_doubt(record: PatientRecord) -> bool:
    return any(reading.resource == "Observation/bp" for reading in record.doubtful_readings)


@pytest.fixture
def score(blood_pressure: Build) -> Build:
    """A pain score of p1 through an app; keyword arguments replace elements (None removes one)."""

    def build(**changes: Any) -> Resource:
        known = {
            "code": concept("72514-3", "http://loinc.org"),
            "component": None,
            "valueInteger": 4,
            "device": {"reference": "Device/app"},
            "performer": [PATIENT],
        }
        return blood_pressure(**{**known, **changes})

    return build


@pytest.fixture
def app(cuff: Build) -> Build:
    def build(**changes: Any) -> Resource:
        return cuff("app", **{"type": concept("706689003"), **changes})

    return build


@pytest.fixture
def clinic(chart: Callable[..., Chart]) -> Callable[..., PatientRecord]:
    """The record under a site's terminology."""

    def record(site: Resource, *resources: Resource) -> PatientRecord:
        terms = load_terminology(site)
        patient = {"resourceType": "Patient", "id": "p1"}
        return chart(patient, *resources, terminology=terms).record("Patient/p1")

    return record


# -- through which device ----------------------------------------------------------------------------------


def test_what_a_patient_reports_through_an_app_counts_for_rtm(read: Read, score: Build, app: Build) -> None:
    record = read(score(), app())
    assert told(record) is None
    assert record.readings[0].unverified == {
        Unverified.FDA_DEVICE,
        Unverified.DEVICE_SUPPLIED_BY_PRACTICE,
    }


@pytest.mark.parametrize(
    "device",
    [
        {},
        {"display": "Epic Welcome tablet"},
        {"reference": "Device/gone"},
        {"reference": "#gone"},
        {"identifier": {"system": "urn:serial", "value": "unheard"}},
        {"reference": "https://elsewhere.example/fhir/Device/7"},
    ],
)
@pytest.mark.parametrize("performer", [[PATIENT], [NURSE], None])
def test_a_device_that_leads_nowhere_proves_nothing_on_any_line(
    device: Resource, performer: Any, read: Read, score: Build, blood_pressure: Build
) -> None:
    for reading in (
        score(device=device, performer=performer),
        blood_pressure(device=device, performer=performer),
    ):
        record = read(reading)
        assert told(record) == "device-unknown"
        assert in_doubt(record)


def test_a_device_that_is_of_no_type_anybody_knows_is_unknown(read: Read, score: Build, app: Build) -> None:
    for kind in (None, {"text": "app"}, concept("999"), {"coding": []}):
        record = read(score(), app(type=kind))
        assert told(record) == "device-unknown"
        assert in_doubt(record)


def test_a_device_entered_in_error_is_none_and_one_that_is_inactive_now_was_one(
    read: Read, score: Build, app: Build
) -> None:
    assert told(read(score(), app(status="entered-in-error"))) == "device-unknown"
    assert told(read(score(), app(status="inactive"))) is None


@pytest.mark.parametrize(
    "kind",
    [
        concept("228869008"),
        concept("705428009"),
        concept("304120007"),
        concept("65818007"),
        concept("6012004"),
        concept("1187059002"),
        concept("531981", MDC),
        concept("531981", "urn:oid:2.16.840.1.113883.6.24"),
        {"text": "Tablet"},
        {"text": " workstation "},
        {"text": "Mobile  Phone"},
    ],
)
def test_what_measures_nothing_is_no_monitor_on_any_line(
    kind: Resource, read: Read, score: Build, app: Build, blood_pressure: Build, cuff: Build
) -> None:
    record = read(score(), app(type=kind))
    assert told(record) == "device-not-a-monitor"
    assert not in_doubt(record)
    record = read(blood_pressure(), cuff(type=kind))
    assert told(record) == "device-not-a-monitor"
    assert not in_doubt(record)


@pytest.mark.parametrize("code", ["14106009", "72506001", "700585005", "701750003"])
def test_an_implant_that_measures_is_a_monitor(
    code: str, read: Read, blood_pressure: Build, cuff: Build
) -> None:
    rate = {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]}
    reading = blood_pressure(code=rate, component=None, valueQuantity={"value": 70, "unit": "/min"})
    assert told(read(reading, cuff(type=concept(code)))) is None


def test_a_phone_that_is_also_a_cuff_is_a_cuff(read: Read, blood_pressure: Build, cuff: Build) -> None:
    both = cuff(type=concept("1187059002"), specialization=[{"systemType": concept("528391", MDC)}])
    assert told(read(blood_pressure(), both)) is None


def test_an_app_measures_no_blood_pressure(read: Read, blood_pressure: Build, app: Build) -> None:
    through = {"device": {"reference": "Device/app"}}
    assert told(read(blood_pressure(**through), app())) == "device-unknown"
    assert told(read(blood_pressure(**through, performer=[PATIENT]), app())) == "patient-reported"


def test_a_cuff_that_reports_pain_contradicts_itself(read: Read, score: Build, app: Build) -> None:
    record = read(score(), app(type=concept("528391", MDC)))
    assert told(record) == "line-conflict"
    assert in_doubt(record)


def test_two_devices_that_nobody_knows_are_never_one(read: Read, score: Build) -> None:
    displays = [
        score(
            id=f"r{n}", device={"display": "workstation"}, effectiveDateTime=f"2026-03-{n:02}T08:00:00-05:00"
        )
        for n in range(1, 5)
    ]
    record = read(*displays)
    assert len({reading.series for reading in record.doubtful_readings}) == 4


def test_the_device_of_a_reading_is_told_with_the_reason(
    read: Read, blood_pressure: Build, cuff: Build
) -> None:
    record = read(blood_pressure(), cuff(type=concept("999")))
    assert (record.excluded[0].about.system, record.excluded[0].about.code) == (SNOMED, "999")
    record = read(blood_pressure(), cuff(type=None, manufacturer="Omron", modelNumber="HEM-9200T"))
    assert record.excluded[0].about.display == "Omron HEM-9200T"
    record = read(blood_pressure(device={"reference": "Device/gone"}))
    assert record.excluded[0].about.display == "Device/gone"


# -- by whom -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("performer", [[NURSE], [ROLE], [CLINIC, NURSE], [NURSE, VENDOR]])
def test_staff_with_a_device_is_a_conflict(
    performer: list[Resource], read: Read, blood_pressure: Build, cuff: Build, score: Build, app: Build
) -> None:
    for record in (
        read(blood_pressure(performer=performer), cuff()),
        read(score(performer=performer), app()),
    ):
        assert told(record) == "source-conflict"
        assert in_doubt(record)


@pytest.mark.parametrize(
    "performer", [[PATIENT], [DAUGHTER], [NURSE, PATIENT], [CLINIC], [TEAM], [{"display": "Home"}], None, []]
)
def test_a_patient_an_organisation_or_nobody_beside_a_device_says_nothing_against_it(
    performer: Any, read: Read, blood_pressure: Build, cuff: Build
) -> None:
    assert told(read(blood_pressure(performer=performer), cuff())) is None


CUFF_ROW = {"coding": [{"system": FLOWSHEET, "code": "CUFF"}]}
EXERCISE = {"coding": [{"system": FLOWSHEET, "code": "HEP"}]}


@pytest.mark.parametrize("performer", [[NURSE], [ROLE], [CLINIC], [TEAM], [CLINIC, NURSE]])
@pytest.mark.parametrize("code", [CUFF_ROW, EXERCISE, None])
def test_without_a_device_staff_or_an_organisation_entered_it(
    performer: list[Resource], code: Resource | None, read: Read, blood_pressure: Build
) -> None:
    changes = {"performer": performer, "device": None} | ({"code": code} if code else {})
    record = read(blood_pressure(**changes))
    assert told(record) == "entered-by-staff"
    assert not in_doubt(record)


def test_a_vendor_that_forwards_readings_is_nobody(
    clinic: Callable[..., PatientRecord], blood_pressure: Build
) -> None:
    row = {"system": FLOWSHEET, "code": "CUFF", "line": "physiologic", "source": "device"}
    site = {"observations": [row], "senders": [{"reference": "Organization/vendor"}]}

    def reading(*performer: Resource) -> Resource:
        return blood_pressure(code=CUFF_ROW, device=None, performer=list(performer))

    assert told(clinic(site, reading(VENDOR))) is None
    elsewhere = {"reference": "https://ehr.example/fhir/Organization/vendor"}
    assert told(clinic(site, reading(elsewhere))) is None
    assert told(clinic(site, reading(CLINIC))) == "entered-by-staff"
    assert told(clinic(site, reading(VENDOR, CLINIC))) == "entered-by-staff"
    assert told(clinic(site, reading(VENDOR, NURSE))) == "entered-by-staff"
    assert told(clinic(site, reading(VENDOR, PATIENT))) == "source-conflict"
    assert told(clinic(site, blood_pressure(performer=[VENDOR]))) == "device-unknown"


def test_who_performed_it_is_found_in_whatever_way_it_is_written(
    chart: Callable[..., Chart], blood_pressure: Build, cuff: Build
) -> None:
    patient = {"resourceType": "Patient", "id": "p1"}
    nurse = {"resourceType": "Practitioner", "id": "n1", "identifier": [{"system": "urn:npi", "value": "7"}]}

    def reason(performer: Resource, **more: Any) -> str | None:
        found = chart(patient, cuff(), nurse)
        found.add(b'{"resourceType": "Practitioner", "id": "n2"}', "urn:uuid:0001")
        import json

        found.add(json.dumps(blood_pressure(performer=[performer], **more)).encode())
        return told(found.record("Patient/p1"))

    contained = [{"resourceType": "Practitioner", "id": "who"}]
    assert reason({"reference": "https://ehr.example/fhir/Practitioner/n1/_history/2"}) == "source-conflict"
    assert reason({"reference": "urn:uuid:0001"}) == "source-conflict"
    assert reason({"type": "Practitioner", "display": "Jane"}) == "source-conflict"
    assert reason({"type": "PractitionerRole", "identifier": {"value": "8"}}) == "source-conflict"
    assert reason({"identifier": {"system": "urn:npi", "value": "7"}}) == "source-conflict"
    assert reason({"reference": "Practitioner?identifier=urn:npi|7"}) == "source-conflict"
    assert reason({"reference": "Practitioner?identifier=urn:npi|of-nobody-here"}) == "source-conflict"
    assert reason({"reference": "#who"}, contained=contained) == "source-conflict"
    assert reason({"reference": "#nobody"}) is None
    assert reason({"reference": "urn:uuid:9999"}) is None


# -- where -------------------------------------------------------------------------------------------------


def setting(code: str, **value: Any) -> list[Resource]:
    return [{"url": SETTING, **(value or {"valueCodeableConcept": concept(code)})}]


@pytest.mark.parametrize(
    ("extension", "reason"),
    [
        (setting("257585005"), "in-facility"),
        (setting("285201006"), "in-facility"),
        (setting("", valueCoding={"system": SNOMED, "code": "257585005"}), "in-facility"),
        (
            setting("", valueCodeableConcept=concept("257585005", "urn:oid:2.16.840.1.113883.6.96")),
            "in-facility",
        ),
        ([{"url": "urn:group", "extension": setting("257585005")}], "in-facility"),
        (setting("264362003"), None),
        (setting("", valueString="Clinic"), None),
        ([{"url": "urn:other", "valueCodeableConcept": concept("257585005")}], None),
        ([], None),
        (None, None),
    ],
)
def test_a_reading_that_says_it_was_taken_in_the_clinic_is_no_home_reading(
    extension: Any,
    reason: str | None,
    read: Read,
    blood_pressure: Build,
    cuff: Build,
    score: Build,
    app: Build,
) -> None:
    assert told(read(blood_pressure(extension=extension), cuff())) == reason
    assert told(read(score(extension=extension), app())) == reason
    assert told(read(blood_pressure(modifierExtension=extension), cuff())) == reason


def test_an_address_with_escaped_slashes_is_the_same(read: Read, blood_pressure: Build, cuff: Build) -> None:
    import json

    text = json.dumps(blood_pressure(extension=setting("257585005"))).replace("/", "\\/").encode()
    assert told(read(text, cuff())) == "in-facility"


def test_a_site_says_how_its_readings_tell_where_they_were_taken(
    clinic: Callable[..., PatientRecord], blood_pressure: Build, cuff: Build
) -> None:
    office = {"system": "urn:clinic:where", "code": "office"}
    site = {
        "facility_settings": [
            {"category": office},
            {"method": {"system": "urn:clinic:how", "code": "AOBP"}},
            {"extension": "urn:clinic:place", "coding": office},
            {"extension": "urn:clinic:room", "value": "exam"},
        ]
    }
    for changes in (
        {"category": [concept("vital-signs", "urn:x"), {"coding": [office]}]},
        {"method": concept("AOBP", "urn:clinic:how")},
        {"extension": [{"url": "urn:clinic:place", "valueCoding": office}]},
        {"extension": [{"url": "urn:clinic:room", "valueCode": "exam"}]},
    ):
        assert told(clinic(site, blood_pressure(**changes), cuff())) == "in-facility", changes
        assert told(clinic({}, blood_pressure(**changes), cuff())) is None


# -- by hand -----------------------------------------------------------------------------------------------


def healthkit(**value: Any) -> list[Resource]:
    mark = {"url": f"{HEALTHKIT}/HKWasUserEntered", **value}
    return [{"url": HEALTHKIT, "extension": [{"url": f"{HEALTHKIT}/HKTimeZone", "valueString": "UTC"}, mark]}]


@pytest.mark.parametrize(
    ("value", "typed_in"),
    [
        ({"valueBoolean": True}, True),
        ({"valueDecimal": 1}, True),
        ({"valueDecimal": 1.0}, True),
        ({"valueInteger": 1}, True),
        ({"valueString": "true"}, True),
        ({"valueString": "True"}, True),
        ({"valueString": "1"}, True),
        ({"valueBoolean": False}, False),
        ({"valueDecimal": 0}, False),
        ({"valueString": "false"}, False),
        ({}, False),
    ],
)
def test_what_was_typed_into_apple_health_is_the_patients(
    value: Resource, typed_in: bool, read: Read, blood_pressure: Build, cuff: Build, score: Build, app: Build
) -> None:
    mark = {"extension": healthkit(**value)}
    assert told(read(blood_pressure(**mark), cuff())) == ("patient-reported" if typed_in else None)
    row = blood_pressure(code=CUFF_ROW, device=None, **mark)
    assert told(read(row)) == ("patient-reported" if typed_in else None)
    # For RTM what a patient types in is what a patient reports.
    assert told(read(score(**mark, performer=None), app())) is None


@pytest.mark.parametrize("performer", [None, [PATIENT]])
def test_a_method_that_says_typed_in_makes_it_the_patients(
    performer: Any, read: Read, blood_pressure: Build, cuff: Build
) -> None:
    by_hand = {"method": concept("1156040003"), "performer": performer}
    assert told(read(blood_pressure(**by_hand), cuff())) == "patient-reported"
    assert told(read(blood_pressure(**by_hand))) == "patient-reported"
    assert told(read(blood_pressure(code=CUFF_ROW, device=None, **by_hand))) == "patient-reported"


def test_a_site_says_how_its_readings_tell_that_they_were_typed_in(
    clinic: Callable[..., PatientRecord], blood_pressure: Build, cuff: Build
) -> None:
    site = {
        "manual_entry": [
            {"method": {"system": "urn:vendor:method", "code": "keyed"}},
            {"category": {"system": "urn:vendor:category", "code": "self-entry"}},
            {"extension": "urn:vendor:mode", "value": "manual"},
            {"extension": "urn:vendor:typed", "value": True},
            {"extension": "urn:vendor:how", "coding": {"system": "urn:h", "code": "hand"}},
        ]
    }
    for changes in (
        {"method": concept("keyed", "urn:vendor:method")},
        {"category": [concept("self-entry", "urn:vendor:category")]},
        {"extension": [{"url": "urn:vendor:mode", "valueString": "Manual"}]},
        {"extension": [{"url": "urn:vendor:mode", "valueCoding": {"system": "urn:m", "code": "manual"}}]},
        {"extension": [{"url": "urn:vendor:mode", "valueCodeableConcept": {"text": " Manual"}}]},
        {"extension": [{"url": "urn:vendor:mode", "valueCoding": {"code": "1", "display": "Manual"}}]},
        {"extension": [{"url": "urn:vendor:typed", "valueInteger": 1}]},
        {"extension": [{"url": "urn:vendor:how", "valueCodeableConcept": concept("hand", "urn:h")}]},
    ):
        assert told(clinic(site, blood_pressure(**changes), cuff())) == "patient-reported", changes
    for changes in (
        {"method": concept("auto", "urn:vendor:method")},
        {"category": [concept("vital-signs", "urn:vendor:category")]},
        {"extension": [{"url": "urn:vendor:mode", "valueString": "automatic"}]},
        {"extension": [{"url": "urn:vendor:mode", "valueCodeableConcept": {"text": "automatic"}}]},
        {"extension": [{"url": "urn:vendor:mode", "valueCodeableConcept": {"coding": "manual"}}]},
        {"extension": [{"url": "urn:vendor:typed", "valueBoolean": False}]},
        {"extension": "nonsense", "category": 7},
    ):
        assert told(clinic(site, blood_pressure(**changes), cuff())) is None, changes


@pytest.mark.parametrize(
    ("entry", "fault"),
    [
        ({}, "give one of method, category and extension"),
        ({"extension": "urn:x"}, "either its value or its coding"),
        ({"extension": "urn:x", "value": 1, "coding": {"system": "s", "code": "c"}}, "either its value"),
        ({"method": {"system": "s", "code": "c"}, "value": True}, "either its value or its coding"),
        ({"method": {"system": "s", "code": "c"}, "category": {"system": "s", "code": "c"}}, "give one of"),
        ({"category": {"system": "s"}}, "code"),
    ],
)
def test_a_mark_that_says_too_little_or_too_much_is_refused(entry: Resource, fault: str) -> None:
    for key in ("manual_entry", "facility_settings"):
        with pytest.raises(ValueError, match=fault):
            load_terminology({key: [entry]})
