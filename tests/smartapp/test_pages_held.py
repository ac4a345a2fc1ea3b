"""Pages of a reading are held as they came while there is room, and are the same where there is none."""

from __future__ import annotations

from functools import partial

import pytest

from smartapp.ehr.reading import charts
from smartapp.ehr.reading.pages import Pages, Room
from smartapp.store.reading import ReadingStore, StoredResource

PATIENT = "ready-musculoskeletal"


class Opened:
    """A store's pages, and what was opened of them."""

    def __init__(self, store):
        self._store = store
        self.origins = []

    def seal_chunk(self, origin, resources):
        return self._store.seal_chunk(origin, resources)

    def open_chunk(self, chunk):
        self.origins.append(chunk.origin)
        return self._store.open_chunk(chunk)


def page(number):
    return [StoredResource(f"page {number}", None, f"Observation/o{number}", "1", b"x" * 40)]


@pytest.mark.parametrize(
    ("size", "opened"),
    [(1000, []), (40, ["b", "c"]), (39, ["a", "b", "c"])],
    ids=["room for all", "room for one", "no room"],
)
def test_what_there_was_room_for_is_not_opened_and_all_of_it_is_given(store, size, opened):
    sealing = Opened(store.reading)
    pages = Pages(sealing, Room(size))
    with pages.held():
        chunks = [pages.seal(name, page(number)) for number, name in enumerate("abc")]
        assert list(pages.resources(chunks)) == [one for number in range(3) for one in page(number)]
    assert sealing.origins == opened


def test_nothing_is_held_before_or_after_and_the_room_is_given_back(store):
    sealing, room = Opened(store.reading), Room(40)
    pages = Pages(sealing, room)
    before = pages.seal("before", page(1))
    with pages.held():
        within = pages.seal("within", page(2))
    assert list(pages.resources([before, within])) == [*page(1), *page(2)]
    assert sealing.origins == ["before", "within"]
    assert room.take(40)
    assert not room.take(1)


def test_two_pages_that_hold_the_same_take_room_once(store):
    room = Room(80)
    pages = Pages(store.reading, room)
    with pages.held():
        for name in "ab":
            pages.seal(name, page(1))
        assert room.take(40)
    assert room.take(40)


def test_a_chart_is_told_alike_whether_its_pages_were_held_or_not(make_world, browser, monkeypatch):
    opened, open_chunk = [], ReadingStore.open_chunk
    monkeypatch.setattr(
        ReadingStore, "open_chunk", lambda self, chunk: (opened.append(chunk), open_chunk(self, chunk))[1]
    )
    told, times = [], []
    for size in (10**9, 0):
        monkeypatch.setattr(charts, "Room", partial(Room, size))
        opened.clear()
        page = make_world().open(browser, PATIENT)
        day = next(target for target, _ in page.links if "/days/" in target)
        told.append((browser.get(f"{page.url}decisions.json").text, browser.get(day).text))
        times.append(len(opened))
    assert told[0] == told[1]
    assert "Home exercise done" in told[0][1]
    assert times[0] < times[1]
