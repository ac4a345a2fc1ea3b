"""How hard one EHR may be asked: requests at a time, requests a minute, none while it asks for rest.

Who goes first where not everybody can: whoever pressed a button, the first screen of a chart, and last what a
chart goes on with. Signing in waits for none of them: it is only counted, and what it took of the minute,
reading does without; so it alone may go beyond the limit.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import Protocol

from launch.errors import HttpError, HttpProblem

MINUTE = 60.0
GIVES_WAY = 20.0
"""Seconds after which a further page waits in the line of the first screens, by when it came."""


_LEAST_WAIT = 0.01
"""Seconds until a budget that gave nothing is asked again."""


class Turn(IntEnum):
    """Who asks, the most urgent first."""

    SIGN_IN = 0
    PRESSED = 1
    """Somebody waits for what they pressed."""
    FIRST = 2
    """What a chart that is opened needs at once."""
    BULK = 3
    """Its further pages."""


class PauseKind(Enum):
    """Why no request begins."""

    ASKED = "asked"
    """The EHR asked for rest (`Retry-After`)."""
    BUDGET = "budget"
    """As many requests were made within a minute as this EHR is asked at most."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Nothing is read for so many seconds from now."""

    kind: PauseKind
    seconds: float


@dataclass(frozen=True, slots=True)
class Lease:
    """`count` requests may begin within `good_for` seconds. `wait`: seconds until there may be more."""

    count: int
    wait: float = 0.0
    good_for: float = MINUTE


class Budget(Protocol):
    """Counts the requests to an EHR within a minute; a `registration` is its entry in the issuers file."""

    def take(self, registration: str, per_minute: int, turn: Turn) -> Lease:
        """Requests that may begin now; none where too many began within the last minute. Signing in is
        counted and never refused."""


@dataclass(slots=True)
class Ledger:
    """What began within a minute, the oldest first: the moment, and how many requests.

    `kept`: seconds for which a request counts.
    """

    begun: list[tuple[float, int]] = field(default_factory=list)
    kept: float = MINUTE

    def take(self, now: float, wanted: int, per_minute: int, turn: Turn) -> tuple[int, float]:
        """How many of these may begin, and the seconds until one more may."""
        # What lies ahead was noted by a clock that was set back since.
        self.begun = [one for one in self.begun if now - self.kept < one[0] <= now + MINUTE]
        spent = sum(count for _, count in self.begun)
        most = share(per_minute, turn)
        count = wanted if turn is Turn.SIGN_IN else max(0, min(wanted, most - spent))
        if count:
            self.begun.append((now, count))
        return count, self._until_fewer_than(most, now)

    def _until_fewer_than(self, most: int, now: float) -> float:
        left, until = sum(count for _, count in self.begun), now
        for moment, count in self.begun:
            if left < most:
                break
            left, until = left - count, moment + self.kept
        return until - now


