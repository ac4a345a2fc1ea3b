"""Reading jobs: begun by whoever opens the page, done by one thread of one process, watched by anybody.

The state is a row in the store. A process that stops renewing its lease has lost the job: the next page that
asks for it takes it over and reads again from the beginning. One process works on a few jobs of one EHR at a
time, so that an EHR that hangs delays no other; the others wait in the store, until one of these ends or
another process is asked for them.
"""

from __future__ import annotations

import contextlib
import logging
import math
import secrets
import threading
import time
from collections.abc import Iterable
from datetime import date, timedelta

import msgspec
from sqlalchemy.exc import SQLAlchemyError

from fhir_mappings.decision import Assessment
from fhir_mappings.record import EpisodeOfCare, Resolution
from fhir_mappings.rules.what_if import WhatIf
from launch.errors import HttpError, LaunchError
from launch.issuers import registration_of
from launch.limiter import Turn
from launch.ports import Clock, LaunchSession
from smartapp.configuration.settings import Settings
from smartapp.ehr.reading.charts import Charts
from smartapp.ehr.reading.fetch import ReadingFailed, ReadingStopped
from smartapp.ehr.reading.findings import READ_FIRST, Findings, FindingsMaker
from smartapp.ehr.reading.notices import NoticeKind
from smartapp.ehr.reading.own_record import ORIGIN, present_basis
from smartapp.ehr.reading.reader import ChartReading
from smartapp.metrics import Metrics
from smartapp.store import Store
from smartapp.store.charges import Enrolment
from smartapp.store.reading import Progress, ReadingJob, SealedChunk, Snapshot, snapshot_digest

log = logging.getLogger(__name__)

MOST_AT_WORK = 4
"""Jobs of one EHR in one process."""
MOST_IN_ALL = 32
"""Jobs of one process: each holds a chart in memory."""
PROGRESS_SECONDS = 0.5
"""How often the progress of a job is written at most: people see no more."""
MOST_TOLD = 200
"""Decisions that an audit entry names one by one."""


