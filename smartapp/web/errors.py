"""What a person sees when something is wrong: a sentence, a way back, a number to quote. Never a trace."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from flask import Flask, Response, g, make_response, render_template, request
from werkzeug.exceptions import HTTPException

from launch.errors import HttpError, HttpProblem, LaunchError, LaunchReason, SmartError
from smartapp.store.vault import SealBroken, SealMoved
from smartapp.web import words
from smartapp.web.arrivals import TooMany
from smartapp.web.security import (
    Moved,
    NoSession,
    NotForPatients,
    WithoutPatient,
    drop_cookie,
    session_cookie_name,
)
from smartapp.web.tracing import request_id

log = logging.getLogger(__name__)

TRY_AGAIN_SECONDS = 2
_AGAIN = "Open the app again from the patient's chart."
_HTTP_SENTENCES = {
    400: "This form was not sent from one of this session's own pages, or it is too old.",
    404: "There is no such page.",
    405: "This step expired. Go back to the patient and begin it again.",
    413: "What was sent is too large.",
}


def register(app: Flask) -> None:
    app.register_error_handler(SmartError, _smart_error)
    app.register_error_handler(NoSession, _no_session)
    app.register_error_handler(NotForPatients, _not_for_patients)
    app.register_error_handler(WithoutPatient, _without_patient)
    app.register_error_handler(Moved, _moved)
    app.register_error_handler(TooMany, _too_many)
    app.register_error_handler(SealBroken, _seal_broken)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _unexpected)


def error_page(
    status: int,
    title: str,
    sentence: str,
    way_back: str,
    code: str | None = None,
    *,
    closed: bool = False,
    again: Sequence[tuple[str, str]] | None = None,
) -> Response:
    """The page, or for a script's request the same as a fragment. `closed`: no link to the patient page.
    `again`: the fields of a form that is sent again."""
    log.info("error page %s: %s %s", request_id(), status, title)
    return make_response(
        render_template(
            "error.html",
            title=title,
            sentence=sentence,
            way_back=way_back,
            number=request_id(),
            code=code,
            closed=closed,
            again=again,
            again_seconds=TRY_AGAIN_SECONDS,
        ),
        status,
    )


def _wait(error: SmartError) -> Response:
    """The EHR's seats, or its requests of a minute, are taken, and nothing was sent: the page comes again by
    itself, and a form is sent again, which its tokens make safe however often that is."""
    log.warning("to wait: %s", error)
    fields = None
    if request.method == "POST":  # its token is written anew, as in every answer
        fields = [(name, value) for name, value in request.form.items(multi=True) if name != "form_token"]
    way = "This page tries again by itself."
    response = error_page(503, "Waiting for the EHR", error.sentence, way, again=fields)
    response.headers["Retry-After"] = str(TRY_AGAIN_SECONDS)
    if fields is None:
        response.headers["Refresh"] = str(TRY_AGAIN_SECONDS)
    return response


def _smart_error(error: SmartError) -> Response:
    if error.reason in {LaunchReason.EHR_BUSY, HttpProblem.BUSY}:
        return _wait(error)
    status = 502 if isinstance(error, HttpError) else 400
    if error.reason in {LaunchReason.SESSION_ENDED, LaunchReason.PATIENT_CHANGED}:
        status = 401
    if error.reason is LaunchReason.UNKNOWN_ISSUER:
        status = 403
    log.warning("refused: %s", error)
    code = error.ehr_code if isinstance(error, LaunchError) else None
    if g.get("session") is None:
        return error_page(status, "The app could not be opened", error.sentence, _AGAIN, code)
    back = "Nothing was written by this page. Try again from the patient page."
    return error_page(status, "The EHR did not answer as it should", error.sentence, back, code)


def _no_session(error: NoSession) -> Response:
    response = error_page(401, "No open session", error.sentence, _AGAIN)
    name = session_cookie_name(g.session_id)
    if name in request.cookies:
        drop_cookie(response, name)
    return response


def _not_for_patients(_error: NotForPatients) -> Response:
    sentence = "The EHR says that a patient or a relative is signed in. Nothing of the chart was read."
    return error_page(403, "This app is for clinicians", sentence, "End this session.", closed=True)


def _without_patient(_error: WithoutPatient) -> Response:
    if g.session.patient is None:
        sentence = "This session was opened without a patient: it opens no chart's pages."
        way = "Open the patient from a row of the worklist, or the app from the patient's chart."
    else:
        sentence = "This session was opened for one patient: it shows their chart and no worklist."
        way = "Open the worklist from the EHR's menu, or from this app's own front page."
    return error_page(403, "Not in this session", sentence, way)


def _moved(_error: Moved) -> Response:
    return error_page(
        409,
        "The chart has moved on",
        "This page was made from an earlier reading, or for another patient. Nothing was written.",
        "Go back to the patient page and start from what it shows now.",
    )


def _too_many(error: TooMany) -> Response:
    """Nothing was asked of the EHR or the store for it. The page comes again by itself."""
    response = error_page(
        429,
        "Too many requests at once",
        "More was asked of this app within a minute, from your network or from all together, than it answers "
        "to people who are not signed in. Who is signed in goes on working.",
        f"This page tries again by itself in {words.minutes(error.seconds)}.",
    )
    response.headers["Retry-After"] = str(error.seconds)
    if request.method == "GET":
        response.headers["Refresh"] = str(error.seconds)
    return response


def _seal_broken(error: SealBroken) -> Response:
    """A key that is missing here, or somebody who changed the database: for whoever runs the app."""
    moved = isinstance(error, SealMoved)
    log.error("a seal does not open on %s: %s", request.endpoint, "moved or changed" if moved else "no key")
    why = "was sealed for another place, or was changed" if moved else "cannot be opened with this app's keys"
    return error_page(
        500,
        "What is kept here does not open",
        f"Something that this page needs {why}. Nothing of it is shown, and nothing was written.",
        "Tell whoever runs this app.",
        closed=True,
    )


def _http_error(error: HTTPException) -> Response:
    status = error.code or 500
    sentence = _HTTP_SENTENCES.get(status, "This request could not be handled.")
    return error_page(status, "That did not work", sentence, _AGAIN)


def _unexpected(error: Exception) -> Response:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f"{trace.tb_frame.f_globals.get('__name__')}:{trace.tb_lineno}" if trace is not None else "?"
    # Type and place, never the message: it may quote what was read from the chart.
    log.error(
        "unexpected error %s on %s: %s at %s", request_id(), request.endpoint, type(error).__name__, place
    )
    return error_page(
        500,
        "Something went wrong",
        "This app made a mistake. The patient page shows what became of a charge under way.",
        _AGAIN,
    )
