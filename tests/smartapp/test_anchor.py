"""Where the 30-day periods begin: shown with its source, confirmed before the first charge, fixed by it."""

from __future__ import annotations

import json
import re
from datetime import date, timedelta

import pytest

from smartapp.web.words import day as told
from tests.support.sandbox import DAY, ZONE

PATIENT = "calls-not-in-the-ehr"
UNDOCUMENTED = "back-after-a-break"
CHARGED = "ready-musculoskeletal"
PHYSICIAN = "Practitioner/syn-physician"
TODAY = DAY
FOUND = TODAY - timedelta(days=60)


def anchor(browser, page):
    return browser.get(f"{page.url}anchor")


def check(browser, page, day, source="enrolment-record", **more):
    """The preview of another anchor day."""
    form = [form for form in anchor(browser, page).forms if form.action.endswith("/rtm/check")][-1]
    return browser.submit(form, day=day.isoformat(), source=source, **more)


def outcomes(browser, page):
    """Every code and period of the answer, with how it was decided."""
    answer = json.loads(browser.get(f"{page.url}decisions.json").body)
    return {
        (one["code"], told(one["period"]["start"]), told(one["period"]["end"])): (
            one["outcome"],
            one["quantity"],
            tuple(one["reasons"]),
        )
        for one in answer["decisions"]
        if one["program"] == "rtm"
    }


def listed(preview):
    """The codes and periods that a preview says would be decided otherwise."""
    row = r'<tr><td><span class="code">(\d+)</span></td><td>(.*?) – (.*?)</td>'
    return set(re.findall(row, preview.body if isinstance(preview.body, str) else preview.body.decode()))


def parsed(shown):
    """The day that a page tells: the inverse of `told`."""
    return next(day for day in (TODAY - timedelta(days=back) for back in range(400)) if told(day) == shown)


def device_periods(browser, page):
    answer = json.loads(browser.get(f"{page.url}decisions.json").body)
    return {one["period"]["start"] for one in answer["decisions"] if one["code"] == "98976"}


def test_the_page_says_where_the_anchor_day_comes_from_and_which_periods_follow(shared_world, browser):
    page = anchor(browser, shared_world.open(browser, PATIENT))
    assert page.by_id["anchor-rtm"] == told(FOUND)
    assert "within the episode of care in the EHR" in page.text
    assert f"{told(FOUND)} – {told(FOUND + timedelta(days=29))}" in page.text
    assert "anchor-rpm" not in page.by_id


def test_the_found_day_is_confirmed_after_a_preview_of_its_periods(world, browser):
    page = world.open(browser, PATIENT)
    before = device_periods(browser, page)
    first = next(form for form in anchor(browser, page).forms if form.action.endswith("/rtm/check"))
    preview = browser.submit(first)
    assert f"begin on {told(FOUND)}?" in preview.text
    assert world.store.charges.enrolments("sandbox", PATIENT) == {}, "a preview keeps nothing"
    kept = browser.submit(preview.form("/anchor/rtm"))
    assert f"{told(FOUND)}, by Avery Synthetic-Physician" in kept.text
    enrolment = world.store.charges.enrolments("sandbox", PATIENT)["rtm"]
    assert (enrolment.anchor_day, enrolment.source, enrolment.frozen) == (FOUND, "episode-of-care", False)
    assert device_periods(browser, page) == before


def test_a_corrected_day_moves_the_periods_and_readings_before_it_are_for_review(world, browser):
    page = world.open(browser, PATIENT)
    day = FOUND + timedelta(days=3)
    preview = check(browser, page, day)
    assert f"Until now it was {told(FOUND)}." in preview.text
    assert "A day with counted data lies before" in preview.text
    browser.submit(preview.form("/anchor/rtm"))
    assert day.isoformat() in device_periods(browser, page)
    answer = json.loads(browser.get(f"{page.url}decisions.json").body)
    reviewed = {one["outcome"] for one in answer["decisions"] if one["code"] == "98976"} - {
        "short",
        "out-of-reach",
    }
    assert reviewed
    assert reviewed <= {"review", "blocked"}
    assert "A reading lies before the anchor day." in anchor(browser, page).text
    assert "Where the 30-day periods begin was set by hand once." in browser.get(page.url).text
    (change,) = answer["anchors"]
    assert (change["day"], change["before"], change["by"]) == (day.isoformat(), None, PHYSICIAN)


def test_a_correction_needs_a_reason_from_a_closed_set_and_a_day_that_can_be(world, browser):
    page = world.open(browser, PATIENT)
    for day, source, sentence in (
        (FOUND + timedelta(days=1), "", "Say why"),
        (FOUND + timedelta(days=1), "fits-better", "Say why"),
        (TODAY + timedelta(days=1), "enrolment-record", "in the future"),
        (FOUND - timedelta(days=40), "enrolment-record", "outside the episode of care"),
    ):
        refused = check(browser, page, day, source)
        assert refused.status == 422
        assert sentence in refused.text
    assert world.store.charges.enrolments("sandbox", PATIENT) == {}


