"""One charge as an HL7 v2.5.1 message DFT^P03, and what an acknowledgement says."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime

from smartapp.configuration.handover import DftWay
from smartapp.ehr.handover.line import ChargeLine, PersonId
from smartapp.plain import printable

CHARGE, CREDIT = "CG", "CR"
_ESCAPES = str.maketrans({"\\": "\\E\\", "|": "\\F\\", "^": "\\S\\", "&": "\\T\\", "~": "\\R\\"})
_ICD_10_CM = "http://hl7.org/fhir/sid/icd-10-cm"
_DATE = re.compile(r"[0-9]{4}(-[0-9]{2}(-[0-9]{2})?)?")
_TAKEN = frozenset({"AA", "CA"})
_REFUSED = frozenset({"AE", "AR", "CE", "CR"})
TRANSACTION_LENGTH = 12
"""Engines keep few characters of a transaction's number (FT1-2)."""


def control_id(key: str, kind: str) -> str:
    """MSH-10, at most 20 characters: the same message is always the same number."""
    return f"{key[:18]}{kind}"


def dft(line: ChargeLine, way: DftWay, kind: str, at: datetime) -> bytes:
    """The message. `kind`: CHARGE, or CREDIT, which takes back the charge of the same FT1-2. `at`: aware."""
    made = f"{at:%Y%m%d%H%M%S%z}"
    code = _parts(line.code, "", _system(line.code))
    segments = [
        (
            "MSH|^~\\&",
            _text(way.sending_application),
            _text(way.sending_facility),
            _text(way.receiving_application),
            _text(way.receiving_facility),
            made,
            "",
            "DFT^P03^DFT_P03",
            control_id(line.key, kind),
            "P",
            "2.5.1",
            *("",) * 5,
            "UNICODE UTF-8",
        ),
        ("EVN", "", made),
        (
            "PID",
            "1",
            "",
            _parts(line.record_number, "", "", way.assigning_authority, "MR"),
            "",
            # The chart's name as it is displayed: nobody cuts a stranger's name into given and family.
            _parts(line.patient, "", "", "", "", "", "D"),
            "",
            _born(line.birth_date),
        ),
        ("PV1", "1", "O", *("",) * 16, _text(line.visit)),
        (
            "FT1",
            "1",
            line.key[:TRANSACTION_LENGTH],
            "",
            _day(line.service_date),
            made,
            kind,
            code,
            "",
            "",
            str(line.quantity),
            *("",) * 8,
            "~".join(_parts(one.code, "", "I10") for one in line.diagnoses if one.system == _ICD_10_CM),
            _person(line.performing, line.performing_id),
            _person(line.ordering, line.ordering_id),
            *("",) * 3,
            code,
            "~".join(map(_text, line.modifiers)),
        ),
    ]
    return "".join("|".join(fields).rstrip("|") + "\r" for fields in segments).encode()


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """`taken`: True or False as it says; None where it does not speak of this message. `says`: why not."""

    taken: bool | None
    says: str = ""


def acknowledgement(message: bytes, control: str) -> Acknowledgement:
    """What an answer says of the message with that number. Whatever it is, it raises nothing."""
    segments = [line.split("|") for line in message.decode(errors="replace").split("\r")]
    msa = next((fields for fields in segments if fields[0] == "MSA"), [])
    told = (*msa, *("",) * 4)
    if told[2] != control:
        return Acknowledgement(None)
    if told[1] in _TAKEN:
        return Acknowledgement(True)
    if told[1] not in _REFUSED:
        return Acknowledgement(None)
    said = told[3] or next((fields[8] for fields in segments if fields[0] == "ERR" and len(fields) > 8), "")
    return Acknowledgement(False, printable(said)[:200] or told[1])


def _text(value: str) -> str:
    """A text as a field holds it: nothing in it separates or begins anything."""
    return printable(value).translate(_ESCAPES)


def _parts(*values: str) -> str:
    return "^".join(map(_text, values)).rstrip("^")


def _day(day: date) -> str:
    return f"{day:%Y%m%d}"


def _born(date_: str) -> str:
    """A day, month or year of a chart without its dashes; nothing where it is none of these."""
    return date_.replace("-", "") if _DATE.fullmatch(date_) else ""


def _system(code: str) -> str:
    """HL7's name of a code's system (table 0396): HCPCS's own codes begin with a letter."""
    return "HCPCS" if code[:1].isalpha() else "C4"


def _person(name: str, known: PersonId) -> str:
    if known.npi:
        return _parts(known.npi, name, "", "", "", "", "", "", "NPI", "", "", "", "NPI")
    return _parts(known.local, name)
