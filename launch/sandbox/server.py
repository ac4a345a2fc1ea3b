"""Serving a sandbox with waitress, on a loopback address and nowhere else."""

from __future__ import annotations

import logging
import socket
import threading
from typing import TYPE_CHECKING, Any

from waitress.server import create_server

from launch.sandbox.app import create_sandbox
from launch.sandbox.config import ConfigurationError, SandboxConfig, is_loopback

if TYPE_CHECKING:
    from launch.sandbox.app import Sandbox

_THREADS = 16


class RunningSandbox:
    """A sandbox that is being served; a context manager that stops it."""

    def __init__(self, config: SandboxConfig, listening: socket.socket) -> None:
        app = create_sandbox(config)
        self.config = config
        self.app = app
        self.sandbox: Sandbox = app.extensions["sandbox"]
        # Queue depth says "the client is ahead of us", which a load test is; nobody needs to read it.
        logging.getLogger("waitress.queue").setLevel(logging.ERROR)
        self._server: Any = create_server(
            app,
            sockets=[listening],
            threads=_THREADS,
            max_request_body_size=config.max_body,
            clear_untrusted_proxy_headers=True,
            ident="sandbox",
        )
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()

    @property
    def base_url(self) -> str:
        """Where the launch page is."""
        return self.config.base_url

    def run(self) -> None:
        """Serve until `close()` or an interrupt of the process."""
        # waitress's own run() ends only when the last kept-alive connection has: this loop looks up between.
        server = self._server
        while not self._stopping.is_set():
            server.asyncore.loop(timeout=1, map=server._map, use_poll=True, count=1)

    def start(self) -> RunningSandbox:
        """Serve in a thread of this process."""
        self._thread = threading.Thread(target=self.run, name="sandbox", daemon=True)
        self._thread.start()
        return self

    def close(self) -> None:
        """Stop serving and close the store; a second time does nothing."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        self._server.trigger.pull_trigger()
        if self._thread:
            self._thread.join(timeout=5)
        self._server.task_dispatcher.shutdown()
        for channel in tuple(self._server._map.values()):
            channel.close()
        self.sandbox.database.close()

    def __enter__(self) -> RunningSandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def serve_sandbox(
    host_name: str = "localhost", port: int = 0, bind: str = "127.0.0.1", **settings: Any
) -> RunningSandbox:
    """Bind a loopback address and make a sandbox for it; `start()` or `run()` serves it.

    ``settings`` are the fields of SandboxConfig but ``base_url``, which follows from ``host_name`` and the
    port (0: one that is free). Raises ConfigurationError for an address that others could reach, and OSError
    where the port is taken.
    """
    if not is_loopback(bind) or bind == "localhost" or not is_loopback(host_name):
        raise ConfigurationError("the sandbox serves loopback addresses only")
    listening = socket.socket(socket.AF_INET6 if ":" in bind else socket.AF_INET)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((bind, port))
        base_url = f"http://{host_name}:{listening.getsockname()[1]}"
        return RunningSandbox(SandboxConfig(base_url=base_url, **settings), listening)
    except BaseException:
        listening.close()
        raise
