"""site.yaml: what is particular to a site. The one reader of it, for the web app and the command line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec
import yaml
from msgspec import Struct

from fhir_mappings.terminology import SiteTerminology, read_table


class SiteFileError(ValueError):
    """The file can't be used; its text is one line for a person."""


class SiteFile(Struct, frozen=True, forbid_unknown_fields=True):
    """`settings` are named settings of the rules (fhir_mappings/rules/settings.yaml)."""

    timezone: str | None = None
    payer: str | None = None
    terminology: SiteTerminology = SiteTerminology()
    settings: Mapping[str, bool | int | str] = {}


def read_site_file(path: Path) -> SiteFile:
    """Raises `SiteFileError` for a file that can't be read, isn't YAML, or has a key we don't know."""
    try:
        entries = read_table(path.read_text("utf-8"))
    except OSError as fault:
        raise SiteFileError(f"{path}: {fault.strerror or 'cannot be read'}") from None
    except (UnicodeDecodeError, yaml.YAMLError):
        raise SiteFileError(f"{path}: not YAML") from None
    try:
        return msgspec.convert(entries or {}, SiteFile)
    except msgspec.ValidationError as fault:
        raise SiteFileError(f"{path}: {fault}") from None
