"""Readings as monitoring days: what days are counted by (D2, D8)."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import date

from msgspec import Struct

from fhir_mappings.record import Reading
from fhir_mappings.vocabulary import Line


class Series(Struct, frozen=True, gc=False):
    """The monitoring days of one line and device type, in order, and beside each its earliest reading.

    `further`: the other readings of a day that has several, in order; also of days that are no part of this.
    """

    line: Line
    days: list[date]
    earliest: list[Reading]
    further: dict[date, list[Reading]]

    def readings(self) -> list[tuple[date, list[Reading]]]:
        """Each day with all of its readings, the earliest first."""
        return [
            (day, [first, *self.further.get(day, ())])
            for day, first in zip(self.days, self.earliest, strict=True)
        ]

    def part(self, begin: int, end: int) -> Series:
        """The days from the one position up to the other."""
        return Series(self.line, self.days[begin:end], self.earliest[begin:end], self.further)


def series_of(readings: Iterable[Reading]) -> dict[str, Series]:
    """Readings, sorted by time, by the name of their series."""
    earliest: dict[str, dict[date, Reading]] = {}
    further: dict[str, dict[date, list[Reading]]] = {}
    for reading in readings:
        name, day = reading.series, reading.day
        if name not in earliest:
            earliest[name] = {day: reading}
            further[name] = {}
        elif day not in (days := earliest[name]):
            days[day] = reading
        else:
            further[name].setdefault(day, []).append(reading)
    return {name: _in_order(days, further[name]) for name, days in earliest.items()}


def merged(several: Collection[Series]) -> Series:
    """All of these as one: a day on which any of them has a reading is a day."""
    if len(several) == 1:
        (one,) = several
        return one
    found: dict[date, list[Reading]] = {}
    for series in several:
        for day, readings in series.readings():
            found.setdefault(day, []).extend(readings)
    by_day = {day: earliest_first(readings) for day, readings in found.items()}
    return _in_order(
        {day: readings[0] for day, readings in by_day.items()},
        {day: readings[1:] for day, readings in by_day.items()},
    )


def earliest_first(readings: Iterable[Reading]) -> list[Reading]:
    return sorted(readings, key=lambda reading: (reading.instant, reading.resource))


def _in_order(earliest: dict[date, Reading], further: dict[date, list[Reading]]) -> Series:
    days, as_read = sorted(earliest), list(earliest)
    # A day as somebody's clock wrote it can lie before that of an earlier instant.
    readings = list(earliest.values()) if days == as_read else [earliest[day] for day in days]
    return Series(readings[0].line, days, readings, further)
