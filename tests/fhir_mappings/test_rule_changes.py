"""What changes within a window and would change the answer: for every kind of code alike (D16, D34).

Met by what holds on the service date, a human decides; unmet by it and met by what holds on another day, that
is told. A change that gives the same answer is none.
"""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from fhir_mappings.decision import Decision
from fhir_mappings.rules.policy import Policy, load_policy
from fhir_mappings.vocabulary import Outcome
from tests.support.chart import Event

from .test_engine import call, days, found, payer, read

CHANGE = "straddles-rule-change"
YES: dict[str, Any] = {"from": "2020-01-01", "codes": "all", "covered": "yes"}
SET_UP: Event = {"setup": {"at": "2026-01-04T10:00", "for": "20:00", "by": "physician", "program": "rtm"}}


def policy(code: str, *rows: dict[str, Any]) -> Policy:
    return payer(YES, *({"codes": [code], "covered": "yes", **row} for row in rows))


def least(first: int, second: int, code: str, change: str = "2026-01-20") -> Policy:
    """A payer that asks so much until the day, and so much from it on."""
    return policy(code, {"from": "2025-06-01", "least": first}, {"from": change, "least": second})


def decided(given: list[Event], by: Policy, code: str, start: str, as_of: str = "2026-04-01") -> Decision:
    return found(read(given, as_of), by)[code, start]


def answer(decision: Decision) -> tuple[Outcome, tuple[str, ...]]:
    return decision.outcome, decision.reasons


REVIEW, SUGGEST = (Outcome.REVIEW, (CHANGE,)), (Outcome.SUGGEST, ())
TOLD, UNMET = (Outcome.OUT_OF_REACH, (CHANGE,)), (Outcome.OUT_OF_REACH, ())


# -- device supply ----------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second", "count", "expected"),
    [
        (10, 2, 9, REVIEW),
        (10, 2, 10, SUGGEST),
        (10, 2, 1, UNMET),
        (2, 10, 9, TOLD),
        (2, 10, 10, SUGGEST),
        (2, 10, 1, UNMET),
        (10, 10, 10, SUGGEST),
    ],
)
def test_days_of_a_period(first: int, second: int, count: int, expected: object) -> None:
    by = least(first, second, "98985")
    assert answer(decided([days("2026-01-05", count)], by, "98985", "2026-01-05")) == expected


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("2026-01-05", SUGGEST),
        ("2026-01-06", REVIEW),
        ("2026-02-03", REVIEW),
        ("2026-02-04", UNMET),
    ],
)
def test_within_a_period_is_from_its_second_day_to_its_last(change: str, expected: object) -> None:
    by = least(10, 2, "98985", change)
    assert answer(decided([days("2026-01-05", 8)], by, "98985", "2026-01-05")) == expected


def test_while_a_period_is_open_it_is_told_already() -> None:
    by = least(2, 10, "98985")
    short = decided([days("2026-01-05", 8)], by, "98985", "2026-01-05", "2026-01-15")
    assert answer(short) == (Outcome.SHORT, (CHANGE,))
    assert short.forecast is not None
    met = decided([days("2026-01-05", 10)], by, "98985", "2026-01-05", "2026-01-15")
    assert answer(met) == (Outcome.PROVISIONAL, ())


def test_a_period_that_the_episodes_end_cuts_sees_no_change_after_it() -> None:
    by = least(10, 2, "98985")
    episode: Event = {
        "resource": {
            "resourceType": "EpisodeOfCare",
            "id": "e1",
            "status": "finished",
            "patient": {"reference": "Patient/p1"},
            "period": {"start": "2026-01-05", "end": "2026-01-19"},
        }
    }
    cut = decided([episode, days("2026-01-05", 8)], by, "98985", "2026-01-05")
    assert answer(cut) == UNMET
    assert cut.requirements[0].needed == 10


def test_a_code_that_comes_into_force_within_the_period() -> None:
    """D16: the first case of it."""
    medicare = load_policy("medicare")
    given = [days("2025-12-10", 9)]
    assert answer(decided(given, medicare, "98985", "2025-12-10")) == REVIEW
    long = [days("2025-12-10", 16)]
    assert answer(decided(long, medicare, "98977", "2025-12-10")) == SUGGEST
    assert decided(long, medicare, "98985", "2025-12-10").outcome is Outcome.BLOCKED


# -- start-up ----------------------------------------------------------


def test_days_of_start_up_that_become_enough_by_a_change() -> None:
    start_up = decided([SET_UP, days("2026-01-05", 8)], least(10, 2, "98975"), "98975", "2026-01-05")
    assert answer(start_up) == REVIEW
    assert start_up.service_date == date(2026, 1, 20)
    enough = decided([SET_UP, days("2026-01-05", 12)], least(10, 2, "98975"), "98975", "2026-01-05")
    assert answer(enough) == SUGGEST
    assert enough.service_date == date(2026, 1, 14)


def test_days_of_start_up_that_a_later_change_of_the_period_would_not_take() -> None:
    start_up = decided([SET_UP, days("2026-01-05", 8)], least(2, 10, "98975"), "98975", "2026-01-05")
    assert answer(start_up) == REVIEW
    assert start_up.service_date == date(2026, 1, 6)


def test_start_up_that_is_unmet_only_by_the_later_rule_says_so() -> None:
    """One day before the change, eight after it: never enough on the day, though two would have been."""
    given = [SET_UP, days("2026-01-05", 1), days("2026-01-21", 7)]
    start_up = decided(given, least(2, 10, "98975"), "98975", "2026-01-05")
    assert answer(start_up) == TOLD
    ahead = decided(given, least(2, 10, "98975"), "98975", "2026-01-05", "2026-01-28")
    assert answer(ahead) == (Outcome.SHORT, (CHANGE,))


