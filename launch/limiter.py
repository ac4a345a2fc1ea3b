"""How hard one EHR may be asked: requests at a time, requests a minute, none while it asks for rest.

Signing in has a share of its own: no chart that is being read keeps a clinician out. What it takes of the
minute, reading does without.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum

from launch.errors import HttpError, HttpProblem

_MINUTE = 60.0


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


@dataclass(slots=True)
class _Lane:
    """Requests of one sort: how many are under way, and when those of the last minute began."""

    under_way: int = 0
    begun: deque[float] = field(default_factory=deque)


class IssuerLimiter:
    """Shared by all threads that speak to one EHR. Times are seconds of `time.monotonic`."""

    def __init__(self, max_parallel: int, requests_per_minute: int) -> None:
        self.max_parallel = max_parallel
        self.requests_per_minute = requests_per_minute
        self._changed = threading.Condition()
        self._charts = _Lane()
        self._sign_in = _Lane()
        self._resting_until = 0.0

    @contextmanager
    def slot(self, deadline: float, *, sign_in: bool = False) -> Iterator[None]:
        """Hold one of the slots. Raises HttpError(BUSY) if none comes free before `deadline`."""
        lane = self._sign_in if sign_in else self._charts
        self._enter(lane, deadline)
        try:
            yield
        finally:
            with self._changed:
                lane.under_way -= 1
                self._changed.notify_all()

    def rest(self, seconds: float) -> None:
        """The EHR asked for a pause (`Retry-After`): nobody begins a request before it is over."""
        with self._changed:
            self._resting_until = max(self._resting_until, time.monotonic() + seconds)

    @property
    def pause(self) -> Pause | None:
        """Why nothing is read now, and for how long; None where requests go out."""
        with self._changed:
            now = time.monotonic()
            resting, spent = self._resting_until - now, self._until_affordable(self._charts, now)
        if max(resting, spent) <= 0:
            return None
        if resting >= spent:
            return Pause(PauseKind.ASKED, resting)
        return Pause(PauseKind.BUDGET, spent)

    def _enter(self, lane: _Lane, deadline: float) -> None:
        with self._changed:
            while True:
                now = time.monotonic()
                wait = self._wait(lane, now)
                if wait <= 0:
                    lane.under_way += 1
                    lane.begun.append(now)
                    return
                if now >= deadline or (lane.under_way < self.max_parallel and now + wait > deadline):
                    raise HttpError(HttpProblem.BUSY)
                self._changed.wait(min(wait, deadline - now))

    def _wait(self, lane: _Lane, now: float) -> float:
        """Seconds until a request may begin; 0 or less: at once."""
        if lane.under_way >= self.max_parallel:
            return _MINUTE  # woken when a slot comes free
        return max(self._until_affordable(lane, now), self._resting_until - now)

    def _until_affordable(self, lane: _Lane, now: float) -> float:
        """Seconds until the minute has room for one more request of this sort."""
        for one in (self._charts, self._sign_in):
            while one.begun and one.begun[0] <= now - _MINUTE:
                one.begun.popleft()
        spent = len(lane.begun) if lane is self._sign_in else len(lane.begun) + len(self._sign_in.begun)
        if spent < self.requests_per_minute:
            return 0.0
        oldest = min(one.begun[0] for one in (lane, self._sign_in) if one.begun)
        return oldest + _MINUTE - now
