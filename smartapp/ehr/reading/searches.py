"""Which searches a reading makes: by patient and date, in slices of time, by category and by code.

Each knows which local days it was to bring, so that what it fails to bring is missing for these days alone.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from urllib.parse import quote

from fhir_mappings.local_time import ONE_DAY
from fhir_mappings.needs import Needs
from launch.issuers import Issuer
from launch.profiles import DateBounds, Profile

MOST_PARTS = 8
PAGES_A_PART = 2
"""So many pages or more each part of a search is to bring: parts end in half-empty pages."""
PEOPLE_AT_A_TIME = 20
REMEMBERED_SECONDS = 3600.0
BATCH = "batch"
LONGEST_CODES = 1500
"""Characters of one list of codings, as it stands in an address: servers take addresses of a few thousand."""

Parameters = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Search:
    """One search, with other ways to ask the same should the server not understand the first.

    `start`, `end`: the local days that it brings records of, both inclusive. One that is `beside` others
    brings nothing that can count and that these do not bring too.
    """

    type: str
    name: str
    """Unique within a reading: the origin of what it finds."""
    ways: tuple[Parameters, ...]
    start: date | None = None
    end: date | None = None
    beside: bool = False
    by_date_alone: bool = False
    """Readings of every kind at once: what a server that wants a category or a code does not take."""
    since: bool = False
    """Only what changed since a moment, if the server knows how to search for that."""
    further: bool = False
    """A part of readings that fill many pages."""
    smaller: tuple[Parameters, ...] = ()
    """The same in smaller pages, for a server to which those of `ways` are too much."""
    people: tuple[str, ...] = ()
    """Whose roles it brings."""
    label: str = ""
    more: Parameters = ()
    """What it asks for beside patient and days, and what that is called."""
    parts: Callable[[Search, Needs, int], list[Search]] | None = field(default=None, compare=False)
    """The same in parts that can be read at the same time, from the days that are needed and the number of
    pages; None where there is no way."""


class Learned:
    """What servers refused, as long as this process remembers: nobody asks each time to be refused again."""

    def __init__(self) -> None:
        self._want_category: dict[str, float] = {}
        self._no_lists: dict[tuple[str, str], float] = {}

    def profile_of(self, issuer: Issuer) -> Profile:
        """The issuer's profile, and what was learned since."""
        wants = self._want_category.get(issuer.fhir_base)
        if wants is None or time.monotonic() - wants >= REMEMBERED_SECONDS:
            return issuer.profile
        return dataclasses.replace(issuer.profile, observation_needs_category=True)

    def refused_by_date_alone(self, issuer: Issuer) -> None:
        """The server did not take a search of readings without category or code."""
        self._want_category[issuer.fhir_base] = time.monotonic()

    def takes_lists(self, issuer: Issuer, what: str) -> bool:
        """Whether it is worth asking for several at once: `what` is a type, by `_id`, or BATCH."""
        refused = self._no_lists.get((issuer.fhir_base, what))
        return refused is None or time.monotonic() - refused >= REMEMBERED_SECONDS

    def refused_a_list(self, issuer: Issuer, what: str) -> None:
        """The server did not give several at once."""
        self._no_lists[issuer.fhir_base, what] = time.monotonic()


