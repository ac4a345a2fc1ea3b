"""In a real browser that has less than others: no scripts, text twice as large, paper, a narrow frame of
another site, an EHR that has no time. What is read is read, what is charged is charged."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from launch.errors import HttpError, HttpProblem
from launch.limiter import IssuerLimiter
from tests.smartapp.test_on_the_wire import MOST_BYTES
from tests.support.chromium import chromium_of, follow, framed, launched, new_window, press
from tests.support.sandbox import held
from tests.support.seen_page import axe_faults, small_targets

pytestmark = pytest.mark.browser

PATIENT = "ready-respiratory"
CODE = "98976"
PANEL = {"width": 400, "height": 700}
CUT_OFF = """() => [...document.querySelectorAll("main *")]
    .filter(one => one.offsetParent && !one.closest(".hidden, svg"))
    .filter(one => ["hidden", "clip"].includes(getComputedStyle(one).overflowX))
    .filter(one => one.scrollWidth > one.clientWidth).map(one => one.outerHTML.slice(0, 100))"""
"""What is not shown to its end."""
MOST_WORDS = 250
MOST_WORDS_OF_A_CHARGE = 300


@pytest.fixture(scope="module")
def scriptless(driver):
    with chromium_of(driver, scripts=False) as opened:
        yield opened


@pytest.fixture
def without_scripts(scriptless):
    """A window in which nothing is scripted, as its user chose."""
    with new_window(scriptless) as opened:
        yield opened


def written(world, place):
    """The charge that a page says it wrote is in the EHR, once."""
    place.get_by_role("heading", name="The charge is in the EHR").wait_for()
    name = place.locator("#charge-item").text_content()
    charges = [f"ChargeItem/{one['id']}" for one in world.charges(PATIENT)]
    return charges.count(name) == 1


def charge(place):
    follow(place, f"Review and accept {CODE}")
    press(place, f"Write {CODE} to the EHR")


# Scripts


def test_without_any_script_a_chart_is_read_and_a_code_charged(world, without_scripts):
    with held(world.ehr, "/Observation"):
        app = launched(world.ehr.base_url, without_scripts, PATIENT)
        app.get_by_text("Reading the chart").first.wait_for()
    app.locator("#findings").wait_for()
    app.locator("a.cell").first.click()
    expect(app.locator(".opened:visible")).to_have_count(1)
    expect(app.get_by_role("heading", name="One day")).to_be_visible()
    follow(app, "Back to the patient")
    charge(app)
    assert written(world, app)


def test_without_any_script_all_days_open_in_full(shared_world, without_scripts):
    app = launched(shared_world.ehr.base_url, without_scripts, PATIENT)
    app.locator("#findings").wait_for()
    follow(app, "All days")
    expect(app.locator(".opened:visible")).to_have_count(30)


@pytest.mark.parametrize("blocked", ["vendor/htmx", "reading.js", "pressed.js", "days.js"])
def test_where_one_script_is_blocked_a_chart_is_read_and_a_code_charged(world, window, blocked):
    stopped = []

    def stop(route):
        stopped.append(route.request.url)
        route.abort()

    window.route(re.compile(re.escape(f"/static/{blocked}")), stop)
    with held(world.ehr, "/Observation"):
        app = launched(world.ehr.base_url, window, PATIENT)
        app.get_by_text("Reading the chart").first.wait_for()
    app.locator("#findings").wait_for()
    app.locator("a.cell").first.click()
    expect(app.locator(".opened:visible")).to_have_count(1)
    app.go_back()
    charge(app)
    assert written(world, app)
    assert stopped


def test_where_every_script_is_lost_on_the_way_a_link_looks_again(world, window):
    window.route("**/*.js*", lambda route: route.abort())
    with held(world.ehr, "/Observation"):
        app = launched(world.ehr.base_url, window, PATIENT)
        app.get_by_text("Reading the chart").first.wait_for()
    while not app.locator("#findings").count():
        with app.expect_navigation():
            follow(app, "Look again")
    charge(app)
    assert written(world, app)


def test_a_sign_in_by_form_goes_on_by_itself_or_by_its_button(
    shared_world, window, without_scripts, monkeypatch
):
    monkeypatch.setattr("launch.authorization._LONGEST_ADDRESS", 10)
    launched(shared_world.ehr.base_url, window, PATIENT).locator("#findings").wait_for()
    app = launched(shared_world.ehr.base_url, without_scripts, PATIENT)
    press(app, "Continue to the EHR")
    app.locator("#findings").wait_for()


# An EHR that has no time


def has_no_time(*_given, **_more):
    raise HttpError(HttpProblem.BUSY)


def test_what_could_not_be_sent_goes_by_itself_once_the_ehr_has_time(world, window, monkeypatch):
    app = launched(world.ehr.base_url, window, PATIENT)
    with monkeypatch.context() as busy:
        follow(app, f"Review and accept {CODE}")
        app.get_by_role("button", name=f"Write {CODE} to the EHR").wait_for()
        busy.setattr(IssuerLimiter, "slot", has_no_time)
        press(app, f"Write {CODE} to the EHR")
        app.get_by_role("heading", name="Waiting for the EHR").wait_for()
        with app.expect_event("framenavigated"):
            pass  # it asked again, and the EHR still had no time
        app.get_by_role("heading", name="Waiting for the EHR").wait_for()
    # Nobody presses anything.
    assert written(world, app)


def test_without_scripts_what_could_not_be_sent_goes_by_its_button(world, without_scripts, monkeypatch):
    app = launched(world.ehr.base_url, without_scripts, PATIENT)
    app.locator("#findings").wait_for()
    follow(app, f"Review and accept {CODE}")
    app.get_by_role("button", name=f"Write {CODE} to the EHR").wait_for()
    with monkeypatch.context() as busy:
        busy.setattr(IssuerLimiter, "slot", has_no_time)
        press(app, f"Write {CODE} to the EHR")
        app.get_by_role("heading", name="Waiting for the EHR").wait_for()
    press(app, "Try again now")
    assert written(world, app)


# A frame of another site, as narrow as a side panel


@pytest.fixture
def panel(world, window):
    """The patient page in the EHR's frame, which is as large as a side panel; and the page around it."""
    page, frame = framed(world.ehr.base_url, window, PATIENT, PANEL)
    frame.locator("#findings").wait_for()
    inner = page.frames[-1]
    assert inner.url.startswith(world.settings.base_url)
    assert not page.url.startswith(world.settings.base_url), "the frame is not of another site"
    assert inner.evaluate("[innerWidth, innerHeight]") == [PANEL["width"], PANEL["height"]]
    return inner


