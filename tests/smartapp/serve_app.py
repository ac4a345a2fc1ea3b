"""The app in a process of its own, as `smartapp serve` serves it, for tests to stop or kill.

It is forked from one that has imported the app and done nothing else: what a fresh process would have ready,
without the second that importing takes each time.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from contextlib import chdir, suppress
from datetime import timedelta
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from smartapp import create_app
from smartapp.configuration.settings import Mode, Settings
from smartapp.serving import AppServer, serve_until_told

ROOT = Path(__file__).resolve().parents[2]
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload([__name__, "smartapp.application"])


def begin(work: Callable[..., None], *arguments: Any) -> tuple[BaseProcess, Connection]:
    """Begin `work` in a process of its own; that, and a way to talk with it. The work is given its own end
    of it first: it comes to its end when the process that began it does."""
    ours, its = _FORKS.Pipe()
    process = _FORKS.Process(target=work, args=(its, *arguments), daemon=True)
    with chdir(ROOT):  # where whoever is forked from finds these modules
        process.start()
    its.close()
    return process, ours


def settings_of(text: str) -> Settings:
    """The settings that a test wrote down for another process (`World.settings_as_text`)."""
    values = json.loads(text)
    return Settings(
        **{
            **values,
            "keys": tuple(key.encode() for key in values["keys"]),
            "issuers_file": Path(values["issuers_file"]),
            "site_file": Path(values["site_file"]),
            "clock_ahead": timedelta(seconds=values["clock_ahead"]),
            "mode": Mode.TEST,
        }
    )


def serve(told: Connection, port: int, settings: str) -> None:
    """Serve the app on a port until a signal comes or nobody is there to talk with any more."""
    server = AppServer(create_app(settings_of(settings)), "127.0.0.1", port, patience=60, linger=2)

    def end_with_the_tests() -> None:
        with suppress(EOFError, OSError):
            told.recv_bytes()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=end_with_the_tests, daemon=True).start()
    serve_until_told(server, lambda: told.send("ready"))
