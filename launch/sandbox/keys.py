"""The sandbox's signing key: made at start, published as a JWK Set."""

from __future__ import annotations

from typing import Any

from joserfc import jwt
from joserfc.jwk import RSAKey


class SigningKey:
    """An RSA key that signs id_tokens (RS256)."""

    def __init__(self) -> None:
        self._key = RSAKey.generate_key(2048, {"use": "sig", "alg": "RS256"}, auto_kid=True)

    def jwks(self) -> dict[str, Any]:
        """The public half as a JWK Set."""
        return {"keys": [self._key.as_dict(private=False)]}

    def sign(self, claims: dict[str, Any], with_kid: bool = True) -> str:
        """A compact JWT of these claims."""
        header = {"alg": "RS256", "typ": "JWT"}
        if with_kid:
            header["kid"] = str(self._key.kid)
        return jwt.encode(header, claims, self._key, algorithms=["RS256"])
