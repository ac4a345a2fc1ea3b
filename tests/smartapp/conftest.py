"""A sandbox EHR and the app, both over real HTTP on loopback, and a browser without scripts."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import cache, cached_property
from importlib.resources import files
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest
from cryptography.fernet import Fernet
from playwright.sync_api import Browser as BrowserProgram
from playwright.sync_api import BrowserContext, Playwright, sync_playwright
from sqlalchemy import MetaData, create_engine, select, text

from launch.sandbox import Client, RunningSandbox
from launch.sandbox import database as ehr_database
from launch.sandbox.keys import SigningKey
from smartapp import create_app
from smartapp.clock import SystemClock, ahead_of_the_machine
from smartapp.commands.demo import CLIENT_ID, ISSUER, free_port
from smartapp.commands.demo_check import Browser, Form, Page
from smartapp.configuration.settings import Mode, Settings
from smartapp.ehr.reading.findings import Findings
from smartapp.serving import AppServer
from smartapp.store import Store, database
from smartapp.store.reading import Snapshot
from smartapp.web.own_pages import address_of
from tests.smartapp.serve_app import begin, serve
from tests.support.case_world import CaseWorld, set_up
from tests.support.chromium import CHROMIUM, chromium_of, new_window
from tests.support.evaluation import Case
from tests.support.postgres import postgres
from tests.support.sandbox import LONG, NOON, ZONE, start_sandbox

REFUSED = "never changed|never deleted|are kept"
"""What the database says where its guards refuse a change."""

_BUTTONS: dict[tuple[str, str, str | None], Form] = {}
"""Those of the EHRs that open the app, by patient, mode and user."""


@dataclass
class World:
    """One EHR, one app with its own database, and what a test does with them."""

    ehr: RunningSandbox
    settings: Settings
    stack: ExitStack = field(repr=False)

    @property
    def fhir_base(self) -> str:
        return self.ehr.config.fhir_base

    @cached_property
    def store(self) -> Store:
        """The app's store, opened a second time."""
        return self.stack.enter_context(closing(Store(self.settings.database_url, self.settings.keys)))

    def now(self) -> datetime:
        """What the clocks of the app and of its EHR show."""
        return SystemClock(self.settings.clock_ahead).now()

    @property
    def today(self) -> date:
        """The day it is in this world, at the site."""
        return self.now().astimezone(ZONE).date()

    def charges(self, patient: str) -> list[dict[str, Any]]:
        """The ChargeItems the EHR holds for a patient, straight from its tables."""
        with self.ehr.sandbox.database.read() as connection:
            rows = connection.execute(
                "SELECT body FROM resource WHERE type = 'ChargeItem' AND patient = ?", (patient,)
            ).fetchall()
        return [json.loads(body) for (body,) in rows]

    def resources(self, type_: str, patient: str) -> list[dict[str, Any]]:
        """A patient's resources of a type, straight from the EHR's tables."""
        with self.ehr.sandbox.database.read() as connection:
            rows = connection.execute(
                "SELECT body FROM resource WHERE type = ? AND patient = ?", (type_, patient)
            ).fetchall()
        return [json.loads(body) for (body,) in rows]

    def ehr_changes(self, type_: str, logical_id: str, **elements: Any) -> None:
        """Somebody else changes a resource in the EHR."""
        stored = self.ehr.sandbox.store.read(type_, logical_id)
        self.ehr.sandbox.store.update({**json.loads(stored.body), **elements}, None)

    def ehr_creates(self, resource: dict[str, Any]) -> str:
        """Somebody else writes a resource into the EHR; its logical id."""
        stored, _ = self.ehr.sandbox.store.create(resource)
        return str(json.loads(stored.body)["id"])

    def ehr_shows_surgery(self, patient: str) -> None:
        """An operation without a day, so that every charge asks who is paid for it."""
        self.ehr_creates(
            {
                "resourceType": "Procedure",
                "status": "completed",
                "code": {"text": "an operation"},
                "subject": {"reference": f"Patient/{patient}"},
            }
        )

    def launch(self, browser: Browser, patient: str, mode: str = "tab", user: str | None = None) -> Page:
        """Press the EHR's button; the page the app answers with."""
        button = (patient, mode, user)
        if button not in _BUTTONS:
            self._look_for(browser, *button)
        form = _BUTTONS[button]
        return browser.submit(Form(form.method, self.ehr.base_url + form.action, form.controls), mode=mode)

    def _look_for(self, browser: Browser, patient: str, mode: str, user: str | None) -> None:
        """Find a button on the EHR's page. It is the same on that of every EHR of this process."""
        for form in browser.get(f"{self.ehr.base_url}/" + (f"?user={user}" if user else "")).forms:
            values = {control.value for control in form.controls}
            if patient in values and mode in values:
                _BUTTONS[patient, mode, user] = Form(form.method, urlsplit(form.action).path, form.controls)
                return
        raise AssertionError(f"no launch button for {patient}")

    def open(self, browser: Browser, patient: str, user: str | None = None) -> Page:
        """Launch, and wait until the chart has been read."""
        return self.read(browser, self.launch(browser, patient, user=user))

    def worklist(self, browser: Browser, user: str | None = None) -> Page:
        """Press the EHR's button that opens the app without a patient; the page the app answers with."""
        address = f"{self.ehr.base_url}/" + (f"?user={user}" if user else "")
        return browser.submit(browser.get(address).form("/launch-worklist"))

    def read(self, browser: Browser, page: Page) -> Page:
        """Refresh as the page itself asks, until nothing is read any more."""
        until, pause = time.monotonic() + LONG, 0.0
        while "Reading the chart" in page.text and time.monotonic() < until:
            assert page.refresh, "a page that waits must refresh itself"
            if not _waited_for_readings():
                time.sleep(pause)  # another process reads, or nobody does yet
            pause = 0.05
            page = browser.get(page.url)
        return page

    def final_form(self, browser: Browser, page: Page, key: str | None = None) -> Form:
        """Choose and confirm everything for a card; the form that writes the charge, not sent yet."""
        links = [target for target, text in page.links if text.startswith("Review and accept")]
        link = next(target for target in links if key is None or target.endswith(key))
        return World.form_at(browser, link)

    @staticmethod
    def choices_at(browser: Browser, link: str) -> Page:
        """The page on which everything for some charges is chosen, also where nothing is open on it."""
        page = browser.get(link)
        change = [target for target, text in page.links if text == "Change something"]
        return browser.get(change[0]) if change else page

    @staticmethod
    def form_at(browser: Browser, link: str) -> Form:
        """Choose and confirm everything at the address of some charges; the form that writes them."""
        form = World.choices_at(browser, link).form("/check")
        statements = [control.value for control in form.controls if control.name == "attest"]
        chosen = {
            c.name: c.value or next(v for v in c.options if v) for c in form.controls if c.kind == "select"
        }
        preview = browser.submit(form, **({"attest": statements} if statements else {}), **chosen)
        assert preview.status == 200, preview.text
        return preview.form(urlsplit(link).path)

    @staticmethod
    def certified(browser: Browser, page: Page) -> Page:
        """Certify the month of a page, also where something earned stays uncharged."""
        form = page.form("/certify")
        asked = any(control.name == "uncharged" for control in form.controls)
        return browser.submit(form, **({"uncharged": "yes"} if asked else {}))

    @staticmethod
    def change_address(page: Page, charge_item: str) -> str:
        """Where a charge of the EHR would be changed in the session of a page."""
        session = page.url.split("/s/")[1].split("/")[0]
        return f"{page.url.rstrip('/')}/changes/{address_of(f'ChargeItem/{charge_item}', session)}"

    def findings(self, form: Form) -> tuple[Snapshot, Findings]:
        """What the session that a form belongs to was shown."""
        session_id = urlsplit(form.action).path.split("/")[2]
        snapshot = self.store.reading.snapshot_of(session_id)
        assert snapshot is not None
        return snapshot, msgspec.json.decode(snapshot.result, type=Findings)

    def settings_as_text(self, later: timedelta = timedelta()) -> str:
        """The settings, for another process on the same database whose clock is so much ahead."""
        return json.dumps(
            {
                "keys": [key.decode() for key in self.settings.keys],
                "base_url": self.settings.base_url,
                "issuers_file": str(self.settings.issuers_file),
                "site_file": str(self.settings.site_file),
                "database_url": self.settings.database_url,
                "job_lease_seconds": self.settings.job_lease_seconds,
                "clock_ahead": (self.settings.clock_ahead + later).total_seconds(),
            }
        )

    def process(self, later: timedelta = timedelta()) -> AppProcess:
        """The app in a process of its own, on the same database, at another port; its clock is so much ahead
        of this one's."""
        return AppProcess(self, later)


