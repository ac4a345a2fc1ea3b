"""Beside a written charge stands who accepted it, in which app, by which rules, on which records."""

from __future__ import annotations

import pytest
from fhir.resources.R4B.provenance import Provenance

from launch.errors import HttpError, HttpProblem
from launch.http import EhrClient
from smartapp.store.claims import ChargeState
from tests.smartapp.conftest import EXTRA_SCOPES
from tests.smartapp.test_accept import PATIENT, form_for

SCOPES = (*EXTRA_SCOPES, "patient/Provenance.c")


def events(world):
    return [entry["event"] for entry in world.store.audit.entries()]


def test_a_written_charge_bears_its_provenance_where_the_ehr_granted_it(make_world, browser):
    world = make_world(extra_scopes=SCOPES)
    result = browser.submit(form_for(world, browser))
    (told,) = world.resources("Provenance", PATIENT)
    Provenance.model_validate(told)
    assert told["target"] == [{"reference": result.by_id["charge-item"]}]
    agents = {agent["type"]["coding"][0]["code"]: agent["who"] for agent in told["agent"]}
    assert agents["author"] == {"reference": "Practitioner/syn-physician"}
    assert agents["assembler"]["display"].startswith("smart-remote-monitoring ")
    assert told["policy"][0].startswith("urn:smart-remote-monitoring:rule:98977:")
    assert len(told["entity"]) == 18
    assert "provenance-written" in events(world)


def test_without_the_permission_none_is_asked_for(world, browser):
    browser.submit(form_for(world, browser))
    assert world.resources("Provenance", PATIENT) == []
    assert not [one for one in events(world) if one.startswith("provenance")]


@pytest.mark.parametrize("fails", ["refused", "cut"])
def test_its_failure_changes_nothing(make_world, browser, monkeypatch, fails):
    world = make_world(extra_scopes=SCOPES)
    form = form_for(world, browser)
    usual = EhrClient.fhir

    def fhir(self, method, target, **more):
        if target == "Provenance" and fails == "cut":
            raise HttpError(HttpProblem.TIMEOUT, maybe_acted=True)
        if target == "Provenance":
            more["body"] = b"{}"
        return usual(self, method, target, **more)

    monkeypatch.setattr(EhrClient, "fhir", fhir)
    result = browser.submit(form)
    assert "The charge is in the EHR" in result.text
    assert world.store.charges.of_patient("sandbox", PATIENT)[0].state is ChargeState.CONFIRMED
    assert world.resources("Provenance", PATIENT) == []
    assert "provenance-not-taken" in events(world)
