"""FHIR Bulk Data export, as a client: asked for, asked about, its files streamed, and given back.

A token is renewed once where it is refused, and goes to the FHIR base's own origin alone; files that need
none get none. Nothing here keeps anything: whoever fetches a file decides where it goes. What a server says
in prose is not repeated, and an address never.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any, ClassVar
from urllib.parse import urlencode

from launch.answers import MEGABYTE, Limits, Response, retry_after
from launch.backend import BackendTokens
from launch.discovery import Discovery
from launch.errors import HttpError, HttpProblem, SmartError
from launch.http import EhrClient, EhrClients, Stream
from launch.issuers import Issuer
from launch.limiter import Turn
from launch.scopes import Interaction, Level, Scopes
from launch.tokens import TokenResponse

NDJSON = "application/fhir+ndjson"
LEAST_WAIT, USUAL_WAIT, MOST_WAIT = 1.0, 10.0, 600.0
"""Seconds between two questions: at least, where the server says nothing, and at most."""
_LIMITS = Limits(read=60.0, total=120.0, max_bytes=64 * MEGABYTE)
_OVER = frozenset({404, 410})


class BulkProblem(Enum):
    """Why an export, or a file of it, came to nothing."""

    NOT_OFFERED = "not-offered"
    REFUSED = "refused"
    NOT_UNDERSTOOD = "not-understood"
    BUSY = "busy"
    FAILED = "failed"
    OVER = "over"
    NO_MANIFEST = "no-manifest"
    ELSEWHERE = "elsewhere"


class BulkError(SmartError):
    """An export, or one of its files, can't be had. `status`: what the server answered, if anything."""

    SENTENCES: ClassVar[dict[BulkProblem, str]] = {
        BulkProblem.NOT_OFFERED: "The EHR offers no such export.",
        BulkProblem.REFUSED: "The EHR does not let this app have it.",
        BulkProblem.NOT_UNDERSTOOD: "The EHR does not take the request for an export as it was made.",
        BulkProblem.BUSY: "The EHR asks to wait.",
        BulkProblem.FAILED: "The EHR could not make the export.",
        BulkProblem.OVER: "The EHR has it no more, or never had it: an export's files are kept for a while.",
        BulkProblem.NO_MANIFEST: "The EHR's answer does not say what the export consists of.",
        BulkProblem.ELSEWHERE: "It lies at an address that is not listed for this EHR's exports.",
    }

    def __init__(self, problem: BulkProblem, status: int | None = None, detail: str = "") -> None:
        self.reason = problem
        self.problem = problem
        self.status = status
        self.detail = detail
        self.sentence = self.SENTENCES[problem]
        facts = (problem.value, status and f"status {status}", detail)
        super().__init__(", ".join(str(fact) for fact in facts if fact))


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be exported. `group`: of a Group's patients; else all of them. `since`: an instant, as the
    server told it; only what changed later."""

    types: tuple[str, ...]
    group: str = ""
    since: str = ""

    @property
    def target(self) -> str:
        """Relative to the FHIR base."""
        told = [("_type", ",".join(self.types)), ("_outputFormat", NDJSON)]
        if self.since:
            told.append(("_since", self.since))
        return f"{f'Group/{self.group}/' if self.group else ''}$export?{urlencode(told, safe=',')}"


@dataclass(frozen=True, slots=True)
class Named:
    """A file that a manifest names. `count`: how many resources it holds, where that is said."""

    member: str
    """output, deleted or error"""
    type: str
    url: str
    count: int | None = None


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an export consists of."""

    moment: str
    """Its `transactionTime`: what the next export is `since`."""
    needs_token: bool
    files: tuple[Named, ...]


@dataclass(frozen=True, slots=True)
class NotYet:
    """Ask again after so many seconds. `percent`: how far it is, where the server says that."""

    seconds: float
    percent: int | None = None


