"""Codes held against each other, and the last look at the answer itself (R1.4, D1, D2, D4)."""

from __future__ import annotations

from datetime import date, timedelta
from itertools import permutations
from types import MappingProxyType
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from msgspec.structs import replace

from fhir_mappings.decision import Decision
from fhir_mappings.local_time import Window
from fhir_mappings.record import (
    Agreement,
    Enrolment,
    EpisodeOfCare,
    Order,
    PatientRecord,
    PriorCharge,
    Resolution,
    SetUp,
)
from fhir_mappings.rules import engine
from fhir_mappings.rules.candidate import Candidate, block_lower_tiers
from fhir_mappings.rules.compare import ExclusionViolated, check_exclusions, compare
from fhir_mappings.rules.policy import load_policy
from fhir_mappings.vocabulary import Outcome, Program, ReviewReason, Unverified

POLICY = load_policy("medicare")
FIRST = date(2026, 1, 5)
NOBODY = PatientRecord("Patient/p1", date(2026, 4, 10), ZoneInfo("America/New_York"))


def window(start: date = FIRST, days: int = 30) -> Window:
    return Window(start, start + timedelta(days=days - 1))


def candidate(code: str, start: date = FIRST, *, met: bool = True, episode: int = 0) -> Candidate:
    rule = POLICY.code(code)
    at = window(start)
    return Candidate(rule, at, at.end, False, met, False, int(met), line=rule.line, episode=episode)


def decision(code: str, outcome: Outcome = Outcome.SUGGEST, start: date = FIRST, days: int = 30) -> Decision:
    rule = POLICY.code(code)
    at = window(start, days)
    return Decision(code, rule.program, rule.line, 1, outcome, at, at.end, (), (), (), (), None)


def set_up(program: Program) -> SetUp:
    return SetUp(f"Encounter/{program}", program, FIRST, 0)


# -- overlapping periods ----------------------------------------------------------


@pytest.mark.parametrize(("days_later", "held"), [(0, False), (1, True), (29, True), (30, False)])
def test_of_two_periods_that_share_a_day_the_later_is_held(days_later: int, held: bool) -> None:
    earlier = candidate("98977")
    later = candidate("98985", FIRST + timedelta(days=days_later), episode=1)
    compare([later, earlier], NOBODY, POLICY)
    assert earlier.reasons == set()
    assert later.reasons == ({ReviewReason.PERIODS_OVERLAP} if held else set())


def test_periods_of_the_other_program_are_no_overlap() -> None:
    both = replace(POLICY, rtm_and_rpm_exclusive=False)
    earlier, later = candidate("99454"), candidate("98985", FIRST + timedelta(days=1), episode=1)
    compare([earlier, later], NOBODY, both)
    assert later.reasons == set()


def test_periods_of_one_episode_are_no_overlap_and_the_later_is_held_before_what_is_charged() -> None:
    def held(*charged: bool) -> list[bool]:
        both = [candidate("98977"), candidate("98985", FIRST + timedelta(days=10), episode=1)]
        for one, is_charged in zip(both, charged, strict=True):
            one.charges = (PriorCharge("ChargeItem/c", one.rule.code, 1, one.window),) if is_charged else ()
        compare(both, NOBODY, POLICY)
        return [ReviewReason.PERIODS_OVERLAP in one.reasons for one in both]

    assert held(False, False) == held(True, False) == held(True, True) == [False, True]
    assert held(False, True) == [True, False]


def test_two_lines_of_one_period_are_both_held() -> None:
    def two_lines(*candidates: Candidate) -> list[bool]:
        compare([*candidates], NOBODY, POLICY)
        return [ReviewReason.TWO_LINES in one.reasons for one in candidates]

    assert two_lines(candidate("98977"), candidate("98976")) == [True, True]
    assert two_lines(candidate("98977"), candidate("98985")) == [False, False]
    assert two_lines(candidate("98977"), candidate("98976", FIRST + timedelta(days=30))) == [False, False]
    assert two_lines(candidate("98977"), candidate("98976", episode=1)) == [False, False]
    assert two_lines(candidate("98977"), candidate("98980")) == [False, False]


# -- RTM beside RPM ----------------------------------------------------------


