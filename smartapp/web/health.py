"""Is the process up, and can it work? For load balancers; says nothing about patients or issuers."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify
from sqlalchemy.exc import SQLAlchemyError

from smartapp.services import services
from smartapp.store.database import SchemaOutdated

pages = Blueprint("health", __name__)


@pages.get("/health/live")
def live() -> Response:
    """The process answers."""
    return jsonify(status="ok")


@pages.get("/health/ready")
def ready() -> tuple[Response, int]:
    """The database answers and has the tables this version needs."""
    try:
        services().store.database.check_schema()
    except (SQLAlchemyError, SchemaOutdated):
        return jsonify(status="database"), 503
    return jsonify(status="ok"), 200
