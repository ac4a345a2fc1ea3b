"""HL7 v2.5.1 DFT^P03 messages to an interface engine: into a folder, or over MLLP.

A file is complete or it is not there: it is written beside and renamed in place. A message without an
acknowledgement is *unknown*, and never sent again.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

import msgspec

from launch.http import Limits
from launch.ports import Clock
from smartapp.configuration.handover import DftWay, HandoverSettings, Method
from smartapp.ehr.charges.workflow import Delivery, Found, Hand, Holds
from smartapp.ehr.handover.fhir_record import refused_as_behavioral
from smartapp.ehr.handover.hl7 import CHARGE, CREDIT, control_id, dft
from smartapp.ehr.handover.line import line_of
from smartapp.ehr.handover.method import Asked, HeldNow, ToCharge, Where
from smartapp.ehr.handover.mllp import send_message
from smartapp.ehr.handover.worksheet import line_in
from smartapp.ehr.wire.sending import Fate
from smartapp.store.charges import Charge, Leaving

OFF = "The site has turned messages off since."


class DftHandover:
    """For sites whose billing takes charges from an interface engine."""

    method: ClassVar[Method] = Method.DFT
    title: ClassVar[str] = "messages for billing (HL7 v2 DFT)"
    by_person: ClassVar[bool] = False

    def __init__(self, settings: HandoverSettings, limits: Limits, clock: Clock) -> None:
        self._settings = settings
        self._limits = limits
        self._clock = clock

    def refusal(self, where: Where) -> str | None:
        way = self._settings.of(where.issuer.id).dft
        if way is None:
            return ""
        if way.folder is not None and not os.access(way.folder, os.W_OK | os.X_OK):
            return "The folder for messages is not there, or nothing can be written in it."
        return None

    def refusal_of(self, where: Where, asked: Asked) -> str | None:
        if not asked.findings.patient.mrn:
            return "The chart shows no record number of the patient, which a message needs."
        return refused_as_behavioral(self._settings.of(where.issuer.id), asked)

    def leaves(self, charge: ToCharge) -> Leaving:
        way, line = self._settings.of(charge.issuer_id).dft, line_of(charge)
        assert way is not None, "what is not turned on is not chosen"
        message = dft(line, way, CHARGE, line.entered_at)
        return Leaving(self.method, "x-application/hl7-v2+er7", message, msgspec.json.encode(line))

    def ready(self, hand: Hand) -> None:
        """Nothing is asked of the EHR for it."""

    def deliver(self, hand: Hand, row: Charge) -> Delivery:  # noqa: ARG002
        assert row.content.leaving is not None, "what leaves is kept in the row"
        return self._leave(row, row.content.leaving.body, CHARGE)

    def find(self, hand: Hand, row: Charge) -> Found:  # noqa: ARG002
        there = self._is_there(row, CHARGE)
        if there:
            return Found(Holds.OURS, _name(row, CHARGE))
        return Found(Holds.UNSURE if there is None else Holds.NOT_YET)

    def may_repeat(self, hand: Hand) -> bool:  # noqa: ARG002
        """What is surely not there was a file that never got its name."""
        return True

    def read_back(self, hand: Hand, row: Charge, found: Found) -> HeldNow:  # noqa: ARG002
        return HeldNow(None)

    # Back

    def no_way_back(self, row: Charge) -> str | None:
        return OFF if self._way(row) is None else None

    def take_back(self, hand: Hand, row: Charge) -> Delivery:  # noqa: ARG002
        """A credit under the same number."""
        way, line = self._way(row), line_in(row)
        if way is None or line is None:
            return Delivery(Fate.REFUSED, OFF)
        return self._leave(row, dft(line, way, CREDIT, self._clock.now()), CREDIT)

    def is_taken_back(self, hand: Hand, row: Charge) -> bool | None:  # noqa: ARG002
        return self._is_there(row, CREDIT)

    # Both directions

    def _way(self, row: Charge) -> DftWay | None:
        return self._settings.of(row.issuer_id).dft

    def _leave(self, row: Charge, message: bytes, kind: str) -> Delivery:
        way, control = self._way(row), _control(row, kind)
        if way is None:
            return Delivery(Fate.REFUSED, OFF)
        found = Found(Holds.OURS, _name(row, kind))
        if way.mllp is not None:
            sent = send_message(way.mllp, message, control, self._limits)
            return Delivery(sent.fate, sent.problem, found)
        assert way.folder is not None, "one of the two is always named"
        try:
            put_in_place(Path(way.folder), control, message)
        except OSError as fault:
            if not self._is_there(row, kind):
                return Delivery(Fate.REFUSED, f"The message could not be written ({fault.strerror}).")
        return Delivery(Fate.TAKEN, "", found)

    def _is_there(self, row: Charge, kind: str) -> bool | None:
        """Whether the message is in its folder. None where nobody can tell: the engine takes files away, and
        over MLLP nothing can be asked."""
        way, control = self._way(row), _control(row, kind)
        if way is None or way.folder is None:
            return None
        if (Path(way.folder) / f"{control}.hl7").exists():
            return True
        return False if _unfinished(Path(way.folder), control).exists() else None


def put_in_place(folder: Path, control: str, message: bytes) -> None:
    """Write a file that only its owner reads, whole, and then give it its name. Raises OSError."""
    unfinished = _unfinished(folder, control)
    # Made anew: one that somebody else laid there would be theirs to read, or lead elsewhere.
    unfinished.unlink(missing_ok=True)
    handle = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(message)
        file.flush()
        os.fsync(file.fileno())
    unfinished.rename(folder / f"{control}.hl7")
    with suppress(OSError):  # not every file system lets a folder be synchronised
        place = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(place)
        finally:
            os.close(place)


def _unfinished(folder: Path, control: str) -> Path:
    return folder / f".{control}.part"


def _control(row: Charge, kind: str) -> str:
    return control_id(row.identifier.rpartition("|")[2], kind)


def _name(row: Charge, kind: str) -> str:
    return f"DFT/{_control(row, kind)}"
