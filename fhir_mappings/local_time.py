"""The only place that knows time zones.

FHIR date, dateTime, instant, Period and Timing become a local day (`datetime.date`) and an instant
(whole microseconds since 1970-01-01T00:00Z). Day, month and 30-day arithmetic lives here too.

Which day a time belongs to (BILLING_RULES 2.5, D5):

* an offset other than zero: the date **as written** (the patient's own clock wrote it);
* `Z`, `+00:00`, `-00:00`: a server's clock, turned into the site's zone. Taking the UTC date would move an
  evening reading to the next day;
* no offset at all (invalid FHIR, seen in the field): the site's zone, and `Moment.zone_assumed` says so;
* a date alone: that date. A year or a year and month name no day and are refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
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
_ZERO_OFFSETS = frozenset({"Z", "+00:00", "-00:00"})
_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()


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
    """Local days of one time zone. Keeps what it worked out for a UTC day: readings crowd on few days."""

    def __init__(self, zone: ZoneInfo) -> None:
        self.zone = zone
        self._days: dict[int, tuple[date, int, date]] = {}
        self._dates: dict[str, Moment | TimeProblem] = {}
        self._openings: dict[str, tuple[int, date | None]] = {}
        self._times_of_day: dict[str, int] = {}

    def read(self, text: str | None) -> Moment | TimeProblem:
        """A FHIR date, dateTime or instant as a `Moment`, or why it names none."""
        if not text:
            return TimeProblem.MISSING
        if len(text) <= 10:
            known = self._dates.get(text)
            if known is None:
                known = self._dates[text] = self._read_date(text)
            return known
        if len(text) <= 25:
            # Most times differ only in the time of day: its parts are each worked out once.
            opening = self._openings.get(text[:11] + text[19:])
            if opening is not None:
                since = self._times_of_day.get(text[11:19])
                if since is not None:
                    instant = opening[0] + since
                    return Moment(opening[1] or self.day_of(instant), instant)
            return self._learn_time(text)
        return self._read_time(text)

    def _learn_time(self, text: str) -> Moment | TimeProblem:
        moment = self._read_time(text)
        if len(text) >= 20 and text[19] in "Z+-" and isinstance(moment, Moment) and text[16] == ":":
            time_of_day = text[11:19]
            since = (
                int(time_of_day[:2]) * 3600 + int(time_of_day[3:5]) * 60 + int(time_of_day[6:])
            ) * MICROSECONDS
            self._times_of_day[time_of_day] = since
            as_written = text[19:] not in _ZERO_OFFSETS
            self._openings[text[:11] + text[19:]] = (
                moment.instant - since,
                moment.day if as_written else None,
            )
        return moment

    def _read_date(self, text: str) -> Moment | TimeProblem:
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
        # `datetime.fromisoformat` reads more than FHIR writes (ordinal and week dates); the marks keep it to
        # year-month-dayThour:minute. Missing seconds are read: vendors leave them out.
        if len(text) < 16 or text[4] != "-" or text[7] != "-" or text[10] != "T" or text[13] != ":":
            return TimeProblem.UNREADABLE
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            return TimeProblem.UNREADABLE
        if not _FIRST_YEAR <= moment.year <= _LAST_YEAR:
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
        known = self._days.get(utc_day)
        if known is None:
            known = self._days[utc_day] = self._turn_of_day(utc_day)
        before, turn, after = known
        return before if instant < turn else after

    def _turn_of_day(self, utc_day: int) -> tuple[date, int, date]:
        # Within one UTC day the local date changes once: the day before, the instant it turns, the day after.
        opening = datetime.fromordinal(_EPOCH_ORDINAL + utc_day).replace(tzinfo=UTC).astimezone(self.zone)
        following = opening.date() + ONE_DAY
        return opening.date(), self.midnight(following), following

    def midnight(self, day: date) -> int:
        """The instant at which a local day begins: the first that exists, if clocks change at midnight."""
        return _microseconds(datetime(day.year, day.month, day.day, tzinfo=self.zone))

    def day_span(self, day: date) -> tuple[int, int]:
        """A local day as a half-open span of instants; 23 or 25 hours long when clocks change."""
        return self.midnight(day), self.midnight(day + ONE_DAY)

    def months_of(self, start: int, end: int) -> Iterator[tuple[date, int, int]]:
        """A half-open span, split at local month ends: (first day of month, start, end) for each part.

        Elapsed time, never wall-clock differences: an hour lost or gained by the clocks is neither lost nor
        gained here (BILLING_RULES 4).
        """
        while start < end:
            month = self.day_of(start).replace(day=1)
            turn = self.midnight(next_month(month))
            yield month, start, min(end, turn)
            start = turn


def _microseconds(moment: datetime) -> int:
    return round(moment.timestamp() * MICROSECONDS)


def utc(instant: int) -> datetime:
    """An instant as an aware UTC datetime."""
    return datetime.fromtimestamp(instant // MICROSECONDS, UTC).replace(microsecond=instant % MICROSECONDS)


def next_month(first_day: date) -> date:
    """The first day of the month after the one that begins on `first_day`."""
    if first_day.month == 12:
        return date(first_day.year + 1, 1, 1)
    return date(first_day.year, first_day.month + 1, 1)


def month_window(first_day: date) -> Window:
    """The calendar month that begins on `first_day`."""
    return Window(first_day, next_month(first_day) - ONE_DAY)


def period_number(anchor: date, day: date) -> int:
    """Which 30-day period of the grid holds a day: 0 for the one that begins on the anchor, -1 before it."""
    return (day - anchor).days // PERIOD_DAYS


def period_window(anchor: date, number: int) -> Window:
    """The 30-day period of that number. Day 30 is `start + 29` (BILLING_RULES 2.2)."""
    start = anchor + timedelta(days=PERIOD_DAYS * number)
    return Window(start, start + timedelta(days=PERIOD_DAYS - 1))
