"""Turns the shorthand of a case file into FHIR R4 resources and a site file.

A case tells its chart as a list of one-word events, in any order:

    given:
      - days:   {of: HEP, from: 2026-01-05, count: 15}            # one reading a day
      - call:   {at: "2026-03-10T10:00", for: 12:00, by: physician, program: rtm}
      - charge: {code: 98977, period: [2026-01-05, 2026-02-03]}

Times without an offset are wall-clock times of the practice's zone and get its offset of that day; times with
one are written as they stand. `for` is m:ss or h:mm:ss. Every event takes `raw`, FHIR elements that are laid
over the resource (None removes one), `id`, and `patient` (p1 unless said).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

Resource = dict[str, Any]
Event = Mapping[str, Any]

CPT = "http://www.ama-assn.org/go/cpt"
LOINC = "http://loinc.org"
MDC = "urn:iso:std:iso:11073:10101"
SNOMED = "http://snomed.info/sct"
NUCC = "http://nucc.org/provider-taxonomy"
ACT = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
FLOWSHEET = "urn:clinic:flowsheet"
CLINIC_DEVICE = "urn:clinic:device"
VISIT = "urn:clinic:visit"
JOB = "urn:clinic:job"
DEGREE = "http://terminology.hl7.org/CodeSystem/v2-0360"
CLINICAL = "http://terminology.hl7.org/CodeSystem/condition-clinical"

#: The clinic's flowsheet rows, which the site below declares: the line of each, and who writes it.
ROWS: dict[str, tuple[str, str]] = {
    "HEP": ("musculoskeletal", "patient-reported"),  # home exercise programme, filled in by the patient
    "PUFFS": ("respiratory", "patient-reported"),  # inhaler use
    "MOOD": ("cognitive-behavioral", "patient-reported"),  # therapy diary
    "CUFF-ROW": ("physiologic", "device"),  # a flowsheet row that only cuffs write
    "SWIM": ("other", "patient-reported"),  # a line without a device supply code
}

#: The clinic's kinds of device, which the site below declares, and the line of each.
DEVICE_LINES: dict[str, str] = {
    "bp-cuff": "physiologic",
    "scale": "physiologic",
    "knee-app": "musculoskeletal",
    "inhaler-cap": "respiratory",
    "mood-app": "cognitive-behavioral",
    "pool-sensor": "other",
}

#: What a case calls a reading -> its coding.
CODINGS: dict[str, tuple[str, str]] = {
    **{row: (FLOWSHEET, row) for row in ROWS},
    "BP": (LOINC, "85354-9"),
    "WEIGHT": (LOINC, "29463-7"),
    "PHQ9": (LOINC, "44261-6"),
    "STEPS": (LOINC, "55423-8"),
    "BATTERY": (MDC, "67996"),
}

#: What a case calls a device -> its Device.type. A number behind it (cuff-2) is a second device of that type.
DEVICES: dict[str, tuple[str, str]] = {
    "cuff": (CLINIC_DEVICE, "bp-cuff"),
    **{device: (CLINIC_DEVICE, device) for device in DEVICE_LINES},
    "phone-app": (SNOMED, "706689003"),
    "gateway": (MDC, "531981"),
}

#: What a case calls somebody -> the coding of the role. A number behind it (nurse-2) is a second person.
STAFF: dict[str, tuple[str, str]] = {
    "physician": (NUCC, "207Q00000X"),
    "np": (NUCC, "363L00000X"),
    "pt": (NUCC, "225100000X"),
    "ot": (NUCC, "225X00000X"),
    "slp": (NUCC, "235Z00000X"),
    "pta": (NUCC, "225200000X"),
    "ota": (NUCC, "224Z00000X"),
    "nurse": (NUCC, "163W00000X"),
    "front-desk": (JOB, "FRONT-DESK"),
}

#: What a case calls work -> activity; the site declares one visit coding an activity and program.
ACTIVITIES: dict[str, str] = {
    "call": "phone-call",
    "video": "video-call",
    "review": "data-review",
    "setup": "setup-education",
    "in-person": "in-person",
    "visit": "visit",
    "message": "message",
    "admin": "administrative",
}
PROGRAMS = ("rtm", "rpm", "any", "other")


def site_terminology() -> dict[str, list[dict[str, str]]]:
    """What the clinic of the cases declares: the `terminology` of its site file."""
    return {
        "observations": [
            {"system": FLOWSHEET, "code": code, "line": line, "source": source}
            for code, (line, source) in ROWS.items()
        ],
        "devices": [
            {"system": CLINIC_DEVICE, "code": code, "line": line} for code, line in DEVICE_LINES.items()
        ],
        "encounters": [
            {"system": VISIT, "code": visit_code(word, program), "activity": activity, "program": program}
            for word, activity in ACTIVITIES.items()
            for program in PROGRAMS
        ],
        "staff": [{"system": JOB, "code": "FRONT-DESK", "role": "non-clinical"}],
    }


def visit_code(word: str, program: str) -> str:
    """The clinic's own visit coding of a kind of work: `RTM-CALL`, `RPM-REVIEW`, `ANY-VISIT`."""
    return f"{program}-{word}".upper()


