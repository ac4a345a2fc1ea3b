"""The episode of care, where the EHR documents none: confirmed by a clinician who has seen what follows.

A second start-up charge, a grid that begins afresh, and device periods after a long silence rest on it. It is
never inferred from silence (BILLING_RULES 3, D4), and the EHR's own EpisodeOfCare always comes first.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime

from flask import Blueprint, Response, abort, g, make_response, render_template, request
from werkzeug.wrappers import Response as AnyResponse

from fhir_mappings.anchor import ProgramAnchor
from fhir_mappings.record import EpisodeOfCare
from fhir_mappings.vocabulary import MONITORING_PROGRAMS, Program
from smartapp.ehr.reading.findings import Findings
from smartapp.services import services
from smartapp.store.attestations import EPISODE, ConfirmedEpisode, Stated, episode_of
from smartapp.web import own_pages, period_words, words
from smartapp.web.access import needs
from smartapp.web.differences import Difference, charges_lost, differences
from smartapp.web.permission import Action
from smartapp.web.security import Moved

pages = Blueprint("episode", __name__, url_prefix="/s/<sid>/episode/<program>")

MAY = needs(Action.ACCEPT, title="Episodes of care cannot be confirmed here")


@dataclass(frozen=True)
class EpisodeLine:
    """A confirmed episode in words."""

    id: str
    span: str
    source: str
    by: str
    at: datetime
    stands: bool
    revoked: str


@pages.get("")
@MAY
def page(program: str) -> Response:
    """What is known of the program's episode, and the form to confirm one."""
    return _page(_program(program), (), 200)


@pages.post("/check")
@MAY
def check(program: str) -> Response:
    """What would be decided otherwise. Nothing is kept yet."""
    chart, of = own_pages.posted_chart(), _program(program)
    content, problems = _understood(chart, of)
    if content is None or problems:
        return _page(of, problems, 422)
    follows, problems = _follows(chart, of, _supposed(content))
    if problems:
        return _page(of, problems, 422)
    return make_response(
        render_template(
            "episode/check.html",
            chart=chart,
            program=of,
            content=content,
            span=_span(content),
            source_words=period_words.EPISODE_SOURCES[content.source],
            differences=follows,
            days_before=_days_before(chart, content),
        )
    )


@pages.post("")
@MAY
def confirm(program: str) -> AnyResponse:
    """Keep the episode that was shown with what follows, and have the chart decided again."""
    chart, of, here = own_pages.posted_chart(), _program(program), services()
    content, problems = _understood(chart, of)
    if content is not None and not problems:
        _, problems = _follows(chart, of, _supposed(content))
    if content is None or problems:
        return _page(of, problems, 422)
    here.store.attestations.confirm_episode(
        chart.issuer_id, chart.patient, content, here.clock.now(), session=g.session.id
    )
    here.jobs.decide_again(g.session)
    return own_pages.to("episode.page", program=of)


@pages.post("/<episode_id>/revoke")
@MAY
def revoke(program: str, episode_id: str) -> AnyResponse:
    """Take a confirmation back. It stays visible as taken back."""
    of = _program(program)
    own_pages.take_back(episode_id, EPISODE)
    return own_pages.to("episode.page", program=of)


def _program(name: str) -> Program:
    """A program that the chart shows anything of; 404 for any other."""
    if name not in MONITORING_PROGRAMS or _found(own_pages.chart().findings, Program(name)) is None:
        abort(404)
    return Program(name)


def _found(findings: Findings, program: Program) -> ProgramAnchor | None:
    return next((item for item in findings.anchors if item.program is program), None)


def _confirmed(chart: own_pages.Chart, program: Program) -> list[Stated[ConfirmedEpisode]]:
    stored = services().store.attestations.episodes(chart.issuer_id, chart.patient)
    return [item for item in stored if item.content.program is program]


