"""Everything that can go wrong on the way in, one hierarchy: an enum reason, and a sentence for a person.

No exception here carries a token, a code, a state, a patient id, or an address beyond its host: `str()` and
`repr()` are safe to log. What an EHR says (`error`) is cut down to the characters RFC 6749 allows; what it
says in prose (`error_description`) is not kept at all.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import ClassVar


class SmartError(Exception):
    """Base of all errors of `launch`. Each has a `reason` (an enum) and a `sentence` (for a person)."""

    reason: Enum
    sentence: str


class ConfigurationError(SmartError):
    """The administrator's configuration of an EHR cannot be used. Shown at start-up, never to a clinician."""

    class Reason(Enum):
        INVALID = "invalid-configuration"

    def __init__(self, where: str, sentence: str) -> None:
        self.reason = self.Reason.INVALID
        self.where = where
        self.sentence = sentence
        super().__init__(f"{where}: {sentence}")


class HttpProblem(Enum):
    """Why a request to an EHR gave no usable answer."""

    TIMEOUT = "timeout"
    TOO_LARGE = "too-large"
    REFUSED_ADDRESS = "refused-address"
    REDIRECT = "redirect"
    FOREIGN_URL = "foreign-url"
    HTTP_STATUS = "http-status"
    NOT_JSON = "not-json"
    CONNECTION = "connection"
    TLS = "tls"
    BUSY = "busy"


class HttpError(SmartError):
    """A request to an EHR failed, or was refused before a byte was sent.

    `maybe_acted` is True where the request may have been received although no usable answer came back: a
    write must then be looked up, never repeated blindly. `detail` says what is wrong with a certificate.
    """

    SENTENCES: ClassVar[dict[HttpProblem, str]] = {
        HttpProblem.TIMEOUT: "The EHR did not answer in time.",
        HttpProblem.TOO_LARGE: "The EHR's answer is larger than this app accepts.",
        HttpProblem.REFUSED_ADDRESS: "The address lies in a network this app must not connect to.",
        HttpProblem.REDIRECT: "The EHR answered with a redirect, which this app does not follow.",
        HttpProblem.FOREIGN_URL: "The address does not belong to the EHR of this session.",
        HttpProblem.HTTP_STATUS: "The EHR answered with an error.",
        HttpProblem.NOT_JSON: "The EHR's answer is not the JSON that was asked for.",
        HttpProblem.CONNECTION: "No connection to the EHR could be made.",
        HttpProblem.TLS: "The EHR's certificate could not be verified.",
        HttpProblem.BUSY: "Too many requests to this EHR are under way.",
    }

    def __init__(
        self,
        problem: HttpProblem,
        *,
        host: str = "",
        status: int | None = None,
        request_id: str = "",
        maybe_acted: bool = False,
        detail: str = "",
    ) -> None:
        self.reason = problem
        self.problem = problem
        self.host = host
        self.status = status
        self.request_id = request_id
        self.maybe_acted = maybe_acted
        self.detail = detail
        self.sentence = self.SENTENCES[problem]
        facts = (
            problem.value,
            detail,
            status and f"status {status}",
            host,
            request_id and f"request {request_id}",
        )
        super().__init__(", ".join(str(fact) for fact in facts if fact))


class LaunchReason(Enum):
    """Why a launch, a session or a token came to nothing."""

    UNKNOWN_ISSUER = "unknown-issuer"
    BAD_LAUNCH_REQUEST = "bad-launch-request"
    DISCOVERY_FAILED = "discovery-failed"
    BAD_CALLBACK = "bad-callback"
    STATE_MISSING = "state-missing"
    STATE_UNKNOWN = "state-unknown"
    STATE_REPLAYED = "state-replayed"
    STATE_EXPIRED = "state-expired"
    WRONG_BROWSER = "wrong-browser"
    WRONG_CALLBACK = "wrong-callback"
    WRONG_AUTHORIZATION_SERVER = "wrong-authorization-server"
    EHR_REFUSED = "ehr-refused"
    CODE_MISSING = "code-missing"
    TOKEN_REFUSED = "token-refused"  # noqa: S105
    TOKEN_UNUSABLE = "token-unusable"  # noqa: S105
    ID_TOKEN_INVALID = "id-token-invalid"  # noqa: S105
    SESSION_ENDED = "session-ended"
    PATIENT_CHANGED = "patient-changed"
    OTHER_PATIENT = "other-patient"
    REFRESH_BUSY = "refresh-busy"
    EHR_BUSY = "ehr-busy"


