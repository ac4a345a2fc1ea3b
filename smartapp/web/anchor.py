"""Where each program's 30-day periods begin: shown with its source, and confirmed or corrected by a clinician
before the first accepted charge. Never after it.

Another day than the one that was found is kept only after a page that shows every code that it would change.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from flask import Blueprint, Response, abort, g, make_response, render_template, request
from werkzeug.wrappers import Response as AnyResponse

from fhir_mappings.anchor import AnchorSource, ProgramAnchor, periods_from
from fhir_mappings.local_time import Window
from fhir_mappings.rules.tables import Kind
from fhir_mappings.vocabulary import MONITORING_PROGRAMS, Program
from smartapp.services import services
from smartapp.store.attestations import Grounds
from smartapp.store.charges import Enrolment
from smartapp.store.claims import ChargeState
from smartapp.web import own_pages, period_words, words
from smartapp.web.access import needs
from smartapp.web.anchor_history import anchor_history
from smartapp.web.differences import Difference, charges_lost, differences
from smartapp.web.permission import Action
from smartapp.web.security import Moved

pages = Blueprint("anchor", __name__, url_prefix="/s/<sid>/anchor")

MAY = needs(Action.ACCEPT, title="Anchor days cannot be confirmed here")

ELSEWHERE = "charged-elsewhere"
CORRECTIONS = ("enrolment-record", ELSEWHERE, AnchorSource.EPISODE_OF_CARE, AnchorSource.SET_UP)
"""Why an anchor may be another day than the one that was found. A closed set: periods are never moved because
other ones would fit better."""
MOST_BEFORE = timedelta(days=365)
"""How far before the first day that was read an anchor may lie: nothing shows there what it rests on."""


@dataclass(frozen=True)
class Asked:
    """What a form asks for."""

    day: date
    source: str
    charged_on: date | None = None
    """The date of service of a device charge in another system, where that is the reason."""

    @property
    def statement(self) -> str:
        """What must be confirmed of it; "" where nothing must."""
        return "" if self.charged_on is None else period_words.charged_elsewhere(self.charged_on)


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


@pages.get("")
@MAY
def page() -> Response:
    """Each program's anchor day and where it comes from."""
    return _page((), 200)


@pages.post("/<program>/check")
@MAY
def check(program: str) -> Response:
    """The periods that would follow, and every code that would be decided otherwise. Nothing is kept yet."""
    chart, view = own_pages.posted_chart(), _view(program)
    asked, problems = _understood(view, chart)
    if asked is None or problems:
        return _page(problems, 422)
    return _check_page(chart, view, asked, (), 200)


@pages.post("/<program>")
@MAY
def confirm(program: str) -> AnyResponse:
    """Keep the anchor day that was shown with its periods, and have the chart decided again."""
    chart, view, here = own_pages.posted_chart(), _view(program), services()
    asked, problems = _understood(view, chart)
    if asked is None or problems:
        return _page(problems, 422)
    if asked.statement and request.form.get("stated") != "yes":
        return _check_page(chart, view, asked, ("Confirm that the charge in the other system exists.",), 422)
    by, by_name = own_pages.user()
    done = here.store.charges.confirm_anchor(
        _enrolment(chart, view, asked, by),
        by_name,
        Grounds(
            found=None if view.found is None else view.found.day,
            charged_on=asked.charged_on,
            says=asked.statement,
        ),
        session=g.session.id,
    )
    if not done:
        raise Moved
    here.jobs.decide_again(g.session)
    return own_pages.to("anchor.page")


def _enrolment(chart: own_pages.Chart, view: ProgramView, asked: Asked, by: str) -> Enrolment:
    now = services().clock.now()
    return Enrolment(chart.issuer_id, chart.patient, view.program, asked.day, asked.source, by, now, False)


