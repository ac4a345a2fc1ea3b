"""Tokens: asking for them, reading the answer, renewing them in time, giving them back.

A refresh token may be good for a single use, and several threads and processes serve one session. So whoever
renews holds the session's lease in the store, looks again whether it is still needed, asks the EHR with no
transaction open, and stores the answer by compare-and-set.
"""

from __future__ import annotations

import re
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import msgspec

from launch.client_auth import client_credentials
from launch.discovery import Discovery
from launch.errors import HttpError, HttpProblem, LaunchError, LaunchReason, SmartError
from launch.http import EhrClient, EhrClients, Limits, Response
from launch.issuers import Issuer, Issuers
from launch.limiter import Pause, Turn
from launch.ports import Clock, Events, FhirContext, LaunchSession, LaunchStore, SessionEnd, TokenSet

RENEW_BEFORE = timedelta(seconds=60)
UNSTATED_LIFE = timedelta(seconds=300)
"""For a token whose life is not stated."""
LONGEST_LIFE = timedelta(days=1)
LEASE_LIFE = timedelta(seconds=30)
"""Longer than a token request may take (launch.http.OAUTH_LIMITS)."""
MOST_KEPT = 500
"""Sessions whose tokens a process keeps opened."""
_POLL = 0.05
_TOKEN = re.compile(r"[\x21-\x7e]{1,65536}")
_ID = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9\-._]{1,255}")
"""More than FHIR allows, since servers do; not "." and "..", which would climb out of an address."""


