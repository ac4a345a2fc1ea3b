"""In a real browser: in a tab, and in the EHR's frame on another site, where ordinary cookies are lost."""

from __future__ import annotations

from datetime import timedelta

import flask
import pytest
import requests
from playwright.sync_api import expect

from tests.support.sandbox import held

PATIENT = "ready-respiratory"

pytestmark = pytest.mark.browser


def accept_first(place, code):
    """Accept a charge on a page or in a frame, as a clinician does; the ChargeItem that it names."""
    place.get_by_role("button", name=f"Review and accept {code}").click()
    place.get_by_role("button", name=f"Write {code} to the EHR").click()
    place.get_by_role("heading", name="The charge is in the EHR").wait_for()
    return place.locator("#charge-item").text_content()


def charge_ids(world):
    return {f"ChargeItem/{charge['id']}" for charge in world.charges(PATIENT)}


def test_in_a_tab_a_clinician_accepts_a_charge_and_sees_it_here_and_in_the_ehr(world, window):
    page = window.new_page()
    page.goto(f"{world.ehr.base_url}/")
    with window.expect_page() as opened:
        page.locator(f"#{PATIENT} button[value=tab]").click()
    app = opened.value
    complaints = []
    app.on("console", lambda message: complaints.append(message.text))
    app.locator("#findings").wait_for()
    written = accept_first(app, "98976")
    assert written in charge_ids(world)
    app.get_by_role("link", name="Back to the patient").click()
    app.locator("#findings").wait_for()
    assert written in app.content()
    page.goto(f"{world.ehr.base_url}/charts/{PATIENT}")
    assert written.removeprefix("ChargeItem/") in page.content()
    assert complaints == [], "the content security policy or a missing file"


def test_in_a_cross_site_frame_ordinary_cookies_are_lost_and_ours_are_not(world, window):
    page = window.new_page()
    app = world.settings.base_url
    # First the proof that this frame is another site: a plain Lax cookie of the app must not arrive there.
    window.add_cookies([{"name": "plain", "value": "1", "url": app, "sameSite": "Lax"}])
    seen = []
    page.on("request", lambda request: seen.append(request))
    page.goto(f"{world.ehr.base_url}/")
    page.locator(f"#{PATIENT} button[value=frame]").click()
    frame = page.frame_locator("#app")
    frame.locator("#findings").wait_for()
    sent = [
        request.all_headers().get("cookie", "") for request in seen if request.url.startswith(f"{app}/s/")
    ]
    assert sent
    assert not any("plain=" in cookies for cookies in sent), (
        "the frame is not cross-site: this proves nothing"
    )
    assert all("__Host-s-" in cookies for cookies in sent)
    written = accept_first(frame, "98976")
    assert written in charge_ids(world)


def test_where_the_frame_keeps_no_cookie_the_app_opens_in_a_new_window_with_the_launch_unspent(
    world, window, monkeypatch
):
    set_cookie = flask.Response.set_cookie
    # Without this attribute the browser keeps no cookie in the frame: as where it knows no partitions.
    monkeypatch.setattr(
        flask.Response,
        "set_cookie",
        lambda *given, **more: set_cookie(*given, **{**more, "partitioned": False}),
    )
    page = window.new_page()
    gone_to = []
    page.on(
        "request", lambda request: gone_to.append(request.url) if request.is_navigation_request() else None
    )
    page.goto(f"{world.ehr.base_url}/")
    page.locator(f"#{PATIENT} button[value=frame]").click()
    way_out = page.frame_locator("#app").get_by_role("button", name="Open in a new window")
    way_out.wait_for()
    assert not [address for address in gone_to if "/authorize" in address], "the EHR was not asked yet"
    with window.expect_page() as opened:
        way_out.click()
    opened.value.locator("#findings").wait_for()
    assert "Synthetic-Ready-Respiratory" in opened.value.content()


