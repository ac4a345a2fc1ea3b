"""Who and what is meant: the one home of names, references, versions, and whose a record is.

A reference is brought to one shape: `Type/id`, or a name that only this chart can resolve. Relative,
absolute, versioned, `urn:`, `#contained`, logical (`identifier`) and display-only references all occur.
Nothing is fetched here: an absolute reference to another server stays as it is.
"""

from __future__ import annotations

import hashlib
import re

from msgspec import Raw

from fhir_mappings.resources import Identifier, Meta, Reference, Resource

HISTORY = "/_history/"
_LOGICAL = "identifier "
_LITERAL = re.compile(r"[A-Z][A-Za-z]+/[^/]+")
_LONGEST_VERSION = 64
"""Characters: what an id has at most, in FHIR."""
_OWNERS = ("subject", "patient", "beneficiary")
"""The elements by which the types we read name whose they are."""

Version = tuple[str, int]


# -- names ------------------------------------------------------------------------------------------------


def name_of(kind: str, logical_id: str | None, text: bytes | Raw) -> str:
    """The name of one resource: `Type/id`, or one made up where it has no id."""
    return f"{kind}/{logical_id}" if logical_id else made_up_name(kind, text)


def made_up_name(kind: str, text: bytes | Raw) -> str:
    """A name for what doesn't name itself: the same for the same bytes, wherever they are read."""
    return f"{kind}/~{hashlib.blake2s(bytes(text), digest_size=6).hexdigest()}"


def is_made_up(name: str) -> bool:
    """Is this a name that no server knows (`made_up_name`)?"""
    return name.partition("/")[2].startswith("~")


def unversioned(reference: str) -> str:
    """A literal reference without the version it may name."""
    return reference.split(HISTORY, 1)[0]


def relative(reference: str, base: str) -> str:
    """`Type/id` of a literal reference under `base`, absolute or not, without its version; else itself."""
    return unversioned(reference.removeprefix(base.rstrip("/") + "/"))


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


# -- versions ---------------------------------------------------------------------------------------------


def version_of(meta: Meta | None) -> Version:
    """What tells two versions of one resource apart: the greater is the newer."""
    if meta is None:
        return ("", -1)
    number = meta.versionId
    # A number of thousands of digits is none that a server counts with, and Python refuses to read it.
    counted = number is not None and len(number) <= _LONGEST_VERSION and number.isdecimal()
    return (meta.lastUpdated or "", int(number or "") if counted else -1)


# -- references -------------------------------------------------------------------------------------------


class References:
    """Brings references to `Type/id`. `base` is the FHIR server's address; without one (files), an absolute
    reference is read by its last two segments, since a folder of exports has no address of its own."""

    def __init__(self, base: str | None = None) -> None:
        self._base = base.rstrip("/") + "/" if base else None
        self._aliases: dict[str, str] = {}
        self._identifiers: dict[tuple[str, str | None, str], str] = {}
        self._known: dict[str, str] = {}

    def learn(self, name: str, full_url: str | None, identifiers: list[Identifier] | None) -> None:
        """Remember a resource's other names: its Bundle fullUrl and its business identifiers."""
        kind = name.split("/", 1)[0]
        if full_url and full_url != name:
            place = self._shorten(full_url)
            if _LITERAL.fullmatch(place) is None:
                self._aliases[full_url] = name
            elif place.startswith(f"{kind}/"):
                self._aliases[full_url] = name
                if is_made_up(name):
                    # Its place in a Bundle is all that others can call it by.
                    self._aliases.setdefault(place, name)
        for identifier in identifiers or ():
            if identifier.value:
                self._identifiers.setdefault((kind, identifier.system, identifier.value), name)

    def short(self, text: str) -> str:
        """A literal reference as `Type/id`, where it is one; otherwise the text itself."""
        known = self._known.get(text)
        if known is None:
            known = self._known[text] = self._shorten(text)
        return self._aliases.get(known, known)

    def _shorten(self, text: str) -> str:
        if "://" not in text:
            return unversioned(text)
        if self._base is not None:
            return relative(text, self._base)
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
            return self.short(pointed)
        parts = pointed.removeprefix(_LOGICAL).split("\0")
        if len(parts) != 3:
            # A literal reference that begins like one of ours, or a NUL in an identifier: FHIR has neither.
            return None
        kind, system, value = parts
        return self._identifiers.get((kind, system or None, value))


def pointer(reference: Reference | None, kind: str) -> str | None:
    """A reference as one text that can be kept until everything was read: the literal reference, or its
    logical identifier. "" where the element is there and names nothing (a display alone); None without one.
    """
    if reference is None:
        return None
    if reference.reference:
        return reference.reference
    logical = reference.identifier
    if logical is not None and logical.value:
        return f"{_LOGICAL}{reference.type or kind}\0{logical.system or ''}\0{logical.value}"
    return ""
