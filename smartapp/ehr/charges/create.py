"""Writes one accepted charge to the EHR, once.

The order is what makes it once: the outbox row is committed before anything leaves; the EHR's own charges
are read again and stand in the way if they overlap; the create is conditional on our identifier; the answer
is read back. Without an answer the EHR is asked for the identifier; where it cannot be asked, the charge is
unknown and a person must look. A write is never repeated blindly.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import re
import secrets
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta
from enum import Enum
from threading import Lock
from typing import Any

import msgspec

from fhir_mappings.charge_item import conflicting
from fhir_mappings.chart import Chart
from fhir_mappings.decision import Decision
from fhir_mappings.record import PriorCharge
from fhir_mappings.rules.tables import Kind
from launch.errors import HttpError, HttpProblem, LaunchError
from launch.http import MEGABYTE, Limits, Response
from launch.ports import Clock, LaunchSession
from launch.scopes import Interaction, Scopes
from launch.tokens import SessionClient
from smartapp.config import Settings
from smartapp.ehr.reading.display import decode
from smartapp.ehr.reading.findings import Findings, evidence_of
from smartapp.ehr.reading.fresh import FreshLook, Present, essence, moved
from smartapp.ehr.reading.own_record import own_differences
from smartapp.ehr.reading.reader import NOT_ALLOWED, READ_LIMITS
from smartapp.ehr.wire.bundles import (
    Entry,
    NotAPage,
    SearchPage,
    declared,
    judged,
    look,
    read_target,
    search,
    search_page,
)
from smartapp.ehr.wire.patient_scope import Whose
from smartapp.ehr.wire.sending import Fate, limits_of_writes, send
from smartapp.site import Site
from smartapp.store import Store
from smartapp.store.charges import Approval, Charge, ChargeContent, ChargeState, Enrolment
from smartapp.store.reading import Snapshot

log = logging.getLogger(__name__)

CAPABILITY_LIFE = 3600.0
CAPABILITY_LIMITS = Limits(connect=5.0, read=20.0, total=30.0, max_bytes=16 * MEGABYTE)
MOST_PAGES = 50
SETTLED_AFTER = timedelta(minutes=10)
"""A write that the EHR does not hold this long after it was sent did not arrive."""
POLL_SECONDS = 0.2
_NOT_MODIFIED = frozenset({304})
"""How some servers answer a conditional create that finds its charge."""
_GONE = frozenset({404, 410})
_ID_IN_LOCATION = re.compile(r"(?:^|/)ChargeItem/([A-Za-z0-9\-._]{1,255})(?:/_history/[^/]+)?/?$")


@dataclass(frozen=True, slots=True)
class Capability:
    """What /metadata says of ChargeItem. A hint: the first real answer wins."""

    create: bool = False
    conditional_create: bool = False
    update_create: bool = False
    search_by_identifier: bool = False


class Step(Enum):
    """How an attempt to write ended."""

    WRITTEN = "written"
    MOVED = "moved"
    """The chart is not what the page showed; nothing was written."""
    OVERLAPS = "overlaps"
    """The EHR holds a charge that this one would repeat; nothing was written."""
    LOCKED = "locked"
    """Its month is certified: closed for changes from here; nothing was written."""
    AWAITING = "awaiting"
    """Accepted; a second person must approve it before it is sent."""
    DECLINED = "declined"
    WITHDRAWN = "withdrawn"
    """It was written, and has been taken back since."""
    BUSY = "busy"
    """Somebody else is writing it at this moment."""
    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Result:
    """What became of it; `differences` are sentences for MOVED, OVERLAPS and LOCKED. `before`, `now`: where
    the answer moved, the decision as it was shown, and as it is now."""

    step: Step
    charge: Charge | None = None
    differences: tuple[str, ...] = ()
    before: Decision | None = None
    now: Decision | None = None


@dataclass(frozen=True, slots=True)
class Acceptance:
    """A clinician's decision to charge: the decision as shown, what was confirmed, what is to be written."""

    session: LaunchSession
    snapshot: Snapshot
    findings: Findings
    decision: Decision
    attested: tuple[str, ...]
    resource: dict[str, Any]

    @property
    def present(self) -> Present:
        return Present(self.session, self.snapshot, self.findings)


