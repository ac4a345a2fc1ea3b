"""From launch to a certified month, on each day on which a calendar plays tricks (`make test-days`)."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date, datetime, timedelta
from urllib.parse import urlsplit

import msgspec
import pytest
import yaml

from fhir_mappings.rules.policy import load_policy
from smartapp.commands.demo import run
from smartapp.web.words import day as told
from tests.support.days import MOMENTS

pytestmark = pytest.mark.days

PATIENT = "ready-musculoskeletal"
CALLED = "calls-not-in-the-ehr"
MANAGEMENT, ADD_ON, DEVICE = "98980", "98981", "98977"
CODES = load_policy("medicare").codes
TABLES_END = min(rule.covers_to for rule in CODES.values())
CONFIRMED_TO = date(2027, 12, 31)
"""As far as a site can confirm; the leap day lies beyond, where only a newer table helps."""
CONFIRMED = f"""\
rules_confirmed:
  - {{codes: all, to: {CONFIRMED_TO}, by: "Ida of billing", on: 2026-12-15, source: "The rule for 2027"}}
"""
NEWER = "code_tables: [2028.yaml]\n"


def last_month(today: date) -> date:
    """The first day of the last calendar month that is over."""
    return (today.replace(day=1) - timedelta(days=1)).replace(day=1)


@pytest.fixture(params=MOMENTS, ids=lambda moment: f"{moment:%Y-%m-%dT%H:%M}")
def begins(request):
    return request.param


@pytest.fixture
def world(make_world, begins, tmp_path):
    """A site that knows the rules of its day: they are confirmed, or it has a table of its own."""
    tables = [{**msgspec.to_builtins(rule), "covers_to": "2028-12-31"} for rule in CODES.values()]
    (tmp_path / "2028.yaml").write_text(yaml.safe_dump(tables))
    known = CONFIRMED if begins.date() <= CONFIRMED_TO else NEWER
    return make_world(begins=begins, site_more=f"lock_certified_months: true\n{known}")


def ours(world):
    """The charges that this app wrote."""
    return [
        charge
        for charge in world.charges(PATIENT)
        if any(i["system"] == "urn:smart-remote-monitoring:charge" for i in charge.get("identifier", ()))
    ]


def earned(browser, page):
    """Code to service date of what is earned and not charged."""
    decisions = json.loads(browser.get(f"{page.url}decisions.json").body)["decisions"]
    return {
        one["code"]: date.fromisoformat(one["service_date"])
        for one in decisions
        if one["outcome"] == "suggest"
    }


def acceptable(page):
    return {text.removeprefix("Review and accept ") for text in texts(page, "Review and accept ")}


def texts(page, beginning):
    return [text for _, text in page.links if text.startswith(beginning)]


def form_for(world, browser, page, code):
    link = next(target for target, text in page.links if text == f"Review and accept {code}")
    return world.final_form(browser, page, urlsplit(link).path.rsplit("/", 1)[1])


def test_launch_read_accept_and_certify(world, browser, begins):
    today, closed = begins.date(), last_month(begins.date())
    page = world.open(browser, PATIENT)
    assert f"As of {told(today)}." in page.text

    dates = earned(browser, page)
    assert set(dates) == {MANAGEMENT, ADD_ON, DEVICE}
    assert dates[DEVICE] == today - timedelta(days=1)
    assert {dates[MANAGEMENT], dates[ADD_ON]} == {today.replace(day=1) - timedelta(days=1)}
    assert acceptable(page) == set(dates)

    written = browser.submit(form_for(world, browser, page, MANAGEMENT))
    assert written.status == 200, written.text
    (charge,) = ours(world)
    assert written.by_id["charge-item"] == f"ChargeItem/{charge['id']}"
    assert charge["occurrencePeriod"]["start"] == closed.isoformat()
    assert charge["occurrencePeriod"]["end"] == dates[MANAGEMENT].isoformat()
    assert datetime.fromisoformat(charge["enteredDate"]).astimezone(begins.tzinfo).date() == today
    page = world.read(browser, browser.get(page.url))
    assert f"on {told(today)}" in page.text

    forms = {code: form_for(world, browser, page, code) for code in (ADD_ON, DEVICE)}
    months = browser.get(next(target for target, text in page.links if text == "Certified months"))
    over = next(target for target, _ in months.links if target.endswith(f"{closed:%Y-%m}"))
    certified = world.certified(browser, browser.get(over))
    assert f"on {told(today)}: closed for changes" in certified.by_id["state"]
    form = certified.form("/reopen")
    this_month = f"{over.rsplit('/', 1)[0]}/{today:%Y-%m}/certify"
    assert browser.submit(replace(form, action=this_month)).status in {404, 422}, "it is not over"

    for code, form in forms.items():
        done = browser.submit(form)
        in_closed_month = dates[code].replace(day=1) == closed
        assert done.status == (409 if in_closed_month else 200), (code, done.text)
    again = world.open(browser, PATIENT)
    assert f"{closed:%B %Y}" in again.text
    assert acceptable(again) == set()
    open_month = {code for code in forms if dates[code].replace(day=1) != closed}
    assert {charge["code"]["coding"][0]["code"] for charge in ours(world)} == {MANAGEMENT, *open_month}
    assert world.store.audit.verify() is None


def test_a_call_that_has_just_ended_is_logged_on_its_day_and_one_to_come_is_refused(world, browser, begins):
    """Told in the site's time, though at the later hour it is tomorrow in UTC."""
    page = world.open(browser, CALLED)
    form = browser.get(f"{page.url}time").form("/time")
    typed = {
        "day": begins.date().isoformat(),
        "start": f"{begins - timedelta(minutes=30):%H:%M}",
        "person": "Practitioner/syn-physician",
        "program": "rtm",
        "activity": "phone-call",
        "live": "yes",
        "note": "",
    }
    assert browser.submit(form, **typed, end=f"{begins + timedelta(minutes=4):%H:%M}").status == 422
    entry = browser.submit(form, **typed, end=f"{begins - timedelta(minutes=8):%H:%M}")
    assert entry.status == 200, entry.text
    assert told(begins.date()) in entry.text
    browser.submit(entry.form("/sign"), confirm="yes")
    page = world.read(browser, browser.get(page.url))
    decisions = json.loads(browser.get(f"{page.url}decisions.json").body)["decisions"]
    month = begins.date().replace(day=1).isoformat()
    (found,) = (
        part["found"]
        for one in decisions
        if (one["code"], one["period"]["start"]) == (MANAGEMENT, month)
        for part in one["requirements"]
        if part["requirement"] == "management-time"
    )
    assert found == 22 * 60


def test_the_demos_check_passes(begins, capsys):
    assert run(["--check", "--readings", "200", "--as-of", f"{begins:%Y-%m-%dT%H:%M}"]) == 0
    *_, end = capsys.readouterr().out.splitlines()
    known = last_month(begins.date()) <= TABLES_END
    assert end.startswith("ChargeItem/") if known else "no rules are confirmed" in end
