"""Who may do what here, and in which EHR: one question, answered with a sentence where it is no.

Three things must agree: what kind of user the EHR says is signed in, what the EHR lets this app do, and what
the site lets somebody in that role do. Looking needs none of them, but is closed to patients and relatives;
everything else needs all.
"""

from __future__ import annotations

from enum import Enum

from flask import g

from fhir_mappings.vocabulary import Role
from launch.identity import UserKind, user_kind
from launch.ports import LaunchSession
from launch.scopes import Interaction, Scopes
from smartapp.configuration.site import Site
from smartapp.ehr.reading.findings import Findings, Writes
from smartapp.services import services
from smartapp.store.reading import Snapshot


class Action(Enum):
    """What a site grants by role. The values are the keys of `permissions` in site.yaml."""

    LOG = "log"
    """Log time and conversations, and sign them."""
    ACCEPT = "accept"
    """Accept a suggestion, update or replace it later, and state what the record does not show."""
    RESOLVE = "resolve"
    """Settle a reason for review, by a sentence or by a choice."""
    APPROVE = "approve"
    """Approve what somebody else accepted; certify a month and reopen it."""
    WITHDRAW = "withdraw"
    """Take back a suggestion that was written from here."""
    ENTER = "enter"
    """Say that a charge of the worksheet was entered in billing."""
    BILL = "bill"
    """See a month of charges of all patients, and keep what payers denied of them."""


DOING: dict[Action, str] = {
    Action.LOG: "log time",
    Action.ACCEPT: "accept charges",
    Action.RESOLVE: "settle what is for review",
    Action.APPROVE: "approve charges or certify months",
    Action.WITHDRAW: "withdraw charges",
    Action.ENTER: "say that charges were entered in billing",
    Action.BILL: "see the charges of all patients",
}

ROLES: dict[Role, str] = {
    Role.PHYSICIAN: "physician",
    Role.QUALIFIED_PROFESSIONAL: "qualified health care professional",
    Role.PHYSICAL_THERAPIST: "physical therapist",
    Role.OCCUPATIONAL_THERAPIST: "occupational therapist",
    Role.SPEECH_LANGUAGE_PATHOLOGIST: "speech-language pathologist",
    Role.THERAPIST_ASSISTANT: "therapist assistant",
    Role.CLINICAL_STAFF: "clinical staff",
    Role.NON_CLINICAL: "non-clinical staff",
    Role.UNKNOWN: "unknown",
}


def refusal(
    action: Action,
    session: LaunchSession,
    role: Role | None,
    site: Site,
    writes: Writes | None = None,
) -> str | None:
    """Why this session may not do this; None if it may. `role` None: the chart has not been read yet.
    `writes`: what the EHR takes, where it is known."""
    if not user_kind(session.fhir_user).may_charge:
        return "Charges can only be accepted by a clinician; the EHR did not say that one is signed in."
    if action is Action.WITHDRAW and (problem := refusal_of_update(session, writes)) is not None:
        return problem
    if role is None and session.patient is None:
        return (
            "No chart is open in this session, and the site's file does not say in which role you work. "
            "Whoever runs this app can settle it."
        )
    if role is None:
        return "The chart has not been read yet, so your role is not known here. Go back to the patient page."
    if role is Role.UNKNOWN:
        return (
            f"The EHR does not say in which role you work, so you can look but not {DOING[action]}. "
            "Whoever runs this app can settle it."
        )
    if role not in getattr(site.permissions, action.value):
        return (
            f"At this site your role ({ROLES[role]}) does not {DOING[action]}. "
            "You can see what is earned and why."
        )
    return None


def is_closed_to(session: LaunchSession) -> bool:
    """Whether a patient or a relative is signed in: nothing is read or shown for them. Somebody the EHR says
    nothing of may look, and sees nothing of any charge."""
    return user_kind(session.fhir_user) in {UserKind.PATIENT, UserKind.RELATED_PERSON, UserKind.PERSON}


def looking_refusal(session: LaunchSession) -> str | None:
    """Why this session may not even see what became of a charge."""
    if user_kind(session.fhir_user).may_charge:
        return None
    return "Charges are shown to clinicians only; the EHR did not say that one is signed in."


def refusal_of_update(session: LaunchSession, writes: Writes | None = None) -> str | None:
    """Why no charge can be changed in this session, whatever its user's role."""
    if not Scopes.parse(session.granted_scope).can("ChargeItem", Interaction.UPDATE):
        return "The EHR gave this app no permission to change charges (ChargeItem update)."
    if writes is not None and not writes.update:
        return "This EHR does not let charges be changed from here (it declares no ChargeItem update)."
    return None


def role_of(session: LaunchSession, site: Site, findings: Findings | None) -> Role | None:
    """In which role the signed-in user works: as the site's file says, else as the chart's staff records do.

    None where neither can be known yet, because no chart has been read.
    """
    named = site.role_of(session.issuer_id, session.fhir_user)
    if named is not None:
        return named
    return None if findings is None else findings.user_role


# In a request


def present_findings() -> tuple[Snapshot, Findings] | None:
    """The present snapshot of the request's session, understood once a request."""
    if "present_findings" not in g:
        g.present_findings = services().jobs.findings(g.session)
    found: tuple[Snapshot, Findings] | None = g.present_findings
    return found


def role_here() -> Role | None:
    """`role_of` for the session of this request."""
    found = present_findings()
    return role_of(g.session, services().site, None if found is None else found[1])


def refused_here(action: Action) -> str | None:
    """`refusal` for the session of this request."""
    return refusal(action, g.session, role_here(), services().site, writes_here())


def writes_here() -> Writes | None:
    """What the EHR of this request's session takes, as far as its reading knows."""
    found = present_findings()
    return None if found is None else found[1].writes
