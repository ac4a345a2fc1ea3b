"""What the answers of an EHR come to, beside the records in them: a trouble, a refusal, how much is left."""

from __future__ import annotations

from launch.answers import Response
from launch.errors import HttpError, HttpProblem
from smartapp.ehr.reading.fetch import NOT_ALLOWED
from smartapp.ehr.reading.notices import Notice, NoticeKind
from smartapp.ehr.reading.searches import MOST_PARTS, PAGES_A_PART
from smartapp.ehr.wire.bundles import SearchPage

MOST_IN_A_ROW = 4
"""Pages of one search that are read one after the other."""


def pages_left(page: SearchPage, number: int) -> int:
    """How many pages a search has, or a guess, where they are too many to be read one after the other."""
    if page.total is None:
        return MOST_PARTS * PAGES_A_PART if number >= MOST_IN_A_ROW else 0
    pages = -(-page.total // max(1, len(page.entries)))
    return pages if pages > MOST_IN_A_ROW or number >= MOST_IN_A_ROW else 0


CLOSES = {
    NoticeKind.BROKEN: "ehr-broken",
    NoticeKind.THROTTLED: "ehr-throttled",
    NoticeKind.WEB_PAGE: "web-page",
}
"""Why a reading ends where the patient's own record does not come."""


def trouble_of(response: Response) -> NoticeKind | None:
    """An answer that says nothing of what was asked: too much to do, a fault of the server, or no server of
    FHIR at all. None for any other, a refusal among them."""
    if response.status == 429:
        return NoticeKind.THROTTLED
    if response.status >= 500 and response.status not in NOT_ALLOWED:
        return NoticeKind.BROKEN
    if response.ok and response.body.lstrip(_BLANK)[:1] == b"<":
        return NoticeKind.WEB_PAGE
    return None


_BLANK = b"\xef\xbb\xbf \t\r\n"
_SILENCE = {HttpProblem.TIMEOUT: NoticeKind.SLOW, HttpProblem.BUSY: NoticeKind.THROTTLED}


def unanswered(type_: str, error: HttpError) -> Notice:
    """No answer that could be used."""
    if error.problem is HttpProblem.TOO_LARGE:
        return Notice(NoticeKind.CUT_OFF, type_, "a page is larger than this app reads at once")
    kind = _SILENCE.get(error.problem)
    return Notice(NoticeKind.NOT_ANSWERED, type_, error.sentence) if kind is None else Notice(kind, type_)


def lost_page(error: HttpError) -> str:
    if error.problem is HttpProblem.FOREIGN_URL:
        return "the next page lies on another server"
    if error.problem is HttpProblem.TOO_LARGE:
        return "a page is larger than this app reads at once"
    return f"the next page did not come: {error.sentence}"
