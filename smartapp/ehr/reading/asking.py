"""Whom of these patients may this user see, now? The EHR says it, by what it gives for the user's own token.

Many at once: in a batch, where the server answers one; else in one search by `_id`, where what comes back are
the patients who were asked for and nobody else; else one by one. What an EHR can do is learned from what it
answers. Who is not given is not shown, whatever the reason; of whom the EHR said nothing is told apart.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum

from launch.errors import HttpError, HttpProblem
from launch.limiter import Turn
from launch.scopes import Interaction, Level, Scopes
from launch.tokens import SessionClient
from smartapp.ehr.reading.display import Banner, banner, decode, human_name
from smartapp.ehr.reading.searches import REMEMBERED_SECONDS
from smartapp.ehr.wire.bundles import (
    NOT_NOW,
    NotAPage,
    batch_answers,
    batch_of,
    read_target,
    search,
    search_page,
)

AT_ONCE = 50
"""Patients of one request."""
Answers = dict[str, dict[str, object] | None]
"""Resources by name; None of those of which the EHR said nothing, and no entry of those it does not give."""


class Way(Enum):
    """How many are asked for at once, the best first."""

    BATCH = "batch"
    SEARCH = "search"
    ONE_BY_ONE = "one-by-one"


class NotAnswered(Exception):
    """The EHR did not say whom the user may see."""


@dataclass(frozen=True)
class Given:
    """Whom of those asked about the user may see, by reference ("Patient/7"). `silent`: of these the EHR said
    neither yes nor no."""

    people: dict[str, Banner]
    silent: frozenset[str]


def may_ask(scopes: Scopes, type_: str) -> bool:
    """Whether the EHR lets this session's user read more of a type than what belongs to one chart."""
    return any(scopes.allows(Level.USER, type_, one) for one in (Interaction.READ, Interaction.SEARCH))


class Asking:
    """Asks EHRs; remembers for a while which way each does not take. Threads share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._refused: dict[tuple[str, str, Way], float] = {}

    def patients(
        self, client: SessionClient, scopes: Scopes, patients: Sequence[str], turn: Turn = Turn.PRESSED
    ) -> Given:
        """Name and birth date of those whom the EHR gives. At most `AT_ONCE` are asked for. Raises
        NotAnswered, HttpError, LaunchError."""
        found = self._given(client, scopes, "Patient", patients, turn)
        people = {name: banner(resource) for name, resource in found.items() if resource is not None}
        return Given(people, frozenset(found.keys() - people.keys()))

    def people(self, client: SessionClient, scopes: Scopes, people: Iterable[str]) -> dict[str, str]:
        """What these members of the staff are called, of those whom the EHR gives."""
        asked = [name for name in people if name.startswith("Practitioner/")][:AT_ONCE]
        try:
            found = self._given(client, scopes, "Practitioner", asked, Turn.PRESSED)
        except (NotAnswered, HttpError):
            return {}
        return {name: told for name, one in found.items() if one and (told := human_name(one.get("name")))}

    def _given(
        self, client: SessionClient, scopes: Scopes, type_: str, names: Sequence[str], turn: Turn
    ) -> Answers:
        if not names:
            return {}
        may_read = scopes.allows(Level.USER, type_, Interaction.READ)
        may_search = scopes.allows(Level.USER, type_, Interaction.SEARCH)
        ways = [Way.BATCH, Way.ONE_BY_ONE] if may_read else []
        ways += [Way.SEARCH] if may_search else []
        ways.sort(key=list(Way).index)
        # What one user was refused another may be given: the only way there is left is tried each time.
        for way in [way for way in ways if not self._is_refused(client, type_, way)] or ways:
            found = _asked(client, way, type_, names, turn)
            if found is not None:
                return {name: found[name] for name in names if name in found}
            self._refuse(client, type_, way)
        raise NotAnswered

    def _is_refused(self, client: SessionClient, type_: str, way: Way) -> bool:
        """Not long ago."""
        with self._lock:
            since = self._refused.get((client.issuer.id, type_, way))
        return since is not None and time.monotonic() - since < REMEMBERED_SECONDS

    def _refuse(self, client: SessionClient, type_: str, way: Way) -> None:
        if way is not Way.ONE_BY_ONE:
            with self._lock:
                self._refused[client.issuer.id, type_, way] = time.monotonic()


def _asked(client: SessionClient, way: Way, type_: str, names: Sequence[str], turn: Turn) -> Answers | None:
    """None where this server does not take that way."""
    if way is Way.BATCH:
        return _in_a_batch(client, names, turn)
    if way is Way.SEARCH:
        return _in_a_search(client, type_, names, turn)
    with ThreadPoolExecutor(min(len(names), client.issuer.max_parallel)) as pool:
        found = pool.map(lambda name: _by_itself(client, name, turn), names)
        return _of_those(names, found)


def _in_a_batch(client: SessionClient, names: Sequence[str], turn: Turn) -> Answers | None:
    body = batch_of(map(read_target, names))
    response = client.fhir("POST", client.issuer.fhir_base, body=body, repeatable=True, turn=turn)
    if response.status in NOT_NOW:
        raise NotAnswered
    bodies = batch_answers(response.body, len(names)) if response.ok else None
    if bodies is None:
        return None
    return _of_those(names, (None if body is None else decode(body) for body in bodies))


def _in_a_search(client: SessionClient, type_: str, names: Sequence[str], turn: Turn) -> Answers | None:
    ids = ",".join(name.partition("/")[2] for name in names)
    response = search(client, type_, [("_id", ids), ("_count", str(len(names)))], turn=turn)
    if response.status in NOT_NOW:
        raise NotAnswered
    if not response.ok:
        return None
    try:
        page = search_page(response.body)
    except NotAPage:
        return None
    resources = (decode(one.resource) for one in page.entries if not one.problem)
    found: Answers = {_name(one): one for one in resources if one.get("id")}
    # A server that passes the parameter over answers with anybody: then it has not been asked.
    return found if found.keys() <= set(names) else None


def _by_itself(client: SessionClient, name: str, turn: Turn) -> dict[str, object] | None:
    try:
        response = client.fhir("GET", read_target(name), turn=turn)
    except HttpError as error:
        if error.reason is HttpProblem.BUSY:
            raise
        return None
    if response.status in NOT_NOW:
        return None
    return decode(response.body) if response.ok else {}


def _of_those(names: Sequence[str], found: Iterable[dict[str, object] | None]) -> Answers:
    """What was asked for by these names, in their order; another resource than the one asked for is none."""
    return {name: one for name, one in zip(names, found, strict=True) if one is None or _name(one) == name}


def _name(resource: dict[str, object]) -> str:
    return f"{resource.get('resourceType')}/{resource.get('id')}"
