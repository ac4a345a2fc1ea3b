"""Files and folders of FHIR, of one chart or of a population: all is read, or is said not to have been.

What is passed over is told on standard error and stands in the answer's completeness (D20): a charge in a
file that nobody opened is a charge made twice.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import select
import stat
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from io import BufferedIOBase
from pathlib import Path
from typing import Protocol, TextIO

import msgspec
from msgspec import Raw, Struct

from fhir_mappings import resources as fhir
from fhir_mappings.chart import NOT_JSON
from fhir_mappings.chart.bundles import Search, types_of
from fhir_mappings.chart.intake import Hint
from fhir_mappings.completeness import ANY_TYPE, DECIDING, Missing, MissingWhy
from fhir_mappings.resources import READ_TYPES
from fhir_mappings.salvage import salvaged
from smartapp.population.manifests import Manifest, manifest_in

SEALED = ".sealed"
"""Ends the names of files that nobody reads without the keys (`smartapp.population.sealed`)."""
_LINES = (".ndjson", ".jsonl")
_FILES = (".json", *_LINES)
_GZIP = ".gz"
_PACKED = (_GZIP, SEALED)
_UNPACKS_TO = 8
"""Times the size of a packed file, roughly."""
_PROGRESS_EVERY_SECONDS = 2.0
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_PIECE = 1 << 20
_LINE = re.compile(r" line ([0-9]+)")
_WAIT_FOR_WRITER_SECONDS = 5.0
"""A pipe that somebody named, and that nobody writes to, is not waited for longer."""
_TYPE = re.compile(rb'"resourceType"\s*:\s*"([A-Za-z]{1,64})"')
_NOT_READABLE = (OSError, EOFError, zlib.error)
_NO_SUCH = "no such file or folder"
_SEALED_HERE = "sealed: `smartapp sweep` opens it"
_NO_FHIR = "JSON, but not FHIR (no resourceType)"


Opened = Callable[[Path], BufferedIOBase]


def _unheard(_: str) -> None:
    pass


class NotReadable(Exception):
    """Something that the person who called named can't be read; its text is the one line they see."""


class Taker(Protocol):
    """What resources are read into: a chart, or what sorts them by patient."""

    @property
    def resources(self) -> int: ...

    def add(
        self,
        text: bytes | Raw,
        full_url: str | None = None,
        origin: str = "input",
        hint: Hint | None = None,
    ) -> None: ...

    def add_missing(self, missing: Missing) -> None: ...


class Source(Struct, frozen=True):
    """A file to read, or a part of one. `folder`: the one it was found in; None where the file was named."""

    file: Path
    folder: Path | None = None
    start: int = 0
    """In bytes; lines are read that begin from here on,"""
    end: int | None = None
    """and before here; None: to the end of the file."""

    @property
    def size(self) -> int:
        """In bytes of what it holds; of a packed one a guess."""
        whole = self.file.stat().st_size
        if self.file.suffix.lower() in _PACKED:
            return whole * _UNPACKS_TO
        return (whole if self.end is None else self.end) - self.start


def sources(
    paths: Iterable[Path], most_bytes: int, say: Callable[[str], None]
) -> tuple[list[Source], list[Missing]]:
    """What there is to read in these files and folders, in parts of at most so many bytes where a file can be
    parted; and what can't be read, which `say` gets told. Raises `NotReadable` as `read_paths` does."""
    found: list[Source] = []
    missing: list[Missing] = []
    for path in paths:
        if path.is_dir():
            held = 0
            for file, why in _within(path):
                if why:
                    say(f"not read: {file}: {why}")
                    missing += _file_missing(file, path, why)
                    continue
                held += 1
                found += _parts(Source(file, path), most_bytes)
            if not held:
                raise NotReadable(_no_files(path))
        elif path.is_file():
            found += _parts(Source(path), most_bytes)
        else:
            raise NotReadable(f"{path}: {'neither a file nor a folder' if path.exists() else _NO_SUCH}")
    return found, missing


