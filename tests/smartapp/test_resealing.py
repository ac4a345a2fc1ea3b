"""An old encryption key is retired: everything is sealed with the newest one, and nothing else changes."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import func, select
from sqlalchemy.exc import DBAPIError

from launch.ports import PendingLaunch, TokenSet
from smartapp.commands.keys import run
from smartapp.store import Store
from smartapp.store import resealing as module
from smartapp.store.guards import GUARDED
from smartapp.store.resealing import PLACES, Absence, Resealing
from smartapp.store.vault import SealBroken, Vault
from tests.smartapp.conftest import REFUSED
from tests.support.filled_store import PENDING, everything, fill

OLD, NEW = Fernet.generate_key(), Fernet.generate_key()


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
    pending = new_alone.launches.take_pending(PENDING[0])
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

    def reseal(self, sealed: bytes, bound_to: str, anew: str | None = None) -> bytes:
        while self._happens:
            self._happens.pop()()
        return super().reseal(sealed, bound_to, anew)


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
