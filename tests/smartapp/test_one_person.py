"""One person is one person, by whichever of the EHR's references or logins they come."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from smartapp.ehr.people import Who, names_of, who_is

FINDINGS = SimpleNamespace(
    people={"PractitionerRole/r1": "Practitioner/d1", "PractitionerRole/r2": "Practitioner/d1"}
)


@pytest.mark.parametrize("name", ["Practitioner/d1", "PractitionerRole/r1", "PractitionerRole/r2"])
def test_a_practitioner_and_all_their_roles_are_one_person(name):
    assert names_of(FINDINGS, name) == {"Practitioner/d1", "PractitionerRole/r1", "PractitionerRole/r2"}


def test_whom_no_record_links_is_somebody_by_themselves():
    assert names_of(FINDINGS, "Practitioner/d2") == {"Practitioner/d2"}


def who(user, login, by="Practitioner/d1", person="", findings=FINDINGS):
    session = SimpleNamespace(fhir_user=user, user_issuer="https://ehr.example", user_subject=login)
    confirmed = SimpleNamespace(
        confirmed_by=by, confirmed_by_person=person, confirmed_by_subject="https://ehr.example u1"
    )
    return who_is(session, findings, confirmed)


@pytest.mark.parametrize(
    ("user", "login", "found"),
    [
        ("PractitionerRole/r1", "u2", Who.THEY),
        ("Practitioner/d2", "u1", Who.THEY),
        ("Practitioner/d2", "u2", Who.ANOTHER),
    ],
)
def test_nobody_approves_their_own_under_another_reference_or_login(user, login, found):
    assert who(user, login) is found


@pytest.mark.parametrize(
    ("user", "by"),
    [
        ("PractitionerRole/r9", "Practitioner/d1"),
        ("Practitioner/d2", "PractitionerRole/r9"),
        ("PractitionerRole/r8", "PractitionerRole/r9"),
        ("https://other.example/PractitionerRole/r1", "Practitioner/d1"),
    ],
)
def test_a_role_that_leads_to_nobody_may_be_anybodys(user, by):
    assert who(user, "u2", by) is Who.NOT_TOLD


def test_whose_role_it_was_is_known_from_when_it_was_confirmed():
    assert who("Practitioner/d1", "u2", "PractitionerRole/r9", "Practitioner/d1") is Who.THEY
    assert who("Practitioner/d2", "u2", "PractitionerRole/r9", "Practitioner/d1") is Who.ANOTHER
