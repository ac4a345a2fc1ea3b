"""The management codes of a month, one condition at a time (R4; D10 to D15, D20, D31, D35, D38, D39)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from msgspec.structs import replace

from fhir_mappings.completeness import Completeness, Missing, MissingWhy
from fhir_mappings.local_time import MICROSECONDS, LocalClock, Window, month_window
from fhir_mappings.record import (
    Agreement,
    LiveContact,
    ManagementTime,
    Order,
    PatientRecord,
    PriorCharge,
    Reading,
    Resolution,
    SetUp,
    Visit,
)
from fhir_mappings.rules.candidate import Candidate
from fhir_mappings.rules.management import held_back_candidates, management_candidates
from fhir_mappings.rules.policy import Policy, load_policy
from fhir_mappings.rules.program import ProgramChart, program_charts
from fhir_mappings.rules.tables import PayerRule
from fhir_mappings.vocabulary import (
    Activity,
    ExcludedReason,
    Hint,
    Line,
    Program,
    ReviewReason,
    Role,
    Unit,
    Unverified,
)

POLICY = load_policy("medicare")
ZONE = ZoneInfo("America/New_York")
CLOCK = LocalClock(ZONE)
AS_OF = date(2026, 6, 1)
MARCH = month_window(date(2026, 3, 1))
DOCTOR, OTHER = "Practitioner/doctor", "Practitioner/other"
MINUTE = 60 * MICROSECONDS


def day(text: str) -> date:
    return date.fromisoformat(f"2026-{text}")


def at(text: str) -> int:
    """`03-10 12:00` of the practice's clock."""
    return round(datetime.fromisoformat(f"2026-{text}").replace(tzinfo=ZONE).timestamp() * MICROSECONDS)


def work(
    start: str, minutes: float, name: str = "e1", role: Role = Role.PHYSICIAN, **more: Any
) -> ManagementTime:
    begins = at(start)
    return ManagementTime(
        f"Encounter/{name}",
        more.pop("program", Program.RTM),
        Activity.PHONE_CALL,
        more.pop("clear", True),
        more.pop("person", OTHER),
        role,
        begins,
        begins + round(minutes * MINUTE),
        **more,
    )


def bare(on: str, minutes: float, name: str = "e1") -> ManagementTime:
    return replace(work(f"{on} 00:00", 0, name), seconds=round(minutes * 60))


def payer(*rows: Mapping[str, Any]) -> Policy:
    table = {"payer": "acme", "label": "Acme", "coverage": rows, "last_checked": "2026-11-22"}
    return load_policy("acme", payer_rules=[msgspec.convert(table, PayerRule)])


def chart_of(
    *pieces: ManagementTime,
    program: Program = Program.RTM,
    policy: Policy = POLICY,
    as_of: date = AS_OF,
    reviews: tuple[str, ...] = (),
    **told: Any,
) -> ProgramChart:
    """A program of somebody with a reading in March. `reviews`: the Encounters that were no conversation."""
    line = Line.MUSCULOSKELETAL if program is Program.RTM else Line.PHYSIOLOGIC
    reading = Reading("Observation/1", line, f"{line}|x", day("03-04"), at("03-04 08:00"))
    calls = sorted({piece.resource for piece in pieces if piece.resource not in reviews})
    contacts = tuple(
        LiveContact(name, program, day("03-10"), False, frozenset({Role.PHYSICIAN})) for name in calls
    )
    record = PatientRecord(
        "Patient/p1",
        as_of,
        ZONE,
        readings=told.pop("readings", (reading,)),
        management=tuple(sorted(pieces, key=lambda piece: piece.start)),
        contacts=contacts + told.pop("meetings", ()),
        **told,
    )
    (chart,) = [one for one in program_charts(record, policy, as_of, set()) if one.program is program]
    return chart


def candidates(chart: ProgramChart) -> list[Candidate]:
    return management_candidates(chart, chart.begun() or MARCH.start)


