"""A first look at one record that came: whose it is, what it points to, which version it is.

Lenient: only what the reader itself acts on is decoded. What it means is `fhir_mappings`' to say.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from datetime import date
from typing import Any

import msgspec
from msgspec import Raw, Struct

from fhir_mappings.identity import Bases, made_up_name, relative
from fhir_mappings.local_time import LocalClock, Moment
from fhir_mappings.resources import NOT_JSON, Observation
from fhir_mappings.salvage import Salvaged, salvaged
from smartapp.ehr.wire.bundles import Entry
from smartapp.ehr.wire.json_guard import Unreadable, decoded_as
from smartapp.ehr.wire.patient_scope import Whose, whose

_LINKED = frozenset({"Device", "DeviceMetric", "Practitioner", "PractitionerRole"})


class _Seen(Struct):
    """Whatever stands there: an odd shape of one element hides no other."""

    resourceType: Any = None  # noqa: N815
    id: Any = None
    meta: Any = None
    subject: Any = None
    patient: Any = None
    beneficiary: Any = None
    device: Any = None
    source: Any = None
    practitioner: Any = None
    participant: Any = None


class Look(Struct, frozen=True):
    """A first look at a resource: only what the reader acts on."""

    resourceType: str = ""  # noqa: N815
    id: str | None = None
    version: str | None = None
    """`meta.versionId`."""
    about: tuple[Any, ...] = ()
    """What its elements that name a patient hold, as it came."""
    pointers: tuple[str, ...] = ()
    """The literal references that may have to be read by id."""

    @property
    def reference(self) -> str:
        return f"{self.resourceType}/{self.id}" if self.resourceType and self.id else ""

    def whose(self, patient: str, bases: Bases) -> Whose:
        """Whose it is, as seen from the chart of `patient` (a logical id)."""
        return whose(self.resourceType, self.id, self.about, patient, bases)


def look(raw: bytes | Raw) -> Look:
    """A first look; an empty one at what cannot be read. Never raises."""
    try:
        seen = decoded_as(raw, _Seen)
    except Unreadable:
        return Look()
    people = seen.participant if isinstance(seen.participant, list) else []
    pointed = [seen.device, seen.source, seen.practitioner]
    pointed += [person.get("individual") for person in people if isinstance(person, dict)]
    return Look(
        _text(seen.resourceType) or "",
        _text(seen.id),
        _text(seen.meta.get("versionId")) if isinstance(seen.meta, dict) else None,
        (seen.subject, seen.patient, seen.beneficiary),
        tuple(text for item in pointed if isinstance(item, dict) and (text := _text(item.get("reference")))),
    )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


class Reading(Observation, gc=False, omit_defaults=True, tag_field="resourceType", tag="Observation"):
    """An Observation as the chart takes it, with whatever else of it might name somebody or point somewhere:
    one decode for both."""

    patient: Any = None
    beneficiary: Any = None
    source: Any = None
    practitioner: Any = None
    participant: Any = None


_decode_reading = msgspec.json.Decoder(Reading).decode


def reading_of(entry: Entry, patient: str) -> Reading | None:
    """An Observation with an id that is plainly this patient's: it names them by `subject`, in the plain way,
    and nobody else in any. None of anything else, which takes a look (`judged`) to say what it is; of what is
    plain, `judged` says the same. The entry was weighed when it was cut out of its page. Never raises."""
    if entry.problem:
        return None
    try:
        found = _decode_reading(entry.resource)
    except NOT_JSON:
        return None
    plainly = (
        found.id
        and found.subject is not None
        and found.subject.reference == f"Patient/{patient}"
        and found.patient is None
        and found.beneficiary is None
        and found.source is None
        and found.practitioner is None
        and found.participant is None
    )
    return found if plainly else None


class Judged(Struct, frozen=True):
    """Whose a record is that came under a patient's searches, and what it is called here."""

    whose: Whose
    type: str
    reference: str
    """Its reference; where it has no id, or cannot be read, a name made up from its bytes."""
    version: str
    raw: bytes
    seen: Look
    broken: Salvaged | None = None
    """What can still be read of one that is no JSON, or more of it than is read; it is UNREADABLE then."""


