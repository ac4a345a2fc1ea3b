"""value[x] -> whether it is a measurement at all (D21), and one that can be believed (D22).

What proves no value is none: a unit alone, an empty object, a reason why it is absent. "Not done", no
exercises, no pain are values: the patient reported them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from enum import IntEnum
from typing import TypeVar

import msgspec
from msgspec import Raw, Struct

from fhir_mappings.resources import (
    NOT_JSON,
    CodeableConcept,
    MeasuredQuantity,
    MeasuredRange,
    Observation,
    Period,
    SampledData,
    ValueHolder,
    readings_in,
)
from fhir_mappings.terminology import Believable, Terminology

_EMPTY = (b"null", b"{}", b"[]", b'""')
_DIGIT = re.compile(r"[0-9]")
_NOT_MEASURED = frozenset({"entered-in-error", "cancelled", "registered"})
_MOST_PARTS = 10_000
"""Texts of component codes that are kept; a chart has a few dozen."""
_Kind = TypeVar("_Kind")


class Said(IntEnum):
    NOTHING = 0
    ABSENT = 1
    """That there is no value."""
    UNBELIEVABLE = 2
    """Only values that no person has."""
    VALUE = 3


Told = tuple[Said, int]
"""What an Observation's values come to, and what is the same for the same values (D18)."""


class _Part(Struct, frozen=True, gc=False):
    """What a component's code says: how it was measured, or what, and what is believed of it."""

    circumstance: bool
    believable: Believable | None


