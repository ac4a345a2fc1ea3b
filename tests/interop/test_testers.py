"""A tester's way with a HAPI FHIR server: seed it, connect to it, accept a charge, take everything back."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from launch.sandbox import Client
from smartapp.cli import main
from smartapp.clock import ahead_of_the_machine
from smartapp.commands.connect import prepared
from smartapp.testing.server import TestingServer
from smartapp.testing.tag import SYSTEM
from tests.interop.front import Front
from tests.smartapp.test_connect import accepted, connected, options_of, read
from tests.support.sandbox import DAY, NOON, start_sandbox

pytestmark = pytest.mark.interop

PATIENT = "ready-musculoskeletal"
TYPES = ("Patient", "Practitioner", "Organization", "Device", "Encounter", "Observation", "ChargeItem")


def ours(charts):
    """How many resources with our tag it holds."""
    return sum(charts.get(f"{type_}?_tag={SYSTEM}|test&_summary=count")["total"] for type_ in TYPES)


def codes(resource):
    return {tag["code"] for tag in resource["meta"]["tag"] if tag["system"] == SYSTEM}


def test_without_a_sign_in(served, tmp_path, browser, capsys):
    charts = served("hapi")
    state = str(tmp_path / "state")
    seed = ["seed", charts.base, "--as-of", DAY.isoformat(), "--patients", "2", "--folder", state]
    assert main(seed) == 0
    said = capsys.readouterr().out
    assert "refused" not in said
    patient = re.search(rf"Patient/(\S+-{PATIENT})", said)[1]
    try:
        with connected(tmp_path, charts.base, "--patient", patient) as (app, _plan, found):
            assert "HAPI FHIR" in found
            page = read(browser, browser.get(app.start_link()))
            assert "The charge is in the EHR" in accepted(browser, page).text
        charge = max(
            charts.found(f"ChargeItem?patient={patient}"), key=lambda one: one["meta"]["lastUpdated"]
        )
        assert charge["code"]["coding"][0]["code"] == "98977"
        assert codes(charge) == {"test", "connect"}
        outcome = charts.post("ChargeItem/$validate", charge)
        assert [one for one in outcome["issue"] if one["severity"] in {"error", "fatal"}] == []
    finally:
        assert main(["unseed", charts.base, "--folder", state]) == 0
    assert ours(charts) == 0


def test_through_smart(served, tmp_path, browser):
    charts = served("hapi")
    options = options_of(tmp_path, "", "--client-id", "mine")
    app_url = f"http://127.0.0.1:{options.port}"
    client = Client("mine", redirect_uris=(f"{app_url}/callback/test-server",))
    ahead = ahead_of_the_machine(NOON)
    with start_sandbox(tmp_path, ahead=ahead, clients=(client,), launch_url=f"{app_url}/launch") as ehr:
        Front(ehr, charts.origin)
        options.url = ehr.config.fhir_base
        plan, lines = prepared(options)
        assert "SMART App Launch" in "\n".join(lines)
        with TestingServer(replace(plan, ahead=ahead)):
            form = next(
                form
                for form in browser.get(f"{ehr.base_url}/").forms
                if {PATIENT, "tab"} <= {control.value for control in form.controls}
            )
            page = read(browser, browser.submit(form, mode="tab"))
            assert "TEST Test data of" in page.text
            assert "The charge is in the EHR" in accepted(browser, page).text
    (listed,) = (tmp_path / "state").glob("*/written.jsonl")
    written = [json.loads(line)["at"] for line in listed.read_text().splitlines()]
    assert len(written) == 1
    assert codes(charts.get(written[0])) == {"test", "connect"}
    assert main(["unseed", charts.base, "--folder", str(tmp_path / "state")]) == 0, "of another base: nothing"
    assert ours(charts) == 1
    charts.take_back(PATIENT)
    assert ours(charts) == 0
