"""What the closed sets are called on a page. One place, so that page, preview and result say the same.

An enum value without words here would show its bare name; a test keeps the tables complete.
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Iterable
from datetime import date, datetime
from functools import lru_cache

from fhir_mappings.decision import Requirement
from fhir_mappings.local_time import Window
from fhir_mappings.rules.policy import Policies
from fhir_mappings.time_log import EntryProblem
from fhir_mappings.vocabulary import (
    Activity,
    ExcludedReason,
    Hint,
    Line,
    Outcome,
    Program,
    RequirementKind,
    ReviewReason,
    Unverified,
)
from smartapp.store.time_log import EntryState, Measured
from smartapp.windows import Cell, Standing

OUTCOMES: dict[Outcome, str] = {
    Outcome.SUGGEST: "Ready to charge",
    Outcome.REVIEW: "To decide",
    Outcome.PROVISIONAL: "Earned, still open",
    Outcome.SHORT: "Open",
    Outcome.OUT_OF_REACH: "Not met",
    Outcome.BLOCKED: "Covered by another code",
    Outcome.CHARGED: "Already charged",
}
"""What was decided of a code by itself; how it stands for a reader is `STANDINGS`."""

STANDINGS: dict[Standing, tuple[str, str]] = {
    Standing.READY: ("✓", "Ready to charge"),
    Standing.DECIDE: ("?", "To decide"),
    Standing.SHUT: ("‖", "Met, rules not confirmed"),
    Standing.CLOSED: ("▣", "Earned, month certified"),
    Standing.AWAITING: ("…", "Awaits approval"),
    Standing.ON_ITS_WAY: ("→", "On its way to the EHR"),
    Standing.UNANSWERED: ("!", "Check in the EHR"),
    Standing.WRITTEN: ("■", "Written to the EHR"),
    Standing.TO_ENTER: ("✎", "To be entered in billing"),
    Standing.SAFE: ("◐", "Earned, still open"),
    Standing.OPEN: ("○", "Open"),
    Standing.NEAR: ("△", "Not met as recorded"),
    Standing.LOST: ("–", "Not met"),
    Standing.EMPTY: ("–", "Nothing recorded"),
    Standing.UNREAD: ("–", "Not read"),
    Standing.COVERED: ("↳", "Covered by another code"),
    Standing.CHARGED: ("■", "Already charged"),
}
"""A shape and words for how a code stands: nothing is told by colour alone."""

CELLS: dict[Cell, str] = {
    Cell.COUNTED: "counted",
    Cell.WARD: "in a facility, not counted",
    Cell.LEFT_OUT: "left out",
    Cell.EMPTY: "no data",
    Cell.COMING: "still to come",
}

SHORT_PROGRAMS: dict[Program, str] = {
    Program.RTM: "RTM",
    Program.RPM: "RPM",
    Program.ANY: "Remote monitoring",
    Program.OTHER: "Another program",
}

PROGRAMS: dict[Program, str] = {
    Program.RTM: "Remote therapeutic monitoring",
    Program.RPM: "Remote physiologic monitoring",
    Program.ANY: "Remote monitoring",
    Program.OTHER: "Another program",
}

LINES: dict[Line, str] = {
    Line.RESPIRATORY: "respiratory",
    Line.MUSCULOSKELETAL: "musculoskeletal",
    Line.COGNITIVE_BEHAVIORAL: "cognitive behavioral therapy",
    Line.PHYSIOLOGIC: "physiologic",
    Line.OTHER: "other",
}

REQUIREMENTS: dict[RequirementKind, str] = {
    RequirementKind.MONITORING_DAYS: "Days with monitoring data",
    RequirementKind.MANAGEMENT_TIME: "Management time in the month",
    RequirementKind.LIVE_CONTACT: "Live conversation with patient or caregiver",
    RequirementKind.SET_UP: "Set-up and teaching documented",
    RequirementKind.BASE_CODE: "Base code of the same month",
}

ACTIVITIES: dict[Activity, str] = {
    Activity.PHONE_CALL: "phone call",
    Activity.VIDEO_CALL: "video call",
    Activity.VIRTUAL: "virtual contact",
    Activity.DATA_REVIEW: "review of data",
    Activity.SETUP_EDUCATION: "set-up and teaching",
    Activity.IN_PERSON: "in person",
    Activity.VISIT: "visit",
    Activity.MESSAGE: "message",
    Activity.ADMINISTRATIVE: "administrative",
}

REASONS: dict[ReviewReason, str] = {
    ReviewReason.PAYER_UNKNOWN: "The payer is not known, so its rules cannot be applied.",
    ReviewReason.PAYER_DOES_NOT_COVER: "The payer's table says that it does not cover this code.",
    ReviewReason.PAYER_CRITERIA: (
        "The payer accepts this code only under conditions, or after an authorisation, "
        "that the chart does not show."
    ),
    ReviewReason.STRADDLES_RULE_CHANGE: "The period lies on both sides of a change of the rules.",
    ReviewReason.CHARGED_OTHERWISE: (
        "A code that excludes this one is charged in the period, or reported here instead of it."
    ),
    ReviewReason.CHARGED_PERIOD_UNCLEAR: (
        "A charge may be for this one: which period or which code it stands for is not clear."
    ),
    ReviewReason.RTM_AND_RPM: "Therapeutic and physiologic monitoring are both met; only one may be charged.",
    ReviewReason.TWO_LINES: "Two monitored systems are met in one period; only one may be charged.",
    ReviewReason.NO_DEVICE_CODE: "There is no device code for what is monitored here.",
    ReviewReason.NO_DATA_IN_MONTH: "The month holds management time but no monitoring data.",
    ReviewReason.SETUP_NOT_DOCUMENTED: "The record does not show that set-up and teaching took place.",
    ReviewReason.EPISODE_UNCLEAR: ("It is not clear whether a new episode of care has begun."),
    ReviewReason.PERIODS_OVERLAP: "The period overlaps one that was charged on another grid.",
    ReviewReason.RECORD_INCOMPLETE: "Something was not read that could change this.",
    ReviewReason.HISTORY_INCOMPLETE: "Older data may exist: where the 30-day periods begin is not certain.",
    ReviewReason.ANCHOR_MOVED: "An earlier reading has turned up since the 30-day periods were fixed.",
    ReviewReason.DEVICE_UNKNOWN: "Readings come from a device this app cannot place.",
    ReviewReason.SOURCE_CONFLICT: (
        "Readings contradict themselves: a device wrote them, and the patient or staff entered them."
    ),
    ReviewReason.LINE_CONFLICT: "A reading and its device belong to different monitored systems.",
    ReviewReason.IN_FACILITY_UNCLEAR: (
        "Readings were taken during, or are filed under, an Encounter that may have been a stay in a "
        "facility: its class is not known here."
    ),
    ReviewReason.IMPLAUSIBLE_SPAN: (
        "A contact lasts implausibly long and was left out, it is recorded twice with different times, or "
        "one person has more than eight hours on one day."
    ),
    ReviewReason.IMPLAUSIBLE_VALUE: "Readings with values that no person has were left out.",
    ReviewReason.CONVERSATION_IN_PERSON: "The only conversation of the month was in person.",
    ReviewReason.CONVERSATION_UNCLEAR: "It is not clear whether a contact was a live conversation.",
    ReviewReason.CALL_ACROSS_MONTHS: "The only conversation runs across the end of the month.",
    ReviewReason.SAME_DAY_VISIT: (
        "Nobody can tell whose visit there was on a day of counted time, or on the service date."
    ),
    ReviewReason.VISIT_ON_SERVICE_DATE: "There is a visit on the service date.",
    ReviewReason.BILLING_PROFESSIONAL_UNKNOWN: "It is not clear which professional's time this is.",
    ReviewReason.TWO_PROFESSIONALS: "The time belongs to two professionals.",
    ReviewReason.STAFF_ROLE: "The role of somebody whose time counts is not recorded.",
    ReviewReason.CLINICIAN_DOUBLE_BOOKED: "A clinician was with another patient at the same time.",
    ReviewReason.UNITS_OVER_CAP: "More units are earned than may be charged.",
    ReviewReason.DEATH_DATE_UNKNOWN: "The patient has died, and the date is not recorded.",
}

ATTESTATIONS: dict[Unverified, str] = {
    Unverified.CONSENT: "The patient agreed to remote monitoring, and the agreement is documented.",
    Unverified.ORDER: "Remote monitoring was ordered for this patient.",
    Unverified.PLAN_OF_CARE: "The monitoring is part of a current plan of care.",
    Unverified.ENROLMENT: "The patient was enrolled in this program for the whole period.",
    Unverified.FDA_DEVICE: "The device is FDA-cleared, or listed as a medical device.",
    Unverified.DEVICE_SUPPLIED_BY_PRACTICE: "The device was supplied by this practice.",
    Unverified.TIME: "The recorded times are the time actually spent on this patient's monitoring.",
    Unverified.CONVERSATION: "There was a live, two-way talk with the patient or a caregiver in the month.",
    Unverified.STAFF_ROLE: "Everybody whose time is counted was qualified to give it.",
    Unverified.BILLING_PROFESSIONAL: "The performing practitioner you choose may bill this.",
    Unverified.PRIOR_CHARGES: "This period was not charged before, here or in another system.",
    Unverified.OTHER_PROGRAM: (
        "No other remote monitoring, therapeutic, physiologic or of another system, is charged for this time,"
        " and none of this time was used for another care-management program."
    ),
    Unverified.IN_FACILITY: "The patient was not in a facility on the counted days.",
    Unverified.SAME_DAY_SERVICES: (
        "None of this belongs to another service of the same day, or one with a code of its own."
    ),
    Unverified.GLOBAL_PERIOD: (
        "Whoever bills this does not receive the surgery's global payment, or the monitoring serves another "
        "condition."
    ),
    Unverified.ESTABLISHED_PATIENT: "The patient was an established patient of the practice before.",
    Unverified.INITIATING_VISIT: "The monitoring began with a visit that was reported by itself.",
    Unverified.STAFF_EMPLOYED: "Everybody of the staff whose time is counted is employed by this practice.",
    Unverified.RULES_OF_THE_YEAR: "The rules for this service date were checked.",
}

EXCLUDED: dict[ExcludedReason, str] = {
    ExcludedReason.UNREADABLE: "could not be read",
    ExcludedReason.OTHER_PATIENT: "belongs to another patient",
    ExcludedReason.AFTER_AS_OF: "dated in the future",
    ExcludedReason.AFTER_DEATH: "dated after the patient's death",
    ExcludedReason.DUPLICATE: "the same record as another one",
    ExcludedReason.DELETED: "deleted in the EHR",
    ExcludedReason.MERGED_PATIENT: "replaced by another record of the same person: open that one",
    ExcludedReason.TEST_DATA: "marked as test data",
    ExcludedReason.NO_STATUS: "has no status",
    ExcludedReason.STATUS_NOT_KNOWN: "has a status FHIR does not know",
    ExcludedReason.REGISTERED: "registered, without a result yet",
    ExcludedReason.PRELIMINARY: "preliminary",
    ExcludedReason.CANCELLED: "cancelled",
    ExcludedReason.ENTERED_IN_ERROR: "entered in error",
    ExcludedReason.UNKNOWN: "its status is unknown",
    ExcludedReason.PLANNED: "only planned",
    ExcludedReason.NOT_ACTIVE: "not active",
    ExcludedReason.ARRIVED: "not finished: arrived",
    ExcludedReason.TRIAGED: "not finished: triaged",
    ExcludedReason.IN_PROGRESS: "not finished: in progress",
    ExcludedReason.ON_LEAVE: "not finished: on leave",
    ExcludedReason.ABORTED: "a charge that was aborted",
    ExcludedReason.NOT_BILLABLE: "a charge marked as not billable",
    ExcludedReason.NO_DATE: "says no date",
    ExcludedReason.PARTIAL_DATE: "says a month or year only",
    ExcludedReason.UNREADABLE_DATE: "its date cannot be read",
    ExcludedReason.NO_DURATION: "says no beginning or end",
    ExcludedReason.ZERO_DURATION: "begins and ends at the same moment",
    ExcludedReason.BACKWARD_PERIOD: "ends before it begins",
    ExcludedReason.IMPLAUSIBLE_SPAN: "lasts implausibly long",
    ExcludedReason.CODE_NOT_CONFIGURED: "not a monitoring measurement at this site",
    ExcludedReason.NOT_A_MEASUREMENT: "no measurement",
    ExcludedReason.NO_VALUE: "has no value",
    ExcludedReason.IMPLAUSIBLE_VALUE: "has a value that no person has",
    ExcludedReason.PATIENT_REPORTED: "typed in by the patient where a device must measure",
    ExcludedReason.NO_DEVICE: "names no device",
    ExcludedReason.DEVICE_UNKNOWN: "from a device this app cannot place",
    ExcludedReason.DEVICE_OF_ANOTHER: "from a device assigned to somebody else",
    ExcludedReason.DEVICE_NOT_A_MONITOR: "through something that is no monitor",
    ExcludedReason.ENTERED_BY_STAFF: "entered by staff",
    ExcludedReason.SOURCE_CONFLICT: "from a device, and entered by the patient or by staff",
    ExcludedReason.LINE_CONFLICT: "device and coding belong to different monitored systems",
    ExcludedReason.IN_FACILITY: "taken while the patient was in a facility",
    ExcludedReason.IN_FACILITY_UNCLEAR: "may have been taken in a facility",
    ExcludedReason.BEFORE_SET_UP: "before the device was set up",
    ExcludedReason.OUTSIDE_EPISODE: "outside the episode of care",
    ExcludedReason.ACTIVITY_NOT_CONFIGURED: "not a kind of contact that counts at this site",
    ExcludedReason.NOT_MANAGEMENT: "no management work",
    ExcludedReason.PROGRAM_NOT_SHOWN: "does not show which program it belongs to",
    ExcludedReason.BILLED_ELSEWHERE: "billed under another code",
    ExcludedReason.SAME_DAY_VISIT: "on the day of a visit to the same clinician, or to one of this program",
    ExcludedReason.COVERED_BY_OTHER_TIME: "its time is counted already or used elsewhere",
    ExcludedReason.ROLE_NOT_COUNTED: "time of somebody whose time does not count",
    ExcludedReason.CHARGED_PERIOD_UNCLEAR: "a charge that does not say which period, or code, it stands for",
}

ENTRY_PROBLEMS: dict[EntryProblem, str] = {
    EntryProblem.NO_SUCH_TIME: "This time did not exist on that day: the clocks went forward over it.",
    EntryProblem.END_BEFORE_START: (
        "The end lies before the start. If it was after midnight, give the end's date too."
    ),
    EntryProblem.NO_LENGTH: "Start and end are the same moment.",
    EntryProblem.TOO_LONG: "Longer than 4 hours: log what was really spent, in several entries if need be.",
    EntryProblem.IN_THE_FUTURE: "The end lies in the future. Only what has taken place can be logged.",
    EntryProblem.CALL_WITHOUT_CONVERSATION: (
        "A call or a meeting without a live conversation (nobody answered, a voice mail) is logged as a "
        "message."
    ),
    EntryProblem.CONVERSATION_WITHOUT_CALL: (
        "A review of data or a message is no live conversation. If you talked to the patient or a "
        "caregiver, log the call as an entry of its own."
    ),
    EntryProblem.NO_PROGRAM: "Say which program the time was for.",
    EntryProblem.NO_ACTIVITY: "Say what was done.",
    EntryProblem.NOT_SAID_WHETHER_LIVE: "Say whether there was a live conversation.",
    EntryProblem.NO_PERSON: "Say whose time it was.",
}

ENTRY_STATES: dict[EntryState, tuple[str, str]] = {
    EntryState.DRAFT: ("Not signed", "Not signed: not counted."),
    EntryState.SIGNED: ("Signed", ""),
    EntryState.WRITTEN: ("Signed, in the EHR", "The EHR holds it as an Encounter."),
    EntryState.WITHDRAWN: ("Withdrawn", "Not counted. It is kept."),
}

MEASURED: dict[Measured, str] = {
    Measured.TYPED: "times typed",
    Measured.CLOCK: "times by a clock that was started and stopped by hand",
    Measured.CLOCK_CHANGED: "times by a clock, corrected by hand",
}


def attestation(statement: Unverified, window: Window) -> str:
    """A statement about one window: "in November 2026", not "this month", which would be another one."""
    told = ATTESTATIONS[statement]
    month = f"in {window.start:%B %Y}"
    return told.replace("in the month", month) if statement is Unverified.CONVERSATION else told


def plain(value: object) -> str:
    """A value without words of its own: its name, readable."""
    return str(value).replace("-", " ")


def payer(name: str | None, policies: Policies) -> str:
    """As the payer's own table calls it; one without a table by its name."""
    rule = None if name is None else policies.of(name).rule
    return rule.label if rule is not None else plain(name or "unknown")


