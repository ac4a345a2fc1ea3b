"""Bytes from outside never raise anything but the package's own errors. A few hundred invented cases each."""

from __future__ import annotations

import base64
import io
import json
import math
import os
import time
import zlib
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
import requests
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from joserfc.jwk import ECKey

from launch.answers import retry_after
from launch.authorization import Callback, LaunchRequest, binding_cookie_name, digest
from launch.bodies import read
from launch.discovery import SmartConfiguration, oauth_uris, parse_configuration
from launch.errors import HttpError, LaunchError, SmartError, clean_error_code
from launch.http import EhrClient, Response
from launch.identity import Identity, IdentityVerifier, user_kind
from launch.issuers_table import load_issuers
from launch.ports import LaunchKind
from launch.scopes import Feature, Scopes, difference, parse_scope, request_scope
from launch.signed import parse_jwks
from launch.tokens import parse_token_response
from launch.urls import UnsafeUrl, is_under, parse_base, parse_url
from tests.support.sandbox import LONG

from .conftest import FakeClock
from .magnitudes import DEEP, MAGNITUDES, NUMBERS, TEXTS, TIMES, written

BASE = "https://ehr.example/fhir"
ISSUERS = load_issuers(
    {
        "one": {"fhir_base": BASE, "client_id": "app"},
        "many": {"fhir_base": "https://x.example/*/f", "client_id": "b"},
    }
)
ISSUER = ISSUERS.match(BASE)
NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)

# `make fuzz` asks for many more, and for others each time.
many = settings(
    max_examples=int(os.environ.get("FUZZ_EXAMPLES", "100")),
    derandomize="FUZZ_EXAMPLES" not in os.environ,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)

TEXT = st.text(max_size=40)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([10**30, -(10**400), 10**400, 0, 2**63]),
    st.floats(),
    TEXT,
    st.text(alphabet=st.characters(categories=["Cs", "Cc", "Lu"]), max_size=4),
    MAGNITUDES,
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


