"""A charge that was written, and what becomes of it: taken back, updated, or replaced by another code.

Each function takes the ChargeItem as the EHR holds it now and gives the one to write: whatever the EHR or
billing added stays, and a note says what changed, why, and who confirmed it.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from fhir_mappings.charge_item import (
    MODIFIER_EXTENSION,
    ChargeDetails,
    charge_item,
    definition_uri,
    evidence_elements,
    found_in_words,
    modifier_extensions,
    refuse_unchecked_rules,
    validate,
)
from fhir_mappings.decision import Decision
from fhir_mappings.vocabulary import Outcome

TAKEN_BACK = "entered-in-error"
"""The status of a suggestion that was taken back.

Not `not-billable` or `aborted`: those are billing's verdicts on a service that took place, and they keep
standing in the way of what is charged instead until somebody overrides them. `entered-in-error` says what is
true, that this entry was wrong and is not to be processed, and every reader of the EHR leaves it out.
"""

_COPIED = ("performer", "reason", "context", "account", "performingOrganization", "requestingOrganization")
"""What the clinician said of the service itself: a replacement keeps it."""
_OF_SERVER = ("versionId", "lastUpdated")


class Statement(Struct, frozen=True):
    """What a note says: the sentence, who confirmed the change, and when (aware)."""

    text: str
    by: str
    at: datetime


def taken_back(held: Mapping[str, Any], said: Statement) -> dict[str, Any]:
    """The charge with the status that takes it back. Raises `ChargeNotValid`."""
    after = _copy(held)
    after["status"] = TAKEN_BACK
    return _with_note(after, said)


def updated(
    held: Mapping[str, Any], decision: Decision, rules_version: str, said: Statement
) -> dict[str, Any]:
    """The charge with the units and evidence that the record gives now; its status stays as it is.

    Raises `ChargeNotValid`, also where there would be more of it under rules that nobody checked; less is
    always let through.
    """
    after = _copy(held)
    before = _dict(held.get("quantity")).get("value")
    if not isinstance(before, (int, float)) or decision.earned > before:
        refuse_unchecked_rules(decision)
    after["quantity"] = {**_dict(held.get("quantity")), "value": decision.earned}
    elements = evidence_elements(decision)
    others = [item for item in _list(held.get("supportingInformation")) if not _is_record(item)]
    _set(after, "service", elements["service"])
    _set(after, "supportingInformation", [*others, *elements["supportingInformation"]])
    kept = [item for item in _list(held.get("extension")) if _dict(item).get("url") != MODIFIER_EXTENSION]
    _set(after, "extension", [*kept, *modifier_extensions(decision)])
    after["definitionUri"] = [definition_uri(decision, rules_version)]
    return _with_note(after, replace(said, text=f"{said.text} {found_in_words(decision)}"))


def replacement(
    held: Mapping[str, Any], decision: Decision, details: ChargeDetails, said: Statement
) -> dict[str, Any]:
    """A new charge of another code for the same time, with what the old one said of the service.

    Raises `ChargeNotValid`.
    """
    earned = replace(decision, outcome=Outcome.SUGGEST, quantity=decision.earned)
    new = charge_item(earned, details)
    for element in _COPIED:
        if element in held:
            new[element] = copy.deepcopy(held[element])
    return _with_note(new, said)


def _copy(held: Mapping[str, Any]) -> dict[str, Any]:
    after = copy.deepcopy(dict(held))
    meta = {name: value for name, value in _dict(held.get("meta")).items() if name not in _OF_SERVER}
    _set(after, "meta", meta)
    return after


def _with_note(resource: dict[str, Any], said: Statement) -> dict[str, Any]:
    note = {
        "authorReference": {"reference": said.by},
        "time": said.at.isoformat(timespec="seconds"),
        "text": said.text,
    }
    resource["note"] = [*_list(resource.get("note")), note]
    validate(resource)
    return resource


def _is_record(item: object) -> bool:
    """Whether a reference names a record of the kind that evidence is."""
    reference = _dict(item).get("reference")
    return isinstance(reference, str) and any(
        part in f"/{reference}" for part in ("/Observation/", "/Encounter/")
    )


def _set(resource: dict[str, Any], element: str, value: Any) -> None:
    """FHIR knows no empty element."""
    if value:
        resource[element] = value
    else:
        resource.pop(element, None)


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
