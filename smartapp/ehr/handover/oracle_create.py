"""`ChargeItem/$create`, as Oracle Health documents it: Parameters with one charge, for an Encounter.

The operation takes no identifier and answers without an id. So what the Encounter holds is looked at before
and after: a like charge that is there already stops it, and one that is there afterwards confirms it. It is
never sent twice.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec

from fhir_mappings.charge_item import MODIFIER_EXTENSION
from launch.errors import HttpError, LaunchError
from launch.http import Limits
from launch.profiles import ChargeItemWrite
from launch.scopes import Interaction
from smartapp.configuration.handover import HandoverSettings, Method
from smartapp.ehr.charges.present import whole_page
from smartapp.ehr.charges.workflow import Delivery, Found, Hand, Holds
from smartapp.ehr.handover.line import line_of
from smartapp.ehr.handover.method import Asked, HeldNow, ToCharge, Where
from smartapp.ehr.reading.display import decode
from smartapp.ehr.reading.fetch import READ_LIMITS
from smartapp.ehr.wire.bundles import read_target, search
from smartapp.ehr.wire.looks import look
from smartapp.ehr.wire.patient_scope import Whose
from smartapp.ehr.wire.sending import Fate, send
from smartapp.store.charges import Charge, Leaving

_FUNCTIONS = {"performing": "PRF", "ordering": "OP"}
"""By which function codes the operation knows people."""
_NAMESPACE = uuid.UUID("7a4bb1c2-3a5e-5d35-9a3e-0f3d8f0a8b11")


class OracleCreateHandover:
    """For EHRs that take charges by this operation alone."""

    method: ClassVar[Method] = Method.ORACLE_CREATE
    title: ClassVar[str] = "charges by an operation of its own (ChargeItem/$create)"
    by_person: ClassVar[bool] = False

    def __init__(self, settings: HandoverSettings, limits: Limits) -> None:
        self._settings = settings
        self._limits = limits

    def refusal(self, where: Where) -> str | None:
        if self._settings.of(where.issuer.id).oracle_create is None:
            return ""
        if not where.granted.can("ChargeItem", Interaction.CREATE):
            return "The EHR gave this app no permission to write charges (ChargeItem create)."
        if not where.granted.can("ChargeItem", Interaction.SEARCH):
            return "The EHR gave this app no permission to look for charges, which the operation needs."
        known = where.issuer.profile.charge_item is ChargeItemWrite.OWN_OPERATION
        if not known and where.writes is not None and not {"create", "$create"} & {*where.writes.operations}:
            return "This EHR declares no operation of its own for charges (ChargeItem/$create)."
        return None

    def refusal_of(self, where: Where, asked: Asked) -> str | None:  # noqa: ARG002
        if asked.resource is not None and not _encounter(asked.resource):
            return "The operation of this EHR takes a charge only with an Encounter, and none was chosen."
        return None

    def leaves(self, charge: ToCharge) -> Leaving:
        way, resource, line = (
            self._settings.of(charge.issuer_id).oracle_create,
            charge.resource,
            line_of(charge),
        )
        assert way is not None, "what is not turned on is not chosen"
        sent: dict[str, Any] = {
            "resourceType": "ChargeItem",
            "status": "unknown",
            "code": {"coding": [{"system": way.bill_codes, "code": line.code}]},
            "subject": dict(resource["subject"]),
            "context": {"reference": _encounter(resource)},
            "occurrenceDateTime": line.service_date.isoformat(),
            "performer": [
                {
                    "function": {"coding": [{"code": _FUNCTIONS[one["function"]["text"]]}]},
                    "actor": dict(one["actor"]),
                }
                for one in resource.get("performer", ())
            ],
            "quantity": {"value": line.quantity},
            "reason": list(resource.get("reason", ())),
            "extension": [{"url": MODIFIER_EXTENSION, "valueCode": modifier} for modifier in line.modifiers],
        }
        transaction = uuid.uuid5(_NAMESPACE, line.key)
        body = {
            "resourceType": "Parameters",
            "parameter": [
                {"name": "transactionId", "valueUuid": f"urn:uuid:{transaction}"},
                {
                    "name": "chargeItem",
                    "resource": {name: value for name, value in sent.items() if value != []},
                },
            ],
        }
        return Leaving(
            self.method, "application/fhir+json", msgspec.json.encode(body), msgspec.json.encode(line)
        )

    def ready(self, hand: Hand) -> None:
        """What the Encounter holds is asked with the sending itself."""

    def deliver(self, hand: Hand, row: Charge) -> Delivery:
        try:
            before = self._like(hand, row)
        except (HttpError, LaunchError) as error:
            return Delivery(Fate.REFUSED, f"What the Encounter holds could not be read: {error.sentence}")
        if before is None:
            return Delivery(Fate.REFUSED, "What the Encounter holds could not be read to the end.")
        if before:
            return Delivery(
                Fate.REFUSED, f"The Encounter holds a charge of {row.code} of that day already ({before})."
            )
        assert row.content.leaving is not None, "what leaves is kept in the row"
        body = row.content.leaving.body
        answer = send(lambda: hand.client.fhir("POST", "ChargeItem/$create", body=body, limits=self._limits))
        return Delivery(answer.fate, answer.problem, Found(Holds.OURS, _name(row)))

    def find(self, hand: Hand, row: Charge) -> Found:
        """A like charge in the Encounter, where there was none before. That there is none says nothing: it
        may still be on its way."""
        like = self._like(hand, row)
        return Found(Holds.OURS, like) if like else Found(Holds.UNSURE)

    def may_repeat(self, hand: Hand) -> bool:  # noqa: ARG002
        return False

    def read_back(self, hand: Hand, row: Charge, found: Found) -> HeldNow:  # noqa: ARG002
        try:
            like = self._like(hand, row)
            response = hand.client.fhir("GET", read_target(like)) if like else None
        except (HttpError, LaunchError):
            like = response = None
        if like is None or not like or response is None or not response.ok:
            return HeldNow(
                None, problem="The EHR took the charge, and does not list it in its Encounter yet."
            )
        return HeldNow(response.body, like.removeprefix("ChargeItem/"))

    def no_way_back(self, row: Charge) -> str | None:  # noqa: ARG002
        return "A charge that was made by this EHR's own operation is credited in the EHR."

    def take_back(self, hand: Hand, row: Charge) -> Delivery:  # noqa: ARG002
        return Delivery(Fate.REFUSED, "It is credited in the EHR.")

    def is_taken_back(self, hand: Hand, row: Charge) -> bool | None:  # noqa: ARG002
        return None

    def _like(self, hand: Hand, row: Charge) -> str | None:
        """The Encounter's charge of the same code and day, of this patient; "" where there is none, None
        where not all could be read. Raises HttpError and LaunchError."""
        sent = _sent(row)
        parameters = [("context", str(sent["context"]["reference"])), ("-status", "billable")]
        page = whole_page(search(hand.client, "ChargeItem", parameters, limits=READ_LIMITS))
        for entry in page.entries:
            raw = entry.resource
            body = decode(raw)
            if body.get("resourceType") != "ChargeItem" or not isinstance(body.get("id"), str):
                continue
            if look(raw).whose(row.patient, hand.client.issuer.bases) is not Whose.OURS:
                continue
            if _same(sent, body):
                return f"ChargeItem/{body['id']}"
        return "" if page.next_url is None else None


def _encounter(resource: Mapping[str, Any]) -> str:
    reference = str((resource.get("context") or {}).get("reference", ""))
    return reference if reference.startswith("Encounter/") else ""


def _sent(row: Charge) -> dict[str, Any]:
    """The ChargeItem within the Parameters of a row."""
    assert row.content.leaving is not None, "what leaves is kept in the row"
    parameters = decode(row.content.leaving.body)["parameter"]
    sent: dict[str, Any] = next(one["resource"] for one in parameters if one["name"] == "chargeItem")
    return sent


def _same(sent: Mapping[str, Any], held: Mapping[str, Any]) -> bool:
    """Whether a charge is of the same code and day; whatever else it says."""
    code = held.get("code")
    codings = code.get("coding") if isinstance(code, dict) else None
    codes = {one.get("code") for one in codings or () if isinstance(one, dict)}
    day = str(held.get("occurrenceDateTime", ""))[:10]
    return sent["code"]["coding"][0]["code"] in codes and day == sent["occurrenceDateTime"]


def _name(row: Charge) -> str:
    """The transaction's number: all by which the operation knows it."""
    parameters = decode(row.content.leaving.body)["parameter"] if row.content.leaving else []
    number = next((one["valueUuid"] for one in parameters if one["name"] == "transactionId"), "")
    return f"transaction/{str(number).removeprefix('urn:uuid:')}"
