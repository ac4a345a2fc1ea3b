"""Episodes of care and the 30-day grid: from when to when, and where its periods begin (D3, D4)."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from datetime import date, timedelta
from itertools import chain, pairwise

from fhir_mappings.local_time import PERIOD_DAYS, Window, period_number, period_window
from fhir_mappings.record import Excluded, PatientRecord, PriorCharge, Reading, SetUp
from fhir_mappings.rules.policy import Policy
from fhir_mappings.rules.tables import Kind
from fhir_mappings.vocabulary import ExcludedReason, Line, Program

SeriesDays = dict[str, dict[date, list[Reading]]]
"""Readings of each counted day, by series, the earliest first."""


@dataclass(slots=True)
class Episode:
    """One episode of a program. `start` and `end` are the days that limit it, None where nothing does."""

    start: date | None
    end: date | None
    set_up: SetUp | None
    unclear: bool
    """A second EpisodeOfCare without a set-up of its own."""
    documented: bool
    """An EpisodeOfCare covers it, or somebody confirmed it in the app."""
    confirmed: bool
    """By somebody in the app, since the EHR documents none."""
    anchor: date | None = None
    first_day: date | None = None
    anchor_charged: bool = False
    """A charged device period fixes the grid, also backwards."""
    anchor_fixed: bool = False
    start_seen: bool = False
    anchor_moved: bool = False
    days: dict[int, SeriesDays] = field(default_factory=dict)
    """Counted days by number of the 30-day period."""
    counted_days: list[tuple[Line, list[date]]] = field(default_factory=list)
    """The same days of each series, in order, with the series' line."""
    doubtful: list[Reading] = field(default_factory=list)

    def holds(self, day: date) -> bool:
        return (self.start is None or self.start <= day) and (self.end is None or day <= self.end)

    def window(self, number: int) -> Window:
        assert self.anchor is not None
        return period_window(self.anchor, number)

    @property
    def first_number(self) -> int | None:
        """The first period of the grid that belongs to the episode; None while there is no grid."""
        if self.anchor is None:
            return None
        if self.first_day is None:
            return 0
        first = period_number(self.anchor, self.first_day)
        return min(first, 0) if self.anchor_charged else first

    def service_date(self, window: Window) -> date:
        """A period's last day; the episode's, where its end cuts the period."""
        return window.end if self.end is None else min(window.end, self.end)

    @property
    def first_period(self) -> Window | None:
        """The 30-day period in which start-up is earned; before any reading, a month from the start."""
        if self.first_day is not None and self.anchor is not None:
            return self.window(period_number(self.anchor, self.first_day))
        return (
            None if self.start is None else Window(self.start, self.start + timedelta(days=PERIOD_DAYS - 1))
        )


_Home = tuple[Episode, date | None, SeriesDays]
"""An episode, the day before which its readings don't count, and its counted days, not yet numbered."""


def episodes_of(
    record: PatientRecord, program: Program, policy: Policy, excluded: set[Excluded]
) -> list[Episode]:
    """A program's episodes, each with its grid and counted days. Readings outside go to `excluded`."""
    of_ehr = _documented_spans(record, None)
    spans = of_ehr or _documented_spans(record, program)
    set_ups = [set_up for set_up in record.set_ups if set_up.program in (program, Program.ANY)]
    device_charges = [
        charge
        for charge in record.charges
        if charge.occurrence is not None and _is_device_charge(charge, program, policy)
    ]
    charged_before = _was_charged_before(record, program, policy)
    episodes: list[Episode] = []
    for position, (start, end) in enumerate(spans or [(None, None)]):
        own = [
            set_up
            for set_up in set_ups
            if (start is None or start <= set_up.day) and (end is None or set_up.day <= end)
        ]
        set_up = own[0] if own else None
        episodes.append(
            Episode(
                start,
                end,
                set_up,
                unclear=position > 0 and set_up is None,
                documented=bool(spans),
                confirmed=bool(spans) and not of_ehr,
            )
        )
    _share_out(record, program, episodes, device_charges, excluded)
    for position, episode in enumerate(episodes):
        _set_anchor(episode, position, record, program, device_charges, charged_before)
        _number_days(episode)
        if not episode.documented and episode.set_up is not None:
            episode.start = min(filter(None, (episode.set_up.day, episode.first_day)))
        elif not episode.documented:
            episode.start = episode.first_day
    return episodes


def data_days(episodes: list[Episode]) -> list[date]:
    """Every day with a counted reading of a program's episodes, in order."""
    counted = [days for episode in episodes for _, days in episode.counted_days]
    # A dict keeps them in their order, nearly sorted already; a set would have to be sorted anew.
    return counted[0] if len(counted) == 1 else sorted(dict.fromkeys(chain(*counted)))


def silence(days: list[date], policy: Policy) -> Window | None:
    """The first run of empty days that is too long to tell whether care went on (D4). `days`: with data."""
    allowed = policy.empty_days_until_episode_unclear
    # Mostly so few days are empty in all that no gap can be too long: nothing has to be looked through.
    if not days or (days[-1] - days[0]).days + 1 - len(days) <= allowed:
        return None
    longest, one = timedelta(days=allowed + 1), timedelta(days=1)
    return next(
        (Window(before + one, after - one) for before, after in pairwise(days) if after - before > longest),
        None,
    )


