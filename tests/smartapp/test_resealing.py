"""An old encryption key is retired: everything is sealed with the newest one, and nothing else changes."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import date, timedelta

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import func, select
from sqlalchemy.exc import DBAPIError

from fhir_mappings.reconciliation import ChangeKind
from fhir_mappings.time_log import LoggedTime
from fhir_mappings.vocabulary import Program, Unverified
from launch.ports import LaunchKind, LaunchSession, PendingLaunch, TokenSet
from smartapp.commands.keys import run
from smartapp.store import Store
from smartapp.store import resealing as module
from smartapp.store.attestations import ConfirmedEpisode, Statement
from smartapp.store.changes import ChangeContent, ChargeChange, change_id
from smartapp.store.charges import Charge, ChargeContent
from smartapp.store.claims import ChargeState
from smartapp.store.guards import GUARDED
from smartapp.store.reading import Snapshot, StoredResource
from smartapp.store.resealing import PLACES, Absence, Resealing
from smartapp.store.time_log import EntryContent, EntryState
from smartapp.store.vault import SealBroken, Vault
from tests.smartapp.conftest import REFUSED

OLD, NEW = Fernet.generate_key(), Fernet.generate_key()
PROBLEM = "Mrs. Example has no such account"


@pytest.fixture
def url(database_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The database's address; the commands have the new key and the old one."""
    monkeypatch.setenv("SMARTAPP_DATABASE_URL", database_url)
    monkeypatch.setenv("SMARTAPP_KEYS", f"{NEW.decode()},{OLD.decode()}")
    return database_url


@pytest.fixture
def written(url, now, lease) -> Iterator[Store]:
    """A store with the old key that holds something in every column of seals."""
    with closing(Store(url, [OLD])) as store:
        store.database.migrate()
        fill(store, now, lease)
        yield store


@pytest.fixture
def both(written, url) -> Iterator[Store]:
    with closing(Store(url, [NEW, OLD])) as store:
        yield store


@pytest.fixture
def new_alone(url) -> Iterator[Store]:
    with closing(Store(url, [NEW])) as store:
        yield store


