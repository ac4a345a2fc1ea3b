"""Opening a chart on a server where nobody signs in.

Without a sign-in the address of this machine would be enough for any program and any web page on it. So the
command prints a link that is good once; whoever comes by it gets a cookie, and only with that a chart is
opened.
"""

from __future__ import annotations

import hmac
import secrets
from threading import Lock
from typing import Any

from flask import Blueprint, abort, make_response, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from launch.authorization import OpenedLaunch, digest
from launch.errors import HttpError
from launch.issuers import Issuer
from launch.ports import LaunchKind, LaunchSession, TokenSet
from launch.scopes import request_scope
from smartapp.ehr.reading.display import banner
from smartapp.services import FEATURES, services
from smartapp.testing.tag import bears_our_tag
from smartapp.testing.target import METADATA
from smartapp.testing.written import NAME
from smartapp.web.errors import error_page
from smartapp.web.form_tokens import is_of, masked
from smartapp.web.security import session_cookie_name, set_cookie

COOKIE = "__Host-tester"
EXTRA_SCOPES = ("patient/DeviceMetric.rs", "patient/CarePlan.rs", "patient/Encounter.cu")


class StartLinks:
    """The one link that is good now, and the cookies that were given for earlier ones."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._link = ""
        self._cookies: set[str] = set()

    def new(self) -> str:
        """The secret of a new link; the one before is not good any more."""
        secret = secrets.token_urlsafe(32)
        with self._lock:
            self._link = digest(secret)
        return secret

    def take(self, secret: str) -> str | None:
        """A cookie's value for the link, once."""
        with self._lock:
            if not self._link or not hmac.compare_digest(digest(secret), self._link):
                return None
            self._link = ""
            value = secrets.token_urlsafe(32)
            self._cookies.add(digest(value))
            return value

    def knows(self, cookie: str) -> bool:
        """Whether that cookie was given for a link."""
        return digest(cookie) in self._cookies


def blueprint(links: StartLinks, user: str | None, patient: str | None) -> Blueprint:
    """`/start/<secret>` and the list of patients. `user`: who acts; `patient`: whose chart the link opens."""
    pages = Blueprint("testing", __name__, url_prefix="/testing")

    @pages.get("/start/<secret>")
    def start(secret: str) -> AnyResponse:
        if request.method == "HEAD":  # a link that is looked at is not spent
            return make_response("", 204)
        value = links.take(secret)
        if value is None:
            if _knows(links):
                return redirect(url_for("testing.patients"))
            return error_page(
                403,
                "This link is not good any more",
                "It opens the app once.",
                "Press Enter where `smartapp connect` runs, or start it again: it prints a new one.",
            )
        response = _opened(patient, user) if patient is not None else redirect(url_for("testing.patients"))
        response.set_cookie(COOKIE, value, secure=True, httponly=True, samesite="Lax", path="/")
        return response

    @pages.get("/patients")
    def patients() -> AnyResponse:
        _require(links)
        try:
            found = _first_page()
        except HttpError as error:
            return error_page(502, "The server did not answer as it should", error.sentence, "Try again.")
        shown = [(one["id"], banner(one)) for one in found]
        token = masked(_cookie())
        return make_response(render_template("testing/patients.html", patients=shown, token=token))

    @pages.post("/open")
    def open_() -> AnyResponse:
        _require(links)
        foreign = request.headers.get("Sec-Fetch-Site", "same-origin") != "same-origin"
        if foreign or not is_of(request.form.get("form_token", ""), _cookie()):
            abort(400)
        return _opened(request.form.get("patient", ""), user)

    return pages


def _knows(links: StartLinks) -> bool:
    return links.knows(_cookie())


def _require(links: StartLinks) -> None:
    if not _knows(links):
        abort(403)


def _cookie() -> str:
    return request.cookies.get(COOKIE, "")


def _server() -> Issuer:
    return next(iter(services().issuers))


def _first_page() -> list[dict[str, Any]]:
    """Patients, those that were seeded first. Raises HttpError."""
    answer = services().clients.of(_server()).fhir("GET", "Patient?_count=50").require_ok()
    bundle = answer.json(METADATA.max_bytes)
    entries = bundle.get("entry") if isinstance(bundle, dict) else None
    found = [entry.get("resource") for entry in entries or () if isinstance(entry, dict)]
    patients = [
        one
        for one in found
        if isinstance(one, dict)
        and one.get("resourceType") == "Patient"
        and NAME.fullmatch(f"Patient/{one.get('id')}")
    ]
    return sorted(patients, key=lambda one: not bears_our_tag(one))


def _opened(patient: str, user: str | None) -> AnyResponse:
    """The chart, in a session like that of a launch, but with a token that is none."""
    if not NAME.fullmatch(f"Patient/{patient}"):
        abort(400)
    opened = _session(patient, user)
    here, session = services(), opened.session
    here.store.launches.create_session(session, TokenSet("", session.expires_at, session.granted_scope))
    here.store.audit.add(
        here.clock.now(),
        "chart-opened",
        session=session.id,
        issuer=session.issuer_id,
        patient=session.patient,
        user=session.fhir_user,
        tenant=None,
    )
    response = make_response(redirect(url_for("patient.page", sid=session.id)))
    life = here.settings.session_lifetime
    set_cookie(response, session_cookie_name(session.id), opened.cookie_value, life)
    return response


def _session(patient: str, user: str | None) -> OpenedLaunch:
    now, issuer = services().clock.now(), _server()
    cookie_value = secrets.token_urlsafe(32)
    # Everything that is ever asked for: whatever the server does not give, it says itself.
    scope = request_scope(FEATURES, kind=LaunchKind.STANDALONE, v2=True, extra=EXTRA_SCOPES)
    session = LaunchSession(
        id=secrets.token_urlsafe(24),
        issuer_id=issuer.id,
        iss=issuer.fhir_base,
        cookie_digest=digest(cookie_value),
        patient=patient,
        encounter=None,
        fhir_user=user,
        user_subject=None,
        user_issuer=None,
        user_name=None,
        requested_scope=scope,
        granted_scope=scope,
        need_patient_banner=True,
        tenant=None,
        intent=None,
        smart_style_url=None,
        fhir_context=(),
        created_at=now,
        last_seen=now,
        expires_at=now + services().settings.session_lifetime,
    )
    return OpenedLaunch(session, cookie_value)