def _documented_spans(record: PatientRecord, program: Program | None) -> list[tuple[date, date | None]]:
    """EpisodesOfCare (None: the EHR's; else those of a program confirmed in the app) as spans of days; those
    that overlap are one."""
    spans: list[tuple[date, date | None]] = []
    known = sorted(
        (episode.start, episode.end or date.max)
        for episode in record.episodes
        if episode.program is program
        and episode.start is not None
        and (episode.end is None or episode.start <= episode.end)
    )
    for start, end in known:
        last = None if end == date.max else end
        if spans and (spans[-1][1] is None or start <= spans[-1][1]):
            former = spans[-1][1]
            spans[-1] = (spans[-1][0], None if former is None or last is None else max(former, last))
        else:
            spans.append((start, last))
    return spans


def _is_device_charge(charge: PriorCharge, program: Program, policy: Policy) -> bool:
    rule = policy.code(charge.code)
    return rule.kind is Kind.DEVICE_SUPPLY and rule.program is program


def _was_charged_before(record: PatientRecord, program: Program, policy: Policy) -> bool:
    """Whether the program was charged before what was read begins."""
    since = record.history_from
    return since is not None and any(
        charge.occurrence is not None
        and charge.occurrence.start < since
        and policy.code(charge.code).program is program
        for charge in record.charges
    )


def _share_out(
    record: PatientRecord,
    program: Program,
    episodes: list[Episode],
    device_charges: list[PriorCharge],
    excluded: set[Excluded],
) -> None:
    """Give each reading to its episode, or to `excluded`."""
    starts = [charge.occurrence.start for charge in device_charges if charge.occurrence is not None]
    floors: list[date | None] = []
    for position, episode in enumerate(episodes):
        floor = episode.set_up.day if episode.set_up is not None else None
        if floor is not None and any(
            start < floor and (position == 0 or episode.holds(start)) for start in starts
        ):
            # A device was already charged before this set-up, so it wasn't the first one.
            floor = None
        floors.append(floor)
    homes: list[_Home] = [
        (episode, floor, episode.days.setdefault(0, {}))
        for episode, floor in zip(episodes, floors, strict=True)
    ]
    physiologic, of_this_program = Line.PHYSIOLOGIC, program is Program.RPM
    for readings, doubtful in ((record.readings, False), (record.doubtful_readings, True)):
        day: date | None = None
        home: _Home | None = None
        for reading in readings:
            if (reading.line is physiologic) is not of_this_program:
                continue
            if reading.day != day:
                # Sorted by time, readings of one day and of one episode mostly follow each other.
                day = reading.day
                if home is None or not home[0].holds(day):
                    home = _home_of(day, homes)
            if home is None:
                if not doubtful:
                    excluded.add(Excluded(reading.resource, ExcludedReason.OUTSIDE_EPISODE))
                    first = episodes[0]
                    if first.confirmed and first.start is not None and day < first.start:
                        # Whoever confirmed the beginning did not know of this reading, or left it out.
                        first.anchor_moved = True
                continue
            episode, floor, unnumbered = home
            if floor is not None and day < floor:
                if not doubtful:
                    excluded.add(Excluded(reading.resource, ExcludedReason.BEFORE_SET_UP))
            elif doubtful:
                episode.doubtful.append(reading)
            else:
                by_day = unnumbered.get(reading.series)
                if by_day is None:
                    by_day = unnumbered[reading.series] = {}
                if day in by_day:
                    by_day[day].append(reading)
                else:
                    by_day[day] = [reading]


def _home_of(day: date, homes: list[_Home]) -> _Home | None:
    for home in homes:
        if home[0].holds(day):
            return home
    return None


def _set_anchor(
    episode: Episode,
    position: int,
    record: PatientRecord,
    program: Program,
    device_charges: list[PriorCharge],
    charged_before: bool,
) -> None:
    """Device periods already charged, else the enrolment, else the first qualifying day."""
    series = episode.days.get(0, {})
    episode.first_day = min((day for days in series.values() for day in days), default=None)
    charged = [
        charge.occurrence.start
        for charge in device_charges
        if charge.occurrence is not None
        and (charge.occurrence.end - charge.occurrence.start).days == PERIOD_DAYS - 1
        and (
            episode.holds(charge.occurrence.start)
            or (position == 0 and episode.start is not None and charge.occurrence.start < episode.start)
        )
    ]
    enrolled = [
        enrolment.anchor
        for enrolment in record.enrolments
        if enrolment.program is program and episode.holds(enrolment.anchor)
    ]
    if charged:
        episode.anchor = min(charged)
        episode.anchor_charged = True
    elif enrolled:
        episode.anchor = enrolled[-1]
        episode.anchor_moved |= episode.first_day is not None and episode.first_day < episode.anchor
    else:
        episode.anchor = episode.first_day
    # Where older data may exist, only a documented beginning says that the first day seen was the first.
    episode.start_seen = (
        record.history_from is None
        # A set-up begins the care; where an EpisodeOfCare or a charge says that it began before, it may be a
        # second one.
        or (episode.set_up is not None and episode.start is None and not charged_before)
        or (episode.start is not None and episode.start >= record.history_from)
    )
    episode.anchor_fixed = bool(charged or enrolled or episode.start_seen)


def _number_days(episode: Episode) -> None:
    """Sort the counted days into the periods of the grid."""
    unsorted = episode.days.pop(0, {})
    anchor = episode.anchor
    if anchor is None:
        return
    for series, by_day in unsorted.items():
        ordered = sorted(by_day)
        episode.counted_days.append((next(iter(by_day.values()))[0].line, ordered))
        begin = 0
        while begin < len(ordered):
            number = period_number(anchor, ordered[begin])
            end = bisect_right(ordered, period_window(anchor, number).end, begin)
            in_period = {day: by_day[day] for day in ordered[begin:end]}
            episode.days.setdefault(number, {})[series] = in_period
            begin = end
