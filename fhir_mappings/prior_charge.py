"""What was charged before, in whatever shape an EHR or a payer says it (D29).

The error goes one way on purpose. Taking a charge for one of ours that isn't costs somebody a look; missing
one bills a service twice.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from math import ceil
from typing import Any

import msgspec
from msgspec import Raw, Struct

from fhir_mappings.charge_item import IDENTIFIER_SYSTEM, RULE_URI
from fhir_mappings.charge_numbers import Numbers, is_service, numbers_in, numbers_in_code
from fhir_mappings.identity import last_segments
from fhir_mappings.local_time import LocalClock, Moment, Window
from fhir_mappings.record import HANDED_OVER, PriorCharge
from fhir_mappings.resources import (
    ChargeConcept,
    ChargeItem,
    Claim,
    ClaimItem,
    ClaimPart,
    Coding,
    ExplanationOfBenefit,
    Period,
    Quantity,
    Reference,
    concepts,
    decode_untyped,
)
from fhir_mappings.rules.tables import KnownCodes, shipped_codes
from fhir_mappings.vocabulary import ExcludedReason

# A charge that was never made, or that was taken back, doesn't stand in the way (contract: `charged`).
NOT_CHARGED: Mapping[str | None, ExcludedReason] = {
    "entered-in-error": ExcludedReason.ENTERED_IN_ERROR,
    "aborted": ExcludedReason.ABORTED,
    "not-billable": ExcludedReason.NOT_BILLABLE,
}
NOT_CLAIMED: Mapping[str | None, ExcludedReason] = {
    "entered-in-error": ExcludedReason.ENTERED_IN_ERROR,
    "cancelled": ExcludedReason.CANCELLED,
    "draft": ExcludedReason.NOT_ACTIVE,
}
_ASKED_BEFOREHAND = frozenset({"preauthorization", "predetermination", "proposed", "exploratory"})
"""Uses of a claim that ask what would be paid, and charge nothing; the last two are those of before R4."""
_NOT_JSON = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)
_DEEPEST = 12
"""Levels of elements within elements that are looked through; what lies deeper is no code of a charge."""
_SAID_IN = ("valueString", "valueMarkdown", "valueCode", "valueCoding", "valueCodeableConcept")
"""Where an extension may name a code: never in an identifier, a reference or a number of its own."""


class ChargeCodes(Struct, frozen=True, gc=False):
    """Which of our codes, and of those that go before ours, a charge names. `coded`: in `code.coding.code`;
    `said`: anywhere else."""

    coded: tuple[str, ...] = ()
    said: tuple[str, ...] = ()

    def of(self, codes: Container[str | None]) -> ChargeCodes:
        """Those among some codes."""
        coded, said = (tuple(code for code in named if code in codes) for named in (self.coded, self.said))
        return ChargeCodes(coded, said)

    @property
    def named(self) -> tuple[str, ...]:
        """What it is a charge of: its coding's word, and what is said elsewhere only where there is none.
        Where there are several, nobody can tell which."""
        return self.coded or self.said


# -- which code ---------------------------------------------------------------------------------------------


def codes_of(charge: ChargeItem, known: KnownCodes | None = None) -> ChargeCodes:
    """Our codes in a charge, under any system, with a prefix or a modifier, in words or in an extension.

    One that was written from here says by its identifier that it is ours, and by its definition of which
    code, whatever became of the code itself; where that is gone too, it may be any of them.
    """
    known = known or shipped_codes()
    found = codes_in(known, charge.code, charge.extension, charge.modifierExtension)
    products = (charge.productCodeableConcept, charge.product)
    of_products = [text for product in products for text in _texts_in(_value_of(product))]
    beside = [number for text in of_products for number in numbers_in(text, known)]
    found = ChargeCodes(found.coded, tuple(dict.fromkeys((*found.said, *beside))))
    if found.named or not own_keys(charge):
        return found
    uris = _texts_in(_value_of(charge.definitionUri))
    named = {uri.removeprefix(RULE_URI).partition(":")[0] for uri in uris} & known.rules.keys()
    return ChargeCodes(said=tuple(sorted(named or known.rules)))


def own_keys(charge: ChargeItem) -> tuple[str, ...]:
    """A charge's identifiers under the system of this project."""
    return tuple(
        identifier.value
        for identifier in charge.identifier or ()
        if identifier.system == IDENTIFIER_SYSTEM and identifier.value
    )


def codes_in(known: Numbers, code: ChargeConcept | None, *extensions: Raw) -> ChargeCodes:
    """Known codes in an element `code` and in extensions beside it."""
    coded: dict[str, None] = {}
    said: dict[str, None] = {}
    beside = list(extensions)
    if code is not None:
        beside += (code.extension, code.text_)
        said |= dict.fromkeys(numbers_in(code.text or "", known))
        for coding in code.coding or ():
            beside += (coding.extension, coding.code_, coding.display_)
            coded |= dict.fromkeys(numbers_in_code(coding.code or "", known))
            said |= dict.fromkeys(numbers_in(coding.display or "", known))
    for element in beside:
        if known.in_bytes.search(bytes(element)) is not None:
            for text in _said_in_extensions(_value_of(element)):
                said |= dict.fromkeys(numbers_in(text, known))
    return ChargeCodes(tuple(coded), tuple(said))


