"""How charges of this session's EHR leave, for every page that says it: which way, why, and exactly what."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from flask import g

from fhir_mappings.decision import Decision
from fhir_mappings.vocabulary import Outcome, Unverified
from smartapp.configuration.handover import Method
from smartapp.ehr.charges.digests import digest_of
from smartapp.ehr.handover.choice import Chosen
from smartapp.ehr.handover.line import line_of
from smartapp.ehr.handover.method import Asked, ToCharge, Where
from smartapp.ehr.handover.sheet import rows_in
from smartapp.ehr.reading.findings import Findings, ForTheForm
from smartapp.plain import laid_out
from smartapp.services import services
from smartapp.store.charges import Charge, Leaving
from smartapp.web import words
from smartapp.web.permission import writes_here
from smartapp.web.record_words import in_words


@dataclass(frozen=True)
class File:
    """A file within what leaves."""

    kind: str
    size: int
    """In bytes."""
    sha256: str

    def __str__(self) -> str:
        return f"{self.kind}, {self.size:,} bytes, SHA-256 {self.sha256}"


@dataclass(frozen=True)
class Shown:
    """What leaves, as a person can look at it before it does."""

    method: Method
    title: str
    by_person: bool
    text: str
    says: tuple[tuple[str, str], ...] = ()
    """Of a document: what stands on it, name and value."""
    files: tuple[File, ...] = ()


@dataclass(frozen=True)
class HandingOver:
    """What the patient page says first. `why`: no better way can be used; None where it is the best there is.
    `lines`: what can be charged now, as a person enters it."""

    title: str
    by_person: bool
    why: str | None
    lines: tuple[str, ...]


def where_here() -> Where:
    """The EHR of this request's session, as far as its reading knows it."""
    return Where.of(g.session, g.issuer, writes_here())


def chosen_here(
    findings: Findings, decision: Decision | None = None, resource: dict[str, Any] | None = None
) -> Chosen:
    """The way in which this EHR takes charges, or takes this one."""
    where = Where.of(g.session, g.issuer, findings.writes)
    asked = None if decision is None else Asked(decision, findings, resource)
    return services().handovers.chosen(where, asked)


def leaving_of(findings: Findings, decision: Decision, resource: dict[str, Any]) -> Leaving:
    """Exactly what leaves of a charge, and how. `resource`: the ChargeItem that it is, or would be."""
    charge = _to_charge(findings, decision, resource)
    return chosen_here(findings, decision, resource).handover.leaves(charge)


def claim_of(
    findings: Findings, decision: Decision, resource: dict[str, Any], known: Mapping[str, str]
) -> tuple[tuple[str, str], ...]:
    """What whoever accepted it chose for a charge: name and value, as the chart calls them. `known`: names of
    people whom it does not call by one."""
    line = line_of(_to_charge(findings, decision, resource))
    diagnoses = [
        " ".join(filter(None, (coding["code"], coding.get("display"))))
        for reason in resource.get("reason", ())
        for coding in reason["coding"]
    ]
    told = (
        ("Modifiers", ", ".join(line.modifiers)),
        ("Diagnosis", ", ".join(diagnoses)),
        ("Performing", in_words(known.get(line.performing, line.performing))),
        ("Ordering", in_words(known.get(line.ordering, line.ordering))),
        ("Encounter or account", in_words(line.place)),
    )
    return tuple((name, value or "none") for name, value in told)


def _to_charge(findings: Findings, decision: Decision, resource: dict[str, Any]) -> ToCharge:
    choices, form = findings.choices, findings.form or ForTheForm()
    people = (*choices.practitioners, *choices.encounters, *form.accounts, *form.conditions)
    names = {choice.reference: choice.text for choice in people}
    if g.session.fhir_user and g.session.user_name:
        names.setdefault(g.session.fhir_user, g.session.user_name)
    label = services().site.policy.code(decision.code).label
    npis = {person.reference: coding["code"] for person in choices.practitioners for coding in person.codings}
    return ToCharge(g.session.issuer_id, resource, decision, label, findings.patient, names, npis)


def kept(leaving: Leaving) -> Leaving | None:
    """What an outbox row keeps of it: of a ChargeItem nothing more than the charge itself."""
    return None if leaving.method is Method.CHARGE_ITEM else leaving


def kept_leaving(row: Charge) -> Leaving:
    """What leaves, or left, of a row."""
    content = row.content
    body = msgspec.json.encode(content.resource)
    return content.leaving or Leaving(Method.CHARGE_ITEM, "application/fhir+json", body)


def shown(leaving: Leaving) -> Shown:
    way = services().handovers.named(leaving.method)
    found = [] if leaving.method is not Method.DOCUMENT else _files_in(msgspec.json.decode(leaving.body))
    says = next((rows for _, data in found if (rows := rows_in(data))), ())
    files = tuple(_file(attachment, data) for attachment, data in found)
    return Shown(leaving.method, way.title, way.by_person, text_of(leaving), says, files)


def text_of(leaving: Leaving) -> str:
    """Exactly what leaves, laid out for reading; of a file within it its size and digest stand in its place,
    since nobody reads base64."""
    if leaving.method is Method.DOCUMENT:
        body = msgspec.json.decode(leaving.body)
        for attachment, data in _files_in(body):
            attachment["data"] = f"({_file(attachment, data)})"
        return laid_out(msgspec.json.encode(body))
    if "json" in leaving.media_type:
        return laid_out(leaving.body)
    return leaving.body.decode().replace("\r", "\n")


def _files_in(body: dict[str, Any]) -> list[tuple[dict[str, Any], bytes]]:
    """Each attachment of a DocumentReference of our own, with its bytes."""
    attachments = [content["attachment"] for content in body["content"]]
    return [(attachment, b64decode(attachment["data"])) for attachment in attachments]


def _file(attachment: dict[str, Any], data: bytes) -> File:
    return File(_KINDS.get(attachment["contentType"], attachment["contentType"]), len(data), digest_of(data))


_KINDS = {"application/pdf": "PDF", "application/xhtml+xml": "XHTML"}


def told_on_the_page(findings: Findings) -> HandingOver:
    """How this EHR takes charges, and what could be entered by hand where nobody can accept."""
    chosen = chosen_here(findings)
    ready = (
        decision
        for decision in findings.assessment.decisions
        if decision.outcome is Outcome.SUGGEST and Unverified.RULES_OF_THE_YEAR not in decision.unverified
    )
    way = chosen.handover
    return HandingOver(way.title, way.by_person, chosen.why, tuple(map(_line, ready)))


def _line(decision: Decision) -> str:
    """Code, units, service date, period; and what whoever enters it answers for."""
    parts = [
        f"{decision.code} × {decision.quantity}",
        f"service date {words.day(decision.service_date)}",
        f"for {words.days(decision.period.start, decision.period.end)}",
    ]
    if decision.modifiers:
        parts.append(f"modifiers {', '.join(decision.modifiers)}")
    if decision.unverified:
        told = " ".join(words.ATTESTATIONS[entry] for entry in decision.unverified)
        parts.append(f"not shown by the record: {told}")
    return "; ".join(parts)
