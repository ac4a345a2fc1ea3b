"""The rules alone, for one patient's year; and thousands of such patients in one process."""

from __future__ import annotations

import json
import subprocess
import sys

from bench.charts import AS_OF, chart_lines, new_chart, terminology
from bench.figure import Figure
from bench.measure import ROOT, Spread, seconds_of
from bench.sizes import Sizes
from fhir_mappings.rules.engine import decide
from fhir_mappings.rules.policy import load_policy

MILLISECONDS = 1.2
MEMORY_GROWTH = 1.1
_RUNS_A_REPETITION = 50


def measure(sizes: Sizes) -> list[Figure]:
    return [_patient_year(sizes), _population(sizes)]


def _patient_year(sizes: Sizes) -> Figure:
    chart = new_chart(terminology(), chart_lines(sizes.patient_year_days, sizes.encounters))
    (patient,) = chart.patients()
    record, policy = chart.record(patient), load_policy("medicare")

    def work() -> None:
        for _ in range(_RUNS_A_REPETITION):
            decide(record, policy, AS_OF)

    work()
    taken = Spread.of([seconds_of(work) for _ in range(sizes.repetitions)])
    return Figure(
        "decide, a patient's year",
        taken.times(1000 / _RUNS_A_REPETITION),
        "ms",
        MILLISECONDS,
        note=f"{sizes.patient_year_days} days, {sizes.encounters} encounters",
    )


def _population(sizes: Sizes) -> Figure:
    """Memory after so many patients, beside that after the first of these numbers."""
    of_each = sizes.patient_year_days, sizes.encounters
    done = subprocess.run(
        [sys.executable, "-m", "bench.population", *map(str, (*of_each, *sizes.patients))],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    held = {int(number): bytes_held for number, bytes_held in json.loads(done.stdout).items()}
    first, *later = held.values()
    told = ", ".join(f"{number:,}: {bytes_held / 1e6:.0f} MB" for number, bytes_held in held.items())
    return Figure(
        f"memory growth to {max(held):,} patients",
        Spread.of([bytes_held / first for bytes_held in later]),
        "x",
        MEMORY_GROWTH,
        note=told,
    )