def _said_in_extensions(extensions: Any, depth: int = 0) -> Iterator[str]:
    """What extensions say, however nested: their strings, codings and concepts. Of a primitive element's
    sibling ("_text") the extensions."""
    if depth > _DEEPEST:
        return
    for extension in extensions if isinstance(extensions, list) else [extensions]:
        if isinstance(extension, dict):
            for name in _SAID_IN:
                yield from _texts_in(extension.get(name))
            yield from _said_in_extensions(extension.get("extension"), depth + 1)


def _texts_in(value: Any, depth: int = 0) -> Iterator[str]:
    """The texts of a string, a coding or a concept."""
    if depth > _DEEPEST:
        return
    for one in value if isinstance(value, list) else [value]:
        if isinstance(one, str):
            yield one
        elif isinstance(one, dict):
            for name in ("code", "display", "text", "coding", "concept"):
                yield from _texts_in(one.get(name), depth + 1)


# -- which charge -------------------------------------------------------------------------------------------


def read_charge(
    charge: ChargeItem, name: str, clock: LocalClock, known: KnownCodes | None = None
) -> tuple[PriorCharge, ...] | ExcludedReason:
    """A ChargeItem as a charge of the code of ours that it names; of each, where it names several; of none.

    An absent or unknown status counts as charged.
    """
    known = known or shipped_codes()
    codes = codes_of(charge, known).named
    if not codes:
        return ()
    if charge.status in NOT_CHARGED:
        return NOT_CHARGED[charge.status]
    keys = own_keys(charge)
    return tuple(
        PriorCharge(
            name,
            code,
            _quantity(charge.quantity),
            occurrence_of(charge, clock),
            charge.status or "",
            keys,
            (*_named(charge.service), *_named(charge.supportingInformation)) if keys else (),
            _among(codes, known),
        )
        for code in codes
    )


def handed_over(
    resource: Mapping[str, Any], key: str, clock: LocalClock, known: KnownCodes | None = None
) -> tuple[PriorCharge, ...]:
    """A charge that was handed over otherwise than as a ChargeItem, from the ChargeItem that it would be.

    The ChargeItem, or claim, that comes of it there is the same charge (`units_charged`). It has no key and
    no status of its own: nothing of it can be changed through an API.
    """
    charge = msgspec.json.decode(msgspec.json.encode(resource), type=ChargeItem)
    read = read_charge(charge, f"{HANDED_OVER}/{key}", clock, known)
    if isinstance(read, ExcludedReason):
        return ()
    return tuple(msgspec.structs.replace(one, status="", keys=(), evidence=()) for one in read)


def _among(named: tuple[str, ...], known: KnownCodes) -> tuple[str, ...]:
    """Of which of our codes a charge may be that names these; of codes that go before ours, one is as good as
    another."""
    return tuple(code for code in named if code in known.rules) if len(named) > 1 else ()


def read_claim(
    claim: Claim | ExplanationOfBenefit, name: str, clock: LocalClock, known: KnownCodes | None = None
) -> tuple[PriorCharge, ...] | ExcludedReason:
    """The charges of our codes that a Claim tells of, or that a payer answered to.

    What the payer decided is not asked: no status says that a line was denied, and what was denied is
    corrected or appealed, not charged anew. A line that the payer added tells of what the claim did not.
    """
    known = known or shipped_codes()
    found = _lines(claim.item or (), claim.billablePeriod, name, claim.status or "", clock, known)
    if isinstance(claim, ExplanationOfBenefit):
        claimed = {charge.code for charge in found}
        added = _lines(claim.addItem or (), claim.billablePeriod, name, claim.status or "", clock, known)
        found += [charge for charge in added if charge.code not in claimed]
    found += _done(claim, name, clock, known, {charge.code for charge in found})
    if found and claim.status in NOT_CLAIMED:
        return NOT_CLAIMED[claim.status]
    if found and not is_charge(claim):
        return ExcludedReason.NOT_ACTIVE
    return tuple(found)


def _done(
    claim: Claim | ExplanationOfBenefit,
    name: str,
    clock: LocalClock,
    known: KnownCodes,
    claimed: Container[str],
) -> list[PriorCharge]:
    """What a claim says was done that is on none of its lines: it is claimed there under another number."""
    found: list[PriorCharge] = []
    whole = None if claim.billablePeriod is None else days_of(claim.billablePeriod, clock)
    for procedure in claim.procedure or ():
        codes = codes_in(known, procedure.procedureCodeableConcept).named
        own = None if procedure.date is None else _window(procedure.date, procedure.date, clock)
        found += [
            PriorCharge(
                name,
                code,
                1,
                own or whole,
                claim.status or "",
                among=_among(codes, known),
                of_whole_claim=own is None,
            )
            for code in codes
            if code not in claimed
        ]
    return found


