"""Rules in words: what `smartapp rules` and the rules page say of them."""

from __future__ import annotations

import dataclasses
from datetime import date

import msgspec
import pytest

from fhir_mappings.rules.policy import Policy, load_policy
from fhir_mappings.rules.register import (
    PARTS,
    RuleInForce,
    Status,
    _status_of,
    needed_in_words,
    part_of,
    proposed,
    published,
    rules_in_force,
    stale,
)
from fhir_mappings.rules.tables import Dated, PayerRule, RuleEntry, load_tables
from fhir_mappings.vocabulary import UNKNOWN_PAYER

TABLES = load_tables()
DAY = date(2026, 4, 1)


def rules(policy: Policy, day: date = DAY) -> dict[str, RuleInForce]:
    return {rule.id: rule for rule in rules_in_force(policy, day)}


MEDICARE = rules(load_policy("medicare"))


@pytest.mark.parametrize(
    ("code", "day", "payer", "value"),
    [
        ("98975", DAY, "medicare", "Needs 2 days, one per episode of care."),
        ("98975", date(2025, 12, 31), "medicare", "Needs 16 days, one per episode of care."),
        ("98975", date(2022, 1, 1), "medicare", "Needs 16 days, one per episode of care."),
        ("98975", date(2021, 12, 31), "medicare", "Not in force before 2022-01-01."),
        ("98977", DAY, "medicare", "Needs 16 days, one per 30-day period. Not beside 98985."),
        ("98980", DAY, "medicare", "Needs 20:00 min, one per calendar month. Not beside 98979."),
        ("98979", DAY, "medicare", "Needs 10:00 min, one per calendar month. Not beside 98980, 98981."),
        (
            "98981",
            DAY,
            "medicare",
            "Each further 20:00 min on top of 98980. At most 3 units. Not beside 98979.",
        ),
        ("99091", DAY, "medicare", "Never suggested."),
        (
            "98985",
            DAY,
            "anthem",
            "Needs 2 days, one per 30-day period. Not beside 98977. Payer anthem: criteria.",
        ),
        ("98975", DAY, "anthem", "Needs 2 days, one per episode of care. Payer anthem: unknown."),
    ],
)
def test_a_code_in_words(code: str, day: date, payer: str, value: str) -> None:
    assert rules(load_policy(payer), day)[f"R1.1-{code}"].value == value


def test_a_code_tells_since_when_and_from_where_its_value_is() -> None:
    now, before = MEDICARE["R1.1-98975"], rules(load_policy("medicare"), date(2025, 6, 1))["R1.1-98975"]
    assert (now.since, before.since) == (date(2026, 1, 1), date(2022, 1, 1))
    assert (now.reference, before.reference) == (
        TABLES.reference(("S7", "S22", "S9")),
        TABLES.reference(("S20",)),
    )
    assert (now.says, now.how, now.part) == (
        "98975, RTM start-up, device set-up and teaching.",
        "decided",
        "Codes",
    )
    assert MEDICARE["R1.1-99091"].how == "review"
    assert MEDICARE["R1.1-99091"].since == date(2018, 1, 1)
    not_yet = rules(load_policy("medicare"), date(2025, 6, 1))["R1.1-98985"]
    assert (not_yet.since, not_yet.reference) == (date(2026, 1, 1), TABLES.reference(("S2", "S3", "S4")))


def test_a_code_is_published_with_the_newest_source_that_says_so() -> None:
    assert MEDICARE["R1.1-98985"].published == date(2026, 3, 23)
    assert MEDICARE["R1.1-98976"].published is None
    assert published(TABLES, ["S3", "S8", "S2"]) == date(2026, 3, 23)
    assert published(TABLES, ["S2"]) is None


def test_rules_come_part_by_part_and_those_of_later_are_not_told() -> None:
    found = rules_in_force(load_policy("medicare"), date(2025, 12, 31))
    order = [name for _, name in PARTS]
    assert [rule.part for rule in found] == sorted((rule.part for rule in found), key=order.index)
    assert {rule.part for rule in found} == set(order)
    told = {rule.id for rule in found}
    assert told == {f"R1.1-{code}" for code in TABLES.codes} | {f"R6-{payer}" for payer in TABLES.payers} | {
        entry.id for entry in TABLES.register if entry.start <= date(2025, 12, 31) or entry.how == "proposed"
    }
    first = min(entry.start for entry in TABLES.register)
    assert {"R1.2-1"} <= set(rules(load_policy("medicare"), first))


