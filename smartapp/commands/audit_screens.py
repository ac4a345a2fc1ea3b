"""The screens that auditors lay over all charges of a month, over our own before they do.

Each is said with how it was counted. None proves anything of a single charge: it says where to look. Their
sources: the inspector general's reports on remote monitoring (register R5-11) and D19.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from math import comb
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Struct

from fhir_mappings.rules.tables import Kind, shipped_codes
from fhir_mappings.vocabulary import RequirementKind, Unverified
from smartapp.configuration.handover import Method
from smartapp.ehr.handover.worksheet import line_in
from smartapp.store.charges import Charge, key_in

FAR = 0.001
"""Probability below which a number is far above chance."""
FEWEST = 5
"""Charges at a threshold below which nothing is said: chance makes such numbers by itself."""
NEIGHBOURS = 4
"""A threshold is compared with the three values above it."""
GROWTH, FEWEST_NEW = 1.5, 10
"""Times as many patients as in the months before, and at least so many more."""
_MANAGEMENT = (Kind.MANAGEMENT, Kind.MANAGEMENT_ADD_ON)
_MICROSECONDS = 1_000_000


class Audited(Struct, frozen=True):
    """What the screens ask of one charge. `spans`: time of day and seconds of each counted one."""

    key: str
    patient: str
    code: str
    kind: Kind
    days: int | None = None
    seconds: int | None = None
    devices: frozenset[str] = frozenset()
    spans: tuple[tuple[str, int], ...] = ()
    diagnoses: tuple[str, ...] = ()
    order_recorded: bool = True


class Screen(Struct, frozen=True):
    """One screen. `found`: the keys of the charges it points at; `how`: what was counted against what."""

    id: str
    asks: str
    tripped: bool
    how: str
    found: tuple[str, ...] = ()


class _Record(Struct):
    reference: str
    resource: msgspec.Raw = msgspec.Raw(b"null")


class _Requirement(Struct):
    requirement: str
    found: int = 0


class _Decision(Struct):
    requirements: list[_Requirement] = []
    unverified: list[str] = []


class _Span(Struct):
    start: int
    seconds: int


class _Evidence(Struct):
    """What of a charge's evidence the screens ask; the rest is not opened."""

    decision: _Decision = msgspec.field(default_factory=_Decision)
    spans: list[_Span] = []
    records: list[_Record] = []


class _Device(Struct):
    reference: str | None = None


class _Observation(Struct):
    device: _Device | None = None


def audited(charge: Charge, zone: ZoneInfo) -> Audited:
    """What the screens ask, from what is kept of a charge."""
    evidence = msgspec.json.decode(charge.content.evidence, type=_Evidence)
    found = {one.requirement: one.found for one in evidence.decision.requirements}
    devices = {
        seen.device.reference
        for one in evidence.records
        if one.reference.startswith("Observation/")
        and (seen := _observation(one.resource)) is not None
        and seen.device is not None
        and seen.device.reference
    }
    return Audited(
        key_in(charge.identifier),
        charge.patient,
        charge.code,
        shipped_codes().rules[charge.code].kind,
        found.get(RequirementKind.MONITORING_DAYS),
        found.get(RequirementKind.MANAGEMENT_TIME),
        frozenset(devices),
        tuple(sorted((_time(span.start, zone), span.seconds) for span in evidence.spans)),
        _diagnoses(charge),
        Unverified.ORDER not in evidence.decision.unverified,
    )


def screens(
    month: Sequence[Audited], before: Sequence[Audited], patients: Mapping[date, int], first_day: date
) -> tuple[Screen, ...]:
    """All screens over a month's charges. `before`: those of the month before; `patients`: how many had a
    charge, by month."""
    return (
        device_without_management(month, before),
        at_threshold(month, "days-2", "exactly 2 days", lambda one: one.days, 2),
        at_threshold(month, "days-16", "exactly 16 days", lambda one: one.days, 16),
        at_threshold(month, "minutes-10", "exactly 10:00 minutes", _whole_minutes, 10),
        at_threshold(month, "minutes-20", "exactly 20:00 minutes", _whole_minutes, 20),
        several_devices(month),
        growth(patients, first_day),
        same_spans(month, before),
        vague_diagnosis(month),
        no_reason(month),
    )


def device_without_management(month: Sequence[Audited], before: Sequence[Audited]) -> Screen:
    """Device supply of patients of whom nobody charged management in this month or the one before."""
    managed = {one.patient for one in (*month, *before) if one.kind in _MANAGEMENT}
    supplied = [one for one in month if one.kind is Kind.DEVICE_SUPPLY]
    found = [one.key for one in supplied if one.patient not in managed]
    return Screen(
        "device-without-management",
        "Is device supply charged for patients whose data nobody worked with?",
        bool(found),
        f"{len(found)} of {len(supplied)} charges of device supply are of patients without a charge of "
        "management in this month or the one before.",
        tuple(sorted(found)),
    )


def at_threshold(
    month: Sequence[Audited], id_: str, name: str, value: Callable[[Audited], int | None], threshold: int
) -> Screen:
    """Far more charges at a threshold than at each of the three values above it."""
    values = [(told, one.key) for one in month if (told := value(one)) is not None]
    near = [key for told, key in values if threshold <= told < threshold + NEIGHBOURS]
    found = [key for told, key in values if told == threshold]
    p = tail(len(found), len(near), 1 / NEIGHBOURS)
    return Screen(
        f"exactly-{id_}",
        f"Do far more charges rest on {name} than chance would bring?",
        len(found) >= FEWEST and p < FAR,
        f"{len(found)} of the {len(near)} charges at this value or one of the three above it are at it; "
        f"were each of the four as likely, so many or more would come with a probability of {_told(p)} "
        f"(binomial, one-sided; far above chance: below {FAR}, and at least {FEWEST} charges).",
        tuple(sorted(found)),
    )


