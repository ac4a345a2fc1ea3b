"""Observation -> what it measured, when, and through what; or why it makes no monitoring day.

The Device and Encounter it points to may not have been read yet: those questions are answered by
`chart.Chart`, once everything is there (R2.5 to R2.8, D5 to D7, D18).
"""

from __future__ import annotations

from datetime import date
from enum import IntFlag
from typing import final

import msgspec
from msgspec import Raw, Struct

from fhir_mappings.identity import about_of, pointer
from fhir_mappings.local_time import LocalClock, Moment, TimeProblem
from fhir_mappings.record import NOT_SAID, About
from fhir_mappings.resources import (
    NOT_JSON,
    CodingsOnly,
    Identifier,
    Meta,
    Observation,
    Reference,
    ReferenceExtension,
    references_in,
)
from fhir_mappings.terminology import Believable, ObservationMeaning, Terminology
from fhir_mappings.values import Said, Values
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
_REPLACES = b"http://hl7.org/fhir/StructureDefinition/observation-replaces"
_stated = msgspec.json.Decoder(list[ReferenceExtension]).decode
_MOST_CATEGORIES = 1000
"""Texts of `category` that are kept; a chart has a handful."""
_SaysOfOrigin = tuple[
    CodingsOnly | None, tuple[Reference, ...] | None, CodingsOnly | None, Reference | None, int
]


class _Mark(IntFlag):
    """What a reading says of itself outside of its method."""

    NONE = 0
    TYPED_IN = 1
    IN_FACILITY = 2


@final
class LeftOut(Struct, frozen=True, gc=False):
    """An Observation that makes no monitoring day, why, and the coding that this is about."""

    reason: ExcludedReason
    meta: Meta | None = None
    about: About = NOT_SAID


@final
class Origin(Struct, frozen=True, eq=False, gc=False):
    """What was measured, by whom and through what: the same for thousands of readings of one device."""

    meaning: ObservationMeaning
    believable: Believable | None
    performers: tuple[Reference, ...]
    manual: bool
    """Typed in by hand (D24)."""
    in_facility: bool
    """It says itself that it was taken in one (D23)."""
    device: str | None
    """Pointers (`identity.pointer`) wait for what they point to: it may not have been read yet."""
    about: About

    @property
    def is_local(self) -> bool:
        """Does it name what the Observation contains? "#device" is another Device in each of them."""
        return any(
            name is not None and name.startswith("#")
            for name in (self.device, *(performer.reference for performer in self.performers))
        )


class Origins:
    """Origins, each worked out once for all Observations that say the same of it."""

    def __init__(self, terminology: Terminology) -> None:
        self._terminology = terminology
        self._known: dict[_SaysOfOrigin, Origin | LeftOut] = {}
        self._categories: dict[bytes, _Mark] = {}
        self.is_test_data = terminology.is_test_data

    def of(self, observation: Observation) -> Origin | LeftOut:
        """Where an Observation comes from, or why one of this coding makes no monitoring day."""
        marks = 0
        if observation.category:
            marks = self._marks_in_category(bytes(observation.category))
        if observation.extension or observation.modifierExtension:
            marks |= self._marks_in_extensions(observation.extension, observation.modifierExtension)
        for component in observation.component or ():
            if component.extension:
                marks |= self._marks_in_extensions(component.extension)
        says = observation.code, observation.performer, observation.method, observation.device, marks
        known = self._known.get(says)
        if known is None:
            known = self._known[says] = self._read(*says)
        return known

    def _read(
        self,
        code: CodingsOnly | None,
        performers: tuple[Reference, ...] | None,
        method: CodingsOnly | None,
        device: Reference | None,
        marks: int,
    ) -> Origin | LeftOut:
        terms = self._terminology
        codings = (code.coding if code is not None else None) or ()
        about = about_of(codings)
        meaning = terms.observation(codings)
        if meaning is None:
            return LeftOut(ExcludedReason.CODE_NOT_CONFIGURED, about=about)
        if not meaning.measurement:
            return LeftOut(ExcludedReason.NOT_A_MEASUREMENT, about=about)
        methods = (method.coding if method is not None else None) or ()
        return Origin(
            meaning,
            terms.believable(codings),
            performers or (),
            bool(marks & _Mark.TYPED_IN) or terms.manual_entry.in_method(methods),
            bool(marks & _Mark.IN_FACILITY) or terms.facility_settings.in_method(methods),
            pointer(device, "Device"),
            about,
        )

    def _marks_in_category(self, category: bytes) -> int:
        known = self._categories.get(category)
        if known is None:
            terms, raw = self._terminology, Raw(category)
            if len(self._categories) >= _MOST_CATEGORIES:
                self._categories.clear()
            known = self._categories[category] = _marks(
                terms.manual_entry.in_category(raw), terms.facility_settings.in_category(raw)
            )
        return int(known)

    def _marks_in_extensions(self, *extensions: Raw) -> int:
        terms = self._terminology
        there = [raw for raw in extensions if raw]
        return int(
            _marks(
                any(terms.manual_entry.in_extensions(raw) for raw in there),
                any(terms.facility_settings.in_extensions(raw) for raw in there),
            )
        )


