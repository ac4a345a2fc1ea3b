"""A small EHR that answers, lies or attacks as a test tells it, over HTTP on loopback; a store in memory."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

from launch.authorization import Callback, Launcher, LaunchRequest, OpenedLaunch
from launch.discovery import Discovery
from launch.http import EhrClient, EhrClients
from launch.identity import IdentityVerifier
from launch.issuers import Issuer
from launch.issuers_table import load_issuers
from launch.ports import LaunchSession, PendingAbsence, PendingLaunch, SessionEnd, TokenSet
from launch.tokens import TokenKeeper


@dataclass
class Request:
    """One request as the fake EHR received it."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def form(self) -> dict[str, str]:
        return dict(parse_qsl(self.body.decode(), keep_blank_values=True))


@dataclass
class Answer:
    """What the fake EHR sends back. `raw` replaces everything after the request: a hand on the socket."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    raw: Callable[[BaseHTTPRequestHandler], None] | None = None


Route = Callable[[Request], Answer]


class FakeEhr:
    """Routes by path; every test may replace any of them."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.connections: set[tuple[str, int]] = set()
        self.routes: dict[str, Route] = {}
        ehr = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # else every answer waits 40 ms for an acknowledgement

            def _handle(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                headers = {name.lower(): value for name, value in self.headers.items()}
                request = Request(self.command, self.path, headers, self.rfile.read(length))
                ehr.requests.append(request)
                ehr.connections.add(self.client_address)
                route = ehr.routes.get(urlsplit(self.path).path)
                answer = route(request) if route else Answer(404, {"resourceType": "OperationOutcome"})
                if answer.raw:
                    answer.raw(self)
                    return
                body = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
                self.send_response(answer.status)
                sent = {
                    "Content-Type": "application/json",
                    "Content-Length": str(len(body)),
                    **answer.headers,
                }
                for name, value in sent.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = do_PUT = _handle  # noqa: N815 - the names http.server calls

            def log_message(self, *_: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        self.origin = f"http://127.0.0.1:{self._server.server_port}"
        self.port = self._server.server_port
        self.base = f"{self.origin}/fhir"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, path: str, body: Any = None, status: int = 200, **headers: str) -> None:
        """Always give this answer at `path`."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        self.routes[path] = lambda _: Answer(status, body, sent)

    def to(self, path: str) -> list[Request]:
        """The requests that came to `path`."""
        return [request for request in self.requests if urlsplit(request.path).path == path]


class AuthorizationServer:
    """The fake EHR's SMART side. A test changes `token`, `claims`, `header` or `key` to lie."""

    client_id = "remote-monitoring"

    def __init__(self, ehr: FakeEhr, clock: FakeClock) -> None:
        self.ehr = ehr
        self.clock = clock
        self.issuer = f"{ehr.origin}/auth"
        self.key = _rsa_key()
        self.header: dict[str, Any] = {"alg": "RS256", "kid": "k1"}
        self.claims: dict[str, Any] = {}
        self.token: dict[str, Any] = {}
        self.refreshed: dict[str, Any] = {}
        self.jwks: dict[str, Any] = {"keys": [{**self.key.as_dict(private=False), "kid": "k1"}]}
        self.nonce = ""
        self.configuration: dict[str, Any] = {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/jwks",
            "revocation_endpoint": f"{self.issuer}/revoke",
            "capabilities": ["launch-ehr", "permission-v2", "sso-openid-connect"],
            "code_challenge_methods_supported": ["S256"],
        }
        ehr.routes["/fhir/.well-known/smart-configuration"] = lambda _: Answer(body=self.configuration)
        ehr.routes["/auth/jwks"] = lambda _: Answer(body=self.jwks)
        ehr.routes["/auth/token"] = self._token
        ehr.routes["/auth/revoke"] = lambda _: Answer(body={})

    def id_token(self) -> str:
        now = int(self.clock.now().timestamp())
        claims = {
            "iss": self.issuer,
            "sub": "user-7",
            "aud": self.client_id,
            "iat": now,
            "exp": now + 300,
            "nonce": self.nonce,
            "fhirUser": f"{self.ehr.base}/Practitioner/7",
            **self.claims,
        }
        claims = {name: value for name, value in claims.items() if value is not None}
        return jwt.encode(self.header, claims, self.key, algorithms=[self.header["alg"]])

    def _token(self, request: Request) -> Answer:
        if request.form["grant_type"] == "refresh_token":
            number = len([one for one in self.ehr.to("/auth/token") if "refresh_token" in one.form])
            refreshed = {
                "access_token": f"access-{number + 1}",
                "token_type": "Bearer",
                "expires_in": 300,
                **self.refreshed,
            }
            return Answer(400 if "error" in refreshed else 200, _without_none(refreshed))
        token = {
            "access_token": "access-1",
            "token_type": "Bearer",
            "expires_in": 300,
            "refresh_token": "refresh-1",
            "scope": "launch openid fhirUser patient/Observation.rs",
            "patient": "p1",
            "id_token": self.id_token(),
            **self.token,
        }
        return Answer(400 if "error" in token else 200, _without_none(token))


def _without_none(document: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if value is not None}


_KEYS: list[RSAKey] = []


def _rsa_key() -> RSAKey:
    if not _KEYS:
        _KEYS.append(RSAKey.generate_key(2048))
    return _KEYS[0]


class FakeClock:
    """A clock a test turns."""

    def __init__(self) -> None:
        self.time = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)

    def now(self) -> datetime:
        return self.time

    def forward(self, **span: float) -> None:
        self.time += timedelta(**span)


