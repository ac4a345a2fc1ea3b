"""What changed since it was charged, over HTTP: one change, by a person, over the version that was read."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from urllib.parse import urlsplit

import pytest
import requests

from launch.http import EhrClient
from smartapp import create_app
from smartapp.commands.checks import Status
from smartapp.commands.demo_check import Browser
from smartapp.commands.packet_check import checked
from smartapp.serving import AppServer
from smartapp.store.claims import ChargeState
from smartapp.store.denials import DenialContent, Denied
from tests.support.sandbox import LONG

PATIENT = "ready-respiratory"
PHYSICIAN, THERAPIST, NURSE = (f"Practitioner/syn-{name}" for name in ("physician", "therapist", "nurse"))
OURS = "urn:smart-remote-monitoring:charge"


def ours(world, patient=PATIENT):
    """ChargeItems that carry our identifier, by code."""
    return [
        charge
        for charge in world.charges(patient)
        if any(i["system"] == OURS for i in charge.get("identifier", ()))
    ]


def live(world, patient=PATIENT):
    return [charge for charge in ours(world, patient) if charge["status"] != "entered-in-error"]


def code_of(charge):
    return charge["code"]["coding"][0]["code"]


def encounters(world, code, patient=PATIENT):
    return [e for e in world.resources("Encounter", patient) if e["type"][0]["coding"][0]["code"] == code]


def reviews(world, status):
    """Twelve of the month's twenty-four minutes count, or not."""
    for encounter in encounters(world, "RTM-REVIEW"):
        world.ehr_changes("Encounter", encounter["id"], status=status)


def accept(world, browser, code, patient=PATIENT):
    """Write the suggestion of this code; the ChargeItem."""
    browser.submit(accept_form(world, browser, world.open(browser, patient), code))
    return next(charge for charge in live(world, patient) if code_of(charge) == code)


def accept_form(world, browser, page, code):
    link = next(target for target, text in page.links if text.endswith(f"accept {code}"))
    return world.final_form(browser, page, urlsplit(link).path.rsplit("/", 1)[1])


def preview(world, browser, code, patient=PATIENT, user=None):
    """The page before and after a change that the record asks for."""
    page = world.open(browser, patient, user=user)
    assert "What changed since it was charged" in page.text
    return browser.get(next(t for t, text in page.links if text == f"Review this change of {code}"))


def confirm_form(page):
    return next(form for form in page.forms if "/changes/" in form.action)


def confirm(browser, page):
    form = confirm_form(page)
    statements = [control.value for control in form.controls if control.name == "attest"]
    return browser.submit(form, **({"attest": statements} if statements else {}))


def events(world):
    return [entry["event"] for entry in world.store.audit.entries()]


def changes(world, patient=PATIENT):
    return world.store.changes.of_patient("sandbox", patient)


@pytest.fixture
def grown(world, browser):
    """98979 was charged; then the record grew to what earns 98980."""
    reviews(world, "entered-in-error")
    charge = accept(world, browser, "98979")
    reviews(world, "finished")
    return charge


# Replace


def test_a_code_that_grew_is_replaced_and_at_no_time_do_both_stand(world, browser, grown):
    seen = []
    store = world.ehr.sandbox.store

    def watched(write):
        def do(*args, **kwargs):
            done = write(*args, **kwargs)
            seen.append(sorted(code_of(charge) for charge in live(world)))
            return done

        return do

    store.update, store.create = watched(store.update), watched(store.create)
    page = confirm(browser, preview(world, browser, "98979"))
    assert "The charge is replaced" in page.text
    assert seen == [[], ["98980"]]
    (new,) = live(world)
    assert page.by_id["charge-item"] == f"ChargeItem/{new['id']}"


