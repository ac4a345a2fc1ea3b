"""The days of a strip: each opens alone, at an address that tells nobody when somebody measured."""

from __future__ import annotations

import re
from datetime import date, timedelta
from urllib.parse import urljoin

import pytest

from smartapp.commands.demo_check import Browser
from smartapp.web.own_pages import strip_day_address
from tests.support.strips import days_in_full, days_that_open

PATIENT = "ready-musculoskeletal"


@pytest.fixture
def page(shared_world, browser):
    return shared_world.open(browser, PATIENT)


def cells(page):
    """Address and label of each day that opens."""
    found = re.findall(r'<a class="cell [^"]*" href="([^"]+)"[^>]* aria-label="([^"]+)"', page.body)
    return [(urljoin(page.url, address), label) for address, label in found]


def test_the_patient_page_holds_no_reading_of_a_day_and_a_link_to_each(page):
    assert 'class="opened"' not in page.body
    assert len(cells(page)) >= 30
    assert [address for address, _ in cells(page)] == days_that_open(page)


def test_a_day_opens_alone_with_its_label_its_patient_and_the_way_back_to_its_strip(browser, page):
    for address, label in cells(page)[:5]:
        day = browser.get(address)
        assert (day.status, day.body.count(f"<strong>{label}</strong>")) == (200, 1)
        assert f"<title>{label}</title>" in day.body
        assert "Patient Synthetic-Ready-Musculoskeletal" in day.text
        back = next(target for target, text in day.links if text == "Back to the patient")
        there, _, name = back.partition("#")
        assert there == page.url
        assert f'<section class="block" id="{name}"' in page.body


def test_a_day_shows_alone_what_it_shows_among_all_days_of_its_window(browser, page):
    alone = [browser.get(address) for address, _ in cells(page)[:3]]
    whole = days_in_full(browser, page)
    for day in alone:
        (opened,) = re.findall(r'<div class="opened".*?</table>\s*</div>\s*</div>', day.body, re.S)
        assert opened in whole.body


def test_no_address_of_a_day_tells_which_day_it_is(page):
    for address in days_that_open(page):
        assert re.fullmatch(r"[0-9a-f]{24}", address.rpartition("/days/")[2])


@pytest.mark.parametrize("kind", ["days", "windows"])
def test_nobody_opens_a_part_without_the_session_or_with_another_ones_address(
    shared_world, browser, page, kind
):
    address = next(target for target, _ in page.links if f"/{kind}/" in target)
    stranger = Browser()
    try:
        assert stranger.get(address).status == 401
    finally:
        stranger.close()
    other = shared_world.open(browser, "ready-physiologic")
    name = address.rpartition("/")[2].partition("#")[0]
    assert browser.get(f"{other.url}{kind}/{name}").status == 404
    assert browser.get(f"{page.url}{kind}/000000").status == 404


def test_of_a_day_that_is_not_there_the_page_says_so(shared_world, browser, page):
    gone = browser.get(f"{page.url}days/000000")
    assert "This address names no day of the chart as it was read last." in gone.text
    assert "Back to the patient" in gone.text


def test_a_day_that_is_still_to_come_and_one_of_no_window_are_not_there(shared_world, browser):
    page = shared_world.open(browser, "one-day-short")
    session = page.url.rstrip("/").rpartition("/")[2]
    (key,) = re.findall(r'<section class="block" id="([^"]*-period-[^"]*)"', page.body)
    first = date.fromisoformat(key[-10:])
    status = {
        number: browser.get(
            f"{page.url}days/{strip_day_address(first + timedelta(days=number), key, session)}"
        ).status
        for number in (-1, 0, 29, 30)
    }
    assert status == {-1: 404, 0: 200, 29: 404, 30: 404}


def test_a_day_answers_by_what_is_read_now(world, browser):
    page = world.open(browser, PATIENT)
    address, label = next(cell for cell in cells(page) if cell[1].endswith(": no data"))
    assert label in browser.get(address).text
    (reading, *_) = world.resources("Observation", PATIENT)
    copy = {name: value for name, value in reading.items() if name not in {"id", "meta", "identifier"}}
    day = next(
        day
        for day in (date(2025, 1, 1) + timedelta(days=number) for number in range(1000))
        if label.startswith(f"{day.day} {day:%b %Y}:")
    )
    world.ehr_creates({**copy, "effectiveDateTime": f"{day}T12:00:00-04:00"})
    browser.submit(page.form("/read"))
    world.read(browser, browser.get(page.url))
    now = browser.get(address)
    assert f"{day.day} {day:%b %Y}: counted" in now.text
    assert "12:00" in now.text
