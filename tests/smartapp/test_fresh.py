"""No charge is written on a stale reading: what came, changed or went since stops it, in plain words."""

from __future__ import annotations

import json
from contextlib import closing
from datetime import timedelta
from urllib.parse import unquote, urlsplit

import pytest

from launch.http import EhrClient
from smartapp.commands.demo_check import Browser

PATIENT = "ready-physiologic"
PHYSICIAN = "Practitioner/syn-physician"


def link_to(page, code):
    return next(target for target, text in page.links if text.endswith(code))


def form_for(world, browser, code="99457"):
    page = world.open(browser, PATIENT)
    return world.final_form(browser, page, urlsplit(link_to(page, code)).path.rsplit("/", 1)[1])


def ours(world):
    return [
        charge
        for charge in world.charges(PATIENT)
        if any(i["system"].startswith("urn:smart-remote-monitoring") for i in charge.get("identifier", ()))
    ]


def evidence_of(world, form):
    _, findings = world.findings(form)
    decision = findings.decision(form.action.rsplit("/", 1)[1])
    return [name for part in decision.requirements for name in part.evidence]


def call_of(world, form):
    """The Encounter of the month's conversation."""
    encounters = {f"Encounter/{one['id']}": one for one in world.resources("Encounter", PATIENT)}
    return next(
        encounters[name]
        for name in evidence_of(world, form)
        if encounters[name]["type"][0]["coding"][0]["code"] == "RPM-CALL"
    )


def visit_over(call, **more):
    return {
        **{name: value for name, value in call.items() if name not in {"id", "meta", "identifier"}},
        "type": [{"coding": [{"system": "urn:sandbox:visit", "code": "OFFICE-VISIT"}]}],
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "AMB"},
        "participant": [{"individual": {"reference": PHYSICIAN}}],
        **more,
    }


@pytest.fixture
def asked(monkeypatch):
    """Every target the EHR is asked for."""
    targets = []
    true = EhrClient.fhir

    def fhir(client, method, target, **more):
        targets.append(target)
        return true(client, method, target, **more)

    monkeypatch.setattr(EhrClient, "fhir", fhir)
    return targets


@pytest.fixture
def world(make_world):
    return make_world()


@pytest.fixture(params=["changes alone", "no _lastUpdated", "one id at a time"])
def any_world(request, make_world):
    """An EHR that tells what changed, and two that do not, or less."""
    made = make_world()
    made.ehr.sandbox.quirks.no_last_updated = request.param == "no _lastUpdated"
    made.ehr.sandbox.quirks.one_id_at_a_time = request.param == "one id at a time"
    return made


def stopped(world, page):
    assert page.status == 409, page.text
    assert "Nothing was written" in page.text
    assert ours(world) == []
    return page.text


def test_a_visit_that_was_added_over_the_call_stops_the_charge_and_is_named(any_world, browser):
    form = form_for(any_world, browser)
    name = any_world.ehr_creates(visit_over(call_of(any_world, form)))
    text = stopped(any_world, browser.submit(form))
    assert "The record earns something else now than what was shown." in text
    assert f"Encounter/{name} is new since the chart was read." in text
    assert "Ready to charge" in text, "as it was shown"
    assert "Not met" in text, "as it is now"


def test_after_a_stopped_charge_the_page_shows_the_chart_as_it_is_now(world, browser):
    form = form_for(world, browser)
    world.ehr_creates(visit_over(call_of(world, form)))
    page = browser.submit(form)
    chart = browser.get(next(target for target, text in page.links if text == "Back to the patient"))
    assert "Review and accept 99457" not in chart.text
    assert "Reading the chart" not in chart.text


def test_a_reading_that_was_taken_out_stops_the_charge_and_is_named(any_world, browser):
    form = form_for(any_world, browser, "99454")
    reading = next(name for name in evidence_of(any_world, form) if name.startswith("Observation/"))
    any_world.ehr.sandbox.store.delete(*reading.split("/"))
    assert f"{reading} is gone." in stopped(any_world, browser.submit(form))


def test_a_stay_over_the_readings_stops_the_charge(world, browser):
    form = form_for(world, browser, "99454")
    first = json.loads(
        world.ehr.sandbox.store.read("Observation", evidence_of(world, form)[0].split("/")[1]).body
    )
    start = first["effectiveDateTime"][:10]
    world.ehr_creates(
        {
            "resourceType": "Encounter",
            "status": "in-progress",
            "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "IMP"},
            "subject": {"reference": f"Patient/{PATIENT}"},
            "period": {"start": f"{start}T00:00:00-04:00"},
        }
    )
    text = stopped(world, browser.submit(form))
    assert "Days with monitoring data" in text


