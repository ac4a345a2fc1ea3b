"""What was charged, ordered, agreed to and insured: the papers of one patient, each kind read on its own.

Every function returns what it found and what it left out.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from datetime import date
from typing import TypeVar

from msgspec.structs import replace

from fhir_mappings import resources as fhir
from fhir_mappings.charge_numbers import numbers_in, numbers_in_code
from fhir_mappings.chart.intake import Intake
from fhir_mappings.identity import References
from fhir_mappings.local_time import LocalClock, Moment, Window
from fhir_mappings.prior_charge import (
    NOT_CHARGED,
    NOT_CLAIMED,
    days_of,
    days_of_line,
    occurrence_of,
    read_charge,
    read_claim,
    who_claims,
)
from fhir_mappings.record import (
    Agreement,
    Diagnosis,
    EpisodeOfCare,
    Excluded,
    Insurance,
    Order,
    PriorCharge,
    Surgery,
)
from fhir_mappings.staff import Staff
from fhir_mappings.terminology import Terminology, canonical
from fhir_mappings.terminology.procedures import is_surgery_code, may_be_surgery
from fhir_mappings.terminology.systems import ICD_10_CM
from fhir_mappings.vocabulary import ExcludedReason, Program

_Found = TypeVar("_Found")
Mapped = tuple[tuple[_Found, ...], tuple[Excluded, ...]]

_OTHER_CONSENTS = frozenset({"adr", "research", "patient-privacy"})
"""Scopes of consents to something else than care: advance directives, studies, who may see the record."""
_DIRECTIVES = frozenset({"acd", "dnr", "emrgonly", "hcd", "polst"})
_STUDIES = frozenset({"research", "rsdid", "rsreid"})
_DISCLOSURES = frozenset(
    {"npp", "icol", "idscl", "infa", "infao", "infaso", "irdscl", "57016-8", "57017-6", "64292-6"}
)
_OTHER_CATEGORIES = _DIRECTIVES | _STUDIES | _DISCLOSURES
"""The same by FHIR's codes of `category`, LOINC's among them, in small letters."""
_NO_PLANS = frozenset({"proposal", "option"})
"""Intents of a CarePlan that nobody has decided on."""
_DONE = frozenset({"completed", "in-progress"})
_ACTIVE = frozenset({"active", "recurrence", "relapse"})
_OVER = frozenset({"inactive", "remission", "resolved"})
_NOT_BELIEVED = frozenset({"unconfirmed", "provisional", "differential", "refuted", "entered-in-error"})
"""No payer takes for a diagnosis what is only thought of."""
_EPISODE_STATUSES = frozenset({"active", "onhold", "finished"})
_ORDER_STATUSES = frozenset({"active", "completed"})
_ORDER_INTENTS = frozenset({"order", "original-order", "reflex-order", "filler-order", "instance-order"})


class DocumentMapper:
    """Reads the papers of one intake's patients, as of a day."""

    def __init__(
        self, intake: Intake, terminology: Terminology, clock: LocalClock, as_of: date, staff: Staff
    ) -> None:
        self._intake = intake
        self._terminology = terminology
        self._clock = clock
        self._as_of = as_of
        self._staff = staff

    def charges(self, patient: str) -> Mapped[PriorCharge]:
        found: list[PriorCharge] = []
        left_out: list[Excluded] = []
        for name, read in self._charges(patient):
            if isinstance(read, ExcludedReason):
                left_out.append(Excluded(name, read))
                continue
            for one in read:
                if one.occurrence is not None and one.occurrence.start > self._as_of:
                    left_out.append(Excluded(name, ExcludedReason.AFTER_AS_OF))
                else:
                    found.append(one)
        found += [charge for subject in self._intake.subjects(patient) for charge in subject.lost_charges]
        return tuple(sorted(found, key=lambda charge: (charge.code, charge.resource))), tuple(left_out)

    def _charges(self, patient: str) -> Iterator[tuple[str, tuple[PriorCharge, ...] | ExcludedReason]]:
        """What each paper that may tell of charges says, by its name."""
        of, clock = self._intake.of, self._clock
        for name, charge in of(patient, fhir.ChargeItem).items():
            actors = [performer.actor for performer in charge.performer or ()]
            yield name, self._performed_by(actors, read_charge(charge, name, clock, self._intake.codes))
        claims: list[tuple[str, fhir.Claim | fhir.ExplanationOfBenefit]] = [
            *of(patient, fhir.Claim).items(),
            *of(patient, fhir.ExplanationOfBenefit).items(),
        ]
        for name, claim in claims:
            read = read_claim(claim, name, clock, self._intake.codes)
            yield name, self._performed_by(who_claims(claim), read)

    def _performed_by(
        self,
        actors: Iterable[fhir.Reference | None],
        read: tuple[PriorCharge, ...] | ExcludedReason,
    ) -> tuple[PriorCharge, ...] | ExcludedReason:
        people = tuple(sorted({person for actor in actors if (person := self._person(actor))}))
        if not people or isinstance(read, ExcludedReason):
            return read
        return tuple(replace(one, performers=people) for one in read)

    def episodes(self, patient: str) -> Mapped[EpisodeOfCare]:
        found: list[EpisodeOfCare] = []
        left_out: list[Excluded] = []
        for name, episode in self._intake.of(patient, fhir.EpisodeOfCare).items():
            period = episode.period or fhir.Period()
            if episode.status not in _EPISODE_STATUSES:
                left_out.append(Excluded(name, _inactive(episode.status)))
            elif self._is_late(period.start):
                left_out.append(Excluded(name, ExcludedReason.AFTER_AS_OF))
            else:
                manager = self._person(episode.careManager)
                found.append(
                    EpisodeOfCare(name, self._day(period.start), self._day(period.end), care_manager=manager)
                )
        return tuple(found), tuple(left_out)

    def consents(self, patient: str) -> Mapped[Agreement]:
        found: list[Agreement] = []
        left_out: list[Excluded] = []
        for name, consent in self._intake.of(patient, fhir.Consent).items():
            if _is_to_something_else(consent):
                continue
            since = consent.dateTime or consent.in_force.start
            if consent.status != "active" or consent.denies:
                left_out.append(Excluded(name, _inactive(consent.status)))
            elif self._is_late(since):
                left_out.append(Excluded(name, ExcludedReason.AFTER_AS_OF))
            else:
                ends = self._day(consent.in_force.end)
                found.append(Agreement(resource=name, day=self._day(since), until=ends))
        return tuple(found), tuple(left_out)

    def orders(self, patient: str) -> Mapped[Order]:
        found: list[Order] = []
        left_out: list[Excluded] = []
        for name, order in self._intake.of(patient, fhir.ServiceRequest).items():
            program = self._program_ordered(order)
            if program is None:
                continue
            if (
                order.status not in _ORDER_STATUSES
                or order.intent not in _ORDER_INTENTS
                or order.doNotPerform
            ):
                left_out.append(Excluded(name, _inactive(order.status)))
            elif self._is_late(order.authoredOn):
                left_out.append(Excluded(name, ExcludedReason.AFTER_AS_OF))
            else:
                begins = [self._day(text) for text in (order.authoredOn, order.in_force.start)]
                found.append(
                    Order(
                        resource=name,
                        program=program,
                        day=max((day for day in begins if day is not None), default=None),
                        until=self._day(order.in_force.end),
                        requester=self._person(order.requester),
                    )
                )
        return tuple(found), tuple(left_out)

    def _program_ordered(self, order: fhir.ServiceRequest) -> Program | None:
        """The program whose code an order names, however it is written there; else that of what it orders."""
        known = self._intake.codes
        of_code = [order.code, order.code and order.code.concept]
        codings = fhir.concepts(*of_code, order.orderDetail)
        numbers = [number for coding in codings for number in numbers_in_code(coding.code or "", known)]
        words = [*(coding.display for coding in codings), *(concept.text for concept in of_code if concept)]
        numbers += [number for text in words for number in numbers_in(text or "", known)]
        named = (known.programs[number] for number in numbers if number in known.programs)
        return next(named, None) or self._terminology.program_of(codings)

    def care_plans(self, patient: str) -> Mapped[Agreement]:
        found: list[Agreement] = []
        left_out: list[Excluded] = []
        for name, plan in self._intake.of(patient, fhir.CarePlan).items():
            period = plan.period or fhir.Period(plan.created)
            if plan.status not in _ORDER_STATUSES or plan.intent in _NO_PLANS:
                left_out.append(Excluded(name, _inactive(plan.status)))
            elif self._is_late(period.start):
                left_out.append(Excluded(name, ExcludedReason.AFTER_AS_OF))
            else:
                begins, ends = self._day(period.start), self._day(period.end)
                found.append(Agreement(resource=name, day=begins, until=ends))
        return tuple(found), tuple(left_out)

    def surgeries(self, patient: str) -> Mapped[Surgery]:
        """What may have been a surgery with a global period, from Procedures and from charges (D36)."""
        found: list[Surgery] = []
        left_out: list[Excluded] = []
        for name, done in self._intake.of(patient, fhir.Procedure).items():
            if done.status not in _DONE:
                continue
            period = done.performedPeriod or fhir.Period(done.performedDateTime, done.performedDateTime)
            if self._is_late(period.start):
                left_out.append(Excluded(name, ExcludedReason.AFTER_AS_OF))
            elif may_be_surgery(fhir.concepts(done.code), fhir.concepts(done.category)):
                days = days_of(period, self._clock)
                if days is not None and done.status == "in-progress" and period.end is None:
                    # It is not over: the days after it have not begun.
                    days = Window(days.start, date.max)
                found.append(Surgery(name, days))
        for name, charge in self._intake.of(patient, fhir.ChargeItem).items():
            codings = [*fhir.concepts(charge.code), *fhir.codings_in(charge.extension)]
            if charge.status not in NOT_CHARGED and any(map(is_surgery_code, codings)):
                found.append(Surgery(name, occurrence_of(charge, self._clock)))
        claims: list[tuple[str, fhir.Claim | fhir.ExplanationOfBenefit]] = [
            *self._intake.of(patient, fhir.Claim).items(),
            *self._intake.of(patient, fhir.ExplanationOfBenefit).items(),
        ]
        for name, claim in claims:
            found += [
                Surgery(name, days_of_line(item, claim.billablePeriod, self._clock))
                for item in claim.item or ()
                if claim.status not in NOT_CLAIMED and any(map(is_surgery_code, fhir.concepts(item.claimed)))
            ]
        so_far = tuple(one for one in found if one.days is None or one.days.start <= self._as_of)
        return so_far, tuple(left_out)

    def diagnoses(self, patient: str) -> Mapped[Diagnosis]:
        """Conditions that somebody has now, by their ICD-10-CM codes (D40)."""
        found: list[Diagnosis] = []
        left_out: list[Excluded] = []
        for name, condition in self._intake.of(patient, fhir.Condition).items():
            onset = condition.onsetDateTime or (condition.onsetPeriod and condition.onsetPeriod.start)
            dates = [text for text in (onset, condition.recordedDate) if text]
            if any(self._is_late(text) for text in dates):
                left_out.append(Excluded(name, ExcludedReason.AFTER_AS_OF))
            elif _is_active(condition):
                since = max(map(self._clock.latest_day, dates), default=None)
                found += [
                    Diagnosis(name, coding.code.strip().upper().replace(".", ""), since)
                    for coding in fhir.concepts(condition.code)
                    if canonical(coding.system) == ICD_10_CM and coding.code
                ]
        return tuple(found), tuple(left_out)

    def insurances(self, patient: str) -> Mapped[Insurance]:
        """The active Coverages, whenever they are in force; none where the site declared none. One that the
        site doesn't know is of an unknown payer."""
        if not self._terminology.knows_coverages:
            return (), ()
        found: list[Insurance] = []
        left_out: list[Excluded] = []
        for name, coverage in self._intake.of(patient, fhir.Coverage).items():
            if coverage.status not in (None, "active"):
                left_out.append(Excluded(name, _inactive(coverage.status)))
                continue
            period = coverage.period or fhir.Period()
            payer = self._terminology.payer(
                fhir.concepts(coverage.type), _payors(coverage.payor or [], self._intake.references)
            )
            order = coverage.order if coverage.order is not None else sys.maxsize
            found.append(Insurance(order, payer, self._day(period.start), self._day(period.end)))
        return tuple(found), tuple(left_out)

    def death(self, patient: str) -> tuple[Moment | None, bool]:
        """When somebody died, by the day that is asked about; and whether on a day that nobody knows."""
        found: list[Moment] = []
        unknown = False
        # Who was replaced is the same person: what any of their records says holds.
        for person in self._intake.of(patient, fhir.Patient).values():
            moment = self._clock.read(person.deceasedDateTime)
            if not isinstance(moment, Moment):
                unknown |= bool(person.deceasedBoolean) or bool(person.deceasedDateTime)
            elif moment.date_only:
                # Only the day is known: what was measured on it may have been measured before.
                found.append(Moment(moment.day, self._clock.day_span(moment.day)[1] - 1, date_only=True))
            else:
                found.append(moment)
        first = min(found, key=lambda moment: moment.instant, default=None)
        if first is None:
            return None, unknown
        return (first, False) if first.day <= self._as_of else (None, False)

    def _person(self, reference: fhir.Reference | None) -> str | None:
        """Whom a paper names, under the name that they have in every other record."""
        member = None if reference is None else self._staff.member(reference)
        return None if member is None else member.person

    def _is_late(self, text: str | None) -> bool:
        moment = self._clock.read(text)
        return isinstance(moment, Moment) and moment.day > self._as_of

    def _day(self, text: str | None) -> date | None:
        moment = self._clock.read(text)
        return moment.day if isinstance(moment, Moment) else None


