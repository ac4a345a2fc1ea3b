"""The guarded client: where it goes, what it sends, what it accepts, and what its errors say."""

from __future__ import annotations

import gzip
import json
import re
import time
import traceback
import tracemalloc
import zlib
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from types import SimpleNamespace
from typing import Any

import pytest

from launch.bodies import read
from launch.errors import HttpError, HttpProblem
from launch.http import OAUTH_LIMITS, EhrClient, EhrClients, Limits, Response
from launch.issuers import Issuer
from launch.issuers_table import load_issuers
from launch.limiter import IssuerLimiter
from tests.support.sandbox import LONG

from .conftest import Answer, FakeEhr

TOKEN = "secret-token"
PATIENT = "patient-4711"


def issuer_of(ehr: FakeEhr, **settings: Any) -> Issuer:
    table = {"fhir_base": ehr.base, "client_id": "app", **settings}
    [issuer] = load_issuers({"hospital": table}, loopback=True)
    return issuer


@pytest.fixture
def client(ehr):
    with EhrClient(issuer_of(ehr)) as client:
        yield client


def failure(call: Callable[..., Any], *args: Any, **kwargs: Any) -> HttpError:
    with pytest.raises(HttpError) as caught:
        call(*args, **kwargs)
    return caught.value


def raw(*pieces: bytes, pause: float = 0.0, silent: bool = False) -> Callable[[Any], Answer]:
    """These bytes as the whole answer, piece by piece, and the connection closed after them: where the server
    falls silent, only once the client has closed it."""

    def write(handler: BaseHTTPRequestHandler) -> None:
        handler.close_connection = True
        for piece in pieces:
            handler.wfile.write(piece)
            handler.wfile.flush()
            time.sleep(pause)
        if silent:
            handler.connection.recv(1)

    return lambda _: Answer(raw=write)


# Where requests go


@pytest.mark.smart(93, 264)
@pytest.mark.threat("5.3")
def test_the_token_travels_in_the_authorization_header_and_nowhere_else(ehr, client):
    ehr.answer("/fhir/Patient/p1", {})
    client.fhir("GET", "Patient/p1", token=TOKEN)
    [request] = ehr.requests
    assert request.headers["authorization"] == f"Bearer {TOKEN}"
    assert request.path == "/fhir/Patient/p1"
    assert request.body == b""


def test_a_request_without_a_token_has_no_authorization_header(ehr, client):
    client.fhir("GET", "metadata")
    assert "authorization" not in ehr.requests[0].headers


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("Patient/p1", "/fhir/Patient/p1"),
        ("Observation?patient=p1&date=ge2026-01-01", "/fhir/Observation?patient=p1&date=ge2026-01-01"),
        ("{base}/Patient/p1", "/fhir/Patient/p1"),
        ("{base}?_getpages=7", "/fhir?_getpages=7"),
        ("/fhir/Patient/p1", "/fhir/Patient/p1"),
        ("?_getpages=7", "/fhir/?_getpages=7"),
        ("./Patient/p1", "/fhir/Patient/p1"),
    ],
)
def test_targets_are_relative_to_the_base_or_lie_under_it(ehr, client, target, path):
    client.fhir("GET", target.format(base=ehr.base), token=TOKEN)
    assert [request.path for request in ehr.requests] == [path]


