"""One accepted charge is one ChargeItem, whatever happens between the button and the EHR."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest
import requests

from smartapp import create_app
from smartapp.commands.demo_check import Browser
from smartapp.serving import AppServer
from smartapp.store.claims import ChargeState
from tests.support.evaluation import Case
from tests.support.sandbox import LONG, held

PATIENT = "ready-musculoskeletal"
CODE = "98977"
PHYSICIAN = "Practitioner/syn-physician"
THERAPIST = "Practitioner/syn-therapist"
ASSISTANT = "Practitioner/syn-assistant"
NURSE = "Practitioner/syn-nurse"


def device_charges(world):
    """The device charges that were written from here: those with an identifier of ours."""
    return [
        charge
        for charge in world.charges(PATIENT)
        if any(i["system"].startswith("urn:smart-remote-monitoring") for i in charge.get("identifier", ()))
    ]


def chosen_in(form, **said):
    """What is chosen beforehand, else the first that is offered."""
    selects = [control for control in form.controls if control.kind == "select"]
    return {one.name: one.value or next(v for v in one.options if v) for one in selects} | said


def choices_for(world, browser, code=CODE, user=None):
    """The page on which what a claim needs is chosen, and where it stands."""
    page = world.open(browser, PATIENT, user=user)
    link = next(target for target, text in page.links if text.endswith(code))
    return link, world.choices_at(browser, link)


def options_of(page, name):
    (control,) = (one for one in page.form("/check").controls if one.name == name)
    return control


def form_for(world, browser, code=CODE):
    page = world.open(browser, PATIENT)
    link = next(target for target, text in page.links if text.endswith(code))
    return world.final_form(browser, page, urlsplit(link).path.rsplit("/", 1)[1])


def test_an_accepted_charge_is_written_with_everything_a_claim_needs(world, browser):
    written = browser.submit(form_for(world, browser)).by_id["charge-item"]
    (charge,) = device_charges(world)
    assert written == f"ChargeItem/{charge['id']}"
    assert charge["status"] == "planned"
    assert charge["code"]["coding"][0]["code"] == CODE
    assert charge["subject"]["reference"] == f"Patient/{PATIENT}"
    assert charge["reason"][0]["coding"][0]["system"] == "http://hl7.org/fhir/sid/icd-10-cm"
    assert {p["function"]["text"] for p in charge["performer"]} == {"performing", "ordering"}
    assert charge["enterer"]["reference"] == "Practitioner/syn-physician"
    assert len(charge["service"]) == 18


def test_what_is_written_is_exactly_what_the_preview_showed(world, browser):
    world.ehr_shows_surgery(PATIENT)
    page = world.open(browser, PATIENT)
    link = next(target for target, text in page.links if text.endswith(CODE))
    form = world.choices_at(browser, link).form("/check")
    statements = [control.value for control in form.controls if control.name == "attest"]
    preview = browser.submit(form, attest=statements, **chosen_in(form))
    shown = json.loads(preview.text[preview.text.index("{") : preview.text.rindex("}") + 1])
    browser.submit(preview.form(urlsplit(link).path))
    (charge,) = device_charges(world)
    assert {key: value for key, value in charge.items() if key not in {"id", "meta"}} == shown


def test_no_statement_is_ticked_beforehand_and_nothing_is_written_while_something_is_open(world, browser):
    world.ehr_shows_surgery(PATIENT)
    _, choices = choices_for(world, browser)
    assert " checked" not in choices.body
    again = browser.submit(choices.form("/check"))
    assert again.status == 422
    assert "not confirmed" in again.text
    assert device_charges(world) == []


def test_what_has_one_possible_answer_is_chosen_beforehand(shared_world, browser):
    _, choices = choices_for(shared_world, browser)
    assert options_of(choices, "diagnosis").value.startswith("Condition/")
    assert options_of(choices, "performing").value == THERAPIST, "the only one whose modifier GP is"
    assert options_of(choices, "ordering").value == THERAPIST, "whom the order on record names"
    assert options_of(choices, "place").value.startswith("Account/"), "the only account"


def test_where_nothing_is_open_the_way_begins_with_what_will_be_written(shared_world, browser):
    page = shared_world.open(browser, PATIENT)
    preview = browser.get(next(target for target, text in page.links if text.endswith(CODE)))
    assert f"Write {CODE} to the EHR" in preview.text
    assert "Devon Synthetic-Therapist" in preview.text


def test_what_was_chosen_for_one_code_is_filled_in_for_the_next_and_no_statement_is(world, browser):
    world.ehr_shows_surgery(PATIENT)
    link, choices = choices_for(world, browser)
    form = choices.form("/check")
    statements = [control.value for control in form.controls if control.name == "attest"]
    visit = next(value for value in options_of(choices, "place").options if value.startswith("Encounter/"))
    chosen = chosen_in(form, ordering=PHYSICIAN, place=visit)
    preview = browser.submit(form, attest=statements, **chosen)
    browser.submit(preview.form(urlsplit(link).path))
    page = world.read(browser, browser.get(link.partition("charges")[0]))
    other = next(target for target, text in page.links if text.endswith("98980"))
    following = world.choices_at(browser, other)
    assert {name: options_of(following, name).value for name in chosen} == chosen
    assert " checked" not in following.body


def test_nobody_is_offered_who_may_not_perform(shared_world, browser):
    _, choices = choices_for(shared_world, browser)
    for field in ("performing", "ordering"):
        offered = set(options_of(choices, field).options)
        assert {THERAPIST, PHYSICIAN} <= offered
        assert not offered & {ASSISTANT, NURSE}
    form = choices.form("/check")
    refused = browser.submit(form, **chosen_in(form, performing=ASSISTANT))
    assert refused.status == 422
    assert "Choose one, or say that the charge goes without a performing practitioner." in refused.text
    assert 'aria-describedby="performing-problem"' in refused.body


def test_a_performer_who_contradicts_the_modifier_stops_the_preview_with_the_reason(shared_world, browser):
    _, choices = choices_for(shared_world, browser, "98980")
    form = choices.form("/check")
    statements = [control.value for control in form.controls if control.name == "attest"]
    said = {"attest": statements} if statements else {}
    refused = browser.submit(form, **said, **chosen_in(form, performing=PHYSICIAN))
    assert refused.status == 422
    assert "GP says that a physical therapist bills this" in refused.text
    assert "works as physician" in refused.text
    assert browser.submit(form, **said, **chosen_in(form)).status == 200


@pytest.mark.parametrize("code", ["99454", "99457"])
def test_a_therapist_performs_no_rpm_whoever_is_signed_in(shared_world, browser, code):
    page = shared_world.open(browser, "ready-physiologic", user=THERAPIST)
    link = next(target for target, text in page.links if text.endswith(f"accept {code}"))
    choices = shared_world.choices_at(browser, link)
    assert options_of(choices, "performing").value != THERAPIST, "not chosen beforehand, though signed in"
    form = choices.form("/check")
    statements = [control.value for control in form.controls if control.name == "attest"]
    said = {"attest": statements} if statements else {}
    refused = browser.submit(form, **said, **chosen_in(form, performing=THERAPIST))
    assert refused.status == 422
    assert f"A therapist cannot bill {code}" in refused.text
    assert browser.submit(form, **said, **chosen_in(form, performing=PHYSICIAN)).status == 200


def test_the_preview_can_be_loaded_again_and_changing_something_keeps_everything(world, browser):
    world.ehr_shows_surgery(PATIENT)
    link, choices = choices_for(world, browser)
    form = choices.form("/check")
    statements = [control.value for control in form.controls if control.name == "attest"]
    chosen = chosen_in(form, ordering=PHYSICIAN)
    preview = browser.submit(form, attest=statements, **chosen)
    assert PHYSICIAN not in preview.url
    again = browser.get(preview.url)
    first, second = (
        [one for one in page.form(urlsplit(link).path).controls if one.name != "form_token"]
        for page in (preview, again)
    )
    assert second == first, "but for the form's token, which no two answers write alike"
    back = browser.get(next(target for target, text in preview.links if text == "Change something"))
    assert {name: options_of(back, name).value for name in chosen} == chosen
    assert back.body.count(" checked") == len(statements)
    written = browser.submit(again.form(urlsplit(link).path))
    assert "The charge is in the EHR" in written.text
    assert "The charge is in the EHR" in browser.get(preview.url).text, "Back shows what became of it"


@pytest.mark.parametrize("draft", ["", "?draft=nonsense"])
def test_a_preview_without_what_was_said_leads_to_the_choices(shared_world, browser, draft):
    link, _ = choices_for(shared_world, browser)
    page = browser.get(f"{link}/check{draft}")
    assert page.status == 200
    assert shared_world.choices_at(browser, page.url).form("/check")


def test_what_was_said_in_one_session_is_not_believed_in_another(shared_world, browser):
    link, choices = choices_for(shared_world, browser, "98980")
    form = choices.form("/check")
    preview = browser.submit(form, **chosen_in(form, ordering=PHYSICIAN))
    assert "Ordering Avery Synthetic-Physician" in preview.text
    other, _ = choices_for(shared_world, browser, "98980")
    draft = preview.url.partition("?")[2]
    assert "Ordering Devon Synthetic-Therapist" in browser.get(f"{other}/check?{draft}").text
    assert urlsplit(link).path != urlsplit(other).path


DERMATOLOGY = Case(
    file="here",
    name="a visit to somebody who is chosen to perform the charge",
    source="D35",
    says="With them as performer the nurse's minutes of that day do not count.",
    given=[
        {"days": {"of": "BP", "device": "cuff", "from": "2026-03-02", "count": "16"}},
        {"visit": {"at": "2026-03-10T15:00", "for": "15:00", "by": "dermatologist"}},
        {"call": {"at": "2026-03-10T09:00", "for": "10:00", "by": "nurse", "program": "rpm"}},
        {"review": {"at": "2026-03-12T09:00", "for": "11:00", "by": "physician", "program": "rpm"}},
    ],
    expect={},
    as_of="2026-04-10",
)


def test_the_answer_is_made_again_with_whoever_is_chosen_to_perform(open_case, browser):
    here = open_case(DERMATOLOGY)
    page = browser.get(here.page.url)
    link = next(target for target, text in page.links if text.endswith("99457"))
    form = here.world.choices_at(browser, link).form("/check")
    people = next(one.options for one in form.controls if one.name == "performing")
    visited = next(one for one in people if "dermatologist" in one)
    statements = [control.value for control in form.controls if control.name == "attest"]
    none = dict.fromkeys(("diagnosis", "ordering", "place"), "none")
    refused = browser.submit(form, attest=statements, performing=visited, **none)
    assert refused.status == 422
    assert "99457 cannot be charged: minutes on the day of their own visit" in refused.text
    assert "11 minutes" in refused.text
    preview = browser.submit(form, attest=statements, performing=PHYSICIAN, **none)
    assert preview.status == 200, preview.text
    assert "The charge is in the EHR" in browser.submit(preview.form(urlsplit(link).path)).text


def test_a_missing_diagnosis_is_said_and_can_be_left_out_on_purpose(world, browser):
    world.ehr_shows_surgery(PATIENT)
    page = world.open(browser, PATIENT)
    link = next(target for target, text in page.links if text.endswith(CODE))
    form = world.choices_at(browser, link).form("/check")
    statements = [control.value for control in form.controls if control.name == "attest"]
    chosen = {c.name: "none" for c in form.controls if c.kind == "select"}
    preview = browser.submit(form, attest=statements, **chosen)
    assert "Missing: the charge goes without a diagnosis." in preview.text
    browser.submit(preview.form(urlsplit(link).path))
    (charge,) = device_charges(world)
    assert "reason" not in charge
    assert "performer" not in charge


def test_pressing_again_leads_to_the_same_charge(world, browser):
    form = form_for(world, browser)
    first, second = browser.submit(form), browser.submit(form)
    assert first.by_id["charge-item"] == second.by_id["charge-item"]
    assert len(device_charges(world)) == 1


def test_two_tabs_of_two_launches_write_one_charge(world, browser):
    one, other = form_for(world, browser), form_for(world, browser)
    with ThreadPoolExecutor(2) as pool:
        pages = list(pool.map(lambda form: browser.submit(form), (one, other)))
    assert len(device_charges(world)) == 1
    written = f"ChargeItem/{device_charges(world)[0]['id']}"
    assert {page.by_id.get("charge-item") for page in pages} == {written}


def test_eight_processes_write_one_charge(make_world, browser):
    world = make_world()
    processes = [world.process() for _ in range(8)]
    form = form_for(world, browser)
    own = urlsplit(world.settings.base_url).netloc
    browsers = []
    for process in processes:
        process.ready()
        tab = Browser(LONG)
        world.stack.callback(tab.close)
        tab.cookies(f"127.0.0.1:{process.port}").update(browser.cookies(own))
        browsers.append(tab)

    def press(pair):
        process, tab = pair
        return tab.submit(type(form)(form.method, process.here(form.action), form.controls))

    with ThreadPoolExecutor(8) as pool:
        pages = list(pool.map(press, zip(processes, browsers, strict=True)))
    (charge,) = device_charges(world)
    assert {page.by_id.get("charge-item") for page in pages} == {f"ChargeItem/{charge['id']}"}


def test_the_first_requests_of_a_process_may_come_at_the_same_moment(make_world, browser):
    world = make_world()
    process = world.process()
    form = form_for(world, browser)
    process.ready()
    tabs = [Browser(LONG) for _ in range(4)]
    for tab in tabs:
        world.stack.callback(tab.close)
        tab.cookies(f"127.0.0.1:{process.port}").update(
            browser.cookies(urlsplit(world.settings.base_url).netloc)
        )
    here = type(form)(form.method, process.here(form.action), form.controls)
    with ThreadPoolExecutor(4) as pool:
        pages = list(pool.map(lambda tab: tab.submit(here), tabs))
    (charge,) = device_charges(world)
    assert {page.by_id.get("charge-item") for page in pages} == {f"ChargeItem/{charge['id']}"}


def test_a_process_killed_between_the_ehrs_answer_and_our_commit_leaves_one_charge(make_world, browser):
    world = make_world(serve=False)
    first = world.process().ready()
    # The launch comes back to the configured address: the first process must be the one that answers there.
    opened = _open_at(world, first, browser)
    with ThreadPoolExecutor(1) as pool, held(world.ehr, "POST .*/ChargeItem") as gate:
        pressing = pool.submit(_press_and_ignore, browser, opened)
        gate.wait_for()
        first.kill()
        pressing.result()
    assert device_charges(world), "the EHR has it, and nobody heard of it"
    identifier = next(iter(world.store.charges.of_patient("sandbox", PATIENT)))
    assert identifier.state is ChargeState.SENT, "killed before it could commit"

    second = world.process().ready()
    browser.cookies(f"127.0.0.1:{second.port}").update(browser.cookies(f"127.0.0.1:{first.port}"))
    page = browser.submit(
        type(opened)(opened.method, opened.action.replace(str(first.port), str(second.port)), opened.controls)
    )
    (charge,) = device_charges(world)
    assert page.by_id["charge-item"] == f"ChargeItem/{charge['id']}"


def _open_at(world, process, browser):
    """Open the chart at the registered address, then carry the session over to another process's port."""
    port = urlsplit(world.settings.base_url).port
    with AppServer(create_app(world.settings), "127.0.0.1", port):
        form = form_for(world, browser)
    browser.cookies(f"127.0.0.1:{process.port}").update(browser.cookies(f"127.0.0.1:{port}"))
    return type(form)(form.method, process.here(form.action), form.controls)


