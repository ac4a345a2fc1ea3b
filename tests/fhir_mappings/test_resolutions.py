"""How a review is settled, and what no word of anybody does (D38)."""

from __future__ import annotations

import json
from datetime import date
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from fhir_mappings.chart import Chart
from fhir_mappings.decision import Alternative, Decision, Resolved
from fhir_mappings.local_time import LocalClock, Window
from fhir_mappings.record import ManagementTime, PatientRecord, PriorCharge, Reading, Resolution, Visit
from fhir_mappings.rules import engine
from fhir_mappings.rules.candidate import Candidate
from fhir_mappings.rules.engine import assess
from fhir_mappings.rules.policy import Policy, load_policy
from fhir_mappings.rules.resolutions import (
    minutes_chosen,
    service_date_chosen,
    settle,
    told,
    usable,
    who_bills,
    with_choices,
)
from fhir_mappings.rules.reviews import (
    How,
    Review,
    Who,
    day_in,
    load_reviews,
    month_in,
    problem_of,
    role_in,
)
from fhir_mappings.rules.tables import Covered, load_tables
from fhir_mappings.terminology import load_terminology
from fhir_mappings.vocabulary import (
    Activity,
    ExcludedReason,
    Hint,
    Line,
    Outcome,
    Program,
    RequirementKind,
    ReviewReason,
    Role,
)
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


# -- what is chosen about the record itself ----------------------------------------------------------------

MONDAY, LATER = date(2026, 3, 2), date(2026, 3, 20)
FEBRUARY = Window(date(2026, 2, 1), date(2026, 2, 28))
MARCH = Window(date(2026, 3, 1), date(2026, 3, 31))
APRIL = Window(date(2026, 4, 1), date(2026, 4, 30))
BARE = PatientRecord("Patient/p1", date(2026, 5, 10), ZONE)
CLOCK = LocalClock(ZONE)
MEDICARE = load_policy("medicare")


def with_words(*said: Resolution, **more: Any) -> PatientRecord:
    return with_choices(replace(BARE, resolutions=said, **more), CLOCK)


def test_the_oldest_word_comes_first_and_one_without_a_day_before_all() -> None:
    first, then, undated = (Resolution("no-data-in-month", on=on) for on in (MONDAY, LATER, None))
    assert usable([then, Resolution("nonsense"), first, undated]) == (undated, first, then)


def test_readings_said_to_be_taken_at_home_count_in_the_order_of_time() -> None:
    unclear = ExcludedReason.IN_FACILITY_UNCLEAR

    def reading(name: str, day: int, instant: int, doubt: ExcludedReason | None = None) -> Reading:
        return Reading(name, Line.MUSCULOSKELETAL, "x", date(2026, 3, day), instant, doubt)

    said = [
        Resolution("in-facility-unclear", window=Window(day, day), choice=choice)
        for day, choice in ((date(2026, 3, 3), "home"), (date(2026, 3, 4), "facility"))
    ]
    found = with_words(
        *said,
        readings=(reading("b", 3, 20), reading("c", 3, 30)),
        doubtful_readings=(
            reading("a", 3, 20, unclear),
            reading("d", 3, 25, unclear),
            reading("there", 4, 40, unclear),
            reading("unsaid", 5, 50, unclear),
            reading("other", 3, 60, ExcludedReason.AFTER_AS_OF),
        ),
    )
    assert [one.resource for one in found.readings] == ["a", "b", "d", "c"]
    assert all(one.doubt is None for one in found.readings)
    assert [one.resource for one in found.doubtful_readings] == ["unsaid", "other"]