def test_every_rule_of_the_register_is_told_as_it_stands_there() -> None:
    told = rules(load_policy("medicare"), date(2100, 1, 1))
    for entry in TABLES.register:
        rule = told[entry.id]
        assert (rule.says, rule.how, rule.since) == (entry.says, entry.how, entry.start)
        assert (rule.last_checked, rule.setting) == (entry.last_checked, entry.setting)
        assert rule.reference == TABLES.reference(entry.sources)
        assert rule.published == published(TABLES, entry.sources)
        assert (rule.value != "") is (entry.setting is not None)


@pytest.mark.parametrize(
    ("rule_id", "part"),
    [
        ("R1.1-98975", "Codes"),
        ("R1.2-7", "Management: minutes of a calendar month, with a live conversation in it"),
        ("R1.3-1", "Device supply: days of a 30-day period"),
        ("R1.4-14", "Codes beside each other"),
        ("R2.9", "Periods, days and dates of service"),
        ("R3-1", "Start-up and the episode of care"),
        ("R4-1", "Time and conversations"),
        ("R5-1", "Other conditions"),
        ("R6-cigna", "Payers"),
        ("D14", "Defaults where the sources are silent or differ"),
        ("P2027-1", "Proposed: published, not in force, and nothing is decided by it"),
    ],
)
def test_the_part_of_a_rule_is_known_by_its_name(rule_id: str, part: str) -> None:
    assert part_of(rule_id) == MEDICARE[rule_id].part == part


def test_what_cms_proposed_for_2027_stands_there_and_decides_nothing() -> None:
    """Five days after the year began it is what it was: nobody has read a final rule."""
    for day in (date(2026, 7, 16), DAY, date(2027, 1, 5)):
        told = rules(load_policy("medicare"), day)
        of_2027 = [rule for rule in told.values() if rule.status is Status.PROPOSED]
        assert [rule.id for rule in of_2027] == ["P2027-1", "P2027-2", "P2027-3", "P2027-4"]
        for rule in of_2027:
            assert (rule.how, rule.since, rule.value) == ("proposed", date(2027, 1, 1), "")
            assert rule.published == date(2026, 7, 16)
            assert "CMS-1848-P" in rule.reference
            assert "91 FR 43842" in rule.reference
    assert proposed(TABLES, date(2026, 12, 31)) == []
    assert [entry.id for entry in proposed(TABLES, date(2027, 1, 1))] == [
        f"P2027-{number}" for number in (1, 2, 3, 4)
    ]


def test_every_other_rule_says_how_it_stands() -> None:
    before = rules(load_policy("medicare"), date(2025, 12, 31))
    assert before["R1.1-98985"].status is Status.NOT_YET
    assert before["R1.1-98977"].status is Status.IN_FORCE
    assert {rule.status for rule in MEDICARE.values()} == {Status.IN_FORCE, Status.PROPOSED}


def test_a_rule_of_the_register_can_end() -> None:
    entry = {"id": "R9-1", "from": "2020-01-01", "to": "2026-12-31", "how": "decided", "says": "Once."}
    old = msgspec.convert({**entry, "sources": [], "last_checked": "2026-12-01"}, RuleEntry)
    tables = dataclasses.replace(TABLES, register=(msgspec.structs.replace(old, id="D99"),))
    policy = msgspec.structs.replace(load_policy("medicare"), tables=tables)
    assert rules(policy, date(2026, 12, 31))["D99"].status is Status.IN_FORCE
    assert rules(policy, date(2027, 1, 1))["D99"].status is Status.ENDED


def test_minutes_in_words() -> None:
    code = TABLES.codes["98980"]
    row = Dated(date(2026, 1, 1), 605, (), date(2026, 1, 1))
    assert needed_in_words(code, row) == "10:05 min"
    assert needed_in_words(code, Dated(date(2026, 1, 1), 1199, (), date(2026, 1, 1))) == "19:59 min"
    assert needed_in_words(code, row, code) == "each further 10:05 min on top of 98980"
    assert (
        needed_in_words(TABLES.codes["98977"], row)
        == needed_in_words(TABLES.codes["98975"], row)
        == "605 days"
    )


