"""The shape of `smartapp evaluate --json`, as types: what docs/reference/contract.schema.json is made from.

`decision.to_contract` builds the answer; these types say what it may hold, and no more. Each case of the
tests is held against both. docs/contract.md says what the keys mean.
"""

from __future__ import annotations

import json
from datetime import date
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from .completeness import MissingWhy
from .vocabulary import (
    ExcludedReason,
    Hint,
    Line,
    Outcome,
    Program,
    RequirementKind,
    ReviewReason,
    Unit,
    Unverified,
)

CODE = r"^[0-9A-Z]{5}$"

REASON = {"anyOf": [{"enum": [str(reason) for reason in ReviewReason]}, {"pattern": CODE}]}

Code = Annotated[str, Meta(pattern=CODE)]
Reason = Annotated[str, Meta(extra_json_schema=REASON)]
SETTLED = {"anyOf": [*REASON["anyOf"], {"const": str(Hint.ASSISTANT_NOT_NEEDED)}]}
SettledReason = Annotated[str, Meta(extra_json_schema=SETTLED)]
Whole = Annotated[int, Meta(ge=0)]


class Days(Struct, forbid_unknown_fields=True):
    """Local dates, both inclusive."""

    start: date
    end: date


class UnboundedDays(Struct, forbid_unknown_fields=True):
    """Local dates, both inclusive; null where nothing bounds them."""

    start: date | None
    end: date | None


class Missing(Struct, forbid_unknown_fields=True):
    """Something that may exist and was not read; `type` null: of any type."""

    type: str | None
    why: MissingWhy
    days: UnboundedDays | None
    detail: str


class Completeness(Struct, forbid_unknown_fields=True):
    """Whether everything was read, and what was not."""

    whole: bool
    missing: list[Missing]


class Requirement(Struct, forbid_unknown_fields=True):
    """One question that the code asks, what was found, and the records that show it."""

    requirement: RequirementKind
    unit: Unit
    needed: Whole
    found: Whole
    met: bool
    evidence: list[str]
    reference: str


class Resolved(Struct, forbid_unknown_fields=True):
    """A reason for review that somebody settled, or whose minutes they chose."""

    reason: SettledReason
    by: str
    on: date | None
    reference: str


class Forecast(Struct, forbid_unknown_fields=True):
    """What an open window lacks, and until when it can come."""

    missing: Whole
    unit: Unit
    reachable_until: date
    next_code: Code | None


class Decision(Struct, forbid_unknown_fields=True):
    """One code in one window."""

    code: Code
    program: Program
    line: Line | None
    quantity: Whole
    outcome: Outcome
    period: Days
    service_date: date | None
    requirements: list[Requirement]
    reasons: list[Reason]
    resolved: list[Resolved]
    unverified: list[Unverified]
    modifiers: list[str]
    forecast: Forecast | None


class About(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """The coding or device that a reason is about."""

    system: str = ""
    code: str = ""
    display: str = ""


class Excluded(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A record that was left out, and why."""

    resource: str
    reason: ExcludedReason
    about: About | msgspec.UnsetType = msgspec.UNSET


class Answer(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """One patient's answer. `patient` null: what belongs to none of several patients."""

    patient: str | None
    as_of: date
    timezone: str
    payer: str
    rules_version: str
    completeness: Completeness
    decisions: list[Decision]
    excluded: list[Excluded]
    what_if: list[str] | msgspec.UnsetType = msgspec.UNSET


def schema() -> dict[str, Any]:
    """The contract as JSON Schema 2020-12: an answer, or an array of them."""
    made = msgspec.json.schema(Answer | list[Answer])
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "smartapp evaluate --json",
        "description": "One patient: an object; several: an array. What the keys mean: docs/contract.md.",
        **made,
    }


if __name__ == "__main__":
    print(json.dumps(schema(), indent=2))
