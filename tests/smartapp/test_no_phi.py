"""Nothing of a patient in logs or in our addresses: a full run of every chart, scanned word by word."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask, request, request_finished

from smartapp.commands.demo_check import Browser, Page
from tests.smartapp.conftest import World

LEFT_OUT = {"nothing"}
"""An id that is an English word as well; the chart's name and number are looked for all the same."""


@pytest.fixture
def addresses() -> Iterator[list[str]]:
    """Every address the app was asked for, with query and Location of the answer."""
    seen: list[str] = []

    def note(sender: Flask, response: Any, **_: Any) -> None:
        if sender.name == "smartapp":
            seen.append(f"{request.method} {request.full_path} -> {response.headers.get('Location', '')}")

    request_finished.connect(note)
    yield seen
    request_finished.disconnect(note)


def of_patients(world: World) -> set[str]:
    """Every id, name, number and birth date of the synthetic patients."""
    with world.ehr.sandbox.database.read() as connection:
        rows = connection.execute("SELECT body FROM resource WHERE type = 'Patient'").fetchall()
    found: set[str] = set()
    for (body,) in rows:
        patient = json.loads(body)
        found |= {patient["id"], patient["birthDate"]}
        found |= {one["value"] for one in patient.get("identifier", [])}
        for name in patient.get("name", []):
            found |= {name.get("family", ""), *name.get("given", [])}
    return found - LEFT_OUT - {"", "Patient", "Synthetic"}


def crawl(browser: Browser, page: Page, most: int = 80) -> set[str]:
    """Follow every link of a session from one of its pages; which areas of the app were seen."""
    session, seen, waiting = page.url.split("/s/")[1].split("/")[0], set(), [page]
    while waiting and len(seen) < most:
        for target, _ in waiting.pop().links:
            address = target.split("#")[0]
            if f"/s/{session}/" in address and address not in seen:
                seen.add(address)
                waiting.append(browser.get(address))
    return {address.split(f"/s/{session}/")[1].split("/")[0] for address in seen}


def told_of(patients: set[str], caplog: pytest.LogCaptureFixture, addresses: list[str]) -> list[str]:
    """Every line of the logs and every address that holds something of a patient."""
    logged = [f"{record.name} {record.getMessage()}" for record in caplog.records]
    logged += [str(record.exc_info) for record in caplog.records if record.exc_info]
    assert any("smartapp.events" in line for line in logged)
    return [line for line in (*logged, *addresses) for word in patients if word in line]


@pytest.mark.threat("5.13")
def test_no_page_of_a_session_has_a_patient_in_its_address_or_leaves_one_in_a_log(
    make_world: Callable[..., World],
    browser: Browser,
    caplog: pytest.LogCaptureFixture,
    addresses: list[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    world = make_world(site_more="lock_certified_months: true\nsecond_approval: true\n")
    page = world.open(browser, "ready-musculoskeletal")
    browser.submit(world.final_form(browser, page))
    areas = crawl(browser, world.read(browser, browser.get(page.url)))
    asked = {"time", "statements", "anchor", "what-if", "scopes", "charges", "months", "evidence"}
    assert asked <= areas
    assert "episode" in crawl(browser, world.open(browser, "back-after-a-break"))
    assert told_of(of_patients(world), caplog, addresses) == []


@pytest.mark.threat("5.13")
def test_a_patient_who_signs_in_is_in_no_log(
    shared_world: World,
    browser: Browser,
    caplog: pytest.LogCaptureFixture,
    addresses: list[str],
    signed_in: Callable[[str], None],
) -> None:
    caplog.set_level(logging.DEBUG)
    signed_in("Patient/ready-musculoskeletal")
    page = shared_world.launch(browser, "ready-musculoskeletal")
    assert page.status == 403
    assert told_of(of_patients(shared_world), caplog, addresses) == []
    opened = [one for one in shared_world.store.audit.entries() if one["event"] == "launch-opened"]
    assert opened[-1]["user"] == "Patient/ready-musculoskeletal"


@pytest.mark.threat("5.13")
def test_a_full_run_of_every_chart_leaves_no_patient_in_any_log_or_address(
    world: World, browser: Browser, caplog: pytest.LogCaptureFixture, addresses: list[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    patients = of_patients(world)
    assert len(patients) > 40
    with world.ehr.sandbox.database.read() as connection:
        ids = [name for (name,) in connection.execute("SELECT id FROM resource WHERE type = 'Patient'")]
    for patient in sorted(ids):
        page = world.open(browser, patient)
        browser.get(page.url + "decisions.json")
        for link in [target for target, text in page.links if "/evidence/" in target][:3]:
            assert browser.get(link).status == 200
        browser.get(page.url + f"charges/98977-{patient}")  # an address that doesn't exist
    page = world.open(browser, "ready-musculoskeletal")
    before = len(world.charges("ready-musculoskeletal"))
    written = browser.submit(world.final_form(browser, page))
    assert written.status == 200
    assert len(world.charges("ready-musculoskeletal")) == before + 1
    world.ehr.close()
    browser.submit(page.form("/read"))  # the EHR is gone: every error has its log line too
    world.read(browser, browser.get(page.url))
    assert len(addresses) > 3 * len(ids)
    told = told_of(patients, caplog, addresses)
    # The one address with a chart's id in it is the wrong one that this test itself asked for.
    assert [line for line in told if "GET /s/" not in line or "/charges/98977-" not in line] == []
