"""`smartapp audit`: walk the chain of the audit trail, and export it, or its head alone, with a signature.

An export or a head that was taken earlier, and is kept where the database's owner can't reach it, is what
shows that the trail was not rewritten or shortened since.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from smartapp.commands.audit_export import Head, SignatureWrong, verify_export, write_export
from smartapp.commands.audit_head import deliver, head_line, read_last_head
from smartapp.commands.checks import CANNOT, Fault, Parser, as_json
from smartapp.configuration.settings import ConfigurationError, read_setting, setting
from smartapp.configuration.signing_keys import SigningKeys
from smartapp.store.audit import AuditTrail
from smartapp.store.chain import ChainCheck, ChainFault, Point
from smartapp.store.database import Database, SchemaOutdated
from smartapp.store.vault import Vault

_SENTENCES = {
    ChainFault.MISSING: "is missing",
    ChainFault.CHANGED: "is not what it was when it was written",
    ChainFault.FOREIGN: "stands in the open after sealed ones: the app did not write it",
    ChainFault.UNREADABLE: "cannot be opened with the keys of SMARTAPP_KEYS, or is sealed in an export",
    ChainFault.EMPTIED: "was emptied, and no purge says so",
    ChainFault.CUT_OFF: "is missing: the chain ends before the entry that should be its last",
    ChainFault.REWRITTEN: "is not the one of the earlier export: the trail was rewritten there or before",
    ChainFault.SHORTENED: "is missing: the earlier export has it, the trail was cut off and made to fit",
}


def run(arguments: Sequence[str]) -> int:
    """The command. Exit status 0; 1 where a chain or a signature does not hold; 2 with one line."""
    try:
        options = _parser().parse_args(list(arguments))
        since = _earlier(options)
        if options.command == "head":
            return _head(options.to)
        if options.command == "export":
            return _export(options.file, since)
        if options.export is not None:
            return _verify_export(options, since)
        return _verify(options, since)
    except SignatureWrong:
        print("The export's last line was not signed with this key, or was changed since.")
        return 1
    except _EarlierBroken as broken:
        return _tell(broken.check, f"The earlier export of {_when(broken.head)}", in_json=False)
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
    verify.add_argument(
        "--since", metavar="EARLIER", type=Path, help="an earlier export: it must be continued"
    )
    verify.add_argument("--json", action="store_true", help="print JSON")
    export = commands.add_parser("export", help="write every entry and a signed last line")
    export.add_argument("file", metavar="FILE", type=Path, help="a new file; it will hold patient ids")
    export.add_argument(
        "--continues",
        metavar="EARLIER",
        dest="since",
        type=Path,
        help="an earlier export: nothing is written or signed unless the trail continues it",
    )
    verify.add_argument(
        "--head", metavar="FILE", type=Path, help="heads that were kept: the trail must pass through the last"
    )
    head = commands.add_parser("head", help="sign where the trail ends now, and bring that line elsewhere")
    head.add_argument(
        "--to",
        metavar="WHERE",
        default="-",
        help="a file (a line is added), syslog:, syslog://HOST[:PORT], https://...; else it is printed",
    )
    for command in (verify, export):
        command.add_argument("--key", metavar="PUB", type=Path, help="the public key of exports (PEM)")
    return parser


class _EarlierBroken(Exception):
    """The earlier export does not hold itself."""

    def __init__(self, check: ChainCheck, head: Head) -> None:
        super().__init__()
        self.check, self.head = check, head


def _earlier(options: argparse.Namespace) -> Point | None:
    """Where the earlier export ended, if one was given. Raises _EarlierBroken, SignatureWrong, Fault."""
    given = {name for name in ("export", "since", "head") if getattr(options, name, None)}
    if bool(given) != (getattr(options, "key", None) is not None):
        raise Fault("--key belongs together with --export, --since, --head or --continues")
    if "head" in given and "since" in given:
        raise Fault("--head or --since, one of them")
    if "head" in given:
        return read_last_head(options.head, options.key.read_bytes()).point
    if options.command == "head" or options.since is None:
        return None
    check, head = verify_export(options.since, options.key.read_bytes())
    if check.fault is not None:
        raise _EarlierBroken(check, head)
    return head.point


def _verify(options: argparse.Namespace, since: Point | None) -> int:
    with closing(_database()) as database:
        check = AuditTrail(database, _vault()).check(since)
    return _tell(check, "The audit trail", in_json=options.json)


def _verify_export(options: argparse.Namespace, since: Point | None) -> int:
    check, head = verify_export(options.export, options.key.read_bytes(), since)
    return _tell(check, f"The export of {_when(head)}", in_json=options.json)


def _when(head: Head) -> str:
    return f"{head.exported_at:%Y-%m-%d %H:%M} UTC"


def _tell(check: ChainCheck, what: str, *, in_json: bool) -> int:
    if in_json:
        print(as_json(check))
    elif check.fault is None:
        print(f"{what} holds: {check.entries} entries, {check.emptied} of them emptied; head {check.digest}.")
        if check.sealed:
            print(f"{check.sealed} contents were not opened: SMARTAPP_KEYS is needed to compare them.")
    else:
        print(f"{what} does not hold: entry {check.broken_at} {_SENTENCES[check.fault]}.")
    return 0 if check.fault is None else 1


def _head(to: str) -> int:
    folder = read_setting(setting("signing_keys"))
    if folder is None:
        raise Fault("no folder of keys to sign with: set SMARTAPP_SIGNING_KEYS")
    with closing(_database()) as database:
        check = AuditTrail(database, _vault()).check()
    if check.fault is not None:
        print("Nothing was signed.", file=sys.stderr)
        return _tell(check, "The audit trail", in_json=False)
    deliver(head_line(check, SigningKeys(folder), datetime.now(UTC)), to)
    return 0


def _export(path: Path, since: Point | None) -> int:
    folder = read_setting(setting("signing_keys"))
    if folder is None:
        raise Fault("no folder of keys to sign with: set SMARTAPP_SIGNING_KEYS")
    vault = Vault(read_setting(setting("keys")))
    now = datetime.now(UTC)
    with closing(_database()) as database:
        trail = AuditTrail(database, vault)
        # Its entries name patients: nobody but the owner reads it, and nothing is overwritten.
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        try:
            with os.fdopen(handle, "wb") as out, trail.whole() as (links, end):
                check = write_export(links, end, SigningKeys(folder), now, out, since)
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


def _vault() -> Vault | None:
    """The vault, where its keys are at hand: digests can be followed without."""
    keys = setting("keys")
    return Vault(read_setting(keys)) if os.environ.get(keys.variable, "").strip() else None


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
