"""The way back: state and browser checked before all else, the code exchanged once, the session opened."""

from __future__ import annotations

import hashlib
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from launch.authorization import Callback
from launch.errors import HttpError, LaunchError, LaunchReason
from launch.ports import FhirContext, LaunchKind

from .conftest import Door
from .test_http import raw


def refused(call: Any, *args: Any, **kwargs: Any) -> LaunchError:
    with pytest.raises(LaunchError) as caught:
        call(*args, **kwargs)
    return caught.value


def back(door: Door, **callback: str) -> LaunchError:
    return refused(door.finish, **callback)


# Reading


@pytest.mark.parametrize("name", ["state", "code", "error", "iss"])
def test_a_parameter_given_twice_is_refused(name):
    for values in (("a", "a"), ("a", "b"), ("", "b")):
        error = refused(Callback.parse, [(name, value) for value in values])
        assert (error.reason, error.detail) == (LaunchReason.BAD_CALLBACK, f"{name} twice")


@pytest.mark.smart(6)
@pytest.mark.threat("5.4", "5.8")
def test_what_is_not_needed_is_not_even_read():
    found = Callback.parse(
        [
            ("state", "s"),
            ("code", "c"),
            ("error_description", "<script>"),
            ("error_uri", "https://evil.example"),
            ("next", "https://evil.example"),
            ("redirect_uri", "https://evil.example"),
        ]
    )
    assert found == Callback("s", "c", None, None)
    assert not {"error_description", "error_uri", "next"} & set(Callback.__slots__)


@pytest.mark.threat("5.13")
def test_a_callbacks_repr_shows_neither_state_nor_code():
    assert repr(Callback("the-state", "the-code", None, None)) == "Callback(error=None, iss=None)"


# State and browser


@pytest.mark.smart(4, 39, 60)
@pytest.mark.threat("5.5")
@pytest.mark.parametrize("rest", [{"code": "c"}, {"error": "access_denied"}, {}])
def test_a_callback_without_state_is_refused_an_errors_too(door, ehr, rest):
    door.begin()
    before = len(ehr.requests)
    assert back(door, **rest).reason is LaunchReason.STATE_MISSING
    assert back(door, state="", **rest).reason is LaunchReason.STATE_MISSING
    assert len(ehr.requests) == before


@pytest.mark.smart(4, 39, 60)
@pytest.mark.threat("5.5")
@pytest.mark.parametrize("rest", [{"code": "c"}, {"error": "access_denied"}])
def test_a_forged_state_is_unknown_an_errors_too(door, ehr, rest):
    sent = door.begin()
    before = len(ehr.requests)
    for state in ("A" * 43, sent["state"] + "A", sent["state"][:-1], sent["state"].swapcase(), "\ud800"):
        error = back(door, state=state, **rest)
        assert error.reason is LaunchReason.STATE_UNKNOWN
        assert error.ehr_code is None
    assert len(ehr.requests) == before
    assert door.finish(state=sent["state"], code="c")


@pytest.mark.smart(4, 39, 60)
@pytest.mark.threat("5.5")
def test_a_callback_that_comes_twice_is_refused_the_second_time(door, ehr):
    state = door.begin()["state"]
    door.finish(state=state, code="code-1")
    assert back(door, state=state, code="code-1").reason is LaunchReason.STATE_REPLAYED
    assert len(ehr.to("/auth/token")) == 1
    assert "state-replayed" in door.events.names()


@pytest.mark.threat("5.5")
def test_of_many_simultaneous_callbacks_one_is_exchanged(door, ehr):
    state = door.begin()["state"]

    def come(_: int) -> str:
        try:
            return door.finish(state=state, code="code-1").session.id
        except LaunchError as error:
            return error.reason.value

    with ThreadPoolExecutor(8) as threads:
        results = list(threads.map(come, range(8)))
    assert results.count("state-replayed") == 7
    assert len(ehr.to("/auth/token")) == 1


