"""How each reason for a review is settled, by whom, and what cannot be (D38)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from enum import StrEnum
from functools import cache
from types import MappingProxyType

import msgspec
from msgspec import Struct

from fhir_mappings.record import Resolution
from fhir_mappings.rules.tables import table_text
from fhir_mappings.terminology import read_table
from fhir_mappings.vocabulary import (
    MONITORING_PROGRAMS,
    PROFESSIONALS,
    THERAPISTS,
    Line,
    ReviewReason,
    Role,
)


class Who(StrEnum):
    """Who may settle it; which roles of a site that is, its permissions say."""

    BILLER = "biller"
    CLINICIAN = "clinician"
    ADMINISTRATOR = "administrator"


class How(StrEnum):
    RESOLUTION = "resolution"
    """Somebody confirms a sentence."""
    CHOICE = "choice"
    """Somebody chooses, and the decision follows."""
    LOG = "log"
    CORRECT = "correct"
    """In the EHR: no sentence makes a record right."""
    READ_AGAIN = "read-again"
    PERIODS = "periods"
    """On the page of the 30-day periods."""
    SITE_FILE = "site-file"
    NOTHING = "nothing"


class Choice(StrEnum):
    """What is chosen, as text in `Resolution.choice`."""

    PROGRAM = "program"
    """rtm or rpm."""
    LINE = "line"
    WINDOW = "window"
    """The first day of a period or month."""
    MONTH = "month"
    """2026-03."""
    DATE = "date"
    ROLE = "role"
    """A role; perhaps whose it is, as `Practitioner/7 as physician`."""
    PERSON = "person"
    """A reference, or `somebody-else`: nobody of the program's people."""
    PLACE = "place"
    """home or facility."""
    MINUTES = "minutes"
    """with-assistant or therapist-alone."""


SOMEBODY_ELSE = "somebody-else"
HOME, FACILITY = "home", "facility"
WITH_ASSISTANT, THERAPIST_ALONE = "with-assistant", "therapist-alone"
_SETTLED_HERE = frozenset({How.RESOLUTION, How.CHOICE})


class Review(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One reason. `says`: the sentence that is confirmed; where nobody can settle it here, what is done
    instead. `reference`: whoever settles it must name the document or number that shows it."""

    reason: str
    who: tuple[Who, ...]
    how: How
    says: str
    choice: Choice | None = None
    reference: bool = False

    def __post_init__(self) -> None:
        if (self.how is How.CHOICE) != (self.choice is not None):
            raise ValueError(f"{self.reason}: a choice says what is chosen")
        if (self.how is How.NOTHING) == bool(self.who):
            raise ValueError(f"{self.reason}: say who settles it")

    @property
    def is_settled_here(self) -> bool:
        """Whether a resolution settles it."""
        return self.how in _SETTLED_HERE


@cache
def load_reviews() -> Mapping[str, Review]:
    """The table, by reason; a code is a reason too (99091)."""
    rows = msgspec.convert(read_table(table_text("reviews.yaml")), list[Review])
    return MappingProxyType({row.reason: row for row in rows})


def problem_of(resolution: Resolution) -> str | None:
    """Why a resolution settles nothing, in one line; None where it does."""
    review = load_reviews().get(resolution.resolves)
    if review is None:
        return f"{resolution.resolves} is no reason for a review"
    if not review.is_settled_here:
        return f"{review.reason} is settled by no sentence. {review.says}"
    if review.reference and not resolution.reference.strip():
        return f"{review.reason} is settled with a reference"
    if review.choice is not None and not _is_a(review.choice, resolution):
        return f"{review.reason} is settled by the choice of a {review.choice}, not by {resolution.choice!r}"
    return None


def role_in(choice: str | None) -> Role | None:
    """The role that was chosen, with or without whose it is; None where it is none."""
    named = (choice or "").rpartition(" as ")[2].strip()
    return next((role for role in Role if role == named and role is not Role.UNKNOWN), None)


def day_in(choice: str | None) -> date | None:
    try:
        return date.fromisoformat(choice or "")
    except ValueError:
        return None


def month_in(choice: str | None) -> date | None:
    """The first day of the month that was chosen."""
    return day_in(f"{choice}-01")


def _is_a(kind: Choice, resolution: Resolution) -> bool:
    chosen = resolution.choice or ""
    match kind:
        case Choice.PROGRAM:
            return chosen in MONITORING_PROGRAMS
        case Choice.LINE:
            return chosen in set(Line) - {Line.OTHER}
        case Choice.WINDOW | Choice.DATE:
            return day_in(chosen) is not None
        case Choice.MONTH:
            return month_in(chosen) is not None
        case Choice.PERSON:
            return chosen == SOMEBODY_ELSE or "/" in chosen
        case Choice.PLACE:
            return chosen in (HOME, FACILITY)
        case Choice.MINUTES:
            return chosen in (WITH_ASSISTANT, THERAPIST_ALONE)
        case Choice.ROLE:
            role = role_in(chosen)
            of_staff = resolution.resolves == ReviewReason.STAFF_ROLE
            return role is not None and (of_staff or role in PROFESSIONALS | THERAPISTS)
