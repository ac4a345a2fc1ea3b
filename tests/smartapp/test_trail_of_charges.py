"""The audit trail of a charge: who pressed this time, who had accepted it, where, and on which rules."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from urllib.parse import urlsplit

import pytest

from launch.http import EhrClient, Response
from smartapp.commands.demo_check import Browser
from smartapp.configuration.site import load_site
from smartapp.store.claims import ChargeState

PATIENT = "ready-musculoskeletal"
PHYSICIAN, THERAPIST = "Practitioner/syn-physician", "Practitioner/syn-therapist"
CODE = "98980"
"""A monthly code: its card stands on the page whatever the EHR says of other charges."""


@pytest.fixture
def other() -> Iterator[Browser]:
    with closing(Browser()) as opened:
        yield opened


def form_for(world, browser):
    page = world.open(browser, PATIENT)
    link = next(target for target, text in page.links if text.endswith(CODE))
    return page, world.final_form(browser, page, urlsplit(link).path.rsplit("/", 1)[1])


def session_of(page):
    return urlsplit(page.url).path.split("/")[2]


def entries(world, event):
    return [entry for entry in world.store.audit.entries() if entry["event"] == event]


def test_a_refusal_says_who_pressed_in_which_session_and_on_which_rules(world, browser):
    page, form = form_for(world, browser)
    world.ehr.sandbox.quirks.no_charge_item_create = True
    browser.submit(form)
    (refused,) = entries(world, "charge-refused")
    assert (refused["user"], refused["accepted_by"], refused["session"]) == (
        PHYSICIAN,
        PHYSICIAN,
        session_of(page),
    )
    assert refused["rules_version"] == load_site(world.settings).policy.version
    assert refused["decision"].startswith(CODE)
    assert "sent_by" not in refused


def test_a_written_charge_names_its_rules_and_the_one_who_pressed(world, browser):
    page, form = form_for(world, browser)
    browser.submit(form)
    (written,) = entries(world, "charge-written")
    assert (written["user"], written["accepted_by"], written["session"]) == (
        PHYSICIAN,
        PHYSICIAN,
        session_of(page),
    )
    assert written["rules_version"] == load_site(world.settings).policy.version


def test_whoever_presses_again_is_named_beside_the_one_who_accepted(world, browser, other):
    quirks = world.ehr.sandbox.quirks
    quirks.no_charge_item_search = True
    _, form = form_for(world, browser)
    quirks.fail_after_commit = 1
    browser.submit(form)
    (row,) = world.store.charges.of_patient("sandbox", PATIENT)
    assert row.state is ChargeState.UNKNOWN
    (unknown,) = entries(world, "charge-unknown")
    assert (unknown["user"], unknown["accepted_by"]) == (PHYSICIAN, PHYSICIAN)

    theirs = world.open(other, PATIENT, user=THERAPIST)
    result = other.get(f"{theirs.url}charges/{row.content.decision}/result")
    other.submit(result.form("/again"))
    still = entries(world, "charge-unknown")[-1]
    assert (still["user"], still["accepted_by"]) == (THERAPIST, PHYSICIAN)
    assert still["session"] == session_of(theirs)

    quirks.no_charge_item_search = False
    other.submit(result.form("/again"))
    (written,) = entries(world, "charge-written")
    assert (written["user"], written["accepted_by"]) == (THERAPIST, PHYSICIAN)
    assert written["session"] == session_of(theirs)
    assert "sent_by" not in written, "it was found, not sent again"


def test_a_charge_that_somebody_else_sends_again_says_who_sent_it(world, browser, other, monkeypatch):
    _, form = form_for(world, browser)
    true = EhrClient.fhir

    def busy(client, method, target, **more):
        if method == "POST":
            return Response(503, {}, b"", target, "ehr.example", "r1")
        return true(client, method, target, **more)

    with monkeypatch.context() as patched:
        patched.setattr(EhrClient, "fhir", busy)
        browser.submit(form)
    (row,) = world.store.charges.of_patient("sandbox", PATIENT)
    assert row.state is ChargeState.UNKNOWN
    theirs = world.open(other, PATIENT, user=THERAPIST)
    result = other.get(f"{theirs.url}charges/{row.content.decision}/result")
    other.submit(result.form("/again"))
    (written,) = entries(world, "charge-written")
    assert (written["user"], written["sent_by"], written["accepted_by"]) == (THERAPIST, THERAPIST, PHYSICIAN)


def test_deciding_again_says_on_which_rules_and_what(world, browser):
    page = world.open(browser, "calls-not-in-the-ehr")
    form = browser.get(f"{page.url}statements").form("/statements")
    told = browser.submit(form, statement="consent", code="all", confirm="yes")
    assert "Statements made (1)" in told.text
    twin = json.loads(browser.get(f"{page.url}decisions.json").body)
    (again,) = entries(world, "decided-again")
    assert (again["rules_version"], again["payer"]) == (twin["rules_version"], twin["payer"])
    assert again["decided"].split("; ") == [
        f"{one['code']} {one['period']['start']} {one['outcome']}" for one in twin["decisions"]
    ]