def test_a_consent_that_was_withdrawn_must_be_confirmed_again(world, browser):
    consents = world.resources("Consent", PATIENT)
    if not consents:
        consents = [
            {
                "id": world.ehr_creates(
                    {
                        "resourceType": "Consent",
                        "status": "active",
                        "scope": {"coding": [{"code": "treatment"}]},
                        "category": [{"text": "monitoring"}],
                        "patient": {"reference": f"Patient/{PATIENT}"},
                        "dateTime": "2025-01-01",
                        "policyRule": {"text": "practice"},
                    }
                )
            }
        ]
    form = form_for(world, browser)
    for consent in consents:
        world.ehr_changes("Consent", consent["id"], status="inactive")
    text = stopped(world, browser.submit(form))
    assert "More must be confirmed now: consent." in text


def test_a_charge_of_another_family_still_stops_it(world, browser):
    form = form_for(world, browser, "99454")
    day = form.action.rsplit("99454-", 1)[1]
    name = world.ehr_creates(
        {
            "resourceType": "ChargeItem",
            "status": "billable",
            "code": {"coding": [{"system": "http://www.ama-assn.org/go/cpt", "code": "99453"}]},
            "subject": {"reference": f"Patient/{PATIENT}"},
            "occurrenceDateTime": day,
        }
    )
    assert f"ChargeItem/{name} is new since the chart was read." in stopped(world, browser.submit(form))


def test_what_changes_no_answer_stops_nothing(any_world, browser):
    form = form_for(any_world, browser)
    any_world.ehr_creates(
        {
            "resourceType": "Observation",
            "status": "final",
            "code": {"coding": [{"system": "http://loinc.org", "code": "2345-7"}]},
            "subject": {"reference": f"Patient/{PATIENT}"},
            "effectiveDateTime": any_world.today.isoformat(),
            "valueQuantity": {"value": 5, "unit": "mmol/L"},
        }
    )
    written = browser.submit(form)
    (charge,) = ours(any_world)
    assert written.by_id["charge-item"] == f"ChargeItem/{charge['id']}"


def test_a_chart_that_cannot_be_looked_at_again_is_not_charged(world, browser):
    form = form_for(world, browser)
    world.ehr.sandbox.quirks.failing = "Patient"
    page = browser.submit(form)
    assert page.status == 502
    assert "Nothing was written" in page.text
    assert ours(world) == []
    world.ehr.sandbox.quirks.failing = ""
    assert browser.submit(form).by_id["charge-item"]


def test_a_type_that_cannot_be_read_any_more_stops_the_charge(world, browser):
    form = form_for(world, browser)
    world.ehr.sandbox.quirks.refused = "ChargeItem"
    stopped(world, browser.submit(form))


def test_an_old_reading_is_brought_up_to_date_before_the_form_of_a_charge_opens(make_world, browser):
    world = make_world(snapshot_minutes=0)
    page = world.open(browser, PATIENT)
    before = json.loads(browser.get(page.url + "decisions.json").body)
    link = link_to(page, "99457")
    form = world.final_form(browser, page, urlsplit(link).path.rsplit("/", 1)[1])
    world.ehr_creates(visit_over(call_of(world, form)))
    assert browser.get(link).status == 409
    after = json.loads(browser.get(page.url + "decisions.json").body)
    assert before["decisions"] != after["decisions"]


def test_a_second_person_approves_the_chart_as_it_is_now(make_world, browser):
    world = make_world(site_more="second_approval: true\n")
    form = form_for(world, browser)
    call = call_of(world, form)
    assert "awaiting approval" in browser.submit(form).text
    with closing(Browser()) as other:
        page = world.open(other, PATIENT, user="Practitioner/syn-therapist")
        page = other.get(next(target for target, text in page.links if text == "See and approve"))
        world.ehr_creates(visit_over(call))
        approve = next(f for f in page.forms if "/approvals/" in f.action and "decline" not in f.action)
        stopped(world, other.submit(approve))


def test_of_readings_only_what_changed_is_asked_for_where_the_server_can_tell(world, browser, asked):
    world.ehr.sandbox.quirks.no_batch = True
    form = form_for(world, browser)
    snapshot, findings = world.findings(form)
    assert abs(findings.server_time - snapshot.created_at) < timedelta(minutes=1)
    asked.clear()
    written = browser.submit(form)
    before = asked[: asked.index("ChargeItem")]  # the write; what follows is a new reading
    of_readings = [target for target in before if target.startswith("Observation")]
    since = findings.server_time - timedelta(minutes=2)
    changed, *by_id = sorted(of_readings, key=lambda target: "_id=" in target)
    assert f"_lastUpdated=ge{since:%Y-%m-%dT%H}" in unquote(changed)
    assert all("_id=" in target for target in by_id)
    assert written.by_id["charge-item"]


def test_where_the_server_cannot_tell_what_changed_everything_is_read(world, browser, asked):
    form = form_for(world, browser)
    world.ehr.sandbox.quirks.no_last_updated = True
    asked.clear()
    browser.submit(form)
    before = asked[: asked.index("ChargeItem")]
    whole = [
        target
        for target in before
        if target.startswith("Observation?") and "_lastUpdated" not in target and "_id=" not in target
    ]
    assert len(whole) == 1