def test_the_old_one_says_why_it_was_taken_back_and_the_new_one_what_it_replaces(world, browser, grown):
    confirm(browser, preview(world, browser, "98979"))
    old = next(charge for charge in ours(world) if charge["id"] == grown["id"])
    (new,) = live(world)
    assert old["status"] == "entered-in-error"
    assert "to be replaced by 98980" in old["note"][-1]["text"]
    assert old["note"][-1]["authorReference"]["reference"] == PHYSICIAN
    assert f"ChargeItem/{grown['id']}" in new["note"][-1]["text"]
    assert new["status"] == "planned"
    assert (new["performer"], new["reason"]) == (grown["performer"], grown["reason"])
    kept = {k: v for k, v in old.items() if k not in {"status", "note", "meta"}}
    assert kept == {k: v for k, v in grown.items() if k not in {"status", "note", "meta"}}


def test_the_preview_shows_before_and_after_and_writes_nothing(world, browser, grown):
    page = preview(world, browser, "98979")
    assert "98979 → 98980" in page.text
    assert [charge["meta"]["versionId"] for charge in ours(world)] == [grown["meta"]["versionId"]]
    assert changes(world) == ()


def test_what_is_charged_more_needs_its_statements_confirmed_again(world, browser, grown):
    world.ehr_shows_surgery(PATIENT)
    again = browser.submit(confirm_form(preview(world, browser, "98979")))
    assert again.status == 422
    assert "not confirmed" in again.text
    assert [code_of(charge) for charge in live(world)] == ["98979"]


def test_a_code_that_shrank_is_replaced_by_the_lower_one(world, browser):
    accept(world, browser, "98980")
    reviews(world, "entered-in-error")
    confirm(browser, preview(world, browser, "98980"))
    assert [code_of(charge) for charge in live(world)] == ["98979"]


def test_a_code_that_grew_and_shrank_again_becomes_a_third_charge_under_an_identifier_of_its_own(
    world, browser, grown
):
    confirm(browser, preview(world, browser, "98979"))
    reviews(world, "entered-in-error")
    confirm(browser, preview(world, browser, "98980"))
    assert [code_of(charge) for charge in live(world)] == ["98979"]
    assert len({charge["identifier"][0]["value"] for charge in ours(world)}) == 3


def test_afterwards_nothing_is_left_to_change_and_the_record_earns_what_is_charged(world, browser, grown):
    confirm(browser, preview(world, browser, "98979"))
    page = world.open(browser, PATIENT)
    assert "What changed since it was charged" not in page.text
    assert "Changes that are not finished" not in page.text


# Update


def test_a_further_unit_is_an_update_of_the_same_charge_over_its_version(world, browser):
    patient = "ready-musculoskeletal"
    accept(world, browser, "98980", patient)
    before = accept(world, browser, "98981", patient)
    (call,) = encounters(world, "RTM-CALL", patient)
    day = call["period"]["start"][:10]
    offset = call["period"]["start"][19:]
    longer = {"start": f"{day}T12:00:00{offset}", "end": f"{day}T12:25:00{offset}"}
    again = {k: v for k, v in call.items() if k not in {"id", "meta"}}
    again["participant"] = [{**call["participant"][0], "period": longer}]
    world.ehr_creates({**again, "period": longer})
    page = confirm(browser, preview(world, browser, "98981", patient))
    assert "The charge is updated" in page.text
    after = next(charge for charge in live(world, patient) if charge["id"] == before["id"])
    assert (before["quantity"]["value"], after["quantity"]["value"]) == (1, 2)
    assert int(after["meta"]["versionId"]) == int(before["meta"]["versionId"]) + 1
    assert after["status"] == "planned"
    assert "quantity 1 to 2" in after["note"][-1]["text"]
    assert len(after["note"]) == len(before["note"]) + 1
    assert problems_of_packets(world) == []


# Withdraw


