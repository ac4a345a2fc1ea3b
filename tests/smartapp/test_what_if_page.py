"""The what-if page: imagined cards, marked as not real, that nobody can accept and nothing keeps."""

from __future__ import annotations

from tests.smartapp.conftest import Browser, World


def test_more_days_are_imagined_and_nothing_can_be_accepted(shared_world: World, browser: Browser) -> None:
    page = shared_world.open(browser, "one-day-short")
    assert "98977" in page.text
    imagined = browser.get(page.url + "what-if?add-days=2")
    assert imagined.status == 200
    assert "NOT REAL" in imagined.text
    assert "Imagined: add-days 2" in imagined.text
    assert not [text for _, text in imagined.links if text.startswith("Review and accept")]
    assert {form.method for form in imagined.forms if "what-if" in form.action} == {"get"}


def test_what_was_imagined_is_not_kept(shared_world: World, browser: Browser) -> None:
    page = shared_world.open(browser, "one-day-short")
    before = browser.get(page.url + "decisions.json").body
    browser.get(page.url + "what-if?add-days=5&add-call-minutes=30&payer=cigna")
    assert browser.get(page.url + "decisions.json").body == before


def test_another_payer_is_imagined(shared_world: World, browser: Browser) -> None:
    page = shared_world.open(browser, "ready-musculoskeletal")
    imagined = browser.get(page.url + "what-if?payer=aetna")
    assert "Payer: Aetna" in imagined.text
    assert "Ready to charge" not in imagined.text


def test_a_wish_that_makes_no_sense_is_a_sentence(shared_world: World, browser: Browser) -> None:
    page = shared_world.open(browser, "ready-musculoskeletal")
    answer = browser.get(page.url + "what-if?add-days=-3")
    assert answer.status == 422
    assert "none of" in answer.text


def test_the_page_opens_from_the_chart_without_a_wish(shared_world: World, browser: Browser) -> None:
    page = shared_world.open(browser, "ready-musculoskeletal")
    link = next(target for target, text in page.links if text == "Try “what if”")
    assert "can't be charged" in browser.get(link).text
