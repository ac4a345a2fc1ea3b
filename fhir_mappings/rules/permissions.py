"""Which statements are asked only because the EHR grants too little: they are one sentence together (D39)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

from msgspec.structs import replace

from fhir_mappings.completeness import Completeness, MissingWhy
from fhir_mappings.decision import Assessment
from fhir_mappings.record import PatientRecord
from fhir_mappings.rules.engine import decide
from fhir_mappings.rules.policy import Policy
from fhir_mappings.vocabulary import Unverified

_SHOWN_BY = {
    Unverified.CONSENT: "Consent",
    Unverified.ORDER: "ServiceRequest",
    Unverified.PLAN_OF_CARE: "CarePlan",
}
"""What only records of one type show: where it is not granted, nobody can say that there is none."""


def for_want_of_permission(
    record: PatientRecord, policy: Policy, as_of: date, assessment: Assessment
) -> Mapping[str, frozenset[Unverified]]:
    """By a decision's key, what of its `unverified` would not be asked, were everything granted."""
    refused = {one.type for one in record.completeness.missing if one.why is MissingWhy.NOT_GRANTED}
    if not refused:
        return {}
    granted = Completeness(
        tuple(one for one in record.completeness.missing if one.why is not MissingWhy.NOT_GRANTED)
    )
    otherwise = {
        one.key: frozenset(one.unverified)
        for one in decide(replace(record, completeness=granted), policy, as_of)
    }
    of_type = {entry for entry, type_ in _SHOWN_BY.items() if type_ in refused}
    found = {
        one.key: frozenset(
            entry
            for entry in one.unverified
            if entry in of_type or entry not in otherwise.get(one.key, frozenset(one.unverified))
        )
        for one in assessment.decisions
    }
    return {key: entries for key, entries in found.items() if entries}
