"""The answer in sentences: true in every state of the synthetic charts, on every day of a month."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import replace
from datetime import date, timedelta
from functools import cache
from importlib.resources import files
from pathlib import Path

import pytest
from msgspec.structs import replace as changed

from fhir_mappings.chart import Chart
from fhir_mappings.decision import Decision
from fhir_mappings.local_time import Window
from fhir_mappings.rules.engine import assess
from fhir_mappings.vocabulary import Outcome, RequirementKind
from launch.sandbox.patients import charts, stories
from launch.sandbox.patients.staff import practice
from launch.sandbox.patients.tales import LARGE
from smartapp.configuration.site import read_site
from smartapp.store.claims import ChargeState
from smartapp.web.answer import Asked, Topic, answer
from smartapp.web.sent import SENT_FROM_HERE
from smartapp.windows import Now, Standing, WindowOfCodes, windows_of

FIRST = date(2026, 12, 1)
"""The first of a month: the month before is over since today, and the new one is empty."""
SITE = read_site(Path(str(files("launch.sandbox").joinpath("site.yaml"))), None, None)
STORIES = [story.id for story in stories() if story.id != LARGE]
DAYS = [FIRST + timedelta(days=number) for number in range(-12, 40)]


@cache
def _charts() -> dict[str, tuple[bytes, ...]]:
    return {
        story.id: tuple(json.dumps(one).encode() for one in (*practice(), *chart))
        for story, chart in charts(FIRST, readings=60)
        if story.id != LARGE
    }


@cache
def decided(story: str, today: date = FIRST) -> tuple[Decision, ...]:
    """What is decided of a story's chart, as the story stood on the first, on some day around it."""
    chart = Chart(SITE.terminology, SITE.zone, today, "https://ehr.example/fhir")
    for resource in _charts()[story]:
        chart.add(resource)
    record = chart.record(f"Patient/{story}")
    return assess(record, SITE.policies.of(record.payer), today).decisions


def windows(
    decisions: Iterable[Decision],
    today: date = FIRST,
    sent: dict[str, ChargeState] | None = None,
    closed: tuple[date, ...] = (),
    history_from: date = date.min,
) -> tuple[WindowOfCodes, ...]:
    policy = SITE.policy
    standings = {key: SENT_FROM_HERE[state] for key, state in (sent or {}).items() if state in SENT_FROM_HERE}
    now = Now(today, lambda code: policy.code(code).kind, history_from, standings, closed)
    return windows_of(decisions, now)


def told(story: str, today: date = FIRST, **more: object) -> list[str]:
    """The answer's sentences about a story; `more` goes to `windows`."""
    asked = Asked(windows(decided(story, today), today, **more), today)
    return [sentence.text for sentence in answer(asked)]


def topics(story: str, today: date = FIRST, **more: object) -> dict[Topic, str]:
    asked = Asked(windows(decided(story, today), today, **more), today)
    return {sentence.topic: sentence.text for sentence in answer(asked)}


# What stands


def test_what_can_be_charged_comes_first_by_code_and_window():
    assert told("ready-musculoskeletal")[0] == "98977, 98980 and 98981 for November can be charged."


def test_what_a_clinician_must_confirm_is_counted_once_for_all_codes_that_ask_for_it():
    assert topics("calls-not-in-the-ehr")[Topic.CONFIRM] == "1 thing to confirm before charging."
    assert Topic.CONFIRM not in topics("ready-musculoskeletal"), "the record shows it all"


def test_a_near_miss_is_said_and_that_what_took_place_can_be_logged():
    assert topics("no-conversation")[Topic.MISSED] == (
        "November: 27 minutes counted, no live conversation recorded. If one took place, log it."
    )


def test_an_empty_month_is_no_near_miss():
    assert Topic.MISSED not in topics("calls-not-in-the-ehr")


def test_a_start_up_code_is_ready_while_its_period_runs_and_nothing_calls_the_period_over():
    said = told("out-of-reach")
    assert said[0] == "98975 for 5 Nov to 4 Dec can be charged."
    assert "98984 is earned and can be charged from 5 Dec." in said
    assert "Out of reach: 98976 for 5 Nov to 4 Dec (5 of 16 days)." in said
    assert not [text for text in said if "over" in text]


def test_one_day_short_says_what_is_earned_and_where_the_longer_code_stands():
    assert told("one-day-short")[1] == (
        "98985 is earned and can be charged from 7 Dec; "
        "for 98977 it is 15 of 16 days, and the period ends 6 Dec."
    )


def test_a_period_that_is_decided_sooner_comes_before_a_month_that_began_today():
    said = [text for text in told("one-day-short") if "98977" in text or "98979" in text]
    assert said[0].startswith("98985 is earned")


def test_a_day_on_which_a_code_is_lost_before_its_period_ends_is_named():
    assert topics("single-day")[Topic.NOTHING] == "Nothing to charge now."
    assert told("single-day")[1] == (
        "22 Nov to 21 Dec: 1 of 2 days for 99445 and 99453, 1 of 16 days for 99454 (reachable until 7 Dec), "
        "the period ends 21 Dec."
    )