def _understood(chart: own_pages.Chart, program: Program) -> tuple[ConfirmedEpisode | None, tuple[str, ...]]:
    """The episode of a form, and what stands against it whatever would follow."""
    try:
        start = date.fromisoformat(request.form.get("start", "").strip())
        last = request.form.get("end", "").strip()
        end = date.fromisoformat(last) if last else None
    except ValueError:
        return None, ("Give the first day as a date, and the last day if care has ended.",)
    source = request.form.get("source", "")
    problems: list[str] = []
    found = _found(chart.findings, program)
    if found is not None and found.documented and not found.confirmed:
        problems.append("The EHR documents the episode of care: what is wrong with it is corrected there.")
    if source not in period_words.EPISODE_SOURCES:
        problems.append("Say what the episode is known from.")
    if max(start, end or start) > chart.today:
        problems.append("A day of the episode lies in the future.")
    if end is not None and end < start:
        problems.append("The last day lies before the first.")
    for item in _confirmed(chart, program):
        other = item.content
        if item.stands and start <= (other.end or date.max) and other.start <= (end or date.max):
            problems.append(f"{_span(other)} is confirmed already: take that back first.")
    by, by_name = own_pages.user()
    content = ConfirmedEpisode(program=program, start=start, end=end, source=source, by=by, by_name=by_name)
    return content, tuple(problems)


def _supposed(content: ConfirmedEpisode) -> EpisodeOfCare:
    return EpisodeOfCare("urn:uuid:supposed", content.start, content.end, content.program)


def _follows(
    chart: own_pages.Chart, program: Program, supposed: EpisodeOfCare
) -> tuple[tuple[Difference, ...], tuple[str, ...]]:
    """What would be decided otherwise, and what stands against that."""
    imagined = services().jobs.imagined(g.session, None, (supposed,))
    if imagined is None:
        raise Moved
    problems = [
        f"{lost} is charged and would lie in no period any more: give days that hold every charged period."
        for lost in charges_lost(chart.findings, imagined, program)
    ]
    fixed = _fixed_day(chart, program)
    held = [supposed, *(episode_of(item) for item in _confirmed(chart, program) if item.stands)]
    if fixed is not None and not any(_holds(episode, fixed) for episode in held):
        problems.append(
            f"The first accepted charge fixed the periods at {words.day(fixed)}: "
            "an episode must hold that day."
        )
    return differences(chart.findings, imagined, program), tuple(problems)


def _fixed_day(chart: own_pages.Chart, program: Program) -> date | None:
    enrolment = services().store.charges.enrolments(chart.issuer_id, chart.patient).get(program)
    return enrolment.anchor_day if enrolment is not None and enrolment.frozen else None


def _holds(episode: EpisodeOfCare, day: date) -> bool:
    return episode.start is not None and episode.start <= day <= (episode.end or date.max)


def _span(content: ConfirmedEpisode) -> str:
    return f"{words.day(content.start)} to {words.day(content.end) or 'now'}"


def _days_before(chart: own_pages.Chart, content: ConfirmedEpisode) -> int:
    """How many days with counted data an episode would leave out before the first one."""
    others = [item.content.start for item in _confirmed(chart, content.program) if item.stands]
    first = min([content.start, *others])
    return len(
        {
            day.day
            for day in chart.findings.assessment.days
            if day.program is content.program and day.day < first
        }
    )


def _line(item: Stated[ConfirmedEpisode]) -> EpisodeLine:
    content = item.content
    return EpisodeLine(
        item.id,
        _span(content),
        period_words.EPISODE_SOURCES.get(content.source, words.plain(content.source)),
        content.by_name or content.by,
        item.at.astimezone(services().site.zone),
        item.stands,
        own_pages.taken_back(item),
    )


def _page(program: Program, problems: Iterable[str], status: int) -> Response:
    chart = own_pages.chart()
    return make_response(
        render_template(
            "episode/episode.html",
            chart=chart,
            program=program,
            found=_found(chart.findings, program),
            episodes=[_line(item) for item in _confirmed(chart, program)],
            sources=period_words.EPISODE_SOURCES,
            sent=request.form,
            problems=tuple(problems),
        ),
        status,
    )
