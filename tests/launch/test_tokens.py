"""Reading a token response leniently, renewing in time and once, and giving back at the end."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from launch.discovery import Discovery
from launch.errors import HttpError, HttpProblem, LaunchError, LaunchReason
from launch.ports import FhirContext, SessionEnd
from launch.tokens import (
    LEASE_LIFE,
    LONGEST_LIFE,
    SessionClient,
    TokenKeeper,
    parse_context,
    parse_token_response,
)

from .conftest import Answer, FakeClock
from .test_http import raw

NOW = FakeClock().now()


def document(**changes: Any) -> dict[str, Any]:
    return {"access_token": "access-1", "token_type": "Bearer", **changes}


def unusable(call: Any, *args: Any) -> str:
    with pytest.raises(LaunchError) as caught:
        call(*args)
    assert caught.value.reason is LaunchReason.TOKEN_UNUSABLE
    return caught.value.detail


def refused(call: Any, *args: Any, **kwargs: Any) -> LaunchError:
    with pytest.raises(LaunchError) as caught:
        call(*args, **kwargs)
    return caught.value


# Reading the answer


def test_the_least_a_token_response_needs_is_a_bearer_token():
    found = parse_token_response(document(), NOW)
    assert found.access_token == "access-1"
    assert (found.scope, found.refresh_token, found.id_token) == (None, None, None)
    assert found.context == parse_context({})


@pytest.mark.parametrize("written", ["Bearer", "bearer", "BEARER"])
def test_the_case_of_the_token_type_does_not_matter(written):
    assert parse_token_response(document(token_type=written), NOW)


@pytest.mark.parametrize("written", [None, "", "mac", "DPoP", 7, ["bearer"]])
def test_a_token_that_is_no_bearer_token_is_refused(written):
    assert unusable(parse_token_response, document(token_type=written), NOW) == "token_type"


@pytest.mark.threat("5.3")
@pytest.mark.parametrize("name", ["access_token", "refresh_token", "id_token"])
@pytest.mark.parametrize("token", [7, [], {}, "a b", "a\r\nX-Evil: 1", "a\x00", "tökn", "x" * 65537])
def test_a_token_that_does_not_fit_in_a_header_is_refused(name, token):
    assert unusable(parse_token_response, document(**{name: token}), NOW) == name


def test_a_token_may_have_64_kilobytes():
    assert parse_token_response(document(access_token="x" * 65536), NOW).access_token


@pytest.mark.parametrize("token", [None, ""])
def test_an_empty_token_is_none(token):
    assert unusable(parse_token_response, document(access_token=token), NOW) == "access_token"
    assert parse_token_response(document(refresh_token=token, id_token=token), NOW).refresh_token is None


@pytest.mark.parametrize(
    ("expires_in", "seconds"),
    [
        (570, 570),
        (570.5, 570.5),
        ("570", 570),
        (1, 1),
        (86400, 86400),
        (86401, 86400),
        (999_999_999, 86400),
        # What says nothing is taken for five minutes.
        (None, 300),
        (0, 300),
        (-1, 300),
        ("", 300),
        ("-1", 300),
        ("soon", 300),
        ("9" * 10, 300),
        (10**9, 300),
        (10**400, 300),
        (float("inf"), 300),
        (float("nan"), 300),
        (True, 300),
        ([570], 300),
    ],
)
def test_a_tokens_life_is_a_number_or_five_minutes_and_a_day_at_most(expires_in, seconds):
    found = parse_token_response(document(expires_in=expires_in), NOW)
    assert found.expires_at == NOW + timedelta(seconds=seconds)
    assert timedelta(days=1) == LONGEST_LIFE


def test_a_missing_expires_in_is_five_minutes():
    assert parse_token_response(document(), NOW).expires_at == NOW + timedelta(minutes=5)


@pytest.mark.parametrize("scope", [7, ["openid"], {}])
def test_a_scope_that_is_no_text_counts_as_unstated(scope):
    assert parse_token_response(document(scope=scope), NOW).scope is None


def test_an_error_in_a_good_answer_is_an_error():
    error = refused(parse_token_response, document(error="invalid_scope"), NOW)
    assert (error.reason, error.ehr_code) == (LaunchReason.TOKEN_REFUSED, "invalid_scope")
    assert refused(parse_token_response, document(error=None), NOW).ehr_code is None


def test_unknown_members_are_ignored():
    odd = {"active_ttl": 900, "__epic.dstu2.patient": "x", "https://ehr.example/x": {"y": [1]}, "__x": None}
    assert parse_token_response(document(**odd), NOW) == parse_token_response(document(), NOW)


@pytest.mark.threat("5.14")
@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("p1", "p1"),
        ("Patient/p1", "p1"),
        (4711, "4711"),
        ("a_b-c.D", "a_b-c.D"),
        ("x" * 255, "x" * 255),
        (None, None),
        ("", None),
    ],
)
def test_a_patient_is_a_logical_id_also_where_written_as_reference_or_number(written, read):
    assert parse_context({"patient": written}).patient == read


@pytest.mark.threat("5.14")
@pytest.mark.parametrize(
    "patient",
    [
        "p1?_count=0",
        "p1/../p2",
        "..",
        ".",
        "Patient/..",
        "p1&x=1",
        "p1,p2",
        "p1|p2",
        " p1",
        "p1\n",
        "p%31",
        "Patient/",
        "Patient/Patient/p1",
        "https://evil.example/Patient/p1",
        "x" * 256,
        "Person/p1",
        "p\u00fc",
        True,
        False,
        1.5,
        ["p1"],
        {"reference": "Patient/p1"},
    ],
)
def test_a_patient_that_is_no_id_is_refused_because_its_the_only_one_to_be_read(patient):
    assert unusable(parse_context, {"patient": patient}) == "patient"


@pytest.mark.threat("5.14")
@pytest.mark.parametrize("encounter", ["e1?x=1", "..", True, ["e1"], {"reference": "Encounter/e1"}])
def test_an_odd_encounter_is_left_out_and_the_chart_opens(encounter):
    found = parse_context({"patient": "p1", "encounter": encounter})
    assert (found.patient, found.encounter) == ("p1", None)
    assert parse_context({"encounter": "Encounter/e1"}).encounter == "e1"


@pytest.mark.parametrize(
    ("written", "needed"),
    [
        (True, True),
        (False, False),
        ("true", True),
        ("false", False),
        (" False ", False),
        (None, True),
        ("", True),
        (0, True),
        ([], True),
        ("no", True),
    ],
)
def test_a_banner_is_left_out_only_where_the_ehr_plainly_says_so(written, needed):
    assert parse_context({"need_patient_banner": written}).need_patient_banner is needed
    assert parse_context({}).need_patient_banner


@pytest.mark.smart(191)
@pytest.mark.parametrize("role", [None, "", 7])
def test_an_item_of_fhir_context_without_a_role_has_the_role_launch(role):
    item = {"reference": "ServiceRequest/1"} | ({} if role is None else {"role": role})
    [found] = parse_context({"fhirContext": [item]}).fhir_context
    assert found == FhirContext(reference="ServiceRequest/1", role="launch")


def test_fhir_context_is_read_in_all_its_shapes():
    found = parse_context(
        {
            "fhirContext": [
                "ImagingStudy/1",
                {"reference": "Encounter/2", "role": "https://ehr.example/role"},
                {"canonical": "https://ehr.example/Questionnaire/q|1", "type": "Questionnaire"},
                {"identifier": {"system": "urn:x", "value": "7"}, "type": "ServiceRequest"},
                {"type": "Nothing"},
                {},
                7,
                None,
                "",
                ["x"],
            ]
        }
    ).fhir_context
    assert found == (
        FhirContext(reference="ImagingStudy/1"),
        FhirContext(reference="Encounter/2", role="https://ehr.example/role"),
        FhirContext(canonical="https://ehr.example/Questionnaire/q|1", type="Questionnaire"),
        FhirContext(identifier='{"system":"urn:x","value":"7"}', type="ServiceRequest"),
    )


@pytest.mark.parametrize("odd", [None, 7, "x", {}, {"reference": "Patient/1"}])
def test_a_fhir_context_that_is_no_list_is_empty(odd):
    assert parse_context({"fhirContext": odd}).fhir_context == ()


def test_at_most_a_hundred_items_of_fhir_context_are_read():
    assert len(parse_context({"fhirContext": ["A/1"] * 101}).fhir_context) == 100


@pytest.mark.threat("5.13")
def test_no_repr_of_a_token_response_shows_tokens_or_the_chart():
    found = parse_token_response(
        document(refresh_token="refresh-1", id_token="id-1", patient="patient-4711", encounter="enc-4711"),
        NOW,
    )
    for secret in ("access-1", "refresh-1", "id-1", "4711"):
        assert secret not in repr(found)


# Renewing


@pytest.mark.smart(263)
def test_a_token_is_used_until_a_minute_before_it_ends(door, ehr, clock):
    session = door.open().session
    clock.forward(seconds=239)
    assert door.keeper.access_token(session.id) == "access-1"
    assert len(ehr.to("/auth/token")) == 1
    clock.forward(seconds=1)
    assert door.keeper.access_token(session.id) == "access-2"
    assert len(ehr.to("/auth/token")) == 2


@pytest.mark.smart(105, 106, 107, 108, 71)
def test_a_refresh_sends_the_refresh_token_and_asks_for_no_scope(door, ehr, clock):
    session = door.open().session
    clock.forward(minutes=5)
    door.keeper.access_token(session.id)
    request = ehr.to("/auth/token")[1]
    assert request.method == "POST"
    assert request.headers["content-type"] == "application/x-www-form-urlencoded"
    assert request.form == {
        "grant_type": "refresh_token",
        "refresh_token": "refresh-1",
        "client_id": "remote-monitoring",
    }
    assert door.events.all[-1] == ("token-renewed", {"session": session.id, "issuer": "hospital"})


@pytest.mark.smart(117)
def test_a_new_refresh_token_replaces_the_old_one(door, ehr, server, clock):
    session = door.open().session
    for number in (2, 3):
        server.refreshed = {"refresh_token": f"refresh-{number}"}
        clock.forward(minutes=5)
        door.keeper.access_token(session.id)
    assert [request.form["refresh_token"] for request in ehr.to("/auth/token")[1:]] == [
        "refresh-1",
        "refresh-2",
    ]
    tokens = door.store.tokens[session.id]
    assert (tokens.refresh_token, tokens.version) == ("refresh-3", 3)


@pytest.mark.smart(106)
def test_without_a_new_refresh_token_the_old_one_stays(door, ehr, clock):
    session = door.open().session
    for _ in range(2):
        clock.forward(minutes=5)
        door.keeper.access_token(session.id)
    assert [request.form["refresh_token"] for request in ehr.to("/auth/token")[1:]] == ["refresh-1"] * 2


@pytest.mark.parametrize(
    ("scope", "kept"),
    [(None, "launch openid fhirUser patient/Observation.rs"), ("", ""), ("openid", "openid")],
)
def test_what_a_refresh_grants_is_kept_with_the_token(door, server, clock, scope, kept):
    session = door.open().session
    id_token = door.store.tokens[session.id].id_token
    server.refreshed = {"scope": scope}
    clock.forward(minutes=5)
    door.keeper.access_token(session.id)
    assert door.store.tokens[session.id].granted_scope == kept
    assert door.store.tokens[session.id].id_token == id_token is not None


@pytest.mark.threat("5.7")
def test_a_refresh_that_names_another_patient_ends_the_session(door, server, clock):
    session = door.open().session
    server.refreshed = {"patient": "p2"}
    clock.forward(minutes=5)
    for _ in range(2):
        assert refused(door.keeper.access_token, session.id).reason is LaunchReason.PATIENT_CHANGED
    ended = door.store.sessions[session.id]
    assert ended.ended_because is SessionEnd.PATIENT_CHANGED
    assert session.id not in door.store.tokens


@pytest.mark.threat("5.7")
@pytest.mark.parametrize("patient", ["p1", "Patient/p1", None])
def test_a_refresh_that_names_the_same_patient_or_none_goes_on(door, server, clock, patient):
    session = door.open().session
    server.refreshed = {"patient": patient}
    clock.forward(minutes=5)
    assert door.keeper.access_token(session.id) == "access-2"


@pytest.mark.threat("5.7")
def test_a_session_without_a_patient_cannot_be_given_one_later(door, server, clock):
    server.token = {"patient": None}
    session = door.open().session
    server.refreshed = {"patient": "p1"}
    clock.forward(minutes=5)
    assert refused(door.keeper.access_token, session.id).reason is LaunchReason.PATIENT_CHANGED


def test_a_session_that_was_opened_for_no_chart_goes_on_whatever_patient_is_named(door, server, clock):
    server.token = {"patient": "p1"}
    session = door.open(without_patient=True).session
    assert session.patient is None
    server.refreshed = {"patient": "p2"}
    clock.forward(minutes=5)
    assert door.keeper.access_token(session.id)
    assert door.store.sessions[session.id].patient is None


def test_invalid_grant_ends_the_session(door, ehr, server, clock):
    session = door.open().session
    server.refreshed = {"error": "invalid_grant"}
    clock.forward(minutes=5)
    for _ in range(2):
        assert refused(door.keeper.access_token, session.id).reason is LaunchReason.SESSION_ENDED
    assert door.store.sessions[session.id].ended_because is SessionEnd.ENDED_BY_EHR
    assert len(ehr.to("/auth/token")) == 2


@pytest.mark.parametrize("code", ["temporarily_unavailable", "invalid_client", "server_error"])
def test_any_other_refusal_leaves_the_session_for_another_try(door, server, clock, code):
    session = door.open().session
    server.refreshed = {"error": code}
    clock.forward(minutes=5)
    error = refused(door.keeper.access_token, session.id)
    assert (error.reason, error.ehr_code) == (LaunchReason.TOKEN_REFUSED, code)
    server.refreshed = {}
    assert door.keeper.access_token(session.id).startswith("access-")


def test_an_ehr_out_of_order_leaves_the_session_and_the_lease(door, ehr, server, clock):
    session = door.open().session
    clock.forward(minutes=5)
    kept = ehr.routes["/auth/token"]
    ehr.answer("/auth/token", {}, 503)
    with pytest.raises(HttpError) as caught:
        door.keeper.access_token(session.id)
    assert caught.value.problem is HttpProblem.HTTP_STATUS
    assert door.store.leases == {}
    ehr.routes["/auth/token"] = kept
    assert door.keeper.access_token(session.id).startswith("access-")


def test_without_a_refresh_token_a_token_is_good_to_its_last_second(door, ehr, server, clock):
    server.token = {"refresh_token": None}
    session = door.open().session
    clock.forward(seconds=299)
    assert door.keeper.access_token(session.id) == "access-1"
    clock.forward(seconds=1)
    assert refused(door.keeper.access_token, session.id).reason is LaunchReason.SESSION_ENDED
    assert door.store.sessions[session.id].ended_because is SessionEnd.ENDED_BY_EHR
    assert len(ehr.to("/auth/token")) == 1


@pytest.mark.parametrize("session_id", ["", "nobody", "../x"])
def test_a_session_nobody_knows_has_no_token(door, session_id):
    assert refused(door.keeper.access_token, session_id).reason is LaunchReason.SESSION_ENDED


@pytest.mark.threat("5.2")
def test_a_session_of_an_ehr_that_was_taken_off_the_list_renews_nothing(door, ehr, clock):
    session = door.open().session
    door.configure({"fhir_base": f"{ehr.origin}/other"})
    clock.forward(minutes=5)
    assert refused(door.keeper.access_token, session.id).reason is LaunchReason.UNKNOWN_ISSUER
    assert len(ehr.to("/auth/token")) == 1


# One renewal for everybody


def test_of_many_threads_one_renews_and_all_get_the_new_token(door, ehr, clock):
    session = door.open().session
    clock.forward(minutes=5)
    kept, slow = ehr.routes["/auth/token"], threading.Event()

    def slowly(request: Any) -> Answer:
        slow.wait(0.1)
        return kept(request)

    ehr.routes["/auth/token"] = slowly
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: door.keeper.access_token(session.id), range(8)))
    assert found == ["access-2"] * 8
    assert len(ehr.to("/auth/token")) == 2
    assert door.store.leases == {}


def test_two_processes_share_one_renewal_through_the_store(door, ehr, clock):
    """Another process holds the lease and renews; this one waits, looks again, and uses what it finds."""
    session = door.open().session
    clock.forward(minutes=5)
    door.store.acquire_refresh_lease(session.id, "another process", clock.now(), LEASE_LIFE)

    def other_process_works(_: float) -> None:
        tokens = door.store.tokens[session.id]
        renewed = replace(
            tokens, access_token="theirs", expires_at=clock.now() + timedelta(minutes=5), version=2
        )
        door.store.replace_tokens(session.id, renewed, 1)

    keeper = TokenKeeper(
        door.issuers, door.clients, door.discovery, door.store, clock, door.events, sleep=other_process_works
    )
    assert keeper.access_token(session.id) == "theirs"
    assert len(ehr.to("/auth/token")) == 1


def test_whoever_gets_the_lease_looks_again_before_using_the_refresh_token(door, ehr, clock, monkeypatch):
    """Between our look and our lease another process may have renewed: its token is good for once only."""
    session = door.open().session
    clock.forward(minutes=5)
    acquire = door.store.acquire_refresh_lease

    def late(*arguments: Any) -> bool:
        tokens = door.store.tokens[session.id]
        renewed = replace(
            tokens, access_token="theirs", expires_at=clock.now() + timedelta(minutes=5), version=2
        )
        door.store.replace_tokens(session.id, renewed, 1)
        return acquire(*arguments)

    monkeypatch.setattr(door.store, "acquire_refresh_lease", late)
    assert door.keeper.access_token(session.id) == "theirs"
    assert len(ehr.to("/auth/token")) == 1
    assert door.store.leases == {}


def test_a_process_that_died_with_the_lease_is_waited_for_and_then_replaced(door, ehr, clock):
    session = door.open().session
    clock.forward(minutes=5)
    door.store.acquire_refresh_lease(session.id, "a dead process", clock.now(), LEASE_LIFE)
    slept = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        clock.forward(seconds=seconds)

    keeper = TokenKeeper(
        door.issuers, door.clients, door.discovery, door.store, clock, door.events, sleep=sleep
    )
    error = refused(keeper.access_token, session.id)
    assert error.reason is LaunchReason.REFRESH_BUSY
    assert sum(slept) == pytest.approx(30)
    assert keeper.access_token(session.id) == "access-2"
    assert len(ehr.to("/auth/token")) == 2


def test_a_session_that_ends_while_somebody_waits_is_over_for_them_too(door, clock):
    session = door.open().session
    clock.forward(minutes=5)
    door.store.acquire_refresh_lease(session.id, "another process", clock.now(), LEASE_LIFE)
    keeper = TokenKeeper(
        door.issuers,
        door.clients,
        door.discovery,
        door.store,
        clock,
        door.events,
        sleep=lambda _: door.keeper.log_out(session.id),
    )
    assert refused(keeper.access_token, session.id).reason is LaunchReason.SESSION_ENDED


def test_a_session_that_ends_during_the_renewal_stays_ended(door, ehr, clock):
    session = door.open().session
    clock.forward(minutes=5)
    kept = ehr.routes["/auth/token"]

    def ending(request: Any) -> Answer:
        door.store.end_session(session.id, clock.now(), SessionEnd.LOGGED_OUT)
        return kept(request)

    ehr.routes["/auth/token"] = ending
    assert refused(door.keeper.access_token, session.id).reason is LaunchReason.SESSION_ENDED
    assert session.id not in door.store.tokens
    revoked = [request.form["token"] for request in ehr.to("/auth/revoke")]
    assert len(revoked) == 2, "tokens that came after the end are given back"
    assert session.id not in revoked


def test_the_lease_is_held_over_the_token_request_alone(door, ehr, clock):
    """Discovery may take longer than the lease lasts: it is over before the lease begins."""
    session = door.open().session
    clock.forward(hours=2)
    seen: list[tuple[str, bool]] = []
    for path, route in list(ehr.routes.items()):

        def watched(request: Any, path: str = path, route: Any = route) -> Answer:
            seen.append((path.rsplit("/", 1)[1], bool(door.store.leases)))
            return route(request)

        ehr.routes[path] = watched
    door.keeper.access_token(session.id)
    assert seen == [("smart-configuration", False), ("token", True)]


# FHIR calls of a session


@pytest.fixture
def session_client(door):
    session = door.open().session
    return SessionClient(door.client, door.keeper, session.id)


@pytest.mark.smart(93, 264)
def test_a_sessions_call_carries_its_token(ehr, session_client):
    ehr.answer("/fhir/Patient/p1", {"id": "p1"})
    assert session_client.fhir("GET", "Patient/p1").json() == {"id": "p1"}
    assert ehr.to("/fhir/Patient/p1")[0].headers["authorization"] == "Bearer access-1"


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_401_is_answered_with_one_renewal_and_one_more_try(ehr, session_client, method):
    ehr.routes["/fhir/ChargeItem"] = lambda request: Answer(
        201 if request.headers["authorization"] == "Bearer access-2" else 401, {}
    )
    assert session_client.fhir(method, "ChargeItem", body=b"{}").status == 201
    assert [request.headers["authorization"] for request in ehr.to("/fhir/ChargeItem")] == [
        "Bearer access-1",
        "Bearer access-2",
    ]
    assert [request.body for request in ehr.to("/fhir/ChargeItem")] == [b"{}", b"{}"]
    assert len(ehr.to("/auth/token")) == 2


def test_a_second_401_is_the_answer(ehr, session_client):
    ehr.answer("/fhir/Patient/p1", {}, 401)
    assert session_client.fhir("GET", "Patient/p1").status == 401
    assert len(ehr.to("/fhir/Patient/p1")) == 2
    assert len(ehr.to("/auth/token")) == 2


def test_a_403_renews_nothing(ehr, session_client):
    ehr.answer("/fhir/Patient/p1", {}, 403)
    assert session_client.fhir("GET", "Patient/p1").status == 403
    assert len(ehr.to("/fhir/Patient/p1")) == 1
    assert len(ehr.to("/auth/token")) == 1


def test_a_401_that_others_got_too_is_one_renewal(door, ehr, session_client):
    """Whoever comes second finds that the rejected token is no longer the present one."""
    assert door.keeper.access_token(session_client.session_id, rejected="access-1") == "access-2"
    assert door.keeper.access_token(session_client.session_id, rejected="access-1") == "access-2"
    assert len(ehr.to("/auth/token")) == 2


def test_a_401_without_a_refresh_token_ends_the_session(door, ehr, server):
    server.token = {"refresh_token": None}
    session = door.open().session
    ehr.answer("/fhir/Patient/p1", {}, 401)
    client = SessionClient(door.client, door.keeper, session.id)
    assert refused(client.fhir, "GET", "Patient/p1").reason is LaunchReason.SESSION_ENDED
    assert door.store.sessions[session.id].ended_because is SessionEnd.ENDED_BY_EHR


@pytest.mark.smart(97, 98)
@pytest.mark.threat("5.3")
def test_a_foreign_address_is_refused_before_a_token_is_even_renewed(
    door, ehr, other_host, clock, session_client
):
    clock.forward(minutes=5)
    with pytest.raises(HttpError) as caught:
        session_client.fhir("GET", f"{other_host.origin}/fhir/Observation?page=2")
    assert caught.value.problem is HttpProblem.FOREIGN_URL
    assert other_host.requests == []
    assert len(ehr.to("/auth/token")) == 1
    assert session_client.issuer == door.issuer


@pytest.mark.smart(202)
def test_the_signed_in_user_is_read_as_the_resource_fhir_user_names(door, ehr, session_client):
    ehr.answer("/fhir/Practitioner/7", {"resourceType": "Practitioner"})
    session = door.store.sessions[session_client.session_id]
    assert session_client.fhir("GET", session.fhir_user).json() == {"resourceType": "Practitioner"}


def test_a_token_is_opened_once_and_used_until_the_session_ends_wherever_that_is(door, monkeypatch):
    session = door.open().session
    token = door.keeper.access_token(session.id)
    true, opened = door.store.get_tokens, []
    monkeypatch.setattr(door.store, "get_tokens", lambda name: opened.append(name) or true(name))
    assert {door.keeper.access_token(session.id) for _ in range(10)} == {token}
    assert opened == []
    # Another process ends it: no moment longer is it good here.
    door.store.end_session(session.id, door.store.sessions[session.id].last_seen, SessionEnd.LOGGED_OUT)
    assert refused(door.keeper.access_token, session.id).reason is LaunchReason.SESSION_ENDED


def test_threads_that_begin_together_open_a_token_once(door, monkeypatch):
    session = door.open().session
    true, opened = door.store.get_tokens, []

    def slowly(name):
        opened.append(name)
        time.sleep(0.05)
        return true(name)

    monkeypatch.setattr(door.store, "get_tokens", slowly)
    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(door.keeper.access_token, [session.id] * 4))) == 1
    assert opened == [session.id]


# Logging out


@pytest.mark.threat("5.9")
def test_logging_out_ends_the_session_here_and_gives_both_tokens_back(door, ehr):
    session = door.open().session
    door.keeper.log_out(session.id)
    assert [
        (request.form["token"], request.form["token_type_hint"]) for request in ehr.to("/auth/revoke")
    ] == [
        ("refresh-1", "refresh_token"),
        ("access-1", "access_token"),
    ]
    assert all(request.form["client_id"] == "remote-monitoring" for request in ehr.to("/auth/revoke"))
    assert door.store.sessions[session.id].ended_because is SessionEnd.LOGGED_OUT
    assert session.id not in door.store.tokens
    assert refused(door.keeper.access_token, session.id).reason is LaunchReason.SESSION_ENDED


def test_logging_out_twice_or_of_nothing_does_nothing_more(door, ehr):
    session = door.open().session
    door.keeper.log_out(session.id)
    door.keeper.log_out(session.id)
    door.keeper.log_out("nobody")
    assert len(ehr.to("/auth/revoke")) == 2
    assert door.events.names().count("session-ended") == 1


def test_without_revocation_logging_out_ends_the_session_here(door, ehr, server):
    server.configuration["revocation_endpoint"] = None
    session = door.open().session
    door.keeper.log_out(session.id)
    assert ehr.to("/auth/revoke") == []
    assert door.store.sessions[session.id].ended_because is SessionEnd.LOGGED_OUT


@pytest.mark.parametrize("fail", ["status", "broken", "discovery", "unlisted"])
def test_an_ehr_that_cannot_revoke_does_not_keep_the_session_open(door, ehr, clock, fail):
    session = door.open().session
    if fail == "status":
        ehr.answer("/auth/revoke", {}, 503)
    elif fail == "broken":
        ehr.routes["/auth/revoke"] = raw(b"")
    elif fail == "discovery":
        clock.forward(hours=2)
        ehr.routes.clear()
    else:
        door.configure({"fhir_base": f"{ehr.origin}/other"})
    door.keeper.log_out(session.id)
    assert door.store.sessions[session.id].ended_because is SessionEnd.LOGGED_OUT
    assert session.id not in door.store.tokens
    assert fail == "status" or "revocation-failed" in door.events.names()


def test_a_key_that_no_longer_signs_does_not_keep_the_session_open(door, ehr, p384_pem):
    session = door.open().session
    settings = {"client_auth": "private-key-jwt", "signing_key": "K", "signing_key_id": "1"}
    door.configure(settings, {"K": "no key at all"})
    door.keeper.log_out(session.id)
    assert door.store.sessions[session.id].ended_because is SessionEnd.LOGGED_OUT
    assert "revocation-failed" in door.events.names()


@pytest.mark.threat("5.13")
def test_no_event_of_a_sessions_life_names_a_token_or_the_patient(door, server, clock):
    server.token = {"patient": "patient-4711"}
    session = door.open().session
    server.refreshed = {"patient": "patient-4711"}
    clock.forward(minutes=5)
    door.keeper.access_token(session.id)
    door.keeper.log_out(session.id)
    assert door.events.names() == ["launch-begun", "launch-opened", "token-renewed", "session-ended"]
    shown = repr(door.events.all)
    for secret in ("4711", "access-", "refresh-1"):
        assert secret not in shown


def test_discovery_is_shared_and_asked_once(door, ehr, clock):
    assert isinstance(door.discovery, Discovery)
    session = door.open().session
    clock.forward(minutes=5)
    door.keeper.access_token(session.id)
    door.keeper.log_out(session.id)
    assert len(ehr.to("/fhir/.well-known/smart-configuration")) == 1
