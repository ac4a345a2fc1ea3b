"""A second, deliberately plain implementation of the billing rules, to check the product against.

It repeats the product on purpose. It was written from the specification (the contract of `smartapp evaluate`
and the decided defaults D1 to D18) without a look at the product's code, imports nothing of ours, and prefers
what is obvious to what is fast: days are sets of dates, minutes are sets of seconds, and "would it change the
answer" is asked by answering twice. Where the two disagree, one of them is wrong: the specification decides.

Where the specification is silent this follows the product's answer, so there it proves only that nothing
changed: minutes of messages count, but make no contact; what is of program any belongs to a program from the
month that shows it; a visit by an unknown role is an E/M visit; unfinished or over-long visits still take
seconds away; an assistant beside a physician is a therapist's; length on a bare date counts beside all else;
a stray device charge doubts every period; 98975 is doubted where the best device type is of line other;
of device types with equally many days the one that was ever used first is told, be it before the set-up.

So it is with `history_from`: what is there from before that day counts as ever; management codes are never
held by it; readings and minutes from before a set-up don't show that care began earlier, nor does a charge
of start-up or management since that day, but one of 99091 before it does; an EpisodeOfCare that began since
fixes the grid, whatever was charged before. Decided here, since it never over-bills: a set-up from before
that day shows no beginning, as not all that followed it was read; nor does one that a device charge precedes.

What it leaves out: several patients in one run, attestations, enrolments that were confirmed, and references.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

Resource = Mapping[str, Any]
Seconds = set[int]
DAY = timedelta(days=1)
PERIOD_DAYS = 30

# -- the rules in force (BILLING_RULES 1.1) ----------------------------------------------------------

NEW_RULES = date(2026, 1, 1)
COVERS_TO = date(2026, 12, 31)
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
START_UP = {"rtm": "98975", "rpm": "99453"}
#: program -> (first 10 minutes, first 20 minutes, each further 20 minutes)
MANAGEMENT = {"rtm": ("98979", "98980", "98981"), "rpm": ("99470", "99457", "99458")}
UNITS_CAP = 3
SHORT_DAYS, LONG_DAYS = 2, 16
TEN, TWENTY = 10 * 60, 20 * 60
IMPLAUSIBLE = 4 * 60 * 60
EMPTY_DAYS = 90

# -- codings that need no declaration by a site -------------------------------------------------------

LOINC = "http://loinc.org"
NUCC = "http://nucc.org/provider-taxonomy"
SNOMED = "http://snomed.info/sct"
MDC = "urn:iso:std:iso:11073:10101"
CPT = "http://www.ama-assn.org/go/cpt"
SHIPPED_LINES = {(LOINC, "85354-9"): "physiologic", (LOINC, "29463-7"): "physiologic"}
NOT_MEASUREMENTS = {(MDC, "67996")}
NO_REAL_DEVICE = {(SNOMED, "706689003"), (MDC, "531981")}  # a phone's app, a gateway
SHIPPED_ROLES = {
    (NUCC, "207Q00000X"): "physician",
    (NUCC, "363L00000X"): "qualified-professional",
    (NUCC, "225100000X"): "physical-therapist",
    (NUCC, "225X00000X"): "occupational-therapist",
    (NUCC, "235Z00000X"): "speech-language-pathologist",
    (NUCC, "225200000X"): "therapist-assistant",
    (NUCC, "224Z00000X"): "therapist-assistant",
    (NUCC, "163W00000X"): "clinical-staff",
}
E_AND_M = {(CPT, f"9920{n}") for n in range(2, 6)} | {(CPT, f"9921{n}") for n in range(1, 6)}
FACILITY = {"AMB", "IMP", "EMER", "ACUTE", "NONAC", "OBSENC", "SS", "PRENC"}
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
TALKS = {"phone-call", "video-call"}
MANAGES = TALKS | {"data-review", "message"}
TAKES_TIME_AWAY = {"setup-education", "administrative", "visit", "in-person"}
COUNTED_STATUS = {"final", "amended", "corrected"}
NO_ENCOUNTER = {"planned", "cancelled", "entered-in-error"}
NO_CHARGE = {"entered-in-error", "aborted", "not-billable"}
NO_EPISODE = {"planned", "waitlist", "cancelled", "entered-in-error"}


# -- what the chart says ----------------------------------------------------------


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


@dataclass(frozen=True)
class Part:
    """The time of one participant of an Encounter."""

    person: str
    role: str
    span: range
    bare: bool  # some time of a day: only the day and the length are known


@dataclass(frozen=True)
class Work:
    """An Encounter that means something to monitoring. Only a finished one counts; any takes time away."""

    ref: str
    activity: str
    program: str
    clear: bool
    parts: tuple[Part, ...]
    span: range
    finished: bool
    billed_elsewhere: bool

    @property
    def counts(self) -> bool:
        """Finished, management, and not billed elsewhere."""
        if self.program == "other" or (self.activity == "message" and self.program == "any"):
            return False
        return self.finished and self.activity in MANAGES and not self.billed_elsewhere


@dataclass(frozen=True)
class Stay:
    """Time in a facility: from, and until (None: still there)."""

    start: int
    end: int | None


@dataclass(frozen=True)
class Charge:
    """A ChargeItem the EHR holds: its first and last local day."""

    ref: str
    code: str
    first: date
    last: date
    is_period: bool
    quantity: int


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
    blocked_by: str | None = None
    doubts: set[str] = field(default_factory=set)  # make a met code `review`
    remarks: set[str] = field(default_factory=set)  # reasons on an unmet code
    unverified: set[str] = field(default_factory=set)
    modifiers: list[str] = field(default_factory=list)
    forecast: dict[str, Any] | None = None
    service_date: date | None = None

    @property
    def met_or_charged(self) -> bool:
        """D1, D2, and the contract: counts beside others."""
        return bool(self.charges) or not self.unmet


@dataclass
class Facts:
    """Everything read from one patient's resources."""

    zone: ZoneInfo
    payer: str
    as_of: date
    history_from: date | None
    resources: dict[str, Resource]
    lines: dict[tuple[str, str], tuple[str, str | None]]
    device_lines: dict[tuple[str, str], str]
    activities: dict[tuple[str, str], tuple[str, str]]
    roles: dict[tuple[str, str], str]
    excluded: dict[str, str] = field(default_factory=dict)
    readings: list[Reading] = field(default_factory=list)
    first_used: list[tuple[str, str]] = field(default_factory=list)  # lines and device types, in order
    works: list[Work] = field(default_factory=list)
    implausible: list[Work] = field(default_factory=list)
    after_death: list[Work] = field(default_factory=list)
    stays: list[Stay] = field(default_factory=list)
    facility_refs: set[str] = field(default_factory=set)
    charges: list[Charge] = field(default_factory=list)
    care: list[tuple[date, date | None]] = field(default_factory=list)
    enrolled: set[str] = field(default_factory=set)
    died: Moment | None = None
    begun: dict[str, date | None] = field(default_factory=dict)
    reported_visits: set[str] = field(default_factory=set)  # charged as an E/M visit
    charged_visits: set[tuple[str, date]] = field(default_factory=set)  # by whom (""), on which day


