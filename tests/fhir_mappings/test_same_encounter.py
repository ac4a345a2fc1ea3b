"""Encounters that are one, recorded twice (D31)."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from fhir_mappings.record import PatientRecord

Resource = dict[str, Any]
Read = Callable[..., PatientRecord]
MINUTE = 60 * 1_000_000
NUMBER = {"system": "urn:clinic:visit-number", "value": "9"}


def call(id: str, start: str = "10:00", end: str | None = "10:12", **changes: Any) -> Resource:
    """On 10 March, at these times of day."""
    period = {"start": f"2026-03-10T{start}:00-04:00"} | (
        {"end": f"2026-03-10T{end}:00-04:00"} if end else {}
    )
    resource: Resource = {
        "resourceType": "Encounter",
        "id": id,
        "status": "finished",
        "identifier": [NUMBER],
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "VR"},
        "type": [{"coding": [{"system": "urn:clinic:visit", "code": "CALL"}]}],
        "subject": {"reference": "Patient/p1"},
        "period": period,
        **changes,
    }
    return {key: value for key, value in resource.items() if value is not None}


@pytest.fixture
def told(read: Read) -> Callable[..., dict[str, Any]]:
    """What these Encounters say, whatever their order."""

    def tell(*resources: Resource) -> dict[str, Any]:
        answers = []
        for order in itertools.permutations(resources):
            record = read(*order)
            answers.append(
                {
                    "minutes": [
                        (time.resource, (time.end - time.start) / MINUTE)
                        for time in record.management
                        if time.doubt is None
                    ],
                    "in_doubt": [
                        (time.resource, (time.end - time.start) / MINUTE)
                        for time in record.management
                        if time.doubt is not None
                    ],
                    "contacts": [contact.resource for contact in record.contacts],
                    "two_times": sorted(record.two_times),
                    "left_out": {entry.resource: str(entry.reason) for entry in record.excluded},
                }
            )
        assert all(answer == answers[0] for answer in answers)
        return answers[0]

    return tell


Told = Callable[..., dict[str, Any]]


def test_with_the_same_time_they_are_one_call(told: Told) -> None:
    found = told(call("a"), call("b"), call("c"))
    assert found == {
        "minutes": [("Encounter/a", 12)],
        "in_doubt": [],
        "contacts": ["Encounter/a"],
        "two_times": [],
        "left_out": {"Encounter/b": "duplicate", "Encounter/c": "duplicate"},
    }


def test_of_two_times_the_shorter_counts_and_the_other_is_in_doubt(told: Told) -> None:
    found = told(call("a", end="10:25"), call("b", end="10:12"), call("c", end="10:20"))
    assert found == {
        "minutes": [("Encounter/b", 12)],
        "in_doubt": [("Encounter/b", 25)],
        "contacts": ["Encounter/b"],
        "two_times": ["Encounter/b"],
        "left_out": {"Encounter/a": "duplicate", "Encounter/c": "duplicate"},
    }


def test_as_long_but_at_another_hour_is_another_time(told: Told) -> None:
    found = told(call("a"), call("b", "15:00", "15:12"))
    assert found["minutes"] == [("Encounter/a", 12)]
    assert found["two_times"] == ["Encounter/a"]


@pytest.mark.parametrize(
    ("shorter_at", "minutes", "in_doubt", "left_out"),
    [
        ("10:00", [("Encounter/a", 12)], [], {"Encounter/b": "duplicate"}),
        (
            *("15:00", [], [("Encounter/a", 20)]),
            {"Encounter/a": "after-death", "Encounter/b": "duplicate"},
        ),
    ],
    ids=["the longer one began after death", "the shorter one did"],
)
def test_of_two_times_one_after_death_leaves_the_other_as_it_was(
    told: Told, shorter_at: str, minutes: object, in_doubt: object, left_out: object
) -> None:
    died = {"resourceType": "Patient", "id": "p1", "deceasedDateTime": "2026-03-10T14:00:00-04:00"}
    shorter = call("a", shorter_at, shorter_at[:3] + "12")
    longer = call("b", *(("15:00", "15:20") if shorter_at == "10:00" else ("10:00", "10:20")))
    found = told(died, shorter, longer)
    assert (found["minutes"], found["in_doubt"]) == (minutes, in_doubt)
    assert found["two_times"] == ["Encounter/a"]
    assert {name: why for name, why in found["left_out"].items() if name != "Patient/p1"} == left_out


def test_one_that_has_a_length_counts_before_one_that_has_none(told: Told) -> None:
    found = told(call("a", end=None), call("b"))
    assert found["minutes"] == [("Encounter/b", 12)]
    assert found["two_times"] == []


def test_one_that_lasts_implausibly_long_leaves_the_other(told: Told) -> None:
    found = told(call("a", end="20:00"), call("b"))
    assert found["minutes"] == [("Encounter/b", 12)]
    assert found["in_doubt"] == [("Encounter/b", 600)]


@pytest.mark.parametrize("status", ["planned", "cancelled", "entered-in-error"])
def test_what_never_took_place_is_no_second_paper(status: str, told: Told) -> None:
    found = told(call("a", end="10:05", status=status), call("b"))
    assert found["minutes"] == [("Encounter/b", 12)]
    assert found["left_out"] == {"Encounter/a": status}


def test_a_running_copy_of_what_is_finished_is_not_running(told: Told) -> None:
    found = told(call("a", end=None, status="in-progress"), call("b"))
    assert found["minutes"] == [("Encounter/b", 12)]
    assert found["left_out"] == {"Encounter/a": "duplicate"}


def test_what_is_dated_after_the_day_of_the_question_is_no_second_paper(told: Told) -> None:
    later = {"start": "2026-04-02T10:00:00-04:00", "end": "2026-04-02T10:01:00-04:00"}
    found = told(call("a"), call("b", period=later))
    assert found["minutes"] == [("Encounter/a", 12)]
    assert found["left_out"] == {"Encounter/b": "after-as-of"}


@pytest.mark.parametrize(
    "others",
    [
        None,
        [{"system": "urn:clinic:visit-number", "value": "8"}],
        [{"system": "urn:clinic:other", "value": "9"}],
        [{"value": "9"}],
        [{"system": "urn:clinic:visit-number"}],
    ],
)
def test_another_number_is_another_call(others: list[Resource] | None, told: Told) -> None:
    found = told(call("a"), call("b", "15:00", "15:10", identifier=others))
    assert found["minutes"] == [("Encounter/a", 12), ("Encounter/b", 10)]
    assert found["left_out"] == {}


def test_a_number_without_a_system_is_a_number(told: Told) -> None:
    plain = [{"value": "9"}]
    assert told(call("a", identifier=plain), call("b", identifier=plain))["left_out"] == {
        "Encounter/b": "duplicate"
    }


def test_a_system_alone_is_no_number(told: Told) -> None:
    nothing = [{"system": "urn:clinic:visit-number"}]
    assert told(call("a", identifier=nothing), call("b", identifier=nothing))["left_out"] == {}


def test_whoever_shares_a_number_with_a_copy_is_one_too(told: Told) -> None:
    other = {"system": "urn:hospital", "value": "X"}
    found = told(call("a"), call("b", identifier=[NUMBER, other]), call("c", identifier=[other]))
    assert found["minutes"] == [("Encounter/a", 12)]


def test_a_number_that_three_different_beginnings_share_is_nobodys_own(told: Told) -> None:
    found = told(call("a"), call("b", "11:00", "11:10"), call("c", "12:00", "12:08"))
    assert [minutes for _, minutes in found["minutes"]] == [12, 10, 8]
    assert found["left_out"] == {}


def test_a_number_that_three_papers_with_two_beginnings_share_is_their_own(told: Told) -> None:
    found = told(call("a"), call("b"), call("c", "12:00", "12:08"))
    assert found["minutes"] == [("Encounter/c", 8)]
    assert found["two_times"] == ["Encounter/c"]


def test_beside_an_orders_number_their_own_still_tells(told: Told) -> None:
    order = {"system": "urn:orders", "value": "1"}
    found = told(
        call("a", identifier=[order, NUMBER]),
        call("b", identifier=[order, NUMBER]),
        call("c", "11:00", "11:10", identifier=[order]),
        call("d", "12:00", "12:10", identifier=[order]),
    )
    assert [name for name, _ in found["minutes"]] == ["Encounter/a", "Encounter/c", "Encounter/d"]
    assert found["left_out"] == {"Encounter/b": "duplicate"}


def test_if_one_paper_is_billed_the_call_is_billed(told: Told) -> None:
    charge = {
        "resourceType": "ChargeItem",
        "id": "c1",
        "status": "billed",
        "code": {"coding": [{"system": "http://www.ama-assn.org/go/cpt", "code": "99213"}]},
        "subject": {"reference": "Patient/p1"},
        "context": {"reference": "Encounter/b"},
    }
    found = told(call("a"), call("b"), charge)
    assert found["minutes"] == []
    assert found["contacts"] == []


def test_a_call_that_another_paper_says_was_a_meeting_has_no_minutes_left(read: Read) -> None:
    meeting = call("b", type=None, **{"class": {"code": "AMB"}})
    record = read(call("a"), meeting)
    assert record.management == ()
    assert [(contact.resource, contact.in_person) for contact in record.contacts] == [("Encounter/b", True)]


def test_of_two_set_ups_the_later_is_believed(read: Read) -> None:
    teaching = [
        {"coding": [{"system": "urn:smart-remote-monitoring:activity", "code": "rpm-setup-education"}]}
    ]
    record = read(call("a", type=teaching), call("b", "11:00", "11:12", type=teaching))
    assert [set_up.resource for set_up in record.set_ups] == ["Encounter/b"]


# -- and where the patient was ---------------------------------------------------------------------------


def stay(id: str, end: str | None, **changes: Any) -> Resource:
    period = {"start": "2026-03-05T08:00:00-05:00"} | ({"end": end} if end else {})
    return call(id, type=None, period=period, **{"class": {"code": "IMP"}, **changes})


@pytest.mark.parametrize(("day", "inside"), [("07", True), ("09", True), ("12", False)])
def test_of_two_times_of_a_stay_all_of_both_was_spent_there(
    day: str, inside: bool, read: Read, blood_pressure: Callable[..., Resource], cuff: Callable[..., Resource]
) -> None:
    stays = [
        stay("a", "2026-03-08T08:00:00-04:00"),
        stay("b", "2026-03-10T08:00:00-04:00"),
        stay("c", None, status="in-progress"),
    ]
    reading = blood_pressure(effectiveDateTime=f"2026-03-{day}T12:00:00Z")
    for order in itertools.permutations(stays):
        assert bool(read(reading, cuff(), *order).readings) is not inside


def test_what_names_one_paper_of_a_visit_names_the_visit(
    read: Read, blood_pressure: Callable[..., Resource], cuff: Callable[..., Resource]
) -> None:
    visit = call("a", type=None, **{"class": {"code": "AMB"}})
    copy = call("b", end=None, type=None, status="in-progress", **{"class": {"code": "AMB"}})
    for name in ("a", "b"):
        reading = blood_pressure(
            effectiveDateTime="2026-03-10T18:00:00-04:00", encounter={"reference": f"Encounter/{name}"}
        )
        record = read(reading, cuff(), visit, copy)
        assert ("Observation/bp", "in-facility") in [(e.resource, str(e.reason)) for e in record.excluded]
