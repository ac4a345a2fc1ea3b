"""The patient page: a shell at once, progress while the chart is read, then one card a code."""

from __future__ import annotations

from flask import Blueprint, Response, g, jsonify, make_response, redirect, render_template, url_for
from werkzeug.exceptions import NotFound
from werkzeug.wrappers import Response as AnyResponse

from launch.errors import LaunchError
from smartapp.services import services
from smartapp.store.charges import Charge
from smartapp.store.months import Month
from smartapp.store.reading import ATTEMPTS, JobState
from smartapp.web import own_pages, words
from smartapp.web.by_hand import by_hand
from smartapp.web.cards import patient_view
from smartapp.web.changes import changes_view
from smartapp.web.months import certified_months
from smartapp.web.permission import Action, looking_refusal, refusal, role_of
from smartapp.web.security import drop_cookie, session_cookie_name
from smartapp.web.waiting import take_seat

pages = Blueprint("patient", __name__, url_prefix="/s/<sid>")


@pages.get("/")
def page() -> str:
    """The whole page: the cards if the chart has been read, else the shell that waits for them."""
    return render_template("patient.html", **_content())


@pages.get("/content")
def content() -> Response:
    """What the page waits for, as a fragment: progress, failure or the cards."""
    return make_response(render_template("_content.html", **_content()))


@pages.post("/read")
def read_again() -> AnyResponse:
    """Read the chart once more."""
    services().jobs.read_again(g.session)
    return redirect(url_for("patient.page", sid=g.session.id), 303)


@pages.post("/end")
def end() -> Response:
    """End the session here and, where the EHR offers it and has a seat free, there."""
    try:
        take_seat()
        revoke = True
    except LaunchError:
        revoke = False  # ending never waits
    services().keeper.log_out(g.session.id, revoke=revoke)
    response = make_response(render_template("ended.html"))
    drop_cookie(response, session_cookie_name(g.session.id))
    return response


@pages.get("/decisions.json")
def decisions() -> tuple[Response, int]:
    """The page's twin: exactly what `smartapp evaluate --json` says of the same resources."""
    here = services()
    found = here.jobs.findings(g.session.id)
    if found is None:
        job = here.jobs.state(g.session)
        if job.state is JobState.FAILED:
            return jsonify(error=words.failure(job.failure)), 502
        return jsonify(status="reading"), 202
    snapshot, findings = found
    response = jsonify(findings.contract)
    response.headers["X-Snapshot-Id"] = snapshot.id
    response.headers["X-Snapshot-Sha256"] = snapshot.sha256
    return response, 200


@pages.get("/evidence/<address>")
def evidence(address: str) -> Response:
    """One source record of the snapshot, as the EHR sent it."""
    here = services()
    found = here.jobs.findings(g.session.id)
    known = () if found is None else found[1].versions
    wanted = next((name for name in known if own_pages.address_of(name, g.session.id) == address), None)
    if found is not None and wanted is not None:
        for resource in here.store.reading.resources(found[0].id):
            if resource.reference == wanted:
                here.store.audit.add(
                    here.clock.now(),
                    "evidence-opened",
                    **own_pages.facts(),
                    issuer=g.session.issuer_id,
                    patient=g.session.patient,
                    snapshot=found[0].id,
                    record=wanted,
                )
                return Response(resource.raw, mimetype="application/fhir+json")
    raise NotFound


def _content() -> dict[str, object]:
    here = services()
    job = here.jobs.state(g.session)
    found = here.jobs.findings(g.session.id) if job.state is JobState.DONE else None
    view = changes = own_hand = None
    charges: tuple[Charge, ...] = ()
    months: tuple[Month, ...] = ()
    if found is not None:
        role = role_of(g.session, here.site, found[1])
        refused = refusal(Action.ACCEPT, g.session, g.issuer, role, here.site, found[1].writes)
        g.findings = found[1]
        own_hand = by_hand(found[1], g.session, g.issuer)
        if looking_refusal(g.session) is None:
            charges = here.store.charges.of_patient(g.session.issuer_id, g.session.patient or "")
            changes = changes_view(found[1], charges)
        months = certified_months(g.session.issuer_id, g.session.patient or "")
        view = patient_view(*found, here.site, charges, refused, [month.first_day for month in months])
    return {
        "view": view,
        "job": job,
        "zone": here.site.zone,
        "most_attempts": ATTEMPTS,
        "place": here.jobs.place_in_line(g.session),
        "changes": changes,
        "by_hand": own_hand,
        "months": months,
        "locks_months": here.site.lock_certified_months,
    }
