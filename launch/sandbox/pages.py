"""The pages a person sees: the launch page, a chart, and the chart with the app inside it.

Server-rendered, no script. The EHR's user is chosen on the launch page; there is no password, since there is
nobody real to protect.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

from flask import (
    Blueprint,
    Response,
    abort,
    current_app,
    jsonify,
    make_response,
    redirect,
    render_template,
    request,
)
from werkzeug.wrappers import Response as BaseResponse

from launch.sandbox.auth_pages import new_launch
from launch.sandbox.cds_client import ask
from launch.sandbox.patients import Story, stories, users

if TYPE_CHECKING:
    from launch.sandbox.app import Sandbox

pages = Blueprint("pages", __name__, static_folder="static", static_url_path="/static")


def _sandbox() -> Sandbox:
    return current_app.extensions["sandbox"]  # type: ignore[no-any-return]


def _page(template: str, **values: Any) -> Response:
    config = _sandbox().config
    app = _app_origin()
    response = make_response(render_template(template, config=config, users=users(), **values))
    # form-action holds for redirects too: a launch form ends at the app.
    response.headers["Content-Security-Policy"] = (
        "default-src 'none'; style-src 'self'; img-src data:; base-uri 'none'; frame-ancestors 'none';"
        f" form-action 'self' {app}; frame-src 'self' {app}"
    )
    return response


def _app_origin() -> str:
    parts = urlsplit(_sandbox().config.launch_url or "")
    return f"{parts.scheme}://{parts.netloc}" if parts.netloc else ""


def _story(patient: str) -> Story:
    story = next((story for story in stories(_sandbox().config.readings) if story.id == patient), None)
    if story is None:
        abort(404)
    return story


def _user(values: Any) -> Any:
    """The chosen user; the first one where none is chosen."""
    chosen = values.get("user", users()[0].reference)
    user = next((user for user in users() if user.reference == chosen), None)
    if user is None:
        abort(400)
    return user


@pages.get("/")
def start() -> Response:
    """All patients, and the buttons that open the app for one of them."""
    return _page("start.html", stories=stories(_sandbox().config.readings), user=_user(request.args))


@pages.post("/launch")
def launch() -> BaseResponse:
    """Open the app for a patient: in this tab, or (`mode=frame`) inside the chart.

    `client` names another registered client than the first, `encounter` an Encounter of the patient's.
    """
    sandbox = _sandbox()
    config = sandbox.config
    if config.launch_url is None or not config.clients:
        abort(404)
    story, user = _story(request.form.get("patient", "")), _user(request.form)
    in_frame = request.form.get("mode") == "frame" and config.frame
    client = config.client(request.form.get("client", config.clients[0].client_id))
    if client is None:
        abort(400)
    encounter = _encounter(request.form.get("encounter"), story.id)
    token = new_launch(sandbox, client.client_id, story.id, user.reference, encounter, in_frame)
    joint = "&" if "?" in config.launch_url else "?"
    address = f"{config.launch_url}{joint}{urlencode({'iss': config.fhir_base, 'launch': token})}"
    if in_frame:
        return _page("framed.html", story=story, user=user, address=address, patient=_patient(story.id))
    return redirect(address, 303)


@pages.post("/launch-worklist")
def launch_worklist() -> BaseResponse:
    """Open the app for no patient: the user's worklist, in this tab."""
    sandbox = _sandbox()
    config = sandbox.config
    if config.worklist_url is None or not config.clients:
        abort(404)
    user = _user(request.form)
    token = new_launch(sandbox, config.clients[0].client_id, None, user.reference, None, frame=False)
    return redirect(f"{config.worklist_url}?{urlencode({'iss': config.fhir_base, 'launch': token})}", 303)


def _encounter(id_: str | None, patient: str) -> str | None:
    if not id_:
        return None
    stored = _sandbox().store.read("Encounter", id_)
    if stored is None or stored.patient != patient:
        abort(400)
    return id_


@pages.get("/charts/<patient>")
def chart(patient: str) -> Response:
    """What the chart holds, the charges first of all."""
    story, user = _story(patient), _user(request.args)
    return _page(
        "chart.html",
        story=story,
        user=user,
        asked=ask(_sandbox(), patient, user.reference),
        patient=_patient(patient),
        charges=_charges(patient),
        counts=_counts(patient),
    )


def _patient(patient: str) -> dict[str, Any]:
    stored = _sandbox().store.read("Patient", patient)
    return json.loads(stored.body) if stored else {}


def _charges(patient: str) -> list[dict[str, Any]]:
    with _sandbox().database.read() as connection:
        rows = connection.execute(
            "SELECT body FROM resource WHERE type = 'ChargeItem' AND patient = ? ORDER BY rid DESC",
            (patient,),
        ).fetchall()
    return [_charge_row(json.loads(body)) for (body,) in rows]


def _charge_row(charge: dict[str, Any]) -> dict[str, Any]:
    period = charge.get("occurrencePeriod", {})
    return {
        "id": charge["id"],
        "version": charge["meta"]["versionId"],
        "code": ", ".join(coding.get("code", "") for coding in charge.get("code", {}).get("coding", ())),
        "status": charge.get("status", ""),
        "occurrence": charge.get("occurrenceDateTime")
        or f"{period.get('start', '')} to {period.get('end', '')}",
        "quantity": charge.get("quantity", {}).get("value", ""),
        "entered": charge.get("enteredDate", charge["meta"]["lastUpdated"]),
        "notes": [note.get("text", "") for note in charge.get("note", ())],
    }


def _counts(patient: str) -> list[tuple[str, int]]:
    with _sandbox().database.read() as connection:
        return connection.execute(
            "SELECT type, count(*) FROM resource WHERE patient = ? GROUP BY type ORDER BY type", (patient,)
        ).fetchall()


@pages.get("/style.json")
def style() -> Response:
    """What `smart_style_url` leads to."""
    return jsonify(
        {
            "color_background": "#f6f7f9",
            "color_error": "#a4262c",
            "color_highlight": "#0b5c8a",
            "dim_border_radius": "4px",
            "dim_font_size": "15px",
            "dim_spacing_size": "16px",
        }
    )


@pages.get("/health")
def health() -> Response:
    """Whether it answers."""
    return jsonify(status="ok")
