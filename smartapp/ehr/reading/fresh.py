"""A look at the chart again before anything leaves: what was added, changed or taken out since it was read.

The answer is made anew from it, so that no charge is written on a stale reading. Of Observations, which may
be tens of thousands, the server is asked for what changed since its own clock showed the time of the reading,
less a margin; and whether those that the answer rests on are still there. Everything else is read whole.
Where the server cannot tell what changed, all of it is read whole.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta

import msgspec

from fhir_mappings.decision import Decision
from fhir_mappings.identity import is_made_up
from launch.errors import HttpError, HttpProblem
from launch.ports import Clock, LaunchSession
from smartapp.configuration.settings import Settings
from smartapp.ehr.reading.charts import Charts
from smartapp.ehr.reading.fetch import ReadingFailed
from smartapp.ehr.reading.findings import Findings, evidence_of
from smartapp.ehr.reading.notices import Notice, NoticeKind, in_order
from smartapp.ehr.reading.own_record import ORIGIN, URN
from smartapp.ehr.reading.reader import SinceNotKnown
from smartapp.ehr.wire.looks import look, version_of
from smartapp.store import Store
from smartapp.store.reading import SealedChunk, Snapshot, StoredResource, snapshot_digest

MARGIN = timedelta(minutes=2)
"""A record may be shown by a search a little after the time that it says it was changed at."""
LOOK_SECONDS = 120.0
"""How long somebody who pressed a button waits for it."""
MOST_ROUNDS = 10
"""Of asking whether newly named evidence is still there; after them all is read whole."""
MOST_TOLD = 12
WRITTEN = "written here"
"""Where the page of a charge comes from that was written since the chart was read."""
_NO_EXPLANATION = frozenset({"Practitioner", "PractitionerRole", "Account", "Condition"})
"""What a difference is not explained by."""


@dataclass(frozen=True, slots=True)
class Present:
    """What a session has read, and what was decided from it."""

    session: LaunchSession
    snapshot: Snapshot
    findings: Findings


@dataclass(frozen=True, slots=True)
class Fresh:
    """The chart as it is now, and what would be kept of it."""

    before: Snapshot
    snapshot: Snapshot
    findings: Findings
    chunks: tuple[SealedChunk, ...]
    versions: Mapping[str, str]
    """Every record of it, with its version."""
    resources: tuple[StoredResource, ...]
    """All of it but what is kept here."""
    news: tuple[str, ...]
    """What came, changed or went, beside readings, in sentences."""
    performed: Findings | None = None
    """The answer with the performer of a charge (D35), where there is one; never kept."""

    def decision(self, key: str) -> Decision | None:
        """What is decided now of a charge that somebody looks at."""
        return (self.performed or self.findings).decision(key)


class FreshLook:
    """Brings what a session has read up to date."""

    def __init__(self, settings: Settings, store: Store, clock: Clock, charts: Charts) -> None:
        self._settings = settings
        self._store = store
        self._clock = clock
        self._charts = charts

    def of(self, present: Present, performer: str | None = None) -> Fresh:
        """The chart now. Nothing is kept of it yet. `performer`: whoever was chosen to perform a charge;
        their own visits take minutes out. Raises HttpError and LaunchError."""
        fresh = self._of(present)
        return fresh if performer is None else self._performed(present.session, fresh, performer)

    def _performed(self, session: LaunchSession, fresh: Fresh, performer: str) -> Fresh:
        """The same with the answer for a performer beside it."""
        findings, store = fresh.findings, self._store.reading
        pages = (chunk for chunk in fresh.chunks if chunk.origin != ORIGIN)
        resources = [resource for chunk in pages for resource in store.open_chunk(chunk)]
        performed, _ = self._charts.decided(
            session,
            resources,
            findings.notices,
            findings.history_from,
            findings.server_time,
            findings.writes,
            performer,
        )
        return replace(fresh, performed=performed)

    def _of(self, present: Present) -> Fresh:
        store = self._store.reading
        pages = [chunk for chunk in store.chunks(present.snapshot.id) if chunk.origin != ORIGIN]
        old = [resource for chunk in pages for resource in store.open_chunk(chunk)]
        try:
            try:
                return self._changes(present, pages, old)
            except SinceNotKnown:
                return self._whole(present, old)
        except ReadingFailed as failed:
            slow = failed.reason == HttpProblem.TIMEOUT.value
            raise HttpError(HttpProblem.TIMEOUT if slow else HttpProblem.HTTP_STATUS) from None

    def keep(self, session: LaunchSession, fresh: Fresh) -> bool:
        """From now on this is what the session has read; False if it has read something else meanwhile."""
        kept = self._store.reading.replace(fresh.before.id, fresh.snapshot, fresh.chunks)
        if kept:
            self._store.audit.add(
                self._clock.now(),
                "chart-brought-up-to-date",
                session=session.id,
                issuer=session.issuer_id,
                patient=session.patient,
                user=session.fhir_user,
                before=fresh.before.id,
                snapshot=fresh.snapshot.id,
                snapshot_sha256=fresh.snapshot.sha256,
            )
        return kept

    def with_charge(
        self, present: Present, fresh: Fresh, charge: bytes | None, performer: str | None = None
    ) -> Fresh | None:
        """The chart as it was looked at, with a charge that was written since; None where it was among what
        was looked at. Forms that were made of what the session had read before stay good for what is the same
        still. `charge`: the EHR's ChargeItem; None of one that was handed over, which is kept here. Nothing
        is kept of the chart yet."""
        new: list[StoredResource] = []
        if charge is not None:
            seen = look(charge)
            if seen.reference in fresh.versions:
                return None
            version = version_of(seen, charge)
            new = [StoredResource(f"{WRITTEN} {seen.reference}", None, seen.reference, version, charge)]
        now = [*fresh.resources, *new]
        session, found = present.session, fresh.findings
        decided, own = self._charts.decided(
            session, now, found.notices, found.history_from, found.server_time, found.writes
        )
        decided = msgspec.structs.replace(decided, same_as=_same_as(present, decided))
        pages = [chunk for chunk in fresh.chunks if chunk.origin != ORIGIN]
        written = [self._store.reading.seal_chunk(one.origin, [one]) for one in new]
        chunks = [*pages, *written, *own]
        with_it = self._fresh(present, decided, chunks, list(fresh.resources), now)
        return with_it if performer is None else self._performed(session, with_it, performer)

    def is_old(self, present: Present) -> bool:
        """Whether the reading is older than the site allows for the form of a charge."""
        age = self._clock.now() - present.snapshot.created_at
        return age > timedelta(minutes=self._settings.snapshot_minutes)

    def fill_form(self, present: Present) -> bool:
        """Read what only the form of a charge needs, if nobody opened it before; whether anything was read
        that the session has now. Raises HttpError and LaunchError."""
        if present.findings.form is not None:
            return False
        try:
            form = self._charts.for_the_form(present.session)
        except ReadingFailed:
            raise HttpError(HttpProblem.TIMEOUT) from None
        result = msgspec.json.encode(msgspec.structs.replace(present.findings, form=form))
        if not self._store.reading.amend(present.snapshot.id, result):
            return False
        session = present.session
        dropped = [one for one in form.notices if one.kind is NoticeKind.FOREIGN]
        self._store.audit.add(
            self._clock.now(),
            "form-read",
            session=session.id,
            issuer=session.issuer_id,
            patient=session.patient,
            user=session.fhir_user,
            snapshot=present.snapshot.id,
            dropped=", ".join(f"{one.what} {one.count}" for one in dropped),
        )
        return True

    def bring_up_to_date(self, present: Present) -> bool:
        """Look again; whether what was found is what the session has read now."""
        return self.keep(present.session, self.of(present))

    # The two ways to look

    def _whole(self, present: Present, old: list[StoredResource]) -> Fresh:
        reading = self._charts.reading(present.session, seconds=LOOK_SECONDS)
        # Never from a later day on than what is shown: a decision of it may be the one that is asked about.
        findings, chunks = self._charts.read(present.session, reading, present.findings.history_from)
        store = self._store.reading
        pages = [chunk for chunk in chunks if chunk.origin != ORIGIN]
        now = [resource for chunk in pages for resource in store.open_chunk(chunk)]
        return self._fresh(present, findings, chunks, old, now)

    def _changes(self, present: Present, pages: list[SealedChunk], old: list[StoredResource]) -> Fresh:
        session, findings, charts = present.session, present.findings, self._charts
        if findings.server_time is None:
            raise SinceNotKnown
        readings = [one for one in old if _type(one) == "Observation"]
        reading = charts.reading(
            session,
            seconds=LOOK_SECONDS,
            since=findings.server_time - MARGIN,
            linked=charts.pointed_to(session, readings),
            batch=True,
        )
        fetched: list[StoredResource] = []
        asking = charts.maker(session, charts.today(), back_to=findings.history_from)
        known = {one.reference: one.version for one in readings if one.raw and not is_made_up(one.reference)}
        asked = {name: known[name] for name in findings.versions if name in known}
        assumed = msgspec.structs.replace(asking.assumed(), start=findings.history_from)
        reading.read_first(fetched.append, assumed=assumed, known=asked)
        for resource in fetched:
            asking.add_first(resource)
        needs = asking.needs()
        if needs.start < findings.history_from:
            raise SinceNotKnown
        reading.read_rest(needs, fetched.append)
        checked = set(asked)
        for _ in range(MOST_ROUNDS):
            left_out = reading.gone | _named(fetched)
            now = [*(one for one in readings if one.reference not in left_out), *fetched]
            notices = in_order({*_of_readings(findings.notices), *reading.notices()})
            decided, own = charts.decided(
                session, now, notices, findings.history_from, reading.server_time, findings.writes
            )
            unsure = known.keys() & decided.versions.keys() - checked - left_out
            if not unsure:
                chunks = [*self._without(pages, left_out), *reading.chunks, *own]
                return self._fresh(present, decided, chunks, old, now)
            reading.check({name: known[name] for name in unsure}, fetched.append)
            checked |= unsure
        raise SinceNotKnown

    def _without(self, pages: Iterable[SealedChunk], left_out: set[str]) -> Iterator[SealedChunk]:
        """The pages of readings without these; a page that loses nothing stays as it is."""
        store = self._store.reading
        for page in pages:
            before = store.open_chunk(page)
            after = [one for one in before if _type(one) == "Observation" and one.reference not in left_out]
            if len(after) == len(before):
                yield page
            elif after:
                yield store.seal_chunk(page.origin, after)

    def _fresh(
        self,
        present: Present,
        findings: Findings,
        chunks: Iterable[SealedChunk],
        old: list[StoredResource],
        now: list[StoredResource],
    ) -> Fresh:
        pages = tuple(chunks)
        findings = msgspec.structs.replace(findings, form=present.findings.form)
        snapshot = Snapshot(
            id=secrets.token_hex(16),
            session_id=present.session.id,
            created_at=self._clock.now(),
            sha256=snapshot_digest(pages),
            result=msgspec.json.encode(findings),
        )
        return Fresh(
            present.snapshot, snapshot, findings, pages, _versions(now), tuple(now), tuple(_news(old, now))
        )


def _same_as(present: Present, now: Findings) -> dict[str, frozenset[str]]:
    """Of which decisions a form that was made of an earlier snapshot still tells the truth."""
    before = present.findings
    same = frozenset(
        one.key
        for one in now.assessment.decisions
        if (was := before.decision(one.key)) is not None
        and (essence(was), was.unverified, was.reasons) == (essence(one), one.unverified, one.reasons)
        and all(before.versions.get(name) == now.versions.get(name) for name in evidence_of(one))
    )
    return {name: keys & same for name, keys in before.same_as.items()} | {present.snapshot.id: same}


def moved(present: Present, decision: Decision, fresh: Fresh, confirmed: Iterable[str]) -> tuple[str, ...]:
    """Sentences on what moved the answer between a decision as it was shown and the chart as it is now.

    `confirmed`: the statements that were confirmed for it; one more that must be is a difference too.
    """
    told = records_moved(present, decision, fresh)
    now = fresh.decision(decision.key)
    if now is None:
        told.append(f"The record does not earn {decision.code} any more.")
    elif essence(decision) != essence(now):
        told.append("The record earns something else now than what was shown.")
    elif unconfirmed := [entry for entry in now.unverified if entry not in set(confirmed)]:
        told.append(f"More must be confirmed now: {', '.join(unconfirmed)}.")
    return (*told, *(one for one in fresh.news if one not in told)) if told else ()


def records_moved(present: Present, decision: Decision, fresh: Fresh) -> list[str]:
    """Sentences on the records a decision rests on that are not what they were."""
    was, is_now = present.findings.versions, fresh.versions
    return [
        f"{name} was changed since the chart was read." if name in is_now else f"{name} is gone."
        for name in evidence_of(decision)
        # What was logged here is not in the EHR: `own_differences` looks it up in our own store.
        if not name.startswith(URN) and was.get(name) not in (None, is_now.get(name))
    ]


def essence(decision: Decision) -> tuple[object, ...]:
    """What a charge rests on; the rest of a decision may change without changing the charge."""
    found = tuple((part.requirement, part.found, part.met, part.evidence) for part in decision.requirements)
    return (
        decision.code,
        decision.outcome,
        decision.quantity,
        decision.period,
        decision.service_date,
        decision.modifiers,
        found,
    )


def _type(resource: StoredResource) -> str:
    return resource.reference.split("/", 1)[0]


def _named(resources: Iterable[StoredResource]) -> set[str]:
    return {one.reference for one in resources}


def _of_readings(notices: Iterable[Notice]) -> Iterator[Notice]:
    """What an earlier reading could not read of Observations: nobody has read it since."""
    return (notice for notice in notices if notice.what == "Observation")


def _versions(resources: Iterable[StoredResource]) -> dict[str, str]:
    return {one.reference: one.version for one in resources if one.raw}


def _news(old: Iterable[StoredResource], now: Iterable[StoredResource]) -> list[str]:
    """What came, changed or went, apart from readings, and how many readings did."""
    was, is_now = _versions(old), _versions(now)
    told: list[str] = []
    readings = 0
    for name in sorted(was.keys() | is_now.keys()):
        if was.get(name) == is_now.get(name) or name.split("/", 1)[0] in _NO_EXPLANATION:
            continue
        if name.startswith("Observation/"):
            readings += 1
        elif name not in was:
            told.append(f"{name} is new since the chart was read.")
        elif name not in is_now:
            told.append(f"{name} is gone.")
        else:
            told.append(f"{name} was changed since the chart was read.")
    more = len(told) - MOST_TOLD
    told = [*told[:MOST_TOLD], *([f"{more} more records came, changed or went."] if more > 0 else [])]
    if readings:
        word = "reading" if readings == 1 else "readings"
        told.append(f"{readings} {word} came, changed or went since the chart was read.")
    return told