def reasons_and_unverified(record: PatientRecord) -> tuple[set[str], set[str]]:
    """What RTM's code has to say beside one of RPM."""
    rtm, rpm = candidate("98977"), candidate("99454")
    compare([rtm, rpm], record, POLICY)
    return {str(reason) for reason in rtm.reasons}, {str(entry) for entry in rtm.unverified}


def test_only_the_enrolled_program_is_decided() -> None:
    other_program = (set(), {str(Unverified.OTHER_PROGRAM)})
    held = ({str(ReviewReason.RTM_AND_RPM)}, set())
    assert reasons_and_unverified(NOBODY) == held
    assert (
        reasons_and_unverified(replace(NOBODY, enrolments=(Enrolment(Program.RTM, FIRST),))) == other_program
    )
    assert reasons_and_unverified(replace(NOBODY, enrolments=(Enrolment(Program.RPM, FIRST),))) == held
    assert reasons_and_unverified(replace(NOBODY, set_ups=(set_up(Program.RTM),))) == other_program


def test_an_order_speaks_for_its_own_program() -> None:
    other_program, held = str(Unverified.OTHER_PROGRAM), str(ReviewReason.RTM_AND_RPM)
    ordered = [
        replace(NOBODY, orders=(Order(resource="ServiceRequest/1", program=program),))
        for program in (Program.RTM, Program.RPM)
    ]
    assert [reasons_and_unverified(record) for record in ordered] == [
        (set(), {other_program}),
        ({held}, set()),
    ]


def charge(code: str, start: date | None = FIRST, days: int = 30, **more: Any) -> PriorCharge:
    return PriorCharge(f"ChargeItem/{code}-{start}", code, 1, start and window(start, days), **more)


BOTH_PROGRAMS = ("98977", "99454")


@pytest.mark.parametrize(
    ("told", "alone"),
    [
        ({}, False),
        ({"episodes": (EpisodeOfCare("EpisodeOfCare/1", None, None, Program.RTM),)}, True),
        ({"episodes": (EpisodeOfCare("EpisodeOfCare/1", None, None, Program.RPM),)}, False),
        ({"episodes": (EpisodeOfCare("EpisodeOfCare/1", None, None),)}, False),
        ({"consents": (Agreement(resource="Consent/1"),)}, False),
        ({"coded_programs": frozenset({Program.RTM})}, True),
        ({"coded_programs": frozenset({Program.RPM})}, False),
        ({"coded_programs": frozenset({Program.RPM, Program.RTM})}, False),
        ({"set_ups": (set_up(Program.ANY),)}, False),
        ({"orders": (Order(resource="ServiceRequest/1", program=Program.OTHER),)}, False),
        (
            {
                "orders": tuple(
                    Order(resource=f"ServiceRequest/{program}", program=program)
                    for program in (Program.OTHER, Program.RTM)
                )
            },
            True,
        ),
        ({"enrolments": (Enrolment(Program.RTM, FIRST), Enrolment(Program.RPM, FIRST))}, False),
        ({"charges": (charge("98980"),)}, True),
        ({"charges": (charge("98980"), replace(charge("98980"), quantity=-1))}, False),
        ({"charges": (charge("98980", among=("98980", "98981")),)}, True),
        ({"charges": (charge("98980", among=("98980", "99457")),)}, False),
        # one that is held back speaks against the other program, not for its own
        ({"charges": (charge("99091"),)}, False),
        ({"charges": (charge("98980"), charge("99091"))}, False),
    ],
)
def test_what_shows_enrolment_in_one_program_alone(told: dict[str, Any], alone: bool) -> None:
    held, other_program = str(ReviewReason.RTM_AND_RPM), str(Unverified.OTHER_PROGRAM)
    expected = (set(), {other_program}) if alone else ({held}, set())
    assert reasons_and_unverified(replace(NOBODY, **told)) == expected


def test_a_charge_that_is_held_back_shows_no_enrolment_in_its_own_program() -> None:
    for code, held in (("99091", True), ("99457", False)):
        rpm = candidate("99454")
        record = replace(NOBODY, charges=(charge(code),))
        compare([candidate("98977"), rpm], record, POLICY)
        assert (ReviewReason.RTM_AND_RPM in rpm.reasons) is held
        assert (Unverified.OTHER_PROGRAM in rpm.unverified) is not held