def _marks(typed_in: bool, in_facility: bool) -> _Mark:
    return (_Mark.TYPED_IN if typed_in else _Mark.NONE) | (_Mark.IN_FACILITY if in_facility else _Mark.NONE)


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
    believed: bool = True
    """False where no person has any of its values (D22)."""
    members: tuple[str, ...] | None = None
    """Set where the only values are those of other Observations."""
    more: tuple[Moment, ...] = ()
    """Further moments of an effectiveTiming."""
    replaces: tuple[str, ...] = ()
    """Pointers of the Observations that it says it was sent in the place of."""
    focus: tuple[str, ...] = ()
    """Pointers of whom or what it says it is about, beside its subject."""


def read_observation(
    observation: Observation, name: str, origins: Origins, values: Values, clock: LocalClock
) -> Measurement | LeftOut:
    """One Observation as a `Measurement`, or the reason why it can't be one."""
    # `type(...) is`, here and where these are looked through: `isinstance` takes four times as long for them.
    status = observation.status
    meta = observation.meta
    if status not in COUNTED_STATUSES:
        return LeftOut(status_reason(status, _STATUSES), meta)
    if meta is not None and (meta.security or meta.tag) and origins.is_test_data(meta):
        return LeftOut(ExcludedReason.TEST_DATA, meta)
    origin = origins.of(observation)
    if type(origin) is not Origin:
        return LeftOut(origin.reason, meta, origin.about)
    moment = clock.read(observation.effectiveDateTime)
    more: tuple[Moment, ...] = ()
    if type(moment) is not Moment:
        moments = _other_moments(observation, clock, moment)
        if isinstance(moments, ExcludedReason):
            return LeftOut(moments, meta, origin.about)
        moment, *others = moments
        more = tuple(others)
    said, likeness = values.told(observation, origin.believable)
    members = None
    if said < Said.UNBELIEVABLE:
        if observation.hasMember:
            members = _members(observation)
        elif said is Said.ABSENT or not origin.meaning.counts_without_value:
            return LeftOut(ExcludedReason.NO_VALUE, meta, origin.about)
    encounter = observation.encounter or observation.context
    return Measurement(
        name,
        moment.instant,
        moment.day,
        moment.date_only,
        origin,
        observation.contained,
        encounter if encounter is None else pointer(encounter, "Encounter"),
        observation.identifier,
        likeness,
        meta,
        said is not Said.UNBELIEVABLE,
        members,
        more,
        _replaced(observation.extension) if _REPLACES in bytes(observation.extension) else (),
        _focus(observation) if observation.focus else (),
    )


def _focus(observation: Observation) -> tuple[str, ...]:
    found = (pointer(focus, focus.type or "Patient") for focus in references_in(observation.focus))
    subject = pointer(observation.subject, "Patient")
    return tuple(pointed for pointed in found if pointed and pointed != subject)


def _members(observation: Observation) -> tuple[str, ...]:
    return tuple(found for member in observation.hasMember or () if (found := pointer(member, "Observation")))


def _replaced(extensions: Raw) -> tuple[str, ...]:
    """What FHIR's own extension names: a value was revised, and sent as an Observation of its own (D28)."""
    try:
        found = _stated(extensions)
    except NOT_JSON:
        return ()
    return tuple(
        pointed
        for extension in found
        if extension.url == _REPLACES.decode()
        and (pointed := pointer(extension.valueReference, "Observation"))
    )


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
