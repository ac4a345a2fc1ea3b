"""One code system is one system, whatever address it is written under (D32)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fhir_mappings.record import PatientRecord
from fhir_mappings.resources import CodeableConcept, Coding, Device
from fhir_mappings.terminology import DeviceKind, canonical, load_terminology
from fhir_mappings.vocabulary import Line, Place, Role

Resource = dict[str, Any]
Build = Callable[..., Resource]
Read = Callable[..., PatientRecord]

LOINC = "http://loinc.org"
MDC = "urn:iso:std:iso:11073:10101"
SNOMED = "http://snomed.info/sct"
ACT = "http://terminology.hl7.org/CodeSystem/v3-ActCode"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (LOINC, LOINC),
        ("urn:oid:2.16.840.1.113883.6.1", LOINC),
        ("URN:OID:2.16.840.1.113883.6.1", LOINC),
        ("2.16.840.1.113883.6.1", LOINC),
        ("https://loinc.org", LOINC),
        ("http://loinc.org/", LOINC),
        ("https://LOINC.org/", LOINC),
        ("urn:oid:2.16.840.1.113883.6.96", SNOMED),
        ("https://snomed.info/sct/", SNOMED),
        ("http://snomed.info/sct/731000124108", SNOMED),
        ("http://snomed.info/sct/900000000000207008/version/20240101", SNOMED),
        ("http://snomed.info/sct/11000274103", SNOMED),
        ("http://loinc.org|2.77", LOINC),
        ("http://terminology.hl7.org/CodeSystem/v3-ActCode|2.1", ACT),
        ("urn:oid:2.16.840.1.113883.6.24", MDC),
        ("urn:std:iso:11073:10101", MDC),
        ("urn:oid:2.16.840.1.113883.6.12", "http://www.ama-assn.org/go/cpt"),
        ("https://www.ama-assn.org/go/cpt", "http://www.ama-assn.org/go/cpt"),
        ("urn:oid:2.16.840.1.113883.6.101", "http://nucc.org/provider-taxonomy"),
        ("urn:oid:2.16.840.1.113883.6.8", "http://unitsofmeasure.org"),
        ("http://hl7.org/fhir/v3/ActCode", ACT),
        ("urn:oid:2.16.840.1.113883.5.4", ACT),
        ("http://terminology.hl7.org/CodeSystem/v3-ActEncounterCode", ACT),
        ("http://hl7.org/fhir/v2/0004", "http://terminology.hl7.org/CodeSystem/v2-0004"),
    ],
)
def test_every_address_of_a_code_system_is_brought_to_one(written: str, meant: str) -> None:
    assert canonical(written) == meant


@pytest.mark.parametrize(
    "written",
    [
        "urn:clinic:flowsheet",
        "URN:Clinic:Flowsheet",
        "https://vendor.example/codes/",
        "http://loinc.org.example",
        "http://snomed.info/sct/fhir",
        "urn:clinic|flowsheet",
        "2.16.840.1.113883.6.11",
        "",
        None,
    ],
)
def test_an_address_that_is_in_no_table_stays_as_it_is(written: str | None) -> None:
    assert canonical(written) == written


def test_a_reading_by_oid_through_a_device_by_oid_counts(
    read: Read, blood_pressure: Build, cuff: Build
) -> None:
    code = {"coding": [{"system": "urn:oid:2.16.840.1.113883.6.1", "code": "85354-9"}]}
    kind = {"coding": [{"system": "2.16.840.1.113883.6.24", "code": "528391"}]}
    assert len(read(blood_pressure(code=code), cuff(type=kind)).readings) == 1


SETTING = "http://hl7.org/fhir/us/vitals/StructureDefinition/MeasurementSettingExt"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"code": {"coding": [{"system": LOINC, "code": "85354-9  "}]}}, None),
        ({"method": {"coding": [{"system": SNOMED, "code": "1156040003 "}]}}, "patient-reported"),
        (
            {"extension": [{"url": SETTING, "valueCoding": {"system": SNOMED, "code": "257585005 "}}]},
            "in-facility",
        ),
    ],
)
def test_blanks_around_a_code_are_no_part_of_it(
    changes: Resource, why: str | None, read: Read, blood_pressure: Build, cuff: Build
) -> None:
    padded = cuff(type={"coding": [{"system": MDC, "code": "528391 "}]})
    record = read(blood_pressure(**changes), padded)
    assert {str(entry.reason) for entry in record.excluded} == ({why} if why else set())
    assert bool(record.readings) is (why is None)


def test_the_same_coding_under_two_addresses_is_one_reading_sent_twice(
    read: Read, blood_pressure: Build, cuff: Build
) -> None:
    again = {"coding": [{"system": "urn:oid:2.16.840.1.113883.6.1", "code": "85354-9"}]}
    record = read(blood_pressure("a"), blood_pressure("b", code=again), cuff())
    assert [reading.resource for reading in record.readings] == ["Observation/a"]
    assert [str(entry.reason) for entry in record.excluded] == ["duplicate"]


def test_devices_of_one_type_under_two_addresses_are_one_device_type(
    read: Read, blood_pressure: Build, cuff: Build
) -> None:
    kind = {"coding": [{"system": "urn:oid:2.16.840.1.113883.6.24", "code": "528391"}]}
    old = blood_pressure(
        "old", effectiveDateTime="2026-03-04T08:00:00-05:00", device={"reference": "Device/old"}
    )
    record = read(blood_pressure(), old, cuff(), cuff("old", type=kind))
    assert len({reading.series for reading in record.readings}) == 1


def test_a_site_may_write_a_code_system_in_another_way_than_its_ehr_does() -> None:
    terms = load_terminology(
        {
            "observations": [
                {"system": "urn:oid:2.16.840.1.113883.6.1", "code": "9999-9", "line": "respiratory"}
            ],
            "devices": [{"system": "https://snomed.info/sct", "code": "123", "line": "respiratory"}],
            "staff": [{"system": "urn:oid:2.16.840.1.113883.6.101", "code": "X", "role": "physician"}],
            "encounters": [
                {"system": "urn:oid:2.16.840.1.113883.6.12", "code": "99213", "activity": "phone-call"}
            ],
            "coverages": [{"system": "https://loinc.org/", "code": "plan", "payer": "medicare"}],
            "facility_classes": [{"system": "http://hl7.org/fhir/v3/ActCode", "code": "HH"}],
        }
    )
    found = terms.observation([Coding(LOINC, "9999-9")])
    assert found is not None
    assert found.by_site
    assert found.line is Line.RESPIRATORY
    device = Device(type=CodeableConcept((Coding(SNOMED, "123"),)))
    assert terms.device(device).line is Line.RESPIRATORY
    staff = terms.staff([Coding("http://nucc.org/provider-taxonomy", "X")])
    assert staff is not None
    assert staff.role is Role.PHYSICIAN
    visit = terms.encounter([Coding("http://www.ama-assn.org/go/cpt", "99213")], None)
    assert visit is not None
    assert visit.by_site
    assert terms.payer([Coding(LOINC, "plan")], []) == "medicare"
    assert terms.place(Coding(ACT, "HH")) is Place.FACILITY


def test_a_site_that_declares_a_shipped_code_by_oid_overrides_it() -> None:
    entry = {"system": "2.16.840.1.113883.6.24", "code": "531981", "line": "physiologic"}
    gateway = Device(type=CodeableConcept((Coding(MDC, "531981"),)))
    assert load_terminology().device(gateway).kind is DeviceKind.NO_MONITOR
    assert load_terminology({"devices": [entry]}).device(gateway).kind is DeviceKind.MEASURES
