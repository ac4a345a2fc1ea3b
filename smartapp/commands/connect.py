"""`smartapp connect URL`: the app for one FHIR server with test data, on this machine or a public sandbox.

Looks at the server, says what it found, and starts the app for it on loopback, marked TEST on every page.
Where one signs in through SMART it prints what to register and the launch link; elsewhere it opens charts
without a sign-in, through a link that is good once.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlencode

from fhir_mappings.vocabulary import Role
from launch.errors import ConfigurationError as LaunchConfigurationError
from launch.errors import HttpError
from launch.issuers import Issuer
from launch.issuers_table import load_issuers
from launch.profiles import profile_names
from launch.urls import Url
from smartapp.commands.checks import CANNOT, Fault, Parser, listed
from smartapp.commands.registration import sheet
from smartapp.configuration.settings import ConfigurationError
from smartapp.configuration.site import read_site
from smartapp.services import FEATURES
from smartapp.testing.looking import (
    Launcher,
    Smart,
    declared_types,
    launcher_at,
    smart_at,
    somebody,
)
from smartapp.testing.pages import EXTRA_SCOPES
from smartapp.testing.sandboxes import is_loopback
from smartapp.testing.server import Plan, TestingServer
from smartapp.testing.target import ISSUER, VOUCH, Target, base_of, entry_of, target_at
from smartapp.testing.written import NAME, folder_of

PORT = 8765
"""Always the same, since it is part of the addresses that are registered."""
SITE = Path(str(files("launch") / "sandbox" / "site.yaml"))
READ = ("Patient", "Observation", "Device", "Encounter", "ChargeItem")


@dataclass(frozen=True)
class Found:
    """What the look at the server found."""

    base: Url
    smart: Smart | None
    launcher: Launcher | None
    software: str
    types: Mapping[str, set[str]]
    why_test_data: str
    patient: str | None
    user: str | None


def run(arguments: Sequence[str]) -> int:
    """The command. Exit status 0 once it is stopped; 2 and one line where it can't be carried out."""
    try:
        options = _parser().parse_args(list(arguments))
        plan, lines = prepared(options)
        with _ending() as ending, TestingServer(plan) as server:
            print("\n".join(lines), flush=True)
            _serve(server, plan, ending)
    except SystemExit as stop:  # --help
        return int(stop.code or 0)
    except KeyboardInterrupt:
        pass
    except (Fault, ConfigurationError) as fault:
        print(f"smartapp connect: {fault}", file=sys.stderr)
        return CANNOT
    except OSError as error:
        print(f"smartapp connect: {error.strerror or error}; another --port?", file=sys.stderr)
        return CANNOT
    print("\nStopped.")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="smartapp connect", description=__doc__, allow_abbrev=False)
    parser.add_argument("url", metavar="URL", help="the server's FHIR base")
    parser.add_argument("--patient", metavar="ID", help="whose chart is opened; else one is chosen on a page")
    parser.add_argument("--user", metavar="ID", help="the Practitioner who acts where nobody signs in")
    parser.add_argument(
        "--role",
        choices=sorted(role.value for role in Role if role is not Role.UNKNOWN),
        default="physician",
        help="in which role (physician)",
    )
    parser.add_argument("--client-id", metavar="ID", help="as registered with the server")
    parser.add_argument(
        "--client-secret-variable", metavar="NAME", help="environment variable that holds the client's secret"
    )
    parser.add_argument("--profile", choices=profile_names(), help="what is known of this kind of server")
    parser.add_argument("--open", action="store_true", help="do not sign in, although the server offers it")
    parser.add_argument(
        "--site", type=Path, metavar="FILE", help="a site.yaml; else that of the synthetic charts"
    )
    parser.add_argument("--as-of", type=_day, metavar="DAY", help="be on another day; not where one signs in")
    parser.add_argument("--port", type=int, default=PORT, help=f"of the app ({PORT})")
    parser.add_argument(
        "--folder", type=Path, help="where its store is kept (default: the user's state folder)"
    )
    parser.add_argument(
        VOUCH, dest="vouched", action="store_true", help="of a server that nothing else vouches for"
    )
    return parser


