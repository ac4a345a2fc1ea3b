"""Encryption at rest. The first key encrypts, every key decrypts, so keys can be rotated without a pause."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import TypeVar

import msgspec
from cryptography.fernet import Fernet, InvalidToken, MultiFernet

_Record = TypeVar("_Record")


class SealBroken(Exception):
    """The bytes were not sealed with any of our keys, or somebody changed them."""


class Vault:
    """Seals bytes and records (authenticated encryption: AES-CBC with HMAC-SHA256, as Fernet does it)."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._each = [Fernet(key) for key in keys]
        self._fernet = MultiFernet(self._each)

    def seal(self, content: bytes) -> bytes:
        # FHIR JSON shrinks about tenfold; level 1 keeps the time below that of the encryption it saves.
        return self._fernet.encrypt(zlib.compress(content, 1))

    def unseal(self, sealed: bytes) -> bytes:
        """The content; raises SealBroken."""
        try:
            return zlib.decompress(self._fernet.decrypt(sealed))
        except InvalidToken:
            raise SealBroken from None

    def key_of(self, sealed: bytes) -> int | None:
        """Which key opens it: 0 for the newest; None if none does."""
        for number, fernet in enumerate(self._each):
            try:
                fernet.decrypt(sealed)
            except InvalidToken:
                continue
            return number
        return None

    def reseal(self, sealed: bytes) -> bytes:
        """The same content under the newest key; raises SealBroken."""
        try:
            return self._fernet.rotate(sealed)
        except InvalidToken:
            raise SealBroken from None

    def seal_text(self, text: str) -> str:
        """A text that may name a patient, sealed so that it can stand among plain facts."""
        return self.seal(text.encode()).decode()

    def unseal_text(self, sealed: str) -> str:
        """Raises SealBroken."""
        return self.unseal(sealed.encode()).decode()

    def seal_remark(self, text: str | None) -> bytes | None:
        """Words of an EHR or a person, or none."""
        return None if text is None else self.seal(text.encode())

    def unseal_remark(self, sealed: bytes | None) -> str | None:
        """Raises SealBroken."""
        return None if sealed is None else self.unseal(sealed).decode()

    def seal_record(self, record: object) -> bytes:
        return self.seal(msgspec.json.encode(record))

    def unseal_record(self, sealed: bytes, kind: type[_Record]) -> _Record:
        return msgspec.json.decode(self.unseal(sealed), type=kind)