def outcome(value: str) -> str:
    return OUTCOMES[Outcome(value)]


def reason(value: str) -> str:
    """A reason in words; a bare code is the code that stands in the way."""
    if value.isdigit():
        return f"{value} is met or charged for the same period."
    if value == Hint.ASSISTANT_NOT_NEEDED:
        return "The assistant's minutes are not needed for this code."
    return REASONS[ReviewReason(value)] if value in set(ReviewReason) else plain(value)


def rules_end(last_day: date) -> str:
    """Why what is met cannot be charged yet, whom to ask, and where it is done (D37)."""
    return (
        f"The rules were checked for service dates up to {day(last_day)}. Ask whoever runs this app to "
        "confirm them for later ones."
    )


def rules_end_soon(last_day: date) -> str:
    """What the page says from 60 days before."""
    return f"The rules are checked for dates up to {day(last_day)}."


@lru_cache(maxsize=256)
def excluded(value: str) -> str:
    return EXCLUDED.get(ExcludedReason(value), plain(value)) if value in set(ExcludedReason) else plain(value)


@lru_cache(maxsize=256)
def activity(value: str) -> str:
    return ACTIVITIES[Activity(value)] if value in set(Activity) else plain(value)


_MODIFIERS = {
    "GP": "a physical therapist bills this time.",
    "GO": "an occupational therapist bills this time.",
    "GN": "a speech-language pathologist bills this time.",
    "CQ": "a physical therapist's assistant did more than {percent} % of the time.",
    "CO": "an occupational therapist's assistant did more than {percent} % of the time.",
}


