"""site.yaml: what is particular to a site. The one reader of it, for the web app and the command line."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec
import yaml
from msgspec import Struct
from msgspec.structs import replace

from fhir_mappings.rules.editions import check_own_rules
from fhir_mappings.rules.policy import Policies
from fhir_mappings.rules.statements import SiteFacts
from fhir_mappings.rules.tables import (
    CodeRule,
    Confirmation,
    PayerRule,
    code_table,
    load_tables,
    with_code_tables,
)
from fhir_mappings.terminology import DeviceFact, SiteTerminology, read_table
from fhir_mappings.vocabulary import Role, Unverified
from smartapp.configuration.cds_hooks import CdsEntry
from smartapp.configuration.fees import Fee
from smartapp.configuration.handover import HandoverEntry
from smartapp.configuration.worklist import WorklistEntry

_Kind = TypeVar("_Kind")


class SiteFileError(ValueError):
    """The file can't be used; its text is one line for a person."""


BILLING_PROFESSIONALS = frozenset(
    {
        Role.PHYSICIAN,
        Role.QUALIFIED_PROFESSIONAL,
        Role.PHYSICAL_THERAPIST,
        Role.OCCUPATIONAL_THERAPIST,
        Role.SPEECH_LANGUAGE_PATHOLOGIST,
    }
)


class Permissions(Struct, frozen=True, forbid_unknown_fields=True):
    """Which roles may do what. Shipped: whoever may bill decides about charges, and whoever works on the
    patient's monitoring may log time."""

    log: frozenset[Role] = BILLING_PROFESSIONALS | {Role.THERAPIST_ASSISTANT, Role.CLINICAL_STAFF}
    accept: frozenset[Role] = BILLING_PROFESSIONALS
    resolve: frozenset[Role] = BILLING_PROFESSIONALS
    approve: frozenset[Role] = BILLING_PROFESSIONALS
    withdraw: frozenset[Role] = BILLING_PROFESSIONALS
    enter: frozenset[Role] = BILLING_PROFESSIONALS | {Role.NON_CLINICAL}
    bill: frozenset[Role] = frozenset()
    """Who sees a month of charges of all patients: nobody before the site says so, since a launch from one
    patient's chart opens no other one."""

    def __post_init__(self) -> None:
        named = (self.log, self.accept, self.resolve, self.approve, self.withdraw, self.enter, self.bill)
        if any(Role.UNKNOWN in roles for roles in named):
            raise ValueError("permissions: somebody whose role is unknown can only look")


class UserRole(Struct, frozen=True, forbid_unknown_fields=True):
    """The role of one person whom the EHR does not describe. `user`: the EHR's `fhirUser`, as
    `Practitioner/7`; `issuer`: the EHR's name in the issuers file, needed where there are several."""

    user: str
    role: Role
    issuer: str | None = None