def march(*pieces: ManagementTime, **told: Any) -> dict[str, Candidate]:
    """What was found for March, by code."""
    return {one.rule.code: one for one in candidates(chart_of(*pieces, **told)) if one.window == MARCH}


CALL = work("03-10 12:00", 25)


# -- what was charged --------------------------------------------------


def charge(code: str, start: str | None, end: str = "", quantity: int = 1, **more: Any) -> PriorCharge:
    days = Window(day(start), day(end or start)) if start else None
    return PriorCharge(f"ChargeItem/{code}-{start}-{quantity}", code, quantity, days, **more)


def test_a_code_that_is_held_back_is_told_on_the_last_day_of_its_calendar_month() -> None:
    charges = (
        charge("99091", "02-10"),
        charge("99091", "02-11"),
        charge("99091", "03-31"),
        charge("99091", "04-01"),
        charge("99091", "04-01", quantity=-1),
        charge("99091", None),
        charge("99091", "05-01", among=("99091", "99457")),
        charge("99457", "05-02"),
    )
    consent = Agreement(resource="Consent/1", day=day("02-28"), until=day("02-28"))
    found = held_back_candidates(chart_of(program=Program.RPM, charges=charges, consents=(consent,)))
    assert [(one.rule.code, one.window, one.service_date, len(one.charges)) for one in found] == [
        ("99091", month_window(day("02-01")), day("02-28"), 2),
        ("99091", MARCH, day("03-31"), 1),
    ]
    assert [Unverified.CONSENT in one.unverified for one in found] == [False, True]


@pytest.mark.parametrize(
    ("charges", "unclear", "credited"),
    [
        ([], "", ""),
        ([charge("98980", "03-10")], "", ""),
        ([charge("98980", "03-31", "04-01")], "3 4", ""),
        ([charge("98980", None)], "3 4", ""),
        ([charge("98980", "03-10", among=("98980", "98981"))], "3", ""),
        ([charge("98980", "03-31", "04-01"), charge("98980", "03-31", "04-01", -1)], "", "3 4"),
        ([charge("98980", None), charge("98980", None, quantity=-1)], "", "3 4"),
    ],
)
def test_a_charge_that_is_of_no_one_month_is_a_question_in_each_that_it_touches(
    charges: list[PriorCharge], unclear: str, credited: str
) -> None:
    calls = [CALL, work("04-10 12:00", 25, "e2")]
    found = candidates(chart_of(*calls, charges=tuple(charges), as_of=day("04-30")))
    asked = {one.window.start.month for one in found if ReviewReason.CHARGED_PERIOD_UNCLEAR in one.reasons}
    unsure = {one.window.start.month for one in found if Unverified.PRIOR_CHARGES in one.unverified}
    assert (" ".join(map(str, sorted(asked))), " ".join(map(str, sorted(unsure)))) == (unclear, credited)


def test_which_months_are_the_programs() -> None:
    def meeting(on: str, program: Program = Program.RTM) -> LiveContact:
        return LiveContact(
            f"Encounter/m{on}", program, day(on), True, frozenset({Role.PHYSICIAN}), unnamed=True
        )

    def months(*pieces: ManagementTime, **told: Any) -> list[int]:
        found = candidates(chart_of(*pieces, **{"as_of": day("05-20"), **told}))
        return sorted({one.window.start.month for one in found})

    assert months() == [3, 5]  # its readings, and the open month
    assert months(work("04-10 12:00", 1)) == [3, 4, 5]
    assert months(work("04-10 12:00", 1, program=Program.ANY)) == [3, 4, 5]
    assert months(work("02-10 12:00", 1, program=Program.ANY)) == [3, 5]  # before anything shows it
    assert months(work("02-10 12:00", 1)) == [2, 3, 5]
    assert months(meetings=(meeting("04-10"),)) == [3, 4, 5]
    assert months(meetings=(meeting("04-10", Program.ANY),)) == [3, 5]
    for program, found in ((Program.RTM, [2, 3, 5]), (Program.ANY, [2, 3, 5]), (Program.RPM, [3, 5])):
        assert months(set_ups=(SetUp("Encounter/s", program, day("02-10"), 0),)) == found
    assert months(charges=(charge("98980", "01-10"),)) == [1, 3, 5]
    assert months(work("04-10 12:00", 1), as_of=day("04-30")) == [3, 4]