@pytest.mark.parametrize("days", [1, 3, 12])
def test_the_preview_lists_every_code_that_would_be_decided_otherwise_and_no_other(world, browser, days):
    page = world.open(browser, PATIENT)
    before = outcomes(browser, page)
    preview = check(browser, page, FOUND + timedelta(days=days))
    browser.submit(preview.form("/anchor/rtm"))
    after = outcomes(browser, page)
    changed = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
    assert changed
    assert listed(preview) == changed


def test_a_day_that_changes_no_code_says_so(shared_world, browser):
    page = shared_world.open(browser, PATIENT)
    preview = check(browser, page, FOUND, "set-up")
    assert listed(preview) == set()
    assert "no code would be decided otherwise" in preview.text


@pytest.mark.parametrize(
    ("day", "sentence"),
    [
        (date(1, 1, 1), "before the patient was born"),
        (date(1957, 12, 31), "before the patient was born"),
        (date(2021, 12, 31), "No device code of this program could be charged before 1 Jan 2022."),
        (date(2022, 6, 1), "more than a year before"),
        (TODAY + timedelta(days=1), "in the future"),
    ],
)
def test_a_day_out_of_all_reason_is_refused_with_a_sentence(shared_world, browser, day, sentence):
    page = shared_world.open(browser, UNDOCUMENTED)
    refused = check(browser, page, day)
    assert refused.status == 422
    assert sentence in refused.text
    assert shared_world.store.charges.enrolments("sandbox", UNDOCUMENTED) == {}


@pytest.mark.parametrize(
    ("charged_on", "sentence"),
    [
        ("", "Give the date of service of the charge in the other system."),
        ("soon", "Give the date of service of the charge in the other system."),
        ((TODAY + timedelta(days=1)).isoformat(), "The charge in the other system is dated in the future."),
        (FOUND.isoformat(), "The charge in the other system is dated before that day"),
    ],
)
def test_a_charge_elsewhere_needs_a_date_of_service_that_can_be(shared_world, browser, charged_on, sentence):
    page = shared_world.open(browser, PATIENT)
    refused = check(browser, page, FOUND + timedelta(days=1), "charged-elsewhere", charged_on=charged_on)
    assert refused.status == 422
    assert sentence in refused.text


def test_a_charge_elsewhere_is_confirmed_by_a_person_and_kept_with_its_date(world, browser):
    page, day, charged_on = (
        world.open(browser, PATIENT),
        FOUND + timedelta(days=1),
        FOUND + timedelta(days=30),
    )
    preview = check(browser, page, day, "charged-elsewhere", charged_on=charged_on.isoformat())
    statement = f"charged in another system, with the date of service {told(charged_on)}."
    assert statement in preview.text
    refused = browser.submit(preview.form("/anchor/rtm"))
    assert refused.status == 422
    assert "Confirm that the charge in the other system exists." in refused.text
    assert world.store.charges.enrolments("sandbox", PATIENT) == {}
    browser.submit(refused.form("/anchor/rtm"), stated="yes")
    assert world.store.charges.enrolments("sandbox", PATIENT)["rtm"].anchor_day == day
    (kept,) = world.store.attestations.anchors("sandbox", PATIENT)
    assert (kept.content.grounds.charged_on, kept.content.instead_of) == (charged_on, FOUND)
    assert statement in kept.content.grounds.says
    (entry,) = [one for one in world.store.audit.entries() if one["event"] == "anchor-confirmed"]
    assert entry["charged_on"] == charged_on.isoformat()
    (change,) = json.loads(browser.get(f"{page.url}decisions.json").body)["anchors"]
    assert statement in change["says"]
    assert (change["charged_on"], change["instead_of"]) == (charged_on.isoformat(), FOUND.isoformat())


def test_a_day_before_everything_that_is_documented_is_said_to_be_confirmed_here(world, browser):
    page = world.open(browser, UNDOCUMENTED)
    answer = anchor(browser, page)
    assert "It was confirmed here." not in answer.text
    day = parsed(answer.by_id["anchor-rtm"]) - timedelta(days=3)
    kept = browser.submit(check(browser, page, day).form("/anchor/rtm"))
    assert kept.by_id["anchor-rtm"] == told(day)
    assert "It was confirmed here." in kept.text


def test_each_change_stands_on_the_patients_page_and_on_that_of_the_periods(world, browser):
    page = world.open(browser, PATIENT)
    assert "set by hand" not in browser.get(page.url).text
    days = [FOUND + timedelta(days=number) for number in (1, 2)]
    for day in days:
        browser.submit(check(browser, page, day).form("/anchor/rtm"))
    for where in (browser.get(page.url), anchor(browser, page)):
        assert "Set by hand twice:" in where.text
        for day, until_then in zip(days, (FOUND, days[0]), strict=True):
            change = (
                f"Avery Synthetic-Physician had them begin on {told(day)}, until then {told(until_then)}."
            )
            assert change in where.text
        assert f"{told(TODAY)}, {world.now().astimezone(ZONE):%H}:" in where.text
    assert "30-day periods set by hand (2)" in browser.get(page.url).text


