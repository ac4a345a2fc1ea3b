"""Servers as they are: what one does differently is heard, told in its own words, and closes no chart."""

from __future__ import annotations

import json

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
    assert "lists it under fhir_base_aliases" in page.text
    assert INSIDE in page.text
    assert "Nothing to charge now" not in page.text
    assert "belonged to another patient" not in page.text
