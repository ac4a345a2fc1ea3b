"""How a charge leaves where the EHR takes no ChargeItem, and that it counts as charged whatever the way."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, date, datetime
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest

from fhir_mappings.charge_item import conflicting
from fhir_mappings.local_time import LocalClock
from fhir_mappings.prior_charge import handed_over
from fhir_mappings.rules.charged import units_charged
from smartapp.ehr.handover.charge_item import ChargeItemHandover
from smartapp.ehr.handover.line import ChargeLine, Diagnosed
from smartapp.ehr.handover.worksheet import COLUMNS, as_cell, csv_of
from smartapp.store.charges import ChargeStore
from smartapp.store.claims import ChargeState
from tests.support.sandbox import ZONE

PATIENT = "ready-musculoskeletal"
CODE = "98977"
NO_CHARGE_ITEM = 'write = {charge_item = "no"}\n'


@pytest.fixture
def world(make_world):
    return make_world(issuer_more=NO_CHARGE_ITEM)


def accepted(world, browser, code=CODE):
    """Accept a code; the page it leads to and the address of the patient page."""
    page = world.open(browser, PATIENT)
    link = next(target for target, text in page.links if text.endswith(code))
    form = world.final_form(browser, page, urlsplit(link).path.rsplit("/", 1)[1])
    return browser.submit(form), page.url


def rows(world):
    return world.store.charges.of_patient("sandbox", PATIENT)


def decisions(world, browser, address):
    world.read(browser, browser.get(address))
    return json.loads(browser.get(address + "decisions.json").body)


def outcome_of(twin, code, key):
    return next(
        one
        for one in twin["decisions"]
        if one["code"] == code and f"{one['code']}-{one['period']['start']}" == key
    )


def test_where_no_charge_item_can_be_created_a_charge_goes_on_the_worksheet_and_is_entered_once(
    world, browser
):
    before = world.charges(PATIENT)
    result, address = accepted(world, browser)
    assert "on the worksheet" in result.text
    assert world.charges(PATIENT) == before, "nothing was written to the EHR"
    (row,) = rows(world)
    assert row.state is ChargeState.TO_ENTER
    key = row.content.decision
    assert outcome_of(decisions(world, browser, address), CODE, key)["outcome"] == "suggest"
    sheet = browser.get(address + "worksheet")
    assert f"{CODE} × 1" in sheet.text
    assert "to be entered in billing by hand" in sheet.text
    asked = browser.get(next(target for target, text in sheet.links if text == "I entered it in billing"))
    unticked = browser.submit(asked.form("/entered"), entered=[])
    assert unticked.status == 422
    assert rows(world)[0].state is ChargeState.TO_ENTER
    form = asked.form("/entered")
    browser.submit(form, entered="yes")
    again = browser.submit(form, entered="yes")
    assert again.status == 200, "pressed twice, kept once"
    (row,) = rows(world)
    assert row.state is ChargeState.ENTERED
    assert row.content.handed is not None
    assert outcome_of(decisions(world, browser, address), CODE, key)["outcome"] == "charged"
    page = browser.get(address)
    assert "Entered in billing by" in page.text
    assert "not confirmed by the EHR" in page.text
    assert not [text for _, text in page.links if text.endswith(CODE)], "it cannot be accepted again"
    events = [entry["event"] for entry in world.store.audit.entries()]
    assert [one for one in events if one.startswith("charge-")] == [
        "charge-to-enter",
        "charge-entered-by-person",
    ]
    record = browser.get(
        next(target for target, text in _result(browser, address, key).links if "audit" in text)
    )
    assert record.status == 200


def _result(browser, address, key):
    return browser.get(f"{address}charges/{key}/result")


def test_what_was_entered_can_be_taken_back_with_a_reason_and_is_earned_anew(world, browser):
    _, address = accepted(world, browser)
    sheet = browser.get(address + "worksheet")
    asked = browser.get(next(target for target, text in sheet.links if text == "I entered it in billing"))
    browser.submit(asked.form("/entered"), entered="yes")
    world.read(browser, browser.get(address))
    sheet = browser.get(address + "worksheet")
    asked = browser.get(next(target for target, text in sheet.links if text == "Take it back"))
    refused = browser.submit(asked.form("/take-back"), reason="wrong patient", gone=[])
    assert refused.status == 422
    browser.submit(asked.form("/take-back"), reason="wrong patient", gone="yes")
    (row,) = rows(world)
    assert row.state is ChargeState.WITHDRAWN
    world.read(browser, browser.get(address))
    result, _ = accepted(world, browser)
    assert "on the worksheet" in result.text
    first, second = rows(world)
    assert first.identifier != second.identifier
    assert second.state is ChargeState.TO_ENTER


def test_nothing_is_taken_back_in_a_month_that_is_certified_just_then(make_world, browser, monkeypatch):
    world = make_world(issuer_more=NO_CHARGE_ITEM, site_more="lock_certified_months: true\n")
    _, address = accepted(world, browser)
    sheet = browser.get(address + "worksheet")
    asked = browser.get(next(target for target, text in sheet.links if text == "Take it back"))
    begin = ChargeStore.begin_taking_back

    def certified_first(store, charge, *rest):
        day, now = charge.content.service_date, world.now()
        assert world.store.months.certify("sandbox", PATIENT, day, "Practitioner/d2", "", now)
        return begin(store, charge, *rest)

    monkeypatch.setattr(ChargeStore, "begin_taking_back", certified_first)
    refused = browser.submit(asked.form("/take-back"), reason="wrong patient")
    assert refused.status == 409
    assert "is certified for this patient" in refused.text
    assert rows(world)[0].state is ChargeState.TO_ENTER


def test_the_key_is_the_charges_when_the_way_changes_the_old_row_stops_a_new_one(world, browser, monkeypatch):
    """The site begins to write ChargeItems while a charge stands on the worksheet, or was entered."""
    _, address = accepted(world, browser)
    (row,) = rows(world)
    before = world.charges(PATIENT)
    monkeypatch.setattr(ChargeItemHandover, "refusal", lambda *_: None)
    page = browser.get(f"{address}charges/{row.content.decision}")
    assert "on the worksheet" in page.text
    assert "charges of its own (ChargeItem)" in browser.get(address).text
    assert world.charges(PATIENT) == before
    assert rows(world) == (row,)


# The parts


def line(**more):
    told = {
        "key": "k",
        "patient": "Synthetic Patient",
        "birth_date": "1950-01-01",
        "record_number": "MRN-1",
        "code": "98977",
        "label": "device supply",
        "quantity": 1,
        "modifiers": ("GP",),
        "service_date": date(2026, 3, 1),
        "period_start": date(2026, 2, 1),
        "period_end": date(2026, 3, 2),
        "diagnoses": (Diagnosed("http://hl7.org/fhir/sid/icd-10-cm", "M17.11"),),
        "performing": "Synthetic Therapist",
        "ordering": "",
        "place": "",
        "entered_at": datetime(2026, 3, 3, tzinfo=UTC),
    }
    return ChargeLine(**(told | more))


WIDE = ["\uff1d1+1", "\uff0b1", "\uff0d1", "\uff20SUM(A1)", "\u3000\uff1d1"]
"""What some languages type for = + - @, and spreadsheets take for it."""


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", " =1", "\r=1", "\n=1", *WIDE])
def test_no_cell_of_the_csv_begins_a_formula(text):
    assert as_cell(text).startswith("'")
    (_, row) = csv.reader(io.StringIO(csv_of([(line(patient=text), "state")])))
    assert not row[0].lstrip().startswith(("=", "+", "-", "@"))


def test_the_csv_reads_back_with_a_cell_a_column_whatever_a_name_holds():
    name = 'Müller, "Syn"; a\r\nb'
    table = list(csv.reader(io.StringIO(csv_of([(line(patient=name), "handed over")]))))
    assert table[0] == list(COLUMNS)
    assert len(table) == 2
    assert table[1][0] == 'Müller, "Syn"; a b'
    assert table[1][COLUMNS.index("State")] == "handed over"


CHARGE = {
    "resourceType": "ChargeItem",
    "identifier": [{"system": "urn:smart-remote-monitoring:charge", "value": "k"}],
    "status": "planned",
    "code": {"coding": [{"system": "http://www.ama-assn.org/go/cpt", "code": "98977"}]},
    "subject": {"reference": "Patient/p"},
    "occurrencePeriod": {"start": "2026-02-01", "end": "2026-03-02"},
    "quantity": {"value": 2},
}


def test_its_later_charge_item_is_the_same_charge():
    (ours,) = handed_over(CHARGE, "k", LocalClock(ZONE))
    assert (ours.quantity, ours.keys, ours.status) == (2, (), ""), "nothing of it can be changed by an API"
    theirs = handed_over(CHARGE, "k", LocalClock(ZONE))[0].__class__(
        "ChargeItem/7", "98977", 2, ours.occurrence
    )
    assert units_charged([ours, theirs]) == 2
    assert units_charged([ours]) == 2


def test_what_was_handed_over_stands_in_the_way_of_another_code_of_its_family():
    (ours,) = handed_over(CHARGE, "k", LocalClock(ZONE))
    other = SimpleNamespace(code="98985", period=ours.occurrence)
    assert conflicting(other, [ours]) == (ours,)
