"""How hard one EHR may be asked: requests at a time, requests a minute, none while it asks for rest."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from launch.errors import HttpError, HttpProblem

_MINUTE = 60.0


class IssuerLimiter:
    """Shared by all threads that speak to one EHR. Times are seconds of `time.monotonic`."""

    def __init__(self, max_parallel: int, requests_per_minute: int) -> None:
        self.max_parallel = max_parallel
        self.requests_per_minute = requests_per_minute
        self._changed = threading.Condition()
        self._under_way = 0
        self._begun: deque[float] = deque()
        self._resting_until = 0.0

    @contextmanager
    def slot(self, deadline: float) -> Iterator[None]:
        """Hold one of the slots. Raises HttpError(BUSY) if none comes free before `deadline`."""
        self._enter(deadline)
        try:
            yield
        finally:
            with self._changed:
                self._under_way -= 1
                self._changed.notify()

    def rest(self, seconds: float) -> None:
        """The EHR asked for a pause (`Retry-After`): nobody begins a request before it is over."""
        with self._changed:
            self._resting_until = max(self._resting_until, time.monotonic() + seconds)

    def _enter(self, deadline: float) -> None:
        with self._changed:
            while True:
                now = time.monotonic()
                wait = self._wait(now)
                if wait <= 0:
                    self._under_way += 1
                    self._begun.append(now)
                    return
                if now >= deadline or (self._under_way < self.max_parallel and now + wait > deadline):
                    raise HttpError(HttpProblem.BUSY)
                self._changed.wait(min(wait, deadline - now))

    def _wait(self, now: float) -> float:
        """Seconds until a request may begin; 0 or less: at once."""
        while self._begun and self._begun[0] <= now - _MINUTE:
            self._begun.popleft()
        if self._under_way >= self.max_parallel:
            return _MINUTE  # woken when a slot comes free
        if len(self._begun) >= self.requests_per_minute:
            return self._begun[0] + _MINUTE - now
        return self._resting_until - now
