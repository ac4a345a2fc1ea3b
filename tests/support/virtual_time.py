"""Threads in a time of their own, which moves on as soon as all of them wait."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from unittest.mock import patch

from launch.limiter import IssuerLimiter
from tests.support.sandbox import LONG


class VirtualTime(threading.Condition):
    """The condition on which a limiter's threads wait, and the clock that it looks at."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self._awake = 0
        self._until: dict[int, float] = {}

    @contextmanager
    def patched(self) -> Iterator[None]:
        with patch("launch.limiter.time", SimpleNamespace(monotonic=lambda: self.now)):
            yield

    def of(self, limiter: IssuerLimiter) -> IssuerLimiter:
        """A limiter whose threads wait here."""
        limiter._changed = self
        return limiter

    def run(self, tasks: list[Callable[[], None]]) -> None:
        """All at once, to their end. What one of them raises is raised."""
        raised: list[BaseException] = []

        def work(task: Callable[[], None]) -> None:
            try:
                task()
            except BaseException as error:
                raised.append(error)
            finally:
                with self:
                    self._awake -= 1
                    self._move_on()

        self._awake = len(tasks)
        threads = [threading.Thread(target=work, args=(task,)) for task in tasks]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LONG)
        assert not any(thread.is_alive() for thread in threads)
        if raised:
            raise raised[0]

    def sleep(self, seconds: float) -> None:
        with self:
            until = self.now + seconds
            while self.now < until:
                self.wait(until - self.now)

    def wait_for(self, predicate: Callable[[], bool], timeout: float | None = None) -> bool:
        with self:
            while not predicate():
                self.wait(LONG * 1000)
        return True

    def changed(self) -> None:
        with self:
            self.notify_all()

    def wait(self, timeout: float | None = None) -> bool:
        me = threading.get_ident()
        self._until[me] = self.now + max(timeout or 0.0, 0.001)
        self._awake -= 1
        if self._move_on():
            return True
        return super().wait(LONG)

    def notify_all(self) -> None:
        self._awake += len(self._until)
        self._until.clear()
        super().notify_all()

    def _move_on(self) -> bool:
        """Nobody is awake: it is as late as whoever waits for least. Whether this woke everybody."""
        if self._awake == 0 and self._until:
            self.now = max(self.now, min(self._until.values()))
            self.notify_all()
            return True
        return False
