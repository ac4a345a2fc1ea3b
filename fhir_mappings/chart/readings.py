"""Measurements -> readings that count, readings in doubt, and what was left out and why (D5 to D8, D18)."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from datetime import date
from enum import Enum
from itertools import compress
from operator import attrgetter, eq

import msgspec
from msgspec import Struct

from fhir_mappings import resources as fhir
from fhir_mappings.chart.duplicates import Groups, replaced, sent_again
from fhir_mappings.chart.intake import Intake
from fhir_mappings.chart.subjects import SubjectIntake
from fhir_mappings.device import KnownDevice, read_device
from fhir_mappings.encounter import EncounterFacts, presences_of
from fhir_mappings.identity import kind_said, pointer
from fhir_mappings.local_time import LocalClock, Moment
from fhir_mappings.observation import LeftOut, Measurement, Origin
from fhir_mappings.places import Presence, Where, by_name, places_by_time
from fhir_mappings.record import CODES_OPEN, NOT_SAID, About, Excluded, Reading
from fhir_mappings.terminology import DeviceKind, Terminology
from fhir_mappings.vocabulary import ExcludedReason, Line, Source, Unverified

_DOUBTS = frozenset(
    {
        ExcludedReason.DEVICE_UNKNOWN,
        ExcludedReason.SOURCE_CONFLICT,
        ExcludedReason.LINE_CONFLICT,
        ExcludedReason.IN_FACILITY_UNCLEAR,
        ExcludedReason.IMPLAUSIBLE_VALUE,
    }
)
# Until Python 3.12 naming a member of an enum takes long, and this is asked of every reading.
_HOME, _UNVERIFIED, _UNCLEAR, _IN_FACILITY = Where
_PEOPLE = frozenset({"Patient", "RelatedPerson"})
_SOMEBODY = _PEOPLE | {"Group"}
_STAFF = frozenset({"Practitioner", "PractitionerRole"})
_ORGANISATIONS = frozenset({"Organization", "CareTeam", "HealthcareService"})
_PERFORMERS = _PEOPLE | _STAFF | _ORGANISATIONS


class _By(Enum):
    """Who a reading says that it is from, beside its device."""

    NOBODY = "nobody"
    """Nobody is named, or only who forwards readings (`senders`)."""
    PATIENT = "patient"
    STAFF = "staff"
    ORGANISATION = "organisation"
    SOMEBODY = "somebody"
    """Whom nobody can place."""


class Mapped(Struct, frozen=True, gc=False):
    """One patient's readings, sorted by time; those left out in doubt; and all that was left out."""

    readings: tuple[Reading, ...]
    doubtful: tuple[Reading, ...]
    excluded: tuple[Excluded, ...]


class _Verdict(Struct, frozen=True, gc=False):
    """How a reading counts: by which series of days, or why not, and what that is about.

    Without a series it is one of its own: two devices that nobody knows are never one.
    """

    series: str = ""
    reason: ExcludedReason | None = None
    about: About = NOT_SAID
    other_line: Line | None = None
    unverified: frozenset[Unverified] = frozenset(
        {Unverified.FDA_DEVICE, Unverified.DEVICE_SUPPLIED_BY_PRACTICE}
    )
    unresolved: bool = False
    synonyms: tuple[str, ...] = ()
    """Other names of its series: those that the same type of device has by another coding."""


