"""The manifest of a Bulk Data export: which files belong to it, and what it says that it does not hold."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec
from msgspec import Struct

from fhir_mappings import resources as fhir
from fhir_mappings.completeness import ANY_TYPE, DECIDING, Missing, MissingWhy

NOT_EXPORTED = "not-exported"
"""Member of a manifest's `extension`, as `smartapp export` writes it: what an export does not hold."""


class Manifest(Struct, frozen=True):
    """`files`: what belongs to it, by name and resource type; `missing`: what it does not hold besides."""

    files: tuple[tuple[str, str], ...]
    missing: tuple[Missing, ...]


def manifest_in(text: bytes) -> Manifest | None:
    """A Bulk Data manifest, by the members that it must have; None for any other JSON."""
    value = fhir.decode_untyped(text)
    if not isinstance(value, dict) or not {"transactionTime", "output"} <= value.keys():
        return None
    found: dict[str, str] = {}
    for member in ("output", "deleted", "error"):
        listed = value.get(member)
        for one in listed if isinstance(listed, list) else ():
            url, kind = (one.get("url"), one.get("type")) if isinstance(one, dict) else (None, None)
            known = kind if member == "output" and isinstance(kind, str) else ANY_TYPE
            if not (name := _name_in(url)):
                found[f"a file of {member} without an address"] = ANY_TYPE
            elif known == ANY_TYPE or known in DECIDING:
                found[name] = known
    return Manifest(tuple(found.items()), _said_missing(value))


def _said_missing(manifest: dict[str, Any]) -> tuple[Missing, ...]:
    """See `smartapp.population.exported`. What can't be read of it may be anything."""
    extension = manifest.get("extension")
    said = extension.get(NOT_EXPORTED) if isinstance(extension, dict) else None
    if said is None:
        return ()
    try:
        return tuple(msgspec.convert(said, list[Missing]))
    except msgspec.ValidationError:
        return (Missing(ANY_TYPE, MissingWhy.UNREADABLE),)


def _name_in(url: object) -> str:
    """The name of a file as the last part of its address; "" where there is none."""
    try:
        return unquote(urlsplit(url).path).rpartition("/")[2] if isinstance(url, str) else ""
    except ValueError:
        return ""
