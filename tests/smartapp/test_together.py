"""Several charges accepted with one press: asked once, shown once, written each for itself."""

from __future__ import annotations

import json
from contextlib import contextmanager
from io import BytesIO
from urllib.parse import urlsplit

import pytest

from smartapp.store.claims import ChargeState

PATIENT = "ready-musculoskeletal"
CODES = ["98977", "98980", "98981"]
THERAPIST, PHYSICIAN = "Practitioner/syn-therapist", "Practitioner/syn-physician"


def together(page):
    """Where all that can be charged is accepted together."""
    return next(target for target, text in page.links if text == "Accept all 3 together")


def ours(world):
    return [
        charge
        for charge in world.charges(PATIENT)
        if any(i["system"].startswith("urn:smart-remote-monitoring") for i in charge.get("identifier", ()))
    ]


def codes_of(charges):
    return sorted(charge["code"]["coding"][0]["code"] for charge in charges)


def items_of(page):
    return [value for name, value in page.by_id.items() if name.startswith("charge-item")]


@contextmanager
def refusing(world, code):
    """The EHR takes no charge of this code."""
    app = world.ehr.app.wsgi_app

    def refuse(environ, start_response):
        if environ["REQUEST_METHOD"] == "POST" and environ["PATH_INFO"].endswith("/ChargeItem"):
            body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
            environ["wsgi.input"] = BytesIO(body)
            if f'"code":"{code}"'.encode() in body:
                start_response("422 Unprocessable Entity", [("Content-Type", "application/fhir+json")])
                return [b'{"resourceType": "OperationOutcome"}']
        return app(environ, start_response)

    world.ehr.app.wsgi_app = refuse
    try:
        yield
    finally:
        world.ehr.app.wsgi_app = app


def audited(world, event):
    return [one for one in world.store.audit.entries() if one["event"] == event]


def test_three_codes_are_shown_once_and_written_each_for_itself_by_one_press(world, browser):
    page = world.open(browser, PATIENT)
    preview = browser.get(together(page))
    assert "Write 3 charges to the EHR" in preview.text
    for code in CODES:
        assert code in preview.text
    assert preview.text.count("Performing") == 1, "asked and shown once for all"
    written = browser.submit(preview.form(urlsplit(together(page)).path))
    assert "All 3 charges are in the EHR" in written.text
    charges = ours(world)
    assert codes_of(charges) == CODES
    assert sorted(items_of(written)) == sorted(f"ChargeItem/{charge['id']}" for charge in charges)
    assert [row.state for row in world.store.charges.of_patient("sandbox", PATIENT)] == [
        ChargeState.CONFIRMED
    ] * 3
    assert sorted(entry["code"] for entry in audited(world, "charge-written")) == CODES
    assert len(audited(world, "chart-brought-up-to-date")) == 1, "one look for all"
    assert "Written from here" in world.read(browser, browser.get(page.url)).text


def test_pressing_again_and_going_back_lead_to_the_same_charges(world, browser):
    page = world.open(browser, PATIENT)
    preview = browser.get(together(page))
    form = preview.form(urlsplit(together(page)).path)
    first, second = browser.submit(form), browser.submit(form)
    assert items_of(first) == items_of(second)
    assert len(ours(world)) == 3
    assert "All 3 charges are in the EHR" in browser.get(preview.url).text, "Back"
    assert "All 3 charges are in the EHR" in browser.get(together(page)).text, "a second tab"


def test_one_that_is_left_out_is_not_written_and_what_was_chosen_stays(world, browser):
    page = world.open(browser, PATIENT)
    form = world.choices_at(browser, together(page)).form("/check")
    chosen = {one.name: one.value for one in form.controls if one.kind == "select"}
    preview = browser.submit(form, **chosen | {"ordering": PHYSICIAN})
    fewer = browser.get(next(target for target, text in preview.links if text == "Leave out 98981"))
    assert "Write 2 charges to the EHR" in fewer.text
    keys = urlsplit(fewer.url).path.removesuffix("/check")
    browser.submit(fewer.form(keys))
    assert codes_of(ours(world)) == CODES[:2]
    ordered = {p["actor"]["reference"] for charge in ours(world) for p in charge["performer"]}
    assert PHYSICIAN in ordered


