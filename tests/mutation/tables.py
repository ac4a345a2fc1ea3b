"""Mutants of the rules tables: one value is another one of its kind, or one row, item or key is missing.

A date moves by a day, a number by one, a code becomes another code, a source another source. The file is
written anew from its values, so that what differs is the value and nothing else.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import yaml

RULES = "fhir_mappings/rules"
#: Keys whose values a program decides by; all others only inform a reader.
DECIDING = {
    *("program", "kind", "line", "group", "tier", "base", "units_cap", "excludes", "in_force_from"),
    *("in_force_to", "covers_to", "monitoring_days", "management_seconds", "therapy_modifiers"),
    *("assistant_modifiers", "coverage", "settings", "value", "goes_before", "monitor"),
}
#: Keys below these that inform all the same.
INFORMING = {"sources", "last_checked"}
CLOSED: dict[str, list[str]] = {
    "program": ["rtm", "rpm"],
    "kind": ["start-up", "device-supply", "management", "management-add-on", "held-back"],
    "line": ["respiratory", "musculoskeletal", "cognitive-behavioral", "physiologic", "other"],
    "how": ["decided", "review", "stated", "proposed"],
    "grade": ["government", "secondary"],
    "covered": ["yes", "no", "unknown", "prior-auth", "criteria"],
    "therapy_modifiers": ["GP", "GO", "GN"],
    "assistant_modifiers": ["CQ", "CO"],
    "value": ["max", "union"],
    "kinds": ["start-up", "device-supply", "management"],
}

Table = Any
Path_ = tuple[str | int, ...]


@dataclass(eq=False)
class TableMutant:
    """One change of one table. `where`: the way to the value, in a reader's words; `text`: the new file."""

    file: str
    where: str
    kind: str
    before: str
    after: str
    deciding: bool
    change: Callable[[], str]

    @property
    def what(self) -> str:
        return f"{self.kind}: {self.where} {self.before}" + (f" -> {self.after}" if self.after else "")

    @property
    def text(self) -> str:
        return self.change()


def table_files(root: Path) -> list[str]:
    """The tables, relative to the root."""
    return sorted(str(path.relative_to(root)) for path in (root / RULES).rglob("*.yaml"))


def as_text(table: Table) -> str:
    """A table as YAML, in the order it was read."""
    return yaml.safe_dump(table, sort_keys=False, allow_unicode=True, width=1000)


def table_mutants(root: Path, file: str, codes: list[str], sources: list[str]) -> Iterator[TableMutant]:
    """Every mutant of one table. `codes`, `sources`: what one may be replaced with."""
    table = yaml.safe_load((root / file).read_text("utf-8"))
    for where, value in _values(table, ()):
        keys = [key for key in where if isinstance(key, str)]
        deciding = bool(DECIDING & set(keys)) and not INFORMING & set(keys)
        shown = _shown(table, where)
        for other in _others(file, where, value, codes, sources):
            yield TableMutant(
                file, shown, "value", str(value), str(other), deciding, _setter(table, where, other)
            )
        if where:
            yield TableMutant(
                file, shown, "dropped", _brief(value), "", deciding, _setter(table, where, _DROP)
            )


_DROP = object()


def _values(value: Any, where: Path_) -> Iterator[tuple[Path_, Any]]:
    """Every value of a table, rows and lists too."""
    yield where, value
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _values(inner, (*where, key))
    elif isinstance(value, list):
        for position, inner in enumerate(value):
            yield from _values(inner, (*where, position))


def _others(file: str, where: Path_, value: Any, codes: list[str], sources: list[str]) -> Iterator[Any]:
    key = next((key for key in reversed(where) if isinstance(key, str)), "")
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int):
        yield value + 1
        yield value - 1
    elif isinstance(value, date):
        yield value + timedelta(days=1)
        yield value - timedelta(days=1)
    elif isinstance(value, str):
        closed = next(
            (CLOSED[key] for key in reversed(where) if isinstance(key, str) and key in CLOSED), None
        )
        if key == "sources":
            yield _next(sources, value)
        elif key in ("code", "excludes", "base", "codes") and value in codes:
            yield _next(codes, value)
        elif closed and value in closed:
            yield _next(closed, value)
        else:
            yield value + "x"


def _next(all_of_kind: list[str], value: str) -> str:
    return all_of_kind[(all_of_kind.index(value) + 1) % len(all_of_kind)]


def _setter(table: Table, where: Path_, other: Any) -> Callable[[], str]:
    def change() -> str:
        new = copy.deepcopy(table)
        at = new
        for key in where[:-1]:
            at = at[key]
        if other is _DROP:
            del at[where[-1]]
        else:
            at[where[-1]] = other
        return as_text(new)

    return change


def _shown(table: Table, where: Path_) -> str:
    """`monitoring_days[1].least`; a row of the register by its id."""
    shown = ""
    at = table
    for key in where:
        at = at[key]
        if isinstance(key, int):
            shown += f"[{at['id']}]" if isinstance(at, dict) and "id" in at else f"[{key}]"
        else:
            shown += f".{key}" if shown else key
    return shown


def _brief(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 50 else text[:47] + "..."
