"""Texts that are alike, kept by where they differ.

A patient's readings differ in an id, a moment and a value. Texts of one shape (the same punctuation, and
words as long, in the same places) are laid one below the other: what all of them say is kept once, and where
they differ, each place is kept as a column. So what is random in them is nearly all that they cost.

Pure, and nothing is lost: what was pressed comes back to the byte, in the order in which it was.
"""

from __future__ import annotations

import re
import string
import zlib
from collections.abc import Iterator, Sequence

import msgspec
from msgspec import Struct

_WORD = frozenset((string.ascii_letters + string.digits + "+-._").encode())
_SHAPE = bytes(ord("x") if one in _WORD else one for one in range(256))
_DIFFERENT = re.compile(rb"[^\0]")
_LEVEL = 6


class _Pressed(Struct, array_like=True, gc=False):
    shapes: list[int]
    """Of which shape each text is; the rest by shape."""
    firsts: list[bytes]
    places: list[list[int]]
    """Where texts of a shape differ, each as its distance from the one before."""


_encode, _decode = msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder(_Pressed).decode
_two = msgspec.msgpack.Decoder(tuple[bytes, bytes])


def press(texts: Sequence[bytes]) -> bytes:
    """These texts as bytes: few, where neighbours are alike."""
    numbers: dict[bytes, int] = {}
    alike: list[list[bytes]] = []
    shapes = []
    for text in texts:
        number = numbers.setdefault(text.translate(_SHAPE), len(alike))
        if number == len(alike):
            alike.append([])
        alike[number].append(text)
        shapes.append(number)
    places = list(map(_different, alike))
    told = _Pressed(shapes, [rows[0] for rows in alike], list(map(_distances, places)))
    return _encode((_squeezed(_encode(told)), _squeezed(b"".join(map(_columns, alike, places)))))


def expand(pressed: bytes) -> Iterator[bytes]:
    """The texts that were pressed, one at a time; `ValueError` where these are none."""
    try:
        first, second = _two.decode(pressed)
        told, columns = _decode(zlib.decompress(first, -15)), zlib.decompress(second, -15)
    except (zlib.error, msgspec.DecodeError):
        raise ValueError("not texts that were pressed") from None
    rows, begin = [], 0
    for text, places, many in zip(told.firsts, told.places, _counts(told), strict=True):
        rows.append(_rows(text, places, columns[begin : begin + len(places) * many], many))
        begin += len(places) * many
    return (next(rows[number]) for number in told.shapes)


def _squeezed(told: bytes) -> bytes:
    # Filtered: short matches in what is random cost more than they save.
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, -15, 9, zlib.Z_FILTERED)
    return packer.compress(told) + packer.flush()


def _counts(told: _Pressed) -> list[int]:
    found = [0] * len(told.firsts)
    for number in told.shapes:
        found[number] += 1
    return found


def _different(rows: Sequence[bytes]) -> list[int]:
    """The places at which not all of these say the same; all are of one length."""
    first = int.from_bytes(rows[0], "big")
    found = 0
    for row in rows:
        found |= first ^ int.from_bytes(row, "big")
    return [one.start() for one in _DIFFERENT.finditer(found.to_bytes(len(rows[0]), "big"))]


def _columns(rows: Sequence[bytes], places: Sequence[int]) -> bytes:
    size, joined = len(rows[0]), b"".join(rows)
    return b"".join([joined[place::size] for place in places])


def _rows(first: bytes, distances: Sequence[int], columns: bytes, many: int) -> Iterator[bytes]:
    size, place = len(first), -1
    joined = bytearray(first * many)
    for number, distance in enumerate(distances):
        place += distance
        joined[place::size] = columns[number * many : (number + 1) * many]
    return (bytes(joined[at * size : (at + 1) * size]) for at in range(many))


def _distances(places: Sequence[int]) -> list[int]:
    return [place - before for before, place in zip((-1, *places), places, strict=False)]
