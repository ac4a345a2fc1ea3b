"""Every seal of the database under the newest key, so that the older ones can be dropped.

Row by row, where the row still is what was read: safe while the app runs (with the newest key first in its
settings). Begun anew it goes on where it stopped, because only what is not under the newest key is touched.
What stands in the open from before it was sealed (audit entries, words of the EHR) is sealed on the way, and
what was sealed before seals knew their place is bound to it.

The chain of the audit trail runs over digests of what was said, not over seals: it is the same afterwards.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from sqlalchemy import Column, ColumnElement, Row, Table, select, tuple_, update

from smartapp.store.chain import is_plain, opened_of, seal_of, sealed_form
from smartapp.store.database import Database
from smartapp.store.guards import lifted
from smartapp.store.tables import AUDIT, CHARGE_CHANGES, METADATA, OUTBOX
from smartapp.store.vault import SealBroken, SealMoved, Vault, from_text, in_text, is_bound, place

BATCH = 100
"""Rows of one transaction: others that write wait that long."""
NEWEST = 0
_NESTED = re.compile(r'"(?:reason|said)_sealed": "([A-Za-z0-9_\-=]+)"')
"""What a person typed, in entries from before entries were sealed: sealed within what the digest covers."""


class Absence(Enum):
    """Why a value is not under the newest key, bound to its place, nor under an older one."""

    PLAIN = "plain"
    """It stands in the open, from before it was sealed."""
    UNREADABLE = "unreadable"
    """No key at hand opens it."""
    UNBOUND = "unbound"
    """The newest key opens it, in any row: it is from before seals were bound to theirs."""
    MOVED = "moved"
    """It was sealed for another row or column, or somebody changed it."""


Standing = int | Absence
"""The number of the key that opens a value, 0 for the newest; or why it is not as it should be."""
_STAYS = frozenset({NEWEST, Absence.UNREADABLE, Absence.MOVED})
"""What nothing can be done about, or need be."""


@dataclass(slots=True)
class Need:
    """How many values stand how."""

    values: Counter[Standing] = field(default_factory=Counter)
    within: Counter[Standing] = field(default_factory=Counter)
    """Seals inside audit entries: the chain's digests cover them, so that they stay as they are."""

    @property
    def done(self) -> bool:
        """Whether the newest key alone opens everything, and nothing stands in the open."""
        return {standing for standing, count in (self.values + self.within).items() if count} <= {NEWEST}


@dataclass(frozen=True, slots=True)
class _Place:
    """A column where something is sealed, or should be."""

    table: Table
    column: Column[Any]
    seal_in: Callable[[Any], bytes | Absence | None]
    """The seal that a value is or holds; None where it needs none."""
    renewed: Callable[[Vault, Any, str], dict[str, Any]]
    """The row's new values, from the value and its place."""
    sealed: Column[Any]
    """The column whose place the seal is bound to."""

    @property
    def order(self) -> tuple[Column[Any], ...]:
        return tuple(self.table.primary_key)

    def bound_to(self, row: Row[Any]) -> str:
        return place(self.sealed, row)

    def standing(self, vault: Vault, row: Row[Any]) -> Standing:
        seal = self.seal_in(row.value)
        if seal is None:
            return NEWEST
        if isinstance(seal, Absence):
            return seal
        key = _key_of(vault, seal, self.bound_to(row))
        return Absence.UNBOUND if key == NEWEST and not is_bound(seal) else key


def _key_of(vault: Vault, seal: bytes, bound_to: str) -> Standing:
    try:
        key = vault.key_of(seal, bound_to)
    except SealMoved:
        return Absence.MOVED
    return Absence.UNREADABLE if key is None else key


def _bytes(table: Table, column: Column[Any]) -> _Place:
    return _Place(
        table,
        column,
        lambda seal: seal,
        lambda vault, seal, bound_to: {column.name: vault.reseal(seal, bound_to)},
        column,
    )


def _words(table: Table) -> _Place:
    """Words of the EHR in the open; their place is the column `problem_sealed`."""
    return _Place(
        table,
        table.c.problem,
        lambda _: Absence.PLAIN,
        lambda vault, words, bound_to: {
            "problem": None,
            "problem_sealed": vault.seal_remark(words, bound_to),
        },
        table.c.problem_sealed,
    )