def test_the_page_fits_a_side_panel(world, window):
    page = window.new_page()
    page.goto(f"{world.ehr.base_url}/")
    with window.expect_page() as opened:
        page.locator(f"#{PATIENT} button[value=tab]").click()
    app = opened.value
    app.set_viewport_size({"width": 380, "height": 800})
    app.locator("#findings").wait_for()
    assert app.evaluate("document.documentElement.scrollWidth") <= 380


def test_a_lost_cookie_is_noticed_before_the_ehr_is_asked_and_the_launch_stays_unspent(world):
    iss = world.fhir_base
    first = requests.get(
        f"{world.settings.base_url}/launch",
        params={"iss": iss, "launch": "unspent"},
        allow_redirects=False,
        timeout=60,
    )
    assert "__Host-probe" in first.headers["Set-Cookie"]
    second = requests.get(
        world.settings.base_url + first.headers["Location"], allow_redirects=False, timeout=60
    )
    assert second.status_code == 200
    assert "Open in a new window" in second.text
    assert "launch=unspent" in second.text


def test_a_call_that_the_ehr_does_not_hold_is_logged_signed_and_charged_in_a_side_panel(world, window):
    patient = "calls-not-in-the-ehr"
    page = window.new_page()
    page.goto(f"{world.ehr.base_url}/")
    with window.expect_page() as opened:
        page.locator(f"#{patient} button[value=tab]").click()
    app = opened.value
    app.set_viewport_size({"width": 400, "height": 800})
    complaints = []
    app.on("console", lambda message: complaints.append(message.text))
    app.locator("#findings").wait_for()

    app.get_by_role("link", name="Log time or a conversation").click()
    last_month = world.today.replace(day=1) - timedelta(days=3)
    app.get_by_label("Date", exact=True).fill(last_month.isoformat())
    app.get_by_label("Start", exact=True).fill("10:00")
    app.get_by_label("End", exact=True).fill("10:22")
    app.get_by_label("Whose time").select_option(index=1)
    app.get_by_label("Program").select_option("rtm")
    app.get_by_label("What was done").select_option("phone-call")
    app.get_by_label("Live, two-way").select_option("yes")
    app.get_by_role("button", name="Save and sign").click()
    assert app.locator("#entry-length").inner_text() == "22 minutes"
    assert app.evaluate("document.documentElement.scrollWidth") <= 400
    app.get_by_role("checkbox").check()
    app.get_by_role("button", name="Sign as").click()

    app.get_by_role("link", name="Confirm consent, order, device").click()
    app.get_by_role("radio").first.check()
    app.get_by_label("Codes").select_option("all")
    app.get_by_role("checkbox").check()
    app.get_by_role("button", name="State it as").click()
    app.get_by_role("heading", name="Statements made (1)").wait_for()
    assert app.evaluate("document.documentElement.scrollWidth") <= 400

    app.get_by_role("link", name="Back to the patient").click()
    written = accept_first(app, "98980")
    assert written in {f"ChargeItem/{charge['id']}" for charge in world.charges(patient)}
    assert complaints == []


def in_a_frame(world, window, patient):
    """The patient page in the EHR's frame, read."""
    page = window.new_page()
    page.goto(f"{world.ehr.base_url}/")
    page.locator(f"#{patient} button[value=frame]").click()
    frame = page.frame_locator("#app")
    frame.locator("#findings").wait_for()
    return page, frame


class Reader:
    """Somebody who charges in a frame: counts what they press, tick and choose, and the words they see."""

    def __init__(self, frame):
        self.frame, self.clicks, self.words = frame, 0, 0
        self.reads()

    def reads(self):
        self.words += len(self.frame.locator("body").inner_text().split())

    def presses(self, name, then):
        self.frame.get_by_role("button", name=name, exact=True).click()
        self.clicks += 1
        role, text = then
        self.frame.get_by_role(role, name=text).first.wait_for()
        self.reads()

    def ticks_everything(self):
        for box in self.frame.get_by_role("checkbox").all():
            box.check()
            self.clicks += 1

    def chooses_what_is_open(self):
        for select in self.frame.get_by_role("combobox").all():
            if not select.input_value():
                select.select_option(index=1)
                self.clicks += 1


