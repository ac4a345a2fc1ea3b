"""How something is written to the EHR once: a charge, or a change of one. The same steps for both.

The order is what makes it once: the row is committed before anything leaves, and whoever holds it writes; the
guards look at the chart again; the request is one that does no harm if it arrives twice; the answer is read
back. Without an answer the EHR is asked what it holds, and what it cannot say stays unknown: a write is never
repeated blindly. Whoever comes after a crash finds the row and goes on from what the EHR holds.
"""

from __future__ import annotations

import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from enum import Enum
from typing import ClassVar, Generic

from fhir_mappings.decision import Decision
from launch.errors import HttpError, LaunchError
from launch.ports import Clock, LaunchSession
from launch.tokens import SessionClient
from smartapp.configuration.settings import Settings
from smartapp.configuration.site import Site
from smartapp.ehr.charges.evidence import rules_version_of
from smartapp.ehr.people import name_of_user
from smartapp.ehr.reading.findings import Findings
from smartapp.ehr.reading.fresh import Present
from smartapp.ehr.wire.sending import Fate, limits_of_writes
from smartapp.store.claims import RESUMABLE, Approval, ChargeState, Claims, RowT

POLL_SECONDS = 0.2
SETTLED_AFTER = timedelta(minutes=10)
"""A write that the EHR does not hold this long after it was sent did not arrive."""
PATIENCE_SECONDS = 10.0
"""So long whoever pressed second waits for whoever pressed first."""


class Step(Enum):
    """How an attempt ended."""

    WRITTEN = "written"
    """The EHR holds it, or it was handed over: it is where it should be."""
    TO_ENTER = "to-enter"
    """Accepted, and on the worksheet: a person enters it."""
    MOVED = "moved"
    """The chart, or the charge, is not what the page showed; nothing was written."""
    OVERLAPS = "overlaps"
    """The EHR holds a charge that this one would repeat; nothing was written."""
    NOT_ASKED = "not-asked"
    """The EHR could not be asked what stands in the way; nothing was written."""
    LOCKED = "locked"
    """Its month is certified: closed for changes from here; nothing was written."""
    AWAITING = "awaiting"
    """Accepted; a second person must approve it before it is sent."""
    DECLINED = "declined"
    WITHDRAWN = "withdrawn"
    """It was written, and has been taken back since."""
    HALF = "half"
    """Of a replacement: the old charge is taken back, the new one is not in the EHR yet."""
    BUSY = "busy"
    """Somebody else is writing it at this moment."""
    REFUSED = "refused"
    UNKNOWN = "unknown"


_STEPS = {
    ChargeState.PREPARED: Step.BUSY,
    ChargeState.AWAITING: Step.AWAITING,
    ChargeState.DECLINED: Step.DECLINED,
    ChargeState.WITHDRAWN: Step.WITHDRAWN,
    ChargeState.SENT: Step.BUSY,
    ChargeState.CONFIRMED: Step.WRITTEN,
    ChargeState.UNKNOWN: Step.UNKNOWN,
    ChargeState.REFUSED: Step.REFUSED,
    ChargeState.STALE: Step.MOVED,
    ChargeState.TAKEN_BACK: Step.HALF,
    ChargeState.HANDED_OVER: Step.WRITTEN,
    ChargeState.TO_ENTER: Step.TO_ENTER,
    ChargeState.ENTERED: Step.WRITTEN,
    ChargeState.TAKING_BACK: Step.UNKNOWN,
}
_UNDER_WAY = frozenset({Step.BUSY, Step.HALF})
_UNDER_APPROVAL = _UNDER_WAY | {Step.AWAITING}


@dataclass(frozen=True, slots=True)
class Result(Generic[RowT]):
    """What became of it; `differences` are sentences for MOVED, OVERLAPS, NOT_ASKED and LOCKED. `before`,
    `now`: where the answer moved, the decision as it was shown, and as it is now."""

    step: Step
    row: RowT | None = None
    differences: tuple[str, ...] = ()
    before: Decision | None = None
    now: Decision | None = None
    held: bytes | None = None
    """What the EHR holds since this press, where it was read back."""
    shown: bool = False
    """Whether what the session has read holds it already."""


