"""Taking in: many resources in any order, each read once, and whose each of them is.

Each is decoded, boiled down and let go, so that a chart of 50,000 readings stays small. A broken resource is
listed, tells what its absence may have changed, and never stops the rest. Which version of a record stands is
settled when everything is there (`chart.subjects`). A person whose record was replaced by another is that
other (D30).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from datetime import date
from functools import cache, cached_property

import msgspec
from msgspec import Raw

from fhir_mappings import resources as fhir
from fhir_mappings.chart import bundles
from fhir_mappings.chart.subjects import (
    Arrival,
    CameIn,
    Kind,
    ReadObservation,
    SubjectIntake,
    beginning_of,
    settle,
)
from fhir_mappings.completeness import ANY_TYPE, Missing, MissingWhy
from fhir_mappings.identity import (
    Bases,
    Links,
    References,
    links_of,
    name_of,
    owner_of,
    pointer,
    subject_of,
)
from fhir_mappings.local_time import ONE_DAY, LocalClock, Moment
from fhir_mappings.observation import LeftOut, Measurement, Origins, read_observation
from fhir_mappings.record import Excluded, PriorCharge
from fhir_mappings.rules.tables import KnownCodes, shipped_codes
from fhir_mappings.salvage import entries_of, members_of, mended_patient, missing_of, salvaged
from fhir_mappings.terminology import Terminology
from fhir_mappings.values import Values
from fhir_mappings.vocabulary import ExcludedReason

Hint = Callable[[], str]
"""The type that a broken resource must be of, as what it came with tells; asked only when one is broken."""
SUBJECT_FREE = (fhir.DeviceMetric, fhir.Practitioner, fhir.PractitionerRole)

_NAMED_BY_OTHERS = (fhir.Patient, fhir.Device, *SUBJECT_FREE)
"""Whom and what the records of all servers mean: one of the same id is the same."""

NOT_JSON = fhir.NOT_JSON
_NO_PEOPLE = ("Device/", "Group/", "Location/")
_UNBOUNDED = (None, None)
_NOBODYS = "a record that names no patient"
_Days = tuple[date | None, date | None]


def _no_hint() -> str:
    return ""


DEEPEST = 32
"""Bundles and Parameters in each other that are read."""


class Intake:
    """Collects resources, until somebody asks what there is; from then on nothing more may be added."""

    def __init__(
        self,
        terminology: Terminology,
        clock: LocalClock,
        base: Bases | None,
        codes: KnownCodes | None = None,
        like: Intake | None = None,
    ) -> None:
        """`like`: one of the same terminology and clock, whose codings need not be worked out once more."""
        self.codes = codes or shipped_codes()
        self.ignored: Counter[str] = Counter()
        """Resources of types that say nothing of monitoring, by type."""
        self.resources = 0
        self.references = References(base)
        self._terminology = terminology
        self._of_files = base is None
        self._arrivals: dict[str, list[Arrival]] = {}
        """What came under an address, by name: of files alone, since an EHR answers with its own records."""
        self._origins: Origins = Origins(terminology) if like is None else like._origins
        self._values: Values = Values(terminology) if like is None else like._values
        self._clock = clock
        self._subjects: dict[str, SubjectIntake] = {}
        self._shared = SubjectIntake()
        self._unowned: list[Excluded] = []
        self._missing: list[tuple[str, Missing]] = []
        """With the subject reference of whose it is; "" where it may be anybody's."""
        self._deletions: dict[str, list[bundles.Deletion]] = {}
        self._depth = 0
        """How many documents, one in another, the present resource lies in."""
        self._pages: set[str] = set()
        self._cut_off: list[bundles.CutOff] = []
        """By the page that follows."""
        self._short: list[bundles.CutOff] = []
        """By the page itself, which counts more than it holds."""

    # -- one resource -------------------------------------------------------------------------------------

    def add(
        self,
        text: bytes | Raw,
        full_url: str | None,
        origin: str,
        *,
        known_as: str | None = None,
        hint: Hint = _no_hint,
        within: _Days = _UNBOUNDED,
        outcomes: list[bytes | Raw] | None = None,
    ) -> None:
        """One resource, or a Bundle of them. Never raises: what can't be read is listed.

        `known_as`: the name it goes by, where it is not for the resource to say. `within`: the days that were
        asked for. `outcomes` gets what a server says beside the resources of its answer.
        """
        try:
            resource = fhir.decode_resource(text)
        except msgspec.ValidationError:
            self._add_other(text, full_url, origin, hint, within, outcomes)
            return
        except NOT_JSON:
            self._add_broken(text, origin, hint, within)
            return
        if type(resource) is fhir.Observation:
            self.add_observation(resource, text, full_url)
        else:
            self.resources += 1
            name = known_as or name_of(type(resource).__name__, resource.id, text)
            self.references.learn(name, full_url, resource.identifier)
            if full_url is not None and self._of_files and not isinstance(resource, _NAMED_BY_OTHERS):
                self._note_arrival(name, Arrival(full_url, beginning_of(resource), resource))
            if not self._add_resource(resource, name):
                self._tell_missing(text, "", hint, within)

    def add_observation(self, observation: fhir.Observation, text: bytes | Raw, full_url: str | None) -> None:
        """One Observation that is decoded already; `text`: the JSON that it was decoded from."""
        self.resources += 1
        name = name_of("Observation", observation.id, text)
        if full_url is not None:
            self.references.learn(name, full_url, None)
        found = self._add_observation(observation, name)
        if full_url is not None and found is not None and self._of_files:
            self._note_arrival(name, Arrival(full_url, beginning_of(observation), found))

    def _note_arrival(self, name: str, arrival: Arrival) -> None:
        self._arrivals.setdefault(name, []).append(arrival)

    def add_missing(self, missing: Missing, owner: str = "") -> None:
        """Something that whoever read could not read; `owner`: whose it is, "" where it may be anybody's."""
        self._missing.append((owner, missing))

    def _add_other(
        self,
        text: bytes | Raw,
        full_url: str | None,
        origin: str,
        hint: Hint,
        within: _Days,
        outcomes: list[bytes | Raw] | None,
    ) -> None:
        """A Bundle, a type we have no use for, or a resource whose elements don't fit."""
        try:
            head = _head(text)
        except NOT_JSON:
            self._add_broken(text, origin, hint, within)
            return
        kind = head.resourceType
        if kind == "Bundle":
            self._inside(origin, lambda: self._add_bundle(text, head, origin))
            return
        if kind == "Parameters":
            self._inside(origin, lambda: self._add_parameters(text, origin))
            return
        if kind == "Patient" and self._add_mended(text, full_url):
            return
        if kind is not None and kind in fhir.CHARGES:
            # A charge that nobody sees is billed twice: what fits of it is believed.
            type_, needed = fhir.CHARGES[kind]
            if (mended := fhir.without_misfits(text, type_, *needed)) is not None:
                self.add(mended, full_url, origin)
                return
        self.resources += 1
        if kind is not None and kind not in fhir.READ_TYPES:
            self.ignored[kind] += 1
            if kind == "OperationOutcome" and outcomes is not None:
                outcomes.append(text)
            elif kind == "OperationOutcome" and bundles.says_incomplete(text):
                # A server's refusal, kept where its answer should be: of what, nobody knows.
                self.add_missing(
                    Missing("", MissingWhy.REFUSED, *within, 0, "a server's error instead of data")
                )
            if kind == "RelatedPerson" and full_url is not None:
                # Nothing of it is read but that it is no staff, where an Encounter names it.
                self.references.learn(name_of(kind, head.id, text), full_url, None)
            return
        name = f"{kind}/{head.id}" if kind and head.id else (full_url or origin)
        owner = pointer(head.subject or head.patient or head.beneficiary, "Patient") or ""
        self._exclude(Excluded(name, ExcludedReason.UNREADABLE), owner)
        self._tell_missing(text, owner, hint, within)
        if owner and kind in fhir.CHARGES:
            self._subject(owner).lost_charges += _codes_in(text, name, self.codes)

    def _add_broken(self, text: bytes | Raw, origin: str, hint: Hint, within: _Days) -> None:
        """What is no JSON: a Bundle is taken apart all the same, so that an entry loses itself alone."""
        found = salvaged(text)
        if found.type == "Bundle":
            parts = entries_of(text)
            head = fhir.Head(
                "Bundle",
                type=Raw(parts.members.get("type", b"")),
                total=Raw(parts.members.get("total", b"")),
                link=Raw(parts.members.get("link", b"")),
                meta=Raw(parts.members.get("meta", b"")),
                timestamp=Raw(parts.members.get("timestamp", b"")),
            )
            entries = [Raw(part) for part in parts.entries]
            self._inside(origin, lambda: self._add_entries(entries, head, origin, whole=parts.whole))
            return
        if found.type == "Patient" and self._add_mended(text, None):
            return
        self.resources += 1
        owner = pointer(found.subject, "Patient") or ""
        name = f"{found.type}/{found.id}" if found.type and found.id else origin
        if found.type == "Patient" and found.id:
            # That there is such a patient can be read, if nothing else.
            owner = name
            self._add_resource(fhir.Patient(id=found.id), name)
        self._exclude(Excluded(name, ExcludedReason.UNREADABLE), owner)
        if found.type in fhir.CHARGES and owner:
            self._subject(owner).lost_charges += _codes_in(text, name, self.codes)
        self._tell_missing(text, owner, hint, within)

    def _add_mended(self, text: bytes | Raw, full_url: str | None) -> bool:
        """A Patient, with what can be read of it: a broken name takes nobody out."""
        rest = mended_patient(text)
        if rest is None:
            return False
        try:
            patient = fhir.decode_resource(rest)
        except NOT_JSON:
            return False
        if not isinstance(patient, fhir.Patient) or not patient.id:
            return False
        self.resources += 1
        name = name_of("Patient", patient.id, rest)
        self.references.learn(name, full_url, patient.identifier)
        return self._add_resource(patient, name)

    def add_unreadable(self, name: str) -> None:
        """A record that whoever read could not read, by the name that it is listed under; what may be missing
        with it they tell themselves."""
        self.resources += 1
        self._exclude(Excluded(name, ExcludedReason.UNREADABLE), "")

    def _exclude(self, entry: Excluded, owner: str) -> None:
        if owner:
            self._subject(owner).excluded.append(entry)
        else:
            self._unowned.append(entry)

    def _tell_missing(self, text: bytes | Raw, owner: str, hint: Hint, within: _Days) -> None:
        found = salvaged(text)
        if found.type == "Parameters":
            self._tell_anything_missing("parameters that cannot be read")
            return
        type_ = found.type or hint()
        missing = missing_of(found, type_, self._terminology, self._clock, within)
        if missing is not None:
            self.add_missing(missing, owner)

    def _tell_anything_missing(self, detail: str) -> None:
        """Something was lost, and nobody knows of what type, whose and when."""
        self.add_missing(Missing("", MissingWhy.UNREADABLE, None, None, 0, detail))

    def _inside(self, origin: str, add_what_it_holds: Callable[[], None]) -> None:
        """What a document holds, where it may hold documents in its turn: down to DEEPEST of them in each
        other. What lies deeper is listed, and nobody knows what is missing with it."""
        if self._depth == DEEPEST:
            self.add_unreadable(origin)
            self._tell_anything_missing("documents too deep in each other")
            return
        self._depth += 1
        try:
            add_what_it_holds()
        finally:
            self._depth -= 1

    def _add_parameters(self, text: bytes | Raw, origin: str) -> None:
        """The resources that an operation was given or answers, wherever in it they stand."""
        try:
            waiting = (fhir.decode_parameters(text).parameter or [])[::-1]
        except NOT_JSON:
            self._add_broken(text, origin, _no_hint, _UNBOUNDED)
            return
        position = 0
        while waiting:
            position += 1
            place, part = f"{origin} parameter {position}", waiting.pop()
            try:
                found = fhir.decode_parameter(part)
            except NOT_JSON:
                if bytes(part) != b"null":
                    self._add_broken(part, place, _no_hint, _UNBOUNDED)
                continue
            if bytes(found.resource) not in (b"", b"null"):
                self.add(found.resource, None, place)
            waiting += (found.part or [])[::-1]

    # -- a Bundle -----------------------------------------------------------------------------------------

    def _add_bundle(self, text: bytes | Raw, head: fhir.Head, origin: str) -> None:
        if head.entry is None:
            try:
                bundle = fhir.decode_bundle(text)
            except NOT_JSON:
                bundle = fhir.Bundle()
                members, _ = members_of(text)
                if bytes(members.get("entry", b"")).strip() not in (b"", b"null", b"[]"):
                    self._unowned.append(Excluded(origin, ExcludedReason.UNREADABLE))
                    self._tell_missing(text, "", _no_hint, _UNBOUNDED)
            head = fhir.Head(
                "Bundle",
                entry=bundle.entry or [],
                type=bundle.type,
                total=bundle.total,
                link=bundle.link,
                meta=bundle.meta,
                timestamp=bundle.timestamp,
            )
        self._add_entries(head.entry or [], head, origin, whole=True)

    def _add_entries(self, entries: list[Raw], head: fhir.Head, origin: str, *, whole: bool) -> None:
        """`whole`: nothing comes after these in the same Bundle."""
        links = bundles.links_of(fhir.loosely(head.link))
        search = bundles.search_of(links.get("self"), self._clock)
        within = (search.start, search.end)
        meta = fhir.loosely(head.meta)
        at = (meta.get("lastUpdated") if isinstance(meta, dict) else None) or fhir.loosely(head.timestamp)

        @cache
        def types() -> tuple[str, ...]:
            return bundles.types_of(search, map(_type_in, entries))

        def hint() -> str:
            return types()[0] if len(types()) == 1 else ""

        outcomes: list[bytes | Raw] = []
        others = 0
        for position, entry_text in enumerate(entries):
            place = f"{origin} entry {position + 1}"
            try:
                entry = fhir.decode_entry(entry_text)
            except NOT_JSON:
                self._add_broken(entry_text, place, hint, within)
                continue
            others += not bundles.is_match(fhir.loosely(entry.search))
            resource = bytes(entry.resource)
            deletion = bundles.deletion_of(
                fhir.loosely(entry.request),
                fhir.loosely(entry.response),
                entry.fullUrl,
                at if isinstance(at, str) else None,
            )
            if deletion is not None:
                self.delete(deletion)
                continue
            if bundles.was_refused(fhir.loosely(entry.response)):
                self.add_missing(Missing(ANY_TYPE, MissingWhy.REFUSED, *within, 0, "a refused request"))
            if resource not in (b"", b"null"):
                self.add(entry.resource, entry.fullUrl, place, hint=hint, within=within, outcomes=outcomes)
        if not whole or any(map(bundles.says_incomplete, outcomes)):
            for one in bundles.missing_of_search(
                search,
                types(),
                MissingWhy.CUT_OFF,
                "the answer says itself that it is not whole",
                self._terminology,
            ):
                self.add_missing(one, search.patient)
        here = bundles.address(links["self"]) if "self" in links else ""
        if here:
            self._pages.add(here)
        if bundles.is_short(head, links, len(entries) - others):
            self._short.append(bundles.CutOff(here, search, types()))
        if "next" in links:
            self._cut_off.append(bundles.CutOff(bundles.address(links["next"]), search, types()))

    def delete(self, deletion: bundles.Deletion) -> None:
        """Somebody took a record away."""
        if deletion.name:
            self._deletions.setdefault(deletion.name, []).append(deletion)
        else:
            # Something is gone, and nobody knows what: it may stand here as if it were not.
            self._tell_anything_missing("a deletion that names no record")

    # -- by type ------------------------------------------------------------------------------------------

    def _add_observation(self, observation: fhir.Observation, name: str) -> ReadObservation | None:
        """As it was read; None where it is nobody's."""
        owner = owner_of(observation.subject, observation.contained)
        found = read_observation(observation, name, self._origins, self._values, self._clock)
        if not owner:
            self._unowned.append(Excluded(name, ExcludedReason.UNREADABLE))
            if type(found) is not LeftOut:
                # It may be anybody's, so it may be this patient's.
                nobodys = Missing("Observation", MissingWhy.UNREADABLE, found.day, found.day, 1, _NOBODYS)
                self.add_missing(nobodys)
            return None
        subject = self._subjects.get(owner) or self._subject(owner)
        if subject.observations.setdefault(name, found) is not found:
            subject.further.append((name, found))
        if type(found) is LeftOut:
            return found
        if found.members is not None:
            subject.has_panels = True
        if found.replaces:
            subject.replaces_some = True
        identifiers = found.identifiers
        if identifiers:
            known = subject.identifiers
            all_distinct = len(known) + len(identifiers)
            known.update(identifiers)
            if len(known) < all_distinct:
                subject.repeats_identifiers = True
        return found

    def _add_resource(self, resource: fhir.Resource, name: str) -> bool:
        """Whether it names whose it is, where it must."""
        if isinstance(resource, fhir.Patient):
            subject = self._subject(name)
        elif isinstance(resource, SUBJECT_FREE):
            subject = self._shared
        elif owner := owner_of(subject_of(resource), resource.contained):
            subject = self._subject(owner)
        elif isinstance(resource, fhir.Device):
            # It may name nobody: that nobody was enrolled with it is for a human to state.
            subject = self._shared
        else:
            self._unowned.append(Excluded(name, ExcludedReason.UNREADABLE))
            return False
        if (
            subject.resources.setdefault(type(resource).__name__, {}).setdefault(name, resource)
            is not resource
        ):
            subject.further.append((name, resource))
        return True

    def _subject(self, owner: str) -> SubjectIntake:
        found = self._subjects.get(owner)
        if found is None:
            found = self._subjects[owner] = SubjectIntake()
        return found

    # -- whose is what ------------------------------------------------------------------------------------

    @cached_property
    def _closed(self) -> dict[str, SubjectIntake]:
        """What came in, by subject reference, with one version of each record and without what was deleted.
        From here on nothing more may be added."""
        came = CameIn(self._arrivals, self._deletions)
        settle(self._subjects, self._shared, came, self._clock, self._terminology)
        return self._subjects

    @cached_property
    def links(self) -> dict[str, Links]:
        """What each Patient says of other records of the same person."""
        return {
            name: links_of(patient, self.references)
            for subject in self._closed.values()
            for name, patient in subject.of(fhir.Patient).items()
        }

    @cached_property
    def replaced(self) -> dict[str, str]:
        """By whom a record was replaced, as it says itself, else as the one that stands for it says."""
        found = {name: link.replaced_by for name, link in self.links.items() if link.replaced_by is not None}
        for name, link in self.links.items():
            for old in link.replaces:
                if old != name:
                    found.setdefault(old, name)
        return found

    @cached_property
    def _owned(self) -> dict[str, list[SubjectIntake]]:
        """What came in, by the patient it belongs to: who was replaced by somebody here is that somebody."""
        closed = self._closed
        self.references.merge(_survivors(self.replaced, self.links))
        owned: dict[str, list[SubjectIntake]] = {}
        for owner, subject in closed.items():
            owned.setdefault(self._owner_name(owner), []).append(subject)
        return owned

    def _owner_name(self, owner: str) -> str:
        return self.references.resolve(owner) or owner.replace("\0", " ")

    @cached_property
    def patients(self) -> tuple[str, ...]:
        """Each Patient that was found; where there is none, each distinct subject."""
        named = sorted(
            name for name, owned in self._owned.items() if any("Patient" in one.resources for one in owned)
        )
        # A calibration reading's subject is its Device: no patient.
        return tuple(named or sorted(name for name in self._owned if not name.startswith(_NO_PEOPLE)))

    @cached_property
    def not_this_patient(self) -> tuple[Excluded, ...]:
        """What belongs to nobody among `patients`: another person's, or without a readable subject."""
        patients = set(self.patients)
        found = set(self._unowned)
        for owner, owned in self._owned.items():
            if owner not in patients:
                for subject in owned:
                    found.update(subject.as_anothers())
        return tuple(sorted(found))

    @cached_property
    def _missing_by_owner(self) -> dict[str, list[Missing]]:
        found: dict[str, list[Missing]] = {}
        for owner, missing in (*self._missing, *self._following_pages()):
            found.setdefault(self._owner_name(owner) if owner else "", []).append(missing)
        return found

    def _following_pages(self) -> Iterator[tuple[str, Missing]]:
        """Pages that the input names and does not hold (D20 h)."""
        following = {one.address for one in self._cut_off}
        told = [
            (one, "a page that follows is not here")
            for one in self._cut_off
            if one.address not in self._pages
        ]
        # The last page of several counts what they hold together; where none says which it is, it may be it.
        told += [
            (one, "the answer counts more than it holds")
            for one in self._short
            if one.address not in following and (one.address or not following)
        ]
        for one, detail in told:
            for missing in bundles.missing_of_search(
                one.search, one.types, MissingWhy.CUT_OFF, detail, self._terminology
            ):
                yield one.search.patient, missing

    def add_pages(
        self, pages: Iterable[str], cut_off: Iterable[bundles.CutOff], short: Iterable[bundles.CutOff]
    ) -> None:
        """What Bundles that were read elsewhere said of their pages."""
        self._pages.update(pages)
        self._cut_off += cut_off
        self._short += short

    def all_missing(self) -> list[tuple[str, Missing]]:
        """All that is missing, with the subject reference of whose it is; "" where it may be anybody's."""
        return [*self._missing, *self._following_pages()]

    def missing(self, patient: str) -> list[Missing]:
        """What is missing of one patient's record: by itself, and as far as nobody knows whose it is."""
        self._owned  # noqa: B018 - who is who must be known first
        by_owner = self._missing_by_owner
        return [*by_owner.get("", ()), *by_owner.get(patient, ())]

    def has_records_of(self, patient: str) -> bool:
        """Did anything come in that names this patient, as it is written?"""
        self._owned  # noqa: B018
        return any(self.references.short(owner) == patient for owner in self._closed)

    def subjects(self, patient: str) -> list[SubjectIntake]:
        """What came in of one patient, by the references that named them."""
        return self._owned.get(patient, [])

    def days_told(self, patient: str, since: date) -> Iterator[date]:
        """The days since one, that one included, that anything in a patient's records names, and those after
        each: what was of a day, and what ends with it. Of readings, which end with nothing, the day alone."""
        # A time written with another offset may be the next day here, and never the one after.
        earliest = (since - ONE_DAY).isoformat()
        for subject in self.subjects(patient):
            for read in subject.observations.values():
                if type(read) is Measurement:
                    days = (read.day, *(moment.day for moment in read.more))
                    yield from (day for day in days if day > since)
            for of_kind in subject.resources.values():
                for resource in of_kind.values():
                    for text in _texts(resource):
                        if text < earliest:
                            continue
                        moment = self._clock.read(text)
                        if isinstance(moment, Moment) and moment.day >= since:
                            yield moment.day
                            if moment.day < date.max:
                                yield moment.day + ONE_DAY

    def of(self, patient: str, kind: type[Kind]) -> dict[str, Kind]:
        """A patient's resources of one type, by name and in its order."""
        found: dict[str, Kind] = {}
        for subject in self.subjects(patient):
            found |= subject.of(kind)
        return dict(sorted(found.items()))

    def everywhere(self, kind: type[Kind]) -> dict[str, Kind]:
        """Resources of a type whoever they belong to: what others point to."""
        closed = self._closed
        found = self._shared.of(kind)
        for subject in closed.values():
            found |= subject.of(kind)
        return found


