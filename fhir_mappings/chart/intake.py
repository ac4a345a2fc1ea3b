"""Taking in: many resources in any order, each read once, and whose each of them is.

Each is decoded, boiled down and let go, so that a chart of 50,000 readings stays small. A broken resource is
listed and never stops the rest.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar

import msgspec
from msgspec import Raw

from fhir_mappings import resources as fhir
from fhir_mappings.identity import References, Version, name_of, pointer, subject_of, version_of
from fhir_mappings.local_time import LocalClock, Moment
from fhir_mappings.observation import LeftOut, Measurement, Origins, read_observation
from fhir_mappings.record import Excluded, PriorCharge
from fhir_mappings.rules.tables import monitoring_codes
from fhir_mappings.terminology import Terminology
from fhir_mappings.vocabulary import ExcludedReason

Kind = TypeVar("Kind", bound=fhir.Resource)
ReadObservation = Measurement | LeftOut
_SUBJECT_FREE = (fhir.DeviceMetric, fhir.Practitioner, fhir.PractitionerRole)
# Deep nesting ends in a RecursionError, text that isn't UTF-8 in its own: to a reader both are no JSON.
NOT_JSON = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)
_NO_PEOPLE = ("Device/", "Group/", "Location/")


@dataclass(slots=True)
class SubjectIntake:
    """What came under one subject reference, before anyone knows which patient that is."""

    observations: dict[str, ReadObservation] = field(default_factory=dict)
    resources: dict[str, dict[str, tuple[Version, fhir.Resource]]] = field(default_factory=dict)
    excluded: list[Excluded] = field(default_factory=list)
    lost_charges: list[PriorCharge] = field(default_factory=list)
    """Charges of our codes, as far as an unreadable ChargeItem shows any."""
    has_panels: bool = False
    identifiers: set[fhir.Identifier] = field(default_factory=set)
    repeats_identifiers: bool = False
    """Two Observations may carry the same business identifier."""

    def of(self, kind: type[Kind]) -> dict[str, Kind]:
        found = self.resources.get(kind.__name__, {})
        return {name: resource for name, (_, resource) in found.items() if isinstance(resource, kind)}


class Intake:
    """Collects resources, until somebody asks what there is; from then on nothing more may be added."""

    def __init__(self, terminology: Terminology, clock: LocalClock, base: str | None) -> None:
        self.ignored: Counter[str] = Counter()
        """Resources of types that say nothing of monitoring, by type."""
        self.resources = 0
        self.references = References(base)
        self._origins = Origins(terminology)
        self._clock = clock
        self._subjects: dict[str, SubjectIntake] = {}
        self._shared = SubjectIntake()
        self._unowned: list[Excluded] = []

    # -- one resource -------------------------------------------------------------------------------------

    def add(self, text: bytes | Raw, full_url: str | None, origin: str, known_as: str | None = None) -> None:
        """One resource, or a Bundle of them. Never raises: what can't be read is listed.

        `known_as`: the name it goes by, where it is not for the resource to say.
        """
        try:
            resource = fhir.decode_resource(text)
        except msgspec.ValidationError:
            self._add_other(text, full_url, origin)
            return
        except NOT_JSON:
            self._add_unreadable(origin)
            return
        self.resources += 1
        if type(resource) is fhir.Observation:
            name = name_of("Observation", resource.id, text)
            if full_url is not None:
                self.references.learn(name, full_url, None)
            self._add_observation(resource, name)
        else:
            name = known_as or name_of(type(resource).__name__, resource.id, text)
            self.references.learn(name, full_url, resource.identifier)
            self._add_resource(resource, name)

    def _add_other(self, text: bytes | Raw, full_url: str | None, origin: str) -> None:
        """A Bundle, a type we have no use for, or a resource whose elements don't fit."""
        try:
            head = _head(text)
        except NOT_JSON:
            self._add_unreadable(origin)
            return
        kind = head.resourceType
        if kind == "Bundle":
            self._add_bundle(text, head.entry, origin)
            return
        if kind == "ChargeItem" and (
            mended := fhir.without_misfits(text, fhir.ChargeItem, "code", "subject")
        ):
            # A charge that nobody sees is billed twice: what fits of it is believed.
            self.add(mended, full_url, origin)
            return
        self.resources += 1
        if kind is not None and kind not in fhir.READ_TYPES:
            self.ignored[kind] += 1
            return
        name = f"{kind}/{head.id}" if kind and head.id else (full_url or origin)
        owner = pointer(head.subject or head.patient or head.beneficiary, "Patient")
        excluded = Excluded(name, ExcludedReason.UNREADABLE)
        if not owner:
            self._unowned.append(excluded)
        else:
            subject = self._subject(owner)
            subject.excluded.append(excluded)
            if kind == "ChargeItem":
                subject.lost_charges += _codes_in(text, name)

    def _add_bundle(self, text: bytes | Raw, entries: list[Raw] | None, origin: str) -> None:
        if entries is None:
            try:
                entries = fhir.decode_bundle(text).entry or []
            except NOT_JSON:
                self._add_unreadable(origin)
                return
        for position, entry_text in enumerate(entries):
            place = f"{origin} entry {position + 1}"
            try:
                entry = fhir.decode_entry(entry_text)
            except NOT_JSON:
                self._add_unreadable(place)
                continue
            if bytes(entry.resource) not in (b"", b"null"):
                self.add(entry.resource, entry.fullUrl, place)

    def _add_unreadable(self, origin: str) -> None:
        self.resources += 1
        self._unowned.append(Excluded(origin, ExcludedReason.UNREADABLE))

    def _add_observation(self, observation: fhir.Observation, name: str) -> None:
        about = observation.subject
        owner = about and (about.reference or pointer(about, "Patient"))
        if not owner:
            self._unowned.append(Excluded(name, ExcludedReason.UNREADABLE))
            return
        subject = self._subjects.get(owner) or self._subject(owner)
        found = read_observation(observation, name, self._origins, self._clock)
        before = subject.observations.setdefault(name, found)
        if before is not found:
            subject.excluded.append(Excluded(name, ExcludedReason.DUPLICATE))
            found = subject.observations[name] = max(before, found, key=_observation_order)
        if type(found) is LeftOut:
            return
        if found.members is not None:
            subject.has_panels = True
        identifiers = found.identifiers
        if identifiers:
            known = subject.identifiers
            all_distinct = len(known) + len(identifiers)
            known.update(identifiers)
            if len(known) < all_distinct:
                subject.repeats_identifiers = True

    def _add_resource(self, resource: fhir.Resource, name: str) -> None:
        if isinstance(resource, fhir.Patient):
            subject = self._subject(name)
        elif isinstance(resource, _SUBJECT_FREE) or (
            isinstance(resource, fhir.Device) and resource.patient is None
        ):
            subject = self._shared
        else:
            owner = pointer(subject_of(resource), "Patient")
            if not owner:
                self._unowned.append(Excluded(name, ExcludedReason.UNREADABLE))
                return
            subject = self._subject(owner)
        of_kind = subject.resources.setdefault(type(resource).__name__, {})
        version = version_of(resource.meta)
        before = of_kind.get(name)
        if before is not None:
            subject.excluded.append(Excluded(name, ExcludedReason.DUPLICATE))
            if (before[0], _text(before[1])) >= (version, _text(resource)):
                return
        of_kind[name] = (version, resource)

    def _subject(self, owner: str) -> SubjectIntake:
        found = self._subjects.get(owner)
        if found is None:
            found = self._subjects[owner] = SubjectIntake()
        return found

    # -- whose is what ------------------------------------------------------------------------------------

    @cached_property
    def _owned(self) -> dict[str, list[SubjectIntake]]:
        """What came in, by the patient it belongs to."""
        owned: dict[str, list[SubjectIntake]] = {}
        for owner, subject in self._subjects.items():
            name = self.references.resolve(owner) or owner.replace("\0", " ")
            owned.setdefault(name, []).append(subject)
        return owned

    @cached_property
    def patients(self) -> tuple[str, ...]:
        """Each Patient that was found; where there is none, each distinct subject."""
        named = sorted(
            name for name, owned in self._owned.items() if any("Patient" in one.resources for one in owned)
        )
        # A calibration reading's subject is its Device: no patient.
        return tuple(named or sorted(name for name in self._owned if not name.startswith(_NO_PEOPLE)))

    @cached_property
    def not_this_patient(self) -> tuple[Excluded, ...]:
        """What belongs to nobody among `patients`: another person's, or without a readable subject."""
        patients = set(self.patients)
        found = set(self._unowned)
        for owner, owned in self._owned.items():
            if owner not in patients:
                for subject in owned:
                    found.update(_as_anothers(subject))
        return tuple(sorted(found))

    def subjects(self, patient: str) -> list[SubjectIntake]:
        """What came in of one patient, by the references that named them."""
        return self._owned.get(patient, [])

    def of(self, patient: str, kind: type[Kind]) -> dict[str, Kind]:
        """A patient's resources of one type, by name and in its order."""
        found: dict[str, Kind] = {}
        for subject in self.subjects(patient):
            found |= subject.of(kind)
        return dict(sorted(found.items()))

    def everywhere(self, kind: type[Kind]) -> dict[str, Kind]:
        """Resources of a type whoever they belong to: what others point to."""
        found = self._shared.of(kind)
        for subject in self._subjects.values():
            found |= subject.of(kind)
        return found


