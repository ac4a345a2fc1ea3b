"""The one HTTP client: discovery, tokens, keys and every FHIR call to an EHR go through it.

What it guarantees, for every request:
- only the issuer's own addresses: FHIR calls lie under its FHIR base, OAuth calls on its listed origins; the
  bearer token is only ever attached under the FHIR base; no redirect is followed;
- https (http only to loopback in the demo, and to a tester's own server), the issuer's CA bundle and proxy,
  nothing from the environment;
- the address a name resolves to is checked and then used for the connection, so that a name cannot point
  somewhere else a moment later (behind a proxy, the proxy resolves names; literal addresses are checked);
- limits on time (connect, read, total; looking a name up is part of connecting), on size (after
  decompression), on requests at a time and a minute, those for signing in apart;
- GETs are repeated on 429, 500, 502, 503, 504 and broken connections, at most three tries; nothing else is;
- errors name the host and a request id, nothing else.
"""

from __future__ import annotations

import random
import re
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from types import TracebackType
from urllib.parse import urlencode

import requests

from launch.answers import MEGABYTE, OAUTH_LIMITS, STREAM_LIMITS, Limits, Response, retry_after
from launch.bodies import pieces, read
from launch.connections import Try, session_for, translated
from launch.errors import HttpError, HttpProblem
from launch.issuers import Issuer
from launch.limiter import Budget, IssuerLimiter, OwnBudget, Pause, Turn
from launch.urls import UnsafeUrl, Url, is_under, join_url, parse_url

__all__ = ["MEGABYTE", "OAUTH_LIMITS", "EhrClient", "EhrClients", "Limits", "Response", "Stream"]

USER_AGENT = "smart-remote-monitoring"
_RETRIED_STATUS = frozenset({429, 500, 502, 503, 504})
_LONGEST_REST = 60.0
"""Seconds an EHR can keep all sessions waiting: beyond, a wrong header would close the app for a day."""
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class Stream:
    """An answer whose body comes piece by piece. `headers` are in lower case."""

    def __init__(
        self,
        answer: requests.Response,
        headers: Mapping[str, str],
        this: Try,
        limits: Limits,
        deadline: float,
    ) -> None:
        self.status = answer.status_code
        self.headers = headers
        self._raw, self._this, self._limits, self._deadline = answer.raw, this, limits, deadline

    def pieces(self) -> Iterator[bytes]:
        """The body, decompressed, once; at most a megabyte each. Raises HttpError where it does not come to
        its end: what was given out until then is not all of it."""
        found = pieces(self._raw, self._limits.max_bytes, self._deadline, may_take_long=True)
        while True:
            # What whoever takes a piece does with it may fail for reasons of its own.
            with translated(self._this):
                piece = next(found, None)
                if piece is None:
                    _require_in_time(self._this)
                    return
            yield piece


