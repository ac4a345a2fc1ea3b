"""Which EHRs may ask for cards (CDS Hooks), and with whose keys they sign: `cds_hooks` of the site's file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from smartapp.configuration.each_ehr import for_one_each

if TYPE_CHECKING:
    from launch.signed import Key


class CdsEntry(Struct, frozen=True, forbid_unknown_fields=True):
    """One EHR that may ask. `issuer`: its name in the issuers file, needed where there are several.

    `client`: what its tokens name as their issuer (`iss`). `keys`: a file with its public keys (a JWK Set),
    as seen from the site's file. Keys are never fetched: what a token says of where they lie is not read.
    """

    client: str
    keys: str
    issuer: str | None = None
    requests_per_minute: int = 600

    def __post_init__(self) -> None:
        if not self.client:
            raise ValueError("cds_hooks: client is what the EHR's tokens name as their issuer")
        if self.requests_per_minute < 1:
            raise ValueError("cds_hooks: requests_per_minute is a number from 1")


class CdsSettings(Struct, frozen=True):
    """The entries of a site. `folder`: where its file lies."""

    entries: tuple[CdsEntry, ...] = ()
    folder: Path = Path()

    def check(self, many: Mapping[str, bool]) -> None:
        """Raises ValueError with one line where an entry does not say whose it is, or two name one client."""
        for_one_each("cds_hooks", [entry.issuer for entry in self.entries], many)
        clients = [entry.client for entry in self.entries]
        if twice := next((client for client in clients if clients.count(client) > 1), None):
            raise ValueError(f"cds_hooks: two EHRs sign as {twice}: their requests could not be told apart")
        for entry in self.entries:
            self.keys_of(entry)

    def keys_of(self, entry: CdsEntry) -> tuple[Key, ...]:
        """Raises ValueError with one line where the file holds no key to verify with, or a private one."""
        # Here: whoever sweeps reads the site's file too, and asks for no keys. It is 100 modules and 4 MB.
        from launch.signed import parse_jwks

        path = self.folder / entry.keys
        try:
            document: Any = msgspec.json.decode(path.read_bytes())
        except OSError as fault:
            raise ValueError(f"cds_hooks: {path}: {fault.strerror or 'cannot be read'}") from None
        except msgspec.DecodeError:
            raise ValueError(f"cds_hooks: {path}: not JSON") from None
        keys = parse_jwks(document) if isinstance(document, dict) else []
        if not keys:
            raise ValueError(f"cds_hooks: {path}: no JWK Set with a public key of RSA (2048 bits up) or EC")
        if any(key.is_private for key in keys):
            raise ValueError(f"cds_hooks: {path}: holds a private key, which is the EHR's alone")
        return tuple(keys)
