"""CDS Hooks, asked as an EHR asks: a card where there is something to do, and nothing to anybody else."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest
import requests
from flask import request
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey, RSAKey

from launch.sandbox.cds_client import CLIENT_ID, cds_issuer
from launch.sandbox.credentials import CredentialKind
from launch.sandbox.patients import export, stories
from smartapp.commands.demo import free_port
from smartapp.configuration.settings import ConfigurationError
from tests.smartapp.conftest import World
from tests.smartapp.test_no_phi import of_patients
from tests.support.lists import swept_sandbox
from tests.support.sandbox import DAY, sandbox_key

READY = "ready-musculoskeletal"
PHYSICIAN, NURSE = "Practitioner/syn-physician", "Practitioner/syn-nurse"
NAME = "https://ehr.example/cds"
SITE = (
    "worklist: [{{state: state, issuer: sandbox}}]\n"
    "cds_hooks: [{{client: '{name}', keys: cds-keys.json, {more}}}]\n"
)
EHR_KEY = ECKey.generate_key("P-384", {"use": "sig", "alg": "ES384"}, auto_kid=True)
OTHER_KEY = ECKey.generate_key("P-384", {"use": "sig", "alg": "ES384", "kid": str(EHR_KEY.kid)})
ALGORITHMS = {OctKey: "HS256", RSAKey: "RS384", ECKey: "ES384"}


@pytest.fixture(scope="session")
def charts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("charts")
    export(folder, DAY, readings=60)
    return folder


@dataclass
class Ehr:
    """A CDS client that can be made to do what it must not."""

    world: World
    key: Any = field(default_factory=lambda: EHR_KEY)
    header: dict[str, Any] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        app = self.world.ehr.app
        app.before_request(lambda: self.requests.append(f"{request.method} {request.path}"))

    @property
    def services(self) -> str:
        return f"{self.world.settings.base_url}/cds-services"

    @property
    def address(self) -> str:
        return f"{self.services}/remote-monitoring"

    def signed(self, **claims: Any) -> str:
        now = int(self.world.now().timestamp())
        usual = {"iss": NAME, "aud": self.address, "iat": now, "exp": now + 300, "jti": secrets.token_hex(8)}
        said = {name: value for name, value in (usual | claims).items() if value is not None}
        algorithm = ALGORITHMS[type(self.key)]
        header = {"alg": algorithm, "typ": "JWT", "kid": str(EHR_KEY.kid)} | self.header
        return jwt.encode(header, said, self.key, algorithms=[algorithm])

    def token(self, patient: str, user: str = PHYSICIAN) -> str:
        """A token of the EHR's that reads one Patient."""
        data = {"scope": "patient/Patient.r", "context": {"user": user, "patient": patient}}
        return self.world.ehr.sandbox.credentials.issue(CredentialKind.ACCESS, CLIENT_ID, data, 300)

    def call(self, patient: str = READY, **more: Any) -> dict[str, Any]:
        said = {
            "hook": "patient-view",
            "hookInstance": "d1577c69-dfbe-44ad-ba6d-3e05e953b2ea",
            "fhirServer": self.world.fhir_base,
            "fhirAuthorization": {
                "access_token": self.token(patient),
                "token_type": "Bearer",
                "expires_in": 300,
                "scope": "patient/Patient.r",
                "subject": CLIENT_ID,
            },
            "context": {"userId": PHYSICIAN, "patientId": patient},
        } | more
        return {name: value for name, value in said.items() if value is not None}

    def ask(self, call: dict[str, Any] | None = None, token: str | None = None) -> requests.Response:
        return requests.post(
            self.address,
            json=self.call() if call is None else call,
            headers={"Authorization": f"Bearer {self.signed() if token is None else token}"},
            timeout=30,
        )

    def cards(self, call: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        answer = self.ask(call)
        assert answer.status_code == 200, answer.status_code
        cards: list[dict[str, Any]] = answer.json()["cards"]
        return cards


@pytest.fixture
def make_ehr(make_world: Callable[..., World], tmp_path: Path, charts: Path) -> Callable[..., Ehr]:
    def made(keys: Any = None, more: str = "requests_per_minute: 600", **settings: Any) -> Ehr:
        keys = keys or [EHR_KEY.as_dict(private=False)]
        (tmp_path / "cds-keys.json").write_bytes(msgspec.json.encode({"keys": keys}))
        world = make_world(site_more=SITE.format(name=NAME, more=more), **settings)
        swept_sandbox(tmp_path / "state", charts, DAY, keys=world.settings.keys)
        return Ehr(world)

    return made


@pytest.fixture
def ehr(make_ehr: Callable[..., Ehr]) -> Ehr:
    return make_ehr()


@dataclass
class KeysElsewhere:
    """A server that somebody else's keys would be fetched from."""

    address: str
    asked: list[str]


@pytest.fixture
def keys_elsewhere() -> Iterator[KeysElsewhere]:
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(404)
            self.end_headers()

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield KeysElsewhere(f"http://127.0.0.1:{server.server_port}/keys", asked)
        server.shutdown()


# What is answered


def test_discovery_names_the_one_service(ehr):
    answer = requests.get(ehr.services, timeout=30)
    (service,) = answer.json()["services"]
    assert (service["hook"], service["id"]) == ("patient-view", "remote-monitoring")
    assert service["description"]
    assert "Access-Control-Allow-Origin" not in answer.headers


def test_where_something_can_be_charged_one_card_says_so_and_opens_the_app(ehr):
    (card,) = ehr.cards()
    assert card["summary"].startswith("Remote monitoring: can be charged now")
    assert len(card["summary"]) < 140
    assert "earned" in card["detail"]
    assert "As of 15 Apr 2026." in card["detail"]
    assert (card["indicator"], card["source"]["label"]) == ("info", "Remote monitoring charges")
    assert card["uuid"]
    (link,) = card["links"]
    assert (link["type"], link["url"]) == ("smart", f"{ehr.world.settings.base_url}/launch")
    assert not {"suggestions", "appContext"} & {*card, *link}


@pytest.mark.parametrize("patient", ["nothing", "nobody-of-this-name"])
def test_of_whom_there_is_nothing_to_do_there_is_no_card(ehr, patient):
    assert ehr.cards(ehr.call(patient)) == []


def test_what_is_only_open_makes_no_card(ehr):
    seen = {story.id: bool(ehr.cards(ehr.call(story.id))) for story in stories()}
    assert any(seen.values())
    assert not all(seen.values())


def test_what_somebody_has_done_makes_no_card(ehr, browser):
    page = ehr.world.worklist(browser)
    for form in [form for form in page.forms if form.action.endswith("/mark")]:
        browser.submit(form, kind="done")
    assert ehr.cards() == []


def test_no_answer_holds_a_name_and_a_card_is_in_the_trail(ehr):
    answer = ehr.ask()
    named = of_patients(ehr.world) - {READY}
    assert not [word for word in named if word in answer.text]
    (entry,) = [one for one in ehr.world.store.audit.entries() if one["event"] == "cds-card-given"]
    assert (entry["patient"], entry["user"]) == (READY, PHYSICIAN)


# Who is answered


@pytest.mark.threat("5.17")
@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://another.example/cds"},
        {"iss": None},
        {"aud": "https://another.example/cds-services/remote-monitoring"},
        {"aud": None},
        {"exp": 1},
        {"exp": None},
        {"exp": 4102444800},
        {"iat": None},
        {"iat": 4102444800},
        {"nbf": 4102444800},
        {"nbf": "later"},
        {"jti": None},
        {"jti": ""},
    ],
    ids=str,
)
def test_a_token_that_is_not_ours_for_now_gets_a_bare_401(ehr, claims):
    answer = ehr.ask(token=ehr.signed(**claims))
    assert (answer.status_code, answer.content) == (401, b"")


