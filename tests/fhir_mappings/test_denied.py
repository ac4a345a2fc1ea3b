"""A charge that the payer denied is corrected or appealed, never charged anew (D29)."""

from __future__ import annotations

import json
from datetime import date
from zoneinfo import ZoneInfo

import pytest
from msgspec.structs import replace

from fhir_mappings.chart import Chart
from fhir_mappings.decision import Decision
from fhir_mappings.local_time import Window
from fhir_mappings.record import PatientRecord, PriorCharge, Resolution
from fhir_mappings.rules.engine import decide
from fhir_mappings.rules.policy import load_policy
from fhir_mappings.terminology import load_terminology
from fhir_mappings.vocabulary import Hint, Outcome, ReviewReason
from tests.support.chart import build_resources, site_terminology

AS_OF = date(2026, 4, 10)
PERIOD = Window(date(2026, 3, 2), date(2026, 3, 31))


def record(*charges: PriorCharge, resolutions: tuple[Resolution, ...] = ()) -> PatientRecord:
    chart = Chart(load_terminology(site_terminology()), ZoneInfo("America/New_York"), AS_OF)
    for resource in build_resources(
        [{"days": {"of": "HEP", "from": "2026-03-02", "count": "16"}}], "America/New_York"
    ):
        chart.add(json.dumps(resource).encode())
    return replace(chart.record("Patient/p1", resolutions=resolutions), charges=charges)


def device(found: PatientRecord, code: str = "98977") -> Decision:
    decisions = decide(found, load_policy("medicare"), AS_OF)
    return next(one for one in decisions if one.code == code and one.period == PERIOD)


def charge(*, denied: bool) -> PriorCharge:
    return PriorCharge("ChargeItem/c1", "98977", 1, PERIOD, "billable", ("k",), denied=denied)


def test_a_charge_that_stands_is_charged_and_one_that_was_denied_is_for_review() -> None:
    assert device(record(charge(denied=False))).outcome is Outcome.CHARGED
    denied = device(record(charge(denied=True)))
    assert (denied.outcome, denied.reasons) == (Outcome.REVIEW, (ReviewReason.CHARGED_PERIOD_UNCLEAR,))
    assert denied.charges == ("ChargeItem/c1",)
    assert Hint.DENIED in denied.hints


@pytest.mark.parametrize("denied", [False, True])
def test_it_is_told_with_the_units_that_were_charged(*, denied: bool) -> None:
    assert device(record(replace(charge(denied=denied), quantity=2))).quantity == 2


def test_nothing_that_is_settled_has_it_charged_anew() -> None:
    settled = tuple(
        Resolution(
            ReviewReason.CHARGED_PERIOD_UNCLEAR,
            frozenset(),
            None,
            choice,
            "claim 12",
            None,
            "Practitioner/7",
            AS_OF,
        )
        for choice in ("2026-01-31", "2026-03-02")
    )
    for one in settled:
        assert device(record(charge(denied=True), resolutions=(one,))).outcome is Outcome.REVIEW


def test_the_lower_tier_is_not_suggested_in_its_place() -> None:
    lower = device(record(charge(denied=True)), "98985")
    assert lower.outcome is not Outcome.SUGGEST
    assert lower.outcome is Outcome.BLOCKED
