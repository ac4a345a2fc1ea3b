"""One pass over the input brings together what belongs to one patient.

Each record is read as a chart reads it (`Sorter` is an `Intake`), boiled down, and put where its folder's
shard will look for it; what no patient owns goes to the pool that every shard may look into. What cannot be
placed is kept as it stands: whatever it may have been is missing of every patient it may have been of (D20).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from datetime import date
from hashlib import sha256
from pathlib import Path

import msgspec
from msgspec import Raw, Struct

from fhir_mappings import resources as fhir
from fhir_mappings.boiled import NO_KEYS, Item, Keys, boiled, folder_of, key_of, keys_of
from fhir_mappings.chart import bundles
from fhir_mappings.chart.intake import SUBJECT_FREE, Hint, Intake
from fhir_mappings.chart.subjects import Arrival, ReadObservation
from fhir_mappings.completeness import Missing
from fhir_mappings.identity import References, owner_of, pointer, subject_of
from fhir_mappings.local_time import LocalClock
from fhir_mappings.record import Excluded
from fhir_mappings.salvage import salvaged
from fhir_mappings.terminology import Terminology
from smartapp.population.blocks import BlockWriter, Seal
from smartapp.population.files import Opened, Source, origin_in_file, read_source

POOL = ""
"""The folder of what no patient owns."""
_MOST_HELD = 3 << 20
"""Bytes of records that wait to be written."""
_EACH = 300
"""What a record takes besides its text, roughly."""
_Days = tuple[date | None, date | None]


class Piece(Struct, frozen=True, array_like=True, gc=False):
    """A record on its way to its folder."""

    folder: str
    item: Item
    keys: Keys


class Rest(Struct, array_like=True):
    """What was found besides records, and records that nobody can place."""

    nobodys: list[Item] = []
    missing: list[tuple[str, Missing]] = []
    pages: list[str] = []
    cut_off: list[bundles.CutOff] = []
    short: list[bundles.CutOff] = []

    def add(self, other: Rest) -> None:
        self.nobodys += other.nobodys
        self.missing += other.missing
        self.pages += other.pages
        self.cut_off += other.cut_off
        self.short += other.short


class Partitioned(Struct, array_like=True):
    """What one source held."""

    records: int = 0
    patients: int = 0
    bytes: int = 0
    ignored: dict[str, int] = {}
    said: list[str] = []


class _Forgetful(References):
    """Who is who is asked where a patient's records are together: here nobody needs to remember."""

    def learn(self, name: str, full_url: str | None, identifiers: list[fhir.Identifier] | None) -> None:
        pass


