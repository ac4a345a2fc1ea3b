"""The one EHR that a command is about, as this app is, or will be, registered with it."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from launch.errors import LaunchError
from launch.issuers import Issuer, Issuers
from launch.urls import UnsafeUrl, parse_base
from smartapp.commands.checks import Fault
from smartapp.configuration.issuers_file import read_issuers
from smartapp.configuration.settings import read_setting, setting


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
    add_ehr(parser)
    parser.add_argument("--site", metavar="FILE", type=Path, help="default: SMARTAPP_SITE_FILE")
    parser.add_argument("--base-url", metavar="URL", help="our own address; default: SMARTAPP_BASE_URL")


def add_ehr(parser: argparse.ArgumentParser) -> None:
    """The options that `ehr_of` needs."""
    parser.add_argument("iss", metavar="ISS", help="the EHR: its name in the issuers file, or its FHIR base")
    parser.add_argument("--issuers", metavar="FILE", type=Path, help="default: SMARTAPP_ISSUERS_FILE")
    parser.add_argument(
        "--loopback", action="store_true", help="let the EHR be a sandbox on this machine, over plain http"
    )


def registered(options: argparse.Namespace, environ: Mapping[str, str] | None = None) -> Registered:
    """The EHR the options name. Raises Fault and ConfigurationError."""
    environ = os.environ if environ is None else environ
    merged = _merged(options, environ)
    base_url = str(read_setting(setting("base_url"), merged))
    if not base_url.startswith("https://") and not options.loopback:
        raise Fault("our own address must use https (--loopback for a sandbox on this machine)")
    issuer, issuers = _listed(options, environ)
    return Registered(
        issuer=issuer,
        issuers=issuers,
        base_url=base_url,
        keys=read_setting(setting("signing_keys"), merged),
        site_file=read_setting(setting("site_file"), merged),
        loopback=options.loopback,
    )


def ehr_of(options: argparse.Namespace, environ: Mapping[str, str] | None = None) -> Issuer:
    """The EHR the options name, for a command to which our own address is nothing. Raises Fault and
    ConfigurationError."""
    return _listed(options, os.environ if environ is None else environ)[0]


def _merged(options: argparse.Namespace, environ: Mapping[str, str]) -> dict[str, str]:
    """The environment, and what the options say instead."""
    given = {
        "SMARTAPP_ISSUERS_FILE": options.issuers,
        "SMARTAPP_SITE_FILE": getattr(options, "site", None),
        "SMARTAPP_BASE_URL": getattr(options, "base_url", None),
    }
    return {**environ, **{name: str(value) for name, value in given.items() if value}}


def _listed(options: argparse.Namespace, environ: Mapping[str, str]) -> tuple[Issuer, Issuers]:
    merged = _merged(options, environ)
    path = read_setting(setting("issuers_file"), merged)
    keys = read_setting(setting("signing_keys"), merged)
    issuers = read_issuers(path, keys, environ, loopback=options.loopback)
    return _named(issuers, options.iss, path), issuers


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
