"""Changes a charge that was written: updates it, replaces it by another code, or takes it back. Once.

The order is what makes it safe: the row is committed before anything leaves; the charge is read again, and
written only over the very version that was read (`If-Match`), so that nobody's change is ever overwritten.
Of a replacement the old charge is taken back first: between the two steps there is one live charge too few,
never one too many. Whoever comes after a crash finds the row and goes on from what the EHR holds.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Container, Mapping
from dataclasses import dataclass, replace
from datetime import date
from enum import Enum
from typing import Any

import msgspec

from fhir_mappings.charge_change import TAKEN_BACK
from fhir_mappings.charge_item import IDENTIFIER_SYSTEM
from fhir_mappings.decision import Decision
from fhir_mappings.reconciliation import PLANNED, Change, ChangeKind
from fhir_mappings.vocabulary import ReviewReason
from launch.errors import HttpError, LaunchError
from launch.ports import Clock, LaunchSession
from launch.tokens import SessionClient
from smartapp.config import Settings
from smartapp.ehr.charges.create import (
    POLL_SECONDS,
    Acceptance,
    ChargeWriter,
    Step,
    charge_differences,
    decision_of,
    name_of_user,
    subject_of,
    years_later,
)
from smartapp.ehr.reading.display import decode
from smartapp.ehr.reading.findings import Findings, evidence_of
from smartapp.ehr.reading.fresh import FreshLook, Present, moved, records_moved
from smartapp.ehr.reading.own_record import own_differences
from smartapp.ehr.wire.bundles import look, read_target, version_of
from smartapp.ehr.wire.patient_scope import Whose
from smartapp.ehr.wire.sending import Fate, limits_of_writes, send
from smartapp.site import Site
from smartapp.store import Store
from smartapp.store.changes import ChangeContent, ChangeState, ChargeChange, NewCharge, change_id
from smartapp.store.charges import Approval, Charge, ChargeState
from smartapp.store.reading import Snapshot

_VERSION_CONFLICT = frozenset({409, 412})
NO_VERSION = (
    "This EHR does not number the versions of a charge, so a change of somebody else's could be overwritten. "
    "Change it in the EHR."
)


@dataclass(frozen=True, slots=True)
class Held:
    """A charge as the EHR holds it at this moment."""

    body: dict[str, Any]
    version: str
    etag: str | None
    """What `If-Match` must say; None where the EHR numbers no versions."""


class ChangeStep(Enum):
    """How an attempt to change a charge ended."""

    DONE = "done"
    AWAITING = "awaiting"
    DECLINED = "declined"
    MOVED = "moved"
    """The charge, its evidence or the other charges are not what the page showed; nothing was written."""
    LOCKED = "locked"
    HALF = "half"
    """Of a replacement: the old charge is taken back, the new one is not in the EHR yet."""
    BUSY = "busy"
    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class ChangeResult:
    """What became of it; `differences` are sentences for MOVED and LOCKED."""

    step: ChangeStep
    change: ChargeChange | None = None
    differences: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Order:
    """What a person confirmed: this charge, from this to that, for this reason.

    `change` and `decision` are those of the snapshot; `change` is None where somebody withdraws a charge for
    a reason of their own. `days`: the service dates that are touched. `new`: of a replacement, the ChargeItem
    that comes in its place.
    """

    session: LaunchSession
    snapshot: Snapshot
    findings: Findings
    kind: ChangeKind
    charge_item: str
    held: Held
    after: dict[str, Any]
    said: str
    code: str
    days: tuple[date, ...]
    change: Change | None = None
    decision: Decision | None = None
    new: dict[str, Any] | None = None
    attested: tuple[str, ...] = ()

    @property
    def present(self) -> Present:
        return Present(self.session, self.snapshot, self.findings)


class ChargeChanger:
    """Updates, replacements and withdrawals through the EHR's ChargeItem API."""

    def __init__(
        self,
        settings: Settings,
        site: Site,
        store: Store,
        clock: Clock,
        writer: ChargeWriter,
        fresh: FreshLook,
    ) -> None:
        self._fresh = fresh
        self._settings = settings
        self._site = site
        self._store = store
        self._clock = clock
        self._writer = writer
        self._lease = settings.job_lease * 3
        self._limits = limits_of_writes(settings)

    def held(self, client: SessionClient, charge_item: str) -> Held | None:
        """The charge as the EHR holds it now; None if it holds none. Raises HttpError."""
        response = client.fhir("GET", read_target(f"ChargeItem/{charge_item}"))
        if response.status in {404, 410}:
            return None
        body = response.require_ok().body
        seen = look(body)
        etag = response.headers.get("etag")
        if etag is None and seen.version is not None:
            etag = f'W/"{seen.version}"'
        return Held(decode(body), version_of(seen, body), etag)

    def change(self, client: SessionClient, order: Order) -> ChangeResult:
        """Do what was confirmed, or say why not. Raises HttpError and LaunchError where nothing was sent."""
        change = self._prepared(order)
        holder = secrets.token_hex(12)
        if not self._store.changes.claim(change, holder, self._clock.now(), self._lease):
            return self._wait_for_the_other(change)
        kept = self._get(change)
        if kept.state is not ChangeState.PREPARED:
            return self._resume(client, order.present, kept, holder)
        try:
            stopped = self._what_stands_in_the_way(client, order, change)
        except BaseException:
            self._mark(change, holder, ChangeState.PREPARED)
            raise
        if stopped is not None:
            self._mark(change, holder, ChangeState.STALE, " ".join(stopped.differences))
            return stopped
        if self._site.second_approval and order.kind is not ChangeKind.WITHDRAW:
            self._mark(change, holder, ChangeState.AWAITING, None, "change-awaits-approval", order.session)
            return ChangeResult(ChangeStep.AWAITING, self._get(change))
        return self._send(client, order.present, change, holder)

    def approve(self, client: SessionClient, present: Present, change: ChargeChange) -> ChangeResult:
        """A second person's yes: the same guards run again, then it is written."""
        holder = secrets.token_hex(12)
        if not self._store.changes.claim_approval(change.id, holder, self._clock.now(), self._lease):
            return self._wait_for_the_other(change, {ChangeStep.BUSY, ChangeStep.HALF, ChangeStep.AWAITING})
        try:
            stopped = self._locked(change) or self._what_moved(client, present, change)
        except BaseException:
            self._mark(change, holder, ChangeState.AWAITING)
            raise
        if stopped is not None:
            self._mark(change, holder, ChangeState.AWAITING, " ".join(stopped.differences))
            return stopped
        approval = Approval(
            present.session.fhir_user or "",
            name_of_user(present.session, present.findings),
            self._clock.now(),
        )
        approved = _with_approval(change, approval)
        self._mark(
            approved, holder, ChangeState.AWAITING, None, "change-approved", present.session, keep=True
        )
        return self._send(client, present, approved, holder)

    def decline(
        self, session: LaunchSession, findings: Findings, change: ChargeChange, reason: str
    ) -> ChangeResult:
        """A no, with its reason: nothing is sent."""
        holder = secrets.token_hex(12)
        if not self._store.changes.claim_approval(change.id, holder, self._clock.now(), self._lease):
            return self._wait_for_the_other(change)
        now = self._clock.now()
        approval = Approval(session.fhir_user or "", name_of_user(session, findings), now, reason)
        declined = _with_approval(change, approval)
        self._mark(declined, holder, ChangeState.DECLINED, None, "change-declined", session, reason=reason)
        return ChangeResult(ChangeStep.DECLINED, self._get(change))

    def go_on(self, client: SessionClient, present: Present, change: ChargeChange) -> ChangeResult:
        """Somebody pressed on a change that is not finished: from what the EHR holds now to its end."""
        holder = secrets.token_hex(12)
        if change.state not in {ChangeState.SENT, ChangeState.UNKNOWN, ChangeState.TAKEN_BACK}:
            return self._present(change)
        if not self._store.changes.claim(change, holder, self._clock.now(), self._lease):
            return self._wait_for_the_other(change)
        return self._resume(client, present, self._get(change), holder)

    def leave_at_that(self, session: LaunchSession, change: ChargeChange) -> ChangeResult:
        """Of a replacement whose old charge is taken back: the new one is not written from here any more."""
        self._store.changes.finish(
            change, self._clock.now(), "replacement-left", **self._facts(change, session)
        )
        return self._present(self._get(change))

    # Before the write

    def _prepared(self, order: Order) -> ChargeChange:
        """The row: all that is written and kept, gathered before anything leaves."""
        session, now = order.session, self._clock.now()
        new = None
        rules = order.findings.contract["rules_version"]
        evidence = msgspec.json.encode(
            {"rules_version": rules, "change": order.change, "decision": order.decision}
        )
        if order.new is not None and order.decision is not None:
            charge = self._writer.prepared(self._acceptance(order))
            new = NewCharge(charge.identifier, charge.code, charge.content)
            evidence = charge.content.evidence
        content = ChangeContent(
            code=order.code,
            before=order.held.body,
            before_version=order.held.version,
            before_etag=order.held.etag,
            after=order.after,
            new=new,
            said=order.said,
            reasons=() if order.change is None else tuple(map(str, order.change.reasons)),
            attested=order.attested,
            days=order.days,
            confirmed_by=session.fhir_user or "",
            confirmed_by_name=name_of_user(session, order.findings),
            confirmed_by_subject=subject_of(session),
            session_id=session.id,
            snapshot_id=order.snapshot.id,
            snapshot_sha256=order.snapshot.sha256,
            keep_until=years_later(order.days[0], self._settings.retention_years),
            evidence=evidence,
        )
        return ChargeChange(
            id=change_id(session.issuer_id, order.charge_item, order.held.version),
            issuer_id=session.issuer_id,
            patient=session.patient or "",
            charge_item=order.charge_item,
            kind=order.kind,
            state=ChangeState.PREPARED,
            problem=None,
            changed_at=now,
            content=content,
        )

    def _acceptance(self, order: Order) -> Acceptance:
        assert order.decision is not None
        assert order.new is not None
        return Acceptance(
            order.session, order.snapshot, order.findings, order.decision, order.attested, order.new
        )

    def _what_stands_in_the_way(
        self, client: SessionClient, order: Order, change: ChargeChange
    ) -> ChangeResult | None:
        if not self._is_ours(client, order):
            sentence = f"ChargeItem/{order.charge_item} was not written here, or billing has taken it up."
            return ChangeResult(ChangeStep.MOVED, None, (sentence,))
        if order.held.etag is None:
            return ChangeResult(ChangeStep.MOVED, None, (NO_VERSION,))
        if (locked := self._locked(change)) is not None:
            return locked
        if order.change is None:
            # A withdrawal for a reason of one's own rests on nothing but the charge itself.
            return None
        return self._what_moved(client, order.present, change, order.decision)

    def _is_ours(self, client: SessionClient, order: Order) -> bool:
        """Whether the charge, as the EHR holds it now, was written from here and is still a suggestion.

        Asked once more of the charge itself: whatever led here, nobody else's charge is written.
        """
        session, held = order.session, look(msgspec.json.encode(order.held.body))
        whose = held.whose(session.patient or "", client.issuer.fhir_base)
        if not changeable(order.held.body) or whose is not Whose.OURS:
            return False
        if order.change is not None:
            return order.change.kind is order.kind and bool(own_keys(order.held.body))
        written = self._store.charges.written_keys(session.issuer_id, session.patient or "")
        return bool(written & own_keys(order.held.body))

    def _locked(self, change: ChargeChange) -> ChangeResult | None:
        sentence = self._writer.locked_sentence(change.issuer_id, change.patient, change.content.days)
        return None if sentence is None else ChangeResult(ChangeStep.LOCKED, None, (sentence,))

    def _what_moved(
        self,
        client: SessionClient,
        present: Present,
        change: ChargeChange,
        decision: Decision | None = None,
    ) -> ChangeResult | None:
        """Read the charges and what changed in the chart again: what moved since it was read stops the
        change, and is what the session has read from now on."""
        session, findings = present.session, present.findings
        charges = self._writer.present_charges(client, session)
        differences = [*charge_differences(findings, charges)]
        fresh = self._fresh.of(present)
        new = change.content.new
        attested = change.content.attested
        if new is not None:
            decision = decision or findings.decision(new.content.decision)
            charge = _charge(change)
            if not _still_earned(charge, fresh.findings.decision(new.content.decision)):
                differences.append("The record does not earn the new charge any more.")
            others = {
                name: held.body
                for name, held in (charges or {}).items()
                if name != f"ChargeItem/{change.charge_item}"
            }
            differences += self._writer.overlap_sentences(charge, others)
        elif change.kind is ChangeKind.UPDATE:
            name = f"ChargeItem/{change.charge_item}"
            decision = _charged_by(findings, name)
            now = _charged_by(fresh.findings, name)
            if now is None or now.earned != change.content.after["quantity"]["value"]:
                differences.append("The record does not earn these units any more.")
        if decision is not None:
            # What need not be confirmed again was confirmed with the first charge.
            differences += moved(present, decision, fresh, {*attested, *decision.unverified})
            differences += own_differences(
                self._store, change.issuer_id, change.patient, findings, evidence_of(decision)
            )
        if not differences:
            return None
        self._fresh.keep(session, fresh)
        return ChangeResult(ChangeStep.MOVED, None, tuple(dict.fromkeys(differences)))

    # The write

    def _send(
        self,
        client: SessionClient,
        present: Present,
        change: ChargeChange,
        holder: str,
    ) -> ChangeResult:
        """Commit that it leaves, write it over the version that was read, and understand the answer."""
        locks = self._site.lock_certified_months
        if not self._store.changes.mark(
            change, holder, ChangeState.SENT, self._clock.now(), keep=True, unless_certified=locks
        ):
            locked = self._locked(change)
            if locked is not None:
                self._mark(change, holder, ChangeState.STALE, " ".join(locked.differences))
            return locked or self._present(self._get(change))
        sent = replace(change, state=ChangeState.SENT)
        content = change.content
        answer = send(
            lambda: client.fhir(
                "PUT",
                read_target(f"ChargeItem/{change.charge_item}"),
                body=msgspec.json.encode(content.after),
                headers={"Prefer": "return=representation", "If-Match": content.before_etag or ""},
                limits=self._limits,
            )
        )
        if answer.fate is Fate.TAKEN:
            return self._written(client, present, sent, holder)
        if answer.fate is Fate.IN_DOUBT:
            certain = answer.status in _VERSION_CONFLICT
            return self._in_doubt(client, present, sent, holder, answer.problem, certain=certain)
        return self._refused(present.session, sent, holder, answer.problem)

    def _in_doubt(
        self,
        client: SessionClient,
        present: Present,
        change: ChargeChange,
        holder: str,
        problem: str,
        *,
        certain: bool = False,
    ) -> ChangeResult:
        """Ask the EHR what it holds: our change, the version before it, or somebody else's.

        `certain`: it answered that it did not write this; what it holds tells whether somebody else did.
        """
        try:
            held = self.held(client, change.charge_item)
        except (HttpError, LaunchError):
            self._mark(change, holder, ChangeState.UNKNOWN, problem, "change-unknown", present.session)
            return ChangeResult(ChangeStep.UNKNOWN, self._get(change))
        if held is not None and _holds(change.content.after, held.body):
            return self._written(client, present, change, holder)
        if held is not None and held.version == change.content.before_version:
            if certain:
                return self._refused(present.session, change, holder, problem)
            # It may still be on its way. Sent again it does no harm: only one of the two fits the version.
            self._mark(change, holder, ChangeState.UNKNOWN, problem, "change-unknown", present.session)
            return ChangeResult(ChangeStep.UNKNOWN, self._get(change))
        return self._stale(present.session, change, holder)

    def _stale(self, session: LaunchSession, change: ChargeChange, holder: str) -> ChangeResult:
        sentence = f"ChargeItem/{change.charge_item} was changed by somebody else meanwhile."
        self._mark(change, holder, ChangeState.STALE, sentence, "change-stale", session)
        return ChangeResult(ChangeStep.MOVED, self._get(change), (sentence,))

    def _refused(
        self, session: LaunchSession, change: ChargeChange, holder: str, problem: str
    ) -> ChangeResult:
        self._mark(change, holder, ChangeState.REFUSED, problem, "change-refused", session)
        return ChangeResult(ChangeStep.REFUSED, self._get(change))

    def _resume(
        self,
        client: SessionClient,
        present: Present,
        change: ChargeChange,
        holder: str,
    ) -> ChangeResult:
        """Somebody began this and did not live to see the end, or got no answer."""
        if change.state is ChangeState.TAKEN_BACK:
            return self._second_half(client, present, change, holder)
        held = self.held(client, change.charge_item)
        if held is not None and _holds(change.content.after, held.body):
            return self._written(client, present, change, holder)
        if held is None or held.version != change.content.before_version:
            return self._stale(present.session, change, holder)
        return self._send(client, present, change, holder)

    # After the write

    def _written(
        self,
        client: SessionClient,
        present: Present,
        change: ChargeChange,
        holder: str,
    ) -> ChangeResult:
        """Read the charge back and close the row, or go on to the second half of a replacement."""
        read_back, problem = self._read_back(client, change)
        content = change.content
        packet = msgspec.json.encode(
            {
                "change": change.number,
                "kind": change.kind,
                "charge_item": change.charge_item,
                "before": content.before,
                "written": content.after,
                "read_back": read_back,
                "instead": None if content.new is None else content.new.content.resource,
                "said": content.said,
                "reasons": content.reasons,
                "attested": content.attested,
                "confirmed_by": content.confirmed_by,
                "approval": content.approval,
                "snapshot": {"id": content.snapshot_id, "sha256": content.snapshot_sha256},
                "evidence": msgspec.Raw(content.evidence),
            }
        )
        halves = change.kind is ChangeKind.REPLACE
        self._store.changes.written(
            change,
            ChangeState.TAKEN_BACK if halves else ChangeState.DONE,
            self._clock.now(),
            packet,
            problem,
            "charge-updated" if change.kind is ChangeKind.UPDATE else "charge-taken-back",
            approved_by=None if content.approval is None else content.approval.by,
            snapshot=content.snapshot_id,
            reasons=", ".join(content.reasons),
            **self._facts(change, present.session),
        )
        if halves:
            return self._second_half(client, present, self._get(change), holder, fresh=True)
        return ChangeResult(ChangeStep.DONE, self._get(change))

    def _read_back(
        self, client: SessionClient, change: ChargeChange
    ) -> tuple[dict[str, Any] | None, str | None]:
        try:
            held = self.held(client, change.charge_item)
        except (HttpError, LaunchError):
            held = None
        if held is None:
            return None, "The EHR confirmed the change but did not let the charge be read back."
        if not _holds(change.content.after, held.body):
            return held.body, "The EHR holds something else than was sent."
        return held.body, None

    def _second_half(
        self,
        client: SessionClient,
        present: Present,
        change: ChargeChange,
        holder: str,
        *,
        fresh: bool = False,
    ) -> ChangeResult:
        """The old charge is taken back: write the new one. `fresh`: its evidence was looked at just now."""
        if change.state is not ChangeState.TAKEN_BACK:
            return self._present(change)
        charge = _charge(change)
        problem = None
        if not fresh and not self._in_the_ehr(charge):
            again = self._fresh.of(present)
            decision = again.findings.decision(charge.content.decision)
            if not _still_earned(charge, decision):
                problem = "The record does not earn the new charge any more, or not this one."
            elif decision is not None:
                problem = " ".join(records_moved(present, decision, again)) or None
        if problem is None:
            try:
                result = self._writer.write_prepared(client, present.session, charge)
            except (HttpError, LaunchError) as error:
                self._mark(change, holder, ChangeState.TAKEN_BACK, error.sentence)
                return ChangeResult(ChangeStep.HALF, self._get(change))
            if result.step is Step.WRITTEN and result.charge is not None:
                self._store.changes.finish(
                    change,
                    self._clock.now(),
                    "charge-replaced",
                    replaced_by=result.charge.charge_item,
                    **self._facts(change, present.session),
                )
                return ChangeResult(ChangeStep.DONE, self._get(change))
            told = None if result.charge is None else result.charge.problem
            problem = " ".join(result.differences) or told or "The EHR has not confirmed the new charge yet."
        self._mark(change, holder, ChangeState.TAKEN_BACK, problem)
        return ChangeResult(ChangeStep.HALF, self._get(change))

    def _in_the_ehr(self, charge: Charge) -> bool:
        """Whether the new charge may have been sent already: then it is only looked up."""
        kept = self._store.charges.get(charge.identifier)
        return kept is not None and kept.state in {
            ChargeState.SENT,
            ChargeState.UNKNOWN,
            ChargeState.CONFIRMED,
        }

    # Rows

    def _get(self, change: ChargeChange) -> ChargeChange:
        return self._store.changes.get(change.issuer_id, change.patient, change.id) or change

    def _present(self, change: ChargeChange) -> ChangeResult:
        return ChangeResult(_STEPS[change.state], change, (change.problem,) if change.problem else ())

    def _wait_for_the_other(
        self,
        change: ChargeChange,
        on_the_way: Container[ChangeStep] = frozenset({ChangeStep.BUSY, ChangeStep.HALF}),
    ) -> ChangeResult:
        """Another tab, thread or process has it. Wait a little for its end."""
        until = time.monotonic() + min(10.0, self._lease.total_seconds())
        while True:
            result = self._present(self._get(change))
            if result.step not in on_the_way or time.monotonic() >= until:
                return result
            time.sleep(POLL_SECONDS)

    def _mark(
        self,
        change: ChargeChange,
        holder: str,
        state: ChangeState,
        problem: str | None = None,
        event: str | None = None,
        session: LaunchSession | None = None,
        *,
        keep: bool = False,
        reason: str | None = None,
    ) -> None:
        facts = None if event is None else self._facts(change, session)
        self._store.changes.mark(
            change, holder, state, self._clock.now(), problem, event, keep=keep, reason=reason, facts=facts
        )

    def _facts(
        self, change: ChargeChange, session: LaunchSession | None
    ) -> dict[str, str | int | bool | None]:
        """What every audit entry on a change says; `session`: who acts."""
        content = change.content
        return {
            "issuer": change.issuer_id,
            "patient": change.patient,
            "user": content.confirmed_by if session is None else session.fhir_user,
            "confirmed_by": content.confirmed_by,
            "session": content.session_id if session is None else session.id,
            "change": change.number,
            "kind": change.kind.value,
            "charge_item": change.charge_item,
            "code": content.code,
            "rules_version": msgspec.json.decode(content.evidence, type=_Evidence).rules_version,
        }


