"""FHIR's date prefixes, with the ranges that dates of every precision stand for."""

from __future__ import annotations

import sqlite3

import pytest

from launch.sandbox.dates import OPEN_HIGH, OPEN_LOW, condition, date_range, split_prefix, value_ranges

HOUR = 3_600_000


def fits(search: str, stored: object) -> bool:
    [range_] = value_ranges(stored)
    sql, values = condition(*split_prefix(search))
    connection = sqlite3.connect(":memory:")
    try:
        found = connection.execute(
            f"SELECT 1 FROM (SELECT ? AS low, ? AS high) WHERE {sql}", [range_.low, range_.high, *values]
        ).fetchone()
    finally:
        connection.close()
    return found is not None


@pytest.mark.parametrize(
    ("search", "stored", "expected"),
    [
        # A day in a search holds every moment of that local day, and nothing of its neighbours.
        ("2026-03-05", "2026-03-05T00:00:00-05:00", True),
        ("2026-03-05", "2026-03-05T23:59:59-05:00", True),
        ("2026-03-05", "2026-03-06T00:00:00-05:00", False),
        ("eq2026-03-05", "2026-03-06T04:59:59Z", True),
        ("2026-03", "2026-03-31", True),
        ("2026-03-05", "2026-03", False),
        ("ne2026-03-05", "2026-03-05T12:00:00-05:00", False),
        ("ne2026-03-05", "2026-03-06", True),
        # gt and lt: the stored range reaches beyond the searched one.
        ("gt2026-03-05", "2026-03-05T23:59:59-05:00", False),
        ("gt2026-03-05", "2026-03-06T00:00:00-05:00", True),
        ("gt2026-03-05", {"start": "2026-03-01", "end": "2026-03-06"}, True),
        ("lt2026-03-05", "2026-03-05T00:00:00-05:00", False),
        ("lt2026-03-05", "2026-03-04T23:59:59-05:00", True),
        ("lt2026-03-05", {"start": "2026-03-04", "end": "2026-03-09"}, True),
        # ge and le: beyond, or inside.
        ("ge2026-03-05", "2026-03-05T00:00:00-05:00", True),
        ("ge2026-03-05", "2026-03-04T23:59:59-05:00", False),
        ("ge2026-03-05", {"start": "2026-03-01", "end": "2026-03-31"}, True),
        ("ge2026-03-05", {"start": "2026-03-01", "end": "2026-03-05"}, False),
        ("le2026-03-05", "2026-03-05T23:59:59-05:00", True),
        ("le2026-03-05", "2026-03-06T00:00:00-05:00", False),
        ("le2026-03-05", {"start": "2026-03-01", "end": "2026-03-31"}, True),
        ("le2026-03-05", {"start": "2026-03-05", "end": "2026-03-31"}, False),
        # sa and eb: wholly after, wholly before.
        ("sa2026-03-05", "2026-03-06", True),
        ("sa2026-03-05", {"start": "2026-03-05", "end": "2026-03-31"}, False),
        ("eb2026-03-05", "2026-03-04", True),
        ("eb2026-03-05", {"start": "2026-03-01", "end": "2026-03-05"}, False),
        # A side left open.
        ("gt2100", {"start": "2026-03-01"}, True),
        ("lt1900", {"end": "2026-03-01"}, True),
        ("eq2026", {"start": "2026-03-01"}, False),
    ],
)
def test_a_prefix_compares_ranges(search, stored, expected):
    assert fits(search, stored) is expected


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("2026", 365 * 24 * HOUR),
        ("2026-02", 28 * 24 * HOUR),
        ("2026-12", 31 * 24 * HOUR),
        ("2026-03-08", 23 * HOUR),
        ("2026-11-01", 25 * HOUR),
        ("2026-03-05T08:00Z", 60_000),
        ("2026-03-05T08:00:00Z", 1_000),
        ("2026-03-05T08:00:00.5+01:00", 1),
    ],
)
def test_a_precision_is_a_width_and_clocks_change_a_day(text, milliseconds):
    found = date_range(text)
    assert found.high - found.low == milliseconds


def test_one_moment_in_two_offsets_is_one_range():
    assert date_range("2026-03-05T08:00:00-05:00") == date_range("2026-03-05T13:00:00Z")
    assert date_range("2026-03-05T08:00:00.123Z") == date_range("2026-03-05T08:00:00.123999Z")


@pytest.mark.parametrize(
    "text", ["", "26", "2026-00", "2026-02-30", "2026-03-05T24:00:00Z", "2026-03-05 08:00", "now", "2026-3-5"]
)
def test_what_is_no_date_is_refused(text):
    with pytest.raises(ValueError, match=r"date|must be|out of range|invalid"):
        date_range(text)


def test_broken_values_have_no_range_and_open_periods_an_endless_one():
    assert value_ranges(20260301) == value_ranges({"start": 5}) == value_ranges({}) == value_ranges("?") == []
    [open_end] = value_ranges({"start": "2026-03-01"})
    [open_start] = value_ranges({"end": "2026-03-01"})
    assert open_end.high == OPEN_HIGH
    assert open_start.low == OPEN_LOW
    assert len(value_ranges({"event": ["2026-03-01", "2026-03-02"]})) == 2
