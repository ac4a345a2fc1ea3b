"""What a strict EHR accepts in a write: R4's structure, its codes, and references that lead somewhere.

fhir.resources (R4B is R4 for the types held here) checks structure; it takes any text as a status, so the
required value sets of the `code` elements stand here.
"""

from __future__ import annotations

import importlib
import json
import math
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

from launch.sandbox.indexing import Target, reference_target
from launch.sandbox.search_parameters import PARAMETERS

_EVENT = "preparation in-progress not-done on-hold stopped completed entered-in-error unknown"
_REQUEST = "draft active on-hold revoked completed entered-in-error unknown"
#: Required bindings: (type, element) -> codes.
REQUIRED_CODES: dict[tuple[str, str], frozenset[str]] = {
    key: frozenset(codes.split())
    for key, codes in {
        (
            "ChargeItem",
            "status",
        ): "planned billable not-billable aborted billed entered-in-error unknown",
        (
            "Observation",
            "status",
        ): "registered preliminary final amended corrected cancelled entered-in-error unknown",
        ("Device", "status"): "active inactive entered-in-error unknown",
        (
            "DeviceUseStatement",
            "status",
        ): "active completed entered-in-error intended stopped on-hold",
        (
            "Encounter",
            "status",
        ): "planned arrived triaged in-progress onleave finished cancelled entered-in-error unknown",
        (
            "EpisodeOfCare",
            "status",
        ): "planned waitlist active onhold finished cancelled entered-in-error",
        ("Consent", "status"): "draft proposed active rejected inactive entered-in-error",
        ("ServiceRequest", "status"): _REQUEST,
        (
            "ServiceRequest",
            "intent",
        ): "proposal plan directive order original-order reflex-order filler-order instance-order option",
        (
            "Task",
            "status",
        ): "draft requested received accepted rejected ready cancelled in-progress on-hold failed completed"
        " entered-in-error",
        (
            "Task",
            "intent",
        ): "unknown proposal plan order original-order reflex-order filler-order instance-order option",
        ("DocumentReference", "status"): "current superseded entered-in-error",
        ("CarePlan", "status"): _REQUEST,
        ("CarePlan", "intent"): "proposal plan order option",
        ("Coverage", "status"): "active cancelled draft entered-in-error",
        ("Account", "status"): "active inactive entered-in-error on-hold unknown",
        ("Communication", "status"): _EVENT,
        (
            "Appointment",
            "status",
        ): "proposed pending booked arrived fulfilled cancelled noshow entered-in-error checked-in waitlist",
        ("DeviceMetric", "category"): "measurement setting calculation unspecified",
        ("Patient", "gender"): "male female other unknown",
    }.items()
}

#: Elements whose minimum cardinality is 1 (kept in an `_elements` answer).
MANDATORY: dict[str, tuple[str, ...]] = {
    "Observation": ("status", "code"),
    "ChargeItem": ("status", "code", "subject"),
    "Encounter": ("status", "class"),
    "EpisodeOfCare": ("status", "patient"),
    "Consent": ("status", "scope", "category"),
    "ServiceRequest": ("status", "intent", "subject"),
    "CarePlan": ("status", "intent", "subject"),
    "Condition": ("subject",),
    "Procedure": ("status", "subject"),
    "Coverage": ("status", "beneficiary", "payor"),
    "Account": ("status",),
    "Provenance": ("target", "recorded", "agent"),
    "Communication": ("status",),
    "Task": ("status", "intent"),
    "DocumentReference": ("status", "content"),
    "Appointment": ("status", "participant"),
    "DeviceMetric": ("type", "category"),
    "DeviceUseStatement": ("status", "subject", "device"),
}

#: Beyond the base specification: what a charge needs before a billing office takes it.
_CHARGE_NEEDS = ("occurrenceDateTime", "occurrencePeriod", "occurrenceTiming")


class Invalid(ValueError):
    """A resource that is refused; ``code`` is an OperationOutcome issue type."""

    def __init__(self, code: str, text: str, expression: str = "") -> None:
        super().__init__(text)
        self.code = code
        self.expression = expression


