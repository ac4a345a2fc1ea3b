"""Settings: read once, frozen, production unless code says otherwise.

`SETTINGS` is the one list of what a site may set. It is the configuration, the help text and what the test of
`docs/settings.md` compares with. Every setting comes from an environment variable `SMARTAPP_<NAME>`.

Neither the mode nor the clock is a setting: an environment variable can never turn a production server into a
demo, nor tell it another day than today. Only `smartapp demo`, `smartapp connect` and the tests build
`Settings` with another mode and, with that, another clock, in code.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cryptography.fernet import Fernet

LOOPBACK = "loopback"
"""Who may read `/metrics`: whoever asks from this machine."""
_SAYS_WHAT_IT_TAKES = frozenset({"keys", "base_url", "metrics"})
"""Settings whose fault says what they take; of the others the kind is plain."""


class ConfigurationError(Exception):
    """The app must not start like this. Says which setting, and never repeats a secret's value."""


class Mode(Enum):
    """What kind of server this is."""

    PRODUCTION = "production"
    DEMO = "demo"
    """Started by `smartapp demo`: synthetic patients, loopback only, DEMO on every page."""
    TEST = "test"
    CONNECT = "connect"
    """Started by `smartapp connect`: one server with test data, TEST on every page."""


@dataclass(frozen=True)
class Setting:
    """One documented setting. Without a `default` (a text) production refuses to start unless it is set."""

    name: str
    default: str | None
    parse: Callable[[str], Any]
    meaning: str

    @property
    def variable(self) -> str:
        return "SMARTAPP_" + self.name.upper()


def _whole_number(text: str) -> int:
    number = int(text)
    if number < 0:
        raise ValueError("a number from 0")
    return number


