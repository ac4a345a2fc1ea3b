"""Time logged in this app: append-only versions of entries, and the clocks that people started.

An entry is a chain of versions; none is ever rewritten, and the database itself refuses it. What counts is an
entry whose last version is signed (or written to the EHR after it was signed).
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime
from enum import Enum
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, bindparam, delete, insert, select
from sqlalchemy.exc import IntegrityError

from fhir_mappings.time_log import LoggedTime
from smartapp.store.audit import AuditTrail
from smartapp.store.database import Database
from smartapp.store.months import certified_among
from smartapp.store.tables import RUNNING_CLOCKS, TIME_ENTRIES
from smartapp.store.vault import Vault, place


class EntryState(Enum):
    """What a version did to its entry."""

    DRAFT = "draft"
    """Entered or corrected, not signed: it counts nothing."""
    SIGNED = "signed"
    WRITTEN = "written"
    """The signed version was written to the EHR as an Encounter."""
    WITHDRAWN = "withdrawn"


COUNTS = frozenset({EntryState.SIGNED, EntryState.WRITTEN})
_WHOSE = (TIME_ENTRIES.c.issuer_id == bindparam("issuer"), TIME_ENTRIES.c.patient == bindparam("whose"))
_OF_PATIENT = select(TIME_ENTRIES).where(*_WHOSE).order_by(TIME_ENTRIES.c.position)
_STATES = (
    select(TIME_ENTRIES.c.entry_id, TIME_ENTRIES.c.version, TIME_ENTRIES.c.state)
    .where(*_WHOSE)
    .order_by(TIME_ENTRIES.c.version)
)


class Measured(Enum):
    """How the times came about."""

    TYPED = "typed"
    CLOCK = "clock"
    CLOCK_CHANGED = "clock-changed"
    """By a clock, and corrected by hand afterwards."""


class Talk(msgspec.Struct, frozen=True):
    """What a conversation was, as auditors ask; how it was held is the entry's activity."""

    with_whom: str = ""
    data: str = ""
    """Which monitored data were talked about."""
    decided: str = ""


class EntryContent(msgspec.Struct, frozen=True, kw_only=True):
    """One version: what it states, and who made it."""

    logged: LoggedTime
    note: str = ""
    talk: Talk = Talk()
    measured: Measured = Measured.TYPED
    by: str
    by_name: str = ""
    encounter: str | None = None
    """Logical id in the EHR, of a version that says it was written there."""
    whose: str = ""
    """The Practitioner behind `logged.person`, as the EHR said when it was signed; "" where it did not."""


@dataclass(frozen=True, slots=True)
class EntryVersion:
    version: int
    state: EntryState
    at: datetime
    content: EntryContent


@dataclass(frozen=True, slots=True)
class TimeEntry:
    """One entry with all its versions, the oldest first."""

    id: str
    issuer_id: str
    patient: str
    """Logical id."""
    versions: tuple[EntryVersion, ...]

    @property
    def reference(self) -> str:
        """What evidence calls it."""
        return f"urn:uuid:{self.id}"

    @property
    def latest(self) -> EntryVersion:
        return self.versions[-1]

    @property
    def state(self) -> EntryState:
        return self.latest.state

    @property
    def counts(self) -> bool:
        return self.state in COUNTS

    @property
    def signed(self) -> EntryVersion | None:
        """The signature that stands; None where a correction or withdrawal came after it."""
        if not self.counts:
            return None
        return next(item for item in reversed(self.versions) if item.state is EntryState.SIGNED)

    @property
    def stated_at(self) -> datetime:
        """When what stands was typed, or its clock stopped."""
        drafts = [item.at for item in self.versions if item.state is EntryState.DRAFT]
        return drafts[-1] if drafts else self.versions[0].at

    @property
    def states_own_role(self) -> str | None:
        """The role that whoever signed it states of themselves, where the entry says one."""
        signed = self.signed
        if signed is None or signed.content.logged.role is None:
            return None
        own = signed.content.by == signed.content.logged.person
        return str(signed.content.logged.role) if own else None

    @property
    def encounter(self) -> str | None:
        """The id of its Encounter in the EHR, whichever version that holds."""
        return next(
            (item.content.encounter for item in reversed(self.versions) if item.content.encounter), None
        )

    @property
    def outdated_in_ehr(self) -> bool:
        """The EHR holds an earlier version than the present one."""
        return self.encounter is not None and self.state is not EntryState.WRITTEN