def answer(
    resources: list[dict[str, Any]],
    site: Mapping[str, Any],
    as_of: str,
    history_from: str | None = None,
    **options: Any,
) -> dict[str, Any]:
    """The contract's JSON object of one patient. Options: `timezone` and `payer` win over the site's."""
    read_from = date.fromisoformat(history_from) if history_from else None
    facts = _read(resources, site, date.fromisoformat(as_of), read_from, options)
    decisions = [d for program in ("rtm", "rpm") for d in _decide(facts, program)]
    decisions += _charged_99091(facts, decisions)
    _hold_two_lines(decisions)
    _hold_overlapping_periods(decisions)
    _hold_both_programs(facts, decisions)
    written = [_write(facts, d) for d in decisions]
    written.sort(key=lambda d: (d["period"]["start"], d["period"]["end"], d["code"]))
    patient = next(ref for ref in facts.resources if ref.startswith("Patient/"))
    return {
        "patient": patient,
        "as_of": as_of,
        "timezone": facts.zone.key,
        "payer": facts.payer,
        "decisions": written,
        "excluded": [{"resource": ref, "reason": facts.excluded[ref]} for ref in sorted(facts.excluded)],
    }


# -- time ----------------------------------------------------------


def _moment(text: str, zone: ZoneInfo) -> Moment | None:
    """D5: the date as written, where the offset is not zero; UTC and no offset are the site's zone."""
    if len(text) < 10:
        return None
    if len(text) == 10:
        return Moment(date.fromisoformat(text), None)
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        at = at.replace(tzinfo=zone)
    elif at.utcoffset() == timedelta(0):
        at = at.astimezone(zone)
    return Moment(at.date(), int(at.timestamp()))


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


# -- reading the chart ----------------------------------------------------------


def _codings(concept: Any) -> list[tuple[str, str]]:
    """(system, code) of each coding of a CodeableConcept."""
    return [(c.get("system", ""), c.get("code", "")) for c in (concept or {}).get("coding", [])]


def _read(
    resources: Iterable[Resource],
    site: Mapping[str, Any],
    as_of: date,
    history_from: date | None,
    options: Mapping[str, Any],
) -> Facts:
    """Sorts out whose the resources are, and reads each kind."""
    told: Mapping[str, Any] = site.get("terminology", {})
    facts = Facts(
        zone=ZoneInfo(options.get("timezone") or site["timezone"]),
        payer=options.get("payer") or site.get("payer") or "unknown",
        as_of=as_of,
        history_from=history_from,
        resources={f"{r['resourceType']}/{r['id']}": r for r in resources},
        lines={(e["system"], e["code"]): (e["line"], e.get("source")) for e in told.get("observations", [])},
        device_lines={(e["system"], e["code"]): e["line"] for e in told.get("devices", [])},
        activities={
            (e["system"], e["code"]): (e["activity"], e["program"]) for e in told.get("encounters", [])
        },
        roles={
            **SHIPPED_ROLES,
            **{(e["system"], e["code"]): e["role"] for e in told.get("staff", [])},
        },
    )
    patient = next(ref for ref in facts.resources if ref.startswith("Patient/"))
    facts.died = _moment(facts.resources[patient].get("deceasedDateTime", ""), facts.zone)
    mine: dict[str, list[tuple[str, Resource]]] = {}
    for ref, resource in facts.resources.items():
        kind = resource["resourceType"]
        if kind == "Device" and resource.get("patient", {}).get("reference") not in (None, patient):
            facts.excluded[ref] = "other-patient"
        if kind in ("Observation", "Encounter", "ChargeItem", "EpisodeOfCare", "Consent", "ServiceRequest"):
            if (resource.get("subject") or resource.get("patient") or {}).get("reference") != patient:
                facts.excluded[ref] = "other-patient"
            else:
                mine.setdefault(kind, []).append((ref, resource))
    _read_charges(facts, mine.get("ChargeItem", []))
    _read_encounters(facts, mine.get("Encounter", []))
    _read_episodes(facts, mine.get("EpisodeOfCare", []))
    _read_enrolment(facts, mine)
    _read_observations(facts, mine.get("Observation", []), facts.resources[patient])
    return facts