class _Evidence(msgspec.Struct):
    rules_version: str = ""


_STEPS = {
    ChangeState.PREPARED: ChangeStep.BUSY,
    ChangeState.AWAITING: ChangeStep.AWAITING,
    ChangeState.SENT: ChangeStep.BUSY,
    ChangeState.TAKEN_BACK: ChangeStep.HALF,
    ChangeState.DONE: ChangeStep.DONE,
    ChangeState.STALE: ChangeStep.MOVED,
    ChangeState.UNKNOWN: ChangeStep.UNKNOWN,
    ChangeState.REFUSED: ChangeStep.REFUSED,
    ChangeState.DECLINED: ChangeStep.DECLINED,
}


def own_keys(body: Mapping[str, Any]) -> frozenset[str]:
    """The values of a charge's identifiers under our system."""
    identifiers = body.get("identifier")
    return frozenset(
        str(item.get("value"))
        for item in (identifiers if isinstance(identifiers, list) else [])
        if isinstance(item, dict) and item.get("system") == IDENTIFIER_SYSTEM and item.get("value")
    )


def _charged_by(findings: Findings, name: str) -> Decision | None:
    """The decision that a charge of the EHR stands for."""
    return next((item for item in findings.assessment.decisions if name in item.charges), None)


def changeable(body: Mapping[str, Any]) -> bool:
    """Whether a charge is still a suggestion: billing has not taken it up."""
    return body.get("status") == PLANNED


