"""A file of all rows whose patients the user may see, asked of the EHR in the background."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from flask import Response, g, make_response
from werkzeug.exceptions import NotFound

from launch.errors import SmartError
from launch.limiter import Turn
from launch.ports import LaunchSession
from launch.scopes import Scopes
from smartapp.ehr.handover.worksheet import as_cell
from smartapp.ehr.reading.asking import AT_ONCE, Given, NotAnswered
from smartapp.ehr.reading.display import Banner
from smartapp.services import Services, services
from smartapp.store.exports import Progress

log = logging.getLogger(__name__)

Row = TypeVar("Row")
NOBODY = Given({}, frozenset())


@dataclass(frozen=True)
class FileOf(Generic[Row]):
    """What is to stand in a file. `event`, `facts`: what the audit trail is told with each batch of
    patients."""

    file: str
    """Its name."""
    event: str
    columns: Sequence[str]
    rows: Sequence[Row]
    patient: Callable[[Row], str]
    """Whose row it is ("Patient/7")."""
    cells: Callable[[Row, Banner], Iterable[str]]
    """Runs outside of any request."""
    known: Mapping[str, Banner] = field(default_factory=dict)
    """Whom the EHR need not be asked about: the open chart's own patient."""
    facts: Mapping[str, str] = field(default_factory=dict)


def begin_export(here: Services, session: LaunchSession, wanted: FileOf[Row]) -> None:
    """Begin it; nothing happens while one of this session is being made."""
    export_id = here.store.exports.begin(session.id, wanted.file, here.clock.now())
    if export_id is not None:
        here.background.submit(_make, here, session, wanted, export_id)


def file_of_session(file: str) -> Response:
    """The present session's file of this name, once it is whole. Raises NotFound."""
    content = services().store.exports.content(g.session.id, file)
    if content is None:
        raise NotFound
    response = make_response(content)
    response.headers["Content-Type"] = "text/csv; charset=utf-8"
    response.headers["Content-Disposition"] = f'attachment; filename="{file}"'
    return response


def _make(here: Services, session: LaunchSession, wanted: FileOf[Row], export_id: str) -> None:
    """In a thread of its own; whatever goes wrong, the file is said not to have been made."""
    content = None
    try:
        content = _csv(wanted.columns, _lines(here, session, wanted, export_id)).encode()
    except (SmartError, NotAnswered, _NotWanted) as error:
        log.warning("a file was not made: %s", type(error).__name__)
    except Exception as error:
        log.error("a file was not made: %s", type(error).__name__)
    here.store.exports.end(export_id, session.id, content, here.clock.now())


class _NotWanted(Exception):
    """The session is over, or another file was begun."""


def _lines(
    here: Services, session: LaunchSession, wanted: FileOf[Row], export_id: str
) -> Iterator[Iterable[str]]:
    """Of each patient the EHR is asked once, as the first of their rows comes."""
    scopes, client = Scopes.parse(session.granted_scope), here.client_of(session)
    people, silent, asked = dict[str, Banner](), set[str](), set[str]()
    progress = Progress(file=wanted.file)
    for rows in _parts(wanted):
        new = [name for name in dict.fromkeys(map(wanted.patient, rows)) if name not in asked]
        asked.update(new)
        unknown = [name for name in new if name not in wanted.known]
        given = here.asking.patients(client, scopes, unknown, Turn.BULK) if unknown else NOBODY
        seen = [name for name in new if name in wanted.known or name in given.people]
        people.update((name, wanted.known.get(name) or given.people[name]) for name in seen)
        silent |= given.silent
        _told_to_the_trail(here, session, wanted, seen)
        shown = [row for row in rows if wanted.patient(row) in people]
        unsaid = sum(wanted.patient(row) in silent for row in rows)
        progress = Progress(
            progress.asked + len(new),
            progress.rows + len(shown),
            progress.hidden + len(rows) - len(shown) - unsaid,
            progress.silent + unsaid,
            wanted.file,
        )
        if not here.store.exports.go_on(export_id, progress, here.clock.now()):
            raise _NotWanted
        for row in shown:
            yield wanted.cells(row, people[wanted.patient(row)])


def _parts(wanted: FileOf[Row]) -> Iterator[list[Row]]:
    """The rows in their order, in parts of no more patients than are asked about at once."""
    part, new, before = list[Row](), set[str](), set[str]()
    for row in wanted.rows:
        name = wanted.patient(row)
        if name not in before and name not in new and len(new) == AT_ONCE:
            yield part
            before |= new
            part, new = [], set()
        part.append(row)
        if name not in before:
            new.add(name)
    if part:
        yield part


def _told_to_the_trail(
    here: Services, session: LaunchSession, wanted: FileOf[Row], seen: Sequence[str]
) -> None:
    here.store.audit.add(
        here.clock.now(),
        wanted.event,
        session=session.id,
        user=session.fhir_user,
        issuer=session.issuer_id,
        **wanted.facts,
        patients=" ".join(name.partition("/")[2] for name in seen),
        count=len(seen),
    )


def _csv(columns: Sequence[str], lines: Iterable[Iterable[str]]) -> str:
    out = io.StringIO()
    table = csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    table.writerow(columns)
    for cells in lines:
        table.writerow([as_cell(cell) for cell in cells])
    return out.getvalue()
