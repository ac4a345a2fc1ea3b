"""The codings of the synthetic charts: widespread systems, and the site's own (declared in site.yaml).

Labels are our own words.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

LOINC = "http://loinc.org"
MDC = "urn:iso:std:iso:11073:10101"
ICD10 = "http://hl7.org/fhir/sid/icd-10-cm"
NUCC = "http://nucc.org/provider-taxonomy"
ACT_CODE = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
OBSERVATION_CATEGORY = "http://terminology.hl7.org/CodeSystem/observation-category"
UCUM = "http://unitsofmeasure.org"
CPT = "http://www.ama-assn.org/go/cpt"
FLOWSHEET = "urn:sandbox:flowsheet"
DEVICE = "urn:sandbox:device"
VISIT = "urn:sandbox:visit"


class Visit(StrEnum):
    """The site's own visit types."""

    RTM_CALL = "RTM-CALL"
    RTM_VIDEO = "RTM-VIDEO"
    RTM_REVIEW = "RTM-REVIEW"
    RTM_SETUP = "RTM-SETUP"
    RPM_CALL = "RPM-CALL"
    RPM_REVIEW = "RPM-REVIEW"
    RPM_SETUP = "RPM-SETUP"
    MESSAGE = "PORTAL-MESSAGE"
    OFFICE = "OFFICE-VISIT"
    INPATIENT = "INPATIENT-STAY"


_VISIT_LABEL = {
    Visit.RTM_CALL: "Therapy monitoring: phone call",
    Visit.RTM_VIDEO: "Therapy monitoring: video call",
    Visit.RTM_REVIEW: "Therapy monitoring: review of data",
    Visit.RTM_SETUP: "Therapy monitoring: set-up and teaching",
    Visit.RPM_CALL: "Physiologic monitoring: phone call",
    Visit.RPM_REVIEW: "Physiologic monitoring: review of data",
    Visit.RPM_SETUP: "Physiologic monitoring: set-up and teaching",
    Visit.MESSAGE: "Portal message",
    Visit.OFFICE: "Office visit",
    Visit.INPATIENT: "Stay in hospital",
}


def coding(system: str, code: str, display: str) -> dict[str, str]:
    """A Coding."""
    return {"system": system, "code": code, "display": display}


def concept(*codings: dict[str, str]) -> dict[str, Any]:
    """A CodeableConcept whose text is its last coding's label."""
    return {"coding": list(codings), "text": codings[-1]["display"]}


def quantity(value: float, unit: str, code: str) -> dict[str, Any]:
    """A Quantity in UCUM."""
    return {"value": value, "unit": unit, "system": UCUM, "code": code}


@dataclass(frozen=True)
class DeviceKind:
    """One kind of monitoring device: its codings, and the reading it sends."""

    name: str
    type: dict[str, Any]
    category: str
    code: dict[str, Any]


INHALER = DeviceKind(
    "Synthetic inhaler sensor",
    concept(coding(DEVICE, "inhaler-sensor", "Inhaler sensor")),
    "therapy",
    concept(coding(FLOWSHEET, "INH", "Inhaler use")),
)
EXERCISE_APP = DeviceKind(
    "Synthetic home exercise app",
    concept(coding(DEVICE, "home-exercise-app", "Home exercise app")),
    "activity",
    concept(coding(FLOWSHEET, "HEP", "Home exercise done")),
)
CBT_APP = DeviceKind(
    "Synthetic cognitive behavioural therapy app",
    concept(coding(DEVICE, "cbt-app", "Cognitive behavioural therapy app")),
    "therapy",
    concept(coding(FLOWSHEET, "CBT", "Therapy module done")),
)
CUFF = DeviceKind(
    "Synthetic blood pressure cuff",
    concept(
        coding(MDC, "528391", "Blood pressure monitor"),
        coding(DEVICE, "bp-cuff", "Home blood pressure cuff"),
    ),
    "vital-signs",
    concept(
        coding(LOINC, "85354-9", "Blood pressure, both values"),
        coding(FLOWSHEET, "BP-HOME", "Home blood pressure"),
    ),
)
OXIMETER = DeviceKind(
    "Synthetic pulse oximeter",
    concept(coding(MDC, "528388", "Pulse oximeter"), coding(DEVICE, "pulse-oximeter", "Home pulse oximeter")),
    "vital-signs",
    concept(
        coding(LOINC, "59408-5", "Oxygen saturation by pulse oximetry"),
        coding(FLOWSHEET, "SPO2-HOME", "Home oxygen saturation"),
    ),
)


def visit_type(visit: Visit) -> dict[str, Any]:
    """Encounter.type of a visit of the site."""
    return concept(coding(VISIT, visit, _VISIT_LABEL[visit]))
