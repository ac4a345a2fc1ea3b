"""The worklist, as a person sees it: a sweep over the sandbox's patients, sessions without a patient."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from flask import Flask, request, request_finished

from launch.sandbox.patients import export, stories
from smartapp.commands.demo import ISSUER
from smartapp.commands.demo_check import Browser, Page
from tests.pages import app_of_pages, of_a_session
from tests.smartapp.conftest import World
from tests.smartapp.test_no_phi import of_patients
from tests.support.lists import swept_sandbox
from tests.support.months import taken_file
from tests.support.sandbox import DAY, NOON

NURSE = "Practitioner/syn-nurse"
PHYSICIAN = "Practitioner/syn-physician"
READY = "ready-musculoskeletal"
WORKLIST = "worklist: [{state: state}]\n"


@pytest.fixture(scope="session")
def charts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("charts")
    export(folder, DAY, readings=60)
    return folder


@pytest.fixture
def listed_world(make_world: Callable[..., World], tmp_path: Path, charts: Path) -> Callable[..., World]:
    """A function that makes a world whose EHR was swept."""

    def made(site_more: str = "", worklist: str = WORKLIST, **more: object) -> World:
        world = make_world(site_more=worklist + site_more, **more)
        swept_sandbox(tmp_path / "state", charts, DAY, keys=world.settings.keys)
        return world

    return made


@pytest.fixture
def listed(listed_world: Callable[..., World]) -> World:
    return listed_world()


def name_of(world: World, patient: str) -> str:
    """What the EHR calls a patient, as the page writes it."""
    (resource,) = [one for one in world.resources("Patient", patient) if one["id"] == patient]
    return " ".join([*resource["name"][0]["given"], resource["name"][0]["family"]])


def rows(page: Page) -> list[str]:
    """The names of the rows, in their order."""
    return [" ".join(one.split()) for one in re.findall(r'<h2 id="row-\d+">([^<]*)</h2>', page.body)]


def marked(browser: Browser, page: Page, name: str, kind: str, **more: str) -> Page:
    forms = [form for form in page.forms if urlsplit(form.action).path.endswith("/mark")]
    return browser.submit(forms[rows(page).index(name)], kind=kind, **more)


def requests_of(world: World) -> list[str]:
    """What the EHR is asked from now on; of a batch the batch alone."""
    asked: list[str] = []

    def note() -> None:
        if request.headers.get("User-Agent", "").find("Werkzeug") < 0:
            asked.append(f"{request.method} {request.path.rstrip('/')}")

    world.ehr.app.before_request_funcs.setdefault(None, []).append(note)
    return asked


def part(page: Page, name: str) -> str:
    """What the page says of one row."""
    parts = page.body.split("<article")[1:]
    return next(one.split("</article>")[0] for one in parts if f">{name}</h2>" in one)


# Who sees whom


def test_the_list_shows_name_and_what_stands_of_those_whom_the_ehr_shows(listed, browser):
    page = listed.worklist(browser)
    assert page.status == 200, page.text
    name = name_of(listed, READY)
    assert name in rows(page)
    assert "is earned" in part(page, name) or "are earned" in part(page, name)
    assert "As of 15 Apr 2026, today" in page.text


@pytest.mark.threat("5.16")
def test_two_people_with_different_rights_see_different_rows(listed, browser, other):
    listed.ehr.sandbox.quirks.closed_charts = f"{NURSE}:{READY}"
    name = name_of(listed, READY)
    assert name in rows(listed.worklist(browser, PHYSICIAN))
    seen = listed.worklist(other, NURSE)
    assert rows(seen)
    assert name not in rows(seen)


@pytest.mark.threat("5.16")
def test_a_patient_whom_the_ehr_refuses_is_neither_shown_nor_counted(listed, browser, other):
    everybody = listed.worklist(browser, PHYSICIAN)
    listed.ehr.sandbox.quirks.closed_charts = f"{NURSE}:" + "+".join(one.id for one in stories())
    page = listed.worklist(other, NURSE)
    assert rows(everybody)
    assert rows(page) == []
    assert "Nobody whom the EHR shows to you is on this list." in page.text
    assert not re.search(r"\b\d+ (patients|rows)\b", page.text)
    assert not re.search(r"Can be charged now: \d", page.text)


@pytest.mark.threat("5.16")
@pytest.mark.parametrize("quirk", ["no_batch", "one_id_at_a_time"])
def test_whatever_way_of_asking_many_an_ehr_takes_the_same_rows_are_shown(quirk, listed, browser):
    quirks = listed.ehr.sandbox.quirks
    expected = rows(listed.worklist(browser))
    quirks.no_batch = True
    quirks.one_id_at_a_time = quirk == "one_id_at_a_time"
    quirks.closed_charts = f"{PHYSICIAN}:{READY}"
    seen = rows(listed.worklist(browser, PHYSICIAN))
    assert seen == [one for one in expected if one != name_of(listed, READY)]


@pytest.mark.parametrize("one_by_one", [False, True])
def test_an_ehr_that_does_not_answer_is_said_not_to_have_answered(listed, browser, one_by_one):
    quirks = listed.ehr.sandbox.quirks
    quirks.no_batch = quirks.one_id_at_a_time = one_by_one
    page = listed.worklist(browser)
    assert rows(page)
    quirks.failing = "Patient"
    assert "The EHR did not say which patients you may see" in browser.get(page.url).text


def test_a_role_that_the_site_names_is_told_how_many_there_are(listed_world, browser, other):
    roles = f"users: [{{user: {NURSE}, role: non-clinical}}, {{user: {PHYSICIAN}, role: physician}}]\n"
    world = listed_world(roles, worklist="worklist: [{state: state, counts_for: [non-clinical]}]\n")
    assert re.search(r"Can be charged now: [1-9]", world.worklist(other, NURSE).text)
    assert not re.search(r"Can be charged now: \d", world.worklist(browser, PHYSICIAN).text)


def test_of_a_day_that_is_over_the_page_says_how_old_it_is(listed_world, browser):
    world = listed_world(begins=NOON + timedelta(days=3))
    assert "As of 15 Apr 2026, 3 days ago" in world.worklist(browser).text


def test_a_page_asks_once_for_all_its_patients_and_once_for_the_staff(listed, browser):
    page, asked = listed.worklist(browser), requests_of(listed)
    browser.get(page.url)
    assert asked == ["POST /fhir/r4", "POST /fhir/r4"]


# What is asked for


def test_what_can_be_charged_is_chosen_by_what_program_and_line(listed, browser):
    page = listed.worklist(browser)
    name = name_of(listed, READY)
    assert name in rows(browser.get(f"{page.url}?topic=ready&program=rtm&line=musculoskeletal"))
    assert name not in rows(browser.get(f"{page.url}?topic=ready&line=respiratory"))
    assert name not in rows(browser.get(f"{page.url}?topic=ready&program=rpm"))


def test_rows_are_in_the_order_of_what_runs_out_first(listed, browser):
    page = browser.get(f"{listed.worklist(browser).url}?topic=open")
    left = [int(number) for number in re.findall(r'class="badge">(\d+) days left', page.body)]
    assert left == [4, 6, 7]


def test_my_patients_come_before_the_others(listed, browser):
    page = listed.worklist(browser, PHYSICIAN)
    mine = rows(browser.get(f"{page.url}?clinician=me"))
    assert mine
    assert rows(page)[: len(mine)] == mine


# What people say of a row


def test_what_was_said_stands_on_the_row_for_everybody_with_who_and_when(listed, browser, other):
    name = name_of(listed, READY)
    page = marked(browser, listed.worklist(browser, PHYSICIAN), name, "called")
    assert "Called by you, 15 Apr 2026" in part(page, name)
    said = part(listed.worklist(other, NURSE), name)
    assert "Called by" in said
    assert "by you" not in said


def test_of_two_at_once_one_is_told_and_the_first_mark_stands(listed, browser, other):
    name = name_of(listed, READY)
    first, second = listed.worklist(browser, PHYSICIAN), listed.worklist(other, NURSE)
    marked(browser, first, name, "called")
    told = marked(other, second, name, "called")
    assert told.status == 409
    assert "marked this row as called" in told.text
    assert "Your mark was not kept" in told.text
    assert "Called by you" in part(browser.get(first.url), name)


def test_of_two_who_saw_the_same_mark_one_is_told_as_well(listed, browser, other):
    name = name_of(listed, READY)
    marked(browser, listed.worklist(browser, PHYSICIAN), name, "mine")
    first, second = listed.worklist(browser, PHYSICIAN), listed.worklist(other, NURSE)
    marked(browser, first, name, "called")
    assert marked(other, second, name, "none").status == 409
    assert "Called by you" in part(browser.get(first.url), name)


def test_what_is_done_or_put_off_leaves_the_list_and_can_be_found(listed, browser):
    name = name_of(listed, READY)
    page = listed.worklist(browser)
    assert name not in rows(marked(browser, page, name, "done"))
    away = browser.get(f"{page.url}?show=away")
    assert rows(away) == [name]
    back = marked(browser, away, name, "none")
    assert name in rows(browser.get(page.url)), back.text
    until = (DAY + timedelta(days=7)).isoformat()
    assert name not in rows(marked(browser, browser.get(page.url), name, "snoozed", until=until))


def test_nothing_is_put_off_for_ever(listed, browser):
    page = listed.worklist(browser)
    until = (DAY + timedelta(days=900)).isoformat()
    assert marked(browser, page, name_of(listed, READY), "snoozed", until=until).status == 400


def test_what_is_done_comes_back_when_something_has_changed(listed, browser, tmp_path, charts):
    name = name_of(listed, "one-day-short")
    page = listed.worklist(browser)
    marked(browser, page, name, "done")
    later = DAY + timedelta(days=40)
    swept_sandbox(tmp_path / "state", charts, later, keys=listed.settings.keys)
    assert "since then something has changed" in part(browser.get(page.url), name)


def test_marks_are_in_the_trail_and_who_was_shown_too(listed, browser):
    name = name_of(listed, READY)
    marked(browser, listed.worklist(browser, PHYSICIAN), name, "called")
    entries = list(listed.store.audit.entries())
    (said,) = [one for one in entries if one["event"] == "worklist-marked"]
    assert (said["patient"], said["user"], said["mark"]) == (READY, PHYSICIAN, "called")
    shown = [one for one in entries if one["event"] == "worklist-shown"]
    assert READY in shown[0]["patients"].split()


# Sessions without a patient


@pytest.mark.threat("5.16")
def test_a_session_without_a_patient_opens_the_worklist_and_nothing_else(listed, browser):
    page = listed.worklist(browser)
    session = page.url.split("/s/")[1].split("/")[0]
    base = page.url.split("/s/")[0] + f"/s/{session}"
    own = {"worklist", "worklist/worklist.csv", "billing", "style.css"}
    for path in of_a_session(app_of_pages()).keys() - own:
        assert browser.get(f"{base}/{path}").status == 403, path


@pytest.mark.threat("5.16")
def test_a_session_of_a_patient_opens_no_worklist(listed, browser):
    page = listed.open(browser, READY)
    assert browser.get(page.url.rstrip("/") + "/worklist").status == 403


@pytest.mark.threat("5.16")
def test_without_a_patient_nothing_is_asked_for_at_a_patients_level(listed, browser):
    page = listed.worklist(browser)
    session = listed.store.launches.get_session(page.url.split("/s/")[1].split("/")[0])
    assert session is not None
    assert (session.patient, session.without_patient) == (None, True)
    assert "patient/" not in session.requested_scope
    assert "user/Patient.rs" in session.granted_scope.split()


def test_where_the_site_has_no_worklist_the_page_says_so(world, browser):
    page = world.worklist(browser)
    assert page.status == 403
    assert "this site has no worklist" in page.text


def test_before_the_first_sweep_the_page_says_that_there_is_none(make_world, browser):
    page = make_world(site_more=WORKLIST).worklist(browser)
    assert page.status == 403
    assert "There is no sweep yet" in page.text


def test_the_front_page_offers_the_worklist_after_sign_in(listed, browser):
    front = browser.get(listed.settings.base_url + "/")
    (link,) = [target for target, text in front.links if text.startswith("Worklist of")]
    picker = browser.get(link)
    page = browser.submit(picker.form("/authorize"), picker_user=PHYSICIAN)
    assert "Worklist" in page.text
    assert rows(page)


# A row opens the patient


def opening(page: Page, name: str) -> str:
    return next(target for target, text in page.links if "/open/" in target and text.endswith(name))


def test_a_row_opens_the_patients_page_by_a_launch_in_which_the_ehr_asks_for_whom(listed, browser):
    name = name_of(listed, READY)
    picker = browser.get(opening(listed.worklist(browser), name))
    page = listed.read(
        browser, browser.submit(picker.form("/authorize"), picker_user=PHYSICIAN, picker_patient=READY)
    )
    assert page.status == 200
    assert name in page.text


def test_a_chart_is_read_as_far_back_as_its_row_says_though_a_later_period_was_charged_since(
    listed, browser, tmp_path, charts
):
    (charge,) = [
        one for one in listed.resources("ChargeItem", READY) if one["code"]["coding"][0]["code"] == "98977"
    ]
    later = {"start": "2026-03-16", "end": "2026-04-14"}
    listed.ehr_changes("ChargeItem", charge["id"], occurrencePeriod=later)
    assert "Not read: what lies before 1 Mar 2026" in listed.open(browser, READY).text
    before = tmp_path / "before"
    before.mkdir()
    chart = json.loads((charts / f"{READY}.json").read_text())
    chart["entry"] = [one for one in chart["entry"] if one["resource"]["id"] != charge["id"]]
    (before / f"{READY}.json").write_text(json.dumps(chart))
    swept_sandbox(tmp_path / "state", before, DAY, keys=listed.settings.keys)
    page = listed.open(browser, READY)
    assert "Not read: what lies before 14 Feb 2026" in page.text
    assert "98977 for 14 Feb to 15 Mar, and 98980 and 98981 for March, can be charged." in page.text


@pytest.mark.threat("5.16")
def test_another_patient_than_the_rows_is_not_opened(listed, browser):
    picker = browser.get(opening(listed.worklist(browser), name_of(listed, READY)))
    page = browser.submit(picker.form("/authorize"), picker_user=PHYSICIAN, picker_patient="nothing")
    assert page.status == 400
    assert "another patient's chart than the one that was chosen" in page.text


# A file


def test_a_file_has_the_rows_that_the_ehr_shows_and_no_cell_begins_a_formula(listed, browser):
    listed.ehr.sandbox.quirks.closed_charts = f"{PHYSICIAN}:{READY}"
    page = listed.worklist(browser, PHYSICIAN)
    content = taken_file(browser, page)
    assert content.headers["Content-Type"].startswith("text/csv")
    table = list(csv.reader(io.StringIO(content.body)))
    assert {line[0] for line in table[1:]} == set(rows(page))
    assert name_of(listed, READY) not in {line[0] for line in table}
    assert not any(cell[:1] in "=+-@" for line in table for cell in line if cell)


# Nothing of a patient where it stays


@pytest.mark.threat("5.13")
def test_no_address_of_the_worklist_and_no_log_names_a_patient(listed, browser, caplog):
    caplog.set_level("DEBUG")
    seen: list[str] = []

    def note(sender: Flask, response: object, **_: object) -> None:
        if sender.name == "smartapp":
            location = getattr(response, "headers", {}).get("Location", "")
            seen.append(f"{request.method} {request.full_path} -> {location}")

    request_finished.connect(note)
    try:
        name = name_of(listed, READY)
        page = marked(browser, listed.worklist(browser), name, "called")
        browser.get(f"{page.url}?topic=open&clinician=me")
        browser.get(opening(page, name))
        browser.submit(page.form("/file"))
    finally:
        request_finished.disconnect(note)
    logged = [f"{record.name} {record.getMessage()}" for record in caplog.records]
    words = of_patients(listed)
    assert len(seen) > 6
    assert [line for line in (*seen, *logged) for word in words if word in line] == []


def test_no_name_of_a_patient_is_kept_with_a_mark(listed, browser, owner):
    name = name_of(listed, READY)
    marked(browser, listed.worklist(browser), name, "called")
    stored = owner.stored()
    assert READY.encode() in stored, "a row is found by the patient's id"
    assert name.split()[-1].encode() not in stored
    assert ISSUER.encode() in stored
