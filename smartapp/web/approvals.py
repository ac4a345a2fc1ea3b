"""A second person's approval: see exactly what the first one accepted, then approve it or decline.

Only at sites with `second_approval`. Nothing of an accepted charge is sent until somebody else approves it.
"""

from __future__ import annotations

from flask import Blueprint, Response, abort, g, make_response, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from fhir_mappings.charge_item import PERFORMING, performer_in
from fhir_mappings.decision import Decision
from smartapp.ehr.charges.create import Acceptance
from smartapp.ehr.charges.evidence import decision_of
from smartapp.ehr.charges.workflow import Step
from smartapp.ehr.people import Who, who_is
from smartapp.ehr.reading.findings import Findings
from smartapp.services import services
from smartapp.store.charges import Charge
from smartapp.store.claims import ChargeState
from smartapp.store.reading import Snapshot
from smartapp.web import own_pages
from smartapp.web.access import Open, needs
from smartapp.web.cards import card_view
from smartapp.web.charge_form import as_performed, case_of, charge_of
from smartapp.web.charges import shut_page, told
from smartapp.web.errors import error_page
from smartapp.web.leaving import claim_of, kept_leaving, shown, where_here
from smartapp.web.permission import Action, present_findings, refused_here
from smartapp.web.security import Moved, require_same
from smartapp.web.waiting import client_here

pages = Blueprint("approvals", __name__, url_prefix="/s/<sid>/approvals/<key>")

WHO = "somebody else than who accepted it approves; who accepted it may take it back"

LONGEST_REASON = 500
OWN = "You accepted this charge yourself; somebody else must approve it."
NOT_TOLD = (
    "The EHR does not say whose role (PractitionerRole) you are signed in with, or it was confirmed in: "
    "nobody can tell whether you are two people. Somebody of whom that is known must approve it."
)


@pages.get("")
@needs(Open.LOOK)
def page(key: str) -> AnyResponse:
    """What was accepted, by whom, and exactly what would be written."""
    charge = charge_of(key)
    if charge is None or charge.state is not ChargeState.AWAITING:
        return redirect(url_for("charges.result", sid=g.session.id, keys=key))
    own_pages.bring_up_to_date()
    own_pages.fill_form()  # what the account is called is read with the form of a charge
    return _page(key, charge, (), 200)


@pages.post("")
@needs(Action.APPROVE, title="This charge was not approved", besides=WHO)
def approve(key: str) -> AnyResponse:
    """Run the same guards again, and write it. Pressing again leads to what was written the first time."""
    if request.form.get("patient") != g.session.patient:
        raise Moved
    charge = charge_of(key)
    if charge is None:
        raise Moved
    if charge.state is not ChargeState.AWAITING:
        return redirect(url_for("charges.result", sid=g.session.id, keys=key), 303)
    if (refusal := approval_refusal(charge)) is not None:
        return error_page(403, "This charge was not approved", refusal, "It awaits approval as before.")
    require_same(g.session.patient, _present()[0].id)
    if request.form.get("accepted_at") != charge.changed_at.isoformat():
        raise Moved  # declined and accepted anew since this page was made
    (case,) = as_performed([case_of(key)], performer_in(charge.content.resource, PERFORMING))
    if (shut := shut_page([case])) is not None:
        return shut
    approver = Acceptance(
        g.session,
        case.snapshot,
        case.findings,
        case.decision,
        charge.content.attested,
        charge.content.resource,
    )
    return told(key, {key: services().writer.approve(client_here(), approver, charge)})


@pages.post("/decline")
@needs(Open.LOOK, besides=WHO)
def decline(key: str) -> AnyResponse:
    """Do not send it, and say why. Who accepted it may take it back in the same way."""
    charge = charge_of(key)
    if charge is None or request.form.get("patient") != g.session.patient:
        raise Moved
    if charge.state is not ChargeState.AWAITING:
        return redirect(url_for("charges.result", sid=g.session.id, keys=key), 303)
    if (refusal := decline_refusal(charge)) is not None:
        return error_page(403, "This charge was not declined", refusal, "It awaits approval as before.")
    require_same(g.session.patient, _present()[0].id)
    reason = request.form.get("reason", "").strip()[:LONGEST_REASON]
    if not reason:
        return _page(key, charge, ("Say why: the reason is kept.",), 422)
    result = services().writer.decline(g.session, _present()[1], charge, reason)
    if result.step is not Step.DECLINED:
        return told(key, {key: result})
    return redirect(url_for("patient.page", sid=g.session.id), 303)


def approval_refusal(charge: Charge) -> str | None:
    """Why the signed-in user may not approve this charge; None if they may."""
    match _who(charge):
        case Who.THEY:
            return OWN
        case Who.NOT_TOLD:
            return NOT_TOLD
    way = services().handovers.of(charge)
    return refused_here(Action.APPROVE) or way.refusal(where_here())


def decline_refusal(charge: Charge) -> str | None:
    return None if accepted_here(charge) else refused_here(Action.APPROVE)


def accepted_here(charge: Charge) -> bool:
    """Whether the signed-in user is who accepted it."""
    return _who(charge) is Who.THEY


def _who(charge: Charge) -> Who:
    return who_is(g.session, own_pages.chart().findings, charge.content)


def _present() -> tuple[Snapshot, Findings]:
    found = present_findings()
    if found is None:
        raise Moved
    return found


def _page(key: str, charge: Charge, problems: tuple[str, ...], status: int) -> Response:
    snapshot, findings = _present()
    g.findings = findings
    decision: Decision = decision_of(charge)
    if decision.key != key:
        abort(404)
    return make_response(
        render_template(
            "approvals/approval.html",
            charge=charge,
            key=key,
            snapshot=snapshot,
            person=findings.patient,
            card=card_view(decision, findings, services().site),
            decision=decision,
            approval_refusal=approval_refusal(charge),
            decline_refusal=decline_refusal(charge),
            own=accepted_here(charge),
            problems=problems,
            longest=LONGEST_REASON,
            leaving=shown(kept_leaving(charge)),
            claim=claim_of(
                findings,
                decision,
                charge.content.resource,
                {charge.content.confirmed_by: charge.content.confirmed_by_name or "who accepted it"},
            ),
        ),
        status,
    )
