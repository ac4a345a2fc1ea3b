"""Reading and searching the store over HTTP: parameters, paging, scopes."""

from __future__ import annotations

import time

import pytest
import requests

from launch.sandbox.search import parse_query

PATIENT = "ready-musculoskeletal"


@pytest.fixture(scope="module")
def token(ehr):
    return ehr.launched()["access_token"]


@pytest.fixture(scope="module")
def backend(ehr):
    return ehr.backend_token()


def ids(answer: requests.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [entry["resource"]["id"] for entry in answer.json().get("entry", [])]


def issue(answer: requests.Response) -> tuple[int, str]:
    assert answer.headers["Content-Type"].startswith("application/fhir+json")
    body = answer.json()
    assert body["resourceType"] == "OperationOutcome"
    return answer.status_code, body["issue"][0]["code"]


# --- reading ---------------------------------------------------------------------------------------------


def test_a_resource_is_read_with_its_version(ehr, token):
    answer = ehr.fhir("GET", f"Patient/{PATIENT}", token)
    assert answer.headers["Content-Type"].startswith("application/fhir+json")
    assert answer.headers["ETag"] == 'W/"1"'
    assert "Last-Modified" in answer.headers
    assert answer.json()["meta"]["versionId"] == "1"


def test_what_is_not_there_is_an_operation_outcome(ehr, token):
    assert issue(ehr.fhir("GET", "Observation/nobody", token)) == (404, "not-found")
    assert issue(ehr.fhir("GET", "Medication/x", token)) == (404, "not-supported")
    assert issue(ehr.fhir("GET", "a/b/c/d", token)) == (404, "not-found")
    assert issue(ehr.fhir("DELETE", f"Patient/{PATIENT}", token))[0] == 405


@pytest.mark.parametrize("header", [None, "Bearer", "Bearer made-up", "Basic eDp5", "bearer  "])
def test_without_a_good_token_nothing_is_read(ehr, header):
    headers = {"Authorization": header} if header else {}
    answer = requests.get(f"{ehr.base}/Patient/{PATIENT}", headers=headers, timeout=60)
    assert issue(answer) == (401, "login")
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_a_token_in_the_address_is_no_token(ehr, token):
    answer = requests.get(f"{ehr.base}/Patient/{PATIENT}", params={"access_token": token}, timeout=60)
    assert answer.status_code == 401


def test_only_fhir_json_is_spoken(ehr, token):
    assert issue(ehr.fhir("GET", "Patient", token, headers={"Accept": "application/fhir+xml"}))[0] == 406
    assert issue(ehr.fhir("GET", "Patient?_format=xml", token))[0] == 406
    assert ids(ehr.fhir("GET", "Patient?_format=json", token)) == [PATIENT]


# --- scopes ----------------------------------------------------------------------------------------------


def test_a_patient_token_reads_nobody_else(ehr, token, backend):
    other = ids(ehr.fhir("GET", "Observation?patient=ready-cognitive&_count=1", backend))[0]
    assert issue(ehr.fhir("GET", f"Observation/{other}", token)) == (403, "forbidden")
    assert issue(ehr.fhir("GET", "Patient/ready-cognitive", token)) == (403, "forbidden")


@pytest.mark.parametrize("search", ["patient=ready-cognitive", "subject=Patient/ready-cognitive"])
def test_a_patient_token_searches_nobody_else(ehr, token, search):
    assert issue(ehr.fhir("GET", f"Observation?{search}", token)) == (403, "forbidden")


def test_a_search_without_patient_is_confined_to_the_launch_patient(ehr, token, backend):
    mine = ehr.fhir("GET", "Observation?_count=1000", token).json()
    assert mine["total"] < ehr.fhir("GET", "Observation?_count=0", backend).json()["total"]
    assert {entry["resource"]["subject"]["reference"] for entry in mine["entry"]} == {f"Patient/{PATIENT}"}
    assert ids(ehr.fhir("GET", "Patient", token)) == [PATIENT]


def test_what_the_scope_does_not_name_is_refused(ehr):
    token = ehr.launched(scope="launch patient/Observation.r")["access_token"]
    answer = ehr.fhir("GET", "Observation", token)
    assert issue(answer) == (403, "forbidden")
    assert 'error="insufficient_scope"' in answer.headers["WWW-Authenticate"]
    assert issue(ehr.fhir("GET", f"Patient/{PATIENT}", token)) == (403, "forbidden")


def test_a_version_1_read_scope_reads_and_searches(ehr):
    token = ehr.launched(scope="launch patient/Observation.read")["access_token"]
    [first, *_] = ids(ehr.fhir("GET", "Observation?_count=1", token))
    assert ehr.fhir("GET", f"Observation/{first}", token).status_code == 200


def test_staff_is_read_with_user_or_patient_scopes(ehr, token):
    assert ehr.fhir("GET", "Practitioner/syn-therapist", token).json()["qualification"]
    only_patient = ehr.launched(scope="launch patient/Practitioner.rs")["access_token"]
    assert ehr.fhir("GET", "Practitioner/syn-therapist", only_patient).status_code == 200


def test_a_device_metric_belongs_to_the_patient_of_its_device(ehr, token):
    messy = ehr.launched("messy-chart")["access_token"]
    [metric] = ids(ehr.fhir("GET", "DeviceMetric", messy))
    assert issue(ehr.fhir("GET", f"DeviceMetric/{metric}", token)) == (403, "forbidden")


# --- parameters ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "search",
    [
        "patient=ready-cognitive",
        "patient=Patient/ready-cognitive",
        "patient={base}/Patient/ready-cognitive",
        "subject=Patient/ready-cognitive",
        "subject:Patient=ready-cognitive",
    ],
)
def test_a_reference_is_found_in_every_form(ehr, backend, search):
    found = ehr.fhir("GET", f"EpisodeOfCare?{search}".replace("{base}", ehr.base), backend)
    if search.startswith("subject"):
        found = ehr.fhir("GET", f"ServiceRequest?{search}", backend)
    assert len(ids(found)) == 1


