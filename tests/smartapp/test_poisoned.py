"""An EHR that sends poison: another patient's records, odd shapes, JSON a thousand levels deep, floods.

The rest of the chart is read, what was left out is told, and what a write's answer holds changes nothing of
what its status says.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import pytest

from launch.http import EhrClient, Response
from smartapp.store.claims import ChargeState

PATIENT = "ready-musculoskeletal"
CODE = "98977"
THEIRS = {"reference": "Patient/other-person"}
DEEP = b"[" * 3000 + b"]" * 3000
Change = Callable[[str, str, Response], Response | None]


class Poison:
    """Changes what the EHR answers: `change` gets method, target and the true answer."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.change: Change = lambda method, target, answer: None
        true = EhrClient.fhir

        def fhir(client: EhrClient, method: str, target: str, **more: Any) -> Response:
            answer = true(client, method, target, **more)
            if target == client.issuer.fhir_base:
                return replace(answer, status=400)  # several at once: each is to come by itself
            return self.change(method, target, answer) or answer

        monkeypatch.setattr(EhrClient, "fhir", fhir)

    def adds(self, *resources: dict[str, Any]) -> None:
        """Each resource stands in every answer to a search of its type."""

        def change(method: str, target: str, answer: Response) -> Response | None:
            found = [one for one in resources if target.startswith(f"{one['resourceType']}?") and answer.ok]
            if not found:
                return None
            bundle = json.loads(answer.body)
            bundle.setdefault("entry", []).extend({"resource": one} for one in found)
            return replace(answer, body=json.dumps(bundle).encode())

        self.change = change

    def answers(self, start: str, body: bytes, status: int | None = None, method: str = "GET") -> None:
        """Whatever begins so is answered with this body."""

        def change(asked: str, target: str, answer: Response) -> Response | None:
            if asked != method or not target.startswith(start):
                return None
            return replace(answer, body=body, status=status or answer.status)

        self.change = change

    def stops(self) -> None:
        self.change = lambda method, target, answer: None


@pytest.fixture
def poison(monkeypatch: pytest.MonkeyPatch) -> Poison:
    return Poison(monkeypatch)


def device_charges(world):
    return [
        charge
        for charge in world.charges(PATIENT)
        if any(i["system"].startswith("urn:smart-remote-monitoring") for i in charge.get("identifier", ()))
    ]


def form_for(world, browser):
    page = world.open(browser, PATIENT)
    link = next(target for target, text in page.links if text.endswith(CODE))
    return world.final_form(browser, page, urlsplit(link).path.rsplit("/", 1)[1])


def entries(world, event):
    return [entry for entry in world.store.audit.entries() if entry["event"] == event]


def state(world):
    (row,) = world.store.charges.of_patient("sandbox", PATIENT)
    return row.state


# Reading

OF_OTHERS = (
    {
        "resourceType": "Account",
        "id": "theirs-account",
        "status": "active",
        "name": "THEIRS",
        "subject": [THEIRS],
    },
    {
        "resourceType": "Condition",
        "id": "theirs-condition",
        "participant": "x",
        "subject": THEIRS,
        "code": {
            "text": "THEIRS",
            "coding": [{"system": "http://hl7.org/fhir/sid/icd-10-cm", "code": "B20"}],
        },
    },
    {
        "resourceType": "Encounter",
        "id": "theirs-encounter",
        "device": [],
        "status": "finished",
        "class": {"code": "AMB"},
        "subject": {"reference": "/Patient/other-person"},
        "period": {"start": "2026-01-01T10:00:00Z", "end": "2026-01-01T10:20:00Z"},
    },
    {
        "resourceType": "Coverage",
        "id": "theirs-coverage",
        "status": "active",
        "meta": 1,
        "beneficiary": {"reference": "https://other.example/fhir/Patient/other-person"},
        "payor": [{"display": "THEIRS"}],
    },
)
NOT_POSITIVELY_OURS = (
    {"resourceType": "Account", "id": "nobodys-account", "status": "active", "name": "NOBODYS"},
    {
        "resourceType": "Condition",
        "id": "nobodys-condition",
        "subject": {"identifier": {"system": "urn:other", "value": "7"}},
        "code": {"text": "NOBODYS", "coding": [{"system": "urn:x", "code": "N"}]},
    },
    {
        "resourceType": "Encounter",
        "id": "nobodys-encounter",
        "status": "finished",
        "subject": {"reference": "Group/all"},
        "type": [{"text": "NOBODYS"}],
    },
)