def test_a_code_with_nothing_open_is_charged_in_four_clicks_and_three_hundred_words(world, window):
    _, frame = in_a_frame(world, window, PATIENT)
    reader = Reader(frame)
    reader.presses("Review and accept 98976", ("button", "Write 98976 to the EHR"))
    reader.presses("Write 98976 to the EHR", ("heading", "The charge is in the EHR"))
    assert frame.locator("#charge-item").text_content() in charge_ids(world)
    assert reader.clicks <= 4
    assert reader.words <= 300


def test_three_codes_with_nothing_open_are_charged_in_six_clicks(world, window):
    _, frame = in_a_frame(world, window, "ready-musculoskeletal")
    reader = Reader(frame)
    reader.presses("Accept all 3 together", ("button", "Write 3 charges to the EHR"))
    reader.presses("Write 3 charges to the EHR", ("heading", "All 3 charges are in the EHR"))
    assert reader.clicks <= 6


def test_a_code_with_four_statements_is_charged_in_nine_clicks(world, window):
    patient = "ready-physiologic"
    world.ehr_shows_surgery(patient)
    for type_ in ("Consent", "ServiceRequest"):
        for one in world.resources(type_, patient):
            world.ehr.sandbox.store.delete(type_, one["id"])
    _, frame = in_a_frame(world, window, patient)
    reader = Reader(frame)
    reader.presses("Review and accept 99454", ("button", "See what will be written"))
    assert frame.get_by_role("checkbox").count() == 4
    reader.ticks_everything()
    reader.chooses_what_is_open()
    reader.presses("See what will be written", ("button", "Write 99454 to the EHR"))
    reader.presses("Write 99454 to the EHR", ("heading", "The charge is in the EHR"))
    assert reader.clicks <= 9


def test_back_reload_and_a_second_tab_show_what_was_written(world, window):
    page, frame = in_a_frame(world, window, PATIENT)
    accept_first(frame, "98976")
    inner = page.frames[-1]
    for go in ("history.back()", "location.reload()"):
        with page.expect_event("framenavigated"):
            inner.evaluate(go)
        frame.get_by_role("heading", name="The charge is in the EHR").wait_for()
    page.goto(f"{world.ehr.base_url}/charts/{PATIENT}")
    assert page.content().count("98976") >= 1


def test_a_write_in_progress_shows_that_it_is(world, window):
    app = chart_of(world, window)
    app.get_by_role("button", name="Review and accept 98976").click()
    app.get_by_role("button", name="Write 98976 to the EHR").wait_for()
    # 204: the browser stays where it is, as while it waits for an answer.
    app.route("**/charges/*", lambda route: route.fulfill(status=204))
    app.get_by_role("button", name="Write 98976 to the EHR").click()
    app.get_by_text("Writing to the EHR.").wait_for()


MOST_WORDS = 250
FIRST_SCREEN = {"width": 400, "height": 700}


def chart_of(world, window, patient=PATIENT, **size):
    """The patient page in a tab, read after it was seen waiting."""
    page = window.new_page()
    page.goto(f"{world.ehr.base_url}/")
    with held(world.ehr, "/Observation"):
        with window.expect_page() as opened:
            page.locator(f"#{patient} button[value=tab]").click()
        app = opened.value
        app.get_by_text("Reading the chart").first.wait_for()
    if size:
        app.set_viewport_size(size)
    app.locator("#findings").wait_for()
    return app


@pytest.mark.parametrize("patient", ["ready-respiratory", "ready-musculoskeletal", "ready-physiologic"])
def test_the_first_screen_of_a_side_panel_holds_the_answer_and_a_button(world, window, patient):
    app = chart_of(world, window, patient, **FIRST_SCREEN)
    heading = app.get_by_role("heading", level=1).bounding_box()
    button = app.get_by_role("button", name="Review and accept").first.bounding_box()
    assert heading["y"] + heading["height"] < 300
    assert button["y"] + button["height"] <= FIRST_SCREEN["height"]
    words = app.evaluate("document.body.innerText").split()
    assert len(words) <= MOST_WORDS, len(words)
    closed = " ".join(app.locator("details:not([open])").all_text_contents())
    assert "Review and accept" not in closed
    assert "Ready to charge" not in closed


