"""What was found in a patient's chart, in the words of remote monitoring and free of FHIR's shapes.

A `PatientRecord` is all that the rules see: frozen, sorted, and without anything dated after `as_of`.
References are `Type/id`; instants are microseconds UTC (`local_time`).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from zoneinfo import ZoneInfo

from msgspec import Struct

from fhir_mappings.completeness import WHOLE, Completeness
from fhir_mappings.local_time import Window
from fhir_mappings.vocabulary import UNKNOWN_PAYER, Activity, ExcludedReason, Line, Program, Role, Unverified


class About(Struct, frozen=True, gc=False, order=True, omit_defaults=True):
    """The coding, or the device, that a reason is about; "" for what it doesn't have."""

    system: str = ""
    code: str = ""
    display: str = ""
    manufacturer: str = ""
    """Of a device that has no coding: what a site can declare it by."""
    model: str = ""
    type_text: str = ""

    @property
    def in_words(self) -> str:
        """ "LOINC 40443-4 (resting heart rate)"; of a device without a coding what it calls itself."""
        if not self.code:
            own = " ".join(filter(None, (self.manufacturer, self.model)))
            return self.display or self.type_text or own
        coding = f"{_SHORT.get(self.system, self.system)} {self.code}".strip()
        return f"{coding} ({self.display})" if self.display else coding


_SHORT = {"http://loinc.org": "LOINC", "http://snomed.info/sct": "SNOMED CT"}
NOT_SAID = About()


class Excluded(Struct, frozen=True, gc=False, order=True, omit_defaults=True):
    """A record that was left out, and why."""

    resource: str
    reason: ExcludedReason
    about: About = NOT_SAID


CODES_OPEN = Unverified.SAME_DAY_SERVICES
"""What a reading of a continuous glucose sensor leaves open: whether its days are reported by the codes of
remote monitoring, or by those that say more precisely what it is (D41)."""


class Reading(Struct, frozen=True, gc=False):
    """One measurement that counts as a monitoring day, unless the rules of the episode leave it out.

    `series` is what days are counted by: the line and one device type (D8). A reading with a
    `doubt` is left out, but a code whose tier it would change must be reviewed.
    """

    resource: str
    line: Line
    series: str
    day: date
    instant: int
    doubt: ExcludedReason | None = None
    unverified: frozenset[Unverified] = frozenset()
    """What it leaves open."""
    unresolved: bool = False
    """Its device is named, and is not among what was read."""


class ManagementTime(Struct, frozen=True, gc=False):
    """One person's span of work on the patient's data, or (`seconds` set) a duration on a day without a time.

    `program` is RTM, RPM, or ANY where the coding speaks of either. `clear` is false where the coding doesn't
    say that this was remote monitoring work of the program (D12).
    """

    resource: str
    program: Program
    activity: Activity
    clear: bool
    person: str | None
    role: Role
    start: int
    end: int
    seconds: int | None = None
    discipline: str | None = None
    doubt: ExcludedReason | None = None
    crosses_months: bool = False
    """A part of a longer span, which the end of a month divided (`rules.minutes`)."""
    documented: bool = False
    """The site's own coding says what it was, and the record when it began and ended (D39)."""
    nobody_shown: bool = False
    """Its Encounter lists who took part, and none of the staff (D30)."""


class LiveContact(Struct, frozen=True, gc=False):
    """A conversation with the patient or a caregiver. It counts where its Encounter has a counted second.

    `program`: as of `ManagementTime`.
    """

    resource: str
    program: Program
    day: date
    in_person: bool
    roles: frozenset[Role]
    people: frozenset[str] = frozenset()
    unnamed: bool = False
    """Nobody can tell who one of them was."""


class SetUp(Struct, frozen=True, gc=False):
    resource: str
    program: Program
    day: date
    instant: int
    roles: frozenset[Role] = frozenset()


class UsedTime(Struct, frozen=True, gc=False):
    """A half-open span that belongs to something else: no management second lies in it."""

    resource: str
    start: int
    end: int


