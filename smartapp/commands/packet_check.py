"""`smartapp packet check`: decides again from a packet alone, and says where it differs.

Asked of nobody: no EHR, no database, no key. What was altered is named by the digests that the packet keeps
of its parts; what that changes, by deciding again with the tables that are shipped here. Only the digest of
the whole, from the audit trail, tells of somebody who altered a part together with its digest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from datetime import date
from enum import Enum
from typing import Any, TypeVar

import msgspec

from fhir_mappings.decision import Decision, decision_json
from fhir_mappings.local_time import LocalClock, zone_named
from fhir_mappings.table_digests import changed_tables
from smartapp.commands.checks import Checks, listed
from smartapp.ehr.charges.decided_again import Again, decided_again
from smartapp.ehr.charges.digests import EVIDENCE, digest_of, digests_of
from smartapp.ehr.charges.evidence import slim
from smartapp.ehr.charges.month_of_packets import MONTH_OF_PACKETS, Month
from smartapp.ehr.reading.findings import evidence_of
from smartapp.ehr.reading.seen import Names, seen
from smartapp.web import words

PERIOD_DAYS = 30
MOST_NAMED = 12


_Type = TypeVar("_Type")


class NoPacket(ValueError):
    """A file is no packet."""


class CheckId(Enum):
    """The stable ids of the checks."""

    FILE = "PACKET-FILE"
    PART = "PACKET-PART"
    RECORD = "PACKET-RECORD"
    HELD = "PACKET-HELD"
    ANCHOR = "PACKET-ANCHOR"
    SENT = "PACKET-SENT"
    DECISION = "PACKET-DECISION"
    LEFT_OUT = "PACKET-LEFT-OUT"
    TABLES = "PACKET-TABLES"


UNCHECKED = frozenset({CheckId.PART.value, CheckId.DECISION.value})
"""A warning of these says that something could not be checked; of the others, only what is to be known."""
_PARTS = {
    "written": "what was sent",
    "read_back": "what the EHR gave back",
    "attested": "what was confirmed with the charge",
    "confirmed_by": "who confirmed it",
    "confirmed_by_name": "who confirmed it, by name",
    "anchor": "where the 30-day periods begin",
    "approval": "who approved it",
    "leaving": "how it left, and exactly what did",
    "handed": "when and by whom it was handed over",
    "snapshot": "the digest of what was read",
    "evidence.attestations": "what was stated for the patient",
    "evidence.resolutions": "how doubts were settled",
    "evidence.episodes": "the episodes of care that were confirmed",
    "evidence.denials": "what payers had denied of the patient's charges",
    "evidence.time_log": "the time that was logged in the app",
    "evidence.decision": "the decision",
    "evidence.records": "which records it rests on",
    "evidence.others": "which records were held beside them",
    "evidence.left_out": "what was left out, and why",
    "evidence.basis": "what it was decided with: codings, anchors, tables",
    "evidence.anchors": "every change of where the periods begin",
    "evidence.spans": "the minutes that counted",
    "evidence.rule": "the sentence of the rule",
    "evidence.found_anchor": "what the record says of where the 30-day periods begin",
    "evidence.notes": "what was late or unusual",
    "evidence.completeness": "what was not read",
}


class _Row(msgspec.Struct):
    reference: str
    resource: msgspec.Raw
    version: str = ""
    sha256: str = ""


class _Evidence(msgspec.Struct):
    decision: Decision | None = None
    timezone: str = "UTC"
    rules_version: str = ""
    records: list[_Row] = []
    others: list[_Row] = []
    left_out: list[dict[str, Any]] = []
    basis: dict[str, Any] | None = None
    decided_again: bool = True


class _Packet(msgspec.Struct):
    evidence: msgspec.Raw
    written: dict[str, Any] = {}
    kind: str = ""
    """Of a change: which."""
    anchor: dict[str, Any] | None = None
    digests: dict[str, str] = {}


def checked(content: bytes, sha256: str | None = None) -> Checks:
    """Check a file of `packet export`: one packet, or a month of them. `sha256`: what it should be. Raises
    `NoPacket` for a file that is none."""
    made = Checks()
    if sha256 is not None:
        _file(made, content, sha256)
    whole = _decoded(content, dict[str, msgspec.Raw])
    if EVIDENCE in whole:
        _check(made, content, "")
    elif bytes(whole.get("kind", b"")) == f'"{MONTH_OF_PACKETS}"'.encode():
        for one in _decoded(content, Month).packets:
            _file(made, bytes(one.packet), one.sha256, one.name)
            _check(made, bytes(one.packet), one.name)
    else:
        raise NoPacket
    return made


def _decoded(content: bytes | msgspec.Raw, type_: type[_Type]) -> _Type:
    try:
        return msgspec.json.decode(content, type=type_)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise NoPacket from None


def _file(made: Checks, content: bytes, sha256: str, about: str = "") -> None:
    found = hashlib.sha256(content).hexdigest()
    if found == sha256.strip().lower():
        made.ok(CheckId.FILE, "It is what was written, byte for byte.", about)
    else:
        made.failure(CheckId.FILE, f"Its digest is {found}, which is not that of what was written.", about)


def _check(made: Checks, content: bytes, about: str) -> None:
    packet = _decoded(content, _Packet)
    evidence = _decoded(packet.evidence, _Evidence)
    _parts(made, content, packet, about)
    _records(made, evidence, about)
    if evidence.decision is None:
        made.ok(CheckId.DECISION, "It rests on the charge alone: there is nothing to decide again.", about)
        return
    _named(made, evidence, about)
    _sent(made, packet, evidence.decision, about)
    _anchor(made, packet, evidence.decision, about)
    if evidence.basis is None:
        made.warning(
            CheckId.DECISION,
            "It was kept before packets held what was left out and the site's codings: that the same is "
            "decided again from it cannot be checked.",
            about,
        )
        return
    before = evidence.basis.get("tables") or {}
    changed = changed_tables({str(name): str(value) for name, value in before.items()})
    if changed:
        made.warning(
            CheckId.TABLES,
            f"Decided again with tables that have changed since: {listed(changed)}. It was decided by "
            f"{evidence.rules_version}, of version {evidence.basis.get('app')} of the app.",
            about,
        )
    else:
        made.ok(CheckId.TABLES, "The tables are those by which it was decided.", about)
    _decide(made, bytes(packet.evidence), evidence, changed, about)


def _parts(made: Checks, content: bytes, packet: _Packet, about: str) -> None:
    """What was altered, part by part."""
    if not packet.digests:
        made.warning(
            CheckId.PART, "It keeps no digests of its parts: what of it was altered is not told.", about
        )
        return
    now = digests_of(content)
    altered = [name for name in {**packet.digests, **now} if packet.digests.get(name) != now.get(name)]
    for name in altered:
        what = _PARTS.get(name, name.removeprefix(f"{EVIDENCE}.").replace("_", " "))
        made.failure(CheckId.PART, f"Altered: {what} ({name}).", about)
    if not altered:
        made.ok(CheckId.PART, "Every part of it is what was written.", about)


def _records(made: Checks, evidence: _Evidence, about: str) -> None:
    rows = [*evidence.records, *evidence.others]
    kept = [row for row in rows if row.sha256]
    altered = [row for row in kept if digest_of(row.resource) != row.sha256]
    left_out = {one["resource"]: one["reason"] for one in evidence.left_out}
    for row in altered:
        why = left_out.get(row.reference)
        of_those = f", which was left out ({words.excluded(why)})" if why else ""
        made.failure(CheckId.RECORD, f"Altered: {_told(row, evidence)}{of_those}.", about)
    if kept and not altered:
        made.ok(CheckId.RECORD, f"{len(kept)} records are what was read.", about)


def _told(row: _Row, evidence: _Evidence) -> str:
    """ "Observation/o1, version 2, 14 Mar 2026 08:00": a record, and what it says now."""
    told = f"{row.reference}, version {row.version or 'not told'}"
    try:
        body = msgspec.json.decode(row.resource)
    except msgspec.DecodeError:
        return told
    says = seen(body, LocalClock(zone_named(evidence.timezone)), Names()) if isinstance(body, dict) else None
    if says is None or says.day is None:
        return told
    return f"{told}, now of {words.day(says.day)} {says.time} {says.value}".rstrip()


def _named(made: Checks, evidence: _Evidence, about: str) -> None:
    assert evidence.decision is not None
    held = {row.reference for row in (*evidence.records, *evidence.others)}
    logged = {name for name in evidence_of(evidence.decision) if name.startswith("urn:")}
    missing = [name for name in evidence_of(evidence.decision) if name not in held]
    if evidence.basis is None:
        missing = [name for name in missing if name not in logged]
    if missing and evidence.basis is None and not evidence.records:
        made.warning(CheckId.HELD, "Packets of changes held no records then.", about)
    elif missing:
        made.failure(CheckId.HELD, f"It rests on what it does not hold: {_some(missing)}.", about)
    else:
        made.ok(CheckId.HELD, "Every record that it rests on is in it.", about)


def _sent(made: Checks, packet: _Packet, decision: Decision, about: str) -> None:
    """What left for the EHR says what was decided; of a change only the new number of units can."""
    resource = packet.written
    if packet.kind not in {"", "update"}:
        return
    units = decision.earned if packet.kind else decision.quantity
    if resource.get("resourceType") != "ChargeItem" or resource.get("status") == "entered-in-error":
        return
    codings = resource.get("code", {}).get("coding", [])
    codes = {one.get("code") for one in codings if isinstance(one, dict)}
    quantity = (resource.get("quantity") or {}).get("value")
    if decision.code not in codes or quantity != units:
        told = f"{listed(sorted(map(str, codes)))}, quantity {quantity}"
        made.failure(
            CheckId.SENT,
            f"What was sent says {told}; decided was {decision.code}, quantity {units}.",
            about,
        )
    else:
        made.ok(CheckId.SENT, "What was sent says what was decided.", about)


def _anchor(made: Checks, packet: _Packet, decision: Decision, about: str) -> None:
    """The period lies on the grid that the packet says it does."""
    if packet.anchor is None:
        return
    try:
        anchor = date.fromisoformat(str(packet.anchor.get("anchor_day")))
    except ValueError:
        made.failure(CheckId.ANCHOR, "Where the 30-day periods begin is no date.", about)
        return
    if (decision.period.start - anchor).days % PERIOD_DAYS or decision.period.start < anchor:
        made.failure(
            CheckId.ANCHOR,
            f"Periods that begin on {words.day(anchor)} hold none that begins on "
            f"{words.day(decision.period.start)}.",
            about,
        )
    else:
        made.ok(CheckId.ANCHOR, f"Its period follows from the anchor, {words.day(anchor)}.", about)


def _decide(made: Checks, document: bytes, evidence: _Evidence, changed: tuple[str, ...], about: str) -> None:
    assert evidence.decision is not None
    if not evidence.decided_again:
        made.warning(
            CheckId.DECISION, "It says of itself that it could not be decided again when it was kept.", about
        )
        return
    try:
        again = decided_again(document)
    except (msgspec.MsgspecError, ValueError, KeyError, TypeError, RecursionError) as fault:
        made.failure(
            CheckId.DECISION,
            f"It cannot be decided again: it holds what cannot be read ({type(fault).__name__}).",
            about,
        )
        return
    why = " The tables named above have changed since." if changed else ""
    differences = [*_differences(evidence.decision, again)]
    for one in differences:
        made.failure(CheckId.DECISION, f"{one}{why}", about)
    if not differences:
        made.ok(CheckId.DECISION, "Decided again from it alone: the same.", about)
    moved = [*_moved(evidence, again)]
    for one in moved:
        made.failure(CheckId.LEFT_OUT, f"{one}{why}", about)
    if not moved:
        made.ok(
            CheckId.LEFT_OUT, f"{len(evidence.left_out)} records are left out again, each as before.", about
        )


def _differences(before: Decision, again: Again) -> Iterable[str]:
    """What is decided otherwise, from the numbers to what they rest on."""
    name = f"{before.code} from {words.day(before.period.start)}"
    now = again.decision
    if now is None:
        yield f"{name} is not decided at all any more"
        return
    for was, is_ in zip(before.requirements, now.requirements, strict=False):
        what = words.REQUIREMENTS[was.requirement]
        if (was.found, was.needed) != (is_.found, is_.needed):
            yield (
                f"{name}: {what}: {words.amount(was.found, was.unit)} found of "
                f"{words.amount(was.needed, was.unit)} needed then, {words.amount(is_.found, is_.unit)} of "
                f"{words.amount(is_.needed, is_.unit)} now."
            )
        gone = [one for one in was.evidence if one not in is_.evidence]
        come = [one for one in is_.evidence if one not in was.evidence]
        if gone:
            yield f"{name}: {what}: counted then and not now: {_some(gone)}."
        if come:
            yield f"{name}: {what}: counted now and not then: {_some(come)}."
    then, present = decision_json(slim(before)), decision_json(slim(now))
    for key in then:
        if key != "requirements" and then[key] != present[key]:
            yield f"{name}: {key.replace('_', ' ')} was {_value(then[key])}, is {_value(present[key])} now."
    if before.requirements == now.requirements and then == present and slim(before) != slim(now):
        yield f"{name}: what it says of hints or alternatives is another."


def _moved(evidence: _Evidence, again: Again) -> Iterable[str]:
    held = {row.reference for row in (*evidence.records, *evidence.others)}
    then = {one["resource"]: one["reason"] for one in evidence.left_out}
    now = {one["resource"]: one["reason"] for one in again.left_out(held)}
    for name in {**then, **now}:
        was, is_ = then.get(name), now.get(name)
        if was != is_:
            before = f"left out then ({words.excluded(was)})" if was else "not left out then"
            after = f"left out now ({words.excluded(is_)})" if is_ else "not left out now"
            yield f"{name}: {before}, {after}."


def _some(names: list[str]) -> str:
    more = len(names) - MOST_NAMED
    return listed([*names[:MOST_NAMED], f"{more} more"] if more > 0 else names)


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return " to ".join(str(one) for one in value.values())
    if isinstance(value, list):
        return listed(map(str, value)) if value else "nothing"
    return "nothing" if value is None else str(value)
