"""Several processes of this machine that do tasks at once."""

from __future__ import annotations

import gc
import multiprocessing
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from smartapp.population.engine import Done
from smartapp.population.work import Bench, Job


class Processes:
    """Several at once, each in a process of its own that is kept for the next."""

    def __init__(self, workers: int) -> None:
        self.workers = workers

    def run(self, bench: Bench, jobs: Sequence[Job]) -> Iterator[Done]:
        waiting, suspects = list(jobs), list[Job]()
        while waiting or suspects:
            # A process that dies takes down whatever was under way beside it: what failed once is tried
            # again alone, so that nothing fails for another's sake.
            alone = not waiting
            left, waiting = (suspects, []) if alone else (waiting, [])
            if alone:
                suspects = []
            for job, told, fault in self._round(bench, left, 1 if alone else self.workers):
                if fault is None:
                    yield Done(job, told)
                elif isinstance(fault, _NotBegun):
                    (suspects if alone else waiting).append(job)
                elif alone:
                    yield Done(job, fault=type(fault).__name__)
                else:
                    suspects.append(job)

    def _round(
        self, bench: Bench, jobs: Sequence[Job], workers: int
    ) -> Iterator[tuple[Job, Any, BaseException | None]]:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, context, _start, (bench,)) as pool:
            yield from _each(pool, jobs, workers)


class _NotBegun(Exception):
    """The pool broke before it was this one's turn."""


def _each(
    pool: ProcessPoolExecutor, jobs: Iterable[Job], workers: int
) -> Iterator[tuple[Job, Any, BaseException | None]]:
    """Results as they come. No more jobs are handed out than can be done at once: a process that dies breaks
    the pool, and with it only what was under way."""
    rest = iter(jobs)
    under_way: dict[Future[Any], Job] = {}
    broken = False
    while True:
        while not broken and len(under_way) < workers and (job := next(rest, None)) is not None:
            try:
                under_way[pool.submit(_do, job)] = job
            except BrokenProcessPool:
                broken = True
                yield job, None, _NotBegun()
        if not under_way:
            break
        finished, _ = wait(under_way, return_when=FIRST_COMPLETED)
        for future in finished:
            fault = future.exception()
            broken |= isinstance(fault, BrokenProcessPool)
            yield under_way.pop(future), None if fault else future.result(), fault
    for job in rest:
        yield job, None, _NotBegun()


_bench: Bench | None = None


def _start(bench: Bench) -> None:
    global _bench
    _bench = bench
    # What a task makes is gone with it: looking for garbage in between finds none.
    gc.freeze()
    gc.disable()


def _do(job: Job) -> Any:
    if _bench is None:
        raise RuntimeError("this process was not started for tasks")
    try:
        return _bench.do(job)
    finally:
        gc.collect()
