"""A chart: every resource that was found, read one at a time, and each patient's record made of them.

Resources may come in any order, from any number of files or pages. Each is decoded, boiled down and let go,
so that a chart of 50,000 readings stays small; what points to another resource is resolved when the record
is asked for. A broken resource is listed and never stops the rest.
"""

from __future__ import annotations

import hashlib
import re
import sys
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from itertools import compress
from operator import attrgetter, eq
from typing import TypeVar
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Raw, Struct

from fhir_mappings import resources as fhir
from fhir_mappings.charge_item import NOT_CHARGED, occurrence_of, read_charge
from fhir_mappings.device import DeviceKind, KnownDevice, read_device
from fhir_mappings.encounter import EncounterFacts, StaffMember, Stay, read_encounter, start_of
from fhir_mappings.local_time import ONE_DAY, LocalClock, Moment
from fhir_mappings.observation import LeftOut, Measurement, Origin, Origins, Performer, read_observation
from fhir_mappings.record import (
    Agreement,
    Attestation,
    Enrolment,
    EpisodeOfCare,
    Excluded,
    Order,
    PatientRecord,
    PriorCharge,
    Reading,
    Visit,
)
from fhir_mappings.references import References, pointer
from fhir_mappings.rules.tables import monitoring_codes
from fhir_mappings.staff import Staff
from fhir_mappings.terminology import Terminology
from fhir_mappings.time_log import TIME_LOG
from fhir_mappings.vocabulary import (
    UNKNOWN_PAYER,
    Activity,
    ExcludedReason,
    Line,
    Role,
    Source,
    Unverified,
)

_Kind = TypeVar("_Kind", bound=fhir.Resource)
_Version = tuple[str, int]
_ReadObservation = Measurement | LeftOut
_SUBJECT_FREE = (fhir.DeviceMetric, fhir.Practitioner, fhir.PractitionerRole)
# Deep nesting ends in a RecursionError, text that isn't UTF-8 in its own: to a reader both are no JSON.
NOT_JSON = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)
_LONGEST_VERSION = 64
"""Characters: what an id has at most, in FHIR."""
_OTHER_CONSENTS = frozenset({"adr", "research", "patient-privacy"})
"""Scopes of consents to something else than care: advance directives, studies, who may see the record."""
_NO_PEOPLE = ("Device/", "Group/", "Location/")
_DOUBTS = frozenset(
    {ExcludedReason.DEVICE_UNKNOWN, ExcludedReason.SOURCE_CONFLICT, ExcludedReason.LINE_CONFLICT}
)
_EPISODE_STATUSES = frozenset({"active", "onhold", "finished"})
_ORDER_STATUSES = frozenset({"active", "completed"})
_ORDER_INTENTS = frozenset({"order", "original-order", "reflex-order", "filler-order", "instance-order"})


class _Verdict(Struct, frozen=True, gc=False):
    """How a reading counts: by which series of days, or why not."""

    series: str = ""
    reason: ExcludedReason | None = None
    other_line: Line | None = None
    unverified: frozenset[Unverified] = frozenset({Unverified.FDA_DEVICE})


@dataclass(slots=True)
class _Folder:
    """What came under one subject reference, before anyone knows which patient that is."""

    observations: dict[str, _ReadObservation] = field(default_factory=dict)
    resources: dict[str, dict[str, tuple[_Version, fhir.Resource]]] = field(default_factory=dict)
    excluded: list[Excluded] = field(default_factory=list)
    lost_charges: list[PriorCharge] = field(default_factory=list)
    """Charges of our codes, as far as an unreadable ChargeItem shows any."""
    has_panels: bool = False
    identifiers: set[fhir.Identifier] = field(default_factory=set)
    repeats_identifiers: bool = False
    """Two Observations may carry the same business identifier."""

    def of(self, kind: type[_Kind]) -> dict[str, _Kind]:
        found = self.resources.get(kind.__name__, {})
        return {name: resource for name, (_, resource) in found.items() if isinstance(resource, kind)}


def _subject(resource: fhir.Resource) -> fhir.Reference | None:
    """Whose a resource is, by the element that its type has for it."""
    for element in ("subject", "patient", "beneficiary"):
        found: fhir.Reference | None = getattr(resource, element, None)
        if found is not None:
            return found
    return None


