"""Who is signed in: the id_token, fully validated before any of it is believed (OpenID Connect Core 3.1.3.7).

Only RS256, RS384, ES256 and ES384; keys only from the EHR's own JWKS, never from the token's header; `iss`
exactly the authorization server's, `aud` ours, `exp` and `iat` within two minutes, `nonce` the one we sent.
A patient or a relative may look, but never charge.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Any

from launch.discovery import SmartConfiguration
from launch.errors import HttpError, LaunchError, LaunchReason
from launch.http import EhrClient
from launch.ports import Clock
from launch.signed import Key, NotSigned, choose, header_of, parse_jwks, require_in_time, verified_claims
from launch.urls import UnsafeUrl, is_under, parse_url

KEEP_KEYS = timedelta(hours=1)
_USER = re.compile(r"(?:.*/)?(?P<type>[A-Z][A-Za-z]+)/(?P<id>[A-Za-z0-9\-._]{1,128})(?:/_history/[^/]+)?")


class UserKind(Enum):
    """What kind of resource `fhirUser` names."""

    PRACTITIONER = "Practitioner"
    PRACTITIONER_ROLE = "PractitionerRole"
    PATIENT = "Patient"
    RELATED_PERSON = "RelatedPerson"
    PERSON = "Person"
    UNKNOWN = "unknown"

    @property
    def may_charge(self) -> bool:
        """Whether such a user may write charges. Who cannot be told is treated like a patient."""
        return self in {UserKind.PRACTITIONER, UserKind.PRACTITIONER_ROLE}


def user_kind(fhir_user: str | None) -> UserKind:
    """The kind of user a session's `fhir_user` names."""
    found = _USER.fullmatch(fhir_user or "")
    if found and found["type"] in {kind.value for kind in UserKind}:
        return UserKind(found["type"])
    return UserKind.UNKNOWN


@dataclass(frozen=True, slots=True)
class Identity:
    """Who is signed in, after validation."""

    subject: str
    issuer: str
    fhir_user: str | None
    """Relative ("Practitioner/7") under the FHIR base, and only then to be read; else absolute."""
    name: str | None


class IdentityVerifier:
    """Validates id_tokens; keeps each authorization server's keys for an hour. Threads share it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: dict[str, tuple[datetime, list[Key]]] = {}

    def verify(
        self, client: EhrClient, configuration: SmartConfiguration, id_token: str, nonce: str
    ) -> Identity:
        """Who the id_token says is signed in. Raises LaunchError(ID_TOKEN_INVALID), its detail says why."""
        try:
            return self._verified(client, configuration, id_token, nonce)
        except NotSigned as fault:
            raise _invalid(fault.detail) from None

    def _verified(
        self, client: EhrClient, configuration: SmartConfiguration, id_token: str, nonce: str
    ) -> Identity:
        expected = client.issuer.oidc_issuer or configuration.issuer
        if expected is None:
            raise _invalid("the authorization server's issuer is not known; set oidc_issuer")
        header = header_of(id_token)
        keys_at = self._keys_at(client, configuration, expected)
        key = choose(self._keys(client, keys_at, fresh=False), header)
        if key is None:
            # Keys are rotated: look once more, and only once.
            key = choose(self._keys(client, keys_at, fresh=True), header)
        if key is None:
            raise _invalid("no key fits")
        claims = verified_claims(id_token, key, str(header["alg"]))
        _check_claims(claims, expected, client.issuer.client_id, nonce, self._clock.now())
        return Identity(
            subject=str(claims["sub"]),
            issuer=expected,
            fhir_user=_fhir_user(claims, client),
            name=_short_text(claims.get("name")),
        )

    def _keys_at(self, client: EhrClient, configuration: SmartConfiguration, expected: str) -> str:
        """Where the keys are: the SMART configuration says it where it is the same server's, else OIDC's."""
        if configuration.jwks_uri and configuration.issuer == expected:
            return configuration.jwks_uri
        try:
            document = client.oauth_get(f"{expected.rstrip('/')}/.well-known/openid-configuration")
            found = document.require_ok().json_object()
        except HttpError as error:
            raise _invalid(f"openid-configuration: {error.problem.value}") from None
        if found.get("issuer") != expected or not isinstance(found.get("jwks_uri"), str):
            raise _invalid("openid-configuration of another issuer, or without keys")
        return str(found["jwks_uri"])

    def _keys(self, client: EhrClient, address: str, *, fresh: bool) -> list[Key]:
        now = self._clock.now()
        with self._lock:
            kept = self._kept.get(address)
        if kept and not fresh and timedelta() <= now - kept[0] < KEEP_KEYS:
            return kept[1]
        try:
            document = client.oauth_get(address).require_ok().json_object()
        except HttpError as error:
            raise _invalid(f"keys: {error.problem.value}") from None
        keys = parse_jwks(document)
        with self._lock:
            self._kept[address] = (now, keys)
        return keys


def _check_claims(claims: Mapping[str, Any], issuer: str, client_id: str, nonce: str, now: datetime) -> None:
    audience = claims.get("aud")
    audiences = audience if isinstance(audience, list) else [audience]
    if claims.get("iss") != issuer:
        raise _invalid("iss")
    if client_id not in audiences:
        raise _invalid("aud")
    if claims.get("azp", client_id) != client_id or (len(audiences) > 1 and "azp" not in claims):
        raise _invalid("azp")
    require_in_time(claims, now)
    if claims.get("nonce") != nonce:
        raise _invalid("nonce")
    if not isinstance(claims.get("sub"), str) or not claims["sub"]:
        raise _invalid("sub")


def _fhir_user(claims: Mapping[str, Any], client: EhrClient) -> str | None:
    """`fhirUser`, or where there is none `profile`, as older servers say; None if it names no kind of user
    we know."""
    value = claims.get("fhirUser")
    if value is None:
        value = claims.get("profile")
    if isinstance(value, str) and len(value) <= 512 and user_kind(value) is not UserKind.UNKNOWN:
        return _relative(value, client)
    return None


def _relative(reference: str, client: EhrClient) -> str | None:
    if "://" not in reference:
        return reference if re.fullmatch(r"[A-Za-z]+/[A-Za-z0-9\-._]+", reference) else None
    try:
        url = parse_url(reference)
    except UnsafeUrl:
        return None
    base = client.issuer.base
    return url.path.removeprefix(base.path + "/") if is_under(url, base) else reference


def _short_text(value: Any) -> str | None:
    return value[:200] if isinstance(value, str) and value else None


def _invalid(detail: str) -> LaunchError:
    return LaunchError(LaunchReason.ID_TOKEN_INVALID, detail=detail)
