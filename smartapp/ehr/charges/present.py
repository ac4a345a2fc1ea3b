"""The charges that an EHR holds of a patient at this moment."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from fhir_mappings.chart import Chart
from fhir_mappings.identity import Bases
from fhir_mappings.record import PriorCharge
from launch.errors import HttpError, HttpProblem
from launch.http import Response
from launch.ports import Clock, LaunchSession
from launch.scopes import Interaction, Scopes
from launch.tokens import SessionClient
from smartapp.configuration.site import Site
from smartapp.ehr.reading.display import decode
from smartapp.ehr.reading.fetch import NOT_ALLOWED, NOT_UNDERSTOOD, READ_LIMITS
from smartapp.ehr.wire.bundles import Entry, NotAPage, SearchPage, read_target, search, search_page
from smartapp.ehr.wire.looks import judged, look, version_of
from smartapp.ehr.wire.patient_scope import Whose
from smartapp.store import Store

log = logging.getLogger(__name__)

MOST_PAGES = 50


@dataclass(frozen=True, slots=True)
class HeldCharge:
    """A ChargeItem that a search brought."""

    name: str
    """Its reference; where it has no id, or cannot be read, a name made up from its bytes."""
    body: dict[str, Any]
    version: str


@dataclass(frozen=True, slots=True)
class Held:
    """A charge as the EHR holds it at this moment."""

    body: dict[str, Any]
    version: str
    etag: str | None
    """What `If-Match` must say; None where the EHR numbers no versions."""


class PresentCharges:
    """Asks an EHR for the charges of one patient."""

    def __init__(self, site: Site, store: Store, clock: Clock) -> None:
        self._site = site
        self._store = store
        self._clock = clock

    def of(self, client: SessionClient, session: LaunchSession) -> dict[str, HeldCharge] | None:
        """Every ChargeItem of the patient, now; None where this EHR does not list them.

        Raises HttpError if they cannot be read to the end.
        """
        if not Scopes.parse(session.granted_scope).can("ChargeItem", Interaction.SEARCH):
            return None
        parameters = [("patient", session.patient or ""), ("_count", "200")]
        response = search(client, "ChargeItem", parameters, limits=READ_LIMITS)
        found: dict[str, HeldCharge] = {}
        foreign = 0
        for _ in range(MOST_PAGES):
            # Some list charges by their Encounter alone, and do not understand a search by patient.
            if response.status in NOT_ALLOWED | NOT_UNDERSTOOD:
                return None
            page = whole_page(response)
            for entry in page.entries:
                held = held_charge(entry, session.patient or "", client.issuer.bases)
                if held is Whose.FOREIGN:
                    foreign += 1
                elif not isinstance(held, Whose):
                    found[held.name] = held
            if page.next_url is None:
                self._tell_of_foreign(session, foreign)
                return found
            response = client.fhir("GET", page.next_url, limits=READ_LIMITS)
        raise HttpError(HttpProblem.TOO_LARGE, host=response.host, request_id=response.request_id)

    def beside(
        self, client: SessionClient, session: LaunchSession, identifier: str
    ) -> dict[str, HeldCharge] | None:
        """What the EHR holds now, the charge of this identifier left out; None if it does not say."""
        present = self.of(client, session)
        if present is None:
            return None
        return {name: held for name, held in present.items() if not carries(held.body, identifier)}

    def _tell_of_foreign(self, session: LaunchSession, count: int) -> None:
        """Charges of another patient among this one's: dropped, and told to whoever runs this."""
        if not count:
            return
        log.warning("issuer %s: charges of another patient dropped: %d", session.issuer_id, count)
        self._store.audit.add(
            self._clock.now(),
            "foreign-dropped",
            issuer=session.issuer_id,
            patient=session.patient,
            user=session.fhir_user,
            session=session.id,
            type="ChargeItem",
            count=count,
        )

    def among(self, held: Iterable[HeldCharge], patient: str) -> tuple[PriorCharge, ...]:
        """Those that are charges of remote monitoring, with the days they stand for."""
        today = self._site.today(self._clock.now())
        chart = Chart(self._site.terminology, self._site.zone, today, codes=self._site.policy.known)
        chart.add(msgspec.json.encode({"resourceType": "Patient", "id": patient}))
        for charge in held:
            chart.add(msgspec.json.encode({**charge.body, "subject": {"reference": f"Patient/{patient}"}}))
        return chart.record(f"Patient/{patient}").charges


def charge_now(client: SessionClient, charge_item: str) -> Held | None:
    """The charge as the EHR holds it now; None if it holds none. Raises HttpError."""
    response = client.fhir("GET", read_target(f"ChargeItem/{charge_item}"))
    if response.status in {404, 410}:
        return None
    body = response.require_ok().body
    seen = look(body)
    etag = response.headers.get("etag")
    if etag is None and seen.version is not None:
        etag = f'W/"{seen.version}"'
    return Held(decode(body), version_of(seen, body), etag)


def held_charge(entry: Entry, patient: str, bases: Bases) -> HeldCharge | Whose:
    """A charge that a search brought, named as the reader names it, so that the two can be compared.

    One that cannot be read has no body: that it is there is known, not what it stands for. Another patient's
    is FOREIGN; NOBODYS is what is no charge.
    """
    if entry.resource in (b"", b"null") or (entry.search is not None and entry.search.mode != "match"):
        return Whose.NOBODYS
    found = judged(entry, "ChargeItem", patient, bases)
    if found.whose is Whose.FOREIGN or found.type == "OperationOutcome":
        return Whose.FOREIGN if found.whose is Whose.FOREIGN else Whose.NOBODYS
    readable = found.whose is not Whose.UNREADABLE
    return HeldCharge(found.reference, decode(found.raw) if readable else {}, found.version)


def whole_page(response: Response) -> SearchPage:
    """A page of which nothing is missing. Raises HttpError."""
    try:
        page = search_page(response.require_ok().body)
    except NotAPage:
        raise HttpError(HttpProblem.NOT_JSON, host=response.host, request_id=response.request_id) from None
    if page.cut_off:
        raise HttpError(HttpProblem.TOO_LARGE, host=response.host, request_id=response.request_id)
    return page


def carries(body: Mapping[str, Any], token: str) -> bool:
    """Whether a ChargeItem has that identifier."""
    identifiers = body.get("identifier")
    return isinstance(identifiers, list) and any(
        isinstance(item, dict) and f"{item.get('system')}|{item.get('value')}" == token
        for item in identifiers
    )
