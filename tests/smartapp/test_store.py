"""The store: one use of everything that is good once, nothing readable at rest, nothing rewritten."""

from __future__ import annotations

import gc
import os
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import date, timedelta

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import Table, TextClause, insert, text
from sqlalchemy.exc import DBAPIError

from launch.ports import LaunchKind, PendingAbsence, PendingLaunch, SessionEnd, TokenSet
from smartapp.store import Store, launches
from smartapp.store.charges import Charge, ChargeContent, Enrolment
from smartapp.store.claims import ChargeState
from smartapp.store.database import Database, SchemaOutdated
from smartapp.store.exports import Progress as Made
from smartapp.store.guards import GUARDED, lifted
from smartapp.store.reading import JobState, Progress, Snapshot, StoredResource, snapshot_digest
from smartapp.store.tables import ATTESTATIONS, CHANGE_PACKETS, DENIALS, METADATA, TIME_ENTRIES
from smartapp.store.vault import SealBroken, Vault
from tests.smartapp.conftest import REFUSED
from tests.support.filled_store import session_of


def test_a_database_that_nobody_holds_any_more_leaves_no_connection_open(tmp_path):
    database = Database(f"sqlite:///{tmp_path / 'let-go.sqlite'}")
    with database.read() as connection:
        open_one = connection.connection.dbapi_connection
    assert open_one.execute("SELECT 1").fetchone() == (1,)
    del database, connection
    gc.collect()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        open_one.execute("SELECT 1")


@pytest.fixture
def pending(now):
    return PendingLaunch(
        state_digest="d" * 64,
        browser_digest="b" * 64,
        kind=LaunchKind.EHR,
        issuer_id="general",
        iss="https://ehr.example/fhir",
        redirect_uri="https://app.example/callback/general",
        authorization_server=None,
        token_endpoint="https://ehr.example/token",
        code_verifier="very-secret-verifier",
        nonce="nonce",
        requested_scope="launch",
        created_at=now,
        expires_at=now + timedelta(minutes=10),
    )


@pytest.fixture
def another(store, database_url):
    """The store as another process has it."""
    with closing(Store(database_url, [Fernet.generate_key()])) as opened:
        yield opened


@pytest.fixture
def session(now):
    return session_of("s1", "patient-secret", now)


@pytest.fixture
def tokens(now):
    return TokenSet("access-secret", now + timedelta(hours=1), "launch", "refresh-secret")


@pytest.fixture
def charge(now):
    content = ChargeContent(
        resource={"resourceType": "ChargeItem"},
        decision="98977-2026-01-05",
        attested=("consent",),
        confirmed_by="Practitioner/7",
        session_id="s1",
        snapshot_id="n1",
        snapshot_sha256="0" * 64,
        keep_until=date(2999, 2, 3),
        anchor=Enrolment(
            "general", "p1", "rtm", date(2026, 1, 5), "accepted-charge", "Practitioner/7", now, True
        ),
        evidence=b"{}",
    )
    return Charge("urn:x|1", "general", "p1", "98977", ChargeState.PREPARED, None, None, now, content)


def test_the_migration_makes_exactly_the_tables_of_the_models(store):
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    with store.database.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []


def test_migrating_twice_changes_nothing(store):
    store.database.migrate()
    store.database.check_schema()


def test_a_database_without_tables_is_told_apart(database_url):
    with closing(Store(database_url, [Fernet.generate_key()])) as empty, pytest.raises(SchemaOutdated):
        empty.database.check_schema()


# Launches


def test_of_many_simultaneous_callbacks_exactly_one_gets_the_launch(store, pending):
    store.launches.save_pending(pending)
    with ThreadPoolExecutor(8) as pool:
        taken = list(pool.map(lambda _: store.launches.take_pending(pending.state_digest), range(16)))
    assert taken.count(pending) == 1
    assert taken.count(PendingAbsence.REPLAYED) == 15


def test_a_state_that_was_never_sent_is_unknown(store):
    assert store.launches.take_pending("e" * 64) is PendingAbsence.UNKNOWN


