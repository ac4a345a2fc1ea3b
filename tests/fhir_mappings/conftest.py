from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from fhir_mappings.chart import Chart
from fhir_mappings.record import PatientRecord
from fhir_mappings.terminology import Terminology, load_terminology

Resource = dict[str, Any]
ReadChart = Callable[..., PatientRecord]

FLOWSHEET = "urn:clinic:flowsheet"
MDC = "urn:iso:std:iso:11073:10101"


@pytest.fixture(scope="session")
def terminology() -> Terminology:
    return load_terminology(
        {
            "observations": [
                {
                    "system": FLOWSHEET,
                    "code": "HEP",
                    "line": "musculoskeletal",
                    "source": "patient-reported",
                },
                {"system": FLOWSHEET, "code": "CUFF", "line": "physiologic", "source": "device"},
            ],
            "encounters": [
                {"system": "urn:clinic:visit", "code": "CALL", "activity": "phone-call", "program": "rtm"}
            ],
        }
    )


@pytest.fixture
def chart(terminology: Terminology) -> Callable[..., Chart]:
    """A chart of these resources, New York, as of 2026-04-01."""

    site = terminology

    def build(
        *resources: Resource | bytes, base: str | None = None, terminology: Terminology | None = None
    ) -> Chart:
        found = Chart(terminology or site, ZoneInfo("America/New_York"), date(2026, 4, 1), base=base)
        for position, resource in enumerate(resources):
            text = resource if isinstance(resource, bytes) else json.dumps(resource).encode()
            found.add(text, None, f"line {position + 1}")
        return found

    return build


@pytest.fixture
def read(chart: Callable[..., Chart]) -> ReadChart:
    """The record of the one patient p1 in these resources."""

    def record(*resources: Resource | bytes, base: str | None = None) -> PatientRecord:
        patient = {"resourceType": "Patient", "id": "p1"}
        return chart(patient, *resources, base=base).record("Patient/p1")

    return record


@pytest.fixture
def blood_pressure() -> Callable[..., Resource]:
    """A home blood pressure of p1; keyword arguments replace elements (None removes one)."""

    def build(id: str = "bp", **changes: Any) -> Resource:
        resource: Resource = {
            "resourceType": "Observation",
            "id": id,
            "status": "final",
            "code": {"coding": [{"system": "http://loinc.org", "code": "85354-9"}]},
            "subject": {"reference": "Patient/p1"},
            "effectiveDateTime": "2026-03-05T08:00:00-05:00",
            "component": [{"valueQuantity": {"value": 120}}, {"valueQuantity": {"value": 80}}],
            "device": {"reference": "Device/cuff"},
            **changes,
        }
        return {key: value for key, value in resource.items() if value is not None}

    return build


@pytest.fixture
def cuff() -> Callable[..., Resource]:
    def build(id: str = "cuff", **changes: Any) -> Resource:
        resource = {
            "resourceType": "Device",
            "id": id,
            "type": {"coding": [{"system": MDC, "code": "528391"}]},
            "patient": {"reference": "Patient/p1"},
            **changes,
        }
        return {key: value for key, value in resource.items() if value is not None}

    return build
