"""How many requests to this app may wait for one EHR at a time: fewer than there are threads.

Whoever presses a button waits for the EHR in a thread of the server. An EHR that hangs would hold every
thread, and nobody could work with any other, or see that the app lives.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from launch.errors import LaunchError, LaunchReason

MOST_SEATED = 16
"""Half of the threads that a process is to have (`--threads=32`)."""


class Seats:
    """Shared by all threads of a process. `registration`: the EHR's entry in the issuers file."""

    def __init__(self, most: int = MOST_SEATED) -> None:
        self.most = most
        self._lock = threading.Lock()
        self._taken: Counter[str] = Counter()

    def take(self, registration: str) -> None:
        """Sit down to wait for this EHR. Raises LaunchError(EHR_BUSY) at once where no seat is free."""
        with self._lock:
            if self._taken[registration] >= self.most:
                raise LaunchError(LaunchReason.EHR_BUSY, detail="no seat")
            self._taken[registration] += 1

    def leave(self, registration: str) -> None:
        """Give a seat back."""
        with self._lock:
            self._taken[registration] -= 1

    @contextmanager
    def one(self, registration: str) -> Iterator[None]:
        """A seat for as long as this lasts. Raises LaunchError(EHR_BUSY)."""
        self.take(registration)
        try:
            yield
        finally:
            self.leave(registration)
