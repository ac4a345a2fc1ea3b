"""A month of charges for billing: who may see it, what stands first, and what leaves as CSV. Whose charges
a viewer sees is asked in test_billing_rights."""

from __future__ import annotations

import csv
import io
import re
from datetime import date
from functools import partial

import pytest

from smartapp.configuration.handover import Method
from smartapp.store.claims import ChargeState
from smartapp.web.billing import COLUMNS
from tests.smartapp.test_page_words import assert_readable
from tests.support.months import keep_charge as keep
from tests.support.months import taken_file

PATIENT = "ready-musculoskeletal"
MAY_BILL = "permissions: {bill: [physician]}\n"
keep_charge = partial(keep, patient=PATIENT)


@pytest.fixture
def world(make_world):
    return make_world(site_more=MAY_BILL)


def opened(world, browser, month="2026-03", query=""):
    page = world.open(browser, PATIENT)
    return browser.get(f"{page.url}billing/{month}{query}")


def codes(page):
    return re.findall(r'<th scope="row"><a [^>]*>(\d+)', page.body)


def test_nobody_sees_other_patients_charges_before_the_site_says_who(make_world, browser):
    world = make_world()
    keep_charge(world.store, "1", world.now(), patient="somebody-else")
    page = world.open(browser, PATIENT)
    assert "month of charges" not in page.text
    for address in ("billing", "billing/2026-03", "billing/2026-03.csv"):
        refused = browser.get(f"{page.url}{address}")
        assert refused.status == 403
        assert "somebody-else" not in refused.text


def test_the_way_there_is_on_the_patients_page_and_leads_to_the_last_month_with_charges(world, browser):
    keep_charge(world.store, "1", world.now())
    keep_charge(world.store, "2", world.now(), day=date(2026, 4, 3))
    page = world.open(browser, PATIENT)
    there = next(target for target, text in page.links if "month of charges" in text.lower())
    month = browser.get(there)
    assert month.url.endswith("billing/2026-03")
    assert_readable(month)


def test_charges_of_another_ehr_are_not_shown(world, browser):
    keep_charge(world.store, "1", world.now(), code="98980")
    keep_charge(world.store, "2", world.now(), issuer_id="another", code="98977")
    assert codes(opened(world, browser)) == ["98980"]


def test_what_nobody_knows_and_what_waits_stands_first_with_what_to_do(world, browser):
    now = world.now()
    keep_charge(world.store, "1", now, code="98975")
    keep_charge(world.store, "2", now, code="98977", state=ChargeState.TO_ENTER, method=Method.WORKSHEET)
    keep_charge(world.store, "3", now, code="98980", state=ChargeState.UNKNOWN)
    keep_charge(world.store, "4", now, code="98981", state=ChargeState.HANDED_OVER, method=Method.TASK)
    page = opened(world, browser)
    assert codes(page) == ["98980", "98977", "98975", "98981"]
    assert "Look in the EHR, or where billing receives them" in page.text
    assert "Somebody enters them in billing" in page.text
    assert "Nothing of this month is unknown" not in page.text
    assert codes(opened(world, browser, query="?state=waiting")) == ["98980", "98977"]
    assert_readable(page)


@pytest.mark.parametrize(
    ("query", "left"),
    [
        ("?state=confirmed", ["98975", "98980"]),
        ("?method=task", ["98981"]),
        ("?payer=aetna", ["98980"]),
        ("?payer=aetna&state=handed-over", []),
        ("?payer=nonsense&state=' OR 1=1", ["98975", "98980", "98981"]),
    ],
)
def test_a_filter_leaves_what_fits_it(world, browser, query, left):
    now = world.now()
    keep_charge(world.store, "1", now, code="98975")
    keep_charge(world.store, "2", now, code="98980", payer="aetna")
    keep_charge(world.store, "3", now, code="98981", state=ChargeState.HANDED_OVER, method=Method.TASK)
    assert codes(opened(world, browser, query=query.replace(" ", "%20"))) == left


