"""Charges on their way to the EHR, what was written with its evidence, and enrolments.

A charge has one outbox row, named by its deterministic identifier. The row exists before anything is sent, so
that a process which dies between the EHR's answer and our commit leaves a trace that the next one follows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from math import ceil
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, and_, bindparam, delete, insert, select, update

from fhir_mappings.charge_item import PERFORMING, performer_in
from smartapp.configuration.handover import Method
from smartapp.store.attestations import NO_GROUNDS, AnchorSet, Grounds, keep_anchor
from smartapp.store.chain import Words
from smartapp.store.claims import HANDED, Approval, ChargeState, Claims
from smartapp.store.tables import CHARGE_PACKETS, ENROLMENTS, OUTBOX
from smartapp.store.vault import place

_IDENTIFIERS = select(OUTBOX.c.identifier).where(
    OUTBOX.c.issuer_id == bindparam("issuer"),
    OUTBOX.c.patient == bindparam("whose"),
    OUTBOX.c.state.in_(bindparam("states", expanding=True)),
)
_ENROLMENTS = select(ENROLMENTS).where(
    ENROLMENTS.c.issuer_id == bindparam("issuer"), ENROLMENTS.c.patient == bindparam("whose")
)


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


class Leaving(msgspec.Struct, frozen=True):
    """In which way a charge leaves, and exactly what does."""

    method: Method
    media_type: str
    body: bytes
    line: bytes = b""
    """The charge as a line of the worksheet (JSON), where that is not the body itself."""


class Handed(msgspec.Struct, frozen=True):
    """That a charge left otherwise than as a ChargeItem, or that a person entered it."""

    name: str
    """What it is called where it went: `Task/12`, the name of a message."""
    at: datetime
    by: str
    by_name: str


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
    confirmed_by_person: str = ""
    """The Practitioner behind a role they were signed in with; "" where the EHR did not say whose it is."""
    approval: Approval | None = None
    leaving: Leaving | None = None
    """None is the ChargeItem itself."""
    handed: Handed | None = None

    @property
    def method(self) -> Method:
        return Method.CHARGE_ITEM if self.leaving is None else self.leaving.method


class _Period(msgspec.Struct):
    end: date | None = None


class _Decided(msgspec.Struct):
    service_date: date | None = None
    period: _Period = msgspec.field(default_factory=_Period)


class _Evidence(msgspec.Struct):
    """What of a charge's evidence says where it is looked for."""

    payer: str | None = None
    decision: _Decided = msgspec.field(default_factory=_Decided)


def found_by(content: ChargeContent) -> dict[str, Any]:
    """The columns by which a charge is found in its month: its day, way, who performs, payer, units."""
    told = msgspec.json.decode(content.evidence, type=_Evidence)
    resource = content.resource
    return {
        "service_date": content.service_date or told.decision.service_date or told.decision.period.end,
        "method": content.method.value,
        "performer": performer_in(resource, PERFORMING) or content.confirmed_by,
        "payer": told.payer,
        "units": units_in(resource),
    }


def key_in(identifier: str) -> str:
    """A charge's own key, as worksheets, messages and claims carry it: the value of its identifier."""
    return identifier.rpartition("|")[2]


def units_in(resource: Mapping[str, Any]) -> int:
    """How many units a ChargeItem charges; without a number one."""
    value: float = (resource.get("quantity") or {}).get("value", 1)
    return ceil(value)


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

    @property
    def key(self) -> str:
        return self.identifier

    @property
    def name(self) -> str | None:
        """What it is called where it went, once it is there; of a ChargeItem its logical id."""
        handed = self.content.handed
        return self.charge_item if handed is None else handed.name


