"""`smartapp audit`: walk the chain of the audit trail, and export it with a signature."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from smartapp.commands.audit_export import SignatureWrong, verify_export, write_export
from smartapp.commands.checks import CANNOT, Fault, Parser, as_json
from smartapp.config import ConfigurationError, read_setting, setting
from smartapp.signing_keys import SigningKeys
from smartapp.store.audit import AuditTrail, ChainCheck, ChainFault
from smartapp.store.database import Database, SchemaOutdated

_SENTENCES = {
    ChainFault.MISSING: "is missing",
    ChainFault.CHANGED: "is not what it was when it was written",
    ChainFault.EMPTIED: "was emptied, and no purge says so",
    ChainFault.CUT_OFF: "is missing: the chain ends before the entry that should be its last",
}


def run(arguments: Sequence[str]) -> int:
    """The command. Exit status 0; 1 where a chain or a signature does not hold; 2 with one line."""
    try:
        options = _parser().parse_args(list(arguments))
        if options.command == "export":
            return _export(options.file)
        if (options.export is None) != (options.key is None):
            raise Fault("--export and --key belong together")
        if options.export is not None:
            return _verify_export(options)
        return _verify(options)
    except (Fault, ConfigurationError) as fault:
        print(f"smartapp audit: {fault}", file=sys.stderr)
    except SQLAlchemyError as fault:
        # Its text may hold the database's address.
        print(f"smartapp audit: the database: {type(fault).__name__}", file=sys.stderr)
    except OSError as fault:
        print(f"smartapp audit: {fault.filename}: {fault.strerror}", file=sys.stderr)
    except SystemExit as stop:  # --help
        return int(stop.code or 0)
    return CANNOT


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="smartapp audit", description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, parser_class=Parser)
    verify = commands.add_parser("verify", help="walk the chain, say where it breaks")
    verify.add_argument("--export", metavar="FILE", type=Path, help="check an export instead of the database")
    verify.add_argument("--key", metavar="PUB", type=Path, help="with --export: the public key (PEM)")
    verify.add_argument("--json", action="store_true", help="print JSON")
    export = commands.add_parser("export", help="write every entry and a signed last line")
    export.add_argument("file", metavar="FILE", type=Path, help="a new file; it will hold patient ids")
    return parser


def _verify(options: argparse.Namespace) -> int:
    with closing(_database()) as database:
        check = AuditTrail(database).check()
    return _tell(check, "The audit trail", in_json=options.json)


def _verify_export(options: argparse.Namespace) -> int:
    try:
        check, head = verify_export(options.export, options.key.read_bytes())
    except SignatureWrong:
        print("The export's last line was not signed with this key, or was changed since.")
        return 1
    when = f"{head.exported_at:%Y-%m-%d %H:%M} UTC"
    return _tell(check, f"The export of {when}", in_json=options.json)


def _tell(check: ChainCheck, what: str, *, in_json: bool) -> int:
    if in_json:
        print(as_json(check))
    elif check.fault is None:
        print(f"{what} holds: {check.entries} entries, {check.emptied} of them emptied; head {check.digest}.")
    else:
        print(f"{what} does not hold: entry {check.broken_at} {_SENTENCES[check.fault]}.")
    return 0 if check.fault is None else 1


def _export(path: Path) -> int:
    folder = read_setting(setting("signing_keys"))
    if folder is None:
        raise Fault("no folder of keys to sign with: set SMARTAPP_SIGNING_KEYS")
    now = datetime.now(UTC)
    with closing(_database()) as database:
        trail = AuditTrail(database)
        # Its entries name patients: nobody but the owner reads it, and nothing is overwritten.
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        try:
            with os.fdopen(handle, "wb") as out, trail.whole() as (links, end):
                check = write_export(links, end, SigningKeys(folder), now, out)
            if check.fault is None:
                trail.add(now, "audit-exported", entries=check.entries, digest=check.digest)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
    if check.fault is not None:
        path.unlink(missing_ok=True)
        print("Nothing was exported.")
        return _tell(check, "The audit trail", in_json=False)
    print(f"{path}: {check.entries} entries, {check.emptied} of them emptied; head {check.digest}.")
    return 0


def _database() -> Database:
    database = Database(read_setting(setting("database_url")))
    try:
        database.check_schema()
    except SchemaOutdated as fault:
        database.close()
        raise Fault(f"{fault} Run `smartapp migrate` first.") from None
    except BaseException:
        database.close()
        raise
    return database
