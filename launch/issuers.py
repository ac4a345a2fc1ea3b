"""Which EHRs are trusted: the administrator's configuration, never the request.

A launch names its EHR (`iss`). It is looked up here by its normal form; an `iss` that is not listed is
refused before a single byte goes anywhere. What is sent back as `aud` are the bytes as received. How the
configuration is written, and read, is in `launch.issuers_table`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path

from launch.addresses import AddressPolicy
from launch.errors import LaunchError, LaunchReason
from launch.profiles import Profile, ScopeStyle
from launch.urls import UnsafeUrl, Url, parse_base


class ClientAuth(Enum):
    """How this app proves who it is at a token endpoint."""

    PUBLIC = "public"
    SECRET_BASIC = "secret-basic"  # noqa: S105
    SECRET_POST = "secret-post"  # noqa: S105
    PRIVATE_KEY_JWT = "private-key-jwt"


class SigningAlgorithm(Enum):
    """The two a SMART client has to support."""

    RS384 = "RS384"
    ES384 = "ES384"


@dataclass(frozen=True, slots=True)
class Backend:
    """How this app comes to an EHR without a user (SMART Backend Services): for exports."""

    client_id: str
    signing_key: str = field(repr=False)
    """The private key as PEM text."""
    signing_key_id: str
    signing_algorithm: SigningAlgorithm = SigningAlgorithm.ES384
    group: str = ""
    """The Group whose patients are exported; "": everybody."""
    addresses: tuple[str, ...] = ()
    """Where an export's status and files may lie besides under the FHIR base."""


@dataclass(frozen=True, slots=True)
class Issuer:
    """One EHR, as an administrator registered this app with it."""

    id: str
    """Whose records are whose: everything that is kept of a patient is kept under it. Where a `*` stands for
    many practices each has an id of its own, since one practice's patient 7 is not another's."""
    fhir_base: str
    """The FHIR base URL in normal form, without a trailing slash."""
    client_id: str
    profile: Profile
    client_auth: ClientAuth = ClientAuth.PUBLIC
    client_secret: str | None = field(default=None, repr=False)
    signing_key: str | None = field(default=None, repr=False)
    """The private key as PEM text."""
    signing_key_id: str | None = None
    signing_algorithm: SigningAlgorithm = SigningAlgorithm.ES384
    scope_style: ScopeStyle = ScopeStyle.AUTO
    extra_scopes: tuple[str, ...] = ()
    redirect_path: str = ""
    """Path of the callback: one an issuer, so that an answer cannot pass for another EHR's."""
    oauth_hosts: tuple[str, ...] = ()
    """Origins beside the FHIR base's own on which authorization, token and key endpoints may lie."""
    oidc_issuer: str | None = None
    """The `iss` its id_tokens carry, where the discovery document does not say it."""
    frame_ancestors: tuple[str, ...] = ()
    """Origins that may show this app in a frame."""
    ca_bundle: Path | None = None
    proxy: str | None = field(default=None, repr=False)
    """Not in the repr: a proxy's address may hold a password."""
    fhir_base_aliases: tuple[str, ...] = ()
    """Other addresses by which the server's references call its FHIR base. Nothing is ever sent to them."""
    front_page: str = ""
    """Its name on the app's own front page, for launches that begin there; "" keeps it off the page."""
    allow_private: bool = False
    allow_loopback: bool = False
    """Set by the demo, by tests and for a tester's server; then http is accepted too, on loopback hosts."""
    allow_http: bool = False
    """Set for a tester's server only, which holds nobody's data: http anywhere."""
    max_parallel: int = 4
    requests_per_minute: int = 240
    backend: Backend | None = None
    """Where another client than the one that is launched comes without a user."""

    def as_backend(self) -> Issuer:
        """The same EHR, as the client that comes to it without a user."""
        if self.backend is None:
            return self
        return replace(
            self,
            client_id=self.backend.client_id,
            client_auth=ClientAuth.PRIVATE_KEY_JWT,
            client_secret=None,
            signing_key=self.backend.signing_key,
            signing_key_id=self.backend.signing_key_id,
            signing_algorithm=self.backend.signing_algorithm,
        )

    @property
    def export_bases(self) -> tuple[Url, ...]:
        """Everything under which an export's status and files may lie."""
        return (self.base, *(parse_base(one) for one in (self.backend.addresses if self.backend else ())))

    @property
    def many(self) -> bool:
        """Whether it stands for many practices still: an entry with a `*`, not yet matched."""
        return _has_star(self.fhir_base)

    @property
    def registration(self) -> str:
        """The entry's name in the issuers file; all practices of one `*` share it."""
        return registration_of(self.id)

    @property
    def base(self) -> Url:
        """The FHIR base, parsed."""
        return parse_base(self.fhir_base)

    @property
    def bases(self) -> tuple[str, ...]:
        """Every address by which the server may call its FHIR base."""
        return (self.fhir_base, *self.fhir_base_aliases)

    @property
    def addresses(self) -> AddressPolicy:
        """Which network addresses may be connected to for this EHR."""
        return AddressPolicy(self.allow_private, self.allow_loopback)

    def takes(self, url: Url) -> bool:
        """Whether a request for this EHR may travel as that URL says: encrypted, exceptions aside."""
        return self.allow_http or is_secure(url, loopback=self.allow_loopback)

    @property
    def origins(self) -> frozenset[str]:
        """Every origin a request for this EHR may go to."""
        return frozenset((self.base.origin, *self.oauth_hosts))