def test_a_session_comes_back_as_it_was_kept(store, session, tokens):
    store.launches.create_session(session, tokens)
    assert store.launches.get_session("s1") == session
    assert store.launches.get_tokens("s1") == tokens


def test_ending_a_session_erases_its_tokens_and_happens_once(store, session, tokens, now):
    store.launches.create_session(session, tokens)
    assert store.launches.end_session("s1", now, SessionEnd.LOGGED_OUT)
    assert not store.launches.end_session("s1", now, SessionEnd.IDLE)
    assert store.launches.get_tokens("s1") is None
    assert store.launches.get_session("s1").ended_because is SessionEnd.LOGGED_OUT


def test_what_was_read_for_a_session_ends_with_it(store, session, tokens, now, lease):
    store.launches.create_session(session, tokens)
    job = store.reading.begin("s1", now)
    store.reading.claim(job.id, "h", now, lease)
    store.reading.finish(Snapshot(job.id, "s1", now, "0" * 64, b"{}"), "h", [])
    store.launches.end_session("s1", now, SessionEnd.LOGGED_OUT)
    assert store.reading.snapshot_of("s1") is None


def test_idle_sessions_are_found_and_ended_ones_are_not(store, session, tokens, now):
    store.launches.create_session(session, tokens)
    assert store.launches.idle_sessions(now - timedelta(minutes=1)) == ()
    assert store.launches.idle_sessions(now) == ("s1",)
    store.launches.end_session("s1", now, SessionEnd.IDLE)
    assert store.launches.idle_sessions(now) == ()


def test_last_seen_never_moves_backwards(store, session, tokens, now):
    store.launches.create_session(session, tokens)
    store.launches.touch_session("s1", now + timedelta(minutes=5))
    store.launches.touch_session("s1", now + timedelta(minutes=1))
    assert store.launches.get_session("s1").last_seen == now + timedelta(minutes=5)


def test_tokens_are_replaced_by_compare_and_set(store, session, tokens):
    store.launches.create_session(session, tokens)
    renewed = replace(tokens, access_token="second", version=2)
    assert store.launches.replace_tokens("s1", renewed, 1)
    assert not store.launches.replace_tokens("s1", replace(renewed, access_token="third"), 1)
    assert store.launches.get_tokens("s1") == renewed


def test_what_this_process_did_to_a_session_is_seen_at_once(store, session, tokens, now):
    store.launches.create_session(session, tokens)
    assert store.launches.token_version("s1") == 1
    assert store.launches.replace_tokens("s1", replace(tokens, version=2), 1)
    assert store.launches.token_version("s1") == 2
    assert store.launches.end_session("s1", now, SessionEnd.LOGGED_OUT)
    assert store.launches.token_version("s1") is None


def test_what_another_process_did_is_seen_when_a_reading_would_see_it(
    store, another, session, tokens, now, monkeypatch
):
    store.launches.create_session(session, tokens)
    clock = [100.0]
    monkeypatch.setattr(launches.time, "monotonic", lambda: clock[0])
    assert store.launches.token_version("s1") == 1
    another.launches.end_session("s1", now, SessionEnd.LOGGED_OUT)
    assert store.launches.token_version("s1") == 1
    clock[0] += launches.VERSION_SECONDS
    assert store.launches.token_version("s1") is None


def test_whoever_opened_the_tokens_has_seen_their_version(store, session, tokens, now, monkeypatch):
    store.launches.create_session(session, tokens)
    store.launches.get_tokens("s1")
    with monkeypatch.context() as patch:
        patch.setattr(store.database, "read", None)
        assert store.launches.token_version("s1") == 1
    store.launches.end_session("s1", now, SessionEnd.LOGGED_OUT)
    assert store.launches.token_version("s1") is None


def test_a_version_that_was_read_before_the_session_ended_is_not_kept(
    store, session, tokens, now, monkeypatch
):
    store.launches.create_session(session, tokens)
    read = store.database.read

    @contextmanager
    def read_and_end():
        with read() as connection:
            yield connection
        monkeypatch.setattr(store.database, "read", read)
        store.launches.end_session("s1", now, SessionEnd.LOGGED_OUT)

    monkeypatch.setattr(store.database, "read", read_and_end)
    assert store.launches.token_version("s1") == 1
    assert store.launches.token_version("s1") is None


