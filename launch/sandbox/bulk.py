"""FHIR Bulk Data export: a job that is asked for, asked about, and whose files are fetched.

GET $export, Patient/$export, Group/crowd/$export, Group/charts/$export     202, Content-Location
GET bulk/JOB                                                                202, or 200 with the manifest
GET bulk/JOB/FILE                                                           NDJSON, streamed
DELETE bulk/JOB
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Lock
from typing import TYPE_CHECKING, Any

from flask import Response, current_app, g, request

from launch.sandbox.answers import Refused
from launch.sandbox.crowd import TYPES
from launch.sandbox.fhir_api import fhir
from launch.sandbox.scopes import Interaction, Reach, reach
from launch.sandbox.search_parameters import PARAMETERS, SHARED_TYPES

if TYPE_CHECKING:
    from launch.sandbox.app import Sandbox

_NDJSON = "application/fhir+ndjson"
_FORMATS = {_NDJSON, "application/ndjson", "ndjson"}
_CROWD, _CHARTS, _DELETED, _ERRORS = "crowd", "charts", "deleted", "errors"
_A_FILE = 1000
"""Patients of the crowd in one file."""


@dataclass
class Job:
    """One export that somebody asked for."""

    id: str
    asked: str
    client_id: str
    types: tuple[str, ...]
    groups: tuple[str, ...]
    since: datetime | None
    moment: datetime
    """What stands there at this moment is told, whenever its file is fetched."""
    polls: int = 0


class Jobs:
    """The exports of one sandbox; gone when it stops."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._jobs: dict[str, Job] = {}

    def add(self, job: Job) -> None:
        with self._lock:
            self._jobs[job.id] = job

    def find(self, id_: str) -> Job:
        """Raises Refused(404)."""
        job = self._jobs.get(id_)
        if job is None:
            raise Refused(404, "not-found", "there is no such export")
        return job

    def remove(self, id_: str) -> None:
        with self._lock:
            self._jobs.pop(id_, None)


def _sandbox() -> Sandbox:
    return current_app.extensions["sandbox"]  # type: ignore[no-any-return]


@fhir.get("/$export")
def export_all() -> Response:
    """Everything."""
    return _kick_off((_CHARTS, _CROWD), shared=True)


@fhir.get("/Patient/$export")
def export_patients() -> Response:
    """Every patient, without what belongs to none, as many servers do."""
    return _kick_off((_CHARTS, _CROWD), shared=False)


@fhir.get("/Group/<group>/$export")
def export_group(group: str) -> Response:
    """One of two groups."""
    if group not in (_CROWD, _CHARTS):
        raise Refused(404, "not-found", "there is no such group")
    return _kick_off((group,), shared=True)


def _kick_off(groups: tuple[str, ...], *, shared: bool) -> Response:
    sandbox = _sandbox()
    if sandbox.quirks.no_export:
        raise Refused(404, "not-supported", "this server has no $export")
    if "respond-async" not in request.headers.get("Prefer", ""):
        raise Refused(400, "invalid", "an export is asked for with Prefer: respond-async")
    if request.args.get("_outputFormat", _NDJSON) not in _FORMATS:
        raise Refused(400, "not-supported", "this server exports NDJSON")
    scope = g.token.get_scope()
    asked = [type_ for word in request.args.getlist("_type") for type_ in word.split(",")]
    if unknown := sorted(set(asked) - set(PARAMETERS)):
        raise Refused(400, "not-supported", f"_type: this server holds no {unknown[0]}")
    granted = [one for one in PARAMETERS if reach(scope, one, Interaction.READ) is Reach.EVERYTHING]
    if not granted or not set(asked) <= set(granted):
        raise Refused(403, "forbidden", "the granted scopes don't reach every type that is asked for")
    types = tuple(one for one in asked or granted if shared or one not in SHARED_TYPES)
    job = Job(
        secrets.token_urlsafe(24),
        request.url,
        g.token.client_id,
        types,
        groups,
        _instant_of(request.args.get("_since")),
        datetime.fromtimestamp(sandbox.config.clock() + sandbox.config.crowd_ahead_seconds, UTC),
    )
    sandbox.jobs.add(job)
    return Response("", 202, {"Content-Location": f"{sandbox.config.fhir_base}/bulk/{job.id}"})