def several_devices(month: Sequence[Audited]) -> Screen:
    """Patients whose counted readings of the month come from more than one device."""
    devices: dict[str, set[str]] = {}
    for one in month:
        devices.setdefault(one.patient, set()).update(one.devices)
    several = {patient for patient, named in devices.items() if len(named) > 1}
    found = [one.key for one in month if one.patient in several and one.kind is Kind.DEVICE_SUPPLY]
    return Screen(
        "several-devices",
        "Do patients have several devices in a month?",
        bool(several),
        f"{len(several)} of {len(devices)} patients: counted readings name more than one device. One device "
        "code a period is charged all the same.",
        tuple(sorted(found)),
    )


def growth(patients: Mapping[date, int], first_day: date) -> Screen:
    """Far more patients than in the three months before."""
    earlier = [count for day, count in sorted(patients.items()) if day < first_day][-3:]
    now = patients.get(first_day, 0)
    mean = sum(earlier) / len(earlier) if earlier else 0.0
    sudden = bool(earlier) and now >= GROWTH * mean and now - mean >= FEWEST_NEW
    how = (
        f"{now} patients with a charge, {mean:.1f} on average in the {len(earlier)} months before"
        if earlier
        else f"{now} patients with a charge, and no month before to compare with"
    )
    return Screen(
        "growth",
        "Did the number of patients grow suddenly?",
        sudden,
        f"{how} (sudden: {GROWTH} times as many, and at least {FEWEST_NEW} more).",
    )


def same_spans(month: Sequence[Audited], before: Sequence[Audited]) -> Screen:
    """Minutes at the very times of day, and of the very lengths, of the month before."""
    earlier = {(one.patient, one.code): one.spans for one in before if one.spans}
    timed = [one for one in month if one.spans]
    found = [one.key for one in timed if earlier.get((one.patient, one.code)) == one.spans]
    return Screen(
        "same-spans",
        "Are the minutes of a patient the same every month?",
        bool(found),
        f"{len(found)} of {len(timed)} charges of management rest on spans of the same times of day and "
        "lengths as in the month before.",
        tuple(sorted(found)),
    )


def vague_diagnosis(month: Sequence[Audited]) -> Screen:
    """Charges with a symptom, or a circumstance, as their only diagnosis (ICD-10-CM chapters R and Z)."""
    named = [one for one in month if one.diagnoses]
    found = [one.key for one in named if all(code[:1].upper() in "RZ" for code in one.diagnoses)]
    return Screen(
        "vague-diagnosis",
        "Is what is monitored named by a diagnosis?",
        bool(found),
        f"{len(found)} of {len(named)} charges with a diagnosis have only symptoms or circumstances "
        "(ICD-10-CM, chapters R and Z).",
        tuple(sorted(found)),
    )


def no_reason(month: Sequence[Audited]) -> Screen:
    """Charges with neither a diagnosis nor an order in the record: a person's word is all there is."""
    found = [one.key for one in month if not one.diagnoses and not one.order_recorded]
    return Screen(
        "no-reason",
        "Is it recorded why the patient is monitored?",
        bool(found),
        f"{len(found)} of {len(month)} charges carry no diagnosis, and the record showed no order: that "
        "there is one was confirmed by a person alone.",
        tuple(sorted(found)),
    )


def tail(found: int, among: int, p: float) -> float:
    """Probability of `found` or more of `among`, each with probability `p`."""
    if among > 1000:
        return _tail_of_many(found, among, p)
    return min(1.0, sum(comb(among, k) * p**k * (1 - p) ** (among - k) for k in range(found, among + 1)))


def _tail_of_many(found: int, among: int, p: float) -> float:
    """The same for numbers whose factors no float holds: each term from the one before, in logarithms."""
    from math import exp, fsum, lgamma, log

    def term(k: int) -> float:
        ways = lgamma(among + 1) - lgamma(k + 1) - lgamma(among - k + 1)
        return exp(ways + k * log(p) + (among - k) * log(1 - p))

    return min(1.0, fsum(term(k) for k in range(found, among + 1)))


def _whole_minutes(one: Audited) -> int | None:
    """Minutes to the second: 10:01 is no ten."""
    if one.seconds is None:
        return None
    minutes, seconds = divmod(one.seconds, 60)
    # What is not whole counts as the minute above: it is one of the values that a threshold is held against.
    return minutes + (seconds > 0)


def _told(p: float) -> str:
    return "less than 0.000001" if p < 1e-6 else f"{p:.6f}"


def _time(instant: int, zone: ZoneInfo) -> str:
    return f"{datetime.fromtimestamp(instant / _MICROSECONDS, UTC).astimezone(zone):%H:%M:%S}"


def _observation(resource: msgspec.Raw) -> _Observation | None:
    try:
        return msgspec.json.decode(resource, type=_Observation)
    except msgspec.MsgspecError:
        return None


def _diagnoses(charge: Charge) -> tuple[str, ...]:
    reasons: list[Any] = charge.content.resource.get("reason", [])
    found = [coding.get("code", "") for reason in reasons for coding in reason.get("coding", ())]
    line = line_in(charge) if charge.content.method is not Method.CHARGE_ITEM and not found else None
    return tuple(found) if line is None else tuple(one.code for one in line.diagnoses)
