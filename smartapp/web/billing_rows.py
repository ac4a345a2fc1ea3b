"""Which charges of all patients this viewer may see, now: those whose patient their own token reads.

The open chart's own patient is one of them; of all others the EHR is asked, for the rows of a page. A row of
anybody else is counted, and nothing of it is told.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from flask import g

from launch.errors import HttpError, LaunchError
from launch.scopes import Scopes
from smartapp.ehr.reading.asking import NotAnswered, may_ask
from smartapp.ehr.reading.display import Banner
from smartapp.services import services
from smartapp.store.billing import MonthFilter, MonthRow
from smartapp.web import own_pages
from smartapp.web.waiting import client_here

PAGE_SIZE = 50
"""Rows of a page; they have no more patients than are asked about at once."""
ROUNDS = 4
"""So often the EHR is asked for one page, where it shows few of those who were asked about."""


@dataclass(frozen=True)
class Looked:
    """The rows of a page, with what the EHR calls their patients (by number). `begin`, `end`: which of the
    filtered charges were looked at for it; `hidden`: how many of them are of patients whom the EHR does not
    give; `silent`: of whom it did not say, and `why`."""

    rows: tuple[MonthRow, ...] = ()
    names: dict[str, Banner] = field(default_factory=dict)
    begin: int = 0
    end: int = 0
    hidden: int = 0
    silent: int = 0
    why: str = ""


def reads_many() -> bool:
    """Whether the session's token may read other patients than the open chart's."""
    return may_ask(Scopes.parse(g.session.granted_scope), "Patient")


def within_reach(wanted: MonthFilter) -> MonthFilter | None:
    """The charges among which there may be some for this viewer: all of them, or where the token reads one
    patient alone that one's; None where it reads nobody."""
    if reads_many():
        return wanted
    own = own_pages.own_patient()
    return None if own is None else replace(wanted, patient=own[0])


def look(wanted: MonthFilter, begin: int) -> Looked:
    """From there on, until a page is full, the charges end, or the EHR was asked often enough."""
    names: dict[str, Banner] = {}
    refused, shown = set[str](), list[MonthRow]()
    at, silent, why = begin, 0, ""
    for _ in range(ROUNDS):
        rows = services().store.billing.rows(wanted, PAGE_SIZE, at)
        found, unsaid, why = _asked({row.patient for row in rows} - names.keys() - refused)
        names |= found
        refused |= {row.patient for row in rows} - names.keys() - unsaid
        for row in rows:
            if len(shown) == PAGE_SIZE:
                break
            at += 1
            silent += row.patient in unsaid
            if row.patient in names:
                shown.append(row)
        if unsaid or len(rows) < PAGE_SIZE or len(shown) == PAGE_SIZE:
            break
    return Looked(tuple(shown), names, begin, at, at - begin - len(shown) - silent, silent, why)


def patient_of(row: MonthRow) -> Banner | None:
    """What the EHR calls a charge's patient; None where it does not let the viewer read them. Raises
    NotAnswered, HttpError, LaunchError."""
    own = own_pages.own_patient()
    if own is not None and own[0] == row.patient:
        return own[1]
    if not reads_many():
        return None
    name, scopes = f"Patient/{row.patient}", Scopes.parse(g.session.granted_scope)
    given = services().asking.patients(client_here(), scopes, [name])
    if name in given.silent:
        raise NotAnswered
    return given.people.get(name)


def _asked(patients: Iterable[str]) -> tuple[dict[str, Banner], frozenset[str], str]:
    """Whom of these the viewer may see; of whom the EHR did not say it, and why."""
    own = own_pages.own_patient()
    found = {own[0]: own[1]} if own is not None else {}
    others = sorted(set(patients) - found.keys())
    if not others or not reads_many():
        return found, frozenset(), ""
    scopes = Scopes.parse(g.session.granted_scope)
    try:
        given = services().asking.patients(client_here(), scopes, [f"Patient/{one}" for one in others])
    except (LaunchError, HttpError) as error:
        return found, frozenset(others), error.sentence
    except NotAnswered:
        return found, frozenset(others), ""
    people = {name.partition("/")[2]: person for name, person in given.people.items()}
    return found | people, frozenset(name.partition("/")[2] for name in given.silent), ""