@pytest.mark.smart(97, 98, 267, 268)
@pytest.mark.threat("5.3")
@pytest.mark.parametrize(
    "target",
    [
        "{other}/fhir/Observation?page=2",
        "//127.0.0.1:{port}/fhir/Observation",
        "http://localhost:1/fhir/Observation",
        "{origin}/fhirx/Observation",
        "{origin}/admin",
        "/admin",
        "../admin",
        "Patient/../../admin",
        "Patient/%2e%2e/%2e%2e/admin",
        "{origin}@127.0.0.1:{port}/fhir/Observation",
        "http://user@127.0.0.1/fhir/Observation",
        "{base}/Patient#p1",
        "{base}\\@evil.example/",
        "https://evil.example/fhir/Observation",
        "urn:uuid:6f0b7a3e-5c9a-4a38-8a3b-0d8c9f1e2d3c",
        "javascript:alert(1)",
        "file:///etc/passwd",
        "https://[",
        "//[::1",
        "https://a℀b/",
        "http://[x]y/",
        "Patient/p 1",
        "Patient/p\u00fc",
    ],
)
def test_a_next_page_or_reference_elsewhere_is_refused_before_a_byte_is_sent(ehr, other_host, client, target):
    text = target.format(other=other_host.origin, port=other_host.port, origin=ehr.origin, base=ehr.base)
    error = failure(client.fhir, "GET", text, token=TOKEN)
    assert error.problem is HttpProblem.FOREIGN_URL
    assert not error.maybe_acted
    assert ehr.requests == other_host.requests == []


@pytest.mark.threat("5.3")
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_redirect_from_the_fhir_server_is_not_followed(ehr, other_host, client, status, method):
    ehr.answer("/fhir/Observation", {}, status, Location=f"{other_host.origin}/fhir/Observation")
    error = failure(client.fhir, method, "Observation", token=TOKEN)
    assert (error.problem, error.status, error.maybe_acted) == (HttpProblem.REDIRECT, status, True)
    assert len(ehr.requests) == 1
    assert other_host.requests == []


@pytest.mark.threat("5.3")
def test_not_even_a_redirect_to_the_same_server_is_followed(ehr, client):
    ehr.answer("/fhir/Observation", {}, 302, Location=f"{ehr.base}/Observation2")
    assert failure(client.fhir, "GET", "Observation").problem is HttpProblem.REDIRECT
    assert len(ehr.requests) == 1


@pytest.mark.smart(1)
@pytest.mark.threat("5.2", "5.3")
def test_a_redirect_from_the_token_endpoint_or_discovery_is_not_followed(ehr, other_host, client):
    for path in ("/auth/token", "/fhir/.well-known/smart-configuration"):
        ehr.answer(path, {}, 307, Location=f"{other_host.origin}/steal")
    form = (("code", "secret-code"),)
    assert failure(client.oauth_post, f"{ehr.origin}/auth/token", form).problem is HttpProblem.REDIRECT
    found = failure(client.oauth_get, f"{ehr.base}/.well-known/smart-configuration")
    assert found.problem is HttpProblem.REDIRECT
    assert other_host.requests == []


@pytest.mark.threat("5.2")
def test_oauth_calls_go_to_the_bases_own_origin_and_to_listed_ones_only(ehr, other_host):
    other_host.answer("/token", {})
    with EhrClient(issuer_of(ehr)) as client:
        error = failure(client.oauth_post, f"{other_host.origin}/token", (("code", "c"),))
        assert error.problem is HttpProblem.FOREIGN_URL
        assert failure(client.oauth_get, f"{other_host.origin}/jwks").problem is HttpProblem.FOREIGN_URL
        assert other_host.requests == []
    with EhrClient(issuer_of(ehr, oauth_hosts=[other_host.origin])) as client:
        assert client.oauth_post(f"{other_host.origin}/token", ()).ok


@pytest.mark.threat("5.3")
def test_a_listed_login_server_gets_codes_but_never_a_bearer_token(ehr, other_host):
    with EhrClient(issuer_of(ehr, oauth_hosts=[other_host.origin])) as client:
        error = failure(client.fhir, "GET", f"{other_host.origin}/fhir/Patient/p1", token=TOKEN)
    assert error.problem is HttpProblem.FOREIGN_URL
    assert other_host.requests == []


# What is sent