def _press_and_ignore(browser, form):
    try:
        browser.submit(form)
    except requests.RequestException:
        return


def test_a_reading_whose_process_was_killed_is_taken_over_by_another(make_world, browser):
    world = make_world(job_lease_seconds=1)
    page = world.open(browser, PATIENT)
    own = urlsplit(world.settings.base_url).netloc
    first = world.process().ready()
    browser.cookies(f"127.0.0.1:{first.port}").update(browser.cookies(own))
    again = page.form("/read")
    with held(world.ehr, "/Observation") as gate:
        waiting = browser.submit(type(again)(again.method, first.here(again.action), again.controls))
        assert "Reading the chart" in waiting.text
        gate.wait_for()
        first.kill()
    assert "can be charged" in world.read(browser, browser.get(page.url)).text


def test_a_lost_answer_is_looked_up_not_repeated(world, browser):
    form = form_for(world, browser)
    world.ehr.sandbox.quirks.fail_after_commit = 1
    page = browser.submit(form)
    (charge,) = device_charges(world)
    assert page.by_id["charge-item"] == f"ChargeItem/{charge['id']}"


def test_a_lost_answer_that_cannot_be_looked_up_is_unknown_and_never_sent_again(world, browser):
    quirks = world.ehr.sandbox.quirks
    quirks.no_charge_item_search = True
    form = form_for(world, browser, "98980")
    quirks.fail_after_commit = 1
    page = browser.submit(form)
    assert "Unknown: check in the EHR" in page.text
    again = browser.submit(page.form("/again"))
    assert "Unknown: check in the EHR" in again.text
    assert len(device_charges(world)) == 1
    quirks.no_charge_item_search = False
    found = browser.submit(again.form("/again"))
    assert found.by_id["charge-item"] == f"ChargeItem/{device_charges(world)[0]['id']}"
    assert len(device_charges(world)) == 1