def test_a_charge_that_lost_its_ground_is_withdrawn_with_its_reason(world, browser):
    charge = accept(world, browser, "98980")
    for call in encounters(world, "RTM-CALL"):
        world.ehr_changes("Encounter", call["id"], status="entered-in-error")
    page = confirm(browser, preview(world, browser, "98980"))
    assert "The charge is withdrawn" in page.text
    (after,) = ours(world)
    assert (after["id"], after["status"]) == (charge["id"], "entered-in-error")
    assert "does not meet this code any more" in after["note"][-1]["text"]
    (row,) = world.store.charges.of_patient("sandbox", PATIENT)
    assert row.state is ChargeState.WITHDRAWN
    assert problems_of_packets(world) == []


def own_withdrawal(world, browser, reason="Entered for the wrong patient."):
    page = world.open(browser, PATIENT)
    ask = browser.get(next(target for target, text in page.links if text == "Withdraw it"))
    return browser.submit(ask.form("/withdraw"), **({"reason": reason} if reason else {}))


def test_a_clinician_may_withdraw_a_charge_for_a_reason_of_their_own(world, browser):
    accept(world, browser, "98980")
    assert own_withdrawal(world, browser, None).status == 422
    confirm(browser, own_withdrawal(world, browser))
    assert [charge["status"] for charge in ours(world)] == ["entered-in-error"]
    assert "wrong patient" in ours(world)[0]["note"][-1]["text"]
    assert problems_of_packets(world) == []


def test_what_was_withdrawn_can_be_charged_anew_as_another_charge(world, browser):
    first = accept(world, browser, "98980")
    confirm(browser, own_withdrawal(world, browser))
    second = accept(world, browser, "98980")
    assert second["id"] != first["id"]
    assert second["identifier"] != first["identifier"]
    assert len(live(world)) == 1


def test_what_a_line_of_the_worksheet_excludes_is_not_put_beside_it(make_world, browser):
    world = make_world(issuer_more='write = {charge_item = "no"}\n')
    reviews(world, "entered-in-error")
    page = world.open(browser, PATIENT)
    browser.submit(accept_form(world, browser, page, "98979"))
    reviews(world, "finished")
    page = world.open(browser, PATIENT)
    answer = browser.submit(accept_form(world, browser, page, "98980"))
    assert "Nothing was written" in answer.text
    assert "A charge of 98979 in the same time was just written from here" in answer.text
    rows = world.store.charges.of_patient("sandbox", PATIENT)
    assert [row.code for row in rows if row.state is ChargeState.TO_ENTER] == ["98979"]


def test_a_denied_charge_that_was_corrected_by_another_stands_by_that_one(world, browser, grown):
    (row,) = world.store.charges.of_patient("sandbox", PATIENT)
    denied = Denied(row.identifier, row.content.service_date, "50")
    world.store.denials.record([denied], DenialContent("Practitioner/7"), world.now())
    confirm(browser, preview(world, browser, "98979"))
    page = world.open(browser, PATIENT)
    assert "What changed since it was charged" not in page.text
    assert "98980 RTM management, first 20 minutes ■ Already charged" in page.text
    (instead,) = live(world)
    world.ehr_changes("ChargeItem", instead["id"], status="entered-in-error")
    page = world.open(browser, PATIENT)
    assert not [text for _, text in page.links if text.endswith(("accept 98979", "accept 98980"))]


# Whose charge it is


@pytest.mark.parametrize("subject", [{"reference": "Patient/somebody-else"}, {"display": "somebody"}, 5])
def test_a_charge_that_the_ehr_gives_as_another_patients_is_left_alone(world, browser, monkeypatch, subject):
    charge = accept(world, browser, "98980")
    page = own_withdrawal(world, browser)
    true = EhrClient.fhir

    def fhir(client, method, target, **more):
        answer = true(client, method, target, **more)
        if method == "GET" and target == f"ChargeItem/{charge['id']}":
            return replace(answer, body=json.dumps({**json.loads(answer.body), "subject": subject}).encode())
        return answer

    monkeypatch.setattr(EhrClient, "fhir", fhir)
    assert confirm(browser, page).status == 409
    assert [one["status"] for one in ours(world)] == ["planned"]


