"""What can still be read of JSON that is none: a NaN, half a character, a broken escape, too large a number.

An entry that cannot be read loses itself and not its page (D20): a Bundle is taken apart by its brackets and
quotes alone, so that every entry stands by itself again; and of a broken one the type, the coding, the days
are looked for, to know what its absence may have changed. Errors in doubt make more go missing, never less:
a coding that is not certain is none, and what may be several entries is of unknown number.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from datetime import date
from typing import Any

import msgspec
from msgspec import Raw, Struct

from fhir_mappings.completeness import ANY_TYPE, DECIDING, Missing, MissingWhy
from fhir_mappings.local_time import LocalClock, Moment
from fhir_mappings.resources import Coding, Patient, Reference, without_misfits
from fhir_mappings.terminology import Terminology

NOT_READ = "an entry that cannot be read"
MOST_PARTS = 1_000_000
"""Entries of one Bundle, or elements of one object."""
LARGEST_ELEMENT = 256 * 1024
"""Bytes of one element that are read leniently: a reference, a concept, a period are far below."""
_LONGEST_NUMBER = 300
_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?+'
"""A text, also one that never ends: looked for again from each of its quotes, it would cost the square."""
_MARKS = re.compile(_STRING + rb"|[\[{]|[\]}]|,", re.DOTALL)
_BRACKETS = re.compile(_STRING + rb"|[\[{]+|[\]}]+", re.DOTALL)
_KEY = re.compile(rb'"([A-Za-z_]{1,64})"\s*:')
_BLANKS = re.compile(rb"(?:\xef\xbb\xbf)?[ \t\r\n]*+")
_ESCAPE = re.compile(r'\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}|)')
_TYPE = re.compile(rb'"resourceType"\s*:\s*"([A-Za-z]{1,64})"')
_CLOSES = {ord("["): ord("]"), ord("{"): ord("}")}
_DAMAGED = "\ufffd"
"""What stands where a character could not be read."""
_NO_VALUE = object()
_NEVER_COUNTED: Mapping[str, frozenset[str]] = {
    "Observation": frozenset({"registered", "preliminary", "cancelled", "entered-in-error", "unknown"}),
    "Encounter": frozenset({"planned", "cancelled", "entered-in-error"}),
    "ChargeItem": frozenset({"entered-in-error", "aborted", "not-billable"}),
}
"""Statuses under which nothing hangs on a record of the type, whatever else it says."""


class Entries(Struct, frozen=True):
    """A Bundle that was taken apart. `members`: its other elements, each as it stands.

    `whole` is false where its end was not found, or not where it should be: something came after the last
    entry here, and nobody knows how much.
    """

    entries: tuple[bytes, ...] = ()
    members: Mapping[str, bytes] = {}
    whole: bool = False


class Salvaged(Struct, frozen=True, gc=False):
    """What a broken resource still says. Times as they are written; "" for what cannot be read."""

    type: str = ""
    id: str = ""
    subject: Reference | None = None
    codings: tuple[Coding, ...] = ()
    """Of its `code`; none unless every one of them can be read."""
    first: str = ""
    """When what it speaks of began: effective[x], a period, an occurrence[x]."""
    last: str = ""
    last_updated: str = ""
    status: str = ""
    one: bool = False
    """Its brackets and quotes match: it is one record. Else it may be a piece of several."""


# Taking apart


def entries_of(text: bytes | Raw, most: int = MOST_PARTS) -> Entries:
    """The entries of a Bundle, or of the Bundle that an entry holds, at most so many, each as it stands,
    whatever is wrong within; and its other elements. Never raises.

    Only for a text that is no JSON: of one that is, the decoder gives the same, and sooner.
    """
    found = _entries_of(text, most)
    if found.entries or "resourceType" in found.members or "resource" not in found.members:
        return found
    held = _entries_of(found.members["resource"], most)
    return Entries(held.entries, held.members, held.whole and found.whole)


def _entries_of(text: bytes | Raw, most: int) -> Entries:
    body = bytes(text)
    opening = _opening(body, b"{")
    if opening is None:
        return Entries()
    found: list[bytes] = []
    members: dict[str, bytes] = {}
    parts, rest, whole = _parts(body, opening, MOST_PARTS)
    named, nameless = _named([*parts, rest])
    for name, value in named:
        if name == "entry":
            inside = _opening(value, b"[")
            if inside is None:
                whole = whole and value.strip() == b"null"
                continue
            entries, _, complete = _parts(value, inside, most)
            found += entries
            whole = whole and complete
        else:
            members[name] = value
    return Entries(tuple(found), members, whole and not nameless)


def members_of(text: bytes | Raw) -> tuple[dict[str, bytes], bool]:
    """The elements of an object, each as it stands; and whether it is one, or one other value of JSON, and
    nothing beside it."""
    body = bytes(text)
    opening = _opening(body, b"{")
    if opening is None:
        return {}, _is_json(body)
    parts, _, whole = _parts(body, opening, MOST_PARTS)
    named, nameless = _named(parts)
    return dict(named), whole and not nameless


def _is_json(text: bytes) -> bool:
    try:
        msgspec.json.decode(text)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return False
    return True


def _opening(body: bytes, bracket: bytes) -> int | None:
    """Where a text opens with this bracket; None where it opens with anything else."""
    blanks = _BLANKS.match(body)
    begin = blanks.end() if blanks is not None else 0
    return begin if body.startswith(bracket, begin) else None


def _parts(body: bytes, opening: int, most: int) -> tuple[list[bytes], bytes, bool]:
    """What stands between the commas of the bracket that opens here, at most so many parts; what comes after
    them, where it does not close as it should; and whether it does, with nothing behind it."""
    found: list[bytes] = []
    begin = at = opening + 1
    while (mark := _MARKS.search(body, at)) is not None:
        token, at = mark[0], mark.end()
        if token in (b"{", b"["):
            end = _closing(body, at)
            if end is None:
                return found, body[begin:].strip(), False
            at = end
        elif token in (b"}", b"]"):
            _keep(found, body[begin : mark.start()])
            closes = token[0] == _CLOSES[body[opening]]
            return found, b"", closes and not body[mark.end() :].strip()
        elif token == b",":
            _keep(found, body[begin : mark.start()])
            begin = at
            if len(found) >= most:
                return found, body[begin:].strip(), False
    return found, body[begin:].strip(), False


def _keep(found: list[bytes], part: bytes) -> None:
    part = part.strip()
    if part:
        found.append(part)


def _closing(body: bytes, begin: int) -> int | None:
    """Behind the bracket that closes the one opened before `begin`; None where none does."""
    depth = 1
    for mark in _BRACKETS.finditer(body, begin):
        token = mark[0]
        if token[0] in b"[{":
            depth += len(token)
        elif token[0] in b"]}":
            if depth <= len(token):
                return mark.start() + depth
            depth -= len(token)
    return None


def _named(parts: list[bytes]) -> tuple[list[tuple[str, bytes]], bool]:
    """Name and value of the parts of an object; and whether any part has no name, and so may be anything."""
    found = [
        (key[1].decode("ascii"), part[key.end() :].strip())
        for part in parts
        if (key := _KEY.match(part)) is not None
    ]
    return found, len(found) < sum(map(bool, parts))


# What a broken resource still says


def salvaged(text: bytes | Raw) -> Salvaged:
    """What a resource, or an entry that holds one, still says of itself. Never raises."""
    members, one = members_of(text)
    if "resourceType" not in members and "resource" in members:
        inner, whole = members_of(members["resource"])
        members, one = inner, one and whole
    if "resourceType" not in members:
        return Salvaged(type=_only_type(bytes(text)), one=one)
    type_ = _text(_value(members["resourceType"]))
    first, last = _days(type_, members)
    meta = _value(members.get("meta", b""))
    return Salvaged(
        type=type_ or _only_type(bytes(text)),
        id=_text(_value(members.get("id", b""))),
        subject=_subject(members),
        codings=_codings(_value(members.get("code", b""))) if one else (),
        first=first,
        last=last,
        last_updated=_text(meta.get("lastUpdated")) if isinstance(meta, dict) else "",
        status=_text(_value(members.get("status", b""))),
        one=one,
    )


def missing_of(
    found: Salvaged,
    type_: str,
    terminology: Terminology,
    clock: LocalClock,
    within: tuple[date | None, date | None] = (None, None),
) -> Missing | None:
    """What is missing because this entry could not be read; None where nothing is (D20 d, e).

    `type_`: the type that its search or its page tells, where it tells none itself. `within`: the days that
    were searched, where it tells no day itself. A type that decides nothing, a coding that is not declared
    and a status that never counts are nothing.
    """
    type_ = found.type or type_
    if type_ and type_ not in DECIDING:
        return None
    if found.one and found.status in _NEVER_COUNTED.get(type_, ()):
        return None
    if type_ == "Observation" and found.codings:
        meaning = terminology.observation(found.codings)
        if meaning is None or not meaning.measurement:
            return None
    start, end = within
    first, last = _day(found.first, clock), _day(found.last, clock)
    if found.one and (first or last):
        start, end = first, last
    elif (written := _day(found.last_updated, clock)) is not None and found.one:
        end = written if end is None else min(end, written)
    return Missing(type_ or ANY_TYPE, MissingWhy.UNREADABLE, start, end, int(found.one), NOT_READ)


def mended(text: bytes | Raw) -> bytes | None:
    """A resource with all of it that can be read, as JSON; None where not even its elements can be told.

    Characters that cannot be read stand as U+FFFD, and an element nothing of which can be read is left out.
    """
    members, one = members_of(text)
    if not one:
        return None
    readable = {name: value for name, part in members.items() if (value := _value(part)) is not _NO_VALUE}
    try:
        return _whole_characters(json.dumps(readable, ensure_ascii=False)).encode()
    except (ValueError, RecursionError):
        return None


def mended_patient(text: bytes | Raw) -> bytes | None:
    """A Patient with all of it that can be read, as `mended`. What the lost elements may have said is said
    with doubt: that somebody died, on a day that nobody knows; that there are further records of them."""
    members, _ = members_of(text)
    if "resourceType" not in members and "resource" in members:
        return mended_patient(members["resource"])  # an entry that holds it
    rest = mended(text)
    if rest is None:
        return None
    patient = json.loads(rest)
    died = {name: patient.pop(name, None) for name in ("deceasedBoolean", "deceasedDateTime")}
    if _text(died["deceasedDateTime"]):
        patient["deceasedDateTime"] = died["deceasedDateTime"]
    elif isinstance(died["deceasedBoolean"], bool) and "deceasedDateTime" not in members:
        patient["deceasedBoolean"] = died["deceasedBoolean"]
    elif members.keys() & died.keys():
        patient["deceasedBoolean"] = True
    if "link" in members and not isinstance(patient.get("link"), list):
        patient["link"] = [{"type": "seealso"}]
    fitting = without_misfits(json.dumps(patient).encode(), Patient, "resourceType", "id")
    return json.dumps(patient).encode() if fitting is None else fitting


def _day(text: str, clock: LocalClock) -> date | None:
    moment = clock.read(text)
    return moment.day if isinstance(moment, Moment) else None


def _nothing(_: str) -> None:
    return None


def _number(text: str) -> float | int | None:
    """A number that can be written again; too large a one is none."""
    if len(text) > _LONGEST_NUMBER:
        return None
    number = float(text)
    if not math.isfinite(number):
        return None
    return int(text) if text.lstrip("-").isdecimal() else number


_LENIENT = json.JSONDecoder(strict=False, parse_constant=_nothing, parse_int=_number, parse_float=_number)


def _value(text: bytes) -> Any:
    """An element, by the most lenient means; nothing readable where even these fail."""
    if len(text) > LARGEST_ELEMENT:
        return _NO_VALUE
    mended = _ESCAPE.sub(_mended, text.decode("utf-8", "replace"))
    try:
        return json.loads(
            mended, strict=False, parse_constant=_nothing, parse_int=_number, parse_float=_number
        )
    except (ValueError, RecursionError):
        return _NO_VALUE


def _mended(escape: re.Match[str]) -> str:
    return escape[0] if len(escape[0]) > 1 else "\\ufffd"


def _text(value: object) -> str:
    """A text every character of which could be read; else ""."""
    if not isinstance(value, str) or _DAMAGED in value:
        return ""
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:  # half a character
        return ""
    return value


def _whole_characters(text: str) -> str:
    """The text with U+FFFD in place of halves of characters."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _only_type(text: bytes) -> str:
    """The one type that a text names, where it names no other."""
    named = set(_TYPE.findall(text))
    return named.pop().decode("ascii") if len(named) == 1 else ""


