"""What an EHR answered, and what one call to it may take."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

from launch.errors import HttpError, HttpProblem

MEGABYTE = 1024 * 1024
_DEEPEST_JSON = 64
_HALF_CHARACTER = re.compile(r"\\u[dD][89a-fA-F]")


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

STREAM_LIMITS = Limits(read=120.0, total=6 * 3600.0, max_bytes=256 * 1024 * MEGABYTE, tries=1)
"""A file of an export, on its way to a disk; what drips is given up long before (launch.bodies)."""


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
            require_shallow(value)
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


def retry_after(headers: Mapping[str, str]) -> float | None:
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


def require_shallow(value: Any, *, finite: bool = True) -> None:
    """Raises ValueError below 64 levels (whoever walks the value may then recurse), and for 1e999, where it
    must be finite."""
    level = [value]
    for _ in range(_DEEPEST_JSON):
        if finite and any(isinstance(item, float) and math.isinf(item) for item in level):
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
