"""The folder of signing keys: for what this app proves itself with (private_key_jwt), and for audit exports.

    KEYS/            0700
      index.json     0600   kid, algorithm, state, dates and the public half of every key there ever was
      <kid>.pem      0600   the private half, gone when the key is retired

A key of its own for each algorithm is *active*. A rotation makes a new one active and the one before it
*retiring*: still published, so that whoever verifies a signature of a minute ago, or keeps our key set for an
hour, finds it. Retired, it is published no more and its private half is deleted.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from joserfc.jwk import ECKey, OKPKey, RSAKey

from launch.client_auth import public_jwks, signing_key
from launch.issuers import ClientAuth, Issuer, SigningAlgorithm
from smartapp.configuration.settings import ConfigurationError

FROM_FOLDER = "@keys"
"""`signing_key = "@keys"` in the issuers file: the folder's key of the issuer's algorithm."""
PUBLISHED_FOR = timedelta(hours=1)
"""How long others may keep our key set (its Cache-Control): until then a new key may be unknown to them."""
RSA_BITS = 3072
INDEX = "index.json"
LOCK = "index.lock"
_KID = re.compile(r"[A-Za-z0-9][A-Za-z0-9.\-]{0,63}")


class KeyFault(ConfigurationError):
    """The folder, or what is asked of it, can't be used; its text is one line for a person."""


class KeyAlgorithm(StrEnum):
    """What a key signs with. The first two prove this app to an EHR, the last one signs audit exports."""

    RS384 = "RS384"
    ES384 = "ES384"
    ED25519 = "Ed25519"

    @property
    def for_clients(self) -> bool:
        """Whether keys of this kind are published for EHRs."""
        return self is not KeyAlgorithm.ED25519


class KeyState(StrEnum):
    ACTIVE = "active"
    RETIRING = "retiring"
    """Replaced, still published."""
    RETIRED = "retired"


class KeyEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One key of the index. Nothing private."""

    kid: str
    algorithm: KeyAlgorithm
    state: KeyState
    created: datetime
    public: dict[str, Any]
    """The public half as a JWK, without `kid`, `alg` and `use`."""
    retiring_since: datetime | None = None
    retired: datetime | None = None

    @property
    def published(self) -> bool:
        return self.algorithm.for_clients and self.state is not KeyState.RETIRED

    def jwk(self) -> dict[str, Any]:
        """The key as it is published."""
        return {**self.public, "kid": self.kid, "alg": self.algorithm.value, "use": "sig"}


class _Index(msgspec.Struct, forbid_unknown_fields=True):
    keys: list[KeyEntry] = []


class SigningKeys:
    """The folder. Reading takes no lock; whatever changes it does."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    # Reading

    def entries(self) -> tuple[KeyEntry, ...]:
        """Every key there ever was, oldest first. Raises KeyFault; an absent index is an empty one."""
        try:
            text = (self.folder / INDEX).read_bytes()
        except FileNotFoundError:
            return ()
        except OSError as fault:
            raise KeyFault(f"{self.folder}: {fault.strerror or 'cannot be read'}") from None
        try:
            index = msgspec.json.decode(text, type=_Index)
        except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError):
            raise KeyFault(f"{self.folder / INDEX} is not an index of keys") from None
        return tuple(index.keys)

    def active(self, algorithm: KeyAlgorithm) -> KeyEntry | None:
        """The newest key of that algorithm."""
        return self._in_state(algorithm, KeyState.ACTIVE)

    def to_sign_with(self, algorithm: KeyAlgorithm, now: datetime) -> KeyEntry | None:
        """The active key; the one before it while the new one may not be known everywhere yet."""
        active, before = self.active(algorithm), self._in_state(algorithm, KeyState.RETIRING)
        if active is not None and before is not None and now < active.created + PUBLISHED_FOR:
            return before
        return active

    def find(self, kid: str) -> KeyEntry | None:
        return next((entry for entry in self.entries() if entry.kid == kid), None)

    def private_pem(self, kid: str) -> str:
        """The private half. Raises KeyFault."""
        if not _KID.fullmatch(kid):
            raise KeyFault("a key's id is letters, digits, dots and hyphens")
        try:
            return (self.folder / f"{kid}.pem").read_text("ascii")
        except (OSError, UnicodeDecodeError):
            raise KeyFault(f"{self.folder}: the private half of {kid} cannot be read") from None

    def sign(self, kid: str, content: bytes) -> bytes:
        """The Ed25519 signature of `content`. Raises KeyFault."""
        try:
            key = load_pem_private_key(self.private_pem(kid).encode("ascii"), password=None)
        except ValueError:
            raise KeyFault(f"{self.folder}: {kid} is no private key") from None
        if not isinstance(key, Ed25519PrivateKey):
            raise KeyFault(f"{self.folder}: {kid} is not an Ed25519 key")
        return key.sign(content)

    def _in_state(self, algorithm: KeyAlgorithm, state: KeyState) -> KeyEntry | None:
        fitting = (entry for entry in self.entries() if (entry.algorithm, entry.state) == (algorithm, state))
        return max(fitting, key=lambda entry: entry.created, default=None)

    # Changing

    def new(self, algorithm: KeyAlgorithm, now: datetime) -> KeyEntry:
        """Make the first key of an algorithm. Raises KeyFault where one is active."""
        with self._changing() as index:
            if self.active(algorithm):
                raise KeyFault(f"there is an active {algorithm} key: `smartapp keys rotate` replaces it")
            return self._make(index, algorithm, now)

    def rotate(self, algorithm: KeyAlgorithm, now: datetime) -> KeyEntry:
        """A new active key; the one before it is retiring. Raises KeyFault where there is none to replace."""
        with self._changing() as index:
            before = self.active(algorithm)
            if before is None:
                raise KeyFault(f"there is no active {algorithm} key: `smartapp keys new` makes one")
            if other := self._in_state(algorithm, KeyState.RETIRING):
                raise KeyFault(f"{other.kid} is still retiring: `smartapp keys rotate --retire` first")
            _replace(index, before, state=KeyState.RETIRING, retiring_since=now)
            return self._make(index, algorithm, now)

    def retire(self, algorithm: KeyAlgorithm, now: datetime, *, at_once: bool = False) -> KeyEntry:
        """End the retiring key. Raises KeyFault where there is none, or too early unless `at_once`."""
        with self._changing() as index:
            entry = self._in_state(algorithm, KeyState.RETIRING)
            if entry is None:
                raise KeyFault(f"no {algorithm} key is retiring")
            ready = (entry.retiring_since or entry.created) + PUBLISHED_FOR
            if now < ready and not at_once:
                raise KeyFault(
                    f"{entry.kid} may be in use until {ready:%Y-%m-%d %H:%M} UTC; restart the app after it, "
                    "then retire it (--at-once for a key that somebody else may have)"
                )
            retired = _replace(index, entry, state=KeyState.RETIRED, retired=now)
            self._write_index(index)
            (self.folder / f"{entry.kid}.pem").unlink(missing_ok=True)
            return retired

    def _make(self, index: _Index, algorithm: KeyAlgorithm, now: datetime) -> KeyEntry:
        pem, public = _generate(algorithm)
        kid = f"{algorithm.lower()}-{now:%Y-%m-%d}-{secrets.token_hex(3)}"
        entry = KeyEntry(kid, algorithm, KeyState.ACTIVE, now, public)
        # The private half first: an index that names a key which isn't there would stop the app.
        _write_private(self.folder / f"{kid}.pem", pem)
        index.keys.append(entry)
        self._write_index(index)
        return entry

    @contextmanager
    def _changing(self) -> Iterator[_Index]:
        """The index while nobody else changes it."""
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(self.folder / LOCK, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        except FileExistsError:
            raise KeyFault(
                f"{self.folder / LOCK} is there: another command changes the keys, or one died: delete it"
            ) from None
        except OSError as fault:
            raise KeyFault(f"{self.folder}: {fault.strerror or 'cannot be written'}") from None
        try:
            os.close(lock)
            yield _Index(list(self.entries()))
        except OSError as fault:
            raise KeyFault(f"{self.folder}: {fault.strerror or 'cannot be written'}") from None
        finally:
            (self.folder / LOCK).unlink(missing_ok=True)

    def _write_index(self, index: _Index) -> None:
        fresh = self.folder / f"{INDEX}.new"
        fresh.unlink(missing_ok=True)
        _write_private(fresh, msgspec.json.format(msgspec.json.encode(index), indent=2))
        fresh.replace(self.folder / INDEX)


class PublishedKeys:
    """Our key set as EHRs read it: the folder's keys as they are now, and those the issuers file names."""

    def __init__(self, issuers: Iterable[Issuer], folder: Path | None) -> None:
        """Raises ConfigurationError where one key id means two keys, or a key can't be read."""
        self._folder = None if folder is None else SigningKeys(folder)
        self._named = _named_keys(issuers)

    def jwks(self) -> dict[str, Any]:
        """The JWK set: public members alone. Raises KeyFault."""
        entries = () if self._folder is None else self._folder.entries()
        # The folder knows best about its own keys: one that was retired since the start is not published.
        found = {kid: jwk for kid, jwk in self._named.items() if kid not in {entry.kid for entry in entries}}
        found |= {entry.kid: entry.jwk() for entry in entries if entry.published}
        return {"keys": [found[kid] for kid in sorted(found)]}


def filled_in(
    issuers: Mapping[str, Any], folder: Path | None, now: datetime
) -> tuple[dict[str, Any], dict[str, str]]:
    """The table of issuers with each `"@keys"` turned into a key of the folder, and those keys by name.

    `signing_key_id` may name one of the folder's keys; without it the active one is taken. Raises KeyFault.
    """
    table: dict[str, Any] = dict(issuers)
    pems: dict[str, str] = {}
    for name, entry in issuers.items():
        if isinstance(entry, Mapping):
            table[name] = _filled(f"issuers.{name}", entry, folder, now, pems)
    return table, pems


def _filled(
    where: str, entry: Mapping[str, Any], folder: Path | None, now: datetime, pems: dict[str, str]
) -> Mapping[str, Any]:
    """One table and what lies in it; the keys it names are added to `pems`."""
    if isinstance(inner := entry.get("backend"), Mapping):
        entry = {**entry, "backend": _filled(f"{where}.backend", inner, folder, now, pems)}
    if entry.get("signing_key") != FROM_FOLDER:
        return entry
    if folder is None:
        raise KeyFault(f'{where}: signing_key = "{FROM_FOLDER}" needs SMARTAPP_SIGNING_KEYS')
    keys = SigningKeys(folder)
    key = _chosen(keys, where, entry, now)
    secret = f"{FROM_FOLDER}/{key.kid}"
    pems[secret] = keys.private_pem(key.kid)
    return {
        **entry,
        "signing_key": secret,
        "signing_key_id": key.kid,
        "signing_algorithm": key.algorithm.value,
    }


def _chosen(keys: SigningKeys, where: str, entry: Mapping[str, Any], now: datetime) -> KeyEntry:
    algorithm = entry.get("signing_algorithm", SigningAlgorithm.ES384.value)
    if algorithm not in {choice.value for choice in SigningAlgorithm}:
        raise KeyFault(f"{where}.signing_algorithm is not one of RS384, ES384")
    kid = entry.get("signing_key_id")
    if kid is None:
        chosen = keys.to_sign_with(KeyAlgorithm(algorithm), now)
        if chosen is None:
            raise KeyFault(
                f"{where}: {keys.folder} has no active {algorithm} key; "
                f"`smartapp keys new --algorithm {algorithm}` makes one"
            )
        return chosen
    pinned = keys.find(str(kid))
    if pinned is None or not pinned.published or pinned.algorithm.value != algorithm:
        raise KeyFault(f"{where}: {keys.folder} has no {algorithm} key of that signing_key_id in use")
    return pinned


def _named_keys(issuers: Iterable[Issuer]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for issuer in (client for one in issuers for client in (one, one.as_backend())):
        if issuer.client_auth is not ClientAuth.PRIVATE_KEY_JWT or issuer.signing_key_id is None:
            continue
        kid = issuer.signing_key_id
        [jwk] = public_jwks({kid: (issuer.signing_algorithm, signing_key(issuer))})["keys"]
        if found.setdefault(kid, jwk) != jwk:
            raise ConfigurationError(f"Two different signing keys have the same signing_key_id {kid}.")
    return found


def _replace(index: _Index, entry: KeyEntry, **changes: Any) -> KeyEntry:
    changed = msgspec.structs.replace(entry, **changes)
    index.keys[index.keys.index(entry)] = changed
    return changed


def _generate(algorithm: KeyAlgorithm) -> tuple[bytes, dict[str, Any]]:
    """A fresh key: PEM, and the public half as a JWK."""
    if algorithm is KeyAlgorithm.RS384:
        rsa = RSAKey.generate_key(RSA_BITS, auto_kid=False)
        return rsa.as_pem(private=True), _bare(rsa)
    if algorithm is KeyAlgorithm.ES384:
        ec = ECKey.generate_key("P-384", auto_kid=False)
        return ec.as_pem(private=True), _bare(ec)
    private = Ed25519PrivateKey.generate()
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return pem, _bare(OKPKey.import_key(pem.decode("ascii")))


def _bare(key: RSAKey | ECKey | OKPKey) -> dict[str, Any]:
    return {name: value for name, value in key.as_dict(private=False).items() if name != "kid"}


def public_pem(entry: KeyEntry) -> str:
    """The public half as PEM, for whoever checks a signature."""
    kinds: dict[str, type[RSAKey] | type[ECKey] | type[OKPKey]] = {"RSA": RSAKey, "EC": ECKey, "OKP": OKPKey}
    key = kinds[str(entry.public.get("kty"))].import_key(entry.public)
    return key.as_pem(private=False).decode("ascii")


def _write_private(path: Path, content: bytes) -> None:
    """A new file that only its owner can read, from its first byte on."""
    handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def readable_by_others(path: Path) -> str:
    """Who beside its owner can read a file, or get into a folder in any way: "everybody", "its group", or
    nobody ("")."""
    mode = path.stat().st_mode
    everybody, group = (stat.S_IRWXO, stat.S_IRWXG) if path.is_dir() else (stat.S_IROTH, stat.S_IRGRP)
    if mode & everybody:
        return "everybody"
    return "its group" if mode & group else ""
