"""One block a window: a strip of its days or a bar of its minutes, and under it a row for each code."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import cached_property

from fhir_mappings.decision import CountedSpan
from fhir_mappings.local_time import clock_of, shown
from fhir_mappings.rules.tables import Kind
from fhir_mappings.vocabulary import ExcludedReason, RequirementKind, Role
from smartapp.configuration.site import Site
from smartapp.ehr.reading.findings import Findings
from smartapp.web import words
from smartapp.web.answer import row_text
from smartapp.web.cards import CardView
from smartapp.web.permission import ROLES
from smartapp.web.plots import PlotView, plots_in
from smartapp.web.records import RecordView, record_view
from smartapp.web.steps import LOG_A_CALL, LOG_TIME, Step
from smartapp.windows import Cell, Code, Standing, WindowOfCodes

HOUR = 60 * 60
MARKS = (10, 20, 40, 60, 80, 100)
"""The minutes at which a code of the month begins."""

_NO_READINGS = frozenset(
    {
        ExcludedReason.OTHER_PATIENT,
        ExcludedReason.CODE_NOT_CONFIGURED,
        ExcludedReason.NOT_A_MEASUREMENT,
        ExcludedReason.DUPLICATE,
        ExcludedReason.DELETED,
        ExcludedReason.REGISTERED,
        ExcludedReason.PLANNED,
    }
)
"""Left out, and no sign that something was measured on that day which might have counted."""
_ROLES = frozenset(Role)
_WARD = frozenset({ExcludedReason.IN_FACILITY, ExcludedReason.IN_FACILITY_UNCLEAR})


@dataclass(frozen=True)
class DayView:
    """A day of the strip, and what opens under it: put into words only where it is shown."""

    day: date
    cell: Cell
    today: bool
    named: tuple[tuple[str, str], ...]
    """Its readings by reference, and why each does not count; "" for one that does."""
    more: int
    """Readings of the day that are not listed."""
    findings: Findings = field(repr=False, compare=False)

    @property
    def opens(self) -> bool:
        """Of a day that is still to come there is nothing to see."""
        return bool(self.named) or self.cell is not Cell.COMING

    @cached_property
    def records(self) -> tuple[RecordView, ...]:
        found = (record_view(name, self.findings, why) for name, why in self.named)
        return tuple(sorted(found, key=lambda one: one.time))

    @cached_property
    def label(self) -> str:
        return f"{words.day(self.day)}: {words.CELLS[self.cell]}{', today' if self.today else ''}"


@dataclass(frozen=True)
class SpanView:
    record: RecordView
    length: str
    activity: str
    role: str
    live: bool
    x: int
    """Position and width in the month's bar, in thousandths."""
    width: int


@dataclass(frozen=True)
class MinutesView:
    total: str
    spans: tuple[SpanView, ...]
    marks: tuple[tuple[int, int], ...]
    """Minutes and their position in thousandths."""

    @property
    def logged(self) -> int:
        return sum(one.record.entry is not None for one in self.spans)


@dataclass(frozen=True)
class BlockView:
    """`one_line`: all there is to say of a month in which nothing was counted. `whole`: with its days, its
    minutes, and the rule and evidence of each code; else they are on a page of the window's own."""

    window: WindowOfCodes
    title: str
    rows: tuple[CardView, ...]
    covered: tuple[str, ...]
    days: tuple[DayView, ...] = ()
    counted: str = ""
    minutes: MinutesView | None = None
    plots: tuple[PlotView, ...] = ()
    """What the readings of its line look like."""
    one_line: str | None = None
    step: Step | None = None
    whole: bool = True

    @property
    def key(self) -> str:
        return self.window.key

    @property
    def cells(self) -> tuple[Cell, ...]:
        """The kinds of days there are, for the legend; what is still to come explains itself."""
        there = {day.cell for day in self.days}
        return tuple(cell for cell in Cell if cell in there and cell is not Cell.COMING)

    @property
    def needs_legend(self) -> bool:
        """Full and empty explain themselves."""
        return not {Cell.WARD, Cell.LEFT_OUT}.isdisjoint(self.cells)


