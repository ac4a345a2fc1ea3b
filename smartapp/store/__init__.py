"""What the app keeps: launches, readings, enrolments, time log, attestations, charges, their changes, audit.

`Store` is the door; each area has its own small class. Every method is one short transaction, safe to call
from several threads and processes. Whatever holds patient data, tokens or secrets is sealed by the `Vault`.
"""

from __future__ import annotations

from collections.abc import Sequence

from smartapp.store.attestations import AttestationStore
from smartapp.store.audit import AuditTrail
from smartapp.store.billing import Billing
from smartapp.store.cds import CdsRequests
from smartapp.store.changes import ChangeStore
from smartapp.store.charges import ChargeStore
from smartapp.store.database import Database
from smartapp.store.denials import DenialStore
from smartapp.store.exports import Exports
from smartapp.store.launches import SqlLaunchStore
from smartapp.store.months import MonthStore
from smartapp.store.packets import Packets
from smartapp.store.reading import ReadingStore
from smartapp.store.time_log import TimeLog
from smartapp.store.vault import Vault
from smartapp.store.worklist import Marks

__all__ = ["Store"]


class Store:
    """One database and its areas."""

    def __init__(self, url: str, keys: Sequence[bytes]) -> None:
        self.database = Database(url)
        self.vault = vault = Vault(keys)
        self.audit = AuditTrail(self.database, vault)
        self.launches = SqlLaunchStore(self.database, vault)
        self.reading = ReadingStore(self.database, vault)
        self.charges = ChargeStore(self.database, vault, self.audit)
        self.denials = DenialStore(self.database, vault, self.audit)
        self.billing = Billing(self.database, self.charges)
        self.changes = ChangeStore(self.database, vault, self.audit)
        self.packets = Packets(self.database, vault)
        self.months = MonthStore(self.database, vault, self.audit)
        self.time_log = TimeLog(self.database, vault, self.audit)
        self.attestations = AttestationStore(self.database, vault, self.audit)
        self.marks = Marks(self.database, vault, self.audit)
        self.exports = Exports(self.database, vault)
        self.cds_requests = CdsRequests(self.database)

    def close(self) -> None:
        self.database.close()
