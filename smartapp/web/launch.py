"""From the EHR's click to an open session: the launch address and one callback address an issuer."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from operator import attrgetter
from urllib.parse import urlencode, urlsplit

from flask import Blueprint, Response, g, make_response, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from launch.authorization import AuthorizationRequest, Callback, LaunchRequest, binding_cookie_name
from launch.issuers import Issuers
from smartapp.services import services
from smartapp.web.access import Open, needs
from smartapp.web.security import (
    PROBE_COOKIE,
    drop_cookie,
    session_cookie_name,
    session_cookies,
    set_cookie,
)

PROBE_LIFE = timedelta(minutes=10)
MOST_DROPPED = 20
"""Cookies that one answer has a browser forget: proxies take few bytes of an answer's head."""


def blueprint(issuers: Issuers) -> Blueprint:
    """The pages of the launch, a callback route for each issuer's own path."""
    pages = Blueprint("launch", __name__)
    pages.add_url_rule("/", "front", front)
    pages.add_url_rule("/launch", "begin", begin)
    pages.add_url_rule("/launch/worklist", "begin_worklist", begin_worklist)
    for issuer in issuers:
        pages.add_url_rule(issuer.redirect_path, f"callback-{issuer.id}", _callback(issuer.id))
    return pages


@needs(Open.PUBLIC)
def front() -> str:
    """Whoever comes without a launch learns how to come with one, or signs in at an EHR listed here."""
    here = services()
    listed = [issuer for issuer in here.issuers if issuer.front_page]
    with_worklist = {issuer.id for issuer in listed if here.lists.has(issuer.id)}
    may_bill = bool(here.site.permissions.bill)
    return render_template(
        "launch/front.html",
        issuers=sorted(listed, key=attrgetter("front_page")),
        with_worklist=with_worklist,
        with_billing={issuer.id for issuer in listed if may_bill} - with_worklist,
    )


@needs(Open.PUBLIC)
def begin() -> AnyResponse:
    """`/launch?iss=&launch=`: first whether cookies survive here, then off to the EHR.

    The probe comes before anything is asked of the EHR: a launch that would fail for want of a cookie can
    then still be opened in a new window, with `launch` unspent.
    """
    return _begin(without_patient=False)


@needs(Open.PUBLIC)
def begin_worklist() -> AnyResponse:
    """`/launch/worklist?iss=&launch=`: the same for no patient's chart. Nothing at a patient's level is asked
    for, and what is opened shows the worklist, billing's pages to whoever bills, and nothing else."""
    return _begin(without_patient=True)


def _begin(*, without_patient: bool) -> AnyResponse:
    pairs = tuple(request.args.items(multi=True))
    asked = LaunchRequest.parse(pairs, without_patient=without_patient)
    g.issuer = services().issuers.match(asked.iss)
    if PROBE_COOKIE not in request.cookies:
        again = [pair for pair in pairs if pair[0] in {"iss", "launch"}]
        if "probed" in request.args:
            return make_response(
                render_template("launch/cookies.html", again=f"{request.path}?{urlencode(again)}"), 200
            )
        response = redirect(f"{request.path}?{urlencode([*again, ('probed', '1')])}")
        set_cookie(_flask(response), PROBE_COOKIE, "1", PROBE_LIFE)
        return response
    services().tidy()
    authorization = services().launcher.begin(asked)
    response = to_ehr(authorization)
    _drop_old_cookies(_flask(response))
    return response


def _drop_old_cookies(response: Response) -> None:
    """Of sessions that are over: a browser that keeps one a chart is refused by a proxy in the end."""
    kept = session_cookies()
    if not kept:
        return
    still = set(map(session_cookie_name, services().store.launches.open_sessions()))
    for name in [name for name in kept if name not in still][:MOST_DROPPED]:
        drop_cookie(response, name)


def to_ehr(authorization: AuthorizationRequest) -> AnyResponse:
    """Off to the EHR, with the cookie that binds the answer to this browser."""
    if authorization.must_post:
        endpoint = urlsplit(authorization.endpoint)
        # A browser also asks the policy about where the EHR forwards the form to: its login host, mostly.
        g.form_targets = (f"{endpoint.scheme}://{endpoint.netloc}", *authorization.issuer.oauth_hosts)
        response: AnyResponse = make_response(
            render_template("launch/to_ehr.html", authorization=authorization)
        )
    else:
        response = redirect(authorization.url)
    set_cookie(
        _flask(response), authorization.cookie_name, authorization.cookie_value, authorization.cookie_life
    )
    return response


def _callback(issuer_id: str) -> Callable[[], AnyResponse]:
    @needs(Open.PUBLIC)
    def callback() -> AnyResponse:
        """The EHR sends the browser back here. Code and state leave the address bar with the redirect."""
        here = services()
        g.issuer = here.issuers.get(issuer_id)
        answer = Callback.parse(tuple(request.args.items(multi=True)))
        binding = binding_cookie_name(answer.state or "")
        opened = here.launcher.finish(answer, cookie_value=request.cookies.get(binding), path=request.path)
        session = opened.session
        here.store.audit.add(
            here.clock.now(),
            "session-without-patient" if session.patient is None else "chart-opened",
            session=session.id,
            issuer=session.issuer_id,
            patient=session.patient,
            user=session.fhir_user,
            tenant=session.tenant,
        )
        opened_at = "worklist.page" if session.patient is None else "patient.page"
        response = redirect(url_for(opened_at, sid=session.id))
        life = here.settings.session_lifetime
        set_cookie(_flask(response), session_cookie_name(session.id), opened.cookie_value, life)
        drop_cookie(_flask(response), binding)
        return response

    return callback


def _flask(response: AnyResponse) -> Response:
    assert isinstance(response, Response)
    return response
