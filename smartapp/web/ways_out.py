"""What settles each doubt of a decision, and where that is done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fhir_mappings.decision import Decision
from fhir_mappings.rules.reviews import (
    THERAPIST_ALONE,
    WITH_ASSISTANT,
    Choice,
    How,
    Review,
    load_reviews,
)
from fhir_mappings.vocabulary import (
    Activity,
    Hint,
    Outcome,
    RequirementKind,
    ReviewReason,
)
from smartapp.web import words

_DOUBTED = frozenset({Outcome.REVIEW, Outcome.SHORT, Outcome.OUT_OF_REACH})
"""An unmet code names the doubts that might have met it: they are settled in the same way."""


@dataclass(frozen=True)
class WayOut:
    """What settles one reason of a decision. `endpoint` None: it is not done in this app."""

    reason: str
    says: str
    label: str = ""
    endpoint: str | None = None
    values: Mapping[str, str] = field(default_factory=dict)
    posts: bool = False


def ways_out(decision: Decision) -> tuple[WayOut, ...]:
    """The way out of each reason of a decision, in the order of its reasons."""
    if decision.outcome not in _DOUBTED or Hint.DENIED in decision.hints:
        return ()
    reviews = load_reviews()
    return tuple(_way_out(reviews[reason], decision) for reason in decision.reasons if reason in reviews)


def _way_out(review: Review, decision: Decision) -> WayOut:
    program = {"program": str(decision.program)}
    match review.how:
        case How.RESOLUTION | How.CHOICE:
            values = {"key": decision.key, "reason": review.reason}
            label = "Settle it" if review.how is How.RESOLUTION else f"Say which {_CHOSEN[review.choice]}"
            return WayOut(review.reason, "", label, "resolutions.form", values)
        case How.LOG:
            set_up = review.reason == ReviewReason.SETUP_NOT_DOCUMENTED
            label = "Log the set-up" if set_up else "Log a conversation"
            activity = Activity.SETUP_EDUCATION if set_up else Activity.PHONE_CALL
            return WayOut(
                review.reason, review.says, label, "time_log.page", program | {"activity": str(activity)}
            )
        case How.PERIODS if review.reason == ReviewReason.EPISODE_UNCLEAR:
            return WayOut(review.reason, review.says, "Confirm the episode of care", "episode.page", program)
        case How.PERIODS:
            return WayOut(review.reason, review.says, "Check the 30-day periods", "anchor.page")
        case How.READ_AGAIN:
            return WayOut(review.reason, review.says, "Read again", "patient.read_again", posts=True)
        case How.CORRECT | How.SITE_FILE | How.NOTHING:
            return WayOut(review.reason, review.says)


_CHOSEN: Mapping[Choice | None, str] = {
    Choice.PROGRAM: "program is charged",
    Choice.LINE: "monitored system is charged",
    Choice.WINDOW: "period it is",
    Choice.MONTH: "month it is",
    Choice.DATE: "day it is dated on",
    Choice.ROLE: "role it is",
    Choice.PERSON: "person it was",
    Choice.PLACE: "place it was",
    Choice.MINUTES: "minutes the claim counts",
}


@dataclass(frozen=True)
class Minutes:
    """One of two possibilities of a code for which an assistant's minutes are not needed, in words."""

    choice: str
    says: str


def minutes_of(decision: Decision) -> tuple[Minutes, ...]:
    """Both possibilities with what each means, until somebody chose (the code is proposed with the first);
    nothing where an assistant's minutes are needed, or bring no modifier."""
    other = decision.alternative
    if other is None or decision.outcome not in (Outcome.SUGGEST, Outcome.PROVISIONAL):
        return ()
    seconds = next(
        one.found for one in decision.requirements if one.requirement is RequirementKind.MANAGEMENT_TIME
    )
    brought = words.listed(one for one in decision.modifiers if one not in other.modifiers)
    kept = words.listed(other.modifiers) if other.modifiers else "no modifier"
    return (
        Minutes(
            WITH_ASSISTANT,
            f"{words.minutes(seconds)} with the assistant's: the code bears "
            f"{words.listed(decision.modifiers)}; {brought} says that an assistant furnished a part of it.",
        ),
        Minutes(
            THERAPIST_ALONE,
            f"{words.minutes(other.seconds)} of the therapist alone: the same code and units, and it bears "
            f"{kept}; no code charges the assistant's minutes then.",
        ),
    )
