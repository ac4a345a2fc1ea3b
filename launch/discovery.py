"""Where an EHR's authorization server is: `.well-known/smart-configuration`, else the CapabilityStatement.

Every endpoint must be https and lie on the FHIR base's own host or on one the administrator listed, so that a
manipulated document cannot send a code or a secret elsewhere. Documents are kept for an hour at most.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from launch.errors import HttpError, LaunchError, LaunchReason
from launch.http import MEGABYTE, EhrClient, Limits, Response
from launch.issuers import Issuer
from launch.ports import Clock, Events
from launch.profiles import ScopeStyle
from launch.seats import Seats
from launch.urls import UnsafeUrl, join_url, parse_url

OAUTH_URIS = "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris"
KEEP = timedelta(hours=1)
FAILED_FOR = timedelta(seconds=10)
WAIT_SECONDS = 3.0
"""From the moment the first one asked."""
MOST_ASKING = 4
"""Bases of one registration that are asked at a time: anybody can name practices under a `*`."""
MOST_KEPT = 500
_METADATA_LIMITS = Limits(connect=5.0, read=10.0, total=20.0, max_bytes=8 * MEGABYTE)
"""A CapabilityStatement has a few megabytes."""


@dataclass(frozen=True, slots=True)
class SmartConfiguration:
    """What an EHR says about its authorization server, endpoints absolute and checked."""

    authorization_endpoint: str
    token_endpoint: str
    issuer: str | None = None
    jwks_uri: str | None = None
    revocation_endpoint: str | None = None
    introspection_endpoint: str | None = None
    capabilities: frozenset[str] = frozenset()
    scopes_supported: frozenset[str] = frozenset()
    token_auth_methods: frozenset[str] = frozenset()
    code_challenge_methods: frozenset[str] = frozenset()
    promises_iss: bool = False
    """Its answers to authorization requests carry `iss` (RFC 9207)."""
    from_capability_statement: bool = False
    """Read from /metadata: a server of SMART 1."""

    def speaks_v2(self, issuer: Issuer) -> bool:
        """Whether to ask with v2 scopes: as configured, else as advertised."""
        if issuer.scope_style is ScopeStyle.AUTO:
            return "permission-v2" in self.capabilities
        return issuer.scope_style is ScopeStyle.V2

    @property
    def takes_post(self) -> bool:
        """Whether the authorization request may be a form instead of a long address."""
        return "authorize-post" in self.capabilities


class Discovery:
    """Reads and keeps the configurations of all EHRs of this process. Threads share it.

    Anybody can make a launch begin, so an EHR that does not answer must not hold every thread: one asks for a
    base; the others wait for its answer, each in a seat, but none once the first has waited for some seconds;
    and a failure is the answer to everybody for some seconds, and while the next one asks.
    """

    def __init__(self, clock: Clock, events: Events, seats: Seats | None = None) -> None:
        self._clock = clock
        self._events = events
        self._seats = seats or Seats()
        self._changed = threading.Condition()
        self._kept: dict[str, tuple[datetime, SmartConfiguration | LaunchError]] = {}
        self._reading: dict[str, float] = {}
        """Bases that are being asked, and since when (`time.monotonic`)."""
        self._asking: Counter[str] = Counter()

    def of(self, client: EhrClient, *, seated: bool = False) -> SmartConfiguration:
        """The configuration of this client's EHR. Raises LaunchError: DISCOVERY_FAILED, or EHR_BUSY where it
        is still being asked and this is to be tried again. `seated`: whoever asks sits already."""
        issuer = client.issuer
        found = self._fresh(issuer.fhir_base)
        if found is None:
            with nullcontext() if seated else self._seats.one(issuer.registration):
                found = self._waited_for(issuer) or self._asked(client)
        if isinstance(found, LaunchError):
            raise LaunchError(found.reason, detail=found.detail)
        return found

    def _fresh(self, base: str) -> SmartConfiguration | LaunchError | None:
        with self._changed:
            kept = self._kept.get(base)
        if kept is None:
            return None
        age = self._clock.now() - kept[0]
        good_for = FAILED_FOR if isinstance(kept[1], LaunchError) else KEEP
        return kept[1] if timedelta() <= age < good_for else None

    def _waited_for(self, issuer: Issuer) -> SmartConfiguration | LaunchError | None:
        """What another thread was told meanwhile; None where nobody is asking, and this thread is to."""
        base = issuer.fhir_base
        with self._changed:
            if base in self._reading:
                failed = self._kept.get(base)
                if failed is not None and isinstance(failed[1], LaunchError):
                    return failed[1]  # it failed a moment ago: nobody waits for it once more
                patience = self._reading[base] + WAIT_SECONDS - time.monotonic()
                self._changed.wait_for(lambda: base not in self._reading, max(0.0, patience))
                return self._fresh(base) or LaunchError(LaunchReason.EHR_BUSY, detail="being asked")
            found = self._fresh(base)
            if found is None:
                if self._asking[issuer.registration] >= MOST_ASKING:
                    return LaunchError(LaunchReason.EHR_BUSY, detail="others are being asked")
                self._asking[issuer.registration] += 1
                self._reading[base] = time.monotonic()
            return found

    def _asked(self, client: EhrClient) -> SmartConfiguration | LaunchError:
        base = client.issuer.fhir_base
        try:
            found = self._read_or_fault(client)
            with self._changed:
                self._kept.pop(base, None)
                self._kept[base] = (self._clock.now(), found)
                if len(self._kept) > MOST_KEPT:
                    del self._kept[next(iter(self._kept))]
            return found
        finally:
            with self._changed:
                del self._reading[base]
                self._asking[client.issuer.registration] -= 1
                self._changed.notify_all()

    def _read_or_fault(self, client: EhrClient) -> SmartConfiguration | LaunchError:
        try:
            return self._read(client)
        except LaunchError as error:
            return error

    def forget(self, issuer: Issuer) -> None:
        """Read anew next time, as after a token endpoint that moved."""
        with self._changed:
            self._kept.pop(issuer.fhir_base, None)

    def _read(self, client: EhrClient) -> SmartConfiguration:
        issuer = client.issuer
        try:
            answer = client.oauth_get(f"{issuer.fhir_base}/.well-known/smart-configuration")
            document, fault = _document(answer)
            if document is not None:
                return parse_configuration(document, issuer)
            try:
                return _of_smart_1(client)
            except (HttpError, LaunchError):
                if fault is None:
                    raise
                raise LaunchError(LaunchReason.DISCOVERY_FAILED, detail=fault) from None
        except HttpError as error:
            self._events.emit("discovery-failed", issuer=issuer.id, problem=error.problem.value)
            raise LaunchError(LaunchReason.DISCOVERY_FAILED, detail=error.problem.value) from None
        except LaunchError as error:
            self._events.emit("discovery-failed", issuer=issuer.id, problem=error.detail)
            raise


def _document(answer: Response) -> tuple[dict[str, Any] | None, str | None]:
    """The document; or None and, where the server claimed to have one, what is wrong with it: where they have
    none some answer with a page, or with JSON that names no endpoint."""
    if not answer.ok:
        return None, None
    try:
        document = answer.json_object()
    except HttpError as error:
        return None, error.problem.value
    if document.keys() & {"authorization_endpoint", "token_endpoint"}:
        return document, None
    return None, "no authorization_endpoint"


def _of_smart_1(client: EhrClient) -> SmartConfiguration:
    """As a server of SMART 1 says it: in its CapabilityStatement. Raises HttpError and LaunchError."""
    answer = client.fhir("GET", "metadata", limits=_METADATA_LIMITS).require_ok()
    uris = oauth_uris(answer.json(_METADATA_LIMITS.max_bytes))
    return parse_configuration(uris, client.issuer, from_capability_statement=True)


def parse_configuration(
    document: Mapping[str, Any], issuer: Issuer, *, from_capability_statement: bool = False
) -> SmartConfiguration:
    """A discovery document, checked. Raises LaunchError(DISCOVERY_FAILED); unknown members are ignored."""
    return SmartConfiguration(
        authorization_endpoint=_required(document, "authorization_endpoint", issuer),
        token_endpoint=_required(document, "token_endpoint", issuer),
        issuer=_text(document.get("issuer")),
        jwks_uri=checked_endpoint(document, "jwks_uri", issuer),
        revocation_endpoint=checked_endpoint(document, "revocation_endpoint", issuer),
        introspection_endpoint=checked_endpoint(document, "introspection_endpoint", issuer),
        capabilities=_texts(document.get("capabilities")),
        scopes_supported=_texts(document.get("scopes_supported")),
        token_auth_methods=_texts(document.get("token_endpoint_auth_methods_supported")),
        code_challenge_methods=_texts(document.get("code_challenge_methods_supported")),
        promises_iss=document.get("authorization_response_iss_parameter_supported") is True,
        from_capability_statement=from_capability_statement,
    )


def oauth_uris(statement: Any) -> dict[str, str]:
    """The endpoints a CapabilityStatement's `oauth-uris` extension names; {} where there is none."""
    names = {
        "authorize": "authorization_endpoint",
        "token": "token_endpoint",
        "revoke": "revocation_endpoint",
    }
    found: dict[str, str] = {}
    for rest in _objects(statement, "rest"):
        security = rest.get("security")
        for extension in _objects(security, "extension"):
            if extension.get("url") != OAUTH_URIS:
                continue
            for part in _objects(extension, "extension"):
                name, uri = names.get(str(part.get("url"))), part.get("valueUri")
                if name and isinstance(uri, str):
                    found.setdefault(name, uri)
    return found


