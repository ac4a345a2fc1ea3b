"""A change of a charge before it is confirmed: what the EHR holds now, and what would be written instead."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
from flask import g

from fhir_mappings.charge_change import Statement, replacement, taken_back, updated
from fhir_mappings.charge_item import ChargeDetails, ChargeNotValid
from fhir_mappings.decision import Decision
from fhir_mappings.reconciliation import Change, ChangeKind, ChangeReason
from fhir_mappings.vocabulary import Unverified
from smartapp.ehr.charges.present import Held
from smartapp.services import services
from smartapp.store.changes import change_id
from smartapp.web import charge_words, own_pages, words
from smartapp.web.cards import kept_here, statable
from smartapp.web.changes_view import sentences_of
from smartapp.web.charge_form import revision
from smartapp.web.security import Moved

_GROWS = frozenset({ChangeReason.MORE_UNITS, ChangeReason.HIGHER_CODE, ChangeReason.LOWER_CODE})


@dataclass(frozen=True)
class Draft:
    """What a preview shows and a confirmation writes."""

    kind: ChangeKind
    change: Change
    held: Held
    after: dict[str, Any]
    new: dict[str, Any] | None
    said: str
    decision: Decision | None
    statements: tuple[Unverified, ...]
    attested: frozenset[str]
    entered_at: datetime
    reason: str | None

    @property
    def digest(self) -> str:
        """Of what the form was made from; statements apart, which are confirmed in it."""
        content = msgspec.json.encode(
            [self.held.version, self.after, _without_statements(self.new)], order="deterministic"
        )
        return hashlib.sha256(content).hexdigest()

    @property
    def rows(self) -> tuple[tuple[str, str, str], ...]:
        """What differs, for a person: element, before, after."""
        instead = self.new if self.new is not None else self.after
        before, after = self.held.body, instead
        told = [
            ("Code", _code(before), _code(after) if self.kind is not ChangeKind.WITHDRAW else _code(before)),
            ("Quantity", _quantity(before), _quantity(after)),
            (
                "Status",
                charge_words.charge_status(before.get("status")),
                charge_words.charge_status(after.get("status")),
            ),
            ("Records named", _records(before), _records(after)),
        ]
        return tuple(told)


def drafted(
    chart: own_pages.Chart,
    change: Change,
    held: Held,
    entered_at: datetime,
    attested: frozenset[str],
    reason: str | None,
) -> Draft:
    """Before and after of one change. `reason`: of somebody's own withdrawal."""
    kind = ChangeKind.WITHDRAW if reason is not None else change.kind
    number = change_id(g.session.issuer_id, change.charge.split("/", 1)[1], held.version)[:12]
    decision = None if change.decision is None else chart.findings.decision(change.decision)
    said = _said(kind, change, reason, number)
    statement = Statement(said, g.session.fhir_user or "", entered_at)
    rules = chart.findings.said["rules_version"]
    new = None
    statements: tuple[Unverified, ...] = ()
    if decision is not None and kind in {ChangeKind.UPDATE, ChangeKind.REPLACE}:
        statements = statable(decision) if _GROWS & set(change.reasons) else ()
    try:
        if kind is ChangeKind.UPDATE and decision is not None:
            after = updated(held.body, decision, rules, statement)
        else:
            after = taken_back(held.body, statement)
        if kind is ChangeKind.REPLACE and decision is not None:
            details = ChargeDetails(
                issuer=g.issuer.fhir_base,
                patient=f"Patient/{g.session.patient}",
                enterer=g.session.fhir_user or "",
                entered_at=entered_at,
                rules_version=rules,
                attested=tuple(
                    words.attestation(entry, decision.period) for entry in statements if entry in attested
                ),
                **kept_here(decision, chart.findings, services().site),
                revision=revision(decision.key),
            )
            instead = Statement(
                f"It comes in the place of {change.charge} ({change.code}). Change {number}.",
                statement.by,
                entered_at,
            )
            new = replacement(held.body, decision, details, instead)
    except ChargeNotValid:
        raise Moved from None  # the EHR holds something that cannot be written back as it is
    return Draft(kind, change, held, after, new, said, decision, statements, attested, entered_at, reason)


def _said(kind: ChangeKind, change: Change, reason: str | None, number: str) -> str:
    """The note of the change: what, why, and how this app calls it."""
    if reason is not None:
        what = f"Withdrawn: {reason}"
    else:
        why = " ".join(sentences_of(change))
        what = {
            ChangeKind.UPDATE: f"Updated, quantity {change.quantity} to {change.to_quantity}: {why}",
            ChangeKind.REPLACE: f"Withdrawn, to be replaced by {change.to_code}: {why}",
        }.get(kind, f"Withdrawn: {why}")
    if change.gone:
        what += f" Not counted any more: {', '.join(change.gone)}."
    return f"{what} Change {number}."


def _without_statements(new: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The new charge without its first note, which lists what was confirmed in this very form."""
    return None if new is None else {**new, "note": new["note"][1:]}


def _code(body: Mapping[str, Any]) -> str:
    codings = (body.get("code") or {}).get("coding") or [{}]
    return str(codings[0].get("code", ""))


def _quantity(body: Mapping[str, Any]) -> str:
    return str((body.get("quantity") or {}).get("value", ""))


def _records(body: Mapping[str, Any]) -> str:
    return str(len(body.get("service") or []) + len(body.get("supportingInformation") or []))
