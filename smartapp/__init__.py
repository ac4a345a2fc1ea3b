"""Charge suggestions for remote monitoring, inside the EHR: the web app."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Flask

    from smartapp.configuration.settings import Settings

__all__ = ["create_app"]


def create_app(settings: Settings | None = None) -> Flask:
    """The WSGI application; production settings from the environment unless given.

    Raises `smartapp.configuration.settings.ConfigurationError` with every reason not to start.
    """
    # Imported here, so that the command line does not wait for Flask to print its help.
    from smartapp.application import build

    return build(settings)
