"""Encounter.class -> where the patient was (D26), and what a class alone says of the activity (D12)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Generic, TypeVar

from fhir_mappings.resources import Coding
from fhir_mappings.terminology.entries import CodeEntry, PlaceEntry
from fhir_mappings.terminology.systems import ACT_CODE, ENCOUNTER_CLASS, Key, key_of
from fhir_mappings.vocabulary import Place

_Meaning = TypeVar("_Meaning")


class Classes(Generic[_Meaning]):
    """What classes mean: the site's codes as it wrote them, else the shipped ones, read without regard to
    case. A class without a system is one of HL7's: v3's, or DSTU2's word, which came without any."""

    def __init__(
        self, shipped: Mapping[Key, _Meaning] | None = None, site: Mapping[Key, _Meaning] | None = None
    ) -> None:
        self._site = dict(site or {})
        self._shipped = {
            (system, _plain(code)): meaning for (system, code), meaning in (shipped or {}).items()
        }

    def of(self, class_: Coding | None) -> _Meaning | None:
        if class_ is None or not class_.code:
            return None
        system, code = key_of(class_)
        found = self._site.get((system, code))
        if found is not None:
            return found
        for known in (system,) if system else (ACT_CODE, ENCOUNTER_CLASS):
            found = self._shipped.get((known, _plain(code)))
            if found is not None:
                return found
        return None


def places(
    shipped: Iterable[PlaceEntry], facility: Iterable[CodeEntry], outpatient: Iterable[CodeEntry]
) -> Classes[Place]:
    """Where a class places the patient; the site's own lists over the shipped table."""
    return Classes(
        {entry.key: entry.place for entry in shipped},
        {entry.key: Place.FACILITY for entry in facility}
        | {entry.key: Place.OUTPATIENT for entry in outpatient},
    )


def _plain(code: str | None) -> str:
    return (code or "").strip().lower()
