"""Logging time or a conversation that the EHR does not record: typed, or by a clock that a person starts and
stops. An entry counts once somebody has signed exactly what is shown; corrections keep what was there before.

There is no button that fills in missing minutes, and no page starts a clock.
"""

from __future__ import annotations

import hashlib
from datetime import date, timedelta

import msgspec
from flask import Blueprint, Response, abort, g, make_response, render_template, request
from werkzeug.wrappers import Response as AnyResponse

from fhir_mappings.time_log import (
    LoggedTime,
    missing_of,
    problem_of,
)
from launch.scopes import Scopes
from smartapp.ehr.encounters import WriteBack
from smartapp.ehr.people import names_of, person_of
from smartapp.ehr.reading.elsewhere import readable_elsewhere
from smartapp.ehr.reading.findings import Findings
from smartapp.services import services
from smartapp.store.time_log import EntryContent, EntryState, Measured, TimeEntry, Unless
from smartapp.web import own_pages, words
from smartapp.web.access import needs
from smartapp.web.entry_words import counts_for
from smartapp.web.errors import error_page
from smartapp.web.permission import Action, refused_here
from smartapp.web.security import Moved
from smartapp.web.time_form import (
    PREFILLED,
    EntryForm,
    Filled,
    form_choices,
    form_values,
    sent_form,
    talk_of,
    understood,
)
from smartapp.web.time_view import EntryView
from smartapp.web.waiting import client_here

pages = Blueprint("time_log", __name__, url_prefix="/s/<sid>/time")

MAY = needs(Action.LOG, title="Time cannot be logged here")


@pages.get("")
@MAY
def page() -> Response:
    """Every entry, the clock, and the form for a new entry, filled in with what a row of the patient page
    knows of it."""
    filled = own_pages.unsealed(request.args.get("filled", ""), Filled)
    if filled is not None:
        return _page(EntryForm(msgspec.structs.asdict(filled)), 200)
    return _page(EntryForm({name: request.args.get(name, "").strip()[:40] for name in PREFILLED}), 200)


@pages.post("")
@MAY
def enter() -> AnyResponse:
    """A new entry, typed. It is not signed yet."""
    chart, form = own_pages.posted_chart(), sent_form()
    logged, problems = understood(form)
    if logged is not None:
        problems = (*problems, *_certified(logged))
    if logged is None or problems:
        return _page(EntryForm(form.values, problems), 422)
    by, by_name = own_pages.user()
    entry_id = services().store.time_log.enter(
        chart.issuer_id,
        chart.patient,
        EntryContent(logged=logged, note=form.note, talk=talk_of(form), by=by, by_name=by_name),
        services().clock.now(),
        Unless(_locked_days(logged)),
        **own_pages.facts(),
    )
    if entry_id is None:
        return _page(EntryForm(form.values, _certified(logged)), 422)
    return own_pages.to("time_log.entry", entry_id=entry_id)


@pages.get("/<entry_id>")
@MAY
def entry(entry_id: str) -> Response:
    """One entry, exactly as it is signed, with everything it was before."""
    return _entry_page(_entry(entry_id), (), 200)


@pages.get("/<entry_id>/correct")
@MAY
def correction(entry_id: str) -> Response:
    """The entry's form, filled with what it says now."""
    return _correction_page(_entry(entry_id), None, 200)


@pages.post("/<entry_id>/correct")
@MAY
def correct(entry_id: str) -> AnyResponse:
    """A new version, not signed. The earlier ones stay, and until somebody signs the entry counts nothing."""
    chart, found, form = own_pages.posted_chart(), _entry(entry_id), sent_form()
    _require_version(found)
    before = found.latest.content
    logged, problems = understood(form, before.logged)
    if logged is not None:
        problems = (*problems, *_certified(logged, before.logged))
    if logged is None or problems:
        return _correction_page(found, EntryForm(form.values, problems), 422)
    by, by_name = own_pages.user()
    content = EntryContent(
        logged=logged,
        note=form.note,
        talk=talk_of(form),
        measured=_measured(before, logged),
        by=by,
        by_name=by_name,
    )
    done = services().store.time_log.append(
        chart.issuer_id,
        chart.patient,
        found.id,
        found.latest.version,
        EntryState.DRAFT,
        content,
        services().clock.now(),
        "time-corrected",
        Unless(_locked_days(logged, before.logged)),
        **own_pages.facts(),
    )
    if not done:
        problems = _certified(logged, before.logged)
        if not problems:
            raise Moved
        return _correction_page(_entry(entry_id), EntryForm(form.values, problems), 422)
    return own_pages.to("time_log.entry", entry_id=found.id)


