"""What may happen to a charge after it was written, and that at each step no more stands than is earned."""

from __future__ import annotations

import json
from datetime import date, timedelta
from urllib.parse import urlsplit

import pytest

from fhir_mappings.charge_item import IDENTIFIER_SYSTEM
from smartapp.ehr.reading import gone_charges
from smartapp.store.claims import ChargeState
from smartapp.web.charge_words import CHARGED_MEANWHILE, EARNED_NO_MORE
from smartapp.web.record_words import in_words
from tests.smartapp.test_page_words import assert_readable
from tests.support.life_truth import SITES
from tests.support.lives import live_through
from tests.support.months import keep_charge

PATIENT = "ready-musculoskeletal"
CODE = "98977"


def rows(world):
    return world.store.charges.of_patient("sandbox", PATIENT)


def accept(world, browser, address, code=CODE):
    """Accept a code on the page; the newest row."""
    page = browser.get(address)
    link = next(target for target, text in page.links if text == f"Review and accept {code}")
    browser.submit(world.final_form(browser, page, urlsplit(link).path.rsplit("/", 1)[1]))
    world.read(browser, browser.get(address))
    return rows(world)[-1]


def read_again(world, browser, address):
    return world.read(browser, browser.submit(browser.get(address).form("/read")))


def outcome(world, browser, address, row):
    world.read(browser, browser.get(address))
    twin = json.loads(browser.get(address + "decisions.json").body)
    return next(
        one["outcome"]
        for one in twin["decisions"]
        if f"{one['code']}-{one['period']['start']}" == row.content.decision
    )


def can_accept(page, code=CODE):
    return f"Review and accept {code}" in [text for _, text in page.links]


def standing(world, code=CODE):
    """Charges of ours that the EHR holds and that are not taken back."""
    return [
        charge
        for charge in world.charges(PATIENT)
        if charge["code"]["coding"][0]["code"] == code
        and charge["status"] not in {"entered-in-error", "aborted", "not-billable"}
        and any(one["system"] == IDENTIFIER_SYSTEM for one in charge.get("identifier", ()))
    ]


# What people read of it


def test_whose_records_moved_is_told_in_words_and_their_names_only_to_auditors(world, browser):
    page = world.open(browser, PATIENT)
    form = world.final_form(
        browser, page, urlsplit(next(t for t, x in page.links if x.endswith(CODE))).path[-16:]
    )
    named = world.findings(form)[1].decision(form.action.rsplit("/", 1)[1]).requirements[0].evidence[0]
    world.ehr_changes("Observation", named.split("/")[1], status="entered-in-error")
    stopped = browser.submit(form)
    assert stopped.status == 409
    assert "A reading was changed since the chart was read." in stopped.text
    assert_readable(stopped)
    assert f"{named} was changed since the chart was read." in stopped.text, "in the details for audit"


def test_what_became_of_a_withdrawal_is_told_in_words(world, browser):
    address = world.open(browser, PATIENT).url
    accept(world, browser, address)
    page = browser.get(address)
    ask = browser.get(next(target for target, text in page.links if text == "Withdraw it"))
    asked = browser.submit(ask.form("/withdraw"), reason="Synthetic words.")
    done = browser.submit(next(form for form in asked.forms if "/changes/" in form.action))
    assert "Withdrawn: Synthetic words." in done.text
    assert_readable(done)


def test_who_approves_reads_who_performs_it_by_name(make_world, browser):
    world = make_world(site_more="second_approval: true\n")
    therapist, physician = "Practitioner/syn-therapist", "Practitioner/syn-physician"
    page = world.open(browser, "ready-respiratory", user=therapist)
    browser.submit(world.final_form(browser, page))
    page = world.open(browser, "ready-respiratory", user=physician)
    approval = browser.get(next(target for target, text in page.links if text == "See and approve"))
    assert "Performing Devon Synthetic-Therapist" in approval.text
    assert_readable(approval)


@pytest.mark.parametrize(
    ("sentence", "told"),
    [
        ("ChargeItem/7 is new since the chart was read.", "A charge is new since the chart was read."),
        ("Withdrawn: no. Change 0123456789ab.", "Withdrawn: no."),
        (
            "Not counted any more: Observation/1, Observation/2.",
            "Not counted any more: several times a reading.",
        ),
        ("More must be confirmed now: same-day-services.", "More must be confirmed now."),
        (None, ""),
    ],
)
def test_a_sentence_without_names_of_records(sentence, told):
    assert in_words(sentence) == told


# The EHR takes it back by itself


