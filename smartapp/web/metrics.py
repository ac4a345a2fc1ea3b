"""`/metrics`, for those whom the setting names: whoever has the token, or this machine alone."""

from __future__ import annotations

import hmac
from ipaddress import ip_address

from flask import Blueprint, Response, abort, request

from smartapp.configuration.settings import LOOPBACK
from smartapp.metrics import Prometheus
from smartapp.services import services
from smartapp.store.counts import counts
from smartapp.web.access import Open, needs

pages = Blueprint("metrics", __name__)
_FORWARDED = ("X-Forwarded-For", "Forwarded", "X-Real-IP", "Via")


@pages.get("/metrics")
@needs(Open.PUBLIC)
def metrics() -> Response:
    """What was counted, as Prometheus reads it; 404 where nobody is named, or somebody else asks."""
    here = services()
    if not isinstance(here.metrics, Prometheus) or not _may_read(here.settings.metrics or ""):
        abort(404)
    text = here.metrics.exposition(counts(here.store.database, here.clock.now()))
    return Response(text, content_type="text/plain; version=0.0.4; charset=utf-8")


def _may_read(named: str) -> bool:
    if named != LOOPBACK:
        sent = request.headers.get("Authorization", "")
        return hmac.compare_digest(sent.encode(), f"Bearer {named}".encode())
    # What a proxy passes on comes from this machine too, whoever asked it: such a request says so.
    if any(name in request.headers for name in _FORWARDED):
        return False
    try:
        return ip_address(request.remote_addr or "").is_loopback
    except ValueError:
        return False
