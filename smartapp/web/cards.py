"""From findings to what a template shows: one card a decision, in the order a clinician works through them.

Nothing is decided here. Numbers, reasons and evidence come from the decision; this module only says them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any
from zoneinfo import ZoneInfo

from fhir_mappings.completeness import in_words
from fhir_mappings.decision import Assessment, CountedSpan, Decision, Forecast, Requirement
from fhir_mappings.record import NOT_SAID
from fhir_mappings.rules.tables import Kind
from fhir_mappings.vocabulary import Outcome, RequirementKind, Unverified
from smartapp.ehr.reading.auditor_notes import notes_on
from smartapp.ehr.reading.display import Banner
from smartapp.ehr.reading.findings import Findings, evidence_of
from smartapp.ehr.reading.notices import Notice
from smartapp.ehr.reading.own_record import StatementLine
from smartapp.site import Site
from smartapp.store.charges import Charge
from smartapp.store.claims import ChargeState
from smartapp.store.reading import Snapshot
from smartapp.web import words
from smartapp.web.answer import Asked, Sentence, answer
from smartapp.web.gaps import Gaps, gaps_of
from smartapp.web.resolutions import settled_sentences, signed
from smartapp.web.windows import Now, Standing, windows_of

MOST_EXCLUDED_SHOWN = 50
MOST_ABOUT_SHOWN = 12
MICROSECONDS = 1_000_000


class Cell(Enum):
    """One day of a 30-day strip."""

    COUNTED = "counted"
    EMPTY = "empty"
    COMING = "coming"


@dataclass(frozen=True)
class StripDay:
    day: date
    cell: Cell
    x: int


@dataclass(frozen=True)
class EvidenceView:
    reference: str
    text: str
    linked: bool
    """Whether the record itself is in the snapshot."""
    entry: str | None = None
    """The entry of the time log, where the record was logged in this app."""


@dataclass(frozen=True)
class RequirementView:
    name: str
    found: str
    needed: str
    met: bool
    evidence: tuple[EvidenceView, ...]
    reference: str


@dataclass(frozen=True)
class SpanView:
    day: date
    start: str
    end: str
    length: str
    activity: str
    live: bool
    reference: str
    x: int
    """Position and width in the month's bar, in thousandths."""
    width: int
    entry: str | None = None
    """The entry of the time log, where the span was logged in this app."""


@dataclass(frozen=True)
class MinutesView:
    total: str
    spans: tuple[SpanView, ...]
    marks: tuple[tuple[int, int], ...]
    """Minutes and their position in thousandths."""


@dataclass(frozen=True)
class CardView:
    decision: Decision
    label: str
    period: str
    requirements: tuple[RequirementView, ...]
    strip: tuple[StripDay, ...]
    strip_label: str
    minutes: MinutesView | None
    forecast: str | None
    before_reading: bool
    """The window began before what was read: its numbers would be wrong, so none are shown."""
    charge: Charge | None
    """Our own charge for this decision, whatever became of it."""
    can_accept: bool
    shut: str | None = None
    """Why nobody can accept it here before the rules of its service date are confirmed (D37)."""
    notes: tuple[str, ...] = ()
    """For an auditor (D19); they change nothing."""
    fee: str | None = None
    """The site's own amount for these units, with its year and source; None without a fee table."""
    statements: tuple[StatementLine, ...] = ()
    """What clinicians stated here that holds for this code and period."""

    @property
    def outcome(self) -> str:
        return self._words[0]

    @property
    def explanation(self) -> str:
        return self._words[1]

    @property
    def unverified(self) -> tuple[Unverified, ...]:
        """What a clinician can state."""
        return statable(self.decision)

    @property
    def _words(self) -> tuple[str, str]:
        if self.shut is not None and self.decision.outcome is Outcome.SUGGEST:
            return words.SHUT
        return words.OUTCOMES[self.decision.outcome]


