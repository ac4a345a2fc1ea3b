"""Whose charges a viewer sees: those of patients whom their own token reads now, with or without a chart
open. Of all others there is a number."""

from __future__ import annotations

import csv
import io
import re
from urllib.parse import urlsplit

import pytest
from flask import request, request_finished

from fhir_mappings.charge_item import IDENTIFIER_SYSTEM
from launch.sandbox.config import APP_SCOPE
from smartapp.store.denials import DenialContent, Denied
from smartapp.web.billing import COLUMNS
from tests.smartapp.test_page_words import assert_readable
from tests.smartapp.test_worklist import NURSE, PHYSICIAN, name_of, requests_of
from tests.support.months import keep_charge, made_file, taken_file

OWN, OTHER, CLOSED = "ready-musculoskeletal", "ready-respiratory", "one-day-short"
ROLES = f"users: [{{user: {NURSE}, role: clinical-staff}}, {{user: {PHYSICIAN}, role: physician}}]\n"
BILLERS = "permissions: {bill: [physician, clinical-staff]}\n"
USER_SCOPE = {"extra_scopes": ("user/Patient.rs",)}
KEYS = {patient: letter * 40 for patient, letter in ((OWN, "a"), (OTHER, "b"), (CLOSED, "c"))}


@pytest.fixture
def make_clinic(make_world):
    """A function that makes a world with a charge of each of three patients."""

    def made(site_more=BILLERS, **more):
        world = make_world(site_more=site_more + ROLES, **more)
        for patient, key in KEYS.items():
            keep_charge(world.store, key, world.now(), patient=patient)
        return world

    return made


@pytest.fixture
def clinic(make_clinic):
    """The same, in which a launch asks whom its user may read; one chart is closed to the nurse."""
    world = make_clinic(**USER_SCOPE)
    world.ehr.sandbox.quirks.closed_charts = f"{NURSE}:{CLOSED}"
    return world


def month_of(world, browser, user=None, query=""):
    page = world.open(browser, OWN, user)
    return browser.get(f"{page.url}billing/2026-03{query}")


def without_patient(world, browser, user=PHYSICIAN, path="billing/2026-03"):
    session = world.worklist(browser, user).url.split("/worklist")[0]
    return browser.get(f"{session}/{path}")


def names(world, page):
    """Whose charges the page lists."""
    table = page.body.partition("<tbody>")[2].partition("</tbody>")[0]
    return {patient for patient in KEYS if name_of(world, patient) in table}


def links(page):
    return {text for _, text in page.links}


# What is listed


@pytest.mark.threat("5.16")
def test_two_viewers_with_different_rights_see_different_charges_and_get_different_files(
    clinic, browser, other
):
    physician, nurse = month_of(clinic, browser, PHYSICIAN), month_of(clinic, other, NURSE)
    assert names(clinic, physician) == {OWN, OTHER, CLOSED}
    assert names(clinic, nurse) == {OWN, OTHER}
    assert "not shown" not in physician.text
    keys = []
    for who, page in ((browser, physician), (other, nurse)):
        table = list(csv.reader(io.StringIO(taken_file(who, page).body)))
        keys.append({row[COLUMNS.index("Key")] for row in table[1:]})
    assert keys == [set(KEYS.values()), {KEYS[OWN], KEYS[OTHER]}]


@pytest.mark.threat("5.16")
def test_of_a_patient_whom_the_viewer_may_not_read_there_is_a_number_and_nothing_else(clinic, browser):
    page = month_of(clinic, browser, NURSE)
    assert "1 charge on this page is of a patient whom your sign-in does not let you read" in page.text
    assert "3 of 3 charges" in page.text, "the month is counted whole for whoever bills"
    done = made_file(browser, page)
    assert "Not in it: 1 of patients whom your sign-in does not let you read." in done.text
    hidden = (CLOSED, name_of(clinic, CLOSED), KEYS[CLOSED][:12])
    assert [word for seen in (page, done) for word in hidden if word in seen.body] == []
    assert_readable(done)


@pytest.mark.threat("5.13", "5.16")
def test_nothing_of_a_hidden_charge_stands_in_a_page_a_file_an_address_or_a_log(clinic, browser, caplog):
    caplog.set_level("DEBUG")
    seen = []

    def note(sender, response, **_):
        if sender.name == "smartapp":
            seen.append(f"{request.full_path} -> {response.headers.get('Location', '')}")

    request_finished.connect(note)
    try:
        page = month_of(clinic, browser, NURSE)
        base = page.url.split("billing/")[0]
        paths = ("billing/2026-03?from=1", f"denials/charge/{KEYS[CLOSED]}", "denials/month/2026-03")
        answers = [page, taken_file(browser, page), *(browser.get(f"{base}{path}") for path in paths)]
    finally:
        request_finished.disconnect(note)
    told = [f"{record.name} {record.getMessage()}" for record in caplog.records] + seen
    told += [answer.body for answer in answers]
    (mrn,) = {one["value"] for one in clinic.resources("Patient", CLOSED)[0]["identifier"]}
    assert len(seen) > 6
    assert [one[:80] for one in told for word in (CLOSED, name_of(clinic, CLOSED), mrn) if word in one] == []
    trail = [one for one in clinic.store.audit.entries() if one["event"].startswith("billing-")]
    assert CLOSED not in " ".join(str(one.get("patients", one.get("patient"))) for one in trail)


