"""A second, deliberately plain implementation of the billing rules, to check the product against.

It repeats the product on purpose. It was written from the specification (the contract of `smartapp evaluate`
and the decided defaults D1 to D41) without a look at the product's code, imports nothing of
ours, and prefers what is obvious to what is fast: days are sets of dates, minutes are sets of seconds, and
"would it change the answer" is asked by answering twice, with days, calls or rules added. Where the two
disagree, one of them is wrong: the specification decides.

Where the specification is silent this follows the product's answer, so there it proves only that nothing
changed: minutes of messages count, but make no contact; what is of program any belongs to a program from the
month that shows it; a visit by an unknown role is an E/M visit; unfinished or over-long visits still take
seconds away, up to a day's length; an assistant beside a physician is a therapist's; length on a bare date
counts beside all else; a stray device charge doubts every period; 98975 is doubted where the best device
type is of line other; of device types with equally many days the one that was ever used first is told, be it
before the set-up.

So it is with `history_from`: what is there from before that day counts as ever; management codes are never
held by it; readings and minutes from before a set-up don't show that care began earlier, nor does a charge
of start-up or management since that day, but one of 99091 before it does; an EpisodeOfCare that began since
fixes the grid, whatever was charged before. Decided here, since it never over-bills: a set-up from before
that day shows no beginning, as not all that followed it was read; nor does one that a device charge
precedes.

Decided here too, where the specification leaves room:

- a file of unknown kind that nobody could read is missing of every kind; a single entry of unknown kind is a
  charge that may exist, and no more (D20 f);
- days before a documented first set-up can't count, so missing ones can't move the anchor there (D20 a, D3);
- an unmet code tells of what is missing only where that could make it met, or move its period (D20 a);
- an Encounter that can't be read but for its days may have been a stay: `in-facility` on the codes that hold
  days of it (D20 e);
- a Device that wasn't read makes `record-incomplete` beside `device-unknown` where the days would matter;
- a reading without a value is none, and so no newer version of one that has a value (D21, D28);
- a device that does not resolve is told before staff as performer is (D23);
- an Encounter never closed is one without an end that isn't finished; a finished one without an end is a
  visit of the day it began; what names a visit at no time is in a facility, what names a class nobody knows,
  within a day, counts with `in-facility` (D26);
- of two readings with one identifier and no date of the record the one measured later is the newer (D28);
- several records of one charge are one service where code and dates are the same; else each window takes the
  kind with the most units in it; a charge that was taken back fixes no grid and shows no enrolment, but opens
  its window, where `prior-charges` is told (D29);
- a device charge dated late doubts either tier of the former period, which is the last one with a day or a
  charge, whichever tier was charged (D29);
- what was not read doesn't hold a code whose tier it can't change, but where it may hold another line's days
  in the same period, or within 30 days the other program's, or the minutes of its month, `other-program` is
  asked (D1, D2, D20).

- visits, surgery and the statements of a month: an E/M charge is of its performer, else of those of its
  Encounter who may have one, else nobody can tell whose it was, and then it may have been anybody's whose
  minutes lie on its day (D35); somebody unnamed in person may take part in the monitoring (D35); codes of
  NUCC name the specialty too, where a role says no other (D35); a charge of 99091 makes nobody one of the
  program's people; a completed Procedure without an end was of one day, one without a date of any, and what
  is coded in neither CPT nor SNOMED CT may be surgery (D36); where there are no minutes, or no talk, nothing
  replaces the statement about them (D39). `perhaps_unverified` holds what the rules allow and don't ask for:
  same-day services where the month's visits lie beside no minutes, surgery where an entry of unknown kind
  was not read, the device where no day counts;
- payers: where the payer's table doesn't reach back, nothing has changed (D34, D40); a Condition without a
  clinical status, with an end, or of after the window, is none that is active (D40);
- of two programs the one that somebody chose is decided and the other waits, whichever shows enrolment (D38).

Decided after it was written, and not in the rules' own text: an EpisodeOfCare that is over and holds nothing
of a program is about something else (`_pass_over_other_care`).

What it leaves out: several patients in one run, statements that were attested, resolutions that choose
anything but a program or a line (D38), enrolments that were confirmed, references;
what continuous glucose monitors are (D41), what a shipped table says of payers but that Medicare covers, and
UnitedHealthcare meanwhile, and of the unverified words all that no rule of the chart decides.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from functools import cache
from itertools import pairwise
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlsplit
from zoneinfo import ZoneInfo

Resource = Mapping[str, Any]
Coding = tuple[str, str]
Seconds = set[int]
DAY = timedelta(days=1)
PERIOD_DAYS = 30
A_DAY = 24 * 60 * 60

# -- the rules in force (BILLING_RULES 1.1) ----------------------------------------------------------

NEW_RULES = date(2026, 1, 1)
COVERS_TO = date(2026, 12, 31)
CONFIRMED_AT_MOST_TO = date(2027, 12, 31)  # D37: twelve months past the table's end
IN_FORCE_FROM = {
    **dict.fromkeys(("98975", "98976", "98977", "98980", "98981"), date(2022, 1, 1)),
    "98978": date(2023, 1, 1),
    **dict.fromkeys(("98979", "98984", "98985", "98986", "99445", "99470"), NEW_RULES),
    **dict.fromkeys(("99453", "99454", "99457"), date(2019, 1, 1)),
    "99458": date(2020, 1, 1),
    "99091": date(2018, 1, 1),
}
#: line -> (2 to 15 days, 16 to 30 days)
DEVICE_CODES = {
    "respiratory": ("98984", "98976"),
    "musculoskeletal": ("98985", "98977"),
    "cognitive-behavioral": ("98986", "98978"),
    "physiologic": ("99445", "99454"),
}
LINE_OF_CODE = {code: line for line, codes in DEVICE_CODES.items() for code in codes}
LINES = {
    "rtm": ("respiratory", "musculoskeletal", "cognitive-behavioral", "other"),
    "rpm": ("physiologic",),
}
RTM_LINES = LINES["rtm"]
START_UP = {"rtm": "98975", "rpm": "99453"}
#: program -> (first 10 minutes, first 20 minutes, each further 20 minutes)
MANAGEMENT = {"rtm": ("98979", "98980", "98981"), "rpm": ("99470", "99457", "99458")}
UNITS_CAP = 3
SHORT_DAYS, LONG_DAYS = 2, 16
TEN, TWENTY = 10 * 60, 20 * 60
IMPLAUSIBLE = 4 * 60 * 60
VISIT_SHORTER_THAN = 18 * 60 * 60
EMPTY_DAYS = 90
SURGERY = {str(number) for number in range(10021, 69991)}  # CPT
GLOBAL_DAYS = 90
#: D41: charges that say more closely what was monitored.
MORE_SPECIFIC = {"95250", "95251", "99473", "99474"}

# -- codings that need no declaration by a site -------------------------------------------------------

LOINC = "http://loinc.org"
NUCC = "http://nucc.org/provider-taxonomy"
SNOMED = "http://snomed.info/sct"
MDC = "urn:iso:std:iso:11073:10101"
CPT = "http://www.ama-assn.org/go/cpt"
HCPCS = "http://www.cms.gov/Medicare/Coding/HCPCSReleaseCodeSets"
ACT = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
ICD_10 = "http://hl7.org/fhir/sid/icd-10-cm"
REASON = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
DEGREE = "http://terminology.hl7.org/CodeSystem/v2-0360"
ABSENT = "http://terminology.hl7.org/CodeSystem/data-absent-reason"
#: D32: other addresses of the same systems, as told apart after https, letter case and a last slash.
SAME_SYSTEM = {
    "urn:oid:2.16.840.1.113883.6.1": LOINC,
    "urn:oid:2.16.840.1.113883.6.96": SNOMED,
    "urn:oid:2.16.840.1.113883.6.24": MDC,
    "urn:std:iso:11073:10101": MDC,
    "urn:oid:2.16.840.1.113883.6.12": CPT,
    "urn:oid:2.16.840.1.113883.6.101": NUCC,
    "urn:oid:2.16.840.1.113883.6.90": ICD_10,
    "urn:oid:2.16.840.1.113883.5.4": ACT,
    "http://hl7.org/fhir/v3/actcode": ACT,
    "urn:oid:2.16.840.1.113883.5.8": REASON,
    "http://hl7.org/fhir/v3/actreason": REASON,
}
SHIPPED_LINES = {
    (LOINC, "85354-9"): "physiologic",
    (LOINC, "8480-6"): "physiologic",
    (LOINC, "29463-7"): "physiologic",
    (LOINC, "72514-3"): "musculoskeletal",
    (LOINC, "44261-6"): "cognitive-behavioral",
}
NOT_MEASUREMENTS = {(MDC, "67996")}
#: D21: components that describe how something was measured.
CIRCUMSTANCES = {(LOINC, "8358-4"), (LOINC, "8361-8"), (LOINC, "41904-4"), (LOINC, "8357-6")}
SHIPPED_MONITORS = {(MDC, "528391"): "physiologic", (MDC, "528399"): "physiologic"}
PHONE_APP = (SNOMED, "706689003")  # an app of any RTM line, no monitor of a physiologic one
NO_MONITORS = {(MDC, "531981"), (SNOMED, "228869008")}  # a gateway, a wheelchair
MANUAL_METHODS = {(SNOMED, "1156040003")}
MANUAL_EXTENSIONS = [("https://bdh.stanford.edu/fhir/defs/metadata/HKWasUserEntered", True)]
REPLACES = "http://hl7.org/fhir/StructureDefinition/observation-replaces"
SETTING = "http://hl7.org/fhir/us/vitals/StructureDefinition/MeasurementSettingExt"
OFFICE_SETTINGS = [(SETTING, (SNOMED, "257585005"))]
ABSENT_CODINGS = {(SNOMED, "262008008")}
ABSENT_WORDS = {"not performed", "not taken", "unknown", "refused", "n/a", "na", "--", "-", "no reading"}
#: D22: (coding, unit) -> lowest and highest believable; units by their UCUM code.
BELIEVABLE = {
    ((LOINC, "8480-6"), "mm[Hg]"): (40, 300),
    ((LOINC, "8462-4"), "mm[Hg]"): (20, 200),
    ((LOINC, "8867-4"), "/min"): (20, 300),
    ((LOINC, "59408-5"), "%"): (30, 100),
    ((LOINC, "2708-6"), "%"): (30, 100),
    ((LOINC, "29463-7"), "kg"): (0.5, 500),
    ((LOINC, "29463-7"), "[lb_av]"): (1, 1100),
    ((LOINC, "8310-5"), "Cel"): (30, 45),
    ((LOINC, "8310-5"), "[degF]"): (86, 113),
    ((LOINC, "9279-1"), "/min"): (3, 80),
}
NEVER_ZERO = {coding for coding, unit in BELIEVABLE} - {(LOINC, "8310-5")}
SHIPPED_ROLES = {
    (NUCC, "207Q00000X"): "physician",
    (NUCC, "363L00000X"): "qualified-professional",
    (NUCC, "225100000X"): "physical-therapist",
    (NUCC, "225X00000X"): "occupational-therapist",
    (NUCC, "235Z00000X"): "speech-language-pathologist",
    (NUCC, "225200000X"): "therapist-assistant",
    (NUCC, "224Z00000X"): "therapist-assistant",
    (NUCC, "163W00000X"): "clinical-staff",
    (DEGREE, "MD"): "physician",
}
#: Categories of Consents that are about something else than care (section 5).
OTHER_CONSENTS = {"acd", "dnr", "hcd", "polst", "research", "rsdid", "rsreid", "npp", "INFA", "IDSCL"}
#: HCPCS holds CPT's numbers (D32); a charge may leave the system out (D29).
NUMBERED = (CPT, HCPCS, "")
E_AND_M = {f"9920{n}" for n in range(2, 6)} | {f"9921{n}" for n in range(1, 6)}
#: D26: what a class means for the place; the words are those of older versions.
INPATIENT = {"IMP", "ACUTE", "NONAC", "SS", "EMER", "OBSENC"}
AMBULATORY = {"AMB", "PRENC"}
OTHER_CLASSES = {"VR", "HH", "FLD"}
OLDER_CLASS = "http://hl7.org/fhir/encounter-class"
OLDER_WORDS = {
    "inpatient": "inpatient",
    "emergency": "inpatient",
    "outpatient": "ambulatory",
    "ambulatory": "ambulatory",
    "daytime": "ambulatory",
    "home": "elsewhere",
    "field": "elsewhere",
    "virtual": "elsewhere",
}
PROFESSIONALS = {"physician", "qualified-professional"}
THERAPISTS = {"physical-therapist", "occupational-therapist", "speech-language-pathologist"}
#: modifier of the plan of care, and of an assistant's part in it
DISCIPLINES = {
    "physical-therapist": ("GP", "CQ"),
    "occupational-therapist": ("GO", "CO"),
    "speech-language-pathologist": ("GN", ""),
}
ASSISTANTS = {"therapist-assistant"}
AUXILIARY = {"clinical-staff"}
UNKNOWN_ROLE = {"unknown"}
NO_STAFF = ("RelatedPerson/", "Patient/", "Device/")
TALKS = {"phone-call", "video-call"}
MANAGES = TALKS | {"data-review", "message"}
TAKES_TIME_AWAY = {"setup-education", "administrative", "visit", "in-person"}
HAPPENS_ANYWHERE = MANAGES | {"administrative"}
COUNTED_STATUS = {"final", "amended", "corrected"}
NO_ENCOUNTER = {"planned", "cancelled", "entered-in-error"}
NO_CHARGE = {"entered-in-error", "aborted", "not-billable"}
NO_CLAIM = {"draft", "cancelled", "entered-in-error"}
ACTIVE_CONDITION = {"active", "recurrence", "relapse"}
NO_CONDITION = {"refuted", "entered-in-error", "unconfirmed", "provisional", "differential"}
NO_EPISODE = {"planned", "waitlist", "cancelled", "entered-in-error"}
OF_A_PATIENT = ("Observation", "Encounter", "ChargeItem", "Claim", "ExplanationOfBenefit", "EpisodeOfCare")
OF_A_PATIENT += ("Consent", "ServiceRequest", "Procedure", "Condition")


# -- what the chart says ----------------------------------------------------------


@dataclass(frozen=True)
class Missing:
    """D20: something of one kind ("": of any) that may exist and wasn't read, for these days or for any.

    `entries`: that many single records; 0, nobody knows how many.
    """

    type: str
    why: str
    start: date | None = None
    end: date | None = None
    entries: int = 0

    def touches(self, first: date, last: date) -> bool:
        return (self.start is None or self.start <= last) and (self.end is None or first <= self.end)

    def days(self, first: date, last: date) -> set[date]:
        """Which days of these it may speak of."""
        return {day for day in _days(first, last) if self.touches(day, day)}


@dataclass(frozen=True)
class Moment:
    """A FHIR date or dateTime: the local day it counts for, and the instant where it has one."""

    day: date
    instant: int | None


@dataclass(frozen=True)
class Reading:
    """One day of an Observation that counts, or would but for a doubt about where it comes from."""

    ref: str
    day: date
    instant: int
    line: str
    device_type: str
    doubt: str | None
    unverified: frozenset[str]
    unresolved: bool = False  # its device may be among what wasn't read
    device_facts: frozenset[str] = frozenset()  # D39: what is known of it, so that nobody is asked


@dataclass(frozen=True)
class Part:
    """The time of one participant of an Encounter."""

    person: str
    role: str
    span: range
    bare: bool  # some time of a day: only the day and the length are known


@dataclass(frozen=True)
class Work:
    """An Encounter that means something to monitoring. Only a finished one counts; any takes time away.

    `endless`: longer than a day or never closed (D26). `without_staff`: it lists people, none of the staff.
    """

    ref: str
    activity: str
    program: str
    clear: bool
    parts: tuple[Part, ...]
    span: range
    finished: bool
    billed_elsewhere: bool
    endless: bool = False
    without_staff: bool = False

    @property
    def counts(self) -> bool:
        """Finished, management, and not billed elsewhere."""
        if self.program == "other" or (self.activity == "message" and self.program == "any"):
            return False
        return self.finished and self.activity in MANAGES and not self.billed_elsewhere


@dataclass(frozen=True)
class Place:
    """Where an Encounter had the patient (D26): "inpatient", "ambulatory" or "unknown"; from when to when.

    `start` and `end` (exclusive; None: nobody knows) are instants, of bare dates those of whole local days.
    """

    ref: str
    kind: str
    start: int | None
    end: int | None
    bare: bool  # one of them is a date only
    finished: bool


@dataclass(frozen=True)
class Charge:
    """A charge the EHR holds: its first and last local day, and on which kind of paper it stands."""

    ref: str
    code: str
    first: date
    last: date
    is_period: bool
    quantity: int
    kind: str = "ChargeItem"


@dataclass(frozen=True)
class Unclear:
    """D29: a charge that may be one of this code: it names several, or can't be read. None: of any day."""

    ref: str
    code: str
    first: date | None
    last: date | None

    def touches(self, window: Window) -> bool:
        if self.first is None or self.last is None:
            return True
        return self.first <= window.end and window.start <= self.last


@dataclass(frozen=True)
class Episode:
    """From, and to (None: not ended). `unclear`: a later EpisodeOfCare without a set-up."""

    start: date | None
    end: date | None
    unclear: bool = False

    def holds(self, day: date) -> bool:
        return (self.start is None or self.start <= day) and (self.end is None or day <= self.end)


@dataclass(frozen=True)
class Window:
    """A 30-day period or a calendar month; `closes` is its service date."""

    start: date
    end: date
    closes: date

    def holds(self, day: date) -> bool:
        return self.start <= day <= self.closes

    def shares_a_day(self, other: Window) -> bool:
        """D1, D4: with its nominal end."""
        return self.start <= other.end and other.start <= self.end


@dataclass
class Decision:
    """One answer in the making."""

    code: str
    program: str
    line: str | None
    window: Window
    found: dict[str, tuple[int, int, list[str]]]  # requirement -> found, needed, evidence
    unmet: bool
    reachable: bool
    open: bool
    quantity: int = 1
    charges: list[Charge] = field(default_factory=list)
    credits: list[Charge] = field(default_factory=list)
    blocked_by: str | None = None
    doubts: set[str] = field(default_factory=set)  # make a met code `review`
    remarks: set[str] = field(default_factory=set)  # reasons on an unmet code
    unverified: set[str] = field(default_factory=set)
    settled: set[str] = field(default_factory=set)  # D38: reasons that somebody resolved
    perhaps: set[str] = field(default_factory=set)  # may be unverified too: the rules leave room
    modifiers: list[str] = field(default_factory=list)
    forecast: dict[str, Any] | None = None
    service_date: date | None = None

    def __post_init__(self) -> None:
        """D29: what was taken back altogether charges nothing, but it was charged once."""
        if self.credits and _units([*self.charges, *self.credits]) <= 0:
            self.charges = []
            self.unverified.add("prior-charges")

    @property
    def met_or_charged(self) -> bool:
        """D1, D2, and the contract: counts beside others."""
        return bool(self.charges) or not self.unmet


@dataclass(frozen=True)
class Declared:
    """What a site's file says, and what needs no saying."""

    lines: Mapping[Coding, tuple[str, str | None]]
    without_value: Collection[Coding]
    devices: list[Mapping[str, Any]]
    activities: Mapping[Coding, tuple[str, str]]
    roles: Mapping[Coding, str]
    facility_classes: Collection[Coding]
    outpatient_classes: Collection[Coding]
    manual_methods: Collection[Coding]
    manual_categories: Collection[Coding]
    manual_extensions: list[tuple[str, Any]]
    office_methods: Collection[Coding]
    office_categories: Collection[Coding]
    office_extensions: list[tuple[str, Coding]]
    absent: Collection[Coding]
    senders: Collection[str]
    device_facts: list[Mapping[str, Any]]
    minutes_in_app: bool
    confirmed: list[Mapping[str, Any]]
    payer_rows: list[Mapping[str, Any]] | None  # of a payer's own table; None: no such table


