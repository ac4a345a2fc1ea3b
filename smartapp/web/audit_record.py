"""The audit record of a charge: the packet that was kept when it was written, as a page and as it is kept.

Everything on the page is what the packet says, whatever the chart has become since; only names that the
packet leaves out are taken from the chart that is open.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import msgspec
from flask import Blueprint, Response, abort, g, make_response, redirect, render_template, url_for
from werkzeug.wrappers import Response as AnyResponse

from fhir_mappings.local_time import LocalClock, Window
from fhir_mappings.vocabulary import Unverified
from smartapp.ehr.reading.seen import Names, Seen, seen
from smartapp.handover_settings import Method
from smartapp.services import services
from smartapp.store.charges import Charge, Leaving
from smartapp.store.packets import Kept
from smartapp.web import own_pages, words
from smartapp.web.errors import error_page
from smartapp.web.leaving import text_of
from smartapp.web.permission import looking_refusal
from smartapp.web.resolutions import chosen_in_words, signed

pages = Blueprint("audit_record", __name__, url_prefix="/s/<sid>/records")

_READ_BACK = {
    "none": "It could not be read back from the EHR.",
    "same": "It was read back from the EHR, and is what was sent.",
    "other": "It was read back from the EHR, which had changed or added something.",
}


@dataclass(frozen=True)
class RecordLine:
    """One record that the charge rests on, in words, with the version that it had."""

    reference: str
    version: str
    told: Seen


@dataclass(frozen=True)
class Part:
    """One requirement: what was found and needed, by which rule, and the records it rests on."""

    name: str
    found: str
    needed: str
    rule: str
    records: tuple[RecordLine, ...]
    not_kept: int
    """Records that it names and the packet does not hold: those of this app's own time log."""


@pages.before_request
def _only_clinicians() -> AnyResponse | None:
    if services().jobs.findings(g.session.id) is None:
        return redirect(url_for("patient.page", sid=g.session.id))
    refusal = looking_refusal(g.session)
    if refusal is None:
        return None
    return error_page(403, "Audit records cannot be opened here", refusal, "Nothing was opened.")


@pages.get("/<name>")
def page(name: str) -> Response:
    """The packet, for a person to read or print."""
    kept, content = _opened(name)
    packet: dict[str, Any] = msgspec.json.decode(content)
    chart = own_pages.chart()
    evidence = packet.get("evidence") or {}
    decision = evidence.get("decision") or {}
    return make_response(
        render_template(
            "audit_record.html",
            chart=chart,
            kept=kept,
            packet=packet,
            evidence=evidence,
            decision=decision,
            parts=tuple(_parts(decision, evidence)),
            confirmed=_confirmed(packet, decision),
            statements=tuple(_statements(evidence)),
            settled=tuple(_settled(evidence)),
            anchor=packet.get("anchor"),
            read_back=_in_the_ehr(packet),
            place=packet["handed"]["name"] if "leaving" in packet else f"ChargeItem/{kept.charge_item}",
            names=own_pages.name_of,
            beside=[one for one in _of_charge(kept.charge_item) if one.name != kept.name],
            sent=_sent(packet),
        )
    )


@pages.get("/<name>.json")
def as_kept(name: str) -> Response:
    """The packet, byte for byte: its SHA-256 is the one in the audit trail."""
    kept, content = _opened(name)
    response = make_response(content)
    response.headers["Content-Type"] = "application/json"
    response.headers["Content-Disposition"] = f'attachment; filename="{kept.name}.json"'
    return response


def record_of(charge: Charge) -> str | None:
    """The name of a charge's packet; None where none is kept (any more)."""
    if charge.name is None:
        return None
    return next((one.name for one in _of_charge(charge.name) if one.identifier == charge.identifier), None)


def _of_charge(charge_item: str) -> tuple[Kept, ...]:
    """The packets of one charge of this session's patient: its own, and those of its changes."""
    found = services().store.packets.all(g.session.patient, g.session.issuer_id)
    return tuple(one for one in found if one.charge_item == charge_item)


