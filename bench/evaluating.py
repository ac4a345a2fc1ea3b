"""`smartapp evaluate` as a whole process, beside one that only parses the same file."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.charts import AS_OF, SITE, chart_lines
from bench.figure import Figure
from bench.measure import Spread, processes_by_turns, ratios
from bench.sizes import Sizes

TIMES_JSON_LOADS = 2.0
PEAK_MEGABYTES = 200.0

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
    seconds = Spread.of([use.seconds for use in ours])
    return [
        Figure(
            "evaluate / json.loads",
            ratios([use.seconds for use in ours], [use.seconds for use in theirs]),
            "x",
            TIMES_JSON_LOADS,
            note=f"whole processes, {size:.0f} MB of NDJSON, {seconds.middle:.2f} s",
        ),
        Figure(
            "evaluate, peak memory",
            Spread.of([use.peak_bytes / 1e6 for use in ours]),
            "MB",
            PEAK_MEGABYTES,
        ),
    ]
