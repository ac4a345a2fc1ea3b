"""What an auditor would ask about is told on the card, and changes nothing (D19)."""

from __future__ import annotations

import json
from datetime import date
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from fhir_mappings.chart import Chart
from fhir_mappings.local_time import LocalClock
from fhir_mappings.rules.engine import assess
from fhir_mappings.rules.policy import load_policy
from fhir_mappings.terminology import load_terminology
from smartapp.ehr.reading.auditor_notes import days_late, notes_on
from smartapp.web.cards import card_view
from tests.support.chart import Event, build_resources, site_terminology
from tests.support.packets import findings_of, site_of, stored

ZONE = ZoneInfo("America/New_York")
AS_OF = date(2026, 4, 10)
DAYS: Event = {"days": {"of": "HEP", "from": "2026-02-03", "count": "50"}}


def notes(
    given: list[Event],
    code: str,
    start: str,
    late: dict[str, int] | None = None,
    kept: dict[str, Any] | None = None,
) -> tuple[str, ...]:
    chart = Chart(load_terminology(site_terminology()), ZONE, AS_OF)
    for resource in build_resources(given, ZONE.key):
        chart.add(json.dumps(resource).encode())
    found = assess(chart.record("Patient/p1"), load_policy("medicare"), AS_OF, all_evidence=True)
    (decision,) = (
        one for one in found.decisions if (one.code, one.period.start.isoformat()) == (code, start)
    )
    return notes_on(decision, found.spans, late or {}, ZONE, kept)


def call(at: str, length: str) -> Event:
    return {"call": {"at": at, "for": length, "by": "physician"}}


def test_minutes_of_exactly_twenty_are_noted_and_a_second_more_is_not() -> None:
    round_month = notes([DAYS, call("2026-03-10T10:00", "20:00")], "98980", "2026-03-01")
    assert round_month == ("The minutes of this month are exactly 20:00.",)
    assert notes([DAYS, call("2026-03-10T10:00", "20:01")], "98980", "2026-03-01") == ()


def test_the_same_spans_in_two_months_are_noted() -> None:
    calls = [call("2026-02-10T10:00", "25:00"), call("2026-03-12T10:00", "25:00")]
    assert notes([DAYS, *calls], "98980", "2026-03-01") == (
        "The minutes have the same times and lengths as those of the month before.",
    )
    assert notes([DAYS, *calls], "98980", "2026-02-01") == ()


def test_another_time_of_day_or_length_is_no_repetition() -> None:
    for other in (call("2026-03-12T11:00", "25:00"), call("2026-03-12T10:00", "26:00")):
        assert notes([DAYS, call("2026-02-10T10:00", "25:00"), other], "98980", "2026-03-01") == ()


def test_late_uploads_are_noted_from_the_eighth_day_on() -> None:
    late = {"Observation/o1": 8, "Observation/o2": 7, "Observation/o3": 30}
    assert notes([DAYS], "98977", "2026-02-03", late) == (
        "2 of the 30 days rest on readings received more than 7 days after they were measured.",
    )
    assert notes([DAYS], "98977", "2026-02-03", {"Observation/o2": 7}) == ()


@pytest.mark.parametrize(
    ("observation", "days"),
    [
        ({"effectiveDateTime": "2026-03-01T08:00:00-05:00", "issued": "2026-03-09T08:00:00-04:00"}, 7),
        ({"effectiveDateTime": "2026-03-01T08:00:00-05:00", "issued": "2026-03-09T09:00:00-04:00"}, 8),
        ({"effectiveInstant": "2026-03-01T13:00:00Z", "meta": {"lastUpdated": "2026-03-11T13:00:00Z"}}, 10),
        ({"effectivePeriod": {"start": "2026-03-01"}, "issued": "2026-03-11T13:00:00Z"}, 10),
        ({"effectiveTiming": {"event": ["2026-03-01"]}, "issued": "2026-03-11T13:00:00Z"}, 10),
        ({"effectiveDateTime": "2026-03-01", "issued": "2026-02-11T13:00:00Z"}, 0),
        ({"effectiveDateTime": "2026-03-01"}, 0),
        ({"issued": "2026-03-01T13:00:00Z"}, 0),
        ({"effectiveDateTime": 7, "issued": [], "meta": "odd", "effectiveTiming": {"event": {}}}, 0),
    ],
)
def test_lateness_is_counted_in_whole_days_and_never_guessed(observation: dict[str, Any], days: int) -> None:
    assert days_late(observation, LocalClock(ZONE)) == days


def kept_notes(entry: dict[str, Any] | None = None, anchors: int = 0, code: str = "98980") -> tuple[str, ...]:
    """What is noted where this app keeps an entry of the month's second call, and how often an anchor was
    set."""
    given = [DAYS, call("2026-03-10T10:00", "12:00"), call("2026-03-12T11:00", "9:30")]
    logged = {"resource": "Encounter/e2", "days_late": 0, "role_of_oneself": None} | (entry or {})
    kept = {"time_log": [logged], "anchors": [{"program": "rtm"}] * anchors + [{"program": "rpm"}]}
    return notes(given, code, "2026-03-01" if code == "98980" else "2026-02-03", kept=kept)


def test_minutes_are_typed_late_from_the_eighth_day_on() -> None:
    assert kept_notes({"days_late": 7}) == ()
    assert kept_notes({"days_late": 8}) == (
        "1 entry of the time log was typed more than 7 days later, at most 8 days.",
    )


def test_minutes_that_this_code_does_not_rest_on_are_not_noted() -> None:
    assert kept_notes({"days_late": 30, "resource": "Encounter/other"}) == ()


def test_a_role_that_somebody_states_of_themselves_is_noted() -> None:
    (note,) = kept_notes({"role_of_oneself": "physician"})
    assert note == "1 entry of the time log was signed by somebody who states their own role there."


@pytest.mark.parametrize(("times", "told"), [(1, "once"), (2, "twice"), (5, "5 times")])
def test_an_anchor_that_was_set_by_hand_is_noted_with_how_often(times: int, told: str) -> None:
    assert kept_notes(anchors=times, code="98977") == (
        f"Where the 30-day periods begin was set by hand {told}.",
    )
    assert kept_notes(anchors=times) == ()


def test_whose_minutes_of_a_day_are_more_than_a_days_work_is_named(tmp_path) -> None:
    who = {"reference": "PractitionerRole/role-physician", "display": "Dr Synthetic"}
    long = {"for": "4:00:00", "by": "physician", "raw": {"participant": [{"individual": who}]}}
    calls = [{"call": {**long, "at": f"2026-03-10T{hour}:00"}} for hour in ("08", "12", "16")]
    site = site_of(tmp_path)
    findings = findings_of(stored(build_resources([DAYS, *calls], ZONE.key)), site, AS_OF)
    decision = findings.decision("98980-2026-03-01")
    assert decision is not None
    (reason,) = (one.text for one in card_view(decision, findings, site).reasons)
    assert reason == (
        "Dr Synthetic has 720 minutes on 10 Mar 2026: more than a day's work for one patient. "
        "Check the times."
    )
