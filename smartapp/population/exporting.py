"""Exports a population from an EHR into a folder: asked for, waited for, fetched file by file.

Whatever stops a run, the next one in the same folder goes on: it asks about the export that was asked for,
and fetches the files that are not all here. What could not be had is named, and stands in the folder's
manifest, so that a sweep takes nobody's record for whole who may be in it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fhir_mappings.completeness import DECIDING, Missing, MissingWhy
from launch.bulk import Asked, BulkError, BulkProblem, BulkServer, Manifest, Named, NotYet
from launch.errors import HttpError, HttpProblem
from smartapp.population.exported import (
    ExportError,
    ExportFolder,
    Fetched,
    Journal,
    NoLines,
    missing_of,
    stem_of,
)
from smartapp.population.progress import Progress, in_words

TRIES = 3
_PAUSES = (1.0, 10.0, 60.0)
"""Seconds before a file, or a question, is tried again."""
_MOST_FAULTS = 10
"""Questions in a row that nobody answers."""
_PASSING = frozenset({BulkProblem.BUSY, BulkProblem.FAILED})
_FOR_GOOD = frozenset({BulkProblem.OVER, BulkProblem.REFUSED})
"""A link that was good once is over, however the server says so."""


class Sleep(Protocol):
    def __call__(self, seconds: float, /) -> object: ...


class NotReady(Exception):
    """The EHR is not done in the time that was given; the same call goes on asking."""


class Over(Exception):
    """The EHR has the export no more, or some of its files: it has to be asked for anew."""


@dataclass(frozen=True)
class Wanted:
    """What somebody wants exported. `most_wait`: seconds until the EHR must be done."""

    issuer: str
    base: str
    types: tuple[str, ...]
    group: str = ""
    since: str = ""
    most_wait: float = 12 * 3600.0
    at_once: int = 2
    """Files that are fetched at a time."""


@dataclass(frozen=True)
class Exported:
    """What came of a run."""

    folder: Path
    moment: str
    """What the next export is since."""
    files: int
    records: int
    bytes: int
    missing: tuple[str, ...]
    """What is not here, in plain words, a line each."""
    over: bool = False
    """Some of it is no more to be had: the export has to be asked for anew."""
    left_out: tuple[str, ...] = ()
    """Types that a decision hangs on and that are not in it."""


def export(
    wanted: Wanted,
    server: BulkServer,
    folder: ExportFolder,
    progress: Progress,
    say: Callable[[str], None],
    sleep: Sleep = time.sleep,
) -> Exported:
    """Do it, or go on with it. Raises ExportError, NotReady, Over, BulkError, and what signing in raises."""
    with folder.locked():
        return _Run(wanted, server, folder, progress, say, sleep).run()


class _Run:
    def __init__(
        self,
        wanted: Wanted,
        server: BulkServer,
        folder: ExportFolder,
        progress: Progress,
        say: Callable[[str], None],
        sleep: Sleep,
    ) -> None:
        self._wanted, self._server, self._folder = wanted, server, folder
        self._progress, self._say, self._sleep = progress, say, sleep
        self._lock = threading.Lock()
        self._stopped = threading.Event()

    def run(self) -> Exported:
        journal = self._folder.journal()
        granted = self._server.granted(self._wanted.types) if journal is None or not journal.over else ()
        if journal is None:
            journal = self._begun(granted)
        else:
            self._check(journal)
        if not journal.place:
            journal.place = self._started(journal.asked)
            self._folder.write_journal(journal)
        if journal.manifest is None:
            journal.manifest = self._waited(journal.place)
            self._folder.write_journal(journal)
        self._folder.write_manifest(journal)
        return self._ended(journal, journal.manifest)

    # -- asking -------------------------------------------------------------------------------------------

    def _begun(self, granted: Sequence[str]) -> Journal:
        """What is asked for, and which types a decision hangs on are not."""
        if not granted:
            raise ExportError("the EHR grants this app none of the types that are to be exported")
        left_out = [
            Missing(
                one,
                MissingWhy.NOT_GRANTED if one in self._wanted.types else MissingWhy.NOT_SEARCHED,
                detail="not granted to the backend client" if one in self._wanted.types else "not asked for",
            )
            for one in sorted(DECIDING - set(granted))
        ]
        asked = Asked(tuple(granted), self._wanted.group, self._wanted.since)
        return Journal(issuer=self._wanted.issuer, base=self._wanted.base, asked=asked, left_out=left_out)

    def _check(self, journal: Journal) -> None:
        """A folder holds one export: of one EHR, one group, one moment."""
        wanted, asked = self._wanted, journal.asked
        same = (journal.base, asked.group, asked.since) == (wanted.base, wanted.group, wanted.since)
        known = {*asked.types, *(one.type for one in journal.left_out if one.why is MissingWhy.NOT_GRANTED)}
        if not same or known != set(wanted.types):
            raise ExportError(
                f"{self._folder.folder}: holds an export of something else; give another folder"
            )
        if journal.manifest is None:
            self._say("going on with the export that was asked for")
        elif not journal.over:
            self._say("going on with the files that are not here yet")

    def _started(self, asked: Asked) -> str:
        for pause in (*_PAUSES, None):
            try:
                return self._server.start(asked)
            except BulkError as fault:
                if fault.problem is not BulkProblem.BUSY or pause is None:
                    raise
                self._say(f"the EHR asks to wait; trying again in {in_words(pause)}")
                self._sleep(pause)
        raise AssertionError("the last try returns or raises")

    def _waited(self, place: str) -> Manifest:
        """Ask until it is ready, as often as the EHR wants to be asked."""
        waited, faults, told = 0.0, 0, -1
        self._say("the EHR makes the export")
        while True:
            try:
                answer = self._server.ask(place)
                faults = 0
            except HttpError as fault:
                faults += 1
                if fault.problem is HttpProblem.TLS or faults >= _MOST_FAULTS:
                    raise
                answer = NotYet(_PAUSES[-1])
            except BulkError as fault:
                if fault.problem is BulkProblem.OVER:
                    raise Over(fault.sentence) from None
                raise
            if isinstance(answer, Manifest):
                return answer
            if waited + answer.seconds > self._wanted.most_wait:
                raise NotReady(f"the EHR is not done after {in_words(waited)}; the same call goes on asking")
            if answer.percent is not None and answer.percent != told:
                told = answer.percent
                self._say(f"the EHR says {told} %")
            self._sleep(answer.seconds)
            waited += answer.seconds

    # -- fetching -----------------------------------------------------------------------------------------

    def _ended(self, journal: Journal, manifest: Manifest) -> Exported:
        found: dict[int, Fetched] = {}
        faults: dict[int, str] = {}
        gone = False
        left = []
        for number, named in enumerate(manifest.files):
            known = self._folder.fetched(number)
            if known is not None and not known.fault:
                found[number] = known
            else:
                left.append((number, named))
        self._progress.begin("fetch", len(left))
        for (number, named), (fetched, why, over) in zip(
            left, self._all_fetched(left, manifest.needs_token), strict=True
        ):
            gone |= over
            if fetched is not None:
                found[number] = fetched
            if why:
                faults[number] = f"{stem_of(number, named)}: {why}"
        self._progress.end()
        missing = [missing_of(manifest.files[number], why) for number, why in sorted(faults.items())]
        self._folder.write_manifest(journal, missing)
        for number, named in enumerate(manifest.files):
            if named.member == "error" and number in found and (said := self._folder.severe(found[number])):
                faults[number] = (
                    f"{stem_of(number, named)}: {said} times the EHR says that something is missing"
                )
        if not faults and not journal.over:
            self._server.end(journal.place)
            journal.over = True
            self._folder.write_journal(journal)
        return Exported(
            self._folder.folder,
            manifest.moment,
            len(found),
            sum(one.records for one in found.values()),
            sum(one.bytes for one in found.values()),
            tuple(faults[number] for number in sorted(faults)),
            gone,
            tuple(f"{one.type} ({one.detail})" for one in journal.left_out),
        )

    def _all_fetched(
        self, left: Sequence[tuple[int, Named]], needs_token: bool
    ) -> Iterator[tuple[Fetched | None, str, bool]]:
        """Some at a time, in their order. Whatever ends this early ends what is under way."""
        threads = ThreadPoolExecutor(max(1, self._wanted.at_once))
        try:
            yield from threads.map(lambda one: self._fetched(one[0], one[1], needs_token), left)
        finally:
            self._stopped.set()
            threads.shutdown(cancel_futures=True)

    def _fetched(self, number: int, named: Named, needs_token: bool) -> tuple[Fetched | None, str, bool]:
        """One file: what came of it, what is wrong, and whether it is over for good."""
        fetched, why, over = None, "", False
        for last in range(TRIES):
            try:
                fetched = self._tried(number, named, needs_token)
                why = fetched.fault
                if why and last < TRIES - 1:
                    continue
                self._folder.write_fetched(number, fetched)
                break
            except BulkError as fault:
                why, over = _in_words(fault), fault.problem in _FOR_GOOD
                if fault.problem not in _PASSING:
                    break
            except HttpError as fault:
                why = fault.sentence
                if fault.problem is HttpProblem.TOO_LARGE:
                    break
            except NoLines as fault:
                why = str(fault)
            if last < TRIES - 1:
                self._sleep(_PAUSES[last])
        with self._lock:
            self._progress.done(1)
        return fetched, why, over

    def _tried(self, number: int, named: Named, needs_token: bool) -> Fetched:
        with self._folder.writer(number, named) as out:
            with self._server.file(named, needs_token=needs_token) as stream:
                for piece in stream.pieces():
                    out.feed(piece)
                    if self._stopped.is_set():
                        raise KeyboardInterrupt
            out.close()
        fetched = out.fetched
        if named.count is not None and fetched.records < named.count and not fetched.fault:
            fetched.fault = f"holds {fetched.records} of {named.count} records"
        return fetched


def _in_words(fault: BulkError) -> str:
    status = f" ({fault.status})" if fault.status else ""
    return f"{fault.sentence.rstrip('.')}{status}"
