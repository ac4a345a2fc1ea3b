"""What is one reading, and what is another (D18, D28)."""

from __future__ import annotations

from datetime import date
from itertools import permutations
from typing import Any

import pytest


def identified(blood_pressure, id: str, day: int, value: str | None = "1", **changes: Any) -> dict[str, Any]:
    identifier = {} if value is None else {"identifier": [{"system": "urn:filler", "value": value}]}
    at = f"2026-03-{day:02}T08:00:00-05:00"
    return blood_pressure(id, effectiveDateTime=at, **identifier, **changes)


def counted(record) -> dict[str, date]:
    return {reading.resource.removeprefix("Observation/"): reading.day for reading in record.readings}


@pytest.mark.parametrize(
    ("instants", "counts"),
    [(1, 1), (2, 1), (3, 3), (16, 16)],
)
def test_an_identifier_of_three_instants_or_more_is_an_orders(read, blood_pressure, cuff, instants, counts):
    record = read(*(identified(blood_pressure, f"o{n}", n) for n in range(1, instants + 1)), cuff())
    assert len(record.readings) == counts


def test_two_ids_of_one_identifier_and_time_are_one_reading(read, blood_pressure, cuff):
    record = read(identified(blood_pressure, "a", 5), identified(blood_pressure, "b", 5), cuff())
    assert len(record.readings) == 1
    assert [entry.reason for entry in record.excluded] == ["duplicate"]


def test_of_a_reading_and_its_correction_the_newer_counts_on_its_own_day(read, blood_pressure, cuff):
    early = identified(blood_pressure, "a", 5, meta={"lastUpdated": "2026-03-09T08:00:00Z"})
    late = identified(blood_pressure, "b", 7, meta={"lastUpdated": "2026-03-08T08:00:00Z"})
    for order in permutations([early, late, cuff()]):
        assert counted(read(*order)) == {"a": date(2026, 3, 5)}


def test_where_nobody_says_when_they_were_stored_the_later_one_counts(read, blood_pressure, cuff):
    given = [
        identified(blood_pressure, "a", 5, meta={"lastUpdated": "2026-03-09T08:00:00Z"}),
        identified(blood_pressure, "b", 7),
    ]
    for order in permutations(given):
        assert counted(read(*order, cuff())) == {"b": date(2026, 3, 7)}


def test_readings_sent_again_under_new_ids_are_duplicates_whatever_their_dates(read, blood_pressure, cuff):
    first = [identified(blood_pressure, f"o{n}", n, str(n)) for n in range(1, 9)]
    again = [identified(blood_pressure, f"r{n}", n + 12, str(n)) for n in range(1, 9)]
    record = read(*first, *again, cuff())
    assert sorted(day.day for day in counted(record).values()) == list(range(13, 21))
    assert len(record.excluded) == 8


def test_what_shares_one_identifier_with_each_of_two_is_the_same_as_both(read, blood_pressure, cuff):
    def both(*values: str) -> dict[str, Any]:
        return {"identifier": [{"system": "urn:filler", "value": value} for value in values]}

    record = read(
        {**identified(blood_pressure, "a", 5), **both("1")},
        {**identified(blood_pressure, "b", 6), **both("1", "2")},
        {**identified(blood_pressure, "c", 7), **both("2")},
        cuff(),
    )
    assert counted(record) == {"c": date(2026, 3, 7)}


def test_an_identifier_without_a_value_says_nothing(read, blood_pressure, cuff):
    given = [{**blood_pressure(f"o{n}"), "identifier": [{"system": "urn:filler"}]} for n in (1, 2)]
    given[1]["effectiveDateTime"] = "2026-03-06T08:00:00-05:00"
    assert len(read(*given, cuff()).readings) == 2


def test_one_reading_of_several_moments_is_no_duplicate_of_itself(read, blood_pressure, cuff):
    several = identified(blood_pressure, "a", 5, effectiveTiming={"event": ["2026-03-05", "2026-03-06"]})
    several["effectiveDateTime"] = None
    record = read(several, identified(blood_pressure, "b", 9, "2"), cuff())
    assert sorted(day.day for day in (reading.day for reading in record.readings)) == [5, 6, 9]


def test_the_same_value_at_the_same_time_is_one_reading_without_any_identifier(read, blood_pressure, cuff):
    record = read(identified(blood_pressure, "a", 5, None), identified(blood_pressure, "b", 5, None), cuff())
    assert counted(record) == {"a": date(2026, 3, 5)}


REPLACES = "http://hl7.org/fhir/StructureDefinition/observation-replaces"


def replacing(*references: str) -> dict[str, Any]:
    return {"extension": [{"url": REPLACES, "valueReference": {"reference": one}} for one in references]}


@pytest.mark.parametrize("reference", ["Observation/a", "https://ehr.example/fhir/Observation/a/_history/2"])
def test_a_reading_that_says_it_replaces_another_counts_alone(read, blood_pressure, cuff, reference):
    old = identified(blood_pressure, "a", 5, None)
    for day in (3, 7):
        for order in permutations([old, identified(blood_pressure, "b", day, None, **replacing(reference))]):
            record = read(*order, cuff())
            assert counted(record) == {"b": date(2026, 3, day)}
            assert [(entry.resource, entry.reason) for entry in record.excluded] == [
                ("Observation/a", "duplicate")
            ]


def test_of_readings_replaced_one_after_the_other_the_last_counts(read, blood_pressure, cuff):
    record = read(
        identified(blood_pressure, "a", 5, None),
        identified(blood_pressure, "b", 6, None, **replacing("Observation/a")),
        identified(blood_pressure, "c", 7, None, **replacing("Observation/b")),
        cuff(),
    )
    assert counted(record) == {"c": date(2026, 3, 7)}


@pytest.mark.parametrize(
    "changes",
    [
        {"status": "entered-in-error", **replacing("Observation/a")},
        replacing("Observation/z"),
        {"extension": [{"url": REPLACES, "valueReference": {"display": "the one before"}}]},
        {"extension": [{"url": REPLACES, "valueString": "Observation/a"}]},
        {"extension": {"url": REPLACES}},
        {"extension": [{"url": f"{REPLACES}-not", "valueReference": {"reference": "Observation/a"}}]},
    ],
)
def test_what_replaces_nothing_that_is_known_leaves_a_reading(read, blood_pressure, cuff, changes):
    record = read(
        identified(blood_pressure, "a", 5, None), identified(blood_pressure, "b", 7, None, **changes), cuff()
    )
    assert "a" in counted(record)


def test_a_device_that_is_referred_to_in_two_ways_is_one_for_what_was_sent_twice(read, blood_pressure, cuff):
    record = read(
        blood_pressure("a"),
        blood_pressure("b", device={"reference": "https://ehr.example/fhir/Device/cuff"}),
        cuff(),
    )
    assert len(record.readings) == 1
    assert [entry.reason for entry in record.excluded] == ["duplicate"]