class Values:
    """Reads values. One for all Observations: it keeps what the codes of components mean."""

    def __init__(self, terminology: Terminology) -> None:
        self._terminology = terminology
        self._parts: dict[bytes, _Part] = {}

    def told(self, observation: Observation, believable: Believable | None) -> Told:
        """What an Observation's values say. `believable`: of its own code."""
        said = Said.NOTHING
        if observation.component:
            values: list[object] = []
            for component in observation.component:
                code = bytes(component.code)
                part = self._parts.get(code) or self._learn_part(code)
                if part.circumstance:
                    continue
                quantity = component.valueQuantity
                if quantity is not None and type(quantity.value) is float and not component.dataAbsentReason:
                    values.append(quantity)
                    limits = part.believable
                    if limits is None or limits.believes(quantity.value, quantity.code, quantity.unit):
                        said = Said.VALUE
                    elif said < Said.UNBELIEVABLE:
                        said = Said.UNBELIEVABLE
                else:
                    said = max(said, self._other(component, part.believable, values))
            if values:
                return said, hash(tuple(values))
        quantity = observation.valueQuantity
        if quantity is not None and type(quantity.value) is float and not observation.dataAbsentReason:
            if believable is None or believable.believes(quantity.value, quantity.code, quantity.unit):
                return Said.VALUE, hash(quantity)
            return Said.UNBELIEVABLE, hash(quantity)
        values = []
        said = max(said, self._other(observation, believable, values))
        if said < Said.UNBELIEVABLE and observation.contained and observation.hasMember:
            return self._of_contained(observation)
        return said, hash(tuple(values))

    def _of_contained(self, panel: Observation) -> Told:
        """What the members say that a panel contains itself."""
        inner = readings_in(panel.contained)
        named = (inner.get((member.reference or "").removeprefix("#")) for member in panel.hasMember or ())
        told = [
            self.told(one, self._terminology.believable((one.code and one.code.coding) or ()))
            for one in named
            if one is not None and one.status not in _NOT_MEASURED
        ]
        return max((said for said, _ in told), default=Said.NOTHING), hash(tuple(told))

    def _learn_part(self, code: bytes) -> _Part:
        concept = (_decoded(Raw(code), _concept) if code else None) or CodeableConcept()
        if len(self._parts) >= _MOST_PARTS:
            self._parts.clear()
        part = self._parts[code] = _Part(
            self._terminology.is_circumstance(concept), self._terminology.believable(concept.coding or ())
        )
        return part

    def _other(self, holder: ValueHolder, believable: Believable | None, values: list[object]) -> Said:
        """What a value of any kind says; those that are values are added to `values`."""
        if _there(holder.dataAbsentReason):
            return Said.ABSENT
        said = Said.NOTHING
        for one, number in self._each(holder):
            if one is Said.ABSENT:
                said = max(said, Said.ABSENT)
                continue
            values.append(one)
            if number is None or believable is None or believable.believes(*number):
                said = Said.VALUE
            else:
                said = max(said, Said.UNBELIEVABLE)
        return said

    def _each(
        self, holder: ValueHolder
    ) -> Iterator[tuple[object, tuple[float, str | None, str | None] | None]]:
        """Each value, with number and units where it is a number; `Said.ABSENT` for one that says so."""
        if holder.valueQuantity is not None and (number := _number(holder.valueQuantity)) is not None:
            yield holder.valueQuantity, number
        if _there(holder.valueInteger):
            whole = _decoded(holder.valueInteger, _integer)
            if whole is not None:
                yield whole, (whole, None, None)
        if _there(holder.valueCodeableConcept):
            concept = _decoded(holder.valueCodeableConcept, _concept)
            if concept is not None and (said := self._concept_says(concept)) is not Said.NOTHING:
                yield (Said.ABSENT if said is Said.ABSENT else concept), None
        if _there(holder.valueString):
            text = _decoded(holder.valueString, _text)
            if text is not None and (plain := text.strip()):
                yield (Said.ABSENT if self._terminology.is_absent_text(plain) else text), None
        if bytes(holder.valueBoolean) in (b"true", b"false"):
            yield bytes(holder.valueBoolean), None
        if _there(holder.valueSampledData):
            sampled = _decoded(holder.valueSampledData, _sampled)
            # "E", "U" and "L" stand for what was not, or could not be, measured.
            if sampled is not None and _DIGIT.search(sampled.data or ""):
                yield sampled.data, None
        for both in (holder.valueRange, holder.valueRatio):
            if _there(both) and (parts := _decoded(both, _range)) is not None:
                for quantity in (parts.low, parts.high, parts.numerator, parts.denominator):
                    if quantity is not None and (number := _number(quantity)) is not None:
                        yield quantity, number if both is holder.valueRange else None
        for moment in (holder.valueTime, holder.valueDateTime):
            if _there(moment) and (text := _decoded(moment, _text)) is not None and text.strip():
                yield text, None
        if _there(holder.valuePeriod):
            period = _decoded(holder.valuePeriod, _period)
            if period is not None and period.start and period.end:
                yield (period.start, period.end), None

    def _concept_says(self, concept: CodeableConcept) -> Said:
        codings = concept.coding or ()
        texts = [text.strip() for text in (concept.text, *(coding.display for coding in codings)) if text]
        if self._terminology.is_absent(codings) or any(map(self._terminology.is_absent_text, texts)):
            return Said.ABSENT
        return Said.VALUE if any(texts) or any(coding.code for coding in codings) else Said.NOTHING


def _number(quantity: MeasuredQuantity) -> tuple[float, str | None, str | None] | None:
    value = quantity.value
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if value is None or not math.isfinite(value):
        return None
    return value, quantity.code, quantity.unit


def _there(element: Raw) -> bool:
    return bool(element) and bytes(element) not in _EMPTY


def _decoded(element: Raw, decode: Callable[[Raw], _Kind]) -> _Kind | None:
    """An element, or None where it has another shape than it should."""
    try:
        return decode(element)
    except NOT_JSON:
        return None


_concept = msgspec.json.Decoder(CodeableConcept).decode
_integer = msgspec.json.Decoder(int).decode
_text = msgspec.json.Decoder(str).decode
_sampled = msgspec.json.Decoder(SampledData).decode
_range = msgspec.json.Decoder(MeasuredRange).decode
_period = msgspec.json.Decoder(Period).decode
