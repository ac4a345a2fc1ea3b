"""What the closed sets are called on a page. One place, so that page, preview and result say the same.

An enum value without words here would show its bare name; a test keeps the tables complete.
"""

from __future__ import annotations

from calendar import monthrange
from collections import Counter
from collections.abc import Iterable
from datetime import date, datetime
from functools import lru_cache
from zoneinfo import ZoneInfo

from fhir_mappings.completeness import MissingWhy
from fhir_mappings.decision import Requirement
from fhir_mappings.local_time import Window
from fhir_mappings.reconciliation import ChangeKind, ChangeReason
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
from launch.errors import HttpError
from launch.limiter import PauseKind
from smartapp.configuration.handover import Method
from smartapp.ehr.reading.notices import Notice, NoticeKind
from smartapp.store.charges import Charge
from smartapp.store.claims import ChargeState
from smartapp.store.reading import Progress
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

NOTICES: dict[NoticeKind, str] = {
    NoticeKind.NOT_GRANTED: "the EHR gave this app no permission to read it",
    NoticeKind.REFUSED: "the EHR refused to give it",
    NoticeKind.BROKEN: "the EHR answered with an error of its own, three times",
    NoticeKind.SLOW: "the EHR did not answer in time",
    NoticeKind.THROTTLED: "the EHR takes no more requests at the moment",
    NoticeKind.WEB_PAGE: "a web page came instead: a sign-in or a proxy answers in the EHR's place",
    NoticeKind.NOT_ANSWERED: "the EHR could not be reached",
    NoticeKind.NOT_SEARCHED: "not asked for any more, because the EHR did not answer",
    NoticeKind.CUT_OFF: "not read to the end",
    NoticeKind.UNREADABLE: "cannot be read",
    NoticeKind.BESIDE: "not searched this way; everything that can count was searched by its code",
    NoticeKind.DAMAGED: "a part of it cannot be read; the rest counts",
    NoticeKind.MISSING: "another record points to it, but the EHR holds none",
    NoticeKind.FOREIGN: "belonged to another patient and was dropped",
    NoticeKind.OTHER_BASE: (
        "dropped, because it names this patient at another address. If that is this EHR's own, an "
        "administrator can add it to this app"
    ),
    NoticeKind.SERVER_SAYS: "the EHR remarked",
}

MISSING: dict[MissingWhy, str] = {
    MissingWhy.NOT_GRANTED: "not granted",
    MissingWhy.REFUSED: "refused by the EHR",
    MissingWhy.CUT_OFF: "not read to the end",
    MissingWhy.UNREADABLE: "records that cannot be read",
    MissingWhy.NOT_SEARCHED: "not searched, or without an answer",
    MissingWhy.FILE_NOT_READ: "in a file that was not read",
}

MISSING_TO_DO: dict[MissingWhy, str] = {
    MissingWhy.NOT_GRANTED: "An administrator must let this app read {types} (see Permissions).",
    MissingWhy.REFUSED: "The EHR's administrators must let this app search {types}.",
    MissingWhy.CUT_OFF: "Read the chart again.",
    MissingWhy.UNREADABLE: (
        "Read the chart again; if it stays so, records of {types} must be corrected in the EHR."
    ),
    MissingWhy.NOT_SEARCHED: "Read the chart again.",
    MissingWhy.FILE_NOT_READ: "Read the chart again.",
}
"""What somebody can do about it; `{types}` stands for the resource types."""

CHANGES: dict[ChangeKind, str] = {
    ChangeKind.KEEP: "As it should be",
    ChangeKind.UPDATE: "To be updated",
    ChangeKind.REPLACE: "To be replaced",
    ChangeKind.WITHDRAW: "To be withdrawn",
    ChangeKind.DISAGREES: "Does not agree",
}

