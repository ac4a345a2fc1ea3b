"""An encryption key is replaced in two steps, and no process is shut out between them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from cryptography.fernet import Fernet

from smartapp.commands.keys import run
from smartapp.store import Store
from smartapp.store.vault import SealBroken, Vault
from tests.smartapp.conftest import make_tables

OLD, NEW = Fernet.generate_key(), Fernet.generate_key()


@pytest.fixture
def worker(database_url: str) -> Iterator[Callable[..., Store]]:
    """A function that starts a process of the app, with these keys, on the test's database."""
    make_tables(database_url)
    started: list[Store] = []

    def start(*keys: bytes) -> Store:
        started.append(Store(database_url, keys))
        return started[-1]

    yield start
    for store in started:
        store.close()


def events(store: Store) -> list[str]:
    return [entry["event"] for entry in store.audit.entries()]


@pytest.mark.parametrize(
    ("not_yet", "already"),
    [
        pytest.param((OLD,), (OLD, NEW), id="step 1: last everywhere"),
        pytest.param((OLD, NEW), (NEW, OLD), id="step 2: first everywhere"),
        pytest.param((NEW, OLD), (NEW,), id="afterwards: the old one is dropped"),
    ],
)
def test_in_each_step_a_process_not_yet_restarted_reads_what_the_others_write(worker, not_yet, already, now):
    slow, restarted = worker(*not_yet), worker(*already)
    for store in (slow, restarted):
        store.audit.add(now, f"written-{len(events(store))}")
    assert events(slow) == events(restarted) == ["written-0", "written-1"]


def test_a_key_that_is_first_at_once_shuts_out_who_does_not_know_it(worker, now):
    """Why there are two steps."""
    slow, restarted = worker(OLD), worker(NEW, OLD)
    restarted.audit.add(now, "written")
    with pytest.raises(SealBroken):
        events(slow)


@pytest.fixture
def keys(worker, database_url, monkeypatch, now) -> Callable[..., int]:
    """A function that runs `smartapp keys encryption` with these keys, after OLD was used."""
    with closing(worker(OLD)) as store:
        store.audit.add(now, "written")
    monkeypatch.setenv("SMARTAPP_DATABASE_URL", database_url)

    def command(*given: bytes) -> int:
        monkeypatch.setenv("SMARTAPP_KEYS", ",".join(key.decode() for key in given))
        return run(["encryption"])

    return command


def test_the_command_says_how_the_keys_stand_and_never_shows_one(keys, capsys):
    old, new = Vault([OLD, NEW]).key_ids
    assert keys(OLD, NEW) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[:2] == [f"1  {old}  seals and opens", f"2  {new}  opens"]
    assert keys(NEW, OLD) == 1
    out += capsys.readouterr().out
    assert f"every process must have been restarted with {new} behind {old}" in out
    assert keys(NEW) == 1
    out += capsys.readouterr().out
    assert "bring the missing key back" in out
    assert not any(key.decode() in out for key in (OLD, NEW))


def test_once_the_new_key_sealed_something_it_is_at_home(keys, worker, now, capsys):
    worker(NEW, OLD).audit.add(now, "written")
    assert keys(NEW, OLD) == 0
    assert f"{Vault([NEW]).key_ids[0]} seals; " in capsys.readouterr().out


def test_a_new_key_is_one_line_and_the_two_steps_are_told_beside_it(capsys):
    assert run(["encryption", "--new"]) == 0
    told = capsys.readouterr()
    assert len(Vault([told.out.strip().encode()]).key_ids) == 1
    assert "LAST in SMARTAPP_KEYS everywhere" in told.err
