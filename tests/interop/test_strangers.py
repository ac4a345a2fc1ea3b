"""Two strangers judge: HL7's JavaScript client our sandbox, and a certified OpenID provider our client.

Both come from npm (`make interop-servers`).
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urljoin, urlsplit

import pytest
import requests
from joserfc.jwk import ECKey, RSAKey

from launch.authorization import Callback, Launcher, LaunchRequest, OpenedLaunch
from launch.discovery import Discovery
from launch.errors import LaunchError, LaunchReason
from launch.http import EhrClients
from launch.identity import IdentityVerifier
from launch.issuers_table import load_issuers
from launch.sandbox import Client, serve_sandbox
from launch.tokens import SessionClient, TokenKeeper
from tests.launch.conftest import MemoryStore, RecordedEvents

HERE = Path(__file__).parent
NODE = shutil.which("node")
READY = NODE is not None and (HERE / "node_modules" / "oidc-provider").is_dir()

pytestmark = pytest.mark.interop


@dataclass
class RealClock:
    """The present, and a way to be late."""

    late: timedelta = timedelta()

    def now(self) -> datetime:
        return datetime.now(UTC) + self.late


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


@pytest.fixture
def stranger() -> Iterator[Callable[..., str]]:
    """Starts one of the scripts beside this file; its origin, once it says that it is ready."""
    running: list[subprocess.Popen[str]] = []

    def start(script: str, *arguments: str) -> str:
        assert READY, "the strangers are not installed: make interop-servers"
        port = free_port()
        process = subprocess.Popen(
            [str(NODE), script, str(port), *arguments],
            cwd=HERE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        running.append(process)
        assert process.stdout is not None
        assert any(line.strip() == "ready" for line in process.stdout), f"{script} did not start"
        return f"http://127.0.0.1:{port}"

    yield start
    for process in running:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


# -- HL7's JavaScript client against our sandbox ----------------------------------------------------------


def test_the_javascript_client_launches_against_our_sandbox_reads_and_refreshes(
    stranger: Callable[..., str],
) -> None:
    scope = "launch openid fhirUser online_access patient/Patient.r patient/Observation.rs"
    app = stranger("fhirclient_app.mjs", "js-app", scope)
    with (
        serve_sandbox(
            clients=(Client("js-app", redirect_uris=(f"{app}/app",)),),
            launch_url=f"{app}/launch",
            as_of=date(2026, 4, 1),
        ).start() as sandbox,
        requests.Session() as browser,
    ):
        chosen = {"patient": "ready-musculoskeletal", "user": "Practitioner/syn-physician", "mode": "tab"}
        answer = browser.post(f"{sandbox.base_url}/launch", data=chosen, timeout=20)
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert told["patient"] == "ready-musculoskeletal"
    assert told["observations"] == 5
    assert told["user"].endswith("Practitioner/syn-physician")
    assert set(told["scope"].split()) == set(scope.split())
    assert told["refreshed"] is True


# -- our client against a certified provider --------------------------------------------------------------

SCOPES = "openid fhirUser launch online_access patient/Patient.rs patient/Observation.rs"
RSA_KEY = RSAKey.generate_key(2048, {"use": "sig", "alg": "RS384", "kid": "rsa-1"})
EC_KEY = ECKey.generate_key("P-384", {"use": "sig", "alg": "ES384", "kid": "ec-1"})


class Registered:
    """Our client as one provider knows it: everything wired with a store in memory."""

    app_url = "http://127.0.0.1:9"

    def __init__(self, origin: str, settings: dict[str, Any], secrets: dict[str, str]) -> None:
        self.clock, self.store, events = RealClock(), MemoryStore(), RecordedEvents()
        self.base = f"{origin}/fhir"
        issuers = load_issuers({"provider": {"fhir_base": self.base, **settings}}, secrets, loopback=True)
        self.clients, discovery = EhrClients(), Discovery(self.clock, events)
        self.launcher = Launcher(
            issuers,
            self.clients,
            discovery,
            IdentityVerifier(self.clock),
            self.store,
            self.clock,
            events,
            app_url=self.app_url,
        )
        self.keeper = TokenKeeper(issuers, self.clients, discovery, self.store, self.clock, events)
        self.issuer = issuers.match(self.base)

    def launch(self, launch: str = "launch-of-syn-1") -> OpenedLaunch:
        """Begin, sign in and consent as a person would, and come back."""
        asked = self.launcher.begin(LaunchRequest.parse([("iss", self.base), ("launch", launch)]))
        with requests.Session() as browser:
            back = sign_in(browser, asked.url, self.app_url)
        parts = urlsplit(back)
        callback = Callback.parse(parse_qsl(parts.query))
        return self.launcher.finish(callback, cookie_value=asked.cookie_value, path=parts.path)

    def read(self, opened: OpenedLaunch, target: str) -> int:
        client = SessionClient(self.clients.of(self.issuer), self.keeper, opened.session.id)
        return client.fhir("GET", target).status


def sign_in(browser: requests.Session, url: str, app_url: str) -> str:
    """Follow redirects and fill in the provider's forms until it sends the browser back to the app."""
    answer = browser.get(url, allow_redirects=False, timeout=20)
    for _ in range(12):
        if answer.is_redirect:
            following = urljoin(answer.url, answer.headers["Location"])
            if following.startswith(app_url):
                return following
            answer = browser.get(following, allow_redirects=False, timeout=20)
            continue
        assert answer.status_code == 200, answer.text
        action = unescape(answer.text.split('action="', 1)[1].split('"', 1)[0])
        prompt = "login" if 'value="login"' in answer.text else "consent"
        form = {"prompt": prompt, "login": "physician-7", "password": "synthetic"}
        answer = browser.post(urljoin(answer.url, action), data=form, allow_redirects=False, timeout=20)
    raise AssertionError("the provider never sent the browser back")