@pages.post("/<entry_id>/sign")
@MAY
def sign(entry_id: str) -> AnyResponse:
    """Answer for exactly what was shown. From now on the entry counts."""
    own_pages.posted_chart()
    found, here = _entry(entry_id), services()
    _require_version(found)
    content = found.latest.content
    if found.state is not EntryState.DRAFT or request.form.get("shown") != _digest(content):
        raise Moved
    problems = _sign_problems(found)
    if request.form.get("confirm") != "yes":
        problems = (*problems, "Confirm that the entry is true as it is shown.")
    if problems:
        return _entry_page(found, problems, 422)
    by, by_name = own_pages.user()
    whose = person_of(own_pages.chart().findings, content.logged.person)
    done = here.store.time_log.append(
        found.issuer_id,
        found.patient,
        found.id,
        found.latest.version,
        EntryState.SIGNED,
        msgspec.structs.replace(content, by=by, by_name=by_name, whose=whose),
        here.clock.now(),
        "time-signed",
        Unless(_locked_days(content.logged), _names_of(content.logged.person)),
        **own_pages.facts(),
    )
    if not done:
        problems = _sign_problems(found)
        if not problems:
            raise Moved
        return _entry_page(found, problems, 422)
    return _to_ehr(_entry(entry_id))


@pages.post("/<entry_id>/withdraw")
@MAY
def withdraw(entry_id: str) -> AnyResponse:
    """Take an entry back. It stays visible as withdrawn."""
    own_pages.posted_chart()
    found, here = _entry(entry_id), services()
    _require_version(found)
    if found.state is EntryState.WITHDRAWN:
        raise Moved
    if problems := _certified(found.latest.content.logged):
        return _entry_page(found, problems, 422)
    by, by_name = own_pages.user()
    done = here.store.time_log.append(
        found.issuer_id,
        found.patient,
        found.id,
        found.latest.version,
        EntryState.WITHDRAWN,
        msgspec.structs.replace(found.latest.content, by=by, by_name=by_name, encounter=None),
        here.clock.now(),
        "time-withdrawn",
        Unless(_locked_days(found.latest.content.logged)),
        **own_pages.facts(),
    )
    if not done:
        problems = _certified(found.latest.content.logged)
        if not problems:
            raise Moved
        return _entry_page(_entry(entry_id), problems, 422)
    return _to_ehr(_entry(entry_id))


@pages.post("/<entry_id>/write")
@MAY
def write(entry_id: str) -> AnyResponse:
    """Try again to bring the EHR's Encounter in step with the entry."""
    own_pages.posted_chart()
    return _to_ehr(_entry(entry_id))


# The clock


@pages.post("/clock/start")
@MAY
def start_clock() -> AnyResponse:
    """Start the signed-in person's clock for this patient. Nothing else ever does."""
    patient, here = own_pages.require_patient(), services()
    by, _ = own_pages.user()
    issuer_id = g.session.issuer_id
    now = here.clock.now()
    if not here.store.time_log.start_clock(issuer_id, by, patient, now, session=g.session.id):
        running = here.store.time_log.clock_of(issuer_id, by)
        if running is not None and running.patient != patient:
            return _page(
                EntryForm(
                    {},
                    (
                        "Your clock is running for another patient. Nobody is in two conversations at once: "
                        "stop it there, or discard it below.",
                    ),
                ),
                409,
            )
    return own_pages.to("time_log.page")


