"""What changed since it was charged: each change before and after, confirmed by a person, written once.

A change is never made by a single click: the page shows the charge as the EHR holds it at that moment and
exactly what would be written instead; the form carries the version it was made from.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec
from flask import Blueprint, Response, abort, g, make_response, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from fhir_mappings.reconciliation import Change, ChangeKind
from smartapp.configuration.handover import Method
from smartapp.ehr.charges.present import Held, charge_now
from smartapp.ehr.charges.revise import Order, changeable
from smartapp.ehr.charges.workflow import Result, Step
from smartapp.ehr.people import Who, who_is
from smartapp.ehr.reading.findings import Findings
from smartapp.plain import laid_out
from smartapp.services import services
from smartapp.store.changes import ChargeChange, change_id
from smartapp.store.claims import ChargeState
from smartapp.web import own_pages
from smartapp.web.access import Open, needs
from smartapp.web.approvals import LONGEST_REASON, NOT_TOLD
from smartapp.web.cards import RequirementView, card_view
from smartapp.web.change_draft import Draft, drafted
from smartapp.web.changes_view import ACTIONABLE, change_refusal, change_shut, change_view, title_of
from smartapp.web.charges import is_recent
from smartapp.web.errors import error_page
from smartapp.web.leaving import where_here
from smartapp.web.own_pages import address_of
from smartapp.web.permission import (
    Action,
    looking_refusal,
    present_findings,
    refusal_of_update,
    refused_here,
    writes_here,
)
from smartapp.web.security import Moved
from smartapp.web.waiting import client_here

pages = Blueprint("changes", __name__, url_prefix="/s/<sid>/changes")

TITLE = "Charges cannot be changed here"
MAY = needs(
    Action.ACCEPT, Action.WITHDRAW, title=TITLE, besides="taking back needs withdraw, everything else accept"
)

"""What is charged then was not confirmed when the first charge was: its statements are asked for again."""
OWN = "You confirmed this change yourself; somebody else must approve it."


# Addresses: a charge is called there as in all addresses of a session, never by the EHR's own id


@pages.url_defaults
def _address(_endpoint: str, values: dict[str, Any]) -> None:
    if "charge_item" in values:
        values["charge_item"] = address_of(f"ChargeItem/{values['charge_item']}", g.session.id)


@pages.url_value_preprocessor
def _from_address(_endpoint: str | None, values: dict[str, Any] | None) -> None:
    if values is None or "charge_item" not in values or looking_refusal(g.session) is not None:
        return
    found = present_findings()
    known = () if found is None else found[1].changes
    named = {change.charge.split("/", 1)[1] for change in known}
    rows = services().store.changes.of_patient(g.session.issuer_id, g.session.patient or "")
    named |= {row.charge_item for row in rows}
    wanted = values["charge_item"]
    values["charge_item"] = next(
        (name for name in named if address_of(f"ChargeItem/{name}", g.session.id) == wanted), ""
    )


# Pages


@pages.get("/<charge_item>")
@MAY
def preview(charge_item: str) -> AnyResponse:
    """The charge as the EHR holds it now, and exactly what would be written instead."""
    own_pages.bring_up_to_date()
    chart = own_pages.chart()
    change = _change(chart.findings, charge_item)
    if change.kind not in ACTIONABLE:
        return redirect(url_for("patient.page", sid=g.session.id))
    denied = change_refusal(change.kind, chart.findings) or change_shut(change, change.kind, chart.findings)
    if denied is not None:
        return _denied(denied)
    held = _held(charge_item)
    return _page(chart, drafted(chart, change, held, _now(), frozenset(), None), (), 200)


@pages.post("/<charge_item>")
@MAY
def confirm(charge_item: str) -> AnyResponse:
    """Make the change. Pressing again leads to what became of it the first time."""
    if request.form.get("patient") != g.session.patient:
        raise Moved
    here = services()
    version, reason = request.form.get("version", ""), _reason()
    before = here.store.changes.get(
        g.session.issuer_id, g.session.patient or "", change_id(g.session.issuer_id, charge_item, version)
    )
    if before is not None and before.state in {ChargeState.CONFIRMED, ChargeState.TAKEN_BACK}:
        return _to_result(before)
    chart = own_pages.posted_chart()
    change = _change(chart.findings, charge_item)
    kind = ChangeKind.WITHDRAW if reason is not None else change.kind
    if kind not in ACTIONABLE:
        raise Moved
    if reason is not None and (stopped := _not_withdrawable(chart, charge_item)) is not None:
        return stopped
    if (
        denied := change_refusal(kind, chart.findings) or change_shut(change, kind, chart.findings)
    ) is not None:
        return _denied(denied)
    held = _held(charge_item)
    if held.version != version:
        return _moved((f"ChargeItem/{charge_item} was changed since this page was made.",), charge_item)
    attested = frozenset(request.form.getlist("attest"))
    draft = drafted(chart, change, held, _entered_at(), attested, reason)
    if draft.digest != request.form.get("preview"):
        raise Moved
    if open_statements := [entry for entry in draft.statements if entry not in attested]:
        number = len(open_statements)
        problem = f"{number} statement{'s are' if number > 1 else ' is'} not confirmed."
        return _page(chart, draft, (problem,), 422)
    order = Order(
        session=g.session,
        snapshot=chart.snapshot,
        findings=chart.findings,
        kind=kind,
        charge_item=charge_item,
        held=held,
        after=draft.after,
        said=draft.said,
        code=change.code,
        days=(change.service_date or chart.today,),
        change=None if reason is not None else change,
        decision=draft.decision,
        new=draft.new,
        attested=tuple(entry for entry in draft.statements if entry in attested),
    )
    return _told(here.changer.change(client_here(), order), charge_item)


@pages.get("/<charge_item>/withdraw")
@needs(Action.WITHDRAW, title=TITLE)
def withdraw(charge_item: str) -> AnyResponse:
    """Take back a suggestion of ours for a reason of one's own: the reason comes first."""
    chart = own_pages.chart()
    if (stopped := _not_withdrawable(chart, charge_item)) is not None:
        return stopped
    return _reason_page(chart, charge_item, (), 200)


