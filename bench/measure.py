"""Two sides measured by turns in one run, so that whatever else the machine does slows both."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent
Work = Callable[[], object]

# A process of its own starts the measured one: at its start, a child's peak memory is that of its parent.
_STARTER = """
import json, resource, subprocess, sys
done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
unit = 1 if sys.platform == "darwin" else 1024
print(json.dumps([done.returncode, used.ru_utime + used.ru_stime, used.ru_maxrss * unit]))
"""


class ProcessFailed(RuntimeError):
    """What was to be measured ended with an error."""


@dataclass(frozen=True)
class Spread:
    """The same measurement, repeated."""

    low: float
    middle: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(min(values), median(values), max(values))

    def times(self, factor: float) -> Spread:
        return Spread(self.low * factor, self.middle * factor, self.high * factor)


def seconds_by_turns(sides: Sequence[Work], repetitions: int) -> list[list[float]]:
    """Processor seconds of each side, measured by turns, after one run of each that doesn't count.

    Processor time: on a machine that does nothing else it is what the clock shows, since nothing waits here.
    """
    taken: list[list[float]] = [[] for _ in sides]
    for side in sides:
        side()
    for _ in range(repetitions):
        for position, side in enumerate(sides):
            taken[position].append(seconds_of(side))
    return taken


def seconds_of(work: Work) -> float:
    gc.collect()
    start = time.process_time()
    kept = work()
    taken = time.process_time() - start
    del kept
    return taken


def ratios(one: Sequence[float], other: Sequence[float]) -> Spread:
    """How many times as long `one` took, turn by turn."""
    return Spread.of([first / second for first, second in zip(one, other, strict=True)])


@dataclass(frozen=True)
class ProcessUse:
    """Processor seconds and peak memory (bytes) of a whole process, from its start to its end."""

    seconds: float
    peak_bytes: int


def run_process(arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> ProcessUse:
    """Run Python with these arguments. Raises `ProcessFailed`."""
    done = subprocess.run(
        [sys.executable, "-c", _STARTER, sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    status, seconds, peak_bytes = json.loads(done.stdout)
    if status:
        raise ProcessFailed(f"exit status {status}: {' '.join(arguments)}")
    return ProcessUse(seconds, peak_bytes)


def processes_by_turns(
    sides: Sequence[Sequence[str]], repetitions: int, environment: Mapping[str, str] | None = None
) -> list[list[ProcessUse]]:
    """What each side's process used, measured by turns, after one of each that doesn't count."""
    used: list[list[ProcessUse]] = [[] for _ in sides]
    for turn in range(repetitions + 1):
        for position, arguments in enumerate(sides):
            use = run_process(arguments, environment)
            if turn:
                used[position].append(use)
    return used
