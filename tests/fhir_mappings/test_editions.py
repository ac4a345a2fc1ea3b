"""Tables that a site or payer adds to the shipped ones by date, and codes that end (D37)."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest

from fhir_mappings.charge_item import ChargeDetails, charge_item, conflicting
from fhir_mappings.chart import Chart
from fhir_mappings.local_time import Window
from fhir_mappings.record import PriorCharge
from fhir_mappings.rules.engine import assess
from fhir_mappings.rules.policy import Policies, Policy, load_policy
from fhir_mappings.rules.register import rules_in_force
from fhir_mappings.rules.tables import CodeRule, Kind, code_table, load_tables, with_code_tables
from fhir_mappings.terminology import load_terminology
from fhir_mappings.terminology.systems import CPT, HCPCS
from fhir_mappings.vocabulary import Outcome, Program, Unverified
from tests.support.chart import build_resources, site_terminology

from .test_engine import call, days, found, payer, read
from .test_new_year import confirmed

SHIPPED = load_tables().codes
LAST, FIRST = date(2026, 12, 31), date(2027, 1, 1)
TERMINOLOGY, ZONE = load_terminology(site_terminology()), ZoneInfo("America/New_York")
YEAR = Unverified.RULES_OF_THE_YEAR


def table(code: str, /, since: str = "2027-01-01", to: str = "2027-12-31", **more: Any) -> CodeRule:
    """A table of one code in the shape of the shipped ones, from a day on."""
    shape = msgspec.to_builtins(SHIPPED[code])
    thresholds = dict.fromkeys(("monitoring_days", "management_seconds"), ())
    return msgspec.convert({**shape, **thresholds, "in_force_from": since, "covers_to": to, **more}, CodeRule)


def row(start: str, least: int) -> dict[str, Any]:
    return {"from": start, "least": least, "sources": ["The rule of the year"], "last_checked": "2026-12-20"}


def with_tables(*rules: CodeRule) -> Policy:
    return load_policy("medicare", code_rules=rules)


# -- thresholds and the year ----------------------------------------------------------


def test_a_threshold_is_added_by_its_day_and_every_other_stays() -> None:
    rule = with_tables(table("98975", monitoring_days=[row("2027-01-01", 10)])).code("98975")
    days_of = [date(2025, 12, 31), date(2026, 1, 1), LAST, FIRST]
    assert [rule.least(day).least for day in days_of] == [16, 2, 2, 10]
    same_day = with_tables(table("98975", monitoring_days=[row("2026-01-01", 5)])).code("98975")
    assert [same_day.least(day).least for day in days_of] == [16, 5, 5, 5]


def test_a_table_that_replaces_a_shipped_one_loses_none_of_its_thresholds() -> None:
    whole = table("98975", "2022-01-01", monitoring_days=[row("2027-01-01", 10)])
    rule = with_tables(whole).code("98975")
    assert [rule.least(day).least for day in (date(2022, 1, 1), LAST, FIRST)] == [16, 2, 10]


def test_a_later_end_of_a_table_settles_the_year_for_its_code_alone() -> None:
    policy = with_tables(table("98977", to="2027-06-30"))
    assert policy.year("98977", date(2027, 6, 30)).unverified == frozenset()
    assert policy.year("98977", date(2027, 7, 1)).unverified == {YEAR}
    assert policy.year("98980", FIRST).unverified == {YEAR}
    assert policy.year("98977", LAST).confirmed is None


def test_between_two_tables_nobody_checked_anything() -> None:
    policy = with_tables(table("98977", "2027-06-01"))
    assert policy.year("98977", date(2027, 5, 31)).unverified == {YEAR}
    assert policy.year("98977", date(2027, 6, 1)).unverified == frozenset()
    assert policy.ends["98977"] == LAST
    closed = load_policy(
        "medicare", confirmed=[confirmed(["98977"], "2027-05-31")], code_rules=[table("98977", "2027-06-01")]
    )
    assert closed.year("98977", date(2027, 5, 31)).unverified == frozenset()
    assert closed.ends["98977"] == date(2027, 12, 31)


def test_a_table_that_was_checked_for_less_ends_earlier() -> None:
    policy = with_tables(table("98977", "2026-03-01", to="2026-06-30"))
    assert policy.ends["98977"] == date(2026, 6, 30)
    assert policy.year("98977", date(2026, 7, 1)).unverified == {YEAR}
    assert policy.year("98977", date(2026, 2, 28)).unverified == frozenset()


def test_a_confirmation_may_reach_a_year_past_the_added_table() -> None:
    tables = [table(code) for code in SHIPPED]
    policy = load_policy("medicare", confirmed=[confirmed(to="2028-12-31")], code_rules=tables)
    assert policy.year("98977", date(2028, 12, 31)).unverified == frozenset()
    with pytest.raises(ValueError, match="the end of the table of 99470"):
        load_policy(
            "medicare",
            confirmed=[confirmed(to="2028-12-31")],
            code_rules=[rule for rule in tables if rule.code != "99470"],
        )


def test_the_end_of_a_code_is_that_of_its_newest_table_or_of_the_sites_word() -> None:
    policy = load_policy("medicare", confirmed=[confirmed(["98980"])], code_rules=[table("98977")])
    assert policy.ends["98977"] == policy.ends["98980"] == date(2027, 12, 31)
    assert policy.ends["98981"] == LAST


# -- what else a table says ----------------------------------------------------------


def test_caps_exclusions_and_tiers_hold_from_the_tables_own_day() -> None:
    policy = with_tables(table("98981", units_cap=5, excludes=["99091"]))
    before, after = policy.code_on("98981", LAST), policy.code_on("98981", FIRST)
    assert (before.units_cap, before.excludes) == (3, SHIPPED["98981"].excludes)
    assert (after.units_cap, after.excludes) == (5, ("99091",))
    assert before.in_force_from == after.in_force_from == SHIPPED["98981"].in_force_from


def test_the_tiers_of_the_day_order_the_codes() -> None:
    policy = with_tables(table("98977", tier=1), table("98985", tier=2))
    device = (Kind.DEVICE_SUPPLY,)
    assert [t.rule.code for t in policy.in_force(Program.RTM, device, FIRST)].index("98977") < 2
    in_2026 = [t.rule.code for t in policy.in_force(Program.RTM, device, LAST)]
    assert in_2026.index("98985") < in_2026.index("98977")


def test_a_payers_tables_go_before_the_sites() -> None:
    rule = payer({"from": "2020-01-01", "codes": "all", "covered": "yes"}).rule
    assert rule is not None
    own = msgspec.structs.replace(rule, code_rules=(table("98981", units_cap=1),))
    policies = Policies("acme", None, [own], code_rules=[table("98981", units_cap=5)])
    assert policies.default.code_on("98981", FIRST).units_cap == 1
    assert policies.of("medicare").code_on("98981", FIRST).units_cap == 5


def test_a_payers_own_threshold_goes_before_any_table() -> None:
    rows = [{"from": "2026-01-01", "codes": ["98985"], "covered": "yes", "least": 5}]
    added = [table("98985", monitoring_days=[row("2027-01-01", 3)])]
    policy = load_policy("acme", payer_rules=[payer(*rows).rule], code_rules=added)  # type: ignore[list-item]
    assert [policy.code("98985").least(day).least for day in (LAST, FIRST)] == [5, 5]


def test_a_table_that_names_no_source_is_the_reference_itself() -> None:
    silent = {**row("2027-01-01", 10), "sources": []}
    policy = with_tables(table("98975", monitoring_days=[silent], sources=[]))
    terms = policy.terms("98975", FIRST)
    assert terms.reference == terms.rule_reference == "the table of 98975 that holds from 2027-01-01"


def test_the_version_tells_of_tables_of_ones_own() -> None:
    plain = load_policy("medicare").version
    one, other = with_tables(table("98977")), with_tables(table("98980"))
    assert one.version.startswith(f"{plain}+own.")
    assert len({plain, one.version, other.version}) == 3
    assert with_tables(table("98977")).version == one.version


# -- a code that ends ----------------------------------------------------------


def ended(code: str, day: str, **more: Any) -> CodeRule:
    return table(code, str(SHIPPED[code].in_force_from), in_force_to=day, **more)


def codes_of(policy: Policy, given: list[Any], as_of: str = "2026-08-01") -> set[tuple[str, str]]:
    return set(found(read(given, as_of), policy))


def test_a_period_whose_service_date_lies_after_the_end_has_no_such_decision() -> None:
    given = [days("2026-01-05", 60)]
    assert ("98977", "2026-01-05") in codes_of(with_tables(ended("98977", "2026-02-03")), given)
    gone = codes_of(with_tables(ended("98977", "2026-02-02")), given)
    assert ("98977", "2026-01-05") not in gone
    assert ("98985", "2026-01-05") in gone
    assert ("98977", "2026-02-04") not in gone


def test_a_month_after_the_end_has_no_such_decision_and_no_add_on_without_its_base() -> None:
    given = [days("2026-01-05", 3), call("2026-01-15T10:00", "45:00"), call("2026-02-15T10:00", "45:00")]
    left = codes_of(with_tables(ended("98980", "2026-01-31")), given)
    assert {("98980", "2026-01-01"), ("98981", "2026-01-01")} <= left
    assert not {("98980", "2026-02-01"), ("98981", "2026-02-01")} & left
    assert ("98979", "2026-02-01") in left


def test_start_up_is_asked_on_the_day_its_days_are_reached() -> None:
    given = [days("2026-01-05", 8)]
    assert ("98975", "2026-01-05") in codes_of(with_tables(ended("98975", "2026-01-06")), given)
    assert ("98975", "2026-01-05") not in codes_of(with_tables(ended("98975", "2026-01-05")), given)


def test_a_code_that_ended_may_begin_again() -> None:
    policy = with_tables(ended("98977", "2026-02-03"), table("98977", "2026-06-01"))
    in_force = [
        policy.code_on("98977", date(2026, month, 4)).in_force(date(2026, month, 4)) for month in (1, 3, 6)
    ]
    assert in_force == [True, False, True]


def test_a_code_that_ends_within_a_start_ups_period_is_no_doubt_about_it() -> None:
    set_up = {"setup": {"at": "2026-01-04T10:00", "for": "20:00", "by": "physician", "program": "rtm"}}
    answer = found(
        read([set_up, days("2026-01-05", 8)], "2026-04-01"), with_tables(ended("98975", "2026-01-20"))
    )
    assert answer["98975", "2026-01-05"].outcome is Outcome.SUGGEST


def test_a_code_that_has_ended_when_its_table_does_needs_no_confirmation() -> None:
    named = [code for code in SHIPPED if code not in ("99091", "98977")]
    policy = load_policy(
        "medicare", confirmed=[confirmed(named)], code_rules=[ended("98977", "2026-12-31", to="2026-12-31")]
    )
    assert policy.checked_to == date(2027, 12, 31)
    assert "98977" not in policy.not_checked(FIRST)


def test_the_register_says_that_a_code_ended() -> None:
    policy = with_tables(ended("98977", "2026-12-31"))
    told = {rule.id: rule.value for rule in rules_in_force(policy, FIRST)}
    assert told["R1.1-98977"] == "Ended on 2026-12-31: no service after that day bears it."
    assert "Ended" not in {rule.id: rule.value for rule in rules_in_force(policy, LAST)}["R1.1-98977"]


# -- what is refused ----------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({"in_force_from": "2021-12-31"}, "98977: there was no such code before 2022-01-01"),
        ({"program": "rpm"}, "98977: its program is rtm, and stays so"),
        ({"kind": "start-up"}, "98977: its kind is device-supply, and stays so"),
        ({"line": "respiratory"}, "98977: its line is musculoskeletal, and stays so"),
        ({"base": "98980"}, "98977: its base is None, and stays so"),
        ({"management_seconds": [row("2027-01-01", 600)]}, "98977: it asks for days"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(rule: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        with_tables(table("98977", **{"since": rule.pop("in_force_from", "2027-01-01"), **rule}))


def test_days_for_a_code_of_minutes_are_refused() -> None:
    with pytest.raises(ValueError, match="98980: it asks for seconds"):
        with_tables(table("98980", monitoring_days=[row("2027-01-01", 2)]))


def test_two_tables_of_one_code_from_one_day_are_refused() -> None:
    with pytest.raises(ValueError, match="98977: two tables that speak from 2027-01-01 on"):
        with_tables(table("98977"), table("98977", tier=1))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"in_force_to": "2026-12-31"}, "98977: it would end before it begins"),
        ({"monitoring_days": [row("2027-01-01", 2), row("2027-01-01", 3)]}, "two thresholds from 2027-01-01"),
    ],
)
def test_a_table_that_contradicts_itself_is_none(more: dict[str, Any], said: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=said):
        table("98977", **more)
    assert table("98977", in_force_to="2027-01-01").in_force(FIRST)


def test_a_file_holds_one_code_or_a_list_of_them() -> None:
    one = msgspec.to_builtins(SHIPPED["98977"])
    assert code_table(one) == code_table([one]) == (SHIPPED["98977"],)
    with pytest.raises(msgspec.ValidationError):
        code_table("98977")


def test_a_payer_names_files_and_never_holds_codes_itself() -> None:
    rule = payer({"from": "2020-01-01", "codes": "all", "covered": "yes"}).rule
    assert rule is not None
    named = msgspec.structs.replace(rule, code_tables=("2027.yaml",))
    read_from: list[str] = []
    filled = with_code_tables(named, lambda name: (read_from.append(name), (table("98977"),))[1])
    assert (read_from, [one.code for one in filled.code_rules]) == (["2027.yaml"], ["98977"])
    with pytest.raises(ValueError, match="code_rules is no key of a payer's table"):
        with_code_tables(filled, lambda _: ())


# -- new codes ----------------------------------------------------------


def of_2027(code: str = "G0999", **more: Any) -> CodeRule:
    """A code that a site's table brings in place of 98977."""
    own = {"code": code, "excludes": ["98977", "98985"], "monitoring_days": [row("2027-01-01", 16)]}
    return table("98977", **{**own, **more})


