"""FHIR JSON as it comes over the wire: how it is asked for, search pages, and what a server says of itself.

Lenient, one entry at a time. Resources stay bytes (`msgspec.Raw`); a first look at them is `looks`' to take.
"""

from __future__ import annotations

import contextlib
from collections.abc import Container, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, urlencode

import msgspec
from msgspec import Raw, Struct

from fhir_mappings.chart.bundles import says_incomplete
from launch.limiter import Turn
from launch.profiles import SearchMethod
from smartapp.ehr.wire.json_guard import (
    DEEPEST,
    LARGEST,
    Unreadable,
    decoded_as,
    decoded_whole,
    elements,
    may_be_cut_at_once,
    taken_apart,
    weighed,
)
from smartapp.plain import printable

if TYPE_CHECKING:
    from launch.http import Limits, Response
    from launch.tokens import SessionClient

NOT_NOW = frozenset({401, 429, 500, 502, 503, 504})
"""Statuses that say nothing of what the server can do, or of what may be read."""
MOST_OUTCOME_TEXT = 300
MOST_ENTRIES = 5000
"""Of one page: twenty-five times what is asked for."""
_MOST_LINKS = 50
_MOST_ISSUES = 50
_MOST_DECLARED = 1000
"""Resource types, interactions and search parameters that a server may declare."""
_Part = TypeVar("_Part")
_FORM = {"Content-Type": "application/x-www-form-urlencoded"}


# Asking


def search_target(type_: str, parameters: Iterable[tuple[str, str]]) -> str:
    """`Type?name=value&...`, every value escaped: an id from an EHR is data, never part of an address."""
    return f"{type_}?{urlencode(list(parameters))}"


def read_target(reference: str) -> str:
    """The address of "Type/id", the id escaped."""
    type_, _, logical_id = reference.partition("/")
    return f"{type_}/{quote(logical_id, safe='')}"


def search(
    client: SessionClient,
    type_: str,
    parameters: Iterable[tuple[str, str]],
    *,
    headers: Mapping[str, str] | None = None,
    limits: Limits | None = None,
    turn: Turn = Turn.PRESSED,
) -> Response:
    """The first page of a search, asked for as the EHR's profile says: by GET, or by POST, which keeps the
    patient's id out of addresses and so out of other people's logs. Raises HttpError, LaunchError."""
    if client.issuer.profile.search_method is SearchMethod.GET:
        target = search_target(type_, parameters)
        return client.fhir("GET", target, headers=headers, limits=limits, turn=turn)
    return client.fhir(
        "POST",
        f"{type_}/_search",
        body=urlencode(list(parameters)).encode("ascii"),
        headers={**(headers or {}), **_FORM},
        limits=limits,
        repeatable=True,
        turn=turn,
    )


class _Answered(Struct):
    status: Any = None


class _BatchEntry(Struct):
    resource: Raw = Raw()
    response: _Answered | None = None


def batch_of(targets: Iterable[str]) -> bytes:
    """A Bundle that asks for all of these at once."""
    entries = [{"request": {"method": "GET", "url": target}} for target in targets]
    return msgspec.json.encode({"resourceType": "Bundle", "type": "batch", "entry": entries})


def batch_answers(body: bytes, number: int) -> list[bytes | None] | None:
    """What a batch brought, in the order in which it was asked for, empty where it brought nothing, None
    where the server did not say; None for all where the body does not answer a batch of this many."""
    try:
        bundle = decoded_whole(body, _Page)
        entries, more = elements(bundle.entry, MOST_ENTRIES)
        found = [decoded_whole(bytes(raw), _BatchEntry) for raw in entries]
    except Unreadable:
        return None
    if bundle.resourceType != "Bundle" or bundle.type != "batch-response" or more or len(found) != number:
        return None
    return [_brought(one) for one in found]


def _brought(one: _BatchEntry) -> bytes | None:
    status = "" if one.response is None else str(one.response.status)[:3]
    if status == "200":
        return bytes(one.resource)
    return None if status.isdecimal() and int(status) in NOT_NOW else b""


# A page of a search


class _Link(Struct):
    relation: Any = None
    url: Any = None


class _Search(Struct):
    mode: str = "match"


class _Mode(Struct):
    mode: str | None = None


class _PlainEntry(Struct):
    """An entry as nearly all are."""

    resource: Raw = Raw()
    fullUrl: str | None = None  # noqa: N815
    search: _Mode | None = None


class _Entry(Struct):
    """The same, whatever stands there."""

    resource: Raw = Raw()
    fullUrl: Any = None  # noqa: N815
    search: Any = None