def _is_late(facts: Facts, ref: str, day: date) -> bool:
    """Contract: what is dated after --as-of is left out."""
    if day > facts.as_of:
        facts.excluded[ref] = "after-as-of"
    return day > facts.as_of


# -- ChargeItem ----------------------------------------------------------


def _read_charges(facts: Facts, found: list[tuple[str, Resource]]) -> None:
    """Contract, `charged`: every ChargeItem of ours that is not entered-in-error, aborted or not-billable."""
    for ref, r in found:
        code = next((c for _, c in _codings(r.get("code"))), "")
        if "occurrencePeriod" in r:
            first = _moment(r["occurrencePeriod"]["start"], facts.zone)
            last = _moment(r["occurrencePeriod"]["end"], facts.zone)
        else:
            first = last = _moment(r.get("occurrenceDateTime", ""), facts.zone)
        if code not in IN_FORCE_FROM or first is None or last is None:
            continue
        if r["status"] in NO_CHARGE:
            facts.excluded[ref] = r["status"]
        elif not _is_late(facts, ref, first.day):
            quantity = int(r.get("quantity", {}).get("value", 1))
            facts.charges.append(Charge(ref, code, first.day, last.day, "occurrencePeriod" in r, quantity))


def _program_of(code: str) -> str:
    """rtm or rpm."""
    if code == "99091" or code in (START_UP["rpm"], *MANAGEMENT["rpm"], *DEVICE_CODES["physiologic"]):
        return "rpm"
    return "rtm"


# -- Encounter ----------------------------------------------------------


def _read_encounters(facts: Facts, found: list[tuple[str, Resource]]) -> None:
    """D6 (stays), D12 (which count) and D13 (spans)."""
    billed = _billed_elsewhere(facts)
    for ref, r in found:
        start = _start_of(facts, r)
        if start is None or _is_late(facts, ref, _local_day(start, facts.zone)):
            continue
        if r["status"] in NO_ENCOUNTER:
            facts.excluded[ref] = r["status"]
            continue
        if (r.get("class") or {}).get("code") in FACILITY:
            facts.facility_refs.add(ref)
            facts.stays.append(Stay(start, _end_of_stay(facts, r, start)))
        finished = r["status"] == "finished"
        if not finished:
            facts.excluded[ref] = r["status"]
        meant = _meaning(facts, r)
        if meant is None and ref in billed:
            meant = ("administrative", "other", False)  # its time is used up, whatever it was
        if meant is None:
            continue
        elsewhere = ref in billed or bool(E_AND_M & set(_types(r)))
        work = Work(ref, *meant, _parts(facts, r), _span(facts, r, r.get("period")), finished, elsewhere)
        starts = Moment(_local_day(start, facts.zone), start)
        if finished and elsewhere:
            facts.excluded[ref] = "billed-elsewhere"
        elif work.counts and any(len(part.span) > IMPLAUSIBLE for part in work.parts):
            facts.excluded[ref] = "implausible-span"
            if facts.died is None or not _is_after(starts, facts.died, facts.zone):
                facts.implausible.append(work)
            continue
        elif work.counts and facts.died is not None and _is_after(starts, facts.died, facts.zone):
            facts.excluded[ref] = "after-death"
            facts.after_death.append(work)
            continue
        facts.works.append(work)


def _start_of(facts: Facts, r: Resource) -> int | None:
    """When an Encounter starts: a bare date is the day's first second."""
    text = r.get("period", {}).get("start", "")
    if not text:
        return None
    at = _moment(text, facts.zone)
    assert at is not None
    return at.instant if at.instant is not None else _midnight(at.day, facts.zone)


def _end_of_stay(facts: Facts, r: Resource, start: int) -> int | None:
    """D6: no end, still there; a length is an end too."""
    end = _moment(r.get("period", {}).get("end", ""), facts.zone)
    if end is not None and end.instant is not None:
        return end.instant
    return start + int(r["length"]["value"]) if "length" in r else None


def _types(r: Resource) -> list[tuple[str, str]]:
    """The codings of an Encounter's types."""
    return [coding for concept in r.get("type", []) for coding in _codings(concept)]


def _meaning(facts: Facts, r: Resource) -> tuple[str, str, bool] | None:
    """D12: activity, program, and whether the site said so for one program."""
    for coding in _types(r):
        if coding in facts.activities:
            activity, program = facts.activities[coding]
            return activity, program, program in ("rtm", "rpm")
        if coding in E_AND_M:
            return "visit", "any", False
    if (r.get("class") or {}).get("code") == "VR":
        return "phone-call", "any", False
    return None


def _span(facts: Facts, r: Resource, period: Mapping[str, Any] | None) -> range:
    """D13: the period; where `length` also stands, the shorter; `length` alone counts from the start."""
    start = _start_of(facts, {"period": period or r.get("period", {})})
    length = r.get("length", {}).get("value")
    end = _moment((period or {}).get("end", ""), facts.zone)
    if start is None:
        return range(0)
    lasted = [] if end is None or end.instant is None else [end.instant - start]
    lasted += [] if length is None else [int(length)]
    return range(start, start + max(0, min(lasted, default=0)))


