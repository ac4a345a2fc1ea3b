"""What is a value (D21), and what can be believed (D22)."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from fhir_mappings.record import PatientRecord
from fhir_mappings.resources import Coding
from fhir_mappings.terminology import load_terminology
from fhir_mappings.terminology.believable import _Table
from fhir_mappings.terminology.shipped import shipped

Resource = dict[str, Any]
Build = Callable[..., Resource]
Read = Callable[..., PatientRecord]

LOINC = "http://loinc.org"
SNOMED = "http://snomed.info/sct"
MDC = "urn:iso:std:iso:11073:10101"
ABSENT = "http://terminology.hl7.org/CodeSystem/data-absent-reason"


def concept(code: str, system: str = LOINC, **more: Any) -> Resource:
    return {"coding": [{"system": system, "code": code, **more}]}


def absent(code: str = "error") -> Resource:
    return {"dataAbsentReason": concept(code, ABSENT)}


def part(code: str, **value: Any) -> Resource:
    return {"code": concept(code), **value}


def number(value: Any, unit: str | None = "mm[Hg]") -> Resource:
    return {"valueQuantity": {"value": value} | ({"unit": unit} if unit else {})}


def reason(record: PatientRecord, name: str = "Observation/bp") -> str | None:
    return next((str(entry.reason) for entry in record.excluded if entry.resource == name), None)


# -- what is a value ---------------------------------------------------------------------------------------

VALUES: list[Resource] = [
    {"valueQuantity": {"value": 3}},
    {"valueQuantity": {"value": 0, "unit": "{count}"}},
    {"valueQuantity": {"value": "3"}},
    {"valueQuantity": {"value": 20, "comparator": "<"}},
    {"valueInteger": 0},
    {"valueInteger": 14},
    {"valueBoolean": False},
    {"valueBoolean": True},
    {"valueString": "walked to the shop"},
    {"valueString": "Not done"},
    {"valueString": "none"},
    {"valueString": "-2"},
    {"valueCodeableConcept": {"text": "not done"}},
    {"valueCodeableConcept": concept("LA6568-5")},
    {"valueCodeableConcept": concept("410530007", SNOMED, display="Not done")},
    {"valueTime": "07:30:00"},
    {"valueDateTime": "2026-03-05"},
    {"valuePeriod": {"start": "2026-03-05T01:00:00-05:00", "end": "2026-03-05T07:00:00-05:00"}},
    {"valueRange": {"low": {"value": 1}}},
    {"valueRatio": {"numerator": {"value": 1}, "denominator": {"value": 2}}},
    {"valueSampledData": {"origin": {"value": 0}, "period": 10, "dimensions": 1, "data": "E 2 U"}},
    {"component": [{"valueInteger": 1}], **absent()},
    {"component": [part("1", **absent()), part("2", **number(1, None))]},
    {"component": [part("8358-4", valueString="large")], **number(1, None)},
    {"component": [{"code": {"text": "Knee bend"}, "valueQuantity": {"value": 90}}]},
    {"component": [{"code": concept("72514-3", display="site"), "valueInteger": 4}]},
]

NO_VALUES: list[Resource] = [
    {},
    {"valueQuantity": None},
    {"valueQuantity": {}},
    {"valueQuantity": {"value": None}},
    {"valueQuantity": {"unit": "mm[Hg]", "code": "mm[Hg]"}},
    {"valueQuantity": {"value": "---"}},
    {"valueQuantity": {"value": ""}},
    {"valueQuantity": {"value": "NaN"}},
    {"valueQuantity": {"extension": [{"url": "x", "valueCode": "unknown"}]}},
    {"valueInteger": None, "_valueInteger": {"extension": [{"url": "x", "valueCode": "unknown"}]}},
    {"valueInteger": "3"},
    {"valueString": ""},
    {"valueString": "   "},
    {"valueString": "Not Taken"},
    {"valueString": "UNKNOWN"},
    {"valueString": "error"},
    {"valueString": "not-performed"},
    {"valueString": " refused "},
    {"valueString": "N/A"},
    {"valueString": "--"},
    {"valueString": "No reading"},
    {"valueCodeableConcept": {"text": "n.a."}},
    {"valueBoolean": None},
    {"valueCodeableConcept": {}},
    {"valueCodeableConcept": {"coding": []}},
    {"valueCodeableConcept": {"coding": [{"system": SNOMED}]}},
    {"valueCodeableConcept": {"text": "Not performed"}},
    {"valueCodeableConcept": concept("262008008", SNOMED)},
    {"valueCodeableConcept": concept("262008008", "urn:oid:2.16.840.1.113883.6.96")},
    {"valueCodeableConcept": concept("asked-declined", ABSENT)},
    {"valueCodeableConcept": concept("unknown", "http://hl7.org/fhir/data-absent-reason")},
    {"valueCodeableConcept": concept("ASKU", "http://terminology.hl7.org/CodeSystem/v3-NullFlavor")},
    {"valueCodeableConcept": concept("NT", "urn:vendor", display="Not taken")},
    {"valuePeriod": {}},
    {"valuePeriod": {"start": "2026-03-05T01:00:00-05:00"}},
    {"valueTime": ""},
    {"valueDateTime": None},
    {"valueRange": {"low": {"unit": "kg"}}},
    {"valueRatio": {}},
    {"valueSampledData": {"origin": {"value": 0}, "period": 10, "dimensions": 1}},
    {"valueSampledData": {"origin": {"value": 0}, "period": 10, "dimensions": 1, "data": "E E E E"}},
    {"valueSampledData": {"data": ""}},
    {"valueAttachment": {"contentType": "application/json", "data": "e30="}},
    {"valueQuantity": {"value": 3}, **absent()},
    {"valueInteger": 3, **absent("not-performed")},
    {"valueQuantity": {"value": 3}, "dataAbsentReason": {"text": "cuff loose"}},
    {"component": []},
    {"component": [{}]},
    {"component": [part("72514-3")]},
    {"component": [part("1", **number(3), **absent())]},
    {"component": [part("1", **absent()), part("2", **absent("not-performed"))]},
    {"component": [part("8358-4", valueString="large")]},
    {"component": [{"code": {"text": "Cuff size"}, "valueString": "large"}]},
    {"component": [{"code": concept("x", "urn:vendor", display="Body position"), "valueString": "sitting"}]},
    {"component": [part("41904-4", valueCodeableConcept={"text": "left arm"})]},
    {"component": [part("8361-8", valueCodeableConcept={"text": "sitting"})]},
    {"component": [part("8357-6", **number(1)), part("8358-4", **number(30, "cm"))]},
    {"component": [{"code": concept("68193", MDC), "valueCodeableConcept": concept("1", MDC)}]},
    {"component": [part("8358-4", valueString="large")], **number(3), **absent()},
]


def session(**value: Any) -> Resource:
    """An exercise session that the site declared, reported by the patient."""
    return {
        "resourceType": "Observation",
        "id": "bp",
        "status": "final",
        "code": concept("HEP", "urn:clinic:flowsheet"),
        "subject": {"reference": "Patient/p1"},
        "effectiveDateTime": "2026-03-05T08:00:00-05:00",
        **value,
    }


@pytest.mark.parametrize("value", VALUES, ids=json.dumps)
def test_what_was_measured_or_reported_is_a_value(value: Resource, read: Read) -> None:
    record = read(session(**value))
    assert [reading.resource for reading in record.readings] == ["Observation/bp"], record.excluded


@pytest.mark.parametrize("value", NO_VALUES, ids=json.dumps)
def test_what_says_nothing_is_no_value(value: Resource, read: Read) -> None:
    record = read(session(**value))
    assert reason(record) == "no-value"
    assert not record.doubtful_readings


def test_an_element_of_another_shape_leaves_the_rest_alone(read: Read) -> None:
    broken = session(valueCodeableConcept="yes", valuePeriod=[1], valueString={"a": 1}, valueInteger=2.5)
    assert reason(read(broken)) == "no-value"
    assert read(broken | {"valueBoolean": True}).readings


def test_the_reason_of_a_null_is_no_reason(read: Read) -> None:
    assert read(session(**number(3), dataAbsentReason=None)).readings
    assert read(session(**number(3), dataAbsentReason={})).readings


def test_a_panel_of_members_is_not_absent_because_it_says_so_of_its_own_value(
    read: Read, blood_pressure: Build, cuff: Build
) -> None:
    member = {"component": None, "code": concept("8480-6"), **number(120)}
    panel = {"component": None, "hasMember": [{"reference": "Observation/s"}], **absent()}
    assert len(read(blood_pressure(**panel), blood_pressure("s", **member), cuff()).readings) == 2
    member |= absent()
    record = read(blood_pressure(**panel), blood_pressure("s", **member), cuff())
    assert {str(entry.reason) for entry in record.excluded} == {"no-value"}
    assert not record.readings


def test_an_event_that_the_site_declares_counts_without_a_value(chart: Callable[..., Any]) -> None:
    terms = {"line": "musculoskeletal", "source": "patient-reported", "system": "urn:app", "code": "DONE"}
    for counts, value, counted in (
        (True, {}, True),
        (True, {"valueQuantity": {}}, True),
        (True, {"valueBoolean": False}, True),
        (True, absent("not-performed"), False),
        (True, {"valueString": "not performed"}, False),
        (False, {}, False),
    ):
        terminology = load_terminology({"observations": [{**terms, "counts_without_value": counts}]})
        found = chart({"resourceType": "Patient", "id": "p1"}, terminology=terminology)
        found.add(json.dumps(session(**value) | {"code": concept("DONE", "urn:app")}).encode())
        assert bool(found.record("Patient/p1").readings) is counted, value


def test_a_site_says_which_codes_mean_that_there_is_no_value(chart: Callable[..., Any]) -> None:
    terminology = load_terminology(
        {
            "absent_values": [{"system": "urn:app:answer", "code": "skip"}],
            "observations": [
                {
                    "system": "urn:clinic:flowsheet",
                    "code": "HEP",
                    "line": "musculoskeletal",
                    "source": "patient-reported",
                }
            ],
        }
    )
    skipped = session(valueCodeableConcept=concept("skip", "urn:app:answer"))
    found = chart({"resourceType": "Patient", "id": "p1"}, skipped, terminology=terminology)
    assert reason(found.record("Patient/p1")) == "no-value"


# -- what can be believed ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "unit", "lowest", "highest"),
    [
        ("8480-6", "mm[Hg]", 40, 300),
        ("8480-6", "mmHg", 40, 300),
        ("8480-6", "MMHG", 40, 300),
        ("8462-4", "mm[Hg]", 20, 200),
        ("8867-4", "/min", 20, 300),
        ("8867-4", "{beats}/min", 20, 300),
        ("8867-4", "bpm", 20, 300),
        ("40443-4", "beats/minute", 20, 300),
        ("59408-5", "%", 30, 100),
        ("29463-7", "kg", 0.5, 500),
        ("29463-7", "[lb_av]", 1, 1100),
        ("29463-7", "lbs", 1, 1100),
        ("41653-7", "mg/dL", 10, 1000),
        ("2339-0", "mg/dl", 10, 1000),
        ("15074-8", "mmol/L", 0.5, 60),
        ("8310-5", "Cel", 30, 45),
        ("8310-5", "°C", 30, 45),
        ("8310-5", "[degF]", 86, 113),
        ("8310-5", "degF", 86, 113),
        ("19935-6", "L/min", 20, 1000),
        ("9279-1", "/min", 3, 80),
        ("9279-1", "{breaths}/min", 3, 80),
    ],
)
def test_both_ends_are_believed_and_nothing_beyond(
    code: str, unit: str, lowest: float, highest: float
) -> None:
    limits = load_terminology().believable([Coding(LOINC, code)])
    assert limits is not None
    for value in (lowest, highest):
        assert limits.believes(value, unit)
        assert limits.believes(value, None, unit)
        assert limits.believes(value, f" {unit.upper()} ")
    for value in (lowest - 0.01, highest + 0.01):
        assert not limits.believes(value, unit)


@pytest.mark.parametrize("code", ["8480-6", "8867-4", "59408-5", "29463-7", "41653-7", "9279-1", "20150-9"])
def test_of_a_unit_that_nobody_knows_only_nothing_is_not_believed(code: str) -> None:
    limits = load_terminology().believable([Coding(LOINC, code)])
    assert limits is not None
    for unit in ("furlong", None, ""):
        assert limits.believes(0.001, unit)
        assert not limits.believes(0, unit)
        assert not limits.believes(-1, unit)


def test_where_nothing_can_be_measured_nothing_is_believed_too() -> None:
    temperature = load_terminology().believable([Coding(LOINC, "8310-5")])
    assert temperature is not None
    assert temperature.believes(0, "K")
    assert not temperature.believes(0, "Cel")
    for code in ("72514-3", "55423-8", "44261-6"):
        assert load_terminology().believable([Coding(LOINC, code)]) is None


def test_the_table_of_what_is_believed_is_in_order() -> None:
    table = shipped("believable", _Table).measurements
    codings = [entry.key for measurement in table for entry in measurement.codings]
    assert len(codings) == len(set(codings))
    for measurement in table:
        units = [unit.lower() for one in measurement.ranges for unit in one.units]
        assert len(units) == len(set(units)), measurement.name
        for one in measurement.ranges:
            assert one.lowest < one.highest


def test_a_cuff_that_shows_nothing_is_not_believed_and_a_doubt(
    read: Read, blood_pressure: Build, cuff: Build
) -> None:
    both = [part("8480-6", **number(0)), part("8462-4", **number(0))]
    record = read(blood_pressure(component=both), cuff())
    assert reason(record) == "implausible-value"
    assert [str(reading.doubt) for reading in record.doubtful_readings] == ["implausible-value"]
    assert record.excluded[0].about.code == "85354-9"


def test_one_value_that_is_believed_is_enough(read: Read, blood_pressure: Build, cuff: Build) -> None:
    for one, other in ((120, 0), (0, 80), (999, 80)):
        both = [part("8480-6", **number(one)), part("8462-4", **number(other))]
        assert read(blood_pressure(component=both), cuff()).readings
    pulse_only = [
        part("8480-6", **number(0)),
        part("8462-4", **number(0)),
        part("8867-4", **number(70, "/min")),
    ]
    assert read(blood_pressure(component=pulse_only), cuff()).readings


@pytest.mark.parametrize(
    "value",
    [
        {"valueQuantity": {"value": 0, "unit": "kg"}},
        {"valueQuantity": {"value": 820, "code": "kg"}},
        {"valueQuantity": {"value": "0"}},
        {"valueInteger": 0},
        {"valueRange": {"low": {"value": 0}, "high": {"value": 0}}},
        {"valueQuantity": {"value": -80, "unit": "stone"}},
    ],
)
def test_a_weight_that_nobody_has(value: Resource, read: Read, blood_pressure: Build, cuff: Build) -> None:
    scale = cuff(type=concept("528399", MDC))
    weight = {"component": None, "code": concept("29463-7"), **value}
    record = read(blood_pressure(**weight), scale)
    assert reason(record) == "implausible-value"
    assert len(record.doubtful_readings) == 1


@pytest.mark.parametrize(
    ("system", "code", "unit", "believed", "beyond"),
    [
        (LOINC, "14743-9", "mmol/L", 5.8, 105),
        (LOINC, "32016-8", "mg/dL", 105, 5.8),
        (LOINC, "2340-8", "mg/dL", 105, 5.8),
        (LOINC, "20564-1", "%", 97, 0.97),
        (SNOMED, "103228002", "%", 97, 0.97),
        (SNOMED, "78564009", "/min", 70, 700),
        (SNOMED, "271649006", "mm[Hg]", 120, 12),
        (SNOMED, "271650006", "mm[Hg]", 80, 8),
        (MDC, "151562", "/min", 16, 160),
    ],
)
def test_home_devices_measure_by_these_codes_too_within_the_same_limits(
    system: str,
    code: str,
    unit: str,
    believed: float,
    beyond: float,
    read: Read,
    blood_pressure: Build,
    cuff: Build,
) -> None:
    reading = blood_pressure(code=concept(code, system), component=None, **number(believed, unit))
    assert len(read(reading, cuff()).readings) == 1
    assert reason(read({**reading, **number(beyond, unit)}, cuff())) == "implausible-value"


def test_a_weight_in_a_unit_of_its_own_is_believed(read: Read, blood_pressure: Build, cuff: Build) -> None:
    scale = cuff(type=concept("528399", MDC))
    weight = {
        "component": None,
        "code": concept("29463-7"),
        "valueQuantity": {"value": 12.5, "unit": "stone"},
    }
    assert read(blood_pressure(**weight), scale).readings


def test_a_panel_of_members_that_nobody_has_is_not_believed_either(
    read: Read, blood_pressure: Build, cuff: Build
) -> None:
    panel = blood_pressure(component=None, hasMember=[{"reference": "Observation/s"}])
    member = {"component": None, "code": concept("8480-6"), **number(0)}
    record = read(panel, blood_pressure("s", **member), cuff())
    assert {reason(record), reason(record, "Observation/s")} == {"implausible-value"}


def test_what_is_left_out_for_another_reason_is_no_doubt_of_its_value(
    read: Read, blood_pressure: Build, cuff: Build
) -> None:
    both = [part("8480-6", **number(0)), part("8462-4", **number(0))]
    somebodys = cuff(patient={"reference": "Patient/p2"})
    record = read(blood_pressure(component=both), somebodys)
    assert reason(record) == "device-of-another"
    assert not record.doubtful_readings


def test_the_same_number_written_twice_is_one_value(read: Read, blood_pressure: Build, cuff: Build) -> None:
    one = [part("8480-6", **number(120)), part("8462-4", **number(80.0))]
    same = [part("8480-6", **number(120.0)), part("8462-4", **number(80))]
    other = [part("8480-6", **number(121)), part("8462-4", **number(80))]
    assert len(read(blood_pressure(component=one), blood_pressure("b", component=same), cuff()).readings) == 1
    assert (
        len(read(blood_pressure(component=one), blood_pressure("b", component=other), cuff()).readings) == 2
    )


@pytest.mark.parametrize(
    ("member", "why"),
    [
        (number(120), None),
        (number(0), "implausible-value"),
        (absent(), "no-value"),
        ({"status": "entered-in-error", **number(120)}, "no-value"),
    ],
)
def test_a_panel_may_contain_its_members(
    member: dict[str, Any], why: str | None, read: Read, blood_pressure: Build, cuff: Build
) -> None:
    inner = blood_pressure("s", component=None, code=concept("8480-6"), **member)
    panel = blood_pressure(component=None, contained=[inner], hasMember=[{"reference": "#s"}])
    record = read(panel, cuff())
    assert reason(record) == why if why else record.readings


def test_what_a_panel_contains_and_does_not_name_is_no_member_of_it(
    read: Read, blood_pressure: Build, cuff: Build
) -> None:
    inner = blood_pressure("s", component=None, code=concept("8480-6"), **number(120))
    panel = blood_pressure(component=None, contained=[inner], hasMember=[{"reference": "Observation/s"}])
    assert reason(read(panel, cuff())) == "no-value"
