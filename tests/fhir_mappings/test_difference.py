"""What changes between two dates of service, for the coder who signs a year off (D37)."""

from __future__ import annotations

import dataclasses
from datetime import date
from typing import Any

import msgspec
import pytest

from fhir_mappings.rules.difference import Changed, differences
from fhir_mappings.rules.policy import Policy, load_policy
from fhir_mappings.rules.tables import PayerRule, SettingRow, load_tables

from .test_editions import row, table
from .test_engine import payer

LAST, FIRST = date(2026, 12, 31), date(2027, 1, 1)
MEDICARE = load_policy("medicare")


def told(policy: Policy, *days: date, **more: Any) -> list[tuple[str, str, str, str]]:
    """What changes beside what the shipped tables bring by themselves, whatever they will hold one day."""
    before, after = days or (LAST, FIRST)
    shipped = differences(MEDICARE, before, after)
    return [
        (one.changed.name, one.about, one.before, one.after)
        for one in differences(policy, before, after, **more)
        if one not in shipped
    ]


def test_nothing_changes_in_the_shipped_tables_with_2027_whatever_is_proposed() -> None:
    assert differences(MEDICARE, LAST, FIRST) == ()


def test_what_2026_brought() -> None:
    found = differences(MEDICARE, date(2025, 12, 31), date(2026, 1, 1))
    of = {kind: [one for one in found if one.changed is kind] for kind in Changed}
    assert [one.about for one in of[Changed.CODES]] == ["98979", "98984", "98985", "98986", "99445", "99470"]
    assert of[Changed.CODES][0].after == "in force from 2026-01-01, 10:00 min"
    assert [(one.about, one.before, one.after) for one in of[Changed.THRESHOLDS]] == [
        ("98975", "16 days", "2 days"),
        ("99453", "16 days", "2 days"),
    ]
    assert of[Changed.THRESHOLDS][0].reference == load_tables().reference(("S7", "S22", "S9"))
    assert {"R1.2-2", "R3-2"} <= {one.about for one in of[Changed.RULES]}
    assert of[Changed.SETTINGS] == of[Changed.CODE] == of[Changed.TABLES] == []
    (uhc,) = of[Changed.PAYERS]
    assert uhc.about.startswith("unitedhealthcare, 99445, 99453")
    assert (uhc.before, uhc.after) == ("unknown: no row", "yes")
    assert [one.changed for one in found] == sorted((one.changed for one in found), key=list(Changed).index)


def test_what_a_table_of_ones_own_changes() -> None:
    policy = load_policy(
        "medicare",
        code_rules=[
            table("98975", monitoring_days=[row("2027-01-01", 10)]),
            table("98981", units_cap=5, excludes=[]),
            table("98980", management_seconds=[row("2027-01-01", 1500)], assistant_modifiers={}),
            table("98977", "2022-01-01", in_force_to="2026-12-31"),
        ],
    )
    assert told(policy) == [
        ("CODES", "98977", "in force since 2022-01-01", "ended on 2026-12-31"),
        ("THRESHOLDS", "98975", "2 days", "10 days"),
        ("THRESHOLDS", "98980", "20:00 min", "25:00 min"),
        ("CODE", "98980", "assistant_modifiers CQ, CO", "assistant_modifiers none"),
        ("CODE", "98981", "units_cap 3", "units_cap 5"),
        ("CODE", "98981", "excludes 98979", "excludes none"),
        ("TABLES", "98975, 98980, 98981", "2026-12-31", "2027-12-31"),
    ]


def test_what_a_payer_changes() -> None:
    rows = [
        {"from": "2026-01-01", "codes": "all", "covered": "yes"},
        {
            "from": "2027-01-01",
            "codes": ["98977", "98980"],
            "covered": "criteria",
            "diagnoses": ["M54", "M25"],
        },
        {"from": "2027-01-01", "codes": ["98985"], "covered": "yes", "least": 5, "modifiers": ["KX", "GP"]},
        {"from": "2027-01-01", "codes": ["98981"], "covered": "yes", "units_cap": 1},
    ]
    rule = payer(*rows).rule
    assert rule is not None
    policy = load_policy("acme", payer_rules=[rule])
    assert told(policy, payer_rules=[rule]) == [
        ("THRESHOLDS", "98985", "2 days", "5 days"),
        ("CODE", "98981", "units_cap 3", "units_cap 1"),
        ("PAYERS", "acme, 98977, 98980", "yes", "criteria, for M54, M25"),
        ("PAYERS", "acme, 98981", "yes", "yes, at most 1 units"),
        ("PAYERS", "acme, 98985", "yes", "yes, least 5, with KX, GP"),
    ]
    assert [one for one in told(MEDICARE, payer_rules=[rule]) if one[0] != "PAYERS"] == []


def test_codes_of_which_a_payer_says_the_same_are_one_line() -> None:
    table_of = {"payer": "x", "label": "X", "last_checked": "2026-12-01"}
    rows = [{"from": "2027-01-01", "codes": "all", "covered": "no"}]
    own = msgspec.convert({**table_of, "coverage": rows}, PayerRule)
    assert told(MEDICARE, payer_rules=[own]) == [("PAYERS", "x, all codes", "unknown: no row", "no")]


def test_a_setting_and_a_rule_that_begin() -> None:
    shipped = load_tables()
    setting = SettingRow(True, FIRST, "A new question.", LAST)
    entry = msgspec.structs.replace(shipped.register[0], id="D99", start=FIRST, says="So it is.")
    ending = msgspec.structs.replace(shipped.register[0], id="D98", end=LAST)
    tables = dataclasses.replace(
        shipped,
        settings={**shipped.settings, "new_setting": setting},
        register=(*shipped.register, entry, ending),
    )
    policy = msgspec.structs.replace(
        MEDICARE, tables=tables, settings={**MEDICARE.settings, "new_setting": True}
    )
    assert told(policy) == [
        ("SETTINGS", "new_setting", "no such setting", "true from 2027-01-01"),
        ("RULES", "D99", "not in force", "in force: So it is."),
        ("RULES", "D98", "in force", "ended"),
    ]


@pytest.mark.parametrize("days", [(LAST, LAST), (date(2026, 2, 1), date(2026, 4, 1))])
def test_between_days_of_one_rule_nothing_changes(days: tuple[date, date]) -> None:
    assert differences(MEDICARE, *days) == ()


def test_of_a_code_that_ends_nothing_else_is_told_though_its_last_table_says_more() -> None:
    last = table("98977", "2026-07-01", in_force_to="2026-10-31", units_cap=2)
    policy = load_policy("medicare", code_rules=[last])
    found = told(policy, date(2026, 6, 30), date(2026, 11, 1))
    assert [one for one in found if one[0] != "TABLES"] == [
        ("CODES", "98977", "in force since 2022-01-01", "ended on 2026-10-31")
    ]


def test_the_headings_under_which_a_coder_reads_what_changes() -> None:
    assert list(Changed) == [
        "codes that begin or end",
        "what a code asks for",
        "what else a code's table says",
        "payers' rows",
        "settings",
        "rules of the register that begin or end",
        "up to which day the tables were checked",
    ]