def test_a_token_for_one_patient_lists_that_patients_charges_alone_and_says_so(make_clinic, browser):
    world = make_clinic()
    for number in range(60):
        keep_charge(world.store, f"0{number:02}", world.now(), patient=f"syn-{number}")
    page, asked = world.open(browser, OWN), requests_of(world)
    page = browser.get(f"{page.url}billing/2026-03")
    assert names(world, page) == {OWN}, "not on the second page, behind sixty others"
    assert "Your sign-in lets this session read one patient alone" in page.text
    assert "62 of other patients are not" in page.text
    table = list(csv.reader(io.StringIO(taken_file(browser, page).body)))
    assert [row[COLUMNS.index("Key")] for row in table[1:]] == [KEYS[OWN]]
    assert asked == [], "nobody need be asked about the open chart's patient"
    assert_readable(page)


def test_a_page_goes_on_where_few_of_those_asked_about_may_be_read(clinic, browser):
    for number in range(130):
        keep_charge(clinic.store, f"0{number:03}", clinic.now(), patient=f"syn-{number}")
    page = month_of(clinic, browser, PHYSICIAN)
    assert names(clinic, page) == {OWN, OTHER, CLOSED}
    assert "130 charges on this page are of patients whom your sign-in does not let you read" in page.text


def test_a_page_that_shows_nobody_still_leads_further(clinic, browser):
    for number in range(205):
        keep_charge(clinic.store, f"0{number:03}", clinic.now(), patient=f"syn-{number}")
    page = month_of(clinic, browser, PHYSICIAN)
    assert names(clinic, page) == set()
    (further,) = [target for target, text in page.links if text == "Further"]
    assert names(clinic, browser.get(further)) == {OWN, OTHER, CLOSED}


def test_of_many_patients_the_ehr_is_asked_at_once(clinic, browser):
    page, asked = month_of(clinic, browser), requests_of(clinic)
    browser.get(page.url)
    assert asked == ["POST /fhir/r4"]


# Where the EHR does not answer


@pytest.mark.parametrize("way", ["batch", "search", "one-by-one"])
def test_an_ehr_that_does_not_answer_is_no_lack_of_rights(clinic, browser, way):
    base = clinic.open(browser, OWN).url
    quirks = clinic.ehr.sandbox.quirks
    quirks.no_batch, quirks.one_id_at_a_time = way != "batch", way == "one-by-one"
    assert names(clinic, browser.get(f"{base}billing/2026-03")) == {OWN, OTHER, CLOSED}
    quirks.failing = "Patient"
    page = browser.get(f"{base}billing/2026-03")
    assert names(clinic, page) == {OWN}, "the open chart's patient was read"
    assert "The EHR did not say whether you may read the patients of 2 charges" in page.text
    assert "does not let you read" not in page.text
    assert_readable(page)
    done = made_file(browser, page)
    if way == "search":
        assert "The file could not be made." in done.text
    else:
        assert "(1 rows)" in done.text
        assert "of some patients the EHR did not say whether you may read them" in done.text
    shut = browser.get(f"{base}denials/charge/{KEYS[OTHER]}")
    assert (shut.status, "did not say whether you may read" in shut.text) == (503, True)
    quirks.failing = ""
    (again,) = [target for target, text in page.links if text == "Try again"]
    assert names(clinic, browser.get(again)) == {OWN, OTHER, CLOSED}


# A charge and its denials


@pytest.mark.threat("5.16")
def test_a_charge_of_somebody_whom_the_viewer_may_not_read_is_not_opened_and_no_denial_is_kept_of_it(
    clinic, browser, other
):
    theirs = month_of(clinic, browser, PHYSICIAN).url.split("billing/")[0]
    address = f"denials/charge/{KEYS[CLOSED]}"
    page = browser.get(f"{theirs}{address}")
    assert name_of(clinic, CLOSED) in page.text
    identifier = f"{IDENTIFIER_SYSTEM}|{KEYS[CLOSED]}"
    form, day = page.form("/record"), "2026-04-10"
    nurse = month_of(clinic, other, NURSE).url.split("billing/")[0]
    refused = other.get(f"{nurse}{address}")
    assert refused.status == 403
    assert "a patient whom your sign-in does not let you read now" in refused.text
    assert name_of(clinic, CLOSED) not in refused.text
    form = other.get(f"{nurse}denials/charge/{KEYS[OWN]}").form("/record")
    form.action = form.action.replace(KEYS[OWN], KEYS[CLOSED])
    assert other.submit(form, on=day, reason="50", remark="", note="").status == 403
    assert clinic.store.denials.history(identifier) == ()
    clinic.store.denials.record(
        [Denied(identifier, clinic.today, "50")], DenialContent("Practitioner/7"), clinic.now()
    )
    (denial,) = clinic.store.denials.history(identifier)
    form.action = form.action.replace("/record", f"/{denial.id}/{denial.version}")
    assert other.submit(form, note="").status == 403
    assert len(clinic.store.denials.history(identifier)) == 1