class ReadingJobs:
    """Starts jobs and gives their state and their findings."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        clock: Clock,
        charts: Charts,
        metrics: Metrics,
    ) -> None:
        self._settings = settings
        self._store = store
        self._clock = clock
        self._charts = charts
        self._metrics = metrics
        self._holder = secrets.token_hex(8)
        """This process, as the holder of jobs."""
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._threads: dict[threading.Thread, str] = {}
        """Each with the EHR it reads from, as the issuers file calls it."""
        self._waiting: dict[str, tuple[ReadingJob, LaunchSession]] = {}
        """Jobs this process was asked for while it had no hand free, the oldest first, by session."""

    def close(self) -> None:
        """Stop reading. Another process, or the next start, takes unfinished jobs over."""
        self._closing.set()
        with self._lock:
            threads = tuple(self._threads)
        for thread in threads:
            thread.join(5)

    def state(self, session: LaunchSession) -> ReadingJob:
        """The session's latest job; the first is begun here. A failed one stays until somebody asks again.

        If nobody works on it, this process does from now on.
        """
        job = self._store.reading.latest(session.id)
        if job is None:
            job = self._store.reading.begin(session.id, self._clock.now())
        return self._done_by_somebody(job, session)

    def place_in_line(self, session: LaunchSession) -> int | None:
        """1 for whoever is next to be read from this EHR; None for whoever does not wait here."""
        registration = registration_of(session.issuer_id)
        with self._lock:
            if session.id not in self._waiting:
                return None
            before = list(self._waiting)[: list(self._waiting).index(session.id)]
            same = [self._waiting[name][1].issuer_id for name in before]
        return 1 + sum(registration_of(issuer_id) == registration for issuer_id in same)

    def read_again(self, session: LaunchSession, whole: bool = False) -> ReadingJob:
        """A new reading, unless one is under way. `whole`: also of the months before the last charged
        period."""
        return self._done_by_somebody(
            self._store.reading.begin(session.id, self._clock.now(), whole), session
        )

    def findings(self, session: LaunchSession) -> tuple[Snapshot, Findings] | None:
        """The session's present snapshot, understood. What was logged or stated here since, by anybody, is
        decided on first."""
        with self._store.database.reading():
            found = self._kept(session.id)
            if found is None or session.patient is None:
                return found
            if found[1].basis == present_basis(self._store, session.issuer_id, session.patient):
                return found
        self.decide_again(self._store.launches.get_session(session.id) or session)
        return self._kept(session.id)

    def decide_again(self, session: LaunchSession) -> None:
        """Decide anew from the resources of the present snapshot, under a new snapshot id.

        The EHR is read again only where more days are needed than were read.
        """
        found = self._kept(session.id)
        if found is None or session.patient is None:
            return
        before, findings = found
        gathered = self._gathered(session, before, findings)
        if gathered is None:
            self.read_again(session)
            return
        maker, chunks = gathered
        reading = self._store.reading
        result = maker.findings(
            findings.notices,
            lambda: (resource for chunk in chunks for resource in reading.open_chunk(chunk)),
            server_time=findings.server_time,
        )
        result = msgspec.structs.replace(result, form=findings.form)
        snapshot = Snapshot(
            id=secrets.token_hex(16),
            session_id=session.id,
            created_at=before.created_at,
            sha256=snapshot_digest(chunks),
            result=msgspec.json.encode(result),
        )
        if reading.replace(before.id, snapshot, chunks):
            self._store.audit.add(
                self._clock.now(),
                "decided-again",
                before=before.id,
                **_facts(session, snapshot, result),
            )

    def imagined(
        self,
        session: LaunchSession,
        changes: WhatIf | None = None,
        supposed: Iterable[EpisodeOfCare] = (),
        *,
        settled: Iterable[Resolution] = (),
        performer: str | None = None,
        anchors: Iterable[Enrolment] = (),
    ) -> Findings | None:
        """What would be decided from the present snapshot if there were more, if these episodes of care were
        confirmed, if this were settled, with this performer, or if the periods began on these days.
        Nothing of it is kept. None where nothing was read, or what was does not go back far enough for it."""
        found = self._kept(session.id)
        gathered = None if found is None else self._gathered(session, *found, anchors)
        if found is None or gathered is None:
            return None
        maker, chunks = gathered
        reading = self._store.reading
        result = maker.findings(
            found[1].notices,
            lambda: (resource for chunk in chunks for resource in reading.open_chunk(chunk)),
            changes,
            supposed,
            settled=settled,
            performer=performer,
        )
        return msgspec.structs.replace(result, form=found[1].form)

    def _gathered(
        self,
        session: LaunchSession,
        snapshot: Snapshot,
        findings: Findings,
        anchors: Iterable[Enrolment] = (),
    ) -> tuple[FindingsMaker, list[SealedChunk]] | None:
        """The snapshot's resources with what is kept here now, ready to be decided on; None where more days
        are needed than were read."""
        # As of the day of the reading: what may have come since was not read.
        as_of = date.fromisoformat(findings.said["as_of"])
        maker = self._charts.maker(session, as_of, findings.history_from, findings.writes, anchors)
        reading = self._store.reading
        chunks = [chunk for chunk in reading.chunks(snapshot.id) if chunk.origin != ORIGIN]
        for resource in (resource for chunk in chunks for resource in reading.open_chunk(chunk)):
            if resource.reference.split("/", 1)[0] in READ_FIRST:
                maker.add_first(resource)
        if maker.needs().start < findings.history_from:
            return None
        for resource in (resource for chunk in chunks for resource in reading.open_chunk(chunk)):
            if resource.reference.split("/", 1)[0] not in READ_FIRST:
                maker.add(resource)
        if own_resources := maker.add_own():
            chunks.append(reading.seal_chunk(ORIGIN, own_resources))
        return maker, chunks

    def _kept(self, session_id: str) -> tuple[Snapshot, Findings] | None:
        snapshot = self._store.reading.snapshot_of(session_id)
        return None if snapshot is None else (snapshot, msgspec.json.decode(snapshot.result, type=Findings))

    def _done_by_somebody(self, job: ReadingJob, session: LaunchSession) -> ReadingJob:
        if job.over:
            return job
        self._begin(job, session)
        return self._store.reading.latest(session.id) or job

    def _begin(self, job: ReadingJob, session: LaunchSession) -> None:
        """Do the job, if a hand is free and nobody does it; without one it waits."""
        holder = f"{self._holder}-{secrets.token_hex(4)}"
        thread = threading.Thread(
            target=self._work, args=(job, session, holder), name=f"reading-{job.id[:8]}", daemon=True
        )
        with self._lock:
            if self._closing.is_set():
                return
            if not self._has_hand_for(session):
                self._waiting.setdefault(session.id, (job, session))
                return
            self._waiting.pop(session.id, None)
            self._threads[thread] = registration_of(session.issuer_id)
        claimed = False
        try:
            claimed = self._store.reading.claim(job.id, holder, self._clock.now(), self._settings.job_lease)
            if claimed:
                thread.start()
        finally:
            if not claimed:
                self._set_free(thread)

    def _set_free(self, thread: threading.Thread) -> None:
        with self._lock:
            self._threads.pop(thread, None)

    def _has_hand_for(self, session: LaunchSession) -> bool:
        """Asked under the lock."""
        registration = registration_of(session.issuer_id)
        of_this_ehr = sum(other == registration for other in self._threads.values())
        return of_this_ehr < MOST_AT_WORK and len(self._threads) < MOST_IN_ALL

    def _begin_waiting(self) -> None:
        """A hand came free: do what has waited longest of all that may begin, unless somebody else did
        meanwhile."""
        while True:
            with self._lock:
                waiting = self._waiting.items()
                next_one = next((name for name, (_, who) in waiting if self._has_hand_for(who)), None)
                if next_one is None:
                    return
                job, session = self._waiting.pop(next_one)
            self._begin(job, session)

    def _work(self, job: ReadingJob, session: LaunchSession, holder: str) -> None:
        """The job itself. Whatever goes wrong ends in the job's row, never in a page that waits for ever."""
        reading = self._store.reading
        begun, outcome = time.monotonic(), "failed"
        try:
            snapshot, findings, done, chunks = self._read(job, session, holder)
            outcome = "read"
            self._charts.find_gone_charges(session, findings)
            if reading.finish(snapshot, holder, chunks):
                self._store.audit.add(
                    self._clock.now(),
                    "chart-read",
                    resources=done.resources,
                    by_type=_counted(done.by_type.items()),
                    **_facts(session, snapshot, findings),
                )
        except ReadingStopped:
            outcome = "stopped"
            log.info("reading job %s was taken over or its session ended", job.id)
        except ReadingFailed as error:
            reading.fail(job.id, holder, error.reason)
        except (HttpError, LaunchError) as error:
            log.warning("reading job %s failed: %s", job.id, error)
            reading.fail(job.id, holder, str(error.reason.value))
        except Exception as error:
            # The type alone: a message might quote what was read.
            log.error("reading job %s failed: %s at %s", job.id, type(error).__name__, _place(error))
            reading.fail(job.id, holder, "internal-error")
        finally:
            registration = registration_of(session.issuer_id)
            self._metrics.reading(registration, outcome, time.monotonic() - begun)
            self._set_free(threading.current_thread())
            with contextlib.suppress(SQLAlchemyError):  # whoever polls for a job begins it then
                self._begin_waiting()

    def _read(
        self, job: ReadingJob, session: LaunchSession, holder: str
    ) -> tuple[Snapshot, Findings, ChartReading, list[SealedChunk]]:
        lease = self._settings.job_lease
        told = -math.inf

        def tick(progress: Progress) -> bool:
            nonlocal told
            if self._closing.is_set():
                return False
            if time.monotonic() - told < PROGRESS_SECONDS:
                return True
            told = time.monotonic()
            now, pause = self._clock.now(), reading.pause
            if pause is not None:
                until = now + timedelta(seconds=pause.seconds)
                progress = msgspec.structs.replace(progress, waits_for=pause.kind.value, waits_until=until)
            return self._store.reading.report(job.id, holder, progress, now, lease)

        reading = self._charts.reading(
            session, tick=tick, seconds=self._settings.read_minutes * 60, turn=Turn.FIRST
        )
        findings, chunks = self._charts.read(session, reading, date.min if job.whole else None)
        snapshot = Snapshot(
            id=job.id,
            session_id=session.id,
            created_at=self._clock.now(),
            sha256=snapshot_digest(chunks),
            result=msgspec.json.encode(findings),
        )
        return snapshot, findings, reading, chunks


