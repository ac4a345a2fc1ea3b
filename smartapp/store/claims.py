"""Rows of what leaves for the EHR: who may work on one at this moment, how far it came, who approved it.

One row stands for one charge, or for one change of one, and exists before anything is sent. Two tabs, people
or processes that mean the same meet in it: one of them holds it for a while, and the others wait for it. A
process that dies leaves its row behind, and whoever comes next takes it over when the lease is over.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from datetime import date, datetime, timedelta
from enum import Enum
from functools import cache
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import msgspec
from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Row,
    Select,
    Table,
    and_,
    bindparam,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from smartapp.store.audit import AuditTrail, Fact
from smartapp.store.chain import Words
from smartapp.store.database import Database
from smartapp.store.months import certified_among
from smartapp.store.vault import Vault, place


class ChargeState(Enum):
    """How far a charge, or a change of one, came. PREPARED, AWAITING, DECLINED, REFUSED and STALE mean for
    certain that the EHR does not hold it."""

    PREPARED = "prepared"
    AWAITING = "awaiting"
    """Accepted by one person; a second one must approve it before anything is sent."""
    DECLINED = "declined"
    """Somebody declined to approve it."""
    SENT = "sent"
    CONFIRMED = "confirmed"
    """The EHR holds it."""
    UNKNOWN = "unknown"
    """Sent, no answer, and the EHR does not say whether it holds it: somebody must look."""
    REFUSED = "refused"
    """The EHR answered that it did not take it."""
    WITHDRAWN = "withdrawn"
    """A charge that was written, and taken back from here."""
    STALE = "stale"
    """Of a change: somebody else changed the charge first; nothing of this was done."""
    TAKEN_BACK = "taken-back"
    """Of a replacement: the old charge is taken back, the new one is not confirmed yet."""
    HANDED_OVER = "handed-over"
    """It left otherwise than as a ChargeItem: somebody there makes it a charge."""
    TO_ENTER = "to-enter"
    """Accepted, and on the worksheet: nobody has entered it in billing yet."""
    ENTERED = "entered"
    """A person entered it in billing, and said so."""
    TAKING_BACK = "taking-back"
    """Handed over; that it is taken back was sent, and nobody knows yet whether it arrived."""


NEVER_SENT = (ChargeState.PREPARED, ChargeState.REFUSED, ChargeState.DECLINED, ChargeState.STALE)
"""May be begun anew, in the same row."""
RESUMABLE = (ChargeState.SENT, ChargeState.UNKNOWN, ChargeState.TAKEN_BACK)
"""Somebody who presses again goes on from what the EHR holds."""
HANDED = (ChargeState.HANDED_OVER, ChargeState.ENTERED, ChargeState.TAKING_BACK)
"""Charged, though the EHR holds no ChargeItem that was written from here."""
OVER = (ChargeState.CONFIRMED, ChargeState.WITHDRAWN, *HANDED)


class Approval(msgspec.Struct, frozen=True):
    """The second person's word: approved, or declined with a reason."""

    by: str
    by_name: str
    at: datetime
    declined_because: str | None = None


class Kept(Protocol):
    """What a row holds under seal."""

    @property
    def keep_until(self) -> date: ...
    @property
    def confirmed_by(self) -> str: ...
    @property
    def session_id(self) -> str: ...
    @property
    def snapshot_id(self) -> str: ...
    @property
    def evidence(self) -> bytes: ...


class Claimed(Protocol):
    """A row as its store gives it."""

    @property
    def key(self) -> str: ...
    @property
    def issuer_id(self) -> str: ...
    @property
    def patient(self) -> str: ...
    @property
    def state(self) -> ChargeState: ...
    @property
    def problem(self) -> str | None: ...
    @property
    def changed_at(self) -> datetime: ...
    @property
    def content(self) -> Kept: ...


RowT = TypeVar("RowT", bound=Claimed)
Facts = Mapping[str, str | int | bool | None]


@cache
def _of_patient(table: Table) -> Select[Any]:
    """Made once: to make a statement anew takes twice as long as to have it done."""
    return (
        select(table)
        .where(table.c.issuer_id == bindparam("issuer"), table.c.patient == bindparam("whose"))
        .order_by(table.c.created_at)
    )


