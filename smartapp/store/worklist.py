"""What people said of a worklist's rows, and files of it that are being made."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Any

import msgspec
from sqlalchemy import Row, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from smartapp.store.audit import AuditTrail
from smartapp.store.database import Database
from smartapp.store.tables import WORKLIST_EXPORTS, WORKLIST_MARKS
from smartapp.store.vault import Vault, place

SILENT_FOR = timedelta(seconds=60)
"""A file of which nothing was heard for so long is not made any more."""


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


class ExportState(StrEnum):
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class Progress(msgspec.Struct, frozen=True):
    """Counts: of patients asked about, and of rows that the user may see."""

    asked: int = 0
    rows: int = 0


@dataclass(frozen=True, slots=True)
class Export:
    """A file on its way. `failed` too where its process has not been heard of."""

    id: str
    state: ExportState
    progress: Progress
    at: datetime


class Exports:
    """One a session; it goes with its session."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self._database = database
        self._vault = vault

    def begin(self, session_id: str, now: datetime) -> str | None:
        """The new one's id, in the place of the one before; None while that is still being made."""
        table = WORKLIST_EXPORTS
        new = secrets.token_hex(16)
        with self._database.write() as connection:
            running = connection.execute(
                select(table.c.id).where(
                    table.c.session_id == session_id,
                    table.c.state == ExportState.RUNNING.value,
                    table.c.changed_at > now - SILENT_FOR,
                )
            ).first()
            if running is not None:
                return None
            connection.execute(delete(table).where(table.c.session_id == session_id))
            connection.execute(
                insert(table).values(
                    id=new,
                    session_id=session_id,
                    state=ExportState.RUNNING.value,
                    progress=msgspec.json.encode(Progress()).decode(),
                    created_at=now,
                    changed_at=now,
                )
            )
        return new

    def of_session(self, session_id: str, now: datetime) -> Export | None:
        table = WORKLIST_EXPORTS
        wanted = select(table.c.id, table.c.state, table.c.progress, table.c.created_at, table.c.changed_at)
        with self._database.read() as connection:
            row = connection.execute(wanted.where(table.c.session_id == session_id)).first()
        if row is None:
            return None
        state = ExportState(row.state)
        if state is ExportState.RUNNING and row.changed_at <= now - SILENT_FOR:
            state = ExportState.FAILED
        return Export(row.id, state, msgspec.json.decode(row.progress, type=Progress), row.created_at)

    def go_on(self, export_id: str, progress: Progress, now: datetime) -> bool:
        """False where it is not wanted any more: its session is over, or another one was begun."""
        return self._change(export_id, now, progress=msgspec.json.encode(progress).decode())

    def end(self, export_id: str, session_id: str, content: bytes | None, now: datetime) -> None:
        """The whole file; None where it could not be made."""
        if content is None:
            self._change(export_id, now, state=ExportState.FAILED.value)
            return
        named = {"id": export_id, "session_id": session_id}
        sealed = self._vault.seal(content, place(WORKLIST_EXPORTS.c.sealed, named))
        self._change(export_id, now, state=ExportState.DONE.value, sealed=sealed)

    def content(self, session_id: str) -> bytes | None:
        """The file of a session; None where there is none."""
        table = WORKLIST_EXPORTS
        with self._database.read() as connection:
            row = connection.execute(
                select(table.c.id, table.c.session_id, table.c.sealed).where(
                    table.c.session_id == session_id, table.c.sealed.is_not(None)
                )
            ).first()
        if row is None:
            return None
        named = {"id": row.id, "session_id": row.session_id}
        return self._vault.unseal(row.sealed, place(table.c.sealed, named))

    def _change(self, export_id: str, now: datetime, **values: object) -> bool:
        with self._database.write() as connection:
            changed = update(WORKLIST_EXPORTS).where(
                WORKLIST_EXPORTS.c.id == export_id,
                WORKLIST_EXPORTS.c.state == ExportState.RUNNING.value,
            )
            return connection.execute(changed.values(changed_at=now, **values)).rowcount == 1
