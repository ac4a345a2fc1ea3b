"""The episode of care, confirmed by a clinician where the EHR documents none."""

from __future__ import annotations

import json
from datetime import timedelta

from smartapp.web.words import day as told
from tests.support.sandbox import DAY

PATIENT = "back-after-a-break"
DOCUMENTED = "ready-musculoskeletal"
PHYSICIAN = "Practitioner/syn-physician"
TODAY = DAY
FIRST = TODAY - timedelta(days=190)
AGAIN = FIRST + timedelta(days=150)


def episode(browser, page, program="rtm"):
    return browser.get(f"{page.url}episode/{program}")


def check(browser, page, start=FIRST, end=None, source="enrolment-record"):
    form = episode(browser, page).form("/rtm/check")
    return browser.submit(
        form, start=start.isoformat(), end="" if end is None else end.isoformat(), source=source
    )


def confirm(browser, page, start=FIRST, end=None):
    return browser.submit(check(browser, page, start, end).form("/episode/rtm"))


def answer(browser, page):
    return json.loads(browser.get(f"{page.url}decisions.json").body)


def after_the_break(browser, page, code="98985"):
    """The decisions on a device code of the periods that hold readings after the silence."""
    return [
        one
        for one in answer(browser, page)["decisions"]
        if one["code"] == code and one["period"]["end"] >= AGAIN.isoformat()
    ]


def test_the_anchor_page_tells_of_the_silence_and_leads_to_the_episode(shared_world, browser):
    page = shared_world.open(browser, PATIENT)
    shown = browser.get(f"{page.url}anchor")
    assert "none in the EHR. Enter the episode" in shown.text
    assert "No data from" in shown.text
    assert any(address.endswith("/episode/rtm") for address, _ in shown.links)
    assert "Everything from" in episode(browser, page).text


def test_a_silence_is_for_review_until_somebody_confirms_that_it_was_one_episode(world, browser):
    page = world.open(browser, PATIENT)
    before = after_the_break(browser, page, "98977")
    assert {one["outcome"] for one in before if one["outcome"] in {"review", "suggest"}} == {"review"}
    assert any("episode-unclear" in one["reasons"] for one in before)
    preview = check(browser, page)
    assert f"one episode of care, {told(FIRST)} to now?" in preview.text
    assert "To decide" in preview.text
    assert "Ready to charge" in preview.text
    assert world.store.attestations.episodes("sandbox", PATIENT) == (), "a preview keeps nothing"
    kept = browser.submit(preview.form("/episode/rtm"))
    assert "Confirmed by Avery Synthetic-Physician" in kept.text
    after = after_the_break(browser, page, "98977")
    assert "suggest" in {one["outcome"] for one in after}
    assert not any("episode-unclear" in one["reasons"] for one in after)


def test_the_answer_and_the_packet_say_who_confirmed_it(world, browser):
    page = world.open(browser, PATIENT)
    confirm(browser, page)
    (said,) = answer(browser, page)["episodes"]
    assert (said["program"], said["start"], said["end"]) == ("rtm", FIRST.isoformat(), None)
    assert (said["by"], said["source"]) == (PHYSICIAN, "enrolment-record")
    (entry,) = [one for one in world.store.audit.entries() if one["event"] == "episode-confirmed"]
    assert (entry["user"], entry["program"], entry["episode"]) == (PHYSICIAN, "rtm", f"{FIRST}/")
    assert any(one["event"] == "decided-again" for one in world.store.audit.entries())


def test_an_ended_episode_ends_the_periods_and_a_second_one_begins_them_anew(world, browser):
    page = world.open(browser, PATIENT)
    confirm(browser, page, FIRST, FIRST + timedelta(days=60))
    confirm(browser, page, AGAIN)
    found = after_the_break(browser, page, "98977")
    assert {one["period"]["start"] for one in found} == {AGAIN.isoformat()}
    # No set-up of its own: a person must look, and nobody is charged a second start-up by a form.
    assert all("episode-unclear" in one["reasons"] for one in found if one["outcome"] == "review")
    starts = [one for one in answer(browser, page)["decisions"] if one["code"] == "98975"]
    assert [one["outcome"] for one in starts if one["period"]["start"] == AGAIN.isoformat()] == ["review"]


def test_days_left_out_before_the_beginning_are_told_and_a_doubt(world, browser):
    page = world.open(browser, PATIENT)
    preview = check(browser, page, FIRST + timedelta(days=3))
    assert "with counted data would lie before the first episode" in preview.text
    browser.submit(preview.form("/episode/rtm"))
    met = [one for one in answer(browser, page)["decisions"] if one["outcome"] in {"review", "suggest"}]
    devices = [one for one in met if one["code"] in {"98977", "98985"}]
    assert devices
    assert all("anchor-moved" in one["reasons"] for one in devices)


