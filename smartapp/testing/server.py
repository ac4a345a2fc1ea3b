"""The app for one server under test, on loopback, with a store of its own.

Settings, keys, issuers and store are made here in a folder that only the user can look into; nothing is taken
from the production settings, whatever the environment holds.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from importlib.resources import files
from pathlib import Path
from types import TracebackType
from typing import Any

from cryptography.fernet import Fernet
from flask import Flask, abort, request

from launch.http import EhrClients
from launch.urls import parse_base
from smartapp.application import build
from smartapp.configuration.settings import Mode, Settings
from smartapp.serving import AppServer
from smartapp.store import Store
from smartapp.testing.marked import MarkedClient
from smartapp.testing.pages import StartLinks, blueprint
from smartapp.testing.sandboxes import is_loopback
from smartapp.testing.target import ISSUER
from smartapp.testing.written import note_created

HOST = "127.0.0.1"


@dataclass(frozen=True)
class Plan:
    """What is connected to, and how."""

    folder: Path
    """Of the server under test (`written.folder_of`)."""
    port: int
    entry: Mapping[str, Any] = field(repr=False)
    """The server's entry in the issuers file."""
    signs_in: bool
    """Through SMART; else charts are opened by start links."""
    patient: str | None = None
    user: str | None = None
    """`Practitioner/7`: who acts where nobody signs in, or who is expected to."""
    role: str | None = None
    site_file: Path | None = None
    ahead: timedelta = timedelta()

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"


class TestingServer:
    """The app being served. A context manager that stops it."""

    __test__ = False  # no test, whatever its name looks like

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._cleanup = ExitStack()
        self._links = StartLinks()

    def __enter__(self) -> TestingServer:
        plan = self._plan
        try:
            settings = settings_of(plan)
            with closing(Store(settings.database_url, settings.keys)) as store:
                store.database.migrate()
            note = partial(note_created, plan.folder)
            app = build(settings, EhrClients(make=partial(MarkedClient, note=note)))
            if not plan.signs_in:
                app.register_blueprint(blueprint(self._links, plan.user, plan.patient))
            _guard(app, plan)
            self._cleanup.enter_context(AppServer(app, HOST, plan.port))
        except BaseException:
            self._cleanup.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cleanup.close()

    def start_link(self) -> str:
        """A new link that opens the app once; the one before is not good any more."""
        return f"{self._plan.url}/testing/start/{self._links.new()}"


def settings_of(plan: Plan) -> Settings:
    """The settings of the app, its files written."""
    folder = plan.folder / "connect"
    folder.mkdir(mode=0o700, exist_ok=True)
    issuers = _written(folder / "issuers.toml", _toml(plan.entry))
    return Settings(
        keys=(_key(folder / "key"),),
        base_url=plan.url,
        issuers_file=issuers,
        database_url=f"sqlite:///{folder / 'smartapp.sqlite3'}",
        site_file=plan.site_file or _written(folder / "site.yaml", _site(plan)),
        mode=Mode.CONNECT,
        clock_ahead=plan.ahead,
    )


def _guard(app: Flask, plan: Plan) -> None:
    """Only under our own name, and TEST on every page."""
    base = parse_base(str(plan.entry["fhir_base"]))
    host = plan.url.removeprefix("http://")
    testing = {
        "server": base.base,
        "elsewhere": not is_loopback(base),
        "choose": None if plan.signs_in else "/testing/patients",
    }

    @app.before_request
    def only_under_our_name() -> None:
        # A web page whose name was made to lead to this machine (DNS rebinding) gets nothing.
        if request.host != host:
            abort(421)

    @app.context_processor
    def for_templates() -> dict[str, Any]:
        return {"testing": testing}


def _site(plan: Plan) -> str:
    """The synthetic charts' own codings (read as a file: the app never imports the sandbox), and who acts."""
    text = (files("launch") / "sandbox" / "site.yaml").read_text("utf-8")
    if plan.user is None or plan.role is None:
        return text
    user = {"user": plan.user, "role": plan.role, "issuer": ISSUER}
    return f"{text}users: [{json.dumps(user)}]\n"


def _toml(entry: Mapping[str, Any]) -> str:
    """One issuer; JSON's texts, numbers, truth values and lists of texts are TOML's as well."""
    lines = [f"{key} = {json.dumps(value)}" for key, value in entry.items()]
    return "\n".join((f"[issuers.{ISSUER}]", *lines, ""))


def _key(path: Path) -> bytes:
    """The key of this store, made once."""
    if not path.is_file():
        _written(path, Fernet.generate_key().decode())
    return path.read_bytes().strip()


def _written(path: Path, text: str) -> Path:
    """The file with that text, for its owner alone."""
    with open(path, "w", encoding="utf-8", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(text)
    return path
