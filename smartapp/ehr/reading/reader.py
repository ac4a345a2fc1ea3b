"""Reads one patient's chart: what `needs` asks for, in the searches this EHR allows.

Prior charges come first, because they say from which day on the rest is needed. Then everything else in
parallel, Observations in slices of time. Nothing is dropped in silence: what the EHR refused, what was cut
off, what cannot be read and what belongs to somebody else is in the reading's notices. Only the patient's own
record is indispensable: whatever else does not come is told, and decided on as missing.
"""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from datetime import date, datetime
from email.utils import parsedate_to_datetime
from functools import partial

from msgspec import Raw

from fhir_mappings.chart.intake import Intake
from fhir_mappings.completeness import Missing, completeness_of
from fhir_mappings.local_time import LocalClock
from fhir_mappings.needs import Needs
from fhir_mappings.salvage import mended, missing_of
from fhir_mappings.terminology import Terminology
from launch.errors import HttpError, HttpProblem
from launch.http import MEGABYTE, Limits, Response
from launch.scopes import Interaction, Scopes
from launch.tokens import SessionClient
from smartapp.ehr.reading.notices import Notice, NoticeKind, in_order
from smartapp.ehr.reading.searches import SLICES, Search, Searches
from smartapp.ehr.wire.bundles import (
    Entry,
    Judged,
    NotAPage,
    declared,
    judged,
    look,
    outcome_of,
    outcome_text,
    read_target,
    references,
    search,
    search_page,
    version_of,
)
from smartapp.ehr.wire.json_guard import Unreadable, weighed
from smartapp.ehr.wire.patient_scope import Whose
from smartapp.store.reading import Progress, SealedChunk, StoredResource

MOST_READS_BY_ID = 200
IDS_AT_A_TIME = 50
FRESH = {"Cache-Control": "no-cache"}
"""What lies between may keep answers: a chart is decided on as it is now."""
MOST_SILENT = 2
"""Requests without any answer, after which a reading asks for nothing more: each takes a minute and more."""
READ_LIMITS = Limits(connect=5.0, read=20.0, total=90.0, max_bytes=16 * MEGABYTE)
"""A page of two hundred resources is below one megabyte; four pages are under way at a time."""
NOT_ALLOWED = frozenset({401, 403, 404, 405, 410, 501})
NOT_UNDERSTOOD = frozenset({400, 422})
GONE = frozenset({404, 410})

READ_FIRST = frozenset({"Patient", "ChargeItem"})
Days = tuple[date | None, date | None]

LINKED = ("Device", "DeviceMetric", "Practitioner", "PractitionerRole")
"""Read by id where a reading or an encounter points to one that no search brought."""


class ReadingStopped(Exception):
    """Somebody else does this job now, or the session ended."""


