"""What a Bundle says besides its resources: what it lacks, and what it takes away (D20 f and h, D27).

A searchset may say that there is more of it elsewhere, or that something went wrong; a batch, that one of its
requests was refused; a history, a transaction or an export, that something was deleted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import date
from urllib.parse import parse_qsl, urlsplit

from msgspec import Raw, Struct

from fhir_mappings.completeness import ANY_TYPE, DECIDING, Missing, MissingWhy
from fhir_mappings.identity import unversioned
from fhir_mappings.local_time import LocalClock, Moment
from fhir_mappings.resources import READ_TYPES, Coding, Head, loosely
from fhir_mappings.terminology import Terminology

_SUBJECT_PARAMETERS = ("patient", "subject")
_BEGINS, _ENDS = ("ge", "gt", "sa"), ("le", "lt", "eb")


class Search(Struct, frozen=True):
    """What a search asked for, as far as its address tells. `type` is "" where it tells none."""

    type: str = ""
    patient: str = ""
    """`Patient/id`; "" where it names nobody."""
    start: date | None = None
    end: date | None = None
    codings: tuple[Coding, ...] = ()
    """The codings that it is limited to; none where it is not, or where one of them may be of any system."""


class Deletion(Struct, frozen=True):
    """`name`: `Type/id` of what is gone; `at`: when, as it is written; `address`: where it was, in full."""

    name: str
    at: str | None
    address: str = ""


class CutOff(Struct, frozen=True):
    """Pages that may be elsewhere in the input: the address of one, and what is missing without them."""

    address: str
    search: Search
    types: tuple[str, ...]


def links_of(links: object) -> dict[str, str]:
    """Address by relation, of what can be read of a Bundle's links."""
    found: dict[str, str] = {}
    for link in links if isinstance(links, list) else ():
        if isinstance(link, dict):
            relation, url = link.get("relation"), link.get("url")
            if isinstance(relation, str) and isinstance(url, str):
                found[relation] = url
    return found


def address(url: str) -> str:
    """An address as it can be compared, whatever the base, the order of its parameters, their escapes; one
    that is none as it stands."""
    try:
        parts = urlsplit(url)
        asked = sorted(parse_qsl(parts.query, keep_blank_values=True))
    except ValueError:
        return url
    return f"{_last(parts.path)}?{asked}"


def search_of(url: str | None, clock: LocalClock) -> Search:
    """What an address asks for. Its dates bound the days; what can't be read of them bounds nothing."""
    if not url:
        return Search()
    try:
        parts = urlsplit(url)
        asked = parse_qsl(parts.query)
    except ValueError:
        return Search()
    type_ = _last(parts.path)
    patient = next((value for name, value in asked if name in _SUBJECT_PARAMETERS), "")
    start: date | None = None
    end: date | None = None
    for name, value in asked:
        if name != "date":
            continue
        moment = clock.read(value.lstrip("abeglnqst"))
        if not isinstance(moment, Moment):
            continue
        if not value.startswith(_ENDS) and not value.startswith("ne"):
            start = moment.day if start is None else max(start, moment.day)
        if not value.startswith(_BEGINS) and not value.startswith("ne"):
            end = moment.day if end is None else min(end, moment.day)
    return Search(
        type_ if type_[:1].isupper() else "",
        "" if not patient else patient if "/" in patient else f"Patient/{patient}",
        start,
        end,
        _codings(asked),
    )


def _codings(asked: Iterable[tuple[str, str]]) -> tuple[Coding, ...]:
    """What a search by code asks for. Several such parameters must all fit: then one of them limits it."""
    wanted = next((value for name, value in asked if name == "code"), "")
    pairs = [one.split("|", 1) for one in wanted.split(",")]
    if not all(len(pair) == 2 and all(pair) for pair in pairs):
        return ()
    return tuple(Coding(system, code) for system, code in pairs)


def _last(path: str) -> str:
    return path.rstrip("/").rsplit("/", 1)[-1]


