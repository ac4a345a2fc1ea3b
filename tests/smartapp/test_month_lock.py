"""A certified month is closed: nothing of it is written, changed or withdrawn from here until reopened."""

from __future__ import annotations

import json
from datetime import date
from urllib.parse import urlsplit

import pytest

from smartapp.commands.demo_check import Browser
from smartapp.store.months import MonthStore

PATIENT = "ready-musculoskeletal"
CODE = "98980"
NURSE = "Practitioner/syn-nurse"


@pytest.fixture
def world(make_world):
    return make_world(site_more="lock_certified_months: true\n")


def ours(world):
    return [
        charge
        for charge in world.charges(PATIENT)
        if any(i["system"] == "urn:smart-remote-monitoring:charge" for i in charge.get("identifier", ()))
    ]


def form_for(world, browser, page, code=CODE):
    link = next(target for target, text in page.links if text.endswith(code))
    return world.final_form(browser, page, urlsplit(link).path.rsplit("/", 1)[1])


def month_page(world, browser, user=None):
    """The page of the last month that is over, and its key."""
    page = world.open(browser, PATIENT, user=user)
    months = browser.get(next(target for target, text in page.links if text == "Certified months"))
    today = world.ehr.config.as_of
    last = date(today.year - (today.month == 1), (today.month - 2) % 12 + 1, 1)
    key = f"{last:%Y-%m}"
    return browser.get(next(target for target, _ in months.links if target.endswith(key)))


def certify(world, browser):
    page = month_page(world, browser)
    return world.certified(browser, page)


def events(world):
    return [entry["event"] for entry in world.store.audit.entries()]


def test_a_month_shows_what_it_holds_before_it_is_closed(world, browser):
    page = month_page(world, browser)
    assert "98980" in page.text
    assert "What is earned and not charged stays uncharged" in page.text


def test_certifying_asks_once_more_and_names_what_stays_uncharged(world, browser):
    page = month_page(world, browser)
    assert "98980 and 98981 stay uncharged." in page.text
    refused = browser.submit(page.form("/certify"))
    assert refused.status == 422
    assert "month-certified" not in events(world)
    world.certified(browser, page)
    entry = next(e for e in world.store.audit.entries() if e["event"] == "month-certified")
    assert entry["uncharged"] == "98980, 98981"


def test_a_month_into_which_a_charge_comes_just_then_is_not_certified_as_it_was_seen(
    world, browser, monkeypatch
):
    page = month_page(world, browser)
    other = Browser()
    world.stack.callback(other.close)
    form = form_for(world, other, world.open(other, PATIENT))
    certify_now = MonthStore.certify

    def certified_last(store, *rest, **facts):
        assert "The charge is in the EHR" in other.submit(form).text
        return certify_now(store, *rest, **facts)

    monkeypatch.setattr(MonthStore, "certify", certified_last)
    refused = world.certified(browser, page)
    assert refused.status == 409
    assert "month-certified" not in events(world)
    assert len(ours(world)) == 1


def test_a_certified_month_takes_no_new_charge(world, browser):
    form = form_for(world, browser, world.open(browser, PATIENT))
    done = certify(world, browser)
    assert "closed for changes" in done.by_id["state"]
    stopped = browser.submit(form)
    assert stopped.status == 409
    assert "is certified for this patient" in stopped.text
    assert ours(world) == []
    assert world.store.charges.of_patient("sandbox", PATIENT) == ()


def test_the_patient_page_says_which_months_are_closed(world, browser):
    certify(world, browser)
    page = world.open(browser, PATIENT)
    assert "Certified, closed for changes" in page.text
    assert not [text for _, text in page.links if text == f"Review and accept {CODE}"]


def test_another_months_charge_is_written_all_the_same(world, browser):
    form = form_for(world, browser, world.open(browser, PATIENT), "98977")
    certify(world, browser)
    browser.submit(form)
    months = {charge["occurrencePeriod"]["end"][:7] for charge in ours(world)}
    closed = {f"{m.first_day:%Y-%m}" for m in world.store.months.of_patient("sandbox", PATIENT).values()}
    assert len(months) == 1
    assert months.isdisjoint(closed)


def test_a_charge_of_a_certified_month_is_not_withdrawn_either(world, browser):
    browser.submit(form_for(world, browser, world.open(browser, PATIENT)))
    certify(world, browser)
    page = world.open(browser, PATIENT)
    reason = browser.get(next(target for target, text in page.links if text == "Withdraw it"))
    preview = browser.submit(reason.form("/withdraw"), reason="Mistake.")
    stopped = browser.submit(preview.forms[-1])
    assert stopped.status == 409
    assert "is certified for this patient" in stopped.text
    assert [charge["status"] for charge in ours(world)] == ["planned"]


def test_reopening_needs_a_reason_and_then_everything_goes_on(world, browser):
    page = certify(world, browser)
    assert browser.submit(page.form("/reopen")).status == 422
    opened = browser.submit(page.form("/reopen"), reason="A call was logged late.")
    assert "A call was logged late." in opened.by_id["state"]
    browser.submit(form_for(world, browser, world.open(browser, PATIENT)))
    assert len(ours(world)) == 1


def test_both_are_in_the_audit_trail_and_the_reason_is_sealed_there(world, browser):
    page = certify(world, browser)
    browser.submit(page.form("/reopen"), reason="A call was logged late.")
    assert [event for event in events(world) if event.startswith("month-")] == [
        "month-certified",
        "month-reopened",
    ]
    reopened = next(e for e in world.store.audit.entries() if e["event"] == "month-reopened")
    assert reopened["user"] == "Practitioner/syn-physician"
    assert "logged late" not in json.dumps(reopened)
    assert world.store.audit.verify() is None


def test_certifying_twice_is_one_certification(world, browser):
    page = month_page(world, browser)
    world.certified(browser, page)
    world.certified(browser, page)
    assert events(world).count("month-certified") == 1


def test_only_who_may_approve_may_certify(world, browser):
    page = month_page(world, browser, user=NURSE)
    assert "does not approve charges or certify months" in page.text
    assert not [form for form in page.forms if form.action.endswith("/certify")]
    doctors = month_page(world, browser).form("/certify")
    nurses = type(doctors)("post", f"{page.url}/certify", doctors.controls)
    for control in nurses.controls:
        if control.name == "form_token":
            control.value = page.form("/end").controls[0].value
        elif control.name == "snapshot":
            session_id = urlsplit(page.url).path.split("/")[2]
            control.value = world.store.reading.snapshot_of(session_id).id
    assert browser.submit(nurses).status == 403
    assert "month-certified" not in events(world)


def test_a_month_with_something_on_its_way_cannot_be_closed(make_world, browser):
    world = make_world(site_more="lock_certified_months: true\nsecond_approval: true\n")
    browser.submit(form_for(world, browser, world.open(browser, PATIENT)))
    page = certify(world, browser)
    assert page.status == 422
    assert "Not finished yet: 98980" in page.text
    assert "month-certified" not in events(world)


def test_a_month_that_is_not_over_cannot_be_closed(world, browser):
    page = month_page(world, browser)
    today = world.ehr.config.as_of
    form = page.form("/certify")
    address = form.action.rsplit("/", 2)[0]
    early = browser.submit(type(form)("post", f"{address}/{today:%Y-%m}/certify", form.controls))
    assert early.status in {404, 422}
    assert "month-certified" not in events(world)


def test_a_site_that_certifies_no_months_shows_nothing_of_it(make_world, browser):
    world = make_world()
    page = world.open(browser, PATIENT)
    assert "Certified months" not in page.text
    assert browser.get(f"{page.url}months").status == 404
