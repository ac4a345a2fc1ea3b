"""Search: parameters -> SQL over the index tables -> a result set read page by page.

A result set is fixed when the search is made: pages don't shift when somebody writes in between. Its next
links are opaque, belong to the authorization that made them, and expire, as those of real servers do.
"""

from __future__ import annotations

import secrets
import sqlite3
from array import array
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from threading import Lock

from launch.sandbox.dates import condition, split_prefix
from launch.sandbox.indexing import reference_target
from launch.sandbox.search_parameters import PARAMETERS, Kind, Parameter

#: Parameters that say how to answer, not what to find.
RESULT_PARAMETERS = frozenset({"_count", "_elements", "_format", "_total"})
_COMMON = frozenset({"_id", "_lastUpdated"})
_TABLES = {
    Kind.DATE: "index_date",
    Kind.TOKEN: "index_token",
    Kind.STRING: "index_token",
    Kind.REFERENCE: "index_reference",
}


class SearchError(ValueError):
    """A search that can't be answered; ``code`` is an OperationOutcome issue type, the text one line."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass
class Query:
    """A search as SQL conditions on `resource r`, and what was understood of it."""

    type: str
    conditions: list[str] = field(default_factory=list)
    values: list[str | int] = field(default_factory=list)
    used: list[tuple[str, str]] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)

    def add(self, sql: str, values: Sequence[str | int]) -> None:
        self.conditions.append(sql)
        self.values.extend(values)

    def confine(self, patient: str) -> None:
        """Only what belongs to this patient."""
        self.add("r.patient = ?", [patient])

    def rids(self, connection: sqlite3.Connection) -> list[int]:
        """Row ids of the matches, in the order in which they were stored."""
        where = " AND ".join(["r.type = ?", *self.conditions])
        sql = f"SELECT r.rid FROM resource r WHERE {where} ORDER BY r.rid"  # noqa: S608
        return [row[0] for row in connection.execute(sql, [self.type, *self.values])]


def parse_query(type_: str, pairs: Sequence[tuple[str, str]], base: str) -> Query:
    """The query of a search's parameters; names it doesn't know are collected in ``unknown``.

    Raises SearchError on a value, prefix or modifier that can't be understood.
    """
    query = Query(type_)
    only_patient = _only_patient(pairs, base)
    for name, value in pairs:
        plain, _, modifier = name.partition(":")
        if plain in RESULT_PARAMETERS:
            query.used.append((name, value))
            continue
        parameter = PARAMETERS[type_].get(plain)
        if parameter is None and plain not in _COMMON:
            query.unknown.append(name)
            continue
        if not value:
            raise SearchError("value", f"parameter {plain} has no value")
        if plain in _COMMON:
            _add_common(query, plain, modifier, value)
        elif parameter is not None:
            _add_parameter(query, plain, parameter, modifier, value, base, only_patient)
        query.used.append((name, value))
    return query


def _only_patient(pairs: Sequence[tuple[str, str]], base: str) -> str | None:
    """The one patient a search is about, which lets date conditions use their index from its front."""
    for name, value in pairs:
        if name == "patient" and "," not in value:
            target = reference_target(value, base)
            return target.id if target else None
    return None


def _add_common(query: Query, name: str, modifier: str, value: str) -> None:
    if modifier:
        raise SearchError("not-supported", f"modifier :{modifier} of {name} is not supported")
    if name == "_id":
        ids = value.split(",")
        query.add(f"r.id IN ({','.join('?' * len(ids))})", ids)
    else:
        sql, values = _date_condition(name, value, "r.updated", "r.updated + 1")
        query.add(sql, values)


def _add_parameter(
    query: Query, name: str, parameter: Parameter, modifier: str, value: str, base: str, patient: str | None
) -> None:
    table = _TABLES[parameter.kind]
    key = f"{query.type}.{name}"
    if modifier == "missing":
        if value not in ("true", "false"):
            raise SearchError("value", f"{name}:missing is true or false")
        no = "NOT " if value == "true" else ""
        query.add(f"{no}EXISTS (SELECT 1 FROM {table} i WHERE i.rid = r.rid AND i.key = ?)", [key])  # noqa: S608
        return
    if parameter.kind is Kind.REFERENCE and modifier in parameter.targets:
        value = ",".join(part if "/" in part else f"{modifier}/{part}" for part in value.split(","))
    elif modifier:
        raise SearchError("not-supported", f"modifier :{modifier} of {name} is not supported")
    match parameter.kind:
        case Kind.DATE:
            # Driven from the index: one patient's stretch of days, not one look-up a resource.
            sql, values = _date_condition(name, value, "i.low", "i.high")
            owner, owned = ("AND i.patient = ? ", [patient]) if patient else ("", [])
            query.add(
                f"r.rid IN (SELECT i.rid FROM index_date i WHERE i.key = ? {owner}AND {sql})",  # noqa: S608
                [key, *owned, *values],
            )
            return
        case Kind.TOKEN:
            sql, found = _any_of(value, lambda part: _token_condition(part, parameter))
        case Kind.STRING:
            sql, found = _any_of(value, _string_condition)
        case Kind.REFERENCE:
            sql, found = _any_of(value, lambda part: _reference_condition(part, base))
    query.add(f"EXISTS (SELECT 1 FROM {table} i WHERE i.rid = r.rid AND i.key = ? AND {sql})", [key, *found])  # noqa: S608


def _any_of(value: str, build: Callable[[str], tuple[str, list[str]]]) -> tuple[str, list[str]]:
    parts = [build(part) for part in value.split(",")]
    return "(" + " OR ".join(sql for sql, _ in parts) + ")", [item for _, found in parts for item in found]


def _token_condition(part: str, parameter: Parameter) -> tuple[str, list[str]]:
    system, bar, code = part.rpartition("|")
    if bar and not code:
        return "i.system = ?", [system]
    # A bare code matches in any system; `|code` only without one. Elements of type `code` have no system
    # of their own in the JSON, so a system given for them can't be compared and is left aside.
    if not bar or (system and all(path in _CODE_ELEMENTS for path in parameter.paths)):
        return "i.code = ?", [code]
    return "(i.code = ? AND i.system = ?)", [code, system]


_CODE_ELEMENTS = frozenset({"status", "gender", "intent", "active"})


def _string_condition(part: str) -> tuple[str, list[str]]:
    folded = part.casefold()
    return "(i.code >= ? AND i.code < ?)", [folded, folded + "\U0010ffff"]


def _reference_condition(part: str, base: str) -> tuple[str, list[str]]:
    target = reference_target(part, base)
    if target is None:
        raise SearchError("value", "a reference is an id, Type/id or an absolute address")
    if target.type or "/" in part or ":" in part:
        return "(i.id = ? AND i.type = ?)", [target.id, target.type]
    return "(i.id = ? AND i.type <> '')", [target.id]


def _date_condition(name: str, value: str, low: str, high: str) -> tuple[str, list[int]]:
    parts = []
    for part in value.split(","):
        try:
            prefix, wanted = split_prefix(part)
        except (ValueError, OverflowError):
            raise SearchError(
                "value", f"{name} is a FHIR date, with one of the prefixes eq ne gt lt ge le sa eb"
            ) from None
        parts.append(condition(prefix, wanted, low, high))
    return "(" + " OR ".join(sql for sql, _ in parts) + ")", [item for _, found in parts for item in found]


@dataclass(frozen=True)
class ResultSet:
    """The matches of one search: row ids, whose search it was, and how its pages are to be written."""

    type: str
    rids: array[int]
    family: str
    count: int
    elements: tuple[str, ...]
    self_link: str


class ResultSets:
    """The searches whose next pages may still be asked for; the oldest is forgotten first."""

    def __init__(self, keep: int = 200) -> None:
        self._keep = keep
        self._sets: OrderedDict[str, ResultSet] = OrderedDict()
        self._lock = Lock()

    def keep(self, results: ResultSet) -> str:
        """Remember a result set; the opaque name under which it is found again."""
        name = secrets.token_urlsafe(16)
        with self._lock:
            self._sets[name] = results
            while len(self._sets) > self._keep:
                self._sets.popitem(last=False)
        return name

    def find(self, name: str, family: str) -> ResultSet | None:
        """The result set of this name, if this authorization made it and it is still kept."""
        with self._lock:
            found = self._sets.get(name)
        return found if found and found.family == family else None
