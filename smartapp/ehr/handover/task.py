"""A Task to a billing pool: what is to be entered, for whom, and nothing of the readings behind it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from fhir_mappings.charge_item import PERFORMING, performer_in, system_of
from smartapp.configuration.handover import HandoverEntry, Method
from smartapp.ehr.handover.fhir_record import FhirRecordHandover
from smartapp.ehr.handover.line import ORDERING, line_of
from smartapp.ehr.handover.method import ToCharge

REQUESTED = "requested"


class TaskHandover(FhirRecordHandover):
    """Its focus is the Encounter or account that was chosen, else the patient."""

    method: ClassVar[Method] = Method.TASK
    title: ClassVar[str] = "tasks for billing (Task)"
    type_: ClassVar[str] = "Task"
    taken_back: ClassVar[str] = "cancelled"

    def turned_on(self, entry: HandoverEntry) -> bool:
        return entry.task is not None

    def record(self, charge: ToCharge, entry: HandoverEntry) -> dict[str, Any]:
        way, resource, line = entry.task, charge.resource, line_of(charge)
        assert way is not None, "what is not turned on is not chosen"
        place = resource.get("context") or next(iter(resource.get("account", ())), resource["subject"])
        inputs: list[tuple[str, str, Any]] = [
            ("code", "valueCoding", {"system": system_of(line.code), "code": line.code}),
            ("units", "valuePositiveInt", line.quantity),
            *(("modifier", "valueString", modifier) for modifier in line.modifiers),
            ("service date", "valueDate", line.service_date.isoformat()),
            (
                "period",
                "valuePeriod",
                {"start": line.period_start.isoformat(), "end": line.period_end.isoformat()},
            ),
            *(
                ("diagnosis", "valueCoding", {"system": one.system, "code": one.code})
                for one in line.diagnoses
            ),
            *(
                (function, "valueReference", {"reference": who})
                for function in (PERFORMING, ORDERING)
                if (who := performer_in(resource, function)) is not None
            ),
        ]
        return {
            "resourceType": "Task",
            "status": REQUESTED,
            "intent": "proposal",
            "code": way.code.concept,
            "description": f"Enter this charge: {line.code}, {line.quantity} "
            f"{'unit' if line.quantity == 1 else 'units'}, service date {line.service_date}.",
            "focus": dict(place),
            "for": dict(resource["subject"]),
            "authoredOn": resource["enteredDate"],
            "requester": dict(resource["enterer"]),
            "owner": {"reference": way.owner},
            "input": [{"type": {"text": name}, kind: value} for name, kind, value in inputs],
        }

    def taken_up(self, body: Mapping[str, Any]) -> str | None:
        if body.get("status") in {REQUESTED, self.taken_back}:
            return None
        return "Billing has taken the task up: tell them, since it cannot be called back any more."
