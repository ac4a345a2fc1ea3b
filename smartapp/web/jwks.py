"""The public halves of our signing keys, where an EHR looks for them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from flask import Blueprint, Response, jsonify

from launch.issuers import Issuer
from smartapp.configuration.signing_keys import PUBLISHED_FOR, PublishedKeys
from smartapp.web.access import Open, needs

PATH = "/.well-known/jwks.json"


def blueprint(issuers: Iterable[Issuer], folder: Path | None) -> Blueprint:
    """One page. Raises ConfigurationError, at start, where a key can't be used."""
    pages = Blueprint("jwks", __name__)
    published = PublishedKeys(issuers, folder)

    @pages.get(PATH)
    @needs(Open.PUBLIC)
    def jwks() -> Response:
        """The key set, read anew each time: a rotation needs no restart to be published."""
        response = jsonify(published.jwks())
        response.headers["Cache-Control"] = f"public, max-age={int(PUBLISHED_FOR.total_seconds())}"
        return response

    return pages
