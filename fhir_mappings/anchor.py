"""Where a program's 30-day periods begin, and what says so: to be confirmed before the first charge."""

from __future__ import annotations

from datetime import date
from enum import StrEnum

from msgspec import Struct

from fhir_mappings.local_time import Window, period_number, period_window
from fhir_mappings.record import PatientRecord
from fhir_mappings.rules.episodes import Episode, episodes_of, silence
from fhir_mappings.rules.policy import Policy
from fhir_mappings.rules.series import series_of
from fhir_mappings.vocabulary import MONITORING_PROGRAMS, Program

PERIODS_SHOWN = 4


class AnchorSource(StrEnum):
    """What an anchor day rests on; in the order in which it is looked for (BILLING_RULES 2.3, D3)."""

    DEVICE_CHARGE = "device-charge"
    """A device period that the EHR holds a charge for: it fixes the grid, whatever else is known."""
    ENROLMENT = "enrolment"
    """Confirmed here, or fixed by the first charge that was accepted here."""
    EPISODE_OF_CARE = "episode-of-care"
    """The first qualifying day within an episode of care that the EHR documents."""
    CONFIRMED_EPISODE = "confirmed-episode"
    """The first qualifying day within an episode of care that was confirmed in the app."""
    SET_UP = "set-up"
    """The first qualifying day from the documented set-up on."""
    FIRST_QUALIFYING_DAY = "first-qualifying-day"
    """The first qualifying day that was read; nothing documents where the monitoring began."""


class ProgramAnchor(Struct, frozen=True):
    """One episode's anchor. `day` is None where the program shows no day yet.

    `certain` is false where older data may exist; `moved` is true where a reading lies before the anchor, or
    before the beginning that was confirmed.
    """

    program: Program
    day: date | None
    source: AnchorSource | None
    episode_start: date | None = None
    episode_end: date | None = None
    documented: bool = False
    first_day: date | None = None
    set_up_day: date | None = None
    set_up: str | None = None
    certain: bool = True
    moved: bool = False
    unclear: bool = False
    confirmed: bool = False
    """Somebody confirmed the episode in the app, since the EHR documents none."""
    silent: Window | None = None
    """Too many days without data to tell whether care went on; None once an episode is documented."""


def anchors_of(record: PatientRecord, policy: Policy) -> tuple[ProgramAnchor, ...]:
    """The latest episode of each program that the record shows anything of."""
    found: list[ProgramAnchor] = []
    series = series_of(record.readings)
    for program in MONITORING_PROGRAMS:
        episodes = episodes_of(record, series, program, policy, set())
        shown = [
            episode
            for episode in episodes
            if episode.anchor is not None or episode.set_up is not None or episode.first_day is not None
        ]
        if shown:
            silent = None if shown[-1].documented else silence(shown[-1], policy)
            found.append(_anchor(program, shown[-1], silent))
    return tuple(found)


def _anchor(program: Program, episode: Episode, silent: Window | None) -> ProgramAnchor:
    set_up = episode.set_up
    return ProgramAnchor(
        program,
        episode.anchor,
        None if episode.anchor is None else _source(episode),
        episode.start,
        episode.end,
        episode.documented,
        episode.first_day,
        None if set_up is None else set_up.day,
        None if set_up is None else set_up.resource,
        episode.anchor_fixed,
        episode.anchor_moved,
        episode.unclear,
        episode.confirmed,
        silent,
    )


def _source(episode: Episode) -> AnchorSource:
    if episode.anchor_charged:
        return AnchorSource.DEVICE_CHARGE
    if episode.grid_given:
        return AnchorSource.ENROLMENT
    if episode.documented:
        return AnchorSource.CONFIRMED_EPISODE if episode.confirmed else AnchorSource.EPISODE_OF_CARE
    return AnchorSource.SET_UP if episode.set_up is not None else AnchorSource.FIRST_QUALIFYING_DAY


def periods_from(anchor: date, as_of: date) -> tuple[Window, ...]:
    """The 30-day periods that follow from an anchor: those around `as_of`, the open one second to last."""
    last = max(period_number(anchor, as_of) + 1, PERIODS_SHOWN - 1)
    return tuple(
        period_window(anchor, number) for number in range(max(0, last - PERIODS_SHOWN + 1), last + 1)
    )
