"""What anybody can repeat without an account fills neither the audit trail nor a browser's cookies."""

from __future__ import annotations

from datetime import timedelta
from urllib.parse import urlsplit

import pytest

from launch.ports import SessionEnd
from smartapp.clock import Allowance
from smartapp.web.launch import MOST_DROPPED
from smartapp.web.security import SESSION_COOKIES, session_cookie_name


def taken(allowance, source, number, now):
    return [allowance.take(source, now)[0] for _ in range(number)]


def test_a_source_adds_so_many_an_hour_and_all_together_so_many(now):
    allowance = Allowance(each=2, together=3)
    assert taken(allowance, "a", 3, now) == [True, True, False]
    assert taken(allowance, "b", 2, now) == [True, False]
    assert taken(allowance, "c", 1, now) == [False]


def test_what_was_dropped_is_counted_and_told_once_in_the_next_hour(now):
    allowance = Allowance(each=1, together=1)
    taken(allowance, "a", 4, now)
    later = now + timedelta(hours=1)
    assert allowance.take("a", later) == (True, 3)
    assert allowance.take("a", later + timedelta(hours=1)) == (True, 0)


@pytest.mark.threat("5.9")
def test_callbacks_without_an_account_add_a_bounded_number_of_entries(world, browser):
    for number in range(40):
        browser.get(f"{world.settings.base_url}/callback/sandbox?error=access_denied&state=s{number}")
    refused = [one for one in world.store.audit.entries() if one["event"] == "launch-refused"]
    assert len(refused) <= 20


@pytest.mark.threat("5.9")
def test_cookies_of_sessions_that_are_over_go_at_the_next_launch(world, browser):
    page = world.open(browser, "nothing")
    session_id = urlsplit(page.url).path.split("/")[2]
    jar = browser.cookies(urlsplit(world.settings.base_url).netloc)
    jar.update({f"{SESSION_COOKIES}{number:016x}": "over" for number in range(MOST_DROPPED + 5)})
    world.open(browser, "nothing")
    mine = [name for name in jar if name.startswith(SESSION_COOKIES)]
    assert session_cookie_name(session_id) in mine, "an open one stays"
    assert len(mine) == 2 + 5
    world.store.launches.end_session(session_id, world.now(), SessionEnd.IDLE)
    world.open(browser, "nothing")
    assert session_cookie_name(session_id) not in jar
