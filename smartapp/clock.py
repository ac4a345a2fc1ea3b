"""The present, and where `launch` reports what happened."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime, timedelta

from launch.issuers import registration_of
from launch.ports import Clock
from smartapp.metrics import Metrics
from smartapp.store.audit import AuditTrail

log = logging.getLogger("smartapp.events")

AUDITED = frozenset({"launch-opened", "launch-refused", "session-ended"})
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


class AuditedEvents:
    """`launch.ports.Events`: every event goes to the log, those about access to the audit trail too."""

    def __init__(self, audit: AuditTrail, clock: Clock, metrics: Metrics) -> None:
        self._audit = audit
        self._metrics = metrics
        self._clock = clock

    def emit(self, name: str, **facts: str | int | float | bool | None) -> None:
        log.info("%s %s", name, json.dumps(facts, sort_keys=True, default=str))
        if name in LAUNCHES:
            self._metrics.launch(registration_of(str(facts.get("issuer", ""))), LAUNCHES[name])
        if name in AUDITED:
            try:
                self._audit.add(
                    self._clock.now(),
                    name,
                    **{key: value for key, value in facts.items() if not isinstance(value, float)},
                )
            except Exception as error:  # must not raise: a launch goes on, the log says what the audit lacks
                log.error("the audit trail took no entry for %s: %s", name, type(error).__name__)
