"""A digest of each shipped table that decides: what a packet was decided by is named, table by table."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from types import MappingProxyType

_FOLDERS = ("rules", "terminology")


@cache
def table_digests() -> Mapping[str, str]:
    """ "rules/codes/98977.yaml" -> SHA-256 of it, for every table beside this file."""
    return MappingProxyType(
        {
            name: hashlib.sha256(table.read_bytes()).hexdigest()
            for folder in _FOLDERS
            for name, table in _tables(folder, files(__package__).joinpath(folder))
        }
    )


def changed_tables(before: Mapping[str, str]) -> tuple[str, ...]:
    """The tables that are others now than those of these digests, in order; added and removed ones too."""
    now = table_digests()
    return tuple(sorted(name for name in {*before, *now} if before.get(name) != now.get(name)))


def _tables(name: str, place: Traversable) -> Iterator[tuple[str, Traversable]]:
    for entry in sorted(place.iterdir(), key=lambda entry: entry.name):
        if entry.is_dir():
            yield from _tables(f"{name}/{entry.name}", entry)
        elif entry.name.endswith(".yaml"):
            yield f"{name}/{entry.name}", entry
