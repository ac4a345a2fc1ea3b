"""Charges on their way to the EHR, what was written with its evidence, and enrolments.

A charge has one outbox row, named by its deterministic identifier. The row exists before anything is sent, so
that a process which dies between the EHR's answer and our commit leaves a trace that the next one follows.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import Enum
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, and_, delete, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from smartapp.store.audit import AuditTrail
from smartapp.store.chain import Words
from smartapp.store.database import Database
from smartapp.store.months import certified_among
from smartapp.store.tables import CHARGE_PACKETS, ENROLMENTS, OUTBOX
from smartapp.store.vault import Vault


class ChargeState(Enum):
    """Where a charge is. PREPARED, AWAITING, DECLINED and REFUSED mean for certain that the EHR does not hold
    it."""

    PREPARED = "prepared"
    AWAITING = "awaiting"
    """Accepted by one person; a second one must approve it before it is sent."""
    DECLINED = "declined"
    """Somebody declined to approve it."""
    SENT = "sent"
    CONFIRMED = "confirmed"
    UNKNOWN = "unknown"
    """Sent, no answer, and the EHR cannot be asked: somebody must look in the EHR."""
    REFUSED = "refused"
    """The EHR answered that it did not take it."""
    WITHDRAWN = "withdrawn"
    """It was written, and taken back from here."""


NEVER_SENT = (ChargeState.PREPARED, ChargeState.REFUSED, ChargeState.DECLINED)
"""States in which the charge may be accepted anew, under the same identifier."""


@dataclass(frozen=True, slots=True)
class Enrolment:
    """The anchor day of one patient's 30-day periods in one program."""

    issuer_id: str
    patient: str
    program: str
    anchor_day: date
    source: str
    confirmed_by: str
    confirmed_at: datetime
    frozen: bool


class Approval(msgspec.Struct, frozen=True):
    """The second person's word: approved, or declined with a reason."""

    by: str
    by_name: str
    at: datetime
    declined_because: str | None = None


class ChargeContent(msgspec.Struct, frozen=True):
    """What is written, who answers for it, what is kept of it: a charge can be closed from its row alone."""

    resource: dict[str, Any]
    """The R4 ChargeItem as it is sent."""
    decision: str
    """`Decision.key`: the card this charge belongs to."""
    attested: tuple[str, ...]
    confirmed_by: str
    session_id: str
    snapshot_id: str
    snapshot_sha256: str
    keep_until: date
    anchor: Enrolment | None
    """The grid it rests on, frozen when it is written; None for a monthly code."""
    evidence: bytes
    """JSON: the decision and every record it rests on, as they were when the clinician accepted."""
    service_date: date | None = None
    confirmed_by_name: str = ""
    confirmed_by_subject: str = ""
    """Issuer and `sub` of the id_token: the same person under another fhirUser is still the same person."""
    approval: Approval | None = None


@dataclass(frozen=True, slots=True)
class Charge:
    """One outbox row."""

    identifier: str
    issuer_id: str
    patient: str
    code: str
    state: ChargeState
    charge_item: str | None
    """Logical id in the EHR, once confirmed."""
    problem: str | None
    changed_at: datetime
    content: ChargeContent


