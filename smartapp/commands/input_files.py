"""Files and folders of FHIR for `smartapp evaluate`: everything is read, or is said not to have been.

What is passed over is told on standard error and stands in the answer's completeness (D20): a charge in a
file that nobody opened is a charge made twice.
"""

from __future__ import annotations

import gzip
import os
import re
import select
import stat
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from io import BufferedIOBase
from pathlib import Path
from typing import TextIO

import msgspec

from fhir_mappings import resources as fhir
from fhir_mappings.chart import NOT_JSON, Chart
from fhir_mappings.completeness import ANY_TYPE, DECIDING, Missing, MissingWhy
from fhir_mappings.salvage import salvaged

_LINES = (".ndjson", ".jsonl")
_FILES = (".json", *_LINES)
_GZIP = ".gz"
_PROGRESS_EVERY_SECONDS = 2.0
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_WAIT_FOR_WRITER_SECONDS = 5.0
"""A pipe that somebody named, and that nobody writes to, is not waited for longer."""
_TYPE = re.compile(rb'"resourceType"\s*:\s*"([A-Za-z]{1,64})"')
_NOT_READABLE = (OSError, EOFError, zlib.error)
_NO_FHIR = "JSON, but not FHIR (no resourceType)"


def _unheard(_: str) -> None:
    pass


class NotReadable(Exception):
    """Something that the person who called named can't be read; its text is the one line they see."""


def read_paths(
    chart: Chart,
    paths: Iterable[Path],
    progress: TextIO | None = None,
    say: Callable[[str], None] | None = None,
) -> None:
    """Add every resource of these files and folders to the chart. `say` gets a line for each thing that was
    not read. Raises `NotReadable` where what was named itself can't be."""
    reading = _Reading(chart, _Progress(progress), say or _unheard)
    for path in paths:
        reading.path(path)
    reading.told.done()


class _Reading:
    def __init__(self, chart: Chart, told: _Progress, say: Callable[[str], None]) -> None:
        self._chart = chart
        self.told = told
        self._say = say

    def path(self, path: Path) -> None:
        """What the person named: it is read, or the call fails."""
        try:
            kind = path.stat().st_mode
        except OSError as fault:
            if isinstance(fault, FileNotFoundError):
                raise NotReadable(f"{path}: no such file or folder") from None
            raise NotReadable(f"{path}: {fault.strerror or 'cannot be read'}") from None
        if stat.S_ISDIR(kind):
            self._folder(path)
        elif stat.S_ISREG(kind):
            try:
                self._file(path)
            except _NotFhir as fault:
                raise NotReadable(f"{path}: {fault}") from None
            except _NOT_READABLE as fault:
                raise NotReadable(f"{path}: {_why(fault)}") from None
        elif stat.S_ISFIFO(kind):
            self._pipe(path)
        else:
            raise NotReadable(f"{path}: neither a file nor a folder")

    def _folder(self, path: Path) -> None:
        found = False
        for file, why in _within(path):
            if why:
                self._not_read(file, path, why)
                continue
            found = True
            try:
                self._file(file)
            except _NoRecord as fault:
                if _type_of_name(file):
                    self._not_read(file, path, str(fault))
                else:
                    self._say(f"not read: {file}: {fault}")
            except _NotFhir as fault:
                self._not_read(file, path, str(fault))
            except _NOT_READABLE as fault:
                self._not_read(file, path, _why(fault))
        if not found:
            raise NotReadable(f"{path}: no FHIR files ({', '.join(_FILES)}, plain or {_GZIP}) in this folder")

    def _not_read(self, file: Path, folder: Path, why: str) -> None:
        """Told, and missing: whatever its name says it holds, else nobody knows what."""
        self._say(f"not read: {file}: {why}")
        name = file.relative_to(folder).as_posix()
        missing = Missing(_type_of_name(file) or ANY_TYPE, MissingWhy.FILE_NOT_READ, detail=f"{name}: {why}")
        self._chart.add_missing(missing)

    def _file(self, file: Path) -> None:
        with _opened(file) as content:
            if _plain_suffix(file) in _LINES:
                self._lines(content, file)
            else:
                self._document(content.read(), file)
        self.told.now(self._chart.resources)

    def _pipe(self, path: Path) -> None:
        """A named pipe, or what a shell puts in place of a command's output."""
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as pipe:
            if not select.select([pipe], [], [], _WAIT_FOR_WRITER_SECONDS)[0]:
                raise NotReadable(f"{path}: nobody writes to this pipe")
            os.set_blocking(pipe.fileno(), True)
            text = pipe.read()
        try:
            self._document(text, path)
        except _NotFhir as fault:
            raise NotReadable(f"{path}: {fault}") from None

    def _lines(self, content: BufferedIOBase, file: Path) -> None:
        add, hint = self._chart.add, _Hint(file)
        for number, line in enumerate(content, 1):
            if number == 1:
                line = line.removeprefix(_BYTE_ORDER_MARK)
            if not line.isspace():
                add(line, None, f"{file.name} line {number}", hint)
            if not number % 5000:
                self.told.now(self._chart.resources)

    def _document(self, text: bytes, file: Path) -> None:
        """One JSON file: a Bundle, a resource, or an array of them. NDJSON under a .json name is read too."""
        text = text.removeprefix(_BYTE_ORDER_MARK)
        try:
            if text.lstrip()[:1] == b"[":
                for number, part in enumerate(msgspec.json.decode(text, type=list[msgspec.Raw]), 1):
                    self._chart.add(part, None, f"{file.name} item {number}")
                return
            head = _head(text)
        except NOT_JSON as fault:
            if _looks_like_lines(text):
                hint = _Hint(file)
                for number, line in enumerate(text.splitlines(), 1):
                    if line.strip():
                        self._chart.add(line, None, f"{file.name} line {number}", hint)
                return
            if not _holds_records(text):
                raise _NotFhir(f"not JSON ({fault})") from None
            # A download that broke off: what came of it is read, and that something is lost is said.
            self._say(f"not read to its end: {file}: not JSON ({fault})")
        else:
            if head is None:
                raise (_NotFhir if b"resourceType" in text else _NoRecord)(_NO_FHIR)
        self._chart.add(text, None, file.name)