class EhrClient:
    """Requests to one EHR. Threads share it; close it, or use it as a context manager."""

    def __init__(
        self, issuer: Issuer, *, limiter: IssuerLimiter | None = None, user_agent: str = USER_AGENT
    ) -> None:
        self.issuer = issuer
        self._base = issuer.base
        self._limiter = limiter or IssuerLimiter(issuer.max_parallel, issuer.requests_per_minute)
        self._session = session_for(issuer, user_agent)

    def __repr__(self) -> str:
        return f"EhrClient({self.issuer.id})"

    def __enter__(self) -> EhrClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pause(self) -> Pause | None:
        """Why this EHR is not asked for anything now, and for how long; None where it is."""
        return self._limiter.pause

    def close(self) -> None:
        """Give the connections back."""
        self._session.close()

    def fhir(
        self,
        method: str,
        target: str,
        *,
        token: str | None = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        limits: Limits | None = None,
        repeatable: bool | None = None,
        turn: Turn = Turn.PRESSED,
        of_export: bool = False,
    ) -> Response:
        """One FHIR interaction. `target` is relative to the FHIR base ("Patient/p1") or absolute under it.

        No answer may come from a cache, nor from one of the server's own (HAPI has one): a chart
        is decided on, and looked through for charges, as it is now.
        Every status but a redirect is given back. GETs are repeated; `repeatable=True` says that a POST may
        be too (`_search`). `turn`: who goes first. `of_export`: the address may lie where the administrator
        says that exports do; a token goes there only at the FHIR base's own origin. Raises HttpError.
        """
        absolute = self._resolve_exported(target, token) if of_export else self.resolve(target)
        sent = {"Accept": "application/fhir+json", "Cache-Control": "no-cache", **(headers or {})}
        if body is not None:
            sent.setdefault("Content-Type", "application/fhir+json")
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        may_repeat = method == "GET" if repeatable is None else repeatable
        return self._call(method, absolute, sent, body, limits or Limits(), may_repeat, turn)

    @contextmanager
    def stream(
        self,
        target: str,
        *,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
        limits: Limits = STREAM_LIMITS,
    ) -> Iterator[Stream]:
        """One GET of an export's file, which memory need not hold; tried once, every guard as in `fhir`.

        To be used and left within one thread, which asks for nothing else meanwhile. Every status but a
        redirect is given back. Raises HttpError, here and from the stream.
        """
        url = self._resolve_exported(target, token)
        host = parse_url(url).host
        self._refuse_literal_address(host)
        deadline = time.monotonic() + limits.total
        request_id = uuid.uuid4().hex
        sent = {"Cache-Control": "no-cache", **(headers or {}), "X-Request-Id": request_id}
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        with _telling(host, request_id), self._limiter.slot(deadline, Turn.BULK):
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise HttpError(HttpProblem.TIMEOUT)
            with Try(remaining) as this:
                with translated(this):
                    answer = self._opened("GET", url, sent, None, limits, remaining)
                with answer:
                    found = _lower(answer.headers)
                    if answer.status_code in _RETRIED_STATUS:
                        self._limiter.rest(min(retry_after(found) or 0.0, _LONGEST_REST), Turn.BULK)
                    yield Stream(answer, found, this, limits, deadline)

    def oauth_get(self, url: str) -> Response:
        """GET a discovery document or keys from one of the issuer's listed origins. Raises HttpError."""
        self._require_origin(url)
        return self._call("GET", url, {"Accept": "application/json"}, None, OAUTH_LIMITS, True, Turn.SIGN_IN)

    def oauth_post(
        self, url: str, form: Sequence[tuple[str, str]], headers: Mapping[str, str] | None = None
    ) -> Response:
        """POST a form to a token or revocation endpoint, once. Raises HttpError."""
        self._require_origin(url)
        sent = {
            "Accept": "application/json",
            "Content-Type": "application/x-www-form-urlencoded",
            **(headers or {}),
        }
        body = urlencode(form).encode("ascii")
        return self._call("POST", url, sent, body, OAUTH_LIMITS, False, Turn.SIGN_IN)

    def resolve(self, target: str) -> str:
        """The absolute URL of a FHIR target. Raises HttpError(FOREIGN_URL) if it leaves the FHIR base.

        "Patient/p1" continues the base; "/x" and "//host/x" are read as a browser would and then checked.
        """
        try:
            absolute = join_url(self.issuer.fhir_base + "/", target)
        except UnsafeUrl:
            raise HttpError(HttpProblem.FOREIGN_URL, host=self._base.host) from None
        url = self._parse(absolute)
        if not is_under(url, self._base):
            raise HttpError(HttpProblem.FOREIGN_URL, host=self._base.host)
        return absolute

    def _resolve_exported(self, target: str, token: str | None) -> str:
        """As `resolve`, for an address of an export. Raises HttpError(FOREIGN_URL)."""
        try:
            absolute = join_url(self.issuer.fhir_base + "/", target)
        except UnsafeUrl:
            raise HttpError(HttpProblem.FOREIGN_URL, host=self._base.host) from None
        url = self._parse(absolute)
        elsewhere = token is not None and url.origin != self._base.origin
        if elsewhere or not any(is_under(url, base) for base in self.issuer.export_bases):
            raise HttpError(HttpProblem.FOREIGN_URL, host=self._base.host)
        return absolute

    def _require_origin(self, url: str) -> None:
        if self._parse(url).origin not in self.issuer.origins:
            raise HttpError(HttpProblem.FOREIGN_URL, host=self._base.host)

    def _parse(self, text: str) -> Url:
        try:
            url = parse_url(text)
        except UnsafeUrl:
            raise HttpError(HttpProblem.FOREIGN_URL, host=self._base.host) from None
        if not self.issuer.takes(url):
            raise HttpError(HttpProblem.FOREIGN_URL, host=self._base.host)
        return url

    def _call(
        self,
        method: str,
        url: str,
        headers: dict[str, str],
        body: bytes | None,
        limits: Limits,
        repeatable: bool,
        turn: Turn,
    ) -> Response:
        """Try, and try again where that is safe, until an answer, the last try or the deadline."""
        parsed = parse_url(url)
        self._refuse_literal_address(parsed.host)
        deadline = time.monotonic() + limits.total
        request_id = uuid.uuid4().hex
        headers["X-Request-Id"] = request_id
        for attempt in range(1, limits.tries + 1):
            last = attempt == limits.tries or not repeatable
            try:
                with self._limiter.slot(deadline, turn):
                    response = self._once(method, url, headers, body, limits, deadline)
            except HttpError as error:
                if last or error.problem is not HttpProblem.CONNECTION:
                    raise _at(error, parsed.host, request_id) from None
                wait = _backoff(attempt)
            else:
                response = replace(response, host=parsed.host, request_id=request_id)
                if response.status not in _RETRIED_STATUS:
                    return response
                asked = retry_after(response.headers) or 0.0
                # For everybody, also where this very call is not repeated.
                self._limiter.rest(min(asked, _LONGEST_REST), turn)
                wait = max(asked, _backoff(attempt))
                if last or time.monotonic() + wait >= deadline:
                    return response
            if time.monotonic() + wait >= deadline:
                raise HttpError(HttpProblem.TIMEOUT, host=parsed.host, request_id=request_id)
            time.sleep(wait)
        raise AssertionError("every last try returns or raises")

    def _once(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
        limits: Limits,
        deadline: float,
    ) -> Response:
        """One try, read to its end. Raises HttpError without host; never anything of requests or urllib3."""
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise HttpError(HttpProblem.TIMEOUT)
        with Try(remaining) as this, translated(this):
            with self._opened(method, url, headers, body, limits, remaining) as answer:
                content = read(answer.raw, limits.max_bytes, deadline)
            _require_in_time(this)
            return Response(
                status=answer.status_code,
                headers=_lower(answer.headers),
                body=content,
                url=url,
                host="",
                request_id="",
                tls=this.tls,
            )

    def _opened(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
        limits: Limits,
        remaining: float,
    ) -> requests.Response:
        """The answer's head; its body is still to be read, and it is to be closed."""
        answer = self._session.request(
            method,
            url,
            data=body,
            headers=dict(headers),
            timeout=(min(limits.connect, remaining), min(limits.read, remaining)),
            allow_redirects=False,
            stream=True,
        )
        if answer.status_code in _REDIRECTS:
            answer.close()
            raise HttpError(HttpProblem.REDIRECT, status=answer.status_code, maybe_acted=True)
        return answer

    def _refuse_literal_address(self, host: str) -> None:
        """Before anything is sent, a proxy or not: an address written out must be one that is permitted."""
        literal = re.fullmatch(r"[0-9.]+|0x[0-9a-f.x]+", host) or ":" in host
        if literal and not self.issuer.addresses.permits(host):
            raise HttpError(HttpProblem.REFUSED_ADDRESS, host=host)


