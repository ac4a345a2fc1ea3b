"""An open FHIR server on loopback: nobody signs in, anything is written. The sandbox's store behind it.

It does what servers differ in as its `Ways` say, and remembers what it was asked.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import requests
from werkzeug.test import EnvironBuilder, run_wsgi_app
from werkzeug.wrappers import Request, Response

from launch.sandbox import Client, ClientType, RunningSandbox
from tests.support.sandbox import start_sandbox

ADMIN = Client(
    "admin",
    ClientType.SYMMETRIC,
    client_secret="open-to-everybody",
    grant_types=("client_credentials",),
    scope="system/*.cruds",
)


@dataclass
class Ways:
    """What a server does and does not."""

    transactions: bool = True
    own_ids: bool = True
    conditional: bool = True
    """It understands `If-None-Exist: _tag=...`."""
    deletes: bool = True
    refuses: frozenset[str] = frozenset()
    """Types that it takes none of."""
    answers_until: int | None = None
    """After so many writes each further one arrives, and is answered by a gateway: 504."""
    drops_from: int | None = None
    """From so many writes on none arrives: 503."""


@dataclass
class OpenServer:
    """A WSGI application in front of the sandbox's own."""

    ehr: RunningSandbox
    ways: Ways
    asked: list[str] = field(default_factory=list)
    """Method and path of every request, in their order."""
    writes: int = 0

    def __post_init__(self) -> None:
        self._sandbox = self.ehr._server.application
        self.ehr._server.application = self
        config = self.ehr.config
        self._path = urlsplit(config.fhir_base).path
        answer = requests.post(
            f"{config.issuer}/token",
            data={"grant_type": "client_credentials", "scope": ADMIN.scope},
            auth=(ADMIN.client_id, str(ADMIN.client_secret)),
            timeout=10,
        )
        self._token = answer.json()["access_token"]
        self.asked.clear()

    @property
    def base(self) -> str:
        return self.ehr.config.fhir_base

    def everything(self) -> dict[str, dict[str, Any]]:
        """Every resource it holds, by `Type/id`."""
        with self.ehr.sandbox.database.read() as connection:
            rows = connection.execute("SELECT type, id, body FROM resource").fetchall()
        return {f"{type_}/{id_}": json.loads(body) for type_, id_, body in rows}

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        request = Request(environ)
        if not request.path.startswith(self._path):
            return self._sandbox(environ, start_response)
        self.asked.append(f"{request.method} {request.path.removeprefix(self._path)}")
        return self._answer(request)(environ, start_response)

    def _answer(self, request: Request) -> Response:
        path = request.path.removeprefix(self._path).strip("/")
        if path.startswith(".well-known"):
            return Response(status=404)
        if path == "metadata":
            return self._metadata(request)
        if request.method == "GET" or path.endswith("_search"):
            return self._pass(request.method, path, request.get_data(), request)
        self.writes += 1
        if self.ways.drops_from is not None and self.writes > self.ways.drops_from:
            return Response(status=503)
        answer = self._write(request, path)
        if self.ways.answers_until is not None and self.writes > self.ways.answers_until:
            return Response("<html>", 504)
        return answer

    def _write(self, request: Request, path: str) -> Response:
        if not path:
            return self._transaction(request) if self.ways.transactions else Response(status=404)
        if request.method == "DELETE":
            return self._delete(path)
        return self._written(request.method, path, request.get_json(force=True), request)

    def _written(self, method: str, path: str, resource: dict[str, Any], request: Request) -> Response:
        type_ = path.partition("/")[0]
        if type_ in self.ways.refuses:
            return _outcome(422, f"no {type_} here")
        if method == "PUT" and not self.ways.own_ids and not self._holds(path):
            return _outcome(405, "ids are the server's")
        condition = dict(parse_qsl(request.headers.get("If-None-Exist", "")))
        if "_tag" in condition:
            if self.ways.conditional and (there := self._by_tag(type_, condition["_tag"])):
                return self._pass("GET", there, b"", request)
            return self._pass(method, path, json.dumps(resource).encode(), request, unconditional=True)
        return self._pass(method, path, json.dumps(resource).encode(), request)

    def _by_tag(self, type_: str, token: str) -> str | None:
        system, _, code = token.partition("|")
        rows = self._bodies(f'%{{"system":"{system}","code":"{code}"}}%')
        return next((name for name in rows if name.startswith(f"{type_}/")), None)

    def _bodies(self, like: str) -> list[str]:
        """The names of the resources that look like this."""
        with self.ehr.sandbox.database.read() as connection:
            rows = connection.execute("SELECT type, id FROM resource WHERE body LIKE ?", (like,)).fetchall()
        return [f"{type_}/{id_}" for type_, id_ in rows]

    def _holds(self, name: str) -> bool:
        type_, _, id_ = name.partition("/")
        return self.ehr.sandbox.store.read(type_, id_) is not None

    def _transaction(self, request: Request) -> Response:
        """All or nothing: what one entry spoils is taken back from the others."""
        made: list[str] = []
        done = []
        for entry in request.get_json(force=True)["entry"]:
            asked = entry["request"]
            if not self._holds(asked["url"]):
                made.append(asked["url"])
            answer = self._written(asked["method"], asked["url"], entry["resource"], request)
            if answer.status_code >= 300:
                for name in made:
                    self.ehr.sandbox.store.delete(*name.split("/"))
                return answer
            done.append({"response": {"status": str(answer.status_code)}})
        bundle = {"resourceType": "Bundle", "type": "transaction-response", "entry": done}
        return Response(json.dumps(bundle), content_type="application/fhir+json")

    def _delete(self, path: str) -> Response:
        type_, _, id_ = path.partition("/")
        assert id_, f"a conditional delete of {type_}"
        if not self.ways.deletes:
            return _outcome(405, "nothing is deleted here")
        if self._bodies(f'%"reference":"{path}"%'):
            return _outcome(409, f"{path} is referred to")
        self.ehr.sandbox.store.delete(type_, id_)
        return Response(status=204)

    def _metadata(self, request: Request) -> Response:
        statement = self._pass("GET", "metadata", b"", request).get_json()
        del statement["rest"][0]["security"]
        return Response(json.dumps(statement), content_type="application/fhir+json")

    def _pass(
        self, method: str, path: str, body: bytes, request: Request, *, unconditional: bool = False
    ) -> Response:
        """To the sandbox, in its administrator's name."""
        headers = {name: value for name, value in request.headers.items() if name != "Content-Length"}
        if unconditional:
            headers.pop("If-None-Exist", None)
        headers["Authorization"] = f"Bearer {self._token}"
        builder = EnvironBuilder(
            f"{self._path}/{path}",
            self.ehr.base_url,
            request.query_string.decode() if method == "GET" or path.endswith("_search") else "",
            method=method,
            data=body or None,
            headers=headers,
            environ_overrides={"REMOTE_ADDR": "127.0.0.1"},
        )
        iterable, status, sent = run_wsgi_app(self._sandbox, builder.get_environ(), buffered=True)
        return Response(b"".join(iterable), status, sent)


def _outcome(status: int, text: str) -> Response:
    issue = {"severity": "error", "code": "processing", "diagnostics": text}
    body = {"resourceType": "OperationOutcome", "issue": [issue]}
    return Response(json.dumps(body), status, content_type="application/fhir+json")


@contextmanager
def open_server(folder: Path, ways: Ways | None = None, **settings: Any) -> Iterator[OpenServer]:
    """The server, with the sandbox's own charts on it. Its clients choose ids, unless its ways say no."""
    with start_sandbox(folder, clients=(ADMIN,), **settings) as ehr:
        ehr.sandbox.quirks.update_create = True
        yield OpenServer(ehr, ways or Ways())