def test_a_visit_is_of_whom_somebody_named_where_its_people_cannot_be_told() -> None:
    def visit(name: str, *days: date, unnamed: bool = True) -> Visit:
        return Visit(name, days, frozenset({"Practitioner/2"}), unnamed)

    whole = Window(MONDAY, LATER)
    visits = (
        visit("named", MONDAY, unnamed=False),
        visit("within", MONDAY, LATER),
        visit("begins-before", date(2026, 3, 1), LATER),
        visit("ends-after", MONDAY, date(2026, 3, 21)),
    )
    named, within, *others = with_words(
        Resolution("same-day-visit", window=whole, choice="Practitioner/1"),
        Resolution("same-day-visit", window=FEBRUARY, choice="Practitioner/3"),
        visits=visits,
    ).visits
    assert named == visits[0]
    assert within == replace(visits[1], people=frozenset({"Practitioner/1", "Practitioner/2"}), unnamed=False)
    assert tuple(others) == visits[2:]


def test_somebody_without_a_role_worked_in_the_one_that_was_said_of_the_month() -> None:
    def work(name: str, start: str, role: Role = Role.UNKNOWN) -> ManagementTime:
        begin = CLOCK.midnight(date.fromisoformat(start))
        return ManagementTime(
            name, Program.RTM, Activity.DATA_REVIEW, True, None, role, begin, begin, 60, nobody_shown=True
        )

    first, last, known, other = (
        work("first", "2026-03-01"),
        work("last", "2026-03-31"),
        work("known", "2026-03-02", Role.PHYSICIAN),
        work("other", "2026-02-28"),
    )
    given = (first, last, known, other)
    said = Resolution("staff-role", window=MARCH, choice="Practitioner/1 as physical-therapist")
    changed = {"role": Role.PHYSICAL_THERAPIST, "discipline": "physical", "nobody_shown": False}
    told_so = with_words(said, management=given).management
    assert told_so == (replace(first, **changed), replace(last, **changed), known, other)
    nobody = replace(said, choice="non-clinical")
    assert with_words(nobody, management=given).management == (known, other)
    part = replace(said, window=Window(MONDAY, MARCH.end))
    assert with_words(part, management=given).management == given
    elsewhere = (Resolution("no-data-in-month", choice="physician"), Resolution("staff-role"))
    assert with_words(*elsewhere, management=given).management == given


def test_who_bills_a_month_is_the_newest_word_about_it() -> None:
    said = (
        Resolution("billing-professional-unknown", window=MARCH, choice="physician"),
        Resolution("two-professionals", window=FEBRUARY, choice="Practitioner/1 as physical-therapist"),
        Resolution("staff-role", choice="clinical-staff"),
    )
    assert who_bills(MARCH, said) is Role.PHYSICIAN
    assert who_bills(FEBRUARY, said) is Role.PHYSICAL_THERAPIST
    assert who_bills(APRIL, said) is None
    newer = Resolution("two-professionals", choice="occupational-therapist")
    assert who_bills(MARCH, (*said, newer)) is Role.OCCUPATIONAL_THERAPIST
    assert who_bills(MARCH, ()) is None


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ((), None),
        ((Resolution("visit-on-service-date", choice="2026-03-12"),), date(2026, 3, 12)),
        ((Resolution("visit-on-service-date", frozenset({"98980"}), choice="2026-03-01"),), MARCH.start),
        ((Resolution("visit-on-service-date", frozenset({"98981"}), choice="2026-03-12"),), None),
        ((Resolution("visit-on-service-date", window=APRIL, choice="2026-03-12"),), None),
        ((Resolution("visit-on-service-date", choice="2026-04-01"),), None),
        ((Resolution("two-lines", choice="2026-03-12"),), None),
        (
            (
                Resolution("visit-on-service-date", choice="2026-03-12"),
                Resolution("visit-on-service-date", choice="2026-03-13"),
            ),
            date(2026, 3, 13),
        ),
    ],
)
def test_a_service_is_dated_on_the_chosen_day_of_its_month(
    said: tuple[Resolution, ...], expected: date | None
) -> None:
    assert service_date_chosen("98980", MARCH, said) == expected