def _waited_for_readings() -> bool:
    """Wait until the readings of this process are done, but not for long; whether there were any."""
    until = time.monotonic() + 0.05
    under_way = [thread for thread in threading.enumerate() if thread.name.startswith("reading-")]
    for thread in under_way:
        thread.join(max(0.0, until - time.monotonic()))
    return bool(under_way)


class AppProcess:
    """A process that serves the app until it is stopped or killed."""

    def __init__(self, world: World, later: timedelta) -> None:
        self.port = free_port()
        self.base = world.settings.base_url
        self._process, self._told = begin(serve, self.port, world.settings_as_text(later))
        world.stack.callback(self.kill)

    def ready(self) -> AppProcess:
        assert self._told.recv() == "ready"
        return self

    def here(self, address: str) -> str:
        """The same address at this process's port."""
        return address.replace(self.base, f"http://127.0.0.1:{self.port}")

    def told_to_end(self) -> BaseProcess:
        """SIGTERM: what is under way may be finished."""
        self._process.terminate()
        return self._process

    def kill(self) -> None:
        """SIGKILL: no handler runs, nothing is committed any more."""
        self._process.kill()
        self._process.join(LONG)
        self._told.close()


EXTRA_SCOPES = ("patient/DeviceMetric.rs", "patient/CarePlan.rs")


