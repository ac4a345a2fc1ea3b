"""Device -> what kind of thing wrote a reading, and whose it is (R2.7, D7, D8, D25)."""

from __future__ import annotations

from msgspec import Struct

from fhir_mappings.identity import References, about_of, owner_of
from fhir_mappings.record import About
from fhir_mappings.resources import Device, concepts
from fhir_mappings.terminology import DeviceKind, Terminology
from fhir_mappings.vocabulary import Line


class KnownDevice(Struct, frozen=True, gc=False):
    """`days_by` is what its monitoring days are counted by: devices of one type are one device. `synonyms`:
    what they may be counted by too, since its type has several codings."""

    name: str
    kind: DeviceKind
    line: Line | None
    days_by: str
    patient: str | None
    """None where it names nobody."""
    cleared: bool
    """A UDI, or the site, says that it is a medical device."""
    supplied: bool
    """The site says that the practice supplies such ones."""
    about: About
    is_test_data: bool = False
    continuous_glucose: bool = False
    synonyms: tuple[str, ...] = ()


def read_device(
    device: Device, name: str, terminology: Terminology, references: References
) -> KnownDevice | None:
    """One Device; None for one entered in error, which is as good as absent. One that a reading contains is
    named by that reading (`Observation/o1#d`).

    `inactive` says nothing: it is of today, and its readings are of then.
    """
    if device.status == "entered-in-error":
        return None
    meaning, facts = terminology.device(device), terminology.device_facts(device)
    owner = owner_of(device.patient, device.contained)
    return KnownDevice(
        name,
        meaning.kind,
        meaning.line,
        meaning.type_name or (_itself(device) if "#" in name else "") or name,
        references.resolve(owner) or (owner if references.is_a_stranger(owner) else None),
        facts.cleared
        or any(
            carrier.deviceIdentifier or carrier.carrierHRF or carrier.carrierAIDC
            for carrier in device.udiCarrier or ()
        ),
        facts.supplied,
        _about(device, name),
        terminology.is_test_data(device.meta),
        meaning.continuous_glucose,
        meaning.synonyms,
    )


def _itself(device: Device) -> str:
    """What a contained device, which has no name outside of its reading, is known by: its serial number or
    identifiers among those of its maker and model. "" where it has neither: then it is that reading's own."""
    numbers = sorted(f"{number.system}|{number.value}" for number in device.identifier or () if number.value)
    if device.serialNumber and device.serialNumber.strip():
        numbers.append(device.serialNumber)
    if not numbers:
        return ""
    names = sorted(part.name for part in device.deviceName or () if part.name)
    parts = (device.manufacturer, device.modelNumber, *names, *numbers)
    return "|".join(" ".join((part or "").split()).casefold() for part in ("contained", *parts))


def _about(device: Device, name: str) -> About:
    """What a site would declare it by: its type, else its words."""
    typed = about_of(concepts(device.type))
    if typed.code:
        return typed
    names = [part.name for part in device.deviceName or () if part.name]
    maker, model = device.manufacturer or "", device.modelNumber or (names[0] if names else "")
    words = device.type_text or ""
    text = " ".join(word for word in (maker, model) if word) or words
    return About(display=text or name, manufacturer=maker, model=model, type_text=words)
