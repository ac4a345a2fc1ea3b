"""What would be decided if there were more: a record with imagined days or minutes in it, marked as such.

For testers and for a clinician who plans. Nothing imagined is ever written: its references begin with
`what-if/`, and a decision that rests on one can't be accepted, since no such record exists.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import date, timedelta

from msgspec import Struct
from msgspec.structs import replace

from fhir_mappings.local_time import Window, clock_of, month_window
from fhir_mappings.record import Excluded, LiveContact, ManagementTime, PatientRecord, Reading
from fhir_mappings.rules.policy import Policy
from fhir_mappings.rules.program import ProgramChart, program_charts
from fhir_mappings.vocabulary import Activity, Role

IMAGINED = "what-if/"
MOST_DAYS = 30
MOST_MINUTES = 24 * 60


class WhatIf(Struct, frozen=True):
    """Changes to imagine.

    `days`: further monitoring days in the latest period that holds one, for every device type seen in it.
    `minutes`: of review, in the latest month that holds any (else the open one), in every program that has
    begun; `call_minutes`: the same, as a live call. `payer`: whose rules instead.
    """

    days: int = 0
    minutes: int = 0
    call_minutes: int = 0
    payer: str | None = None


_FORMS = {
    "add-days": ("days", MOST_DAYS),
    "add-minutes": ("minutes", MOST_MINUTES),
    "add-call-minutes": ("call_minutes", MOST_MINUTES),
}


def read_what_if(texts: Iterable[str]) -> WhatIf:
    """`add-days=2`, `add-minutes=8`, `add-call-minutes=5`, `payer=cigna`; several in one text by commas.

    Raises `ValueError` with one line for anything else.
    """
    found = WhatIf()
    for text in texts:
        for part in text.split(","):
            name, _, value = part.strip().partition("=")
            if name == "payer" and value:
                found = replace(found, payer=value)
            elif name in _FORMS and re.fullmatch(r"[1-9]\d{0,3}", value) and int(value) <= _FORMS[name][1]:
                field = _FORMS[name][0]
                found = replace(found, **{field: getattr(found, field) + int(value)})
            else:
                known = ", ".join(f"{form}=1 to {most}" for form, (_, most) in _FORMS.items())
                raise ValueError(f"what-if: {part.strip()!r} is none of {known}, payer=NAME")
    return found


def imagine(record: PatientRecord, policy: Policy, as_of: date, changes: WhatIf) -> PatientRecord:
    """The record as it would be. Deterministic: the same changes give the same imagined records."""
    excluded: set[Excluded] = set()
    charts = program_charts(record, policy, as_of, excluded)
    readings, management, contacts = list(record.readings), list(record.management), list(record.contacts)
    for chart in charts:
        if chart.begun() is None:
            continue
        if changes.days:
            readings += _imagined_days(chart, changes.days)
        for minutes, live in ((changes.minutes, False), (changes.call_minutes, True)):
            if minutes:
                time = _imagined_minutes(chart, minutes, live=live)
                management.append(time)
                if live:
                    day = clock_of(record.zone).day_of(time.start)
                    contacts.append(
                        LiveContact(time.resource, time.program, day, False, frozenset({time.role}))
                    )
    return replace(
        record,
        readings=tuple(readings),
        management=tuple(sorted(management, key=lambda time: (time.start, time.resource))),
        contacts=tuple(sorted(contacts, key=lambda contact: (contact.day, contact.resource))),
    )


def _imagined_days(chart: ProgramChart, number: int) -> list[Reading]:
    """Readings on free days of the latest period with a counted day: those still to come first."""
    latest = max(
        (
            (episode.window(period), position, period)
            for position, episode in enumerate(chart.episodes)
            for period in episode.periods
        ),
        default=None,
    )
    if latest is None:
        return []
    window, position, period = latest
    episode = chart.episodes[position]
    found: list[Reading] = []
    for name, series in sorted(episode.periods[period].items()):
        pattern = series.earliest[0]
        free = [day for day in _days_of(window) if day not in series.days and episode.holds(day)]
        ahead = [day for day in free if day >= chart.as_of]
        for day in [*ahead, *reversed([day for day in free if day < chart.as_of])][:number]:
            found.append(
                replace(
                    pattern,
                    resource=f"{IMAGINED}day/{name}/{day.isoformat()}",
                    day=day,
                    instant=clock_of(chart.record.zone).midnight(day),
                )
            )
    return found


def _days_of(window: Window) -> list[date]:
    return [window.start + timedelta(days=n) for n in range((window.end - window.start).days + 1)]


def _imagined_minutes(chart: ProgramChart, minutes: int, *, live: bool) -> ManagementTime:
    """Minutes of somebody like those who worked on the month already, on a day without a visit."""
    month = max((first for first, staff in chart.staffed.items() if staff.counted), default=None)
    window = month_window(month or chart.as_of)
    counted = chart.staffed[month].counted if month is not None else ()
    role = counted[-1].role if counted else Role.PHYSICIAN
    day = next((day for day in _days_of(window) if not chart.visits.on(day)), window.start)
    start = clock_of(chart.record.zone).midnight(day)
    activity = Activity.PHONE_CALL if live else Activity.DATA_REVIEW
    return ManagementTime(
        f"{IMAGINED}{activity}/{chart.program}/{day.isoformat()}",
        chart.program,
        activity,
        True,
        None,
        role,
        start,
        start,
        minutes * 60,
        counted[-1].discipline if counted else None,
    )
