"""`smartapp packet`: the kept evidence of what was written, for whoever audits without a session in the EHR.

A packet names a patient: a file of it is readable by its owner alone, and why it was taken out is asked and
stands in the audit trail. `check` needs nothing but the file.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from sqlalchemy.exc import SQLAlchemyError

from smartapp.commands.checks import CANNOT, Fault, Parser, Status, as_json, listed
from smartapp.commands.packet_check import UNCHECKED, NoPacket, checked
from smartapp.configuration.settings import ConfigurationError, read_setting, setting
from smartapp.ehr.charges.month_of_packets import month_document, packets_of_month
from smartapp.store import Store
from smartapp.store.chain import Words
from smartapp.store.database import SchemaOutdated
from smartapp.store.months import month_of
from smartapp.store.packets import Kept, PacketAltered
from smartapp.store.vault import SealBroken, SealMoved

LONGEST_REASON = 500
NOT_ALL = 3
"""Exit status of a check that found nothing wrong and could not look at all of it."""


def run(arguments: Sequence[str]) -> int:
    """The command. Exit status 0; 1 where a packet is not what was written, or decides otherwise; 2 with one
    line; of `check` 3 where nothing differs, and not all could be checked."""
    try:
        options = _parser().parse_args(list(arguments))
        if options.command == "check":
            return _check(options)
        with closing(Store(read_setting(setting("database_url")), read_setting(setting("keys")))) as store:
            store.database.check_schema()
            return _list(store, options) if options.command == "list" else _export(store, options)
    except SchemaOutdated as fault:
        print(f"smartapp packet: {fault} Run `smartapp migrate` first.", file=sys.stderr)
    except PacketAltered as altered:
        print(f"smartapp packet: {altered} is not what was written; nothing was exported", file=sys.stderr)
        return 1
    except SealMoved:
        said = "it was sealed for another row, or changed; nothing was exported"
        print(f"smartapp packet: {said}", file=sys.stderr)
        return 1
    except SealBroken:
        print("smartapp packet: no key of SMARTAPP_KEYS opens it", file=sys.stderr)
        return 1
    except (Fault, ConfigurationError) as fault:
        print(f"smartapp packet: {fault}", file=sys.stderr)
    except SQLAlchemyError as fault:
        # Its text may hold the database's address.
        print(f"smartapp packet: the database: {type(fault).__name__}", file=sys.stderr)
    except OSError as fault:
        print(f"smartapp packet: {fault.filename}: {fault.strerror}", file=sys.stderr)
    except SystemExit as stop:  # --help
        return int(stop.code or 0)
    return CANNOT


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="smartapp packet", description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, parser_class=Parser)
    listing = commands.add_parser("list", help="what is kept; nothing is opened")
    listing.add_argument("--patient", metavar="ID", help="the packets of one patient alone")
    listing.add_argument("--json", action="store_true", help="print JSON")
    export = commands.add_parser("export", help="write one packet, or a patient's month, as it was kept")
    export.add_argument("name", metavar="NAME", nargs="?", help="as `list` names it: charge-7, change-...")
    export.add_argument(
        "file",
        metavar="FILE",
        type=Path,
        help="a new file; it will hold a patient's data. One that ends in .pdf is written to be read, any "
        "other as it was kept",
    )
    export.add_argument("--month", metavar="YYYY-MM", help="every charge of a month in place of one packet")
    export.add_argument("--patient", metavar="ID", help="whose month")
    export.add_argument("--issuer", metavar="NAME", help="of which EHR, where several have such a patient")
    export.add_argument("--reason", required=True, help="why it is taken out; kept in the audit trail")
    check = commands.add_parser("check", help="decide again from the file alone; says where it differs")
    check.add_argument("file", metavar="FILE", type=Path, help="as `export` wrote it")
    check.add_argument("--sha256", metavar="HEX", help="what `list` or the audit trail says it should be")
    check.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _check(options: argparse.Namespace) -> int:
    """Asks no database and no setting."""
    try:
        made = checked(options.file.read_bytes(), options.sha256)
    except NoPacket:
        raise Fault(f"{options.file}: no packet that `smartapp packet export` wrote") from None
    if options.json:
        print(as_json({"file": options.file.name, "checks": tuple(made), "counts": made.counts}))
    else:
        made.print(sys.stdout)
    if made.exit_status == 0 and any(one.status is Status.WARNING for one in made if one.id in UNCHECKED):
        return NOT_ALL
    return made.exit_status


def _list(store: Store, options: argparse.Namespace) -> int:
    found = store.packets.all(options.patient)
    if options.json:
        print(json.dumps([_told(one) for one in found], indent=2))
        return 0
    for one in found:
        told = _told(one)
        print("  ".join(told[name] for name in ("name", "written", "keep_until", "patient", "charge_item")))
    if not found:
        print("No packet is kept.")
    return 0


def _told(kept: Kept) -> dict[str, str]:
    return {
        "name": kept.name,
        "issuer": kept.issuer_id,
        "patient": f"Patient/{kept.patient}",
        "charge_item": f"ChargeItem/{kept.charge_item}",
        "written": f"{kept.created_at:%Y-%m-%d}",
        "keep_until": kept.keep_until.isoformat(),
        "sha256": kept.sha256,
    }


def _export(store: Store, options: argparse.Namespace) -> int:
    reason = options.reason.strip()[:LONGEST_REASON]
    if not reason:
        raise Fault("say why it is taken out: --reason")
    if (options.name is None) is (options.month is None):
        raise Fault("name one packet, or give --month and --patient")
    found = _of_month(store, options) if options.month else [_named(store, options.name)]
    kept = found[0][0]
    if options.file.suffix.lower() == ".pdf":
        content = _pdf(found, options.month)
    elif options.month:
        content = month_document(kept.patient, kept.issuer_id, _first_day(options.month), found)
    else:
        content = found[0][1]
    digest = hashlib.sha256(content).hexdigest()
    handle = os.open(options.file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(content)
        for one, _ in found:
            store.audit.add(
                datetime.now(UTC),
                "packet-exported",
                issuer=one.issuer_id,
                patient=one.patient,
                packet=one.name,
                packet_sha256=one.sha256,
                file_sha256=digest,
                month=options.month,
                reason=Words(reason),
            )
    except BaseException:
        options.file.unlink(missing_ok=True)
        raise
    print(f"{options.file}: {', '.join(one.name for one, _ in found)}, sha256 {digest}.")
    return 0


def _named(store: Store, name: str) -> tuple[Kept, bytes]:
    kept = store.packets.named(name)
    if kept is None:
        raise Fault(f"no packet {name!r} is kept; `smartapp packet list` names them")
    return kept, store.packets.content(kept)


def _of_month(store: Store, options: argparse.Namespace) -> list[tuple[Kept, bytes]]:
    """One patient's packets of a month; of two EHRs that call a patient the same, `--issuer` names one."""
    if not options.patient:
        raise Fault("say whose month: --patient")
    first_day = _first_day(options.month)
    issuers = {one.issuer_id for one in store.packets.all(options.patient)}
    if options.issuer is not None:
        issuers &= {options.issuer}
    found = {
        issuer_id: of_month
        for issuer_id in sorted(issuers)
        if (of_month := packets_of_month(store.packets, options.patient, issuer_id, first_day))
    }
    if not found:
        raise Fault(f"no packet of {options.month} is kept of that patient; `smartapp packet list` names all")
    if len(found) > 1:
        raise Fault(f"several EHRs have such a patient, say which with --issuer: {listed(found)}")
    return next(iter(found.values()))


def _first_day(month: str) -> date:
    try:
        return month_of(date.fromisoformat(f"{month}-01"))
    except ValueError:
        raise Fault(f"--month: expected a month such as 2026-11, got {month!r}") from None


def _pdf(found: list[tuple[Kept, bytes]], month: str | None) -> bytes:
    from smartapp.web.packet_pdf import packet_pdf
    from smartapp.web.packet_view import packet_view

    views = [packet_view(kept, content, ZoneInfo("UTC")) for kept, content in found]
    heading = f"{_first_day(month):%B %Y}" if month else views[0].title
    return packet_pdf(f"Audit record of {heading}", views)
