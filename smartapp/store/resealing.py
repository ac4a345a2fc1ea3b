"""Every seal of the database under the newest key, so that the older ones can be dropped.

Row by row, where the row still is what was read: safe while the app runs (with the newest key first in its
settings). Begun anew it goes on where it stopped, because only what is not under the newest key is touched.
What stands in the open from before it was sealed (audit entries, words of the EHR) is sealed on the way.

The chain of the audit trail runs over digests of what was said, not over seals: it is the same afterwards.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from sqlalchemy import Column, ColumnElement, LargeBinary, Row, Table, select, tuple_, update

from smartapp.store.chain import is_plain, opened_of, seal_of, sealed_form
from smartapp.store.database import Database
from smartapp.store.guards import lifted
from smartapp.store.tables import AUDIT, CHARGE_CHANGES, METADATA, OUTBOX
from smartapp.store.vault import SealBroken, Vault

BATCH = 100
"""Rows of one transaction: others that write wait that long."""
NEWEST = 0
_NESTED = re.compile(r'"(?:reason|said)_sealed": "([A-Za-z0-9_\-=]+)"')
"""What a person typed, in entries from before entries were sealed: sealed within what the digest covers."""


class Absence(Enum):
    """Why a value is under no key of ours."""

    PLAIN = "plain"
    """It stands in the open, from before it was sealed."""
    UNREADABLE = "unreadable"
    """No key at hand opens it."""


Standing = int | Absence
"""The number of the key that opens a value, 0 for the newest; or that none does."""


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
    renewed: Callable[[Vault, Any], dict[str, Any]]
    """The row's new values."""

    @property
    def order(self) -> tuple[Column[Any], ...]:
        return tuple(self.table.primary_key)

    def standing(self, vault: Vault, value: Any) -> Standing:
        seal = self.seal_in(value)
        if seal is None:
            return NEWEST
        return seal if isinstance(seal, Absence) else _key_of(vault, seal)


def _key_of(vault: Vault, seal: bytes) -> Standing:
    key = vault.key_of(seal)
    return Absence.UNREADABLE if key is None else key


def _bytes(table: Table, column: Column[Any]) -> _Place:
    return _Place(table, column, lambda seal: seal, lambda vault, seal: {column.name: vault.reseal(seal)})


def _words(table: Table) -> _Place:
    """Words of the EHR in the open; their place is the column `problem_sealed`."""
    return _Place(
        table,
        table.c.problem,
        lambda _: Absence.PLAIN,
        lambda vault, words: {"problem": None, "problem_sealed": vault.seal_remark(words)},
    )


def _seal_in_entry(entry: str) -> bytes | Absence | None:
    token = seal_of(entry)
    if token is None:
        return Absence.PLAIN if is_plain(entry) else None
    return token.encode()


def _renewed_entry(vault: Vault, entry: str) -> dict[str, Any]:
    token = seal_of(entry)
    if token is None:
        return {"entry": sealed_form(entry, vault.seal_text(entry))}
    # The digest stays as it is, whatever the seal holds: a fault must not be healed by accident.
    return {"entry": entry.replace(token, vault.reseal(token.encode()).decode())}


ENTRIES = _Place(AUDIT, AUDIT.c.entry, _seal_in_entry, _renewed_entry)
PLACES: tuple[_Place, ...] = (
    *(
        _bytes(table, column)
        for table in METADATA.sorted_tables
        for column in table.columns
        if isinstance(column.type, LargeBinary)
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
        for place in PLACES:
            for batch in self._batches(place):
                for row in batch:
                    found.values[place.standing(self._vault, row.value)] += 1
                    if place is ENTRIES:
                        found.within.update(self._within(row.value))
        return found

    def run(self, told: Callable[[str, int], None]) -> int:
        """Seal everything with the newest key; how many values. `told`: a table, and how many of it so far.

        What no key opens is left as it is.
        """
        total = 0
        for place in PLACES:
            renewed = 0
            for batch in self._batches(place):
                outdated = [row for row in batch if self._outdated(place, row.value)]
                if outdated:
                    renewed += self._renew(place, outdated)
                    told(place.table.name, renewed)
            total += renewed
        self._database.forget()
        return total

    def _within(self, entry: str) -> Iterator[Standing]:
        """How the seals inside an entry stand."""
        token = seal_of(entry)
        try:
            said = entry if token is None else self._vault.unseal_text(token)
        except SealBroken:
            return
        for nested in _NESTED.findall(opened_of(said)):
            yield _key_of(self._vault, nested.encode())

    def _outdated(self, place: _Place, value: Any) -> bool:
        return place.standing(self._vault, value) not in {NEWEST, Absence.UNREADABLE}

    def _renew(self, place: _Place, rows: Sequence[Row[Any]]) -> int:
        """Seal these anew, all or none; how many were still what was read."""
        changes = [(row, place.renewed(self._vault, row.value)) for row in rows]
        with self._database.write() as connection, lifted(connection, "update", place.table):
            return sum(
                connection.execute(
                    update(place.table).where(*_same(place, row), place.column == row.value).values(**values)
                ).rowcount
                for row, values in changes
            )

    def _batches(self, place: _Place) -> Iterator[Sequence[Row[Any]]]:
        """The rows that have a value, in the order of their primary key; no transaction outlasts a batch."""
        wanted = select(*place.order, place.column.label("value")).where(place.column.is_not(None))
        wanted = wanted.order_by(*place.order).limit(BATCH)
        next_ones = wanted
        while True:
            with self._database.read() as connection:
                batch: list[Row[Any]] = list(connection.execute(next_ones))
            if not batch:
                return
            yield batch
            next_ones = wanted.where(_beyond(place, tuple(batch[-1])[:-1]))


def _same(place: _Place, row: Row[Any]) -> list[ColumnElement[bool]]:
    return [column == value for column, value in zip(place.order, tuple(row)[:-1], strict=True)]


def _beyond(place: _Place, after: tuple[Any, ...]) -> ColumnElement[bool]:
    first: Any = place.order[0]
    beyond: ColumnElement[bool] = first > after[0] if len(after) == 1 else tuple_(*place.order) > after
    return beyond