@pages.post("/clock/stop")
@MAY
def stop_clock() -> AnyResponse:
    """Stop it: the times become an entry, which still has to be completed and signed."""
    patient, here = own_pages.require_patient(), services()
    by, by_name = own_pages.user()
    clock = here.store.time_log.clock_of(g.session.issuer_id, by)
    if clock is None or clock.patient != patient:
        return own_pages.to("time_log.page")
    now = here.clock.now()
    # Whole seconds, so that what is signed is what is shown: only those that ran from beginning to end.
    start = (clock.started_at + timedelta(microseconds=999_999)).replace(microsecond=0)
    logged = LoggedTime(
        start=start,
        end=max(start, now.replace(microsecond=0)),
        person=by,
        person_name=by_name,
    )
    content = EntryContent(logged=logged, measured=Measured.CLOCK, by=by, by_name=by_name)
    problem = problem_of(logged, now)
    entry_id = here.store.time_log.stop_clock(
        g.session.issuer_id, by, clock, now, None if problem else content, session=g.session.id
    )
    if problem is not None:
        started = clock.started_at.astimezone(here.site.zone)
        return _page(
            EntryForm(
                {},
                (
                    f"The clock ran from {words.day(started.date())}, {started:%H:%M:%S}, until now. "
                    f"{words.ENTRY_PROBLEMS[problem]} Nothing was logged.",
                ),
            ),
            422,
        )
    if entry_id is None:
        return own_pages.to("time_log.page")
    return own_pages.to("time_log.correction", entry_id=entry_id)


@pages.post("/clock/discard")
@MAY
def discard_clock() -> AnyResponse:
    """Stop the clock, wherever it was started, and log nothing."""
    own_pages.require_patient()
    here = services()
    by, _ = own_pages.user()
    clock = here.store.time_log.clock_of(g.session.issuer_id, by)
    if clock is not None:
        here.store.time_log.stop_clock(
            g.session.issuer_id, by, clock, here.clock.now(), None, session=g.session.id
        )
    return own_pages.to("time_log.page")


# What a request is about


def _entry(entry_id: str) -> TimeEntry:
    found = services().store.time_log.get(g.session.issuer_id, g.session.patient or "", entry_id)
    if found is None:
        abort(404)
    return found


def _require_version(found: TimeEntry) -> None:
    """A form is about the version that it showed."""
    if request.form.get("version") != str(found.latest.version):
        raise Moved


def _digest(content: EntryContent) -> str:
    return hashlib.sha256(msgspec.json.encode(content, order="deterministic")).hexdigest()


def _to_ehr(found: TimeEntry) -> AnyResponse:
    """After a change: write it to the EHR where that is allowed, and have the chart decided again."""
    here = services()
    changed_in_ehr = False
    if here.encounters.refusal(g.session) is None and (found.counts or found.encounter is not None):
        result = here.encounters.write(client_here(), g.session, found)
        changed_in_ehr = result.step is WriteBack.WRITTEN
        if result.step in {WriteBack.REFUSED, WriteBack.UNKNOWN, WriteBack.NOT_ALLOWED}:
            here.jobs.decide_again(g.session)
            return _entry_page(_entry(found.id), (f"Not written to the EHR. {result.sentence}",), 200)
    if changed_in_ehr:
        # The EHR holds something new, so the chart is read again; the patient page waits for it.
        here.jobs.read_again(g.session)
        return own_pages.to("patient.page")
    here.jobs.decide_again(g.session)
    return own_pages.to("time_log.entry", entry_id=found.id)


def _names_of(person: str) -> frozenset[str]:
    """Every reference by which the EHR means this person."""
    return names_of(own_pages.chart().findings, person)


def _locked_days(*entries: LoggedTime) -> tuple[date, ...]:
    """The days whose months must be open, where the site certifies months."""
    here = services()
    days = {at.astimezone(here.site.zone).date() for entry in entries for at in (entry.start, entry.end)}
    return tuple(sorted(days)) if here.site.lock_certified_months else ()


