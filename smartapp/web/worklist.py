"""The worklist: a launch without a patient. Each row is shown to whom the EHR shows that patient, now.

Rows come from the last sweep and hold no name; name and birth date come with the EHR's answer. What people
say of a row (taken, called, put off, done) is kept, and of two at once one is told.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import partial

import msgspec
from flask import Blueprint, Response, g, make_response, render_template, request, url_for
from werkzeug.exceptions import BadRequest
from werkzeug.wrappers import Response as AnyResponse

from fhir_mappings.vocabulary import MONITORING_PROGRAMS, Line
from launch.authorization import LaunchRequest
from launch.ports import LaunchSession
from launch.scopes import Interaction, Level, Scopes
from smartapp.ehr.reading.asking import AT_ONCE, NotAnswered
from smartapp.ehr.reading.display import Banner
from smartapp.population.listing import Listed, Topic
from smartapp.services import Services, services
from smartapp.store.worklist import Mark, MarkKind, NewMark
from smartapp.web import own_pages, words
from smartapp.web.access import Open, needs
from smartapp.web.errors import error_page
from smartapp.web.export import FileOf, begin_export, file_of_session
from smartapp.web.launch import to_ehr
from smartapp.web.permission import Action, refused_here
from smartapp.web.waiting import client_here, take_seat
from smartapp.web.worklist_view import (
    COLUMNS,
    MARKS,
    TOPICS,
    Looking,
    RowView,
    age,
    cells,
    payers_of,
    row_view,
    when,
    who,
)
from smartapp.worklist.choosing import Candidate, Show, Wanted, chosen, counted, people_of
from smartapp.worklist.lists import NoList, Sweep

pages = Blueprint("worklist", __name__, url_prefix="/s/<sid>/worklist")

MAY_LOOK = needs(
    Open.LOOK,
    title="The worklist is for clinicians",
    way_back="Open the app from a patient's chart.",
    besides="in a session without a patient, where the site has a worklist and the EHR lets patients be seen",
)

ROUNDS = 4
"""So often the EHR is asked for one page, where it shows few of those who were asked about."""
LONGEST_SNOOZE = timedelta(days=92)
ME, TITLE = "me", "The worklist cannot be shown"
FILE = "worklist.csv"
NOT_SAID = "The EHR did not say which patients you may see. Try again in a moment."


class Row(msgspec.Struct, frozen=True):
    """A row in an address or a form. `seen`: the version of what somebody had said of it."""

    patient: str
    digest: str
    seen: int


class From(msgspec.Struct, frozen=True):
    """Where a page begins: behind so many of one sweep's rows, whether they were shown or not."""

    generation: str
    after: int


@dataclass(frozen=True)
class Shown:
    """The rows of a page, and where the next one begins; None after the last."""

    rows: tuple[RowView, ...]
    following: str | None
    people: tuple[tuple[str, str], ...]


class Refused(Exception):
    """Nothing can be shown; a sentence, and whether another launch would help."""

    def __init__(self, sentence: str, *, again: bool = False) -> None:
        self.sentence, self.again = sentence, again
        super().__init__(sentence)


@pages.errorhandler(Refused)
def _refused(error: Refused) -> Response:
    again = url_for("launch.begin_worklist", iss=g.session.iss) if error.again else None
    return make_response(
        render_template(
            "worklist/refused.html",
            title=TITLE,
            sentence=error.sentence,
            again=again,
            may_bill=refused_here(Action.BILL) is None,
        ),
        403,
    )


@pages.get("")
@MAY_LOOK
def page() -> Response:
    """What the last sweep says of the patients whom the EHR shows to this user."""
    sweep, looking = _looked_at()
    wanted = _wanted(sweep)
    marks = looking.here.store.marks.of_issuer(looking.issuer_id)
    rows = chosen(sweep, marks, wanted, looking.today)
    shown = _shown(rows, marks, _from(sweep), looking, sweep)
    return make_response(
        render_template(
            "worklist/worklist.html",
            sweep=sweep,
            age=age(sweep.as_of, looking.today),
            shown=shown,
            wanted=wanted,
            filters=_filters(),
            totals=_totals(sweep),
            choices=_choices(sweep, shown),
            export=looking.here.store.exports.of_session(g.session.id, looking.here.clock.now()),
            topics=TOPICS,
            marks=MARKS,
            tomorrow=looking.today + timedelta(days=1),
            latest=looking.today + LONGEST_SNOOZE,
            file=FILE,
            may_bill=refused_here(Action.BILL) is None,
        )
    )