@dataclass(frozen=True, slots=True)
class Hand:
    """Who presses, and their way to the EHR. `present`: what they were shown, where that is looked at."""

    client: SessionClient
    session: LaunchSession
    present: Present | None = None


class Holds(Enum):
    """What the EHR says of something that was sent."""

    OURS = "ours"
    """It holds exactly this."""
    NOT_YET = "not-yet"
    """It certainly holds it not, and nothing in its place."""
    OVERTAKEN = "overtaken"
    """Somebody else changed the charge meanwhile."""
    UNSURE = "unsure"
    """It cannot be asked, or not to the end."""


@dataclass(frozen=True, slots=True)
class Found:
    """`charge_item`: the charge's logical id, if it is OURS or OVERTAKEN."""

    holds: Holds
    charge_item: str = ""
    body: bytes = b""
    """The charge as the EHR says to hold it, where its answer brought it."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of sending it. `found`: what the answer says was made, if it was TAKEN. `certain`: it says
    for certain that this request wrote nothing, although the EHR may hold something in its place."""

    fate: Fate
    problem: str = ""
    found: Found | None = None
    certain: bool = False


Facts = dict[str, str | int | bool | None]


class Workflow(ABC, Generic[RowT]):
    """The steps. What is sent, what stands in its way and how it is closed, each kind says for itself."""

    noun: ClassVar[str]
    """How the audit trail calls it."""

    def __init__(self, settings: Settings, site: Site, clock: Clock, rows: Claims[RowT]) -> None:
        self._site = site
        self._clock = clock
        self._rows = rows
        self._lease = settings.job_lease * 3
        self._limits = limits_of_writes(settings)

    # What each kind says

    @abstractmethod
    def _deliver(self, hand: Hand, row: RowT) -> Delivery:
        """Send it, once, and understand the answer."""

    @abstractmethod
    def _find(self, hand: Hand, row: RowT) -> Found:
        """Ask the EHR what it holds of something that was sent. Raises HttpError and LaunchError."""

    @abstractmethod
    def _why_not_again(self, hand: Hand, row: RowT) -> str | None:
        """Why something that is not there yet is not sent again; None where that is safe."""

    @abstractmethod
    def _close(self, hand: Hand, row: RowT, found: Found, holder: str, *, sent: bool) -> Result[RowT]:
        """The EHR holds it: read it back, and close the row. `sent`: by this very press."""

    @abstractmethod
    def _drop(self, row: RowT, holder: str, stopped: Result[RowT] | None) -> None:
        """Nothing was sent and nothing will be. `stopped`: by a guard; None where something broke."""

    @abstractmethod
    def _with_approval(self, row: RowT, approval: Approval) -> RowT: ...

    @abstractmethod
    def _locked(self, row: RowT) -> Result[RowT] | None:
        """Stops what lies in a certified month."""

    @abstractmethod
    def _days(self, row: RowT) -> Iterable[date]:
        """Whose months must be open."""

    @abstractmethod
    def _about(self, row: RowT) -> Facts:
        """What an audit entry says of this kind alone."""

    # The steps

    def _begin(
        self, hand: Hand, row: RowT, guard: Callable[[], Result[RowT] | None], *, second: bool
    ) -> Result[RowT]:
        """Write it, or say why not. `second`: a second person must approve it first.

        Raises HttpError and LaunchError only where nothing was sent.
        """
        holder = secrets.token_hex(12)
        if not self._rows.claim(row, holder, self._clock.now(), self._lease):
            return self._wait_for_the_other(hand, row)
        kept = self._kept(row)
        if kept.state is not ChargeState.PREPARED:
            return self._resume(hand, kept, holder)
        try:
            stopped = guard()
        except BaseException:
            self._drop(row, holder, None)
            raise
        if stopped is not None:
            self._drop(row, holder, stopped)
            return stopped
        if second:
            self._mark(row, holder, ChargeState.AWAITING, event="awaits-approval")
            return Result(Step.AWAITING, self._kept(row))
        return self._send(hand, row, holder)

    def _approve(
        self, hand: Hand, findings: Findings, row: RowT, guard: Callable[[], Result[RowT] | None]
    ) -> Result[RowT]:
        """A second person's yes: the same guards run again, then it is written.

        Raises HttpError and LaunchError only where nothing was sent.
        """
        holder = secrets.token_hex(12)
        if not self._rows.claim_approval(row, holder, self._clock.now(), self._lease):
            return self._wait_for_the_other(hand, row, _UNDER_APPROVAL)
        try:
            stopped = guard()
        except BaseException:
            self._rows.release(row.key, holder)
            raise
        if stopped is not None:
            self._rows.release(row.key, holder, " ".join(stopped.differences))
            return stopped
        approved = self._with_approval(row, self._word_of(hand.session, findings))
        if not self._mark(
            approved, holder, ChargeState.AWAITING, event="approved", session=hand.session, keep=True
        ):
            return self._presented(self._kept(row))
        return self._send(hand, approved, holder)

    def decline(self, session: LaunchSession, findings: Findings, row: RowT, reason: str) -> Result[RowT]:
        """A no, with its reason: nothing is sent, and it may be begun anew."""
        holder = secrets.token_hex(12)
        if self._rows.claim_approval(row, holder, self._clock.now(), self._lease):
            declined = self._with_approval(row, self._word_of(session, findings, reason))
            self._mark(
                declined, holder, ChargeState.DECLINED, event="declined", session=session, reason=reason
            )
        return self._presented(self._kept(row))

    def _go_on(self, hand: Hand, row: RowT) -> Result[RowT]:
        """Somebody pressed on what is not finished: from what the EHR holds now to its end."""
        holder = secrets.token_hex(12)
        if row.state not in RESUMABLE or not self._rows.claim(row, holder, self._clock.now(), self._lease):
            return self._wait_for_the_other(hand, row)
        return self._resume(hand, self._kept(row), holder)

    def _send(self, hand: Hand, row: RowT, holder: str, *, may_arrive: bool = False) -> Result[RowT]:
        """Commit that it leaves, send it, and understand the answer. `may_arrive`: it was sent before, and
        that may still arrive: then even a refusal does not say that it is not there."""
        days = self._days(row) if self._site.lock_certified_months else ()
        if not self._mark(row, holder, ChargeState.SENT, keep=True, unless_certified=days):
            locked = self._locked(row)
            if locked is not None:
                self._drop(row, holder, locked)
            return locked or self._presented(self._kept(row))
        sent = self._kept(row)
        answer = self._deliver(hand, row)
        if answer.fate is Fate.REFUSED and may_arrive:
            # What is settled is counted from the sending that is in doubt.
            state = ChargeState.UNKNOWN
            self._mark(row, holder, state, answer.problem, "unknown", hand.session, since_before=True)
            return Result(Step.UNKNOWN, self._kept(row))
        if answer.fate is Fate.REFUSED:
            return self._refused(hand, sent, holder, answer.problem)
        if answer.fate is Fate.IN_DOUBT:
            return self._in_doubt(hand, sent, holder, answer.problem, certain=answer.certain)
        if answer.found is None or answer.found.holds is not Holds.OURS:
            return self._in_doubt(hand, sent, holder, "The EHR did not say which charge it made.")
        return self._close(hand, sent, answer.found, holder, sent=True)

    def _in_doubt(
        self, hand: Hand, row: RowT, holder: str, problem: str, *, certain: bool = False
    ) -> Result[RowT]:
        """It was sent: ask the EHR what it holds. Whatever it cannot say stays unknown.

        `certain`: it answered that it did not write this; what it holds tells whether somebody else did.
        """
        try:
            found = self._find(hand, row)
        except (HttpError, LaunchError):
            found = Found(Holds.UNSURE)
        if found.holds is Holds.OURS:
            return self._close(hand, row, found, holder, sent=True)
        if found.holds is Holds.OVERTAKEN:
            return self._stale(hand, row, holder, found)
        if found.holds is Holds.NOT_YET and certain:
            return self._refused(hand, row, holder, problem)
        self._mark(row, holder, ChargeState.UNKNOWN, problem, "unknown", hand.session, sent=True)
        return Result(Step.UNKNOWN, self._kept(row))

    def _resume(self, hand: Hand, row: RowT, holder: str) -> Result[RowT]:
        """Somebody sent this before and did not live to see the answer, or got none."""
        found = self._find(hand, row)
        if found.holds is Holds.OURS:
            return self._close(hand, row, found, holder, sent=False)
        if found.holds is Holds.OVERTAKEN:
            return self._stale(hand, row, holder, found)
        problem = row.problem or "The EHR gave no answer."
        if found.holds is Holds.NOT_YET:
            why_not = self._why_not_again(hand, row)
            if why_not is None:
                # As it was sent before: what somebody confirmed then is what is written.
                settled = row.changed_at + SETTLED_AFTER <= self._clock.now()
                return self._send(hand, row, holder, may_arrive=not settled)
            problem = why_not
        # What is settled is counted from when it was sent.
        self._mark(row, holder, ChargeState.UNKNOWN, problem, "unknown", hand.session, since_before=True)
        return Result(Step.UNKNOWN, self._kept(row))

    def _refused(self, hand: Hand, row: RowT, holder: str, problem: str) -> Result[RowT]:
        self._mark(row, holder, ChargeState.REFUSED, problem, "refused", hand.session, sent=True)
        return Result(Step.REFUSED, self._kept(row))

    def _stale(self, hand: Hand, row: RowT, holder: str, found: Found) -> Result[RowT]:
        sentence = f"ChargeItem/{found.charge_item} was changed by somebody else meanwhile."
        self._mark(row, holder, ChargeState.STALE, sentence, "stale", hand.session)
        return Result(Step.MOVED, self._kept(row), (sentence,))

    def _wait_for_the_other(
        self, hand: Hand, row: RowT, on_the_way: frozenset[Step] = _UNDER_WAY
    ) -> Result[RowT]:
        """Another tab, thread or process has it. Wait a little for its end."""
        until = time.monotonic() + min(PATIENCE_SECONDS, self._lease.total_seconds())
        while True:
            kept = self._rows.found(row.key)
            if kept is None:
                return Result(Step.BUSY)
            result = self._looked_up(hand, kept)
            if result.step not in on_the_way or time.monotonic() >= until:
                return result
            time.sleep(POLL_SECONDS)

    def _looked_up(self, _hand: Hand, row: RowT) -> Result[RowT]:
        """How far a row of somebody else's came."""
        return self._presented(row)

    # Rows

    def _kept(self, row: RowT) -> RowT:
        return self._rows.found(row.key) or row

    def _presented(self, row: RowT) -> Result[RowT]:
        return Result(_STEPS[row.state], row, (row.problem,) if row.problem else ())

    def _facts(self, row: RowT, session: LaunchSession | None, *, sent: bool = False) -> Facts:
        """What every audit entry says; `session`: who acts, None if the one who confirmed it.

        `sent`: it was this person's press that sent it, which is told where somebody else had confirmed it.
        """
        content = row.content
        user = content.confirmed_by if session is None else session.fhir_user
        facts: Facts = {
            "issuer": row.issuer_id,
            "patient": row.patient,
            "user": user,
            "session": content.session_id if session is None else session.id,
            "snapshot": content.snapshot_id,
            "rules_version": rules_version_of(content.evidence),
            **self._about(row),
        }
        return facts | {"sent_by": user} if sent and user != content.confirmed_by else facts

    def _word_of(self, session: LaunchSession, findings: Findings, reason: str | None = None) -> Approval:
        name = name_of_user(session, findings)
        return Approval(session.fhir_user or "", name, self._clock.now(), reason)

    def _mark(
        self,
        row: RowT,
        holder: str,
        state: ChargeState,
        problem: str | None = None,
        event: str | None = None,
        session: LaunchSession | None = None,
        *,
        keep: bool = False,
        sent: bool = False,
        since_before: bool = False,
        unless_certified: Iterable[date] = (),
        reason: str | None = None,
    ) -> bool:
        """`since_before`: nothing happened but that somebody looked; it is what it was since it was sent."""
        return self._rows.mark(
            row,
            holder,
            state,
            row.changed_at if since_before else self._clock.now(),
            problem,
            None if event is None else f"{self.noun}-{event}",
            keep=keep,
            unless_certified=unless_certified,
            reason=reason,
            facts=None if event is None else self._facts(row, session, sent=sent),
        )
