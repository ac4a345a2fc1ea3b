"""A body too large for memory: piece by piece, under the guards of every other request."""

from __future__ import annotations

import gzip
import tracemalloc
from dataclasses import replace

import pytest

from launch.answers import STREAM_LIMITS
from launch.errors import HttpError, HttpProblem
from launch.http import EhrClient, Limits
from tests.support.fast_time import FastTime
from tests.support.sandbox import LONG

from .conftest import Answer
from .test_http import TOKEN, issuer_of, raw

MEGABYTE = 1 << 20


@pytest.fixture
def client(ehr):
    with EhrClient(issuer_of(ehr)) as client:
        yield client


def all_of(client: EhrClient, target: str, limits: Limits = STREAM_LIMITS, token: str | None = None) -> bytes:
    with client.stream(target, token=token, limits=limits) as stream:
        return b"".join(stream.pieces())


def fault(client: EhrClient, target: str, limits: Limits = STREAM_LIMITS) -> HttpError:
    with pytest.raises(HttpError) as caught:
        all_of(client, target, limits)
    return caught.value


def test_a_stream_is_the_whole_body_packed_or_not(ehr, client):
    ehr.answer("/fhir/a", b"x" * 3_000_000)
    ehr.answer("/fhir/b", gzip.compress(b"y" * 3_000_000), Content_Encoding="gzip")
    assert all_of(client, "a") == b"x" * 3_000_000
    assert all_of(client, f"{ehr.base}/b", token=TOKEN) == b"y" * 3_000_000
    assert [request.headers.get("authorization") for request in ehr.requests] == [None, f"Bearer {TOKEN}"]
    assert ehr.requests[0].headers["accept-encoding"] == "gzip"


@pytest.mark.threat("5.12")
def test_memory_holds_a_piece_of_what_a_small_packed_body_unpacks_to(ehr, client):
    ehr.answer("/fhir/a", gzip.compress(bytes(64 * MEGABYTE), 9), Content_Encoding="gzip")
    sizes = []
    tracemalloc.start()
    try:
        with client.stream("a") as stream:
            sizes += [len(piece) for piece in stream.pieces()]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sum(sizes) == 64 * MEGABYTE
    assert max(sizes) <= MEGABYTE
    assert peak < 8 * MEGABYTE


@pytest.mark.threat("5.12")
def test_a_stream_ends_at_its_limit(ehr, client):
    limits = replace(STREAM_LIMITS, max_bytes=2 * MEGABYTE)
    ehr.answer("/fhir/a", gzip.compress(bytes(2 * MEGABYTE), 9), Content_Encoding="gzip")
    ehr.answer("/fhir/b", gzip.compress(bytes(2 * MEGABYTE + 1), 9), Content_Encoding="gzip")
    assert len(all_of(client, "a", limits)) == 2 * MEGABYTE
    assert fault(client, "b", limits).problem is HttpProblem.TOO_LARGE


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + b"x" * 99,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nxxxxx\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + gzip.compress(b"x" * 5000)[:-9],
    ],
    ids=["declared", "in chunks", "packed"],
)
def test_a_body_that_breaks_off_is_an_error_and_not_a_shorter_body(ehr, client, answer):
    ehr.routes["/fhir/a"] = raw(answer)
    error = fault(client, "a")
    assert error.problem is HttpProblem.CONNECTION
    assert error.host == "127.0.0.1"


@pytest.mark.threat("5.3")
@pytest.mark.parametrize("target", ["{origin}/other/a", "https://files.example/a", "//files.example/a"])
def test_a_file_elsewhere_is_never_asked_for(ehr, client, target):
    assert fault(client, target.format(origin=ehr.origin)).problem is HttpProblem.FOREIGN_URL
    assert ehr.requests == []


@pytest.mark.threat("5.3")
def test_a_redirect_is_not_followed_and_the_token_goes_nowhere(ehr, client):
    ehr.answer("/fhir/a", b"", 302, Location=f"{ehr.base}/b")
    with pytest.raises(HttpError) as caught:
        all_of(client, "a", token=TOKEN)
    assert caught.value.problem is HttpProblem.REDIRECT
    assert [request.path for request in ehr.requests] == ["/fhir/a"]


def test_a_refusal_is_told_as_it_is_and_a_pause_is_kept_for_everybody(ehr, client):
    ehr.answer("/fhir/a", {}, 410)
    ehr.answer("/fhir/b", {}, 503, Retry_After="30")
    with client.stream("a") as stream:
        assert stream.status == 410
    assert client.pause is None
    with client.stream("b") as stream:
        assert (stream.status, stream.headers["retry-after"]) == (503, "30")
    assert client.pause is not None
    assert 0 < client.pause.seconds <= 30


@pytest.mark.threat("5.12")
def test_a_stream_that_stands_still_is_given_up(ehr, client):
    ehr.routes["/fhir/a"] = raw(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nxx", silent=True)
    assert fault(client, "a", Limits(read=0.1, total=LONG)).problem is HttpProblem.TIMEOUT
    assert fault(client, "a", Limits(read=LONG, total=0.1)).problem is HttpProblem.TIMEOUT


@pytest.mark.threat("5.12")
def test_a_stream_that_drips_is_given_up_long_before_its_deadline(ehr, client, monkeypatch):
    watch = FastTime()
    monkeypatch.setattr("launch.bodies.time", watch)
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"
    ehr.routes["/fhir/a"] = raw(head, *[b"x" * 100] * 50, pause=0.002, silent=True)
    taken = 0

    def slowly() -> None:
        nonlocal taken
        with client.stream("a") as stream:
            for piece in stream.pieces():
                taken += len(piece)
                watch.sleep(50)

    with pytest.raises(HttpError) as caught:
        slowly()
    assert caught.value.problem is HttpProblem.TIMEOUT
    assert 0 < taken < 5000


def test_what_fails_at_the_takers_end_is_not_taken_for_the_ehrs_fault(ehr, client):
    ehr.answer("/fhir/a", b"x")

    def take() -> None:
        with client.stream("a") as stream:
            for _ in stream.pieces():
                raise OSError("no space is left")

    with pytest.raises(OSError, match="no space"):
        take()


def test_a_stream_left_half_way_leaves_the_next_request_whole(ehr, client):
    ehr.answer("/fhir/a", b"x" * 5_000_000)
    ehr.routes["/fhir/b"] = lambda _: Answer(body={"b": 1})
    with client.stream("a") as stream:
        next(stream.pieces())
    assert client.fhir("GET", "b").json() == {"b": 1}
