"""The simulated clinic: its people's own description (`tests/clinic/patients.yaml`) as FHIR, and the biller
who confirms what is true and accepts what is suggested, month after month.

The description tells days, minutes and people; times of day are given out here, so that nobody is in two
places.
"""

from __future__ import annotations

import re
import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import yaml

from fhir_mappings.charge_item import ChargeDetails, Performer, charge_item, conflicting
from fhir_mappings.chart import Chart
from fhir_mappings.decision import Decision
from fhir_mappings.record import Attestation, PatientRecord, Resolution
from fhir_mappings.rules.engine import decide
from fhir_mappings.rules.policy import Policies
from fhir_mappings.terminology import Terminology, load_terminology
from fhir_mappings.time_log import LoggedTime, encounter_of
from fhir_mappings.vocabulary import (
    Activity,
    Outcome,
    Program,
    RequirementKind,
    ReviewReason,
    Role,
    Unverified,
)
from smartapp.configuration.site_file import SiteFile, read_site_file
from tests.support.chart import SNOMED, ChartBuilder, Resource, seconds
from tests.support.evaluation import NEW_YORK, Case, CaseLoader, as_yaml, write_site

FOLDER = Path(__file__).parents[1] / "clinic"
ZONE = ZoneInfo(NEW_YORK)
PLAN = "urn:clinic:plan"
PHONE = (SNOMED, "185317003")
"""A telephone encounter like any other, which no clinic declared."""
OPENS, BETWEEN = time(9), timedelta(minutes=5)
VALUES = {"BP": "120", "WEIGHT": "80"}
OF_THE_EPISODE = frozenset(
    {Unverified.CONSENT, Unverified.ORDER, Unverified.PLAN_OF_CARE, Unverified.ESTABLISHED_PATIENT}
)
"""Stated once, for all codes and days."""
_READINGS = re.compile(
    r"(?P<of>\w+)(?: through (?P<device>[\w-]+))?(?P<typed> by patient)?, "
    r"(?P<first>\d{4}-\d\d-\d\d)(?:\.\.(?P<last>\d{4}-\d\d-\d\d))?(?: at (?P<at>\d\d:\d\d))?"
)
_WORK = re.compile(
    r"(?P<on>\d{4}-\d\d-\d\d)(?: (?P<at>\d\d:\d\d))? (?P<what>[a-z-]+) (?P<length>\d+(?::\d\d)?) "
    r"by (?P<by>[\w-]+)(?:, program (?P<program>\w+))?"
)


@dataclass(frozen=True)
class Work:
    """What somebody did, when (a wall-clock time) and how long."""

    start: datetime
    length: timedelta
    what: str
    by: str
    program: str


@dataclass(frozen=True)
class Settled:
    """How a doubt is settled, as in a file of attestations."""

    resolves: str
    resolution: Resolution


@dataclass(frozen=True)
class ClinicPatient:
    id: str
    payer: str
    bills: str
    knows: frozenset[str]
    settled: tuple[Settled, ...]
    unlogged: tuple[Work, ...]


@dataclass
class Clinic:
    """The forty, their charts, and the clinic's site file."""

    patients: list[ClinicPatient]
    charts: dict[str, list[Resource]]
    """By patient; the staff is in each."""
    site: dict[str, Any]
    tables: dict[str, Any]

    def site_file(self, folder: Path) -> Path:
        """Its file, with the payers' tables beside it."""
        for name, table in self.tables.items():
            (folder / name).write_text(as_yaml(table))
        terminology = {"coverages": self.coverages}
        return write_site(folder, payer="unknown", terminology=terminology, more=self.site)

    @property
    def coverages(self) -> list[dict[str, str]]:
        """Which plan means which payer."""
        payers = sorted({one.payer for one in self.patients})
        return [{"system": PLAN, "code": payer, "payer": payer} for payer in payers]


