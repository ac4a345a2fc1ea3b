"""A record in words: the local day and time, what it says with its unit, by which device or people."""

from __future__ import annotations

from datetime import date
from zoneinfo import ZoneInfo

import pytest

from fhir_mappings.local_time import LocalClock
from fhir_mappings.record import Excluded
from fhir_mappings.vocabulary import ExcludedReason
from smartapp.ehr.reading.seen import MOST_OF_A_REASON, Names, Seen, described, seen

CLOCK = LocalClock(ZoneInfo("America/New_York"))


def observation(**more):
    return {"resourceType": "Observation", "code": {"text": "Home blood pressure"}, **more}


def parts(*values):
    return [{"valueQuantity": {"value": value, "unit": unit}} for value, unit in values]


@pytest.mark.parametrize(
    ("said", "value"),
    [
        ({"valueQuantity": {"value": 24, "unit": "min"}}, "24 min"),
        ({"valueQuantity": {"value": 24, "code": "mm[Hg]"}}, "24 mm[Hg]"),
        ({"component": parts((133, "mmHg"), (78, "mmHg"))}, "133/78 mmHg"),
        ({"component": parts((133, "mmHg"), (70, "/min"))}, "133 mmHg / 70 /min"),
        ({"valueString": "done"}, "done"),
        ({"valueBoolean": True}, "True"),
        ({"valueCodeableConcept": {"text": "yes, all of it"}}, "yes, all of it"),
        ({}, ""),
        ({"component": "none"}, ""),
    ],
)
def test_a_value_is_told_with_its_unit(said, value):
    assert seen(observation(**said), CLOCK, Names()).value == value


def test_day_and_time_are_those_of_the_site_not_of_the_record():
    told = seen(observation(effectiveDateTime="2026-11-02T03:30:00Z"), CLOCK, Names())
    assert (told.day, told.time) == (date(2026, 11, 1), "22:30")


def test_a_record_of_a_day_alone_has_no_time():
    told = seen(observation(effectiveDateTime="2026-11-02"), CLOCK, Names())
    assert (told.day, told.time) == (date(2026, 11, 2), "")


@pytest.mark.parametrize("when", [None, "2026-11", "yesterday", 7])
def test_a_record_without_a_day_says_the_rest(when):
    told = seen(observation(effectiveDateTime=when, valueString="done"), CLOCK, Names())
    assert told == Seen("Home blood pressure", "done")


def test_the_device_is_called_by_its_own_name_before_what_the_reading_calls_it():
    names = Names()
    names.add("Device/d1", {"resourceType": "Device", "deviceName": [{"name": "A cuff"}]})
    reading = observation(device={"reference": "Device/d1", "display": "something"})
    assert seen(reading, CLOCK, names).by == ("A cuff",)
    absolute = observation(device={"reference": "https://ehr.example/fhir/Device/d1"})
    assert seen(absolute, CLOCK, names).by == ("A cuff",)
    unknown = observation(device={"reference": "Device/d2", "display": "something"})
    assert seen(unknown, CLOCK, names).by == ("something",)
    assert seen(observation(device={"reference": "Device/d2"}), CLOCK, names).by == ()


def test_a_contact_has_its_people_each_once_and_seconds_only_where_there_are_any():
    names = Names()
    names.add("Practitioner/n", {"resourceType": "Practitioner", "name": [{"text": "Casey Nurse"}]})
    told = seen(
        {
            "resourceType": "Encounter",
            "type": [{"text": "Call"}],
            "participant": [
                {"individual": {"reference": "Practitioner/n"}},
                {"individual": {"reference": "Practitioner/n", "display": "C. N."}},
                {"individual": {"display": "Somebody else"}},
            ],
            "period": {"start": "2026-11-02T10:00:00-05:00", "end": "2026-11-02T10:19:59-05:00"},
        },
        CLOCK,
        names,
    )
    assert told.time == "10:00 to 10:19:59"
    assert told.by == ("Casey Nurse", "Somebody else")


def test_of_one_reason_a_bounded_number_is_put_into_words_and_none_of_another_patients():
    many = [Excluded(f"Observation/{n}", ExcludedReason.NO_VALUE) for n in range(MOST_OF_A_REASON + 5)]
    others = [Excluded("Observation/x", ExcludedReason.OTHER_PATIENT)]
    found = set(described([*others, *many]))
    assert len(found) == MOST_OF_A_REASON
    assert "Observation/x" not in found