class _NotFhir(Exception):
    """The file could be opened, and holds nothing that is meant for us."""


class _NoRecord(_NotFhir):
    """Whole JSON in which no record stands, as the manifest of an export: nothing is missing without it."""


class _Hint:
    """The type that a broken line of a file must be of: that of the other lines; else what its name says."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._found: str | None = None

    def __call__(self) -> str:
        if self._found is None:
            kinds = _types_in(self._file) if self._file.is_file() else set()
            self._found = kinds.pop() if len(kinds) == 1 else _type_of_name(self._file)
        return self._found


def _types_in(file: Path) -> set[str]:
    """The resource types of a file's lines; no more than two, which is one too many."""
    kinds: set[str] = set()
    with _opened(file) as content:
        for line in content:
            if (kind := _TYPE.search(line)) is not None:
                kinds.add(kind[1].decode("ascii"))
            if len(kinds) > 1:
                break
    return kinds


def _within(folder: Path) -> Iterator[tuple[Path, str]]:
    """Everything below a folder, in order; with the reason where it is not to be read."""
    faults: list[OSError] = []
    for name, folders, files in os.walk(folder, onerror=faults.append):
        here = Path(name)
        folders.sort()
        for inner in [one for one in folders if (here / one).is_symlink()]:
            folders.remove(inner)
            yield here / inner, "a link to a folder, which is not followed"
        for file in sorted(files):
            if not file.startswith("."):
                yield here / file, _why_not(here / file)
        while faults:
            fault = faults.pop()
            yield Path(fault.filename or name), f"cannot be entered ({fault.strerror or 'no reason given'})"
    while faults:
        fault = faults.pop()
        yield Path(fault.filename or folder), f"cannot be entered ({fault.strerror or 'no reason given'})"


def _why_not(file: Path) -> str:
    """Why a file of a folder is not to be read; "" where it is."""
    try:
        kind = file.stat().st_mode
    except OSError as fault:
        return fault.strerror or "cannot be read"
    if not stat.S_ISREG(kind):
        return "no ordinary file"
    if _plain_suffix(file) not in _FILES:
        return f"no file of FHIR JSON ({', '.join(_FILES)}, plain or {_GZIP})"
    return ""


def _plain_suffix(file: Path) -> str:
    """What a file holds by its name, packed or not."""
    suffix = file.suffix.lower()
    return Path(file.stem).suffix.lower() if suffix == _GZIP else suffix


def _type_of_name(file: Path) -> str:
    """The one resource type that a file's name names ("Observation.000.ndjson", "charge-item" names none)."""
    named = {word for word in re.split(r"[^A-Za-z]+", file.name) if word in DECIDING}
    return named.pop() if len(named) == 1 else ""


def _opened(file: Path) -> BufferedIOBase:
    return gzip.open(file, "rb") if file.suffix.lower() == _GZIP else file.open("rb")


def _why(fault: Exception) -> str:
    said = fault.strerror if isinstance(fault, OSError) else None
    return said or f"cannot be read ({fault})"


def _head(text: bytes) -> str | None:
    """The resource type of a JSON document, read to its end: a truncated one fails."""
    try:
        return fhir.decode_head(text).resourceType
    except msgspec.ValidationError:
        value = fhir.decode_untyped(text)
        kind = value.get("resourceType") if isinstance(value, dict) else None
        return kind if isinstance(kind, str) else None


def _holds_records(text: bytes) -> bool:
    """Can anything of a broken document still be read: a resource, or a Bundle that holds one?"""
    kind = salvaged(text).type
    return bool(kind) and (kind != "Bundle" or len(_TYPE.findall(text)) > 1)


def _looks_like_lines(text: bytes) -> bool:
    """Is this NDJSON under a .json name? Its first line is then a JSON object of its own."""
    first = text.split(b"\n", 1)[0]
    try:
        return isinstance(fhir.decode_untyped(first), dict)
    except NOT_JSON:
        return False


class _Progress:
    """Tells a person at a terminal how far a long read has come."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream if stream is not None and stream.isatty() else None
        self._last = time.monotonic()
        self._told = False

    def now(self, resources: int) -> None:
        if self._stream is None or time.monotonic() - self._last < _PROGRESS_EVERY_SECONDS:
            return
        self._last = time.monotonic()
        self._told = True
        print(f"\r{resources:,} resources read", end="", file=self._stream, flush=True)

    def done(self) -> None:
        if self._told and self._stream is not None:
            print(file=self._stream)