def _is_to_something_else(consent: fhir.Consent) -> bool:
    """Its scope says so, or all its categories do."""
    if any(coding.code in _OTHER_CONSENTS for coding in fhir.concepts(consent.scope)):
        return True
    categories = [coding.code.lower() for coding in fhir.concepts(consent.category) if coding.code]
    return bool(categories) and _OTHER_CATEGORIES.issuperset(categories)


def _is_active(condition: fhir.Condition) -> bool:
    """It says so itself: without a clinical status nobody can tell what was from what is. A reason of the
    payer stands until something proves it met, so the error is a question that need not have been asked."""
    clinical = {coding.code for coding in fhir.concepts(condition.clinicalStatus)}
    verified = {coding.code for coding in fhir.concepts(condition.verificationStatus)}
    says_so = bool(clinical & _ACTIVE) and not clinical & _OVER and not condition.abated
    return says_so and not verified & _NOT_BELIEVED


def _payors(payors: Iterable[fhir.Reference], references: References) -> list[fhir.Coding | str]:
    """What a site may know a payor by: its identifier, or the reference to it."""
    found: list[fhir.Coding | str] = []
    for payor in payors:
        if payor.identifier is not None and payor.identifier.value:
            found.append(fhir.Coding(payor.identifier.system, payor.identifier.value))
        if payor.reference:
            found.append(references.short(payor.reference) or payor.reference)
    return found


def _inactive(status: str | None) -> ExcludedReason:
    return ExcludedReason.ENTERED_IN_ERROR if status == "entered-in-error" else ExcludedReason.NOT_ACTIVE
