"""The EHR's look: known keys, plain values, readable colours, and never anything else of what it sent."""

from __future__ import annotations

import pytest

from smartapp.web.style import contrast, style_sheet


def test_known_keys_become_our_own_variables():
    made = style_sheet(
        {"color_background": "#FFF", "dim_font_size": "15px", "font_family_body": "Georgia, Lato"}
    )
    assert made.splitlines() == [
        "@media not (prefers-color-scheme: dark) {",
        ':root:not([data-theme="dark"]) {',
        "  --paper: #fff;",
        "}",
        "}",
        ':root:not([data-theme="dark"]) {',
        "  --pico-font-size: 15px;",
        '  --pico-font-family: "Georgia", "Lato", sans-serif;',
        "}",
    ]


@pytest.mark.threat("5.8")
@pytest.mark.parametrize(
    "value",
    [
        "red; } body { display: none",
        "url(https://evil.example/x)",
        "#12345",
        "#1234567",
        "expression(1)",
        "var(--ink)",
        5,
        None,
        ["#ffffff"],
        "#ffffff\n",
    ],
)
def test_what_is_no_plain_colour_is_left_out(value):
    assert style_sheet({"color_background": value, "color_highlight": value}) == ""


@pytest.mark.parametrize(
    "value", ["0px", "11px", "25px", "999px", "15", "15 px", "calc(1px)", "-15px", "1e2px", 15]
)
def test_a_text_size_that_nobody_could_read_is_left_out(value):
    assert style_sheet({"dim_font_size": value}) == ""


@pytest.mark.threat("5.8")
@pytest.mark.parametrize("value", ['a"b', "x;y", "x{", "@import", "", "url(x)", "a" * 101, "'x'"])
def test_a_font_is_names_and_nothing_else(value):
    assert style_sheet({"font_family_body": value}) == ""


def test_unknown_keys_are_ignored():
    assert style_sheet({"color_sidebar": "#ffffff", "__proto__": {}, "body": "x"}) == ""


def test_colours_that_cannot_be_read_on_each_other_are_left_out():
    assert style_sheet({"color_text": "#dddddd"}) == ""
    assert style_sheet({"color_background": "#222222"}) == "", "our own text would vanish on it"
    assert style_sheet({"color_highlight": "#ffff00"}) == "", "white stands on it"
    assert "--ink: #111111" in style_sheet({"color_text": "#111111", "color_background": "#eeeeee"})


def test_contrast_is_that_of_the_guidelines():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)
    assert contrast("#fff", "#ffffff") == 1


def test_the_page_of_a_session_wears_the_ehrs_look(shared_world, browser):
    page = shared_world.open(browser, "nothing")
    assert "/style.css" in page.body
    sheet = browser.get(f"{page.url}style.css")
    assert sheet.headers["Content-Type"].startswith("text/css")
    assert "--pico-primary: #0b5c8a;" in sheet.body
    assert "--pico-font-size: 15px;" in sheet.body


def test_an_ehr_whose_style_cannot_be_had_changes_nothing(world, browser):
    page = world.open(browser, "nothing")
    world.ehr.close()
    sheet = browser.get(f"{page.url}style.css")
    assert sheet.status == 200
    # Another test of this process may have fetched that address before.
    assert sheet.body == "" or ":root" in sheet.body


def test_the_style_sheet_belongs_to_the_session(shared_world, browser):
    page = shared_world.open(browser, "nothing")
    assert browser.get(page.url.replace("/s/", "/s/x") + "style.css").status == 401
