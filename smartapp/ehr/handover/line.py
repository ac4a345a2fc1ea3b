"""One charge as a person reads it, and nothing that billing does not need: no reading, no note."""

from __future__ import annotations

from datetime import date, datetime

from msgspec import Struct

from fhir_mappings.charge_item import PERFORMING, performer_in
from smartapp.ehr.handover.method import ToCharge

ORDERING = "ordering"


class Diagnosed(Struct, frozen=True):
    """`system`: the address of the code system."""

    system: str
    code: str


class PersonId(Struct, frozen=True):
    """By what others know somebody: the NPI where the chart says it, and the EHR's own logical id."""

    npi: str = ""
    local: str = ""


class ChargeLine(Struct, frozen=True):
    """A line of the worksheet, and what the other ways that are no ChargeItem are made of."""

    key: str
    """The charge's own: the same whatever the way."""
    patient: str
    """Name, as the chart says it."""
    birth_date: str
    record_number: str
    code: str
    label: str
    quantity: int
    modifiers: tuple[str, ...]
    service_date: date
    period_start: date
    period_end: date
    diagnoses: tuple[Diagnosed, ...]
    performing: str
    ordering: str
    place: str
    """Encounter or account, as the chart calls it."""
    entered_at: datetime
    performing_id: PersonId = PersonId()
    ordering_id: PersonId = PersonId()
    visit: str = ""
    """The Encounter's logical id, where one was chosen."""


def line_of(charge: ToCharge) -> ChargeLine:
    """The line of a charge that somebody is about to hand over."""
    decision, resource = charge.decision, charge.resource
    place = resource.get("context") or next(iter(resource.get("account", ())), None)

    def identified(reference: str | None) -> PersonId:
        local = "" if reference is None else reference.rpartition("/")[2]
        return PersonId("" if reference is None else charge.npis.get(reference, ""), local)

    def named(reference: str | None) -> str:
        return "" if reference is None else charge.names.get(reference, reference)

    performing, ordering = performer_in(resource, PERFORMING), performer_in(resource, ORDERING)
    return ChargeLine(
        key=resource["identifier"][0]["value"],
        patient=charge.patient.name,
        birth_date=charge.patient.birth_date,
        record_number=charge.patient.mrn,
        code=decision.code,
        label=charge.label,
        quantity=decision.quantity,
        modifiers=tuple(decision.modifiers),
        service_date=decision.service_date or decision.period.end,
        period_start=decision.period.start,
        period_end=decision.period.end,
        diagnoses=tuple(
            Diagnosed(coding["system"], coding["code"])
            for reason in resource.get("reason", ())
            for coding in reason["coding"]
        ),
        performing=named(performing),
        ordering=named(ordering),
        place=named(None if place is None else place["reference"]),
        entered_at=datetime.fromisoformat(resource["enteredDate"]),
        performing_id=identified(performing),
        ordering_id=identified(ordering),
        visit="" if "context" not in resource else resource["context"]["reference"].rpartition("/")[2],
    )
