"""Every value a page may show has words of its own."""

from __future__ import annotations

import pytest

from fhir_mappings.completeness import MissingWhy
from fhir_mappings.reconciliation import ChangeKind, ChangeReason
from fhir_mappings.vocabulary import (
    Activity,
    ExcludedReason,
    Line,
    Outcome,
    Program,
    RequirementKind,
    ReviewReason,
    Role,
    Unverified,
)
from smartapp.ehr.reading.notices import NoticeKind
from smartapp.store.claims import ChargeState
from smartapp.web import permission, words


@pytest.mark.parametrize(
    ("kind", "table"),
    [
        (Outcome, words.OUTCOMES),
        (Program, words.PROGRAMS),
        (Line, words.LINES),
        (RequirementKind, words.REQUIREMENTS),
        (Activity, words.ACTIVITIES),
        (ReviewReason, words.REASONS),
        (Unverified, words.ATTESTATIONS),
        (ExcludedReason, words.EXCLUDED),
        (NoticeKind, words.NOTICES),
        (MissingWhy, words.MISSING),
        (MissingWhy, words.MISSING_TO_DO),
        (ChangeKind, words.CHANGES),
        (ChangeReason, words.CHANGE_REASONS),
        (ChargeState, words.CHANGE_STATES),
        (Role, permission.ROLES),
        (permission.Action, permission.DOING),
    ],
)
def test_every_value_has_words(kind, table):
    assert set(table) == set(kind)


def test_a_reason_that_is_a_code_names_the_code_in_the_way():
    assert words.reason("98977") == "98977 is met or charged for the same period."


@pytest.mark.parametrize(
    ("number", "unit", "said"),
    [
        (1, "days", "1 day"),
        (16, "days", "16 days"),
        (1199, "seconds", "19:59 min"),
        (1200, "seconds", "20:00 min"),
    ],
)
def test_amounts_are_said_exactly_never_rounded(number, unit, said):
    assert words.amount(number, unit) == said


def test_a_day_cannot_be_read_as_another_day():
    assert words.day("2026-02-03") == "3 Feb 2026"
