"""The FHIR store: resources as JSON text, their index rows, and the writes that keep both in step."""

from __future__ import annotations

import itertools
import json
import secrets
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from launch.sandbox.database import Database
from launch.sandbox.dates import OPEN_HIGH, OPEN_LOW, date_range
from launch.sandbox.indexing import IndexRows, Target, index_rows, patient_of
from launch.sandbox.search_parameters import PARAMETERS, Kind


@dataclass(frozen=True)
class Stored:
    """One stored resource; ``body`` is its JSON text, ``updated`` milliseconds since 1970 UTC."""

    type: str
    id: str
    version: int
    updated: int
    patient: str | None
    body: str

    @property
    def etag(self) -> str:
        return f'W/"{self.version}"'

    @property
    def row(self) -> tuple[str, str, int, int, str | None, str]:
        """The values of its columns."""
        return self.type, self.id, self.version, self.updated, self.patient, self.body


class Conflict(Exception):
    """A write that may not happen; ``reason`` is one of the class's constants."""

    SEVERAL_MATCHES = "several-matches"
    VERSION = "version"
    ABSENT = "absent"

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


#: Looks for the resources a conditional create must not repeat: connection -> rids.
Finder = Callable[[sqlite3.Connection], list[int]]

_COLUMNS = "type, id, version, updated, patient, body"
_INSERT_NUMBERED = f"INSERT INTO resource (rid, {_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)"  # noqa: S608


