"""Whose visits they were: only those of a program's people take anybody else's minutes (D11, D35)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from functools import cached_property

from fhir_mappings.local_time import LocalClock
from fhir_mappings.record import LiveContact, ManagementTime, PatientRecord, Visit
from fhir_mappings.vocabulary import PROFESSIONALS, Program, Role

_MAY_BE_STAFF = frozenset({Role.CLINICAL_STAFF, Role.UNKNOWN})
"""Whose minutes go with the visit of whoever they work for; who is unknown may be one of them."""
_MAY_VISIT = _MAY_BE_STAFF | PROFESSIONALS
"""Whose minutes hang on a visit of which nobody can tell whose it was. A therapist makes no E/M visit."""


class Visits:
    """A patient's E/M visits, as one program sees them.

    `performer`: whoever was chosen to perform the charge; they are one of the program's people too. `codes`:
    every code with its program (`KnownCodes`).
    """

    def __init__(
        self,
        record: PatientRecord,
        program: Program,
        clock: LocalClock,
        performer: str | None = None,
        *,
        codes: Mapping[str | None, Program],
    ) -> None:
        self._clock = clock
        self._by_day: dict[date, list[Visit]] = {}
        for visit in record.visits:
            for day in visit.days:
                self._by_day.setdefault(day, []).append(visit)
        self._unclear = {
            day for day, visits in self._by_day.items() if any(visit.unnamed for visit in visits)
        }
        self._beside = self._by_day.keys() | {contact.day for contact in record.contacts if contact.in_person}
        self._standing = _standing(record, program, codes) | ({performer} if performer else set())
        self._staff = self._monthly(record, program) if self._beside else {}
        self._practices: dict[str, set[tuple[str, str]]] = {}
        for one in record.practices:
            self._practices.setdefault(one.person, set()).add((one.organization, one.specialty))
        self._people: dict[tuple[int, int], frozenset[str]] = {}

    def on(self, day: date) -> bool:
        """Whether there was a visit of anybody."""
        return day in self._by_day

    @cached_property
    def first_by_program(self) -> date | None:
        """The day of the first visit to one of the program's people."""
        return min(filter(self.by_program, self._by_day), default=None)

    def takes(self, time: ManagementTime, day: date) -> bool:
        """Whether the work of this person is out on that day: it was their own visit, or that of one of the
        program's people, for whom clinical staff works."""
        visits = self._by_day.get(day)
        if not visits:
            return False
        if time.person is not None and any(time.person in visit.people for visit in visits):
            return True
        return time.role in _MAY_BE_STAFF and self.by_program(day)

    def by_program(self, day: date) -> bool:
        """Whether one of the program's people made a visit that day."""
        return any(self._are_of_program(visit.people, day) for visit in self._by_day.get(day, ()))

    def may_take(self, time: ManagementTime) -> bool:
        """Whether nobody can tell if one takes the work of this person: whose visit it was is not known."""
        if not self._unclear or time.role not in _MAY_VISIT:
            return False
        return not self._unclear.isdisjoint(self._days_of(time))

    def unclear(self, day: date) -> bool:
        """Whether nobody can tell whose visit it was that day."""
        return day in self._unclear

    def beside(self, times: Iterable[ManagementTime]) -> bool:
        """Whether anything face to face is known of a day on which one of these took place."""
        return bool(self._beside) and any(not self._beside.isdisjoint(self._days_of(time)) for time in times)

    def may_be_monitoring(self, contact: LiveContact) -> bool:
        """Whether a meeting may have been the month's conversation: it was with somebody who has another part
        in it, or with whom nobody can tell."""
        return contact.unnamed or self._are_of_program(contact.people, contact.day)

    def _are_of_program(self, people: frozenset[str], day: date) -> bool:
        ours = self._people_of((day.year, day.month))
        if not people.isdisjoint(ours):
            return True
        if not self._practices:
            return False
        theirs = self._practised_by(people)
        return bool(theirs) and not theirs.isdisjoint(self._practised_by(ours))

    def _practised_by(self, people: Iterable[str]) -> set[tuple[str, str]]:
        return {practice for person in people for practice in self._practices.get(person, ())}

    def _people_of(self, month: tuple[int, int]) -> frozenset[str]:
        if month not in self._people:
            self._people[month] = frozenset(self._standing | self._staff.get(month, set()))
        return self._people[month]

    def _monthly(self, record: PatientRecord, program: Program) -> dict[tuple[int, int], set[str]]:
        """By month, those whose time is counted to the program, whether or not a visit takes some of it."""
        found: dict[tuple[int, int], set[str]] = {}
        for time in record.management:
            if time.person is None or time.doubt is not None or time.program not in (program, Program.ANY):
                continue
            for day in self._days_of(time):
                found.setdefault((day.year, day.month), set()).add(time.person)
        return found

    def _days_of(self, time: ManagementTime) -> tuple[date, date]:
        """The local days on which it began and ended."""
        day_of = self._clock.day_of
        return day_of(time.start), day_of(max(time.start, time.end - 1))


def _standing(record: PatientRecord, program: Program, codes: Mapping[str | None, Program]) -> set[str]:
    """Who is of the program in any month: who ordered it, manages its care, or performed its charges."""
    found = {order.requester for order in record.orders if order.program is program}
    found |= {episode.care_manager for episode in record.episodes if episode.program in (None, program)}
    found |= {
        person
        for charge in record.charges
        if codes.get(charge.code) is program
        for person in charge.performers
    }
    return {person for person in found if person}
