"""SMART scopes, versions 1 and 2: parsed, narrowed to a registration, and asked what they allow.

Granular scopes (`patient/Observation.rs?category=...`) are never granted here: a server that can't enforce a
restriction must not pretend it does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

_RESOURCE = re.compile(
    r"(?P<level>patient|user|system)/(?P<type>\*|[A-Z][A-Za-z]+)\."
    r"(?P<access>read|write|\*|(?=[cruds])c?r?u?d?s?)"
)
_V1 = {"read": "rs", "write": "cud", "*": "cruds"}
#: Scopes that are no resource scopes.
PLAIN_SCOPES = (
    *("openid", "fhirUser", "launch", "launch/patient", "launch/encounter"),
    *("online_access", "offline_access"),
)


class Interaction(StrEnum):
    """What is done to a resource, as scopes count it."""

    CREATE = "c"
    READ = "r"
    UPDATE = "u"
    DELETE = "d"
    SEARCH = "s"


class Reach(StrEnum):
    """How far a token reaches for one resource type and interaction."""

    NOTHING = "nothing"
    PATIENT = "patient"
    EVERYTHING = "everything"


@dataclass(frozen=True)
class ResourceScope:
    """One resource scope; ``letters`` is a subset of ``cruds`` in that order."""

    level: str
    type: str
    letters: str
    text: str

    @classmethod
    def parse(cls, text: str) -> ResourceScope | None:
        """The scope a word stands for, or None if it is no resource scope of either grammar."""
        match = _RESOURCE.fullmatch(text)
        if not match:
            return None
        access = match["access"]
        return cls(match["level"], match["type"], _V1.get(access, access), text)

    def covers(self, type_: str, interaction: Interaction) -> bool:
        """Whether it allows this interaction on this type, whatever its level."""
        return self.type in ("*", type_) and interaction.value in self.letters


def _common(asked: ResourceScope, registered: ResourceScope) -> ResourceScope | None:
    same_type = asked.type == registered.type or "*" in (asked.type, registered.type)
    if asked.level != registered.level or not same_type:
        return None
    letters = "".join(letter for letter in asked.letters if letter in registered.letters)
    if not letters:
        return None
    type_ = registered.type if asked.type == "*" else asked.type
    if (type_, letters) == (asked.type, asked.letters):
        return asked
    return ResourceScope(asked.level, type_, letters, f"{asked.level}/{type_}.{letters}")


def narrow(requested: str, registered: str) -> str:
    """The part of ``requested`` that ``registered`` holds, in the order and the grammar asked for.

    What is half covered comes back narrower; a word of neither grammar is left out.
    """
    allowed = registered.split()
    known = [scope for word in allowed if (scope := ResourceScope.parse(word))]
    granted: dict[str, None] = {}
    for word in requested.split():
        asked = ResourceScope.parse(word)
        if asked is None:
            if word in PLAIN_SCOPES and word in allowed:
                granted[word] = None
            continue
        for scope in known:
            common = _common(asked, scope)
            if common:
                granted[common.text] = None
    return " ".join(granted)


def without(scope: str, unwanted: Iterable[str]) -> str:
    """The scope string without the named words; a level such as `patient/` takes its resource scopes out."""
    gone = tuple(unwanted)
    levels = tuple(word for word in gone if word.endswith("/"))
    return " ".join(
        word
        for word in scope.split()
        if word not in gone and not (levels and word.startswith(levels) and ResourceScope.parse(word))
    )


def reach(scope: str, type_: str, interaction: Interaction) -> Reach:
    """The widest reach a granted scope string gives for an interaction on a type."""
    levels = {
        found.level
        for word in scope.split()
        if (found := ResourceScope.parse(word)) and found.covers(type_, interaction)
    }
    if levels & {"user", "system"}:
        return Reach.EVERYTHING
    return Reach.PATIENT if "patient" in levels else Reach.NOTHING
