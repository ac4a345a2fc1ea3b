"""Writes signed entries of the time log to the EHR as Encounters, once, where site and EHR allow it.

Nothing is created before the EHR was asked for the entry's identifier, and the create itself is conditional
on it: pressing twice, two people and a lost answer all end in one Encounter. An entry that was corrected or
withdrawn after it was written changes its own Encounter and no other.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

import msgspec

from fhir_mappings.time_log import TIME_LOG, entry_id_of, says_the_same
from launch.errors import HttpError, LaunchError
from launch.http import Response
from launch.ports import Clock, LaunchSession
from launch.scopes import Interaction, Scopes
from launch.tokens import SessionClient
from smartapp.configuration.site import Site
from smartapp.ehr.reading.display import decode
from smartapp.ehr.reading.fetch import READ_LIMITS
from smartapp.ehr.reading.own_record import OwnRecord
from smartapp.ehr.wire.bundles import NotAPage, declared, outcome_text, search, search_page
from smartapp.ehr.wire.capability import CAPABILITY_LIMITS
from smartapp.ehr.wire.looks import look
from smartapp.ehr.wire.patient_scope import Whose
from smartapp.store import Store
from smartapp.store.time_log import EntryState, TimeEntry


class WriteBack(Enum):
    """How an attempt ended."""

    WRITTEN = "written"
    NOT_ALLOWED = "not-allowed"
    """The site, the granted scopes or the EHR do not let this app write Encounters."""
    REFUSED = "refused"
    UNKNOWN = "unknown"
    """No clear answer. Trying again is safe: the EHR is asked for the identifier first."""


@dataclass(frozen=True, slots=True)
class WriteBackResult:
    step: WriteBack
    sentence: str = ""


class EncounterWriter:
    """One door to the EHR's Encounters."""

    def __init__(self, site: Site, store: Store, clock: Clock) -> None:
        self._site = site
        self._store = store
        self._clock = clock

    def refusal(self, session: LaunchSession) -> str | None:
        """Why entries stay in this app, as far as that is known without asking the EHR."""
        if not self._site.write_back_encounters:
            return "At this site logged time stays in this app; it is not written to the EHR."
        scopes = Scopes.parse(session.granted_scope)
        if not (scopes.can("Encounter", Interaction.CREATE) and scopes.can("Encounter", Interaction.SEARCH)):
            return (
                "The EHR gave this app no permission to write Encounters, so logged time stays in this app."
            )
        return None

    def write(self, client: SessionClient, session: LaunchSession, entry: TimeEntry) -> WriteBackResult:
        """Bring the EHR's Encounter in step with the entry. Never raises for what the EHR does."""
        if (refused := self.refusal(session)) is not None:
            return WriteBackResult(WriteBack.NOT_ALLOWED, refused)
        if not entry.counts and entry.encounter is None:
            return WriteBackResult(WriteBack.NOT_ALLOWED, "An entry that is not signed is not written.")
        try:
            return self._write(client, session, entry)
        except NotAPage:
            return WriteBackResult(WriteBack.UNKNOWN, "The EHR's list of Encounters could not be read.")
        except (HttpError, LaunchError) as error:
            return WriteBackResult(WriteBack.UNKNOWN, error.sentence)

    def _write(self, client: SessionClient, session: LaunchSession, entry: TimeEntry) -> WriteBackResult:
        held = self._held(client, session, entry)
        if not entry.counts:
            return self._take_back(client, session, entry, held)
        own = OwnRecord(f"Patient/{entry.patient}", self._site.zone, {entry.id: entry}, ())
        resource = own.encounter(entry)
        validate(resource)
        if held is not None:
            if says_the_same(held, resource):
                return self._written(session, entry, str(held["id"]))
            return self._update(client, session, entry, held, resource)
        if not _may_create(client):
            return WriteBackResult(
                WriteBack.NOT_ALLOWED, "The EHR does not offer to take Encounters, so logged time stays here."
            )
        response = client.fhir(
            "POST",
            "Encounter",
            body=msgspec.json.encode(resource),
            headers={
                "Prefer": "return=representation",
                "If-None-Exist": f"identifier={TIME_LOG}|{entry.id}",
            },
        )
        if response.ok or response.status == 304:
            # Asked for again rather than believed: a server may answer without a body or a location.
            created = self._held(client, session, entry)
            if created is not None:
                return self._written(session, entry, str(created["id"]))
            return WriteBackResult(WriteBack.UNKNOWN, "The EHR took the Encounter but does not list it yet.")
        return _refused(response)

    def _held(self, client: SessionClient, session: LaunchSession, entry: TimeEntry) -> dict[str, Any] | None:
        """The EHR's copy of an entry. Raises HttpError or NotAPage where that cannot be told."""
        parameters = [("identifier", f"{TIME_LOG}|{entry.id}"), ("patient", session.patient or "")]
        page = search_page(search(client, "Encounter", parameters, limits=READ_LIMITS).require_ok().body)
        if page.cut_off:
            raise NotAPage
        copies = [
            body
            for found in page.entries
            # The server may have ignored the parameter: only what carries the identifier is the copy.
            if entry_id_of(body := decode(found.resource)) == entry.id
            and isinstance(body.get("id"), str)
            and look(found.resource).whose(entry.patient, client.issuer.bases) is Whose.OURS
        ]
        return min(
            copies, key=lambda body: (body.get("id") != entry.encounter, str(body["id"])), default=None
        )

    def _update(
        self,
        client: SessionClient,
        session: LaunchSession,
        entry: TimeEntry,
        held: dict[str, Any],
        resource: dict[str, Any],
    ) -> WriteBackResult:
        """The EHR's copy is of an earlier version: put the present one in its place."""
        if not Scopes.parse(session.granted_scope).can("Encounter", Interaction.UPDATE):
            return WriteBackResult(
                WriteBack.NOT_ALLOWED,
                f"Encounter/{held['id']} holds an earlier version, and the EHR does not let this app change "
                "it. Change it in the EHR.",
            )
        body = {**resource, "id": held["id"]}
        version = look(msgspec.json.encode(held)).version
        headers = {"If-Match": f'W/"{version}"'} if version else {}
        response = client.fhir(
            "PUT", f"Encounter/{held['id']}", body=msgspec.json.encode(body), headers=headers
        )
        return self._written(session, entry, str(held["id"])) if response.ok else _refused(response)

    def _take_back(
        self,
        client: SessionClient,
        session: LaunchSession,
        entry: TimeEntry,
        held: dict[str, Any] | None,
    ) -> WriteBackResult:
        """An entry that does not stand any more must not stand in the EHR either."""
        if held is None or held.get("status") == "entered-in-error":
            return WriteBackResult(WriteBack.WRITTEN)
        taken_back = {**held, "status": "entered-in-error"}
        if not Scopes.parse(session.granted_scope).can("Encounter", Interaction.UPDATE):
            return WriteBackResult(
                WriteBack.NOT_ALLOWED,
                f"Encounter/{held['id']} still stands in the EHR, which does not let this app change it. "
                "Mark it as entered in error there. It is not counted here.",
            )
        response = client.fhir("PUT", f"Encounter/{held['id']}", body=msgspec.json.encode(taken_back))
        if not response.ok:
            return _refused(response)
        self._store.audit.add(
            self._clock.now(),
            "time-taken-back-in-ehr",
            issuer=entry.issuer_id,
            patient=entry.patient,
            user=session.fhir_user,
            entry=entry.id,
            encounter=str(held["id"]),
        )
        return WriteBackResult(WriteBack.WRITTEN)

    def _written(self, session: LaunchSession, entry: TimeEntry, logical_id: str) -> WriteBackResult:
        """Keep that the EHR holds the signed version. Somebody who was faster has kept the same."""
        signed = entry.signed
        if entry.state is EntryState.SIGNED and signed is not None:
            self._store.time_log.append(
                entry.issuer_id,
                entry.patient,
                entry.id,
                entry.latest.version,
                EntryState.WRITTEN,
                msgspec.structs.replace(
                    signed.content,
                    by=session.fhir_user or "",
                    by_name=session.user_name or _name_kept(entry, session.fhir_user),
                    encounter=logical_id,
                ),
                self._clock.now(),
                "time-written",
                session=session.id,
                user=session.fhir_user,
                encounter=logical_id,
            )
        return WriteBackResult(WriteBack.WRITTEN)


def _name_kept(entry: TimeEntry, user: str | None) -> str:
    """What the entry's versions call somebody."""
    return next((item.content.by_name for item in entry.versions if item.content.by == user), "")


def validate(resource: dict[str, Any]) -> None:
    """Raise ValueError unless R4 allows this Encounter."""
    from fhir.resources.R4B.encounter import Encounter as Model  # slow to import, and only writes need it

    Model.model_validate(resource)


def _may_create(client: SessionClient) -> bool:
    """Whether /metadata declares that Encounters can be created."""
    response = client.fhir("GET", "metadata", limits=CAPABILITY_LIMITS)
    return response.ok and "create" in declared(response.body, "Encounter").interactions


def _refused(response: Response) -> WriteBackResult:
    said = outcome_text(response.body) or "without saying why"
    return WriteBackResult(WriteBack.REFUSED, f"The EHR answered {response.status}: {said}")
