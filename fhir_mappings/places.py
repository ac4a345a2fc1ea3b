"""Where a patient was, by what Encounters say (D26).

An Encounter speaks of what names it, and of what was measured at its time. A stay says where the patient was;
a visit only that they came in on that day; a class that nobody knows may have been a stay. In doubt a reading
is no home reading.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
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


# Until Python 3.12 naming a member of an enum takes long, and `by_name` is asked of every reading.
_HOME, _UNVERIFIED = Where.HOME, Where.UNVERIFIED


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


Span = tuple[int, int | None]
"""Half-open; without an end it goes on."""


class Presence(Struct, frozen=True, gc=False):
    """What one Encounter says of where its patient was.

    `named`: of what names it and was measured within `days` (None: whenever); beyond them that leaves open
    where it was. `timed`: of what was measured within `span`. `undated`: a stay, and nobody knows when.
    """

    named: Where
    days: tuple[int, int] | None = None
    """Whole local days. A bare date is its day's first instant: it lies within them, or not, as well."""
    timed: Where = Where.HOME
    span: Span = (0, 0)
    undated: bool = False


def presence_of(place: Place, extent: Extent, *, is_over: bool, clock: LocalClock) -> Presence | None:
    """What an Encounter says that took place, or goes on: None for nothing. `place`: by its class."""
    if place is Place.FACILITY:
        return _stay(extent)
    if place is Place.OUTPATIENT:
        return _visit(extent, is_over, clock)
    if place is Place.UNKNOWN:
        return _of_unknown_class(extent, clock)
    return None


def _stay(extent: Extent) -> Presence:
    """Admitted: everything that names it or lies in it. No end: still there."""
    if extent.start is None or extent.contradicts:
        return Presence(Where.IN_FACILITY, undated=True)
    return Presence(Where.IN_FACILITY, None, Where.IN_FACILITY, (extent.start, extent.end))


def stay_within(extent: Extent, whole: Extent) -> Presence:
    """Admitted for a part of an Encounter that is no stay by its class of now: what lies in that time, at the
    longest until the Encounter ended."""
    ends = whole.end if extent.end is None and not extent.contradicts else extent.end
    return replace(_stay(replace(extent, end=ends)), named=Where.UNVERIFIED)


def _visit(extent: Extent, is_over: bool, clock: LocalClock) -> Presence:
    """Came in and went: what names it and was measured on that day, and what lies in its time."""
    if extent.is_longer_than_a_day(clock) or (extent.end is None and not is_over):
        # A series, or a container that readings are filed under.
        return Presence(Where.UNVERIFIED)
    days = extent.days(clock)
    if days is None:
        return Presence(Where.IN_FACILITY)
    on_its_day = Presence(Where.IN_FACILITY, (clock.midnight(days.start), clock.day_span(days.end)[1]))
    if extent.start is None or extent.end is None or not extent.exact or days.start != days.end:
        return on_its_day
    if extent.end - extent.start >= _LONGEST_VISIT:
        return on_its_day
    return replace(on_its_day, timed=Where.IN_FACILITY, span=(extent.start, extent.end))


def _of_unknown_class(extent: Extent, clock: LocalClock) -> Presence:
    """It was a stay, if the patient stayed overnight."""
    if extent.start is None and extent.end is None:
        return Presence(Where.UNVERIFIED)
    if extent.start is None or extent.end is None:
        return Presence(Where.UNCLEAR)
    days = extent.days(clock)
    if days is None or days.start == days.end:
        return Presence(Where.UNVERIFIED)
    return Presence(Where.UNCLEAR, None, Where.UNCLEAR, (extent.start, extent.end))


def together(presences: Iterable[Presence]) -> tuple[Presence, ...]:
    """What Encounters that are one say together (D31): each says its own, but an open copy of one that ended
    is not open."""
    found = tuple(dict.fromkeys(presences))
    ends = [one.span[1] for one in found if one.timed is not Where.HOME and one.span[1] is not None]
    if not ends:
        return found
    return tuple(
        replace(one, span=(one.span[0], max(*ends, one.span[0]))) if one.span[1] is None else one
        for one in found
    )


def places_by_time(presences: Iterable[Presence], clock: LocalClock) -> Callable[[Measurement], Where] | None:
    """Where the patient was when something was measured, by all their Encounters; of a bare date, only if the
    whole day was spent there. None where no time says anything."""
    said = list(presences)
    at_least = Where.UNVERIFIED if any(one.undated for one in said) else Where.HOME
    timed = {
        where: _merged([one.span for one in said if one.timed is where])
        for where in (Where.IN_FACILITY, Where.UNCLEAR)
    }
    edges = sorted({edge for spans in timed.values() for span in spans for edge in span if edge is not None})
    if not edges and at_least is Where.HOME:
        return None
    # Before the first of these instants, and from each of them until the next.
    answers = [
        at_least,
        *(
            next((where for where, spans in timed.items() if _within(edge, spans)), at_least)
            for edge in edges
        ),
    ]

    def by_time(found: Measurement) -> Where:
        if found.date_only:
            opens, closes = clock.day_span(found.day)
            return min(answers[bisect_right(edges, opens) : bisect_left(edges, closes) + 1])
        return answers[bisect_right(edges, found.instant)]

    return by_time


def by_name(found: Measurement, named: Sequence[Presence]) -> Where:
    """Where something was measured that names an Encounter, which says this."""
    where = _HOME
    for one in named:
        days = one.days
        said = one.named if days is None or days[0] <= found.instant < days[1] else _UNVERIFIED
        if said > where:
            where = said
    return where


def _one_day(instant: int, clock: LocalClock) -> Window:
    day = clock.day_of(instant)
    return Window(day, day)


def _within(instant: int, spans: list[Span]) -> bool:
    position = bisect_right(spans, instant, key=lambda span: span[0]) - 1
    if position < 0:
        return False
    end = spans[position][1]
    return end is None or instant < end


def _merged(spans: list[Span]) -> list[Span]:
    """Spans as disjoint ones, in order; an open end swallows all that follows."""
    merged: list[Span] = []
    for start, end in sorted(spans, key=lambda span: span[0]):
        if merged and ((before := merged[-1][1]) is None or start <= before):
            merged[-1] = (merged[-1][0], None if before is None or end is None else max(before, end))
        else:
            merged.append((start, end))
    return merged