def _day(text: str) -> datetime:
    """Noon of that day, as a clock on the site's wall shows it."""
    return datetime.strptime(text, "%Y-%m-%d").replace(hour=12)  # noqa: DTZ007 - the site's zone, known later


def prepared(options: argparse.Namespace) -> tuple[Plan, list[str]]:
    """Look at the server: how to start the app for it, and what there is to say. Raises Fault."""
    asked = base_of(options.url)
    launcher = launcher_at(asked)
    if "*" in asked.path and launcher is None:
        raise Fault(f"{options.url} stands for many FHIR bases (*): give one of them")
    with target_at(asked if launcher is None else launcher.looked_at) as target:
        found = _look(target, launcher, options)
    entry = _entry(found, options)
    try:
        issuers = load_issuers({ISSUER: entry}, os.environ, loopback=True, plain_http=True)
    except LaunchConfigurationError as fault:
        raise Fault(str(fault)) from None
    plan = Plan(
        folder=folder_of(asked if launcher is None else launcher.looked_at, options.folder),
        port=options.port,
        entry=entry,
        signs_in=found.smart is not None,
        patient=options.patient,
        user=None if found.user is None else f"Practitioner/{found.user}",
        role=options.role,
        site_file=options.site,
        ahead=_ahead(options, found),
    )
    return plan, [*_what_was_found(found), *_what_to_do(found, plan, next(iter(issuers)), options)]


def _look(target: Target, launcher: Launcher | None, options: argparse.Namespace) -> Found:
    statement = target.statement()
    why = target.why_test_data(vouched=options.vouched)
    smart = None if options.open else smart_at(target, statement)
    software = statement.get("software")
    name = software.get("name") if isinstance(software, dict) else None
    version = software.get("version") if isinstance(software, dict) else None
    return Found(
        base=target.base,
        smart=smart,
        launcher=launcher if smart is not None else None,
        software=" ".join(str(part) for part in (name, version) if part) or "not named",
        types=declared_types(statement),
        why_test_data=why,
        patient=_patient(target, smart, launcher, options),
        user=_user(target, smart, launcher, options),
    )


def _patient(
    target: Target, smart: Smart | None, launcher: Launcher | None, options: argparse.Namespace
) -> str | None:
    """Whose chart it is, where that is told beforehand. Raises Fault for somebody who is not there."""
    if options.patient is None:
        return somebody(target, "Patient") if smart is not None and launcher is not None else None
    if not NAME.fullmatch(f"Patient/{options.patient}"):
        raise Fault(f"{options.patient!r} is no id of a Patient")
    if smart is None:
        try:
            status, _ = target.get(f"Patient/{options.patient}")
        except HttpError as error:
            raise Fault(f"Patient/{options.patient}: {error.sentence}") from None
        if status != 200:
            raise Fault(f"the server answers {status} to Patient/{options.patient}")
    return str(options.patient)


def _user(
    target: Target, smart: Smart | None, launcher: Launcher | None, options: argparse.Namespace
) -> str | None:
    """The Practitioner who acts, or is expected to."""
    if options.user is not None:
        user = str(options.user).removeprefix("Practitioner/")
        if not NAME.fullmatch(f"Practitioner/{user}"):
            raise Fault(f"{options.user!r} is no id of a Practitioner")
        return user
    return somebody(target, "Practitioner") if smart is None or launcher is not None else None


def _entry(found: Found, options: argparse.Namespace) -> dict[str, Any]:
    """The server's entry in the issuers file."""
    base = found.base if found.launcher is None else found.launcher.base(found.patient, found.user)
    entry = entry_of(base)
    if options.profile:
        entry["profile"] = options.profile
    elif found.launcher is not None:
        entry["profile"] = "smart-health-it"
    if found.smart is not None:
        entry["extra_scopes"] = list(EXTRA_SCOPES)
        entry["oauth_hosts"] = list(found.smart.hosts)
        entry["frame_ancestors"] = [base.origin]
    if options.client_id:
        entry["client_id"] = options.client_id
    if options.client_secret_variable:
        entry |= {"client_auth": "secret-basic", "client_secret": options.client_secret_variable}
    return entry