def _positive_number(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError("a number from 1")
    return number


def _optional_path(text: str) -> Path | None:
    return Path(text) if text else None


def _optional_text(text: str) -> str | None:
    return text or None


def _keys(text: str) -> tuple[bytes, ...]:
    keys = tuple(part.strip().encode() for part in text.split(",") if part.strip())
    if not keys:
        raise ValueError("at least one key")
    for key in keys:
        try:
            Fernet(key)
        except ValueError:
            raise ValueError("url-safe base64 keys of 32 bytes, separated by commas") from None
    return keys


def _metrics(text: str) -> str | None:
    if text in {"", LOOPBACK}:
        return text or None
    if re.fullmatch(r"[A-Za-z0-9._~+/=-]{20,}", text) is None:
        raise ValueError("`loopback`, or a token of at least 20 letters, digits and ._~+/=-")
    return text


def _base_url(text: str) -> str:
    url = urlsplit(text)
    odd = url.query or url.fragment or url.username or url.path.strip("/")  # cookies are the whole host's
    if url.scheme not in {"https", "http"} or not url.hostname or odd:
        raise ValueError("an address like https://remote-monitoring.example.org")
    return text.rstrip("/")


SETTINGS: tuple[Setting, ...] = (
    Setting(
        "keys",
        None,
        _keys,
        "Encryption keys, comma-separated: the first one encrypts, all of them decrypt. "
        "`smartapp keys encryption --new` makes one; a rotation takes two steps.",
    ),
    Setting(
        "base_url",
        None,
        _base_url,
        "The address under which browsers reach the app, https. Launch and redirect URIs are built from it, "
        "never from the request.",
    ),
    Setting("issuers_file", None, Path, "TOML file of the EHRs that may launch the app."),
    Setting(
        "database_url",
        "sqlite:///smartapp.sqlite3",
        str,
        "SQLAlchemy address of the database: SQLite, or PostgreSQL as `postgresql+psycopg://...`.",
    ),
    Setting(
        "site_file",
        "",
        _optional_path,
        "The site's YAML file: timezone, payer, terminology of its own. The same file as `evaluate --site`.",
    ),
    Setting("timezone", "", _optional_text, "The site's time zone (IANA name); overrides the site file's."),
    Setting("payer", "", _optional_text, "The payer whose rules apply; overrides the site file's."),
    Setting(
        "history_months",
        "13",
        _positive_number,
        "How far back to read where neither a charge nor an enrolment says where to begin, in months.",
    ),
    Setting(
        "page_limit", "400", _positive_number, "How many pages one search may have before it is cut off."
    ),
    Setting(
        "read_limit_mb", "256", _positive_number, "How much one read may receive before it is cut off, in MB."
    ),
    Setting(
        "read_minutes",
        "10",
        _positive_number,
        "How long one reading of a chart may take, in minutes. What takes longer ends without a decision.",
    ),
    Setting(
        "snapshot_minutes",
        "15",
        _whole_number,
        "How old a reading may be when the form of a charge is opened, in minutes; an older one is brought "
        "up to date first. Before anything is written the chart is looked at again in any case.",
    ),
    Setting(
        "session_idle_minutes", "30", _positive_number, "A session ends after this long without a request."
    ),
    Setting("session_hours", "8", _positive_number, "A session ends after this long whatever happens."),
    Setting(
        "job_lease_seconds",
        "20",
        _positive_number,
        "A reading job whose process has not been heard of for this long is taken over by another.",
    ),
    Setting(
        "retention_years",
        "10",
        _positive_number,
        "How long what is kept of patients stays, in years: charges with their evidence packets from their "
        "service date; logged time, statements, months, enrolments and what audit entries say from their "
        "day. `smartapp purge` removes what is older.",
    ),
    Setting(
        "signing_keys",
        "",
        _optional_path,
        "Folder of the signing keys that `smartapp keys` makes: for EHRs where the app proves itself with a "
        "signed assertion, and for audit exports.",
    ),
    Setting(
        "trusted_proxies",
        "0",
        _whole_number,
        "How many reverse proxies in front of the app set X-Forwarded-For and X-Forwarded-Proto.",
    ),
    Setting(
        "arrivals_per_minute",
        "300",
        _positive_number,
        "How many requests of people who are not signed in are answered within a minute for one address "
        "(IPv6: one /64), ten times as many for all together: of launches (each is two), callbacks, "
        "`jwks.json`, and of everything else, each counted apart and by each process. Who is signed in is "
        "never refused.",
    ),
    Setting(
        "metrics",
        "",
        _metrics,
        "Who may read `/metrics`: whoever sends this token (`Authorization: Bearer ...`), or `loopback` for "
        "whoever asks from this machine, not through the proxy. Without it nothing is counted.",
    ),
)


def read_setting(setting: Setting, environ: Mapping[str, str] | None = None) -> Any:
    """One setting's value. Raises ConfigurationError with one line that never repeats what was given."""
    given = (os.environ if environ is None else environ).get(setting.variable, "").strip()
    text = given or setting.default
    if text is None:
        raise ConfigurationError(f"{setting.variable} is missing: {setting.meaning}")
    try:
        return setting.parse(text)
    except ValueError as error:
        wanted = str(error) if setting.name in _SAYS_WHAT_IT_TAKES else "another kind of value"
        raise ConfigurationError(f"{setting.variable} is wrong: it takes {wanted}") from None


def setting(name: str) -> Setting:
    """The setting of that name."""
    return next(found for found in SETTINGS if found.name == name)


def unknown_settings(environ: Mapping[str, str]) -> list[str]:
    """Variables that look like settings and are none."""
    known = {found.variable for found in SETTINGS}
    return sorted(name for name in environ if name.startswith("SMARTAPP_") and name not in known)


@dataclass(frozen=True)
class Settings:
    """The app's configuration. One field a `SETTINGS` entry, the mode, and the clock of a demo or test."""

    keys: tuple[bytes, ...] = field(repr=False)
    base_url: str
    issuers_file: Path
    database_url: str = field(default="sqlite:///smartapp.sqlite3", repr=False)
    site_file: Path | None = None
    timezone: str | None = None
    payer: str | None = None
    history_months: int = 13
    page_limit: int = 400
    read_limit_mb: int = 256
    read_minutes: int = 10
    snapshot_minutes: int = 15
    session_idle_minutes: int = 30
    session_hours: int = 8
    job_lease_seconds: int = 20
    retention_years: int = 10
    signing_keys: Path | None = None
    trusted_proxies: int = 0
    arrivals_per_minute: int = 300
    metrics: str | None = field(default=None, repr=False)
    mode: Mode = Mode.PRODUCTION
    clock_ahead: timedelta = timedelta()
    """How far the clock of a demo or test runs ahead of the machine's."""

    def __post_init__(self) -> None:
        url = urlsplit(self.base_url)
        if self.mode is Mode.PRODUCTION and url.scheme != "https":
            raise ConfigurationError("SMARTAPP_BASE_URL must be an https address.")
        if self.mode is Mode.PRODUCTION and self.clock_ahead:
            raise ConfigurationError("In production the clock is the machine's.")
        if self.mode is not Mode.PRODUCTION and url.hostname not in {"127.0.0.1", "localhost", "::1"}:
            raise ConfigurationError(f"In {self.mode.value} mode the base URL must be a loopback address.")
        if not self.issuers_file.is_file():
            raise ConfigurationError(f"SMARTAPP_ISSUERS_FILE: there is no file {self.issuers_file}.")
        if self.site_file is not None and not self.site_file.is_file():
            raise ConfigurationError(f"SMARTAPP_SITE_FILE: there is no file {self.site_file}.")
        if self.signing_keys is not None and not self.signing_keys.is_dir():
            raise ConfigurationError(f"SMARTAPP_SIGNING_KEYS: there is no folder {self.signing_keys}.")

    @property
    def demo(self) -> bool:
        return self.mode is Mode.DEMO

    @property
    def session_idle(self) -> timedelta:
        return timedelta(minutes=self.session_idle_minutes)

    @property
    def session_lifetime(self) -> timedelta:
        return timedelta(hours=self.session_hours)

    @property
    def job_lease(self) -> timedelta:
        return timedelta(seconds=self.job_lease_seconds)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Production settings from `SMARTAPP_*` variables.

        Raises ConfigurationError naming every variable that is missing, wrong or unknown, all at once.
        """
        environ = os.environ if environ is None else environ
        values: dict[str, Any] = {}
        problems: list[str] = []
        for known in SETTINGS:
            try:
                values[known.name] = read_setting(known, environ)
            except ConfigurationError as error:
                problems.append(str(error))
        problems += [f"{name} is no setting" for name in unknown_settings(environ)]
        if problems:
            raise ConfigurationError(
                "The app does not start:\n" + "\n".join(f"- {line}" for line in problems)
            )
        return cls(**values)
