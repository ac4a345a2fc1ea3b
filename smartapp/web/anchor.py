"""Where each program's 30-day periods begin: shown with its source, and confirmed or corrected by a clinician
before the first accepted charge. Never after it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime

from flask import Blueprint, Response, abort, g, make_response, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from fhir_mappings.anchor import AnchorSource, ProgramAnchor, periods_from
from fhir_mappings.local_time import Window
from fhir_mappings.vocabulary import MONITORING_PROGRAMS, Program
from smartapp.services import services
from smartapp.store.charges import Enrolment
from smartapp.store.claims import ChargeState
from smartapp.web import own_pages, words
from smartapp.web.permission import Action
from smartapp.web.security import Moved

pages = Blueprint("anchor", __name__, url_prefix="/s/<sid>/anchor")

CORRECTIONS = ("enrolment-record", "charged-elsewhere", AnchorSource.EPISODE_OF_CARE, AnchorSource.SET_UP)
"""Why an anchor may be another day than the one that was found. A closed set: periods are never moved because
other ones would fit better."""


@dataclass(frozen=True)
class ProgramView:
    """One program's anchor, as the page shows it."""

    program: Program
    title: str
    found: ProgramAnchor | None
    source: str
    enrolment: Enrolment | None
    enrolment_source: str
    confirmed_at: datetime | None
    fixed: str | None
    """Why nothing can be changed any more."""
    confirmed_by: str
    periods: tuple[Window, ...]


@pages.before_request
def _only_those_who_may() -> AnyResponse | None:
    if services().jobs.findings(g.session.id) is None:
        return redirect(url_for("patient.page", sid=g.session.id))
    return own_pages.unless_allowed(Action.ACCEPT, "Anchor days cannot be confirmed here")


@pages.get("")
def page() -> Response:
    """Each program's anchor day and where it comes from."""
    return _page((), 200)


@pages.post("/<program>/check")
def check(program: str) -> Response:
    """The periods that would follow. Nothing is kept yet."""
    chart, view = own_pages.posted_chart(), _view(program)
    day, source, problems = _understood(view, chart.today)
    if day is None or problems:
        return _page(problems, 422)
    return make_response(
        render_template(
            "anchor/check.html",
            chart=chart,
            view=view,
            day=day,
            source=source,
            source_words=words.ANCHOR_SOURCES[source],
            periods=periods_from(day, chart.today),
            moved=view.found is not None and view.found.first_day is not None and view.found.first_day < day,
        )
    )


@pages.post("/<program>")
def confirm(program: str) -> AnyResponse:
    """Keep the anchor day that was shown with its periods, and have the chart decided again."""
    chart, view, here = own_pages.posted_chart(), _view(program), services()
    day, source, problems = _understood(view, chart.today)
    if day is None or problems:
        return _page(problems, 422)
    by, by_name = own_pages.user()
    done = here.store.charges.confirm_anchor(
        Enrolment(chart.issuer_id, chart.patient, view.program, day, source, by, here.clock.now(), False),
        by_name,
        session=g.session.id,
    )
    if not done:
        raise Moved
    here.jobs.decide_again(g.session)
    return own_pages.to("anchor.page")


def _understood(view: ProgramView, today: date) -> tuple[date | None, str, tuple[str, ...]]:
    """The day of a form and its source, and what stands against it."""
    if view.fixed is not None:
        return None, "", (view.fixed,)
    source = request.form.get("source", "")
    try:
        day = date.fromisoformat(request.form.get("day", "").strip())
    except ValueError:
        return None, "", ("Give the anchor day as a date.",)
    problems: list[str] = []
    as_found = view.found is not None and day == view.found.day and source == view.found.source
    if not as_found and source not in CORRECTIONS:
        problems.append("Say why the periods begin on that day.")
    if day > today:
        problems.append("The anchor day lies in the future.")
    if not as_found and view.found is not None and view.found.documented and not _within(view.found, day):
        problems.append("That day lies outside the episode of care that the EHR documents.")
    return day, source, tuple(problems)


def _within(found: ProgramAnchor, day: date) -> bool:
    begun = found.episode_start is None or found.episode_start <= day
    return begun and (found.episode_end is None or day <= found.episode_end)


def _view(program: str) -> ProgramView:
    if program not in MONITORING_PROGRAMS:
        abort(404)
    chart, here = own_pages.chart(), services()
    found = next((item for item in chart.findings.anchors if item.program == program), None)
    enrolment = here.store.charges.enrolments(chart.issuer_id, chart.patient).get(program)
    confirmed_at = None if enrolment is None else enrolment.confirmed_at.astimezone(here.site.zone)
    day = found.day if found is not None and found.day is not None else enrolment and enrolment.anchor_day
    return ProgramView(
        Program(program),
        words.PROGRAMS[Program(program)],
        found,
        "" if found is None or found.source is None else words.ANCHOR_SOURCES[found.source],
        enrolment,
        ""
        if enrolment is None
        else words.ANCHOR_SOURCES.get(enrolment.source, words.plain(enrolment.source)),
        confirmed_at,
        _fixed(program, found, enrolment),
        "" if enrolment is None else own_pages.name_of(enrolment.confirmed_by),
        () if not day else periods_from(day, chart.today),
    )


def _fixed(program: str, found: ProgramAnchor | None, enrolment: Enrolment | None) -> str | None:
    if enrolment is not None and enrolment.frozen:
        at = enrolment.confirmed_at.astimezone(services().site.zone).date()
        who = own_pages.name_of(enrolment.confirmed_by)
        return f"Fixed by the first accepted charge, by {who} on {words.day(at)}."
    if found is not None and found.source is AnchorSource.DEVICE_CHARGE:
        return "Fixed by a device charge that the EHR holds."
    rows = services().store.charges.of_patient(g.session.issuer_id, g.session.patient or "")
    on_its_way = {
        ChargeState.PREPARED,
        ChargeState.AWAITING,
        ChargeState.SENT,
        ChargeState.UNKNOWN,
        ChargeState.TO_ENTER,
    }
    if any(
        row.state in on_its_way and row.content.anchor is not None and row.content.anchor.program == program
        for row in rows
    ):
        return "A charge of this program is on its way or waits for approval: it fixes the anchor day."
    return None


def _page(problems: Iterable[str], status: int) -> Response:
    chart = own_pages.chart()
    known = {item.program for item in chart.findings.anchors}
    known |= {Program(name) for name in chart.findings.anchor_days if name in MONITORING_PROGRAMS}
    return make_response(
        render_template(
            "anchor/anchor.html",
            chart=chart,
            views=[_view(program) for program in MONITORING_PROGRAMS if program in known],
            corrections=[(str(source), words.ANCHOR_SOURCES[source]) for source in CORRECTIONS],
            problems=tuple(problems),
        ),
        status,
    )
