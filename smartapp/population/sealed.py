"""Sealed files of FHIR as whoever reads FHIR wants them: a stream of lines."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from smartapp.population.blocks import Blocks, NotOpened, Seal
from smartapp.population.files import SEALED, open_plain

LINES = "lines"
"""The block that holds a file's lines."""
SALT = ".salt"
"""Beside the files of a folder: makes keys of its own (with SMARTAPP_KEYS)."""
_BUFFER = 1 << 20


class Opener:
    """Opens plain and packed files, and with these keys sealed ones, each by the salt of its folder."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._seal_of = cache(lambda folder: Seal(keys, (folder / SALT).read_bytes()))

    def __call__(self, file: Path) -> io.BufferedIOBase:
        """Raises OSError where it can't be opened."""
        if file.suffix.lower() != SEALED:
            return open_plain(file)
        try:
            blocks = Blocks(file, self._seal_of(file.parent), file.name)
        except NotOpened as fault:
            raise OSError(0, str(fault).partition(": ")[2]) from None
        return io.BufferedReader(_Lines(blocks.read(LINES)), _BUFFER)


class _Lines(io.RawIOBase):
    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._held = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        into = memoryview(buffer).cast("B")
        while not self._held:
            try:
                block = next(self._blocks, None)
            except NotOpened as fault:
                raise OSError(0, str(fault).partition(": ")[2]) from None
            if block is None:
                return 0
            self._held = memoryview(block)
        count = min(len(into), len(self._held))
        into[:count] = self._held[:count]
        self._held = self._held[count:]
        return count