class ChargeStore:
    """The outbox, the packets and the enrolments."""

    def __init__(self, database: Database, vault: Vault, audit: AuditTrail) -> None:
        self._database = database
        self._vault = vault
        self._audit = audit

    # Outbox

    def claim(self, charge: Charge, holder: str, now: datetime, lease: timedelta) -> bool:
        """True for the one caller that may write this charge now.

        A new row is created PREPARED with the caller's content. An existing row is taken over when nobody
        holds it any more; its content is replaced only where it certainly never reached the EHR.
        """
        values = {
            "state": ChargeState.PREPARED.value,
            "holder": holder,
            "lease_until": now + lease,
            "sealed": self._vault.seal_record(charge.content),
            "keep_until": charge.content.keep_until,
            "changed_at": now,
        }
        try:
            with self._database.write() as connection:
                connection.execute(
                    insert(OUTBOX).values(
                        identifier=charge.identifier,
                        issuer_id=charge.issuer_id,
                        patient=charge.patient,
                        code=charge.code,
                        attempt=1,
                        created_at=now,
                        **values,
                    )
                )
            return True
        except IntegrityError:  # the row is there: pressed again, another tab, another process, or a restart
            pass
        free = or_(OUTBOX.c.lease_until.is_(None), OUTBOX.c.lease_until <= now)
        never_arrived = OUTBOX.c.state.in_([state.value for state in NEVER_SENT])
        in_doubt = OUTBOX.c.state.in_([ChargeState.SENT.value, ChargeState.UNKNOWN.value])
        with self._database.write() as connection:
            replaced = connection.execute(
                update(OUTBOX)
                .where(OUTBOX.c.identifier == charge.identifier, free, never_arrived)
                .values(attempt=OUTBOX.c.attempt + 1, **self._problem(None), **values)
            ).rowcount
            if replaced:
                return True
            resumed = connection.execute(
                update(OUTBOX)
                .where(OUTBOX.c.identifier == charge.identifier, free, in_doubt)
                .values(attempt=OUTBOX.c.attempt + 1, holder=holder, lease_until=now + lease)
            ).rowcount
        return resumed == 1

    def withdraw_preparation(self, identifier: str, holder: str) -> None:
        """Nothing was sent and nothing will be: the row goes, as if nobody had pressed."""
        with self._database.write() as connection:
            connection.execute(
                delete(OUTBOX).where(
                    OUTBOX.c.identifier == identifier,
                    OUTBOX.c.holder == holder,
                    OUTBOX.c.state == ChargeState.PREPARED.value,
                )
            )

    # A second person's approval

    def mark_awaiting(
        self, identifier: str, holder: str, now: datetime, /, **facts: str | int | bool | None
    ) -> bool:
        """Accepted, and sent to nobody before a second person approves; with its audit entry."""
        with self._database.write() as connection:
            moved = connection.execute(
                update(OUTBOX)
                .where(
                    OUTBOX.c.identifier == identifier,
                    OUTBOX.c.holder == holder,
                    OUTBOX.c.state == ChargeState.PREPARED.value,
                )
                .values(
                    state=ChargeState.AWAITING.value,
                    holder=None,
                    lease_until=None,
                    changed_at=now,
                    **self._problem(None),
                )
            ).rowcount
            if moved == 1:
                self._audit.add_with(connection, now, "charge-awaits-approval", **facts)
        return moved == 1

    def claim_approval(self, identifier: str, holder: str, now: datetime, lease: timedelta) -> bool:
        """True for the one caller that may approve this charge now."""
        with self._database.write() as connection:
            claimed = connection.execute(
                update(OUTBOX)
                .where(
                    OUTBOX.c.identifier == identifier,
                    OUTBOX.c.state == ChargeState.AWAITING.value,
                    or_(OUTBOX.c.lease_until.is_(None), OUTBOX.c.lease_until <= now),
                )
                .values(holder=holder, lease_until=now + lease)
            ).rowcount
        return claimed == 1

    def release_approval(self, identifier: str, holder: str) -> None:
        """It was not approved after all: it awaits approval as before."""
        with self._database.write() as connection:
            connection.execute(
                update(OUTBOX)
                .where(
                    OUTBOX.c.identifier == identifier,
                    OUTBOX.c.holder == holder,
                    OUTBOX.c.state == ChargeState.AWAITING.value,
                )
                .values(holder=None, lease_until=None)
            )

    def approve(self, charge: Charge, holder: str, now: datetime, **facts: str | int | bool | None) -> bool:
        """Keep the approval with the charge (`content.approval`), and its audit entry. It is sent next."""
        with self._database.write() as connection:
            kept = connection.execute(
                update(OUTBOX)
                .where(
                    OUTBOX.c.identifier == charge.identifier,
                    OUTBOX.c.holder == holder,
                    OUTBOX.c.state == ChargeState.AWAITING.value,
                )
                .values(sealed=self._vault.seal_record(charge.content))
            ).rowcount
            if kept == 1:
                self._audit.add_with(connection, now, "charge-approved", **facts)
        return kept == 1

    def decline(self, charge: Charge, now: datetime, **facts: str | int | bool | None) -> bool:
        """Nobody sends it (`content.approval` says why). False if it does not await approval any more."""
        approval = charge.content.approval
        reason = "" if approval is None else approval.declined_because or ""
        with self._database.write() as connection:
            declined = connection.execute(
                update(OUTBOX)
                .where(
                    OUTBOX.c.identifier == charge.identifier,
                    OUTBOX.c.state == ChargeState.AWAITING.value,
                    or_(OUTBOX.c.lease_until.is_(None), OUTBOX.c.lease_until <= now),
                )
                .values(
                    state=ChargeState.DECLINED.value,
                    sealed=self._vault.seal_record(charge.content),
                    holder=None,
                    lease_until=None,
                    changed_at=now,
                )
            ).rowcount
            if declined == 1:
                self._audit.add_with(connection, now, "charge-declined", reason=Words(reason), **facts)
        return declined == 1

    def get(self, identifier: str) -> Charge | None:
        with self._database.read() as connection:
            row = connection.execute(select(OUTBOX).where(OUTBOX.c.identifier == identifier)).one_or_none()
        return None if row is None else self._charge(row)

    def of_patient(self, issuer_id: str, patient: str) -> tuple[Charge, ...]:
        with self._database.read() as connection:
            rows = connection.execute(
                select(OUTBOX)
                .where(OUTBOX.c.issuer_id == issuer_id, OUTBOX.c.patient == patient)
                .order_by(OUTBOX.c.created_at)
            ).all()
        return tuple(self._charge(row) for row in rows)

    def written_keys(self, issuer_id: str, patient: str) -> frozenset[str]:
        """Values of the identifiers of everything that was written from here."""
        written = [ChargeState.CONFIRMED.value, ChargeState.WITHDRAWN.value]
        with self._database.read() as connection:
            rows = connection.execute(
                select(OUTBOX.c.identifier).where(
                    OUTBOX.c.issuer_id == issuer_id,
                    OUTBOX.c.patient == patient,
                    OUTBOX.c.state.in_(written),
                )
            ).scalars()
            return frozenset(identifier.rsplit("|", 1)[1] for identifier in rows)

    def mark_sent(
        self, identifier: str, holder: str, now: datetime, unless_certified: date | None = None
    ) -> bool:
        """The write is about to leave. Committed before the first byte goes out.

        False if somebody else holds it, or if the month of `unless_certified` was certified meanwhile.
        """
        return self._move(
            identifier,
            holder,
            now,
            ChargeState.SENT,
            None,
            keep_lease=True,
            unless_certified=unless_certified,
        )

    def mark_unknown(self, identifier: str, holder: str, now: datetime, problem: str) -> bool:
        return self._move(identifier, holder, now, ChargeState.UNKNOWN, problem)

    def mark_refused(self, identifier: str, holder: str, now: datetime, problem: str) -> bool:
        return self._move(identifier, holder, now, ChargeState.REFUSED, problem)

    def confirm(
        self,
        charge: Charge,
        charge_item: str,
        now: datetime,
        packet: bytes,
        problem: str | None = None,
        **facts: str | int | bool | None,
    ) -> bool:
        """The EHR holds the charge: row, packet, frozen enrolment and audit entry, all or none.

        `problem`: what somebody should know although it was written. True for the call that confirmed; a
        second one changes nothing.
        """
        with self._database.write() as connection:
            confirmed = connection.execute(
                update(OUTBOX)
                .where(
                    OUTBOX.c.identifier == charge.identifier,
                    OUTBOX.c.state.not_in([ChargeState.CONFIRMED.value, ChargeState.WITHDRAWN.value]),
                )
                .values(
                    state=ChargeState.CONFIRMED.value,
                    charge_item=charge_item,
                    holder=None,
                    lease_until=None,
                    changed_at=now,
                    **self._problem(problem),
                )
            ).rowcount
            if confirmed != 1:
                return False
            digest = hashlib.sha256(packet).hexdigest()
            connection.execute(
                insert(CHARGE_PACKETS).values(
                    identifier=charge.identifier,
                    issuer_id=charge.issuer_id,
                    patient=charge.patient,
                    charge_item=charge_item,
                    sha256=digest,
                    sealed=self._vault.seal(packet),
                    created_at=now,
                    keep_until=charge.content.keep_until,
                )
            )
            if charge.content.anchor is not None:
                _freeze(connection, charge.content.anchor)
            self._audit.add_with(
                connection, now, "charge-written", charge_item=charge_item, packet_sha256=digest, **facts
            )
        return True

    def packet(self, identifier: str) -> bytes | None:
        """The evidence of a written charge."""
        with self._database.read() as connection:
            sealed = connection.execute(
                select(CHARGE_PACKETS.c.sealed).where(CHARGE_PACKETS.c.identifier == identifier)
            ).scalar_one_or_none()
        return None if sealed is None else self._vault.unseal(sealed)

    def _move(
        self,
        identifier: str,
        holder: str,
        now: datetime,
        state: ChargeState,
        problem: str | None,
        *,
        keep_lease: bool = False,
        unless_certified: date | None = None,
    ) -> bool:
        values: dict[str, Any] = {"state": state.value, "changed_at": now, **self._problem(problem)}
        if not keep_lease:
            values |= {"holder": None, "lease_until": None}
        mine = and_(
            OUTBOX.c.identifier == identifier,
            OUTBOX.c.holder == holder,
            OUTBOX.c.state.not_in([ChargeState.CONFIRMED.value, ChargeState.WITHDRAWN.value]),
        )
        with self._database.write() as connection:
            if unless_certified is not None:
                whose = connection.execute(select(OUTBOX.c.issuer_id, OUTBOX.c.patient).where(mine)).first()
                if whose is not None and certified_among(connection, *whose, [unless_certified]):
                    return False
            moved = connection.execute(update(OUTBOX).where(mine).values(**values)).rowcount
        return moved == 1

    def _problem(self, problem: str | None) -> dict[str, Any]:
        return {"problem_sealed": self._vault.seal_remark(problem), "problem": None}

    def _charge(self, row: Row[Any]) -> Charge:
        return Charge(
            identifier=row.identifier,
            issuer_id=row.issuer_id,
            patient=row.patient,
            code=row.code,
            state=ChargeState(row.state),
            charge_item=row.charge_item,
            problem=row.problem or self._vault.unseal_remark(row.problem_sealed),
            changed_at=row.changed_at,
            content=self._vault.unseal_record(row.sealed, ChargeContent),
        )

    # Enrolments

    def enrolments(self, issuer_id: str, patient: str) -> dict[str, Enrolment]:
        """The patient's enrolments by program."""
        with self._database.read() as connection:
            rows = connection.execute(
                select(ENROLMENTS).where(ENROLMENTS.c.issuer_id == issuer_id, ENROLMENTS.c.patient == patient)
            ).all()
        return {
            row.program: Enrolment(
                row.issuer_id,
                row.patient,
                row.program,
                row.anchor_day,
                row.source,
                row.confirmed_by,
                row.confirmed_at,
                row.frozen,
            )
            for row in rows
        }

    def confirm_anchor(self, enrolment: Enrolment, **facts: str | int | bool | None) -> bool:
        """Keep a confirmed or corrected anchor day, with its audit entry. False once it is frozen."""
        same = and_(
            ENROLMENTS.c.issuer_id == enrolment.issuer_id,
            ENROLMENTS.c.patient == enrolment.patient,
            ENROLMENTS.c.program == enrolment.program,
        )
        values = {
            "anchor_day": enrolment.anchor_day,
            "source": enrolment.source,
            "confirmed_by": enrolment.confirmed_by,
            "confirmed_at": enrolment.confirmed_at,
            "frozen": False,
        }
        with self._database.write() as connection:
            before = connection.execute(
                select(ENROLMENTS.c.frozen, ENROLMENTS.c.anchor_day).where(same).with_for_update()
            ).one_or_none()
            if before is None:
                connection.execute(
                    insert(ENROLMENTS).values(
                        issuer_id=enrolment.issuer_id,
                        patient=enrolment.patient,
                        program=enrolment.program,
                        **values,
                    )
                )
            elif before.frozen:
                return False
            else:
                connection.execute(update(ENROLMENTS).where(same).values(**values))
            self._audit.add_with(
                connection,
                enrolment.confirmed_at,
                "anchor-confirmed",
                issuer=enrolment.issuer_id,
                patient=enrolment.patient,
                program=enrolment.program,
                user=enrolment.confirmed_by,
                anchor_day=enrolment.anchor_day.isoformat(),
                before=None if before is None else before.anchor_day.isoformat(),
                source=enrolment.source,
                **facts,
            )
        return True


def _freeze(connection: Connection, enrolment: Enrolment) -> None:
    """Keep the anchor the first accepted charge rests on; an earlier frozen one stays as it is."""
    same = and_(
        ENROLMENTS.c.issuer_id == enrolment.issuer_id,
        ENROLMENTS.c.patient == enrolment.patient,
        ENROLMENTS.c.program == enrolment.program,
    )
    values = {
        "anchor_day": enrolment.anchor_day,
        "source": enrolment.source,
        "confirmed_by": enrolment.confirmed_by,
        "confirmed_at": enrolment.confirmed_at,
        "frozen": True,
    }
    if connection.execute(select(ENROLMENTS.c.frozen).where(same).with_for_update()).one_or_none() is None:
        connection.execute(
            insert(ENROLMENTS).values(
                issuer_id=enrolment.issuer_id, patient=enrolment.patient, program=enrolment.program, **values
            )
        )
    else:
        connection.execute(update(ENROLMENTS).where(same, ENROLMENTS.c.frozen.is_(False)).values(**values))
