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

import contextlib
import json
import math
import random
import re
import socket
import ssl
import threading
import time
import uuid
import zlib
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.cookiejar import DefaultCookiePolicy
from types import TracebackType
from typing import Any
from urllib.parse import urlencode

import requests
import requests.adapters
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError as Urllib3Error
from urllib3.exceptions import SSLError as Urllib3SslError
from urllib3.exceptions import TimeoutError as Urllib3Timeout
from urllib3.poolmanager import ProxyManager
from urllib3.response import BaseHTTPResponse
from urllib3.util.connection import create_connection

from launch.addresses import AddressPolicy
from launch.errors import HttpError, HttpProblem
from launch.issuers import Issuer
from launch.limiter import Budget, IssuerLimiter, OwnBudget, Pause, Turn
from launch.lookups import Lookups
from launch.urls import UnsafeUrl, Url, is_under, join_url, parse_url

USER_AGENT = "smart-remote-monitoring"
MEGABYTE = 1024 * 1024
_CHUNK = 64 * 1024
_RETRIED_STATUS = frozenset({429, 500, 502, 503, 504})
_LONGEST_REST = 60.0
"""Seconds an EHR can keep all sessions waiting: beyond, a wrong header would close the app for a day."""
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_DEEPEST_JSON = 64
_LOOKUPS = Lookups()
"""One for the process: its bound on threads holds across all clients."""
_HALF_CHARACTER = re.compile(r"\\u[dD][89a-fA-F]")
_TRANSPORT_ERRORS = (
    requests.RequestException,
    Urllib3Error,
    OSError,
    ValueError,
    AttributeError,
    zlib.error,
)


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds and bytes one call may take. `total` covers every try and every wait between them."""

    connect: float = 5.0
    read: float = 20.0
    total: float = 60.0
    max_bytes: int = 32 * MEGABYTE
    tries: int = 3


OAUTH_LIMITS = Limits(connect=5.0, read=5.0, total=15.0, max_bytes=MEGABYTE)
"""Discovery, tokens and keys are small; a clinician waits for them."""


@dataclass(frozen=True, slots=True)
class Tls:
    """How a connection is encrypted, and how long the certificate at its other end is good."""

    version: str
    """As OpenSSL says it: "TLSv1.3"."""
    valid_until: datetime


@dataclass(frozen=True, slots=True)
class Response:
    """What an EHR answered. `headers` are in lower case. The repr shows neither address nor content."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    url: str = field(repr=False)
    host: str
    request_id: str
    tls: Tls | None = field(default=None, repr=False)
    """None over plain http (the demo's)."""

    @property
    def ok(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status < 300

    def require_ok(self) -> Response:
        """Itself, if 2xx. Raises HttpError(HTTP_STATUS) otherwise."""
        if not self.ok:
            raise HttpError(
                HttpProblem.HTTP_STATUS, host=self.host, status=self.status, request_id=self.request_id
            )
        return self

    def json(self, max_bytes: int = MEGABYTE) -> Any:
        """The body as JSON: at most `max_bytes`, 64 levels deep, Unicode text in UTF-8, finite numbers.

        Raises HttpError.
        """
        if len(self.body) > max_bytes:
            raise HttpError(HttpProblem.TOO_LARGE, host=self.host, request_id=self.request_id)
        try:
            # Decoded here: `json` itself would guess UTF-16 and let halves of characters through.
            text = self.body.decode("utf-8-sig")
            value = json.loads(text, parse_constant=_refuse_constant)
            _require_shallow(value)
            if _HALF_CHARACTER.search(text):
                json.dumps(value, ensure_ascii=False).encode("utf-8")
        except (ValueError, RecursionError):
            # `from None`: the decoder's message quotes the document.
            raise HttpError(HttpProblem.NOT_JSON, host=self.host, request_id=self.request_id) from None
        return value

    def json_object(self) -> dict[str, Any]:
        """The body as a JSON object. Raises HttpError for any other JSON."""
        value = self.json()
        if not isinstance(value, dict):
            raise HttpError(HttpProblem.NOT_JSON, host=self.host, request_id=self.request_id)
        return value


class EhrClient:
    """Requests to one EHR. Threads share it; close it, or use it as a context manager."""

    def __init__(
        self, issuer: Issuer, *, limiter: IssuerLimiter | None = None, user_agent: str = USER_AGENT
    ) -> None:
        self.issuer = issuer
        self._base = issuer.base
        self._limiter = limiter or IssuerLimiter(issuer.max_parallel, issuer.requests_per_minute)
        self._session = _session(issuer, user_agent)

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
    ) -> Response:
        """One FHIR interaction. `target` is relative to the FHIR base ("Patient/p1") or absolute under it.

        No answer may come from a cache, nor from one of the server's own (HAPI has one): a chart
        is decided on, and looked through for charges, as it is now.
        Every status but a redirect is given back. GETs are repeated; `repeatable=True` says that a POST may
        be too (`_search`). `turn`: who goes first. Raises HttpError.
        """
        absolute = self.resolve(target)
        sent = {"Accept": "application/fhir+json", "Cache-Control": "no-cache", **(headers or {})}
        if body is not None:
            sent.setdefault("Content-Type", "application/fhir+json")
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        may_repeat = method == "GET" if repeatable is None else repeatable
        return self._call(method, absolute, sent, body, limits or Limits(), may_repeat, turn)

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
                error = HttpError(
                    error.problem,
                    host=parsed.host,
                    request_id=request_id,
                    status=error.status,
                    maybe_acted=error.maybe_acted,
                    detail=error.detail,
                )
                if last or error.problem is not HttpProblem.CONNECTION:
                    raise error from None
                wait = _backoff(attempt)
            else:
                response = replace(response, host=parsed.host, request_id=request_id)
                if response.status not in _RETRIED_STATUS:
                    return response
                asked = _retry_after(response.headers) or 0.0
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
        with _Try(remaining) as this:
            try:
                answer = self._session.request(
                    method,
                    url,
                    data=body,
                    headers=dict(headers),
                    timeout=(min(limits.connect, remaining), min(limits.read, remaining)),
                    allow_redirects=False,
                    stream=True,
                )
                with answer:
                    if answer.status_code in _REDIRECTS:
                        raise HttpError(HttpProblem.REDIRECT, status=answer.status_code, maybe_acted=True)
                    content = _read(answer.raw, limits.max_bytes, deadline)
                if this.expired:
                    # A socket shut among the headers looks like an answer that ends there.
                    raise TimeoutError("cut off at the deadline")
            except _TRANSPORT_ERRORS as error:
                # ValueError and AttributeError: what a socket shut at the deadline raises half-way.
                raise _problem(error, this) from None
            return Response(
                status=answer.status_code,
                headers={name.lower(): value for name, value in answer.headers.items()},
                body=content,
                url=url,
                host="",
                request_id="",
                tls=this.tls,
            )

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


