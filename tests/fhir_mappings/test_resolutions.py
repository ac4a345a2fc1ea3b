"""How a review is settled, and what no word of anybody does (D38)."""

from __future__ import annotations

import json
from datetime import date
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from fhir_mappings.chart import Chart
from fhir_mappings.decision import Decision
from fhir_mappings.local_time import Window
from fhir_mappings.record import PatientRecord, Resolution
from fhir_mappings.rules.engine import assess
from fhir_mappings.rules.policy import load_policy
from fhir_mappings.rules.reviews import How, Who, load_reviews, problem_of, role_in
from fhir_mappings.rules.tables import load_tables
from fhir_mappings.terminology import load_terminology
from fhir_mappings.vocabulary import Hint, Outcome, RequirementKind, ReviewReason, Role
from tests.support.chart import Event, build_resources, site_terminology
from tests.support.random_charts import RandomChart, charts

ZONE = ZoneInfo("America/New_York")
TERMINOLOGY = load_terminology(site_terminology())
REVIEWS = load_reviews()
STANDING = {Outcome.SUGGEST, Outcome.PROVISIONAL}
RESOLVABLE = {
    *("payer-unknown", "payer-criteria", "straddles-rule-change", "charged-period-unclear", "rtm-and-rpm"),
    *("two-lines", "conversation-unclear", "call-across-months", "visit-on-service-date", "99091"),
    *("billing-professional-unknown", "two-professionals", "staff-role", "same-day-visit"),
    *("units-over-cap", "no-data-in-month", "in-facility-unclear", "assistant-not-needed"),
}


def test_every_reason_for_a_review_stands_in_the_table_once() -> None:
    held_back = {code for code, rule in load_tables().codes.items() if rule.kind == "held-back"}
    # Whose minutes are charged is no doubt, and is chosen in the same way.
    assert set(REVIEWS) == {*map(str, ReviewReason), *held_back, Hint.ASSISTANT_NOT_NEEDED}


def test_what_a_word_settles_and_what_it_does_not() -> None:
    assert {reason for reason, review in REVIEWS.items() if review.is_settled_here} == RESOLVABLE


BILLER, CLINICIAN = (Who.BILLER,), (Who.CLINICIAN,)
EITHER = (Who.BILLER, Who.CLINICIAN)
WHO_AND_REFERENCE = {
    "payer-unknown": (BILLER, True),
    "payer-criteria": (EITHER, True),
    "straddles-rule-change": (BILLER, False),
    "conversation-unclear": (CLINICIAN, False),
    "no-data-in-month": (CLINICIAN, False),
    "units-over-cap": (BILLER, False),
    "99091": (BILLER, True),
    "rtm-and-rpm": (EITHER, False),
    "two-lines": (CLINICIAN, False),
    "charged-period-unclear": (BILLER, True),
    "call-across-months": (CLINICIAN, False),
    "visit-on-service-date": (EITHER, False),
    "billing-professional-unknown": (EITHER, False),
    "two-professionals": (EITHER, False),
    "staff-role": (CLINICIAN, False),
    "same-day-visit": (EITHER, False),
    "in-facility-unclear": (CLINICIAN, False),
    "assistant-not-needed": (EITHER, False),
}
"""Written down a second time: who may confirm the sentence, and whether with a reference."""


def test_who_settles_what_a_word_settles_and_with_which_proof() -> None:
    found = {reason: (tuple(REVIEWS[reason].who), REVIEWS[reason].reference) for reason in RESOLVABLE}
    assert found == WHO_AND_REFERENCE


def test_each_way_out_is_a_whole_sentence_and_asks_nobody_to_furnish_a_service() -> None:
    for review in REVIEWS.values():
        assert review.says[0].isupper(), review.reason
        assert review.says.endswith("."), review.reason
        assert bool(review.who) == (review.how is not How.NOTHING)
        assert set(review.who) <= set(Who)


@pytest.mark.parametrize(
    ("resolution", "said"),
    [
        (Resolution("nonsense"), "is no reason"),
        (Resolution("setup-not-documented"), "settled by no sentence. Log the set-up"),
        (Resolution("payer-criteria"), "with a reference"),
        (Resolution("payer-criteria", reference="  "), "with a reference"),
        (Resolution("rtm-and-rpm"), "choice of a program"),
        (Resolution("rtm-and-rpm", choice="any"), "choice of a program"),
        (Resolution("two-lines", choice="other"), "choice of a line"),
        (Resolution("call-across-months", choice="2026-13"), "choice of a month"),
        (Resolution("visit-on-service-date", choice="2026-03"), "choice of a date"),
        (Resolution("two-professionals", choice="clinical-staff"), "choice of a role"),
        (Resolution("staff-role", choice="unknown"), "choice of a role"),
        (Resolution("same-day-visit", choice="me"), "choice of a person"),
        (Resolution("in-facility-unclear", choice="somewhere"), "choice of a place"),
    ],
)
def test_what_settles_nothing_says_so_in_one_line(resolution: Resolution, said: str) -> None:
    problem = problem_of(resolution)
    assert problem is not None
    assert said in problem
    assert "\n" not in problem


def test_a_role_may_say_whose_it_is() -> None:
    assert role_in("Practitioner/7 as physician") is Role.PHYSICIAN
    assert role_in("physician") is Role.PHYSICIAN
    assert role_in("Practitioner/7") is None
    assert role_in(None) is None


