"""What is past its time, and its removal: packets and their outbox rows, contents of the audit trail."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime

from sqlalchemy import Connection, delete, func, select

from smartapp.store.audit import AuditTrail
from smartapp.store.database import Database
from smartapp.store.tables import CHANGE_PACKETS, CHARGE_CHANGES, CHARGE_PACKETS, OUTBOX


@dataclass(frozen=True, slots=True)
class PastItsTime:
    """How much is (or was) past its time."""

    packets: int
    audit_entries: int


class Retention:
    """Removes what the site need not keep any longer."""

    def __init__(self, database: Database, audit: AuditTrail) -> None:
        self._database = database
        self._audit = audit

    def past(self, today: date, audit_cutoff: datetime) -> PastItsTime:
        """What `purge` would remove."""
        with self._database.read() as connection:
            packets: int = sum(
                connection.execute(
                    select(func.count()).select_from(table).where(table.c.keep_until < today)
                ).scalar_one()
                for table in (CHARGE_PACKETS, CHANGE_PACKETS)
            )
        return PastItsTime(packets, self._audit.older_than(audit_cutoff))

    def purge(self, now: datetime, audit_cutoff: datetime) -> PastItsTime:
        """Delete packets past their date, empty audit entries before the cutoff; both are audited."""
        with self._database.write() as connection:
            packets = _delete_packets(connection, now.date())
            if packets:
                self._audit.add_with(connection, now, "packets-purged", count=packets)
        return PastItsTime(packets, self._audit.empty(audit_cutoff, now))


def _delete_packets(connection: Connection, today: date) -> int:
    """Packets past their date, with the rows of the charges and changes that have no other packet.

    Such a row holds the same evidence as its packet. Without it the charge could be accepted anew; the EHR's
    own list of charges still stands in the way.
    """
    past = CHANGE_PACKETS.c.keep_until < today
    changes = connection.execute(select(CHANGE_PACKETS.c.change_id).where(past)).scalars().all()
    connection.execute(delete(CHANGE_PACKETS).where(past))
    for change in changes:
        connection.execute(delete(CHARGE_CHANGES).where(CHARGE_CHANGES.c.id == change))
    past = CHARGE_PACKETS.c.keep_until < today
    charges = connection.execute(select(CHARGE_PACKETS.c.identifier).where(past)).scalars().all()
    connection.execute(delete(CHARGE_PACKETS).where(past))
    kept = select(CHARGE_PACKETS.c.id).where(CHARGE_PACKETS.c.identifier == OUTBOX.c.identifier)
    changed = select(CHANGE_PACKETS.c.change_id).where(
        CHANGE_PACKETS.c.issuer_id == OUTBOX.c.issuer_id, CHANGE_PACKETS.c.charge_item == OUTBOX.c.charge_item
    )
    for identifier in set(charges):
        connection.execute(
            delete(OUTBOX).where(OUTBOX.c.identifier == identifier, ~kept.exists(), ~changed.exists())
        )
    return len(changes) + len(charges)