def modifier(value: str, percent: int) -> str:
    """Why a modifier is proposed; one that is not a therapist's comes from the payer's table. `percent`: the
    share of an assistant's time that needs none."""
    return _MODIFIERS.get(value, "the payer's table asks for it.").format(percent=percent)


def scope(codes: Iterable[str], window: Window | None) -> str:
    """For which codes and days a statement holds."""
    told = ", ".join(codes) or "all codes"
    days = "until it is taken back" if window is None else f"{day(window.start)} to {day(window.end)}"
    return f"{told}; {days}"


@lru_cache(maxsize=4096)
def day(value: date | str | None) -> str:
    """ "5 Jan 2026": no reader takes it for another day, wherever they learned to write dates."""
    if value is None:
        return ""
    if isinstance(value, str):
        value = date.fromisoformat(value)
    return f"{value.day} {value:%b %Y}"


def short_day(value: date, today: date) -> str:
    """ "6 Dec": the year stands only where it is not the one that a reader lives in."""
    return f"{value.day} {value:%b}" if value.year == today.year else day(value)


def window(value: Window, today: date) -> str:
    """ "November" for a calendar month, whoever's window it is, and "7 Nov to 6 Dec" for other days; years
    only where they are not this one."""
    start, end = value.start, value.end
    if start.day == 1 and end == start.replace(day=monthrange(start.year, start.month)[1]):
        return f"{start:%B}" if start.year == today.year else f"{start:%B %Y}"
    return period(value, today)