def _texts(part: object) -> Iterator[str]:
    """Every text in what is read of a resource that may be a date; not of its versions."""
    if isinstance(part, str):
        if part[:4].isdigit():
            yield part
    elif isinstance(part, msgspec.Struct):
        for name in part.__struct_fields__:
            if name not in ("meta", "identifier", "contained"):
                yield from _texts(getattr(part, name))
    elif isinstance(part, list | tuple):
        for one in part:
            yield from _texts(one)


def contained_kinds(parts: list[Raw] | None) -> dict[str, str]:
    """The types of the resources that another one contains, by id, of whatever type they are."""
    found: dict[str, str] = {}
    for part in parts or ():
        try:
            head = _head(part)
        except NOT_JSON:
            continue
        if head.id and head.resourceType:
            found[head.id] = head.resourceType
    return found


def _survivors(replaced: Mapping[str, str], here: Container[str]) -> dict[str, str]:
    """Who stands for whom: each replaced Patient, and the one at the end of the chain if that one is here."""
    found: dict[str, str] = {}
    for name in replaced:
        seen, last = {name}, name
        while (following := replaced.get(last)) is not None and following not in seen:
            seen.add(following)
            last = following
        if last in here and last not in replaced:
            found[name] = last
    return found


_TYPE = re.compile(rb'"resourceType"\s*:\s*"([A-Za-z]{1,64})"')


