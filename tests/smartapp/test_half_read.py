"""A chart that was read by half ends in no wrong charge, and says first that it was."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.smartapp.conftest import World

PHYSIOLOGIC, MUSCULOSKELETAL = "ready-physiologic", "ready-musculoskeletal"
Change = Callable[[World], None]


def switched(**quirks: object) -> Change:
    def change(world: World) -> None:
        for name, value in quirks.items():
            setattr(world.ehr.sandbox.quirks, name, value)

    return change


def spoilt(mark: str) -> Change:
    """One reading of the patient, in the middle of the others, is no JSON."""

    def change(world: World) -> None:
        store = world.ehr.sandbox.store
        with store.database.read() as connection:
            rows = connection.execute(
                "SELECT id, body FROM resource WHERE type = 'Observation' AND patient = ? ORDER BY rid",
                (PHYSIOLOGIC,),
            ).fetchall()
        name, body = rows[len(rows) // 2]
        store.delete("Observation", name)
        store.load_as_it_is(f'{body[:-1]},"spoilt":{mark}}}', "Observation", name, PHYSIOLOGIC)

    return change


def decided(world, browser, patient=PHYSIOLOGIC):
    page = world.open(browser, patient)
    return page, json.loads(browser.get(page.url + "decisions.json").body)


def outcomes(twin, *codes):
    return {(one["code"], one["outcome"]) for one in twin["decisions"] if one["code"] in codes}


def suggested(twin):
    return {one["code"] for one in twin["decisions"] if one["outcome"] == "suggest"}


CUTS = {
    "pages on another server": switched(cap_count=5, foreign_next=True),
    "pages that are no address": switched(cap_count=5, broken_next=True),
    "pages in a circle": switched(cap_count=5, looping_next=True),
    "pages that are over": switched(cap_count=5, lost_next=True),
    "sources that were down": switched(incomplete_searches=True),
    "readings refused": switched(refused="Observation"),
    "a server's fault": switched(failing="Observation"),
}


@pytest.mark.parametrize("change", CUTS.values(), ids=CUTS.keys())
def test_readings_that_were_not_fully_read_suggest_no_device_code(make_world, browser, change):
    world = make_world()
    whole = suggested(decided(world, browser)[1])
    change(world)
    page, twin = decided(world, browser)
    assert not twin["completeness"]["whole"]
    assert "Observation" in {one["type"] for one in twin["completeness"]["missing"]}
    assert suggested(twin) <= whole
    assert "99445" not in suggested(twin)
    assert "The chart was not fully read." in page.text
    assert page.text.index("The chart was not fully read.") < page.text.index("As of")
    assert "Nothing to charge now" not in page.text


def test_one_slice_that_breaks_off_is_missing_for_its_own_days(make_world, browser):
    world = make_world()
    whole = decided(world, browser)[1]
    world.ehr.sandbox.quirks.cap_count = 10
    # The first page of each search, then readings in parts: what breaks off is one of these.
    for number in range(12, 18):
        world.ehr.sandbox.quirks.break_off = number
        page, twin = decided(world, browser)
        missing = {one["type"] for one in twin["completeness"]["missing"]}
        assert missing, "something always breaks off"
        if "Observation" in missing:
            gaps = [one for one in twin["completeness"]["missing"] if one["type"] == "Observation"]
            assert {one["why"] for one in gaps} == {"cut-off"}
            (days,) = {(one["days"]["start"], one["days"]["end"]) for one in gaps}
            assert any(days), gaps
            assert suggested(twin) <= suggested(whole)
            assert "The chart was not fully read." in page.text


@pytest.mark.parametrize("mark", ["NaN", '"\\ud800"', '"\\q"'])
def test_a_reading_that_is_no_json_loses_itself_and_changes_nothing_else(make_world, browser, mark):
    world = make_world()
    _, before = decided(world, browser)
    spoilt(mark)(world)
    _, twin = decided(world, browser)
    (gap,) = twin["completeness"]["missing"]
    assert (gap["type"], gap["why"]) == ("Observation", "unreadable")
    assert gap["days"]["start"] == gap["days"]["end"] is not None
    assert outcomes(twin, "99454") == outcomes(before, "99454"), "one day more changes nothing of it"
    assert twin["decisions"] != before["decisions"]


def test_half_a_character_in_the_name_closes_no_chart(make_world, browser):
    world = make_world()
    _, before = decided(world, browser)
    store = world.ehr.sandbox.store
    body = store.read("Patient", PHYSIOLOGIC).body
    store.delete("Patient", PHYSIOLOGIC)
    store.load_as_it_is(body[:-1] + ',"name":[{"text":"Ann\\ud800"}]}', "Patient", PHYSIOLOGIC, PHYSIOLOGIC)
    page, twin = decided(world, browser)
    assert twin["decisions"] == before["decisions"]
    assert "Ann" in page.text
    assert "Patient : a part of it cannot be read" in page.text


@pytest.mark.parametrize("type_", ["Account", "Condition"])
def test_a_fault_of_the_server_on_what_only_the_form_needs_opens_the_form_all_the_same(
    make_world, browser, type_
):
    world = make_world()
    world.ehr.sandbox.quirks.failing = type_
    page, twin = decided(world, browser)
    assert twin["completeness"]["whole"]
    assert type_ not in page.text
    link = next(target for target, text in page.links if text.startswith("Review and accept"))
    form = world.choices_at(browser, link)
    assert f"{type_} : the EHR answered with an error of its own, three times: 500" in form.text


@pytest.mark.parametrize("type_", ["Consent", "EpisodeOfCare", "Coverage", "Device"])
def test_a_fault_of_the_server_on_one_type_opens_the_chart_all_the_same(make_world, browser, type_):
    world = make_world()
    world.ehr.sandbox.quirks.failing = type_
    page, twin = decided(world, browser)
    assert twin["decisions"]
    assert f"{type_} : the EHR answered with an error of its own, three times: 500" in page.text
    assert not twin["completeness"]["whole"]


def test_without_readings_nothing_is_said_of_charges(make_world, browser):
    world = make_world()
    world.ehr.sandbox.quirks.refused = "Observation"
    page = world.open(browser, MUSCULOSKELETAL)
    assert "Nothing to charge now" not in page.text
    assert "The EHR's administrators must let this app search Observation." in page.text


def test_where_charges_cannot_be_searched_every_decision_asks_for_them(make_world, browser):
    world = make_world()
    world.ehr.sandbox.quirks.no_charge_item_search = True
    page, twin = decided(world, browser)
    assert all("prior-charges" in one["unverified"] for one in twin["decisions"])
    assert outcomes(twin, "99454") == {("99454", "suggest")}
    assert "let this app search ChargeItem" in page.text


def test_a_charge_on_a_chart_that_was_not_fully_read_says_so(make_world, browser):
    world = make_world()
    world.ehr.sandbox.quirks.no_charge_item_search = True
    page = world.open(browser, PHYSIOLOGIC)
    link = next(target for target, text in page.links if text.endswith("99454"))
    browser.submit(world.final_form(browser, page, link.rsplit("/", 1)[1]))
    (charge,) = [
        one
        for one in world.charges(PHYSIOLOGIC)
        if any(i["system"].startswith("urn:smart-remote-monitoring") for i in one.get("identifier", ()))
    ]
    assert "The chart was not fully read; missing: ChargeItem (refused)." in charge["note"][0]["text"]
    (row,) = world.store.charges.of_patient("sandbox", PHYSIOLOGIC)
    packet = json.loads(world.store.charges.packet(row.identifier))
    assert packet["evidence"]["completeness"]["missing"][0]["type"] == "ChargeItem"


def test_a_category_that_is_wanted_is_no_gap(make_world, browser):
    world = make_world()
    _, before = decided(world, browser)
    world.ehr.sandbox.quirks.require_category_for_observation_search = True
    _, twin = decided(world, browser)
    assert twin == before


def test_a_period_that_was_charged_and_not_read_has_no_numbers(make_world, browser):
    world = make_world()
    page, twin = decided(world, browser, "fifty-thousand-readings")
    session = page.url.split("/s/")[1].split("/")[0]
    read_from = json.loads(world.store.reading.snapshot_of(session).result)["history_from"]
    charged = [one for one in twin["decisions"] if one["outcome"] == "charged"]
    before = [one for one in charged if one["period"]["start"] < read_from]
    assert before
    assert all(not one["requirements"] for one in before)
    assert all(one["requirements"] for one in charged if one not in before)
    assert "Not read: its records lie before what was read" in page.text
    assert "0 days found" not in page.text
