"""The answer as a whole, and what a site or payer may have otherwise (D8, D10, D14)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from msgspec.structs import replace

from fhir_mappings.chart import Chart
from fhir_mappings.decision import Assessment, CountedDay, Decision
from fhir_mappings.local_time import Window, utc
from fhir_mappings.record import Attestation, PatientRecord, PriorCharge
from fhir_mappings.rules.engine import assess, decide
from fhir_mappings.rules.policy import Policy, load_policy
from fhir_mappings.rules.tables import PayerRule
from fhir_mappings.terminology import load_terminology
from fhir_mappings.vocabulary import Line, Program
from tests.support.chart import Event, build_resources, site_terminology

ZONE = ZoneInfo("America/New_York")
TERMINOLOGY = load_terminology(site_terminology())
POLICY = load_policy("medicare")


def read(given: list[Event], as_of: str, attestations: tuple[Attestation, ...] = ()) -> PatientRecord:
    chart = Chart(TERMINOLOGY, ZONE, date.fromisoformat(as_of))
    for resource in build_resources(given, "America/New_York"):
        chart.add(json.dumps(resource).encode())
    return chart.record("Patient/p1", attestations=attestations)


def assessed(given: list[Event], as_of: str, *, everything: bool = False) -> Assessment:
    return assess(read(given, as_of), POLICY, date.fromisoformat(as_of), all_evidence=everything)


def found(record: PatientRecord, policy: Policy = POLICY) -> dict[tuple[str, str], Decision]:
    return {(one.code, one.period.start.isoformat()): one for one in decide(record, policy, record.as_of)}


def setting(**values: Any) -> Policy:
    return load_policy("medicare", values)


def payer(*rows: Mapping[str, Any]) -> Policy:
    table = {"payer": "acme", "label": "Acme", "coverage": rows, "last_checked": "2026-11-22"}
    return load_policy("acme", payer_rules=[msgspec.convert(table, PayerRule)])


def days(first: str, count: int, of: str = "HEP", **more: Any) -> Event:
    return {"days": {"of": of, "from": first, "count": str(count), **more}}


def call(at: str, length: str, by: Any = "physician", program: str = "rtm") -> Event:
    return {"call": {"at": at, "for": length, "by": by, "program": program}}


SET_UP: Event = {"setup": {"at": "2026-01-05T07:00", "for": "20:00", "by": "physician"}}


# -- for whoever shows it ----------------------------------------------------------


def test_decide_is_the_decisions_of_assess() -> None:
    record = read([SET_UP, days("2026-01-05", 16)], "2026-02-10")
    assert decide(record, POLICY, record.as_of) == assess(record, POLICY, record.as_of).decisions != ()


def test_counted_days_and_spans_are_given_to_whoever_asks() -> None:
    given = [
        days("2026-03-04", 2),
        call("2026-03-10T10:00", "12:00"),
        call("2026-03-03T09:00", "1:30", "nurse"),
    ]
    plain = assessed(given, "2026-04-10")
    assert (plain.days, plain.spans) == ((), ())
    record = read(given, "2026-04-10")
    assert assess(record, POLICY, record.as_of) == plain
    shown = assessed(given, "2026-04-10", everything=True)
    assert [one.key for one in shown.decisions] == [one.key for one in plain.decisions]
    assert [(day.program, day.line, day.day) for day in shown.days] == [
        (Program.RTM, Line.MUSCULOSKELETAL, date(2026, 3, 4)),
        (Program.RTM, Line.MUSCULOSKELETAL, date(2026, 3, 5)),
    ]
    assert [(span.resource, span.seconds, span.live) for span in shown.spans] == [
        ("Encounter/e2", 90, True),
        ("Encounter/e1", 720, True),
    ]


def test_a_day_names_every_reading_the_earliest_first() -> None:
    given = [
        {"reading": {"of": "HEP", "at": "2026-03-04T20:00", "id": "late"}},
        {"reading": {"of": "HEP", "at": "2026-03-04T08:00", "id": "early", "device": "knee-app"}},
        {"reading": {"of": "PUFFS", "at": "2026-03-04T09:00", "id": "other", "device": "inhaler-cap"}},
    ]
    assert assessed(given, "2026-04-10", everything=True).days == (
        CountedDay(
            Program.RTM, Line.MUSCULOSKELETAL, date(2026, 3, 4), ("Observation/early", "Observation/late")
        ),
        CountedDay(Program.RTM, Line.RESPIRATORY, date(2026, 3, 4), ("Observation/other",)),
    )


def test_days_of_several_lines_come_in_order_and_each_with_its_earliest_reading_first() -> None:
    given = [
        days("2026-03-04", 2, every="9", at="09:00"),
        days("2026-03-08", 1, "PUFFS", device="inhaler-cap"),
        days("2026-03-13", 1, device="knee-app", at="08:00"),
    ]
    told = [(day.day.day, day.evidence) for day in assessed(given, "2026-04-10", everything=True).days]
    assert told == [
        (4, ("Observation/o1",)),
        (8, ("Observation/o3",)),
        (13, ("Observation/o4", "Observation/o2")),
    ]


def test_the_parts_of_a_call_that_was_cut_come_in_order_too() -> None:
    given: list[Event] = [
        days("2026-03-03", 2, "BP", device="cuff"),
        {"call": {"at": "2026-03-03T07:00", "for": "30:00", "by": "nurse", "program": "rpm"}},
        {"review": {"at": "2026-03-03T07:05", "for": "3:00", "by": "physician", "program": "rpm"}},
        {"setup": {"at": "2026-03-03T07:10", "for": "5:00", "by": "nurse-2", "program": "rpm"}},
    ]
    spans = assessed(given, "2026-04-10", everything=True).spans
    assert [(span.resource, span.seconds) for span in spans] == [
        ("Encounter/e1", 600),
        ("Encounter/e2", 180),
        ("Encounter/e1", 900),
    ]


def test_spans_come_in_order_and_a_duration_without_a_time_says_its_seconds() -> None:
    given = [
        days("2026-03-04", 2),
        call("2026-03-10T10:00", "12:00"),
        {"review": {"at": "2026-03-12", "length": "5:00", "by": "physician"}},
        call("2026-02-10T10:00", "3:00"),
    ]
    spans = assessed(given, "2026-04-10", everything=True).spans
    assert [(span.resource, span.seconds, span.live) for span in spans] == [
        ("Encounter/e3", 180, True),
        ("Encounter/e1", 720, True),
        ("Encounter/e2", 300, False),
    ]
    assert utc(spans[1].start).astimezone(ZONE) == datetime(2026, 3, 10, 10, tzinfo=ZONE)
    assert utc(spans[1].end).astimezone(ZONE) == datetime(2026, 3, 10, 10, 12, tzinfo=ZONE)


def test_what_the_record_earns_is_known_beside_what_is_charged() -> None:
    charge: Event = {"charge": {"code": "98977", "period": ["2026-01-05", "2026-02-03"]}}
    open_set_up = [days("2026-01-05", 16), charge]
    told = found(read(open_set_up, "2026-02-10"))
    assert (told["98977", "2026-01-05"].outcome, told["98977", "2026-01-05"].earned) == ("charged", 1)
    assert told["98977", "2026-01-05"].charges == ("ChargeItem/c1",)
    assert told["98975", "2026-01-05"].charges == ()
    short = found(read([days("2026-01-05", 3), charge], "2026-02-10"))["98977", "2026-01-05"]
    assert (short.outcome, short.quantity, short.earned) == ("charged", 1, 0)


def test_every_doubt_is_kept_whatever_the_outcome() -> None:
    charge: Event = {"charge": {"code": "98985", "period": ["2026-01-05", "2026-02-03"]}}
    blocked = found(read([days("2026-01-05", 16), charge], "2026-02-10"))
    assert blocked["98977", "2026-01-05"].doubts == ("charged-otherwise",)
    plain = found(read([SET_UP, days("2026-01-05", 16)], "2026-02-10"))
    assert plain["98977", "2026-01-05"].doubts == ()
    doubtful = days("2026-01-20", 1, "BP", device={"display": "some cuff"})
    unmet = found(read([days("2026-01-05", 15, "BP", device="cuff"), doubtful], "2026-02-10"))
    assert unmet["99454", "2026-01-05"].doubts == ("device-unknown",)
    assert unmet["99454", "2026-01-05"].outcome == "out-of-reach"


def test_a_statement_covers_its_codes_and_window_only() -> None:
    january = Window(date(2026, 1, 1), date(2026, 2, 28))
    statement = Attestation("consent", frozenset({"98977"}), january)
    told = found(read([SET_UP, days("2026-01-05", 50)], "2026-04-10", (statement,)))
    asks = {key for key, one in told.items() if "consent" in one.unverified}
    assert ("98977", "2026-01-05") not in asks
    assert {("98977", "2026-02-04"), ("98975", "2026-01-05")} <= asks


def test_an_encounter_is_left_out_for_one_reason() -> None:
    visit: Event = {"visit": {"at": "2026-03-10T09:00", "for": "20:00", "by": "physician"}}
    given = [SET_UP, days("2026-03-03", 2), visit, call("2026-03-10T10:00", "12:00")]
    left_out = [entry.resource for entry in assessed(given, "2026-04-10").excluded]
    assert "Encounter/e3" in left_out
    assert len(left_out) == len(set(left_out))


def test_a_month_between_two_with_data_is_one_of_the_program() -> None:
    given = [days("2026-01-05", 2), days("2026-03-03", 2), call("2026-02-10T10:00", "12:00", program="any")]
    told = found(read(given, "2026-04-10"))["98979", "2026-02-01"]
    assert (told.outcome, "no-data-in-month" in told.reasons) == ("review", True)


# -- several devices ----------------------------------------------------------


def test_a_site_may_add_up_the_days_of_several_devices() -> None:
    given = [
        SET_UP,
        days("2026-01-14", 8, device="knee-app", at="09:00"),
        days("2026-01-05", 9, by="patient"),
        days("2026-01-14", 1, by="patient", at="08:00"),
    ]
    record = read(given, "2026-02-10")
    assert found(record)["98977", "2026-01-05"].requirements[0].found == 10
    together = found(record, setting(multi_device_rule="union"))["98977", "2026-01-05"]
    assert (together.outcome, together.requirements[0].found) == ("suggest", 17)
    evidence = together.requirements[0].evidence
    assert list(evidence) == [f"Observation/o{n}" for n in (*range(9, 18), 18, *range(2, 9))]


def test_start_up_too_is_earned_by_several_devices_where_they_add_up() -> None:
    given = [SET_UP, days("2026-01-05", 1), days("2026-01-09", 1, "PUFFS", device="inhaler-cap")]
    record = read(given, "2026-02-10")
    assert found(record)["98975", "2026-01-05"].outcome == "out-of-reach"
    together = found(record, setting(multi_device_rule="union"))["98975", "2026-01-05"]
    assert (together.outcome, together.service_date) == ("suggest", date(2026, 1, 9))


def test_what_can_still_be_reached_is_asked_of_the_device_that_may_have_the_most_days() -> None:
    given = [SET_UP, days("2026-01-05", 10), days("2026-01-20", 1, device="knee-app")]
    told = found(read(given, "2026-01-28"))["98977", "2026-01-05"]
    assert (told.outcome, told.forecast and told.forecast.missing) == ("short", 6)


def test_a_period_with_a_charge_and_no_reading_has_no_evidence() -> None:
    charge: Event = {"charge": {"code": "98977", "period": ["2026-02-04", "2026-03-05"]}}
    told = assessed([SET_UP, days("2026-01-05", 16), charge], "2026-04-10", everything=True)
    (alone,) = (one for one in told.decisions if one.code == "98977" and one.charges)
    assert (alone.outcome, alone.requirements[0].evidence, alone.requirements[0].all_evidence) == (
        "charged",
        (),
        (),
    )


# -- what a site has otherwise ----------------------------------------------------------


@pytest.mark.parametrize("more", [{}, {"device": "knee-app"}])
def test_a_site_that_allows_few_empty_days_may_find_both_sides_of_a_silence_in_one_period(
    more: dict[str, str],
) -> None:
    given = [SET_UP, days("2026-01-05", 2), days("2026-01-13", 2, **more)]
    record = read(given, "2026-02-10")
    for allowed, reasons in ((5, ("episode-unclear",)), (6, ())):
        told = found(record, setting(empty_days_until_episode_unclear=allowed))["98985", "2026-01-05"]
        assert (told.outcome, told.reasons) == ("review" if reasons else "suggest", reasons)


# -- what a payer has otherwise ----------------------------------------------------------


def test_a_payers_higher_floor_of_the_short_code_is_no_next_step_for_the_long_one() -> None:
    policy = payer({"from": "2026-01-01", "codes": ["98985"], "covered": "yes", "least": 20})
    told = found(read([SET_UP, days("2026-01-05", 16)], "2026-01-25"), policy)
    assert told["98977", "2026-01-05"].forecast is None
    forecast = told["98985", "2026-01-05"].forecast
    assert forecast is not None
    assert (forecast.missing, forecast.next_code) == (4, "98985")


@pytest.mark.parametrize(("contacts", "units"), [(0, 2), (1, 1), (2, 0)])
def test_a_payer_may_want_a_conversation_for_each_further_unit(contacts: int, units: int) -> None:
    given = [
        SET_UP,
        days("2026-03-03", 2),
        call("2026-03-10T10:00", "40:00"),
        call("2026-03-11T10:00", "30:00"),
    ]
    policy = setting(contacts_per_addon_unit=contacts)
    told = found(read(given, "2026-04-10"), policy)["98981", "2026-03-01"]
    assert told.quantity == units


def test_what_two_people_recorded_of_one_conversation_earns_no_further_unit() -> None:
    together = [call("2026-03-10T10:00", "40:00"), call("2026-03-10T10:00", "40:00", "nurse")]
    policy = setting(contacts_per_addon_unit=1)
    told = found(read([SET_UP, days("2026-03-03", 2), *together], "2026-04-10"), policy)
    assert told["98981", "2026-03-01"].quantity == 0
    in_room = [{"in-person": {"at": f"2026-03-{day}T10:00", "for": "2:00", "by": "pt"}} for day in (10, 11)]
    review: Event = {"review": {"at": "2026-03-12T10:00", "for": "40:00", "by": "pt"}}
    told = found(read([SET_UP, days("2026-03-03", 2), *in_room, review], "2026-04-10"), policy)
    assert told["98981", "2026-03-01"].quantity == 1


def test_a_review_over_the_end_of_a_month_puts_no_conversation_across_it() -> None:
    in_room: Event = {"in-person": {"at": "2026-03-10T10:00", "for": "2:00", "by": "pt"}}
    review: Event = {"review": {"at": "2026-03-31T23:40", "for": "40:00", "by": "pt"}}
    told = found(read([SET_UP, days("2026-03-03", 2), in_room, review], "2026-04-10"))["98980", "2026-03-01"]
    assert (told.outcome, told.reasons) == ("review", ("conversation-in-person",))


def test_a_payers_cap_is_the_one_that_holds() -> None:
    given = [SET_UP, days("2026-03-03", 2), call("2026-03-10T10:00", "1:40:00")]
    row = {"from": "2026-01-01", "codes": "all", "covered": "yes"}
    capped = payer(row, {**row, "codes": ["98981"], "units_cap": 2})
    told = found(read(given, "2026-04-10"), capped)["98981", "2026-03-01"]
    assert (told.outcome, told.quantity, told.reasons) == ("review", 2, ("units-over-cap",))


@pytest.mark.parametrize(("percent", "modifiers"), [(10, ("GP", "CQ")), (49, ("GP", "CQ")), (50, ("GP",))])
def test_the_assistants_share_is_held_against_the_percentage(
    percent: int, modifiers: tuple[str, ...]
) -> None:
    given = [
        SET_UP,
        days("2026-03-03", 2),
        call("2026-03-10T10:00", "10:00", "pt"),
        call("2026-03-11T10:00", "10:00", "pta"),
    ]
    told = found(read(given, "2026-04-10"), setting(assistant_de_minimis_percent=percent))
    assert told["98980", "2026-03-01"].modifiers == modifiers


def test_a_payers_own_modifiers_are_added_once() -> None:
    row = {"from": "2026-01-01", "codes": "all", "covered": "yes", "modifiers": ["GP", "KX"]}
    given = [SET_UP, days("2026-03-03", 2), call("2026-03-10T10:00", "12:00", "pt")]
    told = found(read(given, "2026-04-10"), payer(row))["98979", "2026-03-01"]
    assert told.modifiers == ("GP", "KX")


def test_evidence_is_named_in_order() -> None:
    calls = [call(f"2026-03-{20 - n}T10:00", "2:00") for n in range(9)]
    told = found(read([SET_UP, days("2026-03-03", 2), *calls], "2026-04-10"))["98979", "2026-03-01"]
    minutes, contact = told.requirements
    assert minutes.evidence == contact.evidence == tuple(sorted(f"Encounter/e{n}" for n in range(2, 11)))
    in_room = [{"in-person": {"at": f"2026-03-{20 - n}T10:00", "for": "2:00", "by": "pt"}} for n in range(9)]
    review: Event = {"review": {"at": "2026-03-25T10:00", "for": "12:00", "by": "pt"}}
    told = found(read([SET_UP, days("2026-03-03", 2), *in_room, review], "2026-04-10"))["98979", "2026-03-01"]
    assert told.requirements[1].evidence == tuple(sorted(f"Encounter/e{n}" for n in range(2, 11)))


@pytest.mark.parametrize(
    ("covered", "reasons"),
    [
        ("yes", ()),
        ("no", ("payer-does-not-cover",)),
        ("unknown", ("payer-unknown",)),
        ("prior-auth", ("payer-criteria",)),
        ("criteria", ("payer-criteria",)),
    ],
)
def test_what_a_payers_table_says_of_a_code_is_a_question_or_none(
    covered: str, reasons: tuple[str, ...]
) -> None:
    policy = payer({"from": "2026-01-01", "codes": "all", "covered": covered})
    told = found(read([SET_UP, days("2026-01-05", 16)], "2026-02-10"), policy)["98977", "2026-01-05"]
    assert (told.outcome, told.reasons) == ("review" if reasons else "suggest", reasons)


def test_where_devices_add_up_the_first_day_names_the_line_of_start_up() -> None:
    swim = days("2026-01-09", 1, "SWIM", device="pool-sensor")
    union = setting(multi_device_rule="union")
    told = found(read([SET_UP, days("2026-01-05", 1), swim], "2026-02-10"), union)["98975", "2026-01-05"]
    assert (told.outcome, told.reasons) == ("suggest", ())
    first = days("2026-01-06", 1, "SWIM", device="pool-sensor")
    told = found(read([SET_UP, days("2026-01-08", 1), first], "2026-02-10"), union)["98975", "2026-01-06"]
    assert (told.outcome, told.reasons) == ("review", ("no-device-code",))


def test_evidence_of_several_devices_is_in_the_order_of_the_days() -> None:
    given = [SET_UP, days("2026-01-05", 2, every="15"), days("2026-01-10", 1, device="knee-app")]
    told = found(read(given, "2026-02-10"), setting(multi_device_rule="union"))["98985", "2026-01-05"]
    assert told.requirements[0].evidence == ("Observation/o1", "Observation/o3", "Observation/o2")


def test_of_several_devices_on_a_day_the_earliest_reading_is_evidence() -> None:
    given = [
        SET_UP,
        days("2026-01-05", 2, at="09:00"),
        days("2026-01-06", 1, device="knee-app", at="08:00"),
    ]
    told = found(read(given, "2026-02-10"), setting(multi_device_rule="union"))["98985", "2026-01-05"]
    assert told.requirements[0].evidence == ("Observation/o1", "Observation/o3")


def test_somebody_of_unknown_role_alone_is_one_question() -> None:
    given = [SET_UP, days("2026-03-03", 2), call("2026-03-10T10:00", "12:00", "somebody")]
    told = found(read(given, "2026-04-10"))["98979", "2026-03-01"]
    assert (told.outcome, told.reasons) == ("review", ("staff-role",))


def test_what_came_twice_and_did_not_count_says_both() -> None:
    therapist: Event = {
        "review": {"at": "2026-03-11T10:00", "for": "12:00", "by": "pt", "program": "rpm", "id": "e9"}
    }
    chart = Chart(TERMINOLOGY, ZONE, date(2026, 4, 10))
    given = [days("2026-03-03", 2, of="BP", device="cuff"), therapist]
    for resource in build_resources(given, "America/New_York"):
        for _ in range(2 if resource.get("id") == "e9" else 1):
            chart.add(json.dumps(resource).encode())
    told = assess(chart.record("Patient/p1"), POLICY, date(2026, 4, 10)).excluded
    assert {entry.reason for entry in told if entry.resource == "Encounter/e9"} == {
        "duplicate",
        "role-not-counted",
    }


# -- charges of which nobody can tell the days ----------------------------------------------------------

RTM_MONTH = [days("2026-01-05", 16), call("2026-01-10T10:00", "25:00")]
RPM_MONTH = [days("2026-01-05", 16, "BP", device="cuff"), call("2026-01-10T10:00", "25:00", program="rpm")]
NO_MONTH = [days("2026-01-05", 3)]
JANUARY = Window(date(2026, 1, 1), date(2026, 1, 31))


def untold(given: list[Event], *charges: PriorCharge) -> list[str]:
    """The charges that no decision speaks of, among what was left out."""
    record = replace(read(given, "2026-03-10"), charges=charges)
    return [
        one.resource
        for one in assess(record, POLICY, record.as_of).excluded
        if one.reason == "charged-period-unclear"
    ]


@pytest.mark.parametrize(
    ("given", "code", "expected"),
    [
        (RTM_MONTH, "98980", False),
        (RTM_MONTH, "98981", False),
        (RTM_MONTH, "98977", False),
        (RTM_MONTH, "98976", False),
        (RTM_MONTH, "98975", False),
        (RTM_MONTH, "99457", True),
        (RTM_MONTH, "99454", True),
        (RTM_MONTH, "99091", True),
        (RPM_MONTH, "99458", False),
        (RPM_MONTH, "99091", False),
        (RPM_MONTH, "98980", True),
        (NO_MONTH, "98980", True),
        (NO_MONTH, "98977", False),
        ([{"patient": {}}], "98977", True),
    ],
)
def test_an_undated_charge_is_told_by_a_decision_of_its_kind_or_as_left_out(
    given: list[Event], code: str, *, expected: bool
) -> None:
    assert untold(given, PriorCharge("ChargeItem/1", code, 1, None)) == ["ChargeItem/1"] * expected


def test_so_is_one_of_several_codes_and_none_that_says_its_code_and_day() -> None:
    among = PriorCharge("Claim/1", "98980", 1, JANUARY, among=("98980", "98981"))
    alone = PriorCharge("Claim/2", "98980", 1, JANUARY)
    assert untold(NO_MONTH, among, alone) == ["Claim/1"]
    assert untold(RTM_MONTH, among) == []
    undated = PriorCharge("Claim/3", "99454", 1, None)
    assert untold(RTM_MONTH, among, undated) == ["Claim/3"]
