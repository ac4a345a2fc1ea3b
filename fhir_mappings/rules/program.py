"""One program (RTM or RPM) of one patient: what there is of it, before any code is asked for."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from datetime import date, timedelta

from fhir_mappings.completeness import UnreadDays, days_of
from fhir_mappings.decision import CountedDay, CountedSpan
from fhir_mappings.local_time import MICROSECONDS, ONE_DAY, PERIOD_DAYS, Window, clock_of, month_window
from fhir_mappings.record import (
    CODES_OPEN,
    Excluded,
    ManagementTime,
    PatientRecord,
    PriorCharge,
    Reading,
    payer_on,
)
from fhir_mappings.rules.candidate import Candidate, Reasons
from fhir_mappings.rules.charged import standing, touches
from fhir_mappings.rules.episodes import Episode, episodes_of
from fhir_mappings.rules.minutes import Month, Months, Staffing, Tally, months_of, staffing
from fhir_mappings.rules.policy import Policy, Terms
from fhir_mappings.rules.resolutions import who_bills
from fhir_mappings.rules.series import earliest_first, series_of
from fhir_mappings.rules.statements import Statements, holds
from fhir_mappings.rules.tables import CodeRule, Kind
from fhir_mappings.rules.visits import Visits
from fhir_mappings.terminology import Discipline
from fhir_mappings.vocabulary import (
    MONITORING_PROGRAMS,
    PROFESSIONALS,
    THERAPISTS,
    ExcludedReason,
    Hint,
    Line,
    Program,
    ReviewReason,
    Role,
    Unverified,
)

_BILL = {Program.RPM: PROFESSIONALS, Program.RTM: PROFESSIONALS | THERAPISTS}
"""Who may bill a program (R5-4)."""


class ProgramChart:
    """A program's episodes, months and charges. `decided`: the months that were asked for a code, with what
    counted in each."""

    def __init__(
        self,
        record: PatientRecord,
        program: Program,
        policy: Policy,
        as_of: date,
        episodes: list[Episode],
        months: Months,
        visits: Visits,
        *,
        all_evidence: bool = False,
        performs_as: Role = Role.UNKNOWN,
    ) -> None:
        self.record = record
        self.program = program
        self.policy = policy
        self.as_of = as_of
        self.all_evidence = all_evidence
        self.performer_may_bill = performs_as in _BILL[program]
        """Whether the record shows that of whoever was chosen to perform."""
        self.charges = [charge for charge in record.charges if policy.code(charge.code).program is program]
        self.episodes = episodes
        self.months = months
        self.staffed: dict[date, Staffing] = {
            first_day: self.staffing_of(first_day, tuple(month.pieces))
            for first_day, month in months.items()
            if month.pieces
        }
        self.has_therapist = any(staff.has_therapist for staff in self.staffed.values())
        self.series = [series for episode in episodes for series in episode.series.values()]
        self.lines_by_month = self._lines_by_month()
        self.visits = visits
        self.statements = Statements(record, program, policy.facts, visits)
        self.base_doubts: Reasons = frozenset(
            {ReviewReason.DEATH_DATE_UNKNOWN} if record.death_date_unknown else ()
        )
        self.decided: list[tuple[Month, Tally]] = []

    def _lines_by_month(self) -> dict[date, set[Line]]:
        of_line: dict[Line, list[list[date]]] = {}
        for series in self.series:
            of_line.setdefault(series.line, []).append(series.days)
        found: dict[date, set[Line]] = {}
        for line, several in of_line.items():
            last = max(days[-1] for days in several)
            month = month_window(min(days[0] for days in several).replace(day=1))
            while month.start <= last:
                for days in several:
                    position = bisect_left(days, month.start)
                    if position < len(days) and days[position] <= month.end:
                        found.setdefault(month.start, set()).add(line)
                        break
                month = month_window(month.end + ONE_DAY)
        return found

    def begun(self) -> date | None:
        """The first day on which the program shows itself; codings that speak of any program don't."""
        days = [series.days[0] for series in self.series]
        starts = [start for month in self.months if (start := self._first_start(month)) is not None]
        days += [clock_of(self.record.zone).day_of(start) for start in starts]
        days += [set_up.day for set_up in self.record.set_ups if set_up.program is self.program]
        days += [
            charge.occurrence.start if charge.occurrence else self.as_of
            for charge in self.charges
            if charge.sole
        ]
        return min(days, default=None)

    def _first_start(self, first_day: date) -> int | None:
        """When the first time of a month begins that is coded for this program and counts."""
        staff = self.staffed.get(first_day)
        starts = [p.start for p in staff.counted if p.program is self.program] if staff else []
        if not starts:
            # Among themselves: who else worked that month decides what counts, not whether it shows.
            alone = tuple([p for p in self.months[first_day].pieces if p.program is self.program])
            starts = [p.start for p in self.staffing_of(first_day, alone).counted] if alone else []
        return min(starts, default=None)

    def staffing_of(self, first_day: date, present: tuple[ManagementTime, ...]) -> Staffing:
        """Which of these pieces of a month count."""
        billed_by = who_bills(month_window(first_day), self.record.resolutions)
        return staffing(self.program, self.policy, present, billed_by)

    def rules(self, *kinds: Kind) -> list[CodeRule]:
        return self.policy.rules_of(self.program, kinds)

    def charges_of(self, *kinds: Kind) -> list[PriorCharge]:
        return [charge for charge in self.charges if self.policy.code(charge.code).kind in kinds]

    # -- what holds for every code ------------------------------------------------------------------------

    def readings_unverified(self, window: Window) -> frozenset[Unverified]:
        """What nobody knows of where the readings of a window were taken: a stay may not have been read."""
        stays = self.record.completeness.of("Encounter", self.so_far(window))
        return frozenset({Unverified.IN_FACILITY} if stays else ())

    def so_far(self, window: Window) -> Window:
        """A window up to the day that is asked about: nothing after it was to be read."""
        return Window(window.start, max(window.start, min(window.end, self.as_of)))

    def unread_days(self, window: Window) -> UnreadDays | None:
        """The days of a window on which a reading may stand that was not read."""
        return self.record.completeness.unread_days("Observation", self.so_far(window))

    def of_unread_devices(self, episode: Episode) -> list[Reading]:
        """Readings of an episode that were left out for a device which may be among what was not read."""
        lacks = self.record.completeness.lacks
        if not episode.doubtful or not (lacks("Device") or lacks("DeviceMetric")):
            return []
        return [reading for reading in episode.doubtful if reading.unresolved]

    def unread_before(self, episode: Episode, day: date) -> set[date]:
        """The earlier days of an episode on which a reading may count that was not read, or whose device was
        not. What lies before a grid that something else fixes counts for nothing; of what is unread for
        longer than a period, these are the last days."""
        grid = episode.anchor if episode.grid_given else None
        first = max(episode.counts_from or date.min, grid or date.min)
        lost = {reading.day for reading in self.of_unread_devices(episode) if first <= reading.day < day}
        for one in self.record.completeness.of("Observation"):
            last = min(day - ONE_DAY, one.end or date.max)
            earliest = max(first, last - timedelta(days=PERIOD_DAYS))
            if earliest <= last:
                lost |= days_of(Window(earliest, last), [one])
        return lost

    def anchor_may_move(self, episode: Episode) -> bool:
        """May one of them make other periods of it? Not from whole periods before, nor where something else
        fixes the grid."""
        anchor = episode.anchor
        if anchor is None or episode.grid_given:
            return False
        return any((anchor - day).days % PERIOD_DAYS for day in self.unread_before(episode, anchor))

    def may_follow_silence(self, episode: Episode) -> bool:
        """May readings that were not read lie so long before the first one that the care may have ended since
        (D4)? Where nothing fixes the grid they would begin it."""
        if episode.documented or episode.first_day is None or not episode.grid_given:
            return False
        last = episode.first_day - timedelta(days=self.policy.empty_days_until_episode_unclear + 2)
        first = episode.counts_from or date.min
        return first <= last and (
            bool(self.record.completeness.of("Observation", Window(first, last)))
            or any(reading.day <= last for reading in self.of_unread_devices(episode))
        )

    def doubts_of(self, readings: Iterable[Reading]) -> Reasons:
        """Why these were left out, as a human must settle it."""
        doubtful = [(one.doubt, one.unresolved) for one in readings if one.doubt is not None]
        doubts = {ReviewReason(doubt) for doubt, _ in doubtful}
        lacks = self.record.completeness.lacks
        if any(unresolved for _, unresolved in doubtful) and (lacks("Device") or lacks("DeviceMetric")):
            doubts.add(ReviewReason.RECORD_INCOMPLETE)
        return frozenset(doubts)

    def diagnosed(self, window: Window) -> tuple[str, ...]:
        """The codes of what somebody had by the end of a window (D40)."""
        return tuple(
            one.code for one in self.record.diagnoses if one.since is None or one.since <= window.end
        )

    def _was_anothers(self, service_date: date) -> bool:
        """Whether somebody else paid then than today: what that payer covers was not asked."""
        if not self.policy.of_coverage or self.record.payer is None:
            return False
        then = payer_on(self.record.insurances, min(service_date, self.as_of))
        return then not in (None, self.record.payer)

    def add_terms(self, candidate: Candidate, terms: Terms) -> None:
        """What the terms of the candidate's service date add to it, and what its modifiers ask for."""
        if self._was_anothers(candidate.service_date):
            candidate.reasons |= {ReviewReason.PAYER_UNKNOWN}
        elif terms.doubts:
            candidate.reasons |= terms.doubts_of(self.diagnosed(candidate.window))
        if terms.modifiers:
            candidate.modifiers += tuple(one for one in terms.modifiers if one not in candidate.modifiers)
        if candidate.modifiers and not holds(self.record.care_plans, candidate.service_date):
            candidate.unverified |= {Unverified.PLAN_OF_CARE}
        if self.visits.by_program(candidate.service_date):
            candidate.hints |= {Hint.MODIFIER_25}
        if candidate.line is Line.COGNITIVE_BEHAVIORAL:
            candidate.hints |= {Hint.DIGITAL_MENTAL_HEALTH}
        facts = self.policy.facts
        if facts.rural_health_clinic or facts.federally_qualified_health_center:
            candidate.hints |= {Hint.CENTRE}

    def add_charged_otherwise(self, candidate: Candidate, charges: Iterable[PriorCharge]) -> None:
        """A code that excludes this one is charged in the window."""
        for charge in standing([charge for charge in charges if charge.code in candidate.rule.excludes]):
            held_back = self.policy.code(charge.code).kind is Kind.HELD_BACK
            candidate.reasons |= {charge.code if held_back else ReviewReason.CHARGED_OTHERWISE}

    def add_more_specific(self, candidate: Candidate, window: Window) -> None:
        """A code that says more precisely what was monitored is charged in the window (D41)."""
        if not self.record.more_specific:
            return
        known = self.policy.tables.more_specific
        in_window = [
            charge
            for charge in self.record.more_specific
            if (before := known[charge.code].goes_before).program is self.program
            and candidate.rule.kind in before.kinds
            and touches(window, [charge.occurrence])
        ]
        for charge in standing(in_window):
            if charge.sole and charge.occurrence is not None:
                candidate.reasons |= {ReviewReason.CHARGED_OTHERWISE}
                candidate.instead |= {charge.code}
            else:
                candidate.reasons |= {ReviewReason.CHARGED_PERIOD_UNCLEAR}

    def settle_codes(self, candidate: Candidate, *, still_open: bool) -> None:
        """Which codes report the days of a continuous glucose sensor is the site's to say (D41); where it
        says nothing, a human confirms it for each charge. `still_open`: whether this code rests on them."""
        family = self.policy.continuous_glucose
        if not still_open or family != "ask":
            candidate.unverified -= {CODES_OPEN}
        if still_open and family == "cgm":
            candidate.reasons |= {ReviewReason.CHARGED_OTHERWISE}
            candidate.instead |= {
                code
                for code, entry in self.policy.tables.more_specific.items()
                if entry.monitor == "continuous-glucose"
            }

    # -- therapists ---------------------------------------------------------------------------------------

    def disciplines(self, window: Window) -> set[str]:
        """Disciplines of the therapists who bill the months of a window; none where a physician does."""
        found: set[str] = set()
        for first_day, staff in self.staffed.items() if self.has_therapist else ():
            if (staff.has_professional or staff.has_therapist) and window.overlaps(month_window(first_day)):
                if staff.has_professional:
                    return set()
                found |= disciplines_of(staff)
        return found

    def therapy_modifiers(self, rule: CodeRule, window: Window) -> tuple[str, ...]:
        """GP, GO or GN, where one discipline alone bills."""
        if not rule.therapy_modifiers or not self.staffed:
            return ()
        return only_of(rule.therapy_modifiers, self.disciplines(window))

    # -- for whoever shows it -----------------------------------------------------------------------------

    def counted_days(self) -> list[CountedDay]:
        by_day: dict[tuple[date, Line], list[Reading]] = {}
        for series in self.series:
            for day, readings in series.readings():
                by_day.setdefault((day, series.line), []).extend(readings)
        return [
            CountedDay(
                self.program, line, day, tuple(reading.resource for reading in earliest_first(readings))
            )
            for (day, line), readings in sorted(by_day.items())
        ]

    def counted_spans(self) -> list[CountedSpan]:
        return [
            CountedSpan(
                self.program,
                piece.resource,
                piece.activity,
                piece.role,
                piece.start,
                piece.end,
                piece.seconds if piece.seconds is not None else (piece.end - piece.start) // MICROSECONDS,
                piece.resource in self.months[first_day].calls,
            )
            for first_day in sorted(self.staffed)
            for piece in sorted(
                self.staffed[first_day].counted, key=lambda piece: (piece.start, piece.resource)
            )
        ]


