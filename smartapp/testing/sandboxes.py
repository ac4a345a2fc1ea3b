"""The public sandboxes we know, and what counts as test data."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files

import msgspec

from launch.urls import Url, is_under, parse_base

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class Sandbox(msgspec.Struct, frozen=True):
    """A public server with test data. `bases`: its addresses; what lies below them is it too."""

    title: str
    bases: tuple[str, ...]
    profile: str
    source: str
    checked: str


@cache
def sandboxes() -> tuple[Sandbox, ...]:
    """The shipped list."""
    table = tomllib.loads((files("smartapp.testing") / "sandboxes.toml").read_text("utf-8"))
    return tuple(
        msgspec.convert({**entry, "checked": entry["checked"].isoformat()}, Sandbox)
        for entry in table.values()
    )


def sandbox_at(base: Url) -> Sandbox | None:
    """The public sandbox that a FHIR base belongs to."""
    return next(
        (one for one in sandboxes() if any(is_under(base, parse_base(own)) for own in one.bases)), None
    )


def is_loopback(base: Url) -> bool:
    """Whether the address names this machine. A tunnel to somewhere else looks just so: docs/sandboxes.md."""
    return base.host in LOOPBACK