def test_one_of_several_audiences_may_be_ours(ehr):
    assert ehr.ask(token=ehr.signed(aud=["https://other.example", ehr.address])).status_code == 200


@pytest.mark.threat("5.17")
@pytest.mark.parametrize(
    "key",
    [OTHER_KEY, OctKey.import_key(b"x" * 48), RSAKey.generate_key(2048)],
    ids=["same name", "HMAC", "RSA"],
)
def test_a_token_of_another_key_is_refused_whatever_it_calls_itself(ehr, key):
    ehr.key = key
    assert ehr.ask().status_code == 401


@pytest.mark.threat("5.17")
@pytest.mark.parametrize("kid", ["elsewhere", str(EHR_KEY.kid)], ids=["new", "known"])
def test_where_a_token_says_its_keys_lie_is_never_asked(ehr, keys_elsewhere, kid):
    ehr.key = OTHER_KEY
    for header in ({"jku": keys_elsewhere.address}, {"jwk": OTHER_KEY.as_dict(private=False)}):
        ehr.header = {**header, "kid": kid}
        assert ehr.ask().status_code == 401
    assert keys_elsewhere.asked == []


@pytest.mark.threat("5.17")
@pytest.mark.parametrize("sent", ["", "Basic eDp5", "Bearer", "Bearer x", "Bearer a.b.c"])
def test_without_a_signed_token_there_is_no_answer(ehr, sent):
    answer = requests.post(ehr.address, json=ehr.call(), headers={"Authorization": sent}, timeout=30)
    assert (answer.status_code, answer.content) == (401, b"")


@pytest.mark.threat("5.17")
def test_a_token_is_good_once(ehr):
    token = ehr.signed()
    assert ehr.ask(token=token).status_code == 200
    assert ehr.ask(token=token).status_code == 401


@pytest.mark.threat("5.17")
@pytest.mark.parametrize("server", [None, "https://elsewhere.example/fhir", "http://127.0.0.1:1/fhir/r4"])
def test_the_server_must_be_the_ehr_whose_key_signed(ehr, server):
    assert ehr.ask(ehr.call(fhirServer=server)).status_code == 403


