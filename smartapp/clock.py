"""The present, and where `launch` reports what happened."""

from __future__ import annotations

import json
import logging
import math
import threading
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from launch.issuers import registration_of
from launch.ports import Clock
from smartapp.metrics import Metrics
from smartapp.store.audit import AuditTrail

log = logging.getLogger("smartapp.events")

REFUSED = "launch-refused"
AUDITED = frozenset({"launch-opened", REFUSED, "session-ended"})
"""Not what anybody can repeat as often as they like without a launch of their own: that is in the log."""
LAUNCHES = {"launch-begun": "begun", "launch-opened": "opened", "launch-refused": "refused"}
"""What became of a launch, as it is counted."""


class SystemClock:
    """`launch.ports.Clock`: the machine's clock, or in a demo or test one that runs `ahead` of it.

    A difference and no moment: processes that share a database share one clock, whenever each of them began.
    """

    def __init__(self, ahead: timedelta = timedelta()) -> None:
        self._ahead = ahead

    def now(self) -> datetime:
        return datetime.now(UTC) + self._ahead


def ahead_of_the_machine(moment: datetime) -> timedelta:
    """How far a clock must run ahead of the machine's to show `moment` now."""
    return moment - datetime.now(UTC)


class Allowance:
    """How often one source, and all together, may do within a time what needs no account."""

    def __init__(self, each: int = 20, together: int = 200, within: timedelta = timedelta(hours=1)) -> None:
        self._each = each
        self._together = together
        self._within = within
        self._lock = threading.Lock()
        self._since = datetime.min.replace(tzinfo=UTC)
        self._of: Counter[str] = Counter()
        self._dropped = 0

    def take(self, source: str, now: datetime) -> tuple[bool, int]:
        """Whether it may once more; and how often it might not in the time that ended, told once."""
        with self._lock:
            told = 0
            if not timedelta() <= now - self._since < self._within:
                told, self._dropped, self._since = self._dropped, 0, now
                self._of.clear()
            if self._of[source] >= self._each or self._of.total() >= self._together:
                self._dropped += 1
                return False, told
            self._of[source] += 1
            return True, told

    def seconds_left(self, now: datetime) -> int:
        """Until everybody may again, from 1."""
        return max(1, math.ceil((self._since + self._within - now).total_seconds()))


class AuditedEvents:
    """`launch.ports.Events`: every event goes to the log, those about access to the audit trail too.

    Anybody can have launches refused without an account: of those so many are kept an hour (`Allowance`), and
    how many were not is an entry of its own. `source`: where the present request comes from.
    """

    def __init__(
        self, audit: AuditTrail, clock: Clock, metrics: Metrics, source: Callable[[], str] = str
    ) -> None:
        self._source = source
        self._refusals = Allowance()
        self._audit = audit
        self._metrics = metrics
        self._clock = clock

    def emit(self, name: str, **facts: str | int | float | bool | None) -> None:
        # Who it was is for the trail alone: it may be a patient.
        noted = {key: value for key, value in facts.items() if key != "user"}
        log.info("%s %s", name, json.dumps(noted, sort_keys=True, default=str))
        if name in LAUNCHES:
            self._metrics.launch(registration_of(str(facts.get("issuer", ""))), LAUNCHES[name])
        if name in AUDITED:
            now, kept, dropped = self._clock.now(), True, 0
            if name == REFUSED:
                kept, dropped = self._refusals.take(self._source(), now)
            told = {key: value for key, value in facts.items() if not isinstance(value, float)}
            try:
                if dropped:
                    self._audit.add(now, "launch-refusals-dropped", count=dropped)
                if kept:
                    self._audit.add(now, name, **told)
            except Exception as error:  # must not raise: a launch goes on, the log says what the audit lacks
                log.error("the audit trail took no entry for %s: %s", name, type(error).__name__)
