"""Changes of charges that were written: what is to become of one, how far it came, and the packet of each.

The row exists before anything is sent. Its id names the charge and the version that was read, so that two
tabs, people or processes that change the same version meet in one row, and one of them waits for the other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import Enum
from typing import Any

import msgspec
from sqlalchemy import Row, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from fhir_mappings.reconciliation import ChangeKind
from smartapp.store.audit import AuditTrail, Fact
from smartapp.store.chain import Words
from smartapp.store.charges import Approval, ChargeContent, ChargeState
from smartapp.store.database import Database
from smartapp.store.months import certified_among
from smartapp.store.tables import CHANGE_PACKETS, CHARGE_CHANGES, OUTBOX
from smartapp.store.vault import Vault


class ChangeState(Enum):
    """How far a change came."""

    PREPARED = "prepared"
    AWAITING = "awaiting"
    """Confirmed by one person; a second one must approve it before anything is sent."""
    SENT = "sent"
    TAKEN_BACK = "taken-back"
    """Of a replacement: the old charge is taken back, the new one is not confirmed yet."""
    DONE = "done"
    STALE = "stale"
    """Somebody else changed the charge first; nothing of this was done."""
    UNKNOWN = "unknown"
    """Sent, and the EHR does not say whether it holds the change: somebody must look."""
    REFUSED = "refused"
    DECLINED = "declined"


UNFINISHED = frozenset({ChangeState.AWAITING, ChangeState.SENT, ChangeState.TAKEN_BACK, ChangeState.UNKNOWN})
_STARTABLE = (ChangeState.PREPARED, ChangeState.REFUSED, ChangeState.DECLINED, ChangeState.STALE)
_RESUMABLE = (ChangeState.SENT, ChangeState.UNKNOWN, ChangeState.TAKEN_BACK)


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
    state: ChangeState
    problem: str | None
    changed_at: datetime
    content: ChangeContent

    @property
    def number(self) -> str:
        """How notes and pages call it."""
        return self.id[:12]


def change_id(issuer_id: str, charge_item: str, version: str) -> str:
    """The row that a change of this version of a charge has."""
    return hashlib.sha256(f"{issuer_id}\n{charge_item}\n{version}".encode()).hexdigest()


class ChangeStore:
    """Changes and their packets of one database."""

    def __init__(self, database: Database, vault: Vault, audit: AuditTrail) -> None:
        self._database = database
        self._vault = vault
        self._audit = audit

    def get(self, issuer_id: str, patient: str, id_: str) -> ChargeChange | None:
        """The change, if it is this patient's."""
        with self._database.read() as connection:
            row = connection.execute(
                select(CHARGE_CHANGES).where(
                    CHARGE_CHANGES.c.id == id_,
                    CHARGE_CHANGES.c.issuer_id == issuer_id,
                    CHARGE_CHANGES.c.patient == patient,
                )
            ).one_or_none()
        return None if row is None else self._change(row)

    def of_patient(self, issuer_id: str, patient: str) -> tuple[ChargeChange, ...]:
        """Oldest first."""
        with self._database.read() as connection:
            rows = connection.execute(
                select(CHARGE_CHANGES)
                .where(CHARGE_CHANGES.c.issuer_id == issuer_id, CHARGE_CHANGES.c.patient == patient)
                .order_by(CHARGE_CHANGES.c.created_at)
            ).all()
        return tuple(self._change(row) for row in rows)

    def claim(self, change: ChargeChange, holder: str, now: datetime, lease: timedelta) -> bool:
        """True for the one caller that may make this change now.

        A row that never got anywhere takes the caller's content; one that was sent keeps its own and is
        resumed. One that awaits approval is neither.
        """
        held = {"holder": holder, "lease_until": now + lease}
        fresh = {
            **held,
            "kind": change.kind.value,
            "state": ChangeState.PREPARED.value,
            "sealed": self._vault.seal_record(change.content),
            "keep_until": change.content.keep_until,
            "changed_at": now,
            **self._problem(None),
        }
        try:
            with self._database.write() as connection:
                connection.execute(
                    insert(CHARGE_CHANGES).values(
                        id=change.id,
                        issuer_id=change.issuer_id,
                        patient=change.patient,
                        charge_item=change.charge_item,
                        attempt=1,
                        created_at=now,
                        **fresh,
                    )
                )
            return True
        except IntegrityError:  # the row is there: pressed again, another tab, another process, or a restart
            pass
        free = or_(CHARGE_CHANGES.c.lease_until.is_(None), CHARGE_CHANGES.c.lease_until <= now)
        with self._database.write() as connection:
            for states, values in ((_STARTABLE, fresh), (_RESUMABLE, held)):
                claimed = connection.execute(
                    update(CHARGE_CHANGES)
                    .where(
                        CHARGE_CHANGES.c.id == change.id,
                        free,
                        CHARGE_CHANGES.c.state.in_([state.value for state in states]),
                    )
                    .values(attempt=CHARGE_CHANGES.c.attempt + 1, **values)
                ).rowcount
                if claimed:
                    return True
        return False

    def claim_approval(self, id_: str, holder: str, now: datetime, lease: timedelta) -> bool:
        """True for the one caller that may approve this change now."""
        with self._database.write() as connection:
            claimed = connection.execute(
                update(CHARGE_CHANGES)
                .where(
                    CHARGE_CHANGES.c.id == id_,
                    CHARGE_CHANGES.c.state == ChangeState.AWAITING.value,
                    or_(CHARGE_CHANGES.c.lease_until.is_(None), CHARGE_CHANGES.c.lease_until <= now),
                )
                .values(holder=holder, lease_until=now + lease)
            ).rowcount
        return claimed == 1

    def mark(
        self,
        change: ChargeChange,
        holder: str,
        state: ChangeState,
        now: datetime,
        problem: str | None = None,
        event: str | None = None,
        *,
        keep: bool = False,
        unless_certified: bool = False,
        reason: str | None = None,
        facts: Mapping[str, str | int | bool | None] | None = None,
    ) -> bool:
        """Move the holder's change to a state, with its content and an audit entry. `keep`: it stays held.

        False if it is not the holder's, or, `unless_certified`, if a month it touches was certified.
        """
        values: dict[str, Any] = {
            "state": state.value,
            "changed_at": now,
            "sealed": self._vault.seal_record(change.content),
            "keep_until": change.content.keep_until,
            **self._problem(problem),
        }
        if not keep:
            values |= {"holder": None, "lease_until": None}
        with self._database.write() as connection:
            if unless_certified and certified_among(
                connection, change.issuer_id, change.patient, change.content.days
            ):
                return False
            moved = connection.execute(
                update(CHARGE_CHANGES)
                .where(
                    CHARGE_CHANGES.c.id == change.id,
                    CHARGE_CHANGES.c.holder == holder,
                    CHARGE_CHANGES.c.state != ChangeState.DONE.value,
                )
                .values(**values)
            ).rowcount
            if moved == 1 and event is not None:
                told: dict[str, Fact] = dict(facts or {})
                if reason is not None:
                    told["reason"] = Words(reason)
                self._audit.add_with(connection, now, event, **told)
        return moved == 1

    def written(
        self,
        change: ChargeChange,
        state: ChangeState,
        now: datetime,
        packet: bytes,
        problem: str | None,
        event: str,
        /,
        **facts: str | int | bool | None,
    ) -> bool:
        """The EHR holds the changed charge: row, packet, the charge's own row and audit entry, all or none.

        `state`: DONE, or TAKEN_BACK of a replacement, which keeps its holder. True for the call that did it.
        """
        values: dict[str, Any] = {"state": state.value, "changed_at": now, **self._problem(problem)}
        if state is ChangeState.DONE:
            values |= {"holder": None, "lease_until": None}
        with self._database.write() as connection:
            moved = connection.execute(
                update(CHARGE_CHANGES)
                .where(
                    CHARGE_CHANGES.c.id == change.id,
                    CHARGE_CHANGES.c.state.not_in([ChangeState.DONE.value, ChangeState.TAKEN_BACK.value]),
                )
                .values(**values)
            ).rowcount
            if moved != 1:
                return False
            digest = hashlib.sha256(packet).hexdigest()
            connection.execute(
                insert(CHANGE_PACKETS).values(
                    change_id=change.id,
                    issuer_id=change.issuer_id,
                    patient=change.patient,
                    charge_item=change.charge_item,
                    sha256=digest,
                    sealed=self._vault.seal(packet),
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
            moved = connection.execute(
                update(CHARGE_CHANGES)
                .where(
                    CHARGE_CHANGES.c.id == change.id, CHARGE_CHANGES.c.state == ChangeState.TAKEN_BACK.value
                )
                .values(
                    state=ChangeState.DONE.value,
                    holder=None,
                    lease_until=None,
                    changed_at=now,
                    **self._problem(None),
                )
            ).rowcount
            if moved == 1:
                self._audit.add_with(connection, now, event, **facts)
        return moved == 1

    def packet(self, id_: str) -> bytes | None:
        """What a change wrote, and why."""
        with self._database.read() as connection:
            sealed = connection.execute(
                select(CHANGE_PACKETS.c.sealed).where(CHANGE_PACKETS.c.change_id == id_)
            ).scalar_one_or_none()
        return None if sealed is None else self._vault.unseal(sealed)

    def _problem(self, problem: str | None) -> dict[str, Any]:
        return {"problem_sealed": self._vault.seal_remark(problem), "problem": None}

    def _change(self, row: Row[Any]) -> ChargeChange:
        return ChargeChange(
            id=row.id,
            issuer_id=row.issuer_id,
            patient=row.patient,
            charge_item=row.charge_item,
            kind=ChangeKind(row.kind),
            state=ChangeState(row.state),
            problem=row.problem or self._vault.unseal_remark(row.problem_sealed),
            changed_at=row.changed_at,
            content=self._vault.unseal_record(row.sealed, ChangeContent),
        )
