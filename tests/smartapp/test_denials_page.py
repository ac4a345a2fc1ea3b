"""Denials on their pages: by hand and from lines, followed up, taken back; and what becomes of the charge."""

from __future__ import annotations

import json
from urllib.parse import urlsplit

import pytest

from fhir_mappings.charge_item import IDENTIFIER_SYSTEM
from smartapp.commands.checks import Status
from smartapp.commands.packet_check import checked
from smartapp.store.claims import ChargeState
from smartapp.store.denials import DenialContent, DenialState, Denied
from tests.smartapp.test_page_words import assert_readable
from tests.support.months import keep_charge

PATIENT = "ready-musculoskeletal"
CODE = "98977"
KEY = "a" * 40


@pytest.fixture
def world(make_world):
    return make_world(site_more="permissions: {bill: [physician]}\n")


def charge_page(world, browser, key=KEY):
    page = world.open(browser, PATIENT)
    return browser.get(f"{page.url}denials/charge/{key}")


def recorded(world, browser, page, **more):
    filled = {"on": "2026-04-10", "reason": "CO-50", "remark": "", "note": "Synthetic words."} | more
    return browser.submit(page.form("/record"), **filled)


def kept(world, key=KEY):
    return world.store.denials.history(f"{IDENTIFIER_SYSTEM}|{key}")


def test_a_denial_is_recorded_followed_up_and_taken_back_and_everything_stays_readable(world, browser):
    keep_charge(world.store, KEY, world.now(), patient=PATIENT)
    page = charge_page(world, browser)
    assert "No denial of it was recorded" in page.text
    after = recorded(world, browser, page)
    assert "Denied on 10 Apr 2026, reason 50" in after.text
    assert "Synthetic words." in after.text
    assert "where a payer's table names criteria" in after.text, "the rule that would have prevented it"
    form = next(form for form in after.forms if form.action.endswith("/1"))
    followed = browser.submit(form, done="appealed", note="")
    assert "denied, appealed" in followed.text
    again = browser.submit(form, done="appealed", note="")
    assert again.status == 200, "pressed twice, kept once"
    form = next(form for form in followed.forms if form.action.endswith("/2"))
    assert browser.submit(form, done="taken-back", note="").status == 422, "a reason is asked"
    back = browser.submit(form, done="taken-back", note="The payer paid.")
    assert "the denial was taken back" in back.text
    assert [one.state for one in kept(world)] == [
        DenialState.OPEN,
        DenialState.APPEALED,
        DenialState.TAKEN_BACK,
    ]
    assert_readable(back)


def test_the_same_denial_twice_is_one(world, browser):
    keep_charge(world.store, KEY, world.now(), patient=PATIENT)
    page = charge_page(world, browser)
    recorded(world, browser, page)
    recorded(world, browser, page)
    assert len(kept(world)) == 1


@pytest.mark.parametrize(
    "wrong",
    [{"on": "2026-04-16"}, {"on": "2026-03-01"}, {"on": "soon"}, {"reason": "never"}, {"remark": "7"}],
)
def test_what_cannot_be_is_not_kept_and_what_was_typed_stays(world, browser, wrong):
    keep_charge(world.store, KEY, world.now(), patient=PATIENT)
    page = recorded(world, browser, charge_page(world, browser), **wrong)
    assert page.status == 422
    assert "Synthetic words." in page.body
    assert kept(world) == ()


def test_a_charge_that_never_left_cannot_be_denied(world, browser):
    keep_charge(world.store, KEY, world.now(), patient=PATIENT, state=ChargeState.REFUSED)
    page = recorded(world, browser, charge_page(world, browser))
    assert page.status == 409
    assert kept(world) == ()


def test_charges_of_another_ehr_and_what_is_none_are_not_found(world, browser):
    keep_charge(world.store, KEY, world.now(), patient=PATIENT, issuer_id="another")
    assert charge_page(world, browser).status == 404
    assert charge_page(world, browser, "b" * 40).status == 404


def test_only_whom_the_site_lets_sees_or_records_denials(make_world, browser):
    world = make_world()
    keep_charge(world.store, KEY, world.now(), patient=PATIENT)
    assert charge_page(world, browser).status == 403


