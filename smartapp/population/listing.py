"""What a worklist needs of one patient's answer: few bytes to sort and choose by, and the windows that still
say something, packed until somebody looks at them.

Made where the answer is made, so that a list of everybody is read without deciding, or opening, anybody's
records. No name of a patient is in it.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, timedelta
from enum import StrEnum
from hashlib import blake2b
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from fhir_mappings.decision import Decision
from fhir_mappings.record import PatientRecord
from fhir_mappings.rules.policy import Policy
from fhir_mappings.rules.tables import Kind
from fhir_mappings.vocabulary import Line, Program, RequirementKind, ReviewReason
from smartapp.windows import Code, Now, Standing, WindowOfCodes, windows_of

FORMAT = 1
"""Of what is kept: another one makes the next night decide everybody anew."""
_LEVEL = 6
LOST_FOR = timedelta(days=62)
"""So long after its end a window that was not met is still told."""


class Topic(StrEnum):
    """What there is to see to, or to know."""

    READY = "ready"
    """It can be charged now."""
    DECIDE = "decide"
    """Met, and a person must answer something first."""
    SET_UP = "set-up"
    """Met, and the record shows no set-up and teaching."""
    LOG = "log"
    """What is recorded is too little; what took place beside it can still be logged."""
    OPEN = "open"
    """A window that runs."""
    LOST = "lost"


TO_DO = frozenset({Topic.READY, Topic.DECIDE, Topic.SET_UP, Topic.LOG})
"""What somebody can see to today."""


class Matter(Struct, frozen=True, array_like=True, gc=False):
    """One thing about one window. `until`: the last day on which what is open is not lost yet."""

    topic: Topic
    program: Program
    line: Line | None = None
    until: date | None = None


class Listed(Struct, frozen=True, array_like=True, gc=False):
    """One patient. `people`: references of whose time and conversations the record holds."""

    patient: str
    payer: str
    people: tuple[str, ...]
    incomplete: bool
    matters: tuple[Matter, ...]
    digest: str
    """Of what is told: another one says that something has changed."""
    packed: bytes
    """The decisions of the windows that say something."""
    common: bytes = b""
    """By which they are made small, where they are."""

    @property
    def id(self) -> str:
        """The logical id, by which the patient is known in a session and in the store."""
        return self.patient.removeprefix("Patient/")

    @property
    def until(self) -> date | None:
        """The first day after which something that is open is lost."""
        return min((one.until for one in self.matters if one.until is not None), default=None)

    @property
    def decisions(self) -> list[Decision]:
        """Of the windows that say something; without the names of the records that they rest on."""
        return _decisions.decode(self.told)

    @property
    def told(self) -> bytes:
        """What is packed."""
        packer = zlib.decompressobj(-15, zdict=self.common)
        return packer.decompress(self.packed) if self.common else self.packed


_decisions = msgspec.msgpack.Decoder(list[Decision])
_listed = msgspec.msgpack.Decoder(Listed)
_encode = msgspec.msgpack.Encoder().encode


def listed(
    record: PatientRecord,
    contract: Mapping[str, Any],
    decisions: Iterable[Decision],
    policy: Policy,
) -> bytes:
    """One patient, as a state keeps it; b"" of whom there is nothing to tell."""
    now = Now(record.as_of, lambda code: policy.code(code).kind, record.history_from or date.min)
    kept = [(one, found) for one in windows_of(decisions, now) if (found := tuple(_matters(one, now)))]
    if not kept:
        return b""
    told = _encode([_bare(code.decision) for one, _ in kept for code in one.codes])
    return _encode(
        Listed(
            record.patient,
            contract["payer"],
            _people(record),
            not contract["completeness"]["whole"],
            tuple(dict.fromkeys(matter for _, found in kept for matter in found)),
            blake2b(told, digest_size=8).hexdigest(),
            told,
        )
    )


class Lists(Struct, array_like=True):
    """Some patients of a state. `each` is `Listed`, or b"" of whom there is nothing to tell."""

    each: list[bytes]
    common: bytes = b""
    """What one of them says: what others say differs little from it."""

    @classmethod
    def of(cls, many: int) -> Lists:
        return cls([b""] * many)

    def put(self, place: int, told: bytes) -> bool:
        """What `listed` gave of one of them. Whether that is another thing than was there."""
        if told:
            one = _listed.decode(told)
            self.common = self.common or one.packed
            told = _encode(replace(one, packed=_small(one.packed, self.common)))
        is_new = told != self.each[place]
        self.each[place] = told
        return is_new


def listed_in(lists: bytes) -> Iterator[Listed]:
    """Whoever has something to tell, out of `Lists` as they are kept."""
    found = msgspec.msgpack.decode(lists, type=Lists)
    return (replace(_listed.decode(one), common=found.common) for one in found.each if one)


def _small(told: bytes, common: bytes) -> bytes:
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, -15, 9, zlib.Z_DEFAULT_STRATEGY, common)
    return packer.compress(told) + packer.flush()


def _matters(one: WindowOfCodes, now: Now) -> Iterator[Matter]:
    for topic, until in dict.fromkeys(_told(one, now)):
        yield Matter(topic, one.program, one.line, until)


def _told(one: WindowOfCodes, now: Now) -> Iterator[tuple[Topic, date | None]]:
    if one.among(Standing.READY):
        yield Topic.READY, None
    for code in one.among(Standing.DECIDE, Standing.SHUT):
        only = set(code.decision.reasons) == {ReviewReason.SETUP_NOT_DOCUMENTED}
        yield Topic.SET_UP if only else Topic.DECIDE, None
    running = one.among(Standing.OPEN, Standing.SAFE)
    if one.among(Standing.NEAR) or any(map(_lacks_a_conversation, running)):
        yield Topic.LOG, None
    if running and one.window.end >= now.today and _says_something(one):
        yield Topic.OPEN, one.decided_on
    if one.among(Standing.LOST) and _is_lost(one) and one.window.end >= now.today - LOST_FOR:
        yield Topic.LOST, None


def _says_something(one: WindowOfCodes) -> bool:
    """A month that has just begun, and holds nothing yet, is nothing to see to."""
    counted = (RequirementKind.MANAGEMENT_TIME, RequirementKind.LIVE_CONTACT)
    return not one.monthly or any(code.found(kind) for code in one.codes for kind in counted)


def _lacks_a_conversation(code: Code) -> bool:
    """The minutes are there, and nobody is on record to have talked with the patient."""
    time, live = code.need(RequirementKind.MANAGEMENT_TIME), code.need(RequirementKind.LIVE_CONTACT)
    return code.kind is Kind.MANAGEMENT and bool(time and time.met) and bool(live and not live.met)


def _is_lost(one: WindowOfCodes) -> bool:
    """As the page has it: device codes, in a window in which none is charged."""
    return not one.monthly and not one.among(Standing.CHARGED)


def _people(record: PatientRecord) -> tuple[str, ...]:
    named = {time.person for time in record.management}.union(*(one.people for one in record.contacts))
    return tuple(sorted(one for one in named if one))


def _bare(decision: Decision) -> Decision:
    """What sentences are made of."""
    return replace(
        decision,
        requirements=tuple(replace(one, evidence=(), all_evidence=()) for one in decision.requirements),
        charges=(),
        doubts=(),
        resolved=(),
        hints=(),
    )
