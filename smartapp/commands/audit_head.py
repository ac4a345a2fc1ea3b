"""The head of the audit trail on its own: how many entries, the last digest, signed. It names nobody.

Kept each night where the database's owner cannot reach it, it shows later that the trail still passes through
it: that nothing before was rewritten, and that its end was not cut off. One line of JSON, the same as the
last line of an export but for its format.
"""

from __future__ import annotations

import ipaddress
import logging
import logging.handlers
import os
import sys
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from smartapp.commands.audit_export import Head, Signed, public_key, signed_head, verified_head
from smartapp.commands.checks import Fault
from smartapp.configuration.signing_keys import SigningKeys
from smartapp.store.chain import ChainCheck

FORMAT = "smart-remote-monitoring audit head 1"
SYSLOG_PORT = 514
TIMEOUT_SECONDS = 15


def head_line(check: ChainCheck, keys: SigningKeys, now: datetime) -> bytes:
    """The signed line for a chain that holds. Raises Fault without a key to sign with."""
    return msgspec.json.encode(signed_head(Head(FORMAT, check.entries, check.digest, now), keys))


def read_last_head(path: Path, key: bytes) -> Head:
    """The last of the heads in a file, the signature of each verified. Whatever stands before the `{` of a
    line, as a log puts it there, is passed over. Raises SignatureWrong, and Fault."""
    public, last = public_key(key), None
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        if not line.strip():
            continue
        try:
            signed = msgspec.json.decode(line[max(0, line.find(b"{")) :], type=Signed)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise Fault(f"line {number} is no head of an audit trail") from None
        head = verified_head(signed, public, {FORMAT})
        if last is not None and head.entries < last.entries:
            raise Fault(f"line {number} has fewer entries than the head before it: two trails, or a restore")
        last = head
    if last is None:
        raise Fault("there is no head in that file")
    return last


def deliver(line: bytes, to: str) -> None:
    """Bring a head to `-`, a file, `syslog:`, `syslog://HOST[:PORT]` or `https://...`.

    Raises Fault and OSError where it did not get there.
    """
    scheme = urlsplit(to).scheme
    if to == "-":
        sys.stdout.write(line.decode() + "\n")
    elif scheme in {"http", "https"}:
        _post(line, to)
    elif scheme == "syslog":
        _log(line, to)
    else:
        _append(line, Path(to))


def _append(line: bytes, path: Path) -> None:
    # Appended in one write: an earlier head is never touched.
    handle = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
    try:
        os.write(handle, line + b"\n")
        os.fsync(handle)
    finally:
        os.close(handle)


def _log(line: bytes, to: str) -> None:
    parts = urlsplit(to)
    address = (parts.hostname, parts.port or SYSLOG_PORT) if parts.hostname else "/dev/log"
    handler = logging.handlers.SysLogHandler(address, logging.handlers.SysLogHandler.LOG_AUTHPRIV)
    handler.ident = "smartapp-audit-head: "
    handler.append_nul = False
    failed: list[BaseException | None] = []
    # `logging` would print what went wrong and go on: a head that did not arrive must be told.
    handler.handleError = lambda _record: failed.append(sys.exc_info()[1])  # type: ignore[method-assign, assignment]
    try:
        handler.emit(logging.LogRecord("audit", logging.INFO, "", 0, line.decode(), None, None))
    finally:
        handler.close()
    if failed:
        raise Fault(f"the log did not take it: {type(failed[0]).__name__}")


def _post(line: bytes, to: str) -> None:
    import requests

    parts = urlsplit(to)
    if parts.scheme != "https" and not _is_loopback(parts.hostname or ""):
        raise Fault("a head is sent over https, or to this machine")
    try:
        answer = requests.post(
            to,
            data=line,
            headers={"Content-Type": "application/json"},
            timeout=TIMEOUT_SECONDS,
            allow_redirects=False,
        )
    except requests.RequestException as fault:
        raise Fault(f"the address did not take it: {type(fault).__name__}") from None
    if answer.status_code not in range(200, 300):
        raise Fault(f"the address did not take it: it answered {answer.status_code}")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
