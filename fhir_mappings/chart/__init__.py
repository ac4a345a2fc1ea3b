"""A chart: every resource that was found, read one at a time, and each patient's record made of them.

Resources may come in any order, from any number of files or pages (`intake`). What points to another resource
is resolved when the record is asked for: readings (`readings`), Encounters (`encounters`), and what was
charged, ordered and agreed to (`documents`). Each step returns what it found and what it left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import date
from functools import cached_property
from zoneinfo import ZoneInfo

from msgspec import Raw

from fhir_mappings import resources as fhir
from fhir_mappings.chart.bundles import CutOff, Deletion
from fhir_mappings.chart.documents import DocumentMapper
from fhir_mappings.chart.encounters import EncounterMapper
from fhir_mappings.chart.intake import NOT_JSON, Hint, Intake
from fhir_mappings.chart.readings import ReadingMapper
from fhir_mappings.completeness import Completeness, Missing, MissingWhy, completeness_of
from fhir_mappings.encounter import EncounterFacts
from fhir_mappings.identity import Bases, Links
from fhir_mappings.local_time import LocalClock, Moment, clock_of
from fhir_mappings.record import (
    Attestation,
    Enrolment,
    EpisodeOfCare,
    Excluded,
    Insurance,
    ManagementTime,
    PatientRecord,
    Resolution,
    payer_on,
)
from fhir_mappings.rules.tables import KnownCodes
from fhir_mappings.staff import Staff
from fhir_mappings.terminology import Terminology
from fhir_mappings.vocabulary import UNKNOWN_PAYER, ExcludedReason, Role

__all__ = ["NOT_JSON", "Chart"]


class Chart:
    """Collects resources, then gives each patient's `PatientRecord`.

    `as_of`: what is dated after this local day is left out. `base`: the FHIR server's address, where there is
    one. `history_from`: the first day that was read, where older records may exist. `codes`: those of the
    tables in force (`Policy.known`); without them the shipped ones. `one_of_many`: these are one patient's
    records of a population, with what they point to; what belongs to nobody here is somebody else's to tell.
    `like`: a chart of the same terminology, zone and codes, for what it worked out of codings.
    """

    def __init__(
        self,
        terminology: Terminology,
        zone: ZoneInfo,
        as_of: date,
        base: Bases | None = None,
        history_from: date | None = None,
        codes: KnownCodes | None = None,
        *,
        one_of_many: bool = False,
        like: Chart | None = None,
    ) -> None:
        self.zone = zone
        self.as_of = as_of
        self.history_from = history_from
        self._one_of_many = one_of_many
        self._terminology = terminology
        self._clock: LocalClock = clock_of(zone) if like is None else like._clock
        learned: Intake | None = None if like is None else like._intake
        self._intake: Intake = Intake(terminology, self._clock, base, codes, learned)

    # -- collecting ---------------------------------------------------------------------------------------

    def add(
        self,
        text: bytes | Raw,
        full_url: str | None = None,
        origin: str = "input",
        hint: Hint | None = None,
    ) -> None:
        """One resource, or a Bundle of them, as JSON. Never raises: what can't be read is listed.

        `origin` names where it came from, for a resource that doesn't name itself; `hint` gives the type that
        it must be of, for one that can't say.
        """
        if hint is None:
            self._intake.add(text, full_url, origin)
        else:
            self._intake.add(text, full_url, origin, hint=hint)

    def add_observation(self, observation: fhir.Observation, text: bytes | Raw, full_url: str | None) -> None:
        """One Observation that is decoded already; `text`: the JSON that it was decoded from."""
        self._intake.add_observation(observation, text, full_url)

    def add_own(self, text: bytes | Raw, name: str) -> None:
        """A resource that this app keeps itself, under the name that it has here: no server knows it."""
        self._intake.add(text, None, name, known_as=name)

    def add_found(
        self, text: bytes, full_url: str | None, origin: str, kind: str, days: tuple[date | None, date | None]
    ) -> None:
        """A resource of an answer: of which type and days it must be, should it not be readable."""
        self._intake.add(text, full_url, origin, hint=lambda: kind, within=days)

    def add_deletion(self, name: str, at: str | None, address: str = "") -> None:
        """Somebody took a record away: which (`Type/id`), when, as it is written, and where it was."""
        self._intake.delete(Deletion(name, at, address))

    def add_missing(self, missing: Missing, patient: str = "") -> None:
        """Something that could not be read. `patient`: whose it is; "" where it may be anybody's."""
        self._intake.add_missing(missing, patient)

    def add_unreadable(self, name: str) -> None:
        """A record that was found and cannot be read, by the name that it is listed under."""
        self._intake.add_unreadable(name)

    def add_pages(self, pages: Iterable[str], cut_off: Iterable[CutOff], short: Iterable[CutOff]) -> None:
        """What Bundles that were read elsewhere said of their pages."""
        self._intake.add_pages(pages, cut_off, short)

    def all_missing(self) -> list[tuple[str, Missing]]:
        """All that is missing, with the subject reference of whose it is; "" where it may be anybody's."""
        return self._intake.all_missing()

    @property
    def resources(self) -> int:
        """How many were added."""
        return self._intake.resources

    @property
    def ignored(self) -> Counter[str]:
        """Resources of types that say nothing of monitoring, by type."""
        return self._intake.ignored

    # -- whose is what ------------------------------------------------------------------------------------

    def patients(self) -> tuple[str, ...]:
        """Each Patient that was found; where there is none, each distinct subject."""
        return self._intake.patients

    def has_patient(self, patient: str) -> bool:
        """Is there a Patient of this name, or of a record that it stands for?"""
        return any("Patient" in subject.resources for subject in self._intake.subjects(patient))

    def strangers(self) -> tuple[Excluded, ...]:
        """What belongs to nobody among `patients()`: another person's, or without a readable subject."""
        return self._intake.not_this_patient

    # -- the record ---------------------------------------------------------------------------------------

    @cached_property
    def _readings(self) -> ReadingMapper:
        return ReadingMapper(self._intake, self._terminology, self._clock, self.as_of)

    @cached_property
    def _encounters(self) -> EncounterMapper:
        return EncounterMapper(self._intake, self._terminology, self._clock, self.as_of, self._staff)

    @cached_property
    def _documents(self) -> DocumentMapper:
        return DocumentMapper(self._intake, self._terminology, self._clock, self.as_of, self._staff)

    @cached_property
    def _staff(self) -> Staff:
        return Staff(
            self._intake.everywhere(fhir.Practitioner),
            self._intake.everywhere(fhir.PractitionerRole),
            self._terminology,
            self._intake.references,
        )

    def record(
        self,
        patient: str,
        enrolments: Iterable[Enrolment] = (),
        attestations: Iterable[Attestation] = (),
        confirmed: Iterable[EpisodeOfCare] = (),
        resolutions: Iterable[Resolution] = (),
    ) -> PatientRecord:
        """One patient's record. `patient` is one of `patients()`; `confirmed`: episodes of care that somebody
        confirmed in the app."""
        nobody = self._why_nobody(patient)
        if nobody is not None:
            return PatientRecord(patient, self.as_of, self.zone, excluded=(Excluded(patient, nobody),))
        documents = self._documents
        alone = len(self.patients()) == 1 and not self._one_of_many
        left_out = {entry for subject in self._intake.subjects(patient) for entry in subject.excluded}
        completeness = self._completeness(patient)
        facts, of_encounters = self._encounters.facts(patient)
        death, death_unknown = documents.death(patient)
        mapped = self._readings.map(patient, facts, death)
        management, of_management = _before_death(facts.values(), death)
        charges, of_charges = documents.charges(patient)
        episodes, of_episodes = documents.episodes(patient)
        consents, of_consents = documents.consents(patient)
        orders, of_orders = documents.orders(patient)
        care_plans, of_care_plans = documents.care_plans(patient)
        surgeries, of_surgeries = documents.surgeries(patient)
        diagnoses, of_diagnoses = documents.diagnoses(patient)
        insurances, of_insurances = documents.insurances(patient)
        left_out.update(
            self.strangers() if alone else (),
            of_encounters,
            mapped.excluded,
            of_management,
            of_charges,
            of_episodes,
            of_consents,
            of_orders,
            of_care_plans,
            of_surgeries,
            of_diagnoses,
            of_insurances,
        )
        contacts = [fact.contact for fact in facts.values() if fact.contact is not None]
        set_ups = [fact.set_up for fact in facts.values() if fact.set_up is not None]
        visits = [fact.visit for fact in facts.values() if fact.visit is not None]
        return PatientRecord(
            patient=patient,
            as_of=self.as_of,
            zone=self.zone,
            readings=mapped.readings,
            doubtful_readings=mapped.doubtful,
            management=management,
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
                    (*visits, *self._encounters.charged_visits(patient)),
                    key=lambda visit: (visit.days, visit.resource),
                )
            ),
            practices=self._staff.practices,
            charges=tuple(charge for charge in charges if charge.code in self._intake.codes.rules),
            more_specific=tuple(charge for charge in charges if charge.code not in self._intake.codes.rules),
            episodes=(*episodes, *confirmed),
            consents=consents,
            orders=orders,
            care_plans=care_plans,
            surgeries=surgeries,
            diagnoses=diagnoses,
            payer=self._payer(insurances, completeness),
            insurances=insurances,
            coded_programs=frozenset(
                fact.coded_program for fact in facts.values() if fact.coded_program is not None
            ),
            enrolments=tuple(enrolments),
            attestations=tuple(attestations),
            resolutions=tuple(resolutions),
            double_booked=frozenset() if alone else self._encounters.double_booked,
            two_times=frozenset(name for name, fact in facts.items() if fact.two_times),
            history_from=self.history_from,
            completeness=completeness,
            charges_elsewhere=any(links.elsewhere for links in self._links(patient)),
            dead=death is not None or death_unknown,
            death_date_unknown=death_unknown,
            excluded=tuple(sorted(left_out)),
        )

    def busy(self, patient: str) -> tuple[tuple[str, int, int, str], ...]:
        """Who was with a patient, from when to when in microseconds UTC, and in which Encounter (D13)."""
        return self._encounters.busy(patient)

    def days_ahead(self, patient: str) -> frozenset[date]:
        """Days after the one that is asked about on which the record may become another by itself: what is
        dated so late, and what ends. A day too many is only asked about once more."""
        return frozenset(day for day in self._intake.days_told(patient, self.as_of) if day > self.as_of)

    def _links(self, patient: str) -> list[Links]:
        """What this person's Patients say of other records of theirs, those that were replaced included."""
        return [self._intake.links[name] for name in self._intake.of(patient, fhir.Patient)]

    def _why_nobody(self, patient: str) -> ExcludedReason | None:
        """Why nothing is decided for this Patient: nobody real, or somebody whose record is another one."""
        own = self._intake.of(patient, fhir.Patient).get(patient)
        if own is None:
            return None
        if self._terminology.is_test_data(own.meta):
            return ExcludedReason.TEST_DATA
        return ExcludedReason.MERGED_PATIENT if patient in self._intake.replaced else None

    def _payer(self, insurances: Iterable[Insurance], completeness: Completeness) -> str | None:
        """Who pays on the day of the question; nobody knows where a Coverage could not be read."""
        if self._terminology.knows_coverages and completeness.lacks("Coverage"):
            return UNKNOWN_PAYER
        return payer_on(insurances, self.as_of)

    def _completeness(self, patient: str) -> Completeness:
        unseen = [
            Missing(kind, MissingWhy.NOT_SEARCHED, detail="records under an earlier id of this patient")
            for links in self._links(patient)
            for old in links.replaces
            if not self._intake.has_records_of(old)
            for kind in ("ChargeItem", "Encounter", "Observation")
        ]
        return completeness_of([*self._intake.missing(patient), *unseen])

    def person_of(self, reference: str) -> str | None:
        """The one name of somebody in all records of this chart (`Practitioner/7`), whichever of their roles
        leads to it; None for who is no staff."""
        member = self._staff.member(fhir.Reference(reference=reference))
        return None if member is None else member.person

    def people_of_roles(self) -> dict[str, str]:
        """PractitionerRole -> the person whose role it is, of everybody in this chart."""
        found = {name: self.person_of(name) for name in self._intake.everywhere(fhir.PractitionerRole)}
        return {name: person for name, person in found.items() if person not in (None, name)}

    def role_of(self, user: str) -> Role:
        """The role somebody works in now, named by a reference (`Practitioner/7`); what they were once, and
        are no longer (`active` false), says nothing of it."""
        return self.roles_of((user,))[user]

    def roles_of(self, people: Iterable[str]) -> dict[str, Role]:
        """`role_of` each."""
        intake = self._intake
        current = Staff(
            {
                name: who
                for name, who in intake.everywhere(fhir.Practitioner).items()
                if who.active is not False
            },
            {
                name: role
                for name, role in intake.everywhere(fhir.PractitionerRole).items()
                if role.active is not False
            },
            self._terminology,
            intake.references,
        )
        members = {one: current.member(fhir.Reference(reference=one)) for one in people}
        return {one: Role.UNKNOWN if who is None else who.role for one, who in members.items()}


def _before_death(
    facts: Iterable[EncounterFacts], death: Moment | None
) -> tuple[tuple[ManagementTime, ...], tuple[Excluded, ...]]:
    """Management time in order, without what is dated after death."""
    times = sorted(
        (time for fact in facts for time in fact.management),
        key=lambda time: (time.start, time.resource, time.person or ""),
    )
    if death is None:
        return tuple(times), ()
    kept = tuple(time for time in times if time.start <= death.instant)
    # What counts may have another time beside it, under its own name (D31).
    counts = {time.resource for time in kept if time.doubt is None}
    late = {time.resource for time in times if time.start > death.instant} - counts
    return kept, tuple(Excluded(name, ExcludedReason.AFTER_DEATH) for name in late)