@dataclass(frozen=True)
class ExcludedGroup:
    """Records that were left out for one reason. `about`: the codings and devices it is about, how often,
    the most frequent first."""

    reason: str
    count: int
    shown: tuple[str, ...]
    about: tuple[tuple[str, int], ...] = ()


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
    now: tuple[CardView, ...]
    """What a clinician may act on or is waiting for."""
    settled: tuple[CardView, ...]
    """Earlier periods, and codes another code covers."""
    answer: tuple[Sentence, ...]
    """What stands, in whole sentences; the first one is the headline."""
    excluded: tuple[ExcludedGroup, ...]
    excluded_total: int
    notices: tuple[Notice, ...]
    gaps: Gaps | None
    refusal: str | None
    rules_end: str | None
    """That the rules end soon, or ended (D37); None while there is time."""


_FIRST = (Outcome.SUGGEST, Outcome.REVIEW, Outcome.PROVISIONAL, Outcome.SHORT)
_MET = frozenset({Outcome.SUGGEST, Outcome.REVIEW, Outcome.PROVISIONAL})
_ORDER = {outcome: position for position, outcome in enumerate((*_FIRST, Outcome.CHARGED))}


def patient_view(
    snapshot: Snapshot,
    findings: Findings,
    site: Site,
    charges: Sequence[Charge],
    refusal: str | None,
    closed: Collection[date] = (),
) -> PatientView:
    """The page of one snapshot. `charges`: the patient's outbox rows. `refusal`: why none may be written.
    `closed`: first days of the months that are certified."""
    own = {charge.content.decision: charge for charge in charges}
    gaps = gaps_of(findings)
    windows = windows_of(
        findings.assessment.decisions,
        Now(
            date.fromisoformat(findings.contract["as_of"]),
            lambda code: site.policy.code(code).kind,
            findings.history_from,
            {key: charge.state for key, charge in own.items()},
            closed,
        ),
    )
    standing = {code.decision.key: code.standing for one in windows for code in one.codes}
    cards = [
        _card(decision, findings, site, own.get(decision.key), refusal, standing[decision.key])
        for decision in findings.assessment.decisions
    ]
    now = [card for card in cards if _is_current(card, findings.contract["as_of"])]
    settled = [card for card in cards if card not in now]
    now.sort(key=lambda card: (_ORDER.get(card.decision.outcome, 9), -card.decision.period.end.toordinal()))
    settled.sort(key=lambda card: (-card.decision.period.end.toordinal(), card.decision.code))
    groups = _excluded_groups(findings.assessment)
    return PatientView(
        banner=findings.patient,
        snapshot=snapshot,
        read_at=snapshot.created_at.astimezone(site.zone),
        as_of=date.fromisoformat(findings.contract["as_of"]),
        history_from=findings.history_from,
        payer=findings.contract["payer"],
        rules_version=findings.contract["rules_version"],
        zone=findings.contract["timezone"],
        resources=findings.resources,
        now=tuple(now),
        settled=tuple(settled),
        answer=answer(
            Asked(
                windows,
                date.fromisoformat(findings.contract["as_of"]),
                may_charge=refusal is None,
                not_fully_read=gaps is not None,
                readings_unsure=gaps is not None and gaps.readings_unsure,
                replaced=bool(findings.patient.replaced_by),
            )
        ),
        excluded=groups,
        excluded_total=len(findings.assessment.excluded),
        notices=findings.notices,
        gaps=gaps,
        refusal=refusal,
        rules_end=_rules_end(findings, site),
    )


def _rules_end(findings: Findings, site: Site) -> str | None:
    policy = site.policies.of(findings.contract["payer"])
    today = date.fromisoformat(findings.contract["as_of"])
    return words.rules_end_soon(policy.checked_to) if policy.ends_soon(today) else None


def card_view(decision: Decision, findings: Findings, site: Site) -> CardView:
    """One card by itself, as the preview shows it."""
    return _card(decision, findings, site, None, None, None)


