"""What the EHR holds after a write, compared with what was sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fhir_mappings.charge_change import TAKEN_BACK
from launch.errors import HttpError, LaunchError
from launch.tokens import SessionClient
from smartapp.ehr.reading.display import decode
from smartapp.ehr.wire.bundles import read_target
from smartapp.ehr.wire.looks import look
from smartapp.ehr.wire.patient_scope import Whose


@dataclass(frozen=True, slots=True)
class ReadBack:
    """What the EHR holds, and where it is not what was sent."""

    body: bytes | None
    differences: tuple[str, ...]

    @property
    def problem(self) -> str | None:
        """What the clinician should know, although the charge was written."""
        if self.body is None:
            return "The EHR confirmed the charge but did not let it be read back."
        return " ".join(self.differences) or None


def read_back(
    client: SessionClient, sent: Mapping[str, Any], patient: str, logical_id: str, answer: bytes = b""
) -> ReadBack:
    """What the EHR holds of a charge that was written just now: the `answer` to the write, where that is the
    charge, else it is read. Never raises for what the EHR does."""
    seen = look(answer)
    if seen.reference != f"ChargeItem/{logical_id}" or seen.version is None:
        try:
            response = client.fhir("GET", read_target(f"ChargeItem/{logical_id}"))
        except (HttpError, LaunchError):
            return ReadBack(None, ())
        if not response.ok:
            return ReadBack(None, ())
        answer, seen = response.body, look(response.body)
    if seen.resourceType != "ChargeItem":
        return ReadBack(None, ())
    differences = _field_differences(sent, decode(answer))
    if seen.whose(patient, client.issuer.bases) is not Whose.OURS:
        differences.append("subject: the EHR holds something else than was sent.")
    return ReadBack(answer, tuple(differences))


def _field_differences(sent: Mapping[str, Any], held: Mapping[str, Any]) -> list[str]:
    """Fields a claim rests on that the EHR holds otherwise than they were sent."""
    fields = ("status", "code", "quantity", "occurrencePeriod", "occurrenceDateTime")
    return [
        f"{name}: the EHR holds something else than was sent."
        for name in fields
        if name in sent and not _same(sent[name], held.get(name))
    ]


def _same(sent: Any, held: Any) -> bool:
    """Whether everything that was sent is held; a server may add to it (a display, a system)."""
    if isinstance(sent, dict):
        return isinstance(held, dict) and all(_same(value, held.get(key)) for key, value in sent.items())
    if isinstance(sent, list):
        return isinstance(held, list) and all(any(_same(item, other) for other in held) for item in sent)
    return bool(sent == held)


def holds(after: Mapping[str, Any], held: Mapping[str, Any]) -> bool:
    """Whether the EHR holds this very change: its status, its quantity, and its note, which names it."""
    notes = held.get("note")
    texts = [
        note.get("text") for note in (notes if isinstance(notes, list) else []) if isinstance(note, dict)
    ]
    quantity = held.get("quantity")
    return (
        held.get("status") == after.get("status")
        and after["note"][-1]["text"] in texts
        and (
            after.get("status") == TAKEN_BACK
            or (isinstance(quantity, dict) and quantity.get("value") == after["quantity"]["value"])
        )
    )
