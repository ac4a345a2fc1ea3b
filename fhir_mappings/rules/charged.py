"""What the charges of one code come to: counted once, whichever papers tell of them, and less what was taken
back (D29)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from fhir_mappings.local_time import Window
from fhir_mappings.record import PriorCharge
from fhir_mappings.rules.candidate import Candidate
from fhir_mappings.vocabulary import Unverified

_Key = TypeVar("_Key")


def units_charged(charges: Iterable[PriorCharge]) -> int:
    """Units of one code in one window. ChargeItem, Claim, ExplanationOfBenefit and what was handed over
    otherwise tell of one service: the kind that tells of the most counts, never the sum of them. A credit is
    a number below zero."""
    by_kind: dict[str, int] = {}
    for charge in charges:
        by_kind[charge.kind] = by_kind.get(charge.kind, 0) + charge.quantity
    return max(by_kind.values(), default=0)


def standing(charges: Sequence[PriorCharge]) -> list[PriorCharge]:
    """Of the charges of one window, those of codes of which something is still charged."""
    return _of_those_that_stand([(charge.code, charge) for charge in charges])


def uncredited(charges: Iterable[PriorCharge]) -> list[PriorCharge]:
    """Of charges from any time, those that were not taken back for the very same days."""
    return _of_those_that_stand([((charge.code, charge.occurrence), charge) for charge in charges])


def _of_those_that_stand(charges: list[tuple[_Key, PriorCharge]]) -> list[PriorCharge]:
    of_key: dict[_Key, list[PriorCharge]] = {}
    for key, charge in charges:
        of_key.setdefault(key, []).append(charge)
    units = {key: units_charged(together) for key, together in of_key.items()}
    return [charge for key, charge in charges if units[key] > 0]


def add_charges(candidate: Candidate, in_window: Iterable[PriorCharge]) -> None:
    """The charges of a candidate's code in its window; where as much was taken back as charged, that nobody
    can tell from here what became of it."""
    own = [charge for charge in in_window if charge.code == candidate.rule.code]
    candidate.charges = tuple(standing(own))
    if own and not candidate.charges:
        candidate.unverified |= {Unverified.PRIOR_CHARGES}


def touches(window: Window, occurrences: Iterable[Window | None]) -> bool:
    """May one of these lie in the window? Without days it may lie anywhere."""
    return any(occurrence is None or occurrence.overlaps(window) for occurrence in occurrences)
