"""What a checking command answers: one line a check, each with a stable id, and an exit status.

`doctor` and `config check` share it. A check's text is ours alone: never a token, a secret, patient data, or
anything a server wrote.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable, Iterator
from enum import Enum, StrEnum
from pathlib import Path
from typing import NoReturn, TextIO

import msgspec

from smartapp.plain import printable

CANNOT = 2
"""Exit status of a call that can't be carried out as asked."""


class Fault(Exception):
    """Something the person who called can mend; its text is the one line they see."""


class Parser(argparse.ArgumentParser):
    """Says what is wrong with a call in one line, by raising Fault."""

    def error(self, message: str) -> NoReturn:
        raise Fault(message)


class Status(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARNING = "warning"
    """It works, but something will be missing; the text says what."""
    FAILURE = "failure"
    """It does not work; the text says what to change."""


class Check(msgspec.Struct, frozen=True):
    """One check. `id` is stable; `about` is what it looked at, where the same is asked of several things."""

    id: str
    status: Status
    says: str
    about: str = ""


class Checks:
    """The checks of one call, in the order in which they were made."""

    def __init__(self) -> None:
        self._made: list[Check] = []

    def __iter__(self) -> Iterator[Check]:
        return iter(self._made)

    def ok(self, id_: Enum, says: str, about: str = "") -> None:
        self._add(id_, Status.OK, says, about)

    def warning(self, id_: Enum, says: str, about: str = "") -> None:
        """It works; `says` tells what will be missing."""
        self._add(id_, Status.WARNING, says, about)

    def failure(self, id_: Enum, says: str, about: str = "") -> None:
        """It doesn't work; `says` tells what to change."""
        self._add(id_, Status.FAILURE, says, about)

    def _add(self, id_: Enum, status: Status, says: str, about: str) -> None:
        self._made.append(Check(str(id_.value), status, one_line(says), about))

    @property
    def exit_status(self) -> int:
        return 1 if any(check.status is Status.FAILURE for check in self._made) else 0

    @property
    def counts(self) -> dict[str, int]:
        """How many ended how."""
        found = Counter(check.status for check in self._made)
        return {status.value: found[status] for status in Status}

    def print(self, out: TextIO) -> None:
        """One line a check, and one that counts."""
        for check in self._made:
            name = f"{check.id} {check.about}".strip()
            print(f"{check.status.value:8} {name}: {check.says}", file=out)
        counts = self.counts
        print(f"{counts['ok']} ok, {counts['warning']} warnings, {counts['failure']} failures", file=out)


def as_json(answer: object) -> str:
    """An answer as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(answer), indent=2).decode()


def one_line(text: str) -> str:
    """The text without line breaks and control characters."""
    return " ".join(printable(text).split())


def listed(names: Iterable[str]) -> str:
    """Names for a sentence: `a, b and c`."""
    *most, last = list(names) or ["none"]
    return f"{', '.join(most)} and {last}" if most else last


def load_authorities(bundle: Path) -> None:
    """Raises OSError (ssl.SSLError is one) where the file holds no certificates."""
    import ssl

    ssl.create_default_context(cafile=str(bundle))
