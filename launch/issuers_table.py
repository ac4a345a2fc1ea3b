"""The tables `issuers` and `profiles` of a configuration: how an EHR is registered; each fault has its place.

    [issuers.general-hospital]
    fhir_base = "https://fhir.general-hospital.example/api/FHIR/R4"
    client_id = "..."
    profile = "epic"                         # a file of launch/profiles, or [profiles.NAME]
    search = {page_size = 50}                # any fact of the profile otherwise than it says ...
    write = {charge_item = "no"}             # ... by its section and key (launch/profiles/generic.toml)
    fhir_base_aliases = ["https://fhir-internal.general-hospital.example/R4"]
    client_auth = "private-key-jwt"          # public, secret-basic, secret-post, private-key-jwt
    signing_key = "GENERAL_HOSPITAL_KEY"     # name of a secret (PEM); client_secret likewise
    signing_key_id = "2026-10"
    signing_algorithm = "ES384"              # or RS384
    oauth_hosts = ["https://login.general-hospital.example"]
    frame_ancestors = ["https://ehr.general-hospital.example"]
    search_method = "post"                   # so that no patient's id stands in an address
    front_page = "General Hospital"          # to begin at the app's own front page too, by this name
    allow_private = true                     # the EHR has an address inside the hospital's network
    ca_bundle = "/etc/ssl/hospital-ca.pem"
    proxy = "http://proxy.hospital.example:3128"

    [issuers.general-hospital.backend]       # for exports: a client that comes without a user
    client_id = "..."                        # its key: what follows, else that of the entry above
    signing_key = "GENERAL_HOSPITAL_KEY"
    signing_key_id = "2026-10"
    signing_algorithm = "RS384"
    group = "remote-monitoring"              # the Group that is exported; without it everybody
    addresses = ["https://fhir.general-hospital.example/api/FHIR/BulkRequest"]

`fhir_base_aliases` are other addresses by which the server calls its own base in references; no request goes
to them. A profile of one's own stands in the same file, each fact with its source; it says what differs from
the one it is `based_on` (else `generic`):

    [profiles.acme]
    based_on = "epic"

    [profiles.acme.search]
    page_size = {value = 50, source = "letter of 2026-11-30", checked = 2026-12-01}

One whole path segment of `fhir_base` may be `*`, for a server that gives every practice its own base. It
means trusting every practice on that host, and one client id for all of them:

    [issuers.cloud]
    fhir_base = "https://ehr.example/*/fhir"
    client_id = "the id all practices share"

    [issuers.north-clinic]                   # registered for itself: its own client, profile and callback
    fhir_base = "https://ehr.example/north/fhir"
    client_id = "its own id"

A base that is listed itself always comes before a `*`, wherever in the file either stands; it inherits
nothing from the entry with the `*`. Two entries with a `*` that could both mean one base are refused: which
client a practice is asked for with must not hang on the order of a file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from enum import Enum
from itertools import combinations
from pathlib import Path
from typing import Any

from launch.errors import ConfigurationError
from launch.issuers import (
    Backend,
    ClientAuth,
    Issuer,
    Issuers,
    SigningAlgorithm,
    could_be_one_base,
    is_secure,
)
from launch.profiles import (
    GENERIC,
    Profile,
    ScopeStyle,
    SearchMethod,
    load_profile,
    overridden,
    parse_profile,
    profile_names,
)
from launch.urls import UnsafeUrl, Url, parse_base, parse_url

_GROUP = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9\-._]{0,255}")
_ID = re.compile(r"[a-z0-9]([a-z0-9\-]{0,62}[a-z0-9])?")
_KEYS = frozenset(
    {
        "fhir_base",
        "client_id",
        "profile",
        "client_auth",
        "client_secret",
        "signing_key",
        "signing_key_id",
        "signing_algorithm",
        "scope_style",
        "search_method",
        "extra_scopes",
        "front_page",
        "redirect_path",
        "fhir_base_aliases",
        "oauth_hosts",
        "oidc_issuer",
        "frame_ancestors",
        "ca_bundle",
        "proxy",
        "allow_private",
        "max_parallel",
        "requests_per_minute",
        "search",
        "write",
        "backend",
    }
)
_BACKEND_KEYS = frozenset(
    {"client_id", "signing_key", "signing_key_id", "signing_algorithm", "group", "addresses"}
)


def load_issuers(
    mapping: Mapping[str, Any],
    secrets: Mapping[str, str] | None = None,
    *,
    profiles: Mapping[str, Any] | None = None,
    loopback: bool = False,
    plain_http: bool = False,
) -> Issuers:
    """Parse the tables `issuers` and `profiles` of a configuration file (see the module's example).

    `secrets` holds client secrets and private keys under the names the table uses (an environment, usually).
    `loopback=True` (demo and tests) lets every listed EHR have a loopback address, over http too;
    `plain_http=True` (a tester's own server) lets it speak http wherever it is.
    Raises ConfigurationError with the place of the first fault.
    """
    own = _own_profiles(profiles or {})
    issuers = tuple(
        _issuer(name, table, secrets or {}, own, loopback=loopback, plain_http=plain_http)
        for name, table in mapping.items()
    )
    bases = [issuer.fhir_base for issuer in issuers]
    paths = [issuer.redirect_path for issuer in issuers]
    for values, what in ((bases, "fhir_base"), (paths, "redirect_path")):
        doubled = sorted({value for value in values if values.count(value) > 1})
        if doubled:
            raise ConfigurationError("issuers", f"{what} {doubled[0]} is used twice")
    for one, other in combinations((issuer.fhir_base for issuer in issuers if issuer.many), 2):
        if could_be_one_base(one, other):
            raise ConfigurationError("issuers", f"fhir_base {one} and {other} could both mean one base")
    return Issuers(issuers)


def _own_profiles(tables: Mapping[str, Any]) -> dict[str, Profile]:
    """The profiles that an integrator brings, each with what it is based on."""
    found: dict[str, Profile] = {}
    for name, table in tables.items():
        where = f"profiles.{name}"
        if not isinstance(table, Mapping):
            raise ConfigurationError(where, "is not a table")
        if name in profile_names() or not _ID.fullmatch(name):
            raise ConfigurationError(where, "is the name of a shipped profile, or no name")
        base = table.get("based_on", GENERIC)
        if base not in profile_names():
            raise ConfigurationError(f"{where}.based_on", f"is not one of {', '.join(profile_names())}")
        facts = {key: value for key, value in table.items() if key != "based_on"}
        found[name] = parse_profile(name, facts, load_profile(base))
    return found


def _issuer(
    name: str,
    table: Any,
    secrets: Mapping[str, str],
    own: Mapping[str, Profile],
    *,
    loopback: bool,
    plain_http: bool,
) -> Issuer:
    entry = _Entry(f"issuers.{name}", table, loopback=loopback, plain_http=plain_http)
    if not _ID.fullmatch(name):
        raise ConfigurationError(entry.where, "an issuer's name is lower-case letters, digits and hyphens")
    entry.refuse_unknown(_KEYS)
    profile = overridden(entry.where, entry.profile("profile", own), entry.tables(("search", "write")))
    method = entry.choice("search_method", SearchMethod, profile.search_method.value)
    profile = replace(profile, search_method=SearchMethod(method))
    client_auth = ClientAuth(entry.choice("client_auth", ClientAuth, ClientAuth.PUBLIC.value))
    style = entry.choice("scope_style", ScopeStyle, profile.scope_style.value)
    algorithm = entry.choice("signing_algorithm", SigningAlgorithm, SigningAlgorithm.ES384.value)
    ca_bundle = entry.text("ca_bundle", "")
    issuer = Issuer(
        id=name,
        fhir_base=entry.base("fhir_base"),
        client_id=entry.text("client_id"),
        profile=profile,
        client_auth=client_auth,
        client_secret=entry.secret("client_secret", secrets),
        signing_key=entry.secret("signing_key", secrets),
        signing_key_id=entry.text("signing_key_id", "") or None,
        signing_algorithm=SigningAlgorithm(algorithm),
        scope_style=ScopeStyle(style),
        extra_scopes=entry.texts("extra_scopes"),
        redirect_path=entry.text("redirect_path", f"/callback/{name}"),
        fhir_base_aliases=tuple(entry.alias(text) for text in entry.texts("fhir_base_aliases")),
        oauth_hosts=tuple(entry.origin(text) for text in entry.texts("oauth_hosts")),
        oidc_issuer=entry.text("oidc_issuer", "") or None,
        frame_ancestors=tuple(entry.origin(text) for text in entry.texts("frame_ancestors")),
        ca_bundle=Path(ca_bundle) if ca_bundle else None,
        proxy=entry.text("proxy", "") or None,
        front_page=entry.text("front_page", "").strip(),
        allow_private=entry.flag("allow_private"),
        allow_loopback=loopback,
        allow_http=plain_http,
        max_parallel=entry.count("max_parallel", profile.max_parallel),
        requests_per_minute=entry.count("requests_per_minute", profile.requests_per_minute),
    )
    _check(entry, issuer)
    if tables := entry.tables(("backend",)):
        part = _Entry(f"{entry.where}.backend", tables["backend"], loopback=loopback, plain_http=plain_http)
        issuer = replace(issuer, backend=_backend(part, issuer, secrets))
    return issuer


def _backend(entry: _Entry, issuer: Issuer, secrets: Mapping[str, str]) -> Backend:
    """What is not said here is as for the client that is launched."""
    entry.refuse_unknown(_BACKEND_KEYS)
    own = entry.secret("signing_key", secrets)
    key = own or issuer.signing_key
    key_id = entry.text("signing_key_id", "" if own else issuer.signing_key_id or "")
    usual = SigningAlgorithm.ES384 if own else issuer.signing_algorithm
    if not key or not key_id:
        raise ConfigurationError(entry.where, "needs signing_key and signing_key_id")
    group = entry.text("group", "")
    if not _GROUP.fullmatch(group):
        raise ConfigurationError(f"{entry.where}.group", "is not the id of a Group")
    if issuer.many and entry.texts("addresses"):
        raise ConfigurationError(
            f"{entry.where}.addresses", "needs one FHIR base: whose would they be at a *"
        )
    return Backend(
        entry.text("client_id", issuer.client_id),
        key,
        key_id,
        SigningAlgorithm(entry.choice("signing_algorithm", SigningAlgorithm, usual.value)),
        group,
        tuple(entry.under(text) for text in entry.texts("addresses")),
    )


def _check(entry: _Entry, issuer: Issuer) -> None:
    """What no single key can show."""
    needs_secret = issuer.client_auth in {ClientAuth.SECRET_BASIC, ClientAuth.SECRET_POST}
    if needs_secret and not issuer.client_secret:
        raise ConfigurationError(entry.where, f"{issuer.client_auth.value} needs client_secret")
    if issuer.client_auth is ClientAuth.PRIVATE_KEY_JWT and not (
        issuer.signing_key and issuer.signing_key_id
    ):
        raise ConfigurationError(entry.where, "private-key-jwt needs signing_key and signing_key_id")
    if not re.fullmatch(r"(/(?!\.{1,2}(?:/|$))[A-Za-z0-9._~\-]+)+", issuer.redirect_path):
        raise ConfigurationError(entry.where, "redirect_path is a plain path, such as /callback/my-hospital")
    wide = next((scope for scope in issuer.extra_scopes if "*" in scope), None)
    if wide:
        raise ConfigurationError(f"{entry.where}.extra_scopes", f"{wide} holds a wildcard: name each type")
    crowded = next((scope for scope in issuer.extra_scopes if _roles(scope) > 1), None)
    if crowded:
        raise ConfigurationError(
            f"{entry.where}.extra_scopes", f"{crowded} names two roles: ask for each apart"
        )
    if issuer.fhir_base_aliases and issuer.many:
        raise ConfigurationError(
            f"{entry.where}.fhir_base_aliases", "needs one FHIR base: whose would they be at a *"
        )
    if issuer.front_page and issuer.many:
        raise ConfigurationError(
            f"{entry.where}.front_page", "needs one FHIR base: nobody can sign in at a *"
        )
    if issuer.ca_bundle and not issuer.ca_bundle.is_file():
        raise ConfigurationError(entry.where, f"ca_bundle {issuer.ca_bundle} is not a file")


def _roles(scope: str) -> int:
    """How many roles one scope for launch context (`launch/list?role=...`) names."""
    return sum(part.partition("=")[0] == "role" for part in scope.partition("?")[2].split("&"))


class _Entry:
    """One `[issuers.<name>]` table, read key by key, with the place of every fault."""

    def __init__(self, where: str, table: Any, *, loopback: bool, plain_http: bool) -> None:
        self.where = where
        self._loopback, self._plain_http = loopback, plain_http
        if not isinstance(table, Mapping):
            raise ConfigurationError(where, "is not a table")
        self._table = table

    def refuse_unknown(self, known: frozenset[str]) -> None:
        unknown = sorted(set(self._table) - known)
        if unknown:
            raise ConfigurationError(self.where, f"unknown key {unknown[0]}")

    def text(self, key: str, default: str | None = None) -> str:
        value = self._table.get(key, default)
        if not isinstance(value, str) or (default is None and not value):
            raise ConfigurationError(f"{self.where}.{key}", "is missing or not text")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        value = self._table.get(key, [])
        if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
            raise ConfigurationError(f"{self.where}.{key}", "is not a list of texts")
        return tuple(value)

    def flag(self, key: str) -> bool:
        value = self._table.get(key, False)
        if not isinstance(value, bool):
            raise ConfigurationError(f"{self.where}.{key}", "is neither true nor false")
        return value

    def count(self, key: str, default: int) -> int:
        value = self._table.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ConfigurationError(f"{self.where}.{key}", "is not a number above 0")
        return value

    def choice(self, key: str, choices: type[Enum], default: str) -> str:
        value = self.text(key, default)
        allowed = [choice.value for choice in choices]
        if value not in allowed:
            raise ConfigurationError(f"{self.where}.{key}", f"is not one of {', '.join(allowed)}")
        return value

    def profile(self, key: str, own: Mapping[str, Profile]) -> Profile:
        name = self.text(key, GENERIC)
        if name in own:
            return own[name]
        if name not in profile_names():
            known = ", ".join([*profile_names(), *own])
            raise ConfigurationError(f"{self.where}.{key}", f"is not one of {known}")
        return load_profile(name)

    def tables(self, keys: Iterable[str]) -> dict[str, Any]:
        """The tables that are there, as they stand."""
        return {key: self._table[key] for key in keys if key in self._table}

    def alias(self, text: str) -> str:
        """Another name of the base, in normal form. Plain http is as good: nothing is sent there."""
        try:
            url = parse_base(text)
        except UnsafeUrl as fault:
            raise ConfigurationError(f"{self.where}.fhir_base_aliases", f"{text!r} holds {fault}") from None
        if "*" in url.path:
            raise ConfigurationError(f"{self.where}.fhir_base_aliases", "may hold no *")
        return url.base

    def secret(self, key: str, secrets: Mapping[str, str]) -> str | None:
        name = self.text(key, "")
        if not name:
            return None
        if not secrets.get(name):
            # The value given might be the secret itself, put in the wrong place: it is not repeated here.
            raise ConfigurationError(f"{self.where}.{key}", "names a secret that is not there")
        return secrets[name]

    def base(self, key: str) -> str:
        text = self.text(key)
        try:
            url = parse_base(text)
        except UnsafeUrl as fault:
            raise ConfigurationError(f"{self.where}.{key}", f"holds {fault}") from None
        self._require_secure(url, key)
        if "*" in url.path and [part for part in url.path.split("/") if "*" in part] != ["*"]:
            raise ConfigurationError(f"{self.where}.{key}", "may hold one *, which is a whole path segment")
        return url.base

    def under(self, text: str) -> str:
        """An address below which others may lie."""
        try:
            url = parse_base(text)
        except UnsafeUrl as fault:
            raise ConfigurationError(f"{self.where}.addresses", f"{text!r} holds {fault}") from None
        self._require_secure(url, "addresses")
        return url.base

    def origin(self, text: str) -> str:
        try:
            url = parse_url(text)
        except UnsafeUrl as fault:
            raise ConfigurationError(self.where, f"{text!r} holds {fault}") from None
        if url.path not in {"", "/"} or url.query:
            raise ConfigurationError(self.where, f"{text!r} is more than an origin")
        self._require_secure(url, text)
        return url.origin

    def _require_secure(self, url: Url, key: str) -> None:
        if not self._plain_http and not is_secure(url, loopback=self._loopback):
            raise ConfigurationError(f"{self.where}.{key}", "must use https")
