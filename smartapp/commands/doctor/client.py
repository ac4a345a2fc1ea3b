"""Our side of the registration: how we prove ourselves, what we ask for, and the keys we publish."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from launch.client_auth import signing_key
from launch.errors import ConfigurationError as LaunchConfigurationError
from launch.errors import HttpError
from launch.http import EhrClient
from launch.issuers import ClientAuth, Issuer
from launch.profiles import ScopeStyle
from launch.scopes import difference
from smartapp.commands.checks import listed
from smartapp.commands.doctor.discovery import Found
from smartapp.commands.doctor.examination import Examination, trouble
from smartapp.commands.doctor.ids import CheckId
from smartapp.commands.registered import Registered
from smartapp.configuration.settings import ConfigurationError
from smartapp.configuration.signing_keys import KeyState, SigningKeys

_METHODS = {
    ClientAuth.PUBLIC: ("none", "client-public"),
    ClientAuth.SECRET_BASIC: ("client_secret_basic", "client-confidential-symmetric"),
    ClientAuth.SECRET_POST: ("client_secret_post", "client-confidential-symmetric"),
    ClientAuth.PRIVATE_KEY_JWT: ("private_key_jwt", "client-confidential-asymmetric"),
}
PRIVATE_MEMBERS = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})


def check_registration(exam: Examination, found: Found) -> None:
    """What must agree between our configuration, our registration and what the server supports."""
    if found.configuration is not None:
        _client_auth(exam, found)
        _pkce(exam, found)
    exam.checks.ok(CheckId.LAUNCH_URL, f"to be registered: {exam.sheet.launch_url}")
    exam.checks.ok(CheckId.REDIRECT_URI, f"to be registered: {exam.sheet.redirect_uri}")
    if exam.issuer.frame_ancestors:
        exam.checks.ok(CheckId.FRAME, f"may be framed by {listed(exam.issuer.frame_ancestors)}")
    else:
        exam.checks.warning(CheckId.FRAME, "no frame_ancestors: the EHR can open the app in a window only")


def _client_auth(exam: Examination, found: Found) -> None:
    auth = exam.issuer.client_auth
    method, capability = _METHODS[auth]
    methods, capabilities = found.texts("token_endpoint_auth_methods_supported"), found.texts("capabilities")
    kinds = {name for name in capabilities if name.startswith("client-")}
    if not methods and not kinds:
        exam.checks.warning(
            CheckId.CLIENT_AUTH, f"the server does not say how clients prove themselves; ours is {auth.value}"
        )
    elif method not in methods and capability not in kinds:
        offered = [choice.value for choice, names in _METHODS.items() if {*names} & {*methods, *kinds}]
        exam.checks.failure(
            CheckId.CLIENT_AUTH,
            f"client_auth is {auth.value}, which the server does not support; it supports {listed(offered)}: "
            "change client_auth, and the registration with it",
        )
    elif auth is ClientAuth.PRIVATE_KEY_JWT and not _signs(exam, found):
        exam.checks.failure(
            CheckId.CLIENT_AUTH,
            f"the server does not take {exam.issuer.signing_algorithm.value} assertions: change "
            "signing_algorithm and register a key of that kind",
        )
    else:
        better = auth is not ClientAuth.PRIVATE_KEY_JWT and "client-confidential-asymmetric" in kinds
        hint = "; private-key-jwt is offered too, and is safer" if better else ""
        exam.checks.ok(CheckId.CLIENT_AUTH, f"{auth.value} is supported{hint}")


def _signs(exam: Examination, found: Found) -> bool:
    algorithms = found.texts("token_endpoint_auth_signing_alg_values_supported")
    return not algorithms or exam.issuer.signing_algorithm.value in algorithms


def _pkce(exam: Examination, found: Found) -> None:
    methods = found.texts("code_challenge_methods_supported")
    if "S256" in methods:
        exam.checks.ok(CheckId.PKCE, "S256 is advertised")
    elif methods:
        exam.checks.failure(
            CheckId.PKCE,
            "PKCE is advertised without S256, the only method this app uses: the EHR must allow S256",
        )
    else:
        exam.checks.warning(
            CheckId.PKCE,
            "PKCE S256 is not advertised; the app sends it all the same: ask the EHR's team whether it is "
            "checked",
        )


def check_scopes(exam: Examination, found: Found) -> None:
    """Whether we ask in a grammar the server knows, and for what it can give."""
    configuration = found.configuration
    if configuration is None:
        return
    v2 = configuration.speaks_v2(exam.issuer)
    style = "v2" if v2 else "v1"
    capabilities = configuration.capabilities
    known = {name for name in ("permission-v1", "permission-v2") if name in capabilities}
    if exam.issuer.scope_style is not ScopeStyle.AUTO and known and f"permission-{style}" not in known:
        exam.checks.warning(
            CheckId.SCOPE_STYLE,
            f"scopes are asked for as {style}, which the server does not advertise: set scope_style to what "
            "the app is registered with",
        )
    else:
        exam.checks.ok(CheckId.SCOPE_STYLE, f"asked for as {style}")
    asked = exam.sheet.scope_v2 if v2 else exam.sheet.scope_v1
    if not configuration.scopes_supported:
        exam.checks.warning(
            CheckId.SCOPES, "the server does not say which scopes it knows; compare at a launch"
        )
        return
    lost = difference(asked, " ".join(configuration.scopes_supported), ()).lost
    purposes = {word: line for line in exam.sheet.scopes for word in (*line.v2.split(), *line.v1.split())}
    for scope in lost:
        line = purposes.get(scope)
        loss = line.without if line is not None else "what it serves is missing"
        exam.checks.warning(
            CheckId.SCOPES, f"not among the scopes the server lists; without it: {loss}", scope
        )
    if not lost:
        exam.checks.ok(CheckId.SCOPES, "everything that is asked for is listed")


def check_keys(exam: Examination) -> None:
    """The keys we sign with, and whether others can read their public halves."""
    if exam.issuer.client_auth is not ClientAuth.PRIVATE_KEY_JWT:
        return
    try:
        signing_key(exam.issuer)
    except LaunchConfigurationError as fault:
        exam.checks.failure(CheckId.KEYS_SIGNING, fault.sentence)
        return
    algorithm = exam.issuer.signing_algorithm.value
    exam.checks.ok(CheckId.KEYS_SIGNING, f"{algorithm} with the key {exam.issuer.signing_key_id}")
    served = _served_keys(exam)
    if served is not None:
        _published(exam, served)


def _served_keys(exam: Examination) -> list[Mapping[str, Any]] | None:
    """Our key set as the EHR would fetch it, from our own address."""
    with EhrClient(_ourselves(exam.here)) as client:
        try:
            document = client.oauth_get(exam.here.jwks_url).require_ok().json_object()
        except HttpError as error:
            exam.checks.failure(
                CheckId.KEYS_PUBLISHED,
                f"{exam.here.jwks_url} can't be read from here ({trouble(error, client.issuer)}): the EHR "
                "reads our keys there; start the app, and open the address to the EHR's network",
            )
            return None
    keys = document.get("keys")
    return [key for key in keys if isinstance(key, Mapping)] if isinstance(keys, list) else []


def _published(exam: Examination, served: list[Mapping[str, Any]]) -> None:
    if any(PRIVATE_MEMBERS & set(key) for key in served):
        exam.checks.failure(
            CheckId.KEYS_PRIVATE,
            f"{exam.here.jwks_url} shows private members of a key: take it down, and replace every key",
        )
    else:
        exam.checks.ok(CheckId.KEYS_PRIVATE, "only public members are published")
    names = {key.get("kid"): key for key in served}
    ours = names.get(exam.issuer.signing_key_id)
    if ours is None:
        exam.checks.failure(
            CheckId.KEYS_PUBLISHED,
            f"the key we sign with, {exam.issuer.signing_key_id}, is not published: restart the app, or have "
            "the address serve this app's keys",
        )
    elif ours.get("alg") != exam.issuer.signing_algorithm.value:
        exam.checks.failure(CheckId.KEYS_PUBLISHED, "the key we sign with is published with another `alg`")
    else:
        exam.checks.ok(CheckId.KEYS_PUBLISHED, f"the key we sign with is at {exam.here.jwks_url}")
    _rotation(exam, set(names))


def _rotation(exam: Examination, served: set[Any]) -> None:
    """During a rotation both keys are published: what was signed a minute ago must still verify."""
    if exam.here.keys is None:
        return
    try:
        entries = SigningKeys(exam.here.keys).entries()
    except ConfigurationError as fault:
        exam.checks.failure(CheckId.KEYS_ROTATION, str(fault))
        return
    retiring = [entry.kid for entry in entries if entry.published and entry.state is KeyState.RETIRING]
    missing = [entry.kid for entry in entries if entry.published and entry.kid not in served]
    if missing:
        exam.checks.failure(
            CheckId.KEYS_ROTATION,
            f"{listed(missing)} should be published and is not: is it this app that serves the address?",
        )
    elif retiring:
        exam.checks.warning(
            CheckId.KEYS_ROTATION,
            f"a rotation is under way, and both keys are published; {listed(retiring)} waits for "
            "`smartapp keys rotate --retire`",
        )
    else:
        exam.checks.ok(CheckId.KEYS_ROTATION, "no rotation is under way")


def _ourselves(here: Registered) -> Issuer:
    """Our own address as a server the guarded client may read from: perhaps inside the same network."""
    return replace(
        here.issuer,
        id="ourselves",
        fhir_base=here.base_url,
        oauth_hosts=(),
        client_auth=ClientAuth.PUBLIC,
        client_secret=None,
        signing_key=None,
        allow_private=True,
        allow_loopback=here.loopback,
    )
