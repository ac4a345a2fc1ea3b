"""What leaves otherwise than as a ChargeItem, on HAPI FHIR and Medplum: once, read back, without an error."""

from __future__ import annotations

import json
from urllib.parse import urlsplit

import pytest

from smartapp.ehr.handover.worksheet import line_in
from smartapp.store.claims import ChargeState
from tests.interop.conftest import Foreign
from tests.interop.front import Front
from tests.smartapp.conftest import EXTRA_SCOPES

pytestmark = pytest.mark.interop

READY = {"hapi": ("ready-physiologic", "99454"), "medplum": ("ready-musculoskeletal", "98977")}
SCOPES = (
    *EXTRA_SCOPES,
    "patient/Task.crus",
    "patient/DocumentReference.crus",
    "patient/Provenance.c",
)
WAYS = {
    "Task": ("task: {owner: Organization/synthetic-billing}", "cancelled"),
    "DocumentReference": ("document: {}", "entered-in-error"),
}
POOL = {"resourceType": "Organization", "id": "synthetic-billing", "name": "Billing (synthetic)"}


@pytest.fixture
def handing_over(server, served, make_world):
    """A function to a world in which charges leave in one way."""

    def made(way: str | None) -> Foreign:
        charts = served(server)
        charts.put(POOL)
        more = "" if way is None else f"handover: [{{{way}}}]\n"
        charge_item = "" if way is None else 'write = {charge_item = "no"}\n'
        world = make_world(profile="generic", issuer_more=charge_item, site_more=more, extra_scopes=SCOPES)
        return Foreign(world, Front(world.ehr, charts.origin), charts)

    return made


def accepted(foreign, browser, patient, code):
    page = foreign.world.open(browser, patient)
    links = [target for target, text in page.links if text.startswith("Review and accept") and code in target]
    assert links, page.text
    form = foreign.world.final_form(browser, page, links[0].rsplit("/", 1)[1])
    return page, form, browser.submit(form)


def declares(foreign, type_, interaction):
    rest = (foreign.charts.get("metadata").get("rest") or [{}])[0]
    found = next((one for one in rest.get("resource", ()) if one["type"] == type_), {})
    return any(one["code"] == interaction for one in found.get("interaction", ()))


def errors_of(foreign, resource):
    outcome = foreign.charts.post(f"{resource['resourceType']}/$validate", resource)
    return [one for one in outcome["issue"] if one["severity"] in {"error", "fatal"}]


@pytest.mark.parametrize("type_", WAYS)
def test_a_record_is_created_once_and_can_be_called_back(handing_over, browser, server, type_):
    (way, gone), (patient, code) = WAYS[type_], READY[server]
    foreign = handing_over(way)
    page, form, answer = accepted(foreign, browser, patient, code)
    assert "The charge was handed over" in answer.text
    browser.submit(form)  # pressed again
    (row,) = foreign.world.store.charges.of_patient("sandbox", patient)
    assert row.state is ChargeState.HANDED_OVER
    assert row.problem is None, "it was read back, and is what was sent"
    value = row.identifier.rpartition("|")[2]
    (held,) = (
        one
        for one in foreign.charts.found(f"{type_}?patient=Patient/{patient}")
        if any(each.get("value") == value for each in one.get("identifier", ()))
    )
    assert row.name == f"{type_}/{held['id']}"
    if server == "hapi":
        assert errors_of(foreign, held) == []
    line = line_in(row)
    assert line is not None
    assert line.code == code
    sheet = browser.get(page.url + "worksheet")
    asked = browser.get(next(target for target, text in sheet.links if text == "Take it back"))
    browser.submit(asked.form("/take-back"), reason="synthetic")
    assert foreign.charts.get(f"{type_}/{held['id']}")["status"] == gone


def test_a_written_charge_has_a_provenance_that_no_server_finds_an_error_in(handing_over, browser, server):
    patient, code = READY[server]
    foreign = handing_over(None)
    try:
        _, _, answer = accepted(foreign, browser, patient, code)
        assert "The charge is in the EHR" in answer.text
        charge = answer.by_id["charge-item"]
        told = foreign.charts.found(f"Provenance?target={charge}")
        assert len(told) == int(declares(foreign, "Provenance", "create"))
        if server == "hapi":
            assert [errors_of(foreign, one) for one in told] == [[]]
    finally:
        foreign.charts.take_back(patient)


@pytest.mark.parametrize("server", ["hapi"])
def test_the_parameters_of_the_operation_hold_no_error(handing_over, server):
    """No server here has `ChargeItem/$create`: the Parameters are validated, and the charge in them."""
    from pathlib import Path
    from tempfile import TemporaryDirectory

    from smartapp.configuration.handover import Method
    from tests.support.fault_run import FaultWorld, Run

    foreign = handing_over(None)
    with TemporaryDirectory() as folder:
        world = FaultWorld(Path(folder))
        run = Run(world, 1, "interop")
        run.method = Method.ORACLE_CREATE
        leaving = run.charge().content.leaving
        world.close()
    assert leaving is not None
    body = json.loads(leaving.body)
    charge = next(one["resource"] for one in body["parameter"] if one["name"] == "chargeItem")
    charge["subject"] = {"reference": f"Patient/{READY[server][0]}"}
    del charge["context"]
    assert errors_of(foreign, charge) == []
    whole = {"resourceType": "Parameters", "parameter": [{"name": "resource", "resource": body}]}
    assert errors_of(foreign, whole) == []
    assert urlsplit(body["parameter"][0]["valueUuid"]).scheme == "urn"
