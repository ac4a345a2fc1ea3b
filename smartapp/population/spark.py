"""Who does the tasks, on a cluster: Apache Spark hands them out, and nothing else.

What passes through Spark is where the sealed plan of a step lies and the numbers of its tasks, and back come
counts and digests: no key, no record, nobody's name. Each executor opens the plan, and what it names, with
the SMARTAPP_KEYS of its own environment; so input and state lie on storage that all of them see under one
path, and the app is installed there. No rule, no grouping and no SQL of Spark decides anything: a task is the
very one that the other engines do, sealed files in, a sealed file out, and may be done twice.
"""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Iterator, Sequence
from functools import lru_cache
from hashlib import sha256
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from smartapp.population.blocks import Blocks, BlockWriter, Seal
from smartapp.population.engine import TRIES, Done, NoEngine
from smartapp.population.work import Bench, Job

_PLAN = "plan"
_AT_ONCE = 8
"""Tasks a processor that are handed out together: how far it is, is told after each lot."""
_QUIET = {
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.speculation": "false",
}


def require() -> None:
    """Raises `NoEngine` where Spark is not installed."""
    if find_spec("pyspark") is None:
        raise NoEngine("Spark is not installed: pip install 'smart-remote-monitoring[spark]'")


class Spark:
    """`master`: as Spark has it, "local[2]" or a cluster's address; None: as `spark-submit` says. The paths
    of jobs are absolute. Raises `NoEngine`."""

    def __init__(self, master: str | None = None) -> None:
        # The Python that runs this one: another would not have the app.
        os.environ["PYSPARK_PYTHON"] = os.environ.get("PYSPARK_PYTHON") or sys.executable
        os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
        require()
        spark = import_module("pyspark")
        settings = spark.SparkConf().setAppName("smartapp sweep")
        for name, value in _QUIET.items():
            settings.setIfMissing(name, value)
        if master is not None:
            settings.setMaster(master)
        elif not settings.contains("spark.master"):
            settings.setMaster("local[*]")
        try:
            self._context: Any = spark.SparkContext.getOrCreate(settings)
        except Exception as fault:
            raise NoEngine(
                f"Spark could not be started ({type(fault).__name__}): is Java 17 there?"
            ) from None
        self._context.setLogLevel("ERROR")

    def run(self, bench: Bench, jobs: Sequence[Job]) -> Iterator[Done]:
        """Do all of these, in any order."""
        if not jobs:
            return
        plan = _write_plan(bench, jobs)
        try:
            step = max(1, self._context.defaultParallelism) * _AT_ONCE
            for first in range(0, len(jobs), step):
                yield from self._lot(plan, range(first, min(first + step, len(jobs))), bench, jobs)
        finally:
            plan.unlink(missing_ok=True)

    def _lot(self, plan: Path, numbers: range, bench: Bench, jobs: Sequence[Job]) -> Iterator[Done]:
        try:
            told = self._done(plan, numbers, bench)
        except Exception as lost:
            if len(numbers) == 1:
                yield Done(jobs[numbers[0]], fault=type(lost).__name__)
                return
            # What takes an executor down fails alone: nothing else fails for its sake.
            for number in numbers:
                yield from self._lot(plan, range(number, number + 1), bench, jobs)
            return
        for number, answer, fault in told:
            yield Done(jobs[number], answer, fault)

    def _done(self, plan: Path, numbers: range, bench: Bench) -> list[tuple[int, Any, str]]:
        place, salt = str(plan), bench.salt
        tasks = self._context.parallelize(list(numbers), len(numbers))
        found: list[tuple[int, Any, str]] = tasks.map(lambda number: _do(place, salt, number)).collect()
        return found


def _write_plan(bench: Bench, jobs: Sequence[Job]) -> Path:
    """The tasks of a step and under what they are done, sealed, beside what they write."""
    content = pickle.dumps((bench.settings, bench.context, list(jobs)))
    name = f"plan-{sha256(content).hexdigest()[:16]}"
    path = jobs[0].out.parent / name
    with BlockWriter(path, bench.seal, name) as out:
        out.add(_PLAN, content)
    return path


@lru_cache(maxsize=2)
def _read_plan(place: str, salt: bytes) -> tuple[Bench, list[Job]]:
    """On an executor. What is unpickled was sealed with our own key."""
    from smartapp.configuration.settings import read_setting, setting

    keys = read_setting(setting("keys"))
    path = Path(place)
    content = Blocks(path, Seal(keys, salt), path.name).one(_PLAN)
    settings, context, jobs = pickle.loads(content)  # noqa: S301 (authenticated)
    return Bench(keys, salt, settings, context), jobs


def _do(place: str, salt: bytes, number: int) -> tuple[int, Any, str]:
    """One task, tried again where it fails: its number, what it told, of what kind the fault was."""
    fault = ""
    for _ in range(TRIES):
        try:
            bench, jobs = _read_plan(place, salt)
            return number, bench.do(jobs[number]), ""
        except Exception as found:
            fault = type(found).__name__
    return number, None, fault