def test_lines_of_a_remittance_are_read_in_counted_and_named(world, browser):
    keep_charge(world.store, KEY, world.now(), patient=PATIENT)
    page = world.open(browser, PATIENT)
    month = browser.get(f"{page.url}denials/month/2026-03")
    text = f"key,date,carc\n{KEY},2026-04-10,50\n{'b' * 40},2026-04-10,97\n"
    read = browser.submit(month.form("/remittance"), remittance=text)
    assert "Read: 1 new, 0 known before" in read.text
    assert "line 3" in read.text
    again = browser.submit(month.form("/remittance"), remittance=text)
    assert "Read: 0 new, 1 known before" in again.text
    assert "50 Medicare fee for service 1 1 A service the payer does not hold to be necessary" in again.text
    wrong = browser.submit(month.form("/remittance"), remittance="x")
    assert (wrong.status, "Nothing was kept" in wrong.text) == (422, True)
    listed = browser.get(f"{page.url}billing/2026-03?denied=yes")
    assert "50: denied, nothing done yet" in listed.text


# What becomes of the charge (D29)


def accepted(world, browser):
    """Accept a code; the address of the patient page and the charge's key."""
    page = world.open(browser, PATIENT)
    link = next(target for target, text in page.links if text.endswith(CODE))
    browser.submit(world.final_form(browser, page, urlsplit(link).path.rsplit("/", 1)[1]))
    (row,) = world.store.charges.of_patient("sandbox", PATIENT)
    return page.url, row


def decided(world, browser, address, row):
    world.read(browser, browser.get(address))
    twin = json.loads(browser.get(address + "decisions.json").body)
    return next(
        one for one in twin["decisions"] if f"{one['code']}-{one['period']['start']}" == row.content.decision
    )


def read_again(world, browser, address, row):
    page = world.read(browser, browser.get(address))
    world.read(browser, browser.submit(page.form("/read")))
    return decided(world, browser, address, row)


@pytest.mark.parametrize("more", ["", 'write = {charge_item = "no"}\n'])
def test_a_denied_charge_is_not_suggested_anew_and_is_charged_again_once_taken_back(
    make_world, browser, more
):
    """As a ChargeItem that the EHR holds, and as one that a person entered in billing."""
    world = make_world(site_more="permissions: {bill: [physician]}\n", issuer_more=more)
    address, row = accepted(world, browser)
    if more:
        sheet = browser.get(address + "worksheet")
        asked = browser.get(next(target for target, text in sheet.links if text == "I entered it in billing"))
        browser.submit(asked.form("/entered"), entered="yes")
    assert decided(world, browser, address, row)["outcome"] == "charged"
    day = row.content.service_date or world.today
    world.store.denials.record(
        [Denied(row.identifier, day, "50")], DenialContent("Practitioner/7"), world.now()
    )
    denied = decided(world, browser, address, row)
    assert (denied["outcome"], denied["reasons"]) == ("review", ["charged-period-unclear"])
    page = browser.get(address)
    assert "The payer denied this charge" in page.text
    assert not [text for _, text in page.links if text.endswith(CODE)], "it cannot be accepted again"
    form = browser.get(f"{address}charges/{row.content.decision}")
    assert not [form for form in form.forms if form.action.endswith("/accept")]
    record = browser.get(
        next(
            target
            for target, text in browser.get(f"{address}charges/{row.content.decision}/result").links
            if "audit" in text
        )
    )
    assert "What payers denied since" in record.text
    assert "denied, nothing done yet" in record.text
    (denial,) = world.store.denials.of_patient("sandbox", PATIENT)
    world.store.denials.follow_up(
        denial, DenialState.TAKEN_BACK, DenialContent("Practitioner/7"), world.now()
    )
    assert decided(world, browser, address, row)["outcome"] == "charged"


def withdrawn_from_here(world, browser, address, charge_item):
    page = browser.get(address)
    ask = browser.get(next(target for target, text in page.links if text == "Withdraw it"))
    asked = browser.submit(ask.form("/withdraw"), reason="Synthetic: the payer wants another code.")
    browser.submit(next(form for form in asked.forms if "/changes/" in form.action))