@pytest.mark.smart(39, 60)
@pytest.mark.threat("5.5")
@pytest.mark.parametrize("rest", [{"code": "c"}, {"error": "access_denied"}])
def test_a_launch_is_good_for_ten_minutes_less_a_second(door, ehr, clock, rest):
    state = door.begin()["state"]
    clock.forward(minutes=10)
    assert back(door, state=state, **rest).reason is LaunchReason.STATE_EXPIRED
    assert ehr.to("/auth/token") == []
    state = door.begin()["state"]
    clock.forward(minutes=9, seconds=59)
    assert door.finish(state=state, code="c")


@pytest.mark.smart(39, 61)
@pytest.mark.threat("5.5")
@pytest.mark.parametrize("rest", [{"code": "c"}, {"error": "access_denied"}])
@pytest.mark.parametrize("cookie", [None, "", "another", "\ud800"])
def test_another_browser_cannot_finish_a_launch_and_uses_it_up(door, ehr, rest, cookie):
    state = door.begin()["state"]
    callback = Callback.parse([("state", state), *rest.items()])
    error = refused(door.launcher.finish, callback, cookie_value=cookie, path="/callback/hospital")
    assert error.reason is LaunchReason.WRONG_BROWSER
    assert error.ehr_code is None
    assert ehr.to("/auth/token") == []
    assert back(door, state=state, code="c").reason is LaunchReason.STATE_REPLAYED


@pytest.mark.smart(61)
@pytest.mark.threat("5.5")
def test_the_cookie_of_another_launch_of_the_same_browser_does_not_do(door):
    first = door.begin()["state"]
    door.begin()
    assert back(door, state=first, code="c").reason is LaunchReason.WRONG_BROWSER


@pytest.mark.threat("5.2")
@pytest.mark.parametrize(
    "path", ["/callback/clinic", "/callback/hospital/", "/callback", "", "/Callback/hospital"]
)
def test_an_answer_at_another_ehrs_callback_address_is_refused(door, ehr, path):
    state = door.begin()["state"]
    assert back(door, state=state, code="c", path=path).reason is LaunchReason.WRONG_CALLBACK
    assert ehr.to("/auth/token") == []


@pytest.mark.threat("5.2")
def test_a_code_goes_to_the_token_endpoint_the_launch_began_with(door, ehr, other_host, server, clock):
    """What the EHR's document says a moment later cannot redirect the code."""
    sent = door.begin()
    door.configure({"oauth_hosts": [other_host.origin]})
    server.configuration["token_endpoint"] = f"{other_host.origin}/token"
    door.finish(state=sent["state"], code="code-1")
    assert len(ehr.to("/auth/token")) == 1
    assert other_host.to("/token") == []


@pytest.mark.threat("5.2")
def test_an_issuer_that_was_taken_off_the_list_meanwhile_gets_no_code(door, ehr):
    state = door.begin()["state"]
    cookie = door.request.cookie_value
    door.configure({"fhir_base": f"{ehr.origin}/other"})
    error = refused(
        door.launcher.finish, Callback(state, "c", None, None), cookie_value=cookie, path="/callback/hospital"
    )
    assert error.reason is LaunchReason.UNKNOWN_ISSUER
    assert ehr.to("/auth/token") == []


@pytest.mark.threat("5.2")
def test_a_callback_address_that_was_changed_meanwhile_ends_the_launch(door, ehr):
    state = door.begin()["state"]
    door.configure({"redirect_path": "/elsewhere"})
    assert back(door, state=state, code="c").reason is LaunchReason.WRONG_CALLBACK
    assert ehr.to("/auth/token") == []


# RFC 9207


@pytest.mark.threat("5.2")
def test_an_iss_that_is_the_authorization_servers_own_is_accepted(door, server):
    assert door.finish(state=door.begin()["state"], code="c", iss=server.issuer)


@pytest.mark.threat("5.2")
@pytest.mark.parametrize("rest", [{"code": "c"}, {"error": "access_denied"}])
@pytest.mark.parametrize("change", ["https://evil.example", "", "{issuer}/", "{ISSUER}", "{base}"])
def test_an_iss_that_is_not_exactly_that_is_a_mix_up(door, ehr, server, change, rest):
    iss = change.format(issuer=server.issuer, ISSUER=server.issuer.upper(), base=ehr.base)
    error = back(door, state=door.begin()["state"], iss=iss, **rest)
    assert error.reason is LaunchReason.WRONG_AUTHORIZATION_SERVER
    assert ehr.to("/auth/token") == []


