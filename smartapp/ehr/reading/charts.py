"""How a chart is read and decided on in a session: the same way the first time and whenever it is looked at
again."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import date, datetime

from fhir_mappings.local_time import clock_of
from launch.limiter import Turn
from launch.ports import Clock, LaunchSession
from launch.scopes import Scopes
from launch.tokens import SessionClient
from smartapp.configuration.settings import Settings
from smartapp.configuration.site import Site
from smartapp.ehr.reading.fetch import ReadingFailed
from smartapp.ehr.reading.findings import (
    FORM_TYPES,
    READ_FIRST,
    Findings,
    FindingsMaker,
    ForTheForm,
    Writes,
    for_the_form,
    writes_of,
)
from smartapp.ehr.reading.gone_charges import find_gone_charges
from smartapp.ehr.reading.notices import Notice
from smartapp.ehr.reading.own_record import ORIGIN, OwnRecord
from smartapp.ehr.reading.pages import Pages, Room
from smartapp.ehr.reading.reader import ChartReading
from smartapp.ehr.reading.searches import Learned
from smartapp.ehr.reading.shared import SharedRecords
from smartapp.ehr.wire.capability import Capabilities
from smartapp.ehr.wire.looks import look, references
from smartapp.store import Store
from smartapp.store.charges import Enrolment
from smartapp.store.reading import Progress, SealedChunk, StoredResource

MEGABYTE = 1024 * 1024
FORM_SECONDS = 30.0
"""How long somebody waits for the form of a charge."""


class Charts:
    """Makes readings and what decides on them, for one session at a time."""

    def __init__(
        self,
        settings: Settings,
        site: Site,
        store: Store,
        clock: Clock,
        client_of: Callable[[LaunchSession], SessionClient],
        capabilities: Capabilities,
        first_to_do: Callable[[str, str], date | None] = lambda _issuer_id, _patient: None,
    ) -> None:
        """`first_to_do`: of an EHR and a patient, from which day on somebody was told there is something to
        see to; a chart is read at least as far back."""
        self._settings = settings
        self._first_to_do = first_to_do
        self._site = site
        self._store = store
        self._clock = clock
        self._client_of = client_of
        self._capabilities = capabilities
        self._learned = Learned()
        self._room = Room()
        self._shared = SharedRecords(store.reading.seal_chunk, store.reading.open_chunk)

    def today(self) -> date:
        """The site's day."""
        return self._site.today(self._clock.now())

    def reading(
        self,
        session: LaunchSession,
        *,
        tick: Callable[[Progress], bool] = lambda _: True,
        seconds: float,
        turn: Turn = Turn.PRESSED,
        since: datetime | None = None,
        linked: Iterable[str] = (),
        batch: bool = False,
    ) -> ChartReading:
        """A reading of the session's patient; `batch`: in as few requests as the server declares to take,
        though none is answered before all are. Raises ReadingFailed where there is none, and LaunchError."""
        if session.patient is None:
            raise ReadingFailed("no-patient")
        settings, client = self._settings, self._client_of(session)
        return ChartReading(
            client,
            Scopes.parse(session.granted_scope),
            session.patient,
            session.fhir_user,
            terminology=self._site.terminology,
            clock=clock_of(self._site.zone),
            asked=Scopes.parse(session.requested_scope),
            page_limit=settings.page_limit,
            byte_limit=settings.read_limit_mb * MEGABYTE,
            pages=Pages(self._store.reading, self._room),
            tick=tick,
            tick_seconds=settings.job_lease.total_seconds() / 4,
            seconds=seconds,
            turn=turn,
            since=since,
            linked=linked,
            learned=self._learned,
            batch=batch and self._capabilities.seen(client).batch,
            shared=self._shared,
        )

    def maker(
        self,
        session: LaunchSession,
        as_of: date,
        history_from: date | None = None,
        writes: Writes | None = None,
        anchors: Iterable[Enrolment] = (),
        back_to: date | None = None,
    ) -> FindingsMaker:
        """What decides on the session's patient, with all that is kept here of them now. `anchors`: days that
        nobody has confirmed yet, each in the place of its program's. `back_to`: as of `FindingsMaker`."""
        patient = session.patient or ""
        issuer = self._client_of(session).issuer
        with self._store.database.reading():
            confirmed = self._store.charges.enrolments(session.issuer_id, patient)
            own = OwnRecord.load(self._store, session.issuer_id, patient, self._site.zone)
            written = self._store.charges.written_keys(session.issuer_id, patient)
        return FindingsMaker(
            self._site,
            patient,
            issuer.fhir_base,
            as_of,
            self._settings.history_months,
            confirmed | {one.program: one for one in anchors},
            session.fhir_user,
            own=own,
            history_from=history_from,
            aliases=issuer.fhir_base_aliases,
            writes=writes,
            written=written,
            back_to=back_to,
        )

    def read(
        self, session: LaunchSession, reading: ChartReading, back_to: date | None = None
    ) -> tuple[Findings, list[SealedChunk]]:
        """The whole chart, decided on, and its pages. `back_to`: as of `FindingsMaker`."""
        back_to = back_to or self._first_to_do(session.issuer_id, session.patient or "")
        maker = self.maker(session, self.today(), back_to=back_to)
        reading.readings_go_to(maker.add_reading)
        with reading.pages.held():
            # Beside the first searches: whoever waits for an EHR that hangs is told how far it is.
            reading.read_first(
                maker.add_first, [lambda: maker.takes(self._writes(session))], assumed=maker.assumed()
            )
            reading.read_rest(maker.needs(), maker.add)
            chunks = [*reading.chunks, *self._own_pages(maker.add_own())]
            findings = maker.findings(
                reading.notices(),
                lambda: reading.pages.resources(chunks),
                server_time=reading.server_time,
            )
        return findings, chunks

    def find_gone_charges(self, session: LaunchSession, findings: Findings) -> None:
        """Withdraw what was written from here and the EHR took back, or deleted, since."""
        find_gone_charges(self._store, self._clock, self._client_of(session), session, findings)

    def for_the_form(self, session: LaunchSession) -> ForTheForm:
        """What only the form of a charge needs. What does not come is told. Raises ReadingFailed."""
        reading = self.reading(session, seconds=FORM_SECONDS)
        found: list[StoredResource] = []
        reading.read_types(FORM_TYPES, found.append)
        bases = self._client_of(session).issuer.bases
        return for_the_form(found, reading.notices(), reading.patient, bases)

    def decided(
        self,
        session: LaunchSession,
        resources: Iterable[StoredResource],
        notices: tuple[Notice, ...],
        history_from: date,
        server_time: datetime | None,
        writes: Writes | None,
        performer: str | None = None,
    ) -> tuple[Findings, list[SealedChunk]]:
        """The answer from these resources and what is kept here, and the page of the latter. `performer`: as
        of `FindingsMaker.findings`."""
        maker = self.maker(session, self.today(), history_from, writes)
        rest: list[StoredResource] = []
        for resource in resources:
            if resource.reference.split("/", 1)[0] in READ_FIRST:
                maker.add_first(resource)
            else:
                rest.append(resource)
        maker.needs()
        for resource in rest:
            maker.add(resource)
        own = maker.add_own()
        findings = maker.findings(
            notices, lambda: [*resources, *own], server_time=server_time, performer=performer
        )
        return findings, self._own_pages(own)

    def _writes(self, session: LaunchSession) -> Writes | None:
        """Known before any form is offered. Asked of the EHR by whoever reads from it, kept for an hour."""
        return writes_of(self._capabilities.seen(self._client_of(session)))

    def pointed_to(self, session: LaunchSession, resources: Iterable[StoredResource]) -> set[str]:
        """What these point to that may have to be read by its id."""
        bases = self._client_of(session).issuer.bases
        return {name for one in resources if one.raw for name in references(look(one.raw), bases)}

    def _own_pages(self, own: list[StoredResource]) -> list[SealedChunk]:
        """What is kept here, as the page of the snapshot that it makes."""
        return [self._store.reading.seal_chunk(ORIGIN, own)] if own else []
