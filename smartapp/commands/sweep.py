"""`smartapp sweep`: a whole population decided from files, and each night what changed (docs/scale.md)."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path

import msgspec

from fhir_mappings.local_time import zone_named
from smartapp.commands.evaluate import Fault, Parser, read_attestations, read_day, site_options
from smartapp.commands.evaluate_table import for_terminal
from smartapp.configuration.settings import ConfigurationError, read_setting, setting
from smartapp.configuration.site_file import SiteFile, SiteFileError, read_site_file
from smartapp.population import reports
from smartapp.population.blocks import NotOpened
from smartapp.population.deciding import Settings
from smartapp.population.engine import Engine, InProcess, NoEngine
from smartapp.population.files import NotReadable
from smartapp.population.progress import Progress
from smartapp.population.state import State, StateError
from smartapp.population.sweep import Asked, SweepError, sweep

NOT_ALL = 3
"""Exit status where somebody could not be decided: their number is told."""


def run(arguments: list[str]) -> int:
    """Exit status 0; 2 with one line on standard error; 3 where some patients could not be decided."""
    try:
        options = _parser().parse_args(arguments)
        return _COMMANDS[options.command](options)
    except (
        *(Fault, SiteFileError, ConfigurationError, StateError, SweepError, NotReadable, NotOpened, NoEngine),
        ValueError,
    ) as fault:
        print(f"smartapp sweep: {for_terminal(' '.join(str(fault).split()))}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="smartapp sweep", description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    full = commands.add_parser("full", help="decide everybody, from all of their records", allow_abbrev=False)
    full.add_argument("paths", nargs="+", metavar="IN", help="a Bulk Data export: NDJSON, or folders of it")
    night = commands.add_parser(
        "night", help="decide whom new records or the day may have changed", allow_abbrev=False
    )
    night.add_argument("paths", nargs="*", metavar="DELTA", help="what was exported since the last sweep")
    night.add_argument(
        "--of-group",
        action="store_true",
        help="DELTA is a Group's: of whom it names first older records may lack",
    )
    for one in (full, night):
        one.add_argument("--state", required=True, metavar="DIR", help="kept from night to night, encrypted")
        site_options(one)
        add_workers(one)
    full.add_argument("--shards", type=int, metavar="N", help="parts of it (default: by its size)")
    rows = commands.add_parser("rows", help="print a line of JSON a decision", allow_abbrev=False)
    rows.add_argument("state", metavar="DIR")
    rows.add_argument(
        "--changes", action="store_true", help="only what the last sweep made new, changed, or took away"
    )
    why = commands.add_parser("why", help="print one patient, as evaluate --json", allow_abbrev=False)
    why.add_argument("state", metavar="DIR")
    why.add_argument("patient", metavar="PATIENT", help="as Patient/7")
    return parser


def add_workers(parser: argparse.ArgumentParser) -> None:
    """Who does the work."""
    parser.add_argument("--workers", type=int, metavar="N", help="processes (default: one a processor)")
    parser.add_argument(
        "--engine", choices=("local", "spark"), default="local", help="who hands tasks out (default: local)"
    )
    parser.add_argument(
        "--spark-master",
        metavar="URL",
        help="Spark's master (default: as spark-submit says, else this machine)",
    )


def _full(options: argparse.Namespace) -> int:
    settings = first_settings(options)
    return _swept(
        options, State(placed(options, Path(options.state)), _keys(), make=True), settings, night=False
    )


def _night(options: argparse.Namespace) -> int:
    state = State(placed(options, Path(options.state)), _keys())
    return _swept(options, state, later_settings(options, state.held()[1].settings), night=True)


def first_settings(options: argparse.Namespace) -> Settings:
    """Under what a full sweep decides. Raises Fault, SiteFileError, ValueError."""
    site = read_site_file(Path(options.site)) if options.site else SiteFile()
    zone = options.timezone or site.timezone
    if not zone:
        raise Fault("no time zone: give --timezone, or `timezone` in the site file")
    zone_named(zone)
    return Settings(
        zone,
        site,
        options.payer,
        read_day(options.history_from, "--history-from"),
        read_attestations(Path(options.attestations), sys.stderr) if options.attestations else {},
    )


def later_settings(options: argparse.Namespace, settings: Settings) -> Settings:
    """Those of the sweep before, but for what is given."""
    if options.site:
        site = read_site_file(Path(options.site))
        zone = options.timezone or site.timezone or settings.timezone
        settings = msgspec.structs.replace(settings, site=site, timezone=zone)
    elif options.timezone:
        settings = msgspec.structs.replace(settings, timezone=options.timezone)
    if options.payer:
        settings = msgspec.structs.replace(settings, payer=options.payer)
    if options.history_from:
        since = read_day(options.history_from, "--history-from")
        settings = msgspec.structs.replace(settings, history_from=since)
    if options.attestations:
        stated = read_attestations(Path(options.attestations), sys.stderr)
        settings = msgspec.structs.replace(settings, stated=stated)
    return settings


def as_of(options: argparse.Namespace, settings: Settings) -> date:
    """The day that was given, else today where the site is."""
    zone = zone_named(settings.timezone)
    return read_day(options.as_of, "--as-of") or datetime.now(UTC).astimezone(zone).date()


def _swept(options: argparse.Namespace, state: State, settings: Settings, *, night: bool) -> int:
    paths = tuple(placed(options, Path(path)) for path in options.paths)
    shards = None if night else _positive(options.shards, "--shards")
    of_group = night and options.of_group
    asked = Asked(paths, as_of(options, settings), settings, night, shards, of_group)
    report = sweep(state, asked, engine_of(options), Progress(sys.stderr), _say)
    for line in reports.lines(report, state.folder):
        print(line)
    return _status(report.head.undecided + len(report.head.failed))


def _rows(options: argparse.Namespace) -> int:
    state = State(Path(options.state), _keys())
    generation, head = state.held()
    out = sys.stdout.buffer
    for line in (
        reports.changed_rows(state, generation, head)
        if options.changes
        else reports.rows(state, generation, head)
    ):
        out.write(line)
    out.flush()
    return _warned(head.as_of, head.undecided, len(head.failed))


def _why(options: argparse.Namespace) -> int:
    state = State(Path(options.state), _keys())
    generation, head = state.held()
    told = reports.why(state, generation, head, options.patient)
    if told is None:
        raise Fault("no such patient in this state, or none whose answer holds")
    print(msgspec.json.format(msgspec.json.encode(told), indent=2).decode())
    return 0


_COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "full": _full,
    "night": _night,
    "rows": _rows,
    "why": _why,
}


def _warned(as_of: date, undecided: int, failed: int) -> int:
    if undecided:
        _say(f"{undecided} patients could not be decided as of {as_of}: they have no rows")
    if failed:
        _say(f"{failed} shards failed as of {as_of}: their patients have no rows")
    return _status(undecided + failed)


def _status(left_out: int) -> int:
    return NOT_ALL if left_out else 0


def _say(line: str) -> None:
    print(f"smartapp sweep: {for_terminal(line)}", file=sys.stderr)


def _keys() -> tuple[bytes, ...]:
    keys: tuple[bytes, ...] = read_setting(setting("keys"))
    return keys


def placed(options: argparse.Namespace, path: Path) -> Path:
    """A path as whoever does the work calls it: other machines know nothing of the folder we are in."""
    return path.resolve() if options.engine == "spark" else path


def engine_of(options: argparse.Namespace) -> Engine:
    """Who does the work, as the options say. Raises Fault and NoSpark."""
    if options.engine == "spark":
        from smartapp.population.spark import Spark

        workers = _positive(options.workers, "--workers")
        return Spark(options.spark_master or (f"local[{workers}]" if workers else None))
    number = _positive(options.workers, "--workers") or os.cpu_count() or 1
    if number == 1:
        return InProcess()
    from smartapp.population.processes import Processes

    return Processes(number)


def _positive(number: int | None, option: str) -> int | None:
    if number is not None and number < 1:
        raise Fault(f"{option}: a number from 1")
    return number
