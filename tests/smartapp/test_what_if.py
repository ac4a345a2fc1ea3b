"""`smartapp evaluate --what-if`: what more days, minutes or another payer would make of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from smartapp.cli import main
from tests.support.chart import Event, build_resources
from tests.support.evaluation import NEW_YORK, check_shape, write_chart, write_site

Answer = dict[str, Any]
Decide = Callable[..., Answer]


@pytest.fixture
def decide(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Decide:
    def call(given: list[Event], as_of: str, *changes: str) -> Answer:
        chart = write_chart(build_resources(given, NEW_YORK), tmp_path)
        arguments = ["evaluate", str(chart), "--site", str(write_site(tmp_path)), "--as-of", as_of, "--json"]
        for change in changes:
            arguments += ["--what-if", change]
        assert main(arguments) == 0
        answer: Answer = json.loads(capsys.readouterr().out)
        check_shape(answer)
        return answer

    return call


def outcome(answer: Answer, code: str, start: str | None = None) -> str:
    (found,) = (
        one["outcome"]
        for one in answer["decisions"]
        if one["code"] == code and start in (None, one["period"]["start"])
    )
    return str(found)


FOURTEEN: list[Event] = [{"days": {"of": "HEP", "from": "2026-01-05", "count": "14"}}]
TWELVE_MINUTES: list[Event] = [
    {"days": {"of": "HEP", "from": "2026-03-03", "count": "2"}},
    {"call": {"at": "2026-03-10T10:00", "for": "12:00", "by": "physician"}},
]


def test_two_more_days_make_the_long_code_of_the_open_period(decide: Decide) -> None:
    assert outcome(decide(FOURTEEN, "2026-01-25"), "98977") == "short"
    imagined = decide(FOURTEEN, "2026-01-25", "add-days=2")
    assert outcome(imagined, "98977") == "provisional"
    assert outcome(imagined, "98985") == "blocked"


def test_one_more_day_is_not_enough(decide: Decide) -> None:
    assert outcome(decide(FOURTEEN, "2026-01-25", "add-days=1"), "98977") == "short"


def test_eight_more_minutes_make_the_twenty_minute_code(decide: Decide) -> None:
    assert outcome(decide(TWELVE_MINUTES, "2026-03-20", "add-minutes=7"), "98980") == "short"
    assert outcome(decide(TWELVE_MINUTES, "2026-03-20", "add-minutes=8"), "98980") == "provisional"


def test_minutes_go_to_the_latest_month_that_holds_any(decide: Decide) -> None:
    imagined = decide(TWELVE_MINUTES, "2026-04-10", "add-minutes=8")
    assert outcome(imagined, "98980", "2026-03-01") == "suggest"
    assert outcome(imagined, "98980", "2026-04-01") == "short"


def test_a_call_is_a_conversation_and_minutes_alone_are_none(decide: Decide) -> None:
    review: list[Event] = [
        {"days": {"of": "HEP", "from": "2026-03-03", "count": "2"}},
        {"review": {"at": "2026-03-10T10:00", "for": "12:00", "by": "physician"}},
    ]
    assert outcome(decide(review, "2026-03-20", "add-minutes=8"), "98980") == "short"
    assert outcome(decide(review, "2026-03-20", "add-call-minutes=8"), "98980") == "provisional"


def test_another_payer_is_another_answer(decide: Decide) -> None:
    assert outcome(decide(FOURTEEN, "2026-02-10"), "98985") == "suggest"
    imagined = decide(FOURTEEN, "2026-02-10", "payer=cigna")
    assert (imagined["payer"], outcome(imagined, "98985")) == ("cigna", "review")


def test_several_changes_are_imagined_together(decide: Decide) -> None:
    imagined = decide(FOURTEEN + TWELVE_MINUTES[1:], "2026-03-20", "add-days=2,add-minutes=8", "payer=aetna")
    assert imagined["what_if"] == ["add-days=2,add-minutes=8", "payer=aetna"]
    assert outcome(imagined, "98980", "2026-03-01") == "review"


def test_what_is_imagined_says_so_everywhere(decide: Decide) -> None:
    imagined = decide(FOURTEEN, "2026-01-25", "add-days=2")
    assert imagined["what_if"] == ["add-days=2"]
    (need,) = (one["requirements"][0] for one in imagined["decisions"] if one["code"] == "98977")
    assert len([name for name in need["evidence"] if name.startswith("what-if/")]) == 2
    assert "what_if" not in decide(FOURTEEN, "2026-01-25")


def test_the_table_says_that_it_is_not_real(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chart = write_chart(build_resources(FOURTEEN, NEW_YORK), tmp_path)
    main(["evaluate", str(chart), "--site", str(write_site(tmp_path)), "--what-if", "add-days=2"])
    assert "NOT REAL: what if add-days=2" in capsys.readouterr().out


def test_nothing_is_imagined_for_a_patient_without_monitoring(decide: Decide) -> None:
    assert decide([{"patient": {}}], "2026-01-25", "add-days=16,add-call-minutes=60")["decisions"] == []


@pytest.mark.parametrize(
    "change",
    ["add-days=0", "add-days=31", "add-days=two", "add-minutes=-8", "more=1", "payer=", "", "add-days"],
)
def test_a_change_that_cannot_be_imagined_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: str
) -> None:
    chart = write_chart(build_resources(FOURTEEN, NEW_YORK), tmp_path)
    code = main(["evaluate", str(chart), "--site", str(write_site(tmp_path)), "--what-if", change])
    out, err = capsys.readouterr()
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert "what-if" in err
