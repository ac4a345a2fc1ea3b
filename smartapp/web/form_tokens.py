"""What a form carries so that only a page of its own session can have made it, written anew in each answer.

Answers are compressed. Whoever can have them asked for, with text of their own in them, and measures how long
each one is, would learn a secret that always stands there as the same bytes (BREACH). So a token is never
written as it is: each answer has a random pad, and the token mixed with it.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode


def masked(secret: str) -> str:
    """The token of a cookie's value, as one answer writes it: 64 bytes in base64, never twice the same."""
    token = _token(secret)
    pad = secrets.token_bytes(len(token))
    return urlsafe_b64encode(pad + _mixed(pad, token)).decode()


def is_of(sent: str, secret: str) -> bool:
    """Whether what a form sent is the token of that cookie's value, under whatever pad."""
    token = _token(secret)
    try:
        both = urlsafe_b64decode(sent.encode())
    except (binascii.Error, ValueError):
        return False
    pad, mixed = both[: len(token)], both[len(token) :]
    return len(mixed) == len(token) and hmac.compare_digest(_mixed(pad, mixed), token)


def _token(secret: str) -> bytes:
    return hmac.new(secret.encode(), b"form", hashlib.sha256).digest()


def _mixed(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=True))