def _understood(view: ProgramView, chart: own_pages.Chart) -> tuple[Asked | None, tuple[str, ...]]:
    """What a form asks for, and what stands against it."""
    if view.fixed is not None:
        return None, (view.fixed,)
    source = request.form.get("source", "")
    try:
        day = date.fromisoformat(request.form.get("day", "").strip())
    except ValueError:
        return None, ("Give the anchor day as a date.",)
    if view.found is not None and (day, source) == (view.found.day, view.found.source):
        return Asked(day, source), ()
    if source not in CORRECTIONS:
        return None, ("Say why the periods begin on that day.",)
    problems = list(_out_of_reason(view.program, chart, day))
    if view.found is not None and view.found.documented and not _within(view.found, day):
        problems.append("That day lies outside the episode of care that the EHR documents.")
    charged_on = None
    if source == ELSEWHERE:
        try:
            charged_on = date.fromisoformat(request.form.get("charged_on", "").strip())
        except ValueError:
            return None, (*problems, "Give the date of service of the charge in the other system.")
        if charged_on > chart.today:
            problems.append("The charge in the other system is dated in the future.")
        if charged_on < day:
            problems.append(
                "The charge in the other system is dated before that day: give the first day of the period "
                "that it was for, or of an earlier one."
            )
    return Asked(day, source, charged_on), tuple(problems)


def _out_of_reason(program: Program, chart: own_pages.Chart, day: date) -> Iterator[str]:
    """Why no period can begin on a day, whatever somebody knows."""
    findings, here = chart.findings, services()
    if day > chart.today:
        yield "The anchor day lies in the future."
    born = findings.patient.birth_date
    if re.fullmatch(r"\d{4}(-\d\d){0,2}", born) and day.isoformat()[: len(born)] < born:
        yield "The anchor day lies before the patient was born."
    policy = here.site.policies.of(findings.said["payer"])
    began = min(rule.in_force_from for rule in policy.rules_of(program, (Kind.DEVICE_SUPPLY,)))
    if day < began:
        yield f"No device code of this program could be charged before {words.day(began)}."
    elif day < findings.history_from - MOST_BEFORE:
        yield (
            f"The anchor day lies more than a year before {words.day(findings.history_from)}, the first day "
            "that was read, so nothing shows what it rests on. Periods follow one another without a gap: "
            "give the first day of a later one."
        )


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
        "" if found is None or found.source is None else period_words.anchor_source(found.source),
        enrolment,
        "" if enrolment is None else period_words.anchor_source(enrolment.source),
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


def _check_page(
    chart: own_pages.Chart, view: ProgramView, asked: Asked, problems: tuple[str, ...], status: int
) -> Response:
    """What follows; 422 on the form itself where a charge would lie in no period any more."""
    by, _ = own_pages.user()
    imagined = services().jobs.imagined(g.session, anchors=(_enrolment(chart, view, asked, by),))
    follows: tuple[Difference, ...] | None = None
    if imagined is not None:
        if lost := charges_lost(chart.findings, imagined, view.program):
            return _page((f"{one} is charged and would lie in no period any more." for one in lost), 422)
        follows = differences(chart.findings, imagined, view.program)
    found = view.found
    return make_response(
        render_template(
            "anchor/check.html",
            chart=chart,
            view=view,
            asked=asked,
            source_words=period_words.anchor_source(asked.source),
            periods=periods_from(asked.day, chart.today),
            moved=found is not None and found.first_day is not None and found.first_day < asked.day,
            differences=follows,
            problems=problems,
        ),
        status,
    )


def _page(problems: Iterable[str], status: int) -> Response:
    chart = own_pages.chart()
    known = {item.program for item in chart.findings.anchors}
    known |= {Program(name) for name in chart.findings.anchor_days if name in MONITORING_PROGRAMS}
    return make_response(
        render_template(
            "anchor/anchor.html",
            chart=chart,
            views=[_view(program) for program in MONITORING_PROGRAMS if program in known],
            corrections=[(str(source), period_words.ANCHOR_SOURCES[source]) for source in CORRECTIONS],
            history={one.program: one for one in anchor_history(chart.issuer_id, chart.patient)},
            sent=request.form,
            sent_of=(request.view_args or {}).get("program"),
            problems=tuple(problems),
        ),
        status,
    )
