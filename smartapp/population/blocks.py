"""Sealed files: what is kept of a population is unreadable without the app's key.

A file is a run of blocks, each sealed by itself (AES-256-GCM, bound to the file's name and its own), and an
index at the end. It appears under its name only when it is whole: until then it has another.
"""

from __future__ import annotations

import os
import struct
import zlib
from base64 import urlsafe_b64decode
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_NONCE = 12
_END = struct.Struct(">QQ8s")
_MAGIC = b"SWEEPBLK"
_Index = dict[str, list[tuple[int, int]]]


class NotOpened(Exception):
    """A file that is not whole, was changed, or was sealed with another key; one line for a person."""


class Seal:
    """Seals and opens bytes. `keys`: as SMARTAPP_KEYS has them, newest first; `salt`: of one folder, so that
    what is sealed here opens nowhere else."""

    def __init__(self, keys: Sequence[bytes], salt: bytes) -> None:
        self._each = [AESGCM(_derived(urlsafe_b64decode(key), salt)) for key in keys]

    def seal(self, content: bytes, place: str) -> bytes:
        nonce = os.urandom(_NONCE)
        return nonce + self._each[0].encrypt(nonce, content, place.encode())

    def open(self, sealed: bytes, place: str) -> bytes:
        """Raises `NotOpened`."""
        for key in self._each:
            try:
                return key.decrypt(sealed[:_NONCE], sealed[_NONCE:], place.encode())
            except (InvalidTag, ValueError):
                continue
        raise NotOpened(f"{place}: cannot be opened: sealed with another key, or changed")


def _derived(key: bytes, salt: bytes) -> bytes:
    return HKDF(SHA256(), 32, salt, b"smartapp population state").derive(key)


class BlockWriter:
    """Writes one file; it appears when the `with` ends without an error. `name`: what it is bound to."""

    def __init__(self, path: Path, seal: Seal, name: str) -> None:
        self._path, self._seal, self._name = path, seal, name
        self._index: _Index = {}
        self._at = 0

    def __enter__(self) -> Self:
        # A name of its own: where a task is done twice at once, both write the same, and neither half of it.
        self._temporary = self._path.with_name(f".{self._path.name}.{os.urandom(4).hex()}.tmp")
        descriptor = os.open(self._temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        self._file = os.fdopen(descriptor, "wb")
        return self

    def add(self, block: str, content: bytes, *, packed: bool = False) -> None:
        """One more block of that name. `packed`: pressing it once more would gain nothing."""
        places = self._index.setdefault(block, [])
        told = b"\0" + content if packed else b"\1" + zlib.compress(content, 1)
        self._write(places, self._seal.seal(told, f"{self._name} {block} {len(places)}"))

    def _write(self, places: list[tuple[int, int]], sealed: bytes) -> None:
        self._file.write(sealed)
        places.append((self._at, len(sealed)))
        self._at += len(sealed)

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._file.close()
            self._temporary.unlink(missing_ok=True)
            return
        index = self._seal.seal(msgspec.msgpack.encode(self._index), f"{self._name} index")
        self._file.write(index + _END.pack(self._at, len(index), _MAGIC))
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._temporary.rename(self._path)


class Blocks:
    """Reads one file, a block at a time."""

    def __init__(self, path: Path, seal: Seal, name: str) -> None:
        self._path, self._seal, self._name = path, seal, name
        try:
            with path.open("rb") as content:
                content.seek(-_END.size, os.SEEK_END)
                at, length, magic = _END.unpack(content.read(_END.size))
                content.seek(at)
                sealed = content.read(length)
        except (OSError, struct.error):
            raise NotOpened(f"{path.name}: not whole") from None
        if magic != _MAGIC:
            raise NotOpened(f"{path.name}: not whole")
        self._index = msgspec.msgpack.decode(seal.open(sealed, f"{name} index"), type=_Index)

    @property
    def names(self) -> list[str]:
        return list(self._index)

    def read(self, block: str) -> Iterator[bytes]:
        """The blocks of that name, in the order in which they were written. Raises `NotOpened`."""
        with self._path.open("rb") as content:
            for number in range(len(self._index.get(block, ()))):
                yield self._opened(content, block, number)

    def numbered(self, block: str, number: int) -> bytes:
        """One of the blocks of that name, counted from 0. Raises `NotOpened`."""
        with self._path.open("rb") as content:
            return self._opened(content, block, number)

    def _opened(self, content: BinaryIO, block: str, number: int) -> bytes:
        at, length = self._index[block][number]
        content.seek(at)
        told = self._seal.open(content.read(length), f"{self._name} {block} {number}")
        return zlib.decompress(told[1:]) if told[:1] == b"\1" else told[1:]

    def one(self, block: str) -> bytes:
        """A block that is there once."""
        return next(self.read(block))
