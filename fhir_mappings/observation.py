"""Observation -> what it measured, when, and through what; or why it makes no monitoring day.

The Device and Encounter it points to may not have been read yet: those questions are answered by
`chart.Chart`, once everything is there (R2.5 to R2.8, D5 to D7, D18).
"""

from __future__ import annotations

from datetime import date
from enum import IntEnum
from typing import final

from msgspec import Raw, Struct

from fhir_mappings.identity import pointer
from fhir_mappings.local_time import LocalClock, Moment, TimeProblem
from fhir_mappings.resources import CodeableConcept, Identifier, Meta, Observation, Reference, ValueHolder
from fhir_mappings.terminology import ObservationMeaning, Terminology
from fhir_mappings.vocabulary import ExcludedReason

COUNTED_STATUSES = frozenset({"final", "amended", "corrected"})
_STATUSES = {
    "registered": ExcludedReason.REGISTERED,
    "preliminary": ExcludedReason.PRELIMINARY,
    "cancelled": ExcludedReason.CANCELLED,
    "entered-in-error": ExcludedReason.ENTERED_IN_ERROR,
    "unknown": ExcludedReason.UNKNOWN,
}
_TIME_PROBLEMS = {
    TimeProblem.MISSING: ExcludedReason.NO_DATE,
    TimeProblem.PARTIAL: ExcludedReason.PARTIAL_DATE,
    TimeProblem.UNREADABLE: ExcludedReason.UNREADABLE_DATE,
}
_NULL = b"null"
_PEOPLE = frozenset({"Patient", "RelatedPerson"})
_SaysOfOrigin = tuple[
    CodeableConcept | None, tuple[Reference, ...] | None, CodeableConcept | None, Reference | None
]


class Performer(IntEnum):
    NONE = 0
    PATIENT = 1
    OTHER = 2


@final
class LeftOut(Struct, frozen=True, gc=False):
    """An Observation that makes no monitoring day, and why."""

    reason: ExcludedReason
    meta: Meta | None = None


@final
class Origin(Struct, frozen=True, eq=False, gc=False):
    """What was measured, by whom and through what: the same for thousands of readings of one device."""

    meaning: ObservationMeaning
    performer: Performer
    manual: bool
    device: str | None
    """Pointers (`identity.pointer`) wait for what they point to: it may not have been read yet."""


class Origins:
    """Origins, each worked out once for all Observations that say the same of it."""

    def __init__(self, terminology: Terminology) -> None:
        self._terminology = terminology
        self._known: dict[_SaysOfOrigin, Origin | ExcludedReason] = {}

    def of(self, observation: Observation) -> Origin | ExcludedReason:
        """Where an Observation comes from, or why one of this coding makes no monitoring day."""
        says = observation.code, observation.performer, observation.method, observation.device
        known = self._known.get(says)
        if known is None:
            known = self._known[says] = self._read(*says)
        return known

    def _read(
        self,
        code: CodeableConcept | None,
        performers: tuple[Reference, ...] | None,
        method: CodeableConcept | None,
        device: Reference | None,
    ) -> Origin | ExcludedReason:
        meaning = self._terminology.observation(code.coding) if code is not None else None
        if meaning is None:
            return ExcludedReason.CODE_NOT_CONFIGURED
        if not meaning.measurement:
            return ExcludedReason.NOT_A_MEASUREMENT
        return Origin(
            meaning,
            _performer(performers) if performers else Performer.NONE,
            method is not None and self._terminology.is_manual(method.coding or ()),
            pointer(device, "Device"),
        )


class Measurement(Struct, gc=False):
    """What one Observation says of itself. One moment is one candidate for a monitoring day.

    Flat, and without a container where one value will do: a chart may hold hundreds of thousands of these.
    """

    resource: str
    instant: int
    day: date
    date_only: bool
    origin: Origin
    contained: list[Raw] | None
    encounter: str | None
    identifiers: tuple[Identifier, ...] | None
    value: int
    meta: Meta | None
    members: tuple[str, ...] | None = None
    """Set where the only values are those of other Observations."""
    more: tuple[Moment, ...] = ()
    """Further moments of an effectiveTiming."""