def read(events: list[Event] | RandomChart, as_of: date) -> PatientRecord:
    resources = events.resources() if isinstance(events, RandomChart) else build_resources(events, ZONE.key)
    chart = Chart(TERMINOLOGY, ZONE, as_of)
    for resource in resources:
        chart.add(json.dumps(resource).encode())
    return chart.record("Patient/p1")


def decided(record: PatientRecord, *resolutions: Resolution, payer: str = "medicare") -> dict[Any, Decision]:
    believed = replace(record, resolutions=resolutions)
    decisions = assess(believed, load_policy(payer), record.as_of).decisions
    return {(one.code, one.period): one for one in decisions}


def test_the_newer_of_two_choices_holds() -> None:
    both: list[Event] = [
        {"days": {"of": of, "from": "2026-03-02", "count": "16", **more}}
        for of, more in (("HEP", {}), ("BP", {"device": "cuff"}))
    ]
    record = read(both, date(2026, 4, 10))
    first = Resolution("rtm-and-rpm", choice="rtm", on=date(2026, 4, 2))
    then = Resolution("rtm-and-rpm", choice="rpm", on=date(2026, 4, 3))
    for order in ((first, then), (then, first)):
        found = {one.code: one.outcome for one in decided(record, *order).values()}
        assert (found["99454"], found["98977"]) == (Outcome.SUGGEST, Outcome.REVIEW)


days = st.dates(date(2025, 12, 1), date(2026, 5, 31))
choices = st.one_of(
    st.none(),
    st.sampled_from(
        [
            *("rtm", "rpm", "respiratory", "musculoskeletal", "home", "facility", "somebody-else"),
            *("physician", "physical-therapist", "clinical-staff", "Practitioner/physician", "2026-03"),
            *("therapist-alone", "with-assistant"),
        ]
    ),
    days.map(date.isoformat),
)
windows = st.one_of(st.none(), st.tuples(days, days).map(sorted).map(lambda ends: Window(ends[0], ends[1])))
codes = st.sets(st.sampled_from(sorted(load_tables().codes)), max_size=3).map(frozenset)
reasons = st.sampled_from(sorted(REVIEWS))
resolutions = st.lists(
    st.builds(
        Resolution,
        resolves=reasons,
        codes=codes,
        window=windows,
        choice=choices,
        reference=st.sampled_from(["", "auth 1"]),
        until=st.one_of(st.none(), days),
        by=st.just("Practitioner/7"),
        on=days,
    ),
    max_size=6,
).map(tuple)


LEAST = {
    **dict.fromkeys(("98984", "98985", "98986", "99445", "98975", "99453"), 2),
    **dict.fromkeys(("98976", "98977", "98978", "99454"), 16),
    **dict.fromkeys(("98979", "99470"), 10 * 60),
    **dict.fromkeys(("98980", "99457"), 20 * 60),
}
"""Days or seconds, written down again: the smallest that ever earned the code."""
ADD_ONS, MOST_UNITS = ("98981", "99458"), 3


def most_earned(decision: Decision) -> int:
    """Units that the days or seconds which a decision shows can earn at most."""
    (found,) = (
        one.found
        for one in decision.requirements
        if one.requirement in (RequirementKind.MONITORING_DAYS, RequirementKind.MANAGEMENT_TIME)
    )
    if decision.code in ADD_ONS:
        return min(MOST_UNITS, (found - 20 * 60) // (20 * 60))
    return int(found >= LEAST[decision.code])


@given(charts(), resolutions, st.sampled_from(["medicare", "anthem", "nobody"]))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_no_word_makes_numbers_met_or_charges_a_code_that_it_does_not_name(
    chart: RandomChart, said: tuple[Resolution, ...], payer: str
) -> None:
    record = read(chart, date.fromisoformat(str(chart.as_of)))
    before = decided(record, payer=payer)
    for key, decision in decided(record, *said, payer=payer).items():
        if decision.outcome in STANDING:
            # A set-up that nobody documented is asked of a human, and no number.
            asked = [one for one in decision.requirements if one.requirement != "set-up"]
            assert all(one.met for one in asked), decision
            assert decision.quantity <= most_earned(decision), decision
            if key not in before or before[key].outcome not in STANDING:
                day = decision.service_date or decision.period.end
                assert any(one.covers(decision.code, decision.period, day) for one in said), decision
        for entry in decision.resolved:
            assert entry.reason in RESOLVABLE
            assert entry.reason not in decision.reasons


@given(charts(), resolutions, st.sampled_from(["medicare", "anthem", "nobody"]))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_of_what_no_word_speaks_nothing_changes_but_that_it_may_wait(
    chart: RandomChart, said: tuple[Resolution, ...], payer: str
) -> None:
    record = read(chart, date.fromisoformat(str(chart.as_of)))
    before = decided(record, payer=payer)
    after = decided(record, *said, payer=payer)
    for key, was in before.items():
        day = was.service_date or was.period.end
        if any(one.covers(was.code, was.period, day) for one in said):
            continue
        now = after.get(key)
        if now != was:
            # Its base, its program or its line was chosen away: it waits, and nobody's word made it more.
            assert was.outcome in STANDING, (was, now)
            assert now is None or now.outcome not in STANDING, (was, now)


@given(charts(), resolutions)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_a_word_taken_back_leaves_the_answer_as_it_was(
    chart: RandomChart, said: tuple[Resolution, ...]
) -> None:
    record = read(chart, date.fromisoformat(str(chart.as_of)))
    before = decided(record)
    decided(record, *said)
    assert decided(record) == before
    useless = tuple(one for one in said if problem_of(one) is not None)
    assert decided(record, *useless) == before