def test_a_payer_in_words() -> None:
    medicare, unknown = MEDICARE["R6-medicare"], MEDICARE["R6-unknown"]
    assert medicare.says == "Medicare fee for service."
    assert medicare.value == "from 2019-01-01 yes: all codes; rtm_aux_time_counts = true."
    assert (medicare.how, medicare.since, medicare.published) == ("decided", date(2019, 1, 1), None)
    assert medicare.reference == TABLES.reference(("S10", "S14", "S4"))
    assert unknown.value == "Nothing is covered for certain."
    assert (unknown.how, unknown.since) == ("review", date(2019, 1, 1))
    anthem, cigna = MEDICARE["R6-anthem"], MEDICARE["R6-cigna"]
    assert anthem.value.startswith(
        "from 2025-12-18 criteria: 98979, 98984, 98985, 98986, 99445, 99470; to be found in the record: "
    )
    assert MEDICARE["R6-unitedhealthcare"].value.endswith(
        "announced without a day, criteria: 99445, 99453, 99454, 99457, 99458, 99470 "
        "with I50, O10, O11, O12, O13, O14, O15, O16."
    )
    assert (anthem.how, anthem.published) == ("review", date(2025, 12, 18))
    assert cigna.since == date(2025, 9, 26)
    assert "; from 2026-05-16 unknown: 98975, " in cigna.value


def own(**more: object) -> PayerRule:
    return msgspec.convert(
        {"payer": "acme", "label": "Acme", "last_checked": "2026-10-01", **more}, PayerRule
    )


def test_a_sites_own_payer_is_told_after_the_shipped_ones() -> None:
    settings = {"contacts_per_addon_unit": 1, "rtm_aux_time_counts": False, "multi_device_rule": "union"}
    policy = load_policy("acme", payer_rules=[own(settings=settings, sources=["S8"], note="Told by letter.")])
    told = [rule.id for rule in rules_in_force(policy, DAY) if rule.part == "Payers"]
    assert told == [*(f"R6-{payer}" for payer in TABLES.payers), "R6-acme"]
    acme = rules(policy)["R6-acme"]
    assert acme.says == "Acme. Told by letter."
    assert acme.value == (
        "contacts_per_addon_unit = 1; multi_device_rule = union; rtm_aux_time_counts = false."
    )
    assert (acme.how, acme.published) == ("decided", date(2026, 3, 23))
    shipped = [rule.id for rule in rules_in_force(load_policy(UNKNOWN_PAYER), DAY) if rule.part == "Payers"]
    assert shipped == [f"R6-{payer}" for payer in TABLES.payers]
    assert "R6-nobody" not in rules(load_policy("nobody"))


def test_a_row_that_is_covered_is_decided() -> None:
    row = {"from": "2026-01-01", "codes": ["98977"], "covered": "yes"}
    rows = [{**row, "from": "2025-01-01", "covered": "no"}, row]
    acme = rules(load_policy("acme", payer_rules=[own(coverage=rows)]))["R6-acme"]
    assert (acme.how, acme.since) == ("decided", date(2025, 1, 1))
    assert acme.value == "from 2025-01-01 no: 98977; from 2026-01-01 yes: 98977."
    none = rules(load_policy("acme", payer_rules=[own(coverage=rows[:1])]))["R6-acme"]
    assert none.how == "review"


def test_what_was_checked_on_the_day_itself_is_not_stale() -> None:
    found = rules_in_force(load_policy("medicare"), DAY)
    checked = max(rule.last_checked for rule in found)
    assert stale(found, checked) == [rule for rule in found if rule.last_checked < checked]
    assert stale(found, date(2100, 1, 1)) == found
    assert stale(found, date(2000, 1, 1)) == []


def test_a_code_is_in_force_from_its_first_day_to_its_last() -> None:
    code = msgspec.structs.replace(TABLES.codes["98979"], in_force_to=date(2026, 6, 30))
    days = [date(2025, 12, 31), date(2026, 1, 1), date(2026, 6, 30), date(2026, 7, 1)]
    expected = [Status.NOT_YET, Status.IN_FORCE, Status.IN_FORCE, Status.ENDED]
    assert [_status_of(code, on) for on in days] == expected
