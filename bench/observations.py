"""Synthetic Observations, the same on every machine: a cuff, a scale and an oximeter at home.

Nothing in them comes from a person, and everything says so: ids, tags and names carry the word "synthetic".
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

Resource = dict[str, Any]

ZONE = ZoneInfo("America/New_York")
FIRST_DAY = date(2025, 4, 1)
DAYS = 365
"""A year over two sets of rules: the codes of 2026 are in force in its last three months."""
ENTERED_IN_ERROR_SHARE = 0.01
MILLISECONDS_SHARE = 0.3

_GATEWAY_ZONE = ZoneInfo("America/Chicago")
_LOINC = "http://loinc.org"
_CATEGORIES = "http://terminology.hl7.org/CodeSystem/observation-category"
_PROFILES = [
    "http://hl7.org/fhir/StructureDefinition/vitalsigns",
    "http://hl7.org/fhir/uv/phd/StructureDefinition/PhdNumericObservation",
]


def observation_lines(readings: int, patient: str, seed: int = 0) -> Iterator[bytes]:
    """NDJSON lines of `readings` Observations, spread evenly over the year."""
    chance = random.Random(f"observations {seed}")
    for number in range(readings):
        yield line(_observation(number, readings, patient, chance))


def line(resource: Resource) -> bytes:
    return json.dumps(resource, separators=(",", ":")).encode() + b"\n"


def _observation(number: int, of: int, patient: str, chance: random.Random) -> Resource:
    device, measure = _KINDS[number % len(_KINDS)]
    when = _waking_moment(FIRST_DAY + timedelta(days=number * DAYS // of), chance)
    in_error = chance.random() < ENTERED_IN_ERROR_SHARE
    return {
        "resourceType": "Observation",
        "id": f"synthetic-{chance.getrandbits(64):016x}",
        "meta": {
            "versionId": "1",
            "lastUpdated": _in_zulu(when + timedelta(minutes=7)),
            "source": "urn:synthetic:gateway",
            "profile": _PROFILES,
            "tag": [{"system": "urn:synthetic:bench", "code": "synthetic", "display": "Nobody's data"}],
        },
        "identifier": [{"system": "urn:synthetic:reading", "value": f"synthetic-{number:07d}"}],
        "status": "entered-in-error" if in_error else "final",
        "category": [_concept(_CATEGORIES, "vital-signs", "Vital Signs")],
        **measure(chance),
        "subject": {"reference": f"Patient/{patient}", "display": "Synthetic Patient"},
        "effectiveDateTime": _as_some_device_writes(when, chance),
        "issued": _in_zulu(when + timedelta(minutes=6)),
        "performer": [{"reference": "Organization/synthetic-clinic", "display": "Synthetic Clinic"}],
        "device": {"reference": f"Device/{device_id(device, patient)}", "display": f"Synthetic {device}"},
    }


def device_id(device: str, patient: str) -> str:
    return f"{patient}-{device}"


# -- what is measured --------------------------------------------------------------------------------------


def _blood_pressure(chance: random.Random) -> Resource:
    return {
        "code": _concept(_LOINC, "85354-9", "Blood pressure panel with all children optional"),
        "component": [
            _part("8480-6", "Systolic blood pressure", 100 + chance.randrange(60), "mmHg", "mm[Hg]"),
            _part("8462-4", "Diastolic blood pressure", 60 + chance.randrange(35), "mmHg", "mm[Hg]"),
        ],
    }


def _weight(chance: random.Random) -> Resource:
    return {
        "code": _concept(_LOINC, "29463-7", "Body weight"),
        "valueQuantity": _quantity(round(60 + chance.random() * 40, 1), "kg", "kg"),
    }


def _oxygen(chance: random.Random) -> Resource:
    return {
        "code": _concept(_LOINC, "59408-5", "Oxygen saturation in Arterial blood by Pulse oximetry"),
        "valueQuantity": _quantity(90 + chance.randrange(10), "%", "%"),
    }


_KINDS: tuple[tuple[str, Callable[[random.Random], Resource]], ...] = (
    ("cuff", _blood_pressure),
    ("scale", _weight),
    ("oximeter", _oxygen),
)


def _concept(system: str, code: str, display: str) -> Resource:
    return {"coding": [{"system": system, "code": code, "display": display}], "text": display}


def _quantity(value: float, unit: str, code: str) -> Resource:
    return {"value": value, "unit": unit, "system": "http://unitsofmeasure.org", "code": code}


def _part(code: str, display: str, value: float, unit: str, ucum: str) -> Resource:
    return {"code": _concept(_LOINC, code, display), "valueQuantity": _quantity(value, unit, ucum)}


# -- when, as devices write it -----------------------------------------------------------------------------


def _waking_moment(day: date, chance: random.Random) -> datetime:
    """Some second between six and eleven, in the patient's zone."""
    return datetime.combine(day, time(), ZONE) + timedelta(seconds=chance.randrange(6 * 3600, 23 * 3600))


def _as_some_device_writes(when: datetime, chance: random.Random) -> str:
    """The patient's offset (half of them), another state's, `Z` or `+00:00`; with milliseconds in 30 %."""
    fraction = f".{chance.randrange(1000):03d}" if chance.random() < MILLISECONDS_SHARE else ""
    style = chance.randrange(6)
    if style == 0:
        return _written(when.astimezone(UTC), fraction, "Z")
    if style == 1:
        return _written(when.astimezone(UTC), fraction)
    if style == 2:
        return _written(when.astimezone(_GATEWAY_ZONE), fraction)
    return _written(when, fraction)


def _in_zulu(when: datetime) -> str:
    return _written(when.astimezone(UTC), ".000", "Z")


def _written(when: datetime, fraction: str, offset: str | None = None) -> str:
    text = when.isoformat()
    return f"{text[:19]}{fraction}{offset or text[19:]}"