ENDS = table("98977", "2026-12-31", "2026-12-31", in_force_to="2026-12-31")
EVENTS = [days("2027-01-05", 16, device="knee-app")]


def test_a_new_code_is_decided_under_its_table() -> None:
    policy = with_tables(ENDS, of_2027())
    decisions = assess(read(EVENTS, "2027-03-01"), policy, date(2027, 3, 1)).decisions
    told = {one.code: (one.outcome, str(one.line)) for one in decisions if one.line}
    assert told["G0999"] == (Outcome.SUGGEST, "musculoskeletal")
    assert "98977" not in told


def charged(code: dict[str, Any]) -> dict[str, Any]:
    return {
        "resourceType": "ChargeItem",
        "id": "c1",
        "status": "billed",
        "code": code,
        "subject": {"reference": "Patient/p1"},
        "occurrencePeriod": {"start": "2027-01-05", "end": "2027-02-03"},
    }


@pytest.mark.parametrize(
    "code",
    [
        {"coding": [{"system": HCPCS, "code": "G0999"}]},
        {"coding": [{"system": "urn:ehr:cdm", "code": "HCPCS-G0999-GP"}]},
        {"text": "HCPCS G0999"},
    ],
)
def test_a_charge_of_a_new_code_is_seen(code: dict[str, Any]) -> None:
    policy, as_of = with_tables(ENDS, of_2027()), date(2027, 3, 1)
    for known, outcome in ((policy.known, Outcome.CHARGED), (None, Outcome.SUGGEST)):
        chart = Chart(TERMINOLOGY, ZONE, as_of, codes=known)
        for resource in [*build_resources(EVENTS, "America/New_York"), charged(code)]:
            chart.add(json.dumps(resource).encode())
        found = assess(chart.record("Patient/p1"), policy, as_of).decisions
        assert [one.outcome for one in found if one.code == "G0999"] == [outcome]


