"""Can this process work? One word for whoever asks, never a detail of what failed: that is in the log."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import tempfile
import threading
from collections.abc import Callable
from enum import Enum
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from smartapp.store.database import Database, SchemaOutdated

log = logging.getLogger(__name__)

ANSWER_SECONDS = 3.0
"""So long the database and its disk may take to answer; a load balancer waits about five."""
LEAST_FREE_BYTES = 64 * 1024 * 1024
"""Of the disk that an SQLite database lies on: about a hundred charts and their packets."""
_PROBE_BYTES = 64 * 1024
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class Readiness(Enum):
    """What keeps the app from working."""

    OK = "ok"
    STOPPING = "stopping"
    """Requests under way are finished; new ones belong to another process."""
    DATABASE = "database"
    """It does not answer, or not in time."""
    SCHEMA = "schema"
    """Its tables are those of another version: `smartapp migrate`."""
    READ_ONLY = "read-only"
    """The database, or the disk it lies on, takes no writes."""
    DISK_FULL = "disk-full"
    """There is no room for what is written next."""


class _Question:
    """One look, in a thread that nobody waits for longer than they want."""

    def __init__(self, look: Callable[[], Readiness]) -> None:
        self._answered = threading.Event()
        self._answer = Readiness.DATABASE
        self._look = look
        # A daemon: a database that never answers must not keep the process from ending.
        threading.Thread(target=self._ask, name="health", daemon=True).start()

    @property
    def over(self) -> bool:
        return self._answered.is_set()

    def answer(self, seconds: float) -> Readiness:
        return self._answer if self._answered.wait(seconds) else Readiness.DATABASE

    def _ask(self) -> None:
        try:
            self._answer = self._look()
        finally:
            self._answered.set()


class Health:
    """Asks the database of one app, one question at a time."""

    def __init__(self, database: Database, *, seconds: float = ANSWER_SECONDS) -> None:
        self._database = database
        self._seconds = seconds
        self._lock = threading.Lock()
        self._asked: _Question | None = None
        self._stopping = threading.Event()

    def stop(self) -> None:
        """From now on the app is not ready."""
        self._stopping.set()

    def readiness(self) -> Readiness:
        """How it is now; never waits for longer than the bound."""
        if self._stopping.is_set():
            return Readiness.STOPPING
        with self._lock:
            # A question that hangs is not asked again: however often somebody asks, it holds one thread.
            if self._asked is None or self._asked.over:
                self._asked = _Question(self._look)
            asked = self._asked
        return asked.answer(self._seconds)

    def _look(self) -> Readiness:
        try:
            self._database.check_schema()
            if self._database.read_only():
                return Readiness.READ_ONLY
            return _of_disk(self._database.file) if self._database.file else Readiness.OK
        except SchemaOutdated:
            return Readiness.SCHEMA
        except (SQLAlchemyError, OSError) as error:
            # The type alone: the text may hold the database's address.
            log.warning("not ready: %s", type(error).__name__)
            return Readiness.DATABASE


def _of_disk(file: Path) -> Readiness:
    """Whether the folder of an SQLite database takes what is written next to it, and has room."""
    if not os.access(file, os.W_OK):
        return Readiness.READ_ONLY
    try:
        # Really written: a quota, or a disk that was remounted, says so only then.
        with tempfile.TemporaryFile(dir=file.parent) as probe:
            probe.write(b"\0" * _PROBE_BYTES)
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        return Readiness.DISK_FULL if error.errno in _FULL else Readiness.READ_ONLY
    free = shutil.disk_usage(file.parent).free
    return Readiness.DISK_FULL if free < LEAST_FREE_BYTES else Readiness.OK