def fill(store: Store, now, lease) -> None:
    session = LaunchSession(
        id="s1",
        issuer_id="general",
        iss="https://ehr.example/fhir",
        cookie_digest="c" * 64,
        patient="p1",
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
    store.launches.create_session(session, TokenSet("access", now + timedelta(hours=1), "launch", "refresh"))
    store.launches.save_pending(
        PendingLaunch(
            state_digest="d" * 64,
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
    )
    job = store.reading.begin("s1", now)
    store.reading.claim(job.id, "h", now, lease)
    page = [StoredResource("page", None, "Observation/o1", "1", b'{"id":"o1"}')]
    chunk = store.reading.seal_chunk("Observation 0001", page)
    store.reading.finish(Snapshot(job.id, "s1", now, "0" * 64, b"{}"), "h", [chunk, chunk])
    for number in range(3):
        charge = a_charge(number, now)
        store.charges.claim(charge, "h", now, lease)
        store.charges.confirm(charge, f"c{number}", now, b"packet", PROBLEM)
    change = a_change(now)
    store.changes.claim(change, "h", now, lease)
    store.changes.written(change, ChargeState.CONFIRMED, now, b"change packet", PROBLEM, "charge-taken-back")
    for month in (date(2026, 2, 1), date(2026, 3, 1), date(2026, 4, 1)):
        store.months.certify("general", "p1", month, "Practitioner/7", "Avery", now)
    logged = LoggedTime(start=now, end=now + timedelta(minutes=5), person="Practitioner/7")
    content = EntryContent(logged=logged, by="Practitioner/7")
    entry = store.time_log.enter("general", "p1", content, now)
    store.time_log.append("general", "p1", entry, 1, EntryState.SIGNED, content, now, "time-signed")
    store.attestations.state("general", "p1", Statement(statement=Unverified.CONSENT, by="P/7"), now)
    episode = ConfirmedEpisode(program=Program.RTM, start=date(2026, 1, 1), source="chart", by="P/7")
    store.attestations.confirm_episode("general", "p1", episode, now)


def a_charge(number: int, now) -> Charge:
    content = ChargeContent(
        resource={},
        decision="98979-2026-03-01",
        attested=(),
        confirmed_by="Practitioner/7",
        session_id="s1",
        snapshot_id="n1",
        snapshot_sha256="0" * 64,
        keep_until=date(2999, 3, 31),
        anchor=None,
        evidence=b"{}",
    )
    return Charge(f"urn:x|{number}", "general", "p1", "98979", ChargeState.PREPARED, None, None, now, content)


def a_change(now) -> ChargeChange:
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
    id_ = change_id("general", "c1", "1")
    return ChargeChange(
        id_, "general", "p1", "c1", ChangeKind.WITHDRAW, ChargeState.PREPARED, None, now, content
    )


def everything(store: Store) -> list[object]:
    """All that the app itself reads of what was filled in."""
    snapshot = store.reading.snapshot_of("s1")
    return [
        store.launches.get_session("s1"),
        store.launches.get_tokens("s1"),
        snapshot,
        list(store.reading.resources(snapshot.id)),
        store.charges.of_patient("general", "p1"),
        [store.charges.packet(f"urn:x|{number}") for number in range(3)],
        store.changes.of_patient("general", "p1"),
        store.changes.packet(change_id("general", "c1", "1")),
        store.months.of_patient("general", "p1"),
        store.time_log.of_patient("general", "p1"),
        store.attestations.of_patient("general", "p1"),
        store.attestations.episodes("general", "p1"),
        [
            (entry, store.audit.words(entry["position"]))
            for entry in store.audit.entries()
            if entry["event"] != "records-resealed"
        ],
    ]


def nothing_told(_table: str, _count: int) -> None:
    pass


def test_the_rows_of_these_tests_fill_every_column_of_seals(written):
    """A column that is added later must be filled here too, or its resealing is shown by nothing."""
    for place in PLACES:
        if place.column.name == "problem":  # only in databases of an earlier revision
            continue
        with written.database.read() as connection:
            count = connection.execute(
                select(func.count()).select_from(place.table).where(place.column.is_not(None))
            ).scalar_one()
        assert count, place.column


@pytest.mark.threat("5.9")
def test_what_was_written_with_the_old_key_is_all_readable_with_the_new_one_alone(
    written, new_alone, monkeypatch, capsys
):
    monkeypatch.setattr(module, "BATCH", 2)  # so that every table of several rows takes several batches
    before = everything(written)
    with pytest.raises(SealBroken):
        everything(new_alone)
    assert run(["reseal"]) == 0
    out = capsys.readouterr().out
    assert "charge_packets: 3 sealed anew" in out
    assert "values need the newest key, which alone opens everything." in out
    assert "Key 2 of SMARTAPP_KEYS is needed by nothing in the database any more" in out
    assert everything(new_alone) == before
    pending = new_alone.launches.take_pending("d" * 64)
    assert isinstance(pending, PendingLaunch)


def test_the_chain_of_the_trail_is_the_same_afterwards(written, new_alone):
    before = [(link.position, link.digest) for link in written.audit.links()]
    assert run(["reseal"]) == 0
    links = [(link.position, link.digest) for link in new_alone.audit.links()]
    assert links[:-1] == before
    assert new_alone.audit.check().fault is None
    *_, last = new_alone.audit.entries()
    assert last["event"] == "records-resealed"


def test_looking_changes_nothing_and_says_what_needs_the_old_key(written, owner, capsys):
    before = everything(written)
    assert run(["reseal", "--check"]) == 1
    out = capsys.readouterr().out
    assert "0 values need the newest key." in out
    assert "Key 2 of SMARTAPP_KEYS is still needed by" in out
    assert everything(written) == before
    for key in (OLD, NEW):
        assert key.decode() not in out


def test_a_second_time_there_is_nothing_to_do(both):
    again = Resealing(both.database, both.vault)
    assert again.run(nothing_told) > 0
    assert again.run(nothing_told) == 0


def test_what_was_interrupted_goes_on_where_it_stopped(both, monkeypatch):
    monkeypatch.setattr(module, "BATCH", 2)
    resealing = Resealing(both.database, both.vault)
    whole = sum(resealing.need().values.values())

    def killed(table: str, _count: int) -> None:
        if table == "charge_packets":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        resealing.run(killed)
    done = resealing.need().values[0]
    assert 0 < done < whole
    assert resealing.run(nothing_told) == whole - done
    assert resealing.need().done


def test_a_row_that_the_app_changes_meanwhile_keeps_what_the_app_wrote(both, new_alone, now, monkeypatch):
    """The app writes between the reading of a row and its resealing."""
    newer = TokenSet("newer", now + timedelta(hours=1), "launch", "refresh", version=2)
    vault = _Meanwhile([NEW, OLD], lambda: both.launches.replace_tokens("s1", newer, 1))
    monkeypatch.setattr(module, "PLACES", [place for place in PLACES if place.table.name == "tokens"])
    Resealing(both.database, vault).run(nothing_told)
    assert new_alone.launches.get_tokens("s1") == newer


class _Meanwhile(Vault):
    """A vault during whose first resealing something else happens."""

    def __init__(self, keys, happens) -> None:
        super().__init__(keys)
        self._happens = [happens]

    def reseal(self, sealed: bytes) -> bytes:
        while self._happens:
            self._happens.pop()()
        return super().reseal(sealed)


def test_the_app_writes_on_while_everything_is_resealed(both, new_alone, now, monkeypatch):
    monkeypatch.setattr(module, "BATCH", 2)
    content = both.time_log.of_patient("general", "p1")[0].latest.content
    with ThreadPoolExecutor(4) as pool:
        writing = [pool.submit(both.time_log.enter, "general", "p2", content, now) for _ in range(20)]
        Resealing(both.database, both.vault).run(nothing_told)
        for written in writing:
            written.result()
    assert len(new_alone.time_log.of_patient("general", "p2")) == 20
    assert new_alone.audit.check().fault is None


def test_what_a_process_with_the_old_settings_wrote_meanwhile_is_told(written, both, now):
    resealing = Resealing(both.database, both.vault)
    resealing.run(nothing_told)
    written.audit.add(now, "chart-opened")
    assert resealing.need().values[1] == 1


def test_what_no_key_opens_is_left_as_it_is_and_told(written, url, now, monkeypatch, capsys):
    with closing(Store(url, [Fernet.generate_key()])) as stranger:
        stranger.audit.add(now, "chart-opened")
    assert run(["reseal"]) == 1
    assert "1 values are opened by no key of SMARTAPP_KEYS" in capsys.readouterr().out
    need = Resealing(written.database, Vault([NEW, OLD])).need()
    assert need.values[Absence.UNREADABLE] == 1
    assert need.values[1] == 0


def test_the_guards_are_back_after_a_resealing(written, owner):
    run(["reseal"])
    assert_guarded(owner)


def assert_guarded(owner) -> None:
    for table in GUARDED:
        column = next(column.name for column in table.columns if not column.primary_key)
        for statement in (f"UPDATE {table.name} SET {column} = {column}", f"DELETE FROM {table.name}"):
            with pytest.raises(DBAPIError, match=REFUSED):
                owner.run(statement)


def test_it_needs_no_folder_of_signing_keys_and_says_what_it_does_need(url, monkeypatch, capsys):
    monkeypatch.delenv("SMARTAPP_SIGNING_KEYS", raising=False)
    assert run(["reseal"]) == 2
    assert "smartapp migrate" in capsys.readouterr().err
    monkeypatch.delenv("SMARTAPP_KEYS")
    assert run(["reseal"]) == 2
    assert "SMARTAPP_KEYS is missing" in capsys.readouterr().err
