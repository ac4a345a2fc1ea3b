"""What the app counts for Prometheus: by EHR, endpoint, state and outcome, never by anything of a patient.

Without a setting that says who may read it nothing is counted, and the library is not loaded.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client.registry import Collector, CollectorRegistry

MULTIPROCESS = "PROMETHEUS_MULTIPROC_DIR"
"""The library's own variable: a folder in which the processes of one server add up what each counted."""
_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
Counts = Iterable[tuple[tuple[str, ...], float]]
"""Values of labels, and how many."""


class Metrics:
    """Counts nothing: of an app that nobody asks."""

    def launch(self, issuer: str, outcome: str) -> None:
        """A launch began, opened a session, or was refused."""

    def reading(self, issuer: str, outcome: str, seconds: float) -> None:
        """A chart was read, or could not be."""

    def ehr_request(self, issuer: str, outcome: str, waited: float, took: float) -> None:
        """An EHR was asked: how long the request waited for its turn here, and how long for the EHR."""

    def page(self, endpoint: str, status: int, seconds: float) -> None:
        """A request to this app was answered."""


class Prometheus(Metrics):
    """Counts, and says what was counted."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Histogram

        self._registry = registry = CollectorRegistry()
        self._launches = Counter(
            "smartapp_launches", "Launches by EHR and outcome", ("issuer", "outcome"), registry=registry
        )
        self._readings = Histogram(
            "smartapp_reading_seconds",
            "Charts that were read, by EHR and outcome",
            ("issuer", "outcome"),
            buckets=_SECONDS,
            registry=registry,
        )
        self._requests = Histogram(
            "smartapp_ehr_request_seconds",
            "Requests to EHRs, by EHR and outcome",
            ("issuer", "outcome"),
            buckets=_SECONDS,
            registry=registry,
        )
        self._waits = Histogram(
            "smartapp_ehr_wait_seconds",
            "How long requests to an EHR waited for their turn here",
            ("issuer",),
            buckets=_SECONDS,
            registry=registry,
        )
        self._pages = Histogram(
            "smartapp_page_seconds",
            "Requests to this app, by endpoint and status",
            ("endpoint", "status"),
            buckets=_SECONDS,
            registry=registry,
        )

    def launch(self, issuer: str, outcome: str) -> None:
        self._launches.labels(issuer, outcome).inc()

    def reading(self, issuer: str, outcome: str, seconds: float) -> None:
        self._readings.labels(issuer, outcome).observe(seconds)

    def ehr_request(self, issuer: str, outcome: str, waited: float, took: float) -> None:
        self._requests.labels(issuer, outcome).observe(took)
        self._waits.labels(issuer).observe(waited)

    def page(self, endpoint: str, status: int, seconds: float) -> None:
        self._pages.labels(endpoint, str(status)).observe(seconds)

    def exposition(self, kept: Mapping[str, tuple[str, tuple[str, ...], Counts]]) -> bytes:
        """The text that Prometheus reads. `kept`: what the database says, the same in every process: names
        with what they mean, their labels and counts."""
        from prometheus_client import CollectorRegistry, generate_latest
        from prometheus_client.multiprocess import MultiProcessCollector

        registry = self._registry
        if os.environ.get(MULTIPROCESS):
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry) + generate_latest(_of(kept))


def _of(kept: Mapping[str, tuple[str, tuple[str, ...], Counts]]) -> CollectorRegistry:
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import GaugeMetricFamily

    class Kept:
        def collect(self) -> Iterable[GaugeMetricFamily]:
            for name, (meaning, labels, counts) in kept.items():
                family = GaugeMetricFamily(name, meaning, labels=labels)
                for values, count in counts:
                    family.add_metric(values, count)
                yield family

    collector: Collector = Kept()
    registry = CollectorRegistry()
    registry.register(collector)
    return registry
