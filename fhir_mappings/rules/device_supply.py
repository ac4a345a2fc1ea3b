"""Device supply: counted days in 30-day periods (R1.3, D2 to D4, D8, D9)."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, timedelta

from msgspec import Struct, field

from fhir_mappings.decision import Forecast, Requirement
from fhir_mappings.local_time import Window, period_number
from fhir_mappings.record import CODES_OPEN, Excluded, PriorCharge, Reading
from fhir_mappings.rules.candidate import Candidate, Reasons, block_lower_tiers
from fhir_mappings.rules.charged import add_charges, standing, touches, uncredited
from fhir_mappings.rules.episodes import Episode, silence
from fhir_mappings.rules.policy import Terms
from fhir_mappings.rules.program import ProgramChart
from fhir_mappings.rules.series import Series, merged
from fhir_mappings.rules.tables import Kind
from fhir_mappings.vocabulary import ExcludedReason, Line, RequirementKind, ReviewReason, Unit, Unverified

_KINDS = (Kind.DEVICE_SUPPLY,)
_UNVERIFIED = frozenset({Unverified.DEVICE_SUPPLIED_BY_PRACTICE})
"""Of a code without a reading that could tell by which device."""
_INCOMPLETE: Reasons = frozenset({ReviewReason.RECORD_INCOMPLETE})


class DayCount(Struct, frozen=True, gc=False):
    """Counted days of the best device type in one window (D8). `reach`: the most that is still possible by
    the window's end (D9). `evidence`: one reading a counted day, the earliest."""

    found: int
    reach: int
    evidence: tuple[Reading, ...]
    names: tuple[str, ...]
    all_names: tuple[str, ...]
    unverified: frozenset[Unverified]
    every: tuple[Series, ...]
    """The days of each device type, the best among them."""

    def with_days(self, others: Iterable[Reading]) -> int:
        """How many days there could be at the most, were these readings counted with one of the devices."""
        days = {reading.day for reading in others}
        return max((len(days.union(of_one.days)) for of_one in self.every), default=len(days))

    def codes_open(self, least: int) -> bool:
        """Whether these days may have to be reported by codes that are more specific (D41): they are those of
        a continuous glucose sensor, and no other device has as many as are needed."""
        return CODES_OPEN in self.unverified and not any(
            len(one.days) >= least
            for one in self.every
            if not any(CODES_OPEN in reading.unverified for reading in one.earliest)
        )


class _Placed(Struct, gc=False):
    """Device charges by episode and period. `unclear`: the days of those that fit none, None where they may
    be any; `taken_back`: of those that fit none and charge nothing any more."""

    charges: dict[tuple[int, int], list[PriorCharge]] = field(default_factory=dict)
    unclear: list[Window | None] = field(default_factory=list)
    taken_back: list[Window | None] = field(default_factory=list)


def device_candidates(chart: ProgramChart) -> list[Candidate]:
    """Both tiers of every line with a counted day or a device charge, in each 30-day period."""
    found: list[Candidate] = []
    placed = _place_charges(chart)
    for position, episode in enumerate(chart.episodes):
        if episode.anchor is None:
            continue
        silent = None if episode.documented else silence(episode, chart.policy)
        numbers = {*episode.periods, *(number for at, number in placed.charges if at == position)}
        for number in sorted(numbers):
            window = episode.window(number)
            charges = placed.charges.get((position, number), [])
            in_window = _window_candidates(chart, episode, number, window, charges)
            doubts = episode_doubts(episode)
            if touches(window, placed.unclear):
                doubts |= {ReviewReason.CHARGED_PERIOD_UNCLEAR}
            if silent is not None and _has_day_after(episode, number, silent.end):
                doubts |= {ReviewReason.EPISODE_UNCLEAR}
            for candidate in in_window:
                candidate.episode = position
                candidate.reasons |= doubts
                if touches(window, placed.taken_back):
                    candidate.unverified |= {Unverified.PRIOR_CHARGES}
            found += in_window
    _add_late_charges(chart, placed, found)
    return found


def charges_without_window(chart: ProgramChart) -> set[Excluded]:
    """Device charges that no decision could be held against, since the program shows no period at all."""
    if any(episode.anchor is not None for episode in chart.episodes):
        return set()
    return {
        Excluded(charge.resource, ExcludedReason.CHARGED_PERIOD_UNCLEAR)
        for charge in chart.charges_of(Kind.DEVICE_SUPPLY)
        if charge.sole
    }


def episode_doubts(episode: Episode) -> Reasons:
    """Doubts that hold for every code that hangs on the episode's grid."""
    doubts: set[ReviewReason | str] = set()
    if episode.unclear:
        doubts.add(ReviewReason.EPISODE_UNCLEAR)
    if episode.anchor_moved:
        doubts.add(ReviewReason.ANCHOR_MOVED)
    if not episode.anchor_fixed:
        doubts.add(ReviewReason.HISTORY_INCOMPLETE)
    return frozenset(doubts)


