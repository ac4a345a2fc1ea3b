"""A store that holds something in every column of seals, and all that the app reads of it."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any

from fhir_mappings.reconciliation import ChangeKind
from fhir_mappings.time_log import LoggedTime
from fhir_mappings.vocabulary import Program, Unverified
from launch.ports import LaunchKind, LaunchSession, PendingLaunch, TokenSet
from smartapp.store import Store
from smartapp.store.attestations import ConfirmedEpisode, Statement
from smartapp.store.changes import ChangeContent, ChargeChange, change_id
from smartapp.store.charges import Charge, ChargeContent
from smartapp.store.claims import ChargeState
from smartapp.store.denials import DenialContent, Denied
from smartapp.store.reading import Snapshot, StoredResource
from smartapp.store.time_log import EntryContent, EntryState
from smartapp.store.worklist import MarkKind, NewMark

PROBLEM = "Mrs. Example has no such account"
SESSIONS = ("s1", "s2")
PENDING = ("d" * 64, "e" * 64)
CHANGED = ("c1", "c2")
MARKED = ("p1", "p2")


def fill(store: Store, now: datetime, lease: timedelta) -> None:
    """At least two rows of every table that seals something."""
    for session_id in SESSIONS:
        _open_session(store, session_id, now, lease)
    for state_digest in PENDING:
        store.launches.save_pending(_pending(state_digest, now))
    _fill_charges(store, now, lease)
    for month in (date(2026, 2, 1), date(2026, 3, 1), date(2026, 4, 1)):
        store.months.certify("general", "p1", month, "Practitioner/7", "Avery", now)
    logged = LoggedTime(start=now, end=now + timedelta(minutes=5), person="Practitioner/7")
    content = EntryContent(logged=logged, by="Practitioner/7")
    entry = store.time_log.enter("general", "p1", content, now)
    store.time_log.append("general", "p1", entry, 1, EntryState.SIGNED, content, now, "time-signed")
    store.attestations.state("general", "p1", Statement(statement=Unverified.CONSENT, by="P/7"), now)
    episode = ConfirmedEpisode(program=Program.RTM, start=date(2026, 1, 1), source="chart", by="P/7")
    store.attestations.confirm_episode("general", "p1", episode, now)
    for patient in MARKED:
        mark = NewMark(patient, MarkKind.CALLED, "Practitioner/7", "Avery", "d" * 16, 0)
        store.marks.set("general", mark, now, "s1")
    for session_id in SESSIONS:
        export_id = store.exports.begin(session_id, "worklist.csv", now)
        assert export_id is not None
        store.exports.end(export_id, session_id, b"Patient,Date of birth", now)


def session_of(id_: str, patient: str, now: datetime) -> LaunchSession:
    """An open session of a synthetic clinician."""
    return LaunchSession(
        id=id_,
        issuer_id="general",
        iss="https://ehr.example/fhir",
        cookie_digest="c" * 64,
        patient=patient,
        encounter=None,
        fhir_user="Practitioner/7",
        user_subject=None,
        user_issuer=None,
        user_name=None,
        requested_scope="launch",
        granted_scope="launch",
        need_patient_banner=True,
        tenant=None,
        intent=None,
        smart_style_url=None,
        fhir_context=(),
        created_at=now,
        last_seen=now,
        expires_at=now + timedelta(hours=8),
    )


def content_of(decision: str, keep_until: date, **more: Any) -> ChargeContent:
    """What is kept of a charge; `more`: what of it is another than nothing."""
    told = {
        "resource": {},
        "attested": (),
        "confirmed_by": "Practitioner/7",
        "session_id": "s1",
        "snapshot_id": "n1",
        "snapshot_sha256": "0" * 64,
        "anchor": None,
        "evidence": b"{}",
    }
    return ChargeContent(**{**told, "decision": decision, "keep_until": keep_until, **more})


def _open_session(store: Store, id_: str, now: datetime, lease: timedelta) -> None:
    session = session_of(id_, "p1", now)
    store.launches.create_session(session, TokenSet("access", now + timedelta(hours=1), "launch", "refresh"))
    job = store.reading.begin(id_, now)
    store.reading.claim(job.id, "h", now, lease)
    page = [StoredResource("page", None, "Observation/o1", "1", b'{"id":"o1"}')]
    chunk = store.reading.seal_chunk("Observation 0001", page)
    store.reading.finish(Snapshot(job.id, id_, now, "0" * 64, b"{}"), "h", [chunk, chunk])


def _pending(state_digest: str, now: datetime) -> PendingLaunch:
    return PendingLaunch(
        state_digest=state_digest,
        browser_digest="b" * 64,
        kind=LaunchKind.EHR,
        issuer_id="general",
        iss="https://ehr.example/fhir",
        redirect_uri="https://app.example/callback/general",
        authorization_server=None,
        token_endpoint="https://ehr.example/token",
        code_verifier="verifier",
        nonce="nonce",
        requested_scope="launch",
        created_at=now,
        expires_at=now + timedelta(minutes=10),
    )


def _fill_charges(store: Store, now: datetime, lease: timedelta) -> None:
    for number in range(3):
        charge = a_charge(number, now)
        store.charges.claim(charge, "h", now, lease)
        store.charges.confirm(charge, f"c{number}", now, b"packet", PROBLEM)
    denied = [Denied(f"urn:x|{number}", now.date(), "50") for number in range(2)]
    store.denials.record(denied, DenialContent("Practitioner/7", "Avery", "Words of a payer."), now)
    for charge_item in CHANGED:
        change = a_change(charge_item, now)
        store.changes.claim(change, "h", now, lease)
        store.changes.written(
            change, ChargeState.CONFIRMED, now, b"change packet", PROBLEM, "charge-taken-back"
        )


def a_charge(number: int, now: datetime) -> Charge:
    content = content_of("98979-2026-03-01", date(2999, 3, 31))
    return Charge(f"urn:x|{number}", "general", "p1", "98979", ChargeState.PREPARED, None, None, now, content)


def a_change(charge_item: str, now: datetime) -> ChargeChange:
    content = ChangeContent(
        code="98979",
        before={},
        before_version="1",
        before_etag=None,
        after={},
        said="Words of a person.",
        days=(date(2026, 3, 31),),
        confirmed_by="Practitioner/7",
        session_id="s1",
        snapshot_id="n1",
        snapshot_sha256="0" * 64,
        keep_until=date(2999, 3, 31),
        evidence=b"{}",
    )
    id_ = change_id("general", charge_item, "1")
    return ChargeChange(
        id_, "general", "p1", charge_item, ChangeKind.WITHDRAW, ChargeState.PREPARED, None, now, content
    )


def everything(store: Store) -> list[object]:
    """All that the app itself reads of what was filled in, but for launches that are taken by reading."""
    snapshots = [snapshot for one in SESSIONS if (snapshot := store.reading.snapshot_of(one))]
    return [
        [store.launches.get_session(one) for one in SESSIONS],
        [store.launches.get_tokens(one) for one in SESSIONS],
        snapshots,
        [list(store.reading.resources(one.id)) for one in snapshots],
        store.charges.of_patient("general", "p1"),
        [store.charges.packet(f"urn:x|{number}") for number in range(3)],
        store.changes.of_patient("general", "p1"),
        [store.changes.packet(change_id("general", one, "1")) for one in CHANGED],
        store.denials.of_patient("general", "p1"),
        store.months.of_patient("general", "p1"),
        store.time_log.of_patient("general", "p1"),
        store.attestations.of_patient("general", "p1"),
        store.attestations.episodes("general", "p1"),
        [
            (mark.patient, mark.kind, store.marks.name_of("general", mark))
            for mark in store.marks.of_issuer("general").values()
        ],
        [store.exports.content(session_id, "worklist.csv") for session_id in SESSIONS],
        [
            (entry, store.audit.words(entry["position"]))
            for entry in store.audit.entries()
            if entry["event"] != "records-resealed"
        ],
    ]
