"""The audit trail in the database: append-only, sealed, chained (`smartapp.store.chain` says how).

Whoever changes or removes an entry breaks every digest after it; `check` finds the first one. Whoever owns
the database could make the whole chain anew; only an export that was taken before, and is kept elsewhere,
shows that.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, bindparam, func, insert, select, update

from smartapp.store.chain import (
    AFTER,
    EMPTIED,
    Chain,
    ChainCheck,
    Link,
    Point,
    Words,
    content_digest,
    emptied_form,
    entry_digest,
    facts_of,
    is_emptied,
    is_plain,
    opened_of,
    salted,
    seal_of,
    sealed_content,
    sealed_form,
    words_of,
)
from smartapp.store.database import Database
from smartapp.store.guards import lifted
from smartapp.store.tables import AUDIT, AUDIT_HEAD
from smartapp.store.vault import SealBroken, SealMoved, Vault, from_text, place

Fact = str | int | bool | None | Words
"""What an entry says of its event."""
_HEAD = select(AUDIT_HEAD.c.position, AUDIT_HEAD.c.digest).where(AUDIT_HEAD.c.id == 1).with_for_update()
_APPEND = insert(AUDIT)
_MOVE_HEAD = (
    update(AUDIT_HEAD)
    .where(AUDIT_HEAD.c.id == 1)
    .values(position=bindparam("to"), digest=bindparam("new_digest"))
)


class AuditTrail:
    """Who did what to whose data, when, and with what result.

    Without a vault it can be followed and verified; nothing is opened or added.
    """

    def __init__(self, database: Database, vault: Vault | None = None) -> None:
        self._database = database
        self._vault = vault

    def add(self, at: datetime, event: str, **facts: Fact) -> None:
        """Append one entry in a transaction of its own."""
        with self._database.write() as connection:
            self.add_with(connection, at, event, **facts)

    def add_with(self, connection: Connection, at: datetime, event: str, **facts: Fact) -> None:
        """Append one entry in the caller's write transaction: both happen, or neither."""
        if self._vault is None:
            raise ValueError("a trail without a vault takes no entries")
        words = {name: salted(fact.text) for name, fact in facts.items() if isinstance(fact, Words)}
        head = _head(connection)
        said = {
            "event": event,
            **{name: fact for name, fact in facts.items() if name not in words},
            **{f"{name}_digest": content_digest(word) for name, word in words.items()},
            AFTER: head.digest,
        }
        opened = salted(json.dumps(said, sort_keys=True, ensure_ascii=False))
        token = self._vault.seal_text(sealed_content(opened, words), _of_entry(head.position + 1))
        _append(connection, head, at, sealed_form(opened, token))

    def lock(self, connection: Connection) -> None:
        """From here to its end the caller's transaction is the only one that writes with an entry: what it
        looks up stays true until then."""
        _head(connection)

    def words(self, position: int) -> dict[str, str]:
        """What people typed with an entry, by the name of the fact; of an emptied or old one nothing.

        Raises SealBroken where it cannot be opened, or is not what the entry vouches for.
        """
        with self._database.read() as connection:
            entry = connection.execute(select(AUDIT.c.entry).where(AUDIT.c.position == position)).scalar_one()
        token = seal_of(entry)
        if token is None:
            return {}
        if self._vault is None:
            raise SealBroken
        try:
            return words_of(self._vault.unseal_text(token, _of_entry(position)))
        except ValueError:
            raise SealBroken from None

    def entries(self) -> Iterator[dict[str, Any]]:
        """Every entry, oldest first: position, at, event and its facts; of an emptied one only the digest.

        Raises SealBroken where one cannot be opened.
        """
        for link in self.links():
            opened = self._opened(link)
            if not opened.entry or seal_of(opened.entry) is not None:
                raise SealBroken
            yield {"position": link.position, "at": link.at, **facts_of(opened.entry)}

    def links(self) -> Iterator[Link]:
        """The chain as it is kept, oldest entry first."""
        with self._snapshot() as connection:
            yield from _links(connection)

    def verify(self) -> int | None:
        """The position of the first entry that does not fit the chain; None if the whole chain holds."""
        return self.check().broken_at

    def check(self, since: Point | None = None) -> ChainCheck:
        """Walk the whole chain, and open each entry where there is a vault. `since`: it must pass there."""
        chain = Chain(opened=self._vault is not None, since=since)
        with self.whole() as (links, end):
            for link in links:
                chain.follow(link)
        return chain.end(end)

    @contextmanager
    def whole(self) -> Iterator[tuple[Iterator[Link], Point]]:
        """The chain as it is at one moment, opened where there is a vault, and where it must end.

        An entry that cannot be opened comes as it is kept; one with another's seal comes empty, so that it
        does not fit its digest.
        """
        with self._snapshot() as connection:
            head = connection.execute(select(AUDIT_HEAD.c.position, AUDIT_HEAD.c.digest)).one()
            yield map(self._opened, _links(connection)), Point(head.position, head.digest)

    def _opened(self, link: Link) -> Link:
        token = seal_of(link.entry)
        if self._vault is None or token is None:
            return link
        try:
            return replace(link, entry=opened_of(self._vault.unseal_text(token, _of_entry(link.position))))
        except SealMoved:
            return replace(link, entry="")
        except SealBroken:
            return link

    @contextmanager
    def _snapshot(self) -> Iterator[Connection]:
        """A connection that sees one moment: an entry added on the way must not look like a fault."""
        with self._database.read() as connection:
            if connection.dialect.name == "postgresql":  # SQLite's transactions are like that anyway
                connection.execution_options(isolation_level="REPEATABLE READ")
            yield connection

    def last_key(self) -> tuple[bool, int | None]:
        """Whether a sealed entry is kept; and the place of the key that opens the last one, if one does."""
        with self._database.read() as connection:
            row = connection.execute(
                select(AUDIT.c.position, AUDIT.c.entry)
                .where(AUDIT.c.entry.like('{"digest": %'))
                .order_by(AUDIT.c.position.desc())
                .limit(1)
            ).one_or_none()
        token = None if row is None else seal_of(row.entry)
        if row is None or token is None or self._vault is None:
            return False, None
        try:
            return True, self._vault.key_of(from_text(token), _of_entry(row.position))
        except SealBroken:
            return True, None

    def plain(self) -> int:
        """How many entries stand open although they may name somebody: from before entries were sealed."""
        with self._database.read() as connection:
            entries = connection.execute(
                select(AUDIT.c.entry).where(AUDIT.c.entry.not_like('{"digest": %'))
            ).scalars()
            return sum(is_plain(entry) for entry in entries)

    def older_than(self, cutoff: datetime) -> int:
        """How many contents `empty` would empty."""
        with self._database.read() as connection:
            return len(_to_empty(connection, cutoff))

    def empty(self, cutoff: datetime, now: datetime) -> int:
        """Empty the contents before the first entry since `cutoff`, keep their digests; how many.

        It is an entry itself, in the same transaction. Needs no key: nothing is opened.
        """
        with self._database.write() as connection:
            rows = _to_empty(connection, cutoff)
            if not rows:
                return 0
            # As everybody who adds an entry: first the head, then the table. The other way round two would
            # wait for each other.
            head = _head(connection)
            with lifted(connection, "update", AUDIT):
                for position, entry in rows:
                    connection.execute(
                        update(AUDIT).where(AUDIT.c.position == position).values(entry=emptied_form(entry))
                    )
            said = json.dumps({"event": EMPTIED, "up_to": rows[-1][0], "count": len(rows)}, sort_keys=True)
            _append(connection, head, now, said)
        return len(rows)


def _of_entry(position: int) -> str:
    return place(AUDIT.c.entry, {"position": position})


def _append(connection: Connection, head: Row[int, str], at: datetime, entry: str) -> None:
    """`head`: the last entry, locked (`_head`)."""
    position = head.position + 1
    digest = entry_digest(position, at.isoformat(), content_digest(entry), head.digest)
    connection.execute(
        _APPEND,
        {"position": position, "at": at, "entry": entry, "previous": head.digest, "digest": digest},
    )
    connection.execute(_MOVE_HEAD, {"to": position, "new_digest": digest})


def _head(connection: Connection) -> Row[int, str]:
    """The last entry, locked until the transaction ends."""
    return connection.execute(_HEAD).one()


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
