"""What was decided, decided again from a packet alone: no EHR, no store, no setting is asked.

A packet holds the records, what this site declares, what people stated, and where the periods begin, as they
were when the charge was accepted. The rules are those that are shipped now.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import date, datetime
from functools import lru_cache
from typing import Any

import msgspec

from fhir_mappings.chart import Chart
from fhir_mappings.completeness import Missing
from fhir_mappings.decision import Decision, excluded_json
from fhir_mappings.local_time import Window, zone_named
from fhir_mappings.record import Attestation, Enrolment, EpisodeOfCare, PatientRecord, PriorCharge, Resolution
from fhir_mappings.rules.engine import assess
from fhir_mappings.rules.policy import Policies
from fhir_mappings.table_digests import table_digests
from fhir_mappings.terminology import Terminology, load_terminology
from fhir_mappings.vocabulary import Program, Role
from smartapp.configuration.site import Site
from smartapp.configuration.site_file import SiteFile
from smartapp.ehr.reading.findings import Findings, with_charges
from smartapp.ehr.reading.notices import missing_from
from smartapp.ehr.reading.own_record import URN, overtaken
from smartapp.release import release

_OF_THE_SITE = (
    "settings",
    "staff_employed",
    "rural_health_clinic",
    "federally_qualified_health_center",
    "ask_from",
    "code_rules",
    "payer_rules",
    "rules_confirmed",
)
"""What of a site's file decides, beside its codings; who may do what, and amounts, are none of it."""


class Basis(msgspec.Struct, frozen=True, kw_only=True):
    """Whatever else a decision was made from, beside the records and what people stated."""

    history_from: date
    bases: tuple[str, ...]
    """The addresses by which the EHR calls itself: references are read by them."""
    anchors: dict[str, date] = {}
    """The anchor days that were confirmed here, by program."""
    missing: tuple[Missing, ...] = ()
    performer: str | None = None
    handed: tuple[PriorCharge, ...] = ()
    """Charges that were handed over otherwise than as a ChargeItem."""
    denied: tuple[str, ...] = ()
    """Keys of charges that a payer denied."""
    overtaken: tuple[str, ...] = ()
    """The EHR's copies of logged entries that were corrected or withdrawn since."""
    site: dict[str, Any] = {}
    reads_test_data: bool = False
    tables: dict[str, str] = {}
    """Digest of each table that was shipped then."""
    app: str = ""


def basis_of(findings: Findings, site: Site, performer: str | None) -> Basis:
    return Basis(
        history_from=findings.history_from,
        bases=findings.bases,
        anchors=findings.anchor_days,
        missing=missing_from(findings.notices),
        performer=performer,
        handed=findings.handed,
        denied=findings.denied,
        overtaken=findings.overtaken,
        site=_declared(site.declared),
        reads_test_data=site.terminology.reads_test_data,
        tables=dict(table_digests()),
        app=release(),
    )


def _declared(entries: SiteFile) -> dict[str, Any]:
    """The entries of a site's file that decide, as JSON has them; what it leaves out stays out."""
    told = {"payer": entries.payer}
    silent = SiteFile()
    told |= {
        name: getattr(entries, name)
        for name in _OF_THE_SITE
        if getattr(entries, name) != getattr(silent, name)
    }
    terminology = {
        name: value
        for name in entries.terminology.__struct_fields__
        if (value := getattr(entries.terminology, name)) != getattr(silent.terminology, name)
    }
    found: dict[str, Any] = msgspec.to_builtins(told | {"terminology": terminology}, order="deterministic")
    return found


class _Kept(msgspec.Struct):
    reference: str
    resource: msgspec.Raw
    full_url: str | None = None
    own: bool = False


class Document(msgspec.Struct):
    """What of a packet's evidence is decided from."""

    patient: str
    as_of: date
    timezone: str
    decision: Decision
    basis: Basis
    records: list[_Kept]
    others: list[_Kept]
    attestations: list[dict[str, Any]] = []
    episodes: list[dict[str, Any]] = []
    resolutions: list[dict[str, Any]] = []


class Again(msgspec.Struct, frozen=True):
    """The answer now. `decision`: None where the same code and days are not decided at all any more."""

    decision: Decision | None
    payer: str
    rules_version: str
    excluded: tuple[dict[str, Any], ...]

    def left_out(self, names: Collection[str]) -> list[dict[str, Any]]:
        """What is left out of these records, as the contract tells it."""
        return [one for one in self.excluded if one["resource"] in names]


def decided_again(evidence: bytes) -> Again:
    """Decide on a packet's evidence. Raises `msgspec.MsgspecError` for a document that lacks what that needs,
    and `ValueError` where the site's entries cannot be used."""
    document = msgspec.json.decode(evidence, type=Document)
    basis, patient = document.basis, document.patient
    terminology, policies = _rules(msgspec.json.encode(basis.site), basis.reads_test_data)
    chart = Chart(
        terminology,
        zone_named(document.timezone),
        document.as_of,
        basis.bases,
        history_from=basis.history_from,
        codes=policies.default.known,
    )
    for one in (*document.records, *document.others):
        raw = bytes(one.resource)
        if raw == b"null":
            chart.add_unreadable(one.reference)
        elif one.own:
            chart.add_own(raw, one.reference)
        else:
            raw = overtaken(raw) if one.reference in basis.overtaken else raw
            chart.add(raw, one.full_url, one.reference)
    for missing in basis.missing:
        chart.add_missing(missing, patient)
    record = with_charges(_record(chart, patient, document), basis.handed, basis.denied)
    policy = policies.of(record.payer)
    person = None if basis.performer is None else chart.person_of(basis.performer) or basis.performer
    role = Role.UNKNOWN if basis.performer is None else chart.role_of(basis.performer)
    assessment = assess(record, policy, record.as_of, performer=person, performs_as=role)
    return Again(
        next((one for one in assessment.decisions if one.key == document.decision.key), None),
        policy.payer,
        policy.version,
        tuple(excluded_json(entry) for entry in assessment.excluded),
    )


def _record(chart: Chart, patient: str, document: Document) -> PatientRecord:
    return chart.record(
        patient,
        [Enrolment(Program(program), day) for program, day in document.basis.anchors.items()],
        [
            Attestation(one["statement"], frozenset(one["codes"]), _window(one["period"]))
            for one in document.attestations
        ],
        [_episode(position, one) for position, one in enumerate(document.episodes)],
        [_resolution(one, document.timezone) for one in reversed(document.resolutions)],
    )


def _window(period: Mapping[str, str] | None) -> Window | None:
    return None if period is None else msgspec.convert(period, Window)


def _episode(position: int, one: Mapping[str, Any]) -> EpisodeOfCare:
    return EpisodeOfCare(
        f"{URN}{position}",
        date.fromisoformat(one["start"]),
        None if one["end"] is None else date.fromisoformat(one["end"]),
        Program(one["program"]),
    )


def _resolution(one: Mapping[str, Any], zone: str) -> Resolution:
    return Resolution(
        one["resolves"],
        frozenset(one["codes"]),
        _window(one["period"]),
        one["choice"],
        one["reference"],
        None if one["until"] is None else date.fromisoformat(one["until"]),
        one["by"],
        datetime.fromisoformat(one["at"]).astimezone(zone_named(zone)).date(),
    )


@lru_cache(maxsize=4)
def _rules(site: bytes, reads_test_data: bool) -> tuple[Terminology, Policies]:
    entries = msgspec.json.decode(site, type=SiteFile)
    return load_terminology(entries.terminology, reads_test_data=reads_test_data), entries.policies(None)
