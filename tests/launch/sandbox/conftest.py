"""A sandbox on a real loopback port, and a client of plain HTTP requests: none of our own client code."""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from collections.abc import Callable, Iterator
from datetime import date
from html import unescape
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

from launch.sandbox import Client, ClientType, RunningSandbox, serve_sandbox

AS_OF = date(2026, 4, 1)
REDIRECT = "http://127.0.0.1:9/callback"
SECRET = "a-url-safe-secret-of-a-test"
SCOPE = "launch openid fhirUser online_access patient/*.rs patient/ChargeItem.crus patient/Provenance.crs"
RSA_KEY = RSAKey.generate_key(2048, {"use": "sig"}, auto_kid=True)
EC_KEY = ECKey.generate_key("P-384", {"use": "sig", "alg": "ES384"}, auto_kid=True)

APPS = (
    Client("public-app", redirect_uris=(REDIRECT,)),
    Client("secret-app", ClientType.SYMMETRIC, (REDIRECT,), client_secret=SECRET),
    Client(
        "key-app",
        ClientType.ASYMMETRIC,
        (REDIRECT,),
        jwks={"keys": [RSA_KEY.as_dict(private=False), EC_KEY.as_dict(private=False)]},
    ),
)
BACKEND = Client(
    "auditor",
    ClientType.SYMMETRIC,
    client_secret=SECRET,
    scope="system/*.cruds",
    grant_types=("client_credentials",),
)


class Ehr:
    """What a tester does by hand with curl: launch, authorize, token, FHIR."""

    def __init__(self, running: RunningSandbox) -> None:
        self.running = running
        self.sandbox = running.sandbox
        self.base = running.config.fhir_base
        self.issuer = running.config.issuer
        self.http = requests.Session()

    def launch_token(self, patient: str = "ready-musculoskeletal", **form: str) -> str:
        """The `launch` value that the launch page hands to the app."""
        form = {"patient": patient, "user": "Practitioner/syn-physician", "mode": "tab", **form}
        answer = self.http.post(f"{self.running.base_url}/launch", data=form, allow_redirects=False)
        assert answer.status_code == 303, answer.text
        return parse_qs(urlsplit(answer.headers["Location"]).query)["launch"][0]

    def request(self, verifier: str, client: str = "public-app", **changes: str | None) -> dict[str, str]:
        """The parameters of a correct authorization request; ``changes`` replace or (None) remove some."""
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        parameters: dict[str, str | None] = {
            "response_type": "code",
            "client_id": client,
            "redirect_uri": REDIRECT,
            "scope": SCOPE,
            "state": "a-state",
            "aud": self.base,
            "nonce": "a-nonce",
            "code_challenge": challenge,
            "code_challenge_method": "S256",
            **changes,
        }
        return {name: value for name, value in parameters.items() if value is not None}

    def authorize(self, parameters: dict[str, str], post: bool = False) -> requests.Response:
        address = f"{self.issuer}/authorize"
        if post:
            return self.http.post(address, data=parameters, allow_redirects=False)
        return self.http.get(address, params=parameters, allow_redirects=False)

    def code(self, verifier: str, patient: str = "ready-musculoskeletal", **changes: str | None) -> str:
        """An authorization code of an EHR launch."""
        client = changes.get("client") or "public-app"
        changes.setdefault("launch", self.launch_token(patient, client=client))
        answer = self.authorize(self.request(verifier, **changes))
        assert answer.status_code == 302, answer.text
        return parse_qs(urlsplit(answer.headers["Location"]).query)["code"][0]

    def exchange(
        self, code: str, verifier: str, client: str = "public-app", **changes: str | None
    ) -> requests.Response:
        """The token request of a client that authenticates as it is registered."""
        form: dict[str, str | None] = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": REDIRECT,
            "code_verifier": verifier,
        }
        return self.token_request(client, {**form, **changes})

    def token_request(self, client: str, form: dict[str, str | None]) -> requests.Response:
        auth = None
        if client == "public-app":
            form = {"client_id": client, **form}
        elif client == "key-app":
            form = {**self.assertion_fields(client), **form}
        else:
            auth = (client, SECRET)
        data = {name: value for name, value in form.items() if value is not None}
        return self.http.post(f"{self.issuer}/token", data=data, auth=auth)

    def assertion_fields(self, client: str) -> dict[str, str | None]:
        return {
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            "client_assertion": self.assertion(client),
        }

    def assertion(self, client: str, key: Any = EC_KEY, alg: str = "ES384", **claims: Any) -> str:
        now = int(self.running.config.clock())
        whole = {
            "iss": client,
            "sub": client,
            "aud": f"{self.issuer}/token",
            "iat": now,
            "exp": now + 240,
            "jti": secrets.token_hex(8),
            **claims,
        }
        header = {"alg": alg, "typ": "JWT", "kid": key.kid}
        return jwt.encode(header, whole, key, algorithms=[alg])

    def launched(self, patient: str = "ready-musculoskeletal", **changes: str | None) -> dict[str, Any]:
        """The token answer of a whole EHR launch as the public app."""
        verifier = secrets.token_urlsafe(40)
        answer = self.exchange(self.code(verifier, patient, **changes), verifier)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def backend_token(self, scope: str = "system/*.cruds") -> str:
        answer = self.token_request("auditor", {"grant_type": "client_credentials", "scope": scope})
        assert answer.status_code == 200, answer.text
        return answer.json()["access_token"]

    def fhir(self, method: str, path: str, token: str | None, **other: Any) -> requests.Response:
        """A FHIR request; ``path`` is relative to the base or absolute."""
        headers = {"Accept": "application/fhir+json", **other.pop("headers", {})}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        if "json" in other:
            headers.setdefault("Content-Type", "application/fhir+json")
        address = path if path.startswith("http") else f"{self.base}/{path}"
        return self.http.request(method, address, headers=headers, **other)

    def hidden_fields(self, page: str) -> dict[str, str]:
        """The hidden inputs of a page's form."""
        found = re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)"', page)
        return {unescape(name): unescape(value) for name, value in found}


