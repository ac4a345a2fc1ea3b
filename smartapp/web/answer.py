"""What stands, in whole sentences: what can be charged, what must be settled first, what is still open and
by when, what only has to be logged, and what was lost and why.

Facts with dates. No sentence tells anybody to provide a service so that a code is met (it would be a charge
that nothing medical asked for), and none says more than the decisions do: a window that is open is never
called over, and time that nobody logged is never called lost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date
from enum import Enum

from fhir_mappings.decision import Requirement
from fhir_mappings.local_time import Window
from fhir_mappings.rules.tables import Kind
from fhir_mappings.vocabulary import RequirementKind, ReviewReason, Unit, Unverified
from smartapp.web import words
from smartapp.windows import Code, Standing, WindowOfCodes

MOST_LOST_NAMED = 3
DAYS, TIME, LIVE = (
    RequirementKind.MONITORING_DAYS,
    RequirementKind.MANAGEMENT_TIME,
    RequirementKind.LIVE_CONTACT,
)


class Topic(Enum):
    """What a sentence is about, in the order in which they are told."""

    REPLACED = "replaced"
    GAP = "gap"
    READY = "ready"
    CHOICE = "choice"
    DECIDE = "decide"
    WAITING = "waiting"
    NOTHING = "nothing"
    CONFIRM = "confirm"
    OPEN = "open"
    MISSED = "missed"
    LOST = "lost"
    UNREAD = "unread"
    CHARGED = "charged"


@dataclass(frozen=True)
class Sentence:
    """`at`: the window it is about (`WindowOfCodes.key`), where it is about one."""

    topic: Topic
    text: str
    at: str | None = None


@dataclass(frozen=True)
class Asked:
    """What the answer is made from."""

    windows: tuple[WindowOfCodes, ...]
    today: date
    may_charge: bool = True
    """Somebody without the right to charge is told what is earned, not what can be charged."""
    not_fully_read: bool = False
    readings_unsure: bool = False
    """There may be readings that nobody saw: "nothing to charge" would be more than is known."""
    replaced: bool = False
    why_lost: Callable[[WindowOfCodes], str] = lambda _: ""
    """What was left out of a window's days, in words; "" where nothing was."""


def answer(asked: Asked) -> tuple[Sentence, ...]:
    """Every sentence, the most pressing first. Never empty."""
    told = [
        *_reading(asked),
        *_ready(asked),
        *_choice(asked),
        *_to_decide(asked),
        *_waiting(asked),
    ]
    settled = not any(one.topic in {Topic.READY, Topic.CHOICE, Topic.DECIDE, Topic.WAITING} for one in told)
    if settled and not asked.replaced:
        told.append(_nothing(asked))
    told += [*_to_confirm(asked), *_open(asked), *_missed(asked), *_lost(asked), *_unread(asked)]
    if settled:
        told += _charged(asked)
    return tuple(told)


def _reading(asked: Asked) -> Iterable[Sentence]:
    if asked.replaced:
        yield Sentence(Topic.REPLACED, "Nothing is decided here: this record was replaced.")
    if asked.not_fully_read:
        yield Sentence(Topic.GAP, "The chart was not fully read.")


def _ready(asked: Asked) -> Iterable[Sentence]:
    ready = _by_window(asked, Standing.READY)
    if ready:
        many = sum(len(codes) for _, codes in ready) > 1
        end = "can be charged." if asked.may_charge else f"{'are' if many else 'is'} earned."
        yield Sentence(Topic.READY, f"{_of_windows(ready, asked.today)} {end}")


def _choice(asked: Asked) -> Iterable[Sentence]:
    """The two programs exclude each other: said once, for however many codes wait for it."""
    waiting = _by_window(asked, Standing.DECIDE, lambda code: ReviewReason.RTM_AND_RPM in _reasons(code))
    if waiting:
        names = list(dict.fromkeys(words.window(one.window, asked.today) for one, _ in waiting))
        number = sum(len(codes) for _, codes in waiting)
        yield Sentence(
            Topic.CHOICE,
            f"Decide RTM or RPM first: both are earned for {words.listed(names)}, and only one may be "
            f"charged ({number} codes wait).",
        )


def _to_decide(asked: Asked) -> Iterable[Sentence]:
    others = _by_window(asked, Standing.DECIDE, lambda code: bool(_other_reasons(code)))
    if others:
        reasons = {reason for _, codes in others for code in codes for reason in _other_reasons(code)}
        things = "1 thing" if len(reasons) == 1 else f"{len(reasons)} things"
        yield Sentence(
            Topic.DECIDE, f"{things} to decide before {_of_windows(others, asked.today)} can be charged."
        )


