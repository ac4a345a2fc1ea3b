"""Who and what is meant: the one home of names, references, versions, and whose a record is.

A reference is brought to one shape: `Type/id`, or a name that only this chart can resolve. Relative,
absolute, versioned, `urn:`, `#contained`, logical (`identifier`), conditional (a search) and display-only
references all occur.
Nothing is fetched here: an absolute reference to another server stays as it is.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import parse_qsl

import msgspec
from msgspec import Raw, Struct

from fhir_mappings.local_time import LocalClock, Moment
from fhir_mappings.record import NOT_SAID, About
from fhir_mappings.resources import (
    Coding,
    Identifier,
    Meta,
    Patient,
    Reference,
    Resource,
    contained_in,
    loosely,
)

HISTORY = "/_history/"
_LOGICAL = "identifier "
_LITERAL = re.compile(r"[A-Z][A-Za-z]+/[^/]+")
_CONDITIONAL = re.compile(r"(?:^|/)([A-Z][A-Za-z]+)\?(.+)$")
_SERVER = re.compile(r"https?://([^/?#]+)", re.IGNORECASE)
_AROUND = "/ \t\r\n"
_LONGEST_VERSION = 64
"""Characters: what an id has at most, in FHIR."""
_OWNERS = ("subject", "patient", "beneficiary")
"""The elements by which the types we read name whose they are."""

REPLACED_BY = ("replaced-by", "replace")
"""The second is what DSTU2 called it."""
UNKNOWN_PATIENT = "Patient/?"
"""Somebody who is named in a way that nobody can read."""


# -- names ------------------------------------------------------------------------------------------------


def name_of(kind: str, logical_id: str | None, text: bytes | Raw) -> str:
    """The name of one resource: `Type/id`, or one made up where it has no id."""
    return f"{kind}/{logical_id}" if logical_id else made_up_name(kind, text)


def made_up_name(kind: str, text: bytes | Raw) -> str:
    """A name for what doesn't name itself: the same for the same bytes, wherever they are read; blanks and
    line ends around them are no part of it."""
    return f"{kind}/~{hashlib.blake2s(bytes(text).strip(), digest_size=6).hexdigest()}"


def server_of(full_url: str, name: str) -> str:
    """The server that a record (`Type/id`) is of, as its fullUrl says; "" where that does not name it."""
    address = unversioned(full_url)
    server = _SERVER.match(address)
    return server[1].lower() if server is not None and address.endswith(f"/{name}") else ""


def is_made_up(name: str) -> bool:
    """Is this a name that no server knows (`made_up_name`)?"""
    return name.partition("/")[2].startswith("~")


def unversioned(reference: str) -> str:
    """A literal reference without the version it may name."""
    return reference.split(HISTORY, 1)[0]


Bases = str | tuple[str, ...]
"""The addresses by which one FHIR server may be called; its own comes first."""


def each(bases: Bases) -> tuple[str, ...]:
    return (bases,) if isinstance(bases, str) else bases


def relative(reference: str, bases: Bases) -> str:
    """`Type/id` of a literal reference under a base, absolute or not, without its version; else itself."""
    for base in each(bases):
        under = base.rstrip("/") + "/"
        if reference.startswith(under):
            return unversioned(reference.removeprefix(under))
    return unversioned(reference)


def last_segments(reference: str) -> str:
    """The last two segments of a literal reference, without its version: what is `Type/id` on any server."""
    return "/".join(unversioned(reference).rsplit("/", 2)[-2:])


# -- whose a record is ------------------------------------------------------------------------------------


def subject_of(resource: Resource) -> Reference | None:
    """Whose a resource is, by the element that its type has for it."""
    for element in _OWNERS:
        found: Reference | None = getattr(resource, element, None)
        if found is not None:
            return found
    return None


def owner_of(subject: Reference | None, contained: list[Raw] | None) -> str:
    """Whose a resource is, as a `pointer`; "" where it names nobody.

    A Patient whom it contains is whoever has that one's identifier: "#p" is somebody else in each resource.
    """
    owner = pointer(subject, "Patient") or ""
    if not owner.startswith("#"):
        return owner
    inner = contained_in(contained).get(owner[1:])
    known = (inner.identifier if isinstance(inner, Patient) else None) or ()
    named = next((identifier for identifier in known if identifier.value), None)
    return pointer(Reference(identifier=named), "Patient") or ""


# -- what is spoken of ------------------------------------------------------------------------------------


def about_of(codings: Iterable[Coding]) -> About:
    """The first of these codings that has a code, as it is told to a reader."""
    return next(
        (About(coding.system or "", coding.code, coding.display or "") for coding in codings if coding.code),
        NOT_SAID,
    )


# -- versions ---------------------------------------------------------------------------------------------


class Stamp(Struct, frozen=True, gc=False):
    """What tells the versions of one resource apart: its number, and the instant it was stored."""

    number: int | None = None
    at: int | None = None

    def is_newer(self, other: Stamp) -> bool:
        """By number where both have one, else by instant; False where neither tells (D27)."""
        if self.number is not None and other.number is not None:
            return self.number > other.number
        return self.at is not None and other.at is not None and self.at > other.at


def stamp_of(meta: Meta | None, clock: LocalClock) -> Stamp:
    """The version of a resource. Instants are compared, never texts: offsets and fractions differ."""
    if meta is None:
        return Stamp()
    number = meta.versionId
    # A number of thousands of digits is none that a server counts with, and Python refuses to read it.
    counted = number is not None and len(number) <= _LONGEST_VERSION and number.isascii() and number.isdigit()
    return Stamp(int(number or "") if counted else None, instant_of(meta.lastUpdated, clock))


def instant_of(text: str | None, clock: LocalClock) -> int | None:
    """Microseconds UTC of a time as it is written; None for what is no time."""
    moment = clock.read(text)
    return moment.instant if isinstance(moment, Moment) and not moment.date_only else None


def newest(stamps: Sequence[Stamp]) -> list[int]:
    """Which of several versions may be the present one: those that no other is newer than, in any order.
    All of them where they contradict each other."""
    different = set(stamps)
    present = {one for one in different if not any(other.is_newer(one) for other in different)}
    return [at for at, one in enumerate(stamps) if one in present] or list(range(len(stamps)))


# -- one person under several records ---------------------------------------------------------------------


class Links(Struct, frozen=True):
    """What a Patient says of other records of the same person, as `Type/id` (D30)."""

    replaced_by: str | None = None
    replaces: tuple[str, ...] = ()
    elsewhere: bool = False
    """There are records of this person that are not read with this one (`refer`, `seealso`)."""


def links_of(patient: Patient, references: References) -> Links:
    """`replaced-by`, `replaces`, and whether there is more elsewhere; what can't be read says nothing."""
    links = loosely(patient.link)
    replaced_by: str | None = None
    replaces: list[str] = []
    elsewhere = False
    for link in links if isinstance(links, list) else ():
        if not isinstance(link, dict):
            continue
        other = link.get("other")
        try:
            name = references.name(msgspec.convert(other, Reference), "Patient")
        except msgspec.ValidationError:
            name = None
        kind = link.get("type")
        if kind in REPLACED_BY:
            # Whom by may be unreadable; that it was replaced is said all the same.
            replaced_by = name or replaced_by or UNKNOWN_PATIENT
        elif kind == "replaces" and name is not None:
            replaces.append(name)
        elif kind in ("refer", "seealso"):
            elsewhere = True
    return Links(replaced_by, tuple(replaces), elsewhere)


