"""Access without a user: asked for with a signed assertion, kept while it is good, refused without a key."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

from launch.backend import BackendTokens
from launch.discovery import Discovery
from launch.errors import ConfigurationError, HttpError, HttpProblem, LaunchError, LaunchReason
from launch.http import EhrClients
from launch.issuers_table import load_issuers
from launch.sandbox import Client, serve_sandbox
from launch.sandbox.config import ClientType

from .conftest import Answer, Door, RecordedEvents

SCOPE = "system/Observation.rs system/ChargeItem.rs"
KEYED = {"client_auth": "private-key-jwt", "signing_key": "KEY", "signing_key_id": "2026-10"}


@pytest.fixture
def granted() -> dict[str, Any]:
    return {"access_token": "backend-1", "token_type": "bearer", "expires_in": 300, "scope": SCOPE}


@pytest.fixture
def backend(door: Door, ehr, p384_pem, granted):
    door.configure(KEYED, {"KEY": p384_pem})

    def token(_: Any) -> Answer:
        number = len(ehr.to("/auth/token"))
        return Answer(body={**granted, "access_token": f"backend-{number}"})

    ehr.routes["/auth/token"] = token
    return BackendTokens(door.clients, door.discovery, door.clock)


@pytest.mark.smart(226, 227, 233, 234, 235, 236, 237, 238, 239, 317)
def test_a_token_is_asked_for_with_a_signed_assertion_and_system_scopes(backend, door, ehr, p384_pem):
    found = backend.token(door.issuer, SCOPE)
    assert (found.access_token, found.scope) == ("backend-1", SCOPE)
    assert ehr.requests[0].path == "/fhir/.well-known/smart-configuration"
    [request] = ehr.to("/auth/token")
    form = request.form
    assert request.headers["content-type"] == "application/x-www-form-urlencoded"
    assert "authorization" not in request.headers
    assert set(form) == {"grant_type", "scope", "client_assertion_type", "client_assertion"}
    assert form["grant_type"] == "client_credentials"
    assert form["scope"] == SCOPE
    assert form["client_assertion_type"] == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
    claims = jwt.decode(form["client_assertion"], ECKey.import_key(p384_pem), algorithms=["ES384"]).claims
    assert claims["iss"] == claims["sub"] == "remote-monitoring"
    assert claims["aud"] == f"{ehr.origin}/auth/token"


@pytest.mark.smart(263)
def test_a_token_is_kept_until_a_minute_before_it_ends_and_then_asked_for_anew(backend, door, ehr, clock):
    backend.token(door.issuer, SCOPE)
    clock.forward(seconds=239)
    assert backend.token(door.issuer, SCOPE).access_token == "backend-1"
    clock.forward(seconds=1)
    assert backend.token(door.issuer, SCOPE).access_token == "backend-2"
    first, second = (request.form["client_assertion"] for request in ehr.to("/auth/token"))
    assert first != second


def test_each_scope_has_a_token_of_its_own(backend, door, ehr):
    assert backend.token(door.issuer, "system/Observation.rs").access_token == "backend-1"
    assert backend.token(door.issuer, "system/Encounter.rs").access_token == "backend-2"
    assert backend.token(door.issuer, "system/Observation.rs").access_token == "backend-1"


def test_many_threads_ask_once(backend, door, ehr):
    with ThreadPoolExecutor(8) as threads:
        found = set(threads.map(lambda _: backend.token(door.issuer, SCOPE).access_token, range(8)))
    assert found == {"backend-1"}
    assert len(ehr.to("/auth/token")) == 1


@pytest.mark.smart(229)
@pytest.mark.parametrize("settings", [{}, {"client_auth": "secret-basic", "client_secret": "S"}])
def test_without_a_key_pair_nothing_is_asked(door, ehr, settings):
    door.configure(settings, {"S": "secret"})
    backend = BackendTokens(door.clients, door.discovery, door.clock)
    with pytest.raises(
        ConfigurationError, match=r"^issuers\.hospital: backend services need private-key-jwt$"
    ):
        backend.token(door.issuer, SCOPE)
    assert ehr.requests == []


def test_a_refusal_is_told_and_not_kept(backend, door, ehr):
    kept = ehr.routes["/auth/token"]
    ehr.answer("/auth/token", {"error": "invalid_client"}, 401)
    with pytest.raises(LaunchError) as caught:
        backend.token(door.issuer, SCOPE)
    assert (caught.value.reason, caught.value.ehr_code) == (LaunchReason.TOKEN_REFUSED, "invalid_client")
    ehr.routes["/auth/token"] = kept
    assert backend.token(door.issuer, SCOPE).access_token == "backend-2"


@pytest.mark.smart(93, 264, 267, 268)
@pytest.mark.threat("5.3")
def test_the_token_goes_to_the_fhir_server_and_nowhere_else(backend, door, ehr, other_host):
    token = backend.token(door.issuer, SCOPE).access_token
    ehr.answer("/fhir/Observation", {"resourceType": "Bundle"})
    assert door.client.fhir("GET", "Observation", token=token).ok
    assert ehr.to("/fhir/Observation")[0].headers["authorization"] == "Bearer backend-1"
    with pytest.raises(HttpError) as caught:
        door.client.fhir("GET", f"{other_host.origin}/fhir/Device/1", token=token)
    assert caught.value.problem is HttpProblem.FOREIGN_URL
    assert other_host.requests == []


@pytest.mark.smart(147)
def test_what_was_granted_is_told_with_the_token(backend, door, granted):
    granted["scope"] = "system/Observation.rs"
    assert backend.token(door.issuer, SCOPE).scope == "system/Observation.rs"


# Against the sandbox, which checks assertions with code of its own


@pytest.mark.parametrize("algorithm", ["RS384", "ES384"])
def test_the_sandbox_gives_a_token_for_a_signed_assertion_and_lets_it_search(algorithm, clock):
    key = RSAKey.generate_key(2048) if algorithm == "RS384" else ECKey.generate_key("P-384")
    public = {**key.as_dict(private=False), "kid": "k1", "alg": algorithm, "use": "sig"}
    service = Client(
        "nightly",
        type=ClientType.ASYMMETRIC,
        jwks={"keys": [public]},
        grant_types=("client_credentials",),
        scope="system/Observation.rs",
    )
    with serve_sandbox(
        as_of=clock.now().date(), clock=lambda: clock.now().timestamp(), readings=10, clients=(service,)
    ).start() as sandbox:
        table = {
            "fhir_base": sandbox.config.fhir_base,
            "client_id": "nightly",
            "client_auth": "private-key-jwt",
            "signing_key": "KEY",
            "signing_key_id": "k1",
            "signing_algorithm": algorithm,
        }
        secrets = {"KEY": key.as_pem(private=True).decode()}
        issuer = load_issuers({"sandbox": table}, secrets, loopback=True).get("sandbox")
        clients = EhrClients()
        try:
            tokens = BackendTokens(clients, Discovery(clock, RecordedEvents()), clock)
            token = tokens.token(issuer, "system/Observation.rs").access_token
            found = clients.of(issuer).fhir("GET", "Observation?patient=ready-respiratory", token=token)
            refused = clients.of(issuer).fhir("GET", "Device?patient=ready-respiratory", token=token)
        finally:
            clients.close()
    assert (found.status, found.json_object()["resourceType"]) == (200, "Bundle")
    assert refused.status == 403