_SENTENCES: dict[LaunchReason, str] = {
    LaunchReason.UNKNOWN_ISSUER: (
        "This EHR is not registered with this app. An administrator can add it to the list of issuers."
    ),
    LaunchReason.BAD_LAUNCH_REQUEST: "The EHR opened this app with an incomplete or ambiguous address.",
    LaunchReason.DISCOVERY_FAILED: "The EHR's SMART configuration could not be read or is not safe to use.",
    LaunchReason.BAD_CALLBACK: "The EHR's answer is ambiguous. Open the app again from the chart.",
    LaunchReason.STATE_MISSING: "The EHR's answer names no launch. Open the app again from the chart.",
    LaunchReason.STATE_UNKNOWN: "This launch is not known here. Open the app again from the chart.",
    LaunchReason.STATE_REPLAYED: "This launch was already used. Open the app again from the chart.",
    LaunchReason.STATE_EXPIRED: "This launch took too long. Open the app again from the chart.",
    LaunchReason.WRONG_BROWSER: (
        "This launch was begun in another browser, or the browser did not keep the app's cookie. "
        "Open the app again from the chart, or in a new window."
    ),
    LaunchReason.WRONG_CALLBACK: "The answer arrived at an address that belongs to another EHR.",
    LaunchReason.WRONG_AUTHORIZATION_SERVER: "The answer comes from a server that was not asked.",
    LaunchReason.EHR_REFUSED: "The EHR refused access.",
    LaunchReason.CODE_MISSING: "The EHR's answer holds no authorization code.",
    LaunchReason.TOKEN_REFUSED: "The EHR did not accept this app's request for access.",
    LaunchReason.TOKEN_UNUSABLE: "The EHR's answer to the request for access cannot be used.",
    LaunchReason.ID_TOKEN_INVALID: "The EHR's statement of who is signed in could not be verified.",
    LaunchReason.SESSION_ENDED: "The session ended in the EHR. Open the app again from the chart.",
    LaunchReason.PATIENT_CHANGED: (
        "The EHR now names another patient. This session was closed so that nothing is mixed up."
    ),
    LaunchReason.OTHER_PATIENT: (
        "The EHR opened another patient's chart than the one that was chosen. Nothing was opened here."
    ),
    LaunchReason.REFRESH_BUSY: "Access is being renewed. Try again in a moment.",
    LaunchReason.EHR_BUSY: (
        "The EHR answers slowly, and many are waiting for it already. Nothing was sent, and nothing is lost."
    ),
}

_NOT_IN_ERROR_CODE = re.compile(r"[^A-Za-z0-9_.\-]")


def clean_error_code(text: object) -> str | None:
    """An OAuth `error` value, cut to 64 harmless characters (RFC 6749 allows more than is safe to show)."""
    if not isinstance(text, str) or not text:
        return None
    return _NOT_IN_ERROR_CODE.sub("?", text[:64])


class LaunchError(SmartError):
    """A launch, a session or a token came to nothing. `ehr_code` is the EHR's `error`, cleaned.

    `detail` is a short phrase of our own for the administrator's log ("nonce", "aud"), never received text.
    """

    reason: LaunchReason

    def __init__(self, reason: LaunchReason, *, ehr_code: object = None, detail: str = "") -> None:
        self.reason = reason
        self.ehr_code = clean_error_code(ehr_code)
        self.detail = detail
        self.sentence = _SENTENCES[reason]
        super().__init__(", ".join(part for part in (reason.value, self.ehr_code, detail) if part))
