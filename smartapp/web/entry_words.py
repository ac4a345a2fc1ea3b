"""What a logged entry counts toward, or why it counts for nothing: "it counts" alone may not be true."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date

from fhir_mappings.decision import Decision
from fhir_mappings.time_log import LoggedTime
from fhir_mappings.vocabulary import ExcludedReason, Program, RequirementKind
from smartapp.ehr.reading.findings import Findings, evidence_of
from smartapp.web import words

NOT_DECIDED = "Nothing was decided with it yet."


def counts_for(entry_id: str, logged: LoggedTime, findings: Findings, day: date) -> str:
    """One or two sentences on a signed entry. `day`: the local day on which it began."""
    names = {name for name, known in findings.logged.items() if known == entry_id}
    if not names:
        return NOT_DECIDED
    seconds = sum(span.seconds for span in findings.assessment.spans if span.resource in names)
    if seconds:
        toward = list(_toward(findings.assessment.decisions, logged.program, day))
        told = f" {' '.join(toward)}" if toward else ""
        return f"{_capital(words.minutes(seconds))} of it count.{told}"
    if set_up := [one.code for one in findings.assessment.decisions if names.intersection(evidence_of(one))]:
        return f"It is evidence for {words.listed(dict.fromkeys(set_up))}."
    reason = next((one.reason for one in findings.assessment.excluded if one.resource in names), None)
    if reason is None:
        return "No code rests on it."
    return f"It counts for nothing: {left_out(reason, logged.program)}."


def left_out(reason: ExcludedReason, program: Program | None) -> str:
    """Why an entry of our own counts nothing. It says its program, whatever is said of the EHR's records."""
    if reason is ExcludedReason.PROGRAM_NOT_SHOWN and program is not None:
        name = words.SHORT_PROGRAMS[program]
        return f"it was logged for {name}, and the patient has no {name} data"
    return words.excluded(reason)


def _toward(decisions: Iterable[Decision], program: Program | None, day: date) -> Iterable[str]:
    """How the codes of that month stand with it."""
    for decision in decisions:
        if decision.program is not program or day not in decision.period:
            continue
        for part in decision.requirements:
            if part.requirement is RequirementKind.MANAGEMENT_TIME:
                told = words.found_of(part.found, part.needed, part.unit)
                yield f"{decision.code}, {words.days(decision.period.start, decision.period.end)}: {told}."


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
