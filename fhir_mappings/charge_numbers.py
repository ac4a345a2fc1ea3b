"""Numbers of CPT and HCPCS, as charges and EHRs write them: with a prefix, with modifiers, in words (D29).

One home for the question: for the codes that are charged here, and for services of others.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from fhir_mappings.resources import READ_TYPES

SERVICE = r"(?:[A-Za-z]\d{4}|\d{4}[A-Za-z0-9])"
"""What such a number looks like."""


class Numbers:
    """Some of them, to be found in texts."""

    def __init__(self, numbers: Collection[str]) -> None:
        either = "|".join(sorted(numbers)) or "(?!)"
        self.number = re.compile(rf"(?i:CPT4?|HCPCS|[1-9]\d?X)?({either})(?:[A-Z]{{2}}|[xX]\d{{1,2}})?")
        """One of them, bare or as some write it in one word with its prefix, modifier or units."""
        self.lettered = re.compile(rf"[A-Z]{{0,5}}({either})[A-Z]{{0,2}}")
        """One of them among the letters of a code."""
        self.anywhere = re.compile(either)
        self.in_bytes = re.compile(rf"{either}|\\u".encode())
        """Worth taking apart: digits may stand in a text as escapes."""


def numbers_in(text: str, known: Numbers) -> list[str]:
    """Known numbers that stand in a text as words of their own, in their order.

    What is joined to one must be a word, a modifier or another code ("CPT-99454", "99454:GP", "99453/99454");
    then it is no part of a decimal, a date, a telephone number, an address or a longer identifier.
    """
    found: list[str] = []
    if not known.anywhere.search(text):
        return found
    text = _CPT_4.sub("CPT", text)
    for run in _RUN.finditer(text):
        parts = _PART.findall(run.group())
        numbers = [match.group(1) for part in parts if (match := known.number.fullmatch(part))]
        before = text[max(0, run.start() - _FAR_ENOUGH) : run.start()]
        if numbers and _is_plain(run.group(), parts, known) and not _NO_CODE_BEFORE.search(before):
            found += numbers
    return found


def numbers_in_code(code: str, known: Numbers) -> list[str]:
    """Known numbers in the code that something is charged by, in their order.

    Nothing else is written there, so whatever it is joined to it is one: a revenue code ("0510.99454"), a
    sequence or units ("99454-1"), a spreadsheet's decimals ("99454.0"), letters ("RPM99454"). Only within
    other digits, an address or a reference it is none.
    """
    found = numbers_in(code, known)
    if found or not known.anywhere.search(code) or "://" in code or _REFERENCE.search(code):
        return found
    return [match.group(1) for part in _PART.findall(code) if (match := known.lettered.fullmatch(part))]


def is_service(code: str | None) -> bool:
    """Does a code look like a number of CPT or HCPCS, alone or with modifiers?"""
    return code is not None and _SERVICE_FIRST.match(code.strip()) is not None


_SERVICE_FIRST = re.compile(rf"(?:(?:CPT4?|HCPCS)\W*)?{SERVICE}(?![A-Za-z0-9])", re.IGNORECASE)
_CPT_4 = re.compile(r"\bcpt-4\b", re.IGNORECASE)
# Words, and what joins them into one.
_PART = re.compile(r"[^\W_]+")
_RUN = re.compile(r"[^\W_]+(?:[-\u2010-\u2013_:./][^\W_]+)*")
_NO_CODE_BEFORE = re.compile(r"(?:[$\u20ac\u00a3]|(?<![.])[.]|\+\d{1,3} |://\S*)$")
"""Before an amount, a decimal, a telephone number; within an address."""
_FAR_ENOUGH = 200
"""Characters before a word that may say what it is part of."""
_WORD = re.compile(r"[^\W\d_]+\d?")
_CODE = re.compile(SERVICE)
_MODIFIER = re.compile(r"[A-Za-z0-9]{2}")
_DECIMAL = re.compile(r"\d[.]\d")
_REFERENCE = re.compile(rf"(?:{'|'.join(sorted(READ_TYPES | {'Account'}))})/|^urn:")


def _is_plain(run: str, parts: list[str], known: Numbers) -> bool:
    """Whether these parts, joined, are codes with what belongs to them, and no name of something else."""
    if _DECIMAL.search(run) or _REFERENCE.search(run):
        return False
    return all(
        known.number.fullmatch(part)
        or _WORD.fullmatch(part)
        or _CODE.fullmatch(part)
        or (position > 0 and _MODIFIER.fullmatch(part))
        for position, part in enumerate(parts)
    )