def test_whose_minutes_are_charged_is_the_last_word_about_the_code() -> None:
    first, then, other = (
        Resolution("assistant-not-needed", choice="with-assistant"),
        Resolution("assistant-not-needed", choice="therapist-alone"),
        Resolution("no-data-in-month", choice="with-assistant"),
    )

    def chosen(*said: Resolution) -> str | None:
        return minutes_chosen("98980", MARCH, MARCH.end, replace(BARE, resolutions=said))

    assert (chosen(), chosen(other)) == (None, None)
    assert chosen(first, then, other) == "therapist-alone"
    assert chosen(first, replace(then, codes=frozenset({"98981"}))) == "with-assistant"
    assert chosen(first, replace(then, until=date(2026, 3, 30))) == "with-assistant"


# -- what is settled of each code --------------------------------------------------------------------------


def candidate(code: str, window: Window, *reasons: str, **more: Any) -> Candidate:
    rule = MEDICARE.codes[code]
    return Candidate(rule, window, window.end, met=True, reasons=frozenset(reasons), **more)


def left(
    candidates: list[Candidate],
    *said: Resolution,
    charges: tuple[PriorCharge, ...] = (),
    policy: Policy = MEDICARE,
) -> list[set[str]]:
    """The reasons that each candidate still has."""
    settle(candidates, replace(BARE, resolutions=said, charges=charges), policy)
    return [set(one.reasons) for one in candidates]


@pytest.mark.parametrize(
    ("reason", "said", "expected"),
    [
        ("units-over-cap", Resolution("units-over-cap"), set()),
        ("units-over-cap", Resolution("no-data-in-month"), {"units-over-cap"}),
        ("units-over-cap", Resolution("units-over-cap", frozenset({"98980"})), {"units-over-cap"}),
        ("units-over-cap", Resolution("units-over-cap", window=APRIL), {"units-over-cap"}),
        ("units-over-cap", Resolution("units-over-cap", until=MARCH.end), set()),
        ("units-over-cap", Resolution("units-over-cap", until=date(2026, 3, 30)), {"units-over-cap"}),
        ("setup-not-documented", Resolution("setup-not-documented"), {"setup-not-documented"}),
        ("two-professionals", Resolution("two-professionals", choice="physician"), {"two-professionals"}),
        ("00000", Resolution("00000"), {"00000"}),
        ("payer-criteria", Resolution("payer-criteria", reference="1"), set()),
    ],
)
def test_a_sentence_settles_the_reason_it_names_for_what_it_covers(
    reason: str, said: Resolution, expected: set[str]
) -> None:
    assert left([candidate("98981", MARCH, reason)], said) == [expected]
    assert left([candidate("98981", MARCH, reason, "periods-overlap")], said) == [
        {*expected, "periods-overlap"}
    ]


def test_an_authorisation_settles_only_where_it_says_until_when_it_holds() -> None:
    class Authorised(Policy, frozen=True, eq=False):
        def covered(self, code: str, day: date) -> Covered:
            return Covered.PRIOR_AUTH if day == MARCH.end else Covered.CRITERIA

    policy = Authorised(*(getattr(MEDICARE, field) for field in MEDICARE.__struct_fields__))
    words = (Resolution("payer-criteria"), Resolution("payer-criteria", until=date(2026, 12, 31)))
    found = [left([candidate("98981", MARCH, "payer-criteria")], one, policy=policy) for one in words]
    assert found == [[{"payer-criteria"}], [set()]]
    cap = Resolution("units-over-cap")
    assert left([candidate("98981", MARCH, "units-over-cap")], cap, policy=policy) == [set()]
    assert left([candidate("98981", APRIL, "payer-criteria")], words[0], policy=policy) == [set()]


FIRST, SECOND = Window(date(2026, 3, 2), date(2026, 3, 31)), Window(date(2026, 4, 1), date(2026, 4, 30))


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("2026-03-02", [{"charged-otherwise"}, set(), {"periods-overlap"}]),
        ("2026-04-01", [set(), {"charged-otherwise"}, {"periods-overlap"}]),
        (None, [{"charged-period-unclear"}, {"charged-period-unclear"}, {"periods-overlap"}]),
    ],
)
def test_a_charge_stands_for_the_one_window_that_was_chosen(
    choice: str | None, expected: list[set[str]]
) -> None:
    held = [
        candidate("98977", SECOND, "periods-overlap"),
        candidate("98977", FIRST, "charged-period-unclear"),
        candidate("98977", SECOND, "charged-period-unclear"),
    ]
    found = left(held, Resolution("charged-period-unclear", choice=choice))
    assert found == [expected[2], *expected[:2]]


