"""Everyday charts are billed as a good biller bills them, and nothing beside; few statements are asked (D39).

The answers themselves are worked cases (`tests/cases/20-everyday-charts.yaml`).
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fhir_mappings.vocabulary import Unverified
from tests.support.evaluation import Case, answers, read_cases
from tests.test_cases import run
from tests.test_statements import MOST_A_MONTH, MOST_AT_FIRST, OF_THE_EPISODE

CASES = [case for case in read_cases(Path(__file__).parent / "cases") if case.name.startswith("everyday: ")]
NOT_ASKED = {Unverified.RULES_OF_THE_YEAR, Unverified.BILLING_PROFESSIONAL}
"""The first the site's file alone lifts (D37); the second goes with the choice of a performer whose role
shows that they may bill, which a charge needs anyway."""
Decision = dict[str, Any]


@pytest.fixture(params=CASES, ids=lambda case: case.name.removeprefix("everyday: "))
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


@pytest.fixture
def charged(case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, list[Decision]]:
    """What the app suggests of a case's patients, in the order in which it is billed."""
    assert run(case, tmp_path) == 0
    told = answers(json.loads(capsys.readouterr().out))
    return {
        one["patient"].removeprefix("Patient/"): sorted(
            (d for d in one["decisions"] if d["outcome"] == "suggest"),
            key=lambda d: (d["service_date"], d["code"]),
        )
        for one in told
    }


def billed(case: Case) -> Iterator[tuple[str, str, str | None]]:
    """The patient, the code and the start (None where the code says enough) of what the biller charges."""
    for patient, expect in (case.expect.get("patients") or {"p1": case.expect}).items():
        for d in expect["decisions"]:
            if d["outcome"] == "suggest":
                yield patient, d["code"], f"{d['month']}-01" if "month" in d else d.get("start")


def test_nothing_is_suggested_that_the_biller_would_not_charge(
    case: Case, charged: dict[str, list[Decision]]
) -> None:
    answer = set(billed(case))
    beside = [
        (patient, d["code"], d["period"]["start"])
        for patient, decisions in charged.items()
        for d in decisions
        if not {(patient, d["code"], d["period"]["start"]), (patient, d["code"], None)} & answer
    ]
    assert beside == []


def test_a_first_charge_asks_four_statements_at_most_and_a_later_month_one(
    case: Case, charged: dict[str, list[Decision]]
) -> None:
    assert case.site["device_facts"]
    for patient, decisions in charged.items():
        stated: set[str] = set()
        by_month: dict[str, set[str]] = defaultdict(set)
        for number, decision in enumerate(decisions):
            left = set(decision["unverified"]) - stated - NOT_ASKED
            if number == 0:
                assert len(left) <= MOST_AT_FIRST, (patient, decision["code"], left)
            else:
                by_month[decision["service_date"][:7]] |= left
            stated |= OF_THE_EPISODE & left
        for month, left in by_month.items():
            assert len(left) <= MOST_A_MONTH, (patient, month, left)
