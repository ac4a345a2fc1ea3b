"""What something points to and no search of the patient brings: devices, people, and the roles they work in.

Many come in one search where the server takes that, one by one else; what was read for somebody else a moment
ago is not read again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from launch.errors import HttpError
from launch.issuers import Issuer
from launch.scopes import Interaction, Scopes
from smartapp.ehr.reading.answers import trouble_of
from smartapp.ehr.reading.collected import Collected
from smartapp.ehr.reading.fetch import Fetch
from smartapp.ehr.reading.notices import Notice, NoticeKind
from smartapp.ehr.reading.searches import Learned, Search, Searches
from smartapp.ehr.reading.shared import SharedRecords
from smartapp.ehr.reading.still_there import id_groups
from smartapp.ehr.wire.bundles import Entry, NotAPage, search_page
from smartapp.ehr.wire.looks import look, references

MOST_READS_BY_ID = 200
LINKED = ("Device", "DeviceMetric", "Practitioner", "PractitionerRole")
"""Read by id where a reading or an encounter points to one that no search brought."""


@dataclass(frozen=True, slots=True)
class Asking:
    """The reading that asks: of which EHR, for whom, what it may, and how it does one thing more."""

    issuer: Issuer
    patient: str
    scopes: Scopes
    learned: Learned
    may: Callable[[str, Interaction], bool]
    """Tells, too, what may not be asked."""
    read: Callable[[str], None]
    """One record by its id."""
    later: Callable[[Callable[[], None]], None]
    """One thing more for those that work already."""
    task: Callable[[Search], Callable[[], None]]


class LinkedRecords:
    """What one reading finds by following references."""

    def __init__(
        self, asking: Asking, fetch: Fetch, collected: Collected, shared: SharedRecords | None
    ) -> None:
        self._asking = asking
        self._fetch = fetch
        self._collected = collected
        self._shared = shared
        self._roles_of: set[str] = set()

    def work(self, searches: Searches) -> list[Callable[[], None]]:
        """What is to be read now: what something points to and no search brought; and in which roles the
        people work, the signed-in user too: an Encounter names a person, and whose minutes count depends on
        the role. `searches`: those of the patient, for the roles."""
        pointers, self._collected.pointers = self._collected.pointers, set()
        wanted = sorted(pointers - self._collected.names)
        if len(wanted) > MOST_READS_BY_ID:
            for type_ in sorted({reference.split("/", 1)[0] for reference in wanted[MOST_READS_BY_ID:]}):
                self._collected.add(
                    Notice(NoticeKind.CUT_OFF, type_, "too many different devices and people")
                )
        by_type: dict[str, list[str]] = {}
        for reference in wanted[:MOST_READS_BY_ID]:
            by_type.setdefault(reference.split("/", 1)[0], []).append(reference)
        work: list[Callable[[], None]] = []
        for type_, names in by_type.items():
            if type_ in LINKED and self._asking.may(type_, Interaction.READ):
                missing = [name for name in names if not self._from_shared(name, name)]
                work += self._reads(type_, missing)
        people = {name for name in {*wanted, *self._collected.names} if name.startswith("Practitioner/")}
        work += self._roles(sorted(people - self._roles_of), searches)
        self._roles_of |= people
        return work

    def _reads(self, type_: str, names: list[str]) -> Iterable[Callable[[], None]]:
        """Many in one search where that may be asked and the server takes it, else one by one."""
        together = len(names) > 1 and self._asking.scopes.can(type_, Interaction.SEARCH)
        if together and self._asking.learned.takes_lists(self._asking.issuer, type_):
            yield from (partial(self._read_together, type_, group) for group in id_groups(names))
        else:
            yield from (partial(self._asking.read, name) for name in names)

    def _read_together(self, type_: str, names: list[str]) -> None:
        """By `_id`: what such a search does not bring is read by itself before it is called missing."""
        brought: dict[str, Entry] = {}
        ids = ",".join(name.split("/", 1)[1] for name in names)
        parameters = [("_id", ids), ("_count", str(len(names)))]
        try:
            response = self._fetch.first_page(type_, parameters, strict=self._fetch.strict)
            entries = search_page(response.body).entries if response.ok else ()
        except (HttpError, NotAPage):
            entries = ()
        else:
            # The server may have passed over the parameter: only what was asked for is taken.
            brought = {look(one.resource).reference: one for one in entries if not one.problem}
            if not brought.keys() & set(names) and trouble_of(response) is None:
                self._asking.learned.refused_a_list(self._asking.issuer, type_)
        for name in names:
            if name in brought:
                self.taken(name, name, [brought[name]])
            else:
                self._asking.later(partial(self._asking.read, name))

    def _roles(self, people: list[str], searches: Searches) -> list[Callable[[], None]]:
        if not people or not self._asking.may("PractitionerRole", Interaction.SEARCH):
            return []
        unknown = [name for name in people if not self._from_shared(f"roles of {name}", "PractitionerRole")]
        return [self._asking.task(search) for search in searches.roles(unknown)] if unknown else []

    # What was read for somebody else a moment ago

    def _from_shared(self, key: str, origin: str) -> bool:
        """Whether it was read a moment ago, and may be used for this patient."""
        found = (
            None
            if self._shared is None
            else self._shared.found(self._asking.issuer.fhir_base, self._asking.patient, key)
        )
        if found is None:
            return False
        self._collected.keep(Search(origin.split("/", 1)[0], origin, ()), f"kept {key}", found)
        return True

    def share_roles(self, people: Iterable[str], found: list[Entry] | None) -> None:
        """All roles of these people, where they were read to the end."""
        if self._shared is None or found is None:
            return
        bases = self._asking.issuer.bases
        told = [(one, set(references(look(one.resource), bases))) for one in found]
        for name in people:
            entries = [one for one, names in told if name in names]
            self._shared.keep(
                self._asking.issuer.fhir_base, self._asking.patient, f"roles of {name}", entries, bases
            )

    def taken(self, name: str, origin: str, entries: list[Entry]) -> None:
        """A record that was read by its id."""
        self._collected.keep(Search(name.split("/", 1)[0], name, ()), origin, entries)
        if self._shared is not None and name.split("/", 1)[0] in LINKED:
            self._shared.keep(
                self._asking.issuer.fhir_base, self._asking.patient, name, entries, self._asking.issuer.bases
            )
