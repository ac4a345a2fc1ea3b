"""Where the 30-day periods begin: what was charged, else what was confirmed, else the first reading (D3)."""

from __future__ import annotations

import json
from datetime import date
from zoneinfo import ZoneInfo

from fhir_mappings.chart import Chart
from fhir_mappings.decision import Decision
from fhir_mappings.record import Enrolment
from fhir_mappings.rules.engine import assess
from fhir_mappings.rules.policy import load_policy
from fhir_mappings.terminology import load_terminology
from fhir_mappings.vocabulary import Program
from tests.support.chart import Event, build_resources, site_terminology

AS_OF = date(2026, 4, 10)
POLICY = load_policy("medicare")
TERMINOLOGY = load_terminology(site_terminology())


def decide(
    given: list[Event], anchor: str | None = None, history_from: date | None = None, program: str = "rtm"
) -> dict[tuple[str, str], Decision]:
    chart = Chart(TERMINOLOGY, ZoneInfo("America/New_York"), AS_OF, history_from=history_from)
    for resource in build_resources(given, "America/New_York"):
        chart.add(json.dumps(resource).encode())
    enrolments = [] if anchor is None else [Enrolment(Program(program), date.fromisoformat(anchor))]
    record = chart.record("Patient/p1", enrolments)
    return {(one.code, one.period.start.isoformat()): one for one in assess(record, POLICY, AS_OF).decisions}


def days(first: str, count: int) -> Event:
    return {"days": {"of": "HEP", "from": first, "count": str(count)}}


CHARGE: Event = {"charge": {"code": "98977", "period": ["2026-02-01", "2026-03-02"]}}


def test_a_confirmed_anchor_is_where_the_periods_begin() -> None:
    found = decide([days("2026-01-10", 16)], anchor="2026-01-05")
    assert found["98977", "2026-01-05"].outcome == "suggest"
    assert found["98977", "2026-01-05"].period.end == date(2026, 2, 3)


def test_without_one_the_first_reading_is_the_anchor() -> None:
    assert ("98977", "2026-01-10") in decide([days("2026-01-10", 16)])


def test_the_anchor_of_the_other_program_says_nothing() -> None:
    found = decide([days("2026-01-10", 16)], anchor="2026-01-05", program="rpm")
    assert ("98977", "2026-01-10") in found


def test_a_charged_period_goes_before_a_confirmed_anchor() -> None:
    found = decide([days("2026-01-10", 60), CHARGE], anchor="2026-01-05")
    assert found["98977", "2026-02-01"].outcome == "charged"
    assert ("98977", "2026-01-02") in found


def test_a_reading_before_the_confirmed_anchor_moves_nothing_and_asks_a_human() -> None:
    found = decide([days("2026-01-04", 1), days("2026-01-10", 16)], anchor="2026-01-05")
    assert found["98977", "2026-01-05"].reasons == ("anchor-moved",)
    assert found["98977", "2026-01-05"].outcome == "review"


def test_a_reading_on_the_anchor_itself_is_no_earlier_one() -> None:
    found = decide([days("2026-01-05", 16)], anchor="2026-01-05")
    assert found["98977", "2026-01-05"].outcome == "suggest"


def test_where_older_data_may_exist_a_confirmed_anchor_fixes_the_grid() -> None:
    history = date(2026, 1, 1)
    asked = decide([days("2026-01-10", 16)], history_from=history)
    fixed = decide([days("2026-01-10", 16)], anchor="2026-01-05", history_from=history)
    assert asked["98977", "2026-01-10"].reasons == ("history-incomplete",)
    assert fixed["98977", "2026-01-05"].outcome == "suggest"


def test_where_older_data_may_exist_start_up_is_for_a_human_even_on_a_fixed_grid() -> None:
    found = decide([days("2026-01-10", 16)], anchor="2026-01-05", history_from=date(2026, 1, 1))
    start_up = next(one for (code, _), one in found.items() if code == "98975")
    assert start_up.outcome == "review"
    assert "history-incomplete" in start_up.reasons