@pytest.mark.threat("5.17")
def test_one_ehrs_key_opens_nothing_of_another_ehr(make_ehr):
    other = '\n[issuers.other]\nfhir_base = "http://127.0.0.1:9/fhir"\nclient_id = "x"\nprofile = "sandbox"\n'
    ehr = make_ehr(more="issuer: other", issuer_more=other)
    assert ehr.ask().status_code == 403


@pytest.mark.threat("5.17")
def test_a_card_is_given_only_where_the_requests_own_token_reads_the_patient(ehr):
    assert ehr.cards()
    good = ehr.call()["fhirAuthorization"]
    for token in (
        None,
        good | {"access_token": "made-up"},
        good | {"access_token": ehr.token("nothing")},
        good | {"token_type": "mac"},
        good | {"patient": "nothing"},
    ):
        assert ehr.cards(ehr.call(fhirAuthorization=token)) == []
    ehr.world.ehr.sandbox.quirks.closed_charts = f"{NURSE}:{READY}"
    nurses = good | {"access_token": ehr.token(READY, NURSE)}
    assert ehr.cards(ehr.call(fhirAuthorization=nurses)) == []
    assert ehr.cards(), "a colleague may"


def test_an_ehr_that_does_not_answer_makes_no_card_and_no_fault(ehr):
    call = ehr.call()
    ehr.world.ehr.close()
    assert ehr.cards(call) == []


@pytest.mark.threat("5.17")
def test_an_ehr_asks_as_often_as_the_site_says(make_ehr):
    ehr = make_ehr(more="requests_per_minute: 3")
    assert [ehr.ask().status_code for _ in range(4)] == [200, 200, 200, 429]


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b'{"hook": "patient-view"}', b"\xff", b'{"x":' * 5000], ids=range(6)
)
def test_what_is_no_request_is_told_without_a_word(ehr, body):
    headers = {"Authorization": f"Bearer {ehr.signed()}", "Content-Type": "application/json"}
    answer = requests.post(ehr.address, data=body, headers=headers, timeout=30)
    assert (answer.status_code, answer.content) == (400, b"")


@pytest.mark.parametrize(
    "more",
    [
        {"hook": "order-sign"},
        {"context": {"userId": PHYSICIAN, "patientId": "../Practitioner/1"}},
        {"context": {"userId": PHYSICIAN, "patientId": "a b"}},
        {"context": {}},
    ],
    ids=str,
)
def test_another_hook_or_an_odd_id_is_not_looked_for(ehr, more):
    assert ehr.ask(ehr.call() | more).status_code == 400


@pytest.mark.threat("5.17")
def test_without_a_site_that_names_an_ehr_there_is_nothing_here(world):
    ehr = Ehr(world)
    assert requests.get(ehr.services, timeout=30).status_code == 404
    assert ehr.ask().status_code == 404


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ([EHR_KEY.as_dict(private=True)], "private key"),
        ([{"kty": "RSA"}], "no JWK Set"),
        ([OctKey.import_key(b"x" * 32).as_dict(private=True)], "no JWK Set"),
    ],
    ids=["private", "broken", "shared secret"],
)
def test_the_app_does_not_start_with_keys_that_prove_nothing(make_ehr, keys, said):
    with pytest.raises(ConfigurationError, match=said):
        make_ehr(keys=keys)


@pytest.mark.threat("5.13")
def test_nothing_of_the_patient_is_in_a_log(ehr, caplog):
    caplog.set_level("DEBUG")
    ehr.cards()
    ehr.ask(ehr.call(fhirServer="https://elsewhere.example/fhir"))
    ehr.ask(token=ehr.signed(exp=1))
    logged = [
        f"{record.name} {record.getMessage()} {getattr(record, 'facts', '')}"
        for record in caplog.records
        if record.name.startswith("smartapp")
    ]
    assert any("cds request answered: a card" in line for line in logged)
    assert [line for line in logged for word in of_patients(ehr.world) if word in line] == []


def test_of_a_card_nothing_is_asked_but_the_one_patient(ehr):
    call = ehr.call()
    asked = len(ehr.requests)
    assert ehr.cards(call)
    assert ehr.requests[asked:] == [f"GET /fhir/r4/Patient/{READY}"]


# The sandbox asks too


def test_in_the_sandbox_a_chart_shows_the_card_and_its_button_opens_the_app(
    make_world, tmp_path, charts, browser
):
    (tmp_path / "cds-keys.json").write_bytes(msgspec.json.encode(sandbox_key().jwks()))
    port = free_port()
    site = SITE.format(name=cds_issuer(f"http://localhost:{port}"), more="requests_per_minute: 9")
    world = make_world(site_more=site, ehr={"port": port})
    swept_sandbox(tmp_path / "state", charts, DAY, keys=world.settings.keys)
    object.__setattr__(world.ehr.config, "cds_url", f"{world.settings.base_url}/cds-services")
    chart = browser.get(f"{world.ehr.base_url}/charts/{READY}")
    assert "Remote monitoring: can be charged now" in chart.text
    page = world.read(browser, browser.submit(chart.form("/launch"), mode="tab"))
    assert page.status == 200
    assert "can be charged" in page.text
    assert "No card." in browser.get(f"{world.ehr.base_url}/charts/nothing").text