class ChargeStore(Claims[Charge]):
    """The outbox, the packets and the enrolments."""

    table = OUTBOX
    key = OUTBOX.c.identifier

    def get(self, identifier: str) -> Charge | None:
        return self.found(identifier)

    def _named(self, row: Charge) -> dict[str, Any]:
        return {"identifier": row.identifier, "code": row.code}

    def _in_the_open(self, row: Charge) -> dict[str, Any]:
        return found_by(row.content)

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

    def written_keys(self, issuer_id: str, patient: str) -> frozenset[str]:
        """Values of the identifiers of everything that was written from here."""
        written = self._identifiers(issuer_id, patient, (ChargeState.CONFIRMED, ChargeState.WITHDRAWN))
        return frozenset(identifier.rsplit("|", 1)[1] for identifier in written)

    def handed_keys(self, issuer_id: str, patient: str) -> tuple[str, ...]:
        """Keys of what left otherwise than as a ChargeItem, or was entered by a person, and was not taken
        back, without unsealing anything."""
        return tuple(sorted(self._identifiers(issuer_id, patient, HANDED)))

    def _identifiers(self, issuer_id: str, patient: str, states: Iterable[ChargeState]) -> list[str]:
        whose = {"issuer": issuer_id, "whose": patient, "states": [state.value for state in states]}
        with self._database.read() as connection:
            return list(connection.execute(_IDENTIFIERS, whose).scalars())

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
        values = {
            "state": ChargeState.CONFIRMED.value,
            "charge_item": charge_item,
            **self._problem(charge.identifier, problem),
        }
        told = {"charge_item": charge_item, **facts}
        return self._close(charge, values, now, packet, charge_item, "charge-written", told)

    def hand_over(
        self,
        charge: Charge,
        state: ChargeState,
        event: str,
        now: datetime,
        packet: bytes,
        problem: str | None = None,
        certified: Iterable[date] = (),
        /,
        **facts: str | int | bool | None,
    ) -> bool:
        """It left otherwise than as a ChargeItem, or a person entered it (`charge.content.handed`): the same,
        all or none. False too where a month of one of these days was `certified`."""
        handed = charge.content.handed
        assert handed is not None, "what was handed over has a name"
        values = {
            "state": state.value,
            "sealed": self._sealed(charge),
            **self._in_the_open(charge),
            **self._problem(charge.identifier, problem),
        }
        told = {"handed_over": handed.name, "method": charge.content.method.value, **facts}
        return self._close(charge, values, now, packet, handed.name, event, told, certified)

    def _close(
        self,
        charge: Charge,
        values: dict[str, Any],
        now: datetime,
        packet: bytes,
        name: str,
        event: str,
        facts: dict[str, str | int | bool | None],
        certified: Iterable[date] = (),
    ) -> bool:
        with self._database.write() as connection:
            self._audit.lock(connection)
            if self._is_closed(connection, charge, certified):
                return False
            closed = connection.execute(
                update(OUTBOX)
                .where(OUTBOX.c.identifier == charge.identifier, self._under_way())
                .values(holder=None, lease_until=None, changed_at=now, **values)
            ).rowcount
            if closed != 1:
                return False
            digest = hashlib.sha256(packet).hexdigest()
            named = {
                "identifier": charge.identifier,
                "issuer_id": charge.issuer_id,
                "patient": charge.patient,
                "charge_item": name,
            }
            connection.execute(
                insert(CHARGE_PACKETS).values(
                    **named,
                    sha256=digest,
                    sealed=self._vault.seal(packet, place(CHARGE_PACKETS.c.sealed, named)),
                    created_at=now,
                    keep_until=charge.content.keep_until,
                )
            )
            if charge.content.anchor is not None:
                _freeze(connection, charge.content.anchor)
            self._audit.add_with(connection, now, event, packet_sha256=digest, **facts)
        return True

    def begin_taking_back(
        self,
        charge: Charge,
        holder: str,
        now: datetime,
        lease: timedelta,
        unless_certified: Iterable[date] = (),
    ) -> bool:
        """True for the one caller that may take back now what was handed over: from here on nobody knows,
        until `took_back` says so. Nobody may where a month of one of the days `unless_certified` was
        certified."""
        states = [state.value for state in (*HANDED, ChargeState.TO_ENTER)]
        with self._database.write() as connection:
            if self._is_closed(connection, charge, unless_certified):
                return False
            begun = connection.execute(
                update(OUTBOX)
                .where(OUTBOX.c.identifier == charge.identifier, OUTBOX.c.state.in_(states), self._free(now))
                .values(
                    state=ChargeState.TAKING_BACK.value,
                    holder=holder,
                    lease_until=now + lease,
                    changed_at=now,
                )
            ).rowcount
        return begun == 1

    def took_back(
        self,
        charge: Charge,
        holder: str,
        state: ChargeState,
        event: str,
        reason: str,
        now: datetime,
        problem: str | None = None,
        /,
        **facts: str | int | bool | None,
    ) -> bool:
        """What became of taking it back, by its holder, with an audit entry. False where it is not theirs."""
        with self._database.write() as connection:
            self._audit.lock(connection)
            mine = and_(OUTBOX.c.identifier == charge.identifier, OUTBOX.c.holder == holder)
            moved = connection.execute(
                update(OUTBOX)
                .where(mine, OUTBOX.c.state == ChargeState.TAKING_BACK.value)
                .values(
                    state=state.value,
                    holder=None,
                    lease_until=None,
                    changed_at=now,
                    **self._problem(charge.identifier, problem),
                )
            ).rowcount
            if moved == 1:
                self._audit.add_with(connection, now, event, reason=Words(reason), **facts)
        return moved == 1

    def gone(self, charge: Charge, now: datetime, **facts: str | int | bool | None) -> bool:
        """The EHR itself took it back, or deleted it: the row says so from now on, with an audit entry."""
        written = and_(
            OUTBOX.c.identifier == charge.identifier,
            OUTBOX.c.state == ChargeState.CONFIRMED.value,
            OUTBOX.c.charge_item == charge.charge_item,
        )
        values = {"state": ChargeState.WITHDRAWN.value, "changed_at": now}
        with self._database.write() as connection:
            self._audit.lock(connection)
            moved = connection.execute(update(OUTBOX).where(written).values(**values)).rowcount
            if moved == 1:
                told = {"charge_item": charge.charge_item, **facts}
                self._audit.add_with(connection, now, "charge-gone-in-ehr", **told)
        return moved == 1

    def packet(self, identifier: str) -> bytes | None:
        """The evidence of a written charge."""
        with self._database.read() as connection:
            row = connection.execute(
                select(CHARGE_PACKETS).where(CHARGE_PACKETS.c.identifier == identifier)
            ).one_or_none()
        if row is None:
            return None
        return self._vault.unseal(row.sealed, place(CHARGE_PACKETS.c.sealed, row))

    def opened(self, row: Row[Any]) -> Charge:
        return Charge(
            identifier=row.identifier,
            issuer_id=row.issuer_id,
            patient=row.patient,
            code=row.code,
            state=ChargeState(row.state),
            charge_item=row.charge_item,
            problem=self._told(row),
            changed_at=row.changed_at,
            content=self._vault.unseal_record(row.sealed, place(OUTBOX.c.sealed, row), ChargeContent),
        )

    # Enrolments

    def enrolments(self, issuer_id: str, patient: str) -> dict[str, Enrolment]:
        """The patient's enrolments by program."""
        with self._database.read() as connection:
            rows = connection.execute(_ENROLMENTS, {"issuer": issuer_id, "whose": patient}).all()
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

    def confirm_anchor(
        self,
        enrolment: Enrolment,
        by_name: str = "",
        grounds: Grounds = NO_GROUNDS,
        **facts: str | int | bool | None,
    ) -> bool:
        """Keep a confirmed or corrected anchor day, that somebody did, on what grounds, and an audit entry.
        False once it is frozen."""
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
            told = AnchorSet(
                program=enrolment.program,
                day=enrolment.anchor_day,
                before=None if before is None else before.anchor_day,
                source=enrolment.source,
                grounds=grounds,
                by=enrolment.confirmed_by,
                by_name=by_name,
            )
            at = enrolment.confirmed_at
            keep_anchor(connection, self._vault, enrolment.issuer_id, enrolment.patient, told, at)
            self._audit.add_with(
                connection,
                at,
                "anchor-confirmed",
                issuer=enrolment.issuer_id,
                patient=enrolment.patient,
                program=enrolment.program,
                user=enrolment.confirmed_by,
                anchor_day=enrolment.anchor_day.isoformat(),
                before=None if before is None else before.anchor_day.isoformat(),
                source=enrolment.source,
                charged_on=None if grounds.charged_on is None else grounds.charged_on.isoformat(),
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
