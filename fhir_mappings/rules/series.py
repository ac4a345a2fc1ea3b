"""Readings as monitoring days: what days are counted by (D2, D8)."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import date

from msgspec import Struct

from fhir_mappings.record import Reading
from fhir_mappings.vocabulary import Line


class Series(Struct, frozen=True):
    """The monitoring days of one line and device type, in order. `readings`: of each, the earliest first."""

    days: list[date]
    readings: list[list[Reading]]

    @property
    def line(self) -> Line:
        return self.readings[0][0].line

    def part(self, begin: int, end: int) -> Series:
        """The days from the one position up to the other."""
        return Series(self.days[begin:end], self.readings[begin:end])


def series_of(readings: Iterable[Reading]) -> dict[str, Series]:
    """Readings, sorted by time, by the name of their series."""
    found: dict[str, dict[date, list[Reading]]] = {}
    for reading in readings:
        series, day = reading.series, reading.day
        if series not in found:
            found[series] = {day: [reading]}
        elif day in (days := found[series]):
            days[day].append(reading)
        else:
            days[day] = [reading]
    return {series: _in_order(days) for series, days in found.items()}


def merged(several: Collection[Series]) -> Series:
    """All of these as one: a day on which any of them has a reading is a day."""
    if len(several) == 1:
        (one,) = several
        return one
    found: dict[date, list[Reading]] = {}
    for series in several:
        for day, readings in zip(series.days, series.readings, strict=True):
            found.setdefault(day, []).extend(readings)
    return _in_order({day: earliest_first(readings) for day, readings in found.items()})


def earliest_first(readings: Iterable[Reading]) -> list[Reading]:
    return sorted(readings, key=lambda reading: (reading.instant, reading.resource))


def _in_order(by_day: dict[date, list[Reading]]) -> Series:
    # A day as somebody's clock wrote it can lie before that of an earlier instant.
    days = sorted(by_day)
    return Series(days, [by_day[day] for day in days])