def test_fhir_calls_ask_for_fhir_and_say_who_asks(ehr):
    with EhrClient(issuer_of(ehr), user_agent="smart-remote-monitoring/1.2") as client:
        answer = client.fhir("GET", "Patient/p1")
        client.fhir("POST", "ChargeItem", body=b"{}", headers={"If-None-Exist": "identifier=x|1"})
    read, write = (request.headers for request in ehr.requests)
    assert read["accept"] == write["accept"] == "application/fhir+json"
    assert "content-type" not in read
    assert write["content-type"] == "application/fhir+json"
    assert write["if-none-exist"] == "identifier=x|1"
    assert read["user-agent"] == "smart-remote-monitoring/1.2"
    assert read["x-request-id"] == answer.request_id != write["x-request-id"]
    assert re.fullmatch(r"[0-9a-f]{32}", answer.request_id)


@pytest.mark.smart(62)
def test_token_requests_are_forms(ehr, client):
    client.oauth_post(f"{ehr.origin}/auth/token", (("scope", "a b"), ("code", "x&y=z+ü")))
    [request] = ehr.requests
    assert request.method == "POST"
    assert request.headers["content-type"] == "application/x-www-form-urlencoded"
    assert request.body == b"scope=a+b&code=x%26y%3Dz%2B%C3%BC"


def test_a_header_that_came_twice_is_read_as_one(ehr, client):
    def twice(handler):
        handler.send_response(200)
        for value in ("a", "b"):
            handler.send_header("X-Told", value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    ehr.routes["/fhir/metadata"] = lambda _: Answer(raw=twice)
    assert client.fhir("GET", "metadata").headers["x-told"] == "a, b"


def test_a_client_that_was_closed_opens_connections_anew(ehr, client):
    ehr.answer("/fhir/metadata", {})
    client.fhir("GET", "metadata")
    client.close()
    assert client.fhir("GET", "metadata").ok
    assert len(ehr.connections) == 2


@pytest.mark.threat("5.7", "5.9")
def test_an_ehrs_cookies_are_not_kept(ehr, client):
    ehr.answer("/fhir/metadata", {}, Set_Cookie="patient=p1; Path=/")
    for _ in range(2):
        client.fhir("GET", "metadata")
    client.oauth_get(f"{ehr.origin}/jwks")
    assert all("cookie" not in request.headers for request in ehr.requests)


# How much is accepted


def test_an_answer_of_exactly_the_limit_is_read_and_one_byte_more_is_not(ehr, client):
    limits = Limits(max_bytes=1000)
    ehr.answer("/fhir/a", b"x" * 1000)
    ehr.answer("/fhir/b", b"x" * 1001)
    assert len(client.fhir("GET", "a", limits=limits).body) == 1000
    error = failure(client.fhir, "GET", "b", limits=limits)
    assert (error.problem, error.maybe_acted) == (HttpProblem.TOO_LARGE, True)
    assert len(ehr.requests) == 2


@pytest.mark.parametrize("digits", [11, 19, 20, 5000])
def test_a_declared_size_above_the_limit_is_refused_without_reading(ehr, client, digits):
    head = b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * digits
    ehr.routes["/fhir/a"] = raw(head + b"\r\n\r\n", silent=True)
    assert failure(client.fhir, "GET", "a").problem is HttpProblem.TOO_LARGE


@pytest.mark.threat("5.12")
def test_an_answer_that_hides_its_size_is_cut_off_at_the_limit(ehr, client):
    chunk = b"%x\r\n%s\r\n" % (4096, b"x" * 4096)
    ehr.routes["/fhir/a"] = raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", *[chunk] * 50)
    assert failure(client.fhir, "GET", "a", limits=Limits(max_bytes=9999)).problem is HttpProblem.TOO_LARGE


@pytest.mark.threat("5.12")
@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 99999999999999999999 OK\r\n\r\n",
        b"HTTP/1.1 -1 OK\r\n\r\n",
        b"HTTP/1.1 " + b"9" * 5000 + b" OK\r\n\r\n",
        b"HTTP/9999999999.1 200 OK\r\n\r\n[]",
        b"HTTP/1.1 200 " + b"x" * 100_000 + b"\r\n\r\n[]",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n[]",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000 + b"\r\n[]",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"f" * 5000 + b"\r\n[]",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n[]\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nNaN\r\n[]\r\n0\r\n\r\n",
        b"\x00" * 70_000,
    ],
    ids=lambda answer: repr(answer[:40]),
)
def test_an_answer_that_is_no_http_is_an_error_of_ours(ehr, client, answer):
    ehr.routes["/fhir/a"] = raw(answer)
    error = failure(client.fhir, "GET", "a", limits=Limits(total=5, tries=1))
    assert error.problem in {HttpProblem.CONNECTION, HttpProblem.TOO_LARGE}


