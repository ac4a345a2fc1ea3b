"""Devices as a site can declare them (D25): by type, or by what home devices carry instead."""

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
Clinic = Callable[..., PatientRecord]

DI = "00884838000017"
ASSET = {"system": "urn:clinic:asset", "value": "A-17"}
OMRON = {
    "manufacturer": "OMRONHEALTHCARE",
    "modelNumber": "HEM-9200T",
    "deviceName": [{"name": "BP Monitor, Upper Arm", "type": "user-friendly-name"}],
    "type": {"text": "Blood Pressure  Monitor"},
    "udiCarrier": [{"deviceIdentifier": DI}],
    "identifier": [ASSET],
}


@pytest.fixture
def clinic(chart: Callable[..., Chart]) -> Clinic:
    def record(devices: list[Resource], *resources: Resource) -> PatientRecord:
        terms = load_terminology({"devices": devices})
        patient = {"resourceType": "Patient", "id": "p1"}
        return chart(patient, *resources, terminology=terms).record("Patient/p1")

    return record


@pytest.mark.parametrize(
    "entry",
    [
        {"manufacturer": "OmronHealthcare"},
        {"manufacturer": " omronhealthcare ", "model": "hem-9200t"},
        {"model": "HEM-9200T"},
        {"model": "bp monitor, upper arm"},
        {"type_text": "blood pressure monitor"},
        {"udi_di": DI},
        {"identifier": ASSET},
        {"identifier": {"system": "URN:Clinic:Asset", "value": "a-17"}},
        {"manufacturer": "OMRONHEALTHCARE", "model": "HEM-9200T", "type_text": "Blood pressure monitor"},
    ],
)
def test_a_device_is_found_by_what_it_carries_without_regard_to_case(
    entry: Resource, clinic: Clinic, blood_pressure: Build, cuff: Build
) -> None:
    record = clinic([{**entry, "line": "physiologic"}], blood_pressure(), cuff(**OMRON))
    assert len(record.readings) == 1
    assert record.readings[0].unverified == {Unverified.DEVICE_SUPPLIED_BY_PRACTICE}


@pytest.mark.parametrize(
    "entry",
    [
        {"manufacturer": "Omron"},
        {"manufacturer": "OMRONHEALTHCARE", "model": "HEM-7150"},
        {"model": "HEM"},
        {"type_text": "blood pressure"},
        {"udi_di": "0088483800001"},
        {"identifier": {"system": "urn:other", "value": "A-17"}},
        {"identifier": {"system": "urn:clinic:asset", "value": "A-1"}},
        {"system": "urn:iso:std:iso:11073:10101", "code": "528391", "manufacturer": "OMRONHEALTHCARE"},
    ],
)
def test_all_that_an_entry_says_must_fit(
    entry: Resource, clinic: Clinic, blood_pressure: Build, cuff: Build
) -> None:
    record = clinic([{**entry, "line": "physiologic"}], blood_pressure(), cuff(**OMRON))
    assert [str(left_out.reason) for left_out in record.excluded] == ["device-unknown"]


def test_the_device_identifier_is_found_in_what_is_printed_on_it(
    clinic: Clinic, blood_pressure: Build, cuff: Build
) -> None:
    printed = cuff(type=None, udiCarrier=[{"carrierHRF": f"(01){DI}(17)280101(10)L1"}])
    assert clinic([{"udi_di": DI, "line": "physiologic"}], blood_pressure(), printed).readings


def test_the_first_entry_that_fits_wins(clinic: Clinic, blood_pressure: Build, cuff: Build) -> None:
    model = {"model": "HEM-9200T", "line": "physiologic"}
    maker = {"manufacturer": "OMRONHEALTHCARE", "line": "respiratory"}
    assert clinic([model, maker], blood_pressure(), cuff(**OMRON)).readings
    record = clinic([maker, model], blood_pressure(), cuff(**OMRON))
    assert [str(entry.reason) for entry in record.excluded] == ["line-conflict"]


def test_what_a_site_declares_comes_before_what_is_shipped(
    clinic: Clinic, blood_pressure: Build, cuff: Build
) -> None:
    phone = cuff(type={"text": "phone"}, modelNumber="BP-Phone 1")
    assert not clinic([], blood_pressure(), phone).readings
    assert clinic([{"model": "BP-Phone 1", "line": "physiologic"}], blood_pressure(), phone).readings
    relabelled = {"manufacturer": "Acme", "line": "respiratory"}
    record = clinic([relabelled], blood_pressure(), cuff(manufacturer="ACME"))
    assert [str(entry.reason) for entry in record.excluded] == ["line-conflict"]


