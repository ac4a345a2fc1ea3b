"""What an auditor would ask about (D19). Notes change no outcome; they stand on the card they belong to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from zoneinfo import ZoneInfo

from fhir_mappings.decision import CountedSpan, Decision
from fhir_mappings.local_time import (
    DAY_MICROSECONDS,
    ONE_DAY,
    LocalClock,
    Moment,
    clock_of,
    month_window,
    shown,
)
from fhir_mappings.vocabulary import RequirementKind

LATE_DAYS = 7
ROUND_SECONDS = 20 * 60


def days_late(observation: Mapping[str, Any], clock: LocalClock) -> int:
    """Whole days between measuring and the server's receipt (`issued`, else `meta.lastUpdated`); 0 where
    either is not told. Never raises on shape."""
    measured = clock.read(_measured(observation))
    received = clock.read(_text(observation.get("issued"))) if observation.get("issued") else None
    if not isinstance(received, Moment):
        meta = observation.get("meta")
        received_at = clock.read(_text(meta.get("lastUpdated") if isinstance(meta, dict) else None))
        received = received_at if isinstance(received_at, Moment) else None
    if not isinstance(measured, Moment) or received is None:
        return 0
    return max(0, (received.instant - measured.instant) // DAY_MICROSECONDS)


def notes_on(
    decision: Decision,
    spans: Iterable[CountedSpan],
    late: Mapping[str, int],
    zone: ZoneInfo,
    kept: Mapping[str, Any] | None = None,
) -> tuple[str, ...]:
    """The notes of one decision, in words. `kept`: what this app keeps of the patient (`OwnRecord.told`)."""
    found = list(_of_what_is_kept(decision, kept or {}))
    for need in decision.requirements:
        if need.requirement is RequirementKind.MONITORING_DAYS:
            number = sum(late.get(name, 0) > LATE_DAYS for name in need.evidence)
            if number:
                found.append(
                    f"{number} of the {need.found} days rest on readings received more than {LATE_DAYS} days "
                    "after they were measured."
                )
        if need.requirement is RequirementKind.MANAGEMENT_TIME:
            if need.found == ROUND_SECONDS:
                found.append("The minutes of this month are exactly 20:00.")
            if _same_as_the_month_before(decision, spans, zone):
                found.append("The minutes have the same times and lengths as those of the month before.")
    return tuple(found)


def _of_what_is_kept(decision: Decision, kept: Mapping[str, Any]) -> Iterator[str]:
    """Minutes typed late, roles that people state of themselves, an anchor that was set by hand."""
    entries = kept.get("time_log", ())
    evidence = {name for need in decision.requirements for name in need.evidence} if entries else set()
    logged = [entry for entry in entries if entry["resource"] in evidence]
    if typed_late := [entry["days_late"] for entry in logged if entry["days_late"] > LATE_DAYS]:
        most = max(typed_late)
        yield f"{_entries(len(typed_late))} typed more than {LATE_DAYS} days later, at most {most} days."
    if own := [entry for entry in logged if entry["role_of_oneself"]]:
        yield f"{_entries(len(own))} signed by somebody who states their own role there."
    if any(need.requirement is RequirementKind.MONITORING_DAYS for need in decision.requirements):
        times = sum(one["program"] == decision.program for one in kept.get("anchors", ()))
        if times:
            yield f"Where the 30-day periods begin was set by hand {often(times)}."


def often(times: int) -> str:
    """ "once", "twice", "3 times"."""
    return {1: "once", 2: "twice"}.get(times, f"{times} times")


def _entries(number: int) -> str:
    return "1 entry of the time log was" if number == 1 else f"{number} entries of the time log were"


def _same_as_the_month_before(decision: Decision, spans: Iterable[CountedSpan], zone: ZoneInfo) -> bool:
    month = month_window(decision.period.start.replace(day=1))
    first, end = clock_of(zone).window_span(month)
    opens = clock_of(zone).midnight((month.start - ONE_DAY).replace(day=1))
    near = [span for span in spans if opens <= span.start < end and span.program is decision.program]
    this = [span for span in near if span.start >= first]
    before = [span for span in near if span.start < first]
    # How often and how long is asked before the times of day, which take long to tell.
    lengths, lengths_before = (sorted(span.seconds for span in some) for some in (this, before))
    if not this or lengths != lengths_before:
        return False
    return Counter(_shape(span, zone) for span in this) == Counter(_shape(span, zone) for span in before)


def _shape(span: CountedSpan, zone: ZoneInfo) -> tuple[str, int]:
    return shown(span.start, zone).strftime("%H:%M:%S"), span.seconds


def _measured(observation: Mapping[str, Any]) -> str | None:
    for name in ("effectiveDateTime", "effectiveInstant"):
        if text := _text(observation.get(name)):
            return text
    period = observation.get("effectivePeriod")
    if isinstance(period, dict):
        return _text(period.get("start"))
    timing = observation.get("effectiveTiming")
    events = timing.get("event") if isinstance(timing, dict) else None
    return _text(events[0]) if isinstance(events, list) and events else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