def _waiting(asked: Asked) -> Iterable[Sentence]:
    """What is earned and, for a reason of this app's own, not to be pressed now."""
    for standing, one, many in (
        (Standing.AWAITING, "awaits a second person's approval.", "await a second person's approval."),
        (Standing.ON_ITS_WAY, "is on its way to the EHR.", "are on their way to the EHR."),
        (
            Standing.UNANSWERED,
            "was sent and the EHR gave no answer: look in the EHR.",
            "were sent and the EHR gave no answer: look in the EHR.",
        ),
        (Standing.WRITTEN, "was written to the EHR.", "were written to the EHR."),
        (Standing.TO_ENTER, "is to be entered in billing by hand.", "are to be entered in billing by hand."),
        (
            Standing.SHUT,
            "is met, but the rules for its date are not confirmed.",
            "are met, but the rules for their dates are not confirmed.",
        ),
        (
            Standing.CLOSED,
            "is earned and not charged, and the month is certified.",
            "are earned and not charged, and the month is certified.",
        ),
    ):
        found = _by_window(asked, standing)
        if found:
            number = sum(len(codes) for _, codes in found)
            yield Sentence(Topic.WAITING, f"{_of_windows(found, asked.today)} {one if number == 1 else many}")


def _nothing(asked: Asked) -> Sentence:
    if asked.readings_unsure:
        return Sentence(Topic.NOTHING, "Not known whether there is anything to charge.")
    if not asked.windows:
        return Sentence(Topic.NOTHING, "Nothing to charge now: no remote monitoring was found in the chart.")
    return Sentence(Topic.NOTHING, "Nothing to charge now.")


def _to_confirm(asked: Asked) -> Iterable[Sentence]:
    """What a clinician must state for the codes that can be charged, each statement once."""
    number = len(
        {
            entry
            for _, codes in _by_window(asked, Standing.READY)
            for code in codes
            for entry in code.decision.unverified
            if entry is not Unverified.RULES_OF_THE_YEAR
        }
    )
    if number and asked.may_charge:
        yield Sentence(
            Topic.CONFIRM, f"{number} thing{'' if number == 1 else 's'} to confirm before charging."
        )


def _open(asked: Asked) -> Iterable[Sentence]:
    """Windows that are still open, by the day on which they are decided."""
    running = [
        one
        for one in asked.windows
        if one.window.end >= asked.today and one.among(Standing.OPEN, Standing.SAFE)
    ]
    for one in sorted(running, key=lambda one: (one.decided_on, one.window, one.program)):
        text = _month(one, asked.today) if one.monthly else _period(one, asked.today)
        if text:
            yield Sentence(Topic.OPEN, text, one.key)


def _period(one: WindowOfCodes, today: date) -> str:
    safe = _last(one.among(Standing.SAFE))
    short = one.among(Standing.OPEN)
    if safe is None:
        return f"{words.window(one.window, today)}: {_days_so_far(short, one.window, today)}."
    told = _safe(safe, today)
    higher = next((code for code in short if code.decision.forecast is not None and code.need(DAYS)), None)
    if higher is None or higher.decision.forecast is None:
        return f"{told}."
    return (
        f"{told}; for {higher.decision.code} it is {_of(higher.need(DAYS))}, and the period ends "
        f"{words.short_day(one.window.end, today)}."
    )


def _days_so_far(short: Iterable[Code], window: Window, today: date) -> str:
    """ "1 of 2 days for 99445 and 99453, 1 of 16 days for 99454 (reachable until 7 Dec)": the day that a code
    is lost on stands only where that is before the period ends."""
    groups: dict[tuple[str, date], list[str]] = {}
    for code in short:
        until = window.end if code.decision.forecast is None else code.decision.forecast.reachable_until
        what = _of(code.need(DAYS))
        if what:
            groups.setdefault((what, until), []).append(code.decision.code)
    parts = [
        f"{what} for {words.listed(codes)}"
        + ("" if until == window.end else f" (reachable until {words.short_day(until, today)})")
        for (what, until), codes in groups.items()
    ]
    return f"{', '.join(parts)}, the period ends {words.short_day(window.end, today)}"


