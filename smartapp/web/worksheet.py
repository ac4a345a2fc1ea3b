"""The worksheet of a patient: charges that a person enters, and what left otherwise than as a ChargeItem.

It is always there. That somebody entered a charge, or takes one back, is confirmed on a page of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

from flask import Blueprint, Response, abort, g, make_response, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from fhir_mappings.vocabulary import Outcome
from smartapp.ehr.charges.evidence import decision_of
from smartapp.ehr.handover.line import ChargeLine
from smartapp.ehr.handover.worksheet import copied, csv_of, line_in
from smartapp.ehr.reading.fresh import essence
from smartapp.services import services
from smartapp.store.charges import Charge
from smartapp.store.claims import HANDED, ChargeState
from smartapp.web import charge_words, own_pages
from smartapp.web.access import Open, needs
from smartapp.web.approvals import LONGEST_REASON
from smartapp.web.errors import error_page
from smartapp.web.leaving import chosen_here
from smartapp.web.permission import Action, refused_here
from smartapp.web.waiting import client_here

pages = Blueprint("worksheet", __name__, url_prefix="/s/<sid>/worksheet")

_ON_IT = frozenset({ChargeState.TO_ENTER, *HANDED})


@dataclass(frozen=True)
class LineView:
    key: str
    """Of the decision."""
    line: ChargeLine
    text: str
    state: str
    moved: str
    """Why it should not be entered as it stands here; "" where it is earned still."""
    can_enter: bool
    can_take_back: bool
    no_way_back: str | None


@pages.get("")
@needs(Open.LOOK, chart=True)
def page() -> Response:
    """What stands on it, each line with its state and what can be done."""
    chart = own_pages.chart()
    chosen = chosen_here(chart.findings)
    return make_response(
        render_template(
            "handover/worksheet.html",
            chart=chart,
            lines=[_view(row, line) for row, line in _lines()],
            title=f"This EHR takes charges as: {chosen.handover.title}.",
            why=chosen.why,
        )
    )


@pages.get(".csv")
@needs(Open.LOOK, chart=True)
def as_csv() -> Response:
    """The same for a spreadsheet."""
    lines = _lines()
    here = services()
    here.store.audit.add(
        here.clock.now(),
        "worksheet-downloaded",
        issuer=g.session.issuer_id,
        patient=g.session.patient,
        lines=len(lines),
        **own_pages.facts(),
    )
    states = (
        (line, f"{charge_words.CHANGE_STATES[row.state]}. {_moved(row)}".removesuffix(". "))
        for row, line in lines
    )
    response = make_response(csv_of(states))
    response.headers["Content-Type"] = "text/csv; charset=utf-8"
    response.headers["Content-Disposition"] = 'attachment; filename="worksheet.csv"'
    return response


@pages.route("/<key>/entered", methods=["GET", "POST"])
@needs(Action.ENTER, title="This cannot be kept here")
def enter(key: str) -> AnyResponse:
    """Somebody entered a charge in billing, and says so."""
    row, line = _row(key)
    if request.method == "GET":
        if row.state is not ChargeState.TO_ENTER:
            return _to_worksheet(key)
        return _enter_page(line, (), 200, _moved(row))
    own_pages.require_patient()
    if request.form.get("entered") != "yes":
        return _enter_page(line, ("Tick that you entered it, if you did.",), 422)
    problem = services().after.entered(g.session, row)
    if problem is not None:
        return _enter_page(line, (problem,), 409)
    services().jobs.read_again(g.session)
    return _to_worksheet(key)


@pages.route("/<key>/take-back", methods=["GET", "POST"])
@needs(Action.WITHDRAW, title="This cannot be taken back here")
def take_back(key: str) -> AnyResponse:
    """Take back what stands on the worksheet or was handed over, with a reason."""
    row, line = _row(key)
    if request.method == "GET":
        return _take_back_page(row, line, (), 200)
    own_pages.require_patient()
    reason = request.form.get("reason", "").strip()[:LONGEST_REASON]
    problems = [] if reason else ["Say why: the reason is kept."]
    if row.state is ChargeState.ENTERED and request.form.get("gone") != "yes":
        problems.append("Take it out of billing first, and tick that you did.")
    if problems:
        return _take_back_page(row, line, tuple(problems), 422)
    problem = services().after.take_back(client_here(), g.session, row, reason)
    if problem is not None:
        return _take_back_page(_row(key)[0], line, (problem,), 409)
    services().jobs.read_again(g.session)
    return redirect(url_for("patient.page", sid=g.session.id), 303)


def _lines() -> list[tuple[Charge, ChargeLine]]:
    rows = services().store.charges.of_patient(g.session.issuer_id, g.session.patient or "")
    found = [(row, line_in(row)) for row in rows if row.state in _ON_IT]
    return [(row, line) for row, line in found if line is not None]


def _row(key: str) -> tuple[Charge, ChargeLine]:
    """The row of a decision that stands on the worksheet; 404 for any other."""
    found = next(((row, line) for row, line in _lines() if row.content.decision == key), None)
    if found is None:
        abort(404)
    return found


def _view(row: Charge, line: ChargeLine) -> LineView:
    no_way_back = services().after.no_way_back(row)
    to_enter = row.state is ChargeState.TO_ENTER
    return LineView(
        key=row.content.decision,
        line=line,
        text=copied(line),
        state=charge_words.handed_state(row),
        moved=_moved(row),
        can_enter=to_enter and refused_here(Action.ENTER) is None,
        can_take_back=no_way_back is None and refused_here(Action.WITHDRAW) is None,
        no_way_back=no_way_back,
    )


def _moved(row: Charge) -> str:
    """Of what nobody has entered yet: what the chart, as it was read last, says against it."""
    if row.state is not ChargeState.TO_ENTER:
        return ""
    accepted, now = decision_of(row), own_pages.chart().findings.decision(row.content.decision)
    if now is not None and now.outcome is Outcome.CHARGED:
        return charge_words.CHARGED_MEANWHILE
    if now is None or essence(now) != essence(accepted):
        return charge_words.EARNED_NO_MORE
    return ""


def _enter_page(line: ChargeLine, problems: tuple[str, ...], status: int, moved: str = "") -> Response:
    page = render_template(
        "handover/enter.html",
        chart=own_pages.chart(),
        line=line,
        text=copied(line),
        problems=problems,
        moved=moved,
    )
    return make_response(page, status)


def _take_back_page(row: Charge, line: ChargeLine, problems: tuple[str, ...], status: int) -> Response:
    no_way_back = services().after.no_way_back(row)
    if no_way_back is not None:
        return error_page(409, f"{line.code} cannot be taken back from here", no_way_back, "")
    page = render_template(
        "handover/take_back.html",
        chart=own_pages.chart(),
        line=line,
        text=copied(line),
        state=row.state.value,
        effect=charge_words.WAYS_BACK[row.content.method],
        longest=LONGEST_REASON,
        problems=problems,
    )
    return make_response(page, status)


def _to_worksheet(key: str) -> AnyResponse:
    return redirect(url_for("worksheet.page", sid=g.session.id, _anchor=key), 303)
