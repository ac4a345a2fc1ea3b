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
    policy = load_policy("acme", payer_rules=rules)
    rule = policy.code("98981")
    assert policy.code_on("98981", date(2026, 3, 1)).units_cap == 2
    assert policy.code_on("98981", date(2025, 12, 31)).units_cap == 3
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


@pytest.mark.parametrize("name", sorted(load_tables().payers))
def test_each_payer_that_is_shipped_names_its_sources(name: str) -> None:
    tables = load_tables()
    rule = tables.payers[name]
    assert rule.sources
    assert set(rule.sources) <= set(tables.sources)
    assert all(row.codes == "all" or set(row.codes) <= set(tables.codes) for row in rule.coverage)


def test_only_of_medicare_and_unitedhealthcare_is_any_code_covered_without_a_question() -> None:
    tables = load_tables()
    covering = {
        name
        for name, rule in tables.payers.items()
        for code in tables.codes
        if rule.covered(code, date(2026, 11, 22)) is Covered.YES
    }
    assert covering == {"medicare", "unitedhealthcare"}


def test_what_a_payer_announced_without_a_day_decides_nothing() -> None:
    rule = load_tables().payers["unitedhealthcare"]
    (row,) = rule.announced
    assert (row.covered, row.diagnoses[0]) == (Covered.CRITERIA, "I50")
    assert rule.covered("99454", date(2030, 1, 1)) is Covered.YES


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


def test_of_several_rows_each_holds_from_its_day_to_the_next() -> None:
    rows = [
        {"from": start, "codes": ["98981"], "covered": "yes", "units_cap": cap, "least": least}
        for start, cap, least in (("2026-07-01", 4, 1500), ("2026-03-01", 2, 1800))
    ]
    policy = load_policy("acme", payer_rules=[payer(*rows)])
    rule = policy.code("98981")
    days = [date(2026, month, 15) for month in (2, 3, 6, 7)]
    assert [policy.code_on("98981", day).units_cap for day in days] == [3, 2, 2, 4]
    assert [rule.least(day).least for day in days] == [1200, 1800, 1800, 1500]


def test_a_threshold_holds_from_its_day_and_the_first_one_before_it_too() -> None:
    rule = load_tables().codes["98975"]
    days = [date(2021, 12, 31), date(2022, 1, 1), date(2025, 12, 31), date(2026, 1, 1)]
    assert [rule.least(day).least for day in days] == [16, 16, 16, 2]


def test_a_payers_first_day_ends_the_shipped_thresholds() -> None:
    rows = [
        {"from": start, "codes": ["98975"], "covered": "yes", "least": least}
        for start, least in (("2026-07-01", 5), ("2025-07-01", 10))
    ]
    rule = load_policy("acme", payer_rules=[payer(*rows)]).code("98975")
    days = [date(2025, 6, 30), date(2025, 7, 1), date(2026, 1, 1), date(2026, 7, 1)]
    assert [rule.least(day).least for day in days] == [16, 10, 10, 5]


def test_a_row_that_only_names_a_threshold_leaves_the_cap_as_it_is() -> None:
    rows = [{"from": "2026-01-01", "codes": ["98981"], "covered": "yes", "least": 1500}]
    policy = load_policy("acme", payer_rules=[payer(*rows)])
    assert policy.code_on("98981", date(2026, 3, 1)).units_cap == 3


def test_a_row_without_a_cap_leaves_that_of_the_row_before() -> None:
    rows = [
        {"from": "2026-01-01", "codes": ["98981"], "covered": "yes", "units_cap": 2},
        {"from": "2026-03-01", "codes": "all", "covered": "yes"},
    ]
    policy = load_policy("acme", payer_rules=[payer(*rows)])
    assert policy.code_on("98981", date(2026, 3, 1)).units_cap == 2


@pytest.mark.parametrize("named_first", [True, False])
def test_of_two_rows_of_one_day_the_one_that_names_the_code_wins(named_first: bool) -> None:
    rows = [row("2026-01-01", "no", least=20), {"from": "2026-01-01", "codes": "all", "covered": "yes"}]
    rule = payer(*(rows if named_first else rows[::-1]))
    policy = load_policy("acme", payer_rules=[rule])
    day = date(2026, 3, 1)
    assert (policy.covered("98985", day), policy.covered("98979", day)) == (Covered.NO, Covered.YES)
    assert policy.code("98985").least(day).least == 20
    later = payer(*rows, {"from": "2026-02-01", "codes": "all", "covered": "criteria"})
    assert later.covered("98985", day) is Covered.CRITERIA


