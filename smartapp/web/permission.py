"""Who may write charges, and into which EHR: one question, answered with a sentence where it is no."""

from __future__ import annotations

from launch.identity import user_kind
from launch.issuers import Issuer
from launch.ports import LaunchSession
from launch.profiles import WriteRung
from launch.scopes import Interaction, Scopes


def charging_refusal(session: LaunchSession, issuer: Issuer) -> str | None:
    """Why this session cannot write charges; None if it can."""
    if not user_kind(session.fhir_user).may_charge:
        return "Charges can only be accepted by a clinician; the EHR did not say that one is signed in."
    if not Scopes.parse(session.granted_scope).can("ChargeItem", Interaction.CREATE):
        return "The EHR gave this app no permission to write charges (ChargeItem create)."
    if issuer.profile.write_rung is WriteRung.ORACLE_CREATE:
        return "This EHR takes charges only through an operation of its own, which this app does not speak."
    return None
