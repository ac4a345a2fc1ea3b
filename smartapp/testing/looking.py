"""What kind of server it is: whether one signs in there through SMART, or anybody may read."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from launch.discovery import oauth_uris
from launch.errors import HttpError, HttpProblem
from launch.urls import UnsafeUrl, Url, join_url, parse_base, parse_url
from smartapp.commands.checks import Fault
from smartapp.testing.tag import bears_our_tag
from smartapp.testing.target import Target
from smartapp.testing.written import NAME

_ENDPOINTS = (
    *("issuer", "authorization_endpoint", "token_endpoint", "jwks_uri"),
    *("revocation_endpoint", "introspection_endpoint"),
)
_LAUNCHER = re.compile(r"(?P<front>(?:/[^/]+)*/v/r4)(?:/sim/(?P<sim>[^/]+))?/fhir")
_NO_DOCUMENT = frozenset({HttpProblem.NOT_JSON, HttpProblem.REDIRECT, HttpProblem.TOO_LARGE})
"""How servers answer that have none: with a page, or with the way to one."""
_EHR, _STANDALONE = 0, 2
"""The launcher's numbers of the ways a provider's app is opened."""


@dataclass(frozen=True)
class Smart:
    """A server where one signs in."""

    document: Mapping[str, Any]
    hosts: tuple[str, ...]
    """Origins beside the FHIR base's own that it names for signing in. Of a test server they are believed."""


@dataclass(frozen=True)
class Launcher:
    """The SMART Health IT launcher: it registers nobody, and its addresses hold the whole simulation."""

    front: str
    """Everything before `/fhir` and `/sim`."""
    sim: str | None
    """What stands for the simulation in the base: None in the plain one, `*` for whichever."""

    @property
    def looked_at(self) -> Url:
        """A base that can be asked."""
        inside = "" if self.sim in {None, "*"} else f"/sim/{self.sim}"
        return parse_base(f"{self.front}{inside}/fhir")

    def base(self, patient: str | None, provider: str | None) -> Url:
        """The base that the app is opened for."""
        if self.sim != "*":
            return self.looked_at
        return parse_base(f"{self.front}/sim/{launch_code(_STANDALONE, patient, provider)}/fhir")

    def link(self, app_url: str, patient: str | None, provider: str | None) -> str:
        """What the launcher's own button would open."""
        query = {"iss": self.base(patient, provider).base}
        if self.sim is None:
            query["launch"] = launch_code(_EHR, patient, provider)
        return f"{app_url}/launch?{urlencode(query)}"


def launcher_at(base: Url) -> Launcher | None:
    """The launcher, by the shape of its addresses."""
    found = _LAUNCHER.fullmatch(base.path)
    return None if found is None else Launcher(base.origin + found["front"], found["sim"])


def launch_code(way: int, patient: str | None, provider: str | None) -> str:
    """A simulation as the launcher writes it: a list in JSON, base64url. No encounter is chosen; nobody is
    asked to sign in or to allow anything where patient and provider are known; PKCE is checked."""
    told = bool(patient and provider)
    values = [way, patient or "", provider or "", "NONE", int(told), int(told), 0, *[""] * 7, 0, 2, ""]
    text = json.dumps(values, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(text).decode().rstrip("=")


def smart_at(target: Target, statement: Mapping[str, Any]) -> Smart | None:
    """What it says of signing in: at the well-known address, else in its CapabilityStatement; None where
    nowhere. Raises Fault where it can't be told."""
    try:
        status, document = target.document(".well-known/smart-configuration")
    except HttpError as error:
        if error.problem not in _NO_DOCUMENT:
            raise Fault(f"{target.base.base}/.well-known/smart-configuration: {error.sentence}") from None
        status, document = 0, None
    if not isinstance(document, dict) or "authorization_endpoint" not in document:
        document = oauth_uris(statement)
    if "authorization_endpoint" not in document:
        if status in {401, 403}:
            raise Fault(f"{target.base.base} wants a token, and does not say where one is given")
        return None
    return Smart(document, tuple(sorted(_origins(target.base, document) - {target.base.origin})))


def _origins(base: Url, document: Mapping[str, Any]) -> set[str]:
    found = set()
    for name in _ENDPOINTS:
        address = document.get(name)
        if isinstance(address, str) and address:
            try:
                found.add(parse_url(join_url(f"{base.base}/", address)).origin)
            except UnsafeUrl:
                continue
    return found


def declared_types(statement: Mapping[str, Any]) -> dict[str, set[str]]:
    """The interactions that a CapabilityStatement declares, by type."""
    found: dict[str, set[str]] = {}
    for rest in _objects(statement.get("rest")):
        for resource in _objects(rest.get("resource")):
            codes = {str(one.get("code")) for one in _objects(resource.get("interaction"))}
            found.setdefault(str(resource.get("type")), set()).update(codes)
    return found


def _objects(value: Any) -> Iterable[Mapping[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def somebody(target: Target, type_: str) -> str | None:
    """The id of a resource of that type, one that was seeded before any other; None where none is found."""
    try:
        found = target.page(f"{type_}?_count=50")
    except HttpError:
        return None
    fitting = [
        one
        for one in found
        if one.get("resourceType") == type_ and NAME.fullmatch(f"{type_}/{one.get('id')}")
    ]
    fitting.sort(key=lambda one: (not bears_our_tag(one), not _is_physician(one)))
    return str(fitting[0]["id"]) if fitting else None


def _is_physician(resource: Mapping[str, Any]) -> bool:
    """Of the seeded staff the physician, whose role lets one do everything."""
    return str(resource.get("id")).endswith("syn-physician")