# -- what was not read --------------------------------------------------


def unread(entries: int, start: str | None, end: str | None, why: MissingWhy = MissingWhy.REFUSED) -> Missing:
    return Missing("Encounter", why, start and day(start), end and day(end), entries)  # type: ignore[arg-type]


NOT_GRANTED = unread(0, None, None, MissingWhy.NOT_GRANTED)


@pytest.mark.parametrize(
    ("missing", "kept_in", "met", "further"),
    [
        ([], "ehr", False, False),
        ([unread(1, "03-20", "03-20")], "ehr", False, True),  # perhaps a long call, no visit that matters
        ([unread(1, "03-10", "03-10")], "ehr", True, True),
        ([unread(1, "03-09", "03-11")], "ehr", True, True),
        ([unread(1, "03-30", "03-30")], "ehr", False, True),
        ([unread(1, "03-31", "03-31")], "ehr", True, True),  # perhaps a visit on the date of the service
        ([unread(1, "04-01", "04-02")], "ehr", False, False),
        ([unread(0, "03-20", "03-20")], "ehr", True, True),
        ([unread(1, None, "03-20")], "ehr", True, True),
        ([unread(1, "03-20", None)], "ehr", True, True),
        ([unread(1, "03-20", "03-20"), unread(0, "03-21", "03-21")], "ehr", True, True),
        ([NOT_GRANTED], "ehr", True, True),
        ([NOT_GRANTED], "app", False, False),
        ([unread(0, None, None)], "app", True, True),
        ([NOT_GRANTED, unread(1, "03-20", "03-20")], "app", False, True),
    ],
)
def test_an_encounter_that_was_not_read_may_be_a_call_or_a_visit(
    missing: list[Missing], kept_in: str, met: bool, further: bool
) -> None:
    policy = load_policy("medicare", {"minutes_kept_in": kept_in})
    found = march(CALL, policy=policy, completeness=Completeness(tuple(missing)))
    incomplete = ReviewReason.RECORD_INCOMPLETE
    assert (found["98980"].met, found["98981"].met) == (True, False)
    assert (incomplete in found["98980"].reasons) is met
    assert (incomplete in found["98981"].unmet_reasons) is further


@pytest.mark.parametrize(("entries", "hours"), [(1, 4), (2, 8)])
def test_a_broken_encounter_is_a_call_of_four_hours_at_most(entries: int, hours: int) -> None:
    for more, asked in ((0, True), (1, False)):
        row = {"from": "2026-01-01", "codes": ["98980"], "covered": "yes", "least": hours * 3600 + more}
        broken = Completeness((unread(entries, "03-20", "03-20"),))
        found = march(policy=payer(row), completeness=broken)["98980"]
        assert (ReviewReason.RECORD_INCOMPLETE in found.unmet_reasons) is asked


# -- the day of the service (D38) --------------------------------------------------


def visit(on: str, *people: str, unnamed: bool = False) -> Visit:
    return Visit(f"Encounter/v{on}", (day(on),), frozenset(people), unnamed)


ORDERED = (Order(resource="ServiceRequest/1", program=Program.RTM, requester=DOCTOR, day=day("03-20")),)


def dated(choice: str, *pieces: ManagementTime, **told: Any) -> dict[str, Candidate]:
    """March with a visit on its last day, its service dated on the day that was chosen."""
    word = Resolution(str(ReviewReason.VISIT_ON_SERVICE_DATE), window=MARCH, choice=f"2026-{choice}")
    visits = (*told.pop("visits", ()), visit("03-31", DOCTOR))
    return march(*(pieces or (CALL,)), visits=visits, orders=ORDERED, resolutions=(word,), **told)