def test_another_patients_records_are_never_offered_whatever_shape_they_have(shared_world, browser, poison):
    poison.adds(*OF_OTHERS)
    page = shared_world.open(browser, PATIENT)
    link = next(target for target, text in page.links if text.endswith(CODE))
    offered = shared_world.choices_at(browser, link)
    for type_, shown in (
        ("Account", offered),
        ("Condition", offered),
        ("Encounter", page),
        ("Coverage", page),
    ):
        assert f"{type_} : belonged to another patient and was dropped (1)" in shown.text
    assert "theirs" not in offered.body.lower()
    assert "B20" not in offered.body


def test_what_does_not_name_this_patient_positively_is_never_offered_and_is_listed(
    shared_world, browser, poison
):
    poison.adds(*NOT_POSITIVELY_OURS)
    page = shared_world.open(browser, PATIENT)
    link = next(target for target, text in page.links if text.endswith(CODE))
    assert "nobodys" not in shared_world.choices_at(browser, link).body.lower()
    twin = json.loads(browser.get(page.url + "decisions.json").body)
    left_out = {item["resource"]: item["reason"] for item in twin["excluded"]}
    assert left_out["Encounter/nobodys-encounter"] == "other-patient"


def test_the_trail_says_what_was_read_dropped_and_decided_and_on_which_rules(shared_world, browser, poison):
    poison.adds(*OF_OTHERS)
    page = shared_world.open(browser, PATIENT)
    session = urlsplit(page.url).path.split("/")[2]
    twin = json.loads(browser.get(page.url + "decisions.json").body)
    (read,) = [entry for entry in entries(shared_world, "chart-read") if entry["session"] == session]
    assert read["rules_version"] == twin["rules_version"]
    assert read["payer"] == twin["payer"]
    assert read["dropped"] == "Coverage 1, Encounter 1"
    assert "Patient 1" in read["by_type"].split(", ")
    decided = [f"{d['code']} {d['period']['start']} {d['outcome']}" for d in twin["decisions"]]
    assert read["decided"] == "; ".join(decided)
    assert "THEIRS" not in json.dumps(read)


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("deep", b'{"resource": {"resourceType": "Condition", "id": "deep", "x": ' + DEEP + b"}}"),
        ("no object", b"5"),
        ("odd full url", b'{"fullUrl": 5, "resource": 7}'),
    ],
)
def test_one_bad_entry_stops_neither_its_page_nor_the_chart(shared_world, browser, poison, name, bad):
    good = {"resourceType": "Condition", "id": "c-good", "subject": {"reference": f"Patient/{PATIENT}"}}
    good["code"] = {"text": "GOOD ONE", "coding": [{"system": "urn:x", "code": "g"}]}
    body = b'{"resourceType": "Bundle", "entry": [' + bad + b', {"resource": ' + json.dumps(good).encode()
    poison.answers("Condition?", body + b"}]}")
    page = shared_world.open(browser, PATIENT)
    link = next(target for target, text in page.links if text.endswith(CODE))
    form = shared_world.choices_at(browser, link)
    assert "Condition : cannot be read (1)" in form.text
    assert "GOOD ONE" in form.body


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (403, b'{"resourceType": "OperationOutcome", "issue": 5}', "the EHR refused to give it: 403"),
        (403, DEEP, "the EHR refused to give it: 403"),
        (200, b'{"resourceType": "OperationOutcome", "issue": true}', "not read to the end"),
        (200, b'{"resourceType": "Bundle", "entry": [' + b"{}," * 2_000_000 + b"{}]}", "not read to the end"),
        (200, b'{"resourceType": "Bundle", "link": [{"relation": "next", "url": 5}]}', "not read to the end"),
    ],
)
def test_an_odd_answer_to_one_search_is_told_and_the_rest_is_read(
    shared_world, browser, poison, status, body, told
):
    poison.answers("Procedure?", body, status)
    page = shared_world.open(browser, PATIENT)
    assert f"Procedure : {told}" in page.text
    assert "can be charged" in page.text


# Writing


