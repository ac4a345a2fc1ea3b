"""One resource -> the rows by which search finds it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from launch.sandbox.dates import value_ranges
from launch.sandbox.search_parameters import (
    PARAMETERS,
    PATIENT_PATH,
    PATIENT_THROUGH,
    Kind,
    Parameter,
    elements,
)

_RELATIVE = re.compile(r"(?P<type>[A-Z][A-Za-z]+)/(?P<id>[A-Za-z0-9\-.]{1,64})(?:/_history/[^/]+)?")


@dataclass(frozen=True)
class Target:
    """What a reference points to. ``type`` is "" where the address is not one of this server."""

    type: str
    id: str


@dataclass
class IndexRows:
    """The index rows of one resource: (key, ...) tuples, key = `Type.parameter`."""

    patient: str | None = None
    dates: list[tuple[str, int, int]] = field(default_factory=list)
    tokens: set[tuple[str, str, str]] = field(default_factory=set)
    references: set[tuple[str, str, str]] = field(default_factory=set)


def reference_target(reference: Any, base: str) -> Target | None:
    """The target of a Reference or its text, or None for a contained, logical or display-only one."""
    text = reference.get("reference") if isinstance(reference, dict) else reference
    if not isinstance(text, str) or not text or text.startswith("#"):
        return None
    match = _RELATIVE.fullmatch(text.removeprefix(base + "/"))
    return Target(match["type"], match["id"]) if match else Target("", text)


def patient_of(resource: dict[str, Any], base: str, owner: Callable[[Target], str | None]) -> str | None:
    """The id of the patient a resource belongs to; ``owner`` knows it for resources already stored."""
    type_ = resource.get("resourceType", "")
    if type_ == "Patient":
        return resource.get("id")
    if type_ in PATIENT_PATH:
        for reference in elements(resource, PATIENT_PATH[type_]):
            target = reference_target(reference, base)
            if target and target.type == "Patient":
                return target.id
    if type_ in PATIENT_THROUGH:
        for reference in elements(resource, PATIENT_THROUGH[type_]):
            target = reference_target(reference, base)
            found = target and (target.id if target.type == "Patient" else owner(target))
            if found:
                return found
    return None


def index_rows(resource: dict[str, Any], base: str, patient: str | None) -> IndexRows:
    """All rows of one resource. What a broken element would say is left out, as a real index does."""
    type_ = resource["resourceType"]
    rows = IndexRows(patient)
    for element, key, parameter, path in _PLAN[type_]:
        if element in resource:
            for value in elements(resource, path):
                _add_rows(rows, key, parameter, value, base)
    if type_ == "Provenance" and patient:
        rows.references.add(("Provenance.patient", "Patient", patient))
    return rows


#: For each type: (first element of the path, index key, parameter, path): absent elements cost little.
_PLAN = {
    type_: [
        (path.partition(".")[0], f"{type_}.{name}", parameter, path)
        for name, parameter in parameters.items()
        for path in parameter.paths
    ]
    for type_, parameters in PARAMETERS.items()
}


def _add_rows(rows: IndexRows, key: str, parameter: Parameter, value: Any, base: str) -> None:
    match parameter.kind:
        case Kind.DATE:
            rows.dates.extend((key, found.low, found.high) for found in value_ranges(value))
        case Kind.TOKEN:
            rows.tokens.update([(key, *token) for token in _tokens(value)])
        case Kind.STRING if isinstance(value, str):
            rows.tokens.add((key, value.casefold(), ""))
        case Kind.REFERENCE:
            target = reference_target(value, base)
            if target and (parameter.targets != ("Patient",) or target.type == "Patient"):
                rows.references.add((key, target.type, target.id))


def _tokens(value: Any) -> list[tuple[str, str]]:
    """(code, system) of a code, boolean, Coding, CodeableConcept or Identifier."""
    if isinstance(value, dict):
        codings = value.get("coding")
        found = [token for item in codings for token in _tokens(item)] if isinstance(codings, list) else []
        code = value.get("code", value.get("value"))
        if isinstance(code, str):
            system = value.get("system")
            found.append((code, system if isinstance(system, str) else ""))
        return found
    if isinstance(value, bool):
        return [(str(value).lower(), "")]
    return [(value, "")] if isinstance(value, str) else []
