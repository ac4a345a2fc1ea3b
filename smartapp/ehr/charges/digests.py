"""Digests of a packet's parts, kept with it: what of it was altered is named, not only that something was.

The digest of the whole stands in the audit trail, out of reach of whoever holds the file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import msgspec

DIGESTS = "digests"
EVIDENCE = "evidence"
_LISTS = frozenset({"records", "others"})
"""Of these only which there are: each record carries its own digest."""


class _Named(msgspec.Struct):
    reference: str
    version: str = ""
    sha256: str = ""


def with_digests(packet: Mapping[str, Any]) -> bytes:
    """A packet as it is kept."""
    content = msgspec.json.encode(packet)
    return msgspec.json.encode({**packet, DIGESTS: digests_of(content)})


def digests_of(packet: bytes) -> dict[str, str]:
    """ "written" or "evidence.attestations" -> digest, of each part of a packet."""
    found: dict[str, str] = {}
    for name, value in msgspec.json.decode(packet, type=dict[str, msgspec.Raw]).items():
        if name == EVIDENCE:
            for part, inner in msgspec.json.decode(value, type=dict[str, msgspec.Raw]).items():
                found[f"{EVIDENCE}.{part}"] = _which(inner) if part in _LISTS else digest_of(inner)
        elif name != DIGESTS:
            found[name] = digest_of(value)
    return found


def digest_of(value: bytes | msgspec.Raw) -> str:
    """Of JSON, however it is spaced or its members are ordered."""
    text = bytes(value)
    with suppress(msgspec.DecodeError):
        text = msgspec.json.encode(msgspec.json.decode(text), order="deterministic")
    return hashlib.sha256(text).hexdigest()


def _which(records: msgspec.Raw) -> str:
    return digest_of(msgspec.json.encode(msgspec.json.decode(records, type=list[_Named])))
