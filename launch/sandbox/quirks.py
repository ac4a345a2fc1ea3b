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
    #: PUT to an id that does not exist creates it.
    update_create: bool = False
    #: Every answer comes this many milliseconds later.
    slow_ms: int = 0
    #: The answers of the next so many creates are lost: committed, then 504 from a gateway.
    fail_after_commit: int = 0
    #: FHIR requests a minute; above it 429 with Retry-After. 0: no limit.
    rate_limit: int = 0
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
            is_switch = isinstance(getattr(quirks, name), bool)
            if not is_switch and not value.isdigit():
                raise ValueError(f"quirk {name} needs a number: {name}=3")
            setattr(quirks, name, value not in ("0", "false") if is_switch else int(value))
        return quirks

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

    def answer_is_lost(self) -> bool:
        """Whether the answer to the create just committed is to be lost."""
        with self._lock:
            lost = self.fail_after_commit > 0
            self.fail_after_commit -= lost
            return lost