def test_a_charge_of_the_code_it_replaces_holds_it() -> None:
    policy, as_of = with_tables(ENDS, of_2027()), date(2027, 3, 1)
    chart = Chart(TERMINOLOGY, ZONE, as_of, codes=policy.known)
    for resource in [
        *build_resources(EVENTS, "America/New_York"),
        charged({"coding": [{"system": CPT, "code": "98977"}]}),
    ]:
        chart.add(json.dumps(resource).encode())
    found = assess(chart.record("Patient/p1"), policy, as_of).decisions
    (new,) = [one for one in found if one.code == "G0999"]
    assert (new.outcome, new.reasons) == (Outcome.REVIEW, ("charged-otherwise",))
    assert "G0999" in policy.code("98985").excludes


def test_it_is_written_under_its_own_system_and_never_beside_another_of_its_kind() -> None:
    policy, as_of = with_tables(ENDS, of_2027()), date(2027, 3, 1)
    (new,) = [
        one
        for one in assess(read(EVENTS, "2027-03-01"), policy, as_of).decisions
        if one.code == "G0999" and one.outcome is Outcome.SUGGEST
    ]
    details = ChargeDetails(
        issuer="https://ehr.example/fhir",
        patient="Patient/p1",
        enterer="Practitioner/7",
        entered_at=datetime(2027, 3, 1, tzinfo=UTC),
        rules_version=policy.version,
        codes=policy.known,
    )
    written = charge_item(new, details)
    assert written["code"] == {"coding": [{"system": HCPCS, "code": "G0999"}]}
    assert written["occurrencePeriod"] == {"start": "2027-01-05", "end": "2027-02-03"}
    before = PriorCharge("ChargeItem/c", "98977", 1, Window(date(2027, 1, 5), date(2027, 2, 3)))
    assert conflicting(new, [before], policy.known) == (before,)


