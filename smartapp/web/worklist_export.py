"""A file of the worklist: all rows that the user may see, asked of the EHR in the background."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Iterator, Sequence

from launch.errors import SmartError
from launch.limiter import Turn
from launch.ports import LaunchSession
from launch.scopes import Scopes
from smartapp.ehr.handover.worksheet import as_cell
from smartapp.ehr.reading.asking import AT_ONCE, NotAnswered
from smartapp.store.worklist import Progress
from smartapp.web import words
from smartapp.web.worklist_view import Looking, RowView, row_view
from smartapp.worklist.choosing import Candidate, Wanted, chosen
from smartapp.worklist.lists import Sweep

log = logging.getLogger(__name__)

COLUMNS = (
    *("Patient", "Date of birth", "Record number", "What stands", "Open until", "Payer"),
    *("Incomplete", "Marked", "As of"),
)


def begin_export(looking: Looking, session: LaunchSession, sweep: Sweep, wanted: Wanted) -> None:
    """Begin it; nothing happens while one of this session is being made."""
    here = looking.here
    export_id = here.store.exports.begin(session.id, here.clock.now())
    if export_id is None:
        return
    marks = here.store.marks.of_issuer(looking.issuer_id)
    rows = [Candidate(one, marks.get(one.id)) for one in chosen(sweep, marks, wanted, looking.today)]
    here.background.submit(_make, looking, session, rows, export_id)


def _make(looking: Looking, session: LaunchSession, rows: Sequence[Candidate], export_id: str) -> None:
    """In a thread of its own; whatever goes wrong, the file is said not to have been made."""
    here, content = looking.here, None
    try:
        lines = [line for part in _parts(looking, session, rows, export_id) for line in part]
        content = _csv(lines, looking).encode()
    except (SmartError, NotAnswered, _NotWanted) as error:
        log.warning("a file of the worklist was not made: %s", type(error).__name__)
    except Exception as error:
        log.error("a file of the worklist was not made: %s", type(error).__name__)
    here.store.exports.end(export_id, session.id, content, here.clock.now())


class _NotWanted(Exception):
    """The session is over, or another file was begun."""


def _parts(
    looking: Looking, session: LaunchSession, rows: Sequence[Candidate], export_id: str
) -> Iterator[list[RowView]]:
    here, scopes = looking.here, Scopes.parse(session.granted_scope)
    client = here.client_of(session)
    told = 0
    for first in range(0, len(rows), AT_ONCE):
        asked = rows[first : first + AT_ONCE]
        given = here.asking.patients(client, scopes, [one.listed.patient for one in asked], Turn.BULK)
        seen = [one for one in asked if one.listed.patient in given]
        here.store.audit.add(
            here.clock.now(),
            "worklist-in-a-file",
            session=session.id,
            user=session.fhir_user,
            issuer=session.issuer_id,
            patients=" ".join(one.listed.id for one in seen),
            count=len(seen),
        )
        told += len(seen)
        progress = Progress(first + len(asked), told)
        if not here.store.exports.go_on(export_id, progress, here.clock.now()):
            raise _NotWanted
        yield [row_view(looking, one, given[one.listed.patient], {}, "") for one in seen]


def _csv(rows: Sequence[RowView], looking: Looking) -> str:
    out = io.StringIO()
    table = csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    table.writerow(COLUMNS)
    for row in rows:
        cells = (
            row.person.name,
            row.person.birth_date,
            row.person.mrn,
            " ".join(row.told),
            "" if row.until is None else row.until.isoformat(),
            row.payer,
            "not everything of this patient was read" if row.incomplete else "",
            "" if row.mark is None else row.mark.text,
            words.day(looking.as_of),
        )
        table.writerow([as_cell(cell) for cell in cells])
    return out.getvalue()
