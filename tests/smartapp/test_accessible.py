"""Each page in each of its states, as somebody meets it who reads in the dark, on a narrow screen, with a
keyboard, or by ear: axe-core and measures of our own, in a real browser."""

from __future__ import annotations

from contextlib import contextmanager
from urllib.parse import urljoin

import pytest
from playwright.sync_api import expect

from launch.errors import HttpError, HttpProblem
from launch.limiter import IssuerLimiter
from launch.sandbox.patients import export, stories
from smartapp.configuration.handover import Method
from smartapp.store.claims import ChargeState
from tests.pages import app_of_pages, of_a_session
from tests.support.chromium import follow, launched, press
from tests.support.lists import swept_sandbox
from tests.support.months import keep_charge
from tests.support.sandbox import DAY, held
from tests.support.seen_page import Look

pytestmark = pytest.mark.browser

PATIENT = "ready-musculoskeletal"
THERAPIST, NURSE = "Practitioner/syn-therapist", "Practitioner/syn-nurse"


@pytest.fixture
def look():
    """Looks at pages; what it did not like fails the test at its end."""
    looks = Look()
    yield looks
    looks.liked()


def chart_of(world, window, patient, user=None):
    """The patient page in a tab, read."""
    app = launched(world.ehr.base_url, window, patient, user=user)
    app.locator("#findings").wait_for()
    return app


def answer_everything(app):
    """Tick each box and choose something in each list."""
    for box in app.get_by_role("checkbox").all():
        box.check()
    for select in app.get_by_role("combobox").all():
        if not select.input_value():
            select.select_option(index=1)


def without_waiting_for_answers(app):
    """Send forms as they are: what the browser would hold back, the app itself must answer."""
    app.evaluate("document.querySelectorAll('form').forEach(form => form.noValidate = true)")


@contextmanager
def an_ehr_that_fails(world, why):
    """Each request of FHIR is answered with an error."""
    answer = world.ehr.app.wsgi_app

    def answered(environ, start_response):
        if not environ["PATH_INFO"].startswith("/fhir/"):
            return answer(environ, start_response)
        start_response(why, [("Content-Type", "application/fhir+json")])
        return [b'{"resourceType": "OperationOutcome"}']

    world.ehr.app.wsgi_app = answered
    yield
    world.ehr.app.wsgi_app = answer


def test_what_is_wrong_with_a_page_is_found(window):
    page = window.new_page()
    page.set_content(
        """<!doctype html><html lang="en"><title>Wrong</title><main><h1>Wrong</h1>
        <p style="color: #bbb; background: #fff">Too pale.</p>
        <button style="font-size: 4px; padding: 0">Too small</button>
        <a href="#" style="outline: none">No ring</a>
        <a href="#" style="outline: 2px solid #eee">A pale ring</a>
        <div style="width: 600px">Too wide</div></main>"""
    )
    looks = Look()
    looks.at(page, "a page")
    told = "\n".join(looks.faults)
    for fault in (
        "a page: color-contrast",
        "a page, 320 px: too small to hit: button",
        'a page: no focus ring: a "No ring"',
        'a page: focus ring 1.16:1: a "A pale ring"',
        "a page, 320 px: scrolls sideways",
        "a page, dark: ",
    ):
        assert fault in told
    with pytest.raises(AssertionError):
        looks.liked()


@pytest.mark.parametrize("patient", [story.id for story in stories()])
def test_the_page_of_a_patient(shared_world, window, look, patient):
    app = chart_of(shared_world, window, patient)
    if app.locator("a.cell").count():
        app.locator("a.cell").first.click()
        expect(app.locator(".opened:visible")).to_have_count(1)
    look.at(app, patient)


def test_the_page_while_the_chart_is_read_and_where_it_could_not_be(world, window, look):
    with held(world.ehr, "/Observation"):
        app = launched(world.ehr.base_url, window, PATIENT)
        app.get_by_text("Reading the chart").first.wait_for()
        look.at(app, "the chart is read")
    app.locator("#findings").wait_for()
    with an_ehr_that_fails(world, "403 Forbidden"):
        press(app, "Read again")
        app.get_by_role("heading", name="The chart was not read").wait_for()
        look.at(app, "the chart was not read")


