"""What a table says of a coding: the rows of the shipped tables and of a site's file, in the same words."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from fhir_mappings.terminology.systems import Key, key_of, name_of
from fhir_mappings.vocabulary import Activity, Line, Place, Program, Role, Source

Discipline = Literal["physical", "occupational", "speech"]


class CodeEntry(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A coding, and (in the shipped tables) our own label and where it was seen in use."""

    system: str
    code: str
    label: str = ""
    confirmed: str = ""

    @property
    def key(self) -> Key:
        return key_of(self)

    @property
    def name(self) -> str:
        return name_of(self)


class ObservationEntry(CodeEntry, frozen=True, forbid_unknown_fields=True, kw_only=True):
    line: Line
    source: Source | None = None


class DeviceEntry(CodeEntry, frozen=True, forbid_unknown_fields=True, kw_only=True):
    line: Line


class EncounterEntry(CodeEntry, frozen=True, forbid_unknown_fields=True, kw_only=True):
    activity: Activity
    program: Program = Program.ANY
    billed_elsewhere: bool = False


class PlaceEntry(CodeEntry, frozen=True, forbid_unknown_fields=True, kw_only=True):
    place: Place


class StaffEntry(CodeEntry, frozen=True, forbid_unknown_fields=True, kw_only=True):
    role: Role
    discipline: Discipline | None = None


class CoverageEntry(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which payer a Coverage means: by its type's coding or its payor's identifier (`system` and `code`), or
    by the reference to the payor."""

    payer: str
    system: str | None = None
    code: str | None = None
    reference: str | None = None
    label: str = ""

    def __post_init__(self) -> None:
        if (self.code is None) == (self.reference is None):
            raise ValueError("coverages: give either system and code, or reference")


class SiteTerminology(Struct, frozen=True, forbid_unknown_fields=True):
    """The `terminology` of a site.yaml."""

    observations: tuple[ObservationEntry, ...] = ()
    devices: tuple[DeviceEntry, ...] = ()
    encounters: tuple[EncounterEntry, ...] = ()
    staff: tuple[StaffEntry, ...] = ()
    coverages: tuple[CoverageEntry, ...] = ()
    facility_classes: tuple[CodeEntry, ...] = ()
    """The EHR's own Encounter classes under which a patient is admitted."""
    outpatient_classes: tuple[CodeEntry, ...] = ()
    """Those under which a patient comes and goes on one day."""

    def __post_init__(self) -> None:
        both = {entry.key for entry in self.facility_classes} & {
            entry.key for entry in self.outpatient_classes
        }
        if both:
            code = sorted(str(code) for _, code in both)[0]
            raise ValueError(f"{code} is listed under facility_classes and under outpatient_classes")
