"""Pending launches, sessions, tokens and refresh leases: `launch.ports.LaunchStore` on the database."""

from __future__ import annotations

import math
import threading
import time
from dataclasses import replace
from datetime import datetime, timedelta

from sqlalchemy import bindparam, delete, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from launch.ports import LaunchSession, PendingAbsence, PendingLaunch, SessionEnd, TokenSet
from smartapp.store.database import Database
from smartapp.store.tables import (
    LAUNCH_SESSIONS,
    PENDING_LAUNCHES,
    READING_JOBS,
    REFRESH_LEASES,
    SNAPSHOTS,
    TOKENS,
    WORKLIST_EXPORTS,
)
from smartapp.store.vault import Vault, place

VERSION_SECONDS = 0.5
"""So long a reading's requests may not notice what another process did to their session: as long as the
reading itself, which asks no more often (`ReadingStore.report`). What this process did is noticed at once."""

# Made once: to make a statement anew takes twice as long as to have it done.
_LAUNCH = (
    select(PENDING_LAUNCHES.c.sealed)
    .where(PENDING_LAUNCHES.c.state_digest == bindparam("digest"))
    .with_for_update()
)
_TAKE_LAUNCH = (
    update(PENDING_LAUNCHES).where(PENDING_LAUNCHES.c.state_digest == bindparam("digest")).values(sealed=None)
)
_SESSION = (
    select(
        LAUNCH_SESSIONS.c.sealed,
        LAUNCH_SESSIONS.c.last_seen,
        LAUNCH_SESSIONS.c.ended_at,
        LAUNCH_SESSIONS.c.ended_because,
        TOKENS.c.sealed.label("tokens"),
    )
    .join(TOKENS, TOKENS.c.session_id == LAUNCH_SESSIONS.c.id, isouter=True)
    .where(LAUNCH_SESSIONS.c.id == bindparam("session"))
)
_IDLE = select(LAUNCH_SESSIONS.c.id).where(
    LAUNCH_SESSIONS.c.ended_at.is_(None), LAUNCH_SESSIONS.c.last_seen <= bindparam("since")
)
_TOKENS = select(TOKENS.c.sealed).where(TOKENS.c.session_id == bindparam("session"))
_VERSION = select(TOKENS.c.version).where(TOKENS.c.session_id == bindparam("session"))
_LAUNCHES_OVER = delete(PENDING_LAUNCHES).where(PENDING_LAUNCHES.c.expires_at < bindparam("now"))
_SESSIONS_OVER = delete(LAUNCH_SESSIONS).where(
    or_(LAUNCH_SESSIONS.c.ended_at < bindparam("before"), LAUNCH_SESSIONS.c.expires_at < bindparam("before"))
)


