"""Which codings mean what.

The shipped tables (`*.yaml` beside this file) know widespread codings; a site adds or overrides entries in
its own file, in the same words. A site's entry always wins over a shipped one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any, Literal, TypeVar

import msgspec
import yaml
from msgspec import Struct

from fhir_mappings.resources import Coding
from fhir_mappings.vocabulary import UNKNOWN_PAYER, Activity, Line, Program, Role, Source

CPT = "http://www.ama-assn.org/go/cpt"
ACT_CODE = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
OWN_ACTIVITY = "urn:smart-remote-monitoring:activity"
"""Our own coding of what was logged in this app: it names the program, as a site's coding does."""
OWN_ROLE = "urn:smart-remote-monitoring:role"

Discipline = Literal["physical", "occupational", "speech"]
Key = tuple[str | None, str | None]


class _Entry(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    system: str
    code: str
    label: str = ""
    confirmed: str = ""

    @property
    def key(self) -> Key:
        return (self.system, self.code)


class ObservationEntry(_Entry, frozen=True, forbid_unknown_fields=True, kw_only=True):
    line: Line
    source: Source | None = None


class DeviceEntry(_Entry, frozen=True, forbid_unknown_fields=True, kw_only=True):
    line: Line


class EncounterEntry(_Entry, frozen=True, forbid_unknown_fields=True, kw_only=True):
    activity: Activity
    program: Program = Program.ANY
    billed_elsewhere: bool = False


class StaffEntry(_Entry, frozen=True, forbid_unknown_fields=True, kw_only=True):
    role: Role
    discipline: Discipline | None = None


class CodeEntry(_Entry, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A coding that only needs to be known, such as one of a phone app."""


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


class _Observations(Struct, forbid_unknown_fields=True):
    observations: list[ObservationEntry] = []
    not_measurements: list[CodeEntry] = []
    manual_methods: list[CodeEntry] = []


class _Devices(Struct, forbid_unknown_fields=True):
    devices: list[DeviceEntry] = []
    apps: list[CodeEntry] = []
    gateways: list[CodeEntry] = []


class _Encounters(Struct, forbid_unknown_fields=True):
    types: list[EncounterEntry] = []
    classes: list[EncounterEntry] = []
    facility_classes: list[CodeEntry] = []


class _Staff(Struct, forbid_unknown_fields=True):
    staff: list[StaffEntry] = []


class ObservationMeaning(Struct, frozen=True, gc=False):
    line: Line
    source: Source | None
    by_site: bool
    key: str
    measurement: bool = True


class EncounterMeaning(Struct, frozen=True, gc=False):
    activity: Activity
    program: Program
    by_site: bool
    billed_elsewhere: bool = False


class StaffMeaning(Struct, frozen=True, gc=False):
    role: Role
    discipline: str | None


# Where several codings of one Encounter say different things, the one that bills least is believed.
_CAUTION = {
    Activity.VISIT: 1,
    Activity.IN_PERSON: 2,
    Activity.ADMINISTRATIVE: 3,
    Activity.SETUP_EDUCATION: 4,
    Activity.MESSAGE: 5,
    Activity.VIRTUAL: 6,
    Activity.DATA_REVIEW: 7,
    Activity.PHONE_CALL: 8,
    Activity.VIDEO_CALL: 9,
}


class Terminology:
    """Look-ups from codings to meanings. Built once, shared, never changed afterwards."""

    def __init__(self, site: SiteTerminology | None = None) -> None:
        site = site or SiteTerminology()
        observations = _shipped("observations", _Observations)
        devices = _shipped("devices", _Devices)
        encounters = _shipped("encounters", _Encounters)
        staff = _shipped("staff", _Staff)

        self.observations: dict[Key, ObservationMeaning] = {
            entry.key: ObservationMeaning(entry.line, entry.source, by_site, _name(entry))
            for by_site, entries in ((False, observations.observations), (True, site.observations))
            for entry in entries
        }
        declared = {entry.key for entry in site.observations}
        self.observations |= {
            entry.key: ObservationMeaning(Line.OTHER, None, False, _name(entry), measurement=False)
            for entry in observations.not_measurements
            if entry.key not in declared
        }
        self._manual_methods = {entry.key for entry in observations.manual_methods}
        self._devices = {entry.key: entry.line for entry in (*devices.devices, *site.devices)}
        site_devices = {entry.key for entry in site.devices}
        self._carriers = {entry.key for entry in (*devices.apps, *devices.gateways)} - site_devices
        self._encounters = {
            entry.key: EncounterMeaning(
                entry.activity,
                entry.program,
                by_site or entry.system == OWN_ACTIVITY,
                entry.billed_elsewhere,
            )
            for by_site, entries in (
                (False, (*encounters.types, *encounters.classes)),
                (True, site.encounters),
            )
            for entry in entries
        }
        self._facility = {entry.key for entry in encounters.facility_classes}
        self._facility_codes = {
            entry.code for entry in encounters.facility_classes if entry.system == ACT_CODE
        }
        self._payers_by_coding: dict[Key, str] = {
            (entry.system, entry.code): entry.payer for entry in site.coverages if entry.code is not None
        }
        self._payers_by_reference = {
            entry.reference: entry.payer for entry in site.coverages if entry.reference is not None
        }
        self._staff = {
            entry.key: StaffMeaning(entry.role, entry.discipline) for entry in (*staff.staff, *site.staff)
        }

    def observation(self, codings: Sequence[Coding] | None) -> ObservationMeaning | None:
        """What these codings monitor. A coding that says 'no measurement' outweighs the others; the site's
        coding outweighs a shipped one."""
        if codings is None:
            return None
        if len(codings) == 1:
            coding = codings[0]
            return self.observations.get((coding.system, coding.code))
        best: ObservationMeaning | None = None
        for coding in codings:
            found = self.observations.get((coding.system, coding.code))
            if found is None:
                continue
            if not found.measurement:
                return found
            if best is None or (found.by_site and not best.by_site):
                best = found
        return best

    def is_manual(self, codings: Iterable[Coding]) -> bool:
        """Does an Observation.method say that a person typed the value in?"""
        return any((coding.system, coding.code) in self._manual_methods for coding in codings)

    def device(self, codings: Iterable[Coding]) -> tuple[Line, Coding] | None:
        """The line of a Device type, and the coding that says so."""
        for coding in codings:
            line = self._devices.get((coding.system, coding.code))
            if line is not None:
                return line, coding
        return None

    def is_carrier(self, codings: Iterable[Coding]) -> bool:
        """A phone app or a gateway: it passes readings on and measures nothing."""
        return any((coding.system, coding.code) in self._carriers for coding in codings)

    def encounter(self, types: Iterable[Coding], class_: Coding | None) -> EncounterMeaning | None:
        """What an Encounter was: by its type codings (the site's before the shipped ones), else its class."""
        found = [
            meaning
            for coding in types
            if (meaning := self._encounters.get((coding.system, coding.code))) is not None
        ]
        if class_ is not None and class_.code:
            by_class = self._encounters.get((class_.system, class_.code)) or (
                self._encounters.get((ACT_CODE, class_.code)) if not class_.system else None
            )
            # A class says least: it speaks where no type does, or where the site has given it a meaning.
            if by_class is not None and (not found or by_class.by_site):
                found.append(by_class)
        if not found:
            return None
        return min(
            found,
            key=lambda meaning: (
                not meaning.billed_elsewhere,
                not meaning.by_site,
                meaning.program is not Program.OTHER,
                _CAUTION[meaning.activity],
            ),
        )

    def is_facility(self, class_: Coding | None) -> bool:
        """Is a reading taken in an Encounter of this class taken in a facility (D6)?"""
        if class_ is None:
            return False
        return (class_.system, class_.code) in self._facility or (
            not class_.system and class_.code in self._facility_codes
        )

    def staff(self, codings: Iterable[Coding]) -> StaffMeaning | None:
        for coding in codings:
            found = self._staff.get((coding.system, coding.code))
            if found is not None:
                return found
        return None

    @property
    def knows_coverages(self) -> bool:
        """Did the site say which Coverage means which payer?"""
        return bool(self._payers_by_coding or self._payers_by_reference)

    def payer(self, types: Iterable[Coding], payors: Iterable[Coding | str]) -> str:
        """The payer of one Coverage: by its payor, else by its type; `unknown` where the site names none."""
        for known in (*payors, *types):
            found = (
                self._payers_by_reference.get(known)
                if isinstance(known, str)
                else self._payers_by_coding.get((known.system, known.code))
            )
            if found is not None:
                return found
        return UNKNOWN_PAYER

    def program_of(self, codings: Iterable[Coding]) -> Program | None:
        """The program that an order's codings speak of, where they do."""
        for coding in codings:
            encounter = self._encounters.get((coding.system, coding.code))
            if encounter is not None and encounter.program in (Program.RTM, Program.RPM):
                return encounter.program
            observation = self.observations.get((coding.system, coding.code))
            if observation is not None and observation.measurement:
                return observation.line.program
            line = self._devices.get((coding.system, coding.code))
            if line is not None:
                return line.program
        return None


def load_terminology(entries: Mapping[str, Any] | SiteTerminology | None = None) -> Terminology:
    """The shipped tables with a site's entries over them (the `terminology` of its site.yaml).

    Raises `ValueError` with one line that names the entry at fault.
    """
    if isinstance(entries, SiteTerminology):
        return Terminology(entries)
    if not entries:
        return _shipped_alone()
    try:
        return Terminology(msgspec.convert(entries, SiteTerminology))
    except msgspec.ValidationError as fault:
        raise ValueError(f"terminology: {fault}") from None


@cache
def _shipped_alone() -> Terminology:
    return Terminology()


def read_table(text: str) -> Any:
    """YAML, by the fast loader where libyaml is there."""
    return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - both are safe


def _name(entry: _Entry) -> str:
    return f"{entry.system}|{entry.code}"


_Table = TypeVar("_Table")


def _shipped(name: str, kind: type[_Table]) -> _Table:
    return msgspec.convert(_read_shipped(name), kind)


@cache
def _read_shipped(name: str) -> Any:
    table = files(__name__).joinpath(f"{name}.yaml")
    return read_table(table.read_text("utf-8")) if table.is_file() else {}