def _type_in(text: bytes | Raw) -> str:
    """The type that stands first in a resource or in the entry that holds it; "" where none does."""
    found = _TYPE.search(bytes(text))
    return found[1].decode("ascii") if found is not None else ""


def _codes_in(text: bytes | Raw, name: str, known: KnownCodes) -> list[PriorCharge]:
    """Charges of our codes that an unreadable charge or claim may stand for, whenever that was."""
    shapes = (rb"[0-9]+", rb"[A-Z][0-9]{4}", rb"[0-9]{4}[A-Z]")
    numbers = {number.decode() for shape in shapes for number in re.findall(shape, bytes(text))}
    return [PriorCharge(name, code, 1, None) for code in sorted(numbers & known.all)]


def _head(text: bytes | Raw) -> fhir.Head:
    """Name and subject of a resource that doesn't fit, even where its very head doesn't."""
    try:
        return fhir.decode_head(text)
    except msgspec.ValidationError:
        value = fhir.decode_untyped(text)
    if not isinstance(value, dict):
        return fhir.Head()

    def text_of(key: str) -> str | None:
        found = value.get(key)
        return found if isinstance(found, str) else None

    owner = next(
        (
            found["reference"]
            for key in ("subject", "patient")
            if isinstance(found := value.get(key), dict) and isinstance(found.get("reference"), str)
        ),
        None,
    )
    return fhir.Head(text_of("resourceType"), text_of("id"), fhir.Reference(owner) if owner else None)
