"""The stories: what happened to each synthetic patient, told relative to the chosen day.

A 30-day period that is "just closed" ended on the day before it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, timedelta

from launch.sandbox.config import ZONE
from launch.sandbox.patients.chart import Chart
from launch.sandbox.patients.codes import (
    CBT_APP,
    CUFF,
    EXERCISE_APP,
    INHALER,
    OXIMETER,
    DeviceKind,
    Visit,
    visit_type,
)
from launch.sandbox.patients.messy import messy
from launch.sandbox.patients.staff import (
    ASSISTANT,
    NURSE,
    PHYSICIAN,
    PSYCHOLOGIST,
    PULMONOLOGIST,
    THERAPIST,
    Person,
)

ASTHMA = ("J45.40", "Moderate lasting asthma")
BACK_PAIN = ("M54.50", "Low back pain")
KNEE = ("M17.11", "Worn right knee joint")
ANXIETY = ("F41.1", "Lasting anxiety")
HYPERTENSION = ("I10", "High blood pressure")
LUNG_DISEASE = ("J44.9", "Chronic obstructive lung disease")


@dataclass(frozen=True)
class Line:
    """How one kind of monitoring is done in this practice."""

    device: DeviceKind
    program: str
    setup: Visit
    call: Visit
    review: Visit
    clinician: Person
    helper: Person
    condition: tuple[str, str]
    startup_code: str
    device_code: str


RESPIRATORY = Line(
    INHALER,
    "rtm",
    Visit.RTM_SETUP,
    Visit.RTM_CALL,
    Visit.RTM_REVIEW,
    PULMONOLOGIST,
    PULMONOLOGIST,
    ASTHMA,
    "98975",
    "98976",
)
MUSCULOSKELETAL = Line(
    EXERCISE_APP,
    "rtm",
    Visit.RTM_SETUP,
    Visit.RTM_CALL,
    Visit.RTM_REVIEW,
    THERAPIST,
    ASSISTANT,
    BACK_PAIN,
    "98975",
    "98977",
)
COGNITIVE = Line(
    CBT_APP,
    "rtm",
    Visit.RTM_SETUP,
    Visit.RTM_VIDEO,
    Visit.RTM_REVIEW,
    PSYCHOLOGIST,
    PSYCHOLOGIST,
    ANXIETY,
    "98975",
    "98978",
)
PHYSIOLOGIC = Line(
    CUFF,
    "rpm",
    Visit.RPM_SETUP,
    Visit.RPM_CALL,
    Visit.RPM_REVIEW,
    PHYSICIAN,
    NURSE,
    HYPERTENSION,
    "99453",
    "99454",
)
OXIMETRY = Line(
    OXIMETER,
    "rpm",
    Visit.RPM_SETUP,
    Visit.RPM_CALL,
    Visit.RPM_REVIEW,
    PHYSICIAN,
    NURSE,
    LUNG_DISEASE,
    "99453",
    "99454",
)


def _ago(chart: Chart, days: int) -> date:
    return chart.as_of - timedelta(days=days)


def _begin(chart: Chart, line: Line, start: date) -> str:
    """Enrolment and set-up on the first day; the device's reference."""
    chart.enrol(start, line.program, line.clinician, line.condition, line.device_code)
    chart.visit(line.setup, line.helper, chart.moment(start, 6, 15), 20, "AMB")
    return chart.device(line.device)


def _ready(
    chart: Chart, line: Line, counts: tuple[int, int], minutes: tuple[int, ...], charged: bool
) -> None:
    """Two periods, the second just closed; a month of management with a call; the first charged or not."""
    start = _ago(chart, 60)
    chart.cover()
    device = _begin(chart, line, start)
    for number, count in enumerate(counts):
        first = start + timedelta(days=30 * number)
        chart.readings(line.device, device, chart.days(first, 30, count))
    chart.month_of_management(line.call, line.review, line.clinician, line.helper, minutes)
    if charged:
        chart.charge(line.startup_code, start, start + timedelta(days=29))
        chart.charge(line.device_code, start, start + timedelta(days=29))


def _ready_respiratory(chart: Chart) -> None:
    _ready(chart, RESPIRATORY, (22, 20), (6, 6, 12), charged=True)


def _ready_musculoskeletal(chart: Chart) -> None:
    _ready(chart, MUSCULOSKELETAL, (21, 18), (10, 12, 8, 14), charged=True)