class SqlLaunchStore:
    """Implements `launch.ports.LaunchStore`; see there for what each method promises."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._versions: dict[str, tuple[float, int | None]] = {}
        """The version of a session's tokens, and when it was looked at."""
        self._changes = 0
        self._vault = vault

    def save_pending(self, pending: PendingLaunch) -> None:
        with self._database.write() as connection:
            connection.execute(
                insert(PENDING_LAUNCHES).values(
                    state_digest=pending.state_digest,
                    sealed=self._vault.seal_record(pending, _of_launch(pending.state_digest)),
                    expires_at=pending.expires_at,
                )
            )

    def take_pending(self, state_digest: str) -> PendingLaunch | PendingAbsence:
        with self._database.write() as connection:
            row = connection.execute(_LAUNCH, {"digest": state_digest}).one_or_none()
            if row is None:
                return PendingAbsence.UNKNOWN
            if row.sealed is None:
                return PendingAbsence.REPLAYED
            connection.execute(_TAKE_LAUNCH, {"digest": state_digest})
        return self._vault.unseal_record(row.sealed, _of_launch(state_digest), PendingLaunch)

    def create_session(self, session: LaunchSession, tokens: TokenSet) -> None:
        with self._database.write() as connection:
            connection.execute(
                insert(LAUNCH_SESSIONS).values(
                    id=session.id,
                    sealed=self._vault.seal_record(session, _of_session(session.id)),
                    last_seen=session.last_seen,
                    expires_at=session.expires_at,
                )
            )
            connection.execute(
                insert(TOKENS).values(
                    session_id=session.id,
                    version=tokens.version,
                    sealed=self._vault.seal_record(tokens, _of_tokens(session.id)),
                )
            )

    def get_session(self, session_id: str) -> LaunchSession | None:
        with self._database.read() as connection:
            row = connection.execute(_SESSION, {"session": session_id}).one_or_none()
        if row is None:
            return None
        session = self._vault.unseal_record(row.sealed, _of_session(session_id), LaunchSession)
        if row.tokens is not None:
            # A renewed token may be good for less than the first one was: what it grants is what is granted.
            tokens = self._vault.unseal_record(row.tokens, _of_tokens(session_id), TokenSet)
            session = replace(session, granted_scope=tokens.granted_scope)
        return replace(
            session,
            last_seen=row.last_seen,
            ended_at=row.ended_at,
            ended_because=None if row.ended_because is None else SessionEnd(row.ended_because),
        )

    def touch_session(self, session_id: str, at: datetime) -> None:
        with self._database.write() as connection:
            connection.execute(
                update(LAUNCH_SESSIONS)
                .where(
                    LAUNCH_SESSIONS.c.id == session_id,
                    LAUNCH_SESSIONS.c.ended_at.is_(None),
                    LAUNCH_SESSIONS.c.last_seen < at,
                )
                .values(last_seen=at)
            )

    def end_session(self, session_id: str, at: datetime, because: SessionEnd) -> bool:
        with self._database.write() as connection:
            ended = connection.execute(
                update(LAUNCH_SESSIONS)
                .where(LAUNCH_SESSIONS.c.id == session_id, LAUNCH_SESSIONS.c.ended_at.is_(None))
                .values(ended_at=at, ended_because=because.value)
            ).rowcount
            # What was read, and files of it, go with the tokens; what is under way stops at its next report.
            for table in (TOKENS, SNAPSHOTS, READING_JOBS, WORKLIST_EXPORTS):
                connection.execute(delete(table).where(table.c.session_id == session_id))
        self._changed()
        return ended == 1

    def open_sessions(self) -> tuple[str, ...]:
        """Ids of the sessions that nobody has ended."""
        with self._database.read() as connection:
            return tuple(
                connection.execute(
                    select(LAUNCH_SESSIONS.c.id).where(LAUNCH_SESSIONS.c.ended_at.is_(None))
                ).scalars()
            )

    def idle_sessions(self, since: datetime) -> tuple[str, ...]:
        """Ids of the open sessions nobody has used since then."""
        with self._database.read() as connection:
            return tuple(connection.execute(_IDLE, {"since": since}).scalars())

    def get_tokens(self, session_id: str) -> TokenSet | None:
        now, changes = time.monotonic(), self._changes
        with self._database.read() as connection:
            sealed = connection.execute(_TOKENS, {"session": session_id}).scalar_one_or_none()
        if sealed is None:
            return None
        tokens = self._vault.unseal_record(sealed, _of_tokens(session_id), TokenSet)
        self._saw_version(session_id, tokens.version, now, changes)
        return tokens

    def token_version(self, session_id: str) -> int | None:
        now, changes = time.monotonic(), self._changes
        with self._lock:
            seen, version = self._versions.get(session_id, (-math.inf, None))
        if now - seen < VERSION_SECONDS:
            return version
        with self._database.read() as connection:
            version = connection.execute(_VERSION, {"session": session_id}).scalar_one_or_none()
        self._saw_version(session_id, version, now, changes)
        return version

    def _saw_version(self, session_id: str, version: int | None, at: float, changes: int) -> None:
        """`changes`: how many this process had made before it looked."""
        with self._lock:
            if changes == self._changes:  # else what was read may be what it was before
                self._versions[session_id] = (at, version)

    def _changed(self) -> None:
        """This process ended a session or renewed its tokens: that is seen at once."""
        with self._lock:
            self._changes += 1
            self._versions.clear()

    def replace_tokens(self, session_id: str, tokens: TokenSet, expected_version: int) -> bool:
        with self._database.write() as connection:
            replaced = connection.execute(
                update(TOKENS)
                .where(TOKENS.c.session_id == session_id, TOKENS.c.version == expected_version)
                .values(
                    version=tokens.version,
                    sealed=self._vault.seal_record(tokens, _of_tokens(session_id)),
                )
            ).rowcount
        self._changed()
        return replaced == 1

    def acquire_refresh_lease(self, session_id: str, holder: str, now: datetime, ttl: timedelta) -> bool:
        try:
            with self._database.write() as connection:
                renewed = connection.execute(
                    update(REFRESH_LEASES)
                    .where(
                        REFRESH_LEASES.c.session_id == session_id,
                        or_(REFRESH_LEASES.c.holder == holder, REFRESH_LEASES.c.until <= now),
                    )
                    .values(holder=holder, until=now + ttl)
                ).rowcount
                if renewed == 0:
                    connection.execute(
                        insert(REFRESH_LEASES).values(session_id=session_id, holder=holder, until=now + ttl)
                    )
        except IntegrityError:  # somebody else holds it, or there is no such session
            return False
        return True

    def release_refresh_lease(self, session_id: str, holder: str) -> None:
        with self._database.write() as connection:
            connection.execute(
                delete(REFRESH_LEASES).where(
                    REFRESH_LEASES.c.session_id == session_id, REFRESH_LEASES.c.holder == holder
                )
            )

    def purge(self, now: datetime, keep_ended: timedelta) -> int:
        with self._database.write() as connection:
            launches = connection.execute(_LAUNCHES_OVER, {"now": now}).rowcount
            # Tokens, leases, jobs and snapshots of a session go with it (ON DELETE CASCADE).
            sessions = connection.execute(_SESSIONS_OVER, {"before": now - keep_ended}).rowcount
        return launches + sessions


def _of_launch(state_digest: str) -> str:
    return place(PENDING_LAUNCHES.c.sealed, {"state_digest": state_digest})


def _of_session(session_id: str) -> str:
    return place(LAUNCH_SESSIONS.c.sealed, {"id": session_id})


def _of_tokens(session_id: str) -> str:
    return place(TOKENS.c.sealed, {"session_id": session_id})
