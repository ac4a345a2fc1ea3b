"""A SMART front before another FHIR server: the sandbox signs in and grants, the other one holds the records.

What the app sends under the sandbox's FHIR base goes to the other server under the same path and name, so
that the links it makes lead back here. Between both stands at most one `Oddity`: what some EHR would do.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
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
        elif self.oddity is None:
            answer = self._forward(request)
        else:
            answer = self.oddity(request, self._forward)
        return answer(environ, start_response)

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