class Chart:
    """Collects resources, then gives each patient's `PatientRecord`.

    `as_of`: what is dated after this local day is left out. `base`: the FHIR server's address, where there is
    one. `history_from`, `unread`: what could not be read (see `PatientRecord`).
    """

    def __init__(
        self,
        terminology: Terminology,
        zone: ZoneInfo,
        as_of: date,
        base: str | None = None,
        history_from: date | None = None,
        unread: frozenset[str] = frozenset(),
    ) -> None:
        self.zone = zone
        self.as_of = as_of
        self.history_from = history_from
        self.unread = unread
        self.ignored: Counter[str] = Counter()
        """Resources of types that say nothing of monitoring, by type."""
        self.resources = 0
        self._terminology = terminology
        self._origins = Origins(terminology)
        self._clock = LocalClock(zone)
        self._references = References(base)
        self._folders: dict[str, _Folder] = {}
        self._shared = _Folder()
        self._unowned: list[Excluded] = []

    # -- collecting ---------------------------------------------------------------------------------------

    def add(self, text: bytes | Raw, full_url: str | None = None, origin: str = "input") -> None:
        """One resource, or a Bundle of them, as JSON. Never raises: what can't be read is listed.

        `origin` names where it came from, for a resource that doesn't name itself.
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
            name = (
                f"Observation/{resource.id}" if resource.id else _made_up_name("Observation", text, full_url)
            )
            if full_url is not None:
                self._references.learn(name, full_url, None)
            self._add_observation(resource, name)
        else:
            kind = type(resource).__name__
            name = f"{kind}/{resource.id}" if resource.id else _made_up_name(kind, text, full_url)
            self._references.learn(name, full_url, resource.identifier)
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
            folder = self._folder(owner)
            folder.excluded.append(excluded)
            if kind == "ChargeItem":
                folder.lost_charges += _codes_in(text, name)

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
        subject = observation.subject
        owner = subject and (subject.reference or pointer(subject, "Patient"))
        if not owner:
            self._unowned.append(Excluded(name, ExcludedReason.UNREADABLE))
            return
        folder = self._folders.get(owner) or self._folder(owner)
        found = read_observation(observation, name, self._origins, self._clock)
        before = folder.observations.setdefault(name, found)
        if before is not found:
            folder.excluded.append(Excluded(name, ExcludedReason.DUPLICATE))
            found = folder.observations[name] = max(before, found, key=_observation_order)
        if type(found) is LeftOut:
            return
        if found.members is not None:
            folder.has_panels = True
        identifiers = found.identifiers
        if identifiers:
            known = folder.identifiers
            all_distinct = len(known) + len(identifiers)
            known.update(identifiers)
            if len(known) < all_distinct:
                folder.repeats_identifiers = True

    def _add_resource(self, resource: fhir.Resource, name: str) -> None:
        if isinstance(resource, fhir.Patient):
            folder = self._folder(name)
        elif isinstance(resource, _SUBJECT_FREE) or (
            isinstance(resource, fhir.Device) and resource.patient is None
        ):
            folder = self._shared
        else:
            owner = pointer(_subject(resource), "Patient")
            if not owner:
                self._unowned.append(Excluded(name, ExcludedReason.UNREADABLE))
                return
            folder = self._folder(owner)
        of_kind = folder.resources.setdefault(type(resource).__name__, {})
        version = _version(resource.meta)
        before = of_kind.get(name)
        if before is not None:
            folder.excluded.append(Excluded(name, ExcludedReason.DUPLICATE))
            if (before[0], _text(before[1])) >= (version, _text(resource)):
                return
        of_kind[name] = (version, resource)

    def _folder(self, owner: str) -> _Folder:
        folder = self._folders.get(owner)
        if folder is None:
            folder = self._folders[owner] = _Folder()
        return folder

    # -- whose is what ------------------------------------------------------------------------------------

    @cached_property
    def _owned(self) -> dict[str, list[_Folder]]:
        """Folders by the patient they belong to. From here on nothing more may be added."""
        owned: dict[str, list[_Folder]] = {}
        for owner, folder in self._folders.items():
            owned.setdefault(self._owner_name(owner), []).append(folder)
        return owned

    def _owner_name(self, owner: str) -> str:
        return self._references.resolve(owner) or owner.replace("\0", " ")

    def patients(self) -> tuple[str, ...]:
        """Each Patient that was found; where there is none, each distinct subject."""
        named = sorted(
            name for name, folders in self._owned.items() if any("Patient" in f.resources for f in folders)
        )
        # A calibration reading's subject is its Device: no patient (SMART_AND_FHIR 3.4).
        return tuple(named or sorted(name for name in self._owned if not name.startswith(_NO_PEOPLE)))

    def strangers(self) -> tuple[Excluded, ...]:
        """What belongs to nobody among `patients()`: another person's, or without a readable subject."""
        patients = set(self.patients())
        found = set(self._unowned)
        for owner, folders in self._owned.items():
            if owner in patients:
                continue
            for folder in folders:
                for name in folder.observations:
                    found.add(Excluded(name, ExcludedReason.OTHER_PATIENT))
                for of_kind in folder.resources.values():
                    found.update(Excluded(name, ExcludedReason.OTHER_PATIENT) for name in of_kind)
                found.update(folder.excluded)
        return tuple(sorted(found))

    # -- things that readings and encounters point to -----------------------------------------------------

    def _everywhere(self, kind: type[_Kind]) -> dict[str, _Kind]:
        found = self._shared.of(kind)
        for folder in self._folders.values():
            found |= folder.of(kind)
        return found

    @cached_property
    def _devices(self) -> dict[str, KnownDevice]:
        return {
            name: known
            for name, device in self._everywhere(fhir.Device).items()
            if (known := read_device(device, name, self._terminology, self._references)) is not None
        }

    @cached_property
    def _metrics(self) -> dict[str, str | None]:
        return {
            name: self._references.name(metric.source, "Device")
            for name, metric in self._everywhere(fhir.DeviceMetric).items()
        }

    @cached_property
    def _staff(self) -> Staff:
        return Staff(
            self._everywhere(fhir.Practitioner),
            self._everywhere(fhir.PractitionerRole),
            self._terminology,
            self._references,
        )

    @cached_property
    def _encounter_facts(self) -> dict[str, dict[str, EncounterFacts]]:
        """Facts of every Encounter, by patient: a clinician may be with two of them at once."""
        return {patient: self._read_encounters(patient) for patient in self.patients()}

    def _of(self, patient: str, kind: type[_Kind]) -> dict[str, _Kind]:
        found: dict[str, _Kind] = {}
        for folder in self._owned.get(patient, ()):
            found |= folder.of(kind)
        return dict(sorted(found.items()))

    def _read_encounters(self, patient: str) -> dict[str, EncounterFacts]:
        billed = self._billed_elsewhere(patient)
        encounters = self._of(patient, fhir.Encounter)
        copies = _copies(encounters)
        return {
            name: EncounterFacts(excluded=ExcludedReason.DUPLICATE)
            if name in copies
            else read_encounter(
                encounter,
                name,
                self._terminology,
                self._clock,
                self._staff_of(encounter),
                ExcludedReason.BILLED_ELSEWHERE if name in billed else None,
                billed.get(name, False),
            )
            for name, encounter in encounters.items()
        }

    def _staff_of(self, encounter: fhir.Encounter) -> Callable[[fhir.Reference], StaffMember | None]:
        """Who a participant of this Encounter is, the roles that it contains included."""
        if not encounter.contained:
            return self._staff.member
        contained = _contained(encounter.contained)

        def member(reference: fhir.Reference) -> StaffMember | None:
            name = reference.reference or ""
            inner = contained.get(name[1:]) if name.startswith("#") else None
            if isinstance(inner, fhir.PractitionerRole):
                return self._staff.stated(inner)
            return self._staff.member(reference)

        return member

    def _billed_elsewhere(self, patient: str) -> dict[str, bool]:
        """Encounters that are the context of a charge which isn't ours; True where it is one for a visit."""
        found: dict[str, bool] = {}
        for charge in self._of(patient, fhir.ChargeItem).values():
            codings = fhir.concepts(charge.code)
            context = self._references.name(charge.context, "Encounter")
            if (
                context is None
                or charge.status in NOT_CHARGED
                or any(coding.code in monitoring_codes() for coding in codings)
            ):
                continue
            meaning = self._terminology.encounter(codings, None)
            visit = meaning is not None and meaning.activity is Activity.VISIT
            found[context] = found.get(context, False) or visit
        return found

    def _charged_visits(self, patient: str) -> Iterator[Visit]:
        """E/M visits that are charged, on the days of the charge: reported is reported (section 4, D11)."""
        for name, charge in self._of(patient, fhir.ChargeItem).items():
            meaning = self._terminology.encounter(fhir.concepts(charge.code), None)
            days = occurrence_of(charge, self._clock)
            if (
                meaning is not None
                and meaning.activity is Activity.VISIT
                and charge.status not in NOT_CHARGED
                and days is not None
                and days.start <= self.as_of
            ):
                actors = [
                    performer.actor for performer in charge.performer or () if performer.actor is not None
                ]
                people = (self._staff.member(actor) for actor in actors)
                last = days.end if (days.end - days.start).days < 3 else days.start
                yield Visit(
                    name,
                    tuple(days.start + ONE_DAY * n for n in range((last - days.start).days + 1)),
                    frozenset(member.person for member in people if member is not None and member.person),
                )

    @cached_property
    def _double_booked(self) -> frozenset[str]:
        """Encounters in which a professional was with two patients of this run at once (D13)."""
        spans = sorted(
            (person, start, end, patient, name)
            for patient, facts in self._encounter_facts.items()
            for name, encounter in facts.items()
            for person, start, end in encounter.busy
        )
        found: set[str] = set()
        open_spans: list[tuple[str, int, int, str, str]] = []
        for span in spans:
            open_spans = [other for other in open_spans if other[0] == span[0] and other[2] > span[1]]
            for other in open_spans:
                if other[3] != span[3]:
                    found |= {other[4], span[4]}
            open_spans.append(span)
        return frozenset(found)

    # -- the record ---------------------------------------------------------------------------------------

    def record(
        self,
        patient: str,
        enrolments: Iterable[Enrolment] = (),
        attestations: Iterable[Attestation] = (),
        confirmed: Iterable[EpisodeOfCare] = (),
    ) -> PatientRecord:
        """One patient's record. `patient` is one of `patients()`; `confirmed`: episodes of care that somebody
        confirmed in the app."""
        excluded: set[Excluded] = {
            entry for folder in self._owned.get(patient, ()) for entry in folder.excluded
        }
        if len(self.patients()) == 1:
            excluded |= set(self.strangers())
        facts = {
            name: fact
            for name, fact in self._encounter_facts.get(patient, {}).items()
            if not self._encounter_is_late(name, patient, excluded)
        }
        death, death_unknown = self._death(patient)
        readings, doubtful = self._readings(patient, facts, death, excluded)
        for name, fact in facts.items():
            if fact.excluded is not None:
                excluded.add(Excluded(name, fact.excluded))
        management = [time for fact in facts.values() for time in fact.management]
        contacts = [fact.contact for fact in facts.values() if fact.contact is not None]
        set_ups = [fact.set_up for fact in facts.values() if fact.set_up is not None]
        if death is not None:
            for time in [time for time in management if time.start > death.instant]:
                management.remove(time)
                excluded.add(Excluded(time.resource, ExcludedReason.AFTER_DEATH))
        return PatientRecord(
            patient=patient,
            as_of=self.as_of,
            zone=self.zone,
            readings=readings,
            doubtful_readings=doubtful,
            management=tuple(
                sorted(management, key=lambda time: (time.start, time.resource, time.person or ""))
            ),
            contacts=tuple(sorted(contacts, key=lambda contact: (contact.day, contact.resource))),
            set_ups=tuple(sorted(set_ups, key=lambda set_up: (set_up.instant, set_up.resource))),
            used_time=tuple(
                sorted(
                    (used for fact in facts.values() for used in fact.used),
                    key=lambda used: (used.start, used.end, used.resource),
                )
            ),
            visits=tuple(
                sorted(
                    (*(fact.visit for fact in facts.values() if fact.visit), *self._charged_visits(patient)),
                    key=lambda visit: (visit.days, visit.resource),
                )
            ),
            charges=self._charges(patient, excluded),
            episodes=(*self._episodes(patient, excluded), *confirmed),
            consents=self._consents(patient, excluded),
            orders=self._orders(patient, excluded),
            care_plans=self._care_plans(patient, excluded),
            payer=self._payer(patient, excluded),
            coded_programs=frozenset(
                fact.coded_program for fact in facts.values() if fact.coded_program is not None
            ),
            enrolments=tuple(enrolments),
            attestations=tuple(attestations),
            double_booked=self._double_booked if len(self.patients()) > 1 else frozenset(),
            history_from=self.history_from,
            unread=self.unread | _unreadable_types((*excluded, *self.strangers())),
            dead=death is not None or death_unknown,
            death_date_unknown=death_unknown,
            excluded=tuple(sorted(excluded)),
        )

    def role_of(self, user: str) -> Role:
        """The role somebody works in now, named by a reference (`Practitioner/7`); what they were once, and
        are no longer (`active` false), says nothing of it."""
        current = Staff(
            {
                name: who
                for name, who in self._everywhere(fhir.Practitioner).items()
                if who.active is not False
            },
            {
                name: role
                for name, role in self._everywhere(fhir.PractitionerRole).items()
                if role.active is not False
            },
            self._terminology,
            self._references,
        )
        member = current.member(fhir.Reference(reference=user))
        return Role.UNKNOWN if member is None else member.role

    def _is_late(self, name: str, text: str | None, excluded: set[Excluded]) -> bool:
        moment = self._clock.read(text)
        if isinstance(moment, Moment) and moment.day > self.as_of:
            excluded.add(Excluded(name, ExcludedReason.AFTER_AS_OF))
            return True
        return False

    def _encounter_is_late(self, name: str, patient: str, excluded: set[Excluded]) -> bool:
        encounter = self._of_one(patient, fhir.Encounter, name)
        return encounter is not None and self._is_late(name, start_of(encounter), excluded)

    def _of_one(self, patient: str, kind: type[_Kind], name: str) -> _Kind | None:
        for folder in self._owned.get(patient, ()):
            found = folder.resources.get(kind.__name__, {}).get(name)
            if found is not None and isinstance(found[1], kind):
                return found[1]
        return None

    def _death(self, patient: str) -> tuple[Moment | None, bool]:
        for person in self._of(patient, fhir.Patient).values():
            moment = self._clock.read(person.deceasedDateTime)
            if isinstance(moment, Moment):
                if moment.date_only:
                    # Only the day is known: what was measured on it may have been measured before.
                    moment = Moment(moment.day, self._clock.day_span(moment.day)[1] - 1, date_only=True)
                return (moment, False) if moment.day <= self.as_of else (None, False)
            return None, bool(person.deceasedBoolean) or bool(person.deceasedDateTime)
        return None, False

    def _readings(
        self,
        patient: str,
        facts: Mapping[str, EncounterFacts],
        death: Moment | None,
        excluded: set[Excluded],
    ) -> tuple[tuple[Reading, ...], tuple[Reading, ...]]:
        candidates: list[Measurement] = []
        as_of = self.as_of
        valued = self._valued(patient)
        for folder in self._owned.get(patient, ()):
            for name, read in folder.observations.items():
                if type(read) is LeftOut:
                    excluded.add(Excluded(name, read.reason))
                    continue
                if read.members is not None and not any(
                    self._references.resolve(member) in valued for member in read.members
                ):
                    excluded.add(Excluded(name, ExcludedReason.NO_VALUE))
                    continue
                for found in (read, *_at_other_moments(read)) if read.more else (read,):
                    if found.day > as_of:
                        excluded.add(Excluded(name, ExcludedReason.AFTER_AS_OF))
                    elif death is not None and found.instant > death.instant:
                        excluded.add(Excluded(name, ExcludedReason.AFTER_DEATH))
                    else:
                        candidates.append(found)
        _sort(candidates)
        in_facility = self._facility_test(facts)
        verdicts: dict[Origin, _Verdict] = {}
        folders = self._owned.get(patient, ())
        repeats_identifiers = len(folders) > 1 or any(folder.repeats_identifiers for folder in folders)
        first_of: dict[fhir.Identifier, str] = {}
        before: Measurement | None = None
        last_instant: int | None = None
        alike: set[tuple[str, str | None, int, bool]] = set()
        readings: list[Reading] = []
        doubtful: list[Reading] = []
        for found in candidates:
            name, instant, origin = found.resource, found.instant, found.origin
            duplicate = False
            if instant == last_instant and before is not None:
                # Sorted by instant: only what is measured at the same one can be alike.
                alike.add(_likeness(before))
                duplicate = _likeness(found) in alike
            elif alike:
                alike.clear()
            before, last_instant = found, instant
            if repeats_identifiers:
                for identifier in found.identifiers or ():
                    if identifier.value:
                        duplicate |= first_of.setdefault(identifier, name) != name
            if duplicate:
                excluded.add(Excluded(name, ExcludedReason.DUPLICATE))
                continue
            facility_checked = True
            if found.encounter or in_facility is not None:
                encounter = facts.get(self._references.resolve(found.encounter) or "")
                facility_checked = not found.encounter or encounter is not None
                if (encounter is not None and encounter.facility and _took_place(encounter)) or (
                    in_facility is not None and in_facility(found)
                ):
                    excluded.add(Excluded(name, ExcludedReason.IN_FACILITY))
                    continue
            verdict = verdicts.get(origin)
            if verdict is None:
                verdict = self._verdict(found, patient)
                # "#device" names another Device in each Observation.
                if not (origin.device and origin.device.startswith("#")):
                    verdicts[origin] = verdict
            reason = verdict.reason
            reading = Reading(
                name,
                origin.meaning.line,
                verdict.series,
                found.day,
                instant,
                reason,
                verdict.unverified if facility_checked else verdict.unverified | {Unverified.IN_FACILITY},
            )
            if reason is None:
                readings.append(reading)
                continue
            excluded.add(Excluded(name, reason))
            if reason in _DOUBTS:
                doubtful.append(reading)
                if verdict.other_line is not None:
                    doubtful.append(msgspec.structs.replace(reading, line=verdict.other_line))
        return tuple(readings), tuple(doubtful)

    def _valued(self, patient: str) -> frozenset[str]:
        """Observations with a value of their own; asked only for panels that have none."""
        folders = [folder for folder in self._owned.get(patient, ()) if folder.has_panels]
        return frozenset(
            name
            for folder in folders
            for name, found in folder.observations.items()
            if isinstance(found, Measurement) and found.members is None
        )

    def _facility_test(self, facts: Mapping[str, EncounterFacts]) -> Callable[[Measurement], bool] | None:
        """Was something measured inside a stay? None where there was no stay."""
        stays = _merged([fact.stay for fact in facts.values() if fact.stay is not None])
        if not stays:
            return None
        starts = [start for start, _ in stays]

        def inside(found: Measurement) -> bool:
            first = found.instant
            position = bisect_right(starts, first) - 1
            if position < 0:
                return False
            end = stays[position][1]
            if found.date_only:
                # Only a whole day inside says that the reading was taken there.
                return end is None or self._clock.day_span(found.day)[1] <= end
            return end is None or first < end

        return inside

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
        contained = _contained(found.contained) if name and name.startswith("#") else {}
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

    # -- what was charged, ordered, agreed to -------------------------------------------------------------

    def _charges(self, patient: str, excluded: set[Excluded]) -> tuple[PriorCharge, ...]:
        found: list[PriorCharge] = []
        for name, charge in self._of(patient, fhir.ChargeItem).items():
            read = read_charge(charge, name, self._clock, monitoring_codes())
            if isinstance(read, ExcludedReason):
                excluded.add(Excluded(name, read))
            elif read is not None:
                if read.occurrence is not None and read.occurrence.start > self.as_of:
                    excluded.add(Excluded(name, ExcludedReason.AFTER_AS_OF))
                else:
                    found.append(read)
        found += [charge for folder in self._owned.get(patient, ()) for charge in folder.lost_charges]
        return tuple(sorted(found, key=lambda charge: (charge.code, charge.resource)))

    def _episodes(self, patient: str, excluded: set[Excluded]) -> tuple[EpisodeOfCare, ...]:
        found: list[EpisodeOfCare] = []
        for name, episode in self._of(patient, fhir.EpisodeOfCare).items():
            period = episode.period or fhir.Period()
            if episode.status not in _EPISODE_STATUSES:
                excluded.add(Excluded(name, _inactive(episode.status)))
            elif not self._is_late(name, period.start, excluded):
                found.append(EpisodeOfCare(name, self._day(period.start), self._day(period.end)))
        return tuple(found)

    def _consents(self, patient: str, excluded: set[Excluded]) -> tuple[Agreement, ...]:
        found: list[Agreement] = []
        for name, consent in self._of(patient, fhir.Consent).items():
            if any(coding.code in _OTHER_CONSENTS for coding in fhir.concepts(consent.scope)):
                continue
            denied = consent.provision is not None and consent.provision.type == "deny"
            if consent.status != "active" or denied:
                excluded.add(Excluded(name, _inactive(consent.status)))
            elif not self._is_late(name, consent.dateTime, excluded):
                found.append(Agreement(name, self._day(consent.dateTime)))
        return tuple(found)

    def _orders(self, patient: str, excluded: set[Excluded]) -> tuple[Order, ...]:
        found: list[Order] = []
        for name, order in self._of(patient, fhir.ServiceRequest).items():
            codings = fhir.concepts(order.code, order.orderDetail)
            program = next(
                (monitoring_codes()[coding.code] for coding in codings if coding.code in monitoring_codes()),
                None,
            ) or self._terminology.program_of(codings)
            if program is None:
                continue
            if (
                order.status not in _ORDER_STATUSES
                or order.intent not in _ORDER_INTENTS
                or order.doNotPerform
            ):
                excluded.add(Excluded(name, _inactive(order.status)))
            elif not self._is_late(name, order.authoredOn, excluded):
                found.append(Order(name, program, self._day(order.authoredOn)))
        return tuple(found)

    def _payer(self, patient: str, excluded: set[Excluded]) -> str | None:
        """The payer that the Coverages in force name, in the site's words; None where none is in force or the
        site declared none. One that the site doesn't know, or two that differ, is unknown: never a guess."""
        if not self._terminology.knows_coverages:
            return None
        found: list[tuple[int, str]] = []
        for name, coverage in self._of(patient, fhir.Coverage).items():
            period = coverage.period or fhir.Period()
            if coverage.status not in (None, "active"):
                excluded.add(Excluded(name, _inactive(coverage.status)))
                continue
            start, end = self._day(period.start), self._day(period.end)
            if (start is None or start <= self.as_of) and (end is None or self.as_of <= end):
                payer = self._terminology.payer(
                    fhir.concepts(coverage.type), self._payors(coverage.payor or [])
                )
                found.append((coverage.order if coverage.order is not None else sys.maxsize, payer))
        first = min((order for order, _ in found), default=None)
        payers = {payer for order, payer in found if order == first}
        if any(
            entry.resource.startswith("Coverage/") and entry.reason is ExcludedReason.UNREADABLE
            for entry in excluded
        ):
            return UNKNOWN_PAYER
        if not payers:
            return None
        return payers.pop() if len(payers) == 1 else UNKNOWN_PAYER

    def _payors(self, payors: Iterable[fhir.Reference]) -> list[fhir.Coding | str]:
        """What a site may know a payor by: its identifier, or the reference to it."""
        found: list[fhir.Coding | str] = []
        for payor in payors:
            if payor.identifier is not None and payor.identifier.value:
                found.append(fhir.Coding(payor.identifier.system, payor.identifier.value))
            if payor.reference:
                found.append(self._references.short(payor.reference) or payor.reference)
        return found

    def _care_plans(self, patient: str, excluded: set[Excluded]) -> tuple[Agreement, ...]:
        found: list[Agreement] = []
        for name, plan in self._of(patient, fhir.CarePlan).items():
            start = plan.period.start if plan.period is not None else plan.created
            if plan.status not in _ORDER_STATUSES:
                excluded.add(Excluded(name, _inactive(plan.status)))
            elif not self._is_late(name, start, excluded):
                found.append(Agreement(name, self._day(start)))
        return tuple(found)

    def _day(self, text: str | None) -> date | None:
        moment = self._clock.read(text)
        return moment.day if isinstance(moment, Moment) else None


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


