"""What a table says of a coding: the rows of the shipped tables and of a site's file, in the same words."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from fhir_mappings.terminology.systems import Key, coding_name, key_of
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
        return coding_name(self)


class ObservationEntry(CodeEntry, frozen=True, forbid_unknown_fields=True, kw_only=True):
    line: Line
    source: Source | None = None
    counts_without_value: bool = False
    """An app's completion event: that it was sent is what it says (D21)."""
    continuous_glucose: bool = False
    """A reading of a sensor that measures glucose all day, which has codes of its own (D41)."""


class IdentifierEntry(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    system: str
    value: str


class DeviceKeys(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A Device by its type's coding, or by what home devices carry instead of one (D25). Where an entry says
    several things, all of them must fit."""

    system: str | None = None
    code: str | None = None
    manufacturer: str | None = None
    model: str | None = None
    """Device.modelNumber, or one of Device.deviceName."""
    type_text: str | None = None
    udi_di: str | None = None
    identifier: IdentifierEntry | None = None
    label: str = ""
    confirmed: str = ""

    def __post_init__(self) -> None:
        if (self.system is None) != (self.code is None):
            raise ValueError("devices: a coding has both system and code")
        if not any((self.code, self.manufacturer, self.model, self.type_text, self.udi_di, self.identifier)):
            raise ValueError(
                "devices: give system and code, manufacturer, model, type_text, udi_di or identifier"
            )

    @property
    def key(self) -> Key | None:
        return key_of(self) if self.code is not None else None


class DeviceEntry(DeviceKeys, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a Device monitors."""

    line: Line
    continuous_glucose: bool = False
    """It measures glucose all day, which has codes of its own (D41)."""


class DeviceFact(DeviceKeys, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a site states once of its devices, in place of a statement for each patient (D39). Where readings
    name no device, a coding is that of the readings.

    `cleared`: the number of its clearance or listing; `supplied_by`: the practice hands it out.
    """

    cleared: str | None = None
    supplied_by: Literal["practice"] | None = None

    def __post_init__(self) -> None:
        DeviceKeys.__post_init__(self)
        if not (self.cleared or "").strip() and self.supplied_by is None:
            raise ValueError("device_facts: give cleared, supplied_by or both")


class NoMonitorEntry(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is no monitor, by its type's coding or, where it has none, by its type's text."""

    system: str | None = None
    code: str | None = None
    type_text: str | None = None
    label: str = ""
    confirmed: str = ""


class EncounterEntry(CodeEntry, frozen=True, forbid_unknown_fields=True, kw_only=True):
    activity: Activity
    program: Program = Program.ANY
    billed_elsewhere: bool = False


class PlaceEntry(CodeEntry, frozen=True, forbid_unknown_fields=True, kw_only=True):
    place: Place


class StaffEntry(CodeEntry, frozen=True, forbid_unknown_fields=True, kw_only=True):
    role: Role
    discipline: Discipline | None = None


class MarkEntry(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a reading says of itself in its method, its category or an extension. An extension is known by its
    address and either a plain value or a coding."""

    method: CodeEntry | None = None
    category: CodeEntry | None = None
    extension: str | None = None
    value: bool | int | float | str | None = None
    coding: CodeEntry | None = None
    label: str = ""
    confirmed: str = ""

    def __post_init__(self) -> None:
        places = (self.method, self.category, self.extension)
        if sum(place is not None for place in places) != 1:
            raise ValueError("give one of method, category and extension")
        says = (self.value is not None) + (self.coding is not None)
        if says != (self.extension is not None):
            raise ValueError("an extension is given with either its value or its coding, nothing else is")


class SenderEntry(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An organisation that only forwards what devices and patients send (D23)."""

    reference: str
    label: str = ""


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
    manual_entry: tuple[MarkEntry, ...] = ()
    """How readings say that they were typed in (D24)."""
    facility_settings: tuple[MarkEntry, ...] = ()
    """How readings say that they were taken in a facility (D23)."""
    absent_values: tuple[CodeEntry, ...] = ()
    """Coded values that say that there is none (D21)."""
    senders: tuple[SenderEntry, ...] = ()
    device_facts: tuple[DeviceFact, ...] = ()
    """`device_facts` of the site's file."""
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
