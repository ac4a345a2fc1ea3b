"""The audit trail: append-only, each entry's digest covers its content and the entry before it.

Whoever changes or removes an entry breaks every digest after it; `verify` finds the first one. The chain runs
over digests of the contents, not over the contents: when the retention time is over, a content can be emptied
and only its digest kept, and the chain still holds. Emptying is an entry of its own, so a content that
disappeared without one is found too.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, func, insert, select, text, update

from smartapp.store.database import Database
from smartapp.store.tables import AUDIT, AUDIT_HEAD

START = "0" * 64
EMPTIED = "audit-emptied"
"""The event of an entry which says that the contents before it were emptied, up to the position `up_to`."""
_EMPTIED_ENTRY = re.compile(r'\{"emptied": "([0-9a-f]{64})"\}')


def _sha256(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()


def _digest(position: int, at: str, content: str, previous: str) -> str:
    """An entry's digest; `content` is the digest of what it says."""
    return _sha256(f"{position}\n{at}\n{content}\n{previous}")


def content_digest(entry: str) -> str:
    """The digest of what an entry says, or said before it was emptied."""
    emptied = _EMPTIED_ENTRY.fullmatch(entry)
    return emptied[1] if emptied else _sha256(entry)


def is_emptied(entry: str) -> bool:
    """Whether only the digest of this entry's content is left."""
    return _EMPTIED_ENTRY.fullmatch(entry) is not None


def _says_emptied(entry: str) -> int:
    """Up to which position an entry says that contents were emptied; 0 if it says nothing of the kind."""
    try:
        said = json.loads(entry)
    except ValueError:
        return 0
    up_to = said.get("up_to") if isinstance(said, dict) and said.get("event") == EMPTIED else None
    return up_to if isinstance(up_to, int) else 0


class ChainFault(StrEnum):
    """Why a chain does not hold."""

    MISSING = "missing"
    """An entry is not there."""
    CHANGED = "changed"
    """An entry is not what it was."""
    EMPTIED = "emptied"
    """A content is gone, and no entry says that it was emptied."""
    CUT_OFF = "cut-off"
    """The chain ends before its last entry."""


@dataclass(frozen=True, slots=True)
class Link:
    """One entry of the chain, as stored and as exported."""

    position: int
    at: str
    """ISO 8601, UTC."""
    entry: str
    previous: str
    digest: str


@dataclass(frozen=True, slots=True)
class ChainCheck:
    """What was found on the way from the first entry to the last. `fault` None: the whole chain holds."""

    entries: int
    emptied: int
    digest: str
    broken_at: int | None = None
    fault: ChainFault | None = None


class Chain:
    """Follows a chain entry by entry; the first fault stays."""

    def __init__(self) -> None:
        self._position, self._digest = 0, START
        self._emptied: list[int] = []
        self._emptied_up_to = 0
        self._broken: tuple[int, ChainFault] | None = None

    def follow(self, link: Link) -> None:
        """The next entry."""
        if self._broken:
            return
        expected = self._position + 1
        if link.position != expected:
            self._broken = (expected, ChainFault.MISSING)
            return
        digest = _digest(link.position, link.at, content_digest(link.entry), self._digest)
        if link.previous != self._digest or link.digest != digest:
            self._broken = (expected, ChainFault.CHANGED)
            return
        self._position, self._digest = expected, digest
        if is_emptied(link.entry):
            self._emptied.append(expected)
        elif EMPTIED in link.entry:
            self._emptied_up_to = max(self._emptied_up_to, _says_emptied(link.entry))

    def end(self, position: int, digest: str) -> ChainCheck:
        """The verdict, where the last entry is to be this one."""
        unexplained = next((emptied for emptied in self._emptied if emptied > self._emptied_up_to), None)
        if self._broken is None and (self._position, self._digest) != (position, digest):
            self._broken = (self._position + 1, ChainFault.CUT_OFF)
        if unexplained is not None and (self._broken is None or unexplained < self._broken[0]):
            self._broken = (unexplained, ChainFault.EMPTIED)
        broken_at, fault = self._broken or (None, None)
        return ChainCheck(self._position, len(self._emptied), self._digest, broken_at, fault)


