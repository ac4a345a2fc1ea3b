"""Random charts of one patient, pointed at where the rules turn: thresholds, midnights, doubts.

Every other chart also holds something of real charts: broken values, odd devices, versions and deletions,
places, merged patients, charges in odd shapes, pages that were not read. Most stay decidable.

A chart is a list of events in the shorthand of `chart.py`, so that a failing one can be read, cut down and
pasted into a case file. Nothing here knows what the answer should be.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from itertools import pairwise
from typing import Any

from hypothesis import strategies as st

from .chart import ACT, CODINGS, CPT, LOINC, SNOMED, Resource, build_resources

Event = dict[str, Any]
ACT_REASON = "http://terminology.hl7.org/CodeSystem/v3-ActReason"

ZONES = ["America/New_York", "America/New_York", "Europe/Berlin", "Asia/Kolkata", "Pacific/Auckland"]

#: Where a chart begins: around New Year, clock changes (US, Europe, New Zealand), leap days, plain months.
ORIGINS = [
    date(2025, 9, 1),
    date(2025, 12, 2),
    date(2025, 12, 10),
    date(2025, 12, 17),
    date(2026, 1, 5),
    date(2026, 2, 1),
    date(2026, 3, 1),
    date(2026, 3, 20),
    date(2026, 9, 20),
    date(2026, 10, 20),
    date(2026, 12, 3),
    date(2026, 12, 20),
    date(2028, 2, 1),
    date(2024, 2, 10),
]

#: What is read, through what, by whom; None leaves the element out.
Source = tuple[str, Any, str | None]
SOURCES: list[Source] = [
    ("HEP", None, None),
    ("HEP", None, "patient"),
    ("HEP", "knee-app", "patient"),
    ("HEP", "knee-app-2", None),
    ("HEP", "inhaler-cap", None),
    ("PUFFS", None, "patient"),
    ("PUFFS", "inhaler-cap", None),
    ("MOOD", None, "patient"),
    ("MOOD", "mood-app", None),
    ("SWIM", "pool-sensor", None),
    ("SWIM", None, "patient"),
    ("CUFF-ROW", None, None),
    ("CUFF-ROW", None, "patient"),
    ("CUFF-ROW", "cuff", None),
    ("BP", "cuff", None),
    ("BP", "cuff", "patient"),
    ("BP", "cuff-2", None),
    ("BP", None, "patient"),
    ("BP", None, None),
    ("BP", {"reference": "Device/gone"}, None),
    ("BP", {"display": "some cuff"}, None),
    ("BP", "phone-app", "patient"),
    ("BP", "phone-app", None),
    ("BP", "knee-app", None),
    ("WEIGHT", "scale", None),
    ("WEIGHT", "cuff", None),
    ("BATTERY", "cuff", None),
    ("PHQ9", None, "patient"),
]
ODD_READINGS = ["instant", "leap", "date", "month", "naive", "period", "timing", "same", "visit", "twice"]
COUNTS = [1, 1, 2, 2, 3, 8, 9, 13, 14, 15, 15, 16, 16, 17, 29, 30, 31]
CLOCKS = ["08:00", "00:00", "23:58", "03:30+00:00", "22:15-00:00", "23:30-08:00", "00:10+09:30"]

ODD_WORK = ["plain"] * 4 + ["status", "length", "only-length", "generic", "coded", "own-period"]
ODD_WORK += ["bare-date", "utc", "ambulatory"]
THRESHOLDS = [10, 20, 40, 60, 80, 100]
ROLES = ["physician", "physician-2", "np", "pt", "pt-2", "ot", "slp", "pta", "ota", "nurse", "nurse-2"]
ROLES += ["front-desk", "somebody"]
MINUTES_OF_WORK = ["call", "call", "call", "video", "review", "review"]
OTHER_WORK = ["setup", "in-person", "visit", "message", "admin"]


@dataclass(frozen=True, repr=False)
class RandomChart:
    """A chart to ask both sides about."""

    zone: str
    payer: str | None
    as_of: str
    events: list[Event] = field(default_factory=list)
    history_from: str | None = None

    def resources(self) -> list[Resource]:
        return build_resources(self.events, self.zone)

    def __repr__(self) -> str:
        return "..."  # hypothesis prints it once more, at length

    def __str__(self) -> str:
        told = "\n".join(f"  - {event}" for event in self.events)
        asked = f"zone {self.zone}, payer {self.payer}, as of {self.as_of}"
        return f"{asked}, history from {self.history_from}\n{told}"


@st.composite
def charts(draw: st.DrawFn) -> RandomChart:
    """A chart: a theme decides what it has plenty of, everything else appears now and then."""
    zone = draw(st.sampled_from(ZONES))
    origin = draw(st.sampled_from(ORIGINS))
    theme = draw(st.sampled_from(THEMES))
    events: list[Event] = []
    for _ in range(draw(st.sampled_from([1, 1, 2] if theme == "as they are" else [0, 0, 0, 1]))):
        events += draw(draw(st.sampled_from(ODDITIES))(origin))
    if theme == "as they are":
        pass
    elif theme == "doubts":
        events += draw(doubtful_days(origin))
    elif theme != "minutes":
        events += draw(readings(origin, at_most=4 if theme == "days" else 2))
    if theme in ("minutes", "both") or (theme != "as they are" and draw(st.integers(0, 3)) == 0):
        events += draw(minutes(origin))
    for kind, odds in ODDS.items():
        if draw(st.integers(1, odds)) == 1:
            events += draw(EXTRAS[kind](origin))
    if theme == "charges" or draw(st.integers(0, 5)) == 0:
        events += draw(charges(origin, _charged_codes(events)))
    if theme == "episodes":
        events += draw(episodes(origin))
    payer = draw(st.sampled_from(["medicare"] * 13 + [None, "unitedhealthcare", "bcbs"]))
    as_of = draw(days_of_asking(origin))
    history_from = None
    if draw(st.integers(0, 3)) == 0:
        events += draw(beginnings(origin))
        history_from = draw(first_days_read(events, as_of)).isoformat()
    return RandomChart(zone, payer, as_of.isoformat(), events, history_from)


THEMES = ["days", "doubts", "minutes", "minutes", "both", "charges", "episodes", "as they are", "as they are"]


def _later(origin: date, days: int) -> str:
    return (origin + timedelta(days=days)).isoformat()


@st.composite
def days_of_asking(draw: st.DrawFn, origin: date) -> date:
    """Inside windows, on their last day, the day after; month ends; long after."""
    if draw(st.booleans()):
        return origin + timedelta(
            days=draw(st.sampled_from([0, 1, 2, 14, 16, 28, 29, 30, 31, 45, 59, 60, 95, 160]))
        )
    month = (origin.replace(day=1) + timedelta(days=32 * draw(st.integers(1, 4)))).replace(day=1)
    return month + timedelta(days=draw(st.sampled_from([-2, -1, 0, 1])))


# -- readings ----------------------------------------------------------


@st.composite
def readings(draw: st.DrawFn, origin: date, at_most: int = 3) -> list[Event]:
    """Runs of readings; sometimes a duplicate, a period, a partial date, another's device."""
    events: list[Event] = []
    for _ in range(draw(st.integers(1, at_most))):
        of, device, by = draw(st.sampled_from(SOURCES))
        told: Event = {
            "of": of,
            "from": _later(
                origin, draw(st.sampled_from([0, 0, 0, 1, 2, 13, 14, 15, 16, 29, 30, 31, 44, 60, 125]))
            ),
            "count": draw(st.sampled_from(COUNTS)),
        }
        if draw(st.integers(0, 4)) == 0:
            told["every"] = 2
        if draw(st.integers(0, 2)) == 0:
            told["at"] = draw(st.sampled_from(CLOCKS))
        if device is not None:
            told["device"] = device
        if by is not None:
            told["by"] = by
        if draw(st.integers(0, 9)) == 0:
            told["status"] = draw(
                st.sampled_from(["amended", "preliminary", "entered-in-error", "cancelled"])
            )
        events.append({"days": told})
    if draw(st.integers(0, 3)) == 0:
        events.append(draw(odd_readings(origin)))
    if draw(st.integers(0, 11)) == 0:  # the gap after which an episode is unclear
        of, device, by = draw(st.sampled_from(SOURCES[:6]))
        for first in (0, draw(st.sampled_from([90, 91, 92, 93]))):
            events.append(_run(of, device, by, origin, first, 2))
    return events


