"""What real EHRs do that a client may not expect: each stands between app and server for one test."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from werkzeug.wrappers import Request, Response

from tests.interop.front import Forward, rewritten

Where = Callable[[Request], bool]
ELSEWHERE = "https://records.elsewhere.invalid/fhir"
"""A base by which a server calls itself in references, and under which nobody reaches it."""
_PLAIN, _ODD = b"ready-physiologic-", b"-.Z9..--ready-physiologic--0."


@dataclass
class Oddity:
    """`where` it shows itself, and how such a request is answered."""

    where: Where
    answer: Callable[[Request, Forward], Response]
    met: int = 0
    """How many requests it was met by: a test of an oddity that nothing met shows nothing."""

    def __call__(self, request: Request, forward: Forward) -> Response:
        if not self.where(request):
            return forward(request)
        self.met += 1
        return self.answer(request, forward)


# Where


def always(_: Request) -> bool:
    return True


def searches(type_: str) -> Where:
    """Searches of a type."""
    return lambda request: request.method == "GET" and request.path.endswith(f"/{type_}")


def _looks(request: Request) -> bool:
    return request.method == "GET"


def _pages(request: Request) -> bool:
    return "_count" in request.args


def every(number: int, among: Where = _looks) -> Where:
    """Every so-manieth of these requests."""
    count, lock = itertools.count(1), threading.Lock()

    def turn(request: Request) -> bool:
        with lock:
            return among(request) and next(count) % number == 0

    return turn


# How


def outcome(status: int, code: str, text: str) -> Response:
    """A refusal that says why."""
    issue = {"severity": "error", "code": code, "diagnostics": text}
    body = json.dumps({"resourceType": "OperationOutcome", "issue": [issue]})
    return Response(body, status, content_type="application/fhir+json")


def refused(type_: str, status: int) -> Oddity:
    return Oddity(searches(type_), lambda *_: outcome(status, "forbidden", "not for you"))


def asked_otherwise(request: Request, query: list[tuple[str, str]]) -> Request:
    """The same request with another query."""
    return rewritten(request, request.method, request.path, urlencode(query), request.get_data())


def _query(request: Request) -> list[tuple[str, str]]:
    return parse_qsl(request.query_string.decode())


def _as_fhir(resource: Any) -> Response:
    return Response(json.dumps(resource), 200, content_type="application/fhir+json")


def _bundle_of(answer: Response) -> Any:
    """The searchset of an answer; None where it is something else."""
    resource = json.loads(answer.get_data())
    return resource if resource["resourceType"] == "Bundle" else None


def observations_want_a_category() -> Oddity:
    def unnamed(request: Request) -> bool:
        named = {"category", "code", "_id", "_getpages"} & request.args.keys()
        return searches("Observation")(request) and not named

    return Oddity(unnamed, lambda *_: outcome(400, "required", "category or code is required"))


def dates_want_a_comparator() -> Oddity:
    def answer(request: Request, forward: Forward) -> Response:
        wrong = [value for value in request.args.getlist("date") if not value[:2].isalpha()]
        return outcome(400, "invalid", "date needs a comparator") if wrong else forward(request)

    return Oddity(lambda request: "date" in request.args, answer)


def _five(request: Request, forward: Forward) -> Response:
    query = [(name, "5" if name == "_count" else value) for name, value in _query(request)]
    return forward(asked_otherwise(request, query))


def five_on_a_page() -> Oddity:
    return Oddity(_pages, _five)


def next_pages(change: Callable[[str, Request], str]) -> Oddity:
    """Pages of five whose link to the next page is another one."""

    def answer(request: Request, forward: Forward) -> Response:
        came = _five(request, forward)
        bundle = _bundle_of(came)
        for link in (bundle or {}).get("link", ()):
            if link["relation"] == "next":
                link["url"] = change(link["url"], request)
        return came if bundle is None else _as_fhir(bundle)

    return Oddity(_pages, answer)


def relative(url: str, _: Request) -> str:
    return urlsplit(url)._replace(scheme="", netloc="").geturl()


def busy_now_and_then() -> Oddity:
    def answer(*_: Any) -> Response:
        busy = outcome(429, "throttled", "later")
        busy.headers["Retry-After"] = "1"
        return busy

    return Oddity(every(9), answer)


def failing_now_and_then(status: int = 500) -> Oddity:
    return Oddity(every(15), lambda *_: outcome(status, "exception", "oops"))


def slow(*types: str) -> Oddity:
    """Each page of these takes ten seconds."""

    def answer(request: Request, forward: Forward) -> Response:
        time.sleep(10)
        return forward(request)

    return Oddity(lambda request: any(searches(type_)(request) for type_ in types), answer)


def remarks() -> Oddity:
    """Beside what was found the server says something of it."""

    def answer(request: Request, forward: Forward) -> Response:
        came = forward(request)
        bundle = _bundle_of(came)
        if bundle is None:
            return came
        said = {"severity": "information", "code": "informational", "diagnostics": "nothing of note"}
        resource = {"resourceType": "OperationOutcome", "issue": [said]}
        bundle.setdefault("entry", []).append({"resource": resource, "search": {"mode": "outcome"}})
        return _as_fhir(bundle)

    return Oddity(searches("Observation"), answer)


def odd_ids() -> Oddity:
    """Every id but the patient's holds all that an id may hold."""

    def answer(request: Request, forward: Forward) -> Response:
        path, query = (
            text.encode().replace(_ODD, _PLAIN).decode()
            for text in (request.path, request.query_string.decode())
        )
        body = request.get_data().replace(_ODD, _PLAIN)
        came = forward(rewritten(request, request.method, path, query, body))
        came.set_data(came.get_data().replace(_PLAIN, _ODD))
        return came

    return Oddity(always, answer)


def with_plain_ids(value: Any) -> Any:
    """What was told of records with odd ids, as it is told of the same records without."""
    return json.loads(json.dumps(value).encode().replace(_ODD, _PLAIN))


def references_under_another_base() -> Oddity:
    """The server calls itself by an address that nobody launched from."""

    def answer(request: Request, forward: Forward) -> Response:
        came = forward(request)
        resource = json.loads(came.get_data())
        for node in _objects(resource):
            if isinstance(node.get("reference"), str) and not node["reference"].startswith(("#", "http")):
                node["reference"] = f"{ELSEWHERE}/{node['reference']}"
        came.set_data(json.dumps(resource))
        return came

    return Oddity(lambda request: not request.path.endswith("/metadata"), answer)


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    for child in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _objects(child)


def passed_over(*parameters: str) -> Oddity:
    """The server gives what it would without these, and says nothing of it."""

    def answer(request: Request, forward: Forward) -> Response:
        return forward(asked_otherwise(request, [one for one in _query(request) if one[0] not in parameters]))

    return Oddity(lambda request: _looks(request) and bool(request.args.keys() & set(parameters)), answer)


def broken_off() -> Oddity:
    def answer(request: Request, forward: Forward) -> Response:
        came = forward(request)
        return Response(came.get_data()[:-900], came.status_code, content_type="application/fhir+json")

    return Oddity(searches("Observation"), answer)


def web_page() -> Oddity:
    page = "<html><title>Sign in</title></html>"
    return Oddity(searches("Observation"), lambda *_: Response(page, 200, content_type="text/html"))
