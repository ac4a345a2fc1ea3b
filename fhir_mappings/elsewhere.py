"""What looks like a call or a review and is kept where no minute is counted: a phone Communication, a note
(DocumentReference), an Appointment that took place.

None of it decides anything. A note says that somebody wrote, an appointment how long something was planned to
last; whoever did it logs it and answers for it. So this errs towards showing too much, and never reads a text
that was written to or about the patient: only codings, their names, titles and short descriptions.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import date
from typing import Any

from msgspec import Struct

from fhir_mappings.charge_item import IDENTIFIER_SYSTEM
from fhir_mappings.identity import relative
from fhir_mappings.local_time import MICROSECONDS, LocalClock, Moment
from fhir_mappings.vocabulary import Activity, Program

Resource = Mapping[str, Any]

ELSEWHERE = ("Communication", "DocumentReference", "Appointment")
"""The types that are looked through."""
LONGEST_MINUTES = 240
"""As for an entry of the time log (D13)."""
_TOOK_PLACE = {"Communication": "completed", "DocumentReference": "current", "Appointment": "fulfilled"}
_CODED = {
    "PHONE": Activity.PHONE_CALL,  # v3-ParticipationMode
    "VIDEOCONF": Activity.VIDEO_CALL,
    "34748-4": Activity.PHONE_CALL,  # LOINC, a note about a telephone encounter
    "185317003": Activity.PHONE_CALL,  # SNOMED CT
}
_WRITTEN = frozenset(
    {"WRITTEN", "EMAILWRIT", "FAXWRIT", "LETTER", "TYPEWRIT", "HANDWRIT", "SMSWRIT", "MAILWRIT"}
)
_WORDS = (
    (re.compile(r"\bvideo|\btele(?:health|medicine|visit)|\bvirtual", re.I), Activity.VIDEO_CALL),
    (re.compile(r"\b(?:tele)?phone|\bcall(?:s|ed)?\b", re.I), Activity.PHONE_CALL),
    (re.compile(r"\bR[TP]M\b|\bremote (?:\w+ )?monitoring", re.I), Activity.DATA_REVIEW),
)
_PROGRAMS = (
    (re.compile(r"\bRTM\b|\bremote therapeutic", re.I), Program.RTM),
    (re.compile(r"\bRPM\b|\bremote physiologic", re.I), Program.RPM),
)
_MINUTES = re.compile(r"(?<![\d.,:/-])(\d{1,3}) ?min(?:s|utes?)?\b", re.I)


class Elsewhere(Struct, frozen=True):
    """One of them. `minutes`: where it says one length; `planned`: that length was only planned."""

    type: str
    day: date
    activity: Activity
    program: Program | None = None
    minutes: int | None = None
    planned: bool = False
    encounters: frozenset[str] = frozenset()
    """Contacts that it says it belongs to (`Encounter/7`)."""


def elsewhere_of(
    resource: Resource, patient: str, bases: tuple[str, ...], clock: LocalClock
) -> Elsewhere | None:
    """What a resource shows of a call or a review with this patient (`Patient/7`); None for anything else,
    for what did not take place, and for what names another patient or none. Never raises on shape."""
    type_ = resource.get("resourceType")
    if type_ not in ELSEWHERE or resource.get("status") != _TOOK_PLACE[type_]:
        return None
    if resource.get("docStatus") == "entered-in-error" or _is_our_own(resource):
        return None
    if not _is_about(resource, patient, bases):
        return None
    start, end = _span(resource, clock)
    told = tuple(_texts(resource))
    activity = _activity(resource, told)
    if start is None or activity is None:
        return None
    words = " ".join(told)
    minutes = _between(start, end)
    planned = type_ == "Appointment"
    if planned and minutes is None and isinstance(resource.get("minutesDuration"), int):
        minutes = resource["minutesDuration"]
    said = {int(found) for found in _MINUTES.findall(words)}
    if minutes is None and len(said) == 1:
        (minutes,) = said
    return Elsewhere(
        type_,
        start.day,
        activity,
        next((program for pattern, program in _PROGRAMS if pattern.search(words)), None),
        minutes if minutes is not None and 1 <= minutes <= LONGEST_MINUTES else None,
        planned,
        frozenset(_encounters(resource, bases)),
    )


def _activity(resource: Resource, told: tuple[str, ...]) -> Activity | None:
    codes = {code for concept in _concepts(resource) for code, _ in _codings(concept)}
    if codes & _WRITTEN:
        return None
    if (coded := next((_CODED[code] for code in sorted(codes) if code in _CODED), None)) is not None:
        return coded
    words = " ".join(told)
    found = next((activity for pattern, activity in _WORDS if pattern.search(words)), None)
    # A message about the monitoring is no review of its data.
    return None if found is Activity.DATA_REVIEW and resource["resourceType"] == "Communication" else found


def _concepts(resource: Resource) -> Iterator[Any]:
    """The elements that say what kind of thing it is."""
    for name in ("medium", "category", "type", "topic", "serviceType", "serviceCategory", "appointmentType"):
        value = resource.get(name)
        yield from value if isinstance(value, list) else [value]


def _codings(concept: Any) -> Iterator[tuple[str, str]]:
    """Code and display of each."""
    codings = concept.get("coding") if isinstance(concept, dict) else None
    for coding in codings if isinstance(codings, list) else []:
        if isinstance(coding, dict):
            yield _text(coding.get("code")), _text(coding.get("display"))


def _texts(resource: Resource) -> Iterator[str]:
    """Names of what it is, its title and its description; nothing that was written to or about anybody."""
    for concept in _concepts(resource):
        if isinstance(concept, dict):
            yield _text(concept.get("text"))
        yield from (display for _, display in _codings(concept))
    yield _text(resource.get("description"))
    contents = resource.get("content")
    for content in contents if isinstance(contents, list) else []:
        attachment = content.get("attachment") if isinstance(content, dict) else None
        yield _text(attachment.get("title")) if isinstance(attachment, dict) else ""


def _span(resource: Resource, clock: LocalClock) -> tuple[Moment | None, Moment | None]:
    context = resource.get("context")
    period = context.get("period") if isinstance(context, dict) else None
    starts = [resource.get(name) for name in ("start", "sent", "received", "date")]
    ends = [resource.get("end")]
    if isinstance(period, dict):
        starts, ends = [period.get("start"), *starts], [period.get("end")]
    return _first(starts, clock), _first(ends, clock)


def _first(texts: list[Any], clock: LocalClock) -> Moment | None:
    moments = (clock.read(text) for text in texts if isinstance(text, str))
    return next((one for one in moments if isinstance(one, Moment)), None)


def _between(start: Moment, end: Moment | None) -> int | None:
    """Whole minutes of two instants, rounded down: rounding up would be claiming more."""
    if end is None or start.date_only or end.date_only or end.instant <= start.instant:
        return None
    return (end.instant - start.instant) // (60 * MICROSECONDS)


def _is_about(resource: Resource, patient: str, bases: tuple[str, ...]) -> bool:
    """It names this patient, and no other."""
    named = [resource.get("subject")]
    participants = resource.get("participant")
    for participant in participants if isinstance(participants, list) else []:
        named.append(participant.get("actor") if isinstance(participant, dict) else None)
    references = {relative(text, bases) for one in named if (text := _reference(one))}
    people = {one for one in references if "Patient/" in one}
    return people == {patient}


def _is_our_own(resource: Resource) -> bool:
    """A charge's own paper, written from this app, is no note of a review."""
    identifiers = resource.get("identifier")
    return any(
        isinstance(one, dict) and one.get("system") == IDENTIFIER_SYSTEM
        for one in (identifiers if isinstance(identifiers, list) else [])
    )


def _encounters(resource: Resource, bases: tuple[str, ...]) -> Iterator[str]:
    context = resource.get("context")
    inner = context.get("encounter") if isinstance(context, dict) else None
    for one in (resource.get("encounter"), *(inner if isinstance(inner, list) else [])):
        if text := _reference(one):
            yield relative(text, bases)


def _reference(value: Any) -> str:
    return _text(value.get("reference")) if isinstance(value, dict) else ""


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
