"""How the app proves who it is: by nothing, by a secret, or by an assertion that is checked here by hand."""

from __future__ import annotations

import base64
import json
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from joserfc import jwt
from joserfc.errors import BadSignatureError
from joserfc.jwk import ECKey, RSAKey

from launch.client_auth import client_credentials, public_jwks, signed_assertion, signing_key
from launch.errors import ConfigurationError
from launch.issuers import Issuer, SigningAlgorithm
from launch.issuers_table import load_issuers

from .conftest import Door

TOKEN_ENDPOINT = "https://ehr.example/auth/token"
SECRET = "a-URL-safe_secret.1"


def keyed(pem: str, algorithm: str, **settings: Any) -> dict[str, Any]:
    return {
        "client_auth": "private-key-jwt",
        "signing_key": "KEY",
        "signing_key_id": "2026-10",
        "signing_algorithm": algorithm,
        **settings,
    }


def issuer_with(secrets: dict[str, str], **settings: Any) -> Issuer:
    table = {"fhir_base": "https://ehr.example/fhir", "client_id": "app:1 é", **settings}
    [issuer] = load_issuers({"hospital": table}, secrets)
    return issuer


@pytest.fixture(params=["RS384", "ES384"])
def algorithm(request):
    return request.param


@pytest.fixture
def pem(algorithm, rsa_pem, p384_pem):
    return {"RS384": rsa_pem, "ES384": p384_pem}[algorithm]


@pytest.fixture
def key(algorithm, pem):
    return (RSAKey if algorithm == "RS384" else ECKey).import_key(pem)