def test_the_way_of_a_charge_from_its_questions_to_its_record(world, window, look):
    patient = "ready-physiologic"
    world.ehr_shows_surgery(patient)
    app = chart_of(world, window, patient)
    patient_page = app.url
    follow(app, "Review and accept 99454")
    look.at(app, "what is asked")
    without_waiting_for_answers(app)
    press(app, "See what will be written")
    app.get_by_text("Still open").wait_for()
    look.at(app, "what is still open")
    answer_everything(app)
    press(app, "See what will be written")
    app.get_by_role("button", name="Write 99454").wait_for()
    look.at(app, "what will be written")
    press(app, "Write 99454 to the EHR")
    app.get_by_role("heading", name="The charge is in the EHR").wait_for()
    look.at(app, "written")
    follow(app, "Open the audit record")
    look.at(app, "an audit record")
    follow(app, "Whole months")
    look.at(app, "months with a record")
    app.locator("main li a").first.click()
    look.at(app, "the records of a month")
    app.goto(patient_page)
    look.at(app, "the patient, charged")
    app.locator("a", has_text="Technical").first.click()
    look.at(app, "a record as the EHR sent it")


def test_several_charges_together(world, window, look):
    app = chart_of(world, window, PATIENT)
    follow(app, "Accept all 3 together")
    look.at(app, "three will be written")
    follow(app, "Change something")
    look.at(app, "three are changed")
    press(app, "See what will be written")
    press(app, "Write 3 charges to the EHR")
    app.get_by_role("heading", name="All 3 charges are in the EHR").wait_for()
    look.at(app, "three are written")


def charged(world, window, patient, code):
    """The patient page after a code with nothing open was charged."""
    app = chart_of(world, window, patient)
    patient_page = app.url
    follow(app, f"Review and accept {code}")
    press(app, f"Write {code} to the EHR")
    app.get_by_role("heading", name="The charge is in the EHR").wait_for()
    app.goto(patient_page)
    return app


def test_a_change_after_a_charge(world, window, look):
    patient = "ready-respiratory"
    app = charged(world, window, patient, "98980")
    for one in world.resources("Encounter", patient):
        if one["type"][0]["coding"][0]["code"] == "RTM-REVIEW":
            world.ehr_changes("Encounter", one["id"], status="entered-in-error")
    press(app, "Read again")
    app.get_by_role("heading", name="What changed since it was charged").wait_for()
    look.at(app, "the patient, with a change")
    follow(app, "Review this change of 98980")
    look.at(app, "the change")
    answer_everything(app)
    app.locator("main form button").last.click()
    app.get_by_role("link", name="Back to the patient").wait_for()
    look.at(app, "changed")


def test_a_charge_is_taken_back(world, window, look):
    app = charged(world, window, PATIENT, "98977")
    app.locator("summary", has_text="Earlier or charged").click()
    follow(app, "Withdraw it")
    look.at(app, "why it is withdrawn")
    app.get_by_label("Why it is withdrawn").fill("Charged on paper already.")
    press(app, "See what will be written")
    look.at(app, "what withdrawing writes")
    press(app, "Withdraw 98977")
    app.get_by_role("link", name="Back to the patient").wait_for()
    look.at(app, "withdrawn")


def test_logged_time(world, window, look):
    patient = "calls-not-in-the-ehr"
    app = chart_of(world, window, patient)
    follow(app, "Log time or a conversation")
    log = app.url
    look.at(app, "an empty time log")
    press(app, "Start the clock")
    app.get_by_text("Running since").wait_for()
    look.at(app, "a clock that runs")
    press(app, "Discard it, log nothing")
    without_waiting_for_answers(app)
    press(app, "Save and sign")
    app.get_by_text("Not logged").wait_for()
    look.at(app, "an entry with errors")
    app.get_by_label("Date", exact=True).fill("2026-03-27")
    app.get_by_label("Start", exact=True).fill("10:00")
    app.get_by_label("End", exact=True).fill("10:22")
    app.get_by_label("Whose time").select_option(index=1)
    app.get_by_label("Program").select_option("rtm")
    app.get_by_label("What was done").select_option("phone-call")
    app.get_by_label("Live, two-way").select_option("yes")
    press(app, "Save and sign")
    app.locator("#entry-length").wait_for()
    look.at(app, "an entry to be signed")
    app.get_by_role("checkbox").check()
    app.get_by_role("button", name="Sign as").click()
    app.get_by_role("heading", name="Logged time: signed").or_(
        app.get_by_role("heading", name="Logged time: signed, in the EHR")
    ).first.wait_for()
    look.at(app, "an entry that was signed")
    follow(app, "Correct")
    look.at(app, "an entry to be corrected")
    app.goto(log)
    look.at(app, "a time log with entries")


def test_statements(world, window, look):
    app = chart_of(world, window, "calls-not-in-the-ehr")
    follow(app, "Confirm consent, order, device")
    look.at(app, "what can be stated")
    app.get_by_role("radio").first.check()
    app.get_by_label("Codes").select_option("all")
    app.get_by_role("checkbox").check()
    app.get_by_role("button", name="State it as").click()
    app.get_by_role("heading", name="Statements made (1)").wait_for()
    look.at(app, "what was stated")


