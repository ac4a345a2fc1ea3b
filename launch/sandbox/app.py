"""The sandbox EHR as a Flask application."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

from flask import Flask, Response, abort, request
from werkzeug.exceptions import HTTPException

from launch.sandbox.answers import outcome
from launch.sandbox.auth_pages import auth
from launch.sandbox.bulk import Jobs
from launch.sandbox.config import SandboxConfig
from launch.sandbox.credentials import Credentials
from launch.sandbox.crowd import Crowd
from launch.sandbox.database import Database
from launch.sandbox.fhir_api import fhir
from launch.sandbox.oauth import SmartServer
from launch.sandbox.pages import pages
from launch.sandbox.patients import resources
from launch.sandbox.quirks import Quirks
from launch.sandbox.search import ResultSets
from launch.sandbox.store import Store

A_QUARTER = timedelta(days=90)


class Sandbox:
    """The parts of one running sandbox; found as `app.extensions["sandbox"]`."""

    def __init__(self, config: SandboxConfig) -> None:
        self.config = config
        self.database = Database(config.data)
        self.store = Store(self.database, config.fhir_base, config.clock)
        self.credentials = Credentials(self.database, config.clock)
        self.oauth = SmartServer(config, self.credentials, config.key)
        self.results = ResultSets()
        self.jobs = Jobs()
        self.crowd = Crowd(config.crowd, config.crowd_since or config.as_of - A_QUARTER, config.seed)
        try:
            self._seed()
        except BaseException:
            self.database.close()
            raise

    @property
    def quirks(self) -> Quirks:
        """The switches; they may be changed while the sandbox runs."""
        return self.config.quirks

    def _seed(self) -> None:
        config = self.config
        chart = f"{config.as_of} {config.seed} {config.readings}"
        with self.database.read() as connection:
            found = connection.execute("SELECT value FROM setting WHERE name = 'chart'").fetchone()
        if found and found[0] == chart:
            return
        if found:
            raise ValueError("the data folder holds charts of another day, seed or size")
        self.store.load(resources(config.as_of, config.seed, config.readings))
        with self.database.write() as connection:
            connection.execute("INSERT INTO setting VALUES ('chart', ?)", (chart,))


def create_sandbox(config: SandboxConfig) -> Flask:
    """The sandbox EHR: authorization server, FHIR store and launch page in one WSGI application.

    Raises ConfigurationError or ValueError (a data folder of other charts) with one plain line.
    """
    # authlib writes issued tokens at level DEBUG; no log of ours may hold them.
    logging.getLogger("authlib").setLevel(logging.WARNING)
    app = Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = config.max_body
    app.extensions["sandbox"] = Sandbox(config)
    app.register_blueprint(fhir, url_prefix=urlsplit(config.fhir_base).path)
    app.register_blueprint(auth, url_prefix=urlsplit(config.issuer).path)
    app.register_blueprint(pages)
    host = urlsplit(config.base_url).netloc

    @app.before_request
    def only_under_our_name() -> None:
        # A page on another name that resolves to this machine (DNS rebinding) gets nothing.
        if request.host != host:
            abort(421)

    @app.after_request
    def headers(response: Response) -> Response:
        # Else the server would tell the machine's, whatever the sandbox's clock shows.
        response.date = datetime.fromtimestamp(config.clock(), UTC)
        response.headers.setdefault("Cache-Control", "no-store")
        response.headers.setdefault("X-Content-Type-Options", "nosniff")
        response.headers.setdefault("Referrer-Policy", "no-referrer")
        response.headers.setdefault("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
        return response

    @app.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> Response | HTTPException:
        if request.path.startswith(urlsplit(config.fhir_base).path):
            return outcome(error.code or 500, "not-found" if error.code == 404 else "invalid", error.name)
        return error

    return app