def test_two_programs_are_one_choice_said_once():
    said = told("both-programs")
    assert said[0] == (
        "Decide RTM or RPM first: both are earned for 2 to 31 Oct and November, and only one may be charged "
        "(8 codes wait)."
    )
    assert sum("only one may be charged" in text for text in said) == 1


def test_a_doubt_is_a_thing_to_decide_for_the_codes_that_wait_for_it():
    assert topics("back-after-a-break")[Topic.DECIDE] == (
        "1 thing to decide before 98977 for 22 Oct to 20 Nov can be charged."
    )


def test_a_chart_without_monitoring_has_nothing_to_charge():
    assert told("nothing") == ["Nothing to charge now: no remote monitoring was found in the chart."]


def test_windows_of_another_year_name_it():
    assert "98977 for 10 Dec 2025 to 8 Jan 2026 (10 of 16 days)" in topics("new-year-2026")[Topic.LOST]


# What became of it here


def keys(story: str, outcome: Outcome = Outcome.SUGGEST) -> list[str]:
    return [one.key for one in decided(story) if one.outcome is outcome]


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (ChargeState.AWAITING, "await a second person's approval."),
        (ChargeState.SENT, "are on their way to the EHR."),
        (ChargeState.UNKNOWN, "were sent and the EHR gave no answer: look in the EHR."),
        (ChargeState.CONFIRMED, "were written to the EHR."),
    ],
)
def test_what_was_sent_from_here_is_not_ready_any_more(state, said):
    sent = dict.fromkeys(keys("ready-musculoskeletal"), state)
    found = topics("ready-musculoskeletal", sent=sent)
    assert found[Topic.WAITING] == f"98977, 98980 and 98981 for November {said}"
    assert Topic.READY not in found
    assert Topic.CONFIRM not in found


@pytest.mark.parametrize(
    "state",
    [ChargeState.PREPARED, ChargeState.REFUSED, ChargeState.DECLINED, ChargeState.WITHDRAWN],
)
def test_what_certainly_is_not_in_the_ehr_can_be_charged_again(state):
    sent = dict.fromkeys(keys("ready-musculoskeletal"), state)
    assert Topic.READY in topics("ready-musculoskeletal", sent=sent)


def test_a_certified_month_is_not_ready_and_what_it_leaves_out_is_said():
    found = topics("ready-musculoskeletal", closed=(date(2026, 11, 1),))
    assert Topic.READY not in found
    assert found[Topic.WAITING] == (
        "98977, 98980 and 98981 for November are earned and not charged, and the month is certified."
    )


def test_nobody_is_told_to_log_into_a_certified_month():
    assert Topic.MISSED not in topics("no-conversation", closed=(date(2026, 11, 1),))


def test_who_may_not_charge_is_told_what_is_earned():
    asked = Asked(windows(decided("ready-respiratory")), FIRST, may_charge=False)
    assert answer(asked)[0].text == "98976 and 98980 for November are earned."


def test_a_chart_that_was_not_fully_read_says_so_before_anything_else():
    asked = Asked(windows(decided("messy-chart")), FIRST, not_fully_read=True)
    assert answer(asked)[0].text == "The chart was not fully read."


def test_where_readings_may_be_missing_nothing_to_charge_is_more_than_is_known():
    asked = Asked((), FIRST, not_fully_read=True, readings_unsure=True)
    assert [one.text for one in answer(asked)] == [
        "The chart was not fully read.",
        "Not known whether there is anything to charge.",
    ]


def test_a_record_that_was_replaced_says_nothing_of_charges():
    assert [one.text for one in answer(Asked((), FIRST, replaced=True))] == [
        "Nothing is decided here: this record was replaced."
    ]


def test_of_a_period_from_before_what_was_read_no_more_is_said_than_that():
    (said,) = (one for one in told("no-conversation", history_from=date(2026, 11, 1)) if "Oct" in one)
    assert said == ("Not charged, and not read as a whole: 2 to 31 Oct. Earlier months can be read too.")


def test_when_all_is_charged_the_answer_says_what_was():
    charged = [
        changed(one, outcome=Outcome.CHARGED) if one.outcome is Outcome.SUGGEST else one
        for one in decided("ready-respiratory")
    ]
    said = [one.text for one in answer(Asked(windows(charged), FIRST))]
    assert said[0] == "Nothing to charge now."
    assert said[-1] == "Charged: 98976 and 98980 for November."


def test_why_days_were_lost_stands_beside_what_was_lost():
    asked = Asked(windows(decided("hospital-stay")), FIRST, why_lost=lambda _: "11 days in a facility")
    (lost,) = [one.text for one in answer(asked) if one.topic is Topic.LOST]
    assert lost == "Not met: 99454 for November (13 of 16 days; 11 days in a facility)."


# In every state, on every day


