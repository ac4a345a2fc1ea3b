"""What every page has in common: whose session it is, which headers go out, which forms are believed.

The session id stands in the address and is no credential: a request must also carry the session's own cookie.
Each launch has its own pair, so two charts in two tabs can never be mixed up.
"""

from __future__ import annotations

import hmac
from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from flask import Flask, Response, abort, g, request

from launch.authorization import digest
from launch.issuers import Issuer
from launch.ports import LaunchSession, SessionEnd
from smartapp.services import services
from smartapp.web import words
from smartapp.web.form_tokens import is_of, masked
from smartapp.web.permission import is_closed_to

PROBE_COOKIE = "__Host-probe"
SESSION_COOKIES = "__Host-s-"
"""How the names of the sessions' own cookies begin."""
TOUCH_EVERY = timedelta(seconds=30)
_PLAIN_HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin-allow-popups",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}


class NoSession(Exception):
    """The address names a session that this browser does not hold, or that is over. `sentence` says which."""

    def __init__(self, sentence: str) -> None:
        self.sentence = sentence
        super().__init__(sentence)


class NotForPatients(Exception):
    """A patient or a relative is signed in: 403, and nothing of the chart is read."""


class WithoutPatient(Exception):
    """A session without a patient asked for something of a chart, or one with a patient for the worklist."""


class Moved(Exception):
    """A form was made for another patient or snapshot than the session's present one: 409."""


def session_cookie_name(session_id: str) -> str:
    """One cookie a session, so that a second launch in the same browser leaves the first alone."""
    return f"{SESSION_COOKIES}{digest(session_id)[:16]}"


def set_cookie(response: Response, name: str, value: str, life: timedelta | None = None) -> None:
    """A cookie only this host gets, unreadable for scripts, and kept in the EHR's frame (CHIPS)."""
    response.set_cookie(
        name,
        value,
        max_age=None if life is None else int(life.total_seconds()),
        path="/",
        secure=True,
        httponly=True,
        samesite="None",
        partitioned=True,
    )


def drop_cookie(response: Response, name: str) -> None:
    """Have the browser forget a cookie that opens nothing any more."""
    set_cookie(response, name, "", timedelta())


def register(app: Flask) -> None:
    """Sessions are opened before each page under `/s/<sid>`, headers set after every answer."""
    app.url_value_preprocessor(_open_session)
    app.after_request(_headers)
    app.context_processor(_for_templates)
    app.jinja_env.globals["form_token"] = form_token


def _open_session(_endpoint: str | None, values: dict[str, Any] | None) -> None:
    if not values or "sid" not in values:
        return
    g.session_id = values.pop("sid")
    session = _session_of_cookie(g.session_id)
    g.session = session
    g.issuer = services().issuers.bound(session.issuer_id, session.iss)
    if request.method == "POST":
        _check_form()
    if is_closed_to(session) and request.endpoint != "patient.end":
        raise NotForPatients
    if not _fits(request.endpoint or "", session):
        raise WithoutPatient


ANYBODYS = ("patient.end", "style.sheet", "billing.", "denials.")
"""How the names of the pages begin that a session of either kind may ask for."""


def _fits(endpoint: str, session: LaunchSession) -> bool:
    """A session without a patient opens no chart's page, and no other one opens the worklist."""
    return endpoint.startswith(ANYBODYS) or endpoint.startswith("worklist.") is (session.patient is None)


def _session_of_cookie(session_id: str) -> LaunchSession:
    """The live session whose id and cookie both came. Raises NoSession."""
    here = services()
    session = here.store.launches.get_session(session_id)
    if session is None or not _opens(session):
        # The same words for both: an address alone must not tell whether a session exists.
        raise NoSession("You are signed out of this app.")
    now = here.clock.now()
    if session.ended_at is None and (because := _over(session, now)) is not None:
        here.store.launches.end_session(session.id, now, because)
        here.store.audit.add(now, "session-ended", session=session.id, because=because.value)
        raise NoSession("This session is over because it was not used for a while.")
    if session.ended_at is not None:
        raise NoSession("This session is over.")
    if session.last_seen + TOUCH_EVERY <= now:
        here.store.launches.touch_session(session.id, now)
    g.cookie_value = request.cookies[session_cookie_name(session_id)]
    return session