def _is_current(card: CardView, as_of: str) -> bool:
    """Still to be acted on, or of a window that is not over."""
    if card.decision.outcome in {Outcome.SUGGEST, Outcome.REVIEW, Outcome.PROVISIONAL}:
        return True
    if card.charge is not None and card.charge.state not in {ChargeState.REFUSED, ChargeState.WITHDRAWN}:
        return True
    return card.decision.outcome is Outcome.SHORT and card.decision.period.end >= date.fromisoformat(as_of)


def _card(
    decision: Decision,
    findings: Findings,
    site: Site,
    charge: Charge | None,
    refusal: str | None,
    standing: Standing | None,
) -> CardView:
    rule = site.policy.code(decision.code)
    shut = rules_not_confirmed(decision, site)
    monthly = rule.kind in {Kind.MANAGEMENT, Kind.MANAGEMENT_ADD_ON}
    today = date.fromisoformat(findings.contract["as_of"])
    before_reading = decision.period.start < findings.history_from
    strip = () if monthly or before_reading else _strip(decision, findings.assessment, today)
    counted = sum(cell.cell is Cell.COUNTED for cell in strip)
    return CardView(
        decision=decision,
        label=rule.label,
        period=f"{words.day(decision.period.start)} – {words.day(decision.period.end)}",
        requirements=()
        if before_reading
        else tuple(_requirement(part, findings) for part in decision.requirements),
        strip=strip,
        strip_label=f"{counted} of {len(strip)} days with counted data, {words.day(decision.period.start)} "
        f"to {words.day(decision.period.end)}",
        minutes=_minutes(decision, findings.assessment.spans, site.zone, findings.logged)
        if monthly and not before_reading
        else None,
        forecast=_forecast(decision.forecast),
        notes=()
        if before_reading
        else notes_on(decision, findings.assessment.spans, findings.late, site.zone),
        fee=_fee(decision, site),
        before_reading=before_reading,
        charge=charge,
        shut=shut if decision.outcome in _MET else None,
        can_accept=refusal is None and standing is Standing.READY,
        statements=statements_on(decision, findings),
    )


def rules_not_confirmed(decision: Decision, site: Site) -> str | None:
    """Why this cannot be charged, whatever a form says: the rules of its service date are not confirmed."""
    if Unverified.RULES_OF_THE_YEAR not in decision.unverified:
        return None
    return words.rules_end(site.policy.ends[decision.code])


def statable(decision: Decision) -> tuple[Unverified, ...]:
    """What the record does not show and a clinician can state; the rules of a year are none of it (D37)."""
    return tuple(entry for entry in decision.unverified if entry is not Unverified.RULES_OF_THE_YEAR)


def _fee(decision: Decision, site: Site) -> str | None:
    """What the site's table says for the units of a decision that stands, charged or not."""
    fee = None if decision.service_date is None else site.fees.fee(decision.code, decision.service_date)
    if fee is None or decision.outcome in {Outcome.SHORT, Outcome.OUT_OF_REACH, Outcome.BLOCKED}:
        return None
    total = Decimal(fee.amount) * decision.quantity
    return f"{total} {fee.currency}, the site's table for {fee.year} ({fee.source})"


def kept_here(decision: Decision, findings: Findings, site: Site) -> dict[str, Any]:
    """What of a decision rests on this app's own record, and on a chart that was not fully read, for the
    charge's note: see `ChargeDetails`."""
    return {
        "stated": tuple(
            signed(words.ATTESTATIONS[line.statement], line.by_name or line.by, site.today(line.at))
            for line in statements_on(decision, findings)
        ),
        "settled": settled_sentences(decision, findings, site),
        "logged": sum(name in findings.logged for name in evidence_of(decision)),
        "not_read": in_words(findings.completeness),
        "codes": site.policy.known,
    }


def statements_on(decision: Decision, findings: Findings) -> tuple[StatementLine, ...]:
    """What clinicians stated here that holds for this code and period."""
    if decision.outcome in {Outcome.SHORT, Outcome.OUT_OF_REACH, Outcome.BLOCKED}:
        return ()
    return tuple(line for line in findings.statements if line.covers(decision.code, decision.period))