class Claims(ABC, Generic[RowT]):
    """The rows of one table."""

    table: ClassVar[Table]
    key: ClassVar[Column[Any]]

    def __init__(self, database: Database, vault: Vault, audit: AuditTrail) -> None:
        self._database = database
        self._vault = vault
        self._audit = audit

    @abstractmethod
    def _named(self, row: RowT) -> dict[str, Any]:
        """Columns that never change."""

    @abstractmethod
    def _in_the_open(self, row: RowT) -> dict[str, Any]:
        """Columns by which it is found, said of its content: set whenever that is."""

    @abstractmethod
    def opened(self, row: Row[Any]) -> RowT:
        """What a row of the table says."""

    def of_patient(self, issuer_id: str, patient: str) -> tuple[RowT, ...]:
        """Oldest first."""
        with self._database.read() as connection:
            whose = {"issuer": issuer_id, "whose": patient}
            rows = connection.execute(_of_patient(self.table), whose).all()
        return tuple(map(self.opened, rows))

    def found(self, key: str) -> RowT | None:
        """The row of that key."""
        with self._database.read() as connection:
            row = connection.execute(select(self.table).where(self.key == key)).one_or_none()
        return None if row is None else self.opened(row)

    def claim(self, row: RowT, holder: str, now: datetime, lease: timedelta) -> bool:
        """True for the one caller that may work on this row now.

        A new row is created PREPARED with the caller's content. An existing one is taken over when nobody
        holds it any more; its content is replaced only where it certainly never reached the EHR. One that
        awaits approval is not taken over.
        """
        held = {"holder": holder, "lease_until": now + lease}
        fresh = {
            **held,
            **self._in_the_open(row),
            "state": ChargeState.PREPARED.value,
            "sealed": self._sealed(row),
            "keep_until": row.content.keep_until,
            "changed_at": now,
            **self._problem(row.key, None),
        }
        try:
            with self._database.write() as connection:
                connection.execute(
                    insert(self.table).values(
                        **self._named(row),
                        issuer_id=row.issuer_id,
                        patient=row.patient,
                        attempt=1,
                        created_at=now,
                        **fresh,
                    )
                )
            return True
        except IntegrityError:  # the row is there: pressed again, another tab, another process, or a restart
            pass
        attempt = {"attempt": self.table.c.attempt + 1}
        with self._database.write() as connection:
            for states, values in ((NEVER_SENT, fresh), (RESUMABLE, held)):
                among = self.table.c.state.in_([state.value for state in states])
                claimed = connection.execute(
                    update(self.table)
                    .where(self.key == row.key, self._free(now), among)
                    .values(**attempt, **values)
                ).rowcount
                if claimed:
                    return True
        return False

    def claim_approval(self, row: RowT, holder: str, now: datetime, lease: timedelta) -> bool:
        """True for the one caller that may approve or decline it now, as they have seen it: not if it was
        declined and accepted anew since."""
        awaits = and_(
            self.table.c.state == ChargeState.AWAITING.value, self.table.c.changed_at == row.changed_at
        )
        with self._database.write() as connection:
            claimed = connection.execute(
                update(self.table)
                .where(self.key == row.key, awaits, self._free(now))
                .values(holder=holder, lease_until=now + lease)
            ).rowcount
        return claimed == 1

    def release(self, key: str, holder: str, problem: str | None = None) -> None:
        """Nothing came of it: the row is as it was before it was claimed."""
        with self._database.write() as connection:
            connection.execute(
                update(self.table)
                .where(self.key == key, self.table.c.holder == holder)
                .values(holder=None, lease_until=None, **self._problem(key, problem))
            )

    def mark(
        self,
        row: RowT,
        holder: str,
        state: ChargeState,
        now: datetime,
        problem: str | None = None,
        event: str | None = None,
        *,
        keep: bool = False,
        unless_certified: Iterable[date] = (),
        reason: str | None = None,
        facts: Facts | None = None,
    ) -> bool:
        """Move the holder's row to a state, with its content and an audit entry. `keep`: it stays held.

        False if it is not the holder's, or if a month of one of the days `unless_certified` was certified.
        """
        values: dict[str, Any] = {
            "state": state.value,
            "changed_at": now,
            "sealed": self._sealed(row),
            "keep_until": row.content.keep_until,
            **self._in_the_open(row),
            **self._problem(row.key, problem),
        }
        if not keep:
            values |= _LET_GO
        with self._database.write() as connection:
            if event is not None:
                # First the trail, then the row, as whoever certifies a month: the other way round two could
                # wait for each other.
                self._audit.lock(connection)
            if self._is_closed(connection, row, unless_certified):
                return False
            mine = and_(self.key == row.key, self.table.c.holder == holder, self._under_way())
            moved = connection.execute(update(self.table).where(mine).values(**values)).rowcount
            if moved == 1 and event is not None:
                told: dict[str, Fact] = dict(facts or {})
                if reason is not None:
                    told["reason"] = Words(reason)
                self._audit.add_with(connection, now, event, **told)
        return moved == 1

    def _is_closed(self, connection: Connection, row: RowT, days: Iterable[date]) -> bool:
        """Whether a month of one of these days was certified; until the transaction ends nobody certifies
        one."""
        days = tuple(days)
        if not days:
            return False
        self._audit.lock(connection)
        return certified_among(connection, row.issuer_id, row.patient, days) is not None

    def _free(self, now: datetime) -> ColumnElement[bool]:
        return or_(self.table.c.lease_until.is_(None), self.table.c.lease_until <= now)

    def _under_way(self) -> ColumnElement[bool]:
        return self.table.c.state.not_in([state.value for state in OVER])

    def _sealed(self, row: RowT) -> bytes:
        named = {**self._named(row), "issuer_id": row.issuer_id, "patient": row.patient}
        return self._vault.seal_record(row.content, place(self.table.c.sealed, named))

    def _problem(self, key: str, problem: str | None) -> dict[str, Any]:
        bound_to = place(self.table.c.problem_sealed, {self.key.name: key})
        return {"problem_sealed": self._vault.seal_remark(problem, bound_to), "problem": None}

    def _told(self, row: Row[Any]) -> str | None:
        """What the row says went wrong."""
        bound_to = place(self.table.c.problem_sealed, row)
        return row.problem or self._vault.unseal_remark(row.problem_sealed, bound_to)


_LET_GO: Mapping[str, Any] = {"holder": None, "lease_until": None}