@pytest.mark.threat("5.2")
@pytest.mark.parametrize("rest", [{"code": "c"}, {"error": "access_denied"}])
def test_an_iss_that_was_promised_and_is_missing_is_a_mix_up(door, ehr, server, rest):
    server.configuration["authorization_response_iss_parameter_supported"] = True
    error = back(door, state=door.begin()["state"], **rest)
    assert error.reason is LaunchReason.WRONG_AUTHORIZATION_SERVER
    assert ehr.to("/auth/token") == []


@pytest.mark.threat("5.2")
def test_an_iss_that_was_promised_and_comes_is_accepted(door, server):
    server.configuration["authorization_response_iss_parameter_supported"] = True
    assert door.finish(state=door.begin()["state"], code="c", iss=server.issuer)


@pytest.mark.threat("5.2")
@pytest.mark.parametrize("said", [False, "true", None])
def test_an_iss_that_was_not_promised_may_be_missing(door, server, said):
    server.configuration["authorization_response_iss_parameter_supported"] = said
    assert door.finish(state=door.begin()["state"], code="c")


@pytest.mark.threat("5.2")
def test_where_the_ehr_does_not_say_who_it_is_the_configured_issuer_is_compared(door, server):
    issuer = server.configuration.pop("issuer")
    door.configure({"oidc_issuer": issuer})
    door.ehr.answer(
        "/auth/.well-known/openid-configuration", {"issuer": issuer, "jwks_uri": f"{issuer}/jwks"}
    )
    assert door.finish(state=door.begin()["state"], code="c", iss=issuer)
    error = refused(door.finish, state=door.begin()["state"], code="c", iss="https://whoever.example")
    assert error.reason is LaunchReason.WRONG_AUTHORIZATION_SERVER


@pytest.mark.threat("5.2")
@pytest.mark.parametrize("iss", [None, "https://whoever.example"])
def test_an_iss_that_was_promised_by_nobody_in_particular_is_a_mix_up(door, server, iss):
    del server.configuration["issuer"]
    server.configuration["authorization_response_iss_parameter_supported"] = True
    error = refused(door.finish, state=door.begin()["state"], code="c", iss=iss)
    assert error.reason is LaunchReason.WRONG_AUTHORIZATION_SERVER


# What the EHR refuses


@pytest.mark.smart(6)
@pytest.mark.threat("5.4", "5.8")
def test_an_error_of_the_ehr_is_told_in_harmless_characters(door, ehr):
    error = back(door, state=door.begin()["state"], error="<script>alert(1)</script>" + "x" * 99, code="c")
    assert error.reason is LaunchReason.EHR_REFUSED
    assert error.ehr_code == ("?script?alert?1???script?" + "x" * 99)[:64]
    assert ehr.to("/auth/token") == []
    assert door.events.all[-1] == (
        "launch-refused",
        {"issuer": "hospital", "reason": "ehr-refused", "error": error.ehr_code, "detail": ""},
    )


@pytest.mark.parametrize("rest", [{}, {"code": ""}])
def test_an_answer_without_a_code_is_refused(door, rest):
    assert back(door, state=door.begin()["state"], **rest).reason is LaunchReason.CODE_MISSING


def test_an_empty_error_is_an_error(door, ehr):
    assert back(door, state=door.begin()["state"], code="c", error="").reason is LaunchReason.EHR_REFUSED
    assert ehr.to("/auth/token") == []


@pytest.mark.parametrize("status", [400, 401])
def test_a_refused_code_is_told_with_the_ehrs_own_word(door, ehr, status):
    ehr.answer("/auth/token", {"error": "invalid_grant", "error_description": "<b>p1</b>"}, status)
    error = back(door, state=door.begin()["state"], code="c")
    assert (error.reason, error.ehr_code) == (LaunchReason.TOKEN_REFUSED, "invalid_grant")
    assert "p1" not in f"{error!r}{error}"