def _ready_cognitive(chart: Chart) -> None:
    _ready(chart, COGNITIVE, (19, 17), (9, 14), charged=False)


def _ready_physiologic(chart: Chart) -> None:
    _ready(chart, PHYSIOLOGIC, (26, 24), (5, 6, 11), charged=True)


def _one_day_short(chart: Chart) -> None:
    chart.cover()
    start = _ago(chart, 24)
    device = _begin(chart, MUSCULOSKELETAL, start)
    chart.readings(EXERCISE_APP, device, chart.days(start, 24, 15))


def _single_day(chart: Chart) -> None:
    chart.cover()
    start = _ago(chart, 9)
    device = _begin(chart, PHYSIOLOGIC, start)
    chart.readings(CUFF, device, [start])


def _out_of_reach(chart: Chart) -> None:
    chart.cover()
    start = _ago(chart, 26)
    device = _begin(chart, RESPIRATORY, start)
    chart.readings(INHALER, device, chart.days(start, 26, 5))


def _no_conversation(chart: Chart) -> None:
    chart.cover()
    start = _ago(chart, 60)
    device = _begin(chart, MUSCULOSKELETAL, start)
    for first in (start, start + timedelta(days=30)):
        chart.readings(EXERCISE_APP, device, chart.days(first, 30, 19))
    review, message = Visit.RTM_REVIEW, Visit.MESSAGE
    # The last length is the "call's": here it is one more message.
    chart.month_of_management(message, review, THERAPIST, THERAPIST, (9, 8, 10, 4))


def _both_programs(chart: Chart) -> None:
    chart.cover()
    start = _ago(chart, 60)
    for line, minutes in ((MUSCULOSKELETAL, (10, 13)), (PHYSIOLOGIC, (6, 7, 10))):
        device = _begin(chart, line, start)
        for first in (start, start + timedelta(days=30)):
            chart.readings(line.device, device, chart.days(first, 30, 20))
        chart.month_of_management(line.call, line.review, line.clinician, line.helper, minutes)


def _new_year(chart: Chart) -> None:
    chart.cover()
    start = date(2025, 12, 10)
    device = _begin(chart, MUSCULOSKELETAL, start)
    chart.readings(EXERCISE_APP, device, chart.days(start, 30, 9))
    chart.reading(EXERCISE_APP, device, chart.moment(date(2025, 12, 31), 23, 40))


def _hospital(chart: Chart) -> None:
    chart.cover()
    start = _ago(chart, 30)
    device = _begin(chart, PHYSIOLOGIC, start)
    home = [*chart.days(start, 12, 8), *chart.days(_ago(chart, 11), 11, 5)]
    ward = [_ago(chart, days) for days in range(17, 12, -1)]
    chart.readings(CUFF, device, [*home, *ward])
    admitted, discharged = chart.moment(_ago(chart, 18), 14), chart.moment(_ago(chart, 12), 11)
    minutes = (discharged - admitted).total_seconds() / 60
    chart.visit(Visit.INPATIENT, PHYSICIAN, admitted, minutes, "IMP", type=[visit_type(Visit.INPATIENT)])


def _calls_on_paper(chart: Chart) -> None:
    """Two periods of readings, and nobody's time: the calls and the consent are on paper."""
    chart.cover()
    start = _ago(chart, 60)
    device = _begin(chart, RESPIRATORY, start)
    for first in (start, start + timedelta(days=30)):
        chart.readings(INHALER, device, chart.days(first, 30, 21))
    chart.resources = [one for one in chart.resources if one["resourceType"] != "Consent"]


def _after_a_break(chart: Chart) -> None:
    """A period of readings, four silent months, and readings again: nothing in the EHR says whether that is
    one episode of care."""
    chart.cover()
    start = _ago(chart, 190)
    device = _begin(chart, MUSCULOSKELETAL, start)
    for first in (start, start + timedelta(days=150)):
        chart.readings(EXERCISE_APP, device, chart.days(first, 30, 18))
    chart.resources = [one for one in chart.resources if one["resourceType"] != "EpisodeOfCare"]


def _nothing(chart: Chart) -> None:
    chart.cover()


