"""The only place that knows time zones.

FHIR date, dateTime, instant, Period and Timing become a local day (`datetime.date`) and an instant
(whole microseconds since 1970-01-01T00:00Z). Day, month and 30-day arithmetic lives here too.

Which day a time belongs to (R2.5, D5):

* an offset other than zero: the date **as written** (the patient's own clock wrote it);
* `Z`, `+00:00`, `-00:00`: a server's clock, turned into the site's zone. Taking the UTC date would move an
  evening reading to the next day;
* a leap second (`:60`): the second before it (D33);
* no offset at all (invalid FHIR, seen in the field): the site's zone, and `Moment.zone_assumed` says so;
* a date alone: that date. A year or a year and month name no day and are refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

MICROSECONDS = 1_000_000
DAY_MICROSECONDS = 24 * 60 * 60 * MICROSECONDS
PERIOD_DAYS = 30
ONE_DAY = timedelta(days=1)
# FHIR allows offsets up to 14:00. Years outside this range are typing errors, and date arithmetic on them
# could overflow.
_LARGEST_OFFSET = timedelta(hours=14)
_FIRST_YEAR, _LAST_YEAR = 1900, 2199
_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()
_MOST_KEPT = 20_000
"""More days than fifty years have."""
_ONE_MICROSECOND = timedelta(microseconds=1)
_WrittenDate = tuple[int, date, date, int, date]
"""Of a date as written: its midnight in UTC, itself, and which local days that UTC day holds: the first, how
long after midnight the next one begins, and the next one."""
# Microseconds since midnight of each time of day, in the two parts it is looked up by, and of a fraction.
_MINUTES = {
    f"{hour:02}:{minute:02}:": (hour * 60 + minute) * 60 * MICROSECONDS
    for hour in range(24)
    for minute in range(60)
}
_SECONDS = {f"{second:02}": second * MICROSECONDS for second in range(60)}
_SECONDS["60"] = _SECONDS["59"]
_MILLISECONDS = {f".{thousandth:03}": thousandth * 1000 for thousandth in range(1000)}


class TimeProblem(StrEnum):
    """Why a FHIR time names no day."""

    MISSING = "no-date"
    PARTIAL = "partial-date"
    UNREADABLE = "unreadable-date"


class Moment(msgspec.Struct, frozen=True, gc=False):
    """One FHIR date or dateTime.

    `day` is the local day; `instant` is microseconds UTC (for a date alone: the midnight that opens it).
    """

    day: date
    instant: int
    date_only: bool = False
    zone_assumed: bool = False


class Window(msgspec.Struct, frozen=True, gc=False, order=True):
    """A run of local days, both ends inclusive."""

    start: date
    end: date

    def __contains__(self, day: date) -> bool:
        return self.start <= day <= self.end

    def overlaps(self, other: Window) -> bool:
        return self.start <= other.end and other.start <= self.end


def zone_named(name: str) -> ZoneInfo:
    """The IANA zone of that name; `ValueError` for a name that is none."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"unknown time zone: {name!r}") from None