def months(
    *chosen: str, codes: tuple[str, str] = ("98980", "98980"), other: Window = APRIL
) -> list[set[str]]:
    held = [
        candidate(codes[0], MARCH, "call-across-months"),
        candidate(codes[1], other, "call-across-months"),
    ]
    said = [
        Resolution("call-across-months", window=window, choice=month)
        for window, month in zip((MARCH, other), chosen, strict=False)
    ]
    return left(held, *said)


def test_a_call_across_months_counts_for_the_month_that_was_chosen_and_not_for_both() -> None:
    held = {"call-across-months"}
    assert months("2026-03") == [set(), held]
    assert months("2026-04") == [held, held]
    assert months("2026-03", "2026-03") == [set(), held]
    assert months("2026-03", "2026-04") == [held, held]
    assert months("2026-03", "2026-02", other=FEBRUARY) == [held, held]


def test_a_month_that_is_not_beside_or_of_another_program_claims_no_call() -> None:
    may = Window(date(2026, 5, 1), date(2026, 5, 31))
    january = Window(date(2026, 1, 1), date(2026, 1, 31))
    assert months("2026-03", "2026-05", other=may) == [set(), set()]
    assert months("2026-03", "2026-01", other=january) == [set(), set()]
    assert months("2026-03", "2026-04", codes=("98980", "99457")) == [set(), set()]
    held = [candidate("98980", MARCH, "call-across-months"), candidate("98980", APRIL)]
    words = [
        Resolution("call-across-months", window=window, choice=month)
        for window, month in ((MARCH, "2026-03"), (APRIL, "2026-04"))
    ]
    assert left(held, *words) == [set(), set()]


def test_of_two_programs_the_chosen_one_is_charged_and_the_other_waits() -> None:
    word = Resolution("rtm-and-rpm", choice="rtm")

    def programs(*reasons: str, other: Window = FIRST) -> list[set[str]]:
        return left([candidate("98977", FIRST, "rtm-and-rpm"), candidate("99454", other, *reasons)], word)

    assert programs("rtm-and-rpm") == [set(), {"rtm-and-rpm"}]
    assert programs() == [set(), {"rtm-and-rpm"}]
    assert programs(other=SECOND) == [set(), set()]
    free = [candidate("98977", FIRST), candidate("99454", FIRST)]
    assert left(free, word) == [set(), set()]
    unspoken = [candidate("98977", FIRST, "rtm-and-rpm"), candidate("98980", MARCH, "periods-overlap")]
    assert left(unspoken, word) == [set(), {"periods-overlap"}]


def test_where_both_programs_are_chosen_for_one_day_neither_is_charged() -> None:
    both = [candidate("98977", FIRST, "rtm-and-rpm"), candidate("99454", FIRST, "rtm-and-rpm")]
    words = (
        Resolution("rtm-and-rpm", frozenset({"98977"}), choice="rtm"),
        Resolution("rtm-and-rpm", frozenset({"99454"}), choice="rpm"),
    )
    assert left(both, *words) == [{"rtm-and-rpm"}, {"rtm-and-rpm"}]


def charge(code: str, occurrence: Window | None, quantity: int = 1) -> PriorCharge:
    return PriorCharge("ChargeItem/c", code, quantity, occurrence)


@pytest.mark.parametrize(
    ("code", "window", "expected"),
    [
        ("99454", FIRST, {"rtm-and-rpm"}),
        ("99454", SECOND, set()),
        ("98980", MARCH, set()),
    ],
)
def test_a_charge_of_the_other_program_in_these_days_keeps_the_choice_from_holding(
    code: str, window: Window, expected: set[str]
) -> None:
    beside = candidate(code, window, charges=(charge(code, window),))
    held = candidate("98977", FIRST, "rtm-and-rpm")
    assert left([held, beside], Resolution("rtm-and-rpm", choice="rtm"))[0] == expected


