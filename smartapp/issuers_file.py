"""The issuers file: which EHRs may launch the app. The one reader of it, for the web app and the commands."""

from __future__ import annotations

import argparse
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from launch.errors import ConfigurationError as LaunchConfigurationError
from launch.errors import LaunchError
from launch.issuers import Issuer, Issuers, load_issuers
from launch.urls import UnsafeUrl, parse_base
from smartapp.commands.checks import Fault
from smartapp.config import ConfigurationError, read_setting, setting
from smartapp.signing_keys import filled_in


def read_issuers(
    path: Path,
    keys: Path | None,
    secrets: Mapping[str, str],
    *,
    now: datetime | None = None,
    loopback: bool = False,
) -> Issuers:
    """The EHRs of the file; `keys` is the folder that `"@keys"` refers to, `now` says which of them sign
    (default: the machine's time). Raises ConfigurationError."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8")).get("issuers", {})
        if not isinstance(table, dict):
            raise ConfigurationError("issuers is not a table")
        table, pems = filled_in(table, keys, now or datetime.now(UTC))
        issuers = load_issuers(table, {**secrets, **pems}, loopback=loopback)
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror or 'cannot be read'}") from None
    except (
        UnicodeDecodeError,
        tomllib.TOMLDecodeError,
        LaunchConfigurationError,
        ConfigurationError,
    ) as error:
        raise ConfigurationError(f"{path}: {error}") from None
    if len(issuers) == 0:
        raise ConfigurationError(f"{path} lists no EHR under [issuers.<name>].")
    return issuers


@dataclass(frozen=True)
class Registered:
    """One EHR as this app is, or will be, registered with it."""

    issuer: Issuer
    issuers: Issuers
    base_url: str
    """Our own address, without a trailing slash."""
    keys: Path | None
    site_file: Path | None
    loopback: bool

    @property
    def launch_url(self) -> str:
        return f"{self.base_url}/launch"

    @property
    def redirect_uri(self) -> str:
        return self.base_url + self.issuer.redirect_path

    @property
    def jwks_url(self) -> str:
        return f"{self.base_url}/.well-known/jwks.json"


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options by which a command finds its EHR."""
    parser.add_argument("iss", metavar="ISS", help="the EHR: its name in the issuers file, or its FHIR base")
    parser.add_argument("--issuers", metavar="FILE", type=Path, help="default: SMARTAPP_ISSUERS_FILE")
    parser.add_argument("--site", metavar="FILE", type=Path, help="default: SMARTAPP_SITE_FILE")
    parser.add_argument("--base-url", metavar="URL", help="our own address; default: SMARTAPP_BASE_URL")
    parser.add_argument(
        "--loopback", action="store_true", help="let the EHR be a sandbox on this machine, over plain http"
    )


def registered(options: argparse.Namespace, environ: Mapping[str, str] | None = None) -> Registered:
    """The EHR the options name. Raises Fault and ConfigurationError."""
    environ = os.environ if environ is None else environ
    given = {
        "SMARTAPP_ISSUERS_FILE": options.issuers,
        "SMARTAPP_SITE_FILE": options.site,
        "SMARTAPP_BASE_URL": options.base_url,
    }
    merged = {**environ, **{name: str(value) for name, value in given.items() if value}}
    base_url = str(read_setting(setting("base_url"), merged))
    if not base_url.startswith("https://") and not options.loopback:
        raise Fault("our own address must use https (--loopback for a sandbox on this machine)")
    keys = read_setting(setting("signing_keys"), merged)
    path = read_setting(setting("issuers_file"), merged)
    issuers = read_issuers(path, keys, environ, loopback=options.loopback)
    return Registered(
        issuer=_named(issuers, options.iss, path),
        issuers=issuers,
        base_url=base_url,
        keys=keys,
        site_file=read_setting(setting("site_file"), merged),
        loopback=options.loopback,
    )


def _named(issuers: Issuers, iss: str, path: Path) -> Issuer:
    """By name, else by FHIR base. A base with `*` needs a real one: there is nothing to ask else."""
    issuer = issuers.get(iss)
    if issuer is None:
        try:
            return issuers.match(iss)
        except LaunchError:
            known = ", ".join(sorted(found.id for found in issuers))
            raise Fault(f"{path} lists no such EHR; it lists: {known}") from None
    if "*" in issuer.fhir_base:
        raise Fault(f"{iss} stands for many FHIR bases (*): give the base of one of them")
    try:
        return issuers.match(parse_base(issuer.fhir_base).base)
    except (LaunchError, UnsafeUrl):
        return issuer