def is_dated(found: Candidate, on: str) -> bool:
    assert found.met
    moved = found.service_date == day(on)
    assert moved or found.service_date == day("03-31")
    assert moved is (ReviewReason.VISIT_ON_SERVICE_DATE not in found.reasons)
    return moved


@pytest.mark.parametrize(
    ("choice", "told", "holds"),
    [
        ("03-15", {}, True),
        ("03-10", {}, True),
        ("03-09", {}, False),
        ("03-15", {"visits": (visit("03-15", DOCTOR),)}, False),
        ("03-15", {"visits": (visit("03-15", "Practitioner/third"),)}, True),
        ("03-15", {"visits": (visit("03-15", unnamed=True),)}, False),
        ("03-15", {"visits": (visit("03-14", DOCTOR),)}, True),
        ("03-15", {"as_of": day("03-31")}, False),
        ("03-15", {"as_of": day("04-01")}, True),
        ("04-01", {}, False),
    ],
)
def test_a_service_is_dated_on_a_chosen_day_without_a_visit_by_which_its_time_was_reached(
    choice: str, told: dict[str, Any], holds: bool
) -> None:
    assert is_dated(dated(choice, **told)["98980"], choice) is holds


def test_what_is_stated_is_asked_of_the_chosen_day_too() -> None:
    assert Unverified.ORDER in dated("03-15")["98980"].unverified
    assert Unverified.ORDER not in dated("03-20")["98980"].unverified
    assert Unverified.ORDER not in dated("03-09")["98980"].unverified


def test_each_units_time_must_have_been_reached() -> None:
    calls = (CALL, work("03-20 12:00", 40, "e2"))
    for choice, add_on in (("03-19", False), ("03-20", True)):
        found = dated(choice, *calls)
        assert is_dated(found["98980"], choice)
        assert found["98981"].units == 2
        assert is_dated(found["98981"], choice) is add_on


def test_a_call_over_midnight_is_reached_on_its_second_day() -> None:
    call = work("03-10 23:50", 25)
    assert not is_dated(dated("03-10", call)["98980"], "03-10")
    assert is_dated(dated("03-11", call)["98980"], "03-11")


@pytest.mark.parametrize("before", [{"covered": "no"}, {"covered": "yes", "least": 1300}])
def test_on_a_day_of_other_rules_no_service_is_dated(before: dict[str, Any]) -> None:
    row = {"codes": ["98980"], "covered": "yes", "least": 1200}
    policy = payer({**row, "from": "2026-01-01", **before}, {**row, "from": "2026-03-20"})
    assert not is_dated(dated("03-19", policy=policy)["98980"], "03-19")
    assert is_dated(dated("03-20", policy=policy)["98980"], "03-20")


# -- doubts that may fall the other way --------------------------------------------------


@pytest.mark.parametrize(
    ("call", "on", "doubt"),
    [
        (work("03-10 23:50", 25), "03-10", True),
        (work("03-10 23:50", 25), "03-11", True),
        (work("03-10 23:50", 25), "03-12", False),
        (work("03-10 23:35", 25), "03-10", True),
        (work("03-10 23:35", 25), "03-11", False),
        (replace(work("03-10 23:35", 25), end=at("03-11 00:00") + 1), "03-11", True),
        (bare("03-11", 25), "03-11", True),
        (bare("03-11", 25), "03-10", False),
        (work("03-10 12:00", 25, role=Role.PHYSICAL_THERAPIST), "03-10", False),
    ],
)
def test_a_visit_of_nobody_knows_whom_is_a_doubt_about_the_minutes_of_its_day(
    call: ManagementTime, on: str, doubt: bool
) -> None:
    found = march(call, visits=(visit(on, unnamed=True),))["98980"]
    assert found.met
    assert (ReviewReason.SAME_DAY_VISIT in found.reasons) is doubt


