"""What an EHR declares about ChargeItem in /metadata: a hint, the first real answer wins."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from threading import Lock

from launch.errors import HttpError, LaunchError
from launch.http import MEGABYTE, Limits
from launch.tokens import SessionClient
from smartapp.ehr.wire.bundles import Declared, declared_of, takes_batches
from smartapp.ehr.wire.looks import look

CAPABILITY_LIFE = 3600.0
UNSURE_LIFE = 60.0
"""Of an answer that closes a door, or of none: somebody may be about to mend it."""
ASKED = frozenset({"ChargeItem", "Task", "DocumentReference", "Provenance"})
CAPABILITY_LIMITS = Limits(connect=5.0, read=20.0, total=30.0, max_bytes=16 * MEGABYTE)


@dataclass(frozen=True, slots=True)
class Capability:
    """What /metadata says of ChargeItem."""

    create: bool = False
    conditional_create: bool = False
    update_create: bool = False
    update: bool = False
    search_by_identifier: bool = False
    batch: bool = False
    """Whether several requests may come in one Bundle: of the server, whatever the type."""
    known: bool = False
    """Whether there was a CapabilityStatement at all."""
    types: Mapping[str, Declared] = field(default_factory=dict)
    """What it says of ChargeItem, and of what a charge may leave as otherwise."""

    def creates(self, type_: str) -> bool:
        return "create" in self.of(type_).interactions

    def of(self, type_: str) -> Declared:
        return self.types.get(type_, Declared())


class Capabilities:
    """What each EHR declares, kept for an hour."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._kept: dict[str, tuple[float, Capability]] = {}

    def of(self, client: SessionClient) -> Capability:
        """Nothing declared where it could not be asked. Raises HttpError and LaunchError."""
        base = client.issuer.fhir_base
        with self._lock:
            until, kept = self._kept.get(base, (0.0, None))
        if kept is not None and time.monotonic() < until:
            return kept
        response = client.fhir("GET", "metadata", limits=CAPABILITY_LIMITS)
        found = parse_capability(response.body) if response.ok else Capability()
        self._keep(base, found)
        return found

    def seen(self, client: SessionClient) -> Capability:
        """The same; not known where nothing usable came. Never raises for what the EHR does."""
        try:
            return self.of(client)
        except (HttpError, LaunchError):
            self._keep(client.issuer.fhir_base, Capability())
            return Capability()

    def _keep(self, base: str, found: Capability) -> None:
        life = CAPABILITY_LIFE if found.create and found.update else UNSURE_LIFE
        with self._lock:
            self._kept[base] = (time.monotonic() + life, found)


def parse_capability(body: bytes) -> Capability:
    """ChargeItem in a CapabilityStatement, read leniently."""
    types = declared_of(body, ASKED)
    found = types.get("ChargeItem", Declared())
    return Capability(
        create="create" in found.interactions,
        conditional_create=found.conditional_create,
        update_create=found.update_create,
        update="update" in found.interactions,
        search_by_identifier="search-type" in found.interactions and "identifier" in found.parameters,
        batch=takes_batches(body),
        known=look(body).resourceType == "CapabilityStatement",
        types=types,
    )
