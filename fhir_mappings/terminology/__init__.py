"""Which codings mean what.

The shipped tables (`*.yaml` beside this file) know widespread codings; a site adds or overrides entries in
its own file, in the same words. A site's entry always wins over a shipped one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import msgspec
from msgspec import Struct

from fhir_mappings.charge_numbers import Numbers, numbers_in
from fhir_mappings.resources import CodeableConcept, Coding, Device, Meta
from fhir_mappings.terminology.believable import Believable, BelievableValues
from fhir_mappings.terminology.devices import DeviceFacts, DeviceKind, DeviceMeaning, DeviceTypes
from fhir_mappings.terminology.entries import (
    CodeEntry,
    DeviceEntry,
    DeviceFact,
    Discipline,
    EncounterEntry,
    MarkEntry,
    NoMonitorEntry,
    ObservationEntry,
    PlaceEntry,
    SiteTerminology,
    StaffEntry,
)
from fhir_mappings.terminology.marks import Marks
from fhir_mappings.terminology.places import Classes, places
from fhir_mappings.terminology.shipped import read_table, shipped
from fhir_mappings.terminology.systems import ACT_CODE, CPT, HCPCS, Key, canonical, coding_name, key_of
from fhir_mappings.vocabulary import (
    DISCIPLINES,
    THERAPISTS,
    UNKNOWN_PAYER,
    Activity,
    Line,
    Place,
    Program,
    Role,
    Source,
)

__all__ = [
    "ACT_CODE",
    "CPT",
    "OWN_ACTIVITY",
    "OWN_ROLE",
    "Believable",
    "DeviceFact",
    "DeviceFacts",
    "DeviceKind",
    "DeviceMeaning",
    "Discipline",
    "EncounterMeaning",
    "ObservationMeaning",
    "SiteTerminology",
    "StaffMeaning",
    "Terminology",
    "canonical",
    "coding_name",
    "key_of",
    "load_terminology",
    "read_table",
]

OWN_ACTIVITY = "urn:smart-remote-monitoring:activity"
"""Our own coding of what was logged in this app: it names the program, as a site's coding does."""
OWN_ROLE = "urn:smart-remote-monitoring:role"


class _Observations(Struct, forbid_unknown_fields=True):
    observations: list[ObservationEntry] = []
    not_measurements: list[CodeEntry] = []
    circumstances: list[CodeEntry] = []
    circumstance_texts: list[str] = []
    absent_values: list[CodeEntry] = []
    absent_texts: list[str] = []


class _Marks(Struct, forbid_unknown_fields=True):
    manual_entry: list[MarkEntry] = []
    facility_settings: list[MarkEntry] = []


class _Devices(Struct, forbid_unknown_fields=True):
    devices: list[DeviceEntry] = []
    apps: list[CodeEntry] = []
    no_monitors: list[NoMonitorEntry] = []


class _Encounters(Struct, forbid_unknown_fields=True):
    types: list[EncounterEntry] = []
    classes: list[EncounterEntry] = []
    places: list[PlaceEntry] = []
    no_part: list[CodeEntry] = []


class _Staff(Struct, forbid_unknown_fields=True):
    staff: list[StaffEntry] = []


class ObservationMeaning(Struct, frozen=True, gc=False):
    line: Line
    source: Source | None
    by_site: bool
    key: str
    measurement: bool = True
    counts_without_value: bool = False
    continuous_glucose: bool = False


class EncounterMeaning(Struct, frozen=True, gc=False):
    activity: Activity
    program: Program
    by_site: bool
    billed_elsewhere: bool = False


class StaffMeaning(Struct, frozen=True, gc=False):
    role: Role
    discipline: str | None


def _holds(wide: StaffMeaning, other: StaffMeaning) -> bool:
    """Is whoever is the one always the other as well? A nurse practitioner is a nurse, a therapist was an
    assistant of the discipline."""
    if other.discipline not in (None, wide.discipline or DISCIPLINES.get(wide.role)):
        return False
    return other.role is wide.role or other.role in _HELD_BY.get(wide.role, ())


_HELD_BY: dict[Role, frozenset[Role]] = {
    Role.PHYSICIAN: frozenset({Role.QUALIFIED_PROFESSIONAL, Role.CLINICAL_STAFF, Role.NON_CLINICAL}),
    Role.QUALIFIED_PROFESSIONAL: frozenset({Role.CLINICAL_STAFF, Role.NON_CLINICAL}),
    Role.CLINICAL_STAFF: frozenset({Role.NON_CLINICAL}),
    Role.THERAPIST_ASSISTANT: frozenset({Role.NON_CLINICAL}),
    **dict.fromkeys(THERAPISTS, frozenset({Role.THERAPIST_ASSISTANT, Role.NON_CLINICAL})),
}