def too_long(start: str, minutes: float, name: str) -> ManagementTime:
    return work(start, minutes, name, doubt=ExcludedReason.IMPLAUSIBLE_SPAN)


FIRST, SECOND = "03-10 12:00", "03-11 12:00"


@pytest.mark.parametrize(
    ("pieces", "twice", "doubt"),
    [
        ([work(FIRST, 12)], "", False),
        # spans that seem too long, were they true
        ([work(FIRST, 12), too_long(SECOND, 7, "e2")], "", False),
        ([work(FIRST, 12), too_long(SECOND, 8, "e2")], "", True),
        # the other time of what was recorded under two, instead of the one that counts
        ([work(FIRST, 12), too_long(SECOND, 19, "e1")], "e1", False),
        ([work(FIRST, 12), too_long(SECOND, 20, "e1")], "e1", True),
        ([work(FIRST, 12), too_long(SECOND, 9, "e1")], "e1", True),
        ([work(FIRST, 12)], "e1", True),  # its other time lies in another month
        ([work(FIRST, 12)], "e2", False),
        ([work(FIRST, 5), work("03-12 12:00", 6, "e3"), too_long(SECOND, 13, "e1")], "e1", False),
        ([work(FIRST, 5), work("03-12 12:00", 6, "e3"), too_long(SECOND, 14, "e1")], "e1", True),
        # of both kinds, each by itself
        ([work(FIRST, 12), too_long(SECOND, 15, "e1"), too_long("03-12 12:00", 7, "e2")], "e1", False),
        ([work(FIRST, 12), too_long(SECOND, 15, "e1"), too_long("03-12 12:00", 8, "e2")], "e1", True),
    ],
)
def test_the_time_in_doubt_is_asked_about_where_it_would_earn_something_else(
    pieces: list[ManagementTime], twice: str, doubt: bool
) -> None:
    found = march(*pieces, two_times=frozenset({f"Encounter/{twice}"} if twice else ()))["98979"]
    assert found.met
    assert (ReviewReason.IMPLAUSIBLE_SPAN in found.reasons) is doubt


@pytest.mark.parametrize(
    ("program", "code", "nobody_shown", "doubt"),
    [
        (Program.RPM, "99457", False, False),
        (Program.RPM, "99457", True, True),
        (Program.RTM, "98980", False, True),
        (Program.RTM, "98980", True, True),
    ],
)
def test_whose_role_nobody_knows_may_not_count(
    program: Program, code: str, nobody_shown: bool, doubt: bool
) -> None:
    somebody = work(
        SECOND, 15, "e2", Role.UNKNOWN, person="Practitioner/x", program=program, nobody_shown=nobody_shown
    )
    found = march(work(FIRST, 12, program=program), somebody, program=program)[code]
    assert found.met
    assert (ReviewReason.STAFF_ROLE in found.reasons) is doubt
    assert Unverified.STAFF_ROLE in found.unverified


def test_work_that_may_be_no_monitoring_is_asked_about_where_the_code_hangs_on_it() -> None:
    for clear, doubt in ((19, True), (20, False)):
        pieces = (work(FIRST, clear), work(SECOND, 10, "e2", clear=False))
        found = march(*pieces)["98980"]
        assert (ReviewReason.CONVERSATION_UNCLEAR in found.reasons) is doubt


# -- doubts of the month --------------------------------------------------


def measured(line: Line, on: str = "03-05") -> Reading:
    return Reading(f"Observation/{line}", line, f"{line}|x", day(on), at(f"{on} 08:00"))


OVER_THE_END = work("03-31 23:30", 50)
IN_ROOM = LiveContact("Encounter/m", Program.RTM, day("03-10"), True, frozenset(), unnamed=True)


