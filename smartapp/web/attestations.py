"""What a clinician states where the record does not show it: who, when, for which codes and which days.

A statement that stands counts as evidence and leaves `unverified`. It can be taken back, which is kept too.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime

from flask import Blueprint, Response, g, make_response, render_template, request
from werkzeug.wrappers import Response as AnyResponse

from fhir_mappings.local_time import Window
from fhir_mappings.vocabulary import Outcome, Unverified
from smartapp.ehr.reading.findings import Findings
from smartapp.services import services
from smartapp.store.attestations import STATED, Stated, Statement
from smartapp.web import own_pages, words
from smartapp.web.access import needs
from smartapp.web.permission import Action

pages = Blueprint("attestations", __name__, url_prefix="/s/<sid>/statements")

MAY = needs(Action.ACCEPT, title="Statements cannot be made here")

ALL_CODES = "all"
STANDING = frozenset(
    {
        Unverified.CONSENT,
        Unverified.ORDER,
        Unverified.PLAN_OF_CARE,
        Unverified.ESTABLISHED_PATIENT,
        Unverified.INITIATING_VISIT,
        Unverified.FDA_DEVICE,
        Unverified.DEVICE_SUPPLIED_BY_PRACTICE,
    }
)
"""True until somebody takes it back. Every other statement is about days that must be over: nobody can say
today how next month's minutes will have been spent."""
NOT_HERE = frozenset({Unverified.BILLING_PROFESSIONAL, Unverified.RULES_OF_THE_YEAR})
"""The first names the practitioner of one charge, so it is confirmed where the charge is accepted; the second
is the site's to confirm, in its file, and no clinician's (D37)."""
_OPEN = frozenset({Outcome.SUGGEST, Outcome.REVIEW, Outcome.PROVISIONAL})


@dataclass(frozen=True)
class OpenEntry:
    """Something the record does not show, and the codes that ask for it."""

    statement: Unverified
    text: str
    codes: tuple[str, ...]
    needs_window: bool


@pages.get("")
@MAY
def page() -> Response:
    """What is open, what was stated, and the form for a statement."""
    return _page((), 200)


@pages.post("")
@MAY
def state() -> AnyResponse:
    """Keep a statement. Nothing is stated for somebody who did not confirm it."""
    chart = own_pages.posted_chart()
    content, problems = _understood(chart.findings, chart.today)
    if content is None or problems:
        return _page(problems, 422)
    here = services()
    here.store.attestations.state(
        chart.issuer_id, chart.patient, content, here.clock.now(), session=g.session.id
    )
    here.jobs.decide_again(g.session)
    return own_pages.to("attestations.page")


@pages.post("/<attestation_id>/revoke")
@MAY
def revoke(attestation_id: str) -> AnyResponse:
    """Take a statement back. It stays visible as taken back."""
    own_pages.take_back(attestation_id, STATED)
    return own_pages.to("attestations.page")


def open_entries(findings: Findings) -> tuple[OpenEntry, ...]:
    """What is unverified on any card that is met, in the order of the closed set."""
    codes: dict[Unverified, dict[str, None]] = {}
    for decision in findings.assessment.decisions:
        if decision.outcome in _OPEN:
            for entry in decision.unverified:
                codes.setdefault(entry, {})[decision.code] = None
    return tuple(
        OpenEntry(entry, words.ATTESTATIONS[entry], tuple(codes[entry]), entry not in STANDING)
        for entry in Unverified
        if entry in codes and entry not in NOT_HERE
    )


def _understood(findings: Findings, today: date) -> tuple[Statement | None, tuple[str, ...]]:
    found = {entry.statement: entry for entry in open_entries(findings)}
    statement = next((item for item in found if item == request.form.get("statement")), None)
    if statement is None:
        return None, ("Choose the statement that you confirm.",)
    problems: list[str] = []
    code = request.form.get("code", "")
    if code != ALL_CODES and code not in found[statement].codes:
        problems.append("Say for which code, or for all of them.")
    window = _window(statement, today, problems)
    if request.form.get("confirm") != "yes":
        problems.append("Confirm that the statement is true.")
    by, by_name = own_pages.user()
    codes = () if code == ALL_CODES else (code,)
    return Statement(statement=statement, codes=codes, window=window, by=by, by_name=by_name), tuple(problems)


def _window(statement: Unverified, today: date, problems: list[str]) -> Window | None:
    first, last = request.form.get("from", "").strip(), request.form.get("to", "").strip()
    if not first and not last:
        if statement not in STANDING:
            problems.append("Say for which days this is true: it is about a period, which must be over.")
        return None
    try:
        window = Window(date.fromisoformat(first), date.fromisoformat(last))
    except ValueError:
        problems.append("Give the first and the last day of the period.")
        return None
    if window.end < window.start:
        problems.append("The last day lies before the first.")
    elif statement not in STANDING and window.end >= today:
        problems.append("The period is not over yet: what is still to come cannot be stated.")
    return window


@dataclass(frozen=True)
class StatementView:
    """A statement in words."""

    id: str
    text: str
    scope: str
    by: str
    at: datetime
    stands: bool
    revoked: str


def _view(item: Stated[Statement]) -> StatementView:
    content = item.content
    return StatementView(
        item.id,
        words.ATTESTATIONS[content.statement],
        words.scope(content.codes, content.window),
        content.by_name or content.by,
        item.at.astimezone(services().site.zone),
        item.stands,
        own_pages.taken_back(item),
    )


def _page(problems: Iterable[str], status: int) -> Response:
    chart = own_pages.chart()
    entries = open_entries(chart.findings)
    stored = services().store.attestations.of_patient(chart.issuer_id, chart.patient)
    return make_response(
        render_template(
            "attestations/statements.html",
            chart=chart,
            open_entries=entries,
            codes=sorted({code for entry in entries for code in entry.codes}),
            statements=[_view(item) for item in stored],
            problems=tuple(problems),
            sent=request.form,
            all_codes=ALL_CODES,
            periods=_periods(chart.findings),
        ),
        status,
    )


def _periods(findings: Findings) -> tuple[str, ...]:
    """The periods of the cards that ask for a statement, as a help for the two dates."""
    return tuple(
        dict.fromkeys(
            f"{words.day(decision.period.start)} to {words.day(decision.period.end)}"
            for decision in findings.assessment.decisions
            if decision.outcome in _OPEN and decision.unverified
        )
    )
