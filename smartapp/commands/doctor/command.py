"""The command: `smartapp doctor ISS`."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from fhir_mappings.local_time import zone_named
from launch.http import EhrClient
from smartapp.commands.checks import CANNOT, Checks, Fault, Parser, as_json
from smartapp.commands.doctor.client import check_keys, check_registration, check_scopes
from smartapp.commands.doctor.connection import check_connection, check_pace
from smartapp.commands.doctor.discovery import NOTHING, check_discovery, check_identity, check_launch
from smartapp.commands.doctor.examination import Examination
from smartapp.commands.doctor.handover import check_handover
from smartapp.commands.doctor.ids import CheckId
from smartapp.commands.doctor.metadata import check_metadata, read_metadata
from smartapp.commands.doctor.searches import check_searches, token_of
from smartapp.commands.doctor.write_test import check_write
from smartapp.commands.register import sheet_of
from smartapp.commands.registered import Registered, add_options, registered
from smartapp.commands.rules_checked import check_rules
from smartapp.configuration.handover import HandoverSettings
from smartapp.configuration.settings import ConfigurationError
from smartapp.configuration.site_file import SiteFile, SiteFileError, read_site_file

_ID = re.compile(r"[A-Za-z0-9\-._]{1,255}")


def _machine_now() -> datetime:
    return datetime.now(UTC)


def run(arguments: Sequence[str], now: Callable[[], datetime] = _machine_now) -> int:
    """The command. Exit status 0; 1 where a check failed; 2 and one line where it can't be carried out."""
    try:
        options = _parser().parse_args(list(arguments))
        _check_call(options)
        here = registered(options)
        checks = examine(here, options, now)
    except (Fault, ConfigurationError, SiteFileError) as fault:
        print(f"smartapp doctor: {fault}", file=sys.stderr)
        return CANNOT
    except SystemExit as stop:  # --help
        return int(stop.code or 0)
    if options.json:
        answer = {
            "issuer": here.issuer.id,
            "fhir_base": here.issuer.fhir_base,
            "checked_at": datetime.now(UTC).replace(microsecond=0),
            "checks": list(checks),
            "counts": checks.counts,
        }
        print(as_json(answer))
    else:
        checks.print(sys.stdout)
    return checks.exit_status


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="smartapp doctor",
        description="Check whether the app can work with an EHR: discovery, TLS, clocks, metadata, "
        "registration, scopes, keys, and real searches where there is a token. Writes nothing by itself.",
        allow_abbrev=False,
    )
    add_options(parser)
    parser.add_argument("--patient", metavar="ID", help="a test patient's id: real searches are made of it")
    parser.add_argument("--token", metavar="NAME", help="environment variable that holds an access token")
    parser.add_argument(
        "--write-test",
        action="store_true",
        help="create a test ChargeItem for --patient, twice, conditionally; then set it to entered-in-error",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _check_call(options: argparse.Namespace) -> None:
    if options.patient is not None:
        options.patient = options.patient.removeprefix("Patient/")
        if not _ID.fullmatch(options.patient):
            raise Fault("--patient takes a patient's id")
    if options.write_test and options.patient is None:
        raise Fault("--write-test needs --patient: a test patient")


def examine(here: Registered, options: argparse.Namespace, now: Callable[[], datetime]) -> Checks:
    """Every check that can be made. Raises Fault where the call can't be carried out."""
    checks = Checks()
    site = SiteFile() if here.site_file is None else read_site_file(here.site_file)
    if here.site_file is not None:
        _check_site(checks, site, now())
    with EhrClient(here.issuer) as client:
        exam = Examination(here, sheet_of(here), client, checks, now)
        statement = read_metadata(exam)
        check_connection(exam)
        if exam.first is None:
            # Not a word was heard: asking for more would only say the same again.
            check_registration(exam, NOTHING)
            check_keys(exam)
            return checks
        found = check_discovery(exam, statement)
        check_launch(exam, found)
        check_identity(exam, found)
        declared = check_metadata(exam, statement)
        check_handover(exam, statement, HandoverSettings(site.handover))
        check_registration(exam, found)
        check_scopes(exam, found)
        check_keys(exam)
        token = token_of(exam, found, options.token, write=options.write_test)
        if token is not None and options.patient is None:
            checks.warning(CheckId.SEARCH, "not tried: give a test patient with --patient")
        elif token is not None:
            check_searches(exam, declared, token, options.patient)
            if options.write_test:
                check_write(exam, declared, token, options.patient)
        elif options.write_test:
            checks.failure(CheckId.WRITE_TEST, "not made: there is no token to write with")
        check_pace(exam)
    return checks


def _check_site(checks: Checks, site: SiteFile, now: datetime) -> None:
    """What of the site's file may end while the EHR is in order. Raises Fault where it cannot be used."""
    try:
        policy, zone = site.policies(None).default, zone_named(site.timezone or "UTC")
    except ValueError as fault:
        raise Fault(str(fault)) from None
    check_rules(checks, CheckId.RULES, policy, now.astimezone(zone).date())
