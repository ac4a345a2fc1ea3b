"""A DocumentReference with the worksheet of one charge, as PDF and as XHTML: for EHRs that file documents."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, ClassVar

from smartapp.configuration.handover import HandoverEntry, Method
from smartapp.ehr.handover.fhir_record import FhirRecordHandover
from smartapp.ehr.handover.line import line_of
from smartapp.ehr.handover.method import ToCharge
from smartapp.ehr.handover.sheet import pdf_of, xhtml_of

TITLE = "Charge worksheet"


class DocumentHandover(FhirRecordHandover):
    """Filed in the patient's chart; somebody in billing has to look there."""

    method: ClassVar[Method] = Method.DOCUMENT
    title: ClassVar[str] = "documents for billing (DocumentReference)"
    type_: ClassVar[str] = "DocumentReference"
    taken_back: ClassVar[str] = "entered-in-error"

    def turned_on(self, entry: HandoverEntry) -> bool:
        return entry.document is not None

    def record(self, charge: ToCharge, entry: HandoverEntry) -> dict[str, Any]:
        way, resource, line = entry.document, charge.resource, line_of(charge)
        assert way is not None, "what is not turned on is not chosen"
        entered = resource["enteredDate"]
        contents = (("application/pdf", pdf_of(line)), ("application/xhtml+xml", xhtml_of(line)))
        context: dict[str, Any] = {
            "period": {"start": line.period_start.isoformat(), "end": line.period_end.isoformat()}
        }
        if "context" in resource:
            context["encounter"] = [dict(resource["context"])]
        return {
            "resourceType": "DocumentReference",
            "status": "current",
            "docStatus": "final",
            "type": way.type.concept,
            "subject": dict(resource["subject"]),
            "date": entered,
            "author": [dict(resource["enterer"])],
            "description": f"{TITLE}: {line.code}, service date {line.service_date}",
            "content": [
                {
                    "attachment": {
                        "contentType": kind,
                        "data": base64.b64encode(content).decode(),
                        "title": TITLE,
                        "creation": entered,
                    }
                }
                for kind, content in contents
            ],
            "context": context,
        }

    def taken_up(self, body: Mapping[str, Any]) -> str | None:
        if body.get("status") in {"current", self.taken_back}:
            return None
        return "Somebody replaced the document: tell billing, since it cannot be taken back any more."
