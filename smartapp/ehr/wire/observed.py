"""The way to an EHR, with every request timed: how long it waited for its turn here, and for the EHR."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any

from launch.errors import HttpError
from launch.http import EhrClient, Limits, Response
from smartapp.metrics import Metrics


class ObservedClient(EhrClient):
    """An `EhrClient` that tells the metrics of each call, its repetitions included."""

    def __init__(self, *given: Any, metrics: Metrics, **more: Any) -> None:
        super().__init__(*given, **more)
        self._metrics = metrics
        self._tries = threading.local()

    def _call(self, method: str, url: str, *given: Any, **more: Any) -> Response:
        begun, self._tries.seconds = time.monotonic(), 0.0
        outcome = "fault"
        try:
            response = super()._call(method, url, *given, **more)
            outcome = str(response.status)
            return response
        except HttpError as error:
            outcome = error.problem.value
            raise
        finally:
            took: float = self._tries.seconds
            waited = max(0.0, time.monotonic() - begun - took)
            self._metrics.ehr_request(self.issuer.registration, outcome, waited, took)

    def _once(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
        limits: Limits,
        deadline: float,
    ) -> Response:
        begun = time.monotonic()
        try:
            return super()._once(method, url, headers, body, limits, deadline)
        finally:
            self._tries.seconds += time.monotonic() - begun