def test_a_clinician_is_chosen_by_name_and_no_id_of_the_ehr_stands_in_an_address(world, browser):
    now = world.now()
    keep_charge(world.store, "1", now, code="98975")
    keep_charge(world.store, "2", now, code="98980", performer="Practitioner/syn-10", name="Synthetic Ten")
    page = opened(world, browser)
    assert "Synthetic Nine" in page.text
    assert "syn-9" not in page.body
    value = page.body.split("Synthetic Ten (1)")[0].rsplit('value="', 1)[1].split('"')[0]
    assert codes(browser.get(f"{page.url}?performer={value}")) == ["98980"]


def test_a_long_month_comes_in_pages(world, browser):
    for number in range(55):
        keep_charge(world.store, f"{number:03}", world.now())
    first = opened(world, browser)
    assert (len(codes(first)), "this page: 1 to 50" in first.text) == (50, True)
    (further,) = [target for target, text in first.links if text == "Further"]
    second = browser.get(further)
    assert (len(codes(second)), "this page: 51 to 55" in second.text) == (5, True)
    (before,) = [target for target, text in second.links if text == "Before"]
    assert len(codes(browser.get(before))) == 50
    for beyond in ("9999999999999999999999", "-1", "x"):
        assert len(codes(opened(world, browser, query=f"?from={beyond}"))) == 50


def test_the_csv_holds_every_page_no_name_and_no_formula(world, browser):
    for number in range(55):
        keep_charge(
            world.store,
            f"{number:03}",
            world.now(),
            name="=HYPERLINK(1)",
            payer="=1+1" if number == 0 else "medicare",
        )
    page = opened(world, browser)
    answer = taken_file(browser, page)
    assert answer.headers["Content-Type"].startswith("text/csv")
    assert answer.url.endswith("/billing/2026-03.csv")
    table = list(csv.reader(io.StringIO(answer.body)))
    assert table[0] == list(COLUMNS)
    assert len(table) == 56
    assert not [cell for row in table for cell in row if cell.lstrip().startswith(("=", "+", "-", "@"))]
    assert {row[COLUMNS.index("Key")] for row in table[1:]} == {f"{number:03}" for number in range(55)}
    (family,) = {one["name"][0]["family"] for one in world.resources("Patient", PATIENT)}
    assert family in page.text
    assert family not in answer.body


def test_a_file_is_of_what_was_filtered_and_of_its_month_alone(world, browser):
    keep_charge(world.store, "1", world.now(), code="98975")
    keep_charge(world.store, "2", world.now(), code="98980", payer="aetna")
    answer = taken_file(browser, opened(world, browser, query="?payer=aetna"))
    table = list(csv.reader(io.StringIO(answer.body)))
    assert [row[COLUMNS.index("Code")] for row in table[1:]] == ["98980"]
    assert browser.get(answer.url.replace("2026-03", "2026-02")).status == 404


def test_each_opening_and_each_file_is_audited_with_its_patients(world, browser):
    keep_charge(world.store, "1", world.now())
    taken_file(browser, opened(world, browser))
    found = [entry for entry in world.store.audit.entries() if entry["event"].startswith("billing-")]
    assert {(one["event"], one["month"], one["patients"]) for one in found} == {
        ("billing-month-opened", "2026-03", PATIENT),
        ("billing-month-in-a-file", "2026-03", PATIENT),
    }
    assert all(one["user"] for one in found)


def test_charges_of_an_earlier_version_are_brought_in_or_said_to_be_missing(world, browser, monkeypatch):
    keep_charge(world.store, "1", world.now())
    with world.store.database.write() as connection:
        connection.exec_driver_sql("UPDATE outbox SET service_date = NULL")
    monkeypatch.setattr("smartapp.store.billing.Billing.fill_in", lambda *_: 0)
    page = opened(world, browser)
    assert "1 charges of an earlier version do not say their month yet" in page.text
    monkeypatch.undo()
    assert codes(opened(world, browser)) == ["98979"]


def test_an_address_that_is_no_month_is_not_found(world, browser):
    page = world.open(browser, PATIENT)
    assert browser.get(f"{page.url}billing/2026-13").status == 404
    assert browser.get(f"{page.url}billing/charge").status == 404


@pytest.mark.parametrize("place", ["billing/9999-12", "denials/month/9999-12", "billing/0001-01"])
def test_the_first_and_the_last_month_there_can_be_are_months(world, browser, place):
    assert browser.get(f"{world.open(browser, PATIENT).url}{place}").status == 200
