"""Device -> what it is: a monitor of a line, an app, or nothing that measures (D23, D25)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from enum import Enum

from msgspec import Struct

from fhir_mappings.resources import Coding, Device, concepts
from fhir_mappings.terminology.entries import (
    CodeEntry,
    DeviceEntry,
    DeviceFact,
    DeviceKeys,
    NoMonitorEntry,
)
from fhir_mappings.terminology.systems import Key, coding_name, key_of
from fhir_mappings.vocabulary import Line

# The device identifier of a UDI as GS1 writes it for a human reader.
_DI = re.compile(r"\(01\)\s*([0-9]{14})")


class DeviceKind(Enum):
    MEASURES = "measures"
    APP = "app"
    """Software that passes on what the patient reports: for RTM as good as a device, for RPM none (D7)."""
    NO_MONITOR = "no-monitor"
    """A phone, a gateway, a wheelchair, an implant that measures nothing."""
    NOT_CONFIGURED = "not-configured"


class DeviceMeaning(Struct, frozen=True, gc=False):
    """`type_name`: devices of one name are one device type (D8); None where each is its own. `synonyms`: the
    names that the other codings of its type give it; a device that has one of them is of its type too."""

    kind: DeviceKind
    line: Line | None
    type_name: str | None
    continuous_glucose: bool = False
    synonyms: tuple[str, ...] = ()


class DeviceFacts(Struct, frozen=True, gc=False):
    """What a site states of its devices once (D39)."""

    cleared: bool = False
    supplied: bool = False


NO_FACTS = DeviceFacts()


class DeviceTypes:
    """Look-ups from Devices to meanings. The site's first entry that fits, else the shipped type codings."""

    def __init__(
        self,
        site: Iterable[DeviceEntry],
        shipped: Iterable[DeviceEntry],
        apps: Iterable[CodeEntry],
        no_monitors: Iterable[NoMonitorEntry],
        facts: Iterable[DeviceFact] = (),
    ) -> None:
        shipped, no_monitors = tuple(shipped), tuple(no_monitors)
        self._site = tuple(_SiteDevice(entry) for entry in site)
        self._facts = tuple((entry, _Keys(entry)) for entry in facts)
        self._shipped = {entry.key: entry.line for entry in shipped}
        self._continuous_glucose = {entry.key for entry in shipped if entry.continuous_glucose}
        self._apps = {entry.key for entry in apps}
        self._no_monitors = {key_of(entry) for entry in no_monitors if entry.code is not None}
        self._no_monitor_texts = {_plain(entry.type_text) for entry in no_monitors} - {None}

    def facts_of(self, device: Device) -> DeviceFacts:
        """What the site states of it: each of its entries that fits says something."""
        if not self._facts:
            return NO_FACTS
        traits = _Traits(device, _codings_of(device))
        return _together([entry for entry, keys in self._facts if keys.fits(traits)])

    def facts_of_readings(self, coding: str) -> DeviceFacts:
        """The same of readings of a coding (`coding_name`) that name no device."""
        return _together(
            [entry for entry, keys in self._facts if keys.only_coding and coding_name(entry) == coding]
        )

    def of(self, device: Device) -> DeviceMeaning:
        codings = _codings_of(device)
        if self._site:
            traits = _Traits(device, codings)
            for entry in self._site:
                if entry.fits(traits):
                    return DeviceMeaning(
                        DeviceKind.MEASURES,
                        entry.line,
                        entry.type_name,
                        entry.continuous_glucose,
                        self._synonyms(device, entry.typed_by, entry.line),
                    )
        typed: str | None = None
        kind = DeviceKind.NOT_CONFIGURED
        for coding in codings:
            key = key_of(coding)
            line = self._shipped.get(key)
            if line is not None:
                continuous = key in self._continuous_glucose
                return DeviceMeaning(
                    DeviceKind.MEASURES,
                    line,
                    coding_name(coding),
                    continuous,
                    self._synonyms(device, key, line),
                )
            if key in self._apps:
                kind = DeviceKind.APP
            elif key in self._no_monitors and kind is DeviceKind.NOT_CONFIGURED:
                kind = DeviceKind.NO_MONITOR
            if typed is None and coding.code:
                typed = coding_name(coding)
        if typed is None and _plain(device.type_text) in self._no_monitor_texts:
            kind = DeviceKind.NO_MONITOR
        return DeviceMeaning(kind, None, typed)

    def _synonyms(self, device: Device, key: Key | None, line: Line) -> tuple[str, ...]:
        """What the other codings of the same concept call a device of this coding: monitors of its line
        alone. What a device specializes in are several things that it does, and no names of one."""
        if key is None:
            return ()
        types = device.type if isinstance(device.type, list) else [device.type]
        return tuple(
            coding_name(coding)
            for one in types
            if one is not None and any(key_of(coding) == key for coding in concepts(one))
            for coding in concepts(one)
            if key_of(coding) != key and self.line_of(coding) is line
        )

    def line_of(self, coding: Coding) -> Line | None:
        """The line of one type coding, whatever device bears it."""
        key = key_of(coding)
        return next((entry.line for entry in self._site if entry.only_coding == key), self._shipped.get(key))