# -- references -------------------------------------------------------------------------------------------


class References:
    """Brings references to `Type/id`. `bases` are the FHIR server's addresses; without any (files), an
    absolute reference is read by its last two segments, since a folder of exports has no address of its own.
    """

    def __init__(self, bases: Bases | None = None) -> None:
        self._bases = bases
        self._root = None if bases is None else each(bases)[0].rstrip("/") + "/"
        self._aliases: dict[str, str] = {}
        self._identifiers: dict[tuple[str, str | None, str], set[str]] = {}
        self._same: dict[str, str] = {}
        self._known: dict[str, str] = {}

    def learn(self, name: str, full_url: str | None, identifiers: list[Identifier] | None) -> None:
        """Remember a resource's other names: its Bundle fullUrl and its business identifiers."""
        # What is brought to the name by itself needs no other: nearly every address is the server's own.
        if full_url and self._root is not None and full_url == self._root + name and HISTORY not in name:
            full_url = None
        kind = name.split("/", 1)[0] if full_url or identifiers else ""
        if full_url and (place := self._shorten(full_url)) != name:
            if _LITERAL.fullmatch(place) is None:
                self._aliases[full_url] = name
            elif place.startswith(f"{kind}/"):
                self._aliases[full_url] = name
                if is_made_up(name):
                    # Its place in a Bundle is all that others can call it by.
                    self._aliases.setdefault(place, name)
        for identifier in identifiers or ():
            if identifier.value:
                key = (kind, identifier.system, identifier.value)
                self._identifiers.setdefault(key, set()).add(name)

    def merge(self, survivors: Mapping[str, str]) -> None:
        """Remember who is the same person: a name that was replaced, and the one that stands for it."""
        self._same = dict(survivors)

    def short(self, text: str) -> str:
        """A literal reference as `Type/id`, where it is one; otherwise the text itself."""
        known = self._known.get(text)
        if known is None:
            known = self._known[text] = self._shorten(text)
        return self._aliases.get(known, known)

    def _shorten(self, text: str) -> str:
        if "://" not in text:
            return unversioned(text)
        if self._bases is not None:
            return relative(text, self._bases)
        plain = unversioned(text)
        parts = plain.rsplit("/", 2)
        return f"{parts[1]}/{parts[2]}" if len(parts) == 3 and parts[1][:1].isupper() else plain

    def name(self, reference: Reference | None, kind: str) -> str | None:
        """The name of what is referred to, once everything was learned; None where it names nothing.

        `kind` is the resource type that a logical reference is looked up under.
        """
        return self.resolve(pointer(reference, kind))

    def resolve(self, pointed: str | None) -> str | None:
        """What a `pointer` names; None where nothing of that name was learned or could be."""
        if not pointed:
            return None
        if not pointed.startswith(_LOGICAL):
            name = self.short(pointed)
            return self._same.get(name, name)
        parts = pointed.removeprefix(_LOGICAL).split("\0")
        if len(parts) != 3:
            # A literal reference that begins like one of ours, or a NUL in an identifier: FHIR has neither.
            return None
        kind, system, value = parts
        named = {
            self._same.get(name, name) for name in self._identifiers.get((kind, system or None, value), ())
        }
        # An identifier that two share names neither, in whatever order they came.
        return named.pop() if len(named) == 1 else None

    def is_a_stranger(self, pointed: str) -> bool:
        """Does an identifier name somebody of whom nothing was learned, and no second name of one who was?
        Who is known under its system has another value there; under another system they may be the same."""
        kind, system, value = ([*pointed.removeprefix(_LOGICAL).split("\0"), "", ""])[:3]
        if not pointed.startswith(_LOGICAL) or (kind, system or None, value) in self._identifiers:
            return False
        return bool(system) and any(known[:2] == (kind, system) for known in self._identifiers)


