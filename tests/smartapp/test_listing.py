"""What a sweep keeps for a worklist: who is on it, for what, until when; and no name."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import pytest

from fhir_mappings.vocabulary import Line, Program
from launch.sandbox.patients import export
from smartapp.population.listing import Listed, Topic
from smartapp.population.state import State
from tests.support.lists import KEYS, swept_sandbox

FIRST = date(2026, 12, 1)
NEXT = FIRST + timedelta(days=1)


@pytest.fixture(scope="module")
def charts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("charts")
    export(folder, FIRST, readings=60)
    return folder


@pytest.fixture(scope="module")
def everybody(charts: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Listed]:
    state = tmp_path_factory.mktemp("swept") / "state"
    swept_sandbox(state, charts, FIRST)
    return of(state)


def of(state: Path) -> dict[str, Listed]:
    held = State(state, KEYS)
    return {one.patient.removeprefix("Patient/"): one for one in held.listed(*held.held())}


def topics(one: Listed) -> set[Topic]:
    return {matter.topic for matter in one.matters}


def test_what_can_be_charged_is_on_the_list_by_program_and_line(everybody):
    ready = [one for one in everybody["ready-musculoskeletal"].matters if one.topic is Topic.READY]
    assert {one.program for one in ready} == {Program.RTM}
    assert Line.MUSCULOSKELETAL in {one.line for one in ready}


def test_a_month_with_minutes_and_no_conversation_on_record_can_still_be_logged(everybody):
    assert Topic.LOG in topics(everybody["no-conversation"])


def test_whoever_holds_nothing_of_remote_monitoring_is_not_on_the_list(everybody):
    assert "nothing" not in everybody


def test_what_runs_says_the_day_after_which_it_is_lost(everybody):
    for name, one in everybody.items():
        for matter in one.matters:
            assert (matter.until is not None) is (matter.topic is Topic.OPEN), name
            assert matter.until is None or matter.until >= FIRST, name
    assert any(one.until for one in everybody.values())


def test_whose_time_and_conversations_a_record_holds_is_known_by_reference_alone(everybody):
    people = {person for one in everybody.values() for person in one.people}
    assert people
    assert all(person.startswith("Practitioner/") for person in people)


def test_the_windows_are_those_of_the_page_without_the_names_of_records(everybody):
    decisions = everybody["ready-musculoskeletal"].decisions
    assert {"98977", "98980"} <= {one.code for one in decisions}
    assert not any(part.evidence for one in decisions for part in one.requirements)
    assert not any(one.charges for one in decisions)


def test_one_patient_is_found_alone_and_a_stranger_not(everybody, charts, tmp_path):
    swept_sandbox(tmp_path / "state", charts, FIRST)
    held = State(tmp_path / "state", KEYS)
    assert held.listed_of(*held.held(), "Patient/ready-musculoskeletal") == everybody["ready-musculoskeletal"]
    assert held.listed_of(*held.held(), "Patient/nobody") is None
    assert held.listed_of(*held.held(), "Patient/nothing") is None


def test_after_a_night_in_which_nothing_came_the_list_is_that_of_a_full_sweep_of_the_day(charts, tmp_path):
    swept_sandbox(tmp_path / "nights", charts, FIRST)
    swept_sandbox(tmp_path / "nights", None, NEXT)
    swept_sandbox(tmp_path / "full", charts, NEXT)
    assert of(tmp_path / "nights") == of(tmp_path / "full")


def test_a_state_says_whether_it_was_kept_with_lists(charts, tmp_path):
    swept_sandbox(tmp_path / "state", charts, FIRST)
    assert State(tmp_path / "state", KEYS).held()[1].lists == 1