def readings_of_two(blood_pressure: Build) -> list[Resource]:
    return [
        blood_pressure(
            name, effectiveDateTime=f"2026-03-0{day}T08:00:00-05:00", device={"reference": f"Device/{name}"}
        )
        for name, day in (("one", 4), ("two", 5))
    ]


@pytest.mark.parametrize(
    ("entry", "series"),
    [
        ({"manufacturer": "Acme", "model": "M1"}, 1),
        ({"model": "M1"}, 1),
        ({"type_text": "cuff"}, 1),
        ({"udi_di": DI}, 1),
        ({"manufacturer": "Acme"}, 2),
        ({"identifier": {"system": "urn:a", "value": "1"}}, 2),
        ({"system": "urn:clinic:device", "code": "cuff"}, 1),
    ],
)
def test_which_declared_devices_are_one_device_type(
    entry: Resource, series: int, clinic: Clinic, blood_pressure: Build, cuff: Build
) -> None:
    carries = {
        "manufacturer": "ACME",
        "modelNumber": "m1",
        "type": {"text": "Cuff", "coding": [{"system": "urn:clinic:device", "code": "cuff"}]},
        "udiCarrier": [{"deviceIdentifier": DI}],
        "identifier": [{"system": "urn:a", "value": "1"}],
    }
    both = [cuff("one", **carries), cuff("two", **carries)]
    record = clinic([{**entry, "line": "physiologic"}], *readings_of_two(blood_pressure), *both)
    assert len(record.readings) == 2
    assert len({reading.series for reading in record.readings}) == series


MONITOR = {"system": "http://snomed.info/sct", "code": "466086009"}
BY_MDC = {"system": "urn:iso:std:iso:11073:10101", "code": "528391"}
SCALE = {"system": "urn:iso:std:iso:11073:10101", "code": "528399"}
VENDORS = {"system": "urn:vendor:kind", "code": "connected device"}


@pytest.mark.parametrize(
    ("one", "two", "series"),
    [
        ([MONITOR, BY_MDC], [BY_MDC], 1),
        ([BY_MDC, MONITOR], [BY_MDC], 1),
        ([BY_MDC], [MONITOR, BY_MDC], 1),
        ([MONITOR], [BY_MDC], 2),
        # What says nothing of what is measured makes no type.
        ([VENDORS, BY_MDC], [VENDORS, SCALE], 2),
        ([VENDORS, BY_MDC], [BY_MDC], 1),
    ],
)
def test_devices_whose_types_share_a_monitors_coding_are_one_device_whichever_stands_first(
    one: list[Resource], two: list[Resource], series: int, clinic: Clinic, blood_pressure: Build, cuff: Build
) -> None:
    both = [cuff("one", type={"coding": one}), cuff("two", type={"coding": two})]
    for devices in (both, both[::-1]):
        record = clinic([], *readings_of_two(blood_pressure), *devices)
        assert len({reading.series for reading in record.readings}) == series


def test_a_coding_that_a_site_declares_is_one_of_its_devices_types(
    clinic: Clinic, blood_pressure: Build, cuff: Build
) -> None:
    own = {"system": "urn:clinic:device", "code": "cuff"}
    both = [cuff("one", type={"coding": [own, BY_MDC]}), cuff("two", type={"coding": [BY_MDC]})]
    record = clinic([{**own, "line": "physiologic"}], *readings_of_two(blood_pressure), *both)
    assert len({reading.series for reading in record.readings}) == 1


def test_what_one_device_can_do_makes_no_one_device_of_others(
    clinic: Clinic, blood_pressure: Build, cuff: Build
) -> None:
    hub = cuff(
        "hub", type=None, specialization=[{"systemType": {"coding": [kind]}} for kind in (BY_MDC, SCALE)]
    )
    others = [cuff("one", type={"coding": [BY_MDC]}), cuff("two", type={"coding": [SCALE]})]
    of_hub = blood_pressure("hub", device={"reference": "Device/hub"})
    record = clinic([], *readings_of_two(blood_pressure), of_hub, hub, *others)
    assert len({reading.series for reading in record.readings}) == 2