@pytest.mark.parametrize(
    ("pieces", "told", "doubts"),
    [
        ([CALL], {}, []),
        ([CALL], {"readings": ()}, ["no-data-in-month"]),
        ([CALL], {"readings": (measured(Line.MUSCULOSKELETAL, "04-01"),)}, ["no-data-in-month"]),
        ([CALL], {"readings": (measured(Line.OTHER),)}, ["no-device-code"]),
        ([CALL], {"readings": (measured(Line.OTHER), measured(Line.RESPIRATORY))}, []),
        ([CALL], {"meetings": (IN_ROOM,)}, []),
        ([CALL], {"reviews": ("Encounter/e1",), "meetings": (IN_ROOM,)}, ["conversation-in-person"]),
        ([work(FIRST, 25, role=Role.CLINICAL_STAFF)], {}, ["billing-professional-unknown"]),
        ([OVER_THE_END], {}, ["call-across-months"]),
        ([OVER_THE_END, work(SECOND, 1, "e2")], {}, []),
        ([OVER_THE_END, work(SECOND, 1, "e2")], {"reviews": ("Encounter/e2",)}, ["call-across-months"]),
        ([CALL], {"visits": (visit("03-31", OTHER),)}, ["visit-on-service-date"]),
        ([CALL], {"visits": (visit("03-31", "Practitioner/third"),)}, []),
        ([CALL], {"visits": (visit("03-30", OTHER),)}, []),
        ([CALL], {"visits": (visit("03-31", unnamed=True),)}, ["same-day-visit"]),
        ([CALL], {"double_booked": frozenset({"Encounter/e1"})}, ["clinician-double-booked"]),
        (
            [CALL, work(SECOND, 1, "e2")],
            {"double_booked": frozenset({"Encounter/e2"})},
            ["clinician-double-booked"],
        ),
        ([CALL], {"double_booked": frozenset({"Encounter/e2"})}, []),
        ([work("03-10 08:00", 240), work("03-10 12:00", 240.5, "e2")], {}, ["implausible-span"]),
        ([work("03-10 08:00", 240), work("03-10 12:00", 240, "e2")], {}, []),
    ],
)
def test_what_makes_every_code_of_a_month_doubtful(
    pieces: list[ManagementTime], told: dict[str, Any], doubts: list[str]
) -> None:
    found = march(*pieces, **told)["98980"]
    assert found.met
    assert sorted(map(str, found.reasons)) == doubts


DOCUMENTED = replace(CALL, documented=True)
OF_MINUTES = {Unverified.TIME, Unverified.CONVERSATION, Unverified.SAME_DAY_SERVICES}


@pytest.mark.parametrize(
    ("pieces", "told", "asks"),
    [
        ([], {}, {Unverified.TIME, Unverified.CONVERSATION}),
        ([CALL], {}, {Unverified.TIME, Unverified.CONVERSATION}),
        ([DOCUMENTED], {}, set()),
        ([DOCUMENTED], {"reviews": ("Encounter/e1",)}, {Unverified.CONVERSATION}),
        ([DOCUMENTED, work(SECOND, 1, "e2")], {}, {Unverified.TIME, Unverified.CONVERSATION}),
        ([DOCUMENTED, work(SECOND, 1, "e2")], {"reviews": ("Encounter/e2",)}, {Unverified.TIME}),
        ([DOCUMENTED], {"visits": (visit("03-10", "Practitioner/third"),)}, {Unverified.SAME_DAY_SERVICES}),
        ([DOCUMENTED], {"visits": (visit("03-11", "Practitioner/third"),)}, set()),
        ([DOCUMENTED], {"meetings": (IN_ROOM,)}, {Unverified.SAME_DAY_SERVICES}),
        (
            [DOCUMENTED],
            {"completeness": Completeness((unread(1, "03-20", "03-20"),))},
            {Unverified.SAME_DAY_SERVICES},
        ),
        ([DOCUMENTED], {"completeness": Completeness((unread(1, "04-20", "04-20"),))}, set()),
    ],
)
def test_what_the_months_records_leave_to_be_stated(
    pieces: list[ManagementTime], told: dict[str, Any], asks: set[Unverified]
) -> None:
    assert march(*pieces, **told)["98980"].unverified & OF_MINUTES == asks