def test_without_conditional_create_a_charge_is_still_written_once(world, browser):
    world.ehr.sandbox.quirks.no_conditional_create = True
    form = form_for(world, browser)
    browser.submit(form)
    browser.submit(form)
    assert len(device_charges(world)) == 1


def test_an_ehr_with_update_create_gets_the_charge_under_an_id_of_ours(world, browser):
    quirks = world.ehr.sandbox.quirks
    quirks.no_conditional_create, quirks.update_create = True, True
    page = browser.submit(form_for(world, browser))
    (charge,) = device_charges(world)
    assert page.by_id["charge-item"] == f"ChargeItem/{charge['id']}"
    assert len(charge["id"]) == 40


def test_an_ehr_that_refuses_says_so_and_the_charge_can_be_tried_again(world, browser):
    form = form_for(world, browser)
    world.ehr.sandbox.quirks.no_charge_item_create = True
    page = browser.submit(form)
    assert "did not take the charge" in page.text
    assert device_charges(world) == []
    world.ehr.sandbox.quirks.no_charge_item_create = False
    again = browser.submit(form)
    assert again.by_id["charge-item"].startswith("ChargeItem/")


def other_charge(code, day):
    return {
        "resourceType": "ChargeItem",
        "status": "billable",
        "code": {"coding": [{"system": "http://www.ama-assn.org/go/cpt", "code": code}]},
        "subject": {"reference": f"Patient/{PATIENT}"},
        "occurrenceDateTime": day,
    }