class Searches:
    """The searches for one patient's records that an EHR of this profile understands. `label`: what tells
    their names from those of the same person under another id."""

    def __init__(self, profile: Profile, patient: str, label: str = "") -> None:
        self._profile = profile
        self._patient = patient
        self._label = label

    def changed_observations(self, needs: Needs, since: datetime) -> list[Search]:
        """Readings that came or changed since: everything that can count among them."""
        moment = since.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        changed = ("_lastUpdated", f"ge{moment}")
        everything = (0, needs.search_start, None)
        if not self._profile.observation_needs_category:
            found = [replace(self._sliced("changed", everything, changed), by_date_alone=True)]
        else:
            found = [
                self._sliced(f"changed code {number}", everything, ("code", group), changed)
                for number, group in enumerate(code_groups(needs.codings), 1)
            ]
        return [replace(search, since=True) for search in found]

    def whole(self, type_: str) -> Search:
        """All of the patient's records of a type."""
        return Search(type_, f"{type_}{self._label}", self._by_patient())

    def dated(self, type_: str, start: date, label: str = "") -> Search:
        """Those from this day on."""
        dated = self._by_patient(("date", f"ge{start.isoformat()}"))
        return Search(type_, f"{type_}{self._label}{label}", (*dated, *self._by_patient()))

    def observations(self, needs: Needs) -> list[Search]:
        """Everything that may hold a reading that counts.

        Where it is known to want a category, home readings may be filed under any or none: each coding
        that is declared is searched by itself too, and the categories only show what else there is.
        """
        if not self._profile.observation_needs_category:
            return [replace(self._from("all", needs.search_start), by_date_alone=True)]
        return self.by_code_and_category(needs)

    def observations_before(self, needs: Needs, end: date) -> list[Search]:
        """The same of the days before `end` alone."""
        return [
            part
            for search in self.observations(needs)
            for part in (
                self._in_parts(search, ((needs.search_start, end),))
                if self._profile.date_bounds is DateBounds.PAIR
                else [replace(search, name=f"{search.name} before")]
            )
        ]

    def by_code_and_category(self, needs: Needs) -> list[Search]:
        """What a server takes that refuses a search of readings by date alone."""
        by_code = self.by_code(needs)
        return [
            *by_code,
            *(
                replace(
                    self._from(category, needs.search_start, ("category", category)), beside=bool(by_code)
                )
                for category in self._profile.observation_categories
            ),
        ]

    def by_code(self, needs: Needs) -> list[Search]:
        """Readings of every coding that tables and site declare, in groups."""
        return [
            self._from(f"code {number}", needs.search_start, ("code", group))
            for number, group in enumerate(code_groups(needs.codings), 1)
        ]

    def roles(self, people: list[str]) -> list[Search]:
        """The roles of these people (`Practitioner/id`), many at a time."""
        groups = [
            people[position : position + PEOPLE_AT_A_TIME]
            for position in range(0, len(people), PEOPLE_AT_A_TIME)
        ]
        count = ("_count", str(self._profile.page_size))
        return [
            Search(
                "PractitionerRole",
                f"PractitionerRole {number:02}",
                ((("practitioner", ",".join(_escaped(name.split("/", 1)[1]) for name in group)), count),),
                people=tuple(group),
            )
            for number, group in enumerate(groups)
        ]

    def _from(self, label: str, start: date, *more: tuple[str, str]) -> Search:
        """Readings from a day on, in one search as long as they fill few pages."""
        search = self._sliced(label, (0, start, None), *more)
        if self._profile.date_bounds is DateBounds.SINGLE:
            return search
        return replace(search, label=label, more=more, parts=self._parts)

    def _parts(self, wanted: Search, needs: Needs, pages: int) -> list[Search]:
        count = min(MOST_PARTS, max(2, pages // PAGES_A_PART))
        return self._in_parts(wanted, date_slices(needs.search_start, needs.search_end, count))

    def _in_parts(self, wanted: Search, days: Iterable[tuple[date, date | None]]) -> list[Search]:
        return [
            replace(part, beside=wanted.beside, by_date_alone=wanted.by_date_alone, further=True)
            for number, (begin, end) in enumerate(days)
            for part in (self._part(f"{wanted.label} part", (number, begin, end), *wanted.more),)
        ]

    def _part(self, label: str, part: tuple[int, date, date | None], *more: tuple[str, str]) -> Search:
        """There is much of it: in larger pages, where the server is known to give them."""
        search = self._sliced(label, part, *more)
        if self._profile.part_page_size == self._profile.page_size:
            return search
        count = ("_count", str(self._profile.part_page_size))
        return replace(search, ways=tuple((*way[:-1], count) for way in search.ways), smaller=search.ways)

    def _sliced(self, label: str, part: tuple[int, date, date | None], *more: tuple[str, str]) -> Search:
        number, begin, end = part
        dates = [("date", f"ge{begin.isoformat()}")]
        if end is not None:
            dates.append(("date", f"lt{end.isoformat()}"))
        # A server cuts days in a zone of its own: a local day more on both sides may be concerned. What comes
        # before the first slice is not asked for, so nothing bounds it.
        return Search(
            "Observation",
            f"Observation{self._label} {label} {number:02}",
            self._by_patient(*more, *dates),
            begin - ONE_DAY if number else None,
            end,
        )

    def _by_patient(self, *more: tuple[str, str]) -> tuple[Parameters, ...]:
        count = ("_count", str(self._profile.page_size))
        return (
            (("patient", self._patient), *more, count),
            (("subject", f"Patient/{self._patient}"), *more, count),
        )


def date_slices(start: date, end: date, count: int) -> tuple[tuple[date, date | None], ...]:
    """At most `count` half-open slices that cover [start, end], the last one without an end.

    A server reads the boundary day the same way in both slices it bounds, so none falls between them.
    """
    days = max(1, (end - start).days + 1)
    count = min(count, days)
    edges = [start + timedelta(days=days * position // count) for position in range(count)]
    return tuple(zip(edges, [*edges[1:], None], strict=True))


def code_groups(codings: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """Values of `code` that together name every coding, none longer than an address may be.

    Each stands with its system and without: a code system has several addresses, and a server that keeps it
    under another one than ours finds the code alone.
    """
    groups: list[str] = []
    length = LONGEST_CODES
    for system, code in codings:
        token = f"{_escaped(system)}|{_escaped(code)},{_escaped(code)}" if system else _escaped(code)
        size = len(quote(token, safe="")) + 3
        if length + size > LONGEST_CODES:
            groups.append(token)
            length = size
        else:
            groups[-1] += f",{token}"
            length += size
    return tuple(groups)


def _escaped(text: str) -> str:
    """A part of a token: what separates tokens and their parts is no part of it."""
    for character in "\\,|$":
        text = text.replace(character, f"\\{character}")
    return text
