"""Service dates past the end of the tables: decided by the last table, and charged by nobody before the site
has confirmed the rules (D37)."""

from __future__ import annotations

import json
from contextlib import closing
from datetime import datetime
from urllib.parse import urlsplit

import pytest

from fhir_mappings.vocabulary import Unverified
from smartapp import create_app
from smartapp.commands.demo_check import Browser, Control, Form
from smartapp.serving import AppServer
from smartapp.store.claims import ChargeState
from smartapp.web.words import ATTESTATIONS
from tests.support.sandbox import ZONE

PATIENT = "ready-musculoskeletal"
PHYSICIAN, THERAPIST = "Practitioner/syn-physician", "Practitioner/syn-therapist"
YEAR = Unverified.RULES_OF_THE_YEAR
FEBRUARY = datetime(2027, 2, 15, 12, tzinfo=ZONE)
CONFIRMED = """\
rules_confirmed:
  - {codes: all, to: 2027-12-31, by: "Ida of billing", on: 2026-12-15, source: "The final rule for 2027"}
"""


@pytest.fixture
def other():
    with closing(Browser()) as opened:
        yield opened


def suggested(browser, page):
    answer = json.loads(browser.get(f"{page.url}decisions.json").body)
    return {one["code"]: one for one in answer["decisions"] if one["outcome"] == "suggest"}


def key_of(decision):
    return f"{decision['code']}-{decision['period']['start']}"


def posted(browser, page, path, *fields):
    """A form that no page offers: this session's own hidden fields and some more, sent to any address."""
    own = browser.get(f"{page.url}time").form("/time")
    hidden = [control for control in own.controls if control.kind == "hidden"]
    more = [Control("hidden", name, value) for name, value in fields]
    return browser.submit(Form("post", f"{page.url}{path}", hidden + more))


def ours(world, patient=PATIENT):
    system = "urn:smart-remote-monitoring:charge"
    return [
        charge
        for charge in world.charges(patient)
        if any(i["system"] == system for i in charge.get("identifier", ()))
    ]


def test_without_the_sites_word_nothing_past_the_tables_can_be_accepted(make_world, browser):
    world = make_world(begins=FEBRUARY)
    page = world.open(browser, PATIENT)
    device = suggested(browser, page)["98977"]
    assert device["service_date"] > "2026-12-31"
    assert YEAR in device["unverified"]
    assert "Met, rules not confirmed" in page.text
    assert "Ready to charge" not in page.text.partition("As of")[0]
    assert "up to 31 Dec 2026" in page.text
    assert "Ask whoever runs this app to confirm them" in page.text
    assert not [text for _, text in page.links if text == "Review and accept 98977"]


def test_whatever_form_is_posted_the_charge_stays_shut(make_world, browser):
    world = make_world(begins=FEBRUARY)
    page = world.open(browser, PATIENT)
    device = suggested(browser, page)["98977"]
    assert browser.get(f"{page.url}charges/{key_of(device)}").status == 409
    filled = [("attest", entry) for entry in device["unverified"]]
    filled += [(name, "none") for name in ("diagnosis", "performing", "ordering", "place")]
    for path in ("/check", ""):
        answer = posted(browser, page, f"charges/{key_of(device)}{path}", *filled)
        assert answer.status == 409
        assert "98977 cannot be charged yet" in answer.text
    assert ours(world) == []


@pytest.mark.parametrize(
    ("today", "site_more", "told"),
    [
        (datetime(2026, 10, 31, 12, tzinfo=ZONE), "", False),
        (datetime(2026, 11, 1, 12, tzinfo=ZONE), "", True),
        (datetime(2026, 11, 1, 12, tzinfo=ZONE), CONFIRMED, False),
        (FEBRUARY, "", True),
    ],
)
def test_the_page_tells_from_sixty_days_before(make_world, browser, today, site_more, told):
    page = make_world(begins=today, site_more=site_more).open(browser, PATIENT)
    assert ("The rules are checked for dates up to 31 Dec 2026." in page.text) is told


