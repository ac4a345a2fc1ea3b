"""What an EHR's team must know of this app: the registration sheet, from the settings and the issuers file.

What each permission is for is said here once, for the sheet and for `smartapp doctor`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from launch.issuers import ClientAuth, Issuer
from launch.ports import LaunchKind
from launch.profiles import ScopeStyle
from launch.scopes import FEATURE_SCOPES, Feature, Interaction, parse_scope, request_scope

APP_NAME = "Smart Remote Monitoring"


@dataclass(frozen=True, slots=True)
class Purpose:
    """What a permission is for, and what is the case without it."""

    serves: str
    without: str


PURPOSES: dict[Feature, Purpose] = {
    Feature.IDENTITY: Purpose(
        "who is signed in: the role decides what somebody may do, and the audit trail names them",
        "nobody can write a charge",
    ),
    Feature.PATIENT_BANNER: Purpose("whose chart it is, on every page", "the chart is not opened"),
    Feature.READINGS: Purpose("the readings that monitoring days are counted from", "no day is counted"),
    Feature.DEVICES: Purpose(
        "which device a reading comes from", "days whose device is unknown are for review"
    ),
    Feature.CONTACTS: Purpose(
        "conversations and the minutes around them", "monthly codes rest on the app's own time log alone"
    ),
    Feature.PRIOR_CHARGES: Purpose(
        "charges that were made already, so that nothing is charged twice",
        "somebody must confirm for every charge that there is none, and a lost answer cannot be looked up",
    ),
    Feature.WRITE_CHARGES: Purpose(
        "writing what a clinician accepted, once, as a ChargeItem; taking it back when the record changes",
        "decisions are shown, and nothing is written",
    ),
    Feature.DEVICE_ASSIGNMENT: Purpose("whose device it is", "the device must be named by the reading"),
    Feature.COMMUNICATIONS: Purpose("conversations filed as Communication", "only Encounters are counted"),
    Feature.ORDERS: Purpose("the order for monitoring", "the order must be confirmed by hand"),
    Feature.COVERAGE: Purpose("whose rules apply: the payer", "the site's own payer is assumed"),
    Feature.CONSENT: Purpose("the patient's consent", "consent must be confirmed by hand"),
    Feature.ENROLMENT: Purpose(
        "since when the patient is in the program", "the first day must be confirmed by hand"
    ),
    Feature.DIAGNOSES: Purpose(
        "the diagnosis a charge names as its reason, and that a payer may ask for",
        "a charge names no diagnosis, and what a payer asks of it is confirmed by hand",
    ),
    Feature.SURGERY: Purpose(
        "operations whose payment may cover the monitoring", "this must be confirmed for every charge"
    ),
    Feature.ACCOUNTS: Purpose("the account a charge belongs to", "a charge names no account"),
    Feature.STAFF_ROLES: Purpose(
        "in which role somebody spent the minutes", "the role of each person is unverified"
    ),
    Feature.PROVENANCE: Purpose(
        "a Provenance beside each charge", "the app's own audit trail tells it alone"
    ),
    Feature.PATIENTS: Purpose(
        "the worklist and billing: which patients its user may see",
        "there is no worklist, and billing lists the open chart's charges alone",
    ),
}

_EXTRA = {
    "CarePlan": Purpose("the plan of care", "the plan of care must be confirmed by hand"),
    "DeviceMetric": Purpose(
        "devices that a reading names through a DeviceMetric", "days whose device is unknown are for review"
    ),
    "Encounter": Purpose("writing signed entries of the time log as Encounter", "they stay in the app"),
}
_SITES_OWN = Purpose("asked for by this site's configuration", "as the site decides")

REQUIRED = frozenset({Feature.IDENTITY, Feature.PATIENT_BANNER, Feature.READINGS})
"""Without these there is nothing to show. Of everything else the absence is told on the page."""

_WORDS = {
    Interaction.CREATE: "create",
    Interaction.READ: "read",
    Interaction.UPDATE: "update",
    Interaction.DELETE: "delete",
    Interaction.SEARCH: "search",
}
_PARAMETERS: dict[str, tuple[str, ...]] = {
    "Observation": ("patient", "date"),
    "Encounter": ("patient", "date"),
    "ChargeItem": ("patient", "identifier"),
    "Practitioner": ("_id",),
    "PractitionerRole": ("practitioner",),
}


_READ_BY_ID = frozenset({"DeviceMetric"})
"""R4 knows no search by patient for these: what points to them is followed."""


def without(type_: str) -> tuple[str, bool]:
    """What is the case without a resource type, and whether nothing works then."""
    for feature, scopes in FEATURE_SCOPES.items():
        if any(parsed.type == type_ for parsed in map(parse_scope, scopes) if parsed):
            return PURPOSES[feature].without, feature in REQUIRED
    return _EXTRA.get(type_, _SITES_OWN).without, False


def search_parameters(type_: str, issuer: Issuer) -> tuple[str, ...]:
    """The search parameters the app sends for a type to this EHR."""
    wanted = _PARAMETERS.get(type_, ("patient",))
    if type_ == "Observation" and issuer.profile.observation_needs_category:
        return (*wanted, "category")
    return wanted


class ScopeLine(msgspec.Struct, frozen=True):
    """One scope: in both grammars, what it is for."""

    v2: str
    v1: str
    serves: str
    without: str
    required: bool


class ResourceLine(msgspec.Struct, frozen=True):
    """One resource type: interactions, and the search parameters used."""

    type: str
    interactions: tuple[str, ...]
    search_parameters: tuple[str, ...]


class KeptLine(msgspec.Struct, frozen=True):
    """One kind of data that is kept, and how long."""

    what: str
    how_long: str


class Sheet(msgspec.Struct, frozen=True):
    """Everything the registration form of an EHR asks for."""

    app_name: str
    purpose: str
    fhir_base: str
    launch_url: str
    redirect_uri: str
    jwks_url: str | None
    client_type: str
    client_auth: str
    pkce: str
    launch: str
    scope_style: str
    scope_v2: str
    scope_v1: str
    scopes: tuple[ScopeLine, ...]
    resources: tuple[ResourceLine, ...]
    embedding: tuple[str, ...]
    data_kept: tuple[KeptLine, ...]
    questions: tuple[str, ...]


def sheet(
    issuer: Issuer,
    features: Iterable[Feature],
    *,
    launch_url: str,
    redirect_uri: str,
    jwks_url: str,
    retention_years: int,
    session_hours: int,
) -> Sheet:
    """The sheet of one EHR."""
    asked = tuple(features)
    asymmetric = issuer.client_auth is ClientAuth.PRIVATE_KEY_JWT
    return Sheet(
        app_name=APP_NAME,
        purpose="Suggests remote-monitoring charges from the patient's chart, with the evidence for each; "
        "a clinician accepts them, and the app writes them back as ChargeItem.",
        fhir_base=issuer.fhir_base,
        launch_url=launch_url,
        redirect_uri=redirect_uri,
        jwks_url=jwks_url if asymmetric else None,
        client_type="public" if issuer.client_auth is ClientAuth.PUBLIC else "confidential",
        client_auth=_AUTH[issuer.client_auth].format(algorithm=issuer.signing_algorithm.value),
        pkce="S256, always",
        launch="EHR launch from the patient's chart, with patient context",
        scope_style=_STYLES[issuer.scope_style],
        scope_v2=_scope(asked, issuer, v2=True),
        scope_v1=_scope(asked, issuer, v2=False),
        scopes=tuple(_scope_lines(asked, issuer)),
        resources=tuple(_resources(asked, issuer)),
        embedding=tuple(_embedding(issuer)),
        data_kept=tuple(_kept(retention_years, session_hours)),
        questions=tuple(_questions(issuer)),
    )


_AUTH = {
    ClientAuth.PUBLIC: "none (public client; PKCE binds the code)",
    ClientAuth.SECRET_BASIC: "client_secret_basic",
    ClientAuth.SECRET_POST: "client_secret_post",
    ClientAuth.PRIVATE_KEY_JWT: "private_key_jwt, {algorithm}; our keys are at the JWKS address",
}
_STYLES = {
    ScopeStyle.AUTO: "v2 where the server advertises permission-v2, else v1",
    ScopeStyle.V1: "v1",
    ScopeStyle.V2: "v2",
}


def _scope(features: tuple[Feature, ...], issuer: Issuer, *, v2: bool) -> str:
    return request_scope(features, kind=LaunchKind.EHR, v2=v2, extra=issuer.extra_scopes)


def _scope_lines(features: tuple[Feature, ...], issuer: Issuer) -> Iterable[ScopeLine]:
    yield ScopeLine("launch", "launch", "opening the app from a chart", "the app is not opened", True)
    yield ScopeLine(
        "online_access",
        "online_access",
        "a session as long as the EHR's own",
        "the session ends with its first access token",
        False,
    )
    for feature in features:
        purpose = PURPOSES[feature]
        for scope in FEATURE_SCOPES[feature]:
            required = feature in REQUIRED
            yield ScopeLine(scope, _v1(scope), purpose.serves, purpose.without, required)
    for scope in issuer.extra_scopes:
        parsed = parse_scope(scope)
        purpose = _EXTRA.get(parsed.type if parsed else "", _SITES_OWN)
        yield ScopeLine(scope, scope, purpose.serves, purpose.without, False)


def _v1(scope: str) -> str:
    parsed = parse_scope(scope)
    if parsed is None:
        return scope
    start = f"{parsed.level.value}/{parsed.type}"
    reads = parsed.interactions & {Interaction.READ, Interaction.SEARCH}
    words = [*(["read"] if reads else []), *(["write"] if parsed.interactions - reads else [])]
    return " ".join(f"{start}.{word}" for word in words)


def _resources(features: tuple[Feature, ...], issuer: Issuer) -> Iterable[ResourceLine]:
    found: dict[str, set[Interaction]] = {}
    extra = [scope for scope in issuer.extra_scopes if "/" in scope]
    for scope in [*(scope for feature in features for scope in FEATURE_SCOPES[feature]), *extra]:
        parsed = parse_scope(scope)
        if parsed is not None:
            found.setdefault(parsed.type, set()).update(parsed.interactions)
    for type_ in sorted(found):
        if type_ in _READ_BY_ID:
            found[type_].discard(Interaction.SEARCH)
        words = tuple(word for interaction, word in _WORDS.items() if interaction in found[type_])
        searched = search_parameters(type_, issuer) if Interaction.SEARCH in found[type_] else ()
        yield ResourceLine(type_, words, searched)


def _embedding(issuer: Issuer) -> Iterable[str]:
    origins = ", ".join(issuer.frame_ancestors)
    if origins:
        yield f"May be shown in a frame by {origins} alone (Content-Security-Policy: frame-ancestors)."
    else:
        yield "May not be shown in a frame: no frame_ancestors are configured. It opens in a tab or a window."
    yield (
        "Cookies are __Host-, Secure, HttpOnly, SameSite=None and Partitioned: the browser must allow "
        "partitioned cookies in the frame; where it does not, the app offers to open in a new window."
    )
    yield (
        "A sandboxed frame needs allow-scripts, allow-forms and allow-same-origin, and allow-popups for a "
        "new window."
    )
    yield "No third-party scripts, fonts or addresses; the browser calls the app alone (no CORS)."


def _kept(retention_years: int, session_hours: int) -> Iterable[KeptLine]:
    yield KeptLine(
        "access and refresh tokens, what was read of the chart",
        f"encrypted, until the session ends: {session_hours} hours at most",
    )
    yield KeptLine(
        "for each charge written: the ChargeItem and the evidence it rests on",
        f"encrypted and unchangeable, {retention_years} years from its service date",
    )
    yield KeptLine(
        "audit trail: who opened, accepted and wrote what, for which patient id",
        f"chained, its content {retention_years} years",
    )
    yield KeptLine(
        "time log, attestations, first day in a program",
        "encrypted (the day itself is not), as long as the site keeps the database",
    )


def _questions(issuer: Issuer) -> Iterable[str]:
    yield "The client id for each environment, and how long a registration takes to become active."
    yield "Are the launch URL and the redirect URI registered exactly as above, character by character?"
    yield f"Is {issuer.fhir_base} the `iss` of a launch (with or without a slash at its end)?"
    yield "On which hosts are the authorization, token and key addresses, if not on the FHIR server's own?"
    yield "Which of the scopes above are granted, and are they fixed at registration (v1 or v2)?"
    yield "Does a launch give patient and encounter, and an id_token with fhirUser of a Practitioner?"
    if issuer.client_auth is ClientAuth.PRIVATE_KEY_JWT:
        yield "Can your network read the JWKS address, how long is it kept, and which algorithms are taken?"
    yield "Can ChargeItem be created (conditionally?), searched by patient and identifier, and updated?"
    yield "In which status does billing take a ChargeItem up, and which codings must it have?"
    yield "Which Observation categories and codes hold home readings? Does a search need a category?"
    yield "Are conversations filed as Encounter, with which class and type, and are their times real minutes?"
    yield "How many requests a minute are allowed?"
    yield "Which origins show the app in a frame?"
    yield "Which test patients may be written to, and who removes the test charges?"