def block(
    one: WindowOfCodes,
    cards: Mapping[str, CardView],
    findings: Findings,
    site: Site,
    both: bool,
    left_out: LeftOut,
    whole: bool = True,
) -> BlockView:
    """A window. `cards`: by `Decision.key`. `both`: the chart has both programs, so each is named.
    `left_out`: see `left_out_by_day`. `whole`: see `BlockView`."""
    today = date.fromisoformat(findings.said["as_of"])
    lines = [(code, _one_line(code, today)) for code in one.codes]
    rows = [cards[code.decision.key] for code, line in lines if line is None]
    covered = tuple(line for _, line in lines if line is not None)
    title = title_of(one, today, both)
    if one.window.start < findings.history_from or not (whole or one.monthly):
        return BlockView(one, title, tuple(rows), covered, whole=whole)
    if not whole:
        nothing = None if spans_in(one, findings, site) else _nothing_yet(one, today)
        return BlockView(one, title, tuple(rows), covered, one_line=nothing, step=_step(one), whole=False)
    if not one.monthly:
        days = strip(one, findings, today, left_out)
        number = sum(day.cell is Cell.COUNTED for day in days)
        return BlockView(
            one,
            title,
            tuple(rows),
            covered,
            days,
            f"{number} of {len(days)} days with counted data",
            plots=plots_in(one.window, one.program, one.line, findings.plots),
        )
    minutes = month(one, findings, site)
    return BlockView(
        one,
        title,
        tuple(rows),
        covered,
        minutes=minutes if minutes.spans else None,
        one_line=_nothing_yet(one, today) if not minutes.spans else None,
        step=_step(one),
    )


def title_of(one: WindowOfCodes, today: date, both: bool) -> str:
    """What a window is called: "Device data, 2 Nov to 1 Dec 2026". `both`: see `block`."""
    prefix = f"{words.SHORT_PROGRAMS[one.program]}: " if both else ""
    kind = "Time and calls" if one.monthly else "Device data"
    name = words.window(one.window, today) if one.monthly else words.period(one.window, today)
    return f"{prefix}{kind}, {name}"


def _one_line(code: Code, today: date) -> str | None:
    """A code that another one covers, and an add-on that the month did not reach: no row of their own."""
    if code.standing is Standing.COVERED and code.decision.reasons:
        return f"{words.listed(code.decision.reasons)} replaces {code.decision.code}."
    if code.standing is Standing.LOST and code.kind is Kind.MANAGEMENT_ADD_ON and not code.decision.reasons:
        return f"{code.decision.code} is not met: {row_text(code, today)}"
    return None


def _step(one: WindowOfCodes) -> Step | None:
    near = one.among(Standing.NEAR)
    if near:
        lacks_only_a_call = any(
            (need := code.need(RequirementKind.MANAGEMENT_TIME)) is not None and need.met for code in near
        )
        return LOG_A_CALL if lacks_only_a_call else LOG_TIME
    return LOG_TIME if one.among(Standing.OPEN, Standing.SAFE, Standing.EMPTY) else None


def _nothing_yet(one: WindowOfCodes, today: date) -> str | None:
    """A month in which nothing was counted; None where a code of it is charged all the same."""
    if one.among(Standing.CHARGED) or not one.codes:
        return None
    if one.window.end < today:
        return "No time recorded."
    return "No time recorded so far."


# Days


LeftOut = Mapping[date, Sequence[tuple[str, ExcludedReason, str]]]
"""Readings by day, with why each was left out and what it measured."""


def strip(one: WindowOfCodes, findings: Findings, today: date, left_out: LeftOut) -> tuple[DayView, ...]:
    """The window's days. Those that counted are the ones whose readings its codes rest on. `left_out`: see
    `left_out_by_day`."""
    evidence = {
        record
        for code in one.codes
        for part in code.decision.requirements
        if part.requirement is RequirementKind.MONITORING_DAYS
        for record in part.evidence
    }
    counted: dict[date, tuple[list[str], int]] = {}
    beside: dict[date, list[str]] = defaultdict(list)
    whats: set[str] = set()
    numbers = findings.readings or (0,) * len(findings.assessment.days)
    first, last = one.window.start, one.window.end
    for day, number in zip(findings.assessment.days, numbers, strict=False):
        if not first <= day.day <= last or day.program is not one.program:
            continue
        if evidence.isdisjoint(day.evidence):
            if one.line is None or day.line is one.line:
                beside[day.day] += day.evidence
            continue
        known, more = counted.get(day.day, ([], 0))
        counted[day.day] = ([*known, *day.evidence], more + max(0, number - len(day.evidence)))
        whats |= {findings.seen[name].what for name in day.evidence if name in findings.seen}
    every = (first + timedelta(days=number) for number in range((last - first).days + 1))
    return tuple(
        _day(day, today, counted, beside, _of_the_same(left_out, day, whats), findings) for day in every
    )