def read_observation(
    observation: Observation, name: str, origins: Origins, clock: LocalClock
) -> Measurement | LeftOut:
    """One Observation as a `Measurement`, or the reason why it can't be one."""
    # `type(...) is`, here and where these are looked through: `isinstance` takes four times as long for them.
    status = observation.status
    meta = observation.meta
    if status not in COUNTED_STATUSES:
        return LeftOut(status_reason(status, _STATUSES), meta)
    if meta is not None and meta.security and any(label.code == "HTEST" for label in meta.security):
        return LeftOut(ExcludedReason.TEST_DATA, meta)
    origin = origins.of(observation)
    if type(origin) is not Origin:
        return LeftOut(origin, meta)
    moment = clock.read(observation.effectiveDateTime)
    more: tuple[Moment, ...] = ()
    if type(moment) is not Moment:
        moments = _other_moments(observation, clock, moment)
        if isinstance(moments, ExcludedReason):
            return LeftOut(moments, meta)
        moment, *others = moments
        more = tuple(others)
    values = _values(observation)
    if not values and not observation.hasMember:
        return LeftOut(ExcludedReason.NO_VALUE, meta)
    encounter = observation.encounter
    return Measurement(
        name,
        moment.instant,
        moment.day,
        moment.date_only,
        origin,
        observation.contained,
        encounter if encounter is None else pointer(encounter, "Encounter"),
        observation.identifier,
        hash(values),
        meta,
        None if values else _members(observation),
        more,
    )


def _members(observation: Observation) -> tuple[str, ...]:
    return tuple(found for member in observation.hasMember or () if (found := pointer(member, "Observation")))


def status_reason(status: str | None, known: dict[str, ExcludedReason]) -> ExcludedReason:
    """The reason that a status which doesn't count is listed under."""
    if not status:
        return ExcludedReason.NO_STATUS
    return known.get(status, ExcludedReason.STATUS_NOT_KNOWN)


def time_reason(problem: TimeProblem) -> ExcludedReason:
    return _TIME_PROBLEMS[problem]


def _other_moments(
    observation: Observation, clock: LocalClock, problem: Moment | TimeProblem
) -> tuple[Moment, ...] | ExcludedReason:
    """Moments of the other forms of effective[x]; `problem` is what effectiveDateTime came to.

    `issued` is when it was published, never when it was measured (R2.5).
    """
    if isinstance(problem, TimeProblem) and problem is not TimeProblem.MISSING:
        return _TIME_PROBLEMS[problem]
    text = observation.effectiveInstant
    if text is None:
        if observation.effectiveTiming is not None:
            return _timing_moments(observation.effectiveTiming.event, clock)
        if observation.effectivePeriod is not None:
            # One Observation is one day, the one on which its period starts: a week's summary is no week.
            text = observation.effectivePeriod.start
    moment = clock.read(text)
    return (moment,) if isinstance(moment, Moment) else _TIME_PROBLEMS[moment]


def _timing_moments(events: list[str] | None, clock: LocalClock) -> tuple[Moment, ...] | ExcludedReason:
    read = [clock.read(event) for event in events or ()]
    good = tuple(moment for moment in read if isinstance(moment, Moment))
    if good:
        return good
    return _TIME_PROBLEMS[next((bad for bad in read if isinstance(bad, TimeProblem)), TimeProblem.MISSING)]


def _values(observation: Observation) -> tuple[bytes, ...]:
    quantity = observation.valueQuantity
    if quantity and (text := bytes(quantity)) != _NULL:
        return (text,)
    if observation.component:
        values: list[bytes] = []
        for component in observation.component:
            quantity = component.valueQuantity
            if quantity and (text := bytes(quantity)) != _NULL:
                values.append(text)
            else:
                values += _present(component)
        if values:
            return tuple(values)
    return _present(observation)


def _present(holder: ValueHolder) -> tuple[bytes, ...]:
    return tuple(
        text
        for value in (
            holder.valueCodeableConcept,
            holder.valueString,
            holder.valueBoolean,
            holder.valueInteger,
            holder.valueRange,
            holder.valueRatio,
            holder.valueSampledData,
            holder.valueTime,
            holder.valueDateTime,
            holder.valuePeriod,
        )
        if value and (text := bytes(value)) not in (_NULL, b'""', b"{}")
    )


def _performer(performers: tuple[Reference, ...]) -> Performer:
    for performer in performers:
        text = performer.reference or ""
        if performer.type in _PEOPLE or not _PEOPLE.isdisjoint(text.split("/")):
            return Performer.PATIENT
    return Performer.OTHER
