"""Certified months: a patient's calendar month is closed for changes, until it is reopened with a reason.

Only at sites with `lock_certified_months`. What a month holds is shown before it is closed; nothing that is
still on its way to the EHR may lie in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from flask import Blueprint, Response, abort, g, make_response, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from fhir_mappings.decision import Decision
from fhir_mappings.vocabulary import Outcome
from smartapp.ehr.charges.evidence import service_date_of
from smartapp.ehr.reading.own_record import own_differences
from smartapp.services import services
from smartapp.store.changes import UNFINISHED
from smartapp.store.claims import ChargeState
from smartapp.store.months import Month, last_day, month_of
from smartapp.web import own_pages
from smartapp.web.access import Open, needs
from smartapp.web.approvals import LONGEST_REASON
from smartapp.web.permission import Action, refused_here
from smartapp.web.security import Moved

pages = Blueprint("months", __name__, url_prefix="/s/<sid>/months")

CERTIFIES = needs(Action.APPROVE, title="This month was not certified")
REOPENS = needs(Action.APPROVE, title="This month was not reopened")

# One that is only prepared is not: before it is sent, the month is asked for once more.
_ON_ITS_WAY = frozenset(
    {
        ChargeState.AWAITING,
        ChargeState.SENT,
        ChargeState.UNKNOWN,
        ChargeState.TO_ENTER,
        ChargeState.TAKING_BACK,
    }
)


@dataclass(frozen=True)
class MonthView:
    """A month of this patient: what is charged in it, what is not settled, and whether it is certified."""

    first_day: date
    key: str
    over: bool
    month: Month | None
    charged: tuple[Decision, ...]
    waiting: tuple[Decision, ...]
    """Earned and not charged: closing the month leaves them out."""
    on_its_way: tuple[str, ...]
    """Codes of charges and changes that are not finished: the month cannot be closed over them."""

    @property
    def name(self) -> str:
        return f"{self.first_day:%B %Y}"

    @property
    def certified(self) -> bool:
        return self.month is not None and self.month.certified


@pages.before_request
def _where_months_are_certified() -> None:
    if not services().site.lock_certified_months:
        abort(404)


@pages.get("")
@needs(Open.LOOK)
def page() -> Response:
    """Every month that holds something of remote monitoring, the latest first."""
    chart = own_pages.chart()
    return make_response(render_template("months/months.html", months=months_of(chart), chart=chart))


@pages.get("/<key>")
@needs(Open.LOOK)
def month(key: str) -> Response:
    """One month: what it holds, and the way to close or reopen it."""
    chart = own_pages.chart()
    return _page(chart, _month(chart, key), (), 200)


@pages.post("/<key>/certify")
@CERTIFIES
def certify(key: str) -> AnyResponse:
    """Close the month; where something earned would stay uncharged, only once somebody said so."""
    here = services()
    seen = here.store.months.seen(g.session.issuer_id, g.session.patient or "")
    chart = own_pages.posted_chart()
    if own_differences(here.store, chart.issuer_id, chart.patient, chart.findings, ()):
        raise Moved
    view = _month(chart, key)
    problems = []
    if not view.over:
        problems.append("The month is not over yet.")
    if view.on_its_way:
        problems.append(f"Not finished yet: {', '.join(view.on_its_way)}. Settle that first.")
    if problems:
        return _page(chart, view, tuple(problems), 422)
    if view.waiting and request.form.get("uncharged") != "yes":
        return _page(chart, view, ("Say that what is earned stays uncharged, or charge it first.",), 422)
    by, name = own_pages.user()
    done = here.store.months.certify(
        chart.issuer_id,
        chart.patient,
        view.first_day,
        by,
        name,
        here.clock.now(),
        seen,
        session=g.session.id,
        snapshot=chart.snapshot.id,
        charged=", ".join(f"{item.code} x{item.quantity}" for item in view.charged),
        uncharged=", ".join(item.code for item in view.waiting),
    )
    if not done and not here.store.months.certified(chart.issuer_id, chart.patient, [view.first_day]):
        raise Moved
    return redirect(url_for("months.month", sid=g.session.id, key=key), 303)


@pages.post("/<key>/reopen")
@REOPENS
def reopen(key: str) -> AnyResponse:
    """Open it again, for a reason that is kept."""
    chart = own_pages.posted_chart()
    view, here = _month(chart, key), services()
    reason = request.form.get("reason", "").strip()[:LONGEST_REASON]
    if not reason:
        return _page(chart, view, ("Say why: the reason is kept.",), 422)
    by, name = own_pages.user()
    here.store.months.reopen(
        chart.issuer_id,
        chart.patient,
        view.first_day,
        by,
        name,
        reason,
        here.clock.now(),
        session=g.session.id,
    )
    return redirect(url_for("months.month", sid=g.session.id, key=key), 303)


def certified_months(issuer_id: str, patient: str) -> tuple[Month, ...]:
    """Those that are closed now, the latest first; none where the site certifies none."""
    here = services()
    if not here.site.lock_certified_months:
        return ()
    found = here.store.months.of_patient(issuer_id, patient)
    return tuple(found[day] for day in sorted(found, reverse=True) if found[day].certified)


def months_of(chart: own_pages.Chart) -> list[MonthView]:
    """Months with a charge, a suggestion, something on its way, or a certification."""
    here = services()
    kept = here.store.months.of_patient(chart.issuer_id, chart.patient)
    on_its_way = _on_its_way(chart)
    dated = [
        (month_of(item.service_date), item)
        for item in chart.findings.assessment.decisions
        if item.service_date is not None
    ]
    days = {*kept, *on_its_way, *(first_day for first_day, _ in dated)}
    return [
        MonthView(
            first_day,
            f"{first_day:%Y-%m}",
            last_day(first_day) < chart.today,
            kept.get(first_day),
            tuple(item for at, item in dated if at == first_day and item.outcome is Outcome.CHARGED),
            tuple(
                item
                for at, item in dated
                if at == first_day and item.outcome in {Outcome.SUGGEST, Outcome.REVIEW} and not item.charges
            ),
            tuple(on_its_way.get(first_day, ())),
        )
        for first_day in sorted(days, reverse=True)
        if first_day <= chart.today
    ]


def _month(chart: own_pages.Chart, key: str) -> MonthView:
    found = next((view for view in months_of(chart) if view.key == key), None)
    if found is None:
        abort(404)
    return found


def _on_its_way(chart: own_pages.Chart) -> dict[date, list[str]]:
    """Codes of charges and changes that are not finished, by month."""
    store = services().store
    found: dict[date, list[str]] = {}
    for row in store.charges.of_patient(chart.issuer_id, chart.patient):
        if row.state in _ON_ITS_WAY:
            found.setdefault(month_of(service_date_of(row)), []).append(row.code)
    for change in store.changes.of_patient(chart.issuer_id, chart.patient):
        if change.state in UNFINISHED:
            for day in change.content.days:
                found.setdefault(month_of(day), []).append(f"change of {change.content.code}")
    return found


def _page(chart: own_pages.Chart, view: MonthView, problems: tuple[str, ...], status: int) -> Response:
    return make_response(
        render_template(
            "months/month.html",
            chart=chart,
            view=view,
            person=chart.findings.patient,
            refusal=refused_here(Action.APPROVE),
            problems=problems,
            longest=LONGEST_REASON,
        ),
        status,
    )