@dataclass(frozen=True, slots=True)
class LaunchContext:
    """What the EHR says about the chart the app was opened from. Unknown members are ignored."""

    patient: str | None = field(default=None, repr=False)
    encounter: str | None = field(default=None, repr=False)
    need_patient_banner: bool = True
    tenant: str | None = None
    intent: str | None = None
    smart_style_url: str | None = None
    fhir_context: tuple[FhirContext, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class TokenResponse:
    """A token endpoint's answer. `scope` None: the same as was asked for (RFC 6749, 5.1)."""

    access_token: str = field(repr=False)
    expires_at: datetime
    scope: str | None
    refresh_token: str | None = field(repr=False)
    id_token: str | None = field(repr=False)
    context: LaunchContext


def request_token(
    client: EhrClient, token_endpoint: str, form: Sequence[tuple[str, str]], now: datetime
) -> TokenResponse:
    """One token request, authenticated as the issuer's configuration says, sent once.

    Raises LaunchError(TOKEN_REFUSED) with the EHR's `error`, LaunchError(TOKEN_UNUSABLE), or HttpError where
    the EHR gave no OAuth answer at all.
    """
    credentials = client_credentials(client.issuer, token_endpoint, now)
    answer = client.oauth_post(token_endpoint, (*form, *credentials.form), credentials.headers)
    if not answer.ok:
        raise _refusal(answer)
    return parse_token_response(answer.json_object(), now)


def parse_token_response(document: Mapping[str, Any], now: datetime) -> TokenResponse:
    """Read a token response leniently in all but the token and the patient. Raises TOKEN_UNUSABLE."""
    if "error" in document:
        raise LaunchError(LaunchReason.TOKEN_REFUSED, ehr_code=document["error"])
    token_type = document.get("token_type", "")
    if not isinstance(token_type, str) or token_type.lower() != "bearer":
        raise LaunchError(LaunchReason.TOKEN_UNUSABLE, detail="token_type")
    access_token = _token(document, "access_token")
    if access_token is None:
        raise LaunchError(LaunchReason.TOKEN_UNUSABLE, detail="access_token")
    scope = document.get("scope")
    return TokenResponse(
        access_token=access_token,
        expires_at=now + _life(document.get("expires_in")),
        scope=scope if isinstance(scope, str) else None,
        refresh_token=_token(document, "refresh_token"),
        id_token=_token(document, "id_token"),
        context=parse_context(document),
    )


def parse_context(document: Mapping[str, Any]) -> LaunchContext:
    """The launch context. A patient that is there but is no id is refused; anything else odd is left out."""
    return LaunchContext(
        patient=_logical_id(document.get("patient"), "Patient"),
        encounter=_encounter(document.get("encounter")),
        # Shown unless the EHR says that it shows one itself: without a banner charts get mixed up.
        need_patient_banner=str(document.get("need_patient_banner", True)).strip().lower() != "false",
        tenant=_text(document.get("tenant")),
        intent=_text(document.get("intent")),
        smart_style_url=_text(document.get("smart_style_url")),
        fhir_context=_fhir_context(document.get("fhirContext")),
    )


class TokenKeeper:
    """Gives out access tokens that are still good, for the sessions of all EHRs. Threads share it."""

    def __init__(
        self,
        issuers: Issuers,
        clients: EhrClients,
        discovery: Discovery,
        store: LaunchStore,
        clock: Clock,
        events: Events,
        *,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._issuers = issuers
        self._clients = clients
        self._discovery = discovery
        self._store = store
        self._clock = clock
        self._events = events
        self._sleep = sleep
        self._lock = threading.Lock()
        self._one_opens = threading.Lock()
        """A reading begins in several threads: one opens the token, and the others find it kept."""
        self._kept: OrderedDict[str, TokenSet] = OrderedDict()
        """Opened once; good as long as the store's version is theirs, which ends with the session."""

    def access_token(self, session_id: str, *, rejected: str | None = None) -> str:
        """A token to use now; renewed if it ends within a minute, or is the one the EHR just rejected (401).

        Raises LaunchError SESSION_ENDED or PATIENT_CHANGED (the session is over), REFRESH_BUSY or HttpError
        (try again later).
        """
        if (token := self._kept_token(session_id, rejected)) is not None:
            return token
        with self._one_opens:
            if (token := self._kept_token(session_id, rejected)) is not None:
                return token
            session, tokens = self._open(session_id)
            if not self._must_renew(tokens, rejected):
                self._keep(session_id, tokens)
                return tokens.access_token
        if tokens.refresh_token is None:
            if tokens.access_token != rejected and tokens.expires_at > self._clock.now():
                return tokens.access_token  # cannot be renewed: good to its last second
            raise self._end(session, SessionEnd.ENDED_BY_EHR)
        return self._renew(session, rejected).access_token

    def log_out(self, session_id: str, *, revoke: bool = True) -> None:
        """End a session here and, where the EHR offers revocation, there. Never raises for the EHR's part.

        `revoke` False: only here.
        """
        session, tokens = self._store.get_session(session_id), self._store.get_tokens(session_id)
        if self._store.end_session(session_id, self._clock.now(), SessionEnd.LOGGED_OUT):
            self._events.emit("session-ended", session=session_id, because=SessionEnd.LOGGED_OUT.value)
        if session and tokens and revoke:
            self._revoke(session, tokens)

    def _kept_token(self, session_id: str, rejected: str | None) -> str | None:
        """One that was opened already and is good, as the store says now."""
        kept = self._kept.get(session_id)
        if kept is None or self._must_renew(kept, rejected):
            return None
        return kept.access_token if self._store.token_version(session_id) == kept.version else None

    def _keep(self, session_id: str, tokens: TokenSet) -> None:
        with self._lock:
            self._kept[session_id] = tokens
            self._kept.move_to_end(session_id)
            if len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)

    def _open(self, session_id: str) -> tuple[LaunchSession, TokenSet]:
        session = self._store.get_session(session_id)
        tokens = self._store.get_tokens(session_id)
        if session is None or tokens is None or session.ended_at is not None:
            with self._lock:
                self._kept.pop(session_id, None)
            because = session.ended_because if session else None
            raise LaunchError(_REASONS.get(because, LaunchReason.SESSION_ENDED))
        return session, tokens

    def _must_renew(self, tokens: TokenSet, rejected: str | None) -> bool:
        return tokens.access_token == rejected or tokens.expires_at - RENEW_BEFORE <= self._clock.now()

    def _renew(self, session: LaunchSession, rejected: str | None) -> TokenSet:
        """Take the lease or wait for whoever has it, and come back with tokens that need no renewal."""
        holder = secrets.token_urlsafe(16)
        client = self._client(session)
        # Before the lease, which lasts for one token request and not for discovery as well.
        endpoint = self._discovery.of(client).token_endpoint
        for _ in range(int(LEASE_LIFE.total_seconds() / _POLL)):
            if self._store.acquire_refresh_lease(session.id, holder, self._clock.now(), LEASE_LIFE):
                try:
                    # Looked at again under the lease: somebody may have renewed since.
                    session, tokens = self._open(session.id)
                    if not self._must_renew(tokens, rejected):
                        return tokens
                    return self._ask(session, tokens, client, endpoint)
                finally:
                    self._store.release_refresh_lease(session.id, holder)
            self._sleep(_POLL)
            session, tokens = self._open(session.id)
            if not self._must_renew(tokens, rejected):
                return tokens
        raise LaunchError(LaunchReason.REFRESH_BUSY)

    def _ask(self, session: LaunchSession, tokens: TokenSet, client: EhrClient, endpoint: str) -> TokenSet:
        """The refresh itself; the caller holds the lease."""
        form = (("grant_type", "refresh_token"), ("refresh_token", tokens.refresh_token or ""))
        try:
            answer = request_token(client, endpoint, form, self._clock.now())
        except LaunchError as error:
            self._events.emit("refresh-refused", session=session.id, error=error.ehr_code)
            if error.ehr_code == "invalid_grant":
                raise self._end(session, SessionEnd.ENDED_BY_EHR) from None
            raise
        if not session.without_patient and answer.context.patient not in {None, session.patient}:
            raise self._end(session, SessionEnd.PATIENT_CHANGED)
        renewed = TokenSet(
            access_token=answer.access_token,
            expires_at=answer.expires_at,
            granted_scope=tokens.granted_scope if answer.scope is None else answer.scope,
            # None given: the old one stays good (Oracle Health does so).
            refresh_token=answer.refresh_token or tokens.refresh_token,
            id_token=tokens.id_token,
            version=tokens.version + 1,
        )
        if not self._store.replace_tokens(session.id, renewed, tokens.version):
            # Ended meanwhile, or our lease ran out and another renewed: what the store holds is right. Tokens
            # that came after the end are given back; another's renewal may be of the same grant, so it isn't.
            if self._store.get_tokens(session.id) is None:
                self._revoke(session, renewed)
            return self._open(session.id)[1]
        self._events.emit("token-renewed", session=session.id, issuer=session.issuer_id)
        return renewed

    def _client(self, session: LaunchSession) -> EhrClient:
        return self._clients.of(self._issuers.bound(session.issuer_id, session.iss))

    def _end(self, session: LaunchSession, because: SessionEnd) -> LaunchError:
        if self._store.end_session(session.id, self._clock.now(), because):
            self._events.emit("session-ended", session=session.id, because=because.value)
        return LaunchError(_REASONS.get(because, LaunchReason.SESSION_ENDED))

    def _revoke(self, session: LaunchSession, tokens: TokenSet) -> None:
        try:
            client = self._client(session)
            endpoint = self._discovery.of(client).revocation_endpoint
            if endpoint is None:
                return
            # The refresh token first: a server that honours it (RFC 7009) ends the access token with it.
            for kind, token in (
                ("refresh_token", tokens.refresh_token),
                ("access_token", tokens.access_token),
            ):
                if token:
                    credentials = client_credentials(client.issuer, endpoint, self._clock.now())
                    form = (("token", token), ("token_type_hint", kind), *credentials.form)
                    client.oauth_post(endpoint, form, credentials.headers)
        except SmartError as error:
            self._events.emit("revocation-failed", session=session.id, problem=str(error.reason.value))


class SessionClient:
    """FHIR calls of one session: its token, only under its EHR's FHIR base; one renewal after a 401.

    An empty token is that of a server where nobody signs in (`smartapp connect`): nothing is sent.
    """

    def __init__(self, client: EhrClient, keeper: TokenKeeper, session_id: str) -> None:
        self._client = client
        self._keeper = keeper
        self.session_id = session_id

    @property
    def issuer(self) -> Issuer:
        """The EHR spoken to."""
        return self._client.issuer

    @property
    def pause(self) -> Pause | None:
        """Why this EHR is not asked for anything now, and for how long; None where it is."""
        return self._client.pause

    def fhir(
        self,
        method: str,
        target: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        limits: Limits | None = None,
        repeatable: bool | None = None,
        turn: Turn = Turn.PRESSED,
    ) -> Response:
        """One FHIR interaction (see EhrClient.fhir). A 401 is an answer that nothing was done, so even a
        write is sent again with a renewed token, once. Raises LaunchError, HttpError."""
        self._client.resolve(target)  # a foreign address is refused before any token is even fetched
        token = self._keeper.access_token(self.session_id)
        for renew in (True, False):
            answer = self._client.fhir(
                method,
                target,
                token=token or None,
                body=body,
                headers=headers,
                limits=limits,
                repeatable=repeatable,
                turn=turn,
            )
            if answer.status != 401 or not renew:
                break
            token = self._keeper.access_token(self.session_id, rejected=token)
        return answer


_REASONS: dict[SessionEnd | None, LaunchReason] = {SessionEnd.PATIENT_CHANGED: LaunchReason.PATIENT_CHANGED}


def _refusal(answer: Response) -> LaunchError | HttpError:
    """An OAuth error where the body holds one; else the bare status."""
    try:
        code = answer.json_object().get("error")
    except HttpError:
        code = None
    if 400 <= answer.status < 500 and isinstance(code, str):
        return LaunchError(LaunchReason.TOKEN_REFUSED, ehr_code=code)
    return HttpError(
        HttpProblem.HTTP_STATUS, host=answer.host, status=answer.status, request_id=answer.request_id
    )


def _life(value: Any) -> timedelta:
    """`expires_in` as a number or a numeric text; anything else counts as unstated."""
    if isinstance(value, str) and value.isdecimal() and len(value) < 10:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 10**9:
        return UNSTATED_LIFE
    return min(timedelta(seconds=value), LONGEST_LIFE)


def _token(document: Mapping[str, Any], name: str) -> str | None:
    """A token that fits in a header: printable ASCII without spaces. A longer or odd one is refused."""
    value = document.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str) or not _TOKEN.fullmatch(value):
        raise LaunchError(LaunchReason.TOKEN_UNUSABLE, detail=name)
    return value


