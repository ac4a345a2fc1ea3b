"""What people stated about a patient: attestations, episodes of care where the EHR documents none, how a
reason for review was settled (D38), and each day on which somebody had the 30-day periods begin.

Append-only: taking a statement back is a row of its own.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, tzinfo
from typing import Generic, TypeVar

import msgspec
from sqlalchemy import Connection, bindparam, insert, select
from sqlalchemy.exc import IntegrityError

from fhir_mappings.local_time import Window
from fhir_mappings.record import Attestation, EpisodeOfCare, Resolution
from fhir_mappings.vocabulary import Program, Unverified
from smartapp.store.audit import AuditTrail
from smartapp.store.database import Database
from smartapp.store.tables import ATTESTATIONS
from smartapp.store.vault import Vault, place

STATED, EPISODE, SETTLED, ANCHOR, REVOKED = "stated", "episode", "settled", "anchor", "revoked"
Facts = str | int | bool | None
_OF_PATIENT = (
    select(ATTESTATIONS)
    .where(
        ATTESTATIONS.c.issuer_id == bindparam("issuer"),
        ATTESTATIONS.c.patient == bindparam("whose"),
        ATTESTATIONS.c.state.in_((bindparam("wanted"), REVOKED)),
    )
    .order_by(ATTESTATIONS.c.position)
)
_STANDING = select(ATTESTATIONS.c.attestation_id, ATTESTATIONS.c.state).where(
    ATTESTATIONS.c.issuer_id == bindparam("issuer"),
    ATTESTATIONS.c.patient == bindparam("whose"),
    ATTESTATIONS.c.state != ANCHOR,
)


class Statement(msgspec.Struct, frozen=True, kw_only=True):
    """Who stated what, for which codes and which days; without codes or days, for all of them."""

    statement: Unverified
    codes: tuple[str, ...] = ()
    window: Window | None = None
    by: str
    by_name: str = ""

    @property
    def attestation(self) -> Attestation:
        """As the rules read it."""
        return Attestation(str(self.statement), frozenset(self.codes), self.window)


class ConfirmedEpisode(msgspec.Struct, frozen=True, kw_only=True):
    """Who confirmed from when to when one episode of care of a program ran. `end` is None while it runs."""

    program: Program
    start: date
    end: date | None = None
    source: str
    """What they know it from."""
    by: str
    by_name: str = ""


class Settlement(msgspec.Struct, frozen=True, kw_only=True):
    """Who settled a reason for review, by which sentence or choice; without codes or days, for all of them.

    `until`: the last date of service for which it holds. `says`: the sentence as it stood when it was
    confirmed, which the table may word otherwise later.
    """

    resolves: str
    says: str
    codes: tuple[str, ...] = ()
    window: Window | None = None
    choice: str | None = None
    reference: str = ""
    until: date | None = None
    by: str
    by_name: str = ""

    @property
    def last_day(self) -> date | None:
        """The last day that it is about; None where it has no end."""
        of_window = None if self.window is None else self.window.end
        return min((end for end in (self.until, of_window) if end is not None), default=None)

    def resolution(self, at: datetime, zone: tzinfo) -> Resolution:
        """As the rules read it."""
        return Resolution(
            self.resolves,
            frozenset(self.codes),
            self.window,
            self.choice,
            self.reference,
            self.until,
            self.by,
            at.astimezone(zone).date(),
        )


class Grounds(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody was shown, and stated, when they had the periods begin on a day."""

    found: date | None = None
    """The day on which they began until then, whatever it rested on."""
    charged_on: date | None = None
    """The date of service of a device charge in another system."""
    says: str = ""
    """The statement that was confirmed, as it stood then."""


NO_GROUNDS = Grounds()


class AnchorSet(msgspec.Struct, frozen=True, kw_only=True):
    """Who had a program's periods begin on which day, and why. What stands is the enrolment; this is how it
    came about, and is never taken back."""

    program: str
    day: date
    before: date | None = None
    """The day that was confirmed until then."""
    source: str
    grounds: Grounds = NO_GROUNDS
    by: str
    by_name: str = ""

    @property
    def instead_of(self) -> date | None:
        """The day on which the periods began until then."""
        return self.before or self.grounds.found


class _Revocation(msgspec.Struct, frozen=True, kw_only=True):
    by: str
    by_name: str = ""


Content = TypeVar("Content", Statement, ConfirmedEpisode, Settlement, AnchorSet)


@dataclass(frozen=True, slots=True)
class Stated(Generic[Content]):
    """What was stated, and who took it back, where somebody did."""

    id: str
    at: datetime
    content: Content
    revoked_at: datetime | None = None
    revoked_by: str | None = None
    revoked_by_name: str = ""

    @property
    def stands(self) -> bool:
        return self.revoked_at is None


def episode_of(stated: Stated[ConfirmedEpisode]) -> EpisodeOfCare:
    """As the rules read it."""
    content = stated.content
    return EpisodeOfCare(f"urn:uuid:{stated.id}", content.start, content.end, content.program)


