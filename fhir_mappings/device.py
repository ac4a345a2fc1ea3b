"""Device and DeviceMetric -> what kind of thing wrote a reading (R2.7, D7, D8)."""

from __future__ import annotations

from enum import Enum

from msgspec import Struct

from fhir_mappings.identity import References
from fhir_mappings.resources import Device, concepts
from fhir_mappings.terminology import Terminology, name_of
from fhir_mappings.vocabulary import Line


class DeviceKind(Enum):
    MEASURES = "measures"
    CARRIES = "carries"
    """A phone app or a gateway."""
    NOT_CONFIGURED = "not-configured"


class KnownDevice(Struct, frozen=True, gc=False):
    """`days_by` is what its monitoring days are counted by: devices of one type are one device."""

    name: str
    kind: DeviceKind
    line: Line | None
    days_by: str
    patient: str | None
    has_udi: bool


def read_device(
    device: Device, name: str, terminology: Terminology, references: References
) -> KnownDevice | None:
    """One Device; None for one entered in error, which is as good as absent."""
    if device.status == "entered-in-error":
        return None
    codings = concepts(
        device.type, [part.systemType for part in device.specialization or () if part.systemType is not None]
    )
    found = terminology.device(codings)
    if found is not None:
        line, coding = found
        kind, days_by = DeviceKind.MEASURES, name_of(coding)
    else:
        line = None
        kind = DeviceKind.CARRIES if terminology.is_carrier(codings) else DeviceKind.NOT_CONFIGURED
        typed = next((coding for coding in codings if coding.code), None)
        days_by = name_of(typed) if typed is not None else name
    return KnownDevice(
        name, kind, line, days_by, references.name(device.patient, "Patient"), bool(device.udiCarrier)
    )
