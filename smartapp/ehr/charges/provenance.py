"""Who accepted a charge, in which app, by which rules, on which records: told to the EHR beside the charge.

It comes after the charge was read back and its row closed, once, and only where the EHR granted and declares
it. Whatever becomes of it changes nothing.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from fhir_mappings.charge_item import definition_uri, evidence_elements
from launch.errors import HttpError, LaunchError
from launch.http import Limits
from launch.scopes import Interaction, Scopes
from smartapp.ehr.charges.evidence import decision_of, rules_version_of
from smartapp.ehr.charges.workflow import Hand
from smartapp.ehr.wire.capability import Capabilities
from smartapp.ehr.wire.sending import Fate, send
from smartapp.release import APP, release
from smartapp.store.charges import Charge

_PARTICIPANT = "http://terminology.hl7.org/CodeSystem/provenance-participant-type"


def provenance_of(row: Charge, charge_item: str, recorded: datetime) -> dict[str, Any]:
    """The Provenance (R4) of a charge that the EHR holds."""
    content = row.content
    decision = decision_of(row)
    evidence = evidence_elements(decision)
    sources = [*evidence["service"], *evidence["supportingInformation"]]
    agents = [_agent("author", {"reference": content.confirmed_by})]
    if content.approval is not None:
        agents.append(_agent("verifier", {"reference": content.approval.by}))
    agents.append(_agent("assembler", {"display": f"{APP} {release()}"}))
    resource: dict[str, Any] = {
        "resourceType": "Provenance",
        "target": [{"reference": f"ChargeItem/{charge_item}"}],
        "recorded": recorded.isoformat(timespec="seconds"),
        "policy": [definition_uri(decision, rules_version_of(content.evidence))],
        "agent": agents,
    }
    if sources:
        resource["entity"] = [{"role": "source", "what": source} for source in sources]
    return resource


def tell_provenance(
    hand: Hand, row: Charge, charge_item: str, now: datetime, capabilities: Capabilities, limits: Limits
) -> bool | None:
    """Whether the EHR took it; None where it was not asked to. Never raises for what the EHR does."""
    if not Scopes.parse(hand.session.granted_scope).can("Provenance", Interaction.CREATE):
        return None
    if not capabilities.seen(hand.client).creates("Provenance"):
        return None
    body = msgspec.json.encode(provenance_of(row, charge_item, now))
    try:
        answer = send(lambda: hand.client.fhir("POST", "Provenance", body=body, limits=limits))
    except (HttpError, LaunchError):
        return False
    return answer.fate is Fate.TAKEN


def _agent(kind: str, who: dict[str, str]) -> dict[str, Any]:
    return {"type": {"coding": [{"system": _PARTICIPANT, "code": kind}]}, "who": who}
