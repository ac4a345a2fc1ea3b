"""Every request has a number: in the log, in the answer's `X-Request-ID`, and on an error page to be quoted.

One that a proxy gives is taken over where a proxy is trusted and it looks like one; whatever else comes in
that header is passed over.
"""

from __future__ import annotations

import logging
import re
import secrets
import time

from flask import Flask, Response, g, has_request_context, request

from smartapp.logs import FACTS
from smartapp.services import services

log = logging.getLogger("smartapp.requests")

HEADER = "X-Request-ID"
_GIVEN = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{7,63}")
NO_PAGE = "none"
"""The endpoint of an address that leads nowhere."""


def register(app: Flask) -> None:
    """First of all: what comes later may already fail."""
    app.url_value_preprocessor(lambda _endpoint, _values: _begin())
    app.after_request(_end)


def request_id() -> str:
    """The number of the request that is being answered."""
    if "request_id" not in g:
        _begin()
    number: str = g.request_id
    return number


def request_id_if_any() -> str | None:
    """The same, for the log: None outside of a request."""
    number: str | None = g.get("request_id") if has_request_context() else None
    return number


def _begin() -> None:
    g.began = time.monotonic()
    given = request.headers.get(HEADER, "")
    trusted = services().settings.trusted_proxies > 0 and _GIVEN.fullmatch(given) is not None
    g.request_id = given if trusted else secrets.token_hex(4)


def _end(response: Response) -> Response:
    response.headers[HEADER] = request_id()
    seconds = time.monotonic() - g.began
    endpoint = request.endpoint or NO_PAGE
    services().metrics.page(endpoint, response.status_code, seconds)
    # The endpoint, not the address: that names the session.
    facts = {
        "endpoint": endpoint,
        "method": request.method,
        "status": response.status_code,
        "milliseconds": round(seconds * 1000),
        "issuer": g.issuer.id if g.get("issuer") is not None else None,
    }
    log.info("%s %s", endpoint, response.status_code, extra={FACTS: facts})
    return response