def judged(entry: Entry, type_: str, patient: str, bases: Bases) -> Judged:
    """The verdict on one entry of a search for a type: the same for whoever reads it, so that what they call
    it and which version they saw can be compared. Never raises."""
    raw = entry.resource
    seen = look(raw)
    if not entry.problem and seen.resourceType:
        reference = seen.reference or made_up_name(seen.resourceType, raw)
        verdict = seen.whose(patient, bases)
        return Judged(verdict, seen.resourceType, reference, version_of(seen, raw), raw, seen)
    found = salvaged(raw)
    kind = found.type or type_
    reference = f"{kind}/{found.id}" if found.id else made_up_name(kind, raw)
    about = None if found.subject is None else {"reference": found.subject.reference}
    another = bool(found.type) and whose(found.type, found.id, (about,), patient, bases) is Whose.FOREIGN
    verdict = Whose.FOREIGN if another else Whose.UNREADABLE
    return Judged(verdict, kind, reference, version_of(Look(), raw), raw, seen, found)


def version_of(seen: Look, raw: bytes) -> str:
    """`meta.versionId`, or a digest of the bytes where the EHR gives none."""
    return seen.version or _version_of_bytes(raw)


def version_of_reading(reading: Reading, raw: bytes) -> str:
    """The same of a reading."""
    return (reading.meta.versionId if reading.meta is not None else None) or _version_of_bytes(raw)


def _version_of_bytes(raw: bytes) -> str:
    return "sha256:" + hashlib.sha256(raw).hexdigest()


def names_another_patient(seen: Look, patient: str, bases: Bases) -> bool:
    """Whether the resource is about somebody other than `patient` (a logical id)."""
    return seen.whose(patient, bases) is Whose.FOREIGN


def references(seen: Look, bases: Bases) -> Iterator[str]:
    """What the reader may have to fetch by id: devices of readings, people of encounters."""
    for pointer in seen.pointers:
        if (named := linked(pointer, bases)) is not None:
            yield named


def linked(pointer: str, bases: Bases) -> str | None:
    """What a literal reference names, where that may have to be fetched by its id."""
    named = relative(pointer, bases)
    return named if named.split("/", 1)[0] in _LINKED else None


class _When(Struct):
    effectiveDateTime: Any = None  # noqa: N815
    effectiveInstant: Any = None  # noqa: N815
    effectivePeriod: Any = None  # noqa: N815
    effectiveTiming: Any = None  # noqa: N815
    period: Any = None


def last_day(type_: str, raw: bytes, clock: LocalClock) -> date | None:
    """The last local day that an Observation or Encounter speaks of; None where it is open or says none."""
    try:
        when = decoded_as(raw, _When)
    except Unreadable:
        return None
    if type_ == "Encounter":
        texts = [when.period.get("end")] if isinstance(when.period, dict) else []
    else:
        begun = when.effectivePeriod.get("start") if isinstance(when.effectivePeriod, dict) else None
        events = when.effectiveTiming.get("event") if isinstance(when.effectiveTiming, dict) else None
        texts = [when.effectiveDateTime, when.effectiveInstant, begun]
        texts += events if isinstance(events, list) else []
    return _last_day(texts, clock)


def _last_day(texts: Iterable[object], clock: LocalClock) -> date | None:
    read = [clock.read(text) for text in texts if isinstance(text, str)]
    return max((moment.day for moment in read if isinstance(moment, Moment)), default=None)


def says_a_day_after(reading: Reading, day: str) -> bool:
    """Whether its only time begins with a date after that of `day` (an ISO date), in whatever zone; a cheap
    look before `last_day_of`."""
    return (
        reading.effectiveDateTime is not None
        and reading.effectiveDateTime[:10] > day
        and reading.effectivePeriod is None
        and reading.effectiveTiming is None
        and reading.effectiveInstant is None
    )


def last_day_of(reading: Reading, clock: LocalClock) -> date | None:
    """The same of a reading that is decoded already."""
    period, timing = reading.effectivePeriod, reading.effectiveTiming
    if period is None and timing is None and reading.effectiveInstant is None:
        moment = clock.read(reading.effectiveDateTime)
        return moment.day if type(moment) is Moment else None
    begun = None if period is None else period.start
    events = (timing.event if timing is not None else None) or ()
    texts = (reading.effectiveDateTime, reading.effectiveInstant, begun, *events)
    return _last_day(texts, clock)
