"""A SMART front before another FHIR server: the sandbox signs in and grants, the other one holds the records.

What the app sends under the sandbox's FHIR base goes to the other server under the same path and name, so
that the links it makes lead back here. Between both stands at most one `Oddity`: what some EHR would do. Of a
batch each entry meets it by itself, as in the EHR that has it.
"""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import requests
from werkzeug.wrappers import Request, Response

from launch.sandbox import RunningSandbox
from launch.sandbox.credentials import CredentialKind

Forward = Callable[[Request], Response]
Oddity = Callable[[Request, Forward], Response]

_OF_THE_CONNECTION = {"connection", "transfer-encoding", "content-encoding", "content-length", "keep-alive"}
_ASKED = (
    "Accept",
    "Content-Type",
    "If-None-Exist",
    "If-Match",
    "If-None-Match",
    "Prefer",
    "Cache-Control",
    "Host",
)


@dataclass
class Front:
    """Stands before the sandbox's application from the moment it is made."""

    ehr: RunningSandbox
    origin: str
    """Scheme, host and port of the other server."""
    oddity: Oddity | None = None
    batches: bool = False
    """Whether the other server is said to take batches, which it may do without declaring it (HAPI does)."""
    asked: list[str] = field(default_factory=list)
    """Method and path with query of every FHIR request, in their order."""
    _sandbox: Any = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._sandbox = self.ehr._server.application
        self._base = urlsplit(self.ehr.config.fhir_base).path
        self.ehr._server.application = self

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        request = Request(environ)
        if not f"{request.path}/".startswith(f"{self._base}/") or "/.well-known/" in request.path:
            return self._sandbox(environ, start_response)
        with self._lock:
            self.asked.append(f"{request.method} {request.full_path.removeprefix(self._base).rstrip('?')}")
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        known = self.ehr.sandbox.credentials.live(CredentialKind.ACCESS, token) is not None
        if not known and not request.path.endswith("/metadata"):
            answer = Response(status=401)
        else:
            answer = self._batch(request) if _is_batch(request) else self._answer(request)
        return answer(environ, start_response)

    def _answer(self, request: Request) -> Response:
        answer = self._forward(request) if self.oddity is None else self.oddity(request, self._forward)
        if self.batches and request.path.endswith("/metadata"):
            statement = json.loads(answer.get_data())
            statement["rest"][0].setdefault("interaction", []).append({"code": "batch"})
            answer.set_data(json.dumps(statement))
        return answer

    def _batch(self, request: Request) -> Response:
        """The other server's own answer, or one entry after the other where an oddity stands between: what
        came as no JSON makes the whole answer none."""
        if self.oddity is None:
            return self._forward(request)

        def entry(asked: dict[str, Any]) -> bytes:
            path, _, query = asked["request"]["url"].partition("?")
            one = rewritten(request, asked["request"]["method"], f"{self._base}/{path}", query, b"")
            answer = self._answer(one)
            status = json.dumps(answer.status).encode()
            return b'{"response":{"status":%s},"resource":%s}' % (status, answer.get_data())

        with ThreadPoolExecutor(8) as pool:
            entries = list(pool.map(entry, json.loads(request.get_data())["entry"]))
        bundle = b'{"resourceType":"Bundle","type":"batch-response","entry":[%s]}' % b",".join(entries)
        return Response(bundle, 200, content_type="application/fhir+json")

    def _forward(self, request: Request) -> Response:
        answer = requests.request(
            request.method,
            self.origin + request.full_path.rstrip("?"),
            data=request.get_data(cache=True),
            headers={name: request.headers[name] for name in _ASKED if name in request.headers},
            timeout=60,
            allow_redirects=False,
        )
        kept = {
            name: value for name, value in answer.headers.items() if name.lower() not in _OF_THE_CONNECTION
        }
        return Response(answer.content, answer.status_code, kept)


def _is_batch(request: Request) -> bool:
    return request.method == "POST" and b'"batch"' in request.get_data(cache=True)[:60]


def rewritten(request: Request, method: str, path: str, query: str, body: bytes) -> Request:
    """The same request with another method, path, query and body."""
    environ = dict(request.environ) | {
        "REQUEST_METHOD": method,
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": io.BytesIO(body),
    }
    environ.pop("werkzeug.request", None)
    return Request(environ)
