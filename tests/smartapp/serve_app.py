"""Serves the app on a port until standard input is closed: a process of its own for tests to stop or kill."""

import json
import sys
from datetime import timedelta
from pathlib import Path

from smartapp import create_app
from smartapp.config import Mode, Settings
from smartapp.serving import AppServer


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
    with AppServer(app, "127.0.0.1", int(sys.argv[1])):
        print("ready", flush=True)
        sys.stdin.read()
