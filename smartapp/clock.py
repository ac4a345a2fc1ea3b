"""The present, and where `launch` reports what happened."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime

from smartapp.store.audit import AuditTrail

log = logging.getLogger("smartapp.events")

AUDITED = frozenset({"launch-opened", "launch-refused", "session-ended"})
"""Not what anybody can repeat as often as they like without a launch of their own: that is in the log."""


class SystemClock:
    """`launch.ports.Clock`: the machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)


class AuditedEvents:
    """`launch.ports.Events`: every event goes to the log, those about access to the audit trail too."""

    def __init__(self, audit: AuditTrail) -> None:
        self._audit = audit

    def emit(self, name: str, **facts: str | int | float | bool | None) -> None:
        log.info("%s %s", name, json.dumps(facts, sort_keys=True, default=str))
        if name in AUDITED:
            try:
                self._audit.add(
                    datetime.now(UTC),
                    name,
                    **{key: value for key, value in facts.items() if not isinstance(value, float)},
                )
            except Exception as error:  # must not raise: a launch goes on, the log says what the audit lacks
                log.error("the audit trail took no entry for %s: %s", name, type(error).__name__)