def _parts(facts: Facts, r: Resource) -> tuple[Part, ...]:
    """D13: who took part, each with their own period, else the Encounter's. Nobody named: role not found."""
    parts = []
    for participant in r.get("participant", []):
        person, role = _staff(facts, participant.get("individual", {}).get("reference", ""))
        period = participant.get("period") or r.get("period")
        parts.append(Part(person, role, _span(facts, r, period), _is_bare(period)))
    period = r.get("period")
    nobody = Part(f"nobody of {r['id']}", "unknown", _span(facts, r, period), _is_bare(period))
    return _no_longer_than(r, tuple(parts) or (nobody,))


def _no_longer_than(r: Resource, parts: tuple[Part, ...]) -> tuple[Part, ...]:
    """D13: all participants together take no more seconds than the Encounter's length, the first first."""
    timed = [part for part in parts if not part.bare]
    if "length" not in r or len(timed) < 2:
        return parts
    kept = sorted({second for part in timed for second in part.span})[: int(r["length"]["value"])]
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


def _staff(facts: Facts, reference: str) -> tuple[str, str]:
    """The person behind a participant, and the role."""
    r = facts.resources.get(reference, {})
    person = r.get("practitioner", {}).get("reference", reference)
    concepts = [*r.get("code", [])] if r.get("resourceType") == "PractitionerRole" else []
    concepts += [q.get("code") for q in facts.resources.get(person, {}).get("qualification", [])]
    for concept in concepts:
        for coding in _codings(concept):
            if coding in facts.roles:
                return person, facts.roles[coding]
    return person, "unknown"


def _billed_elsewhere(facts: Facts) -> set[str]:
    """D12: the Encounters that are the context of a charge which is not one of these codes."""
    found = set()
    for r in facts.resources.values():
        if r["resourceType"] == "ChargeItem" and r["status"] not in NO_CHARGE:
            context = r.get("context", {}).get("reference", "")
            if not {c for _, c in _codings(r.get("code"))} & set(IN_FORCE_FROM):
                found.add(context)
            if E_AND_M & set(_codings(r.get("code"))):
                facts.reported_visits.add(context)
                on = _moment(r.get("occurrenceDateTime", ""), facts.zone)
                if on is not None and on.day <= facts.as_of:
                    facts.charged_visits.add(("", on.day))
    return found


# -- EpisodeOfCare, Consent, ServiceRequest ------------------------------------------------------


def _read_episodes(facts: Facts, found: list[tuple[str, Resource]]) -> None:
    """D3, D4: the EpisodesOfCare that began, by their start."""
    for ref, r in found:
        start = _moment(r["period"]["start"], facts.zone)
        end = _moment(r["period"].get("end", ""), facts.zone)
        if start is None or _is_late(facts, ref, start.day):
            continue
        if r["status"] in NO_EPISODE:
            facts.excluded[ref] = r["status"]
            continue
        facts.care.append((start.day, end.day if end else None))
    facts.care.sort(key=lambda period: period[0])


def _read_enrolment(facts: Facts, mine: Mapping[str, list[tuple[str, Resource]]]) -> None:
    """D1: what shows that a patient takes part in a program."""
    if facts.care or any(r["status"] == "active" for _, r in mine.get("Consent", [])):
        facts.enrolled |= {"rtm", "rpm"}
    for work in [*facts.works, *facts.implausible, *facts.after_death]:
        if not work.finished or work.billed_elsewhere:
            continue
        if work.program in ("rtm", "rpm"):
            facts.enrolled.add(work.program)
        if work.activity == "setup-education" and work.program == "any":
            facts.enrolled |= {"rtm", "rpm"}
    for _, r in mine.get("ServiceRequest", []):
        if r["status"] in ("active", "completed"):
            facts.enrolled |= {_program_of(c) for _, c in _codings(r.get("code")) if c in IN_FORCE_FROM}
    # A charged 99091 says nothing for RPM, though it may say something against RTM (contract).
    facts.enrolled |= {_program_of(charge.code) for charge in facts.charges if charge.code != "99091"}


# -- Observation ----------------------------------------------------------


def _read_observations(facts: Facts, found: list[tuple[str, Resource]], patient: Resource) -> None:
    """D5 to D8 and D18: which Observations are monitoring days of which line."""
    candidates: list[tuple[str, Resource, list[Moment]]] = []
    for ref, r in found:
        moments = _moments(facts, r)
        reason = _no_measurement(r) or (None if moments else "partial-date")
        if reason is not None:
            facts.excluded[ref] = reason
            continue
        for m in moments:
            if (reason := _too_late(facts, m)) is not None:
                facts.excluded.setdefault(ref, reason)
        if in_time := [m for m in moments if _too_late(facts, m) is None]:
            candidates.append((ref, r, in_time))
    for ref, r, moments in _without_duplicates(facts, candidates):
        if any(_in_facility(facts, r, m) for m in moments):
            facts.excluded[ref] = "in-facility"
        moments = [m for m in moments if not _in_facility(facts, r, m)]
        reason = None
        if moments:
            if (of_another := _of_another(facts, r, patient)) is not None:
                if facts.excluded.get(ref) != "in-facility":
                    facts.excluded[ref] = of_another
                continue
            judged = _line_and_type(facts, r)
            if isinstance(judged, str):
                reason = judged
            else:
                lines, device_type, doubt = judged
                notes = _unverified(facts, r, lines)
                facts.readings += [
                    Reading(ref, m.day, _first_second(facts, m), line, device_type, doubt, notes)
                    for m in moments
                    for line in lines
                ]
        if reason is not None:
            facts.excluded[ref] = reason
    facts.readings.sort(key=lambda reading: (reading.instant, reading.ref))
    facts.first_used = [(r.line, r.device_type) for r in facts.readings if r.doubt is None]
    for program in ("rtm", "rpm"):
        _leave_out_before_set_up(facts, program)
        _leave_out_outside_episodes(facts, program)
    for reading in facts.readings:
        if reading.doubt:
            facts.excluded[reading.ref] = reading.doubt