def _large(chart: Chart, readings: int) -> None:
    """Thirteen periods of continuous readings; all but the last are charged."""
    chart.cover()
    start = _ago(chart, 390)
    device = _begin(chart, OXIMETRY, start)
    # Counted in UTC: a clock on the wall would show one hour twice, and one never.
    opened = chart.moment(start, 7).astimezone(UTC)
    step = (chart.moment(chart.as_of, 0) - opened) / max(readings, 1)
    for number in range(readings):
        at = opened + step * number
        chart.reading(OXIMETER, device, at.replace(microsecond=0).astimezone(ZONE))
    chart.charge(OXIMETRY.startup_code, start, start + timedelta(days=29))
    for number in range(12):
        first = start + timedelta(days=30 * number)
        chart.charge(OXIMETRY.device_code, first, first + timedelta(days=29))
    chart.month_of_management(Visit.RPM_CALL, Visit.RPM_REVIEW, PHYSICIAN, NURSE, (8, 7, 9))


@dataclass(frozen=True)
class Tale:
    """One patient: id, family name, title, one line for a clinician, and the writing of the chart."""

    id: str
    family: str
    title: str
    line: str
    write: Callable[[Chart], None]


LARGE = "fifty-thousand-readings"


def tales(readings: int) -> tuple[Tale, ...]:
    """All stories; ``readings`` is the size of the large one."""
    return (
        Tale(
            "ready-respiratory",
            "Ready-Respiratory",
            "Ready: inhaler",
            "Asthma; inhaler used on 20 of 30 days, period just closed, 24 minutes with a call last month.",
            _ready_respiratory,
        ),
        Tale(
            "ready-musculoskeletal",
            "Ready-Musculoskeletal",
            "Ready: home exercise",
            "Back pain; home exercise on 18 of 30 days, 44 minutes of therapist and assistant last month.",
            _ready_musculoskeletal,
        ),
        Tale(
            "ready-cognitive",
            "Ready-Cognitive",
            "Ready: therapy app",
            "Anxiety; therapy app on 19 and 17 days, nothing charged yet, 23 minutes with a video call.",
            _ready_cognitive,
        ),
        Tale(
            "ready-physiologic",
            "Ready-Physiologic",
            "Ready: blood pressure cuff",
            "High blood pressure; cuff used on 24 of 30 days, 22 minutes with a call last month.",
            _ready_physiologic,
        ),
        Tale(
            "one-day-short",
            "One-Day-Short",
            "One day short of sixteen",
            "Home exercise on 15 days; the period is open for some days more.",
            _one_day_short,
        ),
        Tale(
            "single-day",
            "Single-Day",
            "One day short of two",
            "A cuff that was used once, nine days ago.",
            _single_day,
        ),
        Tale(
            "out-of-reach",
            "Out-Of-Reach",
            "Out of reach",
            "Inhaler used on 5 days; four days are left, sixteen can't be reached.",
            _out_of_reach,
        ),
        Tale(
            "no-conversation",
            "No-Conversation",
            "Minutes without a conversation",
            "27 minutes of review and a portal message last month, but nobody was called.",
            _no_conversation,
        ),
        Tale(
            "both-programs",
            "Both-Programs",
            "Therapeutic and physiologic together",
            "Home exercise and a cuff in the same weeks, both ordered and agreed to.",
            _both_programs,
        ),
        Tale(
            "new-year-2026",
            "New-Year",
            "Across New Year 2026",
            "A period from 10 December 2025 to 8 January 2026 with ten days at most.",
            _new_year,
        ),
        Tale(
            "hospital-stay",
            "Hospital-Stay",
            "A stay in hospital",
            "Cuff used on 18 days, five of them on the ward during a six-day stay.",
            _hospital,
        ),
        Tale(
            "messy-chart",
            "Messy-Chart",
            "Messy data",
            "Readings in error, twice, without value, zone or device; a visit that ends before it starts.",
            messy,
        ),
        Tale(
            LARGE,
            "Fifty-Thousand",
            "Fifty thousand readings",
            f"Continuous oximetry over thirteen periods: {readings:,} readings.",
            lambda chart: _large(chart, readings),
        ),
        Tale("nothing", "Nothing", "Nothing at all", "A chart without any monitoring.", _nothing),
        Tale(
            "calls-not-in-the-ehr",
            "Calls-Not-In-The-EHR",
            "Calls not in the EHR",
            "Inhaler used all of last month; the calls and the consent are on paper. Log them in the app.",
            _calls_on_paper,
        ),
        Tale(
            "back-after-a-break",
            "Back-After-A-Break",
            "Back after a break",
            "Home exercise, four silent months, home exercise again; no episode of care in the EHR.",
            _after_a_break,
        ),
    )