@pytest.mark.parametrize("body", [b"<html>", [], {"error": 7}, {}])
def test_a_token_endpoint_out_of_order_is_told_without_its_words(door, ehr, body):
    ehr.answer("/auth/token", body, 500)
    error = back(door, state=door.begin()["state"], code="c")
    assert (error.reason, error.detail) == (LaunchReason.TOKEN_REFUSED, "http-status")


@pytest.mark.threat("5.3")
def test_a_redirect_from_the_token_endpoint_takes_no_code_along(door, ehr, other_host):
    ehr.answer("/auth/token", {}, 307, Location=f"{other_host.origin}/steal")
    assert back(door, state=door.begin()["state"], code="c").detail == "redirect"
    assert other_host.requests == []


def test_a_code_is_sent_once_even_where_no_answer_comes(door, ehr):
    ehr.routes["/auth/token"] = raw(b"")
    assert back(door, state=door.begin()["state"], code="c").detail == "connection"
    assert len(ehr.to("/auth/token")) == 1


# The exchange


@pytest.mark.smart(13, 62, 63, 67, 68, 69, 70, 71, 317)
def test_a_public_app_sends_code_verifier_and_its_id_and_no_credentials(door, ehr):
    sent = door.begin()
    [pending] = door.store.pending.values()
    door.finish(state=sent["state"], code="code-1")
    [request] = ehr.to("/auth/token")
    assert request.method == "POST"
    assert request.headers["content-type"] == "application/x-www-form-urlencoded"
    assert "authorization" not in request.headers
    assert request.form == {
        "grant_type": "authorization_code",
        "code": "code-1",
        "redirect_uri": sent["redirect_uri"],
        "code_verifier": pending.code_verifier,
        "client_id": "remote-monitoring",
    }


@pytest.mark.smart(68)
@pytest.mark.parametrize("code", ["a b&c=d+e/%3F#ü", "x" * 4000])
def test_the_code_is_sent_unchanged_whatever_it_holds(door, ehr, code):
    door.finish(state=door.begin()["state"], code=code)
    assert ehr.to("/auth/token")[0].form["code"] == code


# The session


@pytest.mark.smart(7, 8, 61, 90)
@pytest.mark.threat("5.7", "5.9")
def test_a_session_has_an_id_and_a_cookie_of_its_own_and_the_store_the_rest(door):
    opened = door.open()
    session, tokens = opened.session, door.store.tokens[opened.session.id]
    assert re.fullmatch(r"[A-Za-z0-9_-]{32}", session.id)
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", opened.cookie_value)
    assert session.cookie_digest == hashlib.sha256(opened.cookie_value.encode()).hexdigest()
    assert door.store.sessions == {session.id: session}
    assert (tokens.access_token, tokens.refresh_token, tokens.version) == ("access-1", "refresh-1", 1)
    assert tokens.access_token not in opened.cookie_value
    assert session.id not in opened.cookie_value


@pytest.mark.threat("5.7")
def test_two_launches_are_two_sessions_each_with_its_own_patient(door, server):
    first = door.open().session
    server.token = {"patient": "p2"}
    second = door.open().session
    assert first.id != second.id
    assert (door.store.sessions[first.id].patient, door.store.sessions[second.id].patient) == ("p1", "p2")


@pytest.mark.smart(41)
def test_the_session_knows_chart_user_and_permissions(door, ehr, server, clock):
    server.token = {
        "encounter": "e1",
        "need_patient_banner": False,
        "tenant": "t1",
        "intent": "review",
        "smart_style_url": f"{ehr.origin}/style.json",
        "fhirContext": [{"reference": "ServiceRequest/9"}],
    }
    server.claims = {"name": "Dr. Ada Park"}
    session = door.finish(state=door.begin(f"{ehr.base}/")["state"], code="c").session
    assert (session.issuer_id, session.iss) == ("hospital", f"{ehr.base}/")
    assert (session.patient, session.encounter) == ("p1", "e1")
    assert (session.fhir_user, session.user_subject, session.user_issuer) == (
        "Practitioner/7",
        "user-7",
        server.issuer,
    )
    assert session.user_name == "Dr. Ada Park"
    assert session.granted_scope == "launch openid fhirUser patient/Observation.rs"
    assert session.requested_scope.startswith("launch openid fhirUser online_access ")
    assert not session.need_patient_banner
    assert (session.tenant, session.intent) == ("t1", "review")
    assert session.smart_style_url == f"{ehr.origin}/style.json"
    assert session.fhir_context == (FhirContext(reference="ServiceRequest/9"),)
    assert session.created_at == session.last_seen == clock.now()
    assert (session.expires_at - clock.now()).total_seconds() == 12 * 3600


