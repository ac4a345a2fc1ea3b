"""What each vendor's EHR needs, as data: one TOML file a vendor in `profiles/`, each fact with its reason.

A profile only says where to begin. What a server declares in /metadata and what it answers (the first real
4xx) come later and win; the reader and the writer remember it.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cache
from importlib.resources import files
from typing import Any

from launch.errors import ConfigurationError


class ScopeStyle(Enum):
    """Which scope grammar to ask in."""

    AUTO = "auto"
    """v2 where the server advertises `permission-v2`, else v1."""
    V1 = "v1"
    V2 = "v2"


class WriteRung(Enum):
    """How a charge can be written (the rungs of the write-back ladder that speak to the EHR's own API)."""

    DECLARED = "declared"
    """Unknown beforehand: whatever /metadata declares."""
    CREATE = "create"
    """`POST ChargeItem`."""
    ORACLE_CREATE = "oracle-create"
    """`POST ChargeItem/$create` with Parameters."""


class DateBounds(Enum):
    """How a date-bounded search is asked for."""

    PAIR = "pair"
    """`date=ge...&date=lt...`."""
    SINGLE = "single"
    """One `date=ge...`; the upper bound is applied by the reader."""


class SearchMethod(Enum):
    """How a search is asked for."""

    GET = "get"
    """`GET [type]?...`: the patient's id stands in the address, and so in the server's access log."""
    POST = "post"
    """`POST [type]/_search` with a form: no id stands in an address of ours. Links to further pages are the
    server's own and are followed as it gives them."""


@dataclass(frozen=True, slots=True)
class Profile:
    """The facts of one vendor that code here acts on."""

    id: str
    title: str
    scope_style: ScopeStyle
    page_size: int
    """`_count` to ask for."""
    observation_needs_category: bool
    observation_categories: tuple[str, ...]
    """Categories to search one by one where one is needed."""
    date_bounds: DateBounds
    search_method: SearchMethod
    strict_handling: bool
    """Send `Prefer: handling=strict` on searches."""
    write_rung: WriteRung
    stale_version_status: int
    """The HTTP status of an update whose version is out of date."""
    max_parallel: int
    requests_per_minute: int


@cache
def profile_names() -> tuple[str, ...]:
    """The names of all shipped profiles, sorted."""
    folder = files("launch") / "profiles"
    return tuple(sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir()))


@cache
def load_profile(name: str) -> Profile:
    """The shipped profile of that name. Raises ConfigurationError for an unknown name."""
    if name not in profile_names():
        raise ConfigurationError("profile", f"{name!r} is not one of {', '.join(profile_names())}")
    text = (files("launch") / "profiles" / f"{name}.toml").read_text(encoding="utf-8")
    return parse_profile(tomllib.loads(text))


def parse_profile(table: Mapping[str, Any]) -> Profile:
    """A profile from its TOML table. Every key is required, and no other is allowed."""
    expected: dict[str, set[str]] = {
        "scopes": {"style"},
        "search": {
            "page_size",
            "observation_needs_category",
            "observation_categories",
            "date_bounds",
            "method",
            "strict_handling",
        },
        "write": {"rung", "stale_version_status"},
        "limits": {"max_parallel", "requests_per_minute"},
    }
    where = f"profile {table.get('id', '?')}"
    if set(table) != {"id", "title", *expected}:
        raise ConfigurationError(where, "has unknown or missing sections")
    for section, keys in expected.items():
        if set(table[section]) != keys:
            raise ConfigurationError(f"{where}, [{section}]", "has unknown or missing keys")
    search, write, limits = table["search"], table["write"], table["limits"]
    try:
        return Profile(
            id=table["id"],
            title=table["title"],
            scope_style=ScopeStyle(table["scopes"]["style"]),
            page_size=int(search["page_size"]),
            observation_needs_category=bool(search["observation_needs_category"]),
            observation_categories=tuple(search["observation_categories"]),
            date_bounds=DateBounds(search["date_bounds"]),
            search_method=SearchMethod(search["method"]),
            strict_handling=bool(search["strict_handling"]),
            write_rung=WriteRung(write["rung"]),
            stale_version_status=int(write["stale_version_status"]),
            max_parallel=int(limits["max_parallel"]),
            requests_per_minute=int(limits["requests_per_minute"]),
        )
    except ValueError as error:
        raise ConfigurationError(where, str(error)) from None
