"""Asks for a session's access token from several threads, the present one having been refused."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection

from smartapp import create_app
from tests.smartapp.serve_app import settings_of

THREADS = 4


def renew(told: Connection, settings: str, session_id: str, refused: str) -> None:
    """Say that it is ready, wait for a word, and tell the tokens that were given."""
    keeper = create_app(settings_of(settings)).extensions["smartapp"].keeper
    told.send("ready")
    told.recv()
    with ThreadPoolExecutor(THREADS) as pool:
        tokens = list(pool.map(lambda _: keeper.access_token(session_id, rejected=refused), range(THREADS)))
    told.send(tokens)
