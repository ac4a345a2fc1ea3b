"""Where an Encounter's class says that the patient was (D26)."""

from __future__ import annotations

import pytest

from fhir_mappings.resources import Coding
from fhir_mappings.terminology import load_terminology
from fhir_mappings.vocabulary import Activity, Place

ACT = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
V2 = "http://terminology.hl7.org/CodeSystem/v2-0004"
DSTU2 = "http://hl7.org/fhir/encounter-class"
VENDOR = "urn:oid:1.2.840.114350.1.72.1.7.7.10.696784.13260"


@pytest.mark.parametrize(
    ("class_", "place"),
    [
        *((Coding(ACT, code), Place.FACILITY) for code in ("IMP", "ACUTE", "NONAC", "SS", "EMER", "OBSENC")),
        *((Coding(ACT, code), Place.OUTPATIENT) for code in ("AMB", "PRENC")),
        *((Coding(ACT, code), Place.ELSEWHERE) for code in ("VR", "HH", "FLD")),
        *((Coding(V2, code), Place.FACILITY) for code in "IEB"),
        *((Coding(V2, code), Place.OUTPATIENT) for code in "ORP"),
        (Coding("http://hl7.org/fhir/v3/ActCode", "IMP"), Place.FACILITY),
        (Coding("http://hl7.org/fhir/v2/0004", "I"), Place.FACILITY),
        (Coding(ACT, "imp"), Place.FACILITY),
        (Coding(None, "IMP"), Place.FACILITY),
        (Coding(None, "inpatient"), Place.FACILITY),
        (Coding("", "Inpatient"), Place.FACILITY),
        (Coding(DSTU2, "inpatient"), Place.FACILITY),
        (Coding(DSTU2, "emergency"), Place.FACILITY),
        (Coding(DSTU2, "daytime"), Place.OUTPATIENT),
        (Coding(None, "ambulatory"), Place.OUTPATIENT),
        (Coding(None, "home"), Place.ELSEWHERE),
        (Coding(DSTU2, "other"), Place.UNKNOWN),
        (Coding(V2, "U"), Place.UNKNOWN),
        (Coding(None, "I"), Place.UNKNOWN),
        (Coding(VENDOR, "3"), Place.UNKNOWN),
        (Coding(VENDOR, "IMP"), Place.UNKNOWN),
        (Coding(ACT, None), Place.UNKNOWN),
        (None, Place.UNKNOWN),
    ],
)
def test_a_class_places_the_patient(class_: Coding | None, place: Place) -> None:
    assert load_terminology().place(class_) is place


def test_a_vendors_own_class_means_what_the_site_says() -> None:
    terms = load_terminology(
        {
            "facility_classes": [{"system": VENDOR, "code": "3"}],
            "outpatient_classes": [{"system": VENDOR, "code": "5"}, {"system": ACT, "code": "HH"}],
        }
    )
    assert terms.place(Coding(VENDOR, "3")) is Place.FACILITY
    assert terms.place(Coding(VENDOR, "5")) is Place.OUTPATIENT
    assert terms.place(Coding(VENDOR, "7")) is Place.UNKNOWN
    assert terms.place(Coding(ACT, "HH")) is Place.OUTPATIENT


def test_a_class_cannot_be_of_both_kinds() -> None:
    entry = {"system": VENDOR, "code": "3"}
    with pytest.raises(ValueError, match="3 is listed under facility_classes and under outpatient_classes"):
        load_terminology({"facility_classes": [entry], "outpatient_classes": [entry]})


@pytest.mark.parametrize(
    ("class_", "activity"),
    [
        (Coding(ACT, "VR"), Activity.VIRTUAL),
        (Coding("http://hl7.org/fhir/v3/ActCode", "VR"), Activity.VIRTUAL),
        (Coding(None, "virtual"), Activity.VIRTUAL),
        (Coding(DSTU2, "ambulatory"), Activity.IN_PERSON),
        (Coding(None, "AMB"), Activity.IN_PERSON),
    ],
)
def test_an_older_word_for_a_class_says_the_same_of_the_activity(class_: Coding, activity: Activity) -> None:
    found = load_terminology().encounter([], class_)
    assert found is not None
    assert found.activity is activity