def test_what_is_read_at_once_is_of_one_moment_until_something_is_written(
    store, another, session, tokens, now
):
    store.launches.create_session(session, tokens)
    with store.database.reading():
        assert store.launches.open_sessions() == ("s1",)
        with store.database.reading():  # no other moment within
            another.launches.create_session(replace(session, id="s2"), tokens)
            if store.database.file is not None:  # on SQLite
                assert store.launches.open_sessions() == ("s1",)
        store.launches.end_session("s1", now, SessionEnd.LOGGED_OUT)
        assert store.launches.open_sessions() == ("s2",)
    assert store.launches.open_sessions() == ("s2",)


def test_another_thread_reads_for_itself(store, session, tokens, now):
    store.launches.create_session(session, tokens)
    with store.database.reading(), ThreadPoolExecutor(1) as pool:
        assert store.launches.open_sessions() == ("s1",)
        store.launches.end_session("s1", now, SessionEnd.LOGGED_OUT)
        assert pool.submit(store.launches.open_sessions).result() == ()


def test_a_refresh_lease_has_one_holder_until_it_runs_out(store, session, tokens, now):
    store.launches.create_session(session, tokens)
    ttl = timedelta(seconds=30)
    assert store.launches.acquire_refresh_lease("s1", "a", now, ttl)
    assert store.launches.acquire_refresh_lease("s1", "a", now, ttl)
    assert not store.launches.acquire_refresh_lease("s1", "b", now, ttl)
    assert store.launches.acquire_refresh_lease("s1", "b", now + ttl, ttl)
    store.launches.release_refresh_lease("s1", "a")
    assert not store.launches.acquire_refresh_lease("s1", "c", now + ttl, ttl)
    store.launches.release_refresh_lease("s1", "b")
    assert store.launches.acquire_refresh_lease("s1", "c", now + ttl, ttl)


def test_purging_takes_everything_of_a_session_with_it(store, session, tokens, now):
    store.launches.create_session(session, tokens)
    store.reading.begin("s1", now)
    store.launches.end_session("s1", now, SessionEnd.IDLE)
    assert store.launches.purge(now + timedelta(days=2), timedelta(days=1)) == 1
    assert store.launches.get_session("s1") is None
    assert store.reading.latest("s1") is None


# At rest


def test_nothing_secret_can_be_read_where_it_is_stored(store, owner, pending, session, tokens):
    store.launches.save_pending(pending)
    store.launches.create_session(session, tokens)
    content = owner.stored()
    assert b"alembic_version" in content or not owner.sqlite
    for secret in (b"very-secret-verifier", b"access-secret", b"refresh-secret", b"patient-secret"):
        assert secret not in content


@pytest.mark.threat("5.9")
def test_what_an_ehr_said_of_a_refusal_is_sealed_and_read_back(store, owner, charge, now, lease):
    store.charges.claim(charge, "h", now, lease)
    store.charges.mark(charge, "h", ChargeState.REFUSED, now, "Mrs. Example has no such account")
    assert b"Mrs. Example" not in owner.stored()
    assert store.charges.get(charge.identifier).problem == "Mrs. Example has no such account"
    store.charges.claim(charge, "h", now, lease)
    assert store.charges.get(charge.identifier).problem is None


def test_a_new_sqlite_file_is_its_owners_alone_with_all_that_lies_beside_it(tmp_path):
    before = os.umask(0)
    try:
        path = tmp_path / "fresh.sqlite3"
        with closing(Store(f"sqlite:///{path}", [Fernet.generate_key()])) as fresh:
            fresh.database.migrate()
            beside = list(tmp_path.iterdir())
            assert len(beside) > 1
            assert {file.stat().st_mode & 0o777 for file in beside} == {0o600}
    finally:
        os.umask(before)


