"""One code of a window, as a page shows it: how it stands, on what, by which rule, and what can be done next.

Nothing is decided here. Numbers, reasons and evidence come from the decision; this module only says them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

from fhir_mappings.completeness import in_words
from fhir_mappings.decision import Decision, Requirement
from fhir_mappings.rules.hints import HINTS
from fhir_mappings.rules.minutes import MOST_SECONDS_OF_A_DAY
from fhir_mappings.vocabulary import (
    ExcludedReason,
    Hint,
    Outcome,
    RequirementKind,
    ReviewReason,
    Role,
    Unverified,
)
from smartapp.configuration.site import Site
from smartapp.ehr.reading.auditor_notes import notes_on
from smartapp.ehr.reading.findings import Findings, evidence_of
from smartapp.ehr.reading.own_record import StatementLine
from smartapp.ehr.reading.rule_words import RuleView, rule_view
from smartapp.store.charges import Charge
from smartapp.web import words
from smartapp.web.records import RecordView, record_views
from smartapp.web.resolutions import settled_sentences, signed
from smartapp.web.ways_out import WayOut, ways_out
from smartapp.windows import Standing

_UNMET = frozenset({Outcome.SHORT, Outcome.OUT_OF_REACH, Outcome.BLOCKED})
_IN_THE_BLOCK = frozenset({RequirementKind.MONITORING_DAYS, RequirementKind.MANAGEMENT_TIME})
"""Requirements whose records the window shows, day by day and minute by minute."""


@dataclass(frozen=True)
class RequirementView:
    name: str
    told: str
    """What was found of what is needed."""
    met: bool
    evidence: tuple[RecordView, ...]


@dataclass(frozen=True)
class ReasonView:
    """A doubt that a person must settle, and the way to settle it, where there is one."""

    text: str
    way: WayOut | None


@dataclass(frozen=True)
class CardView:
    """`standing` is None on a page about this code alone, which says by itself what becomes of it."""

    decision: Decision
    label: str
    period: str
    standing: Standing | None
    sentence: str
    reasons: tuple[ReasonView, ...]
    requirements: tuple[RequirementView, ...]
    rule: RuleView
    modifiers: tuple[tuple[str, str], ...]
    """Those that are proposed, each with its reason."""
    before_reading: bool
    """The window began before what was read: its numbers would be wrong, so none are shown."""
    charge: Charge | None
    """Our own charge for this decision, whatever became of it."""
    can_accept: bool
    shut: str | None = None
    """Why nobody can accept it here before the rules of its service date are confirmed (D37)."""
    notes: tuple[str, ...] = ()
    """For an auditor (D19); they change nothing."""
    fee: str | None = None
    """The site's own amount for these units, with its year and source; None without a fee table."""
    statements: tuple[StatementLine, ...] = ()
    """What clinicians stated here that holds for this code and period."""

    @property
    def state(self) -> tuple[str, str]:
        """A shape and words: no state is told by its colour alone."""
        return words.STANDINGS[self.standing] if self.standing is not None else ("", "")

    @property
    def unverified(self) -> tuple[Unverified, ...]:
        """What a clinician can state."""
        return statable(self.decision)


def card_view(decision: Decision, findings: Findings, site: Site) -> CardView:
    """One code by itself, as the preview shows it."""
    return card(decision, findings, site, None, None, None, "")


def card(
    decision: Decision,
    findings: Findings,
    site: Site,
    charge: Charge | None,
    refusal: str | None,
    standing: Standing | None,
    sentence: str,
    whole: bool = True,
) -> CardView:
    """One code of the page. `refusal`: why nothing may be accepted; `sentence`: how it stands, in words.
    `whole`: with what its requirements rest on; else without."""
    policy = site.policies.of(findings.said["payer"])
    today = date.fromisoformat(findings.said["as_of"])
    before_reading = decision.period.start < findings.history_from
    return CardView(
        decision=decision,
        label=policy.code(decision.code).label,
        period=words.days(decision.period.start, decision.period.end),
        standing=standing,
        sentence="" if before_reading else sentence,
        reasons=tuple(_reasons(decision, findings)),
        requirements=()
        if before_reading or not whole
        else tuple(_requirement(part, findings) for part in decision.requirements),
        rule=rule_view(policy, decision.code, decision.service_date or min(decision.period.end, today)),
        modifiers=tuple(
            (name, words.modifier(name, policy.assistant_de_minimis_percent)) for name in decision.modifiers
        ),
        before_reading=before_reading,
        charge=charge,
        can_accept=refusal is None and standing is Standing.READY,
        shut=rules_not_confirmed(decision, site) if standing in {Standing.SHUT, None} else None,
        notes=()
        if before_reading
        else notes_on(decision, findings.assessment.spans, findings.late, site.zone, findings.said),
        fee=_fee(decision, site),
        statements=statements_on(decision, findings),
    )


def rules_not_confirmed(decision: Decision, site: Site) -> str | None:
    """Why this cannot be charged, whatever a form says: the rules of its service date are not confirmed."""
    if Unverified.RULES_OF_THE_YEAR not in decision.unverified:
        return None
    return words.rules_end(site.policy.ends[decision.code])


