"""The worksheet: charges as lines that a person enters in billing. It can always be used.

What is accepted stands on the worksheet until somebody says that they entered it; both are kept and audited.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from typing import ClassVar

import msgspec

from smartapp.configuration.handover import Method
from smartapp.ehr.charges.workflow import Delivery, Found, Hand, Holds
from smartapp.ehr.handover.line import ChargeLine, line_of
from smartapp.ehr.handover.method import Asked, HeldNow, ToCharge, Where
from smartapp.ehr.wire.sending import Fate
from smartapp.plain import printable
from smartapp.store.charges import Charge, Leaving

_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20", "\t", "\r", "\n")
"""What a spreadsheet takes for the beginning of a formula, the wide forms in some languages; or skips before
one."""
COLUMNS = (
    "Patient",
    "Date of birth",
    "Record number",
    "Code",
    "Units",
    "Modifiers",
    "Service date",
    "From",
    "To",
    "Diagnoses",
    "Performing",
    "Ordering",
    "Encounter or account",
    "State",
    "Key",
)


class WorksheetHandover:
    """The way that is left where an EHR takes no charge in any other."""

    method: ClassVar[Method] = Method.WORKSHEET
    title: ClassVar[str] = "a worksheet, from which a person enters them in billing"
    by_person: ClassVar[bool] = True

    def refusal(self, where: Where) -> str | None:  # noqa: ARG002
        return None

    def refusal_of(self, where: Where, asked: Asked) -> str | None:  # noqa: ARG002
        return None

    def leaves(self, charge: ToCharge) -> Leaving:
        return Leaving(self.method, "application/json", msgspec.json.encode(line_of(charge)))

    def ready(self, hand: Hand) -> None:
        """Nothing is asked of the EHR for it."""

    def deliver(self, hand: Hand, row: Charge) -> Delivery:  # noqa: ARG002
        return Delivery(Fate.REFUSED, "A worksheet is not sent.")

    def find(self, hand: Hand, row: Charge) -> Found:  # noqa: ARG002
        return Found(Holds.NOT_YET)

    def may_repeat(self, hand: Hand) -> bool:  # noqa: ARG002
        return True

    def read_back(self, hand: Hand, row: Charge, found: Found) -> HeldNow:  # noqa: ARG002
        return HeldNow(None)

    def no_way_back(self, row: Charge) -> str | None:  # noqa: ARG002
        return None

    def take_back(self, hand: Hand, row: Charge) -> Delivery:  # noqa: ARG002
        """The person who presses says that billing does not hold it (any more)."""
        return Delivery(Fate.TAKEN)

    def is_taken_back(self, hand: Hand, row: Charge) -> bool | None:  # noqa: ARG002
        """Nothing was sent: whoever pressed and did not live to see the end presses again."""
        return False


def line_in(row: Charge) -> ChargeLine | None:
    """The line that a row keeps; None of a ChargeItem, which makes none."""
    leaving = row.content.leaving
    return None if leaving is None else msgspec.json.decode(leaving.line or leaving.body, type=ChargeLine)


def csv_of(lines: Iterable[tuple[ChargeLine, str]]) -> str:
    """The lines, each with its state in words, as a spreadsheet reads them. No cell begins a formula."""
    out = io.StringIO()
    table = csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    table.writerow(COLUMNS)
    for line, state in lines:
        table.writerow([as_cell(cell) for cell in (*_cells(line), state, line.key)])
    return out.getvalue()


def as_cell(text: str) -> str:
    """A text that no spreadsheet takes for a formula: what begins like one gets an apostrophe before it."""
    plain = " ".join(text.split()) if any(mark in text for mark in "\t\r\n") else text
    plain = printable(plain)
    return f"'{plain}" if plain.lstrip().startswith(_FORMULA) else plain


def copied(line: ChargeLine) -> str:
    """The line as text, to be copied into another program."""
    parts = [
        f"{line.code} × {line.quantity}",
        *([f"modifiers {', '.join(line.modifiers)}"] if line.modifiers else []),
        f"service date {line.service_date}",
        f"for {line.period_start} to {line.period_end}",
        *([f"diagnosis {', '.join(one.code for one in line.diagnoses)}"] if line.diagnoses else []),
        *([f"performing {line.performing}"] if line.performing else []),
        *([f"ordering {line.ordering}"] if line.ordering else []),
        *([f"at {line.place}"] if line.place else []),
    ]
    return "; ".join(parts)


def _cells(line: ChargeLine) -> tuple[str, ...]:
    return (
        line.patient,
        line.birth_date,
        line.record_number,
        line.code,
        str(line.quantity),
        " ".join(line.modifiers),
        line.service_date.isoformat(),
        line.period_start.isoformat(),
        line.period_end.isoformat(),
        " ".join(one.code for one in line.diagnoses),
        line.performing,
        line.ordering,
        line.place,
    )
