"""A crowd of synthetic patients, made while they are read and stored nowhere: so many that a disk need not
hold them.

Who they are and what they measured follows from the seed, the patient's number and the day; so whoever asks
again a day later finds the same, and that day's readings beside it.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from typing import Any

from launch.sandbox.config import ZONE
from launch.sandbox.patients.codes import CUFF, LOINC, NUCC, OBSERVATION_CATEGORY, coding, concept

TYPES = ("Patient", "Device", "Observation", "Encounter", "Practitioner")
SHARED = frozenset({"Practitioner"})
"""What belongs to no patient."""
_A_NURSE = 40
"""Patients of one nurse, whom no two of them keep at the same time."""
_NOTED_AFTER = timedelta(minutes=5)
_WITHDRAWN = 37
"""One reading of so many is taken back a day after it was noted."""
_READING = (
    '{"resourceType":"Observation","id":"%s","meta":{"lastUpdated":"%s"},"status":"final","category":%s,'
    '"code":%s,"subject":{"reference":"Patient/%s"},"effectiveDateTime":"%s",'
    '"device":{"reference":"Device/%s-cuff"},"component":[{"code":%s,"valueQuantity":{"value":%d,'
    '"unit":"mmHg","system":"http://unitsofmeasure.org","code":"mm[Hg]"}},{"code":%s,"valueQuantity":'
    '{"value":%d,"unit":"mmHg","system":"http://unitsofmeasure.org","code":"mm[Hg]"}}]}\n'
)


@dataclass(frozen=True)
class Crowd:
    """So many patients, monitored from the day `since` on."""

    patients: int
    since: date
    seed: int = 1

    def lines(self, type_: str, numbers: range, after: datetime | None, until: datetime) -> Iterator[bytes]:
        """NDJSON lines of a type, of these patients: what stands there at `until`, noted after `after`."""
        if type_ == "Observation":
            for number in numbers:
                yield from self._readings(number, after, until)
            return
        for resource in self._resources(type_, numbers, until):
            updated = datetime.fromisoformat(resource["meta"]["lastUpdated"])
            if updated <= until and (after is None or updated > after):
                yield json.dumps(resource, separators=(",", ":")).encode() + b"\n"

    def withdrawn(self, numbers: range, after: datetime, until: datetime) -> Iterator[str]:
        """References of what went between these moments."""
        for number in numbers:
            for id_, _, noted, *_ in self._measured(number, until):
                gone = _gone(id_, noted)
                if gone is not None and noted <= after < gone <= until:
                    yield f"Observation/{id_}"

    def _readings(self, number: int, after: datetime | None, until: datetime) -> Iterator[bytes]:
        patient = _patient(number)
        category, code, upper, lower = self._codes
        for id_, at, noted, high, low in self._measured(number, until):
            gone = _gone(id_, noted)
            if (after is not None and noted <= after) or (gone is not None and gone <= until):
                continue
            told = (
                id_,
                _instant(noted),
                category,
                code,
                patient,
                at.isoformat(),
                patient,
                upper,
                high,
                lower,
                low,
            )
            yield (_READING % told).encode()

    @cached_property
    def _codes(self) -> tuple[str, ...]:
        category = concept(coding(OBSERVATION_CATEGORY, CUFF.category, CUFF.category.replace("-", " ")))
        parts = (concept(coding(LOINC, *part)) for part in (("8480-6", "Systolic"), ("8462-4", "Diastolic")))
        return tuple(json.dumps(one) for one in ([category], CUFF.code, *parts))

    def _measured(self, number: int, until: datetime) -> Iterator[tuple[str, datetime, datetime, int, int]]:
        """Id, moment, when it was noted, and the two values of each reading noted by then."""
        chance = random.Random(f"{self.seed} crowd {number}")  # noqa: S311 - synthetic data, not a secret
        measures = chance.choice((0.3, 0.55, 0.8, 0.95))
        patient = _patient(number)
        for day in range((until.date() - self.since).days + 2):
            # As many draws each day, whatever comes of them.
            drawn, minute, high, low = (chance.random() for _ in range(4))
            if drawn >= measures:
                continue
            at = self._moment(self.since + timedelta(days=day), 7, int(minute * 120))
            noted = at + _NOTED_AFTER
            if noted > until:
                return
            yield f"{patient}-r{day:04d}", at, noted, 118 + int(high * 35), 70 + int(low * 25)

    def _resources(self, type_: str, numbers: range, until: datetime) -> Iterator[dict[str, Any]]:
        if type_ == "Practitioner":
            # Told with the first of their patients.
            for number in numbers:
                if not number % _A_NURSE:
                    yield self._nurse(number)
            return
        for number in numbers:
            if type_ == "Patient":
                yield self._person(number)
            elif type_ == "Device":
                yield self._cuff(number)
            else:
                yield from self._calls(number, until)

    def _begun(self) -> dict[str, str]:
        return {"lastUpdated": _instant(self._moment(self.since, 6))}

    def _person(self, number: int) -> dict[str, Any]:
        return {
            "resourceType": "Patient",
            "id": _patient(number),
            "meta": self._begun(),
            "identifier": [{"system": "urn:sandbox:mrn", "value": f"SYN-CROWD-{number:06d}"}],
            "name": [{"family": f"Synthetic-Crowd-{number:06d}", "given": ["Patient"]}],
            "gender": ("female", "male")[number % 2],
            "birthDate": f"{1935 + number % 50}-06-15",
        }

    def _cuff(self, number: int) -> dict[str, Any]:
        return {
            "resourceType": "Device",
            "id": f"{_patient(number)}-cuff",
            "meta": self._begun(),
            "udiCarrier": [{"deviceIdentifier": f"SYN-UDI-CROWD-{number:06d}"}],
            "status": "active",
            "manufacturer": "Synthetic Devices",
            "type": CUFF.type,
            "patient": {"reference": f"Patient/{_patient(number)}"},
        }

    def _nurse(self, number: int) -> dict[str, Any]:
        return {
            "resourceType": "Practitioner",
            "id": _nurse(number),
            "meta": self._begun(),
            "name": [{"family": f"Synthetic-Nurse-{number // _A_NURSE:04d}"}],
            "qualification": [{"code": concept(coding(NUCC, "163W00000X", "Registered nurse"))}],
        }

    def _calls(self, number: int, until: datetime) -> Iterator[dict[str, Any]]:
        """A call a month, at an hour that is this patient's among those of the nurse."""
        place = number % _A_NURSE
        first = self.since.replace(day=1)
        while first <= until.date():
            day = first.replace(day=3 + place % 20)
            at = self._moment(day, 10 + 4 * (place // 20))
            if day >= self.since:
                period = {
                    "start": at.isoformat(),
                    "end": (at + timedelta(minutes=15 + number % 12)).isoformat(),
                }
                yield {
                    "resourceType": "Encounter",
                    "id": f"{_patient(number)}-c{day:%y%m}",
                    "meta": {"lastUpdated": _instant(at + timedelta(hours=1))},
                    "status": "finished",
                    "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "VR"},
                    "type": [
                        concept(coding("urn:sandbox:visit", "RPM-CALL", "Physiologic monitoring: phone call"))
                    ],
                    "subject": {"reference": f"Patient/{_patient(number)}"},
                    "participant": [{"individual": {"reference": f"Practitioner/{_nurse(number)}"}}],
                    "period": period,
                }
            first = (first + timedelta(days=32)).replace(day=1)

    @staticmethod
    def _moment(day: date, hour: int, minute: int = 0) -> datetime:
        return datetime(day.year, day.month, day.day, hour, tzinfo=ZONE) + timedelta(minutes=minute)


def _patient(number: int) -> str:
    return f"syn-crowd-{number:06d}"


def _nurse(number: int) -> str:
    return f"syn-crowd-nurse-{number // _A_NURSE:04d}"


def _gone(id_: str, noted: datetime) -> datetime | None:
    """When a reading was taken back; None for most."""
    number = int(id_[-11:-6]) * 31 + int(id_[-4:])
    return noted + timedelta(days=1) if not number % _WITHDRAWN else None


def _instant(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