@dataclass
class Facts:
    """Everything read from one patient's resources."""

    zone: ZoneInfo
    payer: str
    as_of: date
    history_from: date | None
    site: Declared
    resources: dict[str, Resource]
    addresses: dict[str, str]  # of the entries of Bundles
    patient: str = ""
    same_patient: set[str] = field(default_factory=set)  # D30: every Patient that is this person
    replaced_by_nobody: bool = False  # D30: the surviving record isn't in the input
    linked: bool = False  # D30: another record of the same person may exist elsewhere
    missing: list[Missing] = field(default_factory=list)
    excluded: dict[str, str] = field(default_factory=dict)
    older: list[str] = field(default_factory=list)  # D27: once for each version that isn't the newest
    readings: list[Reading] = field(default_factory=list)
    first_used: list[tuple[str, str]] = field(default_factory=list)  # lines and device types, in order
    works: list[Work] = field(default_factory=list)
    implausible: list[Work] = field(default_factory=list)
    # D31: what counts -> the longer one; None where that is of after death
    longer_twins: dict[str, Work | None] = field(default_factory=dict)
    after_death: list[Work] = field(default_factory=list)
    places: dict[str, Place] = field(default_factory=dict)
    charges: list[Charge] = field(default_factory=list)
    credits: list[Charge] = field(default_factory=list)
    unclear_charges: list[Unclear] = field(default_factory=list)
    specific_charges: list[tuple[date, date]] = field(default_factory=list)
    care: list[tuple[date, date | None]] = field(default_factory=list)
    care_of: dict[str, list[tuple[date, date | None]]] = field(default_factory=dict)  # of each program
    care_unread: dict[str, date] = field(default_factory=dict)  # the end of what may have been of a program
    enrolled: set[str] = field(default_factory=set)
    died: Moment | None = None
    begun: dict[str, date | None] = field(default_factory=dict)
    reported_visits: set[str] = field(default_factory=set)  # charged as an E/M visit
    charged_visits: set[tuple[str, date]] = field(default_factory=set)  # by whom ("": nobody can tell), when
    manage_care: set[str] = field(default_factory=set)  # D35: careManager of an EpisodeOfCare
    ordered: set[tuple[str, str]] = field(default_factory=set)  # D35: which program, by whom
    performed: set[tuple[str, str]] = field(default_factory=set)  # D35: charges of which program, by whom
    surgery: list[tuple[date | None, date | None]] = field(default_factory=list)  # D36
    conditions: list[tuple[Coding, date]] = field(default_factory=list)  # D40: active ones, since when

    @property
    def held(self) -> list[Charge]:
        """Every charge that counts for something, also those that were taken back."""
        return [*self.charges, *self.credits]

    def lacks(self, kind: str, first: date | None = None, last: date | None = None) -> list[Missing]:
        """D20: what wasn't read of a kind, for some of these days."""
        return [
            one
            for one in self.missing
            if (one.type == kind or (one.type == "" and not one.entries))
            and (first is None or last is None or one.touches(first, last))
        ]


def answer(
    documents: Iterable[Any],
    site: Mapping[str, Any],
    as_of: str,
    history_from: str | None = None,
    missing: Iterable[Mapping[str, Any]] = (),
    resolutions: Iterable[Mapping[str, Any]] = (),
    **options: Any,
) -> dict[str, Any]:
    """The contract's JSON object of one patient, from resources and Bundles in any order.

    `missing`: what else was not read, each with `type`, `why`, and `start`, `end` and `entries` where known.
    `resolutions`: entries of the attestations' file that settle a reason for review (D38).
    Options: `timezone` and `payer` win over the site's. `payer_tables` holds tables, not their files' names.
    """
    read_from = date.fromisoformat(history_from) if history_from else None
    facts = _read(list(documents), site, date.fromisoformat(as_of), read_from, missing, options)
    decisions = [] if _is_test_data(facts.resources[facts.patient]) else _decisions(facts)
    _settle(facts, decisions, list(resolutions))
    written = [_write(facts, d) for d in decisions]
    written.sort(key=lambda d: (d["period"]["start"], d["period"]["end"], d["code"]))
    return {
        "patient": facts.patient,
        "as_of": as_of,
        "timezone": facts.zone.key,
        "payer": facts.payer,
        "decisions": written,
        "excluded": [
            {"resource": ref, "reason": reason}
            for ref, reason in sorted([*facts.excluded.items(), *((ref, "duplicate") for ref in facts.older)])
        ],
        "completeness": {
            "whole": not facts.missing,
            "missing": [{"type": one.type or None, "why": one.why} for one in facts.missing],
        },
    }


def _decisions(facts: Facts) -> list[Decision]:
    """Both programs, then what holds between them."""
    decisions = [d for program in ("rtm", "rpm") for d in _decide(facts, program)]
    decisions += _charged_99091(facts, decisions)
    _hold_two_lines(decisions)
    _hold_overlapping_periods(decisions)
    _hold_both_programs(facts, decisions)
    for d in decisions:
        if d.met_or_charged and (_other_program_unread(facts, d) or _other_line_unread(facts, d)):
            d.unverified.add("other-program")
    _hold_by_unclear_charges(facts, decisions)
    return decisions


# -- time ----------------------------------------------------------


def _moment(text: Any, zone: ZoneInfo) -> Moment | None:
    """D5: the date as written, where the offset is not zero; UTC and no offset are the site's zone.

    D33: a second of 60 is the one before. What is no date is None.
    """
    if not isinstance(text, str) or len(text) < 10:
        return None
    try:
        if len(text) == 10:
            return Moment(date.fromisoformat(text), None)
        at = datetime.fromisoformat(re.sub(r"(T\d\d:\d\d):60", r"\1:59", text.upper()))
    except ValueError:
        return None
    if at.tzinfo is None:
        at = at.replace(tzinfo=zone)
    elif at.utcoffset() == timedelta(0):
        at = at.astimezone(zone)
    return Moment(at.date(), math.floor(at.timestamp()))


def _instant(text: Any, zone: ZoneInfo) -> float | None:
    """D27: when something was written, with its fraction of a second; a bare date is its first instant."""
    m = _moment(text, zone)
    if m is None:
        return None
    if m.instant is None:
        return _midnight(m.day, zone)
    fraction = re.search(r"\.(\d+)", text)
    return m.instant + (float(f"0.{fraction[1]}") if fraction else 0)


def _midnight(day: date, zone: ZoneInfo) -> int:
    """The instant at which a local day begins."""
    return int(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp())


def _seconds_of(first: date, last: date, zone: ZoneInfo) -> range:
    """Every second from the first to the last local day, both included."""
    return range(_midnight(first, zone), _midnight(last + DAY, zone))


def _local_day(instant: int, zone: ZoneInfo) -> date:
    """The local day of an instant."""
    return datetime.fromtimestamp(instant, zone).date()


def _overlap(one: range, other: range) -> range:
    """The seconds both have."""
    return range(max(one.start, other.start), max(max(one.start, other.start), min(one.stop, other.stop)))


def _days(first: date, last: date) -> Iterator[date]:
    """Every day from first to last."""
    while first <= last:
        yield first
        first += DAY


def _month(day: date) -> Window:
    """The calendar month of a day."""
    start = day.replace(day=1)
    end = (start + timedelta(days=31)).replace(day=1) - DAY
    return Window(start, end, end)


# -- codings ----------------------------------------------------------


@cache
def _system(address: Any) -> str:
    """D32: one system under several addresses is one, whatever edition or version it names."""
    told = str(address or "")
    key = told.split("|")[0].replace("https://", "http://", 1).rstrip("/").lower()
    key = re.sub(r"^(http://snomed\.info/sct)/\d+(/version/\d+)?$", r"\1", key)
    for same in (LOINC, SNOMED, MDC, CPT, HCPCS, NUCC, ACT, REASON, ICD_10):
        if key == same.lower():
            return same
    return SAME_SYSTEM.get(key) or SAME_SYSTEM.get(f"urn:oid:{key}") or told


def _coding(c: Mapping[str, Any]) -> Coding:
    """(system, code)."""
    return _system(c.get("system")), str(c.get("code") or "")


def _codings(concept: Any) -> list[Coding]:
    """(system, code) of each coding of a CodeableConcept."""
    return [_coding(c) for c in (concept or {}).get("coding") or []]


def _all_codings(concepts: Any) -> list[Coding]:
    """Of several CodeableConcepts, or of one."""
    several = concepts if isinstance(concepts, list) else [concepts]
    return [coding for concept in several for coding in _codings(concept)]


def _extensions(r: Any) -> Iterator[Mapping[str, Any]]:
    """Every extension of a resource, wherever it stands, the nested ones too."""
    if isinstance(r, dict):
        for key, value in r.items():
            if key in ("extension", "modifierExtension"):
                yield from (e for e in value or [] if isinstance(e, dict))
            if isinstance(value, (dict, list)):
                yield from _extensions(value)
    elif isinstance(r, list):
        for value in r:
            yield from _extensions(value)


# -- the site's file ----------------------------------------------------------


def _declared(site: Mapping[str, Any], payer: str) -> Declared:
    """The contract's site.yaml."""
    told: Mapping[str, Any] = site.get("terminology") or {}

    def entries(key: str) -> list[Mapping[str, Any]]:
        return told.get(key) or []

    def of(key: str, part: str) -> set[Coding]:
        return {_coding(e[part]) for e in entries(key) if part in e}

    tables = [table for table in site.get("payer_tables") or [] if table.get("payer") == payer]
    return Declared(
        lines={_coding(e): (e["line"], e.get("source")) for e in entries("observations")},
        without_value={_coding(e) for e in entries("observations") if e.get("counts_without_value")},
        devices=entries("devices"),
        activities={_coding(e): (e["activity"], e["program"]) for e in entries("encounters")},
        roles={**SHIPPED_ROLES, **{_coding(e): e["role"] for e in entries("staff")}},
        facility_classes={_coding(e) for e in entries("facility_classes")},
        outpatient_classes={_coding(e) for e in entries("outpatient_classes")},
        manual_methods=MANUAL_METHODS | of("manual_entry", "method"),
        manual_categories=of("manual_entry", "category"),
        manual_extensions=MANUAL_EXTENSIONS
        + [(e["extension"], e["value"]) for e in entries("manual_entry") if "extension" in e],
        office_methods=of("facility_settings", "method"),
        office_categories=of("facility_settings", "category"),
        office_extensions=OFFICE_SETTINGS
        + [(e["extension"], _coding(e["coding"])) for e in entries("facility_settings") if "extension" in e],
        absent=ABSENT_CODINGS | {_coding(e) for e in entries("absent_values")},
        senders={e["reference"] for e in entries("senders")},
        device_facts=site.get("device_facts") or [],
        minutes_in_app=site.get("minutes_kept_in") == "app",
        confirmed=site.get("rules_confirmed") or [],
        payer_rows=tables[0].get("coverage") or [] if tables else None,
    )


# -- what was handed over: Bundles, versions, deletions ---------------------------------------------------


@dataclass(frozen=True)
class Deletion:
    """D27: what was deleted, and when, where that is known."""

    ref: str
    at: float | None


@dataclass
class Delivery:
    """What the documents hold, one after the other."""

    zone: ZoneInfo
    versions: dict[str, list[Resource]] = field(default_factory=dict)
    deletions: list[Deletion] = field(default_factory=list)
    addresses: dict[str, str] = field(default_factory=dict)  # fullUrl -> Type/id
    missing: list[Missing] = field(default_factory=list)
    broken: list[tuple[str, Any]] = field(default_factory=list)  # of which type, and what stood there
    pages: set[str] = field(default_factory=set)
    nexts: list[tuple[str, Missing]] = field(default_factory=list)


def _deliver(documents: list[Any], zone: ZoneInfo) -> Delivery:
    """D20 (h): a page that another page names and nobody handed over is cut off."""
    found = Delivery(zone)
    for document in documents:
        _open(found, document, Missing("", "unreadable", entries=1))
    found.missing += [cut_off for url, cut_off in found.nexts if url not in found.pages]
    return found


def _open(found: Delivery, document: Any, search: Missing) -> None:
    """A resource, or a Bundle with more of them; `search`: of which kind and days it should be (D20 d)."""
    kind = document.get("resourceType") if isinstance(document, Mapping) else None
    if not isinstance(kind, str):
        found.broken.append((search.type, document))
    elif kind == "Bundle":
        _open_bundle(found, document)
    elif kind == "OperationOutcome":
        if any(issue.get("severity") in ("error", "fatal") for issue in document.get("issue", [])):
            found.missing.append(replace(search, why="cut-off", entries=1 if search.type == "" else 0))
    elif kind in (*OF_A_PATIENT, "Device", "Patient") and _is_broken(document):
        found.broken.append((kind, document))
    else:
        name = f"{kind}/{document.get('id') or len(found.versions)}"
        found.versions.setdefault(name, []).append(document)


def _open_bundle(found: Delivery, bundle: Resource) -> None:
    """A page of a search, a history, a transaction, an answer to a batch, or just a heap."""
    links = {link.get("relation"): link.get("url", "") for link in bundle.get("link") or []}
    entries = [entry for entry in bundle.get("entry") or [] if isinstance(entry, Mapping)]
    search = _search_of(found, links.get("self", ""), entries)
    found.pages.add(links.get("self", ""))
    if links.get("next"):
        found.nexts.append((links["next"], replace(search, why="cut-off", entries=0)))
    own = _instant((bundle.get("meta") or {}).get("lastUpdated"), found.zone)
    own = own if own is not None else _instant(bundle.get("timestamp"), found.zone)
    for entry in entries:
        response = entry.get("response") or {}
        if str((entry.get("request") or {}).get("method")).upper() == "DELETE":
            at = _instant(response.get("lastModified"), found.zone)
            found.deletions.append(Deletion(_local(entry["request"]["url"]), own if at is None else at))
        elif "resource" in entry:
            resource = entry["resource"]
            if isinstance(resource, Mapping) and "fullUrl" in entry:
                found.addresses[entry["fullUrl"]] = f"{resource.get('resourceType')}/{resource.get('id')}"
            _open(found, resource, replace(search, entries=1))
        elif response and not str(response.get("status", "2")).startswith("2"):
            found.missing.append(Missing("", "refused", entries=1))


def _search_of(found: Delivery, address: str, entries: list[Mapping[str, Any]]) -> Missing:
    """D20 (d): the kind and the days of a search, from its own address, else from what its page holds."""
    parts = urlsplit(address)
    name = parts.path.rstrip("/").rsplit("/", 1)[-1]
    if not name[:1].isupper():
        resources = [e["resource"] for e in entries if isinstance(e.get("resource"), Mapping)]
        kinds = {str(r.get("resourceType")) for r in resources} - {"OperationOutcome", "None"}
        name = kinds.pop() if len(kinds) == 1 else ""
    start: date | None = None
    end: date | None = None
    for key, value in parse_qsl(parts.query):
        match = re.fullmatch(r"(eq|ge|gt|le|lt)?(\d{4}-\d\d-\d\d.*)", value)
        m = _moment(match[2], found.zone) if match else None
        if key != "date" or match is None or m is None:
            continue
        if match[1] in (None, "eq", "ge", "gt"):
            start = m.day
        if match[1] in (None, "eq", "le"):
            end = m.day
        if match[1] == "lt":
            end = m.day - DAY if m.instant is None else m.day
    return Missing(name, "unreadable", start, end)


#: What an element must be, where it stands (null is as good as absent).
SHAPES: dict[str, type] = {
    **dict.fromkeys(("id", "status", "effectiveDateTime", "effectiveInstant", "occurrenceDateTime"), str),
    **dict.fromkeys(("meta", "subject", "patient", "code", "device", "encounter", "method", "period"), dict),
    **dict.fromkeys(("valueQuantity", "valueCodeableConcept", "valueSampledData", "effectivePeriod"), dict),
    **dict.fromkeys(("valueRange", "valueRatio", "valuePeriod", "effectiveTiming", "occurrencePeriod"), dict),
    **dict.fromkeys(("dataAbsentReason", "length"), dict),
    **dict.fromkeys(("identifier", "performer", "component", "participant", "udiCarrier", "link"), list),
}


def _is_broken(r: Resource) -> bool:
    """Has an element the wrong shape, one that is read here?"""
    if any(not isinstance(r[k], shape) for k, shape in SHAPES.items() if r.get(k) is not None):
        return True
    coding = (r.get("code") or {}).get("coding")
    if not isinstance(coding, (list, type(None))) or not all(isinstance(c, Mapping) for c in coding or []):
        return True
    components = r.get("component") or []
    return any(not isinstance(c, Mapping) or _is_broken(c) for c in components)


def _newest(versions: list[Resource], zone: ZoneInfo) -> Resource:
    """D27: by versionId, else by lastUpdated; where neither tells, the one that claims less."""
    newest = versions[0]
    for other in versions[1:]:
        if _is_newer(other, newest, zone):
            newest = other
    return newest


def _is_newer(one: Resource, other: Resource, zone: ZoneInfo) -> bool:
    """Is one to be believed rather than the other?"""
    metas = [r.get("meta") or {} for r in (one, other)]
    ids = [str(meta.get("versionId", "")) for meta in metas]
    if all(text.isdigit() for text in ids) and int(ids[0]) != int(ids[1]):
        return int(ids[0]) > int(ids[1])
    dates = [_instant(meta.get("lastUpdated"), zone) for meta in metas]
    if None not in dates and dates[0] != dates[1]:
        return bool(dates[0] > dates[1])  # type: ignore[operator]
    if one["resourceType"] == "ChargeItem":
        return one.get("status") not in NO_CHARGE and other.get("status") in NO_CHARGE
    return one.get("status") == "entered-in-error" and other.get("status") != "entered-in-error"


def _stands(ref: str, r: Resource, deletions: list[Deletion], zone: ZoneInfo) -> bool:
    """D27: a deletion takes it out, unless its version is later; without dates only a charge stands."""
    written = _instant((r.get("meta") or {}).get("lastUpdated"), zone)
    for deletion in deletions:
        if deletion.ref == ref:
            if deletion.at is None or written is None:
                if not ref.startswith("ChargeItem/"):
                    return False
            elif written <= deletion.at:
                return False
    return True


# -- whose it is, and what is meant by a reference ------------------------------------------------------


def _local(reference: Any) -> str:
    """`Type/id` of a reference, absolute or relative, without its version."""
    text = reference if isinstance(reference, str) else ""
    parts = text.split("/_history/")[0].rstrip("/").split("/")
    return "/".join(parts[-2:]) if len(parts) > 1 else text


def _meant(facts: Facts, reference: Any, kind: str = "") -> str:
    """The resource that a Reference means: by its address, or by an identifier that only one resource has."""
    told = reference if isinstance(reference, Mapping) else {}
    if told.get("reference"):
        return facts.addresses.get(told["reference"]) or _local(told["reference"])
    wanted = told.get("identifier") or {}
    if not wanted.get("value"):
        return ""
    having = [
        ref
        for ref, r in facts.resources.items()
        if ref.startswith(kind)
        and any(
            (i.get("system"), i.get("value")) == (wanted.get("system"), wanted["value"])
            for i in r.get("identifier") or []
        )
    ]
    return having[0] if len(having) == 1 else ""


def _is_test_data(r: Resource) -> bool:
    """D30: marked HTEST."""
    meta = r.get("meta") or {}
    return (REASON, "HTEST") in [_coding(c) for key in ("security", "tag") for c in meta.get(key) or []]


def _find_patient(facts: Facts) -> None:
    """D30: who answers, and under which names the same person was known."""
    patients = {ref: r for ref, r in facts.resources.items() if ref.startswith("Patient/")}
    replaced: dict[str, str] = {}
    for ref, r in patients.items():
        for link in r.get("link") or []:
            other = _meant(facts, link.get("other"), "Patient/")
            if link.get("type") in ("replaced-by", "replace"):
                replaced[ref] = other
            elif link.get("type") == "replaces":
                replaced.setdefault(other, ref)

    def last(ref: str) -> str:
        seen = {ref}
        while (after := replaced.get(ref)) is not None and after not in seen:
            seen.add(ref := after)
        return ref

    facts.patient = min((ref for ref in patients if last(ref) == ref), default=min(patients))
    facts.same_patient = {ref for ref in {*patients, *replaced} if last(ref) == last(facts.patient)}
    facts.replaced_by_nobody = last(facts.patient) not in patients
    facts.linked = any(
        link.get("type") in ("refer", "seealso")
        for ref in facts.same_patient & set(patients)
        for link in patients[ref].get("link") or []
    )


