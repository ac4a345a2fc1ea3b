"""What should become of charges, as the patient page shows it, and who may bring it about."""

from __future__ import annotations

from dataclasses import dataclass

from flask import g

from fhir_mappings.reconciliation import Change, ChangeKind, ChangeReason
from smartapp.configuration.handover import Method
from smartapp.ehr.reading.findings import Findings
from smartapp.services import services
from smartapp.store.changes import UNFINISHED, ChargeChange
from smartapp.store.charges import Charge
from smartapp.store.claims import ChargeState
from smartapp.web import charge_words, words
from smartapp.web.cards import rules_not_confirmed
from smartapp.web.leaving import where_here
from smartapp.web.permission import (
    Action,
    refusal,
    refusal_of_update,
    role_of,
)

ACTIONABLE = frozenset({ChangeKind.UPDATE, ChangeKind.REPLACE, ChangeKind.WITHDRAW})


@dataclass(frozen=True)
class ChangeView:
    """One line of "What changed since it was charged"."""

    change: Change
    charge_item: str
    title: str
    period: str
    sentences: tuple[str, ...]
    gone: tuple[str, ...]
    can_review: bool
    refusal: str | None


@dataclass(frozen=True)
class ChangesView:
    """The section of the patient page. `withdrawable`: own suggestions that agree, by logical id."""

    changes: tuple[ChangeView, ...]
    unfinished: tuple[ChargeChange, ...]
    withdrawable: frozenset[str]


def changes_view(findings: Findings, charges: tuple[Charge, ...]) -> ChangesView:
    """What the patient page shows of a snapshot's charges."""
    store = services().store.changes
    rows = store.of_patient(g.session.issuer_id, g.session.patient or "")
    confirmed = {row.identifier for row in charges if row.state is ChargeState.CONFIRMED}
    open_rows = tuple(
        row
        for row in rows
        if row.state in UNFINISHED
        and not (
            row.state is ChargeState.TAKEN_BACK
            and row.content.new is not None
            and row.content.new.identifier in confirmed
        )
    )
    busy = {row.charge_item for row in open_rows}
    may_withdraw = change_refusal(ChangeKind.WITHDRAW, findings) is None
    touchable = {change.charge for change in findings.changes if change.touchable}
    return ChangesView(
        changes=tuple(
            change_view(change, findings, busy)
            for change in findings.changes
            if change.kind is not ChangeKind.KEEP
        ),
        unfinished=open_rows,
        withdrawable=frozenset(
            row.charge_item
            for row in charges
            if may_withdraw
            and row.charge_item
            and row.state is ChargeState.CONFIRMED
            and f"ChargeItem/{row.charge_item}" in touchable
        )
        - busy,
    )


def change_view(change: Change, findings: Findings, busy: set[str]) -> ChangeView:
    logical_id = change.charge.split("/", 1)[1]
    denied = None
    if change.kind in ACTIONABLE:
        days = [change.service_date] if change.service_date is not None else []
        denied = (
            change_refusal(change.kind, findings)
            or change_shut(change, change.kind, findings)
            or services().guards.locked(g.session.issuer_id, g.session.patient or "", days)
        )
    return ChangeView(
        change=change,
        charge_item=logical_id,
        title=title_of(change),
        period="no period"
        if change.window is None
        else f"{words.day(change.window.start)} – {words.day(change.window.end)}",
        sentences=sentences_of(change),
        gone=change.gone,
        can_review=change.kind in ACTIONABLE and denied is None and logical_id not in busy,
        refusal=denied,
    )


def title_of(change: Change) -> str:
    """What would become of what: "98979 → 98980", "98981: 1 → 2 units"."""
    if change.to_code not in (None, change.code):
        return f"{change.code} → {change.to_code}"
    if change.kind is ChangeKind.UPDATE and change.to_quantity != change.quantity:
        return f"{change.code}: {change.quantity} → {change.to_quantity} units"
    return change.code


def sentences_of(change: Change) -> tuple[str, ...]:
    """Why, in words."""
    return (
        *(charge_words.CHANGE_REASONS[reason] for reason in change.reasons),
        *(words.reason(doubt) for doubt in change.doubts),
    )


def change_refusal(kind: ChangeKind, findings: Findings) -> str | None:
    """Why the signed-in user may not confirm such a change."""
    action = Action.WITHDRAW if kind is ChangeKind.WITHDRAW else Action.ACCEPT
    site = services().site
    role = role_of(g.session, site, findings)
    writes = findings.writes
    creates = None
    if action is Action.ACCEPT:
        creates = services().handovers.named(Method.CHARGE_ITEM).refusal(where_here())
    return refusal(action, g.session, role, site, writes) or creates or refusal_of_update(g.session, writes)


def change_shut(change: Change, kind: ChangeKind, findings: Findings) -> str | None:
    """Why nothing more can be charged by it: the rules of its service date are not confirmed (D37). Taking
    back, and charging fewer units, is always possible."""
    grows = kind is ChangeKind.REPLACE or (
        kind is ChangeKind.UPDATE and ChangeReason.MORE_UNITS in change.reasons
    )
    decision = None if change.decision is None else findings.decision(change.decision)
    return rules_not_confirmed(decision, services().site) if grows and decision is not None else None
