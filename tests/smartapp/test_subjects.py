"""Whose a resource is: this patient's only if each element that names a patient names exactly it."""

from __future__ import annotations

import json

import pytest

from smartapp.ehr.wire.looks import look, names_another_patient
from smartapp.ehr.wire.patient_scope import SUBJECT_FREE, Whose

BASE = "https://ehr.example/fhir"
OURS = {"reference": "Patient/p1"}
THEIRS = {"reference": "Patient/p2"}


def judged(type_: str, **elements: object) -> Whose:
    resource = {"resourceType": type_, "id": "r1", **elements}
    return look(json.dumps(resource).encode()).whose("p1", BASE)


@pytest.mark.parametrize(
    "reference",
    [
        "Patient/p1",
        "Patient/p1/_history/3",
        f"{BASE}/Patient/p1",
        f"{BASE}/Patient/p1/_history/3",
        "HTTPS://EHR.example:443/fhir/Patient/p1",
    ],
)
def test_every_way_to_name_this_patient_is_understood(reference: str) -> None:
    assert judged("Observation", subject={"reference": reference}) is Whose.OURS


@pytest.mark.parametrize(
    "reference",
    [
        "Patient/p2",
        "Patient/p2/_history/3",
        "/Patient/p2",
        "./Patient/p2",
        "p2",
        "patient/p2",
        "Patient/P1",
        "Patient/p1 ",
        "Patient/p1/",
        "Patient/p1?x=1",
        "Patient/p1/_history/1/_history/2",
        "Patient?identifier=x",
        f"{BASE}/Patient/p2",
        f"{BASE}/../fhir/Patient/p2",
        f"{BASE}//Patient/p1",
        "HTTPS://EHR.EXAMPLE/fhir/Patient/p2",
        "https://other.example/fhir/Patient/p1",
        "http://ehr.example/fhir/Patient/p1",
        "https://ehr.example/fhir2/Patient/p1",
        "https://u@ehr.example/fhir/Patient/p1",
        "ftp://ehr.example/Patient/p1",
        "javascript:Patient/p1",
    ],
)
def test_whatever_names_another_patient_or_this_one_oddly_is_foreign(reference: str) -> None:
    for subject in ({"reference": reference}, [{"reference": reference}], [OURS, {"reference": reference}]):
        for type_ in ("Observation", "Account", "Condition", "Encounter", "ChargeItem", "Device"):
            assert judged(type_, subject=subject) is Whose.FOREIGN, subject
            assert judged(type_, patient=subject) is Whose.FOREIGN
            assert judged(type_, beneficiary=subject) is Whose.FOREIGN


@pytest.mark.parametrize("odd", [{"participant": "x"}, {"device": []}, {"meta": 1}, {"source": 5}, {"id": 7}])
def test_an_odd_shape_elsewhere_hides_no_subject(odd: dict[str, object]) -> None:
    assert judged("Encounter", **{"subject": THEIRS, **odd}) is Whose.FOREIGN
    assert judged("Encounter", **{"subject": OURS, **odd}) is Whose.OURS


def test_a_subject_that_is_a_list_is_read_as_one() -> None:
    assert judged("Account", subject=[OURS]) is Whose.OURS
    assert judged("Account", subject=[OURS, THEIRS]) is Whose.FOREIGN
    assert judged("Account", subject=[OURS, {"reference": "Device/d"}]) is Whose.OPEN
    assert judged("Account", subject=[]) is Whose.UNREADABLE


@pytest.mark.parametrize(
    "subject",
    ["nonsense", 5, True, {}, {"display": "Somebody"}, {"reference": 5}, {"reference": ""}, [[OURS]], ["p1"]],
)
def test_a_subject_of_odd_shape_is_unreadable_and_never_this_patients(subject: object) -> None:
    assert judged("Observation", subject=subject) is Whose.UNREADABLE
    assert judged("Account", subject=[OURS, subject]) is Whose.UNREADABLE
    assert judged("Observation", subject=subject, patient=THEIRS) is Whose.FOREIGN


@pytest.mark.parametrize(
    "subject",
    [
        {"reference": "Device/d1"},
        {"reference": f"{BASE}/Group/g1"},
        {"reference": "#p"},
        {"reference": "urn:uuid:53fefa32-fcbb-4ff8-8a92-55ee120877b7"},
        {"type": "Patient", "identifier": {"system": "urn:mrn", "value": "7"}},
    ],
)
def test_what_only_the_mapping_can_follow_is_left_to_it(subject: object) -> None:
    assert judged("Observation", subject=subject) is Whose.OPEN


def test_a_type_that_must_name_a_patient_and_does_not_is_unreadable() -> None:
    for type_ in ("Observation", "Condition", "Account", "Encounter", "ChargeItem", "Coverage", "Bundle", ""):
        assert judged(type_) is Whose.UNREADABLE
    for type_ in SUBJECT_FREE:
        assert judged(type_) is Whose.NOBODYS


def test_a_device_that_names_a_patient_is_that_patients() -> None:
    assert judged("Device", patient=OURS) is Whose.OURS
    assert judged("Device", patient=THEIRS) is Whose.FOREIGN


@pytest.mark.parametrize("logical_id", ["p2", 2, None, ["p1"], "P1"])
def test_only_the_patient_of_the_session_is_a_patient(logical_id: object) -> None:
    seen = look(json.dumps({"resourceType": "Patient", "id": logical_id}).encode())
    assert names_another_patient(seen, "p1", BASE)
    assert not names_another_patient(look(b'{"resourceType": "Patient", "id": "p1"}'), "p1", BASE)
