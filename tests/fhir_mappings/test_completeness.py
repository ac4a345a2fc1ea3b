"""What was not read is unknown, not nothing; and only what could have changed the answer taints it (D20)."""

from __future__ import annotations

import json
from datetime import date, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from fhir_mappings.chart import Chart
from fhir_mappings.completeness import (
    Completeness,
    Missing,
    MissingWhy,
    completeness_json,
    completeness_of,
    days_of,
)
from fhir_mappings.decision import Decision, to_contract
from fhir_mappings.local_time import Window
from fhir_mappings.record import Enrolment
from fhir_mappings.rules.engine import assess
from fhir_mappings.rules.policy import load_policy
from fhir_mappings.terminology import load_terminology
from fhir_mappings.vocabulary import Outcome, Program, ReviewReason, Unverified
from tests.support.chart import build_resources, site_terminology

AS_OF = date(2026, 4, 10)
ZONE = ZoneInfo("America/New_York")
TERMINOLOGY = load_terminology(site_terminology())
INCOMPLETE = ReviewReason.RECORD_INCOMPLETE
SET_UP = {"setup": {"at": "2026-03-01T07:00", "for": "10:00", "by": "nurse", "program": "rpm"}}
CALL = {"call": {"at": "2026-03-10T10:00", "for": "22:00", "by": "doctor", "program": "rpm"}}
SHORT_CALL = {"call": {"at": "2026-03-10T10:00", "for": "12:00", "by": "doctor", "program": "rpm"}}
CUT_OFF = MissingWhy.CUT_OFF


def days(count: int, first: str = "2026-03-02") -> dict[str, Any]:
    return {"days": {"of": "BP", "device": "cuff", "from": first, "count": str(count)}}


def chart_of(*events: dict[str, Any]) -> Chart:
    chart = Chart(TERMINOLOGY, ZONE, AS_OF)
    for resource in build_resources([*events], "America/New_York"):
        chart.add(json.dumps(resource).encode())
    return chart


def decided(
    chart: Chart, *enrolments: Enrolment, settings: dict[str, Any] | None = None
) -> dict[tuple[str, str], Decision]:
    record = chart.record("Patient/p1", enrolments)
    found = assess(record, load_policy("medicare", settings), AS_OF).decisions
    return {(decision.code, decision.period.start.isoformat()): decision for decision in found}


def with_missing(*events: dict[str, Any], missing: Missing) -> dict[tuple[str, str], Decision]:
    chart = chart_of(*events)
    chart.add_missing(missing)
    return decided(chart)


def observations(start: str | None = None, end: str | None = None, entries: int = 0) -> Missing:
    return Missing(
        "Observation",
        CUT_OFF,
        None if start is None else date.fromisoformat(start),
        None if end is None else date.fromisoformat(end),
        entries,
    )


# -- device supply ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("why", MissingWhy)
def test_readings_that_were_not_read_hold_the_short_code_whatever_the_reason(why):
    found = with_missing(SET_UP, days(10), missing=Missing("Observation", why))
    assert found["99445", "2026-03-02"].outcome is Outcome.REVIEW
    assert INCOMPLETE in found["99445", "2026-03-02"].reasons


def test_the_highest_tier_cannot_be_changed_by_more_days_of_its_own_window():
    found = with_missing(SET_UP, days(16), missing=observations("2026-03-02", "2026-03-31"))
    assert found["99454", "2026-03-02"].outcome is Outcome.SUGGEST
    assert found["99445", "2026-03-02"].outcome is Outcome.BLOCKED


@pytest.mark.parametrize(
    ("start", "end", "outcome"),
    [
        ("2026-03-17", "2026-03-17", Outcome.REVIEW),  # the sixteenth day
        ("2026-03-10", "2026-03-16", Outcome.SUGGEST),  # days that are counted already
        ("2026-04-01", "2026-04-10", Outcome.SUGGEST),  # after the window
    ],
)
def test_only_days_that_could_make_the_other_tier_taint_fifteen(start, end, outcome):
    found = with_missing(SET_UP, days(15), missing=observations(start, end))
    assert found["99445", "2026-03-02"].outcome is outcome


@pytest.mark.parametrize(("counted", "outcome"), [(15, Outcome.REVIEW), (14, Outcome.SUGGEST)])
def test_one_broken_reading_is_at_most_one_day(counted, outcome):
    missing = observations("2026-03-20", "2026-03-31", entries=1)
    found = with_missing(SET_UP, days(counted), missing=missing)
    assert found["99445", "2026-03-02"].outcome is outcome


