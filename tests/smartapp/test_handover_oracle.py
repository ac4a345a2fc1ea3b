"""`ChargeItem/$create`: a charge for an Encounter, sent once, and confirmed by what the Encounter holds."""

from __future__ import annotations

import json
import uuid

import pytest

from smartapp.store.claims import ChargeState
from tests.smartapp.test_accept import chosen_in
from tests.smartapp.test_handover import CODE, PATIENT, rows

SYSTEM = "urn:synthetic:bill-codes"
OWN_OPERATION = 'write = {charge_item = "own-operation"}\n'


@pytest.fixture
def world(make_world):
    more = f"handover: [{{oracle_create: {{bill_codes: '{SYSTEM}'}}}}]\n"
    world = make_world(issuer_more=OWN_OPERATION, site_more=more)
    world.ehr.sandbox.quirks.own_charge_operation = True
    return world


def previewed(world, browser, place="Encounter/"):
    """The page of the preview. `place`: what the chosen place begins with."""
    page = world.open(browser, PATIENT)
    form = browser.get(next(target for target, text in page.links if text.endswith(CODE))).form("/check")
    statements = [control.value for control in form.controls if control.name == "attest"]
    (offered,) = (control.options for control in form.controls if control.name == "place")
    where = next(option for option in offered if option.startswith(place))
    more = {"attest": statements} if statements else {}
    return page, browser.submit(form, **more, **chosen_in(form, place=where))


def final(preview):
    return next(form for form in preview.forms if any(one.name == "preview" for one in form.controls))


def charges(world):
    """Those that came by the operation."""
    return [
        one for one in world.charges(PATIENT) if any(c.get("system") == SYSTEM for c in one["code"]["coding"])
    ]


def test_a_charge_is_created_for_the_chosen_encounter_and_confirmed_by_what_it_holds(world, browser):
    page, preview = previewed(world, browser)
    assert "ChargeItem/$create" in page.text
    shown = json.loads(preview.text[preview.text.index("{") : preview.text.rindex("}") + 1])
    number, sent = (one for one in shown["parameter"])
    assert uuid.UUID(number["valueUuid"].removeprefix("urn:uuid:")).version == 5
    form = final(preview)
    result = browser.submit(form)
    assert "The charge is in the EHR" in result.text
    browser.submit(form)  # pressed again
    (charge,) = charges(world)
    assert charge["context"]["reference"].startswith("Encounter/")
    assert charge["occurrenceDateTime"] == sent["resource"]["occurrenceDateTime"]
    assert "identifier" not in charge
    (row,) = rows(world)
    assert row.state is ChargeState.CONFIRMED
    assert row.charge_item == charge["id"]
    record = browser.get(next(target for target, text in result.links if "audit record" in text))
    assert record.status == 200


def test_a_lost_answer_is_looked_up_in_the_encounter_and_never_sent_again(world, browser):
    _, preview = previewed(world, browser)
    world.ehr.sandbox.quirks.fail_after_commit = 1
    result = browser.submit(final(preview))
    assert "The charge is in the EHR" in result.text
    assert len(charges(world)) == 1


def test_what_the_encounter_does_not_show_stays_unknown(world, browser, monkeypatch):
    _, preview = previewed(world, browser)
    world.ehr.sandbox.quirks.fail_after_commit = 1
    like = "smartapp.ehr.handover.oracle_create.OracleCreateHandover._like"
    with monkeypatch.context() as patch:
        patch.setattr(like, lambda *_: "")
        result = browser.submit(final(preview))
        assert "Unknown" in result.text
        browser.submit(result.form("/again"))
        assert len(charges(world)) == 1
        assert rows(world)[0].state is ChargeState.UNKNOWN
    again = browser.submit(result.form("/again"))
    assert "The charge is in the EHR" in again.text
    assert len(charges(world)) == 1


def test_a_like_charge_that_the_encounter_holds_already_stops_it(world, browser):
    _, preview = previewed(world, browser)
    shown = json.loads(preview.text[preview.text.index("{") : preview.text.rindex("}") + 1])
    world.ehr_creates({**shown["parameter"][1]["resource"], "status": "billed"})
    result = browser.submit(final(preview))
    assert "holds a charge of" in result.text
    assert len(charges(world)) == 1
    assert rows(world)[0].state is ChargeState.REFUSED


def test_without_an_encounter_the_charge_goes_on_the_worksheet_and_the_preview_says_so(world, browser):
    _, preview = previewed(world, browser, place="none")
    assert f"Put {CODE} on the worksheet" in preview.text
    assert "only with an Encounter, and none was chosen" in preview.text
    browser.submit(final(preview))
    assert charges(world) == []
    assert rows(world)[0].state is ChargeState.TO_ENTER