def service_date(form):
    """The window's first day, from the address of the form."""
    return form.action.rsplit(f"{CODE}-", 1)[1]


@pytest.mark.parametrize(
    "code",
    [
        {"coding": [{"system": "http://www.ama-assn.org/go/cpt", "code": "98985"}]},
        {"coding": [{"system": "urn:clinic:charge-master", "code": "64897"}], "text": "CPT(R) 98985-GP"},
        {"coding": [{"code": "64897"}], "extension": [{"url": "urn:clinic:cpt", "valueString": "98985"}]},
        {"text": "98985 or 98975"},
    ],
)
def test_a_charge_somebody_else_wrote_for_the_same_time_stops_ours(world, browser, code):
    form = form_for(world, browser)
    world.ehr_creates({**other_charge("98985", service_date(form)), "code": code})
    page = browser.submit(form)
    assert page.status == 409
    assert "98985" in page.text
    assert device_charges(world) == []


def test_a_charge_of_another_family_is_shown_as_a_difference_before_anything_is_written(world, browser):
    form = form_for(world, browser)
    name = world.ehr_creates(other_charge("98975", service_date(form)))
    page = browser.submit(form)
    assert page.status == 409
    assert f"ChargeItem/{name} is new since the chart was read." in page.text
    assert device_charges(world) == []


