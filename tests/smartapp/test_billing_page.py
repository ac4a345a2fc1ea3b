"""A month of charges for billing: who may see it, what stands first, and what leaves as CSV."""

from __future__ import annotations

import csv
import io
import re
from datetime import date

import pytest

from launch.sandbox.config import APP_SCOPE
from smartapp.configuration.handover import Method
from smartapp.store.claims import ChargeState
from smartapp.web.billing import COLUMNS
from tests.smartapp.test_page_words import assert_readable
from tests.support.months import keep_charge

PATIENT = "ready-musculoskeletal"
MAY_BILL = "permissions: {bill: [physician]}\n"


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
        keep_charge(world.store, f"{number:03}", world.now(), patient=f"syn-{number}")
    first = opened(world, browser)
    assert (len(codes(first)), "page 1 of 2" in first.text) == (50, True)
    assert len(codes(opened(world, browser, query="?page=2"))) == 5
    assert len(codes(opened(world, browser, query="?page=999"))) == 5


def test_other_patients_stand_by_their_number_where_the_ehr_lets_no_names_be_asked(world, browser):
    keep_charge(world.store, "1", world.now(), patient=PATIENT)
    keep_charge(world.store, "2", world.now(), patient="syn-77")
    page = opened(world, browser)
    assert "number syn-77" in page.text
    assert "lets this session read one patient alone" in page.text
    assert "Synthetic" in page.text.split("98979")[1], "the open chart's own patient has a name"


def test_names_are_asked_of_the_ehr_where_it_lets_the_viewer_look(make_world, browser):
    world = make_world(
        site_more=MAY_BILL,
        extra_scopes=("user/Patient.rs",),
        client={"scope": f"{APP_SCOPE} user/Patient.rs"},
    )
    other = "ready-respiratory"
    keep_charge(world.store, "1", world.now(), patient=other)
    page = opened(world, browser)
    assert "Synthetic" in page.text.split("98979")[1].split("confirmed")[0], "a name of the EHR"
    assert f"number {other}" not in page.text
    assert "one patient alone" not in page.text


def test_the_csv_holds_every_page_no_name_and_no_formula(world, browser):
    for number in range(55):
        keep_charge(
            world.store,
            f"{number:03}",
            world.now(),
            patient=f"syn-{number}",
            name="=HYPERLINK(1)",
            payer="=1+1" if number == 0 else "medicare",
        )
    answer = opened(world, browser, month="2026-03.csv")
    table = list(csv.reader(io.StringIO(answer.body)))
    assert table[0] == list(COLUMNS)
    assert len(table) == 56
    assert not [cell for row in table for cell in row if cell.lstrip().startswith(("=", "+", "-", "@"))]
    assert {row[COLUMNS.index("Key")] for row in table[1:]} == {f"{number:03}" for number in range(55)}


def test_each_opening_and_each_download_is_audited(world, browser):
    keep_charge(world.store, "1", world.now())
    page = world.open(browser, PATIENT)
    browser.get(f"{page.url}billing/2026-03")
    browser.get(f"{page.url}billing/2026-03.csv")
    found = [entry for entry in world.store.audit.entries() if entry["event"].startswith("billing-")]
    assert [(one["event"], one["month"], one["rows"]) for one in found] == [
        ("billing-month-opened", "2026-03", 1),
        ("billing-month-downloaded", "2026-03", 1),
    ]
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
