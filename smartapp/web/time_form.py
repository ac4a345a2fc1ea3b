"""What somebody types of an entry of the time log, understood or told why not."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta

import msgspec
from flask import g, request

from fhir_mappings.time_log import (
    LOGGED_ACTIVITIES,
    STATED_ROLES,
    EntryProblem,
    LoggedTime,
    missing_of,
    problem_of,
    span_of,
    span_on,
)
from fhir_mappings.vocabulary import MONITORING_PROGRAMS, Activity, Program, Role
from smartapp.ehr.reading.display import Choice
from smartapp.services import services
from smartapp.store.time_log import Talk
from smartapp.web import own_pages, words
from smartapp.web.permission import ROLES

LONGEST_NOTE = 1000

LONGEST_TALK = 300

TALK = ("with_whom", "data", "decided")

FIELDS = (
    *("day", "start", "end_day", "end", "length", "person", "role", "program", "activity", "live", "note"),
    *TALK,
)

WITH_WHOM = ("the patient", "a caregiver", "the patient and a caregiver")

PREFILLED = ("program", "activity")
"""What an address may fill in as it is: a person completes it, and nothing of it is kept by that."""


class Filled(msgspec.Struct, frozen=True):
    """The same of one contact, which stands in no address but sealed."""

    day: str = ""
    length: str = ""
    program: str = ""
    activity: str = ""


@dataclass(frozen=True)
class EntryForm:
    """What somebody typed, and what stands against it."""

    values: dict[str, str]
    problems: tuple[str, ...] = ()

    def __getattr__(self, name: str) -> str:
        if name not in FIELDS:
            raise AttributeError(name)
        return self.values.get(name, "")


def sent_form() -> EntryForm:
    values = {name: request.form.get(name, "").strip() for name in FIELDS}
    told = {name: values[name][:LONGEST_TALK] for name in TALK}
    return EntryForm(values | told | {"note": request.form.get("note", "").strip()[:LONGEST_NOTE]})


def talk_of(form: EntryForm) -> Talk:
    """What is said of a conversation; of what is none, nothing."""
    if form.live != "yes":
        return Talk()
    return Talk(form.with_whom if form.with_whom in WITH_WHOM else "", form.data, form.decided)


def understood(
    form: EntryForm, before: LoggedTime | None = None
) -> tuple[LoggedTime | None, tuple[str, ...]]:
    """The entry that a form states, and every reason against it, in words. `before`: what is corrected."""
    here = services()
    problems: list[str] = []
    span = _span(form, problems)
    if span is not None and before is not None:
        span = _with_its_seconds(form, span, before)
    people = {person.reference: person.text for person in people_here()}
    if form.person not in people:
        problems.append(words.ENTRY_PROBLEMS[EntryProblem.NO_PERSON])
    if span is None:
        return None, tuple(problems)
    logged = LoggedTime(
        start=span[0],
        end=span[1],
        person=form.person,
        person_name=people.get(form.person, ""),
        role=_role(form, problems),
        activity=Activity(form.activity) if form.activity in set(LOGGED_ACTIVITIES) else None,
        program=Program(form.program) if form.program in set(MONITORING_PROGRAMS) else None,
        live={"yes": True, "no": False}.get(form.live),
        day=span[0].date() if form.length and not form.start else None,
    )
    if (problem := problem_of(logged, here.clock.now())) is not None:
        problems.append(words.ENTRY_PROBLEMS[problem])
    missing = (item for item in missing_of(logged) if item is not EntryProblem.NO_PERSON)
    problems += [words.ENTRY_PROBLEMS[item] for item in missing]
    return logged, tuple(problems)


def _role(form: EntryForm, problems: list[str]) -> Role | None:
    """The role that the entry states. Where the site's file names the person's, nobody states another."""
    stated = Role(form.role) if form.role in set(STATED_ROLES) else None
    known = services().site.role_of(g.session.issuer_id, form.person)
    if known is not None and stated not in (None, known):
        problems.append(f"The site's file says in which role this person works: {ROLES[known]}.")
    return known or stated


def _span(form: EntryForm, problems: list[str]) -> tuple[datetime, datetime] | None:
    if form.length and not (form.start or form.end or form.end_day):
        return _length_of(form, problems)
    try:
        if form.length:
            raise ValueError
        day = date.fromisoformat(form.day)
        end_day = date.fromisoformat(form.end_day) if form.end_day else day
        start, end = time.fromisoformat(form.start), time.fromisoformat(form.end)
        if (
            start.tzinfo
            or end.tzinfo
            or start.microsecond
            or end.microsecond
            or "24" in (form.start[:2], form.end[:2])  # read from Python 3.14 on, as the same day's 00:00
            or not 2000 <= day.year <= 2199
            or not 2000 <= end_day.year <= 2199
        ):
            raise ValueError
    except ValueError:
        problems.append(
            "Give the date, and start and end as times such as 14:05, or the length in whole minutes."
        )
        return None
    found = span_of(day, start, end_day, end, services().site.zone)
    if isinstance(found, EntryProblem):
        problems.append(words.ENTRY_PROBLEMS[found])
        return None
    return found


def _with_its_seconds(
    form: EntryForm, span: tuple[datetime, datetime], before: LoggedTime
) -> tuple[datetime, datetime]:
    """A form shows minutes: a time that nobody changed in it stays as it was measured, to the second."""
    shown = _times_of(before)
    start, end = span
    if (form.day, form.start) == (shown["day"], shown["start"]):
        start = before.start
    if (form.end_day or form.day, form.end) == (shown["end_day"] or shown["day"], shown["end"]):
        end = before.end
    return start, end


def _length_of(form: EntryForm, problems: list[str]) -> tuple[datetime, datetime] | None:
    """A length on a day, where nobody noted the times."""
    try:
        day, minutes = date.fromisoformat(form.day), int(form.length)
        if not (2000 <= day.year <= 2199 and 1 <= minutes <= 24 * 60):
            raise ValueError
    except ValueError:
        problems.append("Give the date, and the length in whole minutes.")
        return None
    return span_on(day, timedelta(minutes=minutes), services().site.zone)


def people_here() -> tuple[Choice, ...]:
    """Whose time it may be: whoever is signed in first, then the practitioners that the chart names."""
    by, by_name = own_pages.user()
    others = [person for person in own_pages.chart().findings.choices.practitioners if person.reference != by]
    return (Choice(by, by_name), *others)


def _times_of(logged: LoggedTime) -> dict[str, str]:
    """Day and times as a form shows them."""
    zone = services().site.zone
    start, end = logged.start.astimezone(zone), logged.end.astimezone(zone)
    return {
        "day": start.date().isoformat(),
        "start": "" if logged.day else f"{start:%H:%M}",
        "end_day": "" if logged.day or start.date() == end.date() else end.date().isoformat(),
        "end": "" if logged.day else f"{end:%H:%M}",
        "length": str(logged.seconds // 60) if logged.day else "",
    }


def form_values(logged: LoggedTime, note: str, talk: Talk) -> dict[str, str]:
    return {
        **_times_of(logged),
        "person": logged.person,
        "role": logged.role or "",
        "program": logged.program or "",
        "activity": logged.activity or "",
        "live": "" if logged.live is None else "yes" if logged.live else "no",
        "note": note,
        **msgspec.to_builtins(talk),
    }


def form_choices() -> dict[str, object]:
    shown = {str(anchor.program) for anchor in own_pages.chart().findings.anchors}
    return {
        "with_whom": WITH_WHOM,
        "only_program": shown.pop() if len(shown) == 1 else None,
        "people": people_here(),
        "roles": [(str(role), ROLES[role]) for role in STATED_ROLES],
        "programs": [(str(program), words.PROGRAMS[program]) for program in MONITORING_PROGRAMS],
        "activities": [(str(activity), words.ACTIVITIES[activity]) for activity in LOGGED_ACTIVITIES],
    }
