"""What a reading could not read: told on the page, and as what is missing to everybody who decides (D20).

A notice is for people; `missing_from` is the one way from notices to the record's completeness, so that the
page, the rules, the packet and a charge's note never differ in what was read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from enum import StrEnum

import msgspec
from msgspec.structs import replace

from fhir_mappings.completeness import DECIDING, Missing, MissingWhy
from fhir_mappings.local_time import ONE_DAY


class NoticeKind(StrEnum):
    """What happened to something that was to be read."""

    NOT_GRANTED = "not-granted"
    REFUSED = "refused"
    BROKEN = "broken"
    """The EHR answered with an error of its own, again and again."""
    SLOW = "slow"
    """The EHR did not answer in time."""
    THROTTLED = "throttled"
    """The EHR asked for fewer requests than there was time to wait for."""
    WEB_PAGE = "web-page"
    """What came is a web page: a sign-in or a proxy answers in the EHR's place."""
    NOT_ANSWERED = "not-answered"
    """The EHR could not be reached."""
    NOT_SEARCHED = "not-searched"
    """It was not asked for any more, because the EHR had fallen silent."""
    CUT_OFF = "cut-off"
    UNREADABLE = "unreadable"
    """Single records that came and cannot be read."""
    BESIDE = "beside"
    """A search failed beside others that together find everything that can count."""
    DAMAGED = "damaged"
    """A record of which an element cannot be read; the rest of it counts."""
    MISSING = "missing"
    """A single record that something points to is not there; the type itself could be read."""
    FOREIGN = "foreign"
    OTHER_BASE = "other-base"
    """Dropped, because it names the patient under another address of the server than is known here."""
    SERVER_SAYS = "server-says"


class Notice(msgspec.Struct, frozen=True):
    """Something about the reading a clinician or an administrator must know.

    `what`: a resource type. `detail`: in our own words, without anything of a patient but for MISSING, whose
    record it names. `said`: what the EHR itself said of it, which may be anything. `start`, `end`: the local
    days that are concerned, both inclusive, where there are bounds. `count`: of records; 0 where nobody
    knows.
    """

    kind: NoticeKind
    what: str
    detail: str = ""
    count: int = 0
    said: str = ""
    start: date | None = None
    end: date | None = None


_WHY: Mapping[NoticeKind, MissingWhy] = {
    NoticeKind.NOT_GRANTED: MissingWhy.NOT_GRANTED,
    NoticeKind.REFUSED: MissingWhy.REFUSED,
    NoticeKind.BROKEN: MissingWhy.NOT_SEARCHED,
    NoticeKind.SLOW: MissingWhy.NOT_SEARCHED,
    NoticeKind.THROTTLED: MissingWhy.NOT_SEARCHED,
    NoticeKind.WEB_PAGE: MissingWhy.CUT_OFF,
    NoticeKind.NOT_ANSWERED: MissingWhy.NOT_SEARCHED,
    NoticeKind.NOT_SEARCHED: MissingWhy.NOT_SEARCHED,
    NoticeKind.CUT_OFF: MissingWhy.CUT_OFF,
    NoticeKind.UNREADABLE: MissingWhy.UNREADABLE,
    NoticeKind.OTHER_BASE: MissingWhy.UNREADABLE,
}
OF_ANOTHER = "records of another patient among them"


def missing_from(notices: Iterable[Notice]) -> tuple[Missing, ...]:
    """What may be missing, as the notices of a reading tell it.

    Another patient's charge among this one's makes all charges doubtful: what a server that does not look at
    `patient` leaves out, nobody knows, and a charge that is missed is charged twice.
    """
    found: list[Missing] = []
    for notice in notices:
        if notice.kind is NoticeKind.FOREIGN and notice.what == "ChargeItem":
            found.append(Missing("ChargeItem", MissingWhy.CUT_OFF, detail=OF_ANOTHER))
        elif notice.kind in _WHY and notice.what in DECIDING:
            found.append(
                Missing(notice.what, _WHY[notice.kind], notice.start, notice.end, notice.count, notice.detail)
            )
    return tuple(found)


def in_order(notices: Iterable[Notice]) -> tuple[Notice, ...]:
    """Notices as a page lists them; what was said of slices that lie side by side is said once."""
    found: list[Notice] = []
    for notice in sorted(notices, key=_order):
        before = found[-1] if found else None
        if before is not None and _continues(before, notice):
            end = None if before.end is None or notice.end is None else max(before.end, notice.end)
            found[-1] = replace(before, end=end)
        else:
            found.append(notice)
    return tuple(found)


def _continues(before: Notice, notice: Notice) -> bool:
    """Does this say of the days that follow what the one before says?"""
    return (
        not notice.count
        and notice.start is not None
        and replace(notice, start=before.start, end=before.end) == before
        and (before.end is None or notice.start <= before.end + ONE_DAY)
    )


def _order(notice: Notice) -> tuple[str, str, str, str, int, date, date]:
    start, end = notice.start or date.min, notice.end or date.max
    return notice.kind, notice.what, notice.detail, notice.said, notice.count, start, end