def test_a_billed_charge_is_never_touched_and_the_page_says_what_does_not_agree(world, browser, grown):
    world.ehr_changes("ChargeItem", grown["id"], status="billed")
    held = world.resources("ChargeItem", PATIENT)
    page = world.open(browser, PATIENT)
    assert "Billing has taken it up" in page.text
    assert "The record earns 98980, 1 unit." in page.text
    assert not [text for _, text in page.links if text.startswith("Review this change")]
    assert not [text for _, text in page.links if text == "Withdraw it"]
    browser.get(world.change_address(page, grown["id"]))
    assert browser.get(f"{world.change_address(page, grown['id'])}/withdraw").status == 403
    assert world.resources("ChargeItem", PATIENT) == held


def test_a_charge_that_is_billed_between_preview_and_confirmation_is_left_alone(world, browser, grown):
    page = preview(world, browser, "98979")
    world.ehr_changes("ChargeItem", grown["id"], status="billed")
    assert confirm(browser, page).status == 409
    assert [(code_of(c), c["status"]) for c in ours(world)] == [("98979", "billed")]


@pytest.mark.parametrize("identifier", [None, "made-up"])
def test_somebody_elses_charge_is_never_touched_whatever_form_is_sent(world, browser, grown, identifier):
    own = preview(world, browser, "98979")
    form = confirm_form(own)
    foreign = {
        "resourceType": "ChargeItem",
        "status": "planned",
        "code": {"coding": [{"system": "http://www.ama-assn.org/go/cpt", "code": "98980"}]},
        "subject": {"reference": f"Patient/{PATIENT}"},
        "occurrencePeriod": {
            "start": grown["occurrencePeriod"]["start"].replace("-10-", "-09-"),
            "end": grown["occurrencePeriod"]["end"].replace("-10-31", "-09-30"),
        },
    }
    if identifier:
        foreign["identifier"] = [{"system": OURS, "value": identifier}]
    name = world.ehr_creates(foreign)
    page = world.open(browser, PATIENT)
    held = world.resources("ChargeItem", PATIENT)
    address = world.change_address(page, name)
    assert browser.get(f"{address}/withdraw").status == 403
    snapshot = world.store.reading.snapshot_of(urlsplit(page.url).path.split("/")[2])
    for more in ({}, {"reason": "I want it gone."}):
        fields = {
            "form_token": page.form("/end").controls[0].value,
            "patient": PATIENT,
            "snapshot": snapshot.id,
            "version": "1",
            "entered_at": next(c.value for c in form.controls if c.name == "entered_at"),
            "preview": "0" * 64,
            **more,
        }
        own_cookies = browser.cookies(urlsplit(page.url).netloc)
        sent = requests.post(
            address,
            data=fields,
            headers={"Cookie": "; ".join(f"{k}={v}" for k, v in own_cookies.items()), "Origin": "null"},
            timeout=60,
        )
        assert sent.status_code in {403, 409}
    assert world.resources("ChargeItem", PATIENT) == held


def test_who_may_only_look_sees_what_changed_and_cannot_change_it(world, browser, grown):
    form = confirm_form(preview(world, browser, "98979"))
    page = world.open(browser, PATIENT, user=NURSE)
    assert "98979 → 98980" in page.text
    assert not [text for _, text in page.links if text.startswith("Review this change")]
    address = world.change_address(page, grown["id"])
    assert browser.get(address).status == 403
    nurses = type(form)("post", address, form.controls)
    for control in nurses.controls:
        if control.name == "form_token":
            control.value = page.form("/end").controls[0].value
        elif control.name == "snapshot":
            session_id = urlsplit(page.url).path.split("/")[2]
            control.value = world.store.reading.snapshot_of(session_id).id
    assert browser.submit(nurses).status == 403
    assert [code_of(charge) for charge in live(world)] == ["98979"]


# Somebody else was faster


