"""Payers as data: dated rows, what differs for a payer, and silence that is never a yes."""

from __future__ import annotations

from datetime import date

import msgspec
import pytest

from fhir_mappings.rules.policy import Policies, load_policy
from fhir_mappings.rules.tables import Covered, Kind, PayerRule, load_tables
from fhir_mappings.vocabulary import Program


def payer(*rows: dict[str, object], **more: object) -> PayerRule:
    table = {"payer": "acme", "label": "Acme", "coverage": rows, "last_checked": "2026-11-22", **more}
    return msgspec.convert(table, PayerRule)


def row(start: str, covered: str = "yes", **more: object) -> dict[str, object]:
    return {"from": start, "codes": ["98985", "98977", "98980"], "covered": covered, **more}


def test_a_row_holds_from_its_day_on_and_the_newest_wins() -> None:
    rule = payer(row("2026-01-01"), row("2026-07-01", "no"))
    assert rule.covered("98985", date(2025, 12, 31)) is Covered.UNKNOWN
    assert rule.covered("98985", date(2026, 1, 1)) is Covered.YES
    assert rule.covered("98985", date(2026, 6, 30)) is Covered.YES
    assert rule.covered("98985", date(2026, 7, 1)) is Covered.NO


def test_a_code_without_a_row_is_unknown() -> None:
    assert payer(row("2026-01-01")).covered("99457", date(2026, 3, 1)) is Covered.UNKNOWN


def test_a_payer_that_asks_for_diagnoses_asks_a_human() -> None:
    rule = payer(row("2026-01-01", diagnoses=["I50"]))
    assert rule.covered("98985", date(2026, 3, 1)) is Covered.CRITERIA


def test_a_payers_own_threshold_replaces_the_shipped_ones_from_its_day_on() -> None:
    policy = load_policy("acme", payer_rules=[payer(row("2025-07-01", least=16))])
    rule = policy.code("98985")
    assert [step.least for step in rule.monitoring_days] == [16]
    assert policy.code("98977").least(date(2024, 1, 1)).least == 16
    assert load_policy("medicare").code("98985").least(date(2026, 3, 1)).least == 2


def test_a_payers_own_minutes_and_cap() -> None:
    rules = [
        payer({"from": "2026-01-01", "codes": ["98981"], "covered": "yes", "units_cap": 2, "least": 1800})
    ]
    rule = load_policy("acme", payer_rules=rules).code("98981")
    assert rule.units_cap == 2
    assert rule.least(date(2026, 3, 1)).least == 1800
    assert rule.least(date(2025, 3, 1)).least == 20 * 60


def test_a_payers_own_code_is_what_the_engine_asks_for() -> None:
    policy = load_policy("acme", payer_rules=[payer(row("2026-01-01", least=5))])
    (short,) = (rule for rule in policy.rules_of(Program.RTM, (Kind.DEVICE_SUPPLY,)) if rule.code == "98985")
    assert short.least(date(2026, 3, 1)).least == 5


def test_a_sites_table_goes_before_the_shipped_one_of_that_name() -> None:
    own = msgspec.structs.replace(payer(row("2026-01-01", "no")), payer="medicare")
    assert load_policy("medicare", payer_rules=[own]).covered("98985", date(2026, 3, 1)) is Covered.NO


def test_the_chart_chooses_the_payer_unless_the_call_did() -> None:
    chosen = Policies("medicare")
    assert chosen.of(None).payer == "medicare"
    assert chosen.of("aetna").payer == "aetna"
    assert Policies("medicare", always=True).of("aetna").payer == "medicare"


@pytest.mark.parametrize("name", ["medicare", "unitedhealthcare", "anthem", "cigna", "aetna", "unknown"])
def test_each_payer_that_is_shipped_names_its_sources(name: str) -> None:
    tables = load_tables()
    rule = tables.payers[name]
    assert rule.sources
    assert set(rule.sources) <= set(tables.sources)
    assert all(row.codes == "all" or set(row.codes) <= set(tables.codes) for row in rule.coverage)


def test_only_medicare_is_covered_without_a_question() -> None:
    tables = load_tables()
    covering = {
        name
        for name, rule in tables.payers.items()
        for code in tables.codes
        if rule.covered(code, date(2026, 11, 22)) is Covered.YES
    }
    assert covering == {"medicare"}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"colour": 1}, "unknown setting"),
        ({"multi_device_rule": "most"}, "expected max or union"),
        ({"contacts_per_addon_unit": True}, "expected int"),
        ({"contacts_per_addon_unit": "1"}, "expected int"),
    ],
)
def test_a_wrong_setting_is_one_line(settings: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        load_policy("medicare", settings)
