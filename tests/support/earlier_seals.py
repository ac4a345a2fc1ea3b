"""Seals as versions before 0.1.0 made them: Fernet, bound to no place."""

from __future__ import annotations

import zlib

import msgspec
from cryptography.fernet import Fernet


def sealed_earlier(key: bytes, content: bytes) -> bytes:
    return Fernet(key).encrypt(zlib.compress(content, 1))


def record_sealed_earlier(key: bytes, record: object) -> bytes:
    return sealed_earlier(key, msgspec.json.encode(record))
