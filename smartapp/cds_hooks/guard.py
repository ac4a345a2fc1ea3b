"""Who may ask for a card: an EHR that signed this very request, with a key that was configured for it, once.

CDS Hooks 2.0, "Trusting CDS Clients". What a request says of keys (`jku`, `jwk`, `x5u`) is not read.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from launch.ports import Clock
from launch.signed import SKEW, Key, NotSigned, choose, header_of, require_in_time, verified_claims
from smartapp.clock import Allowance
from smartapp.configuration.cds_hooks import CdsSettings
from smartapp.store.cds import CdsRequests

LONGEST_LIFE = timedelta(hours=1)
"""A token that lives longer is refused: so long its id must be kept, or it could come twice."""
_LONGEST_ID = 512
_MINUTE = timedelta(minutes=1)


class Refused(Exception):
    """A request that is answered with a bare 401. `reason`: one word for the log."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class TooMany(Exception):
    """This EHR has asked as often within the minute as it may."""


@dataclass(frozen=True)
class CdsClient:
    """An EHR that may ask. `issuer_id`: None where the site has but one EHR, which it is."""

    name: str
    issuer_id: str | None
    keys: tuple[Key, ...]
    requests_per_minute: int


class Guard:
    """Shared by all threads of a process."""

    def __init__(self, clients: Iterable[CdsClient], requests: CdsRequests, clock: Clock) -> None:
        self._clients = {client.name: client for client in clients}
        self._requests = requests
        self._clock = clock
        self._allowances = {
            name: Allowance(client.requests_per_minute, client.requests_per_minute, _MINUTE)
            for name, client in self._clients.items()
        }

    @classmethod
    def of(cls, settings: CdsSettings, requests: CdsRequests, clock: Clock) -> Guard:
        """Raises ValueError as `CdsSettings.keys_of`."""
        clients = (
            CdsClient(entry.client, entry.issuer, settings.keys_of(entry), entry.requests_per_minute)
            for entry in settings.entries
        )
        return cls(clients, requests, clock)

    @property
    def on(self) -> bool:
        """Whether anybody may ask at all."""
        return bool(self._clients)

    def admit(self, authorization: str, audience: str) -> CdsClient:
        """Whose request this is. `audience`: the address that was asked. Raises Refused, TooMany."""
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Refused("no token")
        now = self._clock.now()
        try:
            header = header_of(token)
            client = self._clients.get(_said(token).get("iss", ""))
            if client is None:
                raise Refused("unknown client")
            key = choose(list(client.keys), header) if "kid" in header else None
            if key is None:
                raise Refused("no key fits")
            claims = verified_claims(token, key, str(header["alg"]))
            until = _until(claims, client, audience, now)
        except NotSigned as fault:
            raise Refused(fault.detail) from None
        if not self._allowances[client.name].take(client.name, now)[0]:
            raise TooMany
        if not self._requests.take(client.name, _id(claims), until, now):
            raise Refused("replayed")
        return client


def _said(token: str) -> Mapping[str, Any]:
    """What an unverified token says, only to find whose keys to verify it with."""
    part = token.split(".")[1]
    try:
        padded = part + "=" * (-len(part) % 4)
        found = msgspec.json.decode(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (ValueError, binascii.Error, msgspec.DecodeError, RecursionError):
        raise Refused("claims") from None
    if not isinstance(found, dict) or not isinstance(found.get("iss"), str):
        raise Refused("iss")
    return found


def _until(claims: Mapping[str, Any], client: CdsClient, audience: str, now: datetime) -> datetime:
    """Until when a token's id must be kept. Raises Refused for one that is not for us, NotSigned for one that
    is not for now."""
    said = claims.get("aud")
    if audience not in (said if isinstance(said, list) else [said]):
        raise Refused("aud")
    if claims.get("iss") != client.name:
        raise Refused("iss")
    expires = require_in_time(claims, now)
    if expires > (now + LONGEST_LIFE + SKEW).timestamp():
        raise Refused("lives too long")
    return datetime.fromtimestamp(expires, UTC) + SKEW


def _id(claims: Mapping[str, Any]) -> str:
    found = claims.get("jti")
    if not isinstance(found, str) or not 0 < len(found) <= _LONGEST_ID:
        raise Refused("jti")
    return found