def period(value: Window, today: date) -> str:
    """A 30-day period by its days, also where they happen to be those of a month: a block of a period stands
    beside one of that month."""
    start, end = value.start, value.end
    if start.year != end.year:
        return f"{day(start)} to {day(end)}"
    return f"{start.day}{'' if start.month == end.month else f' {start:%b}'} to {short_day(end, today)}"


def clock(moment: datetime) -> str:
    """A local time of day, with seconds only where there are any."""
    return f"{moment:%H:%M:%S}" if moment.second else f"{moment:%H:%M}"


def listed(parts: Iterable[str]) -> str:
    """ "a", "a and b", "a, b and c"; "" of none."""
    *before, last = tuple(parts) or ("",)
    return f"{', '.join(before)} and {last}" if before else last


def minutes(seconds: int) -> str:
    """ "27 minutes", "19 minutes 59 seconds": whole seconds, never rounded to what would be enough."""
    whole, rest = divmod(seconds, 60)
    return (
        (number_of(whole, "minute") + f" {number_of(rest, 'second')}" * bool(rest))
        if whole or not rest
        else (number_of(rest, "second"))
    )


def number_of(number: int, unit: str) -> str:
    return f"{number} {unit}{'' if number == 1 else 's'}"


def found_of(found: int, needed: int, unit: str) -> str:
    """What there is of what is needed: "15 of 16 days"; once it is enough, "44 minutes (needs 20)"."""
    if unit == "count":
        return f"{found} of {needed}"
    if unit == "days":
        return (
            f"{found} of {needed} days" if found < needed else f"{number_of(found, 'day')} (needs {needed})"
        )
    if found >= needed:
        return f"{minutes(found)} (needs {needed // 60})"
    whole = f"{found // 60} of {needed // 60} minutes"
    return whole if found % 60 == 0 else f"{minutes(found)} of {needed // 60} minutes"


def requirement(part: Requirement) -> str:
    """What there is of a requirement, in the words that fit it."""
    yes, no = _THERE.get(part.requirement, ("", ""))
    return (yes if part.met else no) or found_of(part.found, part.needed, part.unit)


_THERE: dict[RequirementKind, tuple[str, str]] = {
    RequirementKind.LIVE_CONTACT: ("recorded", "none recorded"),
    RequirementKind.SET_UP: ("documented", "not documented"),
    RequirementKind.BASE_CODE: ("earned in the same month", "not earned in the same month"),
}


def days(start: date | None, end: date | None) -> str:
    """A run of days, either end of which may be open."""
    if start is None:
        return f"until {day(end)}" if end is not None else "all days"
    return f"from {day(start)} on" if end is None else f"{day(start)} to {day(end)}"


def amount(number: int, unit: str) -> str:
    """A number with its unit: days, minutes and seconds, or a bare count."""
    if unit == "seconds":
        return minutes(number)
    return number_of(number, "day") if unit == "days" else str(number)
