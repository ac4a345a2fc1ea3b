"""Charges that were written, held against what the record earns now.

A suggestion of ours that billing has not touched (status `planned`) follows the record: it is kept, updated,
replaced by another code, or withdrawn. A charge that billing has taken up, or that is not ours, is never
touched: where it no longer agrees with the record, that is said and nothing else. In doubt nothing changes.

Nothing here reads, writes or asks: equal decisions and charges give equal changes. What comes out is proposed
to a person, who confirms it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import date
from enum import StrEnum

from msgspec import Struct

from fhir_mappings.charge_item import deterministic_identifier
from fhir_mappings.completeness import ANY_TYPE, WHOLE, Completeness
from fhir_mappings.decision import Decision
from fhir_mappings.local_time import ONE_DAY, PERIOD_DAYS, Window
from fhir_mappings.record import HANDED_OVER, PriorCharge
from fhir_mappings.rules.charged import standing, touches, units_charged
from fhir_mappings.rules.tables import CodeRule, Kind, KnownCodes, shipped_codes
from fhir_mappings.vocabulary import ReviewReason

PLANNED = "planned"
MOST_REVISIONS = 9
"""So many times one and the same charge may have been taken back and earned anew."""

NEEDED_TYPES = {"Observation": True, "Encounter": True, "ChargeItem": False}
"""Types of which nothing may be missing where a charge is to lose or gain ground; whether by their days."""

# Doubts that say nothing about a charge by itself: the first is there because the charge is, or because of
# another one, which is looked at here; that something was not read is asked of the record itself; the last,
# because less was read this time than when it was written.
_OF_CHARGES = frozenset({str(ReviewReason.CHARGED_OTHERWISE), str(ReviewReason.RECORD_INCOMPLETE)})
_OF_READING = frozenset({str(ReviewReason.HISTORY_INCOMPLETE)})


class ChangeKind(StrEnum):
    """What should become of a charge."""

    KEEP = "keep"
    UPDATE = "update"
    REPLACE = "replace"
    WITHDRAW = "withdraw"
    DISAGREES = "disagrees"
    """It no longer agrees with the record, and this is for people: nothing is changed from here."""


class ChangeReason(StrEnum):
    """Why."""

    # what the record says now
    MORE_UNITS = "more-units"
    FEWER_UNITS = "fewer-units"
    HIGHER_CODE = "higher-code"
    LOWER_CODE = "lower-code"
    NOT_MET = "not-met"
    BASE_GONE = "base-gone"
    EVIDENCE_GONE = "evidence-gone"
    # what else is charged
    DUPLICATE = "duplicate"
    ALREADY_CHARGED = "already-charged"
    EXCLUDED_BY_OTHER = "excluded-by-other"
    # why it is left to people
    NOT_OURS = "not-ours"
    HANDED_OVER = "handed-over"
    """It left otherwise than as a ChargeItem."""
    NOT_PLANNED = "not-planned"
    IN_DOUBT = "in-doubt"
    RECORD_INCOMPLETE = "record-incomplete"
    PERIOD_UNCLEAR = "period-unclear"
    CODE_UNCLEAR = "code-unclear"
    """It names several codes, or came back without one."""
    CREDITED = "credited"
    """Units of its code were taken back by a charge of their own."""
    # why nothing is said
    NOT_READ = "not-read"
    STILL_OPEN = "still-open"


class Change(Struct, frozen=True):
    """One charge and what should become of it.

    `code`, `quantity`, `window`: as the charge says them. `to_code` and `to_quantity`: what the record earns
    instead, also where nothing may be changed. `decision`: the key of the decision that says so.
    """

    kind: ChangeKind
    charge: str
    code: str
    quantity: int
    window: Window | None
    service_date: date | None
    reasons: tuple[ChangeReason, ...] = ()
    doubts: tuple[str, ...] = ()
    to_code: str | None = None
    to_quantity: int = 0
    decision: str | None = None
    gone: tuple[str, ...] = ()
    """Records the charge rests on that do not count any more."""
    touchable: bool = False
    """Written from here, and still a suggestion: nothing else is ever changed from here."""


class _Verdict(Struct, frozen=True):
    """What the record says of one charge, before anyone asks whether it may be touched."""

    kind: ChangeKind
    reasons: tuple[ChangeReason, ...] = ()
    doubts: tuple[str, ...] = ()
    to: Decision | None = None
    gone: tuple[str, ...] = ()


_KEEP = _Verdict(ChangeKind.KEEP)


def ours_among(
    charges: Iterable[PriorCharge],
    decisions: Iterable[Decision],
    issuer: str,
    patient: str,
    written: Collection[str],
) -> frozenset[str]:
    """The charges that were written from here, by reference.

    Ours carries our identifier system *and* a value that only we can have given: one that is known to have
    been written (`written`), or the deterministic one of its own code and window. Whoever copies the system
    alone, or a whole charge to another patient or time, does not make it ours.
    """
    of_charge = {name: decision for decision in decisions for name in decision.charges}
    known = set(written)
    found: set[str] = set()
    for charge in charges:
        decision = of_charge.get(charge.resource)
        own = {
            deterministic_identifier(issuer, patient, decision, revision)
            for revision in range(1, MOST_REVISIONS + 1)
            if decision is not None and charge.keys
        }
        if any(key in known or key in own for key in charge.keys):
            found.add(charge.resource)
    return frozenset(found)


def reconcile(
    decisions: Sequence[Decision],
    charges: Sequence[PriorCharge],
    ours: Collection[str],
    as_of: date,
    *,
    history_from: date | None = None,
    completeness: Completeness = WHOLE,
    codes: KnownCodes | None = None,
) -> tuple[Change, ...]:
    """One `Change` a charge, by window, code and reference.

    `decisions`: those of a record that holds these `charges`, with all evidence (`assess(...,
    all_evidence=True)`). `ours`: references of charges written from here. `history_from`: the first day that
    was read; a charge whose window began before it is kept, since half a window says nothing.
    """
    comparison = _Comparison(decisions, charges, ours, as_of, history_from, completeness, codes)
    return tuple(comparison.change(charge) for charge in comparison.charges)


class _Comparison:
    """One record's decisions and charges, and which targets a change has already taken."""

    def __init__(
        self,
        decisions: Sequence[Decision],
        charges: Sequence[PriorCharge],
        ours: Collection[str],
        as_of: date,
        history_from: date | None,
        completeness: Completeness,
        codes: KnownCodes | None,
    ) -> None:
        self._all = sorted(charges, key=_order)
        # What a payer was told is nobody's to change, and a charge that names several codes is one charge.
        unclaimed = (charge for charge in self._all if not charge.claimed)
        self.charges = list({charge.resource: charge for charge in unclaimed}.values())
        self._decisions = sorted(decisions, key=lambda decision: (decision.period, decision.code))
        self._of_charge = {name: decision for decision in self._decisions for name in decision.charges}
        self._ours = frozenset(ours)
        self._as_of = as_of
        self._history_from = history_from
        self._completeness = completeness
        self._codes = (codes or shipped_codes()).rules
        self._taken: set[tuple[str, Window]] = set()

    def change(self, charge: PriorCharge) -> Change:
        """What should become of one charge. Called once a charge, in order."""
        decision = self._of_charge.get(charge.resource)
        touchable = self._touchable(charge)
        verdict = self._verdict(charge, decision)
        if not touchable:
            verdict = self._for_people(charge, decision, verdict)
        else:
            verdict = self._beside_others(charge, decision, verdict)
            if self._incomplete(charge, decision) and verdict.kind in _CHANGES:
                # What seems gone may only not have been read.
                reasons = (*verdict.reasons, ChangeReason.RECORD_INCOMPLETE)
                verdict = _Verdict(ChangeKind.DISAGREES, reasons, verdict.doubts, verdict.to, verdict.gone)
            if verdict.kind in {ChangeKind.REPLACE, ChangeKind.UPDATE, ChangeKind.KEEP}:
                target = verdict.to or decision
                if target is not None:
                    self._taken.add((target.code, target.period))
        return _told(charge, decision, verdict, touchable)

    def _incomplete(self, charge: PriorCharge, decision: Decision | None) -> bool:
        """Is something missing that may have stood in this charge's window, or begun its periods?"""
        window = charge.occurrence if decision is None else decision.period
        if window is not None:
            window = Window(date.min, window.end)
        return self._completeness.lacks(ANY_TYPE) or any(
            self._completeness.of(kind, window if dated else None) for kind, dated in NEEDED_TYPES.items()
        )

    def _touchable(self, charge: PriorCharge) -> bool:
        """Whether it may be changed from here: what billing, or a payer, has taken up never is."""
        return (
            charge.resource in self._ours
            and charge.status == PLANNED
            and not any(other.claimed for other in self._beside(charge))
            and not self._is_credited(charge)
        )

    def _is_credited(self, charge: PriorCharge) -> bool:
        """Whether units of its code and window were taken back by a charge below zero."""
        return any(other.quantity <= 0 for other in self._beside(charge))

    def _beside(self, charge: PriorCharge) -> list[PriorCharge]:
        """The charges of its code in its window, itself among them; of those that no decision stands for, all
        of its code."""
        decision = self._of_charge.get(charge.resource)
        if decision is not None:
            return [other for other in self._all if other.resource in decision.charges]
        return [
            other
            for other in self._all
            if other.code == charge.code and other.resource not in self._of_charge
        ]

    def _rule(self, code: str) -> CodeRule:
        return self._codes[code]

    # What the record says

    def _verdict(self, charge: PriorCharge, decision: Decision | None) -> _Verdict:
        rule = self._rule(charge.code)
        if rule.kind is Kind.HELD_BACK:
            return _KEEP
        if not charge.sole:
            return _Verdict(ChangeKind.DISAGREES, (ChangeReason.CODE_UNCLEAR,))
        if self._not_read(charge, decision):
            return _Verdict(ChangeKind.KEEP, (ChangeReason.NOT_READ,))
        if self._is_credited(charge):
            if decision is not None and units_charged(self._beside(charge)) == decision.earned:
                return _KEEP
            return _Verdict(ChangeKind.DISAGREES, (ChangeReason.CREDITED,), (), decision)
        if decision is None:
            if rule.base is not None and charge.occurrence is not None and _one_month(charge.occurrence):
                return _Verdict(ChangeKind.WITHDRAW, (ChangeReason.BASE_GONE,))
            return _Verdict(ChangeKind.DISAGREES, (ChangeReason.PERIOD_UNCLEAR,))
        doubts = self._doubts(decision)
        if not decision.earned:
            return self._lost(decision, doubts)
        higher = self._tier(decision, higher=True)
        if higher is not None:
            return self._grown(higher)
        if doubts and _OF_READING.issuperset(doubts):
            return _Verdict(ChangeKind.KEEP, (ChangeReason.NOT_READ,))
        if doubts:
            return _Verdict(ChangeKind.DISAGREES, (ChangeReason.IN_DOUBT,), doubts, decision)
        if decision.earned != charge.quantity:
            more = decision.earned > charge.quantity
            if more and self._open(decision):
                return _Verdict(ChangeKind.KEEP, (ChangeReason.STILL_OPEN,))
            reason = ChangeReason.MORE_UNITS if more else ChangeReason.FEWER_UNITS
            return _Verdict(ChangeKind.UPDATE, (reason,), (), decision, _gone(charge, decision))
        if gone := _gone(charge, decision):
            return _Verdict(ChangeKind.UPDATE, (ChangeReason.EVIDENCE_GONE,), (), decision, gone)
        return _KEEP

    def _lost(self, decision: Decision, doubts: tuple[str, ...]) -> _Verdict:
        """The code is not met any more."""
        if doubts:
            # What was left out in doubt might still meet it.
            return _Verdict(ChangeKind.DISAGREES, (ChangeReason.NOT_MET, ChangeReason.IN_DOUBT), doubts)
        lower = self._tier(decision, higher=False)
        if lower is not None and not self._doubts(lower):
            return _Verdict(ChangeKind.REPLACE, (ChangeReason.NOT_MET, ChangeReason.LOWER_CODE), (), lower)
        return _Verdict(ChangeKind.WITHDRAW, (ChangeReason.NOT_MET,))

    def _grown(self, higher: Decision) -> _Verdict:
        """A higher code of the same group is met."""
        if self._open(higher):
            return _Verdict(ChangeKind.KEEP, (ChangeReason.STILL_OPEN,))
        if doubts := self._doubts(higher):
            reasons = (ChangeReason.HIGHER_CODE, ChangeReason.IN_DOUBT)
            return _Verdict(ChangeKind.DISAGREES, reasons, doubts, higher)
        return _Verdict(ChangeKind.REPLACE, (ChangeReason.HIGHER_CODE,), (), higher)

    def _tier(self, decision: Decision, *, higher: bool) -> Decision | None:
        """The highest other code of the same group and window that the record earns."""
        rule = self._rule(decision.code)
        found = [
            other
            for other in self._decisions
            if rule.group is not None
            and self._rule(other.code).group == rule.group
            and other.period == decision.period
            and other.earned
            and (self._rule(other.code).tier > rule.tier) is higher
            and other.code != decision.code
        ]
        return max(found, key=lambda other: self._rule(other.code).tier, default=None)

    def _doubts(self, decision: Decision) -> tuple[str, ...]:
        return tuple(doubt for doubt in decision.doubts if doubt not in _OF_CHARGES)

    def _open(self, decision: Decision) -> bool:
        return self._as_of <= decision.period.end

    def _not_read(self, charge: PriorCharge, decision: Decision | None) -> bool:
        if self._history_from is None or charge.occurrence is None:
            return False
        start = charge.occurrence.start if decision is None else decision.period.start
        if decision is None and self._rule(charge.code).kind is Kind.START_UP:
            start -= ONE_DAY * (PERIOD_DAYS - 1)
        return start < self._history_from

    # What else is charged

    def _for_people(self, charge: PriorCharge, decision: Decision | None, verdict: _Verdict) -> _Verdict:
        """A charge that is never touched: what no longer agrees, and nothing else."""
        ours = charge.resource in self._ours
        why = ChangeReason.NOT_PLANNED if ours else ChangeReason.NOT_OURS
        if charge.kind == HANDED_OVER:
            why = ChangeReason.HANDED_OVER
        if verdict.kind is ChangeKind.KEEP:
            return verdict
        if not ours and (
            verdict.kind is ChangeKind.DISAGREES
            or self._incomplete(charge, decision)
            or verdict.reasons == (ChangeReason.EVIDENCE_GONE,)
        ):
            # Our doubts are no verdict on what somebody else charged, maybe from a record we don't see.
            return _KEEP
        if verdict.kind is ChangeKind.UPDATE and decision is not None:
            fixed = sum(other.quantity for other in self._of_decision(decision) if not self._touchable(other))
            if decision.earned == fixed and ChangeReason.EVIDENCE_GONE not in verdict.reasons:
                return _KEEP  # several charges of one code add up to what is earned
        incomplete = (ChangeReason.RECORD_INCOMPLETE,) if self._incomplete(charge, decision) else ()
        reasons = (why, *verdict.reasons, *incomplete)
        return _Verdict(ChangeKind.DISAGREES, reasons, verdict.doubts, verdict.to, verdict.gone)

    def _beside_others(self, charge: PriorCharge, decision: Decision | None, verdict: _Verdict) -> _Verdict:
        """A suggestion of ours beside the other charges: two that exclude each other never both stand."""
        if ChangeReason.NOT_READ in verdict.reasons or decision is None:
            return verdict
        same_code = [other for other in self._of_decision(decision) if other.resource != charge.resource]
        fixed = [other for other in same_code if not self._touchable(other)]
        if fixed:
            total = charge.quantity + sum(other.quantity for other in same_code)
            if self._rule(charge.code).base is not None and decision.earned:
                # Units may have been charged in parts.
                if total == decision.earned:
                    return verdict if verdict.kind is ChangeKind.DISAGREES else _KEEP
                return _Verdict(ChangeKind.DISAGREES, (ChangeReason.ALREADY_CHARGED,), (), decision)
            return _Verdict(ChangeKind.WITHDRAW, (ChangeReason.ALREADY_CHARGED,))
        if (decision.code, decision.period) in self._taken:
            return _Verdict(ChangeKind.WITHDRAW, (ChangeReason.DUPLICATE,))
        target = verdict.to
        if verdict.kind is ChangeKind.REPLACE and target is not None:
            if target.charges:
                others = [other for other in self._of_decision(target) if not self._touchable(other)]
                reason = ChangeReason.EXCLUDED_BY_OTHER if others else ChangeReason.DUPLICATE
                return _Verdict(ChangeKind.WITHDRAW, (*verdict.reasons, reason))
            if (target.code, target.period) in self._taken:
                return _Verdict(ChangeKind.WITHDRAW, (*verdict.reasons, ChangeReason.DUPLICATE))
            if self._excluded_by_fixed(target.code, target.period):
                if decision.earned:
                    reasons = (*verdict.reasons, ChangeReason.EXCLUDED_BY_OTHER)
                    return _Verdict(ChangeKind.DISAGREES, reasons, (), target)
                return _Verdict(ChangeKind.WITHDRAW, (ChangeReason.NOT_MET, ChangeReason.EXCLUDED_BY_OTHER))
            return verdict
        if verdict.kind is not ChangeKind.WITHDRAW and self._excluded_by_fixed(charge.code, decision.period):
            reasons = (*verdict.reasons, ChangeReason.EXCLUDED_BY_OTHER)
            return _Verdict(ChangeKind.DISAGREES, reasons, verdict.doubts, verdict.to)
        return verdict

    def _of_decision(self, decision: Decision) -> list[PriorCharge]:
        names = set(decision.charges)
        return [charge for charge in self.charges if charge.resource in names]

    def _excluded_by_fixed(self, code: str, window: Window) -> bool:
        """Whether a charge that is never touched excludes this code in this time."""
        rule = self._rule(code)
        excluding = [
            other
            for other in self._all
            if other.sole
            and _exclude_each_other(rule, self._rule(other.code))
            and touches(window, [other.occurrence])
        ]
        return any(not self._touchable(other) for other in standing(excluding))


