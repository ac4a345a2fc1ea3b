"""What a measurement can be at all, by its coding and unit (D22). The numbers stand in `believable.yaml`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from msgspec import Struct

from fhir_mappings.resources import Coding
from fhir_mappings.terminology.entries import CodeEntry
from fhir_mappings.terminology.shipped import shipped
from fhir_mappings.terminology.systems import Key, key_of


class _Range(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    lowest: float
    highest: float
    units: tuple[str, ...]


class _Measurement(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    name: str
    codings: tuple[CodeEntry, ...]
    ranges: tuple[_Range, ...] = ()
    zero: Literal["possible", "impossible"]


class _Table(Struct, forbid_unknown_fields=True):
    measurements: tuple[_Measurement, ...]


class Believable(Struct, frozen=True, gc=False, eq=False):
    """What is believed of one measurement. `ranges` by unit, in small letters; both ends are believed."""

    ranges: dict[str, tuple[float, float]]
    above_zero: bool

    def believes(self, value: float, code: str | None, unit: str | None = None) -> bool:
        """Is this value one, in its unit by code, or by its words? Where neither is known: is it above 0?"""
        ranges = self.ranges
        # As they are written first: a unit is almost always written as it is in the table.
        known = ranges.get(code) if code else None
        if known is None:
            known = self._range_of(code) or self._range_of(unit)
        if known is None:
            return value > 0 or not self.above_zero
        return known[0] <= value <= known[1]

    def _range_of(self, unit: str | None) -> tuple[float, float] | None:
        return (self.ranges.get(unit) or self.ranges.get(unit.strip().lower())) if unit else None


class BelievableValues:
    """Look-ups from codings to what is believed of them. What is not in the table is believed as it is."""

    def __init__(self) -> None:
        self._by_coding: dict[Key, Believable] = {
            entry.key: believable
            for measurement in shipped("believable", _Table).measurements
            for believable in (_believable(measurement),)
            for entry in measurement.codings
        }

    def of(self, codings: Iterable[Coding]) -> Believable | None:
        for coding in codings:
            found = self._by_coding.get(key_of(coding))
            if found is not None:
                return found
        return None


def _believable(measurement: _Measurement) -> Believable:
    return Believable(
        {
            spelling: (one.lowest, one.highest)
            for one in measurement.ranges
            for unit in one.units
            for spelling in (unit, unit.lower())
        },
        measurement.zero == "impossible",
    )
