"""One SQLite database: a file (one connection a thread, write-ahead log) or memory (one, behind a lock)."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TABLES = """
CREATE TABLE IF NOT EXISTS resource (
  rid INTEGER PRIMARY KEY, type TEXT NOT NULL, id TEXT NOT NULL, version INTEGER NOT NULL,
  updated INTEGER NOT NULL, patient TEXT, body TEXT NOT NULL, UNIQUE (type, id));
CREATE TABLE IF NOT EXISTS index_date (
  rid INTEGER NOT NULL, key TEXT NOT NULL, patient TEXT, low INTEGER NOT NULL, high INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS index_token (
  rid INTEGER NOT NULL, key TEXT NOT NULL, code TEXT NOT NULL, system TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS index_reference (
  rid INTEGER NOT NULL, key TEXT NOT NULL, type TEXT NOT NULL, id TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS credential (
  kind TEXT NOT NULL, digest TEXT NOT NULL, family TEXT NOT NULL, client_id TEXT NOT NULL, data TEXT NOT NULL,
  issued REAL NOT NULL, expires REAL NOT NULL, spent INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (kind, digest));
CREATE INDEX IF NOT EXISTS credential_family ON credential (family);
CREATE TABLE IF NOT EXISTS setting (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""
#: For each search table: from a value to its resources, and from a resource to its values.
INDEXES = {
    "resource_patient": "resource (type, patient)",
    "index_date_value": "index_date (key, patient, low, high, rid)",
    "index_date_rid": "index_date (rid, key)",
    "index_token_value": "index_token (key, code, system, rid)",
    "index_token_rid": "index_token (rid, key, code, system)",
    "index_reference_value": "index_reference (key, id, type, rid)",
    "index_reference_rid": "index_reference (rid, key, id, type)",
}


class Database:
    """Connections to one database. ``folder`` None: in memory, gone with this object."""

    def __init__(self, folder: Path | None) -> None:
        self._path = folder / "sandbox.sqlite3" if folder else None
        self._lock = threading.RLock()
        self._local = threading.local()
        self._all: list[sqlite3.Connection] = []
        if folder:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._shared = None if self._path else self._connect(":memory:")
        with self.read() as connection:
            connection.executescript(TABLES)
            _make_indexes(connection)

    def _connect(self, target: str | Path) -> sqlite3.Connection:
        # check_same_thread: a connection is used by one thread (file) or behind the lock (memory), but
        # closed by whoever closes the database.
        connection = sqlite3.connect(target, timeout=10, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        with self._lock:
            self._all.append(connection)
        return connection

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """A connection to read with."""
        if self._shared is not None:
            with self._lock:
                yield self._shared
            return
        if not hasattr(self._local, "connection"):
            assert self._path is not None
            self._local.connection = self._connect(self._path)
        yield self._local.connection

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """A connection inside one write transaction: nobody else writes until it ends; errors undo it."""
        with self.read() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")

    @contextmanager
    def without_indexes(self, connection: sqlite3.Connection) -> Iterator[None]:
        """For a bulk load inside a write transaction: the search indexes go, and are made anew after it."""
        for name in INDEXES:
            connection.execute(f"DROP INDEX IF EXISTS {name}")
        yield
        _make_indexes(connection)

    def close(self) -> None:
        """Close every connection; the database is not used after it."""
        with self._lock:
            for connection in self._all:
                connection.close()
            self._all.clear()


def _make_indexes(connection: sqlite3.Connection) -> None:
    for name, columns in INDEXES.items():
        connection.execute(f"CREATE INDEX IF NOT EXISTS {name} ON {columns}")
