"""Observation -> what it measured, when, and through what; or why it makes no monitoring day.

The Device and Encounter it points to may not have been read yet: those questions are answered by
`chart.Chart`, once everything is there (BILLING_RULES 2.5 to 2.8, D5 to D7, D18).
"""

from __future__ import annotations

from enum import IntEnum

from msgspec import Raw, Struct

from fhir_mappings.local_time import LocalClock, Moment, TimeProblem
from fhir_mappings.references import pointer
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


class Performer(IntEnum):
    NONE = 0
    PATIENT = 1
    OTHER = 2


class LeftOut(Struct, frozen=True, gc=False):
    """An Observation that makes no monitoring day, and why."""

    reason: ExcludedReason
    meta: Meta | None = None


class Measurement(Struct, gc=False):
    """What one Observation says of itself. One moment is one candidate for a monitoring day.

    Flat, and without a container where one value will do: a chart may hold hundreds of thousands of these.
    """

    resource: str
    instant: int
    moment: Moment
    meaning: ObservationMeaning
    performer: Performer
    manual: bool
    device: str | None
    """Pointers (`references.pointer`) wait for what they point to: it may not have been read yet."""
    contained: list[Raw] | None
    encounter: str | None
    identifiers: list[Identifier] | None
    value: int
    meta: Meta | None
    members: tuple[str, ...] | None = None
    """Set where the only values are those of other Observations."""
    more: tuple[Moment, ...] = ()
    """Further moments of an effectiveTiming."""


def read_observation(
    observation: Observation, name: str, terminology: Terminology, clock: LocalClock
) -> Measurement | LeftOut:
    """One Observation as a `Measurement`, or the reason why it can't be one."""
    status = observation.status
    meta = observation.meta
    if status not in COUNTED_STATUSES:
        return LeftOut(status_reason(status, _STATUSES), meta)
    if meta is not None and meta.security and any(label.code == "HTEST" for label in meta.security):
        return LeftOut(ExcludedReason.TEST_DATA, meta)
    code = observation.code
    meaning = terminology.observation(code.coding) if code is not None else None
    if meaning is None:
        return LeftOut(ExcludedReason.CODE_NOT_CONFIGURED, meta)
    if not meaning.measurement:
        return LeftOut(ExcludedReason.NOT_A_MEASUREMENT, meta)
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
    method = observation.method
    device = observation.device
    encounter = observation.encounter
    return Measurement(
        name,
        moment.instant,
        moment,
        meaning,
        _performer(observation.performer) if observation.performer else Performer.NONE,
        method is not None and _is_manual(method, terminology),
        device if device is None else device.reference or pointer(device, "Device"),
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

    `issued` is when it was published, never when it was measured (BILLING_RULES 2.5).
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
    if observation.valueQuantity and (text := bytes(observation.valueQuantity)) != _NULL:
        return (text,)
    if observation.component:
        values: list[bytes] = []
        for component in observation.component:
            if component.valueQuantity and (text := bytes(component.valueQuantity)) != _NULL:
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


def _performer(performers: list[Reference]) -> Performer:
    for performer in performers:
        text = performer.reference or ""
        if (performer.type or "") in ("Patient", "RelatedPerson") or any(
            part in ("Patient", "RelatedPerson") for part in text.split("/")
        ):
            return Performer.PATIENT
    return Performer.OTHER


def _is_manual(method: CodeableConcept, terminology: Terminology) -> bool:
    return terminology.is_manual(method.coding or ())