def session_cookies() -> list[str]:
    """The names of the cookies that this browser holds for sessions, over or not."""
    return [name for name in request.cookies if name.startswith(SESSION_COOKIES)]


def has_cookie_of(session_id: str | None) -> bool:
    """Whether the browser sends a cookie of that session; not whether it is the right one."""
    return session_id is not None and session_cookie_name(session_id) in request.cookies


def is_signed_in() -> bool:
    """Whether this browser holds a session that is open, whatever page it asks for."""
    if not session_cookies():
        return False
    here = services()
    now = here.clock.now()
    for session_id in filter(has_cookie_of, here.store.launches.open_sessions()):
        session = here.store.launches.get_session(session_id)
        if (
            session is not None
            and _opens(session)
            and session.ended_at is None
            and _over(session, now) is None
        ):
            return True
    return False


def _opens(session: LaunchSession) -> bool:
    value = request.cookies.get(session_cookie_name(session.id), "")
    return hmac.compare_digest(digest(value), session.cookie_digest)


def _over(session: LaunchSession, now: datetime) -> SessionEnd | None:
    """What ends a session that nobody has ended."""
    if session.expires_at <= now:
        return SessionEnd.EXPIRED
    return SessionEnd.IDLE if session.last_seen + services().settings.session_idle <= now else None


# Forms


def _check_form() -> None:
    """A POST must come from one of the session's own pages."""
    sent = request.form.get("form_token", "")
    own = urlsplit(services().settings.base_url)
    # Under `Referrer-Policy: no-referrer` browsers say "null" for our own pages too; Sec-Fetch-Site helps.
    foreign = request.headers.get("Origin", "null") not in {"null", f"{own.scheme}://{own.netloc}"}
    foreign = foreign or request.headers.get("Sec-Fetch-Site", "same-origin") != "same-origin"
    if foreign or not is_of(sent, g.cookie_value):
        abort(400)


def form_token() -> str:
    """What the forms of this answer carry, all the same; "" where nobody is signed in."""
    if "form_token" not in g:
        signed_in = g.get("session") is not None and g.get("cookie_value")
        g.form_token = masked(g.cookie_value) if signed_in else ""
    return str(g.form_token)


def require_same(patient: str | None, snapshot: str, as_good: Collection[str] = ()) -> None:
    """A form carries the patient and the snapshot it was made for. Raises Moved if either has changed.
    `as_good`: earlier snapshots that say the same of what the form is about."""
    made_for = request.form.get("snapshot")
    if request.form.get("patient") != patient or not (made_for == snapshot or made_for in as_good):
        raise Moved


# Headers


def content_security_policy(issuer: Issuer | None, form_targets: Iterable[str] = ()) -> str:
    """Nothing but our own files, no inline script or style; framed only by the EHR that launched us.

    `form_targets`: origins that a form of this page may be sent to besides our own, and be forwarded to.
    """
    ancestors = (
        " ".join(issuer.frame_ancestors) if issuer is not None and issuer.frame_ancestors else "'none'"
    )
    return "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self' data:",
            "connect-src 'self'",
            "font-src 'self'",
            " ".join(("form-action", "'self'", *form_targets)),
            "base-uri 'none'",
            f"frame-ancestors {ancestors}",
        )
    )


def _headers(response: Response) -> Response:
    for name, value in _PLAIN_HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers["Content-Security-Policy"] = content_security_policy(
        g.get("issuer"), g.get("form_targets", ())
    )
    if urlsplit(services().settings.base_url).scheme == "https":
        response.headers["Strict-Transport-Security"] = "max-age=31536000"
    return response


def _for_templates() -> dict[str, Any]:
    session = g.get("session")
    return {
        "demo": services().settings.demo,
        "demo_day": _demo_day(),
        "session": session,
        "user_name": _user_name(session),
    }


def _demo_day() -> str:
    """The day of a demo that is told on another one than today."""
    here = services()
    if not here.settings.demo or not here.settings.clock_ahead:
        return ""
    return words.day(here.site.today(here.clock.now()))


def _user_name(session: LaunchSession | None) -> str:
    """Who is signed in, as the id_token or the chart names them; else the bare reference."""
    if session is None:
        return ""
    people = g.findings.choices.practitioners if g.get("findings") is not None else ()
    named = next((person.text for person in people if person.reference == session.fhir_user), None)
    return session.user_name or named or session.fhir_user or ""