class Issuers:
    """All trusted EHRs, by id and by `iss`."""

    def __init__(self, issuers: tuple[Issuer, ...]) -> None:
        self._by_id = {issuer.id: issuer for issuer in issuers}
        self._by_base = {issuer.fhir_base: issuer for issuer in issuers if not _has_star(issuer.fhir_base)}
        self._patterns = tuple(
            (_pattern(issuer.fhir_base), issuer) for issuer in issuers if _has_star(issuer.fhir_base)
        )

    def __iter__(self) -> Iterator[Issuer]:
        return iter(self._by_id.values())

    def __len__(self) -> int:
        return len(self._by_id)

    def match(self, iss: str) -> Issuer:
        """The EHR that `iss` names, its `fhir_base` filled in; a base listed itself before one with a `*`.

        Raises LaunchError(UNKNOWN_ISSUER).
        """
        try:
            base = parse_base(iss).base
        except UnsafeUrl as fault:
            raise LaunchError(LaunchReason.UNKNOWN_ISSUER, detail=str(fault)) from None
        if base in self._by_base:
            return self._by_base[base]
        for pattern, issuer in self._patterns:
            if pattern.fullmatch(base):
                practice = hashlib.sha256(base.encode()).hexdigest()[:16]
                return replace(issuer, id=f"{issuer.id}{_OF_PRACTICE}{practice}", fhir_base=base)
        raise LaunchError(LaunchReason.UNKNOWN_ISSUER)

    def bound(self, issuer_id: str, iss: str) -> Issuer:
        """The EHR of a stored launch or session. Raises LaunchError(UNKNOWN_ISSUER) if it is gone.

        A practice that was given an entry of its own meanwhile is another EHR from then on: its tokens belong
        to another client.
        """
        issuer = self.match(iss)
        if issuer.id != issuer_id:
            raise LaunchError(LaunchReason.UNKNOWN_ISSUER, detail="registered under another name now")
        return issuer

    def get(self, issuer_id: str) -> Issuer | None:
        """The EHR registered under that name (with a `*` still in its base, if it has one)."""
        return self._by_id.get(issuer_id)


_OF_PRACTICE = "~"
"""Between an entry's name, which never holds it, and what tells its practices apart."""


def registration_of(issuer_id: str) -> str:
    """The entry in the issuers file that an issuer's id comes from."""
    return issuer_id.partition(_OF_PRACTICE)[0]


def is_secure(url: Url, *, loopback: bool) -> bool:
    """https, or http to this very machine where loopback is allowed."""
    return url.scheme == "https" or (loopback and url.host in {"localhost", "127.0.0.1", "::1"})


_SEGMENT = r"(?!\.{1,2}(?:/|$))[A-Za-z0-9._~\-]+"
"""What a `*` may stand for: unreserved characters, and no dot segment."""


def _has_star(fhir_base: str) -> bool:
    return "*" in fhir_base


def _pattern(fhir_base: str) -> re.Pattern[str]:
    """The base itself, `*` standing for one path segment."""
    return re.compile("/".join(_SEGMENT if part == "*" else re.escape(part) for part in fhir_base.split("/")))


def could_be_one_base(one: str, other: str) -> bool:
    """Whether two bases with a `*` could mean the same one: segment by segment, equal or open."""
    ours, theirs = one.split("/"), other.split("/")
    return len(ours) == len(theirs) and all(
        mine == yours
        or (mine == "*" and re.fullmatch(_SEGMENT, yours))
        or (yours == "*" and re.fullmatch(_SEGMENT, mine))
        for mine, yours in zip(ours, theirs, strict=True)
    )