@pytest.mark.parametrize(
    ("one", "holds"),
    [
        (charge("99454", None), False),
        (charge("99454", Window(date(2026, 3, 31), date(2026, 3, 31))), False),
        (charge("99454", Window(date(2026, 4, 1), date(2026, 4, 1))), True),
        (charge("99454", Window(date(2026, 3, 1), date(2026, 3, 1))), True),
        (charge("99457", None), False),
        (charge("98985", FIRST), True),
        (charge("99091", FIRST), True),
        # Management is of the whole month, and an add-on with it.
        (charge("99457", Window(date(2026, 3, 1), date(2026, 3, 1))), False),
        (charge("99458", Window(date(2026, 3, 1), date(2026, 3, 1))), False),
        (charge("99457", Window(date(2026, 2, 28), date(2026, 2, 28))), True),
        (charge("99458", Window(date(2026, 4, 1), date(2026, 4, 1))), True),
    ],
)
def test_a_charge_of_the_other_program_that_no_window_holds_is_asked_for_as_well(
    one: PriorCharge, *, holds: bool
) -> None:
    held = candidate("98977", FIRST, "rtm-and-rpm")
    found = left([held], Resolution("rtm-and-rpm", choice="rtm"), charges=(one,))
    assert found == [set() if holds else {"rtm-and-rpm"}]


def test_a_management_charge_of_a_months_first_day_reaches_that_months_end() -> None:
    held = candidate("98977", Window(date(2026, 3, 31), date(2026, 4, 29)), "rtm-and-rpm")
    first = charge("99457", Window(date(2026, 3, 1), date(2026, 3, 1)))
    assert left([held], Resolution("rtm-and-rpm", choice="rtm"), charges=(first,)) == [{"rtm-and-rpm"}]
    held = candidate("98977", Window(date(2026, 4, 1), date(2026, 4, 30)), "rtm-and-rpm")
    assert left([held], Resolution("rtm-and-rpm", choice="rtm"), charges=(first,)) == [set()]
    held = candidate("98977", Window(date(2026, 2, 1), date(2026, 3, 1)), "rtm-and-rpm")
    last = charge("99457", Window(date(2026, 3, 31), date(2026, 3, 31)))
    assert left([held], Resolution("rtm-and-rpm", choice="rtm"), charges=(last,)) == [{"rtm-and-rpm"}]


def lines(other: Candidate, *chosen: str) -> set[str]:
    said = [
        Resolution("two-lines", frozenset({one}), choice=line)
        for one, line in zip(("98977", other.rule.code), chosen, strict=False)
    ]
    return left([candidate("98977", FIRST, "two-lines"), other], *said)[0]


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (candidate("98976", FIRST, charges=(charge("98976", FIRST),)), {"two-lines"}),
        (candidate("98976", FIRST), set()),
        (candidate("98976", SECOND, charges=(charge("98976", SECOND),)), set()),
        (candidate("98985", FIRST, charges=(charge("98985", FIRST),)), set()),
        (candidate("99454", FIRST, charges=(charge("99454", FIRST),)), set()),
        (candidate("98980", FIRST, charges=(charge("98980", FIRST),)), set()),
    ],
)
def test_one_of_two_lines_is_charged_where_no_other_line_of_the_period_is(
    other: Candidate, expected: set[str]
) -> None:
    assert lines(other, "musculoskeletal") == expected


def test_where_both_lines_are_chosen_neither_is_charged() -> None:
    other = candidate("98976", FIRST, "two-lines")
    assert lines(other, "musculoskeletal", "respiratory") == {"two-lines"}
    assert other.reasons == {"two-lines"}
    assert lines(candidate("98976", FIRST, "two-lines"), "respiratory") == {"two-lines"}
    assert lines(candidate("98976", FIRST), "musculoskeletal", "respiratory") == set()


# -- the answer that is told -------------------------------------------------------------------------------