@pages.post("/<charge_item>/withdraw")
@needs(Action.WITHDRAW, title=TITLE)
def withdraw_check(charge_item: str) -> AnyResponse:
    """Exactly what would be written, with that reason."""
    chart = own_pages.posted_chart()
    if (stopped := _not_withdrawable(chart, charge_item)) is not None:
        return stopped
    reason = _reason()
    if reason is None:
        return _reason_page(chart, charge_item, ("Say why: the reason is kept with the charge.",), 422)
    change = _change(chart.findings, charge_item)
    held = _held(charge_item)
    return _page(chart, drafted(chart, change, held, _now(), frozenset(), reason), (), 200)


@pages.get("/of/<change>")
@needs(Open.LOOK, title=TITLE)
def result(change: str) -> Response:
    """How far a change came, and what can be done about it."""
    return _result_page(_row(change), (), 200)


@pages.post("/of/<change>/again")
@MAY
def go_on(change: str) -> AnyResponse:
    """Finish a change that was interrupted, from what the EHR holds now."""
    chart, row = own_pages.chart(), _posted_row(change)
    if (denied := change_refusal(row.kind, chart.findings)) is not None:
        return _denied(denied)
    here = services()
    return _told(here.changer.go_on(client_here(), chart.present, row), row.charge_item)


@pages.post("/of/<change>/leave")
@MAY
def leave(change: str) -> AnyResponse:
    """Of a replacement: the old charge stays taken back, and no new one is written."""
    chart, row = own_pages.chart(), _posted_row(change)
    if (denied := change_refusal(row.kind, chart.findings)) is not None:
        return _denied(denied)
    return _told(services().changer.leave_at_that(g.session, row), row.charge_item)


