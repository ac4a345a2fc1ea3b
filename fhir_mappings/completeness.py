"""What could not be read, for which days: absence must be proven (D20).

One home for the question. Readers (the EHR's, the files') tell what they could not read; the rules,
reconciliation, the packet and the page ask here what that may have changed, and keep no list of their own.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, timedelta
from enum import StrEnum
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from fhir_mappings.local_time import Window
from fhir_mappings.resources import READ_TYPES

ANY_TYPE = ""
"""What is missing may be of any resource type: not even that could be read."""
DECIDING = READ_TYPES - {"Claim", "ExplanationOfBenefit"}
"""Types that a decision hangs on: of others nothing is ever missing. Claims tell more where they are there,
and no EHR has to have them."""


class MissingWhy(StrEnum):
    """Why something was not read. In doubt it is missing: what was not seen is unknown, not nothing."""

    NOT_GRANTED = "not-granted"
    REFUSED = "refused"
    CUT_OFF = "cut-off"
    UNREADABLE = "unreadable"
    NOT_SEARCHED = "not-searched"
    FILE_NOT_READ = "file-not-read"


class Missing(Struct, frozen=True, gc=False):
    """Something of one resource type that may exist and was not read.

    `start`, `end`: the local days that it may speak of, both inclusive; None where nothing bounds them.
    `entries`: how many single records they are; 0 where nobody knows. `detail`: in plain words for whoever
    mends it, without anything of a patient.
    """

    type: str
    why: MissingWhy
    start: date | None = None
    end: date | None = None
    entries: int = 0
    detail: str = ""

    def touches(self, window: Window) -> bool:
        """May it speak of a day of this window?"""
        return (self.start is None or self.start <= window.end) and (
            self.end is None or window.start <= self.end
        )


class Completeness(Struct, frozen=True, gc=False):
    """What is missing of one patient's record, sorted; the same things of the same days are one entry."""

    missing: tuple[Missing, ...] = ()

    @property
    def whole(self) -> bool:
        return not self.missing

    def lacks(self, type_: str) -> bool:
        """Is anything of this resource type missing, whatever its days?"""
        return any(one.type == type_ for one in self.missing)

    def of(self, type_: str, window: Window | None = None) -> tuple[Missing, ...]:
        """What is missing of a type (and, with a window, may speak of one of its days)."""
        return tuple(
            [one for one in self.missing if one.type == type_ and (window is None or one.touches(window))]
        )

    def unread_days(self, type_: str, window: Window) -> UnreadDays | None:
        """The days of a window on which something of a type may stand; None where nothing is missing."""
        missing = self.of(type_, window)
        if not missing:
            return None
        return UnreadDays(
            frozenset(days_of(window, [one for one in missing if not one.entries])),
            frozenset(days_of(window, [one for one in missing if one.entries])),
            sum(one.entries for one in missing),
        )


WHOLE = Completeness()


class UnreadDays(Struct, frozen=True, gc=False):
    """Days that may hold something more: any of `several`, and as many as `at_most` of `single`."""

    several: frozenset[date]
    single: frozenset[date]
    at_most: int

    def most(self, counted: Iterable[date]) -> int:
        """How many days there could be at the most, were all of this there."""
        known = self.several.union(counted)
        return len(known) + min(self.at_most, len(self.single - known))

    def earliest(self, counted: Iterable[date]) -> list[date]:
        """The days there would be, in order, were all of this there and as early as it can be."""
        known = self.several.union(counted)
        return sorted(known.union(sorted(self.single - known)[: self.at_most]))


def completeness_of(missing: Iterable[Missing]) -> Completeness:
    """These, sorted, with single records that differ in nothing else told as one entry."""
    found: dict[Missing, int] = {}
    for one in missing:
        alike = replace(one, entries=min(one.entries, 1))
        found[alike] = found.get(alike, 0) + one.entries
    return Completeness(
        tuple(sorted((replace(alike, entries=entries) for alike, entries in found.items()), key=_order))
    )


def days_of(window: Window, missing: Iterable[Missing]) -> set[date]:
    """The days of a window that one of these may speak of."""
    found: set[date] = set()
    for one in missing:
        first = window.start if one.start is None else max(window.start, one.start)
        last = window.end if one.end is None else min(window.end, one.end)
        found.update(first + timedelta(days=n) for n in range((last - first).days + 1))
    return found


def in_words(completeness: Completeness) -> tuple[str, ...]:
    """ "Observation 2026-01-10 to 2026-02-01 (cut-off)": what is missing, for people, each once."""
    return tuple(dict.fromkeys(_in_words(one) for one in completeness.missing))


def _in_words(one: Missing) -> str:
    days = ""
    if one.start is not None and one.end is not None:
        days = f" {one.start.isoformat()} to {one.end.isoformat()}"
    elif one.start is not None:
        days = f" from {one.start.isoformat()}"
    elif one.end is not None:
        days = f" until {one.end.isoformat()}"
    return f"{one.type or 'of any type'}{days} ({one.why})"


def completeness_json(completeness: Completeness) -> dict[str, Any]:
    """`completeness` as the contract has it (docs/contract.md)."""
    return {
        "whole": completeness.whole,
        "missing": [
            {
                "type": one.type or None,
                "why": str(one.why),
                "days": None
                if one.start is None and one.end is None
                else {
                    "start": None if one.start is None else one.start.isoformat(),
                    "end": None if one.end is None else one.end.isoformat(),
                },
                "detail": one.detail,
            }
            for one in completeness.missing
        ],
    }


def _order(one: Missing) -> tuple[str, str, date, date, str]:
    return one.type, one.why, one.start or date.min, one.end or date.max, one.detail
