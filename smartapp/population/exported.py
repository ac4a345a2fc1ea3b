"""The folder of one export: sealed files, and what is known of them, so that a run that stopped goes on.

    DIR/.salt             makes keys of this folder's own (with SMARTAPP_KEYS)
    DIR/.journal          sealed: what was asked for, where it is asked about, what the EHR's manifest names
    DIR/.done-00007       sealed: the seventh file is all here
    DIR/manifest.json     what belongs to the export, by the names below; no address, nothing of a patient
    DIR/Observation.00007.000.ndjson.sealed      64 MB of lines a part

`smartapp sweep` reads the folder as it does any export: what `manifest.json` names and is not there is
missing (D20). A file appears under its names when all of it is here.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
from msgspec import Struct

from fhir_mappings.chart.bundles import says_incomplete
from fhir_mappings.completeness import ANY_TYPE, DECIDING, Missing, MissingWhy
from launch.bulk import Asked, Manifest, Named
from smartapp.population.blocks import Blocks, BlockWriter, NotOpened, Seal
from smartapp.population.files import SEALED
from smartapp.population.manifests import NOT_EXPORTED
from smartapp.population.sealed import LINES, SALT
from smartapp.population.state import write_sealed, write_whole

MANIFEST = "manifest.json"
_JOURNAL, _DONE, _LOCK = ".journal", ".done", ".lock"
_TYPE = re.compile(r"[A-Za-z]{1,64}")
_BLOCK, _PART, _LONGEST_LINE = 1 << 20, 64 << 20, 64 << 20


class ExportError(Exception):
    """The folder can't be used as it is; one line for a person."""


class Journal(Struct, kw_only=True):
    """What is known of an export besides its files."""

    issuer: str
    base: str
    asked: Asked
    left_out: list[Missing]
    """Types that were not asked for, and why."""
    place: str = ""
    """Where the EHR is asked about it."""
    manifest: Manifest | None = None
    over: bool = False
    """All of it is here, and the EHR was told so."""


class Fetched(Struct, kw_only=True):
    """One file of the manifest, as it came. `fault`: what is wrong with it, in plain words."""

    parts: list[str] = []
    records: int = 0
    bytes: int = 0
    fault: str = ""


class NoLines(Exception):
    """What came is no NDJSON; its text says what it is."""