def test_what_a_row_on_all_asks_does_not_reach_a_code_that_a_row_of_the_day_names() -> None:
    every = {"from": "2026-01-01", "codes": "all", "covered": "yes", "least": 20, "units_cap": 1}
    policy = load_policy("acme", payer_rules=[payer(row("2026-01-01"), every)])
    day = date(2026, 3, 1)
    assert policy.code("98985").least(day).least == 2
    assert policy.code("98984").least(day).least == 20


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        (["98985"], ["98977", "98985"], "2 rows from 2026-01-01 name 98985"),
        ("all", "all", "2 rows from 2026-01-01 name all$"),
    ],
)
def test_two_rows_of_one_day_on_one_code_are_refused(first: object, second: object, said: str) -> None:
    rows = [{"from": "2026-01-01", "codes": codes, "covered": "yes"} for codes in (first, second)]
    with pytest.raises(msgspec.ValidationError, match=said):
        payer(*rows)
    assert len(payer(rows[0], {**rows[1], "from": "2026-01-02"}).coverage) == 2
    assert len(payer({**rows[0], "codes": ["98985", "98985"]}).coverage) == 1


def test_a_payers_modifiers_are_those_of_its_newest_row() -> None:
    rows = [row("2026-01-01", modifiers=["KX"]), row("2026-07-01", modifiers=["GP"])]
    policy = load_policy("acme", payer_rules=[payer(*rows)])
    asked = [policy.on("98985", date(2026, month, 1))[1] for month in (1, 6, 7)]
    assert asked == [("KX",), ("KX",), ("GP",)]
    assert policy.on("98985", date(2025, 12, 31)) == (Covered.UNKNOWN, ())
    assert load_policy("nobody").on("98985", date(2026, 7, 1)) == (Covered.UNKNOWN, ())


def test_the_version_names_the_day_of_the_last_check_and_the_tables() -> None:
    tables = load_tables()
    newest = max(code.last_checked for code in tables.codes.values())
    day, _, digest = load_policy("medicare").version.partition("+")
    assert (day, len(digest)) == (newest.isoformat(), 12)
    assert int(digest, 16) >= 0


def test_a_site_goes_before_its_payer_and_its_payer_before_the_shipped_value() -> None:
    assert load_policy("medicare").setting("rtm_aux_time_counts") is True
    assert load_policy("anthem").setting("rtm_aux_time_counts") is False
    site = load_policy("medicare", {"rtm_aux_time_counts": False, "multi_device_rule": "union"})
    assert site.setting("rtm_aux_time_counts") is site.rtm_aux_time_counts is False
    assert (site.setting("multi_device_rule"), site.multi_device_union) == ("union", True)
    assert load_policy("medicare").multi_device_union is False


def test_nobody_and_a_payer_without_a_table_cover_nothing() -> None:
    assert load_policy().payer == "unknown"
    nobody = load_policy("nobody")
    assert (nobody.payer, nobody.rule) == ("nobody", None)
    assert nobody.covered("98985", date(2026, 3, 1)) is Covered.UNKNOWN


def test_each_payer_of_a_site_has_its_policy_made_once() -> None:
    policies = Policies(None, {"contacts_per_addon_unit": 1}, [payer(row("2026-01-01"))])
    assert policies.default.payer == "unknown"
    acme = policies.of("acme")
    assert acme is policies.of("acme")
    assert acme.covered("98985", date(2026, 3, 1)) is Covered.YES
    assert acme.contacts_per_addon_unit == policies.default.contacts_per_addon_unit == 1
    assert policies.of(None) is policies.of("unknown") is policies.default


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"colour": 1},
            "unknown setting: colour (known: assistant_de_minimis_percent, contacts_per_addon_unit, "
            "continuous_glucose, empty_days_until_episode_unclear, minutes_kept_in, multi_device_rule, "
            "rtm_and_rpm_exclusive, rtm_aux_time_counts)",
        ),
        ({"multi_device_rule": "most"}, "setting multi_device_rule: expected max or union, got 'most'"),
        ({"minutes_kept_in": "paper"}, "setting minutes_kept_in: expected ehr or app, got 'paper'"),
        ({"continuous_glucose": "x"}, "setting continuous_glucose: expected ask, rpm or cgm, got 'x'"),
        ({"rtm_aux_time_counts": 1}, "setting rtm_aux_time_counts: expected bool, got 1"),
    ],
)
def test_a_wrong_setting_says_what_was_expected(settings: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError) as refused:  # noqa: PT011 - the whole text is compared
        load_policy("medicare", settings)
    assert str(refused.value) == said


def test_a_threshold_of_a_payer_without_a_source_stands_in_the_payers_table() -> None:
    of = {"from": "2026-01-01", "codes": ["98985"], "covered": "yes", "least": 5}
    for sources, told in (([], ("the table of Acme",)), (["A letter"], ("A letter",))):
        policy = load_policy("acme", payer_rules=[payer(of, sources=sources)])
        assert policy.code("98985").least(date(2026, 3, 1)).sources == told
