"""What is asked again and what never is; how long is waited; whether a failed write may have happened."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from email.utils import format_datetime
from itertools import count

import pytest

from launch.errors import HttpError, HttpProblem
from launch.http import EhrClient, Limits
from launch.limiter import IssuerLimiter
from tests.support.fast_time import FastTime

from .conftest import Answer, FakeEhr
from .test_http import failure, issuer_of, raw


@pytest.fixture
def watch(monkeypatch):
    watch = FastTime()
    monkeypatch.setattr("launch.http.time", watch)
    monkeypatch.setattr("launch.http.random", random)  # elsewhere tests ask again at once
    monkeypatch.setattr("launch.limiter.time", watch)
    return watch


@pytest.fixture
def client(ehr):
    with EhrClient(issuer_of(ehr)) as client:
        yield client


def first_then(ehr: FakeEhr, path: str, times: int, first: Answer, then: Answer) -> None:
    """`first` so many times, then `then`."""
    number = count()
    ehr.routes[path] = lambda _: first if next(number) < times else then


def broken(times: int, ehr: FakeEhr, path: str) -> None:
    """Connections closed without an answer so many times, then an answer."""
    first_then(ehr, path, times, raw(b"")(None), Answer(body={}))


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_read_is_tried_three_times_with_growing_pauses(ehr, client, watch, status):
    ehr.answer("/fhir/Patient/p1", {}, status)
    answer = client.fhir("GET", "Patient/p1")
    assert answer.status == status
    assert len(ehr.requests) == 3
    short, long = watch.slept
    assert 0.125 <= short <= 0.375
    assert 0.25 <= long <= 0.75


def test_the_same_request_id_goes_with_every_try(ehr, client, watch):
    ehr.answer("/fhir/Patient/p1", {}, 503)
    answer = client.fhir("GET", "Patient/p1")
    assert {request.headers["x-request-id"] for request in ehr.requests} == {answer.request_id}


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_the_first_good_answer_ends_the_tries(ehr, client, watch, status):
    first_then(ehr, "/fhir/Patient/p1", 1, Answer(status, {}), Answer(body={"id": "p1"}))
    assert client.fhir("GET", "Patient/p1").json() == {"id": "p1"}
    assert len(ehr.requests) == 2


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 410, 412, 422, 501, 505])
def test_any_other_answer_is_an_answer(ehr, client, watch, status):
    ehr.answer("/fhir/Patient/p1", {}, status)
    assert client.fhir("GET", "Patient/p1").status == status
    assert len(ehr.requests) == 1


def test_a_read_over_a_broken_connection_is_tried_again(ehr, client, watch):
    broken(2, ehr, "/fhir/Patient/p1")
    assert client.fhir("GET", "Patient/p1").ok
    assert len(ehr.requests) == 3


def test_after_three_broken_connections_a_read_has_failed(ehr, client, watch):
    broken(3, ehr, "/fhir/Patient/p1")
    assert failure(client.fhir, "GET", "Patient/p1").problem is HttpProblem.CONNECTION
    assert len(ehr.requests) == 3


@pytest.mark.parametrize("method", ["POST", "PUT"])
@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_write_is_never_repeated_whatever_the_ehr_answers(ehr, client, watch, method, status):
    ehr.answer("/fhir/ChargeItem", {}, status, Retry_After="1")
    assert client.fhir(method, "ChargeItem", body=b"{}").status == status
    assert len(ehr.requests) == 1
    assert watch.slept == []


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_a_write_without_an_answer_may_have_acted_and_is_never_repeated(ehr, client, watch, method):
    broken(1, ehr, "/fhir/ChargeItem")
    error = failure(client.fhir, method, "ChargeItem", body=b"{}")
    assert (error.problem, error.maybe_acted) == (HttpProblem.CONNECTION, True)
    assert len(ehr.requests) == 1


def test_a_write_on_a_kept_connection_the_ehr_has_closed_is_not_sent_twice(ehr, client, watch):
    ehr.answer("/fhir/metadata", {})
    client.fhir("GET", "metadata")
    broken(1, ehr, "/fhir/ChargeItem")
    assert failure(client.fhir, "POST", "ChargeItem", body=b"{}").maybe_acted
    assert client.fhir("POST", "ChargeItem", body=b"{}").ok
    assert len(ehr.to("/fhir/ChargeItem")) == 2


def test_a_token_request_is_never_repeated(ehr, client, watch):
    ehr.answer("/auth/token", {}, 503)
    assert client.oauth_post(f"{ehr.origin}/auth/token", ()).status == 503
    broken(1, ehr, "/auth/token")
    assert failure(client.oauth_post, f"{ehr.origin}/auth/token", ()).maybe_acted
    assert len(ehr.requests) == 2


def test_a_search_by_post_is_repeated_because_the_caller_says_so(ehr, client, watch):
    broken(1, ehr, "/fhir/Observation/_search")
    assert client.fhir("POST", "Observation/_search", body=b"patient=p1", repeatable=True).ok
    assert [request.body for request in ehr.requests] == [b"patient=p1"] * 2


def test_where_no_connection_was_made_nothing_can_have_acted(ehr, client, watch):
    ehr.close()
    error = failure(client.fhir, "POST", "ChargeItem", body=b"{}")
    assert (error.problem, error.maybe_acted) == (HttpProblem.CONNECTION, False)


def test_a_timeout_is_not_tried_again(ehr, client):
    ehr.routes["/fhir/Patient/p1"] = raw(b"", pause=0.3)
    assert failure(client.fhir, "GET", "Patient/p1", limits=Limits(read=0.1)).problem is HttpProblem.TIMEOUT
    assert len(ehr.requests) == 1


# Retry-After

CLOSED = "Content-Length: 0\r\nConnection: close\r\n\r\n"
"""The end of a head whose connection is not used again."""


def test_seconds_of_retry_after_are_waited(ehr, client, watch):
    first_then(ehr, "/fhir/a", 1, Answer(429, {}, {"Retry-After": "7"}), Answer(body={}))
    assert client.fhir("GET", "a").ok
    assert watch.slept == [7.0]


def test_a_date_of_retry_after_counts_from_the_servers_own_clock(ehr, client, watch):
    """The server's clock is decades off: only the distance between its two dates says anything."""
    now, later = (format_datetime(datetime(1999, 1, 1, 0, 0, s, tzinfo=UTC), usegmt=True) for s in (0, 9))
    head = f"HTTP/1.1 503 Busy\r\nDate: {now}\r\nRetry-After: {later}\r\n{CLOSED}"
    first_then(ehr, "/fhir/a", 1, raw(head.encode())(None), Answer(body={}))
    assert client.fhir("GET", "a").ok
    assert watch.slept == [9.0]


