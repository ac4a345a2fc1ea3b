"""Who pays on a service date, by a patient's Coverages (D40)."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from fhir_mappings.record import Insurance, payer_on
from fhir_mappings.rules.engine import decide
from fhir_mappings.rules.policy import Policies
from fhir_mappings.terminology import load_terminology
from fhir_mappings.vocabulary import Outcome, ReviewReason

from .conftest import Resource

SITE = {
    "observations": [
        {"system": "urn:clinic:flowsheet", "code": "CUFF", "line": "physiologic", "source": "device"}
    ],
    "coverages": [
        {"reference": "Organization/medicare", "payer": "medicare"},
        {"reference": "Organization/cigna", "payer": "cigna"},
    ],
}


def reading(day: int) -> Resource:
    return {
        "resourceType": "Observation",
        "id": f"o{day}",
        "status": "final",
        "code": {"coding": [{"system": "urn:clinic:flowsheet", "code": "CUFF"}]},
        "subject": {"reference": "Patient/p1"},
        "effectiveDateTime": f"2026-01-{day:02}T08:00:00-05:00",
        "valueInteger": 120,
    }


def coverage(payer: str, start: str | None = None, end: str | None = None, **more: Any) -> Resource:
    return {
        "resourceType": "Coverage",
        "id": payer,
        "status": "active",
        "beneficiary": {"reference": "Patient/p1"},
        "payor": [{"reference": f"Organization/{payer}"}],
        "period": {key: day for key, day in (("start", start), ("end", end)) if day},
        **more,
    }


def supply(
    chart: Any, *coverages: Resource, said: str | None = None
) -> tuple[Outcome, tuple[ReviewReason | str, ...]]:
    """99454 of 2026-01-05 to 02-03, asked on 2026-04-01."""
    built = chart(
        {"resourceType": "Patient", "id": "p1"},
        *map(reading, range(5, 21)),
        *coverages,
        terminology=load_terminology(SITE),
    )
    record = built.record("Patient/p1")
    policy = Policies(said or "medicare", always=said is not None).of(record.payer)
    (found,) = (one for one in decide(record, policy, date(2026, 4, 1)) if one.code == "99454")
    return found.outcome, found.reasons


@pytest.mark.parametrize(
    "former", [coverage("cigna", "2020-01-01", "2026-02-03"), coverage("cigna", end="2026-02-28")]
)
def test_a_service_of_a_former_payer_is_not_decided_by_the_rules_of_todays(
    former: Resource, chart: Any
) -> None:
    held = (Outcome.REVIEW, (ReviewReason.PAYER_UNKNOWN,))
    assert supply(chart, former, coverage("medicare", "2026-03-01")) == held
    assert supply(chart, former, coverage("medicare", "2026-03-01"), said="medicare")[0] is Outcome.SUGGEST


@pytest.mark.parametrize(
    "others",
    [
        (),
        (coverage("cigna", "2020-01-01", "2026-02-02"),),
        (coverage("cigna", "2026-04-02"),),
        (coverage("cigna", "2020-01-01", "2026-02-28", status="cancelled"),),
        (coverage("cigna", "2020-01-01", order=2),),
    ],
)
def test_what_did_not_pay_on_the_service_date_holds_nothing(others: tuple[Resource, ...], chart: Any) -> None:
    todays = coverage("medicare", "2026-02-03", order=1)
    assert supply(chart, todays, *others) == (Outcome.SUGGEST, ())


def test_a_coverage_that_begins_after_the_service_tells_of_nobody_before(chart: Any) -> None:
    assert supply(chart, coverage("medicare", "2026-03-01")) == (Outcome.SUGGEST, ())


def test_two_of_one_order_that_differ_are_unknown() -> None:
    both = [Insurance(1, "medicare"), Insurance(1, "cigna"), Insurance(2, "humana")]
    assert payer_on(both, date(2026, 1, 1)) == "unknown"
    assert payer_on(both[2:], date(2026, 1, 1)) == "humana"
    assert payer_on([], date(2026, 1, 1)) is None