def _unverified(facts: Facts, r: Resource, lines: Collection[str]) -> frozenset[str]:
    """D6: its Encounter could not be read. D7: physiologic without a device, or from nobody's device."""
    found = set()
    encounter = r.get("encounter", {}).get("reference", "")
    if encounter and (encounter not in facts.resources or facts.excluded.get(encounter) == "after-as-of"):
        found.add("in-facility")
    if "physiologic" in lines and "device" not in r:
        found.add("fda-device")
    if "physiologic" in lines and "patient" not in (_device(facts, r) or {"patient": None}):
        found.add("enrolment")
    return frozenset(found)


def _moments(facts: Facts, r: Resource) -> list[Moment]:
    """D5: one Observation is one day; a period counts where it starts; each event of a Timing its day."""
    texts = [r.get("effectiveDateTime"), r.get("effectiveInstant"), r.get("effectivePeriod", {}).get("start")]
    texts += r.get("effectiveTiming", {}).get("event", [])
    found = [m for text in texts if text and (m := _moment(text, facts.zone)) is not None]
    return sorted(found, key=lambda m: _first_second(facts, m))


def _first_second(facts: Facts, m: Moment) -> int:
    """The instant of a reading; of a bare date the day's first second."""
    return m.instant if m.instant is not None else _midnight(m.day, facts.zone)


def _no_measurement(r: Resource) -> str | None:
    """Statuses, and D6: batteries, clocks and the like."""
    if r["status"] not in COUNTED_STATUS:
        return str(r["status"])
    return "not-a-measurement" if set(_codings(r.get("code"))) & NOT_MEASUREMENTS else None


def _too_late(facts: Facts, m: Moment) -> str | None:
    """Not after --as-of; D6: not after death."""
    if m.day > facts.as_of:
        return "after-as-of"
    return "after-death" if facts.died is not None and _is_after(m, facts.died, facts.zone) else None


def _of_another(facts: Facts, r: Resource, patient: Resource) -> str | None:
    """D6: taken with somebody else's device."""
    owner = ((_device(facts, r) or {}).get("patient") or {}).get("reference")
    return "device-of-another" if owner is not None and owner != f"Patient/{patient['id']}" else None


def _is_after(m: Moment, died: Moment, zone: ZoneInfo) -> bool:
    """After the time of death, or after its day where that is all that is known."""
    if m.instant is None:
        return m.day > died.day
    return (
        m.instant > died.instant if died.instant is not None else m.instant >= _midnight(died.day + DAY, zone)
    )


def _in_facility(facts: Facts, r: Resource, m: Moment) -> bool:
    """D6: of a stay, or inside one, the end exclusive; a bare date only if the whole day is inside."""
    if r.get("encounter", {}).get("reference") in facts.facility_refs:
        return True
    day = _seconds_of(m.day, m.day, facts.zone)
    first, last = (day.start, day.stop - 1) if m.instant is None else (m.instant, m.instant)
    return any(stay.start <= first and (stay.end is None or last < stay.end) for stay in facts.stays)


def _device(facts: Facts, r: Resource) -> Resource | None:
    """D7: the Device behind the reference, also through a DeviceMetric."""
    reference = (r.get("device") or {}).get("reference", "")
    if reference.startswith("DeviceMetric/"):
        reference = facts.resources.get(reference, {}).get("source", {}).get("reference", "")
    return facts.resources.get(reference)


def _line_and_type(facts: Facts, r: Resource) -> tuple[tuple[str, ...], str, str | None] | str:
    """What it says itself comes first: (lines, device type, doubt), or why it is left out."""
    coding = next((c for c in _codings(r.get("code")) if c in facts.lines or c in SHIPPED_LINES), None)
    if coding is None:
        return "no-device" if "device" not in r else "unmapped"
    line, source = facts.lines.get(coding, (SHIPPED_LINES.get(coding, ""), None))
    by_patient = any(p.get("reference", "").startswith("Patient/") for p in r.get("performer", []))
    if "device" not in r:
        return _without_device(coding, line, source, by_patient, bool(r.get("performer")))
    device = _device(facts, r)
    types = _codings((device or {}).get("type"))
    real = device is not None and not set(types) & NO_REAL_DEVICE
    device_line = next((facts.device_lines[t] for t in types if t in facts.device_lines), None)
    device_type = f"type {types[0]}" if types else f"device {(device or r['device']).get('id')}"
    if device_line is not None and device_line != line:
        return (line, device_line), device_type, "line-conflict"
    if line == "physiologic":
        if by_patient and set(types) & NO_REAL_DEVICE:
            return "patient-reported"
        if not real or device_line is None:
            return (line,), device_type, "device-unknown"
        return (line,), device_type, None
    return (line,), device_type, None


def _without_device(
    coding: tuple[str, str], line: str, source: str | None, by_patient: bool, performed: bool
) -> tuple[tuple[str, ...], str, str | None] | str:
    """`source` speaks only where the reading is silent; RTM needs the site's word that patients report it."""
    device_type = f"coding {coding}"
    if source == "device":
        if by_patient:
            return (line,), device_type, "source-conflict"
        return "not-from-a-device" if performed else ((line,), device_type, None)
    if line == "physiologic" or source != "patient-reported":
        return "patient-reported" if by_patient else "no-device"
    if performed and not by_patient:
        return "not-from-the-patient"
    return (line,), device_type, None