CHANGE_REASONS: dict[ChangeReason, str] = {
    ChangeReason.MORE_UNITS: "The record earns more units now.",
    ChangeReason.FEWER_UNITS: "The record earns fewer units now.",
    ChangeReason.HIGHER_CODE: "The record earns a higher code of the same group now.",
    ChangeReason.LOWER_CODE: "The record earns a lower code of the same group now.",
    ChangeReason.NOT_MET: "The record does not meet this code any more.",
    ChangeReason.BASE_GONE: "The base code of the same month is neither met nor charged any more.",
    ChangeReason.EVIDENCE_GONE: "Records it rests on do not count any more; others still earn it.",
    ChangeReason.DUPLICATE: "Another suggestion written from here stands for the same.",
    ChangeReason.ALREADY_CHARGED: "Another charge of this code stands for the same time.",
    ChangeReason.EXCLUDED_BY_OTHER: "Another charge in the same time excludes this code.",
    ChangeReason.NOT_OURS: "It was not written from here, so nothing is changed from here.",
    ChangeReason.HANDED_OVER: "It was handed over: tell billing, since nothing is changed there from here.",
    ChangeReason.NOT_PLANNED: "Billing has taken it up, so nothing is changed from here.",
    ChangeReason.IN_DOUBT: "There is a doubt that a person must settle first.",
    ChangeReason.RECORD_INCOMPLETE: "Not everything could be read, so what is missing may only be unread.",
    ChangeReason.PERIOD_UNCLEAR: "Which period it stands for is not clear.",
    ChangeReason.CODE_UNCLEAR: "Which code it stands for is not clear: it names several of them, or none.",
    ChangeReason.CREDITED: "Units of this code were taken back by a credit.",
    ChangeReason.NOT_READ: "Its records lie before what was read.",
    ChangeReason.STILL_OPEN: "The period is still open.",
}

CHANGE_STATES: dict[ChargeState, str] = {
    ChargeState.PREPARED: "prepared, not sent",
    ChargeState.AWAITING: "awaits a second person's approval",
    ChargeState.SENT: "sent, not confirmed yet",
    ChargeState.TAKEN_BACK: "half done: the old charge is taken back, the new one is not in the EHR yet",
    ChargeState.CONFIRMED: "done",
    ChargeState.WITHDRAWN: "taken back since",
    ChargeState.STALE: "not done, because the chart or the charge had moved on",
    ChargeState.UNKNOWN: "sent, and the EHR gave no answer",
    ChargeState.REFUSED: "refused by the EHR",
    ChargeState.DECLINED: "not approved",
    ChargeState.HANDED_OVER: "handed over",
    ChargeState.TO_ENTER: "accepted, to be entered in billing by hand",
    ChargeState.ENTERED: "entered in billing by a person",
    ChargeState.TAKING_BACK: "that it is taken back was sent, and there was no answer",
}

METHODS: dict[Method, str] = {
    Method.CHARGE_ITEM: "a ChargeItem",
    Method.ORACLE_CREATE: "a charge by the EHR's own operation",
    Method.TASK: "a task for billing",
    Method.DOCUMENT: "a document for billing",
    Method.DFT: "a message for billing (DFT)",
    Method.WORKSHEET: "the worksheet",
}

WAYS_BACK: dict[Method, str] = {
    Method.ORACLE_CREATE: "",
    Method.TASK: "The task is cancelled in the EHR, unless billing has taken it up.",
    Method.DOCUMENT: "The document is marked as entered in error in the EHR. Where somebody entered the "
    "charge from it, they must take it out.",
    Method.DFT: "A second message takes the charge back (FT1-6 CR, under the same number).",
    Method.WORKSHEET: "It is taken off the worksheet. Nothing is sent: where somebody entered it in billing "
    "already, take it out there too.",
}
"""What taking back does, where a charge left otherwise than as a ChargeItem."""


_CHARGE_STATUSES = {
    "planned": "for billing to review",
    "billable": "ready to be billed",
    "billed": "billed",
    "not-billable": "not to be billed",
    "aborted": "given up",
    "entered-in-error": "taken back, as entered in error",
}


def charge_status(value: object) -> str:
    """What the EHR says of a charge; one that nobody knows here by its own name."""
    return _CHARGE_STATUSES.get(str(value), plain(value))


