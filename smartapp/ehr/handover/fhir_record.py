"""Handing over by a record of the EHR that is no charge: created once, read back, taken back by its status.

The record bears the charge's own key as its identifier: the create is conditional on it, and without an
answer the EHR is asked for it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec

from fhir_mappings.charge_item import validate_as
from fhir_mappings.vocabulary import Line
from launch.errors import HttpError, LaunchError
from launch.http import Limits
from launch.scopes import Interaction, Scopes
from smartapp.configuration.handover import HandoverEntry, HandoverSettings, Method
from smartapp.ehr.charges.present import carries, whole_page
from smartapp.ehr.charges.workflow import Delivery, Found, Hand, Holds
from smartapp.ehr.handover.line import line_of
from smartapp.ehr.handover.method import Asked, HeldNow, ToCharge, Where
from smartapp.ehr.reading.display import ICD_10_CM, decode
from smartapp.ehr.reading.fetch import READ_LIMITS
from smartapp.ehr.wire.bundles import read_target, search
from smartapp.ehr.wire.capability import Capabilities
from smartapp.ehr.wire.looks import look
from smartapp.ehr.wire.sending import Fate, id_of_created, send
from smartapp.store.charges import Charge, Leaving

FHIR_JSON = "application/fhir+json"
_ALSO_TAKEN = frozenset({304})
_SURELY_NOT = frozenset({409, 412})
BEHAVIORAL = (
    "Charges of behavioural health leave as no task, document or message here, since the site did not choose "
    "that."
)


class FhirRecordHandover(ABC):
    """What Task and DocumentReference have in common."""

    method: ClassVar[Method]
    title: ClassVar[str]
    by_person: ClassVar[bool] = False
    type_: ClassVar[str]
    taken_back: ClassVar[str]
    """The status of a record that was taken back."""

    def __init__(self, settings: HandoverSettings, limits: Limits, capabilities: Capabilities) -> None:
        self._settings = settings
        self._limits = limits
        self._capabilities = capabilities

    @abstractmethod
    def turned_on(self, entry: HandoverEntry) -> bool:
        """Whether the site turned it on."""

    @abstractmethod
    def record(self, charge: ToCharge, entry: HandoverEntry) -> dict[str, Any]:
        """The record as it is created, without its identifier."""

    @abstractmethod
    def taken_up(self, body: Mapping[str, Any]) -> str | None:
        """Why the record cannot be taken back any more; None where it can."""

    def refusal(self, where: Where) -> str | None:
        if not self.turned_on(self._settings.of(where.issuer.id)):
            return ""
        if not where.granted.can(self.type_, Interaction.CREATE):
            return f"The EHR gave this app no permission to create a {self.type_}."
        if where.writes is not None and self.type_ not in where.writes.beside:
            return f"This EHR declares no {self.type_} create."
        return None

    def refusal_of(self, where: Where, asked: Asked) -> str | None:
        return refused_as_behavioral(self._settings.of(where.issuer.id), asked)

    def leaves(self, charge: ToCharge) -> Leaving:
        """Raises ChargeNotValid where R4 allows no such record."""
        body = self.record(charge, self._settings.of(charge.issuer_id))
        body["identifier"] = [dict(charge.resource["identifier"][0])]
        validate_as(self.type_, body)
        return Leaving(
            self.method, FHIR_JSON, msgspec.json.encode(body), msgspec.json.encode(line_of(charge))
        )

    def ready(self, hand: Hand) -> None:
        self._capabilities.of(hand.client)

    def deliver(self, hand: Hand, row: Charge) -> Delivery:
        assert row.content.leaving is not None, "what leaves is kept in the row"
        body = row.content.leaving.body
        headers = {"Prefer": "return=representation", "If-None-Exist": f"identifier={row.identifier}"}
        answer = send(
            lambda: hand.client.fhir("POST", self.type_, body=body, headers=headers, limits=self._limits),
            _ALSO_TAKEN,
        )
        made = None if answer.response is None else id_of_created(answer.response, self.type_)
        found = None if made is None else Found(Holds.OURS, f"{self.type_}/{made}")
        return Delivery(answer.fate, answer.problem, found)

    def find(self, hand: Hand, row: Charge) -> Found:
        """Our record in the EHR, by its identifier."""
        if not Scopes.parse(hand.session.granted_scope).can(self.type_, Interaction.SEARCH):
            return Found(Holds.UNSURE)
        parameters = [("identifier", row.identifier), ("patient", row.patient)]
        response = search(hand.client, self.type_, parameters, limits=READ_LIMITS)
        try:
            page = whole_page(response)
        except HttpError:
            return Found(Holds.UNSURE)
        for entry in page.entries:
            # The server may have ignored the parameter: only what carries our identifier is ours.
            body = decode(entry.resource)
            if carries(body, row.identifier) and isinstance(body.get("id"), str):
                return Found(Holds.OURS, f"{self.type_}/{body['id']}")
        return Found(Holds.NOT_YET if page.next_url is None else Holds.UNSURE)

    def may_repeat(self, hand: Hand) -> bool:
        return self._capabilities.of(hand.client).of(self.type_).conditional_create

    def read_back(self, hand: Hand, row: Charge, found: Found) -> HeldNow:
        assert row.content.leaving is not None, "what leaves is kept in the row"
        problem = f"The EHR took the {self.type_} but did not let it be read back."
        try:
            response = hand.client.fhir("GET", read_target(found.charge_item))
        except (HttpError, LaunchError):
            return HeldNow(None, problem=problem)
        body = decode(response.body)
        if not response.ok or body.get("resourceType") != self.type_:
            return HeldNow(None, problem=problem)
        sent = decode(row.content.leaving.body)
        differences = tuple(
            f"{name}: the EHR holds something else than was sent."
            for name in ("status", "identifier", "code", "type", "owner")
            if name in sent and not _holds(sent[name], body.get(name))
        )
        return HeldNow(response.body, None, differences, " ".join(differences) or None)

    # Back

    def no_way_back(self, row: Charge) -> str | None:  # noqa: ARG002
        return None

    def take_back(self, hand: Hand, row: Charge) -> Delivery:
        """Its status, over the very version that was read."""
        if not Scopes.parse(hand.session.granted_scope).can(self.type_, Interaction.UPDATE):
            return Delivery(Fate.REFUSED, f"The EHR gave this app no permission to change a {self.type_}.")
        try:
            now = hand.client.fhir("GET", read_target(row.name or "")).require_ok()
        except (HttpError, LaunchError) as error:
            return Delivery(Fate.REFUSED, error.sentence)
        body, version = decode(now.body), look(now.body).version
        etag = now.headers.get("etag") or (None if version is None else f'W/"{version}"')
        if not carries(body, row.identifier) or etag is None:
            return Delivery(Fate.REFUSED, "What the EHR holds there now is not what was handed over.")
        if (why := self.taken_up(body)) is not None:
            return Delivery(Fate.REFUSED, why)
        changed = msgspec.json.encode({**body, "status": self.taken_back})
        headers = {"If-Match": etag, "Prefer": "return=representation"}
        answer = send(
            lambda: hand.client.fhir(
                "PUT", read_target(row.name or ""), body=changed, headers=headers, limits=self._limits
            )
        )
        return Delivery(answer.fate, answer.problem, certain=answer.status in _SURELY_NOT)

    def is_taken_back(self, hand: Hand, row: Charge) -> bool | None:
        response = hand.client.fhir("GET", read_target(row.name or ""))
        body = decode(response.body)
        if not response.ok or not carries(body, row.identifier):
            return None
        return body.get("status") == self.taken_back


def refused_as_behavioral(entry: HandoverEntry, asked: Asked) -> str | None:
    """What of behavioural health stays out of tasks, documents and messages, until the site chooses."""
    return BEHAVIORAL if not entry.behavioral_health and is_behavioral(asked) else None


def is_behavioral(asked: Asked) -> bool:
    """Whether a charge tells of behavioural health: by its line, by the lines of its program where it has
    none of its own, or by its diagnosis (ICD-10-CM chapter F)."""
    decision = asked.decision
    lines = {decision.line} if decision.line is not None else _lines_of_program(asked)
    return Line.COGNITIVE_BEHAVIORAL in lines or any(
        coding["code"].upper().startswith("F")
        for reason in (asked.resource or {}).get("reason", ())
        for coding in reason["coding"]
        if coding["system"] == ICD_10_CM
    )


def _lines_of_program(asked: Asked) -> set[Line | None]:
    decisions = asked.findings.assessment.decisions
    return {one.line for one in decisions if one.program is asked.decision.program}


def _holds(sent: object, held: object) -> bool:
    """Whether everything that was sent is held; a server may add to it."""
    if isinstance(sent, dict):
        return isinstance(held, dict) and all(_holds(value, held.get(key)) for key, value in sent.items())
    if isinstance(sent, list):
        return isinstance(held, list) and all(any(_holds(item, other) for other in held) for item in sent)
    return bool(sent == held)
