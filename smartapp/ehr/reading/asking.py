"""Whom of these patients may this user see, now? The EHR says it, by what it gives for the user's own token.

Many at once: in a batch, where the server answers one; else in one search by `_id`, where what comes back are
the patients who were asked for and nobody else; else one by one. What an EHR can do is learned from what it
answers. Who is not given is not shown, whatever the reason.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from enum import Enum

from launch.errors import HttpError, HttpProblem
from launch.limiter import Turn
from launch.scopes import Interaction, Level, Scopes
from launch.tokens import SessionClient
from smartapp.ehr.reading.display import Banner, banner, decode, human_name
from smartapp.ehr.wire.bundles import (
    NotAPage,
    batch_answers,
    batch_of,
    read_target,
    search,
    search_page,
)

AT_ONCE = 50
"""Patients of one request."""
NOT_NOW = frozenset({401, 429, 500, 502, 503, 504})
"""Statuses that say nothing of what the server can do."""


class Way(Enum):
    """How many are asked for at once, the best first."""

    BATCH = "batch"
    SEARCH = "search"
    ONE_BY_ONE = "one-by-one"


class NotAnswered(Exception):
    """The EHR did not say whom the user may see."""


def may_ask(scopes: Scopes, type_: str) -> bool:
    """Whether the EHR lets this session's user read more of a type than what belongs to one chart."""
    return any(scopes.allows(Level.USER, type_, one) for one in (Interaction.READ, Interaction.SEARCH))


class Asking:
    """Asks EHRs; remembers which way each takes. Threads share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._refused: dict[str, set[Way]] = {}

    def patients(
        self, client: SessionClient, scopes: Scopes, patients: Sequence[str], turn: Turn = Turn.PRESSED
    ) -> dict[str, Banner]:
        """Name and birth date of those whom the EHR gives, by reference ("Patient/7"). At most `AT_ONCE` are
        asked for. Raises NotAnswered, HttpError, LaunchError."""
        found = self._given(client, scopes, "Patient", patients, turn)
        return {name: banner(resource) for name, resource in found.items()}

    def people(self, client: SessionClient, scopes: Scopes, people: Iterable[str]) -> dict[str, str]:
        """What these members of the staff are called, of those whom the EHR gives."""
        asked = [name for name in people if name.startswith("Practitioner/")][:AT_ONCE]
        try:
            found = self._given(client, scopes, "Practitioner", asked, Turn.PRESSED)
        except (NotAnswered, HttpError):
            return {}
        return {name: told for name, one in found.items() if (told := human_name(one.get("name")))}

    def _given(
        self, client: SessionClient, scopes: Scopes, type_: str, names: Sequence[str], turn: Turn
    ) -> dict[str, dict[str, object]]:
        if not names:
            return {}
        may_read = scopes.allows(Level.USER, type_, Interaction.READ)
        may_search = scopes.allows(Level.USER, type_, Interaction.SEARCH)
        ways = [Way.BATCH, Way.ONE_BY_ONE] if may_read else []
        ways += [Way.SEARCH] if may_search else []
        known = self._refused_by(client, type_)
        for way in sorted(ways, key=list(Way).index):
            if way in known:
                continue
            found = _asked(client, way, type_, names, turn)
            if found is not None:
                return {name: found[name] for name in names if name in found}
            self._refuse(client, type_, way)
        raise NotAnswered

    def _refused_by(self, client: SessionClient, type_: str) -> set[Way]:
        with self._lock:
            return set(self._refused.get(f"{client.issuer.id} {type_}", ()))

    def _refuse(self, client: SessionClient, type_: str, way: Way) -> None:
        if way is not Way.ONE_BY_ONE:
            with self._lock:
                self._refused.setdefault(f"{client.issuer.id} {type_}", set()).add(way)


def _asked(
    client: SessionClient, way: Way, type_: str, names: Sequence[str], turn: Turn
) -> dict[str, dict[str, object]] | None:
    """Resources by name; None where this server does not take that way."""
    if way is Way.BATCH:
        return _in_a_batch(client, names, turn)
    if way is Way.SEARCH:
        return _in_a_search(client, type_, names, turn)
    with ThreadPoolExecutor(min(len(names), client.issuer.max_parallel)) as pool:
        return _named(pool.map(lambda name: _by_itself(client, name, turn), names))


def _in_a_batch(
    client: SessionClient, names: Sequence[str], turn: Turn
) -> dict[str, dict[str, object]] | None:
    body = batch_of(map(read_target, names))
    response = client.fhir("POST", client.issuer.fhir_base, body=body, repeatable=True, turn=turn)
    if response.status in NOT_NOW:
        raise NotAnswered
    bodies = batch_answers(response.body, len(names)) if response.ok else None
    if bodies is None:
        return None
    return {
        name: resource
        for name, body in zip(names, bodies, strict=True)
        if _name(resource := decode(body)) == name
    }


def _in_a_search(
    client: SessionClient, type_: str, names: Sequence[str], turn: Turn
) -> dict[str, dict[str, object]] | None:
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
    found = _named(decode(bytes(one.resource)) for one in page.entries if not one.problem)
    # A server that passes the parameter over answers with anybody: then it has not been asked.
    return found if found.keys() <= set(names) else None


def _by_itself(client: SessionClient, name: str, turn: Turn) -> dict[str, object]:
    try:
        response = client.fhir("GET", read_target(name), turn=turn)
    except HttpError as error:
        if error.reason is HttpProblem.BUSY:
            raise
        return {}
    found = decode(response.body) if response.ok else {}
    return found if _name(found) == name else {}


def _named(resources: Iterable[dict[str, object]]) -> dict[str, dict[str, object]]:
    return {_name(one): one for one in resources if one.get("id")}


def _name(resource: dict[str, object]) -> str:
    return f"{resource.get('resourceType')}/{resource.get('id')}"