def test_chunks_within_the_limit_are_one_body(ehr, client):
    ehr.routes["/fhir/a"] = raw(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b'3\r\n{"a\r\n', b'4\r\n":1}\r\n0\r\n\r\n'
    )
    assert client.fhir("GET", "a").json() == {"a": 1}


def test_gzip_is_asked_for_and_read(ehr, client):
    ehr.answer("/fhir/a", gzip.compress(b'{"a": 1}'), Content_Encoding="gzip")
    ehr.answer("/fhir/b", gzip.compress(b'{"a"') + gzip.compress(b": 1}"), Content_Encoding="x-gzip")
    assert client.fhir("GET", "a").json() == client.fhir("GET", "b").json() == {"a": 1}
    assert ehr.requests[0].headers["accept-encoding"] == "gzip"


@pytest.mark.threat("5.12")
def test_a_gzip_bomb_is_stopped_at_the_limit_and_never_unpacked(ehr, client):
    bomb = gzip.compress(bytes(64 * 1024 * 1024), 9)
    ehr.answer("/fhir/a", bomb, Content_Encoding="gzip")
    assert len(bomb) < 128 * 1024
    tracemalloc.start()
    try:
        error = failure(client.fhir, "GET", "a", limits=Limits(max_bytes=1024 * 1024))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert error.problem is HttpProblem.TOO_LARGE
    assert peak < 8 * 1024 * 1024


@pytest.mark.threat("5.12")
def test_a_compressed_body_that_holds_nothing_for_ever_is_stopped_at_the_limit_too():
    nothing, came = gzip.compress(b"") * 3000, []

    def some_of_it(_number, decode_content):
        assert not decode_content
        came.append(len(nothing))
        return nothing

    raw = SimpleNamespace(headers={"Content-Encoding": "gzip"}, read1=some_of_it)
    error = failure(read, raw, 200_000, time.monotonic() + 60)
    assert (error.problem, error.maybe_acted) == (HttpProblem.TOO_LARGE, True)
    assert sum(came) < 400_000


def test_the_limit_counts_unpacked_bytes(ehr, client):
    ehr.answer("/fhir/a", gzip.compress(b"x" * 1000), Content_Encoding="gzip")
    ehr.answer("/fhir/b", gzip.compress(b"x" * 1001), Content_Encoding="gzip")
    ehr.answer("/fhir/c", gzip.compress(b"x" * 600) + gzip.compress(b"x" * 401), Content_Encoding="gzip")
    limits = Limits(max_bytes=1000)
    assert len(client.fhir("GET", "a", limits=limits).body) == 1000
    assert failure(client.fhir, "GET", "b", limits=limits).problem is HttpProblem.TOO_LARGE
    assert failure(client.fhir, "GET", "c", limits=limits).problem is HttpProblem.TOO_LARGE


@pytest.mark.parametrize("body", [b"not gzip at all", gzip.compress(b'{"a": 1}', mtime=0)[:-9], b"\x1f\x8b"])
def test_a_compressed_body_that_is_broken_is_an_error_not_half_an_answer(ehr, client, body):
    ehr.answer("/fhir/a", body, Content_Encoding="gzip")
    error = failure(client.fhir, "GET", "a", repeatable=False)
    assert (error.problem, error.maybe_acted) == (HttpProblem.CONNECTION, True)


