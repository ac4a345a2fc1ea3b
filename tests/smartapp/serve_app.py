"""Serves the app on a port, as `smartapp serve` does, until a signal comes or standard input is closed: a
process of its own for tests to stop or kill."""

import json
import os
import signal
import sys
import threading
from datetime import timedelta
from pathlib import Path

from smartapp import create_app
from smartapp.configuration.settings import Mode, Settings
from smartapp.serving import AppServer, serve_until_told


def settings_of(values):
    """The settings that a test wrote down for another process (`World.settings_as_text`)."""
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


if __name__ == "__main__":
    app = create_app(settings_of(json.loads(sys.argv[2])))
    server = AppServer(app, "127.0.0.1", int(sys.argv[1]), patience=60, linger=2)

    def end_with_standard_input():
        sys.stdin.read()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=end_with_standard_input, daemon=True).start()
    serve_until_told(server, lambda: print("ready", flush=True))