class Entry(Struct):
    """`resource`: its JSON, weighed; empty where the entry has none.

    `problem`: why the entry cannot be read; `resource` is then all of it, as it came.
    """

    resource: bytes = b""
    fullUrl: str | None = None  # noqa: N815
    search: _Search | None = None
    problem: str = ""


_MATCH = _Search()


class _Page(Struct):
    resourceType: str = ""  # noqa: N815
    type: Any = None
    total: Any = None
    link: Raw = Raw()
    entry: Raw = Raw()


class _PlainPage(Struct):
    """A page as nearly all are: cut into its entries, and these into their parts, while it is decoded."""

    resourceType: str = ""  # noqa: N815
    type: Any = None
    total: Any = None
    link: Raw = Raw()
    entry: list[_PlainEntry] | None = None


class NotAPage(Exception):
    """The body is no searchset Bundle."""


class SearchPage(Struct, frozen=True):
    """One page of a search: its entries, and where the next page is."""

    entries: tuple[Entry, ...]
    next_url: str | None
    cut_off: str = ""
    """Why something of this search is not here, and will not come."""
    self_url: str = ""
    """The search as the server understood it."""
    total: int | None = None
    """How many the server says there are, on all pages together."""


def search_page(body: bytes) -> SearchPage:
    """Decode a searchset Bundle. An entry that cannot be read says so and stops no other. Raises NotAPage."""
    page, found, more = _plainly_cut(body) or _cut(body)
    if page.resourceType != "Bundle":
        raise NotAPage
    links, lost = _links(page.link)
    cut_off = "a page that holds more than this app reads at once, or breaks off" if more else ""
    if lost:
        cut_off = cut_off or "the link to the next page cannot be read"
    total = page.total if type(page.total) is int and page.total >= 0 else None
    return SearchPage(tuple(found), links.get("next"), cut_off, links.get("self", ""), total)


def _plainly_cut(body: bytes) -> tuple[_PlainPage, list[Entry], bool] | None:
    """A page, its entries, and whether there are more of them; None where any of it takes a closer look."""
    if len(body) > LARGEST or not may_be_cut_at_once(body):
        return None
    try:
        page = decoded_whole(body, _PlainPage)
        entries = page.entry or []
        return page, list(map(_plain_entry, entries[:MOST_ENTRIES])), len(entries) > MOST_ENTRIES
    except Unreadable:
        return None


def _cut(body: bytes) -> tuple[_Page, list[Entry], bool]:
    """The same, whatever stands there. Raises NotAPage."""
    try:
        page = decoded_whole(body, _Page)
    except Unreadable:
        return _taken_apart(body)
    try:
        found, more = elements(page.entry, MOST_ENTRIES)
    except Unreadable:
        found, more = [], True
    return page, list(map(_entry, found)), more


def _taken_apart(body: bytes) -> tuple[_Page, list[Entry], bool]:
    """A page that is no JSON, by its brackets alone: its entries, and whether there may be more of them."""
    try:
        found = taken_apart(body, MOST_ENTRIES)
        type_ = decoded_as(found.members.get("resourceType", b""), str)
    except Unreadable:
        raise NotAPage from None
    page = _Page(type_, link=Raw(found.members.get("link", b"")))
    return page, [_entry(Raw(entry)) for entry in found.entries], not found.whole


def _plain_entry(entry: _PlainEntry) -> Entry:
    """Raises Unreadable where it weighs too much: it is one level more than its resource."""
    mode = entry.search.mode if entry.search is not None else None
    search = None if mode is None else _MATCH if mode == "match" else _Search(mode)
    return Entry(weighed(entry.resource, deepest=DEEPEST - 1), entry.fullUrl, search)


def _entry(raw: Raw) -> Entry:
    """Read leniently: what stands in one of its elements hides nothing else."""
    try:
        entry = decoded_as(raw, _Entry)
    except Unreadable as reason:
        return Entry(bytes(raw), problem=str(reason))
    mode = entry.search.get("mode") if isinstance(entry.search, dict) else None
    return Entry(
        bytes(entry.resource),
        entry.fullUrl if isinstance(entry.fullUrl, str) else None,
        _Search(mode) if isinstance(mode, str) else None,
    )


def _links(array: Raw) -> tuple[dict[str, str], bool]:
    """The first address of each relation; and whether there may be a next page that cannot be found."""
    try:
        parts, lost = elements(array, _MOST_LINKS)
    except Unreadable:
        return {}, True
    found: dict[str, str] = {}
    for raw in parts:
        try:
            link = decoded_as(raw, _Link)
        except Unreadable:
            lost = True
            continue
        if isinstance(link.relation, str) and isinstance(link.url, str) and link.url:
            found.setdefault(link.relation, link.url)
        elif link.relation == "next" and link.url not in (None, ""):
            lost = True
    return found, lost and "next" not in found


