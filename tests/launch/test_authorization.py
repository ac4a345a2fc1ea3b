"""The authorization request: every parameter, and the cookie that ties it to one browser."""

from __future__ import annotations

import ast
import base64
import hashlib
import re
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

import launch
from launch.authorization import Launcher, LaunchRequest, binding_cookie_name, code_challenge, digest
from launch.errors import ConfigurationError
from launch.identity import IdentityVerifier
from launch.issuers_table import load_issuers
from launch.ports import LaunchKind
from launch.scopes import Feature

from .conftest import Door


def launcher_at(door: Door, app_url: str, issuers: Any = None) -> Launcher:
    return Launcher(
        issuers or door.issuers,
        door.clients,
        door.discovery,
        IdentityVerifier(door.clock),
        door.store,
        door.clock,
        door.events,
        app_url=app_url,
    )


# The parameters


@pytest.mark.smart(32, 33, 34, 35, 37, 41, 44, 45, 50, 51, 317)
def test_an_ehr_launch_sends_exactly_these_parameters(door, ehr):
    sent = door.begin(launch="launch-1")
    assert list(sent) == [
        "response_type",
        "client_id",
        "redirect_uri",
        "launch",
        "scope",
        "state",
        "aud",
        "nonce",
        "code_challenge",
        "code_challenge_method",
    ]
    assert sent["response_type"] == "code"
    assert sent["client_id"] == "remote-monitoring"
    assert sent["redirect_uri"] == "https://app.example/callback/hospital"
    assert sent["launch"] == "launch-1"
    assert sent["aud"] == ehr.base
    assert sent["code_challenge_method"] == "S256"
    assert door.request.url.startswith(f"{ehr.origin}/auth/authorize?response_type=code&")
    assert not door.request.must_post


@pytest.mark.smart(35, 51, 161)
@pytest.mark.parametrize("launch_value", ["a", "a b&c=d+e/%3F#ü", "x" * 1500, '{"a":"b"}'])
def test_the_launch_value_goes_back_unchanged_whatever_it_holds(door, launch_value):
    assert door.begin(launch=launch_value)["launch"] == launch_value


@pytest.mark.smart(36, 150, 151, 152, 155, 166)
def test_a_standalone_launch_has_no_launch_parameter_and_asks_for_a_patient(door):
    sent = door.begin(launch=None)
    assert "launch" not in sent
    assert sent["scope"].split()[0] == "launch/patient"
    assert "launch" not in sent["scope"].split()
    [pending] = door.store.pending.values()
    assert pending.kind is LaunchKind.STANDALONE


@pytest.mark.smart(37, 46, 47, 148, 195, 196, 215)
def test_the_scopes_are_the_least_that_works_and_hold_no_wildcard(door):
    words = door.begin()["scope"].split()
    assert words[:4] == ["launch", "openid", "fhirUser", "online_access"]
    assert set(words[4:]) == {
        "patient/Patient.r",
        "patient/Observation.rs",
        "patient/Device.rs",
        "patient/Encounter.rs",
        "patient/ChargeItem.crus",
    }


def test_a_server_of_smart_1_is_asked_in_its_own_grammar(door, server):
    server.configuration["capabilities"] = ["launch-ehr"]
    words = door.begin()["scope"].split()
    assert "patient/ChargeItem.read" in words
    assert "patient/ChargeItem.write" in words
    assert "patient/Observation.read" in words
    assert not [word for word in words if re.search(r"\.[cruds]+$", word)]


def test_a_sites_extra_scopes_are_asked_for_as_they_are(door):
    door.configure({"extra_scopes": ["offline_access", "patient/CarePlan.rs"]})
    assert door.begin()["scope"].endswith(" offline_access patient/CarePlan.rs")


@pytest.mark.smart(211)
def test_neither_max_age_nor_auth_time_is_asked_for(door):
    door.begin()
    assert "max_age" not in door.request.url
    assert "auth_time" not in door.request.url


