"""An entry of the time log in words, as its pages show it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime

from fhir_mappings.time_log import (
    activity_text,
)
from smartapp.services import services
from smartapp.store.time_log import EntryState, EntryVersion, Talk, TimeEntry
from smartapp.web import words
from smartapp.web.permission import ROLES


@dataclass(frozen=True)
class VersionView:
    """One version in words."""

    number: int
    state: str
    at: datetime
    by: str
    day: date
    span: str
    length: str
    what: str
    who: str
    live: str
    note: str
    talk: tuple[tuple[str, str], ...]
    """Of a conversation: what is asked of it, and what was said."""
    measured: str


@dataclass(frozen=True)
class EntryView:
    """An entry as its pages show it."""

    id: str
    version: int
    state: EntryState
    badge: str
    meaning: str
    now: VersionView
    history: tuple[VersionView, ...]
    encounter: str | None
    outdated_in_ehr: bool

    @classmethod
    def of(cls, entry: TimeEntry) -> EntryView:
        badge, meaning = words.ENTRY_STATES[entry.state]
        shown = [_version_view(item) for item in entry.versions]
        return cls(
            entry.id,
            entry.latest.version,
            entry.state,
            badge,
            meaning,
            shown[-1],
            tuple(reversed(shown)),
            entry.encounter,
            entry.outdated_in_ehr,
        )


def _version_view(version: EntryVersion) -> VersionView:
    content, zone = version.content, services().site.zone
    logged = content.logged
    start, end = logged.start.astimezone(zone), logged.end.astimezone(zone)
    complete = logged.activity is not None and logged.program is not None
    told_end = (
        words.clock(end) if start.date() == end.date() else f"{words.day(end.date())}, {words.clock(end)}"
    )
    return VersionView(
        number=version.version,
        state={
            EntryState.DRAFT: "entered" if version.version == 1 else "corrected",
            EntryState.SIGNED: "signed",
            EntryState.WRITTEN: "written to the EHR",
            EntryState.WITHDRAWN: "withdrawn",
        }[version.state],
        at=version.at.astimezone(zone),
        by=content.by_name or content.by,
        day=start.date(),
        span="a length, without times" if logged.day else f"{words.clock(start)} to {told_end}",
        length=words.amount(logged.seconds, "seconds"),
        what=activity_text(logged) if complete else "not said yet",
        who=logged.person_name or logged.person,
        live={True: "live conversation", False: "no live conversation", None: "not said yet"}[logged.live],
        note=content.note,
        talk=_talk_view(content.talk) if logged.live else (),
        measured=words.MEASURED[content.measured]
        + (f"; role stated: {ROLES[logged.role]}" if logged.role else ""),
    )


def _talk_view(talk: Talk) -> tuple[tuple[str, str], ...]:
    """What auditors ask of a conversation; what was not said says so."""
    told = (("With", talk.with_whom), ("Data talked about", talk.data), ("Decided", talk.decided))
    return tuple((name, said or "not said") for name, said in told)