def _without_duplicates(
    facts: Facts, found: list[tuple[str, Resource, list[Moment]]]
) -> list[tuple[str, Resource, list[Moment]]]:
    """D18: the same identifier, else the same (coding, device, effective, value); the earliest counts."""
    seen: set[Any] = set()
    left = []
    for ref, r, moments in sorted(found, key=lambda one: (_first_second(facts, one[2][0]), one[0])):
        keys: list[Any] = [("identifier", i.get("system"), i.get("value")) for i in r.get("identifier", [])]
        effective = {k: v for k, v in r.items() if k.startswith("effective")}
        value = {k: v for k, v in r.items() if k.startswith("value")}
        keys.append(repr((_codings(r.get("code")), r.get("device"), effective, value)))
        if any(key in seen for key in keys):
            facts.excluded[ref] = "duplicate"
        else:
            left.append((ref, r, moments))
        seen.update(keys)
    return left


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


def _leave_out_before_set_up(facts: Facts, program: str) -> None:
    """D3: readings of an episode before its first set-up don't count, unless a device charge is older."""
    episodes = _episodes(facts, program)
    for episode in episodes:
        set_ups = [day for day, _ in _set_up_days(facts, program) if episode.holds(day)]
        charges = [c for c in _device_charges(facts, program) if _is_of(c, episode, episodes)]
        if set_ups and not any(c.first < set_ups[0] for c in charges):
            early = {r.day for r in facts.readings if episode.holds(r.day) and r.day < set_ups[0]}
            _leave_out_days(facts, program, early, "before-set-up")


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
        first = _first_period(facts, program, episode)
        if first is not None:
            decisions.append(_start_up(facts, program, episode, first))
    if not any(_periods(facts, program, episode) for episode in _episodes(facts, program)):
        facts.excluded |= {c.ref: "charged-period-unclear" for c in _device_charges(facts, program)}
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
    days += [c.first for c in facts.charges if _program_of(c.code) == program]
    for work in facts.works:
        if work.program != program or not work.finished or work.billed_elsewhere:
            continue
        if work.activity == "setup-education":
            days.append(_local_day(work.span.start, facts.zone))
    own = [w for w in facts.works if w.program == program]
    for month in _months(facts):
        for some in _counting(facts, program, _slices(facts, program, month, own)):
            days.append(max(month.start, _local_day(some.work.span.start, facts.zone)))
    return min(days, default=None)


def _months(facts: Facts) -> list[Window]:
    """The calendar months with any work, and the one of --as-of."""
    days = {day for w in facts.works for part in w.parts for day in _local_days(facts, part.span)}
    return sorted({_month(day) for day in days | {facts.as_of}}, key=lambda m: m.start)


def _episodes(facts: Facts, program: str) -> list[Episode]:
    """D3, D4: a later EpisodeOfCare that starts after the former ended starts afresh."""
    set_ups = [day for day, _ in _set_up_days(facts, program)]
    if not facts.care:
        return [Episode(None, None)]
    found: list[Episode] = []
    for start, end in facts.care:
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
        if any(window.holds(day) for day in days) or any(_fits(c, window) for c in charges):
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
    start = _start_of_episode(facts, program, episode)
    return [
        c
        for c in facts.charges
        if c.code == START_UP[program] and episode.holds(c.first) and (start is None or start <= c.first)
    ]


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


def _evidence(days: Mapping[date, Reading]) -> list[str]:
    """Contract: one reading a counted day, the earliest."""
    return [days[day].ref for day in sorted(days)]


def _device_codes(facts: Facts, program: str, episode: Episode, line: str, window: Window) -> list[Decision]:
    """1.3: 2 to 15 days the short code, from 16 the long one; both are told."""
    by_type = _by_type(facts, {line}, episode, window)
    episodes = _episodes(facts, program)
    charges = [
        c
        for c in _device_charges(facts, program)
        if c.code in DEVICE_CODES[line] and _is_of(c, episode, episodes) and _fits(c, window)
    ]
    if not by_type and not charges:
        return []
    best = _best(by_type)
    found = []
    for code, needed in zip(DEVICE_CODES[line], (SHORT_DAYS, LONG_DAYS), strict=True):
        if window.closes < IN_FORCE_FROM[code]:
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
            service_date=window.closes,
        )
        found.append(decision)
    _relate(found)
    if any(c.code == DEVICE_CODES[line][0] for c in charges):
        found[-1].doubts.add("charged-otherwise")
    for decision in found:
        _doubt_period(facts, program, episode, decision, best)
        decision.unverified |= {note for reading in best.values() for note in reading.unverified}
        _doubt_days(facts, line, decision, by_type)
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


def _doubt_period(
    facts: Facts, program: str, episode: Episode, decision: Decision, best: Mapping[date, Reading]
) -> None:
    """D3, D4, D16 for a device code."""
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
    if window.start < NEW_RULES <= window.closes and SHORT_DAYS <= len(best) < LONG_DAYS:
        decision.doubts.add("straddles-rule-change")
    for charge in _device_charges(facts, program):
        touches = _touches(charge, window)
        fits = any(_fits(charge, w) and _is_of(charge, e, episodes) for e, w in windows)
        elsewhere = any(_touches(charge, w) and any(w.holds(day) for day in days) for _, w in windows)
        if not fits and (touches or not elsewhere):
            decision.doubts.add("charged-period-unclear")


def _touches(charge: Charge, window: Window) -> bool:
    """Do they share a day?"""
    return charge.first <= window.end and window.start <= charge.last