def share(per_minute: int, turn: Turn) -> int:
    """How many requests may have begun within a minute for one more of this sort: a tenth is left for what
    is pressed, another for the first screens of charts."""
    kept_free = {Turn.FIRST: 1, Turn.BULK: 2}.get(turn, 0)
    return max(1, per_minute - kept_free * (per_minute // 10))


class OwnBudget:
    """That of one process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ledgers: dict[str, Ledger] = {}

    def take(self, registration: str, per_minute: int, turn: Turn) -> Lease:
        with self._lock:
            ledger = self._ledgers.setdefault(registration, Ledger())
            return Lease(*ledger.take(time.monotonic(), 1, per_minute, turn))


@dataclass(eq=False, slots=True)
class _Waiting:
    """A request in line."""

    turn: Turn
    arrived: float

    def turn_at(self, now: float) -> Turn:
        """A further page that waited long is as urgent as a first screen."""
        long = now - self.arrived >= GIVES_WAY
        return Turn.FIRST if self.turn is Turn.BULK and long else self.turn

    def until_it_counts(self, now: float) -> float:
        """Seconds until a further page has waited long."""
        return self.arrived + GIVES_WAY - now if self.turn_at(now) is Turn.BULK else MINUTE

    def before(self, other: _Waiting, now: float) -> bool:
        return (self.turn_at(now), self.arrived) < (other.turn_at(now), other.arrived)


class IssuerLimiter:
    """Shared by all threads that speak to one EHR. Times are seconds of `time.monotonic`."""

    def __init__(
        self,
        max_parallel: int,
        requests_per_minute: int,
        budget: Budget | None = None,
        registration: str = "",
    ) -> None:
        self.max_parallel = max_parallel
        self.requests_per_minute = requests_per_minute
        self._budget = budget or OwnBudget()
        self._registration = registration
        self._changed = threading.Condition()
        self._under_way = 0
        self._line: list[_Waiting] = []
        self._in_hand = 0
        self._good_until = 0.0
        self._asking = False
        self._spent_until = dict.fromkeys(Turn, 0.0)
        """When the budget is to be asked again, by whose turn it is."""
        self._resting_until = 0.0
        self._sign_in_rests_until = 0.0

    @contextmanager
    def slot(self, deadline: float, turn: Turn = Turn.PRESSED) -> Iterator[None]:
        """Hold one of the slots. Raises HttpError(BUSY) if none comes free before `deadline`."""
        if turn is Turn.SIGN_IN:
            self._let_in(deadline)
            yield
            return
        self._enter(turn, deadline)
        try:
            yield
        finally:
            with self._changed:
                self._under_way -= 1
                self._changed.notify_all()

    def rest(self, seconds: float, turn: Turn = Turn.PRESSED) -> None:
        """The EHR asked for a pause (`Retry-After`): nobody begins a request before it is over. Where one
        signs in and where charts are read are two servers at times: each rests by itself."""
        until = time.monotonic() + seconds
        with self._changed:
            if turn is Turn.SIGN_IN:
                self._sign_in_rests_until = max(self._sign_in_rests_until, until)
            else:
                self._resting_until = max(self._resting_until, until)

    @property
    def pause(self) -> Pause | None:
        """Why nothing is read now, and for how long; None where requests go out."""
        with self._changed:
            now = time.monotonic()
            spent = 0.0 if self._leased(now) else self._spent_until[Turn.FIRST] - now
            resting = self._resting_until - now
        if max(resting, spent) <= 0:
            return None
        if resting >= spent:
            return Pause(PauseKind.ASKED, resting)
        return Pause(PauseKind.BUDGET, spent)

    def _let_in(self, deadline: float) -> None:
        """Somebody signs in."""
        with self._changed:
            while (wait := self._sign_in_rests_until - time.monotonic()) > 0:
                if time.monotonic() + wait > deadline:
                    raise HttpError(HttpProblem.BUSY)
                self._changed.wait(wait)
        self._budget.take(self._registration, self.requests_per_minute, Turn.SIGN_IN)

    def _enter(self, turn: Turn, deadline: float) -> None:
        with self._changed:
            me = _Waiting(turn, time.monotonic())
            self._line.append(me)
            self._changed.notify_all()  # whoever is first looks whether it still has to wait
            try:
                while True:
                    wait, sure = self._wait(me)
                    if wait <= 0:
                        self._under_way += 1
                        return
                    now = time.monotonic()
                    if now >= deadline or (sure and now + wait > deadline):
                        raise HttpError(HttpProblem.BUSY)
                    self._changed.wait(min(wait, deadline - now))
            finally:
                self._line.remove(me)
                self._changed.notify_all()

    def _wait(self, me: _Waiting) -> tuple[float, bool]:
        """Seconds until a request may begin, and whether nothing can make them fewer; 0: it begins now, and
        is counted. Asked under the lock, which is given back while the budget is asked."""
        while True:
            now = time.monotonic()
            turn = me.turn_at(now)
            if self._resting_until > now:
                return self._resting_until - now, True
            if self._under_way >= self.max_parallel or self._asking:
                return MINUTE, False
            if any(other.before(me, now) for other in self._line):
                return min(MINUTE, me.until_it_counts(now)), False
            if self._leased(now):
                self._in_hand -= 1
                return 0.0, True
            if self._spent_until[turn] > now:
                return self._spent_until[turn] - now, True
            self._ask(turn)

    def _leased(self, now: float) -> bool:
        return self._in_hand > 0 and now < self._good_until

    def _ask(self, turn: Turn) -> None:
        """Get more requests from the budget; one thread at a time does, and none waits for it."""
        self._asking = True
        self._changed.release()
        try:
            lease = self._budget.take(self._registration, self.requests_per_minute, turn)
        finally:
            self._changed.acquire()
            self._asking = False
            self._changed.notify_all()
        now = time.monotonic()
        self._in_hand, self._good_until = lease.count, now + lease.good_for
        self._spent_until[turn] = now + (lease.wait if lease.count else max(lease.wait, _LEAST_WAIT))
