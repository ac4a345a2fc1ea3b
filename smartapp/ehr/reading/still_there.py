"""Whether records that were read before are still there, in the version they had."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from launch.errors import HttpError
from smartapp.ehr.reading.collected import Collected, single
from smartapp.ehr.reading.fetch import Fetch, ReadingFailed
from smartapp.ehr.reading.searches import Search
from smartapp.ehr.wire.bundles import Entry, NotAPage, read_target, search_page
from smartapp.ehr.wire.looks import look, version_of

IDS_AT_A_TIME = 100
LONGEST_IDS = 2500
"""Characters of one list of ids: servers take addresses of a few thousand."""
GONE = frozenset({404, 410})


def id_groups(names: Iterable[str]) -> Iterator[list[str]]:
    """References of one type, as many as one search by `_id` takes."""
    group: list[str] = []
    length = 0
    for name in names:
        size = len(name.split("/", 1)[1]) + 3
        if group and (len(group) == IDS_AT_A_TIME or length + size > LONGEST_IDS):
            yield group
            group, length = [], 0
        group.append(name)
        length += size
    if group:
        yield group


class StillThere:
    """Asks by `_id`, many at a time where the server takes that; what such a search does not bring is read by
    itself before it is called gone. What changed is handed on as it is now.

    `known`: references with the versions they had.
    """

    def __init__(self, fetch: Fetch, collected: Collected, patient: str, known: Mapping[str, str]) -> None:
        self.gone: set[str] = set()
        self._fetch = fetch
        self._collected = collected
        self._patient = patient
        self._known = known

    def batches(self) -> Iterator[list[str]]:
        """References of one type each, as many as one search takes."""
        by_type: dict[str, list[str]] = {}
        for reference in self._known:
            by_type.setdefault(reference.split("/", 1)[0], []).append(reference)
        for names in by_type.values():
            yield from id_groups(names)

    def search_for(self, names: list[str]) -> tuple[str, list[tuple[str, str]]]:
        """The search by `_id` for a batch."""
        ids = ",".join(name.split("/", 1)[1] for name in names)
        parameters = [("_id", ids), ("patient", self._patient), ("_count", str(len(names)))]
        return names[0].split("/", 1)[0], parameters

    def look_for(self, names: list[str]) -> None:
        """One batch. Raises ReadingFailed where it cannot be told."""
        there = self._seen_by_id(names)
        for name in names:
            if name not in there and not self._seen_by_itself(name):
                self.gone.add(name)

    def _seen_by_id(self, names: list[str]) -> set[str]:
        """Which of these one search by `_id` brings; none where the server does not take it."""
        type_, parameters = self.search_for(names)
        there: set[str] = set()
        response = self._fetch.first_page(type_, parameters, strict=self._fetch.strict)
        for _ in range(len(names)):
            try:
                page = search_page(response.body) if response.ok else None
            except NotAPage:
                page = None
            if page is None:
                break
            there |= {name for entry in page.entries if (name := self._seen_again(entry)) is not None}
            if page.next_url is None:
                break
            try:
                response = self._fetch.get(page.next_url)
            except HttpError:
                break
        return there

    def _seen_by_itself(self, name: str) -> bool:
        response = self._fetch.get(read_target(name))
        if response.status in GONE:
            return False
        if not response.ok:
            raise ReadingFailed("ehr-unavailable")
        return self._seen_again(single(response.body)) == name

    def _seen_again(self, entry: Entry) -> str | None:
        """The record of which this is the present version; None where it is none of these, or not ours."""
        raw = entry.resource
        seen = look(raw)
        name = seen.reference
        if name not in self._known or not self._collected.is_ours(seen):
            return None
        if version_of(seen, raw) != self._known[name]:
            self._collected.keep(Search(seen.resourceType, name, ()), name, [entry])
        return name
