"""Addresses of code systems: one system under several addresses is one system (D32).

Every coding that is looked up, a resource's or a site's, goes through `key_of`. What is not in the table
(`systems.yaml`) stays as it is: two addresses that nobody has said are one are two.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Protocol

from msgspec import Struct

from fhir_mappings.terminology.shipped import shipped

CPT = "http://www.ama-assn.org/go/cpt"
PROVIDERS = "http://nucc.org/provider-taxonomy"
HCPCS = "http://www.cms.gov/Medicare/Coding/HCPCSReleaseCodeSets"
ICD_10_CM = "http://hl7.org/fhir/sid/icd-10-cm"
UCUM = "http://unitsofmeasure.org"
ACT_CODE = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
ENCOUNTER_CLASS = "http://hl7.org/fhir/encounter-class"
"""DSTU2's words for Encounter.class."""

Key = tuple[str | None, str | None]
_OID = "urn:oid:"
_SNOMED_VERSION = re.compile(r"^(http://snomed\.info/sct)/\d+(?:/version/\d+)?$")
"""What names an edition of SNOMED CT, or a version of one: a code is the same in all of them."""


class Coded(Protocol):
    """What has a system and a code: a Coding, or an entry of a table."""

    @property
    def system(self) -> str | None: ...
    @property
    def code(self) -> str | None: ...


class _System(Struct, forbid_unknown_fields=True, kw_only=True):
    system: str
    oids: tuple[str, ...] = ()
    was: tuple[str, ...] = ()
    confirmed: str


class _Systems(Struct, forbid_unknown_fields=True):
    systems: tuple[_System, ...]


@lru_cache(maxsize=4096)
def canonical(system: str | None) -> str | None:
    """The one address of a code system, whatever it was written as; an unknown one as it stands."""
    if not system:
        return system
    return _CANONICAL.get(_plain(system), system)


def key_of(coding: Coded) -> Key:
    """What a coding is looked up by. Blanks around a code, as columns are filled up, are none of it."""
    code = coding.code
    return canonical(coding.system), code.strip() if code else code


def coding_name(coding: Coded) -> str:
    """A coding as one text, the same for every address of its system."""
    system, code = key_of(coding)
    return f"{system}|{code}"


def _plain(address: str) -> str:
    """An address without what makes no difference: the scheme's s, capital letters, a slash at the end, the
    version that some write behind a bar, and the edition or version of SNOMED CT."""
    plain = address.partition("|")[0].strip().rstrip("/").lower()
    plain = f"http{plain[5:]}" if plain.startswith("https:") else plain
    return _SNOMED_VERSION.sub(r"\1", plain)


_CANONICAL = {
    _plain(address): entry.system
    for entry in shipped("systems", _Systems).systems
    for address in (
        entry.system,
        *entry.was,
        *(spelling for oid in entry.oids for spelling in (oid, f"{_OID}{oid}")),
    )
}
