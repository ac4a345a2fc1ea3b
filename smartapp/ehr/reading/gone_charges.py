"""Charges that were written from here and that the EHR itself took back or deleted since.

The error goes one way on purpose: absence is proven by the charge itself, never by a search that did not
bring it. One that nothing else stands for, and that the EHR calls taken back or knows no more, is our row's
no longer: its code is earned anew, under an identifier of its own. "Not found" is also what a server says of
what somebody may not see, or has not got everywhere yet: it tells of a charge that was there only whom the
EHR gave it before, and not at once.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from fhir_mappings.prior_charge import NOT_CHARGED
from fhir_mappings.record import HANDED_OVER
from launch.errors import HttpError, LaunchError
from launch.ports import Clock, LaunchSession
from launch.tokens import SessionClient
from smartapp.ehr.reading.display import decode
from smartapp.ehr.reading.findings import Findings
from smartapp.ehr.wire.bundles import read_target
from smartapp.store import Store
from smartapp.store.charges import Charge
from smartapp.store.claims import ChargeState

DELETED = "deleted"
SETTLED_AFTER = timedelta(minutes=10)
"""So long a charge that was just written may be found in one place of an EHR and not in another."""


def find_gone_charges(
    store: Store, clock: Clock, client: SessionClient, session: LaunchSession, findings: Findings
) -> None:
    """Withdraw the rows of charges that the EHR holds no more, each with an audit entry. What the EHR does
    not say stays as it is; where it lists no charges, only those are asked for that a window still shown
    hangs on."""
    live = {change.charge for change in findings.changes}
    listed = not any(notice.what == "ChargeItem" for notice in findings.notices)
    for row in store.charges.of_patient(session.issuer_id, session.patient or ""):
        name = f"ChargeItem/{row.charge_item}"
        if row.state is not ChargeState.CONFIRMED or name in live or _stood_for(row, findings):
            continue
        if not listed and findings.decision(row.content.decision) is None:
            continue
        try:
            found = _taken_back(client, name, _was_given(row, session, clock.now()))
        except (HttpError, LaunchError):
            continue
        if found is not None:
            store.charges.gone(
                row,
                clock.now(),
                found=found,
                issuer=row.issuer_id,
                patient=row.patient,
                user=session.fhir_user,
                session=session.id,
                accepted_by=row.content.confirmed_by,
                code=row.code,
                decision=row.content.decision,
                identifier=row.identifier,
            )


def _stood_for(row: Charge, findings: Findings) -> bool:
    """Whether another charge of the EHR, or a claim, stands for the same code and window: it may be this one,
    given back under another name."""
    decision = findings.decision(row.content.decision)
    return decision is not None and not all(name.startswith(HANDED_OVER) for name in decision.charges)


def _was_given(row: Charge, session: LaunchSession, now: datetime) -> bool:
    """Whether the EHR let this very person read the charge back when it was written, a while ago."""
    approval = row.content.approval
    wrote = row.content.confirmed_by if approval is None else approval.by
    settled = row.changed_at + SETTLED_AFTER <= now
    return settled and row.problem is None and bool(wrote) and session.fhir_user == wrote


def _taken_back(client: SessionClient, name: str, was_given: bool) -> str | None:
    """The status by which the EHR took it back, or that it was deleted; None where it stands, or nobody
    knows. `was_given`: whoever asks was given it before. Raises HttpError and LaunchError."""
    response = client.fhir("GET", read_target(name))
    if response.status == 410 or (response.status == 404 and was_given):
        return DELETED
    body = decode(response.require_ok().body)
    status = body.get("status")
    named = f"{body.get('resourceType')}/{body.get('id')}"
    return status if named == name and status in NOT_CHARGED and isinstance(status, str) else None