def test_periods_and_episodes(world, window, look):
    app = chart_of(world, window, "back-after-a-break")
    follow(app, "30-day periods")
    look.at(app, "periods")
    app.locator("main a[href*='/episode']").first.click()
    look.at(app, "an episode")
    app.get_by_label("First day").fill("2026-01-02")
    app.get_by_label("What you know it from").select_option(index=1)
    press(app, "See what would follow")
    app.get_by_role("button", name="Confirm it as").wait_for()
    look.at(app, "an episode to be confirmed")
    app.get_by_role("button", name="Confirm it as").click()
    app.get_by_role("heading", name="Confirmed here (1)").wait_for()
    look.at(app, "an episode that was confirmed")


def test_another_anchor_day(world, window, look):
    app = chart_of(world, window, "calls-not-in-the-ehr")
    follow(app, "30-day periods")
    app.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    app.get_by_label("Anchor day").first.fill("2026-02-17")
    app.get_by_label("Why the periods begin on that day").first.select_option(index=1)
    app.locator("details form[action$=check] button").first.click()
    app.get_by_role("button", name="Confirm 17 Feb 2026").wait_for()
    look.at(app, "periods that would follow")
    app.get_by_role("button", name="Confirm 17 Feb 2026").click()
    app.get_by_role("heading", name="Where the 30-day periods begin").wait_for()
    look.at(app, "periods that were confirmed")


def test_what_a_word_settles(world, window, look):
    app = chart_of(world, window, "both-programs")
    follow(app, "Say which program is charged")
    look.at(app, "a choice of programs")
    app.locator("select[name=choice]").select_option(index=1)
    app.get_by_role("checkbox").check()
    app.get_by_role("button", name="Settle it as").click()
    app.get_by_role("heading", name="What was settled (1)").wait_for()
    look.at(app, "what was settled")


def test_every_page_of_a_chart_that_opens_by_itself(shared_world, window, look):
    """In its usual state; its others are looked at above and below."""
    app = chart_of(shared_world, window, "one-day-short")
    patient_page = app.url
    no_pages = {"content", "decisions.json", "style.css", "worklist/worklist.csv", "worksheet/.csv"}
    pages = sorted(of_a_session(app_of_pages()).keys() - no_pages)
    for address in (*pages, "what-if?add-days=2", "what-if?add-days=-3"):
        app.goto(urljoin(patient_page, address))
        look.at(app, address)


def test_months_that_are_certified(make_world, window, look):
    world = make_world(site_more="lock_certified_months: true\n")
    app = chart_of(world, window, PATIENT)
    patient_page = app.url
    follow(app, "Certified months")
    look.at(app, "months")
    app.locator("main a[href$='2026-03']").click()
    look.at(app, "a month that can be certified")
    answer_everything(app)
    app.locator("form[action$='certify'] button").click()
    app.locator("form[action$='reopen']").wait_for()
    look.at(app, "a month that is certified")
    app.goto(patient_page)
    look.at(app, "the patient, with a certified month")


def test_a_second_persons_approval(make_world, window, look):
    world = make_world(site_more="second_approval: true\n")
    app = chart_of(world, window, PATIENT)
    follow(app, "Review and accept 98977")
    press(app, "Write 98977 to the EHR")
    app.get_by_role("heading", name="Accepted, awaiting approval").wait_for()
    look.at(app, "accepted")
    second = chart_of(world, window, PATIENT, THERAPIST)
    look.at(second, "the patient, with an approval to give")
    follow(second, "See and approve")
    look.at(second, "what is approved")
    press(second, "Approve and write 98977 to the EHR")
    second.get_by_role("heading", name="The charge is in the EHR").wait_for()
    look.at(second, "approved")


def test_a_charge_that_a_person_enters(make_world, window, look):
    world = make_world(issuer_more='write = {charge_item = "no"}\n')
    app = chart_of(world, window, PATIENT)
    patient_page = app.url
    follow(app, "Review and accept 98977")
    look.at(app, "what goes on the worksheet")
    press(app, "Put 98977 on the worksheet")
    app.get_by_role("heading", name="The charge is on the worksheet").wait_for()
    look.at(app, "on the worksheet")
    app.goto(urljoin(patient_page, "worksheet"))
    look.at(app, "the worksheet")
    follow(app, "I entered it in billing")
    look.at(app, "entered?")
    without_waiting_for_answers(app)
    app.locator("main form button").last.click()
    look.at(app, "entered without a word")


