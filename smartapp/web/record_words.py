"""Sentences that name records of the EHR, as a clinician reads them; the names are for auditors."""

from __future__ import annotations

import re
from collections.abc import Iterable

_RECORD = re.compile(r"\b([A-Z][A-Za-z]+)/[A-Za-z0-9][A-Za-z0-9.-]*(?<![.])")
_OURS = re.compile(r"\burn:uuid:\S+")
_NUMBER = re.compile(r" ?\bChange [0-9a-f]{12}\.")
_TO_CONFIRM = re.compile(r"(More must be confirmed now): [^.]*\.")
_AGAIN = re.compile(r"\b(an? [a-z ]+?)(?:, \1\b)+")
_KINDS = {
    "ChargeItem": "a charge",
    "Claim": "a claim",
    "Encounter": "a visit or a contact",
    "ExplanationOfBenefit": "a payer's answer",
    "Observation": "a reading",
    "Practitioner": "somebody without a name here",
    "PractitionerRole": "somebody without a name here",
}


def in_words(sentence: str | None) -> str:
    """Without names of records and numbers of changes."""
    told = _RECORD.sub(lambda found: _KINDS.get(found[1], "a record"), _NUMBER.sub("", sentence or ""))
    told = _TO_CONFIRM.sub(r"\1.", told)
    told = _AGAIN.sub(lambda found: f"several times {found[1]}", _OURS.sub("an entry of the time log", told))
    return re.sub(r"(^|[.] )([a-z])", lambda found: found[1] + found[2].upper(), told.strip())


def all_in_words(sentences: Iterable[str]) -> tuple[str, ...]:
    """Each sentence once."""
    return tuple(dict.fromkeys(map(in_words, sentences)))
