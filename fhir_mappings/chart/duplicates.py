"""What is one reading (D18, D28).

Two readings of one business identifier are one: corrected, or sent again; so are a reading and the one that
it says it replaces. But an identifier is an order's or a device's, and says nothing of one reading, where
three or more different instants share it.
"""

from __future__ import annotations

from collections.abc import Iterable

from fhir_mappings.identity import References, instant_of
from fhir_mappings.local_time import LocalClock
from fhir_mappings.observation import Measurement
from fhir_mappings.resources import Identifier

INSTANTS_OF_AN_ORDER = 3
"""So many different instants, and an identifier is that of an order, a device or a series."""


def sent_again(candidates: Iterable[Measurement], clock: LocalClock) -> frozenset[str]:
    """Names of readings that another of the same identifier stands for: the newer counts, on its own day."""
    first: dict[str, Measurement] = {}
    sharing: dict[Identifier, list[str]] = {}
    for found in candidates:
        if found.identifiers and found.resource not in first:
            first[found.resource] = found
            for identifier in set(found.identifiers):
                if identifier.value:
                    sharing.setdefault(identifier, []).append(found.resource)
    groups = Groups()
    for names in sharing.values():
        if len(names) > 1 and len({first[name].instant for name in names}) < INSTANTS_OF_AN_ORDER:
            groups.join(names)
    return frozenset(
        name
        for names in groups.all()
        for name in names
        if name != _newest([first[one] for one in names], clock)
    )


def replaced(candidates: Iterable[Measurement], references: References) -> frozenset[str]:
    """Names of readings that another says it was sent in the place of: that one counts, on its own day."""
    return frozenset(
        name
        for found in candidates
        for pointed in found.replaces
        if (name := references.resolve(pointed)) is not None and name != found.resource
    )


def _newest(versions: list[Measurement], clock: LocalClock) -> str:
    """By when each was stored, where every one of them says so; else by when it was measured."""
    stored = [instant_of(one.meta.lastUpdated if one.meta is not None else None, clock) for one in versions]
    known = [at for at in stored if at is not None]
    if len(known) < len(versions):
        known = [0] * len(versions)
    newest = min(
        zip(known, versions, strict=True), key=lambda one: (-one[0], -one[1].instant, one[1].resource)
    )
    return newest[1].resource


class Groups:
    """Names that belong together, through whatever they share."""

    def __init__(self) -> None:
        self._of: dict[str, set[str]] = {}

    def join(self, names: Iterable[str]) -> None:
        together: set[str] = set(names)
        for name in list(together):
            together |= self._of.get(name, set())
        for name in together:
            self._of[name] = together

    def all(self) -> list[set[str]]:
        return list({id(group): group for group in self._of.values()}.values())
