"""What charges of one code come to: one service on several papers, and less what was taken back (D29)."""

from __future__ import annotations

from datetime import date

import pytest

from fhir_mappings.local_time import Window
from fhir_mappings.record import PriorCharge
from fhir_mappings.rules.charged import standing, touches, uncredited, units_charged

JANUARY = Window(date(2026, 1, 5), date(2026, 2, 3))
FEBRUARY = Window(date(2026, 2, 4), date(2026, 3, 5))


def charge(
    quantity: int, kind: str = "ChargeItem", code: str = "98981", occurrence: Window | None = JANUARY
) -> PriorCharge:
    return PriorCharge(f"{kind}/{quantity}", code, quantity, occurrence)


@pytest.mark.parametrize(
    ("charges", "units"),
    [
        ([], 0),
        ([charge(1)], 1),
        ([charge(1), charge(2)], 3),
        ([charge(1), charge(1, "Claim")], 1),
        ([charge(1), charge(1, "Claim"), charge(1, "ExplanationOfBenefit")], 1),
        ([charge(1), charge(3, "Claim"), charge(2, "ExplanationOfBenefit")], 3),
        ([charge(2), charge(1), charge(2, "Claim")], 3),
        ([charge(1), charge(1, "Claim"), charge(1, "Claim")], 2),
        ([charge(2), charge(-1)], 1),
        ([charge(1), charge(-1)], 0),
        ([charge(-1)], -1),
        ([charge(0)], 0),
        ([charge(1), charge(-1), charge(1, "Claim")], 1),
        ([charge(1), charge(-1), charge(1, "Claim"), charge(-1, "Claim")], 0),
        ([charge(-1), charge(-2, "Claim")], -1),
    ],
)
def test_papers_of_one_kind_are_summed_and_the_kind_with_the_most_counts(
    charges: list[PriorCharge], units: int
) -> None:
    assert units_charged(charges) == units
    assert units_charged(charges[::-1]) == units
    assert standing(charges) == (charges if units > 0 else [])
    assert uncredited(charges) == (charges if units > 0 else [])


def test_a_credit_takes_back_its_own_code_alone() -> None:
    charges = [charge(1), charge(-1), charge(1, code="98980")]
    assert standing(charges) == [charges[2]]


def test_a_credit_of_other_days_takes_nothing_back_outside_their_window() -> None:
    charges = [charge(1), charge(-1, occurrence=FEBRUARY), charge(-1, occurrence=None)]
    assert uncredited(charges) == [charges[0]]
    assert standing(charges) == []


def test_a_charge_without_days_may_be_of_any_window() -> None:
    assert touches(JANUARY, [FEBRUARY, None])
    assert touches(JANUARY, [Window(date(2026, 2, 3), date(2026, 2, 3))])
    assert not touches(JANUARY, [FEBRUARY, Window(date(2026, 1, 4), date(2026, 1, 4))])
    assert not touches(JANUARY, [])
