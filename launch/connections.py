"""Connections of the one HTTP client: to checked addresses alone, with a hand on the socket.

The address that a name resolves to is checked and then used for the connection, so that a name cannot point
somewhere else a moment later. A try that is over its time has its socket shut.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from http.cookiejar import DefaultCookiePolicy
from typing import Any

import requests
import requests.adapters
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError as Urllib3Error
from urllib3.exceptions import SSLError as Urllib3SslError
from urllib3.exceptions import TimeoutError as Urllib3Timeout
from urllib3.poolmanager import ProxyManager
from urllib3.util.connection import create_connection

from launch.addresses import AddressPolicy
from launch.answers import Tls
from launch.errors import HttpError, HttpProblem
from launch.issuers import Issuer
from launch.lookups import Lookups

_LOOKUPS = Lookups()
"""One for the process: its bound on threads holds across all clients."""
_TRANSPORT_ERRORS = (
    requests.RequestException,
    Urllib3Error,
    OSError,
    ValueError,
    AttributeError,
    zlib.error,
)
"""What a request may raise; ValueError and AttributeError where its socket was shut at the deadline."""


class Try:
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
    def current(cls) -> Try:
        """The try this thread is in."""
        this: Try = cls._current.this
        return this

    def __enter__(self) -> Try:
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
            Try.current().too_late = True
            raise

    def _checked_addresses(self) -> Sequence[str]:
        """Where the name points to now, looked up once. Raises OSError where that may not be connected to."""
        this = Try.current()
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
                    Try.current().remaining(self._patience),
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
        Try.current().hold(self)
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


def session_for(issuer: Issuer, user_agent: str) -> requests.Session:
    session = requests.Session()
    # No proxies, CA bundles or .netrc passwords from the environment: the issuer's configuration says it all.
    session.trust_env = False
    session.verify = str(issuer.ca_bundle) if issuer.ca_bundle else True
    if issuer.proxy:
        session.proxies = {"http": issuer.proxy, "https": issuer.proxy}
    # An EHR's cookies would tie the requests of different patients' sessions together.
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    session.headers.clear()
    # gzip alone: its decompression can be bounded step by step (launch.bodies).
    session.headers.update({"User-Agent": user_agent, "Accept-Encoding": "gzip"})
    adapter = _Adapter(issuer.addresses, issuer.max_parallel)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return session


@contextlib.contextmanager
def translated(this: Try) -> Iterator[None]:
    """Whatever requests, urllib3 or the socket raise within comes out as an HttpError without host."""
    try:
        yield
    except _TRANSPORT_ERRORS as error:
        raise _problem(error, this) from None


def _problem(error: Exception, this: Try) -> HttpError:
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
