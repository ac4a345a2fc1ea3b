"""Which rows of a sweep somebody asked for, and in which order: theirs first, then by what runs out first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from enum import StrEnum

from smartapp.population.listing import Listed, Topic
from smartapp.store.worklist import Mark, MarkKind
from smartapp.worklist.lists import Sweep


class Show(StrEnum):
    """Rows by what people said of them."""

    OPEN = "open"
    """All but those that are done, or put off until a day to come."""
    MINE = "mine"
    """What I took, and what I said of any."""
    AWAY = "away"
    """Those that are done or put off."""


@dataclass(frozen=True)
class Wanted:
    """What somebody asked for; empty means any. `user`: who asks; `person`: whose patients."""

    user: str
    topic: Topic | None = None
    program: str = ""
    line: str = ""
    payer: str = ""
    person: str = ""
    show: Show = Show.OPEN


@dataclass(frozen=True)
class Candidate:
    """A row that the EHR was not asked about yet."""

    listed: Listed
    mark: Mark | None

    @property
    def standing_mark(self) -> Mark | None:
        return None if self.mark is None or self.mark.kind is MarkKind.NONE else self.mark


def chosen(sweep: Sweep, marks: Mapping[str, Mark], wanted: Wanted, today: date) -> list[Listed]:
    """The rows in their order; none of them is anybody's to see before the EHR has shown that patient. What
    runs out first comes first in a sweep, and stays so here."""
    anything = wanted == Wanted(wanted.user, show=wanted.show)
    found = [
        one
        for one in sweep.patients
        if (anything or _is_wanted(one, wanted))
        and _is_shown(one, marks.get(one.id) if marks else None, wanted, today)
    ]
    by_rank: tuple[list[Listed], ...] = ([], [], [], [])
    for one in found:
        by_rank[_rank(one, marks.get(one.id) if marks else None, wanted.user)].append(one)
    return [one for rows in by_rank for one in rows]


def counted(sweep: Sweep) -> Counter[Topic]:
    """How many patients each topic has."""
    return Counter(topic for one in sweep.patients for topic in {matter.topic for matter in one.matters})


def people_of(rows: Iterable[Listed]) -> list[str]:
    return sorted({person for one in rows for person in one.people})


def _is_wanted(one: Listed, wanted: Wanted) -> bool:
    if wanted.payer and one.payer != wanted.payer:
        return False
    if wanted.person and wanted.person not in one.people:
        return False
    return any(
        (wanted.topic is None or matter.topic is wanted.topic)
        and wanted.program in ("", matter.program)
        and wanted.line in ("", matter.line)
        for matter in one.matters
    )


def _is_shown(one: Listed, mark: Mark | None, wanted: Wanted, today: date) -> bool:
    away = mark is not None and mark.hides(one.digest, today)
    if wanted.show is Show.AWAY:
        return away
    if wanted.show is Show.MINE:
        return mark is not None and mark.person == wanted.user and mark.kind is not MarkKind.NONE
    return not away


def _rank(one: Listed, mark: Mark | None, user: str) -> int:
    """What I took, where I am named, anybody's, and what somebody else took."""
    if mark is not None and mark.kind is MarkKind.MINE:
        return 0 if mark.person == user else 3
    return 1 if user in one.people else 2