def parse_json(body: bytes) -> Any:
    """JSON of a request body. Raises Invalid on broken JSON, a repeated name, NaN or absurd nesting."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise Invalid("structure", "a JSON object holds one name twice")
        return found

    def no_constant(_: str) -> Any:
        raise Invalid("structure", "NaN and Infinity are no JSON")

    def integer(text: str) -> int:
        if len(text) > 18:
            raise Invalid("structure", "a number has too many digits")
        return int(text)

    def decimal(text: str) -> float:
        if not math.isfinite(float(text)):
            raise Invalid("structure", "a number is too large")
        return float(text)

    try:
        return json.loads(
            body,
            object_pairs_hook=unique,
            parse_constant=no_constant,
            parse_int=integer,
            parse_float=decimal,
        )
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError):
        raise Invalid("structure", "the body is not JSON") from None


def validate(resource: Any, type_: str, base: str, exists: Callable[[Target], bool]) -> dict[str, Any]:
    """The resource if it may be stored as ``type_``. Raises Invalid with the first thing that is wrong."""
    if not isinstance(resource, dict) or resource.get("resourceType") != type_:
        raise Invalid("invalid", f"the body is not a {type_}", "resourceType")
    try:
        _check_structure(resource, type_)
        _check_codes(resource, type_)
        if type_ == "ChargeItem":
            _check_charge(resource)
        if type_ == "Encounter":
            _check_encounter(resource)
        _check_references(resource, base, exists)
    except RecursionError:
        raise Invalid("structure", "the body is nested too deeply") from None
    return resource


def _check_structure(resource: dict[str, Any], type_: str) -> None:
    from pydantic import ValidationError

    model = getattr(importlib.import_module(f"fhir.resources.R4B.{type_.lower()}"), type_)
    # `id` is the server's; fhir.resources would judge the one that is replaced anyway.
    content = {name: value for name, value in resource.items() if name != "id"}
    try:
        model.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise Invalid("invalid", f"{type_}: {first['msg']}", where) from None
    except (KeyError, TypeError, ValueError, AttributeError):
        # fhir.resources raises these bare, e.g. for a contained resource of a type it doesn't know.
        raise Invalid("invalid", f"{type_} can't be read as R4") from None
    for value in _strings(resource):
        if not value.strip():
            raise Invalid("invalid", "an element is empty")
        if any("\ud800" <= character <= "\udfff" for character in value):
            raise Invalid("invalid", "a text holds half of a surrogate pair")


def _check_codes(resource: dict[str, Any], type_: str) -> None:
    for (owner, element), codes in REQUIRED_CODES.items():
        if owner == type_ and element in resource and resource[element] not in codes:
            raise Invalid("code-invalid", f"{type_}.{element} has no such code", f"{type_}.{element}")


def _check_charge(charge: dict[str, Any]) -> None:
    if not any(coding.get("code") and coding.get("system") for coding in charge["code"].get("coding", ())):
        raise Invalid("business-rule", "a charge needs a coded procedure", "ChargeItem.code.coding")
    if not any(name in charge for name in _CHARGE_NEEDS):
        raise Invalid("business-rule", "a charge needs an occurrence", "ChargeItem.occurrence[x]")
    quantity = charge.get("quantity", {}).get("value", 1)
    if not isinstance(quantity, int | float) or quantity <= 0:
        raise Invalid("business-rule", "a charge's quantity is above zero", "ChargeItem.quantity")
    if not charge["subject"].get("reference"):
        raise Invalid("business-rule", "a charge names its patient", "ChargeItem.subject")


def _check_encounter(encounter: dict[str, Any]) -> None:
    """What an EHR asks of a contact that somebody else's system documents."""
    class_ = encounter["class"]
    if not (class_.get("system") and class_.get("code")):
        raise Invalid("business-rule", "an encounter needs a coded class", "Encounter.class")
    if not encounter.get("subject", {}).get("reference"):
        raise Invalid("business-rule", "an encounter names its patient", "Encounter.subject")
    if encounter["status"] != "finished":
        return
    period = encounter.get("period", {})
    if not (period.get("start") and period.get("end")):
        raise Invalid("business-rule", "a finished encounter has a beginning and an end", "Encounter.period")
    if not encounter.get("participant"):
        raise Invalid("business-rule", "a finished encounter names who took part", "Encounter.participant")
    try:
        lasted = datetime.fromisoformat(period["end"]) - datetime.fromisoformat(period["start"])
    except (ValueError, TypeError):
        raise Invalid("business-rule", "beginning and end are times", "Encounter.period") from None
    if lasted < timedelta():
        raise Invalid("business-rule", "the encounter ends before it begins", "Encounter.period")


def _check_references(resource: dict[str, Any], base: str, exists: Callable[[Target], bool]) -> None:
    contained = {item.get("id") for item in resource.get("contained", ()) if isinstance(item, dict)}
    for text in _references(resource):
        if text.startswith("#"):
            if text[1:] and text[1:] not in contained:
                raise Invalid("not-found", f"nothing is contained as {text[:80]}")
            continue
        target = reference_target(text, base)
        if target and target.type in PARAMETERS and not exists(target):
            raise Invalid("not-found", f"{target.type}/{target.id} is not here")


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name, item in value.items():
            if name == "reference" and isinstance(item, str):
                yield item
            else:
                yield from _references(item)
    elif isinstance(value, list):
        for item in value:
            yield from _references(item)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)
