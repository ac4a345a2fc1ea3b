"""Who does the tasks: this process, or others (`processes`, `spark`).

An engine only hands out tasks and takes what they told. A task that fails is tried once more; what fails
twice is told as failed, and the rest goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from msgspec import Struct

from smartapp.population.work import Bench, Job

TRIES = 2


class Done(Struct, frozen=True):
    """What came of one job; `fault`: of what kind, where it failed each time."""

    job: Job
    told: Any = None
    fault: str = ""


class NoEngine(Exception):
    """What was asked for is not there, or can't be started; one line for a person."""


class Engine(Protocol):
    def run(self, bench: Bench, jobs: Sequence[Job]) -> Iterator[Done]:
        """Do all of these, in any order."""


class InProcess:
    """One after another, here."""

    def run(self, bench: Bench, jobs: Sequence[Job]) -> Iterator[Done]:
        for job in jobs:
            yield _tried(lambda job=job: bench.do(job), job)  # type: ignore[misc]


def _tried(work: Callable[[], Any], job: Job) -> Done:
    fault = ""
    for _ in range(TRIES):
        try:
            return Done(job, work())
        except Exception as found:
            fault = type(found).__name__
    return Done(job, fault=fault)
