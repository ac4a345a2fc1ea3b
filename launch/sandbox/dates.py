"""FHIR dates as ranges of time, and the date prefixes of search.

A date of implicit precision is a range: `2026-03` is the whole month, `2026-03-05T08:00Z` the whole minute.
Ranges are half-open, in whole milliseconds since 1970 UTC; a side left open is OPEN_LOW or OPEN_HIGH.
What carries no offset is read in the site's zone, as FHIR says of a server's local time.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from enum import StrEnum
from typing import Any

from launch.sandbox.config import ZONE

OPEN_LOW = -(2**62)
OPEN_HIGH = 2**62

_FORM = re.compile(
    r"(?P<year>\d{4})(?:-(?P<month>\d\d)(?:-(?P<day>\d\d)"
    r"(?:T(?P<hour>\d\d):(?P<minute>\d\d)(?::(?P<second>\d\d)(?:\.(?P<fraction>\d+))?)?"
    r"(?P<offset>Z|[+-]\d\d:\d\d)?)?)?)?"
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Range:
    """Half-open range of milliseconds since 1970 UTC."""

    low: int
    high: int


class Prefix(StrEnum):
    """The comparators of a date search that this server knows."""

    EQ = "eq"
    NE = "ne"
    GT = "gt"
    LT = "lt"
    GE = "ge"
    LE = "le"
    SA = "sa"
    EB = "eb"


def milliseconds(moment: datetime) -> int:
    """An aware datetime as milliseconds since 1970 UTC."""
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def date_range(text: str) -> Range:
    """The range a FHIR date, dateTime or instant stands for. Raises ValueError on anything else."""
    match = _FORM.fullmatch(text)
    if not match:
        raise ValueError("not a FHIR date")
    part = match.groupdict()
    zone = _zone(part["offset"])
    start = datetime(
        int(part["year"]),
        int(part["month"] or 1),
        int(part["day"] or 1),
        int(part["hour"] or 0),
        int(part["minute"] or 0),
        int(part["second"] or 0),
        tzinfo=zone,
    )
    if part["fraction"]:
        start += timedelta(milliseconds=int(part["fraction"][:3].ljust(3, "0")))
        return Range(milliseconds(start), milliseconds(start) + 1)
    if part["hour"]:
        width = 1_000 if part["second"] else 60_000
        return Range(milliseconds(start), milliseconds(start) + width)
    return Range(milliseconds(start), milliseconds(_next_start(start, part)))


def _zone(offset: str | None) -> Any:
    if offset is None:
        return ZONE
    if offset == "Z":
        return UTC
    hours, minutes = int(offset[1:3]), int(offset[4:6])
    delta = timedelta(hours=hours, minutes=minutes)
    return timezone(-delta if offset[0] == "-" else delta)


def _next_start(start: datetime, part: dict[str, str | None]) -> datetime:
    # Wall-clock arithmetic in the site's zone: a day on which the clocks change has 23 or 25 hours.
    if part["day"]:
        return start + timedelta(days=1)
    if part["month"]:
        return start.replace(year=start.year + start.month // 12, month=start.month % 12 + 1)
    return start.replace(year=start.year + 1)


def value_ranges(value: Any) -> list[Range]:
    """The ranges of an element's value: a date, a Period or a Timing. What can't be read has none."""
    try:
        if isinstance(value, str):
            return [date_range(value)]
        if isinstance(value, dict) and isinstance(value.get("event"), list):
            return [found for event in value["event"] for found in value_ranges(event)]
        if isinstance(value, dict) and ("start" in value or "end" in value):
            low = date_range(value["start"]).low if "start" in value else OPEN_LOW
            high = date_range(value["end"]).high if "end" in value else OPEN_HIGH
            return [Range(low, high)]
    except (ValueError, TypeError, OverflowError):
        return []
    return []


def split_prefix(text: str) -> tuple[Prefix, Range]:
    """A search value as comparator and range. Raises ValueError where either can't be read."""
    if text[:2].isalpha():
        return Prefix(text[:2]), date_range(text[2:])
    return Prefix.EQ, date_range(text)


def condition(prefix: Prefix, wanted: Range, low: str = "low", high: str = "high") -> tuple[str, list[int]]:
    """The SQL condition on the columns `low` and `high` under which a stored range fits.

    The sentences of R4 search 3.1.1.4.4 ("Prefixes"); an open side is the far future or past.
    """
    inside = f"({low} >= ? AND {high} <= ?)"
    match prefix:
        case Prefix.EQ:
            return inside, [wanted.low, wanted.high]
        case Prefix.NE:
            return f"NOT {inside}", [wanted.low, wanted.high]
        case Prefix.GT:
            return f"{high} > ?", [wanted.high]
        case Prefix.LT:
            return f"{low} < ?", [wanted.low]
        case Prefix.GE:
            return f"({low} >= ? OR {high} > ?)", [wanted.low, wanted.high]
        case Prefix.LE:
            # The bound on `low` alone follows from the other two; it lets the index stop early.
            return f"({low} < ? AND ({low} < ? OR {high} <= ?))", [wanted.high, wanted.low, wanted.high]
        case Prefix.SA:
            return f"{low} >= ?", [wanted.high]
        case Prefix.EB:
            return f"{high} <= ?", [wanted.low]