def _read(
    documents: list[Any],
    site: Mapping[str, Any],
    as_of: date,
    history_from: date | None,
    missing: Iterable[Mapping[str, Any]],
    options: Mapping[str, Any],
) -> Facts:
    """Sorts out whose the resources are, and reads each kind."""
    zone = ZoneInfo(options.get("timezone") or site["timezone"])
    payer = options.get("payer") or site.get("payer") or "unknown"
    delivery = _deliver(documents, zone)
    newest = {ref: _newest(versions, zone) for ref, versions in delivery.versions.items()}
    standing = {ref: r for ref, r in newest.items() if _stands(ref, r, delivery.deletions, zone)}
    facts = Facts(zone, payer, as_of, history_from, _declared(site, payer), standing, delivery.addresses)
    facts.excluded = {ref: "deleted" for ref in newest if ref not in standing}
    facts.older = [ref for ref, versions in delivery.versions.items() for _ in versions[1:]]
    facts.missing = [*delivery.missing, *(_told_missing(one) for one in missing)]
    _find_patient(facts)
    deaths = [standing[ref] for ref in sorted(facts.same_patient) if ref in standing]
    facts.died = next(
        (m for r in deaths if (m := _moment(r.get("deceasedDateTime"), zone)) is not None), None
    )
    mine: dict[str, list[tuple[str, Resource]]] = {}
    for ref, resource in standing.items():
        kind = resource["resourceType"]
        owner = resource.get("subject") or resource.get("patient")
        of = _meant(facts, owner, "Patient/")
        if kind == "Device":
            if of and of not in facts.same_patient:
                facts.excluded[ref] = "other-patient"
        elif kind in OF_A_PATIENT:
            if of not in facts.same_patient:
                facts.excluded[ref] = "other-patient" if of else "unreadable"
            elif facts.replaced_by_nobody:
                facts.excluded[ref] = "merged-patient"
            elif kind in ("Observation", "Encounter") and _is_test_data(resource):
                facts.excluded[ref] = "test-data"
            else:
                mine.setdefault(kind, []).append((ref, resource))
    for kind, document in delivery.broken:
        _read_broken(facts, kind, document)
    _read_charges(facts, mine)
    _read_encounters(facts, mine.get("Encounter", []))
    _read_episodes(facts, mine.get("EpisodeOfCare", []))
    _read_enrolment(facts, mine)
    _read_surgery(facts, mine)
    _read_conditions(facts, mine.get("Condition", []))
    _read_observations(facts, mine.get("Observation", []))
    return facts


def _told_missing(one: Mapping[str, Any]) -> Missing:
    """As a reader told it."""
    first, last = (date.fromisoformat(one[key]) if one.get(key) else None for key in ("start", "end"))
    return Missing(one["type"], one["why"], first, last, one.get("entries", 0))


def _read_broken(facts: Facts, kind: str, document: Any) -> None:
    """D20 (d), (e), (f): what a broken entry may have been."""
    r: Mapping[str, Any] = document if isinstance(document, Mapping) else {}
    if kind and isinstance(r.get("id"), str):
        facts.excluded[f"{kind}/{r['id']}"] = "unreadable"
    if kind == "Observation":
        codings = _readable_codings(r)
        if codings and not any(_line_of(facts, c) for c in codings):
            return
        moments = _readable_moments(facts, r)
        uploaded = r.get("meta") if isinstance(r.get("meta"), Mapping) else {}
        until = _moment((uploaded or {}).get("lastUpdated"), facts.zone)
        first = min((m.day for m in moments), default=None)
        last = max((m.day for m in moments), default=until.day if until else None)
        facts.missing.append(Missing(kind, "unreadable", first, last, 1))
    elif kind == "Encounter":
        period = r["period"] if isinstance(r.get("period"), Mapping) else {}
        start, end = (_moment(period.get(key), facts.zone) for key in ("start", "end"))
        days = [m.day for m in (start, end) if m is not None]
        readable = start is not None
        first, last = (min(days), max(days)) if readable else (None, None)
        facts.missing.append(Missing(kind, "unreadable", first, last, 1))
    else:
        facts.missing.append(Missing(kind, "unreadable", entries=1))
    if kind in ("ChargeItem", "Claim", "ExplanationOfBenefit"):
        named = _numbers(str(document), IN_FORCE_FROM)
        facts.unclear_charges += [Unclear(f"{kind}/{r.get('id')}", code, None, None) for code in named]


def _readable_codings(r: Mapping[str, Any]) -> list[Coding]:
    """The codings of a broken Observation, if these can be read."""
    code = r.get("code")
    coding = code.get("coding") if isinstance(code, Mapping) else None
    if not isinstance(coding, list) or not all(isinstance(c, Mapping) for c in coding):
        return []
    return [_coding(c) for c in coding]


def _readable_moments(facts: Facts, r: Mapping[str, Any]) -> list[Moment]:
    """The days of a broken Observation, if these can be read."""
    period = r.get("effectivePeriod")
    texts = [r.get("effectiveDateTime"), r.get("effectiveInstant")]
    texts += [period.get("start")] if isinstance(period, Mapping) else []
    return [m for text in texts if (m := _moment(text, facts.zone)) is not None]


def _is_late(facts: Facts, ref: str, day: date) -> bool:
    """Contract: what is dated after --as-of is left out."""
    if day > facts.as_of:
        facts.excluded[ref] = "after-as-of"
    return day > facts.as_of


# -- ChargeItem, Claim, ExplanationOfBenefit ---------------------------------------------------------


def _numbers(text: Any, wanted: Collection[str]) -> list[str]:
    """D29: these numbers in a text, each as a word of its own."""
    found = re.findall(r"(?<![0-9A-Za-z])\d{5}(?![0-9A-Za-z])", text) if isinstance(text, str) else []
    return [number for number in found if number in wanted]


def _concept_texts(concept: Any) -> list[Any]:
    """Everything of a CodeableConcept but its codes."""
    told = concept or {}
    return [told.get("text"), *(c.get("display") for c in told.get("coding") or [])]


def _charged_numbers(r: Resource, concept: Any, wanted: Collection[str]) -> tuple[list[str], list[str]]:
    """D29: the numbers that are codes of the charge, and those that stand elsewhere."""
    codes = [n for _, code in _codings(concept) for n in _numbers(code, wanted)]
    texts = _concept_texts(concept)
    for e in _extensions(r):
        texts.append(e.get("valueString"))
        texts += [(e.get("valueCoding") or {}).get(key) for key in ("code", "display")]
        inner = e.get("valueCodeableConcept")
        texts += [code for _, code in _codings(inner)] + _concept_texts(inner)
    supplied = r.get("productCodeableConcept")
    texts += [code for _, code in _codings(supplied)] + _concept_texts(supplied)
    return codes, sorted({n for text in texts for n in _numbers(text, wanted)})


def _read_charges(facts: Facts, mine: Mapping[str, list[tuple[str, Resource]]]) -> None:
    """Contract, `charged`, and D29: charges on three kinds of paper, of which a service has the most."""
    found: list[Charge] = []
    for ref, r in mine.get("ChargeItem", []):
        bounds = ((r.get("occurrenceTiming") or {}).get("repeat") or {}).get("boundsPeriod")
        period = r.get("occurrencePeriod") or bounds
        dates = _charged_dates(facts, period, r.get("occurrenceDateTime"))
        if r.get("status") in NO_CHARGE:
            codes, elsewhere = _charged_numbers(r, r.get("code"), IN_FORCE_FROM)
            if codes or elsewhere:
                facts.excluded[ref] = str(r["status"])
        else:
            of_ours = _charge(facts, ref, r, r.get("code"), dates, r.get("quantity"))
            programs = {_program_of(charge.code) for charge in of_ours if charge.code != "99091"}
            facts.performed |= {(program, who) for program in programs for who in _performers_of(facts, r)}
            found += of_ours
    for kind in ("Claim", "ExplanationOfBenefit"):
        for ref, r in mine.get(kind, []):
            if r.get("status") in NO_CLAIM or r.get("use", "claim") != "claim":
                continue
            for item in r.get("item") or []:
                dates = _charged_dates(facts, item.get("servicedPeriod"), item.get("servicedDate"))
                dates = dates or _charged_dates(facts, r.get("billablePeriod"), None)
                found += _charge(facts, ref, item, item.get("productOrService"), dates, item.get("quantity"))
    for charge in found:
        alike = [c for c in found if _bare(c) == _bare(charge)]
        if charge.quantity > 0 and _units(alike) > 0:
            facts.charges.append(charge)
        else:
            facts.credits.append(charge)


def _performers_of(facts: Facts, charge: Resource) -> set[str]:
    """Who performed what was charged, as far as it says."""
    performers = charge.get("performer") or []
    return {_person(facts, _meant(facts, performer.get("actor"))) for performer in performers} - {""}


def _bare(c: Charge) -> Charge:
    """What two papers of one service have in common."""
    return replace(c, ref="", quantity=0, kind="")


def _units(charges: Iterable[Charge]) -> int:
    """D29: of each kind of paper the sum, and of these the most, never the sum."""
    by_kind: dict[str, int] = {}
    for c in charges:
        by_kind[c.kind] = by_kind.get(c.kind, 0) + c.quantity
    return max(by_kind.values(), default=0)


Dates = tuple[date, date, bool]


def _charged_dates(facts: Facts, period: Any, day: Any) -> Dates | None:
    """First and last day, and whether it is a period."""
    if period:
        first, last = (_moment(period.get(key), facts.zone) for key in ("start", "end"))
        return (first.day, last.day, True) if first and last else None
    on = _moment(day, facts.zone)
    return (on.day, on.day, False) if on else None


def _charge(
    facts: Facts, ref: str, r: Resource, concept: Any, dates: Dates | None, quantity: Any
) -> list[Charge]:
    """The charge of one of our codes that this is, if it is one."""
    specific, too = _charged_numbers(r, concept, MORE_SPECIFIC)
    codes, elsewhere = _charged_numbers(r, concept, IN_FORCE_FROM)
    if not any((specific, too, codes, elsewhere)) or (dates and _is_late(facts, ref, dates[0])):
        return []
    if dates and (specific or too):
        facts.specific_charges.append(dates[:2])
    if not codes and len(elsewhere) > 1:
        first, last = dates[:2] if dates else (None, None)
        facts.unclear_charges += [Unclear(ref, code, first, last) for code in elsewhere]
        return []
    code = next(iter(codes or elsewhere), None)
    if code is None or dates is None:
        return []
    value = quantity.get("value", 1) if isinstance(quantity, Mapping) else 1
    number = math.ceil(value) if _is_number(value) else 1
    return [Charge(ref, code, *dates, number, ref.split("/")[0])]


def _program_of(code: str) -> str:
    """rtm or rpm."""
    if code == "99091" or code in (START_UP["rpm"], *MANAGEMENT["rpm"], *DEVICE_CODES["physiologic"]):
        return "rpm"
    return "rtm"


# -- Encounter ----------------------------------------------------------


def _read_encounters(facts: Facts, found: list[tuple[str, Resource]]) -> None:
    """D26 (places), D12 (which count), D13 and D31 (spans)."""
    billed = _billed_elsewhere(facts)
    for ref, r in found:
        start = _start_of(facts, r)
        if start is not None and _is_late(facts, ref, _local_day(start, facts.zone)):
            continue
        if r.get("status") in NO_ENCOUNTER:
            facts.excluded[ref] = r["status"]
            continue
        meant = _meaning(facts, r)
        place = _place(facts, ref, r, meant[0] if meant else "")
        if place is not None:
            facts.places[ref] = place
            if place.kind != "inpatient":
                facts.places |= _stays_within(facts, ref, r, place)
        finished = r.get("status") == "finished"
        if not finished:
            facts.excluded[ref] = str(r.get("status"))
        if start is None:
            if finished and meant is not None and meant[1] in ("rtm", "rpm") and ref not in billed:
                facts.enrolled.add(meant[1])  # it happened, nobody knows when (D1)
            continue
        if meant is None and ref in billed:
            meant = ("administrative", "other", False)  # its time is used up, whatever it was
        if meant is None:
            continue
        elsewhere = ref in billed or any(map(_is_e_and_m, _types(r)))
        parts, without_staff = _parts(facts, r)
        span = _span(facts, r, r.get("period"))
        work = Work(ref, *meant, parts, span, finished, elsewhere, _is_endless(facts, r, span), without_staff)
        starts = Moment(_local_day(start, facts.zone), start)
        if finished and elsewhere:
            facts.excluded[ref] = "billed-elsewhere"
        elif work.counts and any(len(part.span) > IMPLAUSIBLE for part in work.parts):
            facts.excluded[ref] = "implausible-span"
            if facts.died is None or not _is_after(starts, facts.died, facts.zone):
                facts.implausible.append(work)
            continue
        facts.works.append(work)
    _leave_out_twins(facts)
    facts.after_death = [work for work in facts.works if _is_after_death(facts, work)]
    facts.works = [work for work in facts.works if work not in facts.after_death]
    # D6 holds for the other time of one visit as well.
    facts.longer_twins = {
        ref: None if longer is None or _is_after_death(facts, longer) else longer
        for ref, longer in facts.longer_twins.items()
    }
    facts.excluded |= {work.ref: "after-death" for work in facts.after_death}


def _is_after_death(facts: Facts, work: Work) -> bool:
    """D6: would it count, had the patient lived?"""
    start = _start_of(facts, facts.resources[work.ref])
    lasts = any(part.span for part in work.parts)
    if start is None or facts.died is None or not (work.counts and lasts):
        return False
    return _is_after(Moment(_local_day(start, facts.zone), start), facts.died, facts.zone)


def _leave_out_twins(facts: Facts) -> None:
    """D31: two Encounters with one identifier are one: once, or the shorter where their times differ."""
    names = {
        w.ref: {(i.get("system"), i.get("value")) for i in facts.resources[w.ref].get("identifier") or []}
        for w in facts.works
        if w.counts
    }
    by_length = sorted((w for w in facts.works if w.counts), key=lambda w: (len(_all_seconds(w)), w.ref))
    kept: list[Work] = []
    for work in by_length:
        twin = next((w for w in kept if names[w.ref] & names[work.ref]), None)
        if twin is None:
            kept.append(work)
            continue
        facts.excluded[work.ref] = "duplicate"
        facts.works.remove(work)
        former = facts.longer_twins.get(twin.ref)
        longest = former is None or len(_all_seconds(work)) > len(_all_seconds(former))
        if longest and _all_seconds(work) != _all_seconds(twin):
            facts.longer_twins[twin.ref] = work


def _all_seconds(work: Work) -> Seconds:
    """The seconds of everybody."""
    return {second for part in work.parts for second in part.span}


def _start_of(facts: Facts, r: Resource) -> int | None:
    """When an Encounter starts: a bare date is the day's first second."""
    at = _moment((r.get("period") or {}).get("start"), facts.zone)
    if at is None:
        return None
    return at.instant if at.instant is not None else _midnight(at.day, facts.zone)


def _length(r: Resource) -> int | None:
    """D31: with a comparator it is no length."""
    told = r.get("length") or {}
    return None if "value" not in told or told.get("comparator") else int(told["value"])


def _is_endless(facts: Facts, r: Resource, span: range) -> bool:
    """D26: longer than a day, or never closed. What is finished was closed, on the day of its start."""
    period = r.get("period") or {}
    start, end = (_moment(period.get(key), facts.zone) for key in ("start", "end"))
    if start is not None and end is not None and None in (start.instant, end.instant):
        return end.day > start.day
    closed = end is not None or _length(r) is not None or r.get("status") == "finished"
    return not closed or len(span) > A_DAY


def _place(facts: Facts, ref: str, r: Resource, activity: str) -> Place | None:
    """D26: where it had the patient; a call, review, message or administrative work has nobody anywhere."""
    kind = _kind_of_place(facts, r.get("class"))
    if kind is None or activity in HAPPENS_ANYWHERE:
        return None
    period = r.get("period") or {}
    start, end = (_moment(period.get(key), facts.zone) for key in ("start", "end"))
    begins = _start_of(facts, r)
    ends = None
    if end is not None:
        ends = end.instant if end.instant is not None else _midnight(end.day + DAY, facts.zone)
    elif begins is not None and (length := _length(r)) is not None:
        ends = begins + length
    bare = any(m is not None and m.instant is None for m in (start, end))
    return Place(ref, kind, begins, ends, bare, r.get("status") == "finished")


def _stays_within(facts: Facts, ref: str, r: Resource, whole: Place) -> dict[str, Place]:
    """D26: what an Encounter was a stay for; until its own end where that one's is not said."""
    found = {}
    for number, former in enumerate(r.get("classHistory") or []):
        if _kind_of_place(facts, former.get("class")) == "inpatient":
            stay = _place(facts, ref, {**r, "length": None, **former}, "")
            if stay is not None:
                found[f"{ref}#{number}"] = replace(stay, end=whole.end if stay.end is None else stay.end)
    return found


def _kind_of_place(facts: Facts, told: Any) -> str | None:
    """D26: inpatient (with emergency and observation), ambulatory, unknown; None: no place of that kind."""
    if not told:
        return None
    system, code = ("", told) if isinstance(told, str) else _coding(told)
    if (system, code) in facts.site.facility_classes:
        return "inpatient"
    if (system, code) in facts.site.outpatient_classes:
        return "ambulatory"
    if system in ("", OLDER_CLASS) and code in OLDER_WORDS:
        word = OLDER_WORDS[code]
        return None if word == "elsewhere" else word
    if system not in ("", ACT):
        return "unknown"
    if code in INPATIENT:
        return "inpatient"
    if code in AMBULATORY:
        return "ambulatory"
    return None if code in OTHER_CLASSES else "unknown"


def _types(r: Resource) -> list[Coding]:
    """The codings of an Encounter's types."""
    return _all_codings(r.get("type") or [])


def _is_e_and_m(coding: Coding) -> bool:
    """CPT's number of a visit, with modifiers too; HCPCS's address, or none, stands for CPT's (D32)."""
    return coding[0] in NUMBERED and bool(_numbers(coding[1], E_AND_M))


def _meaning(facts: Facts, r: Resource) -> tuple[str, str, bool] | None:
    """D12: activity, program, and whether the site said so for one program."""
    for coding in _types(r):
        if coding in facts.site.activities:
            activity, program = facts.site.activities[coding]
            return activity, program, program in ("rtm", "rpm")
        if _is_e_and_m(coding):
            return "visit", "any", False
    told = r.get("class") or {}
    if isinstance(told, Mapping) and told.get("code") == "VR":
        return "phone-call", "any", False
    if _kind_of_place(facts, told) == "ambulatory" or _coding(told)[1] == "HH":
        return "in-person", "any", False
    return None


def _span(facts: Facts, r: Resource, period: Mapping[str, Any] | None) -> range:
    """D13: the period; where `length` also stands, the shorter; `length` alone counts from the start."""
    start = _start_of(facts, {"period": period or r.get("period", {})})
    length = _length(r)
    end = _moment((period or {}).get("end"), facts.zone)
    if start is None:
        return range(0)
    lasted = [] if end is None or end.instant is None else [end.instant - start]
    lasted += [] if length is None else [length]
    return range(start, start + max(0, min(lasted, default=0)))


def _parts(facts: Facts, r: Resource) -> tuple[tuple[Part, ...], bool]:
    """D13: who took part, each with their own period, else the Encounter's (of either end alone too).

    Nobody named: role not found.

    D30: patients, relatives and devices are no staff; and whether it lists people, but none of the staff.
    """
    parts = []
    listed = r.get("participant") or []
    for participant in listed:
        individual = participant.get("individual")
        if _meant(facts, individual).startswith(NO_STAFF) or not _took_part(participant):
            continue
        person, role = _staff(facts, _meant(facts, individual))
        period = _period_of(facts, r, participant)
        parts.append(Part(person, role, _span(facts, r, period), _is_bare(period)))
    period = r.get("period")
    nobody = Part(f"nobody of {r['id']}", "unknown", _span(facts, r, period), _is_bare(period))
    return _no_longer_than(r, tuple(parts) or (nobody,)), bool(listed) and not parts


def _period_of(facts: Facts, r: Resource, participant: Mapping[str, Any]) -> dict[str, Any]:
    """D13: whose own period gives both times of day is believed; else it takes away from the Encounter's.

    Who took part from an earlier hour, or until a later one, did so only while it lasted.
    """
    whole, own = r.get("period") or {}, participant.get("period") or {}
    if all((m := _moment(own.get(key), facts.zone)) and m.instant is not None for key in ("start", "end")):
        return dict(own)
    merged = {**whole, **own}
    for key in own.keys() & whole.keys():
        mine, theirs = _moment(own[key], facts.zone), _moment(whole[key], facts.zone)
        if mine is None or theirs is None or theirs.instant is None:
            continue
        later = theirs.instant > (
            mine.instant
            if mine.instant is not None
            else _midnight(mine.day + (key == "end") * timedelta(days=1), facts.zone) - 1
        )
        if later is (key == "start"):
            merged[key] = whole[key]
    return merged


def _took_part(participant: Mapping[str, Any]) -> bool:
    """D35: who sent the patient, came along, translated or is to be called did nothing there."""
    types = {code for _, code in _all_codings(participant.get("type") or [])}
    return not types or bool(types - {"REF", "ESC", "CALLBCK", "translator", "emergency"})


