"""The bench runs, and its synthetic charts are what it says they are. How fast anything is, no test asks."""

from __future__ import annotations

import gzip
import itertools
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from datetime import datetime, timedelta
from importlib.util import find_spec

import pytest

from bench import __main__ as command
from bench import from_ehr
from bench.charts import AS_OF, PATIENT, chart_lines, new_chart, of_another, pages, terminology
from bench.figure import Figure
from bench.measure import ProcessFailed, Spread, run_process
from bench.observations import DAYS, FIRST_DAY, Resource, observation_lines
from bench.replay import LONG_FROM, pages_of
from bench.sizes import TINY
from fhir_mappings.rules.engine import decide
from fhir_mappings.rules.policy import load_policy
from smartapp.ehr.wire.bundles import search_page

MANY = 6_000


@pytest.fixture(scope="module")
def readings() -> list[Resource]:
    return [json.loads(line) for line in observation_lines(MANY, PATIENT)]


@pytest.mark.bench
def test_every_bench_runs_and_tells_its_figures(capsys: pytest.CaptureFixture[str]) -> None:
    command.main(["--json"], TINY)
    told = json.loads(capsys.readouterr().out)
    assert {"python", "cpus", "garbage_collector"} <= told["surroundings"].keys()
    # One more where the yardstick of a sweep is installed.
    assert len(told["figures"]) == (20 if find_spec("duckdb") else 19)
    # Of so few patients, what each costs drowns in what a process costs.
    sure = [one for one in told["figures"] if "of many" not in one["name"] and "night" not in one["name"]]
    assert all(figure["measured"]["middle"] > 0 for figure in sure)


def test_a_single_bench_is_told_in_lines(capsys: pytest.CaptureFixture[str]) -> None:
    command.main(["deciding"], TINY)
    around, _, *lines = capsys.readouterr().out.splitlines()
    assert "garbage_collector" in around
    assert [line.split("  ")[0] for line in lines] == [
        "decide, a patient's year",
        "memory growth to 4 patients",
    ]


@pytest.mark.bench
def test_two_commits_open_the_same_charts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(from_ehr, "_tree", lambda _: nullcontext(from_ehr.ROOT))
    command.main(["reading-ehr", "--against", "any"], TINY)
    _, _, *lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines] == [
        "90 days, now / before",
        "long chart, now / before",
        "90 days at 50 ms, now / before",
        "showing 90 days, now / before",
        "showing the long chart, now / before",
        "long chart / gunzip and decode",
        "showing 90 days",
        "showing the long chart",
    ]


def test_the_replayed_ehr_gives_every_reading_once() -> None:
    found = [
        json.loads(bytes(one.resource))["id"]
        for page in pages_of(LONG_FROM, 60, 25)
        for one in search_page(gzip.decompress(page)).entries
    ]
    sent = {json.loads(line)["id"] for line in observation_lines(60, PATIENT)}
    assert set(found) == sent
    assert len(found) == 60


def test_an_unknown_bench_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        command.main(["nonsense"], TINY)
    assert stopped.value.code == 2
    assert "nonsense" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("middle", "at_least", "met"),
    [(2.0, False, True), (2.1, False, False), (2.0, True, True), (1.9, True, False)],
)
def test_the_middle_of_the_repetitions_is_judged(middle: float, at_least: bool, met: bool) -> None:
    figure = Figure("a figure", Spread(0.1, middle, 9.0), "x", limit=2.0, at_least=at_least)
    assert figure.met is met
    assert ("MISSED" in figure.line()) is not met


def test_a_process_that_fails_is_not_measured() -> None:
    with pytest.raises(ProcessFailed):
        run_process(["-c", "raise SystemExit(3)"])


def test_the_same_chart_comes_out_every_time() -> None:
    assert list(chart_lines(30, 5)) == list(chart_lines(30, 5))
    assert list(chart_lines(30, 5)) != list(chart_lines(30, 5, seed=1))


def test_readings_have_the_size_they_are_said_to_have() -> None:
    lines = list(observation_lines(MANY, PATIENT))
    assert 1_250 <= sum(map(len, lines)) / len(lines) <= 1_400


def test_one_reading_in_a_hundred_was_entered_in_error(readings: list[Resource]) -> None:
    statuses = Counter(reading["status"] for reading in readings)
    assert statuses.keys() == {"final", "entered-in-error"}
    assert 0.005 <= statuses["entered-in-error"] / MANY <= 0.015


def test_times_are_written_in_several_ways(readings: list[Resource]) -> None:
    offsets = Counter(text[19:].split(".")[-1].lstrip("0123456789") for text in written(readings))
    assert offsets.keys() >= {"Z", "+00:00", "-05:00", "-04:00"}
    milliseconds = sum("." in text for text in written(readings))
    assert 0.25 <= milliseconds / MANY <= 0.35


def written(readings: list[Resource]) -> Iterator[str]:
    return (reading["effectiveDateTime"] for reading in readings)


def test_readings_fill_the_year(readings: list[Resource]) -> None:
    days = {datetime.fromisoformat(text).date() for text in written(readings)}
    assert min(days) >= FIRST_DAY
    assert max(days) <= FIRST_DAY + timedelta(days=DAYS)
    assert len(days) >= DAYS


def test_every_resource_says_that_it_is_synthetic() -> None:
    assert all(b"synthetic" in line for line in chart_lines(30, 5))


def test_everything_but_the_errors_counts(readings: list[Resource]) -> None:
    (patient,) = (chart := new_chart(terminology(), chart_lines(MANY, 40))).patients()
    record = chart.record(patient)
    errors = {f"Observation/{r['id']}" for r in readings if r["status"] == "entered-in-error"}
    left_out = Counter(str(entry.reason) for entry in record.excluded)
    assert left_out["entered-in-error"] == len(errors)
    assert len(record.readings) >= MANY - len(errors) - 5
    assert len(record.management) > 30
    outcomes = {decision.code for decision in decide(record, load_policy("medicare"), AS_OF)}
    assert {"99453", "99454", "99457", "99458", "99445", "99470"} <= outcomes


def test_pages_hold_the_same_resources() -> None:
    lines = list(chart_lines(30, 5))
    bundles = pages(lines, 10)
    entries = itertools.chain.from_iterable(json.loads(bundle)["entry"] for bundle in bundles)
    assert [entry["resource"] for entry in entries] == [json.loads(line) for line in lines]
    known = terminology()
    assert new_chart(known, bundles).record(f"Patient/{PATIENT}") == new_chart(known, lines).record(
        f"Patient/{PATIENT}"
    )


def test_a_chart_can_be_made_another_patients() -> None:
    lines = of_another(list(chart_lines(30, 5)), 7)
    assert new_chart(terminology(), lines).patients() == ("Patient/synthetic-patient-00007",)
