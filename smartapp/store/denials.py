"""What payers denied of charges that left from here, and what was done about it.

Append-only: what was done, and taking a denial back, are new versions of it. A denial is named by its charge,
its day and its codes, so that the same remittance, read twice, adds nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import Enum
from functools import cache
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, Row, Select, and_, bindparam, case, func, insert, select
from sqlalchemy.exc import IntegrityError

from smartapp.store.audit import AuditTrail
from smartapp.store.chain import Words
from smartapp.store.charges import key_in
from smartapp.store.claims import HANDED, ChargeState
from smartapp.store.database import Database
from smartapp.store.tables import DENIALS, OUTBOX
from smartapp.store.vault import Vault, place

DENIABLE = (ChargeState.CONFIRMED, *HANDED, ChargeState.WITHDRAWN, ChargeState.UNKNOWN)
"""Charges that a payer may have seen: what certainly never left cannot be denied."""
_AT_ONCE = 500


class DenialState(Enum):
    """What was done about a denial."""

    OPEN = "open"
    """Nothing yet."""
    CORRECTED = "corrected"
    """A corrected claim was sent."""
    APPEALED = "appealed"
    WRITTEN_OFF = "written-off"
    TAKEN_BACK = "taken-back"
    """It was recorded by mistake, or the payer paid after all: the charge counts as charged again."""


class DenialContent(msgspec.Struct, frozen=True):
    """Who recorded this version, from where, and the words beside it."""

    by: str
    by_name: str = ""
    note: str = ""
    source: str = "page"
    """`page`, or `file` for a remittance that was read in."""


@dataclass(frozen=True, slots=True)
class Denied:
    """A denial about to be recorded. `reason`: the CARC, `remark`: the RARC or ""."""

    identifier: str
    on: date
    reason: str
    remark: str = ""

    @property
    def id(self) -> str:
        told = f"{self.identifier}\n{self.on.isoformat()}\n{self.reason}\n{self.remark}"
        return hashlib.sha256(told.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Denial:
    """One version of a denial; of a charge's denials the newest version of each."""

    id: str
    version: int
    identifier: str
    issuer_id: str
    patient: str
    on: date
    reason: str
    remark: str
    state: DenialState
    content: DenialContent
    at: datetime

    @property
    def key(self) -> str:
        """Of the charge."""
        return key_in(self.identifier)

    @property
    def stands(self) -> bool:
        return self.state is not DenialState.TAKEN_BACK


@dataclass(frozen=True, slots=True)
class DenialCount:
    """How many standing denials of a reason, by payer, and how many of them nobody has dealt with."""

    reason: str
    payer: str | None
    charges: int
    open: int


class Added(Enum):
    """What came of recording one."""

    ADDED = "added"
    THERE = "there"
    """The same denial stands already."""
    WAS_TAKEN_BACK = "was-taken-back"
    """Somebody took it back: it is not recorded again by reading a file again."""
    NOT_CHARGED = "not-charged"
    """No charge of that name left from here."""


