"""The one door for JSON that an EHR sends: nothing of it is taken apart that was not weighed before.

Whoever sends it may be broken or hostile: nested a hundred thousand levels deep, millions of empty objects in
a few kilobytes of gzip, numbers of a million digits. What passes here is JSON, so shallow that whoever walks
it may recurse, and so small that what is made of it stays small. A list is cut into its elements without
being read, so that one bad element is told and the others are not lost.
"""

from __future__ import annotations

import hashlib
import re
from functools import cache
from typing import Any, TypeVar, cast

import msgspec
from msgspec import Raw

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
"""Of a text that is searched for what is too deep: a second or so."""

_NO_JSON = (msgspec.MsgspecError, ValueError, RecursionError)
_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_STRINGS = re.compile(_STRING, re.DOTALL)
_BRACKETS = re.compile(_STRING + rb"|[\[{]+|[\]}]+", re.DOTALL)
_MARKS = re.compile(_STRING + rb"|[\[{]+|[\]}]+|,", re.DOTALL)
_AS_ROUND = bytes.maketrans(b"[]{}", b"()()")
_NO_BRACKET = bytes(set(range(256)) - set(b"[]{}"))
_Type = TypeVar("_Type")


class Unreadable(Exception):
    """What came cannot be read. Its text says why, in our own words, and quotes nothing."""


def weighed(text: bytes | Raw, largest: int = LARGEST) -> bytes:
    """The text itself. Raises Unreadable where it is too large, has too many parts or is nested too deeply;
    whether it is JSON is not asked."""
    body = bytes(text)
    if len(body) > largest:
        raise Unreadable("too large")
    opened = body.count(b"{") + body.count(b"[")
    if len(body) > MOST_PARTS and opened + body.count(b",") > MOST_PARTS:
        raise Unreadable("of too many parts")
    if opened > DEEPEST and _depth_exceeds(body):
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
    except _NO_JSON:
        raise Unreadable("not the JSON that was asked for") from None
    return found


def frame(body: bytes, type_: type[_Type]) -> _Type:
    """The outermost object of a long text, as a type whose lists are `Raw` (see `elements`).

    Where something within is nested too deeply, a text stands in its place. Raises Unreadable.
    """
    try:
        return msgspec.json.decode(body, type=type_)
    except RecursionError:
        body = _without_the_deep(body)
    except _NO_JSON:
        raise Unreadable("not the JSON that was asked for") from None
    try:
        return msgspec.json.decode(body, type=type_)
    except _NO_JSON:
        raise Unreadable("not the JSON that was asked for") from None


def elements(array: bytes | Raw, most: int) -> tuple[list[Raw], bool]:
    """The elements of a JSON array, at most so many, each as it stands; and whether there were more.

    None of them where nothing or `null` stands. Its text was decoded before, by `frame`: beyond some size
    only its commas are looked for. Raises Unreadable where it is no array.
    """
    body, more = bytes(array), False
    if body in (b"", b"null"):
        return [], False
    if body.count(b",") > _MANY:
        body, more = _beginning(body, most)
    try:
        found = msgspec.json.decode(body, type=list[Raw])
    except _NO_JSON:
        raise Unreadable("no list") from None
    return found[:most], more or len(found) > most


@cache
def _decoder(type_: Any) -> Any:
    """Made once a type: making one takes longer than decoding a resource."""
    return msgspec.json.Decoder(type_)


def _depth_exceeds(body: bytes) -> bool:
    """Whether brackets nest deeper than `DEEPEST`: the innermost pairs are taken away, level by level."""
    brackets = _STRINGS.sub(b"", body).translate(_AS_ROUND, _NO_BRACKET)
    for _ in range(DEEPEST):
        if not brackets:
            return False
        brackets = brackets.replace(b"()", b"")
    return bool(brackets)


def _without_the_deep(body: bytes) -> bytes:
    """The text with "too deep" in place of every element of an element that is nested too deeply.

    In a Bundle those are its entries and links. Brackets that do not match are for the decoder to refuse.
    Raises Unreadable where that would take too long.
    """
    if sum(map(body.count, (b"[", b"]", b"{", b"}"))) > _MOST_BRACKETS:
        raise Unreadable("nested too deeply")
    pieces: list[bytes] = []
    copied = depth = deepest = begin = 0
    for mark in _BRACKETS.finditer(body):
        token = mark[0]
        if token[0] in b"[{":
            if depth < 3 <= depth + len(token):
                begin, deepest = mark.start() + 2 - depth, 0
            depth += len(token)
            deepest = max(deepest, depth)
        elif token[0] in b"]}":
            if depth >= 3 > depth - len(token) and deepest - 2 > DEEPEST:
                end = mark.start() + depth - 2
                digest = hashlib.blake2s(body[begin:end], digest_size=6).hexdigest()
                pieces += [body[copied:begin], f'"too deep {digest}"'.encode()]
                copied = end
            depth -= len(token)
    return b"".join([*pieces, body[copied:]])


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
