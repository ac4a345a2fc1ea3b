"""Practitioner and PractitionerRole -> who somebody is and in which role they work."""

from __future__ import annotations

from fhir_mappings.encounter import UNKNOWN_STAFF, StaffMember
from fhir_mappings.identity import References
from fhir_mappings.resources import Practitioner, PractitionerRole, Reference, concepts
from fhir_mappings.terminology import StaffMeaning, Terminology
from fhir_mappings.vocabulary import Role

_DISCIPLINES = {
    Role.PHYSICAL_THERAPIST: "physical",
    Role.OCCUPATIONAL_THERAPIST: "occupational",
    Role.SPEECH_LANGUAGE_PATHOLOGIST: "speech",
}


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
            person = references.name(roles[name].practitioner, "Practitioner")
            if person is not None:
                self._roles_of.setdefault(person, []).append(name)
        self._known: dict[str, StaffMember] = {}

    def stated(self, role: PractitionerRole) -> StaffMember:
        """Somebody whom a contained PractitionerRole describes. What the EHR itself says of that person comes
        first; the contained role speaks where it says nothing, or tells which of several roles it was."""
        name = self._references.name(role.practitioner, "Practitioner")
        stated = self._terminology.staff(concepts(role.code, role.specialty))
        if name is None:
            return _member(None, stated)
        known = self._meanings(name)
        if not known:
            return _member(name, stated)
        if len(known) > 1:
            known = {meaning for meaning in known if stated is not None and meaning.role is stated.role}
        return _member(name, known.pop() if len(known) == 1 else None)

    def member(self, reference: Reference) -> StaffMember | None:
        """Who a participant is; None for a patient, a relative or a device, who are no staff."""
        name = self._references.name(reference, reference.type or "Practitioner")
        kind = (name or "").split("/", 1)[0] or (reference.type or "")
        if kind in ("Patient", "RelatedPerson", "Device"):
            return None
        if name is None:
            return UNKNOWN_STAFF
        if name not in self._known:
            self._known[name] = self._find(name)
        return self._known[name]

    def _find(self, name: str) -> StaffMember:
        role = self._roles.get(name)
        if role is not None:
            person = self._references.name(role.practitioner, "Practitioner")
            meaning = self._by_role(name) or self._by_qualification(person)
            return _member(person or name, meaning)
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
            if (found := self._by_role(role_name)) is not None
        }

    def _by_role(self, name: str) -> StaffMeaning | None:
        role = self._roles[name]
        return self._terminology.staff(concepts(role.code, role.specialty))

    def _by_qualification(self, name: str | None) -> StaffMeaning | None:
        practitioner = self._practitioners.get(name or "")
        if practitioner is None:
            return None
        return self._terminology.staff(
            concepts([part.code for part in practitioner.qualification or () if part.code is not None])
        )


def _member(person: str | None, meaning: StaffMeaning | None) -> StaffMember:
    if meaning is None:
        return StaffMember(person, Role.UNKNOWN)
    return StaffMember(person, meaning.role, meaning.discipline or _DISCIPLINES.get(meaning.role))