OTHER_DEVICE = "not from the device whose days are counted"


def _day(
    day: date,
    today: date,
    counted: Mapping[date, tuple[list[str], int]],
    beside: Mapping[date, list[str]],
    out: Sequence[tuple[str, ExcludedReason]],
    findings: Findings,
) -> DayView:
    names, more = counted.get(day, ([], 0))
    named = [(name, "") for name in names]
    named += [(name, OTHER_DEVICE) for name in beside.get(day, ())]
    named += [(name, words.excluded(reason)) for name, reason in out]
    if names:
        cell = Cell.COUNTED
    elif day > today:
        cell = Cell.COMING
    elif any(reason in _WARD for _, reason in out):
        cell = Cell.WARD
    else:
        cell = Cell.LEFT_OUT if named else Cell.EMPTY
    return DayView(day, cell, day == today, tuple(named), more, findings)


def left_out_by_day(findings: Findings) -> LeftOut:
    """Readings that were left out, by the day on which they were taken: worked out once for all windows."""
    found: dict[date, list[tuple[str, ExcludedReason, str]]] = defaultdict(list)
    for entry in findings.assessment.excluded:
        if entry.reason in _NO_READINGS or not entry.resource.startswith("Observation/"):
            continue
        told = findings.seen.get(entry.resource)
        if told is not None and told.day is not None:
            found[told.day].append((entry.resource, entry.reason, told.what))
    return found


def _of_the_same(left_out: LeftOut, day: date, whats: set[str]) -> list[tuple[str, ExcludedReason]]:
    """Readings of a day that were left out. Where something counted, only what measures the same: a blood
    test of the hospital is no lost day of an exercise app."""
    return [
        (name, reason)
        for name, reason, what in left_out.get(day, ())
        if not whats or not what or what in whats
    ]


def why_lost(days: Iterable[DayView]) -> str:
    """What took days from a window, in words: "6 days left out: taken while ... in a facility"."""
    reasons: dict[str, int] = defaultdict(int)
    for day in days:
        if day.cell in {Cell.WARD, Cell.LEFT_OUT}:
            for reason in sorted({why for _, why in day.named if why}):
                reasons[reason] += 1
    return "; ".join(
        f"{number} day{'' if number == 1 else 's'} left out: {reason}" for reason, number in reasons.items()
    )


# Minutes


def spans_in(one: WindowOfCodes, findings: Findings, site: Site) -> list[CountedSpan]:
    """The counted spans of a month, by their beginning."""
    first, end = clock_of(site.zone).window_span(one.window)
    own = [
        span
        for span in findings.assessment.spans
        if first <= span.start < end and span.program is one.program
    ]
    return sorted(own, key=lambda span: span.start)


def month(one: WindowOfCodes, findings: Findings, site: Site) -> MinutesView:
    """The month's counted spans, laid end to end on one bar with the codes' thresholds."""
    own = spans_in(one, findings, site)
    total = sum(span.seconds for span in own)
    scale = max(total, HOUR)
    views, before = [], 0
    for span in own:
        start, end = shown(span.start, site.zone), shown(span.end, site.zone)
        told = record_view(span.resource, findings)
        views.append(
            SpanView(
                RecordView(
                    start.date(),
                    f"{words.clock(start)} to {words.clock(end)}",
                    told.what,
                    "",
                    told.by,
                    reference=told.reference,
                    entry=told.entry,
                ),
                length=words.minutes(span.seconds),
                activity=words.activity(span.activity),
                role=ROLES[Role(span.role)] if span.role in _ROLES else "",
                live=span.live,
                x=1000 * before // scale,
                width=max(2, 1000 * span.seconds // scale),
            )
        )
        before += span.seconds
    marks = tuple((minutes, 1000 * minutes * 60 // scale) for minutes in MARKS if minutes * 60 <= scale)
    return MinutesView(words.minutes(total), tuple(views), marks)
