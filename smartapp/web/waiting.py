"""Requests that wait for an EHR sit in one of its seats, so that one that hangs never holds every thread."""

from __future__ import annotations

from flask import Flask, g

from launch.tokens import SessionClient
from smartapp.services import services


def register(app: Flask) -> None:
    """A seat is given back when its request is over."""
    app.teardown_request(_leave)


def take_seat() -> None:
    """This request is about to wait for its session's EHR. Raises LaunchError(EHR_BUSY)."""
    if g.get("seat") is None:
        services().seats.take(g.issuer.registration)
        g.seat = g.issuer.registration


def client_here() -> SessionClient:
    """FHIR calls of this request's session, which wait in a seat. Raises LaunchError."""
    take_seat()
    return services().client_of(g.session)


def _leave(_error: BaseException | None) -> None:
    if (registration := g.pop("seat", None)) is not None:
        services().seats.leave(registration)
