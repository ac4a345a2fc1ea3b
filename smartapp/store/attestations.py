"""What clinicians stated about a patient. Append-only: taking a statement back is a row of its own."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime

import msgspec
from sqlalchemy import insert, select
from sqlalchemy.exc import IntegrityError

from fhir_mappings.local_time import Window
from fhir_mappings.record import Attestation
from fhir_mappings.vocabulary import Unverified
from smartapp.store.audit import AuditTrail
from smartapp.store.database import Database
from smartapp.store.tables import ATTESTATIONS
from smartapp.store.vault import Vault

STATED, REVOKED = "stated", "revoked"


class Statement(msgspec.Struct, frozen=True, kw_only=True):
    """Who stated what, for which codes and which days; without codes or days, for all of them."""

    statement: Unverified
    codes: tuple[str, ...] = ()
    window: Window | None = None
    by: str
    by_name: str = ""


class _Revocation(msgspec.Struct, frozen=True, kw_only=True):
    by: str
    by_name: str = ""


@dataclass(frozen=True, slots=True)
class StoredStatement:
    """A statement, and who took it back, where somebody did."""

    id: str
    at: datetime
    content: Statement
    revoked_at: datetime | None = None
    revoked_by: str | None = None
    revoked_by_name: str = ""

    @property
    def stands(self) -> bool:
        return self.revoked_at is None

    @property
    def attestation(self) -> Attestation:
        """As the rules read it."""
        content = self.content
        return Attestation(str(content.statement), frozenset(content.codes), content.window)


class AttestationStore:
    """The statements of one database."""

    def __init__(self, database: Database, vault: Vault, audit: AuditTrail) -> None:
        self._database = database
        self._vault = vault
        self._audit = audit

    def state(
        self,
        issuer_id: str,
        patient: str,
        content: Statement,
        now: datetime,
        **facts: str | int | bool | None,
    ) -> str:
        """Keep a statement; its id."""
        attestation_id = str(uuid.uuid4())
        with self._database.write() as connection:
            connection.execute(
                insert(ATTESTATIONS).values(
                    attestation_id=attestation_id,
                    issuer_id=issuer_id,
                    patient=patient,
                    state=STATED,
                    sealed=self._vault.seal_record(content),
                    created_at=now,
                )
            )
            self._audit.add_with(
                connection,
                now,
                "attested",
                issuer=issuer_id,
                patient=patient,
                user=content.by,
                attestation=attestation_id,
                statement=str(content.statement),
                codes=", ".join(content.codes),
                window=None if content.window is None else f"{content.window.start}/{content.window.end}",
                **facts,
            )
        return attestation_id

    def revoke(
        self,
        issuer_id: str,
        patient: str,
        attestation_id: str,
        by: str,
        by_name: str,
        now: datetime,
        **facts: str | int | bool | None,
    ) -> bool:
        """Take a statement back. False where this patient has no such statement, or it was taken back."""
        standing = {item.id for item in self.of_patient(issuer_id, patient) if item.stands}
        if attestation_id not in standing:
            return False
        try:
            with self._database.write() as connection:
                connection.execute(
                    insert(ATTESTATIONS).values(
                        attestation_id=attestation_id,
                        issuer_id=issuer_id,
                        patient=patient,
                        state=REVOKED,
                        sealed=self._vault.seal_record(_Revocation(by=by, by_name=by_name)),
                        created_at=now,
                    )
                )
                self._audit.add_with(
                    connection,
                    now,
                    "attestation-revoked",
                    issuer=issuer_id,
                    patient=patient,
                    user=by,
                    attestation=attestation_id,
                    **facts,
                )
        except IntegrityError:
            return False
        return True

    def of_patient(self, issuer_id: str, patient: str) -> tuple[StoredStatement, ...]:
        """Every statement, the latest first, those that were taken back included."""
        with self._database.read() as connection:
            rows = connection.execute(
                select(ATTESTATIONS)
                .where(ATTESTATIONS.c.issuer_id == issuer_id, ATTESTATIONS.c.patient == patient)
                .order_by(ATTESTATIONS.c.position)
            ).all()
        found: dict[str, StoredStatement] = {}
        for row in rows:
            if row.state == STATED:
                content = self._vault.unseal_record(row.sealed, Statement)
                found[row.attestation_id] = StoredStatement(row.attestation_id, row.created_at, content)
            elif (stated := found.get(row.attestation_id)) is not None:
                revocation = self._vault.unseal_record(row.sealed, _Revocation)
                found[row.attestation_id] = StoredStatement(
                    stated.id, stated.at, stated.content, row.created_at, revocation.by, revocation.by_name
                )
        return tuple(reversed(found.values()))

    def standing(self, issuer_id: str, patient: str) -> frozenset[str]:
        """The ids of the statements that stand. Nothing is unsealed."""
        with self._database.read() as connection:
            rows = connection.execute(
                select(ATTESTATIONS.c.attestation_id, ATTESTATIONS.c.state).where(
                    ATTESTATIONS.c.issuer_id == issuer_id, ATTESTATIONS.c.patient == patient
                )
            ).all()
        stated = {row.attestation_id for row in rows if row.state == STATED}
        return frozenset(stated - {row.attestation_id for row in rows if row.state == REVOKED})
