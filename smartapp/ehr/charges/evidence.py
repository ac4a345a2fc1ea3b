"""What a charge rests on, as one document: all that an auditor needs to see why it was charged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any

import msgspec

from fhir_mappings.decision import Decision
from smartapp.ehr.reading.findings import evidence_of
from smartapp.store.charges import Charge
from smartapp.store.reading import StoredResource

_SAID = ("as_of", "timezone", "payer", "rules_version", "completeness")
_KEPT_HERE = ("time_log", "attestations", "episodes", "resolutions")


class Record(msgspec.Struct):
    """One record, in the version it had."""

    reference: str
    version: str


class Evidence(msgspec.Struct):
    """What is read again from the document."""

    decision: Decision
    rules_version: str = ""
    records: list[Record] = []


class _Version(msgspec.Struct):
    rules_version: str = ""


def evidence_document(
    decision: Decision, contract: Mapping[str, Any], resources: Iterable[StoredResource]
) -> bytes:
    """The decision and every record it rests on, as they were when the clinician accepted; as JSON."""
    wanted = set(evidence_of(decision))
    return msgspec.json.encode(
        {
            **{name: contract[name] for name in _SAID},
            **{name: contract[name] for name in _KEPT_HERE if name in contract},
            "decision": decision,
            "records": [
                {"reference": item.reference, "version": item.version, "resource": msgspec.Raw(item.raw)}
                for item in resources
                if item.reference in wanted
            ],
        }
    )


def evidence_in(document: bytes) -> Evidence:
    return msgspec.json.decode(document, type=Evidence)


def rules_version_of(document: bytes) -> str:
    """The rules that were in force when a charge, or a change of one, was confirmed."""
    return msgspec.json.decode(document, type=_Version).rules_version


def decision_of(charge: Charge) -> Decision:
    """The decision a row was made from."""
    return evidence_in(charge.content.evidence).decision


def service_date_of(charge: Charge) -> date:
    """The day whose month a charge belongs to."""
    kept = charge.content.service_date
    if kept is not None:
        return kept
    decision = decision_of(charge)
    return decision.service_date or decision.period.end