@pytest.mark.parametrize(
    ("numbers", "series"),
    [
        ([{"serialNumber": "S1"}, {"serialNumber": "S1"}], 1),
        ([{"identifier": [ASSET]}, {"identifier": [ASSET]}], 1),
        ([{"serialNumber": "S1"}, {"serialNumber": "S2"}], 2),
        ([{"serialNumber": "S1", "modelNumber": "M1"}, {"serialNumber": "S1", "modelNumber": "M2"}], 2),
        ([{}, {}], 2),
        ([{"serialNumber": " "}, {"serialNumber": " "}], 2),
    ],
)
@pytest.mark.parametrize("entry", [{"manufacturer": "Acme"}])
def test_a_device_that_each_reading_contains_is_one_device_by_its_number(
    entry: Resource, numbers: list[Resource], series: int, clinic: Clinic, blood_pressure: Build
) -> None:
    readings = [
        {
            **reading,
            "contained": [{"resourceType": "Device", "id": "d", "manufacturer": "ACME", **number}],
            "device": {"reference": "#d"},
        }
        for reading, number in zip(readings_of_two(blood_pressure), numbers, strict=True)
    ]
    record = clinic([{**entry, "line": "physiologic"}], *readings)
    assert len(record.readings) == 2
    assert len({reading.series for reading in record.readings}) == series


def test_two_entries_are_two_device_types(clinic: Clinic, blood_pressure: Build, cuff: Build) -> None:
    entries = [{"model": "M1", "line": "physiologic"}, {"model": "M2", "line": "physiologic"}]
    both = [cuff("one", type=None, modelNumber="M1"), cuff("two", type=None, modelNumber="M2")]
    record = clinic(entries, *readings_of_two(blood_pressure), *both)
    assert len({reading.series for reading in record.readings}) == 2


@pytest.mark.parametrize("patient", [None, {"display": "Jane Doe"}, {}])
def test_a_device_that_names_nobody_leaves_the_enrolment_open(
    patient: Resource | None, clinic: Clinic, blood_pressure: Build, cuff: Build
) -> None:
    record = clinic([], blood_pressure(), cuff(patient=patient))
    assert len(record.readings) == 1
    assert Unverified.ENROLMENT in record.readings[0].unverified
    assert not record.excluded


@pytest.mark.parametrize(
    ("owner", "left_out"),
    [
        ({"system": "urn:clinic:mrn", "value": "2"}, "device-of-another"),
        ({"system": "urn:clinic:mrn", "value": "1"}, None),
        ({"system": "urn:vendor:user", "value": "7"}, None),
        ({"value": "2"}, None),
    ],
)
def test_an_identifier_beside_the_patients_own_is_somebody_else(
    owner: Resource, left_out: str | None, chart: Callable[..., Chart], blood_pressure: Build, cuff: Build
) -> None:
    mrn = {"system": "urn:clinic:mrn", "value": "1"}
    patient = {"resourceType": "Patient", "id": "p1", "identifier": [mrn]}
    record = chart(patient, blood_pressure(), cuff(patient={"identifier": owner})).record("Patient/p1")
    said = {entry.resource: str(entry.reason) for entry in record.excluded}
    assert said.get("Observation/bp") == left_out
    assert len(record.readings) == (left_out is None)


@pytest.mark.parametrize("coded", [{}, {"system": "urn:vendor:type", "code": "bpm"}])
def test_the_display_of_a_type_is_its_text(
    coded: dict[str, str], clinic: Clinic, blood_pressure: Build, cuff: Build
) -> None:
    words = cuff(type={"coding": [{**coded, "display": "Blood Pressure Monitor"}]})
    entry = {"type_text": "blood pressure monitor", "line": "physiologic"}
    assert len(clinic([entry], blood_pressure(), words).readings) == 1


@pytest.mark.parametrize(
    ("carrier", "verified"),
    [
        ({"deviceIdentifier": DI}, True),
        ({"carrierHRF": "(01)1"}, True),
        ({"carrierAIDC": "AAA="}, True),
        ({}, False),
    ],
)
def test_an_empty_carrier_is_no_device_identifier(
    carrier: Resource, verified: bool, clinic: Clinic, blood_pressure: Build, cuff: Build
) -> None:
    record = clinic([], blood_pressure(), cuff(udiCarrier=[carrier]))
    assert (Unverified.FDA_DEVICE not in record.readings[0].unverified) is verified


@pytest.mark.parametrize(
    ("entry", "fault"),
    [
        ({}, "give system and code, manufacturer"),
        ({"system": "urn:x"}, "both system and code"),
        ({"code": "x"}, "both system and code"),
        ({"identifier": {"value": "x"}}, "system"),
        ({"modell": "x"}, "modell"),
    ],
)
def test_an_entry_that_names_no_device_is_refused(entry: Resource, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        load_terminology({"devices": [{**entry, "line": "physiologic"}]})
