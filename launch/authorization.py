"""The launch itself: from the EHR's click to an open session.

    begin   the EHR (or our front door) names an issuer -> an authorization request for the browser to carry
    finish  the browser comes back                      -> a session with its tokens, or a reason why not

What ties the two together is the `state`: 256 random bits, kept here only as a digest, good once, bound to
the browser by a cookie of its own, to the issuer, to the callback's path and to the token endpoint that was
found when the launch began. It is checked on every callback, an error's as well.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from urllib.parse import urlencode

from launch.discovery import Discovery, SmartConfiguration
from launch.errors import ConfigurationError, HttpError, LaunchError, LaunchReason
from launch.http import EhrClient, EhrClients
from launch.identity import Identity, IdentityVerifier
from launch.issuers import Issuer, Issuers, is_secure
from launch.ports import (
    Clock,
    Events,
    LaunchKind,
    LaunchSession,
    LaunchStore,
    PendingAbsence,
    PendingLaunch,
    TokenSet,
)
from launch.scopes import CORE_FEATURES, WITHOUT_PATIENT, Feature, Scopes, request_scope
from launch.seats import Seats
from launch.tokens import TokenResponse, request_token
from launch.urls import UnsafeUrl, parse_base, parse_url

PENDING_LIFE = timedelta(minutes=10)
SESSION_LIFE = timedelta(hours=12)
_LONGEST_ADDRESS = 2000
"""Beyond this, some servers and proxies cut an address off: a form is used where the EHR takes one."""


def digest(secret: str) -> str:
    """SHA-256 in hex: how states and cookie values are kept. They are random, so no salt is needed."""
    return hashlib.sha256(secret.encode("utf-8", "backslashreplace")).hexdigest()


def binding_cookie_name(state: str) -> str:
    """Name of the cookie that binds one launch to one browser, so that two launches at once both succeed."""
    return f"__Host-launch-{digest(state)[:16]}"


@dataclass(frozen=True, slots=True)
class AuthorizationRequest:
    """What the browser carries to the EHR, and the cookie it keeps meanwhile."""

    endpoint: str = field(repr=False)
    parameters: tuple[tuple[str, str], ...] = field(repr=False)
    must_post: bool
    """Send `parameters` as a form: the address would be too long, and the EHR takes forms."""
    cookie_name: str
    cookie_value: str = field(repr=False)
    cookie_life: timedelta
    issuer: Issuer

    @property
    def url(self) -> str:
        """The address to redirect to."""
        separator = "&" if "?" in self.endpoint else "?"
        return f"{self.endpoint}{separator}{urlencode(self.parameters)}"


@dataclass(frozen=True, slots=True)
class LaunchRequest:
    """The query of our launch address."""

    iss: str
    launch: str | None = field(repr=False)
    without_patient: bool = False
    """For no chart: only what needs no patient is asked for."""
    patient: str | None = field(default=None, repr=False)
    """Whose chart is wanted: the EHR's answer may name no other one. It is not told to the EHR, which has its
    own way to choose."""

    @classmethod
    def parse(cls, query: Iterable[tuple[str, str]], *, without_patient: bool = False) -> LaunchRequest:
        """From name and value pairs, repeated ones included. Raises LaunchError(BAD_LAUNCH_REQUEST)."""
        values = _once(query, ("iss", "launch"), LaunchReason.BAD_LAUNCH_REQUEST)
        if not values["iss"]:
            raise LaunchError(LaunchReason.BAD_LAUNCH_REQUEST, detail="iss")
        return cls(values["iss"], values["launch"] or None, without_patient)


@dataclass(frozen=True, slots=True)
class Callback:
    """The query (or form) of our callback address. `error_description` is not even read."""

    state: str | None = field(repr=False)
    code: str | None = field(repr=False)
    error: str | None
    iss: str | None

    @classmethod
    def parse(cls, query: Iterable[tuple[str, str]]) -> Callback:
        """From name and value pairs. A name given twice is refused: LaunchError(BAD_CALLBACK)."""
        values = _once(query, ("state", "code", "error", "iss"), LaunchReason.BAD_CALLBACK)
        return cls(values["state"], values["code"], values["error"], values["iss"])


@dataclass(frozen=True, slots=True)
class OpenedLaunch:
    """A session that has begun. The cookie's value is given out once, here; the store has its digest."""

    session: LaunchSession
    cookie_value: str = field(repr=False)


