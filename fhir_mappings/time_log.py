"""Time or a conversation that somebody logged in this app -> a FHIR R4 Encounter.

An entry goes through the same mapping as the EHR's own Encounters (`encounter`), so there is one way to count
minutes. It says what it is in its type ("logged in this app"), and its identifier is the entry's id: the copy
that was written to the EHR and the entry itself are one contact (`chart` counts one of them).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from enum import StrEnum
from typing import Any
from zoneinfo import ZoneInfo

from msgspec import Struct

from fhir_mappings.terminology import ACT_CODE, OWN_ACTIVITY, OWN_ROLE
from fhir_mappings.vocabulary import MONITORING_PROGRAMS, Activity, Program, Role

TIME_LOG = "urn:smart-remote-monitoring:time-log"
"""System of the identifier that an entry and its Encounter share."""
MARK = "logged in this app"
LONGEST = timedelta(hours=4)
"""As for the EHR's Encounters (D13): whatever lasts longer was typed wrong, or a clock was forgotten."""
_NULL_FLAVOR = "http://terminology.hl7.org/CodeSystem/v3-NullFlavor"
_PARTICIPATION = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"

LIVE_ACTIVITIES = (Activity.PHONE_CALL, Activity.VIDEO_CALL, Activity.IN_PERSON)
"""What is a conversation, and nothing without one."""
LOGGED_ACTIVITIES = (
    Activity.PHONE_CALL,
    Activity.VIDEO_CALL,
    Activity.IN_PERSON,
    Activity.DATA_REVIEW,
    Activity.MESSAGE,
    Activity.SETUP_EDUCATION,
)
_ACTIVITY_WORDS = {
    Activity.PHONE_CALL: "phone call",
    Activity.VIDEO_CALL: "video call",
    Activity.IN_PERSON: "conversation in person",
    Activity.DATA_REVIEW: "review of data",
    Activity.MESSAGE: "message",
    Activity.SETUP_EDUCATION: "set-up and teaching",
}
STATED_ROLES = tuple(role for role in Role if role is not Role.UNKNOWN)


class EntryProblem(StrEnum):
    """Why an entry is refused."""

    NO_SUCH_TIME = "no-such-time"
    """The clocks went forward over it."""
    END_BEFORE_START = "end-before-start"
    NO_LENGTH = "no-length"
    TOO_LONG = "too-long"
    IN_THE_FUTURE = "in-the-future"
    CALL_WITHOUT_CONVERSATION = "call-without-conversation"
    CONVERSATION_WITHOUT_CALL = "conversation-without-call"
    NO_PROGRAM = "no-program"
    NO_ACTIVITY = "no-activity"
    NOT_SAID_WHETHER_LIVE = "not-said-whether-live"
    NO_PERSON = "no-person"


class LoggedTime(Struct, frozen=True, kw_only=True):
    """What somebody did, when. `start` and `end` are aware; `person` a reference the EHR knows.

    None where it has not been said yet: a clock that was stopped knows only when. `role` is what the entry
    states of the person; it speaks where the EHR says nothing.
    """

    start: datetime
    end: datetime
    person: str
    person_name: str = ""
    role: Role | None = None
    activity: Activity | None = None
    program: Program | None = None
    live: bool | None = None
    day: date | None = None
    """The local day, of an entry that is a length alone: then `start` is its midnight and `end` that much
    later, and neither says at which time it was."""

    @property
    def seconds(self) -> int:
        return int((self.end - self.start).total_seconds())


def span_of(
    day: date, start: time, end_day: date, end: time, zone: ZoneInfo
) -> tuple[datetime, datetime] | EntryProblem:
    """Two local times as instants, with the offset that was in force.

    An hour that the clocks show twice is read so that the span comes out shorter: a call that may have lasted
    20 or 80 minutes lasted 20. A time that the clocks skipped never was.
    """
    starts, ends = _readings(day, start, zone), _readings(end_day, end, zone)
    if not starts or not ends:
        return EntryProblem.NO_SUCH_TIME
    spans = [(ended - began, began, ended) for began in starts for ended in ends if ended >= began]
    if not spans:
        return EntryProblem.END_BEFORE_START
    _, began, ended = min(spans, key=lambda span: span[0] if span[0] else timedelta.max)
    return began, ended


