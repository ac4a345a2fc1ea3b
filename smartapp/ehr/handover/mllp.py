"""One message over MLLP, and its acknowledgement. Nothing is ever sent twice from here."""

from __future__ import annotations

import socket
import ssl
import time
from contextlib import suppress

from launch.http import Limits
from smartapp.configuration.handover import Mllp
from smartapp.ehr.handover.hl7 import acknowledgement
from smartapp.ehr.wire.sending import Fate, Sent

_BEGIN, _END = b"\x0b", b"\x1c\r"
PAUSES = (0.1, 0.4)
"""Seconds between attempts at a connection: an engine that is being restarted is there again soon."""
MOST_BYTES = 64 * 1024
"""Of an acknowledgement."""


def send_message(way: Mllp, message: bytes, control: str, limits: Limits) -> Sent:
    """Send it once and wait for the acknowledgement. REFUSED where nothing left or the other side said no;
    IN_DOUBT where it may have arrived. Never raises for what the other side does."""
    until = time.monotonic() + limits.total
    try:
        connection = _connected(way, limits)
    except (OSError, ValueError) as fault:
        return Sent(Fate.REFUSED, f"The interface engine could not be reached ({_why(fault)}).")
    with connection:
        try:
            connection.settimeout(max(0.01, until - time.monotonic()))
            connection.sendall(_BEGIN + message + _END)
            answer = _answer(connection, until)
        except OSError as fault:
            return Sent(Fate.IN_DOUBT, f"The interface engine did not acknowledge it ({_why(fault)}).")
    said = acknowledgement(answer, control)
    if said.taken is None:
        return Sent(Fate.IN_DOUBT, "The interface engine did not acknowledge this message.")
    if said.taken:
        return Sent(Fate.TAKEN)
    return Sent(Fate.REFUSED, f"The interface engine refused it: {said.says}")


def _connected(way: Mllp, limits: Limits) -> socket.socket:
    """A connection; tried again after a while, since nothing has left yet. Raises OSError and ValueError."""
    for pause in PAUSES:
        try:
            return _connection(way, limits)
        except (ConnectionRefusedError, socket.gaierror):
            time.sleep(pause)
    return _connection(way, limits)


def _connection(way: Mllp, limits: Limits) -> socket.socket:
    plain = socket.create_connection((way.host, way.port), timeout=limits.connect)
    if not way.tls:
        return plain
    try:
        context = ssl.create_default_context(cafile=way.ca_file)
        if way.ca_file is not None:
            context.load_default_certs()
        return context.wrap_socket(plain, server_hostname=way.host)
    except BaseException:
        plain.close()
        raise


def _answer(connection: socket.socket, until: float) -> bytes:
    """What stands between the marks. Raises OSError where it does not come whole, or in time."""
    found = b""
    while _END not in found:
        connection.settimeout(max(0.01, until - time.monotonic()))
        if time.monotonic() >= until:
            raise TimeoutError
        got = connection.recv(4096)
        found += got
        if not got or len(found) > MOST_BYTES:
            raise ConnectionError("it ended in the middle")
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    return found.partition(_END)[0].lstrip(_BEGIN)


def _why(fault: Exception) -> str:
    if isinstance(fault, TimeoutError):
        return "no answer in time"
    return fault.strerror or type(fault).__name__ if isinstance(fault, OSError) else type(fault).__name__