def test_nobody_is_asked_to_state_it(make_world, browser):
    page = make_world(begins=FEBRUARY).open(browser, PATIENT)
    form = browser.get(f"{page.url}statements")
    assert ATTESTATIONS[YEAR] not in form.text
    stated = [("statement", YEAR.value), ("code", "all"), ("confirm", "yes")]
    answer = posted(browser, page, "statements", *stated)
    assert answer.status == 422
    assert "Nothing was stated" in answer.text


def test_what_the_site_confirmed_is_accepted_as_before_and_its_provenance_is_kept(make_world, browser):
    world = make_world(begins=FEBRUARY, site_more=CONFIRMED)
    page = world.open(browser, PATIENT)
    device = suggested(browser, page)["98977"]
    assert YEAR not in device["unverified"]
    browser.submit(world.final_form(browser, page, key_of(device)))
    (charge,) = ours(world)
    assert charge["code"]["coding"][0]["code"] == "98977"
    note = charge["note"][0]["text"]
    assert "confirmed by Ida of billing on 2026-12-15, source: The final rule for 2027." in note
    (row,) = world.store.charges.of_patient("sandbox", PATIENT)
    kept = json.loads(row.content.evidence)["decision"]["rules_confirmed"]
    assert kept == {"by": "Ida of billing", "on": "2026-12-15", "source": "The final rule for 2027"}


def served(world):
    """The app as its files are now."""
    address = urlsplit(world.settings.base_url)
    return AppServer(create_app(world.settings), address.hostname, address.port)


def take_back_the_confirmation(world):
    site = world.settings.site_file
    site.write_text(site.read_text().replace(CONFIRMED, ""))


def test_a_second_person_approves_nothing_after_the_confirmation_was_taken_out(make_world, browser, other):
    world = make_world(begins=FEBRUARY, site_more=f"second_approval: true\n{CONFIRMED}", serve=False)
    with served(world):
        page = world.open(browser, PATIENT)
        browser.submit(world.final_form(browser, page, key_of(suggested(browser, page)["98977"])))
    take_back_the_confirmation(world)
    with served(world):
        page = world.open(other, PATIENT, user=THERAPIST)
        approval = other.get(next(target for target, text in page.links if text == "See and approve"))
        form = next(f for f in approval.forms if "/approvals/" in f.action and "decline" not in f.action)
        answer = other.submit(form)
    assert answer.status == 409
    assert "cannot be charged yet" in answer.text
    (row,) = world.store.charges.of_patient("sandbox", PATIENT)
    assert row.state is ChargeState.AWAITING
    assert ours(world) == []


def test_a_change_that_charges_more_is_shut_too_and_taking_back_is_not(make_world, browser):
    """98979 was charged while the year was confirmed; more minutes would make it 98980."""
    world = make_world(begins=FEBRUARY, site_more=CONFIRMED, serve=False)
    reviews = [
        encounter["id"]
        for encounter in world.resources("Encounter", "ready-respiratory")
        if encounter["type"][0]["coding"][0]["code"] == "RTM-REVIEW"
    ]
    for name in reviews:
        world.ehr_changes("Encounter", name, status="entered-in-error")
    with served(world):
        page = world.open(browser, "ready-respiratory")
        browser.submit(world.final_form(browser, page, key_of(suggested(browser, page)["98979"])))
    (charge,) = ours(world, "ready-respiratory")
    for name in reviews:
        world.ehr_changes("Encounter", name, status="finished")
    take_back_the_confirmation(world)
    with served(world):
        page = world.open(browser, "ready-respiratory")
        assert "98979 → 98980" in page.text
        assert "Review this change of 98979" not in page.text
        assert "up to 31 Dec 2026" in page.text
        address = world.change_address(page, charge["id"])
        assert browser.get(address).status == 403
        path = address.removeprefix(page.url)
        refused = posted(browser, page, path, ("version", "1"), ("attest", YEAR.value))
        assert refused.status == 403
        assert browser.get(f"{address}/withdraw").status == 200
    (still,) = ours(world, "ready-respiratory")
    assert still["status"] == "planned"
