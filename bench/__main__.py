"""Measures, and compares with the targets: `python -m bench [NAME ...] [--quick] [--json]`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from functools import partial

from bench import deciding, evaluating, from_ehr, listing, reading, starting, sweeping
from bench.figure import Figure, surroundings
from bench.sizes import FULL, QUICK, Sizes

BENCHES: dict[str, Callable[[Sizes], list[Figure]]] = {
    "reading": reading.measure,
    "reading-ehr": from_ehr.measure,
    "evaluating": evaluating.measure,
    "starting": starting.measure,
    "deciding": deciding.measure,
    "population": sweeping.measure,
    "worklist": listing.measure,
}


def main(arguments: Sequence[str], sizes: Sizes | None = None) -> int:
    """Measure and print. Exit status 1 if a target is missed, 2 for a call that can't be understood."""
    known = ", ".join(BENCHES)
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {known} (default: all)")
    parser.add_argument("--quick", action="store_true", help="fewer repetitions, under a minute")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument(
        "--against", metavar="COMMIT", help="whose app `reading-ehr` opens the same charts with, by turns"
    )
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.names) - BENCHES.keys())
    if unknown:
        parser.error(f"no bench named {', '.join(unknown)}; there are: {known}")
    around = surroundings()
    if not options.json:
        print("; ".join(f"{name} {value}" for name, value in around.items()))
        print("middle [lowest .. highest] of the repetitions; the middle is judged", flush=True)
    found: list[Figure] = []
    benches = {**BENCHES, "reading-ehr": partial(from_ehr.measure, against=options.against)}
    for name in options.names or BENCHES:
        for figure in benches[name](sizes or (QUICK if options.quick else FULL)):
            found.append(figure)
            if not options.json:
                print(figure.line(), flush=True)
    if options.json:
        told = {"surroundings": around, "figures": [figure.as_json() for figure in found]}
        print(json.dumps(told, indent=2))
    return 0 if all(figure.met for figure in found) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
