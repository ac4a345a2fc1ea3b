"""`smartapp denials`: read in what payers denied, from a CSV of a remittance; count it by reason and payer.

The file is read and not kept; the same one again adds nothing. What matches no charge is named and counted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, date, datetime
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from smartapp.commands.checks import CANNOT, Fault, Parser, as_json
from smartapp.configuration.settings import ConfigurationError, read_setting, setting
from smartapp.remittance import Imported, NoRemittance, import_remittance, read_remittance
from smartapp.store import Store
from smartapp.store.database import SchemaOutdated
from smartapp.store.months import last_day
from smartapp.store.vault import SealBroken

NOT_ALL = 3
"""Exit status of an import of which something matched no charge, or could not be read."""


def run(arguments: Sequence[str]) -> int:
    """The command. Exit status 0; 2 with one line; 3 where not every line of a file could be kept."""
    try:
        options = _parser().parse_args(list(arguments))
        with closing(Store(read_setting(setting("database_url")), read_setting(setting("keys")))) as store:
            store.database.check_schema()
            return _import(store, options) if options.command == "import" else _count(store, options)
    except SchemaOutdated as fault:
        print(f"smartapp denials: {fault} Run `smartapp migrate` first.", file=sys.stderr)
    except SealBroken:
        print("smartapp denials: no key of SMARTAPP_KEYS opens what is kept", file=sys.stderr)
    except (Fault, ConfigurationError) as fault:
        print(f"smartapp denials: {fault}", file=sys.stderr)
    except SQLAlchemyError as fault:
        # Its text may hold the database's address.
        print(f"smartapp denials: the database: {type(fault).__name__}", file=sys.stderr)
    except OSError as fault:
        print(f"smartapp denials: {fault.filename}: {fault.strerror}", file=sys.stderr)
    except SystemExit as stop:  # --help
        return int(stop.code or 0)
    return CANNOT


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="smartapp denials", description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, parser_class=Parser)
    reading = commands.add_parser("import", help="keep what a CSV of a remittance says was denied")
    reading.add_argument("file", metavar="FILE", type=Path, help="columns key, date, carc; rarc, note, done")
    reading.add_argument("--issuer", metavar="NAME", help="of this EHR's charges alone")
    reading.add_argument("--json", action="store_true", help="print JSON")
    counting = commands.add_parser("count", help="a month's denials by reason and payer")
    counting.add_argument("--month", metavar="YYYY-MM", required=True, help="of the dates of service")
    counting.add_argument("--issuer", metavar="NAME", required=True, help="of which EHR")
    counting.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _import(store: Store, options: argparse.Namespace) -> int:
    try:
        lines, unreadable = read_remittance(options.file.read_bytes())
    except NoRemittance as fault:
        raise Fault(f"{options.file}: {fault}") from None
    done = import_remittance(store, lines, unreadable, ("", ""), datetime.now(UTC), options.issuer)
    if options.json:
        print(as_json(done))
    else:
        _tell(done)
    return 0 if done.whole else NOT_ALL


def _tell(done: Imported) -> None:
    for line in done.not_found:
        print(f"line {line.number}: no charge with the key {line.key} left from here")
    for bad in done.unreadable:
        print(f"line {bad.number}: {bad.why}")
    print(
        f"{done.added} new, {done.there} known before, {done.taken_back} taken back before and left so, "
        f"{len(done.not_found)} match no charge, {len(done.unreadable)} not readable."
    )


def _count(store: Store, options: argparse.Namespace) -> int:
    try:
        first_day = date.fromisoformat(f"{options.month}-01")
    except ValueError:
        raise Fault(f"--month: expected a month such as 2026-11, got {options.month!r}") from None
    counts = store.denials.counts(options.issuer, first_day, last_day(first_day))
    if options.json:
        print(as_json(counts))
        return 0
    for one in counts:
        payer = one.payer or "unknown"
        print(f"{one.reason:4} {payer:20} {one.charges:6} charges, {one.open} with nothing done yet")
    if not counts:
        print("No denial of a charge of that month is recorded.")
    return 0
