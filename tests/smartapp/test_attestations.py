"""What a clinician states where the record is silent: who, when, for what; kept for good, and revocable."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DatabaseError

from fhir_mappings.local_time import Window
from fhir_mappings.vocabulary import Unverified
from smartapp.store.attestations import STATED, Statement
from smartapp.web import words
from smartapp.web.words import ATTESTATIONS
from tests.support.sandbox import DAY

PATIENT = "calls-not-in-the-ehr"
PHYSICIAN = "Practitioner/syn-physician"
NURSE = "Practitioner/syn-nurse"
ZONE = ZoneInfo("America/New_York")
CONSENT = ATTESTATIONS[Unverified.CONSENT]


def statements(browser, page):
    return browser.get(f"{page.url}statements")


def state(browser, page, **changes):
    form = statements(browser, page).form("/statements")
    return browser.submit(form, **{"statement": "consent", "code": "all", "confirm": "yes", **changes})


def decisions(browser, page):
    return json.loads(browser.get(f"{page.url}decisions.json").body)


def suggested(browser, page):
    return [one for one in decisions(browser, page)["decisions"] if one["outcome"] == "suggest"]


def lacking(browser, page, statement="consent"):
    """Codes and periods of the suggestions that still ask for a statement."""
    return {
        (one["code"], one["period"]["start"])
        for one in suggested(browser, page)
        if statement in one["unverified"]
    }


def test_a_statement_counts_as_evidence_and_the_card_says_who_made_it_and_when(world, browser):
    page = world.open(browser, PATIENT)
    assert lacking(browser, page)
    assert "Nothing was stated" in statements(browser, page).text
    told = state(browser, page)
    assert "Statements made (1)" in told.text
    assert lacking(browser, page) == set()
    card = browser.get(page.url)
    assert "Confirmed by a clinician (1)" in card.text
    assert f"{CONSENT} Avery Synthetic-Physician" in card.text
    (kept,) = decisions(browser, page)["attestations"]
    assert (kept["statement"], kept["by"], kept["codes"]) == ("consent", PHYSICIAN, [])


def test_the_charge_and_its_packet_say_what_was_stated_and_by_whom(world, browser):
    page = world.open(browser, PATIENT)
    state(browser, page)
    form = world.final_form(browser, browser.get(page.url))
    assert "consent" not in [control.value for control in form.controls if control.name == "attest"]
    browser.submit(form)
    (charge,) = world.charges(PATIENT)
    note = charge["note"][0]["text"]
    assert f"Stated by a clinician: {CONSENT} (Avery Synthetic-Physician, {words.day(DAY)})." in note
    (row,) = world.store.charges.of_patient("sandbox", PATIENT)
    packet = json.loads(world.store.charges.packet(row.identifier))
    assert packet["evidence"]["attestations"][0]["by"] == PHYSICIAN


def test_a_statement_for_one_code_leaves_the_others_open(world, browser):
    page = world.open(browser, PATIENT)
    before = lacking(browser, page)
    code = next(iter(before))[0]
    state(browser, page, code=code)
    assert lacking(browser, page) == {one for one in before if one[0] != code}


def test_a_statement_about_some_days_holds_for_periods_wholly_within_them(world, browser):
    world.ehr_shows_surgery(PATIENT)
    page = world.open(browser, PATIENT)
    one = next(d for d in suggested(browser, page) if "global-period" in d["unverified"])
    first, last = one["period"]["start"], one["period"]["end"]
    day_before = (datetime.fromisoformat(last) - timedelta(days=1)).date().isoformat()
    state(browser, page, statement="global-period", **{"from": first, "to": day_before})
    assert (one["code"], first) in lacking(browser, page, "global-period")
    state(browser, page, statement="global-period", **{"from": first, "to": last})
    assert (one["code"], first) not in lacking(browser, page, "global-period")


def test_what_is_about_a_period_needs_one_and_the_period_must_be_over(world, browser):
    world.ehr_shows_surgery(PATIENT)
    page = world.open(browser, PATIENT)
    refused = state(browser, page, statement="global-period")
    assert refused.status == 422
    assert "about a period, which must be over" in refused.text
    today = DAY
    window = {"from": (today - timedelta(days=9)).isoformat(), "to": today.isoformat()}
    refused = state(browser, page, statement="global-period", **window)
    assert "The period is not over yet" in refused.text
    assert world.store.attestations.of_patient("sandbox", PATIENT) == ()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"confirm": ""}, "Confirm that the statement is true."),
        ({"code": ""}, "Say for which code"),
        ({"code": "99999"}, "Say for which code"),
        ({"statement": "in-facility"}, "Choose the statement"),
        ({"statement": "billing-professional"}, "Choose the statement"),
        ({"from": "2026-03-01", "to": ""}, "the first and the last day"),
        ({"from": "2026-03-09", "to": "2026-03-01"}, "The last day lies before the first."),
    ],
)
def test_an_incomplete_statement_is_refused_with_a_sentence(shared_world, browser, changes, sentence):
    refused = state(browser, shared_world.open(browser, PATIENT), **changes)
    assert refused.status == 422
    assert sentence in refused.text


def test_nothing_is_chosen_beforehand(shared_world, browser):
    body = statements(browser, shared_world.open(browser, PATIENT)).body
    assert " checked" not in body
    assert " selected" not in body


def test_a_statement_that_was_taken_back_counts_no_more_and_stays_visible(world, browser):
    page = world.open(browser, PATIENT)
    state(browser, page)
    taken_back = browser.submit(statements(browser, page).form("/revoke"))
    assert "Taken back on" in taken_back.text
    assert CONSENT in taken_back.text
    assert lacking(browser, page)
    assert "attestations" not in decisions(browser, page)
    assert not any(form.action.endswith("/revoke") for form in taken_back.forms)


def test_a_form_made_before_a_statement_was_made_is_refused(world, browser):
    page = world.open(browser, PATIENT)
    old = world.final_form(browser, browser.get(page.url))
    form = statements(browser, page).form("/statements")
    state(browser, page)
    assert browser.submit(old).status == 409
    assert browser.submit(form, statement="consent", code="all", confirm="yes").status == 409
    assert world.charges(PATIENT) == []


def test_a_statement_that_is_taken_back_elsewhere_stops_the_charge(world, browser):
    page = world.open(browser, PATIENT)
    state(browser, page)
    form = world.final_form(browser, browser.get(page.url))
    store = world.store
    (kept,) = store.attestations.of_patient("sandbox", PATIENT)
    assert store.attestations.revoke("sandbox", PATIENT, kept.id, PHYSICIAN, "", kept.at, kind=STATED)
    assert browser.submit(form).status == 409
    assert world.charges(PATIENT) == []


def test_a_form_for_another_patient_or_without_the_token_states_nothing(world, browser):
    page = world.open(browser, PATIENT)
    for name, value, status in (("patient", "nothing", 409), ("form_token", "0" * 64, 400)):
        form = statements(browser, page).form("/statements")
        for control in form.controls:
            if control.name == name:
                control.value = value
        assert browser.submit(form, statement="consent", code="all", confirm="yes").status == status
    assert world.store.attestations.of_patient("sandbox", PATIENT) == ()


def test_who_may_not_accept_charges_states_nothing(world, browser):
    page = world.open(browser, PATIENT, user=NURSE)
    refused = statements(browser, page)
    assert refused.status == 403
    assert "accept charges" in refused.text


@pytest.mark.threat("5.11")
def test_who_may_settle_reviews_and_not_accept_takes_no_statement_back(make_world, browser):
    more = "permissions: {accept: [physician], resolve: [clinical-staff], log: [clinical-staff]}\n"
    world = make_world(site_more=more)
    state(browser, world.open(browser, PATIENT))
    (kept,) = world.store.attestations.of_patient("sandbox", PATIENT)
    page = world.open(browser, PATIENT, user=NURSE)
    own = browser.get(f"{page.url}time").form("/time")
    forged = type(own)("post", f"{page.url}settled/{kept.id}/revoke", own.controls)
    assert browser.submit(forged).status == 409
    (kept,) = world.store.attestations.of_patient("sandbox", PATIENT)
    assert kept.stands


def test_statements_of_one_patient_are_not_another_ones(store, now):
    content = Statement(statement=Unverified.CONSENT, by=PHYSICIAN)
    name = store.attestations.state("sandbox", "p1", content, now)
    assert store.attestations.of_patient("sandbox", "p2") == ()
    assert store.attestations.of_patient("elsewhere", "p1") == ()
    assert not store.attestations.revoke("sandbox", "p2", name, PHYSICIAN, "", now, kind=STATED)
    assert store.attestations.standing("sandbox", "p1") == {name}


def test_a_statement_is_taken_back_once(store, now):
    content = Statement(
        statement=Unverified.TIME, codes=("98980",), window=Window(now.date(), now.date()), by=PHYSICIAN
    )
    name = store.attestations.state("sandbox", "p1", content, now)
    assert store.attestations.revoke("sandbox", "p1", name, NURSE, "Casey", now, kind=STATED)
    assert not store.attestations.revoke("sandbox", "p1", name, PHYSICIAN, "", now, kind=STATED)
    (kept,) = store.attestations.of_patient("sandbox", "p1")
    assert (kept.content, kept.revoked_by, kept.stands) == (content, NURSE, False)
    assert store.attestations.standing("sandbox", "p1") == frozenset()


def test_the_database_itself_refuses_to_change_a_statement(store, now):
    store.attestations.state("sandbox", "p1", Statement(statement=Unverified.ORDER, by=PHYSICIAN), now)
    for statement in ("UPDATE attestations SET state = 'revoked'", "DELETE FROM attestations"):
        with pytest.raises(DatabaseError, match="never changed"), store.database.write() as connection:
            connection.execute(text(statement))


def test_statements_are_audited(world, browser):
    page = world.open(browser, PATIENT)
    state(browser, page)
    browser.submit(statements(browser, page).form("/revoke"))
    events = {one["event"]: one for one in world.store.audit.entries()}
    assert events["attested"]["statement"] == "consent"
    assert events["attestation-revoked"]["user"] == PHYSICIAN
    assert world.store.audit.verify() is None
