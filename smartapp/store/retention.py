"""What is past its time, and its removal. The retention time is the site's; nothing younger is touched.

- Packets of charges and changes: when their `keep_until` (service date and retention time) is over.
- Outbox and change rows: with their packet; those without one (refused, declined, awaiting, unknown, stale)
  when their own `keep_until` is over, or, of rows that have none, the retention time after they were made.
- Denials: with the row of their charge.
- Time entries: when the last version is older than the retention time; then every version.
- Statements, episodes and what was settled: when taken back that long ago, or over that long ago and not
  stated since; then both rows. What stands and has no end stays.
- Months: when over, and last certified or reopened, that long ago.
- Running clocks: when started that long ago.
- Marks of a worklist: when made that long ago.
- Enrolments: when confirmed that long ago, and nothing of the patient that rests on them is left.
- Contents of audit entries: when older than the retention time; their digests stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date, datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Table, and_, delete, exists, func, or_, select

from smartapp.store.attestations import (
    ANCHOR,
    EPISODE,
    REVOKED,
    SETTLED,
    STATED,
    ConfirmedEpisode,
    Settlement,
    Statement,
)
from smartapp.store.audit import AuditTrail
from smartapp.store.database import Database
from smartapp.store.guards import lifted
from smartapp.store.months import month_of
from smartapp.store.tables import (
    ATTESTATIONS,
    CHANGE_PACKETS,
    CHARGE_CHANGES,
    CHARGE_PACKETS,
    DENIALS,
    ENROLMENTS,
    MONTHS,
    OUTBOX,
    RUNNING_CLOCKS,
    TIME_ENTRIES,
    WORKLIST_MARKS,
)
from smartapp.store.vault import SealBroken, Vault, place

_AT_ONCE = 500
"""How many values one statement names: databases limit that."""


@dataclass(frozen=True, slots=True)
class PastItsTime:
    """How much is (or was) past its time."""

    packets: int = 0
    charges: int = 0
    """Outbox and change rows, those with a packet among them."""
    time_entries: int = 0
    """Entries, each with all its versions."""
    statements: int = 0
    """Statements and episodes, each with its revocation."""
    denials: int = 0
    """Versions of denials."""
    months: int = 0
    clocks: int = 0
    marks: int = 0
    enrolments: int = 0
    audit_entries: int = 0
    """Contents; the entries themselves stay."""
    unopened: int = 0
    """Statements old enough that no key at hand opens: nobody knows whether they are over, so they stay."""


class Retention:
    """Removes what the site need not keep any longer."""

    def __init__(self, database: Database, vault: Vault, audit: AuditTrail) -> None:
        self._database = database
        self._vault = vault
        self._audit = audit

    def past(self, now: datetime, cutoff: datetime) -> PastItsTime:
        """What `purge` would remove: it is removed, counted, and all of it undone."""
        with self._database.write() as connection:
            counted = self._remove(connection, now, cutoff)
            connection.rollback()
        return replace(counted, audit_entries=self._audit.older_than(cutoff))

    def purge(self, now: datetime, cutoff: datetime) -> PastItsTime:
        """Delete what is past its time, and empty audit entries before the cutoff; both are audited.

        Rows go in one transaction, all or none; emptying is one of its own. `cutoff`: `now` less the
        retention time.
        """
        with self._database.write() as connection:
            removed = self._remove(connection, now, cutoff)
            counts = {name: count for name, count in asdict(replace(removed, unopened=0)).items() if count}
            if counts:
                self._audit.add_with(connection, now, "records-purged", **counts)
        emptied = self._audit.empty(cutoff, now)
        self._database.forget()
        return replace(removed, audit_entries=emptied)

    def _remove(self, connection: Connection, now: datetime, cutoff: datetime) -> PastItsTime:
        packets, charges = _remove_packets(connection, now.date())
        charges += _remove_unwritten(connection, now, cutoff)
        months = and_(MONTHS.c.first_day < month_of(cutoff.date()), MONTHS.c.changed_at < cutoff)
        removed = PastItsTime(
            packets=packets,
            charges=charges,
            months=_delete(connection, MONTHS, months),
            clocks=_delete(connection, RUNNING_CLOCKS, RUNNING_CLOCKS.c.started_at < cutoff),
            marks=_delete(connection, WORKLIST_MARKS, WORKLIST_MARKS.c.changed_at < cutoff),
        )
        # Last, because whoever logs time or states something waits from here on: no entry that is past its
        # time can get a new version between the look and the deletion.
        with lifted(connection, "delete", TIME_ENTRIES, ATTESTATIONS, DENIALS):
            denials = _delete(
                connection, DENIALS, ~exists().where(OUTBOX.c.identifier == DENIALS.c.identifier)
            )
            entries = _entries_past(connection, cutoff)
            statements, unopened = self._statements_past(connection, cutoff)
            _delete_named(connection, TIME_ENTRIES, TIME_ENTRIES.c.entry_id, entries)
            _delete_named(connection, ATTESTATIONS, ATTESTATIONS.c.attestation_id, statements)
        enrolments = _delete(connection, ENROLMENTS, _nothing_rests_on_it(cutoff))
        return replace(
            removed,
            time_entries=len(entries),
            statements=len(statements),
            denials=denials,
            enrolments=enrolments,
            unopened=unopened,
        )

    def _statements_past(self, connection: Connection, cutoff: datetime) -> tuple[list[str], int]:
        """Ids of statements and episodes that are past their time; and how many cannot be opened."""
        last = func.max(ATTESTATIONS.c.created_at)
        silent = select(ATTESTATIONS.c.attestation_id).group_by(ATTESTATIONS.c.attestation_id)
        rows = connection.execute(
            select(ATTESTATIONS)
            .where(ATTESTATIONS.c.attestation_id.in_(silent.having(last < cutoff)))
            .order_by(ATTESTATIONS.c.position)
        ).all()
        over = {row.attestation_id for row in rows if row.state == REVOKED}
        unopened = 0
        for row in rows:
            if row.attestation_id in over:
                continue
            try:
                end = self._end_of(row)
            except SealBroken:
                unopened += 1
                continue
            if end is not None and end < cutoff.date():
                over.add(row.attestation_id)
        return sorted(over), unopened

    def _end_of(self, row: Row[Any]) -> date | None:
        """The last day that a statement is about; None where it has none. Raises SealBroken."""
        bound_to = place(ATTESTATIONS.c.sealed, row)
        if row.state == STATED:
            window = self._vault.unseal_record(row.sealed, bound_to, Statement).window
            return None if window is None else window.end
        if row.state == SETTLED:
            return self._vault.unseal_record(row.sealed, bound_to, Settlement).last_day
        if row.state == EPISODE:
            return self._vault.unseal_record(row.sealed, bound_to, ConfirmedEpisode).end
        if row.state == ANCHOR:  # what stands is the enrolment; each packet has how it came about
            return date.min
        return None


def _remove_packets(connection: Connection, today: date) -> tuple[int, int]:
    """Packets past their date, and the rows of charges and changes that have no other packet; how many each.

    Such a row holds the same evidence as its packet. Without it the charge could be accepted anew; the EHR's
    own list of charges still stands in the way. The guards of packets let these through.
    """
    past = CHANGE_PACKETS.c.keep_until < today
    changes = connection.execute(select(CHANGE_PACKETS.c.change_id).where(past)).scalars().all()
    connection.execute(delete(CHANGE_PACKETS).where(past))
    past = CHARGE_PACKETS.c.keep_until < today
    charges = connection.execute(select(CHARGE_PACKETS.c.identifier).where(past)).scalars().all()
    connection.execute(delete(CHARGE_PACKETS).where(past))
    rows = _delete_named(connection, CHARGE_CHANGES, CHARGE_CHANGES.c.id, changes)
    rows += _delete_named(connection, OUTBOX, OUTBOX.c.identifier, sorted(set(charges)), _without_packet())
    return len(changes) + len(charges), rows


def _remove_unwritten(connection: Connection, now: datetime, cutoff: datetime) -> int:
    """Rows past their time that have no packet: nothing was written, or nobody knows; how many."""
    own = CHANGE_PACKETS.c.change_id == CHARGE_CHANGES.c.id
    changes = and_(_row_past(CHARGE_CHANGES, now, cutoff), ~exists().where(own))
    charges = and_(_row_past(OUTBOX, now, cutoff), _without_packet())
    return _delete(connection, CHARGE_CHANGES, changes) + _delete(connection, OUTBOX, charges)


def _row_past(table: Table, now: datetime, cutoff: datetime) -> ColumnElement[bool]:
    """Its day is over, and nobody is at it."""
    until, held = table.c.keep_until, table.c.lease_until
    past = or_(until < now.date(), and_(until.is_(None), table.c.created_at < cutoff))
    return and_(past, or_(held.is_(None), held <= now))


def _without_packet() -> ColumnElement[bool]:
    """Of an outbox row: neither the charge nor a change of it has a packet that is kept."""
    own = CHARGE_PACKETS.c.identifier == OUTBOX.c.identifier
    changed = and_(
        CHANGE_PACKETS.c.issuer_id == OUTBOX.c.issuer_id, CHANGE_PACKETS.c.charge_item == OUTBOX.c.charge_item
    )
    return and_(~exists().where(own), ~exists().where(changed))


def _entries_past(connection: Connection, cutoff: datetime) -> Sequence[str]:
    """Ids of the time entries whose last version is older than the cutoff."""
    return (
        connection.execute(
            select(TIME_ENTRIES.c.entry_id)
            .group_by(TIME_ENTRIES.c.entry_id)
            .having(func.max(TIME_ENTRIES.c.created_at) < cutoff)
        )
        .scalars()
        .all()
    )


def _nothing_rests_on_it(cutoff: datetime) -> ColumnElement[bool]:
    """Of an enrolment: confirmed before the cutoff; no charge, packet or logged time of the patient left."""
    left = (
        exists().where(table.c.issuer_id == ENROLMENTS.c.issuer_id, table.c.patient == ENROLMENTS.c.patient)
        for table in (CHARGE_PACKETS, CHANGE_PACKETS, OUTBOX, CHARGE_CHANGES, TIME_ENTRIES)
    )
    return and_(ENROLMENTS.c.confirmed_at < cutoff, *(~found for found in left))


def _delete(connection: Connection, table: Table, where: ColumnElement[bool]) -> int:
    return connection.execute(delete(table).where(where)).rowcount


def _delete_named(
    connection: Connection,
    table: Table,
    column: ColumnElement[str],
    names: Sequence[str],
    *more: ColumnElement[bool],
) -> int:
    """Delete the rows with these values in a column; how many."""
    return sum(
        _delete(connection, table, and_(column.in_(names[first : first + _AT_ONCE]), *more))
        for first in range(0, len(names), _AT_ONCE)
    )