@pytest.mark.parametrize(
    ("search", "some"),
    [
        ("code=HEP", True),
        ("code=urn:sandbox:flowsheet|HEP", True),
        ("code=urn:sandbox:flowsheet|", True),
        ("code=http://loinc.org|HEP", False),
        ("code=|HEP", False),
        ("code=INH,urn:sandbox:flowsheet|HEP", True),
        ("category=activity", True),
        ("category=vital-signs", False),
        ("status=final", True),
        ("status=amended,final", True),
        ("status=entered-in-error", False),
        ("device:missing=false", True),
        ("device:missing=true", False),
        ("performer:missing=true", True),
        ("_lastUpdated=gt2020-01-01", True),
        ("_lastUpdated=lt2020-01-01", False),
        ("date=ge2026-03-02&date=le2026-03-31", True),
        ("date=lt2020", False),
    ],
)
def test_token_and_date_parameters_find_what_fits(ehr, token, search, some):
    assert bool(ids(ehr.fhir("GET", f"Observation?patient={PATIENT}&{search}", token))) is some


def test_the_search_parameters_of_the_other_resources(ehr, token, backend):
    for search in (
        "Encounter?patient={p}&date=ge2026-03-01&class=VR&status=finished",
        "Encounter?patient={p}&type=urn:sandbox:visit|RTM-CALL",
        "Encounter?participant=Practitioner/syn-therapist",
        "Device?patient={p}&type=urn:sandbox:device|home-exercise-app",
        "ChargeItem?patient={p}&code=http://www.ama-assn.org/go/cpt|98977",
        "ChargeItem?subject=Patient/{p}&occurrence=ge2026-01-01",
        "ServiceRequest?patient={p}&status=active&intent=order",
        "EpisodeOfCare?patient={p}&status=active&date=ge2026-01-01",
        "Consent?patient={p}&status=active",
        "Condition?patient={p}&clinical-status=active",
        "Coverage?beneficiary=Patient/{p}",
        "Account?patient={p}&status=active",
        "PractitionerRole?practitioner=Practitioner/syn-nurse",
        "Practitioner?name=synthetic-n",
        "Patient?identifier=urn:sandbox:mrn|SYN-0002",
    ):
        user = backend if search.startswith("Pract") else token
        assert ids(ehr.fhir("GET", search.format(p=PATIENT), user)), search


def test_a_search_by_post_gives_what_the_search_by_get_gives(ehr, token):
    by_get = ids(ehr.fhir("GET", f"Observation?patient={PATIENT}&code=HEP&_count=7", token))
    form = {"patient": PATIENT, "code": "HEP", "_count": "7"}
    assert ids(ehr.fhir("POST", "Observation/_search", token, data=form)) == by_get
    assert len(by_get) == 7


def test_an_unknown_parameter_is_refused_when_the_client_is_strict(ehr, token):
    address = f"Observation?patient={PATIENT}&colour=red"
    strict = ehr.fhir("GET", address, token, headers={"Prefer": "handling=strict"})
    assert issue(strict) == (400, "not-supported")
    lenient = ehr.fhir("GET", address, token).json()
    assert lenient["total"] > 0
    assert "colour" not in lenient["link"][0]["url"]
    assert f"patient={PATIENT}" in lenient["link"][0]["url"]


@pytest.mark.parametrize(
    "search",
    [
        "date=yesterday",
        "date=xx2026-01-01",
        "date=ap2026-01-01",
        "date=2026-13",
        "code:text=walk",
        "code:in=x",
        "patient:missing=perhaps",
        "_count=-1",
        "_count=many",
        "code=",
        "_lastUpdated:x=2026",
    ],
)
def test_a_value_or_modifier_that_can_t_be_understood_is_refused(ehr, token, search):
    assert issue(ehr.fhir("GET", f"Observation?{search}", token))[0] == 400


