"""Practitioner and PractitionerRole -> who somebody is and in which role they work."""

from __future__ import annotations

from functools import cached_property

from fhir_mappings.encounter import UNKNOWN_STAFF, StaffMember
from fhir_mappings.identity import References, kind_said, last_segments, pointer
from fhir_mappings.record import Practice
from fhir_mappings.resources import Practitioner, PractitionerRole, Reference, concepts
from fhir_mappings.terminology import StaffMeaning, Terminology, canonical, coding_name
from fhir_mappings.terminology.systems import PROVIDERS
from fhir_mappings.vocabulary import DISCIPLINES, Role

_NO_STAFF = frozenset({"Patient", "RelatedPerson", "Device"})
_NO_PERSON = frozenset({"Organization", "Group", "HealthcareService", "CareTeam", "Location"})


class Staff:
    """The people of one set of resources. A Practitioner's role is found through a PractitionerRole that
    points to it, where its own qualification says none."""

    def __init__(
        self,
        practitioners: dict[str, Practitioner],
        roles: dict[str, PractitionerRole],
        terminology: Terminology,
        references: References,
    ) -> None:
        self._terminology = terminology
        self._references = references
        self._practitioners = practitioners
        self._roles = roles
        self._roles_of: dict[str, list[str]] = {}
        for name in sorted(roles):
            person = self._person(roles[name].practitioner)
            if person is not None:
                self._roles_of.setdefault(person, []).append(name)
        self._known: dict[str, StaffMember] = {}

    @cached_property
    def practices(self) -> tuple[Practice, ...]:
        """In which organisation and specialty each person works, where a role names both (D35). Where a role
        states no specialty, a provider taxonomy code under `code` names it."""
        found: set[Practice] = set()
        for role in self._roles.values():
            person = self._person(role.practitioner)
            organization = self._references.name(role.organization, "Organization")
            if person is None or organization is None:
                continue
            taxonomy = [coding for coding in concepts(role.code) if canonical(coding.system) == PROVIDERS]
            found |= {
                Practice(person, organization, coding_name(coding))
                for coding in [one for one in concepts(role.specialty) if one.code] or taxonomy
                if coding.code
            }
        return tuple(sorted(found))

    def contained(self, stated: PractitionerRole | Practitioner) -> StaffMember:
        """Somebody whom a contained resource describes. What the EHR itself says of that person comes first;
        the contained role speaks where it says nothing, or tells which of several roles it was."""
        if isinstance(stated, Practitioner):
            # Nobody else can point to it: whether it is somebody whom another record names can't be told.
            return _member(None, self._qualification(stated))
        return self._stated(stated)

    def _stated(self, role: PractitionerRole) -> StaffMember:
        name = self._person(role.practitioner)
        stated = self._of_role(role)
        if name is None:
            return _member(None, stated)
        known = self._meanings(name)
        if not known:
            return _member(name, stated)
        if len(known) > 1:
            known = {meaning for meaning in known if stated is not None and meaning.role is stated.role}
        return _member(name, known.pop() if len(known) == 1 else None)

    def member(self, reference: Reference) -> StaffMember | None:
        """Who a participant is; None for a patient, a relative or a device, who are no staff (D30)."""
        name = self._person(reference)
        kinds = {kind_said(reference)}
        if reference.reference and name is not None:
            kinds.add(last_segments(name).split("/", 1)[0])
        if kinds & _NO_STAFF:
            return None
        if name is None or kinds & _NO_PERSON:
            return UNKNOWN_STAFF
        if name not in self._known:
            self._known[name] = self._find(name)
        return self._known[name]

    def _person(self, reference: Reference | None) -> str | None:
        """One name for one person: where only an identifier is known, and of nobody in this chart, that."""
        pointed = pointer(reference, (reference and reference.type) or "Practitioner")
        if not pointed or pointed.startswith("#"):
            # "#p" is somebody else in each Encounter.
            return None
        return self._references.resolve(pointed) or pointed

    def _find(self, name: str) -> StaffMember:
        role = self._roles.get(name)
        if role is not None:
            person = self._person(role.practitioner)
            meaning = self._terminology.staff(concepts(role.code)) or self._by_qualification(person)
            return _member(person or name, meaning or self._of_role(role))
        meanings = self._meanings(name)
        # Somebody who is a physician in one role and something else in another: nobody can tell in
        # which of them they acted.
        return _member(name, meanings.pop() if len(meanings) == 1 else None)

    def _meanings(self, name: str) -> set[StaffMeaning]:
        """The roles that the EHR knows a person in: the one of their qualification, else all of theirs."""
        meaning = self._by_qualification(name)
        if meaning is not None:
            return {meaning}
        return {
            found
            for role_name in self._roles_of.get(name, ())
            if (found := self._of_role(self._roles[role_name])) is not None
        }

    def _of_role(self, role: PractitionerRole) -> StaffMeaning | None:
        """What a role says: its code; else its specialty, which may be that of the department."""
        staff = self._terminology.staff
        return staff(concepts(role.code)) or staff(concepts(role.specialty))

    def _by_qualification(self, name: str | None) -> StaffMeaning | None:
        practitioner = self._practitioners.get(name or "")
        return None if practitioner is None else self._qualification(practitioner)

    def _qualification(self, practitioner: Practitioner) -> StaffMeaning | None:
        return self._terminology.staff(
            concepts([part.code for part in practitioner.qualification or () if part.code is not None])
        )


def _member(person: str | None, meaning: StaffMeaning | None) -> StaffMember:
    if meaning is None:
        return StaffMember(person, Role.UNKNOWN)
    return StaffMember(person, meaning.role, meaning.discipline or DISCIPLINES.get(meaning.role))
