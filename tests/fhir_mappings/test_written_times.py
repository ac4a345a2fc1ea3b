"""Every way a time is written, against a plain reading of it by the standard library (R2.5, D5)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from fhir_mappings.local_time import (
    DAY_MICROSECONDS,
    MICROSECONDS,
    LocalClock,
    Moment,
    TimeProblem,
    Window,
    month_window,
    next_month,
    period_number,
    period_window,
    utc,
    zone_named,
)
from fhir_mappings.vocabulary import ExcludedReason

ZONES = ["America/New_York", "Pacific/Auckland", "Asia/Kathmandu", "Asia/Beirut"]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
WRITTEN = [
    "2026",
    "2026-03",
    "2026-03-05",
    "2026-03-05T10:30",
    "2026-03-05T10:30:15",
    "2026-03-05T10:30:15Z",
    "2026-03-05T10:30Z",
    "2026-03-05T23:59:59-05:00",
    "2026-03-05T10:30:15.250+05:30",
    "2026-03-05T10:30:15.250Z",
    "2026-03-05T10:30:15.123456Z",
    "2026-03-05T10:30:15.123456-05:00",
]
CHARACTERS = "0159-:TZ+. x"


def instant(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1)


def plainly(text: str, zone: ZoneInfo) -> Moment | TimeProblem:
    """What `LocalClock.read` says, without any of its short cuts."""
    text = text.strip()
    if not text:
        return TimeProblem.MISSING
    if re.fullmatch(r"[0-9]{4}(-[0-9]{2})?", text):
        return TimeProblem.PARTIAL
    is_date, is_time = re.fullmatch(r".{4}-.{2}-.{2}", text), re.match(r".{4}-.{2}-.{2}[T ].{2}:.{2}", text)
    if not is_date and not is_time:
        return TimeProblem.UNREADABLE
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        return TimeProblem.UNREADABLE
    offset = read.utcoffset()
    if not 1900 <= read.year <= 2199 or abs(offset or timedelta()) > timedelta(hours=14):
        return TimeProblem.UNREADABLE
    if is_date:
        return Moment(read.date(), instant(read.replace(tzinfo=zone)), date_only=True)
    if offset is None:
        return Moment(read.date(), instant(read.replace(tzinfo=zone)), zone_assumed=True)
    return Moment(read.date() if offset else read.astimezone(zone).date(), instant(read))


def slips(text: str) -> Iterator[str]:
    """A text with one character replaced, left out, or put in."""
    for n in range(len(text) + 1):
        yield text[:n] + text[n + 1 :]
        for character in CHARACTERS:
            yield text[:n] + character + text[n + 1 :]
            yield text[:n] + character + text[n:]


@pytest.mark.parametrize("zone", ZONES)
def test_every_slip_of_the_pen_is_read_as_the_standard_library_reads_it(zone: str) -> None:
    clock = LocalClock(ZoneInfo(zone))
    for written in WRITTEN:
        assert clock.read(written) == plainly(written, clock.zone), written
    for written in WRITTEN:
        for text in slips(written):
            expected = plainly(text, clock.zone)
            assert [clock.read(text), clock.read(text)] == [expected, expected], text


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("offset", ["Z", "+00:00", "-00:00", "-05:00", "+13:45"])
def test_every_minute_and_second_is_known(zone: str, offset: str) -> None:
    clock = LocalClock(ZoneInfo(zone))
    clock.read(f"2026-03-05T00:00:00{offset}")
    at = datetime(2026, 3, 5)  # noqa: DTZ001 - the offset is written behind it
    for seconds in (*range(0, 86400, 60), *range(60), 86399):
        text = (at + timedelta(seconds=seconds)).isoformat() + offset
        assert clock.read(text) == plainly(text, clock.zone), text


def test_every_thousandth_is_known() -> None:
    clock = LocalClock(ZoneInfo("America/New_York"))
    for n in range(1000):
        text = f"2026-03-05T10:30:15.{n:03}-05:00"
        assert clock.read(text) == plainly(text, clock.zone), text


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("offset", ["Z", "+00:00", "-05:00", "+13:45"])
def test_what_a_date_and_an_offset_say_is_worked_out_once(zone: str, offset: str) -> None:
    clock = LocalClock(ZoneInfo(zone))
    clock.read(f"2026-03-04T10:30:15.250{offset}")
    clock.read("2026-03-05T10:30:15.250-08:00")

    def in_full(text: str) -> Moment:
        raise AssertionError(f"read in full again: {text}")

    clock._read_time = in_full  # type: ignore[method-assign]
    at = datetime(2026, 3, 5)  # noqa: DTZ001 - the offset is written behind it
    for seconds in (*range(0, 86400, 60), *range(60), 86399):
        text = (at + timedelta(seconds=seconds)).isoformat() + offset
        assert clock.read(text) == plainly(text, clock.zone), text
    for n in (0, 1, 250, 998, 999):
        text = f"2026-03-05T23:59:59.{n:03}{offset}"
        assert clock.read(text) == plainly(text, clock.zone), text


@pytest.mark.parametrize("offset", ["+05", "+0530", "+05:30:15", "+05:30:15.5"])
def test_an_offset_that_fhir_does_not_write_is_not_kept(offset: str) -> None:
    clock = LocalClock(ZoneInfo("America/New_York"))
    told = [clock.read(f"2026-03-05T10:30:{n}{offset}") for n in (15, 16, 16)]
    assert told == [plainly(f"2026-03-05T10:30:{n}{offset}", clock.zone) for n in (15, 16, 16)]
    assert not clock._offsets
    assert not clock._written_dates


@pytest.mark.parametrize(
    ("text", "readable"),
    [
        ("1899-12-31", False),
        ("1900-01-01", True),
        ("2199-12-31", True),
        ("2200-01-01", False),
        ("1899-12-31T23:59:59Z", False),
        ("1900-01-01T12:00:00Z", True),
        ("2199-12-31T12:00:00Z", True),
        ("2200-01-01T00:00:00Z", False),
        ("2026-03-05T10:00:00+14:00", True),
        ("2026-03-05T10:00:00-14:00", True),
        ("2026-03-05T10:00:00+14:01", False),
        ("2026-03-05T10:00:00-14:01", False),
        ("2026-03-05T24:00:00Z", False),
        ("2026-03-05T10:60:00Z", False),
        ("2026-03-05T10:00:60Z", True),
        ("2026-03-05T10:00:61Z", False),
        ("2026-03-05T10:60:60Z", False),
    ],
)
def test_the_last_year_and_offset_that_are_read(text: str, readable: bool) -> None:
    clock = LocalClock(ZoneInfo("America/New_York"))
    clock.read("2026-03-05T10:00:00Z")
    assert isinstance(clock.read(text), Moment) is readable
    if not readable:
        assert clock.read(text) is TimeProblem.UNREADABLE


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize(
    "first", [date(2026, 3, 7), date(2026, 3, 27), date(2026, 10, 24), date(2026, 10, 31)]
)
def test_every_quarter_of_an_hour_around_a_change_of_the_clocks(zone: str, first: date) -> None:
    clock = LocalClock(ZoneInfo(zone))
    at = datetime(first.year, first.month, first.day, tzinfo=UTC)
    for n in range(3 * 24 * 4):
        moment = at + timedelta(minutes=15 * n)
        assert clock.day_of(instant(moment)) == moment.astimezone(clock.zone).date()
        assert (
            clock.day_of(instant(moment) - 1)
            == (moment - timedelta(microseconds=1)).astimezone(clock.zone).date()
        )
        text = moment.isoformat()
        assert clock.read(text) == plainly(text, clock.zone)


@pytest.mark.parametrize("zone", ZONES)
def test_a_day_begins_where_the_day_before_ends(zone: str) -> None:
    clock = LocalClock(ZoneInfo(zone))
    for n in range(400):
        day = date(2026, 1, 1) + timedelta(days=n)
        start, end = clock.day_span(day)
        assert (clock.day_of(start), clock.day_of(end - 1)) == (day, day)
        assert (clock.day_of(start - 1), clock.day_of(end)) == (
            day - timedelta(days=1),
            day + timedelta(days=1),
        )
        assert start == clock.midnight(day)
        assert abs(end - start - DAY_MICROSECONDS) in (0, 3600 * MICROSECONDS)


def test_a_span_over_several_months_loses_nothing() -> None:
    clock = LocalClock(ZoneInfo("America/New_York"))
    start, end = clock.midnight(date(2026, 1, 31)) + 1, clock.midnight(date(2026, 3, 1)) + 5
    turns = [clock.midnight(date(2026, 2, 1)), clock.midnight(date(2026, 3, 1))]
    assert list(clock.months_of(start, end)) == [
        (date(2026, 1, 1), start, turns[0]),
        (date(2026, 2, 1), turns[0], turns[1]),
        (date(2026, 3, 1), turns[1], end),
    ]
    assert list(clock.months_of(start, turns[0])) == [(date(2026, 1, 1), start, turns[0])]
    assert list(clock.months_of(start, start)) == []


def test_an_instant_becomes_a_time_in_utc_to_the_microsecond() -> None:
    assert utc(0) == EPOCH
    moment = datetime(2026, 3, 5, 10, 30, 15, 123456, tzinfo=UTC)
    assert utc(instant(moment)) == moment
    assert utc(-1) == EPOCH - timedelta(microseconds=1)


def test_what_is_told_of_a_moment_unless_said() -> None:
    moment = Moment(date(2026, 3, 5), 0)
    assert (moment.date_only, moment.zone_assumed) == (False, False)
    assert Window(date(2026, 1, 1), date(2026, 1, 30)) < Window(date(2026, 1, 1), date(2026, 1, 31))


@pytest.mark.parametrize(
    ("on", "inside"),
    [((2026, 1, 4), False), ((2026, 1, 5), True), ((2026, 2, 3), True), ((2026, 2, 4), False)],
)
def test_both_ends_of_a_window_belong_to_it(on: tuple[int, int, int], inside: bool) -> None:
    window = period_window(date(2026, 1, 5), 0)
    assert (date(*on) in window) is inside
    other = Window(date(*on), date(*on))
    assert window.overlaps(other) is inside
    assert other.overlaps(window) is inside


def test_months_and_periods_follow_each_other() -> None:
    assert next_month(date(2026, 1, 1)) == date(2026, 2, 1)
    assert next_month(date(2026, 11, 1)) == date(2026, 12, 1)
    assert next_month(date(2026, 12, 1)) == date(2027, 1, 1)
    assert month_window(date(2026, 12, 1)) == Window(date(2026, 12, 1), date(2026, 12, 31))
    anchor = date(2026, 2, 1)
    numbers = [period_number(anchor, anchor + timedelta(days=n)) for n in (-31, -30, -1, 0, 29, 30, 59, 60)]
    assert numbers == [-2, -1, -1, 0, 0, 1, 1, 2]
    assert period_window(anchor, -1) == Window(date(2026, 1, 2), date(2026, 1, 31))


def test_why_a_time_names_no_day_is_why_its_record_is_left_out() -> None:
    assert [ExcludedReason(problem) for problem in TimeProblem] == [
        ExcludedReason.NO_DATE,
        ExcludedReason.PARTIAL_DATE,
        ExcludedReason.UNREADABLE_DATE,
    ]


def test_a_zone_is_known_by_its_name() -> None:
    assert zone_named("America/New_York") == ZoneInfo("America/New_York")