_CHANGES = frozenset({ChangeKind.UPDATE, ChangeKind.REPLACE, ChangeKind.WITHDRAW})


def _exclude_each_other(one: CodeRule, other: CodeRule) -> bool:
    if one.code == other.code or one.program is not other.program:
        return False
    if one.kind is Kind.DEVICE_SUPPLY and other.kind is Kind.DEVICE_SUPPLY:
        return True
    return other.code in one.excludes or one.code in other.excludes


def _order(charge: PriorCharge) -> tuple[date, date, str, str]:
    occurrence = charge.occurrence or Window(date.min, date.min)
    return occurrence.start, occurrence.end, charge.code, charge.resource


def _one_month(window: Window) -> bool:
    return window.start.replace(day=1) == window.end.replace(day=1)


def _gone(charge: PriorCharge, decision: Decision) -> tuple[str, ...]:
    """Records that the charge names and that do not count any more."""
    counted = {
        name
        for requirement in decision.requirements
        for name in (*requirement.all_evidence, *requirement.evidence)
    }
    return tuple(
        name
        for name in charge.evidence
        if name.startswith(("Observation/", "Encounter/")) and name not in counted
    )


def _told(charge: PriorCharge, decision: Decision | None, verdict: _Verdict, touchable: bool) -> Change:
    target = verdict.to
    return Change(
        kind=verdict.kind,
        charge=charge.resource,
        code=charge.code,
        quantity=charge.quantity,
        window=charge.occurrence if decision is None else decision.period,
        service_date=_service_date(charge, decision),
        reasons=verdict.reasons,
        doubts=verdict.doubts,
        to_code=None if target is None else target.code,
        to_quantity=0 if target is None else target.earned,
        decision=target.key if target is not None else None if decision is None else decision.key,
        gone=verdict.gone,
        touchable=touchable,
    )


def _service_date(charge: PriorCharge, decision: Decision | None) -> date | None:
    if decision is not None and decision.service_date is not None:
        return decision.service_date
    return None if charge.occurrence is None else charge.occurrence.end
