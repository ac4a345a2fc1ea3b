"""Serves the app on a port until standard input is closed: a process of its own for tests to stop or kill."""

import json
import sys
from pathlib import Path

from smartapp import create_app
from smartapp.config import Mode, Settings
from smartapp.serving import AppServer

values = json.loads(sys.argv[2])
settings = Settings(
    **{
        **values,
        "keys": tuple(key.encode() for key in values["keys"]),
        "issuers_file": Path(values["issuers_file"]),
        "site_file": Path(values["site_file"]),
        "mode": Mode.TEST,
    }
)
with AppServer(create_app(settings), "127.0.0.1", int(sys.argv[1])):
    print("ready", flush=True)
    sys.stdin.read()
