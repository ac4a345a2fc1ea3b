"""Creating and updating over HTTP: what is stored, what is refused, and that a charge is created once."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

PATIENT = "ready-musculoskeletal"


@pytest.fixture(scope="module")
def token(ehr):
    return ehr.launched()["access_token"]


@pytest.fixture(scope="module")
def backend(ehr):
    return ehr.backend_token()


def issue(answer: requests.Response) -> tuple[int, str]:
    body = answer.json()
    assert body["resourceType"] == "OperationOutcome", body
    return answer.status_code, body["issue"][0]["code"]


# --- create ----------------------------------------------------------------------------------------------


def test_a_created_charge_is_found_again(ehr, token, new_charge):
    charge = new_charge(key="found-again")
    answer = ehr.fhir("POST", "ChargeItem", token, json={**charge, "id": "mine"})
    assert answer.status_code == 201
    stored = answer.json()
    assert stored["id"] != "mine"
    assert answer.headers["ETag"] == 'W/"1"'
    assert answer.headers["Location"] == f"{ehr.base}/ChargeItem/{stored['id']}/_history/1"
    assert "Last-Modified" in answer.headers
    assert stored["meta"]["versionId"] == "1"
    assert ehr.fhir("GET", f"ChargeItem/{stored['id']}", token).json() == stored
    found = ehr.fhir("GET", "ChargeItem?identifier=urn:test:charge|found-again", token).json()
    assert [entry["resource"]["id"] for entry in found["entry"]] == [stored["id"]]


def test_the_answer_is_as_long_as_the_client_prefers(ehr, token, new_charge):
    def post(prefer: str) -> requests.Response:
        return ehr.fhir("POST", "ChargeItem", token, json=new_charge(), headers={"Prefer": prefer})

    assert post("return=minimal").text == ""
    assert post("return=OperationOutcome").json()["resourceType"] == "OperationOutcome"
    assert post("return=representation").json()["resourceType"] == "ChargeItem"


@pytest.mark.parametrize(
    "changes",
    [
        {"status": None},
        {"status": "banana"},
        {"code": None},
        {"code": {"text": "a charge"}},
        {"subject": None},
        {"subject": {"display": "somebody"}},
        {"occurrencePeriod": None},
        {"occurrenceDateTime": "2026-03-31"},
        {"quantity": {"value": 0}},
        {"quantity": {"value": -1}},
        {"colour": "red"},
        {"note": [{"text": ""}]},
        {"note": [{"text": "\ud800"}]},
        {"enteredDate": "2026-03-31T08:00:00"},
        {"contained": [{"resourceType": "Nonsense"}]},
        {"context": {"reference": "Encounter/nobody"}},
        {"performer": [{"actor": {"reference": "#nothing"}}]},
        {"resourceType": "Basic"},
    ],
)
def test_a_charge_that_is_not_right_is_refused_with_a_reason(ehr, token, new_charge, changes):
    body = json.dumps(new_charge(**changes))
    answer = ehr.fhir(
        "POST", "ChargeItem", token, data=body, headers={"Content-Type": "application/fhir+json"}
    )
    assert issue(answer)[0] == 422
    assert answer.json()["issue"][0]["diagnostics"]


@pytest.mark.parametrize(
    "body",
    [
        "",
        "{",
        "[]x",
        '{"resourceType": "ChargeItem", "status": "planned", "status": "billed"}',
        "[" * 9999,
        '{"a": 1e999}',
        '{"a": 12345678901234567890}',
    ],
)
def test_a_body_that_is_no_json_is_refused(ehr, token, body):
    answer = ehr.fhir(
        "POST", "ChargeItem", token, data=body, headers={"Content-Type": "application/fhir+json"}
    )
    assert issue(answer) == (400, "structure")


def test_a_body_of_another_media_type_is_refused(ehr, token, new_charge):
    headers = {"Content-Type": "text/plain"}
    assert issue(ehr.fhir("POST", "ChargeItem", token, json=new_charge(), headers=headers))[0] == 415


def test_a_body_over_the_limit_is_refused(make_ehr, new_charge):
    ehr = make_ehr(max_body=10_000)
    charge = new_charge(note=[{"text": "x" * 20_000}])
    answer = ehr.fhir("POST", "ChargeItem", ehr.launched()["access_token"], json=charge)
    assert answer.status_code == 413


def test_a_charge_for_somebody_else_is_refused(ehr, token, new_charge):
    assert issue(ehr.fhir("POST", "ChargeItem", token, json=new_charge("ready-cognitive")))[0] == 403


@pytest.mark.parametrize(
    "scope", ["patient/ChargeItem.rs", "patient/ChargeItem.read", "patient/ChargeItem.u"]
)
def test_without_the_scope_to_create_nothing_is_created(ehr, new_charge, scope):
    token = ehr.launched(scope=f"launch {scope}")["access_token"]
    assert issue(ehr.fhir("POST", "ChargeItem", token, json=new_charge())) == (403, "forbidden")


@pytest.mark.parametrize("scope", ["patient/ChargeItem.c", "patient/ChargeItem.write"])
def test_with_the_scope_to_create_it_is_created_but_not_read(ehr, new_charge, scope):
    token = ehr.launched(scope=f"launch {scope}")["access_token"]
    stored = ehr.fhir("POST", "ChargeItem", token, json=new_charge()).json()
    assert issue(ehr.fhir("GET", f"ChargeItem/{stored['id']}", token))[0] == 403


def test_a_provenance_belongs_to_the_patient_of_its_target(ehr, token, new_charge):
    charge = ehr.fhir("POST", "ChargeItem", token, json=new_charge()).json()
    provenance = {
        "resourceType": "Provenance",
        "target": [{"reference": f"ChargeItem/{charge['id']}"}],
        "recorded": "2026-04-01T12:00:00Z",
        "agent": [{"who": {"reference": "Practitioner/syn-physician"}}],
    }
    created = ehr.fhir("POST", "Provenance", token, json=provenance)
    assert created.status_code == 201, created.text
    search = f"Provenance?patient={PATIENT}&target=ChargeItem/{charge['id']}"
    assert ehr.fhir("GET", search, token).json()["total"] == 1
    other = ehr.launched("ready-cognitive")["access_token"]
    assert issue(ehr.fhir("POST", "Provenance", other, json=provenance))[0] == 403


def test_a_body_nested_a_thousand_times_is_refused(ehr, token, new_charge):
    deep: dict[str, object] = {"url": "urn:x", "valueString": "x"}
    for _ in range(250):
        deep = {"url": "urn:x", "extension": [deep]}
    answer = ehr.fhir("POST", "ChargeItem", token, json=new_charge(extension=[deep]))
    assert answer.status_code in (201, 400, 422)
    body = '{"resourceType": "ChargeItem", "extension": ' + '[{"extension": ' * 480 + "[]" + "}]" * 480 + "}"
    headers = {"Content-Type": "application/fhir+json"}
    assert ehr.fhir("POST", "ChargeItem", token, data=body, headers=headers).status_code in (400, 422)


# --- conditional create ----------------------------------------------------------------------------------


def conditional(key: str) -> dict[str, str]:
    return {"If-None-Exist": f"identifier=urn:test:charge|{key}"}


def test_a_conditional_create_creates_once_and_then_answers_with_what_is_there(ehr, token, new_charge):
    first = ehr.fhir("POST", "ChargeItem", token, json=new_charge(key="once"), headers=conditional("once"))
    again = ehr.fhir("POST", "ChargeItem", token, json=new_charge(key="once"), headers=conditional("once"))
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.headers["Location"] == first.headers["Location"]
    assert again.json() == first.json()


def test_a_conditional_create_with_several_matches_is_refused(ehr, token, new_charge):
    for _ in range(2):
        ehr.fhir("POST", "ChargeItem", token, json=new_charge(key="twice"))
    answer = ehr.fhir("POST", "ChargeItem", token, json=new_charge(key="twice"), headers=conditional("twice"))
    assert issue(answer) == (412, "duplicate")


@pytest.mark.parametrize("criteria", ["", "colour=red", "identifier=x&colour=red", "_count=1"])
def test_criteria_this_server_does_not_understand_create_nothing(ehr, token, new_charge, criteria):
    charge = new_charge(key="never")
    answer = ehr.fhir("POST", "ChargeItem", token, json=charge, headers={"If-None-Exist": criteria})
    assert issue(answer)[0] == 412
    assert ehr.fhir("GET", "ChargeItem?identifier=never", token).json()["total"] == 0


def test_sixteen_threads_create_one_charge(ehr, token, new_charge):
    charge = new_charge(key="threads")

    def post(_: int) -> int:
        headers = {
            **conditional("threads"),
            "Authorization": f"Bearer {token}",
            "Content-Type": "application/fhir+json",
        }
        return requests.post(f"{ehr.base}/ChargeItem", json=charge, headers=headers, timeout=60).status_code

    with ThreadPoolExecutor(16) as pool:
        answers = sorted(pool.map(post, range(16)))
    assert answers == [200] * 15 + [201]
    assert ehr.fhir("GET", "ChargeItem?identifier=threads", token).json()["total"] == 1


_POST = """
import json, sys, urllib.request
address, token, key, body = sys.argv[1:]
headers = {"Authorization": "Bearer " + token, "Content-Type": "application/fhir+json",
           "If-None-Exist": "identifier=urn:test:charge|" + key}
