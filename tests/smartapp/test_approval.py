"""With a second person's approval nothing is sent before somebody else has seen exactly what will be."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from urllib.parse import urlsplit

import pytest

from smartapp.commands.demo_check import Browser
from smartapp.ehr.charges import workflow
from smartapp.ehr.charges.create import ChargeWriter
from smartapp.store.claims import ChargeState

PATIENT = "ready-musculoskeletal"
CODE = "98977"
PHYSICIAN, THERAPIST, NURSE = (f"Practitioner/syn-{name}" for name in ("physician", "therapist", "nurse"))

ROLE, NAMELESS = "PractitionerRole/syn-physician-role", "PractitionerRole/of-somebody"


@pytest.fixture
def world(make_world):
    return make_world(site_more="second_approval: true\n")


@pytest.fixture
def other():
    """The second person's browser."""
    with closing(Browser()) as opened:
        yield opened


def ours(world):
    return [
        charge
        for charge in world.charges(PATIENT)
        if any(i["system"] == "urn:smart-remote-monitoring:charge" for i in charge.get("identifier", ()))
    ]


def accepted(world, browser, user=None):
    """The page after the first person pressed."""
    page = world.open(browser, PATIENT, user=user)
    link = next(target for target, text in page.links if text.endswith(CODE))
    return browser.submit(world.final_form(browser, page, urlsplit(link).path.rsplit("/", 1)[1]))


def approval(world, browser, user=THERAPIST):
    """What the second person sees."""
    page = world.open(browser, PATIENT, user=user)
    return browser.get(next(target for target, text in page.links if text == "See and approve"))


def approve_form(page):
    return next(form for form in page.forms if "/approvals/" in form.action and "decline" not in form.action)


def events(world):
    return [entry["event"] for entry in world.store.audit.entries()]


def test_accepting_sends_nothing_and_says_who_must_approve(world, browser):
    page = accepted(world, browser)
    assert "awaiting approval" in page.text
    assert ours(world) == []
    (row,) = world.store.charges.of_patient("sandbox", PATIENT)
    assert row.state is ChargeState.AWAITING
    assert "charge-awaits-approval" in events(world)


def test_the_second_person_sees_exactly_what_is_then_written(world, browser, other):
    accepted(world, browser)
    page = approval(world, other)
    shown = json.loads(page.text[page.text.index("{") : page.text.rindex("}") + 1])
    result = other.submit(approve_form(page))
    (charge,) = ours(world)
    assert {key: value for key, value in charge.items() if key not in {"id", "meta"}} == shown
    assert result.by_id["charge-item"] == f"ChargeItem/{charge['id']}"
    assert charge["enterer"]["reference"] == PHYSICIAN
    assert "approved by Devon Synthetic-Therapist" in result.text


def test_who_approved_stands_in_packet_and_audit_trail(world, browser, other):
    accepted(world, browser)
    other.submit(approve_form(approval(world, other)))
    (row,) = world.store.charges.of_patient("sandbox", PATIENT)
    packet = json.loads(world.store.charges.packet(row.identifier))
    assert (packet["confirmed_by"], packet["approval"]["by"]) == (PHYSICIAN, THERAPIST)
    written = next(e for e in world.store.audit.entries() if e["event"] == "charge-written")
    approved = next(e for e in world.store.audit.entries() if e["event"] == "charge-approved")
    assert (written["accepted_by"], written["approved_by"]) == (PHYSICIAN, THERAPIST)
    assert (written["user"], written["sent_by"]) == (THERAPIST, THERAPIST)
    assert (approved["user"], approved["accepted_by"]) == (THERAPIST, PHYSICIAN)
    assert world.store.audit.verify() is None


def test_the_first_person_cannot_approve_their_own(world, browser, other):
    accepted(world, browser)
    own = approval(world, browser, user=PHYSICIAN)
    assert "somebody else must approve it" in own.text
    theirs = approve_form(approval(world, other))
    for control in theirs.controls:
        if control.name in {"form_token", "snapshot"}:
            mine = own.form("/decline").controls
            control.value = next(c.value for c in mine if c.name == control.name)
    forged = type(theirs)("post", own.url, theirs.controls)
    assert browser.submit(forged).status == 403
    assert ours(world) == []


def test_somebody_whose_role_does_not_approve_sees_it_and_has_no_button(world, browser, other):
    accepted(world, browser)
    page = approval(world, other, user=NURSE)
    assert "does not approve charges" in page.text
    assert not [form for form in page.forms if "/approvals/" in form.action]


def test_pressing_twice_and_in_two_tabs_writes_once(world, browser, other):
    accepted(world, browser)
    one, two = approve_form(approval(world, other)), approve_form(approval(world, other))
    with ThreadPoolExecutor(2) as pool:
        pages = list(pool.map(other.submit, (one, two)))
    other.submit(one)
    (charge,) = ours(world)
    assert {page.by_id.get("charge-item") for page in pages} == {f"ChargeItem/{charge['id']}"}


def test_evidence_that_was_corrected_since_stops_the_approval_and_it_waits_on(world, browser, other):
    accepted(world, browser)
    page = approval(world, other)
    (row,) = world.store.charges.of_patient("sandbox", PATIENT)
    cited = row.content.resource["service"][0]["reference"].split("/")[1]
    world.ehr_changes("Observation", cited, status="entered-in-error")
    stopped = other.submit(approve_form(page))
    assert stopped.status == 409
    assert f"Observation/{cited} was changed" in stopped.text
    assert ours(world) == []
    assert world.store.charges.get(row.identifier).state is ChargeState.AWAITING