@pytest.mark.parametrize("text", ["", "soon", "-5", "1.5", "99999999", "Fri, 99 Nov 2026 00:00:00 GMT", "٣"])
def test_a_retry_after_that_says_nothing_is_our_own_short_pause(ehr, client, watch, text):
    head = f"HTTP/1.1 503 Busy\r\nRetry-After: {text}\r\n{CLOSED}"
    first_then(ehr, "/fhir/a", 1, raw(head.encode())(None), Answer(body={}))
    assert client.fhir("GET", "a").ok
    assert watch.slept[0] < 0.5


def test_a_date_in_the_past_is_no_negative_pause(ehr, client, watch):
    first_then(
        ehr, "/fhir/a", 1, Answer(503, {}, {"Retry-After": "Fri, 01 Jan 1999 00:00:00 GMT"}), Answer(body={})
    )
    assert client.fhir("GET", "a").ok
    assert 0 < watch.slept[0] < 0.5


def test_a_pause_beyond_the_deadline_is_not_begun(ehr, client, watch):
    ehr.answer("/fhir/a", {}, 429, Retry_After="61")
    assert client.fhir("GET", "a", limits=Limits(total=60)).status == 429
    assert len(ehr.requests) == 1
    assert watch.slept == []


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_ehr_that_asks_for_rest_gets_it_from_everybody(ehr, watch, method):
    limiter = IssuerLimiter(4, 1000)
    ehr.answer("/fhir/a", {}, 429, Retry_After="50")
    with EhrClient(issuer_of(ehr), limiter=limiter) as client:
        client.fhir(method, "a", limits=Limits(total=10))
        with pytest.raises(HttpError) as caught:
            client.fhir("GET", "b", limits=Limits(total=10))
        assert caught.value.problem is HttpProblem.BUSY
        watch.ahead += 50
        client.fhir("GET", "b")
    assert [request.path for request in ehr.requests] == ["/fhir/a", "/fhir/b"]


def test_no_ehr_can_ask_for_more_than_a_minutes_rest(ehr, watch):
    ehr.answer("/fhir/a", {}, 429, Retry_After="999999")
    with EhrClient(issuer_of(ehr)) as client:
        client.fhir("POST", "a")
        watch.ahead += 60
        client.fhir("GET", "b", limits=Limits(total=1))
    assert len(ehr.requests) == 2