def test_two_broken_readings_are_at_most_two_days():
    missing = observations("2026-03-20", "2026-03-31", entries=2)
    assert with_missing(SET_UP, days(14), missing=missing)["99445", "2026-03-02"].outcome is Outcome.REVIEW


def test_an_unmet_code_carries_the_reason_only_where_it_could_have_been_met():
    found = with_missing(SET_UP, days(10), missing=observations("2026-03-20", "2026-03-31"))
    assert found["99454", "2026-03-02"].reasons == (INCOMPLETE,)
    found = with_missing(SET_UP, days(10), missing=observations("2026-03-29", "2026-03-31"))
    assert found["99454", "2026-03-02"].reasons == ()
    assert found["99445", "2026-03-02"].outcome is Outcome.SUGGEST


def test_readings_before_the_first_one_may_begin_the_grid_earlier():
    found = with_missing(SET_UP, days(16, "2026-03-05"), missing=observations("2026-03-01", "2026-03-04"))
    assert found["99454", "2026-03-05"].reasons == (INCOMPLETE,)


def test_before_a_set_up_nothing_counts_so_nothing_that_was_not_read_there_matters():
    found = with_missing(SET_UP, days(16), missing=observations(None, "2026-02-28"))
    assert found["99454", "2026-03-02"].outcome is Outcome.SUGGEST


def test_a_set_up_alone_does_not_fix_the_grid():
    found = with_missing(SET_UP, days(16), missing=observations(None, "2026-03-01"))
    assert found["99454", "2026-03-02"].outcome is Outcome.REVIEW


def test_a_confirmed_enrolment_fixes_it():
    chart = chart_of(SET_UP, days(16))
    chart.add_missing(observations(None, "2026-03-01"))
    found = decided(chart, Enrolment(Program.RPM, date(2026, 3, 2)))
    assert found["99454", "2026-03-02"].outcome is Outcome.SUGGEST


def test_a_charged_period_fixes_it():
    chart = chart_of(SET_UP, days(16, "2026-03-03"))
    chart.add(
        json.dumps(
            {
                "resourceType": "ChargeItem",
                "id": "c",
                "status": "billed",
                "code": {"coding": [{"system": "http://www.ama-assn.org/go/cpt", "code": "99454"}]},
                "subject": {"reference": "Patient/p1"},
                "occurrencePeriod": {"start": "2026-02-01", "end": "2026-03-02"},
            }
        ).encode()
    )
    chart.add_missing(observations(None, "2026-03-02"))
    assert decided(chart)["99454", "2026-03-03"].outcome is Outcome.SUGGEST


# -- start-up ---------------------------------------------------------------------------------------------


def test_start_up_is_held_where_a_reading_could_lie_before_the_day_that_earned_it():
    found = with_missing(
        SET_UP, days(1), days(1, "2026-03-06"), missing=observations("2026-03-03", "2026-03-04")
    )
    assert found["99453", "2026-03-02"].reasons == (INCOMPLETE,)


def test_start_up_is_not_held_by_what_could_only_have_come_later():
    found = with_missing(SET_UP, days(2), missing=observations("2026-03-04", None))
    assert found["99453", "2026-03-02"].outcome is Outcome.SUGGEST


def test_start_up_that_is_not_earned_says_what_could_have_earned_it():
    found = with_missing(SET_UP, days(1), missing=observations("2026-03-10", "2026-03-12"))
    assert found["99453", "2026-03-02"].reasons == (INCOMPLETE,)


# -- management -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kept_in", ["ehr", "app"])
def test_encounters_that_were_refused_hold_every_management_code_of_their_days(kept_in):
    chart = chart_of(SET_UP, days(16), CALL)
    chart.add_missing(Missing("Encounter", MissingWhy.REFUSED))
    found = decided(chart, settings={"minutes_kept_in": kept_in})
    assert INCOMPLETE in found["99457", "2026-03-01"].reasons
    assert Unverified.IN_FACILITY in found["99454", "2026-03-02"].unverified
    assert found["99454", "2026-03-02"].outcome is Outcome.SUGGEST


def test_where_minutes_are_kept_in_the_app_encounters_that_are_not_granted_hold_nothing():
    chart = chart_of(SET_UP, days(16), CALL)
    chart.add_missing(Missing("Encounter", MissingWhy.NOT_GRANTED))
    found = decided(chart, settings={"minutes_kept_in": "app"})["99457", "2026-03-01"]
    assert found.outcome is Outcome.SUGGEST
    assert Unverified.SAME_DAY_SERVICES in found.unverified


