"""What each vendor's EHR needs, as data: one TOML file a vendor in `profiles/`, each fact with its source.

A profile only says where to begin. What a server declares in /metadata and what it answers (the first real
4xx) come later and win; the reader and the writer remember it. `generic.toml` says what holds where nothing
else is known; every other profile says only what differs from it. An integrator overrides any of it in the
issuers file (`[issuers.NAME.search]`), and can bring a profile there (`[profiles.NAME]`).
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import date
from enum import Enum
from functools import cache
from importlib.resources import files
from typing import Any

from launch.errors import ConfigurationError

GENERIC = "generic"


class ScopeStyle(Enum):
    """Which scope grammar to ask in."""

    AUTO = "auto"
    """v2 where the server advertises `permission-v2`, else v1."""
    V1 = "v1"
    V2 = "v2"


class ChargeItemWrite(Enum):
    """Whether the EHR takes a ChargeItem."""

    DECLARED = "declared"
    """Whatever /metadata declares."""
    YES = "yes"
    """`POST ChargeItem` works, whatever /metadata declares."""
    NO = "no"
    OWN_OPERATION = "own-operation"
    """Only through an operation of its own, which this app does not speak."""


class DateBounds(Enum):
    """How a date-bounded search is asked for."""

    PAIR = "pair"
    """`date=ge...&date=lt...`."""
    SINGLE = "single"
    """One `date=ge...`, for a server that takes no second one."""


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
    part_page_size: int
    """The same in parts of readings that fill many pages; where nothing is said of it, `page_size`."""
    observation_needs_category: bool
    """Readings are never asked for by date alone, because it is known that the server refuses it. Where it is
    not known they are, and by code and category only where the server refuses."""
    observation_categories: tuple[str, ...]
    """Categories to search one by one where one is needed."""
    date_bounds: DateBounds
    search_method: SearchMethod
    strict_handling: bool
    """Send `Prefer: handling=strict` on searches."""
    charge_item: ChargeItemWrite
    max_parallel: int
    requests_per_minute: int


def _number(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError("is not a number above 0")
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("is neither true nor false")
    return value


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        raise ValueError("is not a list of texts")
    return tuple(value)


def _choice(choices: type[Enum]) -> Callable[[Any], Enum]:
    def read(value: Any) -> Enum:
        allowed = [choice.value for choice in choices]
        if value not in allowed:
            raise ValueError(f"is not one of {', '.join(allowed)}")
        return choices(value)

    return read


FACTS: Mapping[str, Mapping[str, tuple[str, Callable[[Any], Any]]]] = {
    "scopes": {"style": ("scope_style", _choice(ScopeStyle))},
    "search": {
        "page_size": ("page_size", _number),
        "part_page_size": ("part_page_size", _number),
        "observation_needs_category": ("observation_needs_category", _flag),
        "observation_categories": ("observation_categories", _texts),
        "date_bounds": ("date_bounds", _choice(DateBounds)),
        "method": ("search_method", _choice(SearchMethod)),
        "strict_handling": ("strict_handling", _flag),
    },
    "write": {"charge_item": ("charge_item", _choice(ChargeItemWrite))},
    "limits": {
        "max_parallel": ("max_parallel", _number),
        "requests_per_minute": ("requests_per_minute", _number),
    },
}
"""Sections and keys of a profile: the field of each, and how its value is read."""


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
    return parse_profile(name, tomllib.loads(text), None if name == GENERIC else load_profile(GENERIC))


def parse_profile(name: str, table: Mapping[str, Any], base: Profile | None) -> Profile:
    """A profile from its TOML table: what differs from `base`. Without one it must say everything.

    Every fact is `{value = ..., source = "...", checked = 2026-12-02}`. Raises ConfigurationError.
    """
    where = f"profile {name}"
    _refuse_unknown(where, table, {"title", *FACTS})
    title = table.get("title", name)
    if not isinstance(title, str) or not title:
        raise ConfigurationError(f"{where}.title", "is not text")
    found = {
        field: value
        for section in FACTS
        for field, value in _section(f"{where}.{section}", section, table.get(section, {}), _sourced).items()
    }
    found = _with_parts(found)
    if base is not None:
        return replace(base, id=name, title=title, **found)
    missing = sorted({field for facts in FACTS.values() for field, _ in facts.values()} - set(found))
    if missing:
        raise ConfigurationError(where, f"does not say {missing[0]}")
    return Profile(id=name, title=title, **found)


def overridden(where: str, profile: Profile, tables: Mapping[str, Any]) -> Profile:
    """The profile with what an administrator says of this one server: plain values, by section and key.

    Raises ConfigurationError.
    """
    found = {
        field: value
        for section, table in tables.items()
        for field, value in _section(f"{where}.{section}", section, table, _plain).items()
    }
    return replace(profile, **_with_parts(found)) if found else profile


def _with_parts(found: dict[str, Any]) -> dict[str, Any]:
    """Whoever knows how large a page may be says so of all pages, unless parts are named too."""
    return {"part_page_size": found["page_size"], **found} if "page_size" in found else found


def _section(where: str, section: str, table: Any, value_of: Callable[[str, Any], Any]) -> dict[str, Any]:
    if not isinstance(table, Mapping):
        raise ConfigurationError(where, "is not a table")
    _refuse_unknown(where, table, set(FACTS[section]))
    found = {}
    for key, told in table.items():
        field, read = FACTS[section][key]
        value = value_of(f"{where}.{key}", told)
        try:
            found[field] = read(value)
        except ValueError as fault:
            raise ConfigurationError(f"{where}.{key}", str(fault)) from None
    return found


def _plain(_where: str, value: Any) -> Any:
    return value


def _sourced(where: str, fact: Any) -> Any:
    """The value of a fact, which says where it comes from and when somebody looked."""
    if not isinstance(fact, Mapping) or set(fact) != {"value", "source", "checked"}:
        raise ConfigurationError(where, "is not {value = ..., source = ..., checked = ...}")
    if not isinstance(fact["source"], str) or not fact["source"].strip():
        raise ConfigurationError(f"{where}.source", "is not text")
    if type(fact["checked"]) is not date:
        raise ConfigurationError(f"{where}.checked", "is no date, such as 2026-12-02")
    return fact["value"]


def _refuse_unknown(where: str, table: Mapping[str, Any], known: set[str]) -> None:
    unknown = sorted(set(table) - known)
    if unknown:
        raise ConfigurationError(where, f"unknown key {unknown[0]}")