def _after_a_long_gap(facts: Facts, program: str, window: Window) -> bool:
    """D4: more than 90 empty days without EpisodeOfCare, and the window holds a counted day after them."""
    if facts.care:
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
    if _tier(now) != _tier(then):
        decision.doubts |= kinds
    if then >= decision.found["monitoring-days"][1]:
        decision.remarks |= kinds


def _tier(days: int) -> int:
    """1.3: none, the short or the long code."""
    return 2 if days >= LONG_DAYS else 1 if days >= SHORT_DAYS else 0


# -- start-up ----------------------------------------------------------


def _threshold(day: date) -> int:
    """1.1: days for 98975 / 99453 on that day."""
    return SHORT_DAYS if day >= NEW_RULES else LONG_DAYS


def _reached(best_by_day: Callable[[date], int], window: Window, last: date) -> date | None:
    """D9: the first day on which the count so far reaches the threshold in force that day."""
    for day in _days(window.start, min(window.closes, last)):
        if best_by_day(day) >= _threshold(day):
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

    reached = _reached(so_far, window, facts.as_of)
    set_ups = [ref for day, ref in _set_up_days(facts, program) if episode.holds(day)]
    needed = _threshold(reached or min(facts.as_of, window.closes))
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
        reachable=_reached(at_most, ahead, ahead.closes) is not None,
        open=reached == facts.as_of,
        charges=_start_up_charges(facts, program, episode),
        service_date=reached,
    )
    if not best and not set_ups and decision.charges:
        decision.found = {}
    decision.unverified |= {note for reading in best.values() for note in reading.unverified}
    if decision.unmet and decision.reachable and not decision.charges:
        decision.forecast = _days_to_come(max(1, _threshold(window.closes) - len(best)), decision)
    if _reached(with_doubtful, window, facts.as_of) is not None:
        decision.remarks |= kinds
    _doubt_start_up(facts, program, episode, decision, best)
    return decision


def _doubt_start_up(
    facts: Facts, program: str, episode: Episode, decision: Decision, best: Mapping[date, Reading]
) -> None:
    """D3, D4, D16 for 98975 / 99453, and the contract: a set-up the record doesn't show is a question."""
    window, code = decision.window, decision.code
    if not any(episode.holds(day) for day, _ in _set_up_days(facts, program)):
        decision.doubts.add("setup-not-documented")
    if episode.unclear:
        decision.doubts.add("episode-unclear")
    if _starts_unseen(facts, program, episode):
        decision.doubts.add("history-incomplete")
    if window.start < NEW_RULES <= window.closes and SHORT_DAYS <= len(best) < LONG_DAYS:
        decision.doubts.add("straddles-rule-change")
        decision.remarks.add("straddles-rule-change")  # D34: unmet, it is told
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
        )
    ]


# -- management ----------------------------------------------------------


@dataclass(frozen=True)
class Slice:
    """What one participant of one Encounter gives to a month."""

    work: Work
    role: str
    seconds: frozenset[int]


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
    months |= {_month(c.first) for c in facts.charges if c.code in MANAGEMENT[program]}
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
        if w.activity in TAKES_TIME_AWAY or w.program == "other" or w.billed_elsewhere
        for span in ([] if any(p.bare for p in w.parts) else [w.span, *(p.span for p in w.parts)])
    ]


def _visit_days(facts: Facts) -> set[tuple[str, date]]:
    """D11: who had a finished E/M visit on which local day (physicians and qualified professionals)."""
    return {
        (part.person, day)
        for w in facts.works
        if (w.activity in ("visit", "in-person") or w.ref in facts.reported_visits) and w.finished
        for part in w.parts
        if part.role in PROFESSIONALS | UNKNOWN_ROLE
        for span in (part.span, _nominal(facts, w) or part.span)
        for day in _local_days(facts, span)
    } | facts.charged_visits


def _nominal(facts: Facts, work: Work) -> range:
    """A visit's own period, whatever its length says: in doubt its last day was a visit day too."""
    r = facts.resources[work.ref]
    return _span(facts, {**r, "length": {}}, r.get("period"))


def _local_days(facts: Facts, span: range) -> list[date]:
    """The local days a span touches; an end at midnight touches no further day."""
    first = _local_day(span.start, facts.zone)
    return list(_days(first, _local_day(span.stop - 1, facts.zone) if span else first))


def _slices(facts: Facts, program: str, month: Window, works: Iterable[Work]) -> list[Slice]:
    """The countable seconds of each participant in the month: D11 taken out, whoever it is."""
    visits = _visit_days(facts)
    of_the_month = _seconds_of(month.start, month.end, facts.zone)
    found = []
    for number, work in enumerate(works):
        if not work.counts or work.program not in (program, "any"):
            continue
        for part in work.parts:
            span = _overlap(part.span, of_the_month)
            seconds = set(span)
            for other in _removed(facts) if not part.bare else []:
                seconds.difference_update(_overlap(span, other))
            for person, day in visits:
                if part.person == person or part.role in AUXILIARY | UNKNOWN_ROLE:
                    seconds.difference_update(_overlap(span, _seconds_of(day, day, facts.zone)))
            if part.bare:  # D13: it counts on that day; beside all else, as nobody knows when
                seconds = {-second - number * IMPLAUSIBLE * 9 for second in seconds}
            if seconds:
                found.append(Slice(work, part.role, frozenset(seconds)))
    return found


