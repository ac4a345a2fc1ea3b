"""A ChargeItem through the EHR's own API: the way in which the EHR itself confirms the charge.

The create is conditional on our identifier; without an answer the EHR is asked for the identifier.
"""

from __future__ import annotations

import base64
import hashlib
from typing import ClassVar

import msgspec

from launch.errors import HttpError
from launch.http import Limits, Response
from launch.profiles import ChargeItemWrite
from launch.scopes import Interaction, Scopes
from smartapp.configuration.handover import Method
from smartapp.ehr.charges.present import carries, held_charge, whole_page
from smartapp.ehr.charges.read_back import read_back
from smartapp.ehr.charges.workflow import Delivery, Found, Hand, Holds
from smartapp.ehr.handover.method import Asked, HeldNow, ToCharge, Where
from smartapp.ehr.reading.display import decode
from smartapp.ehr.reading.fetch import READ_LIMITS
from smartapp.ehr.wire.bundles import search
from smartapp.ehr.wire.capability import Capabilities
from smartapp.ehr.wire.patient_scope import Whose
from smartapp.ehr.wire.sending import Fate, id_of_created, send
from smartapp.store.charges import Charge, Leaving

_ALSO_TAKEN = frozenset({304})
"""How some servers answer a conditional create that finds its charge."""


class ChargeItemHandover:
    """For EHRs with a ChargeItem API."""

    method: ClassVar[Method] = Method.CHARGE_ITEM
    title: ClassVar[str] = "charges of its own (ChargeItem)"
    by_person: ClassVar[bool] = False

    def __init__(self, limits: Limits, capabilities: Capabilities) -> None:
        self._limits = limits
        self._capabilities = capabilities

    def refusal(self, where: Where) -> str | None:
        """By the scopes granted, the EHR's profile, and /metadata."""
        if not where.granted.can("ChargeItem", Interaction.CREATE):
            return "The EHR gave this app no permission to write charges (ChargeItem create)."
        charge_item = where.issuer.profile.charge_item
        if charge_item is ChargeItemWrite.OWN_OPERATION:
            return "This EHR takes charges only through an operation of its own."
        if charge_item is ChargeItemWrite.NO:
            return "This EHR takes no charges from this app (so its entry or profile says)."
        declared = charge_item is ChargeItemWrite.DECLARED
        if declared and where.writes is not None and not where.writes.create:
            return "This EHR takes no charges from this app (it declares no ChargeItem create)."
        return None

    def refusal_of(self, where: Where, asked: Asked) -> str | None:  # noqa: ARG002
        return None

    def leaves(self, charge: ToCharge) -> Leaving:
        return Leaving(self.method, "application/fhir+json", msgspec.json.encode(charge.resource))

    def ready(self, hand: Hand) -> None:
        self._capabilities.of(hand.client)

    def deliver(self, hand: Hand, row: Charge) -> Delivery:
        answer = send(lambda: self._request(hand, row), _ALSO_TAKEN)
        made = None if answer.response is None else id_of_created(answer.response, "ChargeItem")
        found = None
        if made is not None and answer.response is not None:
            found = Found(Holds.OURS, made, answer.response.body)
        return Delivery(answer.fate, answer.problem, found)

    def _request(self, hand: Hand, row: Charge) -> Response:
        """A conditional create where the EHR has it, else our own id, else a plain create."""
        client, resource = hand.client, row.content.resource
        capability = self._capabilities.of(client)
        headers = {"Prefer": "return=representation"}
        may_update = Scopes.parse(hand.session.granted_scope).can("ChargeItem", Interaction.UPDATE)
        if capability.update_create and may_update and not capability.conditional_create:
            # Only without conditional create: a PUT would overwrite what the EHR did with the charge.
            own_id = _own_id(row.identifier)
            body = msgspec.json.encode({**resource, "id": own_id})
            return client.fhir("PUT", f"ChargeItem/{own_id}", body=body, headers=headers, limits=self._limits)
        headers["If-None-Exist"] = f"identifier={row.identifier}"
        return client.fhir(
            "POST", "ChargeItem", body=msgspec.json.encode(resource), headers=headers, limits=self._limits
        )

    def find(self, hand: Hand, row: Charge) -> Found:
        """Our charge in the EHR, by its identifier."""
        client = hand.client
        if not Scopes.parse(hand.session.granted_scope).can("ChargeItem", Interaction.SEARCH):
            return Found(Holds.UNSURE)
        parameters = [("identifier", row.identifier), ("patient", row.patient)]
        response = search(client, "ChargeItem", parameters, limits=READ_LIMITS)
        try:
            page = whole_page(response)
        except HttpError:
            return Found(Holds.UNSURE)
        sure = page.next_url is None
        for entry in page.entries:
            # The server may have ignored the parameter: only what carries our identifier is ours.
            held = held_charge(entry, row.patient, client.issuer.bases)
            if isinstance(held, Whose):
                sure = sure and not carries(decode(entry.resource), row.identifier)
            elif carries(held.body, row.identifier) and isinstance(held.body.get("id"), str):
                return Found(Holds.OURS, str(held.body["id"]))
            elif not held.body:
                sure = False
        return Found(Holds.NOT_YET if sure else Holds.UNSURE)

    def may_repeat(self, hand: Hand) -> bool:
        return self._capabilities.of(hand.client).conditional_create

    def read_back(self, hand: Hand, row: Charge, found: Found) -> HeldNow:
        held = read_back(hand.client, row.content.resource, row.patient, found.charge_item, found.body)
        return HeldNow(held.body, found.charge_item, held.differences, held.problem)

    def no_way_back(self, row: Charge) -> str | None:  # noqa: ARG002
        return "It is changed or withdrawn as the ChargeItem that it is."

    def take_back(self, hand: Hand, row: Charge) -> Delivery:  # noqa: ARG002
        return Delivery(Fate.REFUSED, "It is withdrawn as the ChargeItem that it is.")

    def is_taken_back(self, hand: Hand, row: Charge) -> bool | None:  # noqa: ARG002
        return None


def _own_id(identifier: str) -> str:
    """An id of ours for a PUT: from the identifier, so that the same charge always has the same id."""
    return base64.b32encode(hashlib.sha256(identifier.encode()).digest()).decode().rstrip("=").lower()[:40]