def decision(code: str, outcome: Outcome, *doubts: str, **more: Any) -> Decision:
    plain = Decision(
        code, Program.RTM, None, 1, outcome, MARCH, MARCH.end, (), (), (), (), None, doubts=doubts
    )
    return replace(plain, **more)


def answers(
    plain: list[Decision], alone: list[Decision], together: list[Decision]
) -> tuple[list[str], tuple[Decision, ...]]:
    """What is told where one word speaks of 98980 and another of 98981."""
    words = tuple(
        Resolution("units-over-cap", frozenset({code}), by="Practitioner/7", on=MONDAY, reference="r")
        for code in ("98980", "98981")
    )

    def decide(believed: tuple[Resolution, ...]) -> tuple[Decision, ...]:
        return tuple(plain if not believed else together if believed == words else alone)

    found = told(decide, words)
    return [f"{one.code} {one.outcome}" for one in found], found


HELD = [decision(code, Outcome.REVIEW, "units-over-cap", "periods-overlap") for code in ("98980", "98981")]
FREE = [decision(code, Outcome.SUGGEST, "periods-overlap") for code in ("98980", "98981")]
SOON = [decision(code, Outcome.PROVISIONAL, "periods-overlap") for code in ("98980", "98981")]


@pytest.mark.parametrize("free", [FREE, SOON])
def test_each_code_is_told_as_its_own_word_leaves_it(free: list[Decision]) -> None:
    outcomes, found = answers(HELD, free, free)
    assert outcomes == [f"98980 {free[0].outcome}", f"98981 {free[0].outcome}"]
    gone = (Resolved("units-over-cap", "Practitioner/7", MONDAY, "r"),)
    assert [one.resolved for one in found] == [gone, gone]


def test_what_all_words_together_no_longer_charge_is_not_charged() -> None:
    outcomes, found = answers(HELD, FREE, [HELD[0], FREE[1]])
    assert outcomes == ["98980 review", "98981 suggest"]
    assert found[0].resolved == ()
    assert answers(HELD, FREE, FREE[1:])[0] == ["98981 suggest"]
    assert answers(HELD, SOON, [HELD[0], SOON[1]])[0] == ["98980 review", "98981 provisional"]


def test_what_all_words_together_would_charge_is_not_charged_by_the_word_of_another() -> None:
    assert answers(HELD, HELD, FREE)[0] == ["98980 review", "98981 review"]
    assert answers(HELD, HELD, FREE[:1])[0] == ["98980 review", "98981 review"]


def test_a_code_that_only_words_bring_is_told_and_has_settled_nothing() -> None:
    outcomes, found = answers(HELD[:1], FREE, FREE)
    assert outcomes == ["98980 suggest", "98981 suggest"]
    assert found[1].resolved == ()


def test_a_word_about_another_code_or_day_leaves_a_code_as_it_was() -> None:
    other = decision("98977", Outcome.REVIEW, "units-over-cap", service_date=None)
    changed = replace(other, outcome=Outcome.SUGGEST, doubts=())
    word = Resolution("units-over-cap", until=date(2026, 3, 30))

    def decide(believed: tuple[Resolution, ...]) -> tuple[Decision, ...]:
        return (changed,) if believed else (other,)

    assert told(decide, (word,)) == (other,)
    assert told(decide, (replace(word, until=MARCH.end),))[0].outcome is Outcome.SUGGEST
    dated = replace(other, service_date=date(2026, 3, 30))
    assert told(lambda believed: (changed if believed else dated,), (word,))[0].outcome is Outcome.SUGGEST


def test_whose_minutes_are_charged_is_settled_once_no_other_possibility_is_left() -> None:
    two = decision("98980", Outcome.SUGGEST, alternative=Alternative(60, (), ()))
    one = replace(two, alternative=None)
    word = Resolution("assistant-not-needed", choice="therapist-alone", by="Practitioner/7")
    settled = (Resolved("assistant-not-needed", "Practitioner/7", None, ""),)
    for before, after, expected in ((two, one, settled), (two, two, ()), (one, one, ())):
        (found,) = told(lambda believed, ends=(before, after): (ends[bool(believed)],), (word,))
        assert found.resolved == expected


