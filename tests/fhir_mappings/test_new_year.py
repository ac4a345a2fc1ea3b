"""Whether the rules of a service date were checked: by the tables, else by the site, else by nobody (D37)."""

from __future__ import annotations

from datetime import date, datetime

import msgspec
import pytest

from fhir_mappings.charge_change import Statement, updated
from fhir_mappings.charge_item import ChargeDetails, ChargeNotValid, charge_item
from fhir_mappings.decision import Decision, RulesConfirmed
from fhir_mappings.local_time import Window
from fhir_mappings.rules.policy import Policies, load_policy
from fhir_mappings.rules.tables import Confirmation, months_after
from fhir_mappings.terminology import read_table
from fhir_mappings.vocabulary import Outcome, Program, Unverified

LAST, FIRST = date(2026, 12, 31), date(2027, 1, 1)
OPEN = frozenset({Unverified.RULES_OF_THE_YEAR})


def confirmed(codes: object = "all", to: str = "2027-12-31", **more: object) -> Confirmation:
    entry = {"codes": codes, "to": to, "by": "Ida", "on": "2026-12-15", "source": "The final rule", **more}
    return msgspec.convert(entry, Confirmation)


def test_the_last_day_of_a_table_is_checked_and_the_next_is_not() -> None:
    policy = load_policy("medicare")
    assert policy.year("98977", LAST).unverified == frozenset()
    assert policy.year("98977", FIRST).unverified == OPEN
    assert policy.year("99091", FIRST).unverified == OPEN


def test_a_payer_that_nobody_knows_has_a_year_too() -> None:
    assert load_policy("nobody").year("98977", FIRST).unverified == OPEN


def test_a_confirmation_holds_for_its_codes_up_to_its_day() -> None:
    said = confirmed(["98977"], "2027-06-30")
    policy = load_policy("medicare", confirmed=[said])
    assert policy.year("98977", LAST).confirmed is None
    assert policy.year("98977", FIRST).confirmed == said
    assert policy.year("98977", date(2027, 6, 30)).unverified == frozenset()
    assert policy.year("98977", date(2027, 7, 1)).unverified == OPEN
    assert policy.year("98980", FIRST).unverified == OPEN


def test_of_several_confirmations_any_that_speaks_of_the_day_is_enough() -> None:
    first, second = confirmed(to="2027-03-31"), confirmed(["98977"], by="Otto")
    policy = load_policy("medicare", confirmed=[first, second])
    assert policy.year("98977", date(2027, 3, 31)).confirmed == first
    assert policy.year("98977", date(2027, 4, 1)).confirmed == second


def test_every_payer_of_a_site_has_its_confirmations() -> None:
    policies = Policies("medicare", confirmed=[confirmed()])
    assert policies.of("aetna").year("98977", FIRST).unverified == frozenset()


def test_twelve_months_past_a_tables_end_is_the_most() -> None:
    load_policy("medicare", confirmed=[confirmed(to="2027-12-31")])
    with pytest.raises(
        ValueError, match=r"`to: 2028-01-01` is more than 12 months past .* at most 2027-12-31"
    ):
        load_policy("medicare", confirmed=[confirmed(["98977"], "2028-01-01")])


