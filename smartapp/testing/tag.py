"""The mark on everything that is written for tests: a `meta.tag` of a system of our own.

Never HTEST: that is a security label, and production, which leaves what bears it out of everything, could not
be tried on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fhir_mappings.charge_item import NAMESPACE

SYSTEM = f"{NAMESPACE}:test-data"
ANY = "test"
"""The code that everything bears: what one searches for, where a server wants more than a system."""
CONNECT = "connect"
"""And the code of what was accepted in a `smartapp connect`; what was seeded bears that of its run."""


def tagged(resource: Mapping[str, Any], *codes: str) -> dict[str, Any]:
    """The resource with our tag; what it bears already stays."""
    meta = resource.get("meta") or {}
    tags = [*(meta.get("tag") or ()), *({"system": SYSTEM, "code": code} for code in (ANY, *codes))]
    distinct = [tag for number, tag in enumerate(tags) if tag not in tags[:number]]
    return {**resource, "meta": {**meta, "tag": distinct}}


def bears_our_tag(resource: Any) -> bool:
    """Whether it was written by us, as it says itself. False for whatever can't be read."""
    meta = resource.get("meta") if isinstance(resource, Mapping) else None
    tags = meta.get("tag") if isinstance(meta, Mapping) else None
    return isinstance(tags, list) and any(
        isinstance(tag, Mapping) and tag.get("system") == SYSTEM for tag in tags
    )