class DenialStore:
    """The denials of one database."""

    def __init__(self, database: Database, vault: Vault, audit: AuditTrail) -> None:
        self._database = database
        self._vault = vault
        self._audit = audit

    def of_patient(self, issuer_id: str, patient: str) -> tuple[Denial, ...]:
        """The newest version of each, the oldest denial first."""
        return self._found(_of_patient(), {"issuer": issuer_id, "whose": patient})

    def of_charges(self, identifiers: Iterable[str]) -> dict[str, tuple[Denial, ...]]:
        """The newest version of each denial, by charge."""
        names, found = list(identifiers), dict[str, tuple[Denial, ...]]()
        for first in range(0, len(names), _AT_ONCE):
            for one in self._found(_newest(DENIALS.c.identifier.in_(names[first : first + _AT_ONCE]))):
                found[one.identifier] = (*found.get(one.identifier, ()), one)
        return found

    def history(self, identifier: str) -> tuple[Denial, ...]:
        """Every version of every denial of a charge, the oldest first."""
        with self._database.read() as connection:
            rows = connection.execute(
                select(DENIALS).where(DENIALS.c.identifier == identifier).order_by(DENIALS.c.position)
            ).all()
        return tuple(map(self._opened, rows))

    def denied_keys(self, issuer_id: str, patient: str) -> frozenset[str]:
        """The names of this patient's charges that are denied; nothing is unsealed."""
        with self._database.read() as connection:
            whose = {"issuer": issuer_id, "whose": patient}
            return frozenset(connection.execute(_denied_keys(), whose).scalars())

    def counts(self, issuer_id: str, first: date, last: date) -> tuple[DenialCount, ...]:
        """Standing denials of charges with a date of service from `first` to `last`, the most first."""
        opened = func.sum(case((DENIALS.c.state == DenialState.OPEN.value, 1), else_=0))
        number = func.count(DENIALS.c.identifier.distinct())
        wanted = (
            select(DENIALS.c.reason, OUTBOX.c.payer, number, opened)
            .join(OUTBOX, OUTBOX.c.identifier == DENIALS.c.identifier)
            .where(OUTBOX.c.issuer_id == issuer_id, OUTBOX.c.service_date.between(first, last), standing())
            .group_by(DENIALS.c.reason, OUTBOX.c.payer)
            .order_by(number.desc(), DENIALS.c.reason, OUTBOX.c.payer)
        )
        with self._database.read() as connection:
            return tuple(DenialCount(*row) for row in connection.execute(wanted))

    def record(
        self, denied: Sequence[Denied], content: DenialContent, now: datetime, issuer_id: str | None = None
    ) -> list[Added]:
        """Record denials of charges that left from here, all or none, each with an audit entry. `issuer_id`:
        of this EHR's charges alone."""
        with self._database.write() as connection:
            self._audit.lock(connection)
            return [self._record(connection, one, content, now, issuer_id) for one in denied]

    def follow_up(self, denial: Denial, state: DenialState, content: DenialContent, now: datetime) -> bool:
        """What was done about it, or that it is taken back, as a new version. False where another version
        came between."""
        try:
            with self._database.write() as connection:
                self._add(connection, denial, denial.version + 1, state, content, now)
        except IntegrityError:
            return False
        return True

    def _record(
        self,
        connection: Connection,
        denied: Denied,
        content: DenialContent,
        now: datetime,
        issuer_id: str | None,
    ) -> Added:
        row = connection.execute(
            select(OUTBOX.c.issuer_id, OUTBOX.c.patient, OUTBOX.c.state).where(
                OUTBOX.c.identifier == denied.identifier
            )
        ).one_or_none()
        if (
            row is None
            or row.state not in {state.value for state in DENIABLE}
            or issuer_id not in {None, row.issuer_id}
        ):
            return Added.NOT_CHARGED
        last = connection.execute(
            select(DENIALS.c.version, DENIALS.c.state)
            .where(DENIALS.c.denial_id == denied.id)
            .order_by(DENIALS.c.version.desc())
            .limit(1)
        ).one_or_none()
        if last is not None and last.state != DenialState.TAKEN_BACK.value:
            return Added.THERE
        if last is not None and content.source == "file":
            return Added.WAS_TAKEN_BACK
        version = 1 if last is None else last.version + 1
        denial = Denial(
            denied.id,
            version,
            denied.identifier,
            row.issuer_id,
            row.patient,
            denied.on,
            denied.reason,
            denied.remark,
            DenialState.OPEN,
            content,
            now,
        )
        self._add(connection, denial, version, DenialState.OPEN, content, now)
        return Added.ADDED

    def _add(
        self,
        connection: Connection,
        denial: Denial,
        version: int,
        state: DenialState,
        content: DenialContent,
        now: datetime,
    ) -> None:
        named = {
            "denial_id": denial.id,
            "version": version,
            "identifier": denial.identifier,
            "state": state.value,
        }
        connection.execute(
            insert(DENIALS).values(
                **named,
                issuer_id=denial.issuer_id,
                patient=denial.patient,
                denied_on=denial.on,
                reason=denial.reason,
                remark=denial.remark,
                sealed=self._vault.seal_record(content, place(DENIALS.c.sealed, named)),
                created_at=now,
            )
        )
        self._audit.add_with(
            connection,
            now,
            _EVENTS[state],
            issuer=denial.issuer_id,
            patient=denial.patient,
            charge=denial.key,
            reason_code=denial.reason,
            remark_code=denial.remark or None,
            denied_on=denial.on.isoformat(),
            done=state.value,
            source=content.source,
            user=content.by,
            note=Words(content.note) if content.note else None,
        )

    def _found(self, wanted: Select[Any], given: Mapping[str, str] | None = None) -> tuple[Denial, ...]:
        with self._database.read() as connection:
            rows = connection.execute(wanted, given).all()
        found = map(self._opened, rows)
        return tuple(sorted(found, key=lambda one: (one.on, one.reason, one.id)))

    def _opened(self, row: Row[Any]) -> Denial:
        return Denial(
            row.denial_id,
            row.version,
            row.identifier,
            row.issuer_id,
            row.patient,
            row.denied_on,
            row.reason,
            row.remark,
            DenialState(row.state),
            self._vault.unseal_record(row.sealed, place(DENIALS.c.sealed, row), DenialContent),
            row.created_at,
        )


_EVENTS = {
    DenialState.OPEN: "denial-recorded",
    DenialState.CORRECTED: "denial-followed-up",
    DenialState.APPEALED: "denial-followed-up",
    DenialState.WRITTEN_OFF: "denial-followed-up",
    DenialState.TAKEN_BACK: "denial-taken-back",
}


def newest() -> ColumnElement[bool]:
    """Of a row of denials: no later version of it is there."""
    later = DENIALS.alias("later")
    return ~(
        select(later.c.position)
        .where(later.c.denial_id == DENIALS.c.denial_id, later.c.version > DENIALS.c.version)
        .exists()
    )


def _newest(where: ColumnElement[bool]) -> Select[Any]:
    return select(DENIALS).where(where, newest()).order_by(DENIALS.c.position)


def _whose() -> ColumnElement[bool]:
    return and_(DENIALS.c.issuer_id == bindparam("issuer"), DENIALS.c.patient == bindparam("whose"))


@cache
def _of_patient() -> Select[Any]:
    """Made once, as the next: to make a statement anew takes twice as long as to have it done."""
    return _newest(_whose())


@cache
def _denied_keys() -> Select[str]:
    return select(DENIALS.c.identifier).where(_whose(), standing())


def standing() -> ColumnElement[bool]:
    """Of a row of denials: it is the newest version, and not taken back."""
    return and_(newest(), DENIALS.c.state != DenialState.TAKEN_BACK.value)


def denied_charges(*states: DenialState) -> Select[tuple[str]]:
    """The names of charges with a standing denial, in one of these states where some are given."""
    wanted = select(DENIALS.c.identifier).where(standing())
    return wanted.where(DENIALS.c.state.in_([state.value for state in states])) if states else wanted
