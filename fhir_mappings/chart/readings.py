"""Measurements -> readings that count, readings in doubt, and what was left out and why (D5 to D8, D18)."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from datetime import date
from itertools import compress
from operator import attrgetter, eq

import msgspec
from msgspec import Struct

from fhir_mappings import resources as fhir
from fhir_mappings.chart.duplicates import sent_again
from fhir_mappings.chart.intake import Intake, SubjectIntake, contained_in
from fhir_mappings.device import DeviceKind, KnownDevice, read_device
from fhir_mappings.encounter import EncounterFacts, presences_of
from fhir_mappings.local_time import LocalClock, Moment
from fhir_mappings.observation import LeftOut, Measurement, Origin, Performer
from fhir_mappings.places import Presence, Where, by_name, places_by_time
from fhir_mappings.record import Excluded, Reading
from fhir_mappings.terminology import Terminology
from fhir_mappings.vocabulary import ExcludedReason, Line, Source, Unverified

_DOUBTS = frozenset(
    {
        ExcludedReason.DEVICE_UNKNOWN,
        ExcludedReason.SOURCE_CONFLICT,
        ExcludedReason.LINE_CONFLICT,
        ExcludedReason.IN_FACILITY_UNCLEAR,
    }
)
# Until Python 3.12 naming a member of an enum takes long, and this is asked of every reading.
_HOME, _UNVERIFIED, _UNCLEAR, _IN_FACILITY = Where


class Mapped(Struct, frozen=True, gc=False):
    """One patient's readings, sorted by time; those left out in doubt; and all that was left out."""

    readings: tuple[Reading, ...]
    doubtful: tuple[Reading, ...]
    excluded: tuple[Excluded, ...]


class _Verdict(Struct, frozen=True, gc=False):
    """How a reading counts: by which series of days, or why not."""

    series: str = ""
    reason: ExcludedReason | None = None
    other_line: Line | None = None
    unverified: frozenset[Unverified] = frozenset({Unverified.FDA_DEVICE})


class ReadingMapper:
    """Where readings come from, and which of them count. One for all patients of an intake."""

    def __init__(self, intake: Intake, terminology: Terminology, clock: LocalClock, as_of: date) -> None:
        self._intake = intake
        self._references = intake.references
        self._terminology = terminology
        self._clock = clock
        self._as_of = as_of
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
        before: Measurement | None = None
        last_instant: int | None = None
        alike: set[tuple[str, str | None, int, bool]] = set()
        readings: list[Reading] = []
        doubtful: list[Reading] = []
        for found in candidates:
            name, instant, origin = found.resource, found.instant, found.origin
            if name in again:
                excluded.append(Excluded(name, ExcludedReason.DUPLICATE))
                continue
            duplicate = False
            if instant == last_instant and before is not None:
                # Sorted by instant: only what is measured at the same one can be alike.
                alike.add(_likeness(before))
                duplicate = _likeness(found) in alike
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
                # "#device" names another Device in each Observation.
                if not (origin.device and origin.device.startswith("#")):
                    verdicts[origin] = verdict
            reason = verdict.reason
            if reason is None and where is _UNCLEAR:
                reason = ExcludedReason.IN_FACILITY_UNCLEAR
            unverified = verdict.unverified
            if where is _UNVERIFIED:
                unverified = with_place.get(unverified) or with_place.setdefault(
                    unverified, unverified | {Unverified.IN_FACILITY}
                )
            reading = Reading(
                name, origin.meaning.line, verdict.series, found.day, instant, reason, unverified
            )
            if reason is None:
                readings.append(reading)
                continue
            excluded.append(Excluded(name, reason))
            if reason in _DOUBTS:
                doubtful.append(reading)
                if verdict.other_line is not None:
                    doubtful.append(msgspec.structs.replace(reading, line=verdict.other_line))
        return Mapped(tuple(readings), tuple(doubtful), tuple(excluded))

    def _said_of_place(
        self, found: Measurement, facts: Mapping[str, EncounterFacts]
    ) -> tuple[Presence, ...] | None:
        """What the Encounter that a reading names says of where that was; None where it was not read."""
        name = self._references.resolve(found.encounter) or ""
        if name.startswith("#"):
            inner = contained_in(found.contained).get(name[1:])
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
                    excluded.append(Excluded(name, read.reason))
                    continue
                if read.members is not None and not any(
                    self._references.resolve(member) in valued for member in read.members
                ):
                    excluded.append(Excluded(name, ExcludedReason.NO_VALUE))
                    continue
                for found in (read, *_at_other_moments(read)) if read.more else (read,):
                    if found.day > self._as_of:
                        excluded.append(Excluded(name, ExcludedReason.AFTER_AS_OF))
                    elif death is not None and found.instant > death.instant:
                        excluded.append(Excluded(name, ExcludedReason.AFTER_DEATH))
                    else:
                        candidates.append(found)
        _sort(candidates)
        return candidates, excluded

    def _verdict(self, found: Measurement, patient: str) -> _Verdict:
        """Where a reading comes from, and whether its line counts such a one (D7)."""
        origin, meaning = found.origin, found.origin.meaning
        if origin.device is None:
            return _verdict_without_device(origin)
        device = self._device(found)
        if device is not None and device.patient is not None and device.patient != patient:
            return _Verdict(reason=ExcludedReason.DEVICE_OF_ANOTHER)
        series = f"{meaning.line}|{device.days_by if device is not None else origin.device}"
        measures = device is not None and device.kind is DeviceKind.MEASURES
        if meaning.line is Line.PHYSIOLOGIC:
            carried = device is not None and device.kind is DeviceKind.CARRIES
            if origin.manual or (carried and origin.performer is Performer.PATIENT):
                return _Verdict(reason=ExcludedReason.PATIENT_REPORTED)
            if not measures:
                return _Verdict(series, ExcludedReason.DEVICE_UNKNOWN)
        if measures and device is not None and device.line is not meaning.line:
            return _Verdict(series, ExcludedReason.LINE_CONFLICT, device.line)
        unverified: set[Unverified] = set()
        if device is None or not device.has_udi:
            unverified.add(Unverified.FDA_DEVICE)
        if device is None or device.patient is None:
            unverified.add(Unverified.ENROLMENT)
        return _Verdict(series, unverified=frozenset(unverified))

    def _device(self, found: Measurement) -> KnownDevice | None:
        name = self._references.resolve(found.origin.device)
        contained = contained_in(found.contained) if name and name.startswith("#") else {}
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