def _instant_of(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise Refused(400, "invalid", "_since is no instant") from None
    if moment.tzinfo is None:
        raise Refused(400, "invalid", "_since is no instant")
    return moment


@fhir.get("/bulk/<job>")
def export_status(job: str) -> Response:
    """Not yet, or the manifest."""
    sandbox = _sandbox()
    quirks = sandbox.quirks
    found = _own(job)
    if quirks.count_down("export_busy"):
        raise Refused(429, "throttled", "asked too often", {"Retry-After": str(quirks.export_retry_after)})
    if quirks.export_fails:
        raise Refused(500, "exception", "the export failed")
    if found.polls < quirks.export_polls:
        found.polls += 1
        headers = {"Retry-After": str(quirks.export_retry_after), "X-Progress": "under way"}
        return Response("", 202, headers)
    return Response(json.dumps(_manifest(found)), content_type="application/json")


@fhir.delete("/bulk/<job>")
def export_over(job: str) -> Response:
    """Whoever asked has all of it, or wants none."""
    _sandbox().jobs.remove(_own(job).id)
    return Response("", 202)


def _own(id_: str) -> Job:
    job = _sandbox().jobs.find(id_)
    if g.token.client_id != job.client_id:
        raise Refused(404, "not-found", "there is no such export")
    return job


def _manifest(job: Job) -> dict[str, Any]:
    sandbox, quirks = _sandbox(), _sandbox().quirks
    base = (
        "https://files.elsewhere.example" if quirks.export_elsewhere else f"{sandbox.config.fhir_base}/bulk"
    )

    def named(name: str) -> str:
        return f"{base}/{job.id}/{name}"

    output: list[dict[str, Any]] = []
    if _CHARTS in job.groups:
        for type_ in job.types:
            if count := sum(1 for _ in _stored(sandbox, job, type_)):
                output.append({"type": type_, "url": named(f"{type_}.{_CHARTS}.ndjson"), "count": count})
    crowd = sandbox.crowd.patients if _CROWD in job.groups else 0
    for type_ in TYPES:
        if type_ in job.types:
            output += [
                {"type": type_, "url": named(f"{type_}.{first // _A_FILE:04d}.ndjson")}
                for first in range(0, crowd, _A_FILE)
            ]
    errors = [{"type": "OperationOutcome", "url": named(f"{_ERRORS}.ndjson")}] if quirks.export_errors else []
    deleted = job.since is not None and crowd and "Observation" in job.types
    return {
        "transactionTime": job.moment.isoformat(timespec="milliseconds"),
        "request": job.asked,
        "requiresAccessToken": not quirks.export_open_files,
        "output": output,
        "deleted": [{"type": "Bundle", "url": named(f"{_DELETED}.ndjson")}] if deleted else [],
        "error": errors,
    }


@fhir.get("/bulk/<job>/<name>")
def export_file(job: str, name: str) -> Response:
    """One file, made while it is fetched."""
    sandbox, quirks = _sandbox(), _sandbox().quirks
    found = sandbox.jobs.find(job) if quirks.export_open_files else _own(job)
    type_ = name.partition(".")[0]
    if quirks.export_links_over:
        raise Refused(410, "deleted", "this link is over")
    if quirks.export_last_files and not quirks.count_down("export_last_files", down_to=1):
        raise Refused(410, "deleted", "this link is over")
    if quirks.export_missing == type_:
        raise Refused(404, "not-found", "there is no such file")
    lines = _lines(sandbox, found, name)
    if quirks.export_cut_off == type_:
        lines = _cut_off(lines)
    if quirks.count_down("export_breaks"):
        # More is promised than comes.
        lines = iter([next(lines, b"{")])
        return Response(lines, headers={"Content-Length": "1000000"}, content_type=_NDJSON)
    return Response(_joined(lines), content_type=_NDJSON)


def _lines(sandbox: Sandbox, job: Job, name: str) -> Iterator[bytes]:
    if name == f"{_ERRORS}.ndjson":
        issue = {
            "severity": "error",
            "code": "exception",
            "diagnostics": "some records could not be exported",
        }
        return iter([json.dumps({"resourceType": "OperationOutcome", "issue": [issue]}).encode() + b"\n"])
    everybody = range(sandbox.crowd.patients)
    if name == f"{_DELETED}.ndjson" and job.since is not None:
        return map(_gone, sandbox.crowd.withdrawn(everybody, job.since, job.moment))
    type_, _, part = name.removesuffix(".ndjson").partition(".")
    if type_ not in job.types or not name.endswith(".ndjson"):
        raise Refused(404, "not-found", "there is no such file")
    if part == _CHARTS:
        return _stored(sandbox, job, type_)
    if type_ not in TYPES or not part.isdigit():
        raise Refused(404, "not-found", "there is no such file")
    first = int(part) * _A_FILE
    return sandbox.crowd.lines(type_, everybody[first : first + _A_FILE], job.since, job.moment)


def _stored(sandbox: Sandbox, job: Job, type_: str) -> Iterator[bytes]:
    """What the store holds of a type, a page at a time."""
    since = -1 if job.since is None else int(job.since.timestamp() * 1000)
    for body in sandbox.store.changed(type_, since):
        yield body.encode() + b"\n"


def _gone(reference: str) -> bytes:
    entry = [{"request": {"method": "DELETE", "url": reference}}]
    return json.dumps({"resourceType": "Bundle", "type": "transaction", "entry": entry}).encode() + b"\n"


def _cut_off(lines: Iterator[bytes]) -> Iterator[bytes]:
    """As somebody's full disk leaves a file: whole to whoever fetches it, and ending within a record."""
    held = b""
    for line in lines:
        if held:
            yield held
        held = line
    yield held[: len(held) // 2]


def _joined(lines: Iterator[bytes]) -> Iterator[bytes]:
    held: list[bytes] = []
    size = 0
    for line in lines:
        held.append(line)
        size += len(line)
        if size > 1 << 16:
            yield b"".join(held)
            held, size = [], 0
    yield b"".join(held)
