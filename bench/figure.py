"""One measured figure beside its target, and how a run tells of itself."""

from __future__ import annotations

import gc
import os
import platform
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

from bench.measure import Spread


@dataclass(frozen=True)
class Figure:
    """`limit`: the target, at most; at least where `at_least`. The middle of the repetitions is judged."""

    name: str
    measured: Spread
    unit: str
    limit: float
    at_least: bool = False
    note: str = ""

    @property
    def met(self) -> bool:
        middle = self.measured.middle
        return middle >= self.limit if self.at_least else middle <= self.limit

    def line(self) -> str:
        low, middle, high = map(_number, (self.measured.low, self.measured.middle, self.measured.high))
        measured = f"{middle:>6} {self.unit:2} [{low} .. {high}]"
        target = f"{'>=' if self.at_least else '<='} {_number(self.limit)} {self.unit}"
        verdict = "met" if self.met else "MISSED"
        note = f"({self.note})" if self.note else ""
        return f"{self.name:32} {measured:28} target {target:9} {verdict:7}{note}".rstrip()

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "met": self.met}


def surroundings() -> dict[str, Any]:
    """What the figures depend on."""
    return {
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "machine": platform.machine(),
        "garbage_collector": f"on, thresholds {gc.get_threshold()}" if gc.isenabled() else "off",
        "msgspec": version("msgspec"),
        "load": round(os.getloadavg()[0], 2),
    }


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.2f}".rstrip("0").rstrip(".")
