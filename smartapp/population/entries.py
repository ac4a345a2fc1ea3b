"""Records that more than one folder may need: what lies in the pool, and what folders tell each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
from msgspec import Struct

from fhir_mappings.boiled import Item
from smartapp.population.blocks import Blocks, BlockWriter, Seal


class Entry(Struct, frozen=True, array_like=True, gc=False):
    """A record that more than one folder may need."""

    folder: str
    item: Item
    borne: tuple[int, ...]
    asked: tuple[int, ...]


class Gathered:
    """Entries, one a record; of what came twice two: that it did is told, and how often nobody asks."""

    def __init__(self) -> None:
        self._times: Counter[tuple[str, Item]] = Counter()
        self._keys: dict[tuple[str, Item], tuple[set[int], set[int]]] = {}

    def add(self, entries: Iterable[Entry]) -> None:
        """Records, as often as they are here."""
        for entry in entries:
            self._times[self._learned(entry)] += 1

    def add_again(self, entries: Iterable[Entry]) -> None:
        """Records that may have been told before, and are told as often as they are."""
        self._times |= Counter(map(self._learned, entries))

    def _learned(self, entry: Entry) -> tuple[str, Item]:
        place = entry.folder, entry.item
        borne, asked = self._keys.setdefault(place, (set(), set()))
        borne.update(entry.borne)
        asked.update(entry.asked)
        return place

    def entries(self) -> Iterator[Entry]:
        for place, times in self._times.items():
            borne, asked = self._keys[place]
            entry = Entry(*place, tuple(sorted(borne)), tuple(sorted(asked)))
            yield from [entry] * min(times, 2)


_entries = msgspec.msgpack.Decoder(list[Entry])
_encode = msgspec.msgpack.Encoder().encode


def read_entries(path: Path, seal: Seal, name: str = "pool") -> Iterator[Entry]:
    for block in Blocks(path, seal, name).read("entries"):
        yield from _entries.decode(block)


def write_entries(path: Path, entries: Iterable[Entry], seal: Seal, name: str = "pool") -> None:
    with BlockWriter(path, seal, name) as out:
        waiting: list[Entry] = []
        for entry in entries:
            waiting.append(entry)
            if len(waiting) >= 2_000:
                out.add("entries", _encode(waiting))
                waiting.clear()
        out.add("entries", _encode(waiting))
