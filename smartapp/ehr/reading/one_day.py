"""The readings of one day, some at a time: a chart of continuous readings has thousands a day."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date

from msgspec import Struct

from fhir_mappings.local_time import LocalClock
from smartapp.ehr.reading.display import decode
from smartapp.ehr.reading.seen import NAMED, Names, Seen, seen
from smartapp.ehr.wire.looks import last_day
from smartapp.store.reading import StoredResource

OBSERVATION = "Observation"


class Reading(Struct, frozen=True):
    """One reading, in words."""

    reference: str
    told: Seen


class SomeOfADay(Struct, frozen=True):
    """Readings in the order of their local times, out of so many of that day."""

    readings: tuple[Reading, ...]
    total: int


def readings_of(
    resources: Iterable[StoredResource],
    day: date,
    clock: LocalClock,
    hidden: frozenset[str],
    first: int,
    most: int,
) -> SomeOfADay:
    """At most `most` readings of a local day, from the `first` one (0) on, but for those that are `hidden`.

    A reading is of the day on which it begins. Never raises on the shape of a resource.
    """
    names, found = Names(), []
    for one in resources:
        type_ = one.reference.partition("/")[0]
        if type_ in NAMED:
            names.add(one.reference, decode(one.raw))
        elif type_ == OBSERVATION and one.raw and one.reference not in hidden:
            last = last_day(type_, one.raw, clock)
            if last is None or last < day:
                continue
            told = seen(decode(one.raw), clock, names)
            if told.day == day:
                found.append((told.start, one.reference, one.raw))
    found.sort(key=lambda row: row[:2])
    return SomeOfADay(
        tuple(
            Reading(reference, seen(decode(raw), clock, names))
            for _, reference, raw in found[first : first + most]
        ),
        len(found),
    )
