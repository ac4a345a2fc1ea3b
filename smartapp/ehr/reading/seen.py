"""One source record as a reader sees it: the local day and time, what it says, by which device or people.

All of it is display: nothing here decides whether a record counts. Never raises on shape.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from typing import Any

from msgspec import Struct

from fhir_mappings.local_time import LocalClock, Moment, shown
from fhir_mappings.record import Excluded
from fhir_mappings.vocabulary import ExcludedReason
from smartapp.ehr.reading.display import concept_text, human_name, value_text

MOST_OF_A_DAY = 4
"""Readings shown of one day; how many more there were is a number beside them."""
MOST_OF_A_REASON = 120
"""Left-out records described for one reason: a reading a day for four months."""


class Seen(Struct, frozen=True, gc=False, omit_defaults=True):
    """A record in words. What it does not say is empty."""

    what: str = ""
    value: str = ""
    """With its unit."""
    day: date | None = None
    """The local day on which it begins."""
    start: str = ""
    """Local time of day; empty where only a day is told."""
    end: str = ""
    by: tuple[str, ...] = ()
    """The device of a reading, the people of an Encounter: names, else nothing."""

    @property
    def time(self) -> str:
        return f"{self.start} to {self.end}" if self.end and self.end != self.start else self.start


class Names:
    """What devices and people of a chart are called, as they arrive."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}

    def add(self, reference: str, resource: Mapping[str, Any]) -> None:
        name = _name_of(resource)
        if name:
            self._names[reference] = name

    def of(self, reference: object) -> str:
        """Of a FHIR Reference: the record's own name, else what the reference displays."""
        if not isinstance(reference, dict):
            return ""
        target, display = reference.get("reference"), reference.get("display")
        known = self._names.get(_relative(target)) if isinstance(target, str) else None
        return known or (display.strip() if isinstance(display, str) else "")


NAMED = frozenset({"Device", "Practitioner"})


def _name_of(resource: Mapping[str, Any]) -> str:
    if resource.get("resourceType") == "Practitioner":
        return human_name(resource.get("name"))
    for entry in _dicts(resource.get("deviceName")):
        if isinstance(entry.get("name"), str) and entry["name"].strip():
            return str(entry["name"].strip())
    return concept_text(resource.get("type"))


def seen(resource: Mapping[str, Any], clock: LocalClock, names: Names) -> Seen:
    """A record in words."""
    kind = resource.get("resourceType")
    if kind == "Observation":
        period = resource.get("effectivePeriod")
        instants = (period.get("start"), period.get("end")) if isinstance(period, dict) else (None, None)
        start = resource.get("effectiveDateTime") or resource.get("effectiveInstant") or instants[0]
        device = names.of(resource.get("device"))
        return _at(
            clock,
            start,
            instants[1],
            Seen(concept_text(resource.get("code")), value_text(resource), by=(device,) if device else ()),
        )
    if kind == "Encounter":
        period = resource.get("period")
        instants = (period.get("start"), period.get("end")) if isinstance(period, dict) else (None, None)
        what = next((text for part in _dicts(resource.get("type")) if (text := concept_text(part))), "")
        class_ = resource.get("class")
        if not what and isinstance(class_, dict):
            what = str(class_.get("display") or "")
        people = (names.of(part.get("individual")) for part in _dicts(resource.get("participant")))
        return _at(clock, *instants, Seen(what, by=tuple(dict.fromkeys(filter(None, people)))))
    if kind == "ChargeItem":
        occurrence = resource.get("occurrencePeriod")
        start = occurrence.get("start") if isinstance(occurrence, dict) else None
        return _at(
            clock,
            start or resource.get("occurrenceDateTime"),
            None,
            Seen(f"Charge {concept_text(resource.get('code'))}".strip()),
        )
    return Seen()


def _at(clock: LocalClock, start: object, end: object, told: Seen) -> Seen:
    began = clock.read(start) if isinstance(start, str) else None
    ended = clock.read(end) if isinstance(end, str) else None
    if not isinstance(began, Moment):
        return told
    return Seen(
        told.what,
        told.value,
        began.day,
        _time(began, clock),
        _time(ended, clock) if isinstance(ended, Moment) else "",
        told.by,
    )


def _time(moment: Moment, clock: LocalClock) -> str:
    """Seconds only where there are any: a stretch of 19:59 minutes must not look like one of 20."""
    if moment.date_only:
        return ""
    local = shown(moment.instant, clock.zone)
    minutes = f"{local.hour:02}:{local.minute:02}"
    return f"{minutes}:{local.second:02}" if local.second else minutes


def described(excluded: Iterable[Excluded]) -> Iterator[str]:
    """Which of the left-out records are put into words: a bounded number for each reason, and none that
    belongs to somebody else."""
    number = Counter[str]()
    for entry in excluded:
        if entry.reason is ExcludedReason.OTHER_PATIENT:
            continue
        number[entry.reason] += 1
        if number[entry.reason] <= MOST_OF_A_REASON:
            yield entry.resource


def _relative(reference: str) -> str:
    return "/".join(reference.split("/_history/", 1)[0].rsplit("/", 2)[-2:])


def _dicts(value: object) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
