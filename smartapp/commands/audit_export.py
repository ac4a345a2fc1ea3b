"""An export of the audit trail: NDJSON, every entry with its digests, and a signed last line.

    {"position": 1, "at": "...", "entry": "{...}", "previous": "...", "digest": "..."}
    ...
    {"head": "{\\"entries\\": 1, \\"digest\\": \\"...\\", ...}", "kid": "...", "signature": "..."}

`entry` and `head` are texts, so that whoever checks them has the very bytes. The content's digest is SHA-256
of `entry`; an entry's digest is SHA-256 of position, at, content's digest and previous, joined by line feeds.
The signature is Ed25519 over `head`, in base64. The public key is all that is needed to check an export.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import IO

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from smartapp.commands.checks import Fault
from smartapp.signing_keys import KeyAlgorithm, SigningKeys
from smartapp.store.audit import Chain, ChainCheck, Link

FORMAT = "smart-remote-monitoring audit export 1"


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


class _Signed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    head: str
    kid: str
    signature: str


class SignatureWrong(Exception):
    """The last line was not signed with that key, or not with this content."""


def write_export(
    links: Iterable[Link], end: tuple[int, str], keys: SigningKeys, now: datetime, out: IO[bytes]
) -> ChainCheck:
    """Write the whole chain and sign its head. Nothing is signed where the chain does not hold.

    `end`: position and digest of what must be the last entry. Raises Fault without a key to sign with.
    """
    key = keys.active(KeyAlgorithm.ED25519)
    if key is None:
        raise Fault("no key to sign with: `smartapp keys new --algorithm Ed25519` makes one")
    chain = Chain()
    for link in links:
        chain.follow(link)
        line = _Line(link.position, link.at, link.entry, link.previous, link.digest)
        out.write(msgspec.json.encode(line) + b"\n")
    check = chain.end(*end)
    if check.fault is None:
        head = msgspec.json.encode(Head(FORMAT, check.entries, check.digest, now))
        signature = base64.b64encode(keys.sign(key.kid, head)).decode("ascii")
        out.write(msgspec.json.encode(_Signed(head.decode(), key.kid, signature)) + b"\n")
    return check


def verify_export(path: Path, public_key: bytes) -> tuple[ChainCheck, Head]:
    """Check an export with nothing but the public key (PEM).

    Raises SignatureWrong, and Fault where the file or the key is none.
    """
    key = _public_key(public_key)
    chain = Chain()
    signed: _Signed | None = None
    with path.open("rb") as lines:
        for number, raw in enumerate(lines, 1):
            if signed is not None:
                raise Fault(f"line {number} stands after the signed last line")
            try:
                parsed = msgspec.json.decode(raw)
                if isinstance(parsed, dict) and "head" in parsed:
                    signed = msgspec.convert(parsed, _Signed)
                    continue
                line = msgspec.convert(parsed, _Line)
            except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError):
                raise Fault(f"line {number} is no line of an audit export") from None
            chain.follow(Link(line.position, line.at, line.entry, line.previous, line.digest))
    if signed is None:
        raise Fault("the signed last line is missing")
    head = _verified_head(signed, key)
    return chain.end(head.entries, head.digest), head


def _verified_head(signed: _Signed, key: Ed25519PublicKey) -> Head:
    try:
        key.verify(base64.b64decode(signed.signature, validate=True), signed.head.encode())
        head = msgspec.json.decode(signed.head, type=Head)
    except (InvalidSignature, binascii.Error, ValueError):
        raise SignatureWrong from None
    if head.format != FORMAT:
        raise Fault("the export has another format than this version reads")
    return head


def _public_key(pem: bytes) -> Ed25519PublicKey:
    try:
        key = load_pem_public_key(pem)
    except ValueError:
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise Fault("the key is no Ed25519 public key in PEM (`smartapp keys public KID` prints it)")
    return key