def in_error(world, name):
    world.ehr_changes("ChargeItem", name, status="entered-in-error")


def not_billable(world, name):
    world.ehr_changes("ChargeItem", name, status="not-billable")


def deleted(world, name):
    world.ehr.sandbox.store.delete("ChargeItem", name)


@pytest.mark.parametrize(("gone", "found"), [(in_error, "entered-in-error"), (deleted, "deleted")])
def test_a_charge_that_the_ehr_took_back_is_no_longer_called_written_and_can_be_charged_again(
    world, browser, gone, found, monkeypatch
):
    monkeypatch.setattr(gone_charges, "SETTLED_AFTER", timedelta())
    address = world.open(browser, PATIENT).url
    first = accept(world, browser, address)
    gone(world, first.charge_item)
    page = read_again(world, browser, address)
    assert "was written to the EHR" not in page.text
    assert can_accept(page)
    assert_readable(page)
    (event,) = [one for one in world.store.audit.entries() if one["event"] == "charge-gone-in-ehr"]
    assert (event["charge_item"], event["found"]) == (first.charge_item, found)
    second = accept(world, browser, address)
    assert [one.state for one in rows(world)] == [ChargeState.WITHDRAWN, ChargeState.CONFIRMED]
    assert second.identifier != first.identifier, "it would be found again as the one that is gone"
    assert len(standing(world)) == 1
    assert outcome(world, browser, address, second) == "charged"


@pytest.mark.parametrize("who", [None, "Practitioner/syn-therapist"])
def test_a_charge_that_is_not_found_stands_at_once_and_for_whom_the_ehr_never_gave_it(
    world, browser, monkeypatch, who
):
    """ "Not found" may be a copy that lags, or no permission to see it."""
    row = accept(world, browser, world.open(browser, PATIENT).url)
    deleted(world, row.charge_item)
    if who is not None:
        monkeypatch.setattr(gone_charges, "SETTLED_AFTER", timedelta())
    assert not can_accept(world.open(browser, PATIENT, user=who))
    assert rows(world)[0].state is ChargeState.CONFIRMED


def test_what_the_ehr_calls_not_billable_is_no_charge_of_ours_either(world, browser):
    address = world.open(browser, PATIENT).url
    row = accept(world, browser, address)
    not_billable(world, row.charge_item)
    assert can_accept(read_again(world, browser, address))
    assert rows(world)[0].state is ChargeState.WITHDRAWN


def test_a_charge_that_a_search_does_not_bring_stands_as_long_as_it_can_be_read(world, browser, monkeypatch):
    """An index that lags: absence from a list proves nothing."""
    address = world.open(browser, PATIENT).url
    row = accept(world, browser, address)
    app = world.ehr.app.wsgi_app

    def without(environ, start_response):
        if environ["PATH_INFO"].endswith("/ChargeItem") and environ["REQUEST_METHOD"] == "GET":
            start_response("200 OK", [("Content-Type", "application/fhir+json")])
            return [b'{"resourceType": "Bundle", "type": "searchset"}']
        return app(environ, start_response)

    monkeypatch.setattr(world.ehr.app, "wsgi_app", without)
    page = read_again(world, browser, address)
    assert outcome(world, browser, address, row) == "suggest", "the list says nothing of it"
    assert not can_accept(page)
    assert rows(world)[0].state is ChargeState.CONFIRMED


@pytest.mark.parametrize(("lists", "asked"), [(True, ["c-old"]), (False, [])])
def test_where_the_ehr_lists_no_charges_those_of_long_ago_are_not_asked_for_one_by_one(
    world, browser, monkeypatch, lists, asked
):
    keep_charge(world.store, "old", world.now(), patient=PATIENT, day=date(2025, 1, 31))
    world.ehr.sandbox.quirks.no_charge_item_search = not lists
    found = []
    monkeypatch.setattr(gone_charges, "_taken_back", lambda client, name, given: found.append(name))
    world.open(browser, PATIENT)
    assert found == [f"ChargeItem/{name}" for name in asked]


@pytest.mark.parametrize("keeps", ["identifier", "nothing"])
def test_a_charge_that_the_ehr_gives_back_under_another_id_stands(world, browser, keeps):
    address = world.open(browser, PATIENT).url
    row = accept(world, browser, address)
    (charge,) = standing(world)
    left_out = {"id", "meta"} | (set() if keeps == "identifier" else {"identifier", "definitionUri"})
    world.ehr.sandbox.store.delete("ChargeItem", row.charge_item)
    world.ehr_creates({name: value for name, value in charge.items() if name not in left_out})
    page = read_again(world, browser, address)
    assert outcome(world, browser, address, row) == "charged"
    assert not can_accept(page)
    assert rows(world)[0].state is ChargeState.CONFIRMED