class Store:
    """Resources of one FHIR server whose base URL is ``base``; ``clock`` gives seconds since the epoch."""

    def __init__(self, database: Database, base: str, clock: Callable[[], float]) -> None:
        self.database = database
        self.base = base
        self._clock = clock

    def read(self, type_: str, id_: str) -> Stored | None:
        """The current version of a resource."""
        with self.database.read() as connection:
            return self._get(connection, type_, id_)

    def bodies(self, rids: list[int]) -> list[tuple[str, str]]:
        """(id, JSON text) of resources by row id, in the order of ``rids``."""
        marks = ",".join("?" * len(rids))
        with self.database.read() as connection:
            found = connection.execute(f"SELECT rid, id, body FROM resource WHERE rid IN ({marks})", rids)  # noqa: S608
            by_rid = {rid: (id_, body) for rid, id_, body in found}
        return [by_rid[rid] for rid in rids if rid in by_rid]

    def create(self, resource: dict[str, Any], finder: Finder | None = None) -> tuple[Stored, bool]:
        """Store a new resource under an id of ours; (stored, True), or (the one match, False).

        Looking (``finder``) and creating are one write transaction, so two callers can't both create.
        Raises Conflict(SEVERAL_MATCHES).
        """
        with self.database.write() as connection:
            matches = finder(connection) if finder else []
            if len(matches) > 1:
                raise Conflict(Conflict.SEVERAL_MATCHES)
            if matches:
                row = connection.execute(
                    f"SELECT {_COLUMNS} FROM resource WHERE rid = ?",  # noqa: S608
                    matches,
                ).fetchone()
                return Stored(*row), False
            resource = {**resource, "id": secrets.token_hex(8)}
            return self._put(connection, resource, 1, self._now()), True

    def update(
        self, resource: dict[str, Any], if_match: int | None, create: bool = False
    ) -> tuple[Stored, bool]:
        """Replace a resource; (stored, whether it is new).

        Raises Conflict(ABSENT) where it isn't there and ``create`` is off, Conflict(VERSION) on a mismatch.
        """
        with self.database.write() as connection:
            current = self._get(connection, resource["resourceType"], resource["id"])
            if current is None and not create:
                raise Conflict(Conflict.ABSENT)
            version = current.version if current else 0
            if if_match is not None and if_match != version:
                raise Conflict(Conflict.VERSION)
            return self._put(connection, resource, version + 1, self._now()), current is None

    def load(self, resources: Iterable[dict[str, Any]]) -> int:
        """Store new resources as they are, without validation, as legacy data lies in a chart; how many.

        ``meta.lastUpdated``, where given, is kept. The indexes are made once, at the end.
        """
        patients: dict[Target, str | None] = {}
        count = 0
        with self.database.write() as connection, self.database.without_indexes(connection):
            rid: int = connection.execute("SELECT coalesce(max(rid), 0) FROM resource").fetchone()[0]
            for some in _chunks(resources):
                numbered = []
                for resource in some:
                    rid += 1
                    stored, rows = self._prepare(resource, 1, self._stamp(resource), patients.get)
                    patients[Target(stored.type, stored.id)] = stored.patient
                    connection.execute(_INSERT_NUMBERED, (rid, *stored.row))
                    numbered.append((rid, rows))
                _insert_index(connection, numbered)
                count += len(numbered)
        return count

    def load_as_it_is(self, text: str, type_: str, id_: str, patient: str | None) -> None:
        """Store a resource that may be none at all (broken JSON, odd shapes) as real servers hold some.

        It is served exactly as it is written. It is found by its patient, by what can be read of it, and
        under every day where it names none, since nobody knows which.
        """
        try:
            content = json.loads(text)
            rows = index_rows({**content, "resourceType": type_, "id": id_}, self.base, patient)
        except (ValueError, TypeError, AttributeError, RecursionError, OverflowError):
            rows = IndexRows(patient)
        rows.tokens = {row for row in rows.tokens if "".join(row).isprintable()}
        for name, parameter in PARAMETERS[type_].items():
            key = f"{type_}.{name}"
            if name in ("patient", "subject") and patient and parameter.kind is Kind.REFERENCE:
                rows.references.add((key, "Patient", patient))
            if name == "date" and not any(row[0] == key for row in rows.dates):
                rows.dates.append((key, OPEN_LOW, OPEN_HIGH))
        with self.database.write() as connection:
            rid = connection.execute(
                f"INSERT INTO resource ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?) RETURNING rid",  # noqa: S608
                (type_, id_, 1, self._now(), patient, text),
            ).fetchone()[0]
            _insert_index(connection, [(rid, rows)])

    def delete(self, type_: str, id_: str) -> None:
        """Take a resource out, as somebody else's software does."""
        with self.database.write() as connection:
            for (rid,) in connection.execute(
                "DELETE FROM resource WHERE type = ? AND id = ? RETURNING rid", (type_, id_)
            ).fetchall():
                for table in ("index_date", "index_token", "index_reference"):
                    connection.execute(f"DELETE FROM {table} WHERE rid = ?", (rid,))  # noqa: S608

    def changed(self, type_: str, after: int, page: int = 500) -> Iterator[str]:
        """The JSON texts of a type that were written later than `after` (milliseconds), in order."""
        rid = -1
        while True:
            with self.database.read() as connection:
                found = connection.execute(
                    "SELECT rid, body FROM resource WHERE type = ? AND updated > ? AND rid > ?"
                    " ORDER BY rid LIMIT ?",
                    (type_, after, rid, page),
                ).fetchall()
            yield from (body for _, body in found)
            if len(found) < page:
                return
            rid = found[-1][0]

    def exists(self, target: Target) -> bool:
        """Whether a reference's target is here."""
        return self.read(target.type, target.id) is not None

    def _now(self) -> int:
        return int(self._clock() * 1000)

    def _get(self, connection: sqlite3.Connection, type_: str, id_: str) -> Stored | None:
        row = connection.execute(
            f"SELECT {_COLUMNS} FROM resource WHERE type = ? AND id = ?",  # noqa: S608
            (type_, id_),
        ).fetchone()
        return Stored(*row) if row else None

    def _stamp(self, resource: dict[str, Any]) -> int:
        stamp = resource.get("meta", {}).get("lastUpdated")
        return date_range(stamp).low if stamp else self._now()

    def _prepare(
        self, resource: dict[str, Any], version: int, updated: int, owner: Callable[[Target], str | None]
    ) -> tuple[Stored, IndexRows]:
        """The stored form of a resource and the rows that find it; ``owner`` knows whose others are."""
        type_, id_ = resource["resourceType"], resource["id"]
        meta = {**resource.get("meta", {}), "versionId": str(version), "lastUpdated": instant(updated)}
        whole = {"resourceType": type_, "id": id_, **resource, "meta": meta}
        patient = patient_of(whole, self.base, owner)
        body = msgspec.json.encode(whole).decode()
        return Stored(type_, id_, version, updated, patient, body), index_rows(whole, self.base, patient)

    def _put(
        self, connection: sqlite3.Connection, resource: dict[str, Any], version: int, updated: int
    ) -> Stored:
        def owner(target: Target) -> str | None:
            found = self._get(connection, target.type, target.id)
            return found.patient if found else None

        stored, rows = self._prepare(resource, version, updated, owner)
        rid = connection.execute(
            f"INSERT INTO resource ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)"  # noqa: S608
            " ON CONFLICT (type, id) DO UPDATE SET version = excluded.version, updated = excluded.updated,"
            " patient = excluded.patient, body = excluded.body RETURNING rid",
            stored.row,
        ).fetchone()[0]
        if version > 1:
            for table in ("index_date", "index_token", "index_reference"):
                connection.execute(f"DELETE FROM {table} WHERE rid = ?", (rid,))  # noqa: S608
        _insert_index(connection, [(rid, rows)])
        return stored


def _insert_index(connection: sqlite3.Connection, numbered: Sequence[tuple[int, IndexRows]]) -> None:
    connection.executemany(
        "INSERT INTO index_date (rid, key, low, high, patient) VALUES (?, ?, ?, ?, ?)",
        [(rid, *row, rows.patient) for rid, rows in numbered for row in rows.dates],
    )
    connection.executemany(
        "INSERT INTO index_token (rid, key, code, system) VALUES (?, ?, ?, ?)",
        [(rid, *row) for rid, rows in numbered for row in rows.tokens],
    )
    connection.executemany(
        "INSERT INTO index_reference (rid, key, type, id) VALUES (?, ?, ?, ?)",
        [(rid, *row) for rid, rows in numbered for row in rows.references],
    )


def _chunks(resources: Iterable[dict[str, Any]], size: int = 2_000) -> Iterator[list[dict[str, Any]]]:
    iterator = iter(resources)
    while chunk := list(itertools.islice(iterator, size)):
        yield chunk


def instant(milliseconds: int) -> str:
    """Milliseconds since 1970 UTC as a FHIR instant."""
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