def _objects(parent: Any, key: str) -> Iterable[Mapping[str, Any]]:
    children = parent.get(key) if isinstance(parent, Mapping) else None
    return [child for child in children if isinstance(child, Mapping)] if isinstance(children, list) else []


def _required(document: Mapping[str, Any], key: str, issuer: Issuer) -> str:
    endpoint = checked_endpoint(document, key, issuer)
    if endpoint is None:
        raise LaunchError(LaunchReason.DISCOVERY_FAILED, detail=f"no {key}")
    return endpoint


def checked_endpoint(document: Mapping[str, Any], key: str, issuer: Issuer) -> str | None:
    """The endpoint as an absolute URL on a permitted host; None where the document names none.

    Raises LaunchError(DISCOVERY_FAILED).
    """
    text = _text(document.get(key))
    if text is None:
        return None
    try:
        absolute = join_url(issuer.fhir_base + "/", text)
        url = parse_url(absolute)
    except UnsafeUrl as fault:
        raise LaunchError(LaunchReason.DISCOVERY_FAILED, detail=f"{key} holds {fault}") from None
    if not issuer.takes(url):
        raise LaunchError(LaunchReason.DISCOVERY_FAILED, detail=f"{key} is not https")
    if url.origin not in issuer.origins:
        raise LaunchError(LaunchReason.DISCOVERY_FAILED, detail=f"{key} is on a host not in oauth_hosts")
    return absolute


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _texts(value: Any) -> frozenset[str]:
    return (
        frozenset(item for item in value if isinstance(item, str)) if isinstance(value, list) else frozenset()
    )
