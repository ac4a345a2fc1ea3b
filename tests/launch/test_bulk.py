"""Exports as a client: what is asked, how often, where a token goes, and what a manifest must say."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launch.backend import BackendTokens
from launch.bulk import (
    MOST_WAIT,
    Asked,
    BulkError,
    BulkProblem,
    BulkServer,
    Manifest,
    Named,
    NotYet,
    manifest_of,
)
from launch.errors import ConfigurationError, HttpError, HttpProblem
from launch.issuers import SigningAlgorithm
from launch.issuers_table import load_issuers

from .conftest import Answer, Door

TYPES = ("Patient", "Observation")
PLACE = "/fhir/bulk/1"
WHOLE: dict[str, Any] = {
    "transactionTime": "2026-04-15T16:00:00Z",
    "request": "https://ehr.example/$export",
    "requiresAccessToken": True,
    "output": [{"type": "Patient", "url": "https://ehr.example/1", "count": 2}],
}


@pytest.fixture
def bulk(door: Door, ehr, p384_pem) -> BulkServer:
    return made(door, ehr, p384_pem)


def made(door: Door, ehr: Any, pem: str, **backend: Any) -> BulkServer:
    table = {"client_id": "night", "signing_key": "KEY", "signing_key_id": "k1", **backend}
    door.configure({"backend": table}, {"KEY": pem})

    def token(_: Any) -> Answer:
        number = len(ehr.to("/auth/token"))
        body = {"access_token": f"token-{number}", "token_type": "bearer", "expires_in": 300}
        return Answer(body=body)

    ehr.routes["/auth/token"] = token
    tokens = BackendTokens(door.clients, door.discovery, door.clock)
    return BulkServer(door.issuer, door.clients, door.discovery, tokens)


def start(bulk: BulkServer, ehr: Any, **asked: Any) -> str:
    ehr.answer("/fhir/$export", {}, 202, Content_Location=f"{ehr.origin}{PLACE}")
    assert bulk.granted(TYPES) == TYPES
    return bulk.start(Asked(TYPES, **asked))


def test_it_is_asked_for_in_the_background_with_types_format_and_since(bulk, ehr):
    assert start(bulk, ehr, since="2026-04-14T16:00:00+00:00") == f"{ehr.origin}{PLACE}"
    [request] = ehr.to("/fhir/$export")
    assert request.headers["prefer"] == "respond-async"
    assert request.headers["authorization"] == "Bearer token-1"
    assert request.path.partition("?")[2] == (
        "_type=Patient,Observation&_outputFormat=application%2Ffhir%2Bndjson"
        "&_since=2026-04-14T16%3A00%3A00%2B00%3A00"
    )
    assert ehr.to("/auth/token")[0].form["scope"] == "system/Patient.rs system/Observation.rs"


def test_a_group_is_asked_for_by_its_id():
    assert Asked(TYPES, "g1").target.startswith("Group/g1/$export?")


def test_a_server_of_the_first_scopes_is_asked_in_their_grammar(door, ehr, p384_pem, bulk):
    door.server.configuration["capabilities"] = ["permission-v1"]
    assert bulk.granted(TYPES) == TYPES
    assert ehr.to("/auth/token")[0].form["scope"] == "system/Patient.read system/Observation.read"


@pytest.mark.parametrize(
    ("scope", "granted"),
    [
        ("system/*.rs", TYPES),
        ("system/*.read", TYPES),
        ("system/Patient.rs", ("Patient",)),
        ("system/Patient.r system/Observation.rs?category=vital-signs", ("Patient",)),
        ("patient/Patient.rs user/*.rs", ()),
        ("", ()),
    ],
)
def test_a_grant_of_less_or_of_a_part_is_no_grant_of_a_type(bulk, ehr, scope, granted):
    body = {"access_token": "t", "token_type": "bearer", "expires_in": 300, "scope": scope}
    ehr.routes["/auth/token"] = lambda _: Answer(body=body)
    assert bulk.granted(TYPES) == granted


@pytest.mark.parametrize(
    ("status", "headers", "seconds"),
    [
        (202, {"Retry-After": "7"}, 7),
        (202, {}, 10),
        (202, {"Retry-After": "0"}, 1),
        (202, {"Retry-After": "99999"}, MOST_WAIT),
        (202, {"Retry-After": "soon"}, 10),
    ],
)
def test_it_is_asked_about_as_often_as_the_server_wants(bulk, ehr, status, headers, seconds):
    place = start(bulk, ehr)
    ehr.routes[PLACE] = lambda _: Answer(status, {}, {**headers, "X-Progress": "about 40% of Patient/1"})
    assert bulk.ask(place) == NotYet(seconds, 40)


def test_what_a_server_says_of_its_progress_is_not_repeated(bulk, ehr):
    place = start(bulk, ehr)
    ehr.routes[PLACE] = lambda _: Answer(202, {}, {"X-Progress": "reading Ann Other, MRN 4711"})
    assert bulk.ask(place) == NotYet(10.0, None)


@pytest.mark.parametrize(
    ("status", "problem"),
    [
        (404, BulkProblem.OVER),
        (410, BulkProblem.OVER),
        (403, BulkProblem.REFUSED),
        (500, BulkProblem.FAILED),
        (400, BulkProblem.NOT_UNDERSTOOD),
    ],
)
def test_an_export_that_came_to_nothing_says_why(bulk, ehr, monkeypatch, status, problem):
    monkeypatch.setattr("launch.http._backoff", lambda _: 0.0)
    place = start(bulk, ehr)
    ehr.answer(PLACE, {}, status)
    with pytest.raises(BulkError) as caught:
        bulk.ask(place)
    assert (caught.value.problem, caught.value.status) == (problem, status)


def test_a_token_that_is_refused_is_renewed_once(bulk, ehr):
    place = start(bulk, ehr)
    ehr.routes[PLACE] = lambda request: (
        Answer(body=WHOLE) if request.headers["authorization"] == "Bearer token-2" else Answer(401, {})
    )
    assert isinstance(bulk.ask(place), Manifest)
    ehr.answer(PLACE, {}, 401)
    with pytest.raises(BulkError) as caught:
        bulk.ask(place)
    assert caught.value.problem is BulkProblem.REFUSED
    assert len(ehr.to("/auth/token")) == 3


def test_an_end_that_the_server_does_not_care_for_is_no_fault(bulk, ehr):
    place = start(bulk, ehr)
    bulk.end(place)
    bulk.end("https://elsewhere.example/1")


# Where a token goes


def named(url: str) -> Named:
    return Named("output", "Patient", url)


def taken(bulk: BulkServer, url: str, *, needs_token: bool = True) -> bytes:
    with bulk.file(named(url), needs_token=needs_token) as stream:
        return b"".join(stream.pieces())


@pytest.mark.threat("5.3")
@pytest.mark.parametrize("url", ["https://files.example/1", "{origin}/other/1", "{origin}/fhir/../other/1"])
def test_an_address_that_nobody_listed_gets_nothing(bulk, ehr, url):
    start(bulk, ehr)
    before = len(ehr.requests)
    with pytest.raises(BulkError) as caught:
        taken(bulk, url.format(origin=ehr.origin))
    assert caught.value.problem is BulkProblem.ELSEWHERE
    with pytest.raises(BulkError):
        bulk.ask(url.format(origin=ehr.origin))
    assert len(ehr.requests) == before


@pytest.mark.threat("5.3")
def test_a_listed_address_at_the_ehrs_own_origin_gets_the_token(door, ehr, p384_pem):
    bulk = made(door, ehr, p384_pem, addresses=[f"{ehr.origin}/files"])
    start(bulk, ehr)
    ehr.answer("/files/1", b"{}\n")
    assert taken(bulk, f"{ehr.origin}/files/1") == b"{}\n"
    assert ehr.to("/files/1")[0].headers["authorization"] == "Bearer token-1"


@pytest.mark.threat("5.3")
def test_a_listed_address_elsewhere_gets_a_request_and_never_a_token(door, ehr, p384_pem):
    elsewhere = ehr.origin.replace("127.0.0.1", "localhost")
    bulk = made(door, ehr, p384_pem, addresses=[f"{elsewhere}/files"])
    start(bulk, ehr)
    ehr.answer("/files/1", b"{}\n")
    assert taken(bulk, f"{elsewhere}/files/1", needs_token=False) == b"{}\n"
    assert "authorization" not in ehr.to("/files/1")[0].headers
    with pytest.raises(BulkError) as caught:
        taken(bulk, f"{elsewhere}/files/1")
    assert caught.value.problem is BulkProblem.ELSEWHERE
    assert len(ehr.to("/files/1")) == 1


@pytest.mark.threat("5.3")
def test_a_file_that_is_a_redirect_is_no_file(bulk, ehr):
    start(bulk, ehr)
    ehr.answer("/fhir/f", b"", 307, Location="https://elsewhere.example/f")
    with pytest.raises(HttpError) as caught:
        taken(bulk, f"{ehr.origin}/fhir/f")
    assert caught.value.problem is HttpProblem.REDIRECT


# Manifests


def test_a_manifest_tells_files_counts_and_the_moment():
    found = manifest_of({**WHOLE, "deleted": [{"type": "Bundle", "url": "u"}], "error": []})
    assert found == Manifest(
        "2026-04-15T16:00:00Z",
        True,
        (Named("output", "Patient", "https://ehr.example/1", 2), Named("deleted", "Bundle", "u")),
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"transactionTime": None},
        {"transactionTime": "yesterday"},
        {"transactionTime": "2026-04-15"},
        {"requiresAccessToken": "true"},
        {"output": "all"},
        {"output": [{"type": "Patient"}]},
        {"output": [7]},
        {"link": [{"relation": "next", "url": "u"}]},
    ],
)
def test_a_manifest_that_is_not_whole_is_none(changes):
    with pytest.raises(BulkError) as caught:
        manifest_of({**WHOLE, **changes})
    assert caught.value.problem is BulkProblem.NO_MANIFEST


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=9,
)


@given(st.dictionaries(st.sampled_from([*WHOLE, "deleted", "error", "link"]), JSON) | JSON)
def test_any_answer_is_a_manifest_or_is_refused(document):
    try:
        found = manifest_of({**WHOLE, **document} if isinstance(document, dict) else document)
    except BulkError:
        return
    assert all(one.url and isinstance(one.url, str) for one in found.files)


# How it is registered


def table(**backend: Any) -> dict[str, Any]:
    return {"fhir_base": "https://ehr.example/fhir", "client_id": "launched", "backend": backend}


def test_the_backend_client_is_another_client_of_the_same_ehr(p384_pem):
    told = table(client_id="night", signing_key="K", signing_key_id="k1", group="g1")
    [issuer] = load_issuers({"hospital": told}, {"K": p384_pem})
    backend = issuer.as_backend()
    assert (issuer.client_id, backend.client_id) == ("launched", "night")
    assert (backend.id, backend.fhir_base) == (issuer.id, issuer.fhir_base)
    assert backend.signing_algorithm is SigningAlgorithm.ES384
    assert issuer.backend is not None
    assert issuer.backend.group == "g1"
    assert p384_pem not in repr(issuer)


def test_without_a_key_of_its_own_it_signs_with_the_entrys(p384_pem):
    keyed = {"client_auth": "private-key-jwt", "signing_key": "K", "signing_key_id": "k1"}
    [issuer] = load_issuers({"hospital": {**table(client_id="night"), **keyed}}, {"K": p384_pem})
    assert issuer.as_backend().signing_key_id == "k1"


@pytest.mark.parametrize(
    "backend",
    [
        {"client_id": "night"},
        {"signing_key": "K"},
        {"signing_key": "K", "signing_key_id": "k", "group": "../Patient"},
        {"signing_key": "K", "signing_key_id": "k", "addresses": ["http://files.example/"]},
        {"signing_key": "K", "signing_key_id": "k", "addresses": ["https://user@files.example/"]},
        {"signing_key": "K", "signing_key_id": "k", "colour": "blue"},
        {"signing_key": "K", "signing_key_id": "k", "signing_algorithm": "HS256"},
    ],
)
def test_a_backend_client_that_is_not_registered_right_stops_at_the_start(p384_pem, backend):
    with pytest.raises(ConfigurationError):
        load_issuers({"hospital": table(**backend)}, {"K": p384_pem})
