"""`smartapp export`: a population from an EHR, by FHIR Bulk Data, into a sealed folder (docs/scale.md)."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from fhir_mappings.completeness import DECIDING
from launch.bulk import BulkProblem
from launch.errors import ConfigurationError as LaunchConfigurationError
from launch.errors import HttpError, LaunchError, SmartError
from smartapp.commands.checks import CANNOT, Fault, Parser
from smartapp.commands.registered import add_ehr, ehr_of
from smartapp.configuration.settings import ConfigurationError, read_setting, setting
from smartapp.plain import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from launch.bulk import BulkServer
    from launch.issuers import Issuer
    from smartapp.population.exporting import Exported, Wanted

NOT_ALL = 3
"""Exit status where something is missing: it is named."""
NOT_READY = 4
"""Exit status where the EHR needs longer: the same call goes on asking."""
_HOUR = 3600.0


def run(arguments: list[str]) -> int:
    """Exit status 0; 2 with one line for what cannot be done; 3 where something is missing; 4 not ready."""
    from smartapp.population.exported import ExportError
    from smartapp.population.exporting import NotReady, Over

    try:
        options = _parser().parse_args(arguments)
        issuer = ehr_of(options)
        found = exported(issuer, wanted_of(options, issuer), Path(options.to), _say, again=options.again)
    except NotReady as late:
        _say(str(late))
        return NOT_READY
    except (Fault, ConfigurationError, LaunchConfigurationError, ExportError) as fault:
        _say(str(fault))
        return CANNOT
    except Over as over:
        _say(f"{over}: ask for it anew with --again")
        return CANNOT
    except SmartError as fault:
        _say(in_words(fault))
        return CANNOT
    except OSError as fault:
        _say(f"the folder: {fault.strerror or 'cannot be used'}")
        return CANNOT
    except SystemExit as stop:  # --help
        return int(stop.code or 0)
    for line in lines(found):
        print(line)
    return NOT_ALL if found.missing else 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="smartapp export", description=__doc__, allow_abbrev=False)
    add_ehr(parser)
    parser.add_argument("--to", required=True, metavar="DIR", help="a folder of its own, made 0700")
    add_wanted(parser)
    parser.add_argument("--since", default="", metavar="INSTANT", help="only what changed later")
    parser.add_argument("--again", action="store_true", help="drop what is in the folder and ask anew")
    return parser


def add_wanted(parser: argparse.ArgumentParser) -> None:
    """What is exported, and how."""
    parser.add_argument(
        "--group", metavar="ID", help="a Group's patients (default: as the issuers file says)"
    )
    parser.add_argument("--everybody", action="store_true", help="all patients, whatever the file says")
    parser.add_argument(
        "--types", metavar="A,B", help=f"resource types (default: {', '.join(sorted(DECIDING))})"
    )
    parser.add_argument(
        "--wait", type=float, default=12.0, metavar="HOURS", help="for the EHR to be done (default: 12)"
    )
    parser.add_argument(
        "--at-once", type=int, default=2, metavar="N", help="files fetched at a time (default: 2)"
    )


def wanted_of(options: argparse.Namespace, issuer: Issuer, since: str = "") -> Wanted:
    """What the options ask for. Raises Fault."""
    from smartapp.population.exporting import Wanted

    group = options.group or (issuer.backend.group if issuer.backend else "")
    since = since or getattr(options, "since", "")
    types = (
        tuple(one.strip() for one in options.types.split(",")) if options.types else tuple(sorted(DECIDING))
    )
    if not all(one.isascii() and one.isalpha() and one[0].isupper() for one in types if one) or "" in types:
        raise Fault("--types takes names of resource types, separated by commas")
    if options.at_once < 1 or options.wait < 0:
        raise Fault("--at-once and --wait take numbers above 0")
    if since and not _is_instant(since):
        raise Fault("--since takes an instant with its zone, as 2026-12-01T02:00:00Z")
    return Wanted(
        issuer.id,
        issuer.fhir_base,
        types,
        "" if options.everybody else group,
        since,
        options.wait * _HOUR,
        min(options.at_once, issuer.max_parallel),
    )


def exported(
    issuer: Issuer, wanted: Wanted, to: Path, say: Callable[[str], None], *, again: bool = False
) -> Exported:
    """One export into a folder. Raises what `exporting.export` raises, and ConfigurationError."""
    from smartapp.population.exported import ExportFolder
    from smartapp.population.exporting import export
    from smartapp.population.progress import Progress

    folder = ExportFolder(to, read_setting(setting("keys")))
    if again:
        with folder.locked():
            folder.empty()
    with _server(issuer) as server:
        return export(wanted, server, folder, Progress(sys.stderr, "export"), say)


@contextmanager
def _server(issuer: Issuer) -> Iterator[BulkServer]:
    from launch.backend import BackendTokens
    from launch.bulk import BulkServer
    from launch.discovery import Discovery
    from launch.http import EhrClients
    from smartapp.clock import SystemClock

    clock, clients = SystemClock(), EhrClients()
    discovery = Discovery(clock, _NobodyAsks())
    try:
        yield BulkServer(issuer, clients, discovery, BackendTokens(clients, discovery, clock))
    finally:
        clients.close()


class _NobodyAsks:
    """Events of a command: what matters of them it says itself."""

    def emit(self, name: str, **facts: str | int | float | bool | None) -> None:  # noqa: ARG002
        return


def lines(found: Exported) -> list[str]:
    """What came, in numbers; what is missing, by name."""
    told = [
        f"{found.folder}: {found.files:,} files, {found.records:,} records, {found.bytes / 1e6:,.0f} MB, "
        f"as of {found.moment}"
    ]
    if found.left_out:
        told.append(f"not in it, so unknown for every patient: {', '.join(found.left_out)}")
    told += [f"MISSING: {one}" for one in found.missing]
    if found.missing:
        told.append(
            "some of it is no more to be had: ask anew with --again"
            if found.over
            else "the same call fetches what is missing, and nothing else"
        )
    return told


def in_words(fault: SmartError) -> str:
    """What the EHR, or the way to it, did not do: our own words, the status, what OAuth calls it."""
    facts = []
    if isinstance(fault, LaunchError):
        facts = [fault.ehr_code or "", fault.detail]
    elif isinstance(fault, HttpError):
        facts = [fault.host, f"status {fault.status}" if fault.status else "", fault.detail]
    else:
        status = getattr(fault, "status", None)
        facts = [f"status {status}" if status else "", getattr(fault, "detail", "")]
    told = ", ".join(one for one in facts if one)
    if getattr(fault, "problem", None) is BulkProblem.NOT_UNDERSTOOD or told.startswith("invalid_scope"):
        told += "; it may not have every type, or not give it to this client: name those it does with --types"
    return f"{fault.sentence.rstrip('.')}{f' ({told})' if told else ''}"


def _is_instant(text: str) -> bool:
    from datetime import datetime

    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False


def _say(line: str) -> None:
    print(f"smartapp export: {printable(line)}", file=sys.stderr, flush=True)