# What a server says of itself and of an answer


class _Outcome(Struct):
    resourceType: str = ""  # noqa: N815
    issue: Raw = Raw()


class Outcome(Struct, frozen=True):
    """An OperationOutcome: what it says, as one short plain line, and whether something is not there."""

    text: str = ""
    incomplete: bool = False


def outcome_of(body: bytes) -> Outcome:
    """What an OperationOutcome says; nothing where the body is anything else."""
    try:
        outcome = decoded_whole(body, _Outcome)
    except Unreadable:
        return Outcome(incomplete=b"OperationOutcome" in body)
    if outcome.resourceType != "OperationOutcome":
        return Outcome()
    issues = list(_parts(outcome.issue, _MOST_ISSUES, dict))
    line = "; ".join(part for part in map(_issue_text, issues) if part)
    return Outcome(printable(line)[:MOST_OUTCOME_TEXT], says_incomplete(body))


def outcome_text(body: bytes) -> str:
    """What an OperationOutcome says; empty where the body is anything else."""
    return outcome_of(body).text


def _issue_text(issue: dict[str, Any]) -> str:
    details = issue.get("details")
    told = (issue.get("diagnostics"), details.get("text") if isinstance(details, dict) else None)
    return next((text for text in (*told, issue.get("code")) if isinstance(text, str) and text), "")


class Declared(Struct, frozen=True):
    """What /metadata says of one resource type. A hint: the first real answer wins."""

    interactions: frozenset[str] = frozenset()
    parameters: frozenset[str] = frozenset()
    """Of searches."""
    conditional_create: bool = False
    update_create: bool = False
    operations: frozenset[str] = frozenset()


class _Statement(Struct):
    rest: Raw = Raw()


class _Rest(Struct):
    resource: Raw = Raw()
    interaction: Raw = Raw()
    searchParam: Raw = Raw()  # noqa: N815
    """Of every type."""


class _Declared(Struct):
    type: Any = None
    interaction: Raw = Raw()
    searchParam: Raw = Raw()  # noqa: N815
    operation: Raw = Raw()
    conditionalCreate: Any = None  # noqa: N815
    updateCreate: Any = None  # noqa: N815


def declared(body: bytes, type_: str) -> Declared:
    """One type in a CapabilityStatement; nothing declared where it cannot be read."""
    return declared_of(body, {type_}).get(type_, Declared())


def declared_of(body: bytes, types: Container[str]) -> dict[str, Declared]:
    """Some types in a CapabilityStatement, read leniently; those that it does not declare are left out."""
    try:
        rests, _ = elements(decoded_whole(body, _Statement).rest, _MOST_DECLARED)
    except Unreadable:
        return {}
    everywhere = frozenset(name for rest in rests for name in _parameters(rest))
    found: dict[str, Declared] = {}
    for item in (item for rest in rests for item in _resources(rest)):
        if isinstance(item.type, str) and item.type in types and item.type not in found:
            found[item.type] = Declared(
                frozenset(_words(item.interaction, "code")),
                everywhere.union(_words(item.searchParam, "name")),
                item.conditionalCreate is True,
                item.updateCreate is True,
                frozenset(_words(item.operation, "name")),
            )
    return found


def takes_batches(body: bytes) -> bool:
    """Whether a CapabilityStatement declares that several requests may come in one Bundle."""
    try:
        rests, _ = elements(decoded_whole(body, _Statement).rest, _MOST_DECLARED)
        found = [decoded_whole(bytes(rest), _Rest).interaction for rest in rests]
    except Unreadable:
        return False
    return any("batch" in _words(interaction, "code") for interaction in found)


def _resources(rest: Raw) -> Iterator[_Declared]:
    with contextlib.suppress(Unreadable):
        yield from _parts(decoded_whole(bytes(rest), _Rest).resource, _MOST_DECLARED, _Declared)


def _parameters(rest: Raw) -> Iterator[str]:
    """Search parameters of every type."""
    with contextlib.suppress(Unreadable):
        yield from _words(decoded_whole(bytes(rest), _Rest).searchParam, "name")


def _words(array: Raw, key: str) -> Iterator[str]:
    for item in _parts(array, _MOST_DECLARED, dict):
        if isinstance(text := item.get(key), str) and text:
            yield text


def _parts(array: Raw, most: int, kind: type[_Part]) -> Iterator[_Part]:
    """The first elements of an array, those that are of another shape left out; none where it is no array."""
    try:
        found, _ = elements(array, most)
    except Unreadable:
        return
    for raw in found:
        with contextlib.suppress(Unreadable):
            yield decoded_as(raw, kind)
