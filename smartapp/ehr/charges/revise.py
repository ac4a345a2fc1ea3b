"""Changes a charge that was written: updates it, replaces it by another code, or takes it back. Once.

The charge is written only over the very version that was read (`If-Match`), so that nobody's change is ever
overwritten. Of a replacement the old charge is taken back first: between the two steps there is one live
charge too few, never one too many. The steps are those of `workflow`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

import msgspec

from fhir_mappings.charge_item import IDENTIFIER_SYSTEM
from fhir_mappings.decision import Decision
from fhir_mappings.reconciliation import PLANNED, Change, ChangeKind
from fhir_mappings.vocabulary import ReviewReason
from launch.errors import HttpError, LaunchError
from launch.ports import Clock, LaunchSession
from launch.tokens import SessionClient
from smartapp.configuration.settings import Settings
from smartapp.configuration.site import Site
from smartapp.ehr.charges.create import Acceptance, ChargeWriter, years_later
from smartapp.ehr.charges.digests import with_digests
from smartapp.ehr.charges.evidence import decision_of, evidence_document
from smartapp.ehr.charges.guards import Guards, charge_differences
from smartapp.ehr.charges.present import Held, PresentCharges, charge_now
from smartapp.ehr.charges.read_back import holds
from smartapp.ehr.charges.workflow import Delivery, Facts, Found, Hand, Holds, Result, Step, Workflow
from smartapp.ehr.people import name_of_user, person_of, subject_of
from smartapp.ehr.reading.findings import Findings, evidence_of
from smartapp.ehr.reading.fresh import FreshLook, Present, moved, records_moved
from smartapp.ehr.reading.own_record import own_differences
from smartapp.ehr.wire.bundles import read_target
from smartapp.ehr.wire.looks import look
from smartapp.ehr.wire.patient_scope import Whose
from smartapp.ehr.wire.sending import send
from smartapp.store import Store
from smartapp.store.changes import ChangeContent, ChargeChange, NewCharge, change_id
from smartapp.store.charges import Charge
from smartapp.store.claims import Approval, ChargeState
from smartapp.store.reading import Snapshot

NO_VERSION = (
    "This EHR does not number the versions of a charge, so a change of somebody else's could be overwritten. "
    "Change it in the EHR."
)


SURELY_NOT = frozenset({409, 412})
"""Statuses that say for certain that a write over one version wrote nothing."""


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


class ChargeChanger(Workflow[ChargeChange]):
    """Updates, replacements and withdrawals through the EHR's ChargeItem API."""

    noun = "change"

    def __init__(
        self,
        settings: Settings,
        site: Site,
        store: Store,
        clock: Clock,
        writer: ChargeWriter,
        fresh: FreshLook,
        present: PresentCharges,
        guards: Guards,
    ) -> None:
        super().__init__(settings, site, clock, store.changes)
        self._settings = settings
        self._store = store
        self._writer = writer
        self._fresh = fresh
        self._present = present
        self._guards = guards

    def change(self, client: SessionClient, order: Order) -> Result[ChargeChange]:
        """Do what was confirmed, or say why not. Raises HttpError and LaunchError where nothing was sent."""
        change = self._prepared(order)
        return self._begin(
            Hand(client, order.session, order.present),
            change,
            lambda: self._what_stands_in_the_way(client, order, change),
            second=self._site.second_approval and order.kind is not ChangeKind.WITHDRAW,
        )

    def approve(self, client: SessionClient, present: Present, change: ChargeChange) -> Result[ChargeChange]:
        """A second person's yes."""
        return self._approve(
            Hand(client, present.session, present),
            present.findings,
            change,
            lambda: self._locked(change) or self._what_moved(client, present, change),
        )

    def go_on(self, client: SessionClient, present: Present, change: ChargeChange) -> Result[ChargeChange]:
        """Somebody pressed on a change that is not finished: from what the EHR holds now to its end."""
        return self._go_on(Hand(client, present.session, present), change)

    def leave_at_that(self, session: LaunchSession, change: ChargeChange) -> Result[ChargeChange]:
        """Of a replacement whose old charge is taken back: the new one is not written from here any more."""
        self._store.changes.finish(
            change, self._clock.now(), "replacement-left", **self._facts(change, session)
        )
        return self._presented(self._kept(change))

    # Before the write

    def _prepared(self, order: Order) -> ChargeChange:
        """The row: all that is written and kept, gathered before anything leaves."""
        session, now = order.session, self._clock.now()
        new = None
        rules = order.findings.said["rules_version"]
        evidence = msgspec.json.encode(
            {"rules_version": rules, "change": order.change, "decision": order.decision}
        )
        if order.new is not None and order.decision is not None:
            charge = self._writer.prepared(self._acceptance(order))
            new = NewCharge(charge.identifier, charge.code, charge.content)
            evidence = charge.content.evidence
        elif order.decision is not None:
            resources = self._store.reading.resources(order.snapshot.id)
            document = evidence_document(order.decision, order.findings, resources, self._site)
            whole = msgspec.json.decode(document, type=dict[str, msgspec.Raw])
            evidence = msgspec.json.encode({**whole, "change": order.change})
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
            confirmed_by_person=person_of(order.findings, session.fhir_user or ""),
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
            state=ChargeState.PREPARED,
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
    ) -> Result[ChargeChange] | None:
        if not self._is_ours(client, order):
            sentence = f"ChargeItem/{order.charge_item} was not written here, or billing has taken it up."
            return Result(Step.MOVED, None, (sentence,))
        if order.held.etag is None:
            return Result(Step.MOVED, None, (NO_VERSION,))
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
        whose = held.whose(session.patient or "", client.issuer.bases)
        if not changeable(order.held.body) or whose is not Whose.OURS:
            return False
        if order.change is not None:
            return order.change.kind is order.kind and bool(own_keys(order.held.body))
        written = self._store.charges.written_keys(session.issuer_id, session.patient or "")
        return bool(written & own_keys(order.held.body))

    def _locked(self, row: ChargeChange) -> Result[ChargeChange] | None:
        sentence = self._guards.locked(row.issuer_id, row.patient, self._days(row))
        return None if sentence is None else Result(Step.LOCKED, None, (sentence,))

    def _days(self, row: ChargeChange) -> Iterable[date]:
        return row.content.days

    def _drop(self, row: ChargeChange, holder: str, stopped: Result[ChargeChange] | None) -> None:
        """The row stays, and says why."""
        if stopped is None:
            self._mark(row, holder, ChargeState.PREPARED)
        else:
            self._mark(row, holder, ChargeState.STALE, " ".join(stopped.differences))

    def _with_approval(self, row: ChargeChange, approval: Approval) -> ChargeChange:
        return replace(row, content=msgspec.structs.replace(row.content, approval=approval))

    def _what_moved(
        self,
        client: SessionClient,
        present: Present,
        change: ChargeChange,
        decision: Decision | None = None,
    ) -> Result[ChargeChange] | None:
        """Read the charges and what changed in the chart again: what moved since it was read stops the
        change, and is what the session has read from now on."""
        session, findings = present.session, present.findings
        charges = self._present.of(client, session)
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
            differences += self._guards.overlaps_among(charge, others)
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
        return Result(Step.MOVED, None, tuple(dict.fromkeys(differences)))

    # The write

    def _deliver(self, hand: Hand, row: ChargeChange) -> Delivery:
        """Over the version that was read, and no other."""
        answer = send(
            lambda: hand.client.fhir(
                "PUT",
                read_target(f"ChargeItem/{row.charge_item}"),
                body=msgspec.json.encode(row.content.after),
                headers={"Prefer": "return=representation", "If-Match": row.content.before_etag or ""},
                limits=self._limits,
            )
        )
        found = Found(Holds.OURS, row.charge_item)
        return Delivery(answer.fate, answer.problem, found, certain=answer.status in SURELY_NOT)

    def _find(self, hand: Hand, row: ChargeChange) -> Found:
        """Our change, the version before it, or somebody else's."""
        held = charge_now(hand.client, row.charge_item)
        if held is not None and holds(row.content.after, held.body):
            return Found(Holds.OURS, row.charge_item)
        if held is not None and held.version == row.content.before_version:
            return Found(Holds.NOT_YET)
        return Found(Holds.OVERTAKEN, row.charge_item)

    def _why_not_again(self, _hand: Hand, _row: ChargeChange) -> str | None:
        """Sent again it does no harm: only one of the two fits the version."""
        return None

    def _resume(self, hand: Hand, row: ChargeChange, holder: str) -> Result[ChargeChange]:
        if row.state is ChargeState.TAKEN_BACK:
            return self._second_half(hand, row, holder)
        return super()._resume(hand, row, holder)

    # After the write

    def _close(
        self, hand: Hand, row: ChargeChange, found: Found, holder: str, *, sent: bool
    ) -> Result[ChargeChange]:
        """Read the charge back and close the row, or go on to the second half of a replacement."""
        read_back, problem = self._read_back(hand.client, row)
        content = row.content
        packet = with_digests(
            {
                "change": row.number,
                "kind": row.kind,
                "charge_item": found.charge_item,
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
        halves = row.kind is ChangeKind.REPLACE
        self._store.changes.written(
            row,
            ChargeState.TAKEN_BACK if halves else ChargeState.CONFIRMED,
            self._clock.now(),
            packet,
            problem,
            "charge-updated" if row.kind is ChangeKind.UPDATE else "charge-taken-back",
            approved_by=None if content.approval is None else content.approval.by,
            reasons=", ".join(content.reasons),
            **self._facts(row, hand.session, sent=sent),
        )
        if halves:
            return self._second_half(hand, self._kept(row), holder, fresh=True)
        return Result(Step.WRITTEN, self._kept(row))

    def _read_back(
        self, client: SessionClient, change: ChargeChange
    ) -> tuple[dict[str, Any] | None, str | None]:
        try:
            held = charge_now(client, change.charge_item)
        except (HttpError, LaunchError):
            held = None
        if held is None:
            return None, "The EHR confirmed the change but did not let the charge be read back."
        if not holds(change.content.after, held.body):
            return held.body, "The EHR holds something else than was sent."
        return held.body, None

    def _second_half(
        self, hand: Hand, change: ChargeChange, holder: str, *, fresh: bool = False
    ) -> Result[ChargeChange]:
        """The old charge is taken back: write the new one. `fresh`: its evidence was looked at just now."""
        if change.state is not ChargeState.TAKEN_BACK:
            return self._presented(change)
        client, present = hand.client, hand.present
        assert present is not None, "a replacement is finished by somebody who has read the chart"
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
                self._mark(change, holder, ChargeState.TAKEN_BACK, error.sentence)
                return Result(Step.HALF, self._kept(change))
            if result.step is Step.WRITTEN and result.row is not None:
                self._store.changes.finish(
                    change,
                    self._clock.now(),
                    "charge-replaced",
                    replaced_by=result.row.charge_item,
                    **self._facts(change, present.session),
                )
                return Result(Step.WRITTEN, self._kept(change))
            told = None if result.row is None else result.row.problem
            problem = " ".join(result.differences) or told or "The EHR has not confirmed the new charge yet."
        self._mark(change, holder, ChargeState.TAKEN_BACK, problem)
        return Result(Step.HALF, self._kept(change))

    def _in_the_ehr(self, charge: Charge) -> bool:
        """Whether the new charge may have been sent already: then it is only looked up."""
        kept = self._store.charges.get(charge.identifier)
        return kept is not None and kept.state in {
            ChargeState.SENT,
            ChargeState.UNKNOWN,
            ChargeState.CONFIRMED,
        }

    def _about(self, row: ChargeChange) -> Facts:
        return {
            "confirmed_by": row.content.confirmed_by,
            "change": row.number,
            "kind": row.kind.value,
            "charge_item": row.charge_item,
            "code": row.content.code,
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