def _contained(parts: list[Raw] | None) -> dict[str, fhir.Resource]:
    found: dict[str, fhir.Resource] = {}
    for part in parts or ():
        try:
            inner = fhir.decode_resource(part)
        except NOT_JSON:
            continue
        if isinstance(inner, fhir.Resource) and inner.id:
            found[inner.id] = inner
    return found


def _copies(encounters: Mapping[str, fhir.Encounter]) -> set[str]:
    """Encounters that repeat an entry of the time log: it stands in the EHR and here, and is one contact.

    The EHR's copy counts. One that was taken back there is no copy, and stands for itself.
    """
    first: set[str] = set()
    copies: set[str] = set()
    for name in sorted(encounters, key=lambda name: (name.startswith("urn:"), name)):
        encounter = encounters[name]
        entry = next((i.value for i in encounter.identifier or () if i.system == TIME_LOG and i.value), None)
        if entry is None or encounter.status in ("cancelled", "entered-in-error"):
            continue
        if entry in first:
            copies.add(name)
        first.add(entry)
    return copies


def _merged(stays: list[Stay]) -> list[tuple[int, int | None]]:
    """Stays as disjoint spans, sorted; an open end swallows all that follows."""
    merged: list[tuple[int, int | None]] = []
    for stay in sorted(stays, key=lambda stay: stay.start):
        if merged and (merged[-1][1] is None or stay.start <= merged[-1][1]):
            start, end = merged[-1]
            merged[-1] = (start, None if end is None or stay.end is None else max(end, stay.end))
        else:
            merged.append((stay.start, stay.end))
    return merged


