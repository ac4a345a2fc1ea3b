"""A small plot of a line's readings over a window, drawn here as SVG paths, with what it shows in words."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from operator import attrgetter

from fhir_mappings.local_time import Window
from fhir_mappings.vocabulary import Line, Program
from smartapp.ehr.reading.plots import DayOfValues, Plot, Series
from smartapp.web import words

_DAY = attrgetter("day")
WIDTH, HEIGHT, MARGIN = 600, 72, 6
"""Of the drawing; the values at its top and bottom are told beside it."""


@dataclass(frozen=True)
class SeriesView:
    name: str
    told: str
    """ "118–141"."""
    path: str
    """A stroke a day from its lowest to its highest value; a dot where they are the same."""


@dataclass(frozen=True)
class PlotView:
    what: str
    unit: str
    series: tuple[SeriesView, ...]
    twin: str
    """The same in words, for whoever does not see it."""
    top: str
    bottom: str

    @property
    def caption(self) -> str:
        """ "Home blood pressure 118–141 / 71–92 mmHg"."""
        values = " / ".join(one.told for one in self.series)
        return f"{self.what} {values} {self.unit}".rstrip()


def plots_in(
    window: Window, program: Program, line: Line | None, plots: Iterable[Plot]
) -> tuple[PlotView, ...]:
    """Those of a window that hold at least two days; `line` None: of every line of the program."""
    found = []
    for plot in plots:
        if plot.program is not program or line not in (None, plot.line):
            continue
        within = [Series(one.name, days) for one in plot.series if (days := _within(one.days, window))]
        if len({day.day for one in within for day in one.days}) > 1:
            found.append(_view(plot, within, window))
    return tuple(found)


def _within(days: tuple[DayOfValues, ...], window: Window) -> tuple[DayOfValues, ...]:
    """Those of a window, of days in their order."""
    first = bisect_left(days, window.start, key=_DAY)
    return days[first : bisect_right(days, window.end, lo=first, key=_DAY)]


def _view(plot: Plot, series: list[Series], window: Window) -> PlotView:
    values = [edge for one in series for day in one.days for edge in (day.lowest, day.highest)]
    lowest, highest = min(values), max(values)
    what = plot.what or "Readings"
    number = len({day.day for one in series for day in one.days})
    unit = f" ({plot.unit})" if plot.unit else ""
    return PlotView(
        what,
        plot.unit,
        tuple(
            SeriesView(one.name, _range(one, "–"), _path(one.days, window, lowest, highest)) for one in series
        ),
        f"{what}{unit}, {number} days: {'; '.join(_told(one) for one in series)}",
        _value(highest),
        _value(lowest),
    )


def _path(days: Iterable[DayOfValues], window: Window, lowest: float, highest: float) -> str:
    # In the middle of its day, so that it stands under the day of the strip.
    step, room = WIDTH / ((window.end - window.start).days + 1), HEIGHT - 2 * MARGIN

    def y(value: float) -> float:
        return (
            MARGIN + room / 2 if highest == lowest else MARGIN + room * (highest - value) / (highest - lowest)
        )

    return "".join(
        f"M{step * ((day.day - window.start).days + 0.5):.0f} {y(day.highest):.0f}V{y(day.lowest):.0f}"
        for day in days
    )


def _range(one: Series, between: str = " to ") -> str:
    lowest, highest = min(day.lowest for day in one.days), max(day.highest for day in one.days)
    return _value(lowest) if lowest == highest else f"{_value(lowest)}{between}{_value(highest)}"


def _told(one: Series) -> str:
    """ "systolic 118 to 141, from 128 on 1 Nov 2026 to 122 on 30 Nov 2026"."""
    first, last = one.days[0], one.days[-1]
    return (
        f"{one.name} {_range(one)}, from {_of_day(first)} on {words.day(first.day)} "
        f"to {_of_day(last)} on {words.day(last.day)}"
    ).strip()


def _of_day(day: DayOfValues) -> str:
    edges = dict.fromkeys((_value(day.lowest), _value(day.highest)))
    return " to ".join(edges)


def _value(value: float) -> str:
    return f"{value:.4g}"
