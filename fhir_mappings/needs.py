"""What must be read to decide: resource types, categories, codings and days.

Pure: the EHR reader turns it into the searches that a server allows.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, timedelta

from msgspec import Struct

from fhir_mappings.local_time import ONE_DAY, PERIOD_DAYS
from fhir_mappings.record import Enrolment, PriorCharge
from fhir_mappings.rules.policy import Policy
from fhir_mappings.rules.tables import Kind
from fhir_mappings.terminology import Terminology

MONTHS_BACK = 13
PERIOD = timedelta(days=PERIOD_DAYS)
# Where home readings are filed, in the field (SMART_AND_FHIR 2.2): servers that refuse a search by patient
# and date alone are asked once for each of these.
CATEGORIES = ("vital-signs", "activity", "survey", "exam", "therapy", "procedure", "laboratory")


class TypeNeed(Struct, frozen=True):
    """`dated`: bounded by `Needs.start`; other types are read whole. `required`: nothing can be decided
    without it; of the others the absence is told."""

    type: str
    dated: bool = False
    required: bool = False


class Needs(Struct, frozen=True):
    """`start` to `end`: local days, inclusive. Searches are padded by a day on both sides, since a server may
    cut days in another zone; what lies outside is left out again when the record is made."""

    start: date
    end: date
    types: tuple[TypeNeed, ...]
    categories: tuple[str, ...]
    codings: tuple[tuple[str, str], ...]

    @property
    def search_start(self) -> date:
        return self.start - ONE_DAY

    @property
    def search_end(self) -> date:
        return self.end + ONE_DAY


def needs(
    terminology: Terminology,
    policy: Policy,
    as_of: date,
    enrolments: Iterable[Enrolment] = (),
    charges: Iterable[PriorCharge] = (),
    months_back: int = MONTHS_BACK,
    asked: Iterable[date] = (),
) -> Needs:
    """From the start of the last charged period of thirty days, or enrolled one, on; else `months_back`
    months.

    Never less than the whole of last month: a month that just ended is still to be charged. Nor less than the
    period of a suggestion of ours that billing has not taken up: it follows the record until then. Nor less
    than what somebody asked for (`asked`: first days), whatever later period is charged by then: the windows
    of what was accepted and is charged nowhere, which awaits a second person or an answer or may be accepted
    again; or all the months there are. `policy`: that of the chart's payer, as far as it is known; diagnoses
    are needed only where that payer asks for one.
    """
    return Needs(
        start=_start(policy, as_of, list(enrolments), list(charges), months_back, asked),
        end=as_of,
        types=(
            TypeNeed("ChargeItem"),
            TypeNeed("Patient", required=True),
            TypeNeed("Observation", dated=True, required=True),
            TypeNeed("Encounter", dated=True),
            TypeNeed("Device"),
            TypeNeed("EpisodeOfCare"),
            TypeNeed("Consent"),
            TypeNeed("ServiceRequest"),
            TypeNeed("CarePlan"),
            TypeNeed("Procedure"),
            TypeNeed("Coverage"),
            *((TypeNeed("Condition"),) if _asks_diagnoses(policy) else ()),
        ),
        categories=CATEGORIES,
        codings=tuple(
            sorted(
                (system, code)
                for (system, code), meaning in terminology.observations.items()
                if meaning.measurement and system and code
            )
        ),
    )


def oldest_day(as_of: date, months_back: int = MONTHS_BACK) -> date:
    """The day before which nothing is ever read."""
    month = as_of.year * 12 + as_of.month - 1 - months_back
    return date(month // 12, month % 12 + 1, 1)


def _asks_diagnoses(policy: Policy) -> bool:
    """Whether the payer covers some code for some diagnoses alone; of all others no decision needs any."""
    return policy.rule is not None and any(row.diagnoses for row in policy.rule.coverage)


def _start(
    policy: Policy,
    as_of: date,
    enrolments: list[Enrolment],
    charges: list[PriorCharge],
    months_back: int,
    asked: Iterable[date],
) -> date:
    oldest = oldest_day(as_of, months_back)
    last_month = (as_of.replace(day=1) - ONE_DAY).replace(day=1)
    charged = [
        charge.occurrence.start
        for charge in charges
        # One date says in which period a charge lies, not where the periods begin.
        if charge.occurrence is not None
        and policy.code(charge.code).kind is Kind.DEVICE_SUPPLY
        and charge.occurrence.end - charge.occurrence.start == PERIOD - ONE_DAY
    ]
    enrolled = [
        enrolment.anchor + PERIOD * ((as_of - enrolment.anchor) // PERIOD - 1)
        for enrolment in enrolments
        if enrolment.anchor <= as_of
    ]
    planned = [
        # A start-up charge names the day it was earned, somewhere in its first period.
        charge.occurrence.start - (PERIOD if policy.code(charge.code).kind is Kind.START_UP else timedelta())
        for charge in charges
        if charge.occurrence is not None and charge.keys and charge.status == "planned"
    ]
    known = max(charged) if charged else min(enrolled) if enrolled else oldest
    return max(oldest, min(known, last_month, *planned, *asked))