_NUMBERED = (CPT, HCPCS)
"""One numbering: HCPCS holds the numbers of CPT, and its address often stands for both (D32)."""
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

    def __init__(self, site: SiteTerminology | None = None, *, reads_test_data: bool = False) -> None:
        """`reads_test_data`: where everything is test data, HTEST sets nothing apart."""
        self.reads_test_data = reads_test_data
        site = site or SiteTerminology()
        observations = shipped("observations", _Observations)
        devices = shipped("devices", _Devices)
        encounters = shipped("encounters", _Encounters)
        staff = shipped("staff", _Staff)
        marks = shipped("marks", _Marks)

        self.observations: dict[Key, ObservationMeaning] = {
            entry.key: ObservationMeaning(
                entry.line,
                entry.source,
                by_site,
                entry.name,
                counts_without_value=entry.counts_without_value,
                continuous_glucose=entry.continuous_glucose,
            )
            for by_site, entries in ((False, observations.observations), (True, site.observations))
            for entry in entries
        }
        declared = {entry.key for entry in site.observations}
        self.observations |= {
            entry.key: ObservationMeaning(Line.OTHER, None, False, entry.name, measurement=False)
            for entry in observations.not_measurements
            if entry.key not in declared
        }
        self._circumstances = {entry.key for entry in observations.circumstances}
        self._circumstance_texts = frozenset(observations.circumstance_texts)
        self._absent = {entry.key for entry in (*observations.absent_values, *site.absent_values)}
        self._absent_texts = frozenset(text.lower() for text in observations.absent_texts)
        self._believable = BelievableValues()
        self.manual_entry = Marks((*marks.manual_entry, *site.manual_entry))
        """How a reading says that it was typed in by hand (D24)."""
        self.facility_settings = Marks((*marks.facility_settings, *site.facility_settings))
        """How a reading says that it was taken in a facility (D23)."""
        self.senders = frozenset(entry.reference for entry in site.senders)
        """References to organisations that only forward what devices and patients send (D23)."""
        self._devices = DeviceTypes(
            site.devices, devices.devices, devices.apps, devices.no_monitors, site.device_facts
        )
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
        self._services = {
            code: meaning
            for (system, code), meaning in self._encounters.items()
            if system in _NUMBERED and code is not None
        }
        self.services = Numbers(self._services)
        """The numbers of CPT and HCPCS by which an Encounter, or a charge, says what it was."""
        self._class_activities = Classes(
            {entry.key: self._encounters[entry.key] for entry in encounters.classes},
            {entry.key: self._encounters[entry.key] for entry in site.encounters},
        )
        self._places = places(encounters.places, site.facility_classes, site.outpatient_classes)
        self._no_part = {entry.key for entry in encounters.no_part}
        self._payers_by_coding: dict[Key, str] = {
            (canonical(entry.system), entry.code): entry.payer
            for entry in site.coverages
            if entry.code is not None
        }
        self._payers_by_reference = {
            entry.reference: entry.payer for entry in site.coverages if entry.reference is not None
        }
        self._staff = {
            entry.key: StaffMeaning(entry.role, entry.discipline) for entry in (*staff.staff, *site.staff)
        }

    def is_test_data(self, meta: Meta | None) -> bool:
        """Whether a record says that it is about nobody real (D30): a security label, or a tag as in HL7's
        examples, is `HTEST`."""
        if meta is None or self.reads_test_data:
            return False
        # Loops: `any` over a generator takes three times as long, and every reading is asked.
        for labels in (meta.security, meta.tag):
            if labels:
                for label in labels:
                    if label.code == "HTEST":
                        return True
        return False

    def observation(self, codings: Sequence[Coding] | None) -> ObservationMeaning | None:
        """What these codings monitor. A coding that says 'no measurement' outweighs the others; the site's
        coding outweighs a shipped one."""
        if codings is None:
            return None
        if len(codings) == 1:
            coding = codings[0]
            return self.observations.get(key_of(coding))
        best: ObservationMeaning | None = None
        for coding in codings:
            found = self.observations.get(key_of(coding))
            if found is None:
                continue
            if not found.measurement:
                return found
            if best is None or (found.by_site and not best.by_site):
                best = found
        return best

    def is_circumstance(self, concept: CodeableConcept) -> bool:
        """Does a component of this code only say how it was measured (D21)?"""
        keys = [key_of(coding) for coding in concept.coding or ()]
        if any(key in self._circumstances for key in keys):
            return True
        if any(key in self.observations for key in keys):
            return False
        texts = (concept.text, *(coding.display for coding in concept.coding or ()))
        return any(text.strip().lower() in self._circumstance_texts for text in texts if text)

    def is_absent(self, codings: Iterable[Coding]) -> bool:
        """Does a coded value say that there is none (D21)?"""
        return any(key_of(coding) in self._absent for coding in codings)

    def is_absent_text(self, text: str) -> bool:
        """The same of a text, whatever its case; strokes and dots alone are as good as blank."""
        plain = text.strip().lower()
        return not plain.strip("-\u2013\u2014_./?* ") or plain.replace("-", " ") in self._absent_texts

    def believable(self, codings: Iterable[Coding]) -> Believable | None:
        """What can be believed of a measurement of this code (D22); None where nothing is asked of it."""
        return self._believable.of(codings)

    def device(self, device: Device) -> DeviceMeaning:
        """What a Device is: a monitor of a line, an app, or nothing that measures (D23, D25)."""
        return self._devices.of(device)

    def device_facts(self, device: Device) -> DeviceFacts:
        """What the site states once of such Devices (D39)."""
        return self._devices.facts_of(device)

    def reading_facts(self, coding: str) -> DeviceFacts:
        """The same of readings that name no device, by the name of their own coding."""
        return self._devices.facts_of_readings(coding)

    def encounter(self, types: Iterable[Coding], *classes: Coding | None) -> EncounterMeaning | None:
        """What an Encounter was: by its type codings (the site's before the shipped ones), else its class."""
        found = [meaning for coding in types for meaning in self._meanings(coding)]
        by_class = [meaning for one in classes if (meaning := self._class_activities.of(one)) is not None]
        # A class says least: it speaks where no type does, or where the site has given it a meaning.
        found += [meaning for meaning in by_class if meaning.by_site or not found]
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

    def _meanings(self, coding: Coding) -> list[EncounterMeaning]:
        """Of a coding as it stands; else of the numbers in it, however CPT's or HCPCS's is written there."""
        found = self._encounters.get(key_of(coding))
        if found is not None:
            return [found]
        if coding.code is None or canonical(coding.system) not in (None, "", *_NUMBERED):
            return []
        return [self._services[number] for number in numbers_in(coding.code, self.services)]

    def service(self, number: str) -> EncounterMeaning:
        """What a service was, by one of the numbers of `services`."""
        return self._services[number]

    def takes_part(self, types: Sequence[Coding]) -> bool:
        """Whether somebody who is listed in an Encounter for this took part in what was done there (D35)."""
        return not types or any(key_of(one) not in self._no_part for one in types)

    def place(self, *classes: Coding | None) -> Place:
        """Where an Encounter of these classes places the patient (D26); of several, where least counts."""
        found = {place for one in classes if (place := self._places.of(one)) is not None}
        return next((place for place in Place if place in found), Place.UNKNOWN)

    def staff(self, codings: Iterable[Coding]) -> StaffMeaning | None:
        """What somebody works as of whom all this is said: of several the one that holds the others; None
        where none does, and nobody can tell."""
        found = {meaning for coding in codings if (meaning := self._staff.get(key_of(coding))) is not None}
        if len(found) < 2:
            return next(iter(found), None)
        # Of two that hold each other the one that names its discipline, always.
        by_detail = sorted(found, key=lambda meaning: (meaning.discipline is None, meaning.role))
        return next((wide for wide in by_detail if all(_holds(wide, other) for other in found)), None)

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
                else self._payers_by_coding.get(key_of(known))
            )
            if found is not None:
                return found
        return UNKNOWN_PAYER

    def program_of(self, codings: Iterable[Coding]) -> Program | None:
        """The program that an order's codings speak of, where they do. A reading's coding does where the site
        says so: those that are shipped are ordered in a clinic and of a laboratory as well."""
        for coding in codings:
            encounter = self._encounters.get(key_of(coding))
            if encounter is not None and encounter.program in (Program.RTM, Program.RPM):
                return encounter.program
            observation = self.observations.get(key_of(coding))
            if observation is not None and observation.measurement and observation.by_site:
                return observation.line.program
            line = self._devices.line_of(coding)
            if line is not None:
                return line.program
        return None


def load_terminology(
    entries: Mapping[str, Any] | SiteTerminology | None = None, *, reads_test_data: bool = False
) -> Terminology:
    """The shipped tables with a site's entries over them (the `terminology` of its site.yaml).
    `reads_test_data`: see `Terminology`.

    Raises `ValueError` with one line that names the entry at fault.
    """
    if isinstance(entries, SiteTerminology):
        return Terminology(entries, reads_test_data=reads_test_data)
    if not entries and not reads_test_data:
        return _shipped_alone()
    try:
        return Terminology(msgspec.convert(entries or {}, SiteTerminology), reads_test_data=reads_test_data)
    except msgspec.ValidationError as fault:
        raise ValueError(f"terminology: {fault}") from None


@cache
def _shipped_alone() -> Terminology:
    return Terminology()