@st.composite
def odd_readings(draw: st.DrawFn, origin: date) -> Event:
    """One reading that is not plain: bare or partial date, period, events, duplicate, borrowed device."""
    of, device, by = draw(st.sampled_from([s for s in SOURCES if not isinstance(s[1], dict)]))
    day = _later(origin, draw(st.integers(-2, 33)))
    told: Event = {"of": of, "at": f"{day}T12:00:00"}
    if device is not None:
        told["device"] = device
    if by is not None:
        told["by"] = by
    kind = draw(st.sampled_from(ODD_READINGS))
    if kind == "date":
        told["at"] = day
    elif kind == "month":
        told["at"] = day[:7]
    elif kind == "instant":
        told["raw"] = {"effectiveDateTime": None, "effectiveInstant": f"{day}T02:00:00Z"}
    elif kind == "leap":
        told["raw"] = {"effectiveDateTime": f"{day}T23:59:60Z"}
    elif kind == "naive":
        told["raw"] = {"effectiveDateTime": f"{day}T23:59:59"}
    elif kind == "period":
        ends = _later(date.fromisoformat(day), 1)
        told["raw"] = {
            "effectiveDateTime": None,
            "effectivePeriod": {"start": f"{day}T23:00:00-05:00", "end": f"{ends}T07:00:00-05:00"},
        }
    elif kind == "timing":
        both = [f"{day}T09:00:00-05:00", f"{_later(date.fromisoformat(day), 3)}T09:00:00-05:00"]
        told["raw"] = {"effectiveDateTime": None, "effectiveTiming": {"event": both}}
    elif kind == "same":
        told["value"] = 7
        told["raw"] = {
            "effectiveDateTime": f"{day}T08:00:00-05:00",
            "identifier": [{"system": "urn:x", "value": "1"}],
        }
        return {"days": {**told, "at": "08:00", "from": day, "count": draw(st.integers(2, 3))}}
    elif kind == "visit":
        told["encounter"] = "e1"
    elif kind == "twice":
        return {"days": {**told, "at": "08:00", "on": [day, day, day], "value": 7}}
    return {"reading": told}


#: line -> its sound sources, and those that raise a doubt
DOUBTS: dict[str, tuple[list[Source], list[Source]]] = {
    "rpm": (
        [("BP", "cuff", None), ("CUFF-ROW", None, None), ("WEIGHT", "scale", None)],
        [
            ("BP", {"reference": "Device/gone"}, None),
            ("BP", "phone-app", None),
            ("CUFF-ROW", None, "patient"),
            ("BP", "knee-app", None),
        ],
    ),
    "rtm": (
        [("HEP", None, "patient"), ("HEP", "knee-app", None)],
        [("HEP", "inhaler-cap", None), ("PUFFS", "knee-app", None), ("HEP", "cuff", None)],
    ),
}


@st.composite
def doubtful_days(draw: st.DrawFn, origin: date) -> list[Event]:
    """Sound days that come to a threshold, or nearly, and days in doubt before, among or behind them."""
    sound, doubtful = DOUBTS[draw(st.sampled_from(["rpm", "rtm"]))]
    count = draw(st.sampled_from([1, 2, 8, 9, 14, 15, 16]))
    of, device, by = draw(st.sampled_from(sound))
    events = [_run(of, device, by, origin, 0, count)]
    if draw(st.integers(0, 3)) == 0:
        of, device, by = draw(st.sampled_from(sound))
        events.append(_run(of, device, by, origin, draw(st.sampled_from([0, 5, 16])), count - 1))
    for _ in range(draw(st.integers(1, 2))):
        of, device, by = draw(st.sampled_from(doubtful))
        more = draw(st.sampled_from([1, 2, max(1, 15 - count), max(1, 16 - count), 17]))
        first = draw(st.sampled_from([0, max(0, count - 2), count, count, 30 - more, 30]))
        events.append(_run(of, device, by, origin, first, more))
    return events


def _run(of: str, device: Any, by: str | None, origin: date, first: int, count: int) -> Event:
    told: Event = {"of": of, "from": _later(origin, first), "count": count}
    told |= {} if device is None else {"device": device}
    return {"days": told | ({} if by is None else {"by": by})}


# -- minutes ----------------------------------------------------------


def _clock(seconds: int) -> str:
    return f"{seconds // 3600}:{seconds % 3600 // 60:02}:{seconds % 60:02}"


#: Who works a month together. The last may be anybody.
TEAMS = [
    ["physician", "nurse"],
    ["np", "nurse", "physician-2"],
    ["pt", "pta"],
    ["ot", "ota"],
    ["slp"],
    ["pt", "pt-2", "nurse"],
    ["physician", "pt"],
    ["physician", "pt", "nurse", "pta"],
    ["nurse", "nurse-2"],
    ["pta"],
    ["physician", "front-desk"],
    ["physician", "nurse", "somebody"],
    ["pt", "somebody"],
    ROLES,
]