def _logical_id(value: Any, type_: str) -> str | None:
    """A logical id, also where the server wrote a reference or a number. Raises TOKEN_UNUSABLE otherwise."""
    if value is None or value == "":
        return None
    text = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
    text = text.removeprefix(f"{type_}/")
    if not _ID.fullmatch(text):
        raise LaunchError(LaunchReason.TOKEN_UNUSABLE, detail=type_.lower())
    return text


def _encounter(value: Any) -> str | None:
    """The encounter's id. An odd one is left out: somebody chooses one later, and no chart stays closed."""
    try:
        return _logical_id(value, "Encounter")
    except LaunchError:
        return None


def _text(value: Any) -> str | None:
    return value[:1024] if isinstance(value, str) and value else None


def _fhir_context(value: Any) -> tuple[FhirContext, ...]:
    """`fhirContext`: objects as in SMART 2.1, plain references as some send; items without a target go."""
    items: list[FhirContext] = []
    for item in value[:100] if isinstance(value, list) else []:
        if isinstance(item, str) and item:
            items.append(FhirContext(reference=item[:1024]))
        elif isinstance(item, dict):
            identifier = item.get("identifier")
            found = FhirContext(
                reference=_text(item.get("reference")),
                canonical=_text(item.get("canonical")),
                identifier=msgspec.json.encode(identifier).decode() if isinstance(identifier, dict) else None,
                type=_text(item.get("type")),
                role=_text(item.get("role")) or "launch",
            )
            if found.reference or found.canonical or found.identifier:
                items.append(found)
    return tuple(items)
