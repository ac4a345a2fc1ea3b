"""The requests of one reading: within its time, counted, and always answered anew."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime
from email.utils import parsedate_to_datetime

from launch.errors import HttpError, HttpProblem, LaunchError, LaunchReason
from launch.http import MEGABYTE, Limits, Response
from launch.limiter import Turn
from launch.tokens import SessionClient
from smartapp.ehr.reading.searches import Parameters, Search
from smartapp.ehr.wire.bundles import batch_answers, batch_of, search, search_target

MOST_SILENT = 2
"""Requests without any answer, after which a reading asks for nothing more: each takes a minute and more."""
READ_LIMITS = Limits(connect=5.0, read=20.0, total=90.0, max_bytes=16 * MEGABYTE)
"""A page of a thousand plain readings is a megabyte and a half; four pages are under way at a time."""
NOT_ALLOWED = frozenset({401, 403, 404, 405, 410, 501})
NOT_UNDERSTOOD = frozenset({400, 422})
_REFUSED_SO_MUCH = NOT_UNDERSTOOD | {413, 500, 502, 504}
_TOO_MUCH = frozenset({HttpProblem.TOO_LARGE, HttpProblem.TIMEOUT})


class ReadingStopped(Exception):
    """Somebody else does this job now, or the session ended."""


class ReadingFailed(Exception):
    """The chart could not be read to an end; `reason` is a short constant."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class Fetch:
    """Asks one EHR for one reading; its threads share it. `seconds`: how long all of it may take. `turn`: who
    waits for it."""

    def __init__(
        self, client: SessionClient, byte_limit: int, seconds: float, turn: Turn = Turn.PRESSED
    ) -> None:
        self.client = client
        self._turn = turn
        self.server_time: datetime | None = None
        """What the server's own clock showed when it first answered."""
        self.strict = client.issuer.profile.strict_handling
        self._bytes_left = byte_limit
        self._deadline = time.monotonic() + seconds
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._unanswered = 0
        self._came: dict[str, Response] = {}
        """Answers that a batch brought, by what was asked."""

    @property
    def silent(self) -> bool:
        """Whether the EHR has left so many requests without any answer that none more is made."""
        return self._unanswered >= MOST_SILENT

    @property
    def full(self) -> bool:
        """Whether as much has come as is read at once."""
        return self._bytes_left <= 0

    def stop(self) -> None:
        """No request begins from now on."""
        self._stop.set()

    def first_answer(self, wanted: Search) -> Response:
        """The first answer that is not "I do not understand"; else the last one. What is too much at once is
        asked for in smaller pages, where the search has them."""
        try:
            response = self._first_understood(wanted, wanted.ways)
        except HttpError as error:
            if not wanted.smaller or error.problem not in _TOO_MUCH:
                raise
        else:
            if not wanted.smaller or response.status not in _REFUSED_SO_MUCH:
                return response
        return self._first_understood(wanted, wanted.smaller)

    def _first_understood(self, wanted: Search, ways: Iterable[Parameters]) -> Response:
        strictness = (True, False) if self.strict else (False,)
        attempts = [(way, strict) for way in ways for strict in strictness]
        for way, strict in attempts[:-1]:
            response = self.first_page(wanted.type, way, strict=strict, further=wanted.further)
            if response.status not in NOT_UNDERSTOOD:
                return response
        way, strict = attempts[-1]
        return self.first_page(wanted.type, way, strict=strict, further=wanted.further)

    def together(self, targets: list[str]) -> bool:
        """Ask for all of these in one request; what came is what `first_page` and `get` give, once each. What
        did not come is asked for by itself. False where the server did not answer as a batch is answered."""
        limits = self._limits()
        headers = {"Prefer": "handling=strict"} if self.strict else {}
        try:
            response = self._received(
                lambda: self.client.fhir(
                    "POST",
                    self.client.issuer.fhir_base,
                    body=batch_of(targets),
                    headers=headers,
                    limits=limits,
                    repeatable=True,
                    turn=self._turn,
                )
            )
        except HttpError:
            return True  # nothing is known of it; the searches themselves will tell
        bodies = batch_answers(response.body, len(targets)) if response.ok else None
        if bodies is None:
            return response.status == 429 or response.status >= 500
        for target, body in zip(targets, bodies, strict=True):
            if body:
                self._came[target] = replace(response, status=200, headers={}, body=body)
        return True

    def first_page(
        self, type_: str, parameters: Iterable[tuple[str, str]], *, strict: bool, further: bool = False
    ) -> Response:
        """`further`: it goes on with what was begun."""
        parameters = tuple(parameters)
        if (came := self._came.pop(search_target(type_, parameters), None)) is not None:
            return came
        headers = {"Prefer": "handling=strict"} if strict else {}
        limits = self._limits()
        turn = self._turn_of(further)
        return self._received(
            lambda: search(self.client, type_, parameters, headers=headers, limits=limits, turn=turn)
        )

    def get(self, target: str, *, further: bool = False) -> Response:
        """`further`: it goes on with what was begun."""
        if (came := self._came.pop(target, None)) is not None:
            return came
        limits = self._limits()
        turn = self._turn_of(further)
        return self._received(lambda: self.client.fhir("GET", target, limits=limits, turn=turn))

    def _turn_of(self, further: bool) -> Turn:
        """A chart's further pages come after the first screens of others."""
        return Turn.BULK if further and self._turn is Turn.FIRST else self._turn

    def _limits(self) -> Limits:
        """Of the next request. Raises ReadingStopped and ReadingFailed where there is to be none."""
        if self._stop.is_set():
            raise ReadingStopped
        return replace(READ_LIMITS, total=min(READ_LIMITS.total, self.time_left()))

    def time_left(self) -> float:
        """Seconds. Raises ReadingFailed where none are left."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise ReadingFailed(HttpProblem.TIMEOUT.value)
        return left

    def _received(self, request: Callable[[], Response]) -> Response:
        try:
            response = request()
        except HttpError as error:
            if error.problem is HttpProblem.BUSY and self._turn is Turn.PRESSED:
                # Nothing was asked: whoever pressed a button tries again, rather than go on without it.
                raise LaunchError(LaunchReason.EHR_BUSY) from None
            if error.problem is HttpProblem.TIMEOUT:
                with self._lock:
                    self._unanswered += 1
            raise
        with self._lock:
            self._bytes_left -= len(response.body)
            self.server_time = self.server_time or _time_of(response)
        return response


def _time_of(response: Response) -> datetime | None:
    """What the server's own clock showed, where it says so."""
    try:
        moment = parsedate_to_datetime(response.headers.get("date", ""))
    except (TypeError, ValueError, OverflowError):
        return None
    return moment if moment.tzinfo is not None else None