def test_the_first_accepted_charge_fixes_the_day_for_good(world, browser):
    page = world.open(browser, PATIENT)
    waiting = check(browser, page, FOUND + timedelta(days=1)).form("/anchor/rtm")
    form = world.final_form(browser, browser.get(page.url), f"98976-{FOUND.isoformat()}")
    browser.submit(form)
    world.read(browser, browser.get(page.url))
    fixed = anchor(browser, page)
    assert "It cannot be changed." in fixed.text
    assert "by Avery Synthetic-Physician on" in fixed.text
    assert not any(form.action.endswith("/rtm/check") for form in fixed.forms)
    for control in waiting.controls:
        if control.name == "snapshot":
            control.value = world.store.reading.snapshot_of(page.url.split("/")[4]).id
    assert browser.submit(waiting).status == 422
    assert world.store.charges.enrolments("sandbox", PATIENT)["rtm"].anchor_day == FOUND


def test_a_device_charge_in_the_ehr_fixes_it_too(shared_world, browser):
    page = anchor(browser, shared_world.open(browser, CHARGED))
    assert "Fixed by a device charge that the EHR holds." in page.text
    assert not any(form.action.endswith("/check") for form in page.forms)


def test_an_anchor_that_was_corrected_elsewhere_stops_a_charge_on_the_old_periods(world, browser):
    page = world.open(browser, PATIENT)
    form = world.final_form(browser, browser.get(page.url), f"98976-{FOUND.isoformat()}")
    from smartapp.store.charges import Enrolment

    now = world.now()
    moved = Enrolment("sandbox", PATIENT, "rtm", FOUND + timedelta(days=2), "set-up", PHYSICIAN, now, False)
    assert world.store.charges.confirm_anchor(moved)
    refused = browser.submit(form)
    assert refused.status == 409
    assert "anchor day" in refused.text
    assert world.charges(PATIENT) == []


def test_the_store_never_moves_a_frozen_anchor(store, now):
    from smartapp.store.charges import Enrolment
    from smartapp.store.tables import ENROLMENTS

    first = Enrolment("sandbox", "p1", "rtm", now.date(), "set-up", PHYSICIAN, now, False)
    assert store.charges.confirm_anchor(first)
    with store.database.write() as connection:
        connection.execute(ENROLMENTS.update().values(frozen=True))
    assert not store.charges.confirm_anchor(first)


def test_every_day_that_was_ever_set_is_kept_with_the_day_before_and_who(store, now):
    from smartapp.store.charges import Enrolment

    for number, by in enumerate((PHYSICIAN, "Practitioner/other")):
        day = now.date() - timedelta(days=number)
        enrolment = Enrolment("sandbox", "p1", "rtm", day, "set-up", by, now, False)
        assert store.charges.confirm_anchor(enrolment, "A Name")
    last, first = (one.content for one in store.attestations.anchors("sandbox", "p1"))
    assert (first.day, first.before, first.by) == (now.date(), None, PHYSICIAN)
    assert (last.day, last.before, last.by) == (
        now.date() - timedelta(days=1),
        now.date(),
        "Practitioner/other",
    )
    assert store.attestations.standing("sandbox", "p1") == frozenset(), "nobody takes back that it was set"


def test_forms_for_another_patient_or_an_older_snapshot_confirm_nothing(world, browser):
    page = world.open(browser, PATIENT)
    for name, value in (("patient", "nothing"), ("snapshot", "0" * 32), ("form_token", "0" * 64)):
        form = next(form for form in anchor(browser, page).forms if form.action.endswith("/rtm/check"))
        for control in form.controls:
            if control.name == name:
                control.value = value
        assert browser.submit(form).status in {400, 409}
    assert world.store.charges.enrolments("sandbox", PATIENT) == {}


def test_confirming_is_audited(world, browser):
    page = world.open(browser, PATIENT)
    browser.submit(check(browser, page, FOUND + timedelta(days=1)).form("/anchor/rtm"))
    (entry,) = [one for one in world.store.audit.entries() if one["event"] == "anchor-confirmed"]
    assert (entry["user"], entry["source"]) == (PHYSICIAN, "enrolment-record")
    assert entry["anchor_day"] == (FOUND + timedelta(days=1)).isoformat()
    assert any(one["event"] == "decided-again" for one in world.store.audit.entries())


def test_an_unknown_program_has_no_anchor(shared_world, browser):
    page = shared_world.open(browser, PATIENT)
    form = next(form for form in anchor(browser, page).forms if form.action.endswith("/rtm/check"))
    form.action = form.action.replace("/rtm/", "/any/")
    assert browser.submit(form).status == 404


def test_a_chart_without_monitoring_has_no_periods(shared_world, browser):
    assert "there are no periods yet" in anchor(browser, shared_world.open(browser, "nothing")).text