class ReadingFailed(Exception):
    """The chart could not be read to an end; `reason` is a short constant."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class SinceNotKnown(Exception):
    """The server does not search by what changed since a moment, or nobody can tell whether it does."""


class ChartReading:
    """One reading under way. `sink` gets every resource once; it is called by one thread at a time.

    What it may not or cannot give is handed on as a `StoredResource` without bytes, so that it is listed.
    `asked`: the scopes that were asked for, where they are known: what nobody asked for is not missing.
    `seconds`: how long all of it may take. `since`: of Observations only what came or changed since then is
    wanted (`SinceNotKnown` is raised where the server cannot tell); everything else is read whole. `linked`:
    what an earlier reading had to read by its id.
    """

    def __init__(
        self,
        client: SessionClient,
        scopes: Scopes,
        patient: str,
        user: str | None = None,
        *,
        terminology: Terminology,
        clock: LocalClock,
        asked: Scopes | None = None,
        page_limit: int,
        byte_limit: int,
        seal: Callable[[str, list[StoredResource]], SealedChunk],
        tick: Callable[[Progress], bool],
        tick_seconds: float,
        seconds: float = math.inf,
        since: datetime | None = None,
        linked: Iterable[str] = (),
    ) -> None:
        self.server_time: datetime | None = None
        """What the server's own clock showed when it first answered."""
        self._since = since
        self.client = client
        self.scopes = scopes
        self.patient = patient
        self.chunks: list[SealedChunk] = []
        self.resources = 0
        self._notices: set[Notice] = set()
        self._profile = client.issuer.profile
        self._searches = Searches(self._profile, patient)
        self._terminology = terminology
        self._clock = clock
        self._asked = asked
        self._page_limit = page_limit
        self._bytes_left = byte_limit
        self._seal = seal
        self._tick = tick
        self._tick_seconds = tick_seconds
        self._deadline = time.monotonic() + seconds
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._silent = 0
        """Requests that got no answer at all."""
        self._names: set[str] = set()
        """What was handed on whole."""
        self._copies: set[str] = set()
        """The same with its version."""
        self._user = user
        self._linked: set[str] = {
            name for name in (user, *linked) if name and name.split("/", 1)[0] in LINKED
        }
        """Type/id of what may have to be read by itself; the signed-in user too, for the name."""
        self._foreign = Counter[str]()
        """Dropped as another patient's, by type."""
        self._missed: dict[str, tuple[Days, list[Missing]]] = {}
        """What single records that cannot be read may have been, and within which days they were found."""
        self._not_by_date: list[tuple[Search, Response]] = []
        """Searches of Observations that the server does not take without a category or code."""
        self.by_type = Counter[str]()
        """What was handed on whole, by type."""
        self._steps = self._steps_done = 0
        self._sink: Callable[[StoredResource], None] = lambda _: None

    # What to read

    def read_first(self, sink: Callable[[StoredResource], None]) -> None:
        """The patient, and every ChargeItem of theirs."""
        self._sink = sink
        # About what follows is counted in advance, so that the progress shown never runs backwards.
        self._steps = 2 + SLICES + 10
        self._run([partial(self._read, f"Patient/{self.patient}"), *self._whole("ChargeItem")])

    def read_rest(self, needs: Needs, sink: Callable[[StoredResource], None]) -> None:
        """Everything else that is needed, and what it points to."""
        self._sink = sink
        work: list[Callable[[], None]] = []
        for need in needs.types:
            if need.type == "Observation":
                if self._may("Observation", Interaction.SEARCH):
                    work += map(self._task, self._observations(needs))
            elif need.dated:
                if self._may(need.type, Interaction.SEARCH):
                    work.append(self._task(self._searches.dated(need.type, needs.search_start)))
            elif need.type not in READ_FIRST:
                work += self._whole(need.type)
        self._steps = self._steps_done + len(work)
        self._run(work)
        self._read_by_code(needs)
        for _ in range(2):  # a DeviceMetric leads to its Device
            missing = sorted(reference for reference in self._linked if reference not in self._names)
            self._linked.clear()
            self._read_linked(missing)
        self._read_roles()

    def _observations(self, needs: Needs) -> list[Search]:
        if self._since is None:
            return self._searches.observations(needs)
        changed = self._searches.changed_observations(needs, self._since)
        if not changed:
            raise SinceNotKnown
        return changed

    def _knows_since(self) -> bool:
        """Does the server declare that it searches Observations by `_lastUpdated`?

        One that passes over what it does not know gives too much, which does no harm; one that takes it for
        something else would give too little.
        """
        try:
            response = self._get("metadata")
        except HttpError:
            return False
        return response.ok and "_lastUpdated" in declared(response.body, "Observation").parameters

    def check(self, known: Mapping[str, str], sink: Callable[[StoredResource], None]) -> frozenset[str]:
        """Which of these records (reference -> version) are gone. One that changed is handed on as it is now.

        Asked by `_id`, many at a time where the server takes that; what such a search does not bring is read
        by itself before it is called gone. Raises ReadingFailed where that cannot be told.
        """
        self._sink = sink
        gone: set[str] = set()
        by_type: dict[str, list[str]] = {}
        for reference in known:
            by_type.setdefault(reference.split("/", 1)[0], []).append(reference)
        batches = [
            names[position : position + IDS_AT_A_TIME]
            for names in by_type.values()
            for position in range(0, len(names), IDS_AT_A_TIME)
        ]
        self._run([partial(self._check_batch, names, known, gone) for names in batches])
        return frozenset(gone)

    def _check_batch(self, names: list[str], known: Mapping[str, str], gone: set[str]) -> None:
        there = self._seen_by_id(names, known)
        for name in names:
            if name not in there and not self._seen_by_itself(name, known):
                gone.add(name)

    def _seen_by_id(self, names: list[str], known: Mapping[str, str]) -> set[str]:
        """Which of these one search by `_id` brings; none where the server does not take it."""
        type_ = names[0].split("/", 1)[0]
        ids = ",".join(name.split("/", 1)[1] for name in names)
        parameters = [("_id", ids), ("patient", self.patient), ("_count", str(len(names)))]
        there: set[str] = set()
        response = self._first_page(type_, parameters, strict=self._profile.strict_handling)
        for _ in range(len(names)):
            try:
                page = search_page(response.body) if response.ok else None
            except NotAPage:
                page = None
            if page is None:
                break
            there |= {name for entry in page.entries if (name := self._seen_again(entry, known)) is not None}
            if page.next_url is None:
                break
            try:
                response = self._get(page.next_url)
            except HttpError:
                break
        return there

    def _seen_by_itself(self, name: str, known: Mapping[str, str]) -> bool:
        response = self._get(read_target(name))
        if response.status in GONE:
            return False
        if not response.ok:
            raise ReadingFailed("ehr-unavailable")
        return self._seen_again(_single(response.body), known) == name

    def _seen_again(self, entry: Entry, known: Mapping[str, str]) -> str | None:
        """The record of which this is the present version; None where it is none of these, or not ours."""
        raw = bytes(entry.resource)
        seen = look(raw)
        name = seen.reference
        if name not in known or seen.whose(self.patient, self.base) in {Whose.FOREIGN, Whose.UNREADABLE}:
            return None
        if version_of(seen, raw) != known[name]:
            self._keep(Search(seen.resourceType, name, ()), name, [entry])
        return name

    def notices(self) -> tuple[Notice, ...]:
        """Everything there is to tell of this reading."""
        found = {Notice(NoticeKind.FOREIGN, type_, count=number) for type_, number in self._foreign.items()}
        missed = [one for _, some in self._missed.values() for one in some]
        found |= {
            Notice(NoticeKind.UNREADABLE, one.type, one.detail, one.entries, start=one.start, end=one.end)
            for one in completeness_of(missed).missing
        }
        return in_order(self._notices | found)

    @property
    def base(self) -> str:
        """The FHIR base URL."""
        return self.client.issuer.fhir_base

    def _may(self, type_: str, interaction: Interaction) -> bool:
        if self.scopes.can(type_, interaction):
            return True
        if self._asked is None or self._asked.can(type_, interaction):
            self._notices.add(Notice(NoticeKind.NOT_GRANTED, type_))
        return False

    def _whole(self, type_: str) -> list[Callable[[], None]]:
        """All of the patient's resources of a type."""
        return [self._task(self._searches.whole(type_))] if self._may(type_, Interaction.SEARCH) else []

    def _read_by_code(self, needs: Needs) -> None:
        """Where the server did not take a search by date alone: every coding that can count, by itself."""
        refused, self._not_by_date = self._not_by_date, []
        by_code = self._searches.by_code(needs) if refused else []
        for wanted, response in refused:
            self._tell_refused(replace(wanted, beside=bool(by_code)), response)
        self._steps += len(by_code)
        self._run(list(map(self._task, by_code)))

    def _read_linked(self, wanted: list[str]) -> None:
        work: list[Callable[[], None]] = []
        for reference in wanted[:MOST_READS_BY_ID]:
            type_ = reference.split("/", 1)[0]
            if type_ in LINKED and self._may(type_, Interaction.READ):
                work.append(partial(self._read, reference))
        if len(wanted) > MOST_READS_BY_ID:
            for type_ in sorted({reference.split("/", 1)[0] for reference in wanted[MOST_READS_BY_ID:]}):
                self._notices.add(Notice(NoticeKind.CUT_OFF, type_, "too many different devices and people"))
        self._steps += len(work)
        self._run(work)

    def _read_roles(self) -> None:
        """In which roles those whose names were read work, the signed-in user too: an Encounter names a
        person, and whose minutes count depends on the role."""
        people = sorted(name for name in self._names if name.startswith("Practitioner/"))
        if people and self._may("PractitionerRole", Interaction.SEARCH):
            self._run([self._task(search) for search in self._searches.roles(people)])

    # Doing it

    def _run(self, work: list[Callable[[], None]]) -> None:
        """All of `work` in parallel; ticks while it runs. The first failure stops the rest and is raised."""
        if not work:
            return
        parallel = self.client.issuer.max_parallel
        with ThreadPoolExecutor(min(parallel, len(work)), thread_name_prefix="reading") as pool:
            pending: set[Future[None]] = {pool.submit(task) for task in work}
            try:
                while pending:
                    patience = min(self._tick_seconds, self._time_left())
                    done, pending = wait(pending, timeout=patience, return_when=FIRST_COMPLETED)
                    for future in done:
                        future.result()
                        self._steps_done += 1
                    self._report()
            except BaseException:
                self._stop.set()
                for future in pending:
                    future.cancel()
                raise

    def _report(self) -> None:
        self._time_left()
        if not self._tick(Progress(self._steps, min(self._steps_done, self._steps), self.resources)):
            raise ReadingStopped

    def _task(self, wanted: Search) -> Callable[[], None]:
        return partial(self._search, wanted)

    def _read(self, reference: str) -> None:
        """One resource by its id. What does not come is a notice; the patient's own ends the reading."""
        type_ = reference.split("/", 1)[0]
        own = type_ == "Patient"
        if self._silent >= MOST_SILENT and not own:
            self._notices.add(Notice(NoticeKind.NOT_SEARCHED, type_))
            return
        try:
            response = self._get(read_target(reference))
        except HttpError as error:
            if own:
                raise
            self._notices.add(_unanswered(type_, error))
            return
        if own and _out_of_order(response):
            raise ReadingFailed("ehr-unavailable")
        if response.ok:
            one = Search(type_, reference, ())
            self._keep(one, reference, [_single(response.body)])
        elif response.status in GONE:
            self._notices.add(Notice(NoticeKind.MISSING, type_, reference))
        else:
            kind = NoticeKind.NOT_ANSWERED if _out_of_order(response) else NoticeKind.REFUSED
            said = outcome_text(response.body)
            self._notices.add(Notice(kind, type_, str(response.status), said=said))
        if own and reference not in self._names:
            raise ReadingFailed("patient-refused")

    def _search(self, wanted: Search) -> None:
        """Every page of one search; on 400 without strict handling, then the other ways to ask."""
        if self._silent >= MOST_SILENT:
            self._tell(wanted, NoticeKind.NOT_SEARCHED)
            return
        try:
            response = self._first_answer(wanted)
        except HttpError as error:
            told = _unanswered(wanted.type, error)
            self._tell(wanted, told.kind, told.detail)
            return
        if response.ok:
            self._pages(wanted, response)
        elif wanted.since and response.status in NOT_UNDERSTOOD:
            raise SinceNotKnown
        elif wanted.by_date_alone and response.status in NOT_UNDERSTOOD:
            with self._lock:
                self._not_by_date.append((wanted, response))
        else:
            self._tell_refused(wanted, response)

    def _tell_refused(self, wanted: Search, response: Response) -> None:
        kind = NoticeKind.NOT_ANSWERED if _out_of_order(response) else NoticeKind.REFUSED
        self._tell(wanted, kind, str(response.status), outcome_text(response.body))

    def _tell(self, wanted: Search, kind: NoticeKind, detail: str = "", said: str = "") -> None:
        """Something of a search did not come."""
        if wanted.beside:
            label = _without_type(wanted, detail)
            self._notices.add(Notice(NoticeKind.BESIDE, wanted.type, label, said=said))
            return
        self._notices.add(Notice(kind, wanted.type, detail, said=said, start=wanted.start, end=wanted.end))

    def _first_answer(self, wanted: Search) -> Response:
        """The first answer that is not "I do not understand"; else the last one."""
        strictness = (True, False) if self._profile.strict_handling else (False,)
        attempts = [(way, strict) for way in wanted.ways for strict in strictness]
        for way, strict in attempts[:-1]:
            response = self._first_page(wanted.type, way, strict=strict)
            if response.status not in NOT_UNDERSTOOD:
                return response
        way, strict = attempts[-1]
        return self._first_page(wanted.type, way, strict=strict)

    def _pages(self, wanted: Search, response: Response) -> None:
        visited: set[str] = set()
        for number in range(1, self._page_limit + 1):
            try:
                page = search_page(response.body)
            except NotAPage:
                said = outcome_text(response.body)
                self._tell(wanted, NoticeKind.CUT_OFF, "an answer that is no list of records", said)
                return
            if wanted.since and number == 1 and not ("_lastUpdated" in page.self_url or self._knows_since()):
                raise SinceNotKnown
            self._keep(wanted, f"{wanted.name} page {number:04}", self._matches(wanted, page.entries))
            if page.cut_off:
                self._tell(wanted, NoticeKind.CUT_OFF, page.cut_off)
            following = page.next_url
            if following is None:
                return
            if following in visited:
                self._tell(wanted, NoticeKind.CUT_OFF, "the EHR's pages lead in a circle")
                return
            visited.add(following)
            if self._bytes_left <= 0:
                self._tell(wanted, NoticeKind.CUT_OFF, "more data than this app reads at once")
                return
            try:
                response = self._get(following)
            except HttpError as error:
                self._tell(wanted, NoticeKind.CUT_OFF, _lost_page(error))
                return
            if not response.ok:
                lost = f"the EHR did not give the next page ({response.status})"
                self._tell(wanted, NoticeKind.CUT_OFF, lost, outcome_text(response.body))
                return
        self._tell(wanted, NoticeKind.CUT_OFF, "more pages than this app reads at once")

    def _first_page(self, type_: str, parameters: Iterable[tuple[str, str]], *, strict: bool) -> Response:
        headers = FRESH | ({"Prefer": "handling=strict"} if strict else {})
        limits = self._limits()
        return self._received(lambda: search(self.client, type_, parameters, headers=headers, limits=limits))

    def _get(self, target: str) -> Response:
        limits = self._limits()
        return self._received(lambda: self.client.fhir("GET", target, headers=FRESH, limits=limits))

    def _limits(self) -> Limits:
        """Of the next request. Raises ReadingStopped and ReadingFailed where there is to be none."""
        if self._stop.is_set():
            raise ReadingStopped
        return replace(READ_LIMITS, total=min(READ_LIMITS.total, self._time_left()))

    def _time_left(self) -> float:
        """Seconds. Raises ReadingFailed where none are left."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise ReadingFailed(HttpProblem.TIMEOUT.value)
        return left

    def _received(self, request: Callable[[], Response]) -> Response:
        try:
            response = request()
        except HttpError as error:
            if error.problem is HttpProblem.TIMEOUT:
                with self._lock:
                    self._silent += 1
            raise
        with self._lock:
            self._bytes_left -= len(response.body)
            self.server_time = self.server_time or _time_of(response)
        return response

    def _matches(self, wanted: Search, entries: Iterable[Entry]) -> list[Entry]:
        """The resources a search found. What the server says beside them becomes a notice."""
        found: list[Entry] = []
        for entry in entries:
            if bytes(entry.resource) in (b"", b"null"):
                continue
            if entry.search is not None and entry.search.mode == "outcome":
                self._remarked(wanted, bytes(entry.resource))
                continue
            found.append(entry)
        return found

    def _remarked(self, wanted: Search, outcome: bytes) -> None:
        """What the server says beside what it gives: a remark, or that it does not give everything."""
        told = outcome_of(outcome)
        if told.incomplete:
            self._tell(wanted, NoticeKind.CUT_OFF, "the EHR says that its answer is not whole", told.text)
        elif told.text:
            self._notices.add(Notice(NoticeKind.SERVER_SAYS, wanted.type, said=told.text))

    def _keep(self, wanted: Search, origin: str, found: list[Entry]) -> None:
        """Hand each resource on once."""
        fresh: list[StoredResource] = []
        with self._lock:
            for entry in found:
                resource = self._judged(wanted, origin, entry)
                if resource is not None:
                    fresh.append(resource)
                    self._sink(resource)
            self.resources += len(fresh)
        if fresh:
            # Compressing and encrypting needs no lock: the other threads decode meanwhile.
            chunk = self._seal(origin, fresh)
            with self._lock:
                self.chunks.append(chunk)

    def _judged(self, wanted: Search, origin: str, entry: Entry) -> StoredResource | None:
        """A resource as it is handed on; None where it was already, or is another patient's and dropped.

        What cannot be read, or names no patient although it must, is handed on without its bytes.
        """
        found = judged(entry, wanted.type, self.patient, self.base)
        if found.whose is Whose.FOREIGN:
            self._foreign[found.type] += 1
            return None
        if found.type == "OperationOutcome":
            self._remarked(wanted, found.raw)
            return None
        if found.reference == f"Patient/{self.patient}" and found.broken is not None:
            return self._damaged(origin, found.raw)
        if found.whose is Whose.UNREADABLE:
            return self._without_bytes(wanted, origin, found)
        return self._whole_one(origin, entry.fullUrl, found)

    def _whole_one(self, origin: str, full_url: str | None, found: Judged) -> StoredResource | None:
        # Of two versions of one record both go on: which is the newer is not for the order to say.
        copy = f"{found.reference} {found.version}"
        if copy in self._copies:
            return None
        self._copies.add(copy)
        self._names.add(found.reference)
        self.by_type[found.type] += 1
        self._linked.update(references(found.seen, self.base))
        return StoredResource(origin, full_url, found.reference, found.version, found.raw)

    def _damaged(self, origin: str, raw: bytes) -> StoredResource | None:
        """The patient's own record, without what cannot be read of it: a name closes no chart."""
        rest = mended(raw)
        if rest is None:
            return None
        self._notices.add(Notice(NoticeKind.DAMAGED, "Patient"))
        entry = Entry(Raw(rest))
        return self._whole_one(origin, None, judged(entry, "Patient", self.patient, self.base))

    def _without_bytes(self, wanted: Search, origin: str, found: Judged) -> StoredResource | None:
        """A record that is listed and not read, and what may be missing with it."""
        # Apart, so that one that cannot be read never hides its good copy.
        copy = f"unreadable {found.reference}"
        searched = (wanted.start, wanted.end)
        if copy not in self._missed:
            self._missed[copy] = searched, self._missing_with(wanted.type, found, searched)
            return StoredResource(origin, None, found.reference, found.version, b"")
        if self._missed[copy][0] != searched:
            # A server that shows it under the days of several searches does not know its day either.
            self._missed[copy] = searched, self._missing_with(wanted.type, found, (None, None))
        return None

    def _missing_with(self, type_: str, found: Judged, within: Days) -> list[Missing]:
        """What may be missing with a record that cannot be read, or that names nobody: the same as where it
        came in a file."""
        if found.broken is not None:
            missing = missing_of(found.broken, type_, self._terminology, self._clock, within)
            return [] if missing is None else [missing]
        intake = Intake(self._terminology, self._clock, self.base)
        intake.add(found.raw, None, found.reference, hint=lambda: type_, within=within)
        return intake.missing(f"Patient/{self.patient}")