class Visit(Struct, frozen=True, gc=False):
    """A finished E/M visit (D11, D35). `people` are those whose visit it was, or may have been; `unnamed`:
    somebody among them cannot be told from anybody else."""

    resource: str
    days: tuple[date, ...]
    people: frozenset[str]
    unnamed: bool = False


class Practice(Struct, frozen=True, gc=False, order=True):
    """What somebody's role says of where and in what they work: whoever shares both stands in for them."""

    person: str
    organization: str
    specialty: str


HANDED_OVER = "urn:smart-remote-monitoring:handed-over"
"""Kind of a charge that left otherwise than as a ChargeItem: only this app's own record tells of it."""


class PriorCharge(Struct, frozen=True, gc=False):
    """A charge the EHR already holds, or one that was handed over to it otherwise. `occurrence` is None where
    it says no day; `quantity` is below zero where it takes one back.

    `keys`: its identifiers under the system of this project, where it has any; `evidence`: what such a charge
    says it rests on. `among`: the codes of ours that it names, where it names several and nobody can tell
    which of them was charged; there is one `PriorCharge` for each.
    """

    resource: str
    code: str
    quantity: int
    occurrence: Window | None
    status: str = ""
    keys: tuple[str, ...] = ()
    evidence: tuple[str, ...] = ()
    among: tuple[str, ...] = ()
    of_whole_claim: bool = False
    """Its days are those of a claim that may hold other services."""
    performers: tuple[str, ...] = ()
    """Who performed it, where it names people."""
    denied: bool = False
    """The payer denied it, and somebody recorded that: it is corrected or appealed, never charged anew."""

    @property
    def kind(self) -> str:
        """The resource type that tells of it, or HANDED_OVER."""
        return self.resource.partition("/")[0]

    @property
    def claimed(self) -> bool:
        """Whether it tells that the service went to a payer."""
        return self.kind in ("Claim", "ExplanationOfBenefit")

    @property
    def sole(self) -> bool:
        """Whether it is a charge of its code, and not of one among several."""
        return not self.among


class EpisodeOfCare(Struct, frozen=True, gc=False):
    """An episode of care. `program` is None for the EHR's, which name none; one that was confirmed in the app
    is of one program, and speaks only where the EHR documents no episode."""

    resource: str
    start: date | None
    end: date | None
    program: Program | None = None
    care_manager: str | None = None


class Paper(Struct, frozen=True, gc=False, kw_only=True):
    """What holds from a day on, up to one; None where it doesn't say."""

    day: date | None = None
    until: date | None = None

    def holds_on(self, day: date) -> bool:
        return (self.day is None or self.day <= day) and (self.until is None or day <= self.until)


class Agreement(Paper, frozen=True, gc=False, kw_only=True):
    """A consent, or a plan of care."""

    resource: str


class Order(Paper, frozen=True, gc=False, kw_only=True):
    resource: str
    program: Program
    requester: str | None = None


class Surgery(Struct, frozen=True, gc=False):
    """A Procedure, or a charge, that may be a surgery with a global period (D36). `days`: None where it says
    none."""

    resource: str
    days: Window | None = None


class Diagnosis(Struct, frozen=True, gc=False):
    """An active Condition, by a code of ICD-10-CM without its dot. `since`: the first day on which it was
    there and known, None where it doesn't say."""

    resource: str
    code: str
    since: date | None = None


class Insurance(Struct, frozen=True, gc=False):
    """Who pays, in the site's words, from a day to a day; None where it doesn't say. The lowest `order` pays
    first."""

    order: int
    payer: str
    start: date | None = None
    end: date | None = None


def payer_on(found: Iterable[Insurance], day: date) -> str | None:
    """The payer on a day: None where nothing is in force; two that differ are unknown, never a guess."""
    in_force = [
        one
        for one in found
        if (one.start is None or one.start <= day) and (one.end is None or day <= one.end)
    ]
    first = min((one.order for one in in_force), default=None)
    payers = {one.payer for one in in_force if one.order == first}
    if not payers:
        return None
    return payers.pop() if len(payers) == 1 else UNKNOWN_PAYER