class Launcher:
    """Begins and finishes launches. `app_url` is our own base URL: configuration, never a request's."""

    def __init__(
        self,
        issuers: Issuers,
        clients: EhrClients,
        discovery: Discovery,
        identities: IdentityVerifier,
        store: LaunchStore,
        clock: Clock,
        events: Events,
        *,
        app_url: str,
        features: Sequence[Feature] = CORE_FEATURES,
        without_patient: Sequence[Feature] = WITHOUT_PATIENT,
        session_life: timedelta = SESSION_LIFE,
        seats: Seats | None = None,
    ) -> None:
        self._issuers = issuers
        self._clients = clients
        self._discovery = discovery
        self._identities = identities
        self._store = store
        self._clock = clock
        self._events = events
        self._app_url = _checked_app_url(app_url, issuers)
        self._features = tuple(features)
        self._without_patient = tuple(without_patient)
        self._session_life = session_life
        self._seats = seats or Seats()

    def redirect_uri(self, issuer: Issuer) -> str:
        """The fixed, fully specified callback address registered with this EHR."""
        return self._app_url + issuer.redirect_path

    def begin(self, request: LaunchRequest) -> AuthorizationRequest:
        """Begin an EHR launch, or a standalone one where `launch` is absent.

        Raises LaunchError: UNKNOWN_ISSUER before anything is sent anywhere, DISCOVERY_FAILED, EHR_BUSY.
        """
        issuer = self._issuers.match(request.iss)
        kind = LaunchKind.STANDALONE if request.launch is None else LaunchKind.EHR
        configuration = self._discovery.of(self._clients.of(issuer))
        state, binding = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
        pending = self._pending(request, kind, issuer, configuration, state, binding)
        self._store.save_pending(pending)
        self._events.emit("launch-begun", issuer=issuer.id, kind=kind.value)
        parameters = _authorization_parameters(issuer, pending, state, request.launch)
        asked = AuthorizationRequest(
            endpoint=configuration.authorization_endpoint,
            parameters=parameters,
            must_post=False,
            cookie_name=binding_cookie_name(state),
            cookie_value=binding,
            cookie_life=PENDING_LIFE,
            issuer=issuer,
        )
        if configuration.takes_post and len(asked.url) > _LONGEST_ADDRESS:
            return replace(asked, must_post=True)
        return asked

    def finish(self, callback: Callback, *, cookie_value: str | None, path: str) -> OpenedLaunch:
        """Finish the launch a callback belongs to. `path` is the path it arrived at.

        `cookie_value`: of the cookie `binding_cookie_name(callback.state)`. Raises LaunchError; after
        EHR_BUSY state and code are as good as before, and the same callback may come again.
        """
        # The path is an issuer's own; at any other one nobody is asked anything.
        here = next((issuer.registration for issuer in self._issuers if issuer.redirect_path == path), "")
        with self._seats.one(here):
            return self._finish_seated(callback, cookie_value, path)

    def _finish_seated(self, callback: Callback, cookie_value: str | None, path: str) -> OpenedLaunch:
        pending = self._taken(callback)
        try:
            return self._finish(pending, callback, cookie_value, path)
        except LaunchError as error:
            self._events.emit(
                "launch-refused",
                issuer=pending.issuer_id,
                reason=error.reason.value,
                error=error.ehr_code,
                detail=error.detail,
            )
            raise

    def _taken(self, callback: Callback) -> PendingLaunch:
        """The launch, taken out of the store: whatever comes next, this state is used up."""
        if not callback.state:
            raise LaunchError(LaunchReason.STATE_MISSING)
        match self._store.take_pending(digest(callback.state)):
            case PendingAbsence.UNKNOWN:
                raise LaunchError(LaunchReason.STATE_UNKNOWN)
            case PendingAbsence.REPLAYED:
                self._events.emit("state-replayed")
                raise LaunchError(LaunchReason.STATE_REPLAYED)
            case PendingLaunch() as pending:
                return pending

    def _finish(
        self, pending: PendingLaunch, callback: Callback, cookie_value: str | None, path: str
    ) -> OpenedLaunch:
        now = self._clock.now()
        _check_callback(pending, callback, cookie_value, path, now)
        issuer = self._issuers.bound(pending.issuer_id, pending.iss)
        if self.redirect_uri(issuer) != pending.redirect_uri:
            raise LaunchError(LaunchReason.WRONG_CALLBACK)
        if callback.error is not None:
            raise LaunchError(LaunchReason.EHR_REFUSED, ehr_code=callback.error)
        if not callback.code:
            raise LaunchError(LaunchReason.CODE_MISSING)
        client = self._clients.of(issuer)
        answer = _exchange(client, pending, callback.code, now)
        if pending.expected_patient is not None and answer.context.patient != pending.expected_patient:
            raise LaunchError(LaunchReason.OTHER_PATIENT)
        identity = self._identity(client, pending, answer)
        return self._open(issuer, pending, answer, identity, now)

    def _identity(self, client: EhrClient, pending: PendingLaunch, answer: TokenResponse) -> Identity | None:
        """Who is signed in; None only where the EHR granted no `openid`: then nobody can charge."""
        if answer.id_token is None:
            granted = pending.requested_scope if answer.scope is None else answer.scope
            if Scopes.parse(granted).has("openid"):
                raise LaunchError(LaunchReason.ID_TOKEN_INVALID, detail="granted but missing")
            return None
        configuration = self._discovery.of(client, seated=True)
        return self._identities.verify(client, configuration, answer.id_token, pending.nonce)

    def _open(
        self,
        issuer: Issuer,
        pending: PendingLaunch,
        answer: TokenResponse,
        identity: Identity | None,
        now: datetime,
    ) -> OpenedLaunch:
        cookie_value = secrets.token_urlsafe(32)
        context = answer.context
        granted = pending.requested_scope if answer.scope is None else answer.scope
        session = LaunchSession(
            id=secrets.token_urlsafe(24),
            issuer_id=issuer.id,
            iss=pending.iss,
            cookie_digest=digest(cookie_value),
            patient=None if pending.without_patient else context.patient,
            encounter=None if pending.without_patient else context.encounter,
            fhir_user=identity.fhir_user if identity else None,
            user_subject=identity.subject if identity else None,
            user_issuer=identity.issuer if identity else None,
            user_name=identity.name if identity else None,
            requested_scope=pending.requested_scope,
            granted_scope=granted,
            need_patient_banner=context.need_patient_banner,
            tenant=context.tenant,
            intent=context.intent,
            smart_style_url=_own_style(context.smart_style_url, issuer),
            fhir_context=() if pending.without_patient else context.fhir_context,
            created_at=now,
            last_seen=now,
            expires_at=now + self._session_life,
            without_patient=pending.without_patient,
        )
        tokens = TokenSet(
            access_token=answer.access_token,
            expires_at=answer.expires_at,
            granted_scope=granted,
            refresh_token=answer.refresh_token,
            id_token=answer.id_token,
        )
        self._store.create_session(session, tokens)
        self._events.emit("launch-opened", issuer=issuer.id, session=session.id, user=session.fhir_user)
        return OpenedLaunch(session, cookie_value)

    def _pending(
        self,
        request: LaunchRequest,
        kind: LaunchKind,
        issuer: Issuer,
        configuration: SmartConfiguration,
        state: str,
        binding: str,
    ) -> PendingLaunch:
        now = self._clock.now()
        v2 = configuration.speaks_v2(issuer)
        return PendingLaunch(
            state_digest=digest(state),
            browser_digest=digest(binding),
            kind=kind,
            issuer_id=issuer.id,
            iss=request.iss,
            redirect_uri=self.redirect_uri(issuer),
            authorization_server=configuration.issuer or issuer.oidc_issuer,
            token_endpoint=configuration.token_endpoint,
            code_verifier=secrets.token_urlsafe(64),
            nonce=secrets.token_urlsafe(32),
            requested_scope=request_scope(
                self._without_patient if request.without_patient else self._features,
                kind=kind,
                v2=v2,
                extra=issuer.extra_scopes,
                without_patient=request.without_patient,
            ),
            created_at=now,
            expires_at=now + PENDING_LIFE,
            promises_iss=configuration.promises_iss,
            without_patient=request.without_patient,
            expected_patient=request.patient,
        )