def test_what_somebody_else_charged_meanwhile_stops_all_and_is_told_of_each(world, browser):
    page = world.open(browser, PATIENT)
    preview = browser.get(together(page))
    form = preview.form(urlsplit(together(page)).path)
    day = next(key for key in urlsplit(form.action).path.rsplit("/", 1)[1].split(",") if "98977" in key)
    world.ehr_creates(
        {
            "resourceType": "ChargeItem",
            "status": "billable",
            "code": {"coding": [{"system": "http://www.ama-assn.org/go/cpt", "code": "98985"}]},
            "subject": {"reference": f"Patient/{PATIENT}"},
            "occurrenceDateTime": day.split("-", 1)[1],
        }
    )
    told = browser.submit(form)
    assert "The EHR already holds a charge that this one would repeat." in told.text
    assert "is new since the chart was read." in told.text
    assert told.text.count("Nothing was written") == 3
    assert told.status == 409
    assert ours(world) == []
    again = browser.get(told.url)
    assert (again.status, again.text) == (told.status, told.text), "reload shows the same"


def test_a_code_that_the_ehr_refuses_does_not_stop_the_others_and_the_page_says_each(world, browser):
    page = world.open(browser, PATIENT)
    form = browser.get(together(page)).form(urlsplit(together(page)).path)
    with refusing(world, "98980"):
        told = browser.submit(form)
    assert "2 of 3 charges are in the EHR" in told.text
    assert "98980 The EHR did not take the charge" in told.text
    assert codes_of(ours(world)) == ["98977", "98981"]
    back = next(target for target, text in told.links if text == "Back to the charge 98980")
    assert "The charge is in the EHR" in browser.submit(world.form_at(browser, back)).text
    assert codes_of(ours(world)) == CODES


def test_a_performer_who_contradicts_one_code_stops_all_with_that_code_named(shared_world, browser):
    page = shared_world.open(browser, PATIENT)
    form = shared_world.choices_at(browser, together(page)).form("/check")
    chosen = {one.name: one.value for one in form.controls if one.kind == "select"}
    refused = browser.submit(form, **chosen | {"performing": PHYSICIAN})
    assert refused.status == 422
    assert "GP says that a physical therapist bills 98977" in refused.text
    assert browser.get(refused.url).text == refused.text, "it has an address of its own"


def test_a_statement_is_asked_once_for_all_codes_and_kept_with_each(world, browser):
    world.ehr_shows_surgery(PATIENT)
    page = world.open(browser, PATIENT)
    choices = world.choices_at(browser, together(page))
    statements = [one for one in choices.form("/check").controls if one.name == "attest"]
    assert len(statements) == 1
    refused = browser.submit(choices.form("/check"))
    assert refused.status == 422
    assert "1 statement is not confirmed." in refused.text
    browser.submit(world.form_at(browser, together(page)))
    rows = world.store.charges.of_patient("sandbox", PATIENT)
    assert [row.content.attested for row in rows] == [("global-period",)] * 3
    for charge in ours(world):
        assert "surgery's global payment" in json.dumps(charge["note"])


@pytest.mark.parametrize("spoilt", ["", "0" * 64, ",".join(["0" * 64] * 3)])
def test_nothing_is_written_that_the_preview_did_not_show(shared_world, browser, spoilt):
    page = shared_world.open(browser, PATIENT)
    form = browser.get(together(page)).form(urlsplit(together(page)).path)
    for control in form.controls:
        if control.name == "preview":
            control.value = spoilt
    assert browser.submit(form).status == 409
    assert ours(shared_world) == []


def test_where_a_second_person_approves_each_awaits_it(make_world, browser):
    world = make_world(site_more="second_approval: true\n")
    page = world.open(browser, PATIENT)
    told = browser.submit(world.form_at(browser, together(page)))
    assert told.text.count("Accepted, awaiting approval") == 3
    assert ours(world) == []
