"""What real EHRs do differently, each on a switch: the one place that knows them.

Quirks may be changed while the sandbox runs (`sandbox.quirks.slow_ms = 500`); tests do.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from threading import Lock


@dataclass
class Quirks:
    """Switches, all off. Counters (`fail_after_commit`) count down to 0."""

    #: Charts that some users may not open: `Practitioner/x:patient+patient,Practitioner/y:patient`.
    closed_charts: str = ""
    #: Observation searches without category or code get 400 `required`, as at Epic.
    require_category_for_observation_search: bool = False
    #: The id_token's header names no key.
    id_token_without_kid: bool = False
    #: If-None-Exist is ignored and not declared: every create creates.
    no_conditional_create: bool = False
    #: ChargeItem can't be searched.
    no_charge_item_search: bool = False
    #: ChargeItem can't be created.
    no_charge_item_create: bool = False
    #: ChargeItem is created by an operation alone ($create), without an identifier, and found by its
    #: Encounter or account alone, as at Oracle Health.
    own_charge_operation: bool = False
    #: PUT to an id that does not exist creates it.
    update_create: bool = False
    #: Every answer comes this many milliseconds later.
    slow_ms: int = 0
    #: The answers of the next so many creates are lost: committed, then 504 from a gateway.
    fail_after_commit: int = 0
    #: FHIR requests a minute; above it 429 with Retry-After. 0: no limit.
    rate_limit: int = 0
    #: No page holds more entries than this, whatever `_count` asks for. 0: no limit.
    cap_count: int = 0
    #: A `_count` above this is refused: 400. 0: none is.
    refused_above: int = 0
    #: The link to a next page leads to another server.
    foreign_next: bool = False
    #: The link to a next page is no address.
    broken_next: bool = False
    #: The link to a next page leads to the page it stands on.
    looping_next: bool = False
    #: Next pages are over before anybody asks for them: 410.
    lost_next: bool = False
    #: The answer to the so-manieth search from now breaks off in the middle.
    break_off: int = 0
    #: Searches of this type are refused: 403.
    refused: str = ""
    #: Searches of Observations by this category are refused: 403.
    refused_category: str = ""
    #: Searches of Devices give implants only; any other Device is read by its id.
    implants_only: bool = False
    #: Every request for this type ends in a fault of the server: 500.
    failing: str = ""
    #: Searches say beside what they give that a source could not be reached.
    incomplete_searches: bool = False
    #: `_lastUpdated` is no search parameter: refused under strict handling, else passed over.
    no_last_updated: bool = False
    #: Batches are refused and not declared.
    no_batch: bool = False
    #: `_id` takes one value.
    one_id_at_a_time: bool = False
    #: References name the server by this base instead of its own.
    absolute_references: str = ""
    #: There is no $export.
    no_export: bool = False
    #: An export is not ready the first so many times somebody asks, and says to come back after seconds.
    export_polls: int = 1
    export_retry_after: int = 1
    #: The next so many questions after an export get 429.
    export_busy: int = 0
    #: Every export fails: 500.
    export_fails: bool = False
    #: Files are fetched without a token.
    export_open_files: bool = False
    #: The manifest names files on another server.
    export_elsewhere: bool = False
    #: The links to files are over: 410; with a number, after so many files less one.
    export_links_over: bool = False
    export_last_files: int = 0
    #: A file of this type is named and not there.
    export_missing: str = ""
    #: A file of this type ends in the middle of a record.
    export_cut_off: str = ""
    #: The connection breaks within the next so many files.
    export_breaks: int = 0
    #: There is a file of errors.
    export_errors: bool = False
    _recent: deque[float] = field(default_factory=deque, repr=False)
    _lock: Lock = field(default_factory=Lock, repr=False)

    @classmethod
    def named(cls, settings: Sequence[str]) -> Quirks:
        """Quirks from `name` or `name=number` words. Raises ValueError with one plain line."""
        quirks = cls()
        known = {item.name: item for item in fields(cls) if not item.name.startswith("_")}
        for setting in settings:
            name, _, value = setting.partition("=")
            if name not in known:
                raise ValueError(f"unknown quirk {name!r}; known: {', '.join(sorted(known))}")
            setattr(quirks, name, _value(name, value, getattr(quirks, name)))
        return quirks

    def closed_to(self, user: str) -> frozenset[str]:
        """The patients whose charts this user may not open."""
        entries = (entry.partition(":") for entry in self.closed_charts.split(",") if entry)
        return frozenset(one for who, _, charts in entries if who == user for one in charts.split("+"))

    def delay(self) -> None:
        """Wait as long as `slow_ms` says."""
        if self.slow_ms:
            time.sleep(self.slow_ms / 1000)

    def seconds_to_wait(self) -> int:
        """0, or how many seconds the caller over `rate_limit` has to wait."""
        if not self.rate_limit:
            return 0
        with self._lock:
            now = time.monotonic()
            while self._recent and self._recent[0] <= now - 60:
                self._recent.popleft()
            if len(self._recent) >= self.rate_limit:
                return max(1, int(self._recent[0] + 60 - now) + 1)
            self._recent.append(now)
            return 0

    def breaks_off(self) -> bool:
        """Whether the answer to the search that was just made breaks off."""
        with self._lock:
            counts = self.break_off > 0
            self.break_off -= counts
            return counts and self.break_off == 0

    def count_down(self, name: str, down_to: int = 0) -> bool:
        """Whether one more of a number was left; it is one less then."""
        with self._lock:
            left = int(getattr(self, name))
            if left > down_to:
                setattr(self, name, left - 1)
            return left > down_to

    def answer_is_lost(self) -> bool:
        """Whether the answer to the create just committed is to be lost."""
        with self._lock:
            lost = self.fail_after_commit > 0
            self.fail_after_commit -= lost
            return lost


def _value(name: str, text: str, usual: bool | int | str) -> bool | int | str:
    """What the word behind a quirk's name says. Raises ValueError with one plain line."""
    if isinstance(usual, bool):
        return text not in ("0", "false")
    if isinstance(usual, str):
        if not text:
            raise ValueError(f"quirk {name} needs a value: {name}=...")
        return text
    if not text.isdigit():
        raise ValueError(f"quirk {name} needs a number: {name}=3")
    return int(text)
