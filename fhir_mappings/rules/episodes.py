"""Episodes of care and the 30-day grid: from when to when, and where its periods begin (D3, D4)."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Collection
from datetime import date, timedelta
from itertools import pairwise

from msgspec import Struct, field

from fhir_mappings.local_time import ONE_DAY, PERIOD_DAYS, Window, clock_of, period_number, period_window
from fhir_mappings.record import Excluded, PatientRecord, PriorCharge, Reading, SetUp
from fhir_mappings.rules.charged import uncredited
from fhir_mappings.rules.policy import Policy
from fhir_mappings.rules.series import Series
from fhir_mappings.rules.tables import Kind
from fhir_mappings.vocabulary import ExcludedReason, Program


class Episode(Struct, gc=False):
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
    perhaps_after: date | None = None
    """The last day of an EpisodeOfCare that seems to be about something else, where not all that lies in it
    was read."""
    grid_given: bool = False
    """A charged device period or an enrolment fixes the grid, whatever readings there are."""
    counts_from: date | None = None
    """The first day on which a reading counts, where a set-up or an EpisodeOfCare says so."""
    anchor_fixed: bool = False
    start_seen: bool = False
    anchor_moved: bool = False
    series: dict[str, Series] = field(default_factory=dict)
    """Counted days."""
    periods: dict[int, dict[str, Series]] = field(default_factory=dict)
    """The same by number of the 30-day period."""
    doubtful: list[Reading] = field(default_factory=list)

    def holds(self, day: date) -> bool:
        return (self.start is None or self.start <= day) and (self.end is None or day <= self.end)

    def window(self, number: int) -> Window:
        assert self.anchor is not None
        return period_window(self.anchor, number)

    def may_be_another(self, window: Window) -> bool:
        """Whether, for all that was read, care may have ended before a window."""
        return self.perhaps_after is not None and self.perhaps_after < window.end

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


def episodes_of(
    record: PatientRecord,
    series: dict[str, Series],
    program: Program,
    policy: Policy,
    excluded: set[Excluded],
) -> list[Episode]:
    """A program's episodes, each with its grid and counted days. Readings outside go to `excluded`.

    `series`: the record's readings, of whatever program (`series_of`).
    """
    elsewhere = _about_something_else(record, series, program, policy)
    unread = [last for start, last in elsewhere if _is_unread(record, Window(start, last))]
    of_ehr = _documented_spans(record, None, elsewhere)
    spans = of_ehr or _documented_spans(record, program)
    set_ups = [set_up for set_up in record.set_ups if set_up.program in (program, Program.ANY)]
    device_charges = [
        charge
        for charge in uncredited(record.charges)
        if charge.occurrence is not None and charge.sole and _is_device_charge(charge, program, policy)
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
                perhaps_after=min(unread, default=None),
            )
        )
    floors = _floors(episodes, device_charges)
    for name, one in series.items():
        if one.line.program is program:
            _share_out(name, one, episodes, floors, excluded)
    for reading in record.doubtful_readings:
        if reading.line.program is program:
            _share_out_doubtful(reading, episodes, floors)
    for position, (episode, floor) in enumerate(zip(episodes, floors, strict=True)):
        episode.counts_from = max(filter(None, (episode.start, floor)), default=None)
        _set_anchor(episode, position, record, program, device_charges)
        episode.start_seen = _is_start_seen(episode, floor, record.history_from, charged_before)
        episode.anchor_fixed |= episode.start_seen
        _number_days(episode)
        if not episode.documented and episode.set_up is not None:
            episode.start = min(filter(None, (episode.set_up.day, episode.first_day)))
        elif not episode.documented:
            episode.start = episode.first_day
    return episodes


def silence(episode: Episode, policy: Policy) -> Window | None:
    """The first run of empty days in an episode that is too long to tell whether care went on (D4)."""
    allowed = policy.empty_days_until_episode_unclear
    # A longer run would hold at least so many whole periods of the grid, wherever in one it began.
    whole = (allowed + 1 - (PERIOD_DAYS - 1)) // PERIOD_DAYS
    if whole > 0 and all(after - before <= whole for before, after in pairwise(sorted(episode.periods))):
        return None
    days = sorted(set().union(*[series.days for series in episode.series.values()]))
    longest = timedelta(days=allowed + 1)
    return next(
        (
            Window(before + ONE_DAY, after - ONE_DAY)
            for before, after in pairwise(days)
            if after - before > longest
        ),
        None,
    )


def _about_something_else(
    record: PatientRecord, series: dict[str, Series], program: Program, policy: Policy
) -> set[tuple[date, date]]:
    """From when to when the EHR's EpisodesOfCare lasted that are over and hold nothing of the program: no EHR
    says what one is about, and a knee operated on years ago must not end, or begin, this program's care.

    Each program is asked by itself. One that holds anything of it ends it as ever; one that goes on may still
    come to hold something.
    """
    over = [
        (episode.start, episode.end)
        for episode in record.episodes
        if episode.program is None
        and episode.start is not None
        and episode.end is not None
        and episode.start <= episode.end < record.as_of
    ]
    if not over:
        return set()
    traces = _traces(record, series, program, policy)
    return {
        (start, end)
        for start, end in over
        if not any(trace.start <= end and start <= trace.end for trace in traces)
    }


def _traces(
    record: PatientRecord, series: dict[str, Series], program: Program, policy: Policy
) -> list[Window]:
    """All days on which anything of a program lies, whether or not it counts."""
    clock = clock_of(record.zone)
    days = {day for one in series.values() if one.line.program is program for day in one.days}
    days |= {reading.day for reading in record.doubtful_readings if reading.line.program is program}
    days |= {set_up.day for set_up in record.set_ups if set_up.program in (program, Program.ANY)}
    days |= {enrolment.anchor for enrolment in record.enrolments if enrolment.program is program}
    days |= {contact.day for contact in record.contacts if contact.program is program}
    found = [Window(day, day) for day in days]
    found += [
        Window(clock.day_of(time.start), clock.day_of(max(time.start, time.end - 1)))
        for time in record.management
        if time.program is program
    ]
    found += [
        charge.occurrence
        for charge in record.charges
        if charge.occurrence is not None and policy.code(charge.code).program is program
    ]
    found += [Window(start, end or date.max) for start, end in _documented_spans(record, program)]
    return found


def _is_unread(record: PatientRecord, days: Window) -> bool:
    """Whether something of the program may lie in these days that was not read."""
    since = record.history_from
    missing = record.completeness.of
    return (since is not None and days.start < since) or bool(
        missing("Observation", days) or missing("Encounter", days)
    )


def _documented_spans(
    record: PatientRecord, program: Program | None, elsewhere: Collection[tuple[date, date]] = ()
) -> list[tuple[date, date | None]]:
    """EpisodesOfCare (None: the EHR's; else those of a program confirmed in the app) as spans of days; those
    that overlap are one. `elsewhere`: those that are passed over."""
    spans: list[tuple[date, date | None]] = []
    known = sorted(
        [
            (episode.start, episode.end or date.max)
            for episode in record.episodes
            if episode.program is program
            and episode.start is not None
            and (episode.end is None or episode.start <= episode.end)
            and (episode.start, episode.end) not in elsewhere
        ]
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
    """Whether the program may have been charged before what was read begins: a charge without a date may be
    of any day."""
    since = record.history_from
    return since is not None and any(
        (charge.occurrence is None or charge.occurrence.start < since)
        and policy.code(charge.code).program is program
        for charge in record.charges
    )


def _floors(episodes: list[Episode], device_charges: list[PriorCharge]) -> list[date | None]:
    """Of each episode, the day before which its readings don't count: its set-up."""
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
    return floors


def _share_out(
    name: str, series: Series, episodes: list[Episode], floors: list[date | None], excluded: set[Excluded]
) -> None:
    """Give each day of a series to its episode, or its readings to `excluded`. Episodes are in order, and no
    two of them share a day."""
    days, done = series.days, 0

    def leave_out(begin: int, end: int, reason: ExcludedReason) -> None:
        if begin < end:
            left_out = series.part(begin, end).readings()
            excluded.update(Excluded(one.resource, reason) for _, readings in left_out for one in readings)

    for episode, floor in zip(episodes, floors, strict=True):
        begin = done if episode.start is None else bisect_left(days, episode.start, done)
        end = len(days) if episode.end is None else bisect_right(days, episode.end, begin)
        counts_from = begin if floor is None else bisect_left(days, floor, begin, end)
        leave_out(done, begin, ExcludedReason.OUTSIDE_EPISODE)
        leave_out(begin, counts_from, ExcludedReason.BEFORE_SET_UP)
        if counts_from < end:
            episode.series[name] = series.part(counts_from, end)
        done = end
    leave_out(done, len(days), ExcludedReason.OUTSIDE_EPISODE)
    first = episodes[0]
    if first.confirmed and first.start is not None and days[0] < first.start:
        # Whoever confirmed the beginning did not know of this reading, or left it out.
        first.anchor_moved = True


def _share_out_doubtful(reading: Reading, episodes: list[Episode], floors: list[date | None]) -> None:
    for episode, floor in zip(episodes, floors, strict=True):
        if episode.holds(reading.day) and (floor is None or floor <= reading.day):
            episode.doubtful.append(reading)


def _set_anchor(
    episode: Episode,
    position: int,
    record: PatientRecord,
    program: Program,
    device_charges: list[PriorCharge],
) -> None:
    """Device periods already charged, else the enrolment, else the first qualifying day."""
    episode.first_day = min((series.days[0] for series in episode.series.values()), default=None)
    charged = [
        charge.occurrence.start
        for charge in device_charges
        if charge.occurrence is not None
        and not charge.of_whole_claim
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
    episode.grid_given = episode.anchor_fixed = bool(charged or enrolled)


def _is_start_seen(episode: Episode, floor: date | None, since: date | None, charged_before: bool) -> bool:
    """Whether the first day that was found is the first there was. Where older data may exist, only a
    documented beginning says so."""
    if since is None:
        return True
    if episode.start is not None:
        return episode.start >= since
    # A set-up begins the care; where a charge says that it began before, it may be a second one. Of what came
    # after a set-up from before that day not everything was read.
    return floor is not None and floor >= since and not charged_before


def _number_days(episode: Episode) -> None:
    """Sort the counted days into the periods of the grid."""
    anchor = episode.anchor
    if anchor is None:
        return
    for name, series in episode.series.items():
        days, begin = series.days, 0
        while begin < len(days):
            number = period_number(anchor, days[begin])
            end = bisect_right(days, period_window(anchor, number).end, begin)
            if number not in episode.periods:
                episode.periods[number] = {}
            episode.periods[number][name] = series.part(begin, end)
            begin = end
