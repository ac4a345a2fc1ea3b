"""The issuers file: which EHRs may launch the app. The one reader of it, for the web app and the commands."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from launch.errors import ConfigurationError as LaunchConfigurationError
from launch.issuers import Issuers
from launch.issuers_table import load_issuers
from smartapp.configuration.settings import ConfigurationError
from smartapp.configuration.signing_keys import filled_in


def read_issuers(
    path: Path,
    keys: Path | None,
    secrets: Mapping[str, str],
    *,
    now: datetime | None = None,
    loopback: bool = False,
    plain_http: bool = False,
) -> Issuers:
    """The EHRs of the file; `keys` is the folder that `"@keys"` refers to, `now` says which of them sign
    (default: the machine's time). Raises ConfigurationError."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        table, profiles = content.get("issuers", {}), content.get("profiles", {})
        if not isinstance(table, dict) or not isinstance(profiles, dict):
            raise ConfigurationError("issuers or profiles is not a table")
        table, pems = filled_in(table, keys, now or datetime.now(UTC))
        issuers = load_issuers(
            table, {**secrets, **pems}, profiles=profiles, loopback=loopback, plain_http=plain_http
        )
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
