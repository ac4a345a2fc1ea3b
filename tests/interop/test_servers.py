"""What works on HAPI FHIR and on Medplum, through SMART: reading, deciding, charging."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import msgspec
import pytest

from launch.sandbox.patients import export
from smartapp.commands.evaluate import evaluate
from smartapp.configuration.site_file import read_site_file
from smartapp.ehr.reading.findings import Findings
from tests.interop.conftest import CHARTS, patient_browser
from tests.support.sandbox import DAY

pytestmark = pytest.mark.interop

READY = {"hapi": ("ready-physiologic", "99454"), "medplum": ("ready-musculoskeletal", "98977")}
"""A patient, and a code that can be charged."""
#: HAPI takes no resource that is no FHIR, and this chart holds three.
NOT_AS_IT_IS = {"messy-chart"}
#: And of this one a file tells more than is read: years before the last charged period.
READ_IN_PART = {"fifty-thousand-readings"}


def decided(foreign, browser, patient):
    page = foreign.world.open(browser, patient)
    return page, json.loads(browser.get(page.url + "decisions.json").body)


def test_the_answer_is_that_of_the_files(foreign, browser, tmp_path, server):
    """Through SMART and over HTTP, chart by chart, as `smartapp evaluate` gives it of the same days."""
    export(tmp_path, DAY, readings=200)
    site = read_site_file(foreign.world.settings.site_file)
    differing = {}
    for patient in CHARTS[server]:
        if patient in NOT_AS_IT_IS | READ_IN_PART:
            continue
        page, told = decided(foreign, browser, patient)
        (file,) = (path for path in tmp_path.iterdir() if path.stem == patient)
        _, findings = snapshot_of(foreign, page)
        expected = evaluate([file], as_of=DAY, site=site, history_from=findings.history_from)
        if told["decisions"] != expected["decisions"] or not told["completeness"]["whole"]:
            differing[patient] = (told["completeness"], told["decisions"], expected["decisions"])
    assert differing == {}


def snapshot_of(foreign, page):
    session = urlsplit(page.url).path.split("/")[2]
    snapshot = foreign.world.store.reading.snapshot_of(session)
    return snapshot, msgspec.json.decode(snapshot.result, type=Findings)


def final_form(foreign, browser, patient, code):
    page = foreign.world.open(browser, patient)
    links = [target for target, text in page.links if text.startswith("Review and accept") and code in target]
    assert links, page.text
    return foreign.world.final_form(browser, page, links[0].rsplit("/", 1)[1])


def accept(foreign, browser, patient, code):
    return browser.submit(final_form(foreign, browser, patient, code))


def test_a_charge_is_written_once_found_again_and_no_server_finds_an_error_in_it(foreign, browser, server):
    patient, code = READY[server]
    try:
        answer = accept(foreign, browser, patient, code)
        assert "The charge is in the EHR" in answer.text
        (charge,) = foreign.charts.written(patient)
        assert charge["code"]["coding"][0]["code"] == code
        if server == "hapi":
            outcome = foreign.charts.post("ChargeItem/$validate", charge)
            assert [i for i in outcome["issue"] if i["severity"] in {"error", "fatal"}] == []
        _, told = decided(foreign, browser, patient)
        assert {(d["code"], d["outcome"]) for d in told["decisions"] if d["code"] == code} >= {
            (code, "charged")
        }
    finally:
        foreign.charts.take_back(patient)


def test_eight_at_once_write_one_charge(foreign, browser, server):
    patient, code = READY[server]
    try:
        page = foreign.world.open(browser, patient)
        link = next(target for target, text in page.links if code in target and text.startswith("Review"))
        form = foreign.world.final_form(browser, page, link.rsplit("/", 1)[1])

        netloc = urlsplit(page.url).netloc

        def press(_: int) -> str:
            other = patient_browser()
            other.cookies(netloc).update(browser.cookies(netloc))
            try:
                return other.submit(form).text
            finally:
                other.close()

        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(press, range(8)))
        assert any("The charge is in the EHR" in answer for answer in answers)
        assert len(foreign.charts.written(patient)) == 1
    finally:
        foreign.charts.take_back(patient)


def test_a_charge_is_withdrawn_over_its_version_and_can_be_charged_anew(foreign, browser, server):
    patient, code = READY[server]
    try:
        accept(foreign, browser, patient, code)
        page = foreign.world.open(browser, patient)
        ask = browser.get(next(target for target, text in page.links if text == "Withdraw it"))
        checked = browser.submit(ask.form("/withdraw"), reason="Entered for the wrong patient.")
        confirmed = browser.submit(next(form for form in checked.forms if "/changes/" in form.action))
        assert "The charge is withdrawn" in confirmed.text
        assert "The charge is in the EHR" in accept(foreign, browser, patient, code).text
        statuses = [charge["status"] for charge in foreign.charts.written(patient)]
        assert sorted(statuses) == ["entered-in-error", "planned"]
    finally:
        foreign.charts.take_back(patient)
