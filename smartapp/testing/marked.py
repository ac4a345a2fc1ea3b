"""What is written in a `smartapp connect` bears our tag, and goes with the rest at the next `unseed`."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec

from launch.http import EhrClient, Response
from launch.issuers import Issuer
from smartapp.testing.seeding import name_in
from smartapp.testing.tag import CONNECT, tagged

_RESOURCE = re.compile(r"[A-Z][A-Za-z]+(/[^/?]+)?")


class MarkedClient(EhrClient):
    """A client that tags every resource it writes; `note` is told of each that this made."""

    def __init__(self, issuer: Issuer, *, note: Callable[[str], None], **more: Any) -> None:
        super().__init__(issuer, **more)
        self._note = note

    def fhir(self, method: str, target: str, **more: Any) -> Response:
        """See `EhrClient.fhir`."""
        writes = method in {"POST", "PUT"} and _RESOURCE.fullmatch(target) is not None
        if writes and more.get("body"):
            more["body"] = msgspec.json.encode(tagged(msgspec.json.decode(more["body"]), CONNECT))
        answer = super().fhir(method, target, **more)
        if writes and answer.status == 201 and (made := name_in(answer)) is not None:
            self._note(made)
        return answer
