"""The charge that we suggest, written as a ChargeItem (R4). `prior_charge` reads what was charged before."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from datetime import datetime
from importlib import import_module
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from fhir_mappings.identity import is_made_up
from fhir_mappings.record import PriorCharge
from fhir_mappings.rules.charged import standing
from fhir_mappings.rules.tables import CodeRule, Kind, KnownCodes, shipped_codes
from fhir_mappings.terminology.systems import CPT, HCPCS
from fhir_mappings.time_log import MARK
from fhir_mappings.vocabulary import Outcome, RequirementKind, Unit, Unverified

if TYPE_CHECKING:
    from fhir_mappings.decision import Decision, Requirement

NAMESPACE = "urn:smart-remote-monitoring"
IDENTIFIER_SYSTEM = f"{NAMESPACE}:charge"
RULE_URI = f"{NAMESPACE}:rule:"
MODIFIER_EXTENSION = f"{NAMESPACE}:modifier"
MOST_NOT_READ = 10
MOST_EVIDENCE = 50
"""References a charge carries; the whole evidence stays in its packet."""

# R4's ChargeItem statuses. Model libraries accept any text here, so this is checked by ourselves.
STATUSES = frozenset(
    {
        "planned",
        "billable",
        "not-billable",
        "aborted",
        "billed",
        "entered-in-error",
        "unknown",
    }
)


class ChargeNotValid(ValueError):
    """A ChargeItem that must not leave: its text says which element is wrong, without patient data."""


class Performer(Struct, frozen=True):
    """`function`: `performing` or `ordering`; `actor`: a Practitioner or PractitionerRole reference."""

    function: str
    actor: str


class Diagnosis(Struct, frozen=True):
    system: str
    code: str
    display: str = ""


class ChargeDetails(Struct, frozen=True, kw_only=True):
    """What a claim line needs and only the clinician can say. `issuer`: the FHIR base that the patient is
    known under; `entered_at`: aware."""

    issuer: str
    patient: str
    enterer: str
    entered_at: datetime
    rules_version: str
    performers: tuple[Performer, ...] = ()
    diagnoses: tuple[Diagnosis, ...] = ()
    context: str | None = None
    account: str | None = None
    attested: tuple[str, ...] = ()
    """The sentences that were confirmed for this charge."""
    stated: tuple[str, ...] = ()
    """Statements on record that the decision rests on, each a sentence with who said it, and when."""
    settled: tuple[str, ...] = ()
    """How reasons for a review were settled, told in the same way."""
    logged: int = 0
    """How many of the evidence's Encounters were logged in this app."""
    not_read: tuple[str, ...] = ()
    """What of the chart was not read: "Observation 2026-01-10 to 2026-02-01 (cut-off)"."""
    revision: int = 1
    codes: KnownCodes | None = None
    """Those of the tables in force (`Policy.known`); without them the shipped ones."""


def deterministic_identifier(issuer: str, patient: str, decision: Decision, revision: int = 1) -> str:
    """The same charge is always the same key: issuer, patient, code, window and line decide it.

    `revision` counts what was taken back before: what is earned anew afterwards is another charge, and a
    conditional create must not find the one that was taken back.
    """
    start = decision.period.start.isoformat()
    parts = [issuer.rstrip("/"), patient, decision.code, start, decision.line or ""]
    if revision > 1:
        parts.append(str(revision))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:40]


def conflicting(
    decision: Decision, charges: Iterable[PriorCharge], codes: KnownCodes | None = None
) -> tuple[PriorCharge, ...]:
    """Charges that stand in the way of this one, whoever wrote them and under whatever identifier.

    Those of the same family (start-up, device supply, management; RTM and RPM apart) whose occurrence
    overlaps. A base code and its add-on belong together. A charge without a day may overlap anything; one
    that may be of several codes stands in the way of each; what was taken back stands in none.
    """
    rules = (codes or shipped_codes()).rules
    rule = rules[decision.code]
    overlapping = [
        charge
        for charge in charges
        if _same_family(rule, rules[charge.code])
        and (charge.occurrence is None or charge.occurrence.overlaps(decision.period))
    ]
    return tuple(standing(overlapping))