SECONDS = {"monitoring_days": [], "management_seconds": [row("2027-01-01", 1200)]}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"code": "G99"}, "G99: that is no code of CPT or HCPCS"),
        ({"monitoring_days": []}, "G0999: it asks for nothing"),
        ({"excludes": ["98977"]}, "G0999: one service bears it or 98985, so it must exclude that"),
        ({"excludes": ["98977", "98985", "G1"]}, "G0999: it excludes G1, which nobody knows here"),
        (
            {"excludes": ["98977", "98985", "G5", "G3", "G1", "G4", "G2"]},
            "G0999: it excludes G1, G2, G3, G4, G5, which nobody knows here",
        ),
        ({"line": None}, "G0999: a line is what a code of device supply has"),
        ({"line": "physiologic"}, "G0999: physiologic is not monitored in rtm"),
        ({"tier": 1}, "G0999: 98985 is in force too; end that, or give both tiers of one group"),
        (
            {"kind": "management-add-on", **SECONDS},
            "G0999: a new code is one of start-up",
        ),
    ],
)
def test_a_new_code_that_cannot_be_decided_is_refused(more: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        with_tables(ENDS, of_2027(**more))


def test_a_new_code_beside_the_one_that_it_replaces_is_refused() -> None:
    with pytest.raises(ValueError, match="G0999: 98977 is in force too"):
        with_tables(of_2027())


def test_a_payer_brings_no_new_code() -> None:
    rule = payer().rule
    assert rule is not None
    own = msgspec.structs.replace(rule, code_rules=(of_2027(),))
    with pytest.raises(ValueError, match="G0999: there is no such code here"):
        load_policy("acme", payer_rules=[own])


def test_the_day_after_a_codes_last_is_one_on_which_its_terms_change() -> None:
    policy = with_tables(table("98977", "2022-01-01", in_force_to="2026-10-20"))
    terms = policy.terms("98977", date(2026, 10, 20))
    assert date(2026, 10, 21) in terms.changes
    assert terms.changes_within(Window(date(2026, 10, 20), date(2026, 10, 21)), 16, ())
    assert not terms.changes_within(Window(date(2026, 10, 19), date(2026, 10, 20)), 16, ())
