"""`smartapp sweep`: what a patient costs, alone and among many, in a full sweep and in a night."""

from __future__ import annotations

import json
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from cryptography.fernet import Fernet

from bench.charts import AS_OF, SITE
from bench.crowds import news, population
from bench.figure import Figure
from bench.measure import ProcessUse, Spread, processes_by_turns, ratios, run_process
from bench.sizes import Sizes

MANY_BESIDE_FEW = 1.2
"""What a patient of many costs, beside one of few: the rest of a run is no matter of theirs."""
PEAK_MEGABYTES = 60.0
TIMES_DUCKDB = 12.0
LITTLE_CHANGED, ALL_CHANGED = 0.1, 0.5
"""A night beside the full sweep: where 1 % of the patients have news, and where all have."""

# The fields that a decision reads, out of the same file: measured against, never decided with.
_PROJECTION = """
import duckdb, sys
columns = {one: "VARCHAR" for one in ("resourceType", "id", "status", "effectiveDateTime")}
columns |= {one: "JSON" for one in ("meta", "code", "subject", "device", "period", "type", "participant",
                                    "component", "valueQuantity")}
duckdb.sql("SET threads = 1")
found = duckdb.read_json(sys.argv[1], format="newline_delimited", columns=columns)
found.aggregate(", ".join(f"count({one})" for one in columns)).fetchall()
"""


def measure(sizes: Sizes) -> list[Figure]:
    few, many = sizes.populations
    with TemporaryDirectory(prefix="bench-") as folder:
        at = Path(folder)
        (at / "site.yaml").write_text(json.dumps(SITE), "utf-8")
        files = {number: population(at / f"{number}.ndjson", number) for number in (few, many)}
        little, everybody = (
            news(at / "little.ndjson", range(0, many, 100)),
            news(at / "all.ndjson", range(many)),
        )
        keys = {"SMARTAPP_KEYS": Fernet.generate_key().decode()}
        run_process(_swept(at, "full", files[many], state=at / "state"), keys)
        sides = [_swept(at, "nothing", at)]
        sides += [_swept(at, "full", files[number]) for number in (few, many)]
        sides += [_swept(at, "night", file, state=at / "state") for file in (little, everybody)]
        if find_spec("duckdb") is not None:
            sides.append(["-c", _PROJECTION, str(files[many])])
        nothing, with_few, with_many, night, all_night, *duckdb = processes_by_turns(
            sides, sizes.processes, keys
        )
        state = sum(path.stat().st_size for path in (at / "state").glob("g*/*"))
    start = min(use.seconds for use in nothing)
    each = [(use.seconds - start) / many for use in with_many]
    found = [
        Figure(
            "swept: a patient of many / of few",
            ratios(each, [(use.seconds - start) / few for use in with_few]),
            "x",
            MANY_BESIDE_FEW,
            note=f"{many:,} beside {few:,}; {min(each) * 1e3:.2f} ms each, {state / many / 1e3:.1f} KB kept",
        ),
        Figure(
            "swept: peak memory of a worker",
            Spread.of([use.peak_bytes / 1e6 for use in with_many]),
            "MB",
            PEAK_MEGABYTES,
            note=f"{many:,} patients, one process",
        ),
        _beside("night, 1 % changed / full", night, with_many, LITTLE_CHANGED, start),
        _beside("night, all changed / full", all_night, with_many, ALL_CHANGED, start),
    ]
    if duckdb:
        found.append(_beside("full sweep / DuckDB projection", with_many, duckdb[0], TIMES_DUCKDB))
    return found


def _beside(
    name: str, one: list[ProcessUse], other: list[ProcessUse], limit: float, start: float = 0
) -> Figure:
    """Whole processes, without what each takes to start."""
    told = ratios([use.seconds - start for use in one], [use.seconds - start for use in other])
    return Figure(name, told, "x", limit, note="without their start" if start else "one thread each")


def _swept(at: Path, kind: str, file: Path, state: Path | None = None) -> list[str]:
    site = str(at / "site.yaml") if kind == "full" else ""
    return ["-m", "bench.sweeping", kind, str(file), str(state or ""), site]


def main(arguments: list[str]) -> int:
    """One sweep. A full one without a state makes one for itself; a night works on a copy. `nothing`: only
    what starting takes."""
    from smartapp.commands.sweep import run

    kind, file, state, site = arguments
    if kind == "nothing":
        return 0
    with TemporaryDirectory(prefix="bench-") as folder:
        at = Path(folder, "state")
        if kind == "night":
            shutil.copytree(state, at)
        elif state:
            at = Path(state)
        as_of = AS_OF.isoformat()
        options = ["--site", site] if site else []
        return run([kind, file, "--state", str(at), "--as-of", as_of, "--workers", "1", *options])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