request = urllib.request.Request(address, body.encode(), headers)
print(urllib.request.urlopen(request, timeout=60).status)
"""


def test_eight_processes_create_one_charge_in_a_store_on_disk(make_ehr, new_charge, tmp_path):
    ehr = make_ehr(data=tmp_path / "store")
    token = ehr.launched()["access_token"]
    body = json.dumps(new_charge(key="processes"))
    arguments = [sys.executable, "-c", _POST, f"{ehr.base}/ChargeItem", token, "processes", body]
    running = [subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) for _ in range(8)]
    answers = sorted(process.communicate(timeout=60)[0].strip() for process in running)
    assert answers == ["200"] * 7 + ["201"]
    assert ehr.fhir("GET", "ChargeItem?identifier=processes", token).json()["total"] == 1


# --- update ----------------------------------------------------------------------------------------------


def test_an_update_makes_the_next_version_and_guards_against_the_last(ehr, token, new_charge):
    stored = ehr.fhir("POST", "ChargeItem", token, json=new_charge()).json()
    address = f"ChargeItem/{stored['id']}"
    headers = {"If-Match": 'W/"1"'}
    second = ehr.fhir("PUT", address, token, json={**stored, "status": "billable"}, headers=headers)
    assert second.status_code == 200
    assert second.headers["ETag"] == 'W/"2"'
    late = ehr.fhir("PUT", address, token, json={**stored, "status": "aborted"}, headers=headers)
    assert issue(late) == (412, "conflict")
    assert ehr.fhir("GET", address, token).json()["status"] == "billable"


def test_an_update_moves_the_search_index_along(ehr, token, new_charge):
    stored = ehr.fhir("POST", "ChargeItem", token, json=new_charge(key="before")).json()
    moved = {**stored, "identifier": [{"system": "urn:test:charge", "value": "after"}]}
    ehr.fhir("PUT", f"ChargeItem/{stored['id']}", token, json=moved)
    assert ehr.fhir("GET", "ChargeItem?identifier=before", token).json()["total"] == 0
    assert ehr.fhir("GET", "ChargeItem?identifier=after", token).json()["total"] == 1


def test_of_eight_updates_of_one_version_one_succeeds(ehr, token, new_charge):
    stored = ehr.fhir("POST", "ChargeItem", token, json=new_charge()).json()

    def put(_: int) -> int:
        headers = {
            "If-Match": 'W/"1"',
            "Authorization": f"Bearer {token}",
            "Content-Type": "application/fhir+json",
        }
        address = f"{ehr.base}/ChargeItem/{stored['id']}"
        return requests.put(address, json=stored, headers=headers, timeout=60).status_code

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(put, range(8))) == [200] + [412] * 7


def test_a_malformed_if_match_is_refused(ehr, token, new_charge):
    stored = ehr.fhir("POST", "ChargeItem", token, json=new_charge()).json()
    answer = ehr.fhir("PUT", f"ChargeItem/{stored['id']}", token, json=stored, headers={"If-Match": "1"})
    assert issue(answer)[0] == 400


def test_a_client_can_t_choose_an_id(ehr, token, new_charge):
    answer = ehr.fhir("PUT", "ChargeItem/my-own", token, json=new_charge(id="my-own"))
    assert issue(answer)[0] == 405
    other = ehr.fhir("PUT", "ChargeItem/my-own", token, json=new_charge(id="another"))
    assert issue(other)[0] == 400


def test_an_update_can_t_take_a_charge_to_or_from_somebody_else(ehr, token, backend, new_charge):
    mine = ehr.fhir("POST", "ChargeItem", token, json=new_charge()).json()
    theirs = ehr.fhir("POST", "ChargeItem", backend, json=new_charge("ready-cognitive")).json()
    moved = {**mine, "subject": {"reference": "Patient/ready-cognitive"}}
    assert issue(ehr.fhir("PUT", f"ChargeItem/{mine['id']}", token, json=moved))[0] == 403
    taken = {**theirs, "subject": {"reference": f"Patient/{PATIENT}"}}
    assert issue(ehr.fhir("PUT", f"ChargeItem/{theirs['id']}", token, json=taken))[0] == 403


# --- encounters ------------------------------------------------------------------------------------------


def new_encounter(**changes):
    period = {"start": "2026-03-10T10:00:00-04:00", "end": "2026-03-10T10:25:00-04:00"}
    content = {
        "resourceType": "Encounter",
        "identifier": [{"system": "urn:test:contact", "value": "one"}],
        "status": "finished",
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "VR"},
        "subject": {"reference": f"Patient/{PATIENT}"},
        "participant": [{"individual": {"reference": "Practitioner/syn-physician"}}],
        "period": period,
        **changes,
    }
    return {name: value for name, value in content.items() if value is not None}


def test_an_encounter_is_created_once_if_the_scope_allows_it(ehr, token, backend):
    once = {"If-None-Exist": "identifier=urn:test:contact|one"}
    assert issue(ehr.fhir("POST", "Encounter", token, json=new_encounter())) == (403, "forbidden")
    first = ehr.fhir("POST", "Encounter", backend, json=new_encounter(), headers=once)
    again = ehr.fhir("POST", "Encounter", backend, json=new_encounter(), headers=once)
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["id"] == again.json()["id"]


@pytest.mark.parametrize(
    "changes",
    [
        {"class": {"code": "VR"}},
        {"class": None},
        {"status": "done"},
        {"subject": None},
        {"subject": {"reference": "Patient/nobody"}},
        {"period": None},
        {"period": {"start": "2026-03-10T10:00:00-04:00"}},
        {"period": {"start": "2026-03-10T10:00:00-04:00", "end": "2026-03-10T09:00:00-04:00"}},
        {"participant": None},
        {"participant": [{"individual": {"reference": "Practitioner/nobody"}}]},
        {"participant": [{"individual": {"reference": "#nobody"}}]},
    ],
)
def test_an_encounter_that_is_not_right_is_refused_with_a_reason(ehr, backend, changes):
    answer = ehr.fhir("POST", "Encounter", backend, json=new_encounter(**changes))
    assert issue(answer)[0] == 422
    assert answer.json()["issue"][0]["diagnostics"]