def test_words_that_do_not_go_together_are_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    record = read([{"days": {"of": "HEP", "from": "2026-03-02", "count": "16"}}], date(2026, 4, 10))
    before = assess(record, MEDICARE, record.as_of)
    believed = replace(record, resolutions=(Resolution("units-over-cap"),))
    assert assess(believed, MEDICARE, record.as_of) == before
    (device,) = [one for one in before.decisions if one.outcome is Outcome.SUGGEST]
    lower = replace(device, code="98985")
    monkeypatch.setattr(engine, "told", lambda *_: (device, lower))
    assert assess(believed, MEDICARE, record.as_of) == before


# -- the table of reviews ----------------------------------------------------------------------------------


def test_a_reason_that_no_review_has_is_told_whole() -> None:
    assert problem_of(Resolution("nonsense")) == "nonsense is no reason for a review"


@pytest.mark.parametrize(
    "changes",
    [
        {"how": How.CHOICE},
        {"how": How.NOTHING},
        {"who": ()},
        {"choice": "line"},
        {"unknown": "x"},
    ],
)
def test_a_review_that_contradicts_itself_is_refused(changes: dict[str, Any]) -> None:
    row = {"reason": "x", "who": ["biller"], "how": "resolution", "says": "It is."}
    assert msgspec.convert(row, Review).reference is False
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({**row, **changes}, Review)


@pytest.mark.parametrize(
    ("reason", "settles", "does_not"),
    [
        ("rtm-and-rpm", ["rtm", "rpm"], ["any", "other"]),
        ("two-lines", ["respiratory", "musculoskeletal", "cognitive-behavioral"], ["other", "rtm"]),
        ("charged-period-unclear", ["2026-03-02"], ["2026-03", "2026-02-30"]),
        ("visit-on-service-date", ["2026-03-12"], ["2026-02-30"]),
        ("call-across-months", ["2026-03", "2026-12"], ["2026-03-01", "2026-00"]),
        ("same-day-visit", ["somebody-else", "Practitioner/7"], ["Practitioner"]),
        ("in-facility-unclear", ["home", "facility"], ["hospital"]),
        ("assistant-not-needed", ["with-assistant", "therapist-alone"], ["assistant"]),
        (
            "billing-professional-unknown",
            ["physician", "Practitioner/7 as physical-therapist"],
            ["clinical-staff", "non-clinical", "unknown", "Practitioner/7"],
        ),
        ("staff-role", ["physician", "clinical-staff", "non-clinical"], ["unknown", "Practitioner/7"]),
    ],
)
def test_each_choice_is_one_of_what_can_be_chosen(
    reason: str, settles: list[str], does_not: list[str]
) -> None:
    for choice in settles:
        assert problem_of(Resolution(reason, choice=choice, reference="r")) is None, choice
    for choice in (*does_not, "", None):
        said = f"{reason} is settled by the choice of a {REVIEWS[reason].choice}, not by {choice!r}"
        assert problem_of(Resolution(reason, choice=choice, reference="r")) == said


def test_a_sentence_that_needs_no_choice_takes_none_and_one_with_a_reference_settles() -> None:
    assert problem_of(Resolution("no-data-in-month")) is None
    assert problem_of(Resolution("payer-criteria", reference="auth 1")) is None
    for reason, review in REVIEWS.items():
        if not review.is_settled_here:
            expected = f"{reason} is settled by no sentence. {review.says}"
            assert problem_of(Resolution(reason, reference="r")) == expected
    assert problem_of(Resolution("payer-criteria")) == "payer-criteria is settled with a reference"


def test_a_day_and_a_month_are_read_as_they_are_written() -> None:
    assert day_in("2026-03-12") == date(2026, 3, 12)
    assert (day_in(None), day_in(""), day_in("12 March")) == (None, None, None)
    assert month_in("2026-03") == date(2026, 3, 1)
    assert (month_in(None), month_in("2026-03-01")) == (None, None)
    assert role_in("Practitioner/7 as unknown") is None
    assert role_in(" physician ") is Role.PHYSICIAN
