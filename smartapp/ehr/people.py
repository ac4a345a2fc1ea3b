"""Who is signed in: the same person whichever resource or login names them."""

from __future__ import annotations

from launch.ports import LaunchSession
from smartapp.ehr.reading.findings import Findings


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


def same_person(session: LaunchSession, findings: Findings, user: str, subject: str) -> bool:
    """Whether the session's user is the person that `user` (fhirUser) and `subject` name: by the EHR's links
    between people and their roles, or by the login."""
    by_login = bool(subject) and subject_of(session) == subject
    return by_login or session.fhir_user in names_of(findings, user)