def _certified(*entries: LoggedTime) -> tuple[str, ...]:
    """A certified month is closed: what was logged in it stays as it is, and nothing is added to it."""
    days = _locked_days(*entries)
    sentence = services().guards.locked(g.session.issuer_id, g.session.patient or "", days)
    return () if sentence is None else (sentence,)


def _measured(before: EntryContent, logged: LoggedTime) -> Measured:
    if before.measured is Measured.TYPED:
        return Measured.TYPED
    same = (before.logged.start, before.logged.end) == (logged.start, logged.end)
    return before.measured if same else Measured.CLOCK_CHANGED


def _sign_problems(found: TimeEntry) -> tuple[str, ...]:
    """Why this entry cannot be signed by who is signed in."""
    logged = found.latest.content.logged
    problems = [words.ENTRY_PROBLEMS[item] for item in missing_of(logged)]
    if (problem := problem_of(logged, services().clock.now())) is not None:
        problems.append(words.ENTRY_PROBLEMS[problem])
    problems += _certified(logged)
    if services().store.time_log.with_another_patient(found, _names_of(logged.person)):
        problems.append(
            f"{logged.person_name or logged.person} has a signed entry with another patient at the same "
            "time. Nobody is in two places at once: correct the times of one of them."
        )
    by, _ = own_pages.user()
    if by not in _names_of(logged.person) and refused_here(Action.ACCEPT) is not None:
        problems.append(
            f"This is {logged.person_name or logged.person}'s time: only they, or somebody who may accept "
            "charges, can sign it."
        )
    return tuple(problems)


# The pages


def _page(form: EntryForm, status: int) -> Response:
    here, chart = services(), own_pages.chart()
    by, _ = own_pages.user()
    clock = here.store.time_log.clock_of(chart.issuer_id, by)
    mine = clock if clock is not None and clock.patient == chart.patient else None
    return make_response(
        render_template(
            "time_log/log.html",
            chart=chart,
            form=form,
            entries=[
                EntryView.of(item) for item in here.store.time_log.of_patient(chart.issuer_id, chart.patient)
            ],
            clock=None if mine is None else mine.started_at.astimezone(here.site.zone),
            running_for=None
            if mine is None
            else words.amount(int((here.clock.now() - mine.started_at).total_seconds()), "seconds"),
            elsewhere=clock is not None and mine is None,
            zone=here.site.zone.key,
            looks_elsewhere=bool(readable_elsewhere(Scopes.parse(g.session.granted_scope))),
            **form_choices(),
        ),
        status,
    )


def _entry_page(found: TimeEntry, problems: tuple[str, ...], status: int) -> Response:
    here = services()
    # What was just changed decides the chart; the page shows the chart as it is now.
    g.pop("present_findings", None)
    chart = own_pages.chart()
    can_sign = found.state is EntryState.DRAFT and not _sign_problems(found)
    return make_response(
        render_template(
            "time_log/entry.html",
            chart=chart,
            entry=EntryView.of(found),
            counts=_counts(found, chart.findings),
            problems=problems,
            blockers=_sign_problems(found) if found.state is EntryState.DRAFT else (),
            can_sign=can_sign,
            shown=_digest(found.latest.content),
            write_refusal=here.encounters.refusal(g.session),
            zone=here.site.zone.key,
        ),
        status,
    )


def _counts(found: TimeEntry, findings: Findings) -> str:
    """What a signed entry counts toward; nothing is said of one that counts nothing by itself."""
    if not found.counts:
        return ""
    logged = found.latest.content.logged
    return counts_for(found.id, logged, findings, services().site.today(logged.start))


def _correction_page(found: TimeEntry, form: EntryForm | None, status: int) -> Response:
    if found.state is EntryState.WITHDRAWN:
        return error_page(
            409, "This entry was withdrawn", "A withdrawn entry stays as it is.", "Log a new entry instead."
        )
    content = found.latest.content
    return make_response(
        render_template(
            "time_log/correct.html",
            chart=own_pages.chart(),
            entry=EntryView.of(found),
            form=form or EntryForm(form_values(content.logged, content.note, content.talk)),
            zone=services().site.zone.key,
            **form_choices(),
        ),
        status,
    )
