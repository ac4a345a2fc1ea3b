"""A row of the worklist in words: the sentences of the patient page, about what the last sweep found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date

from fhir_mappings.vocabulary import Outcome
from smartapp.configuration.site import Site
from smartapp.ehr.reading.display import Banner
from smartapp.population.listing import Listed, Topic
from smartapp.services import Services
from smartapp.store.worklist import Mark, MarkKind
from smartapp.web import words
from smartapp.web.answer import Asked, Sentence, answer
from smartapp.web.answer import Topic as Told
from smartapp.web.sent import sent_standings
from smartapp.windows import Now, windows_of
from smartapp.worklist.choosing import Candidate

TOPICS: dict[Topic, str] = {
    Topic.READY: "Can be charged now",
    Topic.OPEN: "Still open",
    Topic.LOG: "Can still be logged, if it took place",
    Topic.SET_UP: "Set-up not on record",
    Topic.DECIDE: "To decide",
    Topic.LOST: "Not met",
}
MARKS: dict[MarkKind, str] = {
    MarkKind.MINE: "Taken",
    MarkKind.CALLED: "Called",
    MarkKind.SNOOZED: "Put off",
    MarkKind.DONE: "Done",
}
COLUMNS = (
    *("Patient", "Date of birth", "Record number", "What stands", "Open until", "Payer"),
    *("Incomplete", "Marked", "As of"),
)
"""Of a file."""
_NOT_TOLD = frozenset({Told.NOTHING, Told.CHARGED, Told.CONFIRM, Told.GAP})


@dataclass(frozen=True)
class MarkView:
    """What somebody said of the row."""

    kind: MarkKind
    text: str
    mine: bool


@dataclass(frozen=True)
class RowView:
    """One patient whom the user may see. `ref`: the row, sealed for this session."""

    ref: str
    person: Banner
    told: tuple[str, ...]
    to_decide: tuple[str, ...]
    """Why something cannot be charged before it is decided."""
    until: date | None
    days_left: str
    payer: str
    people: tuple[str, ...]
    incomplete: bool
    mark: MarkView | None


@dataclass(frozen=True)
class Looking:
    """Who looks at which sweep, and when."""

    here: Services
    issuer_id: str
    user: str
    as_of: date
    today: date
    may_charge: bool


def row_view(
    looking: Looking, candidate: Candidate, person: Banner, names: Mapping[str, str], ref: str
) -> RowView:
    one = candidate.listed
    return RowView(
        ref,
        person,
        tuple(sentence.text for sentence in sentences(looking, one)),
        reasons(one),
        one.until,
        days_left(one.until, looking.today),
        words.payer(one.payer, looking.here.site.policies),
        tuple(names.get(name, "") for name in one.people if names.get(name)),
        one.incomplete,
        mark_view(looking, candidate, names),
    )


def cells(looking: Looking, candidate: Candidate, person: Banner) -> tuple[str, ...]:
    """The row as a line of a file."""
    row = row_view(looking, candidate, person, {}, "")
    return (
        person.name,
        person.birth_date,
        person.mrn,
        " ".join(row.told),
        "" if row.until is None else row.until.isoformat(),
        row.payer,
        "not everything of this patient was read" if row.incomplete else "",
        "" if row.mark is None else row.mark.text,
        words.day(looking.as_of),
    )


def sentences(looking: Looking, one: Listed) -> tuple[Sentence, ...]:
    """What stands, as the patient page says it; what was written from here since counts as written."""
    policy = looking.here.site.policies.of(one.payer)
    charges = looking.here.store.charges.of_patient(looking.issuer_id, one.id)
    now = Now(looking.as_of, lambda code: policy.code(code).kind, date.min, sent_standings(charges))
    asked = Asked(windows_of(one.decisions, now), looking.as_of, may_charge=looking.may_charge)
    return tuple(sentence for sentence in answer(asked) if sentence.topic not in _NOT_TOLD)


def reasons(one: Listed) -> tuple[str, ...]:
    """Each once, whatever number of codes it holds up."""
    held_up = (decision.reasons for decision in one.decisions if decision.outcome is Outcome.REVIEW)
    return tuple(dict.fromkeys(words.reason(reason) for found in held_up for reason in found))


def mark_view(looking: Looking, candidate: Candidate, names: Mapping[str, str]) -> MarkView | None:
    mark = candidate.standing_mark
    if mark is None:
        return None
    mine = mark.person == looking.user
    by = "you" if mine else names.get(mark.person) or who(looking, mark)
    text = f"{MARKS[mark.kind]} by {by}, {when(looking, mark)}"
    if mark.kind is MarkKind.SNOOZED and mark.until is not None:
        text = f"{MARKS[mark.kind]} until {words.day(mark.until)} by {by}"
    if mark.digest != candidate.listed.digest:
        text += "; since then something has changed"
    return MarkView(mark.kind, text, mine)


def who(looking: Looking, mark: Mark) -> str:
    return looking.here.store.marks.name_of(looking.issuer_id, mark) or "a colleague"


def when(looking: Looking, mark: Mark) -> str:
    at = mark.at.astimezone(looking.here.site.zone)
    return f"{words.day(at.date())}, {at:%H:%M}"


def days_left(until: date | None, today: date) -> str:
    """ "3 days left", counting the last one."""
    if until is None:
        return ""
    left = (until - today).days + 1
    if left < 1:
        return "over since the last sweep"
    return "last day" if left == 1 else f"{left} days left"


def age(as_of: date, today: date) -> str:
    """How old what is shown is."""
    days = (today - as_of).days
    if days <= 0:
        return "today"
    return "yesterday" if days == 1 else f"{days} days ago"


def payers_of(payers: Iterable[str], site: Site) -> list[tuple[str, str]]:
    """Payers by name, as a list to choose from."""
    return sorted(((payer, words.payer(payer, site.policies)) for payer in payers), key=lambda item: item[1])