def test_in_a_panel_the_first_screen_holds_the_answer_and_a_button(panel):
    assert panel.evaluate("scrollY") == 0
    heading = panel.evaluate("document.querySelector('h1').getBoundingClientRect().bottom")
    button = panel.evaluate("document.querySelector('main .action a').getBoundingClientRect().bottom")
    assert heading < 300
    assert button <= PANEL["height"]
    words = panel.evaluate("document.body.innerText").split()
    assert len(words) <= MOST_WORDS, len(words)


def test_in_a_panel_nothing_is_too_wide_too_small_or_hidden_from_a_reader(panel):
    assert panel.evaluate("document.documentElement.scrollWidth") <= PANEL["width"]
    assert small_targets(panel) == []
    assert axe_faults(panel) == []


def test_in_a_panel_whoever_listens_hears_the_answer(panel):
    said = panel.locator("#announce")
    assert said.get_attribute("role") == "status"
    assert said.text_content() == panel.locator("h1").text_content()


def test_in_a_panel_a_day_opens_in_place_and_closes(panel):
    panel.locator("a.cell").first.click()
    expect(panel.locator(".opened:visible")).to_have_count(1)
    panel.locator(".opened:target").get_by_role("link", name="Close").click()
    expect(panel.locator(".opened:visible")).to_have_count(0)


def test_in_a_panel_a_code_is_charged_in_two_presses_and_three_hundred_words(world, panel):
    words = len(panel.evaluate("document.body.innerText").split())
    follow(panel, f"Review and accept {CODE}")
    panel.get_by_role("button", name=f"Write {CODE} to the EHR").wait_for()
    words += len(panel.evaluate("document.body.innerText").split())
    press(panel, f"Write {CODE} to the EHR")
    assert written(world, panel)
    words += len(panel.evaluate("document.body.innerText").split())
    assert words <= MOST_WORDS_OF_A_CHARGE, words


def test_in_a_frame_a_first_visit_takes_at_most_60_kilobytes(world, window):
    answers = []
    window.on("requestfinished", lambda request: answers.append(request))
    _, frame = framed(world.ehr.base_url, window, "both-programs", PANEL)
    frame.locator("#findings").wait_for()
    ours = [one for one in answers if one.url.startswith(world.settings.base_url)]
    sizes = {one.url: one.sizes() for one in ours}
    total = sum(size["responseHeadersSize"] + size["responseBodySize"] for size in sizes.values())
    assert any("/content" in url for url in sizes)
    assert any("htmx" in url for url in sizes)
    assert total <= MOST_BYTES, {url: size["responseBodySize"] for url, size in sizes.items()}


def test_a_second_chart_in_the_same_browser_asks_for_no_style_and_no_script_again(world, window):
    launched(world.ehr.base_url, window, PATIENT).locator("#findings").wait_for()
    asked = []
    window.on("response", lambda answer: asked.append((answer.url, answer.from_service_worker)))
    again = launched(world.ehr.base_url, window, "ready-musculoskeletal")
    again.locator("#findings").wait_for()
    kept = again.evaluate(
        """() => performance.getEntriesByType("resource").filter(one => one.name.includes("/static/"))
            .map(one => one.transferSize)"""
    )
    assert len(kept) >= 3
    assert set(kept) == {0}


# Large text, dark, paper


@pytest.mark.parametrize("patient", ["both-programs", "messy-chart"])
def test_with_text_twice_as_large_everything_is_read_without_scrolling_sideways(
    shared_world, window, patient
):
    app = launched(shared_world.ehr.base_url, window, patient)
    app.locator("#findings").wait_for()
    app.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    # The text alone, and the whole page.
    for width, text in ((1280, "200%"), (640, "100%")):
        app.set_viewport_size({"width": width, "height": 900})
        app.evaluate("size => document.documentElement.style.fontSize = size", text)
        assert app.evaluate("document.documentElement.scrollWidth") <= width
        assert app.evaluate(CUT_OFF) == []


def test_on_paper_a_dark_screen_is_black_on_white(shared_world, window):
    app = launched(shared_world.ehr.base_url, window, PATIENT)
    app.locator("#findings").wait_for()
    app.emulate_media(media="print", color_scheme="dark")
    seen = app.evaluate(
        """() => [document.body, document.querySelector("h1"), document.querySelector(".block h2")]
            .map(one => [getComputedStyle(one).color, getComputedStyle(document.body).backgroundColor])"""
    )
    for ink, paper in seen:
        assert paper == "rgb(255, 255, 255)"
        assert sum(int(part) for part in re.findall(r"\d+", ink)[:3]) < 200, ink
