"""One shard at a time: the records of its folders, put together, kept, decided.

A task reads sealed files and writes one; what it wrote it never changes. So a run that was stopped goes on
where it was, and a shard that failed is tried once more from what it was given.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from fhir_mappings.boiled import Item, Keys, folder_of, key_of, keys_of_item, kin_key
from fhir_mappings.chart.encounters import Busy
from fhir_mappings.completeness import DECIDING, Missing, MissingWhy
from fhir_mappings.local_time import ONE_DAY
from smartapp.population.blocks import Blocks, BlockWriter, Seal
from smartapp.population.deciding import Answered, Decider, may_be_patient
from smartapp.population.entries import Entry, read_entries
from smartapp.population.partition import Piece
from smartapp.population.rows import lines_of, rows_of
from smartapp.population.shelves import Answer, Folder, Shelf, new_shelves, read_folders, shelves

_Kind = TypeVar("_Kind")
_HALF = (1 << 32) - 1
_PATIENT = re.compile(rb'"resourceType"\s*:\s*"([A-Za-z]{1,64})"')


class Context(Struct, frozen=True):
    """What a whole run has in common."""

    as_of: date
    generation: int
    buckets: int
    everyones: bool
    """No Patient is anywhere: each subject is a patient."""
    missing: tuple[tuple[str, Missing], ...] = ()
    of_group: bool = False
    """A night of a Group's export: whoever is new in it has what changed since, and perhaps no more."""


class ShardJob(Struct, frozen=True):
    """Put a shard together from `before` and the `parts`, decide, and write it to `out`.

    Decided are the folders with new records, those whose day has come, those that hang together with
    `changed` keys, all of them where `everyone`, and whoever's double bookings differ from `double`.
    """

    shard: int
    out: Path
    before: Path | None
    parts: tuple[tuple[Path, str], ...] = ()
    pool: Path | None = None
    keys: Path | None = None
    """Where the keys of the new records go, for other shards to compare."""
    all_keys: bool = False
    everyone: bool = False
    changed: Path | None = None
    touched: Path | None = None
    double: Path | None = None


class ShardTold(Struct, array_like=True):
    """What came of one shard. `wanted`: halves of keys for which records must be told to others."""

    folders: int = 0
    patients: int = 0
    decided: int = 0
    failed: int = 0
    rows: int = 0
    wanted: list[int] = []


class Changed(Struct, array_like=True):
    """Halves of the keys that this night's records bear and ask, each with the half of the one folder's key
    that they are of; 0 where they are of several."""

    borne: dict[int, int] = {}
    asked: dict[int, int] = {}
    pool: list[int] = []
    """Of what no patient owns: what this night brought, and what leads to it."""
    deleted: list[int] = []


def half(key: int) -> int:
    return key & _HALF


def shard_name(shard: int) -> str:
    return f"shard {shard}"


