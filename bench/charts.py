"""Synthetic charts of one patient: a year of home readings, and the encounters around them."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from bench.observations import DAYS, FIRST_DAY, ZONE, Resource, device_id, line, observation_lines
from fhir_mappings.chart import Chart
from fhir_mappings.terminology import Terminology, load_terminology

AS_OF = date(2026, 4, 15)
PATIENT = "synthetic-patient-00000"
"""Occurs nowhere but where the patient is meant, so that one text can be made another patient's."""

_MDC = "urn:iso:std:iso:11073:10101"
_NUCC = "http://nucc.org/provider-taxonomy"
_VISIT = "urn:synthetic:visit"
_DEVICES = {"cuff": "528391", "scale": "528399", "oximeter": "528388"}
_STAFF = {"synthetic-nurse": "163W00000X", "synthetic-physician": "207Q00000X"}

SITE: dict[str, Any] = {
    "timezone": ZONE.key,
    "payer": "medicare",
    "terminology": {
        "encounters": [
            {"system": _VISIT, "code": "RPM-CALL", "activity": "phone-call", "program": "rpm"},
            {"system": _VISIT, "code": "RPM-REVIEW", "activity": "data-review", "program": "rpm"},
            {"system": _VISIT, "code": "RPM-SETUP", "activity": "setup-education", "program": "rpm"},
            {"system": _VISIT, "code": "OFFICE-VISIT", "activity": "visit", "program": "any"},
        ],
        "staff": [
            {"system": _NUCC, "code": "163W00000X", "role": "clinical-staff"},
            {"system": _NUCC, "code": "207Q00000X", "role": "physician"},
        ],
    },
}
"""The site file under which these charts are read; as JSON it is YAML too."""


def terminology() -> Terminology:
    return load_terminology(SITE["terminology"])


def new_chart(known: Terminology, lines: Iterable[bytes]) -> Chart:
    """A chart of these resources, added one at a time."""
    chart = Chart(known, ZONE, AS_OF)
    add = chart.add
    for text in lines:
        add(text)
    return chart


def chart_lines(
    readings: int, encounters: int = 200, patient: str = PATIENT, seed: int = 0
) -> Iterator[bytes]:
    """NDJSON lines: one Patient, three Devices, two Practitioners, Observations and Encounters."""
    yield line({"resourceType": "Patient", "id": patient, "name": [{"family": "Synthetic"}]})
    for name, code in _DEVICES.items():
        yield line(_device(name, code, patient))
    for name, code in _STAFF.items():
        yield line(_practitioner(name, code))
    yield from observation_lines(readings, patient, seed)
    for number in range(encounters):
        yield line(_encounter(number, encounters, patient))


def of_another(lines: Sequence[bytes], number: int) -> list[bytes]:
    """The same resources, of another patient."""
    name = f"synthetic-patient-{number:05d}".encode()
    return b"".join(lines).replace(PATIENT.encode(), name).splitlines(keepends=True)


def pages(lines: Sequence[bytes], size: int) -> list[bytes]:
    """The same resources as searchset Bundles of `size` entries, as a FHIR server sends them."""
    return [_page(lines[first : first + size]) for first in range(0, len(lines), size)]


def _page(lines: Sequence[bytes]) -> bytes:
    entries = b",".join(
        b'{"fullUrl":"https://ehr.invalid/fhir/%s","resource":%s,"search":{"mode":"match"}}'
        % (_name(text), text.rstrip())
        for text in lines
    )
    return b'{"resourceType":"Bundle","type":"searchset","entry":[%s]}' % entries


def _name(text: bytes) -> bytes:
    """`Type/id`: they stand first in every line that is made here."""
    parts = text.split(b'"', 8)
    return parts[3] + b"/" + parts[7]


def _device(name: str, code: str, patient: str) -> Resource:
    return {
        "resourceType": "Device",
        "id": device_id(name, patient),
        "udiCarrier": [{"deviceIdentifier": f"synthetic-{name}"}],
        "status": "active",
        "deviceName": [{"name": f"Synthetic {name}", "type": "user-friendly-name"}],
        "type": {"coding": [{"system": _MDC, "code": code}]},
        "patient": {"reference": f"Patient/{patient}"},
    }


def _practitioner(name: str, code: str) -> Resource:
    return {
        "resourceType": "Practitioner",
        "id": name,
        "name": [{"family": "Synthetic"}],
        "qualification": [{"code": {"coding": [{"system": _NUCC, "code": code}]}}],
    }


def _encounter(number: int, of: int, patient: str) -> Resource:
    """A set-up first, then calls and reviews; every twentieth is a visit."""
    chance = random.Random(f"encounter {number}")
    code = _code_of(number)
    day = FIRST_DAY + timedelta(days=number * DAYS // of)
    start = datetime.combine(day, time(9), ZONE) + timedelta(seconds=chance.randrange(8 * 3600))
    end = start + timedelta(seconds=180 + chance.randrange(600))
    staff = "synthetic-physician" if code == "OFFICE-VISIT" else "synthetic-nurse"
    return {
        "resourceType": "Encounter",
        "id": f"synthetic-encounter-{number:07d}",
        "meta": {"versionId": "1", "lastUpdated": end.astimezone(UTC).isoformat(timespec="milliseconds")},
        "status": "finished",
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "VR"},
        "type": [{"coding": [{"system": _VISIT, "code": code, "display": f"Synthetic {code}"}]}],
        "subject": {"reference": f"Patient/{patient}"},
        "participant": [{"individual": {"reference": f"Practitioner/{staff}"}}],
        "period": {"start": start.isoformat(), "end": end.isoformat()},
    }


def _code_of(number: int) -> str:
    if number == 0:
        return "RPM-SETUP"
    if number % 20 == 19:
        return "OFFICE-VISIT"
    return "RPM-CALL" if number % 3 == 0 else "RPM-REVIEW"
