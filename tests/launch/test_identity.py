"""Who is signed in: every way to tamper with an id_token, and what is believed of an honest one."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from functools import cache
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from joserfc.jwk import ECKey, RSAKey

from launch.errors import LaunchError, LaunchReason
from launch.identity import Identity, IdentityVerifier, UserKind, parse_jwks, user_kind
from launch.issuers_table import load_issuers

from .conftest import Answer, AuthorizationServer, Door, FakeEhr

NONCE = "nonce-1"


class Verifier:
    """Verifies what the authorization server would say, at the fake EHR."""

    def __init__(self, door: Door) -> None:
        self.door = door
        self.verifier = IdentityVerifier(door.clock)
        door.server.nonce = NONCE

    def __call__(self, token: str | None = None) -> Identity:
        client = self.door.client
        return self.verifier.verify(
            client, self.door.discovery.of(client), token or self.door.server.id_token(), NONCE
        )

    def why_not(self, token: str | None = None) -> str:
        with pytest.raises(LaunchError) as caught:
            self(token)
        assert caught.value.reason is LaunchReason.ID_TOKEN_INVALID
        return caught.value.detail


@pytest.fixture
def verify(door):
    return Verifier(door)


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def claims_of(server: AuthorizationServer, **changes: Any) -> dict[str, Any]:
    now = int(server.clock.now().timestamp())
    return {
        "iss": server.issuer,
        "sub": "user-7",
        "aud": server.client_id,
        "iat": now,
        "exp": now + 300,
        "nonce": NONCE,
        **changes,
    }


def unsigned(header: Any, claims: Any, signature: bytes = b"") -> str:
    return ".".join((b64(json.dumps(header).encode()), b64(json.dumps(claims).encode()), b64(signature)))


def signed(server: AuthorizationServer, header: Any, payload: bytes) -> str:
    """Signed by the server whatever it says: libraries refuse to make some of these."""
    start = f"{b64(json.dumps(header).encode())}.{b64(payload)}"
    signature = server.key.private_key.sign(start.encode(), PKCS1v15(), SHA256())
    return f"{start}.{b64(signature)}"


@cache
def other_key() -> RSAKey:
    return RSAKey.generate_key(2048)


# An honest token


@pytest.mark.smart(201, 218)
def test_an_honest_id_token_says_who_is_signed_in(verify, server):
    server.claims = {"name": "Dr. Ada Park"}
    assert verify() == Identity("user-7", server.issuer, "Practitioner/7", "Dr. Ada Park")


@pytest.mark.parametrize(
    ("algorithm", "curve"), [("RS256", None), ("RS384", None), ("ES256", "P-256"), ("ES384", "P-384")]
)
def test_the_four_algorithms_are_understood(verify, server, algorithm, curve):
    if curve:
        server.key = ECKey.generate_key(curve)
    server.jwks = {"keys": [{**server.key.as_dict(private=False), "kid": "k1"}]}
    server.header = {"alg": algorithm, "kid": "k1"}
    assert verify().subject == "user-7"


@pytest.mark.smart(218)
def test_keys_are_found_through_openid_configuration_where_smart_names_none(verify, ehr, server):
    del server.configuration["jwks_uri"]
    ehr.answer(
        "/auth/.well-known/openid-configuration",
        {"issuer": server.issuer, "jwks_uri": f"{server.issuer}/jwks"},
    )
    assert verify().subject == "user-7"
    assert [request.path for request in ehr.requests[-2:]] == [
        "/auth/.well-known/openid-configuration",
        "/auth/jwks",
    ]


@pytest.mark.smart(218)
def test_an_issuer_that_ends_with_a_slash_is_asked_with_one_slash(verify, ehr, server):
    del server.configuration["jwks_uri"]
    server.configuration["issuer"] = server.issuer = f"{ehr.origin}/auth/"
    ehr.answer(
        "/auth/.well-known/openid-configuration",
        {"issuer": server.issuer, "jwks_uri": f"{ehr.origin}/auth/jwks"},
    )
    assert verify().issuer == f"{ehr.origin}/auth/"


def test_the_issuer_need_not_be_the_fhir_base(verify, ehr, server):
    assert server.issuer != ehr.base
    assert verify().issuer == server.issuer


def test_an_administrator_can_name_the_issuer_where_the_ehr_does_not(verify, door, ehr, server):
    del server.configuration["issuer"]
    assert "set oidc_issuer" in verify.why_not()
    door.configure({"oidc_issuer": server.issuer})
    ehr.answer(
        "/auth/.well-known/openid-configuration",
        {"issuer": server.issuer, "jwks_uri": f"{server.issuer}/jwks"},
    )
    assert verify().subject == "user-7"


@pytest.mark.threat("5.10")
@pytest.mark.smart(218)
@pytest.mark.parametrize(
    "document",
    [
        {"issuer": "https://evil.example", "jwks_uri": "{issuer}/jwks"},
        {"issuer": "{issuer}/", "jwks_uri": "{issuer}/jwks"},
        {"issuer": "{issuer}"},
        {"issuer": "{issuer}", "jwks_uri": 7},
        {"jwks_uri": "{issuer}/jwks"},
        [],
    ],
)
def test_an_openid_configuration_of_somebody_else_is_refused(verify, ehr, server, document):
    del server.configuration["jwks_uri"]
    if isinstance(document, dict):
        document = {
            name: value.replace("{issuer}", server.issuer) if isinstance(value, str) else value
            for name, value in document.items()
        }
    ehr.answer("/auth/.well-known/openid-configuration", document)
    assert verify.why_not().startswith("openid-configuration")
    assert ehr.to("/auth/jwks") == []


@pytest.mark.threat("5.1", "5.10")
@pytest.mark.parametrize(
    "where", ["{other}/jwks", "https://evil.example/jwks", "http://169.254.169.254/", "https://["]
)
def test_keys_elsewhere_are_not_fetched(verify, ehr, other_host, server, where):
    del server.configuration["jwks_uri"]
    address = where.format(other=other_host.origin)
    ehr.answer("/auth/.well-known/openid-configuration", {"issuer": server.issuer, "jwks_uri": address})
    assert verify.why_not() == "keys: foreign-url"
    assert other_host.requests == []


@pytest.mark.threat("5.1")
def test_an_issuer_on_a_host_that_is_not_listed_is_not_asked(verify, door, other_host):
    door.configure({"oidc_issuer": other_host.origin})
    assert verify.why_not() == "openid-configuration: foreign-url"
    assert other_host.requests == []


# Tampering with header and signature


@pytest.mark.smart(201)
@pytest.mark.threat("5.10")
@pytest.mark.parametrize(
    "algorithm", ["none", "None", "NONE", "", "HS256", "HS384", "PS256", "RS512", "EdDSA", "ES512"]
)
def test_algorithms_that_are_not_listed_are_refused_before_a_key_is_looked_for(
    verify, ehr, server, algorithm
):
    token = unsigned({"alg": algorithm, "kid": "k1"}, claims_of(server), b"x")
    assert verify.why_not(token) == "alg"
    assert ehr.to("/auth/jwks") == []


@pytest.mark.threat("5.10")
@pytest.mark.parametrize("algorithm", [None, 7, [], ["RS256"], {}, True])
def test_an_algorithm_that_is_no_text_is_refused(verify, server, algorithm):
    assert verify.why_not(unsigned({"alg": algorithm}, claims_of(server))) == "alg"


@pytest.mark.threat("5.10")
def test_a_token_signed_with_the_public_key_as_a_shared_secret_is_refused(verify, server):
    """The classic confusion: HMAC with the text of the RSA public key."""
    secret = server.key.as_pem(private=False)
    start = unsigned({"alg": "HS256", "kid": "k1"}, claims_of(server)).rsplit(".", 1)[0]
    signed = f"{start}.{b64(hmac.new(secret, start.encode(), hashlib.sha256).digest())}"
    assert verify.why_not(signed) == "alg"


@pytest.mark.smart(201)
@pytest.mark.threat("5.10")
def test_a_token_signed_with_another_key_of_the_same_name_is_refused(verify, server):
    server.key = other_key()
    assert verify.why_not() == "signature"


@pytest.mark.threat("5.10")
def test_claims_changed_after_signing_are_refused(verify, server):
    header, _, signature = server.id_token().split(".")
    changed = b64(json.dumps(claims_of(server, sub="the-chief")).encode())
    assert verify.why_not(f"{header}.{changed}.{signature}") == "signature"


@pytest.mark.threat("5.10")
def test_a_token_whose_signature_was_taken_off_is_refused(verify, server):
    header, claims, _ = server.id_token().split(".")
    assert verify.why_not(f"{header}.{claims}.") == "signature"


@pytest.mark.threat("5.10")
def test_a_header_that_names_another_listed_algorithm_is_refused(verify, server):
    _, claims, signature = server.id_token().split(".")
    changed = b64(json.dumps({"alg": "RS384", "kid": "k1"}).encode())
    assert verify.why_not(f"{changed}.{claims}.{signature}") == "signature"


@pytest.mark.threat("5.10")
def test_keys_in_the_tokens_own_header_are_ignored(verify, ehr, other_host, server):
    evil = other_key()
    other_host.answer("/jwks", {"keys": [{**evil.as_dict(private=False), "kid": "k1"}]})
    server.key = evil
    server.header = {
        "alg": "RS256",
        "kid": "k1",
        "jwk": evil.as_dict(private=False),
        "jku": f"{other_host.origin}/jwks",
        "x5u": f"{other_host.origin}/jwks",
    }
    assert verify.why_not() == "signature"
    assert other_host.requests == []


def test_a_header_with_a_certificate_chain_nobody_looks_at_is_no_fault(verify, server):
    header = {"alg": "RS256", "kid": "k1", "x5c": ["MIIB" * 500], "x5t": "x", "extra": {"a": 1}}
    assert verify(signed(server, header, json.dumps(claims_of(server)).encode())).subject == "user-7"


@pytest.mark.threat("5.10")
@pytest.mark.parametrize("extension", [{"crit": ["exp"]}, {"crit": []}, {"b64": False}])
def test_a_header_with_extensions_that_must_be_understood_is_refused(verify, server, extension):
    assert (
        verify.why_not(unsigned({"alg": "RS256", "kid": "k1", **extension}, claims_of(server), b"x"))
        == "crit"
    )


@pytest.mark.parametrize(
    "token",
    [
        "x",
        "a.b",
        "a.b.c.d",
        "a.b.c.d.e",
        "..",
        "a" * 70_000 + ".b.c",
        "é.b.c",
        "!!.b.c",
        "bm90IGpzb24.e30.c",
        "W10.e30.c",
        b64(b"[" * 50_000) + ".e30.c",
        b64(b"\xff\xfe") + ".e30.c",
    ],
    ids=lambda token: token[:12],
)
def test_what_is_no_signed_token_is_refused(verify, ehr, token):
    assert verify.why_not(token) in {"not a signed token", "header"}
    assert ehr.to("/auth/jwks") == []


def test_an_encrypted_token_is_refused(verify, server):
    header = b64(json.dumps({"alg": "RSA-OAEP", "enc": "A256GCM"}).encode())
    assert verify.why_not(f"{header}.a.b.c.d") == "not a signed token"


@pytest.mark.parametrize("payload", [b"[]", b'"text"', b"null", b"7", b"not json", b"\xff", b"[" * 20_000])
def test_claims_that_are_no_object_are_refused_though_honestly_signed(verify, server, payload):
    assert verify.why_not(signed(server, {"alg": "RS256", "kid": "k1"}, payload)) == "signature"


# Which key


def two_keys(server: AuthorizationServer) -> tuple[RSAKey, RSAKey]:
    first, second = server.key, other_key()
    server.jwks = {
        "keys": [
            {**first.as_dict(private=False), "kid": "k1"},
            {**second.as_dict(private=False), "kid": "k2"},
        ]
    }
    return first, second


def test_the_key_that_the_token_names_is_used(verify, server):
    _, server.key = two_keys(server)
    server.header = {"alg": "RS256", "kid": "k2"}
    assert verify().subject == "user-7"
    server.header = {"alg": "RS256", "kid": "k1"}
    assert verify.why_not() == "signature"


def test_without_a_name_the_only_key_is_meant(verify, server):
    server.header = {"alg": "RS256"}
    assert verify().subject == "user-7"


@pytest.mark.threat("5.10")
def test_without_a_name_and_with_two_keys_nobody_knows_which_is_meant(verify, ehr, server):
    two_keys(server)
    server.header = {"alg": "RS256"}
    assert verify.why_not() == "no key fits"


def test_without_a_name_keys_that_cannot_be_meant_do_not_count(verify, server):
    rsa = {**server.key.as_dict(private=False), "kid": "k1"}
    server.jwks = {
        "keys": [
            {**other_key().as_dict(private=False), "use": "enc"},
            {**other_key().as_dict(private=False), "alg": "RS384", "use": "sig"},
            ECKey.generate_key("P-384").as_dict(private=False),
            {"kty": "oct", "k": "c2VjcmV0"},
            rsa,
        ]
    }
    server.header = {"alg": "RS256"}
    assert verify().subject == "user-7"


@pytest.mark.threat("5.10")
def test_a_key_registered_for_another_algorithm_or_use_is_not_used(verify, server):
    for limit in ({"alg": "RS384"}, {"use": "enc"}, {"alg": 7}, {"alg": []}, {"use": 7}):
        server.jwks = {"keys": [{**server.key.as_dict(private=False), "kid": "k1", **limit}]}
        verify.verifier = IdentityVerifier(verify.door.clock)
        assert verify.why_not() == "no key fits"


@pytest.mark.threat("5.10")
def test_a_curve_that_does_not_belong_to_the_algorithm_is_not_used(verify, server):
    server.key = ECKey.generate_key("P-256")
    server.jwks = {"keys": [{**server.key.as_dict(private=False), "kid": "k1"}]}
    token = unsigned({"alg": "ES384", "kid": "k1"}, claims_of(server), b"x" * 96)
    assert verify.why_not(token) == "no key fits"


@pytest.mark.threat("5.10")
@pytest.mark.filterwarnings("ignore::joserfc.errors.SecurityWarning")
def test_a_short_rsa_key_is_not_used(verify, server):
    server.key = RSAKey.import_key(generate_private_key(65537, 1024))
    server.jwks = {"keys": [{**server.key.as_dict(private=False), "kid": "k1"}]}
    assert verify.why_not() == "no key fits"


def test_an_unknown_name_fetches_the_keys_once_more_because_keys_are_rotated(verify, ehr, server):
    verify()
    assert len(ehr.to("/auth/jwks")) == 1
    server.key = other_key()
    server.jwks = {"keys": [{**server.key.as_dict(private=False), "kid": "k2"}]}
    server.header = {"alg": "RS256", "kid": "k2"}
    assert verify().subject == "user-7"
    assert len(ehr.to("/auth/jwks")) == 2
    verify()
    assert len(ehr.to("/auth/jwks")) == 2


def test_a_name_nobody_has_fetches_once_more_and_only_once(verify, ehr, server):
    verify()
    server.header = {"alg": "RS256", "kid": "nobody"}
    assert verify.why_not() == "no key fits"
    assert len(ehr.to("/auth/jwks")) == 2


@pytest.mark.parametrize("kid", [7, [], {}, None, ""])
def test_a_name_that_is_odd_never_does_more_than_not_fit(verify, server, kid):
    two_keys(server)
    token = unsigned({"alg": "RS256", "kid": kid}, claims_of(server), b"x")
    assert verify.why_not(token) == "no key fits"


def test_keys_are_kept_for_an_hour_less_a_second(verify, ehr, clock):
    verify()
    clock.forward(minutes=59, seconds=59)
    verify()
    assert len(ehr.to("/auth/jwks")) == 1
    clock.forward(seconds=1)
    verify()
    assert len(ehr.to("/auth/jwks")) == 2


@pytest.mark.parametrize(
    ("answer", "detail"),
    [
        (Answer(500, {}), "keys: http-status"),
        (Answer(302, {}, {"Location": "https://evil.example"}), "keys: redirect"),
        (Answer(body=b"<html>"), "keys: not-json"),
        (Answer(body=[]), "keys: not-json"),
        (Answer(body=b"x" * 1_100_000), "keys: too-large"),
        (Answer(body={}), "no key fits"),
        (Answer(body={"keys": {}}), "no key fits"),
        (
            Answer(body={"keys": [7, None, [], {}, {"kty": "RSA"}, {"kty": "EC", "crv": "P-999"}]}),
            "no key fits",
        ),
    ],
)
def test_keys_that_cannot_be_read_are_no_keys(verify, ehr, answer, detail):
    ehr.routes["/auth/jwks"] = lambda _: answer
    assert verify.why_not() == detail


def test_one_key_that_cannot_be_read_does_not_spoil_the_others(server):
    good = {**server.key.as_dict(private=False), "kid": "k1"}
    broken = [
        {"kty": "RSA", "n": 7, "e": []},
        {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"},
        {"kty": []},
    ]
    assert len(parse_jwks({"keys": [*broken, good]})) == 1


# Claims


@pytest.mark.smart(201)
@pytest.mark.threat("5.10")
@pytest.mark.parametrize(
    ("claims", "detail"),
    [
        ({"iss": "https://evil.example"}, "iss"),
        ({"iss": None}, "iss"),
        ({"iss": ["{issuer}"]}, "iss"),
        ({"iss": "{issuer}/"}, "iss"),
        ({"iss": "{base}"}, "iss"),
        ({"aud": "another-app"}, "aud"),
        ({"aud": None}, "aud"),
        ({"aud": []}, "aud"),
        ({"aud": ["another-app"], "azp": "remote-monitoring"}, "aud"),
        ({"aud": "remote-monitoring "}, "aud"),
        ({"aud": ["remote-monitoring", "another-app"]}, "azp"),
        ({"azp": "another-app"}, "azp"),
        ({"aud": ["remote-monitoring", "another-app"], "azp": "another-app"}, "azp"),
        ({"nonce": "another"}, "nonce"),
        ({"nonce": None}, "nonce"),
        ({"nonce": ""}, "nonce"),
        ({"sub": None}, "sub"),
        ({"sub": ""}, "sub"),
        ({"sub": 7}, "sub"),
        ({"exp": None}, "exp"),
        ({"exp": "2100-01-01"}, "exp"),
        ({"exp": True}, "exp"),
        ({"exp": float("nan")}, "exp"),
        ({"exp": float("inf")}, "exp"),
        ({"exp": 10**400}, "exp"),
        ({"iat": None}, "iat"),
        ({"iat": "now"}, "iat"),
        ({"iat": float("nan")}, "iat"),
        ({"iat": float("-inf")}, "iat"),
        ({"iat": -(10**400)}, "iat"),
        ({"nbf": "later"}, "nbf"),
        ({"nbf": float("nan")}, "nbf"),
    ],
    ids=str,
)
def test_a_claim_that_is_not_as_it_must_be_is_refused_and_named(verify, ehr, server, claims, detail):
    changed = {
        name: value.replace("{issuer}", server.issuer).replace("{base}", ehr.base)
        if isinstance(value, str)
        else value
        for name, value in claims.items()
    }
    server.claims = changed
    if any(isinstance(value, list) for value in claims.values()):
        server.claims = {
            name: [one.replace("{issuer}", server.issuer) for one in value]
            if isinstance(value, list)
            else value
            for name, value in changed.items()
        }
    assert verify.why_not() == detail


@pytest.mark.smart(201)
@pytest.mark.parametrize(
    "claims",
    [
        {"aud": ["remote-monitoring"]},
        {"aud": ["remote-monitoring", "another-app"], "azp": "remote-monitoring"},
        {"azp": "remote-monitoring"},
        {"unknown": {"a": [1]}, "acr": "0", "auth_time": "odd"},
    ],
)
def test_claims_that_are_right_in_another_way_are_accepted(verify, server, claims):
    server.claims = claims
    assert verify().subject == "user-7"


@pytest.mark.smart(201)
@pytest.mark.parametrize(
    ("name", "seconds", "detail"),
    [
        ("exp", -119, None),
        ("exp", -120, "exp"),
        ("exp", -86400, "exp"),
        ("iat", 120, None),
        ("iat", 121, "iat"),
        ("iat", -86400, None),
        ("nbf", 120, None),
        ("nbf", 121, "nbf"),
    ],
)
def test_clocks_may_differ_by_two_minutes_and_no_more(verify, server, clock, name, seconds, detail):
    server.claims = {name: int(clock.now().timestamp()) + seconds}
    if detail is None:
        assert verify().subject == "user-7"
    else:
        assert verify.why_not() == detail


@pytest.mark.threat("5.13")
def test_a_refusal_shows_nothing_of_the_token(verify, server):
    server.claims = {"sub": "user-4711", "nonce": "another"}
    token = server.id_token()
    with pytest.raises(LaunchError) as caught:
        verify(token)
    said = f"{caught.value!r}{caught.value}{caught.value.sentence}"
    assert "4711" not in said
    assert token not in said


# fhirUser


@pytest.mark.smart(202, 218)
@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("{base}/Practitioner/7", "Practitioner/7"),
        ("Practitioner/7", "Practitioner/7"),
        ("{base}/PractitionerRole/7", "PractitionerRole/7"),
        ("{base}/Patient/p1", "Patient/p1"),
        ("RelatedPerson/1", "RelatedPerson/1"),
        ("Person/1", "Person/1"),
        # Somewhere else: known by its kind, never to be read with our token.
        ("https://directory.example/fhir/Practitioner/7", "https://directory.example/fhir/Practitioner/7"),
        ("{origin}/fhirx/Practitioner/7", "{origin}/fhirx/Practitioner/7"),
        # No user of a kind we know.
        ("{base}/Device/7", None),
        ("Practitioner", None),
        ("/Practitioner/7", None),
        ("//evil.example/Practitioner/7", None),
        ("javascript://x/Practitioner/7", None),
        ("https://[/Practitioner/7", None),
        ("{base}/Practitioner/7?x=1", None),
        ("{base}/Practitioner/7#x", None),
        ("{base}/Practitioner/../Patient/p1/Practitioner/7", None),
        ("practitioner/7", None),
        ("Practitioner/" + "x" * 600, None),
        ("", None),
        (7, None),
        ([], None),
        (None, None),
    ],
)
def test_fhir_user_is_relative_under_the_base_absolute_elsewhere_or_nothing(
    verify, ehr, server, written, read
):
    def filled(text: Any) -> Any:
        return text.format(base=ehr.base, origin=ehr.origin) if isinstance(text, str) else text

    server.claims = {"fhirUser": filled(written)}
    assert verify().fhir_user == filled(read)


def test_an_older_servers_profile_says_the_same(verify, server):
    server.claims = {"fhirUser": None, "profile": "Practitioner/7"}
    assert verify().fhir_user == "Practitioner/7"
    server.claims = {"fhirUser": None, "profile": "https://social.example/ada"}
    assert verify().fhir_user is None
    server.claims = {"fhirUser": "Practitioner/7", "profile": "Patient/p1"}
    assert verify().fhir_user == "Practitioner/7"


@pytest.mark.threat("5.11")
@pytest.mark.parametrize("odd", ["Device/1", "", 7, ["Patient/p1"], "x" * 600])
def test_a_profile_never_stands_in_for_a_fhir_user_that_is_there(verify, server, odd):
    server.claims = {"fhirUser": odd, "profile": "Practitioner/7"}
    assert verify().fhir_user is None


@pytest.mark.threat("5.11")
@pytest.mark.parametrize(
    ("fhir_user", "kind", "may_charge"),
    [
        ("Practitioner/7", UserKind.PRACTITIONER, True),
        ("PractitionerRole/7", UserKind.PRACTITIONER_ROLE, True),
        ("https://directory.example/fhir/Practitioner/7", UserKind.PRACTITIONER, True),
        ("Practitioner/7/_history/2", UserKind.PRACTITIONER, True),
        ("Patient/p1", UserKind.PATIENT, False),
        ("https://ehr.example/fhir/Patient/p1", UserKind.PATIENT, False),
        ("https://ehr.example/Practitioner/7/Patient/p1", UserKind.PATIENT, False),
        ("RelatedPerson/1", UserKind.RELATED_PERSON, False),
        ("Person/1", UserKind.PERSON, False),
        ("Device/1", UserKind.UNKNOWN, False),
        ("unknown/1", UserKind.UNKNOWN, False),
        ("Practitioner/7\n", UserKind.UNKNOWN, False),
        ("Practitioner/", UserKind.UNKNOWN, False),
        ("", UserKind.UNKNOWN, False),
        (None, UserKind.UNKNOWN, False),
    ],
)
def test_only_practitioners_may_charge(fhir_user, kind, may_charge):
    assert user_kind(fhir_user) is kind
    assert kind.may_charge is may_charge


@pytest.mark.parametrize(
    ("name", "read"), [("Ada", "Ada"), ("x" * 300, "x" * 200), ("", None), (7, None), (None, None)]
)
def test_a_name_is_short_text_or_nothing(verify, server, name, read):
    server.claims = {"name": name}
    assert verify().name == read


# Several EHRs


@pytest.mark.threat("5.2", "5.10")
def test_a_token_of_another_ehr_is_refused(verify, door, clock, other_host: FakeEhr):
    """The other server is honest, and its token fits in everything but its issuer and its key."""
    other = AuthorizationServer(other_host, clock)
    other.nonce = NONCE
    assert verify.why_not(other.id_token()) in {"iss", "signature"}


def test_a_verifier_keeps_the_keys_of_two_ehrs_apart(door, ehr, other_host, clock):
    other = AuthorizationServer(other_host, clock)
    other.key = other_key()
    other.jwks = {"keys": [{**other.key.as_dict(private=False), "kid": "k1"}]}
    issuers = load_issuers(
        {
            name: {"fhir_base": host.base, "client_id": "remote-monitoring"}
            for name, host in (("a", ehr), ("b", other_host))
        },
        loopback=True,
    )
    verifier = IdentityVerifier(clock)
    for issuer, server in zip(issuers, (door.server, other), strict=True):
        server.nonce = NONCE
        client = door.clients.of(issuer)
        found = verifier.verify(client, door.discovery.of(client), server.id_token(), NONCE)
        assert found.issuer == server.issuer