class ReadingMapper:
    """Where readings come from, and which of them count. One for all patients of an intake."""

    def __init__(self, intake: Intake, terminology: Terminology, clock: LocalClock, as_of: date) -> None:
        self._intake = intake
        self._references = intake.references
        self._terminology = terminology
        self._clock = clock
        self._as_of = as_of
        self._senders = {intake.references.short(reference) for reference in terminology.senders}
        self._devices = {
            name: known
            for name, device in intake.everywhere(fhir.Device).items()
            if (known := read_device(device, name, terminology, intake.references)) is not None
        }
        self._metrics = {
            name: intake.references.name(metric.source, "Device")
            for name, metric in intake.everywhere(fhir.DeviceMetric).items()
        }

    def map(self, patient: str, facts: Mapping[str, EncounterFacts], death: Moment | None) -> Mapped:
        """`facts`: of the patient's Encounters, for what was measured in a facility. `death`: when known."""
        candidates, excluded = self._candidates(patient, death)
        by_time = places_by_time((one for fact in facts.values() for one in fact.presences), self._clock)
        with_place: dict[frozenset[Unverified], frozenset[Unverified]] = {}
        verdicts: dict[Origin, _Verdict] = {}
        subjects = self._intake.subjects(patient)
        repeats_identifiers = len(subjects) > 1 or any(one.repeats_identifiers for one in subjects)
        again = sent_again(candidates, self._clock) if repeats_identifiers else frozenset()
        if any(one.replaces_some for one in subjects):
            again |= replaced(candidates, self._references)
        before: Measurement | None = None
        last_instant: int | None = None
        alike: set[tuple[str, str | None, int, bool]] = set()
        readings: list[Reading] = []
        doubtful: list[Reading] = []
        synonyms: dict[str, tuple[str, ...]] = {}
        for found in candidates:
            name, instant, origin = found.resource, found.instant, found.origin
            if name in again:
                excluded.append(Excluded(name, ExcludedReason.DUPLICATE))
                continue
            duplicate = False
            if instant == last_instant and before is not None:
                # Sorted by instant: only what is measured at the same one can be alike.
                alike.add(self._likeness(before))
                duplicate = self._likeness(found) in alike
            elif alike:
                alike.clear()
            before, last_instant = found, instant
            if duplicate:
                excluded.append(Excluded(name, ExcludedReason.DUPLICATE))
                continue
            where = by_time(found) if by_time is not None else _HOME
            if found.encounter:
                said = self._said_of_place(found, facts)
                # What could not be read may have been a stay.
                named = _UNVERIFIED if said is None else by_name(found, said)
                if named > where:
                    where = named
            if where is _IN_FACILITY:
                excluded.append(Excluded(name, ExcludedReason.IN_FACILITY))
                continue
            verdict = verdicts.get(origin)
            if verdict is None:
                verdict = self._verdict(found, patient)
                if not origin.is_local:
                    verdicts[origin] = verdict
                if verdict.synonyms:
                    synonyms[verdict.series] = verdict.synonyms
            reason, about = verdict.reason, verdict.about
            if reason is None and not found.believed:
                reason, about = ExcludedReason.IMPLAUSIBLE_VALUE, origin.about
            if reason is None and where is _UNCLEAR:
                reason = ExcludedReason.IN_FACILITY_UNCLEAR
            unverified = verdict.unverified
            if where is _UNVERIFIED:
                unverified = with_place.get(unverified) or with_place.setdefault(
                    unverified, unverified | {Unverified.IN_FACILITY}
                )
            reading = Reading(
                name,
                origin.meaning.line,
                verdict.series or f"{origin.meaning.line}|{name}",
                found.day,
                instant,
                reason,
                unverified,
                verdict.unresolved,
            )
            if reason is None:
                readings.append(reading)
                continue
            excluded.append(Excluded(name, reason, about))
            if reason in _DOUBTS:
                doubtful.append(reading)
                if verdict.other_line is not None:
                    doubtful.append(msgspec.structs.replace(reading, line=verdict.other_line))
        if synonyms:
            readings, doubtful = _of_one_type(synonyms, readings, doubtful)
        return Mapped(tuple(readings), tuple(doubtful), tuple(excluded))

    def _said_of_place(
        self, found: Measurement, facts: Mapping[str, EncounterFacts]
    ) -> tuple[Presence, ...] | None:
        """What the Encounter that a reading names says of where that was; None where it was not read."""
        name = self._references.resolve(found.encounter) or ""
        if name.startswith("EpisodeOfCare/"):
            return ()
        if name.startswith("#"):
            inner = fhir.contained_in(found.contained).get(name[1:])
            if isinstance(inner, fhir.Encounter):
                return presences_of(inner, self._terminology, self._clock)
        encounter = facts.get(name)
        return None if encounter is None else encounter.presences

    def _candidates(self, patient: str, death: Moment | None) -> tuple[list[Measurement], list[Excluded]]:
        """What was measured in time, by instant and name; and what says by itself why it doesn't count."""
        candidates: list[Measurement] = []
        excluded: list[Excluded] = []
        subjects = self._intake.subjects(patient)
        valued = _valued(subjects)
        for subject in subjects:
            for name, read in subject.observations.items():
                if type(read) is LeftOut:
                    excluded.append(Excluded(name, read.reason, read.about))
                    continue
                if read.focus and (about_else := self._about_else(read.focus, patient)) is not None:
                    excluded.append(Excluded(name, about_else, read.origin.about))
                    continue
                if read.members is not None:
                    believed = self._members_believed(read.members, valued)
                    if believed is None:
                        excluded.append(Excluded(name, ExcludedReason.NO_VALUE, read.origin.about))
                        continue
                    read = msgspec.structs.replace(read, believed=believed)
                for found in (read, *_at_other_moments(read)) if read.more else (read,):
                    if found.day > self._as_of:
                        excluded.append(Excluded(name, ExcludedReason.AFTER_AS_OF))
                    elif death is not None and found.instant > death.instant:
                        excluded.append(Excluded(name, ExcludedReason.AFTER_DEATH))
                    else:
                        candidates.append(found)
        _sort(candidates)
        return candidates, excluded

    def _about_else(self, focus: Iterable[str], patient: str) -> ExcludedReason | None:
        """Why a reading is none of the patient's: it says that it is about a relative (an unborn child, a
        donor), another patient, somebody whom nothing here names, or a device itself."""
        for pointed in focus:
            name = self._references.resolve(pointed) or ""
            kind = name.partition("/")[0]
            if kind == "Device":
                return ExcludedReason.NOT_A_MEASUREMENT
            if name != patient and (kind in _SOMEBODY or not kind[:1].isupper()):
                return ExcludedReason.OTHER_PATIENT
        return None

    def _members_believed(self, members: Iterable[str], valued: Mapping[str, bool]) -> bool | None:
        """Can one of a panel's members be believed? None where no member has a value at all."""
        found = [
            valued[name]
            for member in members
            if (name := self._references.resolve(member) or member) in valued
        ]
        return any(found) if found else None

    def _verdict(self, found: Measurement, patient: str) -> _Verdict:
        """Where a reading comes from, and whether its line counts such a one (D7, D23, D24)."""
        origin, line = found.origin, found.origin.meaning.line
        if origin.in_facility:
            return _Verdict(reason=ExcludedReason.IN_FACILITY, about=origin.about)
        by = self._by(found)
        if origin.device is None:
            return _verdict_without_device(origin, by, self._terminology)
        device = self._device(found)
        physiologic = line is Line.PHYSIOLOGIC
        if device is None:
            if physiologic and origin.manual:
                return _Verdict(reason=ExcludedReason.PATIENT_REPORTED, about=origin.about)
            series = f"{line}|{origin.device}" if origin.device else ""
            about = About(display=_readable(origin.device))
            return _Verdict(series, ExcludedReason.DEVICE_UNKNOWN, about, unresolved=True)
        if device.is_test_data:
            return _Verdict(reason=ExcludedReason.TEST_DATA, about=device.about)
        if device.patient is not None and device.patient != patient:
            return _Verdict(reason=ExcludedReason.DEVICE_OF_ANOTHER, about=device.about)
        series = f"{line}|{device.days_by}"
        synonyms = tuple(f"{line}|{other}" for other in device.synonyms)
        app = device.kind is DeviceKind.APP
        if physiologic and (origin.manual or (app and by is _By.PATIENT)):
            return _Verdict(reason=ExcludedReason.PATIENT_REPORTED, about=origin.about)
        if device.kind is DeviceKind.NO_MONITOR:
            return _Verdict(reason=ExcludedReason.DEVICE_NOT_A_MONITOR, about=device.about)
        if device.kind is DeviceKind.NOT_CONFIGURED or (app and physiologic):
            return _Verdict(series, ExcludedReason.DEVICE_UNKNOWN, device.about)
        if by is _By.STAFF:
            return _Verdict(series, ExcludedReason.SOURCE_CONFLICT, origin.about, synonyms=synonyms)
        if device.line not in (None, line):
            return _Verdict(series, ExcludedReason.LINE_CONFLICT, device.about, device.line)
        unverified: set[Unverified] = set()
        if not device.cleared:
            unverified.add(Unverified.FDA_DEVICE)
        if not device.supplied:
            unverified.add(Unverified.DEVICE_SUPPLIED_BY_PRACTICE)
        if device.patient is None:
            unverified.add(Unverified.ENROLMENT)
        if device.continuous_glucose or origin.meaning.continuous_glucose:
            unverified.add(CODES_OPEN)
        return _Verdict(series, unverified=frozenset(unverified), synonyms=synonyms)

    def _likeness(self, found: Measurement) -> tuple[str, str | None, int, bool]:
        """The same coding, device and value at the same time is the same reading, sent twice (D18), however
        its device is referred to."""
        device = found.origin.device
        named = self._references.resolve(device) or device
        return found.origin.meaning.key, named, found.value, found.date_only

    def _by(self, found: Measurement) -> _By:
        """Who a reading says that it is from. The patient before all others; of these, staff."""
        kinds: set[str] = set()
        for performer in found.origin.performers:
            kind = self._kind_of(performer, found)
            if kind not in _ORGANISATIONS or self._named(performer, kind) not in self._senders:
                kinds.add(kind)
        for some, by in (
            (_PEOPLE, _By.PATIENT),
            (_STAFF, _By.STAFF),
            (_ORGANISATIONS, _By.ORGANISATION),
        ):
            if not kinds.isdisjoint(some):
                return by
        return _By.SOMEBODY if kinds else _By.NOBODY

    def _kind_of(self, performer: fhir.Reference, found: Measurement) -> str:
        """The type of a performer: what the reference says, else what it leads to; "" where nobody knows."""
        said = kind_said(performer)
        if said in _PERFORMERS:
            return said
        if performer.reference and performer.reference.startswith("#"):
            inner = fhir.contained_in(found.contained).get(performer.reference[1:])
            return type(inner).__name__ if inner is not None else ""
        kinds = ("",) if performer.reference else sorted(_PERFORMERS)
        names = (self._named(performer, kind) for kind in kinds)
        return next((kind for name in names for kind in name.split("/") if kind in _PERFORMERS), "")

    def _named(self, performer: fhir.Reference, kind: str) -> str:
        return self._references.name(performer, kind) or ""

    def _device(self, found: Measurement) -> KnownDevice | None:
        name = self._references.resolve(found.origin.device)
        contained = fhir.contained_in(found.contained) if name and name.startswith("#") else {}
        for _ in range(2):
            if name is None:
                return None
            if name.startswith("#"):
                inner = contained.get(name[1:])
                if isinstance(inner, fhir.DeviceMetric):
                    name = self._references.name(inner.source, "Device")
                    continue
                if isinstance(inner, fhir.Device):
                    return read_device(inner, f"{found.resource}{name}", self._terminology, self._references)
                return None
            if name in self._metrics:
                name = self._metrics[name]
                continue
            return self._devices.get(name)
        return self._devices.get(name) if name else None