def test_an_empty_body_is_empty_compressed_or_not(ehr, client):
    ehr.answer("/fhir/a", b"", Content_Encoding="gzip")
    ehr.answer("/fhir/b", b"")
    assert client.fhir("GET", "a").body == client.fhir("GET", "b").body == b""


@pytest.mark.parametrize("encoding", ["br", "deflate", "gzip, gzip", "zstd"])
def test_an_encoding_nobody_asked_for_is_refused(ehr, client, encoding):
    ehr.answer("/fhir/a", zlib.compress(b"{}"), Content_Encoding=encoding)
    assert failure(client.fhir, "GET", "a").problem is HttpProblem.NOT_JSON


def test_a_body_shorter_than_declared_is_an_error_not_half_an_answer(ehr, client):
    ehr.routes["/fhir/a"] = raw(b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n[1, 2]")
    error = failure(client.fhir, "GET", "a", repeatable=False)
    assert (error.problem, error.maybe_acted) == (HttpProblem.CONNECTION, True)


# How long is waited


DRIPS = 1200
"""A minute's."""


@pytest.mark.threat("5.12")
@pytest.mark.parametrize(
    "pieces",
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n", *[b" "] * DRIPS),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", *[b"1\r\n \r\n"] * DRIPS),
        (b"HTTP/1.1 200 OK\r\n", *[b"X-A: a\r\n"] * DRIPS),
        (b"HTTP/1.1 200 OK\r\nX-A: ", *[b"a"] * DRIPS),
        (*[b"H"] * DRIPS,),
    ],
    ids=["body", "chunks", "headers", "one-header", "status-line"],
)
def test_a_server_that_drips_is_left_at_the_total_deadline(ehr, client, pieces):
    """Each byte comes in time for the read timeout; only the deadline for everything ends it."""
    ehr.routes["/fhir/a"] = raw(*pieces, pause=0.05)
    begun = time.monotonic()
    error = failure(client.fhir, "GET", "a", limits=Limits(read=LONG, total=0.3))
    assert 0.25 < time.monotonic() - begun < LONG / 2
    assert (error.problem, error.maybe_acted) == (HttpProblem.TIMEOUT, True)
    assert len(ehr.requests) == 1


def test_a_silent_server_is_left_at_the_read_timeout(ehr, client):
    ehr.routes["/fhir/a"] = raw(silent=True)
    begun = time.monotonic()
    error = failure(client.fhir, "POST", "a", body=b"{}", limits=Limits(read=0.15, total=LONG))
    assert time.monotonic() - begun < LONG / 2
    assert (error.problem, error.maybe_acted) == (HttpProblem.TIMEOUT, True)


def test_a_connection_made_after_the_deadline_sends_nothing(ehr, client, monkeypatch):
    """Else nobody would hold the watch any more while the answer drips."""
    from launch.connections import create_connection

    def late(*args: Any, **kwargs: Any) -> Any:
        time.sleep(0.2)
        return create_connection(*args, **kwargs)

    monkeypatch.setattr("launch.connections.create_connection", late)
    error = failure(client.fhir, "POST", "a", body=b"{}", limits=Limits(total=0.1))
    assert (error.problem, error.maybe_acted) == (HttpProblem.TIMEOUT, False)
    time.sleep(0.05)
    assert ehr.requests == []


def test_the_standard_limits_are_those_the_documents_promise():
    assert (OAUTH_LIMITS.connect, OAUTH_LIMITS.read, OAUTH_LIMITS.total) == (5.0, 5.0, 15.0)
    assert OAUTH_LIMITS.max_bytes == 1024 * 1024
    assert (Limits().connect, Limits().read, Limits().total, Limits().tries) == (5.0, 20.0, 60.0, 3)


