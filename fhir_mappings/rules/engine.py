"""Which codes are earned. `assess(record, policy, as_of)` is deterministic: equal input, equal bytes.

It works in two steps. First each code is looked at alone in each of its windows and becomes a `Candidate`:
what was found, what is needed, and every doubt (`start_up`, `device_supply`, `management`). Then the
candidates are held against each other (`compare`), and each becomes the first outcome that fits.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date

from msgspec.structs import replace

from fhir_mappings.decision import (
    Assessment,
    Decision,
    RulesConfirmed,
    reason_order,
    sorted_excluded,
    unverified_order,
)
from fhir_mappings.local_time import clock_of
from fhir_mappings.record import Excluded, PatientRecord, PriorCharge, Resolution
from fhir_mappings.rules.candidate import Candidate
from fhir_mappings.rules.charged import units_charged
from fhir_mappings.rules.compare import ExclusionViolated, check_exclusions, compare
from fhir_mappings.rules.device_supply import charges_without_window, device_candidates
from fhir_mappings.rules.management import held_back_candidates, management_candidates
from fhir_mappings.rules.policy import Policy
from fhir_mappings.rules.program import ProgramChart, program_charts, unused_time
from fhir_mappings.rules.resolutions import settle, told, usable, with_choices
from fhir_mappings.rules.start_up import start_up_candidates
from fhir_mappings.rules.tables import Kind
from fhir_mappings.rules.unread import compare_with_unread
from fhir_mappings.vocabulary import (
    ExcludedReason,
    Hint,
    Outcome,
    ReviewReason,
    Role,
)


def decide(
    record: PatientRecord,
    policy: Policy,
    as_of: date,
    *,
    performer: str | None = None,
    performs_as: Role = Role.UNKNOWN,
) -> tuple[Decision, ...]:
    """The decisions of `assess` alone."""
    return assess(record, policy, as_of, performer=performer, performs_as=performs_as).decisions


def assess(
    record: PatientRecord,
    policy: Policy,
    as_of: date,
    *,
    all_evidence: bool = False,
    performer: str | None = None,
    performs_as: Role = Role.UNKNOWN,
) -> Assessment:
    """Every decision for one patient on a day, with what the rules left out.

    `record` holds nothing dated after `as_of` (a local day). `all_evidence` adds every counted reading and
    span, for whoever shows them. `performer`: whom somebody chose to perform a charge (`Practitioner/7`, as
    `Chart.person_of` names people): their visits are the program's as well (D35). `performs_as`: the role in
    which they work: whether they may bill is stated only where that does not show it. Raises
    `ExclusionViolated` rather than answer with two excluded codes.
    """
    settled = usable(record.resolutions)
    as_read = replace(record, resolutions=()) if record.resolutions else record

    def believing(resolutions: tuple[Resolution, ...]) -> Assessment:
        chosen = with_choices(replace(as_read, resolutions=resolutions), clock_of(record.zone))
        return _assess(chosen, policy, as_of, all_evidence, performer, performs_as)

    if not settled:
        return _assess(as_read, policy, as_of, all_evidence, performer, performs_as)
    try:
        decisions = tuple(sorted(told(lambda some: believing(some).decisions, settled), key=_order))
        check_exclusions(decisions, policy, settled)
        return replace(believing(settled), decisions=decisions)
    except ExclusionViolated:
        # What was settled of single codes does not go together: then nothing of it is believed.
        return believing(())


def _assess(
    record: PatientRecord,
    policy: Policy,
    as_of: date,
    all_evidence: bool,
    performer: str | None,
    performs_as: Role,
) -> Assessment:
    """`assess` of a record whose resolutions are all believed."""
    excluded: set[Excluded] = set(record.excluded)
    charts = program_charts(
        record,
        policy,
        as_of,
        excluded,
        all_evidence=all_evidence,
        performer=performer,
        performs_as=performs_as,
    )
    candidates = [candidate for chart in charts for candidate in _candidates(chart)]
    for chart in charts:
        excluded |= charges_without_window(chart)
    excluded |= unused_time(record, charts, excluded)
    compare(candidates, record, policy)
    if record.resolutions:
        settle(candidates, record, policy)
    if not record.completeness.whole:
        compare_with_unread(candidates, charts, policy)
    decisions = tuple(sorted([_decision(candidate, record, policy) for candidate in candidates], key=_order))
    excluded |= _untold(record, decisions, policy)
    check_exclusions(decisions, policy, record.resolutions)
    shown = charts if all_evidence else ()
    return Assessment(
        decisions,
        sorted_excluded(excluded),
        tuple(day for chart in shown for day in chart.counted_days()),
        tuple(span for chart in shown for span in chart.counted_spans()),
    )


def _candidates(chart: ProgramChart) -> list[Candidate]:
    begun = chart.begun()
    if begun is None:
        return []
    return [
        *start_up_candidates(chart),
        *device_candidates(chart),
        *management_candidates(chart, begun),
        *held_back_candidates(chart),
    ]


def _untold(record: PatientRecord, decisions: Iterable[Decision], policy: Policy) -> set[Excluded]:
    """Charges without a date, or of one among several codes, that no decision speaks of: nobody could see
    them otherwise."""
    unclear = [charge for charge in record.charges if charge.occurrence is None or not charge.sole]
    if not unclear:
        return set()
    told: set[object] = set()
    for decision in decisions:
        told.update(decision.reasons)
        if ReviewReason.CHARGED_PERIOD_UNCLEAR in decision.reasons:
            told.add((decision.program, policy.code(decision.code).kind))
    seen = {
        charge.resource
        for charge in unclear
        if charge.code in told or (policy.code(charge.code).program, _family(charge, policy)) in told
    }
    return {
        Excluded(charge.resource, ExcludedReason.CHARGED_PERIOD_UNCLEAR)
        for charge in unclear
        if charge.resource not in seen
    }


def _family(charge: PriorCharge, policy: Policy) -> Kind:
    kind = policy.code(charge.code).kind
    return Kind.MANAGEMENT if kind is Kind.MANAGEMENT_ADD_ON else kind


def _hints(candidate: Candidate, *, denied: bool) -> tuple[Hint, ...]:
    told = candidate.hints if candidate.met else frozenset()
    if denied:
        told |= {Hint.DENIED}
    return tuple(hint for hint in Hint if hint in told) if told else ()


def _order(decision: Decision) -> tuple[date, date, str]:
    return decision.period.start, decision.period.end, decision.code


def _decision(candidate: Candidate, record: PatientRecord, policy: Policy) -> Decision:
    """The first outcome that fits."""
    rule = candidate.rule
    year = policy.year(rule.code, candidate.service_date)
    reasons: Iterable[ReviewReason | str] = ()
    service_date: date | None = candidate.service_date
    quantity = candidate.units
    denied = any(charge.denied for charge in candidate.charges)
    if denied:
        # After what was settled, on purpose: nothing that anybody settles has it charged anew (D29).
        outcome, reasons = Outcome.REVIEW, (ReviewReason.CHARGED_PERIOD_UNCLEAR,)
        quantity = units_charged(candidate.charges)
    elif candidate.charges:
        outcome = Outcome.CHARGED
        quantity = units_charged(candidate.charges)
    elif not candidate.met:
        still = candidate.open and candidate.reachable and not record.dead
        outcome = Outcome.SHORT if still else Outcome.OUT_OF_REACH
        reasons, service_date, quantity = candidate.unmet_reasons, None, 0
    elif candidate.blocked_by is not None:
        outcome, reasons = Outcome.BLOCKED, (candidate.blocked_by,)
    elif candidate.reasons:
        outcome, reasons = Outcome.REVIEW, candidate.reasons
    elif candidate.open:
        outcome = Outcome.PROVISIONAL
    else:
        outcome = Outcome.SUGGEST
    doubts = candidate.reasons | candidate.instead if candidate.met else candidate.unmet_reasons
    unverified = candidate.unverified
    if record.attestations:
        unverified = unverified - {
            attestation.statement
            for attestation in record.attestations
            if attestation.covers(rule.code, candidate.window)
        }
    # After the statements: whether a rule still holds is the site's to confirm, and nobody's to attest.
    if year.unverified:
        unverified |= year.unverified
    return Decision(
        rule.code,
        rule.program,
        candidate.line,
        quantity,
        outcome,
        candidate.window,
        service_date,
        candidate.requirements,
        reason_order(reasons) if reasons else (),
        unverified_order(unverified),
        candidate.modifiers,
        None if record.dead else candidate.forecast,
        tuple(dict.fromkeys([charge.resource for charge in candidate.charges])) if candidate.charges else (),
        candidate.units if candidate.met else 0,
        reason_order(doubts) if doubts else (),
        None
        if year.confirmed is None
        else RulesConfirmed(year.confirmed.by, year.confirmed.on, year.confirmed.source),
        hints=_hints(candidate, denied=denied),
        alternative=candidate.alternative,
    )