def _of_one_type(
    synonyms: Mapping[str, tuple[str, ...]], *several: list[Reading]
) -> tuple[list[Reading], ...]:
    """Devices whose types share a coding are one device (D8), whichever coding each of them names first."""
    used = {reading.series for readings in several for reading in readings}
    groups = Groups()
    for series, others in synonyms.items():
        groups.join((series, *others))
    names = {
        series: min(group & used)
        for group in groups.all()
        if len(group & used) > 1
        for series in group & used
    }
    if not names:
        return several
    return tuple(
        [
            msgspec.structs.replace(reading, series=names[reading.series])
            if reading.series in names
            else reading
            for reading in readings
        ]
        for readings in several
    )


def _verdict_without_device(origin: Origin, by: _By, terminology: Terminology) -> _Verdict:
    """The reading names no device: what the coding was declared as speaks, where the reading is silent."""
    meaning, about = origin.meaning, origin.about
    series = f"{meaning.line}|{meaning.key}"
    if by in (_By.STAFF, _By.ORGANISATION):
        return _Verdict(reason=ExcludedReason.ENTERED_BY_STAFF, about=about)
    physiologic = meaning.line is Line.PHYSIOLOGIC
    if physiologic and origin.manual:
        return _Verdict(reason=ExcludedReason.PATIENT_REPORTED, about=about)
    by_patient = by is _By.PATIENT or origin.manual
    if by_patient and meaning.source is Source.DEVICE:
        return _Verdict(series, ExcludedReason.SOURCE_CONFLICT, about)
    silent = by is _By.NOBODY
    if physiologic:
        if by_patient or (silent and meaning.source is Source.PATIENT_REPORTED):
            return _Verdict(reason=ExcludedReason.PATIENT_REPORTED, about=about)
        counts = silent and meaning.source is Source.DEVICE
    else:
        counts = meaning.by_site and meaning.source is not None and (silent or by_patient)
    if not counts:
        return _Verdict(reason=ExcludedReason.NO_DEVICE, about=about)
    facts = terminology.reading_facts(meaning.key)
    unverified = {CODES_OPEN} if meaning.continuous_glucose else set()
    if not facts.cleared:
        unverified.add(Unverified.FDA_DEVICE)
    if not facts.supplied:
        unverified.add(Unverified.DEVICE_SUPPLIED_BY_PRACTICE)
    return _Verdict(series, unverified=frozenset(unverified))