# -- what an open month still lacks --------------------------------------------------


@pytest.mark.parametrize(
    ("minutes", "code", "forecast"),
    [
        (0, "98979", (600, Unit.SECONDS, "98979")),
        (0, "98980", (1200, Unit.SECONDS, "98980")),
        (4, "98979", (360, Unit.SECONDS, "98979")),
        (10, "98979", (600, Unit.SECONDS, "98980")),
        (19, "98979", (60, Unit.SECONDS, "98980")),
        (20, "98979", None),
        (20, "98980", (1200, Unit.SECONDS, "98981")),
        (39, "98980", (60, Unit.SECONDS, "98981")),
        (40, "98980", None),
        (40, "98981", (1200, Unit.SECONDS, "98981")),
        (79, "98981", (60, Unit.SECONDS, "98981")),
        (80, "98981", None),
        (100, "98981", None),
    ],
)
def test_what_an_open_month_still_lacks(
    minutes: float, code: str, forecast: tuple[int, Unit, str] | None
) -> None:
    found = march(*([work(FIRST, minutes)] if minutes else []), as_of=day("03-31"))[code].forecast
    told = None if found is None else (found.missing, found.unit, found.next_code)
    assert told == forecast
    assert found is None or found.reachable_until == day("03-31")
    assert march(*([work(FIRST, minutes)] if minutes else []), as_of=day("04-01"))[code].forecast is None


def test_of_what_is_charged_nothing_is_lacking() -> None:
    found = march(work(FIRST, 19), as_of=day("03-31"), charges=(charge("98979", "03-10"),))
    assert (found["98979"].forecast, found["98980"].forecast is None) == (None, False)


def test_where_the_conversation_alone_is_missing_it_is_what_is_lacking() -> None:
    review = {"reviews": ("Encounter/e1",), "as_of": day("03-31")}
    for minutes, missing in ((20, (1, Unit.COUNT)), (19, (60, Unit.SECONDS))):
        found = march(work(FIRST, minutes), **review)["98980"].forecast
        assert found is not None
        assert (found.missing, found.unit, found.next_code) == (*missing, "98980")


# -- therapists and their assistants ------------------------------------------------------------------------

PT, PTA, OT = Role.PHYSICAL_THERAPIST, Role.THERAPIST_ASSISTANT, Role.OCCUPATIONAL_THERAPIST


def by(role: Role, on: str, minutes: float, **more: Any) -> ManagementTime:
    discipline = {PT: "physical", PTA: "physical", OT: "occupational"}.get(role)
    return work(f"{on} 12:00", minutes, f"{role}-{on}", role, discipline=discipline, **more)


@pytest.mark.parametrize(
    ("pieces", "modifiers"),
    [
        ([by(PT, "03-10", 25)], ("GP",)),
        ([by(OT, "03-10", 25)], ("GO",)),
        ([by(PT, "03-10", 15), by(OT, "03-11", 15)], ()),
        ([by(PT, "03-10", 25), by(Role.PHYSICIAN, "03-11", 1)], ()),
        ([by(Role.PHYSICIAN, "03-10", 25)], ()),
        ([by(PT, "03-10", 18), by(PTA, "03-11", 2)], ("GP",)),  # a tenth is no more than a tenth
        ([by(PT, "03-10", 17), by(PTA, "03-11", 3)], ("GP", "CQ")),
        ([by(OT, "03-10", 17), by(PTA, "03-11", 3)], ("GO", "CO")),
        # at once with the therapist the assistant's minutes add nothing
        ([by(PT, "03-10", 25), by(PTA, "03-10", 20)], ("GP",)),
    ],
)
def test_a_therapists_discipline_and_an_assistants_share_are_told(
    pieces: list[ManagementTime], modifiers: tuple[str, ...]
) -> None:
    found = march(*pieces)["98980"]
    assert (found.met, found.modifiers) == (True, modifiers)