def test_a_charge_changed_after_the_preview_stops_it_and_a_fresh_read_goes_on(world, browser, grown):
    page = preview(world, browser, "98979")
    world.ehr_changes("ChargeItem", grown["id"], account=[{"display": "Billing looked at it"}])
    stopped = confirm(browser, page)
    assert stopped.status == 409
    assert "was changed since this page was made" in stopped.text
    assert [code_of(charge) for charge in live(world)] == ["98979"]
    world.read(browser, browser.submit(stopped.form("/read")))
    confirm(browser, preview(world, browser, "98979"))
    (new,) = live(world)
    assert code_of(new) == "98980"
    assert new["account"] == [{"display": "Billing looked at it"}]


def test_a_lost_update_is_refused_by_the_ehr_and_nobodys_change_is_overwritten(world, browser, grown):
    page = preview(world, browser, "98979")
    store, update = world.ehr.sandbox.store, world.ehr.sandbox.store.update

    def faster(resource, if_match, create=False):
        """Billing changes the charge between our last read and our write."""
        store.update = update
        current = json.loads(store.read("ChargeItem", grown["id"]).body)
        update({**current, "status": "billable"}, None)
        return update(resource, if_match, create)

    store.update = faster
    stopped = confirm(browser, page)
    assert stopped.status == 409
    assert "was changed by somebody else meanwhile" in stopped.text
    assert [(code_of(c), c["status"]) for c in ours(world)] == [("98979", "billable")]
    (row,) = changes(world)
    assert row.state is ChargeState.STALE
    assert "change-stale" in events(world)


def test_evidence_that_moved_since_the_chart_was_read_stops_it_before_anything_is_taken_back(
    world, browser, grown
):
    page = preview(world, browser, "98979")
    reviews(world, "entered-in-error")
    stopped = confirm(browser, page)
    assert stopped.status == 409
    assert "was changed since the chart was read" in stopped.text
    assert [(code_of(c), c["status"]) for c in ours(world)] == [("98979", "planned")]


def test_two_tabs_make_one_change(world, browser, grown):
    one, two = preview(world, browser, "98979"), preview(world, browser, "98979")
    with ThreadPoolExecutor(2) as pool:
        pages = list(pool.map(lambda page: confirm(browser, page), (one, two)))
    assert [code_of(charge) for charge in live(world)] == ["98980"]
    assert len(ours(world)) == 2
    assert len(changes(world)) == 1
    assert {page.status for page in pages} <= {200, 409}
    assert any("The charge is replaced" in page.text for page in pages)


def test_pressing_again_leads_to_what_was_done_the_first_time(world, browser, grown):
    page = preview(world, browser, "98979")
    first, second = confirm(browser, page), confirm(browser, page)
    assert first.by_id["charge-item"] == second.by_id["charge-item"]
    assert len(ours(world)) == 2
    assert events(world).count("charge-taken-back") == 1


# Interrupted


def test_a_lost_answer_is_looked_up_and_not_repeated(world, browser, grown):
    page = preview(world, browser, "98979")
    store, update = world.ehr.sandbox.store, world.ehr.sandbox.store.update

    def lost(*args, **kwargs):
        store.update = update
        update(*args, **kwargs)
        raise RuntimeError("committed, and the answer is lost")

    store.update = lost
    assert "The charge is replaced" in confirm(browser, page).text
    assert [code_of(charge) for charge in live(world)] == ["98980"]


def test_a_new_charge_that_the_ehr_refuses_leaves_the_change_half_done_and_it_can_be_finished(
    world, browser, grown
):
    page = preview(world, browser, "98979")
    world.ehr.sandbox.quirks.no_charge_item_create = True
    half = confirm(browser, page)
    assert "Half done" in half.text
    assert live(world) == []
    world.ehr.sandbox.quirks.no_charge_item_create = False
    patient = world.open(browser, PATIENT)
    assert "Changes that are not finished" in patient.text
    done = browser.submit(browser.get(half.url).form("/again"))
    assert "The charge is replaced" in done.text
    assert [code_of(charge) for charge in live(world)] == ["98980"]


