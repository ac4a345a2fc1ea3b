"""Reads one patient's chart: what `needs` asks for, in the searches this EHR allows.

Everything is asked for at once, from the oldest day that may be needed; prior charges say from which day on
it is. Readings that fill many pages are read from that day on in parts, at the same time. People and devices
that something points to come last, many in one search where the server takes that. Nothing is dropped in
silence: what the EHR refused, what was cut off, what cannot be read and what belongs to somebody else is in
the reading's notices. Only the patient's own record is indispensable: whatever else does not come is told,
and decided on as missing.
"""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from functools import partial

import msgspec

from fhir_mappings.local_time import LocalClock
from fhir_mappings.needs import Needs
from fhir_mappings.terminology import Terminology
from launch.errors import HttpError
from launch.http import Response
from launch.limiter import Pause, Turn
from launch.scopes import Interaction, Scopes
from launch.tokens import SessionClient
from smartapp.ehr.reading.answers import CLOSES, lost_page, pages_left, trouble_of, unanswered
from smartapp.ehr.reading.collected import Collected, single
from smartapp.ehr.reading.fetch import NOT_UNDERSTOOD, Fetch, ReadingFailed
from smartapp.ehr.reading.findings import READ_FIRST
from smartapp.ehr.reading.linked import LINKED, Asking, LinkedRecords
from smartapp.ehr.reading.notices import Notice, NoticeKind
from smartapp.ehr.reading.pages import Pages
from smartapp.ehr.reading.searches import BATCH, Learned, Search, Searches
from smartapp.ehr.reading.shared import SharedRecords
from smartapp.ehr.reading.still_there import GONE, StillThere
from smartapp.ehr.reading.work import Work
from smartapp.ehr.wire.bundles import (
    Entry,
    NotAPage,
    declared,
    outcome_text,
    read_target,
    search_page,
    search_target,
)
from smartapp.ehr.wire.looks import Reading
from smartapp.store.reading import Progress, SealedChunk, StoredResource

_NOT_BY_DATE = NOT_UNDERSTOOD | {403}
"""How a server answers that takes no search of readings without a category or a code."""


class SinceNotKnown(Exception):
    """The server does not search by what changed since a moment, or nobody can tell whether it does."""