@st.composite
def minutes(draw: st.DrawFn, origin: date) -> list[Event]:
    """Work near a threshold: talks and reviews whose lengths come to it, a second less, a second more."""
    program = draw(st.sampled_from(["rtm", "rtm", "rpm", "rpm", "any"]))
    team = draw(st.sampled_from(TEAMS))
    total = draw(st.sampled_from(THRESHOLDS)) * 60 + draw(st.sampled_from([-61, -1, 0, 0, 1, 300]))
    parts = draw(st.integers(1, 4))
    start = draw(moments_of_work(origin))
    events: list[Event] = []
    if draw(st.integers(0, 3)):  # something to manage in either month
        of = "CUFF-ROW" if program == "rpm" else "HEP"
        days = [start[:10], _later(date.fromisoformat(start[:10]).replace(day=1), 32)]
        events.append({"days": {"of": of, "on": days, "at": "07:00"}})
    for n in range(parts):
        last = n == parts - 1
        length = total if last else draw(st.sampled_from([60, 240, 599, 600, total // 2, total // 10]))
        length = max(1, min(length, total - (parts - n - 1)))
        total -= length
        words = MINUTES_OF_WORK if n else ["call", "call", "video", "review"]
        word = draw(st.sampled_from(words))
        events.append(_work(word, start, length, draw(staff(team)), program))
        start = _shift(start, length + draw(st.sampled_from([0, 0, 60, 86400, -30])))
        if draw(st.integers(0, 7)) == 0:
            program = draw(st.sampled_from(["rtm", "rpm", "any", "other"]))
    for _ in range(draw(st.sampled_from([0, 0, 1, 1, 2]))):
        events.append(draw(other_work(origin, start)))
    return events


def _shift(start: str, seconds: int) -> str:
    return (datetime.fromisoformat(start) + timedelta(seconds=seconds)).isoformat()


def _work(word: str, at: str, length: int, by: Any, program: str) -> Event:
    return {word: {"at": at, "for": _clock(length), "by": by, "program": program}}


@st.composite
def moments_of_work(draw: st.DrawFn, origin: date) -> str:
    """A time on some day: plain, just before midnight, before a month ends, before clocks change."""
    if draw(st.integers(0, 3)):
        day = origin + timedelta(days=draw(st.integers(0, 20)))
        clock = draw(st.sampled_from(["10:00:00", "10:05:00", "14:30:00", "23:50:00", "01:50:00"]))
    else:
        ends = (origin.replace(day=1) + timedelta(days=32)).replace(day=1) - timedelta(days=1)
        day = draw(
            st.sampled_from([ends, date(2026, 3, 8), date(2026, 11, 1), date(2026, 3, 29), date(2026, 4, 5)])
        )
        clock = draw(st.sampled_from(["23:45:00", "23:55:00", "10:00:00", "01:45:00", "00:30:00"]))
    return f"{day}T{clock}"


def staff(team: list[str]) -> st.SearchStrategy[Any]:
    """One of a team mostly, now and then two, nobody at all."""
    one = st.sampled_from(team)
    return st.one_of(one, one, one, one, st.tuples(one, st.sampled_from(ROLES)).map(list), st.just([]))


@st.composite
def other_work(draw: st.DrawFn, origin: date, near: str) -> Event:
    """Work that takes minutes away, or adds none: set-up, visit, another program's, odd spans."""
    word = draw(st.sampled_from([*OTHER_WORK, *MINUTES_OF_WORK]))
    program = draw(st.sampled_from(["rtm", "rpm", "any", "other"]))
    at = draw(st.one_of(st.just(_shift(near, -120)), moments_of_work(origin)))
    length = draw(st.sampled_from([0, 60, 300, 600, 1200, 1800, 4 * 3600, 4 * 3600 + 1]))
    event = _work(word, at, length, draw(staff(ROLES)), program)
    kind = draw(st.sampled_from(ODD_WORK))
    told = event[word]
    if kind == "status":
        told["status"] = draw(st.sampled_from(["cancelled", "planned", "in-progress", "entered-in-error"]))
    elif kind == "length":
        told["length"] = draw(st.sampled_from([60, 599, 600, 1200, 20000]))
    elif kind == "only-length":
        del told["for"]
        told["length"] = draw(st.sampled_from([599, 600, 1200]))
    elif kind == "generic":
        told["raw"] = {"type": None, "class": {"system": ACT, "code": "VR"}}
    elif kind == "coded":
        coding = {"system": CPT, "code": draw(st.sampled_from(["99213", "99204"]))}
        told["raw"] = {
            "type": [{"coding": [coding]}],
            "class": {"system": ACT, "code": draw(st.sampled_from(["AMB", "VR"]))},
        }
    elif kind == "bare-date":
        told.update(at=at[:10], length=draw(st.sampled_from([599, 600, 1200])))
        del told["for"]
    elif kind == "utc":
        told["at"] = f"{at}+00:00"
    elif kind == "ambulatory":
        told["class"] = "AMB"
    elif kind == "own-period":
        own = {"start": told["at"], "end": _shift(told["at"], 300)}  # no offset: the site's zone
        earlier, later = _shift(told["at"], -3 * 3600), _shift(told["at"], 3 * 3600)
        open_ends = [{"start": own["end"]}, {"end": own["end"]}, {"start": earlier}, {"end": later}]
        days = [{"start": told["at"][:10]}, {"start": earlier, "end": later[:10]}]
        own = draw(st.sampled_from([own, own, own, *open_ends, *days]))
        role = draw(st.sampled_from(["role-nurse", "role-physician", "role-pt"]))
        told["raw"] = {
            "participant": [{"individual": {"reference": f"PractitionerRole/{role}"}, "period": own}]
        }
    return event


# -- the rest ----------------------------------------------------------


@st.composite
def set_ups(draw: st.DrawFn, origin: date) -> list[Event]:
    at = f"{_later(origin, draw(st.sampled_from([-1, 0, 0, 0, 1, 5, 31])))}T09:00:00"
    program = draw(st.sampled_from(["rtm", "rpm", "any"]))
    return [
        _work("setup", at, draw(st.sampled_from([60, 1200])), draw(st.sampled_from(["nurse", "pt"])), program)
    ]


@st.composite
def stays(draw: st.DrawFn, origin: date) -> list[Event]:
    first = draw(st.integers(-1, 30))
    told: Event = {"at": f"{_later(origin, first)}T12:00:00"}
    if draw(st.integers(0, 3)):
        told["until"] = (
            f"{_later(origin, first + draw(st.integers(0, 6)))}T{draw(st.sampled_from(['08:00', '13:00']))}"
        )
        if told["until"][:10] == told["at"][:10]:
            told["until"] = f"{told['at'][:10]}T13:00"
    if draw(st.integers(0, 3)) == 0:
        told["status"] = draw(st.sampled_from(["in-progress", "cancelled", "onleave"]))
    return [{"stay": told}]


@st.composite
def deaths(draw: st.DrawFn, origin: date) -> list[Event]:
    day = _later(origin, draw(st.integers(0, 30)))
    return [{"patient": {"died": draw(st.sampled_from([day, f"{day}T08:00:00"]))}}]


@st.composite
def enrolments(draw: st.DrawFn, origin: date) -> list[Event]:
    """A Consent, or an order of one program."""
    if draw(st.booleans()):
        told: Resource = {
            "resourceType": "Consent",
            "id": "consent",
            "status": draw(st.sampled_from(["active", "rejected"])),
            "patient": {"reference": "Patient/p1"},
            "dateTime": origin.isoformat(),
        }
    else:
        told = {
            "resourceType": "ServiceRequest",
            "id": "order",
            "status": "active",
            "intent": "order",
            "code": {"coding": [{"system": CPT, "code": draw(st.sampled_from(["98977", "99457"]))}]},
            "subject": {"reference": "Patient/p1"},
            "authoredOn": origin.isoformat(),
        }
    return [{"resource": told}]


@st.composite
def billed_elsewhere(draw: st.DrawFn, origin: date) -> list[Event]:
    """A call that another charge uses up."""
    at = f"{_later(origin, draw(st.integers(0, 9)))}T11:00:00"
    told = _work(
        "call", at, 1200, draw(st.sampled_from(["physician", "pt"])), draw(st.sampled_from(["rtm", "rpm"]))
    )
    told["call"]["id"] = "billed"
    code = draw(st.sampled_from(["99213", "99490", "97110"]))
    status = draw(st.sampled_from(["billable", "billed", "entered-in-error"]))
    return [told, {"charge": {"code": code, "on": at[:10], "context": "billed", "status": status}}]


@st.composite
def devices(draw: st.DrawFn, origin: date) -> list[Event]:
    """A cuff that is somebody else's, nobody's, or of no known type; a reading through a DeviceMetric."""
    kind = draw(st.sampled_from(["p2", None, "type", "metric"]))
    if kind == "metric":
        metric = {"resourceType": "DeviceMetric", "id": "metric", "source": {"reference": "Device/cuff"}}
        read: Event = {"of": "BP", "from": _later(origin, 0), "count": draw(st.sampled_from([2, 16]))}
        read["device"] = {"reference": "DeviceMetric/metric"}
        return [{"device": {"name": "cuff"}}, {"resource": metric}, {"days": read}]
    told: Event = {"name": draw(st.sampled_from(["cuff", "knee-app"])), "patient": "p1"}
    if kind == "type":
        told["type"] = ["urn:clinic:device", "unheard-of"]
    else:
        told["patient"] = kind
    return [{"device": told}]


EXTRAS = {
    "set_up": set_ups,
    "device": devices,
    "stay": stays,
    "death": deaths,
    "enrolment": enrolments,
    "elsewhere": billed_elsewhere,
}


#: One chart in so many has it.
ODDS = {"set_up": 2, "stay": 6, "death": 12, "enrolment": 6, "elsewhere": 8, "device": 8}


def _charged_codes(events: list[Event]) -> list[str]:
    """What may have been charged before: above all codes of the lines that are read."""
    read = {event["days"]["of"] for event in events if "days" in event}
    return CHARGED_CODES + [code for of in sorted(read) for code in CODES_OF.get(of, [])] * 5


@st.composite
def charges(draw: st.DrawFn, origin: date, codes: list[str]) -> list[Event]:
    """Prior charges: 30-day periods on and off the grid, single dates, odd periods, months, start-ups."""
    events: list[Event] = []
    for _ in range(draw(st.integers(1, 2))):
        code = draw(st.sampled_from(codes))
        told: Event = {"code": code}
        first = draw(st.sampled_from([0, 0, 0, 5, 30, -30, -25]))
        if code in MONTHLY:
            day = origin + timedelta(days=draw(st.integers(0, 40)))
            month_end = (day.replace(day=1) + timedelta(days=32)).replace(day=1) - timedelta(days=1)
            if draw(st.booleans()):
                told["on"] = draw(st.sampled_from([day, month_end])).isoformat()
            else:
                told["period"] = [day.replace(day=1).isoformat(), month_end.isoformat()]
        elif code in ("98975", "99453") or draw(st.integers(0, 2)) == 0:
            told["on"] = _later(origin, first + draw(st.integers(0, 29)))
        else:
            length = draw(st.sampled_from([30, 30, 30, 30, 29, 31, 16]))
            told["period"] = [_later(origin, first), _later(origin, first + length - 1)]
        if draw(st.integers(0, 4)) == 0:
            told["quantity"] = 2
        if draw(st.integers(0, 5)) == 0:
            told["status"] = draw(
                st.sampled_from(["entered-in-error", "aborted", "not-billable", "billed", "planned"])
            )
        events.append({"charge": told})
    return events


MONTHLY = ["98979", "98980", "98981", "99470", "99457", "99458", "99091"]
CHARGED_CODES = ["98977", "98985", "98976", "99454", "99445", "98975", "99453", *MONTHLY]
CODES_OF = {
    "HEP": ["98977", "98985"],
    "PUFFS": ["98976", "98984"],
    "MOOD": ["98978", "98986"],
    "BP": ["99454", "99445"],
    "CUFF-ROW": ["99454", "99445"],
}


@st.composite
def episodes(draw: st.DrawFn, origin: date) -> list[Event]:
    """One EpisodeOfCare or two, the second with or without a set-up inside."""
    first = draw(st.sampled_from([-10, -1, 0, 1]))
    if draw(st.integers(0, 2)) == 0:
        status = draw(st.sampled_from(["active", "active", "planned", "cancelled", "entered-in-error"]))
        return [{"episode": {"from": _later(origin, first), "status": status}}]
    last = draw(st.sampled_from([10, 15, 29, 30, 40]))
    events: list[Event] = [{"episode": {"from": _later(origin, first), "to": _later(origin, last)}}]
    if draw(st.booleans()):
        again = last + draw(st.sampled_from([0, 1, 2, 5, 30]))
        ends = draw(st.sampled_from([None, None, again, again + 20, last - 1]))
        told: Event = {"from": _later(origin, again)}
        events.append({"episode": told if ends is None else {**told, "to": _later(origin, max(ends, again))}})
        if draw(st.booleans()):
            at = f"{_later(origin, again + draw(st.integers(0, 3)))}T09:00:00"
            events.append(_work("setup", at, 600, "nurse", draw(st.sampled_from(["rtm", "rpm", "any"]))))
    return events


# -- where older records may exist ----------------------------------------------------------

#: When something shows that a program began, in days from its first reading.
BEGINS = [-400, -60, -40, -30, -10, -1, 0, 0, 1, 5, 31]
#: program -> what is read without a doubt, its device codes, its start-up, its management
PROGRAMS: dict[str, tuple[Source, list[str], str, list[str]]] = {
    "rtm": (("HEP", None, "patient"), ["98977", "98985"], "98975", ["98979", "98980"]),
    "rpm": (("BP", "cuff", None), ["99454", "99445"], "99453", ["99470", "99457", "99091"]),
}


@st.composite
def beginnings(draw: st.DrawFn, origin: date) -> list[Event]:
    """Days of one program, and what shows when it began: EpisodesOfCare, set-ups, charges; or nothing."""
    program = draw(st.sampled_from(["rtm", "rpm"]))
    (of, device, by), *_ = PROGRAMS[program]
    events: list[Event] = []
    if draw(st.integers(0, 3)):
        first, count = draw(st.sampled_from([0, 0, 0, 3, 40])), draw(st.sampled_from(COUNTS))
        events.append(_run(of, device, by, origin, first, count))
    if draw(st.integers(0, 2)) == 0:
        events += draw(older_episodes(origin))
    for _ in range(draw(st.sampled_from([0, 1, 1, 2]))):
        at = f"{_later(origin, draw(st.sampled_from(BEGINS)))}T09:00:00"
        events.append(_work("setup", at, 600, "nurse", draw(st.sampled_from([program, program, "any"]))))
    for _ in range(draw(st.sampled_from([0, 0, 1, 1, 2]))):
        events.append(draw(older_charges(origin, program)))
    return events


@st.composite
def older_episodes(draw: st.DrawFn, origin: date) -> list[Event]:
    """An EpisodeOfCare that goes on, or one that ended and another after it."""
    first = draw(st.sampled_from(BEGINS))
    if draw(st.booleans()):
        return [{"episode": {"from": _later(origin, first)}}]
    last = first + draw(st.sampled_from([5, 29, 40]))
    again = max(last + 1, draw(st.sampled_from([last + 1, *BEGINS])))
    return [
        {"episode": {"from": _later(origin, first), "to": _later(origin, last)}},
        {"episode": {"from": _later(origin, again)}},
    ]


@st.composite
def older_charges(draw: st.DrawFn, origin: date, program: str) -> Event:
    """A charge of device supply (30 days, or something else), start-up or management."""
    _, supplies, start_up, managed = PROGRAMS[program]
    first = draw(st.sampled_from(BEGINS))
    told: Event = {"code": draw(st.sampled_from([*supplies * 2, start_up, start_up, *managed]))}
    length = draw(st.sampled_from([30, 30, 30, 29, 1])) if told["code"] in supplies else 1
    if length == 1:
        told["on"] = _later(origin, first)
    else:
        told["period"] = [_later(origin, first), _later(origin, first + length - 1)]
    if draw(st.integers(0, 7)) == 0:
        told["status"] = draw(st.sampled_from(["aborted", "entered-in-error", "planned"]))
    return {"charge": told}


@st.composite
def first_days_read(draw: st.DrawFn, events: list[Event], as_of: date) -> date:
    """A day before something happened, that very day, or the day after; or long before or after."""
    days = sorted({day for event in events for day in _days_of(event)})
    day = draw(st.sampled_from(days or [as_of])) + timedelta(days=draw(st.sampled_from(AROUND)))
    return min(day, as_of)


AROUND = [-1, -1, 0, 0, 1, 1, -100, 20]


def _days_of(event: Event) -> list[date]:
    """The days on which readings, a set-up, an EpisodeOfCare or a charge begin or end."""
    ((word, told),) = event.items()
    if word not in ("days", "setup", "charge", "episode"):
        return []
    keys = ("from", "to") if word == "days" else ("from", "to", "at")  # there `at` is a clock's time
    texts = [told[key] for key in keys if key in told]
    on = told.get("on", [])
    texts += [on] if isinstance(on, str) else on
    texts += told.get("period", [])
    return [date.fromisoformat(text[:10]) for text in texts]


# -- charts as they are: values, sources, versions, places, people, charges ------------------------------

UCUM = "http://unitsofmeasure.org"
ABSENT = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/data-absent-reason", "code": "error"}]}


def _kilos(value: float | None, unit: str = "kg") -> Resource:
    return {"valueQuantity": {"value": value, "unit": unit, "system": UCUM, "code": unit}}


def _part(code: str, value: float | None, **more: Any) -> Resource:
    quantity = {"value": value, "unit": "mm[Hg]", "system": UCUM, "code": "mm[Hg]"}
    told = {"valueQuantity": quantity} if value is not None else {}
    return {"code": {"coding": [{"system": LOINC, "code": code}]}, **told, **more}


def _pressure(*parts: Resource, **more: Any) -> Resource:
    return {"valueQuantity": None, "component": list(parts), **more}


def _value(**told: Any) -> Resource:
    return {"valueQuantity": None, **told}


def _sampled(data: str) -> Resource:
    return _value(valueSampledData={"origin": {"value": 0}, "period": 10, "dimensions": 1, "data": data})


CUFF_SIZE = {"code": {"coding": [{"system": LOINC, "code": "8358-4"}]}, "valueString": "large"}
SYSTOLIC, DIASTOLIC = "8480-6", "8462-4"
#: What is read, through what, and what its value looks like.
VALUES: list[tuple[str, str | None, Resource]] = [
    ("BP", "cuff", {"valueQuantity": {"unit": "mm[Hg]"}}),
    ("BP", "cuff", {"valueQuantity": {"value": None, "unit": "mm[Hg]"}}),
    ("BP", "cuff", _pressure(_part(SYSTOLIC, 118), _part(DIASTOLIC, 76))),
    ("BP", "cuff", _pressure(_part(SYSTOLIC, 0), _part(DIASTOLIC, 0))),
    ("BP", "cuff", _pressure(_part(SYSTOLIC, 118), _part(DIASTOLIC, 0))),
    ("BP", "cuff", _pressure(_part(SYSTOLIC, 301), _part(DIASTOLIC, 201))),
    ("BP", "cuff", _pressure(_part(SYSTOLIC, 300), _part(DIASTOLIC, 201))),
    ("BP", "cuff", _pressure(_part(SYSTOLIC, None, dataAbsentReason=ABSENT), _part(DIASTOLIC, 76))),
    ("BP", "cuff", _pressure(_part(SYSTOLIC, 118, dataAbsentReason=ABSENT))),
    ("BP", "cuff", _pressure(_part(SYSTOLIC, 118), dataAbsentReason=ABSENT)),
    ("BP", "cuff", _pressure(CUFF_SIZE)),
    ("WEIGHT", "scale", _kilos(0)),
    ("WEIGHT", "scale", _kilos(0.4)),
    ("WEIGHT", "scale", _kilos(81.5)),
    ("WEIGHT", "scale", _kilos(310, "[lb_av]")),
    ("WEIGHT", "scale", _kilos(0, "[stone_av]")),
    ("WEIGHT", "scale", {**_kilos(81.5), "dataAbsentReason": ABSENT}),
    ("HEP", None, _value()),
    ("HEP", None, {"valueQuantity": {}}),
    ("HEP", None, {"valueQuantity": {"value": 0}}),
    ("HEP", None, _value(valueInteger=0)),
    ("HEP", None, _value(valueBoolean=False)),
    ("HEP", None, _value(valueString="Refused")),
    ("HEP", None, _value(valueString=" ")),
    ("HEP", None, _value(valueString="not so well")),
    ("HEP", "knee-app", _value(valueCodeableConcept={"text": "Not Taken"})),
    ("HEP", "knee-app", _value(valueCodeableConcept={"text": "knee bends"})),
    ("HEP", "knee-app", _value(valueCodeableConcept=ABSENT)),
    ("HEP", "knee-app", _value(valueCodeableConcept={"coding": [{"system": SNOMED, "code": "262008008"}]})),
    ("HEP", "knee-app", _sampled("E E U")),
    ("HEP", "knee-app", _sampled("E 12 U")),
    ("PUFFS", "inhaler-cap", _value(valueRange={"low": {"unit": "{puff}"}})),
    ("PUFFS", "inhaler-cap", _value(valueRange={"low": {"value": 1}, "high": {"value": 2}})),
    ("PUFFS", "inhaler-cap", _value(valueRatio={"numerator": {"value": 1}, "denominator": {"unit": "d"}})),
    ("MOOD", None, _value(valueTime="08:00:00")),
    ("MOOD", None, _value(valuePeriod={"start": "2026-01-05T08:00:00Z"})),
    ("MOOD", None, _value(valuePeriod={"start": "2026-01-05T08:00:00Z", "end": "2026-01-05T09:00:00Z"})),
]
FEW_OR_MANY = [1, 1, 2, 8, 14, 15, 16]


@st.composite
def values(draw: st.DrawFn, origin: date) -> list[Event]:
    """Readings with all sorts of values, with none, or with one that nobody believes."""
    events: list[Event] = []
    for _ in range(draw(st.integers(1, 2))):
        of, device, raw = draw(st.sampled_from(VALUES))
        sound = draw(st.sampled_from([0, 0, 1, 8, 15]))  # one more of these would change the tier
        if sound:
            events.append(_run(of, device, None, origin, 0, sound))
        run = _run(of, device, None, origin, sound, draw(st.sampled_from(FEW_OR_MANY)))
        run["days"]["raw"] = raw
        events.append(run)
    return events


#: Devices that no chart above has: name -> what is laid over the Device.
WHEELCHAIR = {"type": {"coding": [{"system": SNOMED, "code": "228869008"}]}}
BP_CUFF = {"system": "urn:clinic:device", "code": "bp-cuff"}
CUFF_TYPE = {"system": "urn:iso:std:iso:11073:10101", "code": "528391"}
ODD_DEVICES: dict[str, Resource] = {
    "cuff-3": {"status": "entered-in-error"},
    "cuff-4": {"status": "inactive"},
    "cuff-5": WHEELCHAIR,
    "knee-app-3": WHEELCHAIR,
    "knee-app-4": {"status": "entered-in-error"},
    "knee-app-5": {"type": {"coding": [{"system": "urn:clinic:device", "code": "unheard-of"}]}},
    "cuff-6": {"patient": {"display": "Ms Example"}},
    "cuff-7": {"type": {"text": "cuff"}},
    "cuff-9": {"type": {"coding": [BP_CUFF, CUFF_TYPE]}},
    "cuff-10": {"type": {"coding": [CUFF_TYPE]}},
    "cuff-8": {"meta": {"security": [{"system": ACT_REASON, "code": "HTEST"}]}},
}
ODD_SOURCES: list[Source] = [
    *(("BP" if name.startswith("cuff") else "HEP", name, None) for name in ODD_DEVICES),
    ("HEP", {"reference": "Device/gone"}, "patient"),
    ("HEP", {"display": "waiting room tablet"}, None),
    ("PUFFS", {}, None),
    ("BP", {}, None),
    ("HEP", "gateway", None),
    ("BP", "gateway", "patient"),
    ("HEP", "phone-app", "patient"),
    ("PUFFS", "phone-app", None),
    ("PHQ9", "phone-app", "patient"),
    ("PHQ9", "mood-app", None),
    ("BP", "phone-app", None),
    ("BP", "cuff", "nurse"),
    ("HEP", "knee-app", "nurse"),
    ("BP", None, "nurse"),
    ("HEP", None, "pt"),
    ("CUFF-ROW", None, "somebody"),
]
BY_HAND = {"method": {"coding": [{"system": SNOMED, "code": "1156040003"}]}}
ENTERED = "https://bdh.stanford.edu/fhir/defs/metadata"
SETTING = "http://hl7.org/fhir/us/vitals/StructureDefinition/MeasurementSettingExt"
CLINIC = {"coding": [{"system": SNOMED, "code": "257585005"}]}
OID_OF_LOINC = {"coding": [{"system": "urn:oid:2.16.840.1.113883.6.1", "code": "85354-9"}]}


@st.composite
def sources(draw: st.DrawFn, origin: date) -> list[Event]:
    """Odd devices, staff, organisations, values typed in or of the office, codings by another address."""
    kind = draw(st.sampled_from(["device", "device", "device", "typed", "office", "organisation", "system"]))
    first, count = draw(st.integers(0, 16)), draw(st.sampled_from(FEW_OR_MANY))
    if kind == "device":
        of, device, by = draw(st.sampled_from(ODD_SOURCES))
        run = _run(of, device, by, origin, first, count)
        known = ODD_DEVICES.get(device) if isinstance(device, str) else None
        return [run] if known is None else [{"device": {"name": device, "raw": known}}, run]
    of, device, by = draw(st.sampled_from(SOUND))
    run = _run(of, device, by, origin, first, count)
    if kind == "typed":
        said = draw(st.sampled_from([True, True, False]))
        inner = {"url": f"{ENTERED}/HKWasUserEntered", "valueBoolean": said}
        by_user = {"extension": [{"url": ENTERED, "extension": [inner]}]}
        run["days"]["raw"] = draw(st.sampled_from([BY_HAND, by_user]))
    elif kind == "office":
        run["days"]["raw"] = {"extension": [{"url": SETTING, "valueCodeableConcept": CLINIC}]}
    elif kind == "organisation":
        run["days"]["raw"] = {"performer": [{"reference": "Organization/vendor"}]}
    else:
        run = _run("BP", "cuff", None, origin, first, count)
        run["days"]["raw"] = {"code": OID_OF_LOINC}
    return [run]


SOUND: list[Source] = [
    ("BP", "cuff", None),
    ("CUFF-ROW", None, None),
    ("HEP", None, "patient"),
    ("HEP", "knee-app", None),
    ("PUFFS", "inhaler-cap", None),
]


def _reading(name: str, day: str, **more: Any) -> Resource:
    """A home exercise of a patient, as it stands in a Bundle."""
    system, code = CODINGS["HEP"]
    return {
        "resourceType": "Observation",
        "id": name,
        "status": "final",
        "code": {"coding": [{"system": system, "code": code}]},
        "subject": {"reference": "Patient/p1"},
        "effectiveDateTime": f"{day}T10:00:00-05:00",
        "valueInteger": 3,
        **more,
    }


#: The meta of an older version, and that of a newer one; None: nothing says which is newer.
METAS: list[tuple[Resource, Resource]] = [
    ({"versionId": "1"}, {"versionId": "2"}),
    ({"versionId": "9"}, {"versionId": "10"}),
    ({"lastUpdated": "2026-01-20T10:00:00Z"}, {"lastUpdated": "2026-01-20T10:00:00.250Z"}),
    ({"lastUpdated": "2026-01-21T01:00:00+05:00"}, {"lastUpdated": "2026-01-20T23:00:00Z"}),
    (
        {"versionId": "a", "lastUpdated": "2026-01-20T10:00:00Z"},
        {"versionId": "b", "lastUpdated": "2026-01-20T10:00:01Z"},
    ),
    ({}, {}),
]


@st.composite
def versions(draw: st.DrawFn, origin: date) -> list[Event]:
    """A Bundle with two versions of a reading or of a charge, in any order; perhaps it was deleted."""
    older, newer = draw(st.sampled_from(METAS))
    days = [_later(origin, n) for n in range(draw(st.sampled_from([1, 2, 16])))]
    if draw(st.integers(0, 2)):
        name = "Observation/v0"
        one = _reading("v0", days[0], meta=older)
        other = one | {"meta": newer, "status": "entered-in-error"}
        if newer and draw(st.booleans()):
            one, other = one | {"status": "entered-in-error"}, other | {"status": "final"}
    else:
        name = "ChargeItem/v0"
        code = draw(st.sampled_from(["98985", "98977"]))
        one = {
            "resourceType": "ChargeItem",
            "id": "v0",
            "status": "billed",
            "code": {"coding": [{"system": CPT, "code": code}]},
            "subject": {"reference": "Patient/p1"},
            "occurrenceDateTime": days[0],
            "meta": older,
        }
        other = one | {"meta": newer, "status": "aborted"}
        if newer and draw(st.booleans()):
            one, other = one | {"status": "aborted"}, other | {"status": "billed"}
    entries: list[Resource] = [{"resource": one}, {"resource": other}]
    entries += [{"resource": _reading(f"v{n}", day)} for n, day in enumerate(days) if n]
    bundle: Resource = {"resourceType": "Bundle", "id": "history", "type": "history"}
    if draw(st.integers(0, 2)) == 0:
        deleted: Resource = {"request": {"method": "DELETE", "url": name}}
        when = draw(st.sampled_from([None, "2026-01-20T09:00:00Z", "2026-01-25T09:00:00Z"]))
        if when is not None and draw(st.booleans()):
            deleted["response"] = {"status": "204", "lastModified": when}
        elif when is not None:
            bundle["timestamp"] = when
        entries.append(deleted)
    return [{"resource": {**bundle, "entry": draw(st.permutations(entries))}}]


@st.composite
def identifiers(draw: st.DrawFn, origin: date) -> list[Event]:
    """One identifier on every reading of an order; readings corrected, or sent again under new ids."""
    system = draw(st.sampled_from(["urn:order", "urn:sensor"]))
    if draw(st.booleans()):
        run = _run("HEP", None, "patient", origin, 0, draw(st.sampled_from([4, 5, 16])))
        run["days"]["raw"] = {"identifier": [{"system": system, "value": "7"}]}
        return [run]
    events: list[Event] = []
    shift = draw(st.sampled_from([0, 1, 8]))
    for n in range(draw(st.sampled_from([1, 2, 8]))):
        for sending, later in ((0, 0), (1, shift)):
            day = _later(origin, n + later)
            raw = {
                "identifier": [{"system": system, "value": str(n)}],
                "meta": {"lastUpdated": f"{_later(origin, n + 40 * sending)}T15:00:00Z"},
            }
            told = {"of": "HEP", "by": "patient", "at": f"{day}T09:00:00", "value": n, "raw": raw}
            events.append({"reading": told})
    return events


VENDOR_CLASS = {"system": "urn:oid:1.2.840.114350.1.72.1.7.7.10.696784.13260", "code": "3"}
CLASSES: list[Resource] = [
    {"system": ACT, "code": "IMP"},
    {"system": "http://hl7.org/fhir/v3/ActCode", "code": "IMP"},
    {"system": "http://hl7.org/fhir/encounter-class", "code": "inpatient"},
    {"system": ACT, "code": "EMER"},
    {"system": ACT, "code": "AMB"},
    {"system": ACT, "code": "AMB"},
    {"system": "http://hl7.org/fhir/encounter-class", "code": "outpatient"},
    {"system": ACT, "code": "HH"},
    VENDOR_CLASS,
    VENDOR_CLASS,
]


@st.composite
def places(draw: st.DrawFn, origin: date) -> list[Event]:
    """An Encounter of some class, of an hour, a day, weeks or without an end; readings in it and under it."""
    first = draw(st.integers(0, 5))
    day = _later(origin, first)
    later = _later(origin, first + draw(st.sampled_from([1, 2, 20])))
    of_class = draw(st.sampled_from(CLASSES))
    told: Event = {"id": "place", "class": "AMB", "raw": {"class": of_class}}
    shapes = ["hour", "long", "night", "open", "dates", "one date", "start date"]
    shape = draw(st.sampled_from(shapes if of_class == VENDOR_CLASS else [*shapes, "none"]))
    if shape == "hour":
        told |= {"at": f"{day}T09:00:00", "until": f"{day}T10:00:00"}
    elif shape == "long":
        told |= {"at": f"{day}T01:00:00", "until": f"{day}T{draw(st.sampled_from(['18', '19', '20']))}:00:00"}
    elif shape == "night":
        told |= {"at": f"{day}T20:00:00", "until": f"{later}T08:30:00"}
    elif shape == "open":
        told |= {"at": f"{day}T09:00:00"}
    elif shape == "dates":
        told["raw"] |= {"period": {"start": day, "end": later}}
    elif shape == "one date":
        told["raw"] |= {"period": {"start": day, "end": day}}
    elif shape == "start date":
        told |= {"at": day}
    if shape == "open" and draw(st.booleans()):
        told["status"] = "in-progress"
    if draw(st.integers(0, 4)) == 0:
        told["type"] = ["urn:clinic:visit", draw(st.sampled_from(["RTM-REVIEW", "ANY-ADMIN", "RPM-CALL"]))]
        told["by"] = "nurse"
    of, device, by = draw(st.sampled_from(SOUND))
    run = _run(
        of, device, by, origin, draw(st.sampled_from([0, 0, first])), draw(st.sampled_from([2, 9, 16]))
    )
    run["days"]["at"] = draw(st.sampled_from(["08:00", "09:30", "18:30", "22:00"]))
    events: list[Event] = [{"encounter": told}, run]
    if draw(st.booleans()):
        run["days"]["encounter"] = "place"
    if draw(st.booleans()):
        events.append(_run(of, device, by, origin, 21, draw(st.sampled_from([1, 2, 7]))))
    return events


@st.composite
def people(draw: st.DrawFn, origin: date) -> list[Event]:
    """A patient who was replaced, or may be another's double; relatives and devices on a call; test data."""
    kind = draw(st.sampled_from(["replaced", "replaced", "replaced twice", "double", "relative", "test"]))
    of, device, by = draw(st.sampled_from(SOUND))
    run = _run(of, device, by, origin, draw(st.sampled_from([0, 5])), draw(st.sampled_from(FEW_OR_MANY)))
    if kind == "double":
        link = {"other": {"reference": "Patient/p9"}, "type": draw(st.sampled_from(["seealso", "refer"]))}
        return [run, {"patient": {"id": "p1", "raw": {"link": [link]}}}]
    if kind == "test":
        marked = {"meta": {"security": [{"system": ACT_REASON, "code": "HTEST"}]}}
        call = _work("call", f"{_later(origin, 3)}T10:00:00", 1200, "nurse", "rpm")
        call["call"]["raw"] = marked
        run["days"]["raw"] = marked
        return draw(st.sampled_from([[run], [call], [run, call]]))
    if kind == "relative":
        call = _work("call", f"{_later(origin, 3)}T10:00:00", 1260, [], draw(st.sampled_from(["rpm", "rtm"])))
        listed = draw(
            st.sampled_from(
                [
                    ["RelatedPerson/r1"],
                    ["Patient/p1", "Device/cuff"],
                    ["RelatedPerson/r1", "Practitioner/nurse"],
                ]
            )
        )
        call["call"]["raw"] = {"participant": [{"individual": {"reference": ref}} for ref in listed]}
        staff = _work("review", f"{_later(origin, 4)}T10:00:00", 600, "nurse", "rpm")
        return [run, call, *draw(st.sampled_from([[], [staff]]))]
    chain = ["p0", "p1"] if kind == "replaced" else ["p00", "p0", "p1"]
    events: list[Event] = []
    for old, new in pairwise(chain):
        link = {"other": {"reference": f"Patient/{new}"}, "type": "replaced-by"}
        events.append({"patient": {"id": old, "raw": {"active": False, "link": [link]}}})
    run["days"]["patient"] = draw(st.sampled_from(chain))
    events.append(run)
    if draw(st.integers(0, 3)) == 0:
        code = draw(st.sampled_from(CODES_OF[of]))
        events.append({"charge": {"code": code, "on": _later(origin, 29), "patient": chain[0]}})
    return events


@st.composite
def odd_charges(draw: st.DrawFn, origin: date) -> list[Event]:
    """A charge whose code stands somewhere else, or twice; a credit; a Claim and a bill; a closer code."""
    of, device, by = draw(st.sampled_from(SOUND))
    run = _run(of, device, by, origin, 0, draw(st.sampled_from([2, 15, 16, 16])))
    code, other = draw(st.sampled_from([CODES_OF[of], CODES_OF[of][::-1], ["99457", "99453"]]))
    period = [_later(origin, 0), _later(origin, 29)]
    when: Event = {"on": _later(origin, draw(st.sampled_from([0, 3, 29, 30, 31, 44, 45])))}
    if draw(st.booleans()) and code not in MONTHLY:
        when = {"period": period}
    told: Event = {"code": code, **when}
    kind = draw(st.sampled_from([*SHAPES, "two", "credit", "credit", "part", "papers", "closer", "plain"]))
    events: list[Event] = [run, {"charge": told}]
    if kind in SHAPES:
        told["raw"] = SHAPES[kind](code)
    elif kind == "two":
        told["raw"] = {"code": {"text": f"{code} and {other}"}}
    elif kind in ("credit", "part"):
        told["quantity"] = 2 if kind == "part" else 1
        events.append({"charge": {**told, "quantity": -1}})
    elif kind == "papers":
        events += [{"resource": paper} for paper in draw(st.sampled_from(_papers(code, period)))]
        if draw(st.booleans()):
            del events[1]
    elif kind == "closer":
        told["code"] = draw(st.sampled_from(["99474", "99473", "95250", "95251"]))
    return events


SHAPES: dict[str, Callable[[str], Resource]] = {
    "text": lambda code: {"code": {"text": f"CPT(R) {code}"}},
    "display": lambda code: {"code": {"coding": [{"code": "64897", "display": f"{code} monthly"}]}},
    "modifier": lambda code: {"code": {"coding": [{"system": CPT, "code": f"{code}-GP"}]}},
    "colon": lambda code: {"code": {"coding": [{"system": CPT, "code": f"{code}:GP"}]}},
    "comma": lambda code: {"code": {"coding": [{"system": CPT, "code": f"{code},25"}]}},
    "prefix": lambda code: {"code": {"coding": [{"code": f"CPT-{code}"}]}},
    "longer": lambda code: {"code": {"coding": [{"code": f"{code}26"}]}},
    "system": lambda code: {"code": {"coding": [{"system": "urn:oid:2.16.840.1.113883.6.12", "code": code}]}},
    "extension": lambda code: {
        "code": {"coding": [{"system": "urn:clinic:cdm", "code": "64897"}]},
        "extension": [
            {
                "url": "urn:x:procedure",
                "extension": [{"url": "code", "valueCodeableConcept": {"coding": [{"code": code}]}}],
            }
        ],
    },
    "string": lambda code: {
        "code": {"coding": [{"system": "urn:clinic:cdm", "code": "64897"}]},
        "extension": [{"url": "urn:x:cpt", "valueString": code}],
    },
    "half": lambda code: {"quantity": {"value": 0.5}},
    "nothing": lambda code: {"quantity": {"value": 0}},
}


def _papers(code: str, period: list[str]) -> list[list[Resource]]:
    """A Claim, an ExplanationOfBenefit, both; a Claim that is a draft, or asks only."""
    item = {
        "sequence": 1,
        "productOrService": {"coding": [{"system": CPT, "code": code}]},
        "servicedPeriod": {"start": period[0], "end": period[1]},
    }
    common = {
        "status": "active",
        "use": "claim",
        "patient": {"reference": "Patient/p1"},
        "created": period[1],
    }
    claim = {"resourceType": "Claim", "id": "claim", **common, "item": [item]}
    bill = {
        "resourceType": "ExplanationOfBenefit",
        "id": "bill",
        "outcome": "complete",
        **common,
        "item": [item],
    }
    draft, asked = {**claim, "status": "draft"}, {**claim, "use": "preauthorization"}
    twice = {**claim, "item": [item, {**item, "sequence": 2}]}
    return [[claim], [bill], [claim, bill], [draft], [asked], [twice, bill]]


@st.composite
def odd_spans(draw: st.DrawFn, origin: date) -> list[Event]:
    """Minutes with a length that is none, visits that never end, one visit number on two Encounters."""
    program = draw(st.sampled_from(["rtm", "rpm"]))
    day = _later(origin, draw(st.integers(1, 12)))
    team = ["physician"] if program == "rtm" else ["nurse", "physician"]
    call = _work("call", f"{day}T10:00:00", draw(st.sampled_from([599, 1200, 1500])), team[0], program)
    events: list[Event] = [{"days": {"of": "HEP" if program == "rtm" else "CUFF-ROW", "on": [day]}}, call]
    kind = draw(st.sampled_from(["comparator", "twin", "twin", "endless", "series", "late night"]))
    if kind == "comparator":
        value = {"value": 1200, "comparator": "<", "system": UCUM, "code": "s"}
        call["call"]["raw"] = {"length": value}
        if draw(st.booleans()):
            del call["call"]["for"]
    elif kind == "twin":
        named = {"identifier": [{"system": "urn:visit-number", "value": "9"}]}
        call["call"]["raw"] = named
        twin = _work("call", f"{day}T10:00:00", draw(st.sampled_from([599, 720, 1200])), team[0], program)
        twin["call"]["raw"] = named
        events.append(twin)
    else:
        word = draw(st.sampled_from(["visit", "admin", "in-person", "setup"]))
        other = _work(word, f"{day}T09:00:00", 900, draw(st.sampled_from(team)), "any")
        events.append(other)
        if kind == "endless":
            del other[word]["for"]
        elif kind == "series":
            other[word]["for"] = f"{draw(st.sampled_from([24, 25, 400]))}:00:00"
    return events


ISSUES = [("error", "too-costly"), ("fatal", "exception"), ("information", "informational")]


@st.composite
def unread(draw: st.DrawFn, origin: date) -> list[Event]:
    """A page that names a next one, a search that failed, a resource that can't be read."""
    kind = draw(
        st.sampled_from(["page", "page", "failed", "reading", "reading", "encounter", "charge", "entry"])
    )
    of = draw(st.sampled_from(["Observation", "Observation", "Encounter", "ChargeItem", "Device"]))
    day = _later(origin, draw(st.sampled_from([-3, 0, 1, 14, 16, 29, 30, 45])))
    events: list[Event] = []
    if draw(st.integers(0, 2)):
        source = draw(st.sampled_from(SOUND))
        events.append(_run(*source, origin, 0, draw(st.sampled_from([1, 14, 15, 16]))))
    until = _later(date.fromisoformat(day), draw(st.sampled_from([0, 1, 6])))
    ends = ["", f"&date=ge{day}", f"&date=le{day}", f"&date=ge{day}&date=le{until}"]
    bounds = draw(st.sampled_from(ends))
    here = f"https://ehr.test/fhir/{of}?patient=p1{bounds}"
    page: Resource = {"resourceType": "Bundle", "id": "page", "type": "searchset"}
    page["link"] = [{"relation": "self", "url": here}]
    if kind == "page":
        after = "https://ehr.test/fhir/?_getpages=1&_offset=50"
        page["link"].append({"relation": "next", "url": after})
        events.append({"resource": {**page, "entry": []}})
        if draw(st.integers(0, 3)) == 0:  # and here it is
            rest = {**page, "id": "rest", "link": [{"relation": "self", "url": after}], "entry": []}
            events.append({"resource": rest})
    elif kind == "failed":
        severity, code = draw(st.sampled_from(ISSUES))
        issue = {"severity": severity, "code": code}
        outcome = {"resourceType": "OperationOutcome", "issue": [issue]}
        events.append({"resource": {**page, "entry": [{"resource": outcome, "search": {"mode": "outcome"}}]}})
    elif kind == "entry":
        answers = [{"response": {"status": draw(st.sampled_from(["403 Forbidden", "200 OK"]))}}]
        events.append({"resource": {**page, "link": [], "type": "batch-response", "entry": answers}})
    else:
        events.append({"resource": draw(broken(kind, day))})
    return events


@st.composite
def broken(draw: st.DrawFn, kind: str, day: str) -> Resource:
    """A resource with an element that can't be what it should be."""
    subject = {"reference": "Patient/p1"}
    if kind == "reading":
        told = _reading("broken", day)
        told |= draw(
            st.sampled_from(
                [
                    {"device": [1]},
                    {"valueQuantity": "120 mmHg", "valueInteger": None},
                    {"code": "blood pressure"},
                    {"device": [1], "effectiveDateTime": None},
                    {"device": [1], "code": {"coding": [{"system": LOINC, "code": "2160-0"}]}},
                ]
            )
        )
        if draw(st.booleans()):
            told["meta"] = {"lastUpdated": f"{day}T15:00:00Z"}
        return {key: value for key, value in told.items() if value is not None}
    if kind == "encounter":
        period: Any = {"start": f"{day}T10:00:00Z", "end": f"{day}T10:30:00Z"}
        odd = draw(st.sampled_from([{"participant": "nobody"}, {"period": "in the morning"}]))
        return {
            "resourceType": "Encounter",
            "id": "broken",
            "status": "finished",
            "subject": subject,
            "period": period,
            **odd,
        }
    code: Any = draw(st.sampled_from(["supply", {"coding": "monthly"}, {"coding": [7]}]))
    return {
        "resourceType": "ChargeItem",
        "id": "broken",
        "status": "billed",
        "subject": subject,
        "code": code,
        "occurrenceDateTime": day,
    }


# -- visits of others, surgery ----------------------------------------------------------

#: Whose visit it may be. None: it lists nobody; "": somebody whose name alone is known.
VISITORS = ["physician", "physician-2", "physician-2", "physician-2", "np", "somebody", "pt", None, ""]
#: Specialty and organisation of somebody; None: not known.
AFFILIATIONS = [
    ("207R00000X", "clinic"),
    ("207R00000X", "clinic"),
    ("207N00000X", "clinic"),
    ("207R00000X", "elsewhere"),
    (None, "clinic"),
    ("207R00000X", None),
]


@st.composite
def affiliations(draw: st.DrawFn, name: str) -> Event:
    """A specialty, an organisation, both, of somebody on the staff."""
    specialty, organisation = draw(st.sampled_from(AFFILIATIONS))
    told: Event = {"name": name}
    if specialty is not None:
        told |= {"specialty": specialty, "degree": "MD"} if name != "nurse" else {"specialty": specialty}
    return {"staff": told if organisation is None else {**told, "organisation": organisation}}


@st.composite
def visits(draw: st.DrawFn, origin: date) -> list[Event]:
    """Minutes of a month, and a visit of that day or the month's last one: whose is it (D35)?"""
    program = draw(st.sampled_from(["rtm", "rpm"]))
    day = _later(origin, draw(st.integers(0, 12)))
    month_end = _later((date.fromisoformat(day).replace(day=1) + timedelta(days=32)).replace(day=1), -1)
    team = draw(st.sampled_from([["nurse"], ["nurse", "physician"], ["physician"], ["nurse", "somebody"]]))
    talker = draw(st.sampled_from(team))
    length = draw(st.sampled_from([599, 600, 1200, 1260, 2400]))
    events: list[Event] = [
        {"days": {"of": "HEP" if program == "rtm" else "CUFF-ROW", "on": [day], "at": "07:00"}},
        _work(draw(st.sampled_from(["call", "call", "review"])), f"{day}T10:00:00", length, talker, program),
    ]
    if draw(st.integers(0, 2)):
        later = _later(date.fromisoformat(day), draw(st.sampled_from([0, 1, 2])))
        work = draw(st.sampled_from(["call", "review"]))
        more = draw(st.sampled_from([60, 600, 1200]))
        events.append(_work(work, f"{later}T14:00:00", more, draw(st.sampled_from(team)), program))
    events += draw(whose_visit(draw(st.sampled_from([day, day, day, month_end])), program))
    for who in draw(st.sampled_from([[], ["physician", "physician-2"], ["physician-2", "nurse"]])):
        events.append(draw(affiliations(who)))
    return events


@st.composite
def whose_visit(draw: st.DrawFn, day: str, program: str) -> list[Event]:
    """A visit as an Encounter, as a charge, as both; and what makes its person one of the program's."""
    who = draw(st.sampled_from(VISITORS))
    by = [] if who in (None, "") else [who]
    word = draw(st.sampled_from(["visit", "visit", "in-person", "in-person"]))
    visit = _work(word, f"{day}T08:00:00", 900, by, draw(st.sampled_from(["any", "any", program])))
    told = visit[word]
    if who == "":
        told["raw"] = {"participant": [{"individual": {"display": "Dr Example"}}]}
    shown = draw(st.sampled_from(["encounter"] * 4 + ["generic", "charge", "charge", "both"]))
    events: list[Event] = [] if shown == "charge" else [visit]
    if shown == "generic":
        told["raw"] = {**told.get("raw", {}), "type": None, "class": {"system": ACT, "code": "AMB"}}
    if shown in ("charge", "both"):
        told["id"] = "the-visit"
        charge: Event = {"code": "99213", "on": day}
        charge |= {"by": who} if by and draw(st.booleans()) else {}
        events.append({"charge": charge if shown == "charge" else {**charge, "context": "the-visit"}})
    part = draw(st.sampled_from(["none", "none", "ordered", "manages", "performed"]))
    one = who or "physician-2"
    codes = {"rtm": ("98977", "98980"), "rpm": ("99454", "99457")}
    code = draw(st.sampled_from(codes[draw(st.sampled_from([program, program, "rtm", "rpm"]))]))
    if part == "ordered":
        order = {"resourceType": "ServiceRequest", "id": "ordered", "status": "active", "intent": "order"}
        order |= {"code": {"coding": [{"system": CPT, "code": code}]}, "authoredOn": day}
        order |= {"subject": {"reference": "Patient/p1"}, "requester": {"reference": f"Practitioner/{one}"}}
        events.append({"resource": order})
    elif part == "manages":
        events.append({"episode": {"from": _later(date.fromisoformat(day), -20), "manager": one}})
    elif part == "performed":
        before = _later(date.fromisoformat(day), -draw(st.sampled_from([0, 31, 60])))
        events.append({"charge": {"code": code, "on": before, "by": one}})
    return events


SURGERY: list[tuple[str, str] | None] = [
    None,
    (CPT, "27447"),
    (CPT, "10021"),
    (CPT, "69990"),
    (CPT, "10020"),
    (CPT, "69991"),
    (CPT, "97110"),
    (SNOMED, "179344001"),
]


@st.composite
def surgery(draw: st.DrawFn, origin: date) -> list[Event]:
    """A Procedure, or a charge of one, near ninety days before a window's end (D36)."""
    of, device, by = draw(st.sampled_from(SOUND))
    run = _run(of, device, by, origin, 0, draw(st.sampled_from([2, 16])))
    coding = draw(st.sampled_from(SURGERY))
    ends = origin + timedelta(days=29)
    if draw(st.booleans()):
        ends = (origin.replace(day=1) + timedelta(days=32)).replace(day=1) - timedelta(days=1)
    day = _later(ends, draw(st.sampled_from([-92, -91, -90, -89, -88, -20, 0, 1])))
    if coding is not None and coding[0] == CPT and draw(st.integers(0, 3)) == 0:
        return [run, {"charge": {"code": coding[1], "on": day}}]
    told: Event = {} if coding is None else {"code": list(coding)}
    when = draw(st.sampled_from(["on", "on", "on", "period", "open", "never"]))
    if when == "on":
        told["on"] = day
    elif when == "period":
        told["period"] = [_later(date.fromisoformat(day), -3), day]
    elif when == "open":
        told["period"] = [day]
    if draw(st.integers(0, 4)) == 0:
        told["status"] = draw(st.sampled_from(["in-progress", "not-done", "preparation", "entered-in-error"]))
    return [run, {"procedure": told}]


ODDITIES = [values, sources, versions, identifiers, places, people, odd_charges, odd_spans, unread]
ODDITIES += [visits, visits, surgery]
