"""A clock for what waits: no test waits with it."""

from __future__ import annotations

import time


class FastTime:
    """A monotonic clock that stands still but for sleeping, which moves it at once, and what was slept."""

    def __init__(self) -> None:
        self.ahead = 0.0
        self._begun = time.monotonic()
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self._begun + self.ahead

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.ahead += seconds
