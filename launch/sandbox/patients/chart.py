"""One synthetic chart, written resource by resource.

Days are local days of the site; every time of day carries its offset. Ids, values and times follow from the
seed and the patient's id alone.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from datetime import date, datetime, time, timedelta
from typing import Any

from launch.sandbox.config import ZONE
from launch.sandbox.patients.codes import (
    ACT_CODE,
    CBT_APP,
    CPT,
    CUFF,
    DEVICE,
    EXERCISE_APP,
    ICD10,
    INHALER,
    LOINC,
    OBSERVATION_CATEGORY,
    DeviceKind,
    Visit,
    coding,
    concept,
    quantity,
    visit_type,
)
from launch.sandbox.patients.staff import PAYER, PRACTICE, THERAPIST, Person

Resource = dict[str, Any]


class Chart:
    """A chart in the making; ``resources`` is what it holds so far."""

    def __init__(self, id_: str, number: int, family: str, as_of: date, seed: int) -> None:
        self.id = id_
        self.as_of = as_of
        self.random = random.Random(f"{seed} {id_}")  # noqa: S311 - synthetic data, not a secret
        self.resources: list[Resource] = []
        self._count = 0
        self.subject = {"reference": f"Patient/{id_}"}
        self.add(
            "Patient",
            identifier=[{"system": "urn:sandbox:mrn", "value": f"SYN-{number:04d}"}],
            active=True,
            name=[{"family": f"Synthetic-{family}", "given": ["Patient"]}],
            gender=("female", "male")[number % 2],
            birthDate=f"{1940 + number * 3}-0{number % 9 + 1}-15",
            id=id_,
        )

    def add(self, type_: str, **content: Any) -> Resource:
        """A resource of this chart, under the next id unless ``id`` says otherwise."""
        self._count += 1
        id_ = content.pop("id", f"{self.id}-{self._count:05d}")
        resource = {"resourceType": type_, "id": id_, **content}
        self.resources.append(resource)
        return resource

    def moment(self, day: date, hour: int = 8, minute: int = 0, second: int = 0) -> datetime:
        """A local time of the site."""
        return datetime.combine(day, time(hour, minute, second), ZONE)

    # --- who and why ------------------------------------------------------------------------------------

    def enrol(
        self, start: date, program: str, who: Person, condition: tuple[str, str], device_code: str
    ) -> None:
        """What stands in the chart of somebody whose monitoring was ordered and agreed to.

        A therapist works under a plan of care; others are not asked for one.
        """
        code, label = condition
        problem = self.add(
            "Condition",
            clinicalStatus=concept(
                coding("http://terminology.hl7.org/CodeSystem/condition-clinical", "active", "active")
            ),
            verificationStatus=concept(
                coding("http://terminology.hl7.org/CodeSystem/condition-ver-status", "confirmed", "confirmed")
            ),
            category=[
                concept(
                    coding(
                        "http://terminology.hl7.org/CodeSystem/condition-category",
                        "problem-list-item",
                        "on the problem list",
                    )
                )
            ],
            code=concept(coding(ICD10, code, label)),
            subject=self.subject,
            recordedDate=(start - timedelta(days=30)).isoformat(),
        )
        text = {
            "rtm": "Remote therapeutic monitoring",
            "rpm": "Remote physiologic monitoring",
        }[program]
        ordered = coding("urn:sandbox:order", program.upper(), text)
        self.add(
            "ServiceRequest",
            status="active",
            intent="order",
            code={"coding": [ordered, {"system": CPT, "code": device_code}], "text": text},
            subject=self.subject,
            authoredOn=(start - timedelta(days=2)).isoformat(),
            requester={"reference": who.reference},
            reasonReference=[{"reference": f"Condition/{problem['id']}"}],
        )
        if who is THERAPIST:
            self.add(
                "CarePlan",
                status="active",
                intent="plan",
                title="Plan of care: home exercise",
                subject=self.subject,
                period={"start": start.isoformat()},
                author={"reference": who.reference},
                addresses=[{"reference": f"Condition/{problem['id']}"}],
            )
        self.add(
            "EpisodeOfCare",
            status="active",
            type=[concept(coding("urn:sandbox:episode", program.upper(), text))],
            diagnosis=[{"condition": {"reference": f"Condition/{problem['id']}"}}],
            patient=self.subject,
            managingOrganization={"reference": PRACTICE},
            period={"start": start.isoformat()},
            careManager={"reference": who.reference},
        )
        self.add(
            "Consent",
            status="active",
            scope=concept(
                coding("http://terminology.hl7.org/CodeSystem/consentscope", "treatment", "treatment")
            ),
            category=[concept(ordered)],
            patient=self.subject,
            dateTime=start.isoformat(),
            policyRule={"text": "Verbal consent to monitoring, noted by the practice"},
        )

    def cover(self) -> None:
        """Coverage and account."""
        self.add(
            "Coverage",
            status="active",
            beneficiary=self.subject,
            subscriberId=f"SYN-{self.id}".upper(),
            payor=[{"reference": PAYER}],
        )
        self.add(
            "Account",
            status="active",
            type=concept(coding(ACT_CODE, "PBILLACCT", "patient billing account")),
            name="Synthetic account",
            subject=[self.subject],
            owner={"reference": PRACTICE},
        )

    def device(self, kind: DeviceKind, **other: Any) -> str:
        """A device of this patient; its reference."""
        device = self.add(
            "Device",
            identifier=[{"system": DEVICE, "value": f"{self.id}-{self._count}"}],
            udiCarrier=[{"deviceIdentifier": f"SYN-UDI-{self.id}-{self._count}"}],
            status="active",
            manufacturer="Synthetic Devices",
            deviceName=[{"name": kind.name, "type": "user-friendly-name"}],
            type=kind.type,
            patient=self.subject,
            **other,
        )
        return f"Device/{device['id']}"

    # --- what was measured ------------------------------------------------------------------------------

    def reading(self, kind: DeviceKind, device: str | None, at: datetime, /, **other: Any) -> Resource:
        """One reading of a device at a local time."""
        content: Resource = {
            "status": "final",
            "category": [
                concept(coding(OBSERVATION_CATEGORY, kind.category, kind.category.replace("-", " ")))
            ],
            "code": kind.code,
            "subject": self.subject,
            "effectiveDateTime": at.isoformat(),
            "issued": (at + timedelta(minutes=5)).isoformat(),
            **self._value(kind),
        }
        if device:
            content["device"] = {"reference": device}
        content.update(other)
        content = {name: value for name, value in content.items() if value is not None}
        return self.add("Observation", **content)

    def _value(self, kind: DeviceKind) -> Resource:
        if kind is CUFF:
            parts = (("8480-6", "Systolic", 118, 152), ("8462-4", "Diastolic", 70, 94))
            return {
                "component": [
                    {
                        "code": concept(coding(LOINC, code, label)),
                        "valueQuantity": quantity(self.random.randint(low, high), "mmHg", "mm[Hg]"),
                    }
                    for code, label, low, high in parts
                ]
            }
        if kind is INHALER:
            return {"valueQuantity": quantity(self.random.randint(1, 4), "puffs", "{puff}")}
        if kind in (EXERCISE_APP, CBT_APP):
            return {"valueQuantity": quantity(self.random.randint(8, 30), "min", "min")}
        return {"valueQuantity": quantity(self.random.randint(90, 99), "%", "%")}

    def readings(self, kind: DeviceKind, device: str, days: Iterable[date]) -> None:
        """One to three readings on each of these days."""
        for day in days:
            for hour in sorted(self.random.sample((7, 8, 12, 18, 21), self.random.randint(1, 3))):
                self.reading(kind, device, self.moment(day, hour, self.random.randint(0, 59)))

    def days(self, start: date, length: int, count: int) -> list[date]:
        """``count`` of the ``length`` days from ``start``; the first is always among them."""
        chosen = self.random.sample(range(1, length), count - 1)
        return [start + timedelta(days=offset) for offset in sorted([0, *chosen])]

    # --- who was talked to, and for how long ------------------------------------------------------------

    def visit(
        self, visit: Visit, who: Person, start: datetime, minutes: float, class_: str = "VR", **other: Any
    ) -> Resource:
        """A finished encounter of so many minutes."""
        end = start + timedelta(minutes=minutes)
        period = {"start": start.isoformat(), "end": end.isoformat()}
        content: Resource = {
            "status": "finished",
            "class": coding(
                ACT_CODE, class_, {"VR": "virtual", "IMP": "inpatient"}.get(class_, "ambulatory")
            ),
            "type": [visit_type(visit)],
            "subject": self.subject,
            "participant": [
                {"individual": {"reference": who.reference, "display": who.name}, "period": period}
            ],
            "period": period,
            "serviceProvider": {"reference": PRACTICE},
        }
        return self.add("Encounter", **{**content, **other})

    def month_of_management(
        self, call: Visit, review: Visit, caller: Person, reviewer: Person, minutes: Sequence[int]
    ) -> None:
        """Reviews and, last, a call in the last full calendar month; whole minutes of each."""
        first, last = last_full_month(self.as_of)
        *reviews, talk = minutes
        for number, length in enumerate(reviews):
            self.visit(review, reviewer, self.moment(first + timedelta(days=4 + 6 * number), 10, 15), length)
        self.visit(call, caller, self.moment(last - timedelta(days=3), 16, 30), talk)

    def charge(self, code: str, start: date, end: date, status: str = "billed") -> Resource:
        """A charge that the EHR holds already."""
        return self.add(
            "ChargeItem",
            identifier=[{"system": "urn:sandbox:billing", "value": f"{self.id}-{code}-{start}"}],
            status=status,
            code={"coding": [{"system": CPT, "code": code}]},
            subject=self.subject,
            occurrencePeriod={"start": start.isoformat(), "end": end.isoformat()},
            quantity={"value": 1},
            enteredDate=self.moment(end, 17).isoformat(),
        )


def last_full_month(as_of: date) -> tuple[date, date]:
    """First and last day of the last calendar month that is over on ``as_of``."""
    last = as_of.replace(day=1) - timedelta(days=1)
    return last.replace(day=1), last
