"""The chart as legacy data leaves it: what a strict create would refuse, and what is valid but doubtful."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

from launch.sandbox.patients.chart import Chart, Resource
from launch.sandbox.patients.codes import CUFF, EXERCISE_APP, FLOWSHEET, Visit, coding, concept
from launch.sandbox.patients.staff import ASSISTANT, THERAPIST

_HTEST = {"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "HTEST"}


def messy(chart: Chart) -> None:
    """Three weeks of a home exercise app, and everything that goes wrong in a chart."""
    chart.cover()
    start = chart.as_of - timedelta(days=30)
    chart.enrol(start, "rtm", THERAPIST, ("M17.11", "Worn right knee joint"), "98977")
    chart.visit(Visit.RTM_SETUP, ASSISTANT, chart.moment(start, 6, 15), 20, "AMB")
    device = chart.device(EXERCISE_APP)
    chart.readings(EXERCISE_APP, device, [start + timedelta(days=offset) for offset in range(0, 24, 2)])
    _doubtful_readings(chart, device)
    _doubtful_devices(chart, device)
    _doubtful_visits(chart)


def _doubtful_readings(chart: Chart, device: str) -> None:
    def day(offset: int, hour: int = 9) -> datetime:
        return chart.moment(chart.as_of - timedelta(days=30 - offset), hour)

    def add(offset: int, **other: Any) -> Resource:
        return chart.reading(EXERCISE_APP, device, day(offset), **other)

    for offset, status in ((1, "entered-in-error"), (3, "preliminary"), (5, "cancelled"), (7, "banana")):
        add(offset, status=status)
    number = [{"system": "urn:sandbox:message", "value": "SYN-TWICE"}]
    for _ in range(2):
        add(2, identifier=number)
    original = add(4)
    chart.add("Observation", **{k: v for k, v in original.items() if k not in ("resourceType", "id")})
    add(9, valueQuantity=None)
    absent = coding("http://terminology.hl7.org/CodeSystem/data-absent-reason", "error", "failed attempt")
    add(11, valueQuantity=None, dataAbsentReason=concept(absent))
    add(13, effectiveDateTime=day(13).replace(tzinfo=None).isoformat())
    add(15, effectiveDateTime=day(15).strftime("%Y-%m"))
    add(16, effectiveDateTime=day(16).date().isoformat())
    add(17, effectiveDateTime=20260317)
    add(17, effectiveDateTime=None, issued=None)
    add(19, code=concept(coding(FLOWSHEET, "ZZZ", "A row nobody knows")))
    add(21, meta={"security": [_HTEST]})
    add(23, category=None)
    # Late evening, stored in UTC: the next day by its text, the same day by the clock on the wall.
    add(24, effectiveDateTime=day(24, 23).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))


def _doubtful_devices(chart: Chart, device: str) -> None:
    def at(offset: int) -> datetime:
        return chart.moment(chart.as_of - timedelta(days=30 - offset), 19)

    chart.reading(EXERCISE_APP, None, at(25), device={"display": "Dr. S. Ample's tablet"})
    chart.reading(EXERCISE_APP, None, at(26), device={"reference": f"{device}/_history/1"})
    other = chart.device(CUFF)
    chart.resources[-1]["patient"] = {"reference": "Patient/nothing"}
    chart.reading(CUFF, other, at(26))
    metric = chart.add(
        "DeviceMetric", type=EXERCISE_APP.code, source={"reference": device}, category="measurement"
    )
    chart.reading(EXERCISE_APP, f"DeviceMetric/{metric['id']}", at(27))
    contained = {"resourceType": "Device", "id": "d", "status": "active", "type": EXERCISE_APP.type}
    chart.reading(EXERCISE_APP, "#d", at(28), contained=[contained])
    chart.reading(CUFF, "Device/not-in-this-chart", at(28))


def _doubtful_visits(chart: Chart) -> None:
    first = _days_of_one_month(chart.as_of - timedelta(days=28), 13)

    def at(offset: int) -> datetime:
        return chart.moment(first + timedelta(days=offset), 11)

    backward = chart.visit(Visit.RTM_REVIEW, THERAPIST, at(0), 12)
    period = {"start": backward["period"]["end"], "end": backward["period"]["start"]}
    backward["period"] = period
    backward["participant"][0].pop("period")
    chart.visit(Visit.RTM_REVIEW, THERAPIST, at(2), 12, status="cancelled")
    endless = chart.visit(Visit.RTM_CALL, THERAPIST, at(4), 12)
    endless["period"] = {"start": endless["period"]["start"]}
    endless["participant"][0].pop("period")
    chart.visit(Visit.RTM_REVIEW, THERAPIST, at(6), 6 * 60)
    nobody = chart.visit(Visit.RTM_REVIEW, THERAPIST, at(8), 5)
    nobody["participant"] = [{"individual": {"display": "Somebody"}}]
    chart.visit(Visit.RTM_REVIEW, THERAPIST, at(12), 5, type=[{"text": "see notes"}])


def _days_of_one_month(first: date, length: int) -> date:
    """The first of so many days, from `first` on, that no end of a month divides.

    Time of management is counted by calendar months: the story is the same whatever day it is told on.
    """
    last = first + timedelta(days=length - 1)
    return first if first.month == last.month else last.replace(day=1)
