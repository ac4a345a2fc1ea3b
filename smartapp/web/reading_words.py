"""What is said of reading a chart: what could not be read, why it failed, what it waits for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from zoneinfo import ZoneInfo

from fhir_mappings.completeness import MissingWhy
from launch.errors import HttpError
from launch.limiter import PauseKind
from smartapp.ehr.reading.notices import Notice, NoticeKind
from smartapp.store.reading import Progress
from smartapp.web import words

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
            named = words.number_of(number, "device")
            told.append(
                f"{named} named by readings {is_} missing in the EHR; what comes from {it} may not count."
            )
        else:
            named = words.number_of(number, "record")
            told.append(f"{named} ({what}) that another one points to {is_} missing in the EHR.")
    return told


def resource_type(name: str) -> str:
    """A resource type, or that nobody knows which."""
    return name or "Something of any type"


_HTTP_FAILURES = {problem.value: sentence for problem, sentence in HttpError.SENTENCES.items()}


def failure(value: str | None) -> str:
    """Why a reading failed: a reason of the reader's own, or of the way to the EHR."""
    known = FAILURES | _HTTP_FAILURES
    return known.get(value or "", "The chart could not be read.")