def test_elements_keeps_what_was_asked_and_what_is_mandatory(ehr, token):
    bundle = ehr.fhir("GET", "Observation?_elements=effective,effectiveDateTime&_count=2", token).json()
    for entry in bundle["entry"]:
        resource = entry["resource"]
        assert set(resource) == {"resourceType", "id", "meta", "status", "code", "effectiveDateTime"}
        assert resource["meta"]["tag"][0]["code"] == "SUBSETTED"


# --- paging ----------------------------------------------------------------------------------------------


def pages(ehr, address: str, token: str):
    while address:
        bundle = ehr.fhir("GET", address, token).json()
        yield bundle
        links = {link["relation"]: link["url"] for link in bundle["link"]}
        address = links.get("next", "")


def test_the_pages_hold_each_match_once(ehr, token):
    found = [len(bundle.get("entry", ())) for bundle in pages(ehr, "Observation?_count=10", token)]
    total = ehr.fhir("GET", "Observation?_count=0", token).json()["total"]
    assert sum(found) == total
    assert set(found[:-1]) == {10}
    seen = [
        entry["resource"]["id"]
        for bundle in pages(ehr, "Observation?_count=10", token)
        for entry in bundle["entry"]
    ]
    assert len(set(seen)) == total


def test_a_next_link_says_nothing_of_the_search_and_belongs_to_its_authorization(ehr, token):
    first = next(pages(ehr, f"Observation?patient={PATIENT}&_count=5", token))
    [follow] = [link["url"] for link in first["link"] if link["relation"] == "next"]
    assert PATIENT not in follow
    assert follow.startswith(f"{ehr.base}/Observation?")
    assert ehr.fhir("GET", follow, token).status_code == 200
    other = ehr.launched("ready-cognitive")["access_token"]
    assert issue(ehr.fhir("GET", follow, other)) == (410, "expired")
    assert issue(ehr.fhir("GET", follow.replace("_page=", "_page=x"), token)) == (410, "expired")


def test_the_page_size_is_capped(make_ehr):
    ehr = make_ehr(max_count=3)
    bundle = ehr.fhir("GET", "Observation?_count=500", ehr.launched()["access_token"]).json()
    assert len(bundle["entry"]) == 3


@pytest.mark.bench
def test_fifty_thousand_readings_are_paged_and_sliced_in_seconds(make_ehr):
    ehr = make_ehr(readings=50_000)
    token = ehr.launched("fifty-thousand-readings")["access_token"]
    slices = [
        ("ge2025-03-07", "lt2025-07-01"),
        ("ge2025-07-01", "lt2025-10-01"),
        ("ge2025-10-01", "lt2026-01-01"),
        ("ge2026-01-01", "lt2026-04-01"),
    ]
    started = time.process_time()
    seen: set[str] = set()
    for low, high in slices:
        search = f"patient=fifty-thousand-readings&category=vital-signs&date={low}&date={high}&_count=1000"
        address = f"Observation?{search}"
        for bundle in pages(ehr, address, token):
            seen.update(entry["resource"]["id"] for entry in bundle["entry"])
    took = time.process_time() - started
    assert len(seen) == 50_000
    # 52 pages; scanning the JSON of a chart of this size would take longer than this for every one of them.
    assert took < 20, took


def test_readings_of_a_patient_are_looked_up_by_an_index(make_ehr):
    ehr = make_ehr()
    pairs = [("patient", "fifty-thousand-readings"), ("category", "vital-signs"), ("date", "ge2026-03-01")]
    query = parse_query("Observation", pairs, ehr.base)
    where = " AND ".join(["r.type = ?", *query.conditions])
    with ehr.sandbox.database.read() as connection:
        plan = connection.execute(
            f"EXPLAIN QUERY PLAN SELECT r.rid FROM resource r WHERE {where}", ["Observation", *query.values]
        ).fetchall()
    assert plan
    assert not [step[3] for step in plan if step[3].startswith("SCAN") and "resource" in step[3]]


# --- discovery -------------------------------------------------------------------------------------------


def test_the_capability_statement_declares_what_can_be_done(ehr):
    answer = requests.get(f"{ehr.base}/metadata", timeout=60)
    [rest] = answer.json()["rest"]
    found = {resource["type"]: resource for resource in rest["resource"]}
    charge = found["ChargeItem"]
    assert {entry["code"] for entry in charge["interaction"]} == {"read", "search-type", "create", "update"}
    assert charge["conditionalCreate"] is True
    assert charge["updateCreate"] is False
    names = {parameter["name"] for parameter in charge["searchParam"]}
    assert {"patient", "subject", "code", "identifier", "occurrence", "context", "account"} <= names
    assert not {"status", "date"} & names


def test_every_declared_parameter_is_understood(ehr, backend):
    examples = {"token": "x", "string": "x", "date": "2026", "reference": "x"}
    [rest] = requests.get(f"{ehr.base}/metadata", timeout=60).json()["rest"]
    for resource in rest["resource"]:
        search = "&".join(f"{one['name']}={examples[one['type']]}" for one in resource["searchParam"])
        headers = {"Prefer": "handling=strict"}
        answer = ehr.fhir("GET", f"{resource['type']}?{search}", backend, headers=headers)
        assert ids(answer) == []
