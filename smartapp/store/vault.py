"""Encryption at rest. The first key encrypts, every key decrypts, so keys can be rotated without a pause.

A seal is made for one place: a column of a table, and the values by which its row is known (`sealed_column`).
In any other row or column it does not open, nor in its own once one of these values was changed. What it
does not know is its age: an earlier seal of the same place opens there too.

AES-256-GCM (RFC 5116), the place as associated data, a random nonce each. The keys are derived from those of
SMARTAPP_KEYS (HKDF, RFC 5869). Earlier versions sealed with Fernet, which knows no place: that opens still,
anywhere, until `smartapp keys reseal` has bound it.
"""

from __future__ import annotations

import base64
import binascii
import os
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from sqlalchemy import Column, LargeBinary, Row

_Record = TypeVar("_Record")

BOUND = b"\x01"
"""How a seal that knows its place begins; one of Fernet begins with a letter."""
_ID_LENGTH, _NONCE_LENGTH = 4, 12
_HEAD = len(BOUND) + _ID_LENGTH + _NONCE_LENGTH


class SealBroken(Exception):
    """No key of ours made these bytes."""


class SealMoved(SealBroken):
    """One of our keys made them, but for another place; or somebody changed them."""


def sealed_column(name: str, *bound_to: str, type_: Any = None, nullable: bool = False) -> Column[Any]:
    """A column of seals, each bound to its row by the columns `bound_to`, whose values never change."""
    kind = LargeBinary() if type_ is None else type_
    return Column(name, kind, nullable=nullable, info={"bound_to": bound_to})


def place(column: Column[Any], row: Row[Any] | Mapping[str, Any]) -> str:
    """What a seal in this column of this row is bound to. `row` has at least the columns it is bound by."""
    names: tuple[str, ...] = column.info["bound_to"]
    values: Mapping[Any, Any] = row._mapping if isinstance(row, Row) else row
    parts = [str(part) for part in (column.table.name, column.name, *(values[name] for name in names))]
    # JSON, so that no two lists of values have the same text.
    return msgspec.json.encode(parts).decode()


class _Key:
    """One key of SMARTAPP_KEYS, and what is derived from it."""

    def __init__(self, key: bytes) -> None:
        self.fernet = Fernet(key)
        material = base64.urlsafe_b64decode(key)
        self.aead = AESGCM(_derived(material, b"smartapp: seals", 32))
        self.id = _derived(material, b"smartapp: id of the key of seals", _ID_LENGTH)

    def opened(self, sealed: bytes, bound_to: str) -> bytes | None:
        """What was sealed; None where another key made it. Raises SealMoved."""
        if not sealed.startswith(BOUND):
            try:
                return self.fernet.decrypt(sealed)
            except InvalidToken:
                return None
        if sealed[len(BOUND) : len(BOUND) + _ID_LENGTH] != self.id:
            return None
        try:
            return self.aead.decrypt(
                sealed[_HEAD - _NONCE_LENGTH : _HEAD], sealed[_HEAD:], _associated(sealed, bound_to)
            )
        except (InvalidTag, ValueError):
            raise SealMoved from None

    def sealed(self, content: bytes, bound_to: str) -> bytes:
        head = BOUND + self.id
        nonce = os.urandom(_NONCE_LENGTH)
        return head + nonce + self.aead.encrypt(nonce, content, _associated(head, bound_to))


def _derived(material: bytes, purpose: bytes, length: int) -> bytes:
    return HKDF(SHA256(), length, salt=None, info=purpose).derive(material)


def _associated(sealed: bytes, bound_to: str) -> bytes:
    return sealed[: len(BOUND) + _ID_LENGTH] + bound_to.encode()


class Vault:
    """Seals bytes and records for a place (`place`), and opens them there."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._keys = [_Key(key) for key in keys]

    def seal(self, content: bytes, bound_to: str) -> bytes:
        # FHIR JSON shrinks about tenfold; level 1 keeps the time below what a page takes to arrive.
        return self._keys[0].sealed(zlib.compress(content, 1), bound_to)

    def unseal(self, sealed: bytes, bound_to: str) -> bytes:
        """The content; raises SealBroken."""
        return zlib.decompress(self._opened(sealed, bound_to)[1])

    @property
    def key_ids(self) -> tuple[str, ...]:
        """What each key is called, the newest first."""
        return tuple(key.id.hex() for key in self._keys)

    def key_of(self, sealed: bytes, bound_to: str) -> int | None:
        """Which key opens it: 0 for the newest; None if none does. Raises SealMoved."""
        try:
            return self._opened(sealed, bound_to)[0]
        except SealMoved:
            raise
        except SealBroken:
            return None

    def reseal(self, sealed: bytes, bound_to: str, anew: str | None = None) -> bytes:
        """The same content under the newest key, for the same place or for another; raises SealBroken."""
        return self._keys[0].sealed(self._opened(sealed, bound_to)[1], anew or bound_to)

    def _opened(self, sealed: bytes, bound_to: str) -> tuple[int, bytes]:
        for number, key in enumerate(self._keys):
            if (content := key.opened(sealed, bound_to)) is not None:
                return number, content
        raise SealBroken

    def seal_text(self, text: str, bound_to: str) -> str:
        """A text that may name a patient, sealed so that it can stand among plain facts."""
        return in_text(self.seal(text.encode(), bound_to))

    def unseal_text(self, token: str, bound_to: str) -> str:
        """Raises SealBroken."""
        return self.unseal(from_text(token), bound_to).decode()

    def seal_remark(self, text: str | None, bound_to: str) -> bytes | None:
        """Words of an EHR or a person, or none."""
        return None if text is None else self.seal(text.encode(), bound_to)

    def unseal_remark(self, sealed: bytes | None, bound_to: str) -> str | None:
        """Raises SealBroken."""
        return None if sealed is None else self.unseal(sealed, bound_to).decode()

    def seal_record(self, record: object, bound_to: str) -> bytes:
        return self.seal(msgspec.json.encode(record), bound_to)

    def unseal_record(self, sealed: bytes, bound_to: str, kind: type[_Record]) -> _Record:
        return msgspec.json.decode(self.unseal(sealed, bound_to), type=kind)


def in_text(sealed: bytes) -> str:
    """A seal as a text of letters, digits, `-`, `_` and `=`."""
    return base64.urlsafe_b64encode(sealed).decode() if is_bound(sealed) else sealed.decode()


def from_text(token: str) -> bytes:
    """The seal of such a text; raises SealBroken."""
    try:
        encoded = token.encode("ascii")
        opened = base64.urlsafe_b64decode(encoded)
    except (UnicodeEncodeError, binascii.Error):
        raise SealBroken from None
    # A seal of Fernet is a text from the start.
    return opened if is_bound(opened) else encoded


def is_bound(sealed: bytes) -> bool:
    """Whether a seal knows its place."""
    return sealed.startswith(BOUND)