def contained_in(parts: list[Raw] | None) -> dict[str, fhir.Resource]:
    """The resources that another one contains, by id; what can't be read of them is left out."""
    found: dict[str, fhir.Resource] = {}
    for part in parts or ():
        try:
            inner = fhir.decode_resource(part)
        except NOT_JSON:
            continue
        if isinstance(inner, fhir.Resource) and inner.id:
            found[inner.id] = inner
    return found


def _as_anothers(subject: SubjectIntake) -> Iterator[Excluded]:
    for name in subject.observations:
        yield Excluded(name, ExcludedReason.OTHER_PATIENT)
    for of_kind in subject.resources.values():
        for name in of_kind:
            yield Excluded(name, ExcludedReason.OTHER_PATIENT)
    yield from subject.excluded


def _observation_order(found: ReadObservation) -> tuple[Version, bool, str]:
    """Which copy of one Observation is believed: the latest version; of equals, the one left out."""
    if isinstance(found, LeftOut):
        return version_of(found.meta), True, found.reason
    moment = Moment(found.day, found.instant, found.date_only)
    content = (moment, found.more, found.origin.device, found.origin.meaning.key, found.value)
    return version_of(found.meta), False, repr(content)


def _text(resource: fhir.Resource) -> bytes:
    return msgspec.json.encode(resource)


def _codes_in(text: bytes | Raw, name: str) -> list[PriorCharge]:
    """Charges of our codes that an unreadable ChargeItem may stand for, whenever that was: for a human."""
    numbers = {number.decode() for number in re.findall(rb"[0-9]+", bytes(text))}
    codes = numbers & set(filter(None, monitoring_codes()))
    return [PriorCharge(name, code, 1, None) for code in sorted(codes)]


def _head(text: bytes | Raw) -> fhir.Head:
    """Name and subject of a resource that doesn't fit, even where its very head doesn't."""
    try:
        return fhir.decode_head(text)
    except msgspec.ValidationError:
        value = fhir.decode_untyped(text)
    if not isinstance(value, dict):
        return fhir.Head()

    def text_of(key: str) -> str | None:
        found = value.get(key)
        return found if isinstance(found, str) else None

    owner = next(
        (
            found["reference"]
            for key in ("subject", "patient")
            if isinstance(found := value.get(key), dict) and isinstance(found.get("reference"), str)
        ),
        None,
    )
    return fhir.Head(text_of("resourceType"), text_of("id"), fhir.Reference(owner) if owner else None)
