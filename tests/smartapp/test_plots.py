"""The small plot of a line's readings: what it draws, what it says in words, and how little it costs."""

from __future__ import annotations

import json
from datetime import date, timedelta
from typing import Any

import pytest

from fhir_mappings.decision import CountedDay
from fhir_mappings.local_time import Window
from fhir_mappings.vocabulary import Line, Program
from smartapp.ehr.reading.plots import MOST_PLOTS, Plot, Plotter, placed
from smartapp.web.plots import plots_in
from tests.support.packets import findings_of, site_of, stored

FIRST = date(2026, 11, 1)
MONTH = Window(FIRST, FIRST + timedelta(days=29))


def reading(number: float, unit: str = "puffs", what: str = "Inhaler use") -> dict[str, Any]:
    return {"code": {"text": what}, "valueQuantity": {"value": number, "unit": unit}}


def pressure(systolic: float, diastolic: float) -> dict[str, Any]:
    parts = (("Systolic", systolic), ("Diastolic", diastolic))
    return {
        "code": {"text": "Blood pressure"},
        "component": [
            {"code": {"text": name}, "valueQuantity": {"value": value, "unit": "mmHg"}}
            for name, value in parts
        ],
    }


def plotted(*days: list[Any]) -> tuple[Plot, ...]:
    """The plots of readings, day by day from the first on."""
    counted, bodies = [], {}
    for number, readings in enumerate(days):
        names = tuple(f"Observation/{number}-{position}" for position in range(len(readings)))
        counted.append(CountedDay(Program.RTM, Line.RESPIRATORY, FIRST + timedelta(days=number), names))
        bodies |= dict(zip(names, readings, strict=True))
    plotter = Plotter(placed(counted))
    for name, body in bodies.items():
        plotter.add(name, body if isinstance(body, bytes) else json.dumps(body).encode())
    plotter.add("Observation/of-no-counted-day", json.dumps(reading(9999)).encode())
    return plotter.plots()


def test_a_day_is_one_stroke_from_its_lowest_to_its_highest_value():
    (plot,) = plotted([reading(2), reading(4), reading(3)], [reading(1)])
    (view,) = plots_in(MONTH, Program.RTM, Line.RESPIRATORY, [plot])
    (series,) = view.series
    assert series.path == "M10 6V46M30 66V66"
    assert (series.told, view.caption) == ("1–4", "Inhaler use 1–4 puffs")


def test_the_words_say_what_the_plot_shows():
    (view,) = plots_in(MONTH, Program.RTM, None, plotted([reading(2), reading(4)], [], [reading(1)]))
    assert view.twin == ("Inhaler use (puffs), 2 days: 1 to 4, from 2 to 4 on 1 Nov 2026 to 1 on 3 Nov 2026")


def test_a_blood_pressure_is_two_series_of_one_plot():
    (plot,) = plotted([pressure(128, 81)], [pressure(141, 92)])
    assert [one.name for one in plot.series] == ["Systolic", "Diastolic"]
    (view,) = plots_in(MONTH, Program.RTM, None, [plot])
    assert [(one.name, one.told) for one in view.series] == [
        ("Systolic", "128–141"),
        ("Diastolic", "81–92"),
    ]
    assert view.caption == "Blood pressure 128–141 / 81–92 mmHg"
    assert "Systolic 128 to 141, from 128 on 1 Nov 2026 to 141 on 2 Nov 2026; Diastolic" in view.twin


def test_what_is_measured_in_another_unit_is_another_plot():
    found = plotted(
        [reading(80, "kg", "Weight"), reading(176, "lb", "Weight")], [reading(81, "kg", "Weight")]
    )
    assert [(plot.what, plot.unit) for plot in found] == [("Weight", "kg"), ("Weight", "lb")]


def test_of_many_measures_those_of_most_days_are_drawn():
    panel = [reading(1, "u", f"Measure {number}") for number in range(9)]
    found = plotted(panel, [panel[8]])
    assert len(found) == MOST_PLOTS
    assert found[0].what == "Measure 8"


def test_one_day_and_another_window_or_program_are_no_plot():
    one_day, two_days = plotted([reading(2)]), plotted([reading(2)], [reading(3)])
    assert plots_in(MONTH, Program.RTM, None, one_day) == ()
    assert plots_in(MONTH, Program.RPM, None, two_days) == ()
    assert plots_in(MONTH, Program.RTM, Line.MUSCULOSKELETAL, two_days) == ()
    later = Window(MONTH.end + timedelta(days=1), MONTH.end + timedelta(days=30))
    assert plots_in(later, Program.RTM, None, two_days) == ()


@pytest.mark.parametrize(
    "odd",
    [
        b"",
        b"not json",
        b"[]",
        {"code": {"text": "x"}, "valueString": "done"},
        {"code": {"text": "x"}, "valueQuantity": {"value": "7"}},
        {"code": {"text": "x"}, "valueQuantity": {"value": True}},
        {"code": {"text": "x"}, "valueQuantity": {"value": 1e300}},
        {"code": 7, "valueQuantity": [3]},
        {"code": {"text": "x"}, "component": [7]},
    ],
    ids=str,
)
def test_what_cannot_be_drawn_is_left_out_and_harms_nothing(odd):
    (plot,) = plotted([reading(2), odd], [reading(3), odd])
    assert plot.what == "Inhaler use"


def test_thousands_of_readings_are_drawn_with_a_stroke_a_day():
    days = [[reading(number % 100) for number in range(1500)] for _ in range(30)]
    (view,) = plots_in(MONTH, Program.RTM, None, plotted(*days))
    assert view.series[0].path.count("M") == 30
    assert len(view.series[0].path) < 500


def test_only_what_counted_is_drawn(tmp_path):
    site = site_of(tmp_path)
    body = {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"system": "urn:clinic:flowsheet", "code": "PUFFS", "display": "Puffs"}]},
        "subject": {"reference": "Patient/p1"},
    }
    rows = [{"resourceType": "Patient", "id": "p1"}]
    for number, status in enumerate(("final", "final", "entered-in-error")):
        at = f"2026-03-0{number + 1}T08:00:00-05:00"
        value = {"value": number + 1, "unit": "puffs"}
        rows.append(
            {**body, "id": f"o{number}", "status": status, "effectiveDateTime": at, "valueQuantity": value}
        )
    (plot,) = findings_of(stored(rows), site, date(2026, 5, 1)).plots
    assert [(one.day, one.lowest) for one in plot.series[0].days] == [
        (date(2026, 3, 1), 1),
        (date(2026, 3, 2), 2),
    ]