def _shown(facts: Facts, program: str, month: Window) -> list[Work]:
    """The work of a month; what is of program any belongs here only from the month that shows the program."""
    begun = facts.begun.get(program)
    shows = begun is not None and begun <= month.end
    shows = shows or any(month.holds(day) for day, _ in _set_up_days(facts, program))
    shows = shows or any(w.program == program for w in _in_person(facts, program, month, facts.works))
    return [w for w in facts.works if w.program == program or (shows and w.program == "any")]


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
    """D13: the union of the seconds, each once. D11: a call without a counted second is no contact."""
    seconds: Seconds = set()
    works: dict[str, Work] = {}
    for s in slices:
        seconds |= s.seconds
        works[s.work.ref] = s.work
    talks = tuple(works[ref] for ref in sorted(works) if works[ref].activity in TALKS)
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
    _doubt_month(facts, program, month, total, doubts)
    codes = _three_codes(facts, program, month, total, talks, now, doubts, then)
    for decision in codes:
        decision.modifiers = _modifiers(slices) if program == "rtm" else []
        if program == "rpm" and UNKNOWN_ROLE & {s.role for s in slices}:
            decision.unverified.add("staff-role")  # D14
        decision.forecast = _more_minutes(decision, codes)
    return codes


def _doubt_month(facts: Facts, program: str, month: Window, total: Sum, doubts: _Doubts) -> None:
    """What doubts every code of a month: its talks, its data, a visit on the service date, 99091."""
    if not total.talks:
        doubts.everywhere("conversation-in-person")
    elif all(_spans_months(facts, talk) for talk in total.talks):
        doubts.everywhere("call-across-months")
    if not any(month.holds(r.day) for r in _counted(facts, program)):
        doubts.everywhere("no-data-in-month")
    if any(day == month.end for _, day in _visit_days(facts)):
        doubts.everywhere("visit-on-service-date")
    if _only_other_line(facts, program, month):
        doubts.everywhere("no-device-code")
    if program == "rpm" and any(c.code == "99091" and month.holds(c.first) for c in facts.charges):
        doubts.everywhere("99091")


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
            if self.now.get(code, 0) != other.get(code, 0):
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
    for code, needed in ((ten, TEN), (twenty, TWENTY), (more, 2 * TWENTY)):
        if month.end < IN_FORCE_FROM[code]:
            continue
        requirements = {
            "management-time": (total.seconds, needed, list(total.works)),
            "live-contact": (len(contacts), 1, contacts),
        }
        if code == more:
            base = next(d for d in found if d.code == twenty)
            if not base.met_or_charged:
                continue
            requirements["base-code"] = (1, 1, [c.ref for c in base.charges])
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
    charged = {c.code for c in ours if _in_month(c, month)}
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
    """Contract: the conversations in person of a counted role (never a visit)."""
    counted = PROFESSIONALS | AUXILIARY | UNKNOWN_ROLE
    if program == "rtm":
        counted = counted | THERAPISTS | ASSISTANTS
    days = _seconds_of(month.start, month.end, facts.zone)
    return [
        w
        for w in works
        if w.activity == "in-person"
        and w.finished
        and not w.billed_elsewhere
        and any(p.role in counted and days.start <= p.span.start < days.stop for p in w.parts)
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
    return found


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


def _of_its_months(c: Charge) -> Charge:
    """A management code is of its calendar months, whatever day it bears."""
    if c.code not in (*MANAGEMENT["rtm"], *MANAGEMENT["rpm"]):
        return c
    return replace(c, first=_month(c.first).start, last=_month(c.last).end)


def _hold_both_programs(facts: Facts, decisions: list[Decision]) -> None:
    """D1: RTM and RPM in windows sharing a day."""
    standing = [d for d in decisions if d.met_or_charged]
    charged = [c for c in facts.charges if c.code != "99091"]
    perhaps = facts.enrolled | {_program_of(c.code) for c in facts.charges}
    for d in standing:
        other = "rpm" if d.program == "rtm" else "rtm"
        if not any(o.program == other and o.window.shares_a_day(d.window) for o in standing) and not any(
            _program_of(c.code) == other and _touches(_of_its_months(c), d.window) for c in charged
        ):
            continue
        if d.program in facts.enrolled and other not in perhaps:
            d.unverified.add("other-program")
        else:
            d.doubts.add("rtm-and-rpm")


# -- the answer ----------------------------------------------------------


def _outcome(facts: Facts, d: Decision) -> tuple[str, set[str]]:
    """Contract: the first outcome that fits, with its reasons."""
    if d.charges:
        return "charged", set()
    if d.unmet:
        return ("short" if d.reachable and not _is_dead(facts) else "out-of-reach"), d.remarks
    if d.blocked_by:
        return "blocked", {d.blocked_by}
    doubts = set(d.doubts)
    if facts.payer == "unknown":
        doubts.add("payer-unknown")
    if doubts:
        return "review", doubts
    return ("provisional" if d.open else "suggest"), set()


def _write(facts: Facts, d: Decision) -> dict[str, Any]:
    """A decision in the contract's words."""
    outcome, reasons = _outcome(facts, d)
    unmet = outcome in ("short", "out-of-reach")
    quantity = sum(c.quantity for c in d.charges) if d.charges else 0 if unmet else d.quantity
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
            for name, (found, needed, evidence) in d.found.items()
        ],
        "reasons": sorted(reasons),
        "unverified": sorted(d.unverified | _of_the_year(d)),
        "modifiers": d.modifiers,
        "forecast": None if _is_dead(facts) else d.forecast,
    }


def _of_the_year(d: Decision) -> set[str]:
    """D37: the last table decides a service date past its end, and the rules of that year are unverified."""
    return {"rules-of-the-year"} if (d.service_date or d.window.closes) > COVERS_TO else set()


def _is_dead(facts: Facts) -> bool:
    """D6: after death nothing counts, so nothing more can come."""
    return facts.died is not None and facts.died.day <= facts.as_of