def read_clinic() -> Clinic:
    """As its people describe it."""
    told = yaml.load((FOLDER / "patients.yaml").read_text(), CaseLoader)
    diary = _Diary()
    chart = ChartBuilder(ZONE)
    for person in told["staff"]:
        chart.add({"staff": person})
    staff = set(chart.resources)
    patients = []
    owned: dict[str, set[str]] = {}
    for one in told["patients"]:
        before = set(chart.resources)
        work = [diary.entry(line, one) for line in one.get("work", [])]
        for event in _events(one, work):
            chart.add(event)
        names = set(chart.resources) - before
        if f"Patient/{one['id']}" not in names:
            chart.add({"patient": {"id": one["id"]}})
            names.add(f"Patient/{one['id']}")
        owned[one["id"]] = names
        patients.append(_patient(one, told["statements"], diary))
    people = ("Practitioner", "PractitionerRole")
    staff |= {name for name in chart.resources if name.startswith(people)}
    charts = {
        patient: [chart.resources[name] for name in sorted(names | staff)] for patient, names in owned.items()
    }
    return Clinic(patients, charts, told["site"], told["tables"])


def _patient(one: Mapping[str, Any], statements: Mapping[str, list[str]], diary: _Diary) -> ClinicPatient:
    known = one["knows"] if isinstance(one["knows"], list) else statements[one["knows"]]
    return ClinicPatient(
        one["id"],
        one["payer"],
        one["bills"],
        frozenset([*known, *one.get("also", [])]),
        tuple(_settled(entry) for entry in one.get("settled", [])),
        tuple(diary.entry(line, one) for line in one.get("unlogged", [])),
    )


def _settled(entry: Mapping[str, Any]) -> Settled:
    told = dict(entry)
    if "period" in told:
        told["window"] = told.pop("period")
    resolution = msgspec.convert({**told, "by": "Practitioner/biller", "on": "2026-12-01"}, Resolution)
    return Settled(told["resolves"], resolution)


class _Diary:
    """When somebody works: one thing at a time, for one patient at a time."""

    def __init__(self) -> None:
        self._free: dict[tuple[str, date], datetime] = {}

    def entry(self, line: str, one: Mapping[str, Any]) -> Work:
        read = _matched(_WORK, line)
        day, length = date.fromisoformat(read["on"]), read["length"]
        lasts = timedelta(seconds=seconds(length if ":" in length else f"{length}:00"))
        busy = [(read["by"], day), (one["id"], day)]
        if read["at"]:
            start = datetime.combine(day, time.fromisoformat(read["at"]))
        else:
            start = max(self._free.get(key, datetime.combine(day, OPENS)) for key in busy)
            self._free.update(dict.fromkeys(busy, start + lasts + BETWEEN))
        return Work(start, lasts, read["what"], read["by"], read["program"] or one["program"])


def _events(one: Mapping[str, Any], work: Iterable[Work]) -> Iterator[Mapping[str, Any]]:
    """What happened to one patient, in the words of the cases."""
    patient = one["id"]
    yield {"resource": _coverage(patient, one["payer"])}
    for event in one.get("others", []):
        ((word, details),) = event.items()
        named = word in ("resource", "patient", "device")
        told = details if named else {**details, "patient": patient}
        if isinstance(told.get("device"), str):
            told = {**told, "device": f"{told['device']}-{patient[1:]}"}
        yield {word: told}
    for line in one.get("readings", []):
        yield {"days": _days(line, patient)}
    for did in work:
        yield _work_event(did, patient)


def _coverage(patient: str, payer: str) -> Resource:
    return {
        "resourceType": "Coverage",
        "id": f"coverage-{patient}",
        "status": "active",
        "beneficiary": {"reference": f"Patient/{patient}"},
        "payor": [{"display": payer}],
        "type": {"coding": [{"system": PLAN, "code": payer}]},
    }


def _days(line: str, patient: str) -> dict[str, Any]:
    read = _matched(_READINGS, line)
    first = date.fromisoformat(read["first"])
    last = date.fromisoformat(read["last"]) if read["last"] else first
    told = {
        "of": read["of"],
        "from": first.isoformat(),
        "count": (last - first).days + 1,
        "at": read["at"] or "08:00",
        "value": VALUES.get(read["of"], "5"),
        "patient": patient,
    }
    if read["device"]:
        numbered = read["device"][-1].isdigit()
        told["device"] = read["device"] if numbered else f"{read['device']}-{patient[1:]}"
    if read["typed"]:
        told["by"] = "patient"
    return told