def _single(body: bytes) -> Entry:
    """A resource that was read by its id."""
    try:
        return Entry(Raw(weighed(body)))
    except Unreadable as reason:
        return Entry(Raw(body), problem=str(reason))


def _time_of(response: Response) -> datetime | None:
    """What the server's own clock showed, where it says so."""
    try:
        moment = parsedate_to_datetime(response.headers.get("date", ""))
    except (TypeError, ValueError, OverflowError):
        return None
    return moment if moment.tzinfo is not None else None


def _out_of_order(response: Response) -> bool:
    """An answer that says nothing of what was asked: the server has a fault, or too much to do."""
    return (response.status >= 500 and response.status not in NOT_ALLOWED) or response.status == 429


def _unanswered(type_: str, error: HttpError) -> Notice:
    """No answer that could be used."""
    if error.problem is HttpProblem.TOO_LARGE:
        return Notice(NoticeKind.CUT_OFF, type_, "a page is larger than this app reads at once")
    return Notice(NoticeKind.NOT_ANSWERED, type_, error.sentence)


def _lost_page(error: HttpError) -> str:
    if error.problem is HttpProblem.FOREIGN_URL:
        return "the next page lies on another server"
    if error.problem is HttpProblem.TOO_LARGE:
        return "a page is larger than this app reads at once"
    return f"the next page did not come: {error.sentence}"


def _without_type(wanted: Search, detail: str) -> str:
    """ "category-or-code: detail", of the name of a search."""
    label = wanted.name.removeprefix(f"{wanted.type} ").rsplit(" ", 1)[0]
    return f"{label}: {detail}" if detail else label
