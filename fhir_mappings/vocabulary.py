"""The closed sets of this package: every value that a program decides on, and none that is free text."""

from __future__ import annotations

from enum import StrEnum

UNKNOWN_PAYER = "unknown"


class Program(StrEnum):
    """Remote therapeutic (RTM) or remote physiologic monitoring (RPM); what a coding may say of either."""

    RTM = "rtm"
    RPM = "rpm"
    ANY = "any"
    OTHER = "other"


MONITORING_PROGRAMS = (Program.RPM, Program.RTM)


class Line(StrEnum):
    """What is monitored. It decides the device code (R1.1)."""

    RESPIRATORY = "respiratory"
    MUSCULOSKELETAL = "musculoskeletal"
    COGNITIVE_BEHAVIORAL = "cognitive-behavioral"
    PHYSIOLOGIC = "physiologic"
    OTHER = "other"

    @property
    def program(self) -> Program:
        return Program.RPM if self is Line.PHYSIOLOGIC else Program.RTM


class Source(StrEnum):
    """Who a coding is written by, where the reading itself is silent."""

    DEVICE = "device"
    PATIENT_REPORTED = "patient-reported"


class Place(StrEnum):
    """Where an Encounter's class says that the patient was (D26)."""

    FACILITY = "facility"
    """Admitted, in an emergency department, under observation."""
    OUTPATIENT = "outpatient"
    ELSEWHERE = "elsewhere"
    """At home, in the field, at the other end of a line."""
    UNKNOWN = "unknown"
    """A class that neither the shipped tables nor the site know, or none at all."""


class Activity(StrEnum):
    PHONE_CALL = "phone-call"
    VIDEO_CALL = "video-call"
    VIRTUAL = "virtual"
    """Encounter class VR alone: a call or an e-mail, nobody can tell which."""
    DATA_REVIEW = "data-review"
    SETUP_EDUCATION = "setup-education"
    IN_PERSON = "in-person"
    VISIT = "visit"
    MESSAGE = "message"
    ADMINISTRATIVE = "administrative"


CALLS = frozenset({Activity.PHONE_CALL, Activity.VIDEO_CALL, Activity.VIRTUAL})
# Their time belongs to another code or to none: wherever they overlap with management time, it is out (D11).
OUTSIDE_MANAGEMENT = frozenset(
    {Activity.SETUP_EDUCATION, Activity.ADMINISTRATIVE, Activity.VISIT, Activity.IN_PERSON}
)


class Role(StrEnum):
    PHYSICIAN = "physician"
    QUALIFIED_PROFESSIONAL = "qualified-professional"
    PHYSICAL_THERAPIST = "physical-therapist"
    OCCUPATIONAL_THERAPIST = "occupational-therapist"
    SPEECH_LANGUAGE_PATHOLOGIST = "speech-language-pathologist"
    THERAPIST_ASSISTANT = "therapist-assistant"
    CLINICAL_STAFF = "clinical-staff"
    NON_CLINICAL = "non-clinical"
    UNKNOWN = "unknown"


PROFESSIONALS = frozenset({Role.PHYSICIAN, Role.QUALIFIED_PROFESSIONAL})
DISCIPLINES = {
    Role.PHYSICAL_THERAPIST: "physical",
    Role.OCCUPATIONAL_THERAPIST: "occupational",
    Role.SPEECH_LANGUAGE_PATHOLOGIST: "speech",
}
THERAPISTS = frozenset(
    {Role.PHYSICAL_THERAPIST, Role.OCCUPATIONAL_THERAPIST, Role.SPEECH_LANGUAGE_PATHOLOGIST}
)


class ExcludedReason(StrEnum):
    """Why a record was left out. Statuses keep FHIR's own word."""

    # it could not be read, or is not this patient's
    UNREADABLE = "unreadable"
    OTHER_PATIENT = "other-patient"
    AFTER_AS_OF = "after-as-of"
    AFTER_DEATH = "after-death"
    DUPLICATE = "duplicate"
    DELETED = "deleted"
    MERGED_PATIENT = "merged-patient"
    """The person's record was replaced by another, which is not here: that one must be asked."""
    TEST_DATA = "test-data"
    # its status doesn't count
    NO_STATUS = "no-status"
    STATUS_NOT_KNOWN = "status-not-known"
    REGISTERED = "registered"
    PRELIMINARY = "preliminary"
    CANCELLED = "cancelled"
    ENTERED_IN_ERROR = "entered-in-error"
    UNKNOWN = "unknown"
    PLANNED = "planned"
    ARRIVED = "arrived"
    TRIAGED = "triaged"
    IN_PROGRESS = "in-progress"
    ON_LEAVE = "onleave"
    NOT_ACTIVE = "not-active"
    ABORTED = "aborted"
    NOT_BILLABLE = "not-billable"
    # its time names no day or no span
    NO_DATE = "no-date"
    PARTIAL_DATE = "partial-date"
    UNREADABLE_DATE = "unreadable-date"
    NO_DURATION = "no-duration"
    ZERO_DURATION = "zero-duration"
    BACKWARD_PERIOD = "backward-period"
    IMPLAUSIBLE_SPAN = "implausible-span"
    # a reading that makes no monitoring day
    CODE_NOT_CONFIGURED = "code-not-configured"
    NOT_A_MEASUREMENT = "not-a-measurement"
    NO_VALUE = "no-value"
    IMPLAUSIBLE_VALUE = "implausible-value"
    PATIENT_REPORTED = "patient-reported"
    NO_DEVICE = "no-device"
    DEVICE_UNKNOWN = "device-unknown"
    DEVICE_OF_ANOTHER = "device-of-another"
    DEVICE_NOT_A_MONITOR = "device-not-a-monitor"
    ENTERED_BY_STAFF = "entered-by-staff"
    SOURCE_CONFLICT = "source-conflict"
    LINE_CONFLICT = "line-conflict"
    IN_FACILITY = "in-facility"
    IN_FACILITY_UNCLEAR = "in-facility-unclear"
    BEFORE_SET_UP = "before-set-up"
    OUTSIDE_EPISODE = "outside-episode"
    # an encounter that gives no management time
    ACTIVITY_NOT_CONFIGURED = "activity-not-configured"
    NOT_MANAGEMENT = "not-management"
    BILLED_ELSEWHERE = "billed-elsewhere"
    SAME_DAY_VISIT = "same-day-visit"
    COVERED_BY_OTHER_TIME = "covered-by-other-time"
    ROLE_NOT_COUNTED = "role-not-counted"
    PROGRAM_NOT_SHOWN = "program-not-shown"
    # a charge that belongs to no window
    CHARGED_PERIOD_UNCLEAR = "charged-period-unclear"


