"""What if there were more: the cards of a chart with imagined days, minutes or another payer. Never real.

A page to look at: it keeps nothing, and no card on it can be accepted.
"""

from __future__ import annotations

from flask import Blueprint, Response, g, make_response, render_template, request

from fhir_mappings.rules.what_if import MOST_DAYS, MOST_MINUTES, read_what_if
from smartapp.services import services
from smartapp.web.access import Open, needs
from smartapp.web.own_pages import chart
from smartapp.web.patient_view import Blocks, patient_view
from smartapp.web.security import Moved

pages = Blueprint("what_if", __name__, url_prefix="/s/<sid>/what-if")

NOT_REAL = "This is imagined: nothing on this page can be charged."
FIELDS = ("add-days", "add-minutes", "add-call-minutes", "payer")


@pages.get("")
@needs(Open.SIGNED_IN)
def page() -> Response:
    """The form, and the imagined cards once something was asked for."""
    here = services()
    real = chart()
    asked = {name: value for name in FIELDS if (value := request.args.get(name, "").strip())}
    problem, view = None, None
    if asked:
        try:
            changes = read_what_if(f"{name}={value}" for name, value in asked.items())
        except ValueError as fault:
            problem = str(fault)
        else:
            imagined = here.jobs.imagined(g.session, changes)
            if imagined is None:
                raise Moved
            blocks = Blocks(imagined, here.site, (), NOT_REAL, every=True)
            view = patient_view(real.snapshot, imagined, here.site, NOT_REAL, blocks)
    return make_response(
        render_template(
            "what_if/what_if.html",
            view=view,
            asked=asked,
            problem=problem,
            person=real.findings.patient,
            payers=sorted(here.site.policy.tables.payers),
            most_days=MOST_DAYS,
            most_minutes=MOST_MINUTES,
        ),
        422 if problem else 200,
    )