def test_a_month_of_charges_and_what_was_denied(make_world, window, look):
    world = make_world(site_more="permissions: {bill: [physician]}\n")
    now = world.now()
    keep_charge(world.store, "1", now, patient=PATIENT, code="98975")
    keep_charge(
        world.store,
        "2",
        now,
        patient=PATIENT,
        code="98977",
        state=ChargeState.TO_ENTER,
        method=Method.WORKSHEET,
    )
    keep_charge(world.store, "3", now, patient=PATIENT, code="98980", state=ChargeState.UNKNOWN)
    app = chart_of(world, window, PATIENT)
    month = urljoin(app.url, "billing/2026-03")
    app.goto(month)
    look.at(app, "a month of charges")
    app.goto(f"{month}?denied=yes")
    look.at(app, "a month of which nothing is shown")
    app.goto(month)
    app.locator("main th a", has_text="98975").click()
    look.at(app, "a charge that may be denied")
    without_waiting_for_answers(app)
    press(app, "Record the denial")
    app.get_by_role("alert").first.wait_for()
    look.at(app, "a denial with errors")
    app.get_by_label("Day of the remittance").fill("2026-04-10")
    app.get_by_label("Reason code").fill("50")
    press(app, "Record the denial")
    app.locator("article").first.wait_for()
    look.at(app, "a charge that was denied")
    app.goto(month)
    follow(app, "Denials of March 2026 by reason and payer")
    look.at(app, "the denials of a month")


def test_a_worklist(make_world, window, look, tmp_path):
    world = make_world(site_more="worklist: [{state: state}]\n")
    export(tmp_path / "charts", DAY, readings=60)
    swept_sandbox(tmp_path / "state", tmp_path / "charts", DAY, keys=world.settings.keys)
    page = window.new_page()
    page.goto(f"{world.ehr.base_url}/")
    with window.expect_page() as opened:
        page.locator("form[action$='/launch-worklist'] button").click()
    app = opened.value
    app.get_by_role("heading", name="Worklist", exact=True).wait_for()
    look.at(app, "a worklist")


def test_all_readings_of_a_day(make_world, window, look):
    world = make_world(ehr={"readings": 20_000})
    app = chart_of(world, window, "fifty-thousand-readings")
    follow(app, "All days")
    app.goto(app.locator("a[href*='/readings/']").first.evaluate("one => one.href"))
    look.at(app, "all readings of a day")


def test_a_day_of_a_strip_alone(shared_world, window, look):
    app = chart_of(shared_world, window, PATIENT)
    app.goto(app.locator("a.cell").first.evaluate("one => one.href"))
    look.at(app, "a day alone")


def test_a_window_that_is_over_for_long(shared_world, window, look):
    app = chart_of(shared_world, window, PATIENT)
    app.goto(app.locator("a[href*='/windows/']").first.evaluate("one => one.href"))
    look.at(app, "a window in full")


def test_who_may_only_look(shared_world, window, look):
    app = chart_of(shared_world, window, PATIENT, NURSE)
    look.at(app, "the page of a nurse")


def test_errors_and_pages_that_wait(world, window, look, monkeypatch):
    app = chart_of(world, window, PATIENT)
    patient_page = app.url
    app.goto(urljoin(patient_page, "nothing-here"))
    look.at(app, "no such page")
    app.goto(urljoin(patient_page, "charges/98977-2026-03-16"))
    app.get_by_role("button", name="Write 98977").wait_for()

    def spent(*_given, **_more):
        raise HttpError(HttpProblem.BUSY)

    with monkeypatch.context() as patched:
        patched.setattr(IssuerLimiter, "slot", spent)
        press(app, "Write 98977 to the EHR")
        app.get_by_role("heading", name="Waiting for the EHR").wait_for()
        # So that it is looked at before it goes on by itself.
        app.route("**/charges/**", lambda route: route.fulfill(status=204))
        look.at(app, "waiting for the EHR")
    app.unroute_all()
    app.goto(patient_page)
    press(app, "End session")
    app.get_by_role("heading", name="The session is over").wait_for()
    look.at(app, "the session is over")
    app.goto(patient_page)
    look.at(app, "no open session")


def test_pages_before_a_chart_is_open(world, window, look):
    app = window.new_page()
    base = world.settings.base_url
    app.goto(f"{base}/")
    look.at(app, "the front page")
    app.goto(f"{base}/nothing-here")
    look.at(app, "no such page, outside of a session")
    app.goto(f"{base}/launch?iss=https%3A%2F%2Fstranger.example%2Ffhir&launch=x")
    look.at(app, "an EHR that nobody listed")
