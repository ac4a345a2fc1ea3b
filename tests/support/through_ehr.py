"""Any resources, however odd, through an EHR: the sandbox serves them over HTTP, the app's reader reads them
and decides, as it does in a session. What comes out is the JSON that `smartapp evaluate` gives."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import Any

from fhir_mappings.local_time import LocalClock
from fhir_mappings.salvage import Salvaged, salvaged
from launch.http import EhrClient, Response
from launch.issuers import Issuer
from launch.limiter import IssuerLimiter, Lease
from launch.profiles import load_profile
from launch.sandbox import RunningSandbox
from launch.sandbox.credentials import CredentialKind
from launch.scopes import Scopes
from smartapp.configuration.site import Site
from smartapp.ehr.reading.findings import Findings, FindingsMaker
from smartapp.ehr.reading.reader import ChartReading
from smartapp.store.reading import StoredResource
from tests.support.unsealed import unsealed_pages

HISTORY_MONTHS = 13
_SHARED = frozenset({"Practitioner", "PractitionerRole", "DeviceMetric", "Location", "Organization"})


class _AsManyAsAsked:
    """A budget that refuses nothing and counts nothing: hundreds of cases ask one EHR within a minute."""

    def take(self, *_: object) -> Lease:
        return Lease(1_000_000)


@dataclass
class _Client:
    """A `SessionClient` with a token of its own."""

    client: EhrClient
    token: str

    @property
    def issuer(self) -> Issuer:
        return self.client.issuer

    def fhir(self, method: str, target: str, **more: Any) -> Response:
        return self.client.fhir(method, target, token=self.token, **more)


class EhrOfACase:
    """A sandbox that holds one case's resources at a time. `profile`: the vendor whose searches are made."""

    def __init__(self, running: RunningSandbox, profile: str = "sandbox") -> None:
        self._running = running
        token = running.sandbox.credentials.issue(
            CredentialKind.ACCESS, "a-test", {"scope": "system/*.rs"}, 100_000
        )
        issuer = Issuer(
            "case",
            running.config.fhir_base,
            "a-test",
            load_profile(profile),
            allow_loopback=True,
            max_parallel=4,
        )
        limiter = IssuerLimiter(issuer.max_parallel, issuer.requests_per_minute, _AsManyAsAsked())
        self._client = _Client(EhrClient(issuer, limiter=limiter), token)

    def close(self) -> None:
        self._client.client.close()

    def holds(self, resources: Iterable[str]) -> list[str]:
        """From now on it holds these (JSON texts, or texts that are none) and nothing else. Gives back those
        that no server could hold: a second record under one id, or one of a type that it does not know."""
        store = self._running.sandbox.store
        with store.database.write() as connection:
            for table in ("resource", "index_date", "index_token", "index_reference"):
                connection.execute(f"DELETE FROM {table}")
        left_out = []
        texts = [(text, salvaged(text.encode())) for text in resources]
        patients = [found.id for _, found in texts if found.type == "Patient"]
        for number, (text, found) in enumerate(texts):
            owner = _owner(found, patients) if found.type not in _SHARED else None
            try:
                store.load_as_it_is(text, found.type, found.id or f"unnamed-{number}", owner)
            except (KeyError, sqlite3.IntegrityError):
                left_out.append(text)
        return left_out

    def answer(self, patient: str, site: Site, as_of: date) -> Findings:
        """What the app decides on one patient (a logical id)."""
        store: list[StoredResource] = []
        reading = ChartReading(
            self._client,  # type: ignore[arg-type]
            Scopes.parse("patient/*.rs user/*.rs"),
            patient,
            terminology=site.terminology,
            clock=LocalClock(site.zone),
            page_limit=400,
            byte_limit=10**9,
            pages=unsealed_pages(),
            tick=lambda _: True,
            tick_seconds=5,
        )
        maker = FindingsMaker(site, patient, reading.base, as_of, HISTORY_MONTHS, {})

        def first(resource: StoredResource) -> None:
            store.append(resource)
            maker.add_first(resource)

        def rest(resource: StoredResource) -> None:
            store.append(resource)
            maker.add(resource)

        reading.read_first(first, assumed=maker.assumed())
        reading.read_rest(maker.needs(), rest)
        return maker.findings(reading.notices(), lambda: store, server_time=reading.server_time)


def _owner(found: Salvaged, patients: list[str]) -> str | None:
    """Under whose searches a server would show it: whoever it names, else the only patient there is."""
    if found.type == "Patient":
        return found.id
    reference = found.subject.reference if found.subject is not None else None
    if reference and "Patient/" in reference:
        return reference.rsplit("Patient/", 1)[1].split("/", 1)[0]
    if found.type == "Device" and found.subject is None:
        return None
    return patients[0] if len(patients) == 1 else None