class Sorter(Intake):
    """Takes records in like a chart, and hands each on instead of keeping it."""

    def __init__(
        self,
        terminology: Terminology,
        clock: LocalClock,
        put: Callable[[Piece], None],
        origin_of: Callable[[str], str] = str,
    ) -> None:
        super().__init__(terminology, clock, None)
        self.references = _Forgetful()
        self.rest = Rest()
        self.people = 0
        self._put = put
        self._origin_of = origin_of
        self._now: tuple[bytes | Raw, str | None, str, Hint, _Days] = (b"", None, "", str, (None, None))

    def add(
        self,
        text: bytes | Raw,
        full_url: str | None = None,
        origin: str = "input",
        hint: Hint | None = None,
        *,
        known_as: str | None = None,
        within: _Days = (None, None),
        outcomes: list[bytes | Raw] | None = None,
    ) -> None:
        before = self._now
        self._now = (text, full_url, origin, hint or str, within)
        super().add(
            text, full_url, origin, known_as=known_as, hint=hint or str, within=within, outcomes=outcomes
        )
        self._now = before

    def closed(self) -> Rest:
        """What was found besides records. The last question."""
        self.rest.missing += self._missing
        self.rest.pages += sorted(self._pages)
        self.rest.cut_off += self._cut_off
        self.rest.short += self._short
        return self.rest

    def delete(self, deletion: bundles.Deletion) -> None:
        if not deletion.name:
            super().delete(deletion)
        elif deletion.name.split("/", 1)[0] in fhir.READ_TYPES:
            item = Item(full_url=deletion.address or None, deleted=deletion.name, at=deletion.at)
            self._put(Piece(POOL, item, Keys((key_of(deletion.name),))))

    def _note_arrival(self, name: str, arrival: Arrival) -> None:
        """Which server's it is, is asked where a patient's records are together."""

    def _add_observation(self, observation: fhir.Observation, name: str) -> ReadObservation | None:
        text, full_url, *_ = self._now
        owner = owner_of(observation.subject, observation.contained)
        if not owner:
            self._nobodys()
            return None
        item = Item(boiled(observation, text), full_url)
        self._put(Piece(folder_of(owner), item, keys_of(observation, name, full_url)))
        return None

    def _add_resource(self, resource: fhir.Resource, name: str) -> bool:
        text, full_url, *_ = self._now
        if isinstance(resource, fhir.Patient):
            folder = name
            self.people += 1
        elif isinstance(resource, SUBJECT_FREE):
            folder = POOL
        elif owner := owner_of(subject_of(resource), resource.contained):
            folder = folder_of(owner)
        elif isinstance(resource, fhir.Device):
            folder = POOL
        else:
            self._nobodys()
            return True
        self._put(Piece(folder, Item(boiled(resource, text), full_url), keys_of(resource, name, full_url)))
        return True

    def _add_other(
        self,
        text: bytes | Raw,
        full_url: str | None,
        origin: str,
        hint: Hint,
        within: _Days,
        outcomes: list[bytes | Raw] | None,
    ) -> None:
        relatives = self.ignored["RelatedPerson"]
        super()._add_other(text, full_url, origin, hint, within, outcomes)
        if self.ignored["RelatedPerson"] > relatives and full_url is not None:
            # Nothing of it is read but that it is no staff, where an Encounter names it.
            keys = Keys((key_of(full_url), key_of(folder_of(full_url))))
            self._put(Piece(POOL, Item(bytes(text), full_url), keys))

    def _add_mended(self, text: bytes | Raw, full_url: str | None) -> bool:
        before = self._now
        self._now = (text, full_url, *before[2:])
        mended = super()._add_mended(text, full_url)
        self._now = before
        return mended

    def _add_broken(self, text: bytes | Raw, origin: str, hint: Hint, within: _Days) -> None:
        found = salvaged(text)
        if found.type == "Bundle":
            super()._add_broken(text, origin, hint, within)
            return
        if found.type == "Patient" and self._add_mended(text, None):
            return
        self.resources += 1
        self._now = (text, None, origin, hint, within)
        owner = pointer(found.subject, "Patient") or ""
        if found.type == "Patient" and found.id:
            owner = f"Patient/{found.id}"
            self.people += 1
        self._odd(owner)

    def _exclude(self, _: Excluded, owner: str) -> None:
        self._odd(owner)

    def _tell_missing(self, text: bytes | Raw, *_: object) -> None:
        """Told where the record is read again; of a Bundle whose entries can't be read, the Bundle itself."""
        if salvaged(text).type == "Bundle":
            self._nobodys()

    def _nobodys(self) -> None:
        self._odd("")

    def _odd(self, owner: str) -> None:
        """A record that is kept as it stands."""
        text, full_url, origin, hint, within = self._now
        item = Item(bytes(text).strip(), full_url, self._origin_of(origin), hint(), *within)
        if not owner:
            self.rest.nobodys.append(item)
            return
        folder = folder_of(owner)
        self._put(Piece(folder, item, Keys((key_of(folder),)) if folder.startswith("Patient/") else NO_KEYS))


class PartitionJob(Struct, frozen=True):
    """A source to part among shards, into a file `out`."""

    source: Source
    out: Path
    shards: int
    number: int

    @property
    def name(self) -> str:
        return f"part {self.number}"


def partition(
    job: PartitionJob, terminology: Terminology, clock: LocalClock, seal: Seal, opened: Opened
) -> Partitioned:
    """Read one source, and write what it holds by shard."""
    held: dict[str, list[Piece]] = {}
    weight = 0
    encode = msgspec.msgpack.Encoder().encode
    with BlockWriter(job.out, seal, job.name) as out:

        def flush() -> None:
            nonlocal weight
            for block, pieces in held.items():
                out.add(block, encode(pieces))
            held.clear()
            weight = 0

        def put(piece: Piece) -> None:
            nonlocal weight
            block = str(shard_of(piece.folder, job.shards)) if piece.folder else "pool"
            held.setdefault(block, []).append(piece)
            weight += len(piece.item.text) + _EACH
            if weight > _MOST_HELD:
                flush()

        said: list[str] = []
        sorter = Sorter(terminology, clock, put, lambda origin: origin_in_file(job.source, origin))
        read_source(sorter, job.source, said.append, opened)
        flush()
        rest = sorter.closed()
        out.add("rest", encode(rest))
        told = Partitioned(
            sorter.resources, sorter.people, job.source.size, dict(Counter(sorter.ignored)), said
        )
        out.add("result", encode(told))
    return told


def shard_of(folder: str, shards: int) -> int:
    return key_of(folder) % shards


def digest_of(found: Iterable[Source]) -> str:
    """Of the files, by name, size and time: what was read once is not taken for something new."""
    files = sorted({(str(one.file), one.file.stat().st_size, one.file.stat().st_mtime_ns) for one in found})
    return sha256(repr(files).encode()).hexdigest()
