"""What is particular to the site: its time zone, its payer, its own codings. Read once, at start."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from fhir_mappings.rules.policy import Policy, load_policy
from fhir_mappings.terminology import Terminology, load_terminology
from smartapp.config import ConfigurationError, Settings
from smartapp.site_file import SiteFile, SiteFileError, read_site_file


@dataclass(frozen=True)
class Site:
    """The rules and codings that apply here, and the zone in which days begin and end."""

    zone: ZoneInfo
    terminology: Terminology
    policy: Policy

    def today(self, now: datetime) -> date:
        return now.astimezone(self.zone).date()


def load_site(settings: Settings) -> Site:
    """The site of these settings. Raises ConfigurationError with one plain line."""
    try:
        entries = SiteFile() if settings.site_file is None else read_site_file(settings.site_file)
        zone = settings.timezone or entries.timezone
        if not zone:
            raise ConfigurationError("No time zone: set SMARTAPP_TIMEZONE, or `timezone` in the site file.")
        return Site(
            zone=ZoneInfo(zone),
            terminology=load_terminology(entries.terminology),
            policy=load_policy(settings.payer or entries.payer, entries.settings),
        )
    except (SiteFileError, ZoneInfoNotFoundError, ValueError) as error:
        raise ConfigurationError(f"The site's configuration cannot be used: {error}") from None
