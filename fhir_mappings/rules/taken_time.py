"""Time that no management second may lie in: what belongs to something else, and visit days (D11, D13)."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from datetime import date

from fhir_mappings.local_time import LocalClock
from fhir_mappings.record import ManagementTime, PatientRecord
from fhir_mappings.rules.visits import Visits
from fhir_mappings.vocabulary import ExcludedReason

Spans = list[tuple[int, int]]
"""Half-open, in microseconds UTC."""


class TakenTime:
    """One patient's, for either program. Whose minutes a visit takes is for the program to say (`visits`)."""

    def __init__(self, record: PatientRecord, clock: LocalClock) -> None:
        self._clock = clock
        self._used = _merged((used.start, used.end) for used in record.used_time)
        visited = {clock.day_span(day) for visit in record.visits for day in visit.days}
        self._all = _merged([*self._used, *visited])

    def free_around(self, end: int, opens: int, closes: int) -> tuple[int, int]:
        """Of the span between two instants, the part before `end` and beyond it that nothing takes."""
        following = bisect_left(self._all, (end,))
        if following:
            opens = max(opens, self._all[following - 1][1])
        if following < len(self._all):
            closes = min(closes, self._all[following][0])
        return opens, closes

    def left_of(self, time: ManagementTime, visits: Visits) -> Spans | ExcludedReason:
        """What is left of somebody's time, or what took it. `visits`: as the program sees them."""
        outside_used = _without(time.start, time.end, self._used)
        if not outside_used:
            return ExcludedReason.COVERED_BY_OTHER_TIME
        left = [
            part for start, end in outside_used for part in self._outside_visits(time, visits, start, end)
        ]
        return left or ExcludedReason.SAME_DAY_VISIT

    def _outside_visits(self, time: ManagementTime, visits: Visits, start: int, end: int) -> Spans:
        days: set[date] = {self._clock.day_of(start), self._clock.day_of(end - 1)}
        visited = _merged(self._clock.day_span(day) for day in days if visits.takes(time, day))
        return _without(start, end, visited)


def _merged(spans: Iterable[tuple[int, int]]) -> Spans:
    """Spans as disjoint ones, in order."""
    merged: Spans = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            if end > merged[-1][1]:
                merged[-1] = (merged[-1][0], end)
        else:
            merged.append((start, end))
    return merged


def _without(start: int, end: int, used: Spans) -> Spans:
    """What is left of a span outside the used ones (disjoint and in order)."""
    left: Spans = []
    position = max(bisect_right(used, (start,)) - 1, 0)
    for used_start, used_end in used[position:]:
        if used_start >= end:
            break
        if used_end <= start:
            continue
        if start < used_start:
            left.append((start, used_start))
        start = max(start, used_end)
        if start >= end:
            return left
    left.append((start, end))
    return left
