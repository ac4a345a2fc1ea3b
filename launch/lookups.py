"""Looking names up within a time limit: the operating system's own way, which knows none, on threads of ours.

`getaddrinfo` can neither be told a limit nor be stopped: with a name server that does not answer it takes
half a minute. So it runs on a daemon thread, and who asked waits as long as they can. A thread that is waited
for no longer ends when the operating system gives up; at most four of one name are under way, so a stalled
name costs no more than that and takes nothing from another EHR's. At the exit of the interpreter nobody waits
for them. No answer is kept: each new connection looks up anew.
"""

from __future__ import annotations

import socket
import threading
import time

MOST_OF_ONE_NAME = 4


class Lookups:
    """Lookups under way, by name. Threads share it."""

    def __init__(self, most_of_one_name: int = MOST_OF_ONE_NAME) -> None:
        self._most = most_of_one_name
        self._lock = threading.Lock()
        self._room: dict[str, threading.BoundedSemaphore] = {}

    def addresses(self, host: str, port: int, seconds: float) -> tuple[str, ...]:
        """The addresses of a name, each once, in the order in which they are to be tried.

        Raises TimeoutError after `seconds` (also where only the wait for a free thread took so long), and
        OSError where the name is not known.
        """
        lookup = _Lookup(host, port, self._room_of(host))
        return lookup.within(seconds)

    def _room_of(self, host: str) -> threading.BoundedSemaphore:
        with self._lock:
            return self._room.setdefault(host, threading.BoundedSemaphore(self._most))


class _Lookup:
    """One lookup: asked on a thread of its own, its answer given to whoever still waits."""

    def __init__(self, host: str, port: int, room: threading.BoundedSemaphore) -> None:
        self._host = host
        self._port = port
        self._room = room
        self._done = threading.Event()
        self._found: tuple[str, ...] = ()
        self._failure: OSError | None = None

    def within(self, seconds: float) -> tuple[str, ...]:
        """The answer. Raises TimeoutError and OSError."""
        deadline = time.monotonic() + seconds
        if not self._room.acquire(timeout=max(0.0, seconds)):
            raise TimeoutError("as many lookups of this name are under way as may be")
        try:
            threading.Thread(target=self._ask, name="lookup", daemon=True).start()
        except BaseException:
            self._room.release()
            raise
        if not self._done.wait(max(0.0, deadline - time.monotonic())):
            raise TimeoutError("the name could not be looked up in time")
        if self._failure is not None:
            raise self._failure
        return self._found

    def _ask(self) -> None:
        try:
            entries = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
            self._found = tuple(dict.fromkeys(str(entry[4][0]) for entry in entries))
        except OSError as error:
            self._failure = error
        except ValueError:
            # A name that cannot be encoded for a question at all.
            self._failure = OSError("no name that could be looked up")
        finally:
            self._room.release()
            self._done.set()