# Connections: checked addresses, and a hand on the socket


class _Try:
    """One try of one call, as its thread sees it: what was sent, what was refused, when it must be over.

    At the deadline a timer shuts the socket: a server that sends a byte now and then never times out else.
    """

    _current = threading.local()

    def __init__(self, seconds: float) -> None:
        self._deadline = time.monotonic() + seconds
        self.expired = False
        self.refused = False
        self.too_late = False
        """No connection came about in time: the name was not looked up, or nobody answered."""
        self.sent = False
        self.tls: Tls | None = None
        self._connection: HTTPConnection | None = None
        self._timer = threading.Timer(seconds, self._shut)
        self._timer.daemon = True

    @classmethod
    def current(cls) -> _Try:
        """The try this thread is in."""
        this: _Try = cls._current.this
        return this

    def __enter__(self) -> _Try:
        self._current.this = self
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        del self._current.this

    def remaining(self, most: float | None) -> float:
        """Seconds left of this try, and not above `most`. Raises TimeoutError where none are."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("no time is left")
        return left if most is None else min(most, left)

    def hold(self, connection: _CheckedConnection) -> None:
        """The request is about to be sent on this connection."""
        if self.expired:
            raise TimeoutError("the connection came too late")
        self.sent = True
        self.tls = connection.tls
        self._connection = connection

    def _shut(self) -> None:
        self.expired = True
        sock = self._connection.sock if self._connection else None
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)


class _CheckedConnection(HTTPConnection):
    """Connects only to addresses that were checked. `policy` None: a proxy, which the administrator named."""

    policy: AddressPolicy | None = None
    tls: Tls | None = None

    def connect(self) -> None:
        super().connect()
        self.tls = _tls(self.sock)

    def _new_conn(self) -> socket.socket:
        try:
            return self._first_that_answers(self._checked_addresses()[:4])
        except TimeoutError:
            # Remembered, since behind a proxy the library's own error no longer tells.
            _Try.current().too_late = True
            raise

    def _checked_addresses(self) -> Sequence[str]:
        """Where the name points to now, looked up once. Raises OSError where that may not be connected to."""
        this = _Try.current()
        host = self.host.strip("[]")
        addresses = _LOOKUPS.addresses(host, self.port, this.remaining(self._patience))
        # One bad address among good ones is how a rebinding answer looks: all of them must pass.
        if self.policy is not None and not all(self.policy.permits(address) for address in addresses):
            this.refused = True
            raise OSError("refused address")
        return addresses

    def _first_that_answers(self, addresses: Sequence[str]) -> socket.socket:
        """A socket to one of the checked addresses; TLS still verifies the certificate against the name."""
        failure = OSError("no address")
        for address in addresses:
            try:
                return create_connection(
                    (address, self.port),
                    _Try.current().remaining(self._patience),
                    source_address=self.source_address,
                    socket_options=self.socket_options,
                )
            except OSError as error:
                failure = error
        raise failure

    @property
    def _patience(self) -> float | None:
        """Seconds for one step of connecting, as the limits say."""
        return self.timeout if isinstance(self.timeout, int | float) else None

    def send(self, data: Any) -> None:
        if self.sock is None:
            self.connect()
        _Try.current().hold(self)
        super().send(data)


def _tls(sock: object) -> Tls | None:
    """What a verified TLS socket knows of itself; None for any other."""
    if not isinstance(sock, ssl.SSLSocket):
        return None
    until = str((sock.getpeercert() or {}).get("notAfter", ""))
    if not until:
        return None
    return Tls(sock.version() or "", datetime.fromtimestamp(ssl.cert_time_to_seconds(until), UTC))


def _pools(policy: AddressPolicy | None) -> dict[str, type[HTTPConnectionPool]]:
    """Connection pools whose connections obey `policy`."""
    plain = type("PlainConnection", (_CheckedConnection, HTTPConnection), {"policy": policy})
    secure = type("SecureConnection", (_CheckedConnection, HTTPSConnection), {"policy": policy})
    return {
        "http": type("PlainPool", (HTTPConnectionPool,), {"ConnectionCls": plain}),
        "https": type("SecurePool", (HTTPSConnectionPool,), {"ConnectionCls": secure}),
    }


class _Adapter(requests.adapters.HTTPAdapter):
    """requests' adapter over the checked pools."""

    def __init__(self, policy: AddressPolicy, connections: int) -> None:
        self._policy = policy
        super().__init__(pool_maxsize=connections, max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _pools(self._policy)

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> ProxyManager:
        manager: ProxyManager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = _pools(None)
        return manager


def _session(issuer: Issuer, user_agent: str) -> requests.Session:
    session = requests.Session()
    # No proxies, CA bundles or .netrc passwords from the environment: the issuer's configuration says it all.
    session.trust_env = False
    session.verify = str(issuer.ca_bundle) if issuer.ca_bundle else True
    if issuer.proxy:
        session.proxies = {"http": issuer.proxy, "https": issuer.proxy}
    # An EHR's cookies would tie the requests of different patients' sessions together.
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    session.headers.clear()
    # gzip alone: its decompression can be bounded step by step (see _Gunzip).
    session.headers.update({"User-Agent": user_agent, "Accept-Encoding": "gzip"})
    adapter = _Adapter(issuer.addresses, issuer.max_parallel)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return session


# Reading an answer


class _Identity:
    """A body that is not compressed."""

    def feed(self, data: bytes, room: int) -> bytes:
        if len(data) > room:
            raise HttpError(HttpProblem.TOO_LARGE, maybe_acted=True)
        return data

    def finish(self) -> None:
        return


class _Gunzip:
    """Decompresses step by step, never more than `room` bytes: a kilobyte of gzip can hold a megabyte."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(31)
        self._within = False

    def feed(self, data: bytes, room: int) -> bytes:
        plain = b""
        while data:
            self._within = True
            plain += self._stream.decompress(data, room + 1 - len(plain))
            if len(plain) > room:
                raise HttpError(HttpProblem.TOO_LARGE, maybe_acted=True)
            if self._stream.eof:
                data, self._stream = self._stream.unused_data, zlib.decompressobj(31)
                self._within = False
            else:
                data = self._stream.unconsumed_tail
        return plain

    def finish(self) -> None:
        if self._within:
            raise OSError("a compressed body broken off")


def _read(raw: BaseHTTPResponse, max_bytes: int, deadline: float) -> bytes:
    """The whole body, decompressed, at most `max_bytes`, before `deadline`."""
    encoding = raw.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in {"identity", "gzip", "x-gzip", ""}:
        raise HttpError(HttpProblem.NOT_JSON, maybe_acted=True)
    declared = raw.headers.get("Content-Length", "")
    # Python refuses to read a number of thousands of digits; one of twenty is too large for any limit.
    if declared.isdecimal() and (len(declared) >= 20 or int(declared) > max_bytes):
        raise HttpError(HttpProblem.TOO_LARGE, maybe_acted=True)
    decoder = _Gunzip() if "gzip" in encoding else _Identity()
    pieces: list[bytes] = []
    room = max_bytes
    # read1 gives what one look at the socket brings, so that the clock is looked at between any two bytes.
    while data := raw.read1(_CHUNK, decode_content=False):
        piece = decoder.feed(data, room)
        room -= len(piece)
        pieces.append(piece)
        if time.monotonic() >= deadline:
            raise HttpError(HttpProblem.TIMEOUT, maybe_acted=True)
    decoder.finish()
    return b"".join(pieces)


def _problem(error: Exception, this: _Try) -> HttpError:
    """Our error for one of requests, urllib3 or the socket, whose message (it quotes the URL) is dropped."""
    if this.refused:
        problem = HttpProblem.REFUSED_ADDRESS
    elif this.expired or this.too_late or isinstance(error, requests.Timeout | TimeoutError | Urllib3Timeout):
        problem = HttpProblem.TIMEOUT
    elif isinstance(error, requests.exceptions.SSLError | ssl.SSLError | Urllib3SslError):
        problem = HttpProblem.TLS
    else:
        problem = HttpProblem.CONNECTION
    detail = _certificate_fault(error) if problem is HttpProblem.TLS else ""
    return HttpError(problem, maybe_acted=this.sent, detail=detail)


_CERTIFICATE_FAULTS = {
    9: "not valid yet",
    10: "expired",
    18: "self-signed",
    19: "unknown authority",
    20: "unknown authority",
    62: "another name",
    64: "another name",
}
"""OpenSSL's verification codes (X509_V_ERR_...) an administrator can do something about."""


def _certificate_fault(error: BaseException | None) -> str:
    """What is wrong with a certificate, in our own words; empty where it is something else."""
    for _ in range(8):
        if isinstance(error, ssl.SSLCertVerificationError):
            return _CERTIFICATE_FAULTS.get(error.verify_code, "")
        if error is None:
            break
        error = error.__cause__ or error.__context__
    return ""


def _backoff(attempt: int) -> float:
    """Seconds before the next try: about 0.25, then 0.5, spread so that clients do not return at once."""
    return float(2**attempt) / 8 * random.uniform(0.5, 1.5)  # noqa: S311 (no secret)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds of `Retry-After`; a date counts from the server's own `Date`, whatever our clock says."""
    text = headers.get("retry-after", "").strip()
    if text.isdecimal():
        return float(text) if len(text) < 7 else None
    try:
        asked = parsedate_to_datetime(text) - parsedate_to_datetime(headers.get("date", ""))
    except (TypeError, ValueError, OverflowError):
        return None
    return max(0.0, asked.total_seconds())


def _refuse_constant(name: str) -> Any:
    raise ValueError(name)


def _require_shallow(value: Any) -> None:
    """Raises ValueError below 64 levels (whoever walks the value may then recurse), and for 1e999."""
    level = [value]
    for _ in range(_DEEPEST_JSON):
        if any(isinstance(item, float) and math.isinf(item) for item in level):
            raise ValueError("a number that is none")
        level = [
            child
            for parent in level
            if isinstance(parent, dict | list)
            for child in (parent.values() if isinstance(parent, dict) else parent)
        ]
        if not level:
            return
    raise ValueError("nested too deeply")
