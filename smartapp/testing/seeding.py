"""Writes charts to a server that takes writes, and goes on where an earlier attempt ended.

Resources get ids of the seed's own, so that nothing of anybody else is overwritten and everything can be sent
again after an answer that was lost. A server that takes no such ids gives its own; then a conditional create
by our tag finds what arrived. What a server refuses is told, and stops nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import msgspec

from launch.errors import HttpError
from launch.http import Limits, Response
from smartapp.commands.checks import Fault, one_line
from smartapp.ehr.wire.bundles import outcome_text
from smartapp.testing.tag import SYSTEM, tagged
from smartapp.testing.target import Target
from smartapp.testing.written import NAME, Event, Seed, WrittenList

Resource = dict[str, Any]

MOST_AT_ONCE = 100
"""Resources of one transaction."""
LIMITS = Limits(connect=5.0, read=120.0, total=300.0)
_NOT_ALLOWED = frozenset({401, 403})
_COME_BACK = frozenset({408, 425, 429, 502, 503, 504})
"""Nothing is wrong with what was sent: the server, or the way to it, has no time now."""
_REFERENCE = re.compile(r"([A-Z][A-Za-z]+/[A-Za-z0-9\-.]+)(/_history/[^/]+)?")
_LOCATION = re.compile(r"(?:^|/)([A-Z][A-Za-z]+/[A-Za-z0-9\-._]+)(?:/_history/[^/]+)?/?$")


class Stopped(Exception):
    """It ended half-way, and the same command goes on from there. The text says why."""


@dataclass(frozen=True, slots=True)
class Refused:
    """What the server would not take, and what it said."""

    name: str
    why: str


@dataclass
class Tally:
    """How a seed ended."""

    written: int = 0
    there: int = 0
    """Written before."""
    refused: list[Refused] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far it is: `done` of `total` resources of a chart."""

    chart: str
    done: int
    total: int


class Seeder:
    """Writes to one server. `report` is told after each step."""

    def __init__(
        self,
        target: Target,
        written: WrittenList,
        seed: Seed,
        report: Callable[[Progress], None] = lambda _: None,
    ) -> None:
        self._target = target
        self._written = written
        self._seed = seed
        self._report = report
        self._transactions = True
        self._tried = any(entry.event is Event.HELD for entry in written)
        """Whether it is known what the server takes."""
        self.tally = Tally()

    def write(self, chart: str, resources: Sequence[Resource]) -> None:
        """A chart, or the practice. Raises Stopped; Fault where the server takes nothing at all."""
        ordered = in_order(resources)
        for done in range(0, len(ordered), MOST_AT_ONCE):
            some = ordered[done : done + MOST_AT_ONCE]
            missing = [one for one in some if self._is_missing(name_of(one))]
            self.tally.there += len(some) - len(missing)
            if missing:
                self._send(missing)
            self._report(Progress(chart, done + len(some), len(ordered)))

    def _is_missing(self, name: str) -> bool:
        entry = self._written.of(name)
        return entry is None or entry.event is Event.SENT

    def _send(self, resources: list[Resource]) -> None:
        if not self._tried:
            first, *resources = resources
            self._first(first)
        if not self._seed.own_ids:
            for one in resources:
                self._create(one)
            return
        if not resources:
            return
        self._written.note(Event.SENT, [(name_of(one), self._own(name_of(one))) for one in resources])
        rest = self._in_a_transaction(resources) if self._transactions and len(resources) > 1 else resources
        refused = [one for one in rest if not self._put(one)]
        if len(rest) == len(resources) > 1 and not refused:
            self._transactions = False  # each for itself it takes: it is the transaction that it does not

    def _first(self, resource: Resource) -> None:
        """One alone, to see whether it takes ids of ours, or takes anything."""
        self._written.begin(self._seed)
        name = name_of(resource)
        self._written.note(Event.SENT, [(name, self._own(name))])
        answer = self._answer("PUT", self._own(name), self._body(resource), repeatable=True)
        self._tried = True
        if answer.ok:
            self._held((name, self._own(name)))
            return
        self._written.note(Event.GONE, [(name, "")])
        self._seed = msgspec.structs.replace(self._seed, own_ids=False)
        self._written.begin(self._seed)
        before = len(self.tally.refused)
        self._create(resource)
        if len(self.tally.refused) > before:
            raise Fault(f"the server takes no writes: PUT {answer.status}, POST {self.tally.refused[-1].why}")

    def _in_a_transaction(self, resources: list[Resource]) -> list[Resource]:
        """Those that it did not take."""
        entries = [
            {"resource": self._renamed(one), "request": {"method": "PUT", "url": self._own(name_of(one))}}
            for one in resources
        ]
        body = msgspec.json.encode({"resourceType": "Bundle", "type": "transaction", "entry": entries})
        answer = self._answer("POST", self._target.base.base, body, repeatable=True)
        taken = _statuses(answer) if answer.ok else []
        if len(taken) != len(resources):
            return resources
        there = [name_of(one) for one, good in zip(resources, taken, strict=True) if good]
        self._held(*((name, self._own(name)) for name in there))
        return [one for one, good in zip(resources, taken, strict=True) if not good]

    def _put(self, resource: Resource) -> bool:
        name = name_of(resource)
        answer = self._answer("PUT", self._own(name), self._body(resource), repeatable=True)
        if answer.ok:
            self._held((name, self._own(name)))
        else:
            self._refused(name, answer)
        return answer.ok

    def _create(self, resource: Resource) -> None:
        """Under an id of the server's; where it arrived before, nothing more is made."""
        name = name_of(resource)
        code = f"{self._seed.run}-{resource['id']}"
        self._written.note(Event.SENT, [(name, "")])
        headers = {
            "If-None-Exist": f"_tag={quote(f'{SYSTEM}|{code}', safe='')}",
            "Prefer": "return=representation",
        }
        answer = self._answer("POST", resource["resourceType"], self._body(resource), headers=headers)
        if not answer.ok:
            self._refused(name, answer)
            return
        made = name_in(answer)
        if made is None:
            raise Stopped(f"the server did not say under which id it keeps {name}")
        if answer.status != 201 and f'"{code}"'.encode() not in answer.body:
            # It found something for a condition that it does not understand: that is somebody else's.
            self._written.note(Event.REFUSED, [(name, "")])
            self.tally.refused.append(Refused(name, "the server answered with a resource that is not ours"))
            return
        self._held((name, made))

    def _answer(self, method: str, target: str, body: bytes, **more: Any) -> Response:
        """What the server says to this very content. Raises Stopped and Fault."""
        try:
            answer: Response = self._target.send(method, target, body, limits=LIMITS, **more)
        except HttpError as error:
            raise Stopped(f"{error.sentence} ({error})") from None
        if answer.status in _NOT_ALLOWED:
            raise Fault(f"the server lets nobody write like this: {answer.status} to {method} {target}")
        if answer.status in _COME_BACK:
            raise Stopped(f"the server answered {answer.status}")
        return answer

    def _held(self, *names: tuple[str, str]) -> None:
        self._written.note(Event.HELD, names)
        self.tally.written += len(names)

    def _refused(self, name: str, answer: Response) -> None:
        self._written.note(Event.REFUSED, [(name, "")])
        said = one_line(outcome_text(answer.body))[:200]
        self.tally.refused.append(Refused(name, f"{answer.status} {said}".strip()))

    def _own(self, name: str) -> str:
        """`Type/id` as it is called on the server, where it takes ids of ours."""
        type_, _, logical_id = name.partition("/")
        return f"{type_}/{self._seed.run}-{logical_id}"

    def _body(self, resource: Resource) -> bytes:
        return msgspec.json.encode(self._renamed(resource))

    def _renamed(self, resource: Resource) -> Resource:
        """As it is sent: with our tag, and naming others as they are called there."""
        codes = [self._seed.run]
        sent: Resource = _with_references(resource, self._name_there)
        if self._seed.own_ids:
            sent["id"] = f"{self._seed.run}-{resource['id']}"
        else:
            codes.append(f"{self._seed.run}-{resource['id']}")
            del sent["id"]
        return tagged(sent, *codes)

    def _name_there(self, name: str) -> str:
        entry = self._written.of(name)
        return entry.at if entry is not None and entry.at else name