class AuditTrail:
    """Who did what to whose data, when, and with what result."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, at: datetime, event: str, **facts: str | int | bool | None) -> None:
        """Append one entry in a transaction of its own."""
        with self._database.write() as connection:
            self.add_with(connection, at, event, **facts)

    def add_with(
        self, connection: Connection, at: datetime, event: str, **facts: str | int | bool | None
    ) -> None:
        """Append one entry in the caller's write transaction: both happen, or neither."""
        head = connection.execute(
            select(AUDIT_HEAD.c.position, AUDIT_HEAD.c.digest).where(AUDIT_HEAD.c.id == 1).with_for_update()
        ).one()
        entry = json.dumps({"event": event, **facts}, sort_keys=True, ensure_ascii=False)
        position = head.position + 1
        digest = _digest(position, at.isoformat(), content_digest(entry), head.digest)
        connection.execute(
            insert(AUDIT).values(position=position, at=at, entry=entry, previous=head.digest, digest=digest)
        )
        connection.execute(
            update(AUDIT_HEAD).where(AUDIT_HEAD.c.id == 1).values(position=position, digest=digest)
        )

    def entries(self) -> Iterator[dict[str, Any]]:
        """Every entry, oldest first: position, at, event and its facts; of an emptied one only the digest."""
        for link in self.links():
            yield {"position": link.position, "at": link.at, **json.loads(link.entry)}

    def links(self) -> Iterator[Link]:
        """The chain, oldest entry first."""
        with self._snapshot() as connection:
            yield from _links(connection)

    def verify(self) -> int | None:
        """The position of the first entry that does not fit the chain; None if the whole chain holds."""
        return self.check().broken_at

    def check(self) -> ChainCheck:
        """Walk the whole chain."""
        chain = Chain()
        with self.whole() as (links, head):
            for link in links:
                chain.follow(link)
        return chain.end(*head)

    @contextmanager
    def whole(self) -> Iterator[tuple[Iterator[Link], tuple[int, str]]]:
        """The chain as it is at one moment, and position and digest of what must be its last entry."""
        with self._snapshot() as connection:
            head = connection.execute(select(AUDIT_HEAD.c.position, AUDIT_HEAD.c.digest)).one()
            yield _links(connection), (head.position, head.digest)

    @contextmanager
    def _snapshot(self) -> Iterator[Connection]:
        """A connection that sees one moment: an entry added on the way must not look like a fault."""
        with self._database.read() as connection:
            if connection.dialect.name == "postgresql":  # SQLite's transactions are like that anyway
                connection.execution_options(isolation_level="REPEATABLE READ")
            yield connection

    def older_than(self, cutoff: datetime) -> int:
        """How many contents `empty` would empty."""
        with self._database.read() as connection:
            return len(_to_empty(connection, cutoff))

    def empty(self, cutoff: datetime, now: datetime) -> int:
        """Empty the contents before the first entry since `cutoff`, keep their digests; how many.

        It is an entry itself, in the same transaction.
        """
        with self._database.write() as connection:
            rows = _to_empty(connection, cutoff)
            if not rows:
                return 0
            with _rewriting(connection):
                for position, entry in rows:
                    connection.execute(
                        update(AUDIT)
                        .where(AUDIT.c.position == position)
                        .values(entry=json.dumps({"emptied": _sha256(entry)}))
                    )
            self.add_with(connection, now, EMPTIED, up_to=rows[-1][0], count=len(rows))
        return len(rows)


def _links(connection: Connection) -> Iterator[Link]:
    for row in connection.execute(select(AUDIT).order_by(AUDIT.c.position)):
        yield Link(row.position, row.at.isoformat(), row.entry, row.previous, row.digest)


def _to_empty(connection: Connection, cutoff: datetime) -> list[tuple[int, str]]:
    """A prefix of the chain: an entry whose clock was wrong keeps what comes after it."""
    kept = select(func.min(AUDIT.c.position)).where(AUDIT.c.at >= cutoff).scalar_subquery()
    rows = connection.execute(
        select(AUDIT.c.position, AUDIT.c.entry)
        .where(AUDIT.c.at < cutoff, func.coalesce(AUDIT.c.position < kept, True))
        .order_by(AUDIT.c.position)
    )
    return [(row.position, row.entry) for row in rows if not is_emptied(row.entry)]


@contextmanager
def _rewriting(connection: Connection) -> Iterator[None]:
    """Without the guard that refuses changes of the trail, for this transaction only: if it fails, both the
    changes and the lifting of the guard are undone."""
    if connection.dialect.name == "sqlite":
        made = connection.execute(
            text("SELECT sql FROM sqlite_master WHERE type = 'trigger' AND name = 'audit_no_update'")
        ).scalar_one()
        connection.exec_driver_sql("DROP TRIGGER audit_no_update")
        yield
        connection.exec_driver_sql(made)
    else:
        connection.exec_driver_sql("ALTER TABLE audit DISABLE TRIGGER audit_no_update")
        yield
        connection.exec_driver_sql("ALTER TABLE audit ENABLE TRIGGER audit_no_update")