def _opened(name: str) -> tuple[Kept, bytes]:
    """A packet of this session's patient; 404 for any other. That it was opened is audited."""
    here = services()
    packets = here.store.packets
    kept = packets.named(name, packets.all(g.session.patient or "", g.session.issuer_id))
    if kept is None:
        abort(404)
    content = packets.content(kept)
    here.store.audit.add(
        here.clock.now(),
        "packet-opened",
        issuer=kept.issuer_id,
        patient=kept.patient,
        packet=kept.name,
        packet_sha256=kept.sha256,
        **own_pages.facts(),
    )
    return kept, content


def _parts(decision: Mapping[str, Any], evidence: Mapping[str, Any]) -> Iterable[Part]:
    clock, names = LocalClock(services().site.zone), Names()
    held = {
        one["reference"]: RecordLine(one["reference"], one["version"], seen(one["resource"], clock, names))
        for one in evidence.get("records", ())
    }
    for part in decision.get("requirements", ()):
        records = [held[name] for name in part["evidence"] if name in held]
        yield Part(
            words.REQUIREMENTS[part["requirement"]],
            words.amount(part["found"], part["unit"]),
            words.amount(part["needed"], part["unit"]),
            part["reference"],
            tuple(sorted(records, key=lambda one: (one.told.day or date.min, one.told.start))),
            len(part["evidence"]) - len(records),
        )


def _confirmed(packet: Mapping[str, Any], decision: Mapping[str, Any]) -> tuple[str, ...]:
    """What was confirmed with the charge, in sentences."""
    if not decision:
        return ()
    window = Window(*(date.fromisoformat(decision["period"][end]) for end in ("start", "end")))
    return tuple(words.attestation(Unverified(entry), window) for entry in packet.get("attested", ()))


def _statements(evidence: Mapping[str, Any]) -> Iterable[str]:
    for one in evidence.get("attestations", ()):
        sentence = words.ATTESTATIONS[Unverified(one["statement"])]
        yield f"{_signed(sentence, one)}; {_scope(one)}"


def _settled(evidence: Mapping[str, Any]) -> Iterable[str]:
    for one in evidence.get("resolutions", ()):
        chosen = chosen_in_words(one["resolves"], one["choice"])
        more = [f"{chosen[0].upper()}{chosen[1:]}."] if chosen else []
        more += [f"Reference: {one['reference']}."] if one["reference"] else []
        yield f"{_signed(' '.join((one['says'], *more)), one)}; {_scope(one)}"


def _signed(sentence: str, one: Mapping[str, Any]) -> str:
    at = datetime.fromisoformat(one["at"])
    return signed(sentence, own_pages.name_of(one["by"]), services().site.today(at))


def _scope(one: Mapping[str, Any]) -> str:
    period = one["period"]
    window = period and Window(date.fromisoformat(period["start"]), date.fromisoformat(period["end"]))
    return words.scope(one["codes"], window)


def _compared(packet: Mapping[str, Any]) -> str:
    read_back, written = packet.get("read_back"), packet.get("written")
    if not isinstance(read_back, dict):
        return "none"
    own = {name: value for name, value in read_back.items() if name not in {"id", "meta"}}
    return "same" if own == written else "other"


def _in_the_ehr(packet: Mapping[str, Any]) -> str:
    if "leaving" not in packet:
        return _READ_BACK[_compared(packet)]
    handed, method = packet["handed"], Method(packet["leaving"]["method"])
    who = handed["by_name"] or own_pages.name_of(handed["by"])
    if method is Method.WORKSHEET:
        return f"{who} entered it in billing by hand; the EHR did not confirm it as a charge."
    return f"It was handed over as {words.METHODS[method]}; the EHR did not confirm it as a charge."


def _sent(packet: Mapping[str, Any]) -> str:
    if "leaving" in packet:
        return text_of(msgspec.convert(packet["leaving"], Leaving))
    return msgspec.json.format(msgspec.json.encode(packet.get("written")), indent=2).decode()