def _no_longer_than(r: Resource, parts: tuple[Part, ...]) -> tuple[Part, ...]:
    """D13: all participants together take no more seconds than the Encounter's length, the first first."""
    timed = [part for part in parts if not part.bare]
    length = _length(r)
    if length is None or len(timed) < 2:
        return parts
    kept = sorted({second for part in timed for second in part.span})[:length]
    until = kept[-1] + 1 if kept else 0
    return tuple(
        part
        if part.bare
        else replace(part, span=range(part.span.start, max(part.span.start, min(part.span.stop, until))))
        for part in parts
    )


def _is_bare(period: Mapping[str, Any] | None) -> bool:
    """Is only the day known?"""
    return len((period or {}).get("start", "")) == 10


def _person(facts: Facts, reference: str) -> str:
    """D30: a PractitionerRole is the Practitioner whom it names. What is nobody of the staff is nobody."""
    if reference.split("/")[0] not in ("Practitioner", "PractitionerRole"):
        return ""
    return _meant(facts, facts.resources.get(reference, {}).get("practitioner")) or reference


def _affiliations(facts: Facts, person: str) -> set[tuple[str, Coding]]:
    """D35: at which organisation in which specialty somebody works, where both are known.

    NUCC's codes name the specialty too, where a role says no other.
    """
    found = set()
    for ref, r in facts.resources.items():
        if ref.startswith("PractitionerRole/") and _person(facts, ref) == person:
            organisation = _meant(facts, r.get("organization"))
            named = [coding for coding in _all_codings(r.get("code") or []) if coding[0] == NUCC]
            specialties = _all_codings(r.get("specialty") or []) or named
            found |= {(organisation, specialty) for specialty in specialties if organisation}
    return found


def _staff(facts: Facts, reference: str) -> tuple[str, str]:
    """The person behind a participant, and the role. D30: a role and its Practitioner are one person."""
    r = facts.resources.get(reference, {})
    person = _person(facts, reference)
    named = [*(r.get("code") or [])] if r.get("resourceType") == "PractitionerRole" else []
    qualified = [q.get("code") for q in facts.resources.get(person, {}).get("qualification") or []]
    for coding in _all_codings([*named, *qualified]):
        if coding in facts.site.roles:
            return person, facts.site.roles[coding]
    elsewhere = {
        facts.site.roles[coding]
        for ref, other in facts.resources.items()
        if ref.startswith("PractitionerRole/") and _meant(facts, other.get("practitioner")) == person
        for coding in _all_codings(other.get("code") or [])
        if coding in facts.site.roles
    }
    return person, elsewhere.pop() if len(elsewhere) == 1 else "unknown"


def _billed_elsewhere(facts: Facts) -> set[str]:
    """D12: the Encounters that are the context of a charge which is not one of these codes."""
    found = set()
    for r in facts.resources.values():
        if r["resourceType"] == "ChargeItem" and r["status"] not in NO_CHARGE:
            context = _meant(facts, r.get("context"))
            codes, elsewhere = _charged_numbers(r, r.get("code"), IN_FORCE_FROM)
            if not codes and not elsewhere:
                found.add(context)
            of_visits, in_words = _charged_numbers(r, r.get("code"), E_AND_M)
            if of_visits or (in_words and not codes):
                facts.reported_visits.add(context)
                on = _moment(r.get("occurrenceDateTime"), facts.zone)
                if on is not None and on.day <= facts.as_of:
                    visitors = _performers_of(facts, r) or _visitors_in(facts, context)
                    facts.charged_visits |= {(person, on.day) for person in visitors or {""}}
    return found - {""}


def _visitors_in(facts: Facts, encounter: str) -> set[str]:
    """Those who took part in an Encounter and may have an E/M visit."""
    listed = facts.resources.get(encounter, {}).get("participant") or []
    present = filter(_took_part, listed)
    people = {_person(facts, _meant(facts, one.get("individual"))) for one in present} - {""}
    return {person for person in people if _staff(facts, person)[1] in PROFESSIONALS | UNKNOWN_ROLE}


def _is_known(part: Part) -> bool:
    """Does it say who it was?"""
    return part.person.startswith(("Practitioner/", "PractitionerRole/"))


# -- EpisodeOfCare, Consent, ServiceRequest ------------------------------------------------------


def _read_episodes(facts: Facts, found: list[tuple[str, Resource]]) -> None:
    """D3, D4: the EpisodesOfCare that began, by their start."""
    for ref, r in found:
        period = r.get("period") or {}
        start, end = (_moment(period.get(key), facts.zone) for key in ("start", "end"))
        if start is None or _is_late(facts, ref, start.day):
            continue
        if r["status"] in NO_EPISODE:
            facts.excluded[ref] = r["status"]
            continue
        facts.care.append((start.day, end.day if end else None))
        facts.manage_care |= {_person(facts, _meant(facts, r.get("careManager")))} - {""}
    facts.care.sort(key=lambda period: period[0])


def _agrees_to_care(r: Resource) -> bool:
    """A Consent in force that is about care: no directive, study, or word on who may see what."""
    scopes, categories = (
        {code for _, code in _all_codings(r.get(key) or [])} for key in ("scope", "category")
    )
    about_else = bool(scopes & {"adr", "research", "patient-privacy"})
    about_else |= bool(categories) and not categories - OTHER_CONSENTS
    denied = "deny" in ((r.get("provision") or {}).get("type"), r.get("decision"))
    return r["status"] == "active" and not about_else and not denied


def _read_enrolment(facts: Facts, mine: Mapping[str, list[tuple[str, Resource]]]) -> None:
    """D1: what shows that a patient takes part in a program."""
    if facts.care or any(_agrees_to_care(r) for _, r in mine.get("Consent", [])):
        facts.enrolled |= {"rtm", "rpm"}
    for work in [*facts.works, *facts.implausible, *facts.after_death]:
        if not work.finished or work.billed_elsewhere:
            continue
        if work.program in ("rtm", "rpm") and not work.without_staff:
            facts.enrolled.add(work.program)
        if work.activity == "setup-education" and work.program == "any":
            facts.enrolled |= {"rtm", "rpm"}
    for _, r in mine.get("ServiceRequest", []):
        if r["status"] in ("active", "completed"):
            programs = {_program_of(c) for _, c in _codings(r.get("code")) if c in IN_FORCE_FROM}
            requester = _person(facts, _meant(facts, r.get("requester")))
            facts.enrolled |= programs
            facts.ordered |= {(program, requester) for program in programs if requester}
    # A charged 99091 says nothing for RPM, though it may say something against RTM (contract).
    facts.enrolled |= {_program_of(charge.code) for charge in facts.charges if charge.code != "99091"}
    # One of whose codes nobody can say which it is shows the program, if all of them are of one.
    unclear = {_program_of(charge.code) for charge in facts.unclear_charges if charge.code != "99091"}
    if len(unclear) == 1:
        facts.enrolled |= unclear


# -- Procedure, Condition ----------------------------------------------------------


def _is_surgery(concept: Any) -> bool:
    """D36: CPT 10021 to 69990; where CPT doesn't say, whatever it is (no table of ours says what is none)."""
    of_cpt = [code for system, code in _codings(concept) if system in (CPT, HCPCS)]
    return not of_cpt or any(_numbers(code, SURGERY) for code in of_cpt)


def _read_surgery(facts: Facts, mine: Mapping[str, list[tuple[str, Resource]]]) -> None:
    """D36: Procedures that were done or are being done, and charges of surgery. None: nobody knows when."""
    for ref, r in mine.get("Procedure", []):
        if r.get("status") not in ("completed", "in-progress"):
            continue
        period = r.get("performedPeriod") or {}
        first = _moment(r.get("performedDateTime") or period.get("start"), facts.zone)
        last = _moment(r.get("performedDateTime") or period.get("end"), facts.zone)
        if r["status"] == "completed":
            last = last or first  # of one day, where it says no more
        if first is not None and _is_late(facts, ref, first.day):
            continue
        if _is_surgery(r.get("code")):
            facts.surgery.append((first.day if first else None, last.day if last else None))
    charged = [
        (r.get("code"), _charged_dates(facts, r.get("occurrencePeriod"), r.get("occurrenceDateTime")))
        for _, r in mine.get("ChargeItem", [])
        if r.get("status") not in NO_CHARGE
    ]
    charged += [
        (
            item.get("productOrService"),
            _charged_dates(facts, item.get("servicedPeriod"), item.get("servicedDate")),
        )
        for kind in ("Claim", "ExplanationOfBenefit")
        for _, r in mine.get(kind, [])
        if r.get("status") not in NO_CLAIM and r.get("use", "claim") == "claim"
        for item in r.get("item") or []
    ]
    for concept, dates in charged:
        of_surgery = any(_numbers(code, SURGERY) for of, code in _codings(concept) if of in NUMBERED)
        if of_surgery and (dates is None or dates[0] <= facts.as_of):
            facts.surgery.append(dates[:2] if dates else (None, None))


def _global_period(facts: Facts, window: Window) -> bool:
    """D36: surgery in the ninety days before the window's end, or Procedures that nobody read."""
    first = window.end - timedelta(days=GLOBAL_DAYS)
    return bool(facts.lacks("Procedure")) or any(
        (start is None or start <= window.end) and (end is None or first <= end)
        for start, end in facts.surgery
    )


def _read_conditions(facts: Facts, found: list[tuple[str, Resource]]) -> None:
    """D40: what the patient has: it says that it is active, nobody doubts it, and it is not over."""
    for ref, r in found:
        clinical = {code for _, code in _codings(r.get("clinicalStatus"))}
        verified = {code for _, code in _codings(r.get("verificationStatus"))}
        dates = [_moment(r.get(key), facts.zone) for key in ("onsetDateTime", "recordedDate")]
        since = max((at.day for at in dates if at is not None), default=date.min)
        over = any(key.startswith("abatement") for key in r)
        if _is_late(facts, ref, since) or not clinical & ACTIVE_CONDITION or verified & NO_CONDITION or over:
            continue
        facts.conditions += [(coding, since) for coding in _codings(r.get("code"))]


# -- Observation: what it says ----------------------------------------------------------


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _says_absent(facts: Facts, concept: Mapping[str, Any]) -> bool:
    """D21: by coding, and by text only where there is no coding."""
    codings = _codings(concept)
    if codings:
        return any(c in facts.site.absent or c[0] == ABSENT for c in codings)
    return _is_blank(concept.get("text"))


def _is_blank(text: Any) -> bool:
    """D21: nothing, or one of the words for nothing."""
    return not isinstance(text, str) or text.strip().lower() in {"", *ABSENT_WORDS}


def _is_value(facts: Facts, key: str, value: Any) -> bool:
    """D21: is it a measurement, whatever was measured?"""
    if value is None:
        return False
    told = value if isinstance(value, Mapping) else {}
    match key.removeprefix("value"):
        case "Quantity":
            return _is_number(told.get("value"))
        case "Range":
            return any(_is_number((told.get(part) or {}).get("value")) for part in ("low", "high"))
        case "Ratio":
            parts = ("numerator", "denominator")
            return any(_is_number((told.get(part) or {}).get("value")) for part in parts)
        case "SampledData":
            return any(re.fullmatch(r"[-+]?\d+(\.\d+)?", word) for word in str(told.get("data", "")).split())
        case "CodeableConcept":
            return bool(told.get("coding") or told.get("text")) and not _says_absent(facts, told)
        case "String":
            return not _is_blank(value)
        case "Integer":
            return _is_number(value)
        case "Boolean":
            return isinstance(value, bool)
        case "Time" | "DateTime":
            return isinstance(value, str) and bool(value.strip())
        case "Period":
            return bool(told.get("start") and told.get("end"))
    return False


def _measurements(facts: Facts, r: Resource) -> list[tuple[list[Coding], str, Any]]:
    """D21: every measurement of an Observation: of which coding, which kind of value, and the value."""
    found = [] if r.get("dataAbsentReason") else [(_codings(r.get("code")), r)]
    for c in r.get("component") or []:
        codings = _codings(c.get("code"))
        if not c.get("dataAbsentReason") and not set(codings) & CIRCUMSTANCES:
            found.append((codings, c))
    return [
        (codings, key, value)
        for codings, holder in found
        for key, value in holder.items()
        if key.startswith("value") and _is_value(facts, key, value)
    ]


def _is_believable(codings: list[Coding], key: str, value: Any) -> bool:
    """D22: within the table; in a unit nobody knows, above 0 where 0 is impossible."""
    if key not in ("valueQuantity", "valueInteger"):
        return True
    told = value if isinstance(value, Mapping) else {"value": value}
    number, unit = told["value"], told.get("code") or told.get("unit")
    for coding in codings:
        if (coding, unit) in BELIEVABLE:
            lowest, highest = BELIEVABLE[coding, unit]
            return bool(lowest <= number <= highest)
        if coding in NEVER_ZERO:
            return bool(number > 0)
    return True


def _line_of(facts: Facts, coding: Coding) -> tuple[str, str | None] | None:
    """The line of a coding, and who sends it where the reading doesn't say: the site's word first."""
    if coding in facts.site.lines:
        return facts.site.lines[coding]
    return (SHIPPED_LINES[coding], None) if coding in SHIPPED_LINES else None


def _is_typed_in(facts: Facts, r: Resource) -> bool:
    """D24: by method, category or extension."""
    site = facts.site
    if set(_codings(r.get("method"))) & set(site.manual_methods):
        return True
    if set(_all_codings(r.get("category") or [])) & set(site.manual_categories):
        return True
    return any(
        e.get("url") == url and any(_is_same(e[key], wanted) for key in e if key.startswith("value"))
        for e in _extensions(r)
        for url, wanted in site.manual_extensions
    )


def _is_same(value: Any, wanted: Any) -> bool:
    """D24: true fits true, 1, 1.0 and "true"."""
    if wanted is True:
        return value is True or value == 1 or value == "true"
    return bool(value == wanted)


def _in_office(facts: Facts, r: Resource) -> bool:
    """D23: it says itself that it was taken in a facility."""
    site = facts.site
    if set(_codings(r.get("method"))) & set(site.office_methods):
        return True
    if set(_all_codings(r.get("category") or [])) & set(site.office_categories):
        return True
    return any(
        e.get("url") == url
        and coding in [*_codings(e.get("valueCodeableConcept")), _coding(e.get("valueCoding") or {})]
        for e in _extensions(r)
        for url, coding in site.office_extensions
    )


# -- Observation: which are monitoring days ------------------------------------------------------


def _read_observations(facts: Facts, found: list[tuple[str, Resource]]) -> None:
    """D5 to D8, D18, D21 to D28: which Observations are monitoring days of which line."""
    candidates: list[tuple[str, Resource, list[Moment]]] = []
    for ref, r in found:
        moments = _moments(facts, r)
        reason = _no_measurement(facts, r) or (None if moments else "partial-date")
        if reason is not None:
            facts.excluded[ref] = reason
            continue
        for m in moments:
            if (reason := _too_late(facts, m)) is not None:
                facts.excluded.setdefault(ref, reason)
        if in_time := [m for m in moments if _too_late(facts, m) is None]:
            candidates.append((ref, r, in_time))
    for ref, r, moments in _without_duplicates(facts, candidates):
        places = {m: _where(facts, r, m) for m in moments}
        if "in-facility" in places.values():
            facts.excluded[ref] = "in-facility"
        moments = [m for m in moments if places[m] != "in-facility"]
        if not moments:
            continue
        if _of_another(facts, r):
            if facts.excluded.get(ref) != "in-facility":
                facts.excluded[ref] = "device-of-another"
            continue
        judged = _line_and_type(facts, r)
        if isinstance(judged, str):
            facts.excluded[ref] = judged
            continue
        lines, device_type, doubt = judged
        if not any(_is_believable(*one) for one in _measurements(facts, r)) and not _needs_no_value(facts, r):
            doubt = "implausible-value"
        facts.readings += [
            Reading(
                ref,
                m.day,
                _first_second(facts, m),
                line,
                device_type,
                doubt or (places[m] if places[m] == "in-facility-unclear" else None),
                _unverified(facts, r, m, lines),
                doubt == "device-unknown" and _device(facts, r) is None,
                _known_of_device(facts, r),
            )
            for m in moments
            for line in lines
        ]
    same = _one_type(facts, found)
    facts.readings = [
        replace(one, device_type=same.get((one.line, one.device_type), one.device_type))
        for one in facts.readings
    ]
    facts.readings.sort(key=lambda reading: (reading.instant, reading.ref))
    facts.first_used = [(r.line, r.device_type) for r in facts.readings if r.doubt is None]
    for program in ("rtm", "rpm"):
        _pass_over_other_care(facts, program)
        _leave_out_before_set_up(facts, program)
        _leave_out_outside_episodes(facts, program)
    for reading in facts.readings:
        if reading.doubt:
            facts.excluded[reading.ref] = reading.doubt


def _unverified(facts: Facts, r: Resource, m: Moment, lines: Collection[str]) -> frozenset[str]:
    """D6, D26: its Encounter could not be read, or says little. D7, D25: no device, or nobody's."""
    found = set()
    encounter = _meant(facts, r.get("encounter"))
    if encounter and (encounter not in facts.resources or facts.excluded.get(encounter) == "after-as-of"):
        found.add("in-facility")
    if encounter in facts.places:
        found.add("in-facility")  # it was not left out, so another day, a series, or a class nobody knows
    device = _device(facts, r)
    if "physiologic" in lines and device is not None and not _meant(facts, device.get("patient")):
        found.add("enrolment")
    return frozenset(found)


def _known_of_device(facts: Facts, r: Resource) -> frozenset[str]:
    """D39, 2.7: that it is a medical device (it bears a UDI, or the site says so), and whose supply it is."""
    device = _device(facts, r)
    if device is None:
        return frozenset()
    told = next((entry for entry in facts.site.device_facts if _fits_entry(entry, device)), {})
    found = {"fda-device"} if told.get("cleared") or device.get("udiCarrier") else set()
    return frozenset(
        found | ({"device-supplied-by-practice"} if told.get("supplied_by") == "practice" else set())
    )


def _moments(facts: Facts, r: Resource) -> list[Moment]:
    """D5: one Observation is one day; a period counts where it starts; each event of a Timing its day."""
    texts = [r.get("effectiveDateTime"), r.get("effectiveInstant")]
    texts += [(r.get("effectivePeriod") or {}).get("start")]
    texts += (r.get("effectiveTiming") or {}).get("event") or []
    found = [m for text in texts if (m := _moment(text, facts.zone)) is not None]
    return sorted(found, key=lambda m: _first_second(facts, m))


def _first_second(facts: Facts, m: Moment) -> int:
    """The instant of a reading; of a bare date the day's first second."""
    return m.instant if m.instant is not None else _midnight(m.day, facts.zone)


def _no_measurement(facts: Facts, r: Resource) -> str | None:
    """Statuses; D6: batteries, clocks and the like; D21: no value."""
    if r.get("status") not in COUNTED_STATUS:
        return str(r.get("status"))
    if set(_codings(r.get("code"))) & NOT_MEASUREMENTS:
        return "not-a-measurement"
    return None if _needs_no_value(facts, r) or _measurements(facts, r) else "no-value"


def _needs_no_value(facts: Facts, r: Resource) -> bool:
    """D21: the site said of its own coding that it counts as it is."""
    return bool(set(_codings(r.get("code"))) & set(facts.site.without_value))


def _too_late(facts: Facts, m: Moment) -> str | None:
    """Not after --as-of; D6: not after death."""
    if m.day > facts.as_of:
        return "after-as-of"
    return "after-death" if facts.died is not None and _is_after(m, facts.died, facts.zone) else None


def _of_another(facts: Facts, r: Resource) -> bool:
    """D6: taken with somebody else's device; another value under the system of the patient's own number is
    somebody else's."""
    told = (_device(facts, r) or {}).get("patient")
    owner = _meant(facts, told, "Patient/")
    if owner or not isinstance(told, Mapping) or told.get("reference"):
        return bool(owner) and owner not in facts.same_patient
    named = told.get("identifier") or {}
    known = [
        (i.get("system"), i.get("value"))
        for ref, patient in facts.resources.items()
        if ref.startswith("Patient/")
        for i in patient.get("identifier") or []
    ]
    there = named.get("system") in [system for system, _ in known if system]
    return there and bool(named.get("value")) and (named["system"], named["value"]) not in known


def _is_after(m: Moment, died: Moment, zone: ZoneInfo) -> bool:
    """After the time of death, or after its day where that is all that is known."""
    if m.instant is None:
        return m.day > died.day
    return (
        m.instant > died.instant if died.instant is not None else m.instant >= _midnight(died.day + DAY, zone)
    )