# Reading JSON


def response(body: bytes) -> Response:
    return Response(200, {}, body, "https://ehr.example/Patient/p1", "ehr.example", "r1")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"<html>",
        b"[NaN]",
        b'{"a": Infinity}',
        b"-Infinity",
        b'{"a": 1e999}',
        b'{"a": -1e999}',
        b'{"expires_in": ' + b"9" * 5000 + b"}",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"a": "\xff"}',
        b'{"a": "\\ud800"}',
        b'{"\\udfff": 1}',
        b'{"a": "\xed\xa0\x80"}',
        '{"a": 1}'.encode("utf-16"),
        '{"a": 1}'.encode("utf-32-le"),
    ],
    ids=lambda body: repr(body[:24]),
)
def test_what_is_not_plain_json_in_utf_8_is_refused(body):
    error = failure(response(body).json)
    assert error.problem is HttpProblem.NOT_JSON
    assert (error.host, error.request_id) == ("ehr.example", "r1")
    assert error.__suppress_context__


@pytest.mark.threat("5.12")
@pytest.mark.parametrize(("before", "after"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_sixty_four_levels_are_read_and_sixty_five_are_not(before, after):
    assert response(before * 63 + b"1" + after * 63).json()
    assert failure(response(before * 64 + b"1" + after * 64).json).problem is HttpProblem.NOT_JSON


def test_a_byte_order_mark_and_every_real_character_are_read():
    assert response(b'\xef\xbb\xbf{"a": "\xc3\xbc\\u00fc\\ud83d\\ude00"}').json() == {"a": "üü😀"}


def test_large_numbers_that_are_numbers_are_read():
    assert response(b'{"a": 1e308, "b": 123456789012345678901234567890}').json() == {
        "a": 1e308,
        "b": 123456789012345678901234567890,
    }


def test_a_body_above_the_limit_for_json_is_not_parsed():
    assert response(b"[" + b" " * 8 + b"]").json(max_bytes=10) == []
    assert failure(response(b"[" + b" " * 9 + b"]").json, max_bytes=10).problem is HttpProblem.TOO_LARGE


@pytest.mark.parametrize("body", [b"[]", b"null", b'"{}"', b"1"])
def test_where_an_object_is_expected_other_json_is_refused(body):
    assert failure(response(body).json_object).problem is HttpProblem.NOT_JSON


@pytest.mark.parametrize(
    ("status", "ok"), [(199, False), (200, True), (299, True), (300, False), (404, False)]
)
def test_only_2xx_is_ok(status, ok):
    answer = Response(status, {}, b"", "", "ehr.example", "r1")
    assert answer.ok is ok
    if ok:
        assert answer.require_ok() is answer
    else:
        error = failure(answer.require_ok)
        assert (error.problem, error.status) == (HttpProblem.HTTP_STATUS, status)


# What errors and reprs say


def _status(client: EhrClient, ehr: FakeEhr) -> None:
    ehr.answer(f"/fhir/Patient/{PATIENT}", {"error": PATIENT}, 500)
    client.fhir("GET", f"Patient/{PATIENT}", token=TOKEN).require_ok()


def _redirect(client: EhrClient, ehr: FakeEhr) -> None:
    ehr.answer(f"/fhir/Patient/{PATIENT}", {}, 302, Location=f"https://evil.example/{PATIENT}?{TOKEN}")
    client.fhir("GET", f"Patient/{PATIENT}", token=TOKEN)


def _foreign(client: EhrClient, ehr: FakeEhr) -> None:
    client.fhir("GET", f"https://evil.example/{PATIENT}", token=TOKEN)


def _broken(client: EhrClient, ehr: FakeEhr) -> None:
    ehr.routes[f"/fhir/Patient/{PATIENT}"] = raw(b"")
    client.fhir("POST", f"Patient/{PATIENT}", token=TOKEN)


def _gone(client: EhrClient, ehr: FakeEhr) -> None:
    ehr.close()
    client.fhir("POST", f"Patient/{PATIENT}", token=TOKEN)


def _not_json(client: EhrClient, ehr: FakeEhr) -> None:
    ehr.answer(f"/fhir/Patient/{PATIENT}", f"<html>{PATIENT}".encode())
    client.fhir("GET", f"Patient/{PATIENT}", token=TOKEN).json()


def _bad_header(client: EhrClient, ehr: FakeEhr) -> None:
    client.fhir("POST", f"Patient/{PATIENT}", token=f"{TOKEN}\r\nX-Evil: 1")


@pytest.mark.threat("5.3", "5.13")
@pytest.mark.parametrize("fail", [_status, _redirect, _foreign, _broken, _gone, _not_json, _bad_header])
def test_an_error_names_the_host_and_nothing_of_the_patient_or_the_token(ehr, client, fail):
    error = failure(fail, client, ehr)
    said = "\n".join((str(error), repr(error), error.sentence, *traceback.format_exception(error)))
    assert "127.0.0.1" in str(error)
    assert not [secret for secret in (TOKEN, PATIENT, f"{ehr.port}/") if secret in said]
    assert error.__cause__ is None


@pytest.mark.threat("5.13")
def test_the_repr_of_an_answer_and_a_client_shows_no_address_or_content(ehr, client):
    ehr.answer(f"/fhir/Patient/{PATIENT}", {"id": PATIENT})
    answer = client.fhir("GET", f"Patient/{PATIENT}", token=TOKEN)
    assert PATIENT not in repr(answer)
    assert PATIENT not in repr(client)
    assert json.loads(answer.body) == {"id": PATIENT}


# One client an EHR


def test_an_ehr_has_one_client_and_one_limiter_for_all_sessions(ehr):
    clients = EhrClients()
    issuer = issuer_of(ehr)
    try:
        assert clients.of(issuer) is clients.of(issuer_of(ehr))
    finally:
        clients.close()


def test_practices_that_share_an_entry_share_its_limits(ehr):
    issuers = load_issuers(
        {"many": {"fhir_base": f"{ehr.origin}/*/fhir", "client_id": "app", "max_parallel": 1}}, loopback=True
    )
    first, second = (issuers.match(f"{ehr.origin}/{name}/fhir") for name in ("a", "b"))
    clients = EhrClients()
    try:
        one, other = clients.of(first), clients.of(second)
        assert one is not other
        assert one._limiter is other._limiter
        assert one._limiter.max_parallel == 1
    finally:
        clients.close()


def test_a_full_ehr_is_busy_before_anything_is_sent(ehr):
    limiter = IssuerLimiter(1, 100)
    with EhrClient(issuer_of(ehr), limiter=limiter) as client, limiter.slot(time.monotonic() + 1):
        error = failure(client.fhir, "POST", "ChargeItem", body=b"{}", limits=Limits(total=0.1))
    assert (error.problem, error.maybe_acted) == (HttpProblem.BUSY, False)
    assert ehr.requests == []


@pytest.mark.threat("5.12")
def test_no_number_of_practices_keeps_more_than_so_many_clients(monkeypatch):
    monkeypatch.setattr("launch.http.MOST_CLIENTS", 3)
    cloud = load_issuers({"cloud": {"fhir_base": "https://ehr.example/*/fhir", "client_id": "app"}})
    closed: list[str] = []
    monkeypatch.setattr(EhrClient, "close", lambda client: closed.append(client.issuer.fhir_base[20:22]))
    clients = EhrClients()

    def used(name: str) -> EhrClient:
        return clients.of(cloud.match(f"https://ehr.example/{name}/fhir"))

    first = [used(f"p{number}") for number in range(5)]
    assert closed == ["p0", "p1"]
    assert used("p2") is first[2]
    used("p9")
    assert closed == ["p0", "p1", "p3"], "the one that was used last stays"