def test_a_sqlite_file_that_is_there_keeps_the_mode_its_owner_gave_it(tmp_path):
    path = tmp_path / "shared.sqlite3"
    path.touch(0o640)
    path.chmod(0o640)
    with closing(Store(f"sqlite:///{path}", [Fernet.generate_key()])) as shared:
        shared.database.migrate()
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_database_in_memory_makes_no_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with closing(Store("sqlite://", [Fernet.generate_key()])) as store, store.database.read():
        pass
    assert list(tmp_path.iterdir()) == []


def test_keys_can_be_rotated_and_a_stranger_reads_nothing():
    old, new = Fernet.generate_key(), Fernet.generate_key()
    sealed = Vault([old]).seal(b"reading", "its place")
    assert Vault([new, old]).unseal(sealed, "its place") == b"reading"
    with pytest.raises(SealBroken):
        Vault([new]).unseal(sealed, "its place")


@pytest.mark.parametrize("at", [0, 1, 5, 17, -1])
def test_a_seal_with_one_bit_changed_opens_nowhere(at):
    vault = Vault([Fernet.generate_key()])
    sealed = bytearray(vault.seal(b"reading", "its place"))
    sealed[at] ^= 1
    with pytest.raises(SealBroken):
        vault.unseal(bytes(sealed), "its place")


# Audit


def test_the_audit_trail_holds_until_somebody_rewrites_it(store, owner, now):
    for number in range(3):
        store.audit.add(now, "chart-opened", number=number)
    assert store.audit.verify() is None
    owner.drop_guards("audit")
    owner.run("""UPDATE audit SET entry = replace(entry, '"digest": "', '"digest": "0') WHERE position = 2""")
    assert store.audit.verify() == 2


def test_cutting_off_the_end_of_the_audit_trail_is_noticed(store, owner, now):
    store.audit.add(now, "one")
    store.audit.add(now, "two")
    owner.drop_guards("audit")
    owner.run("DELETE FROM audit WHERE position = 2")
    assert store.audit.verify() == 2


@pytest.mark.parametrize("statement", ["UPDATE audit SET entry = ''", "DELETE FROM audit"])
def test_the_database_itself_refuses_to_change_the_audit_trail(store, now, statement):
    store.audit.add(now, "one")
    with pytest.raises(DBAPIError, match=REFUSED), store.database.write() as connection:
        connection.execute(text(statement))


def filled(store: Store, charge: Charge, now, lease) -> None:
    """A row in every guarded table."""
    store.charges.claim(charge, "h", now, lease)
    store.charges.confirm(charge, "c1", now, b"packet")
    with store.database.write() as connection:
        of = {"issuer_id": "general", "patient": "p1", "sealed": b"", "created_at": now}
        connection.execute(
            insert(CHANGE_PACKETS).values(
                change_id="1", charge_item="c1", sha256="", keep_until=date(2999, 1, 1), **of
            )
        )
        connection.execute(
            insert(TIME_ENTRIES).values(entry_id="1", version=1, person="P/7", state="draft", **of)
        )
        connection.execute(insert(ATTESTATIONS).values(attestation_id="1", state="stated", **of))
        denied = {"identifier": "urn:x|1", "denied_on": now.date(), "reason": "50", "remark": ""}
        connection.execute(insert(DENIALS).values(denial_id="1", version=1, state="open", **denied, **of))


@pytest.mark.parametrize("table", [table.name for table in GUARDED])
def test_no_way_of_emptying_or_overwriting_passes_the_guards(store, charge, now, lease, table):
    """TRUNCATE on PostgreSQL; on SQLite, a row put in the place of another one."""
    filled(store, charge, now, lease)
    with store.database.read() as connection:
        statement = (
            f"INSERT OR REPLACE INTO {table} SELECT * FROM {table}"
            if connection.dialect.name == "sqlite"
            else f"TRUNCATE {table} CASCADE"
        )
    with pytest.raises(DBAPIError, match=REFUSED), store.database.write() as connection:
        connection.execute(text(statement))


ACTS = ["update", "delete"]


