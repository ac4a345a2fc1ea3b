"""What an EHR declares about ChargeItem in /metadata: a hint, the first real answer wins."""

from __future__ import annotations

import time
from dataclasses import dataclass
from threading import Lock

from launch.http import MEGABYTE, Limits
from launch.tokens import SessionClient
from smartapp.ehr.wire.bundles import declared

CAPABILITY_LIFE = 3600.0
CAPABILITY_LIMITS = Limits(connect=5.0, read=20.0, total=30.0, max_bytes=16 * MEGABYTE)


@dataclass(frozen=True, slots=True)
class Capability:
    """What /metadata says of ChargeItem."""

    create: bool = False
    conditional_create: bool = False
    update_create: bool = False
    search_by_identifier: bool = False


class Capabilities:
    """What each EHR declares, kept for an hour."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._kept: dict[str, tuple[float, Capability]] = {}

    def of(self, client: SessionClient) -> Capability:
        """Nothing declared where it could not be asked. Raises HttpError and LaunchError."""
        base = client.issuer.fhir_base
        with self._lock:
            kept = self._kept.get(base)
        if kept is not None and time.monotonic() - kept[0] < CAPABILITY_LIFE:
            return kept[1]
        response = client.fhir("GET", "metadata", limits=CAPABILITY_LIMITS)
        found = parse_capability(response.body) if response.ok else Capability()
        with self._lock:
            self._kept[base] = (time.monotonic(), found)
        return found


def parse_capability(body: bytes) -> Capability:
    """ChargeItem in a CapabilityStatement, read leniently."""
    found = declared(body, "ChargeItem")
    return Capability(
        create="create" in found.interactions,
        conditional_create=found.conditional_create,
        update_create=found.update_create,
        search_by_identifier="search-type" in found.interactions and "identifier" in found.parameters,
    )