def _ahead(options: argparse.Namespace, found: Found) -> timedelta:
    """How far the app's clock runs ahead of the machine's. Raises Fault."""
    if options.as_of is None:
        return timedelta()
    if found.smart is not None:
        raise Fault("--as-of needs a server where nobody signs in: what it signs is of its own day")
    zone = read_site(options.site or SITE, None, None).zone
    moment: datetime = options.as_of.replace(tzinfo=zone)
    return moment - datetime.now(UTC)


class _Ending:
    """Whether somebody ended it. A signal stops serving as Ctrl-C does, and is remembered in case what it
    interrupts swallows it."""

    come = False

    def by_signal(self, _number: int, _frame: object) -> NoReturn:
        self.come = True
        raise KeyboardInterrupt


@contextmanager
def _ending() -> Iterator[_Ending]:
    ending = _Ending()
    before = signal.signal(signal.SIGTERM, ending.by_signal)
    try:
        yield ending
    finally:
        signal.signal(signal.SIGTERM, before)


def _what_was_found(found: Found) -> Iterator[str]:
    yield f"{found.base.base}"
    yield f"  test data:  {found.why_test_data}"
    yield f"  software:   {found.software}"
    if found.smart is None:
        yield "  sign-in:    none"
    else:
        elsewhere = f", also at {listed(found.smart.hosts)}" if found.smart.hosts else ""
        kind = "SMART Health IT launcher" if found.launcher is not None else "SMART App Launch"
        yield f"  sign-in:    {kind}{elsewhere}"
    missing = [name for name in READ if found.types and not found.types.get(name, set()) & {"search-type"}]
    if missing:
        yield f"  not there:  {listed(missing)} cannot be searched, as it declares"
    if found.types and "create" not in found.types.get("ChargeItem", set()):
        yield "  charges:    it declares no ChargeItem create: what is accepted is told as a worksheet"
    else:
        yield "  charges:    ChargeItem"
    yield ""


def _what_to_do(found: Found, plan: Plan, issuer: Issuer, options: argparse.Namespace) -> Iterator[str]:
    if not is_loopback(found.base):
        yield f"  WARNING: what you accept is written to {found.base.origin}, which is not this machine."
        yield ""
    if found.smart is None:
        if plan.user is None:
            yield "  The server lists no Practitioner: you can look, and accept nothing (--user, or seed it)."
        else:
            yield f"  You act as {plan.user}, in the role {plan.role}."
        return
    if found.launcher is not None:
        yield f"  Open    {found.launcher.link(plan.url, found.patient, found.user)}"
        yield "          It is what the launcher's own button opens; nothing needs to be registered."
        return
    yield from _registration(plan, issuer, options)


def _registration(plan: Plan, issuer: Issuer, options: argparse.Namespace) -> Iterator[str]:
    made = sheet(
        issuer,
        FEATURES,
        launch_url=f"{plan.url}/launch",
        redirect_uri=plan.url + issuer.redirect_path,
        jwks_url="",
        retention_years=0,
        session_hours=0,
    )
    yield "  Register there"
    yield f"    launch URL:     {made.launch_url}"
    yield f"    redirect URI:   {made.redirect_uri}"
    yield f"    client type:    {made.client_type}, {made.client_auth}; PKCE {made.pkce}"
    yield f"    scopes, v2:     {made.scope_v2}"
    yield f"    scopes, v1:     {made.scope_v1}"
    if not options.client_id:
        yield f"    client id:      {issuer.client_id} is sent; if it gives you another, use --client-id"
    yield ""
    yield "  Open the app from a chart there, or sign in from here:"
    yield f"          {plan.url}/launch?{urlencode({'iss': issuer.fhir_base})}"


def _serve(server: TestingServer, plan: Plan, ending: _Ending) -> None:
    """Until it is stopped. On a terminal Enter prints another start link."""
    asks = not plan.signs_in
    while asks:
        print(f"\n  Open    {server.start_link()}\n          It is good once.", flush=True)
        asks = sys.stdin.isatty()
        if asks:
            print("          Enter prints another one; Ctrl-C stops.", flush=True)
            asks = bool(sys.stdin.readline())
    while not ending.come:
        time.sleep(0.5)
