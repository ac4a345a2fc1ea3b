"""One patient's records -> the contract's JSON, by the very rules of the page and of `smartapp evaluate`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

import fhir_mappings
from fhir_mappings.boiled import FORMAT, Item, add_items, folder_of
from fhir_mappings.chart import Chart
from fhir_mappings.completeness import Missing, completeness_of
from fhir_mappings.decision import Assessment, to_contract
from fhir_mappings.local_time import LocalClock, zone_named
from fhir_mappings.record import Attestation, PatientRecord, Resolution
from fhir_mappings.rules.due import due_day
from fhir_mappings.rules.engine import assess
from fhir_mappings.rules.policy import Policies
from fhir_mappings.terminology import load_terminology
from smartapp.configuration.site_file import SiteFile
from smartapp.population import listing
from smartapp.population.partition import Rest

_NO_PEOPLE = ("Device/", "Group/", "Location/")


class Stated(Struct, frozen=True):
    """What an attestations file says of one patient."""

    attestations: tuple[Attestation, ...] = ()
    resolutions: tuple[Resolution, ...] = ()


class Settings(Struct, frozen=True):
    """Under what a population is decided: the options of `smartapp evaluate`."""

    timezone: str
    site: SiteFile = SiteFile()
    payer: str | None = None
    history_from: date | None = None
    stated: Mapping[str, Stated] = {}


class Answered(Struct, frozen=True):
    """One patient's answer, and what the rest of a population needs of it."""

    patient: str
    contract: dict[str, Any]
    due: date
    busy: tuple[tuple[str, int, int, str], ...]
    listed: bytes
    """What a worklist needs of it (`listing`)."""


def answer_of(
    record: PatientRecord, policies: Policies, *, all_evidence: bool = False
) -> tuple[dict[str, Any], Assessment]:
    """The contract's JSON for one record. Raises `ExclusionViolated` rather than tell two excluded codes."""
    policy = policies.of(record.payer)
    assessment = assess(record, policy, record.as_of, all_evidence=all_evidence)
    told = to_contract(record, assessment, policy.payer, policy.version, all_evidence=all_evidence)
    return told, assessment


class Decider:
    """The rules, the codings and the zone of a population, on a day. Raises `ValueError` with one line where
    they don't hold together."""

    def __init__(self, settings: Settings, as_of: date) -> None:
        self.settings = settings
        self.as_of = as_of
        self.zone = zone_named(settings.timezone)
        self.policies = settings.site.policies(settings.payer, always=settings.payer is not None)
        self.terminology = load_terminology(settings.site.terminology)
        self.clock = LocalClock(self.zone)
        self._like = self._chart()

    def digest(self) -> str:
        """Of everything that an answer hangs on besides the records and the day: rules, codings, format."""
        told = (FORMAT, listing.FORMAT, _heart(), self.settings)
        return sha256(msgspec.json.encode(told, order="deterministic")).hexdigest()[:16]

    def fresh(self) -> None:
        """Forget what was worked out of codings: it grows with the patients."""
        self._like = self._chart()

    def _chart(self) -> Chart:
        return Chart(
            self.terminology,
            self.zone,
            self.as_of,
            history_from=self.settings.history_from,
            codes=self.policies.default.known,
            one_of_many=True,
            like=getattr(self, "_like", None),
        )

    def missing_of(self, rest: Rest) -> list[tuple[str, Missing]]:
        """What may be missing of whom, by the chart's own reading of what was left: the subject
        reference of whose it is ("": it may be anybody's), and what."""
        chart = Chart(self.terminology, self.zone, self.as_of, codes=self.policies.default.known)
        add_items(chart, rest.nobodys)
        for owner, one in rest.missing:
            chart.add_missing(one, owner)
        chart.add_pages(rest.pages, rest.cut_off, rest.short)
        told = chart.all_missing()
        anybodys = completeness_of(one for owner, one in told if not owner).missing
        return [*(("", one) for one in anybodys), *((owner, one) for owner, one in told if owner)]

    def answers(
        self,
        folder: str,
        items: Iterable[Item],
        missing: Iterable[tuple[str, Missing]],
        double_booked: frozenset[str],
        everyones: bool,
    ) -> list[Answered]:
        """The answer of the patient whose folder this is; none where it is nobody's, or of a record that
        another one stands for. `items`: all that hangs together with it. `everyones`: no Patient resource is
        anywhere in the population: then each subject is a patient."""
        chart = self._chart()
        add_items(chart, items)
        for owner, one in missing:
            chart.add_missing(one, owner)
        found = []
        for patient in chart.patients():
            if folder_of(patient) != folder and patient != folder.replace("\0", " "):
                continue
            if not (everyones or chart.has_patient(patient)):
                continue
            stated = self.settings.stated.get(patient, Stated())
            record = chart.record(patient, attestations=stated.attestations, resolutions=stated.resolutions)
            record = replace(record, double_booked=double_booked)
            contract, assessment = answer_of(record, self.policies)
            policy = self.policies.of(record.payer)
            due = due_day(record, assessment, policy, chart.days_ahead(patient))
            short = listing.listed(record, contract, assessment.decisions, policy)
            found.append(Answered(patient, contract, due, chart.busy(patient), short))
        return found


@cache
def _heart() -> str:
    """Of the code and the tables that decide."""
    found = sha256()
    for file in sorted(Path(fhir_mappings.__file__).parent.rglob("*")):
        if file.suffix in (".py", ".yaml"):
            found.update(file.read_bytes())
    return found.hexdigest()


def may_be_patient(folder: str) -> bool:
    """Without any Patient resource each distinct subject is one; what was calibrated is none."""
    return not folder.startswith(_NO_PEOPLE)
