"""The last sweep's list of each EHR, kept opened as long as it is the last."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TypeVar

from smartapp.configuration.worklist import WorklistSettings
from smartapp.population import listing
from smartapp.population.blocks import NotOpened
from smartapp.population.listing import TO_DO, Listed
from smartapp.population.state import Head, State, StateError


class NoList(Exception):
    """There is no list that could be shown; a sentence for people."""


@dataclass(frozen=True)
class Sweep:
    """What one sweep says of everybody."""

    generation: str
    as_of: date
    patients: tuple[Listed, ...]
    """By what runs out first."""
    payers: tuple[str, ...]
    undecided: int
    """Patients who could not be decided: they are on no list."""
    parts_failed: bool
    """Whole parts of the population could not be decided."""
    gaps: bool
    """Something was not there to be read, of everybody or of some."""


class Lists:
    """Shared by all threads of a process."""

    def __init__(self, settings: WorklistSettings, keys: Sequence[bytes]) -> None:
        self._settings = settings
        self._keys = tuple(keys)
        self._lock = threading.Lock()
        self._kept: dict[str, Sweep] = {}
        self._opening: dict[str, threading.Lock] = {}

    def has(self, issuer_id: str) -> bool:
        """Whether this EHR's sweeps make a worklist here."""
        return self._settings.of(issuer_id) is not None

    def of(self, issuer_id: str) -> Sweep:
        """What the last sweep says. Raises NoList."""
        state = self._state(issuer_id)
        with self._lock:
            opening = self._opening.setdefault(issuer_id, threading.Lock())
        # One thread opens it, the others wait for what it found.
        with opening:
            generation = state.current()
            kept = self._kept.get(issuer_id)
            if kept is not None and generation is not None and kept.generation == generation.name:
                return kept
            self._kept[issuer_id] = found = self._opened(state)
            return found

    def one(self, issuer_id: str, patient: str) -> tuple[date, Listed | None]:
        """What it says of one patient, and as of when, without opening the others. Raises NoList."""
        state = self._state(issuer_id)
        generation = state.current()
        with self._lock:
            kept = self._kept.get(issuer_id)
        if kept is not None and generation is not None and kept.generation == generation.name:
            return kept.as_of, next((one for one in kept.patients if one.patient == patient), None)
        return _tried(lambda: _one(state, patient))

    def first_to_do(self, issuer_id: str, patient: str) -> date | None:
        """The first day of what it has somebody see to of one patient, known by their id; None where there is
        nothing, or no list."""
        try:
            _, found = self.one(issuer_id, f"Patient/{patient}")
        except NoList:
            return None
        if found is None or TO_DO.isdisjoint(one.topic for one in found.matters):
            return None
        return min(decision.period.start for decision in found.decisions)

    def _state(self, issuer_id: str) -> State:
        entry = self._settings.of(issuer_id)
        if entry is None:
            raise NoList("This site has no worklist for this EHR.")
        try:
            return State(self._settings.state_of(entry), self._keys)
        except StateError:
            raise NoList("There is no sweep yet. Whoever runs this app can settle it.") from None

    def _opened(self, state: State) -> Sweep:
        return _tried(lambda: _opened(state))


_Found = TypeVar("_Found")


def _tried(attempt: Callable[[], _Found]) -> _Found:
    """Once more where a sweep ended meanwhile, and took away what it was read from."""
    for last in (False, True):
        try:
            return attempt()
        except (NotOpened, StateError, OSError):
            if last:
                raise NoList("The last sweep cannot be read. Whoever runs this app can settle it.") from None
    raise AssertionError


def _opened(state: State) -> Sweep:
    generation, head = state.held()
    _check(head)
    # Somebody who is only known by a number of theirs: no EHR can be asked whether they may be seen.
    known = [one for one in state.listed(generation, head) if one.patient.startswith("Patient/")]
    return Sweep(
        generation.name,
        head.as_of,
        tuple(sorted(known, key=lambda one: (one.until or date.max, one.digest))),
        tuple(sorted({one.payer for one in known})),
        head.undecided,
        bool(head.failed),
        bool(head.missing),
    )


def _one(state: State, patient: str) -> tuple[date, Listed | None]:
    generation, head = state.held()
    _check(head)
    return head.as_of, state.listed_of(generation, head, patient)


def _check(head: Head) -> None:
    if head.lists != listing.FORMAT:
        raise NoList("The last sweep was made by another version of this app: the next one makes the list.")