@pages.post("/of/<change>/approve")
@needs(Action.APPROVE, title=TITLE, besides="somebody else than who confirmed it")
def approve(change: str) -> AnyResponse:
    """A second person's yes."""
    row = _posted_row(change)
    chart = own_pages.posted_chart()
    name = f"ChargeItem/{row.charge_item}"
    change_now = next((one for one in chart.findings.changes if one.charge == name), None)
    shut = None if change_now is None else change_shut(change_now, row.kind, chart.findings)
    if (denied := approval_refusal(row) or shut) is not None:
        return _denied(denied)
    if request.form.get("confirmed_at") != row.changed_at.isoformat():
        raise Moved
    here = services()
    return _told(here.changer.approve(client_here(), chart.present, row), row.charge_item)


@pages.post("/of/<change>/decline")
@needs(Open.LOOK, title=TITLE, besides="who confirmed it, or whoever may approve")
def decline(change: str) -> AnyResponse:
    """A second person's no, with its reason; or the first person takes it back."""
    row = _posted_row(change)
    chart = own_pages.posted_chart()
    denied = None if confirmed_here(row) else refused_here(Action.APPROVE)
    if denied is not None:
        return _denied(denied)
    reason = _reason()
    if reason is None:
        return _result_page(row, ("Say why: the reason is kept.",), 422)
    return _told(services().changer.decline(g.session, chart.findings, row, reason), row.charge_item)


def approval_refusal(row: ChargeChange) -> str | None:
    """Why the signed-in user may not approve this change; None if they may."""
    match _who(row):
        case Who.THEY:
            return OWN
        case Who.NOT_TOLD:
            return NOT_TOLD
    return (
        refused_here(Action.APPROVE)
        or services().handovers.named(Method.CHARGE_ITEM).refusal(where_here())
        or refusal_of_update(g.session, writes_here())
    )


def confirmed_here(row: ChargeChange) -> bool:
    return _who(row) is Who.THEY


def _who(row: ChargeChange) -> Who:
    return who_is(g.session, own_pages.chart().findings, row.content)


# What a request is about


def _change(findings: Findings, charge_item: str) -> Change:
    """What the snapshot says of a charge; 404 for one it does not hold."""
    name = f"ChargeItem/{charge_item}"
    found = next((change for change in findings.changes if change.charge == name), None)
    if found is None:
        abort(404)
    return found


def _not_withdrawable(chart: own_pages.Chart, charge_item: str) -> AnyResponse | None:
    """Only a suggestion that was written from here and that billing has not taken up."""
    if (denied := change_refusal(ChangeKind.WITHDRAW, chart.findings)) is not None:
        return _denied(denied)
    rows = services().store.charges.of_patient(chart.issuer_id, chart.patient)
    ours = any(row.charge_item == charge_item and row.state is ChargeState.CONFIRMED for row in rows)
    if ours and _change(chart.findings, charge_item).touchable:
        return None
    return _denied("It was not written from here, or billing has taken it up. Change it in the EHR.")


def _held(charge_item: str) -> Held:
    """The charge as the EHR holds it now: still a suggestion, still this patient's."""
    held = charge_now(client_here(), charge_item)
    if held is None or not changeable(held.body) or not _is_theirs(held.body):
        raise Moved
    return held


def _is_theirs(body: Mapping[str, Any]) -> bool:
    subject = body.get("subject")
    named = subject.get("reference") if isinstance(subject, dict) else None
    base = g.issuer.fhir_base.rstrip("/")
    return named in {f"Patient/{g.session.patient}", f"{base}/Patient/{g.session.patient}"}


def _row(change: str) -> ChargeChange:
    found = services().store.changes.get(g.session.issuer_id, g.session.patient or "", change)
    if found is None:
        abort(404)
    return found


def _posted_row(change: str) -> ChargeChange:
    if request.form.get("patient") != g.session.patient:
        raise Moved
    return _row(change)


def _reason() -> str | None:
    return request.form.get("reason", "").strip()[:LONGEST_REASON] or None


