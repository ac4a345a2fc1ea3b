"""Every page says what it needs, is refused to whoever has not got it, and stands in the reference."""

from __future__ import annotations

import re
from dataclasses import replace
from urllib.parse import urlsplit

import pytest
from flask import Flask

from smartapp.commands.demo_check import Browser, Control, Form
from smartapp.configuration.site_file import Permissions
from smartapp.web import access
from smartapp.web.access import Open, access_of, needs
from smartapp.web.permission import DOING, Action
from smartapp.web.security import session_cookie_name
from tests.pages import PAGE, app_of_pages, render, rows

PATIENT = "ready-musculoskeletal"
NURSE = "Practitioner/syn-nurse"
PAGES = list(rows(app_of_pages()))
OF_A_SESSION = [row for row in PAGES if row.address.startswith("/s/<sid>")]
NOBODY = "permissions:\n" + "".join(f"  {one.value}: [physical-therapist]\n" for one in Action)


def named(row):
    return f"{row.method} {row.address}"


def test_every_page_of_the_app_says_what_it_needs():
    app = app_of_pages()
    assert len(PAGES) > 80
    for rule in app.url_map.iter_rules():
        found = access_of(app, rule.endpoint)
        assert found is not None, rule.rule
        assert found.needs, rule.rule


def test_pages_below_a_session_and_no_others_need_somebody_who_is_signed_in():
    public = {named(row) for row in PAGES if row.access.needs == (Open.PUBLIC,)}
    assert public == {named(row) for row in PAGES if row not in OF_A_SESSION}


def test_whatever_changes_something_needs_a_permission_but_for_what_anybody_may_do_in_their_own_session():
    open_to_all = {named(row) for row in OF_A_SESSION if row.method == "POST" and not row.access.actions}
    assert open_to_all <= {
        "POST /s/<sid>/read",
        "POST /s/<sid>/end",
        "POST /s/<sid>/approvals/<key>/decline",
        "POST /s/<sid>/changes/of/<change>/decline",
        "POST /s/<sid>/worklist/mark",
        "POST /s/<sid>/worklist/file",
    }


def test_every_action_has_roles_and_words_and_a_page():
    assert {action.value for action in Action} == set(Permissions.__struct_fields__)
    assert set(DOING) == set(Action)
    assert {action for row in PAGES for action in row.access.actions} == set(Action)


def test_an_app_with_a_page_that_says_nothing_does_not_start():
    app = Flask("one", static_folder=None)
    app.add_url_rule("/said", "said", needs(Open.PUBLIC)(lambda: ""))
    access.register(app)
    app = Flask("two", static_folder=None)
    app.add_url_rule("/silent", "silent", lambda: "")
    with pytest.raises(RuntimeError, match="silent"):
        access.register(app)


def test_the_reference_has_a_row_for_every_page_and_is_not_stale():
    told = PAGE.read_text("utf-8")
    for row in PAGES:
        assert f"| {row.method} `{row.address}` |" in told
    assert told == render(app_of_pages()), "run `make docs`"


# In the app


@pytest.fixture(scope="module")
def refusing(tmp_path_factory, new_database):
    """A world in which the nurse may do nothing; her page, her browser, and a token for her forms."""
    from contextlib import ExitStack, closing

    from tests.smartapp.conftest import _world
    from tests.support.sandbox import LONG

    folder = tmp_path_factory.mktemp("refusing")
    with ExitStack() as stack:
        more = NOBODY + "lock_certified_months: true\n"
        world = _world(folder, stack, database_url=new_database(folder), site_more=more)
        browser = stack.enter_context(closing(Browser(LONG)))
        page = world.open(browser, PATIENT, user=NURSE)
        token = next(one.value for form in page.forms for one in form.controls if one.name == "form_token")
        yield world, browser, page, token


PLACES = {"program": "rtm", "key": "98977-2026-03-01", "version": "1"}


def address_of(row, base):
    """The page's address in a session, with something in each of its places."""
    below = row.address.removeprefix("/s/<sid>").removeprefix("/")
    start = base if row.address.startswith("/s/<sid>/") else base.removesuffix("/")
    return start + re.sub(r"<(?:\w+:)?(\w+)>", lambda place: PLACES.get(place[1], "x"), below)


def asked(browser, row, base, token):
    address = address_of(row, base)
    if row.method == "GET":
        return browser.get(f"{address}?keys=98977-2026-03-01")
    sent = {"form_token": token, "patient": PATIENT}
    return browser.submit(
        Form("post", address, [Control("hidden", name, value) for name, value in sent.items()])
    )


@pytest.mark.parametrize("row", [row for row in OF_A_SESSION if row.access.actions], ids=named)
def test_a_page_is_refused_to_a_session_without_its_permission(refusing, row):
    _, browser, page, token = refusing
    answer = asked(browser, row, page.url, token)
    assert answer.status == 403
    doing = DOING[row.access.actions[0]]
    assert f"At this site your role (clinical staff) does not {doing}." in answer.text


@pytest.mark.parametrize(
    "row", [row for row in OF_A_SESSION if Open.SIGNED_IN not in row.access.needs], ids=named
)
def test_what_is_for_clinicians_is_refused_to_somebody_of_whom_the_ehr_says_nothing(refusing, row):
    world, browser, page, _ = refusing
    session_id = urlsplit(page.url).path.split("/")[2]
    launches, other = world.store.launches, f"nobody-{abs(hash(named(row)))}"
    session = replace(launches.get_session(session_id), id=other, fhir_user=None)
    if "/worklist" in row.address:
        session = replace(session, patient=None)
    launches.create_session(session, launches.get_tokens(session_id))
    own = urlsplit(page.url).netloc
    cookies = browser.cookies(own)
    cookies[session_cookie_name(other)] = cookies[session_cookie_name(session_id)]
    base = page.url.replace(session_id, other)
    token = next(
        one.value
        for form in browser.get(base if session.patient else f"{base}scopes").forms
        for one in form.controls
        if one.name == "form_token"
    )
    answer = asked(browser, row, base, token)
    assert answer.status == 403
    assert "the EHR did not say that one is signed in" in answer.text


@pytest.mark.parametrize("row", OF_A_SESSION, ids=named)
def test_no_page_of_a_session_opens_without_its_cookie(refusing, row):
    world, _, page, token = refusing
    stranger = Browser()
    world.stack.callback(stranger.close)
    assert asked(stranger, row, page.url, token).status == 401