def test_taken_back_it_is_for_review_again_and_stays_visible(world, browser):
    page = world.open(browser, PATIENT)
    kept = confirm(browser, page)
    back = browser.submit(kept.form("/revoke"))
    assert "Taken back on" in back.text
    assert any("episode-unclear" in one["reasons"] for one in after_the_break(browser, page, "98977"))
    assert browser.submit(kept.form("/revoke")).status == 409, "a form of an older snapshot"


def test_what_cannot_be_is_refused_with_a_sentence(world, browser):
    page = world.open(browser, PATIENT)
    for start, end, source, sentence in (
        (FIRST, None, "", "Say what the episode is known from"),
        (FIRST, None, "fits-better", "Say what the episode is known from"),
        (FIRST, FIRST - timedelta(days=1), "enrolment-record", "before the first"),
        (TODAY + timedelta(days=1), None, "enrolment-record", "in the future"),
        (FIRST, TODAY + timedelta(days=1), "enrolment-record", "in the future"),
    ):
        refused = check(browser, page, start, end, source)
        assert refused.status == 422
        assert sentence in refused.text
    form = episode(browser, page).form("/rtm/check")
    assert "as a date" in browser.submit(form, start="yesterday", source="enrolment-record").text
    assert world.store.attestations.episodes("sandbox", PATIENT) == ()


def test_two_confirmed_episodes_of_one_program_never_overlap(world, browser):
    page = world.open(browser, PATIENT)
    confirm(browser, page, FIRST, FIRST + timedelta(days=60))
    refused = check(browser, page, FIRST + timedelta(days=60))
    assert refused.status == 422
    assert "is confirmed already" in refused.text


def test_a_charged_period_is_never_left_out(world, browser):
    page = world.open(browser, PATIENT)
    confirm(browser, page)
    form = world.final_form(browser, browser.get(page.url), f"98977-{AGAIN.isoformat()}")
    browser.submit(form)
    world.read(browser, browser.get(page.url))
    kept = episode(browser, page)
    browser.submit(kept.form("/revoke"))
    refused = check(browser, page, FIRST, FIRST + timedelta(days=60))
    assert refused.status == 422
    assert "98977" in refused.text
    assert "is charged and would lie in no period any more" in refused.text
    refused = check(browser, page, AGAIN)
    assert refused.status == 422
    assert "an episode must hold that day" in refused.text


def test_where_the_ehr_documents_the_episode_nothing_is_confirmed(shared_world, browser):
    page = shared_world.open(browser, DOCUMENTED)
    shown = episode(browser, page)
    assert "corrected in the EHR" in shown.text
    assert not any(form.action.endswith("/check") for form in shown.forms)


def test_a_posted_form_cannot_overrule_the_ehrs_episode(world, browser):
    page = world.open(browser, PATIENT)
    form = episode(browser, page).form("/rtm/check")
    other = world.open(browser, DOCUMENTED)
    form.action = f"{other.url}episode/rtm/check"
    own = browser.get(f"{other.url}time").form("/time")
    given = {control.name: control.value for control in own.controls}
    for control in form.controls:
        if control.name in {"form_token", "patient", "snapshot"}:
            control.value = given[control.name]
    refused = browser.submit(form, start=FIRST.isoformat(), source="enrolment-record")
    assert refused.status == 422
    assert "The EHR documents the episode of care" in refused.text


def test_a_program_the_chart_does_not_show_has_no_episode_to_confirm(shared_world, browser):
    page = shared_world.open(browser, PATIENT)
    for program in ("rpm", "any", "other"):
        assert episode(browser, page, program).status == 404


def test_the_store_keeps_episodes_and_attestations_apart(store, now):
    from fhir_mappings.vocabulary import Program, Unverified
    from smartapp.store.attestations import ConfirmedEpisode, Statement

    kept = ConfirmedEpisode(program=Program.RTM, start=now.date(), source="enrolment-record", by=PHYSICIAN)
    name = store.attestations.confirm_episode("sandbox", "p1", kept, now)
    stated = store.attestations.state(
        "sandbox", "p1", Statement(statement=Unverified.ORDER, by=PHYSICIAN), now
    )
    assert [item.content for item in store.attestations.episodes("sandbox", "p1")] == [kept]
    assert [item.id for item in store.attestations.of_patient("sandbox", "p1")] == [stated]
    assert store.attestations.standing("sandbox", "p1") == {name, stated}
    assert store.attestations.episodes("sandbox", "p2") == ()
