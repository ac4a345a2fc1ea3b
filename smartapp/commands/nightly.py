"""`smartapp nightly`: export what changed, sweep it, hand out rows, purge; for cron or a systemd timer.

In one folder of its own: DIR/export is what comes from the EHR, DIR/state what is kept of it,
DIR/nightly.json how far it got. Whatever stops it, the same call goes on; nothing is swept twice as something
new, and nothing that changed is passed over: the next export begins where the last one that was swept did
(docs/scale.md).
"""

from __future__ import annotations

import argparse
import fcntl
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from launch.errors import ConfigurationError as LaunchConfigurationError
from launch.errors import SmartError
from smartapp.commands import export as exports
from smartapp.commands import sweep as sweeps
from smartapp.commands.checks import CANNOT, Fault, Parser
from smartapp.commands.evaluate import Fault as NotSo
from smartapp.commands.evaluate import read_day, site_options
from smartapp.commands.export import NOT_ALL, NOT_READY
from smartapp.commands.registered import add_ehr, ehr_of
from smartapp.configuration.settings import ConfigurationError, read_setting, setting
from smartapp.configuration.site_file import SiteFileError
from smartapp.plain import printable
from smartapp.population import reports
from smartapp.population.blocks import NotOpened
from smartapp.population.engine import NoEngine
from smartapp.population.exported import ExportError, ExportFolder
from smartapp.population.exporting import NotReady, Over
from smartapp.population.files import NotReadable
from smartapp.population.progress import Progress
from smartapp.population.spark import require as require_spark
from smartapp.population.state import OtherVersion, State, StateError, write_whole
from smartapp.population.sweep import Asked, SweepError, sweep

if TYPE_CHECKING:
    from launch.issuers import Issuer
    from smartapp.population.exporting import Exported
    from smartapp.population.state import Head

_EXPORT, _STATE, _MARK, _LOCK = "export", "state", "nightly.json", "lock"
_FAULTS = (
    *(Fault, NotSo, ConfigurationError, LaunchConfigurationError, SiteFileError, ExportError),
    *(StateError, SweepError, NotReadable, NotOpened, NoEngine, ValueError),
)


class Mark(Struct, kw_only=True):
    """How far the nights have got."""

    since: str = ""
    """The moment of the last export that was swept: the next one is since then."""
    full_on: date | None = None
    """The day of the last full one."""
    handed_out: int = 0
    """The generation whose rows were handed out."""


