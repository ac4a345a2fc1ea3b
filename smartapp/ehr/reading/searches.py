"""Which searches a reading makes: by patient and date, in slices of time, by category and by code.

Each knows which local days it was to bring, so that what it fails to bring is missing for these days alone.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from urllib.parse import quote

from fhir_mappings.local_time import ONE_DAY
from fhir_mappings.needs import Needs
from launch.issuers import Issuer
from launch.profiles import DateBounds, Profile

SLICES = 8
SLICES_BY_CATEGORY = 2
PEOPLE_AT_A_TIME = 20
REMEMBERED_SECONDS = 3600.0
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


class Learned:
    """What servers refused, as long as this process remembers: nobody asks each time to be refused again."""

    def __init__(self) -> None:
        self._want_category: dict[str, float] = {}

    def profile_of(self, issuer: Issuer) -> Profile:
        """The issuer's profile, and what was learned since."""
        wants = self._want_category.get(issuer.fhir_base)
        if wants is None or time.monotonic() - wants >= REMEMBERED_SECONDS:
            return issuer.profile
        return dataclasses.replace(issuer.profile, observation_needs_category=True)

    def refused_by_date_alone(self, issuer: Issuer) -> None:
        """The server did not take a search of readings without category or code."""
        self._want_category[issuer.fhir_base] = time.monotonic()


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

    def dated(self, type_: str, start: date) -> Search:
        """Those from this day on."""
        dated = self._by_patient(("date", f"ge{start.isoformat()}"))
        return Search(type_, f"{type_}{self._label}", (*dated, *self._by_patient()))

    def observations(self, needs: Needs) -> list[Search]:
        """Everything that may hold a reading that counts.

        Where it is known to want a category, home readings may be filed under any or none: each coding
        that is declared is searched by itself too, and the categories only show what else there is.
        """
        if not self._profile.observation_needs_category:
            return [
                replace(self._sliced("all", part), by_date_alone=True) for part in self._slices(needs, SLICES)
            ]
        return self.by_code_and_category(needs)

    def by_code_and_category(self, needs: Needs) -> list[Search]:
        """What a server takes that refuses a search of readings by date alone."""
        by_code = self.by_code(needs)
        return [
            *by_code,
            *(
                replace(self._sliced(category, part, ("category", category)), beside=bool(by_code))
                for category in self._profile.observation_categories
                for part in self._slices(needs, SLICES_BY_CATEGORY)
            ),
        ]

    def by_code(self, needs: Needs) -> list[Search]:
        """Readings of every coding that tables and site declare, in groups."""
        groups = code_groups(needs.codings)
        return [
            self._sliced(f"code {number}", part, ("code", group))
            for number, group in enumerate(groups, 1)
            for part in self._slices(needs, SLICES_BY_CATEGORY)
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
            )
            for number, group in enumerate(groups)
        ]

    def _slices(self, needs: Needs, count: int) -> Iterable[tuple[int, date, date | None]]:
        slices = date_slices(needs.search_start, needs.search_end, count)
        if self._profile.date_bounds is DateBounds.SINGLE:
            slices = ((needs.search_start, None),)
        return ((number, begin, end) for number, (begin, end) in enumerate(slices))

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
