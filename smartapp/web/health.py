"""Is the process up, and can it work? For load balancers; says nothing about patients or issuers."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify

from smartapp.health import Readiness
from smartapp.services import services
from smartapp.web.access import Open, needs

pages = Blueprint("health", __name__)


@pages.get("/health/live")
@needs(Open.PUBLIC)
def live() -> Response:
    """The process answers. `smartapp.serving` says so itself; this is for other servers."""
    return jsonify(status="ok")


@pages.get("/health/ready")
@needs(Open.PUBLIC)
def ready() -> tuple[Response, int]:
    """The database answers, takes writes and has this version's tables; else one word of `Readiness`."""
    found = services().health.readiness()
    return jsonify(status=found.value), 200 if found is Readiness.OK else 503