def _work_event(did: Work, patient: str) -> Mapping[str, Any]:
    length = int(did.length.total_seconds())
    told = {"at": did.start.isoformat(), "for": length, "by": did.by, "patient": patient}
    if did.what == "phone":
        return {"encounter": {**told, "type": PHONE, "class": "VR"}}
    return {did.what: told if did.what in ("visit", "in-person") else {**told, "program": did.program}}


def _matched(pattern: re.Pattern[str], line: str) -> dict[str, str]:
    if (found := pattern.fullmatch(line)) is None:
        raise ValueError(f"not to be read: {line!r}")
    return found.groupdict()


# -- the biller --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Charged:
    """What ended as a charge."""

    code: str
    start: str
    dated: str
    units: int
    modifiers: tuple[str, ...]


@dataclass
class Biller:
    """Works on one patient. Confirms only what the description says is true; takes all that is suggested."""

    patient: ClinicPatient
    chart: list[Resource]
    site: SiteFile
    policies: Policies
    terminology: Terminology
    attestations: list[Attestation] = field(default_factory=list)
    resolutions: list[Resolution] = field(default_factory=list)
    charges: list[Charged] = field(default_factory=list)
    stated: list[tuple[Charged, str]] = field(default_factory=list)
    """Every statement that was confirmed, with the charge for which it was asked first."""
    steps: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    _asked: tuple[object, ...] = ()
    _told: tuple[Decision, ...] = ()

    def work(self, as_of: date) -> None:
        """One sitting: settle, log and charge one thing after the other, until nothing true is open."""
        while any(step(self.decisions(as_of), as_of) for step in (self._settle, self._log, self._charge)):
            pass

    def record(self, as_of: date) -> PatientRecord:
        return self._read(as_of)[0]

    def _read(self, as_of: date) -> tuple[PatientRecord, Role]:
        """The record, and in which role whoever performs the charges works."""
        chart = Chart(self.terminology, ZONE, as_of, codes=self.policies.default.known)
        for resource in self.chart:
            chart.add(msgspec.json.encode(resource))
        (name,) = chart.patients()
        record = chart.record(name, attestations=self.attestations, resolutions=self.resolutions)
        return record, chart.role_of(self.performer)

    def decisions(self, as_of: date) -> tuple[Decision, ...]:
        """As the accept page makes them, with whoever performs the charge."""
        now = (as_of, len(self.chart), len(self.attestations), len(self.resolutions))
        if now != self._asked:
            record, role = self._read(as_of)
            policy = self.policies.of(record.payer)
            self._told = decide(record, policy, as_of, performer=self.performer, performs_as=role)
            self._asked = now
        return self._told

    @property
    def performer(self) -> str:
        return f"Practitioner/{self.patient.bills}"

    def _settle(self, decisions: Iterable[Decision], as_of: date) -> bool:
        """What somebody knows of a doubt that a row shows."""
        doubts = {
            reason
            for decision in decisions
            if decision.outcome is Outcome.REVIEW
            for reason in decision.reasons
        }
        for entry in self.patient.settled:
            if entry.resolves in doubts and entry.resolution not in self.resolutions:
                self.resolutions.append(entry.resolution)
                self.steps["settled"] += 1
                return True
        return False

    def _log(self, decisions: Iterable[Decision], as_of: date) -> bool:
        """What took place and is recorded nowhere, where a row says that it is missing."""
        for number, work in enumerate(self.patient.unlogged):
            name = f"logged-{self.patient.id}-{number}"
            if any(one["id"] == name for one in self.chart) or work.start.date() >= as_of:
                continue
            if any(_misses(decision, work) for decision in decisions):
                self.chart.append({**_logged(work, self.patient.id), "id": name})
                self.steps["logged"] += 1
                return True
        return False

    def _charge(self, decisions: Iterable[Decision], as_of: date) -> bool:
        """The first that is suggested and of which all that is asked is true."""
        ready = [decision for decision in decisions if decision.outcome is Outcome.SUGGEST]
        for decision in sorted(ready, key=lambda d: (d.service_date or date.max, d.code)):
            asked = set(decision.unverified)
            if set(map(str, asked)) <= self.patient.knows:
                self._accept(decision, asked, as_of)
                return True
        return False

    def _accept(self, decision: Decision, asked: Iterable[Unverified], as_of: date) -> None:
        in_the_way = conflicting(decision, self.record(as_of).charges, self.policies.default.known)
        assert not in_the_way, (self.patient.id, decision.key, in_the_way)
        details = ChargeDetails(
            issuer="https://ehr.example/fhir",
            patient=f"Patient/{self.patient.id}",
            enterer=self.performer,
            entered_at=datetime.combine(as_of, OPENS, ZONE),
            rules_version="clinic",
            performers=(Performer("performing", self.performer),),
            codes=self.policies.default.known,
        )
        written = {**charge_item(decision, details), "id": f"charge-{self.patient.id}-{len(self.charges)}"}
        self.chart.append(written)
        assert decision.service_date is not None
        charged = Charged(
            decision.code,
            decision.period.start.isoformat(),
            decision.service_date.isoformat(),
            decision.quantity,
            decision.modifiers,
        )
        self.charges.append(charged)
        self.steps["accepted"] += 1
        for entry in asked:
            once = entry in OF_THE_EPISODE
            about = () if once else (decision.code,)
            self.attestations.append(Attestation(entry, frozenset(about), None if once else decision.period))
            self.stated.append((charged, str(entry)))


