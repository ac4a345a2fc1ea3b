"""What an EHR asks that takes charges by an operation of its own: Parameters, one coding, no identifier."""

from __future__ import annotations

from typing import Any

from launch.sandbox.validation import Invalid, parse_json

_FOUND_BY = frozenset({"_id", "context", "account"})


def own_charge(body: bytes) -> dict[str, Any]:
    """The ChargeItem of a `$create`, as it is filed. Raises Invalid."""
    parameters = parse_json(body)
    if not isinstance(parameters, dict) or parameters.get("resourceType") != "Parameters":
        raise Invalid("invalid", "the body is no Parameters", "resourceType")
    given = {one.get("name"): one for one in parameters.get("parameter", ()) if isinstance(one, dict)}
    charge = given.get("chargeItem", {}).get("resource")
    if not str(given.get("transactionId", {}).get("valueUuid", "")).startswith("urn:uuid:"):
        raise Invalid("required", "a transactionId is a UUID", "Parameters.parameter")
    if not isinstance(charge, dict):
        raise Invalid("required", "there is no chargeItem", "Parameters.parameter")
    if charge.get("status") != "unknown":
        raise Invalid("business-rule", "a charge is created as unknown", "ChargeItem.status")
    for name in ("context", "occurrenceDateTime", "quantity"):
        if name not in charge:
            raise Invalid("required", f"{name} is missing", f"ChargeItem.{name}")
    for name in ("identifier", "occurrencePeriod", "note", "supportingInformation"):
        if name in charge:
            raise Invalid("not-supported", f"{name} is not taken", f"ChargeItem.{name}")
    codings = charge.get("code", {}).get("coding", ())
    if len(codings) != 1:
        raise Invalid("business-rule", "a charge has exactly one billing code", "ChargeItem.code")
    return {**charge, "status": "billable"}


def own_search(pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The parameters of a search as the others know them. Raises Invalid."""
    if not _FOUND_BY & {name for name, _ in pairs}:
        raise Invalid("required", "charges are found by _id, context or account")
    return [pair for pair in pairs if pair[0] != "-status"]