def _took_place(encounter: EncounterFacts) -> bool:
    return encounter.excluded not in (
        ExcludedReason.PLANNED,
        ExcludedReason.CANCELLED,
        ExcludedReason.ENTERED_IN_ERROR,
    )


def _unreadable_types(entries: Iterable[Excluded]) -> set[str]:
    """Types of which something could not be read that would have stood in the way: it may be anything."""
    return {
        kind
        for kind in ("ChargeItem", "Encounter")
        if any(
            entry.reason is ExcludedReason.UNREADABLE and entry.resource.startswith(f"{kind}/")
            for entry in entries
        )
    }


def _inactive(status: str | None) -> ExcludedReason:
    return ExcludedReason.ENTERED_IN_ERROR if status == "entered-in-error" else ExcludedReason.NOT_ACTIVE


def _version(meta: fhir.Meta | None) -> _Version:
    if meta is None:
        return ("", -1)
    number = meta.versionId
    # A number of thousands of digits is none that a server counts with, and Python refuses to read it.
    counted = number is not None and len(number) <= _LONGEST_VERSION and number.isdecimal()
    return (meta.lastUpdated or "", int(number or "") if counted else -1)


def _observation_order(found: _ReadObservation) -> tuple[_Version, bool, str]:
    """Which copy of one Observation is believed: the latest version; of equals, the one left out."""
    if isinstance(found, LeftOut):
        return _version(found.meta), True, found.reason
    moment = Moment(found.day, found.instant, found.date_only)
    content = (moment, found.more, found.origin.device, found.origin.meaning.key, found.value)
    return _version(found.meta), False, repr(content)


def _at_other_moments(found: Measurement) -> list[Measurement]:
    return [
        msgspec.structs.replace(
            found, instant=moment.instant, day=moment.day, date_only=moment.date_only, more=()
        )
        for moment in found.more
    ]


def _text(resource: fhir.Resource) -> bytes:
    return msgspec.json.encode(resource)


def _made_up_name(kind: str, text: bytes | Raw, full_url: str | None) -> str:
    """A name for a resource without an id: the same for the same content, wherever it stands."""
    return full_url or f"{kind}/~{hashlib.blake2s(bytes(text), digest_size=6).hexdigest()}"


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
