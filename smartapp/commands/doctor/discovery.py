"""Discovery: the documents that say where to sign in, their endpoints, and who signs id_tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from launch.discovery import SmartConfiguration, checked_endpoint, oauth_uris, parse_configuration
from launch.errors import HttpError, LaunchError
from launch.issuers import Issuer
from launch.signed import parse_jwks
from launch.urls import UnsafeUrl, join_url, parse_url
from smartapp.commands.doctor.examination import UNREACHED, Examination, trouble
from smartapp.commands.doctor.ids import CheckId

_ENDPOINTS = (
    "authorization_endpoint",
    "token_endpoint",
    "jwks_uri",
    "revocation_endpoint",
    "introspection_endpoint",
)
_NEEDED = frozenset({"authorization_endpoint", "token_endpoint"})


class Found:
    """What discovery brought: the document as sent, and as the app understands it (None: it can't)."""

    def __init__(self, document: Mapping[str, Any], configuration: SmartConfiguration | None) -> None:
        self.document = document
        self.configuration = configuration

    def texts(self, name: str) -> frozenset[str]:
        """A member that is a list of texts; empty where it is anything else."""
        value = self.document.get(name)
        return (
            frozenset(item for item in value if isinstance(item, str))
            if isinstance(value, list)
            else frozenset()
        )


NOTHING = Found({}, None)


def check_discovery(exam: Examination, statement: Any) -> Found:
    """Read `.well-known/smart-configuration`; `statement` is the CapabilityStatement, or None."""
    answer = exam.oauth_get(f"{exam.issuer.fhir_base}/.well-known/smart-configuration")
    if isinstance(answer, HttpError):
        exam.checks.failure(
            CheckId.CONNECTION if answer.problem in UNREACHED else CheckId.DISCOVERY,
            trouble(answer, exam.issuer),
        )
        return Found({}, None)
    if answer.ok:
        try:
            document = answer.json_object()
        except HttpError as error:
            exam.checks.failure(CheckId.DISCOVERY, trouble(error, exam.issuer))
            return Found({}, None)
        exam.checks.ok(CheckId.DISCOVERY, ".well-known/smart-configuration is there")
        return _checked(exam, document, from_statement=False)
    return _from_statement(exam, statement, answer.status)


def _from_statement(exam: Examination, statement: Any, status: int) -> Found:
    document = oauth_uris(statement)
    if not document:
        exam.checks.failure(
            CheckId.DISCOVERY,
            f".well-known/smart-configuration answers {status}, and the CapabilityStatement has no "
            "oauth-uris: check fhir_base, and whether SMART is switched on for it",
        )
        return Found({}, None)
    exam.checks.warning(
        CheckId.DISCOVERY,
        f".well-known/smart-configuration answers {status}; the addresses come from the CapabilityStatement "
        "(SMART 1): what the server supports is not told, and v1 scopes are asked for",
    )
    return _checked(exam, document, from_statement=True)


def _checked(exam: Examination, document: Mapping[str, Any], *, from_statement: bool) -> Found:
    for name in _ENDPOINTS:
        _endpoint(exam, document, name)
    try:
        configuration = parse_configuration(document, exam.issuer, from_capability_statement=from_statement)
    except LaunchError:
        return Found(document, None)
    return Found(document, configuration)


def _endpoint(exam: Examination, document: Mapping[str, Any], name: str) -> None:
    """That an endpoint is there, https, and on a host that is listed: else no launch is begun."""
    try:
        endpoint = checked_endpoint(document, name, exam.issuer)
    except LaunchError:
        exam.checks.failure(CheckId.ENDPOINT, _why(document[name], exam.issuer), name)
        return
    if endpoint is not None:
        exam.checks.ok(CheckId.ENDPOINT, f"on {parse_url(endpoint).origin}", name)
    elif name in _NEEDED:
        exam.checks.failure(CheckId.ENDPOINT, "the server does not say where it is: nobody can sign in", name)


def _why(text: str, issuer: Issuer) -> str:
    """What is wrong with an endpoint. Of its address only the origin is repeated."""
    try:
        url = parse_url(join_url(issuer.fhir_base + "/", text))
    except UnsafeUrl as fault:
        return f"the address holds {fault}: the EHR's team must correct it"
    if url.scheme != "https":
        return f"{url.origin} is not https: the EHR's team must correct it"
    return (
        f"{url.origin} is not the FHIR server's host and not listed: add it to oauth_hosts if it is the "
        "EHR's; until then nobody can sign in"
    )


def check_launch(exam: Examination, found: Found) -> None:
    """What the server says about launches."""
    capabilities = found.texts("capabilities")
    if not capabilities:
        if found.configuration is not None:
            exam.checks.warning(CheckId.LAUNCH, "the server does not say what kinds of launch it supports")
        return
    missing = [
        what
        for name, what in (
            ("launch-ehr", "opening the app from a chart (launch-ehr)"),
            ("context-ehr-patient", "telling which patient the chart is (context-ehr-patient)"),
            ("sso-openid-connect", "telling who is signed in (sso-openid-connect)"),
        )
        if name not in capabilities
    ]
    if missing:
        exam.checks.warning(
            CheckId.LAUNCH,
            f"not advertised: {', '.join(missing)}; ask the EHR's team whether it works all the same",
        )
    else:
        exam.checks.ok(CheckId.LAUNCH, "EHR launch with patient and identity is advertised")


def check_identity(exam: Examination, found: Found) -> None:
    """Whose id_tokens are believed, and whether the keys to verify them can be read."""
    configuration = found.configuration
    if configuration is None:
        return
    expected = exam.issuer.oidc_issuer or configuration.issuer
    if expected is None:
        exam.checks.failure(
            CheckId.IDENTITY_ISSUER,
            "the server does not name its issuer: set oidc_issuer to the `iss` of its id_tokens, or nobody "
            "can write a charge",
        )
        return
    own = _openid_configuration(exam, expected)
    jwks_uri = configuration.jwks_uri if configuration.issuer == expected else None
    if isinstance(own, Mapping):
        if own.get("issuer") != expected:
            exam.checks.failure(
                CheckId.IDENTITY_ISSUER,
                "its openid-configuration names another issuer than the one that is expected: id_tokens will "
                "be refused; set oidc_issuer to what they carry as `iss`, and tell the EHR's team",
            )
            return
        exam.checks.ok(CheckId.IDENTITY_ISSUER, "the issuer of id_tokens is known and confirmed")
        jwks_uri = jwks_uri or (own["jwks_uri"] if isinstance(own.get("jwks_uri"), str) else None)
    elif jwks_uri:
        exam.checks.ok(CheckId.IDENTITY_ISSUER, "the issuer of id_tokens is known")
    else:
        exam.checks.failure(CheckId.IDENTITY_ISSUER, f"its openid-configuration can't be read: {own}")
        return
    _keys(exam, jwks_uri)


def _openid_configuration(exam: Examination, issuer: str) -> Mapping[str, Any] | str:
    """The document, or why there is none."""
    answer = exam.oauth_get(f"{issuer.rstrip('/')}/.well-known/openid-configuration")
    if isinstance(answer, HttpError):
        return trouble(answer, exam.issuer)
    try:
        return answer.require_ok().json_object()
    except HttpError as error:
        return trouble(error, exam.issuer)


def _keys(exam: Examination, address: str | None) -> None:
    if address is None:
        exam.checks.failure(CheckId.IDENTITY_KEYS, "the server does not say where its keys are (jwks_uri)")
        return
    answer = exam.oauth_get(address)
    try:
        document = {} if isinstance(answer, HttpError) else answer.require_ok().json_object()
    except HttpError as error:
        answer = error
        document = {}
    if isinstance(answer, HttpError):
        exam.checks.failure(
            CheckId.IDENTITY_KEYS, f"the keys of id_tokens can't be read: {trouble(answer, exam.issuer)}"
        )
        return
    keys = parse_jwks(document)
    nameless = [key for key in keys if not key.get("kid")]
    if not keys:
        exam.checks.failure(
            CheckId.IDENTITY_KEYS,
            "there is no key an id_token can be verified with (RSA of 2048 bits, or EC)",
        )
    elif len(keys) > 1 and nameless:
        exam.checks.warning(
            CheckId.IDENTITY_KEYS,
            "several keys, and not each has a `kid`: an id_token that names none is refused",
        )
    else:
        exam.checks.ok(CheckId.IDENTITY_KEYS, f"{len(keys)} usable")