class Pool:
    """The records that more than one folder may need, by key."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._entries = list(entries)
        self._by_key: dict[int, list[int]] = {}
        for number, entry in enumerate(self._entries):
            for key in entry.borne:
                self._by_key.setdefault(half(key), []).append(number)

    def company(self, folder: str, keys: Iterable[int]) -> list[Entry]:
        """What hangs together with a folder of these keys, and lies elsewhere."""
        found: dict[int, None] = {}
        seen = set(keys)
        waiting = [key for key in seen if key in self._by_key]
        while waiting:
            for number in self._by_key[waiting.pop()]:
                if number in found:
                    continue
                found[number] = None
                entry = self._entries[number]
                for key in (*entry.borne, *entry.asked):
                    if (short := half(key)) not in seen:
                        seen.add(short)
                        if short in self._by_key:
                            waiting.append(short)
        return [self._entries[number] for number in sorted(found) if self._entries[number].folder != folder]


class Workshop:
    """What one process needs for its tasks; kept from one to the next."""

    def __init__(self, seal: Seal, decider: Decider, context: Context) -> None:
        self.seal = seal
        self.decider = decider
        self.context = context
        self._pool: tuple[Path | None, Pool] = (None, Pool(()))
        self._changed: tuple[Path | None, Changed] = (None, Changed())

    def pool(self, path: Path | None) -> Pool:
        if path != self._pool[0]:
            self._pool = (path, Pool(read_entries(path, self.seal) if path is not None else ()))
        return self._pool[1]

    def changed(self, path: Path | None) -> Changed:
        if path != self._changed[0]:
            told = Changed()
            if path is not None:
                told = msgspec.msgpack.decode(Blocks(path, self.seal, "changed").one("changed"), type=Changed)
            self._changed = (path, told)
        return self._changed[1]

    @cached_property
    def missing(self) -> dict[str, list[tuple[str, Missing]]]:
        found: dict[str, list[tuple[str, Missing]]] = {}
        for owner, one in self.context.missing:
            found.setdefault(folder_of(owner) if owner else "", []).append((owner, one))
        return found


OLDER = tuple(
    Missing(type_, MissingWhy.NOT_SEARCHED, detail="new in the Group since the last whole export")
    for type_ in sorted(DECIDING)
)
"""What may be missing of somebody who joined a Group: anything, until everything is exported again."""
_pieces = msgspec.msgpack.Decoder(list[Piece])
_encode = msgspec.msgpack.Encoder().encode


def decide_shard(job: ShardJob, shop: Workshop) -> ShardTold:
    """See `ShardJob`."""
    try:
        return _Shard(job, shop).done()
    finally:
        shop.decider.fresh()


class _Shard:
    def __init__(self, job: ShardJob, shop: Workshop) -> None:
        self._job, self._shop = job, shop
        self._pool = shop.pool(job.pool)
        self._told = ShardTold()
        self._wanted: set[int] = set()
        self._borne, self._asked = array("Q"), array("Q")

    def done(self) -> ShardTold:
        job, told, context = self._job, self._told, self._shop.context
        new = self._pieces()
        double = self._read(job.double, "double", dict[str, list[str]]) or {}
        touched = frozenset(self._read(job.touched, "touched", list[int]) or ())
        busy: dict[int, list[Busy]] = {}
        with BlockWriter(job.out, self._shop.seal, shard_name(job.shard)) as out:
            for shelf in self._shelves(new):
                for place, before in enumerate(shelf.folders):
                    folder, is_new = self._merged(shelf, place, new.pop(before.name, []))
                    if self._is_asked(folder, before, is_new, touched, double.get(folder.name)):
                        folder = self._decided(folder, shelf, place, double.get(folder.name))
                    shelf.folders[place] = folder
                    told.folders += 1
                    told.patients += bool(folder.patient or folder.failed)
                    told.failed += folder.failed
                    for person, start, end, encounter in folder.busy:
                        span = (str(person), start, end, folder.name, encounter)
                        busy.setdefault(person % context.buckets, []).append(span)
                shelf.write(out)
            for bucket, spans in busy.items():
                out.add(f"busy {bucket}", _encode(spans))
            self._write_keys()
            told.wanted = sorted(self._wanted)
            out.add("told", _encode(told))
        return told

    def _pieces(self) -> dict[str, list[Piece]]:
        found: dict[str, list[Piece]] = {}
        for path, name in self._job.parts:
            for block in Blocks(path, self._shop.seal, name).read(str(self._job.shard)):
                for piece in _pieces.decode(block):
                    found.setdefault(piece.folder, []).append(piece)
        return found

    def _shelves(self, new: dict[str, list[Piece]]) -> Iterator[Shelf]:
        """The folders there were, and then those that are new."""
        if self._job.before is not None:
            yield from shelves(self._job.before, shard_name(self._job.shard), self._shop.seal)
        late = self._shop.context.of_group
        yield from new_shelves([(Folder(name, late=late), len(new[name])) for name in sorted(new)])

    def _read(self, path: Path | None, block: str, kind: type[_Kind]) -> _Kind | None:
        if path is None:
            return None
        return msgspec.msgpack.decode(Blocks(path, self._shop.seal, block).one(block), type=kind)

    def _merged(self, shelf: Shelf, place: int, pieces: list[Piece]) -> tuple[Folder, bool]:
        """A folder with what came for it, and whether that tells anything new."""
        folder = shelf.folders[place]
        known = list(map(keys_of_item, shelf.items(place))) if self._job.all_keys else []
        if not pieces:
            if self._job.all_keys:
                self._tell(known, folder.name)
            return folder, False
        items = [piece.item for piece in pieces]
        keys = [*(piece.keys for piece in pieces), *known]
        self._tell(keys, folder.name)
        borne = {half(key) for one in keys for key in (*one.borne, *one.kin)}
        borne.update(map(half, own_keys(folder.name)), array("I", folder.borne))
        asked = {half(key) for one in keys for key in one.asked}.union(array("I", folder.asked)) - borne
        merged = replace(
            folder,
            borne=array("I", sorted(borne)).tobytes(),
            asked=array("I", sorted(asked)).tobytes(),
            person=folder.person or any(map(_is_patient, items)),
        )
        return merged, shelf.add(place, items)

    def _tell(self, keys: list[Keys], name: str) -> None:
        """The whole keys of a folder's new records, for the comparison with all others."""
        borne = {key for one in keys for key in (*one.borne, *one.kin)}.union(own_keys(name))
        self._borne.extend(borne)
        self._asked.extend({key for one in keys for key in one.asked} - borne)

    def _write_keys(self) -> None:
        if self._job.keys is None:
            return
        buckets = self._shop.context.buckets
        with BlockWriter(self._job.keys, self._shop.seal, "keys") as out:
            for kind, keys in (("borne", self._borne), ("asked", self._asked)):
                by_bucket: dict[int, array[int]] = {}
                for key in keys:
                    by_bucket.setdefault(key % buckets, array("Q")).append(key)
                for bucket, of_bucket in by_bucket.items():
                    out.add(f"{kind} {bucket}", of_bucket.tobytes(), packed=True)

    def _is_asked(
        self,
        folder: Folder,
        before: Folder,
        is_new: bool,
        touched: frozenset[int],
        double: list[str] | None,
    ) -> bool:
        if self._job.double is not None:
            return tuple(double or ()) != folder.double
        due = folder.due is not None and folder.due <= self._shop.context.as_of
        hit = self._is_hit(folder, before) if before.borne else False
        if touched and not touched.isdisjoint(folder.keys):
            return True
        return self._job.everyone or due or is_new or hit or folder.failed

    def _is_hit(self, folder: Folder, before: Folder) -> bool:
        """Do other folders' new records hang together with what was here before?"""
        changed = self._shop.changed(self._job.changed)
        own = half(key_of(folder.name))
        borne, asked = set(array("I", before.borne)), set(array("I", before.asked))
        others = {key for key in changed.borne.keys() & borne if changed.borne[key] != own}
        others |= {key for key in changed.asked.keys() & borne if changed.asked[key] != own}
        others |= {key for key in changed.borne.keys() & asked if changed.borne[key] != own}
        others |= borne.intersection(changed.pool)
        self._wanted |= others
        # What no patient owns lies in the pool already, and so does that something is gone.
        return bool(others) or not (asked.isdisjoint(changed.pool) and borne.isdisjoint(changed.deleted))

    def _decided(self, folder: Folder, shelf: Shelf, place: int, double: list[str] | None) -> Folder:
        context = self._shop.context
        booked = folder.double if self._job.double is None else tuple(double or ())
        known = shelf.answer(place)
        if not (may_be_patient(folder.name) if context.everyones else folder.person):
            shelf.put(place, known, b"")
            return replace(folder, due=None)
        self._told.decided += 1
        try:
            patient, rows, due, busy, listed = self._answer(folder, shelf.items(place), booked)
            failed = False
        except Exception:
            patient, rows, due, busy = folder.patient, b"", context.as_of + ONE_DAY, folder.busy
            listed, failed = b"", True
        self._told.rows += rows.count(b"\n")
        again = folder.changed_in == context.generation and known.before is not None
        before = known.before if again else known.rows
        shelf.put(place, Answer(rows, before if before != rows else None), listed)
        return replace(
            folder,
            patient=patient,
            due=due,
            changed_in=context.generation,
            busy=busy,
            double=booked,
            failed=failed,
        )

    def _answer(
        self, folder: Folder, items: Sequence[Item], booked: tuple[str, ...]
    ) -> tuple[str, bytes, date | None, tuple[tuple[int, int, int, str], ...], bytes]:
        for told in answers(folder, items, self._pool, self._shop, booked):
            busy = tuple((key_of(person), start, end, name) for person, start, end, name in told.busy)
            return told.patient, lines_of(rows_of(told.contract)), told.due, busy, told.listed
        return "", b"", None, (), b""


