"""Where the authorization server is: read from the EHR, believed only where it may be believed."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from launch.discovery import OAUTH_URIS, Discovery, oauth_uris, parse_configuration
from launch.errors import LaunchError, LaunchReason
from launch.http import EhrClients, Limits
from launch.issuers_table import load_issuers
from tests.support.fast_time import FastTime
from tests.support.sandbox import LONG

from .conftest import Answer, AuthorizationServer, FakeEhr, RecordedEvents
from .test_http import raw

WELL_KNOWN = "/fhir/.well-known/smart-configuration"
BASE = "https://ehr.example/fhir"


def issuer_of(**settings: Any) -> Any:
    return load_issuers({"hospital": {"fhir_base": BASE, "client_id": "app", **settings}}).get("hospital")


def document(**changes: Any) -> dict[str, Any]:
    return {
        "authorization_endpoint": "https://ehr.example/auth/authorize",
        "token_endpoint": "https://ehr.example/auth/token",
        **changes,
    }


def statement(**uris: Any) -> dict[str, Any]:
    parts = [{"url": name, "valueUri": uri} for name, uri in uris.items()]
    return {
        "resourceType": "CapabilityStatement",
        "rest": [{"mode": "server", "security": {"extension": [{"url": OAUTH_URIS, "extension": parts}]}}],
    }


def refused(call: Any, *args: Any) -> str:
    with pytest.raises(LaunchError) as caught:
        call(*args)
    assert caught.value.reason is LaunchReason.DISCOVERY_FAILED
    return caught.value.detail


def busy(call: Any, *args: Any) -> str:
    """Refused for now: it may be tried again, and nothing is lost."""
    with pytest.raises(LaunchError) as caught:
        call(*args)
    assert caught.value.reason is LaunchReason.EHR_BUSY
    return caught.value.detail


# Asking


@pytest.mark.smart(29, 226, 227, 375)
def test_the_configuration_is_asked_for_below_the_base_as_json(door, ehr):
    configuration = door.discovery.of(door.client)
    [request] = ehr.requests
    assert (request.method, request.path) == ("GET", WELL_KNOWN)
    assert request.headers["accept"] == "application/json"
    assert "authorization" not in request.headers
    assert configuration.token_endpoint == f"{ehr.origin}/auth/token"
    assert configuration.authorization_endpoint == f"{ehr.origin}/auth/authorize"
    assert not configuration.from_capability_statement


@pytest.mark.smart(29)
def test_a_base_that_ends_with_a_slash_is_asked_with_one_slash(door, ehr):
    door.begin(f"{ehr.base}/")
    assert [request.path for request in ehr.requests] == [WELL_KNOWN]


@pytest.mark.parametrize("status", [404, 401, 410, 500])
def test_without_a_configuration_the_capability_statement_is_asked(door, ehr, status):
    ehr.answer(WELL_KNOWN, {"no": "document"}, status)
    ehr.answer("/fhir/metadata", statement(authorize=f"{ehr.origin}/a", token=f"{ehr.origin}/t"))
    configuration = door.discovery.of(door.client)
    assert configuration.from_capability_statement
    assert configuration.authorization_endpoint == f"{ehr.origin}/a"
    assert configuration.token_endpoint == f"{ehr.origin}/t"
    assert not configuration.speaks_v2(door.issuer)
    assert configuration.issuer is None


def test_with_neither_discovery_fails_and_is_told(door, ehr):
    ehr.routes.clear()
    assert refused(door.discovery.of, door.client) == "http-status"
    assert door.events.all == [("discovery-failed", {"issuer": "hospital", "problem": "http-status"})]


def test_a_capability_statement_without_endpoints_fails_discovery(door, ehr):
    ehr.routes.pop(WELL_KNOWN)
    ehr.answer("/fhir/metadata", {"resourceType": "CapabilityStatement", "rest": [{"mode": "server"}]})
    assert refused(door.discovery.of, door.client) == "no authorization_endpoint"


@pytest.mark.threat("5.1")
def test_a_redirect_is_no_configuration_and_nothing_else_is_asked(door, ehr, other_host):
    ehr.answer(WELL_KNOWN, {}, 302, Location=f"{other_host.origin}{WELL_KNOWN}")
    assert refused(door.discovery.of, door.client) == "redirect"
    assert other_host.requests == []
    assert len(ehr.requests) == 1


@pytest.mark.parametrize(
    ("body", "detail"),
    [(b"<html>", "not-json"), ([], "not-json"), (b'{"a": NaN}', "not-json"), ({}, "no authori")],
)
def test_a_configuration_that_is_none_fails_discovery(door, ehr, body, detail):
    ehr.answer(WELL_KNOWN, body)
    assert refused(door.discovery.of, door.client).startswith(detail)
    assert [name for name in door.events.names() if name == "discovery-failed"]


@pytest.mark.threat("5.1")
def test_a_configuration_of_a_megabyte_is_read_and_a_larger_one_is_not(door, ehr, server):
    start = b'{"authorization_endpoint": "a", "token_endpoint": "t", "x": "'
    room = 1024 * 1024 - len(start) - 2
    ehr.answer(WELL_KNOWN, start + b"x" * room + b'"}')
    assert door.discovery.of(door.client)
    door.discovery.forget(door.issuer)
    ehr.answer(WELL_KNOWN, start + b"x" * (room + 1) + b'"}')
    assert refused(door.discovery.of, door.client) == "too-large"


def test_a_capability_statement_may_have_eight_megabytes(door, ehr):
    ehr.routes.pop(WELL_KNOWN)
    large = {**statement(authorize="a", token="t"), "text": "x" * 5_000_000}
    ehr.answer("/fhir/metadata", large)
    assert door.discovery.of(door.client).from_capability_statement
    door.discovery.forget(door.issuer)
    ehr.answer("/fhir/metadata", {**large, "text": "x" * 9_000_000})
    assert refused(door.discovery.of, door.client) == "too-large"


def test_a_silent_ehr_fails_discovery(door, ehr, monkeypatch):
    monkeypatch.setattr("launch.http.OAUTH_LIMITS", Limits(read=0.1, total=0.2))
    ehr.routes[WELL_KNOWN] = raw(b"", pause=0.3)
    assert refused(door.discovery.of, door.client) == "timeout"


# Keeping


def test_a_configuration_is_kept_for_an_hour_less_a_second(door, ehr, clock):
    door.discovery.of(door.client)
    clock.forward(minutes=59, seconds=59)
    door.discovery.of(door.client)
    assert len(ehr.to(WELL_KNOWN)) == 1
    clock.forward(seconds=1)
    door.discovery.of(door.client)
    assert len(ehr.to(WELL_KNOWN)) == 2


def test_a_clock_that_is_set_back_asks_again(door, ehr, clock):
    door.discovery.of(door.client)
    clock.forward(seconds=-1)
    door.discovery.of(door.client)
    assert len(ehr.to(WELL_KNOWN)) == 2


def test_a_failure_is_the_answer_for_ten_seconds_so_that_launches_do_not_hammer_an_ehr(
    door, ehr, server, clock
):
    ehr.answer(WELL_KNOWN, {}, 501)
    for _ in range(20):
        assert refused(door.discovery.of, door.client) == "http-status"
    assert len(ehr.to(WELL_KNOWN)) == 1
    ehr.routes[WELL_KNOWN] = lambda _: Answer(body=server.configuration)
    clock.forward(seconds=9)
    refused(door.discovery.of, door.client)
    clock.forward(seconds=1)
    assert door.discovery.of(door.client)


class GoOn(threading.Event):
    """Set, it ends the silence of an EHR that was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = threading.Event()