def _where(facts: Facts, r: Resource, m: Moment) -> str | None:
    """D26: in a facility, perhaps in one, or neither; a bare date only where the whole day lies inside."""
    if _in_office(facts, r):
        return "in-facility"
    named = facts.places.get(_meant(facts, r.get("encounter")))
    found = {_named_place(facts, named, m)} if named is not None else set()
    day = _seconds_of(m.day, m.day, facts.zone)
    first, last = (day.start, day.stop - 1) if m.instant is None else (m.instant, m.instant)
    for place in facts.places.values():
        if place.start is None or not place.start <= first or not (place.end is None or last < place.end):
            continue
        if place.kind == "inpatient":
            found.add("in-facility")
        elif place.kind == "unknown" and place.end is not None and _over_midnight(facts, place):
            found.add("in-facility-unclear")
        elif place.kind == "ambulatory" and _is_plain_visit(facts, place):
            found.add("in-facility")
    return "in-facility" if "in-facility" in found else "in-facility-unclear" if found - {None} else None


def _named_place(facts: Facts, place: Place, m: Moment) -> str | None:
    """D26: what a reading that names this Encounter must be left out as."""
    if place.kind == "inpatient":
        return "in-facility"
    if place.kind == "unknown":
        return "in-facility-unclear" if place.end is None or _over_midnight(facts, place) else None
    if place.start is None:
        return "in-facility"  # of a visit at no time it is not shown that it was taken elsewhere
    if _is_longer_than_a_day(facts, place) or (place.end is None and not place.finished):
        return None
    first = _local_day(place.start, facts.zone)
    last = first if place.end is None else _last_day(facts, place.start, place.end)
    return "in-facility" if first <= m.day <= last else None


def _last_day(facts: Facts, start: int, end: int) -> date:
    """The local day of the last second."""
    return _local_day(max(start, end - 1), facts.zone)


def _over_midnight(facts: Facts, place: Place) -> bool:
    """Does it lie on two local days?"""
    if place.start is None or place.end is None:
        return False
    return _last_day(facts, place.start, place.end) > _local_day(place.start, facts.zone)


def _is_longer_than_a_day(facts: Facts, place: Place) -> bool:
    """Of bare dates: is it of more than one day?"""
    if place.start is None or place.end is None:
        return False
    return _over_midnight(facts, place) if place.bare else place.end - place.start > A_DAY


def _is_plain_visit(facts: Facts, place: Place) -> bool:
    """D26: with instants, within one local day, for less than 18 hours."""
    if place.start is None or place.end is None or place.bare or _over_midnight(facts, place):
        return False
    return place.end - place.start < VISIT_SHORTER_THAN


def _device(facts: Facts, r: Resource) -> Resource | None:
    """D7, D23: the Device behind the reference, contained or not, also through a DeviceMetric."""
    told = r.get("device") or {}
    inside = {f"#{c.get('id')}": c for c in r.get("contained") or []}
    found = inside.get(told.get("reference", ""))
    if found is None:
        found = facts.resources.get(_meant(facts, told, "Device/"))
    if found is not None and found["resourceType"] == "DeviceMetric":
        source = found.get("source") or {}
        found = inside.get(source.get("reference", "")) or facts.resources.get(_meant(facts, source))
    if found is None or found["resourceType"] != "Device":
        return None
    return None if found.get("status") == "entered-in-error" else found


def _line_of_device(facts: Facts, device: Resource) -> tuple[str | None, str]:
    """D8, D25: the line of a device, and what is one device type with it."""
    types = _codings(device.get("type"))
    key = f"type {types[0]}" if types else f"device {device.get('id')}"
    for number, entry in enumerate(facts.site.devices):
        if _fits_entry(entry, device):
            if entry.get("code"):
                return entry["line"], key
            shared = any(entry.get(part) for part in ("model", "type_text", "udi_di"))
            return entry["line"], f"entry {number}" if shared else f"device {device.get('id')}"
    return next((SHIPPED_MONITORS[t] for t in types if t in SHIPPED_MONITORS), None), key


def _one_type(facts: Facts, found: list[tuple[str, Resource]]) -> dict[tuple[str, str], str]:
    """D8: devices of one type coding are one device; a type with several codings is of each of them.

    Only codings that name a monitor of that line, and only of devices that readings of this patient name.
    """
    lines_of: dict[str, set[str]] = {}
    for reading in facts.readings:
        lines_of.setdefault(reading.ref, set()).add(reading.line)
    kinds: list[set[tuple[str, str]]] = []
    for ref, r in found:
        device = _device(facts, r) if ref in lines_of else None
        types = _codings(device.get("type")) if device is not None else []
        for line in lines_of[ref] if types else ():
            known = {f"type {t}" for t in types if line == _line_of_coding(facts, t)}
            kind = {(line, name) for name in known | {f"type {types[0]}"}} if known else set()
            if kind and kind not in kinds:
                kinds.append(kind)
    merged: list[set[tuple[str, str]]] = []
    for kind in kinds:
        apart = [other for other in merged if other.isdisjoint(kind)]
        touching = [other for other in merged if not other.isdisjoint(kind)]
        merged = [*apart, kind.union(*touching)]
    return {one: min(name for _, name in kind) for kind in merged for one in kind}


def _line_of_coding(facts: Facts, coding: Coding) -> str | None:
    """The line of a type coding: the site's word for it, else the shipped one."""
    for entry in facts.site.devices:
        alone = not any(
            entry.get(key) for key in ("manufacturer", "model", "type_text", "udi_di", "identifier")
        )
        if entry.get("code") and alone and _coding(entry) == coding:
            return str(entry["line"])
    return SHIPPED_MONITORS.get(coding)


def _fits_entry(entry: Mapping[str, Any], device: Resource) -> bool:
    """D25: all that an entry says, whatever the letter case."""
    carriers = device.get("udiCarrier") or []
    names = [name.get("name") for name in device.get("deviceName") or []]
    told = {
        "manufacturer": [device.get("manufacturer")],
        "model": [device.get("modelNumber"), *names],
        "type_text": [(device.get("type") or {}).get("text")],
        "udi_di": [carrier.get("deviceIdentifier") for carrier in carriers],
    }
    asked = [key for key in told if entry.get(key)]
    if entry.get("code") and _coding(entry) not in _codings(device.get("type")):
        return False
    if "identifier" in entry:
        wanted = tuple(str(entry["identifier"].get(key, "")).lower() for key in ("system", "value"))
        having = [
            tuple(str(i.get(key, "")).lower() for key in ("system", "value"))
            for i in device.get("identifier") or []
        ]
        if wanted not in having:
            return False
    if not asked and not entry.get("code") and "identifier" not in entry:
        return False
    return all(str(entry[key]).lower() in [str(v).lower() for v in told[key] if v] for key in asked)


Judged = tuple[tuple[str, ...], str, str | None]


def _performers(facts: Facts, r: Resource) -> set[str]:
    """Who performed it: patient, staff, organisation or somebody; senders that a site lists say nothing."""
    found = set()
    for performer in r.get("performer") or []:
        ref = _meant(facts, performer)
        kind = ref.split("/")[0]
        if ref in facts.site.senders:
            continue
        if kind == "Patient":
            found.add("patient")
        elif kind in ("Practitioner", "PractitionerRole"):
            found.add("staff")
        elif kind in ("Organization", "CareTeam"):
            found.add("organisation")
        else:
            found.add("somebody")
    if "patient" in found:
        return {"patient"}
    return found


def _line_and_type(facts: Facts, r: Resource) -> Judged | str:
    """What it says itself comes first: (lines, device type, doubt), or why it is left out (D7, D23, D24)."""
    coding = next((c for c in _codings(r.get("code")) if _line_of(facts, c)), None)
    if coding is None:
        return "no-device" if r.get("device") is None else "code-not-configured"
    line, source = _line_of(facts, coding) or ("", None)
    performers = _performers(facts, r)
    typed_in = _is_typed_in(facts, r)
    if typed_in and line == "physiologic":
        return "patient-reported"
    if r.get("device") is None:
        return _without_device(coding, line, source, {"patient"} if typed_in else performers)
    device = _device(facts, r)
    if device is None:
        return (line,), f"unresolved {r['device']}", "device-unknown"
    if _is_test_data(device):
        return "test-data"
    device_line, device_type = _line_of_device(facts, device)
    types = set(_codings(device.get("type")))
    if device_line is None and types & NO_MONITORS:
        return "device-not-a-monitor"
    if device_line is None and PHONE_APP in types:
        if line == "physiologic":
            return "patient-reported" if "patient" in performers else ((line,), device_type, "device-unknown")
        device_line = line
    if device_line is None:
        return (line,), device_type, "device-unknown"
    if device_line != line:
        return (line, device_line), device_type, "line-conflict"
    return (line,), device_type, "source-conflict" if "staff" in performers else None


def _without_device(coding: Coding, line: str, source: str | None, performers: set[str]) -> Judged | str:
    """`source` speaks only where the reading is silent; RTM needs the site's word that patients report it."""
    device_type = f"coding {coding}"
    if performers & {"staff", "organisation"}:
        return "entered-by-staff"
    by_patient = "patient" in performers
    if source == "device":
        if by_patient:
            return (line,), device_type, "source-conflict"
        return "not-from-a-device" if performers else ((line,), device_type, None)
    if line == "physiologic":
        return "patient-reported" if by_patient else "no-device"
    if source != "patient-reported":
        return "no-device"
    if performers and not by_patient:
        return "not-from-the-patient"
    return (line,), device_type, None


def _without_duplicates(
    facts: Facts, found: list[tuple[str, Resource, list[Moment]]]
) -> list[tuple[str, Resource, list[Moment]]]:
    """D18, D28: the same identifier, the newer counts; the same (coding, device, effective, value), one; what
    another says it replaces is that one."""
    replaced = {name for ref, r, _ in found for name in _replaced_by(facts, r) if name != ref}
    facts.excluded |= {ref: "duplicate" for ref, _, _ in found if ref in replaced}
    found = [one for one in found if one[0] not in replaced]
    instants: dict[Any, set[Moment]] = {}
    for _, r, moments in found:
        for name in _names(r):
            instants.setdefault(name, set()).add(moments[0])
    seen: set[Any] = set()
    left = []
    for ref, r, moments in _newest_first(facts, found):
        keys: list[Any] = [name for name in _names(r) if len(instants[name]) < 3]
        effective = {k: v for k, v in r.items() if k.startswith("effective")}
        value = {k: v for k, v in r.items() if k.startswith("value") or k == "component"}
        keys.append(repr((_codings(r.get("code")), r.get("device"), effective, value)))
        if any(key in seen for key in keys):
            facts.excluded[ref] = "duplicate"
        else:
            left.append((ref, r, moments))
        seen.update(keys)
    return sorted(left, key=lambda one: (_first_second(facts, one[2][0]), one[0]))


def _replaced_by(facts: Facts, r: Resource) -> list[str]:
    """The Observations that a reading says it was sent in the place of."""
    stated = [e for e in r.get("extension") or [] if e.get("url") == REPLACES]
    return [_meant(facts, e.get("valueReference"), "Observation/") for e in stated]


def _names(r: Resource) -> list[tuple[Any, Any]]:
    """The identifiers of a reading."""
    return [(i.get("system"), i.get("value")) for i in r.get("identifier") or []]


def _newest_first(
    facts: Facts, found: list[tuple[str, Resource, list[Moment]]]
) -> list[tuple[str, Resource, list[Moment]]]:
    """By the date of the record, then by that of the measurement, the later first; equals by name."""

    def age(one: tuple[str, Resource, list[Moment]]) -> tuple[float, float, str]:
        written = _instant((one[1].get("meta") or {}).get("lastUpdated"), facts.zone)
        measured = _first_second(facts, one[2][0])
        return -(written if written is not None else -math.inf), -measured, one[0]

    return sorted(found, key=age)


def _set_up_days(facts: Facts, program: str) -> list[tuple[date, str]]:
    """The finished set-ups of a program, or of any."""
    found = [
        (w.span.start, w.ref)
        for w in facts.works
        if w.activity == "setup-education"
        and w.program in (program, "any")
        and w.finished
        and not w.billed_elsewhere
    ]
    return [(_local_day(start, facts.zone), ref) for start, ref in sorted(found)]


def _pass_over_other_care(facts: Facts, program: str) -> None:
    """An EpisodeOfCare that is over and holds nothing of the program is about something else.

    Not in the source's text, but decided since: as written (D3, D4) any old EpisodeOfCare ends a program.
    """
    held = [(r.day, r.day) for r in facts.readings if r.line in LINES[program]]
    held += [(day, day) for day, _ in _set_up_days(facts, program)]
    held += [(c.first, c.last) for c in facts.held if _program_of(c.code) == program]
    for unclear in facts.unclear_charges:
        if _program_of(unclear.code) == program and unclear.first and unclear.last:
            held.append((unclear.first, unclear.last))
    for work in [*facts.works, *facts.implausible]:
        if work.program == program and (work.counts or work.activity == "in-person") and work.finished:
            days = _days_of_work(facts, work) or [_local_day(work.span.start, facts.zone)]
            held.append((min(days), max(days)))
    facts.care_of[program] = []
    for start, end in facts.care:
        over = end is not None and start <= end < facts.as_of
        if end is None or not over or any(first <= end and start <= last for first, last in held):
            facts.care_of[program].append((start, end))
            continue
        before = facts.history_from is not None and start < facts.history_from
        if before or facts.lacks("Observation", start, end) or facts.lacks("Encounter", start, end):
            facts.care_unread[program] = min(end, facts.care_unread.get(program, end))


def _leave_out_before_set_up(facts: Facts, program: str) -> None:
    """D3: readings of an episode before its first set-up don't count, unless a device charge is older."""
    for episode in _episodes(facts, program):
        begins = _set_up_that_begins(facts, program, episode)
        if begins is not None:
            early = {r.day for r in facts.readings if episode.holds(r.day) and r.day < begins}
            _leave_out_days(facts, program, early, "before-set-up")


def _set_up_that_begins(facts: Facts, program: str, episode: Episode) -> date | None:
    """D3: the day of the first set-up of an episode, before which nothing counts; None: nothing says so."""
    episodes = _episodes(facts, program)
    set_ups = [day for day, _ in _set_up_days(facts, program) if episode.holds(day)]
    charges = [c for c in _device_charges(facts, program) if _is_of(c, episode, episodes)]
    return set_ups[0] if set_ups and not any(c.first < set_ups[0] for c in charges) else None


def _leave_out_outside_episodes(facts: Facts, program: str) -> None:
    """D3, D4: with an EpisodeOfCare only the days of an episode count."""
    episodes = _episodes(facts, program)
    days = {r.day for r in facts.readings}
    outside = {day for day in days if not any(e.holds(day) for e in episodes)}
    _leave_out_days(facts, program, outside, "outside-episode")


def _leave_out_days(facts: Facts, program: str, days: set[date], reason: str) -> None:
    """Readings of a program on these days don't count; a doubt about one is the reason that is told."""
    out = [r for r in facts.readings if r.line in LINES[program] and r.day in days]
    facts.excluded |= {r.ref: r.doubt or reason for r in out}
    facts.readings = [r for r in facts.readings if r not in out]


# -- one program ----------------------------------------------------------


def _decide(facts: Facts, program: str) -> list[Decision]:
    """Every decision of one program, before the two programs are compared."""
    facts.begun[program] = _begun(facts, program)
    if facts.begun[program] is None:
        return []
    decisions: list[Decision] = []
    for episode in _episodes(facts, program):
        for window in _periods(facts, program, episode):
            for line in LINES[program]:
                if line in DEVICE_CODES:
                    decisions += _device_codes(facts, program, episode, line, window)
        _hold_by_late_charges(facts, decisions)
        first = _first_period(facts, program, episode)
        if first is not None:
            decisions.append(_start_up(facts, program, episode, first))
    if not any(_periods(facts, program, episode) for episode in _episodes(facts, program)):
        held = [*_device_charges(facts, program), *_device_credits(facts, program)]
        facts.excluded |= {c.ref: "charged-period-unclear" for c in held}
    if not any(d.code == START_UP[program] for d in decisions):
        decisions += _stray_start_up_charge(facts, program)
    decisions += _management(facts, program)
    return decisions


def _counted(facts: Facts, program: str) -> list[Reading]:
    """A program's readings that count without a doubt."""
    return [r for r in facts.readings if r.line in LINES[program] and r.doubt is None]


def _begun(facts: Facts, program: str) -> date | None:
    """The first day that shows the program. What is of program any, a set-up above all, never does."""
    days = [r.day for r in _counted(facts, program)]
    days += [c.first for c in facts.held if _program_of(c.code) == program]
    for work in facts.works:
        if work.program != program or not work.finished or work.billed_elsewhere:
            continue
        if work.activity == "setup-education":
            days.append(_local_day(work.span.start, facts.zone))
    works = [w for w in facts.works if w.program in (program, "any")]  # who has a part in it, too (D35)
    for month in _months(facts):
        slices = _slices(facts, program, month, works)
        own = [s for s in slices if s.work.program == program]
        for some in [*_counting(facts, program, slices), *_counting(facts, program, own)]:
            if some.work.program == program:
                days.append(max(month.start, _local_day(some.work.span.start, facts.zone)))
    return min(days, default=None)


def _months(facts: Facts) -> list[Window]:
    """The calendar months with any work, and the one of --as-of."""
    days = {day for w in facts.works for part in w.parts for day in _local_days(facts, part.span)}
    return sorted({_month(day) for day in days | {facts.as_of}}, key=lambda m: m.start)


def _episodes(facts: Facts, program: str) -> list[Episode]:
    """D3, D4: a later EpisodeOfCare that starts after the former ended starts afresh."""
    set_ups = [day for day, _ in _set_up_days(facts, program)]
    if not facts.care_of[program]:
        return [Episode(None, None)]
    found: list[Episode] = []
    for start, end in facts.care_of[program]:
        if not found:
            found.append(Episode(start, end))
        elif found[-1].end is None or start <= found[-1].end:  # it goes on
            ends = [found[-1].end, end]
            last = None if None in ends else max(day for day in ends if day is not None)
            found[-1] = replace(found[-1], end=last)
        else:
            inside = any(start <= day and (end is None or day <= end) for day in set_ups)
            found.append(Episode(start, end, unclear=not inside))
    return found


def _periods(facts: Facts, program: str, episode: Episode) -> list[Window]:
    """D3, D4: the 30-day periods of an episode that hold a counted day or a device charge."""
    days = {r.day for r in _counted(facts, program) if episode.holds(r.day)}
    episodes = _episodes(facts, program)
    charges = [c for c in _device_charges(facts, program) if _is_of(c, episode, episodes)]
    fixed = [c.first for c in charges if _fixes_the_grid(c)]
    if not days and not fixed:
        return []
    anchor = min(fixed) if fixed else min(days)
    earliest = min([*days, *fixed])
    while anchor > earliest:
        anchor -= timedelta(days=PERIOD_DAYS)
    windows = []
    while anchor <= min(facts.as_of, episode.end or facts.as_of):
        window = _period_from(anchor, episode)
        held = [*charges, *(c for c in _device_credits(facts, program) if _is_of(c, episode, episodes))]
        if any(window.holds(day) for day in days) or any(_fits(c, window) for c in held):
            windows.append(window)
        anchor += timedelta(days=PERIOD_DAYS)
    return windows


def _fixes_the_grid(charge: Charge) -> bool:
    """D3: only device charges do, and only with an occurrencePeriod of 30 days."""
    return charge.is_period and (charge.last - charge.first).days == PERIOD_DAYS - 1


def _starts_unseen(facts: Facts, program: str, episode: Episode) -> bool:
    """Older records may exist, and nothing says that the episode began within what was read.

    An EpisodeOfCare says so, else the first set-up; but no set-up where a charge shows that care began
    before: any charge from before what was read, or a device charge that is older than the set-up (D3).
    """
    if facts.history_from is None:
        return False
    if episode.start is not None:
        return episode.start < facts.history_from
    set_ups = [day for day, _ in _set_up_days(facts, program)]
    if not set_ups or set_ups[0] < facts.history_from:
        return True
    if any(c.first < set_ups[0] for c in _device_charges(facts, program)):
        return True
    return any(c.first < facts.history_from for c in facts.charges if _program_of(c.code) == program)


def _anchor_unseen(facts: Facts, program: str, episode: Episode) -> bool:
    """D3: nothing fixes the anchor, neither what was charged for 30 days nor where care began."""
    episodes = _episodes(facts, program)
    charges = [c for c in _device_charges(facts, program) if _is_of(c, episode, episodes)]
    return _starts_unseen(facts, program, episode) and not any(_fixes_the_grid(c) for c in charges)