@pytest.mark.parametrize("story", STORIES)
def test_no_sentence_is_false_on_any_day(story):
    for today in DAYS:
        decisions = decided(story, today)
        found = windows(decisions, today)
        said = answer(Asked(found, today))
        assert said, today
        by_key = {one.key: one for one in found}
        of_topic = {topic: " ".join(one.text for one in said if one.topic is topic) for topic in Topic}
        ready = {one.code for one in decisions if one.outcome is Outcome.SUGGEST}
        assert set(re.findall(r"\b9\d{4}\b", of_topic[Topic.READY])) == ready, today
        for sentence in said:
            one = by_key.get(sentence.at or "")
            if sentence.topic is Topic.OPEN:
                assert one is not None
                assert one.window.end >= today, (today, sentence)
            if sentence.topic is Topic.MISSED:
                assert one is not None
                assert one.window.end < today, (today, sentence)
                assert not any(
                    code.decision.outcome in (Outcome.SUGGEST, Outcome.REVIEW) for code in one.codes
                )
        for one in found:
            for code in one.among(Standing.SAFE):
                begins = code.open_from
                assert begins is not None
                assert begins > today, "what can be charged from a day on cannot be before"
        assert ("Nothing to charge now" in of_topic[Topic.NOTHING]) is not bool(
            ready | {one.code for one in decisions if one.outcome is Outcome.REVIEW}
        ), today


@pytest.mark.parametrize("story", ["one-day-short", "out-of-reach", "ready-musculoskeletal"])
def test_what_can_be_charged_from_a_day_on_can_be_charged_on_that_day(story):
    safe = [code for one in windows(decided(story)) for code in one.among(Standing.SAFE)]
    for code in safe:
        begins = code.open_from
        assert begins is not None
        later = {one.key: one.outcome for one in decided(story, begins)}
        assert later[code.decision.key] is Outcome.SUGGEST
        earlier = {one.key: one.outcome for one in decided(story, begins - timedelta(days=1))}
        assert earlier[code.decision.key] is Outcome.PROVISIONAL


def test_no_sentence_names_a_value_of_a_closed_set():
    for story in STORIES:
        for today in DAYS[::7]:
            text = " ".join(told(story, today))
            assert not re.search(r"\b[a-z]+(?:-[a-z]+)+\b|_|/|None", text), text


def test_minutes_are_never_rounded_to_what_would_be_enough():
    decisions = [
        changed(
            one,
            requirements=tuple(
                changed(part, found=19 * 60 + 59, met=False)
                if part.requirement is RequirementKind.MANAGEMENT_TIME
                else part
                for part in one.requirements
            ),
        )
        for one in decided("no-conversation")
        if one.code == "98980"
    ]
    said = [one.text for one in answer(Asked(windows(decisions), FIRST))]
    assert any("19 minutes 59 seconds of 20 minutes for 98980" in text for text in said), said
    assert not any("20 of 20" in text for text in said)


def test_a_window_is_where_the_codes_of_its_days_stand():
    found = windows(decided("out-of-reach"))
    (period,) = [one for one in found if not one.monthly]
    assert [code.decision.code for code in period.codes] == ["98975", "98976", "98984"]
    assert period.key == "rtm-period-respiratory-2026-11-05"
    assert replace(period, line=None).key == "rtm-period-any-2026-11-05"


# Sentences are whole


NO_SENTENCE = re.compile(r"[,;:][.,;]|  | [.,;]|\.\.$|[^.?]$")


@pytest.mark.parametrize("story", STORIES)
def test_every_sentence_ends_as_one_whatever_was_charged(story):
    for today in DAYS:
        found = decided(story, today)
        charged = [changed(one, outcome=Outcome.CHARGED) if one.quantity else one for one in found]
        for decisions in (found, charged):
            sentences = answer(Asked(windows(decisions, today), today))
            assert [one.text for one in sentences if NO_SENTENCE.search(one.text)] == []


def test_what_is_charged_in_several_windows_is_one_sentence():
    def of_its_days(one):
        aside = one.line is not None  # its period is not the month's, unlike the story's
        period = Window(date(2026, 11, 2), date(2026, 12, 1)) if aside else one.period
        return changed(one, outcome=Outcome.CHARGED, period=period)

    today = date(2026, 12, 2)
    met = [one for one in decided("ready-musculoskeletal") if one.outcome is Outcome.SUGGEST]
    (said,) = (
        one.text
        for one in answer(Asked(windows(map(of_its_days, met), today), today))
        if "Charged" in one.text
    )
    assert said == "Charged: 98980 and 98981 for November, and 98977 for 2 Nov to 1 Dec."


# No inducement: facts with their dates


INDUCES = re.compile(
    r"\bmore (days?|minutes?)\b|\baway\b|\bstill (needed|missing)\b|\bneed(s)? to\b|\$|\bearns?\b"
)


@pytest.mark.parametrize("story", STORIES)
def test_nothing_tells_anybody_to_provide_a_service_for_a_code(story):
    for today in DAYS:
        assert [text for text in told(story, today) if INDUCES.search(text)] == []
