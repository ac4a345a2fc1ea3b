"""Every value a page may show has words of its own."""

from __future__ import annotations

from datetime import date

import pytest

from fhir_mappings.completeness import MissingWhy
from fhir_mappings.local_time import Window
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
from smartapp.ehr.reading.notices import Notice, NoticeKind
from smartapp.store.claims import ChargeState
from smartapp.web import charge_words, permission, reading_words, words
from smartapp.windows import Cell, Standing


@pytest.mark.parametrize(
    ("kind", "table"),
    [
        (Outcome, words.OUTCOMES),
        (Standing, words.STANDINGS),
        (Cell, words.CELLS),
        (Program, words.SHORT_PROGRAMS),
        (Program, words.PROGRAMS),
        (Line, words.LINES),
        (RequirementKind, words.REQUIREMENTS),
        (Activity, words.ACTIVITIES),
        (ReviewReason, words.REASONS),
        (Unverified, words.ATTESTATIONS),
        (ExcludedReason, words.EXCLUDED),
        (NoticeKind, reading_words.NOTICES),
        (MissingWhy, reading_words.MISSING),
        (MissingWhy, reading_words.MISSING_TO_DO),
        (ChangeKind, charge_words.CHANGES),
        (ChangeReason, charge_words.CHANGE_REASONS),
        (ChargeState, charge_words.CHANGE_STATES),
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
        (1199, "seconds", "19 minutes 59 seconds"),
        (1200, "seconds", "20 minutes"),
    ],
)
def test_amounts_are_said_exactly_never_rounded(number, unit, said):
    assert words.amount(number, unit) == said


def test_a_day_cannot_be_read_as_another_day():
    assert words.day("2026-02-03") == "3 Feb 2026"


TODAY = date(2026, 12, 1)


@pytest.mark.parametrize(
    ("start", "end", "said"),
    [
        ("2026-11-01", "2026-11-30", "November"),
        ("2025-11-01", "2025-11-30", "November 2025"),
        ("2026-10-02", "2026-10-31", "2 to 31 Oct"),
        ("2026-11-07", "2026-12-06", "7 Nov to 6 Dec"),
        ("2025-12-10", "2026-01-08", "10 Dec 2025 to 8 Jan 2026"),
        ("2025-05-25", "2025-06-23", "25 May to 23 Jun 2025"),
    ],
)
def test_a_window_is_named_as_people_name_it_with_the_year_where_it_is_another(start, end, said):
    assert words.window(Window(date.fromisoformat(start), date.fromisoformat(end)), TODAY) == said


def test_a_period_that_is_a_month_is_told_by_its_days():
    assert words.period(Window(date(2026, 11, 1), date(2026, 11, 30)), TODAY) == "1 to 30 Nov"


@pytest.mark.parametrize(
    ("found", "needed", "unit", "said"),
    [
        (15, 16, "days", "15 of 16 days"),
        (16, 16, "days", "16 days (needs 16)"),
        (1, 1, "days", "1 day (needs 1)"),
        (0, 1200, "seconds", "0 of 20 minutes"),
        (1199, 1200, "seconds", "19 minutes 59 seconds of 20 minutes"),
        (1200, 1200, "seconds", "20 minutes (needs 20)"),
        (59, 600, "seconds", "59 seconds of 10 minutes"),
        (0, 1, "count", "0 of 1"),
    ],
)
def test_what_there_is_of_what_is_needed_is_exact(found, needed, unit, said):
    assert words.found_of(found, needed, unit) == said


def test_a_talk_is_stated_for_the_month_it_is_about_not_for_this_one():
    month = Window(date(2026, 11, 1), date(2026, 11, 30))
    told = words.attestation(Unverified.CONVERSATION, month)
    assert told == "There was a live, two-way talk with the patient or a caregiver in November 2026."
    assert words.attestation(Unverified.TIME, month) == words.ATTESTATIONS[Unverified.TIME]


def test_the_share_of_an_assistant_is_the_sites_own():
    assert "more than 10 %" in words.modifier("CQ", 10)
    assert "more than 12 %" in words.modifier("CO", 12)


def test_records_that_are_missing_are_counted_not_named():
    notices = [Notice(NoticeKind.MISSING, "Device", f"Device/{number}") for number in (1, 2)]
    assert reading_words.missing_records(notices) == [
        "2 devices named by readings are missing in the EHR; what comes from them may not count."
    ]
