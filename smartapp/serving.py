"""Serves the app with waitress: the server of `smartapp serve`, of the demo, and of the tests.

Why waitress: pure Python, needs no compiler; it takes a request in whole before a thread of ours sees it, so
that a slow browser holds no thread; and it never kills a thread that takes long: it may be writing a charge.
One process, many threads. More processes are more of these behind the proxy, on ports of their own.
"""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from flask import Flask
from waitress import wasyncore
from waitress.adjustments import Adjustments
from waitress.server import TcpWSGIServer
from waitress.task import ThreadedTaskDispatcher

THREADS = 32
"""A page may wait for the EHR; others must be answered meanwhile: twice the seats that one EHR has."""
CONNECTIONS = 1000
"""Open at a time; beyond, new ones wait. Each holds a file descriptor and a few kilobytes."""
IDLE_SECONDS = 75
"""A connection that says nothing for so long is closed; proxies keep theirs for 60."""
HEADER_BYTES = 32 * 1024
BODY_BYTES = 128 * 1024
"""Twice the largest form: Flask refuses what is larger than one, and says so."""
LIVE = "/health/live"


class Alive:
    """WSGI: answers whether the process lives, before the app or its store are asked anything."""

    def __init__(self, app: WSGIApplication) -> None:
        self._app = app

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ.get("PATH_INFO") != LIVE or environ.get("REQUEST_METHOD") not in {"GET", "HEAD"}:
            return self._app(environ, start_response)
        body = json.dumps({"status": "ok"}).encode() + b"\n"
        headers = [
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(body))),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
        ]
        start_response("200 OK", headers)
        return [body if environ["REQUEST_METHOD"] == "GET" else b""]


class _Server(TcpWSGIServer):  # type: ignore[misc]
    """waitress's server, with a thread of its own for whoever asks whether it lives."""

    def __init__(self, app: WSGIApplication, adjustments: Adjustments) -> None:
        self._living = ThreadedTaskDispatcher()
        self._living.set_thread_count(1)
        super().__init__(app, adj=adjustments)

    def add_task(self, task: Any) -> None:
        asked = getattr(task.requests[0], "path", None) if task.requests else None
        (self._living if asked == LIVE else self.task_dispatcher).add_task(task)

    @property
    def busy(self) -> bool:
        """Whether a request is being answered, or an answer is being sent."""
        channels = tuple(self.active_channels.values())
        return any(channel.requests or channel.total_outbufs_len for channel in channels)

    def stop_listening(self) -> None:
        """Whoever connects from now on is refused; who is connected stays so."""
        wasyncore.dispatcher.close(self)

    def let_go(self, seconds: float) -> None:
        """End the threads, those that still work after so long left behind, and every connection."""
        self._living.shutdown(timeout=1)
        self.task_dispatcher.shutdown(timeout=seconds)
        for channel in tuple(self._map.values()):
            channel.close()


class AppServer:
    """The app being served by threads of this process. A context manager that stops it.

    `patience`: so many seconds it waits, when stopped, for requests under way. A charge that is being written
    is written to its end and its answer goes out, as far as the EHR answers in that time; what is cut off is
    followed up by whoever opens the charge next, as after a crash. `linger`: so many seconds it still takes
    requests on open connections after the last one.
    """

    def __init__(
        self,
        app: Flask,
        host: str,
        port: int,
        *,
        threads: int = THREADS,
        patience: float = 5,
        linger: float = 0,
    ) -> None:
        self._app = app
        self._patience, self._linger = patience, linger
        adjustments = Adjustments(
            host=host,
            port=port,
            threads=threads,
            ident=None,
            connection_limit=CONNECTIONS,
            channel_timeout=IDLE_SECONDS,
            max_request_header_size=HEADER_BYTES,
            max_request_body_size=BODY_BYTES,
            # waitress would drop what proxies say; the app believes as many of them as its setting names.
            clear_untrusted_proxy_headers=False,
        )
        self._server = _Server(Alive(app.wsgi_app), adjustments)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="app", daemon=True)

    def __enter__(self) -> AppServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._thread.join(self._patience + 5)
        self._server.let_go(1)
        self._app.extensions["smartapp"].close()

    def stop(self) -> None:
        """Take no new connections; the app says that it is not ready. Returns at once."""
        self._app.extensions["smartapp"].health.stop()
        self._stopping.set()
        self._server.pull_trigger()

    def _run(self) -> None:
        # waitress's own loop ends only with the last kept-alive connection: this one looks up between.
        self._loop(lambda: not self._stopping.is_set())
        self._server.stop_listening()
        until = quiet_since = time.monotonic()
        until += self._patience

        def under_way() -> bool:
            nonlocal quiet_since
            now = time.monotonic()
            if self._server.busy:
                quiet_since = now
            # A browser that the last answer sends on asks once more on the same connection.
            return now < until and (self._server.busy or now < quiet_since + self._linger)

        self._loop(under_way)

    def _loop(self, goes_on: Callable[[], bool]) -> None:
        while goes_on():
            seconds = 0.2 if self._stopping.is_set() else 1
            self._server.asyncore.loop(timeout=seconds, map=self._server._map, use_poll=True, count=1)


def serve_until_told(server: AppServer, listening: Callable[[], None]) -> None:
    """Serve until SIGTERM or SIGINT, then finish what is under way. A second signal cuts that short."""
    told = threading.Event()

    def hear(number: int, _frame: object) -> None:
        told.set()
        server.stop()
        signal.signal(number, signal.default_int_handler)

    before = {number: signal.signal(number, hear) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        with server:
            listening()
            told.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