def _verdict_without_device(origin: Origin) -> _Verdict:
    """The reading names no device: what the coding was declared as speaks, where the reading is silent."""
    meaning = origin.meaning
    series = f"{meaning.line}|{meaning.key}"
    by_patient = origin.performer is Performer.PATIENT or origin.manual
    if by_patient and meaning.source is Source.DEVICE:
        return _Verdict(series, ExcludedReason.SOURCE_CONFLICT)
    if meaning.line is Line.PHYSIOLOGIC:
        if by_patient or (meaning.source is Source.PATIENT_REPORTED and origin.performer is Performer.NONE):
            return _Verdict(reason=ExcludedReason.PATIENT_REPORTED)
        if origin.performer is Performer.NONE and meaning.source is Source.DEVICE:
            return _Verdict(series)
        return _Verdict(reason=ExcludedReason.NO_DEVICE)
    if not meaning.by_site or meaning.source is None:
        return _Verdict(reason=ExcludedReason.NO_DEVICE)
    if origin.performer is Performer.NONE or by_patient:
        return _Verdict(series)
    return _Verdict(reason=ExcludedReason.NO_DEVICE)


def _valued(subjects: Iterable[SubjectIntake]) -> frozenset[str]:
    """Observations with a value of their own; asked only for panels that have none."""
    return frozenset(
        name
        for subject in subjects
        if subject.has_panels
        for name, found in subject.observations.items()
        if isinstance(found, Measurement) and found.members is None
    )


def _at_other_moments(found: Measurement) -> list[Measurement]:
    return [
        msgspec.structs.replace(
            found, instant=moment.instant, day=moment.day, date_only=moment.date_only, more=()
        )
        for moment in found.more
    ]


def _likeness(found: Measurement) -> tuple[str, str | None, int, bool]:
    """The same coding, device and value at the same time is the same reading, sent twice (D18)."""
    return found.origin.meaning.key, found.origin.device, found.value, found.date_only


def _sort(found: list[Measurement]) -> None:
    """By instant, then name. Instants are mostly distinct: comparing pairs of both would take far longer."""
    found.sort(key=attrgetter("instant"))
    instants = [one.instant for one in found]
    done = 0
    for position in compress(range(len(instants)), map(eq, instants, instants[1:])):
        if position >= done:
            done = bisect_right(instants, instants[position], position)
            found[position:done] = sorted(found[position:done], key=attrgetter("resource"))