def open_plain(file: Path) -> BufferedIOBase:
    """A file as it holds FHIR, unpacked. Raises OSError, also where it is sealed."""
    if file.suffix.lower() == SEALED:
        raise OSError(0, _SEALED_HERE)
    return gzip.open(file, "rb") if file.suffix.lower() == _GZIP else file.open("rb")


def read_source(
    taker: Taker, source: Source, say: Callable[[str], None], opened: Opened = open_plain
) -> None:
    """Add what one source holds. `opened`: what opens files, sealed ones too where it has the keys. Raises
    `NotReadable` where it was named and can't be read."""
    _Reading(taker, _Progress(None), say, opened).source(source)


def _parts(source: Source, most_bytes: int) -> list[Source]:
    """Lines can be read from anywhere in a file, unless it is packed."""
    size = source.file.stat().st_size
    if (
        source.file.suffix.lower() not in _LINES
        or size <= most_bytes
        or not _begins_with_a_line(source.file, open_plain)
    ):
        return [source]
    starts = range(0, size, most_bytes)
    return [Source(source.file, source.folder, start, min(start + most_bytes, size)) for start in starts]


def _file_missing(file: Path, folder: Path, why: str, held: Iterable[str] = ()) -> list[Missing]:
    """Whatever its name says it holds; else more of what was read of it, `held`; else nobody knows what."""
    detail = f"{file.relative_to(folder).as_posix()}: {why}"
    kinds = types_of(Search(_type_of_name(file)), held)
    return [
        Missing(kind, MissingWhy.FILE_NOT_READ, detail=detail)
        for kind in kinds
        if kind in DECIDING or kind == ANY_TYPE
    ]


def _no_files(path: Path) -> str:
    return f"{path}: no FHIR files ({', '.join(_FILES)}, plain or {_GZIP}) in this folder"


