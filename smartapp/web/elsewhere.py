"""Calls and reviews that the EHR keeps where nothing is counted, shown so that somebody logs them. Looked for
when the page is opened, never before the answer stands; nothing is logged or signed by it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta

from flask import Blueprint, Response, g, make_response, render_template
from werkzeug.wrappers import Response as AnyResponse

from fhir_mappings.elsewhere import Elsewhere
from fhir_mappings.local_time import clock_of
from launch.scopes import Scopes
from smartapp.ehr.reading.elsewhere import FoundElsewhere, look_elsewhere, readable_elsewhere
from smartapp.services import services
from smartapp.store.time_log import EntryState
from smartapp.web import own_pages, words
from smartapp.web.access import needs
from smartapp.web.permission import Action
from smartapp.web.time_form import Filled
from smartapp.web.waiting import client_here

pages = Blueprint("elsewhere", __name__, url_prefix="/s/<sid>/elsewhere")

TYPES = {"Communication": "communications", "DocumentReference": "notes", "Appointment": "appointments"}


@dataclass(frozen=True)
class ElsewhereView:
    """One of them in words. `already`: why it may be no other contact than one that is known."""

    day: date
    what: str
    length: str
    already: str
    filled: str
    """What its link fills in, sealed."""


def readable_here() -> tuple[str, ...]:
    """Which types this session may look through."""
    return readable_elsewhere(Scopes.parse(g.session.granted_scope))


@pages.get("")
@needs(Action.LOG, title="Time cannot be logged here")
def page() -> AnyResponse:
    """What was found from the first day of last month on: what lies before is mostly charged."""
    here, chart, types = services(), own_pages.chart(), readable_here()
    since = (chart.today.replace(day=1) - timedelta(days=1)).replace(day=1)
    found = look_elsewhere(client_here(), types, chart.patient, since, clock_of(here.site.zone))
    return _shown(chart, since, types, found)


def _shown(chart: own_pages.Chart, since: date, types: tuple[str, ...], found: FoundElsewhere) -> Response:
    zone = services().site.zone
    logged = {
        entry.latest.content.logged.start.astimezone(zone).date()
        for entry in services().store.time_log.of_patient(chart.issuer_id, chart.patient)
        if entry.state is not EntryState.WITHDRAWN
    }
    entries = [_view(one, chart, logged) for one in found.entries if one.day <= chart.today]
    return make_response(
        render_template(
            "elsewhere/elsewhere.html",
            chart=chart,
            types=types,
            since=since,
            entries=entries,
            looked=_named(type_ for type_ in types if type_ not in found.not_read),
            not_read=_named(found.not_read),
            in_part=_named(found.in_part),
        )
    )


def _named(types: Iterable[str]) -> str:
    names = [TYPES[type_] for type_ in types]
    return words.listed(names) if names else ""


def _view(one: Elsewhere, chart: own_pages.Chart, logged: set[date]) -> ElsewhereView:
    program = "" if one.program is None else f" of {words.PROGRAMS[one.program].lower()}"
    length = "no length" if one.minutes is None else f"{one.minutes} min"
    if one.encounters & chart.findings.seen.keys():
        already = "It belongs to a contact that was read: that one is counted or left out by itself."
    elif one.day in logged:
        already = "Something of that day is in the time log already."
    else:
        already = ""
    # What was planned is not what it took: whoever was there says that.
    told = "" if one.minutes is None or one.planned else str(one.minutes)
    return ElsewhereView(
        one.day,
        f"{words.ACTIVITIES[one.activity]}{program}, in {TYPES[one.type]}",
        f"{length} as planned" if one.planned and one.minutes is not None else length,
        already,
        own_pages.sealed(Filled(one.day.isoformat(), told, one.program or "", str(one.activity))),
    )
