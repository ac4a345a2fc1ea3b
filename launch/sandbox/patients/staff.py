"""The synthetic practice: one organization, its payer, and the people who work there."""

from __future__ import annotations

from typing import Any, NamedTuple

from launch.sandbox.patients.codes import NUCC, coding, concept

PRACTICE = "Organization/synthetic-practice"
PAYER = "Organization/synthetic-payer"


class Person(NamedTuple):
    """Somebody of the practice; ``id`` is the Practitioner's, ``taxonomy`` a NUCC code."""

    id: str
    given: str
    family: str
    taxonomy: str
    role: str

    @property
    def reference(self) -> str:
        return f"Practitioner/{self.id}"

    @property
    def name(self) -> str:
        return f"{self.given} {self.family}"


PHYSICIAN = Person(
    "syn-physician", "Avery", "Synthetic-Physician", "207Q00000X", "Physician, family medicine"
)
PULMONOLOGIST = Person("syn-pulmonologist", "Blake", "Synthetic-Lungs", "207RP1001X", "Physician, lungs")
NURSE = Person("syn-nurse", "Casey", "Synthetic-Nurse", "163W00000X", "Registered nurse")
THERAPIST = Person("syn-therapist", "Devon", "Synthetic-Therapist", "225100000X", "Physical therapist")
ASSISTANT = Person(
    "syn-assistant", "Emery", "Synthetic-Assistant", "225200000X", "Physical therapist assistant"
)
PSYCHOLOGIST = Person("syn-psychologist", "Finley", "Synthetic-Psychologist", "103TC0700X", "Psychologist")
STAFF = (PHYSICIAN, PULMONOLOGIST, NURSE, THERAPIST, ASSISTANT, PSYCHOLOGIST)

#: Who can be chosen on the launch page.
USERS = (PHYSICIAN, NURSE, THERAPIST)


def practice() -> list[dict[str, Any]]:
    """Organization, payer, Practitioners and their roles."""
    found: list[dict[str, Any]] = [
        {"resourceType": "Organization", "id": PRACTICE[13:], "active": True, "name": "Synthetic Practice"},
        {"resourceType": "Organization", "id": PAYER[13:], "active": True, "name": "Synthetic Medicare"},
    ]
    for person in STAFF:
        role = concept(coding(NUCC, person.taxonomy, person.role))
        found.append(
            {
                "resourceType": "Practitioner",
                "id": person.id,
                "identifier": [{"system": "urn:sandbox:staff", "value": person.id.upper()}],
                "active": True,
                "name": [{"family": person.family, "given": [person.given]}],
                "qualification": [{"code": role}],
            }
        )
        found.append(
            {
                "resourceType": "PractitionerRole",
                "id": f"{person.id}-role",
                "active": True,
                "practitioner": {"reference": person.reference, "display": person.name},
                "organization": {"reference": PRACTICE},
                "code": [role],
            }
        )
    return found