def statable(decision: Decision) -> tuple[Unverified, ...]:
    """What the record does not show and a clinician can state; the rules of a year are none of it (D37)."""
    return tuple(entry for entry in decision.unverified if entry is not Unverified.RULES_OF_THE_YEAR)


def _fee(decision: Decision, site: Site) -> str | None:
    """What the site's table says for the units of a decision that stands, charged or not."""
    fee = None if decision.service_date is None else site.fees.fee(decision.code, decision.service_date)
    if fee is None or decision.outcome in _UNMET:
        return None
    total = Decimal(fee.amount) * decision.quantity
    return f"{total} {fee.currency}, the site's table for {fee.year} ({fee.source})"


def kept_here(decision: Decision, findings: Findings, site: Site) -> dict[str, Any]:
    """What of a decision rests on this app's own record, and on a chart that was not fully read, for the
    charge's note: see `ChargeDetails`."""
    return {
        "stated": tuple(
            signed(
                words.attestation(line.statement, decision.period),
                line.by_name or line.by,
                site.today(line.at),
            )
            for line in statements_on(decision, findings)
        ),
        "settled": settled_sentences(decision, findings, site),
        "logged": sum(name in findings.logged for name in evidence_of(decision)),
        "not_read": in_words(findings.completeness),
        "codes": site.policy.known,
    }


def statements_on(decision: Decision, findings: Findings) -> tuple[StatementLine, ...]:
    """What clinicians stated here that holds for this code and period."""
    if decision.outcome in _UNMET:
        return ()
    return tuple(line for line in findings.statements if line.covers(decision.code, decision.period))


def _requirement(part: Requirement, findings: Findings) -> RequirementView:
    return RequirementView(
        name=words.REQUIREMENTS[part.requirement],
        told=words.requirement(part),
        met=part.met,
        evidence=() if part.requirement in _IN_THE_BLOCK else record_views(part.evidence, findings),
    )


# Doubts, as exactly as the record allows


def _reasons(decision: Decision, findings: Findings) -> Iterator[ReasonView]:
    if decision.outcome is Outcome.BLOCKED:
        return
    ways = {way.reason: way for way in ways_out(decision)}
    for reason in decision.reasons:
        if reason == ReviewReason.RTM_AND_RPM:
            continue  # said once, at the top of the page, for every code that waits for it
        yield ReasonView(_in_words(reason, decision, findings), ways.get(reason))


def _in_words(reason: str, decision: Decision, findings: Findings) -> str:
    told = None
    if Hint.DENIED in decision.hints:
        told = HINTS[Hint.DENIED]
    elif reason == ReviewReason.STAFF_ROLE:
        told = _whose_role(decision, findings)
    elif reason == ReviewReason.IMPLAUSIBLE_SPAN:
        told = _which_contact(decision, findings)
    elif reason == ReviewReason.EPISODE_UNCLEAR:
        told = _did_care_end(decision, findings)
    return told or words.reason(reason)


def _whose_role(decision: Decision, findings: Findings) -> str | None:
    """Names instead of "somebody": only a person who knows them can answer."""
    names = dict.fromkeys(
        name
        for span in findings.assessment.spans
        if span.program is decision.program
        and span.role == Role.UNKNOWN
        and (told := findings.seen.get(span.resource)) is not None
        and told.day is not None
        and told.day in decision.period
        for name in told.by
    )
    if not names:
        return None
    return f"The role of {words.listed(names)} is not recorded: therapist, assistant or somebody else?"


def _which_contact(decision: Decision, findings: Findings) -> str | None:
    found = [
        f"{words.day(told.day)} ({told.time})"
        for entry in findings.assessment.excluded
        if entry.reason is ExcludedReason.IMPLAUSIBLE_SPAN
        and (told := findings.seen.get(entry.resource)) is not None
        and told.day is not None
        and told.day in decision.period
    ]
    if not found:
        return _too_long_a_day(decision, findings)
    many = len(found) > 1
    return (
        f"The contact{'s' * many} of {words.listed(found)} {'were' if many else 'was'} left out as too long: "
        f"check {'their' if many else 'its'} end time{'s' * many}."
    )


def _too_long_a_day(decision: Decision, findings: Findings) -> str | None:
    """Whose minutes of one day come to more than a day's work (D42)."""
    seconds = Counter[tuple[str, date]]()
    for span in findings.assessment.spans:
        told = findings.seen.get(span.resource)
        day = None if told is None or not told.by else told.day
        if span.program is decision.program and told and day is not None and day in decision.period:
            seconds[words.listed(told.by), day] += span.seconds
    found = [
        f"{name} has {words.minutes(total)} on {words.day(day)}"
        for (name, day), total in sorted(seconds.items(), key=lambda item: (item[0][1], item[0][0]))
        if total > MOST_SECONDS_OF_A_DAY
    ]
    return (
        f"{words.listed(found)}: more than a day's work for one patient. Check the times." if found else None
    )


def _did_care_end(decision: Decision, findings: Findings) -> str | None:
    for anchor in findings.anchors:
        if anchor.program is decision.program and anchor.silent is not None:
            silent = words.days(anchor.silent.start, anchor.silent.end)
            return f"Did care end before {words.day(decision.period.start)}? There are no data {silent}."
    return None
