"""The product and the oracle (`oracle.py`) answer the same charts, and must agree.

Random charts: 300 by default, as many as ORACLE_EXAMPLES says; always the same ones, unless ORACLE_SEED gives
another series. And the boundaries: 0 to 31 days for each line and each set of rules, the seconds around each
threshold of minutes, the first day that was read around each thing that shows a beginning. `make oracle` asks
about 20,000 charts and every case, the ordinary run about those at a boundary and some of the others.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Container, Iterable, Iterator
from datetime import date, timedelta
from functools import cache
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

import smartapp.commands.evaluate
from fhir_mappings.rules.tables import load_tables
from fhir_mappings.vocabulary import Line
from smartapp.commands.evaluate import evaluate
from smartapp.configuration.site_file import SiteFile, read_site_file

from . import oracle
from .support.chart import DEVICE_LINES, ROWS, Event, Resource, build_resources, site_file
from .support.evaluation import brief, write_site
from .support.random_charts import RandomChart, charts

EXAMPLES = int(os.environ.get("ORACLE_EXAMPLES", "300"))
EXHAUSTIVE = EXAMPLES > 300
PARTS = 16 if EXHAUSTIVE else 1
"""Random charts are asked about in so many tests, so that several processes share them."""
SEED = int(os.environ.get("ORACLE_SEED", "0"))

Answer = dict[str, Any]
Ask = Callable[..., list[str]]
T = TypeVar("T")

#: Why an Encounter is left out that is nothing to monitoring: words of the product's own.
NOTHING_TO_COUNT = {
    "backward-period",
    "activity-not-configured",
    "covered-by-other-time",
    "no-date",
    "no-duration",
    "not-management",
    "program-not-shown",
    "role-not-counted",
    "same-day-visit",
    "zero-duration",
}
#: A record may have to be left out for two reasons; the sources do not say which of them is told.
EITHER = {("implausible-value", "device-unknown"), ("test-data", "after-as-of")} | {
    (one, other) for one in ("implausible-span", "after-death") for other in NOTHING_TO_COUNT
}
#: What is unverified is mostly advice; these follow from the chart alone (D1, D6, D17, D36, D37, D39).
UNVERIFIED_BY_RULE = {"other-program", "prior-charges", "in-facility", "rules-of-the-year"}
UNVERIFIED_BY_RULE |= {"same-day-services", "global-period", "time", "conversation"}
UNVERIFIED_BY_RULE |= {"fda-device", "device-supplied-by-practice"}
#: And these may have other reasons too (D7, D14), or stand in a record that shows something else (D39).
UNVERIFIED_AT_LEAST = {"enrolment", "staff-role", "consent", "order", "established-patient"}


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """Asks both sides about a chart: what they disagree on, in a line each.

    The product is called as `smartapp evaluate` calls it; only, the shipped tables are read but once.
    """
    folder = tmp_path_factory.mktemp("oracle")
    chart = folder / "chart.ndjson"
    load = smartapp.commands.evaluate.load_terminology
    terminologies: dict[int, Any] = {}

    @cache
    def site(zone: str, payer: str | None) -> SiteFile:
        return read_site_file(write_site(folder, zone, payer))

    def load_once(declared: Any) -> Any:
        if id(declared) not in terminologies:
            terminologies[id(declared)] = load(declared)
        return terminologies[id(declared)]

    def compare(
        resources: list[Resource], as_of: str, zone: str, payer: str | None, history_from: str | None = None
    ) -> list[str]:
        chart.write_text("\n".join(json.dumps(resource) for resource in resources) + "\n")
        read_from = date.fromisoformat(history_from) if history_from else None
        told = evaluate(
            [chart], as_of=date.fromisoformat(as_of), site=site(zone, payer), history_from=read_from
        )
        assert isinstance(told, dict)
        expected = oracle.answer(resources, site_file(zone, payer, None), as_of, history_from)
        found = list(differences(told, expected))
        return [*found, "product:", brief(told), "oracle:", brief(expected)] if found else []

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(smartapp.commands.evaluate, "load_terminology", load_once)
        yield compare


# -- comparing ----------------------------------------------------------


def differences(told: Answer, expected: Answer) -> Iterator[str]:
    """Where the product's answer is not the oracle's, a line each."""
    for key in ("patient", "as_of", "timezone", "payer"):
        if told[key] != expected[key]:
            yield f"{key}: {told[key]}, oracle {expected[key]}"
    ours, theirs = _by_code(told), _by_code(expected)
    for key in sorted(ours.keys() | theirs.keys()):
        label = " ".join(key)
        if key not in theirs or key not in ours:
            one = ours.get(key) or theirs[key]
            yield f"{label}: only {'the product' if key in ours else 'the oracle'} has it ({one['outcome']})"
        else:
            yield from (f"{label}: {text}" for text in _decision_differences(ours[key], theirs[key]))
    yield from _exclusion_differences(told, expected)


def _by_code(answer: Answer) -> dict[tuple[str, ...], Any]:
    """The decisions by code and period; a start-up code without a day has no certain period."""
    found: dict[tuple[str, ...], Any] = {}
    for d in answer["decisions"]:
        key: tuple[str, ...] = (d["code"], d["period"]["start"], d["period"]["end"])
        if _has_no_day(d):
            key = (d["code"], "without a day", str(sum(k[:2] == (d["code"], "without a day") for k in found)))
        found[key] = d
    return found


def _has_no_day(d: Answer) -> bool:
    """Until there is a first day nothing fixes the first period of 98975 and 99453."""
    days = [r["found"] for r in d["requirements"] if r["requirement"] == "monitoring-days"]
    return d["code"] in ("98975", "99453") and sum(days) == 0


def _decision_differences(ours: Answer, theirs: Answer) -> Iterator[str]:
    keys = ["program", "line", "outcome", "quantity"]
    if not _has_no_day(theirs):
        keys.append("forecast")
    if theirs["line"] is None and theirs["code"] not in ("98975", "99453"):
        keys.append("modifiers")
    if theirs["outcome"] != "charged":
        keys.append("service_date")
    for key in keys:
        if ours[key] != theirs[key]:
            yield f"{key} is {ours[key]}, oracle {theirs[key]}"
    if _has_no_day(theirs):
        return
    if sorted(ours["reasons"]) != sorted(theirs["reasons"]):
        yield f"reasons are {sorted(ours['reasons'])}, oracle {sorted(theirs['reasons'])}"
    by_rule = UNVERIFIED_BY_RULE - set(theirs["perhaps_unverified"])
    if theirs["outcome"] == "charged":
        by_rule = {"prior-charges"}  # nothing else of it is asked of anybody any more
    unverified = [sorted(by_rule & set(d["unverified"])) for d in (ours, theirs)]
    if unverified[0] != unverified[1]:
        yield f"unverified is {unverified[0]}, oracle {unverified[1]}"
    if missing := UNVERIFIED_AT_LEAST & set(theirs["unverified"]) - set(ours["unverified"]):
        yield f"unverified lacks {sorted(missing)}"
    told, expected = _requirements(ours), _requirements(theirs)
    for name in sorted(told.keys() | expected.keys()):
        if told.get(name) != expected.get(name):
            yield f"{name} is {told.get(name)}, oracle {expected.get(name)}"


def _requirements(d: Answer) -> dict[str, Any]:
    return {
        r["requirement"]: (r["found"], r["needed"], r["unit"], r["met"], sorted(r["evidence"]))
        for r in d["requirements"]
    }


def _exclusion_differences(told: Answer, expected: Answer) -> Iterator[str]:
    ours, theirs = _reasons(told), _reasons(expected)
    for ref in sorted(ours.keys() | theirs.keys()):
        if ref.startswith("Encounter/") and set(ours.get(ref, [])) <= NOTHING_TO_COUNT and ref not in theirs:
            continue
        if ref.startswith("Claim/") and ours.get(ref) == ["not-active"] and ref not in theirs:
            continue
        if ref.startswith(("Consent/", "ServiceRequest/", "EpisodeOfCare/")):
            continue
        if ours.get(ref) != theirs.get(ref) and not _either(theirs.get(ref), ours.get(ref)):
            yield f"{ref}: excluded as {ours.get(ref)}, oracle {theirs.get(ref)}"


def _either(theirs: list[str] | None, ours: list[str] | None) -> bool:
    """Do the two leave it out for one of its two reasons each?"""
    pairs = zip(theirs or (), ours or (), strict=False)
    return len(theirs or ()) == len(ours or ()) > 0 and all(
        one == other or (one, other) in EITHER for one, other in pairs
    )


def _reasons(answer: Answer) -> dict[str, list[str]]:
    """Why each resource is left out: the last reason told, and `duplicate` once for each older version."""
    found: dict[str, list[str]] = {}
    for e in answer["excluded"]:
        found.setdefault(e["resource"], []).append(e["reason"])
    return {
        ref: [
            *[reason for reason in told if reason != "duplicate"][-1:],
            *["duplicate"] * told.count("duplicate"),
        ]
        for ref, told in found.items()
    }


def _hold(found: list[str], about: str) -> None:
    if found:
        pytest.fail("\n".join(["", about, *found]), pytrace=False)


# -- random charts ----------------------------------------------------------


@pytest.mark.parametrize("part", range(PARTS))
def test_random_charts(ask: Ask, part: int) -> None:
    @seed(SEED * PARTS + part)
    @settings(
        max_examples=EXAMPLES // PARTS,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(chart=charts())
    def both_say_the_same(chart: RandomChart) -> None:
        found = ask(chart.resources(), chart.as_of, chart.zone, chart.payer, chart.history_from)
        _hold(found, str(chart))

    both_say_the_same()


# -- every boundary ----------------------------------------------------------


def asked(cases: Iterable[T], always: Container[T] = ()) -> list[T]:
    """All cases; in an ordinary run those that must always be asked about, and every thirty-first."""
    return [one for number, one in enumerate(cases) if EXHAUSTIVE or number % 31 == 0 or one in always]


LINES = {
    "respiratory": {"of": "PUFFS", "device": "inhaler-cap"},
    "musculoskeletal": {"of": "HEP", "device": "knee-app"},
    "cognitive-behavioral": {"of": "MOOD", "device": "mood-app"},
    "physiologic": {"of": "BP", "device": "cuff"},
    "other": {"of": "SWIM", "device": "pool-sensor"},
}


def test_whatever_the_tables_know_is_asked_about() -> None:
    """A code or a line that the oracle, or the clinic of its charts, does not know is never checked."""
    tables, lines = load_tables(), set(Line)
    assert set(oracle.IN_FORCE_FROM) == set(tables.codes)
    assert {(rule.line, code) for code, rule in tables.codes.items() if rule.line is not None} == {
        (line, code) for line, codes in oracle.DEVICE_CODES.items() for code in codes
    }
    assert {line for of_program in oracle.LINES.values() for line in of_program} == lines
    assert set(LINES) == {line for line, _ in ROWS.values()} == set(DEVICE_LINES.values()) == lines


FIRST_DAYS = {
    "2025": date(2025, 9, 1),
    "into 2026": date(2025, 12, 10),
    "2026": date(2026, 1, 5),
    "leap year": date(2028, 2, 1),
}
NEW_YORK = "America/New_York"


@pytest.mark.parametrize("first", FIRST_DAYS.values(), ids=FIRST_DAYS.keys())
@pytest.mark.parametrize("line", LINES)
def test_every_number_of_days(ask: Ask, line: str, first: date) -> None:
    """0 to 31 days in a row; asked on the last of them, inside the period, on its last day, the day after."""
    program = "rpm" if line == "physiologic" else "rtm"
    set_up = {"setup": {"at": f"{first}T07:00:00", "for": "10:00", "by": "nurse", "program": program}}
    for count in asked(range(32), {1, 2, 15, 16, 17, 30}):
        days = {"days": {**LINES[line], "from": str(first), "count": count}}
        resources = build_resources([set_up, days], NEW_YORK)
        for day in {max(count - 1, 0), 14, 15, 16, 28, 29, 30}:
            found = ask(resources, str(first + timedelta(days=day)), NEW_YORK, "medicare")
            _hold(found, f"{line}, {count} days from {first}, asked on day {day + 1}")


@pytest.mark.parametrize("as_of", ["2026-03-20", "2026-03-31", "2026-04-01"])
@pytest.mark.parametrize("minutes", [10, 20, 40, 60, 80, 100])
@pytest.mark.parametrize(("program", "of"), [("rtm", "HEP"), ("rpm", "CUFF-ROW")])
def test_every_second_around_a_threshold(ask: Ask, program: str, of: str, minutes: int, as_of: str) -> None:
    """A call of three minutes and a review of the rest, a second longer each time."""
    day = {"reading": {"of": of, "at": "2026-03-05T08:00:00"}}
    call = {"call": {"at": "2026-03-10T10:00:00", "for": "3:00", "by": "physician", "program": program}}
    threshold = minutes * 60
    for total in asked(range(threshold - 61, threshold + 62), range(threshold - 1, threshold + 2)):
        review = {"at": "2026-03-11T09:00:00", "for": total - 180, "by": "nurse", "program": program}
        found = ask(build_resources([day, call, {"review": review}], NEW_YORK), as_of, NEW_YORK, "medicare")
        _hold(found, f"{program}, {total} seconds, asked on {as_of}")


@pytest.mark.parametrize("month", ["2025-12", "2026-01"])
@pytest.mark.parametrize(("program", "of"), [("rtm", "HEP"), ("rpm", "CUFF-ROW")])
def test_the_ten_minute_codes_begin_with_2026(ask: Ask, program: str, of: str, month: str) -> None:
    """Both sets of rules, every second around ten and twenty minutes."""
    day = {"reading": {"of": of, "at": f"{month}-05T08:00:00"}}
    for threshold in (600, 1200):
        for total in range(threshold - 2, threshold + 3):
            call = {"at": f"{month}-10T10:00:00", "for": total, "by": "physician", "program": program}
            resources = build_resources([day, {"call": call}], NEW_YORK)
            found = ask(resources, "2026-02-01", NEW_YORK, "medicare")
            _hold(found, f"{program}, {total} seconds in {month}")


@pytest.mark.parametrize("empty", range(88, 94))
def test_the_gap_that_makes_an_episode_unclear(ask: Ask, empty: int) -> None:
    """Two days, so many empty ones, two days again: with and without EpisodeOfCare."""
    again = date(2026, 1, 6) + timedelta(days=empty + 1)
    days = [{"days": {"of": "HEP", "from": first, "count": 2}} for first in ("2026-01-05", str(again))]
    for episode in ([], [{"episode": {"from": "2026-01-01"}}]):
        for as_of in (again, again + timedelta(days=1), again + timedelta(days=40)):
            found = ask(build_resources([*days, *episode], NEW_YORK), str(as_of), NEW_YORK, "medicare")
            _hold(found, f"{empty} empty days, {episode}, asked on {as_of}")


@pytest.mark.parametrize("set_up", [True, False])
@pytest.mark.parametrize("last", asked(range(36), {1, 2, 14, 15, 16, 29, 30}))
def test_every_end_of_an_episode(ask: Ask, last: int, set_up: bool) -> None:
    """A reading a day; the episode ends on each day in turn, another one begins that day, or soon after."""
    first = date(2026, 1, 5)
    days = {"days": {"of": "HEP", "from": str(first), "count": 60}}
    former = {"episode": {"from": str(first), "to": str(first + timedelta(days=last))}}
    for later in (0, 1, 2, 20):
        begins = first + timedelta(days=last + later)
        work = {"at": f"{begins}T09:00:00", "for": "5:00", "by": "nurse", "program": "rtm"}
        events = [days, former, {"episode": {"from": str(begins)}}, *([{"setup": work}] if set_up else [])]
        for as_of in {first + timedelta(days=last), first + timedelta(days=last + 1), date(2026, 3, 20)}:
            found = ask(build_resources(events, NEW_YORK), str(as_of), NEW_YORK, "medicare")
            _hold(found, f"ends {former}, again on {begins}, set up {set_up}, asked on {as_of}")


def beginnings(program: str, day: date) -> dict[str, list[Event]]:
    """What may show on a day that a program began; or that it had begun long before; or nothing."""
    rtm = program == "rtm"
    supply, start_up, managed, other = (
        ("98977", "98975", "98980", "99453") if rtm else ("99454", "99453", "99457", "98975")
    )
    set_up = {"setup": {"at": f"{day}T07:00:00", "for": "10:00", "by": "nurse", "program": program}}
    any_set_up = {"setup": {**set_up["setup"], "program": "any"}}
    former = {"episode": {"from": str(day - timedelta(days=90)), "to": str(day - timedelta(days=50))}}
    episode = {"episode": {"from": str(day)}}

    def charge(code: str, days: int = 1) -> Event:
        when = {"period": [str(day), str(day + timedelta(days=days - 1))]} if days > 1 else {"on": str(day)}
        return {"charge": {"code": code, **when}}

    return {
        "nothing": [],
        "set-up": [set_up],
        "set-up of any program": [any_set_up],
        "EpisodeOfCare": [episode],
        "second EpisodeOfCare": [former, episode],
        "second EpisodeOfCare and set-up": [former, episode, set_up],
        "device charge of 30 days": [charge(supply, 30)],
        "device charge of 29 days": [charge(supply, 29)],
        "device charge of one day": [charge(supply)],
        "start-up charge": [charge(start_up)],
        "management charge": [charge(managed)],
        "charge of the other program": [charge(other)],
    }


@pytest.mark.parametrize("shift", [-40, -3, 0, 3])
@pytest.mark.parametrize("first", beginnings("rtm", date(2026, 1, 5)))
@pytest.mark.parametrize("program", ["rtm", "rpm"])
def test_every_beginning_around_the_first_day_that_was_read(
    ask: Ask, program: str, first: str, shift: int
) -> None:
    """Readings from one day on; a beginning that day, and another before, on or after it.

    What was read begins a day before either, that day, the day after.
    """
    day = date(2026, 1, 5)
    other_day = day + timedelta(days=shift)
    readings = {"of": "HEP"} if program == "rtm" else {"of": "BP", "device": "cuff"}
    days = {"days": {**readings, "on": [str(day + timedelta(days=n)) for n in (0, 2, 4, 6, 30, 34, 36)]}}
    around = {some + timedelta(days=n) for some in (day, other_day) for n in (-1, 0, 1)}
    seconds = beginnings(program, other_day)
    for name in asked(seconds, {first, "nothing", "set-up", "device charge of 30 days"}):
        second = seconds[name]
        resources = build_resources([days, *beginnings(program, day)[first], *second], NEW_YORK)
        for read_from in sorted(around):
            found = ask(resources, "2026-03-10", NEW_YORK, "medicare", str(read_from))
            _hold(found, f"{program}, {first} on {day}, {name} on {other_day}, read from {read_from}")


@pytest.mark.parametrize(("therapist", "assistant"), [("pt", "pta"), ("ot", "ota")])
def test_every_second_of_an_assistant_around_a_tenth(ask: Ask, therapist: str, assistant: str) -> None:
    """Twenty minutes, of which an assistant's 118 to 122 seconds: a tenth is 120."""
    day = {"reading": {"of": "HEP", "at": "2026-03-05T08:00:00"}}
    for seconds in range(118, 123):
        call = {"at": "2026-03-10T10:00:00", "for": 1200 - seconds, "by": therapist, "program": "rtm"}
        review = {"at": "2026-03-11T10:00:00", "for": seconds, "by": assistant, "program": "rtm"}
        resources = build_resources([day, {"call": call}, {"review": review}], NEW_YORK)
        found = ask(resources, "2026-04-01", NEW_YORK, "medicare")
        _hold(found, f"{seconds} seconds of {assistant}")