def test_evidence_that_was_corrected_meanwhile_stops_the_write_and_is_named(world, browser):
    form = form_for(world, browser)
    _, findings = world.findings(form)
    decision = findings.decision(form.action.rsplit("/", 1)[1])
    reference = decision.requirements[0].evidence[0]
    stored = world.ehr.sandbox.store.read("Observation", reference.split("/")[1])
    body = json.loads(stored.body)
    world.ehr.sandbox.store.update({**body, "status": "entered-in-error"}, None)
    page = browser.submit(form)
    assert page.status == 409
    assert f"{reference} was changed since the chart was read." in page.text
    assert device_charges(world) == []


def test_a_written_charge_leaves_its_packet_its_anchor_and_an_unbroken_audit_trail(world, browser):
    browser.submit(form_for(world, browser))
    (row,) = world.store.charges.of_patient("sandbox", PATIENT)
    packet = json.loads(world.store.charges.packet(row.identifier))
    assert len(packet["evidence"]["records"]) == 18
    assert packet["read_back"]["id"] == row.charge_item
    assert row.content.snapshot_sha256 == packet["snapshot"]["sha256"]
    assert world.store.charges.enrolments("sandbox", PATIENT)["rtm"].frozen
    events = [entry["event"] for entry in world.store.audit.entries()]
    assert {"charge-written", "chart-brought-up-to-date"} <= set(events)
    assert "charge-written" in events
    assert world.store.audit.verify() is None