class AttestationStore:
    """The statements of one database."""

    def __init__(self, database: Database, vault: Vault, audit: AuditTrail) -> None:
        self._database = database
        self._vault = vault
        self._audit = audit

    def state(self, issuer_id: str, patient: str, content: Statement, now: datetime, **facts: Facts) -> str:
        """Keep a statement; its id."""
        window = content.window
        said: dict[str, Facts] = {
            "statement": str(content.statement),
            "codes": ", ".join(content.codes),
            "window": None if window is None else f"{window.start}/{window.end}",
        }
        return self._keep(issuer_id, patient, STATED, content, now, "attested", said | facts)

    def confirm_episode(
        self, issuer_id: str, patient: str, content: ConfirmedEpisode, now: datetime, **facts: Facts
    ) -> str:
        """Keep a confirmed episode of care; its id."""
        said: dict[str, Facts] = {
            "program": str(content.program),
            "episode": f"{content.start}/{content.end or ''}",
            "source": content.source,
        }
        return self._keep(issuer_id, patient, EPISODE, content, now, "episode-confirmed", said | facts)

    def settle(self, issuer_id: str, patient: str, content: Settlement, now: datetime, **facts: Facts) -> str:
        """Keep how a reason for review was settled; its id."""
        window = content.window
        said: dict[str, Facts] = {
            "settles": content.resolves,
            "codes": ", ".join(content.codes),
            "window": None if window is None else f"{window.start}/{window.end}",
            "choice": content.choice,
            "until": None if content.until is None else content.until.isoformat(),
        }
        return self._keep(issuer_id, patient, SETTLED, content, now, "review-settled", said | facts)

    def revoke(
        self,
        issuer_id: str,
        patient: str,
        attestation_id: str,
        by: str,
        by_name: str,
        now: datetime,
        *,
        kind: str,
        **facts: Facts,
    ) -> bool:
        """Take back what was STATED, confirmed as an EPISODE or SETTLED: `kind` says which, since not
        everybody may take back each. False where this patient has no such thing, or it was taken back."""
        if attestation_id not in self.standing(issuer_id, patient, kind):
            return False
        content = _Revocation(by=by, by_name=by_name)
        try:
            self._keep(
                issuer_id, patient, REVOKED, content, now, "attestation-revoked", facts, attestation_id
            )
        except IntegrityError:
            return False
        return True

    def of_patient(self, issuer_id: str, patient: str) -> tuple[Stated[Statement], ...]:
        """Every statement, the latest first, those that were taken back included."""
        return self._all(issuer_id, patient, STATED, Statement)

    def episodes(self, issuer_id: str, patient: str) -> tuple[Stated[ConfirmedEpisode], ...]:
        """Every confirmed episode, the latest first, those that were taken back included."""
        return self._all(issuer_id, patient, EPISODE, ConfirmedEpisode)

    def settlements(self, issuer_id: str, patient: str) -> tuple[Stated[Settlement], ...]:
        """Every settled reason for review, the latest first, those that were taken back included."""
        return self._all(issuer_id, patient, SETTLED, Settlement)

    def anchors(self, issuer_id: str, patient: str) -> tuple[Stated[AnchorSet], ...]:
        """Every time somebody had the periods begin on a day, the latest first."""
        return self._all(issuer_id, patient, ANCHOR, AnchorSet)

    def standing(self, issuer_id: str, patient: str, kind: str | None = None) -> frozenset[str]:
        """The ids of what stands and can be taken back, or of those of one kind. Nothing is unsealed."""
        with self._database.read() as connection:
            rows = connection.execute(_STANDING, {"issuer": issuer_id, "whose": patient}).all()
        revoked = {row.attestation_id for row in rows if row.state == REVOKED}
        made = {row.attestation_id for row in rows if kind is None or row.state == kind}
        return frozenset(made - revoked)

    def _keep(
        self,
        issuer_id: str,
        patient: str,
        state: str,
        content: Statement | ConfirmedEpisode | Settlement | _Revocation,
        now: datetime,
        event: str,
        facts: Mapping[str, Facts],
        attestation_id: str | None = None,
    ) -> str:
        """One row with its audit entry, both or none."""
        attestation_id = attestation_id or str(uuid.uuid4())
        with self._database.write() as connection:
            _insert(connection, self._vault, attestation_id, issuer_id, patient, state, content, now)
            self._audit.add_with(
                connection,
                now,
                event,
                issuer=issuer_id,
                patient=patient,
                user=content.by,
                attestation=attestation_id,
                **facts,
            )
        return attestation_id

    def _all(
        self, issuer_id: str, patient: str, state: str, type_: type[Content]
    ) -> tuple[Stated[Content], ...]:
        with self._database.read() as connection:
            whose = {"issuer": issuer_id, "whose": patient, "wanted": state}
            rows = connection.execute(_OF_PATIENT, whose).all()
        found: dict[str, Stated[Content]] = {}
        for row in rows:
            bound_to = place(ATTESTATIONS.c.sealed, row)
            if row.state == state:
                content = self._vault.unseal_record(row.sealed, bound_to, type_)
                found[row.attestation_id] = Stated(row.attestation_id, row.created_at, content)
            elif (stated := found.get(row.attestation_id)) is not None:
                revocation = self._vault.unseal_record(row.sealed, bound_to, _Revocation)
                found[row.attestation_id] = Stated(
                    stated.id, stated.at, stated.content, row.created_at, revocation.by, revocation.by_name
                )
        return tuple(reversed(found.values()))


def keep_anchor(
    connection: Connection, vault: Vault, issuer_id: str, patient: str, content: AnchorSet, now: datetime
) -> None:
    """How an anchor day came about, in the transaction that sets it."""
    _insert(connection, vault, str(uuid.uuid4()), issuer_id, patient, ANCHOR, content, now)


def _insert(
    connection: Connection,
    vault: Vault,
    attestation_id: str,
    issuer_id: str,
    patient: str,
    state: str,
    content: msgspec.Struct,
    now: datetime,
) -> None:
    named = {"attestation_id": attestation_id, "issuer_id": issuer_id, "patient": patient, "state": state}
    sealed = vault.seal_record(content, place(ATTESTATIONS.c.sealed, named))
    connection.execute(insert(ATTESTATIONS).values(**named, sealed=sealed, created_at=now))
