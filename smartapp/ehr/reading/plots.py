"""What the readings of a line look like over the days: lowest and highest value of each day, made once when a
chart is read, so that a page draws thirty days whatever the number of readings.

All of it is display: nothing here decides whether a record counts. Never raises on shape.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any, NamedTuple

import msgspec
from msgspec import Raw, Struct

from fhir_mappings.decision import CountedDay
from fhir_mappings.vocabulary import Line, Program
from smartapp.ehr.reading.display import concept_text

MOST_PLOTS = 4
"""Measures of one line that are drawn; a panel of twenty is none."""
MOST_SERIES = 3


class DayOfValues(Struct, frozen=True, array_like=True, gc=False):
    day: date
    lowest: float
    highest: float
    number: int


class Series(Struct, frozen=True):
    """One measured value: "" where a reading has only one."""

    name: str
    days: tuple[DayOfValues, ...]


class Plot(Struct, frozen=True):
    """The readings of one coding in one unit, that counted for a line."""

    program: Program
    line: Line
    what: str
    unit: str
    series: tuple[Series, ...]


class Placed(NamedTuple):
    """To what a reading belongs."""

    program: Program
    line: Line
    day: date


class _Quantity(Struct):
    value: Any = None
    unit: Any = None
    code: Any = None


class _Component(Struct):
    code: Raw = Raw(b"null")
    valueQuantity: _Quantity | None = None  # noqa: N815


class _Measured(Struct):
    code: Raw = Raw(b"null")
    valueQuantity: _Quantity | None = None  # noqa: N815
    valueInteger: Any = None  # noqa: N815
    component: list[_Component] | None = None


_NUMBERS = (int, float)
_DECODER = msgspec.json.Decoder(_Measured)
_Days = dict[date, list[float]]
"""Of each day the lowest and the highest value, and how many there are."""
_Found = dict[tuple[Program, Line, str, str], dict[str, _Days]]


def placed(days: Iterable[CountedDay]) -> dict[str, Placed]:
    """Every reading of the counted days, with where it belongs."""
    found: dict[str, Placed] = {}
    for one in days:
        found.update(dict.fromkeys(one.evidence, Placed(one.program, one.line, one.day)))
    return found


class Plotter:
    """Takes the readings that are `placed`, one at a time, and gives their plots."""

    def __init__(self, where: Mapping[str, Placed]) -> None:
        self._where = where
        self._found: _Found = {}
        self._series: dict[tuple[Program, Line, str, str, str], _Days | None] = {}
        """The same by all that a value is filed under; None where it is one series too many."""
        self._names: dict[bytes, str] = {}

    def add(self, reference: str, raw: bytes) -> None:
        place = self._where.get(reference)
        if place is None or not raw:
            return
        try:
            measured = _DECODER.decode(raw)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return
        what = self._name(measured.code)
        if (whole := _number(measured.valueQuantity, measured.valueInteger)) is not None:
            self._keep(place, what, "", *whole)
            return
        for part in (measured.component or [])[:MOST_SERIES]:
            if (value := _number(part.valueQuantity)) is not None:
                self._keep(place, what, self._name(part.code), *value)

    def plots(self) -> tuple[Plot, ...]:
        """In the order of their lines; of each the measures that were taken on most days."""
        by_line: dict[tuple[Program, Line], list[Plot]] = {}
        for (program, line, what, unit), found in self._found.items():
            series = tuple(
                Series(name, tuple(_day(day, days[day]) for day in sorted(days)))
                for name, days in found.items()
            )
            by_line.setdefault((program, line), []).append(Plot(program, line, what, unit, series))
        return tuple(
            plot
            for key in sorted(by_line)
            for plot in sorted(
                by_line[key], key=lambda plot: (-len(plot.series[0].days), plot.what, plot.unit)
            )[:MOST_PLOTS]
        )

    def _name(self, code: Raw) -> str:
        key = bytes(code)
        name = self._names.get(key)
        if name is None:
            try:
                name = concept_text(msgspec.json.decode(key))
            except (msgspec.MsgspecError, ValueError, RecursionError):
                name = ""
            self._names[key] = name
        return name

    def _keep(self, place: Placed, what: str, name: str, value: float, unit: str) -> None:
        key = (place.program, place.line, what, unit, name)
        try:
            days = self._series[key]
        except KeyError:
            days = self._series[key] = self._days_of(place, what, name, unit)
        if days is None:
            return
        known = days.get(place.day)
        if known is None:
            days[place.day] = [value, value, 1]
            return
        if value < known[0]:
            known[0] = value
        elif value > known[1]:
            known[1] = value
        known[2] += 1

    def _days_of(self, place: Placed, what: str, name: str, unit: str) -> _Days | None:
        series = self._found.setdefault((place.program, place.line, what, unit), {})
        if name not in series and len(series) >= MOST_SERIES:
            return None
        return series.setdefault(name, {})


def _day(day: date, values: list[float]) -> DayOfValues:
    lowest, highest, number = values
    return DayOfValues(day, lowest, highest, int(number))


def _number(quantity: _Quantity | None, integer: object = None) -> tuple[float, str] | None:
    """A value that can be drawn, and its unit."""
    value: Any = quantity.value if quantity is not None else integer
    # By its type itself: a bool is no number, and `isinstance` takes several times as long.
    if type(value) not in _NUMBERS or abs(value) > 1e9:
        return None
    unit = "" if quantity is None else quantity.unit or quantity.code
    return float(value), unit if isinstance(unit, str) else ""