@pytest.mark.parametrize(
    ("charged", "beside"),
    [
        (charge("99454", FIRST - timedelta(days=30)), False),
        (charge("99454", FIRST - timedelta(days=29)), True),
        (charge("99454", FIRST + timedelta(days=29)), True),
        (charge("99454", FIRST + timedelta(days=30)), False),
        (charge("99454", None), True),
        # of management codes it is the calendar month, 5 January to 3 February being the period
        (charge("99457", date(2026, 2, 28), 1), True),
        (charge("99457", date(2026, 3, 1), 1), False),
        (charge("99457", date(2025, 12, 31), 1), False),
        (charge("99458", date(2026, 1, 1), 1), True),
        (charge("99453", date(2026, 1, 4), 1), False),
        (charge("99453", date(2026, 1, 5), 1), True),
        (charge("99091", FIRST), False),
        (charge("98980", FIRST), False),
        (charge("99457", FIRST, among=("99457", "98980")), False),
        (charge("99457", FIRST, among=("99457", "99458")), True),
    ],
)
def test_a_charge_of_the_other_program_stands_on_its_own_days(charged: PriorCharge, beside: bool) -> None:
    rtm = candidate("98977")
    compare([rtm], replace(NOBODY, charges=(charged,)), POLICY)
    assert (ReviewReason.RTM_AND_RPM in rtm.reasons) is beside


def test_what_is_neither_met_nor_charged_stands_beside_nothing() -> None:
    rtm, unmet = candidate("98977"), candidate("99454", met=False)
    compare([rtm, unmet], NOBODY, POLICY)
    assert rtm.reasons == unmet.reasons == set()
    unmet.charges = (charge("99454"),)
    compare([rtm, unmet], NOBODY, POLICY)
    assert rtm.reasons == unmet.reasons == {ReviewReason.RTM_AND_RPM}


def test_programs_that_the_payer_allows_together_are_not_compared() -> None:
    both = [candidate(code) for code in BOTH_PROGRAMS]
    compare(both, NOBODY, replace(POLICY, rtm_and_rpm_exclusive=False))
    assert [one.reasons for one in both] == [set(), set()]


def test_each_window_is_held_only_against_those_it_shares_a_day_with() -> None:
    month = [FIRST + timedelta(days=30 * n) for n in range(4)]
    rtm = [candidate("98977", month[n]) for n in (0, 1, 2)]
    rpm = [candidate("99454", month[n]) for n in (1, 3)]
    compare([*rtm, *rpm], NOBODY, POLICY)
    held = {ReviewReason.RTM_AND_RPM}
    assert [one.reasons for one in rtm] == [set(), held, set()]
    assert [one.reasons for one in rpm] == [held, set()]


def test_one_set_up_of_the_program_among_others_is_enrolment() -> None:
    both = (set_up(Program.RTM), set_up(Program.RPM))
    assert reasons_and_unverified(replace(NOBODY, set_ups=both)) == ({str(ReviewReason.RTM_AND_RPM)}, set())
    charge = PriorCharge("ChargeItem/c1", "98977", 1, None)
    mixed = replace(NOBODY, set_ups=(set_up(Program.RPM),), charges=(charge,))
    assert reasons_and_unverified(mixed) == ({str(ReviewReason.RTM_AND_RPM)}, set())
    alone = replace(NOBODY, set_ups=(set_up(Program.OTHER), set_up(Program.RTM)))
    assert reasons_and_unverified(alone) == (set(), {str(Unverified.OTHER_PROGRAM)})


# -- tiers ----------------------------------------------------------


def test_a_met_code_gives_way_to_the_highest_of_its_group() -> None:
    tiers = [candidate("98985"), candidate("98977"), candidate("98977")]
    tiers[2].rule = replace(tiers[2].rule, code="98999", tier=3)
    block_lower_tiers(tiers)
    assert [one.blocked_by for one in tiers] == ["98999", "98999", None]


def test_a_code_that_is_not_met_blocks_nothing_unless_it_is_charged() -> None:
    tiers = [candidate("98985"), candidate("98977", met=False)]
    block_lower_tiers(tiers)
    assert tiers[0].blocked_by is None
    tiers[1].charges = (PriorCharge("ChargeItem/c1", "98977", 1, window()),)
    block_lower_tiers(tiers)
    assert (tiers[0].blocked_by, tiers[1].blocked_by) == ("98977", None)


# -- the last look ----------------------------------------------------------

STANDING = [Outcome.SUGGEST, Outcome.PROVISIONAL, Outcome.CHARGED]