def _facts(session: LaunchSession, snapshot: Snapshot, findings: Findings) -> dict[str, str | None]:
    """For the audit trail: who, whose chart, on which rules, for which payer, what was left out, and what was
    decided."""
    dropped = [
        (notice.what, notice.count) for notice in findings.notices if notice.kind is NoticeKind.FOREIGN
    ]
    return {
        "session": session.id,
        "issuer": session.issuer_id,
        "patient": session.patient,
        "user": session.fhir_user,
        "snapshot": snapshot.id,
        "snapshot_sha256": snapshot.sha256,
        "rules_version": findings.said["rules_version"],
        "payer": findings.said["payer"],
        "dropped": _counted(dropped),
        "unread": ", ".join(sorted({one.type or "any" for one in findings.completeness.missing})),
        "decided": _outcomes(findings.assessment),
    }


def _outcomes(assessment: Assessment) -> str:
    """ "98977 2026-01-05 suggest; ...": code, first day of its period and outcome of each decision."""
    told = [f"{item.code} {item.period.start.isoformat()} {item.outcome}" for item in assessment.decisions]
    more = len(told) - MOST_TOLD
    return "; ".join([*told[:MOST_TOLD], *([f"and {more} more"] if more > 0 else [])])


def _counted(counts: Iterable[tuple[str, int]]) -> str:
    """ "Encounter 3, Observation 200"; types are cut to a length, since a server may send any."""
    return ", ".join(f"{type_[:64]} {number}" for type_, number in sorted(counts))


def _place(error: BaseException) -> str:
    """Where it happened, as module and line, for the log."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return "unknown"
    return f"{trace.tb_frame.f_globals.get('__name__', '?')}:{trace.tb_lineno}"
