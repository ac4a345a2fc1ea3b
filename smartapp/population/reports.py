"""What a state tells whoever asks: numbers, rows, and why one patient's answer is what it is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from fhir_mappings.completeness import Completeness, in_words
from smartapp.population.deciding import Decider
from smartapp.population.entries import read_entries
from smartapp.population.rows import changes
from smartapp.population.shards import Context, Pool, Workshop, answers
from smartapp.population.shelves import Kept
from smartapp.population.state import Head, State
from smartapp.population.sweep import Report


def lines(report: Report, folder: Path) -> list[str]:
    """A run in numbers, for people."""
    head = report.head
    if report.nothing_new:
        return [f"{folder}: as of {head.as_of}, nothing is new"]
    found = [
        f"{folder}: as of {head.as_of}, generation {head.generation}",
        f"{head.records:,} records read; {head.patients:,} patients, {head.decided:,} decided",
    ]
    if head.rest.nobodys:
        found.append(f"{len(head.rest.nobodys):,} records that nobody can place")
    missing = tuple(one for owner, one in head.missing if not owner)
    if missing:
        found.append(f"incomplete, for every patient: {'; '.join(in_words(Completeness(missing)))}")
    owned = {owner for owner, _ in head.missing if owner}
    if owned:
        found.append(f"incomplete, for {len(owned):,} patients: pages or answers that are not all here")
    if head.undecided:
        found.append(f"NOT DECIDED: {head.undecided:,} patients, each tried by itself")
    if head.failed:
        named = ", ".join(map(str, head.failed))
        found.append(f"NOT DECIDED: shards {named}, tried twice; the next sweep tries them again")
    return found


def rows(state: State, generation: Path, head: Head) -> Iterator[bytes]:
    """Every row that holds, as lines, in the order of patients within a shard."""
    for kept in state.folders(generation, head):
        if not kept.folder.failed:
            yield kept.answer.rows


def changed_rows(state: State, generation: Path, head: Head) -> Iterator[bytes]:
    """What the last sweep changed, a line each; a full one finds everything new."""
    for kept in state.folders(generation, head):
        if kept.folder.changed_in != head.generation or kept.folder.failed:
            continue
        if (before := kept.answer.before) is not None:
            for row in changes(before, kept.answer.rows):
                yield msgspec.json.encode(row) + b"\n"


def why(state: State, generation: Path, head: Head, patient: str) -> dict[str, Any] | None:
    """The contract's JSON for one patient, from what is kept; None for whom it holds no answer."""
    kept = state.folder_of(generation, head, patient)
    if kept is None or kept.folder.failed:
        return None
    shop = workshop(state, head)
    return _contract(kept, pool_of(state, generation), shop, patient)


def pool_of(state: State, generation: Path) -> Pool:
    return Pool(read_entries(generation / "pool", state.seal))


def workshop(state: State, head: Head) -> Workshop:
    context = Context(head.as_of, head.generation, head.buckets, head.everyones, tuple(head.missing))
    return Workshop(state.seal, Decider(head.settings, head.as_of), context)


def _contract(kept: Kept, pool: Pool, shop: Workshop, patient: str) -> dict[str, Any] | None:
    for told in answers(kept.folder, kept.items, pool, shop, kept.folder.double):
        if told.patient == patient:
            return told.contract
    return None
