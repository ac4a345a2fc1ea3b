"""What only a look across shards tells: what hangs together, and who was with two patients at once."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Sequence

import msgspec

from fhir_mappings.boiled import key_of
from fhir_mappings.chart.encounters import Busy, at_once
from smartapp.population.blocks import Blocks
from smartapp.population.entries import Entry
from smartapp.population.partition import Piece
from smartapp.population.shards import Changed, half, own_keys


def changed_by(pieces: Iterable[Piece], of_pool: Iterable[Piece], pool: Callable[[], list[Entry]]) -> Changed:
    """The keys of a night's records, for every shard to look for them."""
    changed = Changed()
    for piece in pieces:
        own = half(key_of(piece.folder))
        borne = set(map(half, (*piece.keys.borne, *piece.keys.kin, *own_keys(piece.folder))))
        asked = set(map(half, piece.keys.asked))
        for keys, found in ((borne, changed.borne), (asked, changed.asked)):
            for key in keys:
                found[key] = own if found.get(key, own) == own else 0
    new: set[int] = set()
    for piece in of_pool:
        if piece.item.deleted:
            changed.deleted += map(half, piece.keys.borne)
        else:
            new.update(map(half, piece.keys.borne))
            changed.asked.update(dict.fromkeys(map(half, piece.keys.asked), 0))
    changed.pool = sorted(leading_to(new, pool())) if new else []
    return changed


def leading_to(wanted: Iterable[int], pool: Iterable[Entry]) -> set[int]:
    """These halves of keys, and those by which what lies in the pool leads to them."""
    entries = [
        (set(map(half, one.asked)), list(map(half, one.borne))) for one in pool if not one.item.deleted
    ]
    found, before = set(wanted), -1
    while len(found) > before:
        before = len(found)
        for asked, borne in entries:
            if not found.isdisjoint(asked):
                found.update(borne)
    return found


def shared_keys(pool: Iterable[Entry], files: Sequence[Blocks], buckets: int) -> set[int]:
    """Keys that new records of one folder bear, and those of another, or of the pool, bear or ask. `files`:
    what each shard tells of its new records' keys."""
    of_pool: set[int] = set()
    asked_there: set[int] = set()
    for entry in pool:
        if not entry.item.deleted and not entry.folder:
            of_pool.update(entry.borne)
            asked_there.update(entry.asked)
    found: set[int] = set()
    for bucket in range(buckets):
        seen = {key for key in of_pool if key % buckets == bucket}
        asked = {key for key in asked_there if key % buckets == bucket}
        for file in files:
            for content in file.read(f"borne {bucket}"):
                for key in array("Q", content):
                    if key in seen:
                        found.add(key)
                    seen.add(key)
            for content in file.read(f"asked {bucket}"):
                asked.update(array("Q", content))
        # What the pool bears lies where everybody looks.
        found |= {key for key in asked if key in seen and key not in of_pool}
    return found


def double_booked(files: Sequence[Blocks], buckets: int, step: Callable[[int], None]) -> dict[str, list[str]]:
    """By folder, the Encounters in which somebody was with another patient too (D13)."""
    found: dict[str, set[str]] = {}
    for bucket in range(buckets):
        spans: list[Busy] = []
        for file in files:
            for content in file.read(f"busy {bucket}"):
                spans += msgspec.msgpack.decode(content, type=list[Busy])
        for patient, encounter in at_once(spans):
            found.setdefault(patient, set()).add(encounter)
        step(1)
    return {patient: sorted(names) for patient, names in sorted(found.items())}
