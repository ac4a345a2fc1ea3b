"""What `launch` needs from its host, and the records that pass between them.

The host (the web app) implements `LaunchStore`, `Clock` and `Events`; `launch` never opens a database, reads
a wall clock or writes a log by itself. Records are frozen, hold plain values only (text, booleans, aware UTC
datetimes, enums, tuples of those), and keep secrets and patient ids out of their `repr`.

A store must encrypt `PendingLaunch`, `LaunchSession` and `TokenSet` at rest: they hold a code verifier,
patient ids and tokens. The keys it looks rows up by (`state_digest`, `LaunchSession.id`) are no credentials:
the state itself and the cookies' values never reach the store, only their SHA-256 digests.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from typing import Protocol


class LaunchKind(Enum):
    """Who began: the EHR (from a chart) or our own front door."""

    EHR = "ehr"
    STANDALONE = "standalone"


class PendingAbsence(Enum):
    """Why `LaunchStore.take_pending` has nothing to give."""

    UNKNOWN = "unknown"
    """Never saved, or purged after it expired."""
    REPLAYED = "replayed"
    """Was taken before: the same callback came twice, or somebody copied its address."""


class SessionEnd(Enum):
    """Why a launch session is over."""

    LOGGED_OUT = "logged-out"
    IDLE = "idle"
    EXPIRED = "expired"
    ENDED_BY_EHR = "ended-by-ehr"
    """The EHR refused to renew the access token, or it ran out and there is nothing to renew it with."""
    PATIENT_CHANGED = "patient-changed"
    """A renewed token named another patient: nothing read or written before may be trusted with it."""


@dataclass(frozen=True, slots=True)
class PendingLaunch:
    """One authorization request under way, from our redirect to the EHR's callback. Lives ten minutes."""

    state_digest: str
    """SHA-256 (hex) of the `state` we sent; the store's key."""
    browser_digest: str = field(repr=False)
    """SHA-256 (hex) of the random value in the cookie that binds this launch to one browser."""
    kind: LaunchKind
    issuer_id: str
    iss: str
    """The FHIR base URL byte for byte as the EHR sent it: it went out as `aud`."""
    redirect_uri: str
    authorization_server: str | None
    """`issuer` of the discovery document: compared with the callback's `iss` (RFC 9207)."""
    token_endpoint: str
    """Taken at the beginning, so a document that changes in between cannot redirect the code."""
    code_verifier: str = field(repr=False)
    nonce: str = field(repr=False)
    requested_scope: str
    created_at: datetime
    expires_at: datetime
    promises_iss: bool = False
    """The authorization server said that its answers carry `iss` (RFC 9207): one without is not its own."""
    without_patient: bool = False
    """No chart was asked for: what is opened has no patient, whatever the EHR says beside the token."""
    expected_patient: str | None = field(default=None, repr=False)
    """Whose chart somebody wanted to open; the EHR may name no other one."""


@dataclass(frozen=True, slots=True)
class FhirContext:
    """One item of the token response's `fhirContext`. At least one of the first three is there."""

    reference: str | None = field(default=None, repr=False)
    canonical: str | None = None
    identifier: str | None = field(default=None, repr=False)
    """The Identifier as compact JSON text."""
    type: str | None = None
    role: str = "launch"


@dataclass(frozen=True, slots=True)
class LaunchSession:
    """One opened chart: who opened it, for which patient, with which permissions. Tokens are kept apart."""

    id: str
    """192 random bits, URL-safe. It stands in the address and is no credential without the cookie."""
    issuer_id: str
    iss: str
    """The FHIR base URL as the EHR sent it."""
    cookie_digest: str = field(repr=False)
    """SHA-256 (hex) of the session cookie's value."""
    patient: str | None = field(repr=False)
    """Logical id ("p1"), never a reference; the only patient this session may read or write."""
    encounter: str | None = field(repr=False)
    fhir_user: str | None
    """Relative reference ("Practitioner/7") where it is under the FHIR base, else the absolute URL."""
    user_subject: str | None
    """`sub` of the id_token."""
    user_issuer: str | None
    """`iss` of the id_token: `sub` is unique only together with it."""
    user_name: str | None
    requested_scope: str
    granted_scope: str
    need_patient_banner: bool
    tenant: str | None
    intent: str | None
    smart_style_url: str | None
    fhir_context: tuple[FhirContext, ...] = field(repr=False)
    created_at: datetime
    last_seen: datetime
    expires_at: datetime
    """The absolute end, whatever is renewed until then."""
    ended_at: datetime | None = None
    ended_because: SessionEnd | None = None
    without_patient: bool = False
    """Opened for no chart: `patient` is None and stays so, whatever a renewed token says beside it."""


