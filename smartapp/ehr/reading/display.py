"""What a charge needs beside the decision, as the chart has it: who, for what, in which encounter.

All of it is display and choice: nothing decides whether a code is earned. Never raises on shape.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import Struct

from fhir_mappings.identity import REPLACED_BY
from smartapp.ehr.wire.json_guard import Unreadable, decoded

ICD_10_CM = "http://hl7.org/fhir/sid/icd-10-cm"
NPI = "http://hl7.org/fhir/sid/us-npi"
_CURRENT = frozenset({"active", "recurrence", "relapse", ""})
_WRONG = frozenset({"entered-in-error", "refuted"})
LONGEST_TEXT = 120


class Banner(Struct, frozen=True):
    """Whose chart this is."""

    name: str = ""
    birth_date: str = ""
    mrn: str = ""
    gender: str = ""
    replaced_by: str = ""
    """What the record of the same person is called that stands in the place of this one."""


class Choice(Struct, frozen=True):
    """Something a clinician can choose for a charge."""

    reference: str
    text: str
    codings: tuple[dict[str, str], ...] = ()


class Choices(Struct, frozen=True):
    """Everything that can be chosen, as the chart holds it. Nothing is ever chosen beforehand."""

    conditions: tuple[Choice, ...] = ()
    practitioners: tuple[Choice, ...] = ()
    encounters: tuple[Choice, ...] = ()
    accounts: tuple[Choice, ...] = ()
    coverages: tuple[Choice, ...] = ()


def decode(raw: bytes) -> dict[str, Any]:
    """A resource as a dict; an empty one where it is no JSON object."""
    try:
        value = decoded(raw)
    except Unreadable:
        return {}
    return value if isinstance(value, dict) else {}


def _dicts(value: object) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str:
    return value.strip()[:LONGEST_TEXT] if isinstance(value, str) else ""


def codings(concept: object) -> Iterator[dict[str, str]]:
    """The codings of a CodeableConcept that name system and code; texts only."""
    for coding in _dicts(_dict(concept).get("coding")):
        kept = {key: _text(coding.get(key)) for key in ("system", "code", "display")}
        if kept["system"] and kept["code"]:
            yield {key: value for key, value in kept.items() if value}


def concept_text(concept: object) -> str:
    """What a person calls it: the text, else a display, else the code."""
    said = _text(_dict(concept).get("text"))
    parts = _dicts(_dict(concept).get("coding"))
    return (
        said
        or next((_text(c.get("display")) for c in parts if _text(c.get("display"))), "")
        or next((_text(c.get("code")) for c in parts if _text(c.get("code"))), "")
    )


def human_name(names: object) -> str:
    """ "Given Family" of the official, else the usual, else the first name."""
    order = {"official": 0, "usual": 1}
    for name in sorted(_dicts(names), key=lambda name: order.get(str(name.get("use")), 2)):
        parts = name.get("given")
        given = " ".join(filter(None, map(_text, parts if isinstance(parts, list) else [])))
        said = _text(name.get("text")) or f"{given} {_text(name.get('family'))}".strip()
        if said:
            return said
    return ""


def banner(patient: dict[str, Any]) -> Banner:
    identifiers = _dicts(patient.get("identifier"))
    # A single identifier without a type is the record number; of several nobody can tell.
    mrn = _text(identifiers[0].get("value")) if len(identifiers) == 1 and "type" not in identifiers[0] else ""
    for identifier in identifiers:
        kinds = {_text(coding.get("code")) for coding in _dicts(_dict(identifier.get("type")).get("coding"))}
        if "MR" in kinds:
            mrn = mrn or _text(identifier.get("value"))
    return Banner(
        human_name(patient.get("name")),
        _text(patient.get("birthDate")),
        mrn,
        _text(patient.get("gender")),
        _replaced_by(patient),
    )


def _replaced_by(patient: dict[str, Any]) -> str:
    for link in _dicts(patient.get("link")):
        other = _dict(link.get("other"))
        if link.get("type") in REPLACED_BY:
            return _text(other.get("display")) or _text(other.get("reference")) or "another record"
    return ""


def condition_choice(condition: dict[str, Any]) -> Choice | None:
    """A present diagnosis with a coding; None for a past, refuted or uncoded one."""
    clinical = [_text(c.get("code")) for c in _dicts(_dict(condition.get("clinicalStatus")).get("coding"))]
    verification = {
        _text(c.get("code")) for c in _dicts(_dict(condition.get("verificationStatus")).get("coding"))
    }
    found = tuple(codings(condition.get("code")))
    if not found or verification & _WRONG or (clinical and not set(clinical) & _CURRENT):
        return None
    icd = next((coding["code"] for coding in found if coding["system"] == ICD_10_CM), None)
    label = concept_text(condition.get("code"))
    text = f"{icd}  {label}" if icd and label != icd else label
    return Choice(f"Condition/{condition.get('id')}", text, found)


def practitioner_choice(resource: dict[str, Any]) -> Choice | None:
    """A person who may perform or order: a Practitioner, by name."""
    if resource.get("resourceType") != "Practitioner" or resource.get("active") is False:
        return None
    name = human_name(resource.get("name"))
    npi = next(
        (_text(i.get("value")) for i in _dicts(resource.get("identifier")) if i.get("system") == NPI), ""
    )
    text = f"{name or resource.get('id')}" + (f" (NPI {npi})" if npi else "")
    codings = ({"system": NPI, "code": npi},) if npi else ()
    return Choice(f"Practitioner/{resource.get('id')}", text, codings)


def encounter_choice(encounter: dict[str, Any]) -> Choice | None:
    if _text(encounter.get("status")) in {"cancelled", "entered-in-error"}:
        return None
    start = _text(_dict(encounter.get("period")).get("start"))[:10]
    kind = next((concept_text(part) for part in _dicts(encounter.get("type"))), "")
    kind = kind or _text(_dict(encounter.get("class")).get("display"))
    kind = kind or _text(_dict(encounter.get("class")).get("code"))
    return Choice(f"Encounter/{encounter.get('id')}", f"{start or 'no date'}  {kind}".strip())


def account_choice(account: dict[str, Any]) -> Choice | None:
    if account.get("status") is not None and _text(account["status"]) not in {"active", "on-hold"}:
        return None
    return Choice(
        f"Account/{account.get('id')}",
        _text(account.get("name")) or concept_text(account.get("type")) or "Account",
    )


def coverage_choice(coverage: dict[str, Any]) -> Choice | None:
    if coverage.get("status") != "active":
        return None
    payor = next((_text(part.get("display")) for part in _dicts(coverage.get("payor"))), "")
    return Choice(f"Coverage/{coverage.get('id')}", payor or concept_text(coverage.get("type")) or "Coverage")


_CHOOSERS = {
    "Condition": ("conditions", condition_choice),
    "Practitioner": ("practitioners", practitioner_choice),
    "Encounter": ("encounters", encounter_choice),
    "Account": ("accounts", account_choice),
    "Coverage": ("coverages", coverage_choice),
}
CHOOSABLE = frozenset({*_CHOOSERS, "Patient"})


def choices(resources: list[dict[str, Any]]) -> Choices:
    """All that can be chosen, encounters newest first, the rest by text."""
    found: dict[str, list[Choice]] = {}
    for resource in resources:
        type_, logical_id = resource.get("resourceType"), resource.get("id")
        if isinstance(type_, str) and type_ in _CHOOSERS and isinstance(logical_id, str) and logical_id:
            area, chooser = _CHOOSERS[type_]
            if (choice := chooser(resource)) is not None:
                found.setdefault(area, []).append(choice)
    ordered = {
        area: tuple(sorted(items, key=lambda item: (item.text, item.reference), reverse=area == "encounters"))
        for area, items in found.items()
    }
    return Choices(**ordered)


def value_text(observation: Mapping[str, Any]) -> str:
    """What an Observation measured, with its unit; its parts each with their own where they differ."""
    parts = _dicts(observation.get("component"))
    values = [part for part in map(_value, parts) if part[0]]
    if not values or _value(observation)[0]:
        return " ".join(filter(None, _value(observation)))
    units = {unit for _, unit in values}
    if len(units) == 1:
        return f"{'/'.join(value for value, _ in values)} {units.pop()}".strip()
    return " / ".join(" ".join(filter(None, part)) for part in values)


def _value(observation: Mapping[str, Any]) -> tuple[str, str]:
    """Value and unit."""
    quantity = _dict(observation.get("valueQuantity"))
    if "value" in quantity:
        return str(quantity["value"])[:LONGEST_TEXT], _text(quantity.get("unit")) or _text(
            quantity.get("code")
        )
    for key in ("valueString", "valueInteger", "valueBoolean"):
        if key in observation:
            return str(observation[key])[:LONGEST_TEXT], ""
    if "valueCodeableConcept" in observation:
        return concept_text(observation["valueCodeableConcept"]), ""
    return "", ""
