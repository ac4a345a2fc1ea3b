"""Doing what a reading has to do: so many requests at a time, with a word now and then on how far it is."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from smartapp.ehr.reading.collected import Collected
from smartapp.ehr.reading.fetch import Fetch, ReadingStopped
from smartapp.store.reading import Progress

MOST_BETWEEN_TICKS = 2.0
"""Seconds after which a page that waits is told how far it is, though nothing came."""


class Work:
    """Of one reading. `tick` hears how far it is, at least every `tick_seconds`; False ends the reading."""

    def __init__(
        self,
        fetch: Fetch,
        collected: Collected,
        parallel: int,
        tick: Callable[[Progress], bool],
        tick_seconds: float,
    ) -> None:
        self.steps = self.done = 0
        """How many things there are to do, as far as is known, and how many are done."""
        self._fetch = fetch
        self._collected = collected
        self._parallel = parallel
        self._tick = tick
        self._tick_seconds = tick_seconds
        self._lock = threading.Lock()
        self._more: list[Callable[[], None]] = []

    def run(self, work: list[Callable[[], None]]) -> None:
        """All of `work` in parallel; ticks while it runs. The first failure stops the rest and is raised."""
        if not work:
            return
        with ThreadPoolExecutor(self._parallel, thread_name_prefix="reading") as pool:
            pending: set[Future[None]] = {pool.submit(task) for task in work}
            try:
                while pending:
                    patience = min(self._tick_seconds, MOST_BETWEEN_TICKS, self._fetch.time_left())
                    done, pending = wait(pending, timeout=patience, return_when=FIRST_COMPLETED)
                    for future in done:
                        future.result()
                        self.done += 1
                    with self._lock:
                        more, self._more = self._more, []
                    self.steps += len(more)
                    pending |= {pool.submit(task) for task in more}
                    self._report()
            except BaseException:
                self._fetch.stop()
                for future in pending:
                    future.cancel()
                raise

    def later(self, task: Callable[[], None]) -> None:
        """One thing more for those that work already."""
        with self._lock:
            self._more.append(task)

    def _report(self) -> None:
        self._fetch.time_left()
        if not self._tick(Progress(self.steps, min(self.done, self.steps), self._collected.resources)):
            raise ReadingStopped