def is_short(head: Head, links: Mapping[str, str], matches: int) -> bool:
    """Does an answer count more than it holds, and name no page beside it where the rest would be?"""
    total = loosely(head.total)
    return (
        loosely(head.type) == "searchset"
        and isinstance(total, int)
        and matches < total
        and links.keys().isdisjoint(("next", "previous", "prev"))
    )


def is_match(search: object) -> bool:
    """May an entry be one of those that an answer counts? Some servers count what they say beside them."""
    return not isinstance(search, dict) or search.get("mode") != "include"


def types_of(search: Search, entries: Iterable[str]) -> tuple[str, ...]:
    """The types of what is missing from a search: its own; else those of the other entries, and what nobody
    knows besides."""
    if search.type:
        return (search.type,)
    found = sorted({kind for kind in entries if kind in READ_TYPES})
    return tuple(found) if len(found) == 1 else (*found, ANY_TYPE)


def missing_of_search(
    search: Search, types: Iterable[str], why: MissingWhy, detail: str, terminology: Terminology
) -> list[Missing]:
    """One entry a type that decides something. Of readings of nothing but codings that are not declared, none
    could count."""
    if search.type == "Observation" and search.codings:
        meanings = [terminology.observation((coding,)) for coding in search.codings]
        if not any(meaning is not None and meaning.measurement for meaning in meanings):
            return []
    return [
        Missing(kind, why, search.start, search.end, 0, detail)
        for kind in types
        if kind in DECIDING or kind == ANY_TYPE
    ]


_SEVERE = re.compile(rb'"severity"\s*+:\s*+"(?:error|fatal)"')
_LACKING = re.compile(rb'"code"\s*+:\s*+"(?:incomplete|too-costly|timeout|throttled)"')
"""Issue types that say, under whatever severity, that not everything is here. Not `suppressed`: EHRs say it
of everything that an app is not registered for."""


def says_incomplete(outcome: bytes | Raw) -> bool:
    """Does an OperationOutcome say that something failed, or is not all here? Looked for in its text: it may
    be of any size and shape."""
    text = bytes(outcome)
    return _SEVERE.search(text) is not None or _LACKING.search(text) is not None


def deletion_of(
    request: object, response: object, full_url: str | None, bundled_at: str | None
) -> Deletion | None:
    """What an entry takes away: its method says DELETE, or a server answers of one record that it is gone.

    Which one its address tells, else its place in the Bundle.
    """
    asked = request if isinstance(request, dict) else {}
    told = response if isinstance(response, dict) else {}
    method = asked.get("method")
    deletes = isinstance(method, str) and method.upper() == "DELETE"
    gone = _status(told).startswith(_GONE)
    if not deletes and not gone:
        return None
    url = asked.get("url")
    name = _record_in(url) or _record_in(full_url)
    if not name:
        # An answer that something is gone, with nothing that was asked beside it, is a request that failed.
        return Deletion("", None) if deletes else None
    at = told.get("lastModified")
    address = url if isinstance(url, str) and "://" in url else full_url or ""
    return Deletion(name, at if isinstance(at, str) else bundled_at, address)


_GONE = "410"
_RECORD = re.compile(r"(?:^|/)([A-Z][A-Za-z]{1,63}/[^/?#\s]+)/?$")


def _record_in(url: object) -> str:
    """The one record that an address names, as `Type/id`; "" where it is a search's, or none."""
    found = _RECORD.search(unversioned(url)) if isinstance(url, str) else None
    return found[1] if found is not None else ""


def _status(response: dict[str, object]) -> str:
    status = response.get("status")
    return status if isinstance(status, str) else ""


def was_refused(response: object) -> bool:
    """Does an entry of an answer to a batch say that its request failed, or that what it asked for is
    elsewhere (304: with whoever asked before)?"""
    return isinstance(response, dict) and _status(response)[:1] in ("3", "4", "5")