def test_encounters_of_other_months_hold_nothing():
    missing = Missing("Encounter", CUT_OFF, date(2026, 4, 1), None)
    found = with_missing(SET_UP, days(16), CALL, missing=missing)
    assert found["99457", "2026-03-01"].outcome is Outcome.SUGGEST
    assert Unverified.IN_FACILITY not in found["99454", "2026-03-02"].unverified


def broken_encounter(day: str) -> Missing:
    return Missing(
        "Encounter", MissingWhy.UNREADABLE, date.fromisoformat(day), date.fromisoformat(day), entries=1
    )


@pytest.mark.parametrize(
    ("events", "day", "outcome"),
    [
        (CALL, "2026-03-10", Outcome.REVIEW),  # a visit would take the call's minutes
        (CALL, "2026-03-31", Outcome.REVIEW),  # a visit on the service date would hold it
        (CALL, "2026-03-20", Outcome.SUGGEST),  # neither a visit nor a call could change the code
        (CALL, "2026-04-02", Outcome.SUGGEST),
    ],
)
def test_a_broken_encounter_matters_where_a_visit_or_a_call_would(events, day, outcome):
    found = with_missing(SET_UP, days(16), events, missing=broken_encounter(day))
    assert found["99457", "2026-03-01"].outcome is outcome


def test_a_broken_encounter_that_could_be_a_call_holds_the_lower_code():
    found = with_missing(SET_UP, days(16), SHORT_CALL, missing=broken_encounter("2026-03-20"))
    assert found["99470", "2026-03-01"].outcome is Outcome.REVIEW
    assert found["99457", "2026-03-01"].reasons == (INCOMPLETE,)


# -- charges, devices, and what was never asked for -------------------------------------------------------


@pytest.mark.parametrize("type_", ["ChargeItem", ""])
def test_charges_that_were_not_read_are_asked_of_a_human_for_every_code(type_):
    found = with_missing(SET_UP, days(16), CALL, missing=Missing(type_, MissingWhy.REFUSED))
    assert all(Unverified.PRIOR_CHARGES in decision.unverified for decision in found.values())
    assert found["99454", "2026-03-02"].outcome is Outcome.SUGGEST


@pytest.mark.parametrize(
    "type_", ["Consent", "ServiceRequest", "CarePlan", "EpisodeOfCare", "Device", "Condition"]
)
def test_what_only_would_have_answered_a_question_holds_nothing(type_):
    found = with_missing(SET_UP, days(16), CALL, missing=Missing(type_, MissingWhy.REFUSED))
    assert found["99454", "2026-03-02"].outcome is Outcome.SUGGEST
    assert found["99457", "2026-03-01"].outcome is Outcome.SUGGEST


def test_devices_that_were_not_read_matter_to_the_readings_that_name_them():
    chart = Chart(TERMINOLOGY, ZONE, AS_OF)
    for resource in build_resources([SET_UP, days(16)], "America/New_York"):
        if resource["resourceType"] != "Device":
            chart.add(json.dumps(resource).encode())
    chart.add_missing(Missing("Device", MissingWhy.NOT_GRANTED))
    record = chart.record("Patient/p1")
    assert record.readings == ()
    assert {reading.doubt for reading in record.doubtful_readings} == {"device-unknown"}


# -- the vocabulary ---------------------------------------------------------------------------------------


def test_single_records_that_differ_in_nothing_else_are_told_as_one_entry():
    found = completeness_of([observations(entries=1), observations(entries=1), observations(entries=3)])
    assert found.missing == (observations(entries=5),)


def test_a_type_that_is_missing_altogether_stays_apart_from_its_single_records():
    found = completeness_of([observations(), observations(entries=1)])
    assert sorted(one.entries for one in found.missing) == [0, 1]


def test_a_whole_record_says_so():
    assert completeness_json(Completeness()) == {"whole": True, "missing": []}


def test_the_contract_names_what_is_missing():
    chart = chart_of(days(3))
    chart.add_missing(Missing("Observation", CUT_OFF, date(2026, 3, 10), None, detail="a page"))
    record = chart.record("Patient/p1")
    policy = load_policy("medicare")
    told = to_contract(record, assess(record, policy, AS_OF), policy.payer, policy.version)
    assert told["completeness"] == {
        "whole": False,
        "missing": [
            {
                "type": "Observation",
                "why": "cut-off",
                "days": {"start": "2026-03-10", "end": None},
                "detail": "a page",
            }
        ],
    }


def test_days_are_those_of_the_window_alone():
    window = Window(date(2026, 3, 1), date(2026, 3, 3))
    assert days_of(window, [observations()]) == {window.start + timedelta(days=n) for n in range(3)}
    assert days_of(window, [observations("2026-03-04")]) == set()
