"""How a reason for review is settled by a person (D38): the way out of each, its form, and what was settled.

A sentence or a choice is kept like a statement: who, when, for which codes and days, until when; it can be
taken back. What no sentence settles says what is done instead, and where.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from flask import Blueprint, Response, abort, g, make_response, render_template, request
from msgspec.structs import replace
from werkzeug.wrappers import Response as AnyResponse

from fhir_mappings.decision import Decision
from fhir_mappings.local_time import Window, next_month
from fhir_mappings.rules.reviews import (
    FACILITY,
    HOME,
    SOMEBODY_ELSE,
    THERAPIST_ALONE,
    Choice,
    Review,
    Who,
    load_reviews,
    problem_of,
)
from fhir_mappings.vocabulary import (
    MONITORING_PROGRAMS,
    Hint,
    Program,
    ReviewReason,
    Role,
)
from smartapp.configuration.site import Site
from smartapp.configuration.site_file import BILLING_PROFESSIONALS
from smartapp.ehr.reading.findings import Findings
from smartapp.ehr.reading.own_record import SettledLine
from smartapp.services import services
from smartapp.store.attestations import SETTLED, Settlement, Stated
from smartapp.web import own_pages, words
from smartapp.web.access import needs
from smartapp.web.permission import ROLES, Action, present_findings, role_here
from smartapp.web.security import Moved
from smartapp.web.ways_out import minutes_of

pages = Blueprint("resolutions", __name__, url_prefix="/s/<sid>/settled")

MAY = needs(Action.RESOLVE, title="Nothing can be settled here")

CLINICIANS = BILLING_PROFESSIONALS | {Role.THERAPIST_ASSISTANT, Role.CLINICAL_STAFF}
"""Who may settle what only a clinician can know; others settle what a biller may."""
MOST_REFERENCE = 200
_PAYERS = frozenset({ReviewReason.PAYER_UNKNOWN, ReviewReason.PAYER_CRITERIA})
THIS, THESE, FROM_NOW_ON = "this", "these", "from-now-on"


# The way out of each reason, for the row of a decision


@dataclass(frozen=True)
class SettledView:
    """What somebody settled of a decision, in words."""

    id: str
    reason: str
    says: str
    chosen: str
    reference: str
    by: str
    at: datetime


def settled_of(decision: Decision) -> tuple[SettledView, ...]:
    """What was settled of a decision here, for its row: the newest of each reason."""
    found = present_findings()
    lines = () if found is None else settled_on(decision, found[1])
    return tuple(_settled_view(line) for line in lines)


def settled_on(decision: Decision, findings: Findings) -> tuple[SettledLine, ...]:
    """What a decision rests on of what was settled here."""
    service_date = decision.service_date or decision.period.end
    newest: dict[str, SettledLine] = {}
    for line in findings.settled:  # the latest first
        if line.covers(decision.code, decision.period, service_date):
            newest.setdefault(line.content.resolves, line)
    reasons = {one.reason for one in decision.resolved}
    return tuple(line for reason, line in newest.items() if reason in reasons)


def settled_sentences(decision: Decision, findings: Findings, site: Site) -> tuple[str, ...]:
    """The same for the note of a charge: the sentence that was confirmed, what was chosen, who and when."""
    told = []
    for line in settled_on(decision, findings):
        content = line.content
        chosen = chosen_in_words(content.resolves, content.choice)
        more = [f"{chosen[0].upper()}{chosen[1:]}." if chosen else ""]
        more.append(f"Reference: {content.reference}." if content.reference else "")
        says = " ".join(filter(None, [content.says, *more]))
        told.append(signed(says, content.by_name or content.by, site.today(line.at)))
    return tuple(told)


def signed(sentence: str, by: str, on: date) -> str:
    """A sentence with who said it, and when."""
    return f"{sentence} ({by}, {words.day(on)})"


def _settled_view(line: SettledLine) -> SettledView:
    content = line.content
    return SettledView(
        line.id,
        words.reason(content.resolves),
        content.says,
        chosen_in_words(content.resolves, content.choice),
        content.reference,
        content.by_name or own_pages.name_of(content.by),
        line.at.astimezone(services().site.zone),
    )


# The pages


@dataclass(frozen=True)
class Held:
    """A decision that waits for the same reason, as a page names it."""

    decision: Decision

    @property
    def text(self) -> str:
        period = self.decision.period
        return f"{self.decision.code}, {words.day(period.start)} to {words.day(period.end)}"


@dataclass(frozen=True)
class Question:
    """What a form asks: a reason of one decision, and who else waits for the same."""

    review: Review
    decision: Decision
    same: tuple[Held, ...]
    """Every decision that waits for this reason, this one included."""
    options: tuple[tuple[str, str], ...]
    """What can be chosen; empty where a day is typed or a sentence confirmed."""
    people: tuple[tuple[str, str], ...]
    """Whose role it is, where that may be said too."""

    @property
    def scopes(self) -> tuple[tuple[str, str], ...]:
        """For what it holds; one scope alone is not asked."""
        this = (THIS, f"Only {Held(self.decision).text}")
        if self.review.choice in (Choice.DATE, Choice.MINUTES):
            # What a possibility means is told of this code alone.
            return (this,)
        these = (THESE, f"All that wait for it: {'; '.join(one.text for one in self.same)}")
        found = [this, these] if len(self.same) > 1 else [this]
        if self.review.reason in _PAYERS:
            found.append((FROM_NOW_ON, f"{self.decision.code} up to the last day given below"))
        return tuple(found)

    @property
    def first_scope(self) -> str:
        """A choice between periods or programs speaks of all of them, or it settles nothing."""
        return THESE if self.review.choice is not None and len(self.scopes) > 1 else THIS

    @property
    def typed_day(self) -> bool:
        return self.review.choice is Choice.DATE


@pages.get("")
@MAY
def page() -> Response:
    """What was settled of this patient, with what follows from it."""
    chart = own_pages.chart()
    stored = services().store.attestations.settlements(chart.issuer_id, chart.patient)
    return make_response(
        render_template(
            "resolutions/settled.html", chart=chart, items=[_view(item, chart.findings) for item in stored]
        )
    )


@pages.get("/<key>/<reason>")
@MAY
def form(key: str, reason: str) -> Response:
    """The sentence or the choice that settles a reason of a decision."""
    chart = own_pages.chart()
    return _form(chart, _question(chart.findings, key, reason), (), 200)


@pages.post("/<key>/<reason>")
@MAY
def settle(key: str, reason: str) -> AnyResponse:
    """Keep it, and have the chart decided again. What would settle nothing is not kept."""
    chart, here = own_pages.posted_chart(), services()
    question = _question(chart.findings, key, reason)
    content, problems = _understood(question)
    if not problems:
        problems = _follows(chart, content)
    if problems:
        return _form(chart, question, problems, 422)
    here.store.attestations.settle(
        chart.issuer_id, chart.patient, content, here.clock.now(), session=g.session.id
    )
    here.jobs.decide_again(g.session)
    return own_pages.to("resolutions.page")


@pages.post("/<settlement_id>/revoke")
@MAY
def revoke(settlement_id: str) -> AnyResponse:
    """Take it back. It stays visible as taken back."""
    own_pages.take_back(settlement_id, SETTLED)
    return own_pages.to("resolutions.page")


def _question(findings: Findings, key: str, reason: str) -> Question:
    """404 for what waits for no such reason, or for one that no sentence settles."""
    review, decision = load_reviews().get(reason), findings.decision(key)
    if review is None or decision is None or not review.is_settled_here:
        abort(404)
    if not _waits_for(reason, decision):
        raise Moved
    same = tuple(Held(one) for one in findings.assessment.decisions if _waits_for(reason, one))
    people: tuple[tuple[str, str], ...] = ()
    if review.choice is Choice.ROLE and reason != ReviewReason.STAFF_ROLE:
        people = tuple((one.reference, one.text) for one in findings.choices.practitioners)
    return Question(review, decision, same, _options(review, decision, same, findings), people)


def _waits_for(reason: str, decision: Decision) -> bool:
    if reason == Hint.ASSISTANT_NOT_NEEDED:
        return bool(minutes_of(decision))
    return reason in decision.reasons


def _options(
    review: Review, decision: Decision, same: Iterable[Held], findings: Findings
) -> tuple[tuple[str, str], ...]:
    waiting = [one.decision for one in same]
    match review.choice:
        case Choice.PROGRAM:
            return tuple((str(one), words.PROGRAMS[one]) for one in Program if one in MONITORING_PROGRAMS)
        case Choice.LINE:
            lines = dict.fromkeys(one.line for one in waiting if one.line is not None)
            return tuple((str(line), words.LINES[line]) for line in lines)
        case Choice.WINDOW:
            days = sorted({one.period for one in waiting}, key=lambda window: window.start)
            return tuple(
                (window.start.isoformat(), f"{words.day(window.start)} to {words.day(window.end)}")
                for window in days
            )
        case Choice.MONTH:
            first = decision.period.start
            months = ((first - timedelta(days=1)).replace(day=1), first, next_month(first))
            return tuple((f"{month:%Y-%m}", f"{month:%B %Y}") for month in months)
        case Choice.ROLE:
            of_staff = review.reason == ReviewReason.STAFF_ROLE
            roles = [role for role in Role if role in BILLING_PROFESSIONALS or of_staff]
            return tuple((str(role), ROLES[role]) for role in roles if role is not Role.UNKNOWN)
        case Choice.PERSON:
            people = [(one.reference, one.text) for one in findings.choices.practitioners]
            return (*people, (SOMEBODY_ELSE, "Somebody who has no part in this monitoring"))
        case Choice.PLACE:
            return ((HOME, "At home, or elsewhere but in no facility"), (FACILITY, "In a facility"))
        case Choice.MINUTES:
            return tuple((one.choice, one.says) for one in minutes_of(decision))
        case Choice.DATE | None:
            return ()


def chosen_in_words(reason: str, choice: str | None) -> str:
    """What was chosen, as a person says it; "" where nothing is."""
    review = load_reviews().get(reason)
    if not choice or review is None:
        return ""
    who, _, role = choice.rpartition(" as ")
    match review.choice:
        case Choice.PROGRAM:
            return words.PROGRAMS[Program(choice)]
        case Choice.DATE | Choice.WINDOW:
            return words.day(choice)
        case Choice.MONTH:
            return f"{date.fromisoformat(f'{choice}-01'):%B %Y}"
        case Choice.ROLE:
            told = ROLES[Role(role)]
            return f"{own_pages.name_of(who)}, {told}" if who else told
        case Choice.PERSON if choice != SOMEBODY_ELSE:
            return own_pages.name_of(choice)
        case Choice.PERSON:
            return "somebody who has no part in this monitoring"
        case Choice.MINUTES if choice == THERAPIST_ALONE:
            return "the therapist's own minutes alone"
        case Choice.MINUTES:
            return "the assistant's minutes too"
        case _:
            return words.plain(choice)


def _understood(question: Question) -> tuple[Settlement, tuple[str, ...]]:
    """What a form says, and what is still missing of it."""
    review, sent = question.review, request.form
    problems: list[str] = []
    if Who.BILLER not in review.who and role_here() not in CLINICIANS:
        problems.append("Only a clinician can know this, so only a clinician settles it.")
    scope = sent.get("scope", "") if len(question.scopes) > 1 else THIS
    if scope not in dict(question.scopes):
        problems.append("Say for which codes and days.")
    choice = sent.get("choice", "").strip() or None
    if question.options and choice not in dict(question.options):
        problems.append("Choose one.")
    if (person := sent.get("person", "")) and person in dict(question.people):
        choice = f"{person} as {choice}"
    try:
        until = date.fromisoformat(sent["until"]) if sent.get("until", "").strip() else None
    except ValueError:
        until = None
        problems.append("Give the last day for which it holds as a date.")
    if scope == FROM_NOW_ON and until is None:
        problems.append("Give the last day for which it holds.")
    if sent.get("confirm") != "yes":
        problems.append("Confirm that it is true.")
    codes, window = _scope(question, scope)
    by, by_name = own_pages.user()
    content = Settlement(
        resolves=review.reason,
        says=review.says,
        codes=codes,
        window=window,
        choice=choice if review.choice is not None else None,
        reference=sent.get("reference", "").strip()[:MOST_REFERENCE],
        until=until,
        by=by,
        by_name=by_name,
    )
    if not problems and (problem := _problem(content, review)):
        problems.append(problem)
    return content, tuple(problems)


def _problem(content: Settlement, review: Review) -> str | None:
    if review.reference and not content.reference:
        return "Give the reference: the number or document that shows it."
    here = services()
    if problem_of(content.resolution(here.clock.now(), here.site.zone)) is None:
        return None
    return "Give the day as a date." if review.choice is Choice.DATE else "Choose one."


def _scope(question: Question, scope: str) -> tuple[tuple[str, ...], Window | None]:
    """The codes and days of a scope."""
    if scope == FROM_NOW_ON:
        return (question.decision.code,), None
    told = question.same if scope == THESE else (Held(question.decision),)
    windows = [one.decision.period for one in told]
    codes = tuple(dict.fromkeys(one.decision.code for one in told))
    return codes, Window(min(one.start for one in windows), max(one.end for one in windows))


def _follows(chart: own_pages.Chart, content: Settlement) -> tuple[str, ...]:
    """Why it would change nothing; nothing where it does."""
    here = services()
    resolution = content.resolution(here.clock.now(), here.site.zone)
    imagined = here.jobs.imagined(g.session, settled=(resolution,))
    if imagined is None:
        raise Moved
    before = {one.key: _answer(one) for one in chart.findings.assessment.decisions}
    after = {one.key: _answer(one) for one in imagined.assessment.decisions}
    if before != after:
        return ()
    return ("With that, nothing is decided otherwise: the record or a charge speaks against it.",)


def _answer(decision: Decision) -> Decision:
    """A decision without what two readings of one answer may tell in another order."""
    return replace(decision, resolved=())


@dataclass(frozen=True)
class SettlementView:
    """What was settled, in words, with the decisions that rest on it."""

    id: str
    reason: str
    says: str
    chosen: str
    reference: str
    scope: str
    by: str
    at: datetime
    stands: bool
    revoked: str
    follows: tuple[tuple[str, str], ...]
    """Code and days, and what they are now."""


def _view(item: Stated[Settlement], findings: Findings) -> SettlementView:
    content, site = item.content, services().site
    scope = words.scope(content.codes, content.window)
    if content.until is not None:
        scope = f"{scope}; service dates up to {words.day(content.until)}"
    resting = [
        one
        for one in findings.assessment.decisions
        if any(line.id == item.id for line in settled_on(one, findings))
    ]
    return SettlementView(
        item.id,
        words.reason(content.resolves),
        content.says,
        chosen_in_words(content.resolves, content.choice),
        content.reference,
        scope,
        content.by_name or own_pages.name_of(content.by),
        item.at.astimezone(site.zone),
        item.stands,
        own_pages.taken_back(item),
        tuple((Held(one).text, words.outcome(one.outcome)) for one in resting),
    )


def _form(chart: own_pages.Chart, question: Question, problems: tuple[str, ...], status: int) -> Response:
    return make_response(
        render_template(
            "resolutions/settle.html",
            chart=chart,
            question=question,
            problems=problems,
            sent=request.form,
            title=Held(question.decision).text,
            most=MOST_REFERENCE,
        ),
        status,
    )