class ChartReading:
    """One reading under way. `sink` gets every resource once; it is called by one thread at a time.

    What it may not or cannot give is handed on as a `StoredResource` without bytes, so that it is listed.
    `asked`: the scopes that were asked for, where they are known: what nobody asked for is not missing.
    `seconds`: how long all of it may take. `turn`: who waits for it. `since`: of Observations only what came
    or changed since then is wanted (`SinceNotKnown` is raised where the server cannot tell); everything else
    is read whole. `linked`: what an earlier reading had to read by its id.
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
        pages: Pages,
        tick: Callable[[Progress], bool],
        tick_seconds: float,
        seconds: float = math.inf,
        turn: Turn = Turn.PRESSED,
        since: datetime | None = None,
        linked: Iterable[str] = (),
        learned: Learned | None = None,
        batch: bool = False,
        shared: SharedRecords | None = None,
    ) -> None:
        self.patient = patient
        self.pages = pages
        self.base = client.issuer.fhir_base
        self._since = since
        self._scopes = scopes
        self._asked = asked
        self._issuer = client.issuer
        self._learned = learned or Learned()
        self._profile = self._learned.profile_of(client.issuer)
        self._searches = [Searches(self._profile, patient)]
        """Those of the patient, and of each earlier id of theirs."""
        self._page_limit = page_limit
        self._fetch = Fetch(client, byte_limit, seconds, turn)
        self._collected = Collected(patient, client.issuer.bases, terminology, clock, pages.seal)
        # The signed-in user too, for the name.
        self._collected.pointers.update(
            name for name in (user, *linked) if name and name.split("/", 1)[0] in LINKED
        )
        self._lock = threading.Lock()
        self._assumed: Needs | None = None
        """What was asked for before it was known what is needed."""
        self.gone: set[str] = set()
        """Of `known`, what is not there any more."""
        self._long: list[tuple[Search, int]] = []
        """Searches whose other pages are read in parts, and about how many they are."""
        self._batch = batch
        self._work = Work(self._fetch, self._collected, client.issuer.max_parallel, tick, tick_seconds)
        self._linked = LinkedRecords(
            Asking(
                client.issuer,
                patient,
                scopes,
                self._learned,
                self._may,
                self._read,
                self._work.later,
                self._task,
            ),
            self._fetch,
            self._collected,
            shared,
        )
        self._not_by_date: list[tuple[Search, Response]] = []
        """Searches of Observations that the server does not take without a category or code."""

    @property
    def chunks(self) -> list[SealedChunk]:
        return self._collected.chunks

    @property
    def resources(self) -> int:
        return self._collected.resources

    @property
    def by_type(self) -> Counter[str]:
        return self._collected.by_type

    @property
    def server_time(self) -> datetime | None:
        """What the server's own clock showed when it first answered."""
        return self._fetch.server_time

    @property
    def pause(self) -> Pause | None:
        """Why nothing is asked for now, and for how long; None where it is."""
        return self._fetch.client.pause

    def notices(self) -> tuple[Notice, ...]:
        """Everything there is to tell of this reading."""
        return self._collected.notices()

    def readings_go_to(self, sink: Callable[[StoredResource, Reading], None]) -> None:
        """From now on Observations that are plainly the patient's are handed on here, decoded."""
        self._collected.reading_sink = sink

    # What to read

    def read_first(
        self,
        sink: Callable[[StoredResource], None],
        beside: Iterable[Callable[[], None]] = (),
        *,
        assumed: Needs | None = None,
        known: Mapping[str, str] | None = None,
    ) -> None:
        """The patient, every ChargeItem of theirs, and what is `assumed` to be needed beside: no more than a
        few pages of it. `beside`: what else is asked at the same time. `known`: see `check`."""
        self._collected.sink = sink
        self._collected.hold()
        searches = self._whole("ChargeItem", self._searches)
        self._assumed = assumed
        if assumed is not None:
            searches += self._all_of(assumed, self._searches)
        still_there = StillThere(self._fetch, self._collected, self.patient, known or {})
        batches = list(still_there.batches())
        # About what follows is counted in advance, so that the progress shown never runs backwards.
        self._work.steps = len(searches) + 12
        self._ask_together(searches, still_there, batches)
        self._work.run(
            [
                partial(self._read, f"Patient/{self.patient}"),
                *map(self._task, searches),
                *(partial(still_there.look_for, names) for names in batches),
                *beside,
            ]
        )
        self._read_earlier()
        self._collected.settle()
        gone = {name: version for name, version in (known or {}).items() if name in still_there.gone}
        if gone and self._collected.earlier:
            self.check(gone, sink)  # it may stand under an id that was not known for the patient's
        else:
            self.gone |= gone.keys()

    def _read_earlier(self) -> None:
        """What the record says to stand for, to the end of the chain: from now on records under these ids are
        asked for and taken as this patient's (D30). What does not come of them is missing like any other."""
        known = {self.patient}
        while found := sorted(self._collected.replaces - known):
            known.update(found)
            earlier = [
                Searches(self._profile, old, f" earlier {len(self._searches) + number}")
                for number, old in enumerate(found)
            ]
            self._collected.earlier += found
            self._searches += earlier
            self._work.run(
                [
                    *(partial(self._read, f"Patient/{old}") for old in found),
                    *map(self._task, self._whole("ChargeItem", earlier)),
                ]
            )

    def read_rest(self, needs: Needs, sink: Callable[[StoredResource], None]) -> None:
        """Everything else that is needed, and what it points to."""
        self._collected.sink = sink
        work = list(map(self._task, self._not_asked_for(needs)))
        self._work.steps = self._work.done + len(work)
        self._work.run(work)
        self._read_by_code(needs)
        self._read_in_parts(needs)
        for _ in range(2):  # a DeviceMetric leads to its Device
            self._read_linked()

    def _not_asked_for(self, needs: Needs) -> list[Search]:
        if self._assumed is None:
            return self._all_of(needs, self._searches)
        searches = self._all_of(needs, self._searches[1:])
        asked = {need.type for need in self._assumed.types}
        more = tuple(need for need in needs.types if need.type not in asked)
        searches += self._all_of(msgspec.structs.replace(needs, types=more), self._searches[:1])
        if needs.start < self._assumed.start:
            own = self._searches[0]
            for need in needs.types:
                if not need.dated or not self._may(need.type, Interaction.SEARCH):
                    continue
                if need.type == "Observation":
                    searches += own.observations_before(needs, self._assumed.search_start)
                else:
                    searches.append(own.dated(need.type, needs.search_start, " before"))
        return searches

    def _all_of(self, needs: Needs, searches: Iterable[Searches]) -> list[Search]:
        """Every search for what is needed, but for what is read first."""
        found: list[Search] = []
        each = list(searches)
        for need in needs.types if each else ():
            if need.type in READ_FIRST or not self._may(need.type, Interaction.SEARCH):
                continue
            if need.type == "Observation":
                found += self._observations(needs, each)
            elif need.dated:
                found += [one.dated(need.type, needs.search_start) for one in each]
            else:
                found += [one.whole(need.type) for one in each]
        return found

    def _ask_together(
        self, searches: list[Search], still_there: StillThere, batches: list[list[str]]
    ) -> None:
        """Where the server declares batches: all of these in one request. What does not come of it is asked
        for by itself."""
        if not self._batch or not self._learned.takes_lists(self._issuer, BATCH):
            return
        targets = [search_target(one.type, one.ways[0]) for one in searches]
        targets += [search_target(*still_there.search_for(names)) for names in batches]
        if not self._fetch.together([read_target(f"Patient/{self.patient}"), *targets]):
            self._learned.refused_a_list(self._issuer, BATCH)

    def _observations(self, needs: Needs, searches: list[Searches]) -> list[Search]:
        if self._since is None:
            return [search for one in searches for search in one.observations(needs)]
        since = self._since
        changed = [search for one in searches for search in one.changed_observations(needs, since)]
        if not changed:
            raise SinceNotKnown
        return changed

    def _knows_since(self) -> bool:
        """Does the server declare that it searches Observations by `_lastUpdated`?

        One that passes over what it does not know gives too much, which does no harm; one that takes it for
        something else would give too little.
        """
        try:
            response = self._fetch.get("metadata")
        except HttpError:
            return False
        return response.ok and "_lastUpdated" in declared(response.body, "Observation").parameters

    def read_types(self, types: Iterable[str], sink: Callable[[StoredResource], None]) -> None:
        """All of the patient's resources of these types, and nothing else."""
        self._collected.sink = sink
        searches = [search for type_ in types for search in self._whole(type_, self._searches)]
        self._work.steps = len(searches)
        self._work.run(list(map(self._task, searches)))

    def check(self, known: Mapping[str, str], sink: Callable[[StoredResource], None]) -> None:
        """Which of these records (reference -> version) are `gone`. One that changed is handed on as it is
        now. Raises ReadingFailed where that cannot be told."""
        self._collected.sink = sink
        asking = StillThere(self._fetch, self._collected, self.patient, known)
        self._work.run([partial(asking.look_for, names) for names in asking.batches()])
        self.gone |= asking.gone

    def _may(self, type_: str, interaction: Interaction) -> bool:
        if self._scopes.can(type_, interaction):
            return True
        if self._asked is None or self._asked.can(type_, interaction):
            self._collected.add(Notice(NoticeKind.NOT_GRANTED, type_))
        return False

    def _whole(self, type_: str, searches: Iterable[Searches]) -> list[Search]:
        """All of the patient's resources of a type."""
        return [one.whole(type_) for one in searches if self._may(type_, Interaction.SEARCH)]

    def _read_by_code(self, needs: Needs) -> None:
        """Where the server did not take a search by date alone: every coding that can count, by itself."""
        refused, self._not_by_date = self._not_by_date, []
        by_code = [
            search
            for one in self._searches
            for search in (one.by_code_and_category(needs) if refused and needs.codings else [])
        ]
        for wanted, response in refused:
            self._tell_refused(replace(wanted, beside=bool(by_code)), response)
        self._work.steps += len(by_code)
        self._work.run(list(map(self._task, by_code)))

    def _read_in_parts(self, needs: Needs) -> None:
        """Readings that fill more pages than are read one after the other."""
        long, self._long = self._long, []
        work = [
            self._task(part)
            for search, pages in long
            if search.parts is not None
            for part in search.parts(search, needs, pages)
        ]
        self._work.steps += len(work)
        self._work.run(work)

    def _read_linked(self) -> None:
        """What something points to and no search brought, and the roles of the people."""
        work = self._linked.work(self._searches[0])
        self._work.steps += len(work)
        self._work.run(work)

    # Doing it

    def _task(self, wanted: Search) -> Callable[[], None]:
        return partial(self._search, wanted)

    def _read(self, reference: str) -> None:
        """One resource by its id. What does not come is a notice; the patient's own ends the reading."""
        type_ = reference.split("/", 1)[0]
        own = reference == f"Patient/{self.patient}"
        if self._fetch.silent and not own:
            self._collected.add(Notice(NoticeKind.NOT_SEARCHED, type_))
            return
        try:
            response = self._fetch.get(read_target(reference))
        except HttpError as error:
            if own:
                raise
            self._collected.add(unanswered(type_, error))
            return
        trouble = trouble_of(response)
        if own and trouble is not None:
            raise ReadingFailed(CLOSES[trouble])
        if trouble is NoticeKind.WEB_PAGE:
            self._collected.add(Notice(trouble, type_))
        elif response.ok:
            self._linked.taken(reference, reference, [single(response.body)])
        elif response.status in GONE:
            self._collected.add(Notice(NoticeKind.MISSING, type_, reference))
        else:
            said = outcome_text(response.body)
            self._collected.add(Notice(trouble or NoticeKind.REFUSED, type_, str(response.status), said=said))
        if own and reference not in self._collected.names:
            raise ReadingFailed("patient-refused")

    def _search(self, wanted: Search) -> None:
        """Every page of one search; on 400 without strict handling, then the other ways to ask."""
        if wanted.by_date_alone and self._not_by_date:
            self._put_off(wanted, self._not_by_date[0][1])
            return
        if self._fetch.silent:
            self._collected.tell(wanted, NoticeKind.NOT_SEARCHED)
            return
        try:
            response = self._fetch.first_answer(wanted)
        except HttpError as error:
            told = unanswered(wanted.type, error)
            self._collected.tell(wanted, told.kind, told.detail)
            return
        if response.ok:
            self._pages(wanted, response)
        elif wanted.since and response.status in NOT_UNDERSTOOD:
            raise SinceNotKnown
        elif wanted.by_date_alone and response.status in _NOT_BY_DATE:
            self._put_off(wanted, response)
        else:
            self._tell_refused(wanted, response)

    def _put_off(self, wanted: Search, response: Response) -> None:
        """The server takes no search by date alone: other ways are tried when all of these have ended."""
        if response.status in NOT_UNDERSTOOD:
            self._learned.refused_by_date_alone(self._issuer)
        with self._lock:
            self._not_by_date.append((wanted, response))

    def _tell_refused(self, wanted: Search, response: Response) -> None:
        kind = trouble_of(response) or NoticeKind.REFUSED
        self._collected.tell(wanted, kind, str(response.status), outcome_text(response.body))

    def _pages(self, wanted: Search, response: Response) -> None:
        visited: set[str] = set()
        total, counted, of_others = None, 0, False
        found: list[Entry] | None = [] if wanted.people else None
        for number in range(1, self._page_limit + 1):
            try:
                page = search_page(response.body)
            except NotAPage:
                said = outcome_text(response.body)
                if trouble_of(response) is NoticeKind.WEB_PAGE:
                    self._collected.tell(wanted, NoticeKind.WEB_PAGE)
                else:
                    detail = "an answer that is no list of records"
                    self._collected.tell(wanted, NoticeKind.CUT_OFF, detail, said)
                return
            if wanted.since and number == 1 and not ("_lastUpdated" in page.self_url or self._knows_since()):
                raise SinceNotKnown
            others = self._collected.keep_page(wanted, f"{wanted.name} page {number:04}", page.entries)
            if page.cut_off:
                self._collected.tell(wanted, NoticeKind.CUT_OFF, page.cut_off)
            if number > 1 and others and not of_others:
                # What goes on elsewhere does not go on here.
                led_astray = "a further page holds records of another patient"
                self._collected.tell(wanted, NoticeKind.CUT_OFF, led_astray)
                return
            of_others |= others
            total = page.total if number == 1 else total
            counted += len(page.entries)
            if found is not None:
                found = None if page.cut_off else [*found, *page.entries]
            following = page.next_url
            if following is None:
                if total is not None and counted < total:
                    short = f"the EHR counts {total} and gave {counted}"
                    self._collected.tell(wanted, NoticeKind.CUT_OFF, short)
                else:
                    self._linked.share_roles(wanted.people, found)
                return
            if wanted.parts is not None and (pages := pages_left(page, number)):
                with self._lock:
                    self._long.append((wanted, pages))
                return
            if following in visited:
                self._collected.tell(wanted, NoticeKind.CUT_OFF, "the EHR's pages lead in a circle")
                return
            visited.add(following)
            if self._fetch.full:
                self._collected.tell(wanted, NoticeKind.CUT_OFF, "more data than this app reads at once")
                return
            try:
                response = self._fetch.get(following, further=True)
            except HttpError as error:
                self._collected.tell(wanted, NoticeKind.CUT_OFF, lost_page(error))
                return
            if not response.ok:
                lost = f"the EHR did not give the next page ({response.status})"
                self._collected.tell(wanted, NoticeKind.CUT_OFF, lost, outcome_text(response.body))
                return
        self._collected.tell(wanted, NoticeKind.CUT_OFF, "more pages than this app reads at once")
