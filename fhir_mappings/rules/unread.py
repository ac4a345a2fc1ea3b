"""What was not read may be evidence of another program or line: then a human says that nothing else is
charged for these days (D1, D2 and D20).

More days change neither the tier nor the start-up's day of a code that has all of its days already, so D20
doesn't hold it. But they may have earned a code that excludes it, and that the whole chart would have shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from itertools import product

from fhir_mappings.completeness import MissingWhy
from fhir_mappings.local_time import ONE_DAY, PERIOD_DAYS, Window, next_month
from fhir_mappings.rules.candidate import Candidate
from fhir_mappings.rules.policy import Policy
from fhir_mappings.rules.program import ProgramChart
from fhir_mappings.rules.tables import Kind
from fhir_mappings.vocabulary import Line, Unverified

_BY_DAYS = (Kind.DEVICE_SUPPLY, Kind.START_UP)


def compare_with_unread(
    candidates: Iterable[Candidate], charts: Sequence[ProgramChart], policy: Policy
) -> None:
    """Say of each code that is met or charged what might stand beside it. `charts`: of every program."""
    standing = [candidate for candidate in candidates if candidate.met or candidate.charges]
    for candidate, chart in product(standing, charts):
        if chart.program is candidate.rule.program:
            hides = _hides_another_line(candidate, chart)
        else:
            hides = policy.rtm_and_rpm_exclusive and _hides_program(candidate, chart)
        if hides:
            candidate.unverified |= {Unverified.OTHER_PROGRAM}


def _hides_program(candidate: Candidate, other: ProgramChart) -> bool:
    """Could a code of the other program be met in a window that shares a day with the candidate's?"""
    window, as_of = candidate.window, other.as_of
    months = _until(as_of, Window(window.start.replace(day=1), next_month(window.end) - ONE_DAY))
    if months is not None and _hides_encounters(other, months):
        return True
    reach = timedelta(days=PERIOD_DAYS - 1)
    around = _until(as_of, Window(window.start - reach, window.end + reach))
    return around is not None and _may_hold(other, frozenset(Line), around, _least(other, around.end))


def _hides_another_line(candidate: Candidate, chart: ProgramChart) -> bool:
    """Could the device code of another line be met in the same period?"""
    if candidate.rule.kind is not Kind.DEVICE_SUPPLY:
        return False
    period = _until(chart.as_of, Window(candidate.window.start, candidate.service_date))
    return period is not None and any(
        terms.rule.line is not None
        and terms.rule.line is not candidate.line
        and _may_hold(chart, frozenset({terms.rule.line}), period, terms.least)
        for terms in chart.policy.in_force(chart.program, (Kind.DEVICE_SUPPLY,), candidate.service_date)
    )


def _may_hold(chart: ProgramChart, lines: frozenset[Line], window: Window, least: int | None) -> bool:
    """Could a program have as many days of these lines in a window, were everything there that was not
    read?"""
    unread = chart.record.completeness.unread_days("Observation", window)
    known = {
        reading.day
        for episode in chart.episodes
        for reading in chart.of_unread_devices(episode)
        if reading.line in lines and reading.day in window
    }
    if least is None or (unread is None and not known):
        return False
    for series in chart.series:
        if series.line in lines:
            known.update(day for day in series.days if day in window)
    return (len(known) if unread is None else unread.most(known)) >= least


def _hides_encounters(chart: ProgramChart, months: Window) -> bool:
    """Could the minutes of one of the program's months be among what was not read? Not where this site keeps
    them in the app."""
    return any(
        not (chart.policy.minutes_kept_in_app and one.why is MissingWhy.NOT_GRANTED)
        for one in chart.record.completeness.of("Encounter", months)
    )


def _least(chart: ProgramChart, day: date) -> int | None:
    """The fewest days for which the program has a code."""
    return min((terms.least for terms in chart.policy.in_force(chart.program, _BY_DAYS, day)), default=None)


def _until(as_of: date, window: Window) -> Window | None:
    """A window's part up to the day that is asked about: nothing after it was to be read."""
    return None if window.start > as_of else Window(window.start, min(window.end, as_of))
