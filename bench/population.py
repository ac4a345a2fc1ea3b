"""Patients read and decided one after another in one process; the memory it holds after so many of them.

`python -m bench.population DAYS ENCOUNTERS N...` prints bytes after each N patients, as JSON.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from bench.charts import AS_OF, chart_lines, new_chart, of_another, terminology
from fhir_mappings.rules.engine import decide
from fhir_mappings.rules.policy import load_policy


def main(arguments: list[str]) -> None:
    days, encounters, *numbers = (int(text) for text in arguments)
    lines = list(chart_lines(days, encounters))
    known, policy = terminology(), load_policy("medicare")
    held: dict[int, int] = {}
    for number in range(1, max(numbers) + 1):
        chart = new_chart(known, of_another(lines, number))
        (patient,) = chart.patients()
        if not decide(chart.record(patient), policy, AS_OF):
            raise RuntimeError(f"{patient}: nothing was decided")
        if number in numbers:
            held[number] = _resident_bytes()
    print(json.dumps(held))


def _resident_bytes() -> int:
    """What this process holds now; its peak where the system has no /proc."""
    status = Path("/proc/self/statm")
    if status.exists():
        return int(status.read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main(sys.argv[1:])
