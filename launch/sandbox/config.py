"""What one sandbox is: its address, its registered clients, its day, its quirks.

Nothing here is read from the environment: whoever starts a sandbox says what it is.
"""

from __future__ import annotations

import ipaddress
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from launch.sandbox.keys import SigningKey
from launch.sandbox.quirks import Quirks

ZONE = ZoneInfo("America/New_York")

#: The types a registered app may read about its launch patient.
_READABLE = (
    *("Patient", "Observation", "Device", "DeviceMetric", "DeviceUseStatement", "Encounter", "EpisodeOfCare"),
    *("Consent", "ServiceRequest", "CarePlan", "Condition", "Procedure", "Coverage", "Account"),
    *("Communication", "Appointment", "Organization", "Practitioner", "PractitionerRole"),
)

#: What the app of a default registration may ask for; narrower requests are granted as asked.
APP_SCOPE = " ".join(
    [
        "openid fhirUser launch launch/patient launch/encounter online_access offline_access",
        *(f"patient/{name}.rs" for name in _READABLE),
        "patient/ChargeItem.crus patient/Encounter.cu patient/Provenance.crs",
        "patient/Task.crus patient/DocumentReference.crus",
        "user/Patient.rs user/Practitioner.rs user/PractitionerRole.rs user/Organization.rs",
    ]
)


class ClientType(StrEnum):
    """How a client proves who it is at the token endpoint."""

    PUBLIC = "public"
    SYMMETRIC = "confidential-symmetric"
    ASYMMETRIC = "confidential-asymmetric"


class ConfigurationError(ValueError):
    """The sandbox was asked to be something it refuses to be; the message is one plain line."""


@dataclass(frozen=True)
class Client:
    """A registered client. ``scope`` is the most it may ever be granted.

    ``jwks`` (a JWK Set) or ``jwks_uri`` belong to an asymmetric client, ``client_secret`` to a symmetric one.
    """

    client_id: str
    type: ClientType = ClientType.PUBLIC
    redirect_uris: tuple[str, ...] = ()
    scope: str = APP_SCOPE
    grant_types: tuple[str, ...] = ("authorization_code", "refresh_token")
    client_secret: str | None = field(default=None, repr=False)
    jwks: Mapping[str, Any] | None = None
    jwks_uri: str | None = None

    def __post_init__(self) -> None:
        if self.type is ClientType.SYMMETRIC and not self.client_secret:
            raise ConfigurationError(f"client {self.client_id}: a symmetric client needs client_secret")
        if self.type is ClientType.ASYMMETRIC and not (self.jwks or self.jwks_uri):
            raise ConfigurationError(f"client {self.client_id}: an asymmetric client needs jwks or jwks_uri")
        if "client_credentials" in self.grant_types and self.type is ClientType.PUBLIC:
            raise ConfigurationError(f"client {self.client_id}: a public client has no client_credentials")

    @classmethod
    def from_json(cls, text: str) -> Client:
        """A client of a registration file: an object with the names of this class's fields.

        Raises ConfigurationError on an unknown name, a missing client_id or a wrong type.
        """
        try:
            entry = json.loads(text)
            known = {name: entry.pop(name) for name in tuple(entry) if name in cls.__dataclass_fields__}
            if entry:
                raise ConfigurationError(f"client registration: unknown {', '.join(sorted(entry))}")
            for name in ("redirect_uris", "grant_types"):
                if name in known:
                    known[name] = tuple(known[name])
            known["type"] = ClientType(known.get("type", ClientType.PUBLIC))
            return cls(**known)
        except (TypeError, ValueError, AttributeError) as error:
            if isinstance(error, ConfigurationError):
                raise
            raise ConfigurationError(
                "client registration: not a JSON object of the documented form"
            ) from None


@dataclass(frozen=True)
class SandboxConfig:
    """One sandbox. ``base_url`` is scheme, host name and port, without a path.

    ``launch_url`` is where the app begins for a patient, ``worklist_url`` where it begins for none;
    ``cds_url`` is where its CDS services are listed.
    ``as_of`` is the day its charts are told on, ``clock`` gives seconds since the epoch; neither follows from
    the other. ``data`` is a folder for the SQLite file, or None for a store in memory. ``readings`` is the
    size of the large patient. ``crowd`` is how many patients its exports tell of besides, monitored from
    ``crowd_since`` on (None: a quarter before ``as_of``), as of the clock and so many seconds after it.
    Times in seconds. ``key`` signs id_tokens.
    """

    base_url: str
    as_of: date = field(kw_only=True)
    clients: tuple[Client, ...] = ()
    launch_url: str | None = None
    worklist_url: str | None = None
    cds_url: str | None = None
    seed: int = 1
    data: Path | None = None
    readings: int = 50_000
    crowd: int = 0
    crowd_since: date | None = None
    crowd_ahead_seconds: float = 0
    frame: bool = True
    access_token_seconds: int = 3600
    code_seconds: int = 60
    launch_seconds: int = 300
    max_count: int = 1000
    max_body: int = 1_000_000
    quirks: Quirks = field(default_factory=Quirks)
    clock: Callable[[], float] = time.time
    key: SigningKey = field(default_factory=SigningKey)

    def __post_init__(self) -> None:
        parts = urlsplit(self.base_url)
        if parts.scheme != "http" or parts.path or parts.query or not is_loopback(parts.hostname or ""):
            raise ConfigurationError("the sandbox's base URL is http://<loopback host>:<port> without a path")
        names = [client.client_id for client in self.clients]
        if len(names) != len(set(names)):
            raise ConfigurationError("two clients are registered under one client_id")

    @property
    def fhir_base(self) -> str:
        """The FHIR base URL: what the app gets as ``iss`` and must send back as ``aud``."""
        return f"{self.base_url}/fhir/r4"

    @property
    def issuer(self) -> str:
        """The OpenID issuer, on purpose another URL than the FHIR base, as at several EHRs."""
        return f"{self.base_url}/auth"

    def client(self, client_id: str) -> Client | None:
        """The client registered under this id."""
        return next((client for client in self.clients if client.client_id == client_id), None)


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
