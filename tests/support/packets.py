"""Packets of worked charts, made as accepting a charge makes them, without an EHR or a database."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from fhir_mappings.local_time import Window
from fhir_mappings.vocabulary import Unverified
from smartapp.configuration.site import Site, read_site
from smartapp.ehr.charges.digests import with_digests
from smartapp.ehr.charges.evidence import evidence_document
from smartapp.ehr.reading.findings import READ_FIRST, Findings, FindingsMaker
from smartapp.ehr.reading.own_record import OwnRecord
from smartapp.store.attestations import Settlement, Stated, Statement
from smartapp.store.charges import Enrolment
from smartapp.store.reading import StoredResource
from tests.support.chart import Event, build_resources, site_file
from tests.support.evaluation import NEW_YORK, Case, as_yaml

BASE = "https://ehr.example/fhir"
HISTORY_FROM = date(2020, 1, 1)
STATED_AT = datetime(2026, 12, 1, 12, tzinfo=UTC)
BY = "Practitioner/biller"


def site_of(folder: Path, case: Case | None = None, *, payer: str = "medicare") -> Site:
    """The clinic of the cases; with a case, as the case has it."""
    terminology, more = (None, {}) if case is None else (case.terminology, case.site)
    for name, table in {} if case is None else case.files.items():
        (folder / name).write_text(as_yaml(table))
    file = folder / "site.yaml"
    zone = NEW_YORK if case is None else case.timezone
    file.write_text(as_yaml({**site_file(zone, case.payer if case else payer, terminology), **more}))
    return read_site(file, None, None)


def stored(resources: Iterable[Mapping[str, Any]]) -> list[StoredResource]:
    return [
        StoredResource(
            "search",
            f"{BASE}/{one['resourceType']}/{one['id']}",
            f"{one['resourceType']}/{one['id']}",
            str(one.get("meta", {}).get("versionId", "1")),
            msgspec.json.encode(one),
        )
        for one in resources
    ]


def own_of(patient: str, zone: ZoneInfo, told: Iterable[Mapping[str, Any]]) -> OwnRecord:
    """What was stated and settled, in the words of a case."""
    statements, settlements = [], []
    for number, one in enumerate(told):
        if one.get("patient", f"Patient/{patient}") != f"Patient/{patient}":
            continue
        period = one.get("period")
        window = period and Window(*(date.fromisoformat(str(period[end])) for end in ("start", "end")))
        codes = tuple(map(str, one.get("codes", ())))
        if "resolves" in one:
            until = one.get("until")
            choice = one.get("choice")
            settlement = Settlement(
                resolves=one["resolves"],
                says="As the form had it.",
                codes=codes,
                window=window or None,
                choice=None if choice is None else str(choice),
                reference=one.get("reference", ""),
                until=until and date.fromisoformat(str(until)),
                by=BY,
            )
            settlements.append(Stated(str(number), STATED_AT, settlement))
        else:
            statement = Statement(
                statement=Unverified(one["statement"]), codes=codes, window=window or None, by=BY
            )
            statements.append(Stated(str(number), STATED_AT, statement))
    return OwnRecord(
        f"Patient/{patient}",
        zone,
        {},
        tuple(statements),
        settlements=tuple(reversed(settlements)),
    )


def findings_of(
    resources: list[StoredResource],
    site: Site,
    as_of: date,
    patient: str = "p1",
    own: OwnRecord | None = None,
    enrolments: Mapping[str, Enrolment] | None = None,
) -> Findings:
    """What a session would be shown."""
    maker = FindingsMaker(
        site, patient, BASE, as_of, 13, enrolments or {}, own=own, history_from=HISTORY_FROM
    )
    for one in resources:
        if one.reference.split("/")[0] in READ_FIRST:
            maker.add_first(one)
    maker.needs()
    for one in resources:
        if one.reference.split("/")[0] not in READ_FIRST:
            maker.add(one)
    return maker.findings((), lambda: resources)


def packet_of(
    given: list[Event],
    key: str,
    site: Site,
    as_of: date,
    *,
    stated: Iterable[Mapping[str, Any]] = (),
    enrolments: Mapping[str, Enrolment] | None = None,
    **more: Any,
) -> bytes:
    """The packet of one charge of a worked chart; `more`: what else a packet says."""
    resources = stored(build_resources(given, NEW_YORK))
    own = own_of("p1", site.zone, stated)
    findings = findings_of(resources, site, as_of, own=own, enrolments=enrolments)
    decision = findings.decision(key)
    assert decision is not None, [one.key for one in findings.assessment.decisions]
    evidence = evidence_document(decision, findings, resources, site)
    written = {
        "resourceType": "ChargeItem",
        "status": "planned",
        "code": {"coding": [{"code": decision.code}]},
        "quantity": {"value": decision.quantity},
    }
    return with_digests(
        {
            "written": written,
            "read_back": None,
            "attested": (),
            "confirmed_by": BY,
            "confirmed_by_name": "",
            "approval": None,
            "snapshot": {"id": "s1", "sha256": "0" * 64},
            **more,
            "evidence": msgspec.Raw(evidence),
        }
    )


def told(packet: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(packet)
    return found
