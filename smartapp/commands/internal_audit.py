"""`smartapp internal-audit`: a month's charges looked at as an auditor would, before one does.

Draws a sample that anybody can draw again, writes its packets, checks each of them from the file alone, and
lays the screens that auditors use over all charges. Nothing leaves this machine.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
from collections.abc import Iterable, Sequence
from contextlib import closing
from datetime import UTC, date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from msgspec import Struct
from sqlalchemy.exc import SQLAlchemyError

from fhir_mappings.local_time import zone_named
from smartapp.commands.audit_screens import Audited, Screen, audited, screens
from smartapp.commands.checks import CANNOT, Fault, Parser, Status, as_json, listed
from smartapp.commands.packet import LONGEST_REASON
from smartapp.commands.packet_check import UNCHECKED, NoPacket, checked
from smartapp.configuration.settings import ConfigurationError, read_setting, setting
from smartapp.configuration.site_file import read_site_file
from smartapp.store import Store
from smartapp.store.billing import MonthFilter
from smartapp.store.chain import Words
from smartapp.store.charges import key_in
from smartapp.store.claims import HANDED, ChargeState
from smartapp.store.database import SchemaOutdated
from smartapp.store.months import month_of
from smartapp.store.packets import Kept, PacketAltered
from smartapp.store.vault import SealBroken

TO_LOOK_AT = 3
"""Exit status where a screen points somewhere, or a packet could not be checked whole."""
_CHARGED = (ChargeState.CONFIRMED, *HANDED)


class Drawn(Struct, frozen=True):
    """One charge of the sample. `fits`: its packet says the same when it is decided again; None where not all
    could be checked."""

    key: str
    packet: str
    fits: bool | None
    says: tuple[str, ...]


class Report(Struct, frozen=True):
    """Everything the command says."""

    month: str
    issuer: str
    charges: int
    keys_sha256: str
    """Of the keys of all charges, sorted, each on a line."""
    seed: str
    sample: tuple[Drawn, ...]
    screens: tuple[Screen, ...]


def run(arguments: Sequence[str]) -> int:
    """The command. Exit status 0; 1 where a packet is not what was written, or decides otherwise; 2 with one
    line; 3 where a screen points somewhere or not everything could be checked."""
    try:
        options = _parser().parse_args(list(arguments))
        with closing(Store(read_setting(setting("database_url")), read_setting(setting("keys")))) as store:
            store.database.check_schema()
            return _audit(store, options)
    except SchemaOutdated as fault:
        print(f"smartapp internal-audit: {fault} Run `smartapp migrate` first.", file=sys.stderr)
    except SealBroken:
        print("smartapp internal-audit: no key of SMARTAPP_KEYS opens what is kept", file=sys.stderr)
        return 1
    except (Fault, ConfigurationError) as fault:
        print(f"smartapp internal-audit: {fault}", file=sys.stderr)
    except SQLAlchemyError as fault:
        # Its text may hold the database's address.
        print(f"smartapp internal-audit: the database: {type(fault).__name__}", file=sys.stderr)
    except OSError as fault:
        print(f"smartapp internal-audit: {fault.filename}: {fault.strerror}", file=sys.stderr)
    except SystemExit as stop:  # --help
        return int(stop.code or 0)
    return CANNOT


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="smartapp internal-audit", description=__doc__, allow_abbrev=False)
    parser.add_argument("--month", metavar="YYYY-MM", required=True, help="of the dates of service")
    parser.add_argument("--issuer", metavar="NAME", help="of which EHR, where several have charges")
    parser.add_argument("--sample", metavar="N", type=int, default=20, help="how many charges; default 20")
    parser.add_argument(
        "--seed", metavar="TEXT", help="default: the digest of all keys, so that none is chosen"
    )
    parser.add_argument(
        "--folder", metavar="DIR", type=Path, help="a new one for the packets; default internal-audit-YYYY-MM"
    )
    parser.add_argument("--reason", required=True, help="why they are taken out; kept in the audit trail")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _audit(store: Store, options: argparse.Namespace) -> int:
    reason = options.reason.strip()[:LONGEST_REASON]
    if not reason:
        raise Fault("say why the packets are taken out: --reason")
    if options.sample < 1:
        raise Fault("--sample: at least one")
    first_day, zone = _first_day(options.month), _zone()
    store.billing.fill_in(options.issuer)
    options.issuer = options.issuer or _only_issuer(store, first_day)
    options.folder = options.folder or Path(f"internal-audit-{options.month}")
    before = month_of(date.fromordinal(first_day.toordinal() - 1))
    month = _of_month(store, options.issuer, first_day, zone)
    if not month:
        raise Fault(f"no charge of {options.month} of the EHR {options.issuer!r} is kept")
    keys = sorted(one.key for one in month)
    digest = digest_of_keys(keys)
    seed = options.seed or digest
    told = Report(
        options.month,
        options.issuer,
        len(keys),
        digest,
        seed,
        _written(store, options, drawn(keys, seed, options.sample), reason),
        screens(
            month,
            _of_month(store, options.issuer, before, zone),
            store.billing.patients(options.issuer, [state.value for state in _CHARGED]),
            first_day,
        ),
    )
    print(as_json(told)) if options.json else _tell(told, options.folder)
    if any(one.fits is False for one in told.sample):
        return 1
    looked = all(one.fits for one in told.sample) and not any(one.tripped for one in told.screens)
    return 0 if looked else TO_LOOK_AT


def _only_issuer(store: Store, first_day: date) -> str:
    """The EHR whose charges there are; where there are several, one must be named."""
    found = store.billing.issuers(first_day)
    if len(found) > 1:
        raise Fault(f"several EHRs have charges of that month, say which with --issuer: {listed(found)}")
    if not found:
        raise Fault(f"no charge of {first_day:%Y-%m} is kept")
    return found[0]


def digest_of_keys(keys: Iterable[str]) -> str:
    """SHA-256 of the sorted keys, each followed by a newline: `sort keys | sha256sum` says the same."""
    return hashlib.sha256("".join(f"{key}\n" for key in sorted(keys)).encode()).hexdigest()


def drawn(keys: Iterable[str], seed: str, number: int) -> list[str]:
    """The keys whose SHA-256 of "seed, newline, key" comes first: the same for everybody who has both."""
    return sorted(keys, key=lambda key: hashlib.sha256(f"{seed}\n{key}".encode()).hexdigest())[:number]


def _of_month(store: Store, issuer_id: str, first_day: date, zone: ZoneInfo) -> list[Audited]:
    return [
        audited(charge, zone)
        for charge in store.billing.charges(MonthFilter(issuer_id, first_day))
        if charge.state in _CHARGED
    ]


def _written(store: Store, options: argparse.Namespace, keys: list[str], reason: str) -> tuple[Drawn, ...]:
    """The packets of the sample, each in a file of its own, and what checking the file says."""
    by_key: dict[str, Kept] = {}
    for kept in store.packets.all(None, options.issuer):
        if kept.identifier is not None:
            by_key[key_in(kept.identifier)] = kept
    options.folder.mkdir(mode=0o700)
    return tuple(_one(store, options, key, by_key.get(key), reason) for key in keys)


def _one(store: Store, options: argparse.Namespace, key: str, kept: Kept | None, reason: str) -> Drawn:
    if kept is None:
        return Drawn(key, "", False, ("No packet of it is kept.",))
    try:
        content = store.packets.content(kept)
    except PacketAltered:
        return Drawn(key, kept.name, False, ("It is not what was written.",))
    file = options.folder / f"{kept.name}.json"
    handle = os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(content)
        store.audit.add(
            datetime.now(UTC),
            "packet-exported",
            issuer=kept.issuer_id,
            patient=kept.patient,
            packet=kept.name,
            packet_sha256=kept.sha256,
            file_sha256=kept.sha256,
            month=options.month,
            reason=Words(reason),
        )
    except BaseException:
        file.unlink(missing_ok=True)
        raise
    try:
        made = list(checked(file.read_bytes(), kept.sha256))
    except NoPacket:
        return Drawn(key, kept.name, False, ("It cannot be read as a packet.",))
    wrong = tuple(one.says for one in made if one.status is Status.FAILURE)
    open_ = tuple(one.says for one in made if one.status is Status.WARNING and one.id in UNCHECKED)
    return Drawn(key, kept.name, False if wrong else None if open_ else True, wrong or open_)


def _tell(told: Report, folder: Path) -> None:
    print(f"Internal audit of {told.month}, {told.issuer}: {told.charges} charges.")
    print(f"Keys, sorted: sha256 {told.keys_sha256}")
    print(f"Seed: {told.seed}")
    print(f"\nSample of {len(told.sample)}, each with its packet in {folder}:")
    for one in told.sample:
        verdict = {True: "fits", None: "not all checked", False: "does not fit"}[one.fits]
        print(f"  {one.key[:12]}  {one.packet or '-':12} {verdict}")
        for sentence in one.says:
            print(f"      {sentence}")
    print("\nScreens over all charges:")
    for screen in told.screens:
        print(f"  {'LOOK' if screen.tripped else 'ok':4} {screen.id}: {screen.asks} {screen.how}")
        if screen.tripped and screen.found:
            print(f"       {', '.join(key[:12] for key in screen.found[:10])}{_more(len(screen.found) - 10)}")


def _more(number: int) -> str:
    return f" and {number} more" if number > 0 else ""


def _first_day(month: str) -> date:
    try:
        return month_of(date.fromisoformat(f"{month}-01"))
    except ValueError:
        raise Fault(f"--month: expected a month such as 2026-11, got {month!r}") from None


def _zone() -> ZoneInfo:
    """The site's: spans are the same by the clock on its wall."""
    file = read_setting(setting("site_file"))
    named = read_site_file(file).timezone if file else None
    return zone_named(named or "UTC")
