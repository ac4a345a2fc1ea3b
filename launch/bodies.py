"""The body of an answer, piece by piece: decompressed within bounds, and the clock looked at in between."""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterator

from urllib3.response import BaseHTTPResponse

from launch.errors import HttpError, HttpProblem

_CHUNK = 64 * 1024
_PIECE = 1024 * 1024
"""Bytes that are decompressed at once, at most: a kilobyte of gzip can hold a megabyte."""
_SLOWEST, _SLOW_FOR = 64 * 1024, 120.0
"""Bytes that so many seconds must bring where a body may take hours: who drips is not waited for."""


class _Identity:
    """A body that is not compressed."""

    def steps(self, data: bytes, _: int) -> Iterator[bytes]:
        yield data

    def finish(self) -> None:
        return


class _Gunzip:
    """Decompresses step by step."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(31)
        self._within = False

    def steps(self, data: bytes, room: int) -> Iterator[bytes]:
        """What these bytes hold; what goes beyond `room` shows by one byte."""
        more = False
        while data or more:
            self._within = True
            most = min(room + 1, _PIECE)
            plain = self._stream.decompress(data, most)
            room -= len(plain)
            if plain:
                yield plain
            if self._stream.eof:
                data, self._stream = self._stream.unused_data, zlib.decompressobj(31)
                self._within = more = False
            else:
                # All that came may be taken in, and not all of it given out.
                data, more = self._stream.unconsumed_tail, len(plain) == most

    def finish(self) -> None:
        if self._within:
            raise OSError("a compressed body broken off")


def pieces(
    raw: BaseHTTPResponse, max_bytes: int, deadline: float, *, may_take_long: bool = False
) -> Iterator[bytes]:
    """The body, decompressed, at most `max_bytes` of it, before `deadline`; never more than a megabyte of it
    in memory. `may_take_long`: the deadline is far, and a server that drips is given up before."""
    encoding = raw.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in {"identity", "gzip", "x-gzip", ""}:
        raise HttpError(HttpProblem.NOT_JSON, maybe_acted=True)
    declared = raw.headers.get("Content-Length", "")
    # Python refuses to read a number of thousands of digits; one of twenty is too large for any limit.
    if declared.isdecimal() and (len(declared) >= 20 or int(declared) > max_bytes):
        raise HttpError(HttpProblem.TOO_LARGE, maybe_acted=True)
    decoder = _Gunzip() if "gzip" in encoding else _Identity()
    # Pieces that hold nothing fill no room: what comes is counted too, and packed it is hardly ever more.
    room, packed = max_bytes, max_bytes + _CHUNK
    since, brought = time.monotonic(), 0
    # read1 gives what one look at the socket brings, so that the clock is looked at between any two bytes.
    while data := raw.read1(_CHUNK, decode_content=False):
        brought += len(data)
        packed -= len(data)
        if packed < 0:
            raise HttpError(HttpProblem.TOO_LARGE, maybe_acted=True)
        for piece in decoder.steps(data, room):
            room -= len(piece)
            if room < 0:
                raise HttpError(HttpProblem.TOO_LARGE, maybe_acted=True)
            yield piece
        now = time.monotonic()
        if now >= deadline or (may_take_long and now - since >= _SLOW_FOR and brought < _SLOWEST):
            raise HttpError(HttpProblem.TIMEOUT, maybe_acted=True)
        if now - since >= _SLOW_FOR:
            since, brought = now, 0
    decoder.finish()


def read(raw: BaseHTTPResponse, max_bytes: int, deadline: float) -> bytes:
    """The whole body, decompressed, at most `max_bytes`, before `deadline`."""
    return b"".join(pieces(raw, max_bytes, deadline))