def run(arguments: Sequence[str]) -> int:
    """Exit status 0; 2 with one line for what cannot be done; 3 where something is missing or somebody could
    not be decided; 4 where the EHR needs longer. After each of them the same call goes on."""
    try:
        options = parser().parse_args(list(arguments))
        issuer = ehr_of(options)
        with _locked(Path(options.dir)):
            return _Night(options, issuer).run()
    except NotReady as late:
        _say(f"export: {late}")
        return NOT_READY
    except _FAULTS as fault:
        _say(str(fault))
    except SmartError as fault:
        _say(f"export: {exports.in_words(fault)}")
    except OSError as fault:
        _say(f"{options.dir}: {fault.strerror or 'cannot be used'}")
    except SystemExit as stop:  # --help
        return int(stop.code or 0)
    return CANNOT


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    told = Parser(prog="smartapp nightly", description=__doc__, allow_abbrev=False)
    add_ehr(told)
    told.add_argument(
        "--dir", required=True, metavar="DIR", help="where it keeps everything, sealed; made 0700"
    )
    exports.add_wanted(told)
    site_options(told)
    sweeps.add_workers(told)
    told.add_argument("--full", action="store_true", help="everybody anew, from a whole export")
    told.add_argument(
        "--full-every", type=int, default=30, metavar="DAYS", help="after so many days (default: 30)"
    )
    told.add_argument(
        "--sweep-incomplete", action="store_true", help="sweep an export of which something is missing"
    )
    told.add_argument("--rows", metavar="FILE", help="write every row there, 0600")
    told.add_argument("--changes", metavar="DIR", help="write there what each night changed, a file a night")
    told.add_argument("--keep-export", action="store_true", help="keep the export after it was swept")
    told.add_argument("--purge", action="store_true", help="then `smartapp purge`")
    return told


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One at a time; the lock goes with the process, however it ends."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_mode & 0o077:
        raise Fault(f"{folder}: others may look into it; `chmod 700` it")
    descriptor = os.open(folder / _LOCK, os.O_WRONLY | os.O_CREAT, 0o600)
    with os.fdopen(descriptor, "wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Fault(f"{folder}: another nightly run is under way") from None
        yield


class _Night:
    def __init__(self, options: argparse.Namespace, issuer: Issuer) -> None:
        if options.full_every < 1:
            raise Fault("--full-every takes a number from 1")
        options.site = options.site or _setting("site_file")
        self._options, self._issuer = options, issuer
        self._group = exports.wanted_of(options, issuer).group
        self._folder = sweeps.placed(options, Path(options.dir))
        self._keys: tuple[bytes, ...] = read_setting(setting("keys"))
        self._mark = self._read_mark()
        self._state: State | None = None
        # Told before the EHR is asked for anything.
        read_day(options.as_of, "--as-of")
        if options.engine == "spark":
            require_spark()
        if not self._has_state():
            sweeps.first_settings(options)

    def run(self) -> int:
        if self._of_other_version():
            _say("the state was kept by another version of this app: everybody anew, from a whole export")
        self._hand_out()
        status, resumed = self._round()
        if resumed and not status:
            _say("what was begun before is swept; now what changed since")
            status, _ = self._round()
        if not status and self._options.purge:
            from smartapp.commands import purge

            status = purge.run([])
        return status

    # -- a round ------------------------------------------------------------------------------------------

    def _round(self) -> tuple[int, bool]:
        """An export and its sweep: the exit status, and whether the export had been begun before."""
        full = self._is_full()
        since = "" if full else self._mark.since
        resumed = self._resumed(since)
        _say(f"export: {'everything' if full else f'what changed since {since}'}")
        found = self._exported(since)
        for line in exports.lines(found)[: 2 if found.left_out else 1]:
            _say(f"export: {line}")
        if found.missing:
            for one in found.missing:
                _say(f"export: MISSING: {one}")
            if not self._options.sweep_incomplete:
                _say("nothing was swept; the same call tries again what is missing (or --sweep-incomplete)")
                return NOT_ALL, resumed
        head = self._swept(full)
        self._hand_out()
        full_on = head.as_of if full else self._mark.full_on
        self._write_mark(Mark(since=found.moment, full_on=full_on, handed_out=self._mark.handed_out))
        self._clear(found)
        return NOT_ALL if found.missing or head.undecided or head.failed else 0, resumed

    def _is_full(self) -> bool:
        """The first time, when asked, when the last one is long ago, and when nobody knows what is since."""
        mark = self._mark
        if self._options.full or not self._has_state() or not mark.since or mark.full_on is None:
            return True
        return self._today() >= mark.full_on + timedelta(days=self._options.full_every)

    def _resumed(self, since: str) -> bool:
        """Whether this very export was begun; one of something else is dropped."""
        folder = self._folder / _EXPORT
        if not folder.exists():
            return False
        journal = ExportFolder(folder, self._keys).journal()
        if journal is None:
            return False
        if journal.asked.since == since and journal.base == self._issuer.fhir_base:
            return True
        _say("export: the one that was begun is of something else; it is dropped")
        ExportFolder(folder, self._keys).remove()
        return False

    def _exported(self, since: str) -> Exported:
        """What is over at the EHR is asked for anew, once."""
        wanted = exports.wanted_of(self._options, self._issuer, since)
        to = self._folder / _EXPORT
        say: Callable[[str], None] = lambda line: _say(f"export: {line}")  # noqa: E731
        try:
            found = exports.exported(self._issuer, wanted, to, say)
            if not found.over:
                return found
        except Over:
            pass
        _say("export: the EHR has it no more; asking for a new one")
        try:
            return exports.exported(self._issuer, wanted, to, say, again=True)
        except Over as over:
            raise Fault(f"export: {over}") from None

    def _swept(self, full: bool) -> Head:
        state = self._held_state(make=True)
        settings = (
            sweeps.first_settings(self._options)
            if full
            else sweeps.later_settings(self._options, state.held()[1].settings)
        )
        as_of = sweeps.as_of(self._options, settings)
        asked = Asked((self._folder / _EXPORT,), as_of, settings, night=not full, of_group=bool(self._group))
        progress = Progress(sys.stderr, "nightly: sweep")
        report = sweep(
            state, asked, sweeps.engine_of(self._options), progress, lambda line: _say(f"sweep: {line}")
        )
        for line in reports.lines(report, state.folder):
            _say(f"sweep: {line}")
        return report.head

    def _hand_out(self) -> None:
        """Rows of the generation that holds, where they were not handed out: also those of a night that was
        stopped after its sweep."""
        if not self._has_state():
            return
        state = self._held_state()
        generation, head = state.held()
        if head.generation == self._mark.handed_out:
            return
        if self._options.rows:
            _write_rows(Path(self._options.rows), reports.rows(state, generation, head))
        if self._options.changes:
            # A night that somebody has not fetched yet is not written over.
            name = f"changes-{head.as_of}-{generation.name}.ndjson"
            changes = reports.changed_rows(state, generation, head)
            _write_rows(Path(self._options.changes) / name, changes)
        self._mark.handed_out = head.generation
        self._write_mark(self._mark)

    def _clear(self, found: Exported) -> None:
        folder = ExportFolder(self._folder / _EXPORT, self._keys)
        if not self._options.keep_export:
            folder.remove()
            return
        kept = self._folder / f"export-{datetime.fromisoformat(found.moment).astimezone(UTC):%Y%m%dT%H%M%S}"
        folder.folder.rename(kept)
        _say(f"export: kept in {kept}; remove it when it is not needed any more")

    # -- what is known ------------------------------------------------------------------------------------

    def _has_state(self) -> bool:
        return self._has_swept() and not self._of_other_version()

    def _has_swept(self) -> bool:
        return (self._folder / _STATE / "current").exists()

    def _of_other_version(self) -> bool:
        try:
            return self._has_swept() and self._held_state().head() is None
        except OtherVersion:
            return True

    def _held_state(self, *, make: bool = False) -> State:
        if self._state is None:
            self._state = State(self._folder / _STATE, self._keys, make=make)
        return self._state

    def _today(self) -> date:
        _, head = self._held_state().held()
        return sweeps.as_of(self._options, sweeps.later_settings(self._options, head.settings))

    def _read_mark(self) -> Mark:
        try:
            return msgspec.json.decode((self._folder / _MARK).read_bytes(), type=Mark)
        except FileNotFoundError:
            return Mark()
        except (msgspec.DecodeError, msgspec.ValidationError):
            raise Fault(
                f"{self._folder / _MARK}: not readable; remove it, and the next export is a whole one"
            ) from None

    def _write_mark(self, mark: Mark) -> None:
        self._mark = mark
        write_whole(self._folder / _MARK, msgspec.json.encode(mark))


def _write_rows(to: Path, rows: Iterator[bytes]) -> None:
    """There with all of its content, or as it was before; for its owner alone."""
    temporary = to.with_name(f".{to.name}.tmp")
    # Made anew: one that somebody else laid there would be theirs to read, or lead elsewhere.
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as out:
        for line in rows:
            out.write(line)
        out.flush()
        os.fsync(out.fileno())
    temporary.rename(to)


def _setting(name: str) -> str | None:
    found = read_setting(setting(name))
    return str(found) if found else None


def _say(line: str) -> None:
    print(f"smartapp nightly: {printable(line)}", file=sys.stderr, flush=True)
