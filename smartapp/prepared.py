"""Everything that threads decode is understood before there are threads.

msgspec works out a type when it is first decoded, and keeps that with the class. Two threads that do so for
one type at the same moment bring the process down (a segmentation fault, seen with msgspec 0.22 and two
presses that came first), so it is done once, by whoever makes the app.
"""

from __future__ import annotations

from collections.abc import Iterator
from threading import Lock

import msgspec

_ONE_AT_A_TIME = Lock()


def prepare_types() -> int:
    """Work out every `Struct` that is known by now, with the enums in it; how many could be decoded."""
    with _ONE_AT_A_TIME:
        return sum(_understood(kind) for kind in set(_below(msgspec.Struct)))


def _below(kind: type[msgspec.Struct]) -> Iterator[type[msgspec.Struct]]:
    for one in kind.__subclasses__():
        yield one
        yield from _below(one)


def _understood(kind: type[msgspec.Struct]) -> bool:
    try:
        msgspec.json.Decoder(kind)
    except (TypeError, NameError):
        return False  # it is only made here, never read
    return True
