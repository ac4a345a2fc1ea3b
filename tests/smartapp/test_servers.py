"""Servers as they are: what one does differently is heard, told in its own words, and closes no chart."""

from __future__ import annotations

import json

import pytest

from smartapp.ehr.wire.capability import Capability

INSIDE = "http://inside.example/R4"
PATIENT = "ready-physiologic"


def decided(world, browser, patient=PATIENT):
    page = world.open(browser, patient)
    return page, json.loads(browser.get(page.url + "decisions.json").body)


def suggested(twin):
    return {one["code"] for one in twin["decisions"] if one["outcome"] == "suggest"}


def test_references_under_another_name_of_the_base_are_followed_where_that_is_listed(make_world, browser):
    world = make_world(issuer_more=f'fhir_base_aliases = ["{INSIDE}"]\n')
    _, before = decided(world, browser)
    world.ehr.sandbox.quirks.absolute_references = INSIDE
    _, twin = decided(world, browser)
    assert twin == before
    assert "99454" in suggested(twin)


def test_references_under_a_name_nobody_listed_are_dropped_and_the_page_says_which(make_world, browser):
    world = make_world()
    world.ehr.sandbox.quirks.absolute_references = INSIDE
    page, twin = decided(world, browser)
    assert suggested(twin) == set()
    assert {"Observation", "Encounter"} <= {one["type"] for one in twin["completeness"]["missing"]}
    assert "an administrator can add it to this app" in page.text
    assert INSIDE in page.text
    assert "Nothing to charge now" not in page.text
    assert "belonged to another patient" not in page.text


def no_way_to_accept(page):
    return not [text for _, text in page.links if text.startswith("Review and accept")]


@pytest.mark.parametrize("way", ["metadata", "entry"])
def test_where_no_charge_can_be_created_the_page_says_so_first_and_what_to_do_instead(
    make_world, browser, way
):
    world = make_world(issuer_more='write = {charge_item = "no"}\n' if way == "entry" else "")
    world.ehr.sandbox.quirks.no_charge_item_create = way == "metadata"
    before = world.charges(PATIENT)
    page, twin = decided(world, browser)
    assert "99454" in suggested(twin), "decisions are the same"
    said = page.text.index("This EHR takes charges as: a worksheet")
    assert said < page.text.index("As of")
    assert "takes no charges from this app" in page.text
    assert "99454 × 1; service date" in page.text
    # The form says it too, before anything is filled in.
    link = next(target for target, text in page.links if text.endswith("99454"))
    form = world.choices_at(browser, link)
    assert "This EHR takes this charge as: a worksheet" in form.text
    assert world.charges(PATIENT) == before


def test_a_profile_that_knows_better_than_metadata_is_believed(make_world, browser):
    world = make_world(issuer_more='write = {charge_item = "yes"}\n')
    world.ehr.sandbox.quirks.no_charge_item_create = True
    page, _ = decided(world, browser)
    assert not no_way_to_accept(page)
    assert "takes charges as: charges of its own (ChargeItem)" in page.text


def test_without_an_answer_to_metadata_a_charge_can_still_be_tried(make_world, browser, monkeypatch):
    monkeypatch.setattr("smartapp.ehr.wire.capability.parse_capability", lambda _: Capability())
    page, _ = decided(make_world(), browser)
    assert not no_way_to_accept(page)
