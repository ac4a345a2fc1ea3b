"""Months that somebody certified: closed for changes from here, until they are reopened with a reason."""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime

import msgspec
from sqlalchemy import Connection, func, insert, select, update

from smartapp.store.audit import AuditTrail, Fact
from smartapp.store.chain import Words
from smartapp.store.database import Database
from smartapp.store.tables import CHARGE_CHANGES, MONTHS, OUTBOX, TIME_ENTRIES
from smartapp.store.vault import Vault, place


class _Content(msgspec.Struct, frozen=True):
    by: str
    by_name: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Month:
    """One patient's calendar month, as it was certified or reopened last."""

    first_day: date
    certified: bool
    by: str
    by_name: str
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Seen:
    """What is kept of a patient, as whoever closes a month has seen it: where the time log ends, and how far
    each charge, and each change of one, came."""

    logged_to: int
    came: frozenset[tuple[str, str, datetime]]


def month_of(day: date) -> date:
    """The first day of the calendar month."""
    return day.replace(day=1)


def last_day(day: date) -> date:
    """The last day of the calendar month."""
    return day.replace(day=monthrange(day.year, day.month)[1])


class MonthStore:
    """Certified and reopened months of one database."""

    def __init__(self, database: Database, vault: Vault, audit: AuditTrail) -> None:
        self._database = database
        self._vault = vault
        self._audit = audit

    def of_patient(self, issuer_id: str, patient: str) -> dict[date, Month]:
        """By the first day of the month; months that nobody ever certified are not among them."""
        with self._database.read() as connection:
            rows = connection.execute(
                select(MONTHS).where(MONTHS.c.issuer_id == issuer_id, MONTHS.c.patient == patient)
            ).all()
        found = {}
        for row in rows:
            content = self._vault.unseal_record(row.sealed, place(MONTHS.c.sealed, row), _Content)
            found[row.first_day] = Month(
                row.first_day, row.certified, content.by, content.by_name, content.reason, row.changed_at
            )
        return found

    def seen(self, issuer_id: str, patient: str) -> Seen:
        """To be looked at before what a month is closed by."""
        with self._database.read() as connection:
            return _seen(connection, issuer_id, patient)

    def certified(self, issuer_id: str, patient: str, days: Iterable[date]) -> date | None:
        """The first day of a certified month that holds one of these days; None if none does."""
        with self._database.read() as connection:
            return certified_among(connection, issuer_id, patient, days)

    def certify(
        self,
        issuer_id: str,
        patient: str,
        day: date,
        by: str,
        by_name: str,
        now: datetime,
        seen: Seen | None = None,
        /,
        **facts: str | int | bool | None,
    ) -> bool:
        """Close the month that holds this day. False if it is closed already, or if what is kept of the
        patient is not any more what whoever closes it has `seen`."""
        content = _Content(by, by_name)
        return self._turn(issuer_id, patient, day, True, content, now, "month-certified", seen, **facts)

    def reopen(
        self,
        issuer_id: str,
        patient: str,
        day: date,
        by: str,
        by_name: str,
        reason: str,
        now: datetime,
        **facts: str | int | bool | None,
    ) -> bool:
        """Open it again. False if it is not closed. The reason is kept, sealed, in the audit trail."""
        content = _Content(by, by_name, reason)
        return self._turn(
            issuer_id,
            patient,
            day,
            False,
            content,
            now,
            "month-reopened",
            None,
            reason=Words(reason),
            **facts,
        )

    def _turn(
        self,
        issuer_id: str,
        patient: str,
        day: date,
        certified: bool,
        content: _Content,
        now: datetime,
        event: str,
        seen: Seen | None,
        /,
        **facts: Fact,
    ) -> bool:
        first_day = month_of(day)
        same = (
            MONTHS.c.issuer_id == issuer_id,
            MONTHS.c.patient == patient,
            MONTHS.c.first_day == first_day,
        )
        named = {"issuer_id": issuer_id, "patient": patient, "first_day": first_day}
        values = {
            "certified": certified,
            "sealed": self._vault.seal_record(content, place(MONTHS.c.sealed, named)),
            "changed_at": now,
        }
        with self._database.write() as connection:
            self._audit.lock(connection)
            if seen is not None and _seen(connection, issuer_id, patient) != seen:
                return False
            before = connection.execute(
                select(MONTHS.c.certified).where(*same).with_for_update()
            ).scalar_one_or_none()
            if (before or False) is certified:
                return False
            if before is None:
                connection.execute(insert(MONTHS).values(**named, **values))
            else:
                connection.execute(update(MONTHS).where(*same).values(**values))
            self._audit.add_with(
                connection,
                now,
                event,
                issuer=issuer_id,
                patient=patient,
                user=content.by,
                month=f"{first_day:%Y-%m}",
                **facts,
            )
        return True


def _seen(connection: Connection, issuer_id: str, patient: str) -> Seen:
    last = connection.execute(
        select(func.max(TIME_ENTRIES.c.position)).where(
            TIME_ENTRIES.c.issuer_id == issuer_id, TIME_ENTRIES.c.patient == patient
        )
    ).scalar_one()
    came = [
        row
        for table, key in ((OUTBOX, OUTBOX.c.identifier), (CHARGE_CHANGES, CHARGE_CHANGES.c.id))
        for row in connection.execute(
            select(key, table.c.state, table.c.changed_at).where(
                table.c.issuer_id == issuer_id, table.c.patient == patient
            )
        )
    ]
    return Seen(int(last or 0), frozenset(map(tuple, came)))


def certified_among(
    connection: Connection, issuer_id: str, patient: str, days: Iterable[date]
) -> date | None:
    """`MonthStore.certified` within somebody's transaction: what is true there stays true until its end."""
    months = sorted({month_of(day) for day in days})
    if not months:
        return None
    return connection.execute(
        select(MONTHS.c.first_day)
        .where(
            MONTHS.c.issuer_id == issuer_id,
            MONTHS.c.patient == patient,
            MONTHS.c.first_day.in_(months),
            MONTHS.c.certified.is_(True),
        )
        .order_by(MONTHS.c.first_day)
        .limit(1)
        .with_for_update(read=True)
    ).scalar_one_or_none()
