"""The kept evidence of what was written: packets of charges and of their changes, to be read and handed out.

They are written by `charges` and `changes`, never changed, and removed by `retention`. A packet is handed out
only as it was written: its digest is compared each time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import Row, select

from smartapp.store.database import Database
from smartapp.store.tables import CHANGE_PACKETS, CHARGE_PACKETS
from smartapp.store.vault import Vault, place

CHARGE, CHANGE = "charge", "change"


@dataclass(frozen=True, slots=True)
class Kept:
    """One packet, sealed. `name` finds it again: `charge-7`, or `change-` and the change's id."""

    name: str
    identifier: str | None
    """Of a charge: the one under which it was written."""
    issuer_id: str
    patient: str
    charge_item: str
    sha256: str
    created_at: datetime
    keep_until: date
    sealed: bytes
    bound_to: str
    """The place of the seal."""

    @property
    def kind(self) -> str:
        return self.name.partition("-")[0]


class PacketAltered(ValueError):
    """A packet is not what was written: its digest is another."""


class Packets:
    """The packets of one database."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self._database = database
        self._vault = vault

    def all(self, patient: str | None = None, issuer_id: str | None = None) -> tuple[Kept, ...]:
        """Every packet, or one patient's, the oldest first. Nothing is unsealed."""
        found = []
        with self._database.read() as connection:
            for table in (CHARGE_PACKETS, CHANGE_PACKETS):
                wanted = select(table)
                if patient is not None:
                    wanted = wanted.where(table.c.patient == patient)
                if issuer_id is not None:
                    wanted = wanted.where(table.c.issuer_id == issuer_id)
                found += [_kept(row) for row in connection.execute(wanted)]
        return tuple(sorted(found, key=lambda one: (one.created_at, one.name)))

    def named(self, name: str, among: Iterable[Kept] | None = None) -> Kept | None:
        return next((one for one in (self.all() if among is None else among) if one.name == name), None)

    def content(self, kept: Kept) -> bytes:
        """The JSON as it was written. Raises PacketAltered, and SealBroken."""
        content = self._vault.unseal(kept.sealed, kept.bound_to)
        if hashlib.sha256(content).hexdigest() != kept.sha256:
            raise PacketAltered(kept.name)
        return content


def _kept(row: Row[Any]) -> Kept:
    of_charge = hasattr(row, "identifier")
    return Kept(
        f"{CHARGE}-{row.id}" if of_charge else f"{CHANGE}-{row.change_id}",
        row.identifier if of_charge else None,
        row.issuer_id,
        row.patient,
        row.charge_item,
        row.sha256,
        row.created_at,
        row.keep_until,
        row.sealed,
        place((CHARGE_PACKETS if of_charge else CHANGE_PACKETS).c.sealed, row),
    )
