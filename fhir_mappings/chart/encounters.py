"""Encounters -> what each says, for all patients of an intake: staff may be with two at once (D13)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import date
from functools import cached_property
from heapq import heappop, heappush

from fhir_mappings import resources as fhir
from fhir_mappings.chart.intake import Intake, contained_kinds
from fhir_mappings.chart.same_encounter import as_one, one_encounter
from fhir_mappings.encounter import EncounterFacts, StaffMember, read_encounter, start_of
from fhir_mappings.identity import about_of
from fhir_mappings.local_time import ONE_DAY, LocalClock, Moment, Window
from fhir_mappings.prior_charge import (
    NOT_CHARGED,
    codes_in,
    codes_of,
    days_of_line,
    lines_of_others,
    occurrence_of,
    who_claims,
)
from fhir_mappings.record import NOT_SAID, About, Excluded, Visit
from fhir_mappings.staff import Staff
from fhir_mappings.terminology import Terminology
from fhir_mappings.vocabulary import Activity, ExcludedReason

Busy = tuple[str, int, int, str, str]
"""A professional, from when and to when (microseconds UTC) they were with a patient, in which Encounter."""


def at_once(spans: Iterable[Busy]) -> set[tuple[str, str]]:
    """Patients and Encounters of theirs in which somebody was with two of them at once (D13)."""
    found: set[tuple[str, str]] = set()
    who, ends, going = None, list[tuple[int, str]](), Counter[str]()
    alone: list[Busy] = []
    """With a patient while no other patient was there, as yet."""
    for span in sorted(spans):
        professional, start, end, patient, _ = span
        if professional != who:
            who, ends, going, alone = professional, [], Counter(), []
        while ends and ends[0][0] <= start:
            over = heappop(ends)[1]
            going[over] -= 1
            if not going[over]:
                del going[over]
        if len(going) > (patient in going):
            found.update(other[3:] for other in alone if other[2] > start)
            found.add(span[3:])
            alone = []
        else:
            alone.append(span)
        heappush(ends, (end, patient))
        going[patient] += 1
    return found


class EncounterMapper:
    """What the Encounters of an intake say, and the visits that charges tell of."""

    def __init__(
        self, intake: Intake, terminology: Terminology, clock: LocalClock, as_of: date, staff: Staff
    ) -> None:
        self._intake = intake
        self._references = intake.references
        self._terminology = terminology
        self._clock = clock
        self._as_of = as_of
        self._staff = staff

    def facts(self, patient: str) -> tuple[dict[str, EncounterFacts], tuple[Excluded, ...]]:
        """Each Encounter of a patient that had begun by the day of the question; and what was left out."""
        encounters = self._intake.of(patient, fhir.Encounter)
        known = self._facts.get(patient, {})
        late = {name for name in known if self._is_late(encounters[name])}
        left_out = [Excluded(name, ExcludedReason.AFTER_AS_OF) for name in late]
        kept = {name: fact for name, fact in known.items() if name not in late}
        left_out += [
            Excluded(name, fact.excluded, _about(encounters[name], fact.excluded))
            for name, fact in kept.items()
            if fact.excluded is not None
        ]
        return kept, tuple(left_out)

    @cached_property
    def _facts(self) -> dict[str, dict[str, EncounterFacts]]:
        return {patient: self._read(patient) for patient in self._intake.patients}

    @cached_property
    def double_booked(self) -> frozenset[str]:
        """Encounters in which a professional was with two patients of this run at once (D13)."""
        spans = (
            (person, start, end, patient, name)
            for patient in self._facts
            for person, start, end, name in self.busy(patient)
        )
        return frozenset(name for _, name in at_once(spans))

    def busy(self, patient: str) -> tuple[tuple[str, int, int, str], ...]:
        """Who was with a patient: person, from when, to when, and in which Encounter."""
        return tuple(
            (person, start, end, name)
            for name, encounter in self._facts.get(patient, {}).items()
            for person, start, end in encounter.busy
        )

    def charged_visits(self, patient: str) -> Iterator[Visit]:
        """E/M visits that are charged, on the days of the charge: reported is reported (section 4, D11). A
        claim's line that names nobody tells nothing new of a day on which the chart holds a visit."""
        takes_part = self._terminology.takes_part
        for name, charge in self._intake.of(patient, fhir.ChargeItem).items():
            days = occurrence_of(charge, self._clock)
            if self._is_visit(charge) and charge.status not in NOT_CHARGED and days is not None:
                actors = [
                    performer.actor
                    for performer in charge.performer or ()
                    if takes_part(fhir.concepts(performer.function))
                ]
                yield from self._visit_of(patient, name, days, actors, [charge.seen_in])
        known = {
            day for fact in self._facts.get(patient, {}).values() if fact.visit for day in fact.visit.days
        }
        for name, claim, line in self._claimed(patient):
            days = days_of_line(line, claim.billablePeriod, self._clock)
            if self._is_visit(line) and days is not None:
                for visit in self._visit_of(
                    patient, name, days, who_claims(claim, takes_part), fhir.references_in(line.encounter)
                ):
                    if not visit.unnamed or known.isdisjoint(visit.days):
                        yield visit

    def _visit_of(
        self,
        patient: str,
        name: str,
        days: Window,
        actors: Iterable[fhir.Reference | None],
        contexts: Iterable[fhir.Reference | None],
    ) -> Iterator[Visit]:
        """The visit that a charge is for; of nobody known where neither it nor its Encounter says whose."""
        if days.start > self._as_of:
            return
        people = frozenset(
            member.person
            for actor in actors
            if actor is not None and (member := self._staff.member(actor)) is not None and member.person
        )
        unnamed = not people
        for context in contexts if unnamed else ():
            fact = self._facts.get(patient, {}).get(self._references.name(context, "Encounter") or "")
            if fact is not None and fact.visit is not None:
                people, unnamed = fact.visit.people, fact.visit.unnamed
        last = days.end if (days.end - days.start).days < 3 else days.start
        yield Visit(
            name,
            tuple(days.start + ONE_DAY * n for n in range((last - days.start).days + 1)),
            people,
            unnamed,
        )

    def _read(self, patient: str) -> dict[str, EncounterFacts]:
        billed = self._billed_elsewhere(patient)
        encounters = self._intake.of(patient, fhir.Encounter)
        same = one_encounter(encounters, self._clock, self._as_of)
        for names in same:
            if any(name in billed for name in names):
                billed |= dict.fromkeys(names, any(billed.get(name, False) for name in names))
        facts = {
            name: read_encounter(
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
        for names in same:
            facts |= as_one({name: facts[name] for name in names})
        return facts

    def _staff_of(self, encounter: fhir.Encounter) -> Callable[[fhir.Reference], StaffMember | None]:
        """Who a participant of this Encounter is, those whom it contains included."""
        if not encounter.contained:
            return self._staff.member
        contained, kinds = fhir.contained_in(encounter.contained), contained_kinds(encounter.contained)

        def member(reference: fhir.Reference) -> StaffMember | None:
            name = reference.reference or ""
            if not name.startswith("#"):
                return self._staff.member(reference)
            inner = contained.get(name[1:])
            if isinstance(inner, fhir.PractitionerRole | fhir.Practitioner):
                return self._staff.contained(inner)
            return self._staff.member(fhir.Reference(type=reference.type or kinds.get(name[1:])))

        return member

    def _billed_elsewhere(self, patient: str) -> dict[str, bool]:
        """Encounters that are the context of a charge which isn't ours; True where it is one for a visit."""
        found: dict[str, bool] = {}
        for charge in self._intake.of(patient, fhir.ChargeItem).values():
            context = self._references.name(charge.seen_in, "Encounter")
            if context is None or charge.status in NOT_CHARGED:
                continue
            ours = codes_of(charge, self._intake.codes).of(self._intake.codes.programs)
            visit = self._is_visit(charge)
            # A charge for a visit that only speaks of one of our codes is still one for a visit.
            if ours.coded or (ours.said and not visit):
                continue
            found[context] = found.get(context, False) or visit
        for _, _, line in self._claimed(patient):
            visit = self._is_visit(line)
            for encounter in fhir.references_in(line.encounter):
                if (context := self._references.name(encounter, "Encounter")) is not None:
                    found[context] = found.get(context, False) or visit
        return found

    def _claimed(
        self, patient: str
    ) -> Iterator[tuple[str, fhir.Claim | fhir.ExplanationOfBenefit, fhir.ClaimItem]]:
        """What is claimed of a patient that isn't ours, line by line, with the claim and its name."""
        claims: list[tuple[str, fhir.Claim | fhir.ExplanationOfBenefit]] = [
            *self._intake.of(patient, fhir.Claim).items(),
            *self._intake.of(patient, fhir.ExplanationOfBenefit).items(),
        ]
        for name, claim in claims:
            yield from ((name, claim, line) for line in lines_of_others(claim, self._intake.codes))

    def _is_visit(self, charge: fhir.ChargeItem | fhir.ClaimItem) -> bool:
        """Whether a charge is for a visit, wherever and however it says so (D29)."""
        code = charge.code if isinstance(charge, fhir.ChargeItem) else charge.claimed
        terms = self._terminology
        meaning = terms.encounter(fhir.concepts(code))
        if meaning is None:
            if codes_in(self._intake.codes, code).coded:
                # One of ours, whatever its words speak of.
                return False
            named = codes_in(terms.services, code, charge.extension).named
            return any(terms.service(number).activity is Activity.VISIT for number in named)
        return meaning.activity is Activity.VISIT

    def _is_late(self, encounter: fhir.Encounter) -> bool:
        began = self._clock.read(start_of(encounter))
        return isinstance(began, Moment) and began.day > self._as_of


def _about(encounter: fhir.Encounter, reason: ExcludedReason) -> About:
    """What a site would declare an Encounter by that nobody knows what it was: its type, else its class."""
    if reason is not ExcludedReason.ACTIVITY_NOT_CONFIGURED:
        return NOT_SAID
    return about_of([*encounter.kinds, *encounter.classes])
