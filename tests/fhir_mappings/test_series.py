"""Readings by series and day, and several series as one (D2, D8)."""

from __future__ import annotations

from datetime import date

from fhir_mappings.record import Reading
from fhir_mappings.rules.series import Series, merged, series_of
from fhir_mappings.vocabulary import Line

FIRST, SECOND, THIRD = (date(2026, 1, day) for day in (5, 6, 7))


def reading(name: str, day: date, instant: int, series: str = "musculoskeletal|x") -> Reading:
    return Reading(name, Line.MUSCULOSKELETAL, series, day, instant)


def names(series: Series) -> list[tuple[date, list[str]]]:
    return [(day, [one.resource for one in readings]) for day, readings in series.readings()]


def test_a_day_has_all_of_its_readings_and_the_earliest_stands_for_it() -> None:
    found = series_of(
        [
            reading("a", FIRST, 1),
            reading("other", FIRST, 2, "musculoskeletal|y"),
            reading("b", FIRST, 3),
            reading("c", FIRST, 4),
            reading("d", SECOND, 5),
        ]
    )
    assert names(found["musculoskeletal|x"]) == [(FIRST, ["a", "b", "c"]), (SECOND, ["d"])]
    assert [one.resource for one in found["musculoskeletal|x"].earliest] == ["a", "d"]
    assert names(found["musculoskeletal|y"]) == [(FIRST, ["other"])]
    assert names(found["musculoskeletal|x"].part(1, 2)) == [(SECOND, ["d"])]


def test_days_are_in_order_where_clocks_differ() -> None:
    (found,) = series_of([reading("a", SECOND, 1), reading("b", FIRST, 2), reading("c", SECOND, 3)]).values()
    assert names(found) == [(FIRST, ["b"]), (SECOND, ["a", "c"])]


def test_several_series_as_one_name_each_reading_once_the_earliest_first() -> None:
    one = [reading("a", FIRST, 1), reading("d", FIRST, 4), reading("f", THIRD, 6)]
    other = [
        reading(name, day, at, "musculoskeletal|y") for name, day, at in (("b", FIRST, 2), ("e", SECOND, 5))
    ]
    found = merged(series_of([*one, *other]).values())
    assert names(found) == [(FIRST, ["a", "b", "d"]), (SECOND, ["e"]), (THIRD, ["f"])]
    assert [day.resource for day in found.earliest] == ["a", "e", "f"]