def _start_of_episode(facts: Facts, program: str, episode: Episode) -> date | None:
    """D3: EpisodeOfCare.period.start; else the first finished set-up; else the first qualifying day."""
    if episode.start is not None:
        return episode.start
    if _starts_unseen(facts, program, episode):
        return None  # a charge from before what was read began the same episode
    set_ups = [day for day, _ in _set_up_days(facts, program)]
    if set_ups and any(c.first < set_ups[0] for c in _device_charges(facts, program)):
        return min([*set_ups, *(r.day for r in _counted(facts, program))])  # readings count before it
    return min(set_ups or [r.day for r in _counted(facts, program)], default=None)


def _start_up_charges(facts: Facts, program: str, episode: Episode) -> list[Charge]:
    """D3: a 98975 / 99453 charge belongs to the episode holding its date."""
    return [c for c in facts.charges if _is_start_up_of(facts, program, episode, c)]


def _is_start_up_of(facts: Facts, program: str, episode: Episode, c: Charge) -> bool:
    """D3: is it the start-up charge of this episode?"""
    start = _start_of_episode(facts, program, episode)
    return c.code == START_UP[program] and episode.holds(c.first) and (start is None or start <= c.first)


def _first_period(facts: Facts, program: str, episode: Episode) -> Window | None:
    """The first 30-day period with a counted day; before there is one, from the set-up or its charge."""
    days = {r.day for r in _counted(facts, program)}
    for window in _periods(facts, program, episode):
        if any(window.holds(day) for day in days):
            return window
    set_ups = [day for day, _ in _set_up_days(facts, program) if episode.holds(day)]
    charged = [c.first for c in _start_up_charges(facts, program, episode)]
    if not set_ups and not charged:
        return None
    window = _period_from(episode.start or min(set_ups or charged), episode)
    if charged or facts.as_of <= window.end or not episode.holds(facts.as_of):
        return window
    return _period_from(facts.as_of, episode)  # it can't begin earlier any more


def _period_from(start: date, episode: Episode) -> Window:
    """2.2, D4: 30 days; the end of an episode cuts the period short but keeps its nominal end."""
    end = start + timedelta(days=PERIOD_DAYS - 1)
    return Window(start, end, min(end, episode.end or end))


def _is_of(charge: Charge, episode: Episode, episodes: list[Episode]) -> bool:
    """A charge belongs to the last episode that had started by then (else the first), not after its end."""
    started = [e for e in episodes if e.start is None or e.start <= charge.first]
    of = started[-1] if started else episodes[0]
    return of == episode and (of.end is None or charge.first <= of.end)


def _device_charges(facts: Facts, program: str) -> list[Charge]:
    """The charges of device codes of a program."""
    return [c for c in facts.charges if c.code in LINE_OF_CODE and _program_of(c.code) == program]


def _device_credits(facts: Facts, program: str) -> list[Charge]:
    """D29: and those that were taken back, with what took them back."""
    return [c for c in facts.credits if c.code in LINE_OF_CODE and _program_of(c.code) == program]


def _fits(charge: Charge, window: Window) -> bool:
    """D3: a charge belongs to the window that holds its date, or its period from end to end."""
    return window.start <= charge.first and charge.last <= window.end


# -- device supply ----------------------------------------------------------


def _by_type(
    facts: Facts, lines: Collection[str], episode: Episode, window: Window
) -> dict[tuple[str, str], dict[date, Reading]]:
    """D8: for each single device type of these lines its counted days, each with its earliest reading."""
    found: dict[tuple[str, str], dict[date, Reading]] = {key: {} for key in facts.first_used}
    for reading in facts.readings:
        here = episode.holds(reading.day) and window.holds(reading.day)
        if reading.line in lines and reading.doubt is None and here:
            found[reading.line, reading.device_type].setdefault(reading.day, reading)
    return {key: days for key, days in found.items() if days}


def _best(by_type: Mapping[Any, dict[date, Reading]]) -> dict[date, Reading]:
    """The type with most days; among equals the one that was used first."""
    return max(by_type.values(), key=len, default={})


def _unknown_of_devices(days: Mapping[date, Reading], asked: set[str]) -> set[str]:
    """D39: what must be stated, unless it is known of the device of every counted day."""
    return {what for what in asked if not days or any(what not in r.device_facts for r in days.values())}


def _evidence(days: Mapping[date, Reading]) -> list[str]:
    """Contract: one reading a counted day, the earliest."""
    return [days[day].ref for day in sorted(days)]


def _device_codes(facts: Facts, program: str, episode: Episode, line: str, window: Window) -> list[Decision]:
    """1.3: 2 to 15 days the short code, from 16 the long one; both are told."""
    by_type = _by_type(facts, {line}, episode, window)
    episodes = _episodes(facts, program)

    def is_of_window(c: Charge) -> bool:
        return c.code in DEVICE_CODES[line] and _is_of(c, episode, episodes) and _fits(c, window)

    charges = [c for c in facts.charges if is_of_window(c)]
    if not by_type and not any(is_of_window(c) for c in facts.held):
        return []
    best = _best(by_type)
    found = []
    for code in DEVICE_CODES[line]:
        needed = _rule(facts, code, window.closes).least
        if needed is None:
            continue
        decision = Decision(
            code,
            program,
            line,
            window,
            {"monitoring-days": (len(best), needed, _evidence(best))},
            unmet=len(best) < needed,
            reachable=facts.as_of <= window.closes
            and any(_still_possible(facts, days, window) >= needed for days in [*by_type.values(), {}]),
            open=facts.as_of <= window.closes,
            charges=[c for c in charges if c.code == code],
            credits=[c for c in facts.credits if c.code == code and is_of_window(c)],
            service_date=window.closes,
        )
        found.append(decision)
    _relate(found)
    if any(d.charges for d in found[:-1]) or (
        len(found) == 1 and any(c.code != found[0].code for c in charges)
    ):
        found[-1].doubts.add("charged-otherwise")
    for decision in found:
        _doubt_period(facts, program, episode, decision)
        decision.unverified |= {note for reading in best.values() for note in reading.unverified}
        decision.unverified |= _unknown_of_devices(best, {"fda-device", "device-supplied-by-practice"})
        _doubt_days(facts, line, decision, by_type)
        _doubt_unread_days(facts, program, episode, decision, by_type)
        _doubt_by_rule_change(facts, decision, len(best))
        decision.forecast = _more_days(facts, decision, found[-1])
    return found


def _more_days(facts: Facts, d: Decision, longer: Decision) -> dict[str, Any] | None:
    """Contract, `forecast`: the days missing to this code while it is unmet, else to the longer one."""
    target = d if d.unmet else longer
    if d.charges or target.charges or not target.unmet or not (target.open and target.reachable):
        return None
    found, needed, _ = target.found["monitoring-days"]
    return _days_to_come(needed - found, target)


def _days_to_come(missing: int, d: Decision) -> dict[str, Any]:
    """The last day from which on a reading every day still suffices."""
    until = d.window.closes - timedelta(days=missing - 1)
    return {"missing": missing, "unit": "days", "reachable_until": until.isoformat(), "next_code": d.code}


def _still_possible(facts: Facts, days: Collection[date], window: Window) -> int:
    """D9: days counted, and days from --as-of to the end on which nothing has counted yet."""
    return len(set(days) | set(_days(max(facts.as_of, window.start), window.closes)))


def _relate(tiers: list[Decision]) -> None:
    """1.4: the higher code met or charged blocks the lower; a charged lower one holds the higher."""
    for low, high in pairwise(tiers):
        if high.met_or_charged:
            low.blocked_by = high.code


def _charged_more_specifically(facts: Facts, window: Window) -> bool:
    """D41: continuous glucose or self-measured blood pressure is charged in the window."""
    return any(first <= window.end and window.start <= last for first, last in facts.specific_charges)


def _doubt_period(facts: Facts, program: str, episode: Episode, decision: Decision) -> None:
    """D3, D4, D41 for a device code."""
    window = decision.window
    episodes = _episodes(facts, program)
    windows = [(e, w) for e in episodes for w in _periods(facts, program, e)]
    days = {r.day for r in _counted(facts, program)}
    if episode.unclear:
        decision.doubts.add("episode-unclear")
    if _after_a_long_gap(facts, program, window):
        decision.doubts.add("episode-unclear")
    if _anchor_unseen(facts, program, episode):
        decision.doubts.add("history-incomplete")
    if program == "rpm" and _charged_more_specifically(facts, window):
        decision.doubts.add("charged-otherwise")
    for charge in [*_device_charges(facts, program), *_device_credits(facts, program)]:
        touches = _touches(charge, window)
        fits = any(_fits(charge, w) and _is_of(charge, e, episodes) for e, w in windows)
        elsewhere = any(_touches(charge, w) and any(w.holds(day) for day in days) for _, w in windows)
        if not fits and (touches or not elsewhere):
            if charge in facts.charges:
                decision.doubts.add("charged-period-unclear")
            else:
                decision.unverified.add("prior-charges")


def _hold_by_late_charges(facts: Facts, decisions: list[Decision]) -> None:
    """D29: a single date too early for its own window may be of the last one before, if that is uncharged."""
    early = [
        o
        for o in decisions
        for c in o.charges
        if o.line
        and not c.is_period
        and (c.first - o.window.start).days + 1 < (_rule(facts, c.code, c.first).least or 0)
    ]
    for d in decisions:
        of_window = [o for o in decisions if o.window == d.window and o.line == d.line]
        if d.line is None or any(o.charges for o in of_window):
            continue
        for o in early:
            before = [
                b.window.start for b in decisions if b.line == o.line and b.window.start < o.window.start
            ]
            if o.line == d.line and before and d.window.start == max(before):
                d.doubts.add("charged-period-unclear")


def _touches(charge: Charge, window: Window) -> bool:
    """Do they share a day?"""
    return charge.first <= window.end and window.start <= charge.last


def _after_a_long_gap(facts: Facts, program: str, window: Window) -> bool:
    """D4: more than 90 empty days without EpisodeOfCare, and the window holds a counted day after them."""
    if facts.care_of[program]:
        return False
    days = sorted({r.day for r in _counted(facts, program)})
    for before, after in pairwise(days):
        if (after - before).days - 1 > EMPTY_DAYS:
            return any(window.holds(day) for day in days if day >= after)
    return False


def _doubtful(facts: Facts, lines: Collection[str], window: Window) -> tuple[set[date], set[str]]:
    """The days of a window with evidence that was left out in doubt, and the doubts."""
    doubtful = [r for r in facts.readings if r.doubt and r.line in lines]
    found = [(r.day, str(r.doubt)) for r in doubtful if window.holds(r.day)]
    return {day for day, _ in found}, {doubt for _, doubt in found}


def _doubt_days(
    facts: Facts, line: str, decision: Decision, by_type: Mapping[tuple[str, str], dict[date, Reading]]
) -> None:
    """Evidence left out in doubt: review of a met code that it would change, else only a reason."""
    days, kinds = _doubtful(facts, {line}, decision.window)
    if not days:
        return
    now = max((len(found) for found in by_type.values()), default=0)
    then = max([len(days), *(len(days | set(found)) for found in by_type.values())])
    if _tier(facts, line, decision.window, now) != _tier(facts, line, decision.window, then):
        decision.doubts |= kinds
    if then >= decision.found["monitoring-days"][1]:
        decision.remarks |= kinds


def _tier(facts: Facts, line: str, window: Window, days: int) -> int:
    """1.3: none, the short or the long code."""
    rules = [_rule(facts, code, window.closes) for code in DEVICE_CODES[line]]
    least = [rule.least or short for rule, short in zip(rules, (SHORT_DAYS, LONG_DAYS), strict=True)]
    return sum(days >= needed for needed in least)


# -- what was not read (D20) ----------------------------------------------------------


def _most_days(facts: Facts, days: Collection[date], window: Window, until: date | None = None) -> int:
    """How many days of a window these may be, with what wasn't read, up to --as-of (or a day before).

    A reader who can't say how much is missing may miss any day; a broken entry is one, the most constrained
    first.
    """
    last = min(window.closes, facts.as_of, until or window.closes)
    found = {day for day in days if day <= last}
    unread = facts.lacks("Observation", window.start, last)
    if not unread:
        return len(found)
    for one in unread:
        if not one.entries:
            found |= one.days(window.start, last)
    left = {n: one.entries for n, one in enumerate(unread) if one.entries}
    for day in sorted(set(_days(window.start, last)) - found):
        able = [n for n in left if left[n] and unread[n].touches(day, day)]
        if able:
            first_to_end = min(able, key=lambda n: unread[n].end or date.max)
            left[first_to_end] -= 1
            found.add(day)
    return len(found)


def _fixed_anchor(facts: Facts, program: str, episode: Episode) -> date | None:
    """D3: the earliest device charge of 30 days; nothing else fixes the anchor for good."""
    episodes = _episodes(facts, program)
    charges = [c for c in _device_charges(facts, program) if _is_of(c, episode, episodes)]
    return min((c.first for c in charges if _fixes_the_grid(c)), default=None)


def _anchor_could_move(facts: Facts, program: str, episode: Episode) -> bool:
    """D20 (a), (c): nothing has fixed it, and an earlier day may count, which isn't whole periods earlier."""
    days = [r.day for r in _counted(facts, program) if episode.holds(r.day)]
    if not days or _fixed_anchor(facts, program, episode) is not None:
        return False
    bounds = [episode.start, _set_up_that_begins(facts, program, episode)]
    begins = max((day for day in bounds if day is not None), default=date.min)
    lost = [
        r.day for r in facts.readings if r.unresolved and r.line in LINES[program] and episode.holds(r.day)
    ]
    if facts.lacks("Device") and any(begins <= day < min(days) for day in lost):
        return True
    for one in facts.lacks("Observation"):
        last = min(min(days) - DAY, one.end or date.max)
        earliest = [*bounds, one.start, last - timedelta(days=PERIOD_DAYS)]  # days further back are no others
        first = max(day for day in earliest if day is not None)
        if any((min(days) - day).days % PERIOD_DAYS for day in _days(first, last)):
            return True
    return False


def _doubt_unread_days(
    facts: Facts,
    program: str,
    episode: Episode,
    decision: Decision,
    by_type: Mapping[tuple[str, str], dict[date, Reading]],
) -> None:
    """D20 (a), (c): review, where days that weren't read could change the tier or move the period."""
    window = decision.window
    line = str(decision.line)
    moves = _anchor_could_move(facts, program, episode)
    now = max((len(found) for found in by_type.values()), default=0)
    then = max(_most_days(facts, found, window) for found in [*by_type.values(), {}])
    if moves or _tier(facts, line, window, now) != _tier(facts, line, window, then):
        decision.doubts.add("record-incomplete")
    if moves or then >= decision.found["monitoring-days"][1]:
        decision.remarks.add("record-incomplete")
    unresolved = {r.day for r in facts.readings if r.unresolved and r.line == line and window.holds(r.day)}
    if unresolved and facts.lacks("Device"):
        then = max(len(unresolved | set(found)) for found in [*by_type.values(), {}])
        if _tier(facts, line, window, now) != _tier(facts, line, window, then):
            decision.doubts.add("record-incomplete")
        if then >= decision.found["monitoring-days"][1]:
            decision.remarks.add("record-incomplete")
        for told in (decision.doubts, decision.remarks):  # and wherever they are a doubt, with others
            if "device-unknown" in told:
                told.add("record-incomplete")


def _could_have(facts: Facts, lines: Collection[str], window: Window, least: int | None) -> bool:
    """Could these lines have so many days in a window, with what wasn't read or whose device wasn't?"""
    here = [r for r in facts.readings if r.line in lines and window.holds(r.day)]
    lost = {r.day for r in here if r.unresolved} if facts.lacks("Device") else set()
    days = {r.day for r in here if r.doubt is None} | lost
    if least is None or not (lost or facts.lacks("Observation", window.start, window.closes)):
        return False
    return _most_days(facts, days, window) >= least


def _other_program_unread(facts: Facts, d: Decision) -> bool:
    """D1, D20: may the other program's code be met in a window sharing a day, for all that anybody read?"""
    other = "rpm" if d.program == "rtm" else "rtm"
    months = Window(_month(d.window.start).start, _month(d.window.end).end, _month(d.window.end).end)
    if months.start <= facts.as_of and _unread_encounters(facts, months):
        return True
    most = timedelta(days=PERIOD_DAYS - 1)
    last = min(d.window.end + most, facts.as_of)
    codes = [START_UP[other], *(c for line in LINES[other] for c in DEVICE_CODES.get(line, ()))]
    asked = [_rule(facts, code, last).least for code in codes]
    least = min((days for days in asked if days is not None), default=None)
    return _could_have(facts, LINES[other], Window(d.window.start - most, last, last), least)


def _other_line_unread(facts: Facts, d: Decision) -> bool:
    """D2, D20: may the device code of another line be met in the same period?"""
    if d.line is None:
        return False
    last = min(d.window.closes, facts.as_of)
    period = Window(d.window.start, last, last)
    return any(
        _could_have(facts, {line}, period, _rule(facts, code, d.window.closes).least)
        for line, codes in DEVICE_CODES.items()
        if line != d.line and line in LINES[d.program]
        for code in codes
    )


# -- rules that change (D34), of a payer (section 6, D40), of a year (D37) ---------------------------------


@dataclass(frozen=True)
class Rule:
    """What a code asks on a day of service: days or seconds (None: it isn't in force); is it paid for?"""

    least: int | None
    covered: str


def _rule(facts: Facts, code: str, day: date, until: date = date.max) -> Rule:
    """1.1, then what the payer changes: the last row by then, one that names the code before one of all.

    `until`: the window's end, after which a diagnosis comes too late.
    """
    least = _least(code, day)
    if facts.site.payer_rows is None:
        continues = facts.payer == "unitedhealthcare" and _program_of(code) == "rpm" and day >= NEW_RULES
        return Rule(least, "yes" if facts.payer == "medicare" or continues else "missing")
    rows = [
        (str(row["from"]), row["codes"] != "all", row)
        for row in facts.site.payer_rows
        if str(row["from"]) <= day.isoformat() and (row["codes"] == "all" or code in row["codes"])
    ]
    if not rows:
        return Rule(least, "missing")
    row = max(rows, key=lambda one: one[:2])[2]
    covered = str(row["covered"])
    if covered == "yes" and row.get("diagnoses") and not _has_one_of(facts, row["diagnoses"], until):
        covered = "criteria"
    return Rule(row.get("least", least) if least is not None else None, covered)


def _has_one_of(facts: Facts, diagnoses: Iterable[str], until: date) -> bool:
    """D40: an active Condition whose code of ICD-10-CM begins so, there by the window's end."""
    had = [coding for coding, since in facts.conditions if since <= until]
    codes = [code.replace(".", "").upper() for system, code in had if system == ICD_10]
    return any(code.startswith(diagnosis.replace(".", "")) for code in codes for diagnosis in diagnoses)


def _day(told: Any) -> date:
    """Of a table, where YAML has made a date of it or not."""
    return date.fromisoformat(str(told))


@cache
def _least(code: str, day: date) -> int | None:
    """1.1: what a code asks for, from when on."""
    if day < IN_FORCE_FROM[code]:
        return None
    if code in START_UP.values():
        return SHORT_DAYS if day >= NEW_RULES else LONG_DAYS
    if code in LINE_OF_CODE:
        return (SHORT_DAYS, LONG_DAYS)[DEVICE_CODES[LINE_OF_CODE[code]].index(code)]
    return {"98979": TEN, "99470": TEN, "98981": 2 * TWENTY, "99458": 2 * TWENTY}.get(code, TWENTY)


def _doubt_by_rule_change(facts: Facts, d: Decision, found: int) -> None:
    """D34: would another rule of the window answer otherwise?"""
    until = d.window.end
    last = _rule(facts, d.code, d.service_date or d.window.closes, until)
    turns = {NEW_RULES, IN_FORCE_FROM[d.code], *(_day(row["from"]) for row in facts.site.payer_rows or [])}
    days = {d.window.start, *filter(d.window.holds, turns)}
    for rule in {_rule(facts, d.code, day, until) for day in days}:
        met = rule.least is not None and found >= rule.least
        known = "missing" not in (rule.covered, last.covered)
        changes = known and (rule.covered == "yes") != (last.covered == "yes")
        if met == d.unmet or (met and changes):
            d.doubts.add("straddles-rule-change")
            if met:
                d.remarks.add("straddles-rule-change")


def _by_coverage(facts: Facts, d: Decision) -> set[str]:
    """Section 6: what the payer's answer makes of a met code."""
    covered = _rule(facts, d.code, d.service_date or d.window.closes, d.window.end).covered
    reasons = {"yes": set(), "no": {"payer-does-not-cover"}}
    reasons |= {"unknown": {"payer-unknown"}, "missing": {"payer-unknown"}}
    return reasons.get(covered, {"payer-criteria"})