class SiteFile(Struct, frozen=True, forbid_unknown_fields=True):
    """`settings` are named settings of the rules (fhir_mappings/rules/settings.yaml)."""

    timezone: str | None = None
    payer: str | None = None
    terminology: SiteTerminology = SiteTerminology()
    settings: Mapping[str, bool | int | str] = {}
    minutes_kept_in: Literal["ehr", "app"] | None = None
    """`app`: this site records no monitoring time in Encounters. The setting of the rules by that name."""
    continuous_glucose: Literal["rpm", "cgm"] | None = None
    """Which codes report a continuous glucose sensor here. The setting of the rules by that name."""
    device_facts: tuple[DeviceFact, ...] = ()
    """What is true of all devices of a kind: that they are cleared, that the practice supplies them."""
    staff_employed: bool | None = None
    rural_health_clinic: bool = False
    federally_qualified_health_center: bool = False
    ask_from: Mapping[Unverified, date] = {}
    """From which date of service on this site asks what a rule that is only proposed would ask."""
    payer_tables: tuple[str, ...] = ()
    """Files of the site's own payers, in the shape of fhir_mappings/rules/payers/, beside the site's file."""
    code_tables: tuple[str, ...] = ()
    """Files of codes, added to the shipped ones by date, in the shape of fhir_mappings/rules/codes/ or
    lists of it, beside the site's file."""
    code_rules: tuple[CodeRule, ...] = ()
    """What `code_tables` hold. Never written in the site's file itself."""
    rules_confirmed: tuple[Confirmation, ...] = ()
    """That the last tables still hold past their end, as an administrator confirmed it (docs/new-year.md)."""
    fee_table: str | None = None
    """A file of the site's own amounts (`Fee`), beside the site's file."""
    fees: tuple[Fee, ...] = ()
    """What `fee_table` holds. Never written in the site's file itself."""
    payer_rules: tuple[PayerRule, ...] = ()
    """What `payer_tables` hold. Never written in the site's file itself."""
    permissions: Permissions = Permissions()
    users: tuple[UserRole, ...] = ()
    second_approval: bool = False
    """A second person must approve an accepted charge before anything is written."""
    lock_certified_months: bool = False
    """A patient's month can be certified; nothing of a certified month is changed from here any more."""
    handover: tuple[HandoverEntry, ...] = ()
    """Ways for charges to leave that are turned on, by EHR."""
    worklist: tuple[WorklistEntry, ...] = ()
    """Whose last sweep makes a worklist, by EHR."""
    cds_hooks: tuple[CdsEntry, ...] = ()
    """Which EHRs may ask for cards about the patients of that sweep."""
    write_back_encounters: bool = False
    """Signed entries of the time log are written to the EHR as Encounters, where it lets this app do so."""

    def __post_init__(self) -> None:
        self.facts  # noqa: B018 - what it says must hold together
        named = [(entry.issuer, entry.user) for entry in self.users]
        if twice := next((user for issuer, user in named if named.count((issuer, user)) > 1), None):
            raise ValueError(f"users: {twice} is listed twice")

    @property
    def facts(self) -> SiteFacts:
        """What the site says of itself; `ValueError` with one line where that cannot be."""
        return SiteFacts(
            self.staff_employed,
            self.rural_health_clinic,
            self.federally_qualified_health_center,
            self.ask_from,
        )

    def policies(self, payer: str | None, *, always: bool = False) -> Policies:
        """The rules here. `payer`: in place of the file's own; `always`: whatever a chart says. Raises
        `ValueError` with one line."""
        return Policies(
            payer or self.payer,
            self.settings,
            self.payer_rules,
            confirmed=self.rules_confirmed,
            code_rules=self.code_rules,
            facts=self.facts,
            always=always,
        )


def read_site_file(path: Path) -> SiteFile:
    """Raises `SiteFileError` for a file that can't be read, isn't YAML, or has a key we don't know."""
    entries = _table(path)
    for key, file_key in _FROM_FILES:
        if isinstance(entries, dict) and key in entries:
            raise SiteFileError(f"{path}: {key} is no key of a site's file; name the file under {file_key}")
    site = _converted(entries or {}, SiteFile, path)
    fees = path.parent / site.fee_table if site.fee_table else None
    code_rules = tuple(rule for name in site.code_tables for rule in _codes(path.parent / name))
    payer_rules = tuple(_payer(path.parent / name) for name in site.payer_tables)
    try:
        check_own_rules(load_tables().codes, code_rules, payer_rules, site.rules_confirmed)
    except ValueError as fault:
        raise SiteFileError(f"{path}: {fault}") from None
    facts = {"minutes_kept_in": site.minutes_kept_in, "continuous_glucose": site.continuous_glucose}
    said = {key: value for key, value in facts.items() if value is not None}
    return replace(
        site,
        settings={**site.settings, **said},
        terminology=replace(
            site.terminology, device_facts=(*site.terminology.device_facts, *site.device_facts)
        ),
        code_rules=code_rules,
        payer_rules=payer_rules,
        fees=_converted(_table(fees) or [], tuple[Fee, ...], fees) if fees else (),
    )


_FROM_FILES = (("payer_rules", "payer_tables"), ("fees", "fee_table"), ("code_rules", "code_tables"))
"""What is read from files of their own, and the key that names them."""


def _codes(path: Path) -> tuple[CodeRule, ...]:
    try:
        return code_table(_table(path))
    except msgspec.ValidationError as fault:
        raise SiteFileError(f"{path}: {fault}") from None


def _payer(path: Path) -> PayerRule:
    try:
        return with_code_tables(
            _converted(_table(path), PayerRule, path), lambda name: _codes(path.parent / name)
        )
    except SiteFileError:
        raise
    except ValueError as fault:
        raise SiteFileError(f"{path}: {fault}") from None


def _table(path: Path) -> Any:
    try:
        return read_table(path.read_text("utf-8"))
    except OSError as fault:
        raise SiteFileError(f"{path}: {fault.strerror or 'cannot be read'}") from None
    except (UnicodeDecodeError, yaml.YAMLError):
        raise SiteFileError(f"{path}: not YAML") from None


def _converted(entries: Any, kind: type[_Kind], path: Path) -> _Kind:
    try:
        return msgspec.convert(entries, kind)
    except msgspec.ValidationError as fault:
        raise SiteFileError(f"{path}: {fault}") from None