def registration(client_id: str, **more: Any) -> dict[str, Any]:
    return {
        "client_id": client_id,
        "redirect_uris": [f"{Registered.app_url}/callback/provider"],
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "scope": SCOPES,
        **more,
    }


CLIENTS = {
    "public": registration("public-app", token_endpoint_auth_method="none"),
    "basic": registration("basic-app", client_secret="a-secret-of-a-test"),
    "post": registration(
        "post-app",
        client_secret="a-secret-of-a-test",
        token_endpoint_auth_method="client_secret_post",
    ),
    "RS384": registration(
        "rsa-app",
        token_endpoint_auth_method="private_key_jwt",
        token_endpoint_auth_signing_alg="RS384",
        jwks={"keys": [RSA_KEY.as_dict(private=False)]},
    ),
    "ES384": registration(
        "ec-app",
        token_endpoint_auth_method="private_key_jwt",
        token_endpoint_auth_signing_alg="ES384",
        jwks={"keys": [EC_KEY.as_dict(private=False)]},
    ),
}
SECRETS = {
    "SECRET": "a-secret-of-a-test",
    "RSA": RSA_KEY.as_pem(private=True).decode(),
    "EC": EC_KEY.as_pem(private=True).decode(),
}
SETTINGS: dict[str, dict[str, Any]] = {
    "public": {"client_id": "public-app"},
    "basic": {"client_id": "basic-app", "client_auth": "secret-basic", "client_secret": "SECRET"},
    "post": {"client_id": "post-app", "client_auth": "secret-post", "client_secret": "SECRET"},
    "RS384": {
        "client_id": "rsa-app",
        "client_auth": "private-key-jwt",
        "signing_key": "RSA",
        "signing_key_id": "rsa-1",
        "signing_algorithm": "RS384",
    },
    "ES384": {
        "client_id": "ec-app",
        "client_auth": "private-key-jwt",
        "signing_key": "EC",
        "signing_key_id": "ec-1",
        "signing_algorithm": "ES384",
    },
}


@pytest.fixture
def provider(stranger: Callable[..., str], tmp_path: Path) -> str:
    clients = tmp_path / "clients.json"
    clients.write_text(json.dumps(list(CLIENTS.values())))
    return stranger("oidc_provider.mjs", str(clients))


@pytest.mark.parametrize("kind", list(SETTINGS))
def test_our_client_launches_reads_and_refreshes_against_a_certified_provider(
    provider: str, kind: str
) -> None:
    app = Registered(provider, SETTINGS[kind], SECRETS)
    opened = app.launch()
    assert opened.session.patient == "syn-1"
    assert opened.session.fhir_user == "Practitioner/physician-7"
    assert opened.session.need_patient_banner is True
    assert app.read(opened, "Patient/syn-1") == 200
    before = app.store.tokens[opened.session.id]
    app.clock.late = timedelta(hours=1)
    renewed = app.keeper.access_token(opened.session.id)
    after = app.store.tokens[opened.session.id]
    assert renewed != before.access_token
    assert after.refresh_token != before.refresh_token
    assert app.read(opened, "Patient/syn-1") == 200
    app.keeper.log_out(opened.session.id)
    assert opened.session.id not in app.store.tokens


def test_a_key_the_provider_does_not_know_is_refused(provider: str) -> None:
    stranger_key = ECKey.generate_key("P-384", {"kid": "ec-1"})
    secrets = {**SECRETS, "EC": stranger_key.as_pem(private=True).decode()}
    with pytest.raises(LaunchError) as refused:
        Registered(provider, SETTINGS["ES384"], secrets).launch()
    assert refused.value.reason is LaunchReason.TOKEN_REFUSED
    assert refused.value.ehr_code == "invalid_client"


def test_a_wrong_secret_is_refused(provider: str) -> None:
    with pytest.raises(LaunchError) as refused:
        Registered(provider, SETTINGS["basic"], {**SECRETS, "SECRET": "another-secret"}).launch()
    assert refused.value.ehr_code == "invalid_client"
