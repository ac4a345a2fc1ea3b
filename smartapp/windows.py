"""How each code of a chart stands, and the windows that the codes share.

A window is what a reader thinks in: a 30-day period of a program and line, or a calendar month of a program.
Several codes stand in each, and at most a few of them are charged. Pure: nothing is decided and nothing read
here, so that the answer, the page, the worklist and a test say the same of the same decisions.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from enum import Enum

from fhir_mappings.decision import Decision, Requirement
from fhir_mappings.local_time import Window
from fhir_mappings.rules.tables import Kind
from fhir_mappings.vocabulary import Line, Outcome, Program, RequirementKind, Unverified

MONTHLY = frozenset({Kind.MANAGEMENT, Kind.MANAGEMENT_ADD_ON})


class Standing(Enum):
    """How a code of a window stands for a reader: the decision's outcome, and what became of it here."""

    READY = "ready"
    DECIDE = "decide"
    """Met, and a person must answer something first."""
    SHUT = "shut"
    """Met, and the rules of its service date are not confirmed (D37)."""
    CLOSED = "closed"
    """Earned, in a month that was certified: nothing is written into it any more."""
    AWAITING = "awaiting"
    """Accepted; a second person's approval is open."""
    ON_ITS_WAY = "on-its-way"
    UNANSWERED = "unanswered"
    """Sent, and the EHR gave no answer."""
    WRITTEN = "written"
    """Written from here, or handed over; the chart was read before that."""
    TO_ENTER = "to-enter"
    """Accepted, and on the worksheet: a person enters it in billing."""
    SAFE = "safe"
    """Met in a window that is still open."""
    OPEN = "open"
    NEAR = "near"
    """Not met as the record stands, in a month that is over and holds time: what took place can still be
    logged. No window is called lost while that is so."""
    LOST = "lost"
    """Not met, and nothing that can still come changes it."""
    EMPTY = "empty"
    """Not met in a window that is over, and nothing of it was counted."""
    UNREAD = "unread"
    """The window began before what was read: its numbers would be wrong, so none are shown."""
    COVERED = "covered"
    CHARGED = "charged"


class Cell(Enum):
    """One day of a strip."""

    COUNTED = "counted"
    WARD = "ward"
    """Measured, in a facility: it does not count."""
    LEFT_OUT = "left-out"
    """Measured, and left out for another reason."""
    EMPTY = "empty"
    COMING = "coming"


@dataclass(frozen=True)
class Now:
    """What a decision is looked at with."""

    today: date
    kinds: Callable[[str], Kind]
    history_from: date
    sent: Mapping[str, Standing] = field(default_factory=dict)
    """`Decision.key` -> how our own charge for it stands, where that goes before the decision."""
    closed: Collection[date] = ()
    """First days of the months that are certified."""


def standing_of(decision: Decision, now: Now) -> Standing:
    """How one code stands. Our own charge goes before the outcome, since the chart was read before it."""
    if decision.outcome is Outcome.CHARGED:
        return Standing.CHARGED
    if (ours := now.sent.get(decision.key)) is not None:
        return ours
    if decision.period.start < now.history_from:
        return Standing.UNREAD
    if decision.outcome is Outcome.BLOCKED:
        return Standing.COVERED
    if decision.outcome in {Outcome.SHORT, Outcome.OUT_OF_REACH}:
        return _unmet(decision, now)
    if Unverified.RULES_OF_THE_YEAR in decision.unverified:
        return Standing.SHUT
    if decision.service_date is not None and decision.service_date.replace(day=1) in now.closed:
        return Standing.CLOSED
    if decision.outcome is Outcome.REVIEW:
        return Standing.DECIDE
    return Standing.READY if decision.outcome is Outcome.SUGGEST else Standing.SAFE


def _unmet(decision: Decision, now: Now) -> Standing:
    over = decision.period.end < now.today
    if decision.outcome is Outcome.SHORT:
        return Standing.OPEN
    monthly = now.kinds(decision.code) in MONTHLY
    if not _counted(decision):
        return Standing.EMPTY if over else Standing.LOST
    if not monthly or not over or decision.period.start.replace(day=1) in now.closed:
        return Standing.LOST
    return Standing.NEAR


def _counted(decision: Decision) -> bool:
    return any(part.found for part in decision.requirements if part.requirement is not RequirementKind.SET_UP)


@dataclass(frozen=True)
class Code:
    """One code of a window."""

    decision: Decision
    kind: Kind
    standing: Standing

    def need(self, kind: RequirementKind) -> Requirement | None:
        return next((part for part in self.decision.requirements if part.requirement is kind), None)

    def found(self, kind: RequirementKind) -> int:
        """What was counted of a requirement; 0 where the code does not ask for it."""
        part = self.need(kind)
        return 0 if part is None else part.found

    @property
    def open_from(self) -> date | None:
        """The first day on which what is met now can be charged: the day after the service date."""
        day = self.decision.service_date
        return None if day is None else day + timedelta(days=1)


@dataclass(frozen=True)
class WindowOfCodes:
    """One window with every code that was decided in it."""

    window: Window
    program: Program
    line: Line | None
    monthly: bool
    codes: tuple[Code, ...]

    @property
    def key(self) -> str:
        """Its name on the page; no id of a record."""
        kind = "month" if self.monthly else f"period-{self.line or 'any'}"
        return f"{self.program}-{kind}-{self.window.start.isoformat()}"

    def among(self, *standings: Standing) -> tuple[Code, ...]:
        return tuple([code for code in self.codes if code.standing in standings])

    @property
    def decided_on(self) -> date:
        """The day on which what is still open in it is decided: the first on which something can be lost."""
        ends = [
            code.decision.forecast.reachable_until
            for code in self.among(Standing.OPEN)
            if code.decision.forecast is not None
        ]
        return min(ends, default=self.window.end)


def windows_of(decisions: Iterable[Decision], now: Now) -> tuple[WindowOfCodes, ...]:
    """The windows in the order of their days. A start-up code has no line of its own: it stands with the
    device codes of its days, of whichever line comes first."""
    found: dict[tuple[Window, Program, Line | None, bool], list[Code]] = {}
    whole = [Code(one, now.kinds(one.code), standing_of(one, now)) for one in decisions]
    lines: dict[tuple[Window, Program], Line | None] = {}
    for code in whole:
        if code.decision.line is not None:
            lines.setdefault((code.decision.period, code.decision.program), code.decision.line)
    for code in whole:
        one = code.decision
        monthly = code.kind in MONTHLY
        line = None if monthly else one.line or lines.get((one.period, one.program))
        found.setdefault((one.period, one.program, line, monthly), []).append(code)
    return tuple(
        WindowOfCodes(window, program, line, monthly, _near_only_where_none_is_earned(codes))
        for (window, program, line, monthly), codes in sorted(
            found.items(), key=lambda item: (item[0][0], item[0][1], item[0][2] or "", item[0][3])
        )
    )


def _near_only_where_none_is_earned(codes: Iterable[Code]) -> tuple[Code, ...]:
    """In the order of the codes. A month that earns a base code lacks nothing that somebody forgot to log:
    what it did not reach is not met, no more."""
    in_order = sorted(codes, key=lambda code: code.decision.code)
    unmet = {Standing.NEAR, Standing.EMPTY, Standing.LOST}
    if not any(code.kind is Kind.MANAGEMENT and code.standing not in unmet for code in in_order):
        return tuple(in_order)
    return tuple(
        replace(code, standing=Standing.LOST) if code.standing is Standing.NEAR else code for code in in_order
    )