def test_start_up_asks_only_that_its_code_is_in_force_on_its_day() -> None:
    set_up: Event = {"setup": {**SET_UP["setup"], "at": "2021-12-17T07:00"}}
    given = [set_up, days("2021-12-17", 16)]
    medicare = load_policy("medicare")
    assert answer(decided(given, medicare, "98975", "2021-12-17", "2022-02-01")) == SUGGEST
    assert answer(decided(given, medicare, "98977", "2021-12-17", "2022-02-01")) == REVIEW


# -- management ----------------------------------------------------------


def month(minutes: str, *more: Event) -> list[Event]:
    return [days("2026-01-05", 3), call("2026-01-15T10:00", minutes), *more]


@pytest.mark.parametrize(
    ("first", "second", "minutes", "expected"),
    [
        (25, 20, "22:00", REVIEW),
        (25, 20, "25:00", SUGGEST),
        (25, 20, "19:59", UNMET),
        (20, 25, "22:00", TOLD),
        (20, 25, "25:00", SUGGEST),
    ],
)
def test_seconds_of_a_month(first: int, second: int, minutes: str, expected: object) -> None:
    by = least(first * 60, second * 60, "98980")
    assert answer(decided(month(minutes), by, "98980", "2026-01-01")) == expected


def test_seconds_without_a_conversation_earn_nothing_by_either_rule() -> None:
    given = [days("2026-01-05", 3), {"review": {"at": "2026-01-15T10:00", "for": "22:00", "by": "physician"}}]
    assert answer(decided(given, least(1200, 1500, "98980"), "98980", "2026-01-01")) == UNMET


@pytest.mark.parametrize(
    ("minutes", "expected"), [("41:00", TOLD), ("46:00", SUGGEST), ("61:00", REVIEW), ("39:00", UNMET)]
)
def test_an_add_on_stands_on_the_minutes_of_its_base(minutes: str, expected: object) -> None:
    """20 minutes for the base, 25 from the 20th of the month on; 61 minutes are two further units or one."""
    by = least(1200, 1500, "98980")
    addon = decided(month(minutes), by, "98981", "2026-01-01")
    assert answer(addon) == expected


@pytest.mark.parametrize(
    ("first", "second", "minutes", "expected", "quantity"),
    [
        (1, 2, "61:00", (Outcome.REVIEW, (CHANGE,)), 2),
        (1, 2, "41:00", SUGGEST, 1),
        (2, 1, "61:00", (Outcome.REVIEW, (CHANGE, "units-over-cap")), 1),
        (2, 2, "61:00", SUGGEST, 2),
    ],
)
def test_a_cap_that_changes_in_the_month(
    first: int, second: int, minutes: str, expected: object, quantity: int
) -> None:
    by = policy(
        "98981", {"from": "2025-06-01", "units_cap": first}, {"from": "2026-01-20", "units_cap": second}
    )
    addon = decided(month(minutes), by, "98981", "2026-01-01")
    assert (answer(addon), addon.quantity) == (expected, quantity)


def test_where_a_conversation_more_is_asked_the_cap_may_not_matter() -> None:
    """Two units by the minutes, one by the conversations: one under either cap."""
    rows = [
        {"from": "2025-06-01", "codes": ["98981"], "covered": "yes", "units_cap": 1},
        {"from": "2026-01-20", "codes": ["98981"], "covered": "yes", "units_cap": 2},
    ]
    rule = payer(YES, *rows).rule
    assert rule is not None
    strict = load_policy("acme", {"contacts_per_addon_unit": 1}, [rule])
    given = [*month("31:00"), call("2026-01-16T10:00", "30:00")]
    addon = decided(given, strict, "98981", "2026-01-01")
    assert (answer(addon), addon.quantity) == (SUGGEST, 1)


# -- what the payer covers ----------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second", "reasons"),
    [
        ("criteria", "yes", (CHANGE,)),
        ("no", "yes", (CHANGE,)),
        ("yes", "no", ("payer-does-not-cover", CHANGE)),
        ("no", "unknown", ("payer-unknown",)),
        ("yes", "yes", ()),
    ],
)
def test_what_is_covered_changes_in_the_period(first: str, second: str, reasons: tuple[str, ...]) -> None:
    by = policy("98985", {"from": "2025-06-01", "covered": first}, {"from": "2026-01-20", "covered": second})
    device = decided([days("2026-01-05", 8)], by, "98985", "2026-01-05")
    assert device.reasons == reasons


def test_a_table_that_begins_in_the_period_said_nothing_before() -> None:
    begins = payer({"from": "2026-01-20", "codes": "all", "covered": "yes"})
    assert answer(decided([days("2026-01-05", 8)], begins, "98985", "2026-01-05")) == SUGGEST


def test_a_payer_without_a_table_has_no_changes() -> None:
    nobody = load_policy("nobody")
    assert decided([days("2026-01-05", 8)], nobody, "98985", "2026-01-05").reasons == ("payer-unknown",)


def test_a_charge_stands_whatever_changed() -> None:
    charge: Event = {"charge": {"code": "98985", "period": ["2026-01-05", "2026-02-03"]}}
    given = [days("2026-01-05", 8), charge]
    charged = decided(given, least(10, 2, "98985"), "98985", "2026-01-05")
    assert answer(charged) == (Outcome.CHARGED, ())
    assert charged.doubts == (CHANGE,)