def test_evidence_that_changed_between_acceptance_and_the_second_reading_stops_it_too(world, browser, other):
    accepted(world, browser)
    (row,) = world.store.charges.of_patient("sandbox", PATIENT)
    cited = row.content.resource["service"][0]["reference"].split("/")[1]
    world.ehr_changes("Observation", cited, note=[{"text": "looked at again"}])
    stopped = other.submit(approve_form(approval(world, other)))
    assert stopped.status == 409
    assert "since the charge was accepted" in stopped.text
    assert ours(world) == []


def test_declining_needs_a_reason_keeps_it_and_lets_the_charge_be_accepted_anew(world, browser, other):
    accepted(world, browser)
    page = approval(world, other)
    assert other.submit(page.form("/decline")).status == 422
    other.submit(page.form("/decline"), reason="Wrong performing practitioner.")
    (row,) = world.store.charges.of_patient("sandbox", PATIENT)
    assert row.state is ChargeState.DECLINED
    assert row.content.approval.declined_because == "Wrong performing practitioner."
    declined = next(e for e in world.store.audit.entries() if e["event"] == "charge-declined")
    assert "Wrong performing" not in json.dumps(declined)
    assert declined["user"] == THERAPIST
    assert "Wrong performing practitioner." in world.open(browser, PATIENT).text
    assert "awaiting approval" in accepted(world, browser).text
    other.submit(approve_form(approval(world, other)))
    assert len(ours(world)) == 1


def test_an_approval_of_what_was_declined_and_accepted_anew_is_refused(world, browser, other):
    accepted(world, browser)
    stale = approve_form(approval(world, other))
    own = approval(world, browser, user=PHYSICIAN)
    browser.submit(own.form("/decline"), reason="Mistake.")
    accepted(world, browser)
    assert other.submit(stale).status == 409
    assert ours(world) == []


@pytest.mark.parametrize("pressed", ["approve", "decline"])
def test_what_is_declined_and_accepted_anew_just_then_waits_for_another_look(
    world, browser, other, monkeypatch, pressed
):
    accepted(world, browser)
    page = approval(world, other)
    form = approve_form(page) if pressed == "approve" else page.form("/decline")
    press, meanwhile = getattr(ChargeWriter, pressed), []

    def pressed_last(writer, *rest):
        if not meanwhile:
            meanwhile.append(pressed)
            own = approval(world, browser, user=PHYSICIAN)
            browser.submit(own.form("/decline"), reason="Mistake.")
            accepted(world, browser)
        return press(writer, *rest)

    monkeypatch.setattr(ChargeWriter, pressed, pressed_last)
    monkeypatch.setattr(workflow, "PATIENCE_SECONDS", 0)
    other.submit(form, **({} if pressed == "approve" else {"reason": "Too early."}))
    assert ours(world) == []
    (row,) = world.store.charges.of_patient("sandbox", PATIENT)
    assert row.state is ChargeState.AWAITING
    assert row.content.approval is None


def test_what_excludes_it_cannot_be_accepted_while_it_waits(world, browser):
    accepted(world, browser)
    form = world.final_form(browser, world.open(browser, PATIENT))
    assert CODE not in form.action
    (row,) = world.store.charges.of_patient("sandbox", PATIENT)
    assert row.state is ChargeState.AWAITING


@pytest.fixture
def without_roles(make_world):
    """A world whose EHR lets nobody search for roles, and whose site says in which role they work."""
    roles = {ROLE: "physician", PHYSICIAN: "physician", NAMELESS: "physical-therapist"}
    users = ", ".join(f"{{user: {name}, role: {role}}}" for name, role in roles.items())
    world = make_world(site_more=f"second_approval: true\nusers: [{users}]\n")
    world.ehr.sandbox.quirks.refused = "PractitionerRole"
    return world


@pytest.mark.threat("5.11")
@pytest.mark.parametrize(("first", "second"), [(ROLE, PHYSICIAN), (PHYSICIAN, ROLE)])
def test_nobody_approves_their_own_by_their_role_where_roles_cannot_be_searched(
    without_roles, browser, other, signed_in, first, second
):
    signed_in(first)
    accepted(without_roles, browser)
    signed_in(second)
    page = approval(without_roles, other, user=PHYSICIAN)
    assert "somebody else must approve it" in page.text
    assert not [form for form in page.forms if form.action.endswith(CODE)]
    assert ours(without_roles) == []


def test_somebody_else_approves_what_was_confirmed_in_a_role(without_roles, browser, other, signed_in):
    signed_in(ROLE)
    accepted(without_roles, browser)
    signed_in(THERAPIST)
    other.submit(approve_form(approval(without_roles, other)))
    assert len(ours(without_roles)) == 1


@pytest.mark.threat("5.11")
def test_what_a_role_that_nobody_may_read_confirmed_is_approved_by_nobody_of_whom_it_may_be(
    without_roles, browser, other, signed_in
):
    signed_in(NAMELESS)
    accepted(without_roles, browser)
    signed_in(PHYSICIAN)
    page = approval(without_roles, other, user=PHYSICIAN)
    assert "nobody can tell whether you are two people" in page.text
    assert ours(without_roles) == []
