"""One person is one person, by whichever of the EHR's references or logins they come."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from smartapp.ehr.people import names_of, same_person

FINDINGS = SimpleNamespace(
    people={"PractitionerRole/r1": "Practitioner/d1", "PractitionerRole/r2": "Practitioner/d1"}
)


@pytest.mark.parametrize("name", ["Practitioner/d1", "PractitionerRole/r1", "PractitionerRole/r2"])
def test_a_practitioner_and_all_their_roles_are_one_person(name):
    assert names_of(FINDINGS, name) == {"Practitioner/d1", "PractitionerRole/r1", "PractitionerRole/r2"}


def test_whom_no_record_links_is_somebody_by_themselves():
    assert names_of(FINDINGS, "Practitioner/d2") == {"Practitioner/d2"}


@pytest.mark.parametrize(
    ("user", "login", "same"),
    [
        ("PractitionerRole/r1", "u2", True),
        ("Practitioner/d2", "u1", True),
        ("Practitioner/d2", "u2", False),
    ],
)
def test_nobody_approves_their_own_under_another_reference_or_login(user, login, same):
    session = SimpleNamespace(fhir_user=user, user_issuer="https://ehr.example", user_subject=login)
    assert same_person(session, FINDINGS, "Practitioner/d1", "https://ehr.example u1") is same
