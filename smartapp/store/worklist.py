"""What people said of a worklist's rows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Any

import msgspec
from sqlalchemy import Row, insert, select, update
from sqlalchemy.exc import IntegrityError

from smartapp.store.audit import AuditTrail
from smartapp.store.database import Database
from smartapp.store.tables import WORKLIST_MARKS
from smartapp.store.vault import Vault, place


class MarkKind(StrEnum):
    """What somebody says of a row."""

    MINE = "mine"
    CALLED = "called"
    SNOOZED = "snoozed"
    """Put off until a day."""
    DONE = "done"
    NONE = "none"
    """Taken back."""


class _Name(msgspec.Struct, frozen=True):
    name: str


@dataclass(frozen=True, slots=True)
class Mark:
    """What stands of one patient. `digest`: of what the row told when it was said."""

    patient: str
    version: int
    kind: MarkKind
    person: str
    until: date | None
    digest: str
    at: datetime
    sealed: bytes

    def hides(self, digest: str, today: date) -> bool:
        """Whether the row needs nobody now: it was done and says the same still, or its day has not come."""
        if self.kind is MarkKind.DONE:
            return self.digest == digest
        return self.kind is MarkKind.SNOOZED and self.until is not None and today < self.until


@dataclass(frozen=True, slots=True)
class NewMark:
    """What somebody wants to say. `seen`: the version of what they saw standing; 0 for nothing."""

    patient: str
    kind: MarkKind
    person: str
    name: str
    digest: str
    seen: int
    until: date | None = None


class Marks:
    """One row a patient: whoever saw another one than there is changes nothing."""

    def __init__(self, database: Database, vault: Vault, audit: AuditTrail) -> None:
        self._database = database
        self._vault = vault
        self._audit = audit

    def of_issuer(self, issuer_id: str) -> dict[str, Mark]:
        """By patient; what was taken back as well, whose version counts on."""
        with self._database.read() as connection:
            rows = connection.execute(select(WORKLIST_MARKS).where(WORKLIST_MARKS.c.issuer_id == issuer_id))
            return {row.patient: _mark(row) for row in rows}

    def of_patient(self, issuer_id: str, patient: str) -> Mark | None:
        with self._database.read() as connection:
            row = connection.execute(
                select(WORKLIST_MARKS).where(
                    WORKLIST_MARKS.c.issuer_id == issuer_id, WORKLIST_MARKS.c.patient == patient
                )
            ).first()
        return None if row is None else _mark(row)

    def name_of(self, issuer_id: str, mark: Mark) -> str:
        """What the person is called who said it; "" where the EHR named nobody."""
        named = {"issuer_id": issuer_id, "patient": mark.patient}
        return self._vault.unseal_record(mark.sealed, place(WORKLIST_MARKS.c.sealed, named), _Name).name

    def set(self, issuer_id: str, mark: NewMark, now: datetime, session: str) -> bool:
        """False, and nothing changed, where somebody else was first."""
        named = {"issuer_id": issuer_id, "patient": mark.patient}
        values = {
            "version": mark.seen + 1,
            "kind": mark.kind.value,
            "person": mark.person,
            "until": mark.until,
            "digest": mark.digest,
            "sealed": self._vault.seal_record(_Name(mark.name), place(WORKLIST_MARKS.c.sealed, named)),
            "changed_at": now,
        }
        same = (WORKLIST_MARKS.c.issuer_id == issuer_id, WORKLIST_MARKS.c.patient == mark.patient)
        with self._database.write() as connection:
            if mark.seen:
                changed = update(WORKLIST_MARKS).where(*same, WORKLIST_MARKS.c.version == mark.seen)
                if not connection.execute(changed.values(**values)).rowcount:
                    return False
            else:
                try:
                    with connection.begin_nested():
                        connection.execute(insert(WORKLIST_MARKS).values(**named, **values))
                except IntegrityError:
                    return False
            self._audit.add_with(
                connection,
                now,
                "worklist-marked",
                issuer=issuer_id,
                patient=mark.patient,
                user=mark.person,
                session=session,
                mark=mark.kind.value,
                until=None if mark.until is None else mark.until.isoformat(),
            )
        return True


def _mark(row: Row[Any]) -> Mark:
    return Mark(
        row.patient,
        row.version,
        MarkKind(row.kind),
        row.person,
        row.until,
        row.digest,
        row.changed_at,
        row.sealed,
    )