def _readable(pointed: str) -> str:
    """A reference that leads nowhere, for a person."""
    return pointed.replace("\0", " ").strip()


def _valued(subjects: Iterable[SubjectIntake]) -> dict[str, bool]:
    """Observations with a value of their own, and whether it can be believed: by name, and by the pointer of
    an identifier that no other of them has. Asked only for panels that have none."""
    found: dict[str, bool] = {}
    shared: set[str] = set()
    for subject in subjects:
        if not subject.has_panels:
            continue
        for name, read in subject.observations.items():
            if not isinstance(read, Measurement) or read.members is not None:
                continue
            found[name] = read.believed
            for identifier in set(read.identifiers or ()):
                pointed = pointer(fhir.Reference(identifier=identifier), "Observation")
                if pointed and pointed in found:
                    shared.add(pointed)
                elif pointed:
                    found[pointed] = read.believed
    return {name: believed for name, believed in found.items() if name not in shared}


def _at_other_moments(found: Measurement) -> list[Measurement]:
    return [
        msgspec.structs.replace(
            found, instant=moment.instant, day=moment.day, date_only=moment.date_only, more=()
        )
        for moment in found.more
    ]


def _sort(found: list[Measurement]) -> None:
    """By instant, then name. Instants are mostly distinct: comparing pairs of both would take far longer."""
    found.sort(key=attrgetter("instant"))
    instants = [one.instant for one in found]
    done = 0
    for position in compress(range(len(instants)), map(eq, instants, instants[1:])):
        if position >= done:
            done = bisect_right(instants, instants[position], position)
            found[position:done] = sorted(found[position:done], key=attrgetter("resource"))
