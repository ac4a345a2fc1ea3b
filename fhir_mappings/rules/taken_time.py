"""Time that no management second may lie in: what belongs to something else, and visit days (D11, D13)."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from datetime import date

from fhir_mappings.local_time import LocalClock
from fhir_mappings.record import ManagementTime, PatientRecord
from fhir_mappings.vocabulary import ExcludedReason, Role

Spans = list[tuple[int, int]]
"""Half-open, in microseconds UTC."""


class TakenTime:
    """One patient's. A visit takes its day only from those whom it touches."""

    def __init__(self, record: PatientRecord, clock: LocalClock) -> None:
        self._clock = clock
        self._used = _merged((used.start, used.end) for used in record.used_time)
        self._visit_days: dict[date, tuple[int, int, set[str]]] = {}
        """The day's span, and whose visits they were."""
        for visit in record.visits:
            for day in visit.days:
                if day not in self._visit_days:
                    self._visit_days[day] = (*clock.day_span(day), set())
                self._visit_days[day][2].update(visit.people)
        visited = [(start, end) for start, end, _ in self._visit_days.values()]
        self._all = _merged([*self._used, *visited])

    def free_around(self, end: int, opens: int, closes: int) -> tuple[int, int]:
        """Of the span between two instants, the part before `end` and beyond it that nothing takes."""
        following = bisect_left(self._all, (end,))
        if following:
            opens = max(opens, self._all[following - 1][1])
        if following < len(self._all):
            closes = min(closes, self._all[following][0])
        return opens, closes

    def is_visit_day(self, time: ManagementTime, day: date) -> bool:
        """Whether the work of this person is out on that day."""
        if day not in self._visit_days:
            return False
        # Who is unknown may be clinical staff, whose minutes of that day don't count.
        return time.role in (Role.CLINICAL_STAFF, Role.UNKNOWN) or (
            time.person is not None and time.person in self._visit_days[day][2]
        )

    def left_of(self, time: ManagementTime) -> Spans | ExcludedReason:
        """What is left of somebody's time, or what took it."""
        outside_used = _without(time.start, time.end, self._used)
        if not outside_used:
            return ExcludedReason.COVERED_BY_OTHER_TIME
        left = [part for start, end in outside_used for part in self._outside_visits(time, start, end)]
        return left or ExcludedReason.SAME_DAY_VISIT

    def _outside_visits(self, time: ManagementTime, start: int, end: int) -> Spans:
        days = {self._clock.day_of(start), self._clock.day_of(end - 1)}
        visited = _merged(self._visit_days[day][:2] for day in days if self.is_visit_day(time, day))
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
