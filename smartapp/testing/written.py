"""The list of what was written to one server: a file that only its owner can read, a line an event.

A line is on the disk before what it tells of is sent, so that nothing is ever there that the list does not
name: neither a crash nor a lost answer makes an orphan.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import msgspec

from launch.urls import Url
from smartapp.commands.checks import Fault
from smartapp.release import APP

NAME = re.compile(r"[A-Z][A-Za-z]{1,63}/(?!\.{1,2}\Z)[A-Za-z0-9\-._]{1,255}")
"""`Type/id` as it may stand in an address: nothing shorter, `DELETE [base]/Patient/` is another call."""


class Event(StrEnum):
    """What happened to a resource."""

    SENT = "sent"
    """It is on its way. Nobody knows yet whether it arrived."""
    HELD = "held"
    REFUSED = "refused"
    GONE = "gone"


class Seed(msgspec.Struct, frozen=True, kw_only=True):
    """Which charts were written: the same day, size and run give the same resources."""

    run: str
    as_of: str
    readings: int
    own_ids: bool
    """Whether the server takes ids that its clients choose."""


class _Line(msgspec.Struct, frozen=True, omit_defaults=True):
    event: Event | None = None
    of: str = ""
    at: str = ""
    seed: Seed | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """One resource. `of`: our name for it; `at`: the server's, "" while that is not known."""

    of: str
    at: str
    event: Event


class WrittenList:
    """What was written to one server, in its order. To be opened with `open_list`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.seed: Seed | None = None
        self._entries: dict[str, Entry] = {}
        for line in _lines(path):
            self._take(line)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def of(self, name: str) -> Entry | None:
        """What became of a resource of ours."""
        return self._entries.get(name)

    def begin(self, seed: Seed) -> None:
        self._add([_Line(seed=seed)])

    def note(self, event: Event, names: Iterable[tuple[str, str]]) -> None:
        """The same of several resources: (our name, the server's)."""
        self._add([_Line(event, of, at) for of, at in names])

    def remove(self) -> None:
        """Nothing of what it lists is there any more."""
        self.path.unlink(missing_ok=True)

    def _add(self, lines: list[_Line]) -> None:
        _append(self.path, lines)
        for line in lines:
            self._take(line)

    def _take(self, line: _Line) -> None:
        if line.seed is not None:
            self.seed = line.seed
        elif line.event is Event.GONE:
            self._entries.pop(line.of, None)
        elif line.event is not None:
            # It keeps the place where it was first sent: what names others comes after them.
            self._entries[line.of] = Entry(line.of, line.at, line.event)


def folder_of(base: Url, root: Path | None = None) -> Path:
    """The folder that is kept for a server, made if need be: nobody else may look into it. Raises Fault."""
    if root is None:
        state = os.environ.get("XDG_STATE_HOME")
        root = (Path(state) if state else Path.home() / ".local" / "state") / APP
    name = f"{base.host.replace(':', '-')}-{hashlib.sha256(base.base.encode()).hexdigest()[:12]}"
    folder = root / name
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.stat()
    except OSError as error:
        raise Fault(f"{folder}: {error.strerror or 'cannot be made'}") from None
    if found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise Fault(f"{folder} can be looked into by others: chmod 700 it, or name another --folder")
    return folder


@contextmanager
def open_list(folder: Path) -> Iterator[WrittenList]:
    """The list in that folder, for one process at a time. Raises Fault."""
    with (folder / "lock").open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Fault(f"another seed or unseed of this server is running ({folder})") from None
        yield WrittenList(folder / "written.jsonl")


def note_created(folder: Path, name: str) -> None:
    """Add what a `connect` created: it goes with the rest at the next `unseed`."""
    _append(folder / "written.jsonl", [_Line(Event.HELD, f"connect {name}", name)])


def _lines(path: Path) -> Iterator[_Line]:
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return
    except OSError as error:
        raise Fault(f"{path}: {error.strerror or 'cannot be read'}") from None
    whole, _, _cut_off = text.rpartition(b"\n")  # a line that a crash cut off was never acted on
    for number, line in enumerate(whole.splitlines(), start=1):
        try:
            found = msgspec.json.decode(line, type=_Line)
        except msgspec.MsgspecError:
            raise Fault(f"{path}: line {number} is not of this list") from None
        if found.at and not NAME.fullmatch(found.at):
            raise Fault(f"{path}: line {number} names no resource")
        yield found


def _append(path: Path, lines: list[_Line]) -> None:
    """All of the lines, on the disk when this returns; in place of one that a crash cut off."""
    with open(path, "a+b", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        if file.tell() and os.pread(file.fileno(), 1, file.tell() - 1) != b"\n":
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)
        file.write(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
        file.flush()
        os.fsync(file.fileno())
