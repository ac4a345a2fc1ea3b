"""FHIR JSON as it comes over the wire: search pages, and a first look at a resource.

Lenient, one entry at a time. Resources stay bytes (`msgspec.Raw`); only what the reader itself must know is
decoded: who it is about, what it refers to, which version it is. What it means is `fhir_mappings`' to say.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import quote, urlencode

import msgspec
from msgspec import Raw, Struct

MOST_OUTCOME_TEXT = 300


def search_target(type_: str, parameters: Iterable[tuple[str, str]]) -> str:
    """`Type?name=value&...`, every value escaped: an id from an EHR is data, never part of an address."""
    return f"{type_}?{urlencode(list(parameters))}"


def read_target(reference: str) -> str:
    """The address of "Type/id", the id escaped."""
    type_, _, logical_id = reference.partition("/")
    return f"{type_}/{quote(logical_id, safe='')}"


class _Link(Struct):
    relation: str = ""
    url: str = ""


class _Search(Struct):
    mode: str = "match"


class Entry(Struct):
    """`resource` is empty where the entry has none: msgspec has no "Raw or null"."""

    resource: Raw = Raw()
    fullUrl: str | None = None  # noqa: N815
    search: _Search | None = None


class _Page(Struct):
    resourceType: str = ""  # noqa: N815
    link: list[_Link] = []
    entry: list[Entry] = []


class NotAPage(Exception):
    """The body is no searchset Bundle."""


class SearchPage(Struct, frozen=True):
    """One page of a search: its entries, and where the next page is."""

    entries: tuple[Entry, ...]
    next_url: str | None


def search_page(body: bytes) -> SearchPage:
    """Decode a searchset Bundle. Raises NotAPage."""
    try:
        page = msgspec.json.decode(body, type=_Page)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError):
        raise NotAPage from None
    if page.resourceType != "Bundle":
        raise NotAPage
    following = next((link.url for link in page.link if link.relation == "next" and link.url), None)
    return SearchPage(tuple(page.entry), following)


class _Reference(Struct):
    reference: str | None = None


class _Participant(Struct):
    individual: _Reference | None = None


class _Meta(Struct):
    versionId: str | None = None  # noqa: N815


class Look(Struct):
    """A first look at a resource: only what the reader acts on."""

    resourceType: str = ""  # noqa: N815
    id: str | None = None
    meta: _Meta | None = None
    subject: _Reference | None = None
    patient: _Reference | None = None
    beneficiary: _Reference | None = None
    device: _Reference | None = None
    source: _Reference | None = None
    participant: list[_Participant] = []
    practitioner: _Reference | None = None

    @property
    def reference(self) -> str:
        return f"{self.resourceType}/{self.id}" if self.id else ""


_LOOK = msgspec.json.Decoder(Look)


class _Named(Struct):
    resourceType: str = ""  # noqa: N815
    id: Any = None


def look(raw: bytes | Raw) -> Look:
    """A first look; where a field has an unexpected shape, type and id alone. Never raises."""
    try:
        return _LOOK.decode(raw)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError):
        try:
            named = msgspec.json.decode(raw, type=_Named)
        except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError):
            return Look()
        return Look(resourceType=named.resourceType, id=named.id if isinstance(named.id, str) else None)


def version_of(seen: Look, raw: bytes) -> str:
    """`meta.versionId`, or a digest of the bytes where the EHR gives none."""
    if seen.meta is not None and seen.meta.versionId:
        return seen.meta.versionId
    return "sha256:" + hashlib.sha256(raw).hexdigest()


def relative(reference: str, base: str) -> str:
    """`Type/id` of a reference under `base`, absolute or relative, without its version. Else as it is."""
    text = reference.removeprefix(base.rstrip("/") + "/")
    return text.split("/_history/", 1)[0]


def names_another_patient(seen: Look, patient: str, base: str) -> bool:
    """Whether the resource says outright that it is about a Patient other than `patient` (a logical id)."""
    for about in (seen.subject, seen.patient, seen.beneficiary):
        if about is not None and about.reference:
            named = relative(about.reference, base)
            if named.startswith("Patient/") and named != f"Patient/{patient}":
                return True
    return seen.resourceType == "Patient" and seen.id not in (None, patient)


def references(seen: Look, base: str) -> Iterator[str]:
    """What the reader may have to fetch by id: devices of readings, people of encounters."""
    targets = [seen.device, seen.source, seen.practitioner, *(item.individual for item in seen.participant)]
    for target in targets:
        if target is not None and target.reference:
            named = relative(target.reference, base)
            if named.split("/", 1)[0] in {"Device", "DeviceMetric", "Practitioner", "PractitionerRole"}:
                yield named


def outcome_text(body: bytes) -> str:
    """What an OperationOutcome says, as one short plain line; empty where the body is anything else."""
    try:
        outcome = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""
    if not isinstance(outcome, dict) or outcome.get("resourceType") != "OperationOutcome":
        return ""
    said = []
    for issue in outcome.get("issue") or []:
        if isinstance(issue, dict):
            details = issue.get("details")
            text = issue.get("diagnostics") or (details.get("text") if isinstance(details, dict) else None)
            said.append(str(text or issue.get("code") or ""))
    line = "; ".join(part for part in said if part)
    return "".join(character if character.isprintable() else " " for character in line)[:MOST_OUTCOME_TEXT]
