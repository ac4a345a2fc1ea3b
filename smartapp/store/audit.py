"""The audit trail: append-only, each entry's digest covers its content and the entry before it.

Whoever changes or removes an entry breaks every digest after it; `verify` finds the first one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, select, update

from smartapp.store.database import Database
from smartapp.store.models import AuditHeadRow, AuditRow

START = "0" * 64


def _digest(position: int, at: datetime, entry: str, previous: str) -> str:
    return hashlib.sha256(f"{position}\n{at.isoformat()}\n{entry}\n{previous}".encode()).hexdigest()


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
            select(AuditHeadRow.position, AuditHeadRow.digest).where(AuditHeadRow.id == 1).with_for_update()
        ).one()
        entry = json.dumps({"event": event, **facts}, sort_keys=True, ensure_ascii=False)
        position = head.position + 1
        digest = _digest(position, at, entry, head.digest)
        connection.execute(
            insert(AuditRow).values(
                position=position, at=at, entry=entry, previous=head.digest, digest=digest
            )
        )
        connection.execute(
            update(AuditHeadRow).where(AuditHeadRow.id == 1).values(position=position, digest=digest)
        )

    def entries(self) -> Iterator[dict[str, Any]]:
        """Every entry, oldest first: position, at, event and its facts."""
        with self._database.read() as connection:
            rows = connection.execute(select(AuditRow).order_by(AuditRow.position)).all()
        for row in rows:
            yield {"position": row.position, "at": row.at.isoformat(), **json.loads(row.entry)}

    def verify(self) -> int | None:
        """The position of the first entry that does not fit the chain; None if the whole chain holds."""
        previous, expected = START, 1
        with self._database.read() as connection:
            head = connection.execute(select(AuditHeadRow.position, AuditHeadRow.digest)).one()
            for row in connection.execute(select(AuditRow).order_by(AuditRow.position)):
                digest = _digest(row.position, row.at, row.entry, previous)
                if row.position != expected or row.previous != previous or row.digest != digest:
                    return expected
                previous, expected = digest, expected + 1
        return None if (head.position, head.digest) == (expected - 1, previous) else expected
