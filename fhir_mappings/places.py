"""Where a patient was, by what Encounters say (D26).

An Encounter speaks of what names it, and of what was measured at its time. A stay says where the patient was;
a visit only that they came in on that day; a class that nobody knows may have been a stay. In doubt a reading
is no home reading.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from enum import IntEnum

from msgspec import Struct
from msgspec.structs import replace

from fhir_mappings.local_time import DAY_MICROSECONDS, MICROSECONDS, LocalClock, Moment, TimeProblem, Window
from fhir_mappings.observation import Measurement
from fhir_mappings.resources import Period
from fhir_mappings.vocabulary import Activity, Place

_LONGEST_VISIT = 18 * 60 * 60 * MICROSECONDS
"""From here on a visit's period is its day's, not the time that the patient was there."""
NOT_FACE_TO_FACE = frozenset(
    {
        Activity.PHONE_CALL,
        Activity.VIDEO_CALL,
        Activity.VIRTUAL,
        Activity.DATA_REVIEW,
        Activity.MESSAGE,
        Activity.ADMINISTRATIVE,
    }
)
"""An Encounter of these says nothing of where the patient was, whatever its class."""


class Where(IntEnum):
    """Where something was measured: of two answers the greater holds."""

    HOME = 0
    """Nothing says that it was elsewhere."""
    UNVERIFIED = 1
    """It counts, and that it was at home is to be confirmed."""
    UNCLEAR = 2
    """It may have been a facility."""
    IN_FACILITY = 3


class Extent(Struct, frozen=True, gc=False):
    """From when to when an Encounter says that it was: a half-open span, each end as far as it is known.

    `exact`: both ends are instants, not days. `contradicts`: it ends before it starts, and has no end here.
    """

    start: int | None = None
    end: int | None = None
    exact: bool = False
    contradicts: bool = False

    def is_longer_than_a_day(self, clock: LocalClock) -> bool:
        return (
            self.start is not None
            and self.end is not None
            and is_longer_than_a_day(self.start, self.end, clock)
        )

    def days(self, clock: LocalClock) -> Window | None:
        """The local days it lies on; of an unknown beginning or end, the day of the other."""
        if self.start is None:
            return None if self.end is None else _one_day(self.end - 1, clock)
        if self.end is None:
            return _one_day(self.start, clock)
        return Window(clock.day_of(self.start), clock.day_of(max(self.start, self.end - 1)))


def extent_of(period: Period | None, seconds: int | None, clock: LocalClock) -> Extent:
    """`seconds`: the Encounter's length, which stands in for an end."""
    if period is None:
        return Extent()
    start, end = clock.read(period.start), clock.read(period.end)
    opens = None if isinstance(start, TimeProblem) else start.instant
    if isinstance(end, Moment):
        closes = clock.day_span(end.day)[1] if end.date_only else end.instant
        if opens is not None and closes < opens:
            return Extent(opens, contradicts=True)
        return Extent(opens, closes, isinstance(start, Moment) and not (start.date_only or end.date_only))
    if isinstance(start, TimeProblem) or not seconds or seconds < 0:
        return Extent(opens)
    closes = start.instant + seconds * MICROSECONDS
    if start.date_only:
        # Somewhen on that day.
        closes = max(closes, clock.day_span(start.day)[1])
    return Extent(start.instant, closes, not start.date_only)


def is_longer_than_a_day(start: int, end: int, clock: LocalClock) -> bool:
    """Longer than 24 hours, and than the day on which it began where the clocks make that one longer."""
    if end - start <= DAY_MICROSECONDS:
        return False
    opens, closes = clock.day_span(clock.day_of(start))
    return end - start > closes - opens


class Presence(Struct, frozen=True, gc=False):
    """What one Encounter says of where its patient was.

    `named`: of what names it and was measured on one of `days` (None: whenever); on other days that leaves
    open where it was. `timed`: of what was measured from `start` until `end` (None: still there). `undated`:
    it was a stay, and nobody knows when.
    """

    named: Where = Where.HOME
    days: Window | None = None
    timed: Where = Where.HOME
    start: int = 0
    end: int | None = None
    undated: bool = False


NOWHERE = Presence()
"""Of an Encounter that says nothing of a place."""


