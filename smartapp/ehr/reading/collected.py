"""What a reading has gathered so far: every resource once, and a notice of whatever did not come.

Nothing is dropped in silence: what cannot be read, what belongs to somebody else and what the server says
beside its answers is kept as a notice or as something missing.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import date

from fhir_mappings.chart.intake import Intake
from fhir_mappings.completeness import Missing, completeness_of
from fhir_mappings.identity import Bases, References, links_of
from fhir_mappings.local_time import LocalClock
from fhir_mappings.resources import NOT_JSON, Patient, decode_resource
from fhir_mappings.salvage import mended_patient, missing_of
from fhir_mappings.terminology import Terminology
from smartapp.ehr.reading.notices import Notice, NoticeKind, in_order
from smartapp.ehr.reading.searches import Search
from smartapp.ehr.wire.bundles import Entry, outcome_of
from smartapp.ehr.wire.json_guard import Unreadable, weighed
from smartapp.ehr.wire.looks import (
    Judged,
    Look,
    Reading,
    judged,
    linked,
    reading_of,
    references,
    version_of_reading,
)
from smartapp.ehr.wire.patient_scope import Whose, other_base
from smartapp.store.reading import SealedChunk, StoredResource

LONGEST_BASE = 200
Days = tuple[date | None, date | None]


class Collected:
    """Filled by the threads of one reading. `sink` gets every resource once; it is called by one thread at a
    time.

    What may not or cannot be given is handed on as a `StoredResource` without bytes, so that it is listed.
    """

    def __init__(
        self,
        patient: str,
        bases: Bases,
        terminology: Terminology,
        clock: LocalClock,
        seal: Callable[[str, list[StoredResource]], SealedChunk],
    ) -> None:
        self.chunks: list[SealedChunk] = []
        self.resources = 0
        self.by_type = Counter[str]()
        """What was handed on whole, by type."""
        self.names: set[str] = set()
        """What was handed on whole."""
        self.pointers: set[str] = set()
        """Type/id of what may have to be read by itself."""
        self.replaces: set[str] = set()
        """The logical ids that the Patients which were read say to stand for."""
        self.earlier: list[str] = []
        """Those under which this patient's records are taken too."""
        self.sink: Callable[[StoredResource], None] = lambda _: None
        self.reading_sink: Callable[[StoredResource, Reading], None] | None = None
        """Takes instead of `sink` what is decoded already."""
        self._patient = patient
        self._bases = bases
        self._linked: dict[str, str | None] = {}
        """What the devices that readings name are called."""
        self._terminology = terminology
        self._clock = clock
        self._seal = seal
        self._lock = threading.Lock()
        self._notices: set[Notice] = set()
        self._copies: set[str] = set()
        """The names with their versions."""
        self._foreign = Counter[str]()
        """Dropped as another patient's, by type."""
        self._elsewhere = Counter[tuple[str, str]]()
        """Dropped, by type and the address under which they name a patient of the same id."""
        self._held: list[tuple[Search, str, Entry]] | None = None
        """What may be another patient's, as long as it is not known under which ids this one's is kept."""
        self._missed: dict[str, tuple[Days, list[Missing]]] = {}
        """What single records that cannot be read may have been, and within which days they were found."""

    def hold(self) -> None:
        """From now on nothing is dropped as another patient's, until `settle`."""
        self._held = []

    def settle(self) -> None:
        """It is known under which ids the patient's records are kept: judge what was held back."""
        held, self._held = self._held, None
        for number, (wanted, origin, entry) in enumerate(held or ()):
            self.keep(wanted, f"{origin} held {number}", [entry])

    def add(self, notice: Notice) -> None:
        self._notices.add(notice)

    def tell(self, wanted: Search, kind: NoticeKind, detail: str = "", said: str = "") -> None:
        """Something of a search did not come."""
        if wanted.beside:
            label = _without_type(wanted, detail)
            self._notices.add(Notice(NoticeKind.BESIDE, wanted.type, label, said=said))
            return
        self._notices.add(Notice(kind, wanted.type, detail, said=said, start=wanted.start, end=wanted.end))

    def notices(self) -> tuple[Notice, ...]:
        """Everything there is to tell of this reading."""
        foreign = Counter(self._foreign)
        found = set(self._notices)
        for (type_, base), number in self._elsewhere.items():
            # A server calls itself the same throughout: beside one of ours it is another server's patient.
            if self.by_type[type_]:
                foreign[type_] += number
            else:
                found.add(Notice(NoticeKind.OTHER_BASE, type_, base, number))
        found |= {Notice(NoticeKind.FOREIGN, type_, count=number) for type_, number in foreign.items()}
        missed = [one for _, some in self._missed.values() for one in some]
        found |= {
            Notice(NoticeKind.UNREADABLE, one.type, one.detail, one.entries, start=one.start, end=one.end)
            for one in completeness_of(missed).missing
        }
        return in_order(found)

    def keep_page(self, wanted: Search, origin: str, entries: Iterable[Entry]) -> bool:
        """What a page of a search holds. What the server says beside it becomes a notice. Gives back whether
        records of somebody else were among it."""
        return self.keep(wanted, origin, self._matches(wanted, entries))

    def keep(self, wanted: Search, origin: str, found: list[Entry]) -> bool:
        """Hand each resource on once. Gives back whether somebody else's were among it."""
        fresh: list[StoredResource] = []
        with self._lock:
            before = self._others
            for entry in found:
                reading = reading_of(entry, self._patient) if wanted.type == "Observation" else None
                if reading is not None:
                    resource = self._reading(origin, entry, reading)
                else:
                    resource = self._judged(wanted, origin, entry)
                if resource is None:
                    continue
                fresh.append(resource)
                if reading is not None and self.reading_sink is not None:
                    self.reading_sink(resource, reading)
                else:
                    self.sink(resource)
            self.resources += len(fresh)
            others = self._others > before
        if fresh:
            # Compressing and encrypting needs no lock: the other threads decode meanwhile.
            chunk = self._seal(origin, fresh)
            with self._lock:
                self.chunks.append(chunk)
        return others

    @property
    def _others(self) -> int:
        """Records of somebody else, those that are held back among them."""
        return self._foreign.total() + self._elsewhere.total() + len(self._held or ())

    def _matches(self, wanted: Search, entries: Iterable[Entry]) -> list[Entry]:
        """The resources a search found. What the server says beside them becomes a notice."""
        found: list[Entry] = []
        for entry in entries:
            if entry.resource in (b"", b"null"):
                continue
            if entry.search is not None and entry.search.mode == "outcome":
                self._remarked(wanted, entry.resource)
                continue
            found.append(entry)
        return found

    def _remarked(self, wanted: Search, outcome: bytes) -> None:
        """What the server says beside what it gives: a remark, or that it does not give everything."""
        told = outcome_of(outcome)
        if told.incomplete:
            self.tell(wanted, NoticeKind.CUT_OFF, "the EHR says that its answer is not whole", told.text)
        elif told.text:
            self._notices.add(Notice(NoticeKind.SERVER_SAYS, wanted.type, said=told.text))

    def _judged(self, wanted: Search, origin: str, entry: Entry) -> StoredResource | None:
        """A resource as it is handed on; None where it was already, or is another patient's and dropped.

        What cannot be read, or names no patient although it must, is handed on without its bytes.
        """
        found = self._judged_here(entry, wanted.type)
        if found.whose is Whose.FOREIGN:
            if self._held is None:
                self._dropped(found)
            else:
                self._held.append((wanted, origin, entry))
            return None
        if found.type == "OperationOutcome":
            self._remarked(wanted, found.raw)
            return None
        if found.reference == f"Patient/{self._patient}" and found.broken is not None:
            return self._damaged(origin, found.raw)
        if found.whose is Whose.UNREADABLE:
            return self._without_bytes(wanted, origin, found)
        return self._whole_one(origin, entry.fullUrl, found)

    def is_ours(self, seen: Look) -> bool:
        """May it be the patient's, under this id or an earlier one?"""
        verdicts = {seen.whose(patient, self._bases) for patient in (self._patient, *self.earlier)}
        return not verdicts <= {Whose.FOREIGN, Whose.UNREADABLE}

    def _judged_here(self, entry: Entry, type_: str) -> Judged:
        """Whose it is: under an earlier id of the patient it is theirs as well (D30)."""
        found = judged(entry, type_, self._patient, self._bases)
        for patient in self.earlier:
            if found.whose is not Whose.FOREIGN:
                break
            found = judged(entry, type_, patient, self._bases)
        return found

    def _dropped(self, found: Judged) -> None:
        """Another patient's; or this one's, under an address that nobody said is this server's."""
        base = other_base(found.seen.about, self._patient)
        if base is None:
            self._foreign[found.type] += 1
        else:
            self._elsewhere[found.type, base[:LONGEST_BASE]] += 1

    def _whole_one(self, origin: str, full_url: str | None, found: Judged) -> StoredResource | None:
        if not self._is_new(found.type, found.reference, found.version):
            return None
        self.pointers.update(references(found.seen, self._bases))
        if found.type == "Patient":
            self.replaces.update(_replaced_by(found.raw, self._bases))
        return StoredResource(origin, full_url, found.reference, found.version, found.raw)

    def _reading(self, origin: str, entry: Entry, reading: Reading) -> StoredResource | None:
        """The same of one that is plainly the patient's."""
        raw = entry.resource
        reference, version = f"Observation/{reading.id}", version_of_reading(reading, raw)
        if not self._is_new("Observation", reference, version):
            return None
        if reading.device is not None and (pointer := reading.device.reference):
            if pointer not in self._linked:
                self._linked[pointer] = linked(pointer, self._bases)
            if (named := self._linked[pointer]) is not None:
                self.pointers.add(named)
        return StoredResource(origin, entry.fullUrl, reference, version, raw)

    def _is_new(self, type_: str, reference: str, version: str) -> bool:
        """Whether it was not handed on yet. Of two versions of one record both go on: which is the newer is
        not for the order to say."""
        copy = f"{reference} {version}"
        if copy in self._copies:
            return False
        self._copies.add(copy)
        self.names.add(reference)
        self.by_type[type_] += 1
        return True

    def _damaged(self, origin: str, raw: bytes) -> StoredResource | None:
        """The patient's own record, without what cannot be read of it: a name closes no chart."""
        rest = mended_patient(raw)
        if rest is None:
            return None
        self._notices.add(Notice(NoticeKind.DAMAGED, "Patient"))
        entry = Entry(rest)
        return self._whole_one(origin, None, judged(entry, "Patient", self._patient, self._bases))

    def _without_bytes(self, wanted: Search, origin: str, found: Judged) -> StoredResource | None:
        """A record that is listed and not read, and what may be missing with it."""
        # Apart, so that one that cannot be read never hides its good copy.
        copy = f"unreadable {found.reference}"
        searched = (wanted.start, wanted.end)
        if copy not in self._missed:
            self._missed[copy] = searched, self._missing_with(wanted.type, found, searched)
            return StoredResource(origin, None, found.reference, found.version, b"")
        if self._missed[copy][0] != searched:
            # A server that shows it under the days of several searches does not know its day either.
            self._missed[copy] = searched, self._missing_with(wanted.type, found, (None, None))
        return None

    def _missing_with(self, type_: str, found: Judged, within: Days) -> list[Missing]:
        """What may be missing with a record that cannot be read, or that names nobody: the same as where it
        came in a file."""
        if found.broken is not None:
            missing = missing_of(found.broken, type_, self._terminology, self._clock, within)
            return [] if missing is None else [missing]
        intake = Intake(self._terminology, self._clock, self._bases)
        intake.add(found.raw, None, found.reference, hint=lambda: type_, within=within)
        return intake.missing(f"Patient/{self._patient}")


def _replaced_by(raw: bytes, bases: Bases) -> list[str]:
    """The logical ids at this server that a Patient says to stand for."""
    try:
        patient = decode_resource(raw)
    except NOT_JSON:
        return []
    if not isinstance(patient, Patient):
        return []
    places = [name.partition("Patient/") for name in links_of(patient, References(bases)).replaces]
    return [id_ for before, _, id_ in places if id_ and not before]


def single(body: bytes) -> Entry:
    """A resource that was read by its id."""
    try:
        return Entry(weighed(body))
    except Unreadable as reason:
        return Entry(body, problem=str(reason))


def _without_type(wanted: Search, detail: str) -> str:
    """ "category-or-code: detail", of the name of a search."""
    label = wanted.name.removeprefix(f"{wanted.type} ").rsplit(" ", 1)[0]
    return f"{label}: {detail}" if detail else label