def said(choice: str) -> Resolution:
    return Resolution(str(Hint.ASSISTANT_NOT_NEEDED), choice=choice)


@pytest.mark.parametrize(
    ("own", "choice", "offered", "modifiers", "seconds"),
    [
        (20, None, 1200, ("GP", "CQ"), 1500),
        (19, None, None, ("GP", "CQ"), 1440),
        (20, "with-assistant", None, ("GP", "CQ"), 1500),
        (20, "therapist-alone", None, ("GP",), 1200),
        (19, "therapist-alone", None, ("GP", "CQ"), 1440),
    ],
)
def test_where_a_therapists_own_minutes_are_enough_the_assistants_need_not_be_charged(
    own: float, choice: str | None, offered: int | None, modifiers: tuple[str, ...], seconds: int
) -> None:
    pieces = (by(PT, "03-10", own), by(PTA, "03-11", 5))
    found = march(*pieces, resolutions=(said(choice),) if choice else ())["98980"]
    alternative = found.alternative
    assert (alternative and alternative.seconds) == offered
    assert alternative is None or alternative.modifiers == ("GP",)
    assert (Hint.ASSISTANT_NOT_NEEDED in found.hints) is (offered is not None)
    assert found.modifiers == modifiers
    assert next(one.found for one in found.requirements) == seconds
    assert len(found.requirements) == 2


def test_the_add_on_keeps_its_base_where_the_therapist_alone_is_charged() -> None:
    pieces = (by(PT, "03-10", 40), by(PTA, "03-11", 5))
    found = march(*pieces, resolutions=(said("therapist-alone"),))["98981"]
    assert [(str(one.requirement), one.found) for one in found.requirements] == [
        ("base-code", 1),
        ("management-time", 2400),
        ("live-contact", 1),
    ]


# -- would another answer change anything? --------------------------------------------------


@pytest.mark.parametrize(
    ("clear", "unclear", "asked"),
    [
        # the code itself or a higher one, never a lower
        (10, 9, set()),
        (10, 10, {"98979", "98980"}),
        (9, 1, {"98979"}),
        (20, 19, set()),
        (20, 20, {"98981"}),
        (19, 1, {"98979", "98980"}),
        (80, 19, set()),
        (80, 20, {"98981"}),
        # how far above the cap a quantity lies changes nothing
        (100, 20, set()),
    ],
)
def test_a_doubt_is_told_where_the_code_or_its_quantity_hangs_on_it(
    clear: float, unclear: float, asked: set[str]
) -> None:
    found = march(work(FIRST, clear), work(SECOND, unclear, "e2", clear=False))
    reason = ReviewReason.CONVERSATION_UNCLEAR
    assert {code for code, one in found.items() if one.met and reason in one.reasons} == asked


@pytest.mark.parametrize(
    ("minutes", "units", "over"), [(79, 2, False), (80, 3, False), (99, 3, False), (100, 3, True)]
)
def test_units_above_the_cap_are_a_question(minutes: float, units: int, over: bool) -> None:
    found = march(work(FIRST, minutes))["98981"]
    assert (found.units, ReviewReason.UNITS_OVER_CAP in found.reasons) == (units, over)


@pytest.mark.parametrize(
    ("minutes", "charges", "base"),
    [
        (19, (), None),
        (20, (), ()),
        (19, ("98980",), ("ChargeItem/98980-03-10-1",)),
        (20, ("98980",), ("ChargeItem/98980-03-10-1",)),
        (19, ("98979",), None),
    ],
)
def test_an_add_on_is_asked_for_where_its_base_is_met_or_charged(
    minutes: float, charges: tuple[str, ...], base: tuple[str, ...] | None
) -> None:
    found = march(work(FIRST, minutes), charges=tuple(charge(code, "03-10") for code in charges))
    assert ("98981" in found) is (base is not None)
    if base is not None:
        assert found["98981"].requirements[0].evidence == base
