"""The role somebody works in, where Practitioner and PractitionerRole say several things (D14, D35)."""

from __future__ import annotations

from typing import Any

import pytest

from fhir_mappings.identity import References
from fhir_mappings.resources import (
    CodeableConcept,
    Coding,
    Practitioner,
    PractitionerRole,
    Qualification,
    Reference,
)
from fhir_mappings.staff import Staff
from fhir_mappings.terminology import Terminology, load_terminology
from fhir_mappings.vocabulary import Role

NUCC = "http://nucc.org/provider-taxonomy"
DEGREES = "http://terminology.hl7.org/CodeSystem/v2-0360"
SOMEBODY = "Practitioner/x"
CARDIOLOGY, NURSE_TAXONOMY, PT, OT, OTA = "207RC0000X", "163W00000X", "225100000X", "225X00000X", "224Z00000X"


def concept(*codes: str) -> CodeableConcept:
    return CodeableConcept(tuple(Coding(NUCC if len(code) == 10 else DEGREES, code) for code in codes))


def role_of(
    terminology: Terminology, *qualified: str, by: str = SOMEBODY, **role: Any
) -> tuple[Role, str | None]:
    person = Practitioner(id="x", qualification=[Qualification(code=concept(code)) for code in qualified])
    roles = {"PractitionerRole/r": PractitionerRole(id="r", practitioner=Reference(SOMEBODY), **role)}
    staff = Staff({SOMEBODY: person}, roles if role else {}, terminology, References())
    found = staff.member(Reference(by))
    assert found is not None
    return found.role, found.discipline


@pytest.mark.parametrize("turned_round", [False, True])
@pytest.mark.parametrize(
    ("qualified", "role"),
    [
        (("RN", "NP"), Role.QUALIFIED_PROFESSIONAL),
        (("RN", "MD"), Role.PHYSICIAN),
        (("NP", "MD"), Role.PHYSICIAN),
        (("SEC", "RN"), Role.CLINICAL_STAFF),
        (("SEC", PT), Role.PHYSICAL_THERAPIST),
        (("RN", NURSE_TAXONOMY), Role.CLINICAL_STAFF),
        ((OT, OTA), Role.OCCUPATIONAL_THERAPIST),
        ((PT, OTA), Role.UNKNOWN),
        ((PT, OT), Role.UNKNOWN),
        (("RN", PT), Role.UNKNOWN),
        (("MD", PT), Role.UNKNOWN),
    ],
)
def test_of_several_licences_the_one_that_holds_the_others_speaks(
    terminology: Terminology, qualified: tuple[str, ...], role: Role, turned_round: bool
) -> None:
    assert role_of(terminology, *(qualified[::-1] if turned_round else qualified))[0] is role


@pytest.mark.parametrize("by", [SOMEBODY, "PractitionerRole/r"])
def test_a_licence_goes_before_the_specialty_of_a_role(terminology: Terminology, by: str) -> None:
    specialty = [concept(CARDIOLOGY)]
    assert role_of(terminology, "RN", by=by, specialty=specialty)[0] is Role.CLINICAL_STAFF
    assert role_of(terminology, by=by, specialty=specialty)[0] is Role.PHYSICIAN
    coded = role_of(terminology, by=by, code=[concept(NURSE_TAXONOMY)], specialty=specialty)
    assert coded[0] is Role.CLINICAL_STAFF


@pytest.mark.parametrize("turned_round", [False, True])
@pytest.mark.parametrize(
    ("role", "discipline"),
    [
        ("physical-therapist", "physical"),
        ("occupational-therapist", "occupational"),
        ("speech-language-pathologist", "speech"),
    ],
)
def test_of_two_codes_of_one_role_the_one_that_names_its_discipline_speaks(
    role: str, discipline: str, turned_round: bool
) -> None:
    codes = [
        {"system": NUCC, "code": "A", "role": role},
        {"system": NUCC, "code": "B", "role": role, "discipline": discipline},
    ]
    codings = [Coding(NUCC, code) for code in ("BA" if turned_round else "AB")]
    meaning = load_terminology({"staff": codes}).staff(codings)
    assert meaning is not None
    assert (meaning.role, meaning.discipline) == (role, discipline)