def _misses(decision: Decision, work: Work) -> bool:
    """Whether a row says that a set-up, or a conversation of its month, is missing."""
    if work.what == "setup":
        return ReviewReason.SETUP_NOT_DOCUMENTED in decision.reasons
    if work.start.date() not in decision.period:
        return False
    lacks = any(
        one.requirement is RequirementKind.LIVE_CONTACT and not one.met for one in decision.requirements
    )
    return lacks or ReviewReason.CONVERSATION_IN_PERSON in decision.reasons


def _logged(work: Work, patient: str) -> Resource:
    start = work.start.replace(tzinfo=ZONE)
    entry = LoggedTime(
        start=start,
        end=start + work.length,
        person=f"Practitioner/{work.by}",
        activity=Activity.SETUP_EDUCATION if work.what == "setup" else Activity.PHONE_CALL,
        program=Program(work.program),
        live=True,
    )
    return encounter_of(
        str(uuid.uuid5(uuid.NAMESPACE_OID, f"{patient} {start}")), f"Patient/{patient}", entry, ZONE
    )


def billers(clinic: Clinic, folder: Path) -> list[Biller]:
    """One for each patient, all of one site."""
    site = read_site_file(clinic.site_file(folder))
    terms = msgspec.structs.replace(site.terminology, device_facts=site.device_facts)
    terminology, policies = load_terminology(terms), site.policies(None)
    return [
        Biller(patient, list(clinic.charts[patient.id]), site, policies, terminology)
        for patient in clinic.patients
    ]


def earned() -> dict[str, list[dict[str, Any]]]:
    """The coder's table."""
    return yaml.load((FOLDER / "earned.yaml").read_text(), CaseLoader)


def case_of(clinic: Clinic, patient: str, as_of: date) -> Case:
    """One of them as a worked case, who is `p1` there."""
    told = yaml.load((FOLDER / "patients.yaml").read_text(), CaseLoader)
    (one,) = (entry | {"id": "p1"} for entry in told["patients"] if entry["id"] == patient)
    diary = _Diary()
    work = [diary.entry(line, one) for line in one.get("work", [])]
    return Case(
        file="clinic",
        name=patient,
        source="",
        says=one["says"],
        given=list(_events(one, work)),
        expect={"decisions": []},
        as_of=as_of.isoformat(),
        payer="unknown",
        terminology={"coverages": clinic.coverages},
        site=clinic.site,
        files=clinic.tables,
    )
