"""Whose a resource is, as far as its own elements say: this patient's, nobody's, or to be dropped.

Fail-safe: `subject`, `patient` and `beneficiary` are read as anything they may be, one or a list, and a
resource is this patient's only if each of them names exactly this patient. What names somebody else in any
way, an odd one included, is somebody else's. Errors in doubt cost a clinician a look; the other way round
they would show one patient's record to another.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import Enum
from functools import lru_cache

from fhir_mappings.identity import Bases, each
from launch.urls import UnsafeUrl, Url, is_under, parse_base, parse_url

SUBJECT_FREE = frozenset(
    {"Device", "DeviceMetric", "Location", "Organization", "Practitioner", "PractitionerRole"}
)
"""Types that need not name a patient: who and what is shared by many. A Device that names one is theirs."""
_VERSION = re.compile(r"/_history/[^/]+\Z")
_RELATIVE = re.compile(r"[A-Z][A-Za-z]+/")
_WITHIN = ("#", "urn:uuid:", "urn:oid:")
"""References to something that came with the resource, which only the mapping can follow."""


class Whose(Enum):
    """The verdict on one resource."""

    OURS = "ours"
    NOBODYS = "nobodys"
    """Of a type that need not name a patient, and it names none."""
    OPEN = "open"
    """It names somebody by a business identifier, something that came with it, or what is no person (a
    Device, a Group). The mapping follows that, and lists what it leaves out; nobody may choose it."""
    FOREIGN = "foreign"
    UNREADABLE = "unreadable"
    """It must name a patient and does not, or not readably."""


def whose(type_: str, logical_id: str | None, about: Iterable[object], patient: str, bases: Bases) -> Whose:
    """`about`: the values of the elements that name a patient, None where there is none. `patient`: a logical
    id. `bases`: the addresses of the FHIR server."""
    if type_ == "Patient":
        return Whose.OURS if logical_id == patient else Whose.FOREIGN
    verdicts = {
        _named(reference, patient, bases)
        for value in about
        if value is not None
        for reference in (value if isinstance(value, list) else [value])
    }
    for verdict in (Whose.FOREIGN, Whose.UNREADABLE, Whose.OPEN):
        if verdict in verdicts:
            return verdict
    if verdicts:
        return Whose.OURS
    return Whose.NOBODYS if type_ in SUBJECT_FREE else Whose.UNREADABLE


def _named(reference: object, patient: str, bases: Bases) -> Whose:
    """Whom one Reference names."""
    if not isinstance(reference, dict):
        return Whose.UNREADABLE
    literal = reference.get("reference")
    if isinstance(literal, str) and literal:
        return _literally(literal, patient, bases)
    identifier = reference.get("identifier")
    if literal is None and isinstance(identifier, dict) and isinstance(identifier.get("value"), str):
        return Whose.OPEN
    return Whose.UNREADABLE


def _literally(text: str, patient: str, bases: Bases) -> Whose:
    ours = f"Patient/{patient}"
    if text == ours:
        return Whose.OURS
    if text.startswith(_WITHIN):
        return Whose.OPEN
    place = text if _RELATIVE.match(text) else _under(text, bases)
    if place is not None and _VERSION.sub("", place) == ours:
        return Whose.OURS
    if place is None or place.startswith("Patient/") or not _RELATIVE.match(place):
        return Whose.FOREIGN
    return Whose.OPEN


def _under(text: str, bases: Bases) -> str | None:
    """What follows a base in an absolute URL; None where it lies anywhere else."""
    try:
        url = parse_url(text)
    except UnsafeUrl:
        return None
    root = next((root for root in map(_root, each(bases)) if is_under(url, root)), None)
    if url.query or root is None:
        return None
    return url.path.removeprefix(root.path).removeprefix("/")


def other_base(about: Iterable[object], patient: str) -> str | None:
    """Under which other address a record names a patient of this very id: perhaps the same server, by a name
    that nobody listed. None where it names nobody like that."""
    for value in about:
        for reference in value if isinstance(value, list) else [value]:
            literal = reference.get("reference") if isinstance(reference, dict) else None
            if not isinstance(literal, str):
                continue
            base, _, name = _VERSION.sub("", literal).rpartition("/Patient/")
            try:
                if name == patient and base:
                    return parse_base(base).base
            except UnsafeUrl:
                continue
    return None


@lru_cache(maxsize=64)
def _root(base: str) -> Url:
    return parse_base(base)