def program_charts(
    record: PatientRecord,
    policy: Policy,
    as_of: date,
    excluded: set[Excluded],
    *,
    all_evidence: bool = False,
    performer: str | None = None,
    performs_as: Role = Role.UNKNOWN,
) -> list[ProgramChart]:
    """A chart of each program. What their rules leave out goes to `excluded`. `performer` and
    `performs_as`: as of `assess`."""
    clock = clock_of(record.zone)
    visits = {
        program: Visits(record, program, clock, performer, codes=policy.known.programs)
        for program in MONITORING_PROGRAMS
    }
    series, months = series_of(record.readings), months_of(record, excluded, visits)
    return [
        ProgramChart(
            record,
            program,
            policy,
            as_of,
            episodes_of(record, series, program, policy, excluded),
            months[program],
            visits[program],
            all_evidence=all_evidence,
            performs_as=performs_as,
        )
        for program in MONITORING_PROGRAMS
    ]


def unused_time(
    record: PatientRecord, charts: Iterable[ProgramChart], excluded: set[Excluded]
) -> set[Excluded]:
    """Encounters that no program counted: their staff doesn't count there, or no program has begun."""
    if not record.management:
        return set()
    decided = [month for chart in charts for month in chart.decided]
    unused = {time.resource for time in record.management}.difference(
        *[tally.evidence for _, tally in decided]
    )
    if not unused:
        return set()
    # That it came twice is told of a copy; why it did not count is another matter.
    unused -= {entry.resource for entry in excluded if entry.reason is not ExcludedReason.DUPLICATE}
    asked = {piece.resource for month, _ in decided for piece in month.pieces}
    return {
        Excluded(name, ExcludedReason.ROLE_NOT_COUNTED if name in asked else ExcludedReason.PROGRAM_NOT_SHOWN)
        for name in unused
    }


def disciplines_of(staff: Staffing) -> set[str]:
    """The discipline of the therapist who was chosen to bill, else those of the therapists who worked; an
    assistant works under one of them."""
    if staff.billed_under is not None:
        return {staff.billed_under}
    return {
        piece.discipline
        for piece in staff.counted
        if piece.discipline is not None and piece.role is not Role.THERAPIST_ASSISTANT
    }


def only_of(modifiers: Mapping[Discipline, str], disciplines: set[str]) -> tuple[str, ...]:
    """The modifier of the one discipline there is; none where there are several, which a human must pick."""
    if len(disciplines) != 1:
        return ()
    (discipline,) = disciplines
    return tuple(modifier for name, modifier in modifiers.items() if name == discipline)