def _year_is_confirmed(facts: Facts, code: str, day: date) -> bool:
    """D37: the site said so of this code and day, for twelve months at most, by --as-of."""
    return any(
        (entry["codes"] == "all" or code in entry["codes"])
        and day.isoformat() <= str(entry["to"])
        and day <= CONFIRMED_AT_MOST_TO
        and str(entry["on"]) <= facts.as_of.isoformat()
        for entry in facts.site.confirmed
    )


# -- start-up ----------------------------------------------------------


def _threshold(facts: Facts, program: str, day: date) -> int:
    """1.1: days for 98975 / 99453 on that day."""
    least = _rule(facts, START_UP[program], day).least
    return LONG_DAYS if least is None else least


def _reached(
    facts: Facts, program: str, best_by_day: Callable[[date], int], window: Window, last: date
) -> date | None:
    """D9: the first day on which the count so far reaches the threshold in force that day."""
    for day in _days(window.start, min(window.closes, last)):
        if best_by_day(day) >= _threshold(facts, program, day):
            return day
    return None


def _start_up(facts: Facts, program: str, episode: Episode, window: Window) -> Decision:
    """98975 / 99453, once an episode (D3, D8, D9, D16)."""
    by_type: dict[str, dict[date, Reading]] = {}
    for (_, device_type), days_of_line in _by_type(facts, LINES[program], episode, window).items():
        for day, reading in days_of_line.items():  # one type may serve several lines
            held = by_type.setdefault(device_type, {}).setdefault(day, reading)
            by_type[device_type][day] = min(held, reading, key=lambda r: (r.instant, r.ref))
    best = _best(by_type)

    def so_far(day: date) -> int:
        return max((sum(d <= day for d in days) for days in by_type.values()), default=0)

    def at_most(day: date) -> int:
        to_come = set(_days(facts.as_of, day))
        return max(
            (len({d for d in days if d <= day} | to_come) for days in [*by_type.values(), {}]), default=0
        )

    ahead = window if best else _period_from(facts.as_of, episode)
    doubtful, kinds = _doubtful(facts, LINES[program], window)

    def with_doubtful(day: date) -> int:
        return max(len({d for d in {*days, *doubtful} if d <= day}) for days in [*by_type.values(), {}])

    lines = LINES[program]
    lost = (
        {r.day for r in facts.readings if r.unresolved and r.line in lines}
        if facts.lacks("Device")
        else set()
    )
    lost = {day for day in lost if window.holds(day)}

    def with_unread(day: date) -> int:
        return max(_most_days(facts, lost | set(days), window, day) for days in [*by_type.values(), {}])

    reached = _reached(facts, program, so_far, window, facts.as_of)
    set_ups = [ref for day, ref in _set_up_days(facts, program) if episode.holds(day)]
    needed = _threshold(facts, program, reached or min(facts.as_of, window.closes))
    code = START_UP[program]
    decision = Decision(
        code,
        program,
        None,
        window,
        {
            "monitoring-days": (len(best), needed, _evidence(best)),
            "set-up": (min(1, len(set_ups)), 1, set_ups[:1]),
        },
        unmet=reached is None,
        reachable=_reached(facts, program, at_most, ahead, ahead.closes) is not None,
        open=reached == facts.as_of,
        charges=_start_up_charges(facts, program, episode),
        credits=[c for c in facts.credits if _is_start_up_of(facts, program, episode, c)],
        service_date=reached,
    )
    if not best and not set_ups and decision.charges:
        decision.found = {}
    decision.unverified |= {note for reading in best.values() for note in reading.unverified}
    decision.unverified |= _unknown_of_devices(best, {"fda-device"})
    if decision.unmet and decision.reachable and not decision.charges:
        missing = max(1, _threshold(facts, program, window.closes) - len(best))
        decision.forecast = _days_to_come(missing, decision)
    if _reached(facts, program, with_doubtful, window, facts.as_of) is not None:
        decision.remarks |= kinds
    _doubt_by_rule_change(facts, decision, len(best))
    _doubt_start_up(facts, program, episode, decision, best)
    then = _reached(facts, program, with_unread, window, facts.as_of)
    if then != reached or _begins_unread(facts, program, episode, window):
        decision.doubts.add("record-incomplete")
        if then is not None or _begins_unread(facts, program, episode, window):
            decision.remarks.add("record-incomplete")
    return decision


def _begins_unread(facts: Facts, program: str, episode: Episode, window: Window) -> bool:
    """D20 (a): could an earlier day count, so that the first period is another one?"""
    bounds = [
        _fixed_anchor(facts, program, episode),
        episode.start,
        _set_up_that_begins(facts, program, episode),
    ]
    first = max((day for day in bounds if day is not None), default=date.min)
    if not any(episode.holds(r.day) for r in _counted(facts, program)) or first >= window.start:
        return False
    lost = [
        r.day for r in facts.readings if r.unresolved and r.line in LINES[program] and episode.holds(r.day)
    ]
    if facts.lacks("Device") and any(first <= day < window.start for day in lost):
        return True
    return bool(facts.lacks("Observation", first, window.start - DAY))


def _doubt_start_up(
    facts: Facts, program: str, episode: Episode, decision: Decision, best: Mapping[date, Reading]
) -> None:
    """D3, D4, D41 for 98975 / 99453, and the contract: a set-up the record doesn't show is a question."""
    window, code = decision.window, decision.code
    if not any(episode.holds(day) for day, _ in _set_up_days(facts, program)):
        decision.doubts.add("setup-not-documented")
    if episode.unclear:
        decision.doubts.add("episode-unclear")
    if _starts_unseen(facts, program, episode):
        decision.doubts.add("history-incomplete")
    if program == "rpm" and _charged_more_specifically(facts, window):
        decision.doubts.add("charged-otherwise")
    if any(r.line == "other" for r in best.values()):
        decision.doubts.add("no-device-code")
    fitting = [c for e in _episodes(facts, program) for c in _start_up_charges(facts, program, e)]
    if any(c.code == code and c not in fitting for c in facts.charges):
        decision.doubts.add("charged-period-unclear")


def _stray_start_up_charge(facts: Facts, program: str) -> list[Decision]:
    """Contract: what the EHR holds is told as charged, also where nothing else of an episode is known."""
    charges = [c for c in facts.charges if c.code == START_UP[program]]
    if not charges:
        return []
    first = min(c.first for c in charges)
    window = _period_from(first, Episode(None, None))
    return [
        Decision(
            START_UP[program], program, None, window, {}, False, False, False, 1, charges, service_date=first
        )  # credits that don't take all of it back are told where its episode is known
    ]


# -- management ----------------------------------------------------------


@dataclass(frozen=True)
class Slice:
    """What one participant of one Encounter gives to a month; `number`: of the Encounter among others."""

    work: Work
    person: str
    role: str
    seconds: frozenset[int]
    bare: bool
    number: int


def _management(facts: Facts, program: str) -> list[Decision]:
    """1.2: the months that hold something of the program, and the open one."""
    months = {_month(facts.as_of)}
    months |= {_month(r.day) for r in _counted(facts, program)}
    months |= {_month(day) for day, _ in _set_up_days(facts, program)}
    months |= {
        m
        for m in _months(facts)
        if _counting(facts, program, _slices(facts, program, m, _shown(facts, program, m)))
        or any(w.program == program for w in _in_person(facts, program, m, facts.works))
    }
    months |= {_month(c.first) for c in facts.held if c.code in MANAGEMENT[program]}
    found = []
    for month in sorted(months, key=lambda m: m.start):
        if month.start <= facts.as_of:
            found += _month_codes(facts, program, month)
    return found


def _removed(facts: Facts) -> list[range]:
    """D11: seconds also covered by a set-up, administrative, visit, in-person or other span are out."""
    return [
        span
        for w in [*facts.works, *facts.implausible]
        if (w.activity in TAKES_TIME_AWAY or w.program == "other" or w.billed_elsewhere) and not w.endless
        for span in ([] if any(p.bare for p in w.parts) else [w.span, *(p.span for p in w.parts)])
    ]


def _visit_days(facts: Facts) -> set[tuple[str, date]]:
    """D11, D35: who ("": nobody can tell) had a finished E/M visit on which local day.

    E/M visits are those of physicians and qualified professionals, and of those whose role nobody knows.
    """
    return {
        (part.person if _is_known(part) else "", day)
        for w in facts.works
        if (w.activity in ("visit", "in-person") or w.ref in facts.reported_visits)
        and w.finished
        and not w.endless
        for part in w.parts
        if part.role in PROFESSIONALS | UNKNOWN_ROLE
        for span in (part.span, _nominal(facts, w) or part.span)
        for day in _local_days(facts, span)
    } | facts.charged_visits


def _is_of_the_program(facts: Facts, person: str, people: Collection[str]) -> bool:
    """D35: one of the program's people, or of the specialty and organisation of one of them."""
    ours = {one for other in people for one in _affiliations(facts, other)}
    return person in people or bool(_affiliations(facts, person) & ours)


def _people_of(facts: Facts, program: str, slices: Iterable[Slice]) -> set[str]:
    """D35: the month's counted staff, who ordered it, manages the care, performed what was charged."""
    others = {who for of, who in facts.ordered | facts.performed if of == program}
    return {s.person for s in _counting(facts, program, list(slices))} | others | facts.manage_care


def _nominal(facts: Facts, work: Work) -> range:
    """A visit's own period, whatever its length says: in doubt its last day was a visit day too."""
    r = facts.resources[work.ref]
    return _span(facts, {**r, "length": {}}, r.get("period"))


def _local_days(facts: Facts, span: range) -> list[date]:
    """The local days a span touches; an end at midnight touches no further day."""
    first = _local_day(span.start, facts.zone)
    return list(_days(first, _local_day(span.stop - 1, facts.zone) if span else first))


def _at_work(facts: Facts, program: str, month: Window, works: Iterable[Work]) -> list[Slice]:
    """D35: everybody's work of the month, whatever else takes its seconds: it shows who has a part in it."""
    return _before_visits(facts, program, month, works, removed=[])


def _before_visits(
    facts: Facts,
    program: str,
    month: Window,
    works: Iterable[Work],
    gone: Iterable[date] = (),
    removed: list[range] | None = None,
) -> list[Slice]:
    """The seconds of each participant in the month that nothing else has used, visits apart.

    `gone`: days of which nothing counts, whoever's it is.
    """
    used = _removed(facts) if removed is None else removed
    of_the_month = _seconds_of(month.start, month.end, facts.zone)
    found = []
    for number, work in enumerate(works):
        if not work.counts or work.program not in (program, "any"):
            continue
        for part in work.parts:
            span = _overlap(part.span, of_the_month)
            seconds = set(span)
            for other in used if not part.bare else []:
                seconds.difference_update(_overlap(span, other))
            for day in gone:
                seconds.difference_update(_overlap(span, _seconds_of(day, day, facts.zone)))
            if seconds:
                found.append(Slice(work, part.person, part.role, frozenset(seconds), part.bare, number))
    return found


def _slices(
    facts: Facts,
    program: str,
    month: Window,
    works: Iterable[Work],
    gone: Iterable[date] = (),
    doubtful_visits: bool = False,
) -> list[Slice]:
    """The countable seconds of each participant in the month: D11 and D35 taken out, whoever it is.

    `doubtful_visits`: what if visits of which nobody can tell whose they were are of the program's people?
    """
    before = _before_visits(facts, program, month, works, gone)
    people = _people_of(facts, program, _at_work(facts, program, month, works))
    ours = {(who, day) for who, day in _visit_days(facts) if _is_of_the_program(facts, who, people)}
    ours |= {(who, day) for who, day in _visit_days(facts) if doubtful_visits and not who}
    found = []
    for s in before:
        seconds = set(s.seconds)
        own = {day for who, day in _visit_days(facts) if who == s.person}
        if s.role in AUXILIARY | UNKNOWN_ROLE:
            own |= {day for _, day in ours}
        elif s.role in PROFESSIONALS:
            own |= {day for who, day in ours if not who}  # it may have been theirs
        for day in own:
            seconds.difference_update(_seconds_of(day, day, facts.zone))
        if s.bare:  # D13: it counts on that day; beside all else, as nobody knows when
            seconds = {-second - s.number * IMPLAUSIBLE * 9 for second in seconds}
        if seconds:
            found.append(replace(s, seconds=frozenset(seconds)))
    return found


def _shown(facts: Facts, program: str, month: Window, works: Iterable[Work] | None = None) -> list[Work]:
    """The work of a month, among all or some; what is of program any belongs here only from the month that
    shows the program."""
    begun = facts.begun.get(program)
    shows = begun is not None and begun <= month.end
    shows = shows or any(month.holds(day) for day, _ in _set_up_days(facts, program))
    shows = shows or any(w.program == program for w in _in_person(facts, program, month, facts.works))
    among = facts.works if works is None else works
    return [w for w in among if w.program == program or (shows and w.program == "any")]


def _counting(facts: Facts, program: str, slices: list[Slice]) -> list[Slice]:
    """Those of the roles whose time counts."""
    counted, _ = _who_counts(facts, program, {s.role for s in slices})
    return [s for s in slices if s.role in counted]


@dataclass(frozen=True)
class Sum:
    """What some slices come to: seconds, the Encounters behind them, and the talks among these."""

    seconds: int
    works: tuple[str, ...]
    talks: tuple[Work, ...]


def _sum(slices: Iterable[Slice]) -> Sum:
    """D13: the union of the seconds, each once. D11: a call without a counted second is no contact; D26: nor
    is one of days."""
    seconds: Seconds = set()
    works: dict[str, Work] = {}
    for s in slices:
        seconds |= s.seconds
        works[s.work.ref] = s.work
    talks = tuple(
        works[ref] for ref in sorted(works) if works[ref].activity in TALKS and not works[ref].endless
    )
    return Sum(len(seconds), tuple(sorted(works)), talks)


def _earned(program: str, month: Window, seconds: int, contact: bool) -> dict[str, int]:
    """1.2: code -> units for these minutes."""
    ten, twenty, more = MANAGEMENT[program]
    if not contact or seconds < TEN:
        return {}
    if seconds < TWENTY:
        return {ten: 1} if month.end >= IN_FORCE_FROM[ten] else {}
    units = (seconds - TWENTY) // TWENTY
    return {twenty: 1, **({more: units} if units else {})}


def _month_codes(facts: Facts, program: str, month: Window) -> list[Decision]:
    """1.2, D10 to D15: the codes of one month."""
    shown = _shown(facts, program, month)
    slices = _slices(facts, program, month, shown)
    roles = {s.role for s in slices}
    counted, role_doubts = _who_counts(facts, program, roles)
    slices = [s for s in slices if s.role in counted]
    total = _sum(slices)
    in_person = _in_person(facts, program, month, shown)
    talks = [w.ref for w in total.talks or in_person]

    def earned(chosen: Iterable[Slice]) -> dict[str, int]:
        """code -> units, if only these counted."""
        some = _sum(chosen)
        talked = bool(some.talks) if total.talks else bool(some.talks or in_person)
        return _earned(program, month, some.seconds, talked)

    now = earned(slices)
    doubts = _Doubts(now)
    doubts.compare("conversation-unclear", earned(s for s in slices if s.work.clear))
    doubts.compare("staff-role", earned(s for s in slices if not s.work.without_staff))
    with_visits = _slices(facts, program, month, shown, doubtful_visits=True)
    doubts.compare("same-day-visit", earned(_counting(facts, program, with_visits)))
    if program == "rtm":
        doubts.compare("staff-role", earned(s for s in slices if s.role not in UNKNOWN_ROLE))
        for reason in role_doubts:
            doubts.everywhere(reason)
        if "professional" in _kinds(roles) and _kinds(roles) & {"therapist", "assistant"}:
            for group in _two_answers(facts):
                doubts.compare("two-professionals", earned(s for s in slices if s.role in group))
    with_long = _slices(facts, program, month, [*shown, *facts.implausible])
    longer = _counting(facts, program, with_long)
    doubts.compare("implausible-span", earned(longer))
    then = _sum(longer)
    if facts.longer_twins:
        late = [w for w in facts.after_death if w.ref in facts.longer_twins]
        either = (facts.longer_twins.get(w.ref, w) for w in [*facts.works, *late])
        instead = _shown(facts, program, month, [w for w in either if w is not None])
        other = _counting(facts, program, _slices(facts, program, month, instead))
        doubts.compare("implausible-span", earned(other))
        then = max(then, _sum(other), key=lambda some: some.seconds)
    unread = _unread_days_of_month(facts, month)
    if unread:
        gone = _counting(facts, program, _slices(facts, program, month, shown, unread))
        doubts.compare("record-incomplete", earned(gone))
        plenty = total.seconds + _unread_seconds(facts, month)
        doubts.compare("record-incomplete", _earned(program, month, plenty, True))
    _doubt_month(facts, program, month, shown, total, doubts)
    if _holds_a_day_nobody_works(facts, slices):
        doubts.everywhere("implausible-span")
    codes = _three_codes(facts, program, month, total, talks, now, doubts, then)
    for decision in codes:
        if unread:
            decision.remarks.add("record-incomplete")
        decision.unverified |= _statements(facts, total)
        if _beside_a_visit(facts, slices) or facts.lacks(
            "Encounter", month.start, min(month.end, facts.as_of)
        ):
            decision.unverified.add("same-day-services")
        elif _shows_a_visit(facts, month):
            decision.perhaps.add("same-day-services")
        contacts = decision.found["live-contact"][0]
        _doubt_by_rule_change(facts, decision, decision.found["management-time"][0] if contacts else -1)
        decision.modifiers = _modifiers(slices) if program == "rtm" else []
        if program == "rpm" and UNKNOWN_ROLE & {s.role for s in slices}:
            decision.unverified.add("staff-role")  # D14
        decision.forecast = _more_minutes(decision, codes)
    return codes


def _statements(facts: Facts, total: Sum) -> set[str]:
    """D39: a statement about minutes and talks goes only where the record says all of it."""
    found = set()
    if not total.works or any(not _says_when(facts, ref) for ref in total.works):
        found.add("time")
    if not total.talks or any(not _says_when(facts, w.ref) for w in total.talks):
        found.add("conversation")
    return found


def _beside_a_visit(facts: Facts, slices: Iterable[Slice]) -> bool:
    """D35: does a visit of somebody else leave minutes of clinical staff on its day?"""
    days = {day for who, day in _visit_days(facts) if who}
    staff = [s for s in slices if s.role in AUXILIARY | UNKNOWN_ROLE and not s.bare]
    seconds = {second for s in staff for second in s.seconds}
    return any(not seconds.isdisjoint(_seconds_of(day, day, facts.zone)) for day in days)


def _shows_a_visit(facts: Facts, month: Window) -> bool:
    """D39: whoever was with the patient, and when; a set-up is no visit."""
    visits = {
        day for w in facts.works if w.finished and _is_visit(facts, w) for day in _days_of_work(facts, w)
    }
    return any(month.holds(day) for day in visits | {day for _, day in _visit_days(facts)})


def _is_visit(facts: Facts, work: Work) -> bool:
    """Was somebody with the patient, whoever it was?"""
    return work.activity in ("visit", "in-person") or work.ref in facts.reported_visits


def _days_of_work(facts: Facts, work: Work) -> list[date]:
    """The local days of everybody who took part."""
    return [day for part in work.parts for day in _local_days(facts, part.span)]


def _says_when(facts: Facts, ref: str) -> bool:
    """D39: in the site's own coding, with start and end of everybody who took part."""
    r = facts.resources[ref]
    whole = r.get("period") or {}
    periods = [_period_of(facts, r, one) for one in r.get("participant") or []] or [whole]
    moments = [_moment(period.get(key), facts.zone) for period in periods for key in ("start", "end")]
    own = any(coding in facts.site.activities for coding in _types(r))
    return own and all(m is not None and m.instant is not None for m in moments)


def _unread_encounters(facts: Facts, month: Window) -> list[Missing]:
    """D20 (e): what of Encounter wasn't read, unless the site keeps its minutes elsewhere."""
    last = min(month.end, facts.as_of)
    unread = facts.lacks("Encounter", month.start, last)
    return [one for one in unread if not (facts.site.minutes_in_app and one.why == "not-granted")]


def _unread_days_of_month(facts: Facts, month: Window) -> set[date]:
    """D20 (e): the days on which a visit or a call may have been."""
    last = min(month.end, facts.as_of)
    return {day for one in _unread_encounters(facts, month) for day in one.days(month.start, last)}


def _unread_seconds(facts: Facts, month: Window) -> int:
    """D20 (e), D13: what calls that weren't read may come to, each of four hours at most."""
    unread = _unread_encounters(facts, month)
    return sum((one.entries or 31) * IMPLAUSIBLE for one in unread)