def test_a_half_done_change_may_be_left_at_that_and_the_suggestion_accepted_from_its_card(
    world, browser, grown
):
    page = preview(world, browser, "98979")
    world.ehr.sandbox.quirks.no_charge_item_create = True
    half = confirm(browser, page)
    world.ehr.sandbox.quirks.no_charge_item_create = False
    browser.submit(half.form("/leave"))
    assert live(world) == []
    assert code_of(accept(world, browser, "98980")) == "98980"
    assert "Changes that are not finished" not in world.open(browser, PATIENT).text


def test_a_half_done_change_whose_ground_is_gone_is_not_finished(world, browser, grown):
    page = preview(world, browser, "98979")
    world.ehr.sandbox.quirks.no_charge_item_create = True
    half = confirm(browser, page)
    world.ehr.sandbox.quirks.no_charge_item_create = False
    reviews(world, "entered-in-error")
    world.read(
        browser,
        browser.submit(world.read(browser, browser.get(half.url.split("/changes/")[0] + "/")).form("/read")),
    )
    still = browser.submit(browser.get(half.url).form("/again"))
    assert "does not earn the new charge any more" in still.text
    assert live(world) == []


@pytest.mark.parametrize("moment", ["after the old one was taken back", "before that was committed here"])
def test_a_process_killed_between_the_two_steps_of_a_replacement_can_be_resumed(make_world, browser, moment):
    world = make_world(serve=False)
    port = urlsplit(world.settings.base_url).port
    first = world.process().ready()
    with AppServer(create_app(world.settings), "127.0.0.1", port):
        reviews(world, "entered-in-error")
        accept(world, browser, "98979")
        reviews(world, "finished")
        form = confirm_form(preview(world, browser, "98979"))
    browser.cookies(f"127.0.0.1:{first.port}").update(browser.cookies(f"127.0.0.1:{port}"))
    form = type(form)(form.method, first.here(form.action), form.controls)
    store, reached, killed = world.ehr.sandbox.store, threading.Event(), threading.Event()
    name = "create" if moment.startswith("after") else "update"
    write = getattr(store, name)

    def held_up(*args, **kwargs):
        setattr(store, name, write)
        done = write(*args, **kwargs) if name == "update" else None
        reached.set()
        killed.wait(LONG)
        if done is None:
            raise RuntimeError("never arrived")
        return done

    setattr(store, name, held_up)
    with ThreadPoolExecutor(1) as pool:
        pressing = pool.submit(_press_and_ignore, browser, form)
        assert reached.wait(LONG)
        first.kill()
        killed.set()
        pressing.result()
    assert live(world) == [], "the old one is back, the new one is not there"
    (row,) = changes(world)
    assert row.state is (ChargeState.TAKEN_BACK if name == "create" else ChargeState.SENT)

    second = world.process(later=4 * world.settings.job_lease).ready()
    browser.cookies(f"127.0.0.1:{second.port}").update(browser.cookies(f"127.0.0.1:{port}"))
    session = urlsplit(form.action).path.split("/changes/")[0]
    page = browser.get(f"http://127.0.0.1:{second.port}{session}/")
    assert "Changes that are not finished" in page.text
    state = browser.get(next(target for target, text in page.links if text == "See what can be done"))
    done = browser.submit(state.form("/again"))
    assert "The charge is replaced" in done.text
    assert [code_of(charge) for charge in live(world)] == ["98980"]
    assert len(ours(world)) == 2
    assert world.store.audit.verify() is None


def _press_and_ignore(browser, form):
    statements = [control.value for control in form.controls if control.name == "attest"]
    try:
        browser.submit(form, **({"attest": statements} if statements else {}))
    except requests.RequestException:
        return


