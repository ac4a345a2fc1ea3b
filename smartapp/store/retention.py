"""What is past its time, and its removal: packets and their outbox rows, contents of the audit trail."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime

from sqlalchemy import Connection, delete, func, select

from smartapp.store.audit import AuditTrail
from smartapp.store.database import Database
from smartapp.store.models import ChangePacketRow, ChargeChangeRow, ChargePacketRow, OutboxRow


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
            packets = sum(
                connection.execute(
                    select(func.count()).select_from(table).where(table.keep_until < today)
                ).scalar_one()
                for table in (ChargePacketRow, ChangePacketRow)
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
    past = ChangePacketRow.keep_until < today
    changes = connection.execute(select(ChangePacketRow.change_id).where(past)).scalars().all()
    connection.execute(delete(ChangePacketRow).where(past))
    for change in changes:
        connection.execute(delete(ChargeChangeRow).where(ChargeChangeRow.id == change))
    past = ChargePacketRow.keep_until < today
    charges = connection.execute(select(ChargePacketRow.identifier).where(past)).scalars().all()
    connection.execute(delete(ChargePacketRow).where(past))
    kept = select(ChargePacketRow.id).where(ChargePacketRow.identifier == OutboxRow.identifier)
    changed = select(ChangePacketRow.change_id).where(
        ChangePacketRow.issuer_id == OutboxRow.issuer_id, ChangePacketRow.charge_item == OutboxRow.charge_item
    )
    for identifier in set(charges):
        connection.execute(
            delete(OutboxRow).where(OutboxRow.identifier == identifier, ~kept.exists(), ~changed.exists())
        )
    return len(changes) + len(charges)