def read_paths(
    chart: Taker,
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
    def __init__(
        self, chart: Taker, told: _Progress, say: Callable[[str], None], opened: Opened = open_plain
    ) -> None:
        self._chart = chart
        self._opened = opened
        self.told = told
        self._say = say

    def path(self, path: Path) -> None:
        """What the person named: it is read, or the call fails."""
        try:
            kind = path.stat().st_mode
        except OSError as fault:
            if isinstance(fault, FileNotFoundError):
                raise NotReadable(f"{path}: {_NO_SUCH}") from None
            raise NotReadable(f"{path}: {fault.strerror or 'cannot be read'}") from None
        if stat.S_ISDIR(kind):
            self._folder(path)
        elif stat.S_ISREG(kind):
            self.source(Source(path))
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
            self.source(Source(file, path))
        if not found:
            raise NotReadable(_no_files(path))

    def source(self, source: Source) -> None:
        """A file that the person named is read, or the call fails; one of a folder is read, or missing."""
        file, folder = source.file, source.folder
        try:
            self._file(source)
        except _Manifest as manifest:
            self._check(file, manifest)
        except _NoRecord as fault:
            if folder is None:
                raise NotReadable(f"{file}: {fault}") from None
            if _type_of_name(file):
                self._not_read(file, folder, str(fault))
            else:
                self._say(f"not read: {file}: {fault}")
        except (_NotFhir, _BrokeOff, *_NOT_READABLE) as fault:
            why = _why(fault) if isinstance(fault, _NOT_READABLE) else str(fault)
            if folder is None:
                raise NotReadable(f"{file}: {why}") from None
            self._not_read(file, folder, why, fault.held if isinstance(fault, _BrokeOff) else ())

    def _check(self, file: Path, manifest: _Manifest) -> None:
        """An export's manifest says which files belong to it: of one that is not beside it all is missing."""
        try:
            beside = {other.name for other in file.parent.iterdir()}
        except OSError:  # whoever may not look into a folder sees none of its files
            beside = set()
        for name, kind in manifest.files:
            if beside.isdisjoint((name, *(f"{name}{suffix}" for suffix in _PACKED))):
                self._say(f"not read: {name}: named by {file.name}, and not there")
                detail = f"{name}: named by {file.name}, and not there"
                self._chart.add_missing(Missing(kind, MissingWhy.FILE_NOT_READ, detail=detail))
        for missing in manifest.missing:
            self._say(
                f"not exported: {missing.type or 'something of any type'} ({missing.detail or missing.why})"
            )
            self._chart.add_missing(missing)

    def _not_read(self, file: Path, folder: Path, why: str, held: Iterable[str] = ()) -> None:
        """Told, and missing (`_file_missing`)."""
        self._say(f"not read{' to its end' if held else ''}: {file}: {why}")
        for missing in _file_missing(file, folder, why, held):
            self._chart.add_missing(missing)

    def _file(self, source: Source) -> None:
        file = source.file
        in_lines = _plain_suffix(file) in _LINES and (
            source.start > 0 or _begins_with_a_line(file, self._opened)
        )
        with self._opened(file) as content:
            if in_lines:
                try:
                    self._lines(content, source)
                except _NOT_READABLE as fault:
                    raise _BrokeOff(_why(fault), _types_in(file, self._opened)) from None
            else:
                text, broken = _as_far_as_it_goes(content)
                self._document(text, file)
                if broken is not None:
                    raise _BrokeOff(_why(broken), {kind.decode("ascii") for kind in _TYPE.findall(text)})
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

    def _lines(self, content: BufferedIOBase, source: Source) -> None:
        file = source.file
        add, hint = self._chart.add, _Hint(file, self._opened)
        at = source.start
        if at:
            # A line that begins before this part belongs to the part before.
            content.seek(at - 1)
            at += len(content.readline()) - 1
        for number, line in enumerate(content, 1):
            if source.end is not None and at >= source.end:
                break
            at += len(line)
            if number == 1 and not source.start:
                line = line.removeprefix(_BYTE_ORDER_MARK)
            if not line.isspace():
                add(line, None, f"{file.name} line {number}", hint)
            if not number % 5000:
                self.told.now(self._chart.resources)

    def _document(self, text: bytes, file: Path) -> None:
        """One JSON file: a Bundle, a resource, or an array of them. NDJSON under a .json name is read too,
        and documents that somebody joined."""
        text = text.removeprefix(_BYTE_ORDER_MARK)
        try:
            if text.lstrip()[:1] == b"[":
                for number, part in enumerate(msgspec.json.decode(text, type=list[msgspec.Raw]), 1):
                    self._chart.add(part, None, f"{file.name} item {number}")
                return
            head = _head(text)
        except NOT_JSON as fault:
            if _looks_like_lines(text):
                hint = _Hint(file, self._opened)
                for number, line in enumerate(text.splitlines(), 1):
                    if line.strip():
                        self._chart.add(line, None, f"{file.name} line {number}", hint)
                return
            *several, rest = _documents_in(text)
            for number, document in enumerate(several, 1):
                self._chart.add(document, None, f"{file.name} document {number}")
            if several and not rest:
                return
            text = rest
            if not several and not _holds_records(text):
                raise _NotFhir(f"not JSON ({fault})") from None
            # A download that broke off: what came of it is read, and that something is lost is said.
            self._say(f"not read to its end: {file}: not JSON ({fault})")
        else:
            if head is None:
                if (manifest := manifest_in(text)) is not None:
                    raise _Manifest(manifest)
                raise (_NotFhir if b"resourceType" in text else _NoRecord)(_NO_FHIR)
        self._chart.add(text, None, file.name)


class _NotFhir(Exception):
    """The file could be opened, and holds nothing that is meant for us."""


class _BrokeOff(Exception):
    """What came of the file was read. `held`: of which types that was."""

    def __init__(self, why: str, held: Iterable[str]) -> None:
        super().__init__(why)
        self.held = tuple(held)


class _NoRecord(_NotFhir):
    """Whole JSON in which no record stands: nothing is missing without it."""


class _Manifest(_NoRecord):
    """The manifest of a Bulk Data export."""

    def __init__(self, found: Manifest) -> None:
        super().__init__(_NO_FHIR)
        self.files = found.files
        self.missing = found.missing


def origin_in_file(source: Source, origin: str) -> str:
    """A line's name by its place in the whole file, where a part of it was read."""
    place = _LINE.search(origin)
    if not source.start or place is None:
        return origin
    return f"{origin[: place.start(1)]}{int(place[1]) + _lines_before(source)}{origin[place.end(1) :]}"


@lru_cache(maxsize=4)
def _lines_before(source: Source) -> int:
    """How many lines begin before a part of a file."""
    lines, left = 0, source.start - 1
    with source.file.open("rb") as content:
        while left > 0 and (piece := content.read(min(left, _PIECE))):
            lines += piece.count(b"\n")
            left -= len(piece)
    # The line that reaches up to the part is read with the one before.
    return lines + 1


class _Hint:
    """The type that a broken line of a file must be of: that of the other lines; else what its name says."""

    def __init__(self, file: Path, opened: Opened) -> None:
        self._file = file
        self._opened = opened
        self._found: str | None = None

    def __call__(self) -> str:
        if self._found is None:
            kinds = _types_in(self._file, self._opened, enough=2) if self._file.is_file() else set()
            self._found = kinds.pop() if len(kinds) == 1 else _type_of_name(self._file)
        return self._found


def _types_in(file: Path, opened: Opened, enough: int = len(READ_TYPES)) -> set[str]:
    """The resource types of a file's lines, as far as it can be read; no more than `enough`."""
    kinds: set[str] = set()
    try:
        with opened(file) as content:
            for line in content:
                if (kind := _TYPE.search(line)) is not None:
                    kinds.add(kind[1].decode("ascii"))
                if len(kinds) >= enough:
                    break
    except _NOT_READABLE:  # whoever reads it will say so
        pass
    return kinds


def _as_far_as_it_goes(content: BufferedIOBase) -> tuple[bytes, Exception | None]:
    """What can be read, and what came in the way of the rest: a download of a packed file that broke off."""
    pieces: list[bytes] = []
    try:
        while piece := content.read1(_PIECE):
            pieces.append(piece)
    except _NOT_READABLE as fault:
        return b"".join(pieces), fault
    return b"".join(pieces), None


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
    return Path(file.stem).suffix.lower() if suffix in _PACKED else suffix


def _begins_with_a_line(file: Path, opened: Opened) -> bool:
    """Is it lines, as its name says? A document over many lines, or an array, begins otherwise."""
    try:
        with opened(file) as content:
            first = next((line for line in content if not line.isspace()), b"").removeprefix(_BYTE_ORDER_MARK)
    except _NOT_READABLE:  # whoever reads it will say so
        return True
    return first.strip()[:1] != b"[" and first.strip() != b"{"


def _type_of_name(file: Path) -> str:
    """The one resource type that a file's name names ("Observation.000.ndjson", "charge-item" names none)."""
    named = {word for word in re.split(r"[^A-Za-z]+", file.name) if word in DECIDING}
    return named.pop() if len(named) == 1 else ""


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


def _documents_in(text: bytes) -> list[bytes]:
    """JSON documents one after the other, as files make that somebody joined; last what is left of them, ""
    where nothing is. Only what is left where not even the first is whole."""
    try:
        whole = text.decode("utf-8")
    except UnicodeDecodeError:
        return [text]
    found: list[bytes] = []
    at = _after_space(whole, 0)
    while whole.startswith("{", at):
        try:
            _, end = _DOCUMENT.raw_decode(whole, at)
        except (ValueError, RecursionError):
            break
        found.append(whole[at:end].encode())
        at = _after_space(whole, end)
    return [*found, whole[at:].encode()]


_DOCUMENT = json.JSONDecoder()
_SPACE = re.compile(r"\s*")


def _after_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found is not None else at


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