def _seal_in_entry(entry: str) -> bytes | Absence | None:
    token = seal_of(entry)
    if token is None:
        return Absence.PLAIN if is_plain(entry) else None
    try:
        return from_text(token)
    except SealBroken:
        return Absence.UNREADABLE


def _renewed_entry(vault: Vault, entry: str, bound_to: str) -> dict[str, Any]:
    token = seal_of(entry)
    if token is None:
        return {"entry": sealed_form(entry, vault.seal_text(entry, bound_to))}
    # The digest stays as it is, whatever the seal holds: a fault must not be healed by accident.
    return {"entry": entry.replace(token, in_text(vault.reseal(from_text(token), bound_to)))}


ENTRIES = _Place(AUDIT, AUDIT.c.entry, _seal_in_entry, _renewed_entry, AUDIT.c.entry)
PLACES: tuple[_Place, ...] = (
    *(
        _bytes(table, column)
        for table in METADATA.sorted_tables
        for column in table.columns
        if "bound_to" in column.info and column is not AUDIT.c.entry
    ),
    _words(OUTBOX),
    _words(CHARGE_CHANGES),
    ENTRIES,
)


class Resealing:
    """Counts, and renews, the seals of one database."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self._database = database
        self._vault = vault

    def need(self) -> Need:
        """Look at every value; nothing is changed."""
        found = Need()
        for where in PLACES:
            for batch in self._batches(where):
                for row in batch:
                    found.values[where.standing(self._vault, row)] += 1
                    if where is ENTRIES:
                        found.within.update(self._within(row))
        return found

    def run(self, told: Callable[[str, int], None]) -> int:
        """Seal everything with the newest key; how many values. `told`: a table, and how many of it so far.

        What no key opens is left as it is.
        """
        total = 0
        for where in PLACES:
            renewed = 0
            for batch in self._batches(where):
                outdated = [row for row in batch if where.standing(self._vault, row) not in _STAYS]
                if outdated:
                    renewed += self._renew(where, outdated)
                    told(where.table.name, renewed)
            total += renewed
        self._database.forget()
        return total

    def _within(self, row: Row[Any]) -> Iterator[Standing]:
        """How the seals inside an entry stand."""
        token = seal_of(row.value)
        bound_to = ENTRIES.bound_to(row)
        try:
            said = row.value if token is None else self._vault.unseal_text(token, bound_to)
        except SealBroken:
            return
        for nested in _NESTED.findall(opened_of(said)):
            yield _key_of(self._vault, nested.encode(), bound_to)

    def _renew(self, where: _Place, rows: Sequence[Row[Any]]) -> int:
        """Seal these anew, all or none; how many were still what was read."""
        changes = [(row, where.renewed(self._vault, row.value, where.bound_to(row))) for row in rows]
        with self._database.write() as connection, lifted(connection, "update", where.table):
            return sum(
                connection.execute(
                    update(where.table).where(*_same(where, row), where.column == row.value).values(**values)
                ).rowcount
                for row, values in changes
            )

    def _batches(self, where: _Place) -> Iterator[Sequence[Row[Any]]]:
        """The rows that have a value, in the order of their primary key; no transaction outlasts a batch."""
        others = [
            where.table.c[name]
            for name in where.sealed.info["bound_to"]
            if not where.table.c[name].primary_key
        ]
        wanted = select(*where.order, *others, where.column.label("value")).where(where.column.is_not(None))
        wanted = wanted.order_by(*where.order).limit(BATCH)
        next_ones = wanted
        while True:
            with self._database.read() as connection:
                batch: list[Row[Any]] = list(connection.execute(next_ones))
            if not batch:
                return
            yield batch
            next_ones = wanted.where(_beyond(where, tuple(batch[-1])[: len(where.order)]))


def _same(where: _Place, row: Row[Any]) -> list[ColumnElement[bool]]:
    return [column == row._mapping[column] for column in where.order]


def _beyond(where: _Place, after: tuple[Any, ...]) -> ColumnElement[bool]:
    first: Any = where.order[0]
    beyond: ColumnElement[bool] = first > after[0] if len(after) == 1 else tuple_(*where.order) > after
    return beyond