def charge(patient: str = "ready-musculoskeletal", key: str | None = None, **changes: Any) -> dict[str, Any]:
    """A ChargeItem that the EHR takes."""
    resource = {
        "resourceType": "ChargeItem",
        "identifier": [{"system": "urn:test:charge", "value": key or secrets.token_hex(8)}],
        "status": "planned",
        "code": {"coding": [{"system": "http://www.ama-assn.org/go/cpt", "code": "98977"}]},
        "subject": {"reference": f"Patient/{patient}"},
        "occurrencePeriod": {"start": "2026-03-02", "end": "2026-03-31"},
        "quantity": {"value": 1},
        **changes,
    }
    return {name: value for name, value in resource.items() if value is not None}


@pytest.fixture(scope="session")
def new_charge() -> Callable[..., dict[str, Any]]:
    return charge


@pytest.fixture
def make_ehr() -> Iterator[Callable[..., Ehr]]:
    """Sandboxes of a test's own; settings are those of SandboxConfig."""
    running: list[RunningSandbox] = []

    def make(**settings: Any) -> Ehr:
        settings = {
            "clients": (*APPS, BACKEND),
            "launch_url": "http://127.0.0.1:9/launch",
            "as_of": AS_OF,
            "readings": 200,
            **settings,
        }
        running.append(serve_sandbox(**settings).start())
        return Ehr(running[-1])

    yield make
    for one in running:
        one.close()


@pytest.fixture(scope="module")
def ehr() -> Iterator[Ehr]:
    """One sandbox for the tests of a module that leave no trace others would see."""
    with serve_sandbox(
        clients=(*APPS, BACKEND), launch_url="http://127.0.0.1:9/launch", as_of=AS_OF, readings=200
    ).start() as running:
        yield Ehr(running)


@pytest.fixture
def rsa_key() -> RSAKey:
    return RSA_KEY


@pytest.fixture
def ec_key() -> ECKey:
    return EC_KEY
