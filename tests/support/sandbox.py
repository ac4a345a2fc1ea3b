"""Sandboxes for tests, on a day that is always the same: no test passes or fails by the calendar.

What takes long to make, charts and key, is made once a process.
"""

from __future__ import annotations

import atexit
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from launch.sandbox.config import ZONE
from launch.sandbox.keys import SigningKey
from launch.sandbox.server import RunningSandbox, serve_sandbox

DAY = date(2026, 4, 15)
"""The day of a test's world. Last month and the month of the period that closed yesterday are two."""
LONG = 60
"""Seconds, for what comes at once unless something is broken: a loaded machine fails no test."""
NOON = datetime(DAY.year, DAY.month, DAY.day, 12, tzinfo=ZONE)


def start_sandbox(
    folder: Path, *, as_of: date = DAY, ahead: timedelta = timedelta(), readings: int = 200, **settings: Any
) -> RunningSandbox:
    """A sandbox that serves charts of a day, with its data below `folder`.

    Its clock runs `ahead` of the machine's; `settings` are those of `serve_sandbox`.
    """
    settings["clock"] = lambda: time.time() + ahead.total_seconds()
    data = Path(tempfile.mkdtemp(prefix="ehr-", dir=folder))
    shutil.copytree(_charts(as_of, readings), data, dirs_exist_ok=True)
    return serve_sandbox(as_of=as_of, readings=readings, data=data, key=sandbox_key(), **settings).start()


@cache
def _charts(as_of: date, readings: int) -> Path:
    """A data folder that nobody writes to any more; it goes with the process."""
    made = Path(tempfile.mkdtemp(prefix="sandbox-charts-"))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    serve_sandbox(as_of=as_of, readings=readings, data=made).close()
    return made


@cache
def sandbox_key() -> SigningKey:
    """The key of every sandbox of this process."""
    return SigningKey()


class Gate:
    """Answers of a sandbox wait behind it until it opens: a test looks meanwhile at what is still going on,
    however fast or slow the machine is."""

    def __init__(self) -> None:
        self._state = threading.Condition()
        self._waiting: list[threading.Event] = []
        self._open = False

    def wait_for(self, number: int = 1) -> None:
        """Until so many answers are held."""
        with self._state:
            enough = self._state.wait_for(lambda: len(self._waiting) >= number, LONG)
            assert enough, f"{len(self._waiting)} of {number} answers are held"

    def let_go(self) -> None:
        """Give every answer that is held; the next one is held again."""
        with self._state:
            for answer in self._waiting:
                answer.set()
            self._waiting.clear()

    def open(self) -> None:
        """Give every answer, from now on."""
        with self._state:
            self._open = True
            self.let_go()

    def hold(self) -> None:
        """Wait here until the answer may be given."""
        answer = threading.Event()
        with self._state:
            if self._open:
                return
            self._waiting.append(answer)
            self._state.notify_all()
        answer.wait()


@contextmanager
def held(ehr: RunningSandbox, pattern: str) -> Iterator[Gate]:
    """A gate for the answers to requests of which "METHOD /path" matches; open when the block ends.
    What was asked for is done before its answer waits."""
    gate, answer = Gate(), ehr.app.wsgi_app

    def answer_later(environ: dict[str, Any], start_response: Any) -> Any:
        answered = answer(environ, start_response)
        if re.search(pattern, f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}"):
            gate.hold()
        return answered

    ehr.app.wsgi_app = answer_later  # type: ignore[method-assign]
    try:
        yield gate
    finally:
        gate.open()
        ehr.app.wsgi_app = answer  # type: ignore[method-assign]