def test_another_patients_charge_must_be_answered_for_and_does_not_go_unnoticed(
    world, browser, poison, caplog
):
    unaware = form_for(world, browser)
    poison.adds(
        {
            "resourceType": "ChargeItem",
            "id": "theirs-charge",
            "status": "billed",
            "subject": THEIRS,
            "code": {"coding": [{"system": "http://www.ama-assn.org/go/cpt", "code": CODE}]},
            "occurrencePeriod": {"start": "2020-01-01", "end": "2030-01-01"},
        }
    )
    page = browser.submit(unaware)
    assert "More must be confirmed now: prior-charges." in page.text
    assert device_charges(world) == []
    form = form_for(world, browser)
    with caplog.at_level(logging.WARNING, "smartapp"):
        page = browser.submit(form)
    (charge,) = device_charges(world)
    assert page.by_id["charge-item"] == f"ChargeItem/{charge['id']}"
    *_, told = entries(world, "foreign-dropped")
    assert (told["type"], told["count"], told["patient"]) == ("ChargeItem", 1, PATIENT)
    assert told["user"] == "Practitioner/syn-physician"
    assert "charges of another patient dropped: 1" in caplog.text
    assert "theirs-charge" not in caplog.text
    assert "other-person" not in caplog.text
    again = world.open(browser, PATIENT)
    assert "ChargeItem : belonged to another patient and was dropped (1)" in again.text
    session = urlsplit(again.url).path.split("/")[2]
    (read,) = [entry for entry in entries(world, "chart-read") if entry["session"] == session]
    assert read["unread"] == "ChargeItem", "what such a server leaves out, nobody knows"


def test_a_charge_that_cannot_be_read_and_is_new_stops_the_write(world, browser, poison):
    form = form_for(world, browser)
    poison.adds({"resourceType": "ChargeItem", "id": "odd", "subject": {"reference": 5}})
    page = browser.submit(form)
    assert page.status == 409
    assert "ChargeItem/odd is new since the chart was read." in page.text
    assert device_charges(world) == []


@pytest.mark.parametrize(
    "body", [b'{"x": ' + DEEP + b"}", b'{"rest": [{"resource": [{"type": []}]}]}', b"[]"]
)
def test_metadata_of_odd_shape_stops_no_write(world, browser, poison, body):
    form = form_for(world, browser)
    poison.answers("metadata", body)
    assert browser.submit(form).by_id["charge-item"] == f"ChargeItem/{device_charges(world)[0]['id']}"


ODD_BODIES = {
    "odd issue": b'{"resourceType": "OperationOutcome", "issue": 5}',
    "deep": b'{"resourceType": "ChargeItem", "id": ' + DEEP + b"}",
    "text": b"<html>",
    "nothing": b"",
    "list": b'[{"resourceType": "ChargeItem"}]',
    "odd id": b'{"resourceType": "ChargeItem", "id": {"x": []}}',
}


@pytest.mark.parametrize("body", ODD_BODIES.values(), ids=ODD_BODIES.keys())
def test_whatever_the_answer_to_a_write_holds_the_row_follows_its_status(world, browser, poison, body):
    form = form_for(world, browser)

    def refuses(method: str, target: str, answer: Response) -> Response | None:
        return replace(answer, status=422, body=body) if (method, target) == ("POST", "ChargeItem") else None

    world.ehr.sandbox.quirks.no_charge_item_create = True
    poison.change = refuses
    page = browser.submit(form)
    assert page.status == 200, page.text
    assert state(world) is ChargeState.REFUSED
    assert "did not take the charge" in page.text

    def takes(method: str, target: str, answer: Response) -> Response | None:
        if (method, target) == ("POST", "ChargeItem"):
            return replace(answer, body=body, headers={})
        return replace(answer, body=body) if method == "GET" and target.startswith("ChargeItem/") else None

    world.ehr.sandbox.quirks.no_charge_item_create = False
    poison.change = takes
    page = browser.submit(form)
    assert state(world) is ChargeState.CONFIRMED
    (row,) = world.store.charges.of_patient("sandbox", PATIENT)
    assert page.by_id["charge-item"] == f"ChargeItem/{device_charges(world)[0]['id']}"
    packet = json.loads(world.store.charges.packet(row.identifier))
    assert packet["read_back"] in (None, {"resourceType": "ChargeItem", "id": {"x": []}})
