"""Pages of a reading that nobody opens again."""

from __future__ import annotations

from smartapp.ehr.reading.pages import Pages, Room
from smartapp.store.reading import SealedChunk


class _Unsealed:
    def seal_chunk(self, origin, resources):
        return SealedChunk(origin, "", b"")

    def open_chunk(self, chunk):
        raise AssertionError("nothing was kept")


def unsealed_pages() -> Pages:
    return Pages(_Unsealed(), Room())