class RecordedEvents:
    """Remembers what was emitted."""

    def __init__(self) -> None:
        self.all: list[tuple[str, dict[str, Any]]] = []

    def emit(self, name: str, **facts: str | int | float | bool | None) -> None:
        self.all.append((name, facts))

    def names(self) -> list[str]:
        return [name for name, _ in self.all]


class MemoryStore:
    """LaunchStore in memory: the protocol's promises under one lock."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self.pending: dict[str, PendingLaunch | None] = {}
        self.sessions: dict[str, LaunchSession] = {}
        self.tokens: dict[str, TokenSet] = {}
        self.leases: dict[str, tuple[str, datetime]] = {}

    def save_pending(self, pending: PendingLaunch) -> None:
        with self._lock:
            self.pending[pending.state_digest] = pending

    def take_pending(self, state_digest: str) -> PendingLaunch | PendingAbsence:
        with self._lock:
            if state_digest not in self.pending:
                return PendingAbsence.UNKNOWN
            taken, self.pending[state_digest] = self.pending[state_digest], None
            return taken or PendingAbsence.REPLAYED

    def create_session(self, session: LaunchSession, tokens: TokenSet) -> None:
        with self._lock:
            self.sessions[session.id], self.tokens[session.id] = session, tokens

    def get_session(self, session_id: str) -> LaunchSession | None:
        return self.sessions.get(session_id)

    def touch_session(self, session_id: str, at: datetime) -> None:
        with self._lock:
            session = self.sessions[session_id]
            self.sessions[session_id] = replace(session, last_seen=max(at, session.last_seen))

    def end_session(self, session_id: str, at: datetime, because: SessionEnd) -> bool:
        with self._lock:
            session = self.sessions.get(session_id)
            if session is None or session.ended_at is not None:
                return False
            self.sessions[session_id] = replace(session, ended_at=at, ended_because=because)
            self.tokens.pop(session_id, None)
            return True

    def get_tokens(self, session_id: str) -> TokenSet | None:
        return self.tokens.get(session_id)

    def token_version(self, session_id: str) -> int | None:
        tokens = self.tokens.get(session_id)
        return None if tokens is None else tokens.version

    def replace_tokens(self, session_id: str, tokens: TokenSet, expected_version: int) -> bool:
        with self._lock:
            present = self.tokens.get(session_id)
            if present is None or present.version != expected_version:
                return False
            self.tokens[session_id] = tokens
            return True

    def acquire_refresh_lease(self, session_id: str, holder: str, now: datetime, ttl: timedelta) -> bool:
        with self._lock:
            held = self.leases.get(session_id)
            if held and held[1] > now:
                return False
            self.leases[session_id] = (holder, now + ttl)
            return True

    def release_refresh_lease(self, session_id: str, holder: str) -> None:
        with self._lock:
            if self.leases.get(session_id, ("", None))[0] == holder:
                del self.leases[session_id]

    def purge(self, now: datetime, keep_ended: timedelta) -> int:
        return 0


class Door:
    """Everything wired together against one fake EHR, and a browser that does as it is told."""

    app_url = "https://app.example"

    def __init__(self, ehr: FakeEhr, server: AuthorizationServer, clock: FakeClock) -> None:
        self.ehr, self.server, self.clock = ehr, server, clock
        self.store, self.events = MemoryStore(), RecordedEvents()
        self.configure({})

    def configure(self, settings: dict[str, Any], secrets: dict[str, str] | None = None) -> None:
        """Wire anew with these settings of the issuer."""
        table = {"fhir_base": self.ehr.base, "client_id": self.server.client_id, **settings}
        self.issuers = load_issuers({"hospital": table}, secrets, loopback=True)
        self.clients = EhrClients()
        self.discovery = Discovery(self.clock, self.events)
        self.launcher = Launcher(
            self.issuers,
            self.clients,
            self.discovery,
            IdentityVerifier(self.clock),
            self.store,
            self.clock,
            self.events,
            app_url=self.app_url,
        )
        self.keeper = TokenKeeper(
            self.issuers, self.clients, self.discovery, self.store, self.clock, self.events
        )

    @property
    def issuer(self) -> Issuer:
        return self.issuers.match(self.ehr.base)

    @property
    def client(self) -> EhrClient:
        return self.clients.of(self.issuer)

    def begin(
        self, iss: str | None = None, launch: str | None = "xyz", *, without_patient: bool = False
    ) -> dict[str, str]:
        """Begin; the authorization request's parameters, the cookie remembered."""
        self.request = self.launcher.begin(LaunchRequest(iss or self.ehr.base, launch, without_patient))
        query = parse_qs(urlsplit(self.request.url).query, strict_parsing=True)
        assert all(len(values) == 1 for values in query.values())
        sent = {name: values[0] for name, values in query.items()}
        self.server.nonce = sent["nonce"]
        return sent

    def finish(self, path: str = "/callback/hospital", **callback: str) -> OpenedLaunch:
        """Come back with these parameters and the cookie."""
        return self.launcher.finish(
            Callback.parse(callback.items()), cookie_value=self.request.cookie_value, path=path
        )

    def open(self, *, without_patient: bool = False) -> OpenedLaunch:
        """The whole way."""
        return self.finish(state=self.begin(without_patient=without_patient)["state"], code="code-1")


@pytest.fixture
def ehr() -> Iterator[FakeEhr]:
    server = FakeEhr()
    yield server
    server.close()


@pytest.fixture
def other_host() -> Iterator[FakeEhr]:
    server = FakeEhr()
    yield server
    server.close()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def server(ehr: FakeEhr, clock: FakeClock) -> AuthorizationServer:
    return AuthorizationServer(ehr, clock)


@pytest.fixture
def door(ehr: FakeEhr, server: AuthorizationServer, clock: FakeClock) -> Iterator[Door]:
    wired = Door(ehr, server, clock)
    yield wired
    wired.clients.close()


@pytest.fixture(scope="session")
def rsa_pem() -> str:
    return RSAKey.generate_key(2048).as_pem(private=True).decode()


@pytest.fixture(scope="session")
def p384_pem() -> str:
    return ECKey.generate_key("P-384").as_pem(private=True).decode()
