"""The day on which an answer may become another one: what each part of an answer adds, and what waits."""

from __future__ import annotations

from datetime import date
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from msgspec.structs import replace

from fhir_mappings.completeness import Completeness, Missing, MissingWhy
from fhir_mappings.decision import Assessment, Decision, Forecast, Requirement
from fhir_mappings.local_time import Window
from fhir_mappings.record import PatientRecord, PriorCharge, Resolution
from fhir_mappings.rules.due import NEVER, due_day
from fhir_mappings.rules.policy import load_policy
from fhir_mappings.vocabulary import Line, Outcome, Program, RequirementKind, Unit

AS_OF, TOMORROW = date(2026, 3, 10), date(2026, 3, 11)
POLICY = load_policy("medicare")
RECORD = PatientRecord("Patient/p1", AS_OF, ZoneInfo("America/New_York"))
LONG = Window(date(2026, 3, 5), date(2026, 4, 20))
NEXT_MONTH = date(2026, 4, 1)


def needs(kind: RequirementKind, found: int) -> Requirement:
    return Requirement(kind, Unit.DAYS, 2, found, found >= 2, (), "")


DAYS = needs(RequirementKind.MONITORING_DAYS, 0)


def decision(code: str = "98977", period: Window = LONG, **more: Any) -> Decision:
    plain = Decision(
        code, Program.RTM, Line.MUSCULOSKELETAL, 0, Outcome.SHORT, period, None, (), (), (), (), None
    )
    return replace(plain, **more)


def due(*decisions: Decision, ahead: tuple[date, ...] = (), **more: Any) -> date:
    return due_day(replace(RECORD, **more), Assessment(decisions, ()), POLICY, ahead)


def test_what_is_dated_later_is_due_on_its_day_and_what_was_dated_before_never() -> None:
    assert due() == NEVER
    assert due(ahead=(AS_OF, date(2026, 3, 1))) == NEVER
    assert due(ahead=(AS_OF, TOMORROW)) == TOMORROW
    assert due(ahead=(date(2026, 3, 20), date(2026, 3, 15))) == date(2026, 3, 15)


@pytest.mark.parametrize(
    "more",
    [
        {"completeness": Completeness((Missing("Observation", MissingWhy.CUT_OFF),))},
        {"resolutions": (Resolution("payer-unknown"),)},
        {
            "charges": (
                PriorCharge("ChargeItem/1", "98977", 1, LONG),
                PriorCharge("Claim/1", "98977", 1, None),
            )
        },
    ],
)
def test_what_was_not_read_or_was_settled_and_a_charge_without_a_day_are_looked_at_each_day(
    more: dict[str, Any],
) -> None:
    assert due(**more) == TOMORROW


def test_a_charge_with_a_day_is_not_looked_at_each_day() -> None:
    assert due(charges=(PriorCharge("ChargeItem/1", "98977", 1, LONG),)) == NEVER


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (decision(), NEXT_MONTH),
        (decision(period=Window(AS_OF, date(2026, 3, 19))), date(2026, 3, 20)),
        (decision(period=Window(AS_OF, AS_OF)), TOMORROW),
        (decision(period=Window(AS_OF, date(2026, 3, 9))), NEXT_MONTH),
        (decision(service_date=date(2026, 3, 14)), date(2026, 3, 15)),
        (decision(service_date=date(2026, 3, 9)), NEXT_MONTH),
        (decision(forecast=Forecast(1, Unit.DAYS, date(2026, 3, 14), "98977")), date(2026, 3, 15)),
        (decision(forecast=Forecast(1, Unit.DAYS, AS_OF, "98977")), TOMORROW),
    ],
)
def test_a_window_a_service_and_a_forecast_are_due_the_day_after_their_last(
    one: Decision, expected: date
) -> None:
    assert due(one) == expected
    assert due(one, decision()) == due(decision(), one) == expected


def test_a_threshold_that_changes_within_a_month_is_due_on_that_day() -> None:
    rule = POLICY.codes["98977"]
    (row, *_) = rule.monitoring_days
    changed = replace(rule, monitoring_days=(row, replace(row, start=date(2026, 3, 25))))
    policy = replace(POLICY, codes={**POLICY.codes, "98977": changed})
    assert due_day(RECORD, Assessment((decision(),), ()), policy, ()) == date(2026, 3, 25)


@pytest.mark.parametrize(
    ("code", "requirements", "expected"),
    [
        ("98975", (DAYS,), TOMORROW),
        ("98975", (needs(RequirementKind.SET_UP, 1), DAYS), TOMORROW),
        ("98975", (needs(RequirementKind.MONITORING_DAYS, 1),), NEXT_MONTH),
        ("98975", (needs(RequirementKind.SET_UP, 0),), NEXT_MONTH),
        ("98975", (), NEXT_MONTH),
        ("98977", (DAYS,), NEXT_MONTH),
    ],
)
def test_only_a_start_up_without_any_reading_waits_from_day_to_day(
    code: str, requirements: tuple[Requirement, ...], expected: date
) -> None:
    one = decision(code, requirements=requirements)
    assert due(one) == due(one, decision()) == due(decision(), one) == expected