@pytest.mark.smart(20, 21, 34)
def test_the_callback_address_is_configuration_and_never_a_requests(door):
    assert launcher_at(door, "https://app.example/rtm/").redirect_uri(door.issuer) == (
        "https://app.example/rtm/callback/hospital"
    )


@pytest.mark.smart(1, 20, 21)
@pytest.mark.parametrize(
    "app_url", ["http://app.example", "https://app.example?x=1", "https://*.example", "/app", ""]
)
def test_our_own_address_is_a_full_https_url(door, app_url):
    with pytest.raises(ConfigurationError, match=r"^app_url: "):
        launcher_at(door, app_url)


@pytest.mark.smart(1, 21)
def test_our_own_address_is_plain_http_in_the_demo_only(door):
    production = load_issuers({"hospital": {"fhir_base": "https://ehr.example/fhir", "client_id": "x"}})
    assert launcher_at(door, "http://127.0.0.1:8000")
    with pytest.raises(ConfigurationError, match="must use https"):
        launcher_at(door, "http://127.0.0.1:8000", production)


def test_an_authorization_address_with_a_query_of_its_own_keeps_it(door, ehr, server):
    server.configuration["authorization_endpoint"] += "?tenant=7"
    door.begin()
    assert door.request.url.startswith(f"{ehr.origin}/auth/authorize?tenant=7&response_type=code&")


# state, PKCE, nonce


@pytest.mark.smart(2, 3, 40)
@pytest.mark.threat("5.5")
def test_state_is_256_random_bits_new_for_every_launch_in_plain_characters(door):
    states = {door.begin()["state"] for _ in range(50)}
    assert len(states) == 50
    for state in states:
        assert re.fullmatch(r"[A-Za-z0-9_-]{43}", state)
        assert len(base64.urlsafe_b64decode(state + "=")) == 32
    bits = [sum(bin(byte).count("1") for byte in base64.urlsafe_b64decode(state + "=")) for state in states]
    assert 110 < sum(bits) / len(bits) < 146  # neither constant nor counted up


@pytest.mark.smart(13, 44, 45)
def test_pkce_is_s256_with_a_new_verifier_of_64_random_bytes_each_time(door):
    verifiers = set()
    for _ in range(20):
        sent = door.begin()
        pending = door.store.pending[digest(sent["state"])]
        hashed = hashlib.sha256(pending.code_verifier.encode()).digest()
        assert sent["code_challenge"] == base64.urlsafe_b64encode(hashed).decode().rstrip("=")
        assert re.fullmatch(r"[A-Za-z0-9._~-]{43,128}", pending.code_verifier)
        assert pending.code_verifier not in door.request.url
        verifiers.add(pending.code_verifier)
    assert len(verifiers) == 20


@pytest.mark.smart(13, 44)
def test_the_code_challenge_is_that_of_the_standards_own_example():
    assert code_challenge("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk") == (
        "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"  # RFC 7636, appendix B
    )


@pytest.mark.smart(13, 44)
def test_pkce_is_sent_to_a_server_that_does_not_advertise_it(door, server):
    del server.configuration["code_challenge_methods_supported"]
    assert door.begin()["code_challenge_method"] == "S256"


def test_every_launch_has_a_nonce_of_its_own(door):
    nonces = {door.begin()["nonce"] for _ in range(20)}
    assert len(nonces) == 20
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{43}", nonce) for nonce in nonces)


# The browser, and what is kept


@pytest.mark.smart(7, 39, 61)
@pytest.mark.threat("5.5", "5.9")
def test_each_launch_has_a_cookie_of_its_own_that_says_nothing(door):
    first, one = door.begin(), door.request
    second, other = door.begin(), door.request
    assert one.cookie_name == binding_cookie_name(first["state"]) != other.cookie_name
    assert re.fullmatch(r"__Host-launch-[0-9a-f]{16}", one.cookie_name)
    assert one.cookie_value != other.cookie_value
    assert one.cookie_value not in one.url
    assert first["state"] not in one.cookie_value + one.cookie_name
    assert one.cookie_life.total_seconds() == 600
    assert second["state"] not in other.cookie_name


