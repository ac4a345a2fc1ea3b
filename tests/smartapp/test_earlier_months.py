"""A chart is read from the last charged period on. What lies before and was never charged can be read too, by
one button, and is charged like anything else."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from urllib.parse import urlsplit

import msgspec
import pytest

from launch.sandbox.patients import export
from smartapp.commands.evaluate import evaluate
from smartapp.configuration.site_file import read_site_file
from smartapp.ehr.reading.findings import Findings
from smartapp.ehr.reading.fresh import FreshLook, SinceNotKnown

PATIENT, CODE = "ready-musculoskeletal", "98977"
PERIOD = timedelta(days=30)
LEFT_BEHIND = "98977-2026-02-14"
OFFERED = "Read earlier months too"


def findings(world, page):
    snapshot = world.store.reading.snapshot_of(urlsplit(page.url).path.split("/")[2])
    return msgspec.json.decode(snapshot.result, type=Findings)


def outcome(world, page):
    return findings(world, page).decision(LEFT_BEHIND).outcome


def cannot_tell(*_given):
    raise SinceNotKnown


def read_whole(world, browser, page):
    (form,) = (one for one in page.forms if any(control.name == "whole" for control in one.controls))
    return world.read(browser, browser.submit(form, whole="yes"))


@pytest.fixture
def page(world, browser):
    """The page of a chart of which the EHR charged the second period, and nobody the first."""
    (charge,) = (
        one for one in world.resources("ChargeItem", PATIENT) if one["code"]["coding"][0]["code"] == CODE
    )
    moved = {
        name: (datetime.fromisoformat(day) + PERIOD).date().isoformat()
        for name, day in charge["occurrencePeriod"].items()
    }
    world.ehr_changes("ChargeItem", charge["id"], occurrencePeriod=moved)
    return world.open(browser, PATIENT)


def test_the_page_says_from_which_day_on_it_was_read_and_offers_the_rest(world, page):
    assert outcome(world, page).value == "out-of-reach"
    assert "not read as a whole: 14 Feb to 15 Mar. Earlier months can be read too." in page.text
    assert "Not read: what lies before 1 Mar 2026." in page.text
    assert OFFERED in page.text


@pytest.mark.parametrize("since_is_known", [True, False])
def test_an_earlier_period_is_read_by_one_button_and_charged_like_any_other(
    world, browser, page, monkeypatch, since_is_known
):
    # A form is made of what was looked at just before.
    monkeypatch.setattr(FreshLook, "is_old", lambda *_: True)
    if not since_is_known:
        monkeypatch.setattr(FreshLook, "_changes", cannot_tell)
    whole = read_whole(world, browser, page)
    assert outcome(world, whole).value == "suggest"
    assert OFFERED not in whole.text
    form = world.final_form(browser, whole, LEFT_BEHIND)
    # Before it is written the chart is looked at once more, as far back as it was read.
    written = browser.submit(form)
    assert "The charge is in the EHR" in written.text
    periods = {
        one["occurrencePeriod"]["start"][:10]
        for one in world.charges(PATIENT)
        if one["code"]["coding"][0]["code"] == CODE
    }
    assert periods == {"2026-02-14", "2026-03-16"}


def test_a_reading_that_is_gone_meanwhile_stops_the_charge(world, browser, page):
    whole = read_whole(world, browser, page)
    form = world.final_form(browser, whole, LEFT_BEHIND)
    (reading,) = [
        one
        for one in world.resources("Observation", PATIENT)
        if one["effectiveDateTime"].startswith("2026-02-15")
    ][:1]
    world.ehr_changes("Observation", reading["id"], status="entered-in-error")
    assert browser.submit(form).status == 409
    assert len(world.charges(PATIENT)) == 2


def test_what_was_read_whole_once_is_read_whole_again_in_this_session_alone(world, browser, page):
    whole = read_whole(world, browser, page)
    again = world.read(browser, browser.submit(whole.form("/read")))
    assert outcome(world, again).value == "suggest"
    assert OFFERED in world.open(browser, PATIENT).text


@pytest.mark.parametrize(
    "patient", ["ready-respiratory", "ready-musculoskeletal", "ready-physiologic", "fifty-thousand-readings"]
)
def test_the_answer_of_all_months_is_that_of_all_the_files(make_world, browser, tmp_path, patient):
    world = make_world(ehr={"readings": 2000})
    export(tmp_path, world.today, readings=2000)
    site = read_site_file(world.settings.site_file)
    whole = read_whole(world, browser, world.open(browser, patient))
    told = json.loads(browser.get(f"{whole.url}decisions.json").body)
    (file,) = (path for path in tmp_path.iterdir() if path.stem == patient)
    assert told["decisions"] == evaluate([file], as_of=world.today, site=site)["decisions"]


def test_where_all_months_were_needed_none_is_offered(world, browser):
    assert OFFERED not in world.open(browser, "nothing").text
