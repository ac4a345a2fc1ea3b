"""How much people who are not signed in may ask of the app: so much a minute from one place, and from all.

What needs no account (the launch, the callbacks, the front page, the published keys, addresses that lead
nowhere) could otherwise be repeated until nobody else is answered. Whoever is signed in is never refused:
neither their own pages, whoever else asks from the same network, nor another launch in their browser.
"""

from __future__ import annotations

import logging
from datetime import timedelta
from enum import Enum
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

from flask import Flask, has_request_context, request

from smartapp.clock import Allowance
from smartapp.services import services
from smartapp.web.security import has_cookie_of, is_signed_in

log = logging.getLogger(__name__)

WITHIN = timedelta(minutes=1)
TOGETHER = 10
"""So many times what one place may ask, all together may."""
_FREE = frozenset({"static", "health.live", "health.ready", "metrics.metrics", "cds_hooks.call"})
"""Files, and what watches the app: it is to say how things are just then, and names who may ask. An EHR that
asks for cards comes from one place for everybody in it: it signs, and is counted by that (`cds_hooks`)."""


class Door(Enum):
    """Each is counted apart: a flood at one leaves the others open, and ends no sign-in under way."""

    LAUNCH = "launch"
    CALLBACK = "callback"
    KEYS = "keys"
    ELSE = "else"


class TooMany(Exception):
    """More was asked for than is answered to people who are not signed in: 429. `seconds`: for how long."""

    def __init__(self, seconds: int) -> None:
        self.seconds = seconds
        super().__init__()


def register(app: Flask) -> None:
    """Before a session is looked for, and before anything is asked of an EHR or the store."""
    each = app.extensions["smartapp"].settings.arrivals_per_minute
    doors = {door: Allowance(each, TOGETHER * each, WITHIN) for door in Door}

    def count(endpoint: str | None, values: dict[str, Any] | None) -> None:
        if endpoint in _FREE or has_cookie_of((values or {}).get("sid")):
            return
        now, door = services().clock.now(), _door(endpoint)
        answered, dropped = doors[door].take(source(), now)
        if dropped:
            log.warning("too many asked who are not signed in: %d were refused (%s)", dropped, door.value)
        if not answered and not is_signed_in():
            raise TooMany(doors[door].seconds_left(now))

    app.url_value_preprocessor(count)


def source() -> str:
    """Where the present request comes from, as the trusted proxies say; one for all that come from nowhere.

    An IPv6 network of 64 bits counts as one place: everybody is given at least so many addresses.
    """
    address = _address((request.remote_addr or "") if has_request_context() else "")
    if not isinstance(address, IPv6Address):
        return str(address or "")
    return str(address.ipv4_mapped or ip_network((address, 64), strict=False))


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """Some proxies name the port as well, which is another one for each connection."""
    for host in (text, text.rpartition(":")[0].strip("[]"), text.strip("[]")):
        try:
            return ip_address(host)
        except ValueError:
            continue
    return None


def _door(endpoint: str | None) -> Door:
    if endpoint in {"launch.begin", "launch.begin_worklist"}:
        return Door.LAUNCH
    if (endpoint or "").startswith("launch.callback-"):
        return Door.CALLBACK
    return Door.KEYS if endpoint == "jwks.jwks" else Door.ELSE
