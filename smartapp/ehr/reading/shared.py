"""People, their roles, and devices: read once for several charts of one EHR, for a few minutes.

Kept in the process, sealed. What belongs to a patient is given to readings of that patient alone; what names
nobody is everybody's. An error here would show one patient's device in the chart of another, so whatever is
not surely one of the two is not kept.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from fhir_mappings.identity import Bases
from smartapp.ehr.wire.bundles import Entry
from smartapp.ehr.wire.looks import look
from smartapp.ehr.wire.patient_scope import Whose
from smartapp.store.reading import SealedChunk, StoredResource

KEPT_SECONDS = 300.0
MOST_KEPT = 5000


@dataclass(frozen=True, slots=True)
class _Kept:
    until: float
    patient: str | None
    """The only one whose readings may have it; None where it belongs to nobody."""
    chunk: SealedChunk


class SharedRecords:
    """Of all EHRs of a process. Threads share it. `seal`, `unseal`: how it lies in memory."""

    def __init__(
        self,
        seal: Callable[[str, list[StoredResource]], SealedChunk],
        unseal: Callable[[SealedChunk], list[StoredResource]],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._seal = seal
        self._unseal = unseal
        self._now = now
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, str, str | None], _Kept] = OrderedDict()

    def found(self, base: str, patient: str, key: str) -> list[Entry] | None:
        """What is kept under a key for this patient or for everybody; None where it must be read."""
        with self._lock:
            kept = self._kept.get((base, key, None)) or self._kept.get((base, key, patient))
        if kept is None or self._now() >= kept.until:
            return None
        return [Entry(one.raw, one.full_url) for one in self._unseal(kept.chunk)]

    def keep(self, base: str, patient: str, key: str, entries: list[Entry], bases: Bases) -> None:
        """Keep what was read for a patient, nothing included, if it may be used again."""
        verdicts = {look(entry.resource).whose(patient, bases) for entry in entries}
        if any(entry.problem for entry in entries) or not verdicts <= {Whose.OURS, Whose.NOBODYS}:
            return
        owner = patient if Whose.OURS in verdicts else None
        resources = [StoredResource(key, one.fullUrl, "", "", one.resource) for one in entries]
        kept = _Kept(self._now() + KEPT_SECONDS, owner, self._seal(key, resources))
        with self._lock:
            self._kept.pop((base, key, owner), None)
            self._kept[base, key, owner] = kept
            while len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)
