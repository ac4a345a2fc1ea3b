"""The endpoints of the authorization server, and the patient picker of a standalone launch."""

from __future__ import annotations

import hashlib
import json
import secrets
from typing import TYPE_CHECKING, Any

from authlib.oauth2 import OAuth2Error
from authlib.oauth2.rfc6749 import InvalidRequestError
from flask import Blueprint, Response, current_app, jsonify, make_response, render_template, request

from launch.sandbox.capability import openid_configuration
from launch.sandbox.credentials import CredentialKind
from launch.sandbox.patients import stories, users

if TYPE_CHECKING:
    from launch.sandbox.app import Sandbox

auth = Blueprint("auth", __name__)

#: The picker's own fields; everything else in its form is the client's request, sent through unchanged.
_PICKER_FIELDS = {"picker_ticket", "picker_patient", "picker_user"}
PAGE_POLICY = "default-src 'none'; style-src 'self'; img-src data:; base-uri 'none'; frame-ancestors 'self'"


def _sandbox() -> Sandbox:
    return current_app.extensions["sandbox"]  # type: ignore[no-any-return]


@auth.get("/.well-known/openid-configuration")
def openid_well_known() -> Response:
    """OpenID discovery of the issuer."""
    return jsonify(openid_configuration(_sandbox().config))


@auth.get("/jwks")
def jwks() -> Response:
    """The public signing keys."""
    response = jsonify(_sandbox().config.key.jwks())
    response.headers["Cache-Control"] = "public, max-age=300"
    return response


@auth.route("/authorize", methods=["GET", "POST"])
def authorize() -> Response:
    """The authorization endpoint. An EHR launch needs no page and no cookie: its launch token says who."""
    server = _sandbox().oauth
    try:
        grant = server.get_consent_grant()
        context = _launch_context(grant) if _is_ehr_launch() else _picked_context(grant)
    except OAuth2Error as error:
        return _refuse(error)
    if context is None:
        return _picker(grant)
    grant.request.launch_context = context
    response: Response = server.create_authorization_response(
        grant.request, grant_user=context["user"], grant=grant
    )
    return response


def _is_ehr_launch() -> bool:
    return "launch" in request.values


def _launch_context(grant: Any) -> dict[str, Any]:
    secret = request.values["launch"]
    client_id = grant.client.get_client_id()
    found = _sandbox().credentials.spend(CredentialKind.LAUNCH, secret, client_id)
    if found is None or "launch" not in grant.request.scope.split():
        raise _launch_error(grant, "'launch' is unknown, used or over, or the scope 'launch' is missing")
    return found.data


def _launch_error(grant: Any, text: str) -> InvalidRequestError:
    error = InvalidRequestError(text, redirect_uri=grant.redirect_uri)
    error.state = grant.request.payload.state
    return error


def _picked_context(grant: Any) -> dict[str, Any] | None:
    """Who the picker's form says; None where it was not shown yet."""
    ticket = request.form.get("picker_ticket")
    if ticket is None:
        return None
    found = _sandbox().credentials.spend(CredentialKind.CHOICE, ticket, grant.client.get_client_id())
    if found is None or found.data["request"] != _request_digest():
        raise _launch_error(grant, "the choice of patient is over; start again")
    user, patient = request.form.get("picker_user"), request.form.get("picker_patient")
    if user not in {user.reference for user in users()} or patient not in {story.id for story in stories()}:
        raise _launch_error(grant, "no such user or patient")
    words = set(grant.request.scope.split())
    context: dict[str, Any] = {"user": user, "tenant": "sandbox"}
    if words & {"launch/patient", "launch/encounter"}:
        context |= {"patient": patient, "need_patient_banner": True}
    return context


def _picker(grant: Any) -> Response:
    ticket = _sandbox().credentials.issue(
        CredentialKind.CHOICE, grant.client.client, {"request": _request_digest()}, 600
    )
    page = render_template(
        "picker.html",
        ticket=ticket,
        fields=_client_request(),
        stories=stories(),
        users=users(),
        wants_patient=bool({"launch/patient", "launch/encounter"} & set(grant.request.scope.split())),
        client_id=grant.client.get_client_id(),
    )
    response = make_response(page)
    response.headers["Content-Security-Policy"] = PAGE_POLICY
    return response


def _client_request() -> list[tuple[str, str]]:
    pairs = [*request.args.items(multi=True), *request.form.items(multi=True)]
    return [(name, value) for name, value in pairs if name not in _PICKER_FIELDS]


def _request_digest() -> str:
    return hashlib.sha256(json.dumps(sorted(_client_request())).encode()).hexdigest()


def _refuse(error: OAuth2Error) -> Response:
    """Back to the client where its redirect URI was proven, else a page: never a redirect to a guess."""
    if getattr(error, "redirect_uri", None):
        server = _sandbox().oauth
        response: Response = server.handle_error_response(None, error)
        return response
    response = make_response(render_template("refused.html", error=error), 400)
    response.headers["Content-Security-Policy"] = PAGE_POLICY
    return response


def _form_only() -> Response | None:
    if request.args or request.mimetype != "application/x-www-form-urlencoded":
        answer = jsonify(
            error="invalid_request", error_description="parameters belong in a form-encoded body"
        )
        answer.status_code = 400
        return answer
    return None


@auth.post("/token")
def token() -> Response:
    """The token endpoint."""
    _sandbox().quirks.delay()
    return _form_only() or _sandbox().oauth.create_token_response()


@auth.post("/revoke")
def revoke() -> Response:
    """RFC 7009."""
    return _form_only() or _sandbox().oauth.create_endpoint_response("revocation")


@auth.post("/introspect")
def introspect() -> Response:
    """RFC 7662."""
    return _form_only() or _sandbox().oauth.create_endpoint_response("introspection")


def new_launch(
    sandbox: Sandbox, client_id: str, patient: str | None, user: str, encounter: str | None, frame: bool
) -> str:
    """An opaque, single-use launch token for this patient (or none), user and encounter."""
    context = {
        "user": user,
        "patient": patient,
        "encounter": encounter,
        "need_patient_banner": not frame,
        "smart_style_url": f"{sandbox.config.base_url}/style.json",
        "tenant": "sandbox",
        "intent": "remote-monitoring-charges",
    }
    return sandbox.credentials.issue(
        CredentialKind.LAUNCH, client_id, context, sandbox.config.launch_seconds, secrets.token_hex(16)
    )
