"""What is kept of a population from one night to the next: a folder of generations, sealed.

    DIR/salt      makes keys of this folder's own (with SMARTAPP_KEYS)
    DIR/current   the name of the generation that holds
    DIR/g000007/  head, pool, double, and a file a shard: all of it, whatever else is there
    DIR/next/     the run under way: finished tasks, so that one that was stopped goes on

A generation is complete before `current` names it, by one rename; nothing of it changes afterwards. What did
not change from the one before is the same file (a hard link).
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import msgspec
from msgspec import Struct

from fhir_mappings.boiled import FORMAT, folder_of
from fhir_mappings.completeness import Missing
from smartapp.population.blocks import Blocks, BlockWriter, NotOpened, Seal
from smartapp.population.deciding import Settings
from smartapp.population.listing import Listed
from smartapp.population.partition import Rest, shard_of
from smartapp.population.shards import shard_name
from smartapp.population.shelves import Kept, read_folders, read_list

_KEPT = 2
"""Generations that stay: who reads one is not disturbed by the next."""


class StateError(Exception):
    """The state can't be used as it is; one line for a person."""


class OtherVersion(StateError):
    """It was kept in another form than this version's: only a full sweep can follow."""


class Head(Struct, kw_only=True):
    """What a generation is, and what came of the run that made it."""

    generation: int
    as_of: date
    settings: Settings
    digest: str
    """Of rules and settings (`Decider.digest`)."""
    shards: int
    buckets: int
    inputs: str
    """Of the files that were read last."""
    rest: Rest
    missing: list[tuple[str, Missing]]
    folders: int = 0
    patients: int = 0
    people: int = 0
    """Patient resources that came in, ever."""
    records: int = 0
    decided: int = 0
    undecided: int = 0
    """Patients who could not be decided; those of failed shards are not among them."""
    failed: list[int] = []
    """Shards that failed twice: nothing of theirs is told until they are swept."""
    format: int = FORMAT
    lists: int = 0
    """`listing.FORMAT` of what a worklist reads; 0: kept by a version that had none."""

    @property
    def everyones(self) -> bool:
        return not self.people


class State:
    """The folder, and what it holds. Raises `StateError`."""

    def __init__(self, folder: Path, keys: Sequence[bytes], *, make: bool = False) -> None:
        self.folder = folder
        self.keys = tuple(keys)
        salt = folder / "salt"
        try:
            if make and not salt.exists():
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                if any(not one.name.startswith(".salt") for one in folder.iterdir()):
                    raise StateError(f"{folder}: not empty, and no state of a sweep")
                folder.chmod(0o700)
                write_whole(salt, os.urandom(16))
            if folder.stat().st_mode & 0o077:
                raise StateError(f"{folder}: others may look into it; `chmod 700` it")
            self.salt = salt.read_bytes()
        except FileNotFoundError:
            raise StateError(f"{folder}: no state of a sweep; make one with `smartapp sweep full`") from None
        except OSError as fault:
            raise StateError(f"{folder}: {fault.strerror or 'cannot be used'}") from None
        self.seal = Seal(self.keys, self.salt)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One run at a time."""
        descriptor = os.open(self.folder / "lock", os.O_WRONLY | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "wb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise StateError(f"{self.folder}: another sweep is under way") from None
            yield

    @property
    def next(self) -> Path:
        return self.folder / "next"

    def current(self) -> Path | None:
        """The folder of the generation that holds."""
        try:
            return self.folder / (self.folder / "current").read_text("ascii").strip()
        except FileNotFoundError:
            return None

    @property
    def last(self) -> int:
        """The number of the generation that holds, whatever version kept it; 0 before the first."""
        current = self.current()
        return 0 if current is None else int(current.name.removeprefix("g"))

    def head(self) -> Head | None:
        """What holds; None before the first sweep has ended."""
        generation = self.current()
        if generation is None:
            return None
        try:
            told = Blocks(generation / "head", self.seal, "head").one("head")
            head = msgspec.msgpack.decode(told, type=Head)
        except NotOpened as fault:
            raise StateError(f"{self.folder}: {fault}") from None
        except msgspec.ValidationError:
            head = None
        if head is None or head.format != FORMAT:
            raise OtherVersion(f"{self.folder}: kept by another version; run `smartapp sweep full`")
        return head

    def held(self) -> tuple[Path, Head]:
        """The generation that holds, and its head."""
        generation, head = self.current(), self.head()
        if generation is None or head is None:
            raise StateError(f"{self.folder}: no sweep has ended here; run `smartapp sweep full` once more")
        return generation, head

    def folders(self, generation: Path, head: Head) -> Iterator[Kept]:
        """Every folder whose answer holds, shard by shard."""
        for shard in range(head.shards):
            path = shard_path(generation, shard)
            if shard not in head.failed and path.exists():
                yield from read_folders(path, shard_name(shard), self.seal)

    def folder_of(self, generation: Path, head: Head, patient: str) -> Kept | None:
        """One patient's folder; None where there is none, or its shard failed."""
        name = folder_of(patient)
        shard = shard_of(name, head.shards)
        path = shard_path(generation, shard)
        if shard in head.failed or not path.exists():
            return None
        found = read_folders(path, shard_name(shard), self.seal)
        return next((one for one in found if one.folder.name == name), None)

    def listed(self, generation: Path, head: Head) -> Iterator[Listed]:
        """What a worklist needs of everybody whose answer holds and says something."""
        for shard in range(head.shards):
            yield from self._list_of(generation, head, shard)

    def listed_of(self, generation: Path, head: Head, patient: str) -> Listed | None:
        """The same of one patient; None of whom there is nothing to tell."""
        shard = shard_of(folder_of(patient), head.shards)
        return next((one for one in self._list_of(generation, head, shard) if one.patient == patient), None)

    def _list_of(self, generation: Path, head: Head, shard: int) -> Iterator[Listed]:
        path = shard_path(generation, shard)
        if shard not in head.failed and path.exists():
            yield from read_list(path, shard_name(shard), self.seal)

    def commit(self, generation: Path) -> None:
        """From now on this generation holds."""
        sync(generation)
        write_whole(self.folder / "current", generation.name.encode())

    def tidy(self) -> None:
        """Remove what no run needs any more."""
        current = self.current()
        all_of_them = sorted(self.folder.glob("g[0-9]*"))
        earlier = [one for one in all_of_them if current is not None and one < current]
        later = [one for one in all_of_them if current is None or one > current]
        for one in (*earlier[: max(len(earlier) - (_KEPT - 1), 0)], *later):
            shutil.rmtree(one)


def shard_path(folder: Path, shard: int) -> Path:
    return folder / f"shard-{shard:05d}"


def pending_path(folder: Path, shard: int) -> Path:
    """Records that came for a shard which failed: they wait for the next run."""
    return folder / f"pending-{shard:05d}"


def write_whole(path: Path, content: bytes) -> None:
    """A file is there with all of its content, or as it was before."""
    temporary = path.with_name(f".{path.name}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as out:
        out.write(content)
        out.flush()
        os.fsync(out.fileno())
    temporary.rename(path)
    sync(path.parent)


def write_sealed(path: Path, seal: Seal, name: str, content: object) -> None:
    """One value in a sealed file, in the block of the file's own name."""
    with BlockWriter(path, seal, name) as out:
        out.add(name, msgspec.msgpack.encode(content))


def sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
