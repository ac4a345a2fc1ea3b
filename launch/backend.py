"""SMART Backend Services: access without a user, for exports and the worklist at night.

Client credentials with a signed assertion and `system/` scopes; no refresh token exists, a new access token
is simply asked for.
"""

from __future__ import annotations

import threading

from launch.discovery import Discovery
from launch.errors import ConfigurationError
from launch.http import EhrClients
from launch.issuers import ClientAuth, Issuer
from launch.ports import Clock
from launch.tokens import RENEW_BEFORE, TokenResponse, request_token


class BackendTokens:
    """Access tokens of this app itself, kept until a minute before they end. Threads share it."""

    def __init__(self, clients: EhrClients, discovery: Discovery, clock: Clock) -> None:
        self._clients = clients
        self._discovery = discovery
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: dict[tuple[str, str], TokenResponse] = {}

    def token(self, issuer: Issuer, scope: str) -> TokenResponse:
        """A token for that scope (`system/Observation.rs ...`); its `scope` says what was granted.

        Raises ConfigurationError unless the issuer's client_auth is private-key-jwt; LaunchError, HttpError.
        """
        if issuer.client_auth is not ClientAuth.PRIVATE_KEY_JWT:
            raise ConfigurationError(f"issuers.{issuer.id}", "backend services need private-key-jwt")
        key = (issuer.fhir_base, scope)
        # Held over the request: one token is asked for, however many threads want it.
        with self._lock:
            kept = self._kept.get(key)
            if kept and kept.expires_at - RENEW_BEFORE > self._clock.now():
                return kept
            client = self._clients.of(issuer)
            endpoint = self._discovery.of(client).token_endpoint
            form = (("grant_type", "client_credentials"), ("scope", scope))
            fresh = request_token(client, endpoint, form, self._clock.now())
            self._kept[key] = fresh
            return fresh

    def refused(self, issuer: Issuer, scope: str, token: TokenResponse) -> None:
        """The EHR takes this token no more, whatever it said of its life: the next one is asked for."""
        with self._lock:
            if self._kept.get((issuer.fhir_base, scope)) is token:
                del self._kept[(issuer.fhir_base, scope)]