def _settings(
    folder: Path,
    ehr_url: str,
    port: int,
    extra_scopes: tuple[str, ...] = EXTRA_SCOPES,
    site_more: str = "",
    issuer_more: str = "",
    profile: str = "sandbox",
    **more: Any,
) -> Settings:
    issuers = folder / "issuers.toml"
    issuers.write_text(
        f"[issuers.{ISSUER}]\n"
        f'fhir_base = "{ehr_url}/fhir/r4"\n'
        f'client_id = "{CLIENT_ID}"\n'
        f'profile = "{profile}"\n'
        'front_page = "General <Sandbox> Hospital"\n'
        f'frame_ancestors = ["{ehr_url}"]\n'
        f"extra_scopes = {json.dumps(extra_scopes)}\n" + issuer_more
    )
    site = folder / "site.yaml"
    site.write_text((files("launch") / "sandbox" / "site.yaml").read_text("utf-8") + site_more)
    return Settings(
        keys=(Fernet.generate_key(),),
        base_url=f"http://127.0.0.1:{port}",
        issuers_file=issuers,
        site_file=site,
        mode=Mode.TEST,
        **more,
    )


@pytest.fixture(scope="session", autouse=True)
def nobody_waits_for_the_disk() -> Iterator[None]:
    """What the databases of this process write need not outlive the machine: no commit waits for its disk."""
    prepare, connect = database._prepare_sqlite, ehr_database.Database._connect

    def prepared(connection: Any, record: object) -> None:
        prepare(connection, record)
        connection.execute("PRAGMA synchronous = OFF")

    def connected(self: ehr_database.Database, target: str | Path) -> sqlite3.Connection:
        connection = connect(self, target)
        connection.execute("PRAGMA synchronous = OFF")
        return connection

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(database, "_prepare_sqlite", prepared)
        patch.setattr(ehr_database.Database, "_connect", connected)
        yield


@pytest.fixture(scope="session")
def new_database() -> Iterator[Callable[[Path], str]]:
    """A function from a folder to the address of a database without tables: SQLite in that folder, or a
    PostgreSQL server of the tests' own where TEST_DATABASE says so (`make test-postgresql`)."""
    if os.environ.get("TEST_DATABASE", "sqlite") == "sqlite":
        yield lambda folder: f"sqlite:///{folder / 'app.sqlite3'}"
        return
    with postgres(free_port()) as server:
        yield lambda _: server.new_database()


def make_tables(database_url: str) -> None:
    """Bring an empty database to the newest tables; of SQLite this is done once a process, and copied."""
    if database_url.startswith("sqlite:///"):
        Path(database_url.removeprefix("sqlite:///")).write_bytes(_with_tables())
    else:
        _migrate(database_url)


@cache
def _with_tables() -> bytes:
    with TemporaryDirectory() as folder:
        file = Path(folder) / "app.sqlite3"
        _migrate(f"sqlite:///{file}")
        return file.read_bytes()


def _migrate(database_url: str) -> None:
    with closing(Store(database_url, [Fernet.generate_key()])) as store:
        store.database.migrate()


def _world(
    folder: Path, stack: ExitStack, *, serve: bool = True, begins: datetime = NOON, **more: Any
) -> World:
    port, ahead = free_port(), ahead_of_the_machine(begins)
    client = Client(
        CLIENT_ID, redirect_uris=(f"http://127.0.0.1:{port}/callback/{ISSUER}",), **more.pop("client", {})
    )
    ehr = stack.enter_context(
        start_sandbox(
            folder,
            as_of=begins.date(),
            ahead=ahead,
            clients=(client,),
            launch_url=f"http://127.0.0.1:{port}/launch",
            worklist_url=f"http://127.0.0.1:{port}/launch/worklist",
            **more.pop("ehr", {}),
        )
    )
    settings = _settings(folder, ehr.base_url, port, clock_ahead=ahead, **more)
    make_tables(settings.database_url)
    if serve:
        stack.enter_context(AppServer(create_app(settings), "127.0.0.1", port))
    return World(ehr, settings, stack)


@pytest.fixture
def database_url(tmp_path: Path, new_database: Callable[[Path], str]) -> str:
    """The address of the test's own database, without tables."""
    return new_database(tmp_path)


