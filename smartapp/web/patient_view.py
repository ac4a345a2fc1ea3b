"""Everything the patient page shows of one snapshot: the answer, a block a window, and what was left out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from fhir_mappings.decision import Decision
from fhir_mappings.record import NOT_SAID, Excluded
from fhir_mappings.vocabulary import ExcludedReason, ReviewReason
from smartapp.configuration.site import Site
from smartapp.ehr.reading.display import Banner
from smartapp.ehr.reading.findings import Findings
from smartapp.ehr.reading.notices import Notice
from smartapp.ehr.reading.seen import Seen
from smartapp.store.charges import Charge
from smartapp.store.months import month_of
from smartapp.store.reading import Snapshot
from smartapp.web import words
from smartapp.web.answer import Asked, Sentence, answer, row_text
from smartapp.web.blocks import BlockView, DayView, block, left_out_by_day, strip, title_of, why_lost
from smartapp.web.cards import card
from smartapp.web.gaps import Gaps, gaps_of
from smartapp.web.records import RecordView, record_view
from smartapp.web.sent import sent_standings
from smartapp.windows import Now, Standing, WindowOfCodes, windows_of

MOST_EXCLUDED_SHOWN = 20
WHOLE = timedelta(days=31)
"""So long after its end a window that is not settled has its days and evidence on the page itself: what runs,
and what ended last. A year of them is a page of a megabyte, which nobody waits for gladly."""

_PRESSING = (
    Standing.READY,
    Standing.AWAITING,
    Standing.ON_ITS_WAY,
    Standing.UNANSWERED,
    Standing.WRITTEN,
    Standing.TO_ENTER,
)
_TO_SETTLE = (Standing.DECIDE, Standing.NEAR, Standing.SHUT, Standing.CLOSED)
_RUNNING = (Standing.SAFE, Standing.OPEN)


@dataclass(frozen=True)
class ExcludedGroup:
    """Records that were left out for one reason and with one coding."""

    reason: str
    coding: str
    count: int
    shown: tuple[RecordView, ...]


@dataclass(frozen=True)
class PatientView:
    """Everything the page shows."""

    banner: Banner
    snapshot: Snapshot
    read_at: datetime
    as_of: date
    history_from: date
    payer: str
    rules_version: str
    zone: str
    resources: int
    answer: tuple[Sentence, ...]
    """What stands, in whole sentences; the first one is the headline."""
    choice: str | None
    """A decision that waits for the choice between the two programs (`Decision.key`), where one does."""
    together: tuple[str, ...]
    """What can be accepted with one press, where it is more than one charge (`Decision.key`)."""
    now: tuple[BlockView, ...]
    """What a clinician may act on or is waiting for, by the day on which it is decided."""
    settled: tuple[BlockView, ...]
    """Windows in which everything is charged, or was not met and is over."""
    empty_months: str
    """Months that are over and hold nothing, by name."""
    excluded: tuple[ExcludedGroup, ...]
    excluded_total: int
    notices: tuple[Notice, ...]
    gaps: Gaps | None
    refusal: str | None
    rules_end: str | None
    """That the rules end soon, or ended (D37); None while there is time."""


class Blocks:
    """The windows of a chart, of which each is put into words where it is shown.

    `charges`: the patient's outbox rows. `refusal`: why none may be written. `closed`: first days of the
    months that are certified. `every`: each window is shown whole, however long it is over."""

    def __init__(
        self,
        findings: Findings,
        site: Site,
        charges: Sequence[Charge],
        refusal: str | None,
        closed: Collection[date] = (),
        every: bool = False,
    ) -> None:
        self.today = date.fromisoformat(findings.said["as_of"])
        self.policy = site.policies.of(findings.said["payer"])
        self._findings, self._site, self._refusal = findings, site, refusal
        self._charges = {charge.content.decision: charge for charge in charges}
        sent = sent_standings(charges)
        kind = self.policy.code
        now = Now(self.today, lambda code: kind(code).kind, findings.history_from, sent, closed)
        self.windows = windows_of(findings.assessment.decisions, now)
        self._both = len({one.program for one in self.windows}) > 1
        self._whole_from = date.min if every else self.today - WHOLE
        self._left_out = left_out_by_day(findings)
        self._shown: dict[str, BlockView] = {}

    def on_the_page(self, one: WindowOfCodes) -> BlockView:
        """Of what is over for long, how its codes stand; the rest opens on a page of its own."""
        return self.whole(one) if one.window.end >= self._whole_from else self.in_short(one)

    def whole(self, one: WindowOfCodes) -> BlockView:
        """With all that there is to see of it."""
        if one.key not in self._shown:
            self._shown[one.key] = self._block(one, True)
        return self._shown[one.key]

    def in_short(self, one: WindowOfCodes) -> BlockView:
        """How its codes stand, without days, minutes and evidence."""
        return self._block(one, False)

    def title(self, one: WindowOfCodes) -> str:
        """What it is called on the page."""
        return title_of(one, self.today, self._both)

    def days(self, one: WindowOfCodes) -> tuple[DayView, ...]:
        """The days of its strip; none of a month, or of a window that began before what was read."""
        if one.monthly or one.window.start < self._findings.history_from:
            return ()
        return strip(one, self._findings, self.today, self._left_out)

    def why_lost(self, one: WindowOfCodes) -> str:
        """What took days from it, in words."""
        return why_lost(self._shown[one.key].days if one.key in self._shown else self.days(one))

    def _block(self, one: WindowOfCodes, whole: bool) -> BlockView:
        cards = {
            code.decision.key: card(
                code.decision,
                self._findings,
                self._site,
                self._charges.get(code.decision.key),
                self._refusal,
                code.standing,
                row_text(code, self.today),
                whole,
            )
            for code in one.codes
        }
        return block(one, cards, self._findings, self._site, self._both, self._left_out, whole)


def patient_view(
    snapshot: Snapshot, findings: Findings, site: Site, refusal: str | None, blocks: Blocks
) -> PatientView:
    """The page of one snapshot. `refusal`: why no charge may be written."""
    today, policy, windows = blocks.today, blocks.policy, blocks.windows
    gaps = gaps_of(findings)
    shown = sorted((one for one in windows if _is_current(one, today)), key=_by_day)
    settled = [one for one in reversed(windows) if one not in shown]
    now = tuple(blocks.on_the_page(one) for one in shown)
    cards = [one for of_window in now for one in of_window.rows]
    can = sorted((one.decision for one in cards if one.can_accept), key=_by_period)
    ready = tuple(decision.key for decision in can)
    empty = [one for one in settled if _is_empty(one)]
    return PatientView(
        banner=findings.patient,
        snapshot=snapshot,
        read_at=snapshot.created_at.astimezone(site.zone),
        as_of=today,
        history_from=findings.history_from,
        payer=words.payer(findings.said["payer"], site.policies),
        rules_version=findings.said["rules_version"],
        zone=findings.said["timezone"],
        resources=findings.resources,
        answer=answer(
            Asked(
                windows,
                today,
                may_charge=refusal is None,
                not_fully_read=gaps is not None,
                readings_unsure=gaps is not None and gaps.readings_unsure,
                replaced=bool(findings.patient.replaced_by),
                why_lost=blocks.why_lost,
            )
        ),
        choice=next(
            (
                code.decision.key
                for one in windows
                for code in one.among(Standing.DECIDE)
                if ReviewReason.RTM_AND_RPM in code.decision.reasons
            ),
            None,
        ),
        together=ready if len(ready) > 1 else (),
        now=now,
        settled=tuple(blocks.in_short(one) for one in settled if one not in empty),
        empty_months=words.listed(dict.fromkeys(words.window(one.window, today) for one in empty))
        if empty
        else "",
        excluded=_excluded_groups(findings),
        excluded_total=len(findings.assessment.excluded),
        notices=findings.notices,
        gaps=gaps,
        refusal=refusal,
        rules_end=words.rules_end_soon(policy.checked_to) if policy.ends_soon(today) else None,
    )


def _is_current(one: WindowOfCodes, today: date) -> bool:
    """Still to be acted on, not over, or the month before this one with nothing in it: who forgot to log a
    whole month must not have to look for it."""
    if one.window.end >= today or one.among(*_PRESSING, *_TO_SETTLE, *_RUNNING):
        return True
    return (
        _is_empty(one) and one.monthly and one.window.start == month_of(month_of(today) - timedelta(days=1))
    )


def _by_period(decision: Decision) -> tuple[date, str]:
    return decision.period.start, decision.code


def _is_empty(one: WindowOfCodes) -> bool:
    return all(code.standing is Standing.EMPTY for code in one.codes)


def _by_day(one: WindowOfCodes) -> tuple[int, date, date, bool, str]:
    """What can be charged, then what must be settled, then what is open, each by the day that decides it."""
    rank = 0 if one.among(*_PRESSING) else 1 if one.among(*_TO_SETTLE) else 2
    return rank, one.decided_on, one.window.start, one.monthly, one.key


def _excluded_groups(findings: Findings) -> tuple[ExcludedGroup, ...]:
    grouped: dict[tuple[str, str], list[str]] = defaultdict(list)
    for entry in findings.assessment.excluded:
        told = findings.seen.get(entry.resource)
        grouped[_why_left_out(entry, findings), _coding(entry, told)].append(entry.resource)
    return tuple(
        ExcludedGroup(
            reason,
            coding,
            len(found),
            tuple(
                one
                for one in (record_view(name, findings, reason) for name in found[:MOST_EXCLUDED_SHOWN])
                if one.day is not None or one.value
            ),
        )
        for (reason, coding), found in sorted(grouped.items(), key=lambda item: (-len(item[1]), item[0]))
    )


def _coding(entry: Excluded, told: Seen | None) -> str:
    """What it is, as people say it; a number only of the systems that coders know by heart."""
    about = entry.about
    known_by_heart = about.code and about.system and not about.in_words.startswith(about.system)
    if about != NOT_SAID and known_by_heart:
        return about.in_words
    return (told.what if told is not None else "") or about.type_text or about.code


def _why_left_out(entry: Excluded, findings: Findings) -> str:
    """An entry of our own does say its program; it is the patient who has none of its data."""
    if entry.resource in findings.logged and entry.reason is ExcludedReason.PROGRAM_NOT_SHOWN:
        return "logged here for a program of which the patient has no data"
    return words.excluded(entry.reason)