class LocalClock:
    """Local days of one time zone. Keeps what it worked out for a day: readings crowd on few. Threads may
    share it (`clock_of`)."""

    def __init__(self, zone: ZoneInfo) -> None:
        self.zone = zone
        self._days: dict[int, tuple[date, int, date]] = {}
        self._midnights: dict[date, int] = {}
        self._dates: dict[str, Moment | TimeProblem] = {}
        self._written_dates: dict[str, _WrittenDate] = {}
        self._offsets: dict[str, int] = {}

    def read(self, text: str | None) -> Moment | TimeProblem:
        """A FHIR date, dateTime or instant as a `Moment`, or why it names none."""
        if not text:
            return TimeProblem.MISSING
        if len(text) <= 10:
            known = self._dates.get(text)
            if known is None:
                _bound(self._dates)
                known = self._dates[text] = self._read_date(text)
            return known
        # Times differ mostly in the time of day: what their dates and offsets say is worked out once.
        minute, second, offset = _MINUTES.get(text[11:17]), _SECONDS.get(text[17:19]), text[19:]
        if minute is None or second is None:
            return self._read_time(text)
        since_midnight = minute + second
        written, ahead = self._written_dates.get(text[:11]), self._offsets.get(offset)
        if ahead is None and (fraction := _MILLISECONDS.get(offset[:4])) is not None:
            since_midnight += fraction
            offset = offset[4:]
            ahead = self._offsets.get(offset)
        if written is None or ahead is None:
            return self._learn_time(text, offset)
        midnight, day, before, turn, after = written
        if ahead:
            return Moment(day, midnight + since_midnight - ahead)
        return Moment(before if since_midnight < turn else after, midnight + since_midnight)

    def latest_day(self, text: str) -> date:
        """The last day that a FHIR date may mean: a year, or a month, may be all of it; what is no date, any
        day."""
        text = text.strip()
        moment = self.read(text)
        if isinstance(moment, Moment):
            return moment.day
        if moment is TimeProblem.PARTIAL:
            year, month = int(text[:4]), int(text[5:] or 12)
            if _FIRST_YEAR <= year <= _LAST_YEAR and 1 <= month <= 12:
                return next_month(date(year, month, 1)) - ONE_DAY
        return date.max

    def _learn_time(self, text: str, offset: str) -> Moment | TimeProblem:
        """A time read in full. Its date and its offset are kept, if they are written as FHIR writes them."""
        text = _as_python_reads(text)
        moment = self._read_time(text)
        if isinstance(moment, Moment) and (offset in ("Z", "z") or (len(offset) == 6 and offset[3] == ":")):
            aware = datetime.fromisoformat(text)
            midnight = (aware.toordinal() - _EPOCH_ORDINAL) * DAY_MICROSECONDS
            before, turn, after = self._day_turn(midnight // DAY_MICROSECONDS)
            _bound(self._written_dates)
            self._written_dates[text[:11]] = (midnight, aware.date(), before, turn - midnight, after)
            self._offsets[offset] = (aware.utcoffset() or timedelta()) // _ONE_MICROSECOND
        return moment

    def _read_date(self, text: str) -> Moment | TimeProblem:
        if text != (plain := text.strip()):
            return self.read(plain)
        if text.isascii() and (
            (len(text) == 4 and text.isdigit())
            or (len(text) == 7 and text[4] == "-" and text[:4].isdigit() and text[5:].isdigit())
        ):
            return TimeProblem.PARTIAL
        if len(text) != 10 or text[4] != "-" or text[7] != "-":
            return TimeProblem.UNREADABLE
        try:
            day = date.fromisoformat(text)
        except ValueError:
            return TimeProblem.UNREADABLE
        if not _FIRST_YEAR <= day.year <= _LAST_YEAR:
            return TimeProblem.UNREADABLE
        return Moment(day, self.midnight(day), date_only=True)

    def _read_time(self, text: str) -> Moment | TimeProblem:
        if text != (plain := text.strip()):
            return self.read(plain)
        # `datetime.fromisoformat` reads more than FHIR writes: the marks keep it to dayThour:minute, and its
        # day must be the one that is written, which week dates are not, nor the hour 24 (read from Python
        # 3.14 on, as the next day's midnight). Missing seconds are read, since vendors leave them out, and a
        # blank for the T, as databases write it and RFC 3339 allows it.
        if text[10] not in "Tt " or text[13:14] != ":":
            return TimeProblem.UNREADABLE
        try:
            moment = datetime.fromisoformat(_as_python_reads(text))
        except ValueError:
            return TimeProblem.UNREADABLE
        if str(moment.date()) != text[:10] or not _FIRST_YEAR <= moment.year <= _LAST_YEAR:
            return TimeProblem.UNREADABLE
        offset = moment.utcoffset()
        if offset is None:
            local = moment.replace(tzinfo=self.zone)
            return Moment(moment.date(), _microseconds(local), zone_assumed=True)
        instant = _microseconds(moment)
        if not offset:
            return Moment(self.day_of(instant), instant)
        if abs(offset) > _LARGEST_OFFSET:
            return TimeProblem.UNREADABLE
        return Moment(moment.date(), instant)

    def day_of(self, instant: int) -> date:
        """The local day that holds an instant."""
        utc_day = instant // DAY_MICROSECONDS
        before, turn, after = self._days.get(utc_day) or self._day_turn(utc_day)
        return before if instant < turn else after

    def _day_turn(self, utc_day: int) -> tuple[date, int, date]:
        known = self._days.get(utc_day)
        if known is None:
            _bound(self._days)
            known = self._days[utc_day] = self._turn_of_day(utc_day)
        return known

    def _turn_of_day(self, utc_day: int) -> tuple[date, int, date]:
        # Within one UTC day the local date changes once: the day before, the instant it turns, the day after.
        opening = datetime.fromordinal(_EPOCH_ORDINAL + utc_day).replace(tzinfo=UTC).astimezone(self.zone)
        following = opening.date() + ONE_DAY
        return opening.date(), self.midnight(following), following

    def midnight(self, day: date) -> int:
        """The instant at which a local day begins: the first that exists, if clocks change at midnight."""
        known = self._midnights.get(day)
        if known is None:
            _bound(self._midnights)
            opens = datetime(day.year, day.month, day.day, tzinfo=self.zone)
            known = self._midnights[day] = _microseconds(opens)
        return known

    def day_span(self, day: date) -> tuple[int, int]:
        """A local day as a half-open span of instants; 23 or 25 hours long when clocks change."""
        return self.midnight(day), self.midnight(day + ONE_DAY)

    def window_span(self, window: Window) -> tuple[int, int]:
        """A window's local days, first to last, as a half-open span of instants."""
        return self.midnight(window.start), self.midnight(window.end + ONE_DAY)

    def months_of(self, start: int, end: int) -> Iterator[tuple[date, int, int]]:
        """A half-open span, split at local month ends: (first day of month, start, end) for each part.

        Elapsed time, never wall-clock differences: an hour lost or gained by the clocks is neither lost nor
        gained here (R4).
        """
        while start < end:
            month = self.day_of(start).replace(day=1)
            turn = self.midnight(next_month(month))
            yield month, start, min(end, turn)
            start = turn


@lru_cache(maxsize=64)
def clock_of(zone: ZoneInfo) -> LocalClock:
    """The process's clock of a zone: what a date comes to is the same in every chart."""
    return LocalClock(zone)


def _bound(known: dict[Any, Any]) -> None:
    """Texts are whatever somebody writes: so many are kept, and then all are forgotten."""
    if len(known) >= _MOST_KEPT:
        known.clear()


def _as_python_reads(text: str) -> str:
    """RFC 3339, which FHIR's times follow, has T and Z in either case. Python knows no second 60; clocks that
    show one mean the end of the minute."""
    text = text.upper()
    return f"{text[:17]}59{text[19:]}" if text[16:19] == ":60" else text


def _microseconds(moment: datetime) -> int:
    return round(moment.timestamp() * MICROSECONDS)


def utc(instant: int) -> datetime:
    """An instant as an aware UTC datetime."""
    return datetime.fromtimestamp(instant // MICROSECONDS, UTC).replace(microsecond=instant % MICROSECONDS)


@lru_cache(maxsize=8192)
def shown(instant: int, zone: ZoneInfo) -> datetime:
    """An instant as the clocks of a zone show it."""
    return utc(instant).astimezone(zone)


def next_month(first_day: date) -> date:
    """The first day of the month after the one that begins on `first_day`."""
    if first_day.month == 12:
        return date(first_day.year + 1, 1, 1)
    return date(first_day.year, first_day.month + 1, 1)


@lru_cache(maxsize=4096)
def month_window(first_day: date) -> Window:
    """The calendar month that begins on `first_day`."""
    return Window(first_day, next_month(first_day) - ONE_DAY)


def period_number(anchor: date, day: date) -> int:
    """Which 30-day period of the grid holds a day: 0 for the one that begins on the anchor, -1 before it."""
    return (day - anchor).days // PERIOD_DAYS


@lru_cache(maxsize=4096)
def period_window(anchor: date, number: int) -> Window:
    """The 30-day period of that number. Day 30 is `start + 29` (R2.2)."""
    start = anchor + timedelta(days=PERIOD_DAYS * number)
    return Window(start, start + timedelta(days=PERIOD_DAYS - 1))
