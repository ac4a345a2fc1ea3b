"""The pages of a reading: sealed as they come, and opened once more when their records are told in words.

While a chart is read its pages are held as they came too, as long as there is room: unsealing and
uncompressing fifty thousand readings takes as long as deciding on them.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from smartapp.store.reading import SealedChunk, StoredResource

MEGABYTE = 1024 * 1024
MOST_HELD = 96 * MEGABYTE
"""Bytes that all readings of a process together hold so: a chart of sixty thousand readings."""


class Sealing(Protocol):
    """What seals pages and opens them (`smartapp.store.reading`)."""

    def seal_chunk(self, origin: str, resources: Sequence[StoredResource]) -> SealedChunk: ...

    def open_chunk(self, chunk: SealedChunk) -> list[StoredResource]: ...


class Room:
    """So many bytes, shared by whoever asks first."""

    def __init__(self, size: int = MOST_HELD) -> None:
        self._left = size
        self._lock = threading.Lock()

    def take(self, size: int) -> bool:
        """Whether there was as much left."""
        with self._lock:
            if size > self._left:
                return False
            self._left -= size
            return True

    def give_back(self, size: int) -> None:
        with self._lock:
            self._left += size


class Pages:
    """Those of one reading. Threads may seal at once."""

    def __init__(self, sealing: Sealing, room: Room) -> None:
        self._sealing = sealing
        self._room = room
        self._holds = False
        self._held: dict[str, tuple[int, Sequence[StoredResource]]] = {}
        """By the digest of what they hold."""

    def seal(self, origin: str, resources: Sequence[StoredResource]) -> SealedChunk:
        chunk = self._sealing.seal_chunk(origin, resources)
        if self._holds and chunk.sha256 not in self._held:
            size = sum(len(one.raw) for one in resources)
            if self._room.take(size):
                self._held[chunk.sha256] = (size, resources)
        return chunk

    def resources(self, chunks: Iterable[SealedChunk]) -> Iterator[StoredResource]:
        """Every resource of these pages of the reading, page by page."""
        for chunk in chunks:
            held = self._held.get(chunk.sha256)
            yield from self._sealing.open_chunk(chunk) if held is None else held[1]

    @contextmanager
    def held(self) -> Iterator[None]:
        """As long as this lasts pages are held as they came, as far as there is room."""
        self._holds = True
        try:
            yield
        finally:
            self._holds = False
            while self._held:
                self._room.give_back(self._held.popitem()[1][0])
