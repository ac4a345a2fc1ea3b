"""An export of the audit trail: NDJSON, every entry in plain text with its digests, and a signed last line.

    {"position": 1, "at": "...", "entry": "{\\"salt\\": ...}", "previous": "...", "digest": "..."}
    ...
    {"head": "{\\"entries\\": 1, \\"digest\\": \\"...\\", ...}", "kid": "...", "signature": "..."}

`entry` and `head` are texts, so that whoever checks them has the very bytes. An entry is one of the forms of
`smartapp.store.chain`, sealed ones opened. The content's digest is SHA-256 of salt, line feed and `says`; of
an entry without salt, of `entry`; an emptied one states it. An entry's digest is SHA-256 of position, at,
content's digest and previous, joined by line feeds. The signature is Ed25519 over `head`, in base64.

A sealed text names the digest of the entry before it (`after`); that too must fit.

What it proves, with the public key alone: whoever holds the signing key vouches for the last digest, that
digest for every entry before it, and each content's digest for the plain text in its line. Nobody can put
another text there, not even with the encryption keys. What it does not prove: that nothing was rewritten
before it was taken. An export that was taken earlier and kept elsewhere shows that (`since`).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Collection, Iterable
from datetime import datetime
from pathlib import Path
from typing import IO

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from smartapp.commands.checks import Fault
from smartapp.configuration.signing_keys import KeyAlgorithm, SigningKeys
from smartapp.store.chain import Chain, ChainCheck, Link, Point

FORMAT = "smart-remote-monitoring audit export 2"
_READ = {FORMAT, "smart-remote-monitoring audit export 1"}
"""In format 1 every entry was open."""


class _Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    position: int
    at: str
    entry: str
    previous: str
    digest: str


class Head(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the signature covers: the last digest stands for every entry before it."""

    format: str
    entries: int
    digest: str
    exported_at: datetime

    @property
    def point(self) -> Point:
        """Where the chain ended when it was exported."""
        return Point(self.entries, self.digest)


class Signed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A head as text, whose very bytes are signed."""

    head: str
    kid: str
    signature: str


class SignatureWrong(Exception):
    """The last line was not signed with that key, or not with this content."""


def write_export(
    links: Iterable[Link],
    end: Point,
    keys: SigningKeys,
    now: datetime,
    out: IO[bytes],
    since: Point | None = None,
) -> ChainCheck:
    """Write the whole chain, opened, and sign its head. Nothing is signed where the chain does not hold.

    `end`: what must be its last entry. `since`: where an earlier export ended; the chain must pass there.
    Raises Fault without a key to sign with.
    """
    _signing_key(keys)
    chain = Chain(opened=True, since=since)
    for link in links:
        chain.follow(link)
        line = _Line(link.position, link.at, link.entry, link.previous, link.digest)
        out.write(msgspec.json.encode(line) + b"\n")
    check = chain.end(end)
    if check.fault is None:
        signed = signed_head(Head(FORMAT, check.entries, check.digest, now), keys)
        out.write(msgspec.json.encode(signed) + b"\n")
    return check


def signed_head(head: Head, keys: SigningKeys) -> Signed:
    """A head with the signature of the active key. Raises Fault without one."""
    kid, content = _signing_key(keys), msgspec.json.encode(head)
    signature = base64.b64encode(keys.sign(kid, content)).decode("ascii")
    return Signed(content.decode(), kid, signature)


def _signing_key(keys: SigningKeys) -> str:
    key = keys.active(KeyAlgorithm.ED25519)
    if key is None:
        raise Fault("no key to sign with: `smartapp keys new --algorithm Ed25519` makes one")
    return key.kid


def verify_export(path: Path, public_pem: bytes, since: Point | None = None) -> tuple[ChainCheck, Head]:
    """Check an export with nothing but the public key (PEM). `since`: where an earlier one ended.

    Raises SignatureWrong, and Fault where the file or the key is none.
    """
    key = public_key(public_pem)
    chain = Chain(opened=True, since=since)
    signed: Signed | None = None
    with path.open("rb") as lines:
        for number, raw in enumerate(lines, 1):
            if signed is not None:
                raise Fault(f"line {number} stands after the signed last line")
            try:
                parsed = msgspec.json.decode(raw)
                if isinstance(parsed, dict) and "head" in parsed:
                    signed = msgspec.convert(parsed, Signed)
                    continue
                line = msgspec.convert(parsed, _Line)
            except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError):
                raise Fault(f"line {number} is no line of an audit export") from None
            chain.follow(Link(line.position, line.at, line.entry, line.previous, line.digest))
    if signed is None:
        raise Fault("the signed last line is missing")
    head = verified_head(signed, key, _READ)
    return chain.end(head.point), head


def verified_head(signed: Signed, key: Ed25519PublicKey, formats: Collection[str]) -> Head:
    """What was signed. Raises SignatureWrong, and Fault for another format."""
    try:
        key.verify(base64.b64decode(signed.signature, validate=True), signed.head.encode())
        head = msgspec.json.decode(signed.head, type=Head)
    except (InvalidSignature, binascii.Error, ValueError):
        raise SignatureWrong from None
    if head.format not in formats:
        raise Fault("that has another format than is read here")
    return head


def public_key(pem: bytes) -> Ed25519PublicKey:
    """Raises Fault where that is none."""
    try:
        key = load_pem_public_key(pem)
    except ValueError:
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise Fault("the key is no Ed25519 public key in PEM (`smartapp keys public KID` prints it)")
    return key