def test_a_day_of_the_strip_opens_in_place_and_closes(world, window):
    app = chart_of(world, window, "hospital-stay")
    day = app.locator("a.cell.ward").first
    assert "in a facility, not counted" in day.get_attribute("aria-label")
    day.click()
    opened = app.locator(".opened:target")
    assert "mmHg" in opened.inner_text()
    assert "taken while the patient was in a facility" in opened.inner_text()
    expect(app.locator(".opened:visible")).to_have_count(1)
    opened.get_by_role("link", name="Close").click()
    expect(app.locator(".opened:visible")).to_have_count(0)


def test_a_day_that_is_open_is_open_again_for_whoever_comes_back_and_back_closes_it(shared_world, window):
    app = chart_of(shared_world, window)
    first, second = app.locator("a.cell.counted").nth(0), app.locator("a.cell.counted").nth(1)
    labels = [first.get_attribute("aria-label"), second.get_attribute("aria-label")]
    shown = app.locator(".opened:visible strong")
    first.click()
    expect(shown).to_have_text([labels[0]])
    second.press("Enter")
    expect(shown).to_have_text([labels[1]])
    app.locator(".opened:visible").get_by_role("link", name="Technical").first.click()
    app.locator("#raw").wait_for()
    app.go_back()
    expect(shown).to_have_text([labels[1]])
    app.go_back()
    expect(shown).to_have_text([labels[0]])
    app.go_back()
    expect(shown).to_have_count(0)


def test_the_keyboard_goes_on_in_the_day_that_was_opened(shared_world, window):
    app = chart_of(shared_world, window)
    app.locator("a.cell").first.press("Enter")
    app.locator(".opened:target").wait_for()
    app.keyboard.press("Tab")
    assert app.evaluate("document.activeElement.textContent") == "Close"
    app.keyboard.press("Enter")
    expect(app.locator(".opened:visible")).to_have_count(0)


def test_all_days_open_in_place(shared_world, window):
    app = chart_of(shared_world, window)
    page = app.url
    app.get_by_role("link", name="All days").first.click()
    expect(app.locator(".opened:visible")).to_have_count(30)
    app.locator("a.cell").first.click()
    expect(app.locator(".opened:visible")).to_have_count(1)
    assert app.url.partition("#")[0] == page


def test_whoever_is_signed_out_is_told_so_where_a_day_would_have_opened(shared_world, window):
    app = chart_of(shared_world, window)
    window.clear_cookies()
    app.locator("a.cell").first.click()
    app.get_by_text("You are signed out of this app.").wait_for()


def test_whoever_listens_hears_the_answer_when_the_chart_has_been_read(world, window):
    app = chart_of(world, window)
    assert app.locator("#announce").text_content() == app.locator("#summary").text_content()


def test_every_target_is_large_enough_to_hit(world, window):
    app = chart_of(world, window, **FIRST_SCREEN)
    small = app.evaluate(
        """() => [...document.querySelectorAll("a, button, summary, input, select")]
            .filter(one => one.offsetParent !== null && !one.classList.contains("skip"))
            .map(one => [one.textContent.trim().slice(0, 40), one.getBoundingClientRect()])
            .filter(([, box]) => box.width && (box.width < 24 || box.height < 24))
            .map(([text, box]) => `${text}: ${box.width} x ${box.height}`)"""
    )
    assert small == []


def test_whoever_asks_for_a_dark_page_gets_one(world, window):
    app = chart_of(world, window)
    light = app.evaluate("getComputedStyle(document.body).backgroundColor")
    app.emulate_media(color_scheme="dark")
    assert app.evaluate("getComputedStyle(document.body).backgroundColor") != light


def test_on_paper_the_evidence_is_open_and_there_is_no_navigation(world, window):
    app = chart_of(world, window)
    app.emulate_media(media="print")
    assert app.locator(".block table").first.is_visible()
    for gone in (".own", ".top", ".action"):
        assert not app.locator(gone).first.is_visible()
