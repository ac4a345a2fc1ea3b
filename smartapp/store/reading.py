"""Reading jobs and the snapshots they end in."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, and_, bindparam, delete, insert, or_, select, update

from smartapp.store.database import Database
from smartapp.store.tables import LAUNCH_SESSIONS, READING_JOBS, SNAPSHOT_CHUNKS, SNAPSHOTS
from smartapp.store.vault import Vault, place

ATTEMPTS = 3
"""A job that lost its process this often has failed."""


class JobState(Enum):
    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class Progress(msgspec.Struct, frozen=True):
    """How far a reading is. Counts and times only, never clinical content."""

    steps: int = 0
    steps_done: int = 0
    resources: int = 0
    waits_for: str | None = None
    """Why nothing is asked of the EHR (`launch.limiter.PauseKind`), and until when."""
    waits_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class ReadingJob:
    """One reading of one chart. `id` becomes the snapshot's id."""

    id: str
    session_id: str
    state: JobState
    progress: Progress
    failure: str | None
    created_at: datetime
    attempts: int = 0
    """How often it was begun: more than once where a process that read it went silent."""
    whole: bool = False
    """All the months are read that the app looks back, not only from the last charged period on."""

    @property
    def over(self) -> bool:
        return self.state in {JobState.DONE, JobState.FAILED}