def silent_at_first(ehr: FakeEhr, server: AuthorizationServer) -> GoOn:
    go_on = GoOn()

    def silent(_: Any) -> Answer:
        go_on.asked.set()
        go_on.wait(LONG)
        return Answer(body=server.configuration)

    ehr.routes[WELL_KNOWN] = silent
    return go_on


@pytest.mark.threat("5.12")
def test_of_many_launches_at_a_silent_ehr_one_asks_some_wait_a_little_and_the_rest_are_told_at_once(
    door, ehr, server, monkeypatch
):
    monkeypatch.setattr("launch.discovery.WAIT_SECONDS", 0.2)
    go_on = silent_at_first(ehr, server)
    with ThreadPoolExecutor(1) as first, ThreadPoolExecutor(20) as others:
        asking = first.submit(door.discovery.of, door.client)
        assert go_on.asked.wait(LONG)
        told = list(others.map(lambda _: busy(door.discovery.of, door.client), range(20)))
        # Who comes when the first has waited that long waits for nothing.
        monkeypatch.setattr("launch.discovery.WAIT_SECONDS", LONG)
        watch = FastTime()
        watch.ahead = LONG + 1
        monkeypatch.setattr("launch.discovery.time", watch)
        begun = time.monotonic()
        assert busy(door.discovery.of, door.client) == "being asked"
        assert time.monotonic() - begun < LONG / 2
        go_on.set()
        assert asking.result()
    assert {"being asked", "no seat"} >= set(told)
    assert len(ehr.to(WELL_KNOWN)) == 1


