"""One oddity of real EHRs at a time between the app and HAPI FHIR.

A named doubt is right only where something of the record cannot be had; every other oddity ends in the
decision that the undisturbed server leads to, and in the charge.
"""

from __future__ import annotations

from contextlib import closing

import pytest
from werkzeug.wrappers import Response

from tests.interop import oddities
from tests.interop.conftest import Foreign, patient_browser
from tests.interop.front import Front
from tests.interop.oddities import Oddity
from tests.interop.test_servers import accept, decided, final_form
from tests.smartapp.conftest import shared_world

pytestmark = pytest.mark.interop
__all__ = ["shared_world"]

PATIENT, CODE = "ready-physiologic", "99454"

HARMLESS = {
    "Observation without a category or code is refused": oddities.observations_want_a_category,
    "a date without a comparator is refused": oddities.dates_want_a_comparator,
    "five on a page": oddities.five_on_a_page,
    "next pages by a relative link": lambda: oddities.next_pages(oddities.relative),
    "429 with Retry-After now and then": oddities.busy_now_and_then,
    "every fifteenth answer is a 500": oddities.failing_now_and_then,
    "pages of ten seconds": lambda: oddities.slow("Observation", "Coverage"),
    "a remark beside what was found": oddities.remarks,
    "odd ids": oddities.odd_ids,
    "days and ids are passed over": lambda: oddities.passed_over("date", "_lastUpdated", "_id"),
}

ONLY_FOR_THE_FORM = {
    "Account is refused": lambda: oddities.refused("Account", 403),
    "Condition is a fault of the server": lambda: oddities.refused("Condition", 500),
}

DOUBTFUL = {
    "next pages on another server": lambda: oddities.next_pages(
        lambda *_: "http://elsewhere.invalid/fhir/r4?page=2"
    ),
    "next pages under another base": lambda: oddities.next_pages(
        lambda url, _: url.replace("/fhir/r4", "/internal/fhir")
    ),
    "next pages that lead to what was not asked for": lambda: oddities.next_pages(
        lambda url, request: f"{request.base_url}?{url.partition('?')[2]}"
    ),
    "next pages that lead to themselves": lambda: oddities.next_pages(lambda _, request: request.url),
    "answers that break off": oddities.broken_off,
    "a web page for an answer": oddities.web_page,
    "Observation is refused": lambda: oddities.refused("Observation", 403),
    "Encounter is refused": lambda: oddities.refused("Encounter", 403),
    "Device is refused": lambda: oddities.refused("Device", 403),
    "there is no Device": lambda: oddities.refused("Device", 404),
    "the patient is passed over": lambda: oddities.passed_over("patient", "subject"),
    "references under a base that is no alias": oddities.references_under_another_base,
}
#: Where the look before a write can prove all the same what the charge rests on, record by record.
PROVED_ONE_BY_ONE = {name for name in DOUBTFUL if name.startswith("next pages") or "Device" in name}
ALIAS = f'fhir_base_aliases = ["{oddities.ELSEWHERE}"]\n'


@pytest.fixture
def server():
    return "hapi"


@pytest.fixture(scope="module")
def undisturbed(shared_world, served):
    """What the server's chart leads to."""
    charts = served("hapi")
    foreign = Foreign(shared_world, Front(shared_world.ehr, charts.origin), charts)
    with closing(patient_browser()) as browser:
        return decided(foreign, browser, PATIENT)[1]


def suggested(told):
    return {(one["code"], one["period"]["start"]) for one in told["decisions"] if one["outcome"] == "suggest"}


@pytest.mark.parametrize("name", HARMLESS)
def test_it_ends_in_the_right_decision(foreign, browser, undisturbed, name):
    foreign.front.oddity = HARMLESS[name]()
    page, told = decided(foreign, browser, PATIENT)
    assert oddities.with_plain_ids(told["decisions"]) == undisturbed["decisions"], page.text
    assert foreign.front.oddity.met


@pytest.mark.parametrize("issuer_more", [ALIAS])
def test_references_under_an_alias_are_the_patients(foreign, browser, undisturbed):
    foreign.front.oddity = oddities.references_under_another_base()
    page, told = decided(foreign, browser, PATIENT)
    assert told["decisions"] == undisturbed["decisions"], page.text
    written(foreign, browser)


@pytest.mark.parametrize("name", DOUBTFUL)
def test_the_doubt_is_named_and_nothing_lower_is_suggested(foreign, browser, undisturbed, name):
    foreign.front.oddity = DOUBTFUL[name]()
    page, told = decided(foreign, browser, PATIENT)
    assert not told["completeness"]["whole"]
    assert "The chart was not fully read" in page.text
    assert suggested(told) <= suggested(undisturbed)
    assert foreign.front.oddity.met


def written(foreign, browser):
    """Accept the code; the one charge that the server holds then."""
    try:
        answer = accept(foreign, browser, PATIENT, CODE)
        assert "The charge is in the EHR" in answer.text
        (charge,) = foreign.charts.written(PATIENT)
        assert charge["code"]["coding"][0]["code"] == CODE
    finally:
        foreign.charts.take_back(PATIENT)


@pytest.mark.parametrize("name", HARMLESS | ONLY_FOR_THE_FORM)
def test_the_charge_goes_through_in_batches(foreign, browser, name):
    """Each entry of a batch meets the oddity too."""
    foreign.front.batches = True
    foreign.front.oddity = (HARMLESS | ONLY_FOR_THE_FORM)[name]()
    written(foreign, browser)
    assert any(asked.startswith("POST ") and "ChargeItem" not in asked for asked in foreign.front.asked)
    assert foreign.front.oddity.met


@pytest.mark.parametrize("name", DOUBTFUL)
def test_nothing_is_written_where_the_last_look_is_doubtful(foreign, browser, name):
    """Or, where every record that it rests on was seen again by itself, the charge that was confirmed."""
    foreign.front.batches = True
    form = final_form(foreign, browser, PATIENT, CODE)
    foreign.front.oddity = DOUBTFUL[name]()
    try:
        answer = browser.submit(form)
        assert foreign.front.oddity.met
        codes = [charge["code"]["coding"][0]["code"] for charge in foreign.charts.written(PATIENT)]
        assert codes == [] or (codes == [CODE] and name in PROVED_ONE_BY_ONE), answer.text
        assert ("The charge is in the EHR" in answer.text) == (codes != [])
    finally:
        foreign.charts.take_back(PATIENT)


@pytest.mark.parametrize("status", [409, 412])
def test_a_change_over_a_stale_version_changes_nothing(foreign, browser, status):
    """Somebody else changes the charge between our last look and our PUT."""

    def overtaken(request, forward):
        (charge,) = foreign.charts.written(PATIENT)
        foreign.charts.put({**charge, "status": "billable"})
        answer = forward(request)
        assert answer.status_code in {409, 412}
        return Response(answer.get_data(), status, content_type="application/fhir+json")

    try:
        accept(foreign, browser, PATIENT, CODE)
        page = foreign.world.open(browser, PATIENT)
        ask = browser.get(next(target for target, text in page.links if text == "Withdraw it"))
        checked = browser.submit(ask.form("/withdraw"), reason="Entered for the wrong patient.")
        foreign.front.oddity = Oddity(lambda request: request.method == "PUT", overtaken)
        answer = browser.submit(next(form for form in checked.forms if "/changes/" in form.action))
        assert foreign.front.oddity.met == 1
        assert "Nothing was changed" in answer.text
        (charge,) = foreign.charts.written(PATIENT)
        assert charge["status"] == "billable"
    finally:
        foreign.front.oddity = None
        foreign.charts.take_back(PATIENT)
