"""Reads one patient's chart: what `needs` asks for, in the searches this EHR allows.

Prior charges come first, because they say from which day on the rest is needed. Then everything else in
parallel, Observations in slices of time. Nothing is dropped in silence: what the EHR refused, what was cut
off and what belongs to somebody else is in the reading's notices.
"""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from datetime import date, timedelta
from enum import StrEnum
from functools import partial

import msgspec
from msgspec import Raw

from fhir_mappings.identity import made_up_name
from fhir_mappings.needs import Needs
from launch.errors import HttpError, HttpProblem
from launch.http import MEGABYTE, Limits, Response
from launch.profiles import DateBounds
from launch.scopes import Interaction, Scopes
from launch.tokens import SessionClient
from smartapp.ehr.fhir import (
    Entry,
    NotAPage,
    look,
    outcome_text,
    read_target,
    references,
    search,
    search_page,
    version_of,
)
from smartapp.ehr.outside import Unreadable, weighed
from smartapp.ehr.subjects import Whose
from smartapp.store.reading import Progress, SealedChunk, StoredResource

SLICES = 8
SLICES_BY_CATEGORY = 2
MOST_READS_BY_ID = 200
READ_LIMITS = Limits(connect=5.0, read=20.0, total=90.0, max_bytes=16 * MEGABYTE)
"""A page of two hundred resources is below one megabyte; four pages are under way at a time."""
NOT_ALLOWED = frozenset({401, 403, 404, 405, 410, 501})
NOT_UNDERSTOOD = frozenset({400, 422})

READ_FIRST = frozenset({"Patient", "ChargeItem"})

LINKED = ("Device", "DeviceMetric", "Practitioner", "PractitionerRole")
"""Read by id where a reading or an encounter points to one that no search brought."""


class NoticeKind(StrEnum):
    NOT_GRANTED = "not-granted"
    REFUSED = "refused"
    MISSING = "missing"
    """A single record that something points to could not be read; the type itself could."""
    CUT_OFF = "cut-off"
    FOREIGN = "foreign"
    SERVER_SAYS = "server-says"


class Notice(msgspec.Struct, frozen=True, order=True):
    """Something about the reading a clinician or an administrator must know."""

    kind: NoticeKind
    what: str
    """A resource type."""
    detail: str = ""
    count: int = 0


_MAY_BE_MISSING = frozenset({NoticeKind.NOT_GRANTED, NoticeKind.REFUSED, NoticeKind.CUT_OFF})


def unread_of(notices: Iterable[Notice]) -> frozenset[str]:
    """Types of which something may be missing, as the notices of a reading tell them.

    Another patient's charge among this one's makes all charges doubtful: what a server that does not look at
    `patient` leaves out, nobody knows, and a charge that is missed is charged twice.
    """
    return frozenset(
        notice.what
        for notice in notices
        if notice.kind in _MAY_BE_MISSING
        or (notice.kind is NoticeKind.FOREIGN and notice.what == "ChargeItem")
    )


class ReadingStopped(Exception):
    """Somebody else does this job now, or the session ended."""


