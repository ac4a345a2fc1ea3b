"""Everything that threads decode is understood before there are threads.

msgspec works out a type when it is first decoded, and keeps that with the class. Two threads that do so for
one type at the same moment bring the process down (a segmentation fault, seen with msgspec 0.22 and two
presses that came first), so it is done once, by whoever makes the app.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from dataclasses import is_dataclass
from functools import cache
from threading import Lock
from typing import is_typeddict

import msgspec

OURS = ("fhir_mappings", "launch", "smartapp")
_ONE_AT_A_TIME = Lock()


@cache
def spare_the_collector() -> None:
    """What was made until now stays for as long as the process: the garbage collector does not go through it
    again each time. It looks less often, too: pages and charts make thousands of objects that go by
    themselves. Once a process, by whoever makes the app."""
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


def prepare_types() -> int:
    """Work out every record type of ours that is known by now, with the enums in it; how many there are."""
    with _ONE_AT_A_TIME:
        return sum(_understood(kind) for kind in set(_records()))


def _records() -> Iterator[type]:
    modules = [module for name, module in sys.modules.items() if name.split(".")[0] in OURS]
    for module in modules:
        for kind in tuple(vars(module).values()):
            if isinstance(kind, type) and _is_record(kind):
                yield kind


def _is_record(kind: type) -> bool:
    named = issubclass(kind, tuple) and hasattr(kind, "_fields")
    # A page's own data classes are made and shown, never read.
    read = is_dataclass(kind) and not kind.__module__.startswith("smartapp.web.")
    return named or issubclass(kind, msgspec.Struct) or read or is_typeddict(kind)


def _understood(kind: type) -> bool:
    try:
        msgspec.json.Decoder(kind)
    except (TypeError, NameError):
        return False  # it is only made here, never read
    return True
