"""The packets of one patient's calendar month as one document: every charge whose date of service lies in it,
with the changes of those charges. Each packet stands in it byte for byte."""

from __future__ import annotations

from datetime import date

import msgspec

from smartapp.store.months import month_of
from smartapp.store.packets import Kept, Packets

MONTH_OF_PACKETS = "month-of-packets"


class OfMonth(msgspec.Struct, frozen=True):
    """One packet of a month."""

    name: str
    sha256: str
    written: str
    packet: msgspec.Raw


class Month(msgspec.Struct, frozen=True):
    """The document."""

    kind: str
    patient: str
    issuer: str
    month: str
    packets: list[OfMonth]


class _Period(msgspec.Struct):
    end: date


class _Dated(msgspec.Struct):
    service_date: date | None = None
    period: _Period | None = None


class _Evidence(msgspec.Struct):
    decision: _Dated | None = None


class _Packet(msgspec.Struct):
    evidence: _Evidence | None = None


def packets_of_month(
    packets: Packets, patient: str, issuer_id: str, first_day: date
) -> list[tuple[Kept, bytes]]:
    """Those of the month, the oldest first. Raises PacketAltered, and SealBroken."""
    opened = [(kept, packets.content(kept)) for kept in packets.all(patient, issuer_id)]
    of_month = {
        kept.charge_item
        for kept, content in opened
        if kept.identifier is not None and _month_of(content) == first_day
    }
    return [(kept, content) for kept, content in opened if kept.charge_item in of_month]


def months_with_packets(packets: Packets, patient: str, issuer_id: str) -> list[date]:
    """The first days of the months that hold a charge, the latest first."""
    found = {_month_of(packets.content(kept)) for kept in packets.all(patient, issuer_id) if kept.identifier}
    return sorted((day for day in found if day is not None), reverse=True)


def month_document(patient: str, issuer_id: str, first_day: date, found: list[tuple[Kept, bytes]]) -> bytes:
    """The same packets give the same bytes."""
    return msgspec.json.encode(
        Month(
            MONTH_OF_PACKETS,
            f"Patient/{patient}",
            issuer_id,
            f"{first_day:%Y-%m}",
            [
                OfMonth(kept.name, kept.sha256, kept.created_at.isoformat(), msgspec.Raw(content))
                for kept, content in found
            ],
        )
    )


def _month_of(content: bytes) -> date | None:
    """Of a charge's packet: the month of its date of service."""
    evidence = msgspec.json.decode(content, type=_Packet).evidence
    decision = None if evidence is None else evidence.decision
    if decision is None:
        return None
    day = decision.service_date or (decision.period.end if decision.period is not None else None)
    return None if day is None else month_of(day)