def answers(
    folder: Folder, items: Sequence[Item], pool: Pool, shop: Workshop, booked: tuple[str, ...]
) -> list[Answered]:
    """The answer of a folder's patient: of its records, and of those that hang together with them."""
    company = pool.company(folder.name, folder.keys)
    missing = [*shop.missing.get("", ()), *shop.missing.get(folder.name, ())]
    if folder.late:
        missing += [("", one) for one in OLDER]
    for other in sorted({entry.folder for entry in company if entry.folder}):
        missing += shop.missing.get(other, ())
    return shop.decider.answers(
        folder.name,
        (*items, *(entry.item for entry in company)),
        missing,
        frozenset(booked),
        shop.context.everyones,
    )


class ToldJob(Struct, frozen=True):
    """Write the records of a shard that other folders need (`wanted`) to `out`."""

    shard: int
    before: Path
    wanted: Path
    out: Path


class Told(Struct, array_like=True):
    entries: int = 0
    touched: bool = False
    """A folder here asks or bears one of those keys: it must be decided anew."""


def tell_others(job: ToldJob, shop: Workshop) -> Told:
    """See `ToldJob`. Of a folder that is wanted itself, by its name or as the same person, all is told."""
    wanted = frozenset(
        msgspec.msgpack.decode(Blocks(job.wanted, shop.seal, "touched").one("touched"), type=list[int])
    )
    entries: list[Entry] = []
    told = Told()
    for kept in read_folders(job.before, shard_name(job.shard), shop.seal):
        folder = kept.folder
        borne = array("I", folder.borne)
        told.touched |= not wanted.isdisjoint(array("I", folder.asked))
        if wanted.isdisjoint(borne):
            continue
        told.touched = True
        items = [(item, keys_of_item(item)) for item in kept.items]
        whole = {*own_keys(folder.name), *(key for _, keys in items for key in keys.kin)}
        shared = tuple(whole) if any(half(key) in wanted for key in whole) else ()
        entries += [
            Entry(folder.name, item, (*shared, *keys.borne), keys.asked)
            for item, keys in items
            if shared or any(half(key) in wanted for key in keys.borne)
        ]
    told.entries = len(entries)
    with BlockWriter(job.out, shop.seal, f"told {job.shard}") as out:
        out.add("entries", _encode(entries))
        out.add("told", _encode(told))
    return told


def own_keys(folder: str) -> tuple[int, ...]:
    """A folder's own, whatever lies in it. Under a pointer lies what somebody's Patient is asked for by its
    identifier or address: that Patient needs it, and it needs nothing of theirs."""
    return (key_of(folder), kin_key(folder)) if folder.startswith("Patient/") else (key_of(folder),)


def _is_patient(item: Item) -> bool:
    found = _PATIENT.search(item.text)
    return found is not None and found[1] == b"Patient"