def test_whoever_waits_gets_the_same_answer(door, ehr, server):
    go_on = silent_at_first(ehr, server)
    with ThreadPoolExecutor(3) as pool:
        asking = [pool.submit(door.discovery.of, door.client) for _ in range(3)]
        assert go_on.asked.wait(LONG)
        go_on.set()
        assert len({one.result().token_endpoint for one in asking}) == 1
    assert len(ehr.to(WELL_KNOWN)) == 1


def test_while_a_silent_ehr_is_asked_once_more_nobody_waits_for_it_again(
    door, ehr, server, clock, monkeypatch
):
    monkeypatch.setattr("launch.discovery.WAIT_SECONDS", LONG)
    ehr.answer(WELL_KNOWN, {}, 501)
    assert refused(door.discovery.of, door.client) == "http-status"
    clock.forward(seconds=10)
    go_on = silent_at_first(ehr, server)
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(door.discovery.of, door.client)
        assert go_on.asked.wait(LONG)
        begun = time.monotonic()
        assert refused(door.discovery.of, door.client) == "http-status"
        assert time.monotonic() - begun < LONG / 2
        go_on.set()
        assert asking.result()


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}", b'{"issuer": "https://x"}'])
def test_a_server_of_smart_1_that_answers_any_path_is_asked_for_its_capability_statement(door, ehr, body):
    ehr.answer(WELL_KNOWN, body)
    ehr.answer("/fhir/metadata", statement(authorize=f"{ehr.origin}/a", token=f"{ehr.origin}/t"))
    assert door.discovery.of(door.client).from_capability_statement


def test_a_document_that_names_an_endpoint_elsewhere_is_refused_and_nothing_else_is_asked(door, ehr):
    ehr.answer(WELL_KNOWN, {"authorization_endpoint": "https://evil.example/a", "token_endpoint": "x"})
    ehr.answer("/fhir/metadata", statement(authorize=f"{ehr.origin}/a", token=f"{ehr.origin}/t"))
    assert "authorization_endpoint" in refused(door.discovery.of, door.client)
    assert ehr.to("/fhir/metadata") == []


def test_what_is_forgotten_is_asked_again(door, ehr):
    door.discovery.of(door.client)
    door.discovery.forget(door.issuer)
    door.discovery.of(door.client)
    assert len(ehr.to(WELL_KNOWN)) == 2


def test_two_ehrs_are_kept_apart(ehr, other_host, clock):
    AuthorizationServer(ehr, clock)
    AuthorizationServer(other_host, clock)
    issuers = load_issuers(
        {name: {"fhir_base": host.base, "client_id": "x"} for name, host in (("a", ehr), ("b", other_host))},
        loopback=True,
    )
    clients, discovery = EhrClients(), Discovery(clock, RecordedEvents())
    found = [discovery.of(clients.of(issuer)).token_endpoint for issuer in issuers]
    clients.close()
    assert found == [f"{ehr.origin}/auth/token", f"{other_host.origin}/auth/token"]


# Reading


@pytest.mark.smart(379)
@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("auth/token", f"{BASE}/auth/token"),
        ("./auth/token", f"{BASE}/auth/token"),
        ("/auth/token", "https://ehr.example/auth/token"),
        ("../auth/token", "https://ehr.example/auth/token"),
        ("//ehr.example/token", "https://ehr.example/token"),
        ("?token", f"{BASE}/?token"),
        ("https://EHR.example:443/token", "https://EHR.example:443/token"),
    ],
)
def test_a_relative_endpoint_is_read_from_the_fhir_base(written, read):
    assert parse_configuration(document(token_endpoint=written), issuer_of()).token_endpoint == read


ENDPOINTS = (
    "authorization_endpoint",
    "token_endpoint",
    "jwks_uri",
    "revocation_endpoint",
    "introspection_endpoint",
)


@pytest.mark.threat("5.1", "5.2")
@pytest.mark.smart(1)
@pytest.mark.parametrize("name", ENDPOINTS)
@pytest.mark.parametrize(
    ("endpoint", "detail"),
    [
        ("https://evil.example/token", "is on a host not in oauth_hosts"),
        ("//evil.example/token", "is on a host not in oauth_hosts"),
        ("https://ehr.example:8443/token", "is on a host not in oauth_hosts"),
        ("https://ehr.example.evil.example/token", "is on a host not in oauth_hosts"),
        ("http://ehr.example/token", "is not https"),
        ("http://127.0.0.1/token", "is not https"),
        ("javascript:alert(1)", "holds neither http nor https"),
        ("https://ehr.example@evil.example/", "holds user info"),
        ("https://ehr.example/token#x", "holds a fragment"),
        ("https://[", "holds not a URL"),
        ("//[::1", "holds not a URL"),
        ("https://a℀b/", "holds not a URL"),
    ],
)
def test_an_endpoint_elsewhere_or_in_the_clear_is_refused(name, endpoint, detail):
    said = refused(parse_configuration, document(**{name: endpoint}), issuer_of())
    assert said == f"{name} {detail}"