MOST_CLIENTS = 64
"""EHRs to which a process keeps connections."""


class EhrClients:
    """One client for each EHR in use, so that its limits hold across all sessions of this process."""

    def __init__(
        self,
        user_agent: str = USER_AGENT,
        make: Callable[..., EhrClient] = EhrClient,
        budget: Budget | None = None,
    ) -> None:
        """`make`: what a client is made with, from the same arguments as `EhrClient`. `budget`: what counts
        the requests of a minute, where several processes ask the same EHRs."""
        self.budget = budget or OwnBudget()
        self._user_agent = user_agent
        self._make = make
        self._lock = threading.Lock()
        self._clients: OrderedDict[Issuer, EhrClient] = OrderedDict()
        self._limiters: dict[str, IssuerLimiter] = {}

    def of(self, issuer: Issuer) -> EhrClient:
        """The client of this EHR. The practices of one entry (a `*` in its base) share its limits.

        Those not used for longest are closed, so that no number of invented practices keeps connections open.
        """
        with self._lock:
            if issuer not in self._clients:
                limiter = self._limiters.setdefault(
                    issuer.registration,
                    IssuerLimiter(
                        issuer.max_parallel, issuer.requests_per_minute, self.budget, issuer.registration
                    ),
                )
                self._clients[issuer] = self._make(issuer, limiter=limiter, user_agent=self._user_agent)
            self._clients.move_to_end(issuer)
            if len(self._clients) > MOST_CLIENTS:
                # Whoever still holds it can go on: a closed client opens connections anew.
                self._clients.popitem(last=False)[1].close()
            return self._clients[issuer]

    def close(self) -> None:
        """Close every client."""
        with self._lock:
            for client in self._clients.values():
                client.close()
            self._clients.clear()


@contextmanager
def _telling(host: str, request_id: str) -> Iterator[None]:
    try:
        yield
    except HttpError as error:
        raise (error if error.host else _at(error, host, request_id)) from None


def _at(error: HttpError, host: str, request_id: str) -> HttpError:
    """The same error, with where it happened."""
    return HttpError(
        error.problem,
        host=host,
        request_id=request_id,
        status=error.status,
        maybe_acted=error.maybe_acted,
        detail=error.detail,
    )


def _require_in_time(this: Try) -> None:
    """A socket shut among the headers looks like an answer that ends there."""
    if this.expired:
        raise TimeoutError("cut off at the deadline")


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _backoff(attempt: int) -> float:
    """Seconds before the next try: about 0.25, then 0.5, spread so that clients do not return at once."""
    return float(2**attempt) / 8 * random.uniform(0.5, 1.5)  # noqa: S311 (no secret)