@pytest.mark.threat("5.13")
def test_neither_session_nor_tokens_nor_events_show_who_the_patient_is(door, server):
    server.token = {"patient": "patient-4711", "encounter": "encounter-4711"}
    opened = door.open()
    tokens = door.store.tokens[opened.session.id]
    shown = f"{opened!r}{tokens!r}{door.events.all!r}"
    for secret in ("4711", "access-1", "refresh-1", opened.cookie_value, tokens.id_token):
        assert secret not in shown
    assert door.events.names() == ["launch-begun", "launch-opened"]


@pytest.mark.smart(147)
def test_a_grant_that_is_not_stated_is_the_one_that_was_asked_for(door, server):
    server.token = {"scope": None}
    session = door.open().session
    assert session.granted_scope == session.requested_scope


@pytest.mark.smart(147)
@pytest.mark.threat("5.11")
def test_an_empty_grant_grants_nothing(door, server):
    server.token = {"scope": "", "id_token": None}
    assert door.open().session.granted_scope == ""


@pytest.mark.threat("5.11")
def test_without_openid_nobody_is_known_and_nobody_is_made_up(door, server):
    server.token = {"scope": "launch patient/Observation.rs", "id_token": None}
    session = door.open().session
    assert (session.fhir_user, session.user_subject, session.user_issuer) == (None, None, None)


@pytest.mark.smart(47)
@pytest.mark.threat("5.11")
@pytest.mark.parametrize("scope", [None, "launch openid"])
def test_openid_granted_without_an_id_token_is_refused(door, server, scope):
    server.token = {"scope": scope, "id_token": None}
    error = back(door, state=door.begin()["state"], code="c")
    assert error.reason is LaunchReason.ID_TOKEN_INVALID
    assert door.store.sessions == {}


@pytest.mark.smart(201)
def test_an_id_token_is_checked_even_where_openid_was_not_granted(door, server):
    server.token = {"scope": "launch"}
    server.claims = {"aud": "somebody-else"}
    assert back(door, state=door.begin()["state"], code="c").reason is LaunchReason.ID_TOKEN_INVALID


@pytest.mark.smart(193)
@pytest.mark.parametrize("intent", [None, "something-nobody-knows", 7, ["x"]])
def test_an_unknown_intent_opens_the_session_all_the_same(door, server, intent):
    server.token = {"intent": intent}
    assert door.open().session.intent == (intent if isinstance(intent, str) else None)


@pytest.mark.threat("5.3")
@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/style.json",
        "//evil.example/s",
        "javascript:alert(1)",
        "/style.json",
        7,
        "https://[",
    ],
)
def test_a_style_elsewhere_is_not_kept_because_we_would_fetch_it(door, server, url):
    server.token = {"smart_style_url": url}
    assert door.open().session.smart_style_url is None


def test_a_patient_that_is_no_id_opens_no_session(door, server):
    server.token = {"patient": "p1?_count=0"}
    assert back(door, state=door.begin()["state"], code="c").reason is LaunchReason.TOKEN_UNUSABLE
    assert door.store.sessions == {}


def test_a_launch_without_a_patient_is_a_session_without_one(door, server):
    server.token = {"patient": None}
    assert door.open().session.patient is None


@pytest.mark.smart(36, 166)
def test_a_standalone_launch_comes_back_the_same_way(door):
    state = door.begin(launch=None)["state"]
    assert door.finish(state=state, code="c").session.patient == "p1"
    assert door.events.all[0][1]["kind"] == LaunchKind.STANDALONE.value


def test_every_refusal_has_a_sentence_for_a_person():
    for reason in LaunchReason:
        assert LaunchError(reason).sentence.endswith(".")
    for problem, sentence in HttpError.SENTENCES.items():
        assert sentence.endswith(".")
        assert HttpError(problem).sentence == sentence