@pytest.mark.smart(8, 9)
@pytest.mark.threat("5.9")
def test_the_store_gets_digests_of_what_the_browser_holds(door):
    sent = door.begin()
    [(key, pending)] = door.store.pending.items()
    assert key == pending.state_digest == hashlib.sha256(sent["state"].encode()).hexdigest()
    assert pending.browser_digest == hashlib.sha256(door.request.cookie_value.encode()).hexdigest()
    kept = [str(getattr(pending, name)) for name in pending.__slots__]
    assert sent["state"] not in kept
    assert door.request.cookie_value not in kept


@pytest.mark.threat("5.13")
def test_no_repr_shows_a_secret_of_the_launch(door):
    sent = door.begin(launch="a-launch-value-of-its-own")
    [pending] = door.store.pending.values()
    shown = f"{door.request!r}{pending!r}{door.events.all!r}"
    for secret in (
        sent["state"],
        sent["nonce"],
        "a-launch-value-of-its-own",
        pending.code_verifier,
        pending.browser_digest,
        door.request.cookie_value,
    ):
        assert secret not in shown


def test_what_was_asked_is_told_without_who_was_asked_about(door):
    door.begin()
    assert door.events.all == [("launch-begun", {"issuer": "hospital", "kind": "ehr"})]


# A form instead of an address


@pytest.mark.smart(50, 52, 133)
def test_a_long_request_is_posted_where_the_ehr_takes_forms(door, server):
    server.configuration["capabilities"].append("authorize-post")
    door.begin(launch="x" * 2000)
    assert door.request.must_post
    assert dict(door.request.parameters) == dict(parse_qsl(urlsplit(door.request.url).query))
    assert door.request.endpoint == server.configuration["authorization_endpoint"]


@pytest.mark.smart(52)
def test_the_form_is_an_ordinary_posted_form_with_every_parameter():
    page = Path(launch.__file__).parent.parent / "smartapp" / "templates" / "launch" / "to_ehr.html"
    form = re.search(r"<form[^>]*>", page.read_text("utf-8"))
    assert form
    assert 'method="post"' in form[0]
    assert "enctype" not in form[0]  # the default is application/x-www-form-urlencoded
    assert "for name, value in authorization.parameters" in page.read_text("utf-8")


@pytest.mark.smart(51, 133)
def test_an_address_of_2000_characters_is_still_an_address(door, server):
    server.configuration["capabilities"].append("authorize-post")
    door.begin(launch="x")
    room = 2000 - len(door.request.url)
    door.begin(launch="x" * (1 + room))
    assert len(door.request.url) == 2000
    assert not door.request.must_post
    door.begin(launch="x" * (2 + room))
    assert door.request.must_post


@pytest.mark.smart(51)
def test_where_the_ehr_takes_no_forms_a_long_request_stays_an_address(door):
    door.begin(launch="x" * 5000)
    assert not door.request.must_post


def test_features_decide_what_is_asked_for(door):
    launcher = Launcher(
        door.issuers,
        door.clients,
        door.discovery,
        IdentityVerifier(door.clock),
        door.store,
        door.clock,
        door.events,
        app_url="https://app.example",
        features=(Feature.READINGS,),
    )
    asked = launcher.begin(LaunchRequest(door.ehr.base, "x"))
    assert dict(asked.parameters)["scope"] == "launch online_access patient/Observation.rs"


# The code itself


@pytest.mark.smart(5)
@pytest.mark.threat("5.8")
def test_nothing_received_can_be_run_as_code():
    folder = Path(launch.__file__).parent
    runners = {"eval", "exec", "compile", "__import__", "pickle", "marshal", "subprocess", "system", "popen"}
    found = {
        f"{path.name}: {node.id}"
        for path in folder.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Name) and node.id in runners
    }
    assert found == set()


@pytest.mark.smart(1)
def test_no_switch_turns_the_checking_of_certificates_off():
    folder = Path(launch.__file__).parent
    for path in folder.glob("*.py"):
        text = path.read_text("utf-8")
        assert not re.search(r"verify\s*=\s*False|CERT_NONE|check_hostname\s*=\s*False", text), path.name