def _subject(members: Mapping[str, bytes]) -> Reference | None:
    for name in ("subject", "patient", "beneficiary"):
        value = _value(members.get(name, b""))
        if isinstance(value, dict):
            try:
                found = msgspec.convert(value, Reference)
            except msgspec.ValidationError:
                continue
            if _text(found.reference) or (found.identifier is not None and _text(found.identifier.value)):
                return found
    return None


def _codings(concept: object) -> tuple[Coding, ...]:
    codings = concept.get("coding") if isinstance(concept, dict) else None
    found: list[Coding] = []
    for coding in codings if isinstance(codings, list) else ():
        if not isinstance(coding, dict):
            return ()
        system, code = coding.get("system"), _text(coding.get("code"))
        if not code or (system is not None and not _text(system)):
            return ()
        found.append(Coding(system, code))
    return tuple(found)


def _days(type_: str, members: Mapping[str, bytes]) -> tuple[str, str]:
    """From when to when a record speaks, as it is written."""
    if type_ == "Encounter":
        return _period(_value(members.get("period") or members.get("actualPeriod", b"")))
    prefix = {"Observation": "effective", "ChargeItem": "occurrence"}.get(type_)
    if prefix is None:
        return "", ""
    for name in (f"{prefix}DateTime", f"{prefix}Instant"):
        if text := _text(_value(members.get(name, b""))):
            return text, text
    timing = _value(members.get(f"{prefix}Timing", b""))
    events = timing.get("event") if isinstance(timing, dict) else None
    if isinstance(events, list) and events and all(map(_text, events)):
        return min(events), max(events)
    first, last = _period(_value(members.get(f"{prefix}Period", b"")))
    # A reading is of the day on which its period starts (D5).
    return (first, first) if type_ == "Observation" else (first, last or first)


def _period(value: object) -> tuple[str, str]:
    if not isinstance(value, dict):
        return "", ""
    return _text(value.get("start")), _text(value.get("end"))