def code_challenge(verifier: str) -> str:
    """PKCE S256 (RFC 7636, 4.2)."""
    hashed = hashlib.sha256(verifier.encode("ascii")).digest()
    return base64.urlsafe_b64encode(hashed).rstrip(b"=").decode("ascii")


def _authorization_parameters(
    issuer: Issuer, pending: PendingLaunch, state: str, launch: str | None
) -> tuple[tuple[str, str], ...]:
    """RFC 6749 4.1.1 with SMART's `aud` and `launch`. PKCE whether or not the server advertises it."""
    return (
        ("response_type", "code"),
        ("client_id", issuer.client_id),
        ("redirect_uri", pending.redirect_uri),
        *((("launch", launch),) if launch is not None else ()),
        ("scope", pending.requested_scope),
        ("state", state),
        ("aud", pending.iss),
        ("nonce", pending.nonce),
        ("code_challenge", code_challenge(pending.code_verifier)),
        ("code_challenge_method", "S256"),
    )


def _check_callback(
    pending: PendingLaunch, callback: Callback, cookie_value: str | None, path: str, now: datetime
) -> None:
    """That this callback belongs to this launch, this browser, this EHR, and is in time."""
    if now >= pending.expires_at:
        raise LaunchError(LaunchReason.STATE_EXPIRED)
    if cookie_value is None or not hmac.compare_digest(digest(cookie_value), pending.browser_digest):
        detail = "no cookie" if cookie_value is None else "another cookie"
        raise LaunchError(LaunchReason.WRONG_BROWSER, detail=detail)
    if parse_url(pending.redirect_uri).path != path:
        raise LaunchError(LaunchReason.WRONG_CALLBACK)
    expected = pending.authorization_server
    if callback.iss is not None and callback.iss == expected:
        return
    # Promised, and missing or nothing there to compare it with: nobody can tell who answered.
    if pending.promises_iss or (expected is not None and callback.iss is not None):
        raise LaunchError(LaunchReason.WRONG_AUTHORIZATION_SERVER)