class ChargeWriter:
    """The ladder's rung for EHRs with a ChargeItem API."""

    def __init__(self, settings: Settings, site: Site, store: Store, clock: Clock, fresh: FreshLook) -> None:
        self._settings = settings
        self._site = site
        self._store = store
        self._clock = clock
        self._fresh = fresh
        self._lease = settings.job_lease * 3
        self._limits = limits_of_writes(settings)
        self._lock = Lock()
        self._capabilities: dict[str, tuple[float, Capability]] = {}

    def capability(self, client: SessionClient) -> Capability:
        """What this EHR declares; nothing declared where it could not be asked. Kept for an hour."""
        base = client.issuer.fhir_base
        with self._lock:
            kept = self._capabilities.get(base)
        if kept is not None and time.monotonic() - kept[0] < CAPABILITY_LIFE:
            return kept[1]
        response = client.fhir("GET", "metadata", limits=CAPABILITY_LIMITS)
        found = parse_capability(response.body) if response.ok else Capability()
        with self._lock:
            self._capabilities[base] = (time.monotonic(), found)
        return found

    def accept(self, client: SessionClient, acceptance: Acceptance) -> Result:
        """Write the charge, or say why not. Raises HttpError and LaunchError only where nothing was sent."""
        charge = self.prepared(acceptance)
        holder = secrets.token_hex(12)
        if not self._store.charges.claim(charge, holder, self._clock.now(), self._lease):
            return self._wait_for_the_other(client, acceptance.session, charge.identifier)
        kept = self._store.charges.get(charge.identifier) or charge
        if kept.state is not ChargeState.PREPARED:
            return self._resume(client, acceptance.session, kept, holder)
        try:
            stopped = self.what_stands_in_the_way(client, acceptance, charge)
        except BaseException:
            self._store.charges.withdraw_preparation(charge.identifier, holder)
            raise
        if stopped is not None:
            self._store.charges.withdraw_preparation(charge.identifier, holder)
            return stopped
        if self._site.second_approval:
            return self._await_approval(charge, holder)
        return self._send(client, acceptance.session, charge, holder)

    def approve(self, client: SessionClient, approver: Acceptance, charge: Charge) -> Result:
        """A second person's yes to a charge that awaits it: the same guards run again, then it is written.

        `approver`: the second person's session, snapshot and the decision it holds now; of the charge itself
        nothing is taken from there. Raises HttpError and LaunchError only where nothing was sent.
        """
        session, holder = approver.session, secrets.token_hex(12)
        if not self._store.charges.claim_approval(charge.identifier, holder, self._clock.now(), self._lease):
            return self._wait_for_the_other(client, session, charge.identifier, _UNDER_APPROVAL)
        try:
            stopped = self._what_changed_since_accepted(approver, charge) or self.what_stands_in_the_way(
                client, approver, charge
            )
            if stopped is not None:
                self._store.charges.release_approval(charge.identifier, holder)
                return stopped
            self.capability(client)
        except BaseException:
            self._store.charges.release_approval(charge.identifier, holder)
            raise
        now = self._clock.now()
        approval = Approval(session.fhir_user or "", name_of_user(session, approver.findings), now)
        approved = replace(charge, content=msgspec.structs.replace(charge.content, approval=approval))
        facts = self._facts(charge, session)
        if not self._store.charges.approve(approved, holder, now, **facts):
            return Result(Step.BUSY, self._store.charges.get(charge.identifier))
        return self._send(client, session, approved, holder)

    def decline(self, session: LaunchSession, findings: Findings, charge: Charge, reason: str) -> Result:
        """A no, with its reason: the charge is not sent, and may be accepted anew."""
        now = self._clock.now()
        approval = Approval(session.fhir_user or "", name_of_user(session, findings), now, reason)
        declined = replace(charge, content=msgspec.structs.replace(charge.content, approval=approval))
        self._store.charges.decline(declined, now, **self._facts(charge, session))
        kept = self._store.charges.get(charge.identifier) or declined
        return Result(_STEPS[kept.state], kept)

    def write_prepared(self, client: SessionClient, session: LaunchSession, charge: Charge) -> Result:
        """Write a charge that was confirmed before, unless something overlaps it: of a replacement, the
        second half. What its evidence is now, the caller has looked at."""
        holder = secrets.token_hex(12)
        if not self._store.charges.claim(charge, holder, self._clock.now(), self._lease):
            return self._wait_for_the_other(client, session, charge.identifier)
        kept = self._store.charges.get(charge.identifier) or charge
        if kept.state is not ChargeState.PREPARED:
            return self._resume(client, session, kept, holder)
        try:
            stopped = self._locked(charge)
            if stopped is None:
                others = self._other_charges(client, session, charge)
                overlaps = self._overlaps(decision_of(charge), others or {}, charge)
                stopped = Result(Step.OVERLAPS, None, overlaps) if overlaps else None
        except BaseException:
            self._store.charges.withdraw_preparation(charge.identifier, holder)
            raise
        if stopped is not None:
            self._store.charges.withdraw_preparation(charge.identifier, holder)
            return stopped
        return self._send(client, session, charge, holder)

    def look_up(self, client: SessionClient, session: LaunchSession, charge: Charge) -> Result:
        """What became of a charge that was sent: asked of the EHR, never sent again."""
        if charge.state in {ChargeState.SENT, ChargeState.UNKNOWN}:
            found = self._find(client, session, charge)
            if isinstance(found, str):
                return self._confirm(client, session, charge, found)
        return Result(_STEPS[charge.state], charge)

    def prepared(self, acceptance: Acceptance) -> Charge:
        """The outbox row: all that is written and kept, gathered before anything leaves."""
        session, decision = acceptance.session, acceptance.decision
        service_date = decision.service_date or decision.period.end
        content = ChargeContent(
            resource=acceptance.resource,
            decision=decision.key,
            attested=acceptance.attested,
            service_date=service_date,
            confirmed_by=session.fhir_user or "",
            confirmed_by_name=name_of_user(session, acceptance.findings),
            confirmed_by_subject=subject_of(session),
            session_id=session.id,
            snapshot_id=acceptance.snapshot.id,
            snapshot_sha256=acceptance.snapshot.sha256,
            keep_until=years_later(service_date, self._settings.retention_years),
            anchor=self._anchor(acceptance),
            evidence=self._evidence(acceptance),
        )
        return Charge(
            identifier=identifier_token(acceptance.resource),
            issuer_id=session.issuer_id,
            patient=session.patient or "",
            code=decision.code,
            state=ChargeState.PREPARED,
            charge_item=None,
            problem=None,
            changed_at=self._clock.now(),
            content=content,
        )

    # Before the write

    def what_stands_in_the_way(
        self,
        client: SessionClient,
        acceptance: Acceptance,
        charge: Charge,
        instead_of: str | None = None,
    ) -> Result | None:
        """Read prior charges and what changed in the chart again: anything that overlaps, or moved the
        answer, stops the write; so does a certified month. What is found then is what the session has read
        from now on. `instead_of`: a charge that is taken back for this one, by reference."""
        if (locked := self._locked(charge)) is not None:
            return locked
        others = self._other_charges(client, acceptance.session, charge)
        beside = {name: held for name, held in (others or {}).items() if name != instead_of}
        if overlaps := self._overlaps(acceptance.decision, beside, charge):
            return Result(Step.OVERLAPS, None, overlaps)
        own = own_differences(
            self._store,
            charge.issuer_id,
            charge.patient,
            acceptance.findings,
            evidence_of(acceptance.decision),
        )
        decision = acceptance.decision
        fresh = self._fresh.of(acceptance.present)
        told = (
            *charge_differences(acceptance.findings, others),
            *moved(acceptance.present, decision, fresh, acceptance.attested),
            *own,
        )
        if not told:
            return None
        self._fresh.keep(acceptance.session, fresh)
        now = fresh.findings.decision(decision.key)
        return Result(Step.MOVED, None, tuple(dict.fromkeys(told)), decision, now)

    def _locked(self, charge: Charge) -> Result | None:
        """Stops what lies in a certified month."""
        sentence = self.locked_sentence(charge.issuer_id, charge.patient, [service_date_of(charge)])
        return None if sentence is None else Result(Step.LOCKED, None, (sentence,))

    def locked_sentence(self, issuer_id: str, patient: str, days: Iterable[date]) -> str | None:
        """Says which month of these days is certified; None if none is, or the site certifies none."""
        if not self._site.lock_certified_months:
            return None
        month = self._store.months.certified(issuer_id, patient, days)
        if month is None:
            return None
        return f"{month:%B %Y} is certified for this patient: closed for changes until it is reopened."

    def _what_changed_since_accepted(self, approver: Acceptance, charge: Charge) -> Result | None:
        """A second person approves what was accepted, not what the record has become since."""
        accepted, now = msgspec.json.decode(charge.content.evidence, type=_Evidence), approver.decision
        differences = []
        if essence(accepted.decision) != essence(now):
            differences.append("The record earns something else now than what was accepted.")
        versions = approver.findings.versions
        differences += [
            f"{record.reference} was changed since the charge was accepted."
            for record in accepted.records
            if record.reference in versions and versions[record.reference] != record.version
        ]
        return Result(Step.MOVED, None, tuple(differences)) if differences else None

    def _await_approval(self, charge: Charge, holder: str) -> Result:
        facts = self._facts(charge, None) | {"snapshot": charge.content.snapshot_id}
        self._store.charges.mark_awaiting(charge.identifier, holder, self._clock.now(), **facts)
        kept = self._store.charges.get(charge.identifier)
        return Result(Step.AWAITING, kept)

    def _facts(
        self, charge: Charge, session: LaunchSession | None, *, sent: bool = False
    ) -> dict[str, str | int | bool | None]:
        """What every audit entry on a charge says; `session`: who acts, None if the one who accepted.

        `sent`: it was this person's press that sent it, which is told where somebody else had accepted it.
        """
        content = charge.content
        user = content.confirmed_by if session is None else session.fhir_user
        facts: dict[str, str | int | bool | None] = {
            "issuer": charge.issuer_id,
            "patient": charge.patient,
            "user": user,
            "accepted_by": content.confirmed_by,
            "session": content.session_id if session is None else session.id,
            "code": charge.code,
            "decision": content.decision,
            "identifier": charge.identifier,
            "rules_version": msgspec.json.decode(content.evidence, type=_Evidence).rules_version,
        }
        return facts | {"sent_by": user} if sent and user != content.confirmed_by else facts

    def _overlaps(
        self, decision: Decision, others: Mapping[str, HeldCharge], charge: Charge
    ) -> tuple[str, ...]:
        """Sentences on every charge of the same family in the same time, the EHR's and our own under way."""
        prior = (*self._charges_among(others.values(), charge.patient), *self._under_way(charge))
        return tuple(map(_overlap_sentence, conflicting(decision, prior)))

    def overlap_sentences(self, charge: Charge, bodies: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
        """Sentences on charges, by reference and body, that this one would repeat."""
        others = {
            name: HeldCharge(name, dict(body), "")
            for name, body in bodies.items()
            if not carries(body, charge.identifier)
        }
        return self._overlaps(decision_of(charge), others, charge)

    def _other_charges(
        self, client: SessionClient, session: LaunchSession, charge: Charge
    ) -> dict[str, HeldCharge] | None:
        """What the EHR holds now, this very charge left out; None if it does not say."""
        present = self.present_charges(client, session)
        if present is None:
            return None
        return {name: held for name, held in present.items() if not carries(held.body, charge.identifier)}

    def present_charges(self, client: SessionClient, session: LaunchSession) -> dict[str, HeldCharge] | None:
        """Every ChargeItem of the patient, now; None where this EHR does not list them.

        Raises HttpError if they cannot be read to the end.
        """
        if not Scopes.parse(session.granted_scope).can("ChargeItem", Interaction.SEARCH):
            return None
        parameters = [("patient", session.patient or ""), ("_count", "200")]
        response = search(client, "ChargeItem", parameters, limits=READ_LIMITS)
        found: dict[str, HeldCharge] = {}
        foreign = 0
        for _ in range(MOST_PAGES):
            if response.status in NOT_ALLOWED:
                return None
            page = _whole_page(response)
            for entry in page.entries:
                held = _held_charge(entry, session.patient or "", client.issuer.fhir_base)
                if held is Whose.FOREIGN:
                    foreign += 1
                elif not isinstance(held, Whose):
                    found[held.name] = held
            if page.next_url is None:
                self._tell_of_foreign(session, foreign)
                return found
            response = client.fhir("GET", page.next_url, limits=READ_LIMITS)
        raise HttpError(HttpProblem.TOO_LARGE, host=response.host, request_id=response.request_id)

    def _tell_of_foreign(self, session: LaunchSession, count: int) -> None:
        """Charges of another patient among this one's: dropped, and told to whoever runs this."""
        if not count:
            return
        log.warning("issuer %s: charges of another patient dropped: %d", session.issuer_id, count)
        self._store.audit.add(
            self._clock.now(),
            "foreign-dropped",
            issuer=session.issuer_id,
            patient=session.patient,
            user=session.fhir_user,
            session=session.id,
            type="ChargeItem",
            count=count,
        )

    def _charges_among(self, held: Iterable[HeldCharge], patient: str) -> tuple[PriorCharge, ...]:
        """Those that are charges of remote monitoring, with the days they stand for."""
        chart = Chart(self._site.terminology, self._site.zone, self._site.today(self._clock.now()))
        chart.add(msgspec.json.encode({"resourceType": "Patient", "id": patient}))
        for charge in held:
            chart.add(msgspec.json.encode({**charge.body, "subject": {"reference": f"Patient/{patient}"}}))
        return chart.record(f"Patient/{patient}").charges

    def _under_way(self, charge: Charge) -> tuple[PriorCharge, ...]:
        """Our own other charges that are neither written nor refused yet."""
        rows = self._store.charges.of_patient(charge.issuer_id, charge.patient)
        sent = [
            HeldCharge("", {**row.content.resource, "id": f"being-written-{number}"}, "")
            for number, row in enumerate(rows)
            if row.identifier != charge.identifier and row.state in _UNDER_WAY
        ]
        return self._charges_among(sent, charge.patient)

    # The write

    def _send(self, client: SessionClient, session: LaunchSession, charge: Charge, holder: str) -> Result:
        """Commit that it leaves, send it, and understand the answer."""
        capability = self.capability(client)
        lock = service_date_of(charge) if self._site.lock_certified_months else None
        if not self._store.charges.mark_sent(charge.identifier, holder, self._clock.now(), lock):
            return self._locked(charge) or Result(Step.BUSY, self._store.charges.get(charge.identifier))
        sent = replace(charge, state=ChargeState.SENT)
        answer = send(lambda: self._write(client, session, charge, capability), _NOT_MODIFIED)
        if answer.fate is Fate.REFUSED:
            return self._refused(session, charge, holder, answer.problem)
        if answer.fate is Fate.IN_DOUBT or answer.response is None:
            return self._in_doubt(client, session, sent, holder, answer.problem)
        logical_id = _id_of(answer.response)
        if logical_id is None:
            return self._in_doubt(client, session, sent, holder, "The EHR did not say which charge it made.")
        return self._confirm(client, session, sent, logical_id, sent=True)

    def _write(
        self, client: SessionClient, session: LaunchSession, charge: Charge, capability: Capability
    ) -> Response:
        """One request. A conditional create where the EHR has it, else our own id, else a plain create."""
        resource = charge.content.resource
        headers = {"Prefer": "return=representation"}
        may_update = Scopes.parse(session.granted_scope).can("ChargeItem", Interaction.UPDATE)
        if capability.update_create and may_update and not capability.conditional_create:
            # Only without conditional create: a PUT would overwrite what the EHR did with the charge.
            own_id = _own_id(charge.identifier)
            body = msgspec.json.encode({**resource, "id": own_id})
            return client.fhir("PUT", f"ChargeItem/{own_id}", body=body, headers=headers, limits=self._limits)
        headers["If-None-Exist"] = f"identifier={charge.identifier}"
        return client.fhir(
            "POST", "ChargeItem", body=msgspec.json.encode(resource), headers=headers, limits=self._limits
        )

    def _refused(self, session: LaunchSession, charge: Charge, holder: str, problem: str) -> Result:
        now = self._clock.now()
        self._store.charges.mark_refused(charge.identifier, holder, now, problem)
        self._store.audit.add(now, "charge-refused", **self._facts(charge, session, sent=True))
        return Result(Step.REFUSED, self._store.charges.get(charge.identifier))

    # Without an answer

    def _in_doubt(
        self, client: SessionClient, session: LaunchSession, charge: Charge, holder: str, problem: str
    ) -> Result:
        """It was sent: ask the EHR for our identifier. Whatever it cannot say stays unknown."""
        try:
            found = self._find(client, session, charge)
        except (HttpError, LaunchError):
            found = None
        if isinstance(found, str):
            return self._confirm(client, session, charge, found, sent=True)
        now = self._clock.now()
        self._store.charges.mark_unknown(charge.identifier, holder, now, problem)
        self._store.audit.add(now, "charge-unknown", **self._facts(charge, session, sent=True))
        return Result(Step.UNKNOWN, self._store.charges.get(charge.identifier))

    def ask_again(self, client: SessionClient, session: LaunchSession, charge: Charge) -> Result:
        """Somebody pressed on a charge whose fate is open: find it, or send it where that is safe."""
        holder = secrets.token_hex(12)
        if charge.state not in {ChargeState.SENT, ChargeState.UNKNOWN} or not self._store.charges.claim(
            charge, holder, self._clock.now(), self._lease
        ):
            return self._wait_for_the_other(client, session, charge.identifier)
        return self._resume(client, session, charge, holder)

    def _resume(self, client: SessionClient, session: LaunchSession, charge: Charge, holder: str) -> Result:
        """Somebody sent this before and did not live to see the answer, or got none."""
        found = self._find(client, session, charge)
        if isinstance(found, str):
            return self._confirm(client, session, charge, found)
        absent = found is False
        settled = charge.changed_at + SETTLED_AFTER <= self._clock.now()
        problem = charge.problem or "The EHR gave no answer."
        if absent and (locked := self._locked(charge)) is not None:
            problem = "It was not sent again. " + " ".join(locked.differences)
        elif absent and (self.capability(client).conditional_create or settled):
            others = self._other_charges(client, session, charge)
            overlaps = self._overlaps(decision_of(charge), others or {}, charge)
            if not overlaps:
                # As it was sent before: what somebody confirmed then is what is written.
                return self._send(client, session, charge, holder)
            problem = "It was not sent again. " + " ".join(overlaps)
        self._store.charges.mark_unknown(charge.identifier, holder, charge.changed_at, problem)
        self._store.audit.add(self._clock.now(), "charge-unknown", **self._facts(charge, session))
        return Result(Step.UNKNOWN, self._store.charges.get(charge.identifier))

    def _wait_for_the_other(
        self,
        client: SessionClient,
        session: LaunchSession,
        identifier: str,
        on_the_way: frozenset[Step] = frozenset({Step.BUSY}),
    ) -> Result:
        """Another tab, thread or process has it. Wait a little, and look in the EHR meanwhile."""
        until = time.monotonic() + min(10.0, self._lease.total_seconds())
        while True:
            charge = self._store.charges.get(identifier)
            if charge is None:
                return Result(Step.BUSY)
            result = self.look_up(client, session, charge)
            if result.step not in on_the_way or time.monotonic() >= until:
                return result
            time.sleep(POLL_SECONDS)

    def _find(self, client: SessionClient, session: LaunchSession, charge: Charge) -> str | bool | None:
        """The id of our charge in the EHR; False if it certainly holds none; None if it cannot be asked."""
        if not Scopes.parse(session.granted_scope).can("ChargeItem", Interaction.SEARCH):
            return None
        parameters = [("identifier", charge.identifier), ("patient", charge.patient)]
        response = search(client, "ChargeItem", parameters, limits=READ_LIMITS)
        try:
            page = _whole_page(response)
        except HttpError:
            return None
        sure = page.next_url is None
        for entry in page.entries:
            # The server may have ignored the parameter: only what carries our identifier is ours.
            held = _held_charge(entry, charge.patient, client.issuer.fhir_base)
            if isinstance(held, Whose):
                sure = sure and not carries(decode(bytes(entry.resource)), charge.identifier)
            elif carries(held.body, charge.identifier) and isinstance(held.body.get("id"), str):
                return str(held.body["id"])
            elif not held.body:
                sure = False
        return False if sure else None

    # After the write

    def _confirm(
        self,
        client: SessionClient,
        session: LaunchSession,
        charge: Charge,
        logical_id: str,
        *,
        sent: bool = False,
    ) -> Result:
        """Read the charge back, and close the row: packet, enrolment and audit entry with it."""
        read_back = self._read_back(client, charge, logical_id)
        content = charge.content
        packet = msgspec.json.encode(
            {
                "written": content.resource,
                "read_back": None if read_back.body is None else msgspec.Raw(read_back.body),
                "attested": content.attested,
                "confirmed_by": content.confirmed_by,
                "approval": content.approval,
                "snapshot": {"id": content.snapshot_id, "sha256": content.snapshot_sha256},
                "evidence": msgspec.Raw(content.evidence),
            }
        )
        self._store.charges.confirm(
            charge,
            logical_id,
            self._clock.now(),
            packet,
            problem=read_back.problem,
            approved_by=None if content.approval is None else content.approval.by,
            snapshot=content.snapshot_id,
            snapshot_sha256=content.snapshot_sha256,
            attested=", ".join(content.attested),
            read_back="differs" if read_back.differences else "same" if read_back.body else "not possible",
            **self._facts(charge, session, sent=sent),
        )
        return Result(Step.WRITTEN, self._store.charges.get(charge.identifier), read_back.differences)

    def _read_back(self, client: SessionClient, charge: Charge, logical_id: str) -> ReadBack:
        try:
            response = client.fhir("GET", read_target(f"ChargeItem/{logical_id}"))
        except (HttpError, LaunchError):
            return ReadBack(None, ())
        if not response.ok:
            return ReadBack(None, ())
        seen = look(response.body)
        if seen.resourceType != "ChargeItem":
            return ReadBack(None, ())
        differences = _field_differences(charge.content.resource, decode(response.body))
        if seen.whose(charge.patient, client.issuer.fhir_base) is not Whose.OURS:
            differences.append("subject: the EHR holds something else than was sent.")
        return ReadBack(response.body, tuple(differences))

    def _evidence(self, acceptance: Acceptance) -> bytes:
        """Everything an auditor needs to see why this was charged, as one JSON document."""
        wanted = set(evidence_of(acceptance.decision))
        contract = acceptance.findings.contract
        return msgspec.json.encode(
            {
                **{
                    name: contract[name]
                    for name in ("as_of", "timezone", "payer", "rules_version", "completeness")
                },
                **{name: contract[name] for name in ("time_log", "attestations") if name in contract},
                "decision": acceptance.decision,
                "records": [
                    {"reference": item.reference, "version": item.version, "resource": msgspec.Raw(item.raw)}
                    for item in self._store.reading.resources(acceptance.snapshot.id)
                    if item.reference in wanted
                ],
            }
        )

    def _anchor(self, acceptance: Acceptance) -> Enrolment | None:
        """The first day of the 30-day grid this charge rests on; None for a monthly code."""
        decision = acceptance.decision
        policy = self._site.policy
        if policy.code(decision.code).kind not in {Kind.DEVICE_SUPPLY, Kind.START_UP}:
            return None
        starts = [
            other.period.start
            for other in acceptance.findings.assessment.decisions
            if other.program is decision.program
            and policy.code(other.code).kind is Kind.DEVICE_SUPPLY
            and other.period.start <= decision.period.start
        ]
        return Enrolment(
            issuer_id=acceptance.session.issuer_id,
            patient=acceptance.session.patient or "",
            program=decision.program,
            anchor_day=min([*starts, decision.period.start]),
            source="accepted-charge",
            confirmed_by=acceptance.session.fhir_user or "",
            confirmed_at=self._clock.now(),
            frozen=True,
        )


class _Record(msgspec.Struct):
    reference: str
    version: str


class _Evidence(msgspec.Struct):
    decision: Decision
    rules_version: str = ""
    records: list[_Record] = []


@dataclass(frozen=True, slots=True)
class HeldCharge:
    """A ChargeItem the EHR holds now."""

    name: str
    """Its reference; where it has no id, or cannot be read, a name made up from its bytes."""
    body: dict[str, Any]
    version: str


def _held_charge(entry: Entry, patient: str, base: str) -> HeldCharge | Whose:
    """A charge that a search brought, named as the reader names it, so that the two can be compared.

    One that cannot be read has no body: that it is there is known, not what it stands for. Another patient's
    is FOREIGN; NOBODYS is what is no charge.
    """
    if bytes(entry.resource) in (b"", b"null") or (entry.search is not None and entry.search.mode != "match"):
        return Whose.NOBODYS
    found = judged(entry, "ChargeItem", patient, base)
    if found.whose is Whose.FOREIGN or found.type == "OperationOutcome":
        return Whose.FOREIGN if found.whose is Whose.FOREIGN else Whose.NOBODYS
    readable = found.whose is not Whose.UNREADABLE
    return HeldCharge(found.reference, decode(found.raw) if readable else {}, found.version)


def _whole_page(response: Response) -> SearchPage:
    """A page of which nothing is missing. Raises HttpError."""
    try:
        page = search_page(response.require_ok().body)
    except NotAPage:
        raise HttpError(HttpProblem.NOT_JSON, host=response.host, request_id=response.request_id) from None
    if page.cut_off:
        raise HttpError(HttpProblem.TOO_LARGE, host=response.host, request_id=response.request_id)
    return page


@dataclass(frozen=True, slots=True)
class ReadBack:
    """What the EHR holds, and where it is not what was sent."""

    body: bytes | None
    differences: tuple[str, ...]

    @property
    def problem(self) -> str | None:
        """What the clinician should know, although the charge was written."""
        if self.body is None:
            return "The EHR confirmed the charge but did not let it be read back."
        return " ".join(self.differences) or None


_UNDER_WAY = frozenset({ChargeState.PREPARED, ChargeState.AWAITING, ChargeState.SENT, ChargeState.UNKNOWN})
_UNDER_APPROVAL = frozenset({Step.BUSY, Step.AWAITING})
_STEPS = {
    ChargeState.PREPARED: Step.BUSY,
    ChargeState.AWAITING: Step.AWAITING,
    ChargeState.DECLINED: Step.DECLINED,
    ChargeState.WITHDRAWN: Step.WITHDRAWN,
    ChargeState.SENT: Step.BUSY,
    ChargeState.CONFIRMED: Step.WRITTEN,
    ChargeState.UNKNOWN: Step.UNKNOWN,
    ChargeState.REFUSED: Step.REFUSED,
}


def parse_capability(body: bytes) -> Capability:
    """ChargeItem in a CapabilityStatement, read leniently."""
    found = declared(body, "ChargeItem")
    return Capability(
        create="create" in found.interactions,
        conditional_create=found.conditional_create,
        update_create=found.update_create,
        search_by_identifier="search-type" in found.interactions and "identifier" in found.parameters,
    )


def _id_of(response: Response) -> str | None:
    """The logical id of what was created, from `Location` or the body."""
    found = _ID_IN_LOCATION.search(response.headers.get("location", "").split("?", 1)[0])
    if found:
        return found[1]
    seen = look(response.body)
    return seen.id if seen.resourceType == "ChargeItem" else None


def _own_id(identifier: str) -> str:
    """An id of ours for a PUT: from the identifier, so that the same charge always has the same id."""
    return base64.b32encode(hashlib.sha256(identifier.encode()).digest()).decode().rstrip("=").lower()[:40]


def charge_differences(findings: Findings, present: Mapping[str, HeldCharge] | None) -> Iterable[str]:
    """ChargeItems that came, went or changed since the chart was read."""
    if present is None:
        # Where they were not listed before either, the clinician has confirmed that there are none.
        if not any(notice.what == "ChargeItem" for notice in findings.notices):
            yield "The EHR does not list prior charges any more."
        return
    before = {name: version for name, version in findings.versions.items() if name.startswith("ChargeItem/")}
    for name, held in present.items():
        if name not in before:
            yield f"{name} is new since the chart was read."
        elif before[name] != held.version:
            yield f"{name} was changed since the chart was read."
    for name in before.keys() - present.keys():
        yield f"{name} is gone."


def _field_differences(sent: Mapping[str, Any], held: Mapping[str, Any]) -> list[str]:
    """Fields a claim rests on that the EHR holds otherwise than they were sent."""
    fields = ("status", "code", "quantity", "occurrencePeriod", "occurrenceDateTime")
    return [
        f"{name}: the EHR holds something else than was sent."
        for name in fields
        if name in sent and not _same(sent[name], held.get(name))
    ]


def _same(sent: Any, held: Any) -> bool:
    """Whether everything that was sent is held; a server may add to it (a display, a system)."""
    if isinstance(sent, dict):
        return isinstance(held, dict) and all(_same(value, held.get(key)) for key, value in sent.items())
    if isinstance(sent, list):
        return isinstance(held, list) and all(any(_same(item, other) for other in held) for item in sent)
    return bool(sent == held)


def _overlap_sentence(charge: PriorCharge) -> str:
    if charge.resource.startswith("ChargeItem/being-written"):
        return (
            f"A charge of {charge.code} in the same time is being written, awaits approval, or its fate is "
            "unknown."
        )
    return f"{charge.resource} already stands for {charge.code} in this time."


def decision_of(charge: Charge) -> Decision:
    """The decision a row was made from."""
    return msgspec.json.decode(charge.content.evidence, type=_Evidence).decision


def service_date_of(charge: Charge) -> date:
    """The day whose month a charge belongs to."""
    kept = charge.content.service_date
    if kept is not None:
        return kept
    decision = decision_of(charge)
    return decision.service_date or decision.period.end


def subject_of(session: LaunchSession) -> str:
    """The login of a session's user: one and the same for one person, whichever resource names them."""
    return f"{session.user_issuer} {session.user_subject}" if session.user_subject else ""


def name_of_user(session: LaunchSession, findings: Findings) -> str:
    """What the EHR or the chart calls the session's user; empty where neither names them."""
    people = findings.choices.practitioners
    named = next((person.text for person in people if person.reference == session.fhir_user), "")
    return session.user_name or named


def same_person(session: LaunchSession, user: str, subject: str) -> bool:
    """Whether the session's user is the person that `user` (fhirUser) and `subject` name."""
    return session.fhir_user == user or (bool(subject) and subject_of(session) == subject)


def identifier_token(resource: Mapping[str, Any]) -> str:
    """`system|value` of the ChargeItem's identifier: its outbox row's key, and what the EHR is asked."""
    identifier = resource["identifier"][0]
    return f"{identifier['system']}|{identifier['value']}"


def carries(body: Mapping[str, Any], token: str) -> bool:
    """Whether a ChargeItem has that identifier."""
    identifiers = body.get("identifier")
    return isinstance(identifiers, list) and any(
        isinstance(item, dict) and f"{item.get('system')}|{item.get('value')}" == token
        for item in identifiers
    )


def years_later(day: date, years: int) -> date:
    try:
        return day.replace(year=day.year + years)
    except ValueError:  # 29 February
        return day.replace(year=day.year + years, day=28)
