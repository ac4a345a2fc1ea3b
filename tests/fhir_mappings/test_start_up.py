"""The day on which start-up is earned (D9, D16)."""

from __future__ import annotations

from datetime import date

import pytest
from msgspec.structs import replace

from fhir_mappings.local_time import Window
from fhir_mappings.rules.policy import load_policy
from fhir_mappings.rules.start_up import threshold_day
from fhir_mappings.rules.tables import Dated

RULE = load_policy("medicare").code("98975")


def day(text: str) -> date:
    return date.fromisoformat(text)


def reached(days: list[str], first: str, last: str, until: str | None = None) -> date | None:
    window = Window(day(first), day(last))
    return threshold_day(RULE, sorted(day(one) for one in days), window, day(until or last))


@pytest.mark.parametrize(
    ("days", "expected"),
    [
        ([], None),
        (["2026-01-05"], None),
        (["2026-01-05", "2026-01-09"], "2026-01-09"),
        (["2026-01-07", "2026-01-05", "2026-01-06"], "2026-01-06"),
        (["2026-01-04", "2026-01-05", "2026-02-04"], None),
        (["2026-01-05", "2026-02-03"], "2026-02-03"),
    ],
)
def test_the_second_day_within_the_period_earns_it(days: list[str], expected: str | None) -> None:
    found = reached(days, "2026-01-05", "2026-02-03")
    assert found == (expected and day(expected))


def test_days_after_the_day_of_asking_are_none() -> None:
    days = ["2026-01-05", "2026-01-20"]
    assert reached(days, "2026-01-05", "2026-02-03", "2026-01-19") is None
    assert reached(days, "2026-01-05", "2026-02-03", "2026-01-20") == day("2026-01-20")


def test_days_of_december_earn_it_on_the_day_the_rules_change() -> None:
    days = [f"2025-12-{n}" for n in range(20, 29)]
    assert reached(days, "2025-12-20", "2026-01-18", "2025-12-31") is None
    assert reached(days, "2025-12-20", "2026-01-18", "2026-01-01") == day("2026-01-01")
    assert reached(days, "2025-12-20", "2025-12-31") is None
    assert reached([*days, "2026-01-05"], "2025-12-20", "2026-01-18") == day("2026-01-01")
    assert reached([f"2025-12-{n:02}" for n in range(1, 20)], "2025-12-01", "2025-12-30") == day("2025-12-16")


def test_several_changes_within_a_period_count_in_their_order_however_they_are_written() -> None:
    rows = {"2022-01-01": 16, "2026-01-20": 1, "2026-01-10": 5}
    written = tuple(Dated(day(start), least, (), day(start)) for start, least in rows.items())
    window = Window(day("2026-01-05"), day("2026-02-03"))
    days = [day("2026-01-05"), day("2026-01-12")]
    assert threshold_day(replace(RULE, monitoring_days=written), days, window, window.end) == day(
        "2026-01-20"
    )


def test_a_threshold_that_is_reached_on_the_day_of_a_higher_one_is_not_reached() -> None:
    rows = {"2022-01-01": 2, "2026-01-10": 3}
    written = tuple(Dated(day(start), least, (), day(start)) for start, least in rows.items())
    window = Window(day("2026-01-05"), day("2026-02-03"))
    days = [day("2026-01-05"), day("2026-01-10"), day("2026-01-15")]
    assert threshold_day(replace(RULE, monitoring_days=written), days, window, window.end) == day(
        "2026-01-15"
    )
