"""Source records on a page: what each says, and whether it counted."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date

from msgspec import Struct

from fhir_mappings.vocabulary import ExcludedReason
from smartapp.ehr.reading.findings import Findings
from smartapp.ehr.reading.seen import Seen
from smartapp.web import words

NOT_SEEN = Seen()
LOGGED_HERE = "logged in this app"


class RecordView(Struct, frozen=True, gc=False):
    """One record, in words."""

    day: date | None
    time: str
    what: str
    value: str
    by: str
    left_out: str = ""
    """Why it does not count; "" for one that does."""
    reference: str | None = None
    """Of a record that a clinician may open as the EHR sent it. Never shown."""
    entry: str | None = None
    """The entry of the time log, where it was logged in this app."""


def record_view(
    reference: str, findings: Findings, left_out: str = "", told: Seen | None = None
) -> RecordView:
    """A record by its name. One that is not in the snapshot says that it is not. `told`: the record in words,
    where the findings keep none of it."""
    told = findings.seen.get(reference, NOT_SEEN) if told is None else told
    entry = findings.logged.get(reference)
    opens = told.day is not None or reference in findings.versions
    return RecordView(
        told.day,
        told.time,
        told.what or ("" if told.day else "A record that was not put into words"),
        told.value,
        (told.by[0] if len(told.by) == 1 else words.listed(told.by))
        if told.by
        else LOGGED_HERE
        if entry is not None
        else "",
        left_out,
        reference if opens and reference.count("/") == 1 else None,
        entry,
    )


def why_left_out(reference: str, findings: Findings) -> str:
    """Why a record does not count; "" for one that does."""
    found = (entry.reason for entry in findings.assessment.excluded if entry.resource == reference)
    return next(map(words.excluded, found), "")


def of_others(findings: Findings) -> frozenset[str]:
    """Records of the snapshot that are about somebody else: nothing of them is shown."""
    return frozenset(
        entry.resource
        for entry in findings.assessment.excluded
        if entry.reason is ExcludedReason.OTHER_PATIENT
    )


def record_views(references: Iterable[str], findings: Findings) -> tuple[RecordView, ...]:
    """Records that count, in the order of their days and times."""
    found = [record_view(reference, findings) for reference in references]
    return tuple(sorted(found, key=lambda one: (one.day or date.min, one.time)))