def charge_item(decision: Decision, details: ChargeDetails) -> dict[str, Any]:
    """The ChargeItem (R4, status `planned`) that suggests this decision. Raises `ChargeNotValid`.

    Only a decision of outcome `suggest` becomes a charge. No code's official wording is sent: the code, and
    a label of our own in the note.
    """
    if decision.outcome is not Outcome.SUGGEST:
        raise ChargeNotValid(f"{decision.code} is {decision.outcome}, not suggest")
    refuse_unchecked_rules(decision)
    rule = (details.codes or shipped_codes()).rules[decision.code]
    resource: dict[str, Any] = {
        "resourceType": "ChargeItem",
        "identifier": [
            {
                "system": IDENTIFIER_SYSTEM,
                "value": deterministic_identifier(
                    details.issuer, details.patient, decision, details.revision
                ),
            }
        ],
        "definitionUri": [definition_uri(decision, details.rules_version)],
        "status": "planned",
        "code": {"coding": [{"system": system_of(decision.code), "code": decision.code}]},
        "subject": {"reference": details.patient},
        **_occurrence_element(decision, rule),
        "performer": [
            {"function": {"text": performer.function}, "actor": {"reference": performer.actor}}
            for performer in details.performers
        ],
        "quantity": {"value": decision.quantity},
        "enterer": {"reference": details.enterer},
        "enteredDate": details.entered_at.isoformat(timespec="seconds"),
        "reason": [
            {
                "coding": [
                    {
                        "system": diagnosis.system,
                        "code": diagnosis.code,
                        **({"display": diagnosis.display} if diagnosis.display else {}),
                    }
                ]
            }
            for diagnosis in details.diagnoses
        ],
        **evidence_elements(decision),
        "note": [{"text": _note(decision, details, rule)}],
    }
    if details.context:
        resource["context"] = {"reference": details.context}
    if details.account:
        resource["account"] = [{"reference": details.account}]
    resource["extension"] = modifier_extensions(decision)
    resource = {key: value for key, value in resource.items() if value not in ([], None)}
    validate(resource)
    return resource


def validate(resource: Mapping[str, Any]) -> None:
    """Raise `ChargeNotValid` unless this is a ChargeItem that R4 allows."""
    if resource.get("status") not in STATUSES:
        raise ChargeNotValid("status is none that R4 knows")
    validate_as("ChargeItem", resource)


def validate_as(type_: str, resource: Mapping[str, Any]) -> None:
    """Raise `ChargeNotValid` unless this is such a resource as R4 allows; it says where, and no value."""
    # Slow to import, and only writes need it.
    model = getattr(import_module(f"fhir.resources.R4B.{type_.lower()}"), type_)
    try:
        model.model_validate(resource)
    except Exception as fault:  # the model library raises more than its own errors
        places: list[Any] = getattr(fault, "errors", list)()
        told = ", ".join(sorted({".".join(map(str, place.get("loc", ()))) for place in places}))
        raise ChargeNotValid(f"not a valid {type_}: {told or type(fault).__name__}") from None


def refuse_unchecked_rules(decision: Decision) -> None:
    """Raise `ChargeNotValid` where the rules of the service date were not checked (D37): whatever a form says
    was confirmed, only the site's file or a newer table settles that."""
    if Unverified.RULES_OF_THE_YEAR in decision.unverified:
        raise ChargeNotValid(f"the rules for {decision.code} end before its service date")


def definition_uri(decision: Decision, rules_version: str) -> str:
    """Which rule of which version a charge rests on."""
    return f"{RULE_URI}{decision.code}:{rules_version}"


def evidence_elements(decision: Decision) -> dict[str, list[dict[str, str]]]:
    """The records a charge names: Observations as the service, everything else beside it."""
    evidence = _evidence(decision)
    return {
        "service": _references(name for name in evidence if name.startswith("Observation/")),
        "supportingInformation": _references(
            name for name in evidence if not name.startswith("Observation/")
        ),
    }


def modifier_extensions(decision: Decision) -> list[dict[str, str]]:
    """R4 has no element for a modifier."""
    return [{"url": MODIFIER_EXTENSION, "valueCode": modifier} for modifier in decision.modifiers]


PERFORMING = "performing"
"""The function of whoever performs the service; `ordering` is whoever ordered it."""