def _now() -> datetime:
    return services().clock.now().replace(microsecond=0)


def _entered_at() -> datetime:
    """When the preview was made; too old a preview is no preview any more."""
    try:
        entered_at = datetime.fromisoformat(request.form.get("entered_at", ""))
        recent = is_recent(entered_at)
    except (ValueError, TypeError):
        raise Moved from None
    if not recent:
        raise Moved
    return entered_at


# Before and after


# What is shown


def _page(chart: own_pages.Chart, draft: Draft, problems: tuple[str, ...], status: int) -> Response:
    pieces = [("The charge, as it is written", draft.after)]
    if draft.new is not None:
        pieces = [("First: the old charge, taken back", draft.after), ("Then: the new charge", draft.new)]
    return make_response(
        render_template(
            "changes/preview.html",
            chart=chart,
            draft=draft,
            person=chart.findings.patient,
            title=title_of(draft.change),
            view=change_view(draft.change, chart.findings, set()),
            found=_found(draft, chart.findings),
            problems=problems,
            second_approval=services().site.second_approval and draft.kind is not ChangeKind.WITHDRAW,
            pieces=[(name, laid_out(msgspec.json.encode(body))) for name, body in pieces],
        ),
        status,
    )


def _found(draft: Draft, findings: Findings) -> tuple[RequirementView, ...]:
    """What the record has for what is charged afterwards, or had for what is withdrawn."""
    if draft.decision is None or draft.reason is not None:
        return ()
    return card_view(draft.decision, findings, services().site).requirements


def _reason_page(
    chart: own_pages.Chart, charge_item: str, problems: tuple[str, ...], status: int
) -> Response:
    return make_response(
        render_template(
            "changes/withdraw.html",
            chart=chart,
            change=_change(chart.findings, charge_item),
            charge_item=charge_item,
            person=chart.findings.patient,
            problems=problems,
            longest=LONGEST_REASON,
        ),
        status,
    )


def _result_page(row: ChargeChange, problems: tuple[str, ...], status: int) -> Response:
    chart = own_pages.chart()
    new = row.content.new
    kept = None if new is None else services().store.charges.get(new.identifier)
    pieces = [("The charge, as it is written", row.content.after)]
    if new is not None:
        pieces = [
            ("First: the old charge, taken back", row.content.after),
            ("Then: the new charge", new.content.resource),
        ]
    return make_response(
        render_template(
            "changes/result.html",
            chart=chart,
            row=row,
            state=row.state.value,
            person=chart.findings.patient,
            written=None if kept is None else kept.charge_item,
            problems=problems,
            own=confirmed_here(row),
            approval_refusal=approval_refusal(row) if row.state is ChargeState.AWAITING else None,
            may_decline=confirmed_here(row) or refused_here(Action.APPROVE) is None,
            refusal=change_refusal(row.kind, chart.findings),
            longest=LONGEST_REASON,
            pieces=[(name, laid_out(msgspec.json.encode(body))) for name, body in pieces],
        ),
        status,
    )


def _denied(sentence: str) -> Response:
    return error_page(403, "This charge cannot be changed here", sentence, "Nothing was changed.")


def _moved(differences: tuple[str, ...], charge_item: str) -> Response:
    return make_response(
        render_template("changes/moved.html", differences=differences, charge_item=charge_item), 409
    )


def _told(result: Result[ChargeChange], charge_item: str) -> AnyResponse:
    """Where a finished attempt leads. A changed charge makes the snapshot old, so the chart is read again."""
    if result.step in {Step.MOVED, Step.LOCKED}:
        return _moved(result.differences, charge_item)
    if result.step in {Step.WRITTEN, Step.HALF}:
        services().jobs.read_again(g.session)
    if result.row is None:
        return redirect(url_for("patient.page", sid=g.session.id), 303)
    return _to_result(result.row)


def _to_result(change: ChargeChange) -> AnyResponse:
    return redirect(url_for("changes.result", sid=g.session.id, change=change.id), 303)
