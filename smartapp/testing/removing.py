"""Takes back what was written to a server: exactly what the list names, one by one, each looked at before.

Never a conditional delete: a server that does not understand its condition would delete everything.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from launch.errors import HttpError
from launch.http import Response
from smartapp.commands.checks import Fault, one_line
from smartapp.ehr.wire.bundles import outcome_text
from smartapp.testing.seeding import LIMITS, Stopped
from smartapp.testing.tag import bears_our_tag
from smartapp.testing.target import Target
from smartapp.testing.written import NAME, Entry, Event, WrittenList

_ABSENT = frozenset({404, 410})
_COME_BACK = frozenset({408, 425, 429, 500, 502, 503, 504})


@dataclass
class Removed:
    """How it ended. `left`: name and why, of what is still there; `unknown`: what was sent, never answered,
    and has an id that nobody knows."""

    gone: int = 0
    left: list[tuple[str, str]] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)


class Remover:
    """Removes from one server what its list names; `report` is told how many are left to look at."""

    def __init__(
        self, target: Target, written: WrittenList, report: Callable[[int], None] = lambda _: None
    ) -> None:
        self._target = target
        self._written = written
        self._report = report
        self.removed = Removed()

    def remove(self) -> Removed:
        """What names others goes before what it names. What somebody else's resource still names stays: it
        is tried again as long as something else went. Raises Stopped and Fault."""
        entries = list(self._written)
        waiting = [entry for entry in reversed(entries) if entry.at]
        while waiting:
            left = []
            for number, entry in enumerate(waiting):
                why = self._remove(entry)
                if why is not None:
                    left.append((entry, why))
                self._report(len(waiting) - number - 1 + len(left))
            if len(left) == len(waiting):
                self.removed.left = [(entry.at, why) for entry, why in left]
                break
            waiting = [entry for entry, _ in left]
        self.removed.unknown = [e.of for e in entries if e.event is Event.SENT and not e.at]
        if not self.removed.left and not self.removed.unknown:
            self._written.remove()
        return self.removed

    def _remove(self, entry: Entry) -> str | None:
        """Why it is still there; None where it is gone."""
        if not NAME.fullmatch(entry.at):
            return "no name of a resource"
        seen = self._answer("GET", entry.at)
        if seen.status in _ABSENT:
            self._gone(entry)
            return None
        if not seen.ok:
            return _told(seen)
        try:
            resource = seen.json(LIMITS.max_bytes)
        except HttpError:
            return "it cannot be read"
        if (
            not isinstance(resource, dict)
            or entry.at != f"{resource.get('resourceType')}/{resource.get('id')}"
        ):
            return "the server gave something else under this name"
        if not bears_our_tag(resource):
            return "it does not bear our tag any more: it is somebody's now"
        answer = self._answer("DELETE", entry.at)
        if not answer.ok and answer.status not in _ABSENT:
            return _told(answer)
        self._gone(entry)
        return None

    def _gone(self, entry: Entry) -> None:
        self._written.note(Event.GONE, [(entry.of, entry.at)])
        self.removed.gone += 1

    def _answer(self, method: str, name: str) -> Response:
        try:
            answer: Response = self._target.send(method, name, limits=LIMITS, repeatable=True)
        except HttpError as error:
            raise Stopped(f"{error.sentence} ({error})") from None
        if answer.status in {401, 403}:
            raise Fault(f"the server does not allow it: {answer.status} to {method} {name}")
        if answer.status in _COME_BACK:
            raise Stopped(f"the server answered {answer.status} to {method} {name}")
        return answer


def _told(answer: Response) -> str:
    return f"{answer.status} {one_line(outcome_text(answer.body))[:200]}".strip()
