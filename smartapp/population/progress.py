"""Tells how far a run has come and how long it will go on: counts and times, never a word of a patient."""

from __future__ import annotations

import time
from typing import TextIO

_AT_A_TERMINAL, _IN_A_LOG = 1.0, 30.0
"""Seconds between two lines."""
_WORTH_TELLING = 5.0
_ENOUGH = 0.01
"""Of a step, before a guess is made of the rest."""


class Progress:
    """One step after another, each of a known size."""

    def __init__(self, stream: TextIO | None, command: str = "sweep") -> None:
        self._command = command
        self._stream = stream
        self._overwrites = stream is not None and stream.isatty()
        self._every = _AT_A_TERMINAL if self._overwrites else _IN_A_LOG

    def begin(self, step: str, of: int) -> None:
        self._step, self._of, self._done = step, max(of, 1), 0
        self._began = self._last = time.monotonic()

    def done(self, more: int) -> None:
        self._done += more
        now = time.monotonic()
        if self._stream is not None and now - self._last >= self._every:
            self._last = now
            self._tell(self._line(now - self._began))

    def end(self) -> None:
        if self._stream is not None and self._last > self._began and self._overwrites:
            print(file=self._stream)

    def _line(self, passed: float) -> str:
        share = min(self._done / self._of, 1)
        told = f"{self._step}: {share:.0%}"
        if passed < _WORTH_TELLING or share < _ENOUGH:
            return told
        return f"{told}, about {in_words(passed / share - passed)} to go"

    def _tell(self, line: str) -> None:
        if self._overwrites:
            print(f"\r{line:60}", end="", file=self._stream, flush=True)
        else:
            print(f"smartapp {self._command}: {line}", file=self._stream, flush=True)


def in_words(seconds: float) -> str:
    if seconds < 90:
        return f"{max(round(seconds), 1)} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
