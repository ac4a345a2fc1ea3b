"""Signed tokens (JWT, RFC 7519), whoever signed them: only algorithms and keys that were expected beforehand.

RS256, RS384, ES256 and ES384; keys only from a set that the caller has, never from a token's header (`jwk`,
`jku`, `x5u` are not even read); a header that names what must be understood is refused.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey

from launch.answers import require_shallow

Key = RSAKey | ECKey
ALGORITHMS = frozenset({"RS256", "RS384", "ES256", "ES384"})
SKEW = timedelta(minutes=2)
"""So far two clocks may differ."""
_SMALLEST_RSA = 2048
_LONGEST_TOKEN = 64 * 1024
_CURVES = {"ES256": "P-256", "ES384": "P-384"}


class NotSigned(Exception):
    """A token that is not believed. `detail`: one word for a log, nothing of the token."""

    def __init__(self, detail: str) -> None:
        self.detail = detail
        super().__init__(detail)


def parse_jwks(document: Mapping[str, Any]) -> list[Key]:
    """The keys that may verify a signature; one that cannot be read never spoils the others."""
    entries = document.get("keys")
    keys: list[Key] = []
    for entry in entries if isinstance(entries, list) else []:
        if not isinstance(entry, dict) or entry.get("use", "sig") != "sig":
            continue
        try:
            if entry.get("kty") == "RSA":
                rsa = RSAKey.import_key(entry)
                if rsa.raw_value.key_size >= _SMALLEST_RSA:
                    keys.append(rsa)
            elif entry.get("kty") == "EC":
                keys.append(ECKey.import_key(entry))
        except (JoseError, ValueError, TypeError, KeyError, AttributeError):
            continue
    return keys


def header_of(token: str) -> dict[str, Any]:
    """The unverified header, only to choose a key by. Raises NotSigned for anything not allowed."""
    parts = token.split(".")
    if len(token) > _LONGEST_TOKEN or len(parts) != 3:
        raise NotSigned("not a signed token")
    try:
        padded = parts[0] + "=" * (-len(parts[0]) % 4)
        header = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (ValueError, binascii.Error, RecursionError):
        raise NotSigned("header") from None
    if not isinstance(header, dict):
        raise NotSigned("header")
    algorithm = header.get("alg")
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        raise NotSigned("alg")
    if "crit" in header or "b64" in header:
        raise NotSigned("crit")
    return header


def choose(keys: list[Key], header: Mapping[str, Any]) -> Key | None:
    """The key named by `kid`; without `kid` the only usable one: of two, nobody knows which is meant."""
    algorithm, kid = str(header["alg"]), header.get("kid")
    usable = [key for key in keys if _fits(key, algorithm)]
    if kid is not None:
        return next((key for key in usable if key.get("kid") == kid), None)
    return usable[0] if len(usable) == 1 else None


def _fits(key: Key, algorithm: str) -> bool:
    if key.get("alg") not in {None, algorithm}:
        return False
    if isinstance(key, ECKey):
        return _CURVES.get(algorithm) == key.curve_name
    return algorithm.startswith("RS")


def verified_claims(token: str, key: Key, algorithm: str) -> dict[str, Any]:
    """What a token says, once its signature was found to be the key's. Raises NotSigned."""
    registry = jws.JWSRegistry(algorithms=[algorithm], strict_check_header=False)
    registry.max_header_length = _LONGEST_TOKEN  # some put a certificate chain there, which is not looked at
    try:
        claims = jwt.decode(token, key, registry=registry).claims
    except (JoseError, ValueError, RecursionError):
        raise NotSigned("signature") from None
    try:
        # Halves of characters can be written neither to a store nor to a page.
        json.dumps(claims, ensure_ascii=False).encode("utf-8")
        require_shallow(claims, finite=False)  # which claim is no number, its reader says
    except (ValueError, RecursionError):
        raise NotSigned("claims") from None
    return claims


def require_in_time(claims: Mapping[str, Any], now: datetime) -> float:
    """That a token is good now, give or take what two clocks may differ; until when. Raises NotSigned."""
    moment, skew = now.timestamp(), SKEW.total_seconds()
    expires, issued, not_before = (seconds(claims, name) for name in ("exp", "iat", "nbf"))
    if expires is None or expires <= moment - skew:
        raise NotSigned("exp")
    if issued is None or issued > moment + skew:
        raise NotSigned("iat")
    if "nbf" in claims and (not_before is None or not_before > moment + skew):
        raise NotSigned("nbf")
    return expires


def seconds(claims: Mapping[str, Any], name: str) -> float | None:
    """A number of seconds that is one: NaN would compare as neither past nor future."""
    value = claims.get(name)
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return float(value) if abs(value) < 10**12 else None
