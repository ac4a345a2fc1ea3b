"""Continuous glucose as a patient's only monitor: which codes report it is the site's to say (D41)."""

from __future__ import annotations

import json
from datetime import date
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from fhir_mappings.chart import Chart
from fhir_mappings.decision import Decision
from fhir_mappings.rules.engine import assess
from fhir_mappings.rules.policy import load_policy
from fhir_mappings.terminology import load_terminology
from tests.support.chart import build_resources, site_terminology

Event = dict[str, Any]
AS_OF = date(2026, 4, 10)
SET_UP: Event = {"setup": {"at": "2026-01-05T07:00", "for": "20:00", "by": "nurse", "program": "rpm"}}
CALL: Event = {"call": {"at": "2026-01-12T10:00", "for": "22:00", "by": "physician", "program": "rpm"}}
SENSOR = ["urn:iso:std:iso:11073:10101", "528409"]
IN_TISSUE, IN_BLOOD = ["http://loinc.org", "99504-3"], ["http://loinc.org", "41653-7"]


def device(name: str, **told: Any) -> Event:
    return {"device": {"name": name, **told}}


def days(device: str, of: Any = "BP", count: int = 16, first: str = "2026-01-05") -> Event:
    return {"days": {"of": of, "device": device, "from": first, "count": count, "value": 110}}


def decided(*events: Event, **settings: Any) -> dict[str, Decision]:
    """The decisions of January's period, by code."""
    terminology = load_terminology(site_terminology())
    chart = Chart(terminology, ZoneInfo("America/New_York"), AS_OF)
    for resource in build_resources([SET_UP, *events], "America/New_York"):
        chart.add(json.dumps(resource).encode())
    record = chart.record("Patient/p1")
    decisions = assess(record, load_policy("medicare", settings), AS_OF).decisions
    return {one.code: one for one in decisions if one.period.start <= date(2026, 1, 5)}


def told(decision: Decision) -> tuple[str, tuple[str, ...], bool]:
    return str(decision.outcome), decision.reasons, "same-day-services" in decision.unverified


SENSOR_DAYS = [device("cgm", type=SENSOR), days("cgm", IN_TISSUE)]
SAID_BY = {
    "the device": [device("cgm", type=SENSOR), days("cgm", IN_BLOOD)],
    "the reading": [device("cgm", type=["urn:clinic:device", "bp-cuff"]), days("cgm", IN_TISSUE)],
    "both": SENSOR_DAYS,
}


@pytest.mark.parametrize("said_by", SAID_BY)
def test_where_the_site_says_nothing_a_human_confirms_it(said_by: str) -> None:
    found = decided(*SAID_BY[said_by], CALL)
    assert told(found["99454"]) == ("suggest", (), True)
    assert told(found["99453"]) == ("suggest", (), True)


@pytest.mark.parametrize("said_by", SAID_BY)
def test_a_site_that_reports_remote_monitoring_is_asked_nothing(said_by: str) -> None:
    found = decided(*SAID_BY[said_by], continuous_glucose="rpm")
    assert told(found["99454"]) == ("suggest", (), False)
    assert told(found["99453"]) == ("suggest", (), False)


@pytest.mark.parametrize("said_by", SAID_BY)
def test_a_site_that_reports_the_sensors_own_codes_has_device_and_start_up_for_review(said_by: str) -> None:
    found = decided(*SAID_BY[said_by], CALL, continuous_glucose="cgm")
    assert told(found["99454"]) == ("review", ("charged-otherwise",), False)
    assert told(found["99453"]) == ("review", ("charged-otherwise",), False)
    assert found["99454"].doubts == ("charged-otherwise", "95250", "95251")
    assert str(found["99457"].outcome) == "suggest"


@pytest.mark.parametrize("family", ["ask", "cgm"])
def test_another_monitor_that_earns_the_code_by_itself_leaves_nothing_to_ask(family: str) -> None:
    found = decided(*SENSOR_DAYS, days("cuff"), continuous_glucose=family)
    assert told(found["99454"]) == ("suggest", (), False)
    assert told(found["99453"]) == ("suggest", (), False)


def test_another_monitor_that_earns_less_leaves_open_what_only_the_sensor_earns() -> None:
    found = decided(*SENSOR_DAYS, days("cuff", count=15))
    assert told(found["99454"]) == ("suggest", (), True)
    assert told(found["99453"]) == ("suggest", (), False)


def test_a_finger_stick_meter_is_no_sensor() -> None:
    meter = device("meter", type=["urn:iso:std:iso:11073:10101", "528401"])
    assert told(decided(meter, days("meter", IN_BLOOD))["99454"]) == ("suggest", (), False)


def test_where_days_of_several_devices_are_added_up_a_sensor_among_them_is_asked_about() -> None:
    found = decided(
        *[device("cgm", type=SENSOR), days("cgm", IN_TISSUE, count=10)],
        days("cuff", count=10, first="2026-01-15"),
        multi_device_rule="union",
    )
    assert told(found["99454"]) == ("suggest", (), True)


def test_a_code_that_the_sensor_does_not_earn_is_asked_the_same_and_stays_unmet() -> None:
    found = decided(device("cgm", type=SENSOR), days("cgm", IN_TISSUE, count=10))
    assert told(found["99454"]) == ("out-of-reach", (), True)
    assert told(found["99445"]) == ("suggest", (), True)


@pytest.mark.parametrize("declared", ["device", "reading"])
def test_a_site_declares_a_sensor_of_its_own(declared: str) -> None:
    site = site_terminology()
    sensor, row = {"continuous_glucose": True}, {"system": "urn:clinic:flowsheet", "code": "CGM"}
    site["devices"].append(
        {
            "manufacturer": "Acme",
            "model": "G7",
            "line": "physiologic",
            **(sensor if declared == "device" else {}),
        }
    )
    site["observations"].append(
        {**row, "line": "physiologic", "source": "device", **(sensor if declared == "reading" else {})}
    )
    chart = Chart(load_terminology(site), ZoneInfo("America/New_York"), AS_OF)
    named = {"type": None, "manufacturer": "ACME", "modelNumber": "g7"}
    events = [
        SET_UP,
        {"device": {"name": "cgm", "type": SENSOR, "raw": named}},
        days("cgm", [row["system"], row["code"]]),
    ]
    for resource in build_resources(events, "America/New_York"):
        chart.add(json.dumps(resource).encode())
    found = assess(chart.record("Patient/p1"), load_policy("medicare"), AS_OF).decisions
    assert told(next(one for one in found if one.code == "99454")) == ("suggest", (), True)


def test_a_row_that_only_sensors_write_is_one_without_a_device() -> None:
    site = site_terminology()
    site["observations"].append(
        {
            "system": "urn:clinic:flowsheet",
            "code": "CGM",
            "line": "physiologic",
            "source": "device",
            "continuous_glucose": True,
        }
    )
    chart = Chart(load_terminology(site), ZoneInfo("America/New_York"), AS_OF)
    rows = {"of": ["urn:clinic:flowsheet", "CGM"], "from": "2026-01-05", "count": 16, "value": 110}
    for resource in build_resources([SET_UP, {"days": rows}], "America/New_York"):
        chart.add(json.dumps(resource).encode())
    found = assess(chart.record("Patient/p1"), load_policy("medicare"), AS_OF).decisions
    assert told(next(one for one in found if one.code == "99454")) == ("suggest", (), True)
