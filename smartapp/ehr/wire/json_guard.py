"""The one door for JSON that an EHR sends: nothing of it is taken apart that was not weighed before.

Whoever sends it may be broken or hostile: nested a hundred thousand levels deep, millions of empty objects in
a few kilobytes of gzip, numbers of a million digits. What passes here is JSON, so shallow that whoever walks
it may recurse, and so small that what is made of it stays small. A list is cut into its elements without
being read, so that one bad element is told and the others are not lost.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any, TypeVar, cast

import msgspec
from msgspec import Raw

from fhir_mappings.salvage import Entries, entries_of

MEGABYTE = 1024 * 1024
DEEPEST = 64
"""Levels of a resource, as everywhere else JSON comes in."""
LARGEST = 4 * MEGABYTE
"""Bytes of one resource; a Patient may carry a photograph."""
MOST_PARTS = 100_000
"""Values of one resource, at most about: what is made of them takes a hundred bytes each."""
_MANY = 200_000
"""Commas up to which a list can be cut at once: a few megabytes, whatever stands between them."""
_MOST_BRACKETS = 500_000
"""Of a text that is taken apart by them: a second or so."""

NO_JSON = (msgspec.MsgspecError, ValueError, RecursionError)
"""What decoding raises."""
_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?+'
"""A text, also one that never ends: looked for again from each of its quotes, it would cost the square."""
_STRINGS = re.compile(_STRING, re.DOTALL)
_MARKS = re.compile(_STRING + rb"|[\[{]+|[\]}]+|,", re.DOTALL)
_AS_ROUND = bytes.maketrans(b"[]{}", b"()()")
_NO_BRACKET = bytes(set(range(256)) - set(b"[]{}"))
_Type = TypeVar("_Type")


class Unreadable(Exception):
    """What came cannot be read. Its text says why, in our own words, and quotes nothing."""


def weighed(text: bytes | Raw, largest: int = LARGEST, deepest: int = DEEPEST) -> bytes:
    """The text itself. Raises Unreadable where it is too large, has too many parts or is nested too deeply;
    whether it is JSON is not asked."""
    body = bytes(text)
    if len(body) > largest:
        raise Unreadable("too large")
    opened = body.count(b"{") + body.count(b"[")
    if len(body) > MOST_PARTS and opened + body.count(b",") > MOST_PARTS:
        raise Unreadable("of too many parts")
    if opened > deepest and _depth_exceeds(body, deepest):
        raise Unreadable("nested too deeply")
    return body


def decoded(text: bytes | Raw, largest: int = LARGEST) -> Any:
    """Any JSON value that passes. Raises Unreadable."""
    return decoded_as(text, Any, largest)


def decoded_as(text: bytes | Raw, type_: type[_Type], largest: int = LARGEST) -> _Type:
    """The JSON as this type. Raises Unreadable, also where its shape is another."""
    body = weighed(text, largest)
    try:
        found: _Type = _decoder(cast("Any", type_)).decode(body)
    except NO_JSON:
        raise Unreadable("not the JSON that was asked for") from None
    return found


def decoded_whole(body: bytes, type_: type[_Type]) -> _Type:
    """The outermost object of a long text, as a type whose lists are `Raw` (see `elements`).

    Raises Unreadable, also where one element of one list is no JSON or nested too deeply: see `taken_apart`.
    """
    try:
        return msgspec.json.decode(body, type=type_)
    except NO_JSON:
        raise Unreadable("not the JSON that was asked for") from None


def taken_apart(body: bytes, most: int) -> Entries:
    """A Bundle that is no JSON as a whole, entry by entry. Raises Unreadable where that took too long."""
    if sum(map(body.count, (b"[", b"]", b"{", b"}"))) > _MOST_BRACKETS:
        raise Unreadable("of too many parts")
    return entries_of(body, most)


def may_be_cut_at_once(body: bytes) -> bool:
    """Whether a list in this text is cut into its elements while all of it is decoded (see `elements`)."""
    return body.count(b",") <= _MANY


def elements(array: bytes | Raw, most: int) -> tuple[list[Raw], bool]:
    """The elements of a JSON array, at most so many, each as it stands; and whether there were more.

    None of them where nothing or `null` stands. Its text was decoded before, by `decoded_whole`: beyond some
    size only its commas are looked for. Raises Unreadable where it is no array.
    """
    body, more = bytes(array), False
    if body in (b"", b"null"):
        return [], False
    if not may_be_cut_at_once(body):
        body, more = _beginning(body, most)
    try:
        found = msgspec.json.decode(body, type=list[Raw])
    except NO_JSON:
        raise Unreadable("no list") from None
    return found[:most], more or len(found) > most


@cache
def _decoder(type_: Any) -> Any:
    """Made once a type: making one takes longer than decoding a resource."""
    return msgspec.json.Decoder(type_)


def _depth_exceeds(body: bytes, deepest: int) -> bool:
    """Whether brackets nest deeper than this: the innermost pairs are taken away, level by level."""
    brackets = _STRINGS.sub(b"", body).translate(_AS_ROUND, _NO_BRACKET)
    for _ in range(deepest):
        if not brackets:
            return False
        brackets = brackets.replace(b"()", b"")
    return bool(brackets)


def _beginning(array: bytes, most: int) -> tuple[bytes, bool]:
    """An array of JSON up to and with so many elements; and whether there were more."""
    depth = seen = 0
    for mark in _MARKS.finditer(array):
        token = mark[0]
        if token[0] in b"[{":
            depth += len(token)
        elif token[0] in b"]}":
            depth -= len(token)
        elif token == b"," and depth == 1:
            seen += 1
            if seen == most:
                return array[: mark.start()] + b"]", True
    return array, False
