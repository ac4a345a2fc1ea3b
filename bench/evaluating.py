"""`smartapp evaluate` as a whole process, beside one that only parses the same file."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.charts import AS_OF, SITE, chart_lines, of_another
from bench.figure import Figure
from bench.measure import Spread, processes_by_turns, ratios
from bench.sizes import Sizes

TIMES_JSON_LOADS = 2.0
MANY_BESIDE_FEW = 1.2
"""What a patient of many costs, beside one of few: the rest of a run is no matter of theirs."""
PEAK_MEGABYTES = 200.0

_READINGS_EACH, _ENCOUNTERS_EACH = 30, 3
_JSON_LOADS = "import json, sys\nwith open(sys.argv[1], 'rb') as lines:\n for line in lines: json.loads(line)"


def measure(sizes: Sizes) -> list[Figure]:
    with TemporaryDirectory(prefix="bench-") as folder:
        file, site = Path(folder, "synthetic.ndjson"), Path(folder, "site.yaml")
        with file.open("wb") as out:
            out.writelines(chart_lines(sizes.readings, sizes.encounters))
        site.write_text(json.dumps(SITE), "utf-8")
        size = file.stat().st_size / 1e6
        evaluate = [
            *("-m", "smartapp.cli", "evaluate", str(file)),
            *("--site", str(site), "--as-of", AS_OF.isoformat(), "--json"),
        ]
        ours, theirs = processes_by_turns([evaluate, ["-c", _JSON_LOADS, str(file)]], sizes.processes)
        few, many = sizes.crowds
        told = {number: _crowd(Path(folder), number) for number in (1, few, many)}
        alone, with_few, with_many = processes_by_turns(
            [[str(of) if part == str(file) else part for part in evaluate] for of in told.values()],
            sizes.processes,
        )
    seconds = Spread.of([use.seconds for use in ours])
    start = min(use.seconds for use in alone)
    return [
        Figure(
            "evaluate / json.loads",
            ratios([use.seconds for use in ours], [use.seconds for use in theirs]),
            "x",
            TIMES_JSON_LOADS,
            note=f"whole processes, {size:.0f} MB of NDJSON, {seconds.middle:.2f} s",
        ),
        Figure(
            "a patient of many / of few",
            ratios(
                [(use.seconds - start) / many for use in with_many],
                [(use.seconds - start) / few for use in with_few],
            ),
            "x",
            MANY_BESIDE_FEW,
            note=f"evaluate, {many:,} patients beside {few:,}, without its start",
        ),
        Figure(
            "evaluate, peak memory",
            Spread.of([use.peak_bytes / 1e6 for use in ours]),
            "MB",
            PEAK_MEGABYTES,
        ),
    ]


def _crowd(folder: Path, patients: int) -> Path:
    """A file of so many patients, each with a month of readings and a few Encounters of their own."""
    lines = list(chart_lines(_READINGS_EACH, _ENCOUNTERS_EACH))
    file = folder / f"crowd-{patients}.ndjson"
    with file.open("wb") as out:
        for number in range(patients):
            own = b'"id":"%d-' % number
            for line in of_another(lines, number):
                # A patient's devices are named after them already; staff is the same for all.
                theirs = line.startswith((b'{"resourceType":"Observation"', b'{"resourceType":"Encounter"'))
                out.write(line.replace(b'"id":"', own, 1) if theirs else line)
    return file
