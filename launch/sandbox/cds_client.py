"""The sandbox as a CDS client (CDS Hooks 2.0): while a chart is opened it asks a service for cards.

It signs each request with the key of its id_tokens, and gives along a token that reads this one Patient.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import requests

from launch.sandbox.credentials import CredentialKind

if TYPE_CHECKING:
    from launch.sandbox.app import Sandbox

CLIENT_ID = "sandbox-cds-client"
_SECONDS = 300
_WAIT = 5


@dataclass(frozen=True)
class Answered:
    """The cards of every service for this hook; `problem`: why there are none, where somebody should know."""

    cards: tuple[dict[str, Any], ...] = ()
    problem: str = ""


def cds_issuer(base_url: str) -> str:
    """What the sandbox's tokens name as their issuer."""
    return f"{base_url}/cds-client"


def ask(sandbox: Sandbox, patient: str, user: str) -> Answered:
    """What the services say of a chart that is opened. Never raises for what they do."""
    address = sandbox.config.cds_url
    if address is None:
        return Answered()
    try:
        listed = requests.get(address, timeout=_WAIT, allow_redirects=False).json()
        services = [one["id"] for one in listed["services"] if one["hook"] == "patient-view"]
        cards: list[dict[str, Any]] = []
        for service in services:
            answer = requests.post(
                f"{address}/{service}",
                json=_call(sandbox, patient, user),
                headers={"Authorization": f"Bearer {_signed(sandbox, f'{address}/{service}')}"},
                timeout=_WAIT,
                allow_redirects=False,
            )
            if answer.status_code != 200:
                return Answered(problem=f"the service answered {answer.status_code}")
            cards += answer.json()["cards"]
    except (requests.RequestException, ValueError, KeyError, TypeError):
        return Answered(problem="the service did not answer as CDS Hooks says")
    return Answered(tuple(cards))


def _call(sandbox: Sandbox, patient: str, user: str) -> dict[str, Any]:
    scope = "patient/Patient.r"
    data = {"scope": scope, "context": {"user": user, "patient": patient}}
    token = sandbox.credentials.issue(CredentialKind.ACCESS, CLIENT_ID, data, _SECONDS)
    return {
        "hook": "patient-view",
        "hookInstance": secrets.token_hex(16),
        "fhirServer": sandbox.config.fhir_base,
        "fhirAuthorization": {
            "access_token": token,
            "token_type": "Bearer",
            "expires_in": _SECONDS,
            "scope": scope,
            "subject": CLIENT_ID,
            "patient": patient,
        },
        "context": {"userId": user, "patientId": patient},
    }


def _signed(sandbox: Sandbox, audience: str) -> str:
    now = int(sandbox.config.clock())
    return sandbox.config.key.sign(
        {
            "iss": cds_issuer(sandbox.config.base_url),
            "aud": audience,
            "iat": now,
            "exp": now + _SECONDS,
            "jti": secrets.token_urlsafe(24),
        }
    )
