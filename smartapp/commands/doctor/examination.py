"""The context of one call: the EHR, the client, what was heard so far, and the words for what went wrong."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime

from launch.errors import HttpError, HttpProblem
from launch.http import EhrClient, Limits, Response
from launch.issuers import Issuer
from smartapp.commands.checks import Checks
from smartapp.commands.registered import Registered
from smartapp.commands.registration import Sheet

UNREACHED = frozenset(
    {HttpProblem.CONNECTION, HttpProblem.TIMEOUT, HttpProblem.TLS, HttpProblem.REFUSED_ADDRESS}
)
"""Nothing was heard of the server at all."""


class Examination:
    """What every check works with."""

    def __init__(
        self,
        here: Registered,
        sheet: Sheet,
        client: EhrClient,
        checks: Checks,
        now: Callable[[], datetime],
    ) -> None:
        self.here = here
        self.sheet = sheet
        self.client = client
        self.checks = checks
        self.now = now
        self.first: Response | None = None
        """The first answer of the FHIR server, whatever it was."""
        self.heard_at: datetime | None = None
        self.slowest = 0.0
        self.heard = 0
        """Answers so far, those that asked for fewer requests left out."""
        self.pace: int | None = None
        """How many answers came before the server first asked for fewer requests (429); None: it did not."""
        self.held_up = False
        """A request was not made: the pause that was asked for, or our own limits, left no time for it."""

    @property
    def issuer(self) -> Issuer:
        return self.here.issuer

    def oauth_get(self, url: str) -> Response | HttpError:
        """A discovery document or keys."""
        return self._heard(lambda: self.client.oauth_get(url))

    def fhir(
        self,
        method: str,
        target: str,
        *,
        token: str | None = None,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        limits: Limits | None = None,
    ) -> Response | HttpError:
        """One FHIR interaction."""
        return self._heard(
            lambda: self.client.fhir(method, target, token=token, body=body, headers=headers, limits=limits)
        )

    def _heard(self, call: Callable[[], Response]) -> Response | HttpError:
        began = time.monotonic()
        try:
            answer = call()
        except HttpError as error:
            self.held_up |= error.problem is HttpProblem.BUSY
            return error
        self.slowest = max(self.slowest, time.monotonic() - began)
        if answer.status != 429:
            self.heard += 1
        elif self.pace is None:
            self.pace = self.heard
        if self.first is None:
            self.first, self.heard_at = answer, self.now()
        return answer


def paused(answer: Response | HttpError) -> bool:
    """Whether nothing was learnt: the server asked for fewer requests, or our own limits are used up."""
    if isinstance(answer, HttpError):
        return answer.problem is HttpProblem.BUSY
    return answer.status == 429


def trouble(error: HttpError, issuer: Issuer) -> str:
    """What an error means, and what to change."""
    host = error.host or issuer.base.host
    match error.problem:
        case HttpProblem.TLS:
            return _tls_trouble(error, issuer, host)
        case HttpProblem.CONNECTION:
            way = (
                "`proxy`, which is set for this EHR" if issuer.proxy else "whether this machine needs `proxy`"
            )
            return f"no connection to {host}: check the name, the firewall, and {way}"
        case HttpProblem.TIMEOUT:
            return f"{host} does not answer in time: check the firewall, and ask the EHR's team"
        case HttpProblem.REFUSED_ADDRESS if not issuer.allow_private:
            return (
                f"{host} has an address inside a network: set allow_private = true if the EHR is in yours "
                "(loopback, link-local and metadata addresses are never connected to)"
            )
        case HttpProblem.REFUSED_ADDRESS:
            return f"{host} has a loopback, link-local or metadata address, which is never connected to"
        case HttpProblem.REDIRECT:
            return f"{host} answers with a redirect, which is not followed: use the address it leads to"
        case HttpProblem.NOT_JSON:
            return (
                f"{host} answers with something that is no JSON, such as a web page: check fhir_base, and "
                "whether a login page or a proxy stands in between"
            )
        case HttpProblem.TOO_LARGE:
            return f"the answer of {host} is larger than the app accepts"
        case HttpProblem.BUSY:
            return f"no request to {host} was free: it asked for a pause, or requests_per_minute is used up"
        case HttpProblem.FOREIGN_URL:
            return "the address lies on a host that is not listed: add it to oauth_hosts, if it is the EHR's"
        case _:
            return f"{host} answers with status {error.status}"


def _tls_trouble(error: HttpError, issuer: Issuer, host: str) -> str:
    match error.detail:
        case "self-signed" | "unknown authority" if issuer.ca_bundle:
            return (
                f"the certificate of {host} is not signed by an authority in ca_bundle ({issuer.ca_bundle})"
            )
        case "self-signed" | "unknown authority":
            return (
                f"the certificate of {host} is signed by nobody this machine knows ({error.detail}): put the "
                "certificate of the hospital's authority into a file and set ca_bundle to it"
            )
        case "expired":
            return f"the certificate of {host} is expired: the EHR's team must renew it"
        case "not valid yet":
            return f"the certificate of {host} is not valid yet: compare this machine's clock"
        case "another name":
            return f"the certificate is for another name than {host}: check fhir_base"
        case _:
            return f"no TLS could be agreed with {host}: it must speak TLS 1.2 or 1.3"


def status_words(status: int) -> str:
    """What an HTTP status means here."""
    words = {
        400: "does not understand the request",
        401: "does not accept the token",
        403: "does not allow it: the scope is not granted",
        404: "does not know it",
        405: "does not allow it",
        406: "does not answer in JSON",
        429: "asks for fewer requests: set requests_per_minute",
    }
    return f"the server {words.get(status, 'fails' if status >= 500 else 'refuses')} ({status})"