class BulkServer:
    """One EHR's exports, as this app's backend client. Threads share it."""

    def __init__(
        self, issuer: Issuer, clients: EhrClients, discovery: Discovery, tokens: BackendTokens
    ) -> None:
        self._issuer = issuer.as_backend()
        self._client: EhrClient = clients.of(self._issuer)
        self._discovery = discovery
        self._tokens = tokens
        self._scope = ""

    def granted(self, types: Sequence[str]) -> tuple[str, ...]:
        """Which of these types this app may have all of. Raises SmartError: HttpError, LaunchError, ..."""
        v2 = self._discovery.of(self._client).speaks_v2(self._issuer)
        self._scope = " ".join(f"system/{one}.{'rs' if v2 else 'read'}" for one in types)
        scope = self._token().scope
        found = Scopes.parse(self._scope if scope is None else scope)
        return tuple(one for one in types if _whole(found, one))

    def start(self, asked: Asked) -> str:
        """Ask for an export; the address under which it is asked about. Raises BulkError, HttpError, ..."""
        headers = {"Prefer": "respond-async"}
        answer = self._send("GET", asked.target, headers)
        if answer.status != 202:
            raise _refusal(answer)
        place = answer.headers.get("content-location", "")
        if not place:
            raise BulkError(BulkProblem.NO_MANIFEST, answer.status, "no Content-Location")
        return place

    def ask(self, place: str) -> Manifest | NotYet:
        """Whether it is ready. Raises BulkError, HttpError."""
        answer = self._send("GET", place, {"Accept": "application/json"}, of_export=True)
        if answer.status == 202 or (answer.status in {429, 503} and "retry-after" in answer.headers):
            asked = retry_after(answer.headers)
            seconds = USUAL_WAIT if asked is None else min(max(asked, LEAST_WAIT), MOST_WAIT)
            return NotYet(seconds, _percent(answer.headers.get("x-progress", "")))
        if answer.status in _OVER:
            raise BulkError(BulkProblem.OVER, answer.status)
        if not answer.ok:
            raise _refusal(answer)
        return manifest_of(answer.json(64 * MEGABYTE))

    def end(self, place: str) -> None:
        """Tell the server that its files are not needed any more. That it may not care is no fault."""
        try:
            self._send("DELETE", place, of_export=True)
        except (HttpError, BulkError):
            return

    @contextmanager
    def file(self, named: Named, *, needs_token: bool) -> Iterator[Stream]:
        """One file, to be read piece by piece. Raises BulkError, HttpError; also from the stream.

        Where the token is refused it is renewed once."""
        headers = {"Accept": NDJSON}
        token = self._token() if needs_token else None
        for last in (False, True):
            with self._open(named.url, token, headers) as stream:
                if stream.status == 401 and token is not None and not last:
                    self._tokens.refused(self._issuer, self._scope, token)
                elif 200 <= stream.status < 300:
                    yield stream
                    return
                else:
                    raise _no_file(stream.status)
            token = self._token()

    @contextmanager
    def _open(self, url: str, token: TokenResponse | None, headers: Mapping[str, str]) -> Iterator[Stream]:
        bearer = token.access_token if token else None
        try:
            with self._client.stream(url, token=bearer, headers=headers) as stream:
                yield stream
        except HttpError as fault:
            if fault.problem is HttpProblem.FOREIGN_URL:
                raise BulkError(BulkProblem.ELSEWHERE) from None
            raise

    def _send(
        self, method: str, target: str, headers: Mapping[str, str] | None = None, *, of_export: bool = False
    ) -> Response:
        """One request with a token; once more with a new one where that is refused."""
        for last in (False, True):
            token = self._token()
            try:
                answer = self._client.fhir(
                    method,
                    target,
                    token=token.access_token,
                    headers=headers,
                    limits=_LIMITS,
                    turn=Turn.BULK,
                    of_export=of_export,
                )
            except HttpError as fault:
                if fault.problem is HttpProblem.FOREIGN_URL:
                    raise BulkError(BulkProblem.ELSEWHERE) from None
                raise
            if answer.status != 401 or last:
                break
            self._tokens.refused(self._issuer, self._scope, token)
        return answer

    def _token(self) -> TokenResponse:
        return self._tokens.token(self._issuer, self._scope)


def manifest_of(document: Any) -> Manifest:
    """Read a manifest. Raises BulkError(NO_MANIFEST) where it is none, or not all of one."""
    if not isinstance(document, dict):
        raise BulkError(BulkProblem.NO_MANIFEST)
    moment, needs_token = document.get("transactionTime"), document.get("requiresAccessToken")
    if not isinstance(moment, str) or not _is_instant(moment):
        raise BulkError(BulkProblem.NO_MANIFEST, detail="transactionTime")
    if not isinstance(needs_token, bool):
        raise BulkError(BulkProblem.NO_MANIFEST, detail="requiresAccessToken")
    if "output" not in document or document.get("link"):
        raise BulkError(BulkProblem.NO_MANIFEST, detail="output")
    files: list[Named] = []
    for member in ("output", "deleted", "error"):
        listed = document.get(member)
        if listed is None:
            continue
        if not isinstance(listed, list):
            raise BulkError(BulkProblem.NO_MANIFEST, detail=member)
        files += (_named(member, one) for one in listed)
    return Manifest(moment, needs_token, tuple(files))


def _named(member: str, one: Any) -> Named:
    url, kind = (one.get("url"), one.get("type")) if isinstance(one, dict) else (None, None)
    if not isinstance(url, str) or not url:
        raise BulkError(BulkProblem.NO_MANIFEST, detail=f"a file of {member} without an address")
    count = one.get("count")
    counted = isinstance(count, int) and not isinstance(count, bool) and count >= 0
    return Named(member, kind if isinstance(kind, str) else "", url, count if counted else None)


def _is_instant(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False


def _whole(scopes: Scopes, type_: str) -> bool:
    """All of that type is granted: a grant of a part would look like the whole."""
    asked = Level.SYSTEM, type_, Interaction.READ
    return scopes.allows(*asked) and not scopes.restrictions(*asked)


def _percent(text: str) -> int | None:
    """A server's prose is not repeated: it may say anything. A number may be."""
    number = text.strip().partition("%")[0].rpartition(" ")[2] if "%" in text else ""
    return int(number) if number.isascii() and number.isdecimal() and len(number) <= 3 else None


def _refusal(answer: Response) -> BulkError:
    problem = {
        400: BulkProblem.NOT_UNDERSTOOD,
        401: BulkProblem.REFUSED,
        403: BulkProblem.REFUSED,
        404: BulkProblem.NOT_OFFERED,
        405: BulkProblem.NOT_OFFERED,
        422: BulkProblem.NOT_UNDERSTOOD,
        429: BulkProblem.BUSY,
        501: BulkProblem.NOT_OFFERED,
        503: BulkProblem.BUSY,
    }.get(answer.status, BulkProblem.FAILED if answer.status >= 500 else BulkProblem.NO_MANIFEST)
    return BulkError(problem, answer.status)


def _no_file(status: int) -> BulkError:
    if status in _OVER:
        return BulkError(BulkProblem.OVER, status)
    if status in {401, 403}:
        return BulkError(BulkProblem.REFUSED, status)
    return BulkError(BulkProblem.BUSY if status in {429, 503} else BulkProblem.FAILED, status)