def _month(one: WindowOfCodes, today: date) -> str:
    name = words.window(one.window, today)
    bases = [code for code in one.codes if code.kind is Kind.MANAGEMENT]
    safe = _last([code for code in one.among(Standing.SAFE) if code.kind is Kind.MANAGEMENT])
    short = [
        code
        for code in one.among(Standing.OPEN)
        if (code.kind is Kind.MANAGEMENT) is (safe is None or bool(_above(code, safe)))
    ]
    if safe is not None:
        told = [_safe(safe, today), *(f"{_of(code.need(TIME))} for {code.decision.code}" for code in short)]
        return f"{'; '.join(told)}."
    if not short:
        return ""
    seconds = max((code.found(TIME) for code in bases), default=0)
    live = any(code.found(LIVE) for code in bases)
    if all(_met(code.need(TIME)) for code in short) and not live:
        return f"{name}: {words.minutes(seconds)} counted, no live conversation recorded so far."
    if not seconds and not live:
        return ""  # its block says so in one line
    stands = [f"{_of(code.need(TIME))} for {code.decision.code}" for code in short]
    end = "" if live else ", no live conversation so far"
    return f"{name}: {', '.join(stands)}{end}."


def _above(code: Code, safe: Code) -> bool:
    need, other = code.need(TIME), safe.need(TIME)
    return need is not None and other is not None and need.needed > other.needed


def _safe(code: Code, today: date) -> str:
    begins = code.open_from
    name = _units(code)
    return (
        f"{name} is earned"
        if begins is None
        else (f"{name} is earned and can be charged from {words.short_day(begins, today)}")
    )


def _missed(asked: Asked) -> Iterable[Sentence]:
    """Months that are over, hold time and earn nothing as recorded: what took place can still be logged."""
    for one in reversed(asked.windows):
        if one.among(Standing.NEAR):
            yield Sentence(Topic.MISSED, near_miss(one, asked.today), one.key)


def near_miss(one: WindowOfCodes, today: date) -> str:
    """What a month that is over lacks, and that what took place may be logged."""
    codes = one.among(Standing.NEAR)
    name = words.window(one.window, today)
    seconds = max(code.found(TIME) for code in codes)
    live = any(code.found(LIVE) for code in codes)
    enough = any(_met(code.need(TIME)) for code in codes)
    if enough and not live:
        return (
            f"{name}: {words.minutes(seconds)} counted, no live conversation recorded. "
            "If one took place, log it."
        )
    least = min(codes, key=lambda code: need.needed if (need := code.need(TIME)) else 0)
    talk = "" if live else " and no live conversation"
    return (
        f"{name}: {_of(least.need(TIME))} for {least.decision.code}{talk} recorded. "
        "What else took place can be logged."
    )


def _lost(asked: Asked) -> Iterable[Sentence]:
    """The highest device code of each window that no reading can earn any more, the latest first."""
    lost: dict[bool, list[str]] = {True: [], False: []}
    for one in reversed(asked.windows):
        gone = [
            (part.needed, code) for code in one.among(Standing.LOST) if (part := code.need(DAYS)) is not None
        ]
        if one.monthly or not gone or one.among(Standing.CHARGED):
            continue
        _, highest = max(gone, key=lambda item: item[0])
        named = lost[one.window.end >= asked.today]
        why = asked.why_lost(one) if len(named) < MOST_LOST_NAMED else ""
        named.append(
            f"{highest.decision.code} for {words.window(one.window, asked.today)} "
            f"({_of(highest.need(DAYS))}{'; ' + why if why else ''})"
        )
    for running, named in lost.items():
        if named:
            more = len(named) - MOST_LOST_NAMED
            told = named[:MOST_LOST_NAMED] + ([f"{more} earlier"] if more > 0 else [])
            beginning = "Out of reach" if running else "Not met"
            yield Sentence(Topic.LOST, f"{beginning}: {words.listed(told)}.")


def _unread(asked: Asked) -> Iterable[Sentence]:
    """Periods that nobody charged and that begin before what was read: not lost, as far as is known."""
    # A start-up code stands in the window of a device code, and says nothing of it.
    unread = [
        one
        for one in asked.windows
        if not one.monthly
        and one.among(Standing.UNREAD)
        and all(code.kind is Kind.START_UP for code in one.among(Standing.CHARGED))
    ]
    if unread:
        named = words.listed([words.window(one.window, asked.today) for one in unread])
        told = f"Not charged, and not read as a whole: {named}. Earlier months can be read too."
        yield Sentence(Topic.UNREAD, told, unread[-1].key)


