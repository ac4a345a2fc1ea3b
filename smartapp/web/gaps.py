"""A chart that was not fully read says so first: what is missing, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

from fhir_mappings.completeness import ANY_TYPE, Missing, MissingWhy
from smartapp.ehr.reading.findings import Findings
from smartapp.ehr.reading.notices import NoticeKind
from smartapp.web import reading_words, words

_READINGS = frozenset({"Observation", ANY_TYPE})


@dataclass(frozen=True)
class Gaps:
    """What of a chart was not read."""

    missing: tuple[str, ...]
    """Type, days and why, in words."""
    to_do: tuple[str, ...]
    readings_unsure: bool
    """There may be readings that nobody saw: "nothing to charge" would be more than is known."""


def gaps_of(findings: Findings) -> Gaps | None:
    """None where the chart was read whole."""
    missing = findings.completeness.missing
    dropped = any(
        notice.kind is NoticeKind.FOREIGN and notice.what == "Observation" for notice in findings.notices
    )
    if not missing and not dropped:
        return None
    grouped: dict[tuple[str, MissingWhy], list[Missing]] = {}
    for one in missing:
        grouped.setdefault((one.type, one.why), []).append(one)
    told = [
        f"{reading_words.resource_type(type_)}{_when(some)}: {reading_words.MISSING[why]}"
        for (type_, why), some in grouped.items()
    ]
    if dropped:
        told.append("Observation: the EHR gave readings of another patient, and they were dropped")
    return Gaps(
        tuple(told),
        tuple(_to_do(grouped)),
        dropped or any(one.type in _READINGS for one in missing),
    )


def _when(missing: Iterable[Missing]) -> str:
    """For which days; nothing where these may be any."""
    starts: list[date | None] = []
    ends: list[date | None] = []
    for one in missing:
        starts.append(one.start)
        ends.append(one.end)
    start = None if None in starts else min(filter(None, starts))
    end = None if None in ends else max(filter(None, ends))
    return "" if start is None and end is None else f", {words.days(start, end)}"


def _to_do(grouped: Iterable[tuple[str, MissingWhy]]) -> Iterable[str]:
    """One sentence a way out, each once, with the types that it is about."""
    by_way: dict[str, list[str]] = {}
    for type_, why in grouped:
        by_way.setdefault(reading_words.MISSING_TO_DO[why], []).append(reading_words.resource_type(type_))
    for way, types in by_way.items():
        yield way.format(types=", ".join(dict.fromkeys(types)))
