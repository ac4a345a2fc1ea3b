"""Which Procedures may be surgery, and so have a global period (D36).

The error goes one way: taking something for a surgery that is none asks a person one question; missing one
lets somebody charge monitoring that the surgery's payment covers.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from fhir_mappings.resources import Coding
from fhir_mappings.terminology.entries import CodeEntry
from fhir_mappings.terminology.shipped import shipped
from fhir_mappings.terminology.systems import CPT, HCPCS, canonical, key_of

FIRST_SURGERY, LAST_SURGERY = 10021, 69990
"""CPT's numbers of surgery."""


class _Procedures(Struct, forbid_unknown_fields=True):
    no_surgery: list[CodeEntry]
    no_surgery_categories: list[CodeEntry]


_TABLE = shipped("procedures", _Procedures)
_NONE = {entry.key for entry in _TABLE.no_surgery}
_NO_CATEGORIES = {entry.key for entry in _TABLE.no_surgery_categories}


def is_surgery_code(coding: Coding) -> bool:
    """Whether CPT counts it among surgery; HCPCS's address, or none, stands for CPT's too."""
    number = (coding.code or "").strip()[:5]
    return (
        canonical(coding.system) in (CPT, HCPCS, None, "")
        and number.isascii()
        and number.isdigit()
        and FIRST_SURGERY <= int(number) <= LAST_SURGERY
    )


def may_be_surgery(codings: Iterable[Coding], categories: Iterable[Coding]) -> bool:
    """CPT's number says what it is, and HCPCS names no surgery; else anything that no table calls none."""
    found = [coding for coding in codings if coding.code]
    if any(is_surgery_code(coding) for coding in found):
        return True
    if any(canonical(coding.system) in (CPT, HCPCS) for coding in found):
        return False
    if any(key_of(coding) in _NONE for coding in found):
        return False
    return not any(key_of(coding) in _NO_CATEGORIES for coding in categories)
