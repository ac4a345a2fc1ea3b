"""People who are not signed in can ask so much a minute and no more; who is signed in is never refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from flask import Flask
from flask.testing import FlaskClient

from launch.ports import SessionEnd
from smartapp import create_app
from smartapp.clock import SystemClock
from smartapp.commands.demo_check import Browser
from smartapp.web.arrivals import TOGETHER
from smartapp.web.security import SESSION_COOKIES, session_cookie_name

pytestmark = pytest.mark.threat("5.15")
HERE, ELSEWHERE = "192.0.2.1", "192.0.2.2"
REFUSED = 429


@pytest.fixture
def app_of(shared_world) -> Iterator[Callable[..., Flask]]:
    """A function from settings to an app that has them, with a limit of three a minute."""
    with ExitStack() as stack:

        def make(**more: Any) -> Flask:
            app = create_app(replace(shared_world.settings, **({"arrivals_per_minute": 3} | more)))
            stack.callback(app.extensions["smartapp"].close)
            return app

        yield make


@pytest.fixture
def client(app_of) -> FlaskClient:
    return app_of().test_client()


def ask(
    client: FlaskClient, path: str = "/", source: str = HERE, times: int = 1, **headers: str
) -> list[int]:
    """The statuses of so many requests from an address."""
    return [
        client.get(path, environ_base={"REMOTE_ADDR": source}, headers=headers).status_code
        for _ in range(times)
    ]


def test_beyond_the_limit_a_page_says_what_happened_and_when_it_goes_on(client):
    assert ask(client, times=3) == [200] * 3
    answer = client.get("/", environ_base={"REMOTE_ADDR": HERE})
    assert answer.status_code == REFUSED
    assert "Too many requests at once" in answer.text
    assert "Who is signed in goes on working." in answer.text
    assert 1 <= int(answer.headers["Retry-After"]) <= 60
    assert answer.headers["Refresh"] == answer.headers["Retry-After"]
    assert "tries again by itself in" in answer.text


def test_after_a_minute_it_is_answered_again(client, monkeypatch, now):
    moment = now
    monkeypatch.setattr(SystemClock, "now", lambda _: moment)
    ask(client, times=9)
    moment = now + timedelta(seconds=59)
    assert ask(client) == [REFUSED]
    moment = now + timedelta(seconds=60)
    assert ask(client) == [200]


def test_another_address_is_answered_meanwhile(client):
    ask(client, times=9)
    assert ask(client, source=ELSEWHERE) == [200]


def test_all_together_have_a_limit_too(client):
    sources = [f"198.51.100.{number}" for number in range(TOGETHER + 1)]
    found = [status for source in sources for status in ask(client, source=source, times=3)]
    assert found == [200] * 3 * TOGETHER + [REFUSED] * 3


def test_an_ipv6_network_is_one_place_however_many_addresses_it_has(client):
    found = [ask(client, source=f"2001:db8:1:2::{number:x}")[0] for number in range(1, 5)]
    assert found == [200, 200, 200, REFUSED]
    assert ask(client, source="2001:db8:1:3::1") == [200]


def test_behind_a_proxy_the_address_is_the_one_it_names_and_elsewhere_nobody_is_believed(app_of):
    behind = app_of(trusted_proxies=1).test_client()
    ask(behind, times=9, **{"X-Forwarded-For": HERE})
    assert ask(behind, **{"X-Forwarded-For": HERE}) == [REFUSED]
    assert ask(behind, **{"X-Forwarded-For": ELSEWHERE}) == [200]
    # What a browser itself puts in front of it names nobody.
    assert ask(behind, **{"X-Forwarded-For": f"{ELSEWHERE}, {HERE}"}) == [REFUSED]
    bare = app_of().test_client()
    found = [ask(bare, **{"X-Forwarded-For": f"203.0.113.{number}"})[0] for number in range(4)]
    assert found[-1] == REFUSED


@pytest.mark.parametrize("host", [HERE, "[2001:db8:1:2::1]"])
def test_a_proxy_that_names_the_port_too_names_one_place(app_of, host):
    behind = app_of(trusted_proxies=1).test_client()
    found = [ask(behind, **{"X-Forwarded-For": f"{host}:{port}"})[0] for port in range(50_000, 50_004)]
    assert found == [200, 200, 200, REFUSED]
    assert ask(behind, **{"X-Forwarded-For": host.strip("[]")}) == [REFUSED]


def test_whatever_a_proxy_says_that_is_no_address_is_one_place(app_of):
    behind = app_of(trusted_proxies=1).test_client()
    found = [ask(behind, **{"X-Forwarded-For": f"_hidden-{number}"})[0] for number in range(4)]
    assert found[-1] == REFUSED


def addresses(app: Flask) -> Iterator[str]:
    """Every address that needs no session."""
    for rule in app.url_map.iter_rules():
        if not rule.arguments and "GET" in (rule.methods or ()):
            yield rule.rule


def test_every_page_that_needs_no_session_has_the_limit(app_of):
    app = app_of()
    free = {"/health/live", "/health/ready", "/metrics"}
    limited = {
        address for address in addresses(app) if ask(app_of().test_client(), address, times=4)[-1] == REFUSED
    }
    assert {"/", "/launch", "/callback/sandbox", "/.well-known/jwks.json"} <= limited
    assert set(addresses(app)) - limited == free
    assert ask(app_of().test_client(), "/nowhere", times=4)[-1] == REFUSED
    assert ask(app_of().test_client(), "/s/made-up/", times=4) == [401, 401, 401, REFUSED]


def test_a_flood_at_one_door_leaves_the_others_open(client):
    ask(client, times=9)
    assert REFUSED not in {
        *ask(client, "/launch"),
        *ask(client, "/callback/sandbox"),
        *ask(client, "/.well-known/jwks.json"),
    }


def test_what_is_refused_asks_the_store_for_nothing_and_begins_no_launch(shared_world, app_of):
    app = app_of()
    client = app.test_client()
    iss = f"/launch?iss={shared_world.fhir_base}&launch=x"
    client.set_cookie("__Host-probe", "1")
    ask(client, "/launch", times=9)

    def unwanted(*_: object) -> None:
        raise AssertionError("was asked")

    app.extensions["smartapp"].store.launches.open_sessions = unwanted
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app.extensions["smartapp"].launcher, "begin", unwanted)
        assert ask(client, iss) == [REFUSED]


@pytest.fixture
def narrow(make_world):
    """A world in which three requests a minute are answered to people who are not signed in: one launch."""
    return make_world(arrivals_per_minute=3)


def flood(world, *paths: str) -> None:
    with closing(Browser(10)) as stranger:
        for path in paths:
            assert REFUSED in {stranger.get(f"{world.settings.base_url}{path}").status for _ in range(5)}


DOORS = "/", "/launch?iss=x", "/callback/sandbox", "/s/made-up/"


def test_who_is_signed_in_goes_on_whatever_others_of_the_same_address_ask(narrow, browser):
    page = narrow.open(browser, "ready-musculoskeletal")
    flood(narrow, *DOORS)
    assert browser.get(page.url).status == 200
    another = narrow.open(browser, "nothing")
    assert another.status == 200, "another chart opens too"
    assert another.url != page.url


def test_who_is_not_signed_in_is_told_at_the_launch(narrow, browser):
    flood(narrow, *DOORS)
    page = narrow.launch(browser, "nothing")
    assert page.status == REFUSED
    assert "Too many requests at once" in page.text


def test_neither_a_made_up_cookie_nor_that_of_a_session_that_is_over_lets_anybody_through(narrow, browser):
    page = narrow.open(browser, "nothing")
    session_id = urlsplit(page.url).path.split("/")[2]
    flood(narrow, *DOORS)
    launch = f"{narrow.settings.base_url}/launch?iss=x"
    with closing(Browser(10)) as stranger:
        jar = stranger.cookies(urlsplit(launch).netloc)
        jar.update({session_cookie_name(session_id): "guessed", f"{SESSION_COOKIES}{'0' * 16}": "x"})
        assert stranger.get(launch).status == REFUSED
    assert browser.get(launch).status == 403, "an unlisted EHR, but it was looked at"
    narrow.store.launches.end_session(session_id, narrow.now(), SessionEnd.IDLE)
    assert browser.get(launch).status == REFUSED