def _requirement(part: Requirement, findings: Findings) -> RequirementView:
    return RequirementView(
        name=words.REQUIREMENTS[part.requirement],
        found=words.amount(part.found, part.unit),
        needed=words.amount(part.needed, part.unit),
        met=part.met,
        evidence=tuple(
            EvidenceView(
                reference,
                findings.evidence.get(reference, ""),
                reference in findings.versions,
                findings.logged.get(reference),
            )
            for reference in part.evidence
        ),
        reference=part.reference,
    )


def _strip(decision: Decision, assessment: Assessment, today: date) -> tuple[StripDay, ...]:
    """The window's days. Those that counted are the ones whose readings this decision rests on."""
    evidence = set(evidence_of(decision))
    counted = {
        day.day
        for day in assessment.days
        if day.program == decision.program and not evidence.isdisjoint(day.evidence)
    }
    days = (decision.period.end - decision.period.start).days + 1
    return tuple(
        StripDay(
            day,
            Cell.COUNTED if day in counted else Cell.COMING if day > today else Cell.EMPTY,
            position * 10,
        )
        for position in range(days)
        for day in (decision.period.start + timedelta(days=position),)
    )


def _minutes(
    decision: Decision, spans: Iterable[CountedSpan], zone: ZoneInfo, logged: Mapping[str, str]
) -> MinutesView:
    """The month's counted spans, laid end to end on one bar with the codes' thresholds."""
    own = []
    for span in spans:
        start = datetime.fromtimestamp(span.start / MICROSECONDS, zone)
        if span.program == decision.program and decision.period.start <= start.date() <= decision.period.end:
            own.append((start, span))
    own.sort(key=lambda item: item[0])
    total = sum(span.seconds for _, span in own)
    scale = max(total, 60 * 60)
    views, before = [], 0
    for start, span in own:
        end = datetime.fromtimestamp(span.end / MICROSECONDS, zone)
        views.append(
            SpanView(
                day=start.date(),
                start=f"{start:%H:%M:%S}",
                end=f"{end:%H:%M:%S}",
                length=words.amount(span.seconds, "seconds"),
                activity=words.activity(span.activity),
                live=span.live,
                reference=span.resource,
                x=1000 * before // scale,
                width=max(2, 1000 * span.seconds // scale),
                entry=logged.get(span.resource),
            )
        )
        before += span.seconds
    marks = tuple((minutes, 1000 * minutes * 60 // scale) for minutes in range(10, scale // 60 + 1, 10))
    return MinutesView(
        words.amount(total, "seconds"),
        tuple(views),
        tuple(m for m in marks if m[0] in {10, 20, 40, 60, 80, 100}),
    )


def _forecast(forecast: Forecast | None) -> str | None:
    if forecast is None:
        return None
    missing = words.amount(forecast.missing, forecast.unit)
    return (
        f"{missing} more until {forecast.next_code}; reachable until {words.day(forecast.reachable_until)}."
    )


def _excluded_groups(assessment: Assessment) -> tuple[ExcludedGroup, ...]:
    by_reason: dict[str, list[str]] = defaultdict(list)
    about: dict[str, Counter[str]] = defaultdict(Counter)
    for entry in assessment.excluded:
        by_reason[entry.reason].append(entry.resource)
        if entry.about != NOT_SAID:
            about[entry.reason][entry.about.in_words] += 1
    return tuple(
        ExcludedGroup(
            words.excluded(reason),
            len(found),
            tuple(found[:MOST_EXCLUDED_SHOWN]),
            tuple(about[reason].most_common(MOST_ABOUT_SHOWN)),
        )
        for reason, found in sorted(by_reason.items(), key=lambda item: (-len(item[1]), item[0]))
    )


__all__ = ["CardView", "PatientView", "RequirementKind", "card_view", "patient_view"]
