"""A seal opens where it was made for, and nowhere else; seals of earlier versions are bound when asked to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import Column, LargeBinary, UniqueConstraint, select, text, update

from launch.ports import PendingAbsence
from smartapp.commands.keys import run
from smartapp.store import Store
from smartapp.store.chain import ChainFault, content_digest, seal_of
from smartapp.store.guards import lifted
from smartapp.store.resealing import NEWEST, PLACES, Absence, Resealing
from smartapp.store.tables import AUDIT, METADATA, PENDING_LAUNCHES
from smartapp.store.vault import SealBroken, SealMoved, Vault, from_text, in_text, is_bound, place
from tests.smartapp.conftest import make_tables
from tests.support.earlier_seals import sealed_earlier
from tests.support.filled_store import PENDING, everything, fill

KEY = Fernet.generate_key()
SEALED = [column for table in METADATA.sorted_tables for column in table.columns if "bound_to" in column.info]
SEALED_BYTES = [column for column in SEALED if column is not AUDIT.c.entry]


@pytest.fixture
def filled(database_url, monkeypatch, now, lease) -> Iterator[Store]:
    monkeypatch.setenv("SMARTAPP_DATABASE_URL", database_url)
    monkeypatch.setenv("SMARTAPP_KEYS", KEY.decode())
    make_tables(database_url)
    with closing(Store(database_url, [KEY])) as store:
        fill(store, now, lease)
        yield store


def everything_and_the_launches(store: Store) -> list[object]:
    found = everything(store)
    pending = [store.launches.take_pending(one) for one in PENDING]
    assert not any(isinstance(one, PendingAbsence) for one in pending)
    return [*found, pending]


def rows_of(store: Store, column: Column) -> list:
    order = list(column.table.primary_key)
    with store.database.read() as connection:
        return connection.execute(
            select(column.table).where(column.is_not(None)).order_by(*order).limit(2)
        ).all()


def put(store: Store, column: Column, row, value: object) -> None:
    """Whoever owns the database puts another value in a column of a row."""
    values = row if isinstance(row, dict) else dict(row._mapping)
    same = [key == values[key.name] for key in column.table.primary_key]
    with store.database.write() as connection, lifted(connection, "update", column.table):
        assert connection.execute(update(column.table).where(*same).values({column: value})).rowcount == 1


def moved(store: Store) -> int:
    return Resealing(store.database, store.vault).need().values[Absence.MOVED]


def test_every_column_of_bytes_says_what_its_seals_are_bound_to():
    for table in METADATA.sorted_tables:
        for column in table.columns:
            if isinstance(column.type, LargeBinary):
                assert column.info.get("bound_to"), f"{column} holds seals: declare it with `sealed_column`"
    assert {id(one.column) for one in PLACES if one.column.name != "problem"} == {id(one) for one in SEALED}


@pytest.mark.parametrize("column", SEALED, ids=str)
def test_what_a_seal_is_bound_to_names_one_row(column):
    table = column.table
    unique = [set(table.primary_key.columns.keys())]
    unique += [set(one.columns.keys()) for one in table.constraints if isinstance(one, UniqueConstraint)]
    assert any(names <= set(column.info["bound_to"]) for names in unique)


@pytest.mark.threat("5.9")
def test_two_seals_that_were_exchanged_open_neither_row(filled):
    """Every table that seals something, a new one too, as soon as it is there."""
    for column in SEALED_BYTES:
        first, second = rows_of(filled, column)
        put(filled, column, first, second._mapping[column])
        put(filled, column, second, first._mapping[column])
        assert moved(filled) == 2, column
        with pytest.raises(SealMoved):
            assert everything_and_the_launches(filled) is None, f"{column} was shown"
        for row in (first, second):
            put(filled, column, row, row._mapping[column])
    assert moved(filled) == 0


def test_what_was_exchanged_is_counted_and_told(filled, capsys):
    column = METADATA.tables["months"].c.sealed
    first, second = rows_of(filled, column)
    put(filled, column, first, second.sealed)
    assert run(["reseal", "--check"]) == 1
    assert "1 values were sealed for another row, or changed" in capsys.readouterr().out


def test_what_was_exchanged_is_not_healed_by_sealing_it_anew(filled):
    column = METADATA.tables["outbox"].c.sealed
    first, second = rows_of(filled, column)
    put(filled, column, first, second.sealed)
    vault = Vault([Fernet.generate_key(), KEY])
    Resealing(filled.database, vault).run(lambda _table, _count: None)
    with pytest.raises(SealMoved):
        vault.unseal(rows_of(filled, column)[0].sealed, place(column, first))


def test_two_entries_of_the_trail_that_were_exchanged_are_found(filled):
    """Their digests in the open stay where they were: the seals alone are exchanged."""
    first, second = rows_of(filled, AUDIT.c.entry)
    for row, other in ((first, second), (second, first)):
        put(filled, AUDIT.c.entry, row, row.entry.replace(seal_of(row.entry), seal_of(other.entry)))
    check = filled.audit.check()
    assert (check.broken_at, check.fault) == (1, ChainFault.CHANGED)
    with pytest.raises(SealBroken):
        everything(filled)


def test_a_row_given_to_another_patient_or_promoted_does_not_open(filled):
    """What stands in the open beside a seal counts too: a draft does not become a signed entry."""
    for table, named, another in (
        ("time_entries", "state", "signed"),
        ("time_entries", "patient", "p2"),
        ("attestations", "state", "settled"),
        ("outbox", "patient", "p2"),
        ("outbox", "code", "98980"),
        ("charge_packets", "issuer_id", "another"),
        ("months", "patient", "p2"),
    ):
        column = METADATA.tables[table].c[named]
        row = rows_of(filled, METADATA.tables[table].c.sealed)[0]
        put(filled, column, row, another)
        assert moved(filled) == 1, column
        put(filled, column, {**row._mapping, named: another}, row._mapping[column])


def test_a_snapshot_given_to_another_session_shows_nobody_anothers_chart(filled):
    snapshots = METADATA.tables["snapshots"]
    first, second = rows_of(filled, snapshots.c.sealed)
    with filled.database.write() as connection:
        connection.execute(text("DELETE FROM snapshots WHERE id = :id"), {"id": second.id})
    put(filled, snapshots.c.session_id, first, second.session_id)
    with pytest.raises(SealMoved):
        filled.reading.snapshot_of(second.session_id)


def test_seals_of_an_earlier_version_open_still_and_are_bound_when_sealed_anew(filled, capsys):
    before = everything(filled)
    as_an_earlier_version_sealed(filled)
    assert everything(filled) == before
    assert run(["reseal", "--check"]) == 1
    assert "values are sealed without their row, by an earlier version" in capsys.readouterr().out
    assert run(["reseal"]) == 0
    assert "Every seal is bound to its row; none of an earlier version is left." in capsys.readouterr().out
    for column in SEALED_BYTES:
        assert all(is_bound(row._mapping[column]) for row in rows_of(filled, column))
    assert everything(filled) == before
    need = Resealing(filled.database, filled.vault).need()
    assert set(+need.values) == {NEWEST}


def as_an_earlier_version_sealed(store: Store) -> None:
    with store.database.write() as connection:
        for column in SEALED:
            with lifted(connection, "update", column.table):
                for row in connection.execute(select(column.table).where(column.is_not(None))).all():
                    value, bound_to = row._mapping[column], place(column, row)
                    if column is AUDIT.c.entry:
                        token = seal_of(value)
                        content = store.vault.unseal(from_text(token), bound_to)
                        changed: object = value.replace(token, in_text(sealed_earlier(KEY, content)))
                        assert content_digest(str(changed)) == content_digest(value)
                    else:
                        changed = sealed_earlier(KEY, store.vault.unseal(value, bound_to))
                    same = [key == row._mapping[key] for key in column.table.primary_key]
                    connection.execute(update(column.table).where(*same).values({column: changed}))


def test_a_launch_that_an_earlier_version_began_is_taken(filled):
    as_an_earlier_version_sealed(filled)
    assert not isinstance(filled.launches.take_pending(PENDING[0]), PendingAbsence)
    with filled.database.read() as connection:
        left = connection.execute(select(PENDING_LAUNCHES.c.sealed)).scalars().all()
    assert left.count(None) == 1


@pytest.mark.threat("5.9")
def test_a_moved_seal_is_told_on_the_page_and_nothing_of_it_is_shown(shared_world, browser):
    one = shared_world.open(browser, "ready-musculoskeletal")
    other = shared_world.open(browser, "ready-physiologic")
    snapshots = METADATA.tables["snapshots"]
    by_session = {row.session_id: row for row in rows_of(shared_world.store, snapshots.c.sealed)}
    sessions = [page.url.split("/s/")[1].split("/")[0] for page in (one, other)]
    put(shared_world.store, snapshots.c.sealed, by_session[sessions[0]], by_session[sessions[1]].sealed)
    page = browser.get(one.url)
    assert page.status == 500
    assert "was sealed for another place, or was changed" in page.text
    assert "Nothing of it is shown" in page.text
