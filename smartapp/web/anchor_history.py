"""Each time somebody had a program's 30-day periods begin on a day, in words."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime

from fhir_mappings.vocabulary import Program
from smartapp.ehr.reading.auditor_notes import often
from smartapp.services import services
from smartapp.web import period_words, words


@dataclass(frozen=True)
class AnchorLine:
    """One time, in words."""

    at: datetime
    says: str


@dataclass(frozen=True)
class AnchorHistory:
    """Of one program: how often, and each time, the latest first."""

    program: Program
    title: str
    often: str
    lines: tuple[AnchorLine, ...]


def anchor_history(issuer_id: str, patient: str) -> tuple[AnchorHistory, ...]:
    """Of each program of which somebody set the day at all."""
    here = services()
    found: defaultdict[Program, list[AnchorLine]] = defaultdict(list)
    for item in here.store.attestations.anchors(issuer_id, patient):
        content = item.content
        says = period_words.anchor_change(
            content.by_name or content.by,
            content.day,
            content.instead_of,
            content.source,
            content.grounds.charged_on,
        )
        found[Program(content.program)].append(AnchorLine(item.at.astimezone(here.site.zone), says))
    return tuple(
        AnchorHistory(program, words.PROGRAMS[program], often(len(lines)), tuple(lines))
        for program, lines in sorted(found.items())
    )