@pytest.mark.parametrize("spoilt", ["form_token", "patient", "snapshot"])
def test_a_form_of_another_page_patient_or_reading_changes_nothing(world, browser, grown, spoilt):
    page = preview(world, browser, "98979")
    for control in confirm_form(page).controls:
        if control.name == spoilt:
            control.value = "0" * 32
    assert confirm(browser, page).status == {"form_token": 400}.get(spoilt, 409)
    assert [code_of(charge) for charge in live(world)] == ["98979"]


# What is kept


def problems_of_packets(world):
    """What `smartapp packet check` finds to say of every packet that was kept, but that all is well."""
    packets = world.store.packets
    return [
        (kept.name, one.id, one.says)
        for kept in packets.all()
        for one in checked(packets.content(kept))
        if one.status is not Status.OK
    ]


def test_every_change_leaves_its_packet_and_the_audit_trail_holds(world, browser, grown):
    confirm(browser, preview(world, browser, "98979"))
    (row,) = changes(world)
    packet = json.loads(world.store.changes.packet(row.id))
    assert packet["before"]["status"] == "planned"
    assert packet["written"]["status"] == packet["read_back"]["status"] == "entered-in-error"
    assert packet["instead"]["code"]["coding"][0]["code"] == "98980"
    assert packet["reasons"] == ["higher-code"]
    assert packet["confirmed_by"] == PHYSICIAN
    assert len(packet["evidence"]["records"]) == 3
    (new,) = live(world)
    charge = next(r for r in world.store.charges.of_patient("sandbox", PATIENT) if r.charge_item == new["id"])
    assert world.store.charges.packet(charge.identifier) is not None
    assert problems_of_packets(world) == []
    found = events(world)
    assert {"charge-taken-back", "charge-written", "charge-replaced"} <= set(found)
    assert world.store.audit.verify() is None


# A second person


@pytest.fixture
def other():
    with closing(Browser()) as opened:
        yield opened


def test_with_second_approval_a_change_waits_for_somebody_else(make_world, browser, other):
    world = make_world(site_more="second_approval: true\n")
    reviews(world, "entered-in-error")
    page = world.open(browser, PATIENT)
    link = next(target for target, text in page.links if text.endswith("accept 98979"))
    browser.submit(world.final_form(browser, page, urlsplit(link).path.rsplit("/", 1)[1]))
    theirs = world.open(other, PATIENT, user=THERAPIST)
    approval = other.get(next(target for target, text in theirs.links if text == "See and approve"))
    other.submit(next(f for f in approval.forms if "/approvals/" in f.action and "decline" not in f.action))
    reviews(world, "finished")

    waiting = confirm(browser, preview(world, browser, "98979"))
    assert "awaiting approval" in waiting.text
    assert "You confirmed this change yourself" in waiting.text
    assert [code_of(charge) for charge in live(world)] == ["98979"]
    theirs = world.open(other, PATIENT, user=THERAPIST)
    seen = other.get(next(target for target, text in theirs.links if text == "See what can be done"))
    done = other.submit(seen.form("/approve"))
    assert "The charge is replaced" in done.text
    assert [code_of(charge) for charge in live(world)] == ["98980"]
    (row,) = changes(world)
    assert row.content.approval.by == THERAPIST


def test_a_withdrawal_waits_for_nobody(make_world, browser, other):
    world = make_world(site_more="second_approval: true\n")
    page = world.open(browser, PATIENT)
    link = next(target for target, text in page.links if text.endswith("accept 98980"))
    browser.submit(world.final_form(browser, page, urlsplit(link).path.rsplit("/", 1)[1]))
    theirs = world.open(other, PATIENT, user=THERAPIST)
    approval = other.get(next(target for target, text in theirs.links if text == "See and approve"))
    other.submit(next(f for f in approval.forms if "/approvals/" in f.action and "decline" not in f.action))
    confirm(browser, own_withdrawal(world, browser))
    assert live(world) == []
