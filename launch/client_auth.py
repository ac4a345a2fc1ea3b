"""How this app proves who it is at a token endpoint: not at all, by a secret, or by a signed assertion.

Assertions are signed here rather than by a library's ready-made class: SMART wants RS384 or ES384, a life of
at most five minutes, `kid`, and a new `jti` for every single request.
"""

from __future__ import annotations

import base64
import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey

from launch.errors import ConfigurationError
from launch.issuers import ClientAuth, Issuer, SigningAlgorithm

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
ASSERTION_LIFE = timedelta(seconds=240)
"""SMART allows five minutes; one is left for clocks that differ."""
_SMALLEST_RSA = 2048


@dataclass(frozen=True, slots=True)
class ClientCredentials:
    """What to add to one token request. For one request only: an assertion may not be sent twice."""

    form: tuple[tuple[str, str], ...] = field(repr=False)
    headers: dict[str, str] = field(repr=False)


def client_credentials(issuer: Issuer, token_endpoint: str, now: datetime) -> ClientCredentials:
    """The credentials of this app at one EHR. Raises ConfigurationError for a key that cannot sign."""
    match issuer.client_auth:
        case ClientAuth.PUBLIC:
            return ClientCredentials((("client_id", issuer.client_id),), {})
        case ClientAuth.SECRET_BASIC:
            pair = f"{issuer.client_id}:{issuer.client_secret}".encode()
            return ClientCredentials((), {"Authorization": f"Basic {base64.b64encode(pair).decode('ascii')}"})
        case ClientAuth.SECRET_POST:
            secret = issuer.client_secret or ""
            return ClientCredentials((("client_id", issuer.client_id), ("client_secret", secret)), {})
        case ClientAuth.PRIVATE_KEY_JWT:
            assertion = signed_assertion(issuer, token_endpoint, now)
            return ClientCredentials(
                (("client_assertion_type", ASSERTION_TYPE), ("client_assertion", assertion)), {}
            )


def signed_assertion(issuer: Issuer, token_endpoint: str, now: datetime) -> str:
    """A new client assertion (a JWT), valid for 240 s, for exactly this token endpoint."""
    issued = int(now.timestamp())
    header: dict[str, Any] = {
        "alg": issuer.signing_algorithm.value,
        "kid": issuer.signing_key_id,
        "typ": "JWT",
    }
    claims: dict[str, Any] = {
        "iss": issuer.client_id,
        "sub": issuer.client_id,
        "aud": token_endpoint,
        "iat": issued,
        "exp": issued + int(ASSERTION_LIFE.total_seconds()),
        "jti": secrets.token_urlsafe(24),
    }
    key = signing_key(issuer)
    return jwt.encode(header, claims, key, algorithms=[issuer.signing_algorithm.value])


def signing_key(issuer: Issuer) -> RSAKey | ECKey:
    """The issuer's private key, checked to fit its algorithm: RSA of 2048 bits and more, or P-384."""
    where = f"issuers.{issuer.id}.signing_key"
    pem = issuer.signing_key or ""
    try:
        if issuer.signing_algorithm is SigningAlgorithm.RS384:
            rsa = RSAKey.import_key(pem)
            if not rsa.is_private or rsa.raw_value.key_size < _SMALLEST_RSA:
                raise ConfigurationError(where, "RS384 needs a private RSA key of at least 2048 bits")
            return rsa
        ec = ECKey.import_key(pem)
        if not ec.is_private or ec.curve_name != "P-384":
            raise ConfigurationError(where, "ES384 needs a private key on the curve P-384")
        return ec
    except (JoseError, ValueError, TypeError, AttributeError):
        # `from None`: a parser's message may quote the key.
        raise ConfigurationError(
            where, f"is not a PEM private key for {issuer.signing_algorithm.value}"
        ) from None


def public_jwks(keys: dict[str, tuple[SigningAlgorithm, RSAKey | ECKey]]) -> dict[str, Any]:
    """The public half of our keys, by key id, as the JWKS an EHR reads: no private members, `alg` on each."""
    return {
        "keys": [
            {**key.as_dict(private=False), "kid": kid, "alg": algorithm.value, "use": "sig"}
            for kid, (algorithm, key) in sorted(keys.items())
        ]
    }
