"""Where the EHR takes no charge from this app: said first, with what can be charged as text to copy."""

from __future__ import annotations

from dataclasses import dataclass

from fhir_mappings.decision import Decision
from fhir_mappings.vocabulary import Outcome, Unverified
from launch.issuers import Issuer
from launch.ports import LaunchSession
from smartapp.ehr.reading.findings import Findings
from smartapp.web import words
from smartapp.web.permission import create_refusal


@dataclass(frozen=True)
class ByHand:
    """`lines`: one charge each, as a person enters it in the EHR."""

    why: str
    lines: tuple[str, ...]


def by_hand(findings: Findings, session: LaunchSession, issuer: Issuer) -> ByHand | None:
    """None where charges can be written from here."""
    why = create_refusal(session, issuer, findings.writes)
    if why is None:
        return None
    ready = (
        decision
        for decision in findings.assessment.decisions
        if decision.outcome is Outcome.SUGGEST and Unverified.RULES_OF_THE_YEAR not in decision.unverified
    )
    return ByHand(why, tuple(map(_line, ready)))


def _line(decision: Decision) -> str:
    """Code, units, service date, period; and what whoever enters it answers for."""
    parts = [
        f"{decision.code} × {decision.quantity}",
        f"service date {words.day(decision.service_date)}",
        f"for {words.days(decision.period.start, decision.period.end)}",
    ]
    if decision.modifiers:
        parts.append(f"modifiers {', '.join(decision.modifiers)}")
    if decision.unverified:
        told = " ".join(words.ATTESTATIONS[entry] for entry in decision.unverified)
        parts.append(f"not shown by the record: {told}")
    return "; ".join(parts)