def _charge(change: ChargeChange) -> Charge:
    """Of a replacement: the new charge, as its outbox row begins."""
    new = change.content.new
    assert new is not None, "only a replacement has a second half"
    content = msgspec.structs.replace(new.content, approval=change.content.approval)
    return Charge(
        new.identifier,
        change.issuer_id,
        change.patient,
        new.code,
        ChargeState.PREPARED,
        None,
        None,
        change.changed_at,
        content,
    )


def _still_earned(charge: Charge, decision: Decision | None) -> bool:
    """Whether the record earns now what the new charge says, from the same evidence and without a doubt."""
    confirmed = decision_of(charge)
    return (
        decision is not None
        and decision.earned == confirmed.earned
        and set(decision.doubts) <= {str(ReviewReason.CHARGED_OTHERWISE)}
        and [(part.requirement, part.found, part.evidence) for part in decision.requirements]
        == [(part.requirement, part.found, part.evidence) for part in confirmed.requirements]
    )


def _with_approval(change: ChargeChange, approval: Approval) -> ChargeChange:
    return replace(change, content=msgspec.structs.replace(change.content, approval=approval))


def _holds(after: Mapping[str, Any], held: Mapping[str, Any]) -> bool:
    """Whether the EHR holds this very change: its status, its quantity, and its note, which names it."""
    notes = held.get("note")
    texts = [
        note.get("text") for note in (notes if isinstance(notes, list) else []) if isinstance(note, dict)
    ]
    quantity = held.get("quantity")
    return (
        held.get("status") == after.get("status")
        and after["note"][-1]["text"] in texts
        and (
            after.get("status") == TAKEN_BACK
            or (isinstance(quantity, dict) and quantity.get("value") == after["quantity"]["value"])
        )
    )
