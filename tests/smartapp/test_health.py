"""Whether the process lives is answered without waiting; what keeps it from working, in a word."""

from __future__ import annotations

import resource
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest
import requests
from cryptography.fernet import Fernet
from flask import Flask
from sqlalchemy import text

from smartapp.commands.demo import free_port
from smartapp.health import Health, Readiness
from smartapp.serving import AppServer
from smartapp.store import Store
from smartapp.store.database import Database
from tests.support.sandbox import LONG


@pytest.fixture
def health(store: Store) -> Health:
    return Health(store.database)


@pytest.fixture
def on_sqlite(database_url: str) -> Path:
    """The database's file."""
    if not database_url.startswith("sqlite"):
        pytest.skip("the disk of a server is the server's")
    return Path(database_url.removeprefix("sqlite:///"))


def test_a_database_that_answers_with_this_versions_tables_is_ready(health):
    assert health.readiness() is Readiness.OK


def test_tables_of_another_version_are_named(health, owner):
    owner.run("UPDATE alembic_version SET version_num = '0001'")
    assert health.readiness() is Readiness.SCHEMA


def test_a_database_without_tables_is_named_as_well(database_url):
    with closing(Store(database_url, [Fernet.generate_key()])) as store:
        assert Health(store.database).readiness() is Readiness.SCHEMA


@contextmanager
def no_file_may_grow() -> Iterator[None]:
    """As on a full disk: the system refuses every byte beyond what is there."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_takes_no_byte_more_is_full(health, on_sqlite):
    assert health.readiness() is Readiness.OK
    with no_file_may_grow():
        assert health.readiness() is Readiness.DISK_FULL
    assert health.readiness() is Readiness.OK


def test_a_disk_with_next_to_no_room_is_full_before_a_charge_finds_out(health, on_sqlite, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1024))
    assert health.readiness() is Readiness.DISK_FULL


def test_a_folder_that_takes_no_file_is_read_only(health, on_sqlite, monkeypatch):
    """As a disk that was remounted read-only says it; permissions alone do not stop the root of CI."""

    def refuse(**_more: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    assert health.readiness() is Readiness.READ_ONLY


def test_a_server_that_takes_no_writes_is_read_only(health, owner, database_url):
    if database_url.startswith("sqlite"):
        pytest.skip("a setting of PostgreSQL")
    name = database_url.rsplit("/", 1)[1].split("?")[0]
    owner.run(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    with closing(Database(database_url)) as anew:
        assert Health(anew).readiness() is Readiness.READ_ONLY


def test_a_database_that_does_not_answer_holds_nobody_longer_than_the_bound(store, monkeypatch):
    """And however often somebody asks, one thread waits for it."""
    asked, answer = [], threading.Event()

    def hang() -> None:
        asked.append(threading.current_thread())
        assert answer.wait(LONG)

    monkeypatch.setattr(store.database, "check_schema", hang)
    health = Health(store.database, seconds=0.05)
    assert [health.readiness() for _ in range(3)] == [Readiness.DATABASE] * 3
    assert len(asked) == 1
    answer.set()
    asked[0].join(LONG)
    monkeypatch.undo()
    assert Health(store.database).readiness() is Readiness.OK


def test_a_locked_database_is_one_that_does_not_answer(store, on_sqlite):
    with closing(Database(f"sqlite:///{on_sqlite}")) as other, other.read() as connection:
        connection.execute(text("PRAGMA locking_mode = EXCLUSIVE"))
        connection.commit()
        connection.execute(text("UPDATE audit_head SET position = position"))
        store.database.close()
        assert Health(Database(f"sqlite:///{on_sqlite}"), seconds=0.05).readiness() is Readiness.DATABASE


def test_an_app_that_is_being_stopped_is_not_ready(health):
    health.stop()
    assert health.readiness() is Readiness.STOPPING


def test_the_page_says_one_word_and_nothing_of_what_failed(shared_world, monkeypatch):
    address = f"{shared_world.settings.base_url}/health/ready"
    ready = requests.get(address, timeout=LONG)
    assert (ready.status_code, ready.json()) == (200, {"status": "ok"})
    monkeypatch.setattr(Database, "check_schema", _fail)
    ready = requests.get(address, timeout=LONG)
    assert (ready.status_code, ready.json()) == (503, {"status": "database"})


def _fail(_database: Database) -> None:
    raise OSError("somewhere://with-a-password")


class Blocked:
    """An app each of whose requests waits until it is let go."""

    def __init__(self) -> None:
        self.go, self.arrived = threading.Event(), threading.Semaphore(0)
        self.app = Flask("blocked")
        self.app.extensions["smartapp"] = SimpleNamespace(
            close=lambda: None, health=SimpleNamespace(stop=lambda: None)
        )
        self.app.add_url_rule("/wait", view_func=self.wait)

    def wait(self) -> str:
        self.arrived.release()
        assert self.go.wait(LONG)
        return "waited"


@pytest.fixture
def blocked() -> Iterator[tuple[Blocked, Callable[[str], requests.Response]]]:
    app, port = Blocked(), free_port()
    with AppServer(app.app, "127.0.0.1", port, threads=2):
        yield app, lambda path: requests.get(f"http://127.0.0.1:{port}{path}", timeout=LONG)
        app.go.set()


def test_requests_that_were_sent_half_hold_no_thread(blocked):
    """More of them than waitress would have connections for if it were not told otherwise."""
    app, get = blocked
    app.go.set()
    port = urlsplit(get("/wait").url).port
    with ExitStack() as stack:
        for _ in range(150):
            half = stack.enter_context(socket.create_connection(("127.0.0.1", port), LONG))
            half.sendall(b"GET /wait HTTP/1.1\r\nHost: x\r\n")
        assert get("/wait").text == "waited"


def test_whether_the_process_lives_is_answered_while_every_thread_waits(blocked):
    app, get = blocked
    answers = []
    waiting = [threading.Thread(target=lambda: answers.append(get("/wait").text)) for _ in range(4)]
    for thread in waiting:
        thread.start()
    for _ in range(2):
        assert app.arrived.acquire(timeout=LONG)
    live = get("/health/live")
    assert (live.status_code, live.json()) == (200, {"status": "ok"})
    assert answers == []
    app.go.set()
    for thread in waiting:
        thread.join(LONG)
    assert answers == ["waited"] * 4