def _exchange(client: EhrClient, pending: PendingLaunch, code: str, now: datetime) -> TokenResponse:
    form = (
        ("grant_type", "authorization_code"),
        ("code", code),
        ("redirect_uri", pending.redirect_uri),
        ("code_verifier", pending.code_verifier),
    )
    try:
        return request_token(client, pending.token_endpoint, form, now)
    except HttpError as error:
        raise LaunchError(LaunchReason.TOKEN_REFUSED, detail=error.problem.value) from None


def _checked_app_url(text: str, issuers: Issuers) -> str:
    """Our base URL without a trailing slash; https, or loopback where every issuer is a demo's."""
    try:
        url = parse_base(text)
    except UnsafeUrl as fault:
        raise ConfigurationError("app_url", f"holds {fault}") from None
    if not is_secure(url, loopback=all(issuer.allow_loopback for issuer in issuers)):
        raise ConfigurationError("app_url", "must use https")
    return url.base


def _own_style(text: str | None, issuer: Issuer) -> str | None:
    """A style sheet's address is only kept where it is the EHR's own: we would fetch it."""
    try:
        own = text is not None and parse_url(text).origin == issuer.base.origin
    except UnsafeUrl:
        own = False
    return text if own else None


def _once(
    query: Iterable[tuple[str, str]], names: Sequence[str], reason: LaunchReason
) -> dict[str, str | None]:
    """The named parameters; one given twice is refused, since two readers could differ on which counts."""
    found: dict[str, str | None] = dict.fromkeys(names)
    for name, value in query:
        if name not in found:
            continue
        if found[name] is not None:
            raise LaunchError(reason, detail=f"{name} twice")
        found[name] = value
    return found