def _coding(called: Mapping[str, tuple[str, str]], word: str) -> tuple[str, str]:
    """The coding of what a case calls a reading, a device or somebody. Raises ValueError where nothing is."""
    if word not in called:
        raise ValueError(f"nothing is called {word!r} in tests/support/chart.py; known: {', '.join(called)}")
    return called[word]


def seconds(duration: str | int) -> int:
    """Seconds of `m:ss` or `h:mm:ss` (a bare number is seconds already)."""
    total = 0
    for part in str(duration).split(":"):
        total = total * 60 + int(part)
    return total


@dataclass
class ChartBuilder:
    """Collects the resources of one case; the order of the events doesn't matter, ids count up by kind."""

    zone: ZoneInfo
    resources: dict[str, Resource] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    people: set[str] = field(default_factory=set)

    def add(self, event: Event) -> None:
        """One event of `given`: a mapping with a single key, its word."""
        if len(event) != 1:
            raise ValueError(f"an event has one word: {sorted(event)}")
        ((word, told),) = event.items()
        details = dict(told or {})
        if word in ACTIVITIES:
            self._work(word, details)
            return
        tell: dict[str, Callable[[dict[str, Any]], None]] = {
            "days": self._days,
            "reading": self._reading,
            "device": self._device,
            "encounter": self._encounter,
            "stay": self._stay,
            "charge": self._charge,
            "episode": self._episode,
            "patient": self._patient,
            "staff": self._staff,
            "procedure": self._procedure,
            "condition": self._condition,
            "resource": lambda raw: self._keep(raw),
        }
        if word not in tell:
            raise ValueError(f"nobody knows the word {word!r}")
        tell[word](details)

    # -- readings ----------------------------------------------------------

    def _days(self, d: dict[str, Any]) -> None:
        """`of`, and the days: `from` + `count` (+ `every`), or `on`; `each` readings a day; `at` a time."""
        days = [date.fromisoformat(day) for day in d.pop("on", [])]
        if "from" in d:
            first, every = date.fromisoformat(d.pop("from")), int(d.pop("every", 1))
            days += [first + timedelta(days=every * n) for n in range(int(d.pop("count")))]
        each, start = int(d.pop("each", 1)), d.pop("at", "08:00")
        for day in days:
            moment = datetime.fromisoformat(f"{day}T{start}")
            for n in range(each):
                self._reading(dict(d, at=(moment + timedelta(minutes=n)).isoformat()))

    def _reading(self, d: dict[str, Any]) -> None:
        """`of`, `at` (a time or a bare date), `device`, `by: patient`, `status`, `value`, `encounter`."""
        of, at = d["of"], str(d["at"])
        system, code = _coding(CODINGS, of) if isinstance(of, str) else tuple(of)
        patient = self._subject(d)
        told: Resource = {
            "resourceType": "Observation",
            "id": d.get("id") or self._next("o"),
            "status": d.get("status", "final"),
            "code": {"coding": [{"system": system, "code": code}]},
            "subject": {"reference": f"Patient/{patient}"},
            "effectiveDateTime": at if len(at) <= 10 else self.moment(at),
            "valueQuantity": {"value": float(d.get("value", self.counts.get("o", 0)))},
        }
        if "device" in d:
            told["device"] = self._device_reference(d["device"], patient)
        if "by" in d:
            who = d["by"]
            told["performer"] = [
                {"reference": f"Patient/{patient}"} if who == "patient" else self._person(who, patient)
            ]
        if "encounter" in d:
            told["encounter"] = {"reference": f"Encounter/{d['encounter']}"}
        self._keep(told, d.get("raw"))

    def _device_reference(self, device: str | Mapping[str, Any], patient: str) -> dict[str, Any]:
        """A known name makes its Device; a mapping is the reference as it shall stand."""
        if not isinstance(device, str):
            return dict(device)
        if f"Device/{device}" not in self.resources:
            self._device({"name": device, "patient": patient})
        return {"reference": f"Device/{device}"}

    def _device(self, d: dict[str, Any]) -> None:
        """`name`, `type` (the kind's unless said); `patient: null` leaves the owner out."""
        name = d["name"]
        system, code = d.get("type") or _coding(DEVICES, name.rstrip("-0123456789"))
        told: Resource = {
            "resourceType": "Device",
            "id": name,
            "type": {"coding": [{"system": system, "code": code}]},
        }
        if (patient := d.get("patient", "p1")) is not None:
            told["patient"] = {"reference": f"Patient/{patient}"}
        self._keep(told, d.get("raw"))

    # -- encounters ----------------------------------------------------------

    def _work(self, word: str, d: dict[str, Any]) -> None:
        """Work with the clinic's visit coding: `at`, `for`, `by` (one or several), `program`, `status`."""
        default = "any" if word == "visit" else "rtm"
        code = visit_code(word, d.pop("program", default))
        face_to_face = word in ("in-person", "visit")
        self._encounter({"type": [VISIT, code], "class": "AMB" if face_to_face else "VR", **d})

    def _stay(self, d: dict[str, Any]) -> None:
        """An inpatient stay: `at`, `until`."""
        self._encounter({"class": "IMP", **d})

    def _encounter(self, d: dict[str, Any]) -> None:
        """`type: [system, code]`, `class`, `at`, `until` or `for`, `length`, `by`, `status`."""
        patient = self._subject(d)
        told: Resource = {
            "resourceType": "Encounter",
            "id": d.get("id") or self._next("e"),
            "status": d.get("status", "finished"),
            "subject": {"reference": f"Patient/{patient}"},
        }
        if d.get("class"):
            told["class"] = {"system": ACT, "code": d["class"]}
        if d.get("type"):
            system, code = d["type"]
            told["type"] = [{"coding": [{"system": system, "code": code}]}]
        if "at" in d:
            start = str(d["at"])
            told["period"] = {"start": start if len(start) <= 10 else self.moment(start)}
            if "for" in d:
                told["period"]["end"] = self.later(self.moment(start), seconds(d["for"]))
            elif "until" in d:
                told["period"]["end"] = self.moment(d["until"])
        if "length" in d:
            told["length"] = {
                "value": seconds(d["length"]),
                "system": "http://unitsofmeasure.org",
                "code": "s",
            }
        staff = d.get("by", [])
        people = [staff] if isinstance(staff, str) else list(staff)
        if people:
            told["participant"] = [{"individual": self._person(who, patient)} for who in people]
        self._keep(told, d.get("raw"))

    def _person(self, who: str, patient: str) -> dict[str, str]:
        """A reference to somebody on the staff, made on first mention; `somebody` has no role anywhere."""
        if who == "patient":
            return {"reference": f"Patient/{patient}"}
        kind = who.rstrip("-0123456789")
        self._keep({"resourceType": "Practitioner", "id": who})
        if kind not in STAFF:
            return {"reference": f"Practitioner/{who}"}
        if f"PractitionerRole/role-{who}" in self.resources:
            return {"reference": f"PractitionerRole/role-{who}"}
        system, code = _coding(STAFF, kind)
        self._keep(
            {
                "resourceType": "PractitionerRole",
                "id": f"role-{who}",
                "practitioner": {"reference": f"Practitioner/{who}"},
                "code": [{"coding": [{"system": system, "code": code}]}],
            }
        )
        return {"reference": f"PractitionerRole/role-{who}"}

    def _staff(self, d: dict[str, Any]) -> None:
        """`name`; `specialty`, `organisation`: where somebody works, in which specialty; `degree`."""
        role = self._person(d["name"], "p1")["reference"]
        told = self.resources[role]
        if "specialty" in d:
            told["specialty"] = [{"coding": [{"system": NUCC, "code": d["specialty"]}]}]
        if "degree" in d:
            told["code"] = [{"coding": [{"system": DEGREE, "code": d["degree"]}]}]
        if "organisation" in d:
            told["organization"] = {"reference": f"Organization/{d['organisation']}"}

    # -- the rest ----------------------------------------------------------

    def _procedure(self, d: dict[str, Any]) -> None:
        """`code: [system, code]` or none, `on` or `period: [first, last]` or neither, `status`."""
        told: Resource = {
            "resourceType": "Procedure",
            "id": d.get("id") or self._next("procedure"),
            "status": d.get("status", "completed"),
            "subject": {"reference": f"Patient/{self._subject(d)}"},
            "code": {"text": "as written down"},
        }
        if d.get("code"):
            system, code = d["code"]
            told["code"] = {"coding": [{"system": system, "code": str(code)}]}
        if "on" in d:
            told["performedDateTime"] = d["on"]
        if "period" in d:
            told["performedPeriod"] = dict(zip(("start", "end"), d["period"], strict=False))
        self._keep(told, d.get("raw"))

    def _condition(self, d: dict[str, Any]) -> None:
        """`code: [system, code]`, `status` (active unless said; none where it is null)."""
        system, code = d["code"]
        told: Resource = {
            "resourceType": "Condition",
            "id": d.get("id") or self._next("condition"),
            "subject": {"reference": f"Patient/{self._subject(d)}"},
            "code": {"coding": [{"system": system, "code": str(code)}]},
        }
        if status := d.get("status", "active"):
            told["clinicalStatus"] = {"coding": [{"system": CLINICAL, "code": status}]}
        self._keep(told, d.get("raw"))

    def _charge(self, d: dict[str, Any]) -> None:
        """`code`, `period: [first, last]` or `on`, `quantity`, `status`, `context`, `by`."""
        told: Resource = {
            "resourceType": "ChargeItem",
            "id": d.get("id") or self._next("c"),
            "status": d.get("status", "billable"),
            "code": {"coding": [{"system": CPT, "code": str(d["code"])}]},
            "subject": {"reference": f"Patient/{self._subject(d)}"},
            "quantity": {"value": int(d.get("quantity", 1))},
        }
        if "period" in d:
            first, last = d["period"]
            told["occurrencePeriod"] = {"start": first, "end": last}
        if "on" in d:
            told["occurrenceDateTime"] = d["on"]
        if "context" in d:
            told["context"] = {"reference": f"Encounter/{d['context']}"}
        if "by" in d:
            told["performer"] = [{"actor": self._person(d["by"], "p1")}]
        self._keep(told, d.get("raw"))

    def _episode(self, d: dict[str, Any]) -> None:
        """`from`, `to`, `status`, `manager`."""
        told: Resource = {
            "resourceType": "EpisodeOfCare",
            "id": d.get("id") or self._next("episode"),
            "status": d.get("status", "finished" if "to" in d else "active"),
            "patient": {"reference": f"Patient/{self._subject(d)}"},
            "period": {"start": d["from"]} | ({"end": d["to"]} if "to" in d else {}),
        }
        if "manager" in d:
            told["careManager"] = self._person(d["manager"], "p1")
        self._keep(told, d.get("raw"))

    def _patient(self, d: dict[str, Any]) -> None:
        """`id`, `died`."""
        told: Resource = {"resourceType": "Patient", "id": d.get("id", "p1")}
        if "died" in d:
            told["deceasedDateTime"] = d["died"] if len(d["died"]) <= 10 else self.moment(d["died"])
        self._keep(told, d.get("raw"))

    # -- small things ----------------------------------------------------------

    def moment(self, written: str) -> str:
        """A dateTime with an offset: the one written, else that of the practice's zone on that day."""
        if (at := datetime.fromisoformat(str(written))).tzinfo is not None:
            return str(written)
        return at.replace(tzinfo=self.zone).isoformat()

    def later(self, start: str, elapsed: int) -> str:
        """`elapsed` real seconds after `start`, in the practice's zone: clocks may change in between."""
        instant = datetime.fromisoformat(start).timestamp() + elapsed
        return datetime.fromtimestamp(instant, self.zone).isoformat()

    def _subject(self, d: Mapping[str, Any]) -> str:
        """Whose the event is. Only these get a Patient resource, not a device's owner or a raw subject."""
        patient = str(d.get("patient", "p1"))
        self.people.add(patient)
        return patient

    def _next(self, prefix: str) -> str:
        self.counts[prefix] = self.counts.get(prefix, 0) + 1
        return f"{prefix}{self.counts[prefix]}"

    def _keep(self, told: Mapping[str, Any], raw: Mapping[str, Any] | None = None) -> None:
        merged = {k: v for k, v in {**told, **(raw or {})}.items() if v is not None}
        self.resources[f"{merged['resourceType']}/{merged['id']}"] = merged


def build_resources(given: list[Event], zone: str) -> list[Resource]:
    """The FHIR resources of a case. Everybody whom an event is about has a Patient resource."""
    chart = ChartBuilder(ZoneInfo(zone))
    for event in given:
        chart.add(event)
    for patient in sorted(chart.people | {"p1"}):
        if f"Patient/{patient}" not in chart.resources:
            chart.add({"patient": {"id": patient}})
    return list(chart.resources.values())


def site_file(timezone: str | None, payer: str | None, extra: Mapping[str, Any] | None) -> dict[str, Any]:
    """The site file of a case as a mapping: zone, payer, the clinic's terminology and what the case adds."""
    terminology = site_terminology()
    for section, entries in (extra or {}).items():
        terminology[section] = [*terminology.get(section, []), *entries]
    written = {"timezone": timezone, "payer": payer, "terminology": terminology}
    return {key: value for key, value in written.items() if value is not None}