def best_count(chart: ProgramChart, every: list[Series], last: date) -> DayCount:
    """The best single device type, or the union where the payer counts so; until the window's last day."""
    as_of = chart.as_of
    free = (last - as_of).days + 1 if as_of <= last else 0
    if chart.policy.multi_device_union and every:
        every = [merged(every)]
    best: Series | None = None
    for series in every:
        if best is None or len(series.days) > len(best.days):
            best = series
    evidence = () if best is None else tuple(best.earliest)
    reach = len(evidence)
    if free:
        # Today counts as still to come only where nothing counted on it yet.
        most = [len(series.days) + free - (1 if as_of in series.days else 0) for series in every]
        reach = max(most, default=free)
    return DayCount(
        len(evidence),
        reach,
        evidence,
        tuple([reading.resource for reading in evidence]),
        tuple([reading.resource for _, of_day in best.readings() for reading in of_day])
        if chart.all_evidence and best is not None
        else (),
        frozenset().union(*{reading.unverified for reading in evidence}),
        tuple(every),
    )


def days_requirement(terms: Terms, count: DayCount) -> Requirement:
    return Requirement(
        RequirementKind.MONITORING_DAYS,
        Unit.DAYS,
        terms.least,
        count.found,
        count.found >= terms.least,
        count.names,
        terms.reference,
        count.all_names,
    )


def _place_charges(chart: ProgramChart) -> _Placed:
    """Each device charge in its period, and what fits none."""
    found = _Placed()
    charges = chart.charges_of(Kind.DEVICE_SUPPLY)
    stand = uncredited(charges)
    for charge in charges:
        place, occurrence = _place(chart, charge), charge.occurrence
        if place is not None:
            found.charges.setdefault(place, []).append(charge)
        elif charge not in stand:
            found.taken_back.append(occurrence)
        elif occurrence is not None and any(
            occurrence.overlaps(episode.window(number))
            for episode in chart.episodes
            for number in episode.periods
        ):
            found.unclear.append(occurrence)
        else:
            found.unclear.append(None)
    return found


def _place(chart: ProgramChart, charge: PriorCharge) -> tuple[int, int] | None:
    """The episode and period that a device charge belongs to: the one that holds all of its days."""
    occurrence = charge.occurrence if charge.sole else None
    for position, episode in enumerate(chart.episodes):
        if occurrence is None or episode.anchor is None or episode.first_number is None:
            continue
        number = period_number(episode.anchor, occurrence.start)
        if (
            number >= episode.first_number
            and occurrence.end <= episode.window(number).end
            and (episode.end is None or occurrence.start <= episode.end)
        ):
            return position, number
    return None


def _add_late_charges(chart: ProgramChart, placed: _Placed, found: list[Candidate]) -> None:
    """A charge that may be the former period's of its line, dated late, puts that one before a human where it
    is met and uncharged, whichever tier it earned (D29). The former is the last one that was furnished.

    It stays the charge of the period that holds its date as well: a period that shows a charge is never
    suggested, whichever of the two it was for.
    """
    early = [
        one
        for (position, number), charges in placed.charges.items()
        for charge in standing(charges)
        if (one := _too_early(chart, charge, chart.episodes[position].window(number))) is not None
    ]
    charged = {(one.episode, one.window, one.line) for one in found if one.charges}
    for late in early:
        before = [one.window for one in found if one.line is late.line and one.window.start < late.start]
        former = max(before, default=None)
        for candidate in found:
            if (
                candidate.met
                and candidate.window == former
                and candidate.line is late.line
                and (candidate.episode, candidate.window, candidate.line) not in charged
            ):
                candidate.reasons |= {ReviewReason.CHARGED_PERIOD_UNCLEAR}


class _Early(Struct, frozen=True, gc=False):
    """A charge of a date on which its own period could not have earned it. `start`: of that period."""

    line: Line | None
    start: date


def _too_early(chart: ProgramChart, charge: PriorCharge, window: Window) -> _Early | None:
    """A single date in the first days of a period: fewer than the code needs have passed by then."""
    occurrence, rule = charge.occurrence, chart.policy.code(charge.code)
    if occurrence is None or occurrence.start != occurrence.end or charge.quantity <= 0:
        return None
    day = occurrence.start
    least = chart.policy.terms(rule.code, day).least
    return _Early(rule.line, window.start) if (day - window.start).days + 1 < least else None


def _has_day_after(episode: Episode, number: int, last: date) -> bool:
    return any(series.days[-1] > last for series in episode.periods.get(number, {}).values())