class StoredResource(msgspec.Struct, frozen=True, array_like=True):
    """One resource as it arrived: where from, its "Type/id", its version and its bytes."""

    origin: str
    full_url: str | None
    reference: str
    version: str
    raw: bytes


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What one reading found. `result` is the JSON every page of it is made from."""

    id: str
    session_id: str
    created_at: datetime
    sha256: str
    result: bytes


class SealedChunk(msgspec.Struct, frozen=True):
    """One page of resources, sealed as soon as it arrived; `sha256` is of the open content."""

    origin: str
    sha256: str
    sealed: bytes


def snapshot_digest(chunks: Sequence[SealedChunk]) -> str:
    """SHA-256 over the pages in the order of their origin, so that parallel arrival changes nothing."""
    digest = hashlib.sha256()
    for chunk in sorted(chunks, key=lambda chunk: chunk.origin):
        digest.update(f"{chunk.origin}\n{chunk.sha256}\n".encode())
    return digest.hexdigest()


# Made once: to make a statement anew takes twice as long as to have it done.
_LOCKED_SESSION = (
    select(LAUNCH_SESSIONS.c.id).where(LAUNCH_SESSIONS.c.id == bindparam("session")).with_for_update()
)
_UNFINISHED = (
    select(READING_JOBS)
    .where(
        READING_JOBS.c.session_id == bindparam("session"),
        READING_JOBS.c.state.in_([JobState.WAITING.value, JobState.RUNNING.value]),
    )
    .limit(1)
)
_LATEST = (
    select(READING_JOBS)
    .where(READING_JOBS.c.session_id == bindparam("session"))
    .order_by(READING_JOBS.c.created_at.desc())
    .limit(1)
)
_LAPSED = and_(READING_JOBS.c.state == JobState.RUNNING.value, READING_JOBS.c.lease_until <= bindparam("now"))
_GIVE_UP = (
    update(READING_JOBS)
    .where(READING_JOBS.c.id == bindparam("job"), _LAPSED, READING_JOBS.c.attempts >= ATTEMPTS)
    .values(state=JobState.FAILED.value, failure="process-lost")
)
_CLAIM = (
    update(READING_JOBS)
    .where(
        READING_JOBS.c.id == bindparam("job"), or_(READING_JOBS.c.state == JobState.WAITING.value, _LAPSED)
    )
    .values(
        state=JobState.RUNNING.value,
        holder=bindparam("new_holder"),
        lease_until=bindparam("until"),
        attempts=READING_JOBS.c.attempts + 1,
    )
)
_HELD = update(READING_JOBS).where(
    READING_JOBS.c.id == bindparam("job"),
    READING_JOBS.c.holder == bindparam("held_by"),
    READING_JOBS.c.state == JobState.RUNNING.value,
)
_PROGRESS = _HELD.values(progress=bindparam("told"), lease_until=bindparam("until"))
_FAIL = _HELD.values(state=JobState.FAILED.value, failure=bindparam("reason"))
_DONE = _HELD.values(state=JobState.DONE.value)
_SNAPSHOT_OF = (
    select(SNAPSHOTS)
    .where(SNAPSHOTS.c.session_id == bindparam("session"))
    .order_by(SNAPSHOTS.c.created_at.desc())
    .limit(1)
)
_EARLIER = delete(SNAPSHOTS).where(SNAPSHOTS.c.session_id == bindparam("session"))


class ReadingStore:
    """Jobs with leases, snapshots with their pages."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self._database = database
        self._vault = vault

    # Jobs

    def begin(self, session_id: str, now: datetime, whole: bool = False) -> ReadingJob:
        """The session's unfinished job, or a new one: two simultaneous callers get the same. What was read
        whole once is read whole from then on."""
        with self._database.write() as connection:
            # The session's row is the lock under which "none yet" stays true.
            connection.execute(_LOCKED_SESSION, {"session": session_id}).one()
            row = connection.execute(_UNFINISHED, {"session": session_id}).one_or_none()
            if row is not None:
                return _job(row)
            before = connection.execute(_LATEST, {"session": session_id}).one_or_none()
            job = ReadingJob(
                secrets.token_hex(16),
                session_id,
                JobState.WAITING,
                Progress(),
                None,
                now,
                whole=whole or (before is not None and before.whole),
            )
            connection.execute(
                insert(READING_JOBS).values(
                    id=job.id,
                    session_id=session_id,
                    state=job.state.value,
                    attempts=0,
                    progress=msgspec.json.encode(job.progress).decode(),
                    created_at=now,
                    whole=job.whole,
                )
            )
        return job

    def latest(self, session_id: str) -> ReadingJob | None:
        with self._database.read() as connection:
            row = connection.execute(_LATEST, {"session": session_id}).one_or_none()
        return None if row is None else _job(row)

    def claim(self, job_id: str, holder: str, now: datetime, lease: timedelta) -> bool:
        """True for the one caller that must do the job now: a new one, or one whose process went silent."""
        with self._database.write() as connection:
            if connection.execute(_GIVE_UP, {"job": job_id, "now": now}).rowcount:
                return False
            claimed = connection.execute(
                _CLAIM, {"job": job_id, "now": now, "new_holder": holder, "until": now + lease}
            ).rowcount
        return claimed == 1

    def report(self, job_id: str, holder: str, progress: Progress, now: datetime, lease: timedelta) -> bool:
        """Write progress and renew the lease. False if the job is no longer the holder's: stop reading."""
        with self._database.write() as connection:
            told = msgspec.json.encode(progress).decode()
            mine = connection.execute(
                _PROGRESS, {"job": job_id, "held_by": holder, "told": told, "until": now + lease}
            ).rowcount
        return mine == 1

    def fail(self, job_id: str, holder: str, reason: str) -> bool:
        with self._database.write() as connection:
            mine = connection.execute(_FAIL, {"job": job_id, "held_by": holder, "reason": reason}).rowcount
        return mine == 1

    def finish(self, snapshot: Snapshot, holder: str, chunks: Sequence[SealedChunk]) -> bool:
        """Keep the snapshot and close its job, both or neither; older snapshots of the session go."""
        with self._database.write() as connection:
            mine = connection.execute(_DONE, {"job": snapshot.id, "held_by": holder}).rowcount
            if mine != 1:
                return False
            connection.execute(_EARLIER, {"session": snapshot.session_id})
            self._keep(connection, snapshot, chunks)
        return True

    def replace(self, before: str, snapshot: Snapshot, chunks: Sequence[SealedChunk]) -> bool:
        """Put a snapshot in the place of another one. False if that is not there any more."""
        with self._database.write() as connection:
            gone = connection.execute(delete(SNAPSHOTS).where(SNAPSHOTS.c.id == before)).rowcount
            if gone != 1:
                return False
            self._keep(connection, snapshot, chunks)
        return True

    def amend(self, snapshot_id: str, result: bytes) -> bool:
        """Show more of the same pages. False if the snapshot is not there any more."""
        with self._database.write() as connection:
            row = connection.execute(
                select(SNAPSHOTS.c.id, SNAPSHOTS.c.session_id)
                .where(SNAPSHOTS.c.id == snapshot_id)
                .with_for_update()
            ).one_or_none()
            if row is None:
                return False
            sealed = self._vault.seal(result, _of_snapshot(row.id, row.session_id))
            connection.execute(update(SNAPSHOTS).where(SNAPSHOTS.c.id == snapshot_id).values(sealed=sealed))
        return True

    def _keep(self, connection: Connection, snapshot: Snapshot, chunks: Sequence[SealedChunk]) -> None:
        connection.execute(
            insert(SNAPSHOTS).values(
                id=snapshot.id,
                session_id=snapshot.session_id,
                created_at=snapshot.created_at,
                sha256=snapshot.sha256,
                sealed=self._vault.seal(snapshot.result, _of_snapshot(snapshot.id, snapshot.session_id)),
            )
        )
        pages = [
            {
                "snapshot_id": snapshot.id,
                "position": position,
                "sealed": self._vault.reseal(
                    chunk.sealed, _unkept(chunk.origin), _of_page(snapshot.id, position)
                ),
            }
            for position, chunk in enumerate(sorted(chunks, key=lambda chunk: chunk.origin))
        ]
        if pages:
            connection.execute(insert(SNAPSHOT_CHUNKS), pages)

    # Snapshots

    def chunks(self, snapshot_id: str) -> list[SealedChunk]:
        """The pages of a snapshot, sealed as they were when they arrived."""
        found = []
        for bound_to, sealed in self._pages(snapshot_id):
            content = self._vault.unseal(sealed, bound_to)
            origin = msgspec.msgpack.decode(content, type=list[StoredResource])[0].origin
            unkept = self._vault.reseal(sealed, bound_to, _unkept(origin))
            found.append(SealedChunk(origin, hashlib.sha256(content).hexdigest(), unkept))
        return found

    def seal_chunk(self, origin: str, resources: Sequence[StoredResource]) -> SealedChunk:
        content = msgspec.msgpack.encode(list(resources))
        sealed = self._vault.seal(content, _unkept(origin))
        return SealedChunk(origin, hashlib.sha256(content).hexdigest(), sealed)

    def open_chunk(self, chunk: SealedChunk) -> list[StoredResource]:
        content = self._vault.unseal(chunk.sealed, _unkept(chunk.origin))
        return msgspec.msgpack.decode(content, type=list[StoredResource])

    def snapshot_of(self, session_id: str) -> Snapshot | None:
        """The session's present snapshot."""
        with self._database.read() as connection:
            row = connection.execute(_SNAPSHOT_OF, {"session": session_id}).one_or_none()
        if row is None:
            return None
        result = self._vault.unseal(row.sealed, _of_snapshot(row.id, row.session_id))
        return Snapshot(row.id, row.session_id, row.created_at, row.sha256, result)

    def resources(self, snapshot_id: str) -> Iterator[StoredResource]:
        """Every resource of a snapshot, page by page."""
        for bound_to, sealed in self._pages(snapshot_id):
            yield from msgspec.msgpack.decode(self._vault.unseal(sealed, bound_to), type=list[StoredResource])

    def _pages(self, snapshot_id: str) -> Iterator[tuple[str, bytes]]:
        """The sealed pages of a snapshot in order, each with its place."""
        with self._database.read() as connection:
            for row in connection.execute(
                select(SNAPSHOT_CHUNKS.c.position, SNAPSHOT_CHUNKS.c.sealed)
                .where(SNAPSHOT_CHUNKS.c.snapshot_id == snapshot_id)
                .order_by(SNAPSHOT_CHUNKS.c.position)
            ):
                yield _of_page(snapshot_id, row.position), row.sealed


def _unkept(origin: str) -> str:
    """The place of a page that is in no snapshot yet."""
    return f"a page of {origin}"


def _of_page(snapshot_id: str, position: int) -> str:
    return place(SNAPSHOT_CHUNKS.c.sealed, {"snapshot_id": snapshot_id, "position": position})


def _of_snapshot(id_: str, session_id: str) -> str:
    return place(SNAPSHOTS.c.sealed, {"id": id_, "session_id": session_id})


def _job(row: Row[Any]) -> ReadingJob:
    return ReadingJob(
        row.id,
        row.session_id,
        JobState(row.state),
        msgspec.json.decode(row.progress, type=Progress),
        row.failure,
        row.created_at,
        row.attempts,
        row.whole,
    )
