"""What is particular to the site: its time zone, its payer, its own codings. Read once, at start."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from msgspec.structs import replace

from fhir_mappings.rules.policy import Policies, Policy
from fhir_mappings.terminology import Terminology, load_terminology
from fhir_mappings.vocabulary import Role
from launch.issuers import Issuer
from smartapp.configuration.cds_hooks import CdsSettings
from smartapp.configuration.fees import FeeTable
from smartapp.configuration.handover import HandoverSettings
from smartapp.configuration.settings import ConfigurationError, Mode, Settings
from smartapp.configuration.site_file import Permissions, SiteFile, SiteFileError, UserRole, read_site_file
from smartapp.configuration.worklist import WorklistSettings


@dataclass(frozen=True)
class Site:
    """The rules and codings that apply here, the zone in which days begin and end, and who may do what."""

    zone: ZoneInfo
    terminology: Terminology
    policies: Policies
    permissions: Permissions = field(default_factory=Permissions)
    users: tuple[UserRole, ...] = ()
    second_approval: bool = False
    lock_certified_months: bool = False
    write_back_encounters: bool = False
    handover: HandoverSettings = field(default_factory=HandoverSettings)
    worklist: WorklistSettings = field(default_factory=WorklistSettings)
    cds_hooks: CdsSettings = field(default_factory=CdsSettings)

    fees: FeeTable = field(default_factory=FeeTable)
    declared: SiteFile = field(default_factory=SiteFile)
    """What the rules and codings were made from, with the settings that override it."""

    @property
    def policy(self) -> Policy:
        """The rules where a chart names no payer."""
        return self.policies.default

    def today(self, now: datetime) -> date:
        return now.astimezone(self.zone).date()

    def role_of(self, issuer_id: str, user: str | None) -> Role | None:
        """The role the site's file gives somebody; None where it does not name them."""
        return next(
            (entry.role for entry in self.users if entry.user == user and entry.issuer in (None, issuer_id)),
            None,
        )

    def check_users(self, issuers: Iterable[Issuer]) -> None:
        """Raises ConfigurationError where what is said for an EHR does not say for which.

        One and the same "Practitioner/7" is somebody else in another EHR, and in each practice of a `*`.
        """
        many = {issuer.id: issuer.many for issuer in issuers}
        try:
            self.handover.check(many)
            self.worklist.check(many)
            self.cds_hooks.check(many)
        except ValueError as fault:
            raise ConfigurationError(f"The site file: {fault}.") from None
        issuer_ids = many.keys()
        for entry in self.users:
            wide = next((name for name in many if many[name] and entry.issuer in (None, name)), None)
            if wide is not None:
                raise ConfigurationError(
                    f"The site file gives {entry.user} a role in {wide}, which stands for many practices: "
                    "give the practice an entry of its own in the issuers file, and name that."
                )
            if entry.issuer is None and len(issuer_ids) > 1:
                raise ConfigurationError(
                    f"The site file gives {entry.user} a role, and several EHRs are registered: say in which "
                    f"with `issuer` ({', '.join(sorted(issuer_ids))})."
                )
            if entry.issuer is not None and entry.issuer not in issuer_ids:
                raise ConfigurationError(
                    f"The site file gives {entry.user} a role in {entry.issuer}, which is no registered EHR."
                )


def load_site(settings: Settings) -> Site:
    """The site of these settings. Raises ConfigurationError with one plain line."""
    return read_site(
        settings.site_file,
        settings.timezone,
        settings.payer,
        reads_test_data=settings.mode is Mode.CONNECT,
    )


def read_site(
    path: Path | None, timezone: str | None, payer: str | None, *, reads_test_data: bool = False
) -> Site:
    """The site of its file, with the settings that override it. Raises ConfigurationError with one line.
    `reads_test_data`: see `Terminology`."""
    try:
        entries = SiteFile() if path is None else read_site_file(path)
        zone = timezone or entries.timezone
        if not zone:
            raise ConfigurationError("No time zone: set SMARTAPP_TIMEZONE, or `timezone` in the site file.")
        return Site(
            zone=ZoneInfo(zone),
            terminology=load_terminology(entries.terminology, reads_test_data=reads_test_data),
            policies=entries.policies(payer),
            permissions=entries.permissions,
            users=entries.users,
            fees=FeeTable(entries.fees),
            declared=replace(entries, timezone=zone, payer=payer or entries.payer),
            second_approval=entries.second_approval,
            lock_certified_months=entries.lock_certified_months,
            write_back_encounters=entries.write_back_encounters,
            handover=HandoverSettings(entries.handover),
            worklist=WorklistSettings(entries.worklist, Path() if path is None else path.parent),
            cds_hooks=CdsSettings(entries.cds_hooks, Path() if path is None else path.parent),
        )
    except (SiteFileError, ZoneInfoNotFoundError, ValueError) as error:
        raise ConfigurationError(f"The site's configuration cannot be used: {error}") from None
