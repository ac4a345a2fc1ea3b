"""What the app keeps: launches, reading jobs, snapshots, enrolments, charges under way, packets, audit.

`Store` is the door; each area has its own small class. Every method is one short transaction, safe to call
from several threads and processes. Whatever holds patient data, tokens or secrets is sealed by the `Vault`.
"""

from __future__ import annotations

from collections.abc import Sequence

from smartapp.store.audit import AuditTrail
from smartapp.store.charges import ChargeStore
from smartapp.store.database import Database
from smartapp.store.launches import SqlLaunchStore
from smartapp.store.reading import ReadingStore
from smartapp.store.vault import Vault

__all__ = ["Store"]


class Store:
    """One database and its areas."""

    def __init__(self, url: str, keys: Sequence[bytes]) -> None:
        self.database = Database(url)
        vault = Vault(keys)
        self.audit = AuditTrail(self.database)
        self.launches = SqlLaunchStore(self.database, vault)
        self.reading = ReadingStore(self.database, vault)
        self.charges = ChargeStore(self.database, vault, self.audit)

    def close(self) -> None:
        self.database.close()