class ReadingFailed(Exception):
    """The chart could not be read to an end; `reason` is a short constant."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


@dataclass(frozen=True, slots=True)
class Search:
    """One search, with other ways to ask the same should the server not understand the first."""

    type: str
    name: str
    """Unique within a reading: the origin of what it finds."""
    ways: tuple[tuple[tuple[str, str], ...], ...]


def date_slices(start: date, end: date, count: int) -> tuple[tuple[date, date | None], ...]:
    """At most `count` half-open slices that cover [start, end], the last one without an end.

    A server reads the boundary day the same way in both slices it bounds, so none falls between them.
    """
    days = max(1, (end - start).days + 1)
    count = min(count, days)
    edges = [start + timedelta(days=days * position // count) for position in range(count)]
    return tuple(zip(edges, [*edges[1:], None], strict=True))


class ChartReading:
    """One reading under way. `sink` gets every resource once; it is called by one thread at a time.

    What it may not or cannot give is handed on as a `StoredResource` without bytes, so that it is listed.
    `seconds`: how long all of it may take.
    """

    def __init__(
        self,
        client: SessionClient,
        scopes: Scopes,
        patient: str,
        user: str | None = None,
        *,
        page_limit: int,
        byte_limit: int,
        seal: Callable[[str, list[StoredResource]], SealedChunk],
        tick: Callable[[Progress], bool],
        tick_seconds: float,
        seconds: float = math.inf,
    ) -> None:
        self.client = client
        self.scopes = scopes
        self.patient = patient
        self.chunks: list[SealedChunk] = []
        self.notices: set[Notice] = set()
        self.resources = 0
        self._profile = client.issuer.profile
        self._page_limit = page_limit
        self._bytes_left = byte_limit
        self._seal = seal
        self._tick = tick
        self._tick_seconds = tick_seconds
        self._deadline = time.monotonic() + seconds
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._seen: set[str] = set()
        self._user = user
        self._linked: set[str] = {user} if user and user.split("/", 1)[0] in LINKED else set()
        """Type/id of what may have to be read by itself; the signed-in user first, for the name."""
        self._foreign = Counter[str]()
        """Dropped as another patient's, by type."""
        self._unreadable = Counter[tuple[str, str]]()
        """What cannot be read, by type and reason."""
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
                work += map(self._task, self._observation_searches(needs))
            elif need.dated:
                work += map(self._task, self._dated_searches(need.type, needs.search_start))
            elif need.type not in READ_FIRST:
                work += self._whole(need.type)
        self._steps = self._steps_done + len(work)
        self._run(work)
        for _ in range(2):  # a DeviceMetric leads to its Device
            missing = sorted(reference for reference in self._linked if reference not in self._seen)
            self._linked.clear()
            self._read_linked(missing)
        self._read_roles_of_user()

    def finish_notices(self) -> tuple[Notice, ...]:
        found = {Notice(NoticeKind.FOREIGN, type_, count=number) for type_, number in self._foreign.items()}
        found |= {
            Notice(NoticeKind.CUT_OFF, type_, f"an entry that is {why}", number)
            for (type_, why), number in self._unreadable.items()
        }
        return tuple(sorted(self.notices | found))

    @property
    def base(self) -> str:
        """The FHIR base URL."""
        return self.client.issuer.fhir_base

    @property
    def unread(self) -> frozenset[str]:
        """Types of which something may be missing."""
        return unread_of(self.finish_notices())

    def _may(self, type_: str, interaction: Interaction) -> bool:
        if self.scopes.can(type_, interaction):
            return True
        self.notices.add(Notice(NoticeKind.NOT_GRANTED, type_))
        return False

    def _whole(self, type_: str) -> list[Callable[[], None]]:
        """All of the patient's resources of a type."""
        if not self._may(type_, Interaction.SEARCH):
            return []
        return [self._task(Search(type_, type_, self._by_patient()))]

    def _by_patient(self, *more: tuple[str, str]) -> tuple[tuple[tuple[str, str], ...], ...]:
        count = ("_count", str(self._profile.page_size))
        return (
            (("patient", self.patient), *more, count),
            (("subject", f"Patient/{self.patient}"), *more, count),
        )

    def _observation_searches(self, needs: Needs) -> list[Search]:
        if not self._may("Observation", Interaction.SEARCH):
            return []
        categories: tuple[str | None, ...] = (None,)
        if self._profile.observation_needs_category:
            categories = self._profile.observation_categories
        start = needs.search_start
        slices = date_slices(start, needs.search_end, SLICES if categories == (None,) else SLICES_BY_CATEGORY)
        if self._profile.date_bounds is DateBounds.SINGLE:
            slices = ((start, None),)
        searches = []
        for category in categories:
            for position, (begin, end) in enumerate(slices):
                more = [] if category is None else [("category", category)]
                more.append(("date", f"ge{begin.isoformat()}"))
                if end is not None:
                    more.append(("date", f"lt{end.isoformat()}"))
                name = f"Observation {category or 'all'} {position:02}"
                searches.append(Search("Observation", name, self._by_patient(*more)))
        return searches

    def _dated_searches(self, type_: str, start: date) -> list[Search]:
        if not self._may(type_, Interaction.SEARCH):
            return []
        dated = self._by_patient(("date", f"ge{start.isoformat()}"))
        return [Search(type_, type_, (*dated, *self._by_patient()))]

    def _read_linked(self, wanted: list[str]) -> None:
        work: list[Callable[[], None]] = []
        for reference in wanted[:MOST_READS_BY_ID]:
            type_ = reference.split("/", 1)[0]
            if type_ in LINKED and self._may(type_, Interaction.READ):
                work.append(partial(self._read, reference))
        if len(wanted) > MOST_READS_BY_ID:
            self.notices.add(Notice(NoticeKind.CUT_OFF, "Device", "too many different devices and people"))
        self._steps += len(work)
        self._run(work)

    def _read_roles_of_user(self) -> None:
        """In which roles the signed-in user works. Without an answer the role stays unknown, which the page
        says where it matters; no charge depends on it."""
        may = self.scopes.can("PractitionerRole", Interaction.SEARCH)
        if self._user is None or not self._user.startswith("Practitioner/") or not may:
            return
        parameters = (("practitioner", self._user.split("/", 1)[1]),)
        try:
            response = self._first_page("PractitionerRole", parameters, strict=False)
            page = search_page(response.body) if response.ok else None
        except (HttpError, ReadingFailed, NotAPage):
            return
        if page is not None:
            self._keep(
                "PractitionerRole", "roles of the user", self._matches("PractitionerRole", page.entries)
            )

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
        """One resource by its id. Its absence is a notice; the patient's own ends the reading."""
        type_ = reference.split("/", 1)[0]
        try:
            response = self._get(read_target(reference))
        except HttpError as error:
            if type_ == "Patient" or error.problem is not HttpProblem.TOO_LARGE:
                raise
            self.notices.add(Notice(NoticeKind.MISSING, type_, reference))
            return
        if response.ok:
            self._keep(type_, reference, [_single(response.body)])
        elif type_ != "Patient":
            self.notices.add(Notice(NoticeKind.MISSING, type_, reference))
        if type_ == "Patient" and reference not in self._seen:
            raise ReadingFailed("patient-refused")

    def _search(self, wanted: Search) -> None:
        """Every page of one search; on 400 without strict handling, then the other ways to ask."""
        try:
            response = self._first_answer(wanted)
            if response.ok:
                self._pages(wanted, response)
                return
        except HttpError as error:
            if error.problem is not HttpProblem.TOO_LARGE:
                raise
            self.notices.add(
                Notice(NoticeKind.CUT_OFF, wanted.type, "a page is larger than this app reads at once")
            )
            return
        said = outcome_text(response.body)
        self.notices.add(Notice(NoticeKind.REFUSED, wanted.type, f"{response.status} {said}".strip()))

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
                self.notices.add(Notice(NoticeKind.REFUSED, wanted.type, outcome_text(response.body)))
                return
            self._keep(
                wanted.type, f"{wanted.name} page {number:04}", self._matches(wanted.type, page.entries)
            )
            if page.cut_off:
                self.notices.add(Notice(NoticeKind.CUT_OFF, wanted.type, page.cut_off))
            following = page.next_url
            if following is None:
                return
            if following in visited:
                self.notices.add(Notice(NoticeKind.CUT_OFF, wanted.type, "the EHR's pages lead in a circle"))
                return
            visited.add(following)
            if self._bytes_left <= 0:
                self.notices.add(
                    Notice(NoticeKind.CUT_OFF, wanted.type, "more data than this app reads at once")
                )
                return
            try:
                response = self._get(following)
            except HttpError as error:
                if error.problem is not HttpProblem.FOREIGN_URL:
                    raise
                self.notices.add(
                    Notice(NoticeKind.CUT_OFF, wanted.type, "the next page lies on another server")
                )
                return
            if not response.ok:
                # A page that got lost may hold anything: better no answer than half of one.
                raise ReadingFailed("page-refused")
        self.notices.add(Notice(NoticeKind.CUT_OFF, wanted.type, "more pages than this app reads at once"))

    def _first_page(self, type_: str, parameters: Iterable[tuple[str, str]], *, strict: bool) -> Response:
        headers = {"Prefer": "handling=strict"} if strict else {}
        limits = self._limits()
        return self._received(search(self.client, type_, parameters, headers=headers, limits=limits))

    def _get(self, target: str) -> Response:
        return self._received(self.client.fhir("GET", target, headers={}, limits=self._limits()))

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

    def _received(self, response: Response) -> Response:
        if (response.status >= 500 and response.status not in NOT_ALLOWED) or response.status == 429:
            raise ReadingFailed("ehr-unavailable")
        with self._lock:
            self._bytes_left -= len(response.body)
        return response

    def _matches(self, type_: str, entries: Iterable[Entry]) -> list[Entry]:
        """The resources a search found. What the server says beside them becomes a notice."""
        found: list[Entry] = []
        for entry in entries:
            if bytes(entry.resource) in (b"", b"null"):
                continue
            if entry.search is not None and entry.search.mode == "outcome":
                if said := outcome_text(bytes(entry.resource)):
                    self.notices.add(Notice(NoticeKind.SERVER_SAYS, type_, said))
                continue
            found.append(entry)
        return found

    def _keep(self, type_: str, origin: str, found: list[Entry]) -> None:
        """Hand each resource on once."""
        fresh: list[StoredResource] = []
        with self._lock:
            for entry in found:
                resource = self._judged(type_, origin, entry)
                if resource is not None:
                    fresh.append(resource)
                    self._sink(resource)
            self.resources += len(fresh)
        if fresh:
            # Compressing and encrypting needs no lock: the other threads decode meanwhile.
            chunk = self._seal(origin, fresh)
            with self._lock:
                self.chunks.append(chunk)

    def _judged(self, type_: str, origin: str, entry: Entry) -> StoredResource | None:
        """A resource as it is handed on; None where it was already, or is another patient's and dropped.

        What cannot be read, or names no patient although it must, is handed on without its bytes.
        """
        raw = bytes(entry.resource)
        seen = look(raw)
        whose = seen.whose(self.patient, self.base)
        if whose is Whose.FOREIGN:
            self._foreign[seen.resourceType] += 1
            return None
        if seen.resourceType == "OperationOutcome":
            if said := outcome_text(raw):
                self.notices.add(Notice(NoticeKind.SERVER_SAYS, type_, said))
            return None
        problem = entry.problem or ("" if seen.resourceType else "no resource")
        whole = not problem and whose is not Whose.UNREADABLE
        reference = seen.reference or made_up_name(seen.resourceType or type_, raw)
        # Apart, so that one that cannot be read never hides its good copy.
        name = reference if whole else f"unreadable {reference}"
        if name in self._seen:
            return None
        self._seen.add(name)
        version = version_of(seen, raw)
        if not whole:
            if problem or seen.resourceType == "ChargeItem":
                self._unreadable[type_, problem or "without a patient that can be read"] += 1
            return StoredResource(origin, None, reference, version, b"")
        self.by_type[seen.resourceType] += 1
        self._linked.update(references(seen, self.base))
        return StoredResource(origin, entry.fullUrl, reference, version, raw)


def _single(body: bytes) -> Entry:
    """A resource that was read by its id."""
    try:
        return Entry(Raw(weighed(body)))
    except Unreadable as reason:
        return Entry(Raw(body), problem=str(reason))