def performer_in(resource: Mapping[str, Any], function: str) -> str | None:
    """Whom a ChargeItem of ours names for a function ("performing", "ordering")."""
    return next(
        (
            entry["actor"]["reference"]
            for entry in resource.get("performer", ())
            if entry["function"]["text"] == function
        ),
        None,
    )


def found_in_words(decision: Decision) -> str:
    """What was found for each requirement, for whoever opens the charge in the EHR."""
    return " ".join(_found(requirement) for requirement in decision.requirements)


def system_of(code: str) -> str:
    """The code system that a code is of: HCPCS's own begin with a letter."""
    return HCPCS if code[:1].isalpha() else CPT


def _same_family(one: CodeRule, other: CodeRule) -> bool:
    if one.program is not other.program or one.code == other.base or other.code == one.base:
        return False
    return _family(one) is _family(other)


def _family(rule: CodeRule) -> Kind:
    return Kind.MANAGEMENT if rule.kind is Kind.MANAGEMENT_ADD_ON else rule.kind


def _occurrence_element(decision: Decision, rule: CodeRule) -> dict[str, Any]:
    if rule.kind is Kind.START_UP and decision.service_date is not None:
        return {"occurrenceDateTime": decision.service_date.isoformat()}
    period = decision.period
    return {"occurrencePeriod": {"start": period.start.isoformat(), "end": period.end.isoformat()}}


def _evidence(decision: Decision) -> list[str]:
    names: dict[str, None] = {}
    for requirement in decision.requirements:
        for name in requirement.evidence:
            if not name.startswith(("urn:", "ChargeItem/")) and not is_made_up(name):
                names[name] = None
    return list(names)[:MOST_EVIDENCE]


def _references(names: Iterable[str]) -> list[dict[str, str]]:
    return [{"reference": name} for name in names]


def _note(decision: Decision, details: ChargeDetails, rule: CodeRule) -> str:
    """What is suggested and why, in plain words, for whoever opens the charge in the EHR."""
    period = decision.period
    words = [
        f"Suggested charge: {decision.code}, {rule.label}, quantity {decision.quantity}.",
        f"Period {period.start.isoformat()} to {period.end.isoformat()}.",
        *(_found(requirement) for requirement in decision.requirements),
    ]
    if decision.modifiers:
        words.append(f"Modifiers proposed: {', '.join(decision.modifiers)}.")
    if details.attested:
        words.append(f"Confirmed by the clinician: {' '.join(details.attested)}")
    if details.stated:
        words.append(f"Stated by a clinician: {'; '.join(details.stated)}.")
    if details.settled:
        words.append(f"Settled by a person: {'; '.join(details.settled)}.")
    if details.logged:
        entries = "entry" if details.logged == 1 else "entries"
        words.append(f"Rests on {details.logged} {entries} {MARK}, signed there by a clinician.")
    if (confirmed := decision.rules_confirmed) is not None:
        words.append(
            f"The rules for this date of service were confirmed by {confirmed.by} on "
            f"{confirmed.on.isoformat()}, source: {confirmed.source}."
        )
    if details.not_read:
        more = len(details.not_read) - MOST_NOT_READ
        told = [*details.not_read[:MOST_NOT_READ], *([f"and {more} more"] if more > 0 else [])]
        words.append(f"The chart was not fully read; missing: {', '.join(told)}.")
    words.append(f"Rules {details.rules_version}. A suggestion for billing review, not a claim.")
    return " ".join(words)


_FOUND = {
    RequirementKind.MONITORING_DAYS: "Monitoring days",
    RequirementKind.MANAGEMENT_TIME: "Management time",
    RequirementKind.LIVE_CONTACT: "Live conversations",
    RequirementKind.SET_UP: "Set-up and teaching",
    RequirementKind.BASE_CODE: "Base code",
}


def _found(requirement: Requirement) -> str:
    found, needed = requirement.found, requirement.needed
    if requirement.unit is Unit.SECONDS:
        told = f"{found // 60}:{found % 60:02d} min (needed {needed // 60}:{needed % 60:02d})"
    else:
        told = f"{found} (needed {needed})"
    return f"{_FOUND[requirement.requirement]}: {told}."
