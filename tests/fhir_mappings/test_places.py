"""Where a reading was taken: at home, in a facility, or nobody can tell (D26)."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from datetime import date
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_mappings.chart import Chart
from fhir_mappings.local_time import LocalClock
from fhir_mappings.places import Presence, Where, extent_of, is_longer_than_a_day, places_by_time
from fhir_mappings.record import PatientRecord
from fhir_mappings.resources import Period
from fhir_mappings.terminology import load_terminology
from fhir_mappings.vocabulary import Unverified

Resource = dict[str, Any]
Ask = Callable[..., str]

ACT = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
V2 = "http://terminology.hl7.org/CodeSystem/v2-0004"
STU3 = "http://hl7.org/fhir/v3/ActCode"
DSTU2 = "http://hl7.org/fhir/encounter-class"
NULL_FLAVOR = "http://terminology.hl7.org/CodeSystem/v3-NullFlavor"
VENDOR = "urn:oid:1.2.840.114350.1.72.1.7.7.10.696784.13260"
SNOMED = "http://snomed.info/sct"
VISIT = "urn:clinic:visit"

SITE = {
    "encounters": [
        {"system": VISIT, "code": code, "activity": activity, "program": "rpm"}
        for code, activity in [
            ("CALL", "phone-call"),
            ("REVIEW", "data-review"),
            ("MESSAGE", "message"),
            ("ADMIN", "administrative"),
            ("SETUP", "setup-education"),
            ("SEEN", "in-person"),
        ]
    ],
    "facility_classes": [{"system": VENDOR, "code": "3"}],
    "outpatient_classes": [{"system": VENDOR, "code": "5"}],
}

HOME, UNVERIFIED, UNCLEAR, FACILITY = "home", "unverified", "in-facility-unclear", "in-facility"


def encounter(
    code: str | None, start: str | None = None, end: str | None = None, *, system: str = ACT, **changes: Any
) -> Resource:
    period = {key: value for key, value in (("start", start), ("end", end)) if value}
    found: Resource = {
        "resourceType": "Encounter",
        "id": "e1",
        "status": "finished",
        "class": {"system": system, "code": code} if code else None,
        "subject": {"reference": "Patient/p1"},
        "period": period or None,
        **changes,
    }
    return {key: value for key, value in found.items() if value is not None}


def of_type(code: str, system: str = VISIT) -> list[Resource]:
    return [{"coding": [{"system": system, "code": code}]}]


@pytest.fixture
def ask(blood_pressure: Callable[..., Resource], cuff: Callable[..., Resource]) -> Ask:
    """Where a reading of that time was taken, of a patient with these Encounters. `names`: one of them."""
    terminology = load_terminology(SITE)

    def where(
        at: str,
        *encounters: Resource,
        names: str | None = None,
        zone: str = "America/New_York",
        **changes: Any,
    ) -> str:
        named = {"reference": f"Encounter/{names}"} if names else None
        reading = blood_pressure(**{"effectiveDateTime": at, "encounter": named, **changes})
        answers = set()
        for resources in itertools.permutations([reading, *encounters]):
            record = _record(terminology, zone, [cuff(), *resources])
            left_out = {entry.resource: str(entry.reason) for entry in record.excluded}
            if (reason := left_out.get("Observation/bp")) is not None:
                doubtful = [reading.resource for reading in record.doubtful_readings]
                assert doubtful == (["Observation/bp"] if reason == UNCLEAR else [])
                answers.add(reason)
            else:
                (counted,) = record.readings
                answers.add(UNVERIFIED if Unverified.IN_FACILITY in counted.unverified else HOME)
        (answer,) = answers  # whatever the order of the input
        return answer

    return where


def _record(terminology: Any, zone: str, resources: list[Resource]) -> PatientRecord:
    chart = Chart(terminology, ZoneInfo(zone), date(2026, 12, 1))
    for resource in ({"resourceType": "Patient", "id": "p1"}, *resources):
        chart.add(json.dumps(resource).encode())
    return chart.record("Patient/p1")


# -- a stay ----------------------------------------------------------------------------------------------

STAYS = [
    *((ACT, code) for code in ("IMP", "ACUTE", "NONAC", "SS", "EMER", "OBSENC")),
    (STU3, "IMP"),
    (STU3, "imp"),
    (DSTU2, "inpatient"),
    (DSTU2, "emergency"),
    (V2, "I"),
    (V2, "E"),
    (VENDOR, "3"),
]


@pytest.mark.parametrize(("system", "code"), STAYS)
def test_a_reading_during_a_stay_was_taken_there_whatever_the_words_for_its_class(
    system: str, code: str, ask: Ask
) -> None:
    stay = encounter(code, "2026-03-05T14:00:00-05:00", "2026-03-08T09:00:00-04:00", system=system)
    assert ask("2026-03-05T13:59:59-05:00", stay) == HOME
    assert ask("2026-03-05T14:00:00-05:00", stay) == FACILITY
    assert ask("2026-03-08T08:59:59-04:00", stay) == FACILITY
    assert ask("2026-03-08T09:00:00-04:00", stay) == HOME


@pytest.mark.parametrize("code", ["inpatient", "Inpatient", "IMP", "emergency"])
def test_a_class_without_a_system_is_one_of_hl7s(code: str, ask: Ask) -> None:
    stay = encounter(
        None, "2026-03-05T14:00:00-05:00", "2026-03-08T09:00:00-04:00", **{"class": {"code": code}}
    )
    assert ask("2026-03-06T08:00:00-05:00", stay) == FACILITY


@pytest.mark.parametrize(
    ("reference", "where"),
    [("Encounter/e1", FACILITY), ("EpisodeOfCare/e1", HOME), ("EpisodeOfCare/unread", HOME)],
)
def test_the_name_that_it_had_before_r4_leads_to_an_encounter_too(
    reference: str, where: str, ask: Ask
) -> None:
    stay = encounter("IMP", "2026-03-05T08:00:00-05:00", "2026-03-07T08:00:00-05:00")
    assert ask("2026-03-20T08:00:00-04:00", stay, context={"reference": reference}) == where


def test_what_names_a_stay_was_taken_there_whatever_its_day(ask: Ask) -> None:
    stay = encounter("IMP", "2026-03-05T14:00:00-05:00", "2026-03-08T09:00:00-04:00")
    assert ask("2026-03-20T08:00:00-04:00", stay, names="e1") == FACILITY


@pytest.mark.parametrize(
    ("at", "where"),
    [
        ("2026-03-04T23:59:59-05:00", HOME),
        ("2026-03-05T00:00:00-05:00", FACILITY),
        ("2026-03-05", FACILITY),
        ("2026-03-07", FACILITY),
        ("2026-03-07T23:59:59-05:00", FACILITY),
        ("2026-03-08T00:00:00-05:00", HOME),
        ("2026-03-08", HOME),
    ],
)
def test_a_stay_with_dates_only_has_whole_days_from_the_first_to_the_last(
    at: str, where: str, ask: Ask
) -> None:
    assert ask(at, encounter("IMP", "2026-03-05", "2026-03-07")) == where


def test_a_bare_date_lies_in_a_stay_only_if_the_whole_day_does(ask: Ask) -> None:
    stay = encounter("IMP", "2026-03-05T14:00:00-05:00", "2026-03-07T09:00:00-05:00")
    assert [ask(f"2026-03-0{day}", stay) for day in (5, 6, 7)] == [HOME, FACILITY, HOME]


@pytest.mark.parametrize("status", ["in-progress", "arrived", "onleave", "unknown", "finished"])
@pytest.mark.parametrize("start", ["2026-03-05T14:00:00-05:00", "2026-03-05"])
def test_a_stay_without_an_end_goes_on(status: str, start: str, ask: Ask) -> None:
    stay = encounter("IMP", start, status=status)
    assert ask("2026-03-04T08:00:00-05:00", stay) == HOME
    assert ask("2026-10-05T08:00:00-04:00", stay) == FACILITY


def test_a_length_ends_a_stay(ask: Ask) -> None:
    stay = encounter("EMER", "2026-03-05T14:00:00-05:00", length={"value": 6, "code": "h"})
    assert ask("2026-03-05T19:59:00-05:00", stay) == FACILITY
    assert ask("2026-03-05T20:00:00-05:00", stay) == HOME


@pytest.mark.parametrize(
    "period",
    [
        {},
        {"end": "2026-03-08T09:00:00-04:00"},
        {"start": "2026-03"},
        {"start": "2026-03-08T09:00:00-04:00", "end": "2026-03-05T14:00:00-05:00"},
    ],
    ids=["none", "end-alone", "a-month", "backwards"],
)
def test_a_stay_of_which_nobody_knows_when_is_asked_about(period: dict[str, str], ask: Ask) -> None:
    stay = encounter("IMP", **period)
    assert ask("2026-03-06T08:00:00-05:00", stay) == UNVERIFIED
    assert ask("2026-03-06T08:00:00-05:00", stay, names="e1") == FACILITY


@pytest.mark.parametrize("status", ["planned", "cancelled", "entered-in-error"])
@pytest.mark.parametrize(("system", "code"), [(ACT, "IMP"), (ACT, "AMB"), (VENDOR, "9")])
def test_what_never_took_place_says_nothing(status: str, system: str, code: str, ask: Ask) -> None:
    stay = encounter(
        code, "2026-03-05T14:00:00-05:00", "2026-03-08T09:00:00-04:00", system=system, status=status
    )
    assert ask("2026-03-06T08:00:00-05:00", stay) == HOME
    assert ask("2026-03-06T08:00:00-05:00", stay, names="e1") == HOME
    assert ask("2026-03-06T08:00:00-05:00", encounter(code, system=system, status=status)) == HOME


# -- a visit ---------------------------------------------------------------------------------------------

VISITS = [
    (ACT, "AMB"),
    (ACT, "PRENC"),
    (STU3, "AMB"),
    (DSTU2, "ambulatory"),
    (DSTU2, "outpatient"),
    (DSTU2, "daytime"),
    (V2, "O"),
    (V2, "R"),
    (VENDOR, "5"),
]


@pytest.mark.parametrize(("system", "code"), VISITS)
def test_a_visit_excludes_its_time_and_what_names_it_on_its_day(system: str, code: str, ask: Ask) -> None:
    visit = encounter(code, "2026-03-05T09:00:00-05:00", "2026-03-05T09:30:00-05:00", system=system)
    assert ask("2026-03-05T08:59:59-05:00", visit) == HOME
    assert ask("2026-03-05T09:00:00-05:00", visit) == FACILITY
    assert ask("2026-03-05T09:29:59-05:00", visit) == FACILITY
    assert ask("2026-03-05T09:30:00-05:00", visit) == HOME
    assert ask("2026-03-05T20:00:00-05:00", visit, names="e1") == FACILITY
    assert ask("2026-03-05", visit, names="e1") == FACILITY
    assert ask("2026-03-05", visit) == HOME


@pytest.mark.parametrize("day", ["2026-03-04", "2026-03-06", "2026-04-20"])
def test_what_names_a_visit_of_another_day_counts_and_its_place_is_asked(day: str, ask: Ask) -> None:
    visit = encounter("AMB", "2026-03-05T09:00:00-05:00", "2026-03-05T09:30:00-05:00")
    assert ask(day, visit, names="e1") == UNVERIFIED
    assert ask(f"{day}T09:10:00-05:00", visit, names="e1") == UNVERIFIED


def test_what_names_a_visit_of_another_day_and_lies_in_a_second_one_was_taken_there(ask: Ask) -> None:
    first = encounter("AMB", "2026-03-05T09:00:00-05:00", "2026-03-05T09:30:00-05:00")
    second = encounter("AMB", "2026-03-09T09:00:00-04:00", "2026-03-09T09:30:00-04:00", id="e2")
    stay = encounter("IMP", "2026-03-11", "2026-03-12", id="e3")
    assert ask("2026-03-09T09:10:00-04:00", first, second, names="e1") == FACILITY
    assert ask("2026-03-11T09:10:00-04:00", first, second, stay, names="e1") == FACILITY
    assert ask("2026-03-09T19:10:00-04:00", first, second, names="e1") == UNVERIFIED


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("2026-03-05", None),
        ("2026-03-05", "2026-03-05"),
        ("2026-03-05T09:00:00-05:00", None),
        ("2026-03-05T09:00:00-05:00", "2026-03-05"),
        (None, "2026-03-05T09:30:00-05:00"),
        ("2026-03-05T09:00:00-05:00", "2026-03-05T08:00:00-05:00"),
    ],
    ids=["date", "dates", "endless", "date-as-end", "end-alone", "backwards"],
)
def test_a_visit_of_which_only_the_day_is_known_excludes_what_names_it_on_that_day(
    start: str | None, end: str | None, ask: Ask
) -> None:
    visit = encounter("AMB", start, end)
    assert ask("2026-03-05T20:00:00-05:00", visit) == HOME
    assert ask("2026-03-05T09:10:00-05:00", visit) == HOME
    assert ask("2026-03-05T20:00:00-05:00", visit, names="e1") == FACILITY
    assert ask("2026-03-06T09:10:00-05:00", visit, names="e1") == UNVERIFIED
    assert ask("2026-09-06T09:10:00-05:00", visit) == HOME


def test_what_names_a_visit_without_any_date_was_taken_there(ask: Ask) -> None:
    assert ask("2026-03-05T20:00:00-05:00", encounter("AMB"), names="e1") == FACILITY
    assert ask("2026-03-05T20:00:00-05:00", encounter("AMB")) == HOME


def test_a_container_of_the_whole_day_is_no_time_in_the_clinic(ask: Ask) -> None:
    container = encounter("AMB", "2026-03-05T00:00:00-05:00", "2026-03-05T23:59:59-05:00")
    assert ask("2026-03-05T20:00:00-05:00", container) == HOME
    assert ask("2026-03-05T20:00:00-05:00", container, names="e1") == FACILITY
    assert ask("2026-03-06T20:00:00-05:00", container, names="e1") == UNVERIFIED


@pytest.mark.parametrize(
    ("end", "where"),
    [
        ("2026-03-05T22:59:59-05:00", FACILITY),
        ("2026-03-05T23:00:00-05:00", HOME),
        ("2026-03-05T23:00:01-05:00", HOME),
    ],
)
def test_a_visit_of_18_hours_is_its_days_not_the_time_in_the_clinic(end: str, where: str, ask: Ask) -> None:
    assert ask("2026-03-05T12:00:00-05:00", encounter("AMB", "2026-03-05T05:00:00-05:00", end)) == where


@pytest.mark.parametrize(
    ("zone", "start", "end", "where"),
    [
        # 17 hours, since the clocks skip one
        ("America/New_York", "2026-03-08T00:00:00-05:00", "2026-03-08T18:00:00-04:00", FACILITY),
        # 18 hours, since an hour comes twice
        ("America/New_York", "2026-11-01T00:00:00-04:00", "2026-11-01T17:00:00-05:00", HOME),
        ("America/New_York", "2026-11-01T00:00:00-04:00", "2026-11-01T16:59:59-05:00", FACILITY),
    ],
)
def test_18_hours_are_elapsed_hours(zone: str, start: str, end: str, where: str, ask: Ask) -> None:
    assert ask(f"{start[:10]}T12:00:00{end[-6:]}", encounter("AMB", start, end), zone=zone) == where


@pytest.mark.parametrize(
    ("end", "where"),
    [
        ("2026-03-06T00:00:00-05:00", FACILITY),  # the end is exclusive
        ("2026-03-06T00:00:01-05:00", HOME),
        ("2026-03-06T02:00:00-05:00", HOME),
    ],
)
def test_a_visit_over_midnight_excludes_only_what_names_it(end: str, where: str, ask: Ask) -> None:
    visit = encounter("AMB", "2026-03-05T22:00:00-05:00", end)
    assert ask("2026-03-05T23:00:00-05:00", visit) == where
    assert ask("2026-03-05T08:00:00-05:00", visit, names="e1") == FACILITY
    following = FACILITY if where == HOME else UNVERIFIED
    assert ask("2026-03-06T08:00:00-05:00", visit, names="e1") == following


def test_a_visits_local_day_is_the_sites(ask: Ask) -> None:
    visit = encounter("AMB", "2026-03-06T01:00:00Z", "2026-03-06T01:30:00Z")
    assert ask("2026-03-05T09:00:00-05:00", visit, names="e1") == FACILITY
    assert ask("2026-03-06T09:00:00-05:00", visit, names="e1") == UNVERIFIED
    assert ask("2026-03-06T04:59:59Z", visit, names="e1") == FACILITY
    assert ask("2026-03-06T05:00:00Z", visit, names="e1") == UNVERIFIED


# -- a series --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("system", "code"), VISITS)
@pytest.mark.parametrize(
    "end", ["2026-06-30T17:00:00-04:00", "2026-03-06T08:00:01-05:00"], ids=["months", "a-day-and-a-second"]
)
def test_what_names_a_series_counts_and_its_place_is_asked(
    system: str, code: str, end: str, ask: Ask
) -> None:
    series = encounter(code, "2026-03-05T08:00:00-05:00", end, system=system)
    for at in ("2026-03-05T09:00:00-05:00", "2026-03-05", "2026-03-06T07:00:00-05:00", "2026-04-01"):
        assert ask(at, series, names="e1") == UNVERIFIED
        assert ask(at, series) == HOME


def test_a_day_is_no_series(ask: Ask) -> None:
    visit = encounter("AMB", "2026-03-05T08:00:00-05:00", "2026-03-06T08:00:00-05:00")
    assert ask("2026-03-05T09:00:00-05:00", visit, names="e1") == FACILITY
    assert ask("2026-03-06T09:00:00-05:00", visit, names="e1") == FACILITY
    assert ask("2026-03-07T09:00:00-05:00", visit, names="e1") == UNVERIFIED


@pytest.mark.parametrize("status", ["in-progress", "arrived", "triaged", "onleave", "unknown"])
def test_what_names_a_visit_that_was_never_closed_counts_and_its_place_is_asked(
    status: str, ask: Ask
) -> None:
    for start in ("2026-03-05T08:00:00-05:00", "2026-03-05", None):
        open_visit = encounter("AMB", start, status=status)
        assert ask("2026-03-05T09:00:00-05:00", open_visit, names="e1") == UNVERIFIED
        assert ask("2026-03-09T09:00:00-04:00", open_visit, names="e1") == UNVERIFIED
        assert ask("2026-03-09T09:00:00-04:00", open_visit) == HOME


def test_a_visit_within_a_series_is_a_visit(ask: Ask) -> None:
    series = encounter("AMB", "2026-03-01", "2026-06-30")
    session = encounter("AMB", "2026-03-05T08:00:00-05:00", "2026-03-05T08:45:00-05:00", id="e2")
    assert ask("2026-03-05T08:30:00-05:00", series, session, names="e1") == FACILITY
    assert ask("2026-03-05T18:30:00-05:00", series, session, names="e1") == UNVERIFIED


@pytest.mark.parametrize(
    ("zone", "start", "end", "longer"),
    [
        ("America/New_York", "2026-03-05T00:00:00-05:00", "2026-03-06T00:00:00-05:00", False),
        ("America/New_York", "2026-03-05T00:00:00-05:00", "2026-03-06T00:00:01-05:00", True),
        ("America/New_York", "2026-03-05", "2026-03-05", False),
        ("America/New_York", "2026-03-05", "2026-03-06", True),
        # the day of 25 hours is a day
        ("America/New_York", "2026-11-01", "2026-11-01", False),
        ("America/New_York", "2026-11-01T00:00:00-04:00", "2026-11-01T23:59:59-05:00", False),
        ("America/New_York", "2026-10-31T12:00:00-04:00", "2026-11-01T12:00:00-05:00", True),
        # and the day of 23 hours no shorter one
        ("America/New_York", "2026-03-08T08:00:00-04:00", "2026-03-09T08:00:00-04:00", False),
        ("America/New_York", "2026-03-08T00:00:00-05:00", "2026-03-09T01:00:00-04:00", False),
        ("America/New_York", "2026-03-08T00:00:00-05:00", "2026-03-09T01:00:01-04:00", True),
        ("Asia/Kolkata", "2026-03-05T00:00:00+05:30", "2026-03-06T00:00:00+05:30", False),
    ],
)
def test_longer_than_a_day(zone: str, start: str, end: str, longer: bool) -> None:
    clock = LocalClock(ZoneInfo(zone))
    extent = extent_of(Period(start, end), None, clock)
    assert extent.is_longer_than_a_day(clock) is longer
    assert extent.start is not None
    assert extent.end is not None
    assert is_longer_than_a_day(extent.start, extent.end, clock) is longer


# -- a class that nobody knows -----------------------------------------------------------------------------

UNKNOWN = [
    {"system": VENDOR, "code": "9"},
    {"system": V2, "code": "U"},
    {"system": DSTU2, "code": "other"},
    {"system": NULL_FLAVOR, "code": "UNK"},
    {"display": "Hospital"},
    None,
]


def unknown(class_: Resource | None, *period: str | None, **changes: Any) -> Resource:
    return encounter(None, *period, **{"class": class_}, **changes)


@pytest.mark.parametrize("class_", UNKNOWN)
def test_a_class_that_nobody_knows_may_have_been_a_stay_if_it_was_over_night(
    class_: Resource | None, ask: Ask
) -> None:
    for start, end in [
        ("2026-03-05T14:00:00-05:00", "2026-03-08T09:00:00-04:00"),
        ("2026-03-05T23:00:00-05:00", "2026-03-06T00:00:01-05:00"),
        ("2026-03-05", "2026-03-06"),
    ]:
        overnight = unknown(class_, start, end)
        assert ask("2026-03-05T23:30:00-05:00", overnight) == UNCLEAR
        assert ask("2026-03-20T23:30:00-05:00", overnight) == HOME
        assert ask("2026-03-20T23:30:00-05:00", overnight, names="e1") == UNCLEAR
    assert ask("2026-03-06", unknown(class_, "2026-03-05", "2026-03-06")) == UNCLEAR


@pytest.mark.parametrize("class_", UNKNOWN)
@pytest.mark.parametrize("status", ["in-progress", "finished"])
def test_what_names_an_encounter_of_unknown_class_that_has_no_end_is_unclear(
    class_: Resource | None, status: str, ask: Ask
) -> None:
    open_one = unknown(class_, "2026-03-05T14:00:00-05:00", status=status)
    assert ask("2026-03-06T08:00:00-05:00", open_one) == HOME
    assert ask("2026-03-06T08:00:00-05:00", open_one, names="e1") == UNCLEAR


@pytest.mark.parametrize("class_", UNKNOWN)
@pytest.mark.parametrize(
    "period",
    [
        ("2026-03-05T14:00:00-05:00", "2026-03-05T15:00:00-05:00"),
        ("2026-03-05T14:00:00-05:00", "2026-03-06T00:00:00-05:00"),
        ("2026-03-05", "2026-03-05"),
        (),
    ],
    ids=["an-hour", "until-midnight", "a-day", "no-period"],
)
def test_what_names_an_encounter_of_unknown_class_within_a_day_counts_and_its_place_is_asked(
    class_: Resource | None, period: tuple[str, ...], ask: Ask
) -> None:
    short = unknown(class_, *period)
    assert ask("2026-03-05T14:30:00-05:00", short) == HOME
    assert ask("2026-03-05T14:30:00-05:00", short, names="e1") == UNVERIFIED


def test_what_is_known_of_a_place_outweighs_what_is_not(ask: Ask) -> None:
    maybe = encounter("9", "2026-03-05T14:00:00-05:00", "2026-03-08T09:00:00-04:00", system=VENDOR)
    stay = encounter("IMP", "2026-03-06T14:00:00-05:00", "2026-03-07T09:00:00-05:00", id="e2")
    series = encounter("AMB", "2026-01-01", "2026-06-30", id="e3")
    assert ask("2026-03-06T20:00:00-05:00", maybe, stay) == FACILITY
    assert ask("2026-03-06T08:00:00-05:00", maybe, stay) == UNCLEAR
    assert ask("2026-03-06T08:00:00-05:00", maybe, series, names="e3") == UNCLEAR


def test_what_would_not_count_at_home_is_no_doubt_of_the_place(ask: Ask) -> None:
    maybe = encounter("9", "2026-03-05T14:00:00-05:00", "2026-03-08T09:00:00-04:00", system=VENDOR)
    assert ask("2026-03-06T08:00:00-05:00", maybe, device=None) == "no-device"


@given(
    st.lists(
        st.tuples(
            st.sampled_from([Where.UNCLEAR, Where.IN_FACILITY]),
            st.integers(0, 6),
            st.one_of(st.none(), st.integers(0, 6)),
        ),
        max_size=6,
    ),
    st.booleans(),
)
def test_by_time_the_answer_is_the_worst_that_any_encounter_says(
    told: list[tuple[Where, int, int | None]], undated: bool
) -> None:
    noon = 1_772_730_000 * 1_000_000
    said = [
        Presence(where, timed=where, span=(noon + start, None if length is None else noon + start + length))
        for where, start, length in told
    ]
    if undated:
        said.append(Presence(Where.IN_FACILITY, undated=True))
    by_time = places_by_time(said, LocalClock(ZoneInfo("America/New_York")))
    for at in range(noon - 1, noon + 14):
        expected = max(
            (one.timed for one in said if one.span[0] <= at and (one.span[1] is None or at < one.span[1])),
            default=Where.HOME,
        )
        if undated:
            expected = max(expected, Where.UNVERIFIED)
        assert (Where.HOME if by_time is None else by_time(measured(at))) is expected


def measured(at: int) -> Any:
    return SimpleNamespace(instant=at, date_only=False)


# -- no place at all -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("system", "code"), [(ACT, "HH"), (ACT, "VR"), (ACT, "FLD"), (DSTU2, "home"), (DSTU2, "virtual")]
)
@pytest.mark.parametrize("end", ["2026-03-05T11:00:00-05:00", "2026-03-15T11:00:00-04:00", None])
def test_at_home_in_the_field_and_over_the_phone_is_no_facility(
    system: str, code: str, end: str | None, ask: Ask
) -> None:
    elsewhere = encounter(code, "2026-03-05T08:00:00-05:00", end, system=system)
    assert ask("2026-03-05T09:00:00-05:00", elsewhere) == HOME
    assert ask("2026-03-05T09:00:00-05:00", elsewhere, names="e1") == HOME


@pytest.mark.parametrize(
    "type_",
    [
        of_type("CALL"),
        of_type("REVIEW"),
        of_type("MESSAGE"),
        of_type("ADMIN"),
        of_type("448337001", SNOMED),
        of_type("185317003", SNOMED),
        of_type("99490", "http://www.ama-assn.org/go/cpt"),
    ],
)
@pytest.mark.parametrize(("system", "code"), [(ACT, "AMB"), (V2, "R"), (ACT, "IMP"), (VENDOR, "9")])
def test_an_encounter_that_was_a_call_or_desk_work_excludes_nothing(
    type_: list[Resource], system: str, code: str, ask: Ask
) -> None:
    for end in ("2026-03-05T09:30:00-05:00", "2026-03-31T23:59:59-04:00", None):
        work = encounter(code, "2026-03-05T09:00:00-05:00", end, system=system, type=type_)
        assert ask("2026-03-05T09:10:00-05:00", work) == HOME
        assert ask("2026-03-05T09:10:00-05:00", work, names="e1") == HOME


@pytest.mark.parametrize("type_", [of_type("SETUP"), of_type("SEEN"), of_type("185349003", SNOMED)])
def test_teaching_and_visits_took_place_where_their_class_says(type_: list[Resource], ask: Ask) -> None:
    seen = encounter("AMB", "2026-03-05T09:00:00-05:00", "2026-03-05T09:30:00-05:00", type=type_)
    assert ask("2026-03-05T09:10:00-05:00", seen) == FACILITY
    assert ask("2026-03-05T20:10:00-05:00", seen, names="e1") == FACILITY


def test_a_call_that_was_also_a_visit_was_a_visit(ask: Ask) -> None:
    both = [*of_type("448337001", SNOMED), *of_type("185349003", SNOMED)]
    seen = encounter("AMB", "2026-03-05T09:00:00-05:00", "2026-03-05T09:30:00-05:00", type=both)
    assert ask("2026-03-05T09:10:00-05:00", seen) == FACILITY


def test_an_encounter_that_the_reading_contains_is_read(ask: Ask) -> None:
    stay = encounter("IMP", "2026-03-05T14:00:00-05:00", id="inner")
    visit = encounter("AMB", "2026-03-04T09:00:00-05:00", "2026-03-04T09:30:00-05:00", id="inner")
    home = encounter("HH", id="inner")
    inside = {"encounter": {"reference": "#inner"}}
    assert ask("2026-03-05T09:10:00-05:00", **inside, contained=[stay]) == FACILITY
    assert ask("2026-03-05T09:10:00-05:00", **inside, contained=[visit]) == UNVERIFIED
    assert ask("2026-03-05T09:10:00-05:00", **inside, contained=[home]) == HOME
    assert ask("2026-03-05T09:10:00-05:00", **inside, contained=[]) == UNVERIFIED


def test_an_encounter_that_was_not_read_leaves_the_place_open(ask: Ask) -> None:
    assert ask("2026-03-05T09:10:00-05:00", names="elsewhere") == UNVERIFIED


# -- a stay within a visit ---------------------------------------------------------------------------------


def once(code: str, start: str | None = None, end: str | None = None) -> Resource:
    period = {name: at for name, at in (("start", start), ("end", end)) if at}
    return {"class": {"system": ACT, "code": code}, **({"period": period} if period else {})}


ADMITTED = "2026-03-03T20:00:00-05:00"
DISCHARGED = "2026-03-06T10:00:00-05:00"
DURING, AFTER = "2026-03-05T08:00:00-05:00", "2026-03-08T08:00:00-05:00"
SERIES = ("2026-03-01T08:00:00-05:00", "2026-03-20T18:00:00-04:00")


@pytest.mark.parametrize("now", ["AMB", "HH"])
@pytest.mark.parametrize("then", ["IMP", "EMER", "OBSENC"])
def test_a_reading_while_the_encounter_was_a_stay_was_taken_there(now: str, then: str, ask: Ask) -> None:
    was = encounter(now, *SERIES, classHistory=[once(then, ADMITTED, DISCHARGED), once("AMB")])
    assert ask(DURING, was) == FACILITY
    assert ask(AFTER, was) == HOME
    assert ask(DURING, was, names="e1") == FACILITY


def test_a_stay_whose_end_is_not_said_ends_with_its_encounter(ask: Ask) -> None:
    was = encounter("AMB", *SERIES, classHistory=[once("IMP", ADMITTED)])
    assert ask(DURING, was) == FACILITY
    assert ask("2026-03-25T08:00:00-04:00", was) == HOME


def test_a_stay_of_nobody_knows_when_leaves_it_open(ask: Ask) -> None:
    assert ask(DURING, encounter("AMB", *SERIES, classHistory=[once("IMP")])) == UNVERIFIED


def test_a_former_class_that_is_no_stay_says_nothing(ask: Ask) -> None:
    was = encounter("HH", *SERIES, classHistory=[once("AMB", ADMITTED, DISCHARGED)])
    assert ask(DURING, was) == HOME