@pages.post("/mark")
@MAY_LOOK
def mark() -> AnyResponse:
    """Say something of a row; not where somebody has said something since it was shown."""
    _, looking = _looked_at()
    row = _row(request.form.get("row", ""))
    try:
        kind = MarkKind(request.form.get("kind", ""))
    except ValueError:
        raise BadRequest from None
    until = _until(looking.today) if kind is MarkKind.SNOOZED else None
    name = g.session.user_name or ""
    new = NewMark(row.patient, kind, looking.user, name, row.digest, row.seen, until)
    if not looking.here.store.marks.set(looking.issuer_id, new, looking.here.clock.now(), g.session.id):
        return _somebody_else(looking, row)
    return own_pages.to("worklist.page", **_filters())


@pages.get("/open/<row>")
@MAY_LOOK
def open_chart(row: str) -> AnyResponse:
    """Open a row's patient: a launch of its own, in which the EHR has its user choose. What comes back must
    be that patient, or nothing is opened."""
    asked = _row(row)
    take_seat()
    request_ = LaunchRequest(g.session.iss, None, patient=asked.patient)
    return to_ehr(services().launcher.begin(request_))


@pages.post("/file")
@MAY_LOOK
def make_file() -> AnyResponse:
    """Begin to make a file of all rows that this user may see."""
    sweep, looking = _looked_at()
    marks = looking.here.store.marks.of_issuer(looking.issuer_id)
    rows = [Candidate(one, marks.get(one.id)) for one in chosen(sweep, marks, _wanted(sweep), looking.today)]
    new = FileOf(
        FILE,
        "worklist-in-a-file",
        COLUMNS,
        rows,
        lambda one: one.listed.patient,
        partial(cells, looking),
    )
    begin_export(looking.here, g.session, new)
    return own_pages.to("worklist.page", **_filters())


@pages.get("/worklist.csv")
@MAY_LOOK
def file() -> Response:
    """The file, once it is whole."""
    _looked_at()
    return file_of_session(FILE)


# Who may look, at what


def _looked_at() -> tuple[Sweep, Looking]:
    """The last sweep, for a user who may look at it. Raises Refused."""
    here, session = services(), g.session
    if not here.lists.has(session.issuer_id):
        raise Refused(
            "The EHR opened this app without a patient, and this site has no worklist for it. "
            "Open the app from the patient's chart."
        )
    if not sees_patients(session):
        raise Refused(
            "The EHR opened this app without a patient and without permission to see any.",
            again=not session.without_patient,
        )
    try:
        sweep = here.lists.of(session.issuer_id)
    except NoList as none:
        raise Refused(str(none)) from None
    today = here.site.today(here.clock.now())
    role = here.site.role_of(session.issuer_id, session.fhir_user)
    may_charge = role in here.site.permissions.accept
    user = session.fhir_user or ""
    return sweep, Looking(here, session.issuer_id, user, sweep.as_of, today, may_charge)


def sees_patients(session: LaunchSession) -> bool:
    """Whether the EHR lets this session ask for patients whom no chart names."""
    scopes = Scopes.parse(session.granted_scope)
    return any(scopes.allows(Level.USER, "Patient", how) for how in (Interaction.READ, Interaction.SEARCH))


# What is shown


def _shown(
    rows: Sequence[Listed], marks: Mapping[str, Mark], begin: int, looking: Looking, sweep: Sweep
) -> Shown:
    """Rows from there on whose patients the EHR gives. How many were passed over nobody is told."""
    here, client, scopes = looking.here, client_here(), Scopes.parse(g.session.granted_scope)
    found: list[tuple[Candidate, Banner]] = []
    at = begin
    for _ in range(ROUNDS):
        asked = rows[at : at + AT_ONCE]
        if not asked or len(found) >= AT_ONCE:
            break
        try:
            answer = here.asking.patients(client, scopes, [one.patient for one in asked])
        except NotAnswered:
            raise Refused(NOT_SAID) from None
        given = answer.people
        if answer.silent and not given:
            raise Refused(NOT_SAID)
        for one in asked:
            if len(found) >= AT_ONCE:
                break
            at += 1
            if (person := given.get(one.patient)) is not None:
                found.append((Candidate(one, marks.get(one.id)), person))
    people = people_of(one.listed for one, _ in found)
    names = here.asking.people(client, scopes, [*_who_marked(found), *people]) if found else {}
    _told_to_the_trail(here, [one.listed for one, _ in found])
    following = own_pages.sealed(From(sweep.generation, at)) if at < len(rows) else None
    return Shown(
        tuple(row_view(looking, one, person, names, _ref(one)) for one, person in found),
        following,
        tuple((reference, names[reference]) for reference in people if reference in names),
    )


