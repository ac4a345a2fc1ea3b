"""Who is signed in: the same person whichever resource or login names them."""

from __future__ import annotations

from enum import Enum
from typing import Protocol

from launch.identity import UserKind, user_kind
from launch.ports import LaunchSession
from smartapp.ehr.reading.findings import Findings


class Confirmed(Protocol):
    """What is kept of who confirmed something."""

    @property
    def confirmed_by(self) -> str: ...
    @property
    def confirmed_by_person(self) -> str: ...
    @property
    def confirmed_by_subject(self) -> str: ...


class Who(Enum):
    """Whether the session's user is who confirmed something."""

    THEY = "they"
    ANOTHER = "another"
    NOT_TOLD = "not-told"
    """The EHR does not say whose role one of them is: they may be one person."""


def subject_of(session: LaunchSession) -> str:
    """The login of a session's user: one and the same for one person, whichever resource names them."""
    return f"{session.user_issuer} {session.user_subject}" if session.user_subject else ""


def name_of_user(session: LaunchSession, findings: Findings) -> str:
    """What the EHR or the chart calls the session's user; empty where neither names them."""
    people = findings.choices.practitioners
    named = next((person.text for person in people if person.reference == session.fhir_user), "")
    return session.user_name or named


def names_of(findings: Findings, reference: str) -> frozenset[str]:
    """Every reference that means the same person, by the EHR's own links: a Practitioner and all their
    PractitionerRoles."""
    person = findings.people.get(reference, reference)
    return frozenset({reference, person, *(name for name, of in findings.people.items() if of == person)})


def person_of(findings: Findings, reference: str) -> str:
    """The Practitioner whom a reference to staff means; "" where no record says whose role it is."""
    person = findings.people.get(reference, reference)
    return person if user_kind(person) is UserKind.PRACTITIONER else ""


def who_is(session: LaunchSession, findings: Findings, confirmed: Confirmed) -> Who:
    """By the login, by the reference, and by the person behind a role, as the EHR said it then or says it
    now. That two are two must be shown: a role that leads to nobody may be anybody's."""
    subject, mine = confirmed.confirmed_by_subject, person_of(findings, session.fhir_user or "")
    theirs = confirmed.confirmed_by_person or person_of(findings, confirmed.confirmed_by)
    same = session.fhir_user == confirmed.confirmed_by or (bool(mine) and mine == theirs)
    if same or (subject and subject_of(session) == subject):
        return Who.THEY
    return Who.ANOTHER if mine and theirs else Who.NOT_TOLD
