"""$export: a job, its manifest, its files; the crowd that is made while it is read; and what goes wrong."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, date, datetime
from typing import Any

import pytest
import requests

from .conftest import Ehr

ASYNC = {"Prefer": "respond-async"}
NOON = datetime(2026, 4, 1, 12, tzinfo=UTC).timestamp()
CROWD = {"crowd_since": date(2026, 3, 1), "clock": lambda: NOON}


def asked(ehr: Ehr, path: str = "$export", **headers: str) -> requests.Response:
    token = ehr.backend_token()
    return ehr.fhir("GET", path, token, headers={**ASYNC, **headers})


def manifest(ehr: Ehr, path: str = "$export") -> dict[str, Any]:
    token = ehr.backend_token()
    status = ehr.fhir("GET", path, token, headers=ASYNC)
    assert status.status_code == 202, status.text
    place = status.headers["Content-Location"]
    answer = ehr.fhir("GET", place, token)
    while answer.status_code == 202:
        assert answer.headers["Retry-After"] == "1"
        answer = ehr.fhir("GET", place, token)
    assert answer.status_code == 200, answer.text
    return answer.json()


def lines(ehr: Ehr, url: str) -> list[dict[str, Any]]:
    answer = ehr.fhir("GET", url, ehr.backend_token(), headers={"Accept": "application/fhir+ndjson"})
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


def test_an_export_holds_what_the_store_holds(make_ehr):
    ehr = make_ehr()
    told = manifest(ehr, "$export?_type=Patient,Observation")
    assert told["requiresAccessToken"] is True
    assert {one["type"] for one in told["output"]} == {"Patient", "Observation"}
    for one in told["output"]:
        found = lines(ehr, one["url"])
        total = ehr.fhir("GET", f"{one['type']}?_count=0", ehr.backend_token()).json()["total"]
        assert len(found) == one["count"] == total
        assert {resource["resourceType"] for resource in found} == {one["type"]}


def test_a_crowd_is_told_in_files_of_a_thousand_and_the_same_each_time(make_ehr):
    ehr = make_ehr(crowd=2500, **CROWD)
    told = manifest(ehr, "Group/crowd/$export")
    counts = Counter(one["type"] for one in told["output"])
    assert counts["Patient"] == counts["Observation"] == 3
    urls = [one["url"] for one in told["output"] if one["type"] == "Patient"]
    people = [resource["id"] for url in urls for resource in lines(ehr, url)]
    assert len(set(people)) == len(people) == 2500
    [last] = [one["url"] for one in told["output"] if one["url"].endswith("Observation.0002.ndjson")]
    assert lines(ehr, last) == lines(ehr, last)


def test_a_day_later_only_that_day_is_told_and_what_was_taken_back(make_ehr):
    ehr = make_ehr(crowd=300, **CROWD)
    whole = manifest(ehr, "Group/crowd/$export")
    [readings] = [one["url"] for one in whole["output"] if one["type"] == "Observation"]
    before = {one["id"] for one in lines(ehr, readings)}
    moment = whole["transactionTime"].replace("+", "%2B")
    object.__setattr__(ehr.running.config, "crowd_ahead_seconds", 86400.0)
    told = manifest(ehr, f"Group/crowd/$export?_since={moment}")
    [readings] = [one["url"] for one in told["output"] if one["type"] == "Observation"]
    new = {one["id"] for one in lines(ehr, readings)}
    [people] = [one["url"] for one in told["output"] if one["type"] == "Patient"]
    assert lines(ehr, people) == []
    assert 100 < len(new) <= 300
    assert not new & before
    [deleted] = [one["url"] for one in told["deleted"]]
    gone = [one["entry"][0]["request"] for one in lines(ehr, deleted)]
    names = {one["url"].removeprefix("Observation/") for one in gone}
    assert names
    assert names <= before
    assert {one["method"] for one in gone} == {"DELETE"}
    again = manifest(ehr, "Group/crowd/$export")
    [readings] = [one["url"] for one in again["output"] if one["type"] == "Observation"]
    assert {one["id"] for one in lines(ehr, readings)} == (before | new) - names


def test_patient_level_leaves_out_what_belongs_to_no_patient(make_ehr):
    types = {one["type"] for one in manifest(make_ehr(), "Patient/$export")["output"]}
    assert "Observation" in types
    assert types.isdisjoint({"Practitioner", "PractitionerRole", "Organization"})


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("$export", {"Prefer": ""}, 400),
        ("$export?_outputFormat=csv", {}, 400),
        ("$export?_since=yesterday", {}, 400),
        ("$export?_type=Nonsense", {}, 400),
        ("Group/nobody/$export", {}, 404),
        ("bulk/nothing", {}, 404),
    ],
)
def test_what_cannot_be_exported_is_refused(make_ehr, path, headers, status):
    assert asked(make_ehr(), path, **headers).status_code == status


def test_a_token_without_the_type_gets_no_export_of_it(make_ehr):
    ehr = make_ehr()
    token = ehr.backend_token("system/Patient.rs")
    refused = ehr.fhir("GET", "$export?_type=Observation", token, headers=ASYNC)
    assert refused.status_code == 403
    assert ehr.fhir("GET", "$export?_type=Patient", token, headers=ASYNC).status_code == 202


def test_files_need_the_token_unless_the_manifest_says_otherwise(make_ehr):
    ehr = make_ehr()
    url = manifest(ehr)["output"][0]["url"]
    assert requests.get(url, timeout=10).status_code == 401
    ehr.sandbox.quirks.export_open_files = True
    told = manifest(ehr)
    assert told["requiresAccessToken"] is False
    assert requests.get(told["output"][0]["url"], timeout=10).status_code == 200


def test_an_export_that_is_over_is_not_there(make_ehr):
    ehr = make_ehr()
    place = asked(ehr).headers["Content-Location"]
    token = ehr.backend_token()
    assert ehr.fhir("DELETE", place, token).status_code == 202
    assert ehr.fhir("GET", place, token).status_code == 404


def test_each_quirk_does_what_it_says(make_ehr):
    ehr = make_ehr()
    quirks, token = ehr.sandbox.quirks, ehr.backend_token()
    urls = {one["type"]: one["url"] for one in manifest(ehr)["output"]}

    def status(type_: str = "Patient") -> int:
        return ehr.fhir("GET", urls[type_], token).status_code

    quirks.export_missing = "Encounter"
    assert (status("Encounter"), status()) == (404, 200)
    quirks.export_last_files = 2
    assert [status(), status(), status()] == [200, 410, 410]
    quirks.export_last_files = 0
    quirks.export_breaks = 1
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        status()
    assert status() == 200
    quirks.export_cut_off = "Patient"
    *_, last = ehr.fhir("GET", urls["Patient"], token).text.splitlines()
    with pytest.raises(json.JSONDecodeError):
        json.loads(last)
    quirks.export_links_over = True
    assert status() == 410
    quirks.export_elsewhere = quirks.export_errors = True
    told = manifest(ehr)
    assert told["output"][0]["url"].startswith("https://files.elsewhere.example/")
    assert told["error"][0]["type"] == "OperationOutcome"
    quirks.export_busy = 1
    place = asked(ehr).headers["Content-Location"]
    assert [ehr.fhir("GET", place, token).status_code for _ in range(3)] == [429, 202, 200]
    quirks.export_fails = True
    assert ehr.fhir("GET", asked(ehr).headers["Content-Location"], token).status_code == 500
    quirks.no_export = True
    assert asked(ehr).status_code == 404