class ExportFolder:
    """The folder. Raises `ExportError`."""

    def __init__(self, folder: Path, keys: Sequence[bytes]) -> None:
        self.folder = folder
        salt = folder / SALT
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not salt.exists():
                if any(not one.name.startswith(f"{SALT}.") for one in folder.iterdir()):
                    raise ExportError(f"{folder}: not empty, and no export of ours")
                folder.chmod(0o700)
                write_whole(salt, os.urandom(16))
            if folder.stat().st_mode & 0o077:
                raise ExportError(f"{folder}: others may look into it; `chmod 700` it")
            self._seal = Seal(keys, salt.read_bytes())
        except OSError as fault:
            raise ExportError(f"{folder}: {fault.strerror or 'cannot be used'}") from None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One run at a time."""
        descriptor = os.open(self.folder / _LOCK, os.O_WRONLY | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "wb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise ExportError(f"{self.folder}: another export is under way") from None
            for broken in self.folder.glob(".*.tmp"):
                broken.unlink()
            yield

    def journal(self) -> Journal | None:
        """None before anything was asked for."""
        path = self.folder / _JOURNAL
        if not path.exists():
            return None
        try:
            told = Blocks(path, self._seal, _JOURNAL).one(_JOURNAL)
            return msgspec.msgpack.decode(told, type=Journal)
        except (NotOpened, msgspec.ValidationError):
            raise ExportError(f"{self.folder}: begun with another key or version; remove it") from None

    def write_journal(self, journal: Journal) -> None:
        write_sealed(self.folder / _JOURNAL, self._seal, _JOURNAL, journal)

    def fetched(self, number: int) -> Fetched | None:
        """What came of a file of the manifest; None where it is still to be fetched."""
        name = f"{_DONE}-{number:05d}"
        try:
            told = Blocks(self.folder / name, self._seal, name).one(name)
        except NotOpened:
            return None
        found = msgspec.msgpack.decode(told, type=Fetched)
        return found if all((self.folder / part).exists() for part in found.parts) else None

    def writer(self, number: int, named: Named) -> FileWriter:
        return FileWriter(self.folder, self._seal, stem_of(number, named))

    def write_fetched(self, number: int, fetched: Fetched) -> None:
        name = f"{_DONE}-{number:05d}"
        write_sealed(self.folder / name, self._seal, name, fetched)

    def write_manifest(self, journal: Journal, faults: Iterable[Missing] = ()) -> None:
        """What belongs to the export, by our own names of files."""
        if journal.manifest is None:
            return
        told: dict[str, object] = {
            "transactionTime": journal.manifest.moment,
            "requiresAccessToken": False,
            "output": [],
            "deleted": [],
            "error": [],
        }
        for member in ("output", "deleted", "error"):
            told[member] = [
                {"type": named.type, "url": f"{stem_of(number, named)}.000.ndjson{SEALED}"}
                for number, named in enumerate(journal.manifest.files)
                if named.member == member
            ]
        told["extension"] = {NOT_EXPORTED: [*journal.left_out, *faults]}
        write_whole(self.folder / MANIFEST, msgspec.json.format(msgspec.json.encode(told), indent=1))

    def severe(self, fetched: Fetched) -> int:
        """How many of the lines of a file of errors say that something failed, or is not all here."""
        return sum(
            says_incomplete(line)
            for part in fetched.parts
            for block in Blocks(self.folder / part, self._seal, part).read(LINES)
            for line in block.splitlines()
        )

    def empty(self) -> None:
        """Everything of the export is gone; the folder stays."""
        for one in self.folder.iterdir():
            if one.name not in (SALT, _LOCK):
                one.unlink()

    def remove(self) -> None:
        """The folder is gone, and all that is in it."""
        shutil.rmtree(self.folder)


def stem_of(number: int, named: Named) -> str:
    """How a file of the manifest is called here: by its type or what it is, and its place."""
    kind = named.type if named.member == "output" and _TYPE.fullmatch(named.type) else named.member
    return f"{kind}.{number:05d}"


def missing_of(named: Named, detail: str) -> Missing:
    """What may be missing where a file is not all here."""
    known = named.member == "output" and named.type in DECIDING
    return Missing(named.type if known else ANY_TYPE, MissingWhy.FILE_NOT_READ, detail=detail)


class FileWriter:
    """Takes a file in, piece by piece, and keeps it sealed; it is there once the `with` ends well."""

    def __init__(self, folder: Path, seal: Seal, stem: str) -> None:
        self._folder, self._seal, self._stem = folder, seal, stem
        self.fetched = Fetched()
        self._held = bytearray()
        self._whole = 0
        """So much of what is held are whole lines. Kept, since a line that is looked through again with each
        piece of it takes the square of its length."""
        self._part: BlockWriter | None = None
        self._in_part = 0

    def __enter__(self) -> Self:
        for old in (*self._folder.glob(f"{self._stem}.*"), *self._folder.glob(f".{self._stem}.*")):
            old.unlink()
        return self

    def feed(self, piece: bytes) -> None:
        """Raises `NoLines` for what is no NDJSON."""
        if not self.fetched.bytes and piece:
            start = (self._held + piece).removeprefix(b"\xef\xbb\xbf").lstrip()
            if start and start[:1] != b"{":
                raise NoLines("no NDJSON")
        self.fetched.bytes += len(piece)
        if ended := piece.rfind(b"\n") + 1:
            self._whole = len(self._held) + ended
        self._held += piece
        if len(self._held) >= _BLOCK:
            if self._whole:
                self._write(bytes(self._held[: self._whole]))
                del self._held[: self._whole]
                self._whole = 0
            elif len(self._held) > _LONGEST_LINE:
                raise NoLines("no NDJSON: a line of more than 64 MB")

    def close(self) -> None:
        """All of it came. What ends within a record is kept, with a fault: a sweep reads the others."""
        if self._held.strip():
            try:
                msgspec.json.decode(
                    bytes(self._held).rpartition(b"\n")[2] or b"{}", type=dict[str, msgspec.Raw]
                )
            except msgspec.DecodeError:
                self.fetched.fault = "ends in the middle of a record"
            self._write(bytes(self._held) + b"\n" * (self._held[-1:] != b"\n"))
        elif not self.fetched.parts:
            self._write(b"")

    def _write(self, lines: bytes) -> None:
        if self._part is None or self._in_part >= _PART:
            self._end_part(None, None, None)
            name = f"{self._stem}.{len(self.fetched.parts):03d}.ndjson{SEALED}"
            self.fetched.parts.append(name)
            self._part = BlockWriter(self._folder / f".{name}", self._seal, name).__enter__()
            self._in_part = 0
        self.fetched.records += lines.count(b"\n")
        self._in_part += len(lines)
        self._part.add(LINES, lines)

    def _end_part(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._part is not None:
            self._part.__exit__(kind, fault, trace)
            self._part = None

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end_part(kind, fault, trace)
        # The first part last: it is the one that the manifest names.
        for part in reversed(self.fetched.parts):
            if kind is None:
                (self._folder / f".{part}").rename(self._folder / part)
            else:
                (self._folder / f".{part}").unlink(missing_ok=True)
