"""Launch tokens, codes, access and refresh tokens: opaque, stored as digests, spent at most once.

All credentials that come from one authorization are one *family*: when a code or a refresh token is used a
second time, the whole family is revoked, since one of the two users is a thief.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from authlib.oauth2.rfc6749 import AuthorizationCodeMixin, TokenMixin

from launch.sandbox.config import Client
from launch.sandbox.database import Database


class CredentialKind(StrEnum):
    """What a credential is good for."""

    LAUNCH = "launch"
    CHOICE = "choice"
    CODE = "code"
    ACCESS = "access"
    REFRESH = "refresh"
    ASSERTION = "assertion"


@dataclass(frozen=True)
class Credential(AuthorizationCodeMixin, TokenMixin):  # type: ignore[misc]
    """One stored credential, in the shape authlib's grants ask for. Times: seconds since the epoch."""

    kind: CredentialKind
    family: str
    client_id: str
    data: dict[str, Any]
    issued: float
    expires: float
    spent: bool
    now: float

    @property
    def code_challenge(self) -> str:
        return str(self.data["code_challenge"])

    @property
    def code_challenge_method(self) -> str:
        return "S256"

    def get_redirect_uri(self) -> str:
        return str(self.data["redirect_uri"])

    def get_scope(self) -> str:
        return str(self.data.get("scope", ""))

    def check_client(self, client: Any) -> bool:
        return bool(client.get_client_id() == self.client_id)

    def get_expires_in(self) -> int:
        return int(self.expires - self.issued)

    def is_expired(self) -> bool:
        return self.expires <= self.now

    def is_revoked(self) -> bool:
        return self.spent


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


class Credentials:
    """The credentials of one sandbox, in its database."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    def issue(
        self,
        kind: CredentialKind,
        client: Client | str,
        data: dict[str, Any],
        seconds: float,
        family: str = "",
    ) -> str:
        """A new secret of this kind; without ``family`` it starts one of its own."""
        secret = secrets.token_urlsafe(32)
        client_id = client if isinstance(client, str) else client.client_id
        self.keep(kind, secret, client_id, data, seconds, family or secrets.token_hex(16))
        return secret

    def keep(
        self,
        kind: CredentialKind,
        secret: str,
        client_id: str,
        data: dict[str, Any],
        seconds: float,
        family: str,
    ) -> bool:
        """Store a credential; False if one of this kind and secret is there already."""
        now = self._clock()
        with self._database.write() as connection:
            connection.execute("DELETE FROM credential WHERE expires < ?", (now - 3600,))
            done = connection.execute(
                "INSERT INTO credential (kind, digest, family, client_id, data, issued, expires)"
                " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (kind, _digest(secret), family, client_id, json.dumps(data), now, now + seconds),
            )
            return done.rowcount == 1

    def find(self, kind: CredentialKind, secret: str) -> Credential | None:
        """The credential, spent or expired ones too."""
        with self._database.read() as connection:
            row = connection.execute(
                "SELECT family, client_id, data, issued, expires, spent FROM credential"
                " WHERE kind = ? AND digest = ?",
                (kind, _digest(secret)),
            ).fetchone()
        if row is None:
            return None
        family, client_id, data, issued, expires, spent = row
        return Credential(
            kind, family, client_id, json.loads(data), issued, expires, bool(spent), self._clock()
        )

    def live(self, kind: CredentialKind, secret: str) -> Credential | None:
        """The credential if it is neither spent nor expired."""
        found = self.find(kind, secret)
        return found if found and not found.spent and not found.is_expired() else None

    def spend(self, kind: CredentialKind, secret: str, client_id: str) -> Credential | None:
        """The credential, once: of several callers at the same time exactly one gets it.

        A second use revokes the family. None if unknown, of another client, expired or spent.
        """
        with self._database.write() as connection:
            done = connection.execute(
                "UPDATE credential SET spent = 1"
                " WHERE kind = ? AND digest = ? AND client_id = ? AND spent = 0",
                (kind, _digest(secret), client_id),
            )
        found = self.find(kind, secret)
        if found is None or found.client_id != client_id:
            return None
        if done.rowcount != 1:
            self.revoke_family(found.family)
            return None
        return None if found.is_expired() else found

    def revoke(self, kind: CredentialKind, secret: str) -> None:
        """Make one credential useless."""
        with self._database.write() as connection:
            connection.execute(
                "UPDATE credential SET spent = 1 WHERE kind = ? AND digest = ?", (kind, _digest(secret))
            )

    def revoke_family(self, family: str) -> None:
        """Make every credential of one authorization useless."""
        with self._database.write() as connection:
            connection.execute("UPDATE credential SET spent = 1 WHERE family = ?", (family,))