@dataclass(frozen=True, slots=True)
class TokenSet:
    """The tokens of one session. `version` counts replacements and is what compare-and-set compares."""

    access_token: str = field(repr=False)
    expires_at: datetime
    granted_scope: str
    refresh_token: str | None = field(default=None, repr=False)
    id_token: str | None = field(default=None, repr=False)
    version: int = 1


class Clock(Protocol):
    """The only source of the present."""

    def now(self) -> datetime:
        """The present as an aware UTC datetime."""
        ...


class Events(Protocol):
    """Where `launch` says what happened, for logs, audit and metrics."""

    def emit(self, name: str, **facts: str | int | float | bool | None) -> None:
        """Record one event. Facts hold ids of issuers and sessions, kinds, counts, seconds.

        They never hold tokens, codes, states, patient ids, names, or addresses with a query. Must not raise.
        """
        ...


class LaunchStore(Protocol):
    """Launches, sessions and tokens, shared by every thread and process of the app.

    Every method is its own short transaction and is safe to call from several processes at once. No method
    raises for an unknown id: reads give None, changes do nothing (or give False).
    """

    # Pending launches

    def save_pending(self, pending: PendingLaunch) -> None:
        """Keep a launch until its callback. `state_digest` is unique."""
        ...

    def take_pending(self, state_digest: str) -> PendingLaunch | PendingAbsence:
        """Take a launch out, once: of any number of simultaneous callers exactly one gets it.

        The row's content (code verifier, nonce) is erased in the same transaction; a mark that it was taken
        stays at least until `expires_at`, so that a second call answers REPLAYED. An expired launch is
        still given out: the caller compares `expires_at` and says so.
        """
        ...

    # Sessions

    def create_session(self, session: LaunchSession, tokens: TokenSet) -> None:
        """Keep a new session and its first tokens, both or neither."""
        ...

    def get_session(self, session_id: str) -> LaunchSession | None:
        """The session, ended ones included until they are purged."""
        ...

    def touch_session(self, session_id: str, at: datetime) -> None:
        """Set `last_seen` of a session that has not ended; never moves it backwards."""
        ...

    def end_session(self, session_id: str, at: datetime, because: SessionEnd) -> bool:
        """End a session and erase its tokens, both or neither. True for the call that ended it."""
        ...

    # Tokens

    def get_tokens(self, session_id: str) -> TokenSet | None:
        """The present tokens; None once the session has ended."""
        ...

    def token_version(self, session_id: str) -> int | None:
        """`version` of the present tokens; None once the session has ended. Asked before every request."""
        ...

    def replace_tokens(self, session_id: str, tokens: TokenSet, expected_version: int) -> bool:
        """Compare and set: store `tokens` if the present `version` is `expected_version`.

        `tokens.version` is already `expected_version + 1`. False, and nothing changed, if somebody else was
        first or the session has ended.
        """
        ...

    # The refresh lease: who may use a session's refresh token now. It is a row with a holder and an end,
    # never a lock held open: no transaction stays open while the EHR is asked.

    def acquire_refresh_lease(self, session_id: str, holder: str, now: datetime, ttl: timedelta) -> bool:
        """True, and `holder` has it until `now + ttl`, if nobody holds the lease or its end has passed."""
        ...

    def release_refresh_lease(self, session_id: str, holder: str) -> None:
        """Give the lease back, if `holder` still has it."""
        ...

    def purge(self, now: datetime, keep_ended: timedelta) -> int:
        """Delete expired pending launches, and sessions over for longer than `keep_ended`; how many."""
        ...
