"""What came in under one name of somebody, and which version of each record stands.

Of several versions of one record the newest stands, whatever the order they came in; what was deleted is
gone (D27). In files two servers may have given two records of theirs the same id, and one server may have
two addresses: what a record says of when it was tells the one from the other.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec

from fhir_mappings import resources as fhir
from fhir_mappings.chart.bundles import Deletion
from fhir_mappings.encounter import claimed_by, only_takes_away
from fhir_mappings.identity import instant_of, newest, server_of, stamp_of
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


@dataclass(slots=True)
class Arrival:
    """One version of a record, and the address that it came under."""

    full_url: str
    beginning: str | None
    """When what it tells of began (`beginning_of`)."""
    version: _Version


@dataclass(slots=True, frozen=True)
class CameIn:
    """What came under an address, and what was taken away: both by name."""

    arrivals: Mapping[str, Sequence[Arrival]] = field(default_factory=dict)
    deletions: Mapping[str, Sequence[Deletion]] = field(default_factory=dict)


_BEGINNINGS = ("period", "dateTime", "authoredOn", "performedDateTime", "recordedDate", "created")


def beginning_of(resource: fhir.Resource | fhir.Observation) -> str | None:
    """When what a record tells of began, as it is written: two versions of one record mostly say the same.
    None of a charge or a claim: two of a day are likely, and in doubt both stand."""
    if isinstance(resource, fhir.Observation):
        period = resource.effectivePeriod
        return resource.effectiveDateTime or resource.effectiveInstant or (period.start if period else None)
    if isinstance(resource, fhir.ChargeItem | fhir.Claim | fhir.ExplanationOfBenefit):
        return None
    for element in _BEGINNINGS:
        found = getattr(resource, element, None)
        if found is not None:
            return found.start if isinstance(found, fhir.Period) else str(found)
    return None


def settle(
    subjects: Mapping[str, SubjectIntake],
    shared: SubjectIntake,
    came: CameIn,
    clock: LocalClock,
    terminology: Terminology,
) -> None:
    """Leave one version of each record, and nothing that was deleted. `subjects`: by the reference that named
    them; `shared`: what is nobody's."""
    everything = [*subjects.values(), shared]
    names_of = {id(subject): reference for reference, subject in subjects.items()}
    servers: dict[str, dict[str, set[str]]] = {}
    for name, versions in _held(everything, _several(everything)).items():
        records = _apart(name, versions, came.arrivals.get(name, ()))
        servers[name] = {own: record.servers for own, record in records.items()}
        for subject, _ in versions:
            subject.drop(name)
        for own, record in records.items():
            _keep_newest(own, record.versions, names_of, clock, terminology)
    gone: dict[str, list[_Taken]] = {}
    for name, deletions in came.deletions.items():
        records_servers = servers.get(name) or {name: _servers(name, came.arrivals.get(name, ()))}
        for deletion in deletions:
            for own, is_sure in _meant(deletion, records_servers):
                gone.setdefault(own, []).append(_Taken(instant_of(deletion.at, clock), is_sure))
    for name, versions in _held(everything, gone.keys()).items():
        for subject, version in versions:
            if _is_gone(version, gone[name], clock, terminology):
                subject.drop(name)
                subject.excluded.append(Excluded(name, ExcludedReason.DELETED))


# -- one id, and two servers ------------------------------------------------------------------------------


@dataclass(slots=True)
class _Record:
    """Versions of one record, and under which servers' addresses they came."""

    servers: set[str] = field(default_factory=set)
    beginnings: set[str] = field(default_factory=set)
    versions: list[_Held] = field(default_factory=list)


_NOBODY_ELSES = re.compile(
    r"[0-9A-Fa-f]{8}(-?[0-9A-Fa-f]{4}){3}-?[0-9A-Fa-f]{12}|(?=.*[a-z])(?=.*[A-Z])(?=.*[0-9])[A-Za-z0-9.-]{20,}"
)
"""An id that no second server comes to by itself: drawn at random, and long."""


def _apart(name: str, versions: list[_Held], arrivals: Sequence[Arrival]) -> dict[str, _Record]:
    """The records, by a name of its own each, that what came under one name is of.

    Two servers have two records of one id, unless both say that it began at one time: then it is one server
    at two addresses, and so it is where nobody else would have thought of such an id.
    """
    told = {id(one.version): (server_of(one.full_url, name), one.beginning) for one in arrivals}
    servers = _servers(name, arrivals)
    if len(servers) < 2 or _NOBODY_ELSES.fullmatch(name.partition("/")[2]):
        return {name: _Record(servers, set(), versions)}
    records: list[_Record] = []
    for server in sorted(servers):
        record = _Record({server}, {at for of, at in told.values() if of == server and at})
        for other in [one for one in records if one.beginnings & record.beginnings]:
            records.remove(other)
            record.servers |= other.servers
            record.beginnings |= other.beginnings
        records.append(record)
    records.sort(key=lambda one: min(one.servers))
    for held in versions:
        server = told.get(id(held[1]), ("", None))[0]
        # What names no server is of the first: whatever the order, always of the same.
        next((one for one in records if server in one.servers), records[0]).versions.append(held)
    return {name if record is records[0] else f"{name}@{min(record.servers)}": record for record in records}


def _servers(name: str, arrivals: Sequence[Arrival]) -> set[str]:
    """Every server that what came under one name is of, as far as it says."""
    return {server_of(one.full_url, name) for one in arrivals} - {""}


def _meant(deletion: Deletion, records: Mapping[str, set[str]]) -> Iterator[tuple[str, bool]]:
    """Which of these records was taken away, and is that sure: that of its server; else it may be any, and
    is sure only where nothing says that they are of another server, or nobody else has such an id."""
    server = server_of(deletion.address, deletion.name)
    its_own = [own for own, servers in records.items() if server in servers]
    is_random = _NOBODY_ELSES.fullmatch(deletion.name.partition("/")[2]) is not None
    for own in its_own or records:
        yield own, bool(its_own) or is_random or not server or not records[own]


# -- versions of one record -------------------------------------------------------------------------------


@dataclass(slots=True, frozen=True)
class _Taken:
    """That a record was taken away. `at`: when, as an instant; `is_sure`: it was this one, no other's."""

    at: int | None
    is_sure: bool


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
    if isinstance(stands, Measurement):
        stands.resource = name
    if isinstance(stands, Measurement | LeftOut):
        home.observations[name] = stands
    else:
        home.resources[type(stands).__name__][name] = stands
    if len(versions) > 1:
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


def _is_gone(version: _Version, taken: list[_Taken], clock: LocalClock, terminology: Terminology) -> bool:
    """Did one of these deletions take this version away? In doubt whatever could earn a code is gone, and
    whatever could only take one away stands."""
    stored = stamp_of(version.meta, clock).at
    is_charge = isinstance(version, fhir.ChargeItem | fhir.Claim | fhir.ExplanationOfBenefit)
    if is_charge or (isinstance(version, fhir.Encounter) and only_takes_away(version, terminology)):
        taken = [one for one in taken if one.is_sure]
    if any(stored is not None and one.at is not None and stored <= one.at for one in taken):
        return True
    # Without dates a charge stands: one that is missed is charged twice (D27).
    return not is_charge and any(stored is None or one.at is None for one in taken)