@dataclass(frozen=True, slots=True)
class RunningClock:
    """A clock that a person started for a patient."""

    patient: str
    started_at: datetime


@dataclass(frozen=True, slots=True)
class Unless:
    """What must not be true when a version is added: that a month of one of these days is certified; that
    whoever goes by one of these names has an entry that counts with another patient at the same time."""

    certified: tuple[date, ...] = ()
    elsewhere: frozenset[str] = frozenset()


class TimeLog:
    """Entries and clocks of one database."""

    def __init__(self, database: Database, vault: Vault, audit: AuditTrail) -> None:
        self._database = database
        self._vault = vault
        self._audit = audit

    # Entries

    def enter(
        self,
        issuer_id: str,
        patient: str,
        content: EntryContent,
        now: datetime,
        unless: Unless | None = None,
        /,
        **facts: str | int | bool | None,
    ) -> str | None:
        """A new entry, not signed; its id. None where something stands against it (see `append`)."""
        entry_id = str(uuid.uuid4())
        done = self.append(
            issuer_id, patient, entry_id, 0, EntryState.DRAFT, content, now, "time-logged", unless, **facts
        )
        return entry_id if done else None

    def append(
        self,
        issuer_id: str,
        patient: str,
        entry_id: str,
        after: int,
        state: EntryState,
        content: EntryContent,
        now: datetime,
        event: str,
        unless: Unless | None = None,
        /,
        **facts: str | int | bool | None,
    ) -> bool:
        """The version that follows `after`, with its audit entry. False if somebody else was first, or where
        something stands against it by then: asked in the transaction that writes, so that of two at once one
        is refused."""
        try:
            with self._database.write() as connection:
                self._audit.lock(connection)
                if unless is not None and self._stopped(connection, issuer_id, patient, content, unless):
                    return False
                self._insert(connection, issuer_id, patient, entry_id, after + 1, state, content, now)
                self._audit.add_with(
                    connection,
                    now,
                    event,
                    issuer=issuer_id,
                    patient=patient,
                    entry=entry_id,
                    version=after + 1,
                    **facts,
                )
        except IntegrityError:
            return False
        return True

    def _stopped(
        self, connection: Connection, issuer_id: str, patient: str, content: EntryContent, unless: Unless
    ) -> bool:
        if certified_among(connection, issuer_id, patient, unless.certified) is not None:
            return True
        names = unless.elsewhere
        return bool(names) and self._elsewhere(connection, issuer_id, patient, content.logged, names)

    def _insert(
        self,
        connection: Connection,
        issuer_id: str,
        patient: str,
        entry_id: str,
        version: int,
        state: EntryState,
        content: EntryContent,
        now: datetime,
    ) -> None:
        named = {
            "entry_id": entry_id,
            "version": version,
            "issuer_id": issuer_id,
            "patient": patient,
            "state": state.value,
        }
        connection.execute(
            insert(TIME_ENTRIES).values(
                **named,
                person=content.whose or content.logged.person,
                sealed=self._vault.seal_record(content, place(TIME_ENTRIES.c.sealed, named)),
                created_at=now,
            )
        )

    def of_patient(self, issuer_id: str, patient: str) -> tuple[TimeEntry, ...]:
        """Every entry, the one that was begun last first."""
        with self._database.read() as connection:
            rows = connection.execute(_OF_PATIENT, {"issuer": issuer_id, "whose": patient}).all()
        return tuple(reversed(self._entries(rows)))

    def get(self, issuer_id: str, patient: str, entry_id: str) -> TimeEntry | None:
        """The entry, if it is this patient's."""
        with self._database.read() as connection:
            rows = connection.execute(
                select(TIME_ENTRIES)
                .where(
                    TIME_ENTRIES.c.entry_id == entry_id,
                    TIME_ENTRIES.c.issuer_id == issuer_id,
                    TIME_ENTRIES.c.patient == patient,
                )
                .order_by(TIME_ENTRIES.c.position)
            ).all()
        return next(iter(self._entries(rows)), None)

    def counting(self, issuer_id: str, patient: str) -> dict[str, int]:
        """The last version of every entry that counts, by the entry's reference. Nothing is unsealed."""
        with self._database.read() as connection:
            rows = connection.execute(_STATES, {"issuer": issuer_id, "whose": patient}).all()
        last = {row.entry_id: row for row in rows}
        return {
            f"urn:uuid:{name}": row.version for name, row in last.items() if EntryState(row.state) in COUNTS
        }

    def with_another_patient(self, entry: TimeEntry, names: frozenset[str]) -> bool:
        """Whether an entry that counts has the same person, by whichever of these names, with somebody else
        at the same time."""
        with self._database.read() as connection:
            logged = entry.latest.content.logged
            return self._elsewhere(connection, entry.issuer_id, entry.patient, logged, names)

    def _elsewhere(
        self,
        connection: Connection,
        issuer_id: str,
        patient: str,
        logged: LoggedTime,
        names: frozenset[str],
    ) -> bool:
        if logged.day is not None:
            return False  # a length says no time
        candidates = select(TIME_ENTRIES.c.entry_id).where(
            TIME_ENTRIES.c.issuer_id == issuer_id,
            TIME_ENTRIES.c.person.in_(names),
            TIME_ENTRIES.c.patient != patient,
            # Nothing is signed before it has taken place.
            TIME_ENTRIES.c.created_at >= logged.start,
        )
        rows = connection.execute(
            select(TIME_ENTRIES)
            .where(TIME_ENTRIES.c.entry_id.in_(candidates))
            .order_by(TIME_ENTRIES.c.position)
        ).all()
        return any(
            not names.isdisjoint((other.person, found.latest.content.whose))
            and other.day is None
            and other.start < logged.end
            and logged.start < other.end
            for found in self._entries(rows)
            if found.counts
            for other in (found.latest.content.logged,)
        )

    def _entries(self, rows: Iterable[Row[Any]]) -> list[TimeEntry]:
        found: dict[str, list[EntryVersion]] = {}
        owners: dict[str, tuple[str, str]] = {}
        for row in rows:
            owners[row.entry_id] = (row.issuer_id, row.patient)
            found.setdefault(row.entry_id, []).append(
                EntryVersion(
                    row.version,
                    EntryState(row.state),
                    row.created_at,
                    self._vault.unseal_record(row.sealed, place(TIME_ENTRIES.c.sealed, row), EntryContent),
                )
            )
        return [TimeEntry(name, *owners[name], tuple(versions)) for name, versions in found.items()]

    # Clocks

    def start_clock(
        self, issuer_id: str, user: str, patient: str, now: datetime, **facts: str | int | bool | None
    ) -> bool:
        """Start this person's clock. False if one of theirs is running already, for whomever."""
        try:
            with self._database.write() as connection:
                connection.execute(
                    insert(RUNNING_CLOCKS).values(
                        issuer_id=issuer_id, fhir_user=user, patient=patient, started_at=now
                    )
                )
                self._audit.add_with(
                    connection, now, "clock-started", issuer=issuer_id, patient=patient, user=user, **facts
                )
        except IntegrityError:
            return False
        return True

    def clock_of(self, issuer_id: str, user: str) -> RunningClock | None:
        """This person's running clock."""
        with self._database.read() as connection:
            row = connection.execute(
                select(RUNNING_CLOCKS.c.patient, RUNNING_CLOCKS.c.started_at).where(
                    RUNNING_CLOCKS.c.issuer_id == issuer_id, RUNNING_CLOCKS.c.fhir_user == user
                )
            ).one_or_none()
        return None if row is None else RunningClock(row.patient, row.started_at)

    def stop_clock(
        self,
        issuer_id: str,
        user: str,
        clock: RunningClock,
        now: datetime,
        content: EntryContent | None,
        **facts: str | int | bool | None,
    ) -> str | None:
        """End a clock, and enter `content` for its patient, both or neither; the entry's id.

        None where somebody stopped it first, or nothing was to be entered.
        """
        entry_id = str(uuid.uuid4())
        with self._database.write() as connection:
            stopped = connection.execute(
                delete(RUNNING_CLOCKS).where(
                    RUNNING_CLOCKS.c.issuer_id == issuer_id,
                    RUNNING_CLOCKS.c.fhir_user == user,
                    RUNNING_CLOCKS.c.patient == clock.patient,
                    RUNNING_CLOCKS.c.started_at == clock.started_at,
                )
            ).rowcount
            if stopped != 1:
                return None
            if content is not None:
                self._insert(
                    connection, issuer_id, clock.patient, entry_id, 1, EntryState.DRAFT, content, now
                )
            self._audit.add_with(
                connection,
                now,
                "clock-stopped" if content is not None else "clock-discarded",
                issuer=issuer_id,
                patient=clock.patient,
                user=user,
                entry=entry_id if content is not None else None,
                started_at=clock.started_at.isoformat(),
                **facts,
            )
        return entry_id if content is not None else None
