"""Changes of charges that were written: what is to become of one, how far it came, and the packet of each.

The row exists before anything is sent. Its id names the charge and the version that was read, so that two
tabs, people or processes that change the same version meet in one row, and one of them waits for the other.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import msgspec
from sqlalchemy import Row, insert, select, update

from fhir_mappings.reconciliation import ChangeKind
from smartapp.store.chain import Words
from smartapp.store.charges import ChargeContent, units_in
from smartapp.store.claims import RESUMABLE, Approval, ChargeState, Claims
from smartapp.store.tables import CHANGE_PACKETS, CHARGE_CHANGES, OUTBOX
from smartapp.store.vault import place

UNFINISHED = frozenset({ChargeState.AWAITING, *RESUMABLE})


class NewCharge(msgspec.Struct, frozen=True):
    """Of a replacement: the charge that comes in the old one's place, as an outbox row holds it."""

    identifier: str
    code: str
    content: ChargeContent


class ChangeContent(msgspec.Struct, frozen=True, kw_only=True):
    """What is changed, who answers for it, what is kept: a change can be finished from its row alone."""

    code: str
    before: dict[str, Any]
    before_version: str
    before_etag: str | None
    """What `If-Match` says."""
    after: dict[str, Any]
    """The same ChargeItem as it is written: updated, or taken back."""
    new: NewCharge | None = None
    said: str
    """What changed and why, in the words of the note."""
    reasons: tuple[str, ...] = ()
    """`ChangeReason` values; none where a person withdrew it for a reason of their own."""
    attested: tuple[str, ...] = ()
    days: tuple[date, ...]
    """Service dates that are touched: their months must be open."""
    confirmed_by: str
    confirmed_by_name: str = ""
    confirmed_by_subject: str = ""
    confirmed_by_person: str = ""
    session_id: str
    snapshot_id: str
    snapshot_sha256: str
    keep_until: date
    evidence: bytes
    """JSON: what the record says now."""
    approval: Approval | None = None


@dataclass(frozen=True, slots=True)
class ChargeChange:
    """One row."""

    id: str
    issuer_id: str
    patient: str
    charge_item: str
    """Logical id of the charge that is changed."""
    kind: ChangeKind
    state: ChargeState
    problem: str | None
    changed_at: datetime
    content: ChangeContent

    @property
    def key(self) -> str:
        return self.id

    @property
    def number(self) -> str:
        """How notes and pages call it."""
        return self.id[:12]


def change_id(issuer_id: str, charge_item: str, version: str) -> str:
    """The row that a change of this version of a charge has."""
    return hashlib.sha256(f"{issuer_id}\n{charge_item}\n{version}".encode()).hexdigest()


class ChangeStore(Claims[ChargeChange]):
    """Changes and their packets of one database."""

    table = CHARGE_CHANGES
    key = CHARGE_CHANGES.c.id

    def get(self, issuer_id: str, patient: str, id_: str) -> ChargeChange | None:
        """The change, if it is this patient's."""
        found = self.found(id_)
        theirs = found is not None and (found.issuer_id, found.patient) == (issuer_id, patient)
        return found if theirs else None

    def _named(self, row: ChargeChange) -> dict[str, Any]:
        return {"id": row.id, "charge_item": row.charge_item}

    def _in_the_open(self, row: ChargeChange) -> dict[str, Any]:
        return {"kind": row.kind.value}

    def written(
        self,
        change: ChargeChange,
        state: ChargeState,
        now: datetime,
        packet: bytes,
        problem: str | None,
        event: str,
        /,
        **facts: str | int | bool | None,
    ) -> bool:
        """The EHR holds the changed charge: row, packet, the charge's own row and audit entry, all or none.

        `state`: CONFIRMED, or TAKEN_BACK of a replacement, which keeps its holder. True for the call that did
        it.
        """
        values: dict[str, Any] = {
            "state": state.value,
            "changed_at": now,
            **self._problem(change.id, problem),
        }
        if state is ChargeState.CONFIRMED:
            values |= {"holder": None, "lease_until": None}
        with self._database.write() as connection:
            self._audit.lock(connection)
            moved = connection.execute(
                update(CHARGE_CHANGES)
                .where(
                    CHARGE_CHANGES.c.id == change.id,
                    self._under_way(),
                    CHARGE_CHANGES.c.state != ChargeState.TAKEN_BACK.value,
                )
                .values(**values)
            ).rowcount
            if moved != 1:
                return False
            digest = hashlib.sha256(packet).hexdigest()
            named = {
                "change_id": change.id,
                "issuer_id": change.issuer_id,
                "patient": change.patient,
                "charge_item": change.charge_item,
            }
            connection.execute(
                insert(CHANGE_PACKETS).values(
                    **named,
                    sha256=digest,
                    sealed=self._vault.seal(packet, place(CHANGE_PACKETS.c.sealed, named)),
                    created_at=now,
                    keep_until=change.content.keep_until,
                )
            )
            if change.kind in {ChangeKind.WITHDRAW, ChangeKind.REPLACE}:
                connection.execute(
                    update(OUTBOX)
                    .where(
                        OUTBOX.c.issuer_id == change.issuer_id,
                        OUTBOX.c.patient == change.patient,
                        OUTBOX.c.charge_item == change.charge_item,
                        OUTBOX.c.state == ChargeState.CONFIRMED.value,
                    )
                    .values(state=ChargeState.WITHDRAWN.value, changed_at=now)
                )
            if change.kind is ChangeKind.UPDATE:
                connection.execute(
                    update(OUTBOX)
                    .where(
                        OUTBOX.c.issuer_id == change.issuer_id,
                        OUTBOX.c.patient == change.patient,
                        OUTBOX.c.charge_item == change.charge_item,
                    )
                    .values(units=units_in(change.content.after))
                )
            self._audit.add_with(
                connection,
                now,
                event,
                packet_sha256=digest,
                said=Words(change.content.said),
                **facts,
            )
        return True

    def finish(
        self, change: ChargeChange, now: datetime, event: str, /, **facts: str | int | bool | None
    ) -> bool:
        """The second half of a replacement is over: nothing is left to do."""
        with self._database.write() as connection:
            self._audit.lock(connection)
            moved = connection.execute(
                update(CHARGE_CHANGES)
                .where(
                    CHARGE_CHANGES.c.id == change.id, CHARGE_CHANGES.c.state == ChargeState.TAKEN_BACK.value
                )
                .values(
                    state=ChargeState.CONFIRMED.value,
                    holder=None,
                    lease_until=None,
                    changed_at=now,
                    **self._problem(change.id, None),
                )
            ).rowcount
            if moved == 1:
                self._audit.add_with(connection, now, event, **facts)
        return moved == 1

    def packet(self, id_: str) -> bytes | None:
        """What a change wrote, and why."""
        with self._database.read() as connection:
            row = connection.execute(
                select(CHANGE_PACKETS).where(CHANGE_PACKETS.c.change_id == id_)
            ).one_or_none()
        if row is None:
            return None
        return self._vault.unseal(row.sealed, place(CHANGE_PACKETS.c.sealed, row))

    def opened(self, row: Row[Any]) -> ChargeChange:
        return ChargeChange(
            id=row.id,
            issuer_id=row.issuer_id,
            patient=row.patient,
            charge_item=row.charge_item,
            kind=ChangeKind(row.kind),
            state=ChargeState(row.state),
            problem=self._told(row),
            changed_at=row.changed_at,
            content=self._vault.unseal_record(row.sealed, place(CHARGE_CHANGES.c.sealed, row), ChangeContent),
        )