@pytest.mark.parametrize(
    ("day", "months", "later"),
    [
        (date(2026, 12, 31), 12, date(2027, 12, 31)),
        (date(2026, 11, 30), 3, date(2027, 2, 28)),
        (date(2028, 2, 29), 12, date(2029, 2, 28)),
        (date(2026, 1, 15), 11, date(2026, 12, 15)),
    ],
)
def test_a_month_that_is_shorter_ends_earlier(day: date, months: int, later: date) -> None:
    assert months_after(day, months) == later


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"by": " "}, "by: say who"),
        ({"source": ""}, "source: name the published rule"),
        ({"codes": []}, "codes: name the codes"),
        ({"codes": "98977"}, "Invalid enum value"),
        ({"on": "soon"}, "Invalid RFC3339 encoded date"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_confirmation_that_says_too_little_is_none(entry: dict[str, object], said: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=said):
        confirmed(**entry)  # type: ignore[arg-type]


def test_a_key_of_a_table_is_a_name_also_where_yaml_would_see_a_truth_value() -> None:
    assert read_table("{on: 2026-12-15, yes: no, off: {no: on}}") == {
        "on": date(2026, 12, 15),
        "yes": False,
        "off": {"no": True},
    }


def test_it_is_told_from_sixty_days_before_the_rules_end() -> None:
    policy = load_policy("medicare")
    assert policy.checked_to == LAST
    told = {day: policy.ends_soon(day) for day in (date(2026, 10, 31), date(2026, 11, 1), LAST, FIRST)}
    assert list(told.values()) == [False, True, True, True]


def test_what_the_site_confirmed_ends_too() -> None:
    policy = load_policy("medicare", confirmed=[confirmed()])
    assert policy.checked_to == date(2027, 12, 31)
    assert [policy.ends_soon(day) for day in (FIRST, date(2027, 11, 1))] == [False, True]


def test_the_first_code_whose_rules_end_counts_but_one_that_is_only_held_back() -> None:
    named = [code for code in load_policy().codes if code not in ("99091", "98977")]
    some = load_policy("medicare", confirmed=[confirmed(named)])
    assert some.checked_to == LAST
    every = load_policy("medicare", confirmed=[confirmed([*named, "98977"])])
    assert every.checked_to == date(2027, 12, 31)
    assert every.not_checked(FIRST) == ["99091"]


# -- the charge ----------------------------------------------------------

WINDOW = Window(date(2027, 1, 1), date(2027, 1, 31))
DETAILS = ChargeDetails(
    issuer="https://ehr.example",
    patient="Patient/p1",
    enterer="Practitioner/7",
    entered_at=datetime.fromisoformat("2027-02-01T10:00:00+00:00"),
    rules_version="v",
    attested=("rules-of-the-year",),
)


def decision(*unverified: Unverified, earned: int = 2, by: RulesConfirmed | None = None) -> Decision:
    return Decision(
        *(
            "98981",
            Program.RTM,
            None,
            earned,
            Outcome.SUGGEST,
            WINDOW,
            WINDOW.end,
            (),
            (),
            unverified,
            (),
            None,
        ),
        earned=earned,
        rules_confirmed=by,
    )


def test_no_charge_is_made_under_rules_that_nobody_checked_whatever_was_attested() -> None:
    with pytest.raises(ChargeNotValid, match="the rules for 98981 end before its service date"):
        charge_item(decision(Unverified.RULES_OF_THE_YEAR), DETAILS)


def test_the_note_of_a_charge_says_who_confirmed_the_rules() -> None:
    by = RulesConfirmed("Ida", date(2026, 12, 15), "The final rule")
    (note,) = charge_item(decision(by=by), DETAILS)["note"]
    assert "confirmed by Ida on 2026-12-15, source: The final rule." in note["text"]
    (plain,) = charge_item(decision(), DETAILS)["note"]
    assert "The rules for this date" not in plain["text"]


@pytest.mark.parametrize(("held", "allowed"), [(1, False), (2, True), (3, True), ("two", False)])
def test_an_update_may_charge_less_under_them_and_never_more(held: object, allowed: bool) -> None:
    written = {**charge_item(decision(), DETAILS), "quantity": {"value": held}}
    said = Statement("Updated.", "Practitioner/7", DETAILS.entered_at)
    open_year = decision(Unverified.RULES_OF_THE_YEAR)
    if allowed:
        assert updated(written, open_year, "v", said)["quantity"]["value"] == 2
    else:
        with pytest.raises(ChargeNotValid, match="end before its service date"):
            updated(written, open_year, "v", said)


@pytest.mark.parametrize("codes", [["98977", "98980"], ["98980", "98977"]])
def test_of_two_confirmations_the_later_day_is_the_last_that_was_checked(codes: list[str]) -> None:
    entries = [confirmed(), confirmed(codes, "2027-06-30")]
    for order in (entries, entries[::-1]):
        assert load_policy("medicare", confirmed=order).ends["98977"] == date(2027, 12, 31)