def acting(act: str, table: Table) -> TextClause:
    """A statement that the guards refuse."""
    column = next(column.name for column in table.columns if not column.primary_key)
    return text(f"UPDATE {table} SET {column} = {column}" if act == "update" else f"DELETE FROM {table}")


def refused(store: Store, act: str, table: Table) -> bool:
    with pytest.raises(DBAPIError, match=REFUSED), store.database.write() as connection:
        connection.execute(acting(act, table))
    return True


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("table", GUARDED, ids=lambda table: table.name)
def test_a_guard_is_lifted_alone_and_stands_again_afterwards(store, charge, now, lease, table, act):
    filled(store, charge, now, lease)
    with store.database.write() as connection, lifted(connection, act, table):
        nothing = text(f"{acting(act, table)} WHERE {next(iter(table.primary_key)).name} IS NULL")
        assert connection.execute(nothing).rowcount == 0
    assert all(refused(store, each, guarded) for each in ACTS for guarded in GUARDED)


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("table", GUARDED, ids=lambda table: table.name)
def test_a_guard_stands_again_when_what_it_was_lifted_for_fails_half_way(
    store, charge, now, lease, table, act
):
    def fails() -> None:
        with store.database.write() as connection, lifted(connection, act, table):
            assert connection.execute(acting(act, table)).rowcount > 0
            raise RuntimeError("half-way")

    filled(store, charge, now, lease)
    with pytest.raises(RuntimeError, match="half-way"):
        fails()
    assert all(refused(store, each, guarded) for each in ACTS for guarded in GUARDED)


def test_entries_from_many_threads_make_one_chain(store, now):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: store.audit.add(now, "n", number=number), range(24)))
    assert store.audit.verify() is None
    assert len(list(store.audit.entries())) == 24


# Reading jobs


def test_a_file_of_rows_goes_with_its_session_and_one_being_made_is_not_wanted_any_more(
    store, session, tokens, now
):
    store.launches.create_session(session, tokens)
    made = store.exports.begin("s1", "rows.csv", now)
    store.exports.end(made, "s1", b"rows", now)
    assert store.exports.content("s1", "rows.csv") == b"rows"
    under_way = store.exports.begin("s1", "more.csv", now)
    assert store.exports.go_on(under_way, Made(rows=1, file="more.csv"), now)
    store.launches.end_session("s1", now, SessionEnd.LOGGED_OUT)
    assert not store.exports.go_on(under_way, Made(rows=2, file="more.csv"), now)
    store.exports.end(under_way, "s1", b"more", now)
    assert store.exports.of_session("s1", now) is None
    assert store.exports.content("s1", "more.csv") is None


@pytest.fixture
def job(store, session, tokens, now):
    store.launches.create_session(session, tokens)
    return store.reading.begin("s1", now)


def test_a_job_under_way_is_not_begun_twice(store, job, now):
    assert store.reading.begin("s1", now).id == job.id


def test_one_of_many_processes_gets_the_job(store, job, now, lease):
    with ThreadPoolExecutor(8) as pool:
        claims = list(pool.map(lambda n: store.reading.claim(job.id, f"h{n}", now, lease), range(8)))
    assert claims.count(True) == 1


def test_a_silent_process_loses_the_job_and_cannot_finish_it(store, job, now, lease):
    assert store.reading.claim(job.id, "dead", now, lease)
    assert not store.reading.claim(job.id, "alive", now + lease / 2, lease)
    assert store.reading.claim(job.id, "alive", now + lease, lease)
    assert not store.reading.report(job.id, "dead", Progress(1, 1, 1), now + lease, lease)
    snapshot = Snapshot(job.id, "s1", now, "0" * 64, b"{}")
    assert not store.reading.finish(snapshot, "dead", [])
    assert store.reading.finish(snapshot, "alive", [])
    assert store.reading.latest("s1").state is JobState.DONE


def test_a_job_that_lost_three_processes_has_failed(store, job, now, lease):
    for number in range(3):
        assert store.reading.claim(job.id, f"h{number}", now + number * lease, lease)
    assert not store.reading.claim(job.id, "h4", now + 3 * lease, lease)
    assert store.reading.latest("s1").failure == "process-lost"