def presence_of(place: Place, extent: Extent, *, is_over: bool, clock: LocalClock) -> Presence:
    """What an Encounter says that took place, or goes on. `place`: by its class."""
    if place is Place.FACILITY:
        return _stay(extent)
    if place is Place.OUTPATIENT:
        return _visit(extent, is_over, clock)
    if place is Place.UNKNOWN:
        return _of_unknown_class(extent, clock)
    return NOWHERE


def _stay(extent: Extent) -> Presence:
    """Admitted: everything that names it or lies in it. No end: still there."""
    if extent.start is None or extent.contradicts:
        return Presence(Where.IN_FACILITY, undated=True)
    return Presence(Where.IN_FACILITY, None, Where.IN_FACILITY, extent.start, extent.end)


def _visit(extent: Extent, is_over: bool, clock: LocalClock) -> Presence:
    """Came in and went: what names it and was measured on that day, and what lies in its time."""
    days = extent.days(clock)
    if extent.is_longer_than_a_day(clock) or (extent.end is None and not is_over):
        # A series, or a container that readings are filed under.
        return Presence(Where.UNVERIFIED)
    if days is None or extent.start is None or extent.end is None:
        return Presence(Where.IN_FACILITY, days)
    if extent.exact and days.start == days.end and extent.end - extent.start < _LONGEST_VISIT:
        return Presence(Where.IN_FACILITY, days, Where.IN_FACILITY, extent.start, extent.end)
    return Presence(Where.IN_FACILITY, days)


def _of_unknown_class(extent: Extent, clock: LocalClock) -> Presence:
    """It was a stay, if the patient stayed overnight."""
    if extent.start is None and extent.end is None:
        return Presence(Where.UNVERIFIED)
    if extent.start is None or extent.end is None:
        return Presence(Where.UNCLEAR)
    days = extent.days(clock)
    if days is None or days.start == days.end:
        return Presence(Where.UNVERIFIED)
    return Presence(Where.UNCLEAR, None, Where.UNCLEAR, extent.start, extent.end)


def together(presences: Iterable[Presence]) -> tuple[Presence, ...]:
    """What Encounters that are one say together (D31): each says its own, but an open copy of one that ended
    is not open."""
    found = tuple(dict.fromkeys(presences))
    ends = [one.end for one in found if one.timed is not Where.HOME and one.end is not None]
    return tuple(
        replace(one, end=max(*ends, one.start))
        if ends and one.timed is not Where.HOME and one.end is None
        else one
        for one in found
    )


class Places:
    """Where one patient was, by all their Encounters."""

    def __init__(self, presences: Iterable[Presence], clock: LocalClock) -> None:
        said = list(presences)
        self._clock = clock
        self._at_least = Where.UNVERIFIED if any(one.undated for one in said) else Where.HOME
        self._timed = [
            (where, spans, [start for start, _ in spans])
            for where in (Where.IN_FACILITY, Where.UNCLEAR)
            if (spans := _merged([one for one in said if one.timed is where]))
        ]
        self.say_nothing = not self._timed and self._at_least is Where.HOME
        """Nothing is known of the patient's places but of what names an Encounter."""

    def by_time(self, found: Measurement) -> Where:
        """Where the patient was at a time; of a bare date, only if the whole day was spent there."""
        for where, spans, starts in self._timed:
            position = bisect_right(starts, found.instant) - 1
            if position >= 0:
                end = spans[position][1]
                if end is None or (
                    self._clock.day_span(found.day)[1] <= end if found.date_only else found.instant < end
                ):
                    return where
        return self._at_least

    def by_name(self, found: Measurement, named: Sequence[Presence]) -> Where:
        """Where something was measured that names an Encounter."""
        day = found.day if found.date_only else self._clock.day_of(found.instant)
        return max(
            (
                Where.UNVERIFIED if one.days is not None and day not in one.days else one.named
                for one in named
            ),
            default=Where.HOME,
        )


def _one_day(instant: int, clock: LocalClock) -> Window:
    day = clock.day_of(instant)
    return Window(day, day)


def _merged(presences: list[Presence]) -> list[tuple[int, int | None]]:
    """Their spans as disjoint ones, in order; an open end swallows all that follows."""
    merged: list[tuple[int, int | None]] = []
    for one in sorted(presences, key=lambda one: one.start):
        if merged and (merged[-1][1] is None or one.start <= merged[-1][1]):
            start, end = merged[-1]
            merged[-1] = (start, None if end is None or one.end is None else max(end, one.end))
        else:
            merged.append((one.start, one.end))
    return merged