def documents(*names: str, **values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Objects with these members or not, each of any JSON or of the given kind."""
    members = dict.fromkeys(names, JSON) | {name: JSON | likely for name, likely in values.items()}
    return st.fixed_dictionaries({}, optional=members)


def as_received(document: Any) -> Response:
    return Response(200, {}, written(document), "", "ehr.example", "r1")


def encodable(value: object) -> bool:
    """Whether all text in it can be written to a database or a page."""
    try:
        return bool(msgspec.json.encode(value))
    except UnicodeEncodeError:
        return False


# JSON


@many
@given(st.binary(max_size=200))
@example(b"\xff\xfe[\x00]\x00")
@example(b'"\\ud800"')
def test_any_bytes_are_json_or_an_error_of_ours(body):
    try:
        value = Response(200, {}, body, "", "ehr.example", "r1").json()
    except HttpError:
        return
    json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8")


@many
@given(JSON)
@example("\ud800\udc00")
def test_json_that_is_read_holds_no_half_characters_and_no_infinite_numbers(value):
    try:
        read = as_received(value).json()
    except HttpError:
        return
    json.dumps(read, ensure_ascii=False, allow_nan=False).encode("utf-8")
    # Two halves side by side are one character.
    assert read == json.loads(written(value))


@pytest.mark.threat("5.12")
@pytest.mark.parametrize(("opening", "closing"), DEEP)
def test_json_nested_too_deeply_is_refused(opening, closing):
    for body in (opening + closing, opening):
        with pytest.raises(HttpError):
            Response(200, {}, body, "", "ehr.example", "r1").json()


# Tokens

ID = st.sampled_from(["p1", "Patient/p1", "..", "p1?x", "", "é"])


@pytest.mark.threat("5.12")
@many
@given(
    st.one_of(NUMBERS, TEXTS, TIMES, st.integers(), st.floats(), st.text("0123456789٣.-+eE ", max_size=20))
)
@example("@number nan@")
def test_any_life_of_a_token_is_a_second_to_a_day(expires_in):
    document = {"access_token": "a", "token_type": "bearer", "expires_in": expires_in}
    try:
        found = parse_token_response(as_received(document).json_object(), NOW)
    except HttpError:
        return
    assert 0 <= (found.expires_at - NOW).total_seconds() <= 86400


@many
@given(
    documents(
        "tenant",
        "intent",
        "smart_style_url",
        "error",
        "active_ttl",
        access_token=st.just("access-1"),
        token_type=st.just("Bearer"),
        expires_in=st.sampled_from([300, "300", 10**400, 1e308]) | MAGNITUDES,
        scope=st.just("openid"),
        refresh_token=st.just("refresh-1"),
        id_token=st.just("a.b.c"),
        patient=ID,
        encounter=ID,
        need_patient_banner=st.booleans(),
        fhirContext=st.lists(
            documents("reference", "canonical", "type", "role", identifier=documents("value")), max_size=3
        ),
    ).map(lambda document: {"access_token": "a", "token_type": "bearer", **document})
)
def test_any_token_response_is_read_or_refused(document):
    try:
        found = parse_token_response(as_received(document).json_object(), NOW)
    except SmartError:
        return
    assert 0 <= (found.expires_at - NOW).total_seconds() <= 86400
    assert "\r" not in found.access_token
    assert "\n" not in found.access_token
    assert encodable(found.context)
    assert found.context.patient not in {"..", "p1?x", "é", ""}


# Discovery

ENDPOINT = st.sampled_from(
    [
        "auth",
        "/auth",
        "//ehr.example/a",
        "https://ehr.example/a",
        "https://evil.example/",
        "http://ehr.example",
        "https://[",
    ]
)


@many
@given(
    documents(
        "capabilities",
        "scopes_supported",
        "code_challenge_methods_supported",
        "token_endpoint_auth_methods_supported",
        issuer=TEXT,
        authorization_endpoint=ENDPOINT | TEXT,
        token_endpoint=ENDPOINT | TEXT,
        jwks_uri=ENDPOINT,
        revocation_endpoint=ENDPOINT,
        introspection_endpoint=TEXT,
    )
)
def test_any_smart_configuration_is_read_or_refused_and_stays_at_home(document):
    try:
        found = parse_configuration(as_received(document).json_object(), ISSUER)
    except SmartError:
        return
    for endpoint in (
        found.authorization_endpoint,
        found.token_endpoint,
        found.jwks_uri,
        found.revocation_endpoint,
        found.introspection_endpoint,
    ):
        assert endpoint is None or endpoint.lower().startswith("https://ehr.example")
    assert isinstance(found.speaks_v2(ISSUER), bool)


OAUTH = documents(
    url=st.just("http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris"),
    extension=st.lists(documents(url=st.sampled_from(["authorize", "token"]), valueUri=ENDPOINT), max_size=3),
)


@many
@given(
    JSON
    | documents(
        rest=st.lists(documents(security=documents(extension=st.lists(OAUTH, max_size=2))), max_size=2)
    )
)
def test_any_capability_statement_names_endpoints_or_none(statement):
    found = oauth_uris(statement)
    assert set(found) <= {"authorization_endpoint", "token_endpoint", "revocation_endpoint"}
    assert all(isinstance(uri, str) for uri in found.values())


# id_tokens

KEY = ECKey.generate_key("P-256")
CONFIGURATION = SmartConfiguration(
    "https://ehr.example/a", "https://ehr.example/t", issuer="https://ehr.example", jwks_uri=f"{BASE}/jwks"
)


class KeyServer:
    """As much of a client as the verifier needs."""

    issuer = ISSUER

    def __init__(self, keys: Any) -> None:
        self._keys = keys

    def oauth_get(self, _: str) -> Response:
        return as_received(self._keys)


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def signed(header: Any, payload: bytes) -> str:
    start = f"{b64(written(header))}.{b64(payload)}"
    r, s = decode_dss_signature(KEY.private_key.sign(start.encode(), ECDSA(SHA256())))
    return f"{start}.{b64(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def verified(token: str, keys: Any) -> Identity | None:
    client: Any = KeyServer(keys)
    try:
        return IdentityVerifier(FakeClock()).verify(client, CONFIGURATION, token, "n")
    except LaunchError:
        return None


GOOD_KEYS = {"keys": [KEY.as_dict(private=False)]}
CLAIMS = documents(
    iss=st.just("https://ehr.example"),
    aud=st.sampled_from(["app", ["app"], ["app", "b"]]),
    azp=st.just("app"),
    exp=st.sampled_from([NOW.timestamp() + 60, 10**400, 1e308]) | MAGNITUDES,
    iat=st.sampled_from([NOW.timestamp(), 10**400]) | MAGNITUDES,
    nbf=st.sampled_from([NOW.timestamp(), -(10**400)]) | MAGNITUDES,
    nonce=st.just("n"),
    sub=st.just("user-7"),
    name=TEXT,
    fhirUser=ENDPOINT | st.just("Practitioner/7"),
    profile=TEXT,
)
HONEST = {
    "iss": "https://ehr.example",
    "aud": "app",
    "exp": NOW.timestamp() + 60,
    "iat": NOW.timestamp(),
    "nonce": "n",
    "sub": "user-7",
}


def test_an_honest_token_is_believed_so_that_the_invented_ones_mean_something():
    assert verified(signed({"alg": "ES256"}, json.dumps(HONEST).encode()), GOOD_KEYS)


@many
@given(
    documents(
        "typ", "jwk", "jku", "x5c", "extra", "zip", kid=TEXT, alg=st.sampled_from(["ES256", "RS256", "none"])
    ),
    CLAIMS
    | st.fixed_dictionaries({}, optional={"name": JSON, "fhirUser": JSON}).map(lambda some: HONEST | some),
)
@example({}, HONEST | {"name": "\ud800"})
@example({}, HONEST | {"sub": "\ud800"})
def test_any_signed_id_token_is_believed_or_refused(header, claims):
    found = verified(signed({"alg": "ES256", **header}, written(claims)), GOOD_KEYS)
    if found is not None:
        assert found.subject
        assert claims["nonce"] == "n"
        assert encodable(found)


@pytest.mark.threat("5.10")
@many
@given(st.sampled_from(["exp", "iat", "nbf"]), MAGNITUDES)
def test_a_moment_out_of_this_world_is_refused(claim, moment):
    """Every such number, and every text; but something issued or valid long ago is only old."""
    found = verified(signed({"alg": "ES256"}, written({**HONEST, claim: moment})), GOOD_KEYS)
    assert found is None or (claim != "exp" and moment in OF_OLD)


OF_OLD = {
    f"@number {name}@"
    for name in (
        *("zero", "minus zero", "minus zero point zero", "minus one"),
        *("smallest", "tiny", "many decimals", "huge negative exponent"),
    )
}


@pytest.mark.threat("5.10", "5.12")
@pytest.mark.parametrize(("opening", "closing"), DEEP)
def test_an_id_token_nested_too_deeply_is_refused(opening, closing):
    for part in (opening + closing, opening):
        payload = written(HONEST)[:-1] + b', "x": ' + part + b"}"
        assert verified(signed({"alg": "ES256"}, payload), GOOD_KEYS) is None
        header = b64(b'{"alg": "ES256", "x": ' + part + b"}")
        assert verified(f"{header}.{b64(payload)}.{b64(bytes(64))}", GOOD_KEYS) is None


@many
@given(st.binary(max_size=60))
def test_any_signed_bytes_are_refused(payload):
    assert verified(signed({"alg": "ES256"}, payload), GOOD_KEYS) is None


@many
@given(st.text(max_size=60) | st.lists(st.binary(max_size=30).map(b64), min_size=3, max_size=3).map(".".join))
def test_any_text_as_an_id_token_is_refused(token):
    assert verified(token, GOOD_KEYS) is None


JWK = documents(
    "kid",
    "x5c",
    "d",
    kty=st.sampled_from(["RSA", "EC", "oct", "OKP"]),
    alg=st.sampled_from(["RS256", "ES256"]),
    use=st.just("sig"),
    key_ops=st.just(["verify"]),
    n=st.sampled_from(["_" * 342, "AQAB", "", "A" * 400, "_" * 100_000]),
    e=st.sampled_from(["AQAB", "AA", "AQ", "_" * 400, "_" * 100_000]),
    crv=st.sampled_from(["P-256", "P-384", "secp256k1"]),
    x=st.just(KEY.as_dict(private=False)["x"]),
    y=st.just(KEY.as_dict(private=False)["y"]),
)


@many
@pytest.mark.filterwarnings("ignore::joserfc.errors.SecurityWarning")
@given(JSON | documents(keys=st.lists(JWK | JSON, max_size=3)))
def test_any_key_set_gives_keys_or_none(document):
    token = signed({"alg": "ES256"}, json.dumps(HONEST).encode())
    rsa = ".".join((b64(b'{"alg": "RS256"}'), b64(b"{}"), b64(b"x" * 256)))
    verified(token, document)
    assert verified(rsa, document) is None
    if isinstance(document, dict):
        assert isinstance(parse_jwks(document), list)


@pytest.mark.threat("5.10", "5.12")
def test_a_key_of_a_million_bits_costs_no_time():
    for exponent in ("AQAB", "_" * 100_000):
        keys = {"keys": [{"kty": "RSA", "n": "_" * 170_000, "e": exponent}]}
        began = time.monotonic()
        rsa = ".".join((b64(b'{"alg": "RS256"}'), b64(b"{}"), b64(b"x" * 125_000)))
        assert verified(rsa, keys) is None
        assert time.monotonic() - began < LONG


# URLs

PIECES = st.lists(
    st.sampled_from(
        [
            *(
                "https:",
                "http:",
                "//",
                "/",
                "ehr.example",
                "evil.example",
                "/fhir",
                "Patient/p1",
                "x",
                "@",
                ":",
            ),
            *(
                "443",
                "80",
                "99999",
                "\\",
                "..",
                ".",
                "%2e",
                "%2E%2e",
                "%2f",
                "%252e",
                "%5c",
                "#",
                "?",
                "&",
                "=",
            ),
            *(
                "[",
                "]",
                "::1",
                "fe80::1%25eth0",
                " ",
                "\t",
                "\n",
                "\r",
                "\x00",
                "℀",
                "é",
                "。",
                ";",
                "%",
                "%zz",
                "%00",
            ),
            *(
                "%0d%0a",
                "javascript:",
                "urn:uuid:",
                "0x7f.1",
                "2130706433",
                "xn--",
                "-",
                "_",
                "*",
                "|",
                "{",
                "\u2028",
            ),
        ]
    ),
    max_size=12,
).map("".join)


@many
@given(PIECES | st.text(max_size=30))
def test_any_text_is_a_url_in_normal_form_or_refused(text):
    try:
        url = parse_url(text)
    except UnsafeUrl:
        return
    again = parse_url(url.origin + url.path + (f"?{url.query}" if url.query else ""))
    assert again == url
    assert url.host == url.host.lower()
    assert url.origin.isascii()


@many
@given(PIECES)
def test_any_target_is_refused_or_opened_below_the_base_by_the_library_too(target):
    """The library that opens the address reads it once more, in its own way: both must agree."""
    with EhrClient(ISSUER) as client:
        try:
            absolute = client.resolve(target)
        except HttpError:
            return
    opened = requests.Request("GET", absolute).prepare().url
    assert opened is not None
    assert is_under(parse_url(opened), parse_base(BASE))
    assert is_under(parse_url(absolute), parse_base(BASE))


@many
@given(PIECES.map(lambda rest: f"https://ehr.example{rest}") | PIECES | st.just(BASE))
def test_any_iss_is_a_listed_ehr_or_unknown(iss):
    try:
        issuer = ISSUERS.match(iss)
    except LaunchError:
        return
    assert issuer.fhir_base == BASE or issuer.fhir_base.startswith("https://x.example/")
    assert parse_base(iss).base == issuer.fhir_base


# Queries, scopes, headers

PAIRS = st.lists(
    st.tuples(
        st.sampled_from(["state", "code", "error", "iss", "launch", "error_description"]) | TEXT,
        TEXT | st.sampled_from(["\ud800", "\x00", "<script>"]),
    ),
    max_size=6,
)


@many
@given(PAIRS)
def test_any_query_is_a_callback_and_a_launch_or_refused(pairs):
    for parse in (Callback.parse, LaunchRequest.parse):
        try:
            found = parse(pairs)
        except LaunchError:
            continue
        assert dict(pairs).get("code", None) == getattr(found, "code", dict(pairs).get("code", None))
    for _, value in pairs:
        assert len(digest(value)) == 64
        assert binding_cookie_name(value).isascii()


@many
@given(JSON)
def test_any_error_code_is_harmless_or_none(value):
    code = clean_error_code(value)
    assert code is None or (code.isascii() and len(code) <= 64 and not set(code) & set("<>\"'&\r\n "))


SCOPE_WORDS = st.lists(
    st.sampled_from(
        [
            "patient/",
            "user/",
            "system/",
            "*",
            "Observation",
            ".rs",
            ".read",
            ".*",
            ".cruds",
            "?a=b",
            "&",
            " ",
            "openid",
        ]
    )
    | st.text(max_size=3),
    max_size=12,
).map("".join)


@many
@given(SCOPE_WORDS, SCOPE_WORDS)
def test_any_scope_string_is_understood_or_grants_nothing(asked, granted):
    scopes = Scopes.parse(granted)
    assert Scopes.parse(scopes.text) == scopes
    assert len(scopes.resources) <= len(granted.split())
    assert all(parse_scope(word) is None for word in scopes.others)
    found = difference(asked, granted, Feature)
    assert set(found.granted) | set(found.lost) == set(Scopes.parse(asked).text.split())
    assert difference(granted, granted, ()).lost == ()


@many
@given(st.sets(st.sampled_from(Feature)), st.booleans(), st.sampled_from(LaunchKind))
def test_whatever_is_asked_for_is_of_the_grammar_and_grants_what_it_was_asked_for(features, v2, kind):
    asked = request_scope(sorted(features, key=lambda feature: feature.value), kind=kind, v2=v2)
    assert difference(asked, asked, features).lost_features == ()
    assert len(asked.split()) == len(set(asked.split()))


DATES = st.lists(
    st.sampled_from(
        [
            "Mon, ",
            "01 ",
            "Jan ",
            "2026 ",
            "9999 ",
            "00:00:00 ",
            "23:59:60 ",
            "GMT",
            "+0100",
            "-9999",
            "+99999999999999",
            "1",
        ]
    ),
    max_size=7,
).map("".join)


HEADERS = st.sampled_from(
    [
        *(
            "0",
            "1",
            "-1",
            "+1",
            "1.5",
            "1e308",
            "NaN",
            "inf",
            " 7 ",
            "٣",
            "²",
            "0x10",
            "1_000",
            "999999",
            "1000000",
        ),
        *("9" * 20, "9" * 5000, "-" + "9" * 5000, "9, 9", ""),
        *(
            "Mon, 01 Jan 0001 00:00:00 GMT",
            "Fri, 31 Dec 9999 23:59:59 GMT",
            "Fri, 31 Dec 9999 23:59:59 -2400",
        ),
        *("Mon, 01 Jan 9999999999 00:00:00 GMT", f"Mon, 01 Jan 2026 00:00:00 +{'9' * 400}"),
        *("Mon, 01 Jan 2026 99999999999999999999:00:00 GMT", f"Mon, {'9' * 5000} Jan 2026 00:00:00 GMT"),
    ]
)


@many
@given(DATES | TEXT | TIMES | HEADERS, DATES | TEXT | TIMES | HEADERS)
@example("Mon, 01 Jan 2026 00:00:00 GMT", "Mon, 01 Jan 2026 00:00:00 +99999999999999")
@example("Mon, 01 Jan 99999 00:00:00 GMT", "Mon, 01 Jan 2026 00:00:00 GMT")
def test_any_retry_after_is_a_pause_or_none(text, date):
    pause = retry_after({"retry-after": text, "date": date})
    assert pause is None or (pause >= 0 and math.isfinite(pause))


@pytest.mark.threat("5.12")
@many
@given(
    HEADERS | TEXT, st.sampled_from(["", "identity", "gzip", "x-gzip", " GZIP ", "br"]) | TEXT, st.binary()
)
@example("9" * 5000, "", b"[]")
def test_any_declared_length_is_believed_only_where_it_is_one(declared, encoding, body):
    """What is too much is refused before it is read; what is no number is not looked at."""
    headers = {"Content-Length": declared, "Content-Encoding": encoding}
    raw: Any = Raw(headers, body)
    try:
        content = read(raw, 100, time.monotonic() + LONG)
    except HttpError:
        return
    except (OSError, zlib.error):
        assert "gzip" in encoding.lower()
        return
    assert len(content) <= 100
    assert not (declared.isascii() and declared.isdecimal() and len(declared.lstrip("0")) > 3)


class Raw:
    """As much of a body on the wire as is read."""

    def __init__(self, headers: dict[str, str], body: bytes) -> None:
        self.headers = headers
        self._body = io.BytesIO(body)

    def read1(self, most: int, *, decode_content: bool) -> bytes:
        assert not decode_content
        return self._body.read(most)


@many
@given(PIECES | TEXT)
def test_any_fhir_user_has_a_kind_and_only_a_known_one_may_charge(text):
    assert user_kind(text).may_charge <= ("Practitioner" in text)