def in_error_in_the_ehr(world, browser, address, charge_item):
    world.ehr_changes("ChargeItem", charge_item, status="entered-in-error")


def deleted_in_the_ehr(world, browser, address, charge_item):
    world.ehr.sandbox.store.delete("ChargeItem", charge_item)


@pytest.mark.parametrize("gone", [withdrawn_from_here, in_error_in_the_ehr, deleted_in_the_ehr])
def test_a_denied_charge_that_leaves_the_ehr_is_still_not_suggested_anew(world, browser, gone):
    address, row = accepted(world, browser)
    day = row.content.service_date or world.today
    by = DenialContent("Practitioner/7")
    world.store.denials.record([Denied(row.identifier, day, "50")], by, world.now())
    decided(world, browser, address, row)
    gone(world, browser, address, row.charge_item)
    after = read_again(world, browser, address, row)
    assert (after["outcome"], after["reasons"]) == ("review", ["charged-period-unclear"])
    page = browser.get(address)
    assert "The payer denied this charge" in page.text
    assert not [text for _, text in page.links if text.endswith(CODE)], "it cannot be accepted again"
    assert not [text for _, text in page.links if text == f"Review this change of {CODE}"]
    form = browser.get(f"{address}charges/{row.content.decision}")
    assert not [form for form in form.forms if form.action.endswith("/accept")]
    (denial,) = world.store.denials.of_patient("sandbox", PATIENT)
    world.store.denials.follow_up(denial, DenialState.TAKEN_BACK, by, world.now())
    assert read_again(world, browser, address, row)["outcome"] == "suggest"


def test_the_packet_of_a_charge_beside_a_denied_one_that_is_gone_is_decided_again_with_it(world, browser):
    address, row = accepted(world, browser)
    denied = Denied(row.identifier, row.content.service_date or world.today, "50")
    world.store.denials.record([denied], DenialContent("Practitioner/7"), world.now())
    in_error_in_the_ehr(world, browser, address, row.charge_item)
    read_again(world, browser, address, row)
    page = world.open(browser, PATIENT)
    link = next(target for target, text in page.links if text.endswith("98980"))
    browser.submit(world.final_form(browser, page, urlsplit(link).path.rsplit("/", 1)[1]))
    later = next(one for one in world.store.packets.all(PATIENT) if one.identifier != row.identifier)
    content = world.store.packets.content(later)
    (beside,) = json.loads(content)["evidence"]["basis"]["handed"]
    assert (beside["code"], beside["denied"]) == (CODE, True)
    assert not [one for one in checked(content, later.sha256) if one.status is Status.FAILURE]


def test_the_packet_of_a_later_charge_holds_the_denial_and_is_decided_again_with_it(world, browser, tmp_path):
    address, row = accepted(world, browser)
    denied = Denied(row.identifier, row.content.service_date or world.today, "50", "N115")
    by = DenialContent("Practitioner/7", "Synthetic Seven", "Words beside it.")
    world.store.denials.record([denied], by, world.now())
    world.read(browser, browser.get(address))
    page = world.open(browser, PATIENT)
    link = next(target for target, text in page.links if text.endswith("98980"))
    browser.submit(world.final_form(browser, page, urlsplit(link).path.rsplit("/", 1)[1]))
    later = next(one for one in world.store.packets.all(PATIENT) if one.identifier != row.identifier)
    content = world.store.packets.content(later)
    evidence = json.loads(content)["evidence"]
    assert [(one["reason"], one["remark"], one["done"]) for one in evidence["denials"]] == [
        ("50", "N115", "open")
    ]
    assert evidence["basis"]["denied"] == [denied.identifier.rpartition("|")[2]]
    assert not [one for one in checked(content, later.sha256) if one.status is Status.FAILURE]
    record = browser.get(f"{address}records/{later.name}")
    assert "A payer's answer" in record.text
    assert "reason 50 N115: denied, nothing done yet" in record.text