def parts_of(assertion: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims, decoded without any library of tokens."""
    header, claims, _ = assertion.split(".")
    return tuple(  # type: ignore[return-value]
        json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))) for part in (header, claims)
    )


# Without a key


@pytest.mark.smart(12, 63, 71)
def test_a_public_app_names_itself_and_proves_nothing(clock):
    made = client_credentials(issuer_with({}), TOKEN_ENDPOINT, clock.now())
    assert made.form == (("client_id", "app:1 é"),)
    assert made.headers == {}


@pytest.mark.smart(11, 64, 66, 72, 343, 345)
def test_basic_is_id_and_secret_as_they_are_and_the_id_is_not_in_the_form(door, ehr):
    door.configure({"client_auth": "secret-basic", "client_secret": "S"}, {"S": SECRET})
    door.open()
    [request] = ehr.to("/auth/token")
    literal = base64.b64encode(f"remote-monitoring:{SECRET}".encode()).decode()
    assert request.headers["authorization"] == f"Basic {literal}"
    assert {"client_id", "client_secret", "client_assertion"} & set(request.form) == set()
    assert SECRET not in request.body.decode()


@pytest.mark.smart(345)
def test_basic_is_not_form_encoded_first(clock):
    issuer = issuer_with({"S": "p+a s%s:é"}, client_auth="secret-basic", client_secret="S")
    header = client_credentials(issuer, TOKEN_ENDPOINT, clock.now()).headers["Authorization"]
    assert base64.b64decode(header.removeprefix("Basic ")).decode() == "app:1 é:p+a s%s:é"


@pytest.mark.smart(64)
def test_a_secret_is_in_the_form_only_where_an_ehr_wants_it_there(door, ehr):
    door.configure({"client_auth": "secret-post", "client_secret": "S"}, {"S": SECRET})
    door.open()
    [request] = ehr.to("/auth/token")
    assert "authorization" not in request.headers
    assert (request.form["client_id"], request.form["client_secret"]) == ("remote-monitoring", SECRET)


@pytest.mark.threat("5.13")
def test_credentials_are_in_no_repr(clock, p384_pem):
    for settings in (
        {"client_auth": "secret-basic", "client_secret": "KEY"},
        {"client_auth": "secret-post", "client_secret": "KEY"},
        keyed(p384_pem, "ES384"),
    ):
        issuer = issuer_with({"KEY": p384_pem}, **settings)
        assert repr(client_credentials(issuer, TOKEN_ENDPOINT, clock.now())) == "ClientCredentials()"


# The assertion


@pytest.mark.smart(233, 307, 308, 309, 319, 320, 321)
def test_the_assertion_is_signed_with_our_key_in_the_named_algorithm(clock, pem, key, algorithm):
    issuer = issuer_with({"KEY": pem}, **keyed(pem, algorithm))
    assertion = signed_assertion(issuer, TOKEN_ENDPOINT, clock.now())
    assert jwt.decode(assertion, key, algorithms=[algorithm]).claims["sub"] == "app:1 é"
    other = RSAKey.generate_key(2048) if algorithm == "RS384" else ECKey.generate_key("P-384")
    with pytest.raises(BadSignatureError):
        jwt.decode(assertion, other, algorithms=[algorithm])


@pytest.mark.smart(321, 322, 323, 324, 325)
def test_the_header_holds_alg_kid_typ_and_nothing_else(clock, pem, algorithm):
    issuer = issuer_with({"KEY": pem}, **keyed(pem, algorithm))
    header, _ = parts_of(signed_assertion(issuer, TOKEN_ENDPOINT, clock.now()))
    assert header == {"alg": algorithm, "kid": "2026-10", "typ": "JWT"}


@pytest.mark.smart(317, 327, 328, 329, 330, 331, 332)
def test_the_claims_are_who_for_whom_and_for_four_minutes(clock, pem, algorithm):
    issuer = issuer_with({"KEY": pem}, **keyed(pem, algorithm))
    _, claims = parts_of(signed_assertion(issuer, TOKEN_ENDPOINT, clock.now()))
    now = int(clock.now().timestamp())
    assert set(claims) == {"iss", "sub", "aud", "iat", "exp", "jti"}
    assert claims["iss"] == claims["sub"] == "app:1 é"
    assert claims["aud"] == TOKEN_ENDPOINT
    assert (claims["iat"], claims["exp"]) == (now, now + 240)
    assert isinstance(claims["exp"], int)
    assert claims["exp"] - now <= 300


@pytest.mark.smart(233, 319, 332)
def test_every_assertion_has_an_id_of_its_own(clock, p384_pem):
    issuer = issuer_with({"KEY": p384_pem}, **keyed(p384_pem, "ES384"))
    made = [parts_of(signed_assertion(issuer, TOKEN_ENDPOINT, clock.now()))[1]["jti"] for _ in range(20)]
    assert len(set(made)) == 20
    assert all(len(one) >= 32 for one in made)


@pytest.mark.smart(64, 65, 72, 233, 319, 329, 332, 333, 334)
def test_code_refresh_and_revocation_each_carry_a_new_assertion_and_no_id(
    door: Door, ehr, clock, pem, key, algorithm
):
    door.configure(keyed(pem, algorithm), {"KEY": pem})
    opened = door.open()
    clock.forward(minutes=5)
    door.keeper.access_token(opened.session.id)
    door.keeper.log_out(opened.session.id)
    exchanged, refreshed = ehr.to("/auth/token")
    revoked = ehr.to("/auth/revoke")
    assert len(revoked) == 2
    identifiers = set()
    for request in (exchanged, refreshed, *revoked):
        form = request.form
        assert form["client_assertion_type"] == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
        assert "client_id" not in form
        assert "authorization" not in request.headers
        claims = jwt.decode(form["client_assertion"], key, algorithms=[algorithm]).claims
        assert claims["iss"] == claims["sub"] == "remote-monitoring"
        identifiers.add(claims["jti"])
    assert len(identifiers) == 4
    for request in (exchanged, refreshed):
        claims = jwt.decode(request.form["client_assertion"], key, algorithms=[algorithm]).claims
        assert claims["aud"] == f"{ehr.origin}/auth/token"


def test_a_clock_that_moves_moves_the_assertion(clock, p384_pem):
    issuer = issuer_with({"KEY": p384_pem}, **keyed(p384_pem, "ES384"))
    clock.forward(seconds=0.9)
    _, first = parts_of(signed_assertion(issuer, TOKEN_ENDPOINT, clock.now()))
    _, later = parts_of(signed_assertion(issuer, TOKEN_ENDPOINT, clock.now() + timedelta(days=1)))
    assert later["exp"] - first["exp"] == 86400


# Keys


@pytest.mark.smart(295)
@pytest.mark.filterwarnings("ignore::joserfc.errors.SecurityWarning")
@pytest.mark.parametrize(
    "fault", ["other-kind", "public", "nonsense", "empty-pem", "p-256", "small-rsa", "encrypted"]
)
def test_a_key_that_cannot_sign_is_one_clear_line_that_does_not_quote_it(
    algorithm, rsa_pem, p384_pem, fault, clock
):
    kind = RSAKey if algorithm == "RS384" else ECKey
    good = rsa_pem if algorithm == "RS384" else p384_pem
    pem = {
        "other-kind": p384_pem if algorithm == "RS384" else rsa_pem,
        "public": kind.import_key(good).as_pem(private=False).decode(),
        "nonsense": "the-secret-words",
        "empty-pem": "-----BEGIN PRIVATE KEY-----\nthe-secret-words\n-----END PRIVATE KEY-----\n",
        "p-256": ECKey.generate_key("P-256").as_pem(private=True).decode(),
        "small-rsa": small_rsa(),
        "encrypted": kind.import_key(good).as_pem(private=True, password="word").decode(),
    }[fault]
    issuer = issuer_with({"KEY": pem}, **keyed(pem, algorithm))
    with pytest.raises(ConfigurationError) as caught:
        client_credentials(issuer, TOKEN_ENDPOINT, clock.now())
    said = str(caught.value)
    assert said.startswith("issuers.hospital.signing_key: ")
    assert "\n" not in said
    assert "secret" not in said
    assert not any(line in said for line in pem.splitlines() if line)


def small_rsa() -> str:
    key = generate_private_key(65537, 1024)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


@pytest.mark.smart(22, 225, 290, 291, 293, 294, 300, 304, 313, 314, 315, 322)
def test_the_public_keys_are_a_set_ready_to_be_registered(rsa_pem, p384_pem, clock):
    rsa = issuer_with({"KEY": rsa_pem}, **keyed(rsa_pem, "RS384"))
    ec = issuer_with({"KEY": p384_pem}, **keyed(p384_pem, "ES384"))
    document = public_jwks(
        {
            "2026-10": (SigningAlgorithm.RS384, signing_key(rsa)),
            "2026-04": (SigningAlgorithm.ES384, signing_key(ec)),
        }
    )
    first, second = document["keys"]
    assert set(first) == {"kty", "crv", "x", "y", "kid", "alg", "use"}
    assert (first["kty"], first["crv"], first["kid"], first["alg"]) == ("EC", "P-384", "2026-04", "ES384")
    assert set(second) == {"kty", "n", "e", "kid", "alg", "use"}
    assert (second["kty"], second["kid"], second["alg"]) == ("RSA", "2026-10", "RS384")
    assert first["use"] == second["use"] == "sig"
    assertion = signed_assertion(rsa, TOKEN_ENDPOINT, clock.now())
    assert jwt.decode(assertion, RSAKey.import_key(second), algorithms=["RS384"])


@pytest.mark.smart(295)
def test_the_public_keys_hold_no_private_member(rsa_pem, p384_pem):
    document = public_jwks(
        {
            "a": (SigningAlgorithm.RS384, RSAKey.import_key(rsa_pem)),
            "b": (SigningAlgorithm.ES384, ECKey.import_key(p384_pem)),
        }
    )
    assert not [key for key in document["keys"] if {"d", "p", "q", "dp", "dq", "qi", "oth", "k"} & set(key)]