class Outcome(StrEnum):
    CHARGED = "charged"
    SHORT = "short"
    OUT_OF_REACH = "out-of-reach"
    BLOCKED = "blocked"
    REVIEW = "review"
    PROVISIONAL = "provisional"
    SUGGEST = "suggest"


class RequirementKind(StrEnum):
    MONITORING_DAYS = "monitoring-days"
    MANAGEMENT_TIME = "management-time"
    LIVE_CONTACT = "live-contact"
    SET_UP = "set-up"
    BASE_CODE = "base-code"


class Unit(StrEnum):
    DAYS = "days"
    SECONDS = "seconds"
    COUNT = "count"


class ReviewReason(StrEnum):
    """What a human must check before a met code may be charged."""

    PAYER_UNKNOWN = "payer-unknown"
    PAYER_DOES_NOT_COVER = "payer-does-not-cover"
    PAYER_CRITERIA = "payer-criteria"
    """The payer accepts the code under conditions (or after an authorisation) that no chart answers."""
    STRADDLES_RULE_CHANGE = "straddles-rule-change"
    CHARGED_OTHERWISE = "charged-otherwise"
    CHARGED_PERIOD_UNCLEAR = "charged-period-unclear"
    RTM_AND_RPM = "rtm-and-rpm"
    TWO_LINES = "two-lines"
    NO_DEVICE_CODE = "no-device-code"
    NO_DATA_IN_MONTH = "no-data-in-month"
    SETUP_NOT_DOCUMENTED = "setup-not-documented"
    EPISODE_UNCLEAR = "episode-unclear"
    PERIODS_OVERLAP = "periods-overlap"
    HISTORY_INCOMPLETE = "history-incomplete"
    RECORD_INCOMPLETE = "record-incomplete"
    """Something was not read that could have changed the answer (D20)."""
    ANCHOR_MOVED = "anchor-moved"
    DEVICE_UNKNOWN = "device-unknown"
    SOURCE_CONFLICT = "source-conflict"
    LINE_CONFLICT = "line-conflict"
    IN_FACILITY_UNCLEAR = "in-facility-unclear"
    IMPLAUSIBLE_SPAN = "implausible-span"
    IMPLAUSIBLE_VALUE = "implausible-value"
    CONVERSATION_IN_PERSON = "conversation-in-person"
    CONVERSATION_UNCLEAR = "conversation-unclear"
    CALL_ACROSS_MONTHS = "call-across-months"
    SAME_DAY_VISIT = "same-day-visit"
    """Nobody can tell whose visit it was on a day of counted minutes (D35)."""
    VISIT_ON_SERVICE_DATE = "visit-on-service-date"
    BILLING_PROFESSIONAL_UNKNOWN = "billing-professional-unknown"
    TWO_PROFESSIONALS = "two-professionals"
    STAFF_ROLE = "staff-role"
    CLINICIAN_DOUBLE_BOOKED = "clinician-double-booked"
    UNITS_OVER_CAP = "units-over-cap"
    DEATH_DATE_UNKNOWN = "death-date-unknown"


class Unverified(StrEnum):
    """What the record doesn't show and a clinician must attest before anything is written."""

    CONSENT = "consent"
    ORDER = "order"
    PLAN_OF_CARE = "plan-of-care"
    ENROLMENT = "enrolment"
    FDA_DEVICE = "fda-device"
    DEVICE_SUPPLIED_BY_PRACTICE = "device-supplied-by-practice"
    TIME = "time"
    CONVERSATION = "conversation"
    STAFF_ROLE = "staff-role"
    BILLING_PROFESSIONAL = "billing-professional"
    PRIOR_CHARGES = "prior-charges"
    OTHER_PROGRAM = "other-program"
    IN_FACILITY = "in-facility"
    SAME_DAY_SERVICES = "same-day-services"
    GLOBAL_PERIOD = "global-period"
    ESTABLISHED_PATIENT = "established-patient"
    INITIATING_VISIT = "initiating-visit"
    """Only proposed for 2027, as the next: asked where a site's file says from when on (D39)."""
    STAFF_EMPLOYED = "staff-employed"
    RULES_OF_THE_YEAR = "rules-of-the-year"
    """No clinician's to state: the service date lies past the last day for which the tables were checked, and
    only the site's `rules_confirmed` or a newer table settles it (D37)."""


class Hint(StrEnum):
    """What billing is told beside a decision; it changes nothing of it."""

    MODIFIER_25 = "modifier-25"
    ASSISTANT_NOT_NEEDED = "assistant-not-needed"
    DIGITAL_MENTAL_HEALTH = "digital-mental-health"
    CENTRE = "rural-or-qualified-centre"
    DENIED = "denied"