def span_on(day: date, length: timedelta, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """A length on a day, of which nobody knows the times: from the day's midnight on."""
    start = _with_offset(datetime.combine(day, time(), zone), zone)
    return start, _with_offset(start + length, zone)


def _readings(day: date, at: time, zone: ZoneInfo) -> list[datetime]:
    """The instants that a wall clock showed this time: one, two when clocks go back, none when forward.

    Told in the offset of the moment, so that differences are elapsed time and never wall-clock time.
    """
    found: list[datetime] = []
    for fold in (0, 1):
        local = datetime.combine(day, at.replace(fold=fold), zone)
        instant = local.astimezone(ZoneInfo("UTC"))
        if instant.astimezone(zone).replace(tzinfo=None) == local.replace(tzinfo=None):
            fixed = _with_offset(instant, zone)
            if fixed not in found:
                found.append(fixed)
    return found


def _with_offset(instant: datetime, zone: ZoneInfo) -> datetime:
    """An instant as its zone's clocks showed it, with a fixed offset."""
    return datetime.fromisoformat(instant.astimezone(zone).isoformat())


def problem_of(entry: LoggedTime, now: datetime) -> EntryProblem | None:
    """The first thing that stands against an entry's time; None where nothing does. `now` is aware."""
    if entry.end < entry.start:
        return EntryProblem.END_BEFORE_START
    if entry.end == entry.start:
        return EntryProblem.NO_LENGTH
    if entry.end - entry.start > LONGEST:
        return EntryProblem.TOO_LONG
    if entry.end > now:
        return EntryProblem.IN_THE_FUTURE
    return None


def missing_of(entry: LoggedTime) -> tuple[EntryProblem, ...]:
    """What must be said before an entry can be signed, or contradicts itself."""
    found: list[EntryProblem] = []
    if not entry.person:
        found.append(EntryProblem.NO_PERSON)
    if entry.program not in MONITORING_PROGRAMS:
        found.append(EntryProblem.NO_PROGRAM)
    if entry.activity not in LOGGED_ACTIVITIES:
        found.append(EntryProblem.NO_ACTIVITY)
    elif entry.live is None:
        found.append(EntryProblem.NOT_SAID_WHETHER_LIVE)
    elif entry.activity in LIVE_ACTIVITIES and not entry.live:
        # A voice mail is no phone call: as one it would count as the month's conversation.
        found.append(EntryProblem.CALL_WITHOUT_CONVERSATION)
    elif entry.live and entry.activity in (Activity.DATA_REVIEW, Activity.MESSAGE):
        found.append(EntryProblem.CONVERSATION_WITHOUT_CALL)
    return tuple(found)


def activity_text(entry: LoggedTime) -> str:
    """ "RTM phone call, logged in this app": the type's text, wherever the entry is shown."""
    activity, program = entry.activity, entry.program
    assert activity is not None
    assert program is not None
    return f"{program.upper()} {_ACTIVITY_WORDS[activity]}, {MARK}"


def encounter_of(entry_id: str, patient: str, entry: LoggedTime, zone: ZoneInfo) -> dict[str, Any]:
    """The Encounter of a complete entry. `patient` is "Patient/p1"; `zone` the site's, for the offsets.

    It has no `id`: in a chart it goes by `urn:uuid:<entry id>`, in the EHR by the id that it gets there.
    Raises ValueError for an entry that is not complete.
    """
    if missing := missing_of(entry):
        raise ValueError(f"not complete: {', '.join(missing)}")
    period = (
        {"start": entry.day.isoformat(), "end": entry.day.isoformat()}
        if entry.day is not None
        else {
            name: _with_offset(at, zone).isoformat()
            for name, at in (("start", entry.start), ("end", entry.end))
        }
    )
    code = f"{entry.program}-{entry.activity}"
    individual, contained = _individual(entry)
    encounter: dict[str, Any] = {
        "resourceType": "Encounter",
        "contained": contained,
        "identifier": [{"system": TIME_LOG, "value": entry_id}],
        "status": "finished",
        "class": _class(entry),
        "type": [{"coding": [{"system": OWN_ACTIVITY, "code": code}], "text": activity_text(entry)}],
        "subject": {"reference": patient},
        "participant": [
            {
                "type": [{"coding": [{"system": _PARTICIPATION, "code": "PPRF"}]}],
                "period": period,
                "individual": individual,
            }
        ],
        "period": period,
        "length": []
        if entry.day is None
        else {"value": entry.seconds, "unit": "s", "system": "http://unitsofmeasure.org", "code": "s"},
    }
    return {name: value for name, value in encounter.items() if value != []}


def _individual(entry: LoggedTime) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """The participant: the person; with a stated role, a contained PractitionerRole that names the person."""
    display = {"display": entry.person_name} if entry.person_name else {}
    if entry.role is None or not entry.person.startswith("Practitioner/"):
        # A PractitionerRole says itself which role it is.
        return {"reference": entry.person, **display}, []
    role = {
        "resourceType": "PractitionerRole",
        "id": "stated-role",
        "practitioner": {"reference": entry.person, **display},
        "code": [
            {"coding": [{"system": OWN_ROLE, "code": str(entry.role)}], "text": f"{entry.role}, as stated"}
        ],
    }
    return {"reference": "#stated-role", **display}, [role]


def _class(entry: LoggedTime) -> dict[str, str]:
    """R4 asks for a class. Work without the patient has none, and says so."""
    if entry.activity is Activity.IN_PERSON:
        return {"system": ACT_CODE, "code": "AMB", "display": "ambulatory"}
    if entry.live or entry.activity is Activity.MESSAGE:
        return {"system": ACT_CODE, "code": "VR", "display": "virtual"}
    return {"system": _NULL_FLAVOR, "code": "NA", "display": "not applicable"}


def entry_id_of(encounter: Mapping[str, Any]) -> str | None:
    """The entry that an Encounter was written from; None for any other Encounter."""
    identifiers = encounter.get("identifier")
    for identifier in identifiers if isinstance(identifiers, list) else []:
        if isinstance(identifier, dict) and identifier.get("system") == TIME_LOG:
            value = identifier.get("value")
            return value if isinstance(value, str) else None
    return None


def says_the_same(held: Mapping[str, Any], own: Mapping[str, Any]) -> bool:
    """Whether the EHR's copy of an entry states what the entry states now.

    Everything that decides minutes must be as it was sent; an EHR may add to it.
    """
    return all(
        _contains(held.get(name), own.get(name))
        for name in ("status", "class", "type", "period", "length")
        if name in own
    ) and (_people(held) == _people(own))


def _contains(held: Any, sent: Any) -> bool:
    if isinstance(sent, dict):
        return isinstance(held, dict) and all(_contains(held.get(key), value) for key, value in sent.items())
    if isinstance(sent, list):
        return isinstance(held, list) and all(any(_contains(part, item) for part in held) for item in sent)
    if held == sent:
        return True
    try:
        return datetime.fromisoformat(str(held)) == datetime.fromisoformat(str(sent))
    except (TypeError, ValueError):
        return False


def _people(encounter: Mapping[str, Any]) -> list[str]:
    """The individuals and contained roles that an Encounter names."""
    found: list[str] = []
    for part in (*(encounter.get("participant") or ()), *(encounter.get("contained") or ())):
        if isinstance(part, dict):
            for key in ("individual", "practitioner"):
                reference = part.get(key)
                if isinstance(reference, dict):
                    found.append(str(reference.get("reference")))
            codes = part.get("code")
            found += [str(concept.get("coding")) for concept in codes or () if isinstance(concept, dict)]
    return sorted(found)