class _Traits:
    """What a Device says of itself, as far as a site can declare devices by it."""

    def __init__(self, device: Device, codings: Sequence[Coding]) -> None:
        self.codings = {key_of(coding) for coding in codings}
        self.manufacturer = _plain(device.manufacturer)
        self.models = {
            _plain(device.modelNumber),
            *(_plain(name.name) for name in device.deviceName or ()),
        }
        self.type_texts = {_plain(device.type_text), *(_plain(coding.display) for coding in codings)}
        self.udi_dis = {
            _plain(found)
            for carrier in device.udiCarrier or ()
            for found in (carrier.deviceIdentifier, *_DI.findall(carrier.carrierHRF or ""))
        }
        self.identifiers = {
            (_plain(identifier.system), _plain(identifier.value)) for identifier in device.identifier or ()
        }


class _Keys:
    """What an entry of a site knows a Device by. All that it says must fit, without regard to case."""

    def __init__(self, entry: DeviceKeys) -> None:
        self._coding = entry.key
        self._manufacturer = _plain(entry.manufacturer)
        self._model = _plain(entry.model)
        self._type_text = _plain(entry.type_text)
        self._udi_di = _plain(entry.udi_di)
        identifier = entry.identifier
        self._identifier = (
            (_plain(identifier.system), _plain(identifier.value)) if identifier is not None else None
        )
        self.of_model = (self._model, self._type_text, self._udi_di)
        self.manufacturer = self._manufacturer
        alone = not any((self._manufacturer, *self.of_model, self._identifier))
        self.only_coding: Key | None = self._coding if alone else None

    def fits(self, traits: _Traits) -> bool:
        return (
            (self._coding is None or self._coding in traits.codings)
            and self._manufacturer in (None, traits.manufacturer)
            and (self._model is None or self._model in traits.models)
            and (self._type_text is None or self._type_text in traits.type_texts)
            and (self._udi_di is None or self._udi_di in traits.udi_dis)
            and (self._identifier is None or self._identifier in traits.identifiers)
        )


class _SiteDevice(_Keys):
    """An entry that says what a Device monitors."""

    def __init__(self, entry: DeviceEntry) -> None:
        super().__init__(entry)
        self.line = entry.line
        self.continuous_glucose = entry.continuous_glucose
        self.typed_by: Key | None = None
        """The coding by which alone devices of this entry are of one type."""
        self.type_name: str | None = None
        if any(self.of_model):
            parts = (coding_name(entry) if entry.code else "", self.manufacturer, *self.of_model)
            self.type_name = "|".join(part or "" for part in parts)
        elif entry.code is not None:
            self.typed_by, self.type_name = entry.key, coding_name(entry)


def _together(entries: Iterable[DeviceFact]) -> DeviceFacts:
    said = list(entries)
    return DeviceFacts(
        any((entry.cleared or "").strip() for entry in said),
        any(entry.supplied_by is not None for entry in said),
    )


def _codings_of(device: Device) -> list[Coding]:
    return concepts(
        device.type,
        [part.systemType for part in device.specialization or () if part.systemType is not None],
    )


def _plain(text: str | None) -> str | None:
    plain = " ".join(text.split()).casefold() if text else None
    return plain or None
