"""What came in under one name of somebody, and which version of each record stands.

Of several versions of one record the newest stands, whatever the order they came in; what was deleted is
gone (D27).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec

from fhir_mappings import resources as fhir
from fhir_mappings.encounter import claimed_by
from fhir_mappings.identity import instant_of, newest, stamp_of
from fhir_mappings.local_time import LocalClock, Moment
from fhir_mappings.observation import LeftOut, Measurement
from fhir_mappings.prior_charge import NOT_CHARGED, NOT_CLAIMED
from fhir_mappings.record import Excluded, PriorCharge
from fhir_mappings.terminology import Terminology
from fhir_mappings.vocabulary import ExcludedReason

Kind = TypeVar("Kind", bound=fhir.Resource)
ReadObservation = Measurement | LeftOut


@dataclass(slots=True)
class SubjectIntake:
    """What came under one subject reference, before anyone knows which patient that is."""

    observations: dict[str, ReadObservation] = field(default_factory=dict)
    resources: dict[str, dict[str, fhir.Resource]] = field(default_factory=dict)
    further: list[tuple[str, ReadObservation | fhir.Resource]] = field(default_factory=list)
    """Further versions, or copies, of what is there already."""
    excluded: list[Excluded] = field(default_factory=list)
    lost_charges: list[PriorCharge] = field(default_factory=list)
    """Charges of our codes, as far as an unreadable charge or claim shows any."""
    has_panels: bool = False
    identifiers: set[fhir.Identifier] = field(default_factory=set)
    repeats_identifiers: bool = False
    """Two Observations may carry the same business identifier."""
    replaces_some: bool = False
    """An Observation says that it was sent in the place of another."""

    def of(self, kind: type[Kind]) -> dict[str, Kind]:
        found = self.resources.get(kind.__name__, {})
        return {name: resource for name, resource in found.items() if isinstance(resource, kind)}

    def names(self) -> Iterator[str]:
        yield from self.observations
        for of_kind in self.resources.values():
            yield from of_kind

    def drop(self, name: str) -> None:
        self.observations.pop(name, None)
        self.resources.get(name.split("/", 1)[0], {}).pop(name, None)

    def as_anothers(self) -> Iterator[Excluded]:
        """All of it, left out as another patient's."""
        for name in self.names():
            yield Excluded(name, ExcludedReason.OTHER_PATIENT)
        yield from self.excluded


_Version = ReadObservation | fhir.Resource
_Held = tuple[SubjectIntake, _Version]


def settle(
    subjects: Mapping[str, SubjectIntake],
    shared: SubjectIntake,
    deletions: Mapping[str, list[str | None]],
    clock: LocalClock,
    terminology: Terminology,
) -> None:
    """Leave one version of each record, and nothing that was deleted. `subjects`: by the reference that named
    them; `shared`: what is nobody's; `deletions`: by name, each with its moment where one is told."""
    everything = [*subjects.values(), shared]
    names_of = {id(subject): reference for reference, subject in subjects.items()}
    for name, versions in _held(everything, _several(everything)).items():
        _keep_newest(name, versions, names_of, clock, terminology)
    for name, versions in _held(everything, deletions.keys()).items():
        for subject, version in versions:
            if _is_gone(version, deletions[name], clock):
                subject.drop(name)
                subject.excluded.append(Excluded(name, ExcludedReason.DELETED))


def _several(everything: list[SubjectIntake]) -> set[str]:
    """Names that came more than once, also under different subjects."""
    found = {name for subject in everything for name, _ in subject.further}
    if len(everything) > 2:
        seen: set[str] = set()
        for subject in everything:
            for name in subject.names():
                (found if name in seen else seen).add(name)
    return found


def _held(everything: list[SubjectIntake], wanted: Collection[str]) -> dict[str, list[_Held]]:
    """Every version of what bears one of these names, and where it lies."""
    found: dict[str, list[_Held]] = {}
    if not wanted:
        return found
    for subject in everything:
        for name, read in subject.observations.items():
            if name in wanted:
                found.setdefault(name, []).append((subject, read))
        for of_kind in subject.resources.values():
            for name, resource in of_kind.items():
                if name in wanted:
                    found.setdefault(name, []).append((subject, resource))
        for name, version in subject.further:
            if name in wanted:
                found.setdefault(name, []).append((subject, version))
        subject.further = []
    return found


def _keep_newest(
    name: str, versions: list[_Held], names_of: Mapping[int, str], clock: LocalClock, terminology: Terminology
) -> None:
    """Of the versions of one record the one that stands; the others are duplicates. One that stands alike
    under two subjects is the first one's by name: whatever the order, never both."""
    best = newest([stamp_of(version.meta, clock) for _, version in versions])
    home, stands = min(
        (versions[position] for position in best),
        key=lambda one: (*_claims(one[1], clock, terminology), names_of.get(id(one[0]), "")),
    )
    for subject, _ in versions:
        subject.drop(name)
    if isinstance(stands, Measurement | LeftOut):
        home.observations[name] = stands
    else:
        home.resources[type(stands).__name__][name] = stands
    home.excluded.append(Excluded(name, ExcludedReason.DUPLICATE))


def _claims(version: _Version, clock: LocalClock, terminology: Terminology) -> tuple[bool, float, str]:
    """Which of two versions is believed where neither is known to be newer: the one that claims less. A
    reading that is left out; a charge that stands; a conversation that is not finished, or is shorter; a
    stay or a visit that took place, and lasted longer. Then any, always the same."""
    if isinstance(version, LeftOut):
        return False, 0, version.reason
    if isinstance(version, Measurement):
        moment = Moment(version.day, version.instant, version.date_only)
        content = (moment, version.more, version.origin.device, version.origin.meaning.key, version.value)
        return True, 0, repr(content)
    likeness = msgspec.json.encode(version).decode("utf-8", "replace")
    if isinstance(version, fhir.Encounter):
        return *claimed_by(version, terminology, clock), likeness
    claims_more = (
        version.status in NOT_CHARGED
        if isinstance(version, fhir.ChargeItem)
        else version.status in NOT_CLAIMED
        if isinstance(version, fhir.Claim | fhir.ExplanationOfBenefit)
        else getattr(version, "status", None) not in ("entered-in-error", "cancelled")
    )
    return claims_more, 0, likeness


def _is_gone(version: _Version, when: list[str | None], clock: LocalClock) -> bool:
    """Did one of these deletions take this version away?"""
    stored = stamp_of(version.meta, clock).at
    instants = [instant_of(text, clock) for text in when]
    later = stored is not None and any(at is not None and stored <= at for at in instants)
    if isinstance(version, fhir.ChargeItem | fhir.Claim | fhir.ExplanationOfBenefit):
        # In doubt a charge stands: one that is missed is charged twice.
        return later
    return later or stored is None or None in instants
