"""What is over for long opens on a page of its own, and the patient page asks the database little."""

from __future__ import annotations

import re

import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

PATIENT = "ready-musculoskeletal"
IN_FULL = "rules and evidence"
MOST_STATEMENTS = 10
"""The session, the job, the snapshot, four of what was logged and stated since, charges and their changes,
where periods begin."""


@pytest.fixture
def page(shared_world, browser):
    return shared_world.open(browser, PATIENT)


def links_in_full(page):
    return [target for target, text in page.links if IN_FULL in text]


def rows(page):
    """The codes of a page and how they stand, by key."""
    found = re.findall(
        r'<li class="code-row [^"]*" id="([^"]+)">\s*<p class="head">(.*?)</p>', page.body, re.S
    )
    return {key: re.sub(r"<[^>]+>", "", told) for key, told in found}


def test_a_window_that_is_over_for_long_says_how_its_codes_stand_and_opens_in_full(browser, page):
    links = links_in_full(page)
    assert links
    for link in links:
        whole = browser.get(link)
        told = rows(whole)
        assert told.items() <= rows(page).items()
        assert whole.body.count('<summary aria-label="Why') == len(told) > 0
        assert not links_in_full(whole)
    assert any('class="strip"' in browser.get(link).body for link in links)


def test_what_is_recent_is_whole_on_the_page_itself(page):
    assert 'class="strip"' in page.body
    assert page.body.count('<summary aria-label="Why') > 0


def test_each_reading_of_such_a_window_opens_as_the_ehr_sent_it(browser, page):
    days = next(whole for whole in map(browser.get, links_in_full(page)) if 'class="opened"' in whole.body)
    record = next(target for target, _ in days.links if "/evidence/" in target)
    assert "as the EHR sent it" in browser.get(record).text


def test_the_page_asks_the_database_few_things(browser, page):
    asked = []

    def count(_connection, _cursor, statement, *_more):
        if not statement.startswith(("BEGIN", "PRAGMA")):
            asked.append(statement)

    event.listen(Engine, "before_cursor_execute", count)
    try:
        browser.get(page.url)
    finally:
        event.remove(Engine, "before_cursor_execute", count)
    assert len(asked) <= MOST_STATEMENTS, asked
    assert len(set(asked)) == len(asked), "nothing is asked twice"
