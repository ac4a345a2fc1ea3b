"""Sandboxes for tests, on a day that is always the same: no test passes or fails by the calendar.

What takes long to make, charts and key, is made once a process.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
import time
from datetime import date, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from launch.sandbox.config import ZONE
from launch.sandbox.keys import SigningKey
from launch.sandbox.server import RunningSandbox, serve_sandbox

DAY = date(2026, 4, 15)
"""The day of a test's world. Last month and the month of the period that closed yesterday are two."""
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
    return serve_sandbox(as_of=as_of, readings=readings, data=data, key=_key(), **settings).start()


@cache
def _charts(as_of: date, readings: int) -> Path:
    """A data folder that nobody writes to any more; it goes with the process."""
    made = Path(tempfile.mkdtemp(prefix="sandbox-charts-"))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    serve_sandbox(as_of=as_of, readings=readings, data=made).close()
    return made


@cache
def _key() -> SigningKey:
    return SigningKey()