@pytest.mark.threat("5.16")
def test_a_token_for_one_patient_opens_no_other_patients_charge(make_clinic, browser):
    page = make_clinic().open(browser, OWN)
    assert browser.get(f"{page.url}denials/charge/{KEYS[OTHER]}").status == 403
    assert browser.get(f"{page.url}denials/charge/{KEYS[OWN]}").status == 200


def test_lines_of_a_remittance_are_matched_by_key_and_tell_of_no_patient(clinic, browser):
    base = month_of(clinic, browser, NURSE).url.split("billing/")[0]
    form = browser.get(f"{base}denials/month/2026-03").form("/remittance")
    read = browser.submit(form, remittance=f"key,date,carc\n{KEYS[CLOSED]},2026-04-10,50\n")
    assert "Read: 1 new" in read.text
    assert CLOSED not in read.body
    assert name_of(clinic, CLOSED) not in read.text


def test_who_opened_a_charge_is_in_the_trail(clinic, browser):
    base = month_of(clinic, browser).url.split("billing/")[0]
    browser.get(f"{base}denials/charge/{KEYS[OTHER]}")
    (entry,) = [one for one in clinic.store.audit.entries() if one["event"] == "billing-charge-opened"]
    assert (entry["patient"], bool(entry["user"])) == (OTHER, True)


# Without a patient


@pytest.mark.threat("5.16")
def test_without_a_patient_a_biller_sees_the_same_charges_and_records_denials(clinic, browser):
    page = without_patient(clinic, browser, NURSE)
    assert names(clinic, page) == {OWN, OTHER}
    assert "1 charge on this page" in page.text
    assert "Back to the patient" not in page.text
    assert_readable(page)
    charge = browser.get(next(target for target, _ in page.links if "/denials/charge/" in target))
    filled = {"on": "2026-04-10", "reason": "50", "remark": "", "note": ""}
    assert "Denied on 10 Apr 2026" in browser.submit(charge.form("/record"), **filled).text
    table = list(csv.reader(io.StringIO(taken_file(browser, page).body)))
    assert len(table) == 3


def test_a_session_without_a_patient_lands_where_billing_is_a_link_though_there_is_no_worklist(
    clinic, browser
):
    landing = clinic.worklist(browser, NURSE)
    assert "this site has no worklist" in landing.text
    (target,) = [target for target, text in landing.links if "month of charges" in text]
    assert urlsplit(browser.get(target).url).path.endswith("/billing/2026-03")


def test_the_front_page_offers_billing_where_the_site_lets_somebody(make_clinic, browser):
    world = make_clinic()
    front = browser.get(world.settings.base_url + "/")
    (link,) = [target for target, text in front.links if text.startswith("Billing of")]
    picker = browser.get(link)
    page = browser.submit(picker.form("/authorize"), picker_user=NURSE)
    assert any("month of charges" in text for text in links(page))


@pytest.mark.parametrize("user", [NURSE, PHYSICIAN])
def test_who_may_not_bill_sees_no_link_and_is_refused_without_a_patient_too(make_clinic, browser, user):
    world = make_clinic("permissions: {bill: [non-clinical]}\n", **USER_SCOPE)
    landing = world.worklist(browser, user)
    assert not any("month of charges" in text for text in links(landing))
    base = landing.url.split("/worklist")[0]
    for path in ("billing", "billing/2026-03", "billing/2026-03.csv", f"denials/charge/{KEYS[OWN]}"):
        refused = browser.get(f"{base}/{path}")
        assert refused.status == 403, path
        assert name_of(world, OWN) not in refused.text


def test_whose_role_only_a_chart_tells_is_not_let_in_without_one(make_world, browser):
    world = make_world(site_more=BILLERS, **USER_SCOPE)
    page = without_patient(world, browser)
    assert page.status == 403
    assert "the site's file does not say in which role you work" in page.text


def test_without_a_patient_and_without_permission_to_read_any_there_are_numbers_only(make_clinic, browser):
    scope = " ".join(one for one in APP_SCOPE.split() if not one.startswith("user/Patient"))
    world = make_clinic(client={"scope": scope})
    page = without_patient(world, browser)
    assert page.status == 200
    assert "3 of 3 charges" in page.text
    assert "lets this session read no patient" in page.text
    assert not re.search("|".join(KEYS), page.body)
    assert not [form for form in page.forms if form.action.endswith("/file")]


def test_a_file_of_charges_is_no_file_of_the_worklist(clinic, browser):
    page = without_patient(clinic, browser)
    taken_file(browser, page)
    assert clinic.store.exports.content(page.url.split("/s/")[1].split("/")[0], "worklist.csv") is None
