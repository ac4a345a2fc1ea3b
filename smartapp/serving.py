"""Serves the app with waitress on a loopback address: the demo's server, and the tests'."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Any

from flask import Flask
from waitress.server import create_server

THREADS = 32
"""A page may wait for the EHR; others must be answered meanwhile: twice the seats that one EHR has."""


class AppServer:
    """The app being served by a thread of this process. A context manager that stops it."""

    def __init__(self, app: Flask, host: str, port: int) -> None:
        self._app = app
        self._server: Any = create_server(app, host=host, port=port, threads=THREADS, ident=None)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="app", daemon=True)

    def __enter__(self) -> AppServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._server.trigger.pull_trigger()
        self._thread.join(5)
        self._server.task_dispatcher.shutdown()
        for channel in tuple(self._server._map.values()):
            channel.close()
        self._app.extensions["smartapp"].close()

    def _run(self) -> None:
        # waitress's own loop ends only with the last kept-alive connection: this one looks up between.
        server = self._server
        while not self._stopping.is_set():
            server.asyncore.loop(timeout=1, map=server._map, use_poll=True, count=1)