def pointer(reference: Reference | None, kind: str) -> str | None:
    """A reference as one text that can be kept until everything was read: the literal reference, or its
    logical identifier. "" where the element is there and names nothing (a display alone); None without one.
    """
    if reference is None:
        return None
    if reference.reference:
        # Blanks around a reference, and a slash before or behind it, name nobody else.
        literal = reference.reference.strip(_AROUND)
        return literal if "?" not in literal else _asked_for(literal)
    logical = reference.identifier
    if logical is not None and logical.value:
        return _logical(reference.type or kind, logical.system or "", logical.value)
    return ""


def kind_said(reference: Reference) -> str:
    """The type that a reference names by itself, whatever it leads to; "" where it doesn't."""
    if reference.type:
        return reference.type
    asked = _CONDITIONAL.search(reference.reference or "")
    return "" if asked is None else asked[1]


def _asked_for(text: str) -> str:
    """A conditional reference (`Practitioner?identifier=system|value`), as transactions have them before a
    server has looked whom they mean: the same as a logical one. Any other text as it stands."""
    asked = _CONDITIONAL.search(text)
    if asked is None:
        return text
    for name, value in parse_qsl(asked[2]):
        if name == "_id":
            return f"{asked[1]}/{value}"
        if name == "identifier":
            system, bar, own = value.partition("|")
            return _logical(asked[1], system if bar else "", own if bar else value)
    return text


def _logical(kind: str, system: str, value: str) -> str:
    return f"{_LOGICAL}{kind}\0{system}\0{value}"
