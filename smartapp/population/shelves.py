"""Folders that are kept side by side, a shelf of them at a time.

What folders have in common, words, codes, the shape of rows, is kept once a shelf and not once a patient.
Five blocks of a shard's file make one: what is looked at of every folder each night and, opened only where
somebody asks, records, those that came later, answers, and what a worklist needs. What nobody touched is
written again as it was.
"""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from functools import cached_property
from pathlib import Path

import msgspec
from msgspec import Struct

from fhir_mappings.boiled import Item, added, pack, unpack
from smartapp.population.blocks import Blocks, BlockWriter, Seal
from smartapp.population.listing import Listed, Lists, listed_in

FOLDERS, MOST_RECORDS = 32, 8_000
"""Of a new shelf. More would save little more, and a night opens all of a shelf for one of its folders."""
_MOST_LATER = 8
"""What came later stays by itself until it is one record in so many: to press all anew takes long."""
_LEVEL = 6
_ITEMS, _LATER, _ANSWERS, _LIST = "items", "later", "answers", "list"


class Folder(Struct, array_like=True, gc=False):
    """What is looked at of one subject each night."""

    name: str
    borne: bytes = b""
    """Halves of the keys by which others may call what lies here; `asked`: of what is called from here and
    lies elsewhere."""
    asked: bytes = b""
    person: bool = False
    """A Patient lies here."""
    patient: str = ""
    """Whose answer is kept; "" where it is nobody's."""
    due: date | None = None
    changed_in: int = 0
    """The run in which it was decided."""
    busy: tuple[tuple[int, int, int, str], ...] = ()
    double: tuple[str, ...] = ()
    """Encounters in which somebody was with another patient too (D13)."""
    failed: bool = False
    """It could not be decided."""
    late: bool = False
    """It came with a night of a Group: what is older of it may not have come."""

    @property
    def keys(self) -> array[int]:
        """All of them, borne and asked."""
        return array("I", self.borne + self.asked)


class Answer(Struct, frozen=True, array_like=True, gc=False):
    """A patient's rows, as lines."""

    rows: bytes = b""
    before: bytes | None = None
    """Those before the run `Folder.changed_in`, where they were others."""


_Items = list[tuple[Item, ...]]
_folders = msgspec.msgpack.Decoder(list[Folder])
_answers = msgspec.msgpack.Decoder(list[Answer])
_lists = msgspec.msgpack.Decoder(Lists)
_encode = msgspec.msgpack.Encoder().encode


class Shelf:
    """Some folders, and all that is kept of them. `file`, `number`: where it lies; a new one is empty."""

    def __init__(self, folders: list[Folder], file: Blocks | None = None, number: int = 0) -> None:
        self.folders = folders
        self._file, self._number = file, number
        self._changed: set[str] = set()

    def items(self, place: int) -> tuple[Item, ...]:
        """The records of a folder."""
        return (*self._items[place], *self._later[place])

    def answer(self, place: int) -> Answer:
        return self._answers[place]

    def add(self, place: int, items: Iterable[Item]) -> bool:
        """Further records of a folder. Whether they tell anything that was not there."""
        found = added(self.items(place), items)
        if found:
            self._later[place] = (*self._later[place], *found)
            self._changed.add(_LATER)
        return bool(found)

    def put(self, place: int, answer: Answer, listed: bytes) -> None:
        """A folder's answer, and what a worklist needs of it."""
        if answer != self._answers[place]:
            self._answers[place] = answer
            self._changed.add(_ANSWERS)
        if self._lists.put(place, listed):
            self._changed.add(_LIST)

    def write(self, out: BlockWriter) -> None:
        """Once more as it was, or as it has become. The last that is done with it: it is empty then."""
        if _LATER in self._changed and self._has_much_later():
            together = zip(self._items, self._later, strict=True)
            self._items, self._later = [(*one, *other) for one, other in together], [()] * len(self.folders)
            self._changed.add(_ITEMS)
        out.add("folders", _encode(self.folders))
        for block in (_ITEMS, _LATER, _ANSWERS, _LIST):
            known = self._file is not None and block not in self._changed
            out.add(block, self._kept(block) if known else self._packed(block), packed=True)

    def _packed(self, block: str) -> bytes:
        if block == _ANSWERS:
            return zlib.compress(_encode(self._answers), _LEVEL)
        if block == _LIST:
            return zlib.compress(_encode(self._lists), _LEVEL)
        return pack(_taken(self._items if block == _ITEMS else self._later))

    def _has_much_later(self) -> bool:
        later = sum(map(len, self._later))
        return later * _MOST_LATER > sum(map(len, self._items))

    def _kept(self, block: str) -> bytes:
        return b"" if self._file is None else self._file.numbered(block, self._number)

    @cached_property
    def _items(self) -> _Items:
        return self._unpacked(_ITEMS)

    @cached_property
    def _later(self) -> _Items:
        return self._unpacked(_LATER)

    def _unpacked(self, block: str) -> _Items:
        kept = self._kept(block)
        return unpack(kept) if kept else [()] * len(self.folders)

    @cached_property
    def _answers(self) -> list[Answer]:
        kept = self._kept(_ANSWERS)
        return _answers.decode(zlib.decompress(kept)) if kept else [Answer()] * len(self.folders)

    @cached_property
    def _lists(self) -> Lists:
        kept = self._kept(_LIST)
        return _lists.decode(zlib.decompress(kept)) if kept else Lists.of(len(self.folders))


def _taken(folders: _Items) -> Iterator[tuple[Item, ...]]:
    """One after another, so that none is held twice: as records, and as bytes."""
    folders.reverse()
    while folders:
        yield folders.pop()


class Kept(Struct, frozen=True):
    """One folder on its shelf."""

    shelf: Shelf
    place: int

    @property
    def folder(self) -> Folder:
        return self.shelf.folders[self.place]

    @property
    def items(self) -> tuple[Item, ...]:
        return self.shelf.items(self.place)

    @property
    def answer(self) -> Answer:
        return self.shelf.answer(self.place)


def shelves(path: Path, name: str, seal: Seal) -> Iterator[Shelf]:
    """Those of a shard's file. Raises `NotOpened`."""
    file = Blocks(path, seal, name)
    for number, block in enumerate(file.read("folders")):
        yield Shelf(_folders.decode(block), file, number)


def new_shelves(folders: Sequence[tuple[Folder, int]]) -> Iterator[Shelf]:
    """Shelves for new folders, each with the number of records that came for it."""
    shelves_of_them = max(round(len(folders) / FOLDERS), 1)
    most = -(-len(folders) // shelves_of_them)
    waiting: list[Folder] = []
    records = 0
    for folder, number in folders:
        if waiting and (len(waiting) == most or records + number > MOST_RECORDS):
            yield Shelf(waiting)
            waiting, records = [], 0
        waiting.append(folder)
        records += number
    if waiting:
        yield Shelf(waiting)


def read_folders(path: Path, name: str, seal: Seal) -> Iterator[Kept]:
    """The folders of a shard. Raises `NotOpened`."""
    for shelf in shelves(path, name, seal):
        for place in range(len(shelf.folders)):
            yield Kept(shelf, place)


def read_list(path: Path, name: str, seal: Seal) -> Iterator[Listed]:
    """What a worklist needs of a shard's patients. Raises `NotOpened`."""
    for block in Blocks(path, seal, name).read(_LIST):
        yield from listed_in(zlib.decompress(block))