class Enrolment(Struct, frozen=True, gc=False):
    """The confirmed anchor of a program's 30-day grid; frozen with its first accepted charge."""

    program: Program
    anchor: date


class Attestation(Struct, frozen=True, gc=False):
    """What somebody stated about this patient; `codes` and `window` narrow it where they are given."""

    statement: str
    codes: frozenset[str] = frozenset()
    window: Window | None = None

    def covers(self, code: str, window: Window) -> bool:
        return (not self.codes or code in self.codes) and (
            self.window is None or (self.window.start <= window.start and window.end <= self.window.end)
        )


class Resolution(Struct, frozen=True, gc=False):
    """How somebody settled a reason for review (D38): by a sentence that they confirmed, or by a choice.

    `resolves`: the reason, or the code that is one. `until`: the last date of service for which it holds.
    """

    resolves: str
    codes: frozenset[str] = frozenset()
    window: Window | None = None
    choice: str | None = None
    reference: str = ""
    until: date | None = None
    by: str = ""
    on: date | None = None

    def about(self, window: Window) -> bool:
        """Whether it speaks of these days."""
        return self.window is None or (self.window.start <= window.start and window.end <= self.window.end)

    def covers(self, code: str, window: Window, service_date: date) -> bool:
        """Whether it speaks of a code in a window, dated on that day."""
        return (
            (not self.codes or code in self.codes)
            and self.about(window)
            and (self.until is None or service_date <= self.until)
        )


class PatientRecord(Struct, frozen=True, gc=False):
    """One patient's chart as of a day. Every tuple is sorted, so equal charts make equal records."""

    patient: str
    as_of: date
    zone: ZoneInfo
    readings: tuple[Reading, ...] = ()
    doubtful_readings: tuple[Reading, ...] = ()
    management: tuple[ManagementTime, ...] = ()
    contacts: tuple[LiveContact, ...] = ()
    set_ups: tuple[SetUp, ...] = ()
    used_time: tuple[UsedTime, ...] = ()
    visits: tuple[Visit, ...] = ()
    practices: tuple[Practice, ...] = ()
    """Of everybody whose role was read, where it names both organisation and specialty (D35)."""
    charges: tuple[PriorCharge, ...] = ()
    more_specific: tuple[PriorCharge, ...] = ()
    """Charges of codes that go before some of ours (D41)."""
    episodes: tuple[EpisodeOfCare, ...] = ()
    consents: tuple[Agreement, ...] = ()
    orders: tuple[Order, ...] = ()
    care_plans: tuple[Agreement, ...] = ()
    surgeries: tuple[Surgery, ...] = ()
    diagnoses: tuple[Diagnosis, ...] = ()
    coded_programs: frozenset[Program] = frozenset()
    """Programs that a coded Encounter names."""
    enrolments: tuple[Enrolment, ...] = ()
    attestations: tuple[Attestation, ...] = ()
    resolutions: tuple[Resolution, ...] = ()
    double_booked: frozenset[str] = frozenset()
    """Encounters whose professional was with another patient of this run at the same time."""
    two_times: frozenset[str] = frozenset()
    """Encounters that another one of the same identifier gives another time: the shorter counts, and the
    other is management time in doubt under the same name (D31)."""
    history_from: date | None = None
    """The first day that was read, where older records may exist."""
    completeness: Completeness = WHOLE
    """What may exist of this patient and was not read (D20)."""
    charges_elsewhere: bool = False
    """The same person has records besides, which nobody read with these: charges may stand there."""
    dead: bool = False
    """Nothing more can come."""
    death_date_unknown: bool = False
    payer: str | None = None
    """Whom the Coverages in force on the day of the question name, where the site says which Coverage means
    whom."""
    insurances: tuple[Insurance, ...] = ()
    """All that were, are or will be in force, so that a service of an earlier payer is seen to be one."""
    excluded: tuple[Excluded, ...] = ()