@pytest.mark.parametrize("other", STANDING)
@pytest.mark.parametrize("one", STANDING)
@pytest.mark.parametrize(
    "pair", [("98985", "98977"), ("98976", "98977"), ("98979", "98980"), ("98977", "99454")]
)
def test_no_two_codes_that_exclude_each_other_are_answered(
    pair: tuple[str, str], one: Outcome, other: Outcome
) -> None:
    answer = [decision(pair[0], one), decision(pair[1], other)]
    if one is other is Outcome.CHARGED:
        check_exclusions(answer, POLICY)  # what the EHR holds is a fact
        return
    with pytest.raises(ExclusionViolated, match=f"{pair[1]} and {pair[0]}"):
        check_exclusions(answer, POLICY)


@pytest.mark.parametrize("outcome", [Outcome.REVIEW, Outcome.BLOCKED, Outcome.SHORT, Outcome.OUT_OF_REACH])
def test_what_does_not_stand_excludes_nothing(outcome: Outcome) -> None:
    check_exclusions([decision("98985", outcome), decision("98977")], POLICY)


def test_codes_of_windows_apart_stand_together() -> None:
    later = FIRST + timedelta(days=30)
    check_exclusions([decision("98985"), decision("98977", start=later)], POLICY)
    check_exclusions([decision("98977", start=later), decision("98985")], POLICY)
    check_exclusions([decision("98979"), decision("98980", start=later)], POLICY)
    check_exclusions([decision("98975"), decision("98977"), decision("98980"), decision("98981")], POLICY)


def test_windows_that_share_their_last_and_first_day_are_not_apart() -> None:
    touching = FIRST + timedelta(days=29)
    with pytest.raises(ExclusionViolated):
        check_exclusions([decision("98985"), decision("98979"), decision("98977", start=touching)], POLICY)


def test_two_programs_stand_together_where_the_payer_lets_them() -> None:
    answer = [decision("98977"), decision("99454")]
    check_exclusions(answer, load_policy("medicare", {"rtm_and_rpm_exclusive": False}))


def test_it_is_enough_that_one_table_names_the_other_code() -> None:
    silent = replace(POLICY.code("98980"), excludes=())
    policy = replace(POLICY, codes=MappingProxyType({**POLICY.codes, "98980": silent}))
    for answer in (["98979", "98980"], ["98980", "98979"]):
        with pytest.raises(ExclusionViolated):
            check_exclusions([decision(code) for code in answer], policy)


@pytest.mark.parametrize(
    ("settled", "together"),
    [
        (Resolution("99091", frozenset({"99457"}), window()), True),
        (Resolution("99091"), True),
        (Resolution("99091", until=FIRST + timedelta(days=29)), True),
        (Resolution("99091", until=FIRST + timedelta(days=28)), False),
        (Resolution("99091", frozenset({"99458"})), False),
        (Resolution("99091", window=window(FIRST + timedelta(days=1))), False),
        (Resolution("99457", frozenset({"99457"})), False),
        (Resolution("rtm-and-rpm"), False),
    ],
)
def test_a_code_stands_beside_one_that_is_held_back_by_the_word_of_whoever_settled_it(
    settled: Resolution, together: bool
) -> None:
    answer = [decision("99457"), decision("99091", Outcome.CHARGED)]
    other = Resolution("99091", frozenset({"99470"}))
    for order in permutations(answer):
        if together:
            check_exclusions(order, POLICY, (other, settled))
            continue
        with pytest.raises(ExclusionViolated):
            check_exclusions(order, POLICY, (other, settled))


def test_what_was_settled_of_one_pair_lets_no_other_stand() -> None:
    answer = [decision("99457"), decision("99091", Outcome.CHARGED), decision("99470")]
    with pytest.raises(ExclusionViolated, match="99470 and 99457"):
        check_exclusions(answer, POLICY, (Resolution("99091"),))


def test_an_error_anywhere_else_is_no_false_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where two programs are not held against each other, the answer itself is still looked at."""
    found = [candidate("98977"), candidate("99454")]
    monkeypatch.setattr(engine, "_candidates", lambda chart: found if chart.program is Program.RTM else [])
    monkeypatch.setattr(engine, "compare", lambda *_: None)
    with pytest.raises(ExclusionViolated):
        engine.assess(NOBODY, POLICY, NOBODY.as_of)