def test_a_snapshot_gives_back_every_byte_and_replaces_the_one_before(store, job, now, lease):
    page = [StoredResource("page", None, "Observation/o1", "1", b'{"id":"o1"}')]
    store.reading.claim(job.id, "h", now, lease)
    chunk = store.reading.seal_chunk("Observation 0001", page)
    assert b'"id"' not in chunk.sealed
    store.reading.finish(Snapshot(job.id, "s1", now, snapshot_digest([chunk]), b"first"), "h", [chunk])
    assert list(store.reading.resources(job.id)) == page
    second = store.reading.begin("s1", now + lease)
    store.reading.claim(second.id, "h", now, lease)
    store.reading.finish(Snapshot(second.id, "s1", now, "1" * 64, b"second"), "h", [])
    assert store.reading.snapshot_of("s1").result == b"second"
    assert list(store.reading.resources(job.id)) == []


def test_a_snapshots_digest_does_not_depend_on_the_order_of_arrival(store):
    one, two = (store.reading.seal_chunk(name, []) for name in ("a", "b"))
    assert snapshot_digest([one, two]) == snapshot_digest([two, one])


# Charges


def test_one_of_many_processes_may_write_a_charge(store, charge, now, lease):
    with ThreadPoolExecutor(8) as pool:
        claims = list(pool.map(lambda n: store.charges.claim(charge, f"h{n}", now, lease), range(8)))
    assert claims.count(True) == 1


def test_a_charge_that_was_sent_keeps_its_content_whoever_takes_it_over(store, charge, now, lease):
    store.charges.claim(charge, "dead", now, lease)
    store.charges.mark(charge, "dead", ChargeState.SENT, now, keep=True)
    other = replace(charge, content=ChargeContent(**{**as_dict(charge.content), "attested": ()}))
    assert not store.charges.claim(other, "alive", now, lease)
    assert store.charges.claim(other, "alive", now + lease, lease)
    kept = store.charges.get(charge.identifier)
    assert kept.state is ChargeState.SENT
    assert kept.content.attested == ("consent",)


def as_dict(content):
    return {name: getattr(content, name) for name in content.__struct_fields__}


def test_confirming_twice_makes_one_packet_and_a_frozen_anchor_stays(store, charge, now, lease):
    store.charges.claim(charge, "h", now, lease)
    assert store.charges.confirm(charge, "c1", now, b"packet", user="Practitioner/7")
    assert not store.charges.confirm(charge, "c1", now, b"another", user="Practitioner/7")
    assert store.charges.packet(charge.identifier) == b"packet"
    moved = replace(charge.content.anchor, anchor_day=date(2026, 2, 1))
    later = replace(
        charge, identifier="urn:x|2", content=ChargeContent(**{**as_dict(charge.content), "anchor": moved})
    )
    store.charges.claim(later, "h", now, lease)
    store.charges.confirm(later, "c2", now, b"p2", user="Practitioner/7")
    assert store.charges.enrolments("general", "p1")["rtm"].anchor_day == date(2026, 1, 5)


def test_a_packet_cannot_be_changed_or_deleted_before_its_date(store, charge, now, lease):
    store.charges.claim(charge, "h", now, lease)
    store.charges.confirm(charge, "c1", now, b"packet")
    for statement in ("UPDATE charge_packets SET sha256 = ''", "DELETE FROM charge_packets"):
        with pytest.raises(DBAPIError, match=REFUSED), store.database.write() as connection:
            connection.execute(text(statement))


def test_a_preparation_that_is_withdrawn_leaves_no_trace_but_a_sent_charge_stays(store, charge, now, lease):
    store.charges.claim(charge, "h", now, lease)
    store.charges.withdraw_preparation(charge.identifier, "h")
    assert store.charges.get(charge.identifier) is None
    store.charges.claim(charge, "h", now, lease)
    store.charges.mark(charge, "h", ChargeState.SENT, now, keep=True)
    store.charges.withdraw_preparation(charge.identifier, "h")
    assert store.charges.get(charge.identifier).state is ChargeState.SENT