def _window_candidates(
    chart: ProgramChart, episode: Episode, number: int, window: Window, charges: list[PriorCharge]
) -> list[Candidate]:
    service_date = episode.service_date(window)
    by_line: dict[Line, list[Series]] = {}
    for one in episode.periods.get(number, {}).values():
        by_line.setdefault(one.line, []).append(one)
    for charge in charges:
        charged_line = chart.policy.code(charge.code).line
        if charged_line is not None:
            by_line.setdefault(charged_line, [])
    found: list[Candidate] = []
    for line, series in by_line.items():
        count = best_count(chart, series, service_date)
        unverified = (
            chart.statements.of(service_date, window)
            | count.unverified
            | chart.readings_unverified(Window(window.start, service_date))
        )
        if not count.evidence:
            unverified |= _UNVERIFIED
        if episode.may_be_another(window):
            unverified |= {Unverified.ENROLMENT}
        tiers = [
            _candidate(chart, terms, window, service_date, count, charges, unverified)
            for terms in chart.policy.in_force(chart.program, _KINDS, service_date)
            if terms.rule.line is line
        ]
        if not tiers:
            continue
        block_lower_tiers(tiers)
        if episode.doubtful:
            _add_evidence_doubts(chart, tiers, count, _doubtful(episode, line, window))
        _add_incompleteness(chart, episode, tiers, count)
        if chart.as_of <= service_date:
            for candidate in tiers:
                candidate.forecast = _forecast(candidate, tiers, count)
        found += tiers
    return found


def _candidate(
    chart: ProgramChart,
    terms: Terms,
    window: Window,
    service_date: date,
    count: DayCount,
    charges: list[PriorCharge],
    unverified: frozenset[Unverified],
) -> Candidate:
    rule = terms.rule
    met = count.found >= terms.least
    candidate = Candidate(
        rule,
        window,
        service_date,
        chart.as_of <= service_date,
        met,
        count.reach >= terms.least,
        int(met),
        (days_requirement(terms, count),),
        reasons=chart.base_doubts,
        unverified=unverified,
        modifiers=chart.therapy_modifiers(rule, window) if chart.has_therapist else (),
        line=rule.line,
    )
    if terms.changes_within(Window(window.start, service_date), count.found, chart.diagnosed(window)):
        candidate.add_rule_change()
    if charges:
        add_charges(candidate, charges)
        chart.add_charged_otherwise(candidate, charges)
    chart.add_more_specific(candidate, window)
    chart.settle_codes(candidate, still_open=count.codes_open(terms.least))
    chart.add_terms(candidate, terms)
    return candidate


def _doubtful(episode: Episode, line: Line, window: Window) -> list[Reading]:
    return [reading for reading in episode.doubtful if reading.line is line and reading.day in window]


def _add_evidence_doubts(
    chart: ProgramChart, tiers: list[Candidate], count: DayCount, doubtful: list[Reading]
) -> None:
    """Evidence that was left out in doubt: would it make another code of this one?"""
    if not doubtful:
        return
    _add_if_more_days_matter(tiers, count.found, count.with_days(doubtful), chart.doubts_of(doubtful))


def _add_incompleteness(
    chart: ProgramChart, episode: Episode, tiers: list[Candidate], count: DayCount
) -> None:
    """Readings that were not read: would they make another code of it, or begin the periods earlier (D20)?"""
    if chart.record.completeness.whole:
        return
    unread = chart.unread_days(Window(tiers[0].window.start, tiers[0].service_date))
    if unread is not None:
        most = max((unread.most(of_one.days) for of_one in count.every), default=unread.most(()))
        _add_if_more_days_matter(tiers, count.found, most, _INCOMPLETE)
    if chart.may_follow_silence(episode):
        for candidate in tiers:
            candidate.unverified |= {Unverified.ENROLMENT}
    if chart.anchor_may_move(episode):
        for candidate in tiers:
            candidate.reasons |= _INCOMPLETE
            candidate.unmet_reasons |= _INCOMPLETE


def _add_if_more_days_matter(tiers: list[Candidate], found: int, most: int, reasons: Reasons) -> None:
    """Days that may be there besides make a met code doubtful where they could make it another one."""
    changes = any(found < candidate.requirements[0].needed <= most for candidate in tiers)
    for candidate in tiers:
        if candidate.met and changes:
            candidate.reasons |= reasons
        elif not candidate.met and candidate.requirements[0].needed <= most:
            candidate.unmet_reasons |= reasons


def _forecast(candidate: Candidate, tiers: list[Candidate], count: DayCount) -> Forecast | None:
    """What the open window still lacks for this code, or for the higher one it may become."""
    if candidate.blocked_by is not None or candidate.charges:
        return None
    target: Candidate | None = candidate
    if candidate.met:
        target = next(
            (
                other
                for other in tiers
                if other.rule.tier > candidate.rule.tier and not other.met and other.reachable
            ),
            None,
        )
    if target is None or not target.reachable:
        return None
    missing = target.requirements[0].needed - count.found
    until = candidate.service_date - timedelta(days=missing - 1)
    return Forecast(missing, Unit.DAYS, until, target.rule.code)
