"""What must be read, and from which day on."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from fhir_mappings.local_time import Window
from fhir_mappings.needs import Needs, needs
from fhir_mappings.record import Enrolment, PriorCharge
from fhir_mappings.rules.policy import load_policy
from fhir_mappings.terminology import Terminology
from fhir_mappings.vocabulary import Program

AS_OF = date(2026, 4, 15)


def asked(terminology: Terminology, **known: object) -> Needs:
    return needs(terminology, load_policy("medicare"), AS_OF, **known)  # type: ignore[arg-type]


def device_charge(start: date) -> PriorCharge:
    return PriorCharge("ChargeItem/c", "98977", 1, Window(start, start + timedelta(days=29)))


def test_without_a_charge_or_an_enrolment_thirteen_months_are_read(terminology: Terminology) -> None:
    found = asked(terminology)
    assert (found.start, found.end) == (date(2025, 3, 1), AS_OF)
    assert (found.search_start, found.search_end) == (date(2025, 2, 28), date(2026, 4, 16))


@pytest.mark.parametrize(
    ("charged", "start"),
    [
        (date(2026, 2, 4), date(2026, 2, 4)),
        # never less than the whole of last month: it is still to be charged
        (date(2026, 4, 5), date(2026, 3, 1)),
        # never more than thirteen months
        (date(2020, 1, 1), date(2025, 3, 1)),
    ],
)
def test_reading_begins_with_the_last_charged_period(
    charged: date, start: date, terminology: Terminology
) -> None:
    earlier = device_charge(date(2019, 6, 1))
    assert asked(terminology, charges=[earlier, device_charge(charged)]).start == start


def test_a_device_charge_of_one_date_does_not_say_where_the_periods_begin(terminology: Terminology) -> None:
    day = date(2026, 2, 5)
    charge = PriorCharge("ChargeItem/c", "98977", 1, Window(day, day))
    assert asked(terminology, charges=[charge]).start == date(2025, 3, 1)


def test_a_management_charge_says_nothing_of_the_periods(terminology: Terminology) -> None:
    charge = PriorCharge("ChargeItem/c", "98980", 1, Window(date(2026, 3, 1), date(2026, 3, 31)))
    assert asked(terminology, charges=[charge]).start == date(2025, 3, 1)


def test_an_enrolment_moves_the_start_to_the_period_before_this_one(terminology: Terminology) -> None:
    enrolment = Enrolment(Program.RTM, date(2025, 12, 1))
    assert asked(terminology, enrolments=[enrolment]).start == date(2026, 3, 1)


def test_the_sites_own_codings_are_asked_for(terminology: Terminology) -> None:
    found = asked(terminology)
    assert ("urn:clinic:flowsheet", "HEP") in found.codings
    assert ("http://loinc.org", "85354-9") in found.codings


def written_here(code: str, first: date, last: date, status: str = "planned") -> PriorCharge:
    return PriorCharge("ChargeItem/own", code, 1, Window(first, last), status, ("a-key-of-ours",))


@pytest.mark.parametrize(
    ("charge", "start"),
    [
        (written_here("98980", date(2025, 12, 1), date(2025, 12, 31)), date(2025, 12, 1)),
        # a start-up charge names a day somewhere in its first period
        (written_here("98975", date(2025, 12, 20), date(2025, 12, 20)), date(2025, 11, 20)),
        # what billing has taken up follows the record no more
        (written_here("98980", date(2025, 12, 1), date(2025, 12, 31), "billed"), date(2026, 3, 1)),
        (written_here("98980", date(2020, 12, 1), date(2020, 12, 31)), date(2025, 3, 1)),
    ],
)
def test_the_period_of_a_suggestion_of_ours_is_read_until_billing_takes_it_up(
    charge: PriorCharge, start: date, terminology: Terminology
) -> None:
    assert asked(terminology, charges=[device_charge(date(2026, 4, 5)), charge]).start == start


def test_what_was_accepted_and_is_charged_nowhere_is_read_whatever_later_period_is_charged(
    terminology: Terminology,
) -> None:
    later = device_charge(date(2026, 2, 9))
    before = asked(terminology, charges=[later])
    accepted = asked(terminology, charges=[later], asked=[date(2026, 1, 10)])
    assert accepted.start == date(2026, 1, 10) < before.start
    ancient = asked(terminology, charges=[later], asked=[date(2020, 1, 1)])
    assert ancient.start == asked(terminology).start
