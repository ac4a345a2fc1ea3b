"""Files of rows that the user may see, on their way: any process answers for their state."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

import msgspec
from sqlalchemy import delete, insert, select, update

from smartapp.store.database import Database
from smartapp.store.tables import WORKLIST_EXPORTS
from smartapp.store.vault import Vault, place

SILENT_FOR = timedelta(seconds=60)
"""A file of which nothing was heard for so long is not made any more."""


class ExportState(StrEnum):
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class Progress(msgspec.Struct, frozen=True):
    """Which file it is, and counts: of patients asked about, of rows that the user may see, of rows of
    patients whom the EHR does not give, and of rows of which it did not say."""

    asked: int = 0
    rows: int = 0
    hidden: int = 0
    silent: int = 0
    file: str = ""


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

    def begin(self, session_id: str, file: str, now: datetime) -> str | None:
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
                    progress=msgspec.json.encode(Progress(file=file)).decode(),
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

    def content(self, session_id: str, file: str) -> bytes | None:
        """The file of a session by its name; None where there is none, or another one."""
        table = WORKLIST_EXPORTS
        with self._database.read() as connection:
            row = connection.execute(
                select(table.c.id, table.c.session_id, table.c.progress, table.c.sealed).where(
                    table.c.session_id == session_id, table.c.sealed.is_not(None)
                )
            ).first()
        if row is None or msgspec.json.decode(row.progress, type=Progress).file != file:
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