def is_charge(claim: Claim | ExplanationOfBenefit) -> bool:
    """Does it charge anything, or answer to what does?"""
    return claim.status not in NOT_CLAIMED and claim.use not in _ASKED_BEFOREHAND


def who_claims(
    claim: Claim | ExplanationOfBenefit, takes_part: Callable[[list[Coding]], bool] = lambda _: True
) -> tuple[Reference, ...]:
    """Who furnished what is claimed, or an organisation of theirs. `takes_part`: whether somebody in this
    role did (`Terminology.takes_part`)."""
    team = [member for member in claim.careTeam or () if takes_part(concepts(member.role))]
    named = (claim.provider, *(member.provider for member in team))
    return tuple(reference for reference in named if reference is not None)


def lines_of_others(claim: Claim | ExplanationOfBenefit, known: KnownCodes) -> Iterator[ClaimItem]:
    """Its lines for a service that is none of ours, by a number that services are charged by."""
    for item in claim.item or () if is_charge(claim) else ():
        codings = (item.claimed.coding if item.claimed is not None else None) or ()
        ours = any(code in known.programs for _, codes in _parts(item, known) for code in codes)
        if not ours and any(is_service(coding.code) for coding in codings):
            yield item


def _lines(
    items: Iterable[ClaimItem],
    whole: Period | None,
    name: str,
    status: str,
    clock: LocalClock,
    known: KnownCodes,
) -> list[PriorCharge]:
    """What each line charges of ours, on its own days; where it has none, on those of the whole claim."""
    found: list[PriorCharge] = []
    of_claim = None if whole is None else days_of(whole, clock)
    for item in items:
        own = _own_days(item, clock)
        for part, codes in _parts(item, known):
            found += [
                PriorCharge(
                    name,
                    code,
                    _quantity(part.quantity),
                    own or of_claim,
                    status,
                    among=_among(codes, known),
                    of_whole_claim=own is None,
                )
                for code in codes
            ]
    return found


def _own_days(item: ClaimItem, clock: LocalClock) -> Window | None:
    if item.servicedDate is not None:
        return _window(item.servicedDate, item.servicedDate, clock)
    return None if item.servicedPeriod is None else days_of(item.servicedPeriod, clock)


def days_of_line(item: ClaimItem, whole: Period | None, clock: LocalClock) -> Window | None:
    """A line's own days; where it has none, those of the whole claim."""
    return _own_days(item, clock) or (None if whole is None else days_of(whole, clock))


def _parts(item: ClaimItem, known: KnownCodes) -> Iterator[tuple[ClaimPart, tuple[str, ...]]]:
    """The parts of a line that name codes of ours: the line itself; else its details, and theirs."""
    if codes := codes_in(known, item.claimed, item.extension).named:
        yield item, codes
        return
    for detail in item.detail or ():
        if codes := codes_in(known, detail.claimed, detail.extension).named:
            yield detail, codes
            continue
        for part in detail.subDetail or ():
            if codes := codes_in(known, part.claimed, part.extension).named:
                yield part, codes


def _quantity(quantity: Quantity | None) -> int:
    """Units, rounded up; below zero they are a credit. One where nothing is said."""
    return 1 if quantity is None or quantity.value is None else ceil(quantity.value)


def occurrence_of(charge: ChargeItem, clock: LocalClock) -> Window | None:
    """The days a charge speaks of; None where it names none."""
    if charge.occurrenceDateTime is not None:
        return _window(charge.occurrenceDateTime, charge.occurrenceDateTime, clock)
    if charge.occurrencePeriod is not None:
        return days_of(charge.occurrencePeriod, clock)
    timing = charge.occurrenceTiming
    if timing is not None and timing.event:
        events = sorted(timing.event)
        return _window(events[0], events[-1], clock)
    return None if timing is None or timing.bounds is None else days_of(timing.bounds, clock)


def days_of(period: Period, clock: LocalClock) -> Window | None:
    """From the first day of a period to its last; one end stands for both."""
    return _window(period.start or period.end, period.end or period.start, clock)


def _window(start: str | None, end: str | None, clock: LocalClock) -> Window | None:
    first, last = clock.read(start), clock.read(end)
    if not isinstance(first, Moment) or not isinstance(last, Moment) or last.day < first.day:
        return None
    return Window(first.day, last.day)


def _named(element: Raw) -> tuple[str, ...]:
    """The literal references of an array of References, as `Type/id`; none where it is something else.

    What we wrote is relative; a server may have made it absolute, or added a version.
    """
    if not bytes(element):
        return ()
    try:
        references = msgspec.json.decode(element, type=list[Reference])
    except msgspec.DecodeError:
        return ()
    return tuple(last_segments(reference.reference) for reference in references if reference.reference)


def _value_of(element: Raw) -> Any:
    """An element that is kept as it stands; None where it is absent or no JSON that can be told apart."""
    try:
        return decode_untyped(element) if bytes(element) else None
    except _NOT_JSON:
        return None