def _doubt_month(
    facts: Facts, program: str, month: Window, shown: list[Work], total: Sum, doubts: _Doubts
) -> None:
    """What doubts every code of a month: its talks, its data, a visit on the service date, 99091."""
    if not total.talks:
        doubts.everywhere("conversation-in-person")
    elif all(_spans_months(facts, talk) for talk in total.talks):
        doubts.everywhere("call-across-months")
    if not any(month.holds(r.day) for r in _counted(facts, program)):
        doubts.everywhere("no-data-in-month")
    people = _people_of(facts, program, _at_work(facts, program, month, shown))
    if any(day == month.end and _is_of_the_program(facts, who, people) for who, day in _visit_days(facts)):
        doubts.everywhere("visit-on-service-date")
    if ("", month.end) in _visit_days(facts):
        doubts.everywhere("same-day-visit")
    if _only_other_line(facts, program, month):
        doubts.everywhere("no-device-code")
    if program == "rpm" and any(c.code == "99091" and month.holds(c.first) for c in facts.charges):
        doubts.everywhere("99091")


def _holds_a_day_nobody_works(facts: Facts, slices: list[Slice]) -> bool:
    """D42: more than eight hours of one person on a local day; of whom nobody knows, each contact's own."""
    days: dict[tuple[str, date], set[int]] = {}
    for s in slices if _sum(slices).seconds > 2 * IMPLAUSIBLE else []:
        who = s.person if s.person.startswith(("Practitioner/", "PractitionerRole/")) else s.work.ref
        for second in s.seconds:
            day = _local_day(s.work.span.start if s.bare else second, facts.zone)
            days.setdefault((who, day), set()).add(second)
    return any(len(seconds) > 2 * IMPLAUSIBLE for seconds in days.values())


def _modifiers(slices: list[Slice]) -> list[str]:
    """Section 5: under a therapist of one discipline GP, GO or GN; CQ or CO above a tenth by assistants."""
    roles = {s.role for s in slices}
    disciplines = {DISCIPLINES[role] for role in roles if role in THERAPISTS}
    if len(disciplines) != 1 or roles & PROFESSIONALS:
        return []
    ((therapy, assistants),) = disciplines
    everybody = _sum(slices).seconds
    alone = everybody - _sum(s for s in slices if s.role not in ASSISTANTS).seconds
    return [therapy, assistants] if assistants and alone * 10 > everybody else [therapy]


def _more_minutes(d: Decision, codes: list[Decision]) -> dict[str, Any] | None:
    """Contract, `forecast`: what is missing to this code while it is unmet, else to the next."""
    if not d.open or d.charges or (d.blocked_by and not d.unmet):
        return None
    seconds, needed, _ = d.found["management-time"]
    contacts = d.found["live-contact"][0]
    until = {"reachable_until": d.window.closes.isoformat()}
    ten, twenty, more = MANAGEMENT[d.program]
    if d.unmet and seconds < needed:
        return {"missing": needed - seconds, "unit": "seconds", **until, "next_code": d.code}
    if d.unmet and not contacts:
        return {"missing": 1, "unit": "count", **until, "next_code": d.code}
    following = {ten: twenty, twenty: more, more: more}[d.code]
    units = 1 if following == twenty else 2
    if d.code == more:
        units = 2 + (seconds - TWENTY) // TWENTY
    if units - 1 > UNITS_CAP or any(c.code == following and c is not d and not c.unmet for c in codes):
        return None
    return {"missing": units * TWENTY - seconds, "unit": "seconds", **until, "next_code": following}


def _only_other_line(facts: Facts, program: str, window: Window) -> bool:
    """Contract, `line`: other has no device code; there is nothing else in this window."""
    lines = {r.line for r in _counted(facts, program) if window.holds(r.day)}
    return lines == {"other"}


class _Doubts:
    """Which reason touches which code, found by answering again and comparing."""

    def __init__(self, now: dict[str, int]) -> None:
        self.now = now
        self.all: set[str] = set()
        self.by_code: dict[str, set[str]] = {}

    def everywhere(self, reason: str) -> None:
        self.all.add(reason)

    def compare(self, reason: str, other: dict[str, int]) -> None:
        """If this were the answer: the codes it changes are in doubt."""
        for code in {*self.now, *other}:
            if min(self.now.get(code, 0), UNITS_CAP + 1) != min(other.get(code, 0), UNITS_CAP + 1):
                self.by_code.setdefault(code, set()).add(reason)

    def of(self, code: str) -> set[str]:
        return self.all | self.by_code.get(code, set())


def _three_codes(
    facts: Facts,
    program: str,
    month: Window,
    total: Sum,
    contacts: list[str],
    now: Mapping[str, int],
    doubts: _Doubts,
    then: Sum,
) -> list[Decision]:
    """The 10- and the 20-minute code, and the add-on where its base is met or charged."""
    ten, twenty, more = MANAGEMENT[program]
    is_open = facts.as_of <= month.end
    ours = [c for c in facts.charges if c.code in MANAGEMENT[program]]
    found: list[Decision] = []
    longer = then != total
    for code in (ten, twenty, more):
        needed = _rule(facts, code, month.end).least
        if needed is None:
            continue
        requirements = {
            "management-time": (total.seconds, needed, list(total.works)),
            "live-contact": (len(contacts), 1, contacts),
        }
        if code == more:
            base = next(d for d in found if d.code == twenty)
            if not base.met_or_charged:
                continue
            shown = {c.ref for c in [*base.charges, *base.credits]} if base.charges else set()
            requirements["base-code"] = (1, 1, sorted(shown))
        decision = Decision(
            code,
            program,
            None,
            month,
            requirements,
            unmet=total.seconds < needed or not contacts,
            reachable=is_open,
            open=is_open,
            quantity=min(UNITS_CAP, now.get(code, 1)),
            charges=[c for c in facts.charges if c.code == code and _in_month(c, month)],
            credits=[c for c in facts.credits if c.code == code and _in_month(c, month)],
            doubts=doubts.of(code),
            remarks={"implausible-span"} if longer and then.seconds >= needed and then.talks else set(),
            service_date=month.end,
        )
        if now.get(code, 0) > UNITS_CAP:
            decision.doubts.add("units-over-cap")
        if any(_touches(c, month) and not _in_month(c, _month(c.first)) for c in ours):
            decision.doubts.add("charged-period-unclear")
        found.append(decision)
    _relate([d for d in found if d.code != more])
    charged = {d.code for d in found if d.charges}
    charged |= {c.code for c in ours if _in_month(c, month)} - {d.code for d in found}
    for decision in found:
        if (ten in charged and decision.code != ten) or (more in charged and decision.code == ten):
            decision.doubts.add("charged-otherwise")
    return found


def _in_month(charge: Charge, month: Window) -> bool:
    """Does it lie inside the month?"""
    return month.holds(charge.first) and month.holds(charge.last)


def _kinds(roles: Collection[str]) -> set[str]:
    """D14: which sorts of people are among these roles."""
    groups = {
        "professional": PROFESSIONALS,
        "therapist": THERAPISTS,
        "assistant": ASSISTANTS,
        "staff": AUXILIARY,
        "unknown": UNKNOWN_ROLE,
    }
    return {name for name, members in groups.items() if members & set(roles)}


def _who_counts(facts: Facts, program: str, roles: Collection[str]) -> tuple[set[str], list[str]]:
    """D14: whose time counts, and what must be asked."""
    if program == "rpm":
        return PROFESSIONALS | AUXILIARY | UNKNOWN_ROLE, []
    auxiliary = AUXILIARY if facts.payer == "medicare" else set()
    kinds = _kinds(roles)
    if "professional" in kinds and kinds & {"therapist", "assistant"}:
        return PROFESSIONALS | auxiliary | THERAPISTS | ASSISTANTS | UNKNOWN_ROLE, []
    if "professional" in kinds:
        return PROFESSIONALS | auxiliary | UNKNOWN_ROLE, []
    if "therapist" in kinds:
        return THERAPISTS | ASSISTANTS | UNKNOWN_ROLE, []
    everybody = AUXILIARY | ASSISTANTS | UNKNOWN_ROLE
    return everybody, ["billing-professional-unknown"] if kinds & {"staff", "assistant"} else []


def _two_answers(facts: Facts) -> tuple[set[str], set[str]]:
    """D14: the physician with clinical staff; the therapists with assistants."""
    auxiliary = AUXILIARY if facts.payer == "medicare" else set()
    return PROFESSIONALS | auxiliary | UNKNOWN_ROLE, THERAPISTS | ASSISTANTS | UNKNOWN_ROLE


def _in_person(facts: Facts, program: str, month: Window, works: list[Work]) -> list[Work]:
    """Contract: the conversations in person of a counted role (never a visit).

    D35: only of somebody who has another part in the month's monitoring, or of nobody knows whom.
    """
    counted = PROFESSIONALS | AUXILIARY | UNKNOWN_ROLE
    if program == "rtm":
        counted = counted | THERAPISTS | ASSISTANTS
    days = _seconds_of(month.start, month.end, facts.zone)
    people = _people_of(facts, program, _at_work(facts, program, month, facts.works))

    def takes_part(part: Part) -> bool:
        return not _is_known(part) or _is_of_the_program(facts, part.person, people)

    return [
        w
        for w in works
        if w.activity == "in-person"
        and w.finished
        and not w.billed_elsewhere
        and not w.endless
        and any(
            p.role in counted and takes_part(p) and days.start <= p.span.start < days.stop for p in w.parts
        )
    ]


def _spans_months(facts: Facts, work: Work) -> bool:
    """Case 24: does it lie in two months?"""
    return any(
        part.span
        and _month(_local_day(part.span.start, facts.zone))
        != _month(_local_day(part.span.stop - 1, facts.zone))
        for part in work.parts
    )


# -- across decisions ----------------------------------------------------------


def _charged_99091(facts: Facts, decisions: list[Decision]) -> list[Decision]:
    """Contract: 99091 appears only as charged, in its calendar month."""
    found = []
    for month in {_month(c.first) for c in facts.charges if c.code == "99091"}:
        charges = [c for c in facts.charges if c.code == "99091" and month.holds(c.first)]
        found.append(
            Decision("99091", "rpm", None, month, {}, False, False, facts.as_of <= month.end, 1, charges)
        )
        found[-1].service_date = month.end
        found[-1].credits = [c for c in facts.credits if c.code == "99091" and month.holds(c.first)]
    return found


def _hold_by_unclear_charges(facts: Facts, decisions: list[Decision]) -> None:
    """D29: a charge that names several of our codes, or can't be read, may be any of them."""
    told = set()
    for charge in facts.unclear_charges:
        for d in decisions:
            if d.code == charge.code and _may_be_of(charge, d, decisions):
                d.doubts.add("charged-period-unclear")
                told |= {charge.ref} if _outcome(facts, d)[0] == "review" else set()
    untold = {charge.ref for charge in facts.unclear_charges} - told - set(facts.excluded)
    facts.excluded |= dict.fromkeys(untold, "charged-period-unclear")


def _may_be_of(charge: Unclear, d: Decision, decisions: list[Decision]) -> bool:
    """D3: the start-up, whenever; the months it touches; the periods it touches, else any."""
    if d.code in START_UP.values() or charge.touches(d.window):
        return True
    periods = [o for o in decisions if o.program == d.program and o.line and o.found["monitoring-days"][0]]
    return d.line is not None and not any(charge.touches(o.window) for o in periods)


def _hold_two_lines(decisions: list[Decision]) -> None:
    """D2: the codes of two RTM lines in one period are met or charged."""
    devices = [d for d in decisions if d.program == "rtm" and d.line is not None and d.met_or_charged]
    for d in devices:
        if any(o.window == d.window and o.line != d.line for o in devices):
            d.doubts.add("two-lines")


def _hold_overlapping_periods(decisions: list[Decision]) -> None:
    """D4: of two device codes whose periods overlap the later is held; the earlier, if that is charged."""
    devices = [d for d in decisions if d.line is not None and d.met_or_charged]
    for d in devices:
        for o in devices:
            if o.program == d.program and o.window.start < d.window.start and d.window.shares_a_day(o.window):
                (o if d.charges and not o.charges else d).doubts.add("periods-overlap")


AnyCharge = TypeVar("AnyCharge", Charge, Unclear)


def _of_its_months(c: AnyCharge) -> AnyCharge:
    """A management code is of its calendar months, whatever day it bears."""
    if c.code not in (*MANAGEMENT["rtm"], *MANAGEMENT["rpm"]) or c.first is None or c.last is None:
        return c
    return replace(c, first=_month(c.first).start, last=_month(c.last).end)


def _hold_both_programs(facts: Facts, decisions: list[Decision]) -> None:
    """D1: RTM and RPM in windows sharing a day."""
    standing = [d for d in decisions if d.met_or_charged]
    charged = [c for c in facts.charges if c.code != "99091"]
    perhaps = facts.enrolled | {_program_of(c.code) for c in [*facts.charges, *facts.unclear_charges]}
    for d in standing:
        other = "rpm" if d.program == "rtm" else "rtm"
        beside = any(o.program == other and o.window.shares_a_day(d.window) for o in standing)
        beside |= any(_program_of(c.code) == other and _touches(_of_its_months(c), d.window) for c in charged)
        unclear = [c for c in facts.unclear_charges if _program_of(c.code) == other]
        beside |= any(_of_its_months(c).touches(d.window) for c in unclear)
        if not beside:
            continue
        if d.program in facts.enrolled and other not in perhaps:
            d.unverified.add("other-program")
        else:
            d.doubts.add("rtm-and-rpm")


# -- what somebody settled (D38) ----------------------------------------------------------

#: Reasons that a sentence settles (two others, a choice), and which of them need a reference.
BY_SENTENCE = {"payer-unknown", "payer-criteria", "straddles-rule-change", "conversation-unclear"}
BY_SENTENCE |= {"no-data-in-month", "99091", "units-over-cap"}
WITH_REFERENCE = {"payer-unknown", "payer-criteria", "99091"}


def _settle(facts: Facts, decisions: list[Decision], resolutions: list[Mapping[str, Any]]) -> None:
    """Each resolution takes its reason from the codes of which it speaks, and nothing else."""
    for d in decisions:
        for one in resolutions:
            reason = one["resolves"]
            if not _speaks_of(facts, one, d) or (reason in WITH_REFERENCE and not one.get("reference")):
                continue
            if one.get("choice") and one is not _newest_choice(facts, d, reason, resolutions):
                continue
            if reason in BY_SENTENCE:
                d.settled.add(reason)
            elif reason == "two-lines" and one.get("choice") == d.line:
                rivals = [o for o in decisions if o.window == d.window and o.line not in (None, d.line)]
                if not any(o.charges or _is_chosen(facts, o, resolutions) for o in rivals):
                    d.settled.add(reason)
            elif reason == "rtm-and-rpm" and one.get("choice") == d.program:
                rivals = [o for o in decisions if o.program != d.program and o.window.shares_a_day(d.window)]
                charged = [c for c in facts.charges if c.code != "99091" and _program_of(c.code) != d.program]
                chosen = any(o.charges or _is_chosen(facts, o, resolutions) for o in rivals)
                if not chosen and not any(_touches(_of_its_months(c), d.window) for c in charged):
                    d.settled.add(reason)
                    for rival in rivals:
                        rival.doubts.add(reason)  # one of the two only


def _is_chosen(facts: Facts, d: Decision, resolutions: list[Mapping[str, Any]]) -> bool:
    """Is it the program, or the line, that somebody chose?"""
    said = [_newest_choice(facts, d, reason, resolutions) for reason in ("two-lines", "rtm-and-rpm")]
    return d.met_or_charged and any(
        (one["resolves"], one.get("choice")) in (("two-lines", d.line), ("rtm-and-rpm", d.program))
        for one in said
        if one is not None
    )


def _newest_choice(
    facts: Facts, d: Decision, reason: str, resolutions: list[Mapping[str, Any]]
) -> Mapping[str, Any] | None:
    """Of several choices on one matter the last one stands."""
    said = [one for one in resolutions if one["resolves"] == reason and _speaks_of(facts, one, d)]
    return max(reversed(said), key=lambda one: str(one["at"]), default=None)


def _speaks_of(facts: Facts, one: Mapping[str, Any], d: Decision) -> bool:
    """Of this patient, this code, this window, and no longer than it says."""
    period = one.get("period") or {"start": d.window.start, "end": d.window.end}
    return (
        one["patient"] in facts.same_patient
        and (not one.get("codes") or d.code in one["codes"])
        and str(period["start"]) <= str(d.window.start)
        and str(d.window.end) <= str(period["end"])
        and (not one.get("until") or str(d.service_date or d.window.closes) <= str(one["until"]))
    )


def _is_judged(d: Decision) -> bool:
    """Is it met, and neither charged nor blocked, so that reasons for review are asked?"""
    return not d.charges and not d.unmet and not d.blocked_by


# -- the answer ----------------------------------------------------------


def _outcome(facts: Facts, d: Decision) -> tuple[str, set[str]]:
    """Contract: the first outcome that fits, with its reasons."""
    if d.charges:
        return "charged", set()
    if d.unmet:
        return ("short" if d.reachable and not _is_dead(facts) else "out-of-reach"), d.remarks
    if d.blocked_by:
        return "blocked", {d.blocked_by}
    doubts = (d.doubts | _by_coverage(facts, d)) - d.settled
    if doubts:
        return "review", doubts
    return ("provisional" if d.open else "suggest"), set()


def _unread(facts: Facts, d: Decision) -> set[str]:
    """D20, D26, D29, D30, D37: what nobody can vouch for, beside what the evidence says of itself."""
    found = set()
    if facts.linked or facts.lacks("ChargeItem") or any(one.type == "" for one in facts.missing):
        found.add("prior-charges")
    if d.line is not None or d.code in START_UP.values():
        unplaced = any(p.kind == "inpatient" and p.start is None for p in facts.places.values())
        # Where no reading counts, none is doubted.
        unplaced = unplaced and d.found.get("monitoring-days", (0,))[0] > 0
        if unplaced or facts.lacks("Encounter", d.window.start, min(d.window.closes, facts.as_of)):
            found.add("in-facility")
        if d.program in facts.care_unread and facts.care_unread[d.program] < d.window.end:
            found.add("enrolment")
    if _global_period(facts, d.window):
        found.add("global-period")
    kinds = {r["resourceType"] for r in facts.resources.values()}
    found |= {
        what for kind, what in (("Consent", "consent"), ("ServiceRequest", "order")) if kind not in kinds
    }
    if d.program == "rpm" and "Encounter" not in kinds and not facts.charged_visits:
        found.add("established-patient")
    of_service = d.service_date or d.window.closes
    if of_service > COVERS_TO and not _year_is_confirmed(facts, d.code, of_service):
        found.add("rules-of-the-year")
    return found


def _write(facts: Facts, d: Decision) -> dict[str, Any]:
    """A decision in the contract's words."""
    outcome, reasons = _outcome(facts, d)
    unmet = outcome in ("short", "out-of-reach")
    quantity = _units([*d.charges, *d.credits]) if d.charges else 0 if unmet else d.quantity
    # Of a charged window that began before what was read nothing was counted, which is not none.
    since = facts.history_from
    unread = outcome == "charged" and since is not None and d.window.start < since
    return {
        "code": d.code,
        "program": d.program,
        "line": d.line,
        "quantity": quantity,
        "outcome": outcome,
        "period": {"start": d.window.start.isoformat(), "end": d.window.end.isoformat()},
        "service_date": None if unmet or d.service_date is None else d.service_date.isoformat(),
        "requirements": [
            {
                "requirement": name,
                "unit": {"monitoring-days": "days", "management-time": "seconds"}.get(name, "count"),
                "needed": needed,
                "found": found,
                "met": found >= needed,
                "evidence": evidence,
            }
            for name, (found, needed, evidence) in ({} if unread else d.found).items()
        ],
        "reasons": sorted(reasons),
        "resolved": sorted(d.settled & (d.doubts | _by_coverage(facts, d))) if _is_judged(d) else [],
        "unverified": sorted(d.unverified | _unread(facts, d)),
        "perhaps_unverified": sorted(d.perhaps | _perhaps(facts, d)),
        "modifiers": d.modifiers,
        "forecast": None if _is_dead(facts) else d.forecast,
    }


def _perhaps(facts: Facts, d: Decision) -> set[str]:
    """Where there are no days there is no device of which anything could be known; where an entry of unknown
    kind wasn't read, it may have been a Procedure."""
    found = {"global-period"} if any(one.type == "" for one in facts.missing) else set()
    days = d.found.get("monitoring-days")
    return found | ({"fda-device"} if days is None or not days[0] else set())


def _is_dead(facts: Facts) -> bool:
    """D6: after death nothing counts, so nothing more can come."""
    return facts.died is not None and facts.died.day <= facts.as_of
