"""One request that changes something in the EHR, and what its answer means.

Only the status decides. What the body holds can add why, and whatever it is, it can never turn a refusal into
an error of ours: the row of the charge would then say that it is still on its way.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from launch.errors import HttpError, LaunchError
from launch.http import Limits, Response
from smartapp.configuration.settings import Settings
from smartapp.ehr.wire.bundles import outcome_text
from smartapp.ehr.wire.looks import look

IN_DOUBT = frozenset({408, 409, 412, 425, 429, 500, 502, 503, 504})
"""Statuses after which the EHR must be asked what it holds."""


class Fate(Enum):
    """What became of a request."""

    TAKEN = "taken"
    REFUSED = "refused"
    """For certain: the EHR said no, or nothing ever left."""
    IN_DOUBT = "in-doubt"


@dataclass(frozen=True, slots=True)
class Sent:
    """`problem`: a sentence for a person, empty if TAKEN. `response`: None where there was none."""

    fate: Fate
    problem: str = ""
    response: Response | None = None

    @property
    def status(self) -> int | None:
        return None if self.response is None else self.response.status


def limits_of_writes(settings: Settings) -> Limits:
    """Shorter than the lease of a row: whoever takes over knows that nothing is still on its way."""
    seconds = settings.job_lease.total_seconds() * 2
    return Limits(connect=min(5.0, seconds), read=seconds, total=seconds, tries=1)


def send(request: Callable[[], Response], also_taken: frozenset[int] = frozenset()) -> Sent:
    """Make the request, once. `also_taken`: statuses that mean "done" beside 2xx. Never raises for what the
    EHR or the way to it does."""
    try:
        response = request()
    except HttpError as error:
        return Sent(Fate.IN_DOUBT if error.maybe_acted else Fate.REFUSED, error.sentence)
    except LaunchError as error:
        return Sent(Fate.REFUSED, error.sentence)
    if response.ok or response.status in also_taken:
        return Sent(Fate.TAKEN, "", response)
    if response.status in IN_DOUBT:
        return Sent(Fate.IN_DOUBT, f"The EHR answered {response.status}.", response)
    said = outcome_text(response.body) or "without saying why"
    return Sent(Fate.REFUSED, f"{response.status}: {said}", response)


def id_of_created(response: Response, type_: str) -> str | None:
    """The logical id of a resource that was created, from `Location` or the body."""
    place = response.headers.get("location", "").split("?", 1)[0]
    found = re.search(rf"(?:^|/){type_}/([A-Za-z0-9\-._]{{1,255}})(?:/_history/[^/]+)?/?$", place)
    if found:
        return found[1]
    seen = look(response.body)
    return (seen.id or None) if seen.resourceType == type_ else None