@pytest.fixture
def make_world(tmp_path: Path, database_url: str) -> Iterator[Callable[..., World]]:
    """A function that makes a world, which `begins` at a local moment; more arguments go to the settings,
    `ehr` and `client` to the sandbox."""
    with ExitStack() as stack:
        yield lambda **more: _world(tmp_path, stack, **({"database_url": database_url} | more))


@pytest.fixture
def open_case(make_world: Callable[..., World], browser: Browser) -> Callable[..., CaseWorld]:
    """A function from a worked case to a world of it, in which its patient's chart was read; more arguments
    go to `set_up`."""

    def opened(case: Case, **more: Any) -> CaseWorld:
        begins = datetime.combine(date.fromisoformat(case.as_of), datetime.min.time().replace(hour=12), ZONE)
        world = make_world(begins=begins, serve=False)
        set_up(world, case, **more)
        return CaseWorld(world, browser, case)

    return opened


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    """A world of the test's own."""
    return make_world()


@pytest.fixture(scope="module")
def shared_world(
    tmp_path_factory: pytest.TempPathFactory, new_database: Callable[[Path], str]
) -> Iterator[World]:
    """A world for tests that only look."""
    folder = tmp_path_factory.mktemp("world")
    with ExitStack() as stack:
        yield _world(folder, stack, database_url=new_database(folder))


@pytest.fixture
def signed_in(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """A function from a reference to nothing: from now on whoever signs in is called that, by a login of its
    own."""
    sign, called = SigningKey.sign, list[str]()

    def signed(self: SigningKey, claims: dict[str, Any], **more: Any) -> str:
        if called and "fhirUser" in claims:
            base = claims["fhirUser"].rsplit("/", 2)[0]
            claims = {**claims, "fhirUser": f"{base}/{called[-1]}", "sub": f"login of {called[-1]}"}
        return sign(self, claims, **more)

    monkeypatch.setattr(SigningKey, "sign", signed)
    return called.append


@pytest.fixture
def browser() -> Iterator[Browser]:
    with closing(Browser(LONG)) as opened:
        yield opened


@pytest.fixture
def other() -> Iterator[Browser]:
    """A second person's."""
    with closing(Browser(LONG)) as opened:
        yield opened


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    """A store with its tables."""
    make_tables(database_url)
    with closing(Store(database_url, [Fernet.generate_key()])) as opened:
        yield opened


@pytest.fixture(scope="module")
def driver() -> Iterator[Playwright]:
    """Drives Debian's chromium. Where that is missing the test is skipped, but in CI it fails."""
    if not CHROMIUM.exists() and not os.environ.get("CI"):
        pytest.skip("browser tests need Debian's chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        yield playwright


@pytest.fixture(scope="module")
def chromium(driver: Playwright) -> Iterator[BrowserProgram]:
    with chromium_of(driver) as opened:
        yield opened


@pytest.fixture
def window(chromium: BrowserProgram) -> Iterator[BrowserContext]:
    """A window of a browser that knows nothing of earlier tests."""
    with new_window(chromium) as opened:
        yield opened


class Owner:
    """Who owns the database: sees everything that is stored, and can take the guards away."""

    def __init__(self, url: str) -> None:
        self._engine = create_engine(url)
        self.sqlite = url.startswith("sqlite")

    def run(self, *statements: str) -> None:
        with self._engine.begin() as connection:
            for statement in statements:
                connection.execute(text(statement))

    def drop_guards(self, table: str) -> None:
        """Drop the triggers that keep the table from being changed."""
        of_table = "" if self.sqlite else f" ON {table}"
        self.run(*(f"DROP TRIGGER IF EXISTS {table}_no_{act}{of_table}" for act in ("update", "delete")))

    def stored(self) -> bytes:
        """Everything that is stored: the file as it lies on the disk, or every row of every table."""
        if self.sqlite:
            self.run("SELECT 1")
            place = Path(str(self._engine.url.database))
            return b"".join(path.read_bytes() for path in place.parent.glob(f"{place.name}*"))
        tables = MetaData()
        with self._engine.connect() as connection:
            tables.reflect(connection)
            rows = [row for table in tables.sorted_tables for row in connection.execute(select(table))]
        cells = [cell for row in rows for cell in row]
        return b"\n".join(cell if isinstance(cell, bytes) else str(cell).encode() for cell in cells)

    def close(self) -> None:
        self._engine.dispose()


@pytest.fixture
def owner(database_url: str) -> Iterator[Owner]:
    with closing(Owner(database_url)) as opened:
        yield opened


@pytest.fixture
def now() -> datetime:
    return datetime(2026, 4, 1, 12, 0, tzinfo=UTC)


@pytest.fixture
def lease() -> timedelta:
    return timedelta(seconds=20)
