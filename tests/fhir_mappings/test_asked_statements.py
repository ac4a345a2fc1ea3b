"""What is asked of a service: each statement alone, both sides of what makes it needless (D36, D39)."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from msgspec.structs import replace

from fhir_mappings.completeness import ANY_TYPE, Completeness, Missing, MissingWhy
from fhir_mappings.local_time import LocalClock, Window
from fhir_mappings.record import Agreement, Order, PatientRecord, Surgery, Visit
from fhir_mappings.rules.statements import DAYS_AFTER_SURGERY, OF_A_LATER_RULE, SiteFacts, Statements
from fhir_mappings.rules.visits import Visits
from fhir_mappings.vocabulary import Program, Unverified

ZONE = ZoneInfo("America/New_York")
MARCH = Window(date(2026, 3, 1), date(2026, 3, 31))
OVER = date(2026, 3, 30)
CONSENT = Agreement(resource="Consent/1", day=date(2026, 1, 1))
PROGRAMS = (Program.RTM, Program.RPM)
RTM, RPM = (Order(resource="ServiceRequest/1", program=one, day=date(2026, 1, 1)) for one in PROGRAMS)
RECORD = PatientRecord("Patient/p1", date(2026, 4, 10), ZONE, consents=(CONSENT,), orders=(RTM, RPM))
EARLIEST = MARCH.end - timedelta(days=DAYS_AFTER_SURGERY)


def statements(program: Program = Program.RTM, facts: SiteFacts | None = None, **more: Any) -> Statements:
    record = replace(RECORD, **more)
    visits = Visits(record, program, LocalClock(ZONE), "Practitioner/1", codes={})
    return Statements(record, program, facts or SiteFacts(), visits)


def asked(program: Program = Program.RTM, facts: SiteFacts | None = None, **more: Any) -> set[Unverified]:
    return set(statements(program, facts, **more).of(MARCH.end, MARCH))


def lacks(type_: str, start: date | None = None, end: date | None = None) -> Completeness:
    return Completeness((Missing(type_, MissingWhy.CUT_OFF, start, end),))


def test_a_record_that_shows_all_asks_nothing() -> None:
    assert asked() == set()


def test_consent_and_order_must_hold_on_the_service_date_and_the_order_be_of_the_program() -> None:
    assert asked(consents=()) == {Unverified.CONSENT}
    assert asked(orders=()) == asked(orders=(RPM,)) == {Unverified.ORDER}
    assert asked(consents=(replace(CONSENT, day=date(2026, 4, 1)),)) == {Unverified.CONSENT}
    assert asked(orders=(replace(RTM, day=date(2026, 4, 1)),)) == {Unverified.ORDER}


@pytest.mark.parametrize(
    "more",
    [
        {"completeness": lacks("ChargeItem")},
        {"charges_elsewhere": True},
    ],
)
def test_charges_that_nobody_read_may_stand_there(more: dict[str, Any]) -> None:
    assert asked(**more) == {Unverified.PRIOR_CHARGES}


def test_what_was_not_read_of_any_type_may_be_a_charge_or_a_surgery() -> None:
    assert asked(completeness=lacks(ANY_TYPE)) == {Unverified.PRIOR_CHARGES, Unverified.GLOBAL_PERIOD}
    assert asked(completeness=lacks("Observation")) == set()


@pytest.mark.parametrize(
    ("days", "expected"),
    [
        (None, True),
        (Window(MARCH.end, MARCH.end), True),
        (Window(date(2026, 4, 1), date(2026, 4, 1)), False),
        (Window(EARLIEST, EARLIEST), True),
        (Window(EARLIEST - timedelta(days=1), EARLIEST - timedelta(days=1)), False),
    ],
)
def test_a_surgery_in_the_90_days_up_to_the_windows_end_asks_for_its_period(
    days: Window | None, *, expected: bool
) -> None:
    long_ago = Surgery("Procedure/0", Window(date(2020, 1, 1), date(2020, 1, 1)))
    found = asked(surgeries=(long_ago, Surgery("Procedure/1", days)))
    assert found == ({Unverified.GLOBAL_PERIOD} if expected else set())
    assert date(2025, 12, 31) == EARLIEST


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (None, None, True),
        (MARCH.end, None, True),
        (date(2026, 4, 1), None, False),
        (None, EARLIEST, True),
        (None, date(2025, 12, 30), False),
    ],
)
def test_procedures_that_were_not_read_of_those_days_may_be_one(
    start: date | None, end: date | None, *, expected: bool
) -> None:
    found = asked(completeness=lacks("Procedure", start, end))
    assert found == ({Unverified.GLOBAL_PERIOD} if expected else set())


def test_in_a_window_that_lasts_only_what_was_until_today_can_be_missing() -> None:
    for as_of, expected in ((OVER, set()), (MARCH.end, {Unverified.GLOBAL_PERIOD})):
        assert asked(as_of=as_of, completeness=lacks("Procedure", MARCH.end)) == expected
    long_before = date(2025, 12, 1)
    assert asked(as_of=long_before, completeness=lacks("Procedure", EARLIEST, EARLIEST)) == {
        Unverified.GLOBAL_PERIOD
    }


def visit(day: date, person: str = "Practitioner/1") -> Visit:
    return Visit("Encounter/1", (day,), frozenset({person}))


def test_rpm_asks_for_an_established_patient_unless_one_of_its_people_saw_them_before() -> None:
    rpm, established = Program.RPM, {Unverified.ESTABLISHED_PATIENT}
    assert asked(rpm) == asked(rpm, visits=(visit(MARCH.start, "Practitioner/2"),)) == established
    assert asked(rpm, visits=(visit(MARCH.start),)) == set()
    assert asked(rpm, visits=(visit(date(2026, 3, 2)),)) == established


@pytest.mark.parametrize("statement", [Unverified.INITIATING_VISIT, Unverified.ESTABLISHED_PATIENT])
def test_what_a_later_rule_asks_is_asked_from_the_sites_day_on(statement: Unverified) -> None:
    for since, expected in ((MARCH.end, {statement}), (date(2026, 4, 1), set())):
        facts = SiteFacts(ask_from={statement: since})
        assert asked(Program.RTM, facts) == expected
        assert asked(Program.RTM, facts, visits=(visit(MARCH.start),)) == set()


@pytest.mark.parametrize("employed", [None, False, True])
def test_whether_staff_is_employed_is_asked_where_the_site_begins_to_and_does_not_say(
    employed: bool | None,
) -> None:
    asks = Unverified.STAFF_EMPLOYED
    facts = SiteFacts(staff_employed=employed, ask_from={asks: MARCH.end})
    assert statements(facts=facts).of_staff(MARCH.end) == (frozenset() if employed else {asks})
    assert statements(facts=facts).of_staff(OVER) == frozenset()
    assert statements(facts=SiteFacts(staff_employed=employed)).of_staff(MARCH.end) == frozenset()


def test_a_site_can_begin_to_ask_only_what_a_later_rule_would() -> None:
    others = sorted(set(Unverified) - set(OF_A_LATER_RULE))
    for asks in (others, [*reversed(others)], [*others, *OF_A_LATER_RULE]):
        with pytest.raises(ValueError, match="ask_from") as refused:
            SiteFacts(ask_from=dict.fromkeys(asks, MARCH.start))
        assert str(refused.value) == (
            f"ask_from: {others[0]} is asked by other rules (known here: initiating-visit, "
            "established-patient, staff-employed)"
        )
    assert SiteFacts(ask_from=dict.fromkeys(OF_A_LATER_RULE, MARCH.start)).asks(
        Unverified.STAFF_EMPLOYED, MARCH.start
    )


def test_a_site_says_nothing_of_itself_by_itself_and_nothing_that_is_not_asked() -> None:
    facts = msgspec.convert({}, SiteFacts)
    centre = (facts.rural_health_clinic, facts.federally_qualified_health_center)
    assert (facts.staff_employed, centre, facts.ask_from) == (None, (False, False), {})
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"rural": True}, SiteFacts)