# An earlier period beside a later one that is charged first


def test_what_awaits_approval_can_be_approved_in_any_order(make_world, browser):
    world = make_world(site_more="second_approval: true\n")
    physician, therapist = "Practitioner/syn-physician", "Practitioner/syn-therapist"
    patient = "ready-cognitive"
    page = world.open(browser, patient, user=physician)
    together = next(target for target, text in page.links if text.endswith("together"))
    browser.submit(world.form_at(browser, together))
    keys = sorted(row.content.decision for row in world.store.charges.of_patient("sandbox", patient))
    for key in sorted(
        (key for key in keys if key.startswith("98978")), key=lambda key: key[-10:], reverse=True
    ):
        page = world.open(browser, patient, user=therapist)
        asked = browser.get(f"{page.url}approvals/{key}")
        forms = [form for form in asked.forms if urlsplit(form.action).path.endswith(f"/approvals/{key}")]
        assert browser.submit(forms[0]).status == 200
    states = {row.content.decision: row.state for row in world.store.charges.of_patient("sandbox", patient)}
    assert [states[key] for key in keys if key.startswith("98978")] == [ChargeState.CONFIRMED] * 2


def test_a_charge_that_was_taken_back_can_be_charged_again_after_a_later_period_was(world, browser):
    patient = "ready-cognitive"
    address = world.open(browser, patient).url
    page = browser.get(address)
    earlier, later = sorted(
        (target for target, text in page.links if text == "Review and accept 98978"),
        key=lambda target: target[-10:],
    )
    browser.submit(world.form_at(browser, earlier))
    (row,) = world.store.charges.of_patient("sandbox", patient)
    in_error(world, row.charge_item)
    read_again(world, browser, address)
    browser.submit(world.form_at(browser, later))
    assert earlier in [target for target, _ in read_again(world, browser, address).links]


# On the worksheet, before anybody entered it


@pytest.fixture
def worksheet_world(make_world):
    return make_world(issuer_more='write = {charge_item = "no"}\n')


def test_the_worksheet_says_that_the_record_does_not_earn_any_more_what_stands_on_it(
    worksheet_world, browser
):
    world = worksheet_world
    address = world.open(browser, PATIENT).url
    row = accept(world, browser, address, "98980")
    assert EARNED_NO_MORE not in browser.get(address + "worksheet").text
    for one in world.resources("Encounter", PATIENT):
        world.ehr_changes("Encounter", one["id"], status="entered-in-error")
    read_again(world, browser, address)
    sheet = browser.get(address + "worksheet")
    assert EARNED_NO_MORE in sheet.text
    assert_readable(sheet)
    table = next(target for target, text in sheet.links if text == "The same as CSV")
    assert EARNED_NO_MORE in browser.get(table).body
    asked = browser.get(f"{address}worksheet/{row.content.decision}/entered")
    assert EARNED_NO_MORE in asked.text
    browser.submit(asked.form("/entered"), entered="yes")
    assert rows(world)[0].state is ChargeState.ENTERED, "whoever entered it before can say so"


def test_the_worksheet_says_that_somebody_else_has_charged_what_stands_on_it(worksheet_world, browser):
    world = worksheet_world
    address = world.open(browser, PATIENT).url
    row = accept(world, browser, address)
    left_out = {"identifier", "definitionUri"}
    charge = {name: value for name, value in row.content.resource.items() if name not in left_out}
    world.ehr_creates({**charge, "status": "billed"})
    read_again(world, browser, address)
    assert CHARGED_MEANWHILE in browser.get(address + "worksheet").text


# Sequences of all of it


@pytest.mark.parametrize(
    ("site", "patient", "seed"),
    [
        ("plain", "ready-respiratory", "a"),
        ("both", "ready-musculoskeletal", "b"),
        ("worksheet-lock", "ready-physiologic", "c"),
    ],
)
def test_whatever_happens_to_charges_no_more_stand_than_are_earned_and_nothing_is_lost(
    make_world, monkeypatch, site, patient, seed
):
    """Many more sequences: `python -m tests.support.lives --sequences 400`."""
    monkeypatch.setattr(gone_charges, "SETTLED_AFTER", timedelta())
    live_through(make_world(**SITES[site]), patient, site, seed, steps=3)
