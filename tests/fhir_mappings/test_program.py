"""What there is of one program before any code is asked for."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from msgspec.structs import replace

from fhir_mappings.completeness import Completeness, Missing, MissingWhy
from fhir_mappings.local_time import MICROSECONDS, LocalClock, Window, month_window
from fhir_mappings.record import (
    CODES_OPEN,
    Agreement,
    Diagnosis,
    Excluded,
    Insurance,
    LiveContact,
    ManagementTime,
    PatientRecord,
    PriorCharge,
    Reading,
    SetUp,
)
from fhir_mappings.rules.candidate import Candidate
from fhir_mappings.rules.engine import assess
from fhir_mappings.rules.episodes import Episode
from fhir_mappings.rules.policy import load_policy
from fhir_mappings.rules.program import ProgramChart, program_charts
from fhir_mappings.vocabulary import (
    Activity,
    ExcludedReason,
    Hint,
    Line,
    Program,
    ReviewReason,
    Role,
    Unverified,
)

POLICY = load_policy("medicare")
CLOCK = LocalClock(ZoneInfo("America/New_York"))
AS_OF = date(2026, 6, 1)
MARCH = month_window(date(2026, 3, 1))


def day(text: str) -> date:
    return date.fromisoformat(f"2026-{text}")


def of_program(program: Program = Program.RTM, as_of: date = AS_OF, **told: Any) -> ProgramChart:
    """The chart of one program."""
    record = PatientRecord("Patient/p1", as_of, CLOCK.zone, **told)
    (found,) = [chart for chart in program_charts(record, POLICY, as_of, set()) if chart.program is program]
    return found


def reading(on: str, line: Line = Line.MUSCULOSKELETAL, **more: Any) -> Reading:
    at = CLOCK.midnight(day(on))
    return Reading(f"Observation/{line}-{on}", line, f"{line}|x", day(on), at, **more)


def work(on: str, role: Role = Role.PHYSICIAN, program: Program = Program.RTM, **more: Any) -> ManagementTime:
    at = CLOCK.midnight(day(on))
    name = f"Encounter/{role}-{on}"
    return ManagementTime(
        name, program, Activity.PHONE_CALL, True, f"Practitioner/{role}", role, at, at + MICROSECONDS, **more
    )


def charge(code: str, start: str | None, end: str = "", **more: Any) -> PriorCharge:
    days = Window(day(start), day(end or start)) if start else None
    return PriorCharge(f"ChargeItem/{code}-{start}", code, more.pop("quantity", 1), days, **more)


def missing(type_: str, start: str | None = None, end: str | None = None, entries: int = 0) -> Missing:
    return Missing(type_, MissingWhy.REFUSED, start and day(start), end and day(end), entries)  # type: ignore[arg-type]


def lacking(*found: Missing) -> Completeness:
    return Completeness(found)


# -- since when it shows itself -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "begun"),
    [
        ({}, None),
        ({"readings": (reading("03-04"), reading("03-05"))}, "03-04"),
        ({"readings": (reading("03-04", Line.PHYSIOLOGIC),)}, None),
        ({"management": (work("02-27"), work("02-28"), work("03-05"))}, "02-27"),
        ({"management": (work("02-27", program=Program.ANY), work("03-05"))}, "03-05"),
        ({"management": (work("02-27", program=Program.RPM),)}, None),
        ({"management": (work("02-27", Role.THERAPIST_ASSISTANT),)}, "02-27"),
        # whose minutes did not count that month is asked of its own time alone
        (
            {"management": (work("02-20", Role.PHYSICAL_THERAPIST), work("02-27", Role.CLINICAL_STAFF))},
            "02-20",
        ),
        (
            {
                "management": (
                    work("02-20", Role.PHYSICAL_THERAPIST, Program.ANY),
                    work("02-27", Role.CLINICAL_STAFF),
                    work("02-28", Role.CLINICAL_STAFF),
                )
            },
            "02-27",
        ),
        ({"readings": (reading("03-04"),), "management": (work("03-02"),)}, "03-02"),
        ({"set_ups": (SetUp("Encounter/s", Program.RTM, day("02-03"), 0),)}, "02-03"),
        ({"set_ups": (SetUp("Encounter/s", Program.ANY, day("02-03"), 0),)}, None),
        ({"charges": (charge("98977", "02-01", "03-02"),)}, "02-01"),
        ({"charges": (charge("98977", None),)}, "06-01"),
        ({"charges": (charge("98977", "02-01", among=("98977", "98980")),)}, None),
        ({"charges": (charge("99454", "02-01"),)}, None),
    ],
)
def test_a_program_has_begun_on_the_first_day_on_which_anything_shows_it(
    told: dict[str, Any], begun: str | None
) -> None:
    assert of_program(**told).begun() == (begun and day(begun))


def test_a_month_has_the_lines_of_the_readings_in_it() -> None:
    other = [replace(reading(on), series="musculoskeletal|y") for on in ("02-28", "05-31")]
    found = of_program(
        readings=tuple(
            sorted(
                [
                    *other,
                    *(reading(on) for on in ("02-03", "04-01")),
                    *(reading(on, Line.RESPIRATORY) for on in ("02-01", "03-31")),
                ],
                key=lambda one: one.instant,
            )
        )
    )
    bones, breath = Line.MUSCULOSKELETAL, Line.RESPIRATORY
    assert found.lines_by_month == {
        day("02-01"): {bones, breath},
        day("03-01"): {breath},
        day("04-01"): {bones},
        day("05-01"): {bones},
    }


# -- what was not read ----------------------------------------------------------------------------------


def episode(**told: Any) -> Episode:
    return Episode(None, None, None, False, told.pop("documented", False), False, **told)


def unresolved(on: str) -> Reading:
    return reading(on, doubt=ExcludedReason.DEVICE_UNKNOWN, unresolved=True)


@pytest.mark.parametrize(
    ("lacks", "found"),
    [("Device", True), ("DeviceMetric", True), ("Observation", False), ("Encounter", False)],
)
def test_what_was_left_out_for_a_device_that_was_not_read_may_count_after_all(
    lacks: str, found: bool
) -> None:
    chart = of_program(completeness=lacking(missing(lacks)))
    known = reading("03-06", doubt=ExcludedReason.IN_FACILITY_UNCLEAR)
    doubtful = [unresolved("03-05"), known]
    assert chart.of_unread_devices(episode(doubtful=doubtful)) == (doubtful[:1] if found else [])
    reasons = {ReviewReason.DEVICE_UNKNOWN, ReviewReason.IN_FACILITY_UNCLEAR}
    assert chart.doubts_of(doubtful) == reasons | ({ReviewReason.RECORD_INCOMPLETE} if found else set())
    assert chart.doubts_of([known, reading("03-07", unresolved=True)]) == {ReviewReason.IN_FACILITY_UNCLEAR}
    assert chart.doubts_of([reading("03-07")]) == set()


@pytest.mark.parametrize(
    ("told", "lacks", "days"),
    [
        ({}, [], []),
        ({}, [missing("Observation", "03-08", "03-20")], ["03-08", "03-09"]),
        ({}, [missing("Observation", "03-10", "03-20")], []),
        ({}, [missing("Observation", "03-07", "03-08")], ["03-07", "03-08"]),
        ({}, [missing("Encounter", "03-07", "03-08")], []),
        ({"counts_from": day("03-08")}, [missing("Observation")], ["03-08", "03-09"]),
        ({"counts_from": day("03-08")}, [missing("Observation", "03-01", "03-07")], []),
        ({"grid_given": True, "anchor": day("03-08")}, [missing("Observation")], ["03-08", "03-09"]),
        (
            {"grid_given": True, "anchor": day("03-07"), "counts_from": day("03-09")},
            [missing("Observation")],
            ["03-09"],
        ),
        (
            {"grid_given": True, "anchor": day("03-09"), "counts_from": day("03-07")},
            [missing("Observation")],
            ["03-09"],
        ),
        ({"anchor": day("03-08")}, [missing("Observation", "03-07", "03-07")], ["03-07"]),
        (
            {"doubtful": [unresolved("03-07"), unresolved("03-09"), unresolved("03-10")]},
            [missing("Device")],
            ["03-07", "03-09"],
        ),
        (
            {"doubtful": [unresolved("03-07"), unresolved("03-08")], "counts_from": day("03-08")},
            [missing("Device")],
            ["03-08"],
        ),
    ],
)
def test_what_was_not_read_may_count_on_earlier_days_of_an_episode(
    told: dict[str, Any], lacks: list[Missing], days: list[str]
) -> None:
    chart = of_program(completeness=lacking(*lacks))
    assert chart.unread_before(episode(**told), day("03-10")) == {day(one) for one in days}


def test_of_what_is_unread_for_longer_than_a_period_the_last_days_count() -> None:
    chart = of_program(completeness=lacking(missing("Observation", None, "03-05")))
    expected = {day("03-05") - timedelta(days=n) for n in range(31)}
    assert chart.unread_before(episode(), day("03-10")) == expected


@pytest.mark.parametrize(
    ("told", "unread", "moves"),
    [
        ({"anchor": day("03-10")}, "03-09", True),
        ({"anchor": day("03-10")}, "02-09", True),
        ({"anchor": day("03-10")}, "02-08", False),  # whole periods before
        ({"anchor": day("03-10")}, "03-10", False),
        ({"anchor": day("03-10"), "grid_given": True}, "03-09", False),
        ({}, "03-09", False),
    ],
)
def test_an_earlier_reading_makes_other_periods_unless_something_else_fixes_them(
    told: dict[str, Any], unread: str, moves: bool
) -> None:
    chart = of_program(completeness=lacking(missing("Observation", unread, unread, 1)))
    assert chart.anchor_may_move(episode(**told)) is moves


GIVEN = {"grid_given": True, "anchor": day("03-02"), "first_day": day("03-02")}
LONG_AGO, LATER = date(2025, 11, 30), date(2025, 12, 1)


@pytest.mark.parametrize(
    ("told", "may"),
    [
        (GIVEN, True),
        (GIVEN | {"documented": True}, False),
        (GIVEN | {"first_day": None}, False),
        (GIVEN | {"grid_given": False}, False),
        (GIVEN | {"counts_from": LONG_AGO}, True),
        (GIVEN | {"counts_from": LATER}, False),
        (GIVEN | {"first_day": day("03-01")}, False),
    ],
)
def test_before_more_than_ninety_empty_days_there_may_have_been_another_episode(
    told: dict[str, Any], may: bool
) -> None:
    that_day = Missing("Observation", MissingWhy.REFUSED, LONG_AGO, LONG_AGO, 1)
    assert of_program(completeness=lacking(that_day)).may_follow_silence(episode(**told)) is may
    gone = replace(unresolved("03-01"), day=LONG_AGO)
    beside = replace(gone, day=LATER)
    chart = of_program(completeness=lacking(missing("Device")))
    assert chart.may_follow_silence(episode(**told, doubtful=[gone, beside])) is may
    assert not chart.may_follow_silence(episode(**told, doubtful=[beside]))
    assert not of_program(completeness=lacking(replace(that_day, start=LATER, end=LATER))).may_follow_silence(
        episode(**GIVEN)
    )


@pytest.mark.parametrize(
    ("as_of", "end"), [("02-20", "03-01"), ("03-01", "03-01"), ("03-10", "03-10"), ("04-10", "03-31")]
)
def test_nothing_after_the_day_that_is_asked_about_was_to_be_read(as_of: str, end: str) -> None:
    chart = of_program(as_of=day(as_of))
    assert chart.so_far(MARCH) == Window(day("03-01"), day(end))


# -- what holds for every code ----------------------------------------------------------------------------


def test_a_diagnosis_counts_from_the_day_on_which_it_was_known() -> None:
    known = (
        Diagnosis("Condition/1", "E110"),
        Diagnosis("Condition/2", "I10", day("03-31")),
        Diagnosis("Condition/3", "J449", day("04-01")),
    )
    assert of_program(diagnoses=known).diagnosed(MARCH) == ("E110", "I10")


OTHERWISE, UNCLEAR = ReviewReason.CHARGED_OTHERWISE, ReviewReason.CHARGED_PERIOD_UNCLEAR


@pytest.mark.parametrize(
    ("program", "code", "found", "reasons", "instead"),
    [
        (Program.RPM, "99454", [], set(), set()),
        (Program.RPM, "99454", [charge("99474", "03-10")], {OTHERWISE}, {"99474"}),
        (Program.RPM, "99453", [charge("99474", "03-31", "04-20")], {OTHERWISE}, {"99474"}),
        (
            Program.RPM,
            "99454",
            [charge("99474", "03-10"), charge("95250", "03-11")],
            {OTHERWISE},
            {"99474", "95250"},
        ),
        (Program.RPM, "99454", [charge("99474", "04-01")], set(), set()),
        (Program.RPM, "99454", [charge("99474", None)], {UNCLEAR}, set()),
        (Program.RPM, "99454", [charge("99474", "03-10", among=("99474", "95250"))], {UNCLEAR}, set()),
        (
            Program.RPM,
            "99454",
            [charge("99474", None), charge("95250", "03-11")],
            {OTHERWISE, UNCLEAR},
            {"95250"},
        ),
        (
            Program.RPM,
            "99454",
            [charge("99474", "03-10"), charge("99474", "03-10", quantity=-1)],
            set(),
            set(),
        ),
        (Program.RPM, "99457", [charge("99474", "03-10")], set(), set()),
        (Program.RTM, "98977", [charge("99474", "03-10")], set(), set()),
    ],
)
def test_a_more_specific_code_that_is_charged_goes_before(
    program: Program,
    code: str,
    found: list[PriorCharge],
    reasons: set[ReviewReason],
    instead: set[str],
) -> None:
    candidate = Candidate(POLICY.code(code), MARCH, MARCH.end)
    of_program(program, more_specific=tuple(found)).add_more_specific(candidate, MARCH)
    assert (candidate.reasons, candidate.instead) == (reasons, instead)


def test_a_charged_code_that_excludes_another_is_a_reason_and_one_held_back_says_which() -> None:
    chart = of_program(Program.RPM)
    for charges, reasons in [
        ([charge("99457", "03-31")], {OTHERWISE}),
        ([charge("99091", "03-31")], {"99091"}),
        ([charge("99457", "03-31"), charge("99457", "03-31", quantity=-1)], set()),
        ([charge("99454", "03-31")], set()),
    ]:
        candidate = Candidate(POLICY.code("99470"), MARCH, MARCH.end)
        chart.add_charged_otherwise(candidate, charges)
        assert candidate.reasons == reasons


# -- therapists -------------------------------------------------------------------------------------------

PT, OT, PTA = Role.PHYSICAL_THERAPIST, Role.OCCUPATIONAL_THERAPIST, Role.THERAPIST_ASSISTANT
TWO_MONTHS = Window(day("03-10"), day("04-08"))


@pytest.mark.parametrize(
    ("pieces", "disciplines", "modifiers"),
    [
        ([], set(), ()),
        ([work("03-10", PT, discipline="physical")], {"physical"}, ("GP",)),
        ([work("04-10", PT, discipline="physical")], {"physical"}, ("GP",)),  # of the same month
        ([work("02-28", PT, discipline="physical")], set(), ()),
        ([work("05-01", PT, discipline="physical")], set(), ()),
        (
            [work("03-10", PT, discipline="physical"), work("04-10", OT, discipline="occupational")],
            {"physical", "occupational"},
            (),
        ),
        ([work("03-10", PT, discipline="physical"), work("04-10")], set(), ()),
        ([work("03-10"), work("04-10", PT, discipline="physical")], set(), ()),
        ([work("03-10", PT, discipline="physical"), work("05-10")], {"physical"}, ("GP",)),
        ([work("03-10", OT), work("03-11", PTA, discipline="physical")], set(), ()),
        (
            [work("03-10", OT, discipline="occupational"), work("03-11", PTA, discipline="physical")],
            {"occupational"},
            ("GO",),
        ),
        ([work("03-10", PTA, discipline="physical")], set(), ()),
        ([work("03-10")], set(), ()),
    ],
)
def test_one_therapists_discipline_is_told_where_no_physician_bills(
    pieces: list[ManagementTime], disciplines: set[str], modifiers: tuple[str, ...]
) -> None:
    chart = of_program(management=tuple(pieces))
    assert chart.disciplines(TWO_MONTHS) == disciplines
    assert chart.therapy_modifiers(POLICY.code("98977"), TWO_MONTHS) == modifiers
    assert chart.therapy_modifiers(POLICY.code("99454"), TWO_MONTHS) == ()


# -- for whoever shows it ---------------------------------------------------------------------------------


def test_days_and_spans_are_told_in_order() -> None:
    bones, breath = Line.MUSCULOSKELETAL, Line.RESPIRATORY
    later = replace(reading("03-05"), resource="Observation/a", series="musculoskeletal|y", instant=0)
    chart = of_program(
        readings=(later, reading("03-05"), reading("03-05", breath), reading("03-06")),
        management=(
            replace(work("03-31"), end=CLOCK.midnight(day("03-31")) + 1_999_999),
            replace(work("04-02"), seconds=70),
        ),
        contacts=(LiveContact("Encounter/physician-04-02", Program.RTM, day("04-02"), False, frozenset()),),
    )
    assert [(one.day, one.line, one.evidence) for one in chart.counted_days()] == [
        (day("03-05"), bones, ("Observation/a", "Observation/musculoskeletal-03-05")),
        (day("03-05"), breath, ("Observation/respiratory-03-05",)),
        (day("03-06"), bones, ("Observation/musculoskeletal-03-06",)),
    ]
    assert [(one.resource, one.seconds, one.live) for one in chart.counted_spans()] == [
        ("Encounter/physician-03-31", 1, False),
        ("Encounter/physician-04-02", 70, True),
    ]


def test_spans_that_begin_at_once_are_told_by_their_names() -> None:
    both = (work("03-10"), work("03-10", Role.CLINICAL_STAFF), replace(work("03-09"), resource="Encounter/z"))
    found = of_program(management=both).counted_spans()
    assert [one.resource for one in found] == [
        "Encounter/z",
        "Encounter/clinical-staff-03-10",
        "Encounter/physician-03-10",
    ]


@pytest.mark.parametrize(
    ("pieces", "more", "reasons"),
    [
        ([], {}, {}),
        ([work("03-10")], {}, {}),
        ([work("03-10"), work("03-11", PTA), work("03-12", Role.CLINICAL_STAFF)], {}, {}),
        (
            [work("03-10", PT), work("03-12", Role.CLINICAL_STAFF)],
            {},
            {"clinical-staff-03-12": "role-not-counted"},
        ),
        ([work("03-10", program=Program.ANY)], {}, {"physician-03-10": "program-not-shown"}),
        ([work("02-10", program=Program.ANY), work("03-10")], {}, {"physician-02-10": "program-not-shown"}),
        (
            [work("03-10", PT), work("03-12", Role.CLINICAL_STAFF)],
            {"excluded": (Excluded("Encounter/clinical-staff-03-12", ExcludedReason.DUPLICATE),)},
            {"clinical-staff-03-12": "duplicate role-not-counted"},
        ),
        (
            [work("03-10", PT), work("03-12", Role.CLINICAL_STAFF)],
            {"excluded": (Excluded("Encounter/clinical-staff-03-12", ExcludedReason.NO_DURATION),)},
            {"clinical-staff-03-12": "no-duration"},
        ),
    ],
)
def test_time_that_no_program_counted_is_told_with_its_reason(
    pieces: list[ManagementTime], more: dict[str, Any], reasons: dict[str, str]
) -> None:
    record = PatientRecord("Patient/p1", AS_OF, CLOCK.zone, management=tuple(pieces), **more)
    found: dict[str, list[str]] = {}
    for entry in assess(record, POLICY, AS_OF).excluded:
        found.setdefault(entry.resource.removeprefix("Encounter/"), []).append(entry.reason)
    assert {name: " ".join(sorted(why)) for name, why in found.items()} == reasons


# -- continuous glucose, and who paid -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "still_open", "asks", "otherwise"),
    [
        ("ask", True, True, False),
        ("ask", False, False, False),
        ("rpm", True, False, False),
        ("rpm", False, False, False),
        ("cgm", True, False, True),
        ("cgm", False, False, False),
    ],
)
def test_a_sites_word_on_continuous_glucose_settles_which_codes_report_it(
    family: str, still_open: bool, asks: bool, otherwise: bool
) -> None:
    record = PatientRecord("Patient/p1", AS_OF, CLOCK.zone)
    policy = load_policy("medicare", {"continuous_glucose": family})
    chart = program_charts(record, policy, AS_OF, set())[0]
    left = Unverified.CONSENT
    candidate = Candidate(POLICY.code("99454"), MARCH, MARCH.end, unverified=frozenset({CODES_OPEN, left}))
    chart.settle_codes(candidate, still_open=still_open)
    assert candidate.unverified == ({CODES_OPEN, left} if asks else {left})
    assert candidate.reasons == ({OTHERWISE} if otherwise else set())
    assert candidate.instead == ({"95250", "95251"} if otherwise else set())


@pytest.mark.parametrize(
    ("service", "told", "anothers"),
    [
        ("03-09", {}, True),
        ("03-10", {}, False),
        ("03-09", {"payer": None}, False),
        ("03-09", {"insurances": ()}, False),
        ("02-28", {}, False),  # nobody is known to have paid then
        ("06-20", {"insurances": (Insurance(1, "acme", None, day("06-10")), Insurance(1, "other"))}, True),
        ("06-20", {"insurances": (Insurance(1, "acme"), Insurance(1, "other", day("06-10")))}, False),
    ],
)
def test_a_service_of_an_earlier_payer_is_a_question(
    service: str, told: dict[str, Any], anothers: bool
) -> None:
    insured = (Insurance(1, "other", day("03-01"), day("03-09")), Insurance(1, "acme", day("03-10")))
    record = PatientRecord(
        "Patient/p1", AS_OF, CLOCK.zone, **{"payer": "acme", "insurances": insured, **told}
    )
    for of_coverage in (True, False):
        policy = replace(POLICY, of_coverage=of_coverage)
        chart = program_charts(record, policy, AS_OF, set())[0]
        candidate = Candidate(POLICY.code("99457"), MARCH, day(service))
        chart.add_terms(candidate, policy.terms("99457", day(service)))
        assert (ReviewReason.PAYER_UNKNOWN in candidate.reasons) is (anothers and of_coverage)


def test_what_a_modifier_and_a_line_ask_for() -> None:
    plan = (Agreement(resource="CarePlan/1", day=day("03-01"), until=day("03-31")),)
    for plans, on, modifiers, asks in [
        (plan, "03-31", ("GP",), False),
        (plan, "04-01", ("GP",), True),
        ((), "03-31", ("GP",), True),
        ((), "03-31", (), False),
    ]:
        candidate = Candidate(POLICY.code("98978"), MARCH, day(on), modifiers=modifiers)
        of_program(care_plans=plans).add_terms(candidate, POLICY.terms("98978", day(on)))
        assert (Unverified.PLAN_OF_CARE in candidate.unverified) is asks
        assert candidate.hints == set()
    candidate.line = Line.COGNITIVE_BEHAVIORAL
    of_program().add_terms(candidate, POLICY.terms("98978", MARCH.end))
    assert candidate.hints == {Hint.DIGITAL_MENTAL_HEALTH}


def test_the_readings_of_a_window_may_have_been_taken_in_a_stay_that_was_not_read() -> None:
    for on, asks in (("03-31", True), ("04-01", False)):
        chart = of_program(completeness=lacking(missing("Encounter", on, on)))
        assert (Unverified.IN_FACILITY in chart.readings_unverified(MARCH)) is asks
    assert not of_program(completeness=lacking(missing("Observation"))).readings_unverified(MARCH)


def test_only_whoever_may_bill_the_program_performs_it_without_a_statement() -> None:
    record = PatientRecord("Patient/p1", AS_OF, CLOCK.zone)
    for role, programs in (
        (Role.PHYSICIAN, {Program.RPM, Program.RTM}),
        (PT, {Program.RTM}),
        (PTA, set()),
        (Role.UNKNOWN, set()),
    ):
        charts = program_charts(record, POLICY, AS_OF, set(), performs_as=role)
        assert {chart.program for chart in charts if chart.performer_may_bill} == programs