def test_an_endpoint_on_a_listed_host_is_accepted():
    issuer = issuer_of(oauth_hosts=["https://login.example"])
    read = parse_configuration(document(token_endpoint="https://login.example/token"), issuer)
    assert read.token_endpoint == "https://login.example/token"


@pytest.mark.smart(1)
def test_http_endpoints_are_for_the_demo_on_loopback():
    [issuer] = load_issuers({"h": {"fhir_base": "http://127.0.0.1:8/fhir", "client_id": "x"}}, loopback=True)
    assert parse_configuration({"authorization_endpoint": "a", "token_endpoint": "t"}, issuer)
    far = {"authorization_endpoint": "a", "token_endpoint": "http://ehr.example/t"}
    assert refused(parse_configuration, far, issuer) == "token_endpoint is not https"


@pytest.mark.parametrize("missing", ["authorization_endpoint", "token_endpoint"])
@pytest.mark.parametrize("value", [None, "", 7, [], {}])
def test_without_the_two_endpoints_there_is_no_configuration(missing, value):
    said = refused(parse_configuration, document(**{missing: value}), issuer_of())
    assert said == f"no {missing}"


@pytest.mark.parametrize("odd", [None, 7, "permission-v2", {"a": 1}, [1, None, ["x"]]])
def test_odd_members_count_as_absent(odd):
    read = parse_configuration(
        document(capabilities=odd, scopes_supported=odd, issuer=7, jwks_uri=[], unknown=odd), issuer_of()
    )
    assert read.capabilities == read.scopes_supported == frozenset()
    assert read.issuer is read.jwks_uri is None
    assert not read.takes_post


def test_everything_a_document_says_is_read():
    read = parse_configuration(
        document(
            issuer="https://ehr.example/",
            jwks_uri="https://ehr.example/jwks",
            revocation_endpoint="revoke",
            introspection_endpoint="introspect",
            capabilities=["permission-v2", "authorize-post"],
            scopes_supported=["openid"],
            token_endpoint_auth_methods_supported=["private_key_jwt"],
            code_challenge_methods_supported=["S256"],
        ),
        issuer_of(),
    )
    assert read.issuer == "https://ehr.example/"
    assert read.jwks_uri == "https://ehr.example/jwks"
    assert (read.revocation_endpoint, read.introspection_endpoint) == (f"{BASE}/revoke", f"{BASE}/introspect")
    assert read.takes_post
    assert read.scopes_supported == {"openid"}
    assert read.token_auth_methods == {"private_key_jwt"}
    assert read.code_challenge_methods == {"S256"}


@pytest.mark.parametrize(
    ("style", "capabilities", "v2"),
    [
        ("auto", ["permission-v2"], True),
        ("auto", ["permission-v1"], False),
        ("auto", [], False),
        ("v1", ["permission-v2"], False),
        ("v2", [], True),
    ],
)
def test_scopes_are_asked_for_as_configured_else_as_advertised(style, capabilities, v2):
    issuer = issuer_of(scope_style=style)
    assert parse_configuration(document(capabilities=capabilities), issuer).speaks_v2(issuer) is v2


def test_the_oauth_uris_of_a_statement_are_read_by_name():
    found = oauth_uris(
        statement(authorize="a", token="t", revoke="r", register="x", manage="m", introspect="i")
    )
    assert found == {"authorization_endpoint": "a", "token_endpoint": "t", "revocation_endpoint": "r"}


def test_other_extensions_and_later_repetitions_do_not_count():
    first, second = statement(authorize="a"), statement(authorize="b", token="t")
    first["rest"][0]["security"]["extension"].insert(0, {"url": "urn:other", "extension": [{"url": "token"}]})
    merged = {"rest": [*first["rest"], *second["rest"]]}
    assert oauth_uris(merged) == {"authorization_endpoint": "a", "token_endpoint": "t"}


@pytest.mark.parametrize(
    "odd",
    [
        None,
        7,
        [],
        {},
        {"rest": {}},
        {"rest": [1]},
        {"rest": [{"security": []}]},
        statement(token=7, authorize=None),
    ],
)
def test_an_odd_statement_has_no_endpoints(odd):
    assert oauth_uris(odd) == {}
