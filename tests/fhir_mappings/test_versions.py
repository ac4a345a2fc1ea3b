"""What DSTU2, STU3 and R5 call otherwise than R4 is the same thing: a stay is one in every version."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from fhir_mappings.chart import Chart
from fhir_mappings.record import PatientRecord
from fhir_mappings.terminology import load_terminology
from tests.fhir_mappings.test_chart import counted, left_out

Resource = dict[str, Any]
Build = Callable[..., Resource]
Read = Callable[..., PatientRecord]

V3 = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
PERIOD = {"start": "2026-03-04T08:00:00-05:00", "end": "2026-03-06T08:00:00-05:00"}
SUBJECT = {"reference": "Patient/p1"}
IMP = {"coding": [{"system": "urn:ehr:class", "code": "3"}, {"system": V3, "code": "IMP"}]}
CALL_TYPE = [{"coding": [{"system": "urn:clinic:visit", "code": "CALL"}]}]
CALL_PERIOD = {"start": "2026-03-10T10:00:00-04:00", "end": "2026-03-10T10:12:00-04:00"}


def encounter(**elements: Any) -> Resource:
    return {"resourceType": "Encounter", "id": "e1", **elements}


@pytest.mark.parametrize(
    "stay",
    [
        encounter(status="finished", subject=SUBJECT, period=PERIOD, **{"class": "inpatient"}),
        encounter(status="finished", patient=SUBJECT, period=PERIOD, **{"class": "inpatient"}),
        encounter(status="completed", subject=SUBJECT, actualPeriod=PERIOD, **{"class": [IMP]}),
        encounter(status="discharged", subject=SUBJECT, actualPeriod=PERIOD, **{"class": [IMP]}),
        encounter(
            status="in-progress",
            subject=SUBJECT,
            actualPeriod={"start": PERIOD["start"]},
            serviceType=[{"concept": {"text": "Cardiology"}}],
            **{"class": [IMP]},
        ),
    ],
    ids=["DSTU2", "DSTU2-patient", "R5", "R5-discharged", "R5-open"],
)
def test_a_stay_is_one_in_every_version(
    stay: Resource, read: Read, blood_pressure: Build, cuff: Build
) -> None:
    assert left_out(read(blood_pressure(), cuff(), stay))["Observation/bp"] == "in-facility"


@pytest.mark.parametrize(
    "call",
    [
        encounter(
            status="completed",
            subject=SUBJECT,
            type=CALL_TYPE,
            actualPeriod=CALL_PERIOD,
            participant=[{"actor": {"reference": "Practitioner/dr"}}],
            **{"class": [{"coding": [{"system": V3, "code": "VR"}]}]},
        ),
        encounter(
            status="finished",
            patient=SUBJECT,
            type=CALL_TYPE,
            period=CALL_PERIOD,
            participant=[{"individual": {"reference": "Practitioner/dr"}}],
            **{"class": "virtual"},
        ),
    ],
    ids=["R5", "DSTU2"],
)
def test_a_call_gives_its_minutes_and_says_who_held_it(call: Resource, read: Read) -> None:
    doctor = {"resourceType": "Practitioner", "id": "dr"}
    (time,) = read(doctor, call).management
    assert (time.end - time.start, time.person) == (12 * 60 * 1_000_000, "Practitioner/dr")


def test_an_encounter_that_was_discontinued_is_no_finished_one(read: Read) -> None:
    call = encounter(status="discontinued", subject=SUBJECT, type=CALL_TYPE, actualPeriod=CALL_PERIOD)
    record = read(call)
    assert (record.management, left_out(record)) == ((), {"Encounter/e1": "status-not-known"})


CUFF_TYPE = {"coding": [{"system": "urn:iso:std:iso:11073:10101", "code": "528391"}]}
PERSONAL = {"coding": [{"system": "urn:iso:std:iso:11073:10101", "code": "65573"}]}


@pytest.mark.parametrize(
    "device",
    [
        {"type": [{"text": "Cuff"}, CUFF_TYPE]},
        {"type": [PERSONAL], "conformsTo": [{"specification": CUFF_TYPE}]},
    ],
    ids=["types", "conforms-to"],
)
def test_a_cuff_of_r5_is_a_cuff(device: Resource, read: Read, blood_pressure: Build, cuff: Build) -> None:
    assert counted(read(blood_pressure(), cuff(**device))) == ["Observation/bp"]


@pytest.mark.parametrize(
    ("declared", "device"),
    [
        ({"model": "B1"}, {"model": "B1"}),
        ({"model": "B1"}, {"name": [{"value": "B1", "type": "user-friendly-name"}]}),
        ({"udi_di": "00811"}, {"udi": {"deviceIdentifier": "00811"}}),
        ({"udi_di": "00811111000019"}, {"udi": "(01)00811111000019(21)7"}),
    ],
    ids=["STU3-model", "R5-name", "STU3-udi", "DSTU2-udi"],
)
def test_a_site_declares_a_device_of_every_version(
    declared: Resource, device: Resource, blood_pressure: Build, cuff: Build
) -> None:
    terms = load_terminology({"devices": [{**declared, "line": "physiologic"}]})
    chart = Chart(terms, ZoneInfo("America/New_York"), date(2026, 4, 1))
    for one in ({"resourceType": "Patient", "id": "p1"}, blood_pressure(), cuff(type=None, **device)):
        chart.add(json.dumps(one).encode(), None, "line")
    assert counted(chart.record("Patient/p1")) == ["Observation/bp"]


def test_a_measuring_part_of_r5_leads_to_its_device(read: Read, blood_pressure: Build, cuff: Build) -> None:
    metric = {"resourceType": "DeviceMetric", "id": "m1", "device": {"reference": "Device/cuff"}}
    record = read(blood_pressure(device={"reference": "DeviceMetric/m1"}), metric, cuff())
    assert counted(record) == ["Observation/bp"]


def test_an_operation_of_r5_has_its_day(read: Read) -> None:
    knee = {
        "resourceType": "Procedure",
        "id": "x",
        "status": "completed",
        "category": [{"text": "Surgery"}],
        "subject": SUBJECT,
        "code": {"coding": [{"system": "http://www.ama-assn.org/go/cpt", "code": "27447"}]},
        "occurrenceDateTime": "2026-02-20",
    }
    (surgery,) = read(knee).surgeries
    assert surgery.days is not None
    assert surgery.days.start.isoformat() == "2026-02-20"


def test_an_order_of_r5_says_its_program_and_who_gave_it(read: Read) -> None:
    order = {
        "resourceType": "ServiceRequest",
        "id": "o",
        "status": "active",
        "intent": "order",
        "subject": SUBJECT,
        "code": {"concept": CALL_TYPE[0]},
        "authoredOn": "2026-03-01",
        "requester": {"reference": "Practitioner/dr"},
    }
    (found,) = read(order).orders
    assert found.program == "rtm"


@pytest.mark.parametrize("part", [False, True], ids=["parameter", "part"])
def test_resources_in_parameters_are_read(
    part: bool, chart: Callable[..., Chart], blood_pressure: Build
) -> None:
    inner = [
        {"name": "record", "resource": one}
        for one in ({"resourceType": "Patient", "id": "p1"}, blood_pressure())
    ]
    wrapped = {"resourceType": "Parameters", "parameter": [{"name": "r", "part": inner}] if part else inner}
    record = chart(wrapped).record("Patient/p1")
    assert left_out(record) == {"Observation/bp": "device-unknown"}


def test_parameters_may_be_nested_as_deep_as_json_may(chart: Callable[..., Chart]) -> None:
    deep = '{"name":"a","part":[' * 20_000 + "]}" * 20_000
    text = '{"resourceType":"Parameters","parameter":[' + deep + "]}"
    assert chart(text.encode()).patients() == ()


def test_a_component_that_was_typed_in_is_a_patients(read: Read, blood_pressure: Build, cuff: Build) -> None:
    typed = {"url": "https://bdh.stanford.edu/fhir/defs/metadata/HKWasUserEntered", "valueBoolean": True}
    components = [{"valueQuantity": {"value": 120}, "extension": [typed]}, {"valueQuantity": {"value": 80}}]
    assert left_out(read(blood_pressure(component=components), cuff())) == {
        "Observation/bp": "patient-reported"
    }


@pytest.mark.parametrize("odd", ["null", '{"resource": 5}', '"text"'])
def test_a_parameter_that_cannot_be_read_loses_itself_alone_and_says_so(
    odd: str, chart: Callable[..., Chart], blood_pressure: Build
) -> None:
    rest = ",".join(
        json.dumps({"resource": one}) for one in ({"resourceType": "Patient", "id": "p1"}, blood_pressure())
    )
    found = chart(f'{{"resourceType": "Parameters", "parameter": [{odd}, {rest}]}}'.encode())
    record = found.record("Patient/p1")
    assert left_out(record)["Observation/bp"] == "device-unknown"
    assert ("line 1 parameter 1" in left_out(record), record.completeness.whole) == (
        (False, True) if odd == "null" else (True, False)
    )


def test_a_class_written_as_a_concept_is_a_class(read: Read, blood_pressure: Build, cuff: Build) -> None:
    stay = encounter(
        status="finished", subject=SUBJECT, period=PERIOD, **{"class": {"coding": IMP["coding"]}}
    )
    assert left_out(read(blood_pressure(), cuff(), stay))["Observation/bp"] == "in-facility"
