"""Start-up (98975, 99453): once an episode, earned in its first 30-day period (R3)."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from datetime import date, timedelta
from itertools import pairwise

from fhir_mappings.decision import Forecast, Requirement
from fhir_mappings.local_time import PERIOD_DAYS, Window, period_number
from fhir_mappings.record import PriorCharge, SetUp
from fhir_mappings.rules.candidate import Candidate
from fhir_mappings.rules.charged import add_charges, standing, uncredited
from fhir_mappings.rules.device_supply import (
    DayCount,
    best_count,
    days_requirement,
    episode_doubts,
)
from fhir_mappings.rules.episodes import Episode
from fhir_mappings.rules.program import ProgramChart, only_of
from fhir_mappings.rules.series import Series, merged
from fhir_mappings.rules.tables import CodeRule, Kind
from fhir_mappings.vocabulary import Line, RequirementKind, ReviewReason, Role, Unit, Unverified


def start_up_candidates(chart: ProgramChart) -> list[Candidate]:
    """One start-up code an episode that holds a counted day, a set-up or a start-up charge."""
    charges = chart.charges_of(Kind.START_UP)
    placed, unclear = _place_charges(charges, list(enumerate(chart.episodes)))
    if not any(_has_begun(one) or (one.documented and at in placed) for at, one in enumerate(chart.episodes)):
        return _charged_alone(chart, charges)
    found: list[Candidate] = []
    for position, episode in enumerate(chart.episodes):
        if not _has_begun(episode) and position not in placed:
            continue
        for rule in chart.rules(Kind.START_UP):
            candidate = _candidate(chart, rule, episode, placed.get(position, []))
            if candidate is None or not candidate.rule.in_force(candidate.service_date):
                continue
            candidate.reasons |= episode_doubts(episode)
            if not episode.start_seen:
                candidate.reasons |= {ReviewReason.HISTORY_INCOMPLETE}
            if unclear:
                candidate.reasons |= {ReviewReason.CHARGED_PERIOD_UNCLEAR}
            found.append(candidate)
    return found


def _has_begun(episode: Episode) -> bool:
    return episode.first_day is not None or episode.set_up is not None


def _place_charges(
    charges: list[PriorCharge], episodes: list[tuple[int, Episode]]
) -> tuple[dict[int, list[PriorCharge]], bool]:
    """Each charge in the episode that holds its date, and whether one fits none."""
    placed: dict[int, list[PriorCharge]] = {}
    unclear = False
    stand = uncredited(charges)
    for charge in charges:
        day = charge.occurrence.start if charge.occurrence is not None and charge.sole else None
        home = next(
            (
                position
                for position, episode in episodes
                if day is not None
                # What was charged before the first day that was found began the same episode, unless an
                # EpisodeOfCare says when that began.
                and (episode.holds(day) or not (episode.documented or episode.start_seen))
            ),
            None,
        )
        if home is None:
            unclear |= charge in stand
        else:
            placed.setdefault(home, []).append(charge)
    return placed, unclear


def _charged_alone(chart: ProgramChart, charges: list[PriorCharge]) -> list[Candidate]:
    """A start-up charge is all that is known of an episode."""
    by_code: dict[str, list[PriorCharge]] = {}
    for charge in charges:
        if charge.occurrence is not None and charge.sole:
            by_code.setdefault(charge.code, []).append(charge)
    found: list[Candidate] = []
    for code, of_code in by_code.items():
        if not standing(of_code):
            continue
        day = min(charge.occurrence.start for charge in of_code if charge.occurrence is not None)
        window = Window(day, day + timedelta(days=PERIOD_DAYS - 1))
        found.append(
            Candidate(
                chart.policy.code(code),
                window,
                day,
                charges=tuple(of_code),
                unverified=chart.statements.of(day, window),
            )
        )
    return found


def _candidate(
    chart: ProgramChart, rule: CodeRule, episode: Episode, charges: list[PriorCharge]
) -> Candidate | None:
    window = episode.first_period
    if window is None:
        return None
    as_of = chart.as_of
    # Before any reading the first period hasn't begun: it can still come, as long as the episode lasts.
    waiting = episode.first_day is None and (episode.end is None or as_of <= episode.end)
    if waiting and not charges:
        window = _period_still_to_come(rule, window, as_of)
    last = episode.service_date(window)
    devices = _by_device(episode)
    count = best_count(chart, devices, last)
    until = min(last, as_of)
    reached = [threshold_day(rule, series.days, window, until) for series in count.every]
    earned_on = min(filter(None, reached), default=None)
    terms = chart.policy.terms(rule.code, earned_on or until)
    ahead = min(filter(None, (episode.end, as_of + timedelta(days=PERIOD_DAYS - 1)))) if waiting else last
    least_ahead = min(terms.least, rule.least(ahead).least)
    days_ahead = None if episode.end is None else (episode.end - as_of).days + 1
    set_up = episode.set_up
    rule = chart.policy.code_on(rule.code, earned_on or last)
    candidate = Candidate(
        rule,
        window,
        earned_on or last,
        open=waiting or as_of <= (earned_on or last),
        met=earned_on is not None,
        reachable=(days_ahead is None or days_ahead >= least_ahead)
        if waiting
        else as_of <= last and count.reach >= least_ahead,
        units=int(earned_on is not None),
        requirements=(
            days_requirement(terms, count),
            Requirement(
                RequirementKind.SET_UP,
                Unit.COUNT,
                1,
                0 if set_up is None else 1,
                set_up is not None,
                () if set_up is None else (set_up.resource,),
                terms.rule_reference,
            ),
        ),
        reasons=chart.base_doubts,
        unverified=chart.statements.of(earned_on or last, window)
        | (count.unverified - {Unverified.DEVICE_SUPPLIED_BY_PRACTICE})
        | chart.readings_unverified(Window(window.start, last)),
        modifiers=_modifiers(chart, rule, window, set_up),
    )
    if episode.may_be_another(window):
        candidate.unverified |= {Unverified.ENROLMENT}
    add_charges(candidate, charges)
    # What is explained with a set-up may be charged on its day, before the first reading.
    first = window.start if set_up is None else min(window.start, set_up.day)
    chart.add_more_specific(candidate, Window(first, window.end))
    chart.settle_codes(candidate, still_open=count.codes_open(terms.least))
    if set_up is None:
        candidate.reasons |= {ReviewReason.SETUP_NOT_DOCUMENTED}
    if count.evidence and count.evidence[0].line is Line.OTHER:
        candidate.reasons |= {ReviewReason.NO_DEVICE_CODE}
    if terms.changes_within(Window(window.start, last), count.found, chart.diagnosed(window)):
        candidate.add_rule_change()
    if _may_be_earlier(chart, candidate, episode, count, min(last, as_of)):
        candidate.reasons |= {ReviewReason.RECORD_INCOMPLETE}
        candidate.unmet_reasons |= {ReviewReason.RECORD_INCOMPLETE}
    if not candidate.met:
        _add_evidence_doubts(chart, candidate, episode, count, terms.least)
        if candidate.open and candidate.reachable and not candidate.charges:
            missing = max(least_ahead - count.found, 1)
            until = last - timedelta(days=missing - 1)
            candidate.forecast = Forecast(missing, Unit.DAYS, until, rule.code)
    chart.add_terms(candidate, chart.policy.terms(rule.code, candidate.service_date))
    return candidate


def _period_still_to_come(rule: CodeRule, window: Window, as_of: date) -> Window:
    """The first period of an episode without a reading: from its beginning while that can still be met, else
    from today."""
    if (window.end - as_of).days + 1 >= rule.least(window.end).least:
        return window
    return Window(as_of, as_of + timedelta(days=PERIOD_DAYS - 1))


def threshold_day(rule: CodeRule, days: list[date], window: Window, until: date) -> date | None:
    """The first day on which the count so far reaches the threshold in force that day (D9). `days`: in order.

    It need not be a day with a reading: nine days of December earn nothing until the rules change.
    """
    counted = days[bisect_left(days, window.start) : bisect_right(days, until)]
    changes = [row.start for row in rule.monitoring_days if window.start < row.start <= until]
    for begins, next_begins in pairwise([window.start, *sorted(changes), date.max]):
        least = rule.least(begins).least
        if least <= len(counted) and (reached := max(counted[least - 1], begins)) < next_begins:
            return reached
    return None


def _by_device(episode: Episode) -> list[Series]:
    """Days of the first period by device type: one type that serves two lines is one device."""
    if episode.first_day is None or episode.anchor is None:
        return []
    devices: dict[str, list[Series]] = {}
    for name, series in episode.periods[period_number(episode.anchor, episode.first_day)].items():
        devices.setdefault(name.partition("|")[2], []).append(series)
    return [merged(of_one) for of_one in devices.values()]


def _add_evidence_doubts(
    chart: ProgramChart, candidate: Candidate, episode: Episode, count: DayCount, needed: int
) -> None:
    doubtful = [reading for reading in episode.doubtful if reading.day in candidate.window]
    if doubtful and count.with_days(doubtful) >= needed:
        candidate.unmet_reasons |= chart.doubts_of(doubtful)


def _may_be_earlier(
    chart: ProgramChart, candidate: Candidate, episode: Episode, count: DayCount, until: date
) -> bool:
    """Could readings that were not read make it earned, or earned on an earlier day (D20)?"""
    if chart.record.completeness.whole:
        return False
    window = candidate.window
    if episode.first_day is not None and chart.unread_before(episode, window.start):
        return True
    unread = chart.unread_days(window)
    lost = {reading.day for reading in chart.of_unread_devices(episode) if reading.day in window}
    if unread is None and not lost:
        return False
    every = [lost.union(series.days) for series in count.every] or [lost]
    reached = [
        threshold_day(
            candidate.rule, sorted(days) if unread is None else unread.earliest(days), window, until
        )
        for days in every
    ]
    first = min(filter(None, reached), default=None)
    return first is not None and (not candidate.met or first < candidate.service_date)


def _modifiers(chart: ProgramChart, rule: CodeRule, window: Window, set_up: SetUp | None) -> tuple[str, ...]:
    """The therapist's modifier, and the assistant's where an assistant alone did the set-up."""
    modifiers = chart.therapy_modifiers(rule, window)
    if modifiers and set_up is not None and set_up.roles == {Role.THERAPIST_ASSISTANT}:
        modifiers += only_of(rule.assistant_modifiers, chart.disciplines(window))
    return modifiers
