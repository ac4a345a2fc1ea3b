"""Folders of a shard on their shelves: written as they were, or as they have become."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import msgspec
import pytest
from cryptography.fernet import Fernet

from fhir_mappings.boiled import Item
from smartapp.configuration.site_file import SiteFile
from smartapp.population.blocks import Blocks, BlockWriter, Seal
from smartapp.population.deciding import Settings
from smartapp.population.engine import InProcess
from smartapp.population.progress import Progress
from smartapp.population.shelves import Answer, Folder, Shelf, new_shelves, read_folders, shelves
from smartapp.population.state import OtherVersion, State, write_sealed
from smartapp.population.sweep import Asked, sweep

KEYS = (Fernet.generate_key(),)
SEAL = Seal(KEYS, b"0123456789abcdef")
DAY = date(2026, 2, 20)


def item(number: int) -> Item:
    return Item(b'{"resourceType":"Observation","id":"r-%d"}' % number)


def written(path: Path, *some: Shelf) -> Path:
    with BlockWriter(path, SEAL, "shard 0") as out:
        for shelf in some:
            shelf.write(out)
    return path


def read(path: Path) -> list[Shelf]:
    return list(shelves(path, "shard 0", SEAL))


@pytest.fixture
def first(tmp_path) -> Path:
    """Two shelves of a folder each, with 16 records."""
    some = [Shelf([Folder(f"Patient/{name}", borne=b"1234")]) for name in "ab"]
    for shelf in some:
        shelf.add(0, map(item, range(16)))
        shelf.put(0, Answer(b"rows\n"), b"")
    return written(tmp_path / "first", *some)


def blocks(path: Path) -> dict[str, list[bytes]]:
    file = Blocks(path, SEAL, "shard 0")
    return {name: list(file.read(name)) for name in file.names}


def test_what_nobody_touched_is_written_as_it_was(first, tmp_path):
    assert blocks(written(tmp_path / "second", *read(first))) == blocks(first)


def test_what_comes_later_lies_apart_until_it_is_much(first, tmp_path):
    known = blocks(first)
    path = first
    for night in range(3):
        some = read(path)
        assert some[1].add(0, [item(100 + night)])
        path = written(tmp_path / f"night-{night}", *some)
        found = [kept.items for kept in read_folders(path, "shard 0", SEAL)]
        assert set(found[0]) == {item(number) for number in range(16)}
        assert set(found[1]) == {item(number) for number in (*range(16), *range(100, 101 + night))}
        assert len(found[1]) == 17 + night
        assert (blocks(path)["items"] == known["items"]) == (night < 2)
        assert blocks(path)["items"][0] == known["items"][0]


def test_what_is_known_already_is_nothing_new(first, tmp_path):
    some = read(first)
    assert some[0].add(0, [item(3)]), "that it came twice is told"
    again = read(written(tmp_path / "second", *some))
    assert not again[0].add(0, [item(3)])
    assert blocks(written(tmp_path / "third", *again)) == blocks(tmp_path / "second")


def test_an_answer_is_kept_beside_the_others_of_its_shelf(tmp_path):
    shelf = Shelf([Folder("Patient/a"), Folder("Patient/b"), Folder("Patient/c")])
    shelf.put(1, Answer(b"b\n", b"before\n"), b"")
    path = written(tmp_path / "first", shelf)
    (again,) = read(path)
    assert [again.answer(place) for place in range(3)] == [Answer(), Answer(b"b\n", b"before\n"), Answer()]
    again.put(2, Answer(b"c\n"), b"")
    found = read_folders(written(tmp_path / "second", again), "shard 0", SEAL)
    assert [kept.answer.rows for kept in found] == [b"", b"b\n", b"c\n"]


@pytest.mark.parametrize(
    ("many", "records", "sizes"),
    [(0, 1, []), (1, 1, [1]), (47, 1, [47]), (65, 1, [33, 32]), (3, 5_000, [1, 1, 1]), (4, 3_000, [2, 2])],
)
def test_new_folders_are_shelved_evenly(many, records, sizes):
    found = new_shelves([(Folder(f"Patient/{number}"), records) for number in range(many)])
    assert [len(shelf.folders) for shelf in found] == sizes


# -- what another version kept ----------------------------------------------------------


def swept(state: Path, *, night: bool) -> int:
    asked = Asked((), DAY, Settings("America/New_York", SiteFile()), night, None if night else 1)
    report = sweep(State(state, KEYS, make=True), asked, InProcess(), Progress(None), lambda _: None)
    return report.head.generation


def test_what_another_version_kept_asks_for_a_full_sweep_and_gets_it(tmp_path):
    state = tmp_path / "state"
    assert swept(state, night=False) == 1
    held = State(state, KEYS)
    generation, head = held.held()
    for told in (msgspec.structs.replace(head, format=head.format - 1), {"another": "form"}):
        write_sealed(generation / "head", held.seal, "head", told)
        with pytest.raises(OtherVersion, match="kept by another version; run `smartapp sweep full`"):
            swept(state, night=True)
        with pytest.raises(OtherVersion):
            held.held()
    assert swept(state, night=False) == 2, "numbers go on: what was handed out is told apart by them"
    assert State(state, KEYS).held()[1].generation == 2