def _charged(asked: Asked) -> list[Sentence]:
    """The latest window of each kind that is charged, where nothing else is to be done."""
    latest: dict[bool, WindowOfCodes] = {}
    for one in asked.windows:
        if one.among(Standing.CHARGED):
            latest[one.monthly] = one
    found = [(one, one.among(Standing.CHARGED)) for one in latest.values()]
    if not found:
        return []
    return [Sentence(Topic.CHARGED, f"Charged: {_of_windows(found, asked.today).removesuffix(',')}.")]


# A row


def row_text(code: Code, today: date) -> str:
    """What there is for one code of a window, and what becomes of it."""
    there = ", ".join(filter(None, (_of(code.need(DAYS)), _of(code.need(TIME)), _conversation(code))))
    match code.standing:
        case Standing.READY if code.kind is Kind.START_UP and code.decision.service_date is not None:
            return f"Earned on {words.short_day(code.decision.service_date, today)}. Can be charged now."
        case Standing.SAFE:
            begins = code.open_from
            day = "" if begins is None else f" Can be charged from {words.short_day(begins, today)}."
            return f"{there}.{day}{_becomes(code, today)}"
        case Standing.OPEN:
            until = code.decision.forecast.reachable_until if code.decision.forecast else None
            return f"{there}." if until is None else f"{there}. Open until {words.short_day(until, today)}."
    return f"{there}{_without_set_up(code)}." if there else ""


def _becomes(code: Code, today: date) -> str:
    forecast = code.decision.forecast
    if forecast is None or forecast.next_code == code.decision.code:
        return ""
    until = words.short_day(forecast.reachable_until, today)
    if forecast.unit == Unit.COUNT:
        return ""
    if forecast.unit == Unit.SECONDS:
        found = code.need(RequirementKind.MANAGEMENT_TIME)
        asked = forecast.missing + (found.found if found is not None else 0)
        return f" {forecast.next_code} asks {words.minutes(asked)}; the month ends {until}."
    days = code.need(DAYS)
    asked = forecast.missing + (days.found if days is not None else 0)
    ends = words.short_day(code.decision.period.end, today)
    return f" {forecast.next_code} asks {asked} days; the period ends {ends}."


def _conversation(code: Code) -> str:
    part = code.need(LIVE)
    if part is None or code.need(RequirementKind.BASE_CODE) is not None:
        return ""
    return "live conversation recorded" if part.met else "no live conversation recorded"


def _without_set_up(code: Code) -> str:
    part = code.need(RequirementKind.SET_UP)
    return ", set-up not documented" if part is not None and not part.met else ""


# In words


def _by_window(
    asked: Asked, standing: Standing, wanted: Callable[[Code], bool] = lambda _: True
) -> list[tuple[WindowOfCodes, tuple[Code, ...]]]:
    found = [(one, tuple(filter(wanted, one.among(standing)))) for one in asked.windows]
    return [(one, codes) for one, codes in found if codes]


def _of_windows(found: Iterable[tuple[WindowOfCodes, tuple[Code, ...]]], today: date) -> str:
    """ "98975 and 98977 for 2 to 31 Oct, and 98977 and 98980 for November,": windows of one name together. Of
    several the last is followed by a comma too, for what the sentence goes on with."""
    names: dict[str, list[str]] = {}
    for one, codes in found:
        names.setdefault(words.window(one.window, today), []).extend(map(_units, codes))
    told = [f"{words.listed(sorted(codes))} for {name}" for name, codes in names.items()]
    if len(told) == 1:
        return told[0]
    return f"{', '.join(told[:-1])}, and {told[-1]},"


def _units(code: Code) -> str:
    number = code.decision.quantity
    return code.decision.code if number <= 1 else f"{code.decision.code} × {number}"


def _reasons(code: Code) -> tuple[str, ...]:
    return code.decision.reasons


def _other_reasons(code: Code) -> tuple[str, ...]:
    return tuple(reason for reason in code.decision.reasons if reason != ReviewReason.RTM_AND_RPM)


def _last(codes: Iterable[Code]) -> Code | None:
    """The device code, not the start-up one; the highest by code of the month."""
    device = [code for code in codes if code.kind is not Kind.START_UP]
    return device[-1] if device else None


def _met(part: Requirement | None) -> bool:
    return part is not None and part.met


def _of(part: Requirement | None) -> str:
    """ "15 of 16 days", "27 of 20 minutes"."""
    return "" if part is None else words.found_of(part.found, part.needed, part.unit)