def name_of(resource: Mapping[str, Any]) -> str:
    """`Type/id` as the charts call it."""
    return f"{resource['resourceType']}/{resource['id']}"


def in_order(resources: Iterable[Resource]) -> list[Resource]:
    """What others name before what names them, and otherwise as they came: a strict server takes no reference
    that leads nowhere yet. In a circle the first stays first."""
    waiting = {name_of(one): one for one in resources}
    ordered: list[Resource] = []
    while waiting:
        ready = [
            name
            for name, one in waiting.items()
            if not any(other in waiting and other != name for other in _references(one))
        ] or [next(iter(waiting))]
        ordered += [waiting.pop(name) for name in ready]
    return ordered


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, child in value.items():
            if key == "reference" and isinstance(child, str):
                if found := _REFERENCE.fullmatch(child):
                    yield found[1]
            else:
                yield from _references(child)
    elif isinstance(value, list):
        for child in value:
            yield from _references(child)


def _with_references(value: Any, name_there: Callable[[str], str]) -> Any:
    if isinstance(value, dict):
        return {
            key: _renamed_reference(child, name_there)
            if key == "reference" and isinstance(child, str)
            else _with_references(child, name_there)
            for key, child in value.items()
        }
    if isinstance(value, list):
        return [_with_references(child, name_there) for child in value]
    return value


def _renamed_reference(text: str, name_there: Callable[[str], str]) -> str:
    found = _REFERENCE.fullmatch(text)
    return text if found is None else name_there(found[1]) + (found[2] or "")


def _statuses(answer: Response) -> list[bool]:
    """Of each entry of a transaction's answer, whether it was taken."""
    try:
        found = answer.json(LIMITS.max_bytes)
    except HttpError:
        return []
    entries = found.get("entry") if isinstance(found, dict) else None
    told = [entry.get("response") for entry in entries or () if isinstance(entry, dict)]
    return [isinstance(one, dict) and str(one.get("status", "")).startswith("2") for one in told]


def name_in(answer: Response) -> str | None:
    """`Type/id` of what was made, by `Location` or the body."""
    found = _LOCATION.search(answer.headers.get("location", "").partition("?")[0])
    if found and NAME.fullmatch(found[1]):
        return found[1]
    try:
        body = answer.json(LIMITS.max_bytes)
    except HttpError:
        return None
    made = f"{body.get('resourceType')}/{body.get('id')}" if isinstance(body, dict) else ""
    return made if NAME.fullmatch(made) else None