def handed_state(row: Charge) -> str:
    """How far a charge came that left otherwise than as a ChargeItem, in words."""
    told = CHANGE_STATES[row.state]
    handed = row.content.handed
    if row.state is ChargeState.ENTERED and handed is not None:
        who = handed.by_name or "somebody without a name here"
        told = f"entered in billing by {who}, {day(handed.at.date())}"
    return f"{told}. {row.problem}" if row.problem else told


FAILURES: dict[str, str] = {
    "ehr-unavailable": "The EHR did not answer.",
    "ehr-broken": "The EHR answered with an error of its own, three times. Read the chart again in a while.",
    "ehr-throttled": "The EHR takes no more requests at the moment. Read the chart again in a minute.",
    "web-page": (
        "A web page came instead of the patient's record: a sign-in or a proxy answers in the EHR's place."
    ),
    "patient-refused": "The EHR did not give the patient's own record.",
    "no-patient": "The EHR opened this app without a patient.",
    "process-lost": "The reading was interrupted several times.",
    "session-ended": "The session ended in the EHR. Open the app again from the chart.",
    "internal-error": "Something went wrong in this app while it read the chart.",
}


PAUSES: dict[PauseKind, str] = {
    PauseKind.ASKED: "The EHR asked this app to wait",
    PauseKind.BUDGET: "This EHR is asked for no more than its share a minute",
}


def pause(progress: Progress, zone: ZoneInfo) -> str:
    """What a reading waits for, and until when."""
    if progress.waits_until is None:
        return ""
    at = progress.waits_until.astimezone(zone)
    return f"{PAUSES[PauseKind(progress.waits_for)]}. It goes on by itself at {at:%H:%M:%S}."


def missing_records(notices: Iterable[Notice]) -> list[str]:
    """Records that something points to and the EHR did not give, counted by type: their names help nobody who
    reads, and stand in the details for audit."""
    found = Counter(notice.what for notice in notices if notice.kind is NoticeKind.MISSING)
    told = []
    for what, number in found.items():
        is_, it = ("is", "it") if number == 1 else ("are", "them")
        if what == "Device":
            named = _number(number, "device")
            told.append(
                f"{named} named by readings {is_} missing in the EHR; what comes from {it} may not count."
            )
        else:
            named = _number(number, "record")
            told.append(f"{named} ({what}) that another one points to {is_} missing in the EHR.")
    return told


def attestation(statement: Unverified, window: Window) -> str:
    """A statement about one window: "in November 2026", not "this month", which would be another one."""
    told = ATTESTATIONS[statement]
    month = f"in {window.start:%B %Y}"
    return told.replace("in the month", month) if statement is Unverified.CONVERSATION else told


def resource_type(name: str) -> str:
    """A resource type, or that nobody knows which."""
    return name or "Something of any type"


def plain(value: object) -> str:
    """A value without words of its own: its name, readable."""
    return str(value).replace("-", " ")


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


def excluded(value: str) -> str:
    return EXCLUDED.get(ExcludedReason(value), plain(value)) if value in set(ExcludedReason) else plain(value)


_HTTP_FAILURES = {problem.value: sentence for problem, sentence in HttpError.SENTENCES.items()}


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


def failure(value: str | None) -> str:
    """Why a reading failed: a reason of the reader's own, or of the way to the EHR."""
    known = FAILURES | _HTTP_FAILURES
    return known.get(value or "", "The chart could not be read.")


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
        (_number(whole, "minute") + f" {_number(rest, 'second')}" * bool(rest))
        if whole or not rest
        else (_number(rest, "second"))
    )


def _number(number: int, unit: str) -> str:
    return f"{number} {unit}{'' if number == 1 else 's'}"


def found_of(found: int, needed: int, unit: str) -> str:
    """What there is of what is needed: "15 of 16 days"; once it is enough, "44 minutes (needs 20)"."""
    if unit == "count":
        return f"{found} of {needed}"
    if unit == "days":
        return f"{found} of {needed} days" if found < needed else f"{_number(found, 'day')} (needs {needed})"
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
    return _number(number, "day") if unit == "days" else str(number)