def _who_marked(rows: Sequence[tuple[Candidate, Banner]]) -> list[str]:
    return list(dict.fromkeys(one.mark.person for one, _ in rows if one.mark is not None))


def _told_to_the_trail(here: Services, rows: Sequence[Listed]) -> None:
    here.store.audit.add(
        here.clock.now(),
        "worklist-shown",
        **own_pages.facts(),
        issuer=g.session.issuer_id,
        patients=" ".join(one.id for one in rows),
        count=len(rows),
    )


def _totals(sweep: Sweep) -> list[tuple[str, int]] | None:
    """Of everybody in the sweep, whom the EHR was not asked about: for roles that the site names."""
    here, session = services(), g.session
    entry = here.site.worklist.of(session.issuer_id)
    role = here.site.role_of(session.issuer_id, session.fhir_user)
    if entry is None or role not in entry.counts_for:
        return None
    counts = counted(sweep)
    return [(text, counts[topic]) for topic, text in TOPICS.items()]


# What is asked for


def _filters() -> dict[str, str]:
    """What an address of this page says, of what it may say."""
    given = request.form if request.method == "POST" else request.args
    names = ("topic", "program", "line", "payer", "clinician", "show")
    return {name: given[name] for name in names if given.get(name)}


def _wanted(sweep: Sweep) -> Wanted:
    said = _filters()
    user = g.session.fhir_user or ""
    person = said.get("clinician", "")
    topic, show = said.get("topic", ""), said.get("show", "")
    return Wanted(
        user=user,
        topic=Topic(topic) if topic in set(Topic) else None,
        program=said.get("program", ""),
        line=said.get("line", ""),
        payer=said.get("payer", ""),
        person=user if person == ME else _person_at(sweep, person) if person else "",
        show=Show(show) if show in set(Show) else Show.OPEN,
    )


def _person_at(sweep: Sweep, address: str) -> str:
    """Who stands at such an address; nobody at any other."""
    people = people_of(sweep.patients)
    return next((one for one in people if own_pages.address_of(one, g.session.id) == address), address)


def _choices(sweep: Sweep, shown: Shown) -> dict[str, list[tuple[str, str]]]:
    """What can be chosen. Of clinicians only those whose patients are on the page: the others' would tell of
    patients whom nobody asked about."""
    return {
        "topic": [(topic.value, text) for topic, text in TOPICS.items()],
        "program": [(str(one), words.SHORT_PROGRAMS[one]) for one in sorted(MONITORING_PROGRAMS)],
        "line": [(str(line), words.LINES[line]) for line in Line],
        "payer": payers_of(sweep.payers, services().site),
        "clinician": [
            (ME, "me"),
            *(
                (own_pages.address_of(reference, g.session.id), name)
                for reference, name in shown.people
                if reference != g.session.fhir_user
            ),
        ],
        "show": [(Show.MINE, "those I marked"), (Show.AWAY, "done or put off")],
    }


def _from(sweep: Sweep) -> int:
    """How many rows lie before this page; none where another sweep has ended meanwhile."""
    at = own_pages.unsealed(request.args.get("from", ""), From)
    return at.after if at is not None and at.generation == sweep.generation else 0


def _ref(one: Candidate) -> str:
    return own_pages.sealed(
        Row(one.listed.id, one.listed.digest, 0 if one.mark is None else one.mark.version)
    )


def _row(text: str) -> Row:
    found = own_pages.unsealed(text, Row)
    if found is None:
        raise BadRequest
    return found


def _until(today: date) -> date:
    try:
        until = date.fromisoformat(request.form.get("until", ""))
    except ValueError:
        raise BadRequest from None
    if not today < until <= today + LONGEST_SNOOZE:
        raise BadRequest
    return until


def _name_of(looking: Looking, mark: Mark) -> str:
    asked = looking.here.asking.people(client_here(), Scopes.parse(g.session.granted_scope), [mark.person])
    return asked.get(mark.person) or who(looking, mark)


def _somebody_else(looking: Looking, row: Row) -> Response:
    present = looking.here.store.marks.of_issuer(looking.issuer_id).get(row.patient)
    if present is None or present.kind is MarkKind.NONE:
        said = "What was said of this row was taken back meanwhile."
    else:
        by = "You" if present.person == looking.user else _name_of(looking, present)
        marked = f"marked this row as {MARKS[present.kind].lower()} on {when(looking, present)}"
        said = f"{by[0].upper()}{by[1:]} {marked}."
    back = "Go back to the worklist and look again."
    return error_page(409, "Somebody was first", f"{said} Your mark was not kept.", back)
