"""What a charge rests on, as one document: all that an auditor needs to see why it was charged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import date, timedelta
from typing import Any

import msgspec

from fhir_mappings.decision import Decision
from fhir_mappings.local_time import LocalClock, clock_of
from smartapp.configuration.site import Site
from smartapp.ehr.charges.decided_again import basis_of, decided_again
from smartapp.ehr.charges.digests import digest_of
from smartapp.ehr.reading.auditor_notes import notes_on
from smartapp.ehr.reading.findings import Findings, evidence_of
from smartapp.ehr.reading.own_record import ORIGIN
from smartapp.ehr.reading.rule_words import rule_view
from smartapp.ehr.wire.looks import last_day
from smartapp.store.charges import Charge
from smartapp.store.reading import StoredResource

_SAID = ("patient", "as_of", "timezone", "payer", "rules_version", "completeness")
_KEPT_HERE = ("time_log", "attestations", "episodes", "resolutions", "anchors", "handed_over", "denials")
MOST_READINGS = 2000
"""Readings of a chart of which all of a window are held; of more, those that a page shows."""


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
    decision: Decision,
    findings: Findings,
    resources: Iterable[StoredResource],
    site: Site,
    performer: str | None = None,
) -> bytes:
    """The decision, every record it rests on as they were when the clinician accepted, and whatever else is
    needed to decide it again from this document alone; as JSON.

    It holds no more of the chart than that needs: what is held is decided on here, and more is taken in until
    the answer is the same. `performer`: whom the charge names as performing, where that changes what counts.
    """
    kept, evidence = findings.said, set(evidence_of(decision))
    basis = basis_of(findings, site, performer)
    policy = site.policies.of(kept["payer"])
    rule = rule_view(policy, decision.code, decision.service_date or decision.period.end)
    said: dict[str, Any] = {
        **{name: kept[name] for name in _SAID},
        **{name: kept[name] for name in _KEPT_HERE if name in kept},
        "decision": decision,
        "notes": notes_on(decision, findings.assessment.spans, findings.late, site.zone, kept),
        "spans": [
            span
            for span in findings.assessment.spans
            if span.program is decision.program and span.resource in evidence
        ],
        "rule": rule,
        "found_anchor": [one for one in findings.anchors if one.program is decision.program],
        "basis": basis,
    }
    excluded = findings.contract["excluded"]
    read = list(resources)
    told: dict[str, Any] = {}
    by_type = Counter(one.reference.partition("/")[0] for one in read)
    for held in _held(decision, findings, read, clock_of(site.zone)):
        names = {one.reference for one in held}
        left_out = [one for one in excluded if one["resource"] in names]
        beyond = [one["reason"] for one in excluded if one["resource"] not in names]
        told = {
            **said,
            "records": [_record(one) for one in held if one.reference in evidence],
            "others": [_record(one) for one in held if one.reference not in evidence],
            "left_out": left_out,
            "not_held": {
                "records": _in_order(by_type - Counter(one.reference.partition("/")[0] for one in held)),
                "left_out": _in_order(Counter(beyond)),
            },
        }
        document = msgspec.json.encode(told | {"decided_again": True}, order="deterministic")
        again = decided_again(document)
        if again.decision == slim(decision) and again.left_out(names) == left_out:
            return document
    return msgspec.json.encode(told | {"decided_again": False}, order="deterministic")


def slim(decision: Decision) -> Decision:
    """Without the readings of counted days that no document lists."""
    parts = tuple(msgspec.structs.replace(part, all_evidence=()) for part in decision.requirements)
    return msgspec.structs.replace(decision, requirements=parts)


def _record(one: StoredResource) -> dict[str, Any]:
    told: dict[str, Any] = {"reference": one.reference, "version": one.version}
    if one.full_url:
        told["full_url"] = one.full_url
    if one.origin == ORIGIN:
        told["own"] = True
    resource = one.raw or b"null"
    return told | {"sha256": digest_of(resource), "resource": msgspec.Raw(resource)}


def _held(
    decision: Decision, findings: Findings, read: list[StoredResource], clock: LocalClock
) -> Iterator[list[StoredResource]]:
    """What of the chart may be enough, from the least to all of it; never what lies before the first day that
    was asked for, by which searches are padded."""
    evidence = set(evidence_of(decision))
    first = max(decision.period.start - timedelta(days=1), findings.history_from)
    last = decision.period.end + timedelta(days=1)

    def within(one: StoredResource, first: date, last: date) -> bool:
        type_ = one.reference.partition("/")[0]
        if type_ not in {"Observation", "Encounter"} or one.reference in evidence or not one.raw:
            return True
        day = last_day(type_, one.raw, clock)
        return day is None or (first <= day and (type_ == "Encounter" or day <= last))

    readings = sum(one.reference.startswith("Observation/") for one in read)
    shown = [
        one
        for one in read
        if readings <= MOST_READINGS
        or not one.reference.startswith("Observation/")
        or one.reference in findings.seen
    ]
    yield [one for one in shown if within(one, first, last)]
    for more in (shown, read):
        yield [one for one in more if within(one, findings.history_from, date.max)]


def _in_order(found: Counter[str]) -> dict[str, int]:
    return dict(sorted(found.items()))


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
