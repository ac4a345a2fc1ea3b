"""Writes one accepted charge to the EHR, once, in the way in which this EHR takes charges (`ehr.handover`).

The EHR's own charges are read again and stand in the way if they overlap. The steps are those of `workflow`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any

import msgspec

from fhir_mappings.charge_item import PERFORMING, performer_in
from fhir_mappings.decision import Decision
from fhir_mappings.rules.tables import Kind
from launch.errors import HttpError, LaunchError
from launch.ports import Clock, LaunchSession
from launch.tokens import SessionClient
from smartapp.configuration.settings import Settings
from smartapp.configuration.site import Site
from smartapp.ehr.charges.digests import with_digests
from smartapp.ehr.charges.evidence import (
    evidence_document,
    evidence_in,
    service_date_of,
)
from smartapp.ehr.charges.guards import Guards, charge_differences
from smartapp.ehr.charges.one_look import OneLook
from smartapp.ehr.charges.present import HeldCharge, PresentCharges
from smartapp.ehr.charges.provenance import tell_provenance
from smartapp.ehr.charges.workflow import (
    SETTLED_AFTER,
    Delivery,
    Facts,
    Found,
    Hand,
    Holds,
    Result,
    Step,
    Workflow,
)
from smartapp.ehr.handover.choice import Handovers
from smartapp.ehr.people import name_of_user, person_of, subject_of
from smartapp.ehr.reading.findings import Findings, evidence_of
from smartapp.ehr.reading.fresh import FreshLook, Present, essence, moved
from smartapp.ehr.reading.own_record import own_differences
from smartapp.ehr.wire.capability import Capabilities
from smartapp.store import Store
from smartapp.store.charges import Charge, ChargeContent, Enrolment, Handed, Leaving
from smartapp.store.claims import Approval, ChargeState
from smartapp.store.reading import Snapshot


@dataclass(frozen=True, slots=True)
class Acceptance:
    """A clinician's decision to charge: the decision as shown, what was confirmed, what is to be written.

    `leaving`: the way in which it leaves and exactly what does, as shown; None is the ChargeItem itself.
    """

    session: LaunchSession
    snapshot: Snapshot
    findings: Findings
    decision: Decision
    attested: tuple[str, ...]
    resource: dict[str, Any]
    leaving: Leaving | None = None

    @property
    def present(self) -> Present:
        return Present(self.session, self.snapshot, self.findings)

    def performer(self, site: Site) -> str | None:
        """Whom the charge names as performing, where that can change what it counts (D35)."""
        return performer_in(self.resource, PERFORMING) if counts_minutes(self.decision, site) else None


def counts_minutes(decision: Decision, site: Site) -> bool:
    """Whether a code is one of the minutes of a month."""
    return site.policy.code(decision.code).kind in {Kind.MANAGEMENT, Kind.MANAGEMENT_ADD_ON}


class ChargeWriter(Workflow[Charge]):
    """New charges, in whichever way they leave."""

    noun = "charge"

    def __init__(
        self,
        settings: Settings,
        site: Site,
        store: Store,
        clock: Clock,
        fresh: FreshLook,
        present: PresentCharges,
        guards: Guards,
        handovers: Handovers,
        capabilities: Capabilities,
    ) -> None:
        super().__init__(settings, site, clock, store.charges)
        self._settings = settings
        self._store = store
        self._fresh = fresh
        self._present = present
        self._guards = guards
        self._handovers = handovers
        self._capabilities = capabilities

    def accept(self, client: SessionClient, acceptances: Sequence[Acceptance]) -> tuple[Result[Charge], ...]:
        """Write the charges that somebody accepted together, each for itself, or say of each why not; the
        chart is looked at once for all. Raises HttpError and LaunchError only where nothing was sent."""
        charges = [self.prepared(acceptance) for acceptance in acceptances]
        look = self._look(client, acceptances)
        results: list[Result[Charge] | HttpError | LaunchError] = []
        for acceptance, charge in zip(acceptances, charges, strict=True):
            try:
                results.append(self._accepted(client, acceptance, charge, look))
            except (HttpError, LaunchError) as error:
                results.append(error)
        errors = [one for one in results if not isinstance(one, Result)]
        if len(errors) == len(results):
            raise errors[0]
        shown = look.keep()
        return tuple(
            Result(Step.NOT_ASKED, None, (one.sentence,))
            if not isinstance(one, Result)
            else replace(one, shown=shown and _is_known(one))
            for one in results
        )

    def _look(self, client: SessionClient, acceptances: Sequence[Acceptance]) -> OneLook:
        first = acceptances[0]
        performers = (acceptance.performer(self._site) for acceptance in acceptances)
        performer = next((one for one in performers if one is not None), None)
        own_before = {one.decision.key: self._own_differences(one, one.findings) for one in acceptances}
        return OneLook(client, first.present, performer, own_before, self._fresh, self._present, self._clock)

    def _own_differences(self, acceptance: Acceptance, known: Findings) -> list[str]:
        session = acceptance.session
        return own_differences(
            self._store, session.issuer_id, session.patient or "", known, evidence_of(acceptance.decision)
        )

    def _accepted(
        self, client: SessionClient, acceptance: Acceptance, charge: Charge, look: OneLook
    ) -> Result[Charge]:
        result = self._begin(
            Hand(client, acceptance.session),
            charge,
            lambda: self._what_stands_in_the_way(client, acceptance, charge, look),
            second=self._site.second_approval,
        )
        if _is_known(result):
            look.wrote(None if _was_handed_over(result) else result.held)
        return result

    def approve(self, client: SessionClient, approver: Acceptance, charge: Charge) -> Result[Charge]:
        """A second person's yes to a charge that awaits it.

        `approver`: the second person's session, snapshot and the decision it holds now; of the charge itself
        nothing is taken from there.
        """
        look = self._look(client, [approver])
        result = self._approve(
            Hand(client, approver.session),
            approver.findings,
            charge,
            lambda: (
                _what_changed_since_accepted(approver, charge)
                or self._what_stands_in_the_way(client, approver, charge, look)
            ),
        )
        look.keep()
        return result

    def write_prepared(self, client: SessionClient, session: LaunchSession, charge: Charge) -> Result[Charge]:
        """Write a charge that was confirmed before, unless something overlaps it: of a replacement, the
        second half. What its evidence is now, the caller has looked at."""
        return self._begin(
            Hand(client, session), charge, lambda: self._repeats(client, session, charge), second=False
        )

    def look_up(self, client: SessionClient, session: LaunchSession, charge: Charge) -> Result[Charge]:
        """What became of a charge that was sent: asked of the EHR, never sent again."""
        return self._looked_up(Hand(client, session), charge)

    def ask_again(self, client: SessionClient, session: LaunchSession, charge: Charge) -> Result[Charge]:
        """Somebody pressed on a charge whose fate is open: find it, or send it where that is safe."""
        return self._go_on(Hand(client, session), charge)

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
            confirmed_by_person=person_of(acceptance.findings, session.fhir_user or ""),
            session_id=session.id,
            snapshot_id=acceptance.snapshot.id,
            snapshot_sha256=acceptance.snapshot.sha256,
            keep_until=years_later(service_date, self._settings.retention_years),
            anchor=self._anchor(acceptance),
            evidence=evidence_document(
                decision,
                acceptance.findings,
                self._store.reading.resources(acceptance.snapshot.id),
                self._site,
                acceptance.performer(self._site),
            ),
            leaving=acceptance.leaving,
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

    def _what_stands_in_the_way(
        self, client: SessionClient, acceptance: Acceptance, charge: Charge, look: OneLook
    ) -> Result[Charge] | None:
        """Anything that overlaps among the charges of now, or moved the answer since it was shown, stops the
        write; so does a certified month. What is found then is what the session has read from now on."""
        if (locked := self._locked(charge)) is not None:
            return locked
        decision = acceptance.decision
        others = look.beside(charge.identifier)
        if overlaps := self._guards.overlaps(decision, others, charge, look.began):
            return Result(Step.OVERLAPS, None, overlaps)
        told = (
            *charge_differences(
                acceptance.findings, self._not_written_here(charge, others, acceptance.findings)
            ),
            *moved(acceptance.present, decision, look.chart, acceptance.attested),
            *look.moved_by_what_was_written(decision, acceptance.attested),
            *look.own_before.get(decision.key, ()),
            *self._own_differences(acceptance, look.known_since or acceptance.findings),
        )
        if told:
            look.must_be_kept = True
            now = look.chart.decision(decision.key)
            return Result(Step.MOVED, None, tuple(dict.fromkeys(told)), decision, now)
        self._handovers.of(charge).ready(Hand(client, acceptance.session))
        return None

    def _not_written_here(
        self, charge: Charge, others: Mapping[str, HeldCharge] | None, findings: Findings
    ) -> Mapping[str, HeldCharge] | None:
        """Without what was written from here since the chart was read: nobody is surprised by that, and what
        it means for this charge is decided anew."""
        if others is None:
            return None
        rows = self._store.charges.of_patient(charge.issuer_id, charge.patient)
        ours = {f"ChargeItem/{row.charge_item}" for row in rows if row.state is ChargeState.CONFIRMED}
        return {name: held for name, held in others.items() if name in findings.versions or name not in ours}

    def _repeats(
        self, client: SessionClient, session: LaunchSession, charge: Charge
    ) -> Result[Charge] | None:
        if (locked := self._locked(charge)) is not None:
            return locked
        if overlaps := self._guards.overlaps_now(client, session, charge):
            return Result(Step.OVERLAPS, None, overlaps)
        self._handovers.of(charge).ready(Hand(client, session))
        return None

    def _locked(self, row: Charge) -> Result[Charge] | None:
        sentence = self._guards.locked(row.issuer_id, row.patient, self._days(row))
        return None if sentence is None else Result(Step.LOCKED, None, (sentence,))

    def _days(self, row: Charge) -> Iterable[date]:
        return (service_date_of(row),)

    def _drop(self, row: Charge, holder: str, _stopped: Result[Charge] | None) -> None:
        """The row goes, as if nobody had pressed; one that awaits approval stays."""
        self._store.charges.withdraw_preparation(row.identifier, holder)
        self._rows.release(row.key, holder)

    def _with_approval(self, row: Charge, approval: Approval) -> Charge:
        return replace(row, content=msgspec.structs.replace(row.content, approval=approval))

    def _about(self, row: Charge) -> Facts:
        return {
            "accepted_by": row.content.confirmed_by,
            "code": row.code,
            "decision": row.content.decision,
            "identifier": row.identifier,
        }

    # The write

    def _send(self, hand: Hand, row: Charge, holder: str, *, may_arrive: bool = False) -> Result[Charge]:
        """What a person enters is not sent: it stands on the worksheet."""
        if not self._handovers.of(row).by_person:
            return super()._send(hand, row, holder, may_arrive=may_arrive)
        days = self._days(row) if self._guards.locks else ()
        if self._mark(row, holder, ChargeState.TO_ENTER, event="to-enter", unless_certified=days):
            return self._presented(self._kept(row))
        locked = self._locked(row)
        if locked is not None:
            self._drop(row, holder, locked)
        return locked or self._presented(self._kept(row))

    def _deliver(self, hand: Hand, row: Charge) -> Delivery:
        return self._handovers.of(row).deliver(hand, row)

    # Without an answer

    def _find(self, hand: Hand, row: Charge) -> Found:
        return self._handovers.of(row).find(hand, row)

    def _why_not_again(self, hand: Hand, row: Charge) -> str | None:
        if (locked := self._locked(row)) is not None:
            return "It was not sent again. " + " ".join(locked.differences)
        settled = row.changed_at + SETTLED_AFTER <= self._clock.now()
        if not (settled or self._handovers.of(row).may_repeat(hand)):
            return row.problem or "The EHR gave no answer."
        overlaps = self._guards.overlaps_now(hand.client, hand.session, row)
        return "It was not sent again. " + " ".join(overlaps) if overlaps else None

    def _looked_up(self, hand: Hand, row: Charge) -> Result[Charge]:
        if row.state in {ChargeState.SENT, ChargeState.UNKNOWN}:
            found = self._find(hand, row)
            if found.holds is Holds.OURS:
                return self._close(hand, row, found, "", sent=False)
        return self._presented(row)

    # After the write

    def _close(self, hand: Hand, row: Charge, found: Found, _holder: str, *, sent: bool) -> Result[Charge]:
        """Read back what the other side holds, and close the row: packet, enrolment and audit entry too."""
        held = self._handovers.of(row).read_back(hand, row, found)
        now, content = self._clock.now(), row.content
        facts: Facts = {
            "approved_by": None if content.approval is None else content.approval.by,
            "snapshot_sha256": content.snapshot_sha256,
            "attested": ", ".join(content.attested),
            "read_back": "differs" if held.differences else "same" if held.body else "not possible",
            **self._facts(row, hand.session, sent=sent),
        }
        charges, problem = self._store.charges, held.problem
        if held.charge_item is not None:
            packet = packet_of(row, held.body)
            if charges.confirm(row, held.charge_item, now, packet, problem=problem, **facts):
                self._tell_provenance(hand, row, held.charge_item, now)
        else:
            row = handed(row, found.charge_item, now, hand.session)
            packet = packet_of(row, held.body)
            state = ChargeState.HANDED_OVER
            charges.hand_over(row, state, "charge-handed-over", now, packet, problem, **facts)
        return Result(Step.WRITTEN, self._kept(row), held.differences, held=held.body)

    def _tell_provenance(self, hand: Hand, row: Charge, charge_item: str, now: datetime) -> None:
        told = tell_provenance(hand, row, charge_item, now, self._capabilities, self._limits)
        if told is not None:
            event = "provenance-written" if told else "provenance-not-taken"
            facts = self._facts(row, hand.session)
            self._store.audit.add(self._clock.now(), event, charge_item=charge_item, **facts)

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


def handed(row: Charge, name: str, now: datetime, session: LaunchSession) -> Charge:
    """The row with what it is called where it went, and who handed it over."""
    content, user = row.content, session.fhir_user or ""
    known = session.user_name or (content.confirmed_by_name if user == content.confirmed_by else "")
    return replace(row, content=msgspec.structs.replace(content, handed=Handed(name, now, user, known)))


def packet_of(row: Charge, held: bytes | None) -> bytes:
    """What is kept of a charge for an auditor. `held`: what the other side holds, where it was read back."""
    content = row.content
    packet: dict[str, Any] = {
        "written": content.resource,
        "read_back": None if held is None else msgspec.Raw(held),
        "attested": content.attested,
        "confirmed_by": content.confirmed_by,
        "confirmed_by_name": content.confirmed_by_name,
        "anchor": content.anchor,
        "approval": content.approval,
        "snapshot": {"id": content.snapshot_id, "sha256": content.snapshot_sha256},
        "evidence": msgspec.Raw(content.evidence),
    }
    if content.leaving is not None:
        packet |= {"leaving": content.leaving, "handed": content.handed}
    return with_digests(packet)


def _was_handed_over(result: Result[Charge]) -> bool:
    """It left otherwise than as a ChargeItem: what is kept here of it says so."""
    return result.row is not None and result.row.charge_item is None


def _is_known(result: Result[Charge]) -> bool:
    """It is where it should be, and what there is of it is at hand."""
    return result.step is Step.WRITTEN and (result.held is not None or _was_handed_over(result))


def _what_changed_since_accepted(approver: Acceptance, charge: Charge) -> Result[Charge] | None:
    """A second person approves what was accepted, not what the record has become since."""
    accepted, now = evidence_in(charge.content.evidence), approver.decision
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


def identifier_token(resource: Mapping[str, Any]) -> str:
    """`system|value` of the ChargeItem's identifier: its outbox row's key, and what the EHR is asked."""
    identifier = resource["identifier"][0]
    return f"{identifier['system']}|{identifier['value']}"


def years_later(day: date, years: int) -> date:
    try:
        return day.replace(year=day.year + years)
    except ValueError:  # 29 February
        return day.replace(year=day.year + years, day=28)
